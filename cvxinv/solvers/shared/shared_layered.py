"""ADMM on the priced rows and the unknowns of signals that share a Gram matrix, until their activity can be solved for.

    minimise  1/2 h'G h - d'h + sum_k c_k |x_k|   subject to  x = B h,   B = (w V; I)        [x_k >= 0]

G = W'w W, d = W'w (y - b), V the priced rows, c their prices over w, and lam. The squares are not split off: their h is
exact. With B'B = R R', R^-1 G R^-T = Q diag(g) Q' and K = B R^-T Q, whose columns are orthonormal, any rho of each signal
has its (G + rho B'B)^-1 = R^-T Q diag(g + rho)^-1 Q'R^-1 at hand. With t = y + rho z and y = clip(t, +-c)

    a = (Q'R^-1 d + K'(t - 2 y)) / (g + rho),     t <- (1 - s) t + s y + s rho K a,     y <- clip(t, +-c)       [<= c]

is the iteration with over-relaxation s: two products with K, and three passes over t. w makes the mean length of a row of
w V a certain share of that of a unit vector: without it prices of rows cost several times as many iterations. Where t
differs from y an entry of x is not 0: that is the activity from which the exact rounds of `newton.layered` begin, and who
has not come to fit there goes on, with a rho that evens out what x misses and what y moves. The digits of t matter little,
so float32 serves.

Source: Boyd et al. (2011), sec. 3.4.1 for rho and 3.4.3 for s; one spectrum for every rho and the rounds are ours.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ..newton.layered import settled
from ..newton.layered_equations import Activity, Equations
from ..solver import AbstractSolver
from .precision import coarse_products

_LARGEST = 512  # unknowns: a spectrum of that size
_SHARE = 0.7  # of the length of a unit vector: the mean length of a row of w V
_RHO, _RHO_POSITIVE = 0.15, 0.05  # in normalised units
_LONGEST_CHANGE = 4.0  # of rho at once
_RELAX = 1.6
_CHECKS = (30, 100, 300)  # iterations after which activities are solved for


@dataclass(frozen=True)
class SharedLayered(AbstractSolver):
    """Two products per iteration for the whole batch, then exact rounds; multi-layer pursuits that share a Gram matrix."""

    name = "shared_layered"
    forms = ("layered",)
    otherwise = "it serves squared misfits beside lengths"
    max_iter = _CHECKS[-1]
    first_check = _CHECKS[0]
    kept = ("d", "limits", "t", "y", "rho", "h", "multipliers", "settled")
    needs_float64 = True
    exact = True

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        reason = super().refuses(problem)
        if reason is None and not problem.rows.alike:
            reason = "it serves signals that share a Gram matrix: the same on rows with the same weights"
        if reason is None and problem.n > _LARGEST:
            reason = f"it serves up to {_LARGEST} unknowns"
        return reason

    def begin(self, problem: AbstractLayerProblem) -> None:
        self.equations = part = Equations.of(problem)
        work = torch.float32 if part.V.device.type == "cpu" and not coarse_products(part.V.device) else torch.float64
        mean = part.V.square().sum(1).mean().sqrt() if part.l else 0 * part.V.sum()
        self.w = torch.where(mean > 0, _SHARE / mean, 1.0)
        one = torch.eye(part.n, dtype=part.V.dtype, device=part.V.device)
        B = torch.cat([self.w * part.V, one])
        inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(B.T @ B), one, upper=False)
        curvature, Q = torch.linalg.eigh(inverse @ part.G @ inverse.T)
        basis = inverse.T @ Q
        self.K, self.curvature = (B @ basis).to(work), curvature.clamp(min=0).to(work)
        self.d, self.limits = (part.drawn @ basis).to(work), part.limits.to(work, copy=True)
        self.limits[:, : part.l] /= self.w
        self.t, self.y = torch.zeros_like(self.limits), torch.zeros_like(self.limits)
        self.rho = torch.full_like(self.d[:, :1], _RHO_POSITIVE if part.nonnegative else _RHO)
        self.h, self.multipliers = torch.zeros_like(part.drawn), torch.zeros_like(part.limits)
        self.settled = torch.zeros(problem.N, dtype=torch.bool, device=self.h.device)

    def next_check(self, iteration: int) -> int:
        return next((later for now, later in pairwise(_CHECKS) if now <= iteration < later), 2 * iteration)

    def advance(self, steps: int) -> None:
        y_before = self._iterate(steps)
        where, h, y = settled(self.equations, self.guess())
        self.h[where], self.multipliers[where] = h[where], y[where]
        self.settled[where] = True
        self._adapt(y_before)

    def guess(self) -> Activity:
        """The activity that the iteration has come to."""
        part, free = self.equations, self.t != self.y
        y = self.y.to(part.limits, copy=True)
        y[:, : part.l] *= self.w
        return Activity(free, torch.where(free, part.limits.copysign(y), y))

    def _iterate(self, steps: int) -> Tensor:
        """Some iterations; gives the y before the last of them."""
        K, t, y, y_before = self.K, self.t, self.y, self.y
        step = _RELAX * self.rho / (self.curvature + self.rho)
        drawn, g = self.d * step, torch.empty_like(t)
        for k in range(steps):
            torch.sub(t, y, alpha=2, out=g)
            a = torch.addcmul(drawn, g @ K, step)
            y_before = y.clone() if k == steps - 1 else y
            t.lerp_(y, _RELAX).addmm_(a, K.T)
            if self.equations.nonnegative:
                torch.minimum(t, self.limits, out=y)
            else:
                torch.clamp(t, -self.limits, self.limits, out=y)
        return y_before

    def _adapt(self, y_before: Tensor) -> None:
        """rho of each signal to where x - z, relative to x, and the last change of y, relative to y, are equal."""
        z = (self.t - self.y) / self.rho
        x = ((self.d + (self.t - 2 * self.y) @ self.K) / (self.curvature + self.rho)) @ self.K.T
        primal, dual = (x - z).norm(dim=1, keepdim=True), (self.y - y_before).norm(dim=1, keepdim=True)
        sizes = (torch.maximum(x.norm(dim=1, keepdim=True), z.norm(dim=1, keepdim=True)), self.y.norm(dim=1, keepdim=True))
        factor = (primal * sizes[1] / (dual * sizes[0])).sqrt().clamp(1 / _LONGEST_CHANGE, _LONGEST_CHANGE)
        factor = torch.where(torch.isfinite(factor), factor, 1.0)
        self.t, self.rho = self.y + factor * (self.t - self.y), self.rho * factor

    def keep(self, index: Tensor) -> None:
        super().keep(index)
        self.equations = self.equations.take(index)

    def done(self, tol: float) -> Tensor | None:
        """The signals whose activity has come to fit."""
        return self.settled

    def point(self) -> Point:
        return self.equations.point(self.problem, self.h, self.multipliers)
