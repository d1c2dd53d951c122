"""What the box of c implies for every unit, layer by layer, in integers rounded outward.

A functional of a layer's outputs is led back to the box: of an undecided unit d u <= x for any d in [s, 1] where its
coefficient is positive, and x <= a u + (s - a) l where it is negative; decided ones are as they are.
"""

from fractions import Fraction
from typing import Any

from .beside import ZERO, grid, need
from .integers import Ints, dot, down, fine, up
from .node import Node
from .question import Question

Lines = list[tuple[Ints, Ints, Ints]]  # per layer: slopes below and above, heights above


class Boxes(Question):
    """Limits over boxes of c: integers over 2^Ec, of a layer's u over 2^Eu[layer]; of linf's rows over the last Eu."""

    def root(self, box: Any) -> Node:
        """All of the box, turned: c = V'z - (V'V - 1) c."""
        n0 = self.n0
        k, E, _ = grid(box)
        mid, rad = ([f(k[j], k[n0 + j]) for j in range(n0)] for f in (lambda a, b: a + b, lambda a, b: b - a))  # 2^(E+1)
        columns, at, one = list(zip(*self.V, strict=True)), E + 1 + self.EV, 1 << 2 * self.EV
        middle, reach = [dot(x, mid) for x in columns], [dot(map(abs, x), rad) for x in columns]
        off = [sum(abs(dot(x, y) - (one if i == j else 0)) for j, y in enumerate(columns)) for i, x in enumerate(columns)]
        need(2 * max(off) < one, "a V whose columns are nearly orthogonal")
        most = max(abs(m) + r for m, r in zip(middle, reach, strict=True))
        slack = [-(-2 * x * most // one) for x in off]
        self.Ec = fine(Fraction(most, 1 << at))
        low = [down(m - r - x, at, self.Ec) for m, r, x in zip(middle, reach, slack, strict=True)]
        high = [up(m + r + x, at, self.Ec) for m, r, x in zip(middle, reach, slack, strict=True)]
        node, self.Eu = Node((low, high), [], ZERO), list[int]()
        for layer, part in enumerate(self.parts):
            lo, hi = self._scaled(*self.implied(node, layer))
            if layer == 0:
                for j, (w, b) in enumerate(zip(part.W, part.b, strict=True)):
                    m, r = dot(w, mid) + (b << E + 1), dot(map(abs, w), rad)
                    lo[j] = max(lo[j], down(m - r, part.E + E + 1, self.Eu[-1]))
                    hi[j] = min(hi[j], up(m + r, part.E + E + 1, self.Eu[-1]))
            if layer == len(self.hidden):  # residuals of l1, whose sum is limited
                lo, hi = self._within(lo, hi, self.Eu[-1])
            node.u.append((lo, hi))
        if self.rows is not None:
            self._scaled(*self.implied(node, len(self.parts)))
        return node

    def _scaled(self, low: Ints, high: Ints, E: int) -> tuple[Ints, Ints]:
        """A layer's limits, over its own power of two from now on."""
        to = fine(Fraction(max(map(abs, [*low, *high])), 1 << E))
        self.Eu.append(to)
        return [down(x, E, to) for x in low], [up(x, E, to) for x in high]

    def _within(self, lo: Ints, hi: Ints, E: int) -> tuple[Ints, Ints]:
        """Limits of residuals, and +-eps."""
        most = -((-self.eps.numerator << E) // self.eps.denominator) if E >= 0 else -(-self.eps // (1 << -E))
        return [max(x, -most) for x in lo], [min(x, most) for x in hi]

    def row_limits(self, node: Node) -> tuple[Ints, Ints]:
        """Limits of the rows of linf, over the last Eu."""
        low, high, E = self.implied(node, len(self.parts))
        to = self.Eu[-1]
        return self._within([down(x, E, to) for x in low], [up(x, E, to) for x in high], to)

    def propagate(self, node: Node) -> None:
        """Add what the box implies to the node, layer by layer."""
        for layer, (lo, hi) in enumerate(node.u):
            low, high, E = self.implied(node, layer)
            to = self.Eu[layer]
            lo[:] = [max(x, down(y, E, to)) for x, y in zip(lo, low, strict=True)]
            hi[:] = [min(x, up(y, E, to)) for x, y in zip(hi, high, strict=True)]

    def chord(self, l: int, h: int, s: int) -> int:
        """The slope of the line above a unit with limits l < 0 < h, rounded up."""
        return -(-(h * self.unit - s * l) // (h - l))

    def implied(self, node: Node, layer: int) -> tuple[Ints, Ints, int]:
        """Limits of a layer's units over the box of c, given those of the layers before, and their E."""
        lines = [self._lines(node, below) for below in range(layer)]
        which = range(len(self.layers[layer].b))
        low = [self._least(node, layer, j, 1, lines) for j in which]
        high = [-self._least(node, layer, j, -1, lines) for j in which]
        E = self.Ec + 1 + sum(self.layers[k].E for k in range(layer + 1)) + self.EV + layer * self.ES
        return low, high, E

    def _lines(self, node: Node, layer: int) -> tuple[Ints, Ints, Ints]:
        """Slopes of lines below and above a layer's units, and the heights of the latter over 2^(ES + Eu)."""
        lower, upper, height = Ints(), Ints(), Ints()
        for l, h, s in zip(*node.u[layer], self.s[layer], strict=True):
            free = l < 0 < h
            a = self.chord(l, h, s) if free else self.unit if l >= 0 else s
            lower.append((self.unit if h > -l else s) if free else a)
            upper.append(a)
            height.append((s - a) * l if free else 0)
        return lower, upper, height

    def _least(self, node: Node, layer: int, j: int, sign: int, lines: Lines) -> int:
        """What sign u_j is at least over the box, over 2^E of `implied`."""
        lo, hi = node.c
        if layer == 0:
            row = [sign * x for x in self.first[j]]
        else:
            part = self.layers[layer]
            k, const, E = [sign * x for x in part.W[j]], sign * part.b[j], part.E
            for below in range(layer - 1, -1, -1):
                lower, upper, height = lines[below]
                lift = E + self.ES + self.Eu[below]
                const = (const << self.ES + self.Eu[below]) + sum(x * y for x, y in zip(k, height, strict=True) if x < 0)
                k = [x * (d if x > 0 else a) for x, d, a in zip(k, lower, upper, strict=True)]
                part, E = self.layers[below], E + self.ES
                const = down(const, lift, E + part.E) + dot(k, part.b)
                E += part.E
                k = [dot(k, x) for x in self.columns[below]]
            row = [const << self.EV, *k]
        middle = sum(x * (a + b) for x, a, b in zip(row[1:], lo, hi, strict=True))
        reach = sum(abs(x) * (b - a) for x, a, b in zip(row[1:], lo, hi, strict=True))
        return (row[0] << self.Ec + 1) + middle - reach
