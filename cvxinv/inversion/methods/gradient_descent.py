"""Gradient descent with momentum: the papers' baseline, fairly tuned, and their gradient form of debiasing.

    minimise over z   1/2 |A G(z) - y|^2        v <- momentum v - step g,   z <- z + v

The step is in units of 1 / sigma_max(J(z0))^2 per signal. A grid of steps is tried for a tenth of the budget and each signal
goes on with the one that got furthest; a step whose misfit has not fallen for 50 iterations is divided by `decay`. Every
signal keeps the best z it has seen; the best of `restarts` random starts wins.

Source: Bora et al. (2017) for the objective; Aberdam, Simon, Elad (2020), section 6: 10,000 steps, momentum, decay.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...generator.activations import LeakyReLU
from ..task import Task
from ..verify import extreme_singular_values
from .levenberg_marquardt import Descent

STEP_GRID = (0.03, 0.1, 0.3, 1.0)
_PATIENCE = 50


def gradient(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """Misfit `(N,)` and the gradient of its half square `(N, n0)`: one pass forward, one back."""
    layers, h, slopes = task.generator.layers, z, []
    for layer in layers:
        u = layer.W(h) + layer.b
        h = layer.activation(u)
        slopes.append(layer.activation.derivative(u))
    r = task.residual(h)
    back = _adjoint(task, r)
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        back = layer.W.adjoint(back * slope)
    return r.norm(dim=1), back


def _adjoint(task: Task, r: Tensor) -> Tensor:
    A = getattr(task.measurement, "A", None)
    return r if A is None else r @ A


def descend_by_gradient(
    task: Task,
    z: Tensor,
    max_iter: int = 2000,
    steps: tuple[float, ...] = STEP_GRID,
    momentum: float = 0.9,
    decay: float = 2.0,
    tick: Callable[[], object] = lambda: None,
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
    final = _run(task, z, chosen * unit, max_iter, momentum, decay, tick)
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


def _run(
    task: Task,
    z: Tensor,
    step: Tensor,
    count: int,
    momentum: float,
    decay: float,
    tick: Callable[[], object] = lambda: None,
) -> Descent:
    z, v, step = z.clone(), torch.zeros_like(z), step.clone()
    best_z, best = z.clone(), torch.full_like(step, torch.inf)
    stale = torch.zeros_like(step)
    for _ in range(count):
        misfit, g = gradient(task, z)
        better = misfit < best
        best_z, best = torch.where(better[:, None], z, best_z), torch.where(better, misfit, best)
        stale = torch.where(better, torch.zeros_like(stale), stale + 1)
        stuck = (stale >= _PATIENCE) | ~torch.isfinite(misfit)
        step, stale = torch.where(stuck, step / decay, step), torch.where(stuck, torch.zeros_like(stale), stale)
        z, v = torch.where(stuck[:, None], best_z, z), torch.where(stuck[:, None], torch.zeros_like(v), v)
        v = momentum * v - step[:, None] * torch.where(stuck[:, None], torch.zeros_like(g), g)
        z = z + v
        tick()
    return Descent(best_z, best, torch.full((task.N,), count, device=z.device))


def debias_by_gradient(task: Task, z: Tensor, masks: list[Tensor], max_iter: int = 2000) -> Tensor:
    """The papers' debiasing: freeze the supports and descend on 1/2 |y - A phi(W_L D_L ... D_1 (W_0 z + b_0))|^2.

    masks: supports of the hidden layers `(N, n_i)`, first hidden layer first. Accelerated gradient steps of length
    1 / sigma_max^2 of the frozen map. Source: Aberdam, Simon, Elad (2020), Algorithm 5, last step.
    """
    frozen = _Frozen(task, masks)
    J = frozen.jacobian()
    step = 1 / extreme_singular_values(J)[1].clamp(min=torch.finfo(z.dtype).tiny) ** 2
    ahead, t = z, 1.0
    for _ in range(max_iter):
        new = ahead - step[:, None] * frozen.gradient(ahead)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead, z, t = new + (t - 1) / t_new * (new - z), new, t_new
    return z


class _Frozen:
    """A generator whose hidden activation pattern is held fixed per signal: affine up to the output activation."""

    def __init__(self, task: Task, masks: list[Tensor]):
        self.task, layers = task, task.generator.layers
        self.slopes = []
        for layer, mask in zip(layers[:-1], masks, strict=True):
            low = layer.activation.slope if isinstance(layer.activation, LeakyReLU) else 0.0
            ones = torch.ones(mask.shape, dtype=task.y.dtype, device=task.y.device)
            self.slopes.append(torch.where(mask, ones, low * ones))

    def _before_output(self, z: Tensor) -> Tensor:
        h = z
        for layer, slope in zip(self.task.generator.layers[:-1], self.slopes, strict=True):
            h = slope * (layer.W(h) + layer.b)
        last = self.task.generator.layers[-1]
        return last.W(h) + last.b

    def gradient(self, z: Tensor) -> Tensor:
        layers = self.task.generator.layers
        u, phi = self._before_output(z), layers[-1].activation
        back = _adjoint(self.task, self.task.residual(phi(u))) * phi.derivative(u)
        back = layers[-1].W.adjoint(back)
        for layer, slope in zip(reversed(layers[:-1]), reversed(self.slopes), strict=True):
            back = layer.W.adjoint(back * slope)
        return back

    def jacobian(self) -> Tensor:
        """Jacobian of what is seen before the output activation, `(N, k, n0)`; output slopes are at most 1."""
        N, n0 = self.task.N, self.task.generator.latent_dim
        columns = torch.eye(n0, dtype=self.task.y.dtype, device=self.task.y.device).expand(N, n0, n0)
        for layer, slope in zip(self.task.generator.layers[:-1], self.slopes, strict=True):
            columns = layer.W(columns.reshape(N * n0, -1)).reshape(N, n0, -1) * slope[:, None]
        out = self.task.generator.layers[-1].W(columns.reshape(N * n0, -1)).reshape(N, n0, -1)
        return self.task.measurement.push(out.mT)
