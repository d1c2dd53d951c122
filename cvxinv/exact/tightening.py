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
"""

import torch
from torch import Tensor

from .bounding import ROUNDING, corrected, factor, solve_relaxed
from .contraction import fold
from .network import Network
from .nodes import Nodes, Targets, through_box
from .relaxation import Relaxation

ITERATIONS, EVERY = 60, 20
_RELAXED = 1.6
_BOX = 0.03  # of the penalty, for rows of the box
_BYTES = 300_000_000


def tighten(network: Network, targets: Targets, nodes: Nodes, level: Tensor, enough: Tensor) -> Nodes:
    """The nodes with every limit that 60 iterations prove, and what the box then implies; level `(S,)`."""
    parts = []
    for k in range(len(nodes)):
        node = nodes.take(slice(k, k + 1))
        rel = Relaxation(network, targets, node)
        found = solve_relaxed(rel, level[node.owner], (1e-5 * level)[node.owner])
        if bool((found.D < 0).any()):
            parts.append(node)
            continue
        found = corrected(rel, level[node.owner], found)
        C = _undecided_functionals(rel)
        ball = (level[node.owner] - rel.e).clamp(min=0)
        size = max(1, _BYTES // (8 * 6 * (rel.V + rel.const.shape[1])))
        lows = [_lower(rel, ball, found.v, found.lam, found.D, part) for part in C.split(size, 2)]
        lows_down = [_lower(rel, ball, found.v, found.lam, found.D, -part) for part in C.split(size, 2)]
        below, above = torch.cat(lows, 1), -torch.cat(lows_down, 1)
        parts.append(through_box(network, targets, fold(rel, *_spread(rel, below, above))))
    return Nodes.joined(parts)


def _undecided_functionals(rel: Relaxation) -> Tensor:
    """C `(N, V, M)`: the latent's coordinates and undecided pre-activations."""
    N, V = rel.vl.shape
    parts = [torch.eye(V, dtype=rel.q.dtype, device=rel.q.device)[:, : rel.n0].expand(N, V, rel.n0)]
    parts += [torch.nn.functional.pad(x.Pu.mT, (0, 0, 0, V - x.start)) for x in rel.levels]
    return torch.cat(parts, 2)


def _spread(rel: Relaxation, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of these functionals among those of `contraction.functionals`, which has outputs too."""
    low, high, at = [below[:, : rel.n0]], [above[:, : rel.n0]], rel.n0
    for x in rel.levels:
        U = x.at.shape[1]
        free = torch.full_like(below[:, at : at + U], torch.inf)
        low += [below[:, at : at + U], -free]
        high += [above[:, at : at + U], free]
        at += U
    return torch.cat(low, 1), torch.cat(high, 1)


def _lower(rel: Relaxation, ball: Tensor, v: Tensor, lam: Tensor, D: Tensor, C: Tensor) -> Tensor:
    """Lower limits `(N, M)` of C'w, C `(N, V, M)`."""
    A_diag = torch.diagonal(rel.gram(torch.ones_like(lam)) - rel.JJ, dim1=1, dim2=2)
    J_diag = torch.diagonal(rel.JJ, dim1=1, dim2=2)
    # the geometric mean of what the misfit and the rows weigh
    own = slice(rel.n0, None) if rel.V > rel.n0 else slice(None)
    ratio = (J_diag[:, own].clamp(min=1e-30).log() - A_diag[:, own].clamp(min=1e-30).log()).mean(1).exp()
    sg = 0.3 * ratio[:, None] * torch.where(rel.active, 1.0, 0.0)
    sg[:, : 2 * rel.n0] *= _BOX
    H = rel.gram(sg)
    L = factor(H, rel)
    # the force that takes the ellipsoid of better points to its border
    om = 4 * lam**2 / D.clamp(min=1e-300)[:, None]
    tight = factor(rel.gram(om), rel)
    reach = (C * torch.cholesky_solve(C, tight)).sum(1).clamp(min=1e-300).sqrt()  # (N, M)
    eps = D.clamp(min=1e-300).sqrt()[:, None] / reach
    c, s3 = rel.const[..., None] * rel.active[..., None], sg[..., None]
    W = v[..., None].expand_as(C).clone()
    m = -lam[..., None].expand(-1, -1, C.shape[2]).clone()
    m0 = m.clone()
    s3 = s3.clamp(min=1e-300)
    base = rel.J.mT @ rel.q[..., None]
    tau = (rel.rows(W) + c).clamp(min=0)
    r0 = ((rel.J @ v[..., None])[..., 0] - rel.q).square().sum(1, keepdim=True)
    best = torch.full_like(eps, -torch.inf)
    for k in range(1, ITERATIONS + 1):
        W = torch.cholesky_solve(base - eps[:, None] * C + rel.pull_many(s3 * (tau - c) - m), L)
        AW = rel.rows(W) + c
        mixed = _RELAXED * AW + (1 - _RELAXED) * tau
        tau = (mixed + m / s3).clamp(min=0)
        m = m + s3 * (mixed - tau)
        if k % EVERY == 0:
            r = rel.J @ W - rel.q[..., None]
            best = torch.maximum(best, _true_bound(rel, ball, r, -m, eps, C))
            grown = ((r**2).sum(1) - r0).clamp(min=1e-300)
            ratio = ((ball[:, None] - r0).clamp(min=0) / grown).sqrt().clamp(0.3, 3.0)
            eps = eps * ratio
            W, m = v[..., None] + (W - v[..., None]) * ratio[:, None], m0 + (m - m0) * ratio[:, None]
            tau = (rel.rows(W) + c).clamp(min=0)
    return best


def _true_bound(rel: Relaxation, ball: Tensor, r: Tensor, mu: Tensor, eps: Tensor, C: Tensor) -> Tensor:
    """Lower limits `(N, M)` of C'w from any r `(N, k, M)` and mu `(N, K, M)`: see the module."""
    rho, mu = r / eps[:, None], (mu / eps[:, None]).clamp(min=0) * rel.active[..., None]
    length = (rho**2).sum(1).sqrt()
    pulled = rel.J.mT @ rho
    k = C + pulled
    total = -(rho * rel.q[..., None]).sum(1) - length * ball.sqrt()[:, None]
    rounding = (rho.abs() * rel.q.abs()[..., None]).sum(1) + length * ball.sqrt()[:, None]
    wide = torch.maximum(rel.vl.abs(), rel.vu.abs())
    columns = (rel.J**2).sum(1).sqrt()
    rounding = rounding + ((columns * wide).sum(1, keepdim=True) * length) + (k.abs() * wide[..., None]).sum(1)
    parts = torch.split(mu, rel.sizes(), 1)
    for at in range(len(rel.levels) - 1, -1, -1):
        x = rel.levels[at]
        m0, m1, m2, e1, e2 = parts[2 + 5 * at : 7 + 5 * at]
        U, c = x.at.shape[1], x.start
        gk = k[:, c : c + U]
        s, a, l, h = (y[..., None] for y in (x.s, x.a, x.below, x.above))
        pu = (s * m0 + m1 - a * m2) * x.there[..., None]
        e1, e2 = e1 * x.held[..., None], e2 * x.held[..., None]
        corner = torch.minimum((s * gk - pu) * l, (gk - pu) * h).clamp(max=0) * x.there[..., None]
        pd, dl, dh = (y[..., None] for y in rel.held_limits(at))
        total = total + (corner + pu * x.base[..., None]).sum(1) + (e1 * (dl - pd) - e2 * (dh - pd)).sum(1)
        size = x.base.abs() + torch.maximum(-x.below, x.above)
        rounding = rounding + (corner.abs() + pu.abs() * size[..., None]).sum(1)
        rounding = rounding + ((e1 + e2) * (pd.abs() + torch.maximum(dl.abs(), dh.abs()))).sum(1)
        k = torch.cat([k[:, :c] + x.Pu.mT @ pu - x.Pd.mT @ (e1 - e2), torch.zeros_like(k[:, c:])], 1)
    z = k[:, : rel.n0]
    low, high = rel.nodes.low[..., None], rel.nodes.high[..., None]
    total = total + torch.minimum(z * low, z * high).sum(1)
    rounding = rounding + (z.abs() * torch.maximum(low.abs(), high.abs())).sum(1)
    return torch.nan_to_num(total - 10 * ROUNDING * rounding, nan=-torch.inf)
