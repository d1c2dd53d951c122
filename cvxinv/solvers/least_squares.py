"""Least squares first: where lam = 0 and gamma = 0, data that a layer explains exactly have an optimum of 0.

    h = argmin |W h + b - y|^2 on the on rows,        p = weight (W h + b - y)_on = 0

If that h meets every on row, is nonnegative where it must be, and leaves the off rows below 0, then it is optimal whatever
the weights, because the objective is 0; where W_on has full column rank it is the only optimum. One Cholesky factor of
W_on'W_on, shared by all signals where all have the same on rows, is refined against W itself, so that the squared condition
costs no digits. The signs of rounding errors, which lead active-set rounds in circles on such data, are not looked at:
unknowns between -1e-11 and 0 (in units of s_y / |W|) become 0, and then the rows are looked at.

Beyond `LARGEST_FACTOR` unknowns there is no factor and no matrix: conjugate gradients solve W_on'W_on x = v by products, and
where W_on lacks rank find the shortest solution.

Layers of a generator whose output was read without noise are such data. Everything else is left to other methods.
Source: Aberdam, Simon, Elad (2020), Corollary 2 for lam -> 0; the zero-residual argument is elementary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..layers.core.factors import spd_factor, spd_solve
from ..layers.core.problem import AbstractLayerProblem, Point
from ..layers.core.rows import Rows, weighted_gram
from ..memory import room
from .solver import AbstractSolver

LARGEST_FACTOR = 4000  # unknowns beyond which a Gram matrix and its factor take over a quarter of a gigabyte
_REFINEMENTS = 3
_ROUNDS, _LEFT = 400, 1e-9  # conjugate gradients: most iterations of one solve, and what it may leave of |v|
_NEAR = 1e-4  # misfit, in units of s_y, from which more of them are worth while
_MET = 1e-11  # misfit and signs that count as met, in units of s_y: a tenth of what the judge takes for exact
_BYTES = 100_000_000  # factors that are held at once
_SMALLEST = 32  # unknowns from which LAPACK one by one beats a batch of torch's, on a CPU


@dataclass(frozen=True)
class LeastSquares(AbstractSolver):
    """Least squares in one step; whoever is not done after it never will be."""

    name = "least_squares"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    max_iter = 1
    first_check = 1
    needs_float64 = True
    exact = True
    on_halves = True
    kept = ("h", "asked", "solved")

    def begin(self, problem: AbstractLayerProblem) -> None:
        rows = problem.rows
        self.h = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
        self.asked = self.serves(problem)
        self.solved = torch.zeros(problem.N, dtype=torch.bool, device=rows.y.device)

    @staticmethod
    def serves(problem: AbstractLayerProblem) -> Tensor:
        """Signals whose optimum may be 0: neither lam nor gamma, and no fewer on rows than unknowns, bool `(N,)`."""
        free = (problem.linear[:, 0] == 0) & (problem.quadratic[:, 0] == 0)
        return free & (problem.rows.on.sum(1) >= problem.n)

    def advance(self, steps: int) -> None:
        asked = self.asked.nonzero()[:, 0]
        if steps < 1 or len(asked) == 0:
            return
        on = self.problem.rows.on
        shared = bool((on == on[:1]).all())
        size = self.problem.N if shared else max(1, room(on.device, _BYTES) // (8 * self.problem.n**2))
        for block in asked.split(size):
            part = self.problem if len(block) == self.problem.N else self.problem.take(block)
            self.h[block], self.solved[block] = _solve(part)

    def point(self) -> Point:
        rows = self.problem.rows
        return Point(self.h, rows.fit * rows.residual(self.h))

    def done(self, tol: float) -> Tensor:
        return self.solved

    def given_up(self) -> Tensor:
        return ~self.solved

    def next_check(self, iteration: int) -> int:
        return iteration + 1


def _solve(problem: AbstractLayerProblem) -> tuple[Tensor, Tensor]:
    """The least-squares point `(N, n)` with weights 1, and whether it is the optimum `(N,)`."""
    # where the optimum is 0 weights decide nothing, and without them signals with the same on rows share a factor
    rows = problem.rows.derived(weight=torch.ones_like(problem.rows.y))
    solve, definite = _factorised(rows)
    h = solve(rows.W.adjoint(rows.target))
    last, moving = h.abs().amax(1), definite
    if rows.n > LARGEST_FACTOR:  # what so many iterations did not bring near, or cannot be met, is for other methods
        moving = moving & (rows.residual(h).norm(dim=1) <= _NEAR)
    for _ in range(_REFINEMENTS if bool(moving.any()) else 0):
        step = solve(rows.W.adjoint(rows.residual(h)))
        h = torch.where(moving[:, None], h - step, h)
        size = step.abs().amax(1)
        # the next correction would be smaller by the same factor: below rounding it only stirs the last digit
        moving, last = moving & (size.square() > torch.finfo(h.dtype).eps * last * h.abs().amax(1)), size
        if not bool(moving.any()):
            break
    low = -h.amin(1) if problem.nonnegative else torch.zeros_like(h[:, 0])
    h = h.clamp(min=0) if problem.nonnegative else h
    v = rows.W(h) + rows.b
    missed = torch.where(rows.on, v - rows.y, torch.zeros_like(v)).norm(dim=1)
    over = torch.where(rows.off, v, torch.full_like(v, -torch.inf)).amax(1)
    return h, definite & (torch.maximum(torch.maximum(low, over), missed) <= _MET)


def _factorised(rows: Rows) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What solves W_on'W_on x = v for `v` `(N, n)`, and for whom: bool `(N,)`, where W_on has full column rank."""
    if rows.n > LARGEST_FACTOR:
        return lambda v: by_products(rows, v), torch.ones(rows.N, dtype=torch.bool, device=rows.y.device)
    if not rows.alike and rows.n >= _SMALLEST and rows.y.device.type == "cpu":
        return _one_by_one(rows)
    L, definite = spd_factor(rows.shared_gram[None] if rows.alike else weighted_gram(rows.W, rows.fit))
    return lambda v: spd_solve(L, v), definite.expand(rows.N)


def _one_by_one(rows: Rows) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """`_factorised` with one triangle of each Gram matrix, of the on rows alone."""
    from scipy.linalg.blas import dsyrk
    from scipy.linalg.lapack import dpotrf, dpotrs

    M, factors = rows.W.matrix().numpy(), []
    for on in rows.on.numpy():
        L, info = dpotrf(dsyrk(1.0, M[on].T, lower=1), lower=1, clean=0, overwrite_a=1)
        pivots = L.diagonal() ** 2
        # as in `spd_factor`: below this the factor carries no digit of the weakest direction
        sound = info == 0 and pivots.min() > 16 * rows.n * np.finfo(M.dtype).eps * pivots.max()
        factors.append(L if sound else None)

    def solve(v: Tensor) -> Tensor:
        out = np.zeros(v.shape)
        for L, right, x in zip(factors, v.numpy(), out, strict=True):
            if L is not None:
                x[:] = dpotrs(L, right, lower=1)[0]
        return torch.from_numpy(out)

    return solve, torch.tensor([L is not None for L in factors])


def by_products(rows: Rows, v: Tensor) -> Tensor:
    """x with W_on'W_on x = v for `v` `(N, n)`, by conjugate gradients: two products with W per iteration, no matrix."""
    x, left = torch.zeros_like(v), v.clone()
    way, before = left, left.square().sum(1, keepdim=True)
    enough = _LEFT**2 * before
    for _ in range(_ROUNDS):
        pushed = torch.where(rows.on, rows.W(way), 0.0)
        bent = pushed.square().sum(1, keepdim=True)
        step = torch.where((bent > 0) & (before > enough), before / torch.where(bent > 0, bent, 1.0), 0.0)
        x, left = x + step * way, left - step * rows.W.adjoint(pushed)
        now = torch.where(step > 0, left.square().sum(1, keepdim=True), before)
        if bool(((now <= enough) | (step == 0)).all()):
            break
        way, before = left + now / before.clamp(min=torch.finfo(v.dtype).tiny) * way, now
    return x
