"""What a proof is asked of, checked before any arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from ..inputs import describe, plain_number, read_numbers, read_seconds
from ..inversion.moments import Moment
from ..inversion.priors import AbstractPrior, Ball, Box
from ..inversion.result import Inversion
from ..inversion.task import Task, make_task

Told = Callable[[Moment], object]
_USUAL = 3.0  # half a side of the box where none is stated, times n0^(1/2)


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be proved: of a task in float64, over the box `sides` (lowest, highest, `(n0,)` each), to `gap`.

    start: latents `(S, n0)` to start from, None where they are to be found.
    """

    task: Task
    start: Tensor | None
    sides: tuple[Tensor, Tensor]
    gap: float


def read_asked(
    generator: AbstractGenerator, y: Tensor | np.ndarray, z: object, *, measurement: object, noise: object, prior: object,
    gap: object, box: object,
) -> Asked:  # fmt: skip
    """Raises TypeError or ValueError for what nothing is proved of, or what does not fit."""
    if isinstance(generator, AbstractGenerator) and not isinstance(generator, Generator):
        raise TypeError(
            f"expected a Generator, a chain of layers, got {describe(generator)}; of what is opaque nothing is proved: read "
            "the network as a chain, cvxinv.load_generator(net)"
        )
    gap = plain_number(gap)
    if isinstance(gap, bool) or not isinstance(gap, (int, float)):
        raise TypeError(f"expected gap as a number in (0, 1), got {describe(gap)}; pass e.g. gap=1e-4")
    if not 0 < gap < 1:
        raise ValueError(
            f"expected gap as a number in (0, 1), got {gap!r}; 1e-4 proves optima to 0.01 % of the squared misfit"
        )
    task = make_task(generator, y, measurement, noise, prior)
    assert isinstance(generator, Generator)  # `make_task` refuses what is no generator at all
    _check_task(task)
    start = None if z is None else _latents(z, task)
    return Asked(task.to(torch.float64), start, box_sides(box, task, task.generator.latent_dim), float(gap))


def read_budget(time_limit: object, batch: object, callback: object) -> tuple[float, int]:
    """Seconds, inf for no limit, and nodes at once. Raises TypeError or ValueError."""
    seconds = float("inf") if time_limit is None else read_seconds(time_limit, "time_limit", "pass None for no limit")
    batch = plain_number(batch)
    if isinstance(batch, bool) or not isinstance(batch, int):
        raise TypeError(f"expected batch as an integer >= 1, got {describe(batch)}; pass e.g. batch=64")
    if batch < 1:
        raise ValueError(f"expected batch >= 1, got {batch}; it is how many nodes are looked at together")
    if callback is not None and not callable(callback):
        raise TypeError(f"expected callback as a function of one Moment, got {describe(callback)}; pass e.g. callback=print")
    return seconds, batch


def _check_task(task: Task) -> None:
    if not task.measurement.linear:
        raise ValueError(
            f"expected a measurement that is linear, got {task.measurement.name}; of lost signs nothing is proved: leave "
            "them in y"
        )
    if task.noise is not None and task.noise.estimated:
        raise ValueError(
            "expected the noise as None or stated, got 'auto'; state the level that was estimated, "
            "noise=('gaussian', result.uncertainty.sigma)"
        )
    if task.prior is None or not task.prior.weighed:
        return
    if task.prior.as_rows(task.y[:, :1].expand(-1, task.generator.latent_dim)) is None:
        raise ValueError(
            f"expected a prior whose R is a sum of squares, got {task.prior!r}; use a Gaussian, or leave the prior out"
        )


def _latents(z: object, task: Task) -> Tensor:
    """Latents `(S, n0)` in float64; not finite where none is known."""
    n0 = task.generator.latent_dim
    given = read_numbers(z.z if isinstance(z, Inversion) else z, "latents z", task.y.device, "fi").double()
    given = given[None] if given.ndim == 1 else given
    if given.shape != (task.N, n0):
        raise ValueError(f"expected z of shape ({task.N}, {n0}), got {tuple(given.shape)}; pass one latent per signal")
    return given


def box_sides(box: object, task: Task, n0: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest latent of a box as `prove` takes it, `(n0,)` each, float64; of a prior's set the part around it.

    Raises TypeError or ValueError.
    """
    known = _around(task.prior)
    box = plain_number(box)
    if box is None:
        box = _USUAL * sqrt(n0) if known is None else known
    if isinstance(box, (int, float)) and not isinstance(box, bool):
        if not (box > 0 and isfinite(box)):
            raise ValueError(f"expected box as a number > 0, got {box!r}; it stands for |z_j| <= box")
        box = -box, box
    if not (isinstance(box, (tuple, list)) and len(box) == 2):
        raise TypeError(
            f"expected box as None, one number or (lowest, highest), got {describe(box)}; pass e.g. box=5.0 for |z_j| <= 5"
        )
    low, high = (_side(end, n0, task, known is not None) for end in box)
    if known is not None:
        low, high = (
            torch.maximum(low, torch.as_tensor(known[0], dtype=torch.float64).to(low)),
            torch.minimum(high, torch.as_tensor(known[1], dtype=torch.float64).to(high)),
        )
    if bool((low >= high).any()):
        k = int((low >= high).nonzero()[0, 0])
        raise ValueError(
            f"expected a box whose lowest latent is below its highest everywhere, got {float(low[k]):g} and "
            f"{float(high[k]):g} in coordinate {k}; swap or widen its sides"
        )
    return low, high


def _around(prior: AbstractPrior | None) -> tuple[object, object] | None:
    """The sides of a box that holds a prior's set, None where none is known."""
    if isinstance(prior, Ball):
        return -prior.radius, prior.radius
    return (prior.lo, prior.hi) if isinstance(prior, Box) else None


def _side(end: object, n0: int, task: Task, of_prior: bool) -> Tensor:
    end = plain_number(end)
    if isinstance(end, (int, float)) and not isinstance(end, bool):
        side = torch.tensor(float(end), dtype=torch.float64, device=task.y.device)
    else:
        side = read_numbers(end, "a side of the box", task.y.device, "fi", "pass a number, or one per latent").double()
    if side.ndim > 1 or (side.ndim == 1 and len(side) != n0):
        raise ValueError(
            f"expected the sides of the box as numbers or ({n0},), got shape {tuple(side.shape)}; pass one per latent"
        )
    if not bool(torch.isfinite(side).all()):
        where = "the Box prior" if of_prior else "the box"
        raise ValueError(f"expected finite sides of {where}, got an open one; pass box=(lowest, highest) with numbers")
    return side.expand(n0)
