"""The layered pursuit: invert the generator layer by layer, each layer a convex problem with a certificate.

    image layer   min_{h >= 0} 1/2 |W_L h + b_L - y|^2 + lam 1'h                                   eq. (8)
    mid layers    min_{h >= 0} 1/2 |W h + b - h_next|^2_on + lam 1'h,  (W h + b)_off <= 0          eq. (9)
    latent        min_z 1/2 |W z + b - h_1|^2_on + gamma/2 |z|^2,      (W z + b)_off <= 0          eq. (16)

With a prior on z, R and C stand in the place of gamma (`known_latent`). `on` are the entries of the layer above that exceed
a threshold, `off` the others. Behind a LeakyReLU every row is on, with y / a and weight a^2 where y < 0, and the unknown
below a LeakyReLU has any sign. A matrix A makes the image layer's map A W_L.

Without noise lam = 0 and gamma = 0 (gamma = 1e-6 |W_on|^2 where W_on'W_on is singular). With noise of standard deviation
sigma in a row of weight 1 the layers get lam = sigma (2 log n)^(1/2) max_j |w_j| / 8 and gamma = sigma^2, the level of what
noise alone correlates with a column, and its variance. Which units are then on, which off, and which neither, follows from
how far the noise may have moved them (`evidence.py`), and so do the weights and the sigma of the rows below. Behind a
LeakyReLU, where nothing is off, sigma keeps its share of the rows.

Behind an output phi = tanh, sigmoid or PLU the image layer is read in one of three ways (`image_layer`):

    preactivation   1/2 sum w (W_L h + b_L - phi^-1(y))^2 + lam 1'h where phi is not too flat, w = phi'^2 at y
    interval        min 1'h over h >= 0 with phi^-1(y - e) <= W_L h + b_L <= phi^-1(y + e) on every seen entry
    activated       eq. (8) as it stands, 1/2 |phi(W_L h + b_L) - y|^2 + lam 1'h: not convex, Algorithm 3

Left out: preactivation behind PLU, in noise, where h has any sign or over 1500 entries, else interval with e = 0. Without
noise both find z behind trained sigmoid decoders; interval is more exact, uses the pixels that are too flat for
preactivation, and mostly takes longer. In noise it gets more of the supports wrong. Activated stops far off, at points that
count as stationary.

Source: Aberdam, Simon, Elad (2020), Algorithms 3 to 5; changed: biases, masks, matrices, LeakyReLU, exact solves, lam, the
readings behind phi.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import log

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ...generator.chain import Layer
from ...generator.maps import AbstractMap
from ...inputs import describe
from ...layers.activated_lasso import ActivatedLasso
from ...layers.core.certificate import OPTIMAL
from ...layers.core.problem import AbstractLayerProblem
from ...layers.core.rows import Rows
from ...layers.gaussian_latent import GaussianLatent
from ...layers.interval_basis_pursuit import IntervalBasisPursuit
from ...layers.nonnegative_lasso import NonnegativeLasso
from ...solvers.known import torch_solver
from ...solvers.least_squares import LARGEST_FACTOR
from ...solvers.openings import LARGEST_NEWTON
from ...solvers.solve import Solution, check_choice, check_solver, solve
from ...solvers.solver import AbstractSolver
from ..answer import GIVEN, LayerReport
from ..options import penalty, tidy, within
from ..task import Task
from .evidence import rows_from, weigh_evidence
from .known_latent import known_latent
from .reading import before_output, image_map, image_rows, rows_behind, unreadable

IMAGE_LAYERS = ("preactivation", "interval", "activated")
_DEVIATIONS = 4.0  # standard deviations that gaussian noise is taken to stay within, where an image layer wants bounds
LARGEST_LAYER = LARGEST_FACTOR  # unknowns: beyond this the dense matrix of a layer and its Gram matrix do not fit
_PRODUCTS = 2000  # iterations that a layer by products alone may take: of conjugate gradients all, of PDHG a tenth
_SPEED = 2e9  # what a core multiplies in one, in float64 convolutions (decision 0021)


@dataclass(frozen=True, eq=False)
class LayerOptions(Batch):
    """What a layered inversion may be told.

    lam: l1 weight of the image and mid layers, gamma: prior precision of the latent; one number or `(N,)`; None for those
    of the module. support_threshold: as a fraction of max h, in [0, 1). solver, tol, force: see `solve`; with force
    layers of over 4,000 unknowns are solved too, by products alone. image_layer: how the image layer is read behind a curved
    output such as tanh or PLU, one of `IMAGE_LAYERS`; None for that of the module.
    layer_problems: for some layers, by index, 0 the latent's, what makes the layer problem of its rows; it sees a chunk of
    the signals, and the image layer's y in output units behind a curved output.
    """

    lam: float | Tensor | None = per_signal(ndim=1, default=None)
    gamma: float | Tensor | None = per_signal(ndim=1, default=None)
    support_threshold: float | None = None
    solver: str | AbstractSolver = "auto"
    tol: float = 1e-6
    force: bool = False
    image_layer: str | None = None
    layer_problems: Mapping[int, Callable[[Rows], AbstractLayerProblem]] | None = None

    def __post_init__(self) -> None:
        tidy(self)
        within(self.tol, "tol", 0, 1)
        within(self.support_threshold, "support_threshold", 0, 1)
        check_solver(self.solver)
        if self.image_layer is not None:
            check_choice(self.image_layer, IMAGE_LAYERS, "image_layer")

    def given(self) -> list[str]:
        """Names of the options that were not left out."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not f.default]

    def check(self, task: Task) -> None:
        """Raises TypeError or ValueError for what does not fit the task."""
        for name, value in (("lam", self.lam), ("gamma", self.gamma)):
            if value is not None:
                penalty(value, name, task)
        if self.layer_problems is not None:
            _check_layer_problems(self.layer_problems, task)
        if self.image_layer is not None and task.measurement.pixelwise:
            image_form(task, self)  # refuses an image_layer that does not apply


def _check_layer_problems(chosen: object, task: Task) -> None:
    if chosen is None:
        return
    if not isinstance(chosen, Mapping):
        raise TypeError(
            f"expected layer_problems as a mapping of layer index to a callable of its rows, got {describe(chosen)}; "
            "e.g. {1: lambda rows: cvxinv.NonnegativeLasso(rows, 0.1)}"
        )
    depth = task.generator.depth
    for index, make in chosen.items():
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < depth:
            raise ValueError(
                f"expected layer indices from 0 (the latent's) to {depth - 1} (the image's) in layer_problems, got {index!r}"
            )
        if not callable(make):
            raise TypeError(
                f"expected layer_problems[{index}] as a callable that makes a layer problem of rows, got {describe(make)}; "
                "e.g. lambda rows: cvxinv.NonnegativeLasso(rows, 0.1)"
            )


@dataclass(frozen=True, eq=False)
class _Noise:
    """Noise of a layer's rows, `(N,)` each: its standard deviation in a row of weight 1, and its length over the rows'.

    stated: whether the task says that there is any, of whatever size.
    """

    sigma: Tensor
    relative: Tensor
    stated: bool


def _free(layers: tuple[Layer, ...], index: int) -> bool:
    """Whether the unknown of a layer has any sign."""
    return index == 0 or layers[index - 1].activation.leaks


def image_form(task: Task, settings: LayerOptions) -> str:
    """How the image layer is read: "direct", or one of `IMAGE_LAYERS`. Raises ValueError for a form that does not apply."""
    asked, layers = settings.image_layer, task.generator.layers
    phi = type(layers[-1].activation).__name__
    if not layers[-1].activation.curved:
        if asked is not None:
            raise ValueError(
                f"expected image_layer=None behind {phi}, got {asked!r}: the image layer is linear there; leave it out"
            )
        return "direct"
    if asked in (None, "preactivation"):
        return "preactivation" if asked or _free(layers, len(layers) - 1) else _default_form(task, settings)
    if _free(layers, len(layers) - 1):
        raise ValueError(
            f"expected image_layer='preactivation', got {asked!r}: it asks for h >= 0, and the unknown of the image layer "
            "has any sign here; leave it out"
        )
    return str(asked)


def _default_form(task: Task, settings: LayerOptions) -> str:
    # without noise the bounds keep what saturated pixels know, in noise they get the supports wrong
    last = task.generator.layers[-1]
    if not last.activation.saturates or task.noise is not None:
        return "preactivation"
    # a linear program beyond that size is for first-order methods, which take minutes per signal
    method = torch_solver(settings.solver)
    served = method is None or "interval" in method.forms
    return "interval" if served and last.W.n <= LARGEST_NEWTON else "preactivation"


def obstacle(task: Task, settings: LayerOptions | None = None) -> str | None:
    """Why the layered methods cannot be used on this task, or None. Says which layer and why."""
    settings = settings or LayerOptions()
    layers = task.generator.layers
    reason = unreadable(task)
    if reason is not None:
        return reason
    seen, chosen = _seen(task, settings), settings.layer_problems or {}
    for index in range(len(layers) - 1, -1, -1):
        n = layers[index].W.n
        free = _free(layers, index)
        # a ReLU leaves about half of its units at 0, and h >= 0 with k nonzeros needs more than k rows
        needed = n if free else (n + 1) // 2
        if seen < needed and index not in chosen:
            kind = "unknowns of any sign" if free else "nonnegative unknowns, about half of them nonzero"
            return f"layer {index} has {seen} seen rows for {n} {kind}: at least {needed} are needed"
        if n > LARGEST_LAYER and not settings.force:
            return f"layer {index} has {n} unknowns, {_by_products(layers[index].W)}"
        seen = n
    return None


def too_large(task: Task) -> bool:
    """Whether a layer has more unknowns than a dense solve takes."""
    return any(layer.W.n > LARGEST_LAYER for layer in task.generator.layers)


def _by_products(W: AbstractMap) -> str:
    """What a layer takes that is too large for a dense solve, in words."""
    dense, seconds = 8 * (W.n * W.n + W.m * W.n), 2 * _PRODUCTS * W.work / _SPEED
    return (
        f"more than the {LARGEST_LAYER} that a dense layer solve takes (its matrices would be {dense / 1e9:.2g} GB); by "
        f"products alone it may take {seconds:.2g} s per signal, which force=True allows (of hybrid, "
        "layers=LayerOptions(force=True))"
    )


def _seen(task: Task, settings: LayerOptions) -> int:
    """The most rows that the image layer of a signal has."""
    inner = before_output(task) if image_form(task, settings) == "preactivation" else None
    return int((inner or task).measurement.seen(task.N).sum(1).max())


def pursue(task: Task, settings: LayerOptions) -> tuple[Tensor, list[LayerReport]]:
    """Run the layers from the image to the latent; returns z `(N, n0)` and a report per layer, image layer first.

    A layer that is infeasible or unfinished hands on its best point, and so does one that sees too few rows of a signal:
    `check` and `plan_of` ask `obstacle` before, of all signals, as who is in a chunk must not decide whether it is refused.
    Raises ValueError for a problem of `layer_problems` that does not fit its layer.
    """
    layers, reports = task.generator.layers, list[LayerReport]()
    if settings.lam is not None or settings.gamma is not None:
        settings = replace(settings, lam=penalty(settings.lam, "lam", task), gamma=penalty(settings.gamma, "gamma", task))
    problem, remark, rows, noise = _image_problem(task, settings)
    if len(layers) == 1:
        problem, remark = _knowing(task, rows, noise, problem, remark)
    for index in range(len(layers) - 1, -1, -1):
        solution = solve(problem, settings.solver, tol=settings.tol, on_fail="ignore", force=settings.force)
        below, threshold, noise = _handed_down(layers, index, rows, solution, noise, settings)
        reports.append(LayerReport.of(index, problem, solution, threshold, remark))
        task.progress.reach((len(layers) - index) / (len(layers) + 1))
        if below is not None:
            rows = below
            problem, remark = _problem(rows, layers, index - 1, noise, settings)
            if index == 1:
                problem, remark = _knowing(task, rows, noise, problem, remark)
    return solution.h if task.prior is None else task.prior.project(solution.h), reports


def _knowing(
    task: Task, rows: Rows, noise: _Noise, problem: AbstractLayerProblem, remark: str
) -> tuple[AbstractLayerProblem, str]:
    """The latent's problem with what is known of z, where that can be written as rows and the problem is not the user's."""
    if task.prior is None or remark == GIVEN:
        return problem, remark
    known = known_latent(rows, noise.sigma, task.prior)
    return (problem, remark) if known is None else (known, f"with {task.prior!r} as rows")


def _handed_down(
    layers: tuple[Layer, ...], index: int, rows: Rows, solution: Solution, noise: _Noise, settings: LayerOptions
) -> tuple[Rows | None, Tensor, _Noise]:
    """Rows of the layer below layer `index`, None below the last; the threshold for its on rows; and their noise."""
    threshold = support_threshold(solution, settings)
    if index == 0:
        return None, threshold, noise
    phi, (W, b), h = layers[index - 1].activation, (layers[index - 1].W, layers[index - 1].b), solution.h
    if not noise.stated or phi.leaks or settings.support_threshold is not None:
        below = _movable(Rows(W, b, *rows_behind(phi, h, threshold)))
        if not noise.stated:
            return below, threshold, noise
        count = below.on.sum(1).clamp(min=1).to(h)
        return below, threshold, replace(noise, sigma=noise.relative * below.scale() / count.sqrt())
    there = (noise.sigma > 0).nonzero()[:, 0]
    known, sigma = rows_behind(phi, h.clone(), threshold), torch.zeros_like(noise.sigma)
    least, threshold = threshold / 8, threshold[:, None].repeat(1, h.shape[1])
    if len(there):
        lam = _weight_of(solution.problem)[there]
        found = weigh_evidence(rows.take(there), h[there], lam, noise.sigma[there], least[there], index == len(layers) - 1)
        threshold[there] = found.threshold
        for whole, part in zip((*known, sigma), rows_from(found), strict=True):
            whole[there] = part
    return _movable(Rows(W, b, *known)), threshold, replace(noise, sigma=sigma)


def _weight_of(problem: AbstractLayerProblem | None) -> Tensor:
    """The l1 weight of a squared misfit, `(N,)`; 0 in other problems."""
    assert problem is not None
    lam = problem.lam if isinstance(problem, NonnegativeLasso) else 0.0
    return torch.as_tensor(lam).to(problem.rows.y).expand(problem.N)


def _image_problem(task: Task, settings: LayerOptions) -> tuple[AbstractLayerProblem, str, Rows, _Noise]:
    """The problem of the image layer, what is to be said of it, its rows as they are read, and their noise."""
    layers, (W, b), form = task.generator.layers, image_map(task), image_form(task, settings)
    index, phi = len(layers) - 1, type(task.generator.output).__name__
    rows = _movable(Rows(W, b, *image_rows(task)))
    noise = _image_noise(task, rows)
    if form == "direct":
        return *_problem(rows, layers, index, noise, settings), rows, noise
    if index in (settings.layer_problems or {}):
        return *_problem(_output_rows(task, W, b), layers, index, noise, settings), rows, noise
    if form == "preactivation":
        problem, remark = _problem(rows, layers, index, noise, settings)
        left_out = int((task.measurement.seen(task.N).to(rows.on.device) & ~rows.on).sum())
        words = f"on the signal before its {phi}, weighed by its slope; {left_out} entries too flat for that left out"
        return problem, "; ".join(filter(None, (words, remark))), rows, noise
    seen = _output_rows(task, W, b)
    if form == "interval":
        problem = IntervalBasisPursuit.behind(layers[-1].activation, W, b, task.y, _width(task), seen.on)
        return problem, f"each row W h + b within what its pixel behind {phi} allows", rows, noise
    lam = settings.lam if settings.lam is not None else _lam(rows, noise)
    return ActivatedLasso(seen, layers[-1].activation, lam), f"through the {phi}, not convex", rows, noise


def _movable(rows: Rows) -> Rows:
    """The rows without off rows that are 0 in W: a unit without weights is off or on whatever h is, and limits no h."""
    dead = rows.W.row_lengths() == 0
    return rows.derived(off=rows.off & ~dead) if bool(dead.any()) else rows


def _width(task: Task) -> Tensor:
    """How far a pixel may be from its true value, `(N,)`: the stated bound, or the rounding of the type y came in."""
    if task.noise is not None:
        return task.noise.bound if task.noise.norm != "gaussian" else _DEVIATIONS * task.noise.bound
    return task.y.abs().amax(1) * (0.0 if task.born == torch.float64 else torch.finfo(task.born).eps)


def _output_rows(task: Task, W: AbstractMap, b: Tensor) -> Rows:
    """Rows of the image layer with y in the output's units: what stands behind the activation is the problem's affair."""
    seen = task.measurement.seen(task.N).to(task.y.device)
    return Rows(W, b, task.y, seen, torch.zeros_like(seen))


def _image_noise(task: Task, rows: Rows) -> _Noise:
    """The noise of the image layer's rows; where they are weighed by a squared slope, it has the output's length there."""
    none = torch.zeros_like(task.size)
    if task.noise is None:
        return _Noise(none, none, stated=False)
    size = (rows.fit * rows.y**2).sum(1).sqrt()
    relative = torch.where(size > 0, task.noise.length(task.seen) / size.clamp(min=torch.finfo(size.dtype).tiny), none)
    # a signal of length 0 says nothing of a relative size; it is inverted as if it were exact
    return _Noise(torch.where(task.size > 0, task.noise.per_entry(task.seen), none), relative, stated=True)


def _problem(
    rows: Rows, layers: tuple[Layer, ...], index: int, noise: _Noise, settings: LayerOptions
) -> tuple[AbstractLayerProblem, str]:
    if index in (settings.layer_problems or {}):
        return _chosen_problem(rows, index, settings), GIVEN
    if index == 0:
        return latent_problem(rows, noise.sigma, settings.gamma)
    if layers[index - 1].activation.leaks:
        return GaussianLatent(rows, 0.0), "h of any sign (below it a LeakyReLU)"
    return NonnegativeLasso(rows, _lam(rows, noise) if settings.lam is None else settings.lam), ""


def _chosen_problem(rows: Rows, index: int, settings: LayerOptions) -> AbstractLayerProblem:
    """What `layer_problems` makes of the rows, checked."""
    assert settings.layer_problems is not None
    problem = settings.layer_problems[index](rows)
    if not isinstance(problem, AbstractLayerProblem):
        raise TypeError(
            f"expected a layer problem from layer_problems[{index}], got {describe(problem)}; "
            "return e.g. cvxinv.NonnegativeLasso(rows, 0.1)"
        )
    if (problem.N, problem.n) != (rows.N, rows.n):
        raise ValueError(
            f"expected layer_problems[{index}] to keep the layer's {rows.N} signals and {rows.n} unknowns, got "
            f"{problem.N} and {problem.n}; build it from the rows that it is given"
        )
    return problem


def _lam(rows: Rows, noise: _Noise) -> Tensor:
    """The level of what noise alone correlates with a column, over 8, `(N,)`."""
    if bool((rows.fit[rows.on] == 1).all()):
        column = rows.W.column_lengths().amax()
    elif rows.n > LARGEST_LAYER:  # no matrix is made of it: at most so long
        column = rows.fit.amax(1).sqrt() * rows.W.column_lengths().amax()
    else:
        column = (rows.fit @ rows.W.matrix().square()).amax(1).sqrt()
    return noise.sigma * column * (2 * log(max(rows.n, 2))) ** 0.5 / 8


def latent_problem(rows: Rows, sigma: Tensor, given: float | Tensor | None = None) -> tuple[AbstractLayerProblem, str]:
    """The latent's problem and a remark; sigma: the noise of a row, `(N,)`; given: its gamma, if asked for."""
    if given is not None:
        return GaussianLatent(rows, given), ""
    gamma = sigma**2
    H = rows.gram()
    values = torch.linalg.eigvalsh(H).expand(rows.N, -1)
    singular = (values[:, 0] <= 1e-13 * values[:, -1]) & (gamma == 0)
    if not singular.any():
        return GaussianLatent(rows, gamma), ""
    top = torch.where(values[:, -1] > 0, values[:, -1], torch.full_like(gamma, rows.W.norm() ** 2))
    remark = f"gamma = 1e-6 |W_on|^2 for {int(singular.sum())} signals whose W_on'W_on is singular"
    return GaussianLatent(rows, torch.where(singular, 1e-6 * top, gamma)), remark


def support_threshold(solution: Solution, settings: LayerOptions) -> Tensor:
    """Entries of h above this are no rounding, `(N,)`; without noise they count as on in the layer below."""
    top = solution.h.amax(1).clamp(min=0)
    if settings.support_threshold is not None:
        return settings.support_threshold * top
    exact = torch.from_numpy(solution.status == OPTIMAL) & solution.polished
    return torch.where(exact.to(top.device), torch.full_like(top, 1e-6), 1e-3) * top


def notes_of(task: Task, settings: LayerOptions) -> tuple[str, ...]:
    """What a layered start says of the way it read the output."""
    if task.generator.output.linear or task.generator.depth - 1 in (settings.layer_problems or {}):
        return ()
    phi = type(task.generator.output).__name__
    words = {
        "preactivation": f"layers solved on the signal before its {phi}, where that is well conditioned",
        "interval": f"image layer solved with bounds that each entry sets on the signal before its {phi}",
        "activated": f"image layer solved through its {phi}, which is not convex",
    }
    form = image_form(task, settings)
    return (words[form],) if form in words else ()


def supports(task: Task, reports: list[LayerReport]) -> list[Tensor]:
    """Support masks `(N, n_i)` of the hidden layers as the pursuit found them, first hidden layer first."""
    masks = []
    for report in reversed(reports[:-1]):
        phi = task.generator.layers[report.index - 1].activation
        masks.append(report.solution.h > 0 if phi.leaks else report.on)
    return masks
