"""`intermediate_layers`: z by Adam, then hidden layers let go of what lies below them, then back to the range.

1. z by Adam with a ramp of its rate (`steps/freeing.py`) from random starts, on the misfit.
2. Hidden activations, one layer after the other, each in an l1 ball around what the layers below make of the one before
   (`steps/freeing.py`): a signal x that need not be any G(z), and explains y better.
3. Back: the z with G(z) nearest to x, entries that were not seen included, by Levenberg-Marquardt from the z of 1. It is the
   answer where it explains y better than that one.

A prior is one of z: with its set C and, under gaussian noise of standard deviation sigma, its weight R

    1    minimise over z in C   |A G(z) - y|^2 + 2 sigma^2 R(z)
    3    minimise over z in C   |G(z) - x|^2 + 2 sigma^2 R(z),    taken where it lowers the objective of 1

and in 2 it says nothing beyond the layers below, which start from that z: h in the ball around layer_1(z) is no latent.

So the answer is a latent, as of every method, and is judged as one. The signal x of step 2 itself, for y that no latent
explains, is what `IntermediateLayers().freed_signals` gives, of anybody's latents.

Source: Daras, Dean, Jalal, Dimakis, "Intermediate layer optimization for inverse problems using deep generative models"
(2021), and its code: steps 1 and 2, Adam of rate 0.1, some hundred steps and an l1 radius for each layer. Added: step 3,
priors, l1 noise.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ...generator.abstract import AbstractGenerator
from ...generator.chain import Generator
from ...measurement.entries import Everything
from ..answer import Latents
from ..method import AbstractMethod
from ..options import number, within
from ..steps.adam import descend_by_adam
from ..steps.freeing import Freeing, freed, ramp
from ..steps.given import begin, check_start, tidy_starting
from ..steps.newton import Descent, descend
from ..steps.slopes import slope_of
from ..steps.starts import Starts
from ..task import Task, make_task


@dataclass(frozen=True, eq=False, kw_only=True)
class IntermediateLayers(AbstractMethod):
    """Intermediate layer optimisation, led back to the range, from random starts; before them `z0`, where it is given.

    radius: of the l1 balls of hidden layers, shares of their activations' own l1 length, >= 0: one number, or one per hidden
    layer, the first one's first; 0 keeps a layer where it is. max_iter: steps of Adam in z, and in each hidden layer. tol:
    relative change of z at which the former stop. rate: of Adam, latent units, and shares of the root mean square of the
    activations. restarts: random starts at most. z0: latents to begin with, or an encoder of y that gives them, as in
    `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "intermediate_layers"
    priors: ClassVar[bool] = True

    radius: float | tuple[float, ...] = 0.1
    max_iter: int = 300
    tol: float = 0.0
    rate: float = 0.1
    restarts: int = 1
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        number(self.rate, "rate")
        within(self.tol, "tol", 0, 1)
        for radius in self.radius if isinstance(self.radius, (tuple, list)) else (self.radius,):
            number(radius, "radius", least=0)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)
        check_layers(task.generator)
        self._freeing(task)  # raises

    def run(self, task: Task, starts: Starts) -> Latents:
        def search(part: Task, z: Tensor) -> Descent:
            first = descend_by_adam(
                part,
                z,
                rate=lambda k: self.rate * ramp((k + 1) / self.max_iter),
                max_iter=self.max_iter,
                tol=self.tol,
                slope=slope_of(part),
            )
            return self._through(part, first)

        hunt = begin(task, self.z0, search)
        hunt.draw(starts, search, count=self.restarts)
        return hunt.answer()

    def _through(self, task: Task, first: Descent) -> Descent:
        x = freed(task, first.z, self._freeing(task))
        noise = task.noise if task.weighed else None
        back = descend(replace(task, y=x, measurement=Everything(x.shape[1]), noise=noise, cut=None), first.z).z
        misfit = task.misfit(back)
        merit = slope_of(task)(task, back)[0] if task.absolute else task.merit(back, misfit)
        second = Descent(back, misfit, merit, first.steps)
        better = torch.nan_to_num(second.merit, nan=torch.inf) < first.merit
        first.put(better, second.take(better))
        return first

    def freed_signals(
        self, generator: AbstractGenerator, y: Tensor, z: Tensor, *, measurement: object = None, noise: object = None
    ) -> Tensor:
        """Step 2 alone: signals `(N, d)` out of range near G(z), of latents z `(N, n0)`, that explain y `(N, k)` better.

        measurement, noise: as in `invert`. Raises TypeError or ValueError for what does not fit.
        """
        check_layers(generator)
        task = make_task(generator, y, measurement, noise)
        if z.shape != (task.N, generator.latent_dim):
            raise ValueError(f"expected z of shape ({task.N}, {generator.latent_dim}), got {tuple(z.shape)}; one per signal")
        return freed(task, z.to(task.y), self._freeing(task))

    def _freeing(self, task: Task) -> Freeing:
        hidden = len(task.generator.layers) - 1
        radii = tuple(self.radius) if isinstance(self.radius, (tuple, list)) else (self.radius,) * hidden
        if len(radii) != hidden:
            raise ValueError(
                f"expected radius as one number or one per hidden layer ({hidden}), got {len(radii)}; pass e.g. "
                f"radius={(0.1,) * hidden}"
            )
        return Freeing(radii, self.max_iter, self.rate)


def check_layers(G: object) -> None:
    """Raises ValueError where a generator is no chain of layers, or has no hidden one."""
    if not isinstance(G, Generator) or len(G.layers) < 2:
        got = "one without a hidden layer" if isinstance(G, Generator) else type(G).__name__
        raise ValueError(
            f"intermediate_layers cannot invert this: expected a chain of layers with a hidden one, got {got}; use "
            "method='hybrid' or 'csgm'"
        )
