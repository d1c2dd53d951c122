"""LASSO and basis pursuit in the dictionary whose columns have length 1, for an unknown of any sign, on the on rows only.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + lam |D h|_1                     (P) of `NormalisedLasso`
    minimise    |D h|_1   subject to  (sum_on w_i (W h + b - y)_i^2)^(1/2) <= eps  (P) of `NormalisedBasisPursuit`

    maximise    p_on'(b - y) - 1/2 sum_on p_i^2 / w_i                              (D) of the one
    subject to  |W'p|_j <= lam D_jj,   p = 0 on all other rows
    maximise    p_on'(b - y) - eps (sum_on p_i^2 / w_i)^(1/2)                      (D) of the other
    subject to  |W'p|_j <= D_jj,   p = 0 on all other rows

D_jj is the length of column j of W on the on rows (1 for a column that is 0 there), so signals with other on rows have
another D. h is in the units of W all the same: D h is the unknown of the dictionary W D^-1 with columns of length 1, which
the lemma behind Theorem 2 needs. |D h|_1 is in signal units. At the optimum (W'p)_j = -lam D_jj sign(h_j), or -D_jj
sign(h_j), where h_j != 0.

Rows that are off count as not seen: the paper's Algorithm 2 uses the support rows alone.

Paper's letters: x -> h, lambda_i -> lam, S -> on, x_{i+1} -> y.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithm 2 and Corollary 2, in
the dictionary that Theorem 2 needs; added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from .core.misfits import Ball, Squares
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample
from .core.units import Units


def column_lengths(rows: Rows) -> Tensor:
    """Length of each column of W on the on rows, `(N, n)`; 1 for columns that are 0 there."""
    d = (rows.in_signal_units(rows.in_signal_units(rows.on.to(rows.y))) @ rows.W.matrix().square()).sqrt()
    return torch.where(d > 0, d, torch.ones_like(d))


@dataclass(frozen=True, eq=False, repr=False)
class AbstractNormalised(AbstractLayerProblem):
    """What both share: |D h|_1, and columns that may be stretched, as D changes with them."""

    rows: Rows
    sizes: ClassVar[Tensor | None] = None  # type: ignore[misc]
    nonnegative: ClassVar[bool] = False
    absolute: ClassVar[bool] = True
    counts_off: ClassVar[bool] = False
    stretches: ClassVar[bool] = True

    @cached_property
    def D(self) -> Tensor:
        """The lengths of the columns, `(N, n)`."""
        return column_lengths(self.rows)

    def in_units(self, units: Units) -> Self:
        return super().in_units(units._replace(columns=None))


@dataclass(frozen=True, eq=False, repr=False)
class NormalisedLasso(AbstractNormalised):
    """min 1/2 |W h + b - y|^2 on `on` + lam |D h|_1, D the lengths of the columns of W_on; off rows count as not seen.

    rows: see `Rows`. lam: >= 0, one for all signals or `(N,)`; signal units.
    Source: Aberdam, Simon, Elad (2020), Algorithm 2, in the dictionary that its lemma needs. Raises ValueError if lam < 0.
    """

    lam: float | Tensor = 0.0
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 0)}

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, lam, d = sample, float(self.number("lam")[i]), self.D[i].cpu().double().numpy()
        h = cp.Variable(s.n)
        if gram:
            G = s.W_on.T @ (s.weight_on[:, None] * s.W_on)
            t = s.y_on - s.b_on
            misfit = cp.quad_form(h, cp.psd_wrap(G)) / 2 - (s.W_on.T @ (s.weight_on * t)) @ h
            misfit += float(t @ (s.weight_on * t)) / 2
        else:
            misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        return Statement(cp.Problem(cp.Minimize(misfit + lam * cp.norm(cp.multiply(d, h), 1))), h)

    @cached_property
    def misfit(self) -> Squares:
        return Squares(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=self.lam, sizes=self.D)


@dataclass(frozen=True, eq=False, repr=False)
class NormalisedBasisPursuit(AbstractNormalised):
    """min |D h|_1 with |W h + b - y| <= eps on `on`, D the lengths of the columns of W_on; off rows count as not seen.

    rows: see `Rows`; a row's misfit is weighed by weight^(1/2). eps: >= 0, one for all signals or `(N,)`; signal units.
    Source: Aberdam, Simon, Elad (2020), Corollary 2, in the dictionary that its lemma needs. Raises ValueError if eps < 0.
    """

    eps: float | Tensor = 0.0
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"eps": (1, 0)}
    form: ClassVar[str] = "ball"
    grows: ClassVar[tuple[int, int]] = (1, 0)

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, eps, d = sample, float(self.number("eps")[i]), self.D[i].cpu().double().numpy()
        h = cp.Variable(s.n)
        misfit = cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)
        ball = cp.SOC(cp.Constant(eps), misfit) if eps > 0 else None  # |misfit|_2 <= eps
        on = s.W_on @ h + s.b_on == s.y_on if eps == 0 else None  # a cone without interior misleads solvers
        constraints = [c for c in (ball, on) if c is not None]
        bounds = (Bound(on, s.on, 1),) if on is not None else ()
        return Statement(cp.Problem(cp.Minimize(cp.norm(cp.multiply(d, h), 1)), constraints), h, bounds, ball)

    @cached_property
    def misfit(self) -> Ball:
        return Ball(self.rows, self.number("eps"))

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=1.0, sizes=self.D)
