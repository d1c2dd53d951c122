"""FISTA with restart per signal: accelerated proximal gradient steps for problems whose misfit is smooth.

    h   <- prox_g(v - grad(v) / c, c),   t' = (1 + (1 + 4 t^2)^(1/2)) / 2,   v <- h + (t - 1) / t' (h - h_before)

with grad(v) = W'(dF/du at u = W v + b) and c = curvature of F times |W|^2. Where (v - h)'(h - h_before) > 0 the momentum
points uphill: that signal starts again with t = 1. It serves squared misfits without off rows, with any prox of the
unknown, and, behind an activation phi, the paper's Algorithm 3: grad = W'(phi'(u) (phi(u) - y)). There the problem is not
convex, and a signal whose objective rose goes back to h_before with t = 1, so that the objective falls monotonically to a
stationary point.

It begins at h = 0, or at what `first` makes of the normalised problem: a guess costs iterations where it is bad, and never
the answer, which the judge sees.

Source: Aberdam, Simon, Elad (2020), Algorithm 3; Beck and Teboulle (2009); O'Donoghue and Candes (2015) for the restart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...inputs import describe
from ...layers.activated_lasso import ActivatedLasso
from ...layers.core.curved import AbstractCurvedProblem
from ...layers.core.problem import AbstractLayerProblem, Point
from ..graphs import repeat
from ..solver import AbstractSolver


@dataclass(frozen=True)
class FISTA(AbstractSolver):
    """Proximal gradient, no factorisation; two products with W per iteration; no off rows.

    first: from a normalised problem (|W| = 1, data of length 1) the h `(N, n)` to begin at, e.g. a `LearnedStart`; None: 0.
    """

    first: Callable[[AbstractLayerProblem], Tensor] | None = None

    name = "fista"
    forms = ("quadratic", "curved")
    otherwise = "it serves squared misfits"
    max_iter = 20_000
    first_check = 20
    kept = ("c", "h", "v", "t", "value")

    def begin(self, problem: AbstractLayerProblem) -> None:
        rows = problem.rows
        self.curved = isinstance(problem, AbstractCurvedProblem)
        weight = problem.curvature() if isinstance(problem, ActivatedLasso) else rows.fit.amax(1, keepdim=True)
        tiny = torch.finfo(rows.y.dtype).tiny
        self.c = (weight * rows.W.norm() ** 2).clamp(min=tiny)
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
        if self.first is not None:
            h = self.first(problem)
            if not isinstance(h, Tensor) or h.shape != self.h.shape or not bool(torch.isfinite(h).all()):
                raise ValueError(f"expected first to give finite h of shape {tuple(self.h.shape)}, got {describe(h)}")
            self.h = h.detach().to(self.h)
        self.v, self.t = self.h.clone(), torch.ones_like(self.c)
        self.value = problem.objective(self.h)

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        off = "it serves problems without off rows" if bool(problem.rows.off.any()) else None
        return super().refuses(problem) or off

    def point(self) -> Point:
        return Point(self.h, self._gradient_of_rows(self.h))

    def advance(self, steps: int) -> None:
        if self.curved:  # its misfit asks for the ends of an activation
            for _ in range(steps):
                self._step()
        else:
            repeat(self, self._step, steps)

    def _gradient_of_rows(self, h: Tensor) -> Tensor:
        if self.curved:
            return self.problem.complete(h)
        return self.problem.rows.fit * self.problem.rows.residual(h)

    def _step(self) -> None:
        problem, before = self.problem, self.h
        slope = problem.rows.W.adjoint(self._gradient_of_rows(self.v))
        h = problem.prox_unknown(self.v - slope / self.c, self.c)
        uphill = ((self.v - h) * (h - before)).sum(1, keepdim=True) > 0
        if self.curved:
            value = problem.objective(h)
            # a plain step from h_before never raises the objective, so a rise is the momentum's
            rose = (value > self.value)[:, None] & (self.t > 1)
            h, uphill = torch.where(rose, before, h), uphill | rose
            self.value = torch.where(rose[:, 0], self.value, value)
        t = torch.where(uphill, torch.ones_like(self.t), self.t)
        ahead = (1 + (1 + 4 * t * t).sqrt()) / 2
        momentum = torch.where(uphill, torch.zeros_like(t), (t - 1) / ahead)
        self.v, self.h, self.t = h + momentum * (h - before), h, torch.where(uphill, torch.ones_like(t), ahead)
