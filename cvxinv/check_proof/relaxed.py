"""The relaxation of a node around v, and D: what its multipliers say of the misfit."""

from decimal import Decimal
from fractions import Fraction
from math import ldexp
from typing import Any

from .beside import need, root
from .boxes import Boxes
from .integers import Ints, Packed, dot, down, fine, longest, times, up
from .network import Layer
from .node import Node
from .told import LayerTold, Told, weaker


class Level:
    """A layer of a relaxation: its undecided units, and the decided ones in constraints, with rows [const, slopes] over
    2^E in the variables before; own variables begin at `start`.

    s, a: slopes where cut and of the chord, over 2^ES; l, h: limits of undecided units, ends: of the others, over 2^Eu.
    """

    def __init__(self, P: list[Ints], E: int, Eu: int, start: int, free: Ints, held: Ints) -> None:
        self.E, self.Eu, self.start, self.free, self.held = E, Eu, start, free, held
        self.rows, self.fixed = [P[j] for j in free], [P[j] for j in held]
        self.s, self.a, self.l, self.h = Ints(), Ints(), Ints(), Ints()
        self.ends = list[tuple[int, int]]()


class Relaxed:
    """Variables w = [1, c, x of undecided units], v among them over 2^Ev, their limits low and high; x of the last layer
    are rows X over 2^EX of decided units, and variables `free`.

    contradicted: whether no latent of the node keeps the rows within their limits.
    D: an exact fraction, of p over 2^Ep, or where nothing is told of it of r(v).
    """

    def __init__(self, proof: Boxes, node: Node, told: Told) -> None:
        self.proof, n0 = proof, proof.n0
        self.given, self.Ev = iter(told.v), fine(max(1e-300, *map(abs, told.v)), proof.digits)
        self.theta, self.Ep = told.theta, fine(max(map(abs, told.p or [0.0])), proof.digits)
        self.p = None if told.p is None else [int(ldexp(x, self.Ep)) for x in told.p]
        self.v = [1 << self.Ev, *(self._number() for _ in range(n0))]
        below, above, limits = told.of_box()
        self.box = weaker(node.c, list(range(n0)), limits, proof.Ec)
        self.low = [down(x, proof.Ec, self.Ev) for x in self.box[0]]
        self.high = [up(x, proof.Ec, self.Ev) for x in self.box[1]]
        self.levels, self.lam, self.contradicted = list[Level](), [below, above], False
        P, E, layers = proof.first, proof.E0, told.of_layers()
        for layer, s in enumerate(proof.s):
            self._lift(node.u[layer], s, P, E, layers[layer])
            if layer + 1 < len(proof.layers):
                P, E = self._next(proof.layers[layer + 1]), proof.layers[layer + 1].E + self.EX
        if proof.rows is not None:
            self._limit(node, P, E, layers[-1])
        proof.work.spend(len(proof.target.R) * len(proof.target.columns) + len(self.X) * len(self.v))
        self.V = len(self.v) - 1
        self.Emax = max([proof.Ec, *proof.Eu, *(x.E for x in self.levels)])
        self.Elam = min(600, fine(max(map(max, filter(None, self.lam)), default=0), proof.digits))
        self.kept = [[max(0, int(ldexp(x, self.Elam))) for x in part] for part in self.lam]
        self._excess()

    def _number(self) -> int:
        return int(ldexp(next(self.given), self.Ev))

    def number(self, x: int, E: int) -> Any:
        """x / 2^E in floating point, of integers of any length."""
        if self.proof.careful:
            return Decimal(x) / (1 << E) if E >= 0 else Decimal(x << -E)
        return x / (1 << E) if E >= 0 else float(x << -E)

    def real(self, x: Fraction) -> Any:
        """A fraction in floating point."""
        return Decimal(x.numerator) / x.denominator if self.proof.careful else float(x)

    def whole(self, x: Any, E: int) -> int:
        """A number as an integer over 2^E, E >= 0."""
        return int(x * (1 << E)) if self.proof.careful else int(ldexp(x, E))

    def _lift(self, own: tuple[Ints, Ints], s: Ints, P: list[Ints], E: int, told: LayerTold) -> None:
        """Add a layer: its undecided units become variables; X are the others' outputs."""
        proof, (lo, hi), Eu = self.proof, own, self.proof.Eu[len(self.levels)]
        free = [j for j in range(len(s)) if j in told.free or lo[j] < 0 < hi[j]]
        held = [j for j in told.held if not lo[j] < 0 < hi[j]]
        level, frees = Level(P, E, Eu, len(self.v), free, held), set(free)
        for j, row, l, h in zip(free, level.rows, *weaker(own, free, told.limits, Eu), strict=True):
            l, h = min(l, -1), max(h, 1)  # weaker limits are limits
            level.s.append(s[j])
            level.a.append(proof.chord(l, h, s[j]))
            level.l.append(l)
            level.h.append(h)
            self.low.append(down(min(s[j] * l, 0), Eu + proof.ES, self.Ev))
            self.high.append(up(max(h << proof.ES, s[j] * l), Eu + proof.ES, self.Ev))
            u = dot(row, self.v) >> E
            self.v.append(self._number() if j in told.free else max(u, u * s[j] >> proof.ES))
        self._hold(level, own, told)
        self.lam += told.multipliers(free, held)
        self.levels.append(level)
        to = 0 if not any(s) else proof.ES
        slopes = [proof.unit if lo[j] >= 0 else s[j] for j in range(len(s))]
        self.free, self.decided = free, [j for j in range(len(s)) if j not in frees and slopes[j]]
        self.X = [[x << to if slopes[j] == proof.unit else x * slopes[j] for x in P[j]] for j in self.decided]
        self.EX = E + to

    def _limit(self, node: Node, P: list[Ints], E: int, told: LayerTold) -> None:
        """Add limits of rows, which no activation follows."""
        Eu, held = self.proof.Eu[-1], told.held
        need(not told.free, "rows without kinks")
        level = Level(P, E, Eu, len(self.v), [], held)
        own = self.proof.row_limits(node)
        self.contradicted = any(l > h for l, h in zip(*own, strict=True))
        self._hold(level, own, told)
        self.lam += told.multipliers([], held)
        self.levels.append(level)

    def _hold(self, level: Level, own: tuple[Ints, Ints], told: LayerTold) -> None:
        """Limits of decided units in constraints: their own, and what the variables before allow."""
        E, low, high = level.E + self.Ev, dict[int, int](), dict[int, int]()
        for j, row in zip(level.held, level.fixed, strict=True):
            ends = [(x * l, x * h) for x, l, h in zip(row[1:], self.low, self.high, strict=False)]
            const = row[0] << self.Ev
            low[j] = max(own[0][j], down(const + sum(map(min, ends)), E, level.Eu))
            high[j] = min(own[1][j], up(const + sum(map(max, ends)), E, level.Eu))
        level.ends = list(zip(*weaker((low, high), level.held, told.held_limits, level.Eu), strict=True))

    def _next(self, part: Layer) -> list[Ints]:
        """Rows of the next layer, over 2^(E + EX)."""
        before = len(self.v) - len(self.free)
        self.proof.work.spend(len(part.W) * (len(self.X) * before + len(part.b)))
        packed = Packed(self.X, longest(part.W)) if self.X else None
        P = []
        for w, b in zip(part.W, part.b, strict=True):
            row = [0] * before if packed is None else packed.combined([w[j] for j in self.decided])
            row[0] += b << self.EX
            P.append(row + [w[j] << self.EX for j in self.free])
        return P

    def outputs(self) -> list[Any]:
        """The columns of x_H, of the constant, of c and of the variables before the last layer's: over 2^EX."""
        n, before = len(self.proof.target.columns), len(self.v) - len(self.free)
        columns = [[0] * n for _ in range(before)]
        for j, row in zip(self.decided, self.X, strict=True):
            for k, x in enumerate(row):
                columns[k][j] = x
        return columns

    # --- D --------------------------------------------------------------------------------------

    def _excess(self) -> None:
        """D, with t, their largest values and reach."""
        proof, v, Ev = self.proof, self.v, self.Ev
        size, g, Eg = self._misfit()
        (pull,), Ep = self.pull([self.kept]), self.Emax + proof.ES + self.Elam
        top = max(Eg, Ep)
        g = [(x << top - Eg) - (y << top - Ep) for x, y in zip(g, pull, strict=True)]
        moved = sum(-x * ((lo if x > 0 else hi) - y) for x, lo, hi, y in zip(g, self.low, self.high, v[1:], strict=True))
        self.t, self.most = self._slack()
        work = sum(map(dot, self.kept, self.t)) / Fraction(2) ** (self.Elam + self.Et)
        self.D = proof.level - size + 2 * work + 2 * Fraction(moved, 1 << top + Ev)
        self.reach = [max(hi - y, y - lo) for lo, hi, y in zip(self.low, self.high, v[1:], strict=True)]

    def _misfit(self) -> tuple[Fraction, Ints, int]:
        """|p|^2 - |o|^2 - 2 |o| eps, o = p - r(v), and J'p, and what the latter is over."""
        proof, (r, E) = self.proof, self._residual()
        if proof.extra:
            own = [dot(row, self.v[1 : proof.n0 + 1]) - (m << self.Ev) for row, m in zip(proof.extra, proof.m, strict=True)]
            to = max(E, proof.EE + self.Ev)
            r, E = [x << to - E for x in r] + [x << to - proof.EE - self.Ev for x in own], to
        p, Ep, off = r, E, Fraction(0)
        if self.p is not None:
            p, Ep, to = self.p, self.Ep, max(E, self.Ep)
            o = Fraction(sum(((x << to - Ep) - (y << to - E)) ** 2 for x, y in zip(p, r, strict=True)), 1 << 2 * to)
            off = o + 2 * root(o, up=True) * proof.eps
        g, Eg = self._back(p[: len(proof.target.R)]), self.EX + proof.target.E
        to = max(Eg, proof.EE)
        g = [x << to - Eg for x in g]
        for row, x in zip(proof.extra, p[len(proof.target.R) :], strict=True):
            for k, y in enumerate(row):
                g[k] += x * y << to - proof.EE
        return Fraction(dot(p, p), 1 << 2 * Ep) - off, g, to + Ep

    def _residual(self) -> tuple[Ints, int]:
        """r(v) without the prior's rows, and what it is over."""
        target, v, E = self.proof.target, self.v, self.EX + self.Ev
        h, before = [0] * len(target.columns), len(v) - len(self.free)
        for j, row in zip(self.decided, self.X, strict=True):
            h[j] = dot(row, v)  # over 2^E
        for j, x in zip(self.free, v[before:], strict=True):
            h[j] = x << self.EX
        to = target.Et - target.E
        return [(dot(w, h) << to) - (t << E) for w, t in zip(target.R, target.t, strict=True)], E + target.Et

    def _back(self, p: Ints) -> Ints:
        """J'p without the prior's rows, over 2^(EX + target.E) and what p is over."""
        before, back = len(self.v) - len(self.free), [dot(x, p) for x in self.proof.target.columns]
        g = [dot([back[j] for j in self.decided], x) for x in zip(*self.X, strict=True)] if self.X else [0] * before
        return g[1:] + [back[j] << self.EX for j in self.free]

    def _slack(self) -> tuple[list[Ints], list[list[Fraction]]]:
        """t(v) over 2^Et, and the largest values of t."""
        proof, (lo, hi), v, Ev, ES = self.proof, self.box, self.v, self.Ev, self.proof.ES
        self.Et = self.Emax + Ev + ES
        c, to = [x << self.Et - Ev for x in v[1 : proof.n0 + 1]], self.Et - proof.Ec
        t = [[x - (y << to) for x, y in zip(c, lo, strict=True)], [(y << to) - x for x, y in zip(c, hi, strict=True)]]
        most = [[Fraction(b - a, 1 << proof.Ec) for a, b in zip(lo, hi, strict=True)]] * 2
        for x in self.levels:
            u, to, q = [dot(row, v) << self.Emax - x.E for row in x.rows], self.Emax + Ev - x.Eu, x.start  # 2^(Emax + Ev)
            own = [y << self.Emax + ES for y in v[q : q + len(x.free)]]
            t.append([y - s * z for y, s, z in zip(own, x.s, u, strict=True)])
            t.append([y - (z << ES) for y, z in zip(own, u, strict=True)])
            five = zip(own, u, x.a, x.s, x.l, strict=True)
            t.append([a * (z - (l << to)) + (s * l << to) - y for y, z, a, s, l in five])
            one, E = proof.unit, 1 << x.Eu + ES
            most.append([Fraction((one - s) * h, E) for s, h in zip(x.s, x.h, strict=True)])
            most.append([Fraction((s - one) * l, E) for s, l in zip(x.s, x.l, strict=True)])
            most.append([Fraction((s - a) * l, E) for s, a, l in zip(x.s, x.a, x.l, strict=True)])
            u = [dot(row, v) << self.Emax - x.E + ES for row in x.fixed]
            t.append([z - (l << to + ES) for z, (l, _) in zip(u, x.ends, strict=True)])
            t.append([(h << to + ES) - z for z, (_, h) in zip(u, x.ends, strict=True)])
            most += [[Fraction(max(h - l, 0), 1 << x.Eu) for l, h in x.ends]] * 2
        return t, most

    def pull(self, many: list[list[Ints]]) -> list[Ints]:
        """A'z of many z by kinds, over 2^(Emax + ES) and what z is over."""
        ES, unit, n0 = self.proof.ES, self.proof.unit, self.proof.n0
        out = [[0] * self.V for _ in many]
        for row, z in zip(out, many, strict=True):
            row[:n0] = [(x - y) << self.Emax + ES for x, y in zip(z[0], z[1], strict=True)]
        for k, level in enumerate(self.levels):
            steep, at, to = list[Ints](), level.start - 1, self.Emax - level.E
            for row, z in zip(out, many, strict=True):
                z0, z1, z2, d0, d1 = z[2 + 5 * k : 7 + 5 * k]
                five = zip(z0, z1, z2, level.a, level.s, strict=True)
                steep.append([a * r - s * p - unit * q for p, q, r, a, s in five])
                steep[-1] += [(p - q) << ES for p, q in zip(d0, d1, strict=True)]
                for i, (p, q, r) in enumerate(zip(z0, z1, z2, strict=True)):
                    row[at + i] += (p + q - r) << self.Emax + ES
            if level.rows or level.fixed:
                for row, found in zip(out, times(steep, level.rows + level.fixed), strict=True):
                    row[: len(found) - 1] = [x + (y << to) for x, y in zip(row, found[1:], strict=False)]
        return out
