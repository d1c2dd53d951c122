"""LASSO in the dictionary whose columns have length 1, for an unknown of any sign, on the on rows only.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam |D h|_1            (P)

    maximise    p_on'(b - y) - 1/2 sum_on p_i^2 / w_i                      (D)
    subject to  |W'p| <= lam D,   p = 0 on all other rows

D is the length of each column of W on the on rows (1 for a column that is 0 there): it differs with the on rows. D h is the
unknown of the dictionary W D^-1, which the lemma behind Theorem 2 needs; h is in the units of W, |D h|_1 in signal units.
Where h_j != 0, (W'p)_j = -lam D_jj sign(h_j). Off rows count as not seen, as Algorithm 2 uses the support alone.

Paper's letters: x -> h, lambda_i -> lam, S -> on, x_{i+1} -> y.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithm 2, in the
dictionary that Theorem 2 needs; added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import Squares
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class NormalisedLasso(AbstractLayerProblem):
    """min 1/2 |W h + b - y|^2 on `on` + lam |D h|_1, D the lengths of the columns of W_on; off rows count as not seen.

    rows: see `Rows`. lam: >= 0, one for all signals or `(N,)`; signal units.
    Source: Aberdam, Simon, Elad (2020), Algorithm 2, in the dictionary that its lemma needs. Raises ValueError if lam < 0.
    """

    rows: Rows
    lam: float | Tensor = 0.0
    sizes: ClassVar[Tensor | None] = None  # type: ignore[misc]  # D says what an unknown counts
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 0)}
    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True
    counts_off: ClassVar[bool] = False
    stretches: ClassVar[bool] = False

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, lam, d = sample, float(self.number("lam")[i]), self.rows.on_columns[i].cpu().double().numpy()
        h = cp.Variable(s.n)
        misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        return Statement(cp.Problem(cp.Minimize(misfit + lam * cp.norm(cp.multiply(d, h), 1))), h)

    @cached_property
    def misfit(self) -> Squares:
        return Squares(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=self.lam, sizes=self.rows.on_columns)
