"""Vectors that rounds choose, in floating point: whatever comes out, something follows from it.

Of 53 binary digits, or of 60 decimal ones (`Decimal`) where a tree is walked with care (`Relaxed.number`).
"""

from math import sqrt
from operator import mul
from typing import TYPE_CHECKING, Any

from .integers import Ints

if TYPE_CHECKING:
    from .relaxed import Level, Relaxed

Row = list[Any]
Rows = list[Row]


def steps(rel: "Relaxed", many: Rows) -> Rows:
    """A y of many y."""
    n0, levels = rel.proof.n0, [(x, *_floats(rel, x)) for x in rel.levels]
    found = Rows()
    for y in many:
        out = [*y[:n0], *(-x for x in y[:n0])]
        for x, s, a, rows in levels:
            before, U = x.start - 1, len(x.free)
            part = y[:before]
            u, own = [sum(map(mul, row, part)) for row in rows], y[before : before + U]
            out += [p - q * r for p, q, r in zip(own, s, u, strict=False)]
            out += [p - r for p, r in zip(own, u, strict=False)]
            out += [q * r - p for p, q, r in zip(own, a, u, strict=False)]
            out += [*u[U:], *(-r for r in u[U:])]
        found.append(out)
    return found


def curvature(rel: "Relaxed", JJ: list[Ints], EJ: int, weights: Row) -> Rows:
    """J'J + A'diag(weights)A, its lower half."""
    H, at, n0 = [[rel.number(x, EJ) for x in row[: k + 1]] for k, row in enumerate(JJ)], 0, rel.proof.n0
    parts = Rows()
    for part in rel.kept:
        parts.append(weights[at : at + len(part)])
        at += len(part)
    for k in range(n0):
        H[k][k] += parts[0][k] + parts[1][k]
    for k, x in enumerate(rel.levels):
        w0, w1, w2, d0, d1 = parts[2 + 5 * k : 7 + 5 * k]
        s, a, rows = _floats(rel, x)
        five, before = list(zip(w0, w1, w2, s, a, strict=True)), x.start - 1
        both = [p * e * e + q + r * b * b for p, q, r, e, b in five] + [p + q for p, q in zip(d0, d1, strict=True)]
        columns = list(zip(*rows, strict=True))
        for c, column in enumerate(columns):
            part = list(map(mul, column, both))
            for d in range(c + 1):
                H[c][d] += sum(map(mul, part, columns[d]))
        for i, (p, q, r, e, b) in enumerate(five):
            cross, own = -e * p - q - b * r, H[before + i]
            for c, y in enumerate(rows[i]):
                own[c] += cross * y
            own[before + i] += p + q + r
    return H


def _floats(rel: "Relaxed", x: "Level") -> tuple[Row, Row, Rows]:
    """A layer's slopes where cut, chords and rows."""
    s, a = ([rel.number(y, rel.proof.ES) for y in part] for part in (x.s, x.a))
    return s, a, [[rel.number(y, x.E) for y in row[1:]] for row in x.rows + x.fixed]


def inverse(H: Rows, least: float = 1e-13) -> Rows:
    """About the inverse of a matrix, positive but for rounding, given by its lower half; rows of numbers, none where it has
    no factors. least: of its mean diagonal, what is added to it at first."""
    n, one = len(H), type(H[0][0])
    mean, more = sum(H[k][k] for k in range(n)) / n or one(1), one(least)
    while True:
        L = Rows()
        for i in range(n):
            row = Row()
            for j in range(i):
                row.append((H[i][j] - sum(map(mul, row, L[j]))) / L[j][j])
            left = H[i][i] * (1 + more / 10) + more * mean - sum(map(mul, row, row))
            if not left > 0:
                break
            L.append([*row, sqrt(left) if one is float else left.sqrt()])
        if len(L) == n:
            break
        more *= 100
        if more >= 1:
            return []
    # rows of L^-1, then its Gram matrix
    B, columns = Rows(), Rows([] for _ in range(n))
    for i in range(n):
        row = [-sum(map(mul, L[i][j:i], columns[j])) / L[i][i] for j in range(i)] + [1 / L[i][i]]
        B.append(row)
        for j, x in enumerate(row):
            columns[j].append(x)
    out = [[one(0)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            out[i][j] = out[j][i] = sum(map(mul, columns[i], columns[j][i - j :]))
    return out
