"""`compare`: methods of inversion on the same signals, from the same starts, within the same budget."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CvxinvWarning
from ...generator.abstract import AbstractGenerator
from ...inputs import plain_number, read_seed
from ...surroundings import undisturbed
from ..invert import check_truth
from ..level import check_level
from ..options import positive
from ..result import task_words, versions
from ..runs.watch import Watch
from ..task import Task, make_task
from .bench import Bench
from .comparison import Comparison
from .contestants import contestants
from .folder import open_comparison
from .observed import SAMPLES, Observed, as_seen, compressed, own_signals, with_whole
from .row import FAILED


@undisturbed
def compare(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray | None = None,
    methods: object = "all",
    *,
    measurement: object = None,
    measurements: int | None = None,
    noise: object = None,
    prior: object = None,
    truth: Tensor | np.ndarray | None = None,
    signals: Tensor | np.ndarray | None = None,
    samples: int | None = None,
    seed: int = 0,
    restarts: int | None = 10,
    time_limit: float | None = None,
    signal_time_limit: float | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Comparison:
    """Invert the same signals with several methods, and say which to take here and why.

    generator, y, measurement, noise, prior, chunk: as in `invert`. y left out: `samples` signals of the generator's own, 20
    unless said, whose z is known; measured, and with noise of the stated kind added. methods: "all", every one of `METHODS`;
    names; objects such as `Hybrid(restarts=20)`; or a mapping from names of your own to these. A method that refuses the
    task has a row that says why, and so has one that raises. measurements: m, and y are whole signals, seen as A x with one
    A `(m, d)` of entries N(0, 1/m) drawn from the seed. truth: true latents `(N, n0)`, signals: whole signals `(N, d)`, for
    SNRs and errors alone; nothing of them reaches a method but the oracle, which is marked as one that knows.

    The same budget: each method gets `restarts` random starts at most, where it draws any (None: its own number), from the
    stream of latents of `seed`, which is the same for all; and `time_limit` seconds for all signals, `signal_time_limit` for
    each. That many starts is not that much work: a start may be forty steps or two thousand, hybrid takes the best of a
    hundred latents for each and has starts that are computed, layered methods draw none. Only a time limit makes the work
    equal, on this machine and at its load now: methods look at the clock between steps and end a little later, some hardly
    look; the times in the table tell. Time counts the method without the judge, for all signals together over their number.

    progress: a bar over the methods; None shows it on a terminal. checkpoint: a folder that keeps the run of each method, as
    in `invert`; resume: go on there, with methods that are not done, begun or new; what is done is read. The rows are then
    those of an uninterrupted comparison bit for bit, times aside, where no time limit cut a method. overwrite: replace what
    it holds. A method that was killed midway goes on with a whole time limit.

    Returns a `Comparison`. Raises TypeError or ValueError for input that does not fit, before any arithmetic;
    FileExistsError for a folder that holds a comparison, OSError where it cannot be written.
    """
    seed, restarts, measurements = (plain_number(value) for value in (seed, restarts, measurements))  # type: ignore[assignment]
    read_seed(seed)
    if chunk is not None:
        positive(plain_number(chunk), "chunk")
    Watch(time_limit, signal_time_limit)  # raises
    _refuse_idle(checkpoint, resume, overwrite)
    asked = contestants(methods, None if restarts is None else positive(restarts, "restarts"))
    given = _signals(generator, y, truth, samples, seed)
    seen = _seen(generator, given, measurement, measurements, noise, seed)
    task = make_task(generator, seen.y, seen.measurement, noise, prior)
    check_level(task)
    truth64 = check_truth(seen.truth, task.to(torch.float64))
    seen = with_whole(Observed(seen.y, seen.measurement, truth64, seen.whole, seen.words), generator, signals)
    _check_whole(seen, task)
    limits = {"time_limit": time_limit, "signal_time_limit": signal_time_limit}
    settings = _settings(task, seen, noise) | {"seed": seed, "restarts": restarts, **limits}
    ran = versions(task, task.y.dtype)
    bench = Bench(generator, task.to(torch.float64), seen, noise, prior, {"seed": seed, "chunk": chunk, **limits})
    taking = [bench.admit(one) for one in asked]
    folder = (
        None
        if checkpoint is None
        else open_comparison(checkpoint, *bench.meant(taking, ran), resume=resume, overwrite=overwrite)
    )
    found = Comparison(tuple(bench.rows(taking, folder, progress)), settings, ran)
    if folder is not None:
        found.save(folder.path)
    _report(found)
    return found


def _refuse_idle(checkpoint: str | Path | None, resume: bool, overwrite: bool) -> None:
    for name, wanted in (("resume", resume), ("overwrite", overwrite)):
        if wanted and checkpoint is None:
            raise ValueError(f"expected checkpoint=folder beside {name}=True, got none; name the comparison's folder")


def _signals(generator: AbstractGenerator, y: object, truth: object, samples: int | None, seed: int) -> Observed:
    """The user's signals, or the generator's own."""
    if y is None:
        if truth is not None:
            raise ValueError("expected truth= beside signals y, got no signals; own samples know their latents")
        return own_signals(generator, SAMPLES if samples is None else plain_number(samples), seed)  # type: ignore[arg-type]
    if samples is not None:
        raise ValueError("expected y= or samples=, got both; leave one out")
    return Observed(y, truth=truth)


def _seen(
    generator: AbstractGenerator, given: Observed, measurement: object, measurements: int | None, noise: object, seed: int
) -> Observed:
    """Signals as they are measured; noise is added to what is the generator's own."""
    own = given.whole is not None
    if measurements is None:
        if not own:
            return Observed(given.y, measurement, given.truth)
        return as_seen(given, generator, measurement, noise, seed)
    if measurement is not None:
        raise ValueError("expected measurement= or measurements=, got both; leave one out")
    small = compressed(given, generator, measurements, seed)
    return as_seen(small, generator, None, noise, seed) if own else small


def _check_whole(seen: Observed, task: Task) -> None:
    if seen.whole is not None and len(seen.whole) != task.N:
        raise ValueError(f"expected whole signals for {task.N} y, got {len(seen.whole)}; pass one for each")


def _settings(task: Task, seen: Observed, noise: object) -> dict[str, Any]:
    """What is compared on, in words."""
    words, shown = task_words(task), task.measurement.seen(task.N)
    parts = {"Everything": "everything seen", "Mask": f"{1 - float(shown.double().mean()):.0%} hidden"}
    how = parts.get(task.measurement.name, f"{task.measurement.name}, {task.measurement.length} measurements")
    words.pop("mark", None)
    words["noise"] = "auto" if noise == "auto" else words["noise"]
    sizes = {"signals": task.N, "latents": task.generator.latent_dim, "entries": task.generator.signal_dim, "seen": how}
    return words | sizes | seen.told


def _report(found: Comparison) -> None:
    failed = [f"{row.name} ({row.reason})" for row in found.rows if row.outcome == FAILED]
    if failed:
        warnings.warn(f"{len(failed)} methods failed: {'; '.join(failed)}", CvxinvWarning, stacklevel=4)
