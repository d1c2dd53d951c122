"""Kinks that an optimum lies on and stays on: the surface along which it moves when its data change a little.

With K the units of one layer whose input u_K vanishes at z, and U = u_K'(z) `(|K|, n0)` of independent rows, G is affine in
z on both sides of each, and changes of the output through different units add up. So f'(z; d), the slope of

    f(z) = 1/2 |A G(z) - y|^2 + sigma^2 R(z)

along d, is a sum over K of terms in (U d)_k alone, where f has slope 0 along U d = 0. Where it is above 0 along U^+ e_k and
along -U^+ e_k for each k, z is a minimiser across the surface u_K = 0 and remains one for data near by: a slope that is
positive stays so. Units that change nothing that was seen bend nothing, and are left out.
"""

import torch
from torch import Tensor

from ..generator.chain import Generator
from ..generator.piece import Piece
from ..lengths import lengths
from .task import Task

_CLOSE = 1e-6  # of a layer's largest input: what may lie on a kink
_ON = 1e-9  # how far a kink's surface may be from z, as a share of 1 + |z|
_STEP, _JUMP = 1e-7, 1e-6  # where both sides are looked at, likewise; by what share a slope must change to be a kink
_RISES = 1e-6  # of |A J d| |y|: a slope below is none
_INDEPENDENT = 1e-6  # of the largest singular value of U's rows at length 1


def kept_kinks(task: Task, z: Tensor) -> Tensor:
    """P `(N, n0, n0)`, the projection on the directions along the kinks of each z that are kept; I where there are none."""
    P = torch.eye(z.shape[1], dtype=z.dtype, device=z.device).repeat(len(z), 1, 1)
    G = task.generator
    if not isinstance(G, Generator) or not G.piecewise_linear:  # of no other the layers are known
        return P
    inputs = G.preactivations(z)
    kinked = [k for k, layer in enumerate(G.layers) if layer.activation.kinked]
    close = {k: inputs[k].abs() <= _CLOSE * inputs[k].abs().amax(1, keepdim=True) for k in kinked}
    for i in torch.stack([c.any(1) for c in close.values()]).any(0).nonzero()[:, 0].tolist() if close else ():
        part = task.take(torch.tensor([i], device=z.device))
        bent = [_bending(part, z[i], _rows(task, z[i], k, close[k][i], inputs[k][i])) for k in kinked]
        bent = [U for U in bent if len(U)]
        if len(bent) == 1 and _independent(bent[0]) and bool(_slopes(part, z[i], _across(bent[0]))[1].all()):
            P[i] -= torch.linalg.pinv(bent[0]) @ bent[0]
    return P


def _rows(task: Task, z: Tensor, k: int, close: Tensor, u: Tensor) -> Tensor:
    """U of the units of layer k on whose kinks z lies, `(|K|, n0)`, each row of length 1."""
    units = close.nonzero()[:, 0]
    if not 0 < len(units) <= z.numel():
        return z.new_zeros(0, z.numel())
    whole = task.generator.piece(z[None])[1]
    assert isinstance(whole, Piece)
    before = Piece(whole.maps[: k + 1], (*whole.slopes[:k], None), 1)
    chosen = torch.zeros(1, len(units), len(u), dtype=z.dtype, device=z.device)
    chosen[0, torch.arange(len(units), device=z.device), units] = 1
    U = before.pull(chosen)[0]
    size = lengths(U)
    on = u[units].abs() <= _ON * (1 + lengths(z[None])) * size
    return (U / size.clamp(min=1e-300)[:, None])[on & (size > 0)]


def _bending(task: Task, z: Tensor, U: Tensor) -> Tensor:
    """The rows of U whose units change what was seen."""
    while len(U) and _independent(U):
        bends, _ = _slopes(task, z, _across(U))
        if bool(bends.all()):
            break
        U = U[bends]
    return U


def _independent(U: Tensor) -> bool:
    values = torch.linalg.svdvals(U)
    return float(values[-1]) > _INDEPENDENT * float(values[0])


def _across(U: Tensor) -> Tensor:
    """Directions `(|K|, n0)`, of length 1, along each of which one of U's units changes and no other."""
    D = torch.linalg.pinv(U).T
    return D / lengths(D, 1, keepdim=True)


def _slopes(task: Task, z: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """Whether G bends along each of D `(k, n0)`, and whether f rises to both sides."""
    x = task.generator(z[None])
    r, seeing = task.residual(x), task.measurement.at(x)
    g, step = task.prior_gradient(z[None])[0], _STEP * (1 + float(lengths(z[None])))
    moved = [task.generator.push(z + s * step * D, s * D) for s in (1, -1)]
    sides = [seeing.push(v.T[None])[0].T for v in moved]  # (|K|, k) each
    size = lengths(sides[0]) + lengths(sides[1])
    bends = lengths(sides[0] + sides[1]) > _JUMP * size
    rises = [side @ r[0] + s * (D @ g) > _RISES * size * task.size for side, s in zip(sides, (1, -1), strict=True)]
    return bends, rises[0] & rises[1]
