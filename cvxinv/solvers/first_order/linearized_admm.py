"""Linearised ADMM, Algorithm 4 as published: kept for comparison and teaching.

With a = (W h + b)_off as auxiliary variable, scaled dual u, and alpha + beta >= lmax(rho W_off'W_off + W_on'w W_on):

    h <- prox( h - [ W_on'w (W h + b - y)_on + rho W_off'(W h + b - a - u)_off ] / (alpha + beta) )
    a <- min(W h + b - u, 0)_off,        u <- u + (a - (W h + b))_off

where prox is the ReLU after subtracting lam / (alpha + beta), eq. (14), or, for the latent, the division by
1 + gamma / (alpha + beta), eq. (18). From the penalty rho/2 |a - (W h + b) + u|^2 the multiplier of the off rows is
p_off = -rho u >= 0. alpha + beta = rho |W|^2 + max(w) |W|^2, the paper's sufficient choice of one SVD, eq. (12).

On trained layers it needs tens of thousands of iterations where `interior_point` needs twenty.
Source: Aberdam, Simon, Elad (2020), Algorithm 4, eqs. (10)-(18); signs derived here; changed: biases.
"""

from dataclasses import dataclass

import torch

from ...layers.core.problem import AbstractLayerProblem, Point
from ..solver import AbstractSolver, check_number


@dataclass(frozen=True)
class LinearizedADMM(AbstractSolver):
    """No factorisation, two products with W per iteration; off rows.

    rho: the penalty of the module, > 0, on the normalised problem.
    """

    rho: float = 1.0

    name = "linearized_admm"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    max_iter = 20_000
    first_check = 50
    kept = ("h", "a", "u")

    def __post_init__(self) -> None:
        check_number(self.rho, "rho", 0.0)

    def begin(self, problem: AbstractLayerProblem) -> None:
        rows = problem.rows
        self.curvature = (self.rho + float(rows.fit.amax())) * rows.W.norm() ** 2
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
        self.a = torch.where(rows.off, (rows.W(self.h) + rows.b).clamp(max=0), torch.zeros_like(rows.y))
        self.u = torch.zeros_like(rows.y)

    def point(self) -> Point:
        rows = self.problem.rows
        return Point(self.h, rows.fit * rows.residual(self.h) - self.rho * self.u)

    def advance(self, steps: int) -> None:
        rows = self.problem.rows
        off, c = rows.off, torch.full_like(self.problem.linear, self.curvature)
        v = rows.W(self.h) + rows.b
        for _ in range(steps):
            on_part = rows.fit * torch.where(rows.on, v - rows.y, 0.0)
            off_part = torch.where(off, self.rho * (v - self.a - self.u), 0.0)
            self.h = self.problem.prox_unknown(self.h - rows.W.adjoint(on_part + off_part) / self.curvature, c)
            v = rows.W(self.h) + rows.b
            self.a = torch.where(off, (v - self.u).clamp(max=0), 0.0)
            self.u = self.u + torch.where(off, self.a - v, 0.0)
