"""Gap-safe screening: unknowns of a nonnegative LASSO that are provably 0 at the optimum, from any point.

With p feasible for (D), gap = P(h) - D(p) and p* the optimum of (D), which is 1-strongly concave in |p|_{1/w}:
|p - p*|_{1/w} <= R = (2 gap)^(1/2), so that each entry of W'p* is within |W_j|_w R of that of W'p, |W_j|_w^2 = (W'w W)_jj.
An unknown with a reduced cost (W'p + lam)_j > |W_j|_w R therefore has one > 0 at p*, and complementarity makes it 0.

p is made feasible by the factor s that maximises D(s p) among s <= lam / max(-W'p). All in float64 with margins for
rounding: what is screened is 0 in exact arithmetic. Off rows have multipliers of their own, which the sphere does not bound:
signals with off rows, and with lam = 0, keep every unknown.

Source: Fercoq, Gramfort, Salmon (2015); `sparse` note 5.1 (and 5.4 for why not with off rows).
"""

import torch
from torch import Tensor

from ..inputs import describe
from ..layers.core.problem import Point
from ..layers.core.proofs import rounding
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..surroundings import undisturbed


@undisturbed
def provably_zero(problem: NonnegativeLasso, point: Point) -> Tensor:
    """Which unknowns are 0 in every optimal h, bool `(N, n)`; all in float64, whatever type the point has.

    point: any h `(N, n)`, of which the part >= 0 is used, and any p `(N, m)`, such as `Solution.point`; the smaller their
    gap, the more is known. What an optimal point leaves open may be 0 all the same. Raises TypeError for another problem.
    """
    if not isinstance(problem, NonnegativeLasso):
        raise TypeError(
            f"expected a NonnegativeLasso, got {describe(problem)}; for others no sphere of optima is known here"
        )
    problem = problem.to(torch.float64)
    rows, lam = problem.rows, problem.linear[:, 0]
    h, p = point.h.double().clamp(min=0), torch.where(rows.on, point.p.double(), 0.0)
    length = rows.W.magnitude()
    doubt = length.adjoint(p.abs()) * rounding(rows.m, p.dtype)
    slope = rows.W.adjoint(p)
    worst = (doubt - slope).amax(1)
    most = torch.where(worst > 0, lam / worst.clamp(min=torch.finfo(p.dtype).tiny), torch.inf) * (1 - rounding(4, p.dtype))
    s, dual = _best_dual(problem, p, most)
    R = (2 * (_primal(problem, h) - dual).clamp(min=0)).sqrt() * (1 + rounding(4, p.dtype))
    lengths = (rows.fit @ rows.W.matrix() ** 2).sqrt() * (1 + rounding(rows.m, p.dtype))
    cost = lam[:, None] + s[:, None] * (slope - doubt)
    margin = rounding(4, p.dtype) * (lam[:, None] + s[:, None] * slope.abs())
    known = torch.isfinite(R) & (lam > 0) & ~rows.off.any(1)
    return (cost - margin > lengths * R[:, None]) & known[:, None]


def _best_dual(problem: NonnegativeLasso, p: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The s in [0, most] with the largest D(s p), and a lower bound of that in exact arithmetic, `(N,)` each."""
    rows, doubt = problem.rows, 4 * rounding(problem.rows.m, p.dtype)
    products = p * rows.target
    square = torch.where(rows.on, p * p / rows.weight, 0.0).sum(1)
    s = (-products.sum(1) / square.clamp(min=torch.finfo(p.dtype).tiny)).clamp(min=0)
    s = torch.minimum(s, most)
    value = -s * products.sum(1) - s * s * square / 2
    return s, value - doubt * (s * products.abs().sum(1) + s * s * square)


def _primal(problem: NonnegativeLasso, h: Tensor) -> Tensor:
    """An upper bound of P(h) in exact arithmetic, `(N,)`."""
    rows = problem.rows
    # W h + b - y is a sum of n + 2 numbers of these sizes
    off_by = (rows.W.magnitude()(h) + rows.b.abs() + rows.y.abs()) * rounding(rows.n + 2, h.dtype)
    r = rows.residual(h).abs() + torch.where(rows.on, off_by, 0.0)
    return ((rows.fit * r * r).sum(1) / 2 + problem.linear[:, 0] * h.sum(1)) * (1 + rounding(rows.m + rows.n, h.dtype))
