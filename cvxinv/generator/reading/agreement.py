"""Whether what was read computes what its source computes."""

import torch
from torch import Tensor


def check_agreement(expected: Tensor, got: Tensor, allowed: float, *, source: str, cure: str) -> float:
    """The relative difference of two batches of signals; `source` is what computed the first, and of what it was read.

    Raises: ValueError where the difference is larger than `allowed`, or NaN.
    """
    scale = max(float(expected.norm()), torch.finfo(torch.float64).tiny)
    relative = float((expected - got).norm()) / scale if expected.shape == got.shape else float("inf")
    # negated, so that NaN is caught too
    if not relative <= allowed:
        raise ValueError(
            f"expected {source}, got a relative difference of {relative:.1e} on {len(expected)} random latents "
            f"(allowed {allowed:.0e}); {cure}"
        )
    return relative
