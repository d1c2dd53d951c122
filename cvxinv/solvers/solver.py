"""What every torch solver is: an iteration on a batch, which `loop` runs and the judge looks at.

A class of one's own, defined anywhere, is one more solver: `solve(problem, MySolver())`.
"""

from abc import ABC, abstractmethod
from copy import copy
from functools import cache
from typing import Any, ClassVar, Self

from torch import Tensor

from ..inputs import describe
from ..layers.core.problem import AbstractLayerProblem, Point


class AbstractSolver(ABC):
    """An iteration on a normalised problem (|W| = 1, data of length 1 per signal). It finds points and proves nothing.

    A subclass is a frozen dataclass whose fields are its options, and an object of it never changes: `start` gives a
    working copy, on which `begin` and the methods after it set the state of the iteration. A solver says of itself


    name: what `Solution.solver` calls it; the name of the class where it says none.
    max_iter: iterations that a signal gets where `solve` is told no other number; first_check: after how many the judge
    looks for the first time.
    forms: of the layer problems that it serves, see `AbstractLayerProblem`; otherwise: why it serves no other.
    kept: names of the attributes that have an entry per signal, for `keep`.
    needs_float64: whether float32 problems are handed to it in float64.
    exact: whether its points solve the equations of their guess exactly, so that no polish can improve them.
    on_halves: whether it serves h >= 0 only: a problem that weighs |h| is then given to it in its two halves.
    """

    name: ClassVar[str]
    max_iter: ClassVar[int] = 20_000
    first_check: ClassVar[int] = 20
    forms: ClassVar[tuple[str, ...]] = ("quadratic", "ball", "interval")
    otherwise: ClassVar[str] = "it is not convex"
    kept: ClassVar[tuple[str, ...]] = ()
    needs_float64: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    on_halves: ClassVar[bool] = False

    problem: AbstractLayerProblem  # of a working copy: that of the signals left

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        """Why this solver cannot serve the problem, or None."""
        return None if problem.form in cls.forms else cls.otherwise

    def start(self, problem: AbstractLayerProblem, **given: Any) -> Self:
        """A working copy of this solver at the beginning of its iteration on `problem`; given: passed on to `begin`."""
        work = copy(self)
        object.__setattr__(work, "__class__", _working(type(self)))
        work.problem = problem
        work.begin(problem, **given)
        return work

    # --- the iteration, on a working copy ---

    @abstractmethod
    def begin(self, problem: AbstractLayerProblem) -> None:
        """Set the state before the first iteration."""

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take `steps` iterations."""

    @abstractmethod
    def point(self) -> Point:
        """The point reached: h `(N, n)` and p `(N, m)`."""

    def points(self, index: Tensor) -> Point:
        """The points of the signals at `index`, positions in rising order."""
        return Point(*(x[index] for x in self.point()))

    def keep(self, index: Tensor) -> None:
        """Go on with the signals at `index` only, positions in rising order."""
        self.problem = self.problem.take(index)
        for name in self.kept:
            setattr(self, name, getattr(self, name)[index])

    def next_check(self, iteration: int) -> int:
        """The iteration at which the judge looks again."""
        return iteration + max(self.first_check, iteration // 2)

    def done(self, tol: float) -> Tensor | None:
        """Which of the signals left `(N,)` the solver itself takes for solved to `tol`.

        None: it cannot tell, and the judge looks at everyone at every check.
        """
        return None

    def given_up(self) -> Tensor | None:
        """Which of the signals left `(N,)` the solver will not solve however long it runs; None: it cannot tell."""
        return None

    @property
    def patience(self) -> int:
        """How many iterations an optimal point waits for a polish that makes it exact."""
        return 0

    def worth_polishing(self, iteration: int) -> bool:
        """Whether the activity may have settled since the last polish."""
        return True


@cache
def _working(kind: type[AbstractSolver]) -> type:
    """The class of working copies of `kind`: the same, but that its objects may be changed."""
    return type(
        kind.__name__, (kind,), {"name": kind.name, "__setattr__": object.__setattr__, "__module__": kind.__module__}
    )


def check_number(value: object, name: str, low: float, high: float = float("inf")) -> None:
    """Raise TypeError or ValueError unless the option `name` is a number between `low` and `high`, neither included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected {name} as a number, got {describe(value)}; leave it out for the default")
    if not low < value < high:
        between = f"between {low:g} and {high:g}" if high < float("inf") else f"> {low:g} and finite"
        raise ValueError(f"{name} must be {between}, got {value!r}; leave it out for the default")
