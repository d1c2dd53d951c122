"""LASSO with an unknown of any sign, on the on rows only.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam |h|_1             (P)

    maximise    p_on'(b - y) - 1/2 sum_on p_i^2 / w_i                     (D)
    subject to  |W'p| <= lam,   p = 0 on all other rows

With F(v) = 1/2 sum_on w (v - y)^2, (P) is min_h F(W h + b) + lam |h|_1, and its Fenchel dual is
max_p b'p - F*(p) + min_h (lam |h|_1 + p'W h) with F*(p) = sum_on (p^2 / (2 w) + p y). At the optimum
p = w (W h + b - y), |W'p| <= lam and (W'p)_j = -lam sign(h_j) where h_j != 0.

Where lam > 0 any p is scaled until |W'p| <= lam (`core/repairs`). Where lam = 0 the feasible p are those with W'p = 0, which
rounding never meets; `unmet` says by how much they miss it, and `core/bounds` what that costs.

Rows that are off count as not seen: the paper's Algorithm 2 uses the support rows alone.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithm 2 (Layered Basis
Pursuit), the Lagrangian form of both steps; added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import Squares
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Statement, length_of
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class Lasso(AbstractLayerProblem):
    """min 1/2 |W h + b - y|^2 on `on` + lam |h|_1; h of any sign; off rows count as not seen.

    rows: see `Rows`. lam: weight of |h|_1, >= 0, one for all signals or `(N,)`; units of signal^2 / h.
    Source: Aberdam, Simon, Elad (2020), Algorithm 2. Raises ValueError if lam < 0.
    """

    rows: Rows
    lam: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 1)}
    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True
    counts_off: ClassVar[bool] = False

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, lam = sample, float(self.number("lam")[i])
        h = cp.Variable(s.n)
        if gram:
            G = s.W_on.T @ (s.weight_on[:, None] * s.W_on)
            t = s.y_on - s.b_on
            misfit = cp.quad_form(h, cp.psd_wrap(G)) / 2 - (s.W_on.T @ (s.weight_on * t)) @ h
            misfit += float(t @ (s.weight_on * t)) / 2
        else:
            misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        return Statement(cp.Problem(cp.Minimize(misfit + lam * length_of(cp, h, self.sizes, False))), h)

    @cached_property
    def misfit(self) -> Squares:
        return Squares(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=self.lam)
