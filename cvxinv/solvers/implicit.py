"""Solutions with derivatives: h and p of a layer problem as functions of what it was made of, for autograd.

The values are the solver's; backward solves the equations of the optimum's activity (`layers/core/optimality`) and takes
the product of what that gives with (K) through W's own calls, b, y, the weights and the numbers.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import NotDifferentiableWarning, UnsolvedError
from ..layers.core.certificate import OPTIMAL, OPTIMAL_INACCURATE, STATIONARY
from ..layers.core.optimality import Optimum, Unknowns, duals, optimum, residual
from ..layers.core.problem import AbstractLayerProblem, Point
from ..live import carries_graph, live
from ..surroundings import settled

if TYPE_CHECKING:
    from .solve import Solution

_INSTEAD = {
    "excess": "use NonnegativeBasisPursuitLinf, whose misfits are bounded by eps, or ",
    "layered": "use Lasso on the product of the dictionaries, or ",
}


class Implicit(torch.autograd.Function):
    """x as a function of (K)'s value at it, which is next to 0: the solution's x forwards, -K'^-1 backwards."""

    @staticmethod
    def forward(ctx: Any, optimum: Optimum, *parts: Tensor) -> tuple[Tensor, ...]:
        ctx.optimum = optimum
        return tuple(part.clone() for part in optimum.x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second()
        return None, *(-part for part in ctx.optimum.solve(Unknowns(*gradients)))  # K' is symmetric


@settled
def with_derivatives(solution: "Solution", on_fail: str) -> "Solution":
    """The solution with h and p that carry a graph, and `differentiable`; signals without derivatives are constants."""
    problem = solution.problem
    assert problem is not None
    exact = problem.to(torch.float64)
    solved = torch.as_tensor([s in (OPTIMAL, OPTIMAL_INACCURATE, STATIONARY) for s in solution.status])
    with torch.no_grad():
        at = Point(*(torch.nan_to_num(part.double()) for part in solution.point))
        found = optimum(exact, at)
    found = replace(found, regular=found.regular & solved.to(found.regular.device))
    h, p = _attached(live(problem), found)
    graphs = (_with_graph(value, of) for value, of in zip(solution.point, (h, p), strict=True))
    regular = found.regular.cpu()
    solution = replace(solution, h=next(graphs), p=next(graphs), differentiable=regular)
    report_kinks(regular, solution, on_fail)
    return solution


def refuse_second() -> None:
    """Raise RuntimeError in a backward pass that is to be differentiated itself: K' moves too, which is not followed."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "expected a first derivative, got create_graph=True: second derivatives of an optimum are not known here; "
            "leave create_graph out, or take differences of first derivatives"
        )


def _attached(problem: AbstractLayerProblem, found: Optimum) -> tuple[Tensor, Tensor]:
    """h and p as functions of what the live `problem` was made of."""
    x = Unknowns(*Implicit.apply(found, *residual(problem, found.activity, found.x)))
    p = duals(problem, found.activity, x, problem.rows.W(x.h) + problem.rows.b)
    return x.h, torch.where(found.regular[:, None], p, p.detach())


def _with_graph(value: Tensor, of: Tensor) -> Tensor:
    """`value` to the last bit, with the derivatives of `of`."""
    of = of.to(value.dtype)
    return torch.where(torch.isfinite(value), value + (of - of.detach()), value)


def check_graph(problem: AbstractLayerProblem) -> None:
    """Raise ValueError unless the problem was made from a tensor that requires gradients, and has derivatives here."""
    if problem.form in ("layered", "excess"):
        raise ValueError(
            f"expected a layer problem whose answer has derivatives here, got {type(problem).__name__}; "
            f"{_INSTEAD[problem.form]}leave differentiable out"
        )
    if not carries_graph(problem):
        names = ", ".join(("W", "b", "y", *problem.numbers))
        raise ValueError(
            f"expected a problem made from a tensor that requires gradients (one of {names}), got none; make Rows and "
            f"{type(problem).__name__} from it, outside of torch.no_grad (take, to and joined leave gradients behind), "
            "or leave differentiable out"
        )


def report_kinks(regular: Tensor, result: object, on_fail: str) -> None:
    """Warn of the signals that have no derivative, or raise UnsolvedError, as `on_fail` says."""
    bad = (~regular).nonzero()[:, 0].tolist()
    if not bad or on_fail == "ignore":
        return
    first = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
    message = f"{len(bad)} of {len(regular)} signals are not differentiable here and count as constants: {first}"
    if on_fail == "raise":
        raise UnsolvedError(message + "; the exception's .result carries everything", result)
    warnings.warn(message + "; see .differentiable", NotDifferentiableWarning, stacklevel=5)
