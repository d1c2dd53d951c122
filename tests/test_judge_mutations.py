"""Faults planted in the judge, one at a time: its claims must turn false, or true ones be lost, before anyone believes it.

The source texts of `certificate`, `bounds` and of what problems are made of are edited in memory. What an edited judge
says of the points of liars is held against optima known in exact arithmetic (`benchmarks/soundness_cases`), and against
answers worked out by hand. A pattern that is not found fails the test, so that the list cannot rot.
"""

import types
from functools import cache
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from claims import FALSE, claims_of, faults
from exact import ExactProblem
from liars import points
from soundness_cases import draw

import cvxinv as ci
from cvxinv.layers.core import bounds, certificate, misfits, precise, problem, units

PLACES = {
    "certificate": certificate, "bounds": bounds, "misfits": misfits, "problem": problem, "units": units, "precise": precise,
}  # fmt: skip
SEEDS = range(40, 80)

FAULTS = [
    (
        "certificate",
        "the worth is not taken off the bound",
        "(lower.bound - self.worth).clamp(min=0)",
        "lower.bound.clamp(min=0)",
    ),
    ("certificate", "the worth is not limited", "_ratio(bounds.worth, allowed)).maximum", "0 * allowed).maximum"),
    ("certificate", "worth of rows dropped", "worth = worth + (p.abs() * self.over).sum(1)", "pass"),
    (
        "certificate",
        "worth of the ball dropped",
        "worth = worth + self.ball * torch.where",
        "worth = worth + 0 * torch.where",
    ),
    ("certificate", "worth of a negative h dropped", "worth = worth + (cost * self.below).sum(1)", "pass"),
    ("bounds", "every bound holds everywhere", "torch.where(wide, within, torch.zeros_like(within))", "torch.inf"),
    ("bounds", "what lacks costs nothing", "loss = slope * torch.where(known, radius, room)", "loss = 0 * slope"),
    (
        "bounds",
        "sigma out of thin air",
        "sigma = torch.where(tall, (S[:, 0] - lost)",
        "sigma = 1e3 + torch.where(tall, (S[:, 0] - lost)",
    ),
    (
        "certificate",
        "infeasible everywhere",
        "scope[left[beyond]] = (away * (unit if isinstance(unit, float) else unit[left]))[beyond]",
        "scope[left[beyond]] = torch.inf",
    ),
    ("certificate", "a ball in other units", "bounds.scope *= outside.unit", "pass"),
    (
        "certificate",
        "a ball without h",
        "times = torch.where(bounds.scope < outside.length, torch.inf, times)",
        "pass",
    ),
    (
        "certificate",
        "no remark of a scope",
        "for i in np.flatnonzero(torch.isfinite(scope).cpu().numpy() & (status != INFEASIBLE)):",
        "for i in ():",
    ),
    (
        "certificate",
        "rows judged by s_y alone",
        "torch.minimum(excess.size, rows.stretched(self.scale[:, None].expand_as(over)))",
        "rows.stretched(self.scale[:, None].expand_as(over))",
    ),
    (
        "certificate",
        "rows judged by their size alone",
        "torch.minimum(excess.size, rows.stretched(self.scale[:, None].expand_as(over)))",
        "excess.size",
    ),
    (
        "misfits",
        "a row's size is the largest row's",
        "torch.addcmul(rows.b.abs(), rows.W.row_lengths(),",
        "torch.addcmul(rows.b.abs(), rows.W.row_lengths().amax(),",
    ),
    (
        "certificate",
        "the sign of h judged by s_y",
        "allowed = self.tol * self.h.abs().amax(1)",
        "allowed = 1e-6 * self.scale",
    ),
    (
        "certificate",
        "an l2 bound judged by s_y",
        'self.tol * self.problem.number("eps") + _MISFIT * self.scale',
        "self.tol * self.scale",
    ),
    ("certificate", "dead rows are limits like others", "over = torch.where(self.dead, 0.0, over)", "pass"),
    (
        "certificate",
        "multipliers of dead rows count",
        "return p if self.dead is None else torch.where(self.dead, 0.0, p)",
        "return p",
    ),
    ("certificate", "broken dead rows are not told", "for i in (dead > 0).any(1).nonzero()[:, 0].tolist():", "for i in ():"),
    ("certificate", "broken dead rows forbid nothing", "never = (dead > reading.tol", "never = (dead > 1e300 * reading.tol"),
    ("certificate", "everything is two-sided", "& reading.feasible() & torch.isinf(bounds.scope)", ""),
    (
        "certificate",
        "infeasible by less than the tolerance",
        "part.infeasibility(dual[left], reading.tol * part.rows.scale())",
        "part.infeasibility(dual[left], 0.0 * part.rows.scale())",
    ),
    ("certificate", "infeasible however near", "_FAR * size / (rows.W.norm() or 1.0)", "0.0 * size"),
    (
        "certificate",
        "a lost factor of what is allowed",
        "self.allowed = torch.maximum(tol *",
        "self.allowed = torch.maximum(1e3 * tol *",
    ),
    (
        "units",
        "units of h upside down",
        "unit = (self.data / self.norm)[:, None]",
        "unit = (self.norm / self.data)[:, None]",
    ),
    (
        "units",
        "weights of stretched rows left alone",
        '"weight": rows.weight / stretch**2',
        '"weight": rows.weight',
    ),
    (
        "units",
        "sizes of columns forgotten",
        "return self.columns if before is None else before * self.columns",
        "return before",
    ),
    (
        "problem",
        "natural size of stretched columns",
        "return scale / (self._plain_norm() or 1.0) if norm",
        "return scale / (self.rows.W.norm() or 1.0) if norm",
    ),
]


def planted(place, old, new):
    """`certify` of the judge with a fault in one of its places."""
    texts = {name: Path(module.__file__).read_text() for name, module in PLACES.items()}
    assert texts[place].count(old), f"nothing to plant: {old!r} is no longer in {place}.py; rewrite the fault"
    texts[place] = texts[place].replace(old, new)
    modules = {}
    for name in ("bounds", "certificate"):
        modules[name] = types.ModuleType(f"cvxinv.planted_{name}")
        modules[name].__package__ = "cvxinv.layers.core"
        exec(compile(texts[name], f"planted {name}.py", "exec"), modules[name].__dict__)
    modules["certificate"].near = modules["bounds"].near
    return modules["certificate"].certify


@cache
def lies():
    """Problems with an optimum known exactly, and points with the claims that the judge as it is makes of them."""
    found = []
    for seed in SEEDS:
        drawn = draw(seed)
        if "real" in drawn.features:
            continue
        exact, rng = ExactProblem(drawn.problem), np.random.default_rng(seed)
        some = list(points(drawn, drawn.h, drawn.p, rng))
        for k in sorted({0, *rng.permutation(len(some))[:7].tolist()}):
            _, h, p = some[k]
            weighed = [exact.weigh(i, h[i]) if np.isfinite(h[i]).all() else None for i in range(len(h))]
            found.append((drawn, exact, h, p, weighed))
    return found


def sayings(certify):
    """Of the answers by hand, then of each point: what is false, and how many optima are recognised. Cheapest first."""
    yield {name for name, holds in by_hand(certify).items() if not holds}, 0
    for drawn, exact, h, p, weighed in lies():
        for dual in (p, None):
            judged = certify(drawn.problem, h) if dual is None else certify(drawn.problem, h, dual)
            wrong, recognised = set(), 0
            for i, claim in enumerate(claims_of(judged)):
                wrong |= {kind for kind in faults(exact, i, claim, weighed[i], drawn.truths[i]) if kind in FALSE}
                recognised += claim.status == "optimal" and bool(drawn.truths[i].known)
            yield wrong, recognised


def verdict(certify):
    """All that is false of its claims, and how many optima it recognises."""
    said = list(sayings(certify))
    return set().union(*(wrong for wrong, _ in said)), sum(recognised for _, recognised in said)


def shown(certify, plain):
    """What shows a fault first: an exception, a false claim, or that fewer optima than `plain` are recognised."""
    recognised = 0
    try:
        for wrong, found in sayings(certify):
            if wrong:
                return wrong
            recognised += found
    except (RuntimeError, ValueError, IndexError, TypeError) as stopped:
        return {repr(stopped)}
    return {f"{plain - recognised} optima are lost"} if recognised < plain else set()


def t(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def lasso(W, b, y, on, lam=0.0, kind=ci.NonnegativeLasso):
    return kind(ci.Rows(ci.Dense(t(*W)), t(*b), t(y), torch.tensor([on])), lam)


def by_hand(certify):
    """Claims whose truth is worked out here: name, and whether the judge has it right."""
    small = lasso([[1.0], [1e-6]], [0.0, -2.5e-7], [1.0, 0.0], [True, False])  # h <= 1/4 in a row of 1e-6, f* = 9/32
    dead = lasso([[1.0], [0.0]], [0.0, 1e-7], [1.0, 0.0], [True, False])
    worse = lasso([[1.0], [0.0]], [0.0, 1e-5], [1.0, 0.0], [True, False])
    twins = lasso([[0.1, 0.1], [0.7, 0.7], [0.3, 0.3]], [0.0] * 3, [1.0, 2.0, 4.0], [True] * 3, kind=ci.Lasso)
    wide = lasso([[1.0, 0.0], [0.0, 1e6]], [0.0, 0.0], [1e3, -1.0], [True, True])  # h = (1e3, -1e-6) has f = 0, f* is 1/2
    near = lasso([[1.0, 1.0], [0.0, 1e-7], [0.0, 0.0]], [0.0] * 3, [1.0, 1.0, 1.0], [True] * 3, kind=ci.Lasso)
    ball = ci.NonnegativeBasisPursuitL2(ci.Rows(ci.Dense(t([1.0])), t(0.0), t([1.0]), torch.tensor([[True]])), 1e-3)
    h = torch.linalg.lstsq(twins.rows.W.matrix(), t(1.0, 2.0, 4.0), driver="gelsd").solution[None]
    judged = certify(twins, h)
    below = certify(wide, t([1e3, -1e-6]), t([0.0, 1.0]))  # one-sided: 0 is below f*, and (D) at this p is f*
    # twins beside a short column, whose unknown is long: the ball in which the bound holds is not
    tiny = lasso(
        [[0.1, 0.1, 1e-12], [0.7, 0.7, 0.0], [0.3, 0.3, 0.0]], [0.0] * 3, [1.0, 2.0, 4.0], [True] * 3, kind=ci.Lasso
    )
    a, c = torch.linalg.lstsq(t([0.1, 1.0], [0.7, 0.0], [0.3, 0.0]), t(1.0, 2.0, 4.0)).solution.tolist()
    outside = certify(tiny, t([a / 2, a / 2, c * 1e12]))
    steep = lasso(
        [[1e11, 1e11, 1.0], [7e11, 7e11, 0.0], [3e11, 3e11, 0.0]], [0.0] * 3, [1.0, 2.0, 4.0], [True] * 3, kind=ci.Lasso
    )
    few = certify(ci.NonnegativeBasisPursuitL2(ball.rows, 0.0), t([1.0]), t([-1.0]))
    capped = lasso([[1.0], [1.0]], [0.0, -0.25], [1.0, 0.0], [True, False])  # an excess e is worth 3/4 e of 9/32
    e = 1.02 * 0.375e-6
    beyond = certify(capped, t([0.25 + e]), t([-0.75 + e, 0.75]))
    line = lasso([[1.0], [1.0]], [0.0, 0.0], [1.0, 0.0], [True, True], kind=ci.Lasso)  # f* = 1/4 at 1/2, f(0.6) = 0.26
    short = lasso([[1e3, 0.0], [0.0, 1e3]], [0.0, 0.0], [-1e-4, 1.0], [True, True])  # met by (-1e-7, 1e-3)
    # h_1 - 1e-12 h_2 <= -1 is met from h_2 = 1e12 on; the other row gives the second column a length
    away = lasso([[1.0, -1e-12], [0.0, 1.0]], [1.0, 0.0], [0.0, 0.0], [False, True])
    distant = certify(away, t([0.0, 0.0]), t([1.0, 0.0]))
    apart = ci.NonnegativeBasisPursuitLinf(
        ci.Rows(ci.Dense(t([1.0], [1.0])), t(0.0, 0.0), t([1.0, 1.0 + 5e-7]), torch.tensor([[True, True]])), 0.0
    )
    long = ci.NonnegativeBasisPursuitLinf(
        ci.Rows(ci.Dense(t([1e9, 0.0], [0.0, 1.0])), t(0.0, 0.0), t([1.0, 0.0]), torch.tensor([[True, True]])), 1.0
    )  # h = 0 is allowed; so is (0, 1e-17), which is 1e8 times what counts as none
    return {
        "worth is limited": beyond.status[0] == "optimal_inaccurate",
        "what lacks has a price": not certify(line, t([0.6]), t([-0.4, 0.6])).holds.any(),
        "a sign by its own size": certify(short, t([-1e-7, 1e-3]), t([0.0, 0.0])).status[0] == "optimal_inaccurate",
        "infeasible up to": distant.status[0] == "infeasible" and 1e11 < float(distant.scope) < 2e12,
        "not infeasible by less": certify(apart, t([1.0]), t([1.0, -1.0])).status[0] != "infeasible",
        "a length next to none": not certify(long, t([0.0, 1e-17]), t([0.0, 0.0])).holds.any(),
        "broken by much of worth": not certify(small, t([1.0]), t([0.0, 0.0])).holds.any(),
        "broken by much of worth, p": not certify(small, t([1.0]), t([-0.75, 0.75e6])).holds.any(),
        "the optimum": bool(certify(small, t([0.25]), t([-0.75, 0.75e6])).holds),
        "a dead row told": "row 1" in certify(dead, t([1.0]), t([0.0, 1e300])).remark[0],
        "a dead row": bool(certify(dead, t([1.0]), t([0.0, 0.0])).holds),
        "a dead row forbids": certify(worse, t([1.0]), t([0.0, 0.0])).status[0] == "infeasible",
        "a ray of a dead row": not certify(dead, t([100.0]), t([0.0, 1e300])).holds.any(),
        "twins have a scope": float(judged.scope) < inf and "|h|" in judged.remark[0] and bool(judged.holds),
        "a ball without h": not outside.holds.any() and float(outside.scope) < abs(c) * 1e12,
        "a ball in units of h": not certify(steep, t([a / 2e12, a / 2e12, c])).holds.any(),
        "a sign is a side": not certify(wide, t([1e3, -1e-6])).two_sided.any(),
        "worth of a sign": below.status[0] == "optimal" and bool((below.bound <= below.objective).all()),
        "beyond the ball": not certify(near, t([1.0, 0.0])).holds.any(),
        "near the ball's end": not certify(ball, t([0.999 - 5e-7]), t([-1.0])).holds.any(),
        "at the ball's end": bool(certify(ball, t([0.999]), t([-1.0])).holds) and bool(few.holds),
        "feasible": certify(ci.NonnegativeBasisPursuitL2(ball.rows, 0.0), t([0.0]), t([-1.0])).status[0] != "infeasible",
    }


def test_the_judge_as_it_is_says_nothing_false():
    wrong, recognised = verdict(ci.certify)
    assert not wrong and recognised > 100, (wrong, recognised)


@pytest.fixture(scope="module")
def plain():
    return verdict(ci.certify)[1]


@pytest.mark.parametrize(("place", "what", "old", "new"), [pytest.param(*f, id=f"{f[0]}-{f[1]}") for f in FAULTS])
def test_every_fault_in_the_judge_is_caught(place, what, old, new, plain, monkeypatch):
    if place in ("misfits", "problem", "units"):
        spoil(monkeypatch, place, old, new)
        certify = ci.certify
    else:
        certify = planted(place, old, new)
    assert shown(certify, plain), f"{what}: nothing false is claimed, and nothing true is lost"


def spoil(monkeypatch, place, old, new):
    """The fault in a file whose classes are everyone's: the edited functions take the place of the others."""
    theirs, text = PLACES[place], Path(PLACES[place].__file__).read_text()
    assert text.count(old), f"nothing to plant: {old!r} is no longer in {place}.py; rewrite the fault"
    module = types.ModuleType(f"cvxinv.layers.core.planted_{place}")
    module.__package__ = "cvxinv.layers.core"
    exec(compile(text.replace(old, new), f"planted {place}.py", "exec"), module.__dict__)
    for owner in {"misfits": ["AbstractMisfit"], "problem": ["AbstractLayerProblem"], "units": ["Units"]}[place]:
        for name, value in vars(getattr(module, owner)).items():
            if isinstance(value, types.FunctionType | property) and not name.startswith("__"):
                monkeypatch.setattr(getattr(theirs, owner), name, value)
    for user in (problem, certificate):
        monkeypatch.setattr(user, "units_of", units.units_of if place != "units" else module.units_of)
