"""Problems that weigh |h|, as problems in its two halves: h = a - c with a, c >= 0, on the map [W, -W].

|h|_1 is the least 1'a + 1'c, and W h = [W, -W] (a, c), so the rows and with them p stay what they are:
[W, -W]'p + lam >= 0 says |W'p| <= lam. One solver for h >= 0 serves both signs.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..generator.maps import AbstractMap, Dense
from ..layers.basis_pursuit_l2 import BasisPursuitL2, NonnegativeBasisPursuitL2
from ..layers.core.misfits import AbstractMisfit
from ..layers.core.penalties import Penalty
from ..layers.core.problem import AbstractLayerProblem, Point, Statement
from ..layers.core.rows import Rows, Sample
from ..layers.interval_basis_pursuit import BasisPursuitLinf, NonnegativeBasisPursuitLinf
from ..layers.lasso import Lasso
from ..layers.nonnegative_lasso import NonnegativeLasso


def halves(problem: AbstractLayerProblem) -> AbstractLayerProblem:
    """The same problem over (a, c) >= 0, `2 n` unknowns."""
    r = problem.rows
    rows = r.derived(W=_both(r.W))
    sizes = None if problem.sizes is None else torch.cat([problem.sizes, problem.sizes])
    if isinstance(problem, Lasso):
        return NonnegativeLasso(rows, problem.lam, sizes)
    if isinstance(problem, BasisPursuitL2):
        return NonnegativeBasisPursuitL2(rows, problem.eps, sizes)
    if isinstance(problem, BasisPursuitLinf):
        return NonnegativeBasisPursuitLinf(rows, problem.eps, sizes)
    return Halves(rows, problem, sizes)


@dataclass(frozen=True, eq=False, repr=False)
class Halves(AbstractLayerProblem):
    """Any problem that weighs |h|, over (a, c) >= 0: its misfit on the map [W, -W], its penalty on both halves.

    gamma/2 |h|^2 is gamma/2 (|a|^2 + |c|^2) where one of a_j and c_j is 0, as at an optimum it is, and less elsewhere.
    """

    rows: Rows
    whole: AbstractLayerProblem
    sizes: Tensor | None = None
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pass  # the whole problem was checked

    @property
    def form(self) -> str:  # type: ignore[override]
        return self.whole.form

    def number(self, name: str) -> Tensor:
        return self.whole.number(name)

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        raise TypeError(f"expected the problem itself for a statement, got the halves of {type(self.whole).__name__}")

    @cached_property
    def misfit(self) -> AbstractMisfit:
        return replace(self.whole.misfit, rows=self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return replace(self.whole.penalty, sizes=self.sizes, nonnegative=True)

    def take(self, index: Tensor | slice) -> Self:
        return type(self)(self.rows.take(index), self.whole.take(index), self.sizes)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        rows = self.rows.to(dtype, device)
        sizes = None if self.sizes is None else self.sizes.to(rows.y)
        return self if rows is self.rows else type(self)(rows, self.whole.to(dtype, device), sizes)

    def opened(self, width: Tensor) -> Self:
        return type(self)(self.rows, self.whole.opened(width), self.sizes)


def _both(W: AbstractMap) -> Dense:
    """[W, -W], one map for one W, so that what is computed of it is kept."""
    kept: Dense | None = W.__dict__.get("_kept_halves")
    if kept is None:
        M = W.matrix()
        kept = W.__dict__["_kept_halves"] = Dense(torch.cat([M, -M], 1))
    return kept


def apart(point: Point) -> Point:
    """(a, c) with a - c = h, one of the two 0."""
    return Point(torch.cat([point.h.clamp(min=0), (-point.h).clamp(min=0)], 1), point.p)


def together(point: Point) -> Point:
    """h = a - c."""
    return Point(_difference(point.h), point.p)


def _difference(h: Tensor) -> Tensor:
    a, c = h.chunk(2, 1)
    return a - c
