"""`csgm`: the nearest signal of the generator's, with latents kept small, by Adam from fresh random starts.

    minimise    |A G(z) - y|^2 + lam |z|^2

The source's code has mean_i (B G(z) - v)_i^2 + lam |z|^2 with entries N(0, 1) in the m rows of B. With A = B / m^(1/2) and
y = v / m^(1/2) that is the objective above, so that its lam are those of an A with entries N(0, 1/m), and noise of standard
deviation s in each of v has an expected square length s^2 in y. lam has units signal^2 / latent^2: 0.1 in the source for
MNIST, 0.001 for pictures of faces. Where A is not scaled so, the misfit grows with the rows seen and lam must too. It is
the objective of a prior Gaussian(P) under gaussian noise sigma with lam = sigma^2 P, which takes the place of lam where
they are stated.

Every start is a latent as it is drawn, z ~ N(0, I), with an Adam of its own; of each signal the start with the lowest
objective wins, prior included, and nothing else chooses. Where noise is stated in the l1 norm, sum |A G(z) - y| takes the
place of the square, so that a few entries that are far off do not pull.

finish: what Adam found is led on, on the same objective, to an optimum: by Levenberg-Marquardt, or by reweighted steps in
l1. Adam alone, at a step that does not shrink, stays about rate away from one.

Source: Bora, Jalal, Price, Dimakis, "Compressed sensing using generative models" (2017), and its code: Adam of rate 0.01,
1000 steps and 10 starts for MNIST; 0.1, 500 and 2 for faces. Added: l1 noise, finish.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import FINISH, choice, number, within
from ..steps.adam import descend_by_adam
from ..steps.given import begin, check_start, tidy_starting
from ..steps.newton import Descent, descend
from ..steps.slopes import slope_of
from ..steps.starts import Starts, leading
from ..steps.weighing import weighed
from ..task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class Csgm(AbstractMethod):
    """CSGM: Adam on the misfit and lam |z|^2 from random starts, the lowest sum of both wins; before them `z0`, if given.

    lam: weight of |z|^2, signal^2 / latent^2, beside |A G(z) - y|^2 with A as it is given; 0 leaves it out. rate: length of
    Adam's steps, latent units. max_iter: steps per start. tol: relative change of z at which a signal stops. restarts:
    random starts, all of them where a prior is weighed, and else until a signal is explained. finish: None, or
    "levenberg_marquardt". z0: latents to begin with, or an encoder of y that gives them, as in `Hybrid`; with it restarts
    may be 0.
    """

    name: ClassVar[str] = "csgm"
    priors: ClassVar[bool] = True

    lam: float = 0.0
    rate: float = 0.01
    max_iter: int = 1000
    restarts: int = 10
    tol: float = 1e-10
    finish: str | None = None
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        number(self.lam, "lam", least=0)
        number(self.rate, "rate")
        within(self.tol, "tol", 0, 1)
        choice(self.finish, "finish", FINISH)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)
        if self.lam == 0:
            return
        if task.prior is not None:
            raise ValueError(
                f"expected lam or a prior, got lam={self.lam:g} and prior={task.prior!r}; leave lam out: with "
                "noise=('gaussian', sigma) the prior Gaussian(P) is lam = sigma^2 P"
            )
        if task.noise is not None and task.noise.norm in ("gaussian", "l1"):
            raise ValueError(
                f"expected no lam under {task.noise.norm} noise, got lam={self.lam:g}, which is the weight beside plain "
                "squares; pass prior=Gaussian(P) with noise=('gaussian', sigma), where lam = sigma^2 P"
            )

    def run(self, task: Task, starts: Starts) -> Latents:
        task = weighed(task, self.lam) if self.lam else task

        def search(part: Task, z: Tensor) -> Descent:
            slope = slope_of(part)
            found = descend_by_adam(part, z, rate=self.rate, max_iter=self.max_iter, tol=self.tol, slope=slope)
            return found if self.finish is None or part.absolute else descend(part, found.z)

        hunt = begin(task, self.z0, search, None if self.finish is None else leading(task))
        hunt.draw_every(starts, search, count=self.restarts)
        return hunt.answer()

    def refine(self, task: Task, z: Tensor) -> Tensor:
        return z if self.finish is None else descend(task, z).z
