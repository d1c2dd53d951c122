"""A run as it is watched: its time, the bar, what a callback is told, and a line of log for each chunk."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from ...inputs import describe, read_seconds
from ..progress import STOPPED, Progress
from ..result import Inversion
from ..verify import USER_LIMIT
from .folder import Layout

log = logging.getLogger("cvxinv")


@dataclass(frozen=True)
class RunProgress:
    """What is known of a run after a chunk of signals.

    done, signals: signals that are done, and all of them. chunk: the chunk that was done, from 0; chunks: their number.
    counts: signals of each status so far. seconds: since the run began here; remaining: seconds that the rest may take, at
    the pace so far.
    """

    done: int
    signals: int
    chunk: int
    chunks: int
    counts: dict[str, int]
    seconds: float
    remaining: float

    def __str__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        return (
            f"chunk {self.chunk + 1} of {self.chunks}: {self.done} of {self.signals} signals, {words}; "
            f"{self.seconds:.1f} s, about {self.remaining:.1f} s to go"
        )


Callback = Callable[[RunProgress], Any]


@dataclass
class Watch:
    """Limits of a run and who is told of it.

    time_limit: seconds of the run; signal_time_limit: seconds of a signal, which a chunk may spend where it is needed.
    callback: told after each chunk; what returns True or raises StopIteration stops the run. stopped: why, or "".
    """

    time_limit: float | None = None
    signal_time_limit: float | None = None
    callback: Callback | None = None
    stopped: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    done: int = 0
    _fresh: int = 0

    def __post_init__(self) -> None:
        for name in ("time_limit", "signal_time_limit"):
            if getattr(self, name) is not None:
                setattr(self, name, read_seconds(getattr(self, name), name, "leave it out for no limit", "> 0"))
        if self.callback is not None and not callable(self.callback):
            raise TypeError(
                f"expected callback as a function of one RunProgress, got {describe(self.callback)}; pass e.g. "
                "callback=lambda progress: print(progress)"
            )

    def progress(self, shown: tqdm | None, start: int, count: int) -> Progress:
        """The progress of a chunk of `count` signals that begins now."""
        return Progress(shown, start, count, self.deadline(count))

    def deadline(self, count: int) -> float | None:
        """When a chunk of `count` signals that begins now has to end, as `time.time` counts; None without a limit."""
        ends = [self.started + self.time_limit] if self.time_limit is not None else []
        ends += [time.time() + count * self.signal_time_limit] if self.signal_time_limit is not None else []
        return min(ends, default=None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a result says of a run that was stopped."""
        return (f"{STOPPED} {self.stopped}: what was not finished by then is {USER_LIMIT}",) if self.stopped else ()

    @property
    def idle(self) -> bool:
        """Whether there is no limit and nobody is told."""
        limited = self.time_limit is not None or self.signal_time_limit is not None
        return not (limited or self.callback is not None or log.isEnabledFor(logging.INFO))

    @property
    def over(self) -> bool:
        """Whether the run's time is over."""
        return self.time_limit is not None and time.time() > self.started + self.time_limit

    def known(self, part_counts: dict[str, int]) -> None:
        """Count signals that an earlier run has done."""
        for status, count in part_counts.items():
            self.counts[status] = self.counts.get(status, 0) + count
        self.done += sum(part_counts.values())

    def told(self, k: int, part: Inversion, layout: Layout) -> None:
        """A chunk is done: say so; sets `stopped` where the run is to end here."""
        self.known(part.verdict.counts())
        self._fresh += len(part)
        if self.callback is not None or log.isEnabledFor(logging.INFO):
            self._say(k, layout)
        if not self.stopped and self.over and self.done < layout.signals:
            self.stopped = f"the time limit of {self.time_limit:g} s"

    def _say(self, k: int, layout: Layout) -> None:
        seconds = time.time() - self.started
        remaining = (layout.signals - self.done) * seconds / self._fresh
        word = RunProgress(self.done, layout.signals, k, layout.count, dict(self.counts), seconds, remaining)
        log.info("%s", word)
        if self.callback is None:
            return
        try:
            stop = self.callback(word) is True
        except StopIteration:
            stop = True
        if stop and self.done < layout.signals:
            self.stopped = "the callback"
