"""Interior point for linear programs whose rows have a price: the largest excess, the sum of all, or that of all rooms.

All are min over x of cost'x + sup {q'(M x - d): low <= q <= high}, with x >= 0 where asked:

    sum of excesses      x = h, M = W, d = y - b, q = p between -w^(1/2) and w^(1/2) on on, 0 and 1 on off; cost 0
    largest excess       x = (h, delta), M = (W, -u; -W, -u) with u = 1 / w^(1/2), d = (y - b; b - y), q >= 0 the parts
                         of p = q_1 - q_2, without an upper end; cost 1 for delta, which is >= 0
    sum of rooms         as the sum of excesses, q = p >= -w^(1/2) on on, 0 on off, without an upper end: no row is exceeded

With a > 0 the excess (where high is finite) and c > 0 the room of M x - d = a - c, and nu > 0 the multiplier of x >= 0,
Newton's step on

    M x - d - a + c = 0,   M'q + cost - nu = 0,   a (high - q) = t,   c (q - low) = t,   x nu = t

eliminates all but dx: (M' diag(1 / (a / (high - q) + c / (q - low))) M + diag(nu / x)) dx = r, one n x n Cholesky factor
per signal and iteration, with delta as a border. Primal and dual steps have lengths of their own; a predictor chooses t. q
stays within its ends, so every iterate's p is dual feasible but for W'p. Started at ridge least squares, with products of
one size.

Source: Mehrotra (1992), as in Nocedal and Wright (2006), chapter 14.2; for the sum of excesses it is the method of Portnoy
and Koenker, "The Gaussian hare and the Laplacian tortoise" (1997).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...layers.core.misfits import AbstractExcesses, LargestExcess
from ...layers.core.problem import AbstractLayerProblem, Point
from ..solver import AbstractSolver
from .systems import NewtonMatrix

_KEEP_INSIDE = 0.995
_RIDGE = 1e-6  # of the least-squares start, in units of |W|^2
_LEAST = 1e-3  # room, excess and h at the start, in units of s_y
_SMALLEST = 1e-20  # products that are aimed at: below it the steps are rounding
_LOOKS = (8, 12, 16, 20, 28, 40, 60)  # iterations after which everyone is looked at and polished


@dataclass(frozen=True)
class ElasticInteriorPoint(AbstractSolver):
    """A factorisation per signal and iteration, insensitive to conditioning; 10 to 30 iterations; memory N n^2."""

    name = "elastic_interior_point"
    forms = ("excess",)
    otherwise = "it serves the largest excess and sums of excesses or rooms"
    max_iter = 80
    first_check = 4
    needs_float64 = True

    def begin(self, problem: AbstractLayerProblem) -> None:
        self.iteration = 0
        self.program = _Program(problem)
        self.matrix = NewtonMatrix(problem.rows, torch.zeros_like(problem.rows.y))
        self._start()

    def _start(self) -> None:
        problem, rows, program = self.problem, self.problem.rows, self.program
        ridge = torch.full_like(rows.y[:, :1], _RIDGE).expand(-1, problem.n)
        self.matrix.factor(rows.fit, ridge)
        h = torch.nan_to_num(self.matrix.solve(rows.W.adjoint(rows.fit * rows.target)))
        if problem.nonnegative:
            error = (-h).clamp(min=0).square().mean(1, keepdim=True).sqrt()
            h = torch.maximum(h, torch.maximum(error, 0.01 * h.abs().amax(1, keepdim=True)).clamp(min=_LEAST))
        self.x, self.a, self.c, self.q = program.begin(h)
        t = (self.c * (self.q - program.low) * program.there).amax((0, 2))[:, None]
        self.nu = torch.where(program.signed, t / self.x.clamp(min=_LEAST), 0.0)

    def next_check(self, iteration: int) -> int:
        return iteration + 1

    def worth_polishing(self, iteration: int) -> bool:
        return iteration in _LOOKS

    @property
    def patience(self) -> int:
        return 6

    def keep(self, index: Tensor) -> None:
        super().keep(index)
        self.program = _Program(self.problem)
        self.x, self.nu = self.x[index], self.nu[index]
        self.a, self.c, self.q = (x[:, index] for x in (self.a, self.c, self.q))
        self.matrix.keep(index)

    def point(self) -> Point:
        return Point(self.x[:, : self.problem.n], self.program.p(self.q))

    def done(self, tol: float) -> Tensor:
        """Signals whose products and residuals leave a relative gap below `tol`, by this method's own account."""
        if self.iteration in _LOOKS:
            return torch.ones(self.problem.N, dtype=torch.bool, device=self.x.device)
        h = self.x[:, : self.problem.n]
        objective = self.problem.objective(h)
        gap = objective - self.problem.misfit.earned(self.problem.misfit.clipped(self.program.p(self.q))).linear
        left = self.program.adjoint(self.q) + self.program.cost - self.nu
        allowed = torch.maximum(tol * objective, self.problem.floor(tol))
        met = self.problem.violation(h) <= tol  # an h inside is never below 0
        return met & (gap + (left.abs() * self.x.abs()).sum(1) <= allowed)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._step()
        self.iteration += steps

    def _step(self) -> None:
        newton = _Newton(self)
        move = newton.move(*newton.products(torch.zeros_like(newton.t)))
        ahead = newton.product_after(move, *newton.longest(move))
        target = ((ahead / newton.t).clamp(0, 1) ** 3 * newton.t).clamp(min=_SMALLEST)
        move = newton.move(*newton.products(target, move))
        primal, dual = ((_KEEP_INSIDE * step).clamp(max=1) for step in newton.longest(move))
        good = torch.isfinite(primal) & torch.isfinite(dual)
        primal, dual = (torch.where(good, step, 0.0) for step in (primal, dual))
        move = _Move(*(torch.nan_to_num(d, nan=0.0, posinf=0.0, neginf=0.0) for d in move))
        self.x, self.a, self.c = self.x + primal * move.dx, self.a + primal * move.da, self.c + primal * move.dc
        self.q, self.nu = self.q + dual * move.dq, self.nu + dual * move.dnu


class _Program:
    """x, M, d, low, high, cost of the module for a batch; rows of M are `(sides, N, m)`, unknowns `(N, n)` or `(N, n + 1)`.

    there: rows that exist; signed: unknowns with x >= 0; capped: rows with an upper end of q. high: 1 where there is none.
    """

    def __init__(self, problem: AbstractLayerProblem):
        self.problem, rows, misfit = problem, problem.rows, problem.misfit
        assert isinstance(misfit, AbstractExcesses)
        self.largest, self.n, self.width = isinstance(misfit, LargestExcess), problem.n, misfit.width
        d = torch.where(rows.on, rows.target, torch.where(rows.off, -rows.b.expand_as(rows.y), 0.0))
        low, high = misfit.sides
        signed = torch.full_like(rows.y[:, :1], float(problem.nonnegative)).bool().expand(-1, problem.n)
        self.cost = torch.zeros_like(rows.y[:, :1]).expand(-1, problem.n)
        if self.largest:
            self.d, self.there = torch.stack([d, -d]), torch.stack([rows.on | rows.off, rows.on])
            self.low, self.high = torch.zeros_like(self.d), torch.ones_like(self.d)
            self.capped = torch.zeros_like(self.there)
            one = torch.ones_like(self.cost[:, :1])
            self.cost, signed = torch.cat([self.cost, one], 1), torch.cat([signed, one.bool()], 1)
        else:
            self.d, self.low, self.there = d[None], low[None], (rows.on | rows.off)[None]
            self.capped = self.there & torch.isfinite(high)
            self.high = torch.where(torch.isfinite(high), high, 1.0)[None]
        self.signed = signed
        self.products = (self.there.sum((0, 2)) + self.capped.sum((0, 2)) + signed.sum(1)).clamp(min=1)[:, None]

    def begin(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, a, c and q with M x - d = a - c and the products of each row, and of all rows under one delta, of one size."""
        rows = self.problem.rows
        r = torch.where(self.there[0], rows.W(h) - self.d[0], 0.0)
        if not self.largest:
            size = (r.abs().sum(1) / self.there[0].sum(1).clamp(min=1))[:, None].clamp(min=_LEAST)
            a, c = r.clamp(min=0) + size, (-r).clamp(min=0) + size
            q = torch.where(
                self.capped[0], (a * self.high[0] + c * self.low[0]) / (a + c), self.low[0] + self._price() * size / c
            )
            a, c, q = (torch.where(self.there, part[None], one) for part, one in ((a, 1.0), (c, 1.0), (q, 0.0)))
            return h, a, c, q
        most = (torch.where(self.there, torch.stack([r, -r]), 0.0) / self.width.clamp(min=1e-300)).amax((0, 2))
        delta = (1.5 * most).clamp(min=_LEAST)
        c = torch.where(self.there, self.width * delta[:, None] - torch.stack([r, -r]), 1.0)
        q = torch.where(self.there, 1 / c, 0.0)
        q = q / (self.width * q).sum((0, 2)).clamp(min=1e-300)[:, None]
        return torch.cat([h, delta[:, None]], 1), torch.ones_like(c), c, q

    def _price(self) -> Tensor:
        """The mean price of an on row, `(N, 1)`, 1 where there is none."""
        price = -self.low[0].sum(1) / self.problem.rows.on.sum(1).clamp(min=1)
        return torch.where(price > 0, price, 1.0)[:, None]

    def times(self, x: Tensor) -> Tensor:
        """M x."""
        v = self.problem.rows.W(x[:, : self.n])
        rows = torch.stack([v, -v]) - self.width * x[:, self.n :] if self.largest else v[None]
        return torch.where(self.there, rows, 0.0)

    def adjoint(self, q: Tensor) -> Tensor:
        """M'q, for a q that is 0 where no row is."""
        if not self.largest:
            return self.problem.rows.W.adjoint(q[0])
        return torch.cat([self.problem.rows.W.adjoint(q[0] - q[1]), -(self.width * (q[0] + q[1])).sum(1, keepdim=True)], 1)

    def p(self, q: Tensor) -> Tensor:
        """p of the layer problem."""
        return q[0] - q[1] if self.largest else q[0]


class _Move(NamedTuple):
    dx: Tensor
    da: Tensor
    dc: Tensor
    dq: Tensor
    dnu: Tensor


class _Newton:
    """Newton's equations of one iterate, factorised. up, down: high - q and q - low, 1 where there is no such end."""

    def __init__(self, method: ElasticInteriorPoint):
        self.method, program = method, method.program
        self.program, self.there, self.capped, self.signed = program, program.there, program.capped, program.signed
        self.up = torch.where(self.capped, program.high - method.q, 1.0)
        self.down = torch.where(self.there, method.q - program.low, 1.0)
        self.x = torch.where(self.signed, method.x, 1.0)
        self.r = torch.where(self.there, program.times(method.x) - program.d + method.c, 0.0)
        self.r = self.r - torch.where(self.capped, method.a, 0.0)
        self.left = program.adjoint(method.q) + program.cost - method.nu
        softness = torch.where(self.capped, method.a / self.up, 0.0) + method.c / self.down
        self.D = torch.where(self.there, 1 / softness, 0.0)
        self.slope = method.nu / self.x
        total = torch.where(self.capped, method.a * self.up, 0.0) + torch.where(self.there, method.c * self.down, 0.0)
        self.t = ((total.sum((0, 2)) + (self.x * method.nu).sum(1))[:, None] / program.products).clamp(min=1e-300)
        self._factor()

    def _factor(self) -> None:
        program, n = self.program, self.program.n
        self.method.matrix.factor(self.D.sum(0), self.slope[:, :n])
        if program.largest:
            W, width = program.problem.rows.W, program.width
            self.border = -W.adjoint(width * (self.D[0] - self.D[1]))
            self.behind = self.method.matrix.solve(self.border)
            corner = (width * width * self.D.sum(0)).sum(1) + self.slope[:, n]
            self.corner = (corner - (self.border * self.behind).sum(1))[:, None]

    def solve(self, right: Tensor) -> Tensor:
        """dx of the reduced system."""
        n, matrix = self.program.n, self.method.matrix
        first = matrix.solve(right[:, :n])
        if not self.program.largest:
            return first
        last = (right[:, n:] - (self.border * first).sum(1, keepdim=True)) / self.corner
        return torch.cat([first - self.behind * last, last], 1)

    def products(self, target: Tensor, ahead: _Move | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What a, c and nu are to change by, beside their part of dq and dx, to bring all products to `target`."""
        m = self.method
        over = [target] * 3 if ahead is None else [target + ahead.da * ahead.dq, target - ahead.dc * ahead.dq,
                                                   target - ahead.dx * ahead.dnu]  # fmt: skip
        r_a = torch.where(self.capped, over[0] / self.up - m.a, 0.0)
        r_c = torch.where(self.there, over[1] / self.down - m.c, 0.0)
        return r_a, r_c, torch.where(self.signed, over[2] / self.x - m.nu, 0.0)

    def move(self, r_a: Tensor, r_c: Tensor, r_nu: Tensor) -> _Move:
        """Newton's step for such changes."""
        m, program = self.method, self.program
        g = -self.r + r_a - r_c  # M dx - (1 / D) dq = g
        dx = self.solve(-self.left + r_nu + program.adjoint(self.D * g))
        dq = self.D * (program.times(dx) - g)
        da = torch.where(self.capped, r_a + m.a / self.up * dq, 0.0)
        dc = torch.where(self.there, r_c - m.c / self.down * dq, 0.0)
        return _Move(dx, da, dc, dq, torch.where(self.signed, r_nu - self.slope * dx, 0.0))

    def longest(self, move: _Move) -> tuple[Tensor, Tensor]:
        """The longest primal and dual steps that keep all that must be >= 0 there, `(N, 1)` each, 1e6 at most."""
        m = self.method
        primal = torch.maximum((-move.da / m.a).amax((0, 2)), (-move.dc / m.c).amax((0, 2)))
        primal = torch.maximum(primal, torch.where(self.signed, -move.dx / self.x, 0.0).amax(1))
        up = torch.where(self.capped, move.dq / self.up, 0.0).amax((0, 2))
        dual = torch.maximum(up, torch.where(self.there, -move.dq / self.down, 0.0).amax((0, 2)))
        dual = torch.maximum(dual, torch.where(self.signed, -move.dnu / m.nu.clamp(min=1e-300), 0.0).amax(1))
        return 1 / primal.clamp(min=1e-6)[:, None], 1 / dual.clamp(min=1e-6)[:, None]

    def product_after(self, move: _Move, primal: Tensor, dual: Tensor) -> Tensor:
        """The mean product after steps of these lengths, 1 at most."""
        m, primal, dual = self.method, primal.clamp(max=1), dual.clamp(max=1)
        above = torch.where(self.capped, (m.a + primal * move.da) * (self.up - dual * move.dq), 0.0)
        below = torch.where(self.there, (m.c + primal * move.dc) * (self.down + dual * move.dq), 0.0)
        held = torch.where(self.signed, (self.x + primal * move.dx) * (m.nu + dual * move.dnu), 0.0)
        return ((above + below).sum((0, 2)) + held.sum(1))[:, None] / self.program.products
