"""Nonnegative LASSO of an image layer behind its activation: the one layer problem that is not convex.

    minimise    f(h) + lam 1'h,   f(h) = 1/2 sum_on w_i (phi(W h + b) - y)_i^2        (P)
    subject to  h >= 0

The paper calls (P) convex where phi is increasing and smooth. It is not. With one unknown, W = 1, b = 0, phi = tanh and
y = -1, f(h) = (tanh h + 1)^2 / 2 rises from 1/2 at h = 0 to 2 and its slope tanh'(h) (tanh h + 1) falls to 0: at h = 0, 2, 4
f is 0.5, 1.929, 1.999, so f(2) > (f(0) + f(4)) / 2 = 1.249, against convexity. With two rows there are local minima:
W = (1, 1)', b = (0, -8)', y = (-1, 1) rewards h = 0 on the first row and h > 8 on the second.

Therefore there is no dual, and any answer is judged by the proximal gradient step from it (`core/curved`). The status is
`stationary`; `optimal` only where the objective itself is 0 to the judge's precision, as nothing is below that.

Paper's letters: x -> h, lambda_L -> lam.
Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. (8) and Algorithm 3;
added: biases, row weights, unseen rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from ..generator.activations import AbstractActivation
from ..inputs import describe
from .core.curved import AbstractCurvedProblem, SquaresBehind
from .core.penalties import Penalty
from .core.rows import Rows


@dataclass(frozen=True, eq=False, repr=False)
class ActivatedLasso(AbstractCurvedProblem):
    """min over h >= 0 of 1/2 |phi(W h + b) - y|^2 on `on` + lam 1'h; off rows count as not seen.

    rows: see `Rows`; y in phi's output units. phi: Tanh, Sigmoid, PLU, LeakyReLU, Identity, or another with a `curvature`.
    lam: >= 0, one for all signals or `(N,)`; units of signal^2 / h. Not convex: `solve` gives `stationary` points, and CVXPY
    cannot state it. Source: Aberdam, Simon, Elad (2020), eq. (8). Raises ValueError if lam < 0, TypeError for another phi.
    """

    rows: Rows
    phi: AbstractActivation
    lam: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"lam": (1, 1)}
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.phi, AbstractActivation) or self.phi.curvature(torch.zeros(1)) is None:
            raise TypeError(
                f"expected phi as Tanh, Sigmoid, PLU, LeakyReLU, Identity or one with a curvature, got "
                f"{describe(self.phi)}; a ReLU's rows are on and off rows of NonnegativeLasso"
            )
        super().__post_init__()

    @cached_property
    def misfit(self) -> SquaresBehind:
        return SquaresBehind(self.rows, self.phi)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, lam=self.lam)
