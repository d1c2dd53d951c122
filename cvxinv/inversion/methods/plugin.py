"""`plugin`: gradient descent with the slopes of all activations left out; the weights alone carry the misfit back.

    z <- z - step P'A'(A G(z) - y),        P = W_d ... W_1

PLUGIn where A is the identity, PLUGIn-CS for a measurement A. It rests on Stein's identity: of a W with entries N(0,
t^2 / m), m its rows, and a nondecreasing s

    E W's(W h + b) = c h,    c = t^2 mean_i E s'(W_i h + b_i) >= 0,

so that, layer by layer, E P'G(z) is a multiple of z, and P'(G(z) - y) leads from z to where y came from. Where s is
positively homogeneous, slope a below 0 and 1 above, and b = 0, the multiple is the same everywhere, c = t^2 (1 + a) / 2, and
with E t^2 = |W|_F^2 / n, n its columns, step "theory" is what makes it 1:

    step = prod_i n_(i-1) / (lambda_i |W_i|_F^2),    lambda_i = (1 + a_i) / 2,

lambda^-d for t = 1 and ReLU 2^d. With biases, or behind a sigmoid or another smooth s, c depends on |h|: what remains is the
direction, and that |E W's(W h + b)| grows with |h|, as its derivative along h, t^2 mean_i E g^2 s'(|h| g + b_i), is no less
than 0; no step follows from that. A trained W is no random one, so that there all of it is heuristic, and A'A is taken for
the identity, as of a Gaussian A with entries N(0, 1/m) on the average.

step left out is 1 / |P'A'A J(z0)|, estimated for each signal at its start, halved where it leads away (`steps/guarded.py`):
3.2 where the source takes 3, at widths where its theory's 8 does not settle. "norms" is the source's for trained
nets, 1 / prod_i |W_i|; it follows the scale of the weights only half the way. A step that was asked for is held.

The answer is where |P'A'(A G(z) - y)| was smallest, a fixed point, which with noise is no least-squares optimum; of several
starts the one with the smallest misfit. A signal is done where |z_next - z| <= tol |z|.

Source: Joshi, Li, Plan, Yilmaz, "PLUGIn: a simple algorithm for inverting generative models with recovery guarantees"
(2021), eq. 5, and their code for PLUGIn-CS; from their text: 10,000 iterations, tol 1e-13, step 3 for 3 layers, "norms", the
best of 3 starts by misfit. Derived here: scales of weights, leaky slopes, biases, the default step.
"""

from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ...generator.abstract import AbstractGenerator
from ...generator.activations import AbstractActivation
from ...generator.maps import AbstractMap, Composition, Dense
from ...lengths import lengths
from ..answer import Latents
from ..method import AbstractMethod
from ..options import check_step, within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.guarded import HALVE, HOLD, SETTLED, Guarded, bearable, stretch
from ..steps.homogeneous import beyond
from ..steps.newton import Descent
from ..steps.starts import Starts
from ..steps.walking import walk
from ..task import Task

RULES = ("theory", "norms")
_MOST_ENTRIES = 50_000_000  # of P as a matrix


@dataclass(frozen=True, eq=False, kw_only=True)
class Plugin(AbstractMethod):
    """PLUGIn from random starts, the best by misfit; before them `z0`, where it is given.

    step: None, a number, "theory" or "norms", see the module. max_iter: steps per start. tol: relative change of z at which
    a signal is done. restarts: random starts at most. z0: latents to begin with, or an encoder of y that gives them, as in
    `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "plugin"

    step: float | str | None = None
    max_iter: int = 2000
    tol: float = 1e-13
    restarts: int = 1
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        within(self.tol, "tol", 0, 1)
        check_step(self.step, RULES)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)
        _refuse_other_tasks(task)
        if self.step == "theory" and (why := beyond(task.generator)):
            raise ValueError(
                f"expected step as a number or 'norms', got 'theory', which is for ReLU and LeakyReLU without biases: "
                f"this generator has {why}; leave step out, and it is estimated"
            )

    def run(self, task: Task, starts: Starts) -> Latents:
        P, said = product_of(task.generator), dict[str, None]()

        def search(part: Task, z: Tensor) -> Descent:
            step = self._steps(part, z, P)
            found = descend_by_plugin(part, z, P, step, max_iter=self.max_iter, tol=self.tol, held=self.step is not None)
            last = step * lengths(P.adjoint(part.pull(part.generator(found.z))))
            if bool((part.usable & ~(last <= SETTLED * lengths(found.z))).any()):
                said[_unsettled(self.step)] = None
            return found

        hunt = begin(task, self.z0, search)
        hunt.draw(starts, search, count=self.restarts)
        why = beyond(task.generator)
        beside = f"plugin is heuristic here: what it rests on is said of ReLU and LeakyReLU without biases, not of {why}"
        return hunt.answer((*([beside] if why else ()), *said))

    def _steps(self, task: Task, z: Tensor, P: AbstractMap) -> Tensor:
        if self.step is None:
            return bearable(task, stretch(task, z, P))
        fixed = {"theory": theory_step, "norms": norms_step}
        step = fixed[self.step](task.generator) if isinstance(self.step, str) else self.step
        return torch.full_like(task.size, step)


def descend_by_plugin(
    task: Task, z: Tensor, P: AbstractMap, step: Tensor, *, max_iter: int, tol: float, held: bool
) -> Descent:
    """The iteration from `z` `(N, n0)` with steps `(N,)`, held as they are or halved where they lead away."""
    guard = HOLD if held else HALVE

    def rule(part: Task, at: Guarded, _: int) -> tuple[Guarded, Tensor]:
        x = part.generator(at.z)
        direction = P.adjoint(part.pull(x))
        return at.moved(lengths(part.residual(x)), direction, guard), lengths(direction)

    found = walk(task, Guarded.at(z, step), rule, max_iter=max_iter, tol=tol)
    return replace(found, merit=found.misfit)  # what is lowered is the direction's length; starts are chosen by misfit


def product_of(G: AbstractGenerator) -> AbstractMap:
    """P = W_d ... W_1, as a matrix where that takes no more work than its factors."""
    P = reduce(lambda inner, outer: Composition(outer, inner), (layer.W for layer in G.layers))
    return Dense(P.matrix()) if P.m * P.n <= min(P.work, _MOST_ENTRIES) else P


def theory_step(G: AbstractGenerator) -> float:
    """prod_i n_(i-1) / (lambda_i |W_i|_F^2)."""
    return 1 / prod(_share(layer.activation) * _mean_square(layer.W) for layer in G.layers)


def norms_step(G: AbstractGenerator) -> float:
    """1 / prod_i |W_i|, largest singular values."""
    return 1 / prod(layer.W.norm() for layer in G.layers)


def _share(phi: AbstractActivation) -> float:
    """lambda, the share of the rows' expected square that a positively homogeneous activation lets through."""
    assert phi.slopes is not None  # others are refused
    return (1 + phi.slopes[0]) / 2


def _mean_square(W: AbstractMap) -> float:
    """|W|_F^2 / n, the mean square of what W makes of a unit vector."""
    return float(lengths(W.row_lengths()[None])[0]) ** 2 / W.n


def _refuse_other_tasks(task: Task) -> None:
    G, seeing = task.generator, task.measurement
    if not seeing.linear:
        raise ValueError(
            f"plugin cannot invert this: expected a linear measurement, got {seeing.name}; "
            "use method='hybrid', 'levenberg_marquardt' or 'gradient_descent'"
        )
    got = f"{G.kind}, of which no weights are known" if not G.layers else ""
    for index, layer in enumerate(G.layers):
        phi = layer.activation
        if not (phi.monotone and phi.elementwise):
            got = f"{type(phi).__name__} behind layers[{index}]"
            break
    if got:
        raise ValueError(
            f"plugin cannot invert this: expected layers with nondecreasing activations of single numbers, got {got}; "
            "use method='hybrid', 'levenberg_marquardt' or 'gradient_descent'"
        )


def _unsettled(step: float | str | None) -> str:
    if step is None:
        return "plugin: not every signal settled, though its step was halved where it led away; more max_iter, or 'hybrid'"
    return f"plugin: not every signal settled with step={step!r}; a smaller one, or none, which estimates it"
