"""The search: rounds that shrink a node, branches where they stall, best bounds first; many nodes and signals at once.

A node ends *excluded* (no latent in it is as good as the best one known), or *kept* (none is better by more than the
gap). What is left when time is up carries its bound. Every relaxed point is a candidate: a better latent found lowers the
level for all nodes of its signal.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .bounding import corrected, least_squares, solve_relaxed
from .contraction import BARE, contract, thetas_of
from .log import Recorder
from .network import Network
from .nodes import Nodes, Targets, rows_through_box, through_box
from .relaxation import Relaxation, Rows
from .rounding import ROUNDING
from .tightening import tighten, tightened

VISITS = 6  # rounds a visit
LOOKS = 3  # bare ones before, of a signal's first node: as long as one decides a tenth of the units
SLOW = 0.2  # of its room: where a round leaves more, the box is worked on
SHRINKS = 0.6  # of its room: where a round leaves more, other ways are taken
FEW = 40  # undecided units, below which branching is cheaper than tightening
_BYTES, _CACHED = 400_000_000, 32_000_000  # of nodes at once: on a card, and where a cache is dear
TRIES = 40  # visits of a signal without misfit, for the sake of its only latent
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
    round and branch. weights: `(S, k)`, by which linf's rows are squared. rounding: how far misfits of latents `(N, n0)` of
    signals `(N,)` may be from the true ones; slip: `(S,)`, that of the best known, signal units.
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
    rounding: Callable[[Tensor, Tensor], Tensor] | None = None
    count: int = 0
    floor: Tensor = field(init=False)
    slip: Tensor = field(init=False)
    tries = TRIES
    cut = 0.5  # where a coordinate is cut
    few = FEW  # undecided units from which limits are tightened by problems of their own
    deadline: float = torch.inf

    def __post_init__(self) -> None:
        S = len(self.f)
        self.visited, self.rounds = torch.zeros(S, dtype=torch.long), torch.zeros(S, dtype=torch.long)
        self.floor = torch.full_like(self.f, torch.inf)  # least bound of the nodes that ended
        self.count = len(self.open)
        self.slip = self.slip_of(torch.arange(S, device=self.f.device), self.best)

    def slip_of(self, owner: Tensor, z: Tensor) -> Tensor:
        """How far the misfits of latents `(N, n0)` of signals `(N,)` may be from the true ones, `(N,)`, signal units."""
        return torch.zeros_like(z[:, 0]) if self.rounding is None else self.rounding(owner, z)

    @property
    def upper(self) -> Tensor:
        """What the true squared misfits of the best known latents are at most, `(S,)`."""
        return (self.f.sqrt() + self.slip).square()

    @property
    def precision(self) -> Tensor:
        """Squared misfits that are 0 but for rounding, `(S,)`."""
        return precision_of(self.targets.size)

    @property
    def exact(self) -> Tensor:
        """Signals whose misfit is 0 but for rounding: nothing is better, only other latents may be as good, `(S,)`."""
        return is_rounding(self.upper, self.targets.size)

    @property
    def level(self) -> Tensor:
        """Squared misfit up to which latents are looked for, `(S,)`."""
        strict = strict_level(self.upper, self.targets.size)
        fine = (self.gap <= FINE) & (self.limits is None)
        return torch.where(fine, strict, (1 - self.gap) * self.upper + self.precision)

    @property
    def enough(self) -> Tensor:
        """The bound that closes a node, `(S,)`; a misfit that is rounding needs none."""
        return torch.where(self.exact, 0.0, (1 - self.gap) * self.upper)

    @property
    def reached(self) -> Tensor:
        """Whether the gap is proved, or the misfit is rounding, `(S,)`."""
        return (self.bound >= (1 - self.gap) * self.upper) | self.exact

    @property
    def bound(self) -> Tensor:
        """No latent has a squared misfit below, `(S,)`: excluded nodes have none up to the level."""
        low = torch.minimum(torch.minimum(self.floor, self.f), self.level)
        return low.scatter_reduce(0, self.open.owner, self.open.bound, "amin") if len(self.open) else low

    def determined(self, nodes: Nodes) -> Tensor:
        """Whether the misfit of nodes with every unit decided has one minimiser: J of full column rank, `(N,)`."""
        found = torch.zeros(len(nodes), dtype=torch.bool, device=nodes.low.device)
        for k in (nodes.undecided == 0).nonzero()[:, 0].tolist():
            node = nodes.take(slice(k, k + 1))
            J = self.relaxed(node).J[0]
            if J.shape[0] >= J.shape[1] and bool(torch.isfinite(J).all()):
                values = torch.linalg.svdvals(J)
                found[k] = bool(values[-1] > 1e-10 * values[0] + self.jacobian_rounding(node))
        return found

    def jacobian_rounding(self, node: Nodes) -> float:
        """How far the Jacobian of one node, with every unit decided, may be off, in length."""
        targets, (M, _) = self.targets, self.network.sizes[0]
        rho = size = M @ targets.V[int(node.owner[0])].abs()
        for layer in range(1, targets.layers(self.network)):
            M = targets.sizes(self.network, layer, node.owner)[0].expand(1, -1, -1)[0]
            size = M @ size
            rho = M @ rho + size
        if targets.columns is None:
            return 0.0
        return ROUNDING * float((targets.columns[node.owner] @ (rho + size)).norm())

    def step(self, batch: int, deadline: float = torch.inf) -> None:
        """Visit up to `batch` open nodes, the lowest bounds first, as shares of f: rounds, then their branches.

        All go through a round before any goes through the next one, those of a size together. What is not looked at before
        `deadline` (by `time.perf_counter`) stays open as it is.
        """
        share = self.open.bound / self.f[self.open.owner].clamp(min=1e-300)
        order = torch.sort(share, stable=True).indices
        first, rest = order[:batch], order[batch:]
        chosen, self.open = self.open.take(first), self.open.take(rest)
        self.visited.index_add_(0, chosen.owner, torch.ones_like(chosen.owner))
        self.deadline, left = deadline, [self.open]
        self.visit(chosen, left)
        self.open = Nodes.joined([x for x in left if len(x)] or [left[0]])

    def visit(self, chosen: Nodes, left: list[Nodes]) -> None:
        """Rounds on some nodes, then their branches, and what was not looked at, to `left`; those that end leave."""
        fresh = chosen.number < len(self.f)
        live, ready = chosen.take(fresh), [chosen.take(~fresh)]
        for _ in range(LOOKS):
            again = list[Nodes]()
            for part in self.parts(live, left):
                count = int(part.undecided.max())
                nodes, _, _ = self.round(part, bare=True)
                (again if len(nodes) and int(nodes.undecided.max()) < 0.9 * count else ready).append(nodes)
            live = Nodes.joined([chosen.take(slice(0)), *again])
        live = Nodes.joined([*ready, live])
        for number in range(VISITS):
            again = []
            for part in self.parts(live, left):
                # where nothing is better, either kind shows what the other does not
                if bool(self.exact[part.owner].all()):
                    part, _, _ = self.round(part, bare=True)
                if not len(part):
                    continue
                nodes, stalled, points = self.round(part, hopeful=number == 0)
                if number == VISITS - 1:
                    stalled = torch.ones_like(stalled)
                if stalled.any():
                    left += self.branch(nodes.take(stalled), points.take(stalled))
                again.append(nodes.take(~stalled))
            live = Nodes.joined([chosen.take(slice(0)), *again])

    def parts(self, nodes: Nodes, left: list[Nodes]) -> Iterator[Nodes]:
        """The nodes in parts that fit into memory, of about as many undecided units; past the deadline the others go to
        `left`."""
        sizes, order = torch.sort(nodes.undecided, stable=True)
        nodes, at = nodes.take(order), 0
        while at < len(nodes):
            if time.perf_counter() > self.deadline:
                left.append(nodes.take(slice(at, None)))
                return
            end = at + 1
            while end < len(nodes) and self.fit_together(int(sizes[at]), int(sizes[end]), end + 1 - at):
                end += 1
            yield nodes.take(slice(at, end))
            at = end

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
        return most <= 2 * least + 20 and each * count < (_BYTES if self.f.is_cuda else _CACHED)

    def round(self, nodes: Nodes, bare: bool = False, hopeful: bool = False) -> "tuple[Nodes, Tensor, Points]":
        """One contraction of each node; ended ones are gone. Also which stalled, and what to branch on.

        bare: without multipliers, at a tenth of the price; that decides much while little is known but the box. hopeful:
        points that are nearly as good as the best are refined too.
        """
        owner = nodes.owner
        self.rounds.index_add_(0, owner, torch.ones_like(owner))
        nodes, level = self.clipped(nodes), self.level[owner]
        before, rel = nodes.room, self.relaxed(nodes)
        if bare:
            found, thetas = least_squares(rel, level), BARE
        else:
            goal = torch.maximum(torch.minimum(1e-5 * self.f, 0.1 * self.gap * self.f), self.precision)[owner]
            found, thetas = solve_relaxed(rel, level, goal), thetas_of(rel)
            if bool((found.D >= 0).any()):
                found = corrected(rel, level, found)
        points = Points.of(rel, found.v)
        shrunk = contract(rel, found, thetas)
        # few functionals, which the box of all else hangs on; files know contractions only
        slow = (nodes.undecided >= self.few) & (shrunk.room > SLOW * before)
        if not bare and self.log is None and bool(slow.any()):
            more = tightened(rel, found, level, 0.0, self.deadline)
            shrunk = replace(shrunk, low=torch.maximum(shrunk.low, more.low), high=torch.minimum(shrunk.high, more.high))
        shrunk = self.through(shrunk)
        bound = torch.fmax(nodes.bound, level - found.D)  # what is no number bounds nothing
        if self.try_points(owner, points.z, hopeful):
            return nodes, torch.zeros_like(owner, dtype=torch.bool), points  # another level: the round again
        if self.log is not None:
            self.log.round(rel, found, thetas)
        shrunk = replace(shrunk, bound=bound)
        gone = (found.D < 0) | shrunk.empty | rel.contradicted
        little = shrunk.room > SHRINKS * before
        close = bound >= self.enough[owner]
        # where there is no misfit what is left to prove is that the latent is the only one
        alone = self.exact[owner] & (self.visited[owner] < self.tries)
        keep = ~gone & close & ((shrunk.undecided == 0) | (little & ~alone & (not bare)) | (self.gap[owner] > FINE))
        # what rounding leaves open is open in every part of it, too
        lost = rel.ball(level) - (level - rel.e) > level - self.enough[owner]
        keep |= ~gone & ~close & lost & little & (shrunk.undecided == 0) & (not bare)
        if keep.any():
            part = shrunk.take(keep)
            self.kept.append(part)
            self.floor = self.floor.scatter_reduce(0, part.owner, part.bound, "amin")
        stay = ~gone & ~keep
        nodes, points, little = shrunk.take(stay), points.take(stay), little[stay]
        if len(nodes):
            stuck = little & (nodes.undecided >= self.few)
            if stuck.any() and self.log is None and not bare:
                part = tighten(nodes.take(stuck), self.level, self.relaxed, self.through, self.deadline)
                nodes, little = _replaced(nodes, stuck, part, little)
        return nodes, little, points

    def try_points(self, owner: Tensor, z: Tensor, hopeful: bool) -> bool:
        """Whether one of the latents, refined where it is promising, lowers a signal's misfit by more than rounding.

        hopeful: those that are nearly as good are refined too, in the first visits.
        """
        value = self.value(owner, z)
        near = value < 4 * self.f[owner] + self.precision[owner]
        worth = (self.visited[owner] <= 3) & hopeful
        use = value < self.f[owner] * (1 - 1e-9) - self.precision[owner]
        tried = (use | (near & worth)).nonzero()[:, 0]
        if not len(tried):
            return False
        whose, z = owner[tried], z[tried]
        z, value = self.refine(whose, z)
        won = False
        for k in torch.argsort(value).tolist():
            s = int(whose[k])
            slip = self.slip_of(whose[k : k + 1], z[k : k + 1])[0]
            falls = (value[k].sqrt() + slip).square() <= self.upper[s]  # what was excluded was so at the level before
            if value[k] < self.f[s] * (1 - 1e-9) - self.precision[s] and falls:
                won = won or bool(value[k] < self.f[s] * (1 - 1e-6))
                self.f[s], self.best[s], self.slip[s] = value[k], z[k], slip
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
