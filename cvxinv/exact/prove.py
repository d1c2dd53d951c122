"""`prove`: is a latent the best of a box, and the only one? See `search` for how it is decided."""

import time
from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from ..inputs import plain_number, read_numbers
from ..inversion.invert import invert
from ..inversion.priors import Box
from ..inversion.task import Task, make_task
from ..surroundings import undisturbed
from .log import Recorder, log_path, write_log
from .network import as_network
from .opening import opened
from .proof import BOUNDED, NOTHING, PROVED, Moment, Proof
from .search import FINE, Search

Told = Callable[[Moment], object]


@undisturbed
def prove(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    z: Tensor | np.ndarray | None = None,
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
    log: str | Path | None = None,
) -> Proof:
    """Prove that no latent of a box has a squared misfit below (1 - gap) times that of the best one known.

    generator: a chain of ReLU, LeakyReLU and linear layers. y, measurement, noise, prior: as in `invert`. z: `(N, n0)` or
    `(n0,)`, latents to start from; None asks `invert`. gap: of the squared misfit, in (0, 1). box: None for |z_j| <= 3
    n0^(1/2) (for a `Box` prior, that box), one number for |z_j| <= it, or (lowest, highest), numbers or `(n0,)`.
    time_limit: seconds, None for none; whatever is proved by then is the answer. batch: nodes at once. callback: told a
    `Moment` now and then; what returns True stops the search. log: a file that `cvxinv check` accepts or refuses in exact
    arithmetic (docs/checking.md); its numbers are kept in memory until the end.

    Latents to start from are brought into the box, and the best one is sought there. Raises TypeError or ValueError for
    what does not fit, before any arithmetic.
    """
    task, start, sides, gap = _checked(generator, y, z, measurement, noise, prior, gap, box)
    path = log_path(log, task)
    began = time.perf_counter()
    assert isinstance(task.generator, Generator)
    network = as_network(task.generator)
    if z is None:
        start = invert(
            task.generator, task.y, measurement=task.measurement, noise=noise, prior=prior, on_fail="ignore", progress=False
        ).z.double()
    good = task.usable & torch.isfinite(start).all(1)
    start = torch.where(good[:, None], start, 0.0).clamp(*sides)
    search = opened(network.beside(sides[0]), task, start, sides, gap)
    search.open = search.open.take(good[search.open.owner])
    search.log = None if path is None else Recorder()
    deadline = torch.inf if time_limit is None else began + time_limit
    history = [_moment(search, began)]
    while len(search.open) and time.perf_counter() < deadline:
        search.step(batch, deadline)
        history.append(_moment(search, began))
        if callback is not None and callback(history[-1]) is True:
            break
    proof = _answer(search, task, good, sides, gap, tuple(history), time.perf_counter() - began)
    if path is not None:
        write_log(path, search, task, proof, sides)
    return proof


def _checked(
    generator: AbstractGenerator,
    y: object,
    z: object,
    measurement: object,
    noise: object,
    prior: object,
    gap: object,
    box: object,
) -> tuple[Task, Tensor, tuple[Tensor, Tensor], float]:
    if not isinstance(generator, Generator):
        raise TypeError(
            f"expected a Generator, a chain of layers, got {type(generator).__name__}; of what is opaque nothing is proved"
        )
    gap = plain_number(gap)
    if isinstance(gap, bool) or not isinstance(gap, (int, float)) or not 0 < gap < 1:
        raise ValueError(
            f"expected gap as a number in (0, 1), got {gap!r}; 1e-4 proves optima to 0.01 % of the squared misfit"
        )
    task = make_task(generator, y, measurement, noise, prior).to(torch.float64)  # type: ignore[arg-type]
    if task.weighed and task.noise is not None and not bool(torch.isfinite(task.noise.bound).all()):
        raise ValueError(
            "expected noise=('gaussian', sigma) beside a prior, got 'auto'; state sigma, as prove weighs R by it"
        )
    n0 = generator.latent_dim
    start = torch.zeros(task.N, n0, dtype=torch.float64, device=task.y.device)
    if z is not None:
        start = read_numbers(z, "latents z", generator.device, "fi").double()
        start = start[None] if start.ndim == 1 else start
        if start.shape != (task.N, n0):
            raise ValueError(f"expected z of shape ({task.N}, {n0}), got {tuple(start.shape)}; pass one latent per signal")
    return task, start, box_sides(box, task, n0), float(gap)


def box_sides(box: object, task: Task, n0: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest latent of a box as `prove` takes it, `(n0,)` each. Raises TypeError or ValueError."""
    if box is None and isinstance(task.prior, Box):
        box = task.prior.lo, task.prior.hi
    if box is None:
        box = 3 * sqrt(n0)
    ends = (-box, box) if isinstance(box, (int, float)) and not isinstance(box, bool) else box
    if not (isinstance(ends, (tuple, list)) and len(ends) == 2):
        raise TypeError(f"expected box as None, one number or (lowest, highest), got {box!r}")
    sides = []
    for end in ends:
        side = torch.as_tensor(end, dtype=torch.float64, device=task.y.device)
        if side.ndim > 1 or (side.ndim == 1 and len(side) != n0) or not bool(torch.isfinite(side).all()):
            raise ValueError(f"expected the sides of the box as finite numbers or ({n0},), got shape {tuple(side.shape)}")
        sides.append(side.expand(n0))
    if bool((sides[0] >= sides[1]).any()):
        raise ValueError("expected a box whose lowest latent is below its highest everywhere; swap or widen its sides")
    return sides[0], sides[1]


def _moment(search: Search, began: float) -> Moment:
    undecided = torch.zeros(len(search.f), dtype=torch.long)
    for part in (search.open, *search.kept):
        if len(part):
            undecided = undecided.scatter_reduce(0, part.owner.cpu(), part.undecided.cpu(), "amax")
    return Moment(
        time.perf_counter() - began, tuple(search.bound.sqrt().tolist()), tuple(search.f.sqrt().tolist()),
        tuple(undecided.tolist()),
    )  # fmt: skip


def _answer(
    search: Search,
    task: Task,
    good: Tensor,
    sides: tuple[Tensor, Tensor],
    gap: float,
    history: tuple[Moment, ...],
    seconds: float,
) -> Proof:
    S, n0 = search.best.shape
    bound, f = search.bound, search.f
    parts = [part for part in (search.open, *search.kept) if len(part)]
    V = search.targets.V
    low, high = torch.full((S, n0), torch.inf).to(f), torch.full((S, n0), -torch.inf).to(f)
    count, rank = torch.zeros(S, dtype=torch.long), torch.ones(S, dtype=torch.bool)
    undecided = torch.zeros(S, search.targets.layers(search.network), dtype=torch.long)
    for part in parts:
        owner = part.owner
        middle, half = (part.low + part.high) / 2, (part.high - part.low).clamp(min=0) / 2
        centre, reach = (V[owner] @ middle[..., None])[..., 0], (V[owner].abs() @ half[..., None])[..., 0]
        index = owner[:, None].expand(-1, n0)
        low.scatter_reduce_(0, index, centre - reach, "amin")
        high.scatter_reduce_(0, index, centre + reach, "amax")
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
    enough = (bound >= search.enough) & good
    tiny = f <= 1e4 * search.precision
    excluded = ~torch.isin(torch.arange(S), search.open.owner.cpu())
    fine = search.gap <= FINE
    unique = excluded & (count == 1) & (undecided.sum(1) == 0) & rank & fine.cpu() & good.cpu() & enough.cpu()
    status = np.where(good.cpu().numpy(), np.where((enough | tiny).cpu().numpy(), PROVED, BOUNDED), NOTHING)
    out = torch.zeros(S, dtype=torch.bool)
    if task.noise is not None and not task.stated:
        limit = task.noise.bound
        out = (bound.sqrt() > limit * (1 + 1e-9) + 1e-12 * task.size).cpu() & good.cpu()
    bound = torch.where(good, bound, 0.0)
    return Proof(
        search.best, f.sqrt(), bound.sqrt(), status.astype("<U16"), unique, out, search.improved.clone(), low, high,
        undecided, search.visited, search.rounds, task.size, sides, seconds, history, {"gap": gap},
    )  # fmt: skip
