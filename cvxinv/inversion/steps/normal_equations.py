"""Normal equations of a Gauss-Newton step: H = J'J and g = J'r on the affine pieces of some latents, by the cheapest way.

    columns   the n0 columns of J are pushed forward, H is their Gram matrix
    single    the same with J in float32; g = J'r is pulled back in float64
    blocks    H = J'(J E) for blocks E of unit vectors, pushed forward and pulled back: J is never held
    krylov    H = V T V', the Golub-Kahan (Lanczos) approximation of J'J on the Krylov space of g, with products in float32

Only g says where a descent ends, H how soon. With g exact `single` and `krylov` go to the same end as `columns`. A step of
`single` leaves about |dH| / (smallest eigenvalue of H + mu s) of what it was to remove, |dH| = 1e-7 |H|: a signal near its
end (misfit below `ROUGH` |y|) keeps it where that is less than a tenth, and one that hardly gains any more is always done in
float64. So is one of weights out of float32's range, where the J'r of float32 is not g.

g is the first vector of the Krylov space, so (V T V' + mu s I) d = g has the solution of the projected problem, the k-th
iterate of conjugate gradients, for every damping mu: a step that was rejected costs nothing new. The space grows until a
tenth of g is left.

Which way: by the multiplications that the columns take (`work` of the maps), by the bytes of J and by n0. Small generators
keep to `columns` from the first step to the last. Decision 0021.

Source: Paige, Saunders, LSQR (1982), for the bidiagonalisation; Nocedal, Wright, Numerical Optimization, section 7.1, for
steps that are solved in part.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...generator.maps import syrk
from ...generator.piece import AbstractPiece, units
from ..answer import STEPS
from ..task import Task

ROUGH = 1e-3  # of |y|: a misfit above it is far from its end
_CHEAP = 100_000_000  # multiplications of all columns of one signal below which float32 saves next to nothing
_AGREES = 1e-3  # of |J| |r|: how far J'r of the float32 J may be from that of float64
_SINGLE = 10 * torch.finfo(torch.float32).eps  # of |H|: damped eigenvalues below it are lost in float32
_HELD = 500_000_000  # bytes of the Jacobian of one signal beyond which it is not held
_MANY = 512  # latents from which a Krylov space costs less than all columns
_SOLVED = 0.1  # of |g|: what a step by a Krylov space may leave
_SHARE = 4  # a Krylov space of more than n0 over this costs as much as the columns
_CONVEX = 1e-3  # of its diagonal: a curvature that is not convex by that is bent
_ALONE = 100_000  # numbers in a Jacobian from which its Gram matrix is formed by itself, half of it


class Equations(NamedTuple):
    """H `(N, n0, n0)` and g = J'r `(N, n0)`."""

    H: Tensor
    g: Tensor


class Ways(NamedTuple):
    """How the normal equations of a signal are formed: far from its end, near it, and at the end."""

    far: str
    near: str
    end: str


def ways_of(task: Task) -> Ways:
    """The ways of this generator, as it is seen."""
    G = task.generator
    held = 8 * max(G.signal_dim, task.y.shape[1]) * G.latent_dim <= _HELD
    end = "columns" if held else "blocks"
    if task.y.dtype != torch.float64 or G.latent_dim * G.work < _CHEAP:
        return Ways(end, end, end)
    near = "single" if held else end
    return Ways("krylov" if G.latent_dim >= _MANY else near, near, end)


def notes_of_ways(task: Task) -> tuple[str, ...]:
    """What a descent says of its steps where they are not the usual ones."""
    ways = ways_of(task)
    far = {
        "single": "Jacobians in float32; gradients, and the last steps, in float64",
        "krylov": "on Krylov spaces of the gradient, without the Jacobian; the last ones in float64",
    }
    size = 8 * task.generator.signal_dim * task.generator.latent_dim / 1e9
    held = f"J'J by blocks of columns, as a signal's J would take {size:.2g} GB"
    words = filter(None, (far.get(ways.far, ""), held if ways.end == "blocks" else ""))
    return tuple([f"{STEPS}{each}" for each in words])


def normal_equations(task: Task, z: Tensor, misfit: Tensor, mu: Tensor, ending: Tensor) -> Equations:
    """H and g at z, block by block.

    misfit: that of z, `(N,)`. mu: damping that the step is to have, in mean diagonals of H, `(N,)`. ending: bool `(N,)`,
    signals that hardly gain any more.
    """
    ways = ways_of(task)
    if len(set(ways)) == 1:
        return _equations(task, z, mu, ways.end)
    far = misfit > ROUGH * task.size
    found = Equations(z.new_zeros(*z.shape, z.shape[1]), torch.zeros_like(z))
    for some, how in ((far & ~ending, ways.far), (~far & ~ending, ways.near), (ending, ways.end)):
        index = some.nonzero()[:, 0]
        if len(index):
            found.H[index], found.g[index] = _equations(task.take(index), z[index], mu[index], how)
    lost = (~far & ~ending).nonzero()[:, 0] if ways.near == "single" else far.new_zeros(0, dtype=torch.long)
    lost = lost[_lost_in_single(found.H[lost], mu[lost])]
    if len(lost):
        found.H[lost], found.g[lost] = _equations(task.take(lost), z[lost], mu[lost], ways.end)
    return found


def _lost_in_single(H: Tensor, mu: Tensor) -> Tensor:
    """Whether the smallest eigenvalue of H + mu s I is less than float32 leaves of it, bool `(N,)`; by inverse iteration."""
    if len(H) == 0:
        return torch.zeros(0, dtype=torch.bool, device=H.device)
    s = torch.diagonal(H, dim1=-2, dim2=-1).mean(1)
    L, info = torch.linalg.cholesky_ex(H + torch.diag_embed((mu * s)[:, None].expand(H.shape[:2])))
    x = torch.linspace(1, 2, H.shape[1], dtype=H.dtype, device=H.device)[None, :, None].expand(len(H), -1, -1)
    for _ in range(3):
        x = torch.cholesky_solve(x / x.norm(dim=1, keepdim=True), L)
    return (info != 0) | ~(x.norm(dim=(1, 2)) * _SINGLE * H.norm(dim=(1, 2)) < 1)


def _equations(task: Task, z: Tensor, mu: Tensor, how: str) -> Equations:
    blocks, form = task.blocks(), _WAYS[how]
    if len(blocks) == 1:
        return form(task, z, mu)
    parts = [form(task.take(block), z[block], mu[block]) for block in blocks]
    return Equations(*map(torch.cat, zip(*parts, strict=True)))


def _gram(J: Tensor) -> Tensor:
    """J'J, `(N, n0, n0)`."""
    if J.device.type == "cpu" and J[0].numel() >= _ALONE:
        return torch.stack([syrk(one) for one in J])
    return J.mT @ J


def by_columns(task: Task, z: Tensor, _: Tensor) -> Equations:
    """From J, `(N, k, n0)`."""
    r, J = task.linearize(z)
    return Equations(_gram(J), (J.mT @ r[..., None])[..., 0])


def in_single(task: Task, z: Tensor, mu: Tensor) -> Equations:
    """From J in float32, with r and g in float64; signals where that J gives another g are done in float64."""
    x, piece = task.generator.piece(z)
    r, seen = task.residual(x), _Seen(task, x)
    J = seen.push(piece.single.jacobian().double())
    g, rounded = seen.pull(piece, r[:, None])[:, 0], (J.mT @ r[..., None])[..., 0]
    H = _gram(J)
    size = torch.diagonal(H, dim1=-2, dim2=-1).sum(1).sqrt() * r.norm(dim=1)
    # False for NaN too; of weights that float32 does not hold J may be 0, and so is its size
    trusted = ((rounded - g).norm(dim=1) <= _AGREES * size) & ((size > 0) | (g == 0).all(1))
    if not bool(trusted.all()):
        left = (~trusted).nonzero()[:, 0]
        H[left], g[left] = by_columns(task.take(left), z[left], mu[left])
    return Equations(H, g)


def rough_curvature(task: Task, z: Tensor) -> Tensor:
    """H of the stated objective's piece at z with J in float32, `(N, n0, n0)`, for descents whose gradient is another's.

    J'J + sigma^2 R'', behind a curved output with what Gauss-Newton leaves out where more than noise is left; in float64
    where float32 holds no J.
    """
    parts = [_rough_curvature(task.take(block), z[block]) for block in task.blocks()]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rough_curvature(task: Task, z: Tensor) -> Tensor:
    prior = task.prior_curvature(z)
    if ways_of(task).end == "blocks":
        return by_blocks(task, z, z[:, 0]).H + prior
    curved = task.generator.output.curved
    if curved and task.far:
        H = _newton(task, z)
    else:
        x, piece = task.generator.piece(z)
        H = _gram(_Seen(task, x).push(_packed(piece, z).to(z.dtype))) + prior
        # noise within its level has as much of either sign in it: what it adds to the curvature costs more than it tells
        if curved and len(left := (~task.met(task.residual(x))).nonzero()[:, 0]):
            H[left] = _newton(task.take(left), z[left])
    lost = (~torch.isfinite(H).all((1, 2)) | (torch.diagonal(H, dim1=-2, dim2=-1) == 0).all(1)).nonzero()[:, 0]
    if len(lost):
        H[lost] = by_columns(task.take(lost), z[lost], z[lost, 0]).H + task.take(lost).prior_curvature(z[lost])
    return H


def _newton(task: Task, z: Tensor) -> Tensor:
    """J'J + U' diag(phi''(u) A'r) U + sigma^2 R''; where that is not convex, without what is negative of phi''(u) A'r."""
    u, piece = task.generator.piece(z, before_output=True)
    phi, U, prior = task.generator.output, _packed(piece, z).to(z.dtype), task.prior_curvature(z)
    x, slope = phi.with_derivative(u)
    bend = phi.second_derivative(u) * task.pull(x)
    if task.measurement.pixelwise:
        weight = slope.square() * task.measurement.seen(task.N).to(slope)
        H, rest = U.mT @ ((weight + bend)[..., None] * U) + prior, None
    else:
        rest = _gram(_Seen(task, x).push(U * slope[..., None])) + prior
        H, weight = rest + U.mT @ (bend[..., None] * U), torch.zeros_like(bend)
    bare = H - torch.diag_embed(_CONVEX * torch.diagonal(H, dim1=-2, dim2=-1))
    bent = (torch.linalg.cholesky_ex(bare)[1] != 0).nonzero()[:, 0]
    if len(bent):
        held = _gram(U[bent] * (weight + bend.clamp(min=0))[bent].sqrt()[..., None])
        H[bent] = held + (prior if rest is None else rest).expand_as(H)[bent]
    return H


def chord_equations(piece: AbstractPiece, slope: Tensor, r: Tensor, z: Tensor) -> Equations:
    """(S J)'(S J) and J'S r, S = diag(slope) `(N, d)`, J of `piece` in float32 as in `rough_curvature`; r `(N, d)`."""
    J = _packed(piece, z).to(z.dtype) * slope[..., None]
    return Equations(_gram(J), piece.pull((slope * r)[:, None])[:, 0])


def _packed(piece: AbstractPiece, z: Tensor) -> Tensor:
    """J in float32, `(N, d, n0)`; where one block holds it pushed from units of each latent, as one product is faster."""
    if len(piece.blocks()) > 1:
        return piece.single.jacobian()
    return piece.single.push(units(z.float(), piece.n, 0, piece.n)).mT


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
        self.measurement, self.still = task.measurement.at(x), task.still(x)

    def push(self, J: Tensor) -> Tensor:
        J = self.measurement.push(J)
        return J if self.still is None else J * ~self.still[..., None]

    def pull(self, piece: AbstractPiece, r: Tensor) -> Tensor:
        N, k, length = r.shape
        r = r if self.still is None else r * ~self.still[:, None]
        each = torch.arange(N, device=r.device)[:, None].expand(N, k).reshape(-1)
        back = self.measurement.take(each).adjoint(r.reshape(N * k, length).double())
        return piece.pull(back.reshape(N, k, -1).to(r.dtype))


_WAYS = {"columns": by_columns, "single": in_single, "blocks": by_blocks, "krylov": by_krylov}
