"""`noise="auto"`: gaussian noise of a level that is estimated, for each signal, from what its fit leaves over.

1. A first level, half of what the generator's own samples spread by, says when a search is over. The method runs as if it
   were stated.
2. The level is estimated at the optimum found (`uncertainty`). Where a prior is weighed by it, a warm descent and another
   estimate follow until it stands.
3. Where what is left is doubted (`doubts`) the method runs once more, for a quarter of the level, so that it goes on to its
   other starts. The answer of the lower level is kept.

*What the estimate can say.* Whatever z is, its residual fits the level that was estimated from it: a length refutes nothing
here. Two things can, and `explained` asks for both:

- the misfit is at most half of |y|: beyond that the noise is said to be larger than what it hides;
- what is left looks like noise to the generator. For a true fit r is, up to first order, what white noise leaves outside the
  columns of J. A wrong optimum, or a signal out of range, leaves differences of signals, and these lie near the span of the
  generator's samples D = (A G(z_1), ..., A G(z_M)), z_j drawn once. With Q an orthonormal basis of the part of it outside of
  J, of q columns,

      F = (|Q'r|^2 / q) / ((|r|^2 - |Q'r|^2) / (k - rank J - q))          r less its part in J

  has under white noise of any level the F distribution of q and k - rank J - q degrees of freedom. It is doubted where noise
  would exceed F once in a thousand times.

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
_MOST = 0.5  # misfit over |y| beyond which a level is doubted
_STANDS = 1e-3  # relative change of a level that stands
_ROUNDS, _STEPS = 20, 30
_ROUNDING = 10  # a misfit below this many roundings of |y| is none
_SAME = 1e-10  # eigenvalues of the samples' Gram matrix below this share of the largest are 0


def check_level(task: Task) -> None:
    """Raises ValueError where no level can be estimated of any signal: too few entries were seen to have some left over."""
    n0 = task.generator.latent_dim
    if not estimated(task) or (task.prior is not None and task.prior.weighed) or (task.seen > n0).any():
        return
    raise ValueError(
        f"expected more than n0 = {n0} entries seen of some signal to estimate its noise from, got {int(task.seen.max())} "
        "at most, which n0 latents can meet exactly; state the level, noise=('gaussian', sigma), or let more be seen"
    )


def find(task: Task, search: Callable[[Task, Tensor | None], Latents]) -> Latents:
    """Latents of a task whose level is to be estimated; see the module. search: a method's run, of the task's signals at the
    positions that stand beside it, None for all of them."""
    level = first_level(task)
    found = search(_with(task, level), None)
    z, level = _settled(_with(task, level), found.z)
    again = (doubts(_with(task, level), z) & task.usable).nonzero()[:, 0]
    if len(again) == 0:
        return replace(found, z=z)
    part = _with(task.take(again), _LOWER * level[again])
    second = search(part, again)
    z_second, lower = _settled(part, second.z)
    better = lower < (1 - _STANDS) * level[again]
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


def level_notes(task: Task, explained: Tensor) -> tuple[str, ...]:
    """What is to be said of estimated levels, for results; explained: `(N,)`."""
    if not estimated(task):
        return ()
    said = "the noise's level was estimated from what each fit leaves over: its size alone cannot refute the fit"
    lost = int((~explained).sum())
    if lost == 0:
        return (f"{said}, and a model error that looks like noise counts as noise",)
    return (
        f"{said}; {lost} of {task.N} signals are not called explained, as what is left of them is more than half of |y|, or "
        "resembles the generator's own samples, or z is no optimum",
    )


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
    z = torch.where(torch.isfinite(z).all(1)[:, None], z, torch.zeros_like(z))
    return torch.cat([_doubted(task.take(block), z[block]) for block in _blocks(task)])


def _doubted(task: Task, z: Tensor) -> Tensor:
    r, J = task.linearize(z)
    misfit = lengths(r)
    precise = misfit <= EXPLAINED[task.born] * task.size
    return ~precise & ((misfit > _MOST * task.size) | (_likelihood(task, r, J) < _RARE))


def _likelihood(task: Task, r: Tensor, J: Tensor) -> Tensor:
    """How often white noise exceeds F, `(N,)`; 1 where too few entries are left to say."""
    from scipy.stats import f  # late: importing the package loads torch and little else

    D, unit = _samples(task), lengths(r).clamp(min=torch.finfo(r.dtype).tiny)
    D, r = D / lengths(D, 1, keepdim=True).clamp(min=torch.finfo(r.dtype).tiny), (r / unit[:, None])[..., None]
    Q, rank = _range(J)
    QD, r = Q.mT @ D, r - Q @ (Q.mT @ r)
    gram = D.mT @ D - QD.mT @ QD
    w, V = torch.linalg.eigh(gram)
    left = task.seen - rank
    # the directions in which the samples differ most, and at most half of what is left
    usual = (w > _SAME) & (torch.arange(_SAMPLES, 0, -1, device=w.device) <= (left // 2)[:, None])
    along = torch.where(usual, (V.mT @ (D.mT @ r))[..., 0] / torch.where(usual, w, 1.0).sqrt(), 0.0).square().sum(1)
    q, whole = usual.sum(1), r.square().sum((1, 2))
    rest = left - q
    F = (along / q.clamp(min=1)) / ((whole - along).clamp(min=1e-300) / rest.clamp(min=1))
    rare = f.sf(F.cpu().numpy(), q.clamp(min=1).cpu().numpy(), rest.clamp(min=1).cpu().numpy())
    return torch.where((q > 0) & (rest > 0), torch.as_tensor(rare, device=F.device), 1.0)


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


def _samples(task: Task) -> Tensor:
    """The generator's samples as they were seen, `(N, k, M)`, or `(1, k, M)` where all signals are seen alike."""
    draw = torch.Generator().manual_seed(_SEED)
    x = task.generator(task.generator.sample_latent(_SAMPLES, draw, device="cpu").to(task.y))
    count = 1 if task.measurement.shared else task.N
    return task.measurement.push(x.T.expand(count, -1, -1))


def _settled(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """The level at z, and where a prior is weighed by it the optimum and the level that belong together; z, level."""
    level = _bound(at_level(task, z)).clone()
    if task.prior is None or not task.prior.weighed:
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
