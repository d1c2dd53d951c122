"""What comes from outside, read once and strictly: torch or numpy, real numbers, on the device they belong to."""

import numpy as np
import torch
from torch import Tensor


def describe(value: object) -> str:
    """A value in a few words, for error messages."""
    if isinstance(value, Tensor):
        return f"a tensor {value.dtype} of shape {tuple(value.shape)} on {value.device}"
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} of shape {value.shape}"
    return type(value).__name__


def read_numbers(
    value: object, name: str, device: torch.device, kinds: str = "f", cure: str = "convert it to numbers first"
) -> Tensor:
    """`value` as a tensor on `device`, in its own type; never a silent move from another device.

    kinds: what may come, of "f" (floats), "i" (integers), "b" (bools). Arrays have no device and are put on `device`.
    Raises TypeError for anything else (lists, strings, objects, complex numbers), ValueError for another device.
    """
    words = " or ".join({"f": "floats", "i": "integers", "b": "bools"}[k] for k in kinds)
    if isinstance(value, np.ndarray):
        kind = {"u": "i"}.get(value.dtype.kind, value.dtype.kind)
        if kind not in kinds:
            raise TypeError(f"expected {name} as an array of {words}, got {describe(value)}; {cure}")
        # torch knows neither foreign byte orders nor negative strides
        return torch.as_tensor(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))).to(device)
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} as a torch tensor or numpy array, got {describe(value)}; use torch.as_tensor(...)")
    kind = "b" if value.dtype == torch.bool else "f" if value.dtype.is_floating_point else "c" if value.is_complex() else "i"
    if kind not in kinds:
        raise TypeError(f"expected {name} as {words}, got {describe(value)}; {cure}")
    if value.device != device:
        raise ValueError(f"expected {name} on {device}, got {describe(value)}; move it with .to({str(device)!r})")
    return value.detach()
