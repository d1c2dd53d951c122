"""Layer problems in exact arithmetic: floats are integers times powers of two, so what a point is worth is decided.

Nothing of cvxinv computes here: a problem's numbers are read off, and (P) and (D) are evaluated from their equations.
Square roots, which lengths need, are enclosed between two rationals that agree in 60 digits.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, isqrt

import numpy as np
import torch

import cvxinv as ci

TOL = Fraction(1e-6)  # the judge's
_BITS = 400  # of what a square root is taken of


# --- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Exact:
    """An array of integers `k` times one positive rational `unit`."""

    k: np.ndarray
    unit: Fraction

    def __add__(self, other: "Exact") -> "Exact":
        if self.unit == other.unit:
            return Exact(self.k + other.k, self.unit)
        ratio = self.unit / other.unit
        return Exact(self.k * ratio.numerator + other.k * ratio.denominator, other.unit / ratio.denominator)

    def __sub__(self, other: "Exact") -> "Exact":
        return self + Exact(-other.k, other.unit)

    def __mul__(self, other: "Exact") -> "Exact":
        return Exact(self.k * other.k, self.unit * other.unit)

    def __matmul__(self, other: "Exact") -> "Exact":
        return Exact(np.asarray(self.k @ other.k, dtype=object), self.unit * other.unit)

    def __abs__(self) -> "Exact":
        return Exact(abs(self.k), self.unit)

    def __getitem__(self, index) -> "Exact":
        return Exact(np.asarray(self.k[index], dtype=object), self.unit)

    def where(self, mask: np.ndarray) -> "Exact":
        return Exact(np.where(mask, self.k, 0), self.unit)

    @property
    def T(self) -> "Exact":
        return Exact(self.k.T, self.unit)

    def total(self) -> Fraction:
        return int(self.k.sum()) * self.unit if self.k.size else Fraction(0)

    def square(self) -> Fraction:
        return (self * self).total()

    def fraction(self, *index: int) -> Fraction:
        return int(self.k[index]) * self.unit

    def largest(self) -> Fraction:
        return int(self.k.max()) * self.unit if self.k.size else Fraction(0)

    def floats(self) -> np.ndarray:
        """The nearest floats."""
        return np.array([float(int(k) * self.unit) for k in self.k.flat]).reshape(self.k.shape)


def exact(values) -> Exact:
    """Finite floats as they are."""
    array = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, dtype=float)
    mantissa, power = np.frexp(array)
    power = power.astype(int) - 53
    low = int(power[array != 0].min()) if (array != 0).any() else 0
    k = (mantissa * 2.0**53).astype(np.int64).astype(object)
    return Exact(k * np.where(array != 0, 2 ** (power - low).clip(0).astype(object), 0), Fraction(2) ** low)


def rational(values: list[Fraction]) -> Exact:
    """Rationals over their common denominator."""
    common = 1
    for v in values:
        common = common * v.denominator // np.gcd(common, v.denominator, dtype=object)
    return Exact(np.array([v.numerator * (common // v.denominator) for v in values], dtype=object), Fraction(1, common))


def root(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two rationals around the square root of x >= 0, equal where it is rational with few digits."""
    if x == 0:
        return Fraction(0), Fraction(0)
    shift = max(0, (_BITS - x.numerator.bit_length() + x.denominator.bit_length()) // 2 + 1)
    if x.denominator & (x.denominator - 1) == 0:  # of a dyadic number also the root is found exactly, where it is one
        shift = max(shift, x.denominator.bit_length() // 2 + 1)
    whole, rest = divmod(x.numerator << (2 * shift), x.denominator)
    low = isqrt(whole)
    same = rest == 0 and low * low == whole
    return Fraction(low, 1 << shift), Fraction(low if same else low + 1, 1 << shift)


def solve_rational(M: Exact, rhs: Exact) -> Exact | None:
    """One solution of M x = rhs, with 0 in the unknowns that are free, or None where there is none (Bareiss)."""
    A = np.concatenate([M.k, rhs.k[:, None]], 1).copy()
    rows, columns = M.k.shape
    pivots, previous, r = [], 1, 0
    for c in range(columns):
        found = next((i for i in range(r, rows) if A[i, c] != 0), None)
        if found is None:
            continue
        A[[r, found]] = A[[found, r]]
        pivot = A[r, c]
        others = np.arange(rows) != r
        A[others] = (A[others] * pivot - A[others, c : c + 1] * A[r]) // previous
        previous, r = pivot, r + 1
        pivots.append(c)
    if any(A[i, -1] != 0 for i in range(r, rows)):
        return None
    x = np.zeros(columns, dtype=object)
    sign = -1 if previous < 0 else 1
    x[pivots] = A[:r, -1] * sign
    return Exact(x, rhs.unit / M.unit / (previous * sign))


# --- problems -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weighed:
    """What one h is, exactly: objective, and the excess over each limit that it breaks, beside that row's own size.

    excess: row -> (excess, size t of what is added up there); ball: excess over the l2 bound; below: the most negative
    entry of h where h >= 0 is asked, as a positive number; doubt: what float64 may lose of the objective; doubts: the same
    of an excess per unit of t.
    """

    objective: Fraction
    excess: dict[int, tuple[Fraction, Fraction]]
    ball: Fraction
    below: Fraction
    top: Fraction
    length2: Fraction
    doubt: Fraction
    ball_doubt: Fraction

    def worst_but(self, dropped: set[int]) -> Fraction:
        """The largest violation, without the rows that are no limits."""
        return max(self.ball, self.below, Fraction(0), *(v for r, (v, _) in self.excess.items() if r not in dropped))


class ExactProblem:
    """The numbers of a convex layer problem, exactly."""

    def __init__(self, problem: ci.AbstractLayerProblem):
        problem = problem.to(torch.float64, "cpu")
        rows = problem.rows
        self.form, self.nonnegative, self.absolute = problem.form, problem.nonnegative, problem.absolute
        self.W = exact(rows.W.matrix())
        self.b, self.y = exact(rows.b.expand_as(rows.y)), exact(rows.y)
        self.on, self.off = rows.on.numpy(), rows.off.numpy()
        weight = torch.where(rows.on, rows.weight, torch.ones_like(rows.y))
        self.weight = exact(weight)
        self.float_weight = weight.numpy()
        self.linear = self.quadratic = self.eps = exact(np.zeros(problem.N))
        if hasattr(problem, "lam"):
            self.linear = exact(problem.lam)
        elif hasattr(problem, "gamma"):
            self.quadratic = exact(problem.gamma)
        else:
            self.linear = exact(np.ones(problem.N))
        if hasattr(problem, "eps"):
            self.eps = exact(problem.eps)
        self.lo, self.hi, self.open_below, self.open_above = self._limits(problem)
        self.row_lengths2 = (self.W * self.W).k.sum(1) * self.W.unit.numerator**2
        self.row_unit = Fraction(1, self.W.unit.denominator**2)
        self.dead = self.row_lengths2 == 0
        self.absolute_W = np.abs(rows.W.matrix().numpy())
        self.norm = float(np.linalg.norm(rows.W.matrix().numpy(), 2)) or 1.0
        self.scales = [self._scale(i) for i in range(problem.N)]

    def _limits(self, problem) -> tuple[Exact, Exact, np.ndarray, np.ndarray]:
        """The lowest and highest value of each row, and where there is none; an l_inf bound is y -+ eps / w^(1/2)."""
        on, off, zero = self.on, self.off, exact(np.zeros(self.on.shape))
        if self.form != "interval":
            return zero, zero, np.ones_like(on), ~off
        if isinstance(problem, ci.IntervalBasisPursuit):
            lo, hi = problem.lo.numpy(), problem.hi.numpy()
            below, above = ~(on & np.isfinite(lo)), ~((on | off) & np.isfinite(hi))
            return exact(np.where(below, 0.0, lo)), exact(np.where(above, 0.0, hi)), below, above
        width = self.eps[:, None] * exact(1 / np.sqrt(self.float_weight))
        width = Exact(np.broadcast_to(width.k, on.shape), width.unit)
        hi = (self.y + width).where(on) + Exact(np.broadcast_to(self.eps.k[:, None], on.shape), self.eps.unit).where(off)
        return (self.y - width).where(on), hi, ~on, ~(on | off)

    def _scale(self, i: int) -> tuple[Fraction, Fraction]:
        """s_y between two rationals."""
        square = (self.y[i] - self.b[i]).where(self.on[i]).square()
        if square == 0:
            square = self.b[i].where(self.off[i] & (self.b[i].k > 0)).square()
        return root(square)

    def _row_size(self, i: int, row: int, length: Fraction, limit: Fraction) -> Fraction:
        reach = root(int(self.row_lengths2[row]) * self.row_unit)[1] * length
        return reach + abs(self.b.fraction(i, row)) + abs(limit)

    def size(self, i: int, row: int, weighed: Weighed) -> Fraction:
        """What is added up in a row at that h, with the larger of its two limits."""
        ends = [abs(end.fraction(i, row)) for end in (self.lo, self.hi)]
        return self._row_size(i, row, root(weighed.length2)[1], max(ends))

    def weigh(self, i: int, h: np.ndarray | Exact) -> Weighed:
        h = h if isinstance(h, Exact) else exact(h)
        v, length2 = self.W @ h + self.b[i], h.square()
        length, u = root(length2)[1], 2.0**-52 * (len(h.k) + 8)
        excess = {}
        above, below = v - self.hi[i], self.lo[i] - v
        for over, limit, none in ((above, self.hi, self.open_above), (below, self.lo, self.open_below)):
            for row in np.flatnonzero((over.k > 0) & ~none[i]):
                size = self._row_size(i, row, length, limit.fraction(i, row))
                excess[int(row)] = max(excess.get(int(row), (0, 0)), (over.fraction(row), size))
        objective, doubt, ball, ball_doubt = (Fraction(0),) * 4
        if self.form != "interval":
            r = (v - self.y[i]).where(self.on[i])
            misfit2 = (self.weight[i] * r * r).total()
            with np.errstate(over="ignore"):
                size = self.absolute_W @ np.abs(h.floats()) + np.abs((self.b[i]).floats()) + np.abs(self.y[i].floats())
            lost = rational([Fraction(min(float(s), 1e300)) for s in size]) * exact([u])  # of each residual
            lost = lost.where(self.on[i])
            if self.form == "ball":
                ball = max(root(misfit2)[0] - self.eps.fraction(i), Fraction(0))
                ball_doubt = root((self.weight[i] * lost * lost).total())[1] + Fraction(u) * root(misfit2)[1]
            else:
                objective = misfit2 / 2
                doubt = (self.weight[i] * (abs(r) * lost + lost * lost)).total() + Fraction(u) * objective
        linear = (abs(h) if self.absolute or self.form != "quadratic" else h).total() * self.linear.fraction(i)
        objective += linear + length2 * self.quadratic.fraction(i) / 2
        doubt += Fraction(u) * (abs(h).total() * self.linear.fraction(i) + length2 * self.quadratic.fraction(i))
        negative = max((-int(k) for k in h.k), default=0) if self.nonnegative else 0
        return Weighed(
            objective, excess, ball, max(negative, 0) * h.unit, abs(h).largest(), length2, doubt, ball_doubt
        )  # fmt: skip

    def dropped(self, i: int, tol: Fraction = TOL) -> set[int]:
        """Rows that no h can move and that are broken by at most tol s_y: these are no limits."""
        at_zero, allowed = self.weigh(i, np.zeros(self.W.k.shape[1])).excess, tol * self.scales[i][0]
        return {r for r, (v, _) in at_zero.items() if self.dead[r] and v <= allowed}

    def bound(self, i: int, p: np.ndarray | Exact) -> Fraction | None:
        """(D) at p if p is feasible for it, exactly (a hair below where a length is irrational); None where it is not."""
        p = p if isinstance(p, Exact) else exact(p)
        on, off = self.on[i], self.off[i]
        if any(p.k[~(on | off)] != 0):
            return None
        slope, lam = self.W.T @ p, self.linear.fraction(i)
        worst = max((abs(k) if self.absolute else -k for k in map(int, slope.k)), default=0) * slope.unit
        gamma = self.quadratic.fraction(i)
        if isinstance(self.quadratic, Exact) and self.form == "quadratic" and not (self.nonnegative or self.absolute):
            if gamma == 0 and any(slope.k != 0):
                return None
        elif worst > lam:
            return None
        if self.form == "interval":
            return self._interval_value(i, p)
        if any(p.k[off] < 0):
            return None
        value = (p * (self.b[i] - self.y[i])).where(on).total() + (p * self.b[i]).where(off).total()
        inverse = exact(1 / self.float_weight[i])
        length2 = (p * p * inverse).where(on).total()
        if self.form == "ball":
            return value - self.eps.fraction(i) * root(length2)[1]
        return value - length2 / 2 - (slope.square() / (2 * gamma) if gamma else 0)

    def _interval_value(self, i: int, p: Exact) -> Fraction | None:
        above, below = p.k > 0, p.k < 0
        if any(above & self.open_above[i]) or any(below & self.open_below[i]):
            return None
        ends = (p * self.hi[i]).where(above).total() + (p * self.lo[i]).where(below).total()
        return (p * self.b[i]).total() - ends

    def apart(self, i: int, p: np.ndarray | Exact) -> Fraction:
        """By how much every h breaks some bound, as the ray p proves it; 0 where it proves nothing."""
        p = p if isinstance(p, Exact) else exact(p)
        on, off = self.on[i], self.off[i]
        both = ~(self.open_below[i] | self.open_above[i])
        empty = (self.lo[i] - self.hi[i]).where(both).largest() / 2
        if empty > 0:  # a row that no number meets
            return empty
        slope = (self.W.T @ p).k
        if any(slope < 0) if self.nonnegative else any(slope != 0):
            return Fraction(0)
        if self.form == "interval":
            value, size = self._interval_value(i, p), abs(p).total()
            return max(value, Fraction(0)) / size if value is not None and size else Fraction(0)
        if any(p.k[off] < 0) or any(p.k[~(on | off)] != 0):
            return Fraction(0)
        value, size = (p * self.b[i]).where(off).total(), p.where(off).total()
        if self.form == "ball":
            length = root((p * p * exact(1 / self.float_weight[i])).where(on).total())[1]
            value += (p * (self.b[i] - self.y[i])).where(on).total() - self.eps.fraction(i) * length
            size += length
        elif any(p.k[on] != 0):
            return Fraction(0)
        return max(value, Fraction(0)) / size if size else Fraction(0)


# --- truth ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """What is known of one signal: lower <= p* <= upper, proved in exact arithmetic; inf twice where no h is feasible.

    length2: |h|^2 of a point with the objective `upper`; worst: the largest violation of a point that is known; apart: by
    how much every h breaks some bound at least. Rows that no h can move, broken by at most tol s_y, are not counted.
    """

    lower: Fraction | float
    upper: Fraction | float
    length2: Fraction | float = inf
    worst: Fraction | float = inf
    apart: Fraction = Fraction(0)

    @property
    def known(self) -> bool:
        """Whether the optimum is attained and known to a millionth of what any judge allows."""
        return self.upper < inf and self.upper - self.lower <= abs(self.upper) * Fraction(1, 10**15)


def proved(problem: ExactProblem, i: int, h: np.ndarray | Exact, p: np.ndarray | Exact) -> Truth:
    """What a pair proves: its objective if it is feasible, and its dual value."""
    weighed, bound = problem.weigh(i, h), problem.bound(i, p)
    worst = weighed.worst_but(problem.dropped(i))
    lower = -inf if bound is None else bound
    return Truth(lower, weighed.objective if worst == 0 else inf, weighed.length2, worst)
