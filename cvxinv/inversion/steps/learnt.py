"""Starts learnt from the generator's own signals: ridge regression from what is seen of G(z_j) to z_j.

    minimise over B   sum_j |z_j - m - B'(x_j - e)|^2 + lam |B|^2,      x_j = A f(G(z_j)),   m, e the means of z_j and x_j

over S latents z_j of the generator's own distribution. In dual form z = m + Z' (K + lam I)^-1 X (x - e) with X and Z the
centred samples as rows and K = X X'. lam = `RIDGE` of the mean diagonal of K, and S sigma^2 more where an entry of y carries
noise of standard deviation sigma: X'X + S sigma^2 I is what X'X would be on average with that noise in the samples.

f is what makes the relation straighter: before an invertible curved output phi, f = phi^-1, cut off where phi is flat (slope
below `_FLAT`); with noise, or behind a measurement that mixes entries, where phi^-1 would misjudge it, the signal itself.

With K = U T U' (T diagonal, falling) the rows of U'X and U'Z, the principal samples, give the same z for what sees
everything, with a diagonal kernel. What sees less takes the first `_MOST` of them at most, those with T > lam, which lam
does not shrink by half or more: a kernel of their seen entries costs `_MOST`^2 k, not S^2 k, so that a mask per signal can
be afforded. Signals with one mask share one kernel.

The lesson, samples and principal directions, does not depend on signals or measurement. It is worked out once, in blocks,
and kept with the generator and its copies (`AbstractGenerator.kept`): (S d + S n0) float32 numbers for each f that was used.
Where a time limit ends the drawing of samples, those there are make a lesson of their own, which is not kept.

Source: Hoerl, Kennard (1970), ridge regression; Saunders, Gammerman, Vovk (1998), its dual form.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ...generator.activations import AbstractActivation
from ..progress import Progress
from ..task import Task
from .bent import read_bent

RIDGE = 1e-4  # of the mean diagonal of the kernel
_SAMPLES = (300, 1500)  # least and most; in between as many as `_PER_LATENT` per latent coordinate
_PER_LATENT = 15
_BYTES = 300_000_000  # of samples: signals of many pixels get fewer
_MOST = 800
_BLOCK = 100  # signals that are made at a time
_FLAT = 1e-6  # slope of the output below which an entry says no more than that it is beyond
_SEED = 0x1EA2  # of the samples: the same for every call, so that answers are too


@dataclass(frozen=True, eq=False)
class Lesson:
    """What was learnt of a generator; principal samples in falling order, float32 but for `sizes`.

    X: `(S, d)` of f(signal) about its mean `e` `(d,)`, in units of `unit`; Z: `(S, n0)` of the latents about their mean `m`
    `(n0,)`; sizes: T, `(S,)`. spread: standard deviation of a latent coordinate.
    """

    X: Tensor
    Z: Tensor
    e: Tensor
    m: Tensor
    sizes: Tensor
    unit: float
    spread: float

    @property
    def size(self) -> float:
        """Root mean square of an entry of f(signal)."""
        return self.unit * float(self.e.square().mean() + self.sizes.sum() / self.X.numel()) ** 0.5


def learnt_starts(task: Task, ridge: float = RIDGE) -> Tensor:
    """The latents that ridge regression reads off the signals, `(N, n0)`."""
    straight = _straightens(task)
    lesson = lesson_for(task)
    f = straightened(task.generator.output, task.y) if straight else task.y
    z, kinds = torch.empty(task.N, task.generator.latent_dim, dtype=task.y.dtype, device=task.y.device), _kinds(task)
    for kind in range(int(kinds.max()) + 1):
        index = (kinds == kind).nonzero()[:, 0]
        z[index] = _read(task.take(index), f[index], lesson, ridge)
    z = torch.where(torch.isfinite(z), z, lesson.m.to(z))
    return z if task.prior is None else task.prior.project(z)


def _read(task: Task, f: Tensor, lesson: Lesson, ridge: float) -> Tensor:
    """Latents of signals that are seen alike; f: what the regression reads, `(N, k)`."""
    if not task.measurement.linear:
        return read_bent(task, len(lesson.sizes), 1e2 * ridge)
    left = f / lesson.unit - task.measurement.observe(lesson.e.to(f).expand(task.N, -1))
    noise = torch.zeros_like(task.size) if task.noise is None else task.noise.per_entry(task.seen).nan_to_num(0.0)
    rows, kernel = _kernel(task, lesson, ridge)
    lam = ridge * kernel.diagonal().sum() / len(lesson.sizes) + len(lesson.sizes) * (noise / lesson.unit) ** 2
    weights = _solved(kernel, left.double() @ rows.T, lam.clamp(min=torch.finfo(torch.float32).tiny))
    return lesson.m.to(f) + (weights @ lesson.Z[: len(rows)].double()).to(f)


def _kernel(task: Task, lesson: Lesson, ridge: float) -> tuple[Tensor, Tensor]:
    """The principal samples as they are seen `(r, k)`, and their kernel `(r, r)`; float64, as small ridges need it."""
    if bool(task.measurement.seen(task.N)[0].all()) and task.measurement.pixelwise:
        return lesson.X.double(), torch.diag(lesson.sizes)
    lam = ridge * lesson.sizes.mean()
    rows = lesson.X[: min(_MOST, int((lesson.sizes > lam).sum()))]
    # pushed like a Jacobian: a matrix of one signal would be copied for each of them
    first = torch.zeros(1, dtype=torch.long, device=rows.device)
    rows = task.measurement.take(first).to(torch.float64).push(rows.double().T[None])[0].T
    return rows, rows @ rows.T


def _solved(kernel: Tensor, right: Tensor, lam: Tensor) -> Tensor:
    """(kernel + lam_i I)^-1 right_i, `(N, r)`."""
    if kernel.count_nonzero() <= len(kernel):  # diagonal
        return right / (kernel.diagonal() + lam[:, None])
    if bool((lam == lam[0]).all()):
        L, _ = torch.linalg.cholesky_ex(kernel + lam[0] * torch.eye(len(kernel)).to(kernel))
        return torch.cholesky_solve(right.T, L).T
    values, V = torch.linalg.eigh(kernel)
    return (right @ V) / (values.clamp(min=0) + lam[:, None]) @ V.T


def _kinds(task: Task) -> Tensor:
    """A number for each signal, `(N,)`, equal where signals are seen alike."""
    if task.measurement.shared:
        return torch.zeros(task.N, dtype=torch.long, device=task.y.device)
    if task.measurement.pixelwise:
        return torch.unique(task.measurement.seen(task.N).to(task.y.device), dim=0, return_inverse=True)[1]
    return torch.arange(task.N, device=task.y.device)


# --- the lesson -----------------------------------------------------------------------------------


def lesson_for(task: Task) -> Lesson:
    """What is learnt of the task's generator, as its signals are read; worked out once and kept."""
    G, straight = task.generator, _straightens(task)
    key = _key(G, straight)
    if key not in G.kept:
        lesson, whole = _learn(G, straight, task.progress)
        if not whole:
            return lesson
        G.kept[key] = lesson
    kept: Lesson = G.kept[key]
    return kept


def samples(generator: AbstractGenerator) -> int:
    """S, how many signals a lesson takes."""
    least, most = _SAMPLES
    wanted = min(max(least, _PER_LATENT * generator.latent_dim), most)
    return max(2, min(wanted, _BYTES // (4 * generator.signal_dim)))


def lesson_cost(generator: AbstractGenerator) -> float:
    """Multiplications that a lesson takes: S signals, their kernel, its eigenvectors, and the principal samples."""
    S, d = samples(generator), generator.signal_dim
    return float(S * generator.work + 2 * S * S * d + 9 * S**3)


def _key(generator: AbstractGenerator, straight: bool) -> tuple[object, ...]:
    phi = generator.output
    # other devices round otherwise: what was learnt on one would make the answers of another depend on what ran before
    return "lesson", straight, type(phi), repr(phi), str(generator.device)


def _learn(generator: AbstractGenerator, straight: bool, progress: Progress) -> tuple[Lesson, bool]:
    """A lesson, and whether it is of all samples that it is to have."""
    Z = generator.sample_latent(samples(generator), torch.Generator().manual_seed(_SEED))
    phi = generator.output

    def made(by: AbstractGenerator, z: Tensor) -> Tensor:
        u = by.before_output(z.to(by.dtype))
        return u.clamp(*_ends(phi, u)) if straight else phi(u)

    first = made(generator, Z[:_BLOCK])
    unit = float(first.abs().max().clamp(min=torch.finfo(first.dtype).tiny))
    # samples need three digits; a generator of weights that float32 cannot hold makes them itself
    single = generator.single
    by = single if bool(((made(single, Z[:_BLOCK]) - first).abs() <= 1e-3 * unit).all()) else generator
    blocks = list[Tensor]()
    for z in Z.split(_BLOCK):
        blocks.append((made(by, z) / unit).float())
        if progress.deadline is not None and progress.late():
            break
    X, wanted = torch.cat(blocks), len(Z)
    Z = Z[: len(X)]
    Z, spread = Z.float(), float(Z.std(0).mean())
    e, m = X.mean(0), Z.mean(0)
    X -= e
    sizes, U = torch.linalg.eigh(_gram(X))
    U = U.flip(1).float()
    return Lesson(U.T @ X, U.T @ (Z - m), e, m, sizes.flip(0).clamp(min=0), unit, spread), len(X) == wanted


def _gram(X: Tensor) -> Tensor:
    """X X' in float64, by blocks of columns."""
    K = torch.zeros(len(X), len(X), dtype=torch.float64, device=X.device)
    for block in X.split(4096, dim=1):
        wide = block.double()
        K.addmm_(wide, wide.T)
    return K


def _straightens(task: Task) -> bool:
    """Whether the regression reads signals before their output."""
    phi = task.generator.output
    return phi.curved and phi.invertible and task.measurement.pixelwise and task.noise is None


def straightened(phi: AbstractActivation, y: Tensor) -> Tensor:
    """phi^-1(y), cut off where phi is flat; entries beyond its range count as at its ends."""
    inside = phi.inside(y)
    u = phi.inverse(torch.where(inside, y, torch.full_like(y, phi.middle)))
    low, high = _ends(phi, y)
    beyond = torch.where(y > phi.middle, torch.full_like(y, high), torch.full_like(y, low))
    return torch.where(inside, u, beyond).clamp(low, high)


def _ends(phi: AbstractActivation, like: Tensor) -> tuple[float, float]:
    """Lowest and highest u with a slope above `_FLAT`; infinite where it is steep 40 from 0, or behind its last kink."""
    if phi.pieces is not None:
        kinks, slopes = phi.pieces
        return (-inf if slopes[0] else kinks[0]), (inf if slopes[-1] else kinks[-1])
    u = torch.linspace(-40, 40, 8001, dtype=torch.float64, device=like.device)
    steep = phi.derivative(u) > _FLAT * phi.unit
    if not bool(steep.any()):
        return -inf, inf
    return (-inf if steep[0] else float(u[steep].min())), (inf if steep[-1] else float(u[steep].max()))
