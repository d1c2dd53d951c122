"""What every torch method is: an iteration on a batch, which `loop` runs and the judge looks at."""

from abc import ABC, abstractmethod

from torch import Tensor

from ..layers.core.problem import AbstractLayerProblem, Point


class AbstractMethod(ABC):
    """An iteration on a normalised problem. It finds points and proves nothing."""

    name: str
    max_iter: int
    first_check: int
    needs_float64: bool = False
    forms: tuple[str, ...] = ("quadratic", "ball", "interval")  # of the problems that it serves
    otherwise: str = "it is not convex"  # why it serves no other
    exact: bool = False  # its points solve the equations of their guess exactly: no polish can improve them
    on_halves: bool = False  # serves h >= 0 only: a problem that weighs |h| is given to it in its two halves

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        """Why this method cannot serve the problem, or None."""
        return None if problem.form in cls.forms else cls.otherwise

    @abstractmethod
    def __init__(self, problem: AbstractLayerProblem): ...

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take `steps` iterations."""

    @abstractmethod
    def point(self) -> Point:
        """The point reached."""

    def points(self, index: Tensor) -> Point:
        """The points of the signals `index`, bool `(N,)`."""
        return Point(*(x[index] for x in self.point()))

    @abstractmethod
    def keep(self, index: Tensor) -> None:
        """Go on with the signals at `index` only."""

    @abstractmethod
    def next_check(self, iteration: int) -> int:
        """The iteration at which the judge looks again."""

    def done(self, tol: float) -> Tensor | None:
        """Which of the signals left `(N,)` the method itself takes for solved to `tol`.

        None: it cannot tell, and the judge looks at everyone at every check.
        """
        return None

    def given_up(self) -> Tensor | None:
        """Which of the signals left `(N,)` the method will not solve however long it runs; None: it cannot tell."""
        return None

    @property
    def patience(self) -> int:
        """How many iterations an optimal point waits for a polish that makes it exact."""
        return 0

    def worth_polishing(self, iteration: int) -> bool:
        """Whether the activity may have settled since the last polish."""
        return True
