"""The exact reference: the layer problem's statement, solved by a CVXPY solver, one signal at a time.

Every solver gets the same problem in normalised units (|W| = 1, data of length 1), masked rows sliced away, the
normal-equation (Gram) form where there are more on rows than unknowns, and one tolerance translated into its own words.
What it says of its own success is kept in `solver_status` and never believed.
"""

import importlib.util
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BackendNotInstalledError, ProblemTooLargeError
from ..layers.core.certificate import INFEASIBLE, certify
from ..layers.core.problem import AbstractLayerProblem, Point, Statement
from ..layers.core.rows import Sample
from .answer import Answer
from .apart import solve_apart
from .infeasible import find_ray
from .silence import silent_stdout

CVXPY_SOLVERS = ("CLARABEL", "OSQP", "SCS", "HIGHS", "ECOS")
_MODULES = {"CLARABEL": "clarabel", "OSQP": "osqp", "SCS": "scs", "HIGHS": "highspy", "ECOS": "ecos", "SCIP": "pyscipopt"}
_QUADRATIC = ("quadratic", "layered")
_WITHOUT_CONES = ("OSQP", "HIGHS")
_INTERIOR_POINTS = ("CLARABEL", "ECOS")  # without a common point their iterates run off to 1e150
_SECONDS_ALLOWED = 600.0
_OPENING = 0.3  # of the violation that the judge allows


@dataclass(frozen=True)
class _Options:
    """How one solver spells the tolerance and the iteration limit, and what else it needs."""

    tolerances: tuple[str, ...]
    iterations: str | None
    extra: dict[str, Any]


_SPELLING = {
    "CLARABEL": _Options(("tol_gap_abs", "tol_gap_rel", "tol_feas"), "max_iter", {}),
    # a fixed interval: a timing-based one gives two answers in two runs
    "OSQP": _Options(("eps_abs", "eps_rel"), "max_iter", {"adaptive_rho_interval": 50, "polishing": True}),
    "SCS": _Options(("eps_abs", "eps_rel"), "max_iters", {}),
    # HiGHS has no iteration limit for QPs that is sure to stop it
    # threads gain nothing at this size
    "HIGHS": _Options((), None, {"time_limit": 60.0, "parallel": "off"}),
    "ECOS": _Options(("abstol", "reltol", "feastol"), "max_iters", {}),
}
_DEFAULT_ITERATIONS = {"CLARABEL": 200, "OSQP": 20_000, "SCS": 50_000, "ECOS": 200}
_FLOORS = {"CLARABEL": 1e-14, "OSQP": 1e-10, "SCS": 1e-10, "ECOS": 1e-12}


def require(solver: str) -> None:
    """Raise BackendNotInstalledError, with the install command, if the solver's package is missing."""
    module = _MODULES[solver]
    if importlib.util.find_spec(module) is None:
        extra = "pip install ecos (ECOS is GPL-3.0)" if solver == "ECOS" else f"pip install {module}"
        raise BackendNotInstalledError(f"solver {solver} needs the package {module}, which is not installed: {extra}")


def refuses(problem: AbstractLayerProblem, solver: str) -> str | None:
    """Why a CVXPY solver cannot take this problem, or None."""
    name = type(problem).__name__
    if problem.form == "curved":
        return f"expected a convex layer problem for {solver}, got {name}; use solver='auto' or 'fista'"
    if problem.form == "ball" and solver in _WITHOUT_CONES:
        return f"{solver} takes no l2 bound ({name}); use CLARABEL, SCS or ECOS, or solver='auto'"
    return None


def predicted_seconds(problem: AbstractLayerProblem) -> float:
    """Rough time of one CVXPY interior-point solve of the largest signal, seconds.

    About 15 Newton systems of dense n x n, plus building and scaling an (off rows + n) x n constraint matrix; the
    constants were fitted to CLARABEL on one machine, and say the order of what another one takes.
    """
    n, off = problem.n, int(problem.rows.off.sum(1).max())
    return 0.02 + 4e-9 * n**2 * (n + off) + 3e-7 * n * (n + off)


def solve_reference(
    problem: AbstractLayerProblem,
    solver: str,
    *,
    tol: float,
    max_iter: int | None,
    force: bool,
    options: dict[str, Any],
    tick: Callable[[int], object],
) -> Answer:
    """Solve every signal of a normalised problem.

    A signal that the solver gives no values for gets NaN, which the judge calls `numerical_error`, or a checked Farkas
    ray where it claims `infeasible`. `tick(1)` is called after each signal.
    """
    require(solver)
    refusal = refuses(problem, solver)
    if refusal:
        raise ValueError(refusal)
    seconds = predicted_seconds(problem) * problem.N
    if seconds > _SECONDS_ALLOWED and not force:
        raise ProblemTooLargeError(
            f"CVXPY with {solver} on {problem.N} signals with {problem.n} unknowns would take about {seconds:.0f} s; "
            "pass force=True to run it all the same, fewer signals, or solver='auto'"
        )
    settings = _settings(problem, solver, tol, max_iter) | options
    h = torch.full((problem.N, problem.n), torch.nan, dtype=torch.float64)
    p = torch.zeros(problem.N, problem.rows.m, dtype=torch.float64)
    iterations = torch.zeros(problem.N, dtype=torch.long)
    words = []
    for i in range(problem.N):
        word, iterations[i] = _solve_one(problem, i, solver, settings, tol, h, p)
        words.append(word)
        tick(1)
    found = Answer.by(Point(h.to(problem.rows.y.device), p.to(problem.rows.y.device)), solver)
    return replace(found, iterations=iterations, solver_status=tuple(words))


def _settings(problem: AbstractLayerProblem, solver: str, tol: float, max_iter: int | None) -> dict[str, Any]:
    spelling = _SPELLING[solver]
    # the optimum may be 0: only a tolerance far below `tol` lets the judge's relative gap hold there
    inner = max(tol * (1e-6 if problem.form in ("quadratic", "layered", "excess") else 1e-3), _FLOORS.get(solver, 0.0))
    settings: dict[str, Any] = dict.fromkeys(spelling.tolerances, inner) | spelling.extra
    if spelling.iterations is not None:
        settings[spelling.iterations] = max_iter or _DEFAULT_ITERATIONS[solver]
    elif max_iter is not None:
        settings["qp_iteration_limit" if problem.form in _QUADRATIC else "simplex_iteration_limit"] = max_iter
    if solver == "HIGHS" and problem.form in ("interval", "excess"):
        settings |= dict.fromkeys(("primal_feasibility_tolerance", "dual_feasibility_tolerance"), 1e-10)
    return settings


def _solve_one(
    problem: AbstractLayerProblem,
    i: int,
    solver: str,
    settings: dict[str, Any],
    tol: float,
    h: Tensor,
    p: Tensor,
    retry: bool = True,
) -> tuple[str, int]:
    import cvxpy as cp

    h[i] = 0.0
    if _proved(problem, i, h, p, tol):
        return "infeasible: not asked, a bound is empty", 0
    h[i] = torch.nan
    sample = problem.rows.sample(i)
    started = time.perf_counter()
    gram = problem.form == "quadratic" and len(sample.y_on) > sample.n
    statement, error = _attempt(problem, sample, i, gram, solver, settings)
    if error and gram:
        # the normal equations square the condition number, which an interior point may not survive
        statement, error = _attempt(problem, sample, i, False, solver, settings)
    if error:
        return error, 0
    word = f"{statement.problem.status} ({time.perf_counter() - started:.2f} s)"
    value = statement.h.value
    if value is not None and np.isfinite(value).all():
        h[i] = torch.as_tensor(value).clamp(min=0) if problem.nonnegative else torch.as_tensor(value)
        p[i] = _dual_point(problem, i, h[i], statement)
    elif statement.problem.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        h[i] = 0.0
        p[i] = find_ray(problem, i).cpu()
    if retry and _lost_its_way(problem, solver, statement.problem.status) and not _proved(problem, i, h, p, tol):
        # bounds that rounding made contradictory: open them within what the judge allows
        return _solve_one(problem.opened(_OPENING * tol * problem.rows.scale()), i, solver, settings, tol, h, p, False)
    stats = statement.problem.solver_stats
    return word, int(stats.num_iters or 0) if stats is not None else 0


def _lost_its_way(problem: AbstractLayerProblem, solver: str, status: str) -> bool:
    """Whether the solver may have met bounds without a common point: it says so, or an interior point ran out of steps."""
    import cvxpy as cp

    if status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        return True
    return status == cp.USER_LIMIT and problem.form == "interval" and solver in _INTERIOR_POINTS


def _proved(problem: AbstractLayerProblem, i: int, h: Tensor, p: Tensor, tol: float) -> bool:
    """Whether p of signal i proves that it is infeasible."""
    device = problem.rows.y.device
    one, point = problem.take(torch.tensor([i], device=device)), Point(h[i : i + 1].to(device), p[i : i + 1].to(device))
    return bool(certify(one, point, tol=tol, thorough=False).status[0] == INFEASIBLE)


def _attempt(
    problem: AbstractLayerProblem, sample: Sample, i: int, gram: bool, solver: str, settings: dict[str, Any]
) -> tuple[Statement, str]:
    """The statement after the solver's try at it, and the error that it raised, or ""."""
    import cvxpy as cp

    statement = problem.statement(sample, i, gram)
    # whoever asks for words gets them
    with warnings.catch_warnings(), nullcontext() if settings.get("verbose") else silent_stdout():
        # CVXPY warns of inaccurate solutions and of numpy's own matmul flags; the judge says it per signal
        warnings.simplefilter("ignore")
        try:
            if solver == "HIGHS" and problem.form in _QUADRATIC:
                solve_apart(statement.problem, settings)
            else:
                statement.problem.solve(solver=solver, **settings)
        except (cp.SolverError, ArithmeticError, ValueError) as error:
            return statement, f"error: {error}".splitlines()[0]
    return statement, ""


def _dual_point(problem: AbstractLayerProblem, i: int, h: Tensor, statement: Statement) -> Tensor:
    """p of signal i: the gradient of the misfit, and the solver's multipliers of whatever bounds W h + b."""
    one = problem.take(torch.tensor([i], device=problem.rows.y.device))
    r = one.rows.residual(h[None].to(one.rows.y))
    p = (one.fit * r)[0].cpu()
    for bound in statement.bounds:
        value = bound.constraint.dual_value
        if value is not None and np.isfinite(value).all():
            p[torch.as_tensor(bound.rows)] += bound.sign * torch.as_tensor(value, dtype=p.dtype)
    if statement.ball is not None and statement.ball.dual_value is not None:
        # L = ... - (t, u)'(eps, w^(1/2) misfit) for the cone's dual (t, u)
        u = np.asarray(statement.ball.dual_value[1], dtype=float).reshape(-1)
        on = one.rows.on[0].cpu()
        if np.isfinite(u).all():
            p[on] -= one.rows.weight[0].cpu()[on].sqrt() * torch.as_tensor(u, dtype=p.dtype)
    return p
