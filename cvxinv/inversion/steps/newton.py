"""Levenberg-Marquardt on the affine pieces of a ReLU generator, batched.

    minimise over z in C   f(z) = 1/2 |A G(z) - y|^2 + sigma^2 R(z)

R and C are the prior's (`priors`), sigma the stated noise's; without them f is the misfit, C everything. On the piece of z,
A G is affine with Jacobian J (N, k, n0), pushed forward exactly, and with H = J'J + sigma^2 R'' the step d minimises over z
+ d in C

    1/2 d'(H + mu s I) d + (J'(A G(z) - y) + sigma^2 R'(z))'d,     s = mean diagonal of H,

without a set an n0 x n0 system. It is accepted where the true f falls (then mu / 5, else mu * 4), and every iterate lies in
C. Once the piece is right and mu is small a step is the exact optimum of the piece, which is how the iteration ends at
machine precision (the active-piece finish is this iteration started with mu tiny). J'J is damped from below, because J of a
real GAN can be rank deficient.

Behind an invertible output phi (tanh, sigmoid, PLU) the same iteration first runs on phi^-1(y) where that is well
conditioned, which is a ReLU network without the saturating output, and then through phi. Behind a ReLU output it first
runs on u = y where y > 0, u <= 0 elsewhere.

Source: exactness note, section 1; Marquardt (1963). The damping rule is the note's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ..outlook import triangle
from ..task import Task
from .chords import lead_by_chords
from .costs import dear
from .kinked import SETTLED, Place, descend_kinked, kinks_matter
from .normal_equations import normal_equations
from .plain import plain_step
from .reading import before_output, one_sided

MET = 1e-14  # of |y|: what is left of a misfit where rounding is
MU = 1e-3  # damping at first
_MIXED_MU = 1.0  # the same behind measurements that mix what an output bends
_SMALLEST_MU = 1e-15
_STALLED_MU = 1e10


@dataclass(frozen=True, eq=False)
class Descent(Batch):
    """Where a descent ended: z `(N, n0)`, misfit |A G(z) - y| and `Task.merit` `(N,)`, steps taken `(N,)`.

    H: the curvature that served last, `(N, n0, n0)`, where kinks matter.
    """

    z: Tensor = per_signal()
    misfit: Tensor = per_signal()
    merit: Tensor = per_signal()
    steps: Tensor = per_signal()
    H: Tensor | None = per_signal(default=None)


def descend(
    task: Task,
    z: Tensor,
    max_iter: int = 100,
    mu: float = MU,
    target: float | Tensor = MET,
    exact: bool = False,
    settled: float = SETTLED,
) -> Descent:
    """Run Levenberg-Marquardt from `z` until each signal's merit is <= target |y|, it stalls, or `max_iter`.

    target: one, or one per signal `(N,)`.

    A signal stalls when no damping up to 1e10 finds a lower merit, when a step promises to lower its square by less than
    1e-13 of it, or when three accepted steps in a row gain less than 1e-12 of it. Every signal runs as if alone. exact: all
    normal equations in float64, see `normal_equations`. settled: in place of 1e-13 among kinks, where a descent follows.
    """
    z = z.clone() if task.prior is None else task.prior.project(z).clone()
    if kinks_matter(task):
        return _ended(descend_kinked(task, Place.at(task, z, mu), max_iter, target, settled))
    steps = torch.zeros(task.N, dtype=torch.long, device=z.device)
    left = torch.arange(task.N, device=z.device)
    state = _State.start(task, z, mu, exact)
    misfit, merit = state.misfit.clone(), state.merit.clone()
    floor = target * task.size
    for _ in range(max_iter):
        if task.progress.deadline is not None and task.progress.late():
            break
        state.task.step()
        state = state.step()
        z[left], misfit[left], merit[left] = state.z, state.misfit, state.merit
        steps[left] += 1
        done = (state.merit <= floor[left]) | (state.mu > _STALLED_MU) | (state.idle >= 3)
        if done.any():
            left = left[~done]
            if len(left) == 0:
                break
            state = state.take(~done)
    return Descent(z, misfit, merit, steps)


def descend_from_each(
    task: Task, starts: Sequence[tuple[Tensor, float]], max_iter: int, settled: float = SETTLED
) -> list[Descent]:
    """`descend` from each of several starts, latents `(N, n0)` with a damping, where kinks matter: all of them at once.

    A step of many signals takes little longer than one of a few, which is what the ends of long descents are.
    """
    copies = task.take(torch.arange(task.N, device=task.y.device).repeat(len(starts)))
    z, mu = torch.cat([z for z, _ in starts]), torch.cat([torch.full_like(task.size, mu) for _, mu in starts])
    z = z if task.prior is None else task.prior.project(z)
    whole = _ended(descend_kinked(copies, Place.at(copies, z, mu), max_iter, MET, settled))
    return [whole.take(index) for index in torch.arange(copies.N, device=task.y.device).split(task.N)]


def _ended(at: Place) -> Descent:
    return Descent(at.view.z, at.view.misfit, at.view.merit, at.steps, at.H)


@dataclass(frozen=True, eq=False)
class _State(Batch):
    """Signals on their way, with the normal equations of their piece; of those that moved they are due at the next step."""

    task: Task = per_signal()
    z: Tensor = per_signal()
    misfit: Tensor = per_signal()
    merit: Tensor = per_signal()
    mu: Tensor = per_signal()
    idle: Tensor = per_signal()
    H: Tensor = per_signal()
    g: Tensor = per_signal()
    moved: Tensor = per_signal()
    exact: bool = False

    @classmethod
    def start(cls, task: Task, z: Tensor, mu: float, exact: bool) -> "_State":
        misfit = task.misfit(z)
        idle, moved = torch.zeros_like(misfit, dtype=torch.long), torch.ones_like(misfit, dtype=torch.bool)
        H = torch.zeros(*z.shape, z.shape[1], dtype=z.dtype, device=z.device)
        merit = task.merit(z, misfit)
        return cls(task, z.clone(), misfit, merit, torch.full_like(misfit, mu), idle, H, torch.zeros_like(z), moved, exact)

    def step(self) -> "_State":
        """One damped step; where it is rejected only the damping changes, and nothing is recomputed."""
        self._refresh()
        s = torch.diagonal(self.H, dim1=-2, dim2=-1).mean(1).clamp(min=torch.finfo(self.z.dtype).tiny)
        eye = torch.eye(self.H.shape[-1], dtype=self.z.dtype, device=self.z.device)
        damping = (self.mu + 4 * torch.finfo(self.z.dtype).eps) * s
        H = self.H + damping[:, None, None] * eye
        d, gain = plain_step(self.task, H, self.g, self.z)
        trial = self.z + d
        misfit = self.task.misfit(trial)
        merit = torch.nan_to_num(self.task.merit(trial, misfit), nan=torch.inf)
        better = merit < self.merit
        small = merit > self.merit * (1 - 1e-12)
        idle = torch.where(better & small, self.idle + 1, torch.where(better, 0, self.idle))
        mu = torch.where(better, (self.mu / 5).clamp(min=_SMALLEST_MU), self.mu * 4)
        mu = torch.where(gain < SETTLED * self.merit**2, torch.inf, mu)
        z = torch.where(better[:, None], trial, self.z)
        misfit, merit = torch.where(better, misfit, self.misfit), torch.where(better, merit, self.merit)
        return _State(self.task, z, misfit, merit, mu, idle, self.H, self.g, better, self.exact)

    def _refresh(self) -> None:
        moved = self.moved.nonzero()[:, 0]
        if len(moved) == len(self.z):
            self.H[:], self.g[:] = _equations(self)
        elif len(moved):
            self.H[moved], self.g[moved] = _equations(self.take(moved))


def _equations(state: _State) -> tuple[Tensor, Tensor]:
    """Curvature H and gradient g of the stated objective's piece, signal^2 units."""
    task, z = state.task, state.z
    H, g = normal_equations(task, z, state.misfit, state.mu, (state.idle > 0) | state.exact)
    if not task.weighed:
        return H, g
    return H + task.prior_curvature(z), g + task.prior_gradient(z)


def descend_through(
    task: Task, z: Tensor, max_iter: int = 100, mu: float = MU, settled: float = SETTLED, target: float = MET
) -> Descent:
    """`descend`, first on an easier task with the same solutions where there is one, then on the task itself.

    Easier: before a saturating output, or one-sided behind a ReLU. Gaussian noise is no longer that before the output, so
    that what is easier there has other solutions: chords lead on there (`chords`). Where the measurement mixes entries of a
    curved output there is neither, and of generators with dear Jacobians the damping is `_MIXED_MU` at first: behind a
    DCGAN's tanh a learnt start leads to z with it, and away from it without. Small ones are as fast by luck.
    """
    inner = (None if task.stated else before_output(task)) or one_sided(task)
    if inner is None:
        mu = max(mu, _MIXED_MU) if _misleads_tangents(task) else mu
        return descend(task, lead_by_chords(task, z), max_iter, mu, target, settled=settled)
    first = descend(inner, z, max_iter, mu, target=1e-12)
    # the logit fit weighs pixels otherwise than the signal does: keep the start where it was better
    start = torch.where((task.merit(first.z) < task.merit(z))[:, None], first.z, z)
    second = descend(task, start, max_iter, mu, target, settled=settled)
    return replace(second, steps=first.steps + second.steps)


def _misleads_tangents(task: Task) -> bool:
    """Whether tangents of saturated entries lead far away, and nothing stands for them."""
    return dear(task.generator) and task.generator.output.curved and not task.measurement.pixelwise


def extreme_singular_values(J: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest singular value of each `J` `(N, k, n0)`; the smallest is 0 where k < n0."""
    k, n0 = J.shape[1:]
    values = torch.linalg.svdvals(triangle(J))
    low = values[:, -1] if k >= n0 else torch.zeros_like(values[:, 0])
    return low, values[:, 0]
