"""Check certificate files of whole inversions in exact arithmetic: the standard library, check.py and check_fits.py.

    python check_inversion.py FILE...      as check.py, to which, or check_fits.py, other files go: both beside this file

docs/checking.md describes the files. `explained`: |A G(z) - y| is within its bound; G is computed exactly, tanh and sigmoid
by enclosures. `determined`: the Jacobian at z has full column rank, as it has modulo the prime 2^61 - 1: a rank modulo a
prime is never above the rank. Other statuses claim nothing.
"""

import os
import sys
from fractions import Fraction
from functools import cached_property
from math import inf, isfinite
from operator import mul
from typing import Any

try:
    from .check import ONE, ZERO, Matrix, Verdict, dot, entries, floats, main, need, read, root, say, shape
    from .check_fits import FITS
    from .check_fits import claims as fits
except ImportError:  # alone
    from check import (  # type: ignore[no-redef]
        ONE,
        ZERO,
        Matrix,
        Verdict,
        dot,
        entries,
        floats,
        main,
        need,
        read,
        root,
        say,
        shape,
    )  # fmt: skip
    from check_fits import FITS  # type: ignore[no-redef]
    from check_fits import claims as fits  # type: ignore[no-redef]

ACTIVATIONS = {"identity": 0, "relu": 0, "leaky_relu": 1, "tanh": 0, "sigmoid": 0, "plu": 2}  # and how many numbers
PRIME, FINE = (1 << 61) - 1, 320  # of ranks; behind the point of tanh and sigmoid


def check_file(path: str | os.PathLike[str]) -> list[Verdict]:
    """The verdicts on all claims of a certificate file of any kind. Raises RefusedError as `check.read`."""
    return read(path, {"Inversion": claims} | dict.fromkeys(FITS, fits))


def claims(data: dict[str, Any]) -> list[Verdict]:
    """The verdicts on the claims of a file of kind Inversion."""
    N, n0, d, k = shape(data, "format version kind shape layers A seen y z noise bound born status determined")
    chain, sizes = [_Step(entry) for entry in entries(data, "layers", len(data["layers"]), lambda x: type(x) is dict)], [n0]
    for step in chain:
        need(len(step.W.columns) == sizes[-1], f"a layer of {sizes[-1]} columns")
        sizes.append(len(step.W.rows))
    A = None if data["A"] is None else Matrix(floats(data, "A", k * d), k, d)
    need(len(sizes) > 1 and sizes[-1] == d and (A is not None or k == d), f"layers to {d} numbers, {k} of them measured")
    known = data["noise"] in ("", "l2", "linf", "l1") and data["born"] in ("float64", "float32")
    need(known, "noise and born as documented")
    seen = entries(data, "seen", N, lambda x: type(x) is str and len(x) == k)
    parts = [floats(data, key, N * size, fits=lambda x: True) for key, size in (("y", k), ("z", n0), ("bound", 1))]
    told = entries(data, "status", N, lambda x: type(x) is str), entries(data, "determined", N, lambda x: type(x) is bool)
    verdicts = []
    for i, (status, determined) in enumerate(zip(*told, strict=True)):
        words = ["explained"] * (status == "explained") + ["determined"] * determined
        verdicts += [] if words else [Verdict(i, status, True, "claims nothing that is checked here")]
        y, z, (bound,) = (x[i * (len(x) // N) : (i + 1) * (len(x) // N)] for x in parts)
        rows = [r for r in range(k) if seen[i][r] == "+"]
        if words and not (rows and 0 <= bound < inf and all(map(isfinite, [*z, *(y[r] for r in rows)]))):
            verdicts += [Verdict(i, word, False, "nothing was seen, or z, y or the bound is no number") for word in words]
        elif words:
            values, x, off = _forward(chain, z)
            limit = Fraction(bound) if data["noise"] else Fraction(1, 10**8 if data["born"] == "float64" else 10**6)
            for word in words:
                found = (_determined(chain, values, A, rows, n0) if word == "determined"
                         else _explained(A, x, off, {r: Fraction(y[r]) for r in rows}, data["noise"], limit))  # fmt: skip
                verdicts.append(Verdict(i, word, *found))
    return verdicts


class _Step:
    """A layer of the generator: activation(W h + b)."""

    def __init__(self, entry: dict[str, Any]) -> None:
        m, n = shape(entry, "shape activation numbers W b")
        self.name = entry["activation"]
        numbers = floats(entry, "numbers", ACTIVATIONS[self.name], fits=lambda x: 0 < x < inf)
        self.a, self.c = [*map(Fraction, numbers), ZERO, ZERO][:2]  # the slope of a leaky ReLU, slope and corner of a PLU
        self.W, self.b = Matrix(floats(entry, "W", m * n), m, n), [Fraction(x) for x in floats(entry, "b", m)]

    @cached_property
    def residues(self) -> list[list[int]]:
        """The columns of W modulo the prime, in which 1/2 is a number: the power of two in front changes no rank."""
        return [[x % PRIME for x in column] for column in self.W.columns]

    def slope(self, u: Fraction) -> Fraction | None:
        """The derivative at u, None at a kink; of tanh and sigmoid 1, as only its sign is used."""
        if self.name in ("relu", "leaky_relu"):
            return ONE if u > 0 else None if u == 0 else self.a
        return self.a if self.name == "plu" and abs(u) > self.c else ONE

    def __call__(self, u: Fraction) -> Fraction:
        if self.name == "plu":
            return max(self.a * (u + self.c) - self.c, min(self.a * (u - self.c) + self.c, u))
        if self.name not in ("tanh", "sigmoid"):
            return u if u > 0 or self.name == "identity" else u * self.a
        t, one = _exp(abs(u) * (2 if self.name == "tanh" else 1)), 1 << FINE
        if self.name == "tanh":
            return Fraction(((one - t) << FINE) // (one + t) * (1 if u > 0 else -1), one)
        return Fraction(((one if u > 0 else t) << FINE) // (one + t), one)


def _exp(x: Fraction) -> int:
    """exp(-x) 2^320 for x >= 0, off by less than 2^22: 80 terms, each off by at most 3, at x / 1024, squared ten times."""
    if x > 512:
        return 0
    y, total, term = (x.numerator << FINE) // (x.denominator << 10), 1 << FINE, 1 << FINE
    for k in range(1, 80):
        term = -(term * y // k >> FINE)
        total += term
    for _ in range(10):
        total = total * total >> FINE
    return total


def _forward(chain: list[_Step], h: Any) -> tuple[list[list[Fraction]], list[Fraction], Fraction]:
    """W h + b of every layer, the signal, and how far off its entries may be."""
    values: list[list[Fraction]] = []
    for step in chain:
        values.append([x + c for x, c in zip(step.W.times(h), step.b, strict=True)])
        h = list(map(step, values[-1]))
    return values, h, Fraction(1, 1 << FINE - 32) if chain[-1].name in ("tanh", "sigmoid") else ZERO


def _explained(
    A: Matrix | None, x: list[Fraction], off: Fraction, y: dict[int, Fraction], noise: str, limit: Fraction
) -> tuple[bool, str]:
    """Whether |A x - y| is within the limit: a part of |y|, or a bound on the noise, whose rounding is allowed."""
    size = root(dot(y.values(), y.values()))
    limit = limit * (1 + Fraction(1, 10**9)) + size / 10**12 if noise else limit * size
    if A is not None:
        x, off = A.times(x), off * max(sum(map(abs, row)) for row in A.rows) / (1 << A.E)
    r, off = [x[k] - t for k, t in y.items()], off * len(y)
    found = max(map(abs, r)) if noise == "linf" else sum(map(abs, r), ZERO) if noise == "l1" else root(dot(r, r), True)
    words = f"misfit {say(found)}, allowed {say(limit)}"
    return found + off <= limit, words if not limit - off < found <= limit + off or not off else f"undecided: {words}"


def _determined(
    chain: list[_Step], values: list[list[Fraction]], A: Matrix | None, rows: list[int], n0: int
) -> tuple[bool, str]:
    """Whether the Jacobian of the rows that were seen has full column rank, proved modulo a prime."""
    if A is not None and chain[-1].name in ("tanh", "sigmoid"):
        return False, f"undecided: a matrix behind {chain[-1].name} makes a Jacobian that is no matrix of fractions"
    slopes = [list(map(step.slope, u)) for step, u in zip(chain, values, strict=True)]
    for number, (step, slope) in enumerate(zip(chain, slopes, strict=True)):
        used = rows if step is chain[-1] and A is None else range(len(slope))
        kinks = [r for r in used if slope[r] is None and any(step.W.rows[r])]
        if kinks:
            return False, f"row {kinks[0]} of layer {number} is at a kink, exactly 0: the Jacobian has no one value"
    factors = [[x.numerator * pow(x.denominator, -1, PRIME) if x else 0 for x in slope] for slope in slopes]
    back, pivots = list(zip(chain, factors, strict=True))[::-1], list[tuple[int, list[int]]]()
    for r in rows:
        v, rest = ([x * factors[-1][r] for x in chain[-1].W.rows[r]], back[1:]) if A is None else (A.rows[r], back)
        for step, factor in rest:
            chain[0].W.left -= len(step.b) * (len(step.residues) + n0)
            need(chain[0].W.left >= 0, "what takes minutes, or fewer signals in a file")
            v = [x * y % PRIME for x, y in zip(v, factor, strict=True)]
            v = [sum(map(mul, column, v)) for column in step.residues]
        v = [x % PRIME for x in v]
        for c, pivot in pivots:
            v = [(x - v[c] * y) % PRIME for x, y in zip(v, pivot, strict=True)] if v[c] else v
        c = next((c for c, x in enumerate(v) if x), -1)
        if c >= 0:
            pivots.append((c, [x * pow(v[c], -1, PRIME) % PRIME for x in v]))
        if len(pivots) == n0:
            return True, f"rank {n0}, full"
    return False, f"rank {len(pivots)} modulo 2^61 - 1 of {n0} columns"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], check_file))
