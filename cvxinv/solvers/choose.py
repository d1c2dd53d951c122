"""`solver="auto"`: which method for what, and why.

Squared misfits:
1. Block pivoting: a few active-set rounds at the size of each signal's own support; most signals end here, exactly.
2. Where lam = 0, active-set rounds from the least-squares point for what is left. On realizable data they are exact
   whatever the conditioning, because their equations are nudged and refined against W itself.
   Where lam = 0 leaves h open (fewer on rows than unknowns), the minimiser with the least sum is looked for next.
3. Interior point with polish, where n x n matrices per signal fit: insensitive to conditioning, which on trained layers is
   where first-order methods stall (linearised ADMM needs 20,000 to 60,000 iterations at condition 9e4).
4. Graph-form ADMM with polish for what is left, and alone beyond `LARGEST_NEWTON` unknowns.

An l2 bound: root finding on the penalty; without its bound (interior point) where off rows alone decide; then ADMM.
Linear programs: interior point with crossover; then PDHG. Behind an activation, not convex: FISTA.
Whatever is still left: a p that proves infeasibility is looked for, and checked by the judge.
Problems that weigh |h| are solved in their two halves (`signed`).
"""

from dataclasses import replace

import torch

from ..certificate import INFEASIBLE, OPTIMAL, OPTIMAL_INACCURATE, STATIONARY, certify
from ..layer_problem import AbstractLayerProblem, Point
from ..layers.gaussian_latent import GaussianLatent
from ..layers.interval_basis_pursuit import IntervalBasisPursuit, NonnegativeBasisPursuitLinf
from ..layers.lasso import Lasso
from ..layers.nonnegative_lasso import NonnegativeLasso
from .active_set import least_squares_start, polish
from .fista import FISTA
from .graph_admm import GraphADMM
from .infeasible import find_ray
from .interior_point import InteriorPoint
from .linearized_admm import LinearizedADMM
from .loop import AbstractMethod, Reached, at_zero, offer, run
from .pdhg import PDHG
from .pivoting import BlockPivoting
from .root_finding import RootFinding
from .signed import halves, together

TORCH_SOLVERS: dict[str, type[AbstractMethod]] = {
    method.name: method for method in (GraphADMM, InteriorPoint, LinearizedADMM, RootFinding, PDHG, FISTA, BlockPivoting)
}
_CASCADE: dict[str, tuple[type[AbstractMethod], ...]] = {
    "quadratic": (InteriorPoint, GraphADMM),
    "ball": (RootFinding, GraphADMM),
    "interval": (InteriorPoint, PDHG),
    "curved": (FISTA,),
}
LARGEST_NEWTON = 1500  # unknowns beyond which an n x n Cholesky per signal and iteration costs over a second
_EQUAL = 1e-6  # an l2 bound in units of s_y that is tried as 0 first
_ROUNDS = 25  # of block pivoting: trained layers take up to 21, and what cycles must not wait long
_TILT = 1e-6  # lam in normalised units that breaks the tie, far below what moves a determined h
_MEMORY = 1_500_000_000  # bytes of n x n and m-wide work space per chunk of signals


def chunk_size(problem: AbstractLayerProblem) -> int:
    """How many signals fit the work space at once."""
    n, m = problem.n, problem.rows.m
    per_signal = 8 * (6 * min(n, LARGEST_NEWTON) ** 2 + 30 * (n + m))
    return max(1, _MEMORY // per_signal)


def run_method(
    method: type[AbstractMethod], problem: AbstractLayerProblem, *, tol: float, max_iter: int, polish: bool
) -> Reached:
    """Run one method on a normalised problem, in its two halves where the method wants h >= 0."""
    if not (problem.absolute and method.on_halves):
        return run(method, problem, tol=tol, max_iter=max_iter, polish=polish)
    return _joined(problem, run(method, halves(problem), tol=tol, max_iter=max_iter, polish=polish), tol)


def _joined(problem: AbstractLayerProblem, reached: Reached, tol: float) -> Reached:
    point = together(reached.point)
    return Reached(point, certify(problem, point, tol=tol), reached.iterations, reached.polished)


def solve_auto(problem: AbstractLayerProblem, tol: float, max_iter: int | None) -> tuple[Reached, list[str]]:
    """Run the cascade of the module on a normalised float64 problem; also returns who solved each signal."""
    rows, reached = problem.rows, at_zero(problem, tol)
    solver = ["active_set" if problem.form == "quadratic" else "zero"] * problem.N
    if problem.absolute and problem.n <= LARGEST_NEWTON:
        _solve_signed(problem, reached, tol, max_iter, solver)
        return reached, solver
    small = problem.n <= LARGEST_NEWTON * (2 if problem.form != "quadratic" else 1)
    if small and problem.form == "quadratic":
        _pivot(problem, reached, tol, solver)
        left = _open(reached)
        left = left[(problem.linear[:, 0] == 0).cpu()[left]]
        if len(left):
            part = problem.take(left.to(rows.y.device))
            offer(reached, left, part, polish(part, least_squares_start(part), 10), tol, 1, polished=True)
        _look_for_sparse(problem, reached, tol, solver)
    if problem.form == "ball":
        _look_for_equalities(problem, reached, tol, solver)
    bounded, asked = problem.form in ("ball", "interval"), False
    for number, method in enumerate(_CASCADE[problem.form]):
        if not small and method.needs_float64:
            continue
        left = _rough(reached) if number and small else _open(reached)
        if len(left) == 0:
            break
        part = problem.take(left.to(rows.y.device))
        short = small and number > 0  # what a first-order method has not got by then it will not get
        limit = max_iter if max_iter is not None else min(method.max_iter, 2000 if short else 20_000)
        got = run(method, part, tol=tol, max_iter=limit, polish=True)
        _merge(reached, left, part, got, tol, solver, method.name)
        if method is RootFinding:
            _look_without_ball(problem, reached, tol, solver)
        if bounded and not asked:
            # before a first-order method spends its budget on what has no answer
            _look_for_rays(problem, reached, tol, solver)
            asked = True
    if not asked:
        _look_for_rays(problem, reached, tol, solver)
    return reached, solver


def _solve_signed(
    problem: AbstractLayerProblem, reached: Reached, tol: float, max_iter: int | None, solver: list[str]
) -> None:
    """Least squares where lam = 0 and it is unique (the halves, of which only the difference is, would lose digits), else
    the two halves."""
    free = torch.as_tensor([isinstance(problem, Lasso)] * problem.N) & (problem.linear[:, 0] == 0).cpu()
    alone = free.nonzero()[:, 0]
    if len(alone):
        part = problem.take(alone.to(problem.rows.y.device))
        method = BlockPivoting(GaussianLatent(part.rows, 0.0))
        method.advance(2)
        there = method.settled
        point, settled = method.point(), alone[there.cpu()]
        if len(settled):
            exact = Point(point.h[there], point.p[there])
            offer(reached, settled, part.take(there), exact, tol, 1, polished=True)
            for i in settled.tolist():
                solver[i] = method.name
    left = _open(reached)
    if len(left):
        part = problem.take(left.to(problem.rows.y.device))
        got, names = solve_auto(halves(part), tol, max_iter)
        _merge(reached, left, part, _joined(part, got, tol), tol, solver, names)


def _pivot(problem: AbstractLayerProblem, reached: Reached, tol: float, solver: list[str]) -> None:
    """Block pivoting on every signal; what it settles is exact."""
    method = BlockPivoting(problem)
    method.advance(_ROUNDS)
    settled = method.settled.nonzero()[:, 0]
    if len(settled) == 0:
        return
    part = problem if len(settled) == problem.N else problem.take(settled)
    point = method.point()
    offer(reached, settled.cpu(), part, Point(point.h[settled], point.p[settled]), tol, 0, polished=True)
    reached.iterations[settled.cpu()] = method.rounds[settled].cpu()
    for i in settled.tolist():
        solver[i] = method.name


def _look_for_equalities(problem: AbstractLayerProblem, reached: Reached, tol: float, solver: list[str]) -> None:
    """An l2 bound of next to nothing asks for W h + b = y: a linear program, whose LASSO for lam -> 0 is degenerate."""
    eps = problem.__dict__["eps"].cpu()
    left = _open(reached)
    left = left[(eps <= _EQUAL)[left]]
    if len(left) == 0:
        return
    part = problem.take(left.to(problem.rows.y.device))
    linear = NonnegativeBasisPursuitLinf(part.rows, 0.0)
    got = run(InteriorPoint, linear, tol=tol, max_iter=InteriorPoint.max_iter, polish=True)
    _merge(reached, left, part, got, tol, solver, InteriorPoint.name)


def _look_without_ball(problem: AbstractLayerProblem, reached: Reached, tol: float, solver: list[str]) -> None:
    """Where off rows push h so far that the misfit's bound is slack, the answer is that of the off rows alone."""
    left = _open(reached)
    left = left[((problem.rows._off & (problem.rows.b > 0)).any(1)).cpu()[left]]
    if len(left) == 0:
        return
    part = problem.take(left.to(problem.rows.y.device))
    lo, hi = part.limits()
    alone = IntervalBasisPursuit(replace(part.rows, on=torch.zeros_like(part.rows.on)), lo, hi)
    got = run(InteriorPoint, alone, tol=tol, max_iter=InteriorPoint.max_iter, polish=True)
    _merge(reached, left, part, got, tol, solver, InteriorPoint.name)


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
    return _with_other_status(reached, {OPTIMAL, INFEASIBLE, STATIONARY})


def _rough(reached: Reached) -> torch.Tensor:
    """What a first-order method can still improve; it never beats an interior point that ended near the optimum."""
    return _with_other_status(reached, {OPTIMAL, INFEASIBLE, STATIONARY, OPTIMAL_INACCURATE})


def _with_other_status(reached: Reached, done: set[str]) -> torch.Tensor:
    return torch.as_tensor([i for i, s in enumerate(reached.certificate.status) if s not in done], dtype=torch.long)


def _merge(
    reached: Reached,
    left: torch.Tensor,
    part: AbstractLayerProblem,
    got: Reached,
    tol: float,
    solver: list[str],
    name: str | list[str],
) -> None:
    before = reached.iterations.clone()
    names = [name] * len(left) if isinstance(name, str) else name
    offer(reached, left, part, got.point, tol, -1, polished=False)
    for k, i in enumerate(left.tolist()):
        if reached.iterations[i] == -1:
            reached.iterations[i], reached.polished[i], solver[i] = got.iterations[k], got.polished[k], names[k]
        else:
            reached.iterations[i] = before[i]


def _look_for_rays(problem: AbstractLayerProblem, reached: Reached, tol: float, solver: list[str]) -> None:
    """Where h = 0 breaks a bound and nothing was found: is there a p that proves that nothing can be?"""
    if problem.form == "curved":
        return
    broken = problem.violation(torch.zeros_like(reached.point.h)) > 0
    left = _rough(reached)
    for i in left[broken.cpu()[left]].tolist():
        part = problem.take(torch.tensor([i], device=problem.rows.y.device))
        ray = find_ray(part, 0).to(problem.rows.y)
        before = reached.certificate.status[i]
        offer(reached, torch.tensor([i]), part, Point(reached.point.h[i][None], ray[None]), tol, 0, polished=False)
        if reached.certificate.status[i] != before:
            solver[i] = "farkas_ray"
