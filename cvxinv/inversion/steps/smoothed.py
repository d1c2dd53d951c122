"""Smoothed Gauss-Newton: steps on the Jacobian that a neighbourhood of z has on average.

    J_s(z) = E J(z + s u),  u standard normal,      (J_s'J_s + mu t I) d = J_s'(A G(z) - y),    z <- z - d

t the mean diagonal of J_s'J_s. By Stein's lemma J_s is the slope of the linear regression of G(z + s u) on s u: what a
wide view of G says of its course, where J itself knows one of many small affine pieces. s falls from half a standard
deviation of the latents, or a whole one, to a twentieth, and Levenberg-Marquardt ends it. No step is refused: a descent at
large s may have to go uphill to leave a basin that the wide view does not see.

J_s is not sampled but worked out layer by layer. The value of a unit before its activation is taken as normal around u_j(z)
with standard deviation s |a_j|, a_j its gradient under the slopes below, and its slope as the mean over that,

    E phi'(u_j + s |a_j| xi) = a + (1 - a) Phi(u_j / (s |a_j|)),    a the slope of phi below 0, Phi the normal distribution,

units as if they were independent, and so with the sign of a magnitude |u|, 2 Phi(u / (s |a|)) - 1. With one hidden layer
this is exact; with more it leaves out their correlations. It costs as much as one Jacobian, where a regression takes
hundreds of signals.

Of a generator without layers J_s is sampled, by secants along the columns q_k of a random orthogonal matrix,

    J_s = sum_k (G(z + h q_k) - G(z - h q_k)) / (2 h) q_k',    h = `_SECANT` n0^(1/2) s,

which is exact where G is linear, whatever the matrix, and costs 2 n0 signals. h is about what a unit sees of s u.

Where gaussian noise is stated the prior's curvature and gradient join in, and behind a curved output chords stand for its
tangents (`chords`): in noise, saturated entries carry neither z far away, as tangents would have it, nor logits to be met.

The steps are in float32: what they are off by, the descent that follows corrects.

Source: Stein (1981) for the lemma; Frey, Hinton, "Variational learning in nonlinear Gaussian belief networks" (1999), for
the mean slope of rectified units; Choromanski et al., "Structured evolution strategies" (2018), for orthogonal secants.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ...generator.activations import AbstractActivation, Coupled, Identity, Tanh
from ...generator.chain import Generator, Layer
from ...generator.piece import sloped
from ..task import Task
from .chords import chord_slopes, takes_chords

NEAR = (0.5, 0.35, 0.25, 0.15, 0.1, 0.05)  # scales from a start that knows something, in standard deviations of a latent
WIDE = (1.0, 0.7, *NEAR)  # from one that knows nothing
BRIEF = (0.5, 0.25, 0.1)  # in gaussian noise, which hides what finer scales would tell
_MU = 1e-4
_SECANT = 0.5
_BYTES = 100_000_000  # of the columns of a block of signals at the widest layer
_SIZES = (1e-12, 1e12)  # of |y|: beyond, squares leave float32


def each(scales: tuple[float, ...], times: int) -> tuple[float, ...]:
    """Each scale so many times: the slower they fall, the surer the end."""
    return tuple(s for s in scales for _ in range(times))


def descend_smoothed(task: Task, z: Tensor, scales: tuple[float, ...] = each(NEAR, 2), spread: float = 1.0) -> Tensor:
    """Smoothed Gauss-Newton from `z` `(N, n0)`, a step for each of `scales` times `spread`; where it gets lost, z."""
    part, found = single_of(task), z.clone()
    block = max(1, _BYTES // (part.y.element_size() * task.generator.latent_dim * task.generator.widest))
    for index in torch.arange(task.N, device=z.device).split(block):
        some, at = part.take(index), z[index].to(part.y)
        for scale in scales:
            if task.progress.deadline is not None and task.progress.late():
                break
            some.step()
            at = _step(some, at, scale * spread)
        found[index] = at.to(z)
    found = torch.where(torch.isfinite(found).all(1, keepdim=True), found, z)
    return found if task.prior is None else task.prior.project(found)


def single_of(task: Task) -> Task:
    """The task in float32, for steps that others follow; as it is where squares of its signals would leave that."""
    low, high = _SIZES
    fits = bool(((task.size < high) & ((task.size > low) | (task.size == 0))).all())
    return task.single if fits else task


def _step(task: Task, z: Tensor, s: float) -> Tensor:
    J, r = _chorded(task, z, s) if takes_chords(task) else _tangent(task, z, s)
    H, g = (J.mT @ J).double() + task.prior_curvature(z), (J.mT @ r[..., None]).double() + task.prior_gradient(z)[..., None]
    t = torch.diagonal(H, dim1=-2, dim2=-1).mean(1)
    eye = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    L, info = torch.linalg.cholesky_ex(H + ((_MU + torch.finfo(z.dtype).eps) * t)[:, None, None] * eye)
    d = torch.cholesky_solve(g, L)[..., 0].to(z)
    return z - torch.where((info == 0)[:, None], d, torch.zeros_like(d))


def _tangent(task: Task, z: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """J_s of what was seen, and the residual."""
    x, J = smoothed_jacobian(task.generator, z, s, task.cut)
    return task.measurement.slope_around(x, J, s), task.residual(x)


def _chorded(task: Task, z: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """The same with the chords of the output for its tangents."""
    u, J = smoothed_jacobian(task.generator, z, s, before_output=True)
    slope, x = chord_slopes(task, u)
    return J * slope[..., None], task.residual(x)


def smoothed_jacobian(
    generator: AbstractGenerator, z: Tensor, s: float, cut: Tensor | None = None, before_output: bool = False
) -> tuple[Tensor, Tensor]:
    """Signals `(N, d)` of `z`, and J_s there, `(N, d, n0)`; `cut` as in `Task`, entries that count where they exceed 0.

    before_output: of a chain, both before its last activation.
    """
    if not generator.layers:
        return generator(z), _secants(generator, z, s)
    N, n0 = z.shape
    h, columns = z, torch.eye(n0, dtype=z.dtype, device=z.device)[None]
    for layer in generator.layers:
        u = layer.W(h) + layer.b
        columns = layer.W(columns.reshape(-1, layer.W.n)).reshape(len(columns), n0, -1)
        phi = Identity() if before_output and layer is generator.layers[-1] else layer.activation
        # of what has no kink the deviation is not asked for
        columns = sloped(columns, mean_slope(phi, u, s * columns.norm(dim=1) if phi.kinked else u))
        h = phi(u)
    if cut is not None:
        ahead = torch.special.ndtr(h / (s * columns.norm(dim=1)).clamp(min=torch.finfo(h.dtype).tiny))
        columns = columns * torch.where(cut, ahead, torch.ones_like(h))[:, None]
    return h, columns.expand(N, -1, -1).mT


def _secants(generator: AbstractGenerator, z: Tensor, s: float) -> Tensor:
    """J_s of a generator that is asked for values only, `(N, d, n0)`."""
    N, n0 = z.shape
    source = torch.Generator().manual_seed(round(1e6 * s))  # another matrix for each scale, the same for every signal
    Q = torch.linalg.qr(torch.randn(n0, n0, generator=source, dtype=torch.float64, device="cpu"))[0].to(z)
    h = _SECANT * n0**0.5 * s
    ahead, behind = (generator((z[:, None] + step * Q).flatten(0, 1)) for step in (h, -h))
    return ((ahead - behind) / (2 * h)).unflatten(0, (N, n0)).mT @ Q


def mean_slope(phi: AbstractActivation, u: Tensor, deviation: Tensor) -> Tensor | Coupled:
    """The mean slope of `phi` over normal values around `u` with that standard deviation; of a curved one that at u."""
    if phi.slopes is None:
        return phi.jacobian(u)
    low, high = phi.slopes
    return low + (high - low) * torch.special.ndtr(u / deviation.clamp(min=torch.finfo(u.dtype).tiny))


def squashed(task: Task, size: float) -> Task | None:
    """The same task read through a tanh behind a linear output, or None where that does not apply.

    tanh(u / c) for u = y and for the generator's signals alike has the same solutions, c half of `size`, the root mean
    square of an entry: entries that are far off pull less than in the squares, which leads past optima that a few of them
    hold.
    """
    if not isinstance(task.generator, Generator):
        return None
    last = task.generator.layers[-1]
    if not (last.activation.linear and task.measurement.pixelwise and task.cut is None and task.noise is None):
        return None
    c = size / 2
    if not 1e-30 < c < 1e30:
        return None
    layer = Layer(last.W.scaled(1 / c), last.b / c, Tanh())
    generator = replace(task.generator, layers=(*task.generator.layers[:-1], layer))
    y = task.measurement.observe(torch.tanh(task.y / c))
    return replace(task, generator=generator, y=y)
