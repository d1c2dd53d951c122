"""Every bound of the proof engine, at latents that are better than its level and inside its node: none may be broken.

Nodes are random parts of the box with some phases fixed; v and multipliers come from the solver and from nowhere. Latents
are driven to the border of what is better, where bounds that are tight show it. Then faults are planted in the source texts,
one at a time, and each must be seen; a pattern that is not found fails the test, so that the list cannot rot.
"""

import importlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scripts
import small_nets
import torch
from planting import planter
from torch import Tensor
from torch.nn.functional import pad

import cvxinv as ci
from cvxinv.inversion.steps.newton import descend

EXACT = Path(ci.__file__).parent / "exact"
MODULES = ("network", "nodes", "relaxation", "bounding", "contraction", "tightening", "search", "opening", "asking")
TOL = 1e-9
PARTS, POINTS = 3, 60  # nodes of a signal; latents of a node, and as many again at the border
SEEDS = range(100)


def engine(package: str = "cvxinv.exact") -> SimpleNamespace:
    return SimpleNamespace(**{name: importlib.import_module(f"{package}.{name}") for name in MODULES})


@dataclass(frozen=True, eq=False)
class Scene:
    """N nodes and M latents of each: c `(N, M, n0)` in the turned box, u of every hidden layer, squared misfit f, and
    which are inside the node and better than `level` `(N,)`. `given`: the nodes before anything was worked out."""

    E: SimpleNamespace
    case: small_nets.Case
    task: object
    sides: tuple[Tensor, Tensor]
    search: object
    given: object
    nodes: object
    level: Tensor
    c: Tensor
    u: list[Tensor]
    x: list[Tensor]
    inside: Tensor
    better: Tensor

    def lifted(self, rel) -> Tensor:
        """w `(N, M, V)` from the generator's own layers."""
        parts = [self.c]
        for layer, level in enumerate(rel.levels):
            at = level.at[:, None].expand(-1, self.c.shape[1], -1)
            parts.append(self.x[layer].gather(2, at) * level.there[:, None])
        return torch.cat(parts, 2)


def layers_of(case: small_nets.Case, z: Tensor, low: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Pre-activations and outputs of the layers with kinks, z - low beside the first, at z `(..., n0)`."""
    us, xs, x = [], [], z
    for layer in case.generator.layers:
        u = x @ layer.W.matrix().T + layer.b
        x = layer.activation(u)
        if layer.activation.kinked:
            us.append(u)
            xs.append(x)
    return [torch.cat([us[0], z - low], -1), *us[1:]], [torch.cat([xs[0], z - low], -1), *xs[1:]]


def scene(E: SimpleNamespace, seed: int) -> Scene:
    case, dice = small_nets.draw(seed), small_nets.Dice(seed + 10**6)
    told = {name: case.told.get(name) for name in ("measurement", "noise", "prior")}
    asked = E.asking.read_asked(case.generator, case.y, case.z, **told, gap=1e-4, box=case.box)
    task, start, sides, gap = asked.task, asked.start, asked.sides, asked.gap
    network = E.network.as_network(task.generator).beside(sides[0])
    search = E.opening.opened(network, task, start.clamp(*sides), sides, gap)
    owner = torch.arange(len(case.y)).repeat_interleave(PARTS)
    N, n0, V = len(owner), len(sides[0]), search.targets.V[owner]

    def look(c: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        z = c @ V.mT
        flat = z.reshape(-1, n0)
        f = task.take(owner.repeat_interleave(c.shape[1])).merit(flat).square().reshape(N, -1)
        return *layers_of(case, z, sides[0]), f

    tried = (sides[0] + (sides[1] - sides[0]) * dice.uniform(N, 40, n0)) @ V
    centre = tried[torch.arange(N), look(tried)[2].argmin(1)][:, None]  # (N, 1, n0)
    given = part_of(search.open.take(owner), centre, look(centre)[0], dice)
    whole = (torch.arange(N) % PARTS == 0)[:, None]  # limits of a whole box are to follow from its sides

    def inside(c: Tensor, u: list[Tensor]) -> Tensor:
        z = c @ V.mT
        pairs = zip([c, *u], [given.low, *given.lo], [given.high, *given.hi], strict=True)
        held = [((a >= low[:, None]) & (a <= high[:, None])).all(-1) | whole for a, low, high in pairs]
        return torch.stack([((z >= sides[0]) & (z <= sides[1])).all(-1), *held]).all(0)

    width = given.high - given.low
    spread = given.low[:, None] + width[:, None] * dice.uniform(N, POINTS, n0)
    scale = 10 ** (-4 * dice.uniform(N, POINTS, 1))
    near = centre + width[:, None] * scale * dice.normal(N, POINTS, n0)
    c = torch.cat([centre, spread, near], 1)
    u, _, f = look(c)
    there = inside(c, u)
    ranked = torch.where(there, f, torch.inf).sort(1).values
    at = torch.tensor([dice.one_of(0.0, 0.1, 0.5) for _ in range(N)]) * (there.sum(1) - 1)
    level = ranked.gather(1, at.long()[:, None])[:, 0] * (1 + 1e-12)
    level = torch.maximum(level, search.precision[owner])
    good = there & (f <= level[:, None])
    # from good ones as far as a latent stays good
    base = c.gather(1, pick(good, POINTS, dice)[..., None].expand(-1, -1, n0))
    way = dice.normal(N, POINTS, n0)
    way = width[:, None] * way / way.norm(dim=2, keepdim=True)
    near_end, far_end = torch.zeros(N, POINTS, 1).double(), torch.ones(N, POINTS, 1).double()
    for _ in range(45):
        middle = (near_end + far_end) / 2
        moved = base + middle * way
        u, _, f = look(moved)
        ok = (inside(moved, u) & (f <= level[:, None]))[..., None]
        near_end, far_end = torch.where(ok, middle, near_end), torch.where(ok, far_end, middle)
    c = torch.cat([c, base + near_end * way], 1)
    u, x, f = look(c)
    there = inside(c, u)
    nodes = E.nodes.through_box(network, search.targets, given)
    return Scene(E, case, task, sides, search, given, nodes, level, c, u, x, there, there & (f <= level[:, None]))


def pick(good: Tensor, count: int, dice: small_nets.Dice) -> Tensor:
    """Positions `(N, count)` of True entries; the first entry where there is none."""
    weight = good.double() + 1e-12
    return torch.multinomial(weight, count, replacement=True, generator=dice.source)


def part_of(nodes, centre: Tensor, u: list[Tensor], dice: small_nets.Dice):
    """Random parts of nodes that hold the centres, some units' phases fixed; the first of each signal whole."""
    N, n0 = len(nodes), centre.shape[2]
    whole = torch.arange(N) % PARTS == 0
    share = torch.tensor([dice.one_of(0.0, 0.3, 0.8) for _ in range(N)])
    size = torch.tensor([dice.one_of(0.03, 0.3, 1.0) for _ in range(N)])[:, None]
    c = centre[:, 0]
    low = torch.maximum(nodes.low, c - size * dice.uniform(N, n0))
    high = torch.minimum(nodes.high, c + size * dice.uniform(N, n0))
    los, his = [], []
    for layer, (lo, hi) in enumerate(zip(nodes.lo, nodes.hi, strict=True)):
        value = u[layer][:, 0]
        fix = (dice.uniform(*lo.shape) < share[:, None]) & ~whole[:, None]
        los.append(torch.where(fix & (value > 0), lo.clamp(min=0), lo))
        his.append(torch.where(fix & (value < 0), hi.clamp(max=0), hi))
    low, high = torch.where(whole[:, None], nodes.low, low), torch.where(whole[:, None], nodes.high, high)
    return type(nodes)(nodes.owner, tuple(los), tuple(his), low, high, nodes.bound, nodes.number)


class Found(Counter):
    """How many bounds of each kind were looked at, and `wrong`: how many of each were broken."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: Counter[str] = Counter()

    def note(self, kind: str, holds: Tensor, where: Tensor) -> None:
        """holds: broadcast with where, the latents that count."""
        where = where.expand_as(holds)
        self[kind] += int(where.sum())
        bad = int((where & ~holds).sum())
        if bad:
            self.wrong[kind] += bad


PARTS_OF = {
    "nodes": ("boxes",), "search": ("boxes",), "opening": ("boxes", "relaxation"), "network": ("relaxation",),
    "relaxation": ("relaxation",), "bounding": ("excess",), "contraction": ("excess",), "tightening": ("tightening",),
}  # fmt: skip
ALL = ("boxes", "relaxation", "excess", "tightening")


def looked_at(E: SimpleNamespace, seed: int, parts: tuple[str, ...] = ALL) -> Found:
    """All bounds of one seed, or some parts of them."""
    found, s = Found(), scene(E, seed)
    if "boxes" in parts:
        look_at_nodes(found, "box", s, s.nodes, s.inside)
        look_at_branches(found, s)
    rel = E.relaxation.Relaxation(s.search.network, s.search.targets, s.nodes)
    w = s.lifted(rel)
    if "relaxation" in parts:
        look_at_relaxation(found, s, rel, w)
    if "excess" in parts:
        for kind, excess in excesses(s, rel, w).items():
            look_at_excess(found, kind, s, rel, w, excess)
    if "tightening" in parts:
        look_at_tightening(found, s, rel, w)
    if "tightening" in parts and seed % 8 == 0:  # the dearest
        level = torch.zeros(len(s.case.y)).double().scatter_reduce(0, s.nodes.owner, s.level, "amax")
        tightened = E.tightening.tighten(s.nodes, level, s.search.relaxed, s.search.through)
        look_at_nodes(found, "tightened", s, tightened)
    return found


def look_at_nodes(found: Found, kind: str, s: Scene, nodes, where: Tensor | None = None) -> None:
    where = s.better if where is None else where
    size = 1 + s.c.abs()
    ok = (s.c >= nodes.low[:, None] - TOL * size) & (s.c <= nodes.high[:, None] + TOL * size)
    found.note(f"{kind}: latent", ok, where[..., None])
    for u, lo, hi in zip(s.u, nodes.lo, nodes.hi, strict=True):
        size = 1 + u.abs()
        ok = (u >= lo[:, None] - TOL * size) & (u <= hi[:, None] + TOL * size)
        found.note(f"{kind}: units", ok, where[..., None])
    found.note(f"{kind}: empty", ~nodes.empty[:, None].expand_as(where), where)


def look_at_branches(found: Found, s: Scene) -> None:
    """Each latent of a node is in one of its branches; by units, and by the box where none is undecided."""
    N = len(s.nodes)
    score = small_nets.Dice(N).uniform(N, sum(s.search.network.widths))
    points = s.E.search.Points(s.c[:, 0], score)
    decided = [torch.ones_like(lo) for lo in s.nodes.lo]
    for nodes in (s.nodes, replace(s.nodes, lo=tuple(decided), hi=tuple(decided))):
        held = torch.zeros_like(s.inside)
        for child in s.search.branch(nodes, points):
            values = [s.c, *s.u] if nodes is s.nodes else [s.c]
            limits = zip(values, [child.low, *child.lo], [child.high, *child.hi], strict=False)
            held |= torch.stack([((a >= lo[:, None]) & (a <= hi[:, None])).all(-1) for a, lo, hi in limits]).all(0)
        inside = torch.stack([((a >= lo[:, None]) & (a <= hi[:, None])).all(-1) for a, lo, hi in zip(
            [s.c, *s.u], [s.nodes.low, *s.nodes.lo], [s.nodes.high, *s.nodes.hi], strict=True
        )]).all(0)  # fmt: skip
        found.note("branches", held, s.inside & inside)


def look_at_relaxation(found: Found, s: Scene, rel, w: Tensor) -> None:
    z = s.c @ s.search.targets.V[s.nodes.owner].mT
    N, M, n0 = z.shape
    f = s.task.take(s.nodes.owner.repeat_interleave(M)).merit(z.reshape(-1, n0)).square().reshape(N, M)
    r = w @ rel.J.mT - rel.q[:, None]
    size = (1 + rel.q.square().sum(1))[:, None]
    found.note("misfit", ((r**2).sum(2) + rel.e[:, None] - f).abs() <= TOL * size, s.inside)
    t = (rel.rows(w.mT) + rel.const[..., None]).mT
    size = 1 + w.abs().amax(2, keepdim=True)
    found.note("rows", (t >= -TOL * size) & (t <= rel.most[:, None] + TOL * size), s.inside[..., None] & rel.active[:, None])
    found.note("ranges", (w >= rel.vl[:, None] - TOL * size) & (w <= rel.vu[:, None] + TOL * size), s.inside[..., None])
    again = rel.lifted(s.c[:, 0])
    found.note("lifted", (again - w[:, 0]).abs() <= TOL * size[:, 0], s.inside[:, :1])


def excesses(s: Scene, rel, w: Tensor) -> dict:
    """Of v and lam from the solver, beside it, and from nowhere."""
    B, dice = s.E.bounding, small_nets.Dice(len(w) + s.c.shape[2])
    solved = B.solve_relaxed(rel, s.level, 1e-8 * s.level + 1e-20)
    kept = solved.take(torch.arange(len(w)))
    lam = kept.lam.clone()
    some = lam * 2 * dice.uniform(*lam.shape) * (dice.uniform(*lam.shape) > 0.2)
    size = (s.level + rel.q.square().sum(1)).sqrt()[:, None]
    wild = size * dice.normal(*lam.shape) * (dice.uniform(*lam.shape) > 0.6)  # those below 0 count as none
    there = (~rel.pad).double()
    return {
        "solved": kept,
        "corrected": B.corrected(rel, s.level, solved.take(torch.arange(len(w)))),
        "bare": B.least_squares(rel, s.level),
        "beside": B.excess(rel, s.level, kept.v + 0.05 * dice.normal(*kept.v.shape) * there, some),
        "wild": B.excess(rel, s.level, w[:, 1] + dice.normal(*kept.v.shape) * there, wild),
    }


def look_at_excess(found: Found, kind: str, s: Scene, rel, w: Tensor, excess) -> None:
    d = w - excess.v[:, None]
    t = (rel.rows(w.mT) + rel.const[..., None]).mT
    lam = excess.lam.clamp(min=0)
    left = (d @ rel.J.mT).square().sum(2) + 2 * (lam[:, None] * t).sum(2)
    size = s.level + rel.e + rel.q.square().sum(1) + (excess.r**2).sum(1) + (lam * excess.t.abs()).sum(1)
    # misfits near 0 are differences of entries as large as the signal's: those of `better` are known to that
    slip = 1e-15 * s.task.size[s.nodes.owner] * s.level.sqrt()
    found.note("excess", left <= (excess.D + TOL * size + slip)[:, None], s.better)
    found.note("reach", d.abs() <= excess.reach[:, None] + TOL * (1 + w.abs()), s.better[..., None])
    some = s.better & (excess.D >= 0)[:, None]
    dice = small_nets.Dice(len(kind))
    N, V = rel.vl.shape
    F = torch.cat([torch.eye(V).double().expand(N, V, V), dice.normal(N, V, 2)], 2)
    combined = [*(x.Pu for x in rel.levels), dice.normal(N, 2, V)]
    every = torch.cat([F, *(C.mT if C.shape[2] == V else pad(C.mT, (0, 0, 0, V - C.shape[2])) for C in combined)], 2)
    value = w @ every
    size = 1 + torch.einsum("nvm,nv->nm", every.abs(), excess.v.abs() + excess.reach)[:, None]
    for theta in (1.0, 4.0, 64.0):
        weights = s.E.bounding.weighed(rel, excess, theta)
        below, above = s.E.bounding.bound_functionals(rel, excess, F, weights, combined)
        below, above = below.nan_to_num(nan=-torch.inf)[:, None], above.nan_to_num(nan=torch.inf)[:, None]
        found.note("contraction", (value >= below - TOL * size) & (value <= above + TOL * size), some[..., None])
    look_at_nodes(found, "contracted", s, s.E.contraction.contract(rel, excess))


def look_at_tightening(found: Found, s: Scene, rel, w: Tensor) -> None:
    T, dice = s.E.tightening, small_nets.Dice(7)
    solved = s.E.bounding.corrected(rel, s.level, s.E.bounding.solve_relaxed(rel, s.level, 1e-8 * s.level + 1e-20))
    some = s.better & (solved.D >= 0)[:, None]
    C = T._undecided_functionals(rel)
    C = torch.cat([C, dice.normal(*rel.vl.shape, 2)], 2)
    width = 0.1 + dice.uniform(*C.shape[::2])
    value, ball = w @ C, (s.level - rel.e).clamp(min=0)
    size = 1 + torch.einsum("nvm,nv->nm", C.abs(), torch.maximum(rel.vl.abs(), rel.vu.abs()))[:, None]
    low = T._lower(rel, ball, solved, C, width, torch.inf)[:, None]
    found.note("tightening", value >= low - TOL * size, some[..., None])
    for side in (1.0, -1.0):
        r = solved.r[..., None] + ball.sqrt()[:, None, None] * dice.normal(*rel.q.shape, C.shape[2])
        strength = dice.one_of(0.1, 1.0)
        eps = ball.sqrt()[:, None] * 10 ** dice.normal(len(w), C.shape[2]) + 1e-9
        mu = solved.lam[..., None] + strength * eps[:, None] * dice.normal(*rel.const.shape, C.shape[2])
        wide = size + ((r.norm(dim=1) * (1 + rel.q.norm(dim=1, keepdim=True)) + mu.abs().sum(1)) / eps)[:, None]
        low = T._true_bound(rel, ball, r, mu, eps, side * C)[:, None]
        found.note("tightening", side * value >= low - TOL * wide, s.better[..., None])


def rivals(s: Scene) -> tuple[Tensor, Tensor]:
    """The best of 30 descents within the box: latents `(S, n0)` and squared misfits `(S,)`."""
    S, n0 = s.case.z.shape
    dice, low, high = small_nets.Dice(11), *s.sides
    its = s.task.take(torch.arange(S).repeat_interleave(30))
    z = low + (high - low) * dice.uniform(len(its.y), n0)
    z = torch.cat([z, descend(its, z, max_iter=30, exact=True).z.clamp(low, high)])
    f = s.task.take(torch.arange(S).repeat_interleave(30).repeat(2)).merit(z).square().reshape(2, S, 30)
    value, at = f.transpose(0, 1).reshape(S, 60).min(1)
    return z.reshape(2, S, 30, n0).transpose(0, 1).reshape(S, 60, n0)[torch.arange(S), at], value


def searched(E: SimpleNamespace, seed: int, gap: float, steps: int = 12) -> Found:
    """What a search says after some steps, beside the best of many descents."""
    found, s = Found(), scene(E, seed)
    S = len(s.case.y)
    z, f = rivals(s)
    worse = small_nets.Dice(seed).one_of(z, s.case.z, 0 * z).clamp(*s.sides)
    search = E.opening.opened(s.search.network, s.task, worse, s.sides, gap)
    for _ in range(steps):
        if len(search.open):
            search.step(16)
    everyone = torch.ones(S, dtype=torch.bool)
    size = s.task.size**2
    found.note("bound", search.bound <= f * (1 + TOL) + 1e-24 * size, everyone)
    found.note("bound of its own", search.bound <= search.f, everyone)
    found.note("in the box", ((search.best >= s.sides[0]) & (search.best <= s.sides[1])).all(1), everyone)
    own = s.task.merit(search.best).square()
    found.note("misfit of its own", (own - search.f).abs() <= TOL * (own + size), everyone)
    held = torch.zeros(S, dtype=torch.bool)
    c = (search.targets.V.mT @ z[..., None])[..., 0]
    u, _ = layers_of(s.case, z, s.sides[0])
    for nodes in [search.open, *search.kept]:
        for k, owner in enumerate(nodes.owner.tolist()):
            pairs = [(c[owner], nodes.low[k], nodes.high[k])]
            pairs += [(x[owner], lo[k], hi[k]) for x, lo, hi in zip(u, nodes.lo, nodes.hi, strict=True)]
            held[owner] |= all(bool(((x >= a - 1e-8) & (x <= b + 1e-8)).all()) for x, a, b in pairs)
    found.note("held", held, f <= search.level * (1 - TOL))
    return found


MET = (115, 161, 199)  # where no unit reaches the signal (161, 199), and a misfit of rounding (115)


@pytest.mark.parametrize(
    "seeds", [(*range(8), *MET), pytest.param(range(8, 200), marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_no_bound_is_broken_at_any_better_latent(seeds: Sequence[int]):
    found, wrong = Counter(), Counter()
    for seed in seeds:
        its = looked_at(engine(), seed)
        found.update(its)
        wrong.update({f"{kind} of seed {seed}": count for kind, count in its.wrong.items()})
    assert not wrong
    least = {"excess": 1_500, "contraction": 80_000, "tightening": 8_000, "box: units": 5_000}  # of each seed, in the mean
    assert all(found[kind] >= count * len(seeds) for kind, count in least.items()), found


def exact(x: Tensor) -> np.ndarray:
    return np.vectorize(Fraction, otypes=[object])(x.numpy()) if x.numel() else np.zeros(x.shape, dtype=object)


def least_room(rel, level: Tensor, excess, k: int) -> Fraction:
    """D of node k in rationals. With r for the rounded residual and r + delta the true one, -2 (r + delta)'J (w - v) <=
    -2 r'J (w - v) + 2 |delta| (|r + delta| + ball^(1/2))."""
    eye = torch.eye(rel.V).double().expand(len(rel.q), -1, -1)
    J, q, A, c, v, lam, r, low, high = (
        exact(x[k]) for x in (rel.J, rel.q, rel.rows(eye), rel.const, excess.v, excess.lam, excess.r, rel.vl, rel.vu)
    )
    true = J @ v - q
    g = J.T @ r - A.T @ lam
    ball = max(0.0, float(level[k] - rel.e[k]))
    delta, length = (float(sum(x**2)) ** 0.5 for x in (true - r, true))
    ends = sum(max(-a * (end - b) for end in ends) for a, b, ends in zip(g, v, zip(low, high, strict=True), strict=True))
    error = Fraction(2 * delta * (length + ball**0.5) * (1 - 1e-9))
    return Fraction(float(level[k])) - Fraction(float(rel.e[k])) - sum(true**2) + 2 * (lam @ (A @ v + c)) + 2 * ends + error


def test_rounding_of_what_multipliers_pull_is_a_share_of_absolute_values():
    for seed in range(4):
        s = scene(engine(), seed)
        rel = s.E.relaxation.Relaxation(s.search.network, s.search.targets, s.nodes)
        V, lam = rel.V, small_nets.Dice(seed).uniform(*rel.const.shape) * rel.active
        size = (rel.rows(torch.eye(V).to(lam).expand(len(lam), V, V)).abs().mT @ lam[..., None])[..., 0]
        kept, rel._A = rel.pull_size(lam), None
        assert torch.allclose(kept, size, rtol=1e-12) and torch.allclose(rel.pull_size(lam), size, rtol=1e-12)


def test_shares_of_long_sums_grow_with_them():
    rel = scene(engine(), 0)
    rel = rel.E.relaxation.Relaxation(rel.search.network, rel.search.targets, rel.nodes)
    assert rel.share == 1e-13
    rel.__dict__.pop("share")
    rel.const = torch.zeros(1, 10_000)
    assert rel.share >= 2 * 10_000 * 2.0**-53


@pytest.mark.parametrize("width", [1.0, 1e-6])
def test_rounding_never_makes_D_smaller(width: float):
    """Also in small nodes, at levels near rounding, and with multipliers whose work is the difference of large numbers."""
    short, count = [], 0
    for seed in range(30, 38):
        s = scene(engine(), seed)
        c = s.c[:, :1].mT[..., 0]
        low, high = (c + width * (end - c) for end in (s.nodes.low, s.nodes.high))
        nodes = replace(s.nodes, low=low, high=high)
        rel = s.E.relaxation.Relaxation(s.search.network, s.search.targets, nodes)
        w = s.lifted(rel)
        for level in (s.level, s.level * 1e-6, s.search.precision[s.nodes.owner]):
            found = excesses(replace(s, level=level), rel, w)
            solved = found["solved"]
            found["opposed"] = s.E.bounding.excess(rel, level, solved.v, solved.lam + 1e6 * level.sqrt()[:, None])
            for kind, excess in found.items():
                for k in range(0, len(level), 2):
                    count += 1
                    if Fraction(float(excess.D[k])) < least_room(rel, level, excess, k):
                        short.append((seed, kind, k, float(level[k]), float(excess.D[k])))
    assert not short and count >= 400, (len(short), count, short[:20])


@pytest.mark.parametrize("gap", [1e-6, 1e-3, 0.3])
def test_no_search_says_more_than_descents_allow(gap: float):
    found, wrong = Counter(), Counter()
    for seed in range(3, 7):
        its = searched(engine(), seed, gap, steps=6)
        found.update(its)
        wrong.update({f"{kind} of seed {seed}": count for kind, count in its.wrong.items()})
    assert not wrong and found["bound"] == 8


BOUNDS = [
    ("bounding", "D without its last term", "+ work + 2 * slope", "+ work"),
    ("bounding", "2 lam't(v) halved", "work = 2 * (lam * t).sum(1)", "work = (lam * t).sum(1)"),
    ("bounding", "what nobody can fit counted twice", "D = ball - (r", "D = ball - rel.e - (r"),
    ("bounding", "the wrong ends of the ranges", "torch.where(g > 0, rel.vl, rel.vu)",
     "torch.where(g < 0, rel.vl, rel.vu)"),
    ("bounding", "multipliers of any sign", "rel.active, lam.clamp(min=0), 0.0)", "rel.active, lam, 0.0)"),
    ("bounding", "v taken to be in its range", "torch.maximum((rel.vu - v).abs(), (v - rel.vl).abs())", "rel.vu - rel.vl"),
    ("bounding", "8 k for 4 k", "alpha2 / (4 * kappa)", "alpha2 / (8 * kappa)"),
    ("bounding", "4 k lam for 2 k lam", "2 * kappa[:, None] * lam", "4 * kappa[:, None] * lam"),
    ("bounding", "the offset dropped", "times(found.v, F) - times(t, Z)", "times(found.v, F)"),
    ("bounding", "the residual dropped", "times(found.reach, rest.abs())", "0 * times(found.reach, rest.abs())"),
    ("bounding", "the residual of combinations dropped", "2 * (C.abs() @ size", "0 * (C.abs() @ size"),
    ("bounding", "combinations shorter", "((G[:, :, its] @ C.mT) ** 2)", "0.5 * ((G[:, :, its] @ C.mT) ** 2)"),
    ("bounding", "the middle of combinations", "(C @ middle[:, its", "(C.abs() @ middle[:, its"),
    ("bounding", "multipliers of combinations forgotten", "(Z[:, :, : C.shape[2]] @", "(0 * Z[:, :, : C.shape[2]] @"),
    ("bounding", "rows that count left out", "> 2 * low[part]", "> 50 * low[part]"),
    ("bounding", "rooms halved", "torch.minimum(rel.most, D[:, None] /", "torch.minimum(0.5 * rel.most, D[:, None] /"),
    ("bounding", "rooms by multipliers halved", "D[:, None] / (2 * found.lam)", "D[:, None] / (4 * found.lam)"),
    ("bounding", "sides exchanged", "enumerate((-Z - limit, Z - limit))", "enumerate((Z - limit, -Z - limit))"),
    ("bounding", "a smaller ball", "down = up = alpha * D.sqrt()", "down = up = 0.7 * alpha * D.sqrt()"),
    ("relaxation", "the chord's slope times 0.9", "a = (h - su * l) / (h - l)", "a = 0.9 * (h - su * l) / (h - l)"),
    ("relaxation", "half a maximum of x - s u", "[(1 - su) * h, -(1", "[0.5 * (1 - su) * h, -(1"),
    ("relaxation", "half a maximum of x - u", "* h, -(1 - su) * l, -(a", "* h, -0.5 * (1 - su) * l, -(a"),
    ("relaxation", "half a maximum of the chord", "-(a - su) * l, dh", "-0.5 * (a - su) * l, dh"),
    ("relaxation", "half the range of an output", "torch.maximum(su * l, h)", "torch.maximum(su * l, 0.5 * h)"),
    ("relaxation", "outputs of LeakyReLU above 0", "(su * l).clamp(max=0)", "(0 * l).clamp(max=0)"),
    ("relaxation", "units on at 0 called off", "torch.where(und, 0.0, torch.where(lo >= 0,",
     "torch.where(und, 0.0, torch.where(lo > 0,"),
    ("relaxation", "the prior's mean forgotten", "targets.m[owner]], 1)", "0 * targets.m[owner]], 1)"),
    ("relaxation", "a bias forgotten", "return P, p + b, (M", "return P, p, (M"),
    ("relaxation", "limits of decided units tightened", "pd - dl, dh - pd]", "pd - dl, 0.9 * dh - pd]"),
    ("nodes", "a line above the activation", "torch.where(h > -l, 1.0, s), a)", "torch.where(h > -l, 1.2, s), a)"),
    ("nodes", "half the chord's height", "up = torch.where(und, (s - a) * l,", "up = torch.where(und, 0.5 * (s - a) * l,"),
    ("nodes", "lines exchanged", "k.clamp(min=0) * d[:, None] + k.clamp(max=0) * a",
     "k.clamp(min=0) * a[:, None] + k.clamp(max=0) * d"),
    ("nodes", "half a box", "(low + high) / 2, (high - low) / 2", "(low + high) / 2, (high - low) / 4"),
    ("contraction", "x below 0 bounds u", "(out_low > 0) & (x.s >= 0)", "(out_low > -1) & (x.s >= 0)"),
    ("contraction", "a constant forgotten", "lo, hi = below[:, at : at + U] + x.base,", "lo, hi = below[:, at : at + U],"),
    ("tightening", "the corner at 0 forgotten", "(gk - pu) * h).clamp(max=0)", "(gk - pu) * h)"),
    ("tightening", "the lower corner forgotten", "torch.minimum((s * gk - pu) * l, (gk - pu) * h)", "((gk - pu) * h)"),
    ("tightening", "the upper corner forgotten", "torch.minimum((s * gk - pu) * l, (gk - pu) * h)", "((s * gk - pu) * l)"),
    ("tightening", "a smaller ball", "times(rel.q, rho) - length * ball", "times(rel.q, rho) - 0.7 * length * ball"),
    ("tightening", "a constant forgotten", "+ times(x.base, pu) +", "+"),
    ("tightening", "the misfit's pull forgotten", "k = C + pulled", "k = C"),
    ("tightening", "the wrong limit of decided units", "times(dh - pd, e2)", "times(dl - pd, e2)"),
    ("tightening", "what nobody can fit counted twice", "rel.ball(level).clamp", "rel.ball(level - 2 * rel.e).clamp"),
    ("tightening", "the other side's sign", "_spread(rel, -low[:, M:]", "_spread(rel, low[:, M:]"),
    ("tightening", "functionals without their sign", "expand(-1, rel.V, -1)) * sign[:, None]", "expand(-1, rel.V, -1))"),
    ("network", "leaky units without a slope", "return float(slopes[0])", "return 0.0"),
    ("search", "one child only", "children.append(child)", "children += [child] * (side == 0)"),
    ("search", "units on from above 0", "a[rows[unit], at[unit]] = 0.0", "a[rows[unit], at[unit]] = 0.1"),
    ("search", "halves that do not meet", "= middle[~unit, 0]\n            else",
     "= middle[~unit, 0] + 0.1\n            else"),
    ("opening", "sigma forgotten", "return sigma[..., None] * (rows.S @ V),", "return 0 * sigma[..., None] + (rows.S @ V),"),
    ("opening", "what nobody can fit counted twice", "(lengths(left)", "(1.5 * lengths(left)"),
    ("opening", "the box not turned", "over_box(V.mT,", "over_box(V,"),
    ("opening", "half the box", "torch.cat([below[:-n0],", "torch.cat([0.5 * below[:-n0],"),
    ("opening", "sides of the box moved", "torch.zeros_like(sides[0])])", "torch.ones_like(sides[0])])"),
]  # fmt: skip
SEARCHES = [
    ("search", "nodes closed early", "gone = (found.D < 0)", "gone = (found.D < 0.7 * level)"),
    ("search", "excluded up to f", "torch.minimum(self.floor, self.f), self.level)",
     "torch.minimum(self.floor, self.f), self.f)"),
    ("search", "open nodes forgotten", "self.open.owner, self.open.bound,", "self.open.owner, self.f[self.open.owner],"),
    ("search", "one child only", "children.append(child)", "children += [child] * (side == 0)"),
    ("opening", "latents outside the box", "end = refined(its, z).clamp(*sides)", "end = refined(its, z)"),
]  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path):
    """Makes an engine of edited source texts, a package that nobody else can import."""
    with planter(EXACT, "planted", engine, tmp_path) as plant:
        yield plant


@pytest.mark.parametrize("fault", BOUNDS, ids=lambda fault: f"{fault[0]}: {fault[1]}")
def test_a_planted_fault_breaks_a_bound(fault: tuple[str, str, str, str], planted):
    place, _, old, new = fault
    E = planted(place, old, new)
    assert any(looked_at(E, seed, PARTS_OF[place]).wrong for seed in SEEDS)


@pytest.mark.parametrize("fault", SEARCHES, ids=lambda fault: f"{fault[0]}: {fault[1]}")
def test_a_planted_fault_makes_a_search_say_too_much(fault: tuple[str, str, str, str], planted):
    place, _, old, new = fault
    E = planted(place, old, new)
    assert any(searched(E, seed, gap, steps).wrong for steps in (1, 12) for seed in range(20) for gap in (1e-4, 0.3))


def test_small_proofs_run_and_nothing_is_wrong(tmp_path: Path):
    scripts.run_script(EXACT.parents[1] / "benchmarks" / "proofs_small.py", "--quick", "--out", str(tmp_path))
    whole = json.loads((tmp_path / "proofs_small_quick.json").read_text())["table"]["all"]
    assert whole["generators"] == 6 and whole["proved"] >= 10 and not any(whole[key] for key in whole if "wrong" in key)
    assert "0 claims wrong" in (tmp_path / "proofs_small_quick.md").read_text()
