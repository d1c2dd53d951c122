"""Graph-form ADMM: the splitting W h + b = v over all rows, one factorisation for the whole batch.

    minimise  F(v) + g(h)   subject to  W h + b = v

    (h', v') = (prox_{g/rho}(h - s), prox_{F/rho}(v - t))
    (h, v)   = projection of (a h' + (1 - a) h + s, a v' + (1 - a) v + t) onto the graph {v = W h + b}
    s, t    += the part that the projection took away

The projection needs one Cholesky factor of I + W'W, or of I + W W' where m < n, shared by all signals whatever their
supports, penalties and rho; supports enter only through the masks of prox_F. So rho is free to differ and change per
signal: it is moved to where the primal residual relative to (h, v) and the dual one relative to (s, t) are equal, by at
most 5 at a time, first when 100 iterations have passed (what converges by then is left alone) and then at times that lie
ever further apart, 20 in all. Without "relative" the rule stops far from the best rho where h, v and s, t differ in size, as
under an l2 bound. Changes after which the residuals fall slower stay: they fall slower in time at any rho. The dual
point is p = rho (v_before - t - v'), in the subdifferential of F at v'. a = 1.7.

Source: Parikh and Boyd, "Block splitting for distributed optimization" (2014), sec. 4; Fougner and Boyd (2018), POGS;
relative residuals: Wohlberg, "ADMM penalty parameter selection by residual balancing" (2017).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ..solver import AbstractSolver, check_number

_FIRST_CHANGE, _LATER, _CHANGES = 100, 1.2, 20  # ADMM converges for a fixed rho; endless changes could cycle
_SMALL = 1_000_000  # numbers in W up to which a product with it costs less than one with each of its factors
_LONGEST_CHANGE, _ENOUGH = 5.0, 1.5  # factors of rho: the largest at once, and the smallest worth the disturbance


@dataclass(frozen=True)
class GraphADMM(AbstractSolver):
    """One factorisation for the whole batch; an n x n (or m x m) solve and two products with W per iteration.

    relax: the a of the module, between 1 and 2.
    """

    relax: float = 1.7

    name = "graph_admm"
    forms = (*AbstractSolver.forms, "layered")
    max_iter = 20_000
    first_check = 25
    kept = ("h", "v", "s", "t", "rho", "h_prox", "v_prox", "p")

    def __post_init__(self) -> None:
        check_number(self.relax, "relax", 1.0, 2.0)

    def begin(self, problem: AbstractLayerProblem) -> None:
        W, like = problem.rows.W, problem.rows.y
        M = W.matrix()
        self.tall = W.m >= W.n
        G = M.T @ M if self.tall else M @ M.T
        self.L = torch.linalg.cholesky(G + torch.eye(len(G), dtype=G.dtype, device=G.device))
        # of a chain of maps the product is one matrix, and |W| = 1 makes an inverse as good as a factor: two products in all
        self.M = M if problem.form == "layered" and self.tall and M.numel() <= _SMALL else None
        self.inverse = None if self.M is None else torch.cholesky_inverse(self.L)
        self.h = torch.zeros(problem.N, problem.n, dtype=like.dtype, device=like.device)
        self.v = (W(self.h) + problem.rows.b).clone()
        self.s, self.t = torch.zeros_like(self.h), torch.zeros_like(self.v)
        self.rho = torch.full((problem.N, 1), 0.3, dtype=like.dtype, device=like.device)
        self.iteration, self.changes, self.next_change = 0, 0, float(_FIRST_CHANGE)
        self._prox()

    def point(self) -> Point:
        return Point(self.h_prox, self.p)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._prox()
            h_before, v_before = self.h, self.v
            h = self.relax * self.h_prox + (1 - self.relax) * self.h + self.s
            v = self.relax * self.v_prox + (1 - self.relax) * self.v + self.t
            self.h, self.v = self._project(h, v)
            self.s, self.t = h - self.h, v - self.v
            self.iteration += 1
            if self.iteration >= self.next_change and self.changes < _CHANGES:
                self.changes += 1
                self.next_change += _FIRST_CHANGE * _LATER**self.changes
                self._adapt(h_before, v_before)
        self._prox()

    def _prox(self) -> None:
        self.h_prox = self.problem.prox_unknown(self.h - self.s, self.rho)
        argument = self.v - self.t
        self.v_prox = self.problem.prox_rows(argument, self.rho)
        self.p = self.rho * (argument - self.v_prox)

    def _project(self, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.problem.rows
        v = v - rows.b
        if self.M is not None and self.inverse is not None:
            h = torch.addmm(h, v, self.M) @ self.inverse
            return h, torch.addmm(rows.b.expand_as(v), h, self.M.T)
        if self.tall:
            h = torch.cholesky_solve((h + rows.W.adjoint(v)).T, self.L).T
        else:
            h = h + rows.W.adjoint(torch.cholesky_solve((v - rows.W(h)).T, self.L).T)
        return h, rows.W(h) + rows.b

    def _adapt(self, h_before: Tensor, v_before: Tensor) -> None:
        size = torch.maximum(_length(self.h_prox, self.v_prox), _length(self.h, self.v)).clamp(min=1e-300)
        primal = _length(self.h_prox - self.h, self.v_prox - self.v) / size
        dual = _length(self.h - h_before, self.v - v_before) / _length(self.s, self.t).clamp(min=1e-300)
        factor = (primal / dual.clamp(min=1e-300)).sqrt().clamp(1 / _LONGEST_CHANGE, _LONGEST_CHANGE)
        still = (factor < _ENOUGH) & (factor > 1 / _ENOUGH) | ~torch.isfinite(factor)
        rho = torch.where(still, self.rho, self.rho * factor).clamp(1e-5, 1e5)
        # the unscaled duals rho s, rho t stay
        self.s, self.t, self.rho = self.s * (self.rho / rho), self.t * (self.rho / rho), rho


def _length(h: Tensor, v: Tensor) -> Tensor:
    return ((h * h).sum(1, keepdim=True) + (v * v).sum(1, keepdim=True)).sqrt()
