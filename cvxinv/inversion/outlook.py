"""Signals and Jacobians at given latents, worked out once for who judges them and who measures how far they may be off.

Gaussian noise makes optima on kinks the rule, where rounding would choose the side whose Jacobian it is, and the spread with
it. Of a unit that is at its kink the slope is the mean of both sides' here: that of the softened unit (`steps.softened`),
Phi(0) = 1/2, however narrow it is.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..generator.activations import AbstractActivation, Identity
from ..generator.piece import AbstractPiece, Piece
from .task import Task

_KINK = 1e-9  # of a layer's largest value: a unit that is nearer to its kink is at it


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
        u, piece = task.generator.piece(z, before_output=not phi.linear)
        Ju = (_between_sides(task.generator, z, piece) if task.stated else piece).jacobian()
        x, Jx = (u, Ju) if phi.linear else (phi(u), Ju * phi.derivative(u)[..., None])
        J, still = task.measurement.at(x).push(Jx), task.still(x)
        return cls(phi, u, Ju, x, Jx, task.residual(x), J if still is None else J * ~still[..., None])


def _between_sides(G: AbstractGenerator, z: Tensor, piece: AbstractPiece) -> AbstractPiece:
    """The piece of z `(N, n0)` with the mean of both sides' slopes where a hidden unit is at its kink."""
    if not isinstance(piece, Piece):
        return piece
    slopes = list(piece.slopes)
    for k, u in enumerate(hidden_preactivations(G, z)):
        phi = G.layers[k].activation
        if phi.kinked and phi.slopes is not None and isinstance(slope := slopes[k], Tensor):
            at_kink = u.abs() <= _KINK * u.abs().amax(1, keepdim=True)
            slopes[k] = torch.where(at_kink, sum(phi.slopes) / 2, slope)
    return replace(piece, slopes=tuple(slopes))


def hidden_preactivations(G: AbstractGenerator, z: Tensor) -> list[Tensor]:
    """u = `W h + b` of every layer but the last, which is the widest, at latents z `(N, n0)`: `(N, m)` each."""
    h, values = z, list[Tensor]()
    for layer in G.layers[:-1]:
        values.append(layer.W(h) + layer.b)
        h = layer.activation(values[-1])
    return values


def triangle(J: Tensor) -> Tensor:
    """R with R'R = J'J and the singular values of J `(N, k, n0)`: `(N, n0, n0)`, or J itself where k <= n0."""
    return torch.linalg.qr(J, mode="r").R if J.shape[1] > J.shape[2] else J


def turned(R: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of R `(N, m, n0)`, 0 for those that it has none of, and the V' that go with them: `(N, n0)`, `(N, n0,
    n0)`."""
    _, s, Vt = torch.linalg.svd(R, full_matrices=True)
    return torch.nn.functional.pad(s, (0, R.shape[2] - s.shape[1])), Vt
