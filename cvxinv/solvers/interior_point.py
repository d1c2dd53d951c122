"""Batched primal-dual interior point, Mehrotra's predictor-corrector, float64: insensitive to conditioning.

The problem min 1/2 sum_on w (W h + b - y)^2 + lam 1'h + gamma/2 |h|^2 with slack s > 0, W h + b + s = 0 on the off rows
(multiplier p_off = mu > 0) and, where h >= 0 is asked for, h > 0 (multiplier nu > 0). Newton's step on

    W'(w (W h + b - y) + mu) + lam + gamma h - nu = 0,   W h + b + s = 0,   s mu = sigma t,   h nu = sigma t

eliminates everything but dh: (W' diag(w + mu/s) W + diag(gamma + nu/h)) dh = r, one Cholesky factorisation of n x n per
signal and iteration. Without off rows the weighted Gram matrix does not change and is formed once.

Source: Mehrotra (1992), as in Nocedal and Wright, Numerical Optimization (2006), chapters 14.2 and 16.6.
"""

import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point, spd_solve
from ..rows import weighted_gram
from .loop import AbstractMethod

_KEEP_INSIDE = 0.995


class InteriorPoint(AbstractMethod):
    """See the module. 12 to 40 iterations; memory N n^2."""

    name = "interior_point"
    max_iter = 80
    first_check = 4
    needs_float64 = True

    def __init__(self, problem: AbstractLayerProblem):
        self.problem = problem
        rows = problem.rows
        self.off = rows._off
        self.has_off = bool(self.off.any())
        self.gram = weighted_gram(rows.W, rows.fit)
        self._start()

    def _start(self) -> None:
        problem, rows = self.problem, self.problem.rows
        eye = torch.eye(problem.n, dtype=rows.y.dtype, device=rows.y.device)
        # a ridge of 1 % of |W|^2 keeps the start moderate whatever the conditioning
        L = torch.linalg.cholesky_ex(self.gram + 0.01 * eye)[0]
        h = spd_solve(L, rows.W.adjoint(rows.fit * rows.target) - problem.linear)
        shift = 0.1 * h.abs().amax(1, keepdim=True).clamp(min=1e-3)
        self.h = h.clamp(min=0) + shift if problem.nonnegative else h
        v = rows.W(self.h) + rows.b
        spread = 0.1 * torch.where(self.off, v.abs(), 0.0).amax(1, keepdim=True).clamp(min=1e-3)
        ones = torch.ones_like(v)
        self.s = torch.where(self.off, (-v).clamp(min=0) + spread, ones)
        self.mu = torch.where(self.off, spread.expand_as(v), torch.zeros_like(v))
        slope = rows.W.adjoint(rows.fit * rows.residual(self.h)) + problem.linear
        self.nu = slope.clamp(min=0) + shift if problem.nonnegative else torch.zeros_like(self.h)

    def next_check(self, iteration: int) -> int:
        return iteration + 2

    def worth_polishing(self, iteration: int) -> bool:
        # a polish costs several iterations; before the tenth the activity is rarely right
        return iteration in (10, 14, 20, 28, 40, 60)

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        self.off = self.problem.rows._off
        self.h, self.nu, self.s, self.mu = self.h[index], self.nu[index], self.s[index], self.mu[index]
        if len(self.gram) > 1:
            self.gram = self.gram[index]

    def point(self) -> Point:
        rows = self.problem.rows
        return Point(self.h, rows.fit * rows.residual(self.h) + self.mu)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._step()

    def _step(self) -> None:
        problem, rows = self.problem, self.problem.rows
        v = rows.W(self.h) + rows.b
        fitted = rows.fit * torch.where(rows.on, v - rows.y, torch.zeros_like(v))
        r_dual = rows.W.adjoint(fitted + self.mu) + problem.linear + problem.quadratic * self.h - self.nu
        r_slack = torch.where(self.off, v + self.s, torch.zeros_like(v))
        count = (self.off.sum(1) + (problem.n if problem.nonnegative else 0)).clamp(min=1)[:, None]
        t = (self._products(self.h, self.nu, self.s, self.mu) / count).clamp(min=1e-300)

        L = self._factor()
        affine = self._direction(L, r_dual, r_slack, self.s * self.mu, self.h * self.nu)
        step = self._longest(affine)
        ahead = [x + step * d for x, d in zip((self.h, self.nu, self.s, self.mu), affine, strict=True)]
        sigma = ((self._products(*ahead) / count).clamp(min=0) / t).clamp(max=1) ** 3
        second_s = self.s * self.mu + affine[2] * affine[3] - sigma * t
        second_h = self.h * self.nu + affine[0] * affine[1] - sigma * t
        direction = self._direction(L, r_dual, r_slack, second_s, second_h)
        step = _KEEP_INSIDE * self._longest(direction)
        good = torch.isfinite(torch.cat([d.sum(1, keepdim=True) for d in direction], 1)).all(1, keepdim=True)
        step = torch.where(good, step, torch.zeros_like(step))
        self.h, self.nu, self.s, self.mu = (
            x + step * torch.nan_to_num(d, nan=0.0, posinf=0.0, neginf=0.0)
            for x, d in zip((self.h, self.nu, self.s, self.mu), direction, strict=True)
        )

    def _products(self, h: Tensor, nu: Tensor, s: Tensor, mu: Tensor) -> Tensor:
        total = torch.where(self.off, s * mu, torch.zeros_like(s)).sum(1, keepdim=True)
        return total + (h * nu).sum(1, keepdim=True) if self.problem.nonnegative else total

    def _factor(self) -> Tensor:
        problem, rows = self.problem, self.problem.rows
        H = weighted_gram(rows.W, rows.fit + self.mu / self.s) if self.has_off else self.gram
        diagonal = problem.quadratic + (self.nu / self.h if problem.nonnegative else torch.zeros_like(self.h))
        floor = 1e-15 * (1 + torch.diagonal(H, dim1=-2, dim2=-1).amax(-1, keepdim=True))
        H = H + torch.diag_embed(diagonal + floor)
        L, info = torch.linalg.cholesky_ex(H)
        if (info != 0).any():
            weak = info != 0
            lift = 1e-10 * torch.diagonal(H[weak], dim1=-2, dim2=-1)
            L[weak] = torch.linalg.cholesky_ex(H[weak] + torch.diag_embed(lift))[0]
        return L

    def _direction(
        self, L: Tensor, r_dual: Tensor, r_slack: Tensor, r_s: Tensor, r_h: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, nonnegative = self.problem.rows, self.problem.nonnegative
        ratio = self.mu / self.s
        from_slack = torch.where(self.off, ratio * r_slack - r_s / self.s, torch.zeros_like(ratio))
        right = -r_dual - rows.W.adjoint(from_slack)
        if nonnegative:
            right = right - r_h / self.h
        dh = spd_solve(L, right)
        dv = rows.W(dh)
        ds = torch.where(self.off, -r_slack - dv, torch.zeros_like(dv))
        dmu = torch.where(self.off, (-r_s - self.mu * ds) / self.s, torch.zeros_like(dv))
        dnu = (-r_h - self.nu * dh) / self.h if nonnegative else torch.zeros_like(dh)
        return dh, dnu, ds, dmu

    def _longest(self, direction: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Largest common step <= 1 that keeps everything >= 0, `(N, 1)`."""
        dh, dnu, ds, dmu = direction
        pairs = [(self.s, ds), (self.mu, dmu)] + ([(self.h, dh), (self.nu, dnu)] if self.problem.nonnegative else [])
        step = torch.ones(self.problem.N, 1, dtype=dh.dtype, device=dh.device)
        for x, d in pairs:
            ratio = torch.where(d < 0, -x / d, torch.ones_like(x)).amin(1, keepdim=True)
            step = torch.minimum(step, ratio)
        return step
