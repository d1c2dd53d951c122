"""`gradient_descent`: the papers' baseline, fairly tuned (`steps/gradient.py`), from random starts."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive_steps, within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.gradient import STEP_GRID, descend_by_gradient
from ..steps.newton import Descent
from ..steps.starts import Starts
from ..task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientDescent(AbstractMethod):
    """Gradient descent with momentum; the best of its random starts wins, and of `z0`, where it is given.

    max_iter: steps per start. tol: relative change of z at which a signal stops. restarts: random starts at most. steps:
    lengths to choose from, in units of 1 / sigma_max(J)^2 of the signal. momentum: in [0, 1). decay: what a step is divided
    by where it does not help, >= 1. z0: latents to begin with, or an encoder of y that gives them, as in `Hybrid`; with it
    restarts may be 0.
    """

    name: ClassVar[str] = "gradient_descent"
    priors: ClassVar[bool] = True

    max_iter: int = 2000
    tol: float = 0.0
    restarts: int = 1
    steps: tuple[float, ...] = STEP_GRID
    momentum: float = 0.9
    decay: float = 2.0
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        within(self.tol, "tol", 0, 1)
        within(self.momentum, "momentum", 0, 1)
        within(self.decay, "decay", 1, float("inf"))
        positive_steps(self.steps)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        def search(part: Task, z: Tensor) -> Descent:
            return descend_by_gradient(part, z, self.max_iter, self.steps, self.momentum, self.decay, self.tol)

        hunt = begin(task, self.z0, search)
        hunt.draw(starts, search, count=self.restarts)
        return hunt.answer()
