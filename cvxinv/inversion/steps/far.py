"""Signals that are no signals of the generator: the nearest one is sought, by descents that heed kinks.

A picture that was not drawn from G is explained by no latent, and starts that would find one are tried in vain. What is
asked for is the nearest signal, an optimum among kinks as under gaussian noise: tied steps (`ties`) with the output's
curvature (`normal_equations`) meet it, where steps that know one piece creep along kinks.

Which signals those are is told by the generator's own: a few of them, seen in the same way, are given the same first starts,
and a signal that is left `_TIMES` as far from the range as the worst of them is no such signal, or one that only luck finds.
The noise's standard deviation is then what is left over, misfit / (k - n0)^(1/2). All starts are tried at once, as a step of
many takes little longer than one of a few; the lowest is led to its end, and past it where a lower one lies near by
(`softened`).

Where a Jacobian is dear, as behind convolutions, many at once take as long as one after the other, and their kinks longer:
all computed starts are tried first there, random ones until `_VAIN` in a row have lowered nothing, and the lowest takes a
few steps that heed kinks (`search_far_in_turn`).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..task import Noise, Task
from .chords import lead_by_chords
from .costs import dear
from .kinked import kinks_matter
from .learnt import learnt_starts, lesson_for
from .newton import MU, Descent, descend, descend_from_each
from .smoothed import BRIEF, WIDE, descend_smoothed
from .softened import APART, lower
from .starts import Hunt, Search, Starts, most_promising

_LEAST = 1e-2  # of |y|: a smaller misfit is searched on
_TIMES = 2.0
_OWN, _FEW_OWN = 24, 3  # signals of the generator's own; where their Jacobians are dear
_STEPS = 40  # of each start; the lowest goes on
_VAIN, _LOWERS = 3, 0.01  # random starts in a row that lower the misfit by less than that share
_KINKED, _ROUNDS = 60, 5  # steps that heed kinks, and again that many while they lower the misfit by `_LOWERS`
_END = 1000  # plain steps after them
_SEED = 0xFA2
SHRINKING, DAMPED = 1e-2, 1.0  # ridge and first damping of the second learnt start
COMPUTED = ("smoothed start", "learnt start 2", "smoothed start 2")


def far_off(hunt: Hunt, first: Sequence[Search]) -> Tensor:
    """Those open signals that are further from the range than `first` leave any of the generator's own; positions.

    first: searches from learnt latents that were tried of the open signals, each where the one before leaves something.
    """
    task, left = hunt.task, hunt.open
    if task.prior is not None or not (task.noise is None or task.noise.norm == "l2") or not _heeds_kinks(task):
        return left[:0]
    left = left[hunt.merit[left] > _LEAST * task.size[left]]
    if len(left) == 0:
        return left
    each = left[:1] if task.measurement.shared else left
    worst = torch.tensor([_left_over(task.take(one), first) for one in each.split(1)], dtype=task.y.dtype).to(task.y)
    return left[hunt.merit[left] > _TIMES * worst * task.size[left]]


def _heeds_kinks(task: Task) -> bool:
    return task.measurement.linear and kinks_matter(_in_noise(task, task.size))


def _in_noise(task: Task, misfit: Tensor) -> Task:
    """The task with gaussian noise that leaves `misfit` over, `(N,)`."""
    freedom = (task.seen - task.generator.latent_dim).clamp(min=1)
    return replace(task, noise=Noise("gaussian", misfit / freedom.to(misfit).sqrt()), far=True)


def _left_over(one: Task, first: Sequence[Search]) -> float:
    """The largest misfit, in that of a signal, that `first` leaves of own signals, which are seen as that of `one` is."""
    G, whole = one.generator, one.measurement.pixelwise and bool(one.measurement.seen(1).all())
    key = ("left over", repr(G.output), len(first))
    if whole and key in G.kept:
        return float(G.kept[key])
    if len(first) > 1 and (before := _left_over(one, first[:-1])) <= _LEAST:
        return before
    count = _FEW_OWN if dear(G) else _OWN
    seeing = one.measurement.repeated(count)
    y = seeing.observe(G(G.sample_latent(count, torch.Generator().manual_seed(_SEED)).to(one.y)))
    usable = torch.isfinite(y).all(1) & (y != 0).any(1)
    task = Task(G, y, seeing, None, usable, one.born).take(usable)
    share = torch.full_like(task.size, torch.inf)
    for search in first:
        some = (share > _LEAST).nonzero()[:, 0]
        if len(some):
            part = task.take(some)
            share[some] = share[some].minimum(search(part, learnt_starts(part)).misfit / part.size)
    worst = float(share.max()) if task.N else torch.inf
    if whole:
        G.kept[key] = worst
    return worst


def search_far(hunt: Hunt, index: Tensor, starts: Starts, count: int, candidates: int) -> None:
    """The nearest signals to those at `index`, from what is known, learnt and smoothed starts and `count` random ones.

    candidates: latents that a random start is the best of. The signals are closed after that.
    """
    if len(index) == 0:
        return
    names = [*COMPUTED, *[f"random start {k + 2}" for k in range(count)]]
    drawn = [starts.latents((k + 1) * candidates, candidates) for k in range(count)]
    size = max(1, hunt.task.chunk_size() // (1 + len(names)))
    for some in index.split(size):
        task = _in_noise(hunt.task.take(some), hunt.merit[some])
        known, *others = _ends(task, hunt.z[some], drawn)
        hunt.lower(some, known.z, known.merit)
        for name, end in zip(names, others, strict=True):
            hunt.keep(name, some, end)
        hunt.spend(some, count)
        z = lower(task, hunt.z[some], None if hunt.H is None else hunt.H[some])
        hunt.lower(some, z, task.merit(z))
    hunt.close(index)


def search_far_in_turn(
    hunt: Hunt, index: Tensor, starts: Starts, search: Search, numbers: Sequence[int], drawn: int
) -> None:
    """The nearest signals to those at `index` from random starts of these `numbers`, from 0, while they lower anything.

    search: a descent from latents. drawn: latents that a random start is the best of. What comes no nearer than a signal of
    the generator's own might lie is closed.
    """
    left, vain = index, torch.zeros_like(index)
    for k in numbers:
        if len(left) == 0:
            break
        before = hunt.merit[left]
        hunt.draw(starts, search, count=1, candidates=drawn, first=k, index=left)
        vain = torch.where(hunt.merit[left] < (1 - _LOWERS) * before, 0, vain + 1)
        on = (vain < _VAIN) & (hunt.merit[left] > _LEAST * hunt.task.size[left])
        left, vain = left[on], vain[on]
    index = index[hunt.merit[index] > _LEAST * hunt.task.size[index]]
    if len(index):
        task = hunt.task.take(index)
        end = descend(task, _along_kinks(task, hunt.z[index]), _END)
        hunt.lower(index, end.z, end.merit)
    hunt.close(index)


def _along_kinks(task: Task, z: Tensor) -> Tensor:
    """Where steps that heed kinks lead from z."""
    z, left = z.clone(), torch.arange(task.N, device=z.device)
    for _ in range(_ROUNDS):
        part = task.take(left)
        before = part.misfit(z[left])
        end = descend(_in_noise(part, before), z[left], _KINKED)
        z[left] = end.z
        left = left[end.misfit < (1 - _LOWERS) * before]
        if len(left) == 0:
            break
    return z


def _ends(task: Task, z: Tensor, drawn: list[Tensor]) -> list[Descent]:
    """Where starts end: z, those that are computed, and the best of each of the `drawn` latents `(K, n0)`."""
    random = [lead_by_chords(task, most_promising(task, latents.to(z), centre=False)) for latents in drawn]
    begun = [(z, MU), *computed(task, learnt_starts(task), _STEPS), *[(each, MU) for each in random]]
    return descend_from_each(task, begun, _STEPS, APART)


def computed(task: Task, z: Tensor, limit: int) -> list[tuple[Tensor, float]]:
    """Latents and first dampings of the starts `COMPUTED`, from the learnt z; limit: of smoothed steps."""
    lesson = lesson_for(task)
    narrow = descend_smoothed(task, z, BRIEF[:limit], lesson.spread)
    broad = descend_smoothed(task, lesson.m.to(z).expand_as(z), WIDE[:limit], lesson.spread)
    shrunk = learnt_starts(task, SHRINKING)
    return [(lead_by_chords(task, narrow), MU), (shrunk, DAMPED), (lead_by_chords(task, broad), MU)]
