"""What one signal's proof is about: its network, its misfit, and what the turned latent c, z = V c, makes of both."""

from fractions import Fraction
from math import ldexp
from operator import mul
from typing import Any

from .beside import ZERO, floats, grid, root, shape
from .integers import Ints, Work, dot
from .network import Layer, Quadratic

SLOPES = 60  # binary digits of slopes at least
LARGE = 150  # numbers of a network beyond which J'J is rounded


class Question:
    """Layers `parts` whose units have two slopes, s over 2^ES; `rows`: those of linf, which are limited by eps.

    careful: whether rounds choose their vectors in 60 decimal digits; digits, precise: binary ones of those vectors, and of
    the rows of units that combine them.
    """

    careful, digits, precise = False, 80, 50

    def __init__(
        self, norm: str, parts: list[Layer], seen: Layer, target: Quadratic, one: dict[str, Any], extra: Any, work: Work
    ) -> None:
        self.norm, self.hidden, self.seen, self.target, self.work, self.one = norm, parts, seen, target, work, one
        self.n0, self.level = len(one["z"]), Fraction(one["level"][0])
        self.eps = root(max(self.level, ZERO), up=True)  # what no row's misfit of a better latent exceeds, but in l2
        self.parts = [*parts, seen.less(one["y"]).absolute()] if norm == "l1" else parts
        self.rows = seen.less(one["y"]) if norm == "linf" else None
        self.layers = [*self.parts, *([] if self.rows is None else [self.rows])]
        self.widths = [len(layer.b) for layer in self.layers]
        slopes = [x for part in self.parts for x in part.slopes or ()]
        self.ES = max(SLOPES, grid(slopes)[1] if slopes else 0)
        self.unit = 1 << self.ES
        self.s = [[int(ldexp(x, self.ES)) for x in part.slopes or ()] for part in self.parts]
        self._turn(one["V"])
        self._weigh(extra)
        self.large = self.n0 + sum(len(part.b) for part in self.parts) > LARGE

    def take_care(self) -> None:
        """Choose vectors in more digits from now on."""
        self.careful, self.digits, self.precise = True, 250, 100

    def _turn(self, V: Any) -> None:
        """V over 2^EV, and rows [const, slopes] of the first layer in c, over 2^E0."""
        k, self.EV, _ = grid(V)
        self.V = [k[i * self.n0 : (i + 1) * self.n0] for i in range(self.n0)]
        columns = list(zip(*self.V, strict=True))
        self.E0, rows = self.EV + self.layers[0].E, zip(self.layers[0].W, self.layers[0].b, strict=True)
        self.first = [[b << self.EV, *(dot(w, x) for x in columns)] for w, b in rows]
        self.columns = [list(zip(*(row[1:] for row in self.first), strict=True)), *(x.columns for x in self.layers[1:])]

    def _weigh(self, extra: Any) -> None:
        """Rows |E V c - m|^2 that a prior adds, over 2^EE."""
        self.extra, self.m, self.EE, self.Ez = list[Ints](), Ints(), 0, list[Ints]()
        if extra is None:
            return
        (r,) = shape(extra, "shape rows values")
        k, E, _ = grid(floats(extra, "rows", r * self.n0) + floats(extra, "values", r))
        self.Ez, self.EE = [k[i * self.n0 : (i + 1) * self.n0] for i in range(r)], E + self.EV
        columns = list(zip(*self.V, strict=True))
        self.extra = [[dot(row, x) for x in columns] for row in self.Ez]
        self.m = [x << self.EV for x in k[r * self.n0 :]]

    @property
    def size(self) -> Fraction:
        """|y|^2 of the rows that were seen."""
        y, E, _ = grid(self.one["y"])
        return Fraction(dot(y, y), 1 << 2 * E)

    def misfit(self) -> Fraction:
        """The squared misfit of z, exactly."""
        h: list[Fraction] = [Fraction(x) for x in self.one["z"]]
        rest = ZERO
        for row, m in zip(self.Ez, self.m, strict=True):
            rest += (sum(map(mul, row, h), ZERO) / (1 << self.EE - self.EV) - Fraction(m, 1 << self.EE)) ** 2
        for part in self.hidden:
            slopes = [Fraction(x) for x in part.slopes]
            h = [x if x >= 0 else x * s for x, s in zip(_applied(part, h), slopes, strict=True)]
        r = [x - Fraction(y) for x, y in zip(_applied(self.seen, h), self.one["y"], strict=True)]
        if self.norm == "linf":
            return rest + max(x * x for x in r)
        return rest + (sum(map(abs, r), ZERO) ** 2 if self.norm == "l1" else sum((x * x for x in r), ZERO))


def _applied(layer: Layer, h: list[Fraction]) -> list[Fraction]:
    """W h + b."""
    k, E, _ = grid(h)
    return [Fraction(dot(w, k) + (b << E), 1 << layer.E + E) for w, b in zip(layer.W, layer.b, strict=True)]
