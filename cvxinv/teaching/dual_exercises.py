"""Exercises of duality: dual vectors, dual objectives, feasible points, gaps, and proofs that nothing is feasible."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as Random

from ..layers.core.certificate import certify
from ..layers.core.problem import AbstractLayerProblem
from ..layers.interval_basis_pursuit import IntervalBasisPursuit
from .conditions import dual_line
from .drawing import LayerKnown, Shape, draw_layer, draw_rows, fitted_rows
from .exercise import Answer, Exercise, Finding, Instance, Passed, drawn_until
from .judging import Values, alike, by_name, judge_dual, judge_values
from .layer_exercises import PAPER, lasso_build, named

_LASSO = "W b y on off lam"
_SHAPES = (
    Shape("as shown", 8, 3),
    Shape("drawn, a row was not seen", 11, 4, hidden=2),
    Shape("drawn, large numbers", 9, 4, scale=1e3),
    Shape("drawn, small numbers", 10, 4, scale=1e-3, hidden=1),
)


def _exercise(name: str, title: str, task: str, takes: dict[str, str], gives: dict[str, str], **more: Any) -> Exercise:
    return Exercise(name, title, more.pop("level", "duality"), task, takes, gives, source=more.pop("source", PAPER), **more)


def _layers(random: Random) -> Iterator[Instance]:
    return (draw_layer(random, shape, lasso_build) for shape in _SHAPES)


# --- the dual vector ----------------------------------------------------------------------------------


def _dual_vector(random: Random) -> Iterator[Instance]:
    """Optima whose off rows hold h: p_off is not 0."""
    for instance in _layers(random):
        known: LayerKnown = instance.known
        given = instance.arguments | {"h": known.h[0].numpy()}
        yield replace(instance, arguments=given, shapes={"p": instance.shapes["p"]})


def _any_p(random: Random, instance: Instance, size: float = 1.0) -> np.ndarray:
    """A vector that is not feasible: off rows of both signs, numbers on hidden rows, too long for lam."""
    known: LayerKnown = instance.known
    p = known.p[0].numpy()
    return p + size * np.abs(p).max() * random.standard_normal(len(p))


def _ends(given: dict[str, Any], p: np.ndarray) -> np.ndarray:
    """p with p_off >= 0, and 0 on hidden rows."""
    return np.where(given["on"], p, np.where(given["off"], np.maximum(p, 0.0), 0.0))


def dual_value(given: dict[str, Any], p: np.ndarray) -> float:
    """p_on'(b - y) + p_off'b - 1/2 |p_on|^2, the dual objective of the nonnegative LASSO."""
    on, off = np.where(given["on"], p, 0.0), np.where(given["off"], p, 0.0)
    return float(on @ (given["b"] - given["y"]) + off @ given["b"] - on @ on / 2)


def _most(given: dict[str, Any], p: np.ndarray) -> float:
    """The largest s for which s p keeps W'p + lam >= 0."""
    steep = float((-(given["W"].T @ p)).max())
    return given["lam"] / steep if steep > 0 else np.inf


def _scaled(given: dict[str, Any], p: np.ndarray) -> np.ndarray:
    """The multiple of p, feasible, whose dual value is the largest."""
    on = np.where(given["on"], p, 0.0)
    linear, square = dual_value(given, p) + on @ on / 2, float(on @ on)
    return float(np.clip(linear / square, 0.0, _most(given, p))) * p


def _feasible_point(random: Random) -> Iterator[Instance]:
    return (drawn_until(partial(_feasible_point_of, random, shape)) for shape in _SHAPES)


def _feasible_point_of(random: Random, shape: Shape) -> Instance | None:
    instance = draw_layer(random, shape, lasso_build)
    given = instance.arguments
    q = _any_p(random, instance, 0.7)
    bare = _ends(given, q)
    right, steep = _scaled(given, bare), _most(given, bare)
    # both the signs and the scale matter, and the largest scale is not the best
    if dual_value(given, right) > 0 and (q[given["off"]] < 0).any() and steep < 0.9:
        return replace(instance, arguments=given | {"q": q}, shapes={"p": right.shape})
    return None


def _judge_feasible(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    """p has to be feasible, and worth at least as much as the best multiple of the clipped q."""
    known: LayerKnown = instance.known
    given, p = instance.arguments, answer["p"]
    q = _ends(given, given["q"])
    best = dual_value(given, _scaled(given, q))
    wrong = {
        "q as it is: nothing was made feasible": {"p": given["q"]},
        "clipped and not scaled": {"p": q},
        "scaled and not clipped": {"p": given["q"] * min(1.0, _most(given, given["q"]))},
        "a sign: W'p <= lam was asked for": {"p": q * min(1.0, given["lam"] / float((given["W"].T @ q).max()))},
        "p = 0, which is feasible and worth nothing": {"p": 0 * q},
        "the absolute values of the off rows were taken, which is no projection": {
            "p": _scaled(given, np.where(given["off"], np.abs(given["q"]), q))
        },
    }
    found = dual_line(known.problem, torch.from_numpy(p)[None])
    if found is None and dual_value(given, p) < best * (1 - 1e-9):
        value = dual_value(given, p)
        words = f"p is feasible and proves {value:.6g}; a multiple of the clipped q proves {best:.6g}"
        found = Finding("d(p) >= max over feasible s q of d(s q)", "", best - value, 1e-9 * best, words=words)
    if found is not None:
        return replace(found, meanings=alike(answer, wrong))
    return Passed(f"feasible, and proves that the optimum is at least {dual_value(given, p):.6g}")


# --- values -------------------------------------------------------------------------------------------


def _feasible(random: Random, shape: Shape) -> tuple[Instance, np.ndarray]:
    """A lasso and a feasible p with p_off > 0 somewhere, which is not optimal."""
    instance = draw_layer(random, shape, lasso_build)
    given = instance.arguments
    p = _ends(given, _any_p(random, instance, 0.05))
    return instance, p * min(1.0, 0.999 * _most(given, p))


def _dual_objective(random: Random) -> Iterator[Instance]:
    for shape in _SHAPES:
        instance, p = _feasible(random, shape)
        given = instance.arguments
        on, off, b, y = (given[k] for k in ("on", "off", "b", "y"))
        p_on, p_off = np.where(on, p, 0.0), np.where(off, p, 0.0)
        right = dual_value(given, p)
        wrong = {
            "a sign: p_on'(y - b) in place of p_on'(b - y)": p_on @ (y - b) + p_off @ b - p_on @ p_on / 2,
            "a factor 2: |p_on|^2 without its 1/2": right - p_on @ p_on / 2,
            "a sign: |p_on|^2 / 2 is added": right + p_on @ p_on,
            "the term of the off rows is missing": right - p_off @ b,
            "the bias is missing": -p_on @ y - p_on @ p_on / 2,
            "the square runs over all rows": right - p_off @ p_off / 2,
        }
        known = Values(
            {"d": np.array(right)}, {"d": "d(p) = p_on'(b - y) + p_off'b - 1/2 |p_on|^2"},
            by_name(wrong, "d"),
        )  # fmt: skip
        yield Instance(shape.label, {"b": b, "y": y, "on": on, "off": off, "p": p}, {"d": ()}, known)


def _gap(random: Random) -> Iterator[Instance]:
    for shape in _SHAPES:
        instance, p = _feasible(random, shape)
        given, known = instance.arguments, instance.known
        h = np.round(known.h[0].numpy() * 0.9, 3 if shape.scale >= 1 else 7)
        lam = given["lam"]
        r = np.where(given["on"], given["W"] @ h + given["b"] - given["y"], 0.0)
        objective, bound = float(r @ r / 2 + lam * h.sum()), dual_value(given, p)
        right = {"objective": objective, "bound": bound, "gap": objective - bound}
        all_rows = given["W"] @ h + given["b"] - given["y"]
        twice, every = float(r @ r + lam * h.sum()), float(all_rows @ all_rows / 2 + lam * h.sum())
        off = float(np.where(given["off"], p, 0.0) @ given["b"])
        fitted = float(np.where(given["on"], p, 0.0) @ (given["b"] - given["y"]))
        wrong = {
            "a factor 2: squares without their 1/2": {"objective": twice},
            "the penalty is missing": {"objective": float(r @ r / 2)},
            "all rows are counted, not the on rows": {"objective": every},
            "the term of the off rows is missing in the bound": {"objective": objective, "bound": bound - off},
            "a sign: p_on'(y - b) in the bound": {"objective": objective, "bound": bound - 2 * fitted},
            "a sign: the gap is objective - bound": {"objective": objective, "bound": bound, "gap": bound - objective},
            "the gap is relative": {"objective": objective, "bound": bound, "gap": (objective - bound) / objective},
        }
        lines = {
            "objective": "objective = 1/2 sum_on (W h + b - y)_i^2 + lam 1'h",
            "bound": "bound = p_on'(b - y) + p_off'b - 1/2 |p_on|^2",
            "gap": "gap = objective - bound",
        }
        values = Values(_arrays(right), lines, {words: _arrays(value) for words, value in wrong.items()})
        yield Instance(shape.label, given | {"h": h, "p": p}, {name: () for name in right}, values)


def _arrays(numbers: dict[str, float]) -> Answer:
    return {name: np.array(value) for name, value in numbers.items()}


def _ball_dual(random: Random) -> Iterator[Instance]:
    """The dual objective of a basis pursuit whose rows have weights."""
    for shape in _SHAPES:
        drawn = draw_rows(random, shape, any_sign=True, weighted=True)
        on, off, b, y, w = drawn.on, drawn.off, drawn.b, drawn.y, drawn.weight
        eps, p = float(f"{0.3 * shape.scale:.3g}"), np.round(0.3 * random.standard_normal(len(b)), 3)
        p = np.where(on, p, np.where(off, np.abs(p), 0.0))
        p_on, p_off = np.where(on, p, 0.0), np.where(off, p, 0.0)
        inner, length = p_on @ (b - y) + p_off @ b, float(np.sqrt((p_on**2 / w).sum()))
        wrong = {
            "eps is missing": inner,
            "a sign: eps |p| is added": inner + eps * length,
            "the square of the LASSO: - 1/2 |p|^2 in place of - eps |p|": inner - length**2 / 2,
            "the weights are missing": inner - eps * float(np.sqrt(p_on @ p_on)),
            "the weights are upside down: w p^2 in place of p^2 / w": inner - eps * float(np.sqrt((w * p_on**2).sum())),
            "a sign: p_on'(y - b) in place of p_on'(b - y)": -p_on @ (b - y) + p_off @ b - eps * length,
            "the length runs over the off rows too": inner - eps * float(np.sqrt((p**2 / w).sum())),
        }
        known = Values(
            {"d": np.array(inner - eps * length)}, {"d": "d(p) = p_on'(b - y) + p_off'b - eps (sum_on p_i^2 / w_i)^(1/2)"},
            by_name(wrong, "d"),
        )  # fmt: skip
        given = drawn.arguments("b", "y", "on", "off", "weight") | {"eps": eps, "p": p}
        yield Instance(shape.label, given, {"d": ()}, known)


# --- infeasible ---------------------------------------------------------------------------------------


def _infeasible(random: Random) -> Iterator[Instance]:
    """Intervals that no h >= 0 meets: p0 of any signs with W'p0 > 0, and ends that it contradicts."""
    for label, m, n, scale in (("as shown", 6, 3, 1.0), ("drawn", 9, 4, 1.0), ("drawn, large numbers", 12, 6, 1e3)):
        W = np.round(random.standard_normal((m, n)), 2)
        p0 = np.round(random.standard_normal(m), 2)
        p0 = np.where(p0 == 0, 0.5, p0)
        # the last row makes W'p0 what it has to be
        W[-1] += (np.abs(random.standard_normal(n)) + 0.1 - W.T @ p0) / p0[-1]
        b = np.round(0.3 * random.standard_normal(m), 2) * scale
        # each row alone may be met: ends lie around some v = W h + b with p0'v too large
        middle = W @ (np.abs(random.standard_normal(n)) * scale) + b
        width = np.abs(random.standard_normal(m)) * scale
        shift = p0 / (p0 @ p0) * (p0 @ (middle - b) + 0.5 * scale + np.abs(p0) @ width)
        lo, hi = middle - shift - width, middle - shift + width
        ends = (torch.from_numpy(end)[None] for end in (lo, hi))
        problem = IntervalBasisPursuit(fitted_rows(W, b, 0 * b), *ends)
        given = {"W": W, "b": b, "lo": lo, "hi": hi}
        yield Instance(label, given, {"p": (m,)}, problem)


def _judge_infeasible(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    problem: AbstractLayerProblem = instance.known
    p = torch.from_numpy(answer["p"])[None]
    zero = torch.zeros(1, problem.n, dtype=torch.float64)
    judged = certify(problem, zero, p)
    if str(judged.status[0]) == "infeasible":
        return Passed(f"infeasible: no h >= 0 below |h| = {float(judged.scope[0]):.1e} meets every interval")
    given, q = instance.arguments, answer["p"]
    end = np.where(q > 0, given["hi"], given["lo"])
    value, slope = float(q @ (given["b"] - end)), given["W"].T @ q
    turned = certify(problem, zero, -p)
    meanings = ("a sign: -p is the proof",) if str(turned.status[0]) == "infeasible" else ()
    k = int(slope.argmin())
    if slope[k] < -1e-9 * float(np.abs(q).max()):
        return Finding("W'p >= 0", f"unknown {k}", float(-slope[k]), 1e-9 * float(np.abs(q).max()), meanings)
    if value <= 0:
        line = "p'b - sum_i (p_i > 0 ? hi_i : lo_i) p_i > 0"
        return Finding(line, "", -value, 0.0, meanings, f"{line} fails: p is worth {value:.3g}")
    line = "p'b - sum_i (p_i > 0 ? hi_i : lo_i) p_i > 0 by more than rounding"
    return Finding(line, "", value, float("nan"), meanings)


def _liars(random: Random) -> Iterator[Instance]:
    """Points of five solvers of which some say optimal and are not."""
    for shape in _SHAPES[:3]:
        while True:
            instance = draw_layer(random, shape, lasso_build)
            H, P = _points(random, instance.known)
            given = instance.arguments
            gap = np.array([_gap_of(given, h, p) for h, p in zip(H, P, strict=True)])
            objective, allowed = np.array([_objective(given, h) for h in H]), _allowed(given, H)
            truth = allowed & (gap <= 1e-6 * objective)
            if (truth == _certified(instance.known, H, P)).all() and truth.any() and (truth != allowed).any():
                break
        mistakes = {
            "everything that any solver says is believed": np.ones(len(H)),
            "only h >= 0 and the off rows were looked at, not the gap": allowed,
            "only the gap was looked at: a negative entry of h makes it small": gap <= 1e-6 * objective,
            "the answers are the wrong way round": ~truth,
        }
        values = Values(
            {"optimal": truth.astype(float)}, {"optimal": "gap <= 1e-6 objective, and every limit is met to 1e-6"},
            by_name(mistakes, "optimal"), {"optimal": "point"},
        )  # fmt: skip
        yield Instance(shape.label, given | {"H": H, "P": P}, {"optimal": (len(H),)}, values)


def _points(random: Random, known: LayerKnown) -> tuple[np.ndarray, np.ndarray]:
    """An optimum, one that is off by rounding, and three that are none: h is too long, below 0, or p is another."""
    h, p = known.h[0].numpy(), known.p[0].numpy()
    other = p * (1 + 0.1 * random.standard_normal(len(p)))
    below = np.where(h > 0, h, -1e-3 * h.max())
    points = [(h, p), (1.01 * h, p), (h, other), (below, p), (h * (1 + 1e-11), p)]
    points = [points[k] for k in random.permutation(len(points))]
    return np.stack([a for a, _ in points]), np.stack([a for _, a in points])


def _certified(known: LayerKnown, H: np.ndarray, P: np.ndarray) -> np.ndarray:
    """What the judge says."""
    five = known.problem.take(torch.zeros(len(H), dtype=torch.long))
    return certify(five, torch.from_numpy(H), torch.from_numpy(P)).holds.numpy()


def _objective(given: dict[str, Any], h: np.ndarray) -> float:
    r = np.where(given["on"], given["W"] @ h + given["b"] - given["y"], 0.0)
    return float(r @ r / 2 + given["lam"] * h.sum())


def _gap_of(given: dict[str, Any], h: np.ndarray, p: np.ndarray) -> float:
    return _objective(given, h) - dual_value(given, p * min(1.0, _most(given, p)))


def _allowed(given: dict[str, Any], H: np.ndarray) -> np.ndarray:
    v = H @ given["W"].T + given["b"]
    size = np.abs(H).max(1)
    return (H.min(1) >= -1e-6 * size) & (np.where(given["off"], v, -np.inf).max(1) <= 1e-6 * np.abs(v).max(1))


_D = "\nDual: maximise p_on'(b - y) + p_off'b - 1/2 |p_on|^2  subject to  W'p + lam >= 0, p_off >= 0, p = 0 on hidden rows."
_P_GIVEN = {"p": "(m,), a feasible p"}
EXERCISES = (
    _exercise(
        "dual_vector", "The dual vector of a solution",
        "h solves eq. (9), the nonnegative LASSO. Return the p that proves it: p_on is given by h, and p_off >= 0 are the\n"
        "multipliers of the off rows, 0 where W h + b < 0, with h_j (W'p + lam)_j = 0 and W'p + lam >= 0." + _D,
        named(_LASSO, h="(n,), the optimum"), {"p": "(m,)"}, draw=_dual_vector, judge=judge_dual,
    ),
    _exercise(
        "feasible_dual_point", "A bound from any vector",
        "q is any vector. Make it feasible for the dual of eq. (9): clip it, and multiply it by the s >= 0 that "
        "is worth most.\n"
        "This is what the judge does with your p, and why it never needs to believe you." + _D,
        named(_LASSO, q="(m,), any numbers"), {"p": "(m,), feasible"}, draw=_feasible_point, judge=_judge_feasible,
    ),
    _exercise(
        "dual_objective", "The dual objective",
        "Return the dual objective of eq. (9) at a feasible p." + _D,
        named("b y on off", **_P_GIVEN), {"d": "a number"}, draw=_dual_objective, judge=judge_values,
    ),
    _exercise(
        "gap", "The gap is the proof",
        "h may be anything, p is feasible. Return the objective of eq. (9) at h, the bound that p proves, and "
        "their difference."
        + _D,
        named(_LASSO, h="(n,)", **_P_GIVEN), {"objective": "a number", "bound": "a number", "gap": "a number"},
        draw=_gap, judge=judge_values,
    ),
    _exercise(
        "dual_of_a_ball", "The dual objective of a basis pursuit",
        "Return the dual objective of  minimise |h|_1  subject to  (sum_on w_i (W h + b - y)_i^2)^(1/2) <= eps,\n"
        "W h + b <= 0 on `off`,  at a p with p_off >= 0 and p = 0 on hidden rows.",
        named("b y on off weight eps", p="(m,), p_off >= 0"), {"d": "a number"}, draw=_ball_dual, judge=judge_values,
    ),
    _exercise(
        "infeasible", "A proof that nothing is feasible",
        "No h >= 0 has lo <= W h + b <= hi. Return a p that proves it: W'p >= 0 and p'b - sum_i (p_i > 0 ? hi_i : "
        "lo_i) p_i > 0.\n"
        "Then p'(W h + b) >= p'b for every h >= 0, and that is more than p allows. A linear program finds such a p.",
        {"W": "(m, n)", "b": "(m,)", "lo": "(m,), finite", "hi": "(m,), finite"}, {"p": "(m,)"},
        draw=_infeasible, judge=_judge_infeasible,
    ),
    _exercise(
        "who_lies", "Solvers that lie",
        "Five solvers call their points (h, p) of eq. (9) optimal. Which are, to a relative tolerance of 1e-6? Ask for\n"
        "h_j >= -1e-6 max|h|, for off rows met to 1e-6, and for objective - bound <= 1e-6 objective, where the "
        "bound is the\n"
        "dual objective of the point's p, scaled down to where it is feasible." + _D,
        named(_LASSO, H="(5, n), one h a row", P="(5, m), one p a row"), {"optimal": "bool (5,)"},
        draw=_liars, judge=judge_values,
    ),
)  # fmt: skip
