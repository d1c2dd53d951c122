"""Block pivoting: active-set rounds for whole batches, in which each signal costs the size of its own support.

With A = the free unknowns (the others are 0) and I = the off rows at their bound, a guess (A, I) gives h and mu by

    [H_AA  W_IA'] [h_A ]   [c_A - lam]         H = W'w W + gamma,   c = W'w (y - b)
    [W_IA   0   ] [mu_I] = [  -b_I   ]

and the next guess is A = {h_j > nu_j / H_jj}, I = {mu + W h + b > 0} with nu = W'(w (W h + b - y) + mu) + lam + gamma h the
reduced cost. A guess that repeats is the optimum. Five to eight rounds are usual. Nothing forces them to end: a signal that
goes round in circles, or whose H_AA is not definite, is left to another method.

H is formed once: one matrix where all signals see the same rows, else by one product with the outer products of W's rows
(small layers), or signal by signal. A settled signal is refined against W itself, so that the squared condition of H costs
no digits. Runs on the CPU; tensors elsewhere are copied there and back.

Source: Portugal, Judice, Vicente (1994), Kim and Park (2011) for block pivoting; the off rows are added here.
"""

import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point
from .guesses import Guess, on_grams, slope_and_rows
from .loop import AbstractMethod

_PATIENCE = 6  # rounds without fewer changes than ever before: a guess that cycles never settles


class BlockPivoting(AbstractMethod):
    """See the module. One round is one Cholesky factorisation of the support's size per unsettled signal."""

    name = "block_pivoting"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    max_iter = 40
    first_check = 10
    needs_float64 = True
    exact = True
    on_halves = True

    def __init__(self, problem: AbstractLayerProblem, grams: Tensor | None = None, start: Point | None = None):
        self.problem, rows = problem, problem.rows
        self.grams = on_grams(rows) if grams is None else grams
        self.c = rows.W.adjoint(rows.fit * rows.target)
        self.diagonal = torch.diagonal(self.grams, dim1=-2, dim2=-1) + problem.quadratic
        free = (self.c > problem.linear) | (problem.linear == 0)
        self.free = free if problem.nonnegative else torch.ones(problem.N, problem.n, dtype=torch.bool, device=free.device)
        self.tight = torch.zeros(problem.N, rows.m, dtype=torch.bool, device=free.device)
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=free.device)
        self.mu = torch.zeros(problem.N, rows.m, dtype=rows.y.dtype, device=free.device)
        if start is not None:
            slope, v = slope_and_rows(problem, start.h, torch.where(rows._off, start.p, torch.zeros_like(start.p)))
            self.free = start.h * self.diagonal > slope if problem.nonnegative else self.free
            self.tight = rows._off & (start.p + v > 0)
        self.open = torch.ones(problem.N, dtype=torch.bool, device=rows.y.device)
        self.fewest = torch.full((problem.N,), problem.n + rows.m + 1, device=rows.y.device)
        self.stale = torch.zeros_like(self.fewest)
        self.settled, self.rounds = ~self.open, torch.zeros(problem.N, dtype=torch.long, device=rows.y.device)

    def next_check(self, iteration: int) -> int:
        return iteration + 10

    def done(self, tol: float) -> Tensor:
        return self.settled

    def given_up(self) -> Tensor:
        return ~self.settled & ~self.open

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        for name in ("c", "free", "tight", "h", "mu", "open", "settled", "rounds", "fewest", "stale"):
            setattr(self, name, getattr(self, name)[index])
        if len(self.grams) > 1:
            self.grams, self.diagonal = self.grams[index], self.diagonal[index]
        elif len(self.diagonal) > 1:
            self.diagonal = self.diagonal[index]

    def point(self) -> Point:
        rows = self.problem.rows
        h = self.h.clamp(min=0) if self.problem.nonnegative else self.h
        return Point(h, rows.fit * rows.residual(h) + self.mu)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            left = self.open.nonzero()[:, 0]
            if len(left) == 0:
                return
            self._round(left)

    def _round(self, left: Tensor) -> None:
        """One guess for the signals at `left`: solve it, revise it, refine and close those whose guess repeats."""
        everyone = len(left) == self.problem.N
        part = self.problem if everyone else self.problem.take(left)
        free, tight = (self.free, self.tight) if everyone else (self.free[left], self.tight[left])
        guess = Guess(self.grams, part, left, free, tight)
        h, mu = guess.solve(self.c[left] - part.linear, -part.rows.b)
        slope, v = slope_and_rows(part, h, mu)
        new_free = h * self._diagonal(left) > slope if part.nonnegative else free
        new_tight = part.rows._off & (mu + v > 0)
        changes = (new_free != free).sum(1) + (new_tight != tight).sum(1)
        settled = guess.sound & (changes == 0)
        if settled.any():
            dh, dmu = guess.solve(torch.where(free, -slope, 0.0), -v, settled)
            h, mu = h + dh, mu + dmu
        self.h[left], self.mu[left] = h, mu
        self.tight[left] = new_tight
        if part.nonnegative:
            self.free[left] = new_free
        fewer = changes < self.fewest[left]
        self.fewest[left] = torch.minimum(changes, self.fewest[left])
        self.stale[left] = torch.where(fewer, torch.zeros_like(changes), self.stale[left] + 1)
        self.open[left] = guess.sound & ~settled & (self.stale[left] < _PATIENCE)
        self.settled[left] |= settled
        self.rounds[left] += 1

    def _diagonal(self, left: Tensor) -> Tensor:
        return self.diagonal if len(self.diagonal) == 1 else self.diagonal[left]
