"""Signals that leave the range of a generator a little: one hidden layer after the other is let go of what lies below it.

    h_0 = z
    h_i = argmin loss(A T_i(h) - y)  subject to  |h - s_i|_1 <= radius |s_i|_1,    s_i = layer_i(h_(i-1)),  i = 1, 2, ...

with T_i the layers behind the i-th, and for loss the square, or the sum of absolute misfits where noise is stated in l1. The
ball keeps h near what the layers below can make, so that the prior is not lost where little was seen; radius 0 gives G(z).
Each is searched by Adam, projected on the ball after every step, from s_i; the best h met is kept. Adam's rate is a share of
the root mean square of s_i, times a ramp over the search's share t of its steps

    min(1, t / 0.05) (1 - cos(pi min(1, (1 - t) / 0.75))) / 2

Source: Daras, Dean, Jalal, Dimakis, "Intermediate layer optimization for inverse problems using deep generative models"
(2021), and its code: the ramp, Adam of rate 0.1, l1 radii in units of h. Changed: radii and rates as shares.
"""

from dataclasses import dataclass, replace
from math import cos, pi

import torch
from torch import Tensor

from ...generator.chain import Generator
from ...lengths import lengths
from ..task import Task
from .adam import averaged
from .proximal import onto_l1_ball
from .slopes import slope_of

_UP, _DOWN = 0.05, 0.75


@dataclass(frozen=True)
class Freeing:
    """radius: of the l1 balls, shares of |s_i|_1, one for each hidden layer; max_iter: steps for each; rate: the module."""

    radius: tuple[float, ...]
    max_iter: int
    rate: float


def ramp(t: float) -> float:
    """What a rate is multiplied by at the share t in [0, 1] of the steps."""
    return min(1.0, t / _UP) * (1 - cos(pi * min(1.0, (1 - t) / _DOWN))) / 2


def freed(task: Task, z: Tensor, how: Freeing) -> Tensor:
    """Signals `(N, d)` that explain y better than G(z), of latents z `(N, n0)`, without going far from the range."""
    G = task.generator
    assert isinstance(G, Generator)  # others are refused
    h = z
    for index, radius in enumerate(how.radius, start=1):
        below = Generator(G.layers[index - 1 : index], (G.layers[index - 1].W.m,), {})
        part = replace(task, generator=Generator(G.layers[index:], G.signal_shape, {}), prior=None)
        h = _search(part, below(h), radius, how)
    return G(h) if not how.radius else part.generator(h)


def _search(task: Task, start: Tensor, radius: float, how: Freeing) -> Tensor:
    slope, room = slope_of(task), radius * start.abs().sum(1)
    unit = how.rate * lengths(start) / start.shape[1] ** 0.5
    h, m, v = start, torch.zeros_like(start), torch.zeros_like(start)
    best, low = start, torch.full_like(task.size, torch.inf)
    for k in range(how.max_iter + 1):
        value, g = slope(task, h)
        better = value < low
        best, low = torch.where(better[:, None], h, best), torch.where(better, value, low)
        if k == how.max_iter or (task.progress.deadline is not None and task.progress.late()):
            break
        task.step()
        m, v, step = averaged(m, v, g, k)
        moved = h - (unit * ramp((k + 1) / how.max_iter))[:, None] * step
        h = start + onto_l1_ball(moved - start, room)
    return best
