"""`solve`: one entry for every solver of a layer problem. Normalise before, judge after in the original units."""

import difflib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConvergenceWarning, UnsolvedError
from ..inputs import describe, plain_number
from ..layers.core.certificate import OPTIMAL, STATIONARY, Certificate, certify, joined
from ..layers.core.export import layer_claims, write_claims
from ..layers.core.problem import AbstractLayerProblem, Point, Scaled
from ..surroundings import undisturbed
from .choose import TORCH_SOLVERS, chunk_size, solve_auto
from .loop import LARGEST_COMPLETED, Reached, complete_left, is_exact, lacking, merit, polish_left, run, without_dust
from .openings import Opened, Step, open_batch, summary
from .reference import CVXPY_SOLVERS, solve_reference
from .shared.precision import coarse_products, fits

SOLVERS = ("auto", *TORCH_SOLVERS, *CVXPY_SOLVERS)


@dataclass(frozen=True, eq=False)
class Solution:
    """Points of a batch and what they prove. h and p are on the problem's device, all the rest on the CPU.

    h: `(N, n)`; p: `(N, m)`; certificate: the judge's, in original units; iterations: `(N,)`; polished: whether the
    point solves the equations of its activity exactly, `(N,)`; solver: who gave it, per signal; solver_status: a CVXPY
    solver's own words ("" for others); seconds: wall time of the call; steps: what was asked, why, and what came of it;
    problem: what was solved, None where that is not known (after loading).
    """

    h: Tensor
    p: Tensor
    certificate: Certificate
    iterations: Tensor
    polished: Tensor
    solver: tuple[str, ...]
    solver_status: tuple[str, ...]
    seconds: float
    steps: tuple[Step, ...] = ()
    problem: AbstractLayerProblem | None = None

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
        here = index if isinstance(index, slice) else index.cpu()
        there = index if isinstance(index, slice) else index.to(self.h.device)
        positions = np.arange(len(self))[here if isinstance(here, slice) else here.numpy()]
        known = self.problem is not None and len(positions) > 0
        return replace(
            self,
            h=self.h[there],
            p=self.p[there],
            certificate=self.certificate.take(here),
            iterations=self.iterations[here],
            polished=self.polished[here],
            solver=tuple(self.solver[k] for k in positions),
            solver_status=tuple(self.solver_status[k] for k in positions),
            problem=self.problem.take(torch.as_tensor(positions, device=self.h.device)) if known else None,  # type: ignore[union-attr]
        )

    def export(self, path: str | Path) -> Path:
        """Write what is claimed, and all that it takes to check it, to one file for `cvxinv check`; returns its path.

        Raises ValueError where the problem is not known; OSError where the file cannot be written.
        """
        return write_claims(Path(path), layer_claims(self.problem, self.point, self.certificate))

    def __repr__(self) -> str:
        names = ", ".join(f"{self.solver.count(s)} by {s}" for s in dict.fromkeys(self.solver))
        return f"Solution ({names}; {self.seconds:.2f} s): {self.certificate!r}"

    def explain(self) -> str:
        """Which method was asked for what reason, how many signals it solved, and how long it took; a line for each."""
        return "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, 1))


@undisturbed
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

    solver: "auto", a torch method of the list below, or a CVXPY solver by its name ("CLARABEL", "OSQP", "SCS", "HIGHS",
    "ECOS"; l2 bounds by CLARABEL, SCS and ECOS). tol: relative tolerance of the certificate. max_iter: iterations per
    signal; None takes the method's own, and what "auto" asks first keeps its own. polish: go on to the exact point where the
    activity is identified; False stops at `tol`, in "auto" too. on_fail: "warn", "raise" (UnsolvedError, which carries the
    solution) or "ignore". progress: a bar; None shows it on a terminal when a CVXPY loop is long or a batch is solved in
    several chunks. force: run a CVXPY call that is predicted to take over ten minutes. solver_options: passed to a CVXPY
    solver as they are.

    Squared misfits:
      "block_pivoting"     active-set rounds at the size of each support; off rows, masks that differ; exact where it settles
      "sparse_active_set"  the same grown from few unknowns; ill-conditioned layers whose signals share a Gram matrix
      "shared_admm"        one product for the whole batch per iteration; even spectra, a shared Gram matrix, no off rows
      "interior_point"     a factorisation per signal and iteration, insensitive to conditioning; linear programs too
      "fista"              proximal gradient, no factorisation; no off rows; also problems behind an activation
      "linearized_admm"    no factorisation; off rows
    l2 bounds:
      "shared_pursuit"     `shared_admm` with the penalty on the way; a shared Gram matrix, no off rows
      "root_finding"       the penalty whose LASSO has that misfit; off rows
    All convex problems:
      "graph_admm"         one factorisation for the whole batch
      "pdhg"               no factorisation

    "auto" asks first what judges itself (`openings`), calls the judge once, and hands what is left to `choose`'s list;
    `Solution.explain()` says which methods it asked, why, and what came of it.

    "auto" works in float64 whatever the problem's type, with lower precision inside where that is corrected; of a float32
    problem the point is rounded at the end. Methods asked for by name iterate float32 problems in float32 where they can,
    unless this process rounds such products to TF32 or bf16. The judge sees the point as it is returned, in float64.

    Returns a `Solution` in the problem's type and device. Raises ValueError for an unknown solver or option, or one that
    cannot serve the problem, ProblemTooLargeError, BackendNotInstalledError.
    """
    tol, max_iter = plain_number(tol), plain_number(max_iter)  # type: ignore[assignment]
    _check_arguments(problem, solver, tol, max_iter, on_fail, solver_options)
    _check_served(problem, solver)
    started = time.perf_counter()
    steps: list[Step] = []
    quiet = (solver not in CVXPY_SOLVERS and problem.N <= chunk_size(problem)) or (progress is None and problem.N < 20)
    disable = True if quiet or progress is False else None if progress is None else False
    with tqdm(total=problem.N, desc=solver, unit="signal", disable=disable) as bar:
        if solver == "auto":
            found, certificate = _solve_auto(problem, tol, max_iter, polish, steps, bar.update)
        else:
            options = solver_options or {}
            found = _in_chunks(
                problem, chunk_size(problem),
                lambda part: _solve_chunk(part, solver, tol, max_iter, polish, force, options, bar.update),
            )  # fmt: skip
            certificate = certify(problem, found.point, tol=tol)
    before, since = int(certificate.holds.sum()), time.perf_counter()
    certificate = _completed(problem, found.point, certificate, tol)
    gained = int(certificate.holds.sum()) - before
    if steps and gained:
        seconds, why = time.perf_counter() - since, "p anew, in the problem's own units"
        steps.append(Step("multipliers", why, problem.N - before, gained, seconds))
    if not steps:
        steps = [Step(solver, "asked for", problem.N, int(certificate.holds.sum()), time.perf_counter() - started)]
    solution = Solution(
        found.point.h, found.point.p, certificate, found.iterations, found.polished, tuple(found.solver),
        tuple(found.words), time.perf_counter() - started, tuple(steps), problem,
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
    if max_iter is not None and (isinstance(max_iter, bool) or not isinstance(max_iter, int) or max_iter < 1):
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


def _completed(problem: AbstractLayerProblem, point: Point, certificate: Certificate, tol: float) -> Certificate:
    """Points that meet their bounds, without a bound on the objective in these units: p built from h, where it is better.

    What is next to a limit of rounding may hold in normalised units and not in the problem's own.
    """
    left = lacking(certificate)
    if len(left) == 0 or problem.n > LARGEST_COMPLETED or problem.form == "curved":
        return certificate
    there = left.to(point.h.device)
    part = problem.take(there)
    p = part.to(torch.float64).complete(point.h[there].double()).to(point.p.dtype)
    again = certify(part, Point(point.h[there], p), tol=tol)
    better = merit(again) < merit(certificate.take(left))
    if not bool(better.any()):
        return certificate
    point.p[there[better.to(there.device)]] = p[better.to(p.device)]
    rest = torch.ones(problem.N, dtype=torch.bool)
    rest[left[better]] = False
    order = torch.cat([rest.nonzero()[:, 0], left[better]])
    return joined([certificate.take(rest), again.take(better)]).take(order.argsort())


class _Found(NamedTuple):
    """Points in original units, iterations, whether they are exact, who found them, and a CVXPY solver's own words."""

    point: Point
    iterations: Tensor
    polished: Tensor
    solver: list[str]
    words: list[str]


def _in_chunks(problem: AbstractLayerProblem, size: int, call: Callable[[AbstractLayerProblem], _Found]) -> _Found:
    if size >= problem.N:
        return call(problem)
    device = problem.rows.y.device
    spans = [torch.arange(k, min(k + size, problem.N), device=device) for k in range(0, problem.N, size)]
    found = [call(problem.take(span)) for span in spans]
    return _Found(
        Point(torch.cat([f.point.h for f in found]), torch.cat([f.point.p for f in found])),
        torch.cat([f.iterations for f in found]), torch.cat([f.polished for f in found]),
        [s for f in found for s in f.solver], [w for f in found for w in f.words],
    )  # fmt: skip


def _solve_auto(
    problem: AbstractLayerProblem,
    tol: float,
    max_iter: int | None,
    polish: bool,
    steps: list[Step],
    tick: Callable[..., object],
) -> tuple[_Found, Certificate]:
    """The openings on everyone, one judgement, and the cascade on whom it does not call optimal."""

    def opening(part: AbstractLayerProblem) -> _Found:
        scaled = part.to(torch.float64).normalised()
        opened = open_batch(scaled.problem, tol, polish, steps)
        tick(part.N)
        return _Found(_unscaled(opened.point, scaled, part), opened.iterations, opened.exact, opened.solver, [""] * part.N)

    found = _in_chunks(problem, chunk_size(problem, 0 if problem.rows.alike else 3), opening)
    asked = torch.as_tensor([bool(who) for who in found.solver])
    claimed, left = asked.nonzero()[:, 0], (~asked).nonzero()[:, 0]
    judged: list[Certificate] = []
    order = [claimed]
    steps[:] = summary(steps, [])
    if len(claimed):
        certificate = certify(*_taken(problem, found.point, claimed), tol=tol)
        held = certificate.holds
        steps[:] = summary(steps, [found.solver[i] for i in claimed[held].tolist()])
        found.polished[claimed] &= is_exact(certificate)
        left = torch.cat([left, claimed[~held]]).sort().values
        judged, order = [certificate.take(held)], [claimed[held]]
    for some in left.split(chunk_size(problem)) if len(left) else ():
        part, point = _taken(problem, found.point, some)
        scaled = part.to(torch.float64).normalised()
        start = Point(point.h.double() / scaled.h_unit, point.p.double() / scaled.p_unit)
        opened = Opened(start, [found.solver[i] for i in some.tolist()], found.iterations[some], found.polished[some])
        reached, who = solve_auto(scaled.problem, opened, tol, max_iter, steps, polish)
        point, there = _unscaled(reached.point, scaled, part), some.to(problem.rows.y.device)
        found.point.h[there], found.point.p[there] = point.h, point.p
        found.iterations[some], found.polished[some] = reached.iterations, reached.polished
        for k, i in enumerate(some.tolist()):
            found.solver[i] = who[k]
    if len(left):
        judged, order = [*judged, certify(*_taken(problem, found.point, left), tol=tol)], [*order, left]
    return found, joined(judged).take(torch.cat(order).argsort())


def _taken(problem: AbstractLayerProblem, point: Point, index: Tensor) -> tuple[AbstractLayerProblem, Point]:
    """The signals at `index`, positions in rising order, of a problem and a point; without a copy where that is all."""
    if len(index) == problem.N:
        return problem, point
    there = index.to(problem.rows.y.device)
    return problem.take(there), Point(point.h[there], point.p[there])


def _unscaled(point: Point, scaled: Scaled, problem: AbstractLayerProblem) -> Point:
    dtype, point = problem.rows.W.dtype, without_dust(point)
    units = (scaled.h_unit, scaled.p_unit)
    # what is beyond the type's range stops at its end: a bad point, and not none. NaN is a solver's word for no point
    h, p = (torch.nan_to_num((x.double() * unit).to(dtype), nan=torch.nan) for x, unit in zip(point, units, strict=True))
    return Point(h, p)


def _solve_chunk(
    problem: AbstractLayerProblem,
    solver: str,
    tol: float,
    max_iter: int | None,
    polish: bool,
    force: bool,
    options: dict[str, Any],
    tick: Callable[..., object],
) -> _Found:
    single = solver in TORCH_SOLVERS and not TORCH_SOLVERS[solver].needs_float64
    single = single and not coarse_products(problem.rows.y.device)
    scaled = problem.to(torch.float64).normalised()  # in float32 the scales themselves may overflow
    single = single and fits(scaled.problem, problem.rows.W.dtype)
    small, words = scaled.problem.to(problem.rows.W.dtype) if single else scaled.problem, [""] * problem.N
    if solver in TORCH_SOLVERS:
        method = TORCH_SOLVERS[solver]
        reached = run(method, small, tol=tol, max_iter=max_iter or method.max_iter, polish=polish)
        tick(problem.N)
    else:
        point, iterations, words = solve_reference(
            small, solver, tol=tol, max_iter=max_iter, force=force, options=options, tick=tick
        )
        reached = Reached(point, certify(small, point, tol=tol), iterations, torch.zeros(problem.N, dtype=torch.bool))
        if polish:
            polish_left(reached, torch.arange(problem.N), small, tol, 0)
        left = lacking(reached.certificate)
        if len(left):
            complete_left(reached, left, small.take(left.to(problem.rows.y.device)), tol, 0)
        reached.iterations[:] = iterations
    point = _unscaled(reached.point, scaled, problem)
    return _Found(point, reached.iterations, reached.polished, [solver] * problem.N, words)


def _report_failures(solution: Solution, on_fail: str) -> None:
    bad = np.flatnonzero((solution.status != OPTIMAL) & (solution.status != STATIONARY))
    if len(bad) == 0 or on_fail == "ignore":
        return
    first = ", ".join(f"{i} ({solution.status[i]})" for i in bad[:5])
    message = f"{len(bad)} of {len(solution)} signals are not optimal: {first}{', ...' if len(bad) > 5 else ''}"
    if on_fail == "raise":
        raise UnsolvedError(message + "; the exception's .result carries the solution", solution)
    warnings.warn(message + "; see .certificate", ConvergenceWarning, stacklevel=4)
