"""What an exercise is: a question, instances drawn from a seed, and a judge. Nothing of an answer is believed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator as Random

Answer = dict[str, np.ndarray]  # what a submission returned, by name, in float64 and of the right shapes

LEVELS = ("first steps", "duality", "algorithms", "networks", "theory")


@dataclass(frozen=True)
class Instance:
    """One case of an exercise.

    label: what is particular about it. arguments: what the submission gets, in this order. shapes: what it has to return,
    by name. known: what the judge knows and the submission is never handed.
    """

    label: str
    arguments: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    known: Any = field(repr=False)


@dataclass(frozen=True)
class Finding:
    """Why an answer is refused: which line fails, where, by how much, and what that usually means.

    line: the condition, as it is written. place: the row, unknown or entry of it, counted from 0. amount, allowed: how far
    it is from holding, and how far it might be. meanings: what the answer equals in the catalogue of faults; () where it
    equals none of them. words: the same in a sentence or two.
    """

    line: str
    place: str = ""
    amount: float = float("nan")
    allowed: float = float("nan")
    meanings: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True)
class Passed:
    """What the judge found of an answer that holds: in words, with the numbers."""

    words: str


Judge = Callable[[Instance, Answer, float], "Finding | Passed"]  # the last: seconds that the answer took, on our clock


@dataclass(frozen=True)
class Exercise:
    """A question. name: that of its reference solution; takes, gives: what the arguments and the answer are, by name.

    draw: instances from a source of random numbers. optional: names that may be left out of the answer.
    """

    name: str
    title: str
    level: str
    task: str
    takes: dict[str, str]
    gives: dict[str, str]
    draw: Callable[[Random], Iterator[Instance]] = field(repr=False)
    judge: Judge = field(repr=False)
    optional: tuple[str, ...] = ()
    source: str = ""

    @property
    def signature(self) -> str:
        """The first line of a submission."""
        return f"def answer({', '.join(self.takes)}):"


Made = TypeVar("Made")


def drawn_until(make: Callable[[], Made | None], tries: int = 200) -> Made:
    """The first draw that serves: `make` gives None for one that does not. Raises AssertionError after so many."""
    for _ in range(tries):
        found = make()
        if found is not None:
            return found
    raise AssertionError(f"no draw of {tries} served")


def instances_of(exercise: Exercise, seed: int) -> list[Instance]:
    """The instances of a check. The first is the one that `show` prints, whatever the seed; the others are drawn.

    A first one is drawn with them and left out, so that a seed, which pages and pictures name, keeps its instances.
    """
    return [shown(exercise), *islice(exercise.draw(np.random.default_rng([seed, 1])), 1, None)]


def shown(exercise: Exercise) -> Instance:
    """The instance that `show` prints."""
    return next(exercise.draw(np.random.default_rng(0)))
