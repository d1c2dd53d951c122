"""The smallest sum of the misfits of a layer: h of any sign, or h >= 0.

    minimise    sum_i e_i                                                                    (P)
    subject to  w_i^(1/2) |W h + b - y|_i <= e_i  on `on`,   (W h + b)_i <= e_i  on `off`,   e >= 0,   [h >= 0]

    maximise    p_on'(b - y) + p_off'b                                                       (D)
    subject to  W'p = 0  (with h >= 0: W'p >= 0),   |p_i| <= w_i^(1/2)  on `on`,   0 <= p_i <= 1  on `off`,
                p = 0 on rows that were not seen

F(v) = sum_i e_i, e the excesses of `misfits`, is the sup of p'(v - y) over the p of the last two lines, so F*(p) = p'y
there. Any p is clipped to them; what W'p lacks is repaired by a lift where h >= 0, else the bound is that of `bounds`, for
all h that could be better. p_i stands at its end where a row is off its data, and is open where it is met: a few rows that
are far off move no other row's p, and so leave h where it is.

Source: Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019), Algorithm 2, as
recalled: its display could not be read. Added: biases, row weights, unseen rows, the dual. Paper's letters: z -> h, x -> y,
{x_i > epsilon} -> on, the others -> off.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import SumOfExcesses
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class AbstractL1Fit(AbstractLayerProblem):
    """What both fits in the l_1 norm share."""

    rows: Rows
    sizes: Tensor | None = None
    form: ClassVar[str] = "excess"

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, stretch = sample, self.rows.stretch
        width, most = s.weight_on**-0.5, 1.0 if stretch is None else stretch.detach().cpu().double().numpy()[s.off]
        h, on, off = cp.Variable(s.n), cp.Variable(len(s.on) or 1, nonneg=True), cp.Variable(len(s.off) or 1, nonneg=True)
        above = s.W_on @ h + s.b_on - s.y_on <= cp.multiply(width, on) if len(s.on) else None
        below = -cp.multiply(width, on) <= s.W_on @ h + s.b_on - s.y_on if len(s.on) else None
        over = s.W_off @ h + s.b_off <= cp.multiply(most, off) if len(s.off) else None
        given = ((above, s.on, 1), (below, s.on, -1), (over, s.off, 1))
        bounds = tuple(Bound(c, rows, sign) for c, rows, sign in given if c is not None)
        constraints = [bound.constraint for bound in bounds] + ([h >= 0] if self.nonnegative else [])
        return Statement(cp.Problem(cp.Minimize(cp.sum(on) + cp.sum(off)), constraints), h, bounds)

    @cached_property
    def misfit(self) -> SumOfExcesses:
        return SumOfExcesses(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=0.0) if self.nonnegative else Penalty.of(self, gamma=0.0)


@dataclass(frozen=True, eq=False, repr=False)
class L1Fit(AbstractL1Fit):
    """min over h of any sign of the sum of w_i^(1/2) |W h + b - y|_i on `on` and of the (W h + b)_i above 0 on `off`.

    rows: see `Rows`; the objective has signal units. Source: Lei et al. (2019), Algorithm 2, first layer, as recalled.
    """

    nonnegative: ClassVar[bool] = False


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeL1Fit(AbstractL1Fit):
    """min over h >= 0 of the sum of w_i^(1/2) |W h + b - y|_i on `on` and of the (W h + b)_i above 0 on `off`.

    rows: see `Rows`; the objective has signal units. Source: Lei et al. (2019), Algorithm 2, hidden layers, as recalled.
    """

    nonnegative: ClassVar[bool] = True
