"""Descents that test the sign of z: f(z) = |A G(z) - y|^2 / 2 of a random network has a false valley at a negative multiple.

    z <- -z where f(-z) < f(z),       z <- z - step f'(z),      f'(z) = J'A'(s (|A G(z)| - y)),   s the signs of A G(z)

before every step, of gradient descent or of Adam, whose mean slope is turned with z. f is the square of `Task.merit` over 2,
and A whatever the task measures; what is written is f' of magnitudes.

Source: Hand, Leong, Voroninski, "Phase retrieval under a generative prior" (2018), Algorithm 1; the test with Adam is this
project's.
"""

from dataclasses import dataclass, replace

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
    return torch.where(_turns(task, z)[:, None], _opposite(task, z), z)


def _turns(task: Task, z: Tensor) -> Tensor:
    return task.merit(_opposite(task, z)) < task.merit(z)


def _opposite(task: Task, z: Tensor) -> Tensor:
    return -z if task.prior is None else task.prior.project(-z)


def adam_with_signs(task: Task, z: Tensor, *, rate: float, max_iter: int, tol: float = 0.0) -> Descent:
    """Adam from `z` `(N, n0)` with the test of signs; rate in latent units, max_iter and tol as in `walk`."""

    def step(part: Task, at: Moments, k: int) -> tuple[Moments, Tensor]:
        merit, g = stated_slope(part, at.z)
        after = adam_step(part, at, g, rate, k)
        turns = _turns(part, after.z)[:, None]
        z = torch.where(turns, _opposite(part, after.z), after.z)
        return replace(after, z=z, m=torch.where(turns, -after.m, after.m)), merit

    return walk(task, resting(task, better_sign(task, z)), step, max_iter=max_iter, tol=tol)


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
        merit, g = stated_slope(part, at.z)
        length = torch.where(merit > at.before, at.step / 2, at.step)
        z = at.z - length[:, None] * g
        z = z if part.prior is None else part.prior.project(z)
        return _Sliding(better_sign(part, z), length, merit), merit

    start = better_sign(task, z if task.prior is None else task.prior.project(z))
    first = _Sliding(start, rate * unit_step(task, start), torch.full_like(task.size, torch.inf))
    return walk(task, first, step, max_iter=max_iter, tol=tol)
