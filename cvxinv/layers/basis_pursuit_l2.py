"""Basis pursuit with an l2 bound on the misfit: h of any sign, or h >= 0.

    minimise    |h|_1                                                     (P)
    subject to  (sum_on w_i (W h + b - y)_i^2)^(1/2) <= eps,   (W h + b)_off <= 0,   [h >= 0]

    maximise    p_on'(b - y) + p_off'b - eps (sum_on p_i^2 / w_i)^(1/2)   (D)
    subject to  |W'p| <= 1  (with h >= 0: W'p + 1 >= 0),   p_off >= 0,   p = 0 on rows that were not seen

With v = W h + b and F(v) the indicator of both bounds, F*(p) = p_on'y + eps |p_on / w^(1/2)| + [p_off >= 0], and (D) is
max_p b'p - F*(p) + min_h (g(h) + p'W h). At the optimum p_on = w (W h + b - y) / lam for the lam of the LASSO with the
same h, W'p = -sign(h) where h != 0, and p_off (W h + b)_off = 0.

The value of (D) is positively homogeneous in p: any p is clipped to p_off >= 0 and divided by max |W'p|, or by max -(W'p)
where h >= 0. With a value > 0 and W'p = 0 no h is feasible, and in rounded arithmetic every feasible h has |h| >= value /
|W'p|, which is what `infeasibility` says. eps = 0 asks for W h + b = y on the on rows.

Source: `sparse` note 5.2 for b = 0, w = 1 and no off rows; the bound that Aberdam, Simon, Elad, "When and How Can Deep
Generative Models be Inverted?" (2020), state their Algorithm 2 with; added: biases, row weights, off rows, unseen rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import MisfitBall
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement, length_of
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class AbstractBasisPursuitL2(AbstractLayerProblem):
    """What both basis pursuits with an l2 bound share."""

    rows: Rows
    eps: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"eps": (1, 0)}
    form: ClassVar[str] = "ball"

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, eps = sample, float(self.number("eps")[i])
        h = cp.Variable(s.n)
        misfit = cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)
        ball = cp.SOC(cp.Constant(eps), misfit) if eps > 0 else None  # |misfit|_2 <= eps
        on = s.W_on @ h + s.b_on == s.y_on if eps == 0 else None  # a cone without interior misleads solvers
        off = s.W_off @ h + s.b_off <= 0 if len(s.b_off) else None
        sign = h >= 0 if self.nonnegative else None
        constraints = [c for c in (ball, on, off, sign) if c is not None]
        bounds = tuple(Bound(c, k, 1) for c, k in ((on, s.on), (off, s.off)) if c is not None)
        return Statement(cp.Problem(cp.Minimize(length_of(cp, h, self.sizes, False)), constraints), h, bounds, ball)

    @cached_property
    def misfit(self) -> MisfitBall:
        return MisfitBall(self.rows, self.number("eps"))

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=1.0)


@dataclass(frozen=True, eq=False, repr=False)
class BasisPursuitL2(AbstractBasisPursuitL2):
    """min |h|_1 with |W h + b - y|_2 <= eps on `on` and W h + b <= 0 on `off`; h of any sign.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: bound on the misfit, >= 0, signal units, one for all
    signals or `(N,)`. Source: `sparse` note 5.2 (b). Raises ValueError if eps < 0.
    """

    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeBasisPursuitL2(AbstractBasisPursuitL2):
    """min 1'h over h >= 0 with |W h + b - y|_2 <= eps on `on` and W h + b <= 0 on `off`.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: bound on the misfit, >= 0, signal units, one for all
    signals or `(N,)`. Source: `sparse` note 5.2 (b+), with off rows as in 5.4. Raises ValueError if eps < 0.
    """

    nonnegative: ClassVar[bool] = True
