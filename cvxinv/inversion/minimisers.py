"""Exact minimisers of small convex quadratics, one per signal: anywhere, in a box, in a ball.

    minimise over x in C   1/2 (x - z)'H (x - z) + g'(x - z)        H (N, n, n) symmetric positive definite, z in C

Each takes H, g and z, and returns x `(N, n)` with where it is one, `(N,)`, False where H has no Cholesky factor.
"""

import torch
from torch import Tensor

from ..lengths import lengths

_QUICK = 8  # rounds of guessed sides, which mostly take two or three; they are as many again as they take, or go round
_ROUNDS = 200  # of active sets; a signal that is not done then has a point of the box that is no higher than z
_ENOUGH = 1e-2  # of the decrease that the slope promises, for a point that was moved into the box
_SECULAR_STEPS = 60


def free_minimiser(H: Tensor, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """x = z - H^-1 g; z itself where H has no factor."""
    L, info = torch.linalg.cholesky_ex(H)
    d = torch.cholesky_solve(g[..., None], L)[..., 0]
    there = info == 0
    return z - torch.where(there[:, None], d, torch.zeros_like(d)), there


def box_minimiser(H: Tensor, g: Tensor, z: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """By active sets: some coordinates are held at their sides, and the others go to where the model is least.

    First the sides are guessed: whatever lies beyond one is held there, whatever is held and pulled in is let go, all at
    once. Where that does not end, one keeps to the box: where the others leave it its nearest point is taken if it lowers
    the model, as projected Newton does, and otherwise the first point at a side, which is then held too. Either is done,
    exactly, where the others are inside and no held coordinate's slope leads in.

    lo, hi: `(n,)` or `(N, n)`. Source: Hintermueller, Ito and Kunisch (2002) for the guesses; Bertsekas (1982), section 3;
    Nocedal and Wright, Numerical Optimization, section 16.5.
    """
    x, there = free_minimiser(H, g, z)
    lo, hi = lo.expand_as(z), hi.expand_as(z)
    outside = (there & ((x < lo) | (x > hi)).any(1)).nonzero()[:, 0]
    if len(outside):
        x[outside], ended = _by_guessed_sides(*(part[outside] for part in (H, g, z, lo, hi, x)))
        left = outside[~ended]
        if len(left):
            x[left] = _by_active_sets(*(part[left] for part in (H, g, z, lo, hi)))
    return x, there


def _by_guessed_sides(H: Tensor, g: Tensor, z: Tensor, lo: Tensor, hi: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The minimiser where guesses of what is held end, and where they do, `(N,)`; x: the minimiser without the box."""
    found, left = z.clone(), torch.arange(len(z), device=z.device)
    ended = torch.zeros_like(left, dtype=torch.bool)
    below, above = x <= lo, x >= hi
    for _ in range(_QUICK):
        held = below | above
        d = torch.where(below, lo - z, torch.where(above, hi - z, 0.0))
        d = d - _face_step(H, g + _times(H, d), held).masked_fill(held, 0.0)
        x, q = torch.where(below, lo, torch.where(above, hi, z + d)), g + _times(H, d)
        low, high = torch.where(held, below & (q > 0), x < lo), torch.where(held, above & (q < 0), x > hi)
        done = ((low == below) & (high == above) & (x >= lo) & (x <= hi)).all(1)
        if bool(done.any()):
            found[left[done]], ended[left[done]] = x[done], True
            if bool(done.all()):
                break
            H, g, z, lo, hi, low, high, left = (part[~done] for part in (H, g, z, lo, hi, low, high, left))
        below, above = low, high
    return found, ended


def _by_active_sets(H: Tensor, g: Tensor, z: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    found, x, left = z.clone(), z.clone(), torch.arange(len(z), device=z.device)
    held = _pushed_out(g, x, lo, hi)
    for _ in range(_ROUNDS):
        q = g + _times(H, x - z)
        p = _face_step(H, q, held)
        inside = (((x - p >= lo) & (x - p <= hi)) | held).all(1)
        near = (x - p).clamp(lo, hi)
        lower = _change(H, q, near - x) <= -_ENOUGH * (q * p).sum(1)
        first, met = _first_side(x, p, held, lo, hi)
        x = torch.where((inside | lower)[:, None], near, first)
        out = _pushed_out(g + _times(H, x - z), x, lo, hi)
        done = inside & ~(held & ~out).any(1)
        found[left] = x
        if bool(done.all()):
            break
        held = torch.where((inside | lower)[:, None], out, held | met)
        H, g, z, x, lo, hi, held, left = (part[~done] for part in (H, g, z, x, lo, hi, held, left))
    return found


def _pushed_out(q: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Coordinates at a side that the slope q does not lead away from, `(N, n)`."""
    return ((x <= lo) & (q >= 0)) | ((x >= hi) & (q <= 0)) | (lo == hi)


def _face_step(H: Tensor, q: Tensor, held: Tensor) -> Tensor:
    """p with x - p the minimiser of the model while the held coordinates stay."""
    free, diagonal = ~held, torch.diagonal(H, dim1=-2, dim2=-1)
    block = torch.where(free[:, :, None] & free[:, None, :], H, torch.diag_embed(diagonal * held))
    return torch.cholesky_solve((q * free)[..., None], torch.linalg.cholesky_ex(block).L)[..., 0]


def _first_side(x: Tensor, p: Tensor, held: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Where the way from x along -p first meets a side, at most x - p, and which coordinates meet one there."""
    room = torch.where(p > 0, x - lo, hi - x) / torch.where(p == 0, 1.0, p.abs())
    room = torch.where(held | (p == 0), torch.inf, room)
    length = room.amin(1, keepdim=True).clamp(0, 1)
    met = room <= length
    return torch.where(met, torch.where(p > 0, lo, hi), (x - length * p).clamp(lo, hi)), met


def _change(H: Tensor, q: Tensor, d: Tensor) -> Tensor:
    """How much the model changes along d from where its slope is q, `(N,)`."""
    return (q * d).sum(1) + (d * _times(H, d)).sum(1) / 2


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
