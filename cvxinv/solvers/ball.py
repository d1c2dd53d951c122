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

from ..layer_problem import AbstractLayerProblem, Point
from ..layers.interval_basis_pursuit import NonnegativeBasisPursuitLinf
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..rows import Rows
from . import crossover
from .active_set import activity, direction, solve_on
from .guesses import Guess, slope_and_rows


class Piece(NamedTuple):
    """The point of a guess, and its lam `(N,)`, NaN where even the best fit is longer than eps."""

    point: Point
    lam: Tensor


class Guessed(NamedTuple):
    """One guess as a function of lam: h = h0 + lam d, p = p0 + lam e, the lam that meets eps (NaN without room), and whether
    its equations were definite."""

    h0: Tensor
    d: Tensor
    p0: Tensor
    e: Tensor
    lam: Tensor
    sound: Tensor


def guess_at(grams: Tensor, problem: AbstractLayerProblem, left: Tensor, free: Tensor, tight: Tensor, c: Tensor) -> Guessed:
    """The closed form on (free, tight), at the size of each signal's support; see `pivoting` for `grams` and `left`."""
    rows, eps = problem.rows, problem.__dict__["eps"]
    guess = Guess(grams, problem, left, free, tight)
    h0, mu0 = guess.solve(c, -rows.b)
    nearest = NonnegativeLasso(rows, 0.0)
    slope, v = slope_and_rows(nearest, h0, mu0)
    dh, dmu = guess.solve(torch.where(free, -slope, torch.zeros_like(slope)), -v)
    h0, mu0 = h0 + dh, mu0 + dmu
    d, e = guess.solve(-free.to(c.dtype), torch.zeros_like(rows.y))
    r0, r1 = rows.residual(h0), torch.where(rows.on, rows.W(d), torch.zeros_like(rows.y))
    lam = _lam_that_meets(rows, eps, r0, r1)
    return Guessed(h0, d, rows.fit * r0 + mu0, rows.fit * r1 + e, lam, guess.sound)


def _lam_that_meets(rows: Rows, eps: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """The lam at which |w^(1/2) (r0 + lam r1)| = eps, NaN where r0 alone is longer, `(N,)`; r0'w r1 = 0."""
    room = eps**2 - (rows.fit * r0 * r0).sum(1)
    return (room / (rows.fit * r1 * r1).sum(1).clamp(min=1e-300)).sqrt()


def polish(problem: AbstractLayerProblem, point: Point) -> Point:
    """The point that the activity of `point` gives in closed form."""
    found = piece_of(problem, point).point
    exact = (problem.__dict__["eps"] == 0).nonzero()[:, 0]
    if len(exact):
        linear = NonnegativeBasisPursuitLinf(problem.rows.take(exact), 0.0)
        vertex = crossover.polish(linear, Point(point.h[exact], point.p[exact]))
        found.h[exact], found.p[exact] = vertex.h, vertex.p
    return found


def piece_of(problem: AbstractLayerProblem, point: Point) -> Piece:
    """The closed form on the activity of `point`, which is a point of the basis pursuit (h >= 0)."""
    rows, eps = problem.rows, problem.__dict__["eps"]
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
    return Piece(Point((fitted.h + step * d).clamp(min=0), p), lam)
