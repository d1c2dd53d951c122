"""Exercises of algorithms: proximal maps, step lengths, and one step of each method."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as Random

from ..layers.basis_pursuit_l2 import BasisPursuitL2
from ..layers.core.problem import AbstractLayerProblem
from ..layers.gaussian_latent import GaussianLatent
from ..layers.linf_fit import LinfFit
from .drawing import Drawn, Shape, draw_rows, fitted_rows
from .exercise import Answer, Exercise, Instance, drawn_until
from .judging import Values, by_name, judge_values
from .layer_exercises import PAPER, TAKES, a_lam, named

_SHAPES = (
    Shape("as shown", 7, 3),
    Shape("drawn, a row was not seen", 10, 4, hidden=2),
    Shape("drawn, large numbers", 9, 5, scale=1e3),
    Shape("drawn, small numbers", 8, 6, scale=1e-3, hidden=1),
)
_FITTED = "W b y on weight"


def _exercise(name: str, title: str, task: str, takes: dict[str, str], gives: dict[str, str], draw: Any) -> Exercise:
    return Exercise(name, title, "algorithms", task, takes, gives, draw, judge_values, source=PAPER)


Case = tuple[dict[str, Any], Answer, dict[str, str], dict[str, Answer]]  # arguments, expected, lines, mistakes


def _cases(make: Callable[[Random, Shape], Case], places: dict[str, str]) -> Callable[[Random], Iterator[Instance]]:
    """Instances of values; drawn anew until every known mistake has another value."""

    def draw(random: Random) -> Iterator[Instance]:
        return (drawn_until(partial(case, random, shape)) for shape in _SHAPES)

    def case(random: Random, shape: Shape) -> Instance | None:
        given, expected, lines, mistakes = make(random, shape)
        if not all(_differs(expected, wrong) for wrong in mistakes.values()):
            return None
        sizes = {name: np.shape(value) for name, value in expected.items()}
        return Instance(shape.label, given, sizes, Values(expected, lines, mistakes, places))

    return draw


def _differs(expected: Answer, wrong: Answer) -> bool:
    """Whether an entry is another by more than a thousandth of the largest."""
    return any(
        np.abs(np.nan_to_num(value) - np.nan_to_num(expected[name])).max()
        > 1e-3 * np.abs(np.nan_to_num(expected[name])).max()
        for name, value in wrong.items()
    )


# --- proximal maps ------------------------------------------------------------------------------------


def _prox_unknown(random: Random, shape: Shape) -> Case:
    n = shape.n + 3
    h = np.round(random.standard_normal(n), 3) * shape.scale
    lam, gamma, rho = (float(f"{a:.3g}") for a in (0.3 * shape.scale, 0.2 + random.random(), 0.5 + random.random()))
    right = np.maximum(rho * h - lam, 0.0) / (rho + gamma)
    wrong = {
        "a sign: lam is added": np.maximum(rho * h + lam, 0.0) / (rho + gamma),
        "rho is missing: lam is taken off as it is": rho * np.maximum(h - lam, 0.0) / (rho + gamma),
        "h >= 0 is missing": (rho * h - lam) / (rho + gamma),
        "soft thresholding of any sign": np.sign(h) * np.maximum(rho * np.abs(h) - lam, 0.0) / (rho + gamma),
        "gamma is missing": np.maximum(rho * h - lam, 0.0) / rho,
        "a factor 2: gamma |u|^2 without its 1/2": np.maximum(rho * h - lam, 0.0) / (rho + 2 * gamma),
    }
    given = {"h": h, "lam": lam, "gamma": gamma, "rho": rho}
    lines = {"u": "0 in lam + gamma u + rho (u - h) + normal cone of u >= 0"}
    return given, {"u": right}, lines, by_name(wrong, "u")


def _rows_case(random: Random, shape: Shape, weighted: bool = True) -> tuple[Drawn, np.ndarray, float]:
    drawn = draw_rows(random, shape, weighted=weighted)
    v = drawn.W @ drawn.h + drawn.b + np.round(random.standard_normal(len(drawn.b)), 3) * shape.scale
    return drawn, v, float(f"{0.3 + random.random():.3g}")


def _prox(problem: AbstractLayerProblem, v: np.ndarray, rho: float) -> np.ndarray:
    return problem.prox_rows(torch.from_numpy(v)[None], torch.full((1, 1), rho, dtype=torch.float64))[0].numpy()


def _prox_squares(random: Random, shape: Shape) -> Case:
    drawn, v, rho = _rows_case(random, shape)
    on, off, y, w = drawn.on, drawn.off, drawn.y, drawn.weight
    right = _prox(GaussianLatent(drawn.rows(), 1.0), v, rho)
    wrong = {
        "the weights are missing": np.where(on, (y + rho * v) / (1 + rho), right),
        "a factor 2: squares without their 1/2": np.where(on, (2 * w * y + rho * v) / (2 * w + rho), right),
        "rho and w are exchanged": np.where(on, (rho * y + w * v) / (w + rho), right),
        "a sign: off rows are held at u >= 0": np.where(off, np.maximum(v, 0.0), right),
        "off rows are left as they are": np.where(off, v, right),
        "off rows are set to 0": np.where(off, 0.0, right),
    }
    if shape.hidden:
        wrong["hidden rows are cut off at 0, as if they were off"] = np.where(on | off, right, np.minimum(v, 0.0))
    given = {"v": v} | drawn.arguments("y", "on", "off", "weight") | {"rho": rho}
    lines = {"u": "0 in w (u - y) + rho (u - v) on `on`; u <= 0 on `off`; u = v on hidden rows"}
    return given, {"u": right}, lines, by_name(wrong, "u")


def _prox_ball(random: Random, shape: Shape) -> Case:
    drawn, v, _ = _rows_case(random, shape, weighted=False)
    on, off, y = drawn.on, drawn.off, drawn.y
    r = np.where(on, v - y, 0.0)
    length = float(np.sqrt(r @ r))
    eps = float(f"{0.4 * length:.3g}")
    right = _prox(BasisPursuitL2(drawn.rows(), eps), v, 1.0)
    whole = np.where(on | off, v - y, 0.0)
    wrong = {
        "the ball is set around 0, not around y": np.where(on, v * min(1.0, eps / np.linalg.norm(v[on])), right),
        "half of the ball": np.where(on, y + r * (eps / 2 / length), right),
        "each row is brought within eps by itself": np.where(on, y + np.clip(r, -eps, eps), right),
        "v is put at y: eps = 0": np.where(on, y, right),
        "off rows are left as they are": np.where(off, v, right),
        "the length runs over the off rows too": np.where(on, y + r * min(1.0, eps / np.linalg.norm(whole)), right),
    }
    given = {"v": v} | drawn.arguments("y", "on", "off") | {"eps": eps}
    lines = {"u": "u is the nearest point with |u - y|_on <= eps, u <= 0 on `off`"}
    return given, {"u": right}, lines, by_name(wrong, "u")


def _prox_largest(random: Random, shape: Shape) -> Case:
    m = shape.m
    y, v = (np.round(random.standard_normal(m), 3) * shape.scale for _ in range(2))
    rho = float(f"{(1.5 + random.random()) / shape.scale:.3g}")
    right = _prox(LinfFit(fitted_rows(np.eye(m), None, y)), v, rho)
    q = rho * (v - y)
    t = 1.0 / rho
    wrong = {
        "the prox of the sum of the misfits: soft thresholding": y + np.sign(v - y) * np.maximum(np.abs(v - y) - t, 0.0),
        "half of what is to be taken away": v - (v - right) / 2,
        "the projection of the wrong point: Moreau's remainder is missing": v - right + y,
        "the nearest point of |q| <= 1 in the largest entry, not in the sum": v - np.clip(q, -1.0, 1.0) / rho,
        "y is missing": right - y,
    }
    lines = {"u": "rho (v - u) is the nearest point to rho (v - y) with sum |p_i| <= 1"}
    return {"v": v, "y": y, "rho": rho}, {"u": right}, lines, by_name(wrong, "u")


# --- steps --------------------------------------------------------------------------------------------


def _curvature(W: np.ndarray, w: np.ndarray) -> float:
    return float(np.linalg.norm(np.sqrt(w)[:, None] * W, 2) ** 2)


def _step_length(random: Random, shape: Shape) -> Case:
    drawn = draw_rows(random, shape, weighted=True)
    W, w = drawn.W, np.where(drawn.on, drawn.weight, 0.0)
    right = _curvature(W, w)
    wrong = {
        "the norm is not squared": np.sqrt(right),
        "all rows are counted, not the on rows": _curvature(W, drawn.weight),
        "the weights are missing": _curvature(W, drawn.on.astype(float)),
        "the Frobenius norm: larger than it need be": float((w[:, None] * W**2).sum()),
        "the step 1 / L in place of L": 1 / right,
        "twice L: squares without their 1/2": 2 * right,
    }
    given = drawn.arguments("W", "on", "weight")
    lines = {"L": "L is the largest eigenvalue of W_on' diag(w) W_on"}
    return given, {"L": np.array(right)}, lines, by_name(wrong, "L")


def _lasso_case(random: Random, shape: Shape) -> tuple[Drawn, dict[str, Any], np.ndarray]:
    """A weighted nonnegative LASSO without off rows, as a dict of arguments, and a point h >= 0."""
    drawn = draw_rows(random, shape, weighted=True)
    h = np.abs(drawn.h + 0.3 * shape.scale * random.standard_normal(shape.n))
    return drawn, drawn.arguments(*_FITTED.split()) | {"lam": a_lam(drawn, 0.2)}, h


def _slope(given: dict[str, Any], h: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    """W_on'w (W h + b - y) + lam."""
    fit = np.where(given["on"], given["weight"] if w is None else w, 0.0)
    return given["W"].T @ (fit * (given["W"] @ h + given["b"] - given["y"])) + given["lam"]


def _ista(random: Random, shape: Shape) -> Case:
    _, given, h = _lasso_case(random, shape)
    t = 1 / _curvature(given["W"], np.where(given["on"], given["weight"], 0.0))
    g, lam = _slope(given, h), given["lam"]
    every = given["W"].T @ (given["weight"] * (given["W"] @ h + given["b"] - given["y"])) + lam
    wrong = {
        "a sign: the step goes uphill": np.maximum(h + t * g, 0.0),
        "h >= 0 is missing": h - t * g,
        "lam is missing": np.maximum(h - t * (g - lam), 0.0),
        "lam is not multiplied by the step": np.maximum(h - t * (g - lam) - lam, 0.0),
        "a sign: lam is added": np.maximum(h - t * (g - 2 * lam), 0.0),
        "a factor 2 in the gradient": np.maximum(h - t * (2 * g - lam), 0.0),
        "all rows are counted, not the on rows": np.maximum(h - t * every, 0.0),
        "the weights are missing": np.maximum(h - t * _slope(given, h, np.ones_like(given["weight"])), 0.0),
    }
    lines = {"h": "h+ = max(h - t (W_on'w (W h + b - y) + lam), 0)"}
    return given | {"h": h, "t": t}, {"h": np.maximum(h - t * g, 0.0)}, lines, by_name(wrong, "h")


def _fista_run(given: dict[str, Any], h: np.ndarray, t: float, steps: int, kind: str = "") -> np.ndarray:
    """FISTA from h; kind: a fault in words, "" for none."""
    z, k, before = h, 1.0, h
    for _ in range(steps):
        new = np.maximum(z - t * _slope(given, z), 0.0)
        after = (1 + np.sqrt(1 + 4 * k * k)) / 2
        factor = {"": (k - 1) / after, "none": 0.0, "ratio": k / after, "sign": (1 - k) / after}.get(kind, (k - 1) / after)
        z = new + factor * (new - before)
        if kind == "frozen":
            after = k
        k, before = after, new
    return z if kind == "point" else before


def _fista(random: Random, shape: Shape) -> Case:
    _, given, h = _lasso_case(random, shape)
    t, steps = 1 / _curvature(given["W"], np.where(given["on"], given["weight"], 0.0)), 6
    right = _fista_run(given, h, t, steps)
    wrong = {
        "no momentum: this is ISTA": _fista_run(given, h, t, steps, "none"),
        "t_k stays where it is: no momentum, this is ISTA": _fista_run(given, h, t, steps, "frozen"),
        "the momentum is t_k / t_(k+1), not (t_k - 1) / t_(k+1)": _fista_run(given, h, t, steps, "ratio"),
        "a sign in the momentum": _fista_run(given, h, t, steps, "sign"),
        "the extrapolated point is returned, not the iterate": _fista_run(given, h, t, steps, "point"),
        "one step too many": _fista_run(given, h, t, steps + 1),
        "one step too few": _fista_run(given, h, t, steps - 1),
    }
    lines = {"h": "h_k = prox(z_k - t grad(z_k)), z_(k+1) = h_k + (t_k - 1) / t_(k+1) (h_k - h_(k-1))"}
    return given | {"h": h, "t": t, "steps": steps}, {"h": right}, lines, by_name(wrong, "h")


def _admm(random: Random, shape: Shape) -> Case:
    _, given, u = _lasso_case(random, shape)
    W, b, y, lam = (given[k] for k in ("W", "b", "y", "lam"))
    w, n = np.where(given["on"], given["weight"], 0.0), W.shape[1]
    s, rho = np.round(0.2 * random.standard_normal(n), 3) * shape.scale, float(f"{0.5 + random.random():.3g}")

    def step(
        sign: float = 1.0, price: float = lam / rho, weight: np.ndarray = w, own: bool = True, cut: bool = True
    ) -> Answer:
        A = W.T @ (weight[:, None] * W) + rho * np.eye(n)
        h = np.linalg.solve(A, W.T @ (weight * (y - b)) + rho * (u - sign * s))
        v = h + sign * s - price
        new = np.maximum(v, 0.0) if cut else v
        return {"h": h, "u": new, "s": s + (h - new if own else new - h)}

    wrong = {
        "a sign: the scaled multiplier s enters with the wrong one": step(sign=-1.0),
        "rho is missing in the threshold: it is lam / rho": step(price=lam),
        "a sign: lam is added": step(price=-lam / rho),
        "the weights are missing": step(weight=np.where(given["on"], 1.0, 0.0)),
        "all rows are counted, not the on rows": step(weight=given["weight"]),
        "a sign in the last line: s grows by u - h": step(own=False),
        "h >= 0 is missing in u": step(cut=False),
    }
    lines = {
        "h": "(W_on'w W_on + rho I) h = W_on'w (y - b) + rho (u - s)",
        "u": "u = max(h + s - lam / rho, 0)",
        "s": "s = s + h - u",
    }
    return given | {"u": u, "s": s, "rho": rho}, step(), lines, wrong


def _pdhg(random: Random, shape: Shape) -> Case:
    drawn, lasso, h = _lasso_case(random, shape)
    W, b, y, lam, off = (*(lasso[k] for k in ("W", "b", "y", "lam")), drawn.off)
    on, m = drawn.on, len(b)
    p = np.where(on | off, np.round(0.3 * random.standard_normal(m), 3) * shape.scale, 0.0)
    p = np.where(off, np.abs(p), p)
    sigma = tau = float(f"{0.9 / np.linalg.norm(W, 2):.3g}")

    def step(sign: float = 1.0, bias: float = 1.0, over: float = 2.0, clamp: bool = True, data: float = 1.0) -> Answer:
        new = np.maximum(h - sign * tau * (W.T @ p) - tau * lam, 0.0)
        v = p + sigma * (W @ (over * new - (over - 1) * h) + bias * b)
        fitted = (v - data * sigma * y) / (1 + sigma)
        cut = np.maximum(v, 0.0) if clamp else v
        return {"h": new, "p": np.where(on, fitted, np.where(off, cut, 0.0))}

    wrong = {
        "a sign: h + tau W'p": step(sign=-1.0),
        "the bias is missing": step(bias=0.0),
        "no extrapolation: W is applied to h+, not to 2 h+ - h": step(over=1.0),
        "the old h is extrapolated to: h, not 2 h+ - h": step(over=0.0),
        "p_off >= 0 is missing": step(clamp=False),
        "a sign: y is added": step(data=-1.0),
        "y is not multiplied by sigma": step(data=1 / sigma),
    }
    lines = {
        "h": "h+ = max(h - tau (W'p + lam), 0)",
        "p": "p+ = prox of sigma F* at v = p + sigma (W (2 h+ - h) + b): (v - sigma y) / (1 + sigma) on `on`, "
        "max(v, 0) on `off`",
    }
    given = drawn.arguments("W", "b", "y", "on", "off") | {"lam": lam, "h": h, "p": p, "sigma": sigma, "tau": tau}
    return given, step(), lines, wrong


_STEP = named(f"{_FITTED} lam", h="(n,), where the step begins", t="the step length, a number > 0")
EXERCISES = (
    _exercise(
        "prox_unknown", "The proximal map of the penalty",
        "Return argmin over u >= 0 of  lam 1'u + gamma/2 |u|^2 + rho/2 |u - h|^2.",
        {"h": "(n,)", "lam": TAKES["lam"], "gamma": TAKES["gamma"], "rho": "a number > 0"}, {"u": "(n,)"},
        _cases(_prox_unknown, {"u": "unknown"}),
    ),
    _exercise(
        "prox_squares", "The proximal map of the rows",
        "Return argmin over u of  1/2 sum_on w_i (u - y)_i^2 + rho/2 |u - v|^2  subject to  u <= 0 on `off`.",
        {"v": "(m,)", **named("y on off weight"), "rho": "a number > 0"}, {"u": "(m,)"},
        _cases(_prox_squares, {"u": "row"}),
    ),
    _exercise(
        "prox_ball", "The nearest point of a ball",
        "Return the u nearest to v with  (sum_on (u - y)_i^2)^(1/2) <= eps  and  u <= 0 on `off`.",
        {"v": "(m,)", **named("y on off eps")}, {"u": "(m,)"}, _cases(_prox_ball, {"u": "row"}),
    ),
    _exercise(
        "prox_largest", "The proximal map of the largest entry",
        "Return argmin over u of  max_i |u - y|_i + rho/2 |u - v|^2. Moreau: what is taken away from v is a projection.",
        {"v": "(m,)", "y": "(m,)", "rho": "a number > 0"}, {"u": "(m,)"}, _cases(_prox_largest, {"u": "row"}),
    ),
    _exercise(
        "step_length", "How long a step may be",
        "Return the smallest L for which the gradient of  1/2 sum_on w_i (W h + b - y)_i^2  changes by at most L |h - h'|.\n"
        "1 / L is the step of ISTA and FISTA.",
        named("W on weight"), {"L": "a number"}, _cases(_step_length, {}),
    ),
    _exercise(
        "ista_step", "One step of ISTA",
        "Return what one proximal gradient step from h makes of it, for  1/2 sum_on w_i (W h + b - y)_i^2 + lam "
        "1'h,  h >= 0.",
        _STEP, {"h": "(n,)"}, _cases(_ista, {"h": "unknown"}),
    ),
    _exercise(
        "fista_steps", "Six steps of FISTA",
        "Return the iterate h after `steps` steps of FISTA from h, with t_1 = 1 and t_(k+1) = (1 + (1 + 4 "
        "t_k^2)^(1/2)) / 2,\n"
        "for  1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'h,  h >= 0.",
        _STEP | {"steps": "how many"}, {"h": "(n,)"}, _cases(_fista, {"h": "unknown"}),
    ),
    _exercise(
        "admm_step", "One step of ADMM",
        "minimise 1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'u  subject to  h = u, u >= 0, with the scaled multiplier s.\n"
        "Return h, u and s after one step from u and s, in that order: h first, from u - s.",
        named(f"{_FITTED} lam", u="(n,)", s="(n,)", rho="a number > 0"), {"h": "(n,)", "u": "(n,)", "s": "(n,)"},
        _cases(_admm, {"h": "unknown", "u": "unknown", "s": "unknown"}),
    ),
    _exercise(
        "pdhg_step", "One step of the primal-dual method",
        "Eq. (9): F(v) = 1/2 sum_on (v - y)_i^2 with v <= 0 on `off`, g(h) = lam 1'h with h >= 0, v = W h + b.\n"
        "Return h and p after one step: h first, then p at the extrapolated 2 h+ - h. p is 0 on hidden rows.",
        named("W b y on off lam", h="(n,)", p="(m,)", sigma="the dual step", tau="the primal step"),
        {"h": "(n,)", "p": "(m,)"}, _cases(_pdhg, {"h": "unknown", "p": "row"}),
    ),
)  # fmt: skip
