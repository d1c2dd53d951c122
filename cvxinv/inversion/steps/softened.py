"""From one local optimum of the stated objective to a lower one near by: by way of the objective with its kinks softened.

Noise bends the objective at every kink, so that an optimum has others around it, a little higher or lower, at about the
distance that the noise leaves open. Softened, each hidden unit is what it is on average over latents near z,

    E phi(u + w n) = a u + (1 - a) (u Phi(u / w) + w Phi'(u / w)),     n standard normal, a the leak,

Phi the normal distribution and w = `tau` sigma |L^-1 a_u|, L L' = J'J + sigma^2 R'', the standard deviation of u where z has
`tau` of its own under the posterior's Gaussian approximation. The kinks' small optima are gone from it, and its optimum, a
few steps of known curvature away, lies in the middle of them. A descent on the objective itself goes on from there until it
is clear where it leads. Where the first of the steps is shorter than a fiftieth of a standard deviation no other is taken:
of 9,051 optima of seven trained decoders 3,266 began so, and three of them had a lower one near by, by at most 4e-4 nats (of
those that began with a tenth or more, every sixth, by up to 6). Nor is a descent begun where no kink that bends the
objective down lies on the way: what bends upwards alone leads back. Of 3,944 such middles of eight generators 3,062 had none
on their way, of which 9 were led to lower optima, by at most 3e-5 of the merit; of the other 882 394 were. From a lower
optimum the same is tried again; the lowest is led to its end.

Source: the homotopy of Mobahi and Fisher, "On the link between Gaussian homotopy continuation and convex envelopes" (2015),
on the hidden units instead of the objective.
"""

from dataclasses import replace
from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ..outlook import hidden_preactivations
from ..task import Task
from .kinked import Place, descend_kinked, kinks_matter
from .normal_equations import rough_curvature
from .smoothed import single_of

TAUS = (0.3, 0.6)
APART = 1e-9  # of the merit's square: what a descent is led to where this follows, enough to tell ends apart
_ROUNDS = 3  # as long as they find lower optima
_MOVES = 0.02  # standard deviations of the posterior: a first softened step that is shorter leads back
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
    at, rough = Place.at(task, z.clone(), _MU, _curvatures(task, z, H)), single_of(task)  # written to
    left = torch.arange(task.N, device=z.device)
    for _ in range(_ROUNDS):
        before = at.view.merit[left]
        _lower_once(task, rough, at, left)
        left = left[at.view.merit[left] < before]
        if len(left) == 0:
            break
    return descend_kinked(task, at.anew(_MU), _END).view.z


def _curvatures(task: Task, z: Tensor, H: Tensor | None) -> Tensor:
    """H, with those that are not known."""
    if H is None:
        return rough_curvature(task, z)
    unknown = (torch.diagonal(H, dim1=1, dim2=2) == 0).all(1).nonzero()[:, 0]
    if len(unknown) == 0:
        return H
    return H.index_put((unknown,), rough_curvature(task.take(unknown), z[unknown]))


def _lower_once(task: Task, rough: Task, at: Place, left: Tensor) -> None:
    """Look for lower optima of the signals `left`, and write them over those that are known; rough: see `single_of`."""
    for tau in TAUS:
        parts = [_softly(rough.take(some), at.view.z[some], at.H[some], tau) for some in _in_blocks(task, left)]
        moved, start = left[torch.cat([part.moved for part in parts])], torch.cat([part.z for part in parts])
        beyond = _crosses_down(task.generator, at.take(moved), start.to(task.y))
        moved, start = moved[beyond], start[beyond]
        if len(moved) == 0:
            break
        part, known = task.take(moved), at.view.z[moved]
        start = start if task.prior is None else task.prior.project(start)
        begun = replace(Place.at(part, start, _MU, at.H[moved]), home=known)
        end = replace(descend_kinked(part, begun, _MOST, settled=APART), home=None)
        change, back = end.view.merit / at.view.merit[moved] - 1, end.near(part, known)
        gained = (change < -_SAME).nonzero()[:, 0]
        at.put(moved[gained], end.take(gained))
        left = moved[(change.abs() > _SAME) & ~back]  # where the narrow view leads back to, a wider one mostly does
        if len(left) == 0:
            break


def _crosses_down(G: AbstractGenerator, home: Place, z: Tensor) -> Tensor:
    """Whether a kink that bends the objective down at `home` lies between it and z `(N, n0)`, bool `(N,)`.

    Where none does every bend on the way from home is upwards, and z is led back.
    """
    u, at_home = torch.cat(hidden_preactivations(G, z), 1), torch.cat(home.view.u[:-1], 1)
    return ((home.slope.kappa < 0) & ((u > 0) != (at_home > 0))).any(1)


def _in_blocks(task: Task, left: Tensor) -> list[Tensor]:
    return [left[block] for block in task.take(left).blocks()]


class _Softened(NamedTuple):
    """Which signals moved, bool `(N,)`, and where those are, `(n, n0)`."""

    moved: Tensor
    z: Tensor


def _softly(task: Task, z: Tensor, H: Tensor, tau: float) -> _Softened:
    """Steps on the softened objective, with the curvature that is known; in the task's type, as a descent follows."""
    assert task.noise is not None  # kinks matter under stated noise only
    L, info = torch.linalg.cholesky_ex(H + torch.diag_embed(_LEAST * torch.diagonal(H, dim1=-2, dim2=-1)))
    widths = _widths(task, z.to(task.y), L.to(task.y), tau * task.noise.bound)
    task.step()
    slope = _slope(task, z.to(task.y), widths).to(z)
    d = torch.cholesky_solve(slope[..., None], L)[..., 0]
    moved = (info == 0) & ((slope * d).sum(1) > (_MOVES * task.noise.bound).square())
    index = moved.nonzero()[:, 0]
    if len(index) == 0:
        return _Softened(moved, z[:0])
    task, start, L, widths = task.take(index), z[index], L[index], [w[index] for w in widths]
    most, z = _ASTRAY * task.merit(start.to(task.y)), start - d[index]
    start = _unless_astray(task, z, start, most)
    for _ in range(_STEPS - 1):
        task.step()
        slope = _slope(task, z.to(task.y), widths).to(z)
        z = z - torch.cholesky_solve(slope[..., None], L)[..., 0]
    return _Softened(moved, _unless_astray(task, z, start, most))


def _unless_astray(task: Task, z: Tensor, start: Tensor, most: Tensor) -> Tensor:
    """z, or `start` where the merit there exceeds `most`."""
    return torch.where((task.merit(z.to(task.y)) <= most)[:, None], z, start)


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
