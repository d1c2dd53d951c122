"""Normal equations of a Gauss-Newton step: H = J'J and g = J'r on the affine pieces of some latents, by the cheapest way.

    columns     the n0 columns of J are pushed forward, H is their Gram matrix
    single      the same in float32, with g = J'r pulled back in float64
    blocks      H = J'(J E) for blocks E of unit vectors, pushed forward and pulled back: J is never held
    krylov      H = V T V', the Golub-Kahan (Lanczos) approximation of J'J on the Krylov space of g, k vectors of it

A step needs a good H, but only the gradient says where it ends: with g exact in float64 a descent goes on to the same end
whatever H rounds, only more slowly. So `single` and `krylov` serve while a signal is far from its end (`ROUGH`), and the last
steps, which are to end at machine precision, get `columns` or `blocks`. In float32 J is off by some 1e-7 |J|, and where that
is more, as with weights out of float32's range, it shows: J'r of that J is not the g of float64, and the signal is done
in float64. With g the first vector of the Krylov space, (V T V' + mu I) d = g has the solution of the projected problem, the
k-th iterate of conjugate gradients, for every damping mu: a step that was rejected costs nothing new.

Which way: by what the columns take, multiplications counted by the maps (`work`), and by what J takes of memory. Small
generators keep to `columns` from the first step to the last.

Source: Paige, Saunders, LSQR (1982), for the bidiagonalisation; Nocedal, Wright, Numerical Optimization, section 7.1, for
steps that are solved in part.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...generator.piece import Piece
from ..task import Task

ROUGH = 1e-3  # of |y|: a misfit above it is far from its end
_CHEAP = 100_000_000  # multiplications of all columns of one signal below which float32 saves next to nothing
_AGREES = 1e-3  # of |J| |r|: how far J'r of the float32 J may be from that of float64
_HELD = 500_000_000  # bytes of the Jacobian of one signal beyond which it is not held
_MANY = 512  # latents from which a Krylov space costs less than all columns
_SOLVED = 0.1  # of |g|: what a step by a Krylov space may leave
_SHARE = 4  # a Krylov space of more than n0 over this costs as much as the columns


class Equations(NamedTuple):
    """H `(N, n0, n0)` and g = J'r `(N, n0)`."""

    H: Tensor
    g: Tensor


def way(task: Task, rough: bool) -> str:
    """How the normal equations of one signal are formed; rough: far from its end."""
    G = task.generator
    work, size = sum(layer.W.work for layer in G.layers), 8 * max(G.signal_dim, task.measurement.length) * G.latent_dim
    held = "columns" if size <= _HELD else "blocks"
    if not rough or task.y.dtype != torch.float64 or G.latent_dim * work < _CHEAP:
        return held
    if G.latent_dim >= _MANY:
        return "krylov"
    return "single" if held == "columns" else held


def normal_equations(task: Task, z: Tensor, rough: Tensor, mu: Tensor) -> Equations:
    """H and g at z, block by block.

    rough: bool `(N,)`, far from the end. mu: damping that the step is to have, in mean diagonals of H, `(N,)`.
    """
    ways = {True: way(task, True), False: way(task, False)}
    if ways[True] == ways[False]:
        return _equations(task, z, mu, ways[True])
    found = Equations(z.new_zeros(*z.shape, z.shape[1]), torch.zeros_like(z))
    for far, how in ways.items():
        some = (rough == far).nonzero()[:, 0]
        if len(some):
            part = _equations(task.take(some), z[some], mu[some], how)
            found.H[some], found.g[some] = part
    return found


def _equations(task: Task, z: Tensor, mu: Tensor, how: str) -> Equations:
    parts = [_WAYS[how](task.take(block), z[block], mu[block]) for block in task.blocks()]
    return parts[0] if len(parts) == 1 else Equations(*map(torch.cat, zip(*parts, strict=True)))


def by_columns(task: Task, z: Tensor, _: Tensor) -> Equations:
    """From J, `(N, k, n0)`."""
    r, J = task.linearize(z)
    return Equations(J.mT @ J, (J.mT @ r[..., None])[..., 0])


def in_single(task: Task, z: Tensor, mu: Tensor) -> Equations:
    """From J in float32, with r and g in float64; signals where that J gives another g are done in float64."""
    x, piece = task.generator.piece(z)
    r, seen = task.residual(x), _Seen(task, x)
    J = seen.push(piece.single.jacobian().double())
    g, rounded = seen.pull(piece, r[:, None])[:, 0], (J.mT @ r[..., None])[..., 0]
    H = J.mT @ J
    size = torch.diagonal(H, dim1=-2, dim2=-1).sum(1).sqrt() * r.norm(dim=1)
    # False for NaN too; of weights that float32 does not hold J may be 0, and so is its size
    trusted = ((rounded - g).norm(dim=1) <= _AGREES * size) & ((size > 0) | (g == 0).all(1))
    if not bool(trusted.all()):
        left = (~trusted).nonzero()[:, 0]
        H[left], g[left] = by_columns(task.take(left), z[left], mu[left])
    return Equations(H, g)


def by_blocks(task: Task, z: Tensor, _: Tensor) -> Equations:
    """From J'(J E), block by block of the unit vectors."""
    x, piece = task.generator.piece(z)
    seen = _Seen(task, x)
    H = torch.cat([seen.pull(piece, seen.push(piece.columns(*span).mT).mT) for span in piece.blocks()], 1)
    g = seen.pull(piece, task.residual(x)[:, None])[:, 0]
    return Equations((H + H.mT) / 2, g)


def by_krylov(task: Task, z: Tensor, mu: Tensor) -> Equations:
    """From as many products with J and J' as a step with damping `mu` asks for."""
    x, piece = task.generator.piece(z)
    seen = _Seen(task, x)
    g = seen.pull(piece, task.residual(x)[:, None])[:, 0]
    single, limit = piece.single, max(1, piece.n // _SHARE)
    length = g.norm(dim=1, keepdim=True)
    v, basis, found = g / length.clamp(min=torch.finfo(g.dtype).tiny), list[Tensor](), list[Tensor]()
    for k in range(limit):
        basis.append(v)
        Jv = seen.push(single.push(v.float()[:, None]).double().mT).mT
        found.append(seen.pull(single, Jv.float())[:, 0].double())
        V, A = torch.stack(basis, 1), torch.stack(found, 1)  # (N, k, n0)
        w = found[-1] - _along(V, _along(V.mT, found[-1]))
        w = w - _along(V, _along(V.mT, w))
        T = V @ A.mT
        T = (T + T.mT) / 2
        left = w.norm(dim=1, keepdim=True)
        v = w / left.clamp(min=torch.finfo(g.dtype).tiny)
        if k % 4 == 3 and bool((_left(T, left[:, 0], mu, piece.n) <= _SOLVED).all()):
            break
    return Equations(V.mT @ T @ V, g)


def _along(V: Tensor, w: Tensor) -> Tensor:
    return (V.mT @ w[..., None])[..., 0]


def _left(T: Tensor, left: Tensor, mu: Tensor, n0: int) -> Tensor:
    """|(H + mu s I) d - g| / |g| of the projected solution, `(N,)`."""
    k = T.shape[1]
    s = torch.diagonal(T, dim1=-2, dim2=-1).sum(1) / n0
    first = torch.zeros(len(T), k, 1, dtype=T.dtype, device=T.device)
    first[:, 0] = 1
    eye = torch.eye(k, dtype=T.dtype, device=T.device)
    y = torch.linalg.solve(T + ((mu + 1e-12) * s)[:, None, None] * eye, first)[..., 0]
    return left * y[:, -1].abs()


class _Seen:
    """What the measurement makes of Jacobians: `push` of `(N, d, k)`, and `pull` of `(N, k, length)` all the way to z."""

    def __init__(self, task: Task, x: Tensor):
        self.measurement, self.cut = task.measurement, None
        if task.cut is not None:
            self.cut = task.cut & (task.measurement.observe(x) <= 0)

    def push(self, J: Tensor) -> Tensor:
        J = self.measurement.push(J)
        return J if self.cut is None else J * ~self.cut[..., None]

    def pull(self, piece: Piece, r: Tensor) -> Tensor:
        N, k, length = r.shape
        r = r if self.cut is None else r * ~self.cut[:, None]
        each = torch.arange(N, device=r.device)[:, None].expand(N, k).reshape(-1)
        back = self.measurement.take(each).adjoint(r.reshape(N * k, length).double())
        return piece.pull(back.reshape(N, k, -1).to(r.dtype))


_WAYS = {"columns": by_columns, "single": in_single, "blocks": by_blocks, "krylov": by_krylov}
