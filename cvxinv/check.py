"""Check certificate files in exact arithmetic, trusting nobody: the standard library and this one file.

    python check.py FILE...      exit code 0: every claim accepted, 1: one rejected, 2: a file refused

docs/checking.md describes the files. Floats are dyadic rationals; only roots and quotients are rounded, at 2^-256 against
the claim (row limits y +- eps / w^(1/2): outwards). A layer asks for min f(h) = F(W h + b) + g(h). Any p, clipped to the
signs that the rows' limits allow, proves for every feasible z, with D = b'p - F*(p),

    f(z) >= D + (W'p)'z + g(z) >= D + d'z,
    d = min(W'p + lam, 0) for g = lam 1'z, z >= 0;   what of W'p exceeds +-lam for g = lam |z|_1;   W'p + gamma h for
    g = gamma/2 |z|^2, with D less gamma/2 |h|^2, which leaves gamma/2 |z - h|^2 on the right. Bounds on f that follow:

scaled      s p with the best s that makes d = 0; pursuits, whose D is homogeneous, the s that makes the slope 1
prior       d'z + gamma/2 |z - h|^2 >= d'h - |d|^2 / (2 gamma)
scope       d'z >= -|d| R for |z| <= R, where the file says that it speaks of such z alone; then |h| <= R is asked
everywhere  a z better than h has |w^(1/2) W_on (z - h)| <= rho = (2 f(h))^(1/2) + |w^(1/2) r(h)|, r the misfit, hence
            d'z >= d'h - |S^-1 d| rho / sigma, S powers of two, sigma^2 <= the eigenvalues of S^-1 W_on' w W_on S^-1:
            that matrix is tau + L L' + E, so none is below tau - |E|_F, whatever the floats tau and L are

With v_i the excess over row i's limits, u = max(-h, 0), e the excess of the misfit over an l2 bound eps, s_y = |(y - b)_on|,
`optimal` asks for (`optimal_inaccurate`: 1000 times each right side)

(a)  v_i <= tol s_y,  v_i <= tol (|w_i||h| + |b_i| + |limit_i|),  u_j <= tol max|h| where h >= 0,  e <= tol eps + 1e-10 s_y
(b)  worth = |p|'v + c'u + e |p_on / w^(1/2)| <= allowed, with c = max(W'p + lam, 0), p as it was scaled
(c)  f(h) - (bound - worth) <= allowed = max(tol |f|, (1e-10 s_y)^2 / 2); pursuits: tol max(|f|, 1e-10 s_y / max|w_i|)

`infeasible`: every h with |h| <= R breaks a limit by over tol s_y, as D - tol s_y |p| > |d| R with the objective left out.
`explained`: |A G(z) - y| <= its bound; tanh, sigmoid by enclosures. `determined`: the Jacobian at z has full column rank, as
it has modulo the prime 2^61 - 1. `stationary` is not decided; other statuses claim nothing.
"""

import base64
import json
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property
from math import inf, isfinite, isqrt, sqrt
from operator import mul
from typing import Any, NamedTuple

KINDS = {  # what F says of the rows, whether h >= 0, what the penalty is called
    "NonnegativeLasso": ("squared", True, "lam"), "Lasso": ("squared", False, "lam"),
    "GaussianLatent": ("squared", False, "gamma"), "ActivatedLasso": ("curved", True, "lam"),
    "BasisPursuitL2": ("ball", False, "eps"), "NonnegativeBasisPursuitL2": ("ball", True, "eps"),
    "BasisPursuitLinf": ("interval", False, "eps"), "NonnegativeBasisPursuitLinf": ("interval", True, "eps"),
    "IntervalBasisPursuit": ("interval", True, ""),
}  # fmt: skip
ACTIVATIONS = {"identity": 0, "relu": 0, "leaky_relu": 1, "tanh": 0, "sigmoid": 0, "plu": 2}  # and how many numbers
MOST_BYTES, MOST_LISTS, MOST_ENTRIES = 1 << 27, 500, 1 << 22  # of a file, of lists and objects in it, of what they hold
MOST_BITS, MOST_WORK = 1 << 32, 1 << 32  # of the integers of an array; products of short integers, about ten minutes
LARGEST_PROOF = 300  # unknowns up to which sigma is proved
PRIME, BITS, FINE = (1 << 61) - 1, 256, 320  # of ranks; of roots and quotients; behind the point of tanh and sigmoid
ZERO, ONE, NONE, BEYOND = Fraction(0), Fraction(1), Fraction(1, 10**10), Fraction(1 << 2000)
_FAULTS = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)


class RefusedError(Exception):
    """A file that cannot be read, or not decided in bounded time and memory; the message is one line."""


class Verdict(NamedTuple):
    """What was found of one signal's claim; `words` says why, with numbers."""

    signal: int
    claim: str
    accepted: bool
    words: str


# --- reading --------------------------------------------------------------------------------------


def check_file(path: str | os.PathLike[str]) -> list[Verdict]:
    """The verdicts on all claims of a certificate file. Raises RefusedError for one that is none, or too large."""
    try:
        _need(os.path.isfile(path), "a file")
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
        _need(
            len(raw) <= MOST_BYTES and raw.count(b",") <= MOST_ENTRIES, f"{MOST_BYTES} bytes, {MOST_ENTRIES} entries at most"
        )
        _need(raw.count(b"[") + raw.count(b"{") <= MOST_LISTS, f"at most {MOST_LISTS} lists and objects")
        data = json.loads(raw, object_pairs_hook=_object)
        _need(data["format"] == "cvxinv certificate" and data["version"] == 1, "a cvxinv certificate, version 1")
        return _inversion(data) if data["kind"] == "Inversion" else _layer(data, *KINDS[data["kind"]])
    except _FAULTS as error:
        words = ascii(f"{type(error).__name__}: {error}"[:80])
        raise RefusedError(f"expected a certificate file as in docs/checking.md, got {words}") from None


def _need(fits: bool, words: str) -> None:
    if not fits:
        raise RefusedError(f"expected {words}, got another")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _need(len(dict(pairs)) == len(pairs), "each key once")
    return dict(pairs)


def _keys(data: dict[str, Any], keys: str) -> list[int]:
    _need(set(data) == set(keys.split()), f"exactly the keys {keys}")
    _need(all(type(k) is int and 0 < k < 1 << 24 for k in data["shape"]), "shape as integers from 1 to 2^24")
    return data["shape"]


def _list(data: dict[str, Any], key: str, count: int, fits: Callable[[Any], bool]) -> list[Any]:
    value = data[key]
    _need(type(value) is list and len(value) == count and all(map(fits, value)), f"{key} as a list of {count} as documented")
    return value


def _floats(data: dict[str, Any], key: str, *counts: int, fits: Callable[[float], bool] = isfinite) -> array:
    """float64, as base64 of little-endian bytes or as a list of numbers and hexadecimal strings."""
    value, numbers = data[key], array("d")
    if isinstance(value, str):
        numbers.frombytes(base64.b64decode(value, validate=True))
        numbers.byteswap() if sys.byteorder == "big" else None
    elif isinstance(value, list):
        numbers.extend(float.fromhex(x) if isinstance(x, str) else float(x) for x in value)
    _need(len(numbers) in counts and all(map(fits, numbers)), f"{key} as {counts[-1]} finite float64, base64 or a list")
    return numbers


# --- exact arithmetic -----------------------------------------------------------------------------


def _grid(values: Any) -> tuple[list[int], int, int]:
    """Integers k and E with values[i] = k[i] / 2^E, and the binary digits of the longest."""
    E = max(x.as_integer_ratio()[1].bit_length() for x in values) - 1
    bits = E + max(p.bit_length() - q.bit_length() + 1 for p, q in (x.as_integer_ratio() for x in values))
    _need(bits * len(values) <= MOST_BITS, f"numbers of similar size, not {len(values)} of {bits} binary digits")
    return [p << (E - q.bit_length() + 1) for p, q in (x.as_integer_ratio() for x in values)], E, bits


def _root(x: Fraction, up: bool = False) -> Fraction:
    """The root of x >= 0, from below or above."""
    p, q = x.numerator, x.denominator
    k = max(0, BITS - (p.bit_length() - q.bit_length()) // 2)
    r = isqrt((p << 2 * k) // q)
    return Fraction(r + (up and r * r * q != p << 2 * k), 1 << k)


def _dot(x: Any, y: Any) -> Fraction:
    return sum(map(mul, x, y), ZERO)


def _say(x: Fraction) -> str:
    size = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return f"{float(x):.3g}" if abs(size) < 1000 or not x else f"{'-' if x < 0 else ''}2^{size}"


class _Matrix:
    """A matrix of integers over 2^E; `left` is the work that its products may still take."""

    def __init__(self, values: array, m: int, n: int) -> None:
        k, self.E, self.bits = _grid(values)
        self.rows, self.left = [k[i * n : (i + 1) * n] for i in range(m)], MOST_WORK
        self.columns, self.proved = list(zip(*self.rows, strict=True)), dict[Any, Any]()

    def spend(self, work: int) -> None:
        self.left -= work
        _need(self.left >= 0, "what takes minutes, or fewer signals in a file")

    def times(self, x: Any, adjoint: bool = False) -> list[Fraction]:
        """W x, or W'x."""
        (k, E, bits), vectors = _grid(x), self.columns if adjoint else self.rows
        self.spend(len(vectors) * (len(k) + 200) * (1 + (self.bits * bits >> 13)))
        return [Fraction(sum(map(mul, vector, k)), 1 << self.E + E) for vector in vectors]

    def length(self, r: int) -> Fraction:
        """|w_r| from below."""
        return _root(Fraction(sum(map(mul, self.rows[r], self.rows[r])), 1 << 2 * self.E))

    def sigma(self, key: tuple[tuple[int, Fraction], ...]) -> tuple[list[int], Fraction] | None:
        """S, as exponents of 2, and sigma^2 of the rows in `key` with their weights, see the module; None if not proved."""
        (w, E, bits), n, one = _grid([w for _, w in key]), len(self.columns), 1 << 120
        work = n * n * (n + len(key) * (1 + (self.bits * (self.bits + bits) >> 13)))
        if work > self.left:
            return None
        self.left -= work
        columns = list(zip(*(self.rows[r] for r, _ in key), strict=True))
        weighted = [list(map(mul, column, w)) for column in columns]
        G = [[sum(map(mul, weighted[a], columns[b])) for b in range(a + 1)] for a in range(n)]
        S = [(G[a][a].bit_length() + 1) // 2 for a in range(n)]
        G = [[x * one >> (S[a] + S[b]) for b, x in enumerate(row)] for a, row in enumerate(G)]  # each off by less than 1
        for tau in (Fraction(1, 4**k) for k in range(1, 24)):
            L = _cholesky([[x / one for x in row] for row in G], float(tau))
            if L:
                K, square = [[int(x * 2.0**60) for x in row] for row in L], ZERO
                for a, row in enumerate(G):
                    rest = [x - sum(map(mul, K[a], K[b])) - (tau * one if a == b else 0) for b, x in enumerate(row)]
                    square += 2 * sum((abs(x) + 1) ** 2 for x in rest)
                low = (tau - _root(square, True) / one) / (1 << 2 * self.E + E)
                return (S, low) if low > 0 else None
        return None


def _cholesky(G: list[list[float]], tau: float) -> list[list[float]] | None:
    """A float L with G - tau close to L L', or None."""
    L: list[list[float]] = []
    for a, line in enumerate(G):
        row: list[float] = []
        for b in range(a):
            row.append((line[b] - sum(map(mul, row, L[b]))) / L[b][b])
        pivot = line[a] - tau - sum(map(mul, row, row))
        if not pivot > 0:
            return None
        L.append([*row, sqrt(pivot)])
    return L


# --- layers ---------------------------------------------------------------------------------------


def _layer(data: dict[str, Any], form: str, nonnegative: bool, name: str) -> list[Verdict]:
    own = ["y", "weight"] if name else ["lo", "hi"]
    N, m, n = _keys(data, f"format version kind shape tol status scope rows W b h p {' '.join(own)} {name}")
    W, (tol,) = _Matrix(_floats(data, "W", m * n), m, n), _list(data, "tol", 1, lambda x: type(x) is float and 0 < x < 1)
    parts: dict[str, Any] = {key: _floats(data, key, N * m, fits=isfinite if name else lambda x: x == x) for key in own}
    parts |= {key: _floats(data, key, N * k, fits=lambda x: True) for key, k in (("h", n), ("p", m))}
    parts["rows"] = _list(data, "rows", N, lambda x: type(x) is str and len(x) == m and not x.strip("+-."))
    scope = _list(data, "scope", N, lambda x: x is None or (type(x) is float and 0 <= x < inf))
    b, penalty = _floats(data, "b", m, N * m), _floats(data, name, N, fits=lambda x: 0 <= x < inf) if name else [0.0] * N
    verdicts = []
    for i, status in enumerate(_list(data, "status", N, lambda x: type(x) is str)):
        one = {key: x[i * (len(x) // N) : (i + 1) * (len(x) // N)] for key, x in parts.items()}
        one |= {"b": b[i * m : i * m + m] if len(b) > m else b, "rows": parts["rows"][i]}
        if status in ("user_limit", "numerical_error"):
            found = True, "claims nothing"
        elif form == "curved" or status not in ("optimal", "optimal_inaccurate", "infeasible"):
            found = False, f"{status[:40]!a} of {data['kind']} is a claim that is not decided here"
        elif not all(map(isfinite, [*one["h"], *one["p"]])):
            found = False, "h or p is not finite"
        elif name and any(mark == "+" and w <= 0 for mark, w in zip(one["rows"], one["weight"], strict=True)):
            found = False, "a weight is <= 0"
        else:
            signal = _Signal(W, one, data["kind"], Fraction(penalty[i]), status == "infeasible")
            judge = signal.infeasible if status == "infeasible" else signal.optimal
            found = judge(
                Fraction(tol), 1 if status == "optimal" else 1000, None if scope[i] is None else Fraction(scope[i])
            )
        verdicts.append(Verdict(i, status, *found))
    return verdicts


class _Signal:
    """One signal of a layer, exact. w: weights of the rows that are fitted, 0 elsewhere; lo, hi: limits, None where open."""

    def __init__(self, W: _Matrix, one: dict[str, Any], kind: str, penalty: Fraction, ray: bool) -> None:
        (self.form, self.nonnegative, self.name), self.W, self.penalty = KINDS[kind], W, penalty
        self.h, self.b = [Fraction(x) for x in one["h"]], [Fraction(x) for x in one["b"]]
        marks = one["rows"].replace("-", ".") if kind == "Lasso" else one["rows"]
        self.w, self.y, self.lo, self.hi = zip(*(self._row(r, mark, one) for r, mark in enumerate(marks)), strict=True)
        self.v = [x + b for x, b in zip(W.times(self.h), self.b, strict=True)]
        self.excess = [max(ZERO if hi is None else v - hi, ZERO if lo is None else lo - v, ZERO)
                       for v, lo, hi in zip(self.v, self.lo, self.hi, strict=True)]  # fmt: skip
        used = not (ray and self.form == "squared")  # a squared misfit outgrows every ray
        self.p = [Fraction(x) if (used if w else (hi if x > 0 else lo) is not None) else ZERO
                  for x, w, lo, hi in zip(one["p"], self.w, self.lo, self.hi, strict=True)]  # fmt: skip
        self.slope = W.times(self.p, adjoint=True)  # W'p
        ends = [y if w else (hi if x > 0 else lo) or ZERO
                for x, w, y, lo, hi in zip(self.p, self.w, self.y, self.lo, self.hi, strict=True)]  # fmt: skip
        self.linear = _dot(self.p, self.b) - _dot(self.p, ends)
        # the root of a square from above: a quotient rounded up, so that the sum stays short
        self.square = sum((_root((x * x / w) ** 2, True) for x, w in zip(self.p, self.w, strict=True) if w), ZERO)
        self.price = sum((abs(x) for x, w in zip(self.p, self.w, strict=True) if not w), ZERO)
        self.misfit = sum((w * (v - y) ** 2 for v, w, y in zip(self.v, self.w, self.y, strict=True)), ZERO)
        self.beyond = max(ZERO, _root(self.misfit, True) - penalty) if self.form == "ball" else ZERO
        on, off = ([r for r, mark in enumerate(marks) if mark == sign] for sign in "+-")
        data = sum(((self.y[r] - self.b[r]) ** 2 for r in on), ZERO)
        self.data = data or sum((max(self.b[r], ZERO) ** 2 for r in off), ZERO)  # s_y^2

    def _row(self, r: int, mark: str, one: dict[str, Any]) -> tuple[Any, ...]:
        """Weight, y, lower and upper limit of a row."""
        none: tuple[Any, ...] = (ZERO, ZERO, None, None)
        if mark == ".":
            return none
        if self.name:
            y, w = Fraction(one["y"][r]), Fraction(one["weight"][r])
            if mark == "-":
                return *none[:3], self.penalty if self.form == "interval" else ZERO
            width = _root(self.penalty**2 / w, True)
            return (ZERO, y, y - width, y + width) if self.form == "interval" else (w, y, None, None)
        lo, hi = one["lo"][r] if mark == "+" else -inf, one["hi"][r]
        if lo == inf or hi == -inf:
            return ZERO, ZERO, BEYOND, -BEYOND
        ends = Fraction(lo) if isfinite(lo) else None, Fraction(hi) if isfinite(hi) else None
        inner = [x for x in ends if x is not None]
        y = sum(inner, ZERO) / 2 if len(inner) == 2 else sorted([self.b[r], *inner])[-1 if ends[0] is not None else 0]
        return ZERO, y, *ends

    def optimal(self, tol: Fraction, times: int, R: Fraction | None) -> tuple[bool, str]:
        s_y, size, most = _root(self.data), _root(_dot(self.h, self.h)), max(map(abs, self.h))
        for r, (v, lo, hi) in enumerate(zip(self.excess, self.lo, self.hi, strict=True)):
            limit = (lo if hi is None or self.v[r] < hi else hi) if v else ZERO
            own = times * tol * min(s_y, self.W.length(r) * size + abs(self.b[r]) + abs(limit)) if v else ZERO
            if v > own:
                return False, f"(a) row {r}: W h + b is {_say(v)} beyond its limit, allowed {_say(own)}"
        for j, x in enumerate(self.h if self.nonnegative else ()):
            if -x > times * tol * most:
                return False, f"(a) entry {j} of h is {_say(x)}, allowed {_say(-times * tol * most)}"
        if self.beyond > times * (tol * self.penalty + NONE * s_y):
            return False, f"(a) the misfit is {_say(self.beyond)} above eps"
        if R is not None and _root(_dot(self.h, self.h), True) > R:
            return False, f"h is {_say(size)} long, the scope {_say(R)}"
        f, floor = self._objective(), (NONE * s_y) ** 2 / 2
        if self.form != "squared":
            floor = tol * NONE * s_y / (max(map(self.W.length, range(len(self.v)))) or 1)
        allowed, found = times * max(tol * abs(f), floor), []
        for name, bound, worth in self._bounds(f, R):
            found.append((f - bound + worth, worth, name))
            if worth <= allowed and found[-1][0] <= allowed:
                return True, f"objective {_say(f)}, gap {_say(found[-1][0])}, allowed {_say(allowed)}, by {name}"
        gap, worth, name = min(found)
        if gap <= allowed:
            return False, f"(b) the excesses are worth {_say(worth)} of the objective, allowed {_say(allowed)}"
        words = f"(c) objective {_say(f)}, the best bound is {_say(gap)} below it, allowed {_say(allowed)}, by {name}"
        wide = R is None and self.penalty == 0 and found[-1][2] != "p and sigma" and self.form == "squared"
        return False, words + ("; no sigma > 0 was proved, and no scope is stated" if wide else "")

    def _objective(self) -> Fraction:
        if self.name == "gamma":
            return (self.misfit + self.penalty * _dot(self.h, self.h)) / 2
        if self.form == "squared":
            return self.misfit / 2 + self.penalty * sum(self.h if self.nonnegative else map(abs, self.h), ZERO)
        return sum(map(abs, self.h), ZERO)

    def _bounds(self, f: Fraction, R: Fraction | None) -> Iterator[tuple[str, Fraction, Fraction]]:
        """Bounds on f that p proves, and what the excesses of h are worth to them; the costly one last."""
        lam = self.penalty if self.name == "lam" else ZERO if self.name == "gamma" else ONE
        broken = _dot(map(abs, self.p), self.excess) + (self.beyond and self.beyond * _root(self.square, True))
        below = [(a, -x) for a, x in zip(self.slope, self.h, strict=True) if x < 0 and self.nonnegative]

        def worth(s: Fraction) -> Fraction:
            return s * broken + sum((max(s * a + lam, ZERO) * u for a, u in below), ZERO)

        yield "p = 0", ZERO, worth(ZERO)
        steep = max((-a if self.nonnegative else abs(a)) for a in self.slope)
        if self.form != "squared":
            value = self.linear - (self.penalty * _root(self.square, True) if self.form == "ball" else ZERO)
            s = 1 / steep if steep > 0 and value > 0 else ZERO
            yield "p scaled", s * value, worth(s)
            return
        if self.name == "lam" and (self.square or steep > 0):
            top = lam / steep if steep > 0 else self.linear / self.square
            s = max(ZERO, min(top, self.linear / self.square if self.square else top))
            yield "p scaled", s * self.linear - s * s * self.square / 2, worth(s)
        gamma, d = ZERO, [a - max(min(a, lam), -lam) for a in self.slope]
        if self.nonnegative:
            d = [min(a + lam, ZERO) for a in self.slope]
        elif self.name == "gamma":
            gamma, d = self.penalty, [a + self.penalty * x for a, x in zip(self.slope, self.h, strict=True)]
        D, slip = self.linear - self.square / 2 - gamma / 2 * _dot(self.h, self.h), _dot(d, self.h)
        if gamma or not any(d):
            yield "p", D + slip - (gamma and _dot(d, d) / (2 * gamma)), worth(ONE)
        if R is not None:
            yield f"p where |h| <= {_say(R)}", D - _root(_dot(d, d), True) * R, worth(ONE)
        lost = self._reach(d, f)
        if lost is not None:
            yield "p and sigma", D + slip - lost, worth(ONE)

    def _reach(self, d: list[Fraction], f: Fraction) -> Fraction | None:
        """At least |S^-1 d| rho / sigma, see the module; None where no sigma > 0 was proved."""
        key = tuple((r, w) for r, w in enumerate(self.w) if w)
        if key not in self.W.proved:  # signals that are fitted on the same rows share it
            self.W.proved = {key: self.W.sigma(key) if len(d) <= min(LARGEST_PROOF, len(key)) else None}
        if self.W.proved[key] is None:
            return None
        S, square = self.W.proved[key]
        scaled = sum((x * x / 4**s for x, s in zip(d, S, strict=True)), ZERO) / square
        return (_root(2 * max(f, ZERO), True) + _root(self.misfit, True)) * _root(scaled, True)

    def infeasible(self, tol: Fraction, times: int, R: Fraction | None) -> tuple[bool, str]:
        slack = tol * _root(self.data, True)
        for r, (lo, hi) in enumerate(zip(self.lo, self.hi, strict=True)):
            if lo is not None and hi is not None and lo - hi > 2 * slack:
                return True, f"row {r} asks for a number between {_say(lo)} and {_say(hi)}, and there is none"
        value = self.linear - slack * self.price
        value -= (self.penalty + slack) * _root(self.square, True) if self.form == "ball" else ZERO
        d = [min(a, ZERO) if self.nonnegative else a for a in self.slope]
        lost, words = _root(_dot(d, d), True) * (R or ZERO), f"p is worth {_say(value)} with every limit {_say(slack)} wider"
        if R is None and any(d):
            return False, f"{words}, moves h, and no scope is stated"
        return value > lost, f"{words}, of which h takes {_say(lost)}" + (f" where |h| <= {_say(R)}" if R and any(d) else "")


# --- inversions -----------------------------------------------------------------------------------


def _inversion(data: dict[str, Any]) -> list[Verdict]:
    N, n0, d, k = _keys(data, "format version kind shape layers A seen y z noise bound born status determined")
    chain, sizes = [_Step(entry) for entry in _list(data, "layers", len(data["layers"]), lambda x: type(x) is dict)], [n0]
    for step in chain:
        _need(len(step.W.columns) == sizes[-1], f"a layer of {sizes[-1]} columns")
        sizes.append(len(step.W.rows))
    A = None if data["A"] is None else _Matrix(_floats(data, "A", k * d), k, d)
    _need(len(sizes) > 1 and sizes[-1] == d and (A is not None or k == d), f"layers to {d} numbers, {k} of them measured")
    _need(data["noise"] in ("", "l2", "linf") and data["born"] in ("float64", "float32"), "noise and born as documented")
    seen = _list(data, "seen", N, lambda x: type(x) is str and len(x) == k)
    parts = [_floats(data, key, N * size, fits=lambda x: True) for key, size in (("y", k), ("z", n0), ("bound", 1))]
    claims = _list(data, "status", N, lambda x: type(x) is str), _list(data, "determined", N, lambda x: type(x) is bool)
    verdicts = []
    for i, (status, determined) in enumerate(zip(*claims, strict=True)):
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
        m, n = _keys(entry, "shape activation numbers W b")
        self.name = entry["activation"]
        numbers = _floats(entry, "numbers", ACTIVATIONS[self.name], fits=lambda x: 0 < x < inf)
        self.a, self.c = [*map(Fraction, numbers), ZERO, ZERO][:2]  # the slope of a leaky ReLU, slope and corner of a PLU
        self.W, self.b = _Matrix(_floats(entry, "W", m * n), m, n), [Fraction(x) for x in _floats(entry, "b", m)]

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
    A: _Matrix | None, x: list[Fraction], off: Fraction, y: dict[int, Fraction], noise: str, limit: Fraction
) -> tuple[bool, str]:
    """Whether |A x - y| is within the limit: a part of |y|, or a bound on the noise, whose rounding is allowed."""
    size = _root(_dot(y.values(), y.values()))
    limit = limit * (1 + Fraction(1, 10**9)) + size / 10**12 if noise else limit * size
    if A is not None:
        x, off = A.times(x), off * max(sum(map(abs, row)) for row in A.rows) / (1 << A.E)
    r, off = [x[k] - t for k, t in y.items()], off * len(y)
    found = max(map(abs, r)) if noise == "linf" else _root(_dot(r, r), True)
    words = f"misfit {_say(found)}, allowed {_say(limit)}"
    return found + off <= limit, words if not limit - off < found <= limit + off or not off else f"undecided: {words}"


def _determined(
    chain: list[_Step], values: list[list[Fraction]], A: _Matrix | None, rows: list[int], n0: int
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
            chain[0].W.spend(len(step.b) * (len(step.residues) + n0))
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


def told(verdicts: list[Verdict]) -> str:
    """What came out, in a line: how many claims are accepted, and how many of them only for h of a stated length."""
    accepted = [v for v in verdicts if v.accepted]
    within = sum("where |h| <=" in v.words for v in accepted)
    return f"{len(accepted)} of {len(verdicts)} claims accepted" + (f", {within} of them within a scope" if within else "")


def main(paths: list[str]) -> int:
    """Check files, print a line for each and for each claim that fails, and return the exit code."""
    codes = [0 if paths else 2]
    for path in paths:
        try:
            verdicts = check_file(path)
        except RefusedError as error:
            codes.append(2)
            print(f"{path}: refused: {error}")
        else:
            failed = [v for v in verdicts if not v.accepted]
            codes.append(int(bool(failed)))
            print(f"{path}: {told(verdicts)}", *(f"  signal {v.signal}, {v.claim}: {v.words}" for v in failed), sep="\n")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
