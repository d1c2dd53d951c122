"""A search as it is watched: what is recorded of it, and the bar."""

import time
from dataclasses import dataclass, field, replace
from types import TracebackType

import torch
from torch import Tensor

from ..inversion.moments import Moment
from ..inversion.progress import bar
from .nodes import Nodes

_MOST = 400  # moments; of more every second one is forgotten
_FORM = "{l_bar}{bar}| {n:.0f}/{total_fmt} proved [{elapsed}{postfix}]"


@dataclass
class Record:
    """What a search began with, and how it went.

    good: signals, and latents, that are numbers, `(S,)`. first: squared misfits at the beginning, `(S,)`. began: when this
    call did, by `time.perf_counter`. before: seconds of earlier calls.
    """

    good: Tensor
    first: Tensor
    began: float
    before: float = 0.0
    moments: list[Moment] = field(default_factory=list)
    widest: Tensor = field(init=False)
    _looked: int = 0

    def __post_init__(self) -> None:
        self.widest = torch.zeros(len(self.good), dtype=torch.long)  # undecided units of the nodes that were kept

    def look_at(self, kept: list[Nodes]) -> None:
        """Look at the nodes that were kept since the last time."""
        for part in kept[self._looked :]:
            self.widest = self.widest.scatter_reduce(0, part.owner.cpu(), part.undecided.cpu(), "amax")
        self._looked = len(kept)

    @property
    def seconds(self) -> float:
        """Since the proof began, in all calls."""
        return self.before + time.perf_counter() - self.began

    @property
    def last(self) -> Moment:
        """The latest moment."""
        return self.moments[-1]

    def begin(self, moment: Moment) -> None:
        """Keep the first moment, with the misfits of what was given, before it was led anywhere."""
        given = self.first.sqrt() + torch.where(self.good, 0.0, torch.nan)
        self.add(replace(moment, misfit=given.cpu()))

    def add(self, moment: Moment) -> None:
        """Keep a moment; the first and the last always stay."""
        if len(self.moments) >= _MOST:
            self.moments = self.moments[::2]
        self.moments.append(moment)


class Bar:
    """A bar of the signals that are proved, with the median gap and the open nodes; wanted: None shows it on a terminal."""

    def __init__(self, signals: int, wanted: bool | None):
        self._bar = bar(signals, "prove", wanted)
        self._bar.bar_format = _FORM

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def show(self, moment: Moment) -> None:
        """Move to a moment."""
        if self._bar.disable:
            return
        self._bar.set_postfix_str(
            f"median gap {float(moment.gap.nanmedian()):.1e}, {int(moment.open.sum())} open nodes", refresh=False
        )
        self._bar.n = int(moment.proved.sum())
        self._bar.refresh()
