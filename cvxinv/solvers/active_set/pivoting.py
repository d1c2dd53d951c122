"""Block pivoting: active-set rounds for whole batches, in which each signal costs the size of its own support.

With A = the free unknowns (the others are 0) and I = the off rows at their bound, a guess (A, I) gives h and mu by

    [H_AA  W_IA'] [h_A ]   [c_A - lam]         H = W'w W + gamma,   c = W'w (y - b)
    [W_IA   0   ] [mu_I] = [  -b_I   ]

and the next guess is A = {h_j > nu_j / H_jj}, I = {mu + W h + b > 0} with nu = W'(w (W h + b - y) + mu) + lam + gamma h the
reduced cost. A guess that repeats is the optimum. Two to eight rounds are usual, and nothing forces them to end: on
ill-conditioned layers with off rows most signals go round in circles.

A signal that does so follows a path instead. With t > 0 its equations are those of

    minimise over h >= 0, maximise over mu >= 0    objective + mu'(W h + b) + t d / 2 |h|^2 - t / 2 |mu|^2

(d the mean diagonal of H): a matrix whose principal minors are all positive, on which rounds settle, the faster the larger
t is. t is divided by ten as soon as a guess changes little, and set to 0 where it no longer changes; where rounds do not
settle they go back to the last guess that did and take half the step. What is lost by then (H_AA
singular at t = 0, as where lam = 0 leaves h open) is left to another method.

Grams: one matrix where all signals see the same rows, else formed signal by signal, in float32 where its pivots allow it.
A signal whose guess repeats is refined against W itself in float64, so that neither the squared condition of H nor
float32 costs digits; where refinement does not converge the Gram matrix is formed again in float64.

Source: Portugal, Judice, Vicente (1994), Kim and Park (2011) for block pivoting; the off rows, the path and the precisions
are added here. `first_guess` says where batches with off rows begin, `guesses` how the equations are solved.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...generator.maps import AbstractMap
from ...layers.core.problem import AbstractLayerProblem, Point
from ..pairs import Pairs, apart, held, pairs_of, together
from ..solver import AbstractSolver
from .first_guess import first_guess
from .guesses import LazyGrams, equations, on_grams, pads

_PATIENCE = 4  # rounds without fewer changes than ever before: a guess that cycles never settles
_FIRST, _HIGHEST, _LAST = 0.1, 100.0, 1e-7  # of t, in units in which |W| = 1 and rows weigh 1
_SHORTEST = 0.01  # step of the path, in decades of t
_SHORTEST_OPEN = 0.2  # the same without a penalty and with fewer rows on than unknowns, where few paths end at t = 0
_FEW = 2  # changes of a guess with which the path goes on
_BATCH = 32  # signals for which a first guess is worth its overhead
_TINY = 1e-4  # a misfit in units of s_y from which its rounding is seen in the bound
_UNSEEN = 1e-13  # of a reduced cost: next to nothing where there is no penalty, and rounding where the misfit is 0
_LATE = 15  # rounds from which on that counts: before, guesses that settle do so by their signs
_SLOPPY = 1e-9  # a residual of the equations in units of s_y that one more correction makes exact


@dataclass(frozen=True, eq=False)
class _Data:
    """What the rounds read, per signal: tensors `(N, m)`, `(N, n)` or `(N, 1)`, and the map that all share."""

    W: AbstractMap
    b: Tensor
    y: Tensor
    fit: Tensor
    off: Tensor
    right: Tensor  # c - lam
    diagonal: Tensor  # of H
    size: Tensor  # mean of the diagonal of H, `(N,)`
    linear: Tensor
    quadratic: Tensor
    cold: Tensor  # A to begin with
    unseen: Tensor  # a reduced cost below 0 by no more than this frees nothing
    shortest: Tensor  # step of the path, in decades of t, `(N,)`
    nonnegative: bool
    equal: Tensor | None  # rows that are at their bound whatever h is; None where no signal has any

    @classmethod
    def of(cls, problem: AbstractLayerProblem, pairs: Pairs | None) -> "_Data":
        rows, M = problem.rows, problem.rows.W.matrix()
        right = rows.W.adjoint(rows.fit * rows.target) - problem.linear
        cold = (right > 0) | (problem.linear == 0) if problem.nonnegative else torch.ones_like(right, dtype=torch.bool)
        diagonal = rows.fit @ (M * M) + problem.quadratic
        size, bare = diagonal.mean(1), (problem.linear == 0) & (problem.quadratic == 0)
        open_ = bare[:, 0] & (rows.on.sum(1) < problem.n)
        shortest = torch.where(open_, torch.full_like(size, _SHORTEST_OPEN), _SHORTEST)
        return cls(
            rows.W, rows.b.expand_as(rows.y), rows.y, rows.fit,
            rows.off if pairs is None else pairs.off, right, diagonal,
            torch.where(size > 0, size, torch.ones_like(size)), problem.linear, problem.quadratic, cold,
            _UNSEEN * bare.to(right), shortest, problem.nonnegative, None if pairs is None else pairs.equal,
        )  # fmt: skip

    def take(self, index: Tensor) -> "_Data":
        """The signals at `index` (a bool mask or positions)."""
        chosen: dict[str, Any] = {f.name: x[index] for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor)}
        return replace(self, **chosen)

    @property
    def no_row(self) -> Tensor:
        """The rows at their bound where no multiplier is known, bool `(N, m)`."""
        return torch.zeros_like(self.off) if self.equal is None else self.equal

    def slope_and_rows(self, h: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced cost `(N, n)` and W h + b `(N, m)`."""
        v = self.W(h).add_(self.b)
        p = (v - self.y).mul_(self.fit).add_(mu)
        return self.W.adjoint(p).add_(self.linear).addcmul_(self.quadratic, h), v


@dataclass(frozen=True)
class BlockPivoting(AbstractSolver):
    """Active-set rounds at the size of each support; off rows, masks that differ; exact where it settles.

    One round is one Cholesky factorisation of the support's size per unsettled signal.
    """

    name = "block_pivoting"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    max_iter = 100
    first_check = 10
    needs_float64 = True
    exact = True
    on_halves = True

    def begin(
        self, problem: AbstractLayerProblem, grams: Tensor | LazyGrams | None = None, near: Point | None = None
    ) -> None:
        """grams: of the problem's rows, where they are at hand; near: a point whose activity is the first guess."""
        rows, y = problem.rows, problem.rows.y
        self.pairs = pairs_of(rows)
        self.data = data = _Data.of(problem, self.pairs)
        self.grams = self._grams() if grams is None else grams
        self.free, self.tight = data.cold.clone(), data.no_row.clone()
        self.h, self.mu = torch.zeros_like(data.right), torch.zeros_like(y)
        if near is None and problem.nonnegative and problem.N >= _BATCH and bool(rows.off.any()):
            near = first_guess(problem)
        if near is not None:
            slope, v = data.slope_and_rows(near.h, torch.where(rows.off, near.p, 0.0))
            self.free = near.h * data.diagonal > slope if problem.nonnegative else self.free
            self.tight = held(data.off, data.equal, together(self.pairs, near.p) + v)
        self.open = torch.ones(problem.N, dtype=torch.bool, device=y.device)
        self.t = torch.zeros(problem.N, dtype=y.dtype, device=y.device)
        self.never = problem.n + rows.m + 1  # more changes than there can be
        self.fewest = torch.full((problem.N,), self.never, device=y.device)
        self.settled, self.stale = ~self.open, torch.zeros_like(self.fewest)
        self.dp = torch.zeros_like(y)  # what rounding took from p where the misfit is tiny
        self.rounds, self.step = torch.zeros_like(self.stale), torch.ones_like(self.t)
        self.good_t, self.good_free, self.good_tight = self.t.clone(), self.free.clone(), self.tight.clone()

    def _grams(self) -> Tensor | LazyGrams:
        rows = self.problem.rows
        if pads(rows.W.matrix()) or rows.alike:
            return on_grams(rows)
        # without a penalty signs are decided by what the data do not explain, which may be as small as float32's rounding
        exact = bool(((self.problem.linear == 0) & (self.problem.quadratic == 0)).any())
        return LazyGrams(rows, np.dtype(np.float64 if exact else np.float32))

    def next_check(self, iteration: int) -> int:
        return iteration + 10

    def done(self, tol: float) -> Tensor | None:
        """Which signals' guess repeated: their points are exact."""
        return self.settled

    def given_up(self) -> Tensor | None:
        return ~self.settled & ~self.open

    def keep(self, index: Tensor) -> None:
        self.problem, self.data = self.problem.take(index), self.data.take(index)
        self.pairs = None if self.pairs is None else self.pairs.take(index)
        for name in (
            "free", "tight", "h", "mu", "dp", "t", "step", "open", "settled", "rounds", "fewest", "stale",
            "good_t", "good_free", "good_tight",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[index])
        if isinstance(self.grams, LazyGrams):
            self.grams.keep(index)
        elif len(self.grams) > 1:
            self.grams = self.grams[index]

    def point(self) -> Point:
        rows = self.problem.rows
        h = self.h.clamp(min=0) if self.problem.nonnegative else self.h
        return Point(h, apart(self.pairs, rows.fit * rows.residual(h) + self.mu + self.dp))

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            left = self.open.nonzero()[:, 0]
            if len(left) == 0:
                return
            self._round(left)

    def _round(self, left: Tensor) -> None:
        """One guess for the signals at `left`: solve it, revise it, close those whose guess repeats."""
        trial = _Trial(self, left)
        settled = trial.settle()
        where = slice(None) if len(left) == self.problem.N else left
        self.h[where], self.mu[where], self.dp[where] = trial.h, trial.mu, trial.dp
        self.rounds[left] += 1
        self.settled[left], self.open[left] = settled, ~settled
        going = (~settled).nonzero()[:, 0]
        if len(going):
            self._follow(left[going], trial, going)

    def _follow(self, left: Tensor, trial: "_Trial", which: Tensor) -> None:
        """Move along the path: set t of the signals at `left`, those `which` of the trial; close what can do no more."""
        t, sound, changes = trial.t[which], trial.sound[which], trial.changes[which]
        step, before, good_t = self.step[left], self.fewest[left], self.good_t[left]
        worse = changes >= before
        stale = torch.where(worse, self.stale[left] + 1, 0)
        far = (t > 0) & (changes > 4 * (before + 2))
        on = (t > 0) & sound & (changes <= torch.where(step < 1, 0, _FEW))
        unchanged = (changes == 0) & (before == self.never)
        stuck = ~on & (~sound | (stale >= _PATIENCE) | far)
        back = stuck & (good_t > 0)
        begin = stuck & ~back
        # on: a step down, or to the end; stuck: half the step from where the last guess held, or a new beginning
        step = torch.where(on, (1.5 * step).clamp(max=1), torch.where(back, step / 2, step))
        lower = torch.where((t <= _LAST) | unchanged, 0.0, t * 10**-step)
        higher = torch.where(t > 0, 10 * t, _FIRST)
        self.t[left] = torch.where(on, lower, torch.where(back, good_t * 10**-step, torch.where(begin, higher, t)))
        self.step[left] = step
        self.fewest[left] = torch.where(stuck | on, self.never, torch.minimum(changes, before))
        self.stale[left] = torch.where(stuck | on, 0, stale)
        # H_AA is singular where the path ends, or no t is large or no step small enough
        hopeless = ((t == 0) & ~sound & (good_t > 0)) | (step < self.data.shortest[left]) | (begin & (higher > _HIGHEST))
        self.open[left] &= ~hopeless
        self.good_t[left] = torch.where(on, t, good_t)
        begin, back, on = begin[:, None], back[:, None], on[:, None]
        for mine, good, new, cold in (
            (self.free, self.good_free, trial.new_free[which], self.data.cold[left]),
            (self.tight, self.good_tight, trial.new_tight[which], self.data.no_row[left]),
        ):
            good[left] = torch.where(on, new, good[left])
            mine[left] = torch.where(back, good[left], torch.where(begin, cold, new))


class _Trial:
    """One round: the point of a guess, and the guess that follows from it."""

    def __init__(self, method: BlockPivoting, left: Tensor):
        everyone = len(left) == method.problem.N
        where = slice(None) if everyone else left
        self.grams, self.left = method.grams, left
        self.data = method.data if everyone else method.data.take(left)
        self.free, self.tight, self.t = method.free[where], method.tight[where], method.t[where]
        self.unseen = self.data.unseen * (method.rounds[where] >= _LATE)[:, None]
        self.ridge = self.t * self.data.size
        M, ridge = self.data.W.matrix(), self.data.quadratic[:, 0] + self.ridge
        self.system = equations(method.grams, M, left, self.free, self.tight, ridge, self.t)
        self.sound, self.dp = self.system.sound, torch.zeros_like(self.data.y)
        self.h, self.mu = self.system.solve(self.data.right, -self.data.b)
        self.slope, self.v, self.new_free, self.new_tight = self._look(self.data, slice(None))
        self.changes = self._changes()

    def _look(self, data: _Data, where: Tensor | slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reduced cost `(k, n)` and rows `(k, m)` at the points of some signals, t's share added, and the next guess."""
        h, mu, ridge = self.h[where], self.mu[where], self.ridge[where, None]
        slope, v = data.slope_and_rows(h, mu)
        slope.addcmul_(ridge, h)
        v.addcmul_(self.t[where, None], mu, value=-1)
        if not data.nonnegative:
            free = torch.ones_like(data.cold)
        else:
            # where lam = 0 and the data are met, reduced costs are rounding: by their signs guesses may go round for ever
            free = h * (data.diagonal + ridge) > torch.where(self.free[where], slope, slope + self.unseen[where])
        return slope, v, free, held(data.off, data.equal, mu + v)

    def _changes(self) -> Tensor:
        return (self.new_free ^ self.free).sum(1) + (self.new_tight ^ self.tight).sum(1)

    def settle(self) -> Tensor:
        """Refine where the guess repeats without a path's help, and say where it still repeats, `(N,)`.

        On a device too a question, which waits for its answer, costs less than the sixty kernels of a correction.
        """
        settled = self.sound & (self.changes == 0) & (self.t == 0)
        if not settled.any():
            return settled
        where = slice(None) if settled.all() else settled.nonzero()[:, 0]
        for last in (False, True):
            slope = self.slope * self.free
            residual = torch.maximum(slope.abs().amax(1), (self.v * self.tight).abs().amax(1))
            sloppy = settled & ~(residual <= _SLOPPY)  # and so is what is no number
            dh, dmu = self.system.solve(-slope, -self.v, settled)
            self.h, self.mu = self.h + dh, self.mu + dmu
            if last or not sloppy.any():
                break
            data = self.data if isinstance(where, slice) else self.data.take(where)
            for mine, new in zip((self.slope, self.v, self.new_free, self.new_tight), self._look(data, where), strict=True):
                mine[where] = new
        self.changes = self._changes()
        if isinstance(self.grams, LazyGrams):
            for i in self.left[sloppy].tolist():
                self.grams.refine(i)
        settled = settled & (self.changes == 0) & ~sloppy
        self._balance(settled)
        return settled

    def _balance(self, settled: Tensor) -> None:
        """Where the misfit is tiny, p is a small difference of large numbers: dp gives it the digits of its own size."""
        data = self.data
        p = data.fit * (data.W(self.h) + data.b - data.y)
        tiny = settled & (p.norm(dim=1) <= _TINY)
        if not tiny.any():
            return
        none = torch.zeros_like(p)
        for _ in range(2):
            slope = data.W.adjoint(p + self.mu + self.dp) + data.linear + data.quadratic * self.h
            dh, dmu = self.system.solve(torch.where(tiny[:, None] & self.free, -slope, 0.0), none, tiny)
            self.dp = self.dp + data.fit * data.W(dh) + dmu
