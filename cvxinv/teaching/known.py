"""All exercises, by number and by name."""

import difflib

from . import dual_exercises, layer_exercises, network_exercises, step_exercises
from .exercise import LEVELS, Exercise

_ALL = (
    *layer_exercises.EXERCISES,
    *dual_exercises.EXERCISES,
    *step_exercises.EXERCISES,
    *network_exercises.EXERCISES,
)
EXERCISES: tuple[Exercise, ...] = tuple(x for level in LEVELS for x in _ALL if x.level == level)


def number_of(exercise: Exercise) -> int:
    """Its number, from 1."""
    return EXERCISES.index(exercise) + 1


def exercise_named(name: str) -> Exercise:
    """The exercise of a number or of a name. Raises ValueError for one that there is not."""
    if name.isdigit() and 1 <= int(name) <= len(EXERCISES):
        return EXERCISES[int(name) - 1]
    found = {exercise.name: exercise for exercise in EXERCISES}
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, n=1)
    cure = f"perhaps {near[0]}" if near else "`cvxinv exercise list` tells all"
    raise ValueError(f"expected a number from 1 to {len(EXERCISES)} or a name, got {name!r}; {cure}")
