"""Limits of the latent and of undecided units by many convex problems at once, which share one matrix per node.

For a functional C'w and a force eps > 0

    (P)   minimise eps C'w + 1/2 |r(w)|^2   over t(w) >= 0        ADMM:  (J'J + sg A'A) w = J'q - eps C + sg A'(tau - c) -
    A'm
                                                                        tau = max(0, A w + c + m / sg),   m = m + sg (A w
                                                                        + c - tau)

with multipliers mu = -m >= 0 at the end. Whatever r and mu come out, for every better w (|r(w)|^2 <= ball := level - e)

    C'w >= k'w - r'q / eps - |r| ball^(1/2) / eps,      k = C + J'r / eps                               (Cauchy-Schwarz)

and k'w is bounded layer by layer from the last. An undecided unit (u, x) lies in the triangle (l, s l), (0, 0), (h, h):
with gk its entry of k and any number pu, gk x = (gk x - pu u) + pu (P w + p) adds min(0, (s gk - pu) l, (gk - pu) h) + pu
p and pu P to the entries before; the multipliers of its three rows say which, pu = (s mu_0 + mu_1 - a mu_2) / eps. A
decided unit with multipliers e1, e2 (over eps) adds e1 l - e2 h - (e1 - e2) p and takes (e1 - e2) P off. At the latent
each entry is least at one end of the box.

Iterations run in float32; those after which a bound is worked out in float64: from any x, W is stationary to rounding then.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from .bounding import Excess, corrected, factor, solve_relaxed, times
from .contraction import fold
from .nodes import Nodes
from .relaxation import Relaxation

ITERATIONS, EVERY = 40, 20
SIDES = 0.8  # of the room, that of the units' sides which are looked at
_RELAXED = 1.6
_BOX = 0.03  # of the penalty, for rows of the box
_BYTES = 300_000_000


def tighten(
    nodes: Nodes,
    level: Tensor,
    relaxed: Callable[[Nodes], Relaxation],
    through: Callable[[Nodes], Nodes],
    deadline: float = torch.inf,
) -> Nodes:
    """The nodes with limits of the latent and of undecided units that the iterations prove, and what the box then implies
    (`through`); level `(S,)`. Past the deadline (`time.perf_counter`) nodes stay as they are.
    """
    parts = []
    for k in range(len(nodes)):
        node = nodes.take(slice(k, k + 1))
        if time.perf_counter() > deadline:
            parts.append(node)
            continue
        rel = relaxed(node)
        its = level[node.owner]
        found = solve_relaxed(rel, its, 1e-5 * its)
        if bool((found.D < 0).any()):
            parts.append(node)
            continue
        part = tightened(rel, corrected(rel, its, found), its, SIDES, deadline)
        parts.append(through(part))
    return Nodes.joined(parts)


def tightened(rel: Relaxation, found: Excess, level: Tensor, share: float, deadline: float = torch.inf) -> Nodes:
    """The nodes of a relaxation with the limits that the iterations prove: of the latent, and of the undecided units' sides
    that hold a share of the room; level `(N,)`. Where D < 0 nothing is to be proved, and past the deadline
    (`time.perf_counter`) nothing more is.
    """
    C, M = _undecided_functionals(rel), rel.n0 + sum(x.at.shape[1] for x in rel.levels)
    width = torch.cat([rel.nodes.high - rel.nodes.low, *(x.above - x.below for x in rel.levels)], 1)
    at = _sides(rel, share)
    size = max(1, _BYTES // (8 * 12 * len(level) * (rel.V + rel.const.shape[1])))
    ball, lows = rel.ball(level).clamp(min=0), list[Tensor]()
    for part in at.split(size, 1):
        which, sign = part % M, torch.where(part < M, 1.0, -1.0).to(C)
        its = C.gather(2, which[:, None].expand(-1, rel.V, -1)) * sign[:, None]
        lows.append(_lower(rel, ball, found, its, width.gather(1, which), deadline))
    found_ = torch.where((found.D >= 0)[:, None], torch.cat(lows, 1), -torch.inf)
    low = torch.full((len(level), 2 * M), -torch.inf).to(C).scatter(1, at, found_)
    return fold(rel, _spread(rel, low[:, :M], -torch.inf), _spread(rel, -low[:, M:], torch.inf))


def _sides(rel: Relaxation, share: float) -> Tensor:
    """Positions `(N, count)` among the functionals and, M further, their negatives: of the latent's coordinates, and of the
    sides of units that hold a share of the room, sum of -l h / (h - l), each the part by which l and h are its logarithms'.
    """
    N, parts = len(rel.vl), list[Tensor]()
    for end in (1, -1):
        parts.append(torch.full((N, rel.n0), torch.inf).to(rel.vl))
        for x in rel.levels:
            l, h = -x.below, x.above
            parts.append((l * h / (l + h)) * (h if end == 1 else l) / (l + h) * x.there)
    worth, order = torch.cat(parts, 1).sort(dim=1, descending=True, stable=True)
    worth = worth[:, 2 * rel.n0 :]
    before = worth.cumsum(1) - worth
    count = (before < share * worth.sum(1, keepdim=True)).sum(1) if worth.shape[1] else torch.zeros(N, dtype=torch.long)
    return order[:, : 2 * rel.n0 + int(count.max())]


def _undecided_functionals(rel: Relaxation) -> Tensor:
    """C `(N, V, M)`: the latent's coordinates, and undecided pre-activations of all layers."""
    N, V = rel.vl.shape
    parts = [torch.eye(V, dtype=rel.q.dtype, device=rel.q.device)[:, : rel.n0].expand(N, V, rel.n0)]
    parts += [torch.nn.functional.pad(x.Pu.mT, (0, 0, 0, V - x.start)) for x in rel.levels]
    return torch.cat(parts, 2)


def _spread(rel: Relaxation, side: Tensor, end: float) -> Tensor:
    """Limits of these functionals among those of `fold`, which has outputs too: `end` for theirs."""
    parts, at = [side[:, : rel.n0]], rel.n0
    for x in rel.levels:
        U = x.at.shape[1]
        parts += [side[:, at : at + U], torch.full_like(x.base, end)]
        at += U
    return torch.cat(parts, 1)


def _lower(rel: Relaxation, ball: Tensor, found: Excess, C: Tensor, width: Tensor, deadline: float) -> Tensor:
    """Lower limits `(N, M)` of C'w, C `(N, V, M)`; -inf where none was proved before the deadline."""
    v, lam, D = found.v, found.lam, found.D
    J_diag = torch.diagonal(rel.JJ, dim1=1, dim2=2)
    # the geometric mean of what the misfit and the rows weigh
    own = slice(rel.n0, None) if rel.V > rel.n0 else slice(None)
    share = J_diag[:, own].clamp(min=1e-30).log() - rel.row_squares[:, own].clamp(min=1e-30).log()
    there = ~rel.pad[:, own]
    ratio = (torch.where(there, share, 0.0).sum(1) / there.sum(1).clamp(min=1)).exp()
    sg = 0.15 * ratio[:, None] * torch.where(rel.active, 1.0, 0.0)
    sg[:, : 2 * rel.n0] *= _BOX
    H = rel.gram(sg)
    L = factor(H, rel)
    # on the way to the border of the ball a force does work of about half of what the misfit may grow by
    eps = 5 * D.clamp(min=1e-300)[:, None] / width.clamp(min=1e-300)
    c, weight = torch.where(rel.active, rel.const, 0.0)[..., None], sg.clamp(min=1e-300)[..., None]
    W, start = v[..., None].expand_as(C).clone(), v[..., None]
    fixed, dual = rel.J.mT @ rel.q[..., None], -lam[..., None] / weight
    dual = torch.where(rel.active[..., None], dual, 0.0)
    # with tau = max(x, 0) and m / sg = min(x, 0) one array holds both, and sg (tau - c) - m = sg (|x| - c)
    x = (rel.rows(W) + c).clamp_(min=0) + dual
    r0 = ((rel.J @ v[..., None])[..., 0] - rel.q).square().sum(1, keepdim=True)
    best = torch.full_like(eps, -torch.inf)
    force, near = fixed - eps[:, None] * C, rel.rounded()
    L32, c32, weight32, force32, x = L.float(), c.float(), weight.float(), force.float(), x.float()
    for k in range(1, ITERATIONS + 1):
        if time.perf_counter() > deadline:  # of a large node all of them take seconds
            break
        if k % EVERY:
            W32 = torch.cholesky_solve(near.pull_many(x.abs().sub_(c32).mul_(weight32), masked=False).add_(force32), L32)
            x = torch.minimum(x, (1 - _RELAXED) * x).add_(near.rows(W32).add_(c32), alpha=_RELAXED)
            continue
        # from any x this W is stationary to rounding
        x = x.double()
        W = torch.cholesky_solve(rel.pull_many(x.abs().sub_(c).mul_(weight), masked=False).add_(force), L)
        AW, r = rel.rows(W).add_(c), rel.J @ W - rel.q[..., None]
        # the multipliers that W is stationary with, of either sign; those of the next line are not yet
        best = torch.maximum(best, _true_bound(rel, ball, r, (x.abs() - AW).mul_(weight), eps, C))
        x = torch.minimum(x, (1 - _RELAXED) * x).add_(AW, alpha=_RELAXED)
        grown = ((r**2).sum(1) - r0).clamp(min=1e-300)
        ratio = ((ball[:, None] - r0).clamp(min=0) / grown).sqrt().clamp(0.3, 3.0)
        if k == ITERATIONS or bool(((ratio - 1).abs() < 0.02).all()):
            break
        eps = eps * ratio
        W = start + (W - start) * ratio[:, None]
        x = (rel.rows(W) + c).clamp_(min=0) + dual + (x.clamp(max=0) - dual) * ratio[:, None]
        force = fixed - eps[:, None] * C
        x, force32 = x.float(), force.float()
    return best


def _true_bound(rel: Relaxation, ball: Tensor, r: Tensor, mu: Tensor, eps: Tensor, C: Tensor) -> Tensor:
    """Lower limits `(N, M)` of C'w from any r `(N, k, M)` and mu `(N, K, M)`: see the module."""
    rho, mu = r / eps[:, None], mu / eps[:, None] * rel.active[..., None]
    length = (rho**2).sum(1).sqrt()
    pulled = rel.J.mT @ rho
    k = C + pulled
    total = -times(rel.q, rho) - length * ball.sqrt()[:, None]
    rounding = times(rel.q.abs(), rho.abs()) + length * ball.sqrt()[:, None]
    wide = torch.maximum(rel.vl.abs(), rel.vu.abs())
    columns = torch.diagonal(rel.JJ, dim1=1, dim2=2).sqrt()
    rounding = rounding + ((columns * wide).sum(1, keepdim=True) * length) + times(wide, k.abs())
    parts = torch.split(mu, rel.sizes, 1)
    for at in range(len(rel.levels) - 1, -1, -1):
        x = rel.levels[at]
        m0, m1, m2, e1, e2 = parts[2 + 5 * at : 7 + 5 * at]
        U, c = x.at.shape[1], x.start
        gk = k[:, c : c + U]
        s, a, l, h = (y[..., None] for y in (x.s, x.a, x.below, x.above))
        pu = (s * m0 + m1 - a * m2) * x.there[..., None]
        net = (e1 - e2) * x.held[..., None]
        e1, e2 = net.clamp(min=0), (-net).clamp(min=0)
        corner = torch.minimum((s * gk - pu) * l, (gk - pu) * h).clamp(max=0) * x.there[..., None]
        pd, dl, dh = rel.held_limits(at)
        total = total + corner.sum(1) + times(x.base, pu) + times(dl - pd, e1) - times(dh - pd, e2)
        size = x.base.abs() + x.scale + torch.maximum(-x.below, x.above)
        rounding = rounding + corner.abs().sum(1) + times(size, pu.abs())
        rounding = rounding + times(x.scale_held + pd.abs() + torch.maximum(dl.abs(), dh.abs()), e1 + e2)
        k = torch.cat([k[:, :c] + x.Pu.mT @ pu - x.Pd.mT @ (e1 - e2), torch.zeros_like(k[:, c:])], 1)
    z = k[:, : rel.n0]
    low, high = rel.nodes.low[..., None], rel.nodes.high[..., None]
    total = total + torch.minimum(z * low, z * high).sum(1)
    rounding = rounding + (z.abs() * torch.maximum(low.abs(), high.abs())).sum(1)
    return torch.nan_to_num(total - 10 * rel.share * rounding, nan=-torch.inf)
