"""Signals and Jacobians at given latents, worked out once for who judges them and who measures how far they may be off."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..generator.activations import AbstractActivation, Identity
from .task import Task


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is seen from latents z of a block of signals.

    output: the last activation where an interval before it is one behind it, elementwise and monotone; Identity elsewhere.
    u `(N, d)`, Ju `(N, d, n0)`: values and Jacobian before it; x, Jx: behind it. r, J: residual `(N, k)` and Jacobian
    `(N, k, n0)` of what was seen.
    """

    output: AbstractActivation
    u: Tensor
    Ju: Tensor
    x: Tensor
    Jx: Tensor
    r: Tensor
    J: Tensor

    @cached_property
    def R(self) -> Tensor:
        """`triangle(J)`."""
        return triangle(self.J)

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor]:
        """`turned(R)`."""
        return turned(self.R)

    @classmethod
    def at(cls, task: Task, z: Tensor) -> "Outlook":
        phi = task.generator.output
        phi = phi if phi.elementwise and phi.monotone else Identity()
        u, Ju = task.generator.linearize(z, before_output=not phi.linear)
        x, Jx = (u, Ju) if phi.linear else (phi(u), Ju * phi.derivative(u)[..., None])
        J, still = task.measurement.at(x).push(Jx), task.still(x)
        return cls(phi, u, Ju, x, Jx, task.residual(x), J if still is None else J * ~still[..., None])


def triangle(J: Tensor) -> Tensor:
    """R with R'R = J'J and the singular values of J `(N, k, n0)`: `(N, n0, n0)`, or J itself where k <= n0."""
    return torch.linalg.qr(J, mode="r").R if J.shape[1] > J.shape[2] else J


def turned(R: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of R `(N, m, n0)`, 0 for those that it has none of, and the V' that go with them: `(N, n0)`, `(N, n0,
    n0)`."""
    _, s, Vt = torch.linalg.svd(R, full_matrices=True)
    return torch.nn.functional.pad(s, (0, R.shape[2] - s.shape[1])), Vt
