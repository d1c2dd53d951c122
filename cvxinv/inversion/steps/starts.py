"""Random starts: drawn when they are asked for, tried on the signals that are not explained yet."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...generator.chain import Generator
from ...lengths import lengths
from ..answer import Latents
from ..task import Task
from .minimax import flatten
from .newton import Descent, descend

_STREAM = 0x5DEECE66D1234567
_SETTLE = 5000  # iterations that lead a signal to a local optimum where nobody set a limit


class Starts:
    """Random latents of a seed, the same for every signal, so that an answer does not depend on its neighbours.

    They come from a stream of their own: latents that a user drew with the same small seed are never among them.
    """

    def __init__(self, generator: Generator, seed: int = 0):
        self._generator, self._source = generator, torch.Generator().manual_seed(seed ^ _STREAM)
        self._drawn: list[Tensor] = []

    def latents(self, first: int, count: int = 1) -> Tensor:
        """Latents number `first` to `first + count - 1` of the stream, from 0, `(count, n0)`."""
        # one by one: torch draws small and large batches differently, and latent k must not depend on how many are asked for
        while len(self._drawn) < first + count:
            self._drawn.append(self._generator.sample_latent(1, self._source, device="cpu"))
        return torch.cat(self._drawn[first : first + count]).to(self._generator.device)


def nothing_yet(task: Task) -> Latents:
    """Latents of signals of which nothing is known: 0, by nobody."""
    z = torch.zeros(task.N, task.generator.latent_dim, dtype=task.y.dtype, device=task.y.device)
    return Latents(z, ("",) * task.N, torch.zeros(task.N, dtype=torch.long))


def try_starts(
    task: Task,
    found: Latents,
    starts: Starts,
    search: Callable[[Task, Tensor], Descent],
    *,
    count: int,
    candidates: int = 1,
    merit: Tensor | None = None,
    settle: bool = False,
) -> Latents:
    """Go on from `count` random starts at most, with the signals that are not explained; the best z of each is kept.

    search: a descent from latents, of a task. A start is the best by merit of `candidates` latents. merit: `Task.merit` of
    the latents found so far `(N,)`; None where there are none. settle: lead what is still not explained to a local optimum.
    """
    used, spent, z = list(found.used or ()), found.starts, found.z.clone()
    assert spent is not None
    best = torch.full_like(task.size, torch.inf) if merit is None else merit.clone()
    open_ = _open(task, z, best)
    for k in range(count):
        task.progress.reach(1 - len(open_) / task.N)
        if len(open_) == 0:
            break
        part = task.take(open_)
        new = search(part, _most_promising(part, starts.latents(k * candidates, candidates).to(task.y)))
        better = new.merit < best[open_]
        gained = open_[better]
        z[gained], best[gained] = new.z[better], new.merit[better]
        spent = spent.index_add(0, open_.cpu(), torch.ones(len(open_), dtype=spent.dtype))
        for i in gained.tolist():
            used[i] = f"random start {k + 1}"
        task.progress.reach((k + 1) / (count + 1))
        open_ = _open(task, z, best)
    if settle and len(open_):
        z[open_] = _settled(task.take(open_), z[open_])
    return replace(found, z=z, used=tuple(used), starts=spent)


def _open(task: Task, z: Tensor, merit: Tensor) -> Tensor:
    """Which signals are not explained by `z` of that merit, inf where nothing was tried; positions."""
    # a merit is the misfit, or the prior adds to it
    known = merit if task.prior is None or not task.prior.weighed else None
    return (~(task.explained(z, known) & torch.isfinite(merit)) & task.usable).nonzero()[:, 0]


def _most_promising(task: Task, candidates: Tensor) -> Tensor:
    """The candidate `(K, n0)` with the smallest merit for each signal, `(N, n0)`."""
    if task.prior is not None:
        candidates = task.prior.project(torch.cat([task.prior.centre(candidates)[None], candidates]))
    z = candidates[0].expand(task.N, -1).clone()
    if len(candidates) == 1:
        return z
    best = torch.full((task.N,), torch.inf, dtype=task.y.dtype, device=task.y.device)
    for candidate, x in zip(candidates, task.generator(candidates), strict=True):
        merit = task.merit(candidate.expand(task.N, -1), lengths(task.residual(x.expand(task.N, -1))))
        better = merit < best
        z[better], best[better] = candidate, merit[better]
    return z


def _settled(task: Task, z: Tensor) -> Tensor:
    """A local optimum from `z`, in the maximum norm if that is what the noise is stated in."""
    z = descend(task, z, _SETTLE).z
    return flatten(task, z) if task.noise is not None and task.noise.norm == "linf" else z
