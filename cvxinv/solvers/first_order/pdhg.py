"""Primal-dual hybrid gradient with Halpern restarts: the method that needs nothing but the two proximal pieces.

One step T from (h, p):   h' = prox_g(h - tau W'p, 1/tau),
                          p' = q - sigma prox_F(q / sigma, sigma),   q = p + sigma (W (2 h' - h) + b),

where the second line is Moreau's form of the prox of F*. T is firmly nonexpansive in |(h, p)|^2 = |h|^2 / tau - 2 p'W h +
|p|^2 / sigma for tau sigma |W|^2 <= 1, so its reflection 2 T - 1 is nonexpansive, and Halpern's iteration

    z <- (k + 1)/(k + 2) (2 T z - z) + 1/(k + 2) z_0

brings |z - T z| down like 1/k. Each signal restarts on its own, from T z, when |z - T z| has fallen to 0.2 of its value at
the last restart, or to 0.8 of it and rises again, or when the stretch is 0.36 of all its iterations. At a restart the
primal weight omega (tau = 0.99 / omega, sigma = 0.99 omega) is moved half way, in logarithms, to |dp| / |dh|.

Linear programs have a sharp optimum, where restarts make the convergence linear. On trained layers interior point wins.
Source: Chambolle and Pock (2011); Lu and Yang, "Restarted Halpern PDHG" (2024); constants as in `sparse` note 5.9.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ..graphs import repeat
from ..solver import AbstractSolver

_SUFFICIENT, _NECESSARY, _ARTIFICIAL = 0.2, 0.8, 0.36


@dataclass(frozen=True)
class PDHG(AbstractSolver):
    """No factorisation; two products with W per iteration."""

    name = "pdhg"
    forms = (*AbstractSolver.forms, "layered", "excess")
    max_iter = 20_000
    first_check = 40
    kept = ("h", "p", "h0", "p0", "omega", "k", "total", "first", "last")

    def begin(self, problem: AbstractLayerProblem) -> None:
        rows = problem.rows
        self.norm = rows.W.norm() or 1.0
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
        self.p = torch.zeros_like(rows.y)
        self.h0, self.p0 = self.h, self.p
        ones = torch.ones(problem.N, 1, dtype=rows.y.dtype, device=rows.y.device)
        self.omega, self.k, self.total = ones.clone(), torch.zeros_like(ones), torch.zeros_like(ones)
        self.first, self.last = torch.full_like(ones, torch.inf), torch.full_like(ones, torch.inf)
        self.reached = Point(self.h, self.p)

    def keep(self, index: Tensor) -> None:
        super().keep(index)
        self.reached = Point(self.reached.h[index], self.reached.p[index])

    def point(self) -> Point:
        return self.reached

    def advance(self, steps: int) -> None:
        repeat(self, self._step, steps)

    def _step(self) -> None:
        h, p = self._map(self.h, self.p)
        self.reached = Point(h, p)
        dh, dp = h - self.h, p - self.p
        moved = (self.omega * (dh * dh).sum(1, keepdim=True) + (dp * dp).sum(1, keepdim=True) / self.omega).sqrt()
        self.first = torch.where(self.k == 0, moved, self.first)
        self.total = self.total + 1
        again = moved <= _SUFFICIENT * self.first
        again |= (moved <= _NECESSARY * self.first) & (moved > self.last)
        again |= self.k >= _ARTIFICIAL * self.total
        again &= self.k > 0
        weight = 1 / (self.k + 2)
        ahead_h = (1 - weight) * (self.h + 2 * dh) + weight * self.h0
        ahead_p = (1 - weight) * (self.p + 2 * dp) + weight * self.p0
        self._reweigh(again, h, p)
        self.h, self.p = torch.where(again, h, ahead_h), torch.where(again, p, ahead_p)
        self.h0, self.p0 = torch.where(again, h, self.h0), torch.where(again, p, self.p0)
        self.last = torch.where(again, torch.full_like(moved, torch.inf), moved)
        self.k = torch.where(again, torch.zeros_like(self.k), self.k + 1)

    def _map(self, h: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        problem, rows = self.problem, self.problem.rows
        tau, sigma = 0.99 / (self.norm * self.omega), 0.99 * self.omega / self.norm
        new_h = problem.prox_unknown(h - tau * rows.W.adjoint(p), 1 / tau)
        q = p + sigma * (rows.W(2 * new_h - h) + rows.b)
        return new_h, q - sigma * problem.prox_rows(q / sigma, sigma)

    def _reweigh(self, again: Tensor, h: Tensor, p: Tensor) -> None:
        dh, dp = (h - self.h0).norm(dim=1, keepdim=True), (p - self.p0).norm(dim=1, keepdim=True)
        known = again & (dh > 1e-10) & (dp > 1e-10)
        ratio = torch.where(known, dp / dh.clamp(min=1e-300), self.omega)
        self.omega = torch.where(known, (self.omega * ratio).sqrt().clamp(1e-4, 1e4), self.omega)
