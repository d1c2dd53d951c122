"""Starts that a user gives: latents, or an encoder that reads them off what was seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...batch import Batch, per_signal
from ...inputs import describe, read_numbers
from ..options import positive, tidy
from ..task import Task
from .newton import Descent
from .starts import Hunt, LeadOn, nothing_yet


@dataclass(frozen=True, eq=False)
class Earlier(Batch):
    """The latents of an earlier result, `(N, n0)` or `(n0,)`; a row that is not finite knows nothing of its signal."""

    z: Tensor = per_signal(ndim=2)


def as_start(z0: object) -> object:
    """`z0` as it is kept: None, a tensor of one latent `(n0,)`, of one per signal `(N, n0)` or several `(N, K, n0)`, the
    latents of an earlier result, or a callable.

    Raises TypeError or ValueError for anything else.
    """
    if z0 is None or callable(z0) or isinstance(z0, Earlier):
        return z0
    earlier = getattr(z0, "z", None)
    if isinstance(earlier, Tensor) and isinstance(z0, Batch):
        return Earlier(earlier)
    if not isinstance(z0, (Tensor, np.ndarray)):
        raise TypeError(
            f"expected z0 as latents (n0,), (N, n0) or (N, K, n0), an Inversion, or a callable of y, got {describe(z0)}; "
            "pass torch.as_tensor(...)"
        )
    z = read_numbers(z0, "z0", z0.device if isinstance(z0, Tensor) else torch.device("cpu"), "fi")
    if z.ndim not in (1, 2, 3):
        raise ValueError(f"expected z0 of shape (n0,), (N, n0) or (N, K, n0), got {tuple(z.shape)}; pass flat latents")
    return z if z.dtype.is_floating_point else z.double()


def tidy_starting(options: Any) -> None:
    """What methods check that begin at `z0` and at random starts when they are made: z0, restarts and max_iter.

    With z0 restarts may be 0; max_iter may be None. Raises TypeError or ValueError.
    """
    object.__setattr__(options, "z0", as_start(options.z0))
    tidy(options)
    positive(options.restarts, "restarts", least=int(options.z0 is None))
    if options.max_iter is not None:
        positive(options.max_iter, "max_iter")


def check_start(z0: object, task: Task) -> None:
    """Raises ValueError where latents that were given do not fit the task; a callable is asked when it is run."""
    if isinstance(z0, (Tensor, Earlier)):
        starts_of(z0, task)


def starts_of(z0: object, task: Task) -> dict[str, Tensor]:
    """The latents `(N, n0)` that z0 gives for a task, in its type, by the names of the starts; NaN where it knows none.

    Raises TypeError or ValueError where they do not fit.
    """
    if isinstance(z0, Earlier):
        known = torch.isfinite(z0.z).all(-1, keepdim=True)
        z = _fitting(torch.where(known, z0.z, 0.0), task, "the latents of the earlier result")
        return {"z0": torch.where(known.to(z.device), z, torch.nan)}
    if isinstance(z0, Tensor) and z0.ndim == 3:
        return {f"z0 {k + 1}": _fitting(z0[:, k], task, f"start {k + 1} of z0") for k in range(z0.shape[1])}
    z = z0 if isinstance(z0, Tensor) else _asked(z0, task)
    return {"z0": _fitting(z, task, "z0" if isinstance(z0, Tensor) else "the latents that z0 makes of y")}


def try_given(hunt: Hunt, z0: object, search: Callable[[Task, Tensor], Descent]) -> None:
    """Try `search` from what z0 gives, each signal from the starts that are known of it, while it is not explained."""
    for name, z in starts_of(z0, hunt.task).items():
        known = torch.isfinite(z).all(1)
        index = None if bool(known.all()) else hunt.open[known[hunt.open]]
        if index is not None and len(index) == 0:
            continue
        hunt.offer(name, lambda part, index, z=z: search(part, z[index]), index)  # type: ignore[misc]


def begin(task: Task, z0: object, search: Callable[[Task, Tensor], Descent], lead_on: LeadOn | None = None) -> Hunt:
    """A hunt that has tried `search` from z0, where one was given. lead_on: see `Hunt`."""
    hunt = Hunt(task, nothing_yet(task), None, lead_on)
    if z0 is not None:
        try_given(hunt, z0, search)
    return hunt


def _asked(encoder: Any, task: Task) -> Tensor:
    """What a callable makes of y `(N, k)`: in the type y came in, or a module's parameters have."""
    y = task.y.to(task.born)
    if isinstance(encoder, nn.Module):
        weight = next(encoder.parameters(), None)
        y = y if weight is None or not weight.is_floating_point() else y.to(weight.device, weight.dtype)
    with torch.no_grad():
        try:
            z = encoder(y)
        except (RuntimeError, IndexError) as error:  # torch's own, of shapes and types that do not meet
            raise ValueError(
                f"expected z0 to take y of shape {tuple(y.shape)}, {y.dtype}, got {type(error).__name__}: {error}; wrap it, "
                "e.g. z0=lambda y: encoder(y.float().reshape(-1, 1, 28, 28))"
            ) from error
    if isinstance(z, np.ndarray):
        z = torch.from_numpy(z)
    if not isinstance(z, Tensor) or not (z.is_floating_point()):
        raise TypeError(
            f"expected z0 to make floating latents of y, got {describe(z)}; of several outputs return the latents alone, "
            "e.g. z0=lambda y: encoder(y)[0]"
        )
    return z


def _fitting(z: Tensor, task: Task, what: str) -> Tensor:
    n0 = task.generator.latent_dim
    if z.shape not in ((n0,), (task.N, n0)):
        raise ValueError(
            f"expected {what} of shape ({task.N}, {n0}) or ({n0},), got {tuple(z.shape)}; pass one latent per signal"
        )
    z = z.detach().to(task.y).expand(task.N, n0)
    bad = (~torch.isfinite(z)).any(1) & task.usable
    if bool(bad.any()):
        raise ValueError(
            f"expected finite latents, got NaN or inf in {what} for signal {int(bad.nonzero()[0])}; "
            "pass 0 where nothing is known"
        )
    return torch.where(torch.isfinite(z), z, torch.zeros_like(z))
