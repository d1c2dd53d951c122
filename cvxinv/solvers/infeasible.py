"""Proofs that a signal's layer problem has no feasible point: a p that the judge checks.

Rows with limits lo <= W h + b <= hi have no solution h >= 0 exactly where some p with W'p >= 0 (W'p = 0 where h has any
sign) has b'p - sum_i max(hi_i p_i, lo_i p_i) > 0: a linear program (Farkas). A bound eps on the length of the misfit
cannot be met exactly where the smallest misfit, a nonnegative least-squares problem with the same off rows, is longer; its
gradient and multipliers are such a p.
"""

import numpy as np
import torch
from torch import Tensor

from ..layers.core.problem import AbstractLayerProblem, Point
from ..layers.gaussian_latent import GaussianLatent
from ..layers.nonnegative_lasso import NonnegativeLasso
from .active_set.active_set import least_squares_start, polish
from .loop import run
from .newton.interior_point import InteriorPoint

_SECONDS = 20.0  # on trained layers with equal limits, where there is no ray, HiGHS may search for minutes


def find_ray(problem: AbstractLayerProblem, i: int) -> Tensor:
    """A p `(m,)` that shows signal `i` to be infeasible; 0 where none is found."""
    one = problem.take(torch.tensor([i], device=problem.rows.y.device)).to(torch.float64)
    ray = _farkas_ray(one)
    if one.form == "ball" and not ray.any():
        ray = distance_rays(one)[0]
    return ray


def distance_rays(problem: AbstractLayerProblem) -> Tensor:
    """Gradient and multipliers at the smallest misfit of every signal of a "ball" problem, `(N, m)`."""
    kind = NonnegativeLasso if problem.nonnegative else GaussianLatent
    nearest = kind(problem.rows, 0.0)
    point = polish(nearest, least_squares_start(nearest), 10)
    slope = nearest.rows.W.adjoint(point.p)
    misfit = nearest.violation(point.h) + (-slope if problem.nonnegative else slope.abs()).amax(1).clamp(min=0)
    left = (misfit > 1e-12).nonzero()[:, 0]
    p = point.p.clone()
    if len(left):
        part = nearest.take(left)
        p[left] = run(InteriorPoint(), part, tol=1e-9).point.p
    return p


def _farkas_ray(one: AbstractLayerProblem) -> Tensor:
    """The p of the linear program for a single signal, scaled to |p|_1 <= 1; HiGHS solves it."""
    from scipy.optimize import linprog

    rows, (lo, hi) = one.rows, one.limits()
    ray = torch.zeros_like(rows.y[0])
    up, low = (torch.isfinite(end[0]).nonzero()[:, 0].cpu().numpy() for end in (hi, lo))
    if len(up) + len(low) == 0:
        return ray
    W, b = rows.W.matrix().cpu().numpy(), rows.b.expand_as(rows.y)[0].cpu().numpy()
    A = np.concatenate([W[up], -W[low]]).T  # (n, rows)
    gain = np.concatenate([b[up] - hi[0].cpu().numpy()[up], lo[0].cpu().numpy()[low] - b[low]])
    if not (gain > 0).any():
        return ray
    limits = {"A_ub": np.vstack([-A, np.ones(A.shape[1])]), "b_ub": np.append(np.zeros(one.n), 1.0)}
    if not one.nonnegative:
        limits = {"A_ub": np.ones((1, A.shape[1])), "b_ub": np.ones(1), "A_eq": A, "b_eq": np.zeros(one.n)}
    answer = linprog(-gain, bounds=(0, None), method="highs", options={"time_limit": _SECONDS}, **limits)
    if answer.x is not None and -answer.fun > 0:
        q = torch.as_tensor(answer.x).to(ray)
        ray[up] += q[: len(up)]
        ray[low] -= q[len(up) :]
    return ray


def vertex(one: AbstractLayerProblem) -> Point:
    """The vertex and the multipliers that the simplex method finds for a single signal's linear program over h >= 0.

    Both are 0 where it finds none.
    """
    from scipy.optimize import linprog

    rows, (lo, hi) = one.rows, one.limits()
    W, b = rows.W.matrix().cpu().numpy(), rows.b.expand_as(rows.y)[0].cpu().numpy()
    lo, hi = lo[0].cpu().numpy() - b, hi[0].cpu().numpy() - b
    same = lo == hi
    up, low = np.flatnonzero(np.isfinite(hi) & ~same), np.flatnonzero(np.isfinite(lo) & ~same)
    answer = linprog(
        np.full(one.n, float(one.linear[0, 0])), A_ub=np.concatenate([W[up], -W[low]]), b_ub=np.append(hi[up], -lo[low]),
        A_eq=W[same], b_eq=hi[same], bounds=(0, None), method="highs",
        options={"time_limit": _SECONDS, "primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    h, p = torch.zeros_like(rows.y[:, :1]).expand(1, one.n).clone(), torch.zeros_like(rows.y)
    if answer.x is None or not np.isfinite(answer.x).all():
        return Point(h, p)
    q = np.zeros(rows.m)
    q[up] -= answer.ineqlin.marginals[: len(up)]
    q[low] += answer.ineqlin.marginals[len(up) :]
    q[same] -= answer.eqlin.marginals
    return Point(torch.as_tensor(answer.x).to(h)[None].clamp(min=0), torch.as_tensor(np.nan_to_num(q)).to(p)[None])
