"""A run in memory: chunks are computed one after the other, or by a cluster, and joined; a folder keeps them meanwhile."""

from dataclasses import dataclass, field, replace

import torch

from ..progress import Progress, bar
from ..result import Inversion
from ..steps.starts import Starts
from ..storage import inversion_fields, inversion_spec, inversion_tensors, save_inversion
from .engine import Work, with_threads
from .folder import Layout, RunFolder
from .watch import Watch
from .work import Chunk, answer, not_begun


@dataclass
class Run:
    """What is computed: all signals, how they are cut, where chunks are kept (None: in memory), and by which cluster."""

    whole: Chunk
    layout: Layout
    folder: RunFolder | None = None
    cluster: object = None
    parts: dict[int, Inversion] = field(default_factory=dict)

    def chunk(self, k: int) -> Chunk:
        """The signals of chunk k."""
        return self.whole.part(*self.layout.span(k))

    def go(self, watch: Watch, progress: bool | None) -> Inversion:
        """All signals, in their order; what was not begun when the run was stopped is `user_limit`."""
        if self.folder is None and self.cluster is None and self.layout.signals <= self.layout.size and watch.idle:
            return self._at_once(progress)
        todo = self._begun(watch)
        with with_threads(None if self.folder is None else self.folder.meant["threads"]):
            work = Work(self.whole.task.generator, self.whole.seed, self.layout, self.whole.part, self.cluster)
            work.go(todo, watch, self.whole.method.name, progress, self._keep)
        return self._joined()

    def _keep(self, k: int, part: Inversion, unfinished: bool) -> None:
        self.parts[k] = part
        if self.folder is not None and self.layout.count > 1 and not unfinished:
            self.folder.write(k, inversion_tensors(part), inversion_spec(part))

    def _at_once(self, progress: bool | None) -> Inversion:
        with bar(self.layout.signals, self.whole.method.name, progress) as shown:
            moved = Progress(shown, 0, self.layout.signals)
            found = answer(self.whole, Starts(self.whole.task.generator, self.whole.seed), moved)
            moved.reach(1.0)
        return found

    def save(self, result: Inversion, unfinished: bool) -> None:
        """Write the result of all signals where a folder was named; of a run that was stopped, its chunks stay."""
        if self.folder is None:
            return
        with self.folder.told_why("the result"):
            save_inversion(result, self.folder.path, self.folder.said(unfinished))
        if not unfinished:
            self.folder.finish()

    def _begun(self, watch: Watch) -> list[int]:
        """The chunks that are left to do, after those that a folder keeps were read."""
        if self.folder is None or self.layout.count == 1:  # a single chunk is there with its result
            return list(range(self.layout.count))
        self.folder.begin()
        for k, read in self.folder.done(inversion_fields):
            self.parts[k] = on_device(Inversion(**read), self.whole.task.y.device)
            watch.known(self.parts[k].verdict.counts())
        return [k for k in range(self.layout.count) if k not in self.parts]

    def _joined(self) -> Inversion:
        like = next(iter(self.parts.values()))
        parts = [self.parts[k] if k in self.parts else not_begun(self.chunk(k), like) for k in range(self.layout.count)]
        return joined(parts)


def joined(parts: list[Inversion]) -> Inversion:
    """The inversion of all signals of a run, its settings and versions left open."""
    if len(parts) == 1:
        return parts[0]
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    if len({len(part.layers) for part in parts}) > 1:  # layers of signals that were begun, and none of the others
        parts = [replace(part, layers=()) for part in parts]
    seconds = {name: sum(part.seconds.get(name, 0.0) for part in parts) for name in ("verify", "solve")}
    return replace(Inversion.joined(parts), notes=notes, seconds=seconds)


def on_device(part: Inversion, device: torch.device) -> Inversion:
    """An inversion that was read from files, its latents, signals and points of layers on a device."""
    if device.type == "cpu":
        return part
    layers = []
    for report in part.layers:
        solution = replace(report.solution, h=report.solution.h.to(device), p=report.solution.p.to(device))
        layers.append(replace(report, solution=solution))
    hidden = tuple(h.to(device) for h in part.hidden)
    return replace(part, z=part.z.to(device), hidden=hidden, signal=part.signal.to(device), layers=tuple(layers))
