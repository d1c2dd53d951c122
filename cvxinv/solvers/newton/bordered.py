"""Guesses that change little from round to round, solved with one factor per signal that is bordered by what changed.

With H_FF = U'U of an earlier guess F, the guess A = F + P - Q (P joined, Q left) has the equations

    [H_FF  C] [x]   [right_F]        C = [H_FP  E_Q],  E_Q: columns of the identity, whose v hold x_Q at 0
    [C'    D] [v] = [right_P]        D = [H_PP  0; 0  0]
                    [   0   ]

so with V = U'^-1 C and z = U'^-1 right_F they are (D - V'V) v = [right_P; 0] - V'z and U x = z - V v. A column of V costs
one triangular solve and is kept for later rounds: k changes of n unknowns cost 3 k / n of a factorisation. D - V'V
is negative definite on Q, and its Schur complement on P has the pivots with which a factorisation of H_AA would end.

Source: bordering after Gill, Murray, Saunders and Wright (1987, A Schur-complement method for sparse quadratic programming).
"""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ..active_set.guesses import SINGULAR, AbstractEquations, support_factor

_SHARE = 8  # a guess that differs from F in more than |F| over this is factorised anew
_FIRM = 1e-4  # pivots that differ by more: later guesses would inherit the digits that this F lost


class _Factor:
    """One signal's H_FF, and V for the unknowns that joined or left since."""

    def __init__(self, gram: np.ndarray, free: np.ndarray):
        self.gram, self.free, self.F = gram, free, np.flatnonzero(free)
        self.U = support_factor(gram, self.F, 0.0)
        self.pivot, self.firm = 1.0, self.U is not None
        if self.U is not None and len(self.F):
            pivots = self.U.diagonal()
            self.pivot = float(pivots.max())
            self.firm = float(pivots.min()) > _FIRM * self.pivot
        self.known: dict[int, int] = {}  # unknown -> row of V'
        self.V = np.zeros((0, len(self.F)))  # V' here: its rows are contiguous

    def serves(self, free: np.ndarray) -> bool:
        """Whether a guess is close enough to F."""
        changes = int(np.count_nonzero(free != self.free))
        return changes == 0 or (self.firm and _SHARE * max(changes, len(self.known)) <= len(self.F))

    def columns(self, joined: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """V' of the unknowns `joined` and `gone`, a row for each."""
        both = np.concatenate([joined, gone])
        new = np.array([j for j in both.tolist() if j not in self.known], dtype=np.int64)
        if len(new):
            C = np.zeros((len(new), len(self.F)))
            left = self.free[new]
            C[~left] = self.gram.take(new[~left], 0).take(self.F, 1)
            C[left, np.searchsorted(self.F, new[left])] = 1.0
            made = scipy.linalg.blas.dtrsm(1.0, self.U, C.T, trans_a=1, overwrite_b=1)
            self.known |= {j: len(self.V) + k for k, j in enumerate(new.tolist())}
            self.V = np.concatenate([self.V, made.T])
        return self.V[[self.known[j] for j in both.tolist()]]


class _Border:
    """The equations of one guess: a factor, and the inverses of the two blocks of D - V'V."""

    def __init__(self, factor: _Factor, free: np.ndarray):
        self.factor = factor
        self.joined, self.gone = np.flatnonzero(free & ~factor.free), np.flatnonzero(factor.free & ~free)
        self.sound, self.changed = factor.U is not None, len(self.joined) + len(self.gone) > 0
        if not self.changed:
            return
        self.V = factor.columns(self.joined, self.gone)
        P, Q = self.V[: len(self.joined)], self.V[len(self.joined) :]
        self.of_Q = np.linalg.inv(Q @ Q.T)
        self.X = self.of_Q @ (Q @ P.T)
        S = factor.gram.take(self.joined, 0).take(self.joined, 1) - P @ P.T + (P @ Q.T) @ self.X
        try:
            pivots = np.linalg.cholesky(S).diagonal()
        except np.linalg.LinAlgError:
            self.sound = False
            return
        self.sound = bool((pivots > SINGULAR["d"] * factor.pivot).all())
        self.of_P = np.linalg.inv(S) if self.sound else S

    def solve(self, right: np.ndarray) -> np.ndarray:
        """h `(n, k)` with H_AA h_A = right_A, for k right sides at once."""
        factor, h = self.factor, np.zeros_like(right)
        if not len(factor.F):
            return h
        trsm = scipy.linalg.blas.dtrsm
        z = trsm(1.0, factor.U, right[factor.F], trans_a=1)
        if not self.changed:
            h[factor.F] = trsm(1.0, factor.U, z, overwrite_b=1)
            return h
        short, joined = -self.V @ z, len(self.joined)
        p, q = short[:joined] + right[self.joined], short[joined:]
        p = self.of_P @ (p - self.X.T @ q)
        q = -self.of_Q @ q - self.X @ p
        z -= self.V.T @ np.concatenate([p, q])
        h[factor.F] = trsm(1.0, factor.U, z, overwrite_b=1)
        h[self.joined], h[self.gone] = p, 0.0
        return h


class _Bordered(AbstractEquations):
    """A batch of guesses without rows at their bound."""

    def __init__(self, borders: list[_Border], m: int):
        self.borders, self.m = borders, m
        self.sound = torch.tensor([border.sound for border in borders])

    def solve(self, right, gap, which=None):
        (h, _), (mu, _) = self.solve_two((right, torch.zeros_like(right)), (gap, gap), which)
        return h, mu

    def solve_two(self, rights, gaps, which=None):
        wanted = self.sound if which is None else self.sound & which
        both = torch.stack(rights, 2).numpy()
        h = np.zeros_like(both)
        for k in wanted.nonzero()[:, 0].tolist():
            h[k] = self.borders[k].solve(both[k])
        none = torch.zeros(len(h), self.m, dtype=rights[0].dtype)
        return tuple(torch.from_numpy(h).unbind(2)), (none, none)


class Borders:
    """The factors of a batch on the CPU in float64, kept from guess to guess; for problems without off rows.

    grams: `(1, n, n)`, or `(N, n, n)` with one for each signal; m: number of rows.
    """

    def __init__(self, grams: Tensor, m: int):
        self.grams, self.m = grams.numpy(), m
        self.factors: dict[int, _Factor] = {}

    def equations(self, left: Tensor, free: Tensor) -> AbstractEquations:
        """The equations of the guesses `free` `(k, n)` of the signals at `left`; those of other signals are forgotten."""
        kept, self.factors = self.factors, {}
        borders = []
        for i, mine in zip(left.tolist(), free.numpy(), strict=True):
            factor = kept.pop(i, None)
            if factor is None or not factor.serves(mine):
                factor = _Factor(self.grams[i if len(self.grams) > 1 else 0], mine)
            self.factors[i] = factor
            borders.append(_Border(factor, mine))
        return _Bordered(borders, self.m)
