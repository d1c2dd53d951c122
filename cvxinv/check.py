"""Check certificate files in exact arithmetic, trusting nobody: the standard library and this one file.

    python check.py FILE...      exit code 0: every claim accepted, 1: one rejected, 2: a file refused

docs/checking.md describes the files; check_inversion.py, with this file and check_fits.py beside it, checks them all.
Only roots and quotients are rounded, at 2^-256 and against the claim. A layer asks for the least f(h) = F(W h + b) + lam
|h|_1 + gamma/2 |h|^2, some with h >= 0. F sums the squared misfits w/2 (v - y)^2 of rows, or limits their length by eps, and
each v to an interval; pursuits have lam = 1. Any p, clipped to the signs that the limits allow, proves for every feasible z,
with D = b'p - F*(p), that f(z) >= D + (W'p)'z + lam |z|_1 + gamma/2 |z|^2. With d what W'p exceeds +-lam by, or is below
-lam where h >= 0, bounds on f are
prior    D - |W'p|^2 / (2 gamma)
scaled   D of s p, with the largest s <= 1 that makes d = 0
scope    D - |d| R for |z| <= R, where the file says that it speaks of such z alone; |h| <= R is asked

With v_i the excess over row i's limits, u = max(-h, 0), e the excess of the misfit over an l2 bound eps, s_y = |(y - b)_on|,
`optimal` asks for (`optimal_inaccurate`: 1000 times each right side)
(a)  v_i <= tol s_y, v_i <= tol (|w_i||h| + |b_i| + |limit_i|) where w_i != 0,  u_j <= tol max|h|,  e <= tol eps + 1e-10 s_y
(b)  max(f(h) - bound, 0) + worth <= max(tol f, (1e-10 s_y)^2 / 2), for pursuits max(tol f, tol 1e-10 s_y / max|w_i|), where
     worth = |p|'v + c'u + e |p_on / w^(1/2)|, c = max(W'p + lam, 0), with p as it was scaled
`infeasible`: every h with |h| <= R breaks a limit by over tol s_y, as D - tol s_y |p| > |d| R with the objective left out.
"""

import base64
import json
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import inf, isfinite, isqrt
from operator import mul
from typing import Any, NamedTuple

KINDS = {  # what F says of the rows, whether h >= 0, what the number is called that goes with it
    "NonnegativeLasso": ("squared", True, "lam"), "Lasso": ("squared", False, "lam"),
    "GaussianLatent": ("squared", False, "gamma"), "ActivatedLasso": ("curved", True, "lam"),
    "BasisPursuitL2": ("ball", False, "eps"), "NonnegativeBasisPursuitL2": ("ball", True, "eps"),
    "BasisPursuitLinf": ("interval", False, ""), "NonnegativeBasisPursuitLinf": ("interval", True, ""),
    "IntervalBasisPursuit": ("interval", True, ""),
}  # fmt: skip
MOST_BYTES, MOST_ENTRIES = 1 << 27, 1 << 20  # of a file, of its lists and objects
MOST_BITS, MOST_WORK = 1 << 32, 1 << 32  # of the integers of an array; products of short integers, about ten minutes
BITS, ZERO, ONE = 256, Fraction(0), Fraction(1)  # behind the point of roots and quotients
TINY, BEYOND = Fraction(1, 10**10), Fraction(1 << 10000)  # of s_y; open limits, and scopes that no |d| > 0 bears


class RefusedError(Exception):
    """A file that cannot be read, or not decided in bounded time and memory; the message is one line."""


class Verdict(NamedTuple):
    """What was found of one signal's claim; `words` says why, with numbers."""

    signal: int
    claim: str
    accepted: bool
    words: str


def check_file(path: str | os.PathLike[str]) -> list[Verdict]:
    """The verdicts on all claims of a file on a layer problem. Raises RefusedError for one that is none, or too large."""
    return read(path, {})


def read(path: str | os.PathLike[str], others: dict[str, Callable[[dict[str, Any]], list[Verdict]]]) -> list[Verdict]:
    """The verdicts on all claims of a certificate file; others: who reads files of kinds that are not in KINDS."""
    try:
        need(os.path.isfile(path), "a file")
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
        count = sum(map(raw.count, (b",", b"[", b"{")))
        need(len(raw) <= MOST_BYTES and count <= MOST_ENTRIES, f"at most {MOST_BYTES} bytes and {MOST_ENTRIES} entries")
        data = json.loads(raw, object_pairs_hook=_object)
        need(data["format"] == "cvxinv certificate" and data["version"] == 1, "a cvxinv certificate, version 1")
        need(data["kind"] in {**KINDS, **others}, "a kind known here: inversions and fits are for check_inversion.py")
        return layer(data, KINDS, Signal) if data["kind"] in KINDS else others[data["kind"]](data)
    except RefusedError:
        raise
    except Exception as error:
        words = ascii(f"{type(error).__name__}: {error}"[:80])
        raise RefusedError(f"expected a certificate file as in docs/checking.md, got {words}") from None


def need(fits: bool, words: str) -> None:
    """Refuse the file unless it fits."""
    if not fits:
        raise RefusedError(f"expected {words}, got another")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len(dict(pairs)) == len(pairs), "each key once")
    return dict(pairs)


def shape(data: dict[str, Any], keys: str) -> list[int]:
    """The shape of an object that has these keys and no others."""
    need(set(data) == set(keys.split()), f"exactly the keys {keys}")
    need(all(type(k) is int and 0 < k < 1 << 24 for k in data["shape"]), "shape as integers from 1 to 2^24")
    return data["shape"]


def entries(data: dict[str, Any], key: str, count: int, fits: Callable[[Any], bool]) -> list[Any]:
    """A list."""
    value = data[key]
    need(type(value) is list and len(value) == count and all(map(fits, value)), f"{key} as a list of {count} as documented")
    return value


def floats(data: dict[str, Any], key: str, count: int, fits: Callable[[float], bool] = isfinite) -> array:
    """float64 numbers, from the base64 of their little-endian bytes."""
    numbers = array("d", base64.b64decode(data[key], validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    need(len(numbers) == count and all(map(fits, numbers)), f"{key} as base64 of {count} float64 as documented")
    return numbers


def root(x: Fraction, up: bool = False) -> Fraction:
    """The root of x >= 0, from below or above."""
    p, q = x.numerator, x.denominator
    k = max(0, BITS - (p.bit_length() - q.bit_length()) // 2)
    r = isqrt((p << 2 * k) // q)
    return Fraction(r + (up and r * r * q != p << 2 * k), 1 << k)


def dot(x: Any, y: Any) -> Fraction:
    """x'y."""
    return sum(map(mul, x, y), ZERO)


def say(x: Fraction) -> str:
    """A few digits of x, whatever its size."""
    size = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return f"{float(x):.3g}" if abs(size) < 1000 or not x else f"{'-' if x < 0 else ''}2^{size}"


def grid(values: Any) -> tuple[list[int], int, int]:
    """Integers k and E with values[i] = k[i] / 2^E, and the binary digits of the longest."""
    pairs = [x.as_integer_ratio() for x in values]
    E = max(q.bit_length() for _, q in pairs) - 1
    bits = E + max(p.bit_length() - q.bit_length() + 1 for p, q in pairs)
    need(bits * len(pairs) <= MOST_BITS, f"numbers of similar size, not {len(pairs)} of {bits} binary digits")
    return [p << (E - q.bit_length() + 1) for p, q in pairs], E, bits


class Matrix:
    """A matrix of integers over 2^E; `left` is the work that its products may still take."""

    def __init__(self, values: array, m: int, n: int) -> None:
        k, self.E, self.bits = grid(values)
        self.rows, self.left = [k[i * n : (i + 1) * n] for i in range(m)], MOST_WORK
        self.columns = list(zip(*self.rows, strict=True))

    def times(self, x: Any, adjoint: bool = False) -> list[Fraction]:
        """W x, or W'x."""
        (k, E, bits), vectors = grid(x), self.columns if adjoint else self.rows
        self.left -= len(vectors) * (len(k) + 200) * (1 + (self.bits * bits >> 13))
        need(self.left >= 0, "what takes minutes, or fewer signals in a file")
        return [Fraction(sum(map(mul, vector, k)), 1 << self.E + E) for vector in vectors]

    def length(self, r: int) -> Fraction:
        """|w_r| from below."""
        return root(Fraction(sum(map(mul, self.rows[r], self.rows[r])), 1 << 2 * self.E))


def layer(data: dict[str, Any], kinds: dict[str, tuple[str, bool, str]], decide: type["Signal"]) -> list[Verdict]:
    """The verdicts on the claims of a layer problem of one of these kinds."""
    form, _, name = kinds[data["kind"]]
    N, m, n = shape(data, f"format version kind shape tol status scope rows W b h p weight y lo hi {name}")
    W = Matrix(floats(data, "W", m * n), m, n)
    table: dict[str, tuple[int, Callable[[float], bool]]] = {
        "b": (m, isfinite), "h": (n, isfinite), "p": (m, isfinite), "y": (m, isfinite), "scope": (1, lambda x: x >= 0),
        "weight": (m, lambda x: 0 <= x < inf if form != "interval" else x == 0), name: (1, lambda x: 0 <= x < inf),
        "lo": (m, lambda x: x == x), "hi": (m, lambda x: x == x), "tol": (1, lambda x: 0 < x < 1),
    }  # fmt: skip
    numbers = {key: (k, floats(data, key, N * k, fits)) for key, (k, fits) in table.items() if key}
    marks = entries(data, "rows", N, lambda x: type(x) is str and len(x) == m and not x.strip("+-."))
    verdicts = []
    for i, claim in enumerate(entries(data, "status", N, lambda x: type(x) is str)):
        one = {key: x[i * k : (i + 1) * k] for key, (k, x) in numbers.items()}
        if claim in ("user_limit", "numerical_error"):
            found = True, "claims nothing"
        elif form == "curved" or claim not in ("optimal", "optimal_inaccurate", "infeasible"):
            found = False, f"{claim[:40]!a} of {data['kind']} is a claim that is not decided here"
        else:
            signal = decide(W, kinds[data["kind"]], marks[i], one, claim == "infeasible")
            found = signal.infeasible() if claim == "infeasible" else signal.optimal(1 if claim == "optimal" else 1000)
        verdicts.append(Verdict(i, claim, *found))
    return verdicts


class _Row:  # fitted to y where its weight is > 0, and between lo and hi, +-BEYOND where open
    def __init__(self, mark: str, one: dict[str, Any], r: int, Wh: Fraction, free: bool) -> None:
        self.b, self.p, self.y, self.weight = (Fraction(one[key][r]) for key in ("b", "p", "y", "weight"))
        self.v, self.mark, ends = Wh + self.b, mark, (one["lo"][r], one["hi"][r])
        self.lo, self.hi = (Fraction(x) if isfinite(x) else BEYOND if x > 0 else -BEYOND for x in ends)
        if not self.weight:  # s_y reads the middle, or the one end if b breaks it
            finite, nearest = sum(map(isfinite, ends)), min(max(self.b, self.lo), self.hi)
            self.y = (self.lo + self.hi) / 2 if finite == 2 else nearest if finite else self.b
        self.excess = max(self.v - self.hi, self.lo - self.v, ZERO)
        self.end = self.y if self.weight else self.hi if self.p > 0 else self.lo
        if abs(self.end) == BEYOND or (free and self.weight):  # a squared misfit forbids no h
            self.p = ZERO
        self.square = root((self.p**2 / self.weight) ** 2, True) if self.weight else ZERO  # rounded up: sums stay short


class Signal:
    """One signal's problem and point, in rationals."""

    def __init__(self, W: Matrix, kind: tuple[str, bool, str], marks: str, one: dict[str, Any], ray: bool) -> None:
        (form, self.nonnegative, name), self.W, scope, self.h = kind, W, one["scope"][0], [Fraction(x) for x in one["h"]]
        number, self.half = Fraction(one[name][0]) if name else ZERO, Fraction(form == "squared") / 2
        self.gamma, self.eps = (number if name == own else ZERO for own in ("gamma", "eps"))
        self.lam = number if name == "lam" else ZERO if self.half else ONE
        self.R, self.tol = Fraction(scope) if scope < inf else BEYOND, Fraction(one["tol"][0])
        self.where = f"where |h| <= {scope:.3g}" if scope < inf else "for every h, as no scope is stated"
        self.rows = [_Row(marks[r], one, r, x, ray and self.half > 0) for r, x in enumerate(W.times(self.h))]
        self.slope = W.times([row.p for row in self.rows], adjoint=True)  # W'p
        self.linear = sum((row.p * (row.b - row.end) for row in self.rows if row.p), ZERO)
        self.square = sum((row.square for row in self.rows), ZERO)
        self.length = root(self.square, True)  # |p_on / w^(1/2)|
        self.misfit = sum((row.weight * (row.v - row.y) ** 2 for row in self.rows), ZERO)
        self.over = max(ZERO, root(self.misfit, True) - self.eps) if form == "ball" else ZERO
        self.cost, self.price = self.half * self.misfit, sum((abs(row.p) for row in self.rows if not row.weight), ZERO)
        self.unit = ZERO if self.half else self.tol / (max(map(W.length, range(len(self.rows)))) or ONE)
        need(form == "interval" or all(bool(row.weight) == (row.mark == "+") for row in self.rows), "weights of on rows")
        on, off = (sum(((row.y - row.b) ** 2 for row in self.rows if row.mark == mark), ZERO) for mark in "+-")
        self.data = on or off  # s_y^2

    def optimal(self, times: int) -> tuple[bool, str]:
        """Whether (a) and (b) hold, with `times` each right side."""
        s_y, square, most = root(self.data), dot(self.h, self.h), max(map(abs, self.h))
        if square > self.R**2:
            return False, f"h is {say(root(square))} long, asked for {self.where}"
        excesses = [("the misfit", self.over, self.tol * self.eps + TINY * s_y)]
        for r, row in ((r, row) for r, row in enumerate(self.rows) if row.excess):
            size = self.W.length(r) * root(square) + abs(row.b) + abs(row.hi if row.v > row.hi else row.lo)
            least = min(s_y, size) if self.W.length(r) else s_y
            excesses.append((f"row {r}: W h + b", row.excess, self.tol * least))
        if self.nonnegative:
            excesses += [(f"entry {j} of h", -x, self.tol * most) for j, x in enumerate(self.h)]
        for what, excess, allowed in excesses:
            if excess > times * allowed:
                return False, f"(a) {what} is {say(excess)} beyond its limit, allowed {say(times * allowed)}"
        f = self.cost + self.lam * sum(map(abs, self.h), ZERO) + self.gamma * square / 2
        allowed = times * max(self.tol * f, (TINY * s_y) ** 2 / 2 if self.half else self.unit * TINY * s_y)
        bound, worth, name = max(self._bounds(), key=lambda found: min(found[0], f) - found[1])
        words = f"(b) objective {say(f)}, bound {say(f - bound)} below, excesses worth {say(worth)}, allowed {say(allowed)}"
        return max(f - bound, ZERO) + worth <= allowed, f"{words}, by {name}"

    def _bounds(self) -> Iterator[tuple[Fraction, Fraction, str]]:
        """Bounds on f that p proves, see the module, each with what the excesses of h are worth to it."""
        steep = [-a if self.nonnegative else abs(a) for a in self.slope]
        s, d = self.lam / max(*steep, self.lam) if self.lam else ZERO, [max(a - self.lam, ZERO) for a in steep]
        ways = [(s, ZERO, f"p scaled by {say(s)}"), (ONE, root(dot(d, d), True) * self.R, f"p {self.where}")]
        if self.gamma:
            ways = [(ONE, dot(self.slope, self.slope) / (2 * self.gamma), "p")]
        rows = sum((abs(row.p) * row.excess for row in self.rows), self.over * self.length)
        below = [(a, -x) for a, x in zip(self.slope, self.h, strict=True) if x < 0 and self.nonnegative]
        for s, lost, name in ways:
            worth = s * rows + sum((max(s * a + self.lam, ZERO) * u for a, u in below), ZERO)
            yield s * (self.linear - s * self.half * self.square - self.eps * self.length) - lost, worth, name

    def infeasible(self) -> tuple[bool, str]:
        """Whether p, or a row by itself, forbids every h within the scope."""
        slack = self.tol * root(self.data, True)
        for r, row in enumerate(self.rows):
            if row.lo - row.hi > 2 * slack or BEYOND in (row.lo, -row.hi):
                return True, f"row {r} asks for a number between {say(row.lo)} and {say(row.hi)}, and there is none"
        value = self.linear - slack * self.price - (self.eps + slack) * self.length
        d = [min(a, ZERO) if self.nonnegative else a for a in self.slope]
        lost, words = root(dot(d, d), True) * self.R, f"p is worth {say(value)} with every limit {say(slack)} wider"
        return value > lost, f"{words}, of which h takes {say(lost)} {self.where}" if lost else words


def told(verdicts: list[Verdict]) -> str:
    """What came out, in a line: how many claims are accepted, and how many of them only for h of a stated length."""
    accepted = [v for v in verdicts if v.accepted]
    within = sum("where |h| <=" in v.words for v in accepted)
    return f"{len(accepted)} of {len(verdicts)} claims accepted" + (f", {within} of them within a scope" if within else "")


def main(paths: list[str], check: Callable[[str], list[Verdict]] = check_file) -> int:
    """Check files, print a line for each and for each claim that fails, and return the exit code."""
    code = 0 if paths else 2
    for path in paths:
        try:
            verdicts = check(path)
            failed = [f"  signal {v.signal}, {v.claim}: {v.words}" for v in verdicts if not v.accepted]
            print(f"{path}: {told(verdicts)}", *failed, sep="\n")
            code = max(code, int(bool(failed)))
        except RefusedError as error:
            print(f"{path}: refused: {error}")
            code = 2
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
