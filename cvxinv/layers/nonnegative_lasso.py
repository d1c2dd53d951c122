"""Nonnegative LASSO of a ReLU layer.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'h          (P)
    subject to  h >= 0,   (W h + b)_off <= 0

    maximise    p_on'(b - y) + p_off'b - 1/2 sum_on p_i^2 / w_i     (D)
    subject to  W'p + lam 1 >= 0,   p_off >= 0,   p = 0 on rows that were not seen

With v = W h + b and F(v) = 1/2 sum_on w (v - y)^2 + [v_off <= 0], (P) is min_h F(W h + b) + lam 1'h + [h >= 0]; its
Fenchel dual is max_p b'p - F*(p) + min_{h >= 0} (W'p + lam)'h with F*(p) = sum_on (p^2 / (2 w) + p y) + [p_off >= 0].
At the optimum p_on = w (W h + b - y), h_j (W'p + lam)_j = 0 and p_off (W h + b)_off = 0.

Where lam > 0 any p is scaled until W'p + lam >= 0; where lam = 0 it is translated by a u with W'u > 0 (`core/repairs`).
Where there is no such u (some h >= 0 besides 0 has W_on h = 0 and W_off h <= 0) `unmet` says by how much p misses
feasibility, and `core/bounds` what that costs.

Paper's letters: x -> h, lambda_i -> lam, S -> on, its complement -> off, x_{i+1} -> y.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. (9), and eq. (8) for an
identity output, which has no off rows; changed: biases, row weights, rows that were not seen.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import Squares
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement, length_of
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeLasso(AbstractLayerProblem):
    """min_{h >= 0} 1/2 |W h + b - y|^2 on `on` + lam 1'h with W h + b <= 0 on `off`.

    rows: see `Rows`. lam: weight of the sum of h, >= 0, one for all signals or `(N,)`; units of signal^2 / h.
    Source: Aberdam, Simon, Elad (2020), eqs. (8) for an identity output and (9). Raises ValueError if lam < 0.
    """

    rows: Rows
    lam: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 1)}
    nonnegative: ClassVar[bool] = True

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
        off = s.W_off @ h + s.b_off <= 0 if len(s.b_off) else None
        constraints = [h >= 0] + ([off] if off is not None else [])
        bounds = (Bound(off, s.off, 1),) if off is not None else ()
        return Statement(cp.Problem(cp.Minimize(misfit + lam * length_of(cp, h, self.sizes, True)), constraints), h, bounds)

    @cached_property
    def misfit(self) -> Squares:
        return Squares(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=self.lam)
