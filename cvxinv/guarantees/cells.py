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

**Points and emptiness.** Which cells have a point decides all of it, and is not left to a tolerance. Floats look for a
    point, which counts where it is inside the cell by more than its rounding, or for multipliers, which count where they
    prove exactly that there is none; what neither settles is decided over the rationals (`shortest`), and costs more nodes.

Source: Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally injective ReLU networks" (2022): its directed spanning sets
are the case K = R^n, b = 0; Haider, Ehler, Balazs, "Convex geometry of ReLU-layers" (2023) for balls and biases. The proofs
and the search are written down here as they were derived here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from math import isqrt

import numpy as np
import torch

from .rational import null_basis, rank, whole
from .shortest import shortest

_SPAN = 1e-9  # of a row's length: what lies in a span
_MARGIN = 1e-9  # of the unit of length: how far below 0 a row is at the points that floats look for
_DEAR = 20  # nodes that a decision in whole numbers counts as


@dataclass(frozen=True, eq=False)
class Place:
    """What is known of a cell. x: a point inside it, `(n,)`, None where there is none; on: the rows not below 0 there, bool
    `(m,)`; told: False where neither a point nor a proof that there is none was found; thin: x is inside the cell only
    before it is rounded to floats; cost: in nodes.
    """

    x: np.ndarray | None
    on: np.ndarray
    told: bool = True
    thin: bool = False
    cost: int = 1


@dataclass(frozen=True, eq=False)
class Cells:
    """A layer's rows W `(m, n)`, none 0, and b `(m,)` on K: |x| <= radius (inf for no end), x >= 0 where `nonnegative`.

    empty: sets of rows that are proved not to be below 0 all at once inside K; written to.
    """

    W: np.ndarray
    b: np.ndarray
    radius: float
    nonnegative: bool
    empty: set[frozenset[int]] = field(default_factory=set)

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
        return float((np.abs(self.b) / np.linalg.norm(self.W, axis=1)).max(initial=0.0)) or 1.0

    @cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """A and c: inside K a cell is where A x + c < 0 in its rows, and in those behind them where x >= 0 is asked."""
        n = self.W.shape[1]
        more = -np.eye(n) if self.nonnegative else np.zeros((0, n))
        return np.vstack([self.W, more]), np.append(self.b, np.zeros(len(more)))

    @cached_property
    def _whole(self) -> list[tuple[list[int], int]]:
        """Each row (a, c) as whole numbers and the power of 2 by which they are too large."""
        A, c = self._sides
        return [whole(row) for row in np.column_stack([A, c])]

    def on(self, x: np.ndarray) -> np.ndarray:
        """Rows that are not below 0 beyond rounding, bool `(m,)`."""
        return ~_surely_below(self.W, self.b, x)

    def place(self, off: list[int]) -> Place:
        """A point inside K with rows `off` below 0, or that there is none: both proved, or not `told`.

        Floats say what to look at. A point is taken where its rows are below 0 by more than rounding, emptiness where
        multipliers prove it exactly; what is left is decided in whole numbers.
        """
        nowhere = np.zeros(len(self.W), dtype=bool)
        rows = [*off, *range(len(self.W), len(self._sides[0]))]
        x, p = self._guessed(rows)
        if x is not None and self._inside(x, rows):
            return Place(x, self.on(x))
        if self._known(p) or self._never(p):
            return Place(None, nowhere)
        found = self._exactly(rows, list(p))
        if found is None:
            return Place(None, nowhere, told=False, cost=_DEAR)
        if isinstance(found, list):
            self.empty.add(frozenset(found))
            return Place(None, nowhere, cost=_DEAR)
        x = np.array([float(v) for v in found])
        thin = not self._inside(x, rows)
        return Place(x, self._exactly_on(found) if thin else self.on(x), thin=thin, cost=_DEAR)

    def _inside(self, x: np.ndarray, rows: list[int]) -> bool:
        """Whether x is inside K, and `rows` are below 0 there, beyond rounding."""
        A, c = self._sides
        if not np.isfinite(x).all() or np.linalg.norm(x) * (1 + 1e-13) >= self.radius:
            return False
        return bool(_surely_below(A[rows], c[rows], x).all())

    def _guessed(self, rows: list[int]) -> tuple[np.ndarray | None, dict[int, float]]:
        """In floats: about the shortest x with `rows` below 0, None where there seems none; multipliers of rows."""
        A, c = self._sides
        if not rows:
            return np.zeros(A.shape[1]), {}
        unit, margin = self.unit, 1.0 if self.conic else _MARGIN
        size = np.linalg.norm(A[rows], axis=1)
        x, u = _least_length(-A[rows] / size[:, None], c[rows] / (size * unit) + margin)
        p = {row: float(u[i] / size[i]) for i, row in enumerate(rows) if u[i] > 0}
        if x is None:
            return None, p
        length = float(np.linalg.norm(x))
        return x * (min(1.0, self.radius / (2 * length)) if self.conic and length > 0 else unit), p

    def _known(self, p: Iterable[int]) -> bool:
        """Whether all of these rows, or two, which are often opposite, were proved not to be below 0 all at once."""
        return frozenset(p) in self.empty or any(frozenset(two) in self.empty for two in combinations(p, 2))

    def _never(self, p: dict[int, float]) -> bool:
        """Whether multipliers, or others of their rows, prove that these are not below 0 all at once inside K; noted.

        For p >= 0 with v = A'p and s = c'p, sum p_i u_i(x) = v'x + s >= s - radius |v| on the ball: where that is >= 0,
        not all of p's rows are below 0 inside it; without an end where v = 0 and s >= 0.
        """
        if not p:
            return False
        if np.isfinite(self.radius) and np.isfinite(list(p.values())).all():
            share = {i: Fraction(value) / 2 ** self._whole[i][1] for i, value in p.items()}
            columns = zip(*(self._whole[i][0] for i in share), strict=True)
            *v, s = (_product(share.values(), column) for column in columns)
            if s >= 0 and s * s >= Fraction(self.radius) ** 2 * _product(v, v):
                self.empty.add(frozenset(p))
                return True
        rows = list(p)
        A, c = self._sides
        for q in null_basis(torch.from_numpy(A[rows].T.copy())):
            q = q if sum(q) > 0 else tuple(-value for value in q)
            if min(q) >= 0 and _product(q, (Fraction(float(c[i])) for i in rows)) >= 0:
                self.empty.add(frozenset(i for i, value in zip(rows, q, strict=True) if value))
                return True
        return False

    def _exactly(self, rows: list[int], guess: list[int]) -> tuple[Fraction, ...] | list[int] | None:
        """A point inside K with `rows` below 0, or those of them that cannot be, over the rationals; None: took too long.

        In the ball such a point is if the closed cell has a point of a length below the radius, and some x has all rows
        below 0: on the way to that x all are, from the first step on.
        """
        M = [self._whole[i][0] for i in rows]
        places = [rows.index(i) for i in guess]
        near = [Fraction(0)] * (len(M[0]) - 1)
        if np.isfinite(self.radius) and not self.conic:
            found = shortest([[-a for a in row[:-1]] for row in M], [row[-1] for row in M], places)
            if found is None:
                return None
            if found.x is None or _product(found.x, found.x) >= Fraction(self.radius) ** 2:
                return [rows[i] for i in found.rows]
            near = found.x
        far = _strictly_below(M, self.conic, places)
        if far is None or isinstance(far, list):
            return None if far is None else [rows[i] for i in far if i < len(rows)]
        step = [x - y for x, y in zip(far, near, strict=True)]
        share = Fraction(1)
        while np.isfinite(self.radius):
            x = tuple(a + share * d for a, d in zip(near, step, strict=True))
            if _product(x, x) < Fraction(self.radius) ** 2:
                return x
            share /= 2
        return far

    def _exactly_on(self, x: tuple[Fraction, ...]) -> np.ndarray:
        """Rows that are not below 0 at a point between which and 0 no floats may lie."""
        rows = (row for row, _ in self._whole[: len(self.W)])
        return np.array([_product((*x, Fraction(1)), row) >= 0 for row in rows], dtype=bool)


def _product(v: Iterable[Fraction], w: Iterable[Fraction | int]) -> Fraction:
    return sum((a * b for a, b in zip(v, w, strict=True)), Fraction(0))


def _surely_below(A: np.ndarray, c: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Where A x + c is below 0 by more than its rounding, bool `(k,)`."""
    rounding = max(1e-13, (len(x) + 8) * 2.0**-52)
    return A @ x + c < -rounding * (np.abs(A) @ np.abs(x) + np.abs(c)) - 1e-300


def _strictly_below(M: list[list[int]], conic: bool, guess: list[int]) -> tuple[Fraction, ...] | list[int] | None:
    """x with a'x + c < 0 for all rows (a, c) of M, or those that cannot be; None where that took too long.

    With a length t > 0 beside x every row can be asked to be below 0 by its own size: a'x + c t <= -|(a, c)|, t >= 1.
    """
    n = len(M[0]) - 1
    G = [[-a for a in (row[:-1] if conic else row)] for row in M]
    h = [isqrt(sum(a * a for a in row)) + 1 for row in M]
    if not conic:
        G, h, guess = [*G, [0] * n + [1]], [*h, 1], [*guess, len(M)]
    found = shortest(G, h, guess)
    if found is None or found.x is None:
        return None if found is None else found.rows
    length = Fraction(1) if conic else found.x[-1]
    return tuple(v / length for v in found.x[:n])


def _least_length(G: np.ndarray, h: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """About the shortest x with G x >= h and its multipliers u, by nonnegative least squares as in `shortest`, in floats;
    None where there seems to be none, with multipliers that may prove it.
    """
    from scipy.optimize import nnls  # late: importing the package loads torch and little else

    E, f = np.vstack([G.T, h]), np.append(np.zeros(G.shape[1]), 1.0)
    try:
        u, rest = nnls(E, f, maxiter=3 * E.shape[1] + 100)
    except (RuntimeError, ValueError):  # it turned round in circles, or numbers overflowed
        return None, np.zeros(len(G))
    r = E @ u - f
    return None if rest < 1e-9 or r[-1] == 0 else -r[:-1] / r[-1], u


@dataclass(frozen=True, eq=False)
class Spanning:
    """point: where the rows that are on do not span, `(n,)`, None where there is none; done: all cells were decided.

    unclear: of some cells nothing was proved, neither a point nor that there is none, nor that their rows span.
    """

    point: np.ndarray | None
    done: bool
    nodes: int
    unclear: bool = False


def look_for_a_gap(cells: Cells, most: int) -> Spanning:
    """The search for a point at which the rows that are on do not span, through at most `most` nodes."""
    n = cells.W.shape[1]
    rows = unit_rows(cells.W)
    stack: list[tuple[list[int], list[int], np.ndarray, Place | None]] = [([], [], np.zeros((n, 0)), None)]
    nodes, unclear, thin = 0, False, None
    while stack:
        if nodes >= most:
            return Spanning(thin, False, nodes, unclear)
        off, kept, Q, at = stack.pop()
        at, cost = (cells.place(off), 0) if at is None else (at, 1)
        nodes += cost or at.cost
        unclear |= not at.told
        if at.x is None:
            continue
        outside = rows - (rows @ Q) @ Q.T
        free = at.on & (np.linalg.norm(outside, axis=1) > _SPAN)
        free[off] = False
        if _rank(outside[free]) + Q.shape[1] < n:
            if not at.thin:
                return Spanning(at.x, True, nodes)
            thin, unclear = at.x, True  # one that can be shown is looked for further
            continue
        i = _row_to_branch(cells, at.x, free)
        w = outside[i] / np.linalg.norm(outside[i])
        w = w - Q @ (Q.T @ w)
        wider = np.hstack([Q, (w / np.linalg.norm(w))[:, None]])
        if wider.shape[1] < n:
            stack.append((off, [*kept, i], wider, at))
        else:
            unclear |= not _spans(rows, cells.W, [*kept, i])
        stack.append(([*off, i], kept, Q, None))
    return Spanning(thin, not unclear, nodes, unclear)


def _spans(rows: np.ndarray, W: np.ndarray, kept: list[int]) -> bool:
    """Whether as many rows of W `(m, n)` as there are inputs span: by their least singular value where that is beyond
    rounding, else exactly. rows: those of W at length 1."""
    return smallest(rows[kept]) > _SPAN or rank(torch.from_numpy(W[kept])) == W.shape[1]


def _row_to_branch(cells: Cells, x: np.ndarray, free: np.ndarray) -> int:
    """The on row that is farthest from being off: of the two branches one ends early."""
    far = np.where(free, (cells.W @ x + cells.b) / np.linalg.norm(cells.W, axis=1), -np.inf)
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
    """The least singular value of the rows that are on, over the pieces of K, through at most `most` nodes; to rounding."""
    best, nodes, unclear = np.inf, 0, False
    stack: list[tuple[list[int], list[int], Place | None]] = [([], [], None)]
    while stack:
        if nodes >= most:
            return Least(float(best), False, nodes)
        off, kept, at = stack.pop()
        at, cost = (cells.place(off), 0) if at is None else (at, 1)
        nodes += cost or at.cost
        unclear |= not at.told
        if at.x is None or smallest(cells.W[kept]) >= best:
            continue
        on = at.on.copy()
        on[off] = False
        best = min(best, smallest(cells.W[on]))
        on[kept] = False
        if not on.any():
            continue
        i = _row_to_branch(cells, at.x, on)
        stack.append((off, [*kept, i], at))
        stack.append(([*off, i], kept, None))
    return Least(float(best), not unclear, nodes)


def smallest(rows: np.ndarray) -> float:
    """Least singular value of rows `(k, n)` as a map of R^n: 0 for fewer than n."""
    k, n = rows.shape
    return 0.0 if k < n else float(np.linalg.svd(rows, compute_uv=False)[-1])


def unit_rows(W: np.ndarray) -> np.ndarray:
    """Rows `(k, n)` at length 1, those that are 0 as they are."""
    size = np.linalg.norm(W, axis=1)
    return W / np.where(size > 0, size, 1.0)[:, None]


def sure_lines(cells: Cells) -> bool:
    """Whether rows of which always one is on, of each line of theirs, span: enough for injectivity, in any dimension.

    A row is on everywhere in K where b_i >= radius |w_i|, or where b_i >= 0 and w_i >= 0 on x >= 0; of two opposite rows
    w and -c w one is on everywhere where c b_1 + b_2 >= 0. Opposite is what is so exactly.
    """
    w = unit_rows(cells.W)
    always = np.array([_never_off(cells, i) for i in range(len(w))], dtype=bool)
    if cells.nonnegative:
        always |= (cells.b >= 0) & (cells.W >= 0).all(1)
    for i, j in np.argwhere(w @ w.T < -1 + 1e-12):
        if i < j and not (always[i] and always[j]):
            always[[i, j]] |= _opposite(cells, int(i), int(j))
    return _rank(w[always]) == cells.W.shape[1]


def _never_off(cells: Cells, i: int) -> bool:
    """Whether b_i >= radius |w_i|, exactly."""
    b, size, radius = float(cells.b[i]), float(np.linalg.norm(cells.W[i])), cells.radius
    if not np.isfinite(radius) or b < 0 or abs(b - radius * size) > 1e-9 * b:
        return bool(np.isfinite(radius) and b > radius * size)
    return Fraction(b) ** 2 >= Fraction(radius) ** 2 * sum(Fraction(a) ** 2 for a in cells.W[i])


def _opposite(cells: Cells, i: int, j: int) -> bool:
    """Whether w_j = -c w_i with c > 0 and c b_i + b_j >= 0, exactly."""
    v, w = ([Fraction(a) for a in cells.W[k]] for k in (i, j))
    k = next(k for k, a in enumerate(v) if a)
    c = -w[k] / v[k]
    same = all(b == -c * a for a, b in zip(v, w, strict=True))
    return same and c > 0 and c * Fraction(cells.b[i]) + Fraction(cells.b[j]) >= 0
