"""The polish that fits a problem: exact solves on the guess of what is active. Finds points; the judge compares them."""

from torch import Tensor

from ..layers.core.problem import AbstractLayerProblem, Point
from .active_set import active_set
from .active_set.pivoting import BlockPivoting
from .newton import ball, corner, crossover, layered
from .signed import apart, halves, together

_LARGEST_FACE = 512  # unknowns: singular values for each signal


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 6) -> Point:
    """The point that the activity of `point` stands for, exactly, where there is a polish; else `point`."""
    if problem.form == "layered":
        return layered.polish(problem, point)
    if problem.absolute:
        return together(polish(halves(problem), apart(point), rounds))
    if problem.form == "quadratic":
        return _quadratic(problem, point, rounds)
    if problem.form == "interval":
        return crossover.polish(problem, point)
    if problem.form == "ball":
        return ball.polish(problem, point)
    if problem.form == "excess":
        return corner.polish(problem, point)
    return point


def _quadratic(problem: AbstractLayerProblem, point: Point, rounds: int) -> Point:
    """Block pivoting from the activity of `point`, at the size of each support; what it does not settle in full size."""
    pivoting = BlockPivoting().start(problem, near=point)
    pivoting.advance(rounds)
    found, left = pivoting.point(), (~pivoting.settled).nonzero()[:, 0]
    if len(left):
        rest = active_set.polish(problem.take(left), Point(point.h[left], point.p[left]), rounds)
        found.h[left], found.p[left] = rest.h, rest.p
    return found


def polish_on_face(problem: AbstractLayerProblem, point: Point) -> tuple[Tensor, Point] | None:
    """Where more rows are at their bound than unknowns are free: which signals, and their points; None for none."""
    if problem.form != "quadratic" or problem.n > _LARGEST_FACE:
        return None
    if problem.absolute:
        found = polish_on_face(halves(problem), apart(point))
        return None if found is None else (found[0], together(found[1]))
    some = active_set.crowded(problem, point).nonzero()[:, 0]
    if len(some) == 0:
        return None
    return some, active_set.on_face(problem.take(some), Point(point.h[some], point.p[some]))
