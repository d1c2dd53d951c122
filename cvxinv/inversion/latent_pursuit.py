"""Latent pursuit: invert the generator layer by layer, each layer a convex problem with a certificate.

    image layer   min_{h >= 0} 1/2 |W_L h + b_L - y|^2 + lam 1'h                                   eq. (8)
    mid layers    min_{h >= 0} 1/2 |W h + b - h_next|^2_on + lam 1'h,  (W h + b)_off <= 0          eq. (9)
    latent        min_z 1/2 |W z + b - h_1|^2_on + gamma/2 |z|^2,      (W z + b)_off <= 0          eq. (16)

`on` are the entries of the layer above that exceed the support threshold. Behind a LeakyReLU every row is on, with y / a
and weight a^2 where y < 0, and the unknown below a LeakyReLU has any sign. A matrix A makes the image layer's map A W_L.

Without noise lam = 0 and gamma = 0 (gamma = 1e-6 |W_on|^2 where W_on'W_on is singular). With a relative noise e the
layers get lam = e s_y sqrt(2 log n / m_on) max_j |w_j| / 8 and gamma = (e s_y)^2 / m_on, the level of what noise alone
correlates with a column, and the noise variance of a row.

Source: Aberdam, Simon, Elad (2020), Algorithms 3 to 5; changed: biases, masks, matrices, LeakyReLU, exact solves, lam.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from ..activations import Identity, LeakyReLU, ReLU
from ..certificate import OPTIMAL
from ..generator import Layer
from ..layer_problem import AbstractLayerProblem
from ..layers.gaussian_latent import GaussianLatent
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..maps import AbstractMap, Dense
from ..measurement import Matrix
from ..rows import Rows
from ..solvers.solve import Solution, solve
from .task import Task

_LARGEST_LAYER = 4000  # unknowns: beyond this the dense matrix of a layer and its Gram matrix do not fit


@dataclass(frozen=True, eq=False)
class LayerReport:
    """One layer of a layered inversion.

    index: which layer, 0 is the latent's. problem: the layer problem that was solved (None after loading from a file).
    solution: points and certificates. penalty: lam or gamma used, `(N,)`. threshold: entries of h above it count as
    on in the layer below, `(N,)`. remark: what had to be done differently, or "".
    """

    index: int
    kind: str
    problem: AbstractLayerProblem | None
    solution: Solution
    penalty: Tensor
    threshold: Tensor
    remark: str


@dataclass(frozen=True)
class Settings:
    """What a layered inversion may be told."""

    lam: float | Tensor | None = None
    gamma: float | Tensor | None = None
    support_threshold: float | None = None
    solver: str = "auto"
    tol: float = 1e-6
    force: bool = False


def obstacle(task: Task) -> str | None:
    """Why the layered methods cannot be used on this task, or None. Says which layer and why."""
    layers = task.generator.layers
    phi = layers[-1].activation
    if isinstance(task.measurement, Matrix) and not isinstance(phi, Identity):
        return (
            f"a measurement matrix acts on the signal behind its {type(phi).__name__}; the layered methods take it for "
            "an identity output only"
        )
    if not isinstance(phi, Identity | ReLU | LeakyReLU):
        return (
            f"the output activation {type(phi).__name__} makes the image layer non-convex; read the signal before it "
            "(output='identity')"
        )
    seen = int(task.measurement.seen(task.N).sum(1).max())
    for index in range(len(layers) - 1, -1, -1):
        n = layers[index].W.n
        free = index == 0 or isinstance(layers[index - 1].activation, LeakyReLU)
        # a ReLU leaves about half of its units at 0, and h >= 0 with k nonzeros needs more than k rows
        needed = n if free else (n + 1) // 2
        if seen < needed:
            kind = "unknowns of any sign" if free else "nonnegative unknowns, about half of them nonzero"
            return f"layer {index} has {seen} seen rows for {n} {kind}: at least {needed} are needed"
        if n > _LARGEST_LAYER:
            return f"layer {index} has {n} unknowns, more than the {_LARGEST_LAYER} that a dense layer solve takes"
        seen = n
    return None


def pursue(task: Task, settings: Settings, tick: Callable[[], object] = lambda: None) -> tuple[Tensor, list[LayerReport]]:
    """Run the layers from the image to the latent; returns z `(N, n0)` and a report per layer, image layer first.

    A layer that is infeasible or unfinished hands on its best point. Raises ValueError where `obstacle` has a reason.
    """
    reason = obstacle(task)
    if reason is not None:
        raise ValueError(f"latent_pursuit cannot invert this: {reason}. Use method='hybrid' or 'levenberg_marquardt'")
    layers, reports = task.generator.layers, []
    y, on, off, weight = _image_rows(task)
    relative = task.relative_noise
    for index in range(len(layers) - 1, -1, -1):
        W, b = _map(task, layers[index], index == len(layers) - 1)
        rows = Rows(W, b, y, on, off, weight)
        problem, remark = _problem(rows, layers, index, relative, settings)
        solution = solve(problem, settings.solver, tol=settings.tol, on_fail="ignore", force=settings.force)
        threshold = _threshold(solution, relative, settings)
        reports.append(_report(index, problem, solution, threshold, remark))
        tick()
        if index:
            y, on, off, weight = _rows_behind(layers[index - 1].activation, solution.h, threshold)
    return solution.h, reports


def _map(task: Task, layer: Layer, image: bool) -> tuple[AbstractMap, Tensor]:
    if image and isinstance(task.measurement, Matrix):
        A = task.measurement.A
        return Dense(A @ layer.W.matrix()), A @ layer.b
    return layer.W, layer.b


def _image_rows(task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, on, off, weight of the image layer."""
    phi = task.generator.layers[-1].activation
    seen = task.measurement.seen(task.N).to(task.y.device)
    y, none, ones = task.y, torch.zeros_like(seen), torch.ones_like(task.y)
    if isinstance(phi, Identity):
        return y, seen, none, ones
    if isinstance(phi, LeakyReLU):
        return _leaky(phi, y, seen)
    on = seen & (y > _cut(task)[:, None])
    return y, on, seen & ~on, ones


def _cut(task: Task) -> Tensor:
    """Pixels at or below this are taken as cut by an output ReLU, `(N,)`: 0, or twice the noise of one pixel."""
    if task.noise is None:
        return torch.zeros_like(task.size)
    if task.noise.norm == "linf":
        return task.noise.bound
    return 2 * task.noise.bound / task.measurement.seen(task.N).sum(1).to(task.y).sqrt()


def _leaky(phi: LeakyReLU, y: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slope = torch.where(y < 0, torch.full_like(y, phi.slope), torch.ones_like(y))
    return y / slope, seen, torch.zeros_like(seen), slope**2


def _rows_behind(phi: object, h: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, on, off, weight of the layer whose output h is."""
    if isinstance(phi, LeakyReLU):
        return _leaky(phi, h, torch.ones_like(h, dtype=torch.bool))
    on = h > threshold[:, None]
    return h, on, ~on, torch.ones_like(h)


def _problem(
    rows: Rows, layers: tuple[Layer, ...], index: int, relative: Tensor, settings: Settings
) -> tuple[AbstractLayerProblem, str]:
    if index == 0:
        return _latent_problem(rows, relative, settings)
    if isinstance(layers[index - 1].activation, LeakyReLU):
        return GaussianLatent(rows, 0.0), "h of any sign (below it a LeakyReLU)"
    if settings.lam is not None:
        return NonnegativeLasso(rows, settings.lam), ""
    count = rows.on.sum(1).clamp(min=1).to(rows.y)
    column = rows.W.matrix().norm(dim=0).amax()
    lam = relative * rows.scale() * column * (2 * log(max(rows.n, 2)) / count).sqrt() / 8
    return NonnegativeLasso(rows, lam), ""


def _latent_problem(rows: Rows, relative: Tensor, settings: Settings) -> tuple[AbstractLayerProblem, str]:
    if settings.gamma is not None:
        return GaussianLatent(rows, settings.gamma), ""
    count = rows.on.sum(1).clamp(min=1).to(rows.y)
    gamma = (relative * rows.scale()) ** 2 / count
    H = rows.gram()
    values = torch.linalg.eigvalsh(H).expand(rows.N, -1)
    singular = (values[:, 0] <= 1e-13 * values[:, -1]) & (gamma == 0)
    if not singular.any():
        return GaussianLatent(rows, gamma), ""
    top = torch.where(values[:, -1] > 0, values[:, -1], torch.full_like(gamma, rows.W.norm() ** 2))
    remark = f"gamma = 1e-6 |W_on|^2 for {int(singular.sum())} signals whose W_on'W_on is singular"
    return GaussianLatent(rows, torch.where(singular, 1e-6 * top, gamma)), remark


def _threshold(solution: Solution, relative: Tensor, settings: Settings) -> Tensor:
    """Entries of h above this count as on in the layer below, `(N,)`."""
    top = solution.h.amax(1).clamp(min=0)
    if settings.support_threshold is not None:
        return settings.support_threshold * top
    exact = torch.as_tensor([s == OPTIMAL for s in solution.status]) & solution.polished
    fraction = torch.where(exact.to(top.device), 1e-6, 1e-3).to(top)
    return torch.maximum(fraction, (8 * relative).clamp(max=0.5)) * top


def _report(index: int, problem: AbstractLayerProblem, solution: Solution, threshold: Tensor, remark: str) -> LayerReport:
    latent = isinstance(problem, GaussianLatent)
    penalty = (problem.quadratic if latent else problem.linear)[:, 0]
    return LayerReport(index, type(problem).__name__, problem, solution, penalty, threshold, remark)


def supports(task: Task, reports: list[LayerReport]) -> list[Tensor]:
    """Support masks `(N, n_i)` of the hidden layers as the pursuit found them, first hidden layer first."""
    masks = []
    for report in reversed(reports[:-1]):
        phi = task.generator.layers[report.index - 1].activation
        h = report.solution.h
        masks.append(h > (0 if isinstance(phi, LeakyReLU) else report.threshold[:, None]))
    return masks
