"""`levenberg_marquardt`: damped Gauss-Newton on the affine pieces (`steps/newton.py`) from random starts."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.newton import MET, Descent, descend, descend_through
from ..steps.normal_equations import notes_of_ways
from ..steps.starts import Starts, leading
from ..task import Task

_MOST_ITERATIONS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class LevenbergMarquardt(AbstractMethod):
    """The first random start for every signal, the others while it is not explained; before them `z0`, where it is given.

    max_iter: steps per start; left out 100, and signals that are not explained go on to a local optimum. tol: misfit, as a
    share of |y|, at which a signal stops, and none goes on; left out 1e-14. restarts: random starts at most. z0: latents to
    begin with, or an encoder of y that gives them, as in `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    priors: ClassVar[bool] = True

    max_iter: int | None = None
    tol: float | None = None
    restarts: int = 1
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        within(self.tol, "tol", 0, 1)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        def search(part: Task, z: Tensor) -> Descent:
            return descend_through(part, z, self._limit, target=self._target)

        hunt = begin(task, self.z0, search, leading(task))
        hunt.draw(starts, search, count=self.restarts)
        # whoever sets a limit means it
        if self.max_iter is None and self.tol is None:
            hunt.settle()
        return hunt.answer(notes_of_ways(task))

    def refine(self, task: Task, z: Tensor) -> Tensor:
        return descend(task, z, self._limit, target=self._target).z

    @property
    def _limit(self) -> int:
        return _MOST_ITERATIONS if self.max_iter is None else self.max_iter

    @property
    def _target(self) -> float:
        return MET if self.tol is None else self.tol
