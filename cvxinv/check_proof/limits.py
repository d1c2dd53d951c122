"""What a round proves of the latent and of undecided units.

For a functional F'w, any Y, Z and k > 0, rest = F - J'J Y - A'Z:

    F'w <= F'v - Z't(v) + k D + |J Y|^2 / (4 k) + sum_i (Z_i - 2 k lam_i)_+ room_i + sum_j |rest_j| reach_j

Y and Z = diag(om) A Y come from an inverse in floating point, k from a search; what they prove is computed by integers.

In 53 digits rest is about |H| |Y| 2^-53, H = J'J + A'diag(om)A, and |Y| times what is added to H's diagonal; all the range
of w is multiplied with it, which is more than is left of that where weights cancel. So a tree whose claims do not come out
is walked again with care: with vectors of 60 decimal digits.
"""

from fractions import Fraction
from functools import cached_property
from math import ldexp, sqrt
from typing import Any

from .beside import need
from .floating import Rows, curvature, inverse, steps
from .integers import Ints, Packed, dot, down, fine, longest, over, times
from .node import Node, fold
from .relaxed import Relaxed

_TINY = Fraction(1, 1 << 900)
DIGITS = 100  # binary ones of J'J of large networks
_MOST = 10**150  # of D
_LEAST = 600  # binary digits behind the point of multipliers, so that no float of theirs is rounded to 0


class Round(Relaxed):
    """A relaxation with the limits that its multipliers prove."""

    ready = False

    def weights(self, theta: float) -> list[Any]:
        """om = theta lam^2 / D."""
        D = self.real(max(self.D, _TINY))
        return [theta * x * x / D for x in (self.number(x, self.Elam) for part in self.kept for x in part)]

    def near(self) -> list[Any]:
        """What is added to H's diagonal so that no w is looked for far beyond its range: of D / reach^2 a hundredth."""
        D = self.real(max(self.D, _TINY)) / 100
        return [D / self.number(max(x, 1), self.Ev) ** 2 for x in self.reach]

    def solved(self, om: list[Any], more: list[Any]) -> Rows:
        """About the inverse of J'J + A'diag(om)A, and more on its diagonal where there is some."""
        self.proof.work.spend(3 * self.V**3)
        H = curvature(self, *self.squares, om)
        for k, x in enumerate(more):
            H[k][k] += x
        return inverse(H, 1e-45 if more else 1e-13)

    @cached_property
    def squares(self) -> tuple[list[Ints], int]:
        """J'J in integers over 2^EJ, and EJ."""
        JJ, self.err, EJ = self.gram()
        return JJ, EJ

    def gram(self) -> tuple[list[Ints], int, int]:
        """J'J in integers over 2^EJ, how far off an entry may be, and EJ."""
        proof, target, before = self.proof, self.proof.target, self.V - len(self.free)
        proof.work.spend(before * len(self.decided) * (len(self.decided) + self.V))
        JJ, EJ = [[0] * self.V for _ in range(self.V)], 2 * (target.E + self.EX)
        if self.decided:
            X = [row[1:] for row in self.X]
            both = self.decided + self.free
            GX = times(list(zip(*X, strict=True)), [[target.G[j][k] for k in both] for j in self.decided])
            inner = times([row[: len(self.decided)] for row in GX], X)
            for c, (row, cross) in enumerate(zip(inner, GX, strict=True)):
                JJ[c][:before] = row
                JJ[c][before:] = [x << self.EX for x in cross[len(self.decided) :]]
        for i, j in enumerate(self.free):
            JJ[before + i] = [row[before + i] for row in JJ[:before]] + [target.G[j][k] << 2 * self.EX for k in self.free]
        if proof.extra:
            E = max(EJ, 2 * proof.EE)
            JJ, EJ, columns = [[x << E - EJ for x in row] for row in JJ], E, list(zip(*proof.extra, strict=True))
            for c, x in enumerate(columns):
                for d, y in enumerate(columns):
                    JJ[c][d] += dot(x, y) << E - 2 * proof.EE
        largest = max(JJ[k][k] for k in range(self.V)).bit_length()
        if not proof.large or largest <= DIGITS:
            return JJ, 0, EJ
        return [[x >> largest - DIGITS for x in row] for row in JJ], 1, EJ - largest + DIGITS

    def prepare(self) -> None:
        """What the functionals of a round share."""
        self.JJ, self.EJ = self.squares
        D, to = max(self.D, _TINY), fine(max(self.D, _TINY), 120)
        self.D = over(-(-(D.numerator << to) // D.denominator), to)  # rounded up
        self.lams, self.flat = ([x for part in parts for x in part] for parts in (self.kept, self.t))
        most = [x for part in self.most for x in part]
        twice = self.D * Fraction(2) ** (self.Elam - 1)  # of any size, as multipliers are
        room = [x if not y else min(x, twice / y) for x, y in zip(most, self.lams, strict=True)]
        self.Er = fine(max(room), 80)
        self.rooms = [-(-(x.numerator << self.Er) // x.denominator) for x in room]
        self.flam, self.froom = [ldexp(x, -self.Elam) for x in self.lams], [ldexp(x, -self.Er) for x in self.rooms]
        self.ready = True

    def contract(self, node: Node, theta: float) -> None:
        """Put into the node the limits of c and of undecided units that Y = (J'J + theta A'diag(lam^2)A / D)^-1 F proves."""
        if not self.ready:
            self.prepare()
        if self.D > _MOST:
            return  # multipliers beyond floating point: limits that are not worked out are none
        om = self.weights(self.real(Fraction(theta)))
        for more in ([], self.near()) if self.proof.careful else ([],):
            self._fold(node, om, self.solved(om, more))

    def _fold(self, node: Node, om: list[Any], Yf: Rows) -> None:
        """Put into the node the limits of c and of undecided units that vectors Y and Z = om A Y prove."""
        proof, bits = self.proof, self.proof.digits + 10
        Zf = [[x * y for x, y in zip(om, z, strict=True)] for z in steps(self, Yf)]
        largest, thick = (max((max(map(abs, row), default=0.0) for row in rows), default=0.0) for rows in (Yf, Zf))
        if not (1e-200 < largest < 1e200 and thick < 1e200):
            return
        self.EY, self.EZ = fine(float(largest), bits), min(_LEAST, fine(float(thick), bits))
        Y = [[self.whole(x, self.EY) for x in y] for y in Yf]
        Z = [[self.whole(x, self.EZ) for x in z] for z in Zf]
        JY = times(Y, self.JJ)
        E1, E2 = self.EJ + self.EY, self.Emax + proof.ES + self.EZ
        self.Erest = max(E1, E2, self.Emax)
        rests = []
        for k, (x, pulled) in enumerate(zip(JY, self.pull([self._split(z) for z in Z]), strict=True)):
            rests.append([-(a << self.Erest - E1) - (b << self.Erest - E2) for a, b in zip(x, pulled, strict=True)])
            rests[k][k] += 1 << self.Erest
        basis = list(zip(Y, JY, Z, rests, strict=True))
        for k in range(proof.n0):
            fold(node.c, k, *self.limits(Fraction(self.v[1 + k], 1 << self.Ev), basis[k], 0), proof.Ec)
        for level, limits in zip(self.levels, node.u, strict=False):
            if not level.free:
                continue
            before = level.start - 1
            bits = max(proof.precise + 2, longest(row[1:] for row in level.rows) - level.E + 1)
            parts = [Packed([x[i] for x in basis[:before]], bits) for i in range(4)]
            for i, (j, row) in enumerate(zip(level.free, level.rows, strict=True)):
                low, high = self.limits(Fraction(self.v[level.start + i], 1 << self.Ev), basis[before + i], 0)
                # u <= x; x = u where x is above 0, with slopes that are not negative; s u <= x
                least = low if low > 0 and level.s[i] >= 0 else None
                fold(limits, j, high * proof.unit / level.s[i] if level.s[i] < 0 else least, high, level.Eu)
                fold(limits, j, *self._combined(row, level.E, parts), level.Eu)

    def _split(self, z: Ints) -> list[Ints]:
        """z by kinds of constraints."""
        parts, at = list[Ints](), 0
        for part in self.kept:
            parts.append(z[at : at + len(part)])
            at += len(part)
        return parts

    def _combined(self, row: Ints, E: int, parts: list[Packed]) -> tuple[Fraction, Fraction]:
        """Limits of a unit's u, a combination of the variables before: Y, Z and rest are about the same of theirs."""
        shift = max(0, min(E, longest([row[1:]]) - self.proof.precise))
        k, Ec = [x >> shift for x in row[1:]], E - shift
        need(Ec <= _LEAST // 2, "weights of usual size")
        Y, JY, Z, rest = (part.combined(k) for part in parts)
        to = self.Erest + Ec
        for i, (x, y) in enumerate(zip(row[1:], k, strict=True)):
            rest[i] += (x << to - E) - (y << to - Ec)
        return self.limits(Fraction(dot(row, self.v), 1 << E + self.Ev), (Y, JY, Z, rest), Ec)

    def limits(self, value: Fraction, found: tuple[Any, Any, Any, Any], Ec: int) -> tuple[Fraction, Fraction]:
        """Limits of a functional with that value at v, from Y, J'J Y, Z and rest, all 2^Ec times as large."""
        Y, JY, Z, rest = found
        length = sum(map(abs, Y))
        square = over(max(0, dot(Y, JY)) + self.err * length**2, self.EJ + 2 * (self.EY + Ec))
        loss = over(dot(map(abs, rest), self.reach), self.Erest + Ec + self.Ev)
        loss += over(self.err * length * sum(self.reach), self.EJ + self.EY + Ec + self.Ev)
        middle = value - over(dot(Z, self.flat), self.EZ + Ec + self.Et)
        zs = [ldexp(z, -self.EZ - Ec) for z in Z]
        low, high = (self.bracket(Z, zs, sign, square, Ec) for sign in (-1, 1))
        return middle - low - loss, middle + high + loss

    def bracket(self, Z: Ints, zs: list[float], sign: int, square: Fraction, Ec: int) -> Fraction:
        """k D + square / (4 k) + sum_i (sign Z_i - 2 k lam_i)_+ room_i, for about the best k."""
        D, alpha = float(self.D), sqrt(float(square))
        least = max(alpha / (2 * sqrt(D)), 1e-150)
        few = 2 * least * (1 - 1e-9)  # best is at least that: the other rows add nothing
        used = [i for i, (z, lam) in enumerate(zip(zs, self.flam, strict=True)) if sign * z > few * lam]
        best = _best(D, alpha, least, [(sign * zs[i], 2 * self.flam[i], self.froom[i]) for i in used if self.flam[i]])
        need(1e-200 < best < 1e200, "numbers of usual size")
        k, total = Fraction(best), 0
        m, e = k.numerator, k.denominator.bit_length() - 1
        for i in used:
            total += max(0, sign * Z[i] - (down(2 * m * self.lams[i], self.Elam + e, self.EZ) << Ec)) * self.rooms[i]
        return k * self.D + square / (4 * k) + over(total, self.EZ + Ec + self.Er)


def _best(D: float, alpha: float, least: float, rows: list[tuple[float, float, float]]) -> float:
    """k >= least for which k D + alpha^2 / (4 k) + sum (z - k l)_+ room is about least; rows: z, l > 0, room."""
    k, slope = least, D - sum(l * room for _, l, room in rows)
    for end, steep in sorted((z / l, l * room) for z, l, room in rows):
        if slope > 0 and alpha <= 2 * end * sqrt(slope):
            break
        k, slope = max(k, end), slope + steep
    return max(k, alpha / (2 * sqrt(slope))) if slope > 0 else k
