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
        cost = weight[i].cpu().numpy()[A]
        h[i], q[i] = _vertex(W[np.ix_(I, A)], A, I, point.h[i], p[i], limit[i], cost)
    return Point(h.clamp(min=0), q)


def _vertex(
    block: np.ndarray, A: np.ndarray, I: np.ndarray, h: Tensor, p: Tensor, limit: Tensor, weight: np.ndarray
) -> tuple[Tensor, Tensor]:
    """h `(n,)` and p `(m,)` of the vertex (A, I); `block` is W_IA, `weight` that of 1'h on A."""
    new_h, new_p = np.zeros(len(A)), np.zeros(len(I))
    x, q = h.cpu().numpy()[A], p.cpu().numpy()[I]
    t = limit.cpu().numpy()[I]
    solve, solve_transposed = _solvers(block)
    for _ in range(_REFINEMENTS):
        x = x + solve(t - block @ x)
        q = q + solve_transposed(-weight - block.T @ q)
    new_h[A], new_p[I] = x, q
    return torch.as_tensor(new_h).to(h), torch.as_tensor(new_p).to(p)


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
