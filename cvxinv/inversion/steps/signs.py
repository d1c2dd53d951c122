"""Descents that test the sign of z: f(z) = |A G(z) - y|^2 / 2 of a random network has a false valley at a negative multiple.

    z <- -z where f(-z) < f(z),       z <- z - step f'(z),      f'(z) = J'A'(s (|A G(z)| - y)),   s the signs of A G(z)

before every step, of gradient descent or of Adam, whose mean slope is turned with z. f is the square of `Task.merit` over 2,
and A whatever the task measures; what is written is f' of magnitudes.

Source: Hand, Leong, Voroninski, "Phase retrieval under a generative prior" (2018), Algorithm 1; the test with Adam is this
project's.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...batch import per_signal
from ..task import Task
from .adam import Moments, adam_step, resting, stated_slope
from .gradient import unit_step
from .newton import Descent
from .walking import Place, walk


def better_sign(task: Task, z: Tensor) -> Tensor:
    """z, or -z where that has the lower merit, `(N, n0)`; in the prior's set."""
    other = _opposite(task, z)
    return torch.where((task.merit(other) < task.merit(z))[:, None], other, z)


def _opposite(task: Task, z: Tensor) -> Tensor:
    return -z if task.prior is None else task.prior.project(-z)


class Tested(NamedTuple):
    """z or -z and the gradient there `(N, n0)`, where it is -z, the merit of z itself and of what it is now, `(N,)`."""

    z: Tensor
    g: Tensor
    turned: Tensor
    merit: Tensor
    there: Tensor


def tested(task: Task, z: Tensor) -> Tested:
    """The test of signs at `z` `(N, n0)`."""
    (merit, g), other = stated_slope(task, z), _opposite(task, z)
    opposite = task.merit(other)
    turned = opposite < merit
    index = turned.nonzero()[:, 0]
    if len(index):
        z, g = z.clone(), g.clone()
        z[index] = other[index]
        g[index] = stated_slope(task.take(index), z[index])[1]
    return Tested(z, g, turned, merit, torch.where(turned, opposite, merit))


def _ended(task: Task, found: Descent) -> Descent:
    z = better_sign(task, found.z)
    misfit = task.misfit(z)
    return Descent(z, misfit, task.merit(z, misfit), found.steps)


def adam_with_signs(task: Task, z: Tensor, *, rate: float, max_iter: int, tol: float = 0.0) -> Descent:
    """Adam from `z` `(N, n0)` with the test of signs; rate in latent units, max_iter and tol as in `walk`."""

    def step(part: Task, at: Moments, k: int) -> tuple[Moments, Tensor]:
        test = tested(part, at.z)
        m = torch.where(test.turned[:, None], -at.m, at.m)
        return adam_step(part, replace(at, z=test.z, m=m), test.g, rate, k), test.merit

    return _ended(task, walk(task, resting(task, z), step, max_iter=max_iter, tol=tol))


@dataclass(frozen=True, eq=False)
class _Sliding(Place):
    """z `(N, n0)`, the length of a step and the merit at the place before `(N,)`."""

    step: Tensor = per_signal()
    before: Tensor = per_signal()


def gradient_with_signs(task: Task, z: Tensor, *, rate: float, max_iter: int, tol: float = 0.0) -> Descent:
    """Gradient descent from `z` `(N, n0)` with the test of signs; max_iter and tol as in `walk`.

    rate: length of a step in units of 1 / sigma_max(J)^2 at the start; halved where a step raised the merit.
    """

    def step(part: Task, at: _Sliding, k: int) -> tuple[_Sliding, Tensor]:
        test = tested(part, at.z)
        length = torch.where(test.merit > at.before, at.step / 2, at.step)
        z = test.z - length[:, None] * test.g
        return _Sliding(z if part.prior is None else part.prior.project(z), length, test.merit), test.merit

    start = better_sign(task, z if task.prior is None else task.prior.project(z))
    first = _Sliding(start, rate * unit_step(task, start), torch.full_like(task.size, torch.inf))
    return _ended(task, walk(task, first, step, max_iter=max_iter, tol=tol))
