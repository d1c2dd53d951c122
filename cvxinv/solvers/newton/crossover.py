"""Crossover: from a point near the optimum of a linear program to the vertex it stands for.

With A the unknowns that are free and I the rows at a limit t, the vertex solves W_IA h_A = t_I - b_I and its dual
W_IA'p_I = -1. Both are corrections of least length of the point at hand, so that a system with more rows or more columns
than it needs (a degenerate vertex, an edge of optima) keeps the point where the system leaves it open. One
factorisation serves both systems where its rank is full.

A = {h > reduced cost W'p + 1}, I = {p > hi - W h - b} and {-p > W h + b - lo}, and all rows with lo = hi. Works in float64
on a problem with |W| = 1 and s_y = 1. Source: `sparse` note 5.3 (vertex crossover).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point

_REFINEMENTS = 2
_RANK = 1e-13  # columns below this are dependent on those before them


def polish(problem: AbstractLayerProblem, point: Point) -> Point:
    """The vertex of each signal's guess; `point` as it is where the guess is empty or its equations fail."""
    rows, (lo, hi) = problem.rows, problem.limits()
    p = torch.nan_to_num(point.p, posinf=0.0, neginf=0.0)
    v = rows.W(point.h) + rows.b
    free = point.h > rows.W.adjoint(p) + problem.linear
    upper = torch.isfinite(hi) & (p > hi - v)
    lower = torch.isfinite(lo) & (-p > v - lo)
    tight = upper | lower | (lo == hi)
    limit = torch.where(upper | (lo == hi), hi, lo) - rows.b
    h, q, W = point.h.clone(), p.clone(), rows.W.matrix().cpu().numpy()
    weight = problem.linear.expand_as(h)
    for i in range(problem.N):
        A, I = free[i].cpu().numpy(), tight[i].cpu().numpy()
        if not A.any() or not I.any():
            h[i] = torch.where(free[i], h[i], 0.0)
            continue
        new_h, new_p = torch.zeros_like(h[i]), torch.zeros_like(q[i])
        a, t = free[i], tight[i]
        new_h[a], new_p[t] = vertex(torch.from_numpy(W[np.ix_(I, A)]), point.h[i, a], p[i, t], limit[i, t], weight[i, a])
        h[i], q[i] = new_h, new_p
    return Point(h.clamp(min=0), q)


def vertex(block: Tensor, h: Tensor, p: Tensor, limit: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """h_A with block h_A = limit and p_I with block'p_I = -weight, next to those at hand; `block` is W_IA."""
    M, x, q, t, w = (part.cpu().numpy() for part in (block, h, p, limit, weight))
    solve, solve_transposed = _solvers(M)
    for _ in range(_REFINEMENTS):
        x = x + solve(t - M @ x)
        q = q + solve_transposed(-w - M.T @ q)
    return torch.as_tensor(x).to(h), torch.as_tensor(q).to(p)


def _solvers(block: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Shortest least-squares solvers of block x = r and block' q = r, by one factorisation where the rank is full."""
    from scipy.linalg import lapack, qr

    if block.shape[0] == block.shape[1]:
        lu, pivots, _ = lapack.dgetrf(block)
        if lapack.dgecon(lu, np.linalg.norm(block, 1))[0] > _RANK:
            return partial(_by_factors, lu, pivots, 0), partial(_by_factors, lu, pivots, 1)
    tall = block.shape[0] >= block.shape[1]
    Q, R = qr(block if tall else block.T, mode="economic")
    if lapack.dtrcon(R)[0] > _RANK:
        fits, shortest = partial(_least_squares, Q, R), partial(_shortest, Q, R)
        return (fits, shortest) if tall else (shortest, fits)
    return partial(_of_any_rank, block), partial(_of_any_rank, block.T)


def _by_factors(lu: np.ndarray, pivots: np.ndarray, transposed: int, r: np.ndarray) -> np.ndarray:
    from scipy.linalg import lapack

    return lapack.dgetrs(lu, pivots, r, trans=transposed)[0]


def _least_squares(Q: np.ndarray, R: np.ndarray, r: np.ndarray) -> np.ndarray:
    from scipy.linalg import solve_triangular

    return solve_triangular(R, Q.T @ r)


def _shortest(Q: np.ndarray, R: np.ndarray, r: np.ndarray) -> np.ndarray:
    from scipy.linalg import solve_triangular

    return Q @ solve_triangular(R, r, trans="T")


def _of_any_rank(block: np.ndarray, r: np.ndarray) -> np.ndarray:
    from scipy.linalg import lstsq

    return lstsq(block, r, cond=_RANK, lapack_driver="gelsy")[0]
