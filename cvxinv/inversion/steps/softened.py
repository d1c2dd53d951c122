"""From one local optimum of the stated objective to a lower one near by: by way of the objective with its kinks softened.

Noise bends the objective at every kink, so that an optimum has others around it, a little higher or lower, at about the
distance that the noise leaves open. Softened, each hidden unit is what it is on average over latents near z,

    E phi(u + w n) = a u + (1 - a) (u Phi(u / w) + w Phi'(u / w)),     n standard normal, a the leak,

Phi the normal distribution and w = `tau` sigma |L^-1 a_u|, L L' = J'J + sigma^2 R'', the standard deviation of u where z has
`tau` of its own under the posterior's Gaussian approximation. The kinks' small optima are gone from it, and its optimum, a
few steps of known curvature away, lies in the middle of them. A descent on the objective itself goes on from there until it
is clear where it leads. From a lower optimum the same is tried again; the lowest is led to its end.

Source: the homotopy of Mobahi and Fisher, "On the link between Gaussian homotopy continuation and convex envelopes" (2015),
on the hidden units instead of the objective.
"""

from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..task import Task
from .kinked import Place, curvature, descend_kinked, kinks_matter
from .smoothed import single_of

TAUS = (0.3, 0.6)
APART = 1e-9  # of the merit's square: what a descent is led to where this follows, enough to tell ends apart
_ROUNDS = 3  # as long as they find lower optima
_STEPS = 6  # on the softened objective, and as many more in the end as it takes
_MOST = 60
_ASTRAY = 1.1  # times the merit: where more steps lead to more, one does, or none
_END = 1000  # steps to the optimum itself at last, where nobody set a limit
_MU = 1e-9  # damping at first: what is near needs none
_SAME = 1e-8  # of the merit: ends closer than that are one
_LEAST = 1e-12  # of the curvature's mean diagonal, added to it


def lower(task: Task, z: Tensor, H: Tensor | None = None) -> Tensor:
    """The lowest optimum found by way of softened objectives, from near the optimum `z` `(N, n0)`, and again from there.

    What is found is led to its end at last, `z` too. H: curvatures from near `z`, `(N, n0, n0)`, 0 where none is known.
    """
    if not kinks_matter(task):
        return z
    at, rough = _Known(z.clone(), task.merit(z), _curvatures(task, z, H)), single_of(task)
    left = torch.arange(task.N, device=z.device)
    for _ in range(_ROUNDS):
        before = at.merit[left]
        _lower_once(task, rough, at, left)
        left = left[at.merit[left] < before]
        if len(left) == 0:
            break
    return descend_kinked(task, Place.at(task, at.z, _MU, at.H), _END).view.z


class _Known(NamedTuple):
    """The best optima so far: z `(N, n0)`, merit `(N,)`, and the curvature there."""

    z: Tensor
    merit: Tensor
    H: Tensor


def _curvatures(task: Task, z: Tensor, H: Tensor | None) -> Tensor:
    """H, with those that are not known."""
    if H is None:
        return curvature(task, z)
    unknown = (torch.diagonal(H, dim1=1, dim2=2) == 0).all(1).nonzero()[:, 0]
    if len(unknown) == 0:
        return H
    return H.index_put((unknown,), curvature(task.take(unknown), z[unknown]))


def _lower_once(task: Task, rough: Task, at: _Known, left: Tensor) -> None:
    """Look for lower optima of the signals `left`, and write them over those that are known; rough: see `single_of`."""
    for tau in TAUS:
        part, soften, start, near = task.take(left), rough.take(left), at.z[left], at.H[left]
        soft = [_softly(soften.take(block), start[block], near[block], tau) for block in part.blocks()]
        end = descend_kinked(part, Place.at(part, torch.cat(soft), _MU, near), _MOST, settled=APART)
        change = end.view.merit / at.merit[left] - 1
        gained = (change < -_SAME).nonzero()[:, 0]
        where, end = left[gained], end.take(gained)
        at.z[where], at.merit[where], at.H[where] = end.view.z, end.view.merit, end.H
        left = left[change.abs() > _SAME]  # where the narrow view leads back to, a wider one mostly does
        if len(left) == 0:
            break


def _softly(task: Task, z: Tensor, H: Tensor, tau: float) -> Tensor:
    """Steps on the softened objective, with the curvature that is known; in the task's type, as a descent follows."""
    assert task.noise is not None  # kinks matter under stated noise only
    L, info = torch.linalg.cholesky_ex(H + torch.diag_embed(_LEAST * torch.diagonal(H, dim1=-2, dim2=-1)))
    first = z.to(task.y)
    widths = _widths(task, first, L.to(first), tau * task.noise.bound)
    start, most = z, _ASTRAY * task.merit(first)
    for k in range(_STEPS):
        task.step()
        slope = _slope(task, z.to(first), widths).to(z)
        z = z - torch.cholesky_solve(slope[..., None], L)[..., 0]
        if k in (0, _STEPS - 1):
            start = torch.where(((info == 0) & (task.merit(z.to(first)) <= most))[:, None], z, start)
    return start


def _widths(task: Task, z: Tensor, L: Tensor, size: Tensor) -> list[Tensor]:
    """w of the units of each hidden layer, `(N, m)`."""
    found, h = [], z
    columns = torch.eye(z.shape[1], dtype=z.dtype, device=z.device).expand(len(z), -1, -1)
    for layer in task.generator.layers[:-1]:
        u, rows = layer.W(h) + layer.b, columns.reshape(-1, layer.W.n)
        columns = layer.W(rows).reshape(len(z), z.shape[1], -1)  # (N, n0, m)
        found.append(size[:, None] * torch.linalg.solve_triangular(L, columns, upper=False).norm(dim=1))
        columns, h = columns * layer.activation.derivative(u)[:, None], layer.activation(u)
    return found


def _slope(task: Task, z: Tensor, widths: list[Tensor]) -> Tensor:
    """Gradient of the softened objective, `(N, n0)`."""
    layers, h, slopes = task.generator.layers, z, []
    for layer, w in zip(layers[:-1], widths, strict=True):
        assert layer.activation.slopes is not None  # hidden layers are kinked
        u, (low, high) = layer.W(h) + layer.b, layer.activation.slopes
        t = u / w.clamp(min=torch.finfo(z.dtype).tiny)
        above = (1 + torch.erf(t / sqrt(2))) / 2
        slopes.append(low + (high - low) * above)
        h = low * u + (high - low) * (u * above + w * torch.exp(-t * t / 2) / sqrt(2 * pi))
    u = layers[-1].W(h) + layers[-1].b
    back = task.pull(layers[-1].activation(u)) * layers[-1].activation.derivative(u)
    for layer, slope in zip(reversed(layers[1:]), reversed(slopes), strict=True):
        back = layer.W.adjoint(back) * slope
    return layers[0].W.adjoint(back) + task.prior_gradient(z)
