"""`mirrored_descent`: a descent to a local optimum z1, a second one from its mirror image -z1, and the better of the two.

    z1 from z0 ~ N(0, I),   z2 from -z1,   z = the one with the lower f,       f(z) = 1/2 |A G(z) - y|^2

Of two layers of transposed convolutions with Gaussian kernels and ReLU, expanding enough, f has a direction of descent
everywhere but near the true z and near a negative multiple of it, also where only a part of the pixels was seen. A descent
thus ends in one of two basins, and if it is the wrong one, the other lies behind the mirror. More layers, other activations,
biases and trained weights are tried, not proved: there the second descent is one more start, read off where the first ended.

The source descends by a quasi-Newton method (MATLAB's fminunc, with the gradient); here it is Levenberg-Marquardt on f as it
stands (`steps/newton.py`), which ends in a point of the same kind. Where z1 explains the signal there is no second descent.

Source: Ma, Ayaz, Karaman, "Invertibility of convolutional generative networks from partial measurements" (2018): abstract,
poster and code; the theorem itself was not read.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.newton import MET, Descent, descend
from ..steps.starts import Starts
from ..task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class MirroredDescent(AbstractMethod):
    """Pairs of descents from random starts, the best by misfit; before them one from `z0`, where it is given.

    max_iter: steps per descent. tol: misfit, as a share of |y|, at which a descent stops. restarts: pairs from random starts
    at most. z0: latents to begin with, or an encoder of y that gives them, as in `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "mirrored_descent"
    priors: ClassVar[bool] = True

    max_iter: int = 100
    tol: float = MET
    restarts: int = 1
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        within(self.tol, "tol", 0, 1)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        turned = list[Tensor]()

        def search(part: Task, z: Tensor) -> Descent:
            found, mirrored = descend_twice(part, z, self.max_iter, self.tol)
            turned.append(mirrored)
            return found

        hunt = begin(task, self.z0, search)
        hunt.draw(starts, search, count=self.restarts)
        met, tried = sum(int(part.sum()) for part in turned), sum(len(part) for part in turned)
        return hunt.answer((f"mirror: the descent from -z1 ended lower in {met} of {tried} pairs",))

    def refine(self, task: Task, z: Tensor) -> Tensor:
        return descend(task, z, self.max_iter, target=self.tol).z


def descend_twice(task: Task, z: Tensor, max_iter: int, tol: float = MET) -> tuple[Descent, Tensor]:
    """The lower end of two descents, from `z` `(N, n0)` and from the mirror image of where it led; bool `(N,)`: the second.

    Signals that the first one explains, or brings to `tol`, have no second.
    """
    first, mirrored = descend(task, z, max_iter, target=tol), torch.zeros(task.N, dtype=torch.bool, device=z.device)
    ended = task.explained(first.z, None if task.weighed else first.misfit) | (first.merit <= tol * task.size)
    left = (~ended).nonzero()[:, 0]
    if len(left) == 0 or (task.progress.deadline is not None and task.progress.late()):
        return first, mirrored
    second = descend(task.take(left), -first.z[left], max_iter, target=tol)
    lower = second.merit < first.merit[left]
    gained = left[lower]
    first.put(gained, replace(second.take(lower), steps=first.steps[gained] + second.steps[lower]))
    mirrored[gained] = True
    return first, mirrored
