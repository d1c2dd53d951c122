"""The search of a generator that no matrices are kept of: relaxations where few units are undecided, forms where many are.

A node of at most `MOST_VARIABLES` undecided units is what `search` makes of it, with `WideRelaxation`, one node at a time. A
larger one is looked at by affine forms (`wide`): their ellipsoid shrinks the box, and where that stalls the widest
coordinate is halved, if there are so few of them that halves of halves are soon small (`FEW_LATENTS`); else the node ends
with its bound.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..inversion.task import Task
from ..lengths import lengths
from .bounding import least_squares
from .contraction import contract
from .network import Network, axes_of
from .nodes import Nodes, Targets
from .opening import behind_output, check_misfit, judged, rounding_of, turned_box
from .relaxation import Relaxation, Rows
from .rounding import ROUNDING, seen_sizes, shares
from .search import Points, Search
from .wide import Form, Limits, contracted, forms
from .wide_relaxation import MOST_VARIABLES, Chain, Products, TooManyError, WideRelaxation

FEW_LATENTS = 12
_LEAST = 0.95  # of a box's widest side: where forms leave more, another round of them is not worth it


@dataclass
class WideSearch(Search):
    """A search by products with maps. products: with them; task: what is asked; sides: the box of z, `(n0,)` each."""

    products: Products = field(kw_only=True)
    task: Task = field(kw_only=True)
    sides: tuple[Tensor, Tensor] = field(kw_only=True)
    tries = 400
    cut = 0.45  # not through the latent that a box was put around
    _last: WideRelaxation | None = field(default=None, init=False)  # made of `_asked` at `_level`
    _asked: Nodes | None = field(default=None, init=False)
    _level: float = field(default=0.0, init=False)

    def jacobian_rounding(self, node: Nodes) -> float:
        """As `Search.jacobian_rounding`, by maps; of pictures before a curved output, which slopes of at most 1 follow."""
        k = int(node.owner[0])
        off = self.products.chain.columns_off(self.targets.V[k]).mT
        measurement = self.task.take(torch.tensor([k], device=off.device)).measurement
        share = 1 if measurement.pixelwise else 1 + 2 * shares(off.shape[1])
        return ROUNDING * share * float(seen_sizes(measurement, off.mT[None]).norm())

    def fit_together(self, least: int, most: int, count: int) -> bool:
        """No: maps are of one node at a time."""
        return False

    def relaxed(self, nodes: Nodes) -> Relaxation:
        """The relaxation of one node. Raises `TooManyError`."""
        k = int(nodes.owner[0])
        level = float(self.level[k])
        if self._last is not None and ((nodes is self._asked and level == self._level) or _same(self._last.nodes, nodes)):
            self._last.nodes = replace(nodes, lo=self._last.nodes.lo, hi=self._last.nodes.hi)
            return self._last
        rows = None
        if self.limits is not None:
            rows = Rows(*(side[k : k + 1] for side in self.limits(self.level)))
        task = self.task.take(slice(k, k + 1))
        self._last = WideRelaxation(self.products, task, self.targets, nodes, self.sides, rows, self.fitted)
        self._asked, self._level = nodes, level
        return self._last

    def through(self, nodes: Nodes) -> Nodes:
        """The nodes with what their boxes imply: by the relaxation's bounds, where it fits, by forms where not."""
        return Nodes.joined([self._through_one(nodes.take(slice(k, k + 1))) for k in range(len(nodes))])

    def _through_one(self, node: Nodes) -> Nodes:
        if not all(bool(x.isfinite().all()) for x in (*node.lo, *node.hi)) or self.large(node):
            node = self._with(node, self._forms(node)[1])
        if self.large(node) or bool(node.empty.any()):
            return node
        try:
            return self.relaxed(node).nodes
        except TooManyError:  # by these bounds more than by forms: what forms say stays
            return node

    def large(self, node: Nodes) -> bool:
        """Whether a node has more undecided units than a relaxation takes."""
        return int(node.undecided.max()) > MOST_VARIABLES

    def _forms(self, node: Nodes) -> tuple[Form, Limits]:
        n0, known = node.low.shape[1], [(lo[0], hi[0]) for lo, hi in zip(node.lo, node.hi, strict=True)]
        known[0] = known[0][0][:-n0], known[0][1][:-n0]
        V = self.targets.V[int(node.owner[0])]
        return forms(self.task.generator, V, node.low[0], node.high[0], self.sides, known)  # type: ignore[arg-type]

    def _with(self, node: Nodes, limits: Limits) -> Nodes:
        n0, lo, hi = node.low.shape[1], list(node.lo), list(node.hi)
        for k, (below, above) in enumerate(limits):
            own = slice(0, -n0) if k == 0 else slice(None)
            lo[k], hi[k] = lo[k].clone(), hi[k].clone()
            lo[k][0, own], hi[k][0, own] = torch.maximum(lo[k][0, own], below), torch.minimum(hi[k][0, own], above)
        return replace(node, lo=tuple(lo), hi=tuple(hi))

    def visit(self, chosen: Nodes, left: list[Nodes]) -> None:
        """As `Search.visit`; each node through all of it, as what one round leaves is what the next begins with."""
        for k in range(len(chosen)):
            super().visit(chosen.take(slice(k, k + 1)), left)

    def round(self, nodes: Nodes, bare: bool = False, hopeful: bool = False) -> tuple[Nodes, Tensor, Points]:
        """As `Search.round`; of a large node by forms."""
        if not self.large(nodes):
            try:
                self.relaxed(nodes)
            except TooManyError:
                return self._round_of_forms(nodes)
            count, found = len(self.kept), super().round(nodes, bare, hopeful)
            self.kept[count:] = [self._once_more(part) for part in self.kept[count:]]
            return found
        return self._round_of_forms(nodes)

    def _once_more(self, node: Nodes) -> Nodes:
        """A node that ended, with the box about its only latent where it has one and the misfit is rounding."""
        if not bool(self.exact[node.owner[0]]) or int(node.undecided[0]):
            return node
        rel, level = self.relaxed(node), self.level[node.owner]
        found = least_squares(rel, level)
        return contract(rel, found, (1.0,)) if bool(found.D[0] >= 0) else node

    def _round_of_forms(self, node: Nodes) -> tuple[Nodes, Tensor, Points]:
        owner, k = node.owner, int(node.owner[0])
        self.rounds.index_add_(0, owner, torch.ones_like(owner))
        level, width = float(self.level[k]), float((node.high - node.low).max())
        form, limits = self._forms(node)
        found = contracted(self.task.take(slice(k, k + 1)), self._with(node, limits), form, level)
        none = torch.full((1, sum(x.shape[1] for x in node.lo)), -2.0).to(node.low)  # no unit to branch on
        points = Points(self.best[owner], none)
        if found is None or bool(found.empty.any()):
            return node.take(slice(0, 0)), torch.zeros(0, dtype=torch.bool), points.take(torch.zeros(0, dtype=torch.long))
        found = self.through(found)
        stalled = float((found.high - found.low).max()) > _LEAST * width and self.large(found)
        many = node.low.shape[1] > FEW_LATENTS
        # where there is no misfit what is left to prove is that the latent is the only one
        alone = bool(self.exact[k]) and not (stalled and many) and int(self.visited[k]) < self.tries
        if (bool(found.bound[0] >= self.enough[k]) and not alone) or (stalled and many):
            self.kept.append(found)
            self.floor = self.floor.scatter_reduce(0, owner, found.bound, "amin")
            return node.take(slice(0, 0)), torch.zeros(0, dtype=torch.bool), points.take(torch.zeros(0, dtype=torch.long))
        return found, torch.tensor([stalled]).to(owner.device), points


def _same(a: Nodes, b: Nodes) -> bool:
    pairs = zip((a.owner, a.low, a.high, *a.lo, *a.hi), (b.owner, b.low, b.high, *b.lo, *b.hi), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def opened_wide(task: Task, z: Tensor, sides: tuple[Tensor, Tensor], gap: float, V: Tensor | None = None) -> WideSearch:
    """As `opening.opened`, of a generator whose matrices do not fit. Raises TypeError, ValueError."""
    check_misfit(task)
    chain, (S, n0) = Chain.of(task.generator), z.shape  # type: ignore[arg-type]
    value, refine = judged(task, sides)
    every, measurement, phi = torch.arange(S, device=z.device), task.measurement, task.generator.output
    f = value(every, z)
    if V is None:
        V = axes_of(task.linearize(z)[1])
    # rounding is a share of what is added up in the signal, which an offset may exceed
    offset = torch.zeros(1, task.generator.layers[-1].W.m).to(z) + task.generator.layers[-1].b
    size = torch.maximum(task.size, lengths(task.y - measurement.observe(offset.expand(S, -1))))
    limits, fitted = (None, None) if phi.linear or phi.kinked else behind_output(task)
    none, zero, width = torch.zeros(S, 0, n0).to(z), torch.zeros_like(f), task.y.shape[1]
    targets = Targets(
        torch.zeros(S, width, 0).to(z), task.y, zero, none, none[..., 0], none, V, size, torch.zeros(S, 0).to(z)
    )
    low, high = turned_box(V, sides)
    free = [torch.full((S, width), torch.inf).to(z) for width in chain.widths]
    lo = (torch.cat([-free[0], torch.zeros(S, n0).to(z)], 1), *(-x for x in free[1:]))
    hi = (torch.cat([free[0], (sides[1] - sides[0]).expand(S, -1)], 1), *free[1:])
    nodes = Nodes(every, lo, hi, low, high, zero, every)
    none_ = Network((), (), (), none[0], none[0, :, 0])
    search = WideSearch(
        none_, targets, torch.full_like(f, gap), f.clone(), z.clone(), value, refine, nodes, limits, fitted,
        products=Products(chain), task=task, sides=sides, rounding=rounding_of(task, sides),
    )  # fmt: skip
    search.open = search.through(nodes)
    return search
