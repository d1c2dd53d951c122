"""The minimiser of a quadratic model of the objective, where the prior lets it be."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..minimisers import free_minimiser
from ..task import Task


class Step(NamedTuple):
    """A step d `(N, n0)`, and by how much it lowers the model, signal^2 units, `(N,)`; inf where H has no factor."""

    d: Tensor
    gain: Tensor


def plain_step(task: Task, H: Tensor, g: Tensor, z: Tensor) -> Step:
    """d that minimises 1/2 d'H d + g'd where the prior lets z + d be; 0 where H has no factor."""
    x, there = free_minimiser(H, g, z) if task.prior is None else task.prior.step(H, g, z)
    d = x - z
    gain = -((g * d).sum(1) + (d * (H @ d[..., None])[..., 0]).sum(1) / 2)
    return Step(d, torch.where(there, gain, torch.inf))
