"""The polish that fits a problem: exact solves on the guess of what is active. Finds points; the judge compares them."""

from ..layer_problem import AbstractLayerProblem, Point
from . import active_set, ball, crossover
from .signed import apart, halves, together


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 6) -> Point:
    """The point that the activity of `point` stands for, exactly, where there is a polish; else `point`."""
    if problem.absolute:
        return together(polish(halves(problem), apart(point), rounds))
    if problem.form == "quadratic":
        return active_set.polish(problem, point, rounds)
    if problem.form == "interval":
        return crossover.polish(problem, point)
    if problem.form == "ball":
        return ball.polish(problem, point)
    return point
