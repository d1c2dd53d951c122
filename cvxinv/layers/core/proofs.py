"""What a p proves, and the arithmetic of it: every number here is one that exact arithmetic surely has."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...lengths import lengths


class Lower(NamedTuple):
    """A lower bound on the optimum, the dual-feasible p whose value it is, and what rounding may have taken from it.

    bound: `(N,)`, units of the objective; p: `(N, m)`, 0 where the bound is the 0 that needs no proof; doubt: `(N,)`, the
    part of the value that was given away as a margin for rounding.
    """

    bound: Tensor
    p: Tensor
    doubt: Tensor

    def improve(self, index: Tensor, other: "Lower") -> None:
        """Put in what `other` proves of the signals at `index`, positions, where that is more."""
        better = other.bound > self.bound[index]
        for mine, new in zip(self, other, strict=True):
            mine[index[better]] = new[better]


class Unmet(NamedTuple):
    """(D) at a p that is not feasible: value `(N,)` less its rounding, p `(N, m)` clipped, and what W'p lacks.

    For every feasible h the objective is at least value + short'h - doubt'|h|; short `(N, n)` is <= 0 where h >= 0.
    """

    value: Tensor
    p: Tensor
    short: Tensor
    doubt: Tensor


def rounding(length: int, dtype: torch.dtype) -> float:
    """Relative error bound of a sum of `length` products in `dtype`: (length + 4) u."""
    return (length + 4) * torch.finfo(dtype).eps / 2


def proved(value: Tensor, doubt: Tensor, p: Tensor) -> Lower:
    """The lower bound value - doubt at p; the 0 that needs no p where that is below 0, or no number: a huge p overflows."""
    bound = value - doubt
    there = (bound > 0) & torch.isfinite(bound)
    return Lower(torch.where(there, bound, 0.0), torch.where(there[:, None], p, 0.0), torch.where(there, doubt, 0.0))


def away(value: Tensor, slope: Tensor) -> Tensor:
    """The |h| below which slope'|h| < value, `(N,)`: how far p pushes every h away; 0 where value is not above 0."""
    length = lengths(slope)
    far = value / torch.where(length > 0, length, torch.ones_like(length))
    far = torch.where(length > 0, far, torch.full_like(far, torch.inf))
    return torch.where(value > 0, far * (1 - 1e-12), torch.zeros_like(far))


def finite_numbers(p: Tensor) -> Tensor:
    """p with 0 for NaN and infinity, which no multiplier is."""
    return torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)


def at_length_one(p: Tensor) -> Tensor:
    """p `(N, m)` with its largest entry 1: where (D) is homogeneous p has no length, and a huge one would overflow."""
    return p / p.abs().amax(1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
