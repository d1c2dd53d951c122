"""`noise="auto"`: gaussian noise of a level that is estimated, for each signal, from what its fit leaves over.

1. A first level, half of what the generator's own samples spread by, says when a search is over. The method runs as if it
   were stated.
2. The level is estimated at the optimum found (`uncertainty`). Where a prior is weighed by it, a warm descent and another
   estimate follow until it stands. Then the method leads z on at that level, if it can (`AbstractMethod.refine`).
3. Where what is left is doubted (`doubts`) although the first level ended the search, the method runs once more, for a
   quarter of the level found, so that it goes on to its other starts. The answer of the lower level is kept. Of a signal of
   less than 200 entries a wrong optimum shows less surely: there what noise would leave once in ten times is searched again,
   and of less than 4 n0 entries, of which no test tells much, everything is. What was not doubted gives way only to a level
   so much lower that the likelihood of what was seen, about level^-(k - n0), is a thousand times as large.

*What the estimate can say.* Whatever z is, its residual fits the level that was estimated from it: a length refutes nothing
here. What can, `explained` asks for:

- G(z) takes more off |y|^2 than it could off noise: |y|^2 - |r|^2 > sigma^2 times the 99.9 % quantile of chi-squared of q,
  as all signals of a generator lie near a space of q directions, in which noise has no more than that;
- what is left looks like noise to the generator. For a true fit r is, up to first order, what white noise leaves outside the
  columns of J. A wrong optimum, or a signal out of range, leaves differences of signals, and these lie near the span of the
  generator's samples and a constant, D = (A G(z_1), ..., A G(z_M), A 1), z_j drawn once. With Q an orthonormal basis of the
  part of it outside of J, of q columns,

      F = (|Q'r|^2 / q) / ((|r|^2 - |Q'r|^2) / (k - rank J - q))          r less its part in J

  has under white noise of any level the F distribution of q and k - rank J - q degrees of freedom. It is doubted where noise
  would exceed F once in a thousand times. A misfit of at most 1 % of |y| may be uneven noise, as rounding is, which lies
  where the samples differ without following them: N(0, diag(r_i^2)) leaves T = |Q'r|^2 distributed as sum_j lambda_j chi^2_1
  with the eigenvalues of M = Q' diag(r_i^2) Q, near tr M / nu times chi^2 of nu = (tr M)^2 / |M|_F^2 degrees of freedom
  (Satterthwaite), and T must be as rare as F, both without the constant: what is rounded to 0 is biased. Larger errors that
  are as uneven are a model's more often than noise;
- where z is held at the border of a prior's set, r within the columns of J is what pushes it there: an F test too, of as
  many degrees of freedom as directions are held.

A model error that no sample of the generator resembles, and that is smaller than the signal, counts as noise: no test on a
single signal can tell. A residual within the signal's own precision is no noise at all, and explained as without a
statement.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..lengths import lengths
from .answer import Latents
from .steps.newton import descend
from .task import EXPLAINED, Task
from .uncertainty import SMALLEST, estimate

_FIRST = 0.5  # first level, as a share of what the samples spread by per entry
_LOWER = 0.25  # what a doubted level is multiplied by before the method runs again
_SAMPLES = 64
_SEED = 0x1E7E1
_RARE = 1e-3  # how often white noise may be doubted
_FEW, _WORTH = 200, 0.1  # below that many entries wrong optima are told less surely: what is as rare is searched again
BARELY, _SURELY = 4, 1e3  # times n0: below that many entries tests tell little; the likelihoods' ratio that counts there
_SMALL = 0.01  # misfit over |y| up to which what is left may be uneven
_MOST = 0.5  # misfit over |y| beyond which a level is large
_STANDS = 1e-3  # relative change of a level that stands
_ROUNDS, _STEPS = 20, 30
_ROUNDING = 10  # a misfit below this many roundings of |y| is none
_SAME = 1e-10  # eigenvalues of the samples' Gram matrix below this share of the largest are 0


def check_level(task: Task) -> None:
    """Raises ValueError where no level can be estimated of any signal: too few entries were seen to have some left over."""
    n0 = task.generator.latent_dim
    if not estimated(task) or task.weighed or (task.seen > n0).any():
        return
    raise ValueError(
        f"expected more than n0 = {n0} entries seen of some signal to estimate its noise from, got {int(task.seen.max())} "
        "at most, which n0 latents can meet exactly; state the level, noise=('gaussian', sigma), or let more be seen"
    )


def find(task: Task, search: Callable[[Task, Tensor | None], Latents], refine: Callable[[Task, Tensor], Tensor]) -> Latents:
    """Latents of a task whose level is to be estimated; see the module.

    search: a method's run, of the task's signals at the positions that stand beside it, None for all of them. refine: how it
    leads latents on at the level that a task has.
    """
    first = _with(task, first_level(task))
    found = search(first, None)
    ended = first.explained(found.z) & task.usable
    z, level = _settled(first, found.z, refine)
    doubted = odds(_with(task, level), z) < torch.where(task.seen < _FEW, _WORTH, _RARE)
    n0 = task.generator.latent_dim
    again = (ended & (doubted | (task.seen < min(BARELY * n0, _FEW)))).nonzero()[:, 0]
    if len(again) == 0:
        return replace(found, z=z)
    part = _with(task.take(again), _LOWER * level[again])
    second = search(part, again)
    z_second, lower = _settled(part, second.z, refine)
    surely = _SURELY ** (-1 / (task.seen[again] - n0).clamp(min=1).to(level))
    better = lower < torch.where(doubted[again], 1 - _STANDS, surely) * level[again]
    z[again[better]] = z_second[better]
    return _credited(replace(found, z=z), second, again, better)


def at_level(task: Task, z: Tensor) -> Task:
    """The task with the level that z leaves over, in float64, where its noise is to be estimated; any other as it is.

    At least the rounding of the signal; that, too, where no level can be told.
    """
    if not estimated(task):
        return task
    task = task.to(torch.float64)
    z = torch.where((torch.isfinite(z).all(1) & task.usable)[:, None], z, 0.0).double()
    floor = _ROUNDING * torch.finfo(task.born).eps * task.size / task.seen.clamp(min=1).sqrt()
    return _with(task, torch.maximum(estimate(task, z).nan_to_num(0.0), floor.clamp(min=SMALLEST)))


def level_notes(explained: Tensor, misfit: Tensor, size: Tensor) -> tuple[str, ...]:
    """What is to be said of levels that were estimated, for results; `(N,)`, on the CPU, size: |y| of what was seen."""
    said = "the noise's level was estimated from what each fit leaves over: its size alone cannot refute the fit"
    lost, large = int((~explained).sum()), int((explained & (misfit > _MOST * size)).sum())
    notes = [f"{said}, and a model error that looks like noise counts as noise"]
    if large:
        notes.append(f"the level of {large} signals is large: it takes more than half of what was seen of them")
    if lost:
        notes.append(
            f"{lost} of {len(size)} signals are not called explained: what is left of them resembles the generator's own "
            "samples or an offset, or is uneven, or G(z) takes no more off them than off noise, or z is no optimum"
        )
    return tuple(notes)


def first_level(task: Task) -> Tensor:
    """Half of the root mean square, per entry seen, by which the generator's samples spread, `(N,)`; signal units."""
    parts = []
    for block in _blocks(task):
        part = task.take(block)
        D = _samples(part)
        away = D - D.mean(2, keepdim=True)
        parts.append((away.square().sum((1, 2)) / _SAMPLES).expand(part.N))
    level = _FIRST * (torch.cat(parts) / task.seen.clamp(min=1)).sqrt()
    return torch.where(level > 0, level, _FIRST * torch.where(task.size > 0, task.size, 1.0))


def doubts(task: Task, z: Tensor) -> Tensor:
    """Where the level of a task cannot be called the noise's, bool `(N,)`; see the module."""
    return odds(task, z) < _RARE


def odds(task: Task, z: Tensor) -> Tensor:
    """How often noise would leave as much of a signal as z does, `(N,)`; see the module.

    1 where that is within the signal's precision; 0 where G(z) takes no more off it than off noise.
    """
    z = torch.where(torch.isfinite(z).all(1)[:, None], z, torch.zeros_like(z))
    return torch.cat([_odds(task.take(block), z[block]) for block in _blocks(task)])


def _odds(task: Task, z: Tensor) -> Tensor:
    from scipy.stats import chi2  # late: importing the package loads torch and little else

    r, J = task.linearize(z)
    misfit = lengths(r)
    precise, small = misfit <= EXPLAINED[task.born] * task.size.clamp(min=SMALLEST), misfit <= _SMALL * task.size
    rare, q = torch.ones_like(misfit), torch.ones_like(task.seen)
    for uneven in (False, True):
        index = (small == uneven).nonzero()[:, 0]
        if len(index):
            rare[index], q[index] = _likelihood(task.take(index), r[index], J[index], uneven)
    gain, level = task.size.square() - misfit.square(), misfit.square() / task.seen.clamp(min=1)
    evident = gain > level * torch.as_tensor(chi2.isf(_RARE, q.clamp(min=1).cpu().numpy()), device=z.device)
    rare = torch.minimum(rare, _pushed(task, z, r, J))
    return torch.where(precise, 1.0, torch.where(evident, rare, 0.0))


def _pushed(task: Task, z: Tensor, r: Tensor, J: Tensor) -> Tensor:
    """How often noise pushes z as hard against the border of the prior's set, `(N,)`; 1 where nothing holds it."""
    if task.prior is None or task.prior.weighed:
        return torch.ones_like(r[:, 0])
    from scipy.stats import f

    free, _ = task.prior.tangent(z, (J.mT @ r[..., None])[..., 0])
    basis, rank = _range(J)
    held = (z.shape[1] - torch.diagonal(free.expand(len(z), -1, -1), dim1=1, dim2=2).sum(1)).round()
    along, rest = (basis.mT @ r[..., None]).square().sum((1, 2)), task.seen - rank
    F = (along / held.clamp(min=1)) / ((r.square().sum(1) - along).clamp(min=SMALLEST) / rest.clamp(min=1))
    rare = f.sf(F.cpu().numpy(), held.clamp(min=1).cpu().numpy(), rest.clamp(min=1).cpu().numpy())
    return torch.where((held > 0) & (rest > 0), torch.as_tensor(rare, device=F.device), 1.0)


def _likelihood(task: Task, r: Tensor, J: Tensor, uneven: bool) -> tuple[Tensor, Tensor]:
    """How often noise exceeds F, and where it may be `uneven` T too, `(N,)`, 1 where too little is left to say; and q."""
    from scipy.stats import f

    D, unit = _samples(task, offset=not uneven), lengths(r).clamp(min=SMALLEST)
    D, r = D / lengths(D, 1, keepdim=True).clamp(min=SMALLEST), (r / unit[:, None])[..., None]
    basis, rank = _range(J)
    inside, r = basis.mT @ D, r - basis @ (basis.mT @ r)
    w, V = torch.linalg.eigh(D.mT @ D - inside.mT @ inside)
    left = task.seen - rank
    # the directions in which the samples differ most, and at most half of what is left
    usual = (w > _SAME) & (torch.arange(w.shape[1], 0, -1, device=w.device) <= (left // 2)[:, None])
    scale = torch.where(usual, torch.where(usual, w, 1.0).rsqrt(), 0.0)
    along = ((V.mT @ (D.mT @ r))[..., 0] * scale).square().sum(1)
    q, whole = usual.sum(1), r.square().sum((1, 2))
    rest = left - q
    F = (along / q.clamp(min=1)) / ((whole - along).clamp(min=SMALLEST) / rest.clamp(min=1))
    rare = f.sf(F.cpu().numpy(), q.clamp(min=1).cpu().numpy(), rest.clamp(min=1).cpu().numpy())
    found = torch.where((q > 0) & (rest > 0), torch.as_tensor(rare, device=F.device), 1.0)
    asked = (found < _RARE).nonzero()[:, 0]
    if uneven and len(asked):
        D, V, basis, inside = (v[asked] if len(v) > 1 else v for v in (D, V * scale[:, None], basis, inside))
        found[asked] = torch.maximum(found[asked], _uneven(D @ V - basis @ (inside @ V), r[asked], along[asked]))
    return found, q.expand(len(r))


def _uneven(Q: Tensor, r: Tensor, along: Tensor) -> Tensor:
    """How often independent noise of the residual's own size in each entry exceeds T, `(N,)`; see the module."""
    from scipy.stats import chi2

    M = Q.mT @ (r.square() * Q)
    trace = torch.diagonal(M, dim1=1, dim2=2).sum(1).clamp(min=SMALLEST)
    freedom = trace.square() / M.square().sum((1, 2)).clamp(min=SMALLEST)
    rare = chi2.sf((freedom * along / trace).cpu().numpy(), freedom.cpu().numpy())
    return torch.as_tensor(rare, device=along.device)


def _range(J: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the columns of each J `(N, k, n0)`, 0 where there are fewer; and the rank, `(N,)`."""
    w, V = torch.linalg.eigh(J.mT @ J)
    known = w > _SAME * w[:, -1:]
    return J @ (V * torch.where(known, torch.where(known, w, 1.0).rsqrt(), 0.0)[:, None]), known.sum(1)


def _blocks(task: Task) -> list[Tensor]:
    """Blocks whose Jacobians fit the work space, and where every signal is seen otherwise their samples too."""
    if task.measurement.shared:
        return list(task.blocks())
    n0 = task.generator.latent_dim
    return [part for block in task.blocks() for part in block.split(max(1, len(block) * n0 // (n0 + 2 * _SAMPLES)))]


def _samples(task: Task, offset: bool = False) -> Tensor:
    """The generator's samples as they were seen, `(N, k, M)`, or `(1, k, M)` where all signals are seen alike.

    offset: with one more, of entries 1.
    """
    draw = torch.Generator().manual_seed(_SEED)
    x = task.generator(task.generator.sample_latent(_SAMPLES, draw, device="cpu").to(task.y))
    x = torch.cat((x, torch.ones_like(x[:1]))) if offset else x
    count = 1 if task.measurement.shared else task.N
    return task.measurement.observe_each(x.T.expand(count, -1, -1))


def _settled(task: Task, z: Tensor, refine: Callable[[Task, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """z led on at its own level, and the level there; under a weighed prior the two that belong together."""
    z, level = _balanced(task, z)
    return _balanced(task, refine(_with(task, level), z))


def _balanced(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """The level at z, and where a prior is weighed by it the optimum and the level that belong together; z, level."""
    level = _bound(at_level(task, z)).clone()
    if not task.weighed:
        return z, level
    z, left = z.clone(), torch.arange(task.N, device=z.device)
    for _ in range(_ROUNDS):
        part = _with(task.take(left), level[left])
        z[left] = descend(part, z[left], _STEPS).z
        after = _bound(at_level(part, z[left]))
        moved = (after - level[left]).abs() > _STANDS * level[left]
        level[left] = after
        left = left[moved & (part.misfit(z[left]) > _ROUNDING * torch.finfo(z.dtype).eps * part.size)]
        if len(left) == 0:
            break
    return z, level


def _credited(found: Latents, second: Latents, again: Tensor, better: Tensor) -> Latents:
    """What gave the answers that the second search found, and the starts that it spent."""
    used, gained, starts = list(found.used or ()), again[better].tolist(), found.starts
    for i, name in zip(
        gained, [name for name, won in zip(second.used or (), better.tolist(), strict=True) if won], strict=True
    ):
        used[i] = name
    if starts is not None and second.starts is not None:
        starts = starts.index_add(0, again.cpu(), second.starts)
    return replace(found, used=tuple(used), starts=starts)


def estimated(task: Task) -> bool:
    """Whether the level of the task's noise is not stated."""
    return task.noise is not None and task.noise.estimated


def _bound(task: Task) -> Tensor:
    assert task.noise is not None
    return task.noise.bound


def _with(task: Task, level: Tensor) -> Task:
    assert task.noise is not None
    return replace(task, noise=replace(task.noise, bound=level))
