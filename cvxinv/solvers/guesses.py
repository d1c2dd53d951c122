"""Guesses of what is active, solved signal by signal at the size of each support: what the pivoting methods share.

LAPACK takes one signal at a time on the CPU, because padding a batch to its largest support, or masking H to full size,
costs several times what it saves.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem
from ..rows import Rows

_OUTER = 8_000_000  # numbers in the outer products of W's rows, 64 MB
_NUDGE = 1e-13  # rows of I may depend on each other: it picks one of their multipliers
_NONE = np.zeros(0, dtype=np.int64)


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


def slope_and_rows(problem: AbstractLayerProblem, h: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
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


class Guess:
    """Guesses (A, I) of the signals of `part`, factorised signal by signal at their own sizes.

    grams: one for all signals, or one each, of which those at `left` are the part's.
    """

    def __init__(self, grams: Tensor, part: AbstractLayerProblem, left: Tensor, free: Tensor, tight: Tensor):
        self.M = part.rows.W.matrix().cpu().numpy()
        matrices, shared = grams.cpu().numpy(), len(grams) == 1
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
                L = _cholesky(matrices[0 if shared else i], A, float(gamma[k]))
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
        with np.errstate(over="ignore", invalid="ignore"):  # contradictory off rows send a guess to infinity
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
