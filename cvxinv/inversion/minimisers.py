"""Exact minimisers of small convex quadratics, one per signal: anywhere, in a box, in a ball.

    minimise over x in C   1/2 (x - z)'H (x - z) + g'(x - z)        H (N, n, n) symmetric positive definite, z in C

Each takes H, g and z, and returns x `(N, n)` with where it is one, `(N,)`, False where H has no Cholesky factor.
"""

import torch
from torch import Tensor

from ..lengths import lengths

_ROUNDS = 100  # of projected Newton; a signal that is not done then has a point of the box that is lower than z
_HALVINGS = 30
_ENOUGH = 1e-4  # of the decrease that the slope promises; Armijo's constant
_SECULAR_STEPS = 60


def free_minimiser(H: Tensor, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """x = z - H^-1 g; z itself where H has no factor."""
    L, info = torch.linalg.cholesky_ex(H)
    d = torch.cholesky_solve(g[..., None], L)[..., 0]
    there = info == 0
    return z - torch.where(there[:, None], d, torch.zeros_like(d)), there


def box_minimiser(H: Tensor, g: Tensor, z: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Projected Newton: coordinates whose slope pushes them out of the side they are at stay, the others take a Newton step,
    projected and halved until it lowers the model. Done, exactly, when a whole step left the same coordinates at their
    sides.

    lo, hi: `(n,)`. Source: Bertsekas (1982), section 3.
    """
    x, there = free_minimiser(H, g, z)
    outside = (there & ((x < lo) | (x > hi)).any(1)).nonzero()[:, 0]
    if len(outside):
        x[outside] = _projected_newton(H[outside], g[outside], z[outside], lo, hi)
    return x, there


def _projected_newton(H: Tensor, g: Tensor, z: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    found, x, left = z.clone(), z.clone(), torch.arange(len(z), device=z.device)
    before = torch.zeros_like(z, dtype=torch.bool)
    whole = stalled = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    for _ in range(_ROUNDS):
        q = g + _times(H, x - z)
        held = _held(H, q, x, lo, hi)
        done = stalled | (whole & (held == before).all(1))  # no length helps where only rounding is left
        found[left[done]] = x[done]
        if bool(done.all()):
            return found
        H, g, z, x, q, held, left = (part[~done] for part in (H, g, z, x, q, held, left))
        new, whole = _along_arc(H, q, x, _newton_step(H, q, held), held, lo, hi)
        x, before, stalled = new, held, (new == x).all(1)
    found[left] = x
    return found


def _held(H: Tensor, q: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Coordinates at a side, or next to it, that the slope q pushes out of it, `(N, n)`."""
    scaled = q / torch.diagonal(H, dim1=-2, dim2=-1)
    # next to: no further than the point is from optimal, so that no step ends just short of a side again and again
    near = (x - (x - scaled).clamp(lo, hi)).abs().amax(1, keepdim=True)
    near = torch.minimum(near, 1e-6 * (1 + x.abs().amax(1, keepdim=True)))
    return ((x <= lo + near) & (q > 0)) | ((x >= hi - near) & (q < 0)) | (lo == hi)


def _newton_step(H: Tensor, q: Tensor, held: Tensor) -> Tensor:
    """H_FF^-1 q_F on the free coordinates, and q over the diagonal on those that are held."""
    free, diagonal = ~held, torch.diagonal(H, dim1=-2, dim2=-1)
    block = torch.where(free[:, :, None] & free[:, None, :], H, torch.diag_embed(diagonal * held))
    return torch.cholesky_solve(q[..., None], torch.linalg.cholesky_ex(block).L)[..., 0]


def _along_arc(H: Tensor, q: Tensor, x: Tensor, p: Tensor, held: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """The first of x - p, x - p / 2, ..., each projected, that lowers the model enough; and where it is x - p itself."""
    new, whole = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    waiting, length = torch.arange(len(x), device=x.device), 1.0
    for k in range(_HALVINGS):
        start, slope, free = x[waiting], q[waiting], ~held[waiting]
        raw = start - length * p[waiting]
        trial = raw.clamp(lo, hi)
        d = trial - start
        change = (slope * d).sum(1) + (d * _times(H[waiting], d)).sum(1) / 2
        promised = length * (slope * p[waiting] * free).sum(1) - (slope * d * ~free).sum(1)
        good = change <= -_ENOUGH * promised
        new[waiting[good]] = trial[good]
        if k == 0:
            whole = good & ((raw == trial) | ~free).all(1)
        waiting, length = waiting[~good], length / 2
        if len(waiting) == 0:
            break
    return new, whole


def ball_minimiser(H: Tensor, g: Tensor, z: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """x = (H + mu I)^-1 (H z - g) with the least mu >= 0 at which |x| <= radius.

    mu by Newton's method on 1 / |x(mu)| = 1 / radius in the eigenvectors of H, from mu = 0: the left side is concave there,
    so that the steps neither overshoot nor stall. Source: More and Sorensen (1983), section 3.
    """
    x, there = free_minimiser(H, g, z)
    outside = (there & (lengths(x) > radius)).nonzero()[:, 0]
    if len(outside):
        x[outside] = _on_sphere(H[outside], g[outside], z[outside], radius)
    return x, there


def _on_sphere(H: Tensor, g: Tensor, z: Tensor, radius: float) -> Tensor:
    w, Q = torch.linalg.eigh(H)
    w = w.clamp(min=torch.finfo(w.dtype).eps * w[:, -1:])  # H is definite; rounding must not say otherwise
    c = _times(Q.mT, _times(H, z) - g)
    mu = torch.zeros_like(w[:, :1])
    for _ in range(_SECULAR_STEPS):
        x = c / (w + mu)
        length = lengths(x, keepdim=True)
        step = length**2 * (length - radius) / radius / (x.square() / (w + mu)).sum(1, keepdim=True)
        mu = mu + step.clamp(min=0)
        if bool((step <= 1e-15 * mu).all()):
            break
    return onto_ball(_times(Q, c / (w + mu)), radius)


def onto_ball(z: Tensor, radius: float) -> Tensor:
    """The nearest point with |z| <= radius, `(N, n)`."""
    length = lengths(z, keepdim=True)
    return torch.where(length > radius, z * (radius / length.clamp(min=radius)), z)


def _times(H: Tensor, x: Tensor) -> Tensor:
    return (H @ x[..., None])[..., 0]
