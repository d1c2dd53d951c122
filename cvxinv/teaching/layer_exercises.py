"""Exercises of single layer problems: write them in CVXPY, or solve them as you like. The judge asks for a certificate."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as Random

from ..generator.activations import Tanh
from ..generator.maps import Dense
from ..layers.activated_lasso import ActivatedLasso
from ..layers.basis_pursuit_l2 import BasisPursuitL2, NonnegativeBasisPursuitL2
from ..layers.core.problem import AbstractLayerProblem
from ..layers.gaussian_latent import GaussianLatent
from ..layers.interval_basis_pursuit import BasisPursuitLinf, IntervalBasisPursuit, NonnegativeBasisPursuitLinf
from ..layers.l1_fit import L1Fit, NonnegativeL1Fit
from ..layers.lasso import Lasso
from ..layers.linf_fit import LinfFit, NonnegativeLinfFit
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..layers.normalised_basis_pursuit import NormalisedBasisPursuit
from ..layers.normalised_lasso import NormalisedLasso
from ..layers.relaxed_fit import NonnegativeRelaxedFit, RelaxedFit
from ..sparse_models.multi_layer_pursuit import multi_layer_pursuit
from .drawing import Build, Drawn, Shape, draw_layer, fitted_rows, shapes, solved, telling
from .exercise import Exercise, Instance, drawn_until
from .judging import judge_point

PAPER = 'Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020)'
LEI = 'Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019)'
TAKES = {
    "W": "(m, n), weights of the layer",
    "b": "(m,), its bias",
    "y": "(m,), what was observed behind the ReLU; made-up numbers on rows that were not seen",
    "on": "bool (m,), rows that the ReLU let through",
    "off": "bool (m,), rows that it cut: y is 0 there; a row in neither was not seen, and constrains nothing",
    "weight": "(m,), > 0, the w of each row",
    "lam": "a number > 0",
    "gamma": "a number > 0",
    "eps": "a number > 0",
    "lo": "(m,), lowest values; -inf where that end is open; read on the on rows",
    "hi": "(m,), highest values; inf where that end is open; read on the on rows and the off rows",
}
GIVES = {
    "h": "the optimum, (n,)",
    "p": "if you like, the dual vector, (m,): p_on = w (W h + b - y) for squares, p_off >= 0, 0 on hidden rows",
}


def named(names: str, **more: str) -> dict[str, str]:
    """What arguments of these names are, and more."""
    return {name: TAKES[name] for name in names.split()} | more


def _exercise(
    name: str, title: str, task: str, takes: str, draw: Callable[[Random], Iterator[Instance]], **more: Any
) -> Exercise:
    given = named(takes, **more.pop("also", {}))
    level, source = more.pop("level", "first steps"), more.pop("source", PAPER)
    return Exercise(name, title, level, task, given, GIVES, draw, judge_point, ("p",), source, **more)


def _drawn(size: tuple[int, int], build: Build, **options: bool) -> Callable[[Random], Iterator[Instance]]:
    return lambda random: (draw_layer(random, shape, build, **options) for shape in shapes(*size))


def a_lam(drawn: Drawn, share: float) -> float:
    """A lam that leaves some unknowns at 0."""
    fit = np.where(drawn.on, drawn.weight, 0.0)
    size = float(np.abs(drawn.W.T @ (fit * (drawn.y - drawn.b))).max())
    return float(f"{share * size:.3g}")


def _with_lam(kind: Callable[..., AbstractLayerProblem], takes: str, share: float = 0.25) -> Build:
    def build(random: Random, drawn: Drawn) -> tuple[AbstractLayerProblem, dict[str, Any]]:
        lam = a_lam(drawn, share)
        return kind(drawn.rows(), lam), drawn.arguments(*takes.split()) | {"lam": lam}

    return build


def _with_eps(kind: Callable[..., AbstractLayerProblem], takes: str, largest: bool = False) -> Build:
    def build(random: Random, drawn: Drawn) -> tuple[AbstractLayerProblem, dict[str, Any]]:
        size = np.abs(drawn.noise).max() if largest else np.sqrt((drawn.weight * drawn.noise**2).sum())
        eps = float(f"{1.1 * float(size):.3g}")  # what the true h asks for, and a little more
        return kind(drawn.rows(), eps), drawn.arguments(*takes.split()) | {"eps": eps}

    return build


def _plain(kind: Callable[..., AbstractLayerProblem], takes: str) -> Build:
    return lambda random, drawn: (kind(drawn.rows()), drawn.arguments(*takes.split()))


def _gaussian(random: Random, drawn: Drawn) -> tuple[AbstractLayerProblem, dict[str, Any]]:
    gamma = float(f"{0.5 + random.random():.3g}")
    return GaussianLatent(drawn.rows(), gamma), drawn.arguments("W", "b", "y", "on", "off") | {"gamma": gamma}


def _relaxed(kind: Callable[..., AbstractLayerProblem]) -> Build:
    def build(random: Random, drawn: Drawn) -> tuple[AbstractLayerProblem, dict[str, Any]]:
        # the true h is allowed: on rows are known from above
        random_weight = np.round(np.exp(random.standard_normal(len(drawn.b))), 2) + 0.05
        above = np.where(drawn.on, drawn.W @ drawn.h + drawn.b + np.abs(drawn.noise), drawn.y)
        drawn = replace(drawn, y=above, weight=random_weight)
        return kind(drawn.rows()), drawn.arguments("W", "b", "y", "on", "off", "weight")

    return build


def _intervals(random: Random, drawn: Drawn) -> tuple[AbstractLayerProblem, dict[str, Any]]:
    v, width = drawn.W @ drawn.h + drawn.b, np.abs(drawn.noise)
    lo, hi = v - 2 * width * random.random(len(v)), v + 2 * width * random.random(len(v))
    lo[int(random.integers(len(v)))], hi[int(random.integers(len(v)))] = -np.inf, np.inf
    hi = np.where(drawn.off, 0.0, hi)
    rows = drawn.rows()
    problem = IntervalBasisPursuit(rows, torch.from_numpy(lo)[None], torch.from_numpy(hi)[None])
    return problem, drawn.arguments("W", "b", "on", "off") | {"lo": lo, "hi": hi}


def _tanh(random: Random) -> Iterator[Instance]:
    """A layer behind a tanh: y within its range, few rows at its ends."""
    for shape in (Shape("as shown", 6, 3), Shape("drawn", 9, 4), Shape("drawn, wide", 5, 8)):
        yield drawn_until(partial(_tanh_of, random, shape))


def _tanh_of(random: Random, shape: Shape) -> Instance | None:
    m, n = shape.m, shape.n
    W = np.round(random.standard_normal((m, n)), 2)
    b = np.round(0.3 * random.standard_normal(m), 2)
    h = np.where(random.random(n) < 0.6, random.random(n), 0.0)
    y = np.clip(np.tanh(W @ h + b) + 0.1 * random.standard_normal(m), -0.95, 0.95)
    lam = float(f"{0.1 * np.abs(W.T @ (y - b)).max():.3g}")
    known = solved(ActivatedLasso(fitted_rows(W, b, y), Tanh(), lam))
    if known is None or not telling(known):
        return None
    return Instance(shape.label, {"W": W, "b": b, "y": y, "lam": lam}, {"h": (n,), "p": (m,)}, known)


def _two_layers(random: Random) -> Iterator[Instance]:
    for label, sizes, scale in (("as shown", (6, 8, 5), 1.0), ("drawn", (8, 10, 7), 1.0), ("drawn, large", (7, 9, 6), 1e3)):
        yield drawn_until(partial(_two_layers_of, random, label, sizes, scale))


def _two_layers_of(random: Random, label: str, sizes: tuple[int, int, int], scale: float) -> Instance | None:
    m, k, n = sizes
    D1, D2 = (np.round(random.standard_normal(s), 2) for s in ((m, k), (k, n)))
    h = np.where(random.random(n) < 0.5, random.standard_normal(n), 0.0) * scale
    y = np.round(D1 @ D2 @ h + 0.3 * scale * random.standard_normal(m), 3)
    lam1, lam2 = (float(f"{share * np.abs(D1.T @ y).max():.3g}") for share in (0.05, 0.15))
    maps = (Dense(torch.from_numpy(D1)), Dense(torch.from_numpy(D2)))
    known = solved(multi_layer_pursuit(maps, torch.from_numpy(y)[None], (lam1, lam2)))
    if known is None or not telling(known):
        return None
    given = {"D1": D1, "D2": D2, "y": y, "lam1": lam1, "lam2": lam2}
    return Instance(label, given, {"h": (n,), "p": (m + k,)}, known)


def _uneven(random: Random) -> Iterator[Instance]:
    """The nonnegative LASSO with an off row that is 1e-6 of its size, and holds h all the same."""
    for shape in (
        Shape("as shown", 9, 4),
        Shape("drawn, a row was not seen", 12, 5, hidden=1),
        Shape("drawn, small numbers", 10, 5, scale=1e-3),
    ):
        yield drawn_until(partial(_uneven_of, random, shape), 300)


lasso_build = _with_lam(NonnegativeLasso, "W b y on off")


def _uneven_of(random: Random, shape: Shape) -> Instance | None:
    instance = draw_layer(random, shape, lasso_build)
    known = instance.known
    held = (known.p[0].numpy() > 1e-3 * float(known.p.abs().max())) & instance.arguments["off"]
    if not held.any():
        return None
    k = int(np.flatnonzero(held)[0])
    small = np.where(np.arange(shape.m) == k, 1e-6, 1.0)
    given = instance.arguments | {"W": small[:, None] * instance.arguments["W"], "b": small * instance.arguments["b"]}
    rows = known.problem.rows.derived(W=Dense(torch.from_numpy(given["W"])), b=torch.from_numpy(given["b"]))
    tiny = solved(NonnegativeLasso(rows, known.problem.number("lam")), given["y"])
    return None if tiny is None else replace(instance, arguments=given, known=tiny)


_OFF = "subject to  W h + b <= 0 on `off`"
_ROWS = "W b y on off"

EXERCISES = (
    _exercise(
        "nonnegative_lasso", "Write eq. (9) in CVXPY",
        f"minimise 1/2 sum_on (W h + b - y)_i^2 + lam 1'h  {_OFF},  h >= 0.\n"
        "One ReLU layer, inverted: rows that were let through are fitted, rows that were cut are bounded.",
        f"{_ROWS} lam", _drawn((9, 4), _with_lam(NonnegativeLasso, _ROWS)), source=f"{PAPER}, eq. (9)",
    ),
    _exercise(
        "lasso", "The LASSO with weighted rows",
        "minimise 1/2 sum_on w_i (W h + b - y)_i^2 + lam |h|_1, h of any sign; rows that are not on do not count.",
        "W b y on weight lam",
        _drawn((8, 5), _with_lam(Lasso, "W b y on weight"), any_sign=True, relu=False, weighted=True),
        source=f"{PAPER}, Algorithm 2",
    ),
    _exercise(
        "gaussian_latent", "The first layer: a latent under its prior",
        f"minimise 1/2 sum_on (W z + b - y)_i^2 + gamma/2 |z|^2  {_OFF}.  z has any sign.",
        f"{_ROWS} gamma", _drawn((9, 3), _gaussian, any_sign=True), source=f"{PAPER}, eq. (16)",
    ),
    _exercise(
        "basis_pursuit_l2", "Basis pursuit with a bound on the length of the misfit",
        "minimise |h|_1  subject to  (sum_on w_i (W h + b - y)_i^2)^(1/2) <= eps,  W h + b <= 0 on `off`.",
        "W b y on off weight eps",
        _drawn((7, 9), _with_eps(BasisPursuitL2, "W b y on off weight"), any_sign=True, weighted=True),
    ),
    _exercise(
        "nonnegative_basis_pursuit_l2", "Basis pursuit with a bound on the length of the misfit, h >= 0",
        "minimise 1'h  subject to  (sum_on (W h + b - y)_i^2)^(1/2) <= eps,  W h + b <= 0 on `off`,  h >= 0.",
        f"{_ROWS} eps", _drawn((8, 8), _with_eps(NonnegativeBasisPursuitL2, _ROWS)),
    ),
    _exercise(
        "basis_pursuit_linf", "Basis pursuit with a bound on every row",
        "minimise |h|_1  subject to  |W h + b - y|_i <= eps on `on`,  (W h + b)_i <= eps on `off`.\n"
        "The off rows may be eps above 0: noise may have cut them.",
        f"{_ROWS} eps", _drawn((7, 9), _with_eps(BasisPursuitLinf, _ROWS, True), any_sign=True), source=LEI,
    ),
    _exercise(
        "nonnegative_basis_pursuit_linf", "Basis pursuit with a bound on every row, h >= 0 and weights",
        "minimise 1'h  subject to  w_i^(1/2) |W h + b - y|_i <= eps on `on`,  (W h + b)_i <= eps on `off`,  h >= 0.",
        "W b y on off weight eps",
        _drawn((8, 8), _with_eps(NonnegativeBasisPursuitLinf, "W b y on off weight", True), weighted=True), source=LEI,
    ),
    _exercise(
        "interval_basis_pursuit", "An interval for every row",
        "minimise 1'h  subject to  lo <= W h + b <= hi on `on`,  W h + b <= hi on `off`,  h >= 0.\n"
        "The form in which a layer behind an increasing activation is convex. Ends may be infinite.",
        "W b on off lo hi", _drawn((8, 7), _intervals),
    ),
    _exercise(
        "linf_fit", "The smallest largest misfit",
        "minimise the largest of |W h + b - y|_i on `on` and max(0, (W h + b)_i) on `off`; h of any sign.",
        _ROWS, _drawn((10, 3), _plain(LinfFit, _ROWS), any_sign=True), source=f"{LEI}, Algorithm 1",
    ),
    _exercise(
        "nonnegative_linf_fit", "The smallest largest misfit, h >= 0 and weights",
        "minimise the largest of w_i^(1/2) |W h + b - y|_i on `on` and max(0, (W h + b)_i) on `off`  subject to  h >= 0.",
        "W b y on off weight", _drawn((10, 4), _plain(NonnegativeLinfFit, "W b y on off weight"), weighted=True),
        source=f"{LEI}, Algorithm 1",
    ),
    _exercise(
        "l1_fit", "The smallest sum of misfits",
        "minimise sum_on w_i^(1/2) |W h + b - y|_i + sum_off max(0, (W h + b)_i); h of any sign.",
        "W b y on off weight", _drawn((11, 3), _plain(L1Fit, "W b y on off weight"), any_sign=True, weighted=True),
        source=f"{LEI}, Algorithm 2",
    ),
    _exercise(
        "nonnegative_l1_fit", "The smallest sum of misfits, h >= 0",
        "minimise sum_on |W h + b - y|_i + sum_off max(0, (W h + b)_i)  subject to  h >= 0.",
        _ROWS, _drawn((11, 4), _plain(NonnegativeL1Fit, _ROWS)), source=f"{LEI}, Algorithm 2",
    ),
    _exercise(
        "relaxed_fit", "Rows that are known from above",
        "minimise sum_on w_i^(1/2) (y - W h - b)_i  subject to  W h + b <= y on `on`,  W h + b <= 0 on `off`; h "
        "of any sign.",
        "W b y on off weight", _drawn((12, 5), _relaxed(RelaxedFit), any_sign=True, weighted=True), source=LEI,
    ),
    _exercise(
        "nonnegative_relaxed_fit", "Rows that are known from above, h >= 0",
        "minimise sum_on w_i^(1/2) (y - W h - b)_i  subject to  W h + b <= y on `on`,  W h + b <= 0 on `off`,  h >= 0.",
        "W b y on off weight", _drawn((14, 6), _relaxed(NonnegativeRelaxedFit), weighted=True), source=LEI,
    ),
    _exercise(
        "normalised_lasso", "Columns of different lengths",
        "minimise 1/2 sum_on (W h + b - y)_i^2 + lam |D h|_1, D the lengths of the columns of W on the on rows;\n"
        "rows that are not on do not count. |D h|_1 is what makes the answer independent of the columns' units.",
        "W b y on lam",
        _drawn((8, 5), _with_lam(NormalisedLasso, "W b y on", 0.12), any_sign=True, relu=False),
        source=f"{PAPER}, Algorithm 2",
    ),
    _exercise(
        "normalised_basis_pursuit", "Columns of different lengths in a basis pursuit",
        "minimise |D h|_1  subject to  (sum_on (W h + b - y)_i^2)^(1/2) <= eps, D the lengths of the columns of W on `on`;\n"
        "rows that are not on do not count.",
        "W b y on eps", _drawn((5, 8), _with_eps(NormalisedBasisPursuit, "W b y on"), any_sign=True, relu=False),
    ),
    _exercise(
        "multi_layer_pursuit", "Two layers in one problem",
        "minimise 1/2 |D1 g - y|^2 + lam1 |g|_1 + lam2 |h|_1  subject to  g = D2 h.  Return h.\n"
        "Both representations are sparse, and the deeper one is the only unknown.",
        "", _two_layers, level="networks",
        also={"D1": "(m, k)", "D2": "(k, n)", "y": "(m,)", "lam1": "a number > 0", "lam2": "a number > 0"},
        source='Sulam, Aberdam, Beck, Elad, "On multi-layer basis pursuit, efficient algorithms and convolutional neural '
        'networks" (2018)',
    ),
    _exercise(
        "behind_tanh", "Behind a tanh: no convex problem, but a stationary point",
        "Find a stationary point of 1/2 |tanh(W h + b) - y|^2 + lam 1'h over h >= 0: one that no proximal "
        "gradient step moves.\n"
        "Eq. (8) of the source is not convex there; see the exercise `tanh_counterexample`.",
        "W b y lam", _tanh, level="algorithms", source=f"{PAPER}, eq. (8) and Algorithm 3",
    ),
    _exercise(
        "uneven_rows", "Solvers that lie: a row of 1e-6",
        f"The nonnegative LASSO again, with one off row of a size of 1e-6. It holds h all the same, and a solver whose\n"
        "tolerances are absolute, or loose, does not see it.\n"
        f"minimise 1/2 sum_on (W h + b - y)_i^2 + lam 1'h  {_OFF},  h >= 0.",
        f"{_ROWS} lam", _uneven, level="algorithms", source=f"{PAPER}, eq. (9)",
    ),
)  # fmt: skip
