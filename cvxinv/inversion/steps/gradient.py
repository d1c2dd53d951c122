"""Gradient descent with momentum, with steps chosen per signal.

    minimise over z   1/2 |A G(z) - y|^2        v <- momentum v - step g,   z <- z + v

The step is in units of 1 / sigma_max(J(z0))^2 per signal. A grid of steps is tried for a tenth of the budget and each signal
goes on with the one that got furthest; a step whose misfit has not fallen for 50 iterations is divided by `decay`. Every
signal keeps the best z it has seen.

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
    """Misfit `(N,)` and the gradient of its half square `(N, n0)`: one pass forward, one back."""
    layers, h, slopes = task.generator.layers, z, []
    for layer in layers:
        u = layer.W(h) + layer.b
        h = layer.activation(u)
        slopes.append(layer.activation.derivative(u))
    r = task.residual(h)
    back = task.measurement.adjoint(r)
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        back = layer.W.adjoint(back * slope)
    return r.norm(dim=1), back


def descend_by_gradient(
    task: Task,
    z: Tensor,
    max_iter: int = 2000,
    steps: tuple[float, ...] = STEP_GRID,
    momentum: float = 0.9,
    decay: float = 2.0,
) -> Descent:
    """Gradient descent from `z` `(N, n0)`; see the module. `steps` in units of 1 / sigma_max(J(z))^2."""
    unit = _unit_step(task, z)
    pilot = max(1, max_iter // 10) if len(steps) > 1 else 0
    best_z, best = z.clone(), task.misfit(z)
    chosen, reached = torch.full_like(best, steps[0]), torch.full_like(best, torch.inf)
    for step in steps if pilot else ():
        trial = _run(task, z, step * unit, pilot, momentum, decay)
        better = trial.misfit < reached
        chosen[better], reached[better] = step, trial.misfit[better]
    final = _run(task, z, chosen * unit, max_iter, momentum, decay)
    better = final.misfit < best
    best_z[better], best[better] = final.z[better], final.misfit[better]
    return Descent(best_z, best, torch.full((task.N,), max_iter + pilot * len(steps), device=z.device))


def _unit_step(task: Task, z: Tensor) -> Tensor:
    """1 / sigma_max(J(z))^2 per signal, `(N,)`, from at most 8 signals at a time."""
    tops = []
    for block in torch.arange(task.N, device=z.device).split(8):
        _, J = task.take(block).linearize(z[block])
        tops.append(extreme_singular_values(J)[1])
    top = torch.cat(tops)
    floor = top.median().clamp(min=torch.finfo(z.dtype).tiny)
    return 1 / torch.maximum(top, 1e-3 * floor) ** 2


def _run(task: Task, z: Tensor, step: Tensor, count: int, momentum: float, decay: float) -> Descent:
    z, v, step = z.clone(), torch.zeros_like(z), step.clone()
    best_z, best = z.clone(), torch.full_like(step, torch.inf)
    stale = torch.zeros_like(step)
    for k in range(count):
        misfit, g = gradient(task, z)
        better = misfit < best
        best_z, best = torch.where(better[:, None], z, best_z), torch.where(better, misfit, best)
        stale = torch.where(better, torch.zeros_like(stale), stale + 1)
        stuck = (stale >= _PATIENCE) | ~torch.isfinite(misfit)
        step, stale = torch.where(stuck, step / decay, step), torch.where(stuck, torch.zeros_like(stale), stale)
        z, v = torch.where(stuck[:, None], best_z, z), torch.where(stuck[:, None], torch.zeros_like(v), v)
        v = momentum * v - step[:, None] * torch.where(stuck[:, None], torch.zeros_like(g), g)
        z = z + v
        if k % _TOLD == 0:
            task.progress.reach(k / count)
    return Descent(best_z, best, torch.full((task.N,), count, device=z.device))
