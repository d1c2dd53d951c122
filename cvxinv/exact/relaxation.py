"""The convex relaxation of a batch of nodes: affine maps in v = (latent c, outputs of undecided units), constraints t(v)
>= 0.

With s the slope where cut, l <= u <= h the limits of an undecided unit, a = (h - s l) / (h - l):

    undecided     x - s u >= 0,   x - u >= 0,   a (u - l) + s l - x >= 0         maxima (1 - s) h, -(1 - s) l, -(a - s) l
    decided       u - l >= 0,     h - u >= 0    where the box alone does not imply both
    latent        c - low >= 0,   high - c >= 0

Decided units are substituted (x = u or s u), so that layer l's pre-activations are P_l v + p_l with P_l zero behind the
columns of layer l - 1, and the misfit is |J v - q|^2 + e. Every better latent of the node gives such a v.

P, p, J and q are products that are rounded: of the true pre-activations P v + p is off by rho at most, of the true misfit's
root |J v - q| by `off`, with v as large as it may be in the node and sizes propagated as absolute values, in `ROUNDING`

    rho_1 = |W_1| |V| |c| + |b_1|,    rho_{l+1} = |W_{l+1}| y + |b_{l+1}|,    y = s (|P_l| |v| + |p_l| + rho_l) or |x|

and |r(v)|^2 + e <= level for the true r gives |J v - q|^2 <= (level^(1/2) + off)^2 - e, the `ball`.
"""

from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..lengths import lengths
from .network import Network
from .nodes import Nodes, Targets, first_size
from .rounding import ROUNDING, shares

_DENSE = 40_000  # entries of A: up to so many it is a matrix, and few calls cost less than few products


@dataclass(frozen=True, eq=False)
class Level:
    """One hidden layer of N relaxations: `start` variables before its own, `width` units, u = P v + p.

    at, fixed: its undecided units `(N, U)`, and the decided ones in constraints `(N, D)`; there, held: which are no padding.
    Pu, Pd: their rows of P, `(N, U, start)` and `(N, D, start)`; base: p of the undecided. a, s: their chords' slopes and
    slopes where cut; below, above: their limits. scale, scale_held: rho of the module, what u is off by in `ROUNDING`.
    """

    start: int
    width: int
    at: Tensor
    there: Tensor
    Pu: Tensor
    a: Tensor
    s: Tensor
    below: Tensor
    above: Tensor
    base: Tensor
    fixed: Tensor
    held: Tensor
    Pd: Tensor
    scale: Tensor
    scale_held: Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Limits lo <= u <= hi of the signal's rows `(N, k)`; with m and c the misfit is at least |m u - c|^2 between them."""

    lo: Tensor
    hi: Tensor
    m: Tensor | None = None
    c: Tensor | None = None


class Relaxation:
    """Maps and constraints of N nodes, padded to the most undecided units of each layer.

    V variables, K constraints. J `(N, k, V)`, q `(N, k)`, e `(N,)`; vl, vu: ranges of the variables `(N, V)`; active: which
    constraints are none of the padding `(N, K)`; most: their maxima over the node `(N, K)`; const `(N, K)`: t(0). off:
    `(N,)`, signal units, see the module.
    """

    def __init__(self, network: Network, targets: Targets, nodes: Nodes, rows: "Rows | None" = None):
        self.nodes, n0 = nodes, nodes.low.shape[1]
        owner = nodes.owner
        self.n0, self.levels, self._A = n0, list[Level](), None
        self._limits, self._targets = list[tuple[Tensor, Tensor, Tensor]](), targets
        vl, vu = [nodes.low], [nodes.high]
        const, active, most = [-nodes.low, nodes.high], [], [nodes.high - nodes.low] * 2
        active += [torch.ones_like(nodes.low, dtype=torch.bool)] * 2
        pad = [torch.zeros_like(nodes.low, dtype=torch.bool)]
        P, p, scale = self._first(network, targets, nodes)
        layers = self.layers = len(nodes.lo)
        for layer in range(layers + (rows is not None)):
            plain = layer == layers  # limits of the signal's rows, which no activation follows
            lo, hi = (rows.lo, rows.hi) if plain and rows is not None else (nodes.lo[layer], nodes.hi[layer])
            s = torch.zeros_like(lo[0]) if plain else self._slopes(network, targets, layer)
            v_low, v_high = torch.cat(vl, 1), torch.cat(vu, 1)
            size = size_of(P, p, v_low, v_high)
            lo, hi, reach_low, reach_high = self._reach(P, p, scale, v_low, v_high, lo, hi)
            und = (lo < 0) & (hi > 0) & (not plain)
            at, there = _positions(und)
            l, h = lo.gather(1, at), hi.gather(1, at)
            l = torch.where(there, l, -1.0)
            h = torch.where(there, h, 1.0)
            su = s[at]
            a = (h - su * l) / (h - l)
            Pu = _rows(P, at) * there[..., None]
            pu = torch.where(there, p.gather(1, at), 0.0)
            # decided units that what stands before does not keep within their limits
            slip = 1e-9 * (1 + reach_low.abs() + reach_high.abs()) + ROUNDING * (scale + size)
            loose = ~und & ((reach_low < lo - slip) | (reach_high > hi + slip)) & (lo <= hi)
            fixed, held = _positions(loose)
            Pd, pd = _rows(P, fixed) * held[..., None], torch.where(held, p.gather(1, fixed), 0.0)
            # what the ranges of the variables imply is no limit to be kept, and may be nearer
            near = torch.maximum(lo, reach_low - slip), torch.minimum(hi, reach_high + slip)
            dl, dh = (torch.where(held, x.gather(1, fixed), w) for x, w in zip(near, (-1.0, 1.0), strict=True))
            level = Level(
                v_low.shape[1], P.shape[1], at, there, Pu, a, su, l, h, pu, fixed, held, Pd, scale.gather(1, at),
                scale.gather(1, fixed),
            )  # fmt: skip
            self._limits.append((pd, dl, dh))
            self.levels.append(level)
            const += [-su * pu, -pu, a * (pu - l) + su * l, pd - dl, dh - pd]
            active += [there, there, there, held, held]
            most += [(1 - su) * h, -(1 - su) * l, -(a - su) * l, dh - dl, dh - dl]
            zero = torch.zeros_like(l)
            vl.append(torch.where(there, (su * l).clamp(max=0), zero))
            vu.append(torch.where(there, torch.maximum(su * l, h), zero))
            pad.append(~there)
            if plain:
                break
            slope = torch.where(und, 0.0, torch.where(lo >= 0, 1.0, s))  # of decided units
            at_end = layer + 1 == layers
            # of what is added up behind: decided units' rows of P, and their rounding; the undecided are variables
            outputs = torch.where(und, torch.maximum((s * lo).abs(), hi.abs()), slope.abs() * size)
            carried = slope.abs() * scale
            if at_end:
                J, q, self.off = self._misfit(network, targets, owner, slope, P, p, at, there, outputs, carried)
            if not at_end or rows is not None:
                P, p, scale = self._next(network, targets, layer + 1, slope, P, p, at, there, outputs, carried)
        if rows is not None and rows.m is not None and rows.c is not None:
            J, q = rows.m[..., None] * P, rows.m * p
            wanted, self.e = rows.c, torch.zeros_like(targets.e[owner])
            self.off = ROUNDING * lengths(rows.m * (scale + size) + rows.c.abs())
        else:
            wanted, self.e = targets.t[owner], targets.e[owner]
        # rows whose limits leave nothing between them: no better latent is in the node
        apart = None if rows is None else rows.lo - rows.hi > 1e-9 * (1 + rows.lo.abs() + rows.hi.abs())
        self.contradicted = torch.zeros_like(owner, dtype=torch.bool) if apart is None else apart.any(1)
        V = J.shape[2]
        self.off = self.off + ROUNDING * self._prior_size(targets, owner)
        prior = torch.nn.functional.pad(targets.Z[owner], (0, V - n0))
        self.J, self.q = torch.cat([J, prior], 1), torch.cat([wanted - q, targets.m[owner]], 1)
        self.vl, self.vu, self.pad = torch.cat(vl, 1), torch.cat(vu, 1), torch.cat(pad, 1)
        self.const, self.active = torch.cat(const, 1), torch.cat(active, 1)
        self.most = torch.cat(most, 1).clamp(min=0)
        self.const = torch.where(self.active, self.const, 1.0)
        self.JJ = self.J.mT @ self.J
        self.full = [bool(x.there.all()) for x in self.levels]
        self.leaky = [bool((x.s != 0).any()) for x in self.levels]
        self.V = V
        self.small = self.const.shape[1] * V <= _DENSE
        self._A = self.rows(torch.eye(V).to(self.J).expand(len(self.J), V, V)) if self.small else None

    # products with the layers, which a generator that no matrices are kept of makes otherwise (`wide_relaxation`)

    def ball(self, level: Tensor) -> Tensor:
        """What |J v - q|^2 is at most for latents of squared misfits up to `level` `(N,)`, rounding counted."""
        return level - self.e + (2 * self.off * level.clamp(min=0).sqrt() + self.off**2)

    def _prior_size(self, targets: Targets, owner: Tensor) -> Tensor:
        """What is added up in the rows of a prior, `(N,)`, as a length."""
        if not targets.Z.shape[1]:
            return torch.zeros_like(targets.e[owner])
        most = torch.maximum(self.nodes.low.abs(), self.nodes.high.abs())
        # Z = S V: no entry adds up more than the length of S's row, which is that of Z's
        rows = targets.Z[owner].norm(dim=2) * most.sum(1, keepdim=True)
        return shares(most.shape[1]) * lengths(rows + targets.m[owner].abs())

    def _first(self, network: Network, targets: Targets, nodes: Nodes) -> tuple[Tensor, Tensor, Tensor]:
        """P `(N, n_1, n0)` and p of the first layer, and rho of the module."""
        P, p = targets.first[nodes.owner], network.b[0].expand(len(nodes), -1)
        return P, p, first_size(network, targets, nodes)

    def _slopes(self, network: Network, targets: Targets, layer: int) -> Tensor:
        return network.s[0] if not layer else targets.layer(network, layer, self.nodes.owner)[2]

    def _reach(
        self, P: Tensor, p: Tensor, scale: Tensor, low: Tensor, high: Tensor, lo: Tensor, hi: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Limits of u = P v + p `(N, n)`; and those that the ranges low, high of v, or more of what stands before, imply."""
        return lo, hi, *_reach(P, p, low, high)

    def _next(
        self, network: Network, targets: Targets, layer: int, slope: Tensor, P: Tensor, p: Tensor, at: Tensor, there: Tensor,
        outputs: Tensor, carried: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """P, p and rho of the layer behind units of which at most `outputs` is added up, off by `carried`, `(N, n)`; behind
        the last layer of the signal's rows."""
        owner = self.nodes.owner
        if layer == self.layers:
            assert targets.A is not None and targets.a is not None
            W, b = targets.A[owner], targets.a[owner]
        else:
            W, b, _ = targets.layer(network, layer, owner)
        M, c = targets.sizes(network, layer, owner)
        P, p = _through(W, slope, P, p, at, there)
        return P, p + b, (M @ (outputs + carried)[..., None])[..., 0] + c

    def _misfit(
        self, network: Network, targets: Targets, owner: Tensor, slope: Tensor, P: Tensor, p: Tensor, at: Tensor,
        there: Tensor, outputs: Tensor, carried: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """J and q with |J v + q - t|^2 + e the misfit, but for what |J v + q - t| is off by, `(N,)`."""
        assert targets.columns is not None and targets.rest is not None
        size = (targets.columns[owner] * (outputs + carried)).sum(1) + targets.rest[owner]
        return *_through(targets.R[owner], slope, P, p, at, there), ROUNDING * size

    def factors(self, owner: int) -> tuple[Tensor | None, Tensor | None]:
        """Q and what is left of a signal, with which r becomes the residual of its rows (`Targets`)."""
        Q, left = self._targets.Q, self._targets.left
        return None if Q is None else Q[owner], None if left is None else left[owner]

    def held_limits(self, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """p, and the limits, of a level's decided units in constraints, `(N, D)` each."""
        return self._limits[level]

    def scores(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Latents z `(N, n0)` of v; and of every unit what its output exceeds its activation by, times the length of what
        it adds to the last hidden layer's misfit, `(N, sum n_l)`, signal units; 0 where decided."""
        owner = self.nodes.owner
        z, reaching = (self._targets.V[owner] @ v[:, : self.n0, None])[..., 0], self._targets.reaching[owner]
        total = torch.zeros_like(reaching)
        at = 0
        for x in self.levels[: self.layers]:
            u = (x.Pu @ v[:, : x.start, None])[..., 0] + x.base
            over = (v[:, x.start : x.start + x.at.shape[1]] - torch.maximum(u, x.s * u)).clamp(min=0)
            # beside that, a little for units that may go either way
            tie = 1e-9 * torch.minimum(-x.below, x.above)
            score = (over + tie) * reaching[:, at : at + x.width].gather(1, x.at) * x.there
            total[:, at : at + x.width].scatter_reduce_(1, x.at, score, "amax")
            at += x.width
        return z, total

    @cached_property
    def sizes(self) -> list[int]:
        """Constraints of each kind, as they follow each other."""
        sizes = [self.n0, self.n0]
        for x in self.levels:
            U, D = x.at.shape[1], x.fixed.shape[1]
            sizes += [U, U, U, D, D]
        return sizes

    @cached_property
    def share(self) -> float:
        """Of absolute values: what a product with J or A and one with its transpose after it round at most."""
        return ROUNDING * shares(max(self.V, self.J.shape[1], self.const.shape[1]))

    @cached_property
    def J_sizes(self) -> Tensor:
        """|J| entry by entry, `(N, k, V)`, of which the rounding of what J makes is a share."""
        return self.J.abs()

    @cached_property
    def row_squares(self) -> Tensor:
        """The diagonal of A'A, `(N, V)`: squared lengths of A's columns, 0 in the padding."""
        total = torch.zeros_like(self.vl)
        total[:, : self.n0] = 2
        for x in self.levels:
            total[:, : x.start] += ((x.s**2 + 1 + x.a**2)[:, None] @ x.Pu**2)[:, 0] + 2 * (x.Pd**2).sum(1)
            total[:, x.start : x.start + x.at.shape[1]] += 3.0 * x.there
        return total

    def slack(self, v: Tensor) -> Tensor:
        """t(v) `(N, K)`; 1 in the padding."""
        return self.rows(v[..., None])[..., 0] + self.const

    def slack_sizes(self, v: Tensor) -> Tensor:
        """What is added up in t(v), `(N, K)`, of which its rounding is a share; v `(N, V)`."""
        low, high, c = self.nodes.low.abs(), self.nodes.high.abs(), v[:, : self.n0].abs()
        parts = [c + low, c + high]
        for k, x in enumerate(self.levels):
            before, U = v[:, : x.start, None].abs(), x.at.shape[1]
            u = (x.Pu.abs() @ before)[..., 0] + x.scale + x.base.abs()
            o = v[:, x.start : x.start + U].abs() + torch.maximum(-x.below, x.above)
            d = (x.Pd.abs() @ before)[..., 0] + x.scale_held
            _, least, most = self.held_limits(k)
            parts += [o + u, o + u, o + u, d + least.abs(), d + most.abs()]
        return torch.cat(parts, 1) * self.active

    def rows(self, Y: Tensor) -> Tensor:
        """A Y `(N, K, F)` of Y `(N, V, F)`; 0 in the padding."""
        if self._A is not None:
            return self._A @ Y
        out = torch.empty(Y.shape[0], self.active.shape[1], Y.shape[2], dtype=Y.dtype, device=Y.device)
        parts = torch.split(out, self.sizes, 1)
        c = Y[:, : self.n0]
        parts[0].copy_(c)
        torch.neg(c, out=parts[1])
        for k, x in enumerate(self.levels):
            l0, l1, l2, d0, d1 = parts[2 + 5 * k : 7 + 5 * k]
            u, o = x.Pu @ Y[:, : x.start], Y[:, x.start : x.start + x.at.shape[1]]
            o = o if self.full[k] else o * x.there[..., None]
            l0.copy_(o)
            if self.leaky[k]:
                l0.addcmul_(x.s[..., None], u, value=-1)
            torch.sub(o, u, out=l1)
            torch.mul(x.a[..., None], u, out=l2).sub_(o)
            if d0.shape[1]:
                d0.copy_(x.Pd @ Y[:, : x.start])
                torch.neg(d0, out=d1)
        return out

    def pull(self, lam: Tensor) -> Tensor:
        """A'lam `(N, V)`; lam `(N, K)`."""
        return self.pull_many(lam[..., None])[..., 0]

    def pull_size(self, lam: Tensor) -> Tensor:
        """|A|'lam `(N, V)`, of which the rounding of `pull` is a share; lam `(N, K)`, >= 0."""
        if self._A is not None:
            return (self._A.abs().mT @ lam[..., None])[..., 0]
        parts = torch.split(lam * self.active, self.sizes, 1)
        out = torch.zeros_like(self.vl)
        out[:, : self.n0] = parts[0] + parts[1]
        for k, x in enumerate(self.levels):
            l0, l1, l2, d0, d1 = parts[2 + 5 * k : 7 + 5 * k]
            out[:, : x.start] += (x.Pu.abs().mT @ (x.s.abs() * l0 + l1 + x.a.abs() * l2)[..., None])[..., 0]
            out[:, : x.start] += (x.Pd.abs().mT @ (d0 + d1)[..., None])[..., 0]
            out[:, x.start : x.start + x.at.shape[1]] += l0 + l1 + l2
        return out

    def pull_many(self, Z: Tensor, masked: bool = True) -> Tensor:
        """A'Z `(N, V, M)` of Z `(N, K, M)`; masked: leave out what Z says in the padding, where it may be no 0."""
        if self._A is not None:
            return self._A.mT @ Z
        parts = torch.split(Z * self.active[..., None] if masked else Z, self.sizes, 1)
        out = torch.zeros(len(Z), self.V, Z.shape[2], dtype=Z.dtype, device=Z.device)
        torch.sub(parts[0], parts[1], out=out[:, : self.n0])
        for k, x in enumerate(self.levels):
            l0, l1, l2, d0, d1 = parts[2 + 5 * k : 7 + 5 * k]
            U = x.at.shape[1]
            u = (x.a[..., None] * l2).sub_(l1)
            u = u.addcmul_(x.s[..., None], l0, value=-1) if self.leaky[k] else u
            out[:, : x.start] += x.Pu.mT @ u
            if d0.shape[1]:
                out[:, : x.start] += x.Pd.mT @ (d0 - d1)
            torch.add(l0, l1, out=out[:, x.start : x.start + U]).sub_(l2)
        return out

    def gram(self, w: Tensor) -> Tensor:
        """J'J + A'diag(w)A `(N, V, V)`, 1 on the diagonal of the padding."""
        if self._A is not None:
            H = self.JJ + self._A.mT @ (w[..., None] * self._A)
            torch.diagonal(H, dim1=1, dim2=2).add_(self.pad.to(H))
            return H
        parts = torch.split(w * self.active, self.sizes, 1)
        H = self.JJ.clone()
        diagonal = torch.diagonal(H, dim1=1, dim2=2)
        diagonal += self.pad.to(H)
        diagonal[:, : self.n0] += parts[0] + parts[1]
        for k, x in enumerate(self.levels):
            w0, w1, w2, d0, d1 = parts[2 + 5 * k : 7 + 5 * k]
            U, c = x.at.shape[1], x.start
            both, cross, own = x.s**2 * w0 + w1 + x.a**2 * w2, -x.s * w0 - w1 - x.a * w2, w0 + w1 + w2
            H[:, :c, :c] += x.Pu.mT @ (x.Pu * both[..., None])
            H[:, :c, :c] += x.Pd.mT @ (x.Pd * (d0 + d1)[..., None])
            mixed = x.Pu.mT * cross[:, None]
            H[:, :c, c : c + U] += mixed
            H[:, c : c + U, :c] += mixed.mT
            diagonal[:, c : c + U] += own
        return H

    def rounded(self) -> "Relaxation":
        """One whose `rows` and `pull_many` are of float32 numbers: for iterations, of which any result serves."""
        other = copy(self)
        parts = [{f.name: getattr(x, f.name) for f in fields(x)} for x in self.levels]
        other.levels = [Level(**{name: _single(value) for name, value in part.items()}) for part in parts]
        other._A = None if self._A is None else self._A.float()
        return other

    def lifted(self, c: Tensor) -> Tensor:
        """v `(N, V)` of latents c `(N, n0)` of the turned box, run through the true network."""
        v = torch.zeros(len(c), self.V, dtype=c.dtype, device=c.device)
        v[:, : self.n0] = c
        for x in self.levels:
            u = (x.Pu @ v[:, : x.start, None])[..., 0] + x.base
            v[:, x.start : x.start + x.at.shape[1]] = torch.maximum(u, x.s * u) * x.there
        return v


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _positions(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of True in every row, padded to the most; and which are no padding."""
    most = int(mask.sum(1).max()) if len(mask) else 0
    order = torch.sort((~mask).to(torch.int8), dim=1, stable=True).indices[:, :most]
    return order, mask.gather(1, order)


def _rows(P: Tensor, at: Tensor) -> Tensor:
    return torch.gather(P, 1, at[..., None].expand(-1, -1, P.shape[2]))


def _through(W: Tensor, slope: Tensor, P: Tensor, p: Tensor, at: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and constant of W x, x the outputs of a layer P v + p with slopes of decided units and own variables."""
    columns = _rows(W.mT.expand(len(P), -1, -1), at) * there[..., None]  # (N, U, m)
    scaled = W * slope[:, None]
    return torch.cat([scaled @ P, columns.mT], 2), (scaled @ p[..., None])[..., 0]


def size_of(P: Tensor, p: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """|P| |v| + |p| `(N, n)`, v as large as its range allows."""
    return (P.abs() @ torch.maximum(low.abs(), high.abs())[..., None])[..., 0] + p.abs()


def _reach(P: Tensor, p: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    middle, radius = ((low + high) / 2)[..., None], ((high - low) / 2)[..., None]
    value, reach = (P @ middle)[..., 0] + p, (P.abs() @ radius)[..., 0]
    return value - reach, value + reach
