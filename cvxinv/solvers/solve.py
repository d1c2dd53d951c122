"""`solve`: one entry for every solver of a layer problem. Normalise before, judge after in the original units."""

import difflib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..batch import per_signal, shared
from ..errors import ConvergenceWarning, UnsolvedError
from ..inputs import describe, plain_number
from ..layers.core.certificate import OPTIMAL, STATIONARY, certify
from ..layers.core.export import layer_claims, write_claims
from ..layers.core.problem import AbstractLayerProblem, Point
from ..layers.normalised_basis_pursuit import NormalisedBasisPursuit
from ..layers.normalised_lasso import NormalisedLasso
from ..surroundings import undisturbed
from ..tables import SHOWN, html_table, left_out, number
from .answer import Answer, Judged
from .choose import chunks, solve_auto, unscaled
from .implicit import check_graph, with_derivatives
from .known import SOLVERS, TORCH_SOLVERS, described, torch_solver
from .loop import LARGEST_COMPLETED, complete_left, lacking, merit, polish_left, run
from .openings import Step, summary
from .reference import CVXPY_SOLVERS, solve_reference
from .shared.precision import coarse_products, fits
from .solver import AbstractSolver
from .unit_columns import Normalised, plain

_DELAY = 2.0  # seconds before a bar that nobody asked for shows itself


@dataclass(frozen=True, eq=False)
class Solution(Judged):
    """Points of a batch and what they prove. h and p are on the problem's device, all the rest on the CPU.

    h: `(N, n)`; p: `(N, m)`; certificate: the judge's, in original units; iterations: `(N,)`; polished: whether the
    point solves the equations of its activity exactly, `(N,)`; solver: who gave it, per signal; solver_status: a CVXPY
    solver's own words ("" for others); seconds: wall time of the call; steps: what was asked, why, and what came of it;
    problem: what was solved, None where that is not known (after loading). differentiable: of a differentiable call, which
    signals have a derivative, bool `(N,)`; else None.
    """

    seconds: float = shared()
    steps: tuple[Step, ...] = ()
    problem: AbstractLayerProblem | None = None
    differentiable: Tensor | None = per_signal(default=None)

    def take(self, index: Tensor | slice) -> Self:
        """The signals at `index` (a bool mask, positions, or a slice)."""
        part = super().take(index)
        if self.problem is None or len(part) == 0:
            return replace(part, problem=None)
        positions = torch.arange(len(self), device="cpu")[index if isinstance(index, slice) else index.cpu()]
        return replace(part, problem=self.problem.take(positions.to(self.h.device)))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The solutions of the parts of a batch, as one; its problem is not known."""
        if len(parts) == 1:
            return parts[0]
        steps = tuple(step for part in parts for step in part.steps)
        return replace(super().joined(parts), seconds=sum(part.seconds for part in parts), steps=steps, problem=None)

    def export(self, path: str | Path) -> Path:
        """Write what is claimed, and all that it takes to check it, to one file for `cvxinv check`; returns its path.

        Raises ValueError where the problem is not known; OSError where the file cannot be written.
        """
        path = Path(path)
        write_claims({path: layer_claims(self.problem, self.point, self.certificate)})
        return path

    def __repr__(self) -> str:
        names = ", ".join(f"{self.solver.count(s)} by {s}" for s in dict.fromkeys(self.solver))
        return f"Solution ({names}; {self.seconds:.2f} s): {self.certificate!r}"

    def _repr_html_(self) -> str:
        found, shown = self.certificate, min(SHOWN, len(self))
        rows = [
            (
                i,
                found.status[i],
                number(found.objective[i]),
                number(found.gap[i]),
                number(found.violation[i]),
                self.solver[i],
            )
            for i in range(shown)
        ]
        names = ("signal", "status", "objective", "gap", "violation", "solver")
        return html_table(repr(self), names, rows, [left_out(len(self))])

    def explain(self) -> str:
        """Which method was asked for what reason, how many signals it solved, and how long it took; a line for each."""
        return "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, 1))


def solve(
    problem: AbstractLayerProblem,
    solver: str | AbstractSolver = "auto",
    *,
    tol: float = 1e-6,
    max_iter: int | None = None,
    polish: bool = True,
    on_fail: str = "warn",
    progress: bool | None = None,
    force: bool = False,
    solver_options: dict[str, Any] | None = None,
    differentiable: bool = False,
) -> Solution:
    """Solve a layer problem for a whole batch and judge every signal.

    solver: "auto"; a torch solver, by a name of the list below or as an object that carries options, e.g. `GraphADMM()`,
    also of a class of one's own (`AbstractSolver`); or a CVXPY solver by its name ("CLARABEL", "OSQP", "SCS", "HIGHS",
    "ECOS"; l2 bounds by CLARABEL, SCS and ECOS). tol: relative tolerance of the certificate. max_iter: iterations per
    signal; None takes the solver's own, and what "auto" asks first keeps its own. polish: go on to the exact point where the
    activity is identified; False stops at `tol`, in "auto" too. on_fail: "warn", "raise" (UnsolvedError, which carries the
    solution) or "ignore". progress: a bar of the signals done; None shows it on a terminal, when the call takes longer than
    two seconds. force: run a CVXPY call that is predicted to take over ten minutes. solver_options: passed to a CVXPY
    solver as they are. differentiable: h and p carry a graph, to every tensor requiring gradients that the problem was made
    from: W's weights, b, y, weight, and the problem's numbers (`layers/core/optimality` says when there are derivatives);
    `Solution.differentiable` says for which signals, the others count as constants and `on_fail` tells of them.

    [torch solvers]

    "auto" asks first what judges itself (`openings`), calls the judge once, and hands what is left to `choose`'s list;
    `Solution.explain()` says which solvers it asked, why, and what came of it.

    "auto" works in float64 whatever the problem's type, with lower precision inside where that is corrected; of a float32
    problem the point is rounded at the end. Solvers asked for by name iterate float32 problems in float32 where they can,
    unless this process rounds such products to TF32 or bf16. The judge sees the point as it is returned, in float64.

    Returns a `Solution` in the problem's type and device. Raises ValueError for an unknown solver or option, or one that
    cannot serve the problem, TypeError for what is no problem or no solver, ProblemTooLargeError,
    BackendNotInstalledError.
    """
    options = {"tol": tol, "max_iter": max_iter, "polish": polish, "on_fail": on_fail, "progress": progress}
    if differentiable and isinstance(problem, AbstractLayerProblem):
        check_graph(problem)
    solution = _solved(problem, solver, **options, force=force, solver_options=solver_options)  # type: ignore[arg-type]
    return with_derivatives(solution, on_fail) if differentiable else solution


@undisturbed
def _solved(
    problem: AbstractLayerProblem,
    solver: str | AbstractSolver,
    *,
    tol: float,
    max_iter: int | None,
    polish: bool,
    on_fail: str,
    progress: bool | None,
    force: bool,
    solver_options: dict[str, Any] | None,
) -> Solution:
    """`solve`, values alone."""
    tol, max_iter = plain_number(tol), plain_number(max_iter)  # type: ignore[assignment]
    _check_arguments(problem, solver, tol, max_iter, on_fail, solver_options)
    if isinstance(problem, NormalisedLasso | NormalisedBasisPursuit):
        options = {"max_iter": max_iter, "polish": polish, "force": force, "solver_options": solver_options}
        solution = _in_unit_columns(problem, solver, tol=tol, progress=progress, **options)
        _report_failures(solution, on_fail)
        return solution
    started, steps, name = time.perf_counter(), list[Step](), name_of(solver)
    with _bar(problem.N, name, progress) as bar:

        def tick(signals: int) -> None:
            bar.update(min(signals, problem.N - bar.n))

        if solver == "auto":
            answer = solve_auto(problem, tol, max_iter, polish, steps, tick)
        else:
            torch_, options = torch_solver(solver), solver_options or {}
            if torch_ is not None:
                parts = [_by_torch(part, torch_, tol, max_iter, polish, tick) for part in chunks(problem)]
            else:
                parts = [_by_cvxpy(part, name, tol, max_iter, polish, force, options, tick) for part in chunks(problem)]
            found = Answer.joined(parts)
            answer = Judged.of(found, certify(problem, found.point, tol=tol))
        tick(problem.N)
    before, since = int(answer.certificate.holds.sum()), time.perf_counter()
    _complete(problem, answer, tol)
    gained = int(answer.certificate.holds.sum()) - before
    if steps and gained:
        seconds, why = time.perf_counter() - since, "p anew, in the problem's own units"
        steps.append(Step("multipliers", why, problem.N - before, gained, seconds))
    if not steps:
        steps = [Step(name, "asked for", problem.N, before + gained, time.perf_counter() - started)]
    seconds = time.perf_counter() - started
    solution = Solution.of(answer, answer.certificate, seconds=seconds, steps=tuple(steps), problem=problem)
    _report_failures(solution, on_fail)
    return solution


solve.__doc__ = str(solve.__doc__).replace("    [torch solvers]\n", described(indent=4))


def _in_unit_columns(problem: Normalised, solver: str | AbstractSolver, **options: Any) -> Solution:
    """The same for a dictionary with columns of length 1: solved over D h, and judged as it is."""
    started, rows, steps = time.perf_counter(), problem.rows, list[Step]()
    found = Answer.none(rows.y, rows.n)
    for part in plain(problem):
        got = solve(part.problem, solver, on_fail="ignore", **options)
        found.put(part.signals, replace(got, h=got.h / part.D, p=part.dual(got.p, rows.m)))
        steps.extend(got.steps)
    certificate = certify(problem, found.point, tol=options["tol"])
    solved_by = [who for who, held in zip(found.solver, certificate.holds.tolist(), strict=True) if held]
    told = tuple(summary(steps, solved_by))
    return Solution.of(found, certificate, seconds=time.perf_counter() - started, steps=told, problem=problem)


def _bar(N: int, name: str, progress: bool | None) -> tqdm:
    """A bar of N signals, moved whenever some are done; None: on a terminal, for what takes time."""
    if progress is None:
        return tqdm(total=N, desc=name, unit="signal", disable=None, leave=False, delay=_DELAY)
    return tqdm(total=N, desc=name, unit="signal", disable=not progress, mininterval=0)


def _check_arguments(
    problem: object,
    solver: str | AbstractSolver,
    tol: float,
    max_iter: int | None,
    on_fail: str,
    options: dict | None,
) -> None:
    if not isinstance(problem, AbstractLayerProblem):
        raise TypeError(f"expected a layer problem, got {describe(problem)}; e.g. cvxinv.NonnegativeLasso(rows, lam)")
    check_solver(solver)
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    if not (isinstance(tol, (int, float)) and 0 < tol < 1):
        raise ValueError(f"tol must be between 0 and 1, got {tol!r}; pass e.g. tol=1e-6")
    if max_iter is not None and (isinstance(max_iter, bool) or not isinstance(max_iter, int) or max_iter < 1):
        raise ValueError(f"max_iter must be a positive integer or None, got {max_iter!r}")
    if options and solver not in CVXPY_SOLVERS:
        raise ValueError(f"solver_options are for CVXPY solvers, got {options} with solver={solver!r}; leave them out")
    asked = torch_solver(solver)
    reason = None if asked is None else asked.refuses(problem)
    if reason:
        others = [name for name, kind in TORCH_SOLVERS.items() if kind.refuses(problem) is None]
        raise ValueError(
            f"solver {name_of(solver)!r} cannot serve {type(problem).__name__}: {reason}; "
            f"use 'auto', {', '.join(map(repr, others))}"
        )


def check_solver(solver: object) -> None:
    """Raise TypeError or ValueError unless `solver` is one: a name of `SOLVERS`, or an object of an `AbstractSolver`."""
    if isinstance(solver, type) and issubclass(solver, AbstractSolver):
        raise TypeError(f"expected a solver, got the class {solver.__name__}; pass an object of it, {solver.__name__}()")
    if not isinstance(solver, AbstractSolver):
        check_choice(solver, SOLVERS, "solver")


def name_of(solver: str | AbstractSolver) -> str:
    """What a solver is called in messages and results."""
    return solver if isinstance(solver, str) else solver.name


def check_choice(value: object, choices: tuple[str, ...], name: str) -> None:
    """Raise ValueError with the closest name if `value` is not one of `choices`."""
    if isinstance(value, str) and value in choices:
        return
    lower = {c.lower(): c for c in choices}
    near = difflib.get_close_matches(str(value).lower(), list(lower), n=1, cutoff=0.5)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    raise ValueError(f"unknown {name} {value!r}: {hint}expected one of {', '.join(map(repr, choices))}")


def _by_torch(
    problem: AbstractLayerProblem,
    solver: AbstractSolver,
    tol: float,
    max_iter: int | None,
    polish: bool,
    tick: Callable[[int], None],
) -> Answer:
    scaled = problem.to(torch.float64).normalised()  # in float32 the scales themselves may overflow
    dtype = problem.rows.W.dtype
    single = not solver.needs_float64 and not coarse_products(problem.rows.y.device) and fits(scaled.problem, dtype)
    small = scaled.problem.to(dtype) if single else scaled.problem
    return unscaled(run(solver, small, tol=tol, max_iter=max_iter, polish=polish, tick=tick), scaled, problem)


def _by_cvxpy(
    problem: AbstractLayerProblem,
    solver: str,
    tol: float,
    max_iter: int | None,
    polish: bool,
    force: bool,
    options: dict[str, Any],
    tick: Callable[[int], None],
) -> Answer:
    scaled = problem.to(torch.float64).normalised()
    small = scaled.problem
    found = solve_reference(small, solver, tol=tol, max_iter=max_iter, force=force, options=options, tick=tick)
    reached, asked = Judged.of(found, certify(small, found.point, tol=tol)), found.iterations.clone()
    if polish:
        polish_left(reached, torch.arange(problem.N), small, tol, 0)
    left = lacking(reached.certificate)
    if len(left):
        complete_left(reached, left, small.take(left.to(problem.rows.y.device)), tol, 0)
    reached.iterations[:] = asked
    return unscaled(reached, scaled, problem)


def _complete(problem: AbstractLayerProblem, answer: Judged, tol: float) -> None:
    """Points that meet their bounds, without a bound on the objective in these units: p built from h, where it is better.

    What is next to a limit of rounding may hold in normalised units and not in the problem's own.
    """
    left = lacking(answer.certificate)
    if len(left) == 0 or problem.n > LARGEST_COMPLETED or problem.form == "curved":
        return
    there = left.to(answer.h.device)
    part = problem.take(there)
    p = part.to(torch.float64).complete(answer.h[there].double()).to(answer.p.dtype)
    again = certify(part, Point(answer.h[there], p), tol=tol)
    better = merit(again) < merit(answer.certificate.take(left))
    if bool(better.any()):
        answer.p[there[better.to(there.device)]] = p[better.to(p.device)]
        answer.certificate.put(left[better], again.take(better))


def _report_failures(solution: Solution, on_fail: str) -> None:
    bad = np.flatnonzero((solution.status != OPTIMAL) & (solution.status != STATIONARY))
    if len(bad) == 0 or on_fail == "ignore":
        return
    first = ", ".join(f"{i} ({solution.status[i]})" for i in bad[:5])
    message = f"{len(bad)} of {len(solution)} signals are not optimal: {first}{', ...' if len(bad) > 5 else ''}"
    if on_fail == "raise":
        raise UnsolvedError(message + "; the exception's .result carries the solution", solution)
    warnings.warn(message + "; see .certificate", ConvergenceWarning, stacklevel=5)
