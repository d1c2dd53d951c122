"""A chunk of signals, from what was seen to judged answers.

What comes out depends on the chunk alone: not on other chunks, on what ran before, or on the process that computes it. So a
run that was stopped, goes on elsewhere or is spread over machines gives what one that runs through gives, bit for bit.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...batch import Batch, per_signal, shared
from ...inputs import describe
from ..answer import Latents
from ..level import at_level, estimated, find
from ..method import AbstractMethod
from ..progress import STOPPED, Progress
from ..result import Inversion, snrs
from ..steps.plan import descent_cost
from ..steps.starts import Starts
from ..task import Task
from ..verify import STATIONARY, USER_LIMIT, Verdict, judge_and_measure

_WORK = 1e12  # multiplications of a chunk that is kept: some minutes of a processor at most
_LEAST = 64  # signals of a chunk: fewer leave matrices that signals share too little to serve
_SPARE = 4  # of the memory of a chunk, what one that is kept leaves to others


@dataclass(frozen=True, eq=False)
class Chunk(Batch):
    """Signals that are inverted together.

    task: in float64, whatever the generator's type, which is `dtype`. method: after it was told the truth, `(N, n0)` or
    None. seed: of the random starts.
    """

    task: Task = per_signal()
    method: AbstractMethod = per_signal()
    truth: Tensor | None = per_signal(default=None)
    seed: int = shared(default=0)
    dtype: torch.dtype = torch.float64

    def __len__(self) -> int:
        return self.task.N

    def part(self, start: int, stop: int) -> "Chunk":
        """The signals from `start` to `stop`."""
        if (start, stop) == (0, len(self)):
            return self
        return self.take(torch.arange(start, stop, device=self.task.y.device))


def answer(chunk: Chunk, starts: Starts, progress: Progress) -> Inversion:
    """The inversion of a chunk, its settings and versions left open; starts: of its seed, which chunks may share."""
    place, began = progress.counts(chunk.task.N, chunk.task.y.device), time.perf_counter()
    task = replace(chunk.task, progress=progress, place=place)
    found = _run(task, chunk.method, starts)
    cut, solved = progress.cut, time.perf_counter()
    z = torch.where(task.usable[:, None], found.z, torch.nan).to(chunk.dtype)
    iterations = _iterations(progress, found)
    task = at_level(replace(task, place=None), z)
    verdict, known = judge_and_measure(task, z)  # on z as it is given back, rounding included
    clean = torch.nan_to_num(z).to(torch.float64)
    hidden, signal = signals_of(task, clean)
    seconds = {"verify": time.perf_counter() - solved, "solve": solved - began}
    verdict, given = _unfinished(verdict) if cut else verdict, signal.to(chunk.dtype)
    notes = (*found.notes, *([f"{STOPPED} the time limit: what is not explained is unfinished"] if cut else ()))
    return Inversion(
        z, tuple([h.to(chunk.dtype) for h in hidden]), given, chunk.method.name, verdict, found.layers,
        found.used or (), found.starts if found.starts is not None else torch.zeros(task.N, dtype=torch.long),
        {} if chunk.truth is None else snrs(task, chunk.truth, z, hidden, signal),
        seconds, {}, {}, notes, known, iterations=iterations,
    )  # fmt: skip


def _iterations(progress: Progress, found: Latents) -> Tensor:
    """Of descents and of layer problems, `(N,)`, on the CPU."""
    assert progress.iterations is not None  # `answer` began to count
    return sum((report.solution.iterations.cpu() for report in found.layers), progress.iterations.cpu())


def told_often(task: Task) -> int:
    """Signals at a time where chunks are kept: fewer than fit the memory where they would take long; by sizes alone."""
    fits = max(1, task.chunk_size() // _SPARE)
    return min(fits, max(_LEAST, int(_WORK / max(descent_cost(task), 1.0))))


def signals_of(task: Task, z: Tensor) -> tuple[list[Tensor], Tensor]:
    """Hidden layers and the signal at z, in z's type; NaN where a signal could not be used."""
    blank = (~task.usable)[:, None]
    *hidden, signal = [torch.where(blank, torch.nan, h) for h in task.generator.passed(z)]
    return hidden, signal


def _run(task: Task, method: AbstractMethod, starts: Starts) -> Latents:
    """What a method gives; where the noise's level is to be estimated, what it gives for the levels that are tried."""

    def search(part: Task, index: Tensor | None) -> Latents:
        its = method if index is None else method.take(index)
        return _checked(its.run(part, starts), part, method)

    return find(task, search, method.refine) if estimated(task) else search(task, None)


def _checked(found: object, task: Task, method: AbstractMethod) -> Latents:
    """What a method gave, if it is latents of the task's signals; with what it left out."""
    who = f"from {type(method).__name__}.run"
    if not isinstance(found, Latents):
        raise TypeError(f"expected Latents {who}, got {describe(found)}; return cvxinv.Latents(z)")
    shape, z = (task.N, task.generator.latent_dim), found.z
    if not isinstance(z, Tensor) or z.shape != shape or z.dtype != task.y.dtype or z.device != task.y.device:
        raise ValueError(
            f"expected latents z {who} of shape {shape}, {task.y.dtype} on {task.y.device}, got {describe(z)}; "
            "make them like task.y"
        )
    used = (method.name,) * task.N if found.used is None else found.used
    starts = torch.zeros(task.N, dtype=torch.long) if found.starts is None else found.starts
    for name, value in (("used", used), ("starts", starts)):
        if len(value) != task.N:
            raise ValueError(f"expected {name} {who} for {task.N} signals, got {len(value)}; one entry per signal")
    return replace(found, used=used, starts=starts)


def _unfinished(verdict: Verdict) -> Verdict:
    """Where the time was over, what is not explained is unfinished: other starts might have led lower."""
    status = np.where(verdict.status == STATIONARY, USER_LIMIT, verdict.status)
    return replace(verdict, status=status.astype(verdict.status.dtype))


def not_begun(chunk: Chunk, like: Inversion) -> Inversion:
    """Of signals not begun: nothing is known, status `user_limit`. like: an answer, for shapes and types."""
    blank: Any = like.take(torch.zeros(len(chunk), dtype=torch.long))
    status = np.full(len(chunk), USER_LIMIT).astype(blank.verdict.status.dtype)
    numbers = _without_numbers(blank.verdict)
    verdict = replace(numbers, status=status, size=chunk.task.size.cpu(), determined=torch.zeros(len(chunk)) > 0)
    known = None if blank.uncertainty is None else _without_numbers(blank.uncertainty)
    if known is not None and not blank.uncertainty.estimated:
        known = replace(known, sigma_error=torch.zeros_like(known.sigma_error))  # as it was stated
    return replace(
        blank, z=_nan(blank.z), hidden=tuple(map(_nan, blank.hidden)), signal=_nan(blank.signal), verdict=verdict, layers=(),
        used=("",) * len(chunk), starts=torch.zeros_like(blank.starts), snr={k: _nan(v) for k, v in blank.snr.items()},
        seconds={}, notes=(), uncertainty=known,
        iterations=None if blank.iterations is None else torch.zeros_like(blank.iterations),
    )  # fmt: skip


def _without_numbers(batch: Any) -> Any:
    """A batch with NaN for every float in it, and 0 for every count."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **{name: _nan(value) for name, value in tensors.items()})


def _nan(value: Tensor) -> Tensor:
    return torch.full_like(value, torch.nan) if value.is_floating_point() else torch.zeros_like(value)
