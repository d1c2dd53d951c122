"""Proofs that a signal's layer problem has no feasible point: a p that the judge checks.

The judge asks for a proof that every h breaks some limit by more than tol s_y. Rows with limits lo <= W h + b <= hi have no
solution h >= 0 exactly where some p with W'p >= 0 (W'p = 0 where h has any sign) has b'p - sum_i max(hi_i p_i, lo_i p_i) >
0: a linear program (Farkas). Limits that are wider by tol s_y on every row cost tol s_y sum_i |p_i| of that, with the p of
rows that were stretched in signal units: so of all p with that sum 1 the one that gains most proves most, and if any
proves it, this one does. A bound eps on the length of the misfit cannot be met exactly where the smallest misfit is longer,
a nonnegative least-squares problem with the same off rows, as wide as the judge leaves them; its gradient and multipliers
are such a p.

What W'p lacks decides how far the proof reaches, and an LP solver leaves 1e-10 of it: p is then corrected, each entry by
the least share of itself, until W'p is 0 to rounding wherever it is next to 0 (`_sharpened`).
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
_NEXT = 1e-6  # of |W|'|p|: a (W'p)_j of less is meant to be 0
_EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # the least that HiGHS takes


def find_ray(problem: AbstractLayerProblem, i: int, tol: float = 1e-6) -> Tensor:
    """A p `(m,)` that shows signal `i` to be infeasible by more than tol s_y; 0 where none is found."""
    one = problem.take(torch.tensor([i], device=problem.rows.y.device)).to(torch.float64)
    slack = tol * one.rows.scale()
    rays = _farkas_ray(one)[None]
    if one.form == "ball":
        rays = torch.cat([rays, distance_rays(one, slack)])
    rays = torch.cat([rays, *(_sharpened(one, ray)[None] for ray in rays)])
    shown = torch.cat([one.infeasibility(ray[None], slack) for ray in rays])
    return rays[int(shown.argmax())]


def distance_rays(problem: AbstractLayerProblem, slack: float | Tensor = 0.0) -> Tensor:
    """Gradient and multipliers at the smallest misfit of every signal of a "ball" problem, `(N, m)`.

    slack: how far h may be over the off rows there, signal units, one number or `(N,)`.
    """
    return _nearest(problem, slack).p


def least_misfit(problem: AbstractLayerProblem) -> Tensor:
    """The smallest |w^(1/2) (W h + b - y)_on| that the off rows allow each signal of a "ball" problem, `(N,)`."""
    r = problem.rows.residual(_nearest(problem, 0.0).h)
    return (problem.rows.fit * r * r).sum(1).sqrt()


def _nearest(problem: AbstractLayerProblem, slack: float | Tensor) -> Point:
    """The point with the smallest misfit of every signal, over off rows that are wider by `slack`."""
    kind, rows = NonnegativeLasso if problem.nonnegative else GaussianLatent, problem.rows
    room = rows.stretched((rows.y.new_zeros(rows.N) + slack)[:, None].expand_as(rows.y))
    nearest = kind(rows.derived(b=torch.where(rows.off, rows.b - room, rows.b)), 0.0)
    point = polish(nearest, least_squares_start(nearest), 10)
    slope = nearest.rows.W.adjoint(point.p)
    misfit = nearest.violation(point.h) + (-slope if problem.nonnegative else slope.abs()).amax(1).clamp(min=0)
    left = (misfit > 1e-12).nonzero()[:, 0]
    if len(left):
        closer = run(InteriorPoint(), nearest.take(left), tol=1e-9).point
        point = Point(point.h.clone(), point.p.clone())
        point.h[left], point.p[left] = closer
    return point


def _farkas_ray(one: AbstractLayerProblem) -> Tensor:
    """The p of the linear program for a single signal, with sum |p| <= 1 in signal units; HiGHS solves it."""
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
    size = np.abs(A).max(axis=1, keepdims=True)
    A = A / np.where(size > 0, size, 1.0)
    price = rows.stretched(torch.ones_like(rows.y))[0].cpu().numpy()[np.concatenate([up, low])]
    unit = np.median(price)
    limits = {"A_ub": np.vstack([-A, price / unit]), "b_ub": np.append(np.zeros(one.n), 1.0)}
    if not one.nonnegative:
        limits = {"A_ub": (price / unit)[None], "b_ub": np.ones(1), "A_eq": A, "b_eq": np.zeros(one.n)}
    answer = linprog(-gain, bounds=(0, None), method="highs", options={"time_limit": _SECONDS, **_EXACT}, **limits)
    if answer.x is not None and -answer.fun > 0:
        q = torch.as_tensor(answer.x / unit).to(ray)
        ray[up] += q[: len(up)]
        ray[low] -= q[len(up) :]
    return ray


def _sharpened(one: AbstractLayerProblem, p: Tensor) -> Tensor:
    """`p` `(m,)` with W'p = 0 to rounding on the unknowns where it is next to 0: on all where h has any sign.

    With B = W_S' diag(p_S) over the rows S where p is not 0, p_S (1 + d) has B (1 + d) = 0 on those unknowns; d is the
    shortest that does, and p keeps its signs where no entry of it is below -1.
    """
    support = p != 0
    if not bool(support.any()) or not bool(torch.isfinite(p).all()):
        return torch.zeros_like(p)
    B = (one.rows.W.matrix()[support] * p[support, None]).T.cpu().numpy()  # (n, |S|)
    size = np.abs(B).sum(axis=1)
    meant = (size > 0) & (B.sum(axis=1) <= _NEXT * size if one.nonnegative else True)
    C, share = B[meant] / size[meant, None], np.ones(B.shape[1])
    if not len(C):
        return p
    for _ in range(3):  # each pass absorbs the rounding of the one before
        share = share - np.linalg.lstsq(C, C @ share, rcond=None)[0]
    out = p.clone()
    out[support] *= torch.from_numpy(share).to(p)
    return out if bool((share > 0).all()) else p


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
        options={"time_limit": _SECONDS, **_EXACT},
    )  # fmt: skip
    h, p = torch.zeros_like(rows.y[:, :1]).expand(1, one.n).clone(), torch.zeros_like(rows.y)
    if answer.x is None or not np.isfinite(answer.x).all():
        return Point(h, p)
    q = np.zeros(rows.m)
    q[up] -= answer.ineqlin.marginals[: len(up)]
    q[low] += answer.ineqlin.marginals[len(up) :]
    q[same] -= answer.eqlin.marginals
    return Point(torch.as_tensor(answer.x).to(h)[None].clamp(min=0), torch.as_tensor(np.nan_to_num(q)).to(p)[None])
