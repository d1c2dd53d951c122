"""Block pivoting: active-set rounds for whole batches, in which each signal costs the size of its own support.

With A = the free unknowns (the others are 0) and I = the off rows at their bound, a guess (A, I) gives h and mu by

    [H_AA  W_IA'] [h_A ]   [c_A - lam]         H = W'w W + gamma,   c = W'w (y - b)
    [W_IA   0   ] [mu_I] = [  -b_I   ]

and the next guess is A = {h_j > nu_j / H_jj}, I = {mu + W h + b > 0} with nu = W'(w (W h + b - y) + mu) + lam + gamma h the
reduced cost. A guess that repeats is the optimum. Five to eight rounds are usual. Nothing forces them to end: a signal that
has not settled by then, or whose H_AA is not definite, is left to another method.

H is formed once: one matrix where all signals see the same rows, else by one product with the outer products of W's rows
(small layers), or signal by signal. The equations of a guess are solved signal by signal with LAPACK on the CPU, because
padding a batch to its largest support, or masking H to full size, costs several times what it saves; on a GPU they are
padded. A settled signal is refined against W itself, so that the squared condition of H costs no digits.

Source: Portugal, Judice, Vicente (1994), Kim and Park (2011) for block pivoting; the off rows are added here.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point
from ..rows import Rows
from .loop import AbstractMethod

_OUTER = 8_000_000  # numbers in the outer products of W's rows, 64 MB
_NUDGE = 1e-13  # rows of I may depend on each other: it picks one of their multipliers


class BlockPivoting(AbstractMethod):
    """See the module. One round is one Cholesky factorisation of the support's size per unsettled signal."""

    name = "block_pivoting"
    max_iter = 40
    first_check = 10
    needs_float64 = True
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
            slope, v = _slope(problem, start.h, torch.where(rows._off, start.p, torch.zeros_like(start.p)))
            self.free = start.h * self.diagonal > slope if problem.nonnegative else self.free
            self.tight = rows._off & (start.p + v > 0)
        self.open = torch.ones(problem.N, dtype=torch.bool, device=rows.y.device)
        self.settled, self.rounds = ~self.open, torch.zeros(problem.N, dtype=torch.long, device=rows.y.device)

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        return None if problem.form == "quadratic" else "it serves squared misfits"

    def next_check(self, iteration: int) -> int:
        return iteration + 10

    def worth_polishing(self, iteration: int) -> bool:
        return False  # its points are exact or of no use

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        for name in ("c", "free", "tight", "h", "mu", "open", "settled", "rounds"):
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
        guess = _Guess(self, part, left, free, tight)
        h, mu = guess.solve(self.c[left] - part.linear, -part.rows.b)
        slope, v = _slope(part, h, mu)
        new_free = h * self._diagonal(left) > slope if part.nonnegative else free
        new_tight = part.rows._off & (mu + v > 0)
        settled = guess.sound & (new_free == free).all(1) & (new_tight == tight).all(1)
        if settled.any():
            dh, dmu = guess.solve(torch.where(free, -slope, 0.0), -v, settled)
            h, mu = h + dh, mu + dmu
        self.h[left], self.mu[left] = h, mu
        self.tight[left] = new_tight
        if part.nonnegative:
            self.free[left] = new_free
        self.open[left] = guess.sound & ~settled
        self.settled[left] |= settled
        self.rounds[left] += 1

    def _diagonal(self, left: Tensor) -> Tensor:
        return self.diagonal if len(self.diagonal) == 1 else self.diagonal[left]


def on_grams(rows: Rows) -> Tensor:
    """W_on' diag(weight) W_on, `(N, n, n)`, or `(1, n, n)` where all signals share it: the fastest way for the shape."""
    fit, M = rows.fit, rows.W.matrix()
    n = rows.n
    if len(fit) == 1 or bool((fit == fit[:1]).all()):
        return (M.T @ (fit[0, :, None] * M))[None]
    if rows.m * n * n <= _OUTER // 4:
        return (fit @ (M[:, :, None] * M[:, None, :]).reshape(rows.m, n * n)).reshape(-1, n, n)
    out = torch.empty(len(fit), n, n, dtype=M.dtype, device=M.device)
    for k, weight in enumerate(fit):
        on = weight.nonzero()[:, 0]
        block = M[on]
        torch.matmul(block.T, weight[on, None] * block, out=out[k])
    return out


def _slope(problem: AbstractLayerProblem, h: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Reduced cost `(N, n)` and W h + b `(N, m)`."""
    rows = problem.rows
    v = rows.W(h) + rows.b
    p = rows.fit * torch.where(rows.on, v - rows.y, torch.zeros_like(v)) + mu
    return rows.W.adjoint(p) + problem.linear + problem.quadratic * h, v


class _Factor(NamedTuple):
    """One signal's guess, factorised: positions of A and I, Cholesky of H_AA, W_IA, H_AA^-1 W_IA', Cholesky of W H^-1 W'."""

    A: np.ndarray
    I: np.ndarray
    L: np.ndarray
    B: np.ndarray | None
    HB: np.ndarray | None
    S: np.ndarray | None


class _Guess:
    """Guesses (A, I) of the signals at `left`, factorised signal by signal at their own sizes."""

    def __init__(self, method: BlockPivoting, part: AbstractLayerProblem, left: Tensor, free: Tensor, tight: Tensor):
        self.M = part.rows.W.matrix().cpu().numpy()
        self.device = left.device
        grams, shared = method.grams.cpu().numpy(), len(method.grams) == 1
        gamma = part.quadratic[:, 0].cpu().numpy()
        masks, limits = free.cpu().numpy(), tight.cpu().numpy()
        has_tight = bool(limits.any())
        self.factors: list[_Factor | None] = []
        known: dict[tuple[bytes, float], np.ndarray | None] = {}
        for k, i in enumerate(left.tolist()):
            A = np.flatnonzero(masks[k])
            I = np.flatnonzero(limits[k]) if has_tight else _NONE
            key = (masks[k].tobytes(), float(gamma[k])) if shared and len(A) == masks.shape[1] else None
            if key is None or key not in known:
                L = _cholesky(grams[0 if shared else i], A, float(gamma[k]))
                if key is not None:
                    known[key] = L
            else:
                L = known[key]
            self.factors.append(_factor(self.M, A, I, L))
        self.sound = torch.tensor([f is not None for f in self.factors], device=left.device)

    def solve(self, right: Tensor, gap: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h `(N, n)` and mu `(N, m)` with H h + W_I'mu = right on A, W_I h = gap on I; 0 for signals not in `which`."""
        from scipy.linalg.lapack import dpotrs

        r, g = right.cpu().numpy(), gap.expand(len(right), -1).cpu().numpy()
        h, mu = np.zeros_like(r), np.zeros((len(r), len(self.M)))
        wanted = None if which is None else which.cpu().numpy()
        for k, f in enumerate(self.factors):
            if f is None or (wanted is not None and not wanted[k]) or not len(f.A):
                continue
            x = dpotrs(f.L, r[k, f.A])[0]
            if f.S is not None and f.B is not None and f.HB is not None:
                q = dpotrs(f.S, f.B @ x - g[k, f.I])[0]
                x = x - f.HB @ q
                mu[k, f.I] = q
            h[k, f.A] = x
        return torch.from_numpy(h).to(right), torch.from_numpy(mu).to(right)


_NONE = np.zeros(0, dtype=np.int64)


def _cholesky(gram: np.ndarray, A: np.ndarray, gamma: float) -> np.ndarray | None:
    """Upper Cholesky factor of gram_AA + gamma, or None where it is not definite beyond rounding."""
    from scipy.linalg.lapack import dpotrf

    block = gram.copy() if len(A) == len(gram) else np.take(gram[A], A, axis=1)
    if gamma:
        block.flat[:: len(A) + 1] += gamma
    if not len(A):
        return block
    L, info = dpotrf(block, clean=0, overwrite_a=1)
    pivots = np.abs(L.diagonal())
    return L if info == 0 and pivots.min() > 1e-7 * pivots.max() else None


def _factor(M: np.ndarray, A: np.ndarray, I: np.ndarray, L: np.ndarray | None) -> _Factor | None:
    from scipy.linalg.lapack import dpotrf, dpotrs

    if L is None:
        return None
    if not len(I) or not len(A):
        return _Factor(A, I, L, None, None, None)
    B = M[I][:, A]
    HB = dpotrs(L, B.T)[0]
    S = B @ HB
    S.flat[:: len(I) + 1] += _NUDGE * max(S.diagonal().max(), 1e-300)
    S, info = dpotrf(S, clean=0)
    return _Factor(A, I, L, B, HB, S) if info == 0 else None
