"""Instances of layer problems, drawn anew until each fault of the catalogue that applies would change the answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as Random
from torch import Tensor

from ..generator.maps import Dense
from ..layers.core.certificate import certify
from ..layers.core.problem import AbstractLayerProblem
from ..layers.core.rows import Rows
from ..solvers.solve import solve
from .exercise import Instance
from .mistakes import answered, misreadings

_TRIES = 200
_LEAST = 0.02  # of s_y: a smaller misfit counts as none
_FEW = 8  # draws of a linear fit
_DIRECTIONS = 400
_ALIKE = 1e-3  # relative: optima of two problems that are nearer than this are told apart by nobody
_FINE = 1e-9  # relative: what the reference optima are solved to


@dataclass(frozen=True)
class Shape:
    """How rows are drawn. label: what is particular about them; scale: signal units; hidden: how many rows were not seen."""

    label: str
    m: int
    n: int
    scale: float = 1.0
    hidden: int = 0


@dataclass(frozen=True)
class Drawn:
    """One signal's rows: y has made-up numbers where a row was not seen, and 0 where the ReLU cut it."""

    W: np.ndarray
    b: np.ndarray
    y: np.ndarray
    on: np.ndarray
    off: np.ndarray
    weight: np.ndarray
    h: np.ndarray
    noise: np.ndarray

    def rows(self) -> Rows:
        """The same as rows of a layer problem."""
        W, b, y, on, off, weight = (torch.from_numpy(x) for x in (self.W, self.b, self.y, self.on, self.off, self.weight))
        return Rows(Dense(W), b, y[None], on[None], off[None], weight[None])

    def arguments(self, *names: str) -> dict[str, Any]:
        """Fields by name, as a submission gets them."""
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class LayerKnown:
    """A layer problem of one signal, its optimum, and what stood in y before hidden rows were dropped."""

    problem: AbstractLayerProblem
    h: Tensor
    p: Tensor
    raw: np.ndarray | None = field(default=None, repr=False)


def shapes(m: int, n: int) -> tuple[Shape, ...]:
    """The cases of a layer exercise."""
    return (
        Shape("as shown", m, n),
        Shape("drawn, a row was not seen", m + 3, n + 1, hidden=2),
        Shape("drawn, large numbers", m + 1, n, scale=1e3),
    )


def draw_rows(random: Random, shape: Shape, *, any_sign: bool = False, relu: bool = True, weighted: bool = False) -> Drawn:
    """Rows of a random layer with a sparse h, two on rows at least. relu: whether rows are cut; else all seen are on."""
    while True:
        drawn = _rows(random, shape, any_sign, relu, weighted)
        if drawn.on.sum() >= 2:
            return drawn


def _rows(random: Random, shape: Shape, any_sign: bool, relu: bool, weighted: bool) -> Drawn:
    m, n = shape.m, shape.n
    W = np.round(random.standard_normal((m, n)), 2)
    h = np.where(random.random(n) < 0.6, np.round(0.3 + random.random(n), 2), 0.0)
    h = (h * random.choice([-1.0, 1.0], n) if any_sign else h) * shape.scale
    h = h if h.any() else np.full(n, shape.scale)
    b = np.round(0.4 * random.standard_normal(m), 2) * shape.scale
    v = W @ h + b
    hidden = np.zeros(m, dtype=bool)
    hidden[random.choice(m, shape.hidden, replace=False)] = True
    on = (v > 0 if relu else np.ones(m, dtype=bool)) & ~hidden
    off = ~on & ~hidden if relu else np.zeros(m, dtype=bool)
    noise = np.round(0.25 * random.standard_normal(m), 3) * shape.scale
    made_up = np.round(np.abs(random.standard_normal(m)), 2) * shape.scale
    y = np.where(on, v + noise, np.where(hidden, made_up, 0.0))
    weight = np.round(0.25 + 2 * random.random(m), 2) if weighted else np.ones(m)
    return Drawn(W, b, y, on, off, weight, h, np.where(on, noise, 0.0))


def fitted_rows(W: np.ndarray, b: np.ndarray | None, Y: np.ndarray) -> Rows:
    """Rows that are all on, of a signal `(m,)` or of several `(N, m)`; b: 0 where it is None."""
    y = torch.from_numpy(np.atleast_2d(Y))
    bias = torch.zeros_like(y[0]) if b is None else torch.from_numpy(b)
    return Rows(Dense(torch.from_numpy(W)), bias, y, torch.ones_like(y, dtype=torch.bool))


Build = Callable[[Random, Drawn], tuple[AbstractLayerProblem, dict[str, Any]]]


def draw_layer(random: Random, shape: Shape, build: Build, **options: bool) -> Instance:
    """An instance whose optimum is certified and solves no misreading of the problem.

    The vertex of a linear fit often stays where it is: of those the instance that tells most, of a few.
    """
    best, least = None, np.inf
    for tries in range(_TRIES):
        problem, arguments = build(random, draw_rows(random, shape, **options))
        known = solved(problem, arguments.get("y"))
        blind = np.inf if known is None else untold(known)
        if blind < least:
            shapes_: dict[str, tuple[int, ...]] = {"h": (problem.n,), "p": (problem.rows.m,)}
            best, least = Instance(shape.label, arguments, shapes_, known), blind
        if best is not None and (least == 0 or (problem.form == "excess" and tries >= _FEW)):
            return best
    raise AssertionError(f"no telling instance of {problem!r} in {_TRIES} draws")


def solved(problem: AbstractLayerProblem, raw: np.ndarray | None = None) -> LayerKnown | None:
    """The problem with its optimum, or None where that was not certified or is 0."""
    found = solve(problem, tol=_FINE, on_fail="ignore", progress=False)
    judged = certify(problem, found.h, found.p)
    if not answered(judged) or not bool(found.h.any()):
        return None
    # a linear fit that meets its data all but exactly asks for more digits than solvers give
    if problem.form == "excess" and float(judged.objective[0]) < _LEAST * float(judged.unit[0]):
        return None
    return LayerKnown(problem, found.h, found.p, raw)


def telling(known: LayerKnown) -> bool:
    """Whether every misreading of the problem has another optimum."""
    return untold(known) == 0


def untold(known: LayerKnown) -> int:
    """How many misreadings of the problem its optimum solves too, as far as can be told cheaply."""
    problem, count = known.problem, 0
    for _, other in misreadings(problem, known.raw):
        judged = certify(other, known.h, tol=_ALIKE, thorough=False)
        # without a dual vector at hand: a direction that goes down is the proof that another h is better
        if answered(judged) or (problem.form == "excess" and not _improved(other, known.h)):
            count += 1
            if problem.form != "excess":
                return count
    return count


def _improved(problem: AbstractLayerProblem, h: Tensor) -> bool:
    """Whether a short step from h `(1, n)`, in one of many directions, is allowed and lowers the objective."""
    if float(problem.violation(h)) > _ALIKE * float(problem.rows.scale()):
        return True
    D = torch.from_numpy(np.random.default_rng(0).standard_normal((_DIRECTIONS, problem.n)))
    tried = h + _ALIKE * float(h.abs().max()) * torch.cat([D, torch.eye(problem.n).to(D), -torch.eye(problem.n).to(D)])
    allowed = problem.violation(tried) <= problem.violation(h) + 1e-12 * problem.rows.scale()
    better = problem.objective(tried) < problem.objective(h) - 1e-6 * problem.unit()
    return bool((allowed & better).any())
