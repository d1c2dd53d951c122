"""Check proof files: that no latent of a box explains a signal better than is said. The standard library and three files.

    python check_proof.py FILE...      as check_inversion.py, check_fits.py and check.py beside it, to which other files go

docs/checking.md describes the files. u_1 = W_1 z + b_1, x_l = max(u_l, s_l u_l), u_{l+1} = W_{l+1} x_l + b_{l+1}; the
squared misfit of z is |A (W x_H + b) - y|^2 over what was seen, plus |E z - m|^2 where a prior adds rows; z = V c.

A node holds limits of c and of every u that hold for each better z of the box in the node: whose squared misfit is at most
`level`. From the file come v and lam >= 0, of which any do; all limits are computed here, by integers, rounded outward at
2^-64 of a layer's size. With l <= u <= h the limits of an undecided unit and a >= (h - s l) / (h - l)

    t_i(w) >= 0:    x - s u,   x - u,   a (u - l) + s l - x,   u - l and h - u of decided units,   c - low,   high - c

hold for w = (c, x of undecided units) of every better z (of limits told and limits proved the weaker are used), and J w -
q is its misfit. With r(v) = J v - q, g = J'r(v) - A'lam, A the slopes of t

    D = level - |r(v)|^2 + 2 lam't(v) + 2 sum_j max over w_j's range of -g_j (w_j - v_j)  >=  |J (w - v)|^2 + 2 lam't(w)

so that D < 0 leaves no better z, all z of the node have squared misfits of at least min(level, level - D), and t_i(w) <=
room_i = min(max t_i, D / (2 lam_i)). For any F, Y, Z and k > 0, rest = F - J'J Y - A'Z and reach_j the longest |w_j - v_j|

    F'w <= F'v - Z't(v) + k D + |J Y|^2 / (4 k) + sum_i (Z_i - 2 k lam_i)_+ room_i + sum_j |rest_j| reach_j

gives limits for the next round: Y is about (J'J + theta A'diag(lam^2)A / D)^-1 F, in floating point. What the box of c
implies for every unit (slopes of the lower lines, chords for the upper ones) is added. Children cover their parent, leaves
count with their bounds. J'J is exact, or for networks of over 150 numbers rounded at 2^-100 of its largest entry, with the
rounding added to |J Y|^2 and rest. All else is exact, but for quotients that are rounded against the claim.
"""

import os
import sys
from fractions import Fraction
from math import ceil, floor, frexp, inf, isfinite, ldexp, sqrt
from operator import mul
from typing import Any

try:
    from .check import MOST_WORK, ZERO, Verdict, entries, floats, grid, main, need, read, say, shape
    from .check_fits import FITS
    from .check_fits import claims as fits
    from .check_inversion import PRIME
    from .check_inversion import claims as inversions
except ImportError:  # alone
    from check import (  # type: ignore[no-redef]
        MOST_WORK,
        ZERO,
        Verdict,
        entries,
        floats,
        grid,
        main,
        need,
        read,
        say,
        shape,
    )
    from check_fits import FITS  # type: ignore[no-redef]
    from check_fits import claims as fits  # type: ignore[no-redef]
    from check_inversion import PRIME  # type: ignore[no-redef]
    from check_inversion import claims as inversions  # type: ignore[no-redef]

FINE, LARGE = 64, 150  # behind a layer's largest number; numbers of a network whose J'J is rounded
Ints = list[int]


def check_file(path: str | os.PathLike[str]) -> list[Verdict]:
    """The verdicts on all claims of a file of any kind. Raises RefusedError as `check.read`."""
    return read(path, {"Inversion": inversions, "Proof": claims} | dict.fromkeys(FITS, fits))


def claims(data: dict[str, Any]) -> list[Verdict]:
    """The verdicts on the claims of a file of kind Proof."""
    keys = "format version kind shape layers A seen y z box gap f level bound status unique V extra trees"
    N, n0, d, k = shape(data, keys)
    work = _Work()
    parts = [_Layer(entry, work) for entry in entries(data, "layers", len(data["layers"]), lambda x: type(x) is dict)]
    sizes = [n0, *(len(part.b) for part in parts)]
    need(len(parts) > 0 and sizes[-1] == d and all(part.n == n for part, n in zip(parts, sizes, strict=False)), "layers")
    need(
        all(part.slopes is not None for part in parts[:-1]) and parts[-1].slopes is None, "slopes of all but the last layer"
    )
    A = None if data["A"] is None else floats(data, "A", k * d)
    need(A is not None or k == d, f"{d} numbers, all of them measured")
    seen = entries(data, "seen", N, lambda x: type(x) is str and len(x) == k and not x.strip("+."))
    table = {"y": k, "z": n0, "gap": 1, "f": 1, "level": 1, "bound": 1, "V": n0 * n0}
    numbers = {key: (size, floats(data, key, N * size, lambda x: True)) for key, size in table.items()}
    box = floats(data, "box", 2 * n0)
    told = entries(data, "status", N, lambda x: type(x) is str), entries(data, "unique", N, lambda x: type(x) is bool)
    extra = entries(data, "extra", N, lambda x: x is None or type(x) is dict)
    trees = entries(data, "trees", N, lambda x: type(x) is list)
    verdicts, shared = [], dict[str, Any]()
    for i, (status, unique) in enumerate(zip(*told, strict=True)):
        if status not in ("proved_optimal", "bounded"):
            verdicts.append(Verdict(i, status, True, "claims nothing that is checked here"))
            continue
        one = {key: x[i * size : (i + 1) * size] for key, (size, x) in numbers.items()}
        rows = [r for r in range(k) if seen[i][r] == "+"]
        values = [*one["z"], *one["gap"], *one["f"], *one["level"], *one["bound"], *one["V"], *(one["y"][r] for r in rows)]
        if not all(map(isfinite, values)) or not rows:
            verdicts.append(Verdict(i, status, False, "nothing was seen, or a number is none"))
            continue
        if seen[i] not in shared:
            shared[seen[i]] = _seen_rows(parts[-1], A, d, rows)
        proof = _Proof(parts[:-1], shared[seen[i]], one, box, extra[i], work, rows)
        verdicts += proof.verdicts(i, status, unique, trees[i])
    return verdicts


class _Work:
    """What products of integers may still be made."""

    def __init__(self) -> None:
        self.left = MOST_WORK

    def spend(self, products: int) -> None:
        self.left -= products
        need(self.left >= 0, "what takes minutes, or fewer nodes in a file")


def _fine(x: Any, bits: int = FINE) -> int:
    """E with numbers of up to x = integers of about `bits` binary digits over 2^E."""
    if not x:
        return bits
    if isinstance(x, Fraction):
        return bits - (abs(x.numerator).bit_length() - x.denominator.bit_length())
    return bits - frexp(x)[1]


def _down(x: int, E: int, to: int) -> int:
    """x / 2^E rounded down to integers over 2^to."""
    return x >> (E - to) if E > to else x << (to - E)


def _up(x: int, E: int, to: int) -> int:
    return -_down(-x, E, to)


def _dot(x: Any, y: Any) -> int:
    return sum(map(mul, x, y))


class _Layer:
    """W x + b in integers over 2^E, and the slopes where a unit is cut, None behind the last."""

    def __init__(self, entry: dict[str, Any], work: _Work) -> None:
        m, self.n = shape(entry, "shape slope W b")
        numbers = floats(entry, "W", m * self.n) + floats(entry, "b", m)
        self.slopes = None if entry["slope"] is None else floats(entry, "slope", m, lambda x: 0 <= x <= 1)
        k, self.E, _ = grid(numbers)
        self.W, self.b = [k[i * self.n : (i + 1) * self.n] for i in range(m)], k[m * self.n :]
        work.spend(len(k))


class _Seen:
    """A W and A b of the rows that were seen, and G = (A W)'(A W), in integers over 2^E and 2^2E."""

    def __init__(self, W: list[Ints], b: Ints, E: int) -> None:
        self.W, self.b, self.E = W, b, E
        self.columns = list(zip(*W, strict=True))
        n = len(self.columns)
        self.G = [[0] * n for _ in range(n)]
        for i, x in enumerate(self.columns):
            for j in range(i + 1):
                self.G[i][j] = self.G[j][i] = _dot(x, self.columns[j])


def _seen_rows(last: _Layer, A: Any, d: int, rows: list[int]) -> _Seen:
    if A is None:
        return _Seen([last.W[r] for r in rows], [last.b[r] for r in rows], last.E)
    k, E, _ = grid(A)
    part, columns = [k[r * d : (r + 1) * d] for r in rows], list(zip(*last.W, strict=True))
    return _Seen([[_dot(a, x) for x in columns] for a in part], [_dot(a, last.b) for a in part], E + last.E)


class _Node:
    """Limits of c and of every layer's u, integers over 2^E of the proof, and the best bound of the squared misfit."""

    def __init__(self, c: tuple[Ints, Ints], u: list[tuple[Ints, Ints]], bound: Fraction) -> None:
        self.c, self.u, self.bound = c, u, bound

    def copy(self) -> "_Node":
        return _Node((self.c[0][:], self.c[1][:]), [(lo[:], hi[:]) for lo, hi in self.u], self.bound)

    @property
    def empty(self) -> bool:
        return any(l > h for lo, hi in (self.c, *self.u) for l, h in zip(lo, hi, strict=True))

    @property
    def undecided(self) -> int:
        return sum(l < 0 < h for lo, hi in self.u for l, h in zip(lo, hi, strict=True))


class _Proof:
    """A signal's network, box and level; nodes are its own."""

    def __init__(
        self, parts: list[_Layer], seen: _Seen, one: dict[str, Any], box: Any, extra: Any, work: _Work, rows: list[int]
    ) -> None:
        self.parts, self.seen, self.work, self.one, self.box = parts, seen, work, one, box
        self.n0, self.level = len(one["z"]), Fraction(one["level"][0])
        slopes = [x for part in parts for x in part.slopes or ()]
        self.ES = max(60, grid(slopes)[1] if slopes else 0)
        self.unit = 1 << self.ES
        self.s = [[int(ldexp(x, self.ES)) for x in part.slopes or ()] for part in parts]
        y, Ey, _ = grid([one["y"][r] for r in rows])
        self.ER = max(seen.E, Ey)
        self.t = [(a << self.ER - Ey) - (b << self.ER - seen.E) for a, b in zip(y, seen.b, strict=True)]
        self.size = Fraction(_dot(y, y), 1 << 2 * Ey)  # |y|^2
        V, self.EV, _ = grid(one["V"])
        self.V = [V[i * self.n0 : (i + 1) * self.n0] for i in range(self.n0)]
        columns = list(zip(*self.V, strict=True))
        self.E0, self.first = self.EV, [[0, *row] for row in self.V]
        if parts:
            self.E0 += parts[0].E
            rows0 = zip(parts[0].W, parts[0].b, strict=True)
            self.first = [[b << self.EV, *(_dot(w, x) for x in columns)] for w, b in rows0]
        rows1 = [[row[1:] for row in self.first], *(part.W for part in parts[1:])]
        self._columns = [list(zip(*x, strict=True)) for x in rows1]
        self.extra, self.m, self.EE = list[Ints](), Ints(), 0  # rows |E V c - m|
        self.Ez = list[Ints]()
        if extra is not None:
            (r,) = shape(extra, "shape rows values")
            k, E, _ = grid(floats(extra, "rows", r * self.n0) + floats(extra, "values", r))
            self.Ez, self.EE = [k[i * self.n0 : (i + 1) * self.n0] for i in range(r)], E + self.EV
            self.extra = [[_dot(row, x) for x in columns] for row in self.Ez]
            self.m = [x << self.EV for x in k[r * self.n0 :]]
        self.large = self.n0 + sum(len(part.b) for part in parts) > LARGE

    # --- claims ---------------------------------------------------------------------------------

    def verdicts(self, i: int, status: str, unique: bool, tree: list[Any]) -> list[Verdict]:
        """What is found of the claims on signal i."""
        f, bound, gap = (Fraction(self.one[key][0]) for key in ("f", "bound", "gap"))
        found, how = self.misfit(), "rounded outward at 2^-100" if self.large else "in exact arithmetic"
        asked = [status] + ["unique"] * unique
        if found > f:
            words = f"z has a squared misfit of {say(found)}, {say(f)} is claimed"
            return [Verdict(i, word, False, words) for word in asked]
        ends = self.ends(tree, bound)
        proved = min([self.level, *(node.bound for node, _ in ends)])
        words = f"no squared misfit below {say(proved)} ({say(bound)} claimed, {say(found)} of z), {len(tree)} nodes, {how}"
        tiny = found <= self.size / 10**22
        close = tiny or bound >= (1 - gap) * (1 - Fraction(1, 10**9)) * found
        need(0 < gap < 1, "gaps in (0, 1)")
        verdict = proved >= bound and (close or status != "proved_optimal")
        verdicts = [Verdict(i, status, verdict, words if close or status == "bounded" else f"the gap is wider: {words}")]
        if unique:
            verdicts.append(Verdict(i, "unique", *self.unique(ends, found)))
        return verdicts

    def misfit(self) -> Fraction:
        """The squared misfit of z, exactly."""
        h: list[Fraction] = [Fraction(x) for x in self.one["z"]]
        rest = ZERO
        for row, m in zip(self.Ez, self.m, strict=True):
            rest += (sum(map(mul, row, h)) / (1 << self.EE - self.EV) - Fraction(m, 1 << self.EE)) ** 2
        for part, s in zip(self.parts, self.s, strict=True):
            k, E, _ = grid(h)
            u = [Fraction(_dot(w, k) + (b << E), 1 << part.E + E) for w, b in zip(part.W, part.b, strict=True)]
            h = [x if x >= 0 else x * c / self.unit for x, c in zip(u, s, strict=True)]
        k, E, _ = grid(h)
        up = self.ER - self.seen.E
        r = [(_dot(w, k) << up) - (t << E) for w, t in zip(self.seen.W, self.t, strict=True)]
        return rest + Fraction(_dot(r, r), 1 << 2 * (self.ER + E))

    def unique(self, ends: list[tuple[_Node, Any]], found: Fraction) -> tuple[bool, str]:
        """Whether all z with a squared misfit of at most that of z lie on one piece, on which J has full column rank."""
        if found > self.level:
            return False, f"the tree speaks of squared misfits up to {say(self.level)}, z has {say(found)}"
        left = []
        for node, last in ends:
            if node.bound > found:
                continue
            if last is not None:
                self.contract(node, last)
            if not node.empty:
                left.append(node)
        if len(left) != 1 or left[0].undecided:
            return False, f"{len(left)} nodes left, {sum(node.undecided for node in left)} units undecided in them"
        rank = self.rank(left[0])
        return rank == self.n0, f"one affine piece, on which J has rank {rank} modulo 2^61 - 1 of {self.n0} columns"

    def rank(self, node: _Node) -> int:
        """The rank of J modulo a prime, which is never above its rank; every unit is decided."""
        rel = _Relaxed(
            self, node, {"units": ["." * len(lo) for lo, _ in node.u], "v": [0.0] * self.n0, "lam": [], "limits": []}
        )
        X = [[x % PRIME for x in column] for column in rel.columns()[1:]]
        W, pivots = self.seen.W, list[tuple[int, Ints]]()
        rows = ([_dot(w, x) % PRIME for x in X] for w in W)
        for v in [*([x % PRIME for x in row] for row in self.extra), *rows]:
            for c, pivot in pivots:
                v = [(x - v[c] * y) % PRIME for x, y in zip(v, pivot, strict=True)] if v[c] else v
            c = next((c for c, x in enumerate(v) if x), -1)
            if c >= 0:
                pivots.append((c, [x * pow(v[c], -1, PRIME) % PRIME for x in v]))
            if len(pivots) == self.n0:
                break
        return len(pivots)

    # --- the tree -------------------------------------------------------------------------------

    def ends(self, tree: list[Any], least: Fraction) -> list[tuple[_Node, Any]]:
        """The leaves that are not excluded, each with the round that its limits still lack where its bound is at least
        `least`."""
        need(len(tree) > 0 and all(type(x) is dict and set(x) == {"rounds", "split"} for x in tree), "nodes with two keys")
        waiting, left = {0: self.root()}, []
        for number, entry in enumerate(tree):
            need(number in waiting, "a tree, parents first")
            node, last = waiting.pop(number), None
            for k, told in enumerate(entries(entry, "rounds", len(entry["rounds"]), lambda x: type(x) is dict)):
                if node.empty:
                    break
                rel = self.relaxed(node, told)
                node.bound = max(node.bound, self.level - rel.D)
                last = rel if rel.D >= 0 else None
                if rel.D < 0:
                    node.c[0][0], node.c[1][0] = 1, 0  # empty
                elif k + 1 < len(entry["rounds"]) or entry["split"] is not None:
                    self.contract(node, rel)
                    last = None
            if entry["split"] is not None:
                for child, side in zip(*self.sides(node, entry["split"]), strict=True):
                    need(type(child) is int and number < child < len(tree) and child not in waiting, "children behind")
                    waiting[child] = side
                continue
            if last is not None and node.bound < least:  # limits may contradict each other
                self.contract(node, last)
                last = None
            if not node.empty:
                left.append((node, last))
        need(not waiting, "every child among the nodes")
        return left

    def sides(self, node: _Node, split: Any) -> tuple[list[Any], list[_Node]]:
        """The numbers of the children, and their limits: a unit on and off, or a coordinate above and below."""
        need(type(split) is dict and set(split) in ({"unit", "children"}, {"half", "at", "children"}), "a split")
        children, (above, below) = entries(split, "children", 2, lambda x: type(x) is int), (node, node.copy())
        if "unit" in split:
            layer, j = entries(split, "unit", 2, lambda x: type(x) is int and x >= 0)
            (lo, hi), at = above.u[layer], 0
            lo[j], below.u[layer][1][j] = max(lo[j], at), min(hi[j], at)
        else:
            k, x = split["half"], floats(split, "at", 1)[0]
            need(type(k) is int and 0 <= k < self.n0, "a coordinate")
            at = int(ldexp(x, self.Ec)) if abs(x) < 1e30 else 0  # any number splits
            above.c[0][k], below.c[1][k] = max(above.c[0][k], at), min(below.c[1][k], at)
        return children, [above, below]

    def root(self) -> _Node:
        """The box, turned: c = V'z - (V'V - 1) c."""
        n0, box = self.n0, self.box
        need(all(box[j] < box[n0 + j] for j in range(n0)), "a box")
        k, E, _ = grid(box)
        mid, rad = ([f(k[j], k[n0 + j]) for j in range(n0)] for f in (lambda a, b: a + b, lambda a, b: b - a))  # 2^(E+1)
        columns, at, one = list(zip(*self.V, strict=True)), E + 1 + self.EV, 1 << 2 * self.EV
        middle, reach = [_dot(x, mid) for x in columns], [_dot(map(abs, x), rad) for x in columns]
        off = [sum(abs(_dot(x, y) - (one if i == j else 0)) for j, y in enumerate(columns)) for i, x in enumerate(columns)]
        need(2 * max(off) < one, "a V whose columns are nearly orthogonal")
        longest = max(abs(m) + r for m, r in zip(middle, reach, strict=True))
        slack = [-(-2 * x * longest // one) for x in off]
        self.Ec = _fine(Fraction(longest, 1 << at))
        c = [
            (_down(m - r - x, at, self.Ec), _up(m + r + x, at, self.Ec))
            for m, r, x in zip(middle, reach, slack, strict=True)
        ]
        self.Eu = list[int]()
        node = _Node(([x for x, _ in c], [x for _, x in c]), [], ZERO)
        for layer, part in enumerate(self.parts):
            low, high, E2 = self.implied(node, layer)
            largest = max(map(abs, [*low, *high]))
            self.Eu.append(_fine(Fraction(largest, 1 << E2)))
            to = self.Eu[-1]
            lo, hi = [_down(x, E2, to) for x in low], [_up(x, E2, to) for x in high]
            if layer == 0:
                for j, (w, b) in enumerate(zip(part.W, part.b, strict=True)):
                    m, r = _dot(w, mid) + (b << E + 1), _dot(map(abs, w), rad)
                    lo[j] = max(lo[j], _down(m - r, part.E + E + 1, to))
                    hi[j] = min(hi[j], _up(m + r, part.E + E + 1, to))
            node.u.append((lo, hi))
        return node

    def chord(self, l: int, h: int, s: int) -> int:
        """The slope of the line above a unit with limits l < 0 < h, rounded up."""
        return -(-(h * self.unit - s * l) // (h - l))

    def implied(self, node: _Node, layer: int) -> tuple[Ints, Ints, int]:
        """Limits of a layer's units over the box of c, given those of the layers before, and their E."""
        lines = list[tuple[Ints, Ints, Ints]]()
        for below in range(layer):
            (lo, hi), down, above, up = node.u[below], Ints(), Ints(), Ints()
            for l, h, s in zip(lo, hi, self.s[below], strict=True):
                free = l < 0 < h
                a = self.chord(l, h, s) if free else self.unit if l >= 0 else s
                above.append(a)
                up.append((s - a) * l if free else 0)
                down.append((self.unit if h > -l else s) if free else a)
            lines.append((down, above, up))
        low, high = Ints(), Ints()
        for j in range(len(self.parts[layer].b)):
            low.append(self.least(node, layer, j, 1, lines))
            high.append(-self.least(node, layer, j, -1, lines))
        E = self.Ec + 1 + sum(self.parts[k].E for k in range(layer + 1)) + self.EV + layer * self.ES
        return low, high, E

    def least(self, node: _Node, layer: int, j: int, sign: int, lines: list[tuple[Ints, Ints, Ints]]) -> int:
        """What sign u_j is at least over the box, over 2^E of `implied`."""
        lo, hi = node.c
        if layer == 0:
            row, E = [sign * x for x in self.first[j]], self.E0
        else:
            k, const, E = [sign * x for x in self.parts[layer].W[j]], sign * self.parts[layer].b[j], self.parts[layer].E
            for below in range(layer - 1, -1, -1):
                down, above, up = lines[below]
                lift = E + self.ES + self.Eu[below]
                const = (const << self.ES + self.Eu[below]) + sum(x * y for x, y in zip(k, up, strict=True) if x < 0)
                k = [x * (d if x > 0 else a) for x, d, a in zip(k, down, above, strict=True)]
                part, E = self.parts[below], E + self.ES
                const = _down(const, lift, E + part.E) + _dot(k, part.b)
                E += part.E
                if below:
                    k = [_dot(k, x) for x in self.columns(below)]
            row = [(const << self.EV), *(_dot(k, x) for x in self.columns(0))]
            E += self.EV
        middle = sum(x * (a + b) for x, a, b in zip(row[1:], lo, hi, strict=True))
        reach = sum(abs(x) * (b - a) for x, a, b in zip(row[1:], lo, hi, strict=True))
        return (row[0] << self.Ec + 1) + middle - reach

    def columns(self, layer: int) -> list[tuple[int, ...]]:
        """The columns of W_l, of the first layer those of W_1 V."""
        return self._columns[layer]

    def propagate(self, node: _Node) -> None:
        """Add what the box implies, layer by layer."""
        for layer, (lo, hi) in enumerate(node.u):
            low, high, E = self.implied(node, layer)
            to = self.Eu[layer]
            lo[:] = [max(x, _down(y, E, to)) for x, y in zip(lo, low, strict=True)]
            hi[:] = [min(x, _up(y, E, to)) for x, y in zip(hi, high, strict=True)]

    # --- a round --------------------------------------------------------------------------------

    def relaxed(self, node: _Node, told: dict[str, Any]) -> "_Relaxed":
        """A node's relaxation with the multipliers of a round."""
        need(set(told) == {"units", "limits", "v", "lam", "theta"}, "a round with five keys")
        marks, at, parts = told["units"], 0, []
        need(type(marks) is str and len(marks) == sum(map(len, self.s)) and not marks.strip("?=."), "a mark for each unit")
        for s in self.s:
            parts.append(marks[at : at + len(s)])
            at += len(s)
        free, held = marks.count("?"), marks.count("=")
        v = floats(told, "v", self.n0 + free)
        lam = floats(told, "lam", 2 * self.n0 + 3 * free + 2 * held)
        limits = floats(told, "limits", 2 * (self.n0 + free + held))
        theta = floats(told, "theta", len(told["theta"]) * 3 // 32, lambda x: 0 < x < inf)
        rel = _Relaxed(self, node, {"units": parts, "v": v, "lam": lam, "limits": limits})
        rel.excess(self.level)
        rel.theta = list(theta)
        return rel

    def contract(self, node: _Node, rel: "_Relaxed") -> None:
        """Put the limits that a round proves, and what its box implies, into the node."""
        for theta in rel.theta:
            rel.contract(node, theta)
        if not node.empty:
            self.propagate(node)


class _Level:
    """A hidden layer of a relaxation: its undecided units, and the decided ones in constraints, with rows [const, slopes]
    over 2^E in the variables before."""

    def __init__(self, P: list[Ints], E: int, start: int, free: Ints, held: Ints) -> None:
        self.E, self.start, self.free, self.held = E, start, free, held
        self.rows, self.fixed = [P[j] for j in free], [P[j] for j in held]
        self.s, self.a, self.l, self.h = Ints(), Ints(), Ints(), Ints()
        self.ends = list[tuple[int, int]]()


class _Relaxed:
    """The relaxation of a node around v, in integers over 2^Ev where nothing else is said: variables [1, c, x of
    undecided units]."""

    def __init__(self, proof: _Proof, node: _Node, told: dict[str, Any]) -> None:
        self.proof, n0, unit = proof, proof.n0, proof.unit
        given, self.Ev = iter(told["v"]), _fine(max(1e-300, *map(abs, told["v"])), 80)
        number = lambda x: int(ldexp(x, self.Ev))  # noqa: E731
        self.v = [1 << self.Ev, *(number(next(given)) for _ in range(n0))]
        told_ends = _Claimed(told, n0)
        self.box = told_ends.weaker(node.c, list(range(n0)), told_ends.box, proof.Ec)
        self.levels, self.theta = list[_Level](), list[float]()
        self.low = [_down(x, proof.Ec, self.Ev) for x in self.box[0]]
        self.high = [_up(x, proof.Ec, self.Ev) for x in self.box[1]]
        self.JJ = list[Ints]()
        P, E, lams = proof.first, proof.E0, _Multipliers(told, n0)
        self.lam = [lams.box(0), lams.box(1)]
        self.decided, self.X, self.EX = list(range(len(P))), P, E
        self.free = Ints()
        for layer, (marks, s) in enumerate(zip(told["units"], proof.s, strict=False)):
            lo, hi = node.u[layer]
            free = [j for j, mark in enumerate(marks) if mark == "?" or lo[j] < 0 < hi[j]]
            held = [j for j, mark in enumerate(marks) if mark == "=" and not lo[j] < 0 < hi[j]]
            level, EU = _Level(P, E, len(self.v), free, held), proof.Eu[layer]
            told_free, told_held = ([j for j, mark in enumerate(marks) if mark == x] for x in "?=")
            weak = told_ends.weaker(node.u[layer], free, told_ends.take(0, told_free), EU)
            for j, row, l, h in zip(free, level.rows, *weak, strict=True):
                l, h = min(l, -1), max(h, 1)  # weaker limits are limits
                level.s.append(s[j])
                level.a.append(proof.chord(l, h, s[j]))
                level.l.append(l)
                level.h.append(h)
                self.low.append(_down(s[j] * l, EU + proof.ES, self.Ev))
                self.high.append(_up(h, EU, self.Ev))
                u = _dot(row, self.v) >> E
                self.v.append(number(next(given)) if marks[j] == "?" else max(u, u * s[j] >> proof.ES))
            level.ends = list(zip(*told_ends.weaker(node.u[layer], held, told_ends.take(1, told_held), EU), strict=True))
            self.lam += lams.level([marks[j] == "?" for j in free], told_held, held)
            self.levels.append(level)
            self.free, frees = free, set(free)
            up = 0 if not any(s) else proof.ES
            slopes = [unit if lo[j] >= 0 else s[j] for j in range(len(s))]
            self.decided = [j for j in range(len(s)) if j not in frees and slopes[j]]
            self.X = [[x << up if slopes[j] == unit else x * slopes[j] for x in P[j]] for j in self.decided]
            self.EX = E + up
            if layer + 1 < len(proof.parts):
                P, E = self.next(proof.parts[layer + 1]), proof.parts[layer + 1].E + self.EX
        proof.work.spend(len(proof.seen.W) * len(proof.seen.columns) + len(self.X) * len(self.v))
        self.V = len(self.v) - 1

    def next(self, part: _Layer) -> list[Ints]:
        """Rows of the next layer, over 2^(E + EX)."""
        columns = list(zip(*self.X, strict=True)) or [()] * (len(self.v) - len(self.free))
        self.proof.work.spend(len(part.W) * len(self.X) * len(columns))
        P = []
        for w, b in zip(part.W, part.b, strict=True):
            k = [w[j] for j in self.decided]
            row = [_dot(k, x) for x in columns]
            row[0] += b << self.EX
            P.append(row + [w[j] << self.EX for j in self.free])
        return P

    def columns(self) -> list[Any]:
        """The columns of x_H, of the constant, of c and of the variables before the last layer's: over 2^EX."""
        n, before = len(self.proof.seen.columns), len(self.v) - len(self.free)
        columns = [[0] * n for _ in range(before)]
        for j, row in zip(self.decided, self.X, strict=True):
            for k, x in enumerate(row):
                columns[k][j] = x
        return columns

    # --- D --------------------------------------------------------------------------------------

    def excess(self, level: Fraction) -> None:
        """D, with t and g."""
        proof, v, Ev = self.proof, self.v, self.Ev
        h, before = [0] * len(proof.seen.columns), len(v) - len(self.free)
        for j, row in zip(self.decided, self.X, strict=True):
            h[j] = _dot(row, v)  # over 2^(EX + Ev)
        for j, x in zip(self.free, v[before:], strict=True):
            h[j] = x << self.EX
        up, E = proof.ER - proof.seen.E, self.EX + Ev
        r = [(_dot(w, h) << up) - (t << E) for w, t in zip(proof.seen.W, proof.t, strict=True)]
        back = [_dot(x, r) for x in proof.seen.columns]  # over 2^(seen.E + ER + E)
        g = [_dot([back[j] for j in self.decided], x) for x in zip(*self.X, strict=True)] if self.X else [0] * before
        g = g[1:] + [back[j] << self.EX for j in self.free]
        Eg, square = proof.seen.E + proof.ER + E + self.EX, Fraction(_dot(r, r), 1 << 2 * (proof.ER + E))
        rest = [_dot(row, v[1 : proof.n0 + 1]) - (m << Ev) for row, m in zip(proof.extra, proof.m, strict=True)]  # EE + Ev
        square += Fraction(_dot(rest, rest), 1 << 2 * (proof.EE + Ev))
        self.Emax = max([proof.Ec, *proof.Eu, *(x.E for x in self.levels)])
        self.Elam = _fine(max(map(max, filter(None, self.lam)), default=0), 80)
        self.kept = [[max(0, int(ldexp(x, self.Elam))) for x in part] for part in self.lam]
        pull, Ep = self.pull(self.kept), self.Emax + proof.ES + self.Elam
        top = max(Eg, Ep, 2 * proof.EE + Ev)
        g = [(x << top - Eg) - (y << top - Ep) for x, y in zip(g, pull, strict=True)]
        for row, x in zip(proof.extra, rest, strict=True):
            for k, y in enumerate(row):
                g[k] += x * y << top - 2 * proof.EE - Ev
        moved = sum(-x * ((lo if x > 0 else hi) - y) for x, lo, hi, y in zip(g, self.low, self.high, v[1:], strict=True))
        self.t, self.most = self.slack()
        work = Fraction(sum(map(_dot, self.kept, self.t)), 1 << self.Elam + self.Et)
        self.D = level - square + 2 * work + 2 * Fraction(moved, 1 << top + Ev)
        self.reach = [max(hi - y, y - lo) for lo, hi, y in zip(self.low, self.high, v[1:], strict=True)]

    def slack(self) -> tuple[list[Ints], list[list[Fraction]]]:
        """t(v) over 2^Et, and the largest values of t."""
        proof, (lo, hi), v, Ev, ES = self.proof, self.box, self.v, self.Ev, self.proof.ES
        self.Et = self.Emax + Ev + ES
        c, up = [x << self.Et - Ev for x in v[1 : proof.n0 + 1]], self.Et - proof.Ec
        t = [[x - (y << up) for x, y in zip(c, lo, strict=True)], [(y << up) - x for x, y in zip(c, hi, strict=True)]]
        most = [[Fraction(b - a, 1 << proof.Ec) for a, b in zip(lo, hi, strict=True)]] * 2
        for k, x in enumerate(self.levels):
            Eu, q = proof.Eu[k], x.start
            u, up = [_dot(row, v) << self.Emax - x.E for row in x.rows], self.Emax + Ev - Eu  # over 2^(Emax + Ev)
            own = [y << self.Emax + ES for y in v[q : q + len(x.free)]]
            t.append([y - s * z for y, s, z in zip(own, x.s, u, strict=True)])
            t.append([y - (z << ES) for y, z in zip(own, u, strict=True)])
            four = zip(own, u, x.a, x.s, x.l, strict=True)
            t.append([a * (z - (l << up)) + (s * l << up) - y for y, z, a, s, l in four])
            one, E = proof.unit, 1 << Eu + ES
            most.append([Fraction((one - s) * h, E) for s, h in zip(x.s, x.h, strict=True)])
            most.append([Fraction((s - one) * l, E) for s, l in zip(x.s, x.l, strict=True)])
            most.append([Fraction((s - a) * l, E) for s, a, l in zip(x.s, x.a, x.l, strict=True)])
            u = [_dot(row, v) << self.Emax - x.E + ES for row in x.fixed]
            t.append([z - (l << up + ES) for z, (l, _) in zip(u, x.ends, strict=True)])
            t.append([(h << up + ES) - z for z, (_, h) in zip(u, x.ends, strict=True)])
            most += [[Fraction(max(h - l, 0), 1 << Eu) for l, h in x.ends]] * 2
        return t, most

    def pull(self, z: list[Ints]) -> Ints:
        """A'z over 2^(Emax + ES) and what z is over."""
        ES, unit = self.proof.ES, self.proof.unit
        out = [0] * self.V
        for k, (x, y) in enumerate(zip(z[0], z[1], strict=True)):
            out[k] = (x - y) << self.Emax + ES
        for k, level in enumerate(self.levels):
            z0, z1, z2, d0, d1 = z[2 + 5 * k : 7 + 5 * k]
            five, up = zip(z0, z1, z2, level.a, level.s, strict=True), self.Emax - level.E
            steep = [a * r - s * p - unit * q for p, q, r, a, s in five] + [
                (p - q) << ES for p, q in zip(d0, d1, strict=True)
            ]
            used = [(y, row) for y, row in zip(steep, level.rows + level.fixed, strict=True) if y]
            if used:
                factors = [y for y, _ in used]
                for c, column in enumerate(zip(*(row for _, row in used), strict=True)):
                    if c:
                        out[c - 1] += _dot(factors, column) << up
            for i, (p, q, r) in enumerate(zip(z0, z1, z2, strict=True)):
                out[level.start - 1 + i] += (p + q - r) << self.Emax + ES
        return out

    # --- limits ---------------------------------------------------------------------------------

    def gram(self) -> tuple[list[Ints], int, int]:
        """J'J in integers over 2^EJ, how far off an entry may be, and EJ."""
        proof, G, before = self.proof, self.proof.seen.G, self.V - len(self.free)
        X = list(zip(*self.X, strict=True))[1:] or [()] * before
        JJ, EJ = [[0] * self.V for _ in range(self.V)], 2 * (proof.seen.E + self.EX)
        proof.work.spend(before * len(self.decided) * (len(self.decided) + self.V))
        part = [[G[j][k] for k in self.decided] for j in self.decided]
        cross = [[G[j][k] for k in self.decided] for j in self.free]
        for c, x in enumerate(X):
            Gx = [_dot(row, x) for row in part]
            for d in range(c + 1):
                JJ[c][d] = JJ[d][c] = _dot(Gx, X[d])
            for i, row in enumerate(cross):
                JJ[c][before + i] = JJ[before + i][c] = _dot(row, x) << self.EX
        for i, j in enumerate(self.free):
            JJ[before + i][before:] = [G[j][k] << 2 * self.EX for k in self.free]
        if proof.extra:
            E = max(EJ, 2 * proof.EE)
            JJ, EJ, columns = [[x << E - EJ for x in row] for row in JJ], E, list(zip(*proof.extra, strict=True))
            for c, x in enumerate(columns):
                for d, y in enumerate(columns):
                    JJ[c][d] += _dot(x, y) << E - 2 * proof.EE
        largest = max(JJ[k][k] for k in range(self.V)).bit_length()
        if not proof.large or largest <= 100:
            return JJ, 0, EJ
        return [[x >> largest - 100 for x in row] for row in JJ], 1, EJ - largest + 100

    def prepare(self) -> None:
        """What the functionals of a round share."""
        self.JJ, self.err, self.EJ = self.gram()
        D = max(self.D, Fraction(1, 1 << 900))
        self.to = _fine(D, 120)
        self.D = Fraction(-(-(D.numerator << max(self.to, 0)) // (D.denominator << max(-self.to, 0))))
        self.D = self.D / (1 << self.to) if self.to >= 0 else self.D * (1 << -self.to)
        lam, self.flat = ([x for part in parts for x in part] for parts in (self.kept, self.t))
        most = [x for part in self.most for x in part]
        room = [x if not y else min(x, self.D * (1 << self.Elam) / (2 * y)) for x, y in zip(most, lam, strict=True)]
        self.Er = _fine(max(room), 80)
        self.rooms = [-(-(x.numerator << self.Er) // x.denominator) for x in room]
        self.lams: Ints = lam
        self.flam, self.froom = [ldexp(x, -self.Elam) for x in lam], [ldexp(x, -self.Er) for x in self.rooms]
        self.sf, self.rows = [], []
        for x in self.levels:
            s, a = ([ldexp(y, -self.proof.ES) for y in part] for part in (x.s, x.a))
            self.sf.append((s, a))
            self.rows.append([[y / (1 << x.E) for y in row[1:]] for row in x.rows + x.fixed])

    def contract(self, node: _Node, theta: float) -> None:
        """Put into the node the limits of c and of undecided units that Y = (J'J + theta A'diag(lam^2)A / D)^-1 F proves."""
        V, proof = self.V, self.proof
        proof.work.spend(3 * V**3)
        if not self.JJ:
            self.prepare()
        self.om = [theta * x * x / float(self.D) for x in self.flam]
        inverse = _inverse(self.curvature())
        largest = max(max(map(abs, row)) for row in inverse)
        AY = [self.steps(y) for y in inverse]
        Zf = [[x * y for x, y in zip(self.om, z, strict=True)] for z in AY]
        thick = max((max(map(abs, z)) for z in Zf), default=0.0)
        need(isfinite(largest) and isfinite(thick) and 1e-200 < largest < 1e200, "numbers of usual size")
        self.EY, self.EZ = _fine(largest, 90), _fine(thick, 90)
        Y = [[int(ldexp(x, self.EY)) for x in y] for y in inverse]
        Z = [[int(ldexp(x, self.EZ)) for x in z] for z in Zf]
        many = _Packed(list(zip(*Y, strict=True)), max(max(map(int.bit_length, row)) for row in self.JJ))
        JY = list(zip(*map(many.combined, self.JJ), strict=True))
        E1, E2 = self.EJ + self.EY, self.Emax + proof.ES + self.EZ
        self.rest = max(E1, E2, self.Emax)
        rests = []
        for k, (x, z) in enumerate(zip(JY, Z, strict=True)):
            pulled = self.pull(self.split(z))
            rest = [-(a << self.rest - E1) - (b << self.rest - E2) for a, b in zip(x, pulled, strict=True)]
            rest[k] += 1 << self.rest
            rests.append(rest)
        basis = list(zip(Y, JY, Z, rests, strict=True))
        for k in range(proof.n0):
            low, high = self.limits(Fraction(self.v[1 + k], 1 << self.Ev), basis[k], 0)
            _fold(node.c, k, low, high, proof.Ec)
        for layer, level in enumerate(self.levels):
            before, limits, Eu = level.start - 1, node.u[layer], proof.Eu[layer]
            if not level.free:
                continue
            bits = max(52, max(max(map(int.bit_length, row[1:])) for row in level.rows) - level.E + 1)
            parts = [_Packed([x[i] for x in basis[:before]], bits) for i in range(4)]
            for i, (j, row) in enumerate(zip(level.free, level.rows, strict=True)):
                low, high = self.limits(Fraction(self.v[level.start + i], 1 << self.Ev), basis[before + i], 0)
                _fold(limits, j, low if low > 0 else None, high, Eu)  # x > 0 only where x = u; u <= x
                _fold(limits, j, *self.combined(row, level.E, parts), Eu)

    def combined(self, row: Ints, E: int, parts: list["_Packed"]) -> tuple[Fraction, Fraction]:
        """Limits of a unit's u, a combination of the variables before: Y, Z and rest are about the same of theirs."""
        shift = max(0, min(E, max(map(int.bit_length, row[1:])) - 50))
        k, Ec = [x >> shift for x in row[1:]], E - shift
        Y, JY, Z, rest = (part.combined(k) for part in parts)
        up = self.rest + Ec
        for i, (x, y) in enumerate(zip(row[1:], k, strict=True)):
            rest[i] += (x << up - E) - (y << up - Ec)
        return self.limits(Fraction(_dot(row, self.v), 1 << E + self.Ev), (Y, JY, Z, rest), Ec)

    def limits(self, value: Fraction, found: tuple[Any, Any, Any, Any], Ec: int) -> tuple[Fraction, Fraction]:
        """Limits of a functional with that value at v, from Y, J'J Y, Z and rest, all 2^Ec times as large."""
        Y, JY, Z, rest = found
        length = sum(map(abs, Y))
        square = _over(max(0, _dot(Y, JY)) + self.err * length**2, self.EJ + 2 * (self.EY + Ec))
        loss = _over(_dot(map(abs, rest), self.reach), self.rest + Ec + self.Ev)
        loss += _over(self.err * length * sum(self.reach), self.EJ + self.EY + Ec + self.Ev)
        middle = value - _over(_dot(Z, self.flat), self.EZ + Ec + self.Et)
        zs = [ldexp(z, -self.EZ - Ec) for z in Z]
        return middle - self.bracket(Z, zs, -1, square, Ec) - loss, middle + self.bracket(Z, zs, 1, square, Ec) + loss

    def bracket(self, Z: Ints, zs: list[float], sign: int, square: Fraction, Ec: int) -> Fraction:
        """k D + square / (4 k) + sum_i (sign Z_i - 2 k lam_i)_+ room_i, for about the best k."""
        D, alpha = float(self.D), sqrt(float(square))
        least = max(alpha / (2 * sqrt(D)), 1e-150)
        three = zip(zs, self.flam, self.froom, strict=True)
        few = 2 * least * (1 - 1e-9)  # best is at least that: the other rows add nothing
        used = [i for i, (z, lam, _) in enumerate(three) if sign * z > few * lam]
        rows = [(sign * zs[i], 2 * self.flam[i], self.froom[i]) for i in used]
        at = lambda k: k * D + alpha * alpha / (4 * k) + sum([(z - k * l) * r for z, l, r in rows if z > k * l])  # noqa: E731
        free = max([least, *(z / l for z, l, _ in rows if l > 0)])
        low, high = least, free
        for _ in range(16):  # unimodal in k
            one, two = low * (high / low) ** 0.382, low * (high / low) ** 0.618
            low, high = (low, two) if at(one) < at(two) else (one, high)
        best = min((low, high, least, free), key=at)
        need(1e-200 < best < 1e200, "numbers of usual size")
        k, total = Fraction(best), 0
        m, e = k.numerator, k.denominator.bit_length() - 1
        for i in used:
            total += max(0, sign * Z[i] - (_down(2 * m * self.lams[i], self.Elam + e, self.EZ) << Ec)) * self.rooms[i]
        return k * self.D + square / (4 * k) + _over(total, self.EZ + Ec + self.Er)

    # --- in floating point ----------------------------------------------------------------------

    def split(self, z: list[Any]) -> list[list[Any]]:
        """z by kinds of constraints."""
        parts, at = [], 0
        for part in self.kept:
            parts.append(z[at : at + len(part)])
            at += len(part)
        return parts

    def steps(self, y: list[float]) -> list[float]:
        """A y."""
        n0 = self.proof.n0
        out = [*y[:n0], *(-x for x in y[:n0])]
        for x, (s, a), rows in zip(self.levels, self.sf, self.rows, strict=True):
            before, U = x.start - 1, len(x.free)
            part = y[:before]
            u, own = [sum(map(mul, row, part)) for row in rows], y[before : before + U]
            out += [p - q * r for p, q, r in zip(own, s, u, strict=False)]
            out += [p - r for p, r in zip(own, u, strict=False)]
            out += [q * r - p for p, q, r in zip(own, a, u, strict=False)]
            out += [*u[U:], *(-r for r in u[U:])]
        return out

    def curvature(self) -> list[list[float]]:
        """J'J + A'diag(om)A, its lower half."""
        H = [[ldexp(x, -self.EJ) for x in row[: k + 1]] for k, row in enumerate(self.JJ)]
        parts = self.split(self.om)
        for k, (x, y) in enumerate(zip(parts[0], parts[1], strict=True)):
            H[k][k] += x + y
        for k, (x, (s, a), rows) in enumerate(zip(self.levels, self.sf, self.rows, strict=True)):
            w0, w1, w2, d0, d1 = parts[2 + 5 * k : 7 + 5 * k]
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


class _Packed:
    """Vectors of integers, each as one long integer, so that sums of multiples of them are few products; `bits`: of the
    multipliers."""

    def __init__(self, vectors: list[Any], bits: int) -> None:
        largest = max(max(map(int.bit_length, x), default=0) for x in vectors)
        self.n, self.size = len(vectors[0]), (largest + bits + len(vectors).bit_length() + 9) // 8
        self.half, self.bits = 1 << 8 * self.size - 1, bits
        self.offset = sum(self.half << 8 * self.size * i for i in range(self.n))
        self.long = [self.packed(x) for x in vectors]

    def packed(self, x: Any) -> int:
        parts = ((y + self.half).to_bytes(self.size, "little") for y in x)
        return int.from_bytes(b"".join(parts), "little") - self.offset

    def combined(self, k: Ints) -> Ints:
        """The sum of k_i times the i-th vector."""
        need(max(map(int.bit_length, k)) <= self.bits, "multipliers of usual size")
        raw, size = (_dot(k, self.long) + self.offset).to_bytes(self.n * self.size, "little"), self.size
        return [int.from_bytes(raw[i : i + size], "little") - self.half for i in range(0, len(raw), size)]


class _Multipliers:
    """The multipliers of a round, in the file's order: box, then three kinds for all undecided units, two for held ones."""

    def __init__(self, told: dict[str, Any], n0: int) -> None:
        self.n0, self.lam, units = n0, list(told["lam"]), "".join(told["units"])
        self.free, self.held = units.count("?"), units.count("=")
        self.at, self.fixed = 2 * n0, 2 * n0 + 3 * self.free

    def box(self, side: int) -> list[float]:
        return (self.lam or [0.0] * 2 * self.n0)[side * self.n0 : (side + 1) * self.n0]

    def level(self, told: list[bool], marked: Ints, held: Ints) -> list[list[float]]:
        """The five kinds of the next layer; 0 for units of which the file says nothing."""
        count, parts = sum(told), []
        for kind in range(3):
            given = iter(self.lam[self.at + kind * self.free : self.at + kind * self.free + count])
            parts.append([next(given) if x else 0.0 for x in told])
        for kind in range(2):
            start = self.fixed + kind * self.held
            known = dict(zip(marked, self.lam[start : start + len(marked)], strict=True))
            parts.append([known[j] for j in held])
        self.at, self.fixed = self.at + count, self.fixed + len(marked)
        return parts


class _Claimed:
    """The limits that a round's multipliers were found for, in the file's order: c, undecided units, held ones."""

    def __init__(self, told: dict[str, Any], n0: int) -> None:
        units, self.limits, at = "".join(told["units"]), list(told["limits"]), 0
        self.parts = list[list[float]]()
        for count in (n0, n0, *(units.count(mark) for mark in "??==")):
            self.parts.append(self.limits[at : at + count])
            at += count
        self.box = {k: (low, high) for k, (low, high) in enumerate(zip(*self.parts[:2], strict=True))}

    def take(self, kind: int, told: Ints) -> dict[int, tuple[float, float]]:
        """Those of a layer's units, by unit."""
        low, high = (self.parts[2 + 2 * kind + side] for side in range(2))
        found = dict(zip(told, zip(low[: len(told)], high[: len(told)], strict=True), strict=True))
        del low[: len(told)], high[: len(told)]
        return found

    def weaker(self, own: tuple[Ints, Ints], units: Ints, told: dict[int, tuple[float, float]], E: int) -> tuple[Ints, Ints]:
        """The weaker ones of what is proved and what is told: both hold, and multipliers suit the latter."""
        low, high = ([side[j] for j in units] for side in own)
        for i, j in enumerate(units):
            if j in told:
                l, h = (ldexp(max(-1e30, min(1e30, x)), E) for x in told[j])
                low[i], high[i] = min(low[i], floor(l)), max(high[i], ceil(h))
        return low, high


def _over(x: int, E: int) -> Fraction:
    """x / 2^E."""
    return Fraction(x, 1 << E) if E >= 0 else Fraction(x << -E)


def _fold(limits: tuple[Ints, Ints], j: int, low: Fraction | None, high: Fraction, E: int) -> None:
    """Better limits, rounded outward to integers over 2^E."""
    if low is not None:
        limits[0][j] = max(limits[0][j], (low.numerator << E) // low.denominator)
    limits[1][j] = min(limits[1][j], -((-high.numerator << E) // high.denominator))


def _inverse(H: list[list[float]]) -> list[list[float]]:
    """About the inverse of a matrix, positive but for rounding, given by its lower half; rows of numbers."""
    n, more = len(H), 1e-13
    mean = sum(H[k][k] for k in range(n)) / n or 1.0
    while True:
        L = list[list[float]]()
        for i in range(n):
            row = list[float]()
            for j in range(i):
                row.append((H[i][j] - sum(map(mul, row, L[j]))) / L[j][j])
            left = H[i][i] * (1 + more) + more * mean - sum(map(mul, row, row))
            if not left > 0:
                break
            L.append([*row, sqrt(left)])
        if len(L) == n:
            break
        more *= 100
        need(more < 1, "a usual matrix")
    # rows of L^-1, then its Gram matrix
    B = list[list[float]]()
    columns = list[list[float]]([] for _ in range(n))
    for i in range(n):
        row = [-sum(map(mul, L[i][j:i], columns[j])) / L[i][i] for j in range(i)] + [1 / L[i][i]]
        B.append(row)
        for j, x in enumerate(row):
            columns[j].append(x)
    out = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            out[i][j] = out[j][i] = sum(map(mul, columns[i], columns[j][i - j :]))
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], check_file))
