"""A bar that moves: the work on a chunk of signals, told in shares of it, on the bar of the whole batch. And its time."""

import time

import torch
from torch import Tensor
from tqdm import tqdm

STOPPED = "stopped by"  # how the note of a run begins that was


class Progress:
    """What `invert` shows, and until when it may take. Without a bar it takes every word and does nothing.

    deadline: None, or when this chunk's time is over, as `time.time` counts. cut: whether something was left out for it.
    iterations: that `Task.step` counted of each signal, once there is something to count.
    """

    iterations: Tensor | None = None

    def __init__(self, bar: "tqdm | None" = None, start: int = 0, signals: int = 0, deadline: float | None = None):
        self._bar, self._start, self._signals = bar, start, signals
        self.deadline, self.cut = deadline, False

    def reach(self, share: float) -> None:
        """`share` in [0, 1] of this chunk's work is done; a bar never goes back."""
        if self._bar is None or self._bar.disable:
            return
        step = self._start + min(share, 1.0) * self._signals - self._bar.n
        if step > 0:
            self._bar.update(step)

    def counts(self, signals: int, device: torch.device) -> Tensor:
        """Begin to count the iterations of each of a chunk's signals; gives the places of these, `(N,)`."""
        self.iterations = torch.zeros(signals, dtype=torch.long, device=device)
        return torch.arange(signals, device=device)

    def late(self) -> bool:
        """Whether the time is over; whoever asks leaves the rest of its work where it is."""
        if self.deadline is not None and time.time() > self.deadline:
            self.cut = True
        return self.cut


def bar(total: int, name: str, wanted: bool | None) -> tqdm:
    """A bar of `total` signals; wanted: None shows it on a terminal. It counts parts of signals, and shows whole ones."""
    disable = None if wanted is None else not wanted
    form = "{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}]"
    # every word is shown where somebody asked for them, so that a short run moves too
    return tqdm(total=total, desc=name, unit="signal", disable=disable, bar_format=form, mininterval=0 if wanted else 0.1)
