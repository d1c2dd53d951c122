"""The exact check: the layer problems of an inversion again, each solved by a CVXPY solver, signal by signal."""

from typing import Any

import torch

from ..errors import ProblemTooLargeError
from ..inversion.answer import LayerReport
from ..inversion.result import Inversion
from ..layers.core.certificate import OPTIMAL, Certificate
from ..solvers.reference import CVXPY_SOLVERS
from ..solvers.solve import Solution, check_choice, solve
from ..surroundings import undisturbed


@undisturbed
def check_against_cvxpy(inversion: Inversion, count: int, solver: str = "CLARABEL") -> list[dict[str, Any]]:
    """Solve the layer problems of the first `count` signals with a CVXPY solver, and compare the objectives.

    One row per signal and layer: `signal`, `layer`, `kind`, `fast` and `exact` (objectives), `difference`
    (fast - exact), `allowed` (the larger of the two certificates' allowed gaps), `agree`, `fast_status`,
    `exact_status`, `seconds`, `note`. They agree where |difference| is allowed. Where the optimum is 0 a CVXPY solver
    stops short of that: a lower fast objective agrees too, unless it lies below the bound that the solver's own dual
    proves. A problem that is too large for CVXPY gets a row whose note says so, with None for what is not known. Empty
    for an inversion without layer problems: not layered, or loaded from a file.
    """
    check_choice(solver, CVXPY_SOLVERS, "solver")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"expected a count of signals >= 1, got {count!r}; pass e.g. count=5")
    reports = [report for report in inversion.layers if report.problem is not None and report.problem.form != "curved"]
    return [_row(report, i, solver) for i in range(min(count, len(inversion))) for report in reports]


def _row(report: LayerReport, i: int, solver: str) -> dict[str, Any]:
    fast = report.solution.certificate.take(torch.tensor([i]))
    row = {"signal": i, "layer": report.index, "kind": report.kind, "fast": float(fast.objective[0])}
    row |= {"exact": None, "difference": None, "allowed": None, "agree": None}
    row |= {"fast_status": str(fast.status[0]), "exact_status": None, "seconds": None, "note": ""}
    assert report.problem is not None
    one = report.problem.take(torch.tensor([i], device=report.problem.rows.y.device)).to(torch.float64)
    try:
        solution = solve(one, solver, tol=fast.tol, polish=False, on_fail="ignore", progress=False)
    except ProblemTooLargeError as error:
        return row | {"note": f"too large to check: {error}"}
    return row | _compared(fast, solution.certificate) | {"seconds": solution.seconds, "note": _note(solution, fast)}


def _compared(fast: Certificate, exact: Certificate) -> dict[str, Any]:
    low, high, found = float(exact.bound[0]), float(exact.objective[0]), float(fast.objective[0])
    allowed = max(float(fast.allowed_gap[0]), float(exact.allowed_gap[0]))
    return {
        "exact": high,
        "difference": found - high,
        "allowed": allowed,
        "agree": min(low, high) - allowed <= found <= high + allowed,
        "exact_status": str(exact.status[0]),
    }


def _note(solution: Solution, fast: Certificate) -> str:
    own, status = solution.solver_status[0], solution.status[0]
    if own.startswith("error"):
        return own
    if status == OPTIMAL:
        return ""
    return f"{solution.solver[0]} itself reaches {status}" + (" only" if fast.status[0] == OPTIMAL else "")
