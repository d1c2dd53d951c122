"""Starts learnt through a measurement that is not linear: ridge regression from what is seen of the generator's signals.

    minimise over B   sum_j |z_j - m - B'(y_j - e)|^2 + lam |B|^2,      y_j = A(G(z_j)),   m, e the means of z_j and y_j

as in `learnt`, in dual form, with the samples as they are seen in the place of what is seen of principal ones, which only a
linear A lets one exchange. The samples are made once and kept with the generator; each measurement has a kernel of its own.
Magnitudes are read as well as their squares.
"""

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ..task import Task

_SEED = 0x1EA2  # as in `learnt`


def read_bent(task: Task, count: int, ridge: float) -> Tensor:
    """The latents that the regression on `count` samples reads off signals that are seen alike, `(N, n0)`.

    ridge: of the mean diagonal of the kernel.
    """
    Z, x = samples_of(task.generator, count)
    first = torch.zeros(1, dtype=torch.long, device=task.y.device)
    Y = task.measurement.take(first).to(torch.float64).observe_each(x.to(task.y).double().T[None])[0].T  # (S, k)
    Z, e = Z.to(task.y.device).double(), Y.mean(0)
    m, Y = Z.mean(0), Y - e
    noise = torch.zeros_like(task.size) if task.noise is None else task.noise.per_entry(task.seen).nan_to_num(0.0)
    lam = ridge * Y.square().sum() / count + count * noise.double() ** 2  # (N,)
    return (m + _regressed(Y, Z - m, task.y.double() - e, lam[:, None].clamp(min=torch.finfo(Y.dtype).tiny))).to(task.y)


def _regressed(Y: Tensor, Z: Tensor, y: Tensor, lam: Tensor) -> Tensor:
    """y (Y'Y + lam_i I)^-1 Y'Z, `(N, n0)`, by the smaller of the two Gram matrices of Y `(S, k)`."""
    S, k = Y.shape
    values, V = torch.linalg.eigh(Y.T @ Y if k <= S else Y @ Y.T)
    damped = values.clamp(min=0) + lam
    if k <= S:
        return (y @ V) / damped @ (V.T @ (Y.T @ Z))
    return (y @ Y.T @ V) / damped @ (V.T @ Z)


def samples_of(generator: AbstractGenerator, count: int) -> tuple[Tensor, Tensor]:
    """Latents `(count, n0)` of the generator's distribution and their signals `(count, d)`, float32; made once and kept."""
    key = ("samples", count, type(generator.output), repr(generator.output), str(generator.device))
    if key not in generator.kept:
        Z = generator.sample_latent(count, torch.Generator().manual_seed(_SEED))
        generator.kept[key] = Z.float(), torch.cat([generator(z.to(generator.dtype)) for z in Z.split(100)])
    kept: tuple[Tensor, Tensor] = generator.kept[key]
    return kept
