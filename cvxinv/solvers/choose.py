"""`solver="auto"`: which method for what, and why.

1. Active-set rounds from the least-squares point. On realizable data it is exact whatever the conditioning, because its
   equations are refined against W itself, and one factorisation often serves the whole batch.
   Where lam = 0 leaves h open (fewer on rows than unknowns), the minimiser with the least sum is looked for next.
2. Interior point with polish, where n x n matrices per signal fit: insensitive to conditioning, which on trained layers is
   where first-order methods stall (linearised ADMM needs 20,000 to 60,000 iterations at condition 9e4).
3. Graph-form ADMM with polish for what is left, and alone beyond `LARGEST_NEWTON` unknowns.
4. For what is still left and has off rows that 0 breaks: a linear program for a Farkas ray, checked by the judge.
"""

from dataclasses import replace

import torch

from ..certificate import INFEASIBLE, OPTIMAL, OPTIMAL_INACCURATE, certify
from ..layer_problem import AbstractLayerProblem, Point
from ..layers.nonnegative_lasso import NonnegativeLasso
from .active_set import least_squares_start, polish
from .graph_admm import GraphADMM
from .interior_point import InteriorPoint
from .linearized_admm import LinearizedADMM
from .loop import AbstractMethod, Reached, offer, run
from .reference import farkas_ray

TORCH_SOLVERS: dict[str, type[AbstractMethod]] = {
    method.name: method for method in (GraphADMM, InteriorPoint, LinearizedADMM)
}
LARGEST_NEWTON = 1500  # unknowns beyond which an n x n Cholesky per signal and iteration costs over a second
_TILT = 1e-6  # lam in normalised units that breaks the tie, far below what moves a determined h
_MEMORY = 1_500_000_000  # bytes of n x n and m-wide work space per chunk of signals


def chunk_size(problem: AbstractLayerProblem) -> int:
    """How many signals fit the work space at once."""
    n, m = problem.n, problem.rows.m
    per_signal = 8 * (6 * min(n, LARGEST_NEWTON) ** 2 + 30 * (n + m))
    return max(1, _MEMORY // per_signal)


def solve_auto(problem: AbstractLayerProblem, tol: float, max_iter: int | None) -> tuple[Reached, list[str]]:
    """Run the cascade of the module on a normalised float64 problem; also returns who solved each signal."""
    rows = problem.rows
    zero = Point(torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device), torch.zeros_like(rows.y))
    none = torch.zeros(problem.N, dtype=torch.long)
    reached = Reached(zero, certify(problem, zero, tol=tol, thorough=False), none, none.bool())
    solver = ["active_set"] * problem.N
    small = problem.n <= LARGEST_NEWTON
    if small:
        everyone = torch.arange(problem.N)
        first = polish(problem, least_squares_start(problem), 10)
        offer(reached, everyone, problem, first, tol, 1, polished=True)
        _look_for_sparse(problem, reached, tol, solver)
    for method in (InteriorPoint, GraphADMM) if small else (GraphADMM,):
        left = _open(reached) if method is InteriorPoint or not small else _rough(reached)
        if len(left) == 0:
            break
        part = problem.take(left.to(rows.y.device))
        limit = max_iter if max_iter is not None else min(method.max_iter, 2000 if small else 20_000)
        got = run(method, part, tol=tol, max_iter=limit, polish=True)
        _merge(reached, left, part, got, tol, solver, method.name)
    _look_for_rays(problem, reached, tol, solver)
    return reached, solver


def _look_for_sparse(problem: AbstractLayerProblem, reached: Reached, tol: float, solver: list[str]) -> None:
    """Where lam = 0 and h is not unique, offer the minimiser with the least 1'h: the one a sparse truth would be."""
    if not isinstance(problem, NonnegativeLasso):
        return
    left = _open(reached)
    left = left[(problem.linear[:, 0] == 0).cpu()[left]]
    if len(left) == 0:
        return
    part = problem.take(left.to(problem.rows.y.device))
    tilted = run(InteriorPoint, replace(part, lam=_TILT), tol=tol, max_iter=InteriorPoint.max_iter, polish=True)
    before = list(reached.certificate.status)
    offer(reached, left, part, polish(part, tilted.point), tol, int(tilted.iterations.max()), polished=True)
    for i in left.tolist():
        if reached.certificate.status[i] != before[i]:
            solver[i] = InteriorPoint.name


def _open(reached: Reached) -> torch.Tensor:
    return _with_other_status(reached, {OPTIMAL, INFEASIBLE})


def _rough(reached: Reached) -> torch.Tensor:
    """What a first-order method can still improve; it never beats an interior point that ended near the optimum."""
    return _with_other_status(reached, {OPTIMAL, INFEASIBLE, OPTIMAL_INACCURATE})


def _with_other_status(reached: Reached, done: set[str]) -> torch.Tensor:
    return torch.as_tensor([i for i, s in enumerate(reached.certificate.status) if s not in done], dtype=torch.long)


def _merge(
    reached: Reached,
    left: torch.Tensor,
    part: AbstractLayerProblem,
    got: Reached,
    tol: float,
    solver: list[str],
    name: str,
) -> None:
    before = reached.iterations.clone()
    offer(reached, left, part, got.point, tol, -1, polished=False)
    for k, i in enumerate(left.tolist()):
        if reached.iterations[i] == -1:
            reached.iterations[i], reached.polished[i], solver[i] = got.iterations[k], got.polished[k], name
        else:
            reached.iterations[i] = before[i]


def _look_for_rays(problem: AbstractLayerProblem, reached: Reached, tol: float, solver: list[str]) -> None:
    rows = problem.rows
    for i in _open(reached).tolist():
        if (
            reached.certificate.status[i] == "optimal_inaccurate"
            or not (rows._off[i] & (rows.b.expand_as(rows.y)[i] > 0)).any()
        ):
            continue
        part = problem.take(torch.tensor([i], device=rows.y.device))
        ray = farkas_ray(part.rows.sample(0), part, 0).to(rows.y)
        before = reached.certificate.status[i]
        offer(reached, torch.tensor([i]), part, Point(reached.point.h[i][None], ray[None]), tol, 0, polished=False)
        if reached.certificate.status[i] != before:
            solver[i] = "farkas_ray"
