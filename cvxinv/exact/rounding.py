"""What rounding may have done to a number: shares of the absolute values that were added up in it.

A sum of n products as float64 computes it is off by at most gamma_n = n u / (1 - n u), u = 2^-53, of the sum of their
absolute values, in whatever order it is added. What a layer computes is off by that share of |W| |x| + |b|, and by |W| times
what x itself was off by: so sizes go through the layers as absolute values, and no cancellation in W_L ... W_1 hides what
was rounded on the way to it.

Source: Higham, "Accuracy and Stability of Numerical Algorithms" (2002), sections 3.1 and 3.5; 19.3 for factors Q R.
"""

import torch
from torch import Tensor

from ..inversion.priors import Gaussian
from ..inversion.task import Task
from ..measurement.abstract import AbstractMeasurement

ROUNDING = 1e-13  # of the absolute values added up in one entry: gamma_n of two sums of 434 terms after each other
EPS = 2.0**-52
SMALLEST = 1e-120  # lengths of signals below: squares of their rounding, and products with those, would be 0
_UNIT = 2.0**-53
_CURVED = 16 * _UNIT  # of the values of an output that is no line


def gamma(n: int) -> float:
    """The share of its absolute values that a sum of n products is off by, with two roundings more."""
    return 1.01 * (n + 2) * _UNIT


def shares(n: int) -> float:
    """How many `ROUNDING` two sums of n products after each other are off by, 1 at least."""
    return max(1.0, 2 * gamma(n) / ROUNDING)


def seen_sizes(measurement: AbstractMeasurement, sizes: Tensor) -> Tensor:
    """|A| M `(S, k, n)` of sizes M >= 0 `(S, d, n)`."""
    if measurement.pixelwise:
        return measurement.push(sizes)
    if measurement.shared:
        return _magnitude(measurement, sizes[:1])[0] @ sizes
    # of as many signals as there are: one matrix at a time
    parts = [measurement.take(torch.tensor([k], device=sizes.device)) for k in range(len(sizes))]
    return torch.cat([_magnitude(part, sizes[:1]) @ one[None] for part, one in zip(parts, sizes, strict=True)])


def _magnitude(measurement: AbstractMeasurement, like: Tensor) -> Tensor:
    """|A| `(1, k, d)` of one signal."""
    return measurement.push(torch.eye(like.shape[1]).to(like)[None]).abs()


def misfit_rounding(task: Task, z: Tensor) -> Tensor:
    """How far the misfit of latents z `(N, n0)` that `refining.stated_misfit` computes may be from the true one, `(N,)`.

    Of chains of layers whose activations have slopes of at most 1 in size, but for what an output rescales. Signal units.
    """
    x, off = z, torch.zeros_like(z)
    for layer in task.generator.layers:
        absolute, its = layer.W.magnitude(), gamma(layer.W.n)
        off = absolute(off) + its * (absolute(x.abs()) + layer.b.abs())
        phi = layer.activation
        x = phi(layer.W(x) + layer.b)
        if not (phi.linear or phi.kinked):
            off = abs(phi.unit) * off + _CURVED * (abs(phi.parts[1]) + abs(phi.parts[2]) + x.abs())
        elif not phi.linear:
            off = off + _UNIT * x.abs()
    measurement = task.measurement
    both = seen_sizes(measurement, torch.stack([off, x.abs()], 2))
    share = 0.0 if measurement.pixelwise else gamma(x.shape[1])
    r = both[..., 0] + share * both[..., 1] + 2 * _UNIT * (both[..., 1] + task.y.abs())
    size = task.stated_length(both[..., 1] + task.y.abs())
    return (task.stated_length(r) + _prior_rounding(task, z)) * (1 + 1e-9) + gamma(r.shape[1]) * size


def _prior_rounding(task: Task, z: Tensor) -> Tensor:
    """The same of what a prior adds to the misfit's square, `(N,)`: of a square m^2 off by d, m is by d / m or d^(1/2)."""
    square = prior_rounding(task, z.abs())
    return torch.minimum(square.sqrt(), square / task.merit(z).clamp(min=1e-300))


def prior_rounding(task: Task, most: Tensor) -> Tensor:
    """How far 2 sigma^2 R(z) of a Gaussian prior may be from what is computed of it, and from its rows' |S z - t|^2, where
    |z| is `most` `(N, n0)` at most; `(N,)`, squared signal units."""
    prior = task.prior
    if not task.weighed or not isinstance(prior, Gaussian) or task.noise is None:
        return torch.zeros_like(most[:, 0])
    P, away = prior.curvature(most).abs(), most + torch.as_tensor(prior.mean).to(most).abs()
    if not bool((P - torch.diag(torch.diagonal(P)) != 0).any()):
        size = (away**2 * torch.diagonal(P)).sum(1)
    else:  # rows are of an eigendecomposition, which is one of P to rounding of its norm
        size = P.norm() * (away**2).sum(1)
    return task.noise.bound**2 * 8 * gamma(2 * most.shape[1]) * size
