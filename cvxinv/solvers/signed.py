"""Problems that weigh |h|, as problems in its two halves: h = a - c with a, c >= 0, on the map [W, -W].

|h|_1 is the least 1'a + 1'c, and W h = [W, -W] (a, c), so the rows and with them p stay what they are:
[W, -W]'p + lam >= 0 says |W'p| <= lam. One solver for h >= 0 serves both signs.
"""

import torch
from torch import Tensor

from ..generator.maps import AbstractMap, Dense
from ..layers.basis_pursuit_l2 import BasisPursuitL2, NonnegativeBasisPursuitL2
from ..layers.core.problem import AbstractLayerProblem, Point
from ..layers.interval_basis_pursuit import BasisPursuitLinf, NonnegativeBasisPursuitLinf
from ..layers.lasso import Lasso
from ..layers.nonnegative_lasso import NonnegativeLasso


def halves(problem: AbstractLayerProblem) -> AbstractLayerProblem:
    """The same problem over (a, c) >= 0, `2 n` unknowns. Raises TypeError for a problem that has no such form."""
    r = problem.rows
    rows = r.derived(W=_both(r.W))
    sizes = None if problem.sizes is None else torch.cat([problem.sizes, problem.sizes])
    if isinstance(problem, Lasso):
        return NonnegativeLasso(rows, problem.lam, sizes)
    if isinstance(problem, BasisPursuitL2):
        return NonnegativeBasisPursuitL2(rows, problem.eps, sizes)
    if isinstance(problem, BasisPursuitLinf):
        return NonnegativeBasisPursuitLinf(rows, problem.eps, sizes)
    raise TypeError(
        f"expected Lasso, BasisPursuitL2 or BasisPursuitLinf, got {type(problem).__name__}; use solver='CLARABEL', which "
        "takes its statement"
    )


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
