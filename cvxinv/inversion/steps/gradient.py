"""Gradient descent with momentum, with steps chosen per signal.

    minimise over z in C   1/2 |A G(z) - y|^2 + sigma^2 R(z)        v <- momentum v - step g,   z <- P_C(z + v)

R and C are the prior's (`priors`), and P_C the nearest point of C; v is what was gone where the point was moved. The step is
in units of 1 / sigma_max(J(z0))^2 per signal. A grid of steps is tried for a tenth of the budget and each signal goes on
with the one that got furthest; a step whose merit (`Task.merit`) has not fallen for 50 iterations is divided by `decay`.
Every signal keeps the best z it has seen, and stops where |v| <= tol |z|.

Source: Bora et al. (2017) for the objective; Aberdam, Simon, Elad (2020), section 6: 10,000 steps, momentum, decay.
"""

import torch
from torch import Tensor

from ..task import Task
from .newton import Descent, extreme_singular_values

STEP_GRID = (0.03, 0.1, 0.3, 1.0)
_PATIENCE = 50
_TOLD = 20  # iterations between two words to the bar


def gradient(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """Misfit `(N,)` and the gradient of 1/2 misfit^2 + sigma^2 R `(N, n0)`: one pass forward, one back."""
    x, piece = task.generator.piece(z)
    r = task.residual(x)
    back = piece.pull(task.measurement.at(x).adjoint(r)[:, None])[:, 0]
    return r.norm(dim=1), back + task.prior_gradient(z) if task.weighed else back


def descend_by_gradient(
    task: Task,
    z: Tensor,
    max_iter: int = 2000,
    steps: tuple[float, ...] = STEP_GRID,
    momentum: float = 0.9,
    decay: float = 2.0,
    tol: float = 0.0,
) -> Descent:
    """Gradient descent from `z` `(N, n0)`; see the module. `steps` in units of 1 / sigma_max(J(z))^2; tol 0: no stop."""
    z = z if task.prior is None else task.prior.project(z)
    unit = unit_step(task, z)
    pilot = max(1, max_iter // 10) if len(steps) > 1 else 0
    misfit = task.misfit(z)
    best = Descent(z.clone(), misfit, task.merit(z, misfit), torch.zeros_like(misfit, dtype=torch.long))
    chosen, reached = torch.full_like(misfit, steps[0]), torch.full_like(misfit, torch.inf)
    for step in steps if pilot else ():
        trial = _run(task, z, step * unit, pilot, momentum, decay)
        better = trial.merit < reached
        chosen[better], reached[better] = step, trial.merit[better]
    final = _run(task, z, chosen * unit, max_iter, momentum, decay, tol)
    better = final.merit < best.merit
    best.put(better, final.take(better))
    best.steps[:] = final.steps + pilot * len(steps)
    return best


def unit_step(task: Task, z: Tensor) -> Tensor:
    """1 / (sigma_max(J(z))^2 + sigma^2 |R''|) per signal, `(N,)`, from at most 8 signals at a time."""
    tops = []
    for block in torch.arange(task.N, device=z.device).split(8):
        part = task.take(block)
        _, J = part.linearize(z[block])
        tops.append(torch.hypot(extreme_singular_values(J)[1], _prior_root(part, z[block])))
    top = torch.cat(tops)
    floor = top.median().clamp(min=torch.finfo(z.dtype).tiny)
    return 1 / torch.maximum(top, 1e-3 * floor) ** 2


def _prior_root(task: Task, z: Tensor) -> Tensor:
    """Square root of the prior's largest curvature in the objective, `(N,)`, signal / latent units."""
    if task.prior is None or not task.prior.weighed or task.noise is None:
        return torch.zeros_like(task.size)
    top = torch.linalg.eigvalsh(task.prior.curvature(z))[..., -1].clamp(min=0)
    return task.noise.bound * top.sqrt()


def _run(task: Task, z: Tensor, step: Tensor, count: int, momentum: float, decay: float, tol: float = 0.0) -> Descent:
    z, v, step = z.clone(), torch.zeros_like(z), step.clone()
    worst = torch.full_like(step, torch.inf)
    best = Descent(z.clone(), worst, worst.clone(), torch.zeros(task.N, dtype=torch.long, device=z.device))
    going = torch.ones_like(step, dtype=torch.bool)
    stale = torch.zeros_like(step)
    for k in range(count):
        if task.progress.deadline is not None and task.progress.late():
            break
        task.step(going if tol else None)
        best.steps.add_(going)
        misfit, g = gradient(task, z)
        merit = task.merit(z, misfit)
        better = merit < best.merit
        best = _better(better, z, misfit, merit, best)
        stale = torch.where(better, torch.zeros_like(stale), stale + 1)
        stuck = (stale >= _PATIENCE) | ~torch.isfinite(merit)
        step, stale = torch.where(stuck, step / decay, step), torch.where(stuck, torch.zeros_like(stale), stale)
        z, v = torch.where(stuck[:, None], best.z, z), torch.where(stuck[:, None], torch.zeros_like(v), v)
        v = momentum * v - step[:, None] * torch.where(stuck[:, None], torch.zeros_like(g), g)
        if task.prior is not None:
            v = task.prior.project(z + v) - z
        if tol:
            going &= stuck | (v.norm(dim=1) > tol * z.norm(dim=1))
            if not going.any():
                break
            v = torch.where(going[:, None], v, torch.zeros_like(v))
        z = z + v
        if k % _TOLD == 0:
            task.progress.reach(k / count)
    return best


def _better(better: Tensor, z: Tensor, misfit: Tensor, merit: Tensor, best: Descent) -> Descent:
    """The best so far, or, where `better`, what was just found."""
    return Descent(
        torch.where(better[:, None], z, best.z), torch.where(better, misfit, best.misfit),
        torch.where(better, merit, best.merit), best.steps,
    )  # fmt: skip
