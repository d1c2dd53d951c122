"""To the smallest sum of absolute misfits, for noise that is stated in the l1 norm: a few entries may be far off.

    minimise over z in C   sum_i |r_i(z)|,   r(z) = A G(z) - y        C: a prior's set, or everything

Iteratively reweighted least squares on the affine pieces, damped as Levenberg-Marquardt is: with delta > 0

    s(z) = sum_i (r_i^2 + delta^2)^(1/2)  <=  s(z_k) + 1/2 sum_i w_i (r_i^2 - r_i(z_k)^2)
    w_i  = 1 / (r_i(z_k)^2 + delta^2)^(1/2)

for r on the piece of z_k, so that a weighted least-squares step that the piece holds lowers s. Where a step lowers s it is
taken and delta shrinks, by a tenth or to the (n0 + 1)-th smallest |r_i|, of which a minimum on a piece has n0 at 0;
elsewhere the damping grows. With most entries clean and some far off the minimum meets the clean ones exactly, and delta
comes down to rounding. Every signal keeps the best z it has seen.

Source: Beaton and Tukey (1974) for the weights; Daubechies, DeVore, Fornasier, Gunturk, "Iteratively reweighted least
squares minimization for sparse recovery" (2010), section 2, for delta that follows an order statistic; the damping is that
of `newton`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ..task import Task
from .newton import Descent
from .plain import plain_step

_STEPS = 200
_SHRINK = 0.1
_SMALLEST = 1e-15  # of |y|: the least delta
_FIRST_MU, _SMALLEST_MU, _STALLED_MU = 1e-3, 1e-15, 1e10
_GAIN = 1e-12  # of s: less is none


def descend_absolute(task: Task, z: Tensor, max_iter: int = _STEPS) -> Descent:
    """The best z in the l1 norm that reweighted steps from `z` `(N, n0)` find; its merit is that norm, `(N,)`."""
    parts = [_descend(task.take(block), z[block], max_iter) for block in task.blocks()]
    return Descent.joined(parts)


def led_on(task: Task, found: Descent) -> Descent:
    """Where a least-squares descent led, led on in the l1 norm."""
    end = descend_absolute(task, found.z)
    return replace(end, steps=end.steps + found.steps)


def _descend(task: Task, z: Tensor, max_iter: int) -> Descent:
    state = _State.start(task, z if task.prior is None else task.prior.project(z))
    best, lowest = state.z, state.r.abs().sum(1)
    count = torch.zeros(task.N, dtype=torch.long, device=z.device)
    for _ in range(max_iter):
        walks = (state.mu <= _STALLED_MU) & (lowest > state.floor) & task.usable
        if not bool(walks.any()) or (task.progress.deadline is not None and task.progress.late()):
            break
        task.step(walks)
        state, count = state.step(walks), count + walks
        height = state.r.abs().sum(1)
        better = height < lowest
        best, lowest = torch.where(better[:, None], state.z, best), torch.where(better, height, lowest)
    return Descent(best, task.misfit(best), lowest, count)


@dataclass(frozen=True, eq=False)
class _State(Batch):
    """Where signals are, with residual r `(N, k)` and Jacobian J `(N, k, n0)`; floor: of delta, signal units."""

    task: Task = per_signal()
    z: Tensor = per_signal()
    r: Tensor = per_signal()
    J: Tensor = per_signal()
    mu: Tensor = per_signal()
    delta: Tensor = per_signal()
    floor: Tensor = per_signal()

    @classmethod
    def start(cls, task: Task, z: Tensor) -> "_State":
        r, J = task.linearize(z)
        floor = _SMALLEST * task.size.clamp(min=torch.finfo(z.dtype).tiny)
        delta = torch.maximum(r.abs().median(1).values, floor)
        # J is written to, and may be one matrix for all signals
        return cls(task, z, r, J.clone(), torch.full_like(floor, _FIRST_MU), delta, floor)

    def step(self, walks: Tensor) -> "_State":
        """One damped step of the signals that walk, `(N,)`; the others stay."""
        d = torch.where(walks[:, None], self._direction(), torch.zeros_like(self.z))
        new = self.task.residual(self.task.generator(self.z + d))
        before, after = self._height(self.r), self._height(new)
        taken = walks & (after < before)
        z, r = torch.where(taken[:, None], self.z + d, self.z), torch.where(taken[:, None], new, self.r)
        mu = torch.where(taken, (self.mu / 5).clamp(min=_SMALLEST_MU), torch.where(walks, self.mu * 4, self.mu))
        # where delta has come to its floor nothing is left to gain
        idle = taken & (before - after < _GAIN * before) & (self.delta <= self.floor)
        smaller = torch.minimum(_SHRINK * self.delta, _next_smallest(r, z.shape[1]))
        delta = torch.where(taken, torch.maximum(smaller, self.floor), self.delta)
        moved = taken.nonzero()[:, 0]
        if len(moved):
            self.J[moved] = self.task.take(moved).linearize(z[moved])[1]
        return replace(self, z=z, r=r, mu=torch.where(idle, torch.inf, mu), delta=delta)

    def _height(self, r: Tensor) -> Tensor:
        """s of residuals, `(N,)`."""
        return torch.hypot(r, self.delta[:, None]).sum(1)

    def _direction(self) -> Tensor:
        """The damped weighted least-squares step; 0 where there is none."""
        WJ = self.J / torch.hypot(self.r, self.delta[:, None])[..., None]
        H, g = self.J.mT @ WJ, (WJ.mT @ self.r[..., None])[..., 0]
        mean = torch.diagonal(H, dim1=-2, dim2=-1).mean(1).clamp(min=torch.finfo(H.dtype).tiny)
        eye = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
        d = plain_step(self.task, H + ((self.mu + _SMALLEST_MU) * mean)[:, None, None] * eye, g, self.z).d
        return torch.where(torch.isfinite(d), d, torch.zeros_like(d))


def _next_smallest(r: Tensor, n0: int) -> Tensor:
    """The (n0 + 1)-th smallest |r_i|, `(N,)`, or the largest where there are no more."""
    return r.abs().sort(1).values[:, min(n0, r.shape[1] - 1)]
