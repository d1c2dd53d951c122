"""Layer problems whose optimum is known exactly, because p and h were drawn first and the data built from the conditions.

In small units W = D V C with integers V and powers of two D (rows) and C (columns), h = C^-1 g, p = 2^a D^-1 q: then
W h = D V g and W'p = 2^a C V'q, and what the optimality conditions ask of V'q is met by one more row of V, with q = +-1.
Signals of a batch share W; each follows one of up to three dual vectors ("modes"), with a row of its own to meet the
conditions. Nothing is rounded: a draw whose numbers are not floats is drawn again. Every pair is then checked by `exact`.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from exact import ExactProblem, Truth, exact, proved, rational, root, solve_rational

import cvxinv as ci

KINDS = {
    "NonnegativeLasso": ci.NonnegativeLasso,
    "Lasso": ci.Lasso,
    "GaussianLatent": ci.GaussianLatent,
    "BasisPursuitL2": ci.BasisPursuitL2,
    "NonnegativeBasisPursuitL2": ci.NonnegativeBasisPursuitL2,
    "BasisPursuitLinf": ci.BasisPursuitLinf,
    "NonnegativeBasisPursuitLinf": ci.NonnegativeBasisPursuitLinf,
    "IntervalBasisPursuit": ci.IntervalBasisPursuit,
}
SCALES = {"none": 0, "moderate": 7, "wild": 40}  # powers of two of rows and columns: 1e-12 to 1e12 at the most
_REACH = 18  # powers of two between what two columns ask of the last row
_CONTRADICTIONS = (0.0, 1e-12, 1e-9, 3e-7, 9e-7, 1.1e-6, 3e-6, 1e-4, 1e-3)  # of s_y; the judge's tolerance is 1e-6


@dataclass(frozen=True, eq=False)
class Drawn:
    """A problem, what is known of each signal, and the pair that was drawn, as float64 arrays (None where there is none)."""

    kind: str
    scales: str
    features: tuple[str, ...]
    problem: ci.AbstractLayerProblem
    truths: list[Truth]
    h: np.ndarray
    p: np.ndarray


class NotExactError(ArithmeticError):
    """A number of the draw is no float."""


def draw(seed: int) -> Drawn:
    """The problem of a seed: kinds in turn, three of four built from their optimum, the others of real numbers."""
    kind = list(KINDS)[seed % len(KINDS)]
    rng = np.random.default_rng([seed, 20260])
    if rng.random() < 0.2 and kind not in ("BasisPursuitL2", "NonnegativeBasisPursuitL2"):
        return real(kind, rng)
    for attempt in range(60):
        try:
            return Draft(kind, rng, tame=attempt > 30).drawn()
        except NotExactError:
            continue
    raise RuntimeError(f"seed {seed}: no draw of {kind} has numbers that are floats")


def floats(values: list | np.ndarray) -> np.ndarray:
    """Rationals as the floats that they are."""
    array = np.asarray(values, dtype=object)
    found = np.array([float(v) for v in array.flat]).reshape(array.shape)
    if any(Fraction(float(f)) != v for f, v in zip(found.flat, array.flat, strict=True)):
        raise NotExactError
    return found


def unit_vector(rng: np.random.Generator, most: int) -> list[Fraction]:
    """Dyadic numbers whose squares sum to 1: 1 is split into four halves, or into (3, 2, 1, 1, 1) / 4, and so on."""
    parts = [Fraction(1)]
    for _ in range(int(rng.integers(0, 4))):
        k, five = int(rng.integers(len(parts))), rng.random() < 0.5
        new = [Fraction(x, 4) for x in (3, 2, 1, 1, 1)] if five else [Fraction(1, 2)] * 4
        if len(parts) - 1 + len(new) <= most:
            parts[k : k + 1] = [parts[k] * x for x in new]
    return [x * int(rng.choice([-1, 1])) for x in parts]


class Draft:
    """One draw; reads from top to bottom: sizes, V, scales, modes with q, the last rows, and the data of each signal."""

    def __init__(self, kind: str, rng: np.random.Generator, tame: bool = False):
        self.kind, self.rng, self.features = kind, rng, []
        cls = KINDS[kind]
        self.form, self.nonnegative, self.absolute = cls.form, cls.nonnegative, cls.absolute
        self.gaussian = kind == "GaussianLatent"
        self.has_off = kind != "Lasso"
        self.n = int(rng.choice([1, 2, 3, 4, 6, 8, 12, 20, 30], p=[0.08, 0.15, 0.15, 0.15, 0.15, 0.12, 0.1, 0.06, 0.04]))
        self.m0 = max(3, int(self.n * rng.uniform(0.4, 3)) + int(rng.integers(1, 4)))
        self.N = int(rng.choice([1, 2, 4, 7, 12], p=[0.2, 0.2, 0.3, 0.2, 0.1]))
        self.modes = int(min(self.N, rng.integers(1, 4)))
        self.scales = str(rng.choice(["none", "moderate", "wild"], p=[0.4, 0.35, 0.25] if not tame else [1, 0, 0]))
        self.size = (
            0 if tame or self.scales == "wild" else int(rng.choice([0, 10, -10, 480, -480], p=[0.7, 0.1, 0.1, 0.05, 0.05]))
        )
        self.strength = "none" if not tame and rng.random() < 0.25 else "some"
        self._matrix()
        self._modes()

    def _flag(self, name: str, chance: float) -> bool:
        if self.rng.random() < chance:
            self.features.append(name)
            return True
        return False

    # --- W --------------------------------------------------------------------------------------------

    def _matrix(self) -> None:
        rng, n, m0 = self.rng, self.n, self.m0
        V = rng.integers(-3, 4, (m0, n)) * (rng.random((m0, n)) < rng.choice([0.3, 0.7, 1.0]))
        V = V.astype(object) * Fraction(1)
        if self._flag("dead row", 0.2):
            V[int(rng.integers(m0))] = Fraction(0)
        if self._flag("twin rows", 0.2) and m0 > 3:
            V[1] = V[0] * int(rng.choice([-1, 1]))
        self.dead_columns: list[int] = []
        if n > 1 and self._flag("twin columns", 0.15):
            V[:, 1] = V[:, 0]
        elif n > 1 and self._flag("opposite columns", 0.12):
            V[:, 1] = -V[:, 0]
        if n > 2 and self._flag("nearly dependent columns", 0.15):
            near = Fraction(1, 2 ** int(rng.integers(20, 38)))
            V[:, 2] = int(rng.choice([-1, 1])) * V[:, 0] + near * rng.integers(-2, 3, m0)
        if n > 1 and self._flag("dead column", 0.1):
            self.dead_columns = [n - 1]
            V[:, n - 1] = Fraction(0)
        top = SCALES[self.scales]
        self.rows = rng.integers(-top, top + 1, m0) * (rng.random(m0) < 0.6)
        self.columns = rng.integers(-top, top + 1, n) * (rng.random(n) < 0.7)
        self.extra = [self._extra()] if self.has_off and self._flag("contradiction", 0.3) else []
        self.V = V

    def _extra(self) -> str:
        """The kind of contradiction that some signals get."""
        choices = ["dead row", "opposite rows"]
        choices += ["empty interval"] if self.kind == "IntervalBasisPursuit" else []
        choices += ["bound too short"] if self.form == "ball" else []
        return str(self.rng.choice(choices))

    # --- the dual side --------------------------------------------------------------------------------

    def _modes(self) -> None:
        """Roles and q of the rows of each mode, the targets of V'q, and the last rows that meet them."""
        rng, m0, n, K = self.rng, self.m0, self.n, self.modes
        center = int(self.columns[int(rng.integers(n))])
        offset = int(rng.choice([0, -3, 4, -14, 14], p=[0.6, 0.1, 0.1, 0.1, 0.1]))
        self.offset, self.center = offset, center
        if self.form == "quadratic":
            self.a = self.size
            self.level = self.a + center + offset  # lam = 2^level
        else:
            self.a, self.level = offset - center, 0
        self.level_gamma = 2 * center + offset
        self.lam = Fraction(0) if self.form == "quadratic" and self.strength == "none" else Fraction(2) ** self.level
        self.gamma = Fraction(0) if self.strength == "none" else Fraction(2) ** self.level_gamma
        self.q = np.full((K, m0 + K), Fraction(0), dtype=object)
        self.role = np.empty((K, m0 + K), dtype="<U6")
        self.weights, self.u = [0] * (m0 + K), {}  # powers of 4
        self._weights()
        self.targets, self.g = [], []
        # h = 0 is feasible, and no multiplier is needed
        self.trivial = {mode for mode in range(K) if self.form != "quadratic" and rng.random() < 0.12}
        for mode in range(K):
            self._rows_of(mode)
            self._columns_of(mode)
        full = np.concatenate([self.V, np.full((K, n), Fraction(0), dtype=object)])
        for mode in range(K):
            if mode in self.trivial:
                full[m0 + mode] = rng.integers(-3, 4, n).astype(object) * Fraction(1)
                continue
            reached = full[:m0].T @ self.q[mode, :m0]
            full[m0 + mode] = (self.targets[mode] - reached) / self.q[mode, m0 + mode]
        self.V, self.rows = full, np.concatenate([self.rows, np.zeros(K, dtype=int)])

    def _weights(self) -> None:
        """Row weights 4^k; on the rows of extreme length they make up for it, where there is one for a misfit."""
        if self.kind == "IntervalBasisPursuit":
            return
        some = self._flag("weights", 0.3)
        for i in range(self.m0):
            if abs(self.rows[i]) > 9 and (self.form == "ball" or self.rng.random() < 0.6) and self.form != "interval":
                self.weights[i] = -int(self.rows[i])
            elif some:
                self.weights[i] = int(self.rng.integers(-2, 3))

    def _rows_of(self, mode: int) -> None:
        rng, m0, last = self.rng, self.m0, self.m0 + mode
        share = rng.choice([0.0, 0.3, 0.6]) if self.has_off else 0.0
        idle = bool(
            rng.random() < 0.1 and self.form == "quadratic" and self.lam == 0 and (not self.gaussian or self.gamma == 0)
        )
        for i in range(m0 + self.modes):
            role = "free" if i >= m0 else str(rng.choice(["off", "on"], p=[share, 1 - share]))
            value = 0
            if i < m0 and rng.random() < 0.75 and not idle:
                wide = abs(int(self.rows[i]) + self.weights[i]) > 9 and role == "on" and self.form == "quadratic"
                value = 0 if wide else int(rng.integers(1, 4)) if role == "off" else int(rng.integers(-3, 4))
            self.q[mode, i] = Fraction(value)
            self.role[mode, i] = role if value or i >= m0 else "free"
        self.role[mode, last], self.q[mode, last] = "on", Fraction(int(rng.choice([-1, 1])))
        if mode in self.trivial:
            self.q[mode], self.role[mode], self.u[mode] = Fraction(0), "free", {}
        elif self.form == "ball":
            self._ball_rows(mode)

    def _ball_rows(self, mode: int) -> None:
        """p_on = theta w^(1/2) u with |u| = 1, so q_i = d_i w_i^(1/2) u_i: no row of extreme d w^(1/2) has a part in u."""
        rng, last = self.rng, self.m0 + mode
        able = [i for i in range(self.m0) if self.role[mode, i] != "off" and abs(int(self.rows[i]) + self.weights[i]) <= 9]
        u = unit_vector(rng, len(able) + 1)
        for i in range(self.m0):
            if self.role[mode, i] != "off":
                self.q[mode, i], self.role[mode, i] = Fraction(0), "free"
        k = next(k for k, x in enumerate(u) if abs(x).numerator == 1)
        chosen = dict(zip(rng.permutation(able)[: len(u) - 1].tolist(), u[:k] + u[k + 1 :], strict=True)) | {last: u[k]}
        self.u[mode] = chosen
        for i, x in chosen.items():
            self.role[mode, i] = "on"
            self.q[mode, i] = x * Fraction(2) ** (self.weights[i] + (int(self.rows[i]) if i < self.m0 else 0))

    def _columns_of(self, mode: int) -> None:
        """What V'q has to be in each column, and which columns may carry h, with which sign."""
        rng, n = self.rng, self.n
        target, g = np.full(n, Fraction(0), dtype=object), np.full(n, Fraction(0), dtype=object)
        share = rng.choice([0.0, 0.3, 0.6, 1.0], p=[0.1, 0.3, 0.4, 0.2])
        for j in range(0 if mode in self.trivial else n):
            drawn = Fraction(int(rng.integers(1, 8)), 2) * int(rng.choice([-1, 1]) if not self.nonnegative else 1)
            wanted = rng.random() < share
            if j in self.dead_columns:
                g[j] = drawn if wanted and (self.gamma if self.gaussian else self.lam) == 0 else Fraction(0)
                continue
            if self.gaussian:
                level = self.level_gamma - 2 * int(self.columns[j])
                if wanted and (self.gamma == 0 or abs(level) <= _REACH):
                    g[j] = drawn
                    target[j] = -drawn * Fraction(2) ** level if self.gamma else Fraction(0)
                continue
            level = self.level - int(self.columns[j]) - self.a
            near = abs(level) <= _REACH
            lam = Fraction(2) ** level if self.lam else Fraction(0)
            if wanted and (near or not self.lam):
                g[j], target[j] = drawn, -lam * (1 if drawn > 0 else -1)
            elif self.nonnegative:
                target[j] = -lam if near and rng.random() < 0.2 else Fraction(int(rng.integers(0, 4)))
            elif near:
                target[j] = lam * Fraction(int(rng.integers(-2, 3)), 2)
        self.targets.append(target)
        self.g.append(g)

    # --- the data of each signal ----------------------------------------------------------------------

    def drawn(self) -> Drawn:
        rng, N, n, m = self.rng, self.N, self.n, len(self.rows)
        two = Fraction(2)
        d = np.array([two ** int(e) for e in self.rows], dtype=object)
        c = np.array([two ** int(e) for e in self.columns], dtype=object)
        self.W = d[:, None] * self.V * c
        self.w = np.array([Fraction(4) ** k for k in self.weights], dtype=object)
        extra = 2 if self.extra else 0
        shape = (N, m + extra)
        self.on, self.off = np.zeros(shape, bool), np.zeros(shape, bool)
        zero = Fraction(0)
        self.b, self.y, self.lo, self.hi = (np.full(shape, zero, dtype=object) for _ in range(4))
        self.open_lo = rng.random(shape) < 0.3
        self.open_hi = rng.random(shape) < 0.3
        self.h, self.p = np.full((N, n), zero, dtype=object), np.full(shape, zero, dtype=object)
        self.eps, self.lams, self.gammas = [zero] * N, [self.lam] * N, [self.gamma] * N
        self.small = two ** int(rng.choice([0, -3, -20, 6], p=[0.5, 0.2, 0.15, 0.15]))  # eps
        self.tight = rng.random() < 0.25  # eps = 0
        for i in range(N):
            self._signal(i, i % self.modes, d, c)
        self._contradict(c)
        return self._finish()

    def _signal(self, i: int, mode: int, d: np.ndarray, c: np.ndarray) -> None:
        rng, m, two = self.rng, len(self.rows), Fraction(2)
        s = two ** int(rng.choice([0, 0, 3, -5])) if self.form == "quadratic" else Fraction(1)
        s_h = two**self.size
        g = self.g[mode].copy()
        if not self.gaussian:
            for j in np.flatnonzero(g):
                g[j] = Fraction(0) if rng.random() < 0.15 else g[j] * int(rng.integers(1, 4))
            self.lams[i] = self.lam * s if self.form == "quadratic" else self.lam
        elif self.gamma:
            g = g * s
        self.h[i] = g / c * s_h
        self.p[i, :m] = self.q[mode] / d * two**self.a * s
        v = d * (self.V @ g) * s_h
        eps = Fraction(0) if self.tight else self.small * s_h
        self.eps[i] = eps
        for r in range(m):
            self._row(i, r, mode, v[r], d[r] * s_h, eps)

    def _row(self, i: int, r: int, mode: int, v: Fraction, unit: Fraction, eps: Fraction) -> None:
        """Role, bias and data of one row, so that p_r is a right multiplier of the value v."""
        rng, p, role = self.rng, self.p[i, r], self.role[mode, r]
        if role == "free":
            role = str(rng.choice(["on", "off", "unseen"], p=[0.5, 0.35, 0.15] if self.has_off else [0.8, 0.0, 0.2]))
        if role == "unseen":
            return
        self.on[i, r], self.off[i, r] = role == "on", role == "off"
        slack = Fraction(int(rng.integers(0, 5)), 2) * unit if p == 0 else Fraction(0)
        if role == "off":
            top = eps if self.form == "interval" and self.kind != "IntervalBasisPursuit" else Fraction(0)
            if self.kind == "IntervalBasisPursuit":
                self.hi[i, r] = top = unit * int(rng.integers(-2, 3))
                self.open_hi[i, r] = False
            self.b[i, r] = top - v - slack
            return
        b = self.b[i, r] = unit * int(rng.integers(-2, 3))
        root_w = Fraction(2) ** self.weights[r]
        if self.form == "quadratic":
            self.y[i, r] = v + b - p / self.w[r]
        elif self.form == "ball":
            self.y[i, r] = v + b - eps * self.u[mode].get(r, Fraction(0)) / root_w
        elif self.kind == "IntervalBasisPursuit":
            self._interval(i, r, p, v + b, slack, unit)
        else:
            width = eps / root_w
            place = (p > 0) - (p < 0) if p else Fraction(int(rng.integers(-4, 5)), 4)
            self.y[i, r] = v + b - width * place

    def _interval(self, i: int, r: int, p: Fraction, value: Fraction, slack: Fraction, unit: Fraction) -> None:
        width = Fraction(0) if self.tight else unit * int(self.rng.integers(1, 4))
        if p > 0:
            self.hi[i, r], self.lo[i, r], self.open_hi[i, r] = value, value - width, False
        elif p < 0:
            self.lo[i, r], self.hi[i, r], self.open_lo[i, r] = value, value + width, False
        else:
            self.lo[i, r], self.hi[i, r] = value - slack, value + width

    # --- contradictions -------------------------------------------------------------------------------

    def _contradict(self, c: np.ndarray) -> None:
        """Two more rows: some signals ask of them what no h meets, by a share of s_y; the others do not see them."""
        if not self.extra:
            return
        rng, n, m, what = self.rng, self.n, len(self.rows), self.extra[0]
        self.features[self.features.index("contradiction")] = f"contradiction: {what}"
        direction = rng.integers(-2, 3, n).astype(object) * Fraction(1) * c * (0 if what == "dead row" else 1)
        d1, d2 = (Fraction(2) ** int(rng.integers(-3, 4)) for _ in range(2))
        self.W = np.concatenate([self.W, (d1 * direction)[None], (-d2 * direction)[None]])
        self.w = np.concatenate([self.w, [Fraction(1)] * 2])
        self.weights += [0, 0]
        self.ray = np.full(m + 2, Fraction(0), dtype=object)
        self.ray[m], self.ray[m + 1] = (
            (Fraction(1), Fraction(0)) if what in ("dead row", "empty interval") else (1 / d1, 1 / d2)
        )
        self.broken = rng.random(self.N) < 0.6
        for i in np.flatnonzero(self.broken):
            data = (self.y[i] - self.b[i])[self.on[i]]
            size = float(root(sum((x * x for x in data), Fraction(0)))[0]) or 1.0
            share = float(rng.choice(_CONTRADICTIONS))
            # a power of two and a half: few digits, so that what it is added to stays a float
            kappa = Fraction(2) ** int(np.floor(np.log2(size * share))) * Fraction(3, 2) if share else Fraction(0)
            v1, v2 = (sum(self.W[m + k] * self.h[i], Fraction(0)) for k in range(2))
            self._break(i, m, what, kappa, v1, v2, size)

    def _break(self, i: int, m: int, what: str, kappa: Fraction, v1: Fraction, v2: Fraction, size: float) -> None:
        if what == "dead row":
            self.off[i, m], self.b[i, m] = True, kappa
            if self.kind in ("BasisPursuitLinf", "NonnegativeBasisPursuitLinf"):
                self.b[i, m] += self.eps[i]
        elif what == "opposite rows":
            top = self.eps[i] if self.form == "interval" and self.kind != "IntervalBasisPursuit" else Fraction(0)
            self.off[i, m : m + 2] = True
            self.b[i, m], self.b[i, m + 1] = top - v1, top - v2 + kappa
            self.open_hi[i, m : m + 2] = False
        elif what == "empty interval":
            self.on[i, m] = True
            self.lo[i, m], self.hi[i, m] = v1 + kappa, v1
            self.open_lo[i, m] = self.open_hi[i, m] = False
        else:
            # r1 / d1 + r2 / d2 is the same for every h: the misfit is at least |that| / |(1 / d1, 1 / d2)|
            self.on[i, m : m + 2] = True
            self.y[i, m], self.y[i, m + 1] = v1, v2
            short = Fraction(2) ** int(np.ceil(np.log2(max(size, 1e-300)))) / 4
            length = float(root(self.ray[m] ** 2 + self.ray[m + 1] ** 2)[0])
            self.y[i, m] = v1 - short / self.ray[m]
            self.eps[i] = Fraction(max(float(short) / length * (1 - max(float(kappa) / size, 1e-9)), 0.0))

    # --- the problem and what is known of it -----------------------------------------------------------

    def _finish(self) -> Drawn:
        W, b, weight = floats(self.W), floats(self.b), np.broadcast_to(floats(self.w), self.b.shape)
        y = np.where(self.on, floats(self.y), self.rng.choice([0.0, np.nan, 7.0]))
        lo = np.where(self.open_lo, -np.inf, floats(self.lo))
        hi = np.where(self.open_hi, np.inf, floats(self.hi))
        numbers = {"eps": floats(self.eps), "lam": floats(self.lams), "gamma": floats(self.gammas)}
        h, p = floats(self.h), floats(self.p)
        with np.errstate(over="ignore"):
            given = (W, b, y, weight, lo, hi, *numbers.values())
            narrow = all(np.array_equal(x, x.astype(np.float32), equal_nan=True) for x in given)
        dtype = torch.float32 if narrow and self.rng.random() < 0.4 else torch.float64
        parts = (self.kind, W, b, y, self.on, self.off, weight, numbers, lo, hi, dtype)
        problem = build(*parts)
        exactly = ExactProblem(problem)
        truths = [self._truth(exactly, i, h[i], p[i]) for i in range(self.N)]
        return Drawn(self.kind, self.scales, tuple(self.features), problem, truths, h, p)

    def _truth(self, problem: ExactProblem, i: int, h: np.ndarray, p: np.ndarray) -> Truth:
        if self.extra and self.broken[i]:
            apart = problem.apart(i, rational(list(self.ray)))
            known = proved(problem, i, h, p)
            if apart > 0 and not known.known:
                return Truth(np.inf, np.inf, known.length2, known.worst, apart)
            if self.extra[0] == "bound too short":
                return Truth(-np.inf, np.inf)
            return known
        found = proved(problem, i, h, p)
        if not found.known:
            raise AssertionError(f"{self.kind} {self.features}: the drawn pair is not optimal: {found}")
        return found


def build(kind, W, b, y, on, off, weight, numbers, lo, hi, dtype) -> ci.AbstractLayerProblem:
    """A layer problem of arrays; `numbers` holds lam, gamma and eps per signal, of which it takes its own."""

    def t(a):
        return torch.as_tensor(np.array(a)).to(dtype)

    on, off = torch.as_tensor(on), torch.as_tensor(off)
    weight = None if kind == "IntervalBasisPursuit" else t(np.where(on, weight, 1.0))
    rows = ci.Rows(ci.Dense(t(W)), t(b), t(y), on, off, weight)
    if kind == "IntervalBasisPursuit":
        return ci.IntervalBasisPursuit(rows, t(lo), t(hi))
    name = {"NonnegativeLasso": "lam", "Lasso": "lam", "GaussianLatent": "gamma"}.get(kind, "eps")
    return KINDS[kind](rows, t(numbers[name]))


# --- problems of real numbers ---------------------------------------------------------------------


def real(kind: str, rng: np.random.Generator) -> Drawn:
    """Random weights with scales that are no powers of two; nothing is known until `settled` has points to start from."""
    n, N = int(rng.choice([1, 2, 3, 5, 8, 12])), int(rng.choice([1, 3, 6]))
    m = int(n * rng.uniform(0.7, 3)) + 2
    scales = str(rng.choice(["none", "moderate", "wild"], p=[0.4, 0.4, 0.2]))
    top = {"none": 0, "moderate": 2, "wild": 12}[scales]
    W = rng.standard_normal((m, n)) * 10 ** rng.uniform(-top, top, (m, 1)) * 10 ** rng.uniform(-top, top, n)
    features = ["real"]
    if n > 1 and rng.random() < 0.3:
        near = 10.0 ** rng.integers(-12, -5)
        W[:, 1] = rng.choice([-1, 1]) * W[:, 0] * (1 + near * rng.standard_normal(m))
        features.append("nearly dependent columns")
    if rng.random() < 0.2:
        W[0] = 0.0
        features.append("dead row")
    h = np.abs(rng.standard_normal((N, n))) * (rng.random((N, n)) < 0.5) / np.linalg.norm(W, axis=0)
    h *= 1 if KINDS[kind].nonnegative else rng.choice([-1, 1], (N, n))
    v, size = h @ W.T, np.abs(W @ np.diag(1 / np.linalg.norm(W, axis=0))).sum(1)
    b = 0.3 * rng.standard_normal(m) * size
    on = rng.random((N, m)) < 0.6 if kind != "Lasso" else np.ones((N, m), bool)
    off = ~on & (v + b <= 0)
    noise = float(rng.choice([0.0, 0.01, 0.3]))
    y = v + b + noise * size * rng.standard_normal((N, m))
    miss = np.where(on, np.abs(v + b - y), 0.0)
    lam = float(rng.choice([0.0, 1e-6, 0.01, 0.3])) * np.abs(np.where(on, y - b, 0) @ W).max(1)
    gamma = float(rng.choice([0.0, 1e-6, 0.1])) * np.full(N, np.linalg.norm(W, 2) ** 2)
    away = np.abs(rng.standard_normal((2, N, m))) * size * noise
    numbers = {"eps": miss.max(1) * 1.05, "lam": lam, "gamma": gamma}
    lo, hi = v + b - away[0], np.where(on, v + b + away[1], 0.0)
    problem = build(kind, W, b, y, on, off, np.ones((N, m)), numbers, lo, hi, torch.float64)
    unknown = [Truth(-np.inf, np.inf) for _ in range(N)]
    return Drawn(kind, scales, tuple(features), problem, unknown, h, np.zeros((N, m)))


def settled(problem: ExactProblem, i: int, points: list[tuple[np.ndarray, np.ndarray]]) -> Truth:
    """The optimum that the activity of one of the points (h, p) leads to, solved and checked in rationals."""
    best = Truth(-np.inf, np.inf)
    for h, p in points:
        if not (np.isfinite(h).all() and np.isfinite(p).all()):
            continue
        for level in (1e-9, 1e-6):
            found = from_activity(problem, i, h, p, level)
            if found is not None and found.known:
                return found
            if found is not None:
                best = Truth(max(best.lower, found.lower), min(best.upper, found.upper))
    return best


def from_activity(problem: ExactProblem, i: int, h: np.ndarray, p: np.ndarray, level: float) -> Truth | None:
    """Solve the optimality equations on the entries of h and the limits that a float point leaves active."""
    W = problem.W
    columns = np.sqrt((W * W).T.k.sum(1).astype(float)) if W.k.size else np.zeros(0)
    size = np.abs(h) * columns
    free = np.flatnonzero(size > level * size.max()) if size.max() > 0 else np.zeros(0, int)
    lengths = np.sqrt(np.array([float(x * problem.row_unit) for x in problem.row_lengths2]))
    price = np.abs(p) * lengths
    bounded = problem.off[i] if problem.form == "quadratic" else problem.on[i] | problem.off[i]
    tight = np.flatnonzero(bounded & (price > level * (price.max() or 1.0)))
    if problem.form == "quadratic":
        return _settle_quadratic(problem, i, h, free, tight)
    return _settle_linear(problem, i, h, p, free, tight)


def _settle_quadratic(problem: ExactProblem, i: int, h: np.ndarray, free: np.ndarray, tight: np.ndarray) -> Truth | None:
    W, on = problem.W, problem.on[i]
    if not (problem.nonnegative or problem.absolute):
        free = np.arange(len(h))
    Wf = W[:, free]
    weighed = Wf * problem.weight[i][:, None].where(on[:, None])
    H = Wf.T @ weighed + exact(np.eye(len(free))) * problem.quadratic[i : i + 1][:, None]
    sign = np.sign(h[free]) if problem.absolute else np.ones(len(free))
    rhs = weighed.T @ (problem.y[i] - problem.b[i]) - exact(sign) * problem.linear[i : i + 1]
    A = W[tight][:, free]
    zero = exact(np.zeros((len(tight), len(tight))))
    top, bottom = _beside(H, A.T), _beside(A, zero)
    x = solve_rational(_above(top, bottom), _stacked(rhs, exact(np.zeros(len(tight))) - problem.b[i][tight]))
    if x is None:
        return None
    found, p = _spread(x[: len(free)], free, len(h)), _spread(x[len(free) :], tight, len(on))
    r = (W @ found + problem.b[i] - problem.y[i]) * problem.weight[i]
    return proved(problem, i, found, p + r.where(on))


def _settle_linear(
    problem: ExactProblem, i: int, h: np.ndarray, p: np.ndarray, free: np.ndarray, tight: np.ndarray
) -> Truth | None:
    W = problem.W
    ends = problem.hi[i].where(p > 0) + problem.lo[i].where(p < 0)
    A = W[tight][:, free]
    found = solve_rational(A, (ends - problem.b[i])[tight])
    sign = np.sign(h[free]) if problem.absolute else np.ones(len(free))
    dual = solve_rational(A.T, exact(-sign))
    if found is None or dual is None:
        return None
    return proved(problem, i, _spread(found, free, len(h)), _spread(dual, tight, len(p)))


def _spread(x, index: np.ndarray, length: int):
    k = np.zeros(length, dtype=object)
    k[index] = x.k
    return type(x)(k, x.unit)


def _joined(one, two, axis: int):
    """Two arrays as one, in the units of their sum."""
    zero = type(one)(np.zeros(1, dtype=object), two.unit)
    first = one + zero
    second = two + type(two)(np.zeros(1, dtype=object), first.unit)
    return type(one)(
        np.concatenate([(first + type(one)(np.zeros(1, dtype=object), second.unit)).k, second.k], axis), second.unit
    )


def _beside(one, two):
    return _joined(one, two, 1)


def _above(one, two):
    return _joined(one, two, 0)


def _stacked(one, two):
    return _joined(one, two, 0)
