"""Basis pursuit with an l2 bound by root finding on the penalty of the LASSO that has the same answer.

The LASSO min 1/2 |misfit|^2 + lam 1'h (with the same off rows) has a misfit that grows with lam, from the smallest that is
possible at lam = 0 to that of h = 0. The lam at which it is eps gives the basis pursuit, with p = p_lasso / lam. Each round
solves the LASSO exactly at the current lam, by block pivoting from the last point or by interior point, and reads the
next lam in closed form off its activity (`ball`): where the activity stays, that is the answer. A lam outside the bracket
that the misfits have left is replaced by the bracket's geometric middle, so that every round counts. Secant steps have
no such bracket, and stop early on wide layers. Where an activity leaves no lam at all, as even its best fit is longer than
eps, the lowest lam is tried once: a misfit that is longer there is so for every lam, and no round more finds one. So is
the highest where no misfit was longer so far: off rows may push h so far that none is.

Before that, lam is tried as one more unknown of block pivoting: each guess of what is active gives lam in closed form, and
h at that lam the next guess. Where a guess repeats, it is the answer, and most signals end there.
Where all signals share their Gram matrix, the first guess is what `shared_pursuit` has reached after some time: on wide
layers a guess from the correlations alone frees more unknowns than there are rows, and ends nowhere.

Source: `sparse` note 5.2 (link to the LASSO); van den Berg and Friedlander (2008) for root finding on the trade-off curve.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.nonnegative_lasso import NonnegativeLasso
from ...memory import room
from ..active_set.guesses import equations, on_grams, pads
from ..active_set.pivoting import BlockPivoting
from ..loop import run
from ..pairs import apart, held_of, pairs_of, together
from ..shared.shared_pursuit import NEXT_TO_NONE, Approach
from ..solver import AbstractSolver
from .ball import Guessed, piece_of
from .bordered import Borders
from .interior_point import InteriorPoint

_ROUNDS = 20  # of block pivoting with lam as an unknown
_MEMORY = 500_000_000  # bytes of factors at once
_CLOSE = 1e-9  # tolerance of a LASSO by interior point
_CLOSE_TO_PAIRS = 1e-6  # where two rows that are nearly one are held as one, closer is not to be had
_LOWEST = 1e-14  # lam in normalised units below which the LASSO is least squares in float64
_LONGER = 1e-12  # of eps: a misfit at the lowest lam that is longer by less may be so by rounding
_CLOSED = 1e-14  # of lam: a bracket of this width holds no other


@dataclass(frozen=True)
class RootFinding(AbstractSolver):
    """The penalty whose LASSO has that misfit, one LASSO per round, about 5 to 15 rounds; off rows."""

    name = "root_finding"
    forms = ("ball",)
    otherwise = "it serves l2 bounds on the misfit"
    max_iter = 40
    first_check = 1
    needs_float64 = True
    exact = True
    on_halves = True

    def begin(self, problem: AbstractLayerProblem, near: Point | None = None) -> None:
        """near: a point of the problem whose activity is all but right."""
        rows, self.near = problem.rows, near
        self.eps = problem.number("eps")
        slope = rows.W.adjoint(rows.fit * rows.target).amax(1).clamp(min=_LOWEST)
        self.high, self.low = 1.01 * slope, torch.full_like(slope, _LOWEST)
        share = self.eps / rows.target.norm(dim=1).clamp(min=1e-300)
        self.lam = slope * share.clamp(1e-6, 0.5)
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
        self.p = torch.zeros_like(rows.y)  # of the LASSO
        self.best = Point(self.h, self.p)
        self.settled = torch.zeros(problem.N, dtype=torch.bool, device=rows.y.device)
        # the ends of the bracket that were tried, or need not be
        self.below, self.above, self.hopeless = (torch.zeros_like(self.settled) for _ in range(3))
        shared = near is None and Approach.refuses(problem) is None and bool((self.eps > NEXT_TO_NONE).all())
        self.ahead = Approach().start(problem) if shared else None
        self.grams = on_grams(rows)
        self.started, self.rounds = False, 0
        self.pairs = pairs_of(rows)

    def next_check(self, iteration: int) -> int:
        return iteration + 1

    def done(self, tol: float) -> Tensor | None:
        """Which signals' guess repeated: their points are exact. Later rounds cannot tell."""
        return None if self.rounds else self.settled

    def given_up(self) -> Tensor | None:
        """Which signals' bracket holds no other lam, as it does where none brings the misfit to eps."""
        return self.hopeless if self.rounds else None

    @property
    def patience(self) -> int:
        return 4

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        for name in ("eps", "high", "low", "lam", "h", "p", "settled", "below", "above", "hopeless"):
            setattr(self, name, getattr(self, name)[index])
        self.best = Point(self.best.h[index], self.best.p[index])
        self.pairs = None if self.pairs is None else self.pairs.take(index)
        if len(self.grams) > 1:
            self.grams = self.grams[index]

    def point(self) -> Point:
        return Point(self.best.h, apart(self.pairs, self.best.p))

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            if self.started:
                self._round()
            else:
                self._pivot()
                self.started = True

    def _pivot(self) -> None:
        """Block pivoting with lam as an unknown; keeps what settled, and the last lam of what did not."""
        problem, rows = self.problem, self.problem.rows
        c = rows.W.adjoint(rows.fit * rows.target)
        free, tight = c > self.lam[:, None], torch.zeros_like(rows.on) if self.pairs is None else self.pairs.equal
        if self.near is not None:
            # the LASSO of the start, whose p is lam times this one
            length = torch.where(rows.on, self.near.p**2 / rows.weight, 0.0).sum(1).sqrt().clamp(min=1e-300)
            self.lam = (self.eps / length).clamp(self.low, self.high)
            p = self.lam[:, None] * self.near.p
            free = self.near.h > 0
            tight = held_of(rows, self.pairs, together(self.pairs, p) + (rows.W(self.near.h) + rows.b))
        elif self.ahead is not None:
            free, self.lam = self.ahead.run()
            self.ahead = None
        lam = self.lam.clone()
        self.best = Point(self.best.h.clone(), self.best.p.clone())
        for left in torch.arange(problem.N, device=c.device).split(max(1, room(c.device, _MEMORY) // (8 * problem.n**2))):
            self._settle(left, free[left], tight[left], c, lam)
        self.lam = torch.where(torch.isfinite(lam) & (lam > self.low) & (lam < self.high), lam, self.lam)

    def _settle(self, left: Tensor, free: Tensor, tight: Tensor, c: Tensor, lam: Tensor) -> None:
        """Rounds for the signals at `left` from the guesses (free, tight); sets their best points, `lam` and `settled`."""
        borders, diagonal = self._borders(), torch.diagonal(self.grams, dim1=-2, dim2=-1)
        for _ in range(_ROUNDS):
            part = self.problem if len(left) == self.problem.N else self.problem.take(left)
            guess = self._guess(borders, part, left, free, tight, c[left])
            own = diagonal if len(diagonal) == 1 else diagonal[left]
            new = _Revised(guess, own, lam[left])
            repeats = guess.system.sound & new.repeats(free, tight)
            if bool(repeats.any()):
                guess.correct(repeats)
                new = _Revised(guess, own, lam[left])
            settled = repeats & new.repeats(free, tight)
            self.best.h[left], self.best.p[left] = new.h.clamp(min=0), new.p / new.lam[:, None]
            lam[left], self.settled[left] = new.lam, settled
            going = guess.system.sound & ~settled
            left, free, tight = left[going], new.free[going], new.tight[going]
            if len(left) == 0:
                return

    def _borders(self) -> Borders | None:
        """Factors that are kept from guess to guess, where that is possible and pays."""
        rows = self.problem.rows
        return None if pads(rows.W.matrix()) or bool(rows.off.any()) else Borders(self.grams, rows.m)

    def _guess(
        self, borders: Borders | None, part: AbstractLayerProblem, left: Tensor, free: Tensor, tight: Tensor, c: Tensor
    ) -> Guessed:
        if borders is not None:
            return Guessed(borders.equations(left, free), part, c)
        none = torch.zeros_like(c[:, 0])
        return Guessed(equations(self.grams, part.rows.W.matrix(), left, free, tight, none, none), part, c)

    def _round(self) -> None:
        self.rounds += 1
        rows = self.problem.rows
        self._solve_lasso()
        r = rows.residual(self.h)
        long = (rows.fit * r * r).sum(1).sqrt() > self.eps * torch.where(self.lam <= _LOWEST, 1 + _LONGER, 1.0)
        self.high = torch.where(long, torch.minimum(self.high, self.lam), self.high)
        self.low = torch.where(long, self.low, torch.maximum(self.low, self.lam))
        piece = piece_of(self.problem, Point(self.h, self.p / self.lam[:, None]))
        self.best = piece.point
        inside = (piece.lam > self.low) & (piece.lam < self.high)
        middle = (self.low.clamp(min=1e-8 * self.high) * self.high).sqrt().clamp(min=_LOWEST)
        self.lam = torch.where(inside, piece.lam, middle)
        self.hopeless = self.high <= (1 + _CLOSED) * self.low
        self.above = self.above | long
        none, slack = torch.isnan(piece.lam) & ~self.below, ~inside & ~long & ~self.above
        self.lam = torch.where(none, _LOWEST, torch.where(slack, self.high, self.lam))
        self.below, self.above = self.below | none, self.above | slack

    def _solve_lasso(self) -> None:
        """h and p of the LASSO at the current lam, exactly."""
        lasso = NonnegativeLasso(self.problem.rows, self.lam)
        pivoting = BlockPivoting().start(lasso, grams=self.grams, near=Point(self.h, self.p) if self.started else None)
        self.started = True
        pivoting.advance(20)
        self.h, self.p = (x.clone() for x in pivoting.point())
        left = (~pivoting.settled).nonzero()[:, 0]
        if len(left):
            tol = _CLOSE if self.pairs is None else _CLOSE_TO_PAIRS
            found = run(InteriorPoint(), lasso.take(left), tol=tol).point
            self.h[left], self.p[left] = found.h, found.p


class _Revised:
    """The point of a guess at the lam that meets eps, and the guess that follows from it."""

    def __init__(self, guess: Guessed, diagonal: Tensor, lam: Tensor):
        rows = guess.rows
        self.lam = torch.where(guess.lam > 0, guess.lam, 0.3 * lam)  # no room on this guess: it frees too little
        self.met = guess.lam > 0
        self.h, self.p = guess.h0 + self.lam[:, None] * guess.d, guess.p0 + self.lam[:, None] * guess.e
        self.free = self.h * diagonal > rows.W.adjoint(self.p) + self.lam[:, None]
        self.tight = held_of(rows, pairs_of(rows), self.p + (guess.v0 + self.lam[:, None] * guess.v1))

    def repeats(self, free: Tensor, tight: Tensor) -> Tensor:
        """Where it is the same guess, `(N,)`."""
        return self.met & (self.free == free).all(1) & (self.tight == tight).all(1)
