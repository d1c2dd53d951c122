"""F of a problem whose rows are of two kinds: some are fitted, the lengths of the others are paid for.

F(v) = 1/2 sum_on w (v - y)^2 + sum_i c_i |v_i|  [+ (v_i >= 0 on priced rows)]

F*(p) = sum_on (p^2 / (2 w) + p y) + [|p_i| <= c_i on priced rows],   p_i <= c_i alone where v_i >= 0,   p = 0 elsewhere.

Priced rows are neither on nor off: they hold no data. A v_i below 0 where it must not be counts as one above, which what the
judge takes off for an excess, |p_i| times it, makes up for: (|p_i| - c_i) v is no more than |p_i| v.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from .misfits import AbstractMisfit, Earned, Excess
from .proofs import finite_numbers, rounding


@dataclass(frozen=True, eq=False)
class SquaresAndLengths(AbstractMisfit):
    """price: c `(N, m)`, >= 0, in the rows' own units, 0 on rows that are not priced; priced_rows: bool `(m,)`."""

    price: Tensor
    priced_rows: Tensor
    nonnegative: bool
    form: ClassVar[str] = "layered"
    homogeneous: ClassVar[bool] = False

    @property
    def forbids(self) -> bool:
        return False  # h = 0 meets all limits

    @property
    def priced(self) -> Tensor:
        return self.priced_rows.expand_as(self.rows.on)

    @property
    def fit(self) -> Tensor:
        return self.rows.fit

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        v = self.rows.W(h) + self.rows.b if v is None else v
        r = self.rows.residual(h, v)
        return (self.rows.fit * r * r).sum(1) / 2 + (self.price * v.abs()).sum(1)

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        none = torch.full_like(self.rows.y, torch.inf)
        return (torch.where(self.priced_rows, torch.zeros_like(none), -none) if self.nonnegative else -none), none

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        return self.limits if self.nonnegative else (None, None)

    def violation(self, h: Tensor) -> Tensor:
        if not self.nonnegative:
            return torch.zeros_like(h[:, 0])
        return (self.limits[0] - self.rows.W(h) - self.rows.b).amax(1).clamp(min=0)

    def excess(self, h: Tensor, v: Tensor | None = None) -> Excess:
        if not self.nonnegative:
            return Excess(None, None, None, None, None)
        v = self.rows.W(h) + self.rows.b if v is None else v
        # of a chain of maps what is added up on the way is more than |w_i| |h| tells
        return Excess(self.limits[0] - v, self.rows.W.magnitude()(h.abs()) + self.rows.b.abs(), None, None, None)

    def lost(self, h: Tensor, v: Tensor) -> Tensor:
        """What rounding may have taken from the value at v = W h + b, `(N,)`: each row's share of what is added up in it."""
        rows = self.rows
        reach = rounding(rows.W.terms + 2, h.dtype) * (rows.W.magnitude()(h.abs()) + rows.b.abs() + rows.y.abs())
        r = rows.residual(h, v).abs()
        return (rows.fit * reach * (r + reach) + self.price * reach).sum(1)

    def longest(self, f: Tensor) -> Tensor:
        return (2 * f).clamp(min=0).sqrt()

    def clipped(self, p: Tensor) -> Tensor:
        p = finite_numbers(p)
        p = torch.where(self.rows.on | self.priced_rows, p, torch.zeros_like(p))
        low = -torch.inf if self.nonnegative else -self.price
        priced = torch.maximum(torch.minimum(p, self.price), torch.as_tensor(low, dtype=p.dtype, device=p.device))
        return torch.where(self.priced_rows, priced, p)

    def earned(self, p: Tensor) -> Earned:
        rows = self.rows
        # priced rows earn b'p, data rows (b - y)'p; F* is 0 within the limits of the former
        products = p * torch.where(rows.on, -rows.target, rows.b.expand_as(p))
        square = torch.where(rows.on, p * p / rows.weight, torch.zeros_like(p)).sum(1)
        return Earned(products.sum(1), square, products.abs().sum(1) * rounding(rows.m, p.dtype))

    def reach(self, p: Tensor) -> Tensor:
        size = p if self.nonnegative else p.abs()
        there = self.priced_rows & (size > 0)
        share = torch.where(there, self.price / torch.where(there, size, torch.ones_like(size)), torch.inf)
        return share.amin(1)  # s p is clipped by as much as its rounding: nothing is added up here

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(p), torch.zeros_like(p[:, 0])

    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        rows, less = self.rows, self.price / rho
        fitted = (rows.fit * rows.y + rho * v) / (rows.fit + rho)
        short = (v - less).clamp(min=0) if self.nonnegative else v.sign() * (v.abs() - less).clamp(min=0)
        return torch.where(self.priced_rows, short, fitted)
