"""What a descent of first order lowers: the task's merit, or the sum of absolute misfits where noise is stated in l1.

    |r|^2 + 2 sigma^2 R(z)      slope  2 (J'r + sigma^2 R'(z))
    sum_i |r_i|                 slope  J'sign(r), a subgradient where an r_i is 0

with r = A G(z) - y and J its Jacobian on the piece of z. Both go once through the generator and once back.
"""

from collections.abc import Callable

from torch import Tensor

from ..task import Task
from .adam import stated_slope

Slope = Callable[[Task, Tensor], tuple[Tensor, Tensor]]


def slope_of(task: Task) -> Slope:
    """What the task's noise asks to lower, as `descend_by_adam` takes it."""
    return absolute_slope if task.absolute else stated_slope


def absolute_slope(task: Task, z: Tensor) -> tuple[Tensor, Tensor]:
    """|A G(z) - y|_1 `(N,)` and a subgradient of it `(N, n0)`."""
    x, piece = task.generator.piece(z)
    r = task.residual(x)
    return r.abs().sum(1), piece.pull(task.measurement.at(x).adjoint(r.sign())[:, None])[:, 0]
