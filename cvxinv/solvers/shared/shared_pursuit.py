"""Basis pursuit with an l2 bound for signals that share their Gram matrix: the ADMM of `shared_admm` with lam on the way.

The LASSO with penalty lam and answer h(lam) has a misfit of square phi(lam) = A + B lam^2 while its activity stays (`ball`).
Every few iterations phi is read off z and its full gradient, and lam moves to ((eps^2 - A) / B)^(1/2): B is the slope of
phi in lam^2 since the last move, 1_A'G^-1 1_A, an upper bound on the activity A, before that. A new lam is one multiple of
(G + rho)^-1 1 in q, so h follows without starting again. A gap D of the LASSO bounds the misfit's error by (2 D)^(1/2), and
lam moves only where that is less than half of what the misfit is off; so every move is one in the right direction.

The dual point is that of `shared_admm` over lam: with W'p + lam >= 0 the bound is (-p'(y - b) - eps |p|) / lam, in which
|p| and p'(y - b) are known from n numbers each. The gap is of first order in |misfit| - eps only. What is left of that is
taken up by h: (1 + t) h with the smallest t >= 0 whose misfit is eps, the lesser root of a quadratic in n numbers, costs
t |h|_1, of the same order, and keeps the bound to rounding.

Source: `sparse` note 5.2 for the two closed forms; van den Berg and Friedlander (2008) for the root of the trade-off curve.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from .shared_admm import RUN, SHARE, AbstractSharedADMM
from .shared_gram import RELAX

NEXT_TO_NONE = 1e-6  # an l2 bound in units of s_y that asks for equations: their penalty is 0, their answer a vertex
_ROUNDING = 64  # of float64, and of the signal's square: how well the misfit's is known
_LONGEST = 1e-3  # stretch of h: beyond it the misfit is not next to eps, and lam has to move
_STRETCHED = 2.0  # of the tolerance: the longest stretch of an answer
_STEP = 4.0  # lam changes by at most this factor between two looks
_LOWEST = 1e-6  # of the lam from which h = 0 on: below it the misfit has no room left, or next to none


@dataclass(frozen=True)
class SharedPursuit(AbstractSharedADMM):
    """`shared_admm` with the penalty on the way; a shared Gram matrix, no off rows."""

    name = "shared_pursuit"
    forms = ("ball",)
    otherwise = "it serves l2 bounds on the misfit"
    first_check = RUN
    kept = (*AbstractSharedADMM.kept, "eps", "highest", "phi", "before", "length", "slope", "off", "moves", "stretch")

    def begin(self, problem: AbstractLayerProblem) -> None:
        self.eps = problem.number("eps").double()
        super().begin(problem)
        one = torch.ones(1, problem.n, dtype=self.b.dtype, device=self.b.device)
        self.shift = self.gram.times(one, self.gram.K)  # (G + rho)^-1 1
        self.phi = torch.zeros_like(self.half)
        self.slope, self.off = torch.zeros_like(self.half), torch.zeros_like(self.half)
        self.stretch = torch.zeros_like(self.half)
        self.moves = torch.ones_like(self.stale, dtype=torch.bool)
        self.wanted: Tensor | None = None
        self.before = torch.zeros(problem.N, 2, dtype=self.b.dtype, device=self.b.device)  # lam^2 and phi at the last move

    def _first_work(self) -> torch.dtype:
        """The square of a misfit of 1e-2 is 1e-4 of what it is a difference of, and wanted to 1e-4."""
        return torch.float64

    def _penalty(self, c: Tensor) -> Tensor:
        self.length = (2 * self.half).sqrt()
        self.highest = (c.abs() if self.problem.absolute else c).amax(1).clamp(min=torch.finfo(c.dtype).tiny)
        share = self.eps / self.length.clamp(min=torch.finfo(c.dtype).tiny)
        return (self.highest * share.clamp(1e-4, 1.01))[:, None]

    def advance(self, steps: int) -> None:
        if self.wanted is not None:
            self._aim(self.wanted)
        super().advance(steps)

    def keep(self, index: Tensor) -> None:
        super().keep(index)
        self.wanted = None if self.wanted is None else self.wanted[index]

    def _look(self) -> None:
        self._full_step()
        z, lam = self.z, self.lam[:, 0]
        size, twice = z.abs().sum(1), 2 * self.half
        c = self.b if self.problem.absolute else self.b + self.lam
        slope = self._slope()
        self.phi = self._square()
        d, slack = self._repair(self.g)
        e = self._repaired(d)
        short = self.gram.ridge * e.abs().amax(1)
        self.off = (2 * (slack + (d * e).sum(1) / 2 + short * size)).clamp(min=0).sqrt()
        # p = w (W (z + e) + b - y)
        square = (self.phi + (e * (2 * slope + d)).sum(1)).clamp(min=0)
        linear = twice - ((z + e) * c).sum(1)
        self.stretch = self._stretch(slope)
        self.gap = size * (1 + self.stretch) - (linear - self.eps * square.sqrt()) / (lam + short)

    def _stretch(self, slope: Tensor) -> Tensor:
        """t >= 0, `(N,)`, with |misfit of (1 + t) z| = eps where that of z is larger; 0 where no small one is found."""
        over = self.phi + _ROUNDING * torch.finfo(self.phi.dtype).eps * self.half - self.eps**2
        c = self.b if self.problem.absolute else self.b + self.lam
        falls, bends = -(self.z * slope).sum(1), (self.z * (slope + c)).sum(1)
        inside = falls * falls - bends * over
        t = over / (falls + inside.clamp(min=0).sqrt())
        return torch.where((over > 0) & (falls > 0) & (inside >= 0) & (t < _LONGEST), t, 0.0)

    def _slope(self) -> Tensor:
        """W'w (W z + b - y)."""
        return self.g if self.problem.absolute else self.g - self.lam

    def _square(self) -> Tensor:
        """Of the misfit at z, `(N,)`."""
        c = self.b if self.problem.absolute else self.b + self.lam
        return (2 * self.half + (self.z * (self._slope() - c)).sum(1)).clamp(min=0)

    def done(self, tol: float) -> Tensor:
        if self.gap is None:
            self._look()
        assert self.gap is not None
        size, misfit = self.z.abs().sum(1), self.phi.sqrt()
        # the estimate of the gap may be too good by a fifth of the stretch
        met = ((self.stretch > 0) | (misfit <= self.eps)) & (self.stretch <= _STRETCHED * tol)
        done = (self.gap <= SHARE * tol * size) & met
        done |= (size == 0) & (self.length <= self.eps)
        done &= self.eps > NEXT_TO_NONE
        self.wanted = self.eps
        self.moves = self.off < 0.5 * (misfit - self.wanted).abs()
        self._count(self.off, done)
        self.stale = torch.where(self.moves, 0, self.stale)
        self.least = torch.where(self.moves, torch.inf, self.least)
        return done

    def point(self) -> Point:
        """The point of the LASSO, its p over lam: W'p + 1 >= 0, as the basis pursuit has it."""
        point = super().point()
        return Point(
            point.h * (1 + self.stretch[:, None].to(point.h)),
            point.p / self.lam.to(point.p).clamp(min=torch.finfo(point.p.dtype).tiny),
        )

    def given_up(self) -> Tensor:
        return super().given_up() | (self.lam[:, 0] <= _LOWEST * self.highest) | (self.eps <= NEXT_TO_NONE)

    def _aim(self, wanted: Tensor) -> None:
        """Move lam to where the misfit is `wanted`."""
        lam, active = self.lam[:, 0], self.z.sign()
        there = torch.stack([lam**2, self.phi], 1)
        step = there - self.before
        first = self.before[:, 0] == 0
        if bool(first.any()):
            self.slope = torch.where(first, (active * self.gram.repair(active)).sum(1), self.slope)
        secant = step[:, 1] / step[:, 0]
        usable = ~first & torch.isfinite(secant) & self.moves
        secant = torch.where(usable, secant, self.slope)
        self.slope = secant.clamp(self.slope / 10, self.slope * 10).clamp(min=1e-300)
        new = (lam**2 + (wanted**2 - self.phi) / self.slope).clamp(min=0).sqrt()
        new = torch.minimum(new.clamp(lam / _STEP, lam * _STEP), 1.01 * self.highest)
        self.before = torch.where(self.moves[:, None], there, self.before)
        self.wanted = None
        self._move(torch.where(self.moves, new, lam))

    def _move(self, lam: Tensor) -> None:
        """Go on with the penalties lam `(N,)`, and h where it is already on its way to them."""
        change = lam[:, None] - self.lam
        self.lam = lam[:, None]
        if not self.problem.absolute:
            self.b = self.b - change
            self.q.sub_(change * self.shift, alpha=RELAX)
            self.s.sub_(change * self.shift, alpha=RELAX)


class Approach(SharedPursuit):
    """The iteration for a method that solves on activities: it asks for no gap, and float32 serves."""

    repairs = False

    def _first_work(self) -> torch.dtype:
        return AbstractSharedADMM._first_work(self)

    def _penalty(self, c: Tensor) -> Tensor:
        return super()._penalty(c).to(c)

    def _look(self) -> None:
        self._full_step()
        self.phi = self._square()

    def run(self, moves: int = 6, steps: int = 25) -> tuple[Tensor, Tensor]:
        """The activity `(N, n)` and lam `(N,)` in float64 after some iterations.

        lam moves in proportion: with fewer rows than unknowns the misfit has no other part than lam's. No bound is asked
        for, which there would need ten times the iterations.
        """
        eps = self.eps.to(self.b)
        for _ in range(moves):
            self.advance(steps)
            self._look()
            share = eps / self.phi.sqrt().clamp(min=torch.finfo(self.phi.dtype).tiny)
            self._move((self.lam[:, 0] * share.clamp(1 / _STEP, _STEP)).minimum(1.01 * self.highest))
        return self.z > 0, self.lam[:, 0].double()
