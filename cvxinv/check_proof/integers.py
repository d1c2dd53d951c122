"""Numbers as integers over powers of two, rounded outward; products of matrices of integers."""

from fractions import Fraction
from math import frexp
from operator import mul
from typing import Any

from .beside import MOST_WORK, need

FINE = 64  # binary digits behind a layer's largest number
Ints = list[int]


class Work:
    """What products of integers may still be made."""

    def __init__(self) -> None:
        self.left = MOST_WORK

    def spend(self, products: int) -> None:
        """Take some. Raises RefusedError where no more are left."""
        self.left -= products
        need(self.left >= 0, "what takes minutes, or fewer nodes in a file")


def fine(x: Any, bits: int = FINE) -> int:
    """E >= 0 with numbers of up to x = integers of about `bits` binary digits, or more where x is large, over 2^E."""
    if not x:
        return bits
    if isinstance(x, Fraction):
        return max(0, bits - (abs(x.numerator).bit_length() - x.denominator.bit_length()))
    return max(0, bits - frexp(x)[1])


def down(x: int, E: int, to: int) -> int:
    """x / 2^E rounded down to integers over 2^to."""
    return x >> (E - to) if E > to else x << (to - E)


def up(x: int, E: int, to: int) -> int:
    """x / 2^E rounded up to integers over 2^to."""
    return -down(-x, E, to)


def dot(x: Any, y: Any) -> int:
    """x'y."""
    return sum(map(mul, x, y))


def over(x: int, E: int) -> Fraction:
    """x / 2^E."""
    return Fraction(x, 1 << E) if E >= 0 else Fraction(x << -E)


def longest(rows: Any) -> int:
    """The binary digits of the longest integer of some rows."""
    return max((max(map(int.bit_length, row), default=0) for row in rows), default=0)


def times(K: Any, X: Any) -> list[Ints]:
    """K X, of rows of integers; X has a row at least."""
    return list(map(Packed(X, longest(K)).combined, K))


class Packed:
    """Rows of integers, each as one long integer, so that sums of multiples of them are few products; `bits`: of the
    multipliers."""

    def __init__(self, rows: Any, bits: int) -> None:
        self.n, self.size = len(rows[0]), (longest(rows) + bits + len(rows).bit_length() + 9) // 8
        self.half, self.bits = 1 << 8 * self.size - 1, bits
        self.offset = int.from_bytes(self.half.to_bytes(self.size, "little") * self.n, "little")
        self.long = [self.packed(row) for row in rows]

    def packed(self, row: Any) -> int:
        """A row as one integer."""
        parts = ((x + self.half).to_bytes(self.size, "little") for x in row)
        return int.from_bytes(b"".join(parts), "little") - self.offset

    def combined(self, k: Any) -> Ints:
        """The sum of k_i times the i-th row."""
        need(longest([k]) <= self.bits and len(k) == len(self.long), "multipliers of usual size")
        raw, size = (dot(k, self.long) + self.offset).to_bytes(self.n * self.size, "little"), self.size
        return [int.from_bytes(raw[i : i + size], "little") - self.half for i in range(0, len(raw), size)]
