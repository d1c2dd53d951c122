"""To the smallest largest misfit, for noise that is stated in the maximum norm: no entry may be off by more than eps.

    find z in C with   |r(z)|_inf <= eps,   r(z) = A G(z) - y        C: a prior's set, or everything

The latents that explain a signal are a set with an inside, and the least-squares optimum, where squares of small misfits
count too, mostly lies outside of it. What counts is the excess: with slack t > 0

    minimise over z in C   1/2 sum_i max(|r_i(z)| - t, 0)^2

by Levenberg-Marquardt (`newton`) on the affine pieces, where rows within the slack have no part in residual and Jacobian. t
is a little less than eps, so that a descent ends inside after finitely many steps. With n0 = 20 latents, 784 entries and
eps of 1 to 20 % of a signal, excess descents from where one least-squares descent ended explained 96 to 100 % of own
signals of trained decoders; Lawson's reweighted least squares (1961), which converges on one piece, 10 to 95 %.

Where no z explains the signal the smallest largest misfit is sought: t is a share below what is reached, the descent goes
on while that is met, and the share shrinks where it is not.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..task import Task
from .newton import Descent, descend

_INSIDE = 1e-3  # share of eps by which t is below it
_STEPS = 80
_FIRST, _LAST, _SHRINK = 0.3, 1e-7, 0.3  # shares by which the largest misfit is to be lowered
_MET = 0.25  # of that share: lowered by less is not met
_EACH, _ROUNDS = 60, 100  # steps towards each goal, and goals at most
_NEAR, _TIMES, _GAIN = 1e-2, 5, 1e-6  # the first share once more, how often at most, and while so much of it is gained


def descend_within(task: Task, z: Tensor, max_iter: int = _STEPS) -> Descent:
    """From `z` `(N, n0)` towards where the stated bound is kept, or the best z there was; its merit is |r|_inf, `(N,)`."""
    assert task.noise is not None
    before = _largest(task, z)
    found, end = z.clone(), _excess(task, z, task.noise.bound * (1 - _INSIDE), _INSIDE * task.noise.bound, max_iter)
    largest = _largest(task, end.z)
    better = largest < before
    found[better], largest = end.z[better], torch.where(better, largest, before)
    return Descent(found, task.misfit(found), largest, end.steps)


def led_within(task: Task, found: Descent) -> Descent:
    """Where a least-squares descent led, led on to where the stated bound is kept."""
    end = descend_within(task, found.z)
    return replace(end, steps=end.steps + found.steps)


def descend_largest(task: Task, z: Tensor) -> Tensor:
    """A z `(N, n0)` whose largest misfit no steps near by lower, from `z`; what explains its signal is kept as it is."""
    z = _lowered(task, z, _FIRST)
    left = (~task.explained(z)).nonzero()[:, 0]
    for _ in range(_TIMES):
        if len(left) == 0:
            break
        part = task.take(left)
        before, end = _largest(part, z[left]), lowered_near(part, z[left])
        z[left] = end
        left = left[(_largest(part, end) < (1 - _GAIN) * before) & ~part.explained(end)]
    return z


def lowered_near(task: Task, z: Tensor) -> Tensor:
    """`descend_largest` once, with goals near what is reached."""
    return _lowered(task, z, _NEAR)


def _lowered(task: Task, z: Tensor, first: float) -> Tensor:
    """From `z` to smaller largest misfits; first: the share by which they are to be lowered at first."""
    z = z.clone() if task.prior is None else task.prior.project(z).clone()
    largest, share = _largest(task, z), torch.full_like(task.size, first)
    left = (~task.explained(z)).nonzero()[:, 0]
    for _ in range(_ROUNDS):
        if len(left) == 0 or (task.progress.deadline is not None and task.progress.late()):
            break
        part, lower = task.take(left), share[left] * largest[left]
        end = _excess(part, z[left], largest[left] - lower, lower / 2, _EACH).z
        reached = _largest(part, end)
        better, met = reached < largest[left], reached < largest[left] - _MET * lower
        z[left] = torch.where(better[:, None], end, z[left])
        largest[left] = torch.where(better, reached, largest[left])
        share[left] = torch.where(met, share[left], _SHRINK * share[left])
        on = (share[left] > _LAST) & ~part.explained(z[left])
        left = left[on]
    return z


def _excess(task: Task, z: Tensor, slack: Tensor, enough: Tensor, max_iter: int) -> Descent:
    """A descent on what exceeds `slack` `(N,)`, until its l2 length is below `enough` `(N,)`; signal units."""
    tiny = torch.finfo(z.dtype).tiny
    return descend(replace(task, noise=None, slack=slack), z, max_iter, target=enough / task.size.clamp(min=tiny))


def _largest(task: Task, z: Tensor) -> Tensor:
    """|r|_inf, `(N,)`; inf where it is not finite."""
    return torch.nan_to_num(task.residual(task.generator(z)).abs().amax(1), nan=torch.inf)
