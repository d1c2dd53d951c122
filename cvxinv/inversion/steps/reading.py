"""Readings of an output: the same task before its activation, and the rows that its image layer is asked to meet."""

from dataclasses import replace

import torch
from torch import Tensor

from ...generator.activations import AbstractActivation
from ...generator.maps import AbstractMap
from ...measurement.abstract import settled
from ...measurement.entries import Mask
from ..task import Noise, Task


def before_output(task: Task) -> Task | None:
    """The same task read before an invertible output activation with other slopes than 1, or None where that does not apply.

    Entries where phi is too flat to carry the signal's precision (slope of phi below 1e-6, or 1e-2 with noise) are
    hidden. A measurement that mixes entries acts on the signal and cannot be moved through phi.
    """
    phi = task.generator.output
    if not (phi.curved and phi.invertible and task.measurement.pixelwise):
        return None
    inside = phi.inside(task.y)
    u = phi.inverse(torch.where(inside, task.y, torch.full_like(task.y, phi.middle)))
    flat = 1e-6 if task.noise is None else 1e-2
    visible = task.measurement.seen(task.N).to(task.y.device) & inside & (phi.derivative(u) > flat * phi.unit)
    noise = None if task.noise is None else Noise(task.noise.norm, task.noise.bound / (flat**0.5 * phi.unit))
    return replace(
        task,
        generator=task.generator.with_output("identity"),
        y=torch.where(visible, u, torch.zeros_like(u)),
        measurement=Mask(visible),
        noise=noise,
        usable=task.usable & visible.any(1),
    )


def one_sided(task: Task) -> Task | None:
    """The same task behind a ReLU output as u = y where y > 0 and u <= 0 elsewhere, or None where it does not apply.

    It has the same solutions, and a pixel that should be on pulls also where the current z leaves it off, which the ReLU
    itself would not let it.
    """
    if not (task.generator.output.cuts and task.measurement.pixelwise):
        return None
    return replace(task, generator=task.generator.with_output("identity"), cut=task.y <= 0)


def mixing(task: Task) -> str | None:
    """What mixes entries of the signal behind an output activation, where no layer can be read, in words; or None."""
    phi, seeing = task.generator.output, task.measurement
    if phi.linear or seeing.pixelwise:
        return None
    what = "a measurement matrix" if seeing.name == "Matrix" else f"the measurement {seeing.name}"
    return f"{what} acts on the signal behind its {type(phi).__name__}"


def unlayered(task: Task) -> str | None:
    """What the generator is where no layers of it can be solved, one after the other, or None."""
    G = task.generator
    if not G.layers:
        return G.kind
    index = G.first_curved
    if index is None:
        return None
    phi = type(G.layers[index].activation).__name__
    return f"a generator with {phi} behind its hidden layers[{index}], which is no ReLU and no LeakyReLU"


def refuse_unlayered(method: str, task: Task) -> None:
    """Raises ValueError for a method that goes through layers where there are none that can be solved."""
    if (got := unlayered(task)) is not None:
        raise ValueError(
            f"{method} cannot invert this: expected a generator whose layers are known and can be solved one after the "
            f"other, got {got}; use method='hybrid', 'levenberg_marquardt' or 'gradient_descent'"
        )


def unreadable(task: Task) -> str | None:
    """Why the image layer cannot be read before its activation and as rows, or None."""
    if (reason := unlayered(task)) is not None:
        return f"it is {reason}"
    if not task.measurement.linear:
        return f"the measurement {task.measurement.name} is not linear, and rows of a layer are read off linear ones only"
    phi = task.generator.output
    if mixing(task) is not None:
        return f"{mixing(task)}; the layered methods take it for an identity output only"
    if phi.curved and not phi.invertible:
        return f"its output {type(phi).__name__} has no inverse, so that no layer can be read before it"
    if not task.measurement.pixelwise and task.image is None:
        return (
            f"the measurement {task.measurement.name} makes no one map of the image layer (its through gives None); signals "
            "that are seen differently go through the layers one at a time, each with its own"
        )
    return None


def image_map(task: Task) -> tuple[AbstractMap, Tensor]:
    """Map and bias of the image layer as it was seen: with a matrix multiplied in, or whatever the measurement makes of it.

    Raises ValueError where it is `unreadable`.
    """
    if task.image is None:
        raise ValueError(f"expected a measurement that makes one map of the image layer, got {unreadable(task)}")
    W, b = task.image
    return settled(W), b


def image_rows(task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, on, off, weight of the image layer, read before its activation, `(N, k)` each.

    weight: the squared slope of the activation, so that the misfit is, to first order, the output's. Raises ValueError
    where it is `unreadable`.
    """
    phi = task.generator.output
    seen = task.measurement.seen(task.N).to(task.y.device)
    y, none, ones = task.y, torch.zeros_like(seen), torch.ones_like(task.y)
    if phi.linear:
        return y, seen, none, ones
    inner = before_output(task)
    if inner is None and (phi.curved or not task.measurement.pixelwise):
        raise ValueError(f"expected an image layer that can be read, got that {unreadable(task)}")
    if phi.leaks:
        return leaky(phi, y, seen)
    if inner is None:
        on = seen & (y > _cut(task)[:, None])
        return y, on, seen & ~on, ones
    visible = inner.measurement.seen(task.N)
    # exact rows fewer than the unknowns can all be met: weights would change the conditioning and nothing else
    weighed = visible & ((visible.sum(1) >= task.generator.layers[-1].W.n) | (task.noise is not None))[:, None]
    return inner.y, visible, none, torch.where(weighed, phi.derivative(inner.y) ** 2, ones)


def _cut(task: Task) -> Tensor:
    """Pixels at or below this are taken as cut by an output ReLU, `(N,)`: 0, or twice the noise of one pixel."""
    if task.noise is None:
        return torch.zeros_like(task.size)
    return task.noise.per_entry(task.seen) * (1 if task.noise.norm == "linf" else 2)


def leaky(phi: AbstractActivation, y: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, on, off, weight of rows behind a kink that loses nothing: every seen row is on, with y / a where y < 0."""
    assert phi.slopes is not None
    slope = torch.where(y < 0, torch.full_like(y, phi.slopes[0]), torch.ones_like(y))
    return y / slope, seen, torch.zeros_like(seen), slope**2


def rows_behind(phi: AbstractActivation, h: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, on, off, weight of the layer whose output h is; what exceeds `threshold` `(N,)` is on behind a ReLU."""
    if phi.leaks:
        return leaky(phi, h, torch.ones_like(h, dtype=torch.bool))
    on = h > threshold[:, None]
    return h, on, ~on, torch.ones_like(h)
