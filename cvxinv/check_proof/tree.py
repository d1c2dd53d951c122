"""A signal's tree of nodes, and what its claims come to."""

from decimal import localcontext
from fractions import Fraction
from math import ldexp
from typing import Any

from .beside import PRIME, Verdict, entries, floats, need, say
from .boxes import Boxes
from .integers import Ints, dot
from .limits import Round
from .node import Node
from .told import Told

_SURE = Fraction(1, 10**9)  # of a squared misfit: what a gap may be wider by
_MORE = 5  # times the work, that a walk with care takes
_ROUNDING = Fraction(1, 10**22)  # of |y|^2


class Tree(Boxes):
    """A signal's question with a tree that answers it."""

    def verdicts(self, i: int, status: str, unique: bool, box: Any, tree: list[Any]) -> list[Verdict]:
        """What is found of the claims on signal i."""
        f, gap = (Fraction(self.one[key][0]) for key in ("f", "gap"))
        found, z, fault = self.misfit(), self.one["z"], ""
        if not all(box[j] <= z[j] <= box[self.n0 + j] for j in range(self.n0)):
            fault = "z is outside the box"
        elif found > f:
            fault = f"z has a squared misfit of {say(found)}, {say(f)} is claimed"
        elif not 0 < gap < 1:
            fault = f"a gap is between 0 and 1, {say(gap)} is claimed"
        if fault:
            return [Verdict(i, word, False, fault) for word in [status] + ["unique"] * unique]
        left = self.work.left
        verdicts = self.walked(i, status, unique, box, tree, found)
        if all(verdict.accepted for verdict in verdicts) or self.large or self.work.left < _MORE * (left - self.work.left):
            return verdicts
        # floating point may have chosen vectors that prove less than others
        self.take_care()
        with localcontext(prec=60):
            return self.walked(i, status, unique, box, tree, found)

    def walked(self, i: int, status: str, unique: bool, box: Any, tree: list[Any], found: Fraction) -> list[Verdict]:
        """What the tree says of the claims on signal i, whose latent has the squared misfit `found`."""
        bound, gap = (Fraction(self.one[key][0]) for key in ("bound", "gap"))
        how = "rounded outward at 2^-100" if self.large else "in exact arithmetic"
        ends = self.ends(tree, box, bound)
        proved = min([self.level, *(node.bound for node, _ in ends)])
        words = f"no squared misfit below {say(proved)} ({say(bound)} claimed, {say(found)} of z), {len(tree)} nodes, {how}"
        close = found <= self.size * _ROUNDING or bound >= (1 - gap) * (1 - _SURE) * found
        verdict = proved >= bound and (close or status != "proved_optimal")
        verdicts = [Verdict(i, status, verdict, words if close or status == "bounded" else f"the gap is wider: {words}")]
        if unique:
            verdicts.append(Verdict(i, "unique", *self.unique(ends, found)))
        return verdicts

    def unique(self, ends: list[tuple[Node, Round | None]], found: Fraction) -> tuple[bool, str]:
        """Whether all z with a squared misfit of at most that of z lie on one piece, on which J has full column rank."""
        if self.norm == "linf":
            return False, "of a largest misfit that is not decided here"
        if found > self.level:
            return False, f"the tree speaks of squared misfits up to {say(self.level)}, z has {say(found)}"
        left = []
        for node, last in ends:
            if node.bound > found:
                continue
            if last is not None:
                self.contract(node, last)
            if not node.empty:
                left.append(node)
        if len(left) != 1 or left[0].undecided:
            return False, f"{len(left)} nodes left, {sum(node.undecided for node in left)} units undecided in them"
        rank = self.rank(left[0])
        return rank == self.n0, f"one affine piece, on which J has rank {rank} modulo 2^61 - 1 of {self.n0} columns"

    def rank(self, node: Node) -> int:
        """The rank of J modulo a prime, which is never above its rank; every unit is decided."""
        rel = Round(self, node, Told.nothing(self.n0, self.widths))
        X = [[x % PRIME for x in column] for column in rel.outputs()[1:]]
        pivots = list[tuple[int, Ints]]()
        rows = ([dot(w, x) % PRIME for x in X] for w in self.target.R)
        for v in [*([x % PRIME for x in row] for row in self.extra), *rows]:
            for c, pivot in pivots:
                v = [(x - v[c] * y) % PRIME for x, y in zip(v, pivot, strict=True)] if v[c] else v
            c = next((c for c, x in enumerate(v) if x), -1)
            if c >= 0:
                pivots.append((c, [x * pow(v[c], -1, PRIME) % PRIME for x in v]))
            if len(pivots) == self.n0:
                break
        return len(pivots)

    # --- the tree -------------------------------------------------------------------------------

    def ends(self, tree: list[Any], box: Any, least: Fraction) -> list[tuple[Node, Round | None]]:
        """The leaves that are not excluded, each with the round that its limits still lack where its bound is at least
        `least`."""
        need(len(tree) > 0 and all(type(x) is dict and set(x) == {"rounds", "split"} for x in tree), "nodes with two keys")
        waiting, left = {0: self.root(box)}, list[tuple[Node, Round | None]]()
        for number, entry in enumerate(tree):
            need(number in waiting, "a tree, parents first")
            node, last = waiting.pop(number), None
            rounds = entries(entry, "rounds", len(entry["rounds"]), lambda x: type(x) is dict)
            for k, told in enumerate(rounds):
                if node.empty:
                    break
                last = self.round(node, told)
                if last.D < 0 or last.contradicted:
                    node.close()
                elif k + 1 < len(rounds) or entry["split"] is not None:
                    self.contract(node, last)
                    last = None
            if entry["split"] is not None:
                for child, side in zip(*self.sides(node, entry["split"]), strict=True):
                    need(type(child) is int and number < child < len(tree) and child not in waiting, "children behind")
                    waiting[child] = side
                continue
            if last is not None and node.bound < least and not node.empty:  # limits may contradict each other
                self.contract(node, last)
                last = None
            if not node.empty:
                left.append((node, last))
        need(not waiting, "every child among the nodes")
        return left

    def round(self, node: Node, told: dict[str, Any]) -> Round:
        """A node's relaxation with the multipliers of a round, which tell what its misfits are at least."""
        rel = Round(self, node, Told.read(told, self.n0, self.widths, len(self.target.R) + len(self.extra)))
        node.bound = max(node.bound, self.level - rel.D)
        return rel

    def contract(self, node: Node, rel: Round) -> None:
        """Put the limits that a round proves, and what its box implies, into the node."""
        for theta in rel.theta:
            rel.contract(node, theta)
        if not node.empty:
            self.propagate(node)

    def sides(self, node: Node, split: Any) -> tuple[list[Any], list[Node]]:
        """The numbers of the children, and their limits: a unit on and off, or a coordinate above and below."""
        need(type(split) is dict and set(split) in ({"unit", "children"}, {"half", "at", "children"}), "a split")
        children, (above, below) = entries(split, "children", 2, lambda x: type(x) is int), (node, node.copy())
        if "unit" in split:
            layer, j = entries(split, "unit", 2, lambda x: type(x) is int and x >= 0)
            over, under = above.u[layer][0], below.u[layer][1]
            over[j], under[j] = max(over[j], 0), min(under[j], 0)
        else:
            k, x = split["half"], floats(split, "at", 1)[0]
            need(type(k) is int and 0 <= k < self.n0, "a coordinate")
            at = int(ldexp(x, self.Ec)) if abs(x) < 1e30 else 0  # any number splits
            above.c[0][k], below.c[1][k] = max(above.c[0][k], at), min(below.c[1][k], at)
        return children, [above, below]
