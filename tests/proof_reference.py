"""A proof file's network and rounds a second time, from the inequalities and not from the checker.

Latents of the box are followed through the checker's nodes: those that are better than the level stay within all limits,
exactly. D and all limits of a round are computed again in floating point by the inequalities with the best k: the checker's
may be weaker, never better.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
from proof_cases import numbers

TOL = 1e-8
LENGTHS = {"l2": lambda r: (r * r).sum(), "l1": lambda r: abs(r).sum() ** 2, "linf": lambda r: max(r * r)}


def exact(values: Any) -> np.ndarray:
    """An array of fractions."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, dtype=float))


class Net:
    """The first signal of a file. What is asked of z `(n0,)` is answered in the type of its numbers."""

    def __init__(self, content: dict[str, Any]) -> None:
        take = lambda entry, key: np.array(numbers(entry[key]))  # noqa: E731
        self.norm, (_, self.n0, d, k) = content.get("norm", "l2"), content["shape"]
        seen = np.array([mark == "+" for mark in content["seen"][0]])
        self.layers = []
        for entry in content["layers"]:
            W, b = take(entry, "W").reshape(entry["shape"]), take(entry, "b")
            self.layers.append((W, b, None if entry["slope"] is None else take(entry, "slope")))
        W, b, _ = self.layers.pop()
        self.A = np.eye(d) if content["A"] is None else take(content, "A").reshape(k, d)
        self.A, self.last = self.A[seen], (W, b)
        self.y, self.V = take(content, "y")[:k][seen], take(content, "V")[: self.n0**2].reshape(self.n0, self.n0)
        self.low, self.high = take(content, "box").reshape(2, self.n0)
        self.z, self.level = take(content, "z")[: self.n0], take(content, "level")[0]
        extra, self.E, self.m = content["extra"][0], np.zeros((0, self.n0)), np.zeros(0)
        if extra is not None:
            self.E, self.m = take(extra, "rows").reshape(-1, self.n0), take(extra, "values")
        self.weights = take(content, "weights")[:k][seen] if self.norm == "linf" else None

    @cached_property
    def rational(self) -> "Net":
        """The same in fractions."""
        net = object.__new__(Net)
        net.__dict__.update(self.__dict__)
        net.layers = [(exact(W), exact(b), exact(s)) for W, b, s in self.layers]
        net.last, net.A, net.y = (exact(self.last[0]), exact(self.last[1])), exact(self.A), exact(self.y)
        net.E, net.m, net.V = exact(self.E), exact(self.m), exact(self.V)
        return net

    def units(self, z: np.ndarray) -> list[np.ndarray]:
        """Pre-activations of the hidden layers, in l1 also the residual, whose absolute values are units."""
        found, x = [], z
        for W, b, s in self.layers:
            found.append(W @ x + b)
            x = np.maximum(found[-1], s * found[-1])
        r = self.A @ (self.last[0] @ x + self.last[1]) - self.y
        return [*found, r]

    def misfit(self, z: np.ndarray) -> Any:
        """The squared misfit."""
        return LENGTHS[self.norm](self.units(z)[-1]) + sum((self.E @ z - self.m) ** 2)

    def turned(self, z: np.ndarray) -> np.ndarray:
        """c with z = V c, in fractions, by elimination."""
        M = np.concatenate([exact(self.V), z[:, None]], 1)
        for j in range(self.n0):
            p = max(range(j, self.n0), key=lambda i: abs(M[i, j]))
            M[[j, p]] = M[[p, j]]
            M[j] = M[j] / M[j, j]
            for i in range(self.n0):
                if i != j:
                    M[i] = M[i] - M[i, j] * M[j]
        return M[:, -1]

    def points(self, count: int = 24) -> list[np.ndarray]:
        """Latents of the box: corners, around z, and on the border of what is better than the level."""
        draw = np.random.default_rng(0)
        wide = self.low + draw.random((count, self.n0)) * (self.high - self.low)
        ends = [np.where(draw.random(self.n0) < 0.5, self.low, self.high) for _ in range(4)]
        near = self.z + 10.0 ** draw.uniform(-4, 0, (count, 1)) * draw.standard_normal((count, self.n0))
        border = []
        for way in draw.standard_normal((count, self.n0)):
            a, b = 0.0, 10.0
            for _ in range(60):
                mid = (a + b) / 2
                point = np.clip(self.z + mid * way, self.low, self.high)
                a, b = (mid, b) if self.misfit(point) <= self.level else (a, mid)
            border.append(self.z + a * way)
        return [np.clip(z, self.low, self.high) for z in (*wide, *ends, *near, *border, self.z)]


class Witness:
    """A latent, its turned coordinates, units and squared misfit, in fractions."""

    def __init__(self, net: Net, z: np.ndarray) -> None:
        q = exact(z)
        self.c, self.f = net.turned(q), net.rational.misfit(q)
        units = net.rational.units(q)
        self.u = units if net.norm == "l1" else units[:-1]
        self.r, self.s = units[-1], [layer[2] for layer in net.rational.layers] + [exact(-np.ones(len(units[-1])))]

    def within(self, tree: Any, node: Any) -> bool:
        """Whether it is inside all limits of a node."""
        pairs = [(self.c, node.c, tree.Ec), *zip(self.u, node.u, tree.Eu, strict=False)]
        return all(l <= x * 2**E <= h for xs, (lo, hi), E in pairs for x, l, h in zip(xs, lo, hi, strict=True))


class Reference:
    """A round again: variables w = (c, x of free units), in floating point."""

    def __init__(self, net: Net, tree: Any, node: Any, rel: Any) -> None:
        self.net, self.rel, self.n0, self.v = net, rel, net.n0, np.array([x / 2**rel.Ev for x in rel.v[1:]])
        self.free = [x.free for x in rel.levels]
        self.phases = [
            [1.0 if l >= 0 else s / tree.unit for l, s in zip(lo, slopes, strict=True)]
            for (lo, _), slopes in zip(node.u, tree.s, strict=True)
        ]
        V = len(self.v)
        base = self.affine(np.zeros(V))
        columns = [self.affine(e) for e in np.eye(V)]
        self.J = np.stack([r - base[1] for _, r in columns], 1)
        self.r = self.affine(self.v)[1]
        self.p = self.r if rel.p is None else np.array([x / 2**rel.Ep for x in rel.p])
        self.u = self.affine(self.v)[0]
        self.U = [np.stack([u[k] - base[0][k] for u, _ in columns], 1) for k in range(len(base[0]))]

    def affine(self, w: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Units of all layers that are in constraints, and what the squared misfit is made of, at w."""
        net, at = self.net, self.net.n0
        x, us = net.V @ w[: net.n0], []
        parts = [*net.layers, (None, None, None)] if net.norm == "l1" else net.layers
        for k, (W, b, _) in enumerate(parts):
            us.append(W @ x + b if W is not None else net.A @ (net.last[0] @ x + net.last[1]) - net.y)
            x = us[-1] * np.array(self.phases[k])
            x[self.free[k]] = w[at : at + len(self.free[k])]
            at += len(self.free[k])
        if net.norm == "l1":
            r = np.array([x.sum()])
        else:
            r = net.A @ (net.last[0] @ x + net.last[1]) - net.y
            if net.norm == "linf":
                us.append(r)
                r = net.weights * r
        return us, np.concatenate([r, net.E @ net.V @ w[: net.n0] - net.m])

    def lifted(self, witness: Witness) -> np.ndarray:
        """w of a latent."""
        parts = [witness.c.astype(float)]
        for k, free in enumerate(self.free[: len(witness.u)]):
            u, s = witness.u[k].astype(float)[free], witness.s[k].astype(float)[free]
            parts.append(np.maximum(u, s * u))
        return np.concatenate(parts)

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """A, t(v), largest t, lam, and the lowest, highest values and reaches of the variables, from the limits used."""
        rel, n0, V = self.rel, self.n0, len(self.v)
        ends = np.array([[x / 2**rel.proof.Ec for x in side] for side in rel.box])
        eye, lam = np.eye(V), [[x / 2**rel.Elam for x in part] for part in rel.kept]
        A, t = [eye[:n0], -eye[:n0]], [self.v[:n0] - ends[0], ends[1] - self.v[:n0]]
        most, low, high, at = [ends[1] - ends[0]] * 2, [ends[0]], [ends[1]], n0
        for k, x in enumerate(rel.levels):
            l, h = (np.array([y / 2**x.Eu for y in side]) for side in (x.l, x.h))
            s, u, U = np.array([y / rel.proof.unit for y in x.s]), self.u[k][x.free], self.U[k][x.free]
            own, X = self.v[at : at + len(x.free)], eye[at : at + len(x.free)]
            a = np.array([y / rel.proof.unit for y in x.a])
            A += [X - s[:, None] * U, X - U, a[:, None] * U - X]
            t += [own - s * u, own - u, a * (u - l) + s * l - own]
            most += [(1 - s) * h, (s - 1) * l, (s - a) * l]
            low.append(np.minimum(s * l, 0))
            high.append(np.maximum(s * l, h))
            lo, hi = np.array([[y / 2**x.Eu for y in pair] for pair in x.ends]).reshape(-1, 2).T
            A, t = [*A, self.U[k][x.held], -self.U[k][x.held]], [*t, self.u[k][x.held] - lo, hi - self.u[k][x.held]]
            most += [np.maximum(hi - lo, 0)] * 2
            at += len(x.free)
        low, high = np.concatenate(low), np.concatenate(high)
        whole = [np.concatenate(part) for part in (t, most, lam)]
        reach = np.maximum(np.abs(self.v - low), np.abs(high - self.v))
        return np.concatenate(A), *whole[:2], np.maximum(whole[2], 0), low, high, reach

    def excess(self) -> tuple[float, float]:
        """D, and what is added up in it."""
        A, t, _, lam, low, high, _ = self.rows()
        g, off = self.J.T @ self.p - A.T @ lam, float(np.linalg.norm(self.p - self.r))
        moved = np.maximum(-g * (low - self.v), -g * (high - self.v))
        size = self.net.level + self.p @ self.p + self.r @ self.r + 2 * np.abs(lam * t).sum() + 2 * np.abs(moved).sum()
        size += 2 * (np.abs(self.J).T @ np.abs(self.p) + np.abs(A).T @ lam) @ (np.abs(low) + np.abs(high))
        less = self.p @ self.p - off**2 - 2 * off * self.net.level**0.5
        return float(self.net.level - less + 2 * lam @ t + 2 * moved.sum()), float(size)

    def least(self, F: np.ndarray, Y: np.ndarray, Z: np.ndarray, D: float) -> tuple[float, float]:
        """The least that the inequality makes of F'(w - v), over k, and what is added up in it."""
        A, t, most, lam, _, _, reach = self.rows()
        room = np.where(lam > 0, np.minimum(most, D / (2 * np.maximum(lam, 1e-300))), most)
        rest = np.abs(F - self.J.T @ (self.J @ Y) - A.T @ Z) @ reach
        alpha2 = float(((self.J @ Y) ** 2).sum())
        value = lambda k: k * D + alpha2 / (4 * k) + (np.maximum(Z - 2 * k * lam, 0) * room).sum()  # noqa: E731
        rows = sorted((z / (2 * x), 2 * x * y) for z, x, y in zip(Z, lam, room, strict=True) if z > 0 and x > 0)
        breaks = [k for k, _ in rows]
        slopes = [D - sum(steep for _, steep in rows[count:]) for count in range(len(rows) + 1)]
        flat = [(alpha2 / (4 * slope)) ** 0.5 for slope in slopes if slope > 0]  # where it is flat between kinks
        best = min((k for k in [*breaks, *flat, 1e-150] if k > 0), key=value)
        # rounding of the residual, of which little may be left of much
        lost = 1e-5 * ((np.abs(self.J).T @ (np.abs(self.J) @ np.abs(Y)) + np.abs(A).T @ np.abs(Z)) @ reach)
        return float(-Z @ t + value(best) + rest), float(np.abs(Z * t).sum() + value(best) + rest + lost)


class Followed(Counter):
    """What was looked at, and `wrong`: what of it is not so."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: Counter[str] = Counter()

    def note(self, kind: str, holds: bool) -> None:
        self[kind] += 1
        if not holds:
            self.wrong[kind] += 1


def followed(C: SimpleNamespace, content: dict[str, Any], found: Followed, careful: bool = False) -> list[Any]:
    """The verdicts of the checker C on a file, whose nodes and rounds are looked at; careful: of a walk with care."""
    net = Net(content)
    everyone = [Witness(net, z) for z in net.points()]
    better = [w for w in everyone if w.f <= Fraction(float(net.level))]
    held: dict[int, list[Witness]] = {}

    class Watched(C.tree.Tree):
        def verdicts(self, *parts):
            if careful:
                self.take_care()
            return super().verdicts(*parts)

        def root(self, box):
            node = super().root(box)
            for w in everyone if net.norm == "l2" else better:
                found.note("root", w.within(self, node))
            held[id(node)] = better
            return node

        def round(self, node, told):
            inside = held[id(node)]
            rel = super().round(node, told)
            look_at_round(found, net, self, node, rel, inside)
            for w in inside:
                found.note("bound", node.bound <= w.f)
                found.note("excluded", rel.D >= 0)
            rel.inside = inside
            return rel

        def contract(self, node, rel):
            loose = node.copy()
            for lo, hi in (loose.c, *loose.u):
                lo[:], hi[:] = [-(1 << 4000)] * len(lo), [1 << 4000] * len(hi)
            before = rel.D
            reference = Reference(net, self, node, rel)
            for theta in rel.theta:
                look_at_limits(found, net, self, rel, reference, loose, theta)
            found.note("room for D", rel.D >= before)
            look_at_rooms(found, self, rel)
            super().contract(node, rel)
            for w in rel.inside:
                found.note("raw limits", w.within(self, loose))
                found.note("limits", w.within(self, node))

        def ends(self, *parts):
            left = super().ends(*parts)
            for w in better:
                found.note("left", any(w.within(self, node) for node, _ in left))
            found.note("eps", self.eps**2 >= self.level)
            found.note("misfit", self.misfit() == net.rational.misfit(exact(net.z)))
            found.note("size", self.size == sum(net.rational.y**2))
            return left

        def propagate(self, node):
            inside = [w for w in better if w.within(self, node)]
            super().propagate(node)
            for w in inside:
                found.note("box", w.within(self, node))

        def sides(self, node, split):
            inside = held[id(node)]
            children, sides = super().sides(node, split)
            parts = [[w for w in inside if w.within(self, side)] for side in sides]
            for w in inside:
                found.note("children", any(w in part for part in parts))
            held.update({id(side): part for side, part in zip(sides, parts, strict=True)})
            keep.extend(sides)
            return children, sides

    keep: list[Any] = []  # ids are those of nodes that live
    whole, C.reading.Tree = C.reading.Tree, Watched
    try:
        return C.reading.claims(content)
    finally:
        C.reading.Tree = whole


def look_at_rooms(found: Followed, tree: Any, rel: Any) -> None:
    """What is rounded on the way: rooms, chords, J'J."""
    most, lam = ([x for part in parts for x in part] for parts in (rel.most, rel.kept))
    for x, y, room in zip(most, lam, rel.rooms, strict=True):
        least = min(x, rel.D * (1 << rel.Elam) / (2 * y)) if y else x
        found.note("rooms", Fraction(room, 1 << rel.Er) >= least)
    for x in rel.levels:
        for s, a, l, h in zip(x.s, x.a, x.l, x.h, strict=True):
            found.note("chords", a * (h - l) + s * l >= h * tree.unit)
    large, tree.large = tree.large, False
    whole, _, E = rel.gram()
    tree.large = large
    for row, rounded in zip(whole, rel.JJ, strict=True):
        off = [abs(Fraction(x, 1 << E) - Fraction(y, 1) / Fraction(2) ** rel.EJ) for x, y in zip(row, rounded, strict=True)]
        found.note("J'J", max(off) <= rel.err / Fraction(2) ** rel.EJ)


def look_at_round(found: Followed, net: Net, tree: Any, node: Any, rel: Any, inside: list[Witness]) -> None:
    reference = Reference(net, tree, node, rel)
    A, t, most, lam, low, high, reach = reference.rows()
    D, size = reference.excess()
    found.note("D", float(rel.D) >= D - TOL * size)
    told = np.concatenate([np.array([float(Fraction(x, 1 << rel.Et)) for x in part]) for part in rel.t])
    found.note("t", bool((np.abs(told - t) <= TOL * (1 + np.abs(t) + most)).all()))
    told = np.array([float(x) for part in rel.most for x in part])
    found.note("most", bool((told >= most - TOL * (1 + most)).all()))
    ends = [np.array([x / 2**rel.Ev for x in side]) for side in (rel.low, rel.high)]
    found.note("ranges", bool((ends[0] <= low + TOL).all() and (ends[1] >= high - TOL).all()))
    found.note("reach", bool((np.array([x / 2**rel.Ev for x in rel.reach]) >= reach - TOL).all()))
    for w in map(reference.lifted, inside):
        d = w - reference.v
        slack, scale = t + A @ d, 1 + np.abs(A) @ np.abs(w) + np.abs(t)
        found.note("rows", bool((slack >= -TOL * scale).all() and (slack <= most + TOL * scale).all()))
        found.note("range of it", bool((w >= low - TOL).all() and (w <= high + TOL).all()))
        left = float(((reference.J @ d) ** 2).sum() + 2 * lam @ np.maximum(slack, 0))
        found.note("D of it", left <= float(rel.D) + TOL * size)


def look_at_limits(found: Followed, net: Net, tree: Any, rel: Any, reference: Reference, loose: Any, theta: float) -> None:
    """What a contraction proves of each functional, beside the inequality with the best k; `loose` gets the limits."""
    calls: list[Any] = []
    limits = rel.limits

    def listening(value, parts, Ec):
        calls.append((value, parts, Ec, (rel.EY, rel.EZ), limits(value, parts, Ec)))
        return calls[-1][-1]

    rel.limits = listening
    rel.contract(loose, theta)
    del rel.limits
    every = [*functionals(reference)] * (2 if tree.careful else 1)
    for (F, at), (value, (Y, _, Z, _), Ec, E, (low, high)) in zip(every[: len(calls)], calls, strict=True):
        Y, Z = (np.array([float(x / Fraction(2) ** (e + Ec)) for x in part]) for part, e in zip((Y, Z), E, strict=True))
        found.note("value", abs(float(value) - at) <= TOL * (1 + abs(at) + np.abs(F) @ np.abs(reference.v)))
        if np.abs(Y).max() > 1e6 * np.abs(F).sum():  # what J Y is, floats do not know
            continue
        for sign, end in ((-1, at - float(low)), (1, float(high) - at)):
            least, size = reference.least(sign * F, sign * Y, sign * Z, float(rel.D))
            found.note("functional", end >= least - 100 * TOL * (size + abs(at)))


def functionals(reference: Reference) -> Iterator[tuple[np.ndarray, float]]:
    """F and F'v + const: of c, then of every undecided unit x and u."""
    n0, at, eye = reference.n0, reference.n0, np.eye(len(reference.v))
    for k in range(n0):
        yield eye[k], reference.v[k]
    for k, free in enumerate(reference.free):
        for j in free:
            yield eye[at], reference.v[at]
            yield reference.U[k][j], reference.u[k][j]
            at += 1
