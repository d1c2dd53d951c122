"""Basis pursuits in which every row is bounded by itself: linear programs.

    minimise    1'h  (|h|_1 where h has any sign)                                           (P)
    subject to  lo_i <= (W h + b)_i <= hi_i  on `on`,   (W h + b)_i <= hi_i  on `off`,   [h >= 0]

    maximise    b'p - sum_i (p_i > 0 ? hi_i : lo_i) p_i                                     (D)
    subject to  W'p + 1 >= 0  (|W'p| <= 1 where h has any sign),
                p_i <= 0 where hi_i = inf,   p_i >= 0 where lo_i = -inf

F(v) is the indicator of lo <= v <= hi, so F*(p) = sum_i max(hi_i p_i, lo_i p_i), and rows that were not seen have the ends
-inf and inf, which forces p_i = 0. At the optimum p_i > 0 only where the row is at hi, p_i < 0 only where it is at lo, and
(W'p)_j = -1 where h_j > 0. The value of (D) is positively homogeneous in p: the signs of p are clipped and p is
divided by M = max -(W'p), or max |W'p|. With a value > 0 and M = 0 no h is feasible; in rounded arithmetic every feasible h
has |h| >= value / |(W'p)_-|, or value / |W'p|, which `infeasibility` says. lo_i > hi_i, which no v meets, is told by
`infeasibility` too.

The l_inf bound is lo = y - eps / w^(1/2), hi = y + eps / w^(1/2) on `on` and hi = eps on `off`. The interval form is the
convex form of an image layer behind an increasing phi: |phi(W h + b) - y| <= eps says phi^-1(y - eps) <= W h + b <=
phi^-1(y + eps), with an infinite end beyond phi's range: see `IntervalBasisPursuit.behind`.

Source: `sparse` note 5.3 and 5.6 for the l_inf bounds, with the off rows of Lei, Jalal, Dhillon, Dimakis, "Inverting
Deep Generative Models, One Layer at a Time" (2019); derived here: intervals, biases, row weights, unseen rows.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..generator.activations import AbstractActivation
from ..generator.maps import AbstractMap
from ..inputs import describe, origin, plain_tensor, remember
from .core.misfits import Intervals, Tubes
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement, length_of, per_signal, per_unknown
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class AbstractBasisPursuitLinf(AbstractLayerProblem):
    """What both basis pursuits with an l_inf bound share."""

    rows: Rows
    eps: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"eps": (1, 0)}
    form: ClassVar[str] = "interval"

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, eps = sample, float(self.number("eps")[i])
        h = cp.Variable(s.n)
        misfit, width = s.W_on @ h + s.b_on - s.y_on, eps * s.weight_on**-0.5
        above = misfit <= width if eps > 0 else misfit == 0
        below = -width <= misfit if eps > 0 else None
        stretch = self.rows.stretch
        most = eps if stretch is None else eps * stretch.detach().cpu().double().numpy()[s.off]
        off = s.W_off @ h + s.b_off <= most if len(s.b_off) else None
        return _statement(h, self.sizes, self.nonnegative, (above, s.on, 1), (below, s.on, -1), (off, s.off, 1))

    @cached_property
    def misfit(self) -> Tubes:
        return Tubes.around(self.rows, self.number("eps"))

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=1.0)


@dataclass(frozen=True, eq=False, repr=False)
class BasisPursuitLinf(AbstractBasisPursuitLinf):
    """min |h|_1 with |W h + b - y|_i <= eps on `on` and W h + b <= eps on `off`; h of any sign.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: bound on each misfit, >= 0, signal units, one for all
    signals or `(N,)`. Source: `sparse` note 5.3 (c), with the off rows of 5.6. Raises ValueError if eps < 0.
    """

    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeBasisPursuitLinf(AbstractBasisPursuitLinf):
    """min 1'h over h >= 0 with |W h + b - y|_i <= eps on `on` and W h + b <= eps on `off`.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: bound on each misfit, >= 0, signal units, one for all
    signals or `(N,)`. Source: `sparse` note 5.3 (c+) and 5.6. Raises ValueError if eps < 0.
    """

    nonnegative: ClassVar[bool] = True


@dataclass(frozen=True, eq=False, repr=False)
class IntervalBasisPursuit(AbstractLayerProblem):
    """min 1'h over h >= 0 with lo <= W h + b <= hi on `on` and W h + b <= hi on `off`.

    rows: see `Rows`; its y and weights are not read. lo, hi: `(N, m)`, signal units, read on the on rows (lo) and on both
    kinds (hi); -inf and inf where an end is open. A signal with lo > hi in a row, or lo = inf, or hi = -inf, is infeasible.

    Derived here, see the module. Raises ValueError for shapes that do not fit and for NaN.
    """

    rows: Rows
    lo: Tensor
    hi: Tensor
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lo": (1, 0), "hi": (1, 0)}  # one for each row
    form: ClassVar[str] = "interval"
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.rows, Rows):
            raise TypeError(f"expected rows as cvxinv.Rows, got {describe(self.rows)}; build Rows(W, b, y, on) first")
        for name in ("lo", "hi"):
            object.__setattr__(self, name, _checked_end(getattr(self, name), name, self.rows))
        per_unknown(self.sizes, self.rows)
        rows, none = self.rows, torch.full_like(self.rows.y, torch.inf)
        lo = remember(torch.where(rows.on, self.lo, -none), torch.where(rows.on, origin(self.lo), -none))
        seen = rows.on | rows.off
        hi = remember(torch.where(seen, self.hi, none), torch.where(seen, origin(self.hi), none))
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)
        # s_y is read off the rows: the middle of an interval, or the end that b itself breaks
        b = rows.b.expand_as(lo)
        inner = torch.minimum(torch.maximum(b, lo), hi)
        middle = torch.where(torch.isfinite(lo) & torch.isfinite(hi), lo / 2 + hi / 2, inner)
        y = torch.where(rows.on & torch.isfinite(middle), middle, torch.zeros_like(b))
        object.__setattr__(self, "rows", rows.derived(y=y, weight=torch.ones_like(y)))

    @classmethod
    def behind(
        cls, phi: AbstractActivation, W: AbstractMap, b: Tensor, y: Tensor, eps: float | Tensor, seen: Tensor | None = None
    ) -> "IntervalBasisPursuit":
        """The layer problem of |phi(W h + b) - y| <= eps on the `seen` rows (all by default), phi increasing.

        y: `(N, m)`, phi's output units; eps: >= 0, the same units, one for all or `(N,)`. Both ends are moved out by one
        rounding of y: a tanh that is 1 in floating point is some u above 18, and no contradiction. A pixel further than
        eps outside phi's range makes its signal infeasible. Raises ValueError where phi has no inverse.
        """
        y = plain_tensor(y, "y")
        on = torch.ones_like(y, dtype=torch.bool) if seen is None else plain_tensor(seen, "seen")
        plain = Rows(W, b, torch.where(on, y, torch.zeros_like(y)), on, torch.zeros_like(on))
        width = per_signal(eps, plain, "eps")[:, None]
        low, high = (_preimage(phi, plain.y + sign * width, sign * torch.inf) for sign in (-1, 1))
        return cls(replace(plain, y=torch.zeros_like(y)), low, high)

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, lo, hi = sample, *(end[i].detach().cpu().double().numpy() for end in self.limits())
        h = cp.Variable(s.n)
        W, b = np.vstack([s.W_on, s.W_off]), np.concatenate([s.b_on, s.b_off])
        k = np.concatenate([s.on, s.off])
        same, above, below = lo[k] == hi[k], np.isfinite(hi[k]), np.isfinite(lo[k])
        above, below = above & ~same, below & ~same
        equal = W[same] @ h + b[same] == hi[k][same] if same.any() else None
        upper = W[above] @ h + b[above] <= hi[k][above] if above.any() else None
        lower = lo[k][below] <= W[below] @ h + b[below] if below.any() else None
        return _statement(h, self.sizes, True, (equal, k[same], 1), (upper, k[above], 1), (lower, k[below], -1))

    @cached_property
    def misfit(self) -> Intervals:
        return Intervals(self.rows, self.lo, self.hi)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=1.0)


def _statement(h: Any, sizes: Tensor | None, nonnegative: bool, *bounds: tuple[Any, np.ndarray, int]) -> Statement:
    """min 1'h over h >= 0, or min |h|_1, under the bounds (constraint or None, rows, sign) that are there."""
    import cvxpy as cp

    there = tuple(Bound(*bound) for bound in bounds if bound[0] is not None)
    constraints = [bound.constraint for bound in there] + ([h >= 0] if nonnegative else [])
    return Statement(cp.Problem(cp.Minimize(length_of(cp, h, sizes, nonnegative)), constraints), h, there)


def _checked_end(value: object, name: str, rows: Rows) -> Tensor:
    value = plain_tensor(value, name)
    if value.dtype != rows.W.dtype or value.device != rows.W.device:
        raise ValueError(
            f"expected {name} in {rows.W.dtype} on {rows.W.device} as W is, got {value.dtype} on {value.device}; use .to()"
        )
    if value.shape != rows.y.shape:
        raise ValueError(
            f"expected {name} of shape {tuple(rows.y.shape)} as y has, got {tuple(value.shape)}; one end per row and signal"
        )
    used = rows.on if name == "lo" else rows.on | rows.off
    if torch.isnan(value[used]).any():
        raise ValueError(f"expected numbers or infinities in {name}, got NaN; take rows that were not seen out of `on`")
    return value


def _preimage(phi: AbstractActivation, y: Tensor, outward: float) -> Tensor:
    """phi^-1 of the number next to y on its outer side: infinite at and beyond the ends of phi's range."""
    y = torch.nextafter(y + (1 if outward > 0 else -1) * phi.rounding(y), torch.full_like(y, outward))
    inner = phi.inverse(y)
    beyond = torch.where(y > phi(torch.zeros_like(y)), torch.inf, -torch.inf).to(y)
    return torch.where(torch.isnan(inner), beyond, inner)
