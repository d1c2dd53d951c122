"""Debiasing: from latents that a penalty has shrunk to the least-squares latent of their piece."""

import torch
from torch import Tensor

from ...generator.piece import Piece
from ...solvers.solve import check_choice
from ..task import Task
from .least_absolute import descend_absolute
from .minimax import descend_within
from .newton import descend, extreme_singular_values

DEBIAS = ("piece", "gradient")
MOST_ITERATIONS = 2000
_FINISH = 30  # steps of the piece form, which ends in a few
# the finish starts with so little damping that the first step is the least-squares solution of the piece
FINISH_MU = 1e-13


def check_debias(how: object) -> None:
    """Raises ValueError unless `how` is None or one of `DEBIAS`."""
    if how is not None:
        check_choice(how, DEBIAS, "debias")


def debiased(task: Task, z: Tensor, masks: list[Tensor], how: str | None, max_iter: int = MOST_ITERATIONS) -> Tensor:
    """`z` after debiasing, where that lowers the stated objective; masks: supports of the hidden layers `(N, n_i)`.

    how: "piece" (least squares on the affine piece of z), "gradient" (the papers'), or None for none. max_iter: steps at
    most; the piece form takes no more than 30.
    """
    if how == "piece" and task.absolute:
        return descend_absolute(task, z).z  # squares would follow the few entries that are far off
    if how == "piece":
        found = descend(task, z, max_iter=min(_FINISH, max_iter), mu=FINISH_MU).z  # accepts no step that raises the merit
        return descend_within(task, found).z if task.own_length else found  # the least squares may exceed a linf bound
    if how is None:
        return z
    found = debias_by_gradient(task, z, masks, max_iter)
    # debiasing may only help: the support it freezes can be wrong
    worse = ~(task.misfit(found) <= task.misfit(z))
    return torch.where(worse[:, None], z, found)


def debias_by_gradient(task: Task, z: Tensor, masks: list[Tensor], max_iter: int = MOST_ITERATIONS) -> Tensor:
    """The papers' debiasing: freeze the supports and descend on 1/2 |y - A phi(W_L D_L ... D_1 (W_0 z + b_0))|^2.

    masks: supports of the hidden layers `(N, n_i)`, first hidden layer first. Accelerated gradient steps of length
    1 / sigma_max^2 of the frozen map. Source: Aberdam, Simon, Elad (2020), Algorithm 5, last step.
    """
    frozen = _Frozen(task, masks)
    J = frozen.jacobian()
    step = 1 / extreme_singular_values(J)[1].clamp(min=torch.finfo(z.dtype).tiny) ** 2
    ahead, t = z, 1.0
    for _ in range(max_iter):
        task.step()
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
            assert layer.activation.slopes is not None  # hidden layers are kinked
            low, _ = layer.activation.slopes
            ones = torch.ones(mask.shape, dtype=task.y.dtype, device=task.y.device)
            self.slopes.append(torch.where(mask, ones, low * ones))
        self.piece = Piece(tuple(layer.W for layer in layers), (*self.slopes, None), task.N)

    def _before_output(self, z: Tensor) -> Tensor:
        h = z
        for layer, slope in zip(self.task.generator.layers[:-1], self.slopes, strict=True):
            h = slope * (layer.W(h) + layer.b)
        last = self.task.generator.layers[-1]
        return last.W(h) + last.b

    def gradient(self, z: Tensor) -> Tensor:
        u, phi = self._before_output(z), self.task.generator.output
        back = self.task.pull(phi(u)) * phi.derivative(u)
        return self.piece.pull(back[:, None])[:, 0]

    def jacobian(self) -> Tensor:
        """Jacobian of what is seen before the output activation, `(N, k, n0)`; output slopes are at most 1."""
        return self.task.measurement.push(self.piece.jacobian())
