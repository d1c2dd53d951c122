"""Levenberg-Marquardt on the affine pieces of a ReLU generator, batched.

    minimise over z   f(z) = 1/2 |A G(z) - y|^2

On the piece of z, A G is affine with Jacobian J (N, k, n0), pushed forward exactly: the step d solves
(J'J + mu s I) d = J'(A G(z) - y), s = mean diagonal of J'J, an n0 x n0 system. It is accepted where the true f falls
(then mu / 5, else mu * 4). Once the piece is right and mu is small a step is the least-squares solution of the piece,
which is how the iteration ends at machine precision (the active-piece finish is this iteration started with mu tiny).
J'J is damped from below, because J of a real GAN can be rank deficient.

Behind an invertible output phi (tanh, sigmoid, PLU) the same iteration first runs on phi^-1(y) where that is well
conditioned, which is a ReLU network without the saturating output, and then through phi. Behind a ReLU output it first
runs on u = y where y > 0, u <= 0 elsewhere.

Source: exactness note, section 1; Marquardt (1963). The damping rule is the note's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ..task import Task
from .reading import before_output, one_sided

_SMALLEST_MU = 1e-15
_STALLED_MU = 1e10


@dataclass(frozen=True, eq=False)
class Descent(Batch):
    """Where a descent ended: z `(N, n0)`, misfit |A G(z) - y| `(N,)`, steps taken `(N,)`."""

    z: Tensor = per_signal()
    misfit: Tensor = per_signal()
    steps: Tensor = per_signal()


def descend(task: Task, z: Tensor, max_iter: int = 100, mu: float = 1e-3, target: float = 1e-14) -> Descent:
    """Run Levenberg-Marquardt from `z` until each signal's misfit is <= target |y|, it stalls, or `max_iter`.

    A signal stalls when no damping up to 1e10 finds a lower misfit, or when three accepted steps in a row gain less
    than 1e-12 of it. Every signal runs as if alone.
    """
    z, steps = z.clone(), torch.zeros(task.N, dtype=torch.long, device=z.device)
    best = task.misfit(z)
    left = torch.arange(task.N, device=z.device)
    state = _State.start(task, z, best, mu)
    floor = target * task.size
    for _ in range(max_iter):
        state = state.step()
        z[left], best[left] = state.z, state.misfit
        steps[left] += 1
        done = (state.misfit <= floor[left]) | (state.mu > _STALLED_MU) | (state.idle >= 3)
        if done.any():
            left = left[~done]
            if len(left) == 0:
                break
            state = state.take(~done)
    return Descent(z, best, steps)


class _State:
    """Signals on their way, with the normal equations of their piece; of those that moved they are due at the next step."""

    def __init__(self, task: Task, z: Tensor, misfit: Tensor, mu: Tensor, idle: Tensor, H: Tensor, g: Tensor, moved: Tensor):
        self.task, self.z, self.misfit, self.mu, self.idle = task, z, misfit, mu, idle
        self.H, self.g, self.moved = H, g, moved

    @classmethod
    def start(cls, task: Task, z: Tensor, misfit: Tensor, mu: float) -> "_State":
        idle, moved = torch.zeros_like(misfit, dtype=torch.long), torch.ones_like(misfit, dtype=torch.bool)
        H = torch.zeros(*z.shape, z.shape[1], dtype=z.dtype, device=z.device)
        return cls(task, z, misfit, torch.full_like(misfit, mu), idle, H, torch.zeros_like(z), moved)

    def step(self) -> "_State":
        """One damped step; where it is rejected only the damping changes, and nothing is recomputed."""
        self._refresh()
        s = torch.diagonal(self.H, dim1=-2, dim2=-1).mean(1).clamp(min=torch.finfo(self.z.dtype).tiny)
        eye = torch.eye(self.H.shape[-1], dtype=self.z.dtype, device=self.z.device)
        damping = (self.mu + 4 * torch.finfo(self.z.dtype).eps) * s
        L, info = torch.linalg.cholesky_ex(self.H + damping[:, None, None] * eye)
        d = torch.cholesky_solve(self.g[..., None], L)[..., 0]
        trial = self.z - torch.where((info == 0)[:, None], d, torch.zeros_like(d))
        misfit = torch.nan_to_num(self.task.misfit(trial), nan=torch.inf)
        better = misfit < self.misfit
        small = misfit > self.misfit * (1 - 1e-12)
        idle = torch.where(better & small, self.idle + 1, torch.where(better, 0, self.idle))
        mu = torch.where(better, (self.mu / 5).clamp(min=_SMALLEST_MU), self.mu * 4)
        z = torch.where(better[:, None], trial, self.z)
        return _State(self.task, z, torch.where(better, misfit, self.misfit), mu, idle, self.H, self.g, better)

    def _refresh(self) -> None:
        moved = self.moved.nonzero()[:, 0]
        if len(moved) == len(self.z):
            self.H, self.g = _normal_equations(self.task, self.z)
        elif len(moved):
            self.H[moved], self.g[moved] = _normal_equations(self.task.take(moved), self.z[moved])

    def take(self, index: Tensor) -> "_State":
        return _State(
            self.task.take(index), self.z[index], self.misfit[index], self.mu[index], self.idle[index],
            self.H[index], self.g[index], self.moved[index],
        )  # fmt: skip


def _normal_equations(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """J'J and J'r at z, block by block."""
    H, g = [], []
    for block in task.blocks():
        r, J = task.take(block).linearize(z[block])
        H.append(J.mT @ J)
        g.append((J.mT @ r[..., None])[..., 0])
    return torch.cat(H), torch.cat(g)


def descend_through(task: Task, z: Tensor, max_iter: int = 100, mu: float = 1e-3) -> Descent:
    """`descend`, first on an easier task with the same solutions where there is one, then on the task itself.

    Easier: before a saturating output, or one-sided behind a ReLU.
    """
    inner = before_output(task) or one_sided(task)
    if inner is None:
        return descend(task, z, max_iter, mu)
    first = descend(inner, z, max_iter, mu, target=1e-12)
    # the logit fit weighs pixels otherwise than the signal does: keep the start where it was better
    start = torch.where((task.misfit(first.z) < task.misfit(z))[:, None], first.z, z)
    second = descend(task, start, max_iter, mu)
    return Descent(second.z, second.misfit, first.steps + second.steps)


def extreme_singular_values(J: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest singular value of each `J` `(N, k, n0)`; the smallest is 0 where k < n0."""
    k, n0 = J.shape[1:]
    small = torch.linalg.qr(J, mode="r").R if k > n0 else J
    values = torch.linalg.svdvals(small)
    low = values[:, -1] if k >= n0 else torch.zeros_like(values[:, 0])
    return low, values[:, 0]
