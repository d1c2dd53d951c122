"""Lengths of steps that nobody tuned: estimated where an iteration begins, and watched while it runs.

An iteration z <- z - step B(z) with B(z) = L'A'(A G(z) - y), L = J(z) of gradient descent or another map in its place, moves
near z by the matrix M = L'A'A J(z). It contracts for steps below 2 / |M| where M is symmetric, and 1 / |M| leaves a factor
of two for how M changes on the way. What that does not cover shows in the misfit. Where it grows to `wild` times its lowest,
or is no number, the signal goes back to its best z with a step `cut` times as long; cut = 0 ends it there. Where it stays
above a former one for `patience` steps, it goes to and fro: the step is cut, and what follows is compared anew, as a fixed
point need not be where the misfit is least.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any, Self

import torch
from torch import Tensor

from ...batch import per_signal
from ...lengths import lengths
from ..task import Task
from .walking import Place

_ROUNDS = 12  # of the power iteration, each with M and M': the estimate is a few per cent low at most where it matters
_LEVEL = 1 + 1e-6  # of the lowest value: up to it a step that gained nothing is no loss
SETTLED = 1e-6  # last step, of |z|, from which on a signal is said not to have settled


@dataclass(frozen=True)
class Guard:
    """When a step counts as too long, and what is then done with it; see the module."""

    cut: float
    wild: float
    patience: float


HALVE = Guard(cut=0.5, wild=10.0, patience=50)  # a step that was estimated
HOLD = Guard(cut=0.0, wild=1e6, patience=inf)  # a step that was asked for: only what runs away is stopped


@dataclass(frozen=True, eq=False)
class Guarded(Place):
    """z `(N, n0)`, the length of its next step, the best z so far, its misfit, the lowest one since a cut, steps since."""

    step: Tensor = per_signal()
    best: Tensor = per_signal()
    low: Tensor = per_signal()
    late: Tensor = per_signal()
    stale: Tensor = per_signal()

    @classmethod
    def at(cls, z: Tensor, step: Tensor) -> "Guarded":
        none = torch.full_like(step, inf)
        return cls(z, step, z, none, none, torch.zeros_like(step))

    def moved(self, misfit: Tensor, direction: Tensor, guard: Guard) -> Self:
        """The next place: a step along -direction, or back; misfit `(N,)` is that of z."""
        lower, stale = misfit < self.low, torch.where(misfit <= self.late * _LEVEL, 0.0, self.stale + 1)
        best, low = torch.where(lower[:, None], self.z, self.best), torch.where(lower, misfit, self.low)
        away, swings = ~(misfit <= guard.wild * low), stale > guard.patience
        z = torch.where(away[:, None], best, self.z - self.step[:, None] * direction)
        step = torch.where(away | swings, guard.cut * self.step, self.step)
        late = torch.where(away | swings, inf, torch.minimum(misfit, self.late))
        stale = torch.where(away | swings, 0.0, stale)
        return replace(self, z=z, step=step, best=best, low=low, late=late, stale=stale)


def bearable(task: Task, top: Tensor) -> Tensor:
    """1 / top, `(N,)`, top: |M|; where nothing moves 1 / prod_i |W_i|^2, which no M of the generator exceeds by much."""
    none = ~((top > 0) & torch.isfinite(top))
    if bool(none.any()):
        top = torch.where(none, prod(layer.W.norm() for layer in task.generator.layers) ** 2, top)
    return 1 / top


def stretch(task: Task, z: Tensor, left: Any = None) -> Tensor:
    """The norm of M = L'A'A J(z), `(N,)`, by power iteration on M'M from a fixed vector; from below. 0 where J(z) = 0.

    left: L as a map of latents, with `adjoint`; left out J(z) itself, and M is the Gauss-Newton matrix.
    """
    x, piece = task.generator.piece(z)
    seeing = task.measurement.at(x)

    def push(v: Tensor) -> Tensor:
        return piece.push(v[:, None])[:, 0]

    def pull(r: Tensor) -> Tensor:
        return piece.pull(r[:, None])[:, 0]

    onto, back = (push, pull) if left is None else (left, left.adjoint)

    def times(v: Tensor, first: Callable[[Tensor], Tensor], last: Callable[[Tensor], Tensor]) -> Tensor:
        return last(seeing.adjoint(seeing.observe(first(v))))

    v = torch.linspace(1, 2, z.shape[1], dtype=z.dtype, device=z.device).expand_as(z)
    found = torch.zeros_like(task.size)
    for _ in range(_ROUNDS):
        v = v / lengths(v, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        u = times(v, push, back)
        found = torch.maximum(found, lengths(u))
        u = u / lengths(u, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        v = times(u, onto, pull)
    return found
