"""`levenberg_marquardt`: damped Gauss-Newton on the affine pieces (`steps/newton.py`) from random starts."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..steps.newton import Descent, descend_through
from ..steps.starts import Starts, nothing_yet, try_starts
from ..task import Task

_MOST_ITERATIONS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class LevenbergMarquardt(AbstractMethod):
    """The first random start for every signal, the others while it is not explained.

    max_iter: steps per start; left out 100, and signals that are not explained go on to a local optimum. restarts: random
    starts at most.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    priors: ClassVar[bool] = True

    max_iter: int | None = None
    restarts: int = 1

    def __post_init__(self) -> None:
        tidy(self)
        positive(self.restarts, "restarts")
        if self.max_iter is not None:
            positive(self.max_iter, "max_iter")

    def run(self, task: Task, starts: Starts) -> Latents:
        limit = _MOST_ITERATIONS if self.max_iter is None else self.max_iter

        def search(part: Task, z: Tensor) -> Descent:
            return descend_through(part, z, limit)

        # whoever sets a limit means it
        settle = self.max_iter is None
        return try_starts(task, nothing_yet(task), starts, search, count=self.restarts, settle=settle)
