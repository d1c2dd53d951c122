"""The misfit F: what is asked of W h + b, in four forms. What solvers and judge need of it stands here, once for all.

                F(v)                                                       F*(p), with p = 0 on rows that were not seen
    Squares     1/2 sum_on w (v - y)^2             + [v_off <= 0]          sum_on (p^2 / (2 w) + p y) + [p_off >= 0]
    MisfitBall  [|w^(1/2) (v - y)_on| <= eps]      + [v_off <= 0]          p_on'y + eps |p_on / w^(1/2)| + [p_off >= 0]
    Intervals   [lo <= v <= hi]                                            sum_i max(hi_i p_i, lo_i p_i)
    Excesses    sup over p in C of p'(v - y), C as below                   p'y + [p in C]

The dual value of min F(W h + b) + g(h) is b'p - F*(p) - g*(-W'p); along the ray s p, s >= 0, its first two terms are
s linear - s^2 square / 2 (`earned`). A length has no square: eps |p_on / w^(1/2)| is part of what is linear in s.

With e_i = w^(1/2) |v - y|_i on the on rows and max(v_i, 0) on the off rows, the largest of the e is the sup over C = {sum_on
|p_i| / w^(1/2) + sum_off p_i <= 1, p_off >= 0}, their sum that over C = {|p_i| <= w^(1/2) on on, 0 <= p_i <= 1 on off}.
Where p has no upper end, C = {p_i >= -w^(1/2) on on, p_i >= 0 on off}, v may not be above y at all: `SumOfRooms`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ...lengths import lengths
from .proofs import at_length_one, finite_numbers, rounding
from .rows import Rows


class Earned(NamedTuple):
    """b'p - F*(p) along s p: s linear - s^2 square / 2, `(N,)` each; square None: 0. doubt: rounding of linear, `(N,)`."""

    linear: Tensor
    square: Tensor | None
    doubt: Tensor


class Excess(NamedTuple):
    """How far an h is over each limit; what is below 0 is room.

    rows: `(N, m)` in the units of their row, -inf on rows without a limit; None where no row has one. size: `(N, m)`,
    |w_i| |h| + |b_i| + |limit_i|, what is added up in each row, of which the rounding is a share. ball, ball_size: `(N,)`,
    the same for the length of the misfit, signal units. unknowns: `(N, n)`, how far h is below 0 where it must not be, or
    None.
    """

    rows: Tensor | None
    size: Tensor | None
    ball: Tensor | None
    ball_size: Tensor | None
    unknowns: Tensor | None


class Slopes(NamedTuple):
    """The subgradients of F at some v: p = fixed + q unit, q open on the `open` rows, 0 elsewhere; `(N, m)` each.

    total: q >= 0 with the sum 1 in each signal that has an open row; else q is between the two `ends`.
    """

    fixed: Tensor
    unit: Tensor
    open: Tensor
    total: bool
    ends: tuple[float, float] = (-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class AbstractMisfit(ABC):
    """F over the rows. form: its name among solvers; homogeneous: whether F only bounds, so that (D) is linear along s p."""

    rows: Rows
    form: ClassVar[str]
    homogeneous: ClassVar[bool] = True

    @property
    def forbids(self) -> bool:
        """Whether there may be an h for which F is infinite."""
        return True

    # --- the value and the limits ---

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        """F at v = W h + b, computed where it is not at hand, whether or not the limits are met `(N,)`; None: 0."""
        return None

    @abstractmethod
    def violation(self, h: Tensor) -> Tensor:
        """Largest excess over a limit, 0 where all are met, `(N,)`."""

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that each row W h + b may have, `(N, m)` each; infinite where it is not bounded."""
        none = torch.full_like(self.rows.y, torch.inf)
        return -none, torch.where(self.rows.off, torch.zeros_like(none), none)

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        """Lowest and highest value of each row by itself, `(N, m)` each; None where no row has any."""
        return None, self.rows.cut if self.rows.any_off else None

    def excess(self, h: Tensor, v: Tensor | None = None) -> Excess:
        """How far `h` `(N, n)` is over each limit; v: W h + b where it is at hand."""
        lo, hi = self.bounds()
        if lo is None and hi is None:
            return Excess(None, None, None, None, None)
        rows = self.rows
        v = rows.W(h) + rows.b if v is None else v
        size = torch.addcmul(rows.b.abs(), rows.W.row_lengths(), lengths(h, keepdim=True))
        if lo is None or hi is None:  # then the limit is 0
            assert hi is not None
            return Excess(v - hi, size, None, None, None)
        above, under = v - hi, lo - v
        return Excess(torch.maximum(above, under), size + _finite(torch.where(above >= under, hi, lo)), None, None, None)

    @property
    def priced(self) -> Tensor:
        """Limited rows that are paid for besides, bool `(N, m)`."""
        return torch.zeros_like(self.rows.on)

    @property
    def fit(self) -> Tensor:
        """Weight of each row's squared misfit, `(N, m)`; 0 on all rows where F only bounds."""
        return torch.zeros_like(self.rows.y)

    def longest(self, f: Tensor) -> Tensor:
        """How long w^(1/2) (v - y) on the on rows is at most where F(v) <= f, `(N,)` each; inf where F does not say."""
        return torch.full_like(f, torch.inf)

    def opened(self, width: Tensor) -> dict[str, Tensor]:
        """The numbers of the problem with bounds wider by up to `width` `(N,)` on the rows that data set, none by more."""
        return {}

    # --- what a p proves ---

    @abstractmethod
    def clipped(self, p: Tensor) -> Tensor:
        """p `(N, m)` with the signs that (D) asks for, and 0 on rows that were not seen."""

    @abstractmethod
    def earned(self, p: Tensor) -> Earned:
        """b'p - F*(p) along s p, for a clipped p `(N, m)`."""

    @abstractmethod
    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        """A p `(N, m)` of length 1, clipped, and what p'(W h + b) falls short of at least, less its rounding, `(N,)`.

        For every h that breaks no bound by more than `slack` `(N,)`: b'p - F*(p) with all of them wider by that.
        """

    def reach(self, p: Tensor) -> Tensor:
        """The largest s for which F*(s p) is finite, for a clipped p `(N, m)`, `(N,)`; inf where every s will do."""
        return torch.full_like(p[:, 0], torch.inf)

    def emptied(self, slack: float | Tensor, away: Tensor) -> Tensor:
        """`away` `(N,)`, the length below which there is no h, or inf where a row forbids every number by itself."""
        return away

    def remarks(self) -> list[str]:
        """What each signal's rows forbid by themselves, or an empty string."""
        return [""] * self.rows.N

    def direction(self, h: Tensor) -> Tensor | None:
        """A p `(N, m)` of which any multiple >= 0 may belong to h besides multipliers of the rows' own limits, or None."""
        return None

    # --- proximal piece ---

    @abstractmethod
    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        """argmin_u F(u) + rho/2 |u - v|^2 for `v` `(N, m)` and `rho` `(N, 1)`."""

    # --- what misfits with off rows share ---

    def _without_wrong_signs(self, p: Tensor) -> Tensor:
        rows, p = self.rows, finite_numbers(p)
        return torch.where(rows.off, p.clamp(min=0), torch.where(rows.on, p, torch.zeros_like(p)))

    @cached_property
    def _data(self) -> Tensor:
        """b - y on the on rows, b on the off rows, 0 elsewhere, `(N, m)`."""
        rows = self.rows
        return torch.where(rows.on, -rows.target, torch.where(rows.off, rows.b, 0.0))

    def _cut_excess(self, v: Tensor) -> Tensor:
        """Largest excess of an off row over 0, `(N,)`."""
        return torch.where(self.rows.off, v.clamp(min=0), torch.zeros_like(v)).amax(1)


@dataclass(frozen=True, eq=False)
class Squares(AbstractMisfit):
    """F(v) = 1/2 sum_on w (v - y)^2 with v_off <= 0."""

    form: ClassVar[str] = "quadratic"
    homogeneous: ClassVar[bool] = False

    @property
    def forbids(self) -> bool:
        return self.rows.any_off

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        r = self.rows.residual(h, v)
        return (self.rows.fit * r * r).sum(1) / 2

    def violation(self, h: Tensor) -> Tensor:
        if not self.rows.any_off:
            return torch.zeros_like(h[:, 0])
        return self._cut_excess(self.rows.W(h) + self.rows.b)

    @property
    def fit(self) -> Tensor:
        return self.rows.fit

    def longest(self, f: Tensor) -> Tensor:
        return (2 * f).clamp(min=0).sqrt()

    def clipped(self, p: Tensor) -> Tensor:
        return self._without_wrong_signs(p)

    def earned(self, p: Tensor) -> Earned:
        products = p * self._data
        square = torch.where(self.rows.on, p * p / self.rows.weight, torch.zeros_like(p)).sum(1)
        return Earned(products.sum(1), square, products.abs().sum(1) * rounding(self.rows.m, p.dtype))

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        # a squared misfit forbids nothing; slack 1'mu >= mu'(W h + b) for every h that the off rows allow
        rows = self.rows
        mu = at_length_one(torch.where(rows.off, self.clipped(p), torch.zeros_like(p)))
        value = (mu * rows.b).sum(1) - (mu * rows.b.abs()).sum(1) * rounding(rows.m, p.dtype)
        return mu, value - slack * rows.stretched(mu).sum(1)

    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        fitted = (rows.fit * rows.y + rho * v) / (rows.fit + rho)
        return torch.where(rows.on, fitted, torch.where(rows.off, v.clamp(max=0), v))


@dataclass(frozen=True, eq=False)
class MisfitBall(AbstractMisfit):
    """|w^(1/2) (v - y)_on| <= eps with v_off <= 0; eps `(N,)`, the problem's number of that name. eps = 0: v_on = y."""

    eps: Tensor
    form: ClassVar[str] = "ball"

    def violation(self, h: Tensor) -> Tensor:
        v = self.rows.W(h) + self.rows.b
        beyond = (lengths(self.rows.fit.sqrt() * self.rows.residual(h, v)) - self.eps).clamp(min=0)
        return torch.maximum(beyond, self._cut_excess(v))

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        rows, none = self.rows, torch.full_like(self.rows.y, torch.inf)
        exact = rows.on & (self.eps == 0)[:, None]
        hi = torch.where(rows.off, torch.zeros_like(none), none)
        return torch.where(exact, rows.y, -none), torch.where(exact, rows.y, hi)

    def excess(self, h: Tensor, v: Tensor | None = None) -> Excess:
        rows = self.rows
        v = rows.W(h) + rows.b if v is None else v
        r = rows.residual(h, v)
        reach = rows.W.row_lengths() * lengths(h, keepdim=True) + rows.b.abs() + rows.y.abs()
        ball = (rows.fit * r * r).sum(1).sqrt() - self.eps
        return super().excess(h, v)._replace(ball=ball, ball_size=(rows.fit * reach * reach).sum(1).sqrt())

    def opened(self, width: Tensor) -> dict[str, Tensor]:
        return {"eps": self.eps + width}

    def clipped(self, p: Tensor) -> Tensor:
        return self._without_wrong_signs(p)

    def earned(self, p: Tensor) -> Earned:
        return self._earned(p, 0.0)

    def _earned(self, p: Tensor, slack: float | Tensor) -> Earned:
        """The same with bounds wider by `slack`."""
        rows, products = self.rows, p * self._data
        length = torch.where(rows.on, p * p / rows.weight, torch.zeros_like(p)).sum(1).sqrt()
        wider = slack * rows.stretched(torch.where(rows.off, p, torch.zeros_like(p))).sum(1)
        value = products.sum(1) - (self.eps + slack) * length - wider
        return Earned(value, None, ((self.eps + slack) * length + products.abs().sum(1)) * rounding(rows.m, p.dtype))

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        p = at_length_one(self.clipped(p))
        earned = self._earned(p, slack)
        return p, earned.linear - earned.doubt

    def direction(self, h: Tensor) -> Tensor | None:
        return self.rows.fit * self.rows.residual(h)

    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        rows = self.rows
        r = torch.where(rows.on, v - rows.y, torch.zeros_like(v))
        t = _shrinkage(r, rows.fit, self.eps)[:, None]
        # t = inf where eps = 0: then the on rows are y itself
        near = torch.where(torch.isinf(t), torch.zeros_like(r), r / (1 + t * rows.fit))
        return torch.where(rows.on, rows.y + near, torch.where(rows.off, v.clamp(max=0), v))


@dataclass(frozen=True, eq=False)
class Intervals(AbstractMisfit):
    """lo <= v <= hi, row by row; `(N, m)` each, infinite where an end is open, as both are on rows that were not seen.

    A row with lo > hi, or lo = inf, or hi = -inf, forbids every h. The problem's numbers of these names.
    """

    lo: Tensor
    hi: Tensor
    form: ClassVar[str] = "interval"

    def violation(self, h: Tensor) -> Tensor:
        v = self.rows.W(h) + self.rows.b
        return torch.maximum(v - self.hi, self.lo - v).amax(1).clamp(min=0)

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        return self.lo, self.hi

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        return self.lo, self.hi

    def opened(self, width: Tensor) -> dict[str, Tensor]:
        wider = self.rows.stretched(width[:, None].expand_as(self.lo))
        return {"lo": self.lo - wider, "hi": self.hi + wider}

    def clipped(self, p: Tensor) -> Tensor:
        p = finite_numbers(p)
        p = torch.where(torch.isinf(self.hi), p.clamp(max=0), p)
        return torch.where(torch.isinf(self.lo), p.clamp(min=0), p)

    def earned(self, p: Tensor) -> Earned:
        b = self.rows.b
        end = torch.where(p > 0, self.hi, torch.where(p < 0, self.lo, torch.zeros_like(p)))
        doubt = (p * end).abs().sum(1) + (p * b).abs().sum(1)
        return Earned((p * (b - end)).sum(1), None, rounding(self.rows.m, p.dtype) * doubt)

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        p = at_length_one(self.clipped(p))
        earned = self.earned(p)
        return p, earned.linear - earned.doubt - slack * self.rows.stretched(p.abs()).sum(1)

    def emptied(self, slack: float | Tensor, away: Tensor) -> Tensor:
        return torch.where(self._empty(slack).any(1), torch.inf, away)

    def _empty(self, slack: float | Tensor) -> Tensor:
        """Rows that no number meets, not even one that breaks their bounds by `slack`, `(N, m)`."""
        width = 2 * (self.rows.y.new_zeros(()) + slack).reshape(-1, 1)
        width = self.rows.stretched(width.expand_as(self.lo))
        return (self.lo - self.hi > width) | torch.isposinf(self.lo) | torch.isneginf(self.hi)

    def remarks(self) -> list[str]:
        empty, lo, hi = self._empty(0.0), self.lo, self.hi
        first = empty.to(torch.int8).argmax(1).tolist()
        return [
            f"row {k} asks for a number from {float(lo[i, k]):g} to {float(hi[i, k]):g}, and there is none" if any_ else ""
            for i, (k, any_) in enumerate(zip(first, empty.any(1).tolist(), strict=True))
        ]

    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(v, self.lo), self.hi)


@dataclass(frozen=True, eq=False)
class Tubes(Intervals):
    """|w^(1/2) (v - y)_i| <= eps on the on rows, v <= eps on the off rows; eps `(N,)`, the problem's number."""

    eps: Tensor

    @classmethod
    def around(cls, rows: Rows, eps: Tensor) -> "Tubes":
        """The intervals of width 2 eps / w^(1/2) around y."""
        none = torch.full_like(rows.y, torch.inf)
        width = eps[:, None] / rows.weight.sqrt()
        most = rows.stretched(eps[:, None].expand_as(none))
        hi = torch.where(rows.on, rows.y + width, torch.where(rows.off, most, none))
        return cls(rows, torch.where(rows.on, rows.y - width, -none), hi, eps)

    def opened(self, width: Tensor) -> dict[str, Tensor]:
        # a row of weight w opens by width / w^(1/2): no row may open by more than asked
        weight = self.rows.stretched(self.rows.stretched(self.rows.weight))  # before rows were stretched
        least = torch.where(self.rows.on, weight, torch.ones_like(weight)).amin(1).sqrt().clamp(max=1)
        return {"eps": self.eps + width * least}


@dataclass(frozen=True, eq=False)
class AbstractExcesses(AbstractMisfit):
    """F(v) = sup over p in C of p'(v - y), y = 0 on the off rows; C holds 0. Where C is bounded, no v is forbidden."""

    form: ClassVar[str] = "excess"
    homogeneous: ClassVar[bool] = False

    @property
    def forbids(self) -> bool:
        return False

    @cached_property
    def width(self) -> Tensor:
        """How far over a row of excess 1 is, `(N, m)`: 1 / w^(1/2) on on, 1 on off; 0 where it was not seen."""
        rows = self.rows
        off = rows.stretched(torch.ones_like(rows.y))
        return torch.where(rows.on, rows.weight.rsqrt(), torch.where(rows.off, off, 0.0))

    def excesses(self, v: Tensor) -> Tensor:
        """e of the module at v = W h + b, `(N, m)`, >= 0; 0 on rows that were not seen."""
        rows = self.rows
        r = torch.where(rows.on, (v - rows.y).abs(), torch.where(rows.off, v.clamp(min=0), 0.0))
        return torch.where(self.width > 0, r / self.width.clamp(min=torch.finfo(v.dtype).tiny), 0.0)

    def violation(self, h: Tensor) -> Tensor:
        return torch.zeros_like(h[:, 0])

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        none = torch.full_like(self.rows.y, torch.inf)
        return -none, none

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        return None, None

    def earned(self, p: Tensor) -> Earned:
        products = p * self._data
        return Earned(products.sum(1), None, products.abs().sum(1) * rounding(self.rows.m, p.dtype))

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(p), torch.zeros_like(p[:, 0])

    def prox(self, v: Tensor, rho: Tensor) -> Tensor:
        # Moreau: what is taken away is the nearest point of C to rho (v - y), over rho; rows that were not seen stay
        y = torch.where(self.rows.on, self.rows.y, torch.zeros_like(v))
        return v - self.nearest(rho * (v - y)) / rho

    @abstractmethod
    def nearest(self, q: Tensor) -> Tensor:
        """The point of C nearest to `q`, `(N, m)` each."""

    @cached_property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that each p_i may have by itself, `(N, m)` each."""
        high = torch.where(self.width > 0, 1 / self.width.clamp(min=torch.finfo(self.width.dtype).tiny), 0.0)
        return torch.where(self.rows.on, -high, torch.zeros_like(high)), high

    def _sign(self, v: Tensor) -> Tensor:
        """1 where a row is above its data, -1 where it is below, `(N, m)`."""
        return torch.where(self.rows.on & (v < self.rows.y), -torch.ones_like(v), torch.ones_like(v))

    @abstractmethod
    def slopes(self, v: Tensor, near: Tensor) -> Slopes:
        """The subgradients at v `(N, m)`; near: signal units `(N,)`, a difference that counts as none."""


@dataclass(frozen=True, eq=False)
class LargestExcess(AbstractExcesses):
    """F(v) = max_i e_i."""

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        return self.excesses(self.rows.W(h) + self.rows.b if v is None else v).amax(1)

    def longest(self, f: Tensor) -> Tensor:
        return self.rows.on.sum(1).to(f).sqrt() * f

    def _length(self, p: Tensor) -> Tensor:
        """What C limits to 1, rounded up, `(N,)`."""
        return (self.width * p.abs()).sum(1) * (1 + rounding(self.rows.m, p.dtype))

    def reach(self, p: Tensor) -> Tensor:
        length = self._length(p)
        return torch.where(length > 0, (1 - 4 * torch.finfo(p.dtype).eps) / length, torch.inf)

    def clipped(self, p: Tensor) -> Tensor:
        p = self._without_wrong_signs(p)
        most = p.abs().amax(1, keepdim=True).clamp(min=1.0)  # of a huge p the length would overflow
        small = p / most
        length = self._length(small)[:, None]
        fitted = small * ((1 - 4 * torch.finfo(p.dtype).eps) / torch.where(length > 0, length, torch.ones_like(length)))
        return torch.where(length * most > 1, fitted, p)

    def nearest(self, q: Tensor) -> Tensor:
        # p = sign(q) (|q| - t width)_+ with sum width |p| = 1: t from the rows in the order of |q| / width
        q, width = self._without_wrong_signs(q), self.width
        ratio = torch.where(width > 0, q.abs() / width.clamp(min=torch.finfo(q.dtype).tiny), 0.0)
        order = ratio.argsort(1, descending=True)
        size, square = ((width * x).gather(1, order).cumsum(1) for x in (q.abs(), width))
        t = (size - 1) / square.clamp(min=torch.finfo(q.dtype).tiny)
        count = (ratio.gather(1, order) > t).sum(1, keepdim=True).clamp(min=1)
        t = t.gather(1, count - 1).clamp(min=0)
        return q.sign() * (q.abs() - t * width).clamp(min=0)

    def slopes(self, v: Tensor, near: Tensor) -> Slopes:
        e, none = self.excesses(v), torch.zeros_like(v)
        most = e.amax(1, keepdim=True)
        at = (e >= most - torch.minimum(near[:, None], 0.5 * most)) & (most > 0)
        return Slopes(none, torch.where(at, self._sign(v) * self.sides[1], none), at, True)


@dataclass(frozen=True, eq=False)
class SumOfExcesses(AbstractExcesses):
    """F(v) = sum_i e_i."""

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        return self.excesses(self.rows.W(h) + self.rows.b if v is None else v).sum(1)

    def longest(self, f: Tensor) -> Tensor:
        return f

    def slopes(self, v: Tensor, near: Tensor) -> Slopes:
        (low, high), near = self.sides, self.rows.stretched(near[:, None].expand_as(v))
        r = v - torch.where(self.rows.on, self.rows.y, torch.zeros_like(v))
        at = (r.abs() <= near) & (high > 0)
        fixed = torch.where(at, (low + high) / 2, torch.where(r > 0, high, low))
        return Slopes(fixed, torch.where(at, (high - low) / 2, torch.zeros_like(v)), at, False)

    def reach(self, p: Tensor) -> Tensor:
        low, high = self.sides
        share = torch.where(p > 0, high / p, torch.where(p < 0, low / p, torch.inf))
        return share.amin(1) * (1 - 4 * torch.finfo(p.dtype).eps)

    def clipped(self, p: Tensor) -> Tensor:
        return self.nearest(finite_numbers(p))

    def nearest(self, q: Tensor) -> Tensor:
        low, high = self.sides
        return torch.minimum(torch.maximum(q, low), high)


@dataclass(frozen=True, eq=False)
class SumOfRooms(AbstractExcesses):
    """F(v) = sum_on w^(1/2) (y - v) with v <= y on the on rows and v <= 0 on the off rows.

    Its value counts |y - v|: the same wherever a v is allowed, and no less where rounding takes it beyond its limit.
    """

    @property
    def forbids(self) -> bool:
        return True

    def value(self, h: Tensor, v: Tensor | None = None) -> Tensor | None:
        return (self.rows.fit.sqrt() * self.rows.residual(h, v).abs()).sum(1)

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        rows, none = self.rows, torch.full_like(self.rows.y, torch.inf)
        return -none, torch.where(rows.on, rows.y, torch.where(rows.off, 0.0, none))

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        return self.limits

    @property
    def priced(self) -> Tensor:
        return self.rows.on

    def violation(self, h: Tensor) -> Tensor:
        return (self.rows.W(h) + self.rows.b - self.limits[1]).amax(1).clamp(min=0)

    def longest(self, f: Tensor) -> Tensor:
        return f

    @cached_property
    def sides(self) -> tuple[Tensor, Tensor]:
        rows, none = self.rows, torch.full_like(self.rows.y, torch.inf)
        return -torch.where(rows.on, rows.weight.sqrt(), 0.0), torch.where(rows.on | rows.off, none, 0.0)

    def slopes(self, v: Tensor, near: Tensor) -> Slopes:
        low, near = self.sides[0], self.rows.stretched(near[:, None].expand_as(v))
        at = v >= self.limits[1] - near
        return Slopes(low, at.to(v), at, False, (0.0, torch.inf))

    def reach(self, p: Tensor) -> Tensor:
        share = torch.where(p < 0, self.sides[0] / p, torch.inf)
        return share.amin(1) * (1 - 4 * torch.finfo(p.dtype).eps)

    def clipped(self, p: Tensor) -> Tensor:
        return self.nearest(finite_numbers(p))

    def nearest(self, q: Tensor) -> Tensor:
        low, high = self.sides
        return torch.minimum(torch.maximum(q, low), high)

    def ray(self, p: Tensor, slack: float | Tensor) -> tuple[Tensor, Tensor]:
        p = at_length_one(self.nearest(finite_numbers(p)).clamp(min=0))
        earned = self.earned(p)
        return p, earned.linear - earned.doubt - slack * self.rows.stretched(p).sum(1)


def _finite(end: Tensor) -> Tensor:
    """|end| where it is finite, else 0."""
    return torch.where(torch.isfinite(end), end.abs(), torch.zeros_like(end))


def _shrinkage(r: Tensor, w: Tensor, eps: Tensor, rounds: int = 60) -> Tensor:
    """The t >= 0 with sum w (r / (1 + t w))^2 = eps^2, 0 where the misfit is within eps, inf where eps = 0; `(N,)`.

    Newton's iteration on 1/|misfit(t)| - 1/eps, which is concave and increasing: from t = 0 it rises to the root without
    passing it. With equal weights the first step is exact.
    """
    t = torch.zeros_like(eps)
    outside = (w * r * r).sum(1).sqrt() > eps
    for _ in range(rounds):
        part = w * (r / (1 + t[:, None] * w)) ** 2
        square = part.sum(1).clamp(min=torch.finfo(r.dtype).tiny)
        curve = (part * w / (1 + t[:, None] * w)).sum(1)  # -1/2 d square / dt
        step = (square.sqrt() / eps - 1) * square / curve.clamp(min=torch.finfo(r.dtype).tiny)
        step = torch.where(outside, step.clamp(min=0), torch.zeros_like(step))
        t = t + torch.nan_to_num(step, posinf=torch.inf)
        if not bool((step > 1e-15 * t).any()):
            break
    return torch.where(outside & (eps == 0), torch.inf, t)
