"""The relaxation of one node of a generator that no matrices are kept of: products with its maps, limits as it goes.

Layer by layer, u = P v + p of all units comes of the pictures that W makes of P's columns and of the undecided units before;
then their limits, by backward linear bounds of the rows of P alone: with K a row, c its constant, from the last level before

    x_j >= d_j u_j,   d_j = 1 where h > -l, else s      where K_j >= 0 (from below);      x_j <= a_j u_j + (s - a_j) l_j
    else

put K's entries of the level's variables into those of its pre-activations, P_u and p_u, down to the latent, whose box is
known in two ways: turned, low <= c <= high, and as it was asked, sides of z = V c, K'c = (V K)'z. Both hold, the nearer one
counts. Limits are intersected with those of the node. So only units that these bounds leave undecided become variables.

Rounding: rho = |W| rho + 1e-13 (|W| |x| + |b|) goes through the maps with |W| in place of W, x as large as what is added up
in it (`relaxation`), and from there into limits, constraints (`Level.scale`, rho in units of 1e-13) and the misfit (`off`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..generator.chain import Generator
from ..generator.maps import AbstractMap, Dense
from ..inversion.task import Task
from ..lengths import lengths
from .network import Network, cut_slope
from .nodes import Nodes, Targets, over_box
from .relaxation import Level, Relaxation, Rows, size_of
from .rounding import ROUNDING, shares
from .wide import magnitude

MOST_VARIABLES = 1500  # undecided units that a relaxation takes
_UPDATES = 20  # of an image, before it is made anew
Fitted = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class TooManyError(Exception):
    """More undecided units than a relaxation takes."""


@dataclass(frozen=True, eq=False)
class Chain:
    """A generator's maps and biases before each kink, slopes s where cut, and the maps behind the last kink."""

    stages: tuple[tuple[tuple[AbstractMap, Tensor], ...], ...]
    s: tuple[float, ...]
    last: tuple[tuple[AbstractMap, Tensor], ...]

    @classmethod
    def of(cls, generator: Generator) -> "Chain":
        """Raises TypeError for what is no chain of lines with one kink at 0."""
        stages, slopes, maps = [], list[float](), list[tuple[AbstractMap, Tensor]]()
        for index, layer in enumerate(generator.layers):
            maps.append((layer.W, layer.b))
            phi, last = layer.activation, index == len(generator.layers) - 1
            if phi.linear or (last and not phi.kinked):
                continue
            slopes.append(cut_slope(phi, index))
            stages.append(tuple(maps))
            maps = []
        if not stages:  # the latent itself, with a kink that is none
            W = Dense(torch.eye(generator.latent_dim).to(generator.layers[0].b))
            stages, slopes = [((W, torch.zeros_like(W.weight[0])),)], [1.0]
        return cls(tuple(stages), tuple(slopes), tuple(maps))

    @cached_property
    def _magnitudes(self) -> tuple[tuple[tuple[AbstractMap, Tensor], ...], ...]:
        return tuple(tuple((W.magnitude(), b.abs()) for W, b in maps) for maps in (*self.stages, self.last))

    @property
    def widths(self) -> tuple[int, ...]:
        """Units before each kink."""
        return tuple(len(maps[-1][1]) for maps in self.stages)

    def through(self, layer: int, x: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """What the maps before kink `layer` (behind the last one where there is none) make of x `(N, n)`, without biases,
        and of a constant `(n,)`, with them."""
        x = torch.cat([x, constant[None]])
        for W, b in (*self.stages, self.last)[layer]:
            x = W(x)
            x[-1] += b
        return x[:-1], x[-1]

    def rounding(self, layer: int, outputs: Tensor, rho: Tensor) -> Tensor:
        """rho `(N, m)` behind the maps, of outputs of at most `outputs` `(N, n)` with rho `(N, n)`, in `ROUNDING`."""
        for W, b in self._magnitudes[layer]:
            # an image is also a sum of images before it, by `_UPDATES`
            outputs, more = W(outputs) + b, 2 * shares(W.n)
            rho = W(rho) + more * outputs
        return rho

    def columns_off(self, V: Tensor) -> Tensor:
        """What columns of the signal's Jacobian `(d, n0)` may be off by, of latents V c, whatever is on; in `ROUNDING`."""
        sizes = rho = V.mT.abs()
        for layer, maps in enumerate(self._magnitudes):
            rho = self.rounding(layer, sizes, rho)
            for W, _ in maps:
                sizes = W(sizes)
        return rho.mT


@dataclass(frozen=True, eq=False)
class _Image:
    """What was made of P, p `(n, count)`, `(n,)` with slopes of decided units `(n,)` and own variables of the units `at`:
    out, constant; updates: how many times from an image before it."""

    P: Tensor
    slope: Tensor
    at: Tensor
    out: Tensor
    constant: Tensor
    updates: int


@dataclass
class Products:
    """Products with a chain's maps; those of the node before are kept, as the next one is often near by.

    A unit that was undecided and is decided now takes the variable x_j for slope_j (P_j v + p_j): a sum of products of one
    column and one row, and no new product with a map. At most `_UPDATES` times after each other, for the sake of rounding.
    """

    chain: Chain
    owner: int = -1
    kept: dict[int, _Image] = field(default_factory=dict)

    def first(self, owner: int, V: Tensor) -> tuple[Tensor, Tensor]:
        """P and p of the first units, of latents V c of signal `owner`."""
        if owner != self.owner:
            self.owner, self.kept = owner, {}
        if 0 not in self.kept:
            P, p = self.chain.through(0, V.mT, torch.zeros_like(V[0]))
            self.kept[0] = _Image(V, p, p, torch.cat([P.mT, V]), p, 0)
        return self.kept[0].out, self.kept[0].constant

    def behind(self, layer: int, P: Tensor, p: Tensor, slope: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """P and p behind kink `layer` - 1, of units P v + p, `(n, count)` and `(n,)`; at: undecided ones, in order."""
        old = self.kept.get(layer)
        made = None if old is None or old.P is not P else _updated(old, P, p, slope, at)
        if made is None:
            own = torch.zeros(len(at), len(P)).to(P)
            own[torch.arange(len(at)), at] = 1.0
            keep = self.chain.widths[0] if layer == 1 else len(P)  # without the units of the box
            out, constant = self.chain.through(
                layer, torch.cat([(slope[:, None] * P).mT, own])[:, :keep], (slope * p)[:keep]
            )
            made = _Image(P, slope, at, out.mT, constant, 0)
        self.kept[layer] = made
        return made.out, made.constant


def _updated(old: _Image, P: Tensor, p: Tensor, slope: Tensor, at: Tensor) -> _Image | None:
    """The image with units decided that were not, None where more than that has changed."""
    place = torch.full_like(slope, -1, dtype=torch.long)
    place[old.at] = torch.arange(len(old.at), device=at.device)
    same = slope == old.slope
    same[old.at] = True
    if not bool(same.all()) or bool((place[at] < 0).any()):
        return None
    stays = torch.zeros(len(old.at), dtype=torch.bool, device=at.device)
    stays[place[at]] = True
    if bool(stays.all()):
        return old
    if old.updates == _UPDATES:
        return None
    count, gone = P.shape[1], old.at[~stays]
    columns, factor = old.out[:, count:], slope[gone]
    moved = columns[:, ~stays]
    out = torch.cat([old.out[:, :count] + moved @ (factor[:, None] * P[gone]), columns[:, stays]], 1)
    return _Image(P, slope, at, out, old.constant + moved @ (factor * p[gone]), old.updates + 1)


class WideRelaxation(Relaxation):
    """Of one node, N = 1; `nodes` is it with nearer limits. task: of its signal; targets: of all signals. z_low, z_high: the
    sides of the box that was asked, `(n0,)`.

    rows, fitted: for a curved output limits of the signal's rows that the level sets, and their lines. Raises
    `TooManyError`.
    """

    def __init__(
        self, products: Products, task: Task, targets: Targets, node: Nodes, sides: tuple[Tensor, Tensor],
        rows: Rows | None = None, fitted: Fitted | None = None,
    ):  # fmt: skip
        self._products, self._chain, self._sides = products, products.chain, sides
        self._task = task
        self._signal: tuple[Tensor, Tensor, Tensor] | None = None
        n0 = targets.V.shape[2]
        self._tight = list[tuple[Tensor, Tensor]]()
        none = torch.zeros(0, n0).to(node.low)
        super().__init__(Network((), (), (), none, none[:, 0]), targets, node, rows)
        at = self.layers
        self.nodes = replace(node, lo=tuple(lo for lo, _ in self._tight[:at]), hi=tuple(hi for _, hi in self._tight[:at]))
        if rows is not None and fitted is not None:
            (P, p, rho), (lo, hi) = self._rows_of_signal, self._tight[at]
            self.contradicted = ((lo - hi) > 1e-9 * (1 + lo.abs() + hi.abs())).any(1)
            m, c = fitted(node.owner, torch.minimum(lo, hi), torch.maximum(lo, hi))
            self.J, self.q = m[..., None] * P, c - m * p
            self.off = ROUNDING * lengths(m * (rho + size_of(P, p, self.vl, self.vu)) + c.abs())
            self.JJ = self.J.mT @ self.J

    @property
    def _V(self) -> Tensor:
        return self._targets.V[int(self.nodes.owner[0])]

    @property
    def _rows_of_signal(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self._signal is not None
        return self._signal

    def _first(self, network: Network, targets: Targets, nodes: Nodes) -> tuple[Tensor, Tensor, Tensor]:
        V = targets.V[int(nodes.owner[0])]
        P, p = self._products.first(int(nodes.owner[0]), V)
        most = torch.maximum(nodes.low.abs(), nodes.high.abs())[0]
        rho = self._chain.rounding(0, *[(V.abs() @ most)[None]] * 2)[0]
        # the last units are z - low, which lead nowhere: their limits are the box's
        low = self._sides[0]
        p, rho = torch.cat([p, -low]), torch.cat([rho, V.abs() @ most + low.abs()])
        self._units = P, p
        return P[None], p[None], rho[None]

    def _slopes(self, network: Network, targets: Targets, layer: int) -> Tensor:
        return torch.full_like(self.nodes.lo[layer][0], self._chain.s[layer])

    def _reach(
        self, P: Tensor, p: Tensor, scale: Tensor, low: Tensor, high: Tensor, lo: Tensor, hi: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        below, above = _ranges(P[0], p[0], scale[0], low[0], high[0])
        # those that the ranges of the variables decide need no more
        asked = (torch.maximum(lo[0], below) < 0) & (torch.minimum(hi[0], above) > 0)
        asked |= ((lo[0] >= 0) & (below < 0)) | ((hi[0] <= 0) & (above > 0))
        if not self.levels:
            asked[-self.n0 :] = False  # the box itself
        if len(self._tight) == self.layers:
            asked |= True  # the signal's rows
        at = asked.nonzero()[:, 0]
        if len(at):
            found = self._backward(P[0, at], p[0, at], scale[0, at])
            below[at], above[at] = torch.maximum(below[at], found[0]), torch.minimum(above[at], found[1])
        below, above = below[None], above[None]
        lo, hi = torch.maximum(lo, below), torch.minimum(hi, above)
        # limits of units whose phase is implied are no constraints
        decided = (below >= 0) | (above <= 0)
        if len(self._tight) < self.layers:
            below, above = torch.where(decided, lo, below), torch.where(decided, hi, above)
        if len(self._tight) < self.layers:
            count = sum(x.at.shape[1] for x in self.levels) + int(((lo < 0) & (hi > 0)).sum())
            if count > MOST_VARIABLES:
                raise TooManyError
        self._tight.append((lo, hi))
        return lo, hi, below, above

    def _backward(self, P: Tensor, p: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Limits of rows of P v + p, `(K, start)` and `(K,)`, over the node; see the module."""
        found = []
        for sign in (1.0, -1.0):
            K, c, rounding = sign * P, sign * p, scale.clone()
            for x in reversed(self.levels):
                if not x.at.shape[1]:
                    K = K[:, : x.start]
                    continue
                K, c, rounding = put_in(K, c, rounding, x)
            low, _ = self.at_latent(K, c, rounding)
            found.append(sign * low)
        return found[0], found[1]

    def at_latent(self, K: Tensor, c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Limits of K c + constant over both boxes of the latent, wider by `ROUNDING` scale."""
        V, (z_low, z_high) = self._V, self._sides
        turned = over_box(K[None], c[None], self.nodes.low, self.nodes.high)
        plain = over_box((K @ V.mT)[None], c[None], z_low[None], z_high[None])
        # of K V', and of c = V'z
        turned_off = shares(len(V)) * K.abs() @ (V.mT.abs() @ torch.maximum(z_low.abs(), z_high.abs()))
        plain = plain[0] - 4 * ROUNDING * turned_off, plain[1] + 4 * ROUNDING * turned_off
        off = ROUNDING * scale
        return torch.maximum(turned[0], plain[0])[0] - off, torch.minimum(turned[1], plain[1])[0] + off

    def _next(
        self, network: Network, targets: Targets, layer: int, slope: Tensor, P: Tensor, p: Tensor, at: Tensor, there: Tensor,
        outputs: Tensor, carried: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        if layer == self.layers:
            return self._rows_of_signal[0], self._rows_of_signal[1], self._rows_of_signal[2][None]
        P, p, rho = self._behind(layer, slope, at, outputs, carried)
        return P[None], p[None], rho[None]

    def _behind(
        self, layer: int, slope: Tensor, at: Tensor, outputs: Tensor, carried: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        self._units = self._products.behind(layer, *self._units, slope[0], at[0])
        keep = self._chain.widths[layer - 1]  # without the units of the box
        return *self._units, self._chain.rounding(layer, outputs[:, :keep], carried[:, :keep])[0]

    def _misfit(
        self, network: Network, targets: Targets, owner: Tensor, slope: Tensor, P: Tensor, p: Tensor, at: Tensor,
        there: Tensor, outputs: Tensor, carried: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        P, p, rho = self._behind(self.layers, slope, at, outputs, carried)
        measurement, y = self._task.measurement, self._task.y
        # rho is more than what is added up in the signal, of which the measurement's products round a share
        rho = rho if measurement.pixelwise else (1 + 2 * shares(len(p))) * rho
        P, p, rho = measurement.push(P[None])[0], measurement.observe(p[None])[0], magnitude(measurement, rho)
        self._signal = P[None], p[None], rho
        return P[None], p[None], ROUNDING * lengths(rho[None] + 1e-3 * (p.abs() + y.abs()))

    def scores(self, v: Tensor) -> tuple[Tensor, Tensor]:
        z = (self._targets.V[self.nodes.owner] @ v[:, : self.n0, None])[..., 0]
        length, parts = torch.diagonal(self.JJ, dim1=1, dim2=2).clamp(min=0).sqrt(), []
        for x in self.levels[: self.layers]:
            u, own = (x.Pu @ v[:, : x.start, None])[..., 0] + x.base, slice(x.start, x.start + x.at.shape[1])
            over = (v[:, own] - torch.maximum(u, x.s * u)).clamp(min=0) + 1e-9 * torch.minimum(-x.below, x.above)
            parts.append(torch.zeros(1, x.width).to(v).scatter_(1, x.at, over * length[:, own]))
        return z, torch.cat(parts, 1)


def _ranges(P: Tensor, p: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of P v + p over ranges of v, wider by `ROUNDING` scale."""
    below, above = over_box(P[None], p[None], low[None], high[None])
    return below[0] - ROUNDING * scale, above[0] + ROUNDING * scale


def put_in(K: Tensor, c: Tensor, rounding: Tensor, x: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Lower bounds K v + c with the variables of a level put in, in those before; rounding in units of `ROUNDING`."""
    s, a, l, h = x.s[0], x.a[0], x.below[0], x.above[0]
    own, K = K[:, x.start : x.start + x.at.shape[1]], K[:, : x.start]
    d = torch.where(h > -l, 1.0, s)
    up, down = own.clamp(min=0), own.clamp(max=0)
    slope = up * d + down * a
    size = x.scale[0] + x.base[0].abs() + torch.maximum(-l, h)
    return (
        K + slope @ x.Pu[0],
        c + down @ ((s - a) * l) + slope @ x.base[0],
        rounding + own.abs() @ torch.maximum(-l, h) + slope.abs() @ size,
    )
