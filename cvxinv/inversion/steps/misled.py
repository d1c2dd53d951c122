"""Whether the first start leads astray: tried once at each of some noise levels, on signals of the generator's own.

A few latents z_j of its distribution give y_j = G(z_j) + noise of one of `_SHARES` of each signal, the one nearest to the
noise that was stated: basins that a little noise keeps apart are hard to tell in much. A descent from the short smoothed
start that ends higher than one from z_j by more than `_HIGHER` of the merit has ended in another basin. Where that happens
at all, a signal may be explained by a latent that is not its best one: noise hides a difference that is small beside
chi-square's spread.
"""

from dataclasses import replace
from functools import partial
from math import log

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ...measurement.entries import Everything
from ..progress import Progress
from ..task import Noise, Task
from .costs import dear
from .learnt import learnt_starts, lesson_for
from .newton import descend, descend_through
from .smoothed import BRIEF, descend_smoothed

_TRIED = 48
_SHARES = (0.01, 0.1, 0.4)
_HIGHER = 2.5e-3
_STEPS = 100
_SEED = 0x7E57


def misleads(generator: AbstractGenerator, noise: float = _SHARES[0], progress: Progress | None = None) -> bool:
    """Whether another start is worth its time where an optimum is asked for; False for generators that are dear.

    So are those whose layers are not known: what runs one of a user's modules takes ten to a hundred times what its
    multiplications say. noise: its length in that of a signal. progress: until when the trial may take; nothing is kept of
    one that was cut short.
    """
    share = min(_SHARES, key=lambda s: abs(log(s / max(noise, _SHARES[0]))))
    phi = generator.output
    key = ("misled", type(phi), repr(phi), share)
    if key not in generator.kept:
        progress = Progress() if progress is None else progress
        cheap = bool(generator.layers) and not dear(generator)
        found = cheap and _tried(generator.to(torch.float64), share, progress)
        if cheap and progress.deadline is not None and progress.late():
            return False
        generator.kept[key] = found
    return bool(generator.kept[key])


def share_of(task: Task) -> Tensor:
    """The length of the noise that was stated in that of each signal, `(N,)`."""
    assert task.noise is not None
    return task.noise.length(task.seen) / task.size


def led_astray(task: Task, index: Tensor) -> Tensor:
    """Those of the signals at `index` for which another start is worth its time, each by its own noise."""
    shares = share_of(task)[index].clamp(_SHARES[0], _SHARES[-1])
    nearest = (shares.log()[:, None] - torch.tensor(_SHARES).to(shares).log()).abs().argmin(1)
    tried = partial(misleads, task.generator, progress=task.progress)
    worth = torch.tensor([bool((nearest == k).any()) and tried(s) for k, s in enumerate(_SHARES)])
    return index[worth.to(nearest.device)[nearest]]


def _tried(G: AbstractGenerator, share: float, progress: Progress) -> bool:
    source = torch.Generator().manual_seed(_SEED)
    z = G.sample_latent(_TRIED, source)
    x = G(z)
    sigma = share * x.norm(dim=1) / G.signal_dim**0.5
    usable = sigma > 0
    if not bool(usable.any()):
        return False
    noise = torch.randn(x.shape, generator=source, dtype=x.dtype, device="cpu").to(x.device)
    task = Task(G, x + sigma[:, None] * noise, Everything(G.signal_dim), Noise("gaussian", sigma), usable)
    task = replace(task, progress=progress).take(usable)
    start = descend_smoothed(task, learnt_starts(task), BRIEF, lesson_for(task).spread)
    found, near = descend_through(task, start, _STEPS), descend(task, z[usable], _STEPS)
    return bool((found.merit > (1 + _HIGHER) * near.merit).any())
