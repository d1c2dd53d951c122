"""Iterations that take one step after the other, for all signals at once: what they share beside their step.

A signal is done where its step is short, |z_next - z| <= tol |z|, or no longer finite; the best z that it has met is kept,
by the value that the rule lowers. Every signal walks as if alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ...lengths import lengths
from ..task import Task
from .newton import Descent

_TOLD = 20  # iterations between two words to the bar


@dataclass(frozen=True, eq=False)
class Place(Batch):
    """Where signals are: z `(N, n0)`. A rule that carries more from step to step adds fields per signal."""

    z: Tensor = per_signal()


P = TypeVar("P", bound=Place)
Rule = Callable[[Task, P, int], tuple[P, Tensor]]


def walk(task: Task, place: P, rule: Rule[P], *, max_iter: int, tol: float) -> Descent:
    """The best z of each signal on its way, and how many steps it took.

    rule: of the task of those that still walk, their place and the number of the step, from 0: the next place, and what the
    rule lowers at the place before, `(n,)`, signal units; it becomes `Descent.merit`. tol: >= 0, no unit.
    """
    worst, count = torch.full_like(task.size, torch.inf), torch.zeros(task.N, dtype=torch.long, device=task.y.device)
    best = Descent(place.z.clone(), worst, worst.clone(), count)
    left, part = torch.arange(task.N, device=task.y.device), task
    for k in range(max_iter + 1):
        after, merit = rule(part, place, k)
        _keep(best, left, place.z, merit)
        if k == max_iter or (task.progress.deadline is not None and task.progress.late()):
            break
        moved, length = lengths(after.z - place.z), lengths(place.z)
        walks = torch.isfinite(moved) & ((moved > tol * length) | (length == 0))
        count[left] += 1
        part.step()
        if not bool(walks.any()):
            break  # no batch of nothing is made: a measurement may refuse that
        if not bool(walks.all()):
            # where a last, short step ends is not looked at: it is as good as where it began, or no number
            left, part, after = left[walks], part.take(walks), after.take(walks)
        place = after
        if k % _TOLD == 0:
            task.progress.reach(k / max_iter)
    return Descent(best.z, task.misfit(best.z), best.merit, count)


def _keep(best: Descent, left: Tensor, z: Tensor, merit: Tensor) -> None:
    lower = merit < best.merit[left]
    gained = left[lower]
    best.z[gained], best.merit[gained] = z[lower], merit[lower]
