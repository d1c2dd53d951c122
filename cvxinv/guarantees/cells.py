"""The cells of one ReLU layer on a convex set K: is it injective there, and how stable is its inverse?

F(x) = max(W x + b, 0), rows w_i, u_i(x) = w_i'x + b_i. K: a ball about 0, all of R^n, of either the part with x >= 0.

**Injective.** F is injective on K if and only if for every x inside K the rows with u_i(x) >= 0 span R^n.
    If F(x) = F(x'), x != x', every unit is on at both with one value, or at both not: F is constant between them, and at the
    middle w_i'(x' - x) = 0 for all rows with u_i >= 0; those of a point inside K near by are among them. If the rows do not
    span at x, F does not change along what is orthogonal to them, as far as the others stay below 0.
**Search.** So it is not if and only if there is a point inside K at which rows O are below 0 and the others do not span.
    A node holds O, and rows A that need not be below 0. At its point x (of least length with u_O < 0) either the rows that
    are on do not span, together with A: done; or one of them that is outside of the span of A goes to O, or to A. A node
    ends where A spans, or where u_O < 0 has no point inside K. Each branch lengthens O or raises the rank of A.
**Stable.** |F(x) - F(x')| >= s / 2^(1/2) |x - x'| on K, s the least singular value of the on rows over all pieces of K: with
    d = x' - x and a_i = (w_i'd)^2, unit i is on on a share t_i of the way, from one end, so |F(x) - F(x')|^2 = sum t_i^2 a_i
    = int 2 t L(t) + 2 (1 - t) R(t) dt >= int 2 min(t, 1 - t) (L + R)(t) dt >= s^2 |d|^2 / 2, L and R the sums of a_i of the
    units on at t from the left or from the right end. s itself is met on a piece: the constant is between s / 2^(1/2) and s.
    The least s is sought by the same search, a node ending where the rows of A alone have a larger one.

Source: Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally injective ReLU networks" (2022): its directed spanning sets
are the case K = R^n, b = 0; Haider, Ehler, Balazs, "Convex geometry of ReLU-layers" (2023) for balls and biases. The proofs
and the search are written down here as they were derived here.
"""

from dataclasses import dataclass

import numpy as np

_SPAN = 1e-9  # of a row's length: what lies in a span
_MARGIN = 1e-9  # of the unit of length: how far below 0 a row is
_FARTHEST = 1e6  # units of length, where K has no end


@dataclass(frozen=True, eq=False)
class Cells:
    """A layer's rows W `(m, n)` and b `(m,)` on K: |x| <= radius (inf for no end), x >= 0 where `nonnegative`."""

    W: np.ndarray
    b: np.ndarray
    radius: float
    nonnegative: bool

    @property
    def conic(self) -> bool:
        """Whether everything is the same at every length."""
        return not self.b.any()

    @property
    def unit(self) -> float:
        """A length to measure others by."""
        if self.conic:
            return 1.0
        if np.isfinite(self.radius):
            return self.radius
        size = np.linalg.norm(self.W, axis=1)
        return float((np.abs(self.b[size > 0]) / size[size > 0]).max(initial=0.0)) or 1.0

    def on(self, x: np.ndarray) -> np.ndarray:
        """Rows that are not below 0, bool `(m,)`; to rounding."""
        u = self.W @ x + self.b
        return u >= -1e-13 * (np.abs(self.W) @ np.abs(x) + np.abs(self.b))

    def point(self, off: list[int]) -> np.ndarray | None:
        """The shortest x inside K with rows `off` below 0, `(n,)`; None where there is none."""
        n = self.W.shape[1]
        if not off and not self.nonnegative:
            return np.zeros(n)
        unit, margin = self.unit, 1.0 if self.conic else _MARGIN
        size = np.linalg.norm(self.W[off], axis=1)
        G, h = -self.W[off] / size[:, None], self.b[off] / (size * unit) + margin
        if self.nonnegative:
            G, h = np.vstack([G, np.eye(n)]), np.append(h, np.full(n, margin))
        x = least_length(G, h)
        if x is None:
            return None
        length = float(np.linalg.norm(x))
        most = 1e8 if self.conic else self.radius / unit * (1 - _MARGIN) if np.isfinite(self.radius) else _FARTHEST
        if length > most:
            return None
        x = x * unit
        return x * min(1.0, self.radius / (2 * length)) if self.conic and length > 0 else x


def least_length(G: np.ndarray, h: np.ndarray) -> np.ndarray | None:
    """The shortest x with G x >= h; None where there is none (Lawson and Hanson 1974, chapter 23, by nonnegative least
    squares).
    """
    from scipy.optimize import nnls  # late: importing the package loads torch and little else

    E, f = np.vstack([G.T, h]), np.append(np.zeros(G.shape[1]), 1.0)
    u, rest = nnls(E, f, maxiter=30 * E.shape[1] + 100)
    if rest < 1e-9:
        return None
    r = E @ u - f
    x = -r[:-1] / r[-1]
    return x if bool((G @ x >= h - 1e-7 * np.abs(h) - 1e-12 * (1 + np.linalg.norm(x))).all()) else None


@dataclass(frozen=True, eq=False)
class Spanning:
    """point: where the rows that are on do not span, `(n,)`, None where there is none; done: all cells were decided."""

    point: np.ndarray | None
    done: bool
    nodes: int


def look_for_a_gap(cells: Cells, most: int) -> Spanning:
    """The search for a point at which the rows that are on do not span, through at most `most` nodes."""
    n = cells.W.shape[1]
    size = np.linalg.norm(cells.W, axis=1)
    rows = np.where(size[:, None] > 0, cells.W / np.where(size > 0, size, 1.0)[:, None], 0.0)
    start = cells.point([])
    stack: list[tuple[list[int], np.ndarray, np.ndarray | None]]
    stack = [([], np.zeros((n, 0)), start)] if start is not None else []
    nodes = 0
    while stack:
        if nodes >= most:
            return Spanning(None, False, nodes)
        nodes += 1
        off, Q, x = stack.pop()
        if x is None:
            x = cells.point(off)
        if x is None:
            continue
        outside = rows - (rows @ Q) @ Q.T
        free = cells.on(x) & (np.linalg.norm(outside, axis=1) > _SPAN)
        if _rank(outside[free]) + Q.shape[1] < n:
            return Spanning(x, True, nodes)
        i = _row_to_branch(cells, x, free)
        w = outside[i] / np.linalg.norm(outside[i])
        w = w - Q @ (Q.T @ w)
        wider = np.hstack([Q, (w / np.linalg.norm(w))[:, None]])
        if wider.shape[1] < n:
            stack.append((off, wider, x))
        stack.append(([*off, i], Q, None))
    return Spanning(None, True, nodes)


def _row_to_branch(cells: Cells, x: np.ndarray, free: np.ndarray) -> int:
    """The on row that is farthest from being off: of the two branches one ends early."""
    size = np.linalg.norm(cells.W, axis=1)
    far = np.where(free, (cells.W @ x + cells.b) / np.where(size > 0, size, 1.0), -np.inf)
    return int(far.argmax())


def _rank(rows: np.ndarray) -> int:
    if not len(rows):
        return 0
    values = np.linalg.svd(rows, compute_uv=False)
    return int((values > _SPAN).sum())


@dataclass(frozen=True, eq=False)
class Least:
    """The least singular value of the on rows that was met, and whether no piece of K has a smaller one."""

    value: float
    done: bool
    nodes: int


def least_singular_value(cells: Cells, most: int) -> Least:
    """The least singular value of the rows that are on, over the pieces of K, through at most `most` nodes."""
    nonzero = np.linalg.norm(cells.W, axis=1) > 0
    cells = Cells(cells.W[nonzero], cells.b[nonzero], cells.radius, cells.nonnegative)
    best, nodes = np.inf, 0
    start = cells.point([])
    stack: list[tuple[list[int], list[int], np.ndarray | None]] = [([], [], start)] if start is not None else []
    while stack:
        if nodes >= most:
            return Least(float(best), False, nodes)
        nodes += 1
        off, kept, x = stack.pop()
        if x is None:
            x = cells.point(off)
        if x is None or smallest(cells.W[kept]) >= best:
            continue
        on = cells.on(x)
        best = min(best, smallest(cells.W[on]))
        left = on.copy()
        left[kept] = False
        if not left.any():
            continue
        i = _row_to_branch(cells, x, left)
        stack.append((off, [*kept, i], x))
        stack.append(([*off, i], kept, None))
    return Least(float(best), True, nodes)


def smallest(rows: np.ndarray) -> float:
    """Least singular value of rows `(k, n)` as a map of R^n: 0 for fewer than n."""
    k, n = rows.shape
    return 0.0 if k < n else float(np.linalg.svd(rows, compute_uv=False)[-1])


def sure_lines(cells: Cells) -> bool:
    """Whether rows of which always one is on, of each line of theirs, span: enough for injectivity, in any dimension.

    A row is on everywhere in K where b_i >= radius |w_i|, or where b_i >= 0 and w_i >= 0 on x >= 0; of two opposite rows
    w and -c w one is on everywhere where b_1 / |w| + b_2 / |c w| >= 0.
    """
    size = np.linalg.norm(cells.W, axis=1)
    there = size > 0
    w, b = cells.W[there] / size[there, None], cells.b[there] / size[there]
    always = b >= cells.radius
    if cells.nonnegative:
        always |= (b >= 0) & (w >= 0).all(1)
    # the best bias of each opposite row
    opposite = (w @ w.T) < -1 + 1e-14
    partner = np.where(opposite, b[None], -np.inf).max(1, initial=-np.inf)
    sure = w[always | (b + partner >= 0)]
    return _rank(sure) == cells.W.shape[1]
