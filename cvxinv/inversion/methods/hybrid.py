"""The methods that find z, and `hybrid`, which puts them together.

`hybrid`: layered start where the layers allow one, then Levenberg-Marquardt from it, then random starts, each the best of
a hundred latents, only for the signals that are not explained yet. A layered start is convex and needs no luck;
Levenberg-Marquardt repairs what a wrong support left; random starts are for what neither explains.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...lengths import lengths
from ..steps.minimax import flatten
from ..task import Task
from .gradient_descent import STEP_GRID, debias_by_gradient, descend_by_gradient
from .latent_pursuit import LayerReport, Settings, image_form, obstacle, pursue, supports
from .levenberg_marquardt import descend, descend_through

# the finish starts with so little damping that the first step is the least-squares solution of the piece
_FINISH_MU = 1e-13


@dataclass(eq=False)
class Found:
    """Latents of a chunk: z `(N, n0)`, what gave each, random starts spent, layer reports, notes, seconds."""

    z: Tensor
    used: list[str]
    starts: Tensor
    layers: list[LayerReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How a chunk is to be inverted.

    random: `(restarts, candidates, n0)` random latents, the same for every signal, so that a signal's answer does not
    depend on its neighbours; a start is the candidate with the smallest misfit. settle: further iterations for what is
    not explained. supports, form: of the oracle. cardinalities: of layered basis pursuit.
    """

    settings: Settings
    debias: str | None
    max_iter: int
    settle: int
    random: Tensor
    steps: tuple[float, ...] = STEP_GRID
    momentum: float = 0.9
    decay: float = 2.0
    tick: Callable[[], object] = lambda: None
    supports: tuple[Tensor, ...] = ()
    form: str = "joint"
    cardinalities: tuple[int | Tensor, ...] = ()


def run_latent_pursuit(task: Task, plan: Plan) -> Found:
    """The layered inversion, with the debiasing that was asked for."""
    z, reports = pursue(task, plan.settings)
    z = debiased(task, z, supports(task, reports), plan)
    return Found(z, ["layered"] * task.N, torch.zeros(task.N, dtype=torch.long), reports, notes_of(task, plan))


def debiased(task: Task, z: Tensor, masks: list[Tensor], plan: Plan) -> Tensor:
    """`z` after the plan's debiasing, where that lowers the misfit; masks: supports of the hidden layers `(N, n_i)`."""
    if plan.debias == "piece":
        return descend(task, z, max_iter=30, mu=_FINISH_MU).z  # accepts no step that raises the misfit
    if plan.debias is None:
        return z
    found = debias_by_gradient(task, z, masks, plan.max_iter)
    # debiasing may only help: the support it freezes can be wrong
    worse = ~(task.misfit(found) <= task.misfit(z))
    return torch.where(worse[:, None], z, found)


def run_levenberg_marquardt(task: Task, plan: Plan) -> Found:
    """Levenberg-Marquardt from random starts: the first for every signal, the others while it is not explained."""
    return _settle(task, plan, _random_starts(task, plan, _nothing(task), _by_newton))


def run_gradient_descent(task: Task, plan: Plan) -> Found:
    """Gradient descent from random starts, the papers' baseline."""
    return _random_starts(task, plan, _nothing(task), _by_gradient)


def run_hybrid(task: Task, plan: Plan) -> Found:
    """Layered start, Levenberg-Marquardt, then random starts for the signals that are not explained."""
    layered, note = _layered_start(task, plan)
    if layered is None:
        found = _settle(task, plan, _random_starts(task, plan, _nothing(task), _by_newton))
        found.notes.append(f"no layered start: {note}")
        return found
    # small damping first keeps what the layers found; a full run follows where that does not explain the signal
    z = descend(task, layered.z, 30, _FINISH_MU).z
    open_ = (~task.explained(z)).nonzero()[:, 0]
    if len(open_):
        again = descend_through(task.take(open_), layered.z[open_], plan.max_iter)
        better = again.misfit < task.take(open_).misfit(z[open_])
        z[open_[better]] = again.z[better]
    found = Found(z, ["layered"] * task.N, layered.starts, layered.layers)
    found.notes.extend(layered.notes)
    plan.tick()
    return _settle(task, plan, _random_starts(task, plan, found, _by_newton))


def _nothing(task: Task) -> Found:
    z = torch.zeros(task.N, task.generator.latent_dim, dtype=task.y.dtype, device=task.y.device)
    return Found(z, [""] * task.N, torch.zeros(task.N, dtype=torch.long))


def _layered_start(task: Task, plan: Plan) -> tuple[Found | None, str]:
    """The layered latents, read before a saturating output where there is one; or None and the reason."""
    reason = obstacle(task, plan.settings)
    if reason is not None:
        return None, reason
    z, reports = pursue(task, plan.settings)
    return Found(z, ["layered"] * task.N, torch.zeros(task.N, dtype=torch.long), reports, notes_of(task, plan)), ""


def notes_of(task: Task, plan: Plan) -> list[str]:
    """What a layered start says of the way it read the output."""
    if task.generator.depth - 1 in (plan.settings.layer_problems or {}):
        return []
    phi = type(task.generator.layers[-1].activation).__name__
    words = {
        "preactivation": f"layers solved on the signal before its {phi}, where that is well conditioned",
        "interval": f"image layer solved with bounds that each entry sets on the signal before its {phi}",
        "activated": f"image layer solved through its {phi}, which is not convex",
    }
    form = image_form(task, plan.settings)
    return [words[form]] if form in words else []


def _by_newton(task: Task, plan: Plan, z: Tensor) -> Tensor:
    return descend_through(task, z, plan.max_iter).z


def _by_gradient(task: Task, plan: Plan, z: Tensor) -> Tensor:
    return descend_by_gradient(task, z, plan.max_iter, plan.steps, plan.momentum, plan.decay, plan.tick).z


def _random_starts(task: Task, plan: Plan, found: Found, search: Callable[[Task, Plan, Tensor], Tensor]) -> Found:
    """Try the plan's random starts on the signals that are not explained; keep the best z of each."""
    best = torch.where(torch.tensor([u != "" for u in found.used], device=task.y.device), task.misfit(found.z), torch.inf)
    for number, start in enumerate(plan.random, 1):  # start: (candidates, n0)
        explained = task.explained(found.z) & torch.isfinite(best)
        open_ = (~explained & task.usable).nonzero()[:, 0]
        if len(open_) == 0:
            break
        part = task.take(open_)
        z = search(part, plan, _most_promising(part, start.to(task.y)))
        misfit = part.misfit(z)
        for k, i in enumerate(open_.tolist()):
            found.starts[i] += 1
            if float(misfit[k]) < float(best[i]):
                found.z[i], best[i], found.used[i] = z[k], misfit[k], f"random start {number}"
        plan.tick()
    return found


def _most_promising(task: Task, candidates: Tensor) -> Tensor:
    """The candidate `(K, n0)` with the smallest misfit for each signal, `(N, n0)`."""
    best = torch.full((task.N,), torch.inf, dtype=task.y.dtype, device=task.y.device)
    z = candidates[0].expand(task.N, -1).clone()
    for candidate, x in zip(candidates, task.generator(candidates), strict=True):
        misfit = lengths(task.residual(x.expand(task.N, -1)))
        better = misfit < best
        z[better], best[better] = candidate, misfit[better]
    return z


def _settle(task: Task, plan: Plan, found: Found) -> Found:
    """Go on from the best z of each signal that is not explained, to a local optimum (in the maximum norm, if that is
    what the noise is stated in)."""
    open_ = (~task.explained(found.z) & task.usable).nonzero()[:, 0]
    if len(open_) == 0 or plan.settle == 0:
        return found
    part = task.take(open_)
    found.z[open_] = descend(part, found.z[open_], plan.settle).z
    if task.noise is not None and task.noise.norm == "linf":
        found.z[open_] = flatten(part, found.z[open_])
    return found
