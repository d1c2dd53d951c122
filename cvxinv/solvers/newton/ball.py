"""Closed form of the l2 basis pursuit on a guess of what is active.

With A = the free unknowns and I = the off rows at their bound, the LASSO with penalty lam has h = h0 + lam d, where h0 fits
best on (A, I) and d solves H_AA d_A + W_IA'e = -1, W_IA d_A = 0 with H = W'w W. Its misfit is r0 + lam r1 with r1 = W d on
the on rows, and r0'w r1 = 0 by the conditions of h0; so |misfit| = eps at

    lam = ((eps^2 - |w^(1/2) r0|^2) / |w^(1/2) r1|^2)^(1/2),     p = (w (r0 + lam r1) + mu0) / lam + e.

The point is the optimum of the basis pursuit if its signs hold. Where eps = 0 there is no lam: the problem is a linear
program, and its vertex is the closed form. Source: `sparse` note 5.2 (polish); off rows added.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.rows import Rows
from ...layers.interval_basis_pursuit import NonnegativeBasisPursuitLinf
from ...layers.nonnegative_lasso import NonnegativeLasso
from ..active_set.active_set import activity, direction, solve_on
from ..active_set.guesses import AbstractEquations
from ..pairs import apart, pairs_of
from . import crossover


class Piece(NamedTuple):
    """The point of a guess, and its lam `(N,)`, NaN where even the best fit is longer than eps."""

    point: Point
    lam: Tensor


class Guessed:
    """One guess of each signal as a function of lam: h = h0 + lam d, p = p0 + lam e, W h + b = v0 + lam v1.

    system: the guess's equations, factorised; c: W'w (y - b), `(N, n)`. lam `(N,)`: the one that meets eps, NaN where h0
    leaves no room.
    """

    def __init__(self, system: AbstractEquations, problem: AbstractLayerProblem, c: Tensor):
        self.system, self.rows, self.eps = system, problem.rows, problem.number("eps")
        y, b = self.rows.y, self.rows.b
        (self.h0, self.d), (self.mu0, self.mu) = system.solve_two(
            (c, -torch.ones_like(c)), (-b.expand_as(y), torch.zeros_like(y))
        )
        self._meet()

    def _meet(self) -> None:
        rows = self.rows
        self.v0, self.v1 = rows.W(self.h0) + rows.b, rows.W(self.d)
        r0, r1 = (torch.where(rows.on, r, torch.zeros_like(r)) for r in (self.v0 - rows.y, self.v1))
        self.p0, self.e = rows.fit * r0 + self.mu0, rows.fit * r1 + self.mu
        self.lam = _lam_that_meets(rows, self.eps, r0, r1)

    def correct(self, which: Tensor) -> None:
        """Solve once more for what the signals `which` leave of their equations, in which W itself stands and not H."""
        W = self.rows.W
        (dh, dd), (dmu, de) = self.system.solve_two(
            (-W.adjoint(self.p0), -1 - W.adjoint(self.e)), (-self.v0, -self.v1), which
        )
        self.h0, self.mu0, self.d, self.mu = self.h0 + dh, self.mu0 + dmu, self.d + dd, self.mu + de
        self._meet()


def _lam_that_meets(rows: Rows, eps: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """The lam at which |w^(1/2) (r0 + lam r1)| = eps, NaN where r0 alone is longer, `(N,)`; r0'w r1 = 0."""
    room = eps**2 - (rows.fit * r0 * r0).sum(1)
    return (room / (rows.fit * r1 * r1).sum(1).clamp(min=1e-300)).sqrt()


def polish(problem: AbstractLayerProblem, point: Point) -> Point:
    """The point that the activity of `point` gives in closed form."""
    found = piece_of(problem, point).point
    exact = (problem.number("eps") == 0).nonzero()[:, 0]
    if len(exact):
        linear = NonnegativeBasisPursuitLinf(problem.rows.take(exact), 0.0)
        vertex = crossover.polish(linear, Point(point.h[exact], point.p[exact]))
        found.h[exact], found.p[exact] = vertex.h, vertex.p
    return found


def piece_of(problem: AbstractLayerProblem, point: Point) -> Piece:
    """The closed form on the activity of `point`, which is a point of the basis pursuit (h >= 0)."""
    rows, eps = problem.rows, problem.number("eps")
    nearest = NonnegativeLasso(rows, 0.0)
    free, tight = activity(problem, point)
    fitted = solve_on(nearest, free, tight, point.h)
    d, e = direction(nearest, free, tight)
    r0, r1 = rows.residual(fitted.h), torch.where(rows.on, rows.W(d), torch.zeros_like(rows.y))
    lam = _lam_that_meets(rows, eps, r0, r1)
    step = torch.nan_to_num(lam)[:, None]
    # eps = 0: the fit is exact and what is left of it is rounding, which a division by lam = 0 must not blow up
    share = torch.where(step > 0, fitted.p / step.clamp(min=1e-300), torch.zeros_like(fitted.p))
    # without room the gradient of the best fit is what may prove that nothing is feasible
    p = torch.where(torch.isnan(lam)[:, None], fitted.p, share + rows.fit * r1 + e)
    return Piece(Point((fitted.h + step * d).clamp(min=0), apart(pairs_of(rows), p)), lam)
