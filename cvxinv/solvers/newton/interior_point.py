"""Batched primal-dual interior point with centrality correctors, float64: insensitive to conditioning.

The problem min 1/2 sum w (W h + b - y)^2 + lam 1'h + gamma/2 |h|^2, w = 0 where rows are only bounded, with slacks s > 0 of
the rows' limits, W h + b + s = hi and lo + s = W h + b (multipliers mu > 0; p gains mu at an upper and loses it at a
lower limit), and, where h >= 0 is asked for, h > 0 (multiplier nu > 0). Newton's step on

    W'p + lam + gamma h - nu = 0,   sign (W h + b - limit) + s = 0,   s mu = sigma t,   h nu = sigma t

eliminates everything but dh: (W' diag(w + sum mu/s) W + diag(gamma + nu/h)) dh = r, one Cholesky factorisation of n x n per
signal and iteration (`newton`). A solve is cheap beside it, so each factor serves a predictor, a corrector and a few more
that pull outlying products s mu and h nu towards their mean, which lengthens the step. Linear programs take different steps
for h, s and for mu, nu. Equal limits have no inside: they are opened by 1e-9 s_y, and the crossover closes them again. An
l2 bound is not seen by this method.

Started at the least-squares point, moved inside by the size of its errors: at 1 % noise it is 1 % from the optimum, and a
third of the iterations is saved. Rows far inside their limits are left out, of the matrix too, until they have come halfway:
at the end those still out have slack, so their multiplier 0 is right, and the smaller problem's optimum is the problem's.

Mehrotra's corrector presumes a full step, and can go round in circles (of four, on a 12 x 6 layer of condition 4): where the
products do not shrink although the equations all but hold, a plain step towards products of one size takes its place.

Source: Mehrotra (1992), as in Nocedal and Wright, Numerical Optimization (2006), chapters 14.2 and 16.6; correctors:
Gondzio, Multiple centrality corrections in a primal-dual method for linear programming (1996); circles: Cartis, Some
disadvantages of a Mehrotra-type primal-dual corrector interior point algorithm (2009). The start was found here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ..pairs import apart, pairs_of
from ..solver import AbstractSolver
from .systems import NewtonMatrix

_KEEP_INSIDE = 0.995
OPENING = 1e-9  # in units of s_y, 1000 times below the judge's tolerance for a violation
_RIDGE = 1e-4  # of the least-squares start, in units of |W|^2
_FIRST = 0.1  # multipliers at the start, in units of what they end with
_ROUGH = 1e-2  # residual of W'p + 1 - nu = 0 down to which factors in float32 do
_LOOKS = (10, 14, 20, 28, 40, 60)  # a polish costs several iterations; before the tenth the activity is rarely right
_LEAST = 1e-26  # the same for squared misfits, whose optimum may be 0 to 1e-20
_SMALLEST = 1e-18  # product s mu or h nu that is aimed at: below it the steps are rounding
_FAR = 20.0  # rows this many times further inside than the start is wrong are left out at first
_WISH = 0.08  # by how much, and by what share, a corrector is to lengthen the steps
_OUTLIER = 10.0  # products further than this factor from their target are pulled back to it
_STUCK, _MET = 0.9, 1e-3  # a step that leaves more than this share of the products, with the equations met to so much
_CENTRE = 0.3  # of the products: what the plain step out of the circle aims at
_WORTH = 1.02  # a corrector is kept where it lengthens the product of both steps by that


@dataclass(frozen=True)
class InteriorPoint(AbstractSolver):
    """A factorisation per signal and iteration, insensitive to conditioning; 7 to 30 iterations; memory N n^2."""

    name = "interior_point"
    forms = ("quadratic", "interval")
    otherwise = "it serves squared misfits and linear programs"
    max_iter = 80
    first_check = 4
    needs_float64 = True
    on_halves = True

    def begin(self, problem: AbstractLayerProblem) -> None:
        self.fit, n = problem.fit, problem.n
        self.matrix = NewtonMatrix(problem.rows, self.fit)
        # a corrector costs n^2, a factorisation n^3
        self.correctors = min(max(n // 40, 1), 6)
        self.split, self.iteration = problem.form == "interval", 0
        self.residual = torch.full_like(self.fit[:, 0], torch.inf)
        self.lowest = torch.full_like(self.fit[:, :1], torch.inf)
        self._read_limits()
        self._start()

    def _read_limits(self) -> None:
        """sign, limit `(sides, N, m)`: 1 for upper, -1 for lower limits, 0 where there is none."""
        lo, hi = self.problem.limits()
        self.pairs = pairs_of(self.problem.rows) if self.problem.form == "quadratic" else None
        if self.pairs is not None:
            lo, hi = self.pairs.limits(lo, hi)
        narrow = OPENING * (hi - lo < 2 * OPENING).to(hi)
        self.equal, self.width = (narrow > 0).any(1), torch.where(torch.isfinite(hi - lo), hi - lo, 0.0).amax(1)
        ends = [(sign, end + sign * narrow) for sign, end in ((1, hi), (-1, lo)) if bool(torch.isfinite(end).any())]
        none = hi.new_zeros(0, *hi.shape)
        self.limit = torch.stack([end for _, end in ends]) if ends else none
        bounded = torch.isfinite(self.limit)
        self.limit = torch.where(bounded, self.limit, 0.0)
        self.sign = torch.stack([torch.full_like(end, sign) for sign, end in ends]) if ends else none
        self.sign = self.sign * bounded
        # a side without a limit has the slack 1 of its own: it moves nothing, and no mask is needed
        self.offset = torch.where(bounded, self.sign * self.limit, 1.0)
        self.bounds = bounded.sum((0, 2))[:, None] + (self.problem.n if self.problem.nonnegative else 0)
        self.products = (self.limit[:, 0].numel() + (self.problem.n if self.problem.nonnegative else 0)) or 1

    def _start(self) -> None:
        problem, rows = self.problem, self.problem.rows
        ridge = torch.full_like(rows.y[:, :1], _RIDGE).expand(-1, problem.n)
        self.matrix.factor(rows.fit if self.matrix.gram is None else None, ridge)
        h = torch.nan_to_num(self.matrix.solve(rows.W.adjoint(rows.fit * rows.target)))
        if problem.nonnegative:
            error = (-h).clamp(min=0).square().mean(1, keepdim=True).sqrt()
            h = torch.maximum(h, torch.maximum(error, 0.01 * h.abs().amax(1, keepdim=True)).clamp(min=1e-3))
        self.h = h
        v = rows.W(h) + rows.b
        self.s, least = self._inside(v)
        self._put_off(least)
        # nu ends near the weight of 1'h where h = 0; without that weight, near the pull of the quadratic term
        linear = problem.linear.mean(1, keepdim=True)  # of columns that were stretched, some weigh next to nothing
        pull = problem.quadratic.mean(1, keepdim=True) * h.abs().mean(1, keepdim=True)
        scale = torch.maximum(linear, pull).clamp(min=1e-3)
        t = _FIRST * scale * h.abs().mean(1, keepdim=True).clamp(min=1e-3)
        self.mu = t / self.s
        self.nu = t / h if problem.nonnegative else torch.zeros_like(h)

    def _put_off(self, least: Tensor) -> None:
        """Leave out rows far from their limits, `waiting`, until they have come halfway: most never do, and bind nothing."""
        self.waiting = (self.sign != 0) & (self.s > _FAR * least)
        self.true_sign, self.true_offset, self.first = self.sign, self.offset, self.s
        self.sign = torch.where(self.waiting, 0.0, self.sign)
        self.offset, self.s = (torch.where(self.waiting, 1.0, x) for x in (self.offset, self.s))

    def _take_in(self, v: Tensor) -> None:
        """Let rows whose values v have come halfway to their limits join, with products of the present size."""
        slack = self.true_offset - self.true_sign * v
        near = self.waiting & (slack < 0.5 * self.first)
        if not bool(near.any()):
            return
        t = (
            (self.h * self.nu).mean(1, keepdim=True)
            if self.problem.nonnegative
            else (self.s * self.mu).mean((0, 2))[:, None]
        )
        self.waiting = self.waiting & ~near
        self.sign, self.offset = (
            torch.where(near, self.true_sign, self.sign),
            torch.where(near, self.true_offset, self.offset),
        )
        self.s = torch.where(near, torch.maximum(slack, 0.1 * self.first), self.s)
        self.mu = torch.where(near, t / self.s, self.mu)

    def _inside(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Slacks of the rows' values v, where too small as large as the error of v and a quarter of the interval."""
        slack = self.offset - self.sign * v
        wrong = torch.where(self.sign != 0, (-slack).clamp(min=0), 0.0)
        error = (wrong.square().sum((0, 2)) / (self.sign != 0).sum((0, 2)).clamp(min=1)).sqrt()
        least = torch.maximum(0.25 * self.width, error).clamp(min=1e-4)
        return torch.where(self.sign != 0, torch.maximum(slack, least[:, None]), 1.0), least[:, None]

    def next_check(self, iteration: int) -> int:
        return iteration + 1

    @property
    def patience(self) -> int:
        return 8 if self.problem.form == "interval" else 0

    def worth_polishing(self, iteration: int) -> bool:
        return iteration in _LOOKS

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        self.pairs = None if self.pairs is None else self.pairs.take(index)
        for name in ("h", "nu", "fit", "bounds", "residual", "equal", "lowest"):
            setattr(self, name, getattr(self, name)[index])
        for name in ("s", "mu", "sign", "offset", "waiting", "true_sign", "true_offset", "first"):
            setattr(self, name, getattr(self, name)[:, index])
        self.matrix.keep(index)
        self.__dict__.pop("state", None)

    def point(self) -> Point:
        return Point(self.h, apart(self.pairs, self.state.p))

    def done(self, tol: float) -> Tensor:
        """Signals whose products and residuals leave a relative gap below `tol`, by this method's own account.

        At some iterations everyone, for the judge to see what is infeasible and the polish what is stuck. Signals with
        equal limits always: where these contradict each other by a rounding p grows without end, and its early values are
        the best.
        """
        problem, state = self.problem, self.state
        if self.iteration in _LOOKS:
            return torch.ones(problem.N, dtype=torch.bool, device=self.h.device)
        objective = problem.objective(self.h)
        gap = (self.bounds * state.t)[:, 0] + (state.r_dual * self.h).sum(1).abs()
        allowed = torch.maximum(tol * objective.abs(), problem.floor(tol))
        return self.equal | (gap <= allowed) & (state.r.abs().amax((0, 2)) <= tol if len(state.r) else True)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._step()
        self.iteration += steps

    @cached_property
    def state(self) -> "_State":
        """Residuals at the present iterate."""
        problem, rows = self.problem, self.problem.rows
        v = rows.W(self.h) + rows.b
        if bool(self.waiting.any()):
            self._take_in(v)
        p = (self.sign * self.mu).sum(0)
        if not self.split:
            p = p + self.fit * torch.where(rows.on, v - rows.y, 0.0)
        r_dual = rows.W.adjoint(p) + problem.linear + problem.quadratic * self.h - self.nu
        r = self.sign * v + self.s - self.offset
        total = (self.h * self.nu).sum(1) + (self.s * self.mu).sum((0, 2))
        return _State(p, r_dual, r, (total / self.products).clamp(min=1e-300)[:, None])

    def rough(self) -> Tensor | None:
        """Signals far from the end of a linear program, whose next step may be inexact, while their residuals shrink."""
        if not self.split:
            return None
        residual = self.state.r_dual.abs().amax(1)
        rough = (residual > _ROUGH) & (residual < 0.9 * self.residual)
        # a signal that was exact once stays so
        self.residual = torch.where(rough, residual, 0.0)
        return rough

    def _step(self) -> None:
        state, t = self.state, self.state.t
        newton = _Newton(self, state)
        move = newton.move(self.mu, self.nu)  # predictor: products to 0
        ahead = self._product_after(move, *(a.clamp(max=1) for a in newton.longest(move)))
        least = _SMALLEST if self.split else _LEAST
        target = ((ahead / t).clamp(0, 1) ** 3 * t).clamp(min=least)
        r_s = self.mu + (move.ds * move.dmu - target) * newton.over_s
        r_h = self.nu + (move.dh * move.dnu - target) * newton.over_h
        move = newton.move(r_s, r_h)
        lengths = newton.longest(move)
        ahead = self._product_after(move, *(_taken(a) for a in lengths))
        stuck = self._stuck(state) & (ahead > _STUCK * t) & (_CENTRE * t > least)
        if bool(stuck.any()):
            target = torch.where(stuck, _CENTRE * t, target)
            r_s = torch.where(stuck, self.mu - target * newton.over_s, r_s)
            r_h = torch.where(stuck, self.nu - target * newton.over_h, r_h)
            move = newton.move(r_s, r_h)
            lengths = newton.longest(move)
        for _ in range(self.correctors):
            wish = [((1 + _WISH) * a + _WISH).clamp(max=1) for a in lengths]
            shift_s, shift_h = self._outliers(move, wish, target)
            more = newton.move(r_s - shift_s * newton.over_s, r_h - shift_h * newton.over_h)
            longer = newton.longest(more)
            better = _both(longer) >= _WORTH * _both(lengths)
            if not bool(better.any()):
                break
            move = _Move(*(torch.where(better, a, b) for a, b in zip(more, move, strict=True)))
            lengths = [torch.where(better, a, b) for a, b in zip(longer, lengths, strict=True)]
            r_s = torch.where(better, r_s - shift_s * newton.over_s, r_s)
            r_h = torch.where(better, r_h - shift_h * newton.over_h, r_h)
        self._go(move, lengths)

    def _stuck(self, state: "_State") -> Tensor:
        """Signals that all but meet their equations, and whose products have not shrunk since the last iteration."""
        shrunk = state.t < _STUCK * self.lowest
        self.lowest = torch.minimum(self.lowest, state.t)
        wrong = state.r_dual.abs().amax(1, keepdim=True)
        if len(state.r):
            wrong = torch.maximum(wrong, state.r.abs().amax((0, 2))[:, None])
        return ~shrunk & (wrong < _MET)

    def _outliers(self, move: "_Move", step: list[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
        """What the products after a step lack to be within a factor of the target, never more than ten targets down."""
        low, high = target / _OUTLIER, target * _OUTLIER
        parts = []
        for x, dx, u, du in ((self.s, move.ds, self.mu, move.dmu), (self.h, move.dh, self.nu, move.dnu)):
            product = torch.addcmul(x, step[0], dx) * torch.addcmul(u, step[1], du)
            wanted = torch.minimum(torch.maximum(product, low), high)
            parts.append(torch.maximum(wanted - product, -high))
        return parts[0], parts[1]

    def _product_after(self, move: "_Move", primal: Tensor, dual: Tensor) -> Tensor:
        rows = torch.addcmul(self.s, primal, move.ds) * torch.addcmul(self.mu, dual, move.dmu)
        unknowns = torch.addcmul(self.h, primal, move.dh) * torch.addcmul(self.nu, dual, move.dnu)
        return (rows.sum((0, 2)) + unknowns.sum(1))[:, None] / self.products

    def _go(self, move: "_Move", lengths: list[Tensor]) -> None:
        good = torch.isfinite(lengths[0]) & torch.isfinite(lengths[1])
        primal, dual = (torch.where(good, _taken(a), 0.0) for a in lengths)
        if not bool(good.all()):
            move = _Move(*(torch.nan_to_num(d, nan=0.0, posinf=0.0, neginf=0.0) for d in move))
        self.h, self.s = torch.addcmul(self.h, primal, move.dh), torch.addcmul(self.s, primal, move.ds)
        self.nu, self.mu = torch.addcmul(self.nu, dual, move.dnu), torch.addcmul(self.mu, dual, move.dmu)
        self.__dict__.pop("state", None)


class _State(NamedTuple):
    """p `(N, m)`, gradient of the Lagrangian `(N, n)`, residual of the limits `(sides, N, m)`, mean product `(N, 1)`."""

    p: Tensor
    r_dual: Tensor
    r: Tensor
    t: Tensor


class _Move(NamedTuple):
    dh: Tensor
    ds: Tensor
    dnu: Tensor
    dmu: Tensor


class _Newton:
    """Newton's equations of one iterate, factorised."""

    def __init__(self, method: InteriorPoint, state: _State):
        problem = method.problem
        self.W, self.sign, self.split, self.state = problem.rows.W, method.sign, method.split, state
        self.over_s, self.over_mu = 1 / method.s, 1 / method.mu
        self.over_h, self.over_nu = (1 / method.h, 1 / method.nu) if problem.nonnegative else (method.nu, method.nu)
        self.weight, self.slope = method.mu * self.over_s, method.nu * self.over_h
        self.matrix = method.matrix
        rows = (self.weight * self.sign * self.sign).sum(0) if len(self.sign) else None
        self.matrix.factor(rows, self.slope + problem.quadratic, method.rough())
        self.right = -state.r_dual - self.W.adjoint((self.sign * self.weight * state.r).sum(0))

    def move(self, r_s: Tensor, r_h: Tensor) -> _Move:
        """Newton's step for the products' residuals, over s and over h."""
        dh = self.matrix.solve(self.right + self.W.adjoint((self.sign * r_s).sum(0)) - r_h)
        ds = -torch.addcmul(self.state.r, self.sign, self.W(dh))
        return _Move(dh, ds, -torch.addcmul(r_h, self.slope, dh), -torch.addcmul(r_s, self.weight, ds))

    def longest(self, move: _Move) -> list[Tensor]:
        """The longest steps that keep h, s and nu, mu >= 0, `(N, 1)` each; without limit 1e6."""
        primal, dual = _steepest(move.dh, self.over_h), _steepest(move.dnu, self.over_nu)
        if len(self.sign):
            primal = torch.maximum(primal, _steepest(move.ds, self.over_s).amax(0))
            dual = torch.maximum(dual, _steepest(move.dmu, self.over_mu).amax(0))
        steps = [1 / x.clamp(min=1e-6) for x in (primal, dual)]
        return steps if self.split else [torch.minimum(*steps)] * 2


def _steepest(d: Tensor, over: Tensor) -> Tensor:
    return -(d * over).amin(-1, keepdim=True)


def _taken(longest: Tensor) -> Tensor:
    """The part of the longest step that is taken."""
    return (_KEEP_INSIDE * longest).clamp(max=1)


def _both(steps: list[Tensor]) -> Tensor:
    return steps[0].clamp(max=1) * steps[1].clamp(max=1)
