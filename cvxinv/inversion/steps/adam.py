"""Adam, batched over signals: each coordinate's step is its mean slope over the root of its mean square slope.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   z <- P_C(z - rate m' / (v'^(1/2) + 1e-8))

with g the gradient at z, m' = m / (1 - b1^(k+1)), v' = v / (1 - b2^(k+1)), b1 = 0.9, b2 = 0.999, and P_C the nearest point
of the prior's set. As it acts coordinate by coordinate, a batch is so many signals alone.

Source: Kingma, Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...batch import per_signal
from ..task import Task
from .gradient import gradient
from .newton import Descent
from .walking import Place, walk

_MEAN, _SQUARE, _FLOOR = 0.9, 0.999, 1e-8


@dataclass(frozen=True, eq=False)
class Moments(Place):
    """z `(N, n0)` with the mean slope and the mean square slope so far."""

    m: Tensor = per_signal()
    v: Tensor = per_signal()


def stated_slope(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """The task's merit `(N,)` and the gradient of half its square `(N, n0)`."""
    misfit, g = gradient(task, z)
    return task.merit(z, misfit), g


def descend_by_adam(
    task: Task,
    z: Tensor,
    *,
    rate: float | Callable[[int], float],
    max_iter: int,
    tol: float = 0.0,
    slope: Callable[[Task, Tensor], tuple[Tensor, Tensor]] = stated_slope,
) -> Descent:
    """Adam from `z` `(N, n0)`; the best z met is given back.

    rate: length of a step, latent units, one number or a function of the step's number. slope: of a task and its z, what is
    lowered `(N,)`, and a gradient `(N, n0)` of any positive multiple of it: Adam does not see the scale. max_iter, tol: see
    `walk`.
    """

    def step(part: Task, at: Moments, k: int) -> tuple[Moments, Tensor]:
        merit, g = slope(part, at.z)
        return adam_step(part, at, g, rate(k) if callable(rate) else rate, k), merit

    return walk(task, resting(task, z), step, max_iter=max_iter, tol=tol)


def resting(task: Task, z: Tensor) -> Moments:
    """The place to begin from: z in the prior's set, nothing known of slopes."""
    z = z if task.prior is None else task.prior.project(z)
    return Moments(z, torch.zeros_like(z), torch.zeros_like(z))


def adam_step(task: Task, at: Moments, g: Tensor, rate: float, k: int) -> Moments:
    """The place after step number k, from 0, along a gradient g `(N, n0)`."""
    m, v, step = averaged(at.m, at.v, g, k)
    z = at.z - rate * step
    return Moments(z if task.prior is None else task.prior.project(z), m, v)


def averaged(m: Tensor, v: Tensor, g: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """m and v with the gradient g of step number k, from 0, and m' / (v'^(1/2) + 1e-8), the step per rate; `(N, n)` each."""
    m, v = _MEAN * m + (1 - _MEAN) * g, _SQUARE * v + (1 - _SQUARE) * g.square()
    root = (v / (1 - _SQUARE ** (k + 1))).sqrt() + _FLOOR
    return m, v, m / (1 - _MEAN ** (k + 1)) / root
