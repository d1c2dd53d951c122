"""Rows that are known from above, as near to their ends as they come: h of any sign, or h >= 0.

    minimise    sum_on w_i^(1/2) (y - W h - b)_i                                             (P)
    subject to  W h + b <= y  on `on`,   W h + b <= 0  on `off`,   [h >= 0]

    maximise    p_on'(b - y) + p_off'b                                                       (D)
    subject to  W'p = 0  (with h >= 0: W'p >= 0),   p_i >= -w_i^(1/2)  on `on`,   p_i >= 0  on `off`,
                p = 0 on rows that were not seen

Up to a constant this is max c'h with c = sum_on w_i^(1/2) w_i: a layer whose output x is off by eps at most has W h + b <=
max(0, x + eps), whether a unit is on or off, so that no guess of that can be wrong; y = x + eps with the weight x^2 where x
>= 2 eps, and W h + b - max(0, x + eps) as an off row elsewhere, is the relaxed program of the source. Without bias h = 0 is
feasible, whatever x is. The objective is >= 0, and 0 where all on rows are met: then h is a preimage.

F(v) is the sup of p'(v - y) over the p of the last two lines of (D), so F*(p) = p'y there. Any p is clipped to them; what
W'p lacks is repaired by a lift where h >= 0, else the bound is that of `bounds`. p_i > -w_i^(1/2) only where a row is at
its end.

Source: Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019), the relaxed program of
their published code. Derived here: the sum of what is left, biases, row weights, unseen rows, the dual. Paper's letters:
z -> h, x -> y - eps, x_i^2 -> weight.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from .core.misfits import SumOfRooms
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class AbstractRelaxedFit(AbstractLayerProblem):
    """What both relaxed fits share."""

    rows: Rows
    sizes: Tensor | None = None
    form: ClassVar[str] = "excess"

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s = sample
        h, room = cp.Variable(s.n), cp.Variable(len(s.on) or 1, nonneg=True)
        below = s.y_on - s.W_on @ h - s.b_on <= room if len(s.on) else None
        above = s.W_on @ h + s.b_on <= s.y_on if len(s.on) else None
        over = s.W_off @ h + s.b_off <= 0 if len(s.off) else None
        given = ((above, s.on, 1), (below, s.on, -1), (over, s.off, 1))
        bounds = tuple(Bound(c, rows, sign) for c, rows, sign in given if c is not None)
        constraints = [bound.constraint for bound in bounds] + ([h >= 0] if self.nonnegative else [])
        price = s.weight_on**0.5 if len(s.on) else np.ones(1)
        return Statement(cp.Problem(cp.Minimize(price @ room), constraints), h, bounds)

    @cached_property
    def misfit(self) -> SumOfRooms:
        return SumOfRooms(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=0.0) if self.nonnegative else Penalty.of(self, gamma=0.0)


@dataclass(frozen=True, eq=False, repr=False)
class RelaxedFit(AbstractRelaxedFit):
    """min over h of any sign of the sum of w_i^(1/2) (y - W h - b)_i on `on`, W h + b <= y on `on` and <= 0 on `off`.

    rows: see `Rows`; the objective has signal units. Source: Lei et al. (2019), relaxed program, first layer.
    """

    nonnegative: ClassVar[bool] = False


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeRelaxedFit(AbstractRelaxedFit):
    """min over h >= 0 of the sum of w_i^(1/2) (y - W h - b)_i on `on`, W h + b <= y on `on` and <= 0 on `off`.

    rows: see `Rows`; the objective has signal units. Source: Lei et al. (2019), relaxed program, hidden layers.
    """

    nonnegative: ClassVar[bool] = True
