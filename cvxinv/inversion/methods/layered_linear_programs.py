"""`layered_linear_programs`: one layer at a time, each a linear program of its rows; Lei, Jalal, Dhillon and Dimakis.

With x the output of a layer, h its unknown (>= 0 behind a ReLU, the latent of any sign) and a threshold eps,

    linf    min delta     with  |W h + b - x|_i <= delta  where x_i > eps,   (W h + b)_i <= x_i + delta  elsewhere
    l1      min sum_i e_i with  |W h + b - x|_i <= e_i    where x_i > eps,   (W h + b)_i <= x_i + e_i    elsewhere

    relaxed max sum x_i (W h + b)_i over x_i >= 2 eps   with  (W h + b)_i <= max(0, x_i + eps)  for every i

from the image to the latent; h is the x of the layer below. Behind an identity all rows are of the first kind. Behind a
LeakyReLU(a) so they are too, with x_i / a and delta / a where x_i < 0; rows within eps of the kink read |W h + b - x'|_i <=
delta / a, x' = x_i or x_i / a, which allows what the kink does. Other outputs with an inverse are read before it
(`steps/reading`), to first order; relaxed reads none, and its rows behind other layers are those of `steps/relaxed`.

linf asks for delta <= eps: where the program's optimum, which its certificate proves, is larger, eps grows by `growth`
until it is not, or `rounds` are over. Between two values of eps that read the same rows the optimum is the same, so those
are passed over and no program is solved twice. l1 is never infeasible; its sum may be that of a few entries far off, so that
eps grows where the misfit that most rows that are on stay below is larger, half of them of the image, where entries may be
far off, nine tenths in other layers: what is smaller than that is read as 0. relaxed guesses no unit to be on
or off, so that without biases h = 0 is always feasible; there eps grows while the layer's misfit |phi(W h + b) - x|_1
falls, and the h of the least is kept. Where a bias leaves no h, eps grows by growth^8. eps is handed to the layer below, in
units of the largest entry. Without noise it begins at 1e-9 of that; with an linf bound at the bound; l2 bounds begin at
their share of one entry, gaussian noise at sigma (2 log m)^(1/2), what the largest of m draws is like. Under an l1 bound,
where few entries are off by much, l1 begins as without noise.

Exact on random ReLU nets whose layers have more than about twice as many rows as unknowns that are on; fewer positive rows
than unknowns leave h open, and then z is wrong by any amount: the report's remark counts such signals.

Source: Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019), Algorithms 1 and 2 and
their published code; Algorithm 2 as recalled. Changed: relaxed's misfit is that of x, where the code's is of the truth;
biases, masks, identity and invertible outputs, eps in units of a layer, the cap on delta as a comparison, one threshold
rule at the kink of a LeakyReLU.
"""

import math
import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ...batch import per_signal as one_each
from ...generator.activations import AbstractActivation
from ...generator.maps import AbstractMap
from ...layers.core.certificate import INFEASIBLE, certify
from ...layers.core.problem import AbstractLayerProblem
from ...layers.core.rows import Rows
from ...layers.l1_fit import L1Fit, NonnegativeL1Fit
from ...layers.linf_fit import LinfFit, NonnegativeLinfFit
from ...layers.relaxed_fit import NonnegativeRelaxedFit, RelaxedFit
from ...solvers.answer import Answer
from ...solvers.openings import Step, summary
from ...solvers.solve import Solution, check_choice, check_solver, solve
from ...solvers.solver import AbstractSolver
from ..answer import Latents, LayerReport
from ..method import AbstractMethod
from ..options import penalty, positive, tidy, within
from ..steps.debias import DEBIAS, MOST_ITERATIONS, check_debias, debiased
from ..steps.idle import refuse_idle_force, refuse_idle_steps
from ..steps.pursuit import LayerOptions, obstacle
from ..steps.reading import image_map, image_rows, leaky, refuse_unlayered
from ..steps.relaxed import relaxed_rows
from ..steps.starts import Starts
from ..task import Task

PROGRAMS: dict[str, tuple[type[AbstractLayerProblem], type[AbstractLayerProblem]]] = {
    "linf": (LinfFit, NonnegativeLinfFit),
    "l1": (L1Fit, NonnegativeL1Fit),
    "relaxed": (RelaxedFit, NonnegativeRelaxedFit),
}
_CLEAN, _ROUNDINGS = 1e-9, 16  # of the largest entry, and of that in roundings of the type y came in: eps without noise
_LITTLE = 1e-2  # share of eps by which an h may break the limits of a relaxed program
_USUAL = 0.9  # of the entries of an h that programs gave: few of these are far off
_MET = 1e-6  # share of eps by which an optimum may exceed it: the judge's own tolerance


@dataclass(frozen=True, eq=False, kw_only=True)
class LayeredLinearPrograms(AbstractMethod):
    """Algorithms 1 and 2 with the debiasing that was asked for.

    norm: "linf", "l1" or "relaxed"; None for l1 under an l1 bound, else linf. eps: the first threshold, signal units, one
    number or `(N,)`; None for that of the noise. growth: > 1, the factor of eps where it is too small; rounds: how often, at
    most. solver, tol, force: see `solve`. debias: "piece", "gradient" or None. max_iter: steps of it at most.
    """

    name: ClassVar[str] = "layered_linear_programs"

    norm: str | None = None
    eps: float | Tensor | None = one_each(ndim=1, default=None)
    growth: float = 1.2
    rounds: int = 200
    solver: str | AbstractSolver = "auto"
    tol: float = 1e-6
    force: bool = False
    debias: str | None = DEBIAS[0]
    max_iter: int = MOST_ITERATIONS

    def __post_init__(self) -> None:
        tidy(self)
        if self.norm is not None:
            check_choice(self.norm, tuple(PROGRAMS), "norm")
        within(self.growth, "growth", 1.0 + 1e-3, 1e3)
        within(self.tol, "tol", 0, 1)
        positive(self.rounds, "rounds", 0)
        check_solver(self.solver)
        check_debias(self.debias)
        positive(self.max_iter, "max_iter")
        refuse_idle_steps(self.max_iter, self.debias)

    def check(self, task: Task) -> None:
        refuse_unlayered(self.name, task)
        penalty(self.eps, "eps", task)
        reason = obstacle(task, _read_as(task, self.force))
        if reason is not None:
            raise ValueError(
                f"layered_linear_programs cannot invert this: {reason}. Use method='hybrid' or 'levenberg_marquardt'"
            )
        refuse_idle_force(self.force, self.solver, task)
        if self.norm == "relaxed" and (task.generator.output.curved or not task.measurement.pixelwise):
            raise ValueError(
                "expected pixels behind an identity, ReLU or LeakyReLU for norm='relaxed', got a "
                f"{type(task.generator.output).__name__} output seen by {task.measurement.name}; use norm='linf'"
            )

    def _norm(self, task: Task) -> str:
        return self.norm or ("l1" if task.absolute else "linf")

    def run(self, task: Task, starts: Starts) -> Latents:
        z, reports = _down(task, self)
        masks = [report.on for report in reversed(reports[:-1])]
        z = debiased(task, z, masks, self.debias, self.max_iter)
        return Latents(z, ("layered",) * task.N, layers=tuple(reports))


def _read_as(task: Task, force: bool) -> LayerOptions:
    curved = task.generator.output.curved
    return LayerOptions(force=force, image_layer="preactivation" if curved else None)


# --- all layers -----------------------------------------------------------------------------------


class _Output(NamedTuple):
    """What a layer is known to give: its map and bias, phi, x `(N, m)`, and which entries were seen, bool `(N, m)`.

    usual: the share of its entries that noise moves alike, the others may be far off.
    """

    W: AbstractMap
    b: Tensor
    phi: AbstractActivation
    x: Tensor
    seen: Tensor
    usual: float = 0.5

    def take(self, index: Tensor) -> "_Output":
        """The signals at `index`, positions."""
        b = self.b if self.b.ndim == 1 else self.b[index]
        return self._replace(b=b, x=self.x[index], seen=self.seen[index])

    def relaxed(self, eps: Tensor) -> Rows:
        """The rows of the relaxed program at eps `(N,)`."""
        return relaxed_rows(self.W, self.b, self.phi, self.x, self.seen, eps)

    def misfit(self, h: Tensor) -> Tensor:
        """|phi(W h + b) - x|_1 over what was seen, `(N,)`."""
        return torch.where(self.seen, (self.phi(self.W(h) + self.b) - self.x).abs(), 0.0).sum(1)


def _down(task: Task, method: LayeredLinearPrograms) -> tuple[Tensor, list[LayerReport]]:
    """z `(N, n0)` and a report per layer, image layer first."""
    layers, reports = task.generator.layers, list[LayerReport]()
    norm = method._norm(task)
    W, b = image_map(task)
    given: _Output | Rows = _Output(W, b, task.generator.output, task.y, task.measurement.seen(task.N).to(task.y.device))
    if task.generator.output.curved or not task.measurement.pixelwise:
        y, on, off, weight = image_rows(task)
        given = Rows(W, b, y, on, off, weight)
    eps, size = _first_eps(task, method, norm), task.y.abs().amax(1)
    for index in range(len(layers) - 1, -1, -1):
        kind = PROGRAMS[norm][index > 0 and layers[index - 1].activation.cuts]
        solve_layer = _relaxed_layer if norm == "relaxed" else _layer
        solution, eps, remark = solve_layer(given, kind, eps, method, task)  # type: ignore[arg-type]
        reports.append(LayerReport.of(index, solution.problem, solution, eps, remark))  # type: ignore[arg-type]
        task.progress.reach((len(layers) - index) / (len(layers) + 1))
        h, before = solution.h, size
        size = h.abs().amax(1)
        eps = eps * torch.where(before > 0, size / before.clamp(min=torch.finfo(size.dtype).tiny), torch.ones_like(size))
        if index > 0:
            below = layers[index - 1]
            given = _Output(below.W, below.b, below.activation, h, torch.ones_like(h, dtype=torch.bool), _USUAL)
    return solution.h, reports


def _first_eps(task: Task, method: LayeredLinearPrograms, norm: str) -> Tensor:
    """The threshold of the image layer, `(N,)`, signal units."""
    given, noise = penalty(method.eps, "eps", task), task.noise
    if given is not None:
        return torch.as_tensor(given).to(task.y).expand(task.N)
    clean = max(_CLEAN, _ROUNDINGS * torch.finfo(task.born).eps) * task.y.abs().amax(1)
    if noise is None or (task.absolute and norm == "l1"):
        return clean
    factor = math.sqrt(2 * math.log(max(task.measurement.length, 2))) if noise.norm == "gaussian" else 1.0
    # a level that is not estimated yet is none
    return torch.maximum((factor * noise.per_entry(task.seen)).nan_to_num(nan=0.0), clean)


# --- one layer ------------------------------------------------------------------------------------


def _layer(
    given: _Output | Rows, kind: type[AbstractLayerProblem], eps: Tensor, method: LayeredLinearPrograms, task: Task
) -> tuple[Solution, Tensor, str]:
    """The program of one layer with the first eps `(N,)` that it meets, that eps, and what is to be said."""
    started, steps, capped = time.perf_counter(), list[Step](), kind in PROGRAMS["linf"]
    problem = kind(_rows(given, eps))  # type: ignore[call-arg]
    found = Answer.none(problem.rows.y, problem.rows.n)
    best, left, first = torch.full_like(eps, torch.inf), torch.arange(len(eps), device=eps.device), eps
    for count in range(method.rounds + 1):
        part = problem.take(left)
        got = _solved(part, method)
        steps.extend(got.steps)
        found.put(left, got)
        best[left] = got.certificate.objective.to(best) if capped else _usual_misfit(given, part, got.h)
        over = best[left] > eps[left] * (1 + _MET)
        left = left[over]
        if isinstance(given, Rows) or len(left) == 0 or count == method.rounds or task.progress.late():
            break
        eps = eps.clone()
        eps[left] = _next_eps(given, eps, best, method.growth)[left]
        problem = kind(_rows(given, eps))  # type: ignore[call-arg]
    return _judged(problem, found, steps, started, method.tol), eps, _remark(problem, eps, first, left)


def _usual_misfit(given: _Output | Rows, problem: AbstractLayerProblem, h: Tensor) -> Tensor:
    """The quantile `usual` of |W h + b - x| over the rows that are on, in units of x, `(N,)`; 0 where none is."""
    rows, usual = problem.rows, given.usual if isinstance(given, _Output) else 0.5
    r = torch.where(rows.on, rows.weight.sqrt() * (rows.W(h) + rows.b - rows.y).abs(), torch.nan)
    return r.nanquantile(usual, dim=1).nan_to_num(nan=0.0)


def _solved(problem: AbstractLayerProblem, method: LayeredLinearPrograms) -> Solution:
    return solve(problem, method.solver, tol=method.tol, on_fail="ignore", force=method.force, progress=False)


def _judged(problem: AbstractLayerProblem, found: Answer, steps: list[Step], started: float, tol: float) -> Solution:
    """What was found of a layer, judged in its last program."""
    certificate = certify(problem, found.point, tol=tol)
    solved_by = [who for who, held in zip(found.solver, certificate.holds.tolist(), strict=True) if held]
    told, seconds = tuple(summary(steps, solved_by)), time.perf_counter() - started
    return Solution.of(found, certificate, seconds=seconds, steps=told, problem=problem)


def _relaxed_layer(
    given: _Output, kind: type[AbstractLayerProblem], eps: Tensor, method: LayeredLinearPrograms, task: Task
) -> tuple[Solution, Tensor, str]:
    """The relaxed program of one layer at the eps `(N,)` where its misfit stops falling, that eps, what is to be said."""
    started, steps = time.perf_counter(), list[Step]()
    trial, kept, least = eps.clone(), eps.clone(), torch.full_like(eps, torch.inf)
    problem = kind(given.relaxed(trial))  # type: ignore[call-arg]
    found, left = Answer.none(problem.rows.y, problem.n), torch.arange(len(eps), device=eps.device)
    for count in range(method.rounds + 1):
        part = kind(given.take(left).relaxed(trial[left]))  # type: ignore[call-arg]
        got = _solved(part, method)
        steps.extend(got.steps)
        none = _breaks(got, trial[left])
        error = torch.where(none, torch.inf, given.take(left).misfit(got.h))
        better = (error < least[left]) | (torch.isinf(least[left]) & none) | (count == 0)
        found.put(left[better], got.take(better))
        least[left[better]], kept[left[better]] = error[better], trial[left[better]]
        better = better & (trial[left] > 0)
        left, none = left[better], none[better]
        if len(left) == 0 or task.progress.late():
            break
        trial[left] = trial[left] * torch.where(none, method.growth**8, method.growth)
    problem = kind(given.relaxed(kept))  # type: ignore[call-arg]
    return (
        _judged(problem, found, steps, started, method.tol),
        kept,
        _remark(problem, kept, eps, torch.isinf(least).nonzero(), "biases leave no h"),
    )


def _breaks(got: Solution, eps: Tensor) -> Tensor:
    """Signals without an h, or with one that breaks its limits by more than a share of eps `(N,)`, bool `(N,)`."""
    told = got.certificate
    broken = told.violation > torch.maximum(_LITTLE * eps.to(told.violation), _CLEAN / 10 * told.scale)
    return (broken | torch.as_tensor(got.status == INFEASIBLE)).to(eps.device)


def _remark(
    problem: AbstractLayerProblem, eps: Tensor, first: Tensor, over: Tensor, why: str = "eps is below the optimum"
) -> str:
    grown, few = int((eps > first).sum()), int((problem.rows.on.sum(1) < problem.n).sum())
    words = [f"eps grew in {grown} signals"] if grown else []
    words += [f"{why} in {len(over)} signals"] if len(over) else []
    words += [f"fewer rows on than the {problem.n} unknowns in {few} signals"] if few else []
    return "; ".join(words)


def _next_eps(given: _Output, eps: Tensor, optimum: Tensor, growth: float) -> Tensor:
    """The first eps growth^k, k >= 1, that reaches the optimum or reads other rows, `(N,)` each."""
    x, e = given.x.abs() if given.phi.leaks else given.x, eps[:, None]
    if given.phi.linear:
        change = torch.full_like(eps, torch.inf)
    else:
        change = torch.where(given.seen & (x > e), x, torch.inf).amin(1)
    goal = torch.minimum(change, optimum / (1 + _MET)).clamp(min=torch.finfo(eps.dtype).tiny)
    k = (torch.log(goal / eps.clamp(min=torch.finfo(eps.dtype).tiny)) / math.log(growth)).ceil().clamp(min=1)
    return torch.where(eps > 0, eps * growth**k, goal)


def _rows(given: _Output | Rows, eps: Tensor) -> Rows:
    """Rows of the module for a threshold `(N,)`; rows that no h moves bind none."""
    if isinstance(given, Rows):
        return given
    W, b, phi, x, seen, _ = given
    none, ones = torch.zeros_like(seen), torch.ones_like(x)
    if phi.linear:
        return Rows(W, b, x, seen, none, ones)
    if phi.leaks:
        y, on, off, weight = leaky(phi, x, seen)
        assert phi.slopes is not None
        near = x.abs() <= eps[:, None]
        return Rows(W, b, y, on, off, torch.where(near, torch.full_like(weight, phi.slopes[0] ** 2), weight))
    on = seen & (x > eps[:, None])
    off = seen & ~on & (W.row_lengths() > 0)
    return Rows(W, torch.where(off, b - x, b.expand_as(x)), x, on, off, ones)
