"""The smallest largest misfit of a layer: h of any sign, or h >= 0.

    minimise    delta                                                                        (P)
    subject to  w_i^(1/2) |W h + b - y|_i <= delta  on `on`,   (W h + b)_i <= delta  on `off`,   delta >= 0,   [h >= 0]

    maximise    p_on'(b - y) + p_off'b                                                       (D)
    subject to  W'p = 0  (with h >= 0: W'p >= 0),   p_off >= 0,   sum_on |p_i| / w_i^(1/2) + sum_off p_i <= 1,
                p = 0 on rows that were not seen

F(v) = max_i e_i, e the excesses of `misfits`, is the sup of p'(v - y) over the p of the last line, so F*(p) = p'y there.
Any p is brought to its signs and to that length; what W'p lacks is repaired by a lift where h >= 0, else the bound is that
of `bounds`, for all h that could be better. p_i > 0 only where row i is delta above y, p_i < 0 where it is delta below, and
the length is 1 where delta > 0. With delta = 0 a layer is met exactly: the realizable case, whose bound 0 takes no p.

Behind a LeakyReLU(a) a row with y < 0 reads y / a and has the weight a^2: |W h + b - y / a| <= delta / a.

Source: Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019), Algorithm 1, from its
published code; the paper's delta <= epsilon only says where it is infeasible, which the optimum tells. Added: biases, row
weights, unseen rows, the dual. Paper's letters: z -> h, x -> y, {x_i > epsilon} -> on, the others -> off.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import LargestExcess
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class AbstractLinfFit(AbstractLayerProblem):
    """What both fits in the l_inf norm share."""

    rows: Rows
    sizes: Tensor | None = None
    form: ClassVar[str] = "excess"

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, stretch = sample, self.rows.stretch
        width, most = s.weight_on**-0.5, 1.0 if stretch is None else stretch.detach().cpu().double().numpy()[s.off]
        h, delta = cp.Variable(s.n), cp.Variable(nonneg=True)
        above = s.W_on @ h + s.b_on - s.y_on <= width * delta if len(s.on) else None
        below = -width * delta <= s.W_on @ h + s.b_on - s.y_on if len(s.on) else None
        off = s.W_off @ h + s.b_off <= most * delta if len(s.off) else None
        given = ((above, s.on, 1), (below, s.on, -1), (off, s.off, 1))
        bounds = tuple(Bound(c, rows, sign) for c, rows, sign in given if c is not None)
        constraints = [bound.constraint for bound in bounds] + ([h >= 0] if self.nonnegative else [])
        return Statement(cp.Problem(cp.Minimize(delta), constraints), h, bounds)

    @cached_property
    def misfit(self) -> LargestExcess:
        return LargestExcess(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=0.0) if self.nonnegative else Penalty.of(self, gamma=0.0)


@dataclass(frozen=True, eq=False, repr=False)
class LinfFit(AbstractLinfFit):
    """min over h of any sign of the largest of w_i^(1/2) |W h + b - y|_i on `on` and (W h + b)_i on `off`, at least 0.

    rows: see `Rows`; the objective has signal units. Source: Lei et al. (2019), Algorithm 1, first layer.
    """

    nonnegative: ClassVar[bool] = False


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeLinfFit(AbstractLinfFit):
    """min over h >= 0 of the largest of w_i^(1/2) |W h + b - y|_i on `on` and (W h + b)_i on `off`, at least 0.

    rows: see `Rows`; the objective has signal units. Source: Lei et al. (2019), Algorithm 1, hidden layers.
    """

    nonnegative: ClassVar[bool] = True
