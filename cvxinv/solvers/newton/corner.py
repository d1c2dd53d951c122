"""The corner of a fit in the l_inf or l_1 norm that a point near the optimum stands for.

Sum of excesses: the rows I whose p is further from its ends than they are from their data are met, (W h + b - y)_I = 0, and
the p of the others stands at an end. Largest excess: the rows I whose |p| is larger than what they lack of the largest
share one excess, sign_i (W h + b - y)_i = delta / w_i^(1/2), and the p of the others is 0. With A the unknowns that are
free, W_IA and a column for delta give h_A by these equations, and p_I by W'p = 0 on A, as in `crossover`: corrections of
least length.
"""

import torch
from torch import Tensor

from ...layers.core.misfits import AbstractExcesses, LargestExcess
from ...layers.core.problem import AbstractLayerProblem, Point
from .crossover import vertex

_MET = 1e-12  # of s_y: an objective that counts as 0


def polish(problem: AbstractLayerProblem, point: Point) -> Point:
    """The corner of each signal's guess; `point` as it is where the guess is empty."""
    misfit, rows = problem.misfit, problem.rows
    assert isinstance(misfit, AbstractExcesses)
    p = misfit.clipped(point.p)
    free = point.h > rows.W.adjoint(p) if problem.nonnegative else torch.ones_like(point.h, dtype=torch.bool)
    v = rows.W(point.h) + rows.b
    found = _largest if isinstance(misfit, LargestExcess) else _sum
    h, q = torch.where(free, point.h, 0.0), p.clone()
    for i in range(problem.N):
        found(misfit, i, v[i], free[i], h, q)
    h = h.clamp(min=0) if problem.nonnegative else h
    # without any excess p is open, and 0 is optimal
    met = problem.objective(h) <= _MET
    return Point(h, torch.where(met[:, None], 0.0, misfit.clipped(q)))


def _sum(misfit: AbstractExcesses, i: int, v: Tensor, free: Tensor, h: Tensor, q: Tensor) -> None:
    """Put the corner of signal `i` into h and q."""
    rows, (low, high) = misfit.rows, (end[i] for end in misfit.sides)
    r = v - torch.where(rows.on[i], rows.y[i], 0.0)
    met = (r < high - q[i]) & (-r < q[i] - low) & (high > low)
    q[i] = torch.where(met, q[i], torch.where(r > 0, high, low))
    if not bool(met.any() & free.any()):
        return
    M = rows.W.matrix()
    cost = torch.where(met, 0.0, q[i]) @ M[:, free]
    limit = (rows.target[i] - torch.where(rows.off[i], _bias(misfit, i), 0.0))[met]
    h[i, free], q[i, met] = vertex(M[met][:, free], h[i, free], q[i, met], limit, cost)


def _largest(misfit: AbstractExcesses, i: int, v: Tensor, free: Tensor, h: Tensor, q: Tensor) -> None:
    rows, width = misfit.rows, misfit.width[i]
    e, sign = misfit.excesses(v[None])[0], misfit._sign(v[None])[0]
    at = (q[i].abs() > (e.amax() - e) * width) & (q[i] * sign > 0) & (width > 0)
    q[i] = torch.where(at, q[i], 0.0)
    if not bool(at.any() & free.any()):
        return
    block = torch.cat([rows.W.matrix()[at][:, free], -(sign * width)[at, None]], 1)
    cost = torch.zeros_like(block[0])
    cost[-1] = 1.0
    limit = (rows.target[i] - torch.where(rows.off[i], _bias(misfit, i), 0.0))[at]
    x, q[i, at] = vertex(block, torch.cat([h[i, free], e.amax()[None]]), q[i, at], limit, cost)
    h[i, free] = x[:-1]


def _bias(misfit: AbstractExcesses, i: int) -> Tensor:
    b = misfit.rows.b
    return b if b.ndim == 1 else b[i]
