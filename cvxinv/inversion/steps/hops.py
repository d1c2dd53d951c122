"""Starts for measurements that are not linear: signs that are wrong hold a descent, and a smoothed view lets go of them.

    learnt     ridge regression from the generator's signals as they are seen (`bent`)
    around     the learnt latent and `_AROUND` of a random latent: what the regression leaves open is about as much
    random     the best of a hundred latents, or its opposite, every other time

From each a hop: a few steps of Levenberg-Marquardt, smoothed Gauss-Newton (`smoothed`), in which a sign counts as little as
it is sure, from where they end, and Levenberg-Marquardt to the end. Decision 0032.
"""

import torch
from torch import Tensor

from ..task import Task
from .learnt import learnt_starts, lesson_for
from .newton import Descent, descend
from .signs import better_sign
from .smoothed import NEAR, descend_smoothed, each
from .starts import Hunt, Starts

_AROUND = 0.5
_CANDIDATES = 100
_FEW = 20  # steps before the smoothed ones


def search_by_hops(hunt: Hunt, starts: Starts, restarts: int, limit: int) -> None:
    """Try the learnt start and `restarts` others on what is open; limit: steps of each descent."""
    task = hunt.task
    spread = lesson_for(task).spread

    def hop(part: Task, z: Tensor) -> Descent:
        first = descend(part, z, min(_FEW, limit))
        again = descend(part, descend_smoothed(part, first.z, each(NEAR, 2)[:limit], spread), limit)
        better = (again.merit < first.merit).nonzero()[:, 0]
        first.put(better, again.take(better))
        return first

    learnt = torch.zeros_like(hunt.z)
    learnt[hunt.open] = learnt_starts(task.take(hunt.open))
    hunt.offer("learnt start", lambda part, index: hop(part, learnt[index]))
    for k in range(restarts):
        if k % 2 == 0:
            hunt.draw(starts, lambda part, z: hop(part, _around(part, learnt[hunt.open], z)), count=1, first=k)
        else:
            hunt.draw(starts, lambda part, z: hop(part, better_sign(part, z)), count=1, candidates=_CANDIDATES, first=k)


def _around(task: Task, learnt: Tensor, latents: Tensor) -> Tensor:
    z = learnt + _AROUND * latents
    return z if task.prior is None else task.prior.project(z)
