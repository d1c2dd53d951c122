"""Latent of the first layer under a Gaussian prior.

    minimise    1/2 sum_on w_i (W z + b - y)_i^2 + gamma/2 |z|^2          (P)
    subject to  (W z + b)_off <= 0

    maximise    p_on'(b - y) + p_off'b - 1/2 sum_on p_i^2 / w_i - |W'p|^2 / (2 gamma)      (D)
    subject to  p_off >= 0,   p = 0 on rows that were not seen   (gamma = 0: W'p = 0 in place of the last term)

At the optimum p_on = w (W z + b - y), W'p + gamma z = 0 and p_off (W z + b)_off = 0. Feasibility asks for p_off >= 0 alone;
of any p the better is taken of (D) as given and of (D) maximised over p_on, which holds for gamma = 0 too
(`core/repairs`). Where gamma = 0 and W_on' w W_on is singular to rounding that is -inf unless W_off'mu lies exactly in the
range of W_on': `unmet` says by how much W'p misses 0, `core/bounds` what that costs.

The unknown is called h here as in every layer problem. With gamma = 0 it is also the layer problem of an h of any sign,
as a LeakyReLU leaves it.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. (16); changed: biases,
row weights, rows that were not seen, gamma = 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from .core.misfits import Squares
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class GaussianLatent(AbstractLayerProblem):
    """min_z 1/2 |W z + b - y|^2 on `on` + gamma/2 |z|^2 with W z + b <= 0 on `off`; z has any sign.

    rows: see `Rows`. gamma: prior precision, >= 0, one for all signals or `(N,)`; units of signal^2 / latent^2.
    Source: Aberdam, Simon, Elad (2020), eq. (16). Raises ValueError if gamma < 0.
    """

    rows: Rows
    gamma: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"gamma": (0, 2)}
    nonnegative: ClassVar[bool] = False

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, gamma = sample, float(self.number("gamma")[i])
        z = cp.Variable(s.n)
        if gram:
            G = s.W_on.T @ (s.weight_on[:, None] * s.W_on)
            t = s.y_on - s.b_on
            misfit = cp.quad_form(z, cp.psd_wrap(G)) / 2 - (s.W_on.T @ (s.weight_on * t)) @ z
            misfit += float(t @ (s.weight_on * t)) / 2
        else:
            misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ z + s.b_on - s.y_on)) / 2
        off = s.W_off @ z + s.b_off <= 0 if len(s.b_off) else None
        d = np.ones(s.n) if self.sizes is None else self.sizes.detach().cpu().double().numpy()
        prior = gamma / 2 * cp.sum_squares(cp.multiply(d, z))
        bounds = (Bound(off, s.off, 1),) if off is not None else ()
        return Statement(cp.Problem(cp.Minimize(misfit + prior), [off] if off is not None else []), z, bounds)

    @cached_property
    def misfit(self) -> Squares:
        return Squares(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, gamma=self.gamma)
