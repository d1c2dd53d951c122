"""`solve`: one entry for every solver of a layer problem. Normalise before, judge after in the original units."""

import difflib
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..certificate import OPTIMAL, STATIONARY, Certificate, certify
from ..errors import ConvergenceWarning, UnsolvedError
from ..inputs import describe
from ..layer_problem import AbstractLayerProblem, Point
from .choose import TORCH_SOLVERS, chunk_size, run_method, solve_auto
from .loop import Reached, polish_left
from .reference import CVXPY_SOLVERS, solve_reference

SOLVERS = ("auto", *TORCH_SOLVERS, *CVXPY_SOLVERS)


@dataclass(frozen=True, eq=False)
class Solution:
    """Points of a batch and what they prove.

    h: `(N, n)`; p: `(N, m)`; certificate: the judge's, in original units; iterations: `(N,)`; polished: whether the
    active-set polish gave the point, `(N,)`; solver: who gave it, per signal; solver_status: a CVXPY solver's own
    words ("" for others); seconds: wall time of the call.
    """

    h: Tensor
    p: Tensor
    certificate: Certificate
    iterations: Tensor
    polished: Tensor
    solver: tuple[str, ...]
    solver_status: tuple[str, ...]
    seconds: float

    @property
    def point(self) -> Point:
        """h and p as a `Point`."""
        return Point(self.h, self.p)

    @property
    def status(self) -> np.ndarray:
        """The certificate's statuses."""
        return self.certificate.status

    def __len__(self) -> int:
        return len(self.h)

    def take(self, index: Tensor | slice) -> "Solution":
        """The signals at `index` (a bool mask, positions, or a slice)."""
        positions = np.arange(len(self))[index if isinstance(index, slice) else index.cpu().numpy()]
        return replace(
            self,
            h=self.h[index],
            p=self.p[index],
            certificate=self.certificate.take(index),
            iterations=self.iterations[index],
            polished=self.polished[index],
            solver=tuple(self.solver[k] for k in positions),
            solver_status=tuple(self.solver_status[k] for k in positions),
        )

    def __repr__(self) -> str:
        names = ", ".join(f"{self.solver.count(s)} by {s}" for s in dict.fromkeys(self.solver))
        return f"Solution ({names}; {self.seconds:.2f} s): {self.certificate!r}"


def solve(
    problem: AbstractLayerProblem,
    solver: str = "auto",
    *,
    tol: float = 1e-6,
    max_iter: int | None = None,
    polish: bool = True,
    on_fail: str = "warn",
    progress: bool | None = None,
    force: bool = False,
    solver_options: dict[str, Any] | None = None,
) -> Solution:
    """Solve a layer problem for a whole batch and judge every signal.

    solver: "auto", a torch method ("interior_point", "graph_admm", "pdhg", "root_finding" for l2 bounds, "fista" for squared
    misfits without off rows, "linearized_admm" for those with them), or a CVXPY solver by its name ("CLARABEL", "OSQP",
    "SCS", "HIGHS", "ECOS"; l2 bounds by CLARABEL, SCS and ECOS). tol: relative tolerance of the certificate. max_iter:
    iterations per signal; None takes the method's own. polish: finish with the polish that fits the problem. on_fail:
    "warn", "raise" (UnsolvedError, which carries the solution) or "ignore". progress: a bar; None shows it on a terminal
    when a CVXPY loop is long. force: run a CVXPY call that is predicted to take over ten minutes. solver_options: passed
    to a CVXPY solver as they are.

    Returns a `Solution` in the problem's type and device. Raises ValueError for an unknown solver or option, or one that
    cannot serve the problem, ProblemTooLargeError, BackendNotInstalledError.
    """
    _check_arguments(problem, solver, tol, max_iter, on_fail, solver_options)
    _check_served(problem, solver)
    started = time.perf_counter()
    parts = []
    size = chunk_size(problem)
    quiet = solver not in CVXPY_SOLVERS or (progress is None and problem.N < 20)
    with tqdm(total=problem.N, desc=solver, unit="signal", disable=True if quiet else not progress and None) as bar:
        for start in range(0, problem.N, size):
            piece = problem if size >= problem.N else problem.take(torch.arange(start, min(start + size, problem.N)))
            parts.append(_solve_chunk(piece, solver, tol, max_iter, polish, force, solver_options or {}, bar.update))
    h, p = torch.cat([x[0].h for x in parts]), torch.cat([x[0].p for x in parts])
    certificate = certify(problem, Point(h, p), tol=tol)
    solution = Solution(
        h, p, certificate,
        torch.cat([x[1] for x in parts]), torch.cat([x[2] for x in parts]),
        tuple(s for x in parts for s in x[3]), tuple(s for x in parts for s in x[4]),
        time.perf_counter() - started,
    )  # fmt: skip
    _report_failures(solution, on_fail)
    return solution


def _check_arguments(
    problem: object, solver: str, tol: float, max_iter: int | None, on_fail: str, options: dict | None
) -> None:
    if not isinstance(problem, AbstractLayerProblem):
        raise TypeError(f"expected a layer problem, got {describe(problem)}; e.g. cvxinv.NonnegativeLasso(rows, lam)")
    check_choice(solver, SOLVERS, "solver")
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    if not (isinstance(tol, (int, float)) and 0 < tol < 1):
        raise ValueError(f"tol must be between 0 and 1, got {tol!r}; pass e.g. tol=1e-6")
    if max_iter is not None and not (isinstance(max_iter, int) and max_iter > 0):
        raise ValueError(f"max_iter must be a positive integer or None, got {max_iter!r}")
    if options and solver not in CVXPY_SOLVERS:
        raise ValueError(f"solver_options are for CVXPY solvers, got {options} with solver={solver!r}; leave them out")


def _check_served(problem: AbstractLayerProblem, solver: str) -> None:
    reason = TORCH_SOLVERS[solver].refuses(problem) if solver in TORCH_SOLVERS else None
    if reason:
        others = [name for name, method in TORCH_SOLVERS.items() if method.refuses(problem) is None]
        raise ValueError(
            f"solver {solver!r} cannot serve {type(problem).__name__}: {reason}; use 'auto', {', '.join(map(repr, others))}"
        )


def check_choice(value: object, choices: tuple[str, ...], name: str) -> None:
    """Raise ValueError with the closest name if `value` is not one of `choices`."""
    if isinstance(value, str) and value in choices:
        return
    lower = {c.lower(): c for c in choices}
    near = difflib.get_close_matches(str(value).lower(), list(lower), n=1, cutoff=0.5)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    raise ValueError(f"unknown {name} {value!r}: {hint}expected one of {', '.join(map(repr, choices))}")


def _solve_chunk(problem, solver, tol, max_iter, polish, force, options, tick):
    """Points in original units, iterations, polished, who, own words."""
    dtype = problem.rows.W.dtype
    single = solver in TORCH_SOLVERS and not TORCH_SOLVERS[solver].needs_float64
    work = problem if single else problem.to(torch.float64)
    scaled = work.normalised()
    small, words = scaled.problem, [""] * problem.N
    if solver == "auto":
        reached, who = solve_auto(small, tol, max_iter)
    elif solver in TORCH_SOLVERS:
        method = TORCH_SOLVERS[solver]
        reached = run_method(method, small, tol=tol, max_iter=max_iter or method.max_iter, polish=polish)
        who = [solver] * problem.N
    else:
        point, iterations, words = solve_reference(
            small, solver, tol=tol, max_iter=max_iter, force=force, options=options, tick=tick
        )
        reached = Reached(point, certify(small, point, tol=tol), iterations, torch.zeros(problem.N, dtype=torch.bool))
        if polish:
            polish_left(reached, torch.arange(problem.N), small, tol, 0)
            reached.iterations[:] = iterations
        who = [solver] * problem.N
    h = (reached.point.h * scaled.h_unit).to(dtype)
    p = (reached.point.p * scaled.p_unit).to(dtype)
    return Point(h, p), reached.iterations, reached.polished, who, words


def _report_failures(solution: Solution, on_fail: str) -> None:
    bad = np.flatnonzero((solution.status != OPTIMAL) & (solution.status != STATIONARY))
    if len(bad) == 0 or on_fail == "ignore":
        return
    first = ", ".join(f"{i} ({solution.status[i]})" for i in bad[:5])
    message = f"{len(bad)} of {len(solution)} signals are not optimal: {first}{', ...' if len(bad) > 5 else ''}"
    if on_fail == "raise":
        raise UnsolvedError(message + "; the exception's .result carries the solution", solution)
    warnings.warn(message + "; see .certificate", ConvergenceWarning, stacklevel=3)
