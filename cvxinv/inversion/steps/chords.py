"""Gauss-Newton steps with chords of a curved output in place of its tangents: from far away, where gaussian noise is stated.

Behind x = phi(u), u(z) affine on a piece, the tangent of phi says little of how far u is from what was seen where phi
saturates. The chord from u to v = phi^-1(y),

    s_i = (phi(u_i) - y_i) / (u_i - v_i),

tells it: with y without noise u + J d = v has the residual s (u + J d - v), and one step solves that however phi bends. So
H = (S J)'(S J) + sigma^2 R'' and g = J'S (phi(u) - y) + sigma^2 R' replace those of Gauss-Newton, S = diag(s). v is read
where y lies at least sigma within phi's range and at that distance elsewhere, as noise says no more. Where u comes near v
the chord is the tangent, and what noise leaves between them moves the iteration's end a little: once a merit is within the
noise, or a step lowers its square by less than a fifth, the descent on the objective itself goes on.

Source: the chord (secant) method, on the outputs one by one; that it replaces tangents in Gauss-Newton is this project's.
"""

import torch
from torch import Tensor

from ..task import Task
from .normal_equations import chord_equations
from .plain import plain_step

_MOST = 12
_ENOUGH = 0.8  # of the merit's square: what a step must leave at most for another one
_MU = 1e-3  # damping, in mean diagonals of H
_NEAR = 1e-3  # of phi's unit: u and v closer than that have the tangent for a chord


def lead_by_chords(task: Task, z: Tensor) -> Tensor:
    """Latents no higher than `z` `(N, n0)`, and mostly near an optimum; `z` itself where the output takes no chords."""
    if not takes_chords(task):
        return z
    z, merit = z.clone(), task.merit(z)
    left = (~task.explained(z, None if task.weighed else merit)).nonzero()[:, 0]
    for _ in range(_MOST):
        if len(left) == 0:
            break
        part = task.take(left)
        part.step()
        trial = torch.cat([_stepped(part.take(block), z[left[block]]) for block in part.blocks()])
        reached, before = torch.nan_to_num(part.merit(trial), nan=torch.inf), merit[left]
        better = reached < before
        z[left[better]], merit[left[better]] = trial[better], reached[better]
        left = left[(reached.square() < _ENOUGH * before.square()) & ~part.explained(trial, reached)]
        late = task.progress.deadline is not None and task.progress.late()
        if late:
            break
    return z


def takes_chords(task: Task) -> bool:
    """Whether each entry that was seen is of one u, behind a curved output with an inverse, in gaussian noise."""
    phi = task.generator.output
    return (
        task.stated and task.cut is None and phi.curved and phi.elementwise and phi.invertible and task.measurement.pixelwise
    )


def _stepped(task: Task, z: Tensor) -> Tensor:
    """z after one step."""
    u, piece = task.generator.piece(z, before_output=True)
    slope, x = chord_slopes(task, u)
    H, g = chord_equations(piece, slope, task.residual(x), z)
    H, g = H + task.prior_curvature(z), g + task.prior_gradient(z)
    s = torch.diagonal(H, dim1=-2, dim2=-1).mean(1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
    return z + plain_step(task, H + torch.diag_embed((_MU * s).expand_as(z)), g, z).d


def chord_slopes(task: Task, u: Tensor) -> tuple[Tensor, Tensor]:
    """s, 0 of entries that were not seen, and x = phi(u), `(N, d)` each, at u of a task that takes chords."""
    phi = task.generator.output
    seen = task.measurement.seen(task.N).to(u.device)
    assert task.noise is not None
    low, high = phi.range
    room = task.noise.bound[:, None].clamp(max=(high - low) / 4)
    y = task.y.maximum(low + room).minimum(high - room)
    v, x = phi.inverse(y), phi(u)
    apart = u - v
    slope = torch.where(apart.abs() > _NEAR * phi.unit, (x - y) / apart, phi.derivative(v))
    return (slope if bool(seen.all()) else slope * seen), x
