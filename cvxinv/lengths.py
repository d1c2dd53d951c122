"""Lengths of vectors without overflow: a square root of a sum of squares loses numbers below 1e-162 and beyond 1e154.

Data of 1e-200 are as good as data of 1; so are float32 numbers of 1e25. What ordinary arithmetic may have spoiled is
computed again with its largest entry divided out.
"""

import math

import torch
from torch import Tensor


def lengths(x: Tensor, dim: int = -1, keepdim: bool = False) -> Tensor:
    """Length of the vectors of `x` along `dim`, whatever their size; infinite or NaN only where an entry is."""
    plain = x.norm(dim=dim, keepdim=keepdim)
    limits = torch.finfo(x.dtype)
    low, high = math.sqrt(limits.tiny) / limits.eps, math.sqrt(limits.max)
    if bool(((plain >= low) & (plain < high)).all()):
        return plain
    largest = x.abs().amax(dim, keepdim=True) if x.shape[dim] else torch.zeros_like(x.sum(dim, keepdim=True))
    unit = torch.where((largest > 0) & torch.isfinite(largest), power_of_two(largest), torch.ones_like(largest))
    scaled = (x / unit).norm(dim=dim, keepdim=True) * unit
    return scaled if keepdim else scaled.squeeze(dim)


def power_of_two(x: Tensor) -> Tensor:
    """The power of two next below |x|, entry by entry, so that multiplying by it rounds nothing; 1 where x is 0."""
    mantissa, exponent = torch.frexp(x.double())
    exponent = torch.where(mantissa == 0, 1, exponent) - 1
    return torch.ldexp(torch.ones_like(mantissa), exponent.clamp(-1022, 1023)).to(x.dtype)
