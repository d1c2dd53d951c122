"""The search: rounds that shrink a node, branches where they stall, best bounds first; many nodes and signals at once.

A node ends *excluded* (no latent in it is as good as the best one known), or *kept* (none is better by more than the
gap). What is left when time is up carries its bound. Every relaxed point is a candidate: a better latent found lowers the
level for all nodes of its signal.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .bounding import Excess, corrected, least_squares, solve_relaxed
from .contraction import THETAS, contract
from .log import Recorder
from .network import Network
from .nodes import Nodes, Targets, rows_through_box, through_box
from .relaxation import Relaxation, Rows
from .tightening import tighten, tightened

VISITS = 6  # rounds a visit
SHRINKS = 0.6  # of its room: where a round leaves more, other ways are taken
FEW = 40  # undecided units, below which branching is cheaper than tightening
_BYTES = 400_000_000
TRIES = 40  # visits of a signal without misfit, for the sake of its only latent
_SMALL = 1e-5  # f / |y|^2 below which the last layer alone may decide much
FINE = 1e-3  # gaps below keep every latent as good as the best known, so that uniqueness can be proved


def precision_of(size: Tensor) -> Tensor:
    """Squared misfits that are 0 but for rounding, of signals as long as `size`, `(S,)` each."""
    return (1e-13 * size) ** 2


def is_rounding(f: Tensor, size: Tensor) -> Tensor:
    """Whether squared misfits may be nothing but rounding, `(S,)`."""
    return f <= 1e4 * precision_of(size)


def strict_level(f: Tensor, size: Tensor) -> Tensor:
    """Squared misfits of latents that are as good as f but for rounding, `(S,)`."""
    return f * (1 + 1e-9) + precision_of(size)


@dataclass
class Search:
    """What a search holds. f, best `(S,)` and `(S, n0)`: squared misfit (with the prior's part) and latent of the best
    known.

    gap: `(S,)`, of f. limits: of the signal's rows, `(S, k)` each, at levels `(S,)`. fitted: m and c (`relaxation.Rows`)
    for signals `(N,)` and limits `(N, k)`. refine: latents `(N, n0)` of signals `(N,)` to better ones, with their squared
    misfits `(N,)`. log: who is told every
    round and branch. weights: `(S, k)`, by which linf's rows are squared.
    """

    network: Network
    targets: Targets
    gap: Tensor
    f: Tensor
    best: Tensor
    value: Callable[[Tensor, Tensor], Tensor]
    refine: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    open: Nodes
    limits: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    fitted: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    kept: list[Nodes] = field(default_factory=list)
    visited: Tensor = field(init=False)
    rounds: Tensor = field(init=False)
    log: Recorder | None = None
    weights: Tensor | None = None
    count: int = 0
    floor: Tensor = field(init=False)
    tries = TRIES
    cut = 0.5  # where a coordinate is cut
    few = FEW  # undecided units from which limits are tightened by problems of their own

    def __post_init__(self) -> None:
        S = len(self.f)
        self.visited, self.rounds = torch.zeros(S, dtype=torch.long), torch.zeros(S, dtype=torch.long)
        self.floor = torch.full_like(self.f, torch.inf)  # least bound of the nodes that ended
        self.count = len(self.open)

    @property
    def precision(self) -> Tensor:
        """Squared misfits that are 0 but for rounding, `(S,)`."""
        return precision_of(self.targets.size)

    @property
    def exact(self) -> Tensor:
        """Signals whose misfit is 0 but for rounding: nothing is better, only other latents may be as good, `(S,)`."""
        return is_rounding(self.f, self.targets.size)

    @property
    def level(self) -> Tensor:
        """Squared misfit up to which latents are looked for, `(S,)`."""
        strict = strict_level(self.f, self.targets.size)
        fine = (self.gap <= FINE) & (self.limits is None)
        return torch.where(fine, strict, (1 - self.gap) * self.f + self.precision)

    @property
    def enough(self) -> Tensor:
        """The bound that closes a node, `(S,)`; a misfit that is rounding needs none."""
        return torch.where(self.exact, 0.0, (1 - self.gap) * self.f)

    @property
    def bound(self) -> Tensor:
        """No latent has a squared misfit below, `(S,)`: excluded nodes have none up to the level."""
        low = torch.minimum(torch.minimum(self.floor, self.f), self.level)
        return low.scatter_reduce(0, self.open.owner, self.open.bound, "amin") if len(self.open) else low

    def determined(self, nodes: Nodes) -> Tensor:
        """Whether the misfit of nodes with every unit decided has one minimiser: J of full column rank, `(N,)`."""
        found = torch.zeros(len(nodes), dtype=torch.bool, device=nodes.low.device)
        for k in (nodes.undecided == 0).nonzero()[:, 0].tolist():
            J = self.relaxed(nodes.take(slice(k, k + 1))).J[0]
            if J.shape[0] >= J.shape[1] and bool(torch.isfinite(J).all()):
                values = torch.linalg.svdvals(J)
                found[k] = bool(values[-1] > 1e-10 * values[0])
        return found

    def step(self, batch: int, deadline: float = torch.inf) -> None:
        """Visit up to `batch` open nodes, the lowest bounds first, as shares of f."""
        share = self.open.bound / self.f[self.open.owner].clamp(min=1e-300)
        order = torch.sort(share, stable=True).indices
        first, rest = order[:batch], order[batch:]
        chosen, self.open = self.open.take(first), self.open.take(rest)
        chosen = chosen.take(torch.sort(chosen.undecided, stable=True).indices)
        left = [self.open]
        at = 0
        # a visit that began ends: what is left stays open
        sizes = chosen.undecided.tolist()
        while at < len(chosen):
            end = at + 1
            while end < len(chosen) and self.fit_together(sizes[at], sizes[end], end + 1 - at):
                end += 1
            left += self.visit(chosen.take(slice(at, end)))
            at = end
            if time.perf_counter() > deadline:
                left.append(chosen.take(slice(at, None)))
                break
        self.open = Nodes.joined([x for x in left if len(x)] or [left[0]])

    def relaxed(self, nodes: Nodes) -> Relaxation:
        """The relaxation of nodes, with the limits that the level sets the signal's rows."""
        if self.limits is None:
            return Relaxation(self.network, self.targets, nodes)
        sides = zip(self.limits(self.level), rows_through_box(self.network, self.targets, nodes), strict=True)
        (below, low), (above, high) = sides
        lo, hi = torch.maximum(below[nodes.owner], low), torch.minimum(above[nodes.owner], high)
        m, c = (
            (None, None) if self.fitted is None else self.fitted(nodes.owner, torch.minimum(lo, hi), torch.maximum(lo, hi))
        )
        return Relaxation(self.network, self.targets, nodes, Rows(lo, hi, m, c))

    def through(self, nodes: Nodes) -> Nodes:
        """The nodes with what their boxes imply."""
        return through_box(self.network, self.targets, nodes)

    def clipped(self, nodes: Nodes) -> Nodes:
        """The nodes, no row of a sum of absolute values longer than the sum may be."""
        if not self.targets.folded:
            return nodes
        most = self.level[nodes.owner].sqrt()[:, None]
        lo, hi = torch.maximum(nodes.lo[-1], -most), torch.minimum(nodes.hi[-1], most)
        return replace(nodes, lo=(*nodes.lo[:-1], lo), hi=(*nodes.hi[:-1], hi))

    def fit_together(self, least: int, most: int, count: int) -> bool:
        """Whether relaxations of that many nodes, of `least` to `most` undecided units, are held at once."""
        V = most + self.network.latent_dim
        widest = sum(x.shape[1] for x in self.open.lo)
        each = 8 * (12 * V * V + V * (widest + self.targets.R.shape[1]) * 3)
        return most <= 2 * least + 20 and each * count < _BYTES

    def visit(self, nodes: Nodes) -> list[Nodes]:
        """Rounds on some nodes, then their branches; those that end leave."""
        self.visited.index_add_(0, nodes.owner, torch.ones_like(nodes.owner))
        out = list[Nodes]()
        for number in range(VISITS):
            nodes, stalled, points = self.round(nodes)
            if not len(nodes):
                break
            if number == VISITS - 1:
                stalled = torch.ones_like(stalled)
            if stalled.any():
                out += self.branch(nodes.take(stalled), points.take(stalled))
                nodes = nodes.take(~stalled)
            if not len(nodes):
                break
        return out

    def round(self, nodes: Nodes) -> "tuple[Nodes, Tensor, Points]":
        """One contraction of each node; ended ones are gone. Also which stalled, and what to branch on."""
        owner = nodes.owner
        self.rounds.index_add_(0, owner, torch.ones_like(owner))
        nodes, level = self.clipped(nodes), self.level[owner]
        before, rel = nodes.room, self.relaxed(nodes)
        goal = torch.maximum(torch.minimum(1e-5 * self.f, 0.1 * self.gap * self.f), self.precision)[owner]
        small = bool((self.f[owner] < _SMALL * self.targets.size[owner] ** 2).all())
        bare = small and bool((before > 0).all()) and len(nodes) <= 4
        found: Excess | None = None
        thetas: tuple[float, ...] = (1.0,)
        if bare:
            found = least_squares(rel, level)
            shrunk = self.through(contract(rel, found, thetas))
            if bool(((shrunk.undecided < 0.7 * nodes.undecided) | (found.D < 0)).all()):
                points = Points.of(rel, found.v)
            else:
                if self.log is not None:
                    self.log.round(rel, found, thetas)
                nodes, found = shrunk, None
                rel = self.relaxed(nodes)
        if found is None:
            found = solve_relaxed(rel, level, goal)
            if bool((found.D >= 0).any()):
                found = corrected(rel, level, found)
            points = Points.of(rel, found.v)
            thetas = THETAS
            shrunk = contract(rel, found, thetas)
            # few functionals, which the box of all else hangs on; files know contractions only
            if self.log is None and bool((nodes.undecided >= self.few).any()):
                more = tightened(rel, found, level, 0)
                shrunk = replace(shrunk, low=torch.maximum(shrunk.low, more.low), high=torch.minimum(shrunk.high, more.high))
            shrunk = self.through(shrunk)
        bound = torch.fmax(nodes.bound, level - found.D)  # what is no number bounds nothing
        if self.try_points(owner, points.z):
            return nodes, torch.zeros_like(owner, dtype=torch.bool), points  # another level: the round again
        if self.log is not None:
            self.log.round(rel, found, thetas)
        shrunk = replace(shrunk, bound=bound)
        gone = (found.D < 0) | shrunk.empty | rel.contradicted
        little = shrunk.room > SHRINKS * before
        close = bound >= self.enough[owner]
        # where there is no misfit what is left to prove is that the latent is the only one
        alone = self.exact[owner] & (self.visited[owner] < self.tries)
        keep = ~gone & close & ((shrunk.undecided == 0) | (little & ~alone) | (self.gap[owner] > FINE))
        if keep.any():
            part = shrunk.take(keep)
            self.kept.append(part)
            self.floor = self.floor.scatter_reduce(0, part.owner, part.bound, "amin")
        stay = ~gone & ~keep
        nodes, points, little = shrunk.take(stay), points.take(stay), little[stay]
        if len(nodes):
            stuck = little & (nodes.undecided >= self.few)
            if stuck.any() and self.log is None:
                part = tighten(nodes.take(stuck), self.level, self.relaxed, self.through)
                nodes, little = _replaced(nodes, stuck, part, little)
        return nodes, little, points

    def try_points(self, owner: Tensor, z: Tensor) -> bool:
        """Whether one of the latents, refined where it is promising, lowers a signal's misfit by more than rounding."""
        value = self.value(owner, z)
        near = value < 4 * self.f[owner] + self.precision[owner]
        worth = self.visited[owner] <= 3
        use = value < self.f[owner] * (1 - 1e-9) - self.precision[owner]
        tried = (use | (near & worth)).nonzero()[:, 0]
        if not len(tried):
            return False
        whose, z = owner[tried], z[tried]
        z, value = self.refine(whose, z)
        won = False
        for k in torch.argsort(value).tolist():
            s = int(whose[k])
            if value[k] < self.f[s] * (1 - 1e-9) - self.precision[s]:
                won = won or bool(value[k] < self.f[s] * (1 - 1e-6))
                self.f[s], self.best[s] = value[k], z[k]
        return won

    def branch(self, nodes: Nodes, points: "Points") -> list[Nodes]:
        """Two children of each: its worst undecided unit on and off, or its widest coordinate halved."""
        N = len(nodes)
        widths = [x.shape[1] for x in nodes.lo]
        offsets = torch.tensor([0, *torch.tensor(widths).cumsum(0).tolist()])
        lo, hi = torch.cat(nodes.lo, 1), torch.cat(nodes.hi, 1)
        und = (lo < 0) & (hi > 0)
        scores = torch.where(und, points.score, -1.0)
        at = scores.argmax(1)
        unit = und.gather(1, at[:, None])[:, 0]
        wide = (nodes.high - nodes.low).argmax(1)
        middle = ((1 - self.cut) * nodes.low + self.cut * nodes.high).gather(1, wide[:, None])
        children = []
        for side in range(2):
            a, b, low, high = lo.clone(), hi.clone(), nodes.low.clone(), nodes.high.clone()
            rows = torch.arange(N)
            if side == 0:
                a[rows[unit], at[unit]] = 0.0
                low[rows[~unit], wide[~unit]] = middle[~unit, 0]
            else:
                b[rows[unit], at[unit]] = 0.0
                high[rows[~unit], wide[~unit]] = middle[~unit, 0]
            number = torch.arange(N) + self.count
            self.count += N
            pieces = [(int(offsets[k]), int(offsets[k + 1])) for k in range(len(widths))]
            child = replace(
                nodes, lo=tuple(a[:, i:j] for i, j in pieces), hi=tuple(b[:, i:j] for i, j in pieces), low=low, high=high,
                number=number,
            )  # fmt: skip
            children.append(child)
        if self.log is not None:
            self.log.split(nodes, at, wide, middle, unit, children)
        return children


@dataclass(frozen=True, eq=False)
class Points:
    """Latents `(N, n0)` of relaxed points, and what each unit's output exceeds its activation by, in signal units."""

    z: Tensor
    score: Tensor

    @classmethod
    def of(cls, rel: Relaxation, v: Tensor) -> "Points":
        return cls(*rel.scores(v))

    def take(self, index: Tensor) -> "Points":
        return Points(self.z[index], self.score[index])


def _replaced(nodes: Nodes, many: Tensor, part: Nodes, little: Tensor) -> tuple[Nodes, Tensor]:
    before = nodes.room[many]
    order = torch.cat([many.nonzero()[:, 0], (~many).nonzero()[:, 0]])
    whole = Nodes.joined([part, nodes.take(~many)]) if bool((~many).any()) else part
    little = little.clone()
    little[many] = part.room > 0.8 * before
    back = torch.argsort(order)
    return whole.take(back), little
