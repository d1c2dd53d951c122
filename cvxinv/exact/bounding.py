"""Bounds that hold for every better latent of a node, from any v and any lam >= 0; and the v and lam that make them tight.

    (P)   minimise 1/2 |J v - q|^2   over t(v) = A v + c >= 0            (D)   lam >= 0, J'(J v - q) = A'lam

A latent of the node with squared misfit at most `level` has some w with t(w) >= 0 and |r(w)|^2 + e <= level, r(w) = J w - q
(J and q are rounded: `Relaxation.ball` stands for level - e). Expanding |r(w)|^2 about v and adding 2 lam't(w) = 2 lam't(v)
+ 2 lam'A (w - v), for any v and lam >= 0

    |J (w - v)|^2 + 2 lam't(w) <= D := level - e - |r(v)|^2 + 2 lam't(v) + 2 sum_j max over the range of -g_j (w_j - v_j)

with g = J'r(v) - A'lam. Both terms on the left are >= 0: D < 0 leaves nothing, and level - D bounds the squared misfit from
below. Else 0 <= t_i(w) <= room_i := min(most_i, D / (2 lam_i)), and for a functional F'w, with weights om_i = theta
lam_i^2 / D, H = J'J + A'diag(om)A + rho, Y = H^-1 F, alpha = |J Y|, Z = om A Y, d = w - v,

    F'w = F'v - Z't(v) + (J Y)'(J d) + Z't(w) + (F - J'J Y - A'Z)'d
       <= F'v - Z't(v) + min over k > 0 of [k D + alpha^2 / (4 k) + sum_i (Z_i - 2 k lam_i)_+ room_i] + sum_j |F - J'J Y -
       A'Z|_j reach_j

as alpha |J d| <= alpha^2 / (4 k) + k |J d|^2 and Z_i t_i <= (Z_i - 2 k lam_i)_+ room_i + 2 k lam_i t_i. reach_j is how
far w_j can be from v_j, which may lie outside its range.

Rounding is added to D and to every bound. What is computed of r(v) is p = r(v) + o, |o| <= off, and with p in its place D
takes 2 o'r(w) + |o|^2 <= 2 off |r(w)| + off^2 more, as r(w) = p + J (w - v) - o. Of g = J'p - A'lam as computed it takes 2
sum_j share (|J|'|p| + |A|'lam)_j reach_j more: not of A'lam, in which multipliers of rows that cancel do so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, per_signal
from .relaxation import Relaxation

_TINY = 1e-300
_ITERATIONS = 40
_CACHE = 500_000  # bytes


@dataclass(frozen=True, eq=False)
class Excess(Batch):
    """v `(N, V)`, lam `(N, K)` and what follows: D `(N,)`, t(v), r(v), and how far every w_j can be from v_j."""

    v: Tensor = per_signal()
    lam: Tensor = per_signal()
    D: Tensor = per_signal()
    t: Tensor = per_signal()
    r: Tensor = per_signal()
    reach: Tensor = per_signal()
    sizes: Tensor = per_signal()


def excess(rel: Relaxation, level: Tensor, v: Tensor, lam: Tensor) -> Excess:
    """D of `(N, V)` v and `(N, K)` lam, clipped at 0; level `(N,)`, squared signal units."""
    lam = torch.where(rel.active, lam.clamp(min=0), 0.0)
    r, t = (rel.J @ v[..., None])[..., 0] - rel.q, rel.slack(v)
    g = (rel.J.mT @ r[..., None])[..., 0] - rel.pull(lam)
    end = torch.where(g > 0, rel.vl, rel.vu)
    slope = (-g * (end - v)).sum(1)
    work = 2 * (lam * t).sum(1)
    ball = rel.ball(level)
    D = ball - (r**2).sum(1) + work + 2 * slope
    # of r's own entries, which 2 r'J (w - v) holds too, |J (w - v)| <= |r(w)| + |r(v)|; then of the sums
    share = rel.share
    length = (r**2).sum(1).sqrt() + ball.clamp(min=0).sqrt()
    off = share * ((rel.J_sizes @ v.abs()[..., None])[..., 0] + rel.q.abs()).square().sum(1).sqrt()
    reach = torch.maximum((rel.vu - v).abs(), (v - rel.vl).abs())
    g_off = share * (((rel.J_sizes.mT @ r.abs()[..., None])[..., 0] + rel.pull_size(lam)) * reach).sum(1)
    sizes = rel.slack_sizes(v)
    t_off = share * (lam * (sizes + rel.most)).sum(1)
    D = D + 2 * length * off + off**2 + 2 * g_off + 2 * t_off + 1e-15 * (level.abs() + rel.e.abs() + work.abs())
    return Excess(v, lam, D, t, r, reach, sizes)


def solve_relaxed(rel: Relaxation, level: Tensor, gap: Tensor) -> Excess:
    """(P) by a primal-dual interior point method, until the gap is below `gap` `(N,)` or D < 0; the best excess met.

    Mehrotra's predictor and corrector, infeasible start; every node by itself.
    """
    v = _start(rel)
    N = len(v)
    t = rel.slack(v)
    # intervals as thin as rounding are reached from afar: slacks that start there leave no room to move in
    usual = (rel.most * rel.active).sum(1, keepdim=True) / rel.active.sum(1, keepdim=True).clamp(min=1)
    tau = torch.maximum(t, torch.maximum(0.03 * rel.most, 0.03 * usual).clamp(min=1e-10))
    r = (rel.J @ v[..., None])[..., 0] - rel.q
    count = rel.active.sum(1).clamp(min=1)
    mu = ((r**2).sum(1) / count * 0.1).clamp(min=_TINY)
    lam = torch.where(rel.active, mu[:, None] / tau, 0.0)
    tau = torch.where(rel.active, tau, 1.0)
    best, v_best, lam_best = torch.full_like(level, torch.inf), v, lam
    fine = 1e-13 * (rel.q**2).sum(1)  # where rounding may be as large
    done = torch.zeros(N, dtype=torch.bool, device=v.device)
    for k in range(_ITERATIONS + 1):
        r, t = (rel.J @ v[..., None])[..., 0] - rel.q, rel.slack(v)
        rd = (rel.J.mT @ r[..., None])[..., 0] - rel.pull(lam)
        work = (lam * tau).sum(1)
        # D but for rounding
        slope = (-rd * (torch.where(rd > 0, rel.vl, rel.vu) - v)).sum(1)
        D = rel.ball(level) - (r**2).sum(1) + 2 * (lam * t).sum(1) + 2 * slope
        unclear = fine > D
        if bool((unclear & ~done).any()):
            D = torch.where(unclear, excess(rel, level, v, lam).D, D)
        better = (D < best)[:, None]
        best, v_best, lam_best = torch.fmin(D, best), torch.where(better, v, v_best), torch.where(better, lam, lam_best)
        done = done | (best < 0) | (work < gap)
        if k == _ITERATIONS or bool(done.all()):
            break
        rp = torch.where(rel.active, t - tau, 0.0)
        mu = work / count
        w = lam / tau
        L = factor(rel.gram(w), rel)
        # predictor
        dv = _solved(L, -rd + rel.pull(-lam - w * rp))
        dtau = torch.where(rel.active, rel.rows(dv[..., None])[..., 0] + rp, 0.0)
        dlam = torch.where(rel.active, -lam - w * dtau, 0.0)
        ap, ad = _step(tau, dtau), _step(lam, dlam)
        ahead = ((tau + ap[:, None] * dtau) * (lam + ad[:, None] * dlam)).sum(1) / count
        sigma = (ahead / mu.clamp(min=_TINY)).clamp(0, 1) ** 3
        centre = (sigma * mu)[:, None] - dtau * dlam
        dv = _solved(L, -rd + rel.pull(centre / tau - lam - w * rp))
        dtau = torch.where(rel.active, rel.rows(dv[..., None])[..., 0] + rp, 0.0)
        dlam = torch.where(rel.active, centre / tau - lam - w * dtau, 0.0)
        ap, ad = 0.995 * _step(tau, dtau), 0.995 * _step(lam, dlam)
        move = ~done
        good = torch.isfinite(dv).all(1) & torch.isfinite(dlam).all(1)
        done = done | ~good
        ap, ad = (torch.where(move & good, x.clamp(max=1.0), 0.0)[:, None] for x in (ap, ad))
        v, tau, lam = (torch.where(x != 0, y + x * d, y) for x, y, d in ((ap, v, dv), (ap, tau, dtau), (ad, lam, dlam)))
    return excess(rel, level, v_best, lam_best)


def least_squares(rel: Relaxation, level: Tensor) -> Excess:
    """The excess of lam = 0 and the v that minimises |J v - q|: a small misfit decides much of what the last layer shows.

    Exactness note, section 2.1, whose balls and left inverses are this excess and its functionals.
    """
    v = (rel.vl + rel.vu) / 2
    L, J = factor(rel.JJ + torch.diag_embed(rel.pad.to(rel.q)), rel), rel.J
    for _ in range(3):
        r = (J @ v[..., None])[..., 0] - rel.q
        moved = v - _solved(L, (J.mT @ r[..., None])[..., 0])
        v = torch.where(moved.isfinite().all(1, keepdim=True), moved, v)  # no factors where J = 0
    return excess(rel, level, v, torch.zeros_like(rel.const))


def corrected(rel: Relaxation, level: Tensor, found: Excess) -> Excess:
    """The excess with v moved twice so that J'r - A'lam all but vanishes; the better of the two."""
    for _ in range(2):
        g = (rel.J.mT @ found.r[..., None])[..., 0] - rel.pull(found.lam)
        om = 4 * found.lam**2 / found.D.clamp(min=_TINY)[:, None]
        v = found.v - _solved(factor(rel.gram(om), rel), g)
        moved = excess(rel, level, v, found.lam)
        better = moved.D < found.D
        found.put(better, moved.take(better))
    return found


def _start(rel: Relaxation) -> Tensor:
    """The middle of the box, units halfway between the activation and its chord."""
    v = torch.zeros(len(rel.q), rel.V, dtype=rel.q.dtype, device=rel.q.device)
    v[:, : rel.n0] = (rel.nodes.low + rel.nodes.high) / 2
    for x in rel.levels:
        u = (x.Pu @ v[:, : x.start, None])[..., 0] + x.base
        u = torch.minimum(torch.maximum(u, x.below), x.above)
        top = x.a * (u - x.below) + x.s * x.below
        v[:, x.start : x.start + x.at.shape[1]] = (torch.maximum(u, x.s * u) + top) / 2 * x.there
    return v


def _step(x: Tensor, d: Tensor) -> Tensor:
    """The longest step in [0, 1 / 0.995] that keeps x + step d >= 0."""
    ratio = torch.where(d < 0, -x / d.clamp(max=-_TINY), torch.inf)
    return ratio.amin(1).clamp(max=1 / 0.995)


def factor(H: Tensor, rel: Relaxation) -> Tensor:
    """Cholesky factors, damped a little; more where that fails."""
    diagonal = torch.diagonal(H, dim1=1, dim2=2)
    size = diagonal.mean(1, keepdim=True)
    diagonal += 1e-13 * size + 1e-14 * diagonal
    L, info = torch.linalg.cholesky_ex(H)
    more = 1e-11
    while bool((info > 0).any()) and more < 1e-2:
        bad = info > 0
        fixed = H[bad]
        torch.diagonal(fixed, dim1=1, dim2=2).add_(more * torch.diagonal(fixed, dim1=1, dim2=2) + more * size[bad])
        part, its = torch.linalg.cholesky_ex(fixed)
        L[bad], info[bad] = part, its
        more *= 100
    return L


def times(v: Tensor, M: Tensor) -> Tensor:
    """v'M `(N, F)` of v `(N, V)` and M `(N, V, F)`."""
    return (v[:, None] @ M)[:, 0]


def _solved(L: Tensor, b: Tensor) -> Tensor:
    return torch.cholesky_solve(b[..., None], L)[..., 0]


def weighed(rel: Relaxation, found: Excess, theta: float) -> tuple[Tensor, Tensor]:
    """om `(N, K)` and factors of H for a theta: see the module."""
    om = theta * found.lam**2 / found.D.clamp(min=_TINY)[:, None]
    return om, factor(rel.gram(om), rel)


def bound_functionals(
    rel: Relaxation, found: Excess, F: Tensor, weights: tuple[Tensor, Tensor], combined: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """Lower and upper limits `(N, M)` of F'w for all better w; F `(N, V, B)`. D must be >= 0.

    combined: C `(N, U, c)`, whose functionals C F[:, :, :c]' follow, M = B + sum of U. Theirs are the same combinations of J
    Y and Z, so that their rest and rounding are at most those of F's, as |C| adds them up.
    """
    D, (om, L) = found.D.clamp(min=_TINY), weights
    Y = torch.cholesky_solve(F, L)
    G, bare = rel.J @ Y, not bool(found.lam.any())
    Z = Y.new_zeros(Y.shape[0], 0, Y.shape[2]) if bare else om[..., None] * rel.rows(Y)  # (N, K, B)
    rest = F - rel.J.mT @ G
    rest = rest if bare else rest - rel.pull_many(Z)
    alpha2 = (G**2).sum(1)
    t, sizes = (found.t[:, :0], rel.most[:, :0]) if bare else (found.t, found.sizes + rel.most)
    middle, off = times(found.v, F) - times(t, Z), times(found.reach, rest.abs())
    lengths = (torch.diagonal(rel.JJ, dim1=1, dim2=2) + rel.row_squares).sqrt()  # of J's and A's columns
    off = off + rel.share * (
        times(found.v.abs() + found.reach, F.abs())
        + times(sizes, Z.abs())
        + (lengths * found.reach).sum(1, keepdim=True) * (alpha2.sqrt() + (Z**2).sum(1).sqrt())
    )
    size = off + 0.0
    for C in combined:
        its = slice(0, C.shape[2])
        alpha2 = torch.cat([alpha2, ((G[:, :, its] @ C.mT) ** 2).sum(1)], 1)
        middle = torch.cat([middle, (C @ middle[:, its, None])[..., 0]], 1)
        off = torch.cat([off, 2 * (C.abs() @ size[:, its, None])[..., 0]], 1)
    alpha = alpha2.sqrt()
    if bare:  # the least over k of k D + alpha^2 / (4 k)
        down = up = alpha * D.sqrt()[:, None]
    else:
        Z = torch.cat([Z, *(Z[:, :, : C.shape[2]] @ C.mT for C in combined)], 2)
        room = torch.minimum(rel.most, D[:, None] / (2 * found.lam).clamp(min=_TINY)) * rel.active
        down, up = _brackets(Z, alpha, alpha2, D, found.lam, room)
    # brackets are sums of what is not negative, but for Z - 2 k lam, which `off` holds
    more = 1 + 4 * rel.share
    return middle - more * down - off, middle + more * up + off


def _brackets(Z: Tensor, alpha: Tensor, alpha2: Tensor, D: Tensor, lam: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """The least of the bracket over five k, for -F and for F, `(N, M)` each, without rounding and residuals.

    No k is below alpha / (2 D^(1/2)): rows with |Z_i| below 2 k lam_i there add nothing, and are left out.
    """
    low = (alpha / (2 * D.sqrt())[:, None]).clamp(min=_TINY)
    (N, K, M), down, up = Z.shape, torch.empty_like(alpha), torch.empty_like(alpha)
    # in pieces that stay in a processor's cache
    most = N * K * M if Z.is_cuda else _CACHE // 8
    width = min(M, max(16, most // max(1, K)))
    nodes = max(1, most // max(1, K * width))
    for n in range(0, N, nodes):
        its = slice(n, n + nodes)
        for m in range(0, M, width):
            part = its, slice(m, m + width)
            Z_, lam_, room_ = Z[its, :, m : m + width], lam[its, :, None], room[its, None]
            if not Z.is_cuda:
                counts = (Z_.abs() > 2 * low[part][:, None] * lam_).any(2).any(0).nonzero()[:, 0]
                Z_, lam_, room_ = Z_[:, counts], lam_[:, counts], room_[:, :, counts]
            down[part], up[part] = _least(Z_, low[part], alpha2[part], D[its, None], lam_, room_)
    return down, up


def _least(Z: Tensor, low: Tensor, alpha2: Tensor, D: Tensor, lam: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    free = (Z.abs() / (2 * lam).clamp(min=_TINY)).amax(1) if Z.shape[1] else low
    high = torch.maximum(free, low)
    found = [torch.full_like(low, torch.inf) for _ in range(2)]
    for k in range(5):
        kappa = low * (high / low) ** (k / 4)
        base, limit = kappa * D + alpha2 / (4 * kappa), 2 * kappa[:, None] * lam
        for side, signed in enumerate((-Z - limit, Z - limit)):
            found[side] = torch.minimum(found[side], base + (room @ signed.clamp_(min=0))[:, 0])
    return found[0], found[1]
