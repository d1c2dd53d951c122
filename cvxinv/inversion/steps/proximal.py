"""Proximal steps of losses, and the l1 ball, of vectors `(N, k)` with one number `(N,)` for each."""

import torch
from torch import Tensor


def share(r: Tensor, t: Tensor) -> Tensor:
    """argmin 1/2 |x|^2 + |x - r|^2 / (2 t)."""
    return r / (1 + t[:, None])


def shrink(r: Tensor, t: Tensor) -> Tensor:
    """argmin |x|_1 + |x - r|^2 / (2 t)."""
    return r.sign() * (r.abs() - t[:, None]).clamp(min=0)


def shrink_largest(r: Tensor, t: Tensor) -> Tensor:
    """argmin max |x| + |x - r|^2 / (2 t)."""
    return r - onto_l1_ball(r, t)


def onto_l1_ball(r: Tensor, radius: Tensor) -> Tensor:
    """The nearest point with |x|_1 <= radius; Duchi et al. (2008): shrunk by what leaves that length."""
    size = r.abs().sort(1, descending=True).values
    counts = torch.arange(1, r.shape[1] + 1, dtype=r.dtype, device=r.device)
    level = (size.cumsum(1) - radius[:, None]) / counts
    last = ((size > level) * counts).amax(1).long().clamp(min=1) - 1
    return shrink(r, level.gather(1, last[:, None])[:, 0].clamp(min=0))
