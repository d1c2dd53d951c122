"""The layers of a file, and what a signal asks of the last ones, in integers over powers of two.

With W, b the last layer and A what was measured, the residual r = A (W x + b) - y of the rows that were seen is one more
layer of rows. What the squared misfit is, and what of it the rounds use, R x - t with |R x - t|^2 at most it where the
rows are within +-eps, eps the root of the level:

    l2      |r|^2                           R x - t = r
    linf    max r_i^2                       R x - t = m r for any m with |m| <= 1, as the file holds; |r_i| <= eps
    l1      (sum |r_i|)^2                   |r| is a layer of units with slope -1 where cut, R their sum; |r_i| <= eps
"""

from typing import Any

from .beside import floats, grid, need, shape
from .integers import Ints, Work, dot, times

NORMS = ("l2", "linf", "l1")


class Layer:
    """W x + b in integers over 2^E, and the slopes where a unit is cut, None where none is."""

    def __init__(self, W: list[Ints], b: Ints, E: int, slopes: Any = None) -> None:
        self.W, self.b, self.E, self.slopes, self.n = W, b, E, slopes, len(W[0])
        self.columns = list(zip(*W, strict=True))

    @classmethod
    def read(cls, entry: dict[str, Any], work: Work) -> "Layer":
        """One of a file."""
        m, n = shape(entry, "shape slope W b")
        numbers = floats(entry, "W", m * n) + floats(entry, "b", m)
        slopes = None if entry["slope"] is None else floats(entry, "slope", m, lambda x: 0 <= x <= 1)
        k, E, _ = grid(numbers)
        work.spend(len(k))
        return cls([k[i * n : (i + 1) * n] for i in range(m)], k[m * n :], E, slopes)

    def measured(self, A: Any, k: int) -> "Layer":
        """A W x + A b, A `(k, m)` in floating point."""
        K, E, _ = grid(A)
        d = len(self.b)
        rows = [K[r * d : (r + 1) * d] for r in range(k)]
        return Layer(times(rows, self.W), [dot(row, self.b) for row in rows], E + self.E)

    def rows(self, which: list[int]) -> "Layer":
        """Some of the rows."""
        return Layer([self.W[r] for r in which], [self.b[r] for r in which], self.E)

    def less(self, y: Any) -> "Layer":
        """W x + b - y."""
        Y, E, _ = grid(y)
        to = max(E, self.E)
        W = self.W if to == self.E else [[x << to - self.E for x in row] for row in self.W]
        return Layer(W, [(b << to - self.E) - (x << to - E) for b, x in zip(self.b, Y, strict=True)], to)

    def absolute(self) -> "Layer":
        """|W x + b|."""
        return Layer(self.W, self.b, self.E, [-1.0] * len(self.b))


class Quadratic:
    """R x - t, R in integers over 2^E and t over 2^Et, Et >= E; G = R'R over 2^2E, taken from `like` with the same R."""

    def __init__(self, R: list[Ints], E: int, t: Ints, Et: int, like: "Quadratic | None" = None) -> None:
        self.R, self.E, self.t, self.Et = R, E, t, Et
        self.columns: list[Any] = list(zip(*R, strict=True)) if like is None else like.columns
        self.G: list[Ints] = times(self.columns, R) if like is None else like.G


def quadratic(norm: str, seen: Layer, y: Any, weights: Any, like: Quadratic | None = None) -> Quadratic:
    """What the rounds use of the misfit from y of the rows that were seen; weights: m, where the norm asks for them."""
    residual = seen.less(y)
    if norm == "l1":
        return Quadratic([[1] * len(residual.b)], 0, [0], 0)
    if norm == "l2":
        return Quadratic(seen.W, seen.E, [-x for x in residual.b], residual.E, like)
    m, E, _ = grid(weights)
    need(dot(m, m) <= 1 << 2 * E, "weights whose squares have a sum of at most 1")
    R = [[x * a for a in row] for x, row in zip(m, seen.W, strict=True)]
    return Quadratic(R, E + seen.E, [-x * r for x, r in zip(m, residual.b, strict=True)], E + residual.E)
