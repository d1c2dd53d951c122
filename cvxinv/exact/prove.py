"""`prove`: is a latent the best of a box, and the only one? See `search` for how it is decided."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from ..inversion.invert import invert
from ..inversion.moments import (
    AT_A_CALL,
    AT_THE_LIMIT,
    BOUNDED,
    INTERRUPTED,
    NOTHING,
    PROVED,
    History,
    Moment,
    gap_of,
)
from ..inversion.proof import Proof
from ..inversion.result import Inversion, task_words, versions
from ..inversion.runs.work import signals_of
from ..inversion.task import Task
from ..inversion.uncertainty import measure_uncertainty
from ..inversion.verify import judge
from ..surroundings import undisturbed
from .asking import Asked, Told, read_asked, read_budget
from .keeping import Kept, ProofFolder, open_proof_folder, proof_words, put_back, state_of
from .log import log_path, recorder, write_log
from .network import as_network
from .nodes import over_box
from .opening import check_misfit, opened
from .refining import load_programs, polished, refined, stated_misfit
from .rounding import EPS, SMALLEST, misfit_rounding
from .search import FINE, Search
from .watching import Bar, Record
from .wide import by_maps, check_wide
from .wide_search import opened_wide

Begin = Callable[..., Search]  # of a task, latents, the box, the gap, and how the latent is turned where that is known
_LEAST_POLISH, _POLISH = 0.5, 0.05  # seconds past the limit of time, or share of it, that the last steps may take
_BETTER = 1e-6  # of the squared misfit: what a latent must lower it by to be called a better one


@undisturbed
def prove(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    z: "Tensor | np.ndarray | Inversion | None" = None,
    *,
    measurement: object = None,
    noise: object = None,
    prior: object = None,
    gap: float = 1e-4,
    box: object = None,
    time_limit: float | None = 60.0,
    batch: int = 64,
    progress: bool | None = None,
    callback: Told | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log: str | Path | None = None,
) -> Proof:
    """Prove that no latent of a box has a squared misfit below (1 - gap) times that of the best one known.

    generator: a chain of ReLU, LeakyReLU and linear layers, also behind a tanh or sigmoid; one in float32 is proved as the
    network of real numbers that its weights are. y, measurement, noise, prior: as in `invert`; one signal gives a proof of
    one. noise: None or a bound: of the misfit in its norm, and whether any latent meets it (`out_of_range`); ("gaussian",
    sigma) with a `Gaussian` prior: of the objective that both state. prior: also a set, of which the box that holds it is
    spoken of: `Box`, `Ball`. z: `(N, n0)` or `(n0,)`, latents to start from, or an `Inversion`; None asks `invert`, whose
    time does not count; brought into the box, where the best one is sought. gap: of the squared misfit, in (0, 1). box:
    None for |z_j| <= 3 n0^(1/2) (or for that of the prior), one number for |z_j| <= it, or (lowest, highest), numbers or
    `(n0,)`; of it the part in the prior's.
    time_limit: seconds of the search in this call, None for none, after which a round that has begun is ended; whatever is
    proved by then is the answer, and when an interrupt (Ctrl-C) comes. batch: nodes of a step, of which as many are worked
    on together as fit into 32 MB, 400 MB on a card, or one that needs more. progress: a bar; None shows it on a terminal.
    callback: told a `Moment` after each step; what returns True or raises StopIteration stops the search.

    checkpoint: a folder that keeps the open nodes while the search goes on, whole or not at all, and the proof in the end,
    as `Proof.save` writes it. resume: go on with the proof that the folder holds, if it is of the same question; its
    latents are those that it knows, z is not asked again. overwrite: replace what the folder holds. log: a file that
    `cvxinv check` accepts or refuses in exact arithmetic (docs/checking.md); its numbers are kept in memory until the
    end, so that it goes without checkpoint.

    Computes in float64; bounds are true of the real numbers that the weights are, whatever cancels in their products. Of
    signals shorter than 1e-120, whose squares are nothing, nothing is proved (`numerical_error`). Raises TypeError or
    ValueError for what does not fit or nothing can be proved of (opaque and curved generators, measurements that are not
    linear), before any arithmetic; FileExistsError for a folder that holds a proof, OSError where it cannot be written.
    """
    limit, batch = read_budget(time_limit, batch, callback)
    asked = read_asked(generator, y, z, measurement=measurement, noise=noise, prior=prior, gap=gap, box=box)
    assert isinstance(asked.task.generator, Generator)
    check_misfit(asked.task)
    began = time.perf_counter()
    if by_maps(asked.task, log):
        check_wide(asked.task, log)
        begin: Begin = opened_wide
    else:
        begin = partial(opened, as_network(asked.task.generator).beside(asked.sides[0]))
    path, folder, kept = log_path(log, asked.task), None, None
    if path is not None and checkpoint is not None:
        raise ValueError("expected log without checkpoint, got both: what a log tells is not kept between calls; pass one")
    if checkpoint is not None:
        folder, found = open_proof_folder(checkpoint, proof_words(asked), resume=resume, overwrite=overwrite)
        if isinstance(found, Proof):
            return found
        kept = found
    elif resume or overwrite:
        name = "resume" if resume else "overwrite"
        raise ValueError(f"expected checkpoint=folder beside {name}=True, got none; name the folder of the proof")
    start = _found(asked, noise, prior) if kept is None and asked.start is None else asked.start
    deadline = time.perf_counter() + limit
    load_programs()
    if kept is None:
        assert start is not None
        search, record = _begun(begin, asked, start, began)
    else:
        search, record = _resumed(begin, asked, kept, began)
    search.log = None if path is None else recorder(asked.task)
    with Bar(len(record.first), progress) as shown:
        stopped = _go(search, record, deadline, batch, shown, callback, folder)
    if _polish(search, asked, max(deadline, time.perf_counter()) + max(_LEAST_POLISH, _POLISH * limit)):
        record.add(_moment(search, record))
    proof = _answer(search, record, asked, stopped)
    if folder is not None:
        folder.end(proof)
    if path is not None:
        write_log(path, search, asked.task, replace(proof, z=search.best), asked.sides)
    return proof


def _found(asked: Asked, noise: object, prior: object) -> Tensor:
    """Latents that `invert` finds, the middle of the box where it finds none."""
    task = asked.task
    found = invert(
        task.generator, task.y, measurement=task.measurement, noise=noise, prior=prior, on_fail="ignore", progress=False
    ).z.double()
    middle = (asked.sides[0] + asked.sides[1]) / 2
    return torch.where(torch.isfinite(found).all(1, keepdim=True), found, middle)


def _begun(begin: Begin, asked: Asked, start: Tensor, began: float) -> tuple[Search, Record]:
    """A search from latents, in the box and led to a local optimum near by, and what is recorded of it."""
    best, good, first = _led(asked, start)
    search = begin(asked.task, best, asked.sides, asked.gap)
    search.open = search.open.take(good[search.open.owner])
    record = Record(good, first, began)
    record.begin(_moment(search, record))
    return search, record


def _led(asked: Asked, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents in the box and led to a local optimum near by, which are numbers, and squared misfits before that."""
    task, sides = asked.task, asked.sides
    good = task.usable & torch.isfinite(start).all(1)
    start = torch.where(good[:, None], start, 0.0).clamp(*sides)
    merit = stated_misfit(task, start)
    good = good & torch.isfinite(merit) & ~_too_small(task, merit, sides)
    start = torch.where(good[:, None], start, sides[0])
    first = torch.where(good, merit, 0.0).square()
    end = refined(task, start).clamp(*sides)
    end = end if task.prior is None else task.prior.project(end).clamp(*sides)
    better = (stated_misfit(task, end).square() < first * (1 - 1e-9)) & good
    return torch.where(better[:, None], end, start), good, first


def _too_small(task: Task, merit: Tensor, sides: tuple[Tensor, Tensor]) -> Tensor:
    """Signals so small that squares of their rounding are 0 in float64, `(N,)`; where one is 0, what the generator gives."""
    size = torch.where(task.size > 0, task.size, merit)
    reached = misfit_rounding(task, torch.maximum(*(side.abs() for side in sides)).expand(task.N, -1)) / EPS
    return torch.where(size > 0, size, reached) < SMALLEST


def _resumed(begin: Begin, asked: Asked, kept: Kept, began: float) -> tuple[Search, Record]:
    state = kept.state
    best, V = (value.to(asked.task.y) for value in (state["best"], kept.V))
    search = begin(asked.task, best, asked.sides, asked.gap, V)
    put_back(search, state)
    return search, kept.record(began)


def _go(
    search: Search,
    record: Record,
    deadline: float,
    batch: int,
    shown: Bar,
    callback: Told | None,
    folder: ProofFolder | None,
) -> str:
    """Search until all is decided or something stops it; says what did, "" for nothing."""
    shown.show(record.last)
    state, stopped = state_of(search), ""
    try:
        while len(search.open) and not stopped:
            if time.perf_counter() >= deadline:
                stopped = AT_THE_LIMIT
                break
            search.step(batch, deadline)
            moment = _moment(search, record)
            state = state_of(search)
            record.add(moment)
            shown.show(moment)
            if folder is not None:
                folder.keep(search, record)
            if callback is not None and _told(callback, moment) and len(search.open):
                stopped = AT_A_CALL
    except KeyboardInterrupt as error:
        if type(error) is not KeyboardInterrupt:  # a signal of another kind, to which there is another answer
            raise
        put_back(search, state)  # a step may have been cut in two
        stopped = INTERRUPTED
    if folder is not None and stopped:
        folder.keep(search, record, at_once=True)
    return stopped


def proved_within(*given: Any, **options: Any) -> Proof:
    """`prove` as a part of something else, without a bar: an interrupt ends that, and not the proof alone.

    Raises KeyboardInterrupt, and what `prove` raises.
    """
    proof = prove(*given, **options, progress=False)
    if proof.stopped == INTERRUPTED:
        raise KeyboardInterrupt
    return proof


def _polish(search: Search, asked: Asked, deadline: float) -> bool:
    """Whether the best latents, led to the optimum of their own affine pieces in the box, are better: then they are these.

    What the tree says holds for them, too: its nodes speak of all that was as good as worse ones.
    """
    z = polished(asked.task, search.best, asked.sides, deadline)
    f = search.value(torch.arange(len(z), device=z.device), z)
    slip = search.slip_of(torch.arange(len(z), device=z.device), z)
    better = (f < search.f) & ((f.sqrt() + slip).square() <= search.upper)
    search.f, search.best = torch.where(better, f, search.f), torch.where(better[:, None], z, search.best)
    search.slip = torch.where(better, slip, search.slip)
    return bool(better.any())


def _told(callback: Told, moment: Moment) -> bool:
    try:
        return callback(moment) is True
    except StopIteration:
        return True


def _moment(search: Search, record: Record) -> Moment:
    nan, owner = torch.where(record.good.cpu(), 0.0, torch.nan), search.open.owner.cpu()
    record.look_at(search.kept)
    undecided = record.widest.scatter_reduce(0, owner, search.open.undecided.cpu(), "amax")
    count = torch.zeros_like(undecided).index_add(0, owner, torch.ones_like(owner))
    bound, misfit, size = (v.cpu() for v in (search.bound.sqrt(), search.f.sqrt(), search.targets.size))
    gap = gap_of(bound, misfit, size) + nan
    return Moment(record.seconds, bound + nan, misfit + nan, gap, _reached(search, record.good).cpu(), undecided, count)


def _reached(search: Search, good: Tensor) -> Tensor:
    """Whether the gap asked for is reached, or the misfit is rounding, `(S,)`."""
    return search.reached & good


def _answer(search: Search, record: Record, asked: Asked, stopped: str) -> Proof:
    sides, good = asked.sides, record.good
    S, n0 = search.best.shape
    bound, f = search.bound, search.f
    parts = [part for part in (search.open, *search.kept) if len(part)]
    V = search.targets.V
    low, high = torch.full((S, n0), torch.inf).to(f), torch.full((S, n0), -torch.inf).to(f)
    count, rank = torch.zeros(S, dtype=torch.long), torch.ones(S, dtype=torch.bool)
    undecided = torch.zeros(S, len(search.open.lo), dtype=torch.long)
    for part in parts:
        owner = part.owner
        middle, half = (part.low + part.high) / 2, (part.high - part.low).clamp(min=0) / 2
        least, most = over_box(V[owner], torch.zeros_like(middle), middle - half, middle + half)
        index = owner[:, None].expand(-1, n0)
        low.scatter_reduce_(0, index, least, "amin")
        high.scatter_reduce_(0, index, most, "amax")
        count.index_add_(0, owner.cpu(), torch.ones(len(part), dtype=torch.long))
        for layer, (lo, hi) in enumerate(zip(part.lo, part.hi, strict=True)):
            u = ((lo < 0) & (hi > 0)).sum(1).cpu()
            undecided[:, layer].scatter_reduce_(0, owner.cpu(), u, "amax")
        rank.scatter_reduce_(0, owner.cpu(), search.determined(part).cpu(), "amin")
    # a coarse level keeps no latents that are merely as good: nothing is proved of them
    coarse = ((search.level < search.f) | (low > high).any(1))[:, None]
    low = torch.where(coarse, sides[0], torch.maximum(low, sides[0]))
    high = torch.where(coarse, sides[1], torch.minimum(high, sides[1]))
    undecided = torch.where(coarse.cpu(), torch.tensor([x.shape[1] for x in search.open.lo]), undecided)
    undecided[:, 0] -= torch.where(coarse.cpu()[:, 0], n0, 0)
    reached = _reached(search, good)
    excluded = ~torch.isin(torch.arange(S), search.open.owner.cpu())
    fine = search.gap <= FINE
    unique = excluded & (count == 1) & (undecided.sum(1) == 0) & rank & fine.cpu() & reached.cpu()
    improved = (f < record.first * (1 - _BETTER) - search.precision) & good
    counts = search.visited.cpu().clone(), search.rounds.cpu().clone()
    ends = (low, high), undecided, *counts, stopped, search.targets.size
    return _proof(asked, record, search.best, f, bound, reached, unique, improved, *ends)


def _proof(
    asked: Asked, record: Record, best: Tensor, f: Tensor, bound: Tensor, reached: Tensor, unique: Tensor, improved: Tensor,
    around: tuple[Tensor, Tensor], undecided: Tensor, nodes: Tensor, rounds: Tensor, stopped: str, size: Tensor,
) -> Proof:  # fmt: skip
    """What is proved, with what follows from the best latents; f, bound: squared."""
    task, good = asked.task, record.good
    status = np.where(good.cpu().numpy(), np.where(reached.cpu().numpy(), PROVED, BOUNDED), NOTHING)
    out = torch.zeros(task.N, dtype=torch.bool)
    if task.noise is not None and not task.stated:
        limit = task.noise.bound
        out = (bound.sqrt() > limit * (1 + 1e-9) + 1e-12 * task.size).cpu() & good.cpu()
    nan = torch.where(good, 0.0, torch.nan).to(f)
    z = best + nan[:, None]
    hidden, signal = signals_of(task, best)
    low, high = around
    return Proof(
        z=z, hidden=tuple(h + nan[:, None] for h in hidden), signal=signal + nan[:, None],
        misfit=(f.sqrt() + nan).cpu(), bound=(bound.sqrt() + nan).cpu(), status=status.astype("<U16"), unique=unique,
        out_of_range=out, improved=improved.cpu(),
        low=low + nan[:, None], high=high + nan[:, None], undecided=undecided, nodes=nodes, rounds=rounds,
        size=size.cpu(), verdict=judge(task, z), history=History.of(record.moments),
        box=asked.sides, seconds=record.seconds, settings={"gap": asked.gap, **task_words(task)},
        versions=versions(task, torch.float64), stopped=stopped, uncertainty=measure_uncertainty(task, z),
    )  # fmt: skip
