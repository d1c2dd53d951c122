"""Exercises of networks and of theory: statements converted, steps on a net, uniqueness, counterexamples, global bounds."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as Random

from ..generator.activations import Identity, ReLU
from ..generator.chain import Generator, Layer
from ..generator.maps import Dense
from ..guarantees.coherence import coherence
from ..guarantees.spark import spark
from ..inversion.verify import verify
from ..layers.basis_pursuit_l2 import BasisPursuitL2
from ..layers.core.certificate import certify
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..solvers.solve import solve
from .drawing import Shape, draw_rows, fitted_rows, solved
from .exercise import Answer, Exercise, Finding, Instance, Passed, drawn_until
from .judging import Values, alike, by_name, judge_values, judged_point
from .layer_exercises import LEI, PAPER, TAKES

_SHAPES = (Shape("as shown", 7, 3), Shape("drawn", 12, 4), Shape("drawn, large numbers", 10, 4, scale=1e3))


def _exercise(name: str, title: str, task: str, takes: dict[str, str], gives: dict[str, str], **more: Any) -> Exercise:
    level, source, judge = more.pop("level", "theory"), more.pop("source", PAPER), more.pop("judge", judge_values)
    return Exercise(name, title, level, task, takes, gives, judge=judge, source=source, **more)


# --- conversions --------------------------------------------------------------------------------------


def _masks(random: Random) -> Iterator[Instance]:
    """y behind a ReLU, NaN where it was not seen."""
    for shape in _SHAPES:
        drawn = draw_rows(random, replace(shape, hidden=2))
        hidden = ~drawn.on & ~drawn.off
        y = np.where(hidden, np.nan, np.where(drawn.on, np.abs(drawn.y), 0.0))
        on, off = (mask.astype(float) for mask in (drawn.on, drawn.off))
        wrong = {
            "hidden rows count as off: NaN > 0 is false": (on, 1 - on),
            "hidden rows count as on": (on + hidden, off),
            "y >= 0 in place of y > 0: rows that were cut count as on": (on + off, 0 * off),
            "on and off are exchanged": (off, on),
        }
        lines = {"on": "on: seen, and y > 0", "off": "off: seen, and y = 0"}
        known = Values({"on": on, "off": off}, lines, by_name(wrong, "on", "off"), {"on": "row", "off": "row"})
        yield Instance(shape.label, {"y": y}, {"on": on.shape, "off": off.shape}, known)


def _leaky(random: Random) -> Iterator[Instance]:
    """Rows behind a LeakyReLU: all are on, those below 0 with y / a and the weight a^2."""
    for shape in _SHAPES:
        drawn = draw_rows(random, shape)
        a = float(f"{0.1 + 0.3 * random.random():.2g}")
        v = drawn.W @ drawn.h + drawn.b
        v = np.where(np.arange(len(v)) == int(np.abs(v).argmax()), -np.abs(v), v)  # one at least is below 0
        y = np.round(np.where(v > 0, v, a * v), 6)
        target, weight = np.where(y < 0, y / a, y), np.where(y < 0, a * a, 1.0)
        wrong = {
            "y is not divided by a": (y, weight),
            "y is multiplied by a, not divided": (np.where(y < 0, a * y, y), weight),
            "the weight is a, not a^2: it stands under the square": (target, np.where(y < 0, a, 1.0)),
            "the weights are missing": (target, np.ones_like(y)),
            "the weight is upside down: 1 / a^2": (target, np.where(y < 0, 1 / a**2, 1.0)),
        }
        lines = {"target": "target = y / a where y < 0, y elsewhere", "weight": "weight = a^2 where y < 0, 1 elsewhere"}
        places = {"target": "row", "weight": "row"}
        known = Values({"target": target, "weight": weight}, lines, by_name(wrong, "target", "weight"), places)
        yield Instance(shape.label, {"y": y, "a": a}, {"target": y.shape, "weight": y.shape}, known)


def _tanh_intervals(random: Random) -> Iterator[Instance]:
    for label, m, eps in (("as shown", 6, 0.05), ("drawn", 12, 0.02), ("drawn, wide", 9, 0.3)):
        y = np.round(np.tanh(random.standard_normal(m)), 3)
        y[:3] = np.clip((1 - eps / 2, -1 + eps / 3, 0.1), -1, 1)  # both ends occur
        y = y[random.permutation(m)]
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = (
                np.where(np.abs(e) < 1, np.arctanh(np.clip(e, -1, 1)), np.sign(e) * np.inf) for e in (y - eps, y + eps)
            )
            clipped = [np.arctanh(np.clip(e, -1 + 1e-9, 1 - 1e-9)) for e in (y - eps, y + eps)]
            linear = np.arctanh(np.clip(y, -1 + 1e-9, 1 - 1e-9))
        wrong = {
            "beyond the range of tanh an end is infinite: it was clipped": clipped,
            "the ends are exchanged": (high, low),
            "eps is taken off behind the inverse, not before": (linear - eps, linear + eps),
            "an infinite end has the wrong sign": (
                np.where(np.isinf(low), -low, low), np.where(np.isinf(high), -high, high),
            ),
        }  # fmt: skip
        lines = {
            "lo": "lo = arctanh(y - eps), -inf where y - eps <= -1",
            "hi": "hi = arctanh(y + eps), inf where y + eps >= 1",
        }
        known = Values({"lo": low, "hi": high}, lines, by_name(wrong, "lo", "hi"), {"lo": "row", "hi": "row"})
        yield Instance(label, {"y": y, "eps": eps}, {"lo": (m,), "hi": (m,)}, known)


def _lagrangian(random: Random) -> Iterator[Instance]:
    """The lam of the LASSO that has the basis pursuit's answer."""
    for shape in (Shape("as shown", 5, 8), Shape("drawn", 7, 12), Shape("drawn, large numbers", 6, 9, scale=1e3)):
        yield drawn_until(partial(_lagrangian_of, random, shape))


def _lagrangian_of(random: Random, shape: Shape) -> Instance | None:
    W = np.round(random.standard_normal((shape.m, shape.n)), 2)
    y = np.round(random.standard_normal(shape.m), 2) * shape.scale
    eps = float(f"{0.4 * np.linalg.norm(y):.3g}")
    known = solved(BasisPursuitL2(fitted_rows(W, None, y), eps))
    if known is None:
        return None
    h = known.h[0].numpy()
    r = W @ h - y
    lam = float(np.abs(W.T @ r).max())
    wrong = {
        "eps itself": eps,
        "1 / |p|: the multiplier upside down": 1 / lam,
        "a factor 2: squares without their 1/2": 2 * lam,
        "a sign: lam is the largest |W'(W h - y)|": -lam,
        "the multiplier of the squared bound": lam / (2 * eps),
        "the length |W'(W h - y)|, not its largest entry": float(np.linalg.norm(W.T @ r)),
    }
    right = Values({"lam": np.array(lam)}, {"lam": "lam = max |W'(W h - y)|"}, by_name(wrong, "lam"), tol=1e-5)
    return Instance(shape.label, {"W": W, "y": y, "eps": eps, "h": h}, {"lam": ()}, right)


# --- nets ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """G(z) = W2 relu(W1 z + b1) + b2."""

    W1: np.ndarray
    b1: np.ndarray
    W2: np.ndarray
    b2: np.ndarray

    def __call__(self, z: np.ndarray) -> np.ndarray:
        return self.W2 @ np.maximum(self.W1 @ z + self.b1, 0.0) + self.b2

    @property
    def arguments(self) -> dict[str, Any]:
        """The arrays by name."""
        return {"W1": self.W1, "b1": self.b1, "W2": self.W2, "b2": self.b2}

    def generator(self) -> Generator:
        """The same as a generator."""
        maps = [torch.from_numpy(x) for x in (self.W1, self.b1, self.W2, self.b2)]
        layers = (Layer(Dense(maps[0]), maps[1], ReLU()), Layer(Dense(maps[2]), maps[3], Identity()))
        return Generator(layers, (len(self.b2),), {})


def draw_net(random: Random, n0: int, width: int, d: int) -> Net:
    """A random net of two layers."""
    W1, b1 = np.round(random.standard_normal((width, n0)), 2), np.round(0.4 * random.standard_normal(width), 2)
    return Net(W1, b1, np.round(random.standard_normal((d, width)), 2), np.round(0.3 * random.standard_normal(d), 2))


_NETS = (("as shown", 2, 6, 4), ("drawn", 4, 15, 12), ("drawn, narrow", 3, 8, 6))
_NET = {"W1": "(k, n0)", "b1": "(k,)", "W2": "(d, k)", "b2": "(d,)", "y": "(d,)"}


def _gauss_newton(random: Random) -> Iterator[Instance]:
    for label, n0, width, d in _NETS:
        net = draw_net(random, n0, width, d)
        z, target = (np.round(random.standard_normal(n0), 3) for _ in range(2))
        y, mu = np.round(net(target), 6), 0.3
        on = net.W1 @ z + net.b1 > 0
        if not 0 < on.sum() < width:
            z = -z
            on = net.W1 @ z + net.b1 > 0

        def step(J: np.ndarray, r: np.ndarray, mu: float = mu, z: np.ndarray = z) -> np.ndarray:
            return z + np.linalg.solve(J.T @ J + mu * np.eye(len(z)), J.T @ r)

        J, r = net.W2 @ (on[:, None] * net.W1), y - net(z)
        wrong = {
            "a sign: the step goes away from y": 2 * z - step(J, r),
            "the ReLU is missing in the Jacobian": step(net.W2 @ net.W1, r),
            "the step alone is returned, not z plus the step": step(J, r) - z,
            "undamped: mu is missing": step(J, r, 0.0) if np.linalg.matrix_rank(J) == n0 else 0 * z,
            "a gradient step: J'r without the inverse": z + J.T @ r,
            "half of the gradient, or twice J'J": z + (step(J, r) - z) / 2,
        }
        known = Values(
            {"z": step(J, r)}, {"z": "(J'J + mu I) (z+ - z) = J'(y - G(z))"}, by_name(wrong, "z"), {"z": "latent"}
        )
        yield Instance(label, net.arguments | {"y": y, "z": z, "mu": mu}, {"z": (n0,)}, known)


def _layered(random: Random) -> Iterator[Instance]:
    """Realizable signals of nets that widen: both layers are met exactly."""
    for label, n0, width, d in (("as shown", 2, 10, 20), ("drawn", 3, 16, 40), ("drawn, large", 4, 20, 50)):
        yield drawn_until(partial(_layered_of, random, label, n0, width, d))


def _layered_of(random: Random, label: str, n0: int, width: int, d: int) -> Instance | None:
    net = draw_net(random, n0, width, d)
    z = np.round(random.standard_normal(n0), 2)
    on = net.W1 @ z + net.b1 > 0
    if n0 + 1 <= on.sum() < width and np.linalg.matrix_rank(net.W1[on]) == n0:
        return Instance(label, net.arguments | {"y": net(z)}, {"z": (n0,)}, (net, z))
    return None


def _judge_latent(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    net, truth = instance.known
    y, z = instance.arguments["y"], answer["z"]
    verdict = verify(net.generator(), torch.from_numpy(y), torch.from_numpy(z))
    if str(verdict.status[0]) == "explained":
        return Passed(f"explained: misfit {float(verdict.relative_misfit[0]):.1e} |y|")
    on = net.W1 @ truth + net.b1 > 0
    hidden = np.maximum(net.W1 @ truth + net.b1, 0.0)
    free = np.linalg.lstsq(net.W1, hidden - net.b1, rcond=None)[0]
    wrong = {
        "a sign: -z is the latent": {"z": -truth},
        "the off rows of the first layer were fitted to 0 as if they were on": {"z": free},
        "the bias b1 is missing": {"z": np.linalg.lstsq(net.W1[on], hidden[on], rcond=None)[0]},
        "a sign: b1 is added to the target": {"z": np.linalg.lstsq(net.W1[on], (hidden + net.b1)[on], rcond=None)[0]},
        "a factor: z is half of the latent": {"z": truth / 2},
    }
    k = int(np.abs(net(z) - y).argmax())
    misfit, allowed = float(np.abs(net(z) - y)[k]), 1e-8 * float(np.linalg.norm(y))
    return Finding("G(z) = y", f"entry {k}", misfit, allowed, alike(answer, wrong))


def _preimage(random: Random) -> Iterator[Instance]:
    """A latent at which fewer units are on than there are latents: it can be moved, and nothing changes."""
    for label, n0, width, d in (("as shown", 3, 5, 4), ("drawn", 5, 9, 8), ("drawn, wide", 6, 12, 6)):
        yield drawn_until(partial(_preimage_of, random, label, n0, width, d), 2000)


def _preimage_of(random: Random, label: str, n0: int, width: int, d: int) -> Instance | None:
    net, z = draw_net(random, n0, width, d), np.round(1.5 * random.standard_normal(n0), 2)
    v = net.W1 @ z + net.b1
    if 0 < (v > 0).sum() < n0 and np.abs(v).min() > 0.05 and np.abs(net(z)).max() > 0.1:
        return Instance(label, net.arguments | {"z": z}, {"other": (n0,)}, net)
    return None


def _judge_preimage(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    net: Net = instance.known
    z, other = instance.arguments["z"], answer["other"]
    apart = float(np.abs(other - z).max())
    if apart < 1e-3:
        return Finding("|other - z| >= 1e-3", "", 1e-3 - apart, 0.0, ("the same latent again",) if apart == 0 else ())
    y = net(z)
    verdict = verify(net.generator(), torch.from_numpy(y), torch.from_numpy(other))
    if str(verdict.status[0]) == "explained":
        return Passed(f"another preimage, {apart:.2g} away: misfit {float(verdict.relative_misfit[0]):.1e} |y|")
    step = other - z
    on, then = net.W1 @ z + net.b1 > 0, net.W1 @ other + net.b1 > 0
    still = float(np.abs(net.W1[on] @ step).max(initial=0.0)) <= 1e-9 * float(np.abs(net.W1).max() * np.abs(step).max())
    crossed = np.flatnonzero(on != then)
    meanings: tuple[str, ...] = ()
    if still and len(crossed):
        meanings = (f"the step moves no unit that is on, but turns unit {crossed[0]} on: it is too long",)
    elif np.abs(net.W2 @ net.W1 @ step).max() <= 1e-9 * np.abs(step).max():
        meanings = ("a null vector of W2 W1: the ReLU is forgotten",)
    k = int(np.abs(net(other) - y).argmax())
    return Finding(
        "G(other) = G(z)", f"entry {k}", float(np.abs(net(other) - y)[k]), 1e-8 * float(np.linalg.norm(y)), meanings
    )


def _outside(W: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What of v is left outside the range of W."""
    return v - W @ np.linalg.lstsq(W, v, rcond=None)[0]


# --- a global bound -----------------------------------------------------------------------------------


def least_misfit(net: Net, y: np.ndarray, R: float) -> float:
    """The smallest |G(z) - y| over |z| <= R of one latent, exactly: its pieces end where a unit is switched."""
    slopes, shifts = net.W1[:, 0], net.b1
    cuts = [-b / a for a, b in zip(slopes, shifts, strict=True) if a != 0 and abs(b / a) < R]
    ends = np.unique([-R, *cuts, R])
    least = np.inf
    for left, right in pairwise(ends):
        on = slopes * (left + right) / 2 + shifts > 0
        a, c = net.W2 @ (on * slopes), net.W2 @ (on * shifts) + net.b2 - y
        best = np.clip(-(a @ c) / (a @ a), left, right) if a.any() else left
        least = min(least, float(np.linalg.norm(a * best + c)))
    return least


def _global(random: Random) -> Iterator[Instance]:
    for label, width, d, R in (("as shown", 5, 4, 2.0), ("drawn", 20, 10, 3.0), ("drawn, wide", 40, 6, 5.0)):
        net = draw_net(random, 1, width, d)
        y = np.round(net(random.uniform(-R, R, 1)) + 0.5 * random.standard_normal(d), 2)
        yield Instance(label, net.arguments | {"y": y, "R": R}, {"bound": ()}, (net, least_misfit(net, y, R)))


def _judge_global(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    net, least = instance.known
    y, R, bound = instance.arguments["y"], instance.arguments["R"], float(answer["bound"])
    free = np.array([np.linalg.norm(net(np.array([z])) - y) for z in (0.0, -R, R)])
    hidden = net.W2 @ net.W1, net.W2 @ net.b1 + net.b2 - y
    linear = float(np.linalg.norm(hidden[1] - hidden[0][:, 0] * (hidden[0][:, 0] @ hidden[1]) / (hidden[0] ** 2).sum()))
    grid = min(float(np.linalg.norm(net(np.array([z])) - y)) for z in np.linspace(-R, R, 101))
    any_hidden = float(np.linalg.norm(_outside(net.W2, y - net.b2)))
    wrong: dict[str, Answer] = by_name(
        {
            "half of the squared misfit, not the misfit": least**2 / 2,
            "the squared misfit": least**2,
            "the misfit at z = 0: one latent is no bound for all": free[0],
            "the smaller misfit of both ends of the box": min(free[1:]),
            "the ReLU is left out: what a linear net could do": linear,
            "the smallest misfit of a grid of 101: between its points there may be less": grid,
            "any hidden vector was allowed, not those of the first layer: true, and too weak": any_hidden,
            "0, which is true and says nothing": 0.0,
        },
        "bound",
    )
    meanings = alike(answer, wrong)
    if bound > least * (1 + 1e-9):
        words = f"the bound {bound:.6g} is false: a latent of the box has the misfit {least:.6g}"
        return Finding("bound <= |G(z) - y| for every |z| <= R", "", bound - least, 1e-9 * least, meanings, words)
    if bound < 0.99 * least:
        words = f"the bound {bound:.6g} holds and is too weak: 99 % of the best there is would be {0.99 * least:.6g}"
        return Finding("bound >= 0.99 min |G(z) - y|", "", 0.99 * least - bound, 0.0, meanings, words)
    return Passed(f"a bound, and {bound / least:.4f} of the best there is")


# --- uniqueness ---------------------------------------------------------------------------------------


def _spark(random: Random) -> Iterator[Instance]:
    for label, m, n, dependent in (("as shown", 4, 6, 3), ("drawn", 6, 9, 4), ("drawn, of full spark", 5, 8, 0)):
        while True:
            W = random.integers(-3, 4, (m, n)).astype(float)
            if dependent:
                mix = random.choice([-1.0, 1.0, 2.0], dependent - 1)
                W[:, n - 1] = W[:, : dependent - 1] @ mix
            found = int(spark(W, progress=False).upper)
            # rank and spark are to differ, and no column is 0 or another's multiple
            if found == (dependent or m + 1) and found > 2:
                break
        most = ceil(found / 2) - 1
        wrong = {
            "the rank: the largest number of independent columns": (np.linalg.matrix_rank(W), most),
            "one less: the largest k for which any k columns are independent": (found - 1, most),
            "k < spark / 2 is strict: half of an even spark is one too many": (found, found // 2),
            "k <= spark - 1: that is enough for no two signals, but not for two sparse ones": (found, found - 1),
        }
        wrong = {words: value for words, value in wrong.items() if value != (found, most)}
        lines = {"spark": "spark(W): the fewest columns that depend on each other", "k": "the largest k < spark(W) / 2"}
        known = Values({"spark": np.array(float(found)), "k": np.array(float(most))}, lines, by_name(wrong, "spark", "k"))
        yield Instance(label, {"W": W}, {"spark": (), "k": ()}, known)


def _coherence(random: Random) -> Iterator[Instance]:
    for label, m, n in (("as shown", 6, 3), ("drawn", 20, 8), ("drawn, columns of all sizes", 12, 5)):
        while True:
            W = np.round(random.standard_normal((m, n)), 2)
            W = W * 10.0 ** random.uniform(-2, 2, n) if "sizes" in label else W
            right = coherence(W).upper
            if right < 0.5:  # else both rules of the count agree
                break
        D = W / np.linalg.norm(W, axis=0)
        signed = (D.T @ D)[~np.eye(n, dtype=bool)].max()
        raw, turned = W.T @ W, W / np.linalg.norm(W, axis=1)[:, None]
        plain = np.abs(raw)[~np.eye(n, dtype=bool)].max()
        rows = np.abs(turned @ turned.T)[~np.eye(m, dtype=bool)].max()
        most = ceil((1 + 1 / right) / 2) - 1
        wrong = {
            "the columns are not brought to length 1": (plain, ceil((1 + 1 / plain) / 2) - 1),
            "rows in place of columns": (rows, ceil((1 + 1 / rows) / 2) - 1),
            "the diagonal is counted: every column is parallel to itself": (1.0, 0.0),
            "k <= 1 / mu in place of k < (1 + 1 / mu) / 2": (right, float(int(1 / right))),
        }
        if signed < 0.999 * right:
            wrong["the absolute value is missing"] = (signed, ceil((1 + 1 / signed) / 2) - 1)
        wrong = {words: value for words, value in wrong.items() if value != (right, most)}
        lines = {"mu": "mu(W) = max over i != j of |w_i'w_j| / (|w_i| |w_j|)", "k": "the largest k < (1 + 1 / mu) / 2"}
        known = Values({"mu": np.array(right), "k": np.array(float(most))}, lines, by_name(wrong, "mu", "k"))
        yield Instance(label, {"W": W}, {"mu": (), "k": ()}, known)


# --- counterexamples ----------------------------------------------------------------------------------


def _tanh_example(random: Random) -> Iterator[Instance]:
    for label, c in (("as shown", 1.0), ("drawn", float(f"{random.uniform(0.2, 0.8):.2g}")), ("drawn, steep", 12.0)):
        shapes: dict[str, tuple[int, ...]] = {name: () for name in ("y", "h1", "h2", "t")}
        yield Instance(label, {"c": c}, shapes, None)


def _judge_tanh(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    c = instance.arguments["c"]
    y, h1, h2, t = (float(answer[name]) for name in ("y", "h1", "h2", "t"))
    if not min(h1, h2) >= 0:
        return Finding("h1, h2 >= 0", "h1" if h1 < 0 else "h2", -min(h1, h2), 0.0, ("h >= 0 is a part of eq. (8)",))
    if not abs(y) <= 1:
        return Finding("|y| <= 1: tanh gives no others", "y", abs(y) - 1, 0.0)
    if not 0 <= t <= 1:
        return Finding("0 <= t <= 1", "t", max(-t, t - 1), 0.0, ("the point between lies beyond both",))

    def f(h: float) -> float:
        return float((np.tanh(c * h) - y) ** 2 / 2)

    above = f(t * h1 + (1 - t) * h2) - t * f(h1) - (1 - t) * f(h2)
    if above >= 1e-3:
        return Passed(f"no convex function: between the two it is {above:.3g} above the chord")
    meanings: tuple[str, ...] = ()
    if h1 == h2 or t in (0.0, 1.0):
        meanings = ("the point between is one of the two",)
    elif f((1 - t) * h1 + t * h2) - t * f(h1) - (1 - t) * f(h2) >= 1e-3:
        meanings = ("t and 1 - t are exchanged",)
    elif y > 0 and max(h1, h2) <= np.arctanh(min(y, 1 - 1e-12)) / c:
        meanings = ("where tanh(c h) < y the misfit falls, and is convex there",)
    else:
        meanings = ("both points lie where f is convex: look where tanh(c h) is far above y, and flat",)
    line = "f(t h1 + (1 - t) h2) >= t f(h1) + (1 - t) f(h2) + 1e-3"
    return Finding(line, "", 1e-3 - above, 0.0, meanings)


def _shortest(random: Random) -> Iterator[Instance]:
    """Matrices of full spark on which some 2-sparse h is not the shortest."""
    for label, m, n in (("as shown", 5, 10), ("drawn", 5, 12), ("drawn, wide", 6, 14)):
        while True:
            W = random.integers(-4, 5, (m, n)).astype(float)
            if int(spark(W, progress=False).upper) == m + 1 and _unsafe(W):
                break
        yield Instance(label, {"W": W, "spark": m + 1}, {"h": (n,)}, W)


def _unsafe(W: np.ndarray) -> bool:
    """Whether some vector of two entries is not the shortest: a condition over pairs, solved by one program each."""
    n = W.shape[1]
    H = np.zeros((n * (n - 1), n))
    signed = [(i, j, s) for i in range(n) for j in range(i) for s in (-1.0, 1.0)]
    for k, (first, second, sign) in enumerate(signed):
        H[k, first], H[k, second] = 1.0, sign
    shortest = solve(BasisPursuitL2(fitted_rows(W, None, H @ W.T), 0.0), on_fail="ignore", progress=False)
    return bool((np.abs(H).sum(1) - shortest.certificate.objective.numpy() > 0.01).any())


def _judge_shortest(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    W, h = instance.known, answer["h"]
    count, most = int((np.abs(h) > 1e-9 * np.abs(h).max()).sum()), (instance.arguments["spark"] - 1) // 2
    if count == 0:
        return Finding("h != 0", words="h = 0 is the shortest solution of W h = 0")
    if count > most:
        meanings = ("h has to be the sparsest: 2 |h|_0 < spark(W) makes it that",)
        return Finding(f"|h|_0 <= {most} < spark(W) / 2", "", float(count), float(most), meanings)
    problem = BasisPursuitL2(fitted_rows(W, None, W @ h), 0.0)
    best = solve(problem, tol=1e-8, on_fail="ignore", progress=False)
    length, least = float(np.abs(h).sum()), float(best.certificate.objective[0])
    if length - least > 1e-6 * length and bool(best.certificate.holds[0]):
        return Passed(f"the only vector of {most} entries or fewer, |h|_1 = {length:.6g}; a longer one has {least:.6g}")
    proof = certify(problem, torch.from_numpy(h)[None])
    found = f"it is the shortest: nothing below {float(proof.bound[0]):.6g}"
    line = "|h|_1 > min |g|_1 with W g = W h"
    return Finding(line, "", least + 1e-6 * length - length, 0.0, (), f"{line} fails: |h|_1 = {length:.6g}, and {found}")


# --- speed --------------------------------------------------------------------------------------------


def _batch(random: Random) -> Iterator[Instance]:
    """A batch of nonnegative LASSOs whose columns have a condition of 1e4."""
    for label, N, m, n in (("as shown", 20, 40, 20), ("drawn", 60, 60, 30)):
        U, V = (np.linalg.qr(random.standard_normal((k, n)))[0] for k in (m, n))
        W = (U * np.logspace(0, -4, n)) @ V.T
        H = np.where(random.random((N, n)) < 0.5, random.random((N, n)), 0.0)
        Y = H @ W.T + 1e-3 * random.standard_normal((N, m))
        lam = 1e-6
        yield Instance(label, {"W": W, "Y": Y, "lam": lam}, {"H": (N, n)}, NonnegativeLasso(fitted_rows(W, None, Y), lam))


def _judge_batch(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    problem, H = instance.known, torch.from_numpy(answer["H"])
    judged = certify(problem, H)
    if not bool(judged.holds.all()):
        k = int((~judged.holds).to(torch.int8).argmax())
        alone = problem.take(torch.tensor([k]))
        best = solved(alone)
        found = judged_point(best, H[k : k + 1], None) if best is not None else Finding("gap <= 1e-6 objective")
        assert isinstance(found, Finding)
        return replace(found, place=f"signal {k}, {found.place}" if found.place else f"signal {k}")
    spent, reached = _fista_seconds(problem, seconds)
    if spent < seconds and reached:
        words = f"all signals are optimal, and FISTA is faster: {spent:.2f} s, yours {seconds:.2f} s"
        return Finding("seconds < those of FISTA", "", seconds - spent, 0.0, (), words)
    many = "is there" if reached else "is not there yet"
    return Passed(f"all optimal in {seconds:.2f} s; FISTA {many} after {spent:.2f} s")


def _fista_seconds(problem: NonnegativeLasso, enough: float) -> tuple[float, bool]:
    """Seconds that FISTA takes to a certificate of every signal, and whether it has one by then."""
    steps = 2000
    while True:
        start = time.perf_counter()
        found = solve(problem, "fista", max_iter=steps, polish=False, on_fail="ignore", progress=False)
        spent, reached = time.perf_counter() - start, bool(found.certificate.holds.all())
        if reached or spent > enough:
            return spent, reached
        steps *= 4


_SIGNALS = {"W": "(m, n), of condition 1e4", "Y": "(N, m), a signal a row", "lam": TAKES["lam"]}
EXERCISES = (
    _exercise(
        "masks", "What a row says",
        "y was seen behind a ReLU; NaN where it was not seen. Return the masks `on` and `off`: a row in neither "
        "says nothing.",
        {"y": "(m,), NaN where it was not seen"}, {"on": "bool (m,)", "off": "bool (m,)"}, draw=_masks, level="first steps",
    ),
    _exercise(
        "leaky_rows", "Rows behind a LeakyReLU",
        "y was seen behind a LeakyReLU of slope a. Every row is on: return the target and the weight w of each, so that\n"
        "w (v - target)^2 is what the misfit of y is, where v has the sign that y tells.",
        {"y": "(m,)", "a": "the slope below 0"}, {"target": "(m,)", "weight": "(m,)"}, draw=_leaky, level="first steps",
    ),
    _exercise(
        "behind_tanh_intervals", "An interval in place of a tanh",
        "|tanh(v) - y| <= eps says lo <= v <= hi. Return lo and hi; an end beyond the range of tanh is infinite.",
        {"y": "(m,), in (-1, 1)", "eps": TAKES["eps"]}, {"lo": "(m,)", "hi": "(m,)"}, draw=_tanh_intervals,
        level="first steps",
    ),
    _exercise(
        "lagrangian", "From a bound to a weight",
        "h solves  minimise |h|_1  subject to  |W h - y|_2 <= eps,  with the misfit at eps. Return the lam for "
        "which it also\n"
        "solves  minimise 1/2 |W h - y|^2 + lam |h|_1.",
        {"W": "(m, n)", "y": "(m,)", "eps": TAKES["eps"], "h": "(n,), the optimum"}, {"lam": "a number"},
        draw=_lagrangian, level="duality",
    ),
    _exercise(
        "gauss_newton_step", "One damped Gauss-Newton step",
        "G(z) = W2 relu(W1 z + b1) + b2. Return z + (J'J + mu I)^-1 J'(y - G(z)), J the Jacobian of G at z.",
        _NET | {"z": "(n0,)", "mu": "the damping"}, {"z": "(n0,)"}, draw=_gauss_newton, level="networks",
    ),
    _exercise(
        "layered_programs", "Two layers, one linear program each",
        "y = W2 relu(W1 z + b1) + b2 exactly. Return z. Layer by layer: the largest misfit of the last layer over "
        "h >= 0 is\n"
        "0 at the hidden h; then rows of the first layer with h > 0 are equations, and the others are bounds.",
        _NET, {"z": "(n0,)"}, draw=_layered, judge=_judge_latent, level="networks", source=LEI,
    ),
    _exercise(
        "second_preimage", "A second preimage",
        "G(z) = W2 relu(W1 z + b1) + b2, and fewer units are on at z than z has entries. Return another latent, "
        "at least 1e-3\n"
        "away, with the same G.",
        {k: v for k, v in _NET.items() if k != "y"} | {"z": "(n0,)"}, {"other": "(n0,)"}, draw=_preimage,
        judge=_judge_preimage,
    ),
    _exercise(
        "global_bound", "A lower bound for every latent",
        "G(z) = W2 relu(W1 z + b1) + b2 has one latent. Return a number that no |G(z) - y|, |z| <= R, is below, "
        "and that is\n"
        "at least 99 % of the best such number.",
        _NET | {"R": "a number > 0"}, {"bound": "a number"}, draw=_global, judge=_judge_global,
    ),
    _exercise(
        "spark", "How sparse is unique: the spark",
        "Return the spark of W, the fewest columns that depend on each other, and the largest k for which an h of "
        "k entries\n"
        "is the only one of k entries or fewer with the same W h.",
        {"W": "(m, n), whole numbers"}, {"spark": "a number", "k": "a number"}, draw=_spark,
    ),
    _exercise(
        "coherence", "How sparse is unique: the coherence",
        "Return the mutual coherence mu of W, and the largest k < (1 + 1 / mu) / 2: so many entries are unique, "
        "and found by\n"
        "basis pursuit.",
        {"W": "(m, n)"}, {"mu": "a number", "k": "a number"}, draw=_coherence,
    ),
    _exercise(
        "tanh_counterexample", "Eq. (8) behind a tanh is not convex",
        "The source calls 1/2 (tanh(c h) - y)^2 over h >= 0 convex. Return y, h1, h2 and t, |y| <= 1, for which "
        "it lies above\n"
        "its chord by 1e-3 at t h1 + (1 - t) h2.",
        {"c": "a number > 0"}, {"y": "a number", "h1": "a number >= 0", "h2": "a number >= 0", "t": "between 0 and 1"},
        draw=_tanh_example, judge=_judge_tanh, source=f"{PAPER}, eq. (8)",
    ),
    _exercise(
        "sparsest_is_not_shortest", "The sparsest need not be the shortest",
        "Return an h with |h|_0 < spark(W) / 2, which makes it the sparsest solution of W g = W h, that is not "
        "the shortest:\n"
        "some g has W g = W h and |g|_1 < |h|_1. So basis pursuit does not find it.",
        {"W": "(m, n)", "spark": "that of W"}, {"h": "(n,)"}, draw=_shortest, judge=_judge_shortest,
    ),
    _exercise(
        "beat_fista", "A batched solver that beats FISTA at condition 1e4",
        "minimise 1/2 |W h - y|^2 + lam 1'h over h >= 0, for every row y of Y at once. Every answer has to be "
        "certified, and\n"
        "has to be there sooner, from the batch handed over, than FISTA is on the same batch. Import at the top of it.",
        _SIGNALS, {"H": "(N, n), an optimum a row"}, draw=_batch, judge=_judge_batch, level="algorithms",
    ),
)  # fmt: skip
