"""Check certificate files without trusting who wrote them: exact arithmetic, the standard library, this one file.

    python check.py FILE...      exit code 0: every claim accepted, 1: one rejected, 2: a file refused

docs/checking.md describes the files. Floats are dyadic rationals; only roots and quotients by weights are rounded, at 2^-256
and against the claim. A layer's problem is min f(h) = F(W h + b) + g(h). Any p, clipped to the signs that the limits of the
rows allow, proves f(z) >= b'p - F*(p) + (W'p)'z + g(z) >= D + d'z for every feasible z, where D = b'p - F*(p) and

    d = min(W'p + lam, 0) for g = lam 1'z, z >= 0;   what of W'p exceeds +-lam for g = lam |z|_1;   W'p + gamma h for
    g = gamma/2 |z|^2, with D less gamma/2 |h|^2, which leaves gamma/2 |z - h|^2 on the right. Bounds on f that follow:

scaled      s p with the best s that makes d = 0; pursuits, whose D is homogeneous, the s that makes the slope 1
prior       d'z + gamma/2 |z - h|^2 >= d'h - |d|^2 / (2 gamma)
scope       d'z >= -|d| R for |z| <= R, where the file says that it speaks of such z alone; then |h| <= R is asked
everywhere  a z better than h has |w^(1/2) W_on (z - h)| <= rho = (2 f(h))^(1/2) + |w^(1/2) r(h)|, r the misfit, hence
            d'z >= d'h - |S^-1 d| rho / sigma with S powers of two and sigma^2 <= the eigenvalues of S^-1 W_on' w W_on S^-1,
            proved: that matrix is tau + L L' + E, so none is below tau - |E|_F, whatever the floats tau and L are

With v_i the excess over row i's limit, u = max(-h, 0), e the excess of the misfit over an l2 bound eps, s_y = |(y - b)_on|,
`optimal` asks for (1000 times each right side: `optimal_inaccurate`)

(a)  v_i <= tol s_y,  v_i <= tol (|w_i||h| + |b_i| + |limit_i|),  u_j <= tol max|h| where h >= 0,  e <= tol eps + 1e-10 s_y
(b)  worth = |p|'v + c'u + e |p_on / w^(1/2)| <= allowed, with c = max(W'p + lam, 0), p as it was scaled
(c)  f(h) - (bound - worth) <= allowed = max(tol |f|, (1e-10 s_y)^2 / 2); pursuits: tol max(|f|, 1e-10 s_y / max|w_i|)

`infeasible`: every h with |h| <= R breaks a limit by over tol s_y, as D - tol s_y |p| > |d| R with the objective left out.
`explained`: |A G(z) - y| <= its bound; tanh, sigmoid by enclosures. `determined`: the Jacobian at z has full column rank, as it
has modulo the prime 2^61 - 1. `stationary` is not decided; other statuses claim nothing.
"""

import base64
import json
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import inf, isfinite, isqrt, sqrt
from operator import mul
from typing import Any, NamedTuple

KINDS = {  # what F says of the rows, whether h >= 0, what the penalty is called
    "NonnegativeLasso": ("squared", True, "lam"), "Lasso": ("squared", False, "lam"),
    "GaussianLatent": ("squared", False, "gamma"),
    "BasisPursuitL2": ("ball", False, "eps"), "NonnegativeBasisPursuitL2": ("ball", True, "eps"),
    "BasisPursuitLinf": ("interval", False, "eps"), "NonnegativeBasisPursuitLinf": ("interval", True, "eps"),
    "IntervalBasisPursuit": ("interval", True, ""), "ActivatedLasso": ("curved", True, "lam"),
}  # fmt: skip
ACTIVATIONS = {"identity": 0, "relu": 0, "leaky_relu": 1, "tanh": 0, "sigmoid": 0, "plu": 2}  # and how many numbers
MOST_BYTES, MOST_LISTS, MOST_ENTRIES = 1 << 28, 500, 1 << 22  # of a file, of lists and objects in it, of what they hold
MOST_BITS, MOST_WORK = 1 << 32, 1 << 32  # of the integers of an array; products of short integers, about ten minutes
LARGEST_PROOF = 300  # unknowns up to which sigma is proved
PRIME, BITS, FINE = (1 << 61) - 1, 256, 320  # of ranks; of roots and quotients; behind the point of tanh and sigmoid
ZERO, ONE, NONE, BEYOND = Fraction(0), Fraction(1), Fraction(1, 10**10), Fraction(1 << 2000)
Numbers = Any  # a sequence of float or Fraction


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
        if not os.path.isfile(path):
            raise ValueError("no such file")
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES or raw.count(b"[") + raw.count(b"{") > MOST_LISTS or raw.count(b",") > MOST_ENTRIES:
            raise ValueError(f"more than {MOST_BYTES} bytes, {MOST_LISTS} lists or {MOST_ENTRIES} entries")
        data = json.loads(raw, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedError(f"expected a file of JSON, got {_short(error)}") from None
    if not isinstance(data, dict) or data.get("format") != "cvxinv certificate" or data.get("version") != 1:
        raise RefusedError('expected "format": "cvxinv certificate" and "version": 1, got another file')
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in (*KINDS, "Inversion"):
        raise RefusedError(f"expected kind as Inversion or a layer problem, got {_short(kind)}")
    return _inversion(data) if kind == "Inversion" else _layer(data)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _short(value: object) -> str:
    return ascii(str(value)[:80] if isinstance(value, str | int | float | Exception) else type(value).__name__)


class _Entries:
    """The entries of an object of the file, checked as they are asked for; `keys` are all that it may have."""

    def __init__(self, data: Any, keys: str) -> None:
        if not isinstance(data, dict) or set(data) != set(keys.split()):
            raise RefusedError(f"expected exactly the keys {keys}, got others")
        self.data = data

    def each(self, key: str, count: int | None, fits: Callable[[Any], bool]) -> list[Any]:
        value = self.data[key]
        if not isinstance(value, list) or not value or len(value) != (count or len(value)) or not all(map(fits, value)):
            raise RefusedError(f"expected {key} as a list of {count} as in docs/checking.md, got another")
        return value

    def sizes(self, count: int) -> list[int]:
        return self.each("shape", count, lambda k: type(k) is int and 0 < k < 1 << 24)

    def floats(self, key: str, *counts: int, fits: Callable[[float], bool] = isfinite) -> Numbers:
        """float64, as base64 of little-endian bytes or a list of numbers and hexadecimal strings."""
        value, numbers = self.data[key], array("d")
        try:
            if isinstance(value, str):
                numbers.frombytes(base64.b64decode(value, validate=True))
                numbers.byteswap() if sys.byteorder == "big" else None
            else:
                numbers.extend(float.fromhex(x[:40]) if isinstance(x, str) else float(x) for x in value)
        except (ValueError, TypeError, OverflowError):
            numbers = array("d")
        if len(numbers) not in counts or not all(map(fits, numbers)):
            raise RefusedError(f"expected {key} as {counts[-1]} finite float64, base64 or a list, got something else")
        return numbers


# --- exact arithmetic -----------------------------------------------------------------------------


def _grid(values: Numbers) -> tuple[list[int], int, int]:
    """Integers k and E with values[i] = k[i] / 2^E, and the binary digits of the longest."""
    pairs = [x.as_integer_ratio() for x in values]
    E = max(q.bit_length() for _, q in pairs) - 1
    bits = E + max(p.bit_length() - q.bit_length() + 1 for p, q in pairs)
    if bits * len(pairs) > MOST_BITS:
        raise RefusedError(f"expected numbers of similar size, got {len(pairs)} that need {bits} binary digits each")
    return [p << (E - q.bit_length() + 1) for p, q in pairs], E, bits


def _root(x: Fraction, up: bool = False) -> Fraction:
    """The root of x >= 0, from below or above."""
    p, q = x.numerator, x.denominator
    k = max(0, BITS - (p.bit_length() - q.bit_length()) // 2)
    r = isqrt((p << 2 * k) // q)
    return Fraction(r + (up and r * r * q != p << 2 * k), 1 << k)


def _above(x: Fraction) -> Fraction:
    """x >= 0 rounded up where it is a true quotient, so that sums stay short."""
    p, q = x.numerator, x.denominator
    k = max(0, BITS + q.bit_length() - p.bit_length())
    return Fraction(-(-(p << k) // q), 1 << k) if q & (q - 1) else x


def _length(x: Numbers, up: bool = False) -> Fraction:
    return _root(sum((Fraction(t) ** 2 for t in x), ZERO), up)


def _say(x: Fraction) -> str:
    size = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return f"{float(x):.3g}" if abs(size) < 1000 or not x else f"{'-' if x < 0 else ''}2^{size}"


class _Matrix:
    """A matrix of integers over 2^E; `left` is the work that its products may still take."""

    def __init__(self, values: Numbers, m: int, n: int) -> None:
        k, self.E, self.bits = _grid(values)
        self.rows, self.left = [k[i * n : (i + 1) * n] for i in range(m)], MOST_WORK
        self.columns = list(zip(*self.rows, strict=True))
        self.lengths = [_root(Fraction(sum(map(mul, row, row)), 1 << 2 * self.E)) for row in self.rows]  # from below

    def spend(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise RefusedError("expected what takes minutes, got more; export fewer signals to a file")

    def times(self, x: Numbers, adjoint: bool = False) -> list[Fraction]:
        """W x, or W'x."""
        (k, E, bits), vectors = _grid(x), self.columns if adjoint else self.rows
        self.spend(len(vectors) * (len(k) + 200) * (1 + (self.bits * bits >> 13)))
        return [Fraction(sum(map(mul, vector, k)), 1 << self.E + E) for vector in vectors]


# --- layers ---------------------------------------------------------------------------------------


def _layer(data: dict[str, Any]) -> list[Verdict]:
    name = KINDS[data["kind"]][2]
    own = f"y weight {name}" if name else "lo hi"
    file = _Entries(data, f"format version kind shape tol status scope rows W b h p {own}")
    N, m, n = file.sizes(3)
    W, tol = _Matrix(file.floats("W", m * n), m, n), file.each("tol", 1, lambda x: type(x) is float and 0 < x < 1)[0]
    all_: dict[str, Any] = {
        key: file.floats(key, N * m, fits=isfinite if name else lambda x: x == x) for key in own.split()[:2]
    }
    all_ |= {key: file.floats(key, N * k, fits=lambda x: True) for key, k in (("h", n), ("p", m))}
    all_ |= {
        "b": file.floats("b", m, N * m),
        "penalty": file.floats(name, N, fits=lambda x: 0 <= x < inf) if name else [0.0] * N,
    }
    all_["status"] = file.each("status", N, lambda x: type(x) is str)
    all_["scope"] = file.each("scope", N, lambda x: x is None or (type(x) is float and 0 <= x < inf))
    all_["rows"] = file.each("rows", N, lambda x: type(x) is str and len(x) == m and not x.strip("+-."))
    signals = [
        {k: x if k == "b" and len(x) == m else x[i * (len(x) // N) :][: len(x) // N] for k, x in all_.items()}
        for i in range(N)
    ]
    return [Verdict(i, one["status"][0], *_judge(W, one, Fraction(tol), data["kind"])) for i, one in enumerate(signals)]


def _judge(W: _Matrix, one: dict[str, Any], tol: Fraction, kind: str) -> tuple[bool, str]:
    status = one["status"][0]
    if status in ("user_limit", "numerical_error"):
        return True, "claims nothing"
    if KINDS[kind][0] == "curved" or status not in ("optimal", "optimal_inaccurate", "infeasible"):
        return False, f"{_short(status)} of {kind} is a claim that is not decided here"
    if not all(map(isfinite, [*one["h"], *one["p"]])):
        return False, "h or p is not finite"
    if any(mark == "+" and w <= 0 for mark, w in zip(one["rows"][0], one.get("weight", ()), strict=False)):
        return False, "an on row has a weight <= 0"
    signal = _Signal(W, one, tol, kind)
    return signal.infeasible() if status == "infeasible" else signal.optimal(1 if status == "optimal" else 1000)


class _Signal:
    """One signal of a layer, exact: rows that are fitted and rows with limits, and what the inequalities are made of."""

    def __init__(self, W: _Matrix, one: dict[str, Any], tol: Fraction, kind: str) -> None:
        self.W, self.h, self.tol, self.R = W, [Fraction(x) for x in one["h"]], tol, one["scope"][0]
        (self.form, self.nonnegative, self.name), marks = KINDS[kind], one["rows"][0]
        self.penalty = Fraction(one["penalty"][0])
        on = [r for r, mark in enumerate(marks) if mark == "+"]
        off = [r for r, mark in enumerate(marks) if mark == "-" and kind != "Lasso"]
        self.b = {r: Fraction(one["b"][r]) for r in on + off}
        self.w, y = ({r: Fraction(one[key][r]) for r in on if self.name} for key in ("weight", "y"))
        self.fit = on if self.form != "interval" else []
        self.ends = {r: self._ends(r, marks[r], y, one) for r in off + on if r not in self.w or not self.fit}
        self.y = {r: y[r] if self.name else self._middle(r) for r in on}
        self.v = {r: x + self.b[r] for r, x in enumerate(W.times(self.h)) if r in self.b}
        self.excess = {}
        for r, ((lo, hi), _) in self.ends.items():
            if hi is not None and self.v[r] > hi:
                self.excess[r] = self.v[r] - hi, hi
            elif lo is not None and self.v[r] < lo:
                self.excess[r] = lo - self.v[r], lo
        p, ray = one["p"], one["status"][0] == "infeasible" and self.form == "squared"
        signed = {r: p[r] if (lo is not None or p[r] > 0) and (hi is not None or p[r] < 0) else 0.0
                  for r, (_, (lo, hi)) in self.ends.items()}  # fmt: skip
        self.p = {r: Fraction(x) for r, x in (signed | {r: p[r] for r in self.fit if not ray}).items()}
        self.slope = W.times([self.p.get(r, ZERO) for r in range(len(p))], adjoint=True)
        limit = {r: self.y[r] if r in self.fit else self.ends[r][1][x > 0] for r, x in self.p.items() if x}
        self.linear = sum((self.p[r] * (self.b[r] - end) for r, end in limit.items()), ZERO)
        self.square = sum((_above(self.p[r] ** 2 / self.w[r]) for r in self.fit if r in limit), ZERO)
        self.misfit = sum((self.w[r] * (self.v[r] - self.y[r]) ** 2 for r in self.fit), ZERO)
        self.beyond = max(ZERO, _root(self.misfit, True) - self.penalty) if self.form == "ball" else ZERO
        data = [self.y[r] - self.b[r] for r in on]
        self.data = data if any(data) else [max(ZERO, self.b[r]) for r in off]  # s_y is its length

    def _ends(self, r: int, mark: str, y: dict[int, Fraction], one: dict[str, Any]) -> Any:
        """Limits (lo, hi) of row r, None where open: from the inside, for excesses, and from the outside, for (D)."""
        if self.form != "interval" or (self.name and mark == "-"):
            return ((None, self.penalty if self.form == "interval" else ZERO),) * 2
        if self.name:
            inner, outer = (_root(self.penalty**2 / self.w[r], up) for up in (False, True))
            return (y[r] - inner, y[r] + inner), (y[r] - outer, y[r] + outer)
        lo, hi = one["lo"][r] if mark == "+" else -inf, one["hi"][r]
        if lo == inf or hi == -inf:
            return ((BEYOND, -BEYOND),) * 2
        return ((Fraction(lo) if isfinite(lo) else None, Fraction(hi) if isfinite(hi) else None),) * 2

    def _middle(self, r: int) -> Fraction:
        """What stands for y where a row has an interval: its middle, or the end that b breaks."""
        lo, hi = self.ends[r][0]
        if lo is not None and hi is not None:
            return (lo + hi) / 2
        return max(self.b[r], lo) if lo is not None else self.b[r] if hi is None else min(self.b[r], hi)

    def optimal(self, times: int) -> tuple[bool, str]:
        size, s_y, tol = _length(self.h), _length(self.data), times * self.tol
        for r, (v, limit) in self.excess.items():
            allowed = tol * min(s_y, self.W.lengths[r] * size + abs(self.b[r]) + abs(limit))
            if v > allowed:
                return False, f"(a) row {r}: W h + b is {_say(v)} beyond its limit, allowed {_say(allowed)}"
        below, most = max(map(lambda x: -x, self.h)), max(map(abs, self.h))
        if self.nonnegative and below > tol * most:
            return False, f"(a) entry {self.h.index(-below)} of h is {_say(-below)}, allowed {_say(-tol * most)}"
        allowed = tol * self.penalty + times * NONE * s_y
        if self.beyond > allowed:
            return False, f"(a) the misfit is {_say(self.beyond)} above eps, allowed {_say(allowed)}"
        if self.R is not None and _length(self.h) > Fraction(self.R):
            return False, f"h is {_say(size)} long, the scope {self.R:.3g}"
        f, g = self._objective()
        floor = (NONE * s_y) ** 2 / 2 if self.form == "squared" else self.tol * NONE * s_y / (max(self.W.lengths) or 1)
        allowed, found = times * max(self.tol * abs(f), floor), []
        for name, bound, worth in self._bounds(f, g):
            found.append((f - bound + worth, worth, name))
            if worth <= allowed and f - bound + worth <= allowed:
                return True, f"objective {_say(f)}, gap {_say(found[-1][0])} ({name}), allowed {_say(allowed)}"
        gap, worth, name = min(found)
        if gap <= allowed:
            return False, f"(b) the excesses are worth {_say(worth)} of the objective, allowed {_say(allowed)}"
        return False, f"(c) objective {_say(f)}, the best bound ({name}) is {_say(gap)} below it, allowed {_say(allowed)}"

    def _objective(self) -> tuple[Fraction, Fraction]:
        """f(h), and gamma."""
        if self.name == "gamma":
            return (self.misfit + self.penalty * sum(x * x for x in self.h)) / 2, self.penalty
        signed = self.nonnegative and self.form == "squared"
        length = sum(self.h if signed else map(abs, self.h), ZERO)
        return (self.misfit / 2 + self.penalty * length if self.form == "squared" else length), ZERO

    def _worth(self, s: Fraction, lam: Fraction) -> Fraction:
        """What the excesses of h are worth to s p."""
        broken = sum((abs(self.p[r]) * v for r, (v, _) in self.excess.items()), ZERO)
        broken += self.beyond * _root(self.square, True) if self.beyond else 0
        below = [(a, -x) for a, x in zip(self.slope, self.h, strict=True) if x < 0 and self.nonnegative]
        return s * broken + sum((max(s * a + lam, ZERO) * u for a, u in below), ZERO)

    def _bounds(self, f: Fraction, gamma: Fraction) -> Iterator[tuple[str, Fraction, Fraction]]:
        """Bounds on f that p proves, and what the excesses are worth to them; the costly one last."""
        lam = self.penalty if self.name == "lam" else ZERO if self.form == "squared" else ONE
        yield "of p = 0", ZERO, self._worth(ZERO, lam)
        steep = max((-x if self.nonnegative else abs(x)) for x in self.slope)
        if self.form != "squared":
            value = self.linear - self.penalty * _root(self.square, True) if self.form == "ball" else self.linear
            s = 1 / steep if steep > 0 and value > 0 else ZERO
            yield "of p scaled", s * value, self._worth(s, lam)
            return
        if self.name == "lam" and (self.square or steep > 0):
            top = lam / steep if steep > 0 else self.linear / self.square
            s = max(ZERO, min(top, self.linear / self.square if self.square else top))
            yield "of p scaled", s * self.linear - s * s * self.square / 2, self._worth(s, lam)
        D, worth = self.linear - self.square / 2 - gamma / 2 * sum(x * x for x in self.h), self._worth(ONE, lam)
        d = [a + gamma * x if self.name == "gamma" else min(a + lam, ZERO) if self.nonnegative else a - max(min(a, lam), -lam)
             for a, x in zip(self.slope, self.h, strict=True)]  # fmt: skip
        slip = sum(map(mul, d, self.h), ZERO)
        if gamma or not any(d):
            yield "of p", D + slip - (sum(x * x for x in d) / (2 * gamma) if gamma else 0), worth
        if self.R is not None:
            yield "of p in its scope", D - _length(d, True) * Fraction(self.R), worth
        lost = self._reach(d, f)
        if lost is not None:
            yield "of p, everywhere", D + slip - lost, worth

    def _reach(self, d: list[Fraction], f: Fraction) -> Fraction | None:
        """At least what d'(z - h) may be for a z that is better than h; None where no sigma > 0 was proved."""
        n, (k, E, _) = len(d), _grid([self.w[r] for r in self.fit] or [ONE])
        if n > LARGEST_PROOF or len(self.fit) < n:
            return None
        self.W.spend(n * n * (len(k) + n))
        columns = list(zip(*(self.W.rows[r] for r in self.fit), strict=True))
        weighted = [list(map(mul, column, k)) for column in columns]
        G = [[sum(map(mul, weighted[a], columns[b])) for b in range(a + 1)] for a in range(n)]
        S = [(G[a][a].bit_length() + 1) // 2 for a in range(n)]
        G = [[(x << 120) >> (S[a] + S[b]) for b, x in enumerate(row)] for a, row in enumerate(G)]  # off by less than 2^-120
        tau = Fraction(1)
        while tau > NONE**2:
            tau /= 4
            L = _cholesky([[x / (1 << 120) for x in row] for row in G], float(tau))
            if L:
                exact = [[int(x * 2.0**60) for x in row] for row in L]
                E_ = sum((1 + (a != b)) * (1 + abs(x - (tau * (1 << 120) if a == b else 0) - sum(map(mul, exact[a], exact[b])))) ** 2
                         for a, row in enumerate(G) for b, x in enumerate(row))  # fmt: skip
                low = tau - _root(Fraction(E_), True) / (1 << 120)
                rho = _root(2 * max(f, ZERO), True) + _root(self.misfit, True)
                scaled = sum((x * x / 4**s for x, s in zip(d, S, strict=True)), ZERO)
                return None if low <= 0 else rho * _root(scaled * Fraction(2) ** (2 * self.W.E + E) / low, True)
        return None

    def infeasible(self) -> tuple[bool, str]:
        slack = self.tol * _length(self.data, True)
        for r, ((lo, hi), _) in self.ends.items():
            if lo is not None and hi is not None and lo - hi > 2 * slack:
                return True, f"row {r} asks for a number between {_say(lo)} and {_say(hi)}, and there is none"
        value = self.linear - slack * sum((abs(self.p[r]) for r in self.ends), ZERO)
        value -= (self.penalty + slack) * _root(self.square, True) if self.form == "ball" else 0
        d = _length([min(a, ZERO) if self.nonnegative else a for a in self.slope], True)
        lost = d * Fraction(self.R) if self.R is not None else ZERO
        words = f"p is worth {_say(value)} with every limit {_say(slack)} wider"
        if d and self.R is None:
            return False, f"{words}, but moves h at a slope of {_say(d)}, and no scope is stated"
        return value > lost, f"{words}, and loses {_say(lost)} in the scope"


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


# --- inversions -----------------------------------------------------------------------------------


def _inversion(data: dict[str, Any]) -> list[Verdict]:
    file = _Entries(data, "format version kind shape layers A seen y z noise bound born status determined")
    N, n0, d, k = file.sizes(4)
    chain = [_Step(entry) for entry in file.each("layers", None, lambda x: isinstance(x, dict))]
    sizes = [n0, *(len(step.W.rows) for step in chain)]
    if sizes[:-1] != [len(step.W.columns) for step in chain] or sizes[-1] != d or (data["A"] is None and k != d):
        raise RefusedError(f"expected layers from {n0} to {d} numbers whose sizes meet, and {k} measured, got others")
    A = None if data["A"] is None else _Matrix(file.floats("A", k * d), k, d)
    seen = file.each("seen", N, lambda x: type(x) is str and len(x) == k)
    y, z, bound = (file.floats(key, N * size, fits=lambda x: True) for key, size in (("y", k), ("z", n0), ("bound", 1)))
    if data["noise"] not in ("", "l2", "linf") or data["born"] not in ("float64", "float32"):
        raise RefusedError("expected noise as l2, linf or nothing and born as float64 or float32, got others")
    exact = Fraction(1, 10**8 if data["born"] == "float64" else 10**6)
    claims = file.each("status", N, lambda x: type(x) is str), file.each("determined", N, lambda x: type(x) is bool)
    verdicts = []
    for i, (status, determined) in enumerate(zip(*claims, strict=True)):
        words = ["explained"] * (status == "explained") + ["determined"] * determined
        verdicts += [] if words else [Verdict(i, status, True, "claims nothing that is checked here")]
        target = {r: y[i * k + r] for r in range(k) if seen[i][r] == "+"}
        if words and not all(map(isfinite, [bound[i], *z[i * n0 : (i + 1) * n0], *target.values()])):
            verdicts += [Verdict(i, word, False, "z, y or the bound is not finite") for word in words]
        elif words:
            values, x, off = _forward(chain, z[i * n0 : (i + 1) * n0])
            if "explained" in words:
                limit = Fraction(bound[i]) if data["noise"] else exact
                verdicts.append(Verdict(i, "explained", *_explained(A, x, off, target, data["noise"], limit)))
            if determined:
                verdicts.append(Verdict(i, "determined", *_determined(chain, values, A, list(target), n0)))
    return verdicts


class _Step:
    """A layer of the generator: activation(W h + b)."""

    def __init__(self, entry: dict[str, Any]) -> None:
        file = _Entries(entry, "shape activation numbers W b")
        m, n = file.sizes(2)
        self.name = entry["activation"]
        if not isinstance(self.name, str) or self.name not in ACTIVATIONS:
            raise RefusedError(f"expected an activation among {', '.join(ACTIVATIONS)}, got {_short(self.name)}")
        self.numbers = [Fraction(x) for x in file.floats("numbers", ACTIVATIONS[self.name], fits=lambda x: 0 < x < inf)]
        self.W, self.b = _Matrix(file.floats("W", m * n), m, n), [Fraction(x) for x in file.floats("b", m)]

    def slope(self, u: Fraction) -> Fraction | None:
        """The activation's derivative at u (1 for tanh and sigmoid, whose is only known to be positive), None at a kink."""
        if self.name in ("relu", "leaky_relu"):
            return ONE if u > 0 else None if u == 0 else [*self.numbers, ZERO][0]
        return self.numbers[0] if self.name == "plu" and abs(u) > self.numbers[1] else ONE

    def __call__(self, u: Fraction) -> Fraction:
        if self.name == "plu":
            a, c = self.numbers
            return max(a * (u + c) - c, min(a * (u - c) + c, u))
        if self.name not in ("tanh", "sigmoid"):
            return u if u > 0 or self.name == "identity" else u * [*self.numbers, ZERO][0]
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


def _forward(chain: list[_Step], h: Numbers) -> tuple[list[list[Fraction]], Numbers, Fraction]:
    """W h + b of every layer, the signal, and how far off its entries may be."""
    values = []
    for step in chain:
        values.append([x + c for x, c in zip(step.W.times(h), step.b, strict=True)])
        h = list(map(step, values[-1]))
    return values, h, Fraction(1, 1 << FINE - 32) if chain[-1].name in ("tanh", "sigmoid") else ZERO


def _explained(
    A: _Matrix | None, x: Numbers, off: Fraction, y: dict[int, float], noise: str, limit: Fraction
) -> tuple[bool, str]:
    """Whether |A x - y| is within the limit, relative to |y| without noise; with it, its rounding is allowed."""
    size, target = _length(y.values()), {r: Fraction(t) for r, t in y.items()}
    limit = limit * (1 + Fraction(1, 10**9)) + size / 10**12 if noise else limit * size
    r = [(x[k] if A is None else ZERO) - t for k, t in target.items()]
    if A is not None:
        seen, off = A.times(x), off * max(sum(map(abs, row)) for row in A.rows) / (1 << A.E)
        r = [seen[k] - t for k, t in target.items()]
    off = off * len(r)  # of the length of r, or of an entry
    found, least = (max(map(abs, r)),) * 2 if noise == "linf" else (_length(r, True), _length(r))
    words = f"misfit {_say(found)}, allowed {_say(limit)}"
    return found + off <= limit, words if found + off <= limit or least - off > limit else f"undecided: {words}"


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
    back = [([[x % PRIME for x in column] for column in step.W.columns], f) for step, f in zip(chain, factors, strict=True)]
    pivots: list[tuple[int, list[int]]] = []
    for r in rows:
        v = [int(c == r) for c in range(len(values[-1]))] if A is None else A.rows[r]
        chain[0].W.spend(n0 * n0 + sum(len(W) * len(f) for W, f in back))
        for W, f in reversed(back):
            v = [x * y % PRIME for x, y in zip(v, f, strict=True)]
            v = [sum(map(mul, column, v)) % PRIME for column in W]
        for c, pivot in pivots:
            v = [(x - v[c] * y) % PRIME for x, y in zip(v, pivot, strict=True)] if v[c] else v
        c = next((c for c, x in enumerate(v) if x), -1)
        if c >= 0:
            pivots.append((c, [x * pow(v[c], -1, PRIME) % PRIME for x in v]))
        if len(pivots) == n0:
            return True, f"rank {n0}, full"
    return False, f"rank {len(pivots)} modulo 2^61 - 1 of {n0} columns"


def main(paths: list[str]) -> int:
    """Check files, print a line for each and for each claim that fails, and return the exit code."""
    code = 0
    for path in paths:
        try:
            verdicts = check_file(path)
        except RefusedError as error:
            code = 2
            print(f"{path}: refused: {error}")
            continue
        failed = [v for v in verdicts if not v.accepted]
        code = max(code, 1 if failed else 0)
        print(f"{path}: {len(verdicts) - len(failed)} of {len(verdicts)} claims accepted")
        for v in failed:
            print(f"  signal {v.signal}, {v.claim}: {v.words}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else "usage: python check.py FILE...")
