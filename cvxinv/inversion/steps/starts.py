"""Starts: random latents that are drawn when they are asked for, and the hunt for what is not explained yet."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ...lengths import lengths
from ...measurement.entries import Everything
from ..answer import Latents
from ..task import EXPLAINED, Task
from .costs import dear
from .least_absolute import descend_absolute, led_on
from .minimax import descend_largest, led_within
from .newton import Descent, descend

_STREAM = 0x5DEECE66D1234567
_ALIKE = 4  # starts that end at the lowest optimum, after which it is the answer although it explains too little
_TWICE = 2  # the same at a misfit that rounding to float32 leaves, without noise
_ONE = 1e-6  # of the merit: ends closer than that are one
_SETTLE = 5000  # iterations that lead a signal to a local optimum where nobody set a limit
_BRIEFLY = 500  # the same where they are dear


class Starts:
    """Random latents of a seed, the same for every signal, so that an answer does not depend on its neighbours.

    They come from a stream of their own: latents that a user drew with the same small seed are never among them.
    """

    def __init__(self, generator: AbstractGenerator, seed: int = 0):
        self._generator, self._source = generator, torch.Generator().manual_seed(seed ^ _STREAM)
        self._seed = seed
        self._drawn: list[Tensor] = []

    def latents(self, first: int, count: int = 1) -> Tensor:
        """Latents number `first` to `first + count - 1` of the stream, from 0, `(count, n0)`."""
        # one by one: torch draws small and large batches differently, and latent k must not depend on how many are asked for
        while len(self._drawn) < first + count:
            self._drawn.append(self._generator.sample_latent(1, self._source, device="cpu"))
        return torch.cat(self._drawn[first : first + count]).to(self._generator.device)

    def directions(self, first: int, count: int) -> Tensor:
        """`count` draws of N(0, I) in the space of latents, `(count, n0)`, others for every `first`; float64."""
        source = torch.Generator().manual_seed(self._seed ^ _STREAM ^ (first + 1))
        drawn = torch.randn(count, self._generator.latent_dim, generator=source, dtype=torch.float64, device="cpu")
        return drawn.to(self._generator.device)


def nothing_yet(task: Task) -> Latents:
    """Latents of signals of which nothing is known: 0, by nobody."""
    z = torch.zeros(task.N, task.generator.latent_dim, dtype=task.y.dtype, device=task.y.device)
    return Latents(z, ("",) * task.N, torch.zeros(task.N, dtype=torch.long))


LeadOn = Callable[[Task, Descent], Descent]
Search = Callable[[Task, Tensor], Descent]  # of a task of some signals; from latents, or of their positions


def leading(task: Task) -> LeadOn | None:
    """What follows a least-squares descent where the noise is stated in linf or l1; None elsewhere."""
    if task.noise is None:
        return None
    return led_on if task.absolute else led_within if task.own_length else None


class Hunt:
    """The best latents so far of a task's signals: descents are tried on those that are not explained, the best z is kept.

    found: latents to begin with, and their `Task.merit` `(N,)`; without it they count as nothing. A signal's z, and what is
    said to have given it, change only where a descent ends lower, in the norm of the noise where that is linf or l1.
    lead_on: what follows every descent that is tried. H: curvatures from near z, `(N, n0, n0)`, 0 where none is known; None
    where kinks do not matter.
    """

    def __init__(self, task: Task, found: Latents, merit: Tensor | None = None, lead_on: LeadOn | None = None):
        assert found.starts is not None
        self._lead_on = lead_on
        self.task, self._found, self.z, self._spent = task, found, found.z.clone(), found.starts
        self._used = list(found.used or ("",) * task.N)
        self.merit = torch.full_like(task.size, torch.inf) if merit is None else merit.clone()
        # which starts ended at the lowest optimum: that one ends where it ended before tells nothing
        self._tried, self._alike = 0, defaultdict[int, set[str]](set)
        self.H: Tensor | None = None
        self._closed = torch.zeros_like(task.usable)
        self.open = self._unexplained()

    def offer(self, name: str, search: Search, index: Tensor | None = None) -> None:
        """Try `search` on the open signals; it takes their task and positions. name: to be credited with what it gains.

        index: on those at these positions, explained or not.
        """
        if index is not None:
            self.open = index  # what it leaves out is open again afterwards
        if self.task.progress.deadline is not None and self.task.progress.late():
            self.open = self.open[:0]
        if len(self.open) == 0:
            return
        part = self.task.take(self.open)
        self._keep(name, part, search(part, self.open))
        self.task.progress.reach(1 - len(self.open) / self.task.N)

    def draw(
        self,
        starts: Starts,
        search: Search,
        *,
        count: int,
        candidates: int = 1,
        first: int = 0,
        name: str = "random start",
        index: Tensor | None = None,
    ) -> None:
        """Random starts number `first` to `first + count - 1`, each the best by merit of `candidates` latents.

        search: a descent from latents, of a task. name: of the start in results, before its number. index: the first of
        them on those at these positions only.
        """
        if index is not None:
            self.open = index  # what it leaves out is open again afterwards
        for k in range(first, first + count):
            if self.task.progress.deadline is not None and self.task.progress.late():
                self.open = self.open[:0]
            if len(self.open) == 0:
                return
            part = self.task.take(self.open)
            drawn = starts.latents(k * candidates, candidates).to(self.task.y)
            new = search(part, most_promising(part, drawn, centre=k == 0))
            self.spend(self.open, 1)
            self._keep(f"{name} {k + 1}", part, new)
            self.task.progress.reach((k + 1) / (first + count + 1))

    def draw_every(self, starts: Starts, search: Search, *, count: int) -> None:
        """Random starts number 0 to `count - 1`, as they are drawn: the lowest merit wins, not the first that explains.

        Where no prior is weighed an explained signal is done: nothing is left to lower.
        """
        for k in range(count):
            index = self.task.usable.nonzero()[:, 0] if self.task.weighed else self.open
            if len(index) == 0 or (self.task.progress.deadline is not None and self.task.progress.late()):
                return
            z = starts.latents(k).to(self.task.y)
            self.spend(index, 1)
            self.offer(f"random start {k + 1}", lambda part, _, z=z: search(part, z.expand(part.N, -1)), index)  # type: ignore[misc]
            self.task.progress.reach((k + 1) / (count + 1))

    def reopen(self) -> None:
        """Whatever is not explained is open again, where some of it was left aside."""
        self.open = self._unexplained()

    def keep(self, name: str, index: Tensor, end: Descent) -> None:
        """`offer` of a descent of the signals at `index` that has been made: it counts although the time may be over."""
        self.open = index
        self._keep(name, self.task.take(index), end)

    def lower(self, index: Tensor, z: Tensor, merit: Tensor) -> None:
        """What the best z of the signals at `index` led to, where that is lower: who gave that is credited as before."""
        better = merit < self.merit[index]
        self.z[index[better]], self.merit[index[better]] = z[better], merit[better]

    def spend(self, index: Tensor, count: int) -> None:
        """Count random starts that others tried of the signals at `index`."""
        self._spent = self._spent.index_add(0, index.cpu(), torch.full((len(index),), count, dtype=self._spent.dtype))

    def close(self, index: Tensor) -> None:
        """The signals at `index` have what they will have: nothing more is tried."""
        self._closed[index] = True
        self.open = self._unexplained()

    def settle(self) -> None:
        """Lead what is still not explained to a local optimum."""
        if len(self.open):
            self.z[self.open] = _settled(self.task.take(self.open), self.z[self.open])

    def answer(self, notes: tuple[str, ...] = ()) -> Latents:
        """What was found, with these notes after those that were there."""
        return replace(self._found, z=self.z, used=tuple(self._used), starts=self._spent, notes=(*self._found.notes, *notes))

    def _keep(self, name: str, part: Task, new: Descent) -> None:
        if self._lead_on is not None:
            new = self._lead_on(part, new)
        merit, before, self._tried = new.merit, self.merit[self.open], self._tried + 1
        if part.own_length:
            merit = part.stated_length(part.residual(part.generator(new.z)))
        better, one = merit < before, (merit - before).abs() <= _ONE * merit
        for i, same, lower in zip(self.open.tolist(), one.tolist(), better.tolist(), strict=True):
            if same:
                self._alike[i].add(name)
            elif lower:
                self._alike[i] = {name}
        gained = self.open[better]
        self.z[gained], self.merit[gained] = new.z[better], merit[better]
        if new.H is not None:
            self.H = torch.zeros(self.task.N, *new.H.shape[1:]).to(new.H) if self.H is None else self.H
            self.H[gained] = new.H[better]
        for i in gained.tolist():
            self._used[i] = name
        self.open = self._unexplained()

    def rounded(self) -> Tensor:
        """Those open signals of which only that is left which rounding to float32 leaves, without noise; positions."""
        return self.open[self._small()[self.open]] if self.task.noise is None else self.open[:0]

    def _agreed(self, least: int) -> Tensor:
        return torch.tensor([len(self._alike[i]) >= least for i in range(self.task.N)], device=self.task.y.device)

    def _small(self) -> Tensor:
        return self.merit <= EXPLAINED[torch.float32] * self.task.size

    def _unexplained(self) -> Tensor:
        """Which signals are not explained, or of which nothing is known; positions.

        Where an optimum is asked for, chi-square leaves one signal in a thousand unexplained at its best: `_ALIKE`
        starts that end alike say that this is one. Without noise two say so of a misfit that rounding to float32 leaves.
        """
        # a merit is the misfit, or the prior adds to it
        known = None if self.task.weighed else self.merit
        met = self.task.explained(self.z, known) & torch.isfinite(self.merit)
        if self.task.stated:
            met = met | self._agreed(_ALIKE)
        elif self.task.noise is None and self._tried >= _TWICE:
            met = met | (self._agreed(_TWICE) & self._small())
        return (~met & self.task.usable & ~self._closed).nonzero()[:, 0]


def most_promising(task: Task, candidates: Tensor, *, centre: bool) -> Tensor:
    """The candidate `(K, n0)` with the smallest merit for each signal, `(N, n0)`.

    centre: whether the prior's centre, where there is one, is among them: once, or every start would begin there.
    """
    if task.prior is not None:
        first = [task.prior.centre(candidates)[None]] if centre else []
        candidates = task.prior.project(torch.cat([*first, candidates]))
    if len(candidates) == 1:
        return candidates.expand(task.N, -1).clone()
    x = task.generator(candidates)
    # matrices of signals' own are read once that way, and not once for each candidate
    few = task.N < len(candidates) or not (task.measurement.shared or task.measurement.pixelwise)
    return candidates[(_by_signal if few else _by_candidate)(task, candidates, x)]


def _by_signal(task: Task, candidates: Tensor, x: Tensor) -> Tensor:
    """Which candidate has the smallest merit for each signal, `(N,)`; one signal after the other."""
    best = []
    for i in range(task.N):
        one = _repeated(task.take(torch.tensor([i], device=task.y.device)), len(candidates))
        merit = one.merit(candidates, lengths(one.residual(x)))
        best.append(torch.where(torch.isnan(merit), torch.inf, merit).argmin())
    return torch.stack(best)


def _repeated(task: Task, count: int) -> Task:
    """A task of one signal, `count` times."""
    seeing = task.measurement.repeated(count)
    many = replace(task, measurement=Everything(seeing.length)).take(
        torch.zeros(count, dtype=torch.long, device=task.y.device)
    )
    return replace(many, measurement=seeing)


def _by_candidate(task: Task, candidates: Tensor, x: Tensor) -> Tensor:
    """`_by_signal`, one candidate after the other."""
    index = torch.zeros(task.N, dtype=torch.long, device=task.y.device)
    best = torch.full((task.N,), torch.inf, dtype=task.y.dtype, device=task.y.device)
    for k, (candidate, signal) in enumerate(zip(candidates, x, strict=True)):
        merit = task.merit(candidate.expand(task.N, -1), lengths(task.residual(signal.expand(task.N, -1))))
        better = merit < best
        index[better], best[better] = k, merit[better]
    return index


def _settled(task: Task, z: Tensor) -> Tensor:
    """A local optimum from `z`, in the linf or l1 norm if that is what the noise is stated in."""
    if task.absolute:
        return descend_absolute(task, z, _SETTLE).z
    if task.own_length:
        return descend_largest(task, z)
    return descend(task, z, _BRIEFLY if dear(task.generator) else _SETTLE).z
