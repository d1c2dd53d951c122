"""Batched primal-dual interior point, Mehrotra's predictor-corrector, float64: insensitive to conditioning.

The problem min 1/2 sum w (W h + b - y)^2 + lam 1'h + gamma/2 |h|^2, w = 0 where rows are only bounded, with slacks s > 0 of
the rows' limits, W h + b + s = hi and lo + s = W h + b (multipliers mu > 0; p gains mu at an upper and loses it at a
lower limit), and, where h >= 0 is asked for, h > 0 (multiplier nu > 0). Newton's step on

    W'p + lam + gamma h - nu = 0,   sign (W h + b - limit) + s = 0,   s mu = sigma t,   h nu = sigma t

eliminates everything but dh: (W' diag(w + sum mu/s) W + diag(gamma + nu/h)) dh = r, one Cholesky factorisation of n x n per
signal and iteration. Without limits the weighted Gram matrix does not change and is formed once. Equal limits have no
inside: they are opened by 1e-9 s_y, and the crossover closes them again. An l2 bound is not seen by this method.

Source: Mehrotra (1992), as in Nocedal and Wright, Numerical Optimization (2006), chapters 14.2 and 16.6.
"""

import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point, spd_solve
from ..rows import weighted_gram
from .loop import AbstractMethod

_KEEP_INSIDE = 0.995
_OPENING = 1e-9  # in units of s_y, 1000 times below the judge's tolerance for a violation


class InteriorPoint(AbstractMethod):
    """See the module. 12 to 40 iterations; memory N n^2."""

    name = "interior_point"
    forms = ("quadratic", "interval")
    otherwise = "it serves squared misfits and linear programs"
    max_iter = 80
    first_check = 4
    needs_float64 = True
    on_halves = True

    def __init__(self, problem: AbstractLayerProblem):
        self.problem, rows = problem, problem.rows
        self.fit = problem.fit
        self.gram = weighted_gram(rows.W, self.fit)
        lo, hi = problem.limits()
        narrow = _OPENING * (hi - lo < 2 * _OPENING)
        self.sides = [
            _Side(sign, torch.isfinite(end), torch.where(torch.isfinite(end), end + sign * narrow, 0.0))
            for sign, end in ((1, hi), (-1, lo))
            if bool(torch.isfinite(end).any())
        ]
        self._start()

    def _start(self) -> None:
        problem, rows = self.problem, self.problem.rows
        eye = torch.eye(problem.n, dtype=rows.y.dtype, device=rows.y.device)
        # a ridge of 1 % of |W|^2 keeps the start moderate whatever the conditioning
        L = torch.linalg.cholesky_ex(rows.gram() + 0.01 * eye)[0]
        h = spd_solve(L, rows.W.adjoint(rows.fit * rows.target) - problem.linear * bool((self.fit > 0).any()))
        shift = 0.1 * h.abs().amax(1, keepdim=True).clamp(min=1e-3)
        self.h = h.clamp(min=0) + shift if problem.nonnegative else h
        v = rows.W(self.h) + rows.b
        for side in self.sides:
            side.start(v)
        slope = rows.W.adjoint(self.fit * rows.residual(self.h)) + problem.linear
        self.nu = slope.clamp(min=0) + shift if problem.nonnegative else torch.zeros_like(self.h)

    def next_check(self, iteration: int) -> int:
        return iteration + 2

    @property
    def patience(self) -> int:
        return 8 if self.problem.form == "interval" else 0

    def worth_polishing(self, iteration: int) -> bool:
        # a polish costs several iterations; before the tenth the activity is rarely right
        return iteration in (10, 14, 20, 28, 40, 60)

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        self.h, self.nu, self.fit = self.h[index], self.nu[index], self.fit[index]
        for side in self.sides:
            side.keep(index)
        if len(self.gram) > 1:
            self.gram = self.gram[index]

    def point(self) -> Point:
        p = self.fit * self.problem.rows.residual(self.h)
        return Point(self.h, p + sum(side.sign * side.mu for side in self.sides))

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._step()

    def _step(self) -> None:
        problem, rows = self.problem, self.problem.rows
        v = rows.W(self.h) + rows.b
        p = self.fit * torch.where(rows.on, v - rows.y, torch.zeros_like(v)) + sum(s.sign * s.mu for s in self.sides)
        r_dual = rows.W.adjoint(p) + problem.linear + problem.quadratic * self.h - self.nu
        for side in self.sides:
            side.look(v)
        count = sum(side.mask.sum(1) for side in self.sides) + (problem.n if problem.nonnegative else 0)
        count = torch.as_tensor(count, device=v.device).clamp(min=1).expand(problem.N)[:, None]
        t = (self._products(0.0) / count).clamp(min=1e-300)

        L = self._factor()
        dh, dnu = self._direction(L, r_dual, [side.s * side.mu for side in self.sides], self.h * self.nu)
        self.dh, self.dnu = dh, dnu
        ahead = self._products(self._longest())
        sigma = ((ahead / count).clamp(min=0) / t).clamp(max=1) ** 3
        second = [side.s * side.mu + side.ds * side.dmu - sigma * t for side in self.sides]
        dh, dnu = self._direction(L, r_dual, second, self.h * self.nu + dh * dnu - sigma * t)
        self.dh, self.dnu = dh, dnu
        step = _KEEP_INSIDE * self._longest()
        parts = [dh, dnu, *(x for side in self.sides for x in (side.ds, side.dmu))]
        good = torch.isfinite(torch.cat([d.sum(1, keepdim=True) for d in parts], 1)).all(1, keepdim=True)
        step = torch.where(good, step, torch.zeros_like(step))
        self.h, self.nu = self.h + step * _finite(dh), self.nu + step * _finite(dnu)
        for side in self.sides:
            side.move(step)

    def _products(self, step: Tensor | float) -> Tensor:
        """Sum of all products after a step along the current direction, `(N, 1)`."""
        total = torch.zeros_like(self.h[:, :1])
        if self.problem.nonnegative:
            ahead = (self.h, self.nu) if isinstance(step, float) else (self.h + step * self.dh, self.nu + step * self.dnu)
            total = total + (ahead[0] * ahead[1]).sum(1, keepdim=True)
        return total + sum(side.products(step) for side in self.sides)

    def _factor(self) -> Tensor:
        problem, rows = self.problem, self.problem.rows
        H = self.gram
        if self.sides:
            H = weighted_gram(rows.W, self.fit + sum(side.mu / side.s for side in self.sides))
        diagonal = problem.quadratic + (self.nu / self.h if problem.nonnegative else torch.zeros_like(self.h))
        floor = 1e-15 * (1 + torch.diagonal(H, dim1=-2, dim2=-1).amax(-1, keepdim=True))
        H = H + torch.diag_embed(diagonal + floor)
        L, info = torch.linalg.cholesky_ex(H)
        if (info != 0).any():
            weak = info != 0
            lift = 1e-10 * torch.diagonal(H[weak], dim1=-2, dim2=-1)
            L[weak] = torch.linalg.cholesky_ex(H[weak] + torch.diag_embed(lift))[0]
        return L

    def _direction(self, L: Tensor, r_dual: Tensor, r_sides: list[Tensor], r_h: Tensor) -> tuple[Tensor, Tensor]:
        rows, nonnegative = self.problem.rows, self.problem.nonnegative
        right = -r_dual
        for side, r_s in zip(self.sides, r_sides, strict=True):
            right = right - rows.W.adjoint(side.push(r_s))
        if nonnegative:
            right = right - r_h / self.h
        dh = spd_solve(L, right)
        dv = rows.W(dh)
        for side, r_s in zip(self.sides, r_sides, strict=True):
            side.aim(dv, r_s)
        return dh, (-r_h - self.nu * dh) / self.h if nonnegative else torch.zeros_like(dh)

    def _longest(self) -> Tensor:
        """Largest common step <= 1 that keeps everything >= 0, `(N, 1)`."""
        pairs = [pair for side in self.sides for pair in ((side.s, side.ds), (side.mu, side.dmu))]
        pairs += [(self.h, self.dh), (self.nu, self.dnu)] if self.problem.nonnegative else []
        step = torch.ones_like(self.h[:, :1])
        for x, d in pairs:
            ratio = torch.where(d < 0, -x / d, torch.ones_like(x)).amin(1, keepdim=True)
            step = torch.minimum(step, ratio)
        return step


class _Side:
    """The upper (sign 1) or lower limits (-1) of the rows, with slacks s and multipliers mu; s = 1, mu = 0 elsewhere."""

    def __init__(self, sign: int, mask: Tensor, limit: Tensor):
        self.sign, self.mask, self.limit = sign, mask, limit

    def start(self, v: Tensor) -> None:
        inside = self.sign * (self.limit - v)
        spread = 0.1 * torch.where(self.mask, v.abs(), 0.0).amax(1, keepdim=True).clamp(min=1e-3)
        self.s = torch.where(self.mask, inside.clamp(min=0) + spread, torch.ones_like(v))
        self.mu = torch.where(self.mask, spread.expand_as(v), torch.zeros_like(v))

    def look(self, v: Tensor) -> None:
        self.r = torch.where(self.mask, self.sign * (v - self.limit) + self.s, torch.zeros_like(v))

    def push(self, r_s: Tensor) -> Tensor:
        """What the eliminated slacks add to the rows' side of Newton's equation."""
        return self.sign * torch.where(self.mask, (self.mu * self.r - r_s) / self.s, torch.zeros_like(r_s))

    def aim(self, dv: Tensor, r_s: Tensor) -> None:
        self.ds = torch.where(self.mask, -self.r - self.sign * dv, torch.zeros_like(dv))
        self.dmu = torch.where(self.mask, (-r_s - self.mu * self.ds) / self.s, torch.zeros_like(dv))

    def products(self, step: Tensor | float) -> Tensor:
        s, mu = (self.s, self.mu) if isinstance(step, float) else (self.s + step * self.ds, self.mu + step * self.dmu)
        return torch.where(self.mask, s * mu, torch.zeros_like(s)).sum(1, keepdim=True)

    def move(self, step: Tensor) -> None:
        self.s, self.mu = self.s + step * _finite(self.ds), self.mu + step * _finite(self.dmu)

    def keep(self, index: Tensor) -> None:
        for name in ("mask", "limit", "s", "mu"):
            setattr(self, name, getattr(self, name)[index])


def _finite(d: Tensor) -> Tensor:
    return torch.nan_to_num(d, nan=0.0, posinf=0.0, neginf=0.0)
