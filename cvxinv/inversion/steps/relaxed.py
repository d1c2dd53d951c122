"""Rows of a layer whose output is known to some eps, without a guess of which units are on: the relaxed program's.

With v = W h + b, an output x that is off by eps at most says

    v <= max(0, x + eps)                 behind a ReLU, on or off
    min(0, x - eps) / a <= v <= max(0, x + eps)     behind a LeakyReLU(a); an identity is a = 1

and the program takes the v with the largest x'v, over x >= 2 eps behind a ReLU. As `RelaxedFit` has it: a row is on at the
end that x draws it to, with the weight x^2, and off at any other; the second line takes each row twice, as v and as -v.

Source: Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019), published code.
"""

import torch
from torch import Tensor

from ...generator.activations import AbstractActivation
from ...generator.maps import AbstractMap, Dense
from ...layers.core.rows import Rows


def relaxed_rows(W: AbstractMap, b: Tensor, phi: AbstractActivation, x: Tensor, seen: Tensor, eps: Tensor) -> Rows:
    """The rows of the module for x `(N, m)` behind an identity, ReLU or LeakyReLU; seen: bool `(N, m)`; eps: `(N,)`.

    Weights are x^2 in units of the largest. Rows that no h moves bind none.
    """
    e, moved = eps[:, None], seen & (W.row_lengths() > 0)
    high, b, price = (x + e).clamp(min=0), b.expand_as(x), _price(x)
    if phi.cuts:
        on = moved & (x >= 2 * e) & (price > 0)
        return _rows(W, b, high, on, moved & ~on, price)
    slope = 1.0 if phi.slopes is None else phi.slopes[0]
    low, M = (x - e).clamp(max=0) / slope, W.matrix()
    on = torch.cat([x > 0, x < 0], 1) & torch.cat([moved & (price > 0)] * 2, 1)
    off = torch.cat([moved] * 2, 1) & ~on
    return _rows(
        Dense(torch.cat([M, -M])), torch.cat([b, -b], 1), torch.cat([high, -low], 1), on, off, torch.cat([price] * 2, 1)
    )


def _price(x: Tensor) -> Tensor:
    """|x| in units of each signal's largest, 0 where its square is no number to divide by."""
    price = x.abs() / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return torch.where(price > torch.finfo(x.dtype).tiny ** 0.25, price, 0.0)


def _rows(W: AbstractMap, b: Tensor, end: Tensor, on: Tensor, off: Tensor, price: Tensor) -> Rows:
    """v <= end on all rows, priced on those that are on."""
    return Rows(W, torch.where(off, b - end, b), end, on, off, torch.where(on, price**2, 1.0))
