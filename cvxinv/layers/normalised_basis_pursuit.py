"""Basis pursuit in the dictionary whose columns have length 1, for an unknown of any sign, on the on rows only.

    minimise    |D h|_1                                                    (P)
    subject to  (sum_on w_i (W h + b - y)_i^2)^(1/2) <= eps

    maximise    p_on'(b - y) - eps (sum_on p_i^2 / w_i)^(1/2)              (D)
    subject to  |W'p| <= D,   p = 0 on all other rows

D is the length of each column of W on the on rows (1 for a column that is 0 there): it differs with the on rows. D h is the
unknown of the dictionary W D^-1, which the lemma behind Theorem 2 needs; h is in the units of W, |D h|_1 in signal units.
Where h_j != 0, (W'p)_j = -D_jj sign(h_j). Off rows count as not seen, as Algorithm 2 uses the support alone.

Paper's letters: x -> h, S -> on, x_{i+1} -> y.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Corollary 2, in the
dictionary that Theorem 2 needs; added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import MisfitBall
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class NormalisedBasisPursuit(AbstractLayerProblem):
    """min |D h|_1 with |W h + b - y| <= eps on `on`, D the lengths of the columns of W_on; off rows count as not seen.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: >= 0, one for all signals or `(N,)`; signal units.
    Source: Aberdam, Simon, Elad (2020), Corollary 2, in the dictionary that its lemma needs. Raises ValueError if eps < 0.
    """

    rows: Rows
    eps: float | Tensor = 0.0
    sizes: ClassVar[Tensor | None] = None  # type: ignore[misc]  # D says what an unknown counts
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"eps": (1, 0)}
    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True
    counts_off: ClassVar[bool] = False
    stretches: ClassVar[bool] = False
    form: ClassVar[str] = "ball"
    grows: ClassVar[tuple[int, int]] = (1, 0)

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, eps, d = sample, float(self.number("eps")[i]), self.rows.on_columns[i].cpu().double().numpy()
        h = cp.Variable(s.n)
        misfit = cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)
        ball = cp.SOC(cp.Constant(eps), misfit) if eps > 0 else None  # |misfit|_2 <= eps
        on = s.W_on @ h + s.b_on == s.y_on if eps == 0 else None  # a cone without interior misleads solvers
        bounds = (Bound(on, s.on, 1),) if on is not None else ()
        length = cp.norm(cp.multiply(d, h), 1)
        return Statement(cp.Problem(cp.Minimize(length), [c for c in (ball, on) if c is not None]), h, bounds, ball)

    @cached_property
    def misfit(self) -> MisfitBall:
        return MisfitBall(self.rows, self.number("eps"))

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=1.0, sizes=self.rows.on_columns)
