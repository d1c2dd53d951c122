"""Dependence over the rationals, decided by whole numbers: fraction-free elimination (Bareiss)."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import gcd
from typing import Any

from torch import Tensor


def echelon(W: Tensor) -> tuple[list[list[int]], list[int], list[int]]:
    """Reduced rows of `W` `(m, k)` in whole numbers, the columns of their pivots, and a power of 2 for each column.

    Each pivot's column is 0 but for its pivot. Column j of what was reduced is W_j 2^power_j, whole numbers.
    """
    columns, powers = zip(*(whole(W[:, j]) for j in range(W.shape[1])), strict=True) if W.shape[1] else ((), ())
    A = [list(row) for row in zip(*columns, strict=True)]
    pivots, last, top = list[int](), 1, 0
    for j in range(W.shape[1]):
        row = next((i for i in range(top, len(A)) if A[i][j]), None)
        if row is None:
            continue
        A[top], A[row] = A[row], A[top]
        last, top = _clear(A, top, j, last), top + 1
        pivots.append(j)
    return A[:top], pivots, list(powers)


def _clear(A: list[list[int]], top: int, j: int, last: int) -> int:
    """Make column j 0 but for its pivot in row `top`, which is returned; last: the pivot before, 1 at first."""
    p = A[top][j]
    for i in range(len(A)):
        if i != top:
            f = A[i][j]
            # a determinant of A, so that the division leaves nothing over
            A[i] = [(p * a - f * b) // last for a, b in zip(A[i], A[top], strict=True)]
    return p


def rank(W: Tensor) -> int:
    """The rank of `W` `(m, k)` over the rationals."""
    return len(echelon(W if W.shape[0] >= W.shape[1] else W.T)[1])


def null_vector(W: Tensor) -> tuple[Fraction, ...] | None:
    """x != 0 with W x = 0 exactly, whose support is a smallest dependent set; None where the columns are independent."""
    return next(null_basis(W), None)


def null_basis(W: Tensor) -> Iterator[tuple[Fraction, ...]]:
    """A basis of all x with W x = 0, exactly: one for each column that depends on those before it, in their order."""
    rows, pivots, powers = echelon(W)
    scale = rows[0][pivots[0]] if pivots else 1  # all pivots are the same number
    for j in (j for j in range(W.shape[1]) if j not in pivots):
        x = [0] * W.shape[1]
        x[j] = scale
        for row, p in zip(rows, pivots, strict=True):
            x[p] = -row[j]
        common = gcd(*x)
        yield tuple(Fraction(value, common) * Fraction(2) ** power for value, power in zip(x, powers, strict=True))


def whole(values: Iterable[Any]) -> tuple[list[int], int]:
    """Finite floats as whole numbers times 2^-power, all with one power."""
    ratios = [float(a).as_integer_ratio() for a in values]
    power = max((below.bit_length() - 1 for _, below in ratios), default=0)
    return [above * (2**power // below) for above, below in ratios], power


def solve(K: list[list[int]], right: list[int]) -> list[Fraction] | None:
    """The x with K x = right, `(k, k)` and `(k,)` in whole numbers; None where K is singular."""
    A = [[*row, value] for row, value in zip(K, right, strict=True)]
    last = 1
    for j in range(len(A)):
        row = next((i for i in range(j, len(A)) if A[i][j]), None)
        if row is None:
            return None
        A[j], A[row] = A[row], A[j]
        last = _clear(A, j, j, last)
    return [Fraction(row[-1], last) for row in A]
