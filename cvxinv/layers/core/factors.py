"""Cholesky factors of batches of positive definite matrices, and what they solve."""

import torch
from torch import Tensor


def spd_factor(H: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of `H` `(B, n, n)` and, per matrix, whether it is positive definite beyond rounding `(B,)`."""
    L, info = torch.linalg.cholesky_ex(H)
    pivots = torch.diagonal(L, dim1=-2, dim2=-1)
    if H.shape[-1] == 0:
        return L, torch.ones(len(H), dtype=torch.bool, device=H.device)
    # pivots shrink with sigma_min: below this the factor carries no digit of the weakest direction
    floor = 16 * H.shape[-1] * torch.finfo(H.dtype).eps
    definite = (info == 0) & (pivots.amin(-1) ** 2 > floor * pivots.amax(-1) ** 2)
    return L, definite


def spd_solve(L: Tensor, v: Tensor) -> Tensor:
    """Solve H x = v for `v` `(N, n)` with factors `L` `(N, n, n)`, or `(1, n, n)` shared by all signals."""
    if len(L) == 1:
        return torch.cholesky_solve(v.T, L[0]).T
    return torch.cholesky_solve(v[..., None], L)[..., 0]
