"""What a p proves that misses dual feasibility: a bound for every h that can be better than the one at hand.

Where lam = 0 (or gamma = 0) dual feasibility asks for W'p = 0, or W'p >= 0 where h >= 0, which rounding never meets. Let
q = `short`, what W'p lacks, and D the value of (D) at p. For every feasible x

    f(x) >= D + q'x >= D + q'h - |q / L| |L (x - h)|,        L the lengths of the columns of w^(1/2) W_on.

An x with f(x) < f(h) has |w^(1/2) (W x + b - y)_on| <= l(f(h)), and so has h, with l(f) = (2 f)^(1/2) for squared misfits,
m_on^(1/2) f for the largest excess and f for the sum of all; hence |w^(1/2) W_on (x - h)| <= 2 l(f) and, with sigma at most
the smallest singular value of w^(1/2) W_on L^-1,

    |L (x - h)| <= R = 2 l(f(h)) / sigma.

So D + q'h - |q / L| R is below every f(x) < f(h), and the bound holds for every x. sigma is read off the eigenvalues of the
Gram matrix of w^(1/2) W_on L^-1, less what rounding may do to an n x n matrix of trace n and its eigenvalues, 4 (m + 2 n +
4) n u; where that leaves nothing, off its singular values, less (m + n) u times the largest. Where that leaves nothing
either, fits look for rows whose p has room (`open_rows`). Else the bound holds for |L (x - h)| <= R only, with the largest R
that the allowed gap leaves room for: the certificate's `scope`.

Derived here; the argument with f(x) < f(h) asks for no feasible point and costs no digits where the misfit is small.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...lengths import lengths
from .open_rows import everywhere
from .problem import AbstractLayerProblem
from .proofs import Unmet
from .rows import weighted_gram

LARGEST = 2048  # unknowns beyond which no n x n factorisation is made here
LEAST_RADIUS = 1e3  # in units of s_y: a bound that holds for less is none


_NUMBERS = 30_000_000  # in the n x n matrices of one block, 240 MB


class Near(NamedTuple):
    """A bound `(N,)`, its p `(N, m)`, and for which |x| it holds, `(N,)`, inf for all; the bound is -inf where none is
    known."""

    bound: Tensor
    p: Tensor
    scope: Tensor


class _Columns(NamedTuple):
    """L `(N, n)`, sigma `(N,)`, and the eigenvectors and inverse eigenvalues of the Gram matrix of columns of length 1."""

    length: Tensor
    sigma: Tensor
    vectors: Tensor
    inverse: Tensor


def serves(problem: AbstractLayerProblem) -> Tensor:
    """Signals whose bound may need this: misfits that are weighed, without any weight on h, bool `(N,)`."""
    if problem.form not in ("quadratic", "layered", "excess") or problem.n > LARGEST:
        return torch.zeros(problem.N, dtype=torch.bool, device=problem.rows.y.device)
    return (problem.linear.amax(1) == 0) & (problem.quadratic.amax(1) == 0)


def determined(problem: AbstractLayerProblem) -> Tensor:
    """Served signals whose rows on are proved to determine h, so that a bound for every h is known, bool `(N,)`."""
    found = serves(problem)
    if not bool(found.any()):
        return found
    for k in found.nonzero()[:, 0].split(max(1, _NUMBERS // problem.n**2)):
        found[k] = _columns(problem.take(k)).sigma > 0
    return found


def near(problem: AbstractLayerProblem, h: Tensor, f: Tensor, p: Tensor, allowed: Tensor) -> Near:
    """The bound of the module from a p, as it is and brought next to feasibility; f: no less than f(h).

    allowed: `(N,)`, the gap that is to be left where only a scope can be shown.
    """
    blocks = torch.arange(problem.N, device=h.device).split(max(1, _NUMBERS // problem.n**2))
    found = [_near(problem.take(k), h[k], f[k], p[k], allowed[k]) for k in blocks]
    return found[0] if len(found) == 1 else Near(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _near(problem: AbstractLayerProblem, h: Tensor, f: Tensor, p: Tensor, allowed: Tensor) -> Near:
    columns, unmet = _columns(problem), problem.unmet(p)
    assert unmet is not None
    nearer = _closer(problem, columns, unmet)
    best, other = (_read(problem, columns, its, h, f, allowed) for its in (unmet, nearer))
    best = _where((other.bound > best.bound) | (other.bound == best.bound) & (other.scope > best.scope), other, best)
    left = (torch.isfinite(best.scope) | (best.bound < f - allowed)).nonzero()[:, 0]
    if problem.form != "excess" or len(left) == 0:
        return best
    for its in (unmet, nearer):
        bound = torch.full_like(best.bound, -torch.inf)
        bound[left] = everywhere(problem.take(left), Unmet(*(part[left] for part in its)))
        # half of what is allowed is worth it that the bound holds for every h
        enough = (bound >= f - 0.5 * allowed) & torch.isfinite(best.scope)
        found = Near(bound, its.p, torch.full_like(best.scope, torch.inf))
        best = _where(enough | (bound > best.bound), found, best)
    return best


def _where(which: Tensor, a: Near, b: Near) -> Near:
    """`a` where `which` `(N,)`, else `b`."""
    return Near(*(torch.where(which[:, None] if x.ndim == 2 else which, x, y) for x, y in zip(a, b, strict=True)))


def closer(problem: AbstractLayerProblem, p: Tensor) -> Tensor:
    """p `(N, m)` brought next to feasibility, for signals that are served."""
    found = []
    for k in torch.arange(problem.N, device=p.device).split(max(1, _NUMBERS // problem.n**2)):
        part = problem.take(k)
        unmet = part.unmet(p[k])
        assert unmet is not None
        found.append(_closer(part, _columns(part), unmet).p)
    return torch.cat(found)


def _closer(problem: AbstractLayerProblem, columns: _Columns, unmet: Unmet) -> Unmet:
    # W'(w W x) = -short takes what is lacking away, and rounding leaves less
    step = _solved(columns, -unmet.short / columns.length) / columns.length
    moved = unmet.p + problem.rows.fit * problem.rows.W(step)
    # shrinking it to where F* is finite keeps W'p next to 0, as clipping would not
    found = problem.unmet(moved * problem.misfit.reach(moved).clamp(max=1)[:, None])
    assert found is not None
    return found


def _read(problem: AbstractLayerProblem, columns: _Columns, unmet: Unmet, h: Tensor, f: Tensor, allowed: Tensor) -> Near:
    value = unmet.value + (unmet.short * h).sum(1) - (unmet.doubt * h.abs()).sum(1)
    value = value - 8 * torch.finfo(h.dtype).eps * (unmet.short * h).abs().sum(1)
    slope = lengths((unmet.short.abs() + unmet.doubt) / columns.length)
    known = columns.sigma > 0
    radius = 2 * problem.misfit.longest(f.clamp(min=0)) / torch.where(known, columns.sigma, torch.ones_like(f)) * (1 + 1e-12)
    room = 0.5 * (allowed - (f - value)).clamp(min=0) / torch.where(slope > 0, slope, torch.ones_like(slope))
    room = torch.where(slope > 0, room, torch.full_like(room, torch.inf))
    widest = columns.length.amax(1)
    within = (room / widest - lengths(h)).clamp(min=0)
    wide = (room >= LEAST_RADIUS * problem.rows.scale()) & (within >= lengths(h))
    scope = torch.where(known, torch.inf, torch.where(wide, within, torch.zeros_like(within)))
    loss = slope * torch.where(known, radius, room)
    bound = torch.where(known | wide, value - torch.nan_to_num(loss, nan=0.0), torch.full_like(value, -torch.inf))
    return Near(torch.nan_to_num(bound, nan=-torch.inf), unmet.p, scope)


def _columns(problem: AbstractLayerProblem) -> _Columns:
    rows, n, m = problem.rows, problem.n, problem.rows.m
    if problem.N > 1 and rows.alike:
        one = _columns(problem.take(torch.tensor([0], device=rows.y.device)))
        return _Columns(*(x.expand(problem.N, *x.shape[1:]) for x in one))
    eps = torch.finfo(rows.y.dtype).eps
    length = (rows.fit @ rows.W.matrix().square()).sqrt()
    # a column that no on row sees must not set how far the others reach: |W| may be of any size
    widest = length.amax(1, keepdim=True)
    length = torch.where(length > 0, length, torch.where(widest > 0, widest, torch.ones_like(widest)))
    S, vectors = torch.linalg.eigh(weighted_gram(rows.W, rows.fit) / (length[:, :, None] * length[:, None, :]))
    lost = 4 * (m + 2 * n + 4) * n * eps
    flat, tall = S <= lost, (rows.fit > 0).sum(1) >= n  # with fewer rows than unknowns there is nothing to prove
    sigma = torch.where(tall, (S[:, 0] - lost).clamp(min=0).sqrt(), 0.0)
    inverse = torch.where(flat, torch.zeros_like(S), 1 / torch.where(flat, torch.ones_like(S), S))
    for i in (tall & (sigma == 0)).nonzero()[:, 0].tolist():
        there = rows.fit[i] > 0
        M = rows.fit[i, there].sqrt()[:, None] * rows.W.matrix()[there] / length[i]
        values = torch.linalg.svdvals(M)
        sigma[i] = (values[-1] - (m + n) * eps * values[0]).clamp(min=0)
    return _Columns(length, sigma, vectors, inverse)


def _solved(columns: _Columns, c: Tensor) -> Tensor:
    """x with (Gram matrix of columns of length 1) x = c, where it is not flat."""
    V = columns.vectors
    return (V @ (columns.inverse * (V.mT @ c[..., None])[..., 0])[..., None])[..., 0]
