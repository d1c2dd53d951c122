"""From one local optimum of the stated objective to a lower one near by.

Noise bends the objective at every kink, so that an optimum has others around it, a little higher or lower, at about the
distance that the noise leaves open. A hop is a step u in the direction of a draw from the posterior's Gaussian
approximation,

    u = `_LENGTH` sigma L'^-1 n,     L L' = J'J + sigma^2 R'',  n standard normal,

and a descent from there with the curvature that is known. It counts where it ends lower. A signal whose hop leads back to
where it began, or to where it was no lower for the second time, is left alone: its optimum is the lowest that hops find,
mostly.

The draws are the same for all signals, so that an answer does not depend on its neighbours.

Source: basin hopping, Wales and Doye (1997), at temperature 0 and in the units of the posterior.
"""

import torch
from torch import Tensor

from ..task import Task
from .kinked import Place, curvature, descend_kinked, kinks_matter

_LENGTH = 0.5  # of a hop, in standard deviations of the posterior
_HOPS = 4
_MU = 1e-9  # damping at first: what is near needs none
_STEPS = 30
_SAME = 1e-9  # of the merit: ends closer than that are one
_SEED = 20


def hop(task: Task, z: Tensor) -> Tensor:
    """The lowest optimum that hops from the optimum `z` `(N, n0)` find."""
    if not kinks_matter(task):
        return z
    best, draw = z.clone(), torch.Generator().manual_seed(_SEED)
    merit, H = task.merit(z), curvature(task, z)
    left, misses = torch.arange(task.N, device=z.device), torch.zeros(task.N, dtype=torch.long, device=z.device)
    for _ in range(_HOPS):
        normal = torch.randn(z.shape[1], generator=draw, dtype=z.dtype).to(z.device)
        part, there = task.take(left), _hopped(task.take(left), best[left], H[left], normal)
        end = descend_kinked(part, Place.at(part, there, _MU, H[left]), _STEPS)
        gained = end.view.merit < merit[left] * (1 - _SAME)
        same = (end.view.merit - merit[left]).abs() <= _SAME * merit[left]
        best[left[gained]], merit[left[gained]], H[left[gained]] = (
            new[gained] for new in (end.view.z, end.view.merit, end.H)
        )
        misses[left] += ~gained
        left = left[~same & (misses[left] < 2)]
        if len(left) == 0:
            break
    return best


def _hopped(task: Task, z: Tensor, H: Tensor, normal: Tensor) -> Tensor:
    assert task.noise is not None  # kinks matter under stated noise only
    s = torch.diagonal(H, dim1=-2, dim2=-1).mean(1)
    floor = 1e-12 * s + torch.finfo(z.dtype).tiny
    L, _ = torch.linalg.cholesky_ex(H + torch.diag_embed(floor[:, None].expand_as(z)))
    u = torch.linalg.solve_triangular(L.mT, normal.expand_as(z)[..., None], upper=True)[..., 0]
    return z + _LENGTH * task.noise.bound[:, None] * u
