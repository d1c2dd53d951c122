"""Guesses of what is active, solved at the size of each signal's support: what the pivoting methods share.

A guess is A, the unknowns that are free (the others are 0), and I, the off rows at their bound. Its equations are

    [H_AA + ridge   W_IA' ] [h_A ]   [right_A]         H = W'w W + gamma,
    [W_IA          -slack ] [mu_I] = [gap_I  ]         ridge = slack = 0 unless a method asks for more

solved by a Cholesky factor of H_AA and one of W_IA H_AA^-1 W_IA' + slack. On the CPU LAPACK takes one signal at a time,
because padding a batch to its largest support, or masking H to full size, costs several times what it saves; unknowns few
enough for that not to matter, and tensors elsewhere, go through one padded batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ...layers.core.rows import Rows

_OUTER = 8_000_000  # numbers in the outer products of W's rows, 64 MB
_NUDGE = 1e-13  # rows of I may depend on each other: it picks one of their multipliers
_NUDGES = {"d": _NUDGE, "f": 1e-6}
SINGULAR = {"d": 1e-7, "f": 1e-2}  # pivots that differ by more leave h open, or cost float32 too many of its digits
_MIN, _MAX = np.minimum.reduce, np.maximum.reduce
PADDED_UP_TO = 48  # unknowns up to which a padded batch is faster than LAPACK signal by signal
_NONE = np.zeros(0, dtype=np.int64)
Pair = tuple[Tensor, Tensor]


def on_grams(rows: Rows) -> Tensor:
    """W_on' diag(weight) W_on, `(N, n, n)`, or `(1, n, n)` where all signals share it: the fastest way for the shape."""
    fit, M = rows.fit, rows.W.matrix()
    n = rows.n
    if rows.alike:
        return rows.shared_gram[None]
    if rows.m * n * n <= _OUTER // 4:
        return (fit @ (M[:, :, None] * M[:, None, :]).reshape(rows.m, n * n)).reshape(-1, n, n)
    out = torch.empty(len(fit), n, n, dtype=M.dtype, device=M.device)
    if M.device.type == "cpu":
        lazy, there = LazyGrams(rows, M.numpy().dtype), out.numpy()
        for i in range(rows.N):
            there[i] = lazy.form(i)
        return out
    for start in range(0, len(fit), step := max(1, _OUTER // M.numel())):
        torch.matmul(M.T, fit[start : start + step, :, None] * M, out=out[start : start + step])
    return out


class LazyGrams:
    """Gram matrices of single signals on the CPU, formed when first asked for, in float32 until `refine` is called.

    Where most rows are on, the few that are not are taken away from the Gram matrix of all.
    """

    def __init__(self, rows: Rows, dtype: np.dtype):
        self.matrix, self.fit = rows.W.matrix().numpy(), rows.fit.numpy()
        self.plain = bool(((rows.fit == 0) | (rows.fit == 1)).all())
        self.copies = {self.matrix.dtype: self.matrix, np.dtype(dtype): self.matrix.astype(dtype)}
        self.whole: dict[np.dtype, np.ndarray] = {}
        self.dtypes = [np.dtype(dtype)] * rows.N
        self.known: list[np.ndarray | None] = [None] * rows.N

    def __call__(self, i: int) -> np.ndarray:
        known = self.known[i]
        if known is None:
            known = self.known[i] = self.form(i)
        return known

    def refine(self, i: int) -> None:
        """Give signal `i` its Gram matrix in W's own type."""
        self.dtypes[i], self.known[i] = self.matrix.dtype, None

    def keep(self, index: Tensor) -> None:
        positions = np.arange(len(self.fit))[index.numpy()]
        self.fit = self.fit[positions]
        self.dtypes, self.known = [self.dtypes[k] for k in positions], [self.known[k] for k in positions]

    def form(self, i: int) -> np.ndarray:
        """The Gram matrix of signal `i`, formed anew."""
        weight, dtype = self.fit[i], self.dtypes[i]
        M = self.copies[dtype]
        if not self.plain:
            on = np.flatnonzero(weight)
            block = M[on] * np.sqrt(weight[on], dtype=dtype)[:, None]
            return block.T @ block
        few = np.flatnonzero(weight)
        if 2 * len(few) <= len(weight):
            block = M[few]
            return block.T @ block
        block = M[np.flatnonzero(weight == 0)]
        if dtype not in self.whole:
            self.whole[dtype] = M.T @ M
        return self.whole[dtype] - block.T @ block


class AbstractEquations(ABC):
    """The factorised equations of a batch of guesses; sound `(N,)`: which of them were definite."""

    sound: Tensor

    @abstractmethod
    def solve(self, right: Tensor, gap: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h `(N, n)` and mu `(N, m)` of the equations; 0 for signals not in `which`."""

    def solve_two(self, rights: Pair, gaps: Pair, which: Tensor | None = None) -> tuple[Pair, Pair]:
        """h and mu for two right sides."""
        (h, mu), (other, nu) = (self.solve(*sides, which) for sides in zip(rights, gaps, strict=True))
        return (h, other), (mu, nu)


def equations(
    grams: "Tensor | LazyGrams", M: Tensor, left: Tensor, free: Tensor, tight: Tensor, ridge: Tensor, slack: Tensor
) -> AbstractEquations:
    """The equations of the module, factorised the fastest way.

    grams: one for all signals, or one each, of which those at `left` are the guesses'. free `(N, n)`, tight `(N, m)`: A
    and I; ridge, slack `(N,)`.
    """
    padded = isinstance(grams, Tensor) and pads(M)
    return (_Padded if padded else _Compact)(grams, M, left, free, tight, ridge, slack)


def pads(M: Tensor) -> bool:
    """Whether one padded batch serves unknowns of this number and place better than LAPACK signal by signal."""
    return M.device.type != "cpu" or M.shape[1] <= PADDED_UP_TO


class _Factor(NamedTuple):
    """One signal's factors: Cholesky of H_AA; positions I, W_IA, H_AA^-1 W_IA', Cholesky of W H^-1 W' + slack.

    lifted: whether H_AA stands for H_AA + W_IA'W_IA.
    """

    L: np.ndarray
    I: np.ndarray = _NONE
    B: np.ndarray = _NONE
    HB: np.ndarray = _NONE
    S: np.ndarray = _NONE
    lifted: bool = False


class _Compact(AbstractEquations):
    """Signal by signal with LAPACK, each in the type of its Gram matrix."""

    def __init__(self, grams, M, left, free, tight, ridge, slack):
        of_type = M.cpu().numpy()
        self.matrices = {of_type.dtype: of_type}
        self.free, self.tight = free.cpu().numpy(), tight.cpu().numpy()
        if isinstance(grams, Tensor):
            matrices = grams.cpu().numpy()
            gram_of: Callable[[int], np.ndarray] = (lambda i: matrices[0]) if len(matrices) == 1 else matrices.__getitem__
        else:
            gram_of, self.matrices = grams, grams.copies
        (self.ends, columns), (held, limited) = _packed(self.free), _packed(self.tight)
        ends, ridges, slacks = self.ends, ridge.tolist(), slack.tolist()
        self.factors: list[_Factor | None] = []
        full, whole = self.free.shape[1], {}  # signals that leave everything free may share a factor
        for k, i in enumerate(left.tolist()):
            A, I, gram = columns[ends[k] : ends[k + 1]], limited[held[k] : held[k + 1]], gram_of(i)
            if len(A) == full:
                key = (id(gram), ridges[k])
                if key not in whole:
                    whole[key] = support_factor(gram, A, ridges[k])
                f = self._with_rows(A, I, whole[key], slacks[k])
            else:
                f = self._with_rows(A, I, support_factor(gram, A, ridges[k]), slacks[k])
            if f is None and gram.dtype == np.float32:
                grams.refine(i)
                gram = gram_of(i)
                f = self._with_rows(A, I, support_factor(gram, A, ridges[k]), slacks[k])
            if f is None and len(I) and len(A) and not slacks[k]:
                f = self._lifted(A, I, gram, ridges[k])
            self.factors.append(f)
        self.sound = torch.tensor([f is not None for f in self.factors], device=left.device)

    def _with_rows(self, A: np.ndarray, I: np.ndarray, L: np.ndarray | None, slack: float) -> _Factor | None:
        """The factor of H_AA joined by that of the rows I; None where those contradict each other beyond rounding."""
        if L is None or (len(I) > len(A) and not slack):
            return None  # more rows than unknowns can only be met by chance
        if not len(I):
            return _Factor(L)
        if not len(A):
            return _Factor(L, I, S=np.full(len(I), slack))
        potrf, potrs = _LAPACK[L.dtype.char]
        B = self.matrices[L.dtype].take(I, 0).take(A, 1)
        HB = potrs(L, B.T)[0]
        S = B @ HB
        pivots = S.ravel()[:: len(I) + 1]
        pivots += slack + _NUDGES[L.dtype.char] * max(_MAX(pivots), 1e-30)
        S, info = potrf(S.T, clean=0, overwrite_a=1)
        return _Factor(L, I, B, HB, S) if info == 0 else None

    def _lifted(self, A: np.ndarray, I: np.ndarray, gram: np.ndarray, ridge: float) -> _Factor | None:
        """Where H_AA alone is singular: W_IA'(W_I h) = W_IA'g, which changes no solution, added to the first equation."""
        M = next(iter(self.matrices.values()))
        B = M.take(I, 0).take(A, 1)
        block = gram.take(A, 0).take(A, 1) + B.T @ B
        f = self._with_rows(A, I, support_factor(block, np.arange(len(A)), ridge), 0.0)
        return None if f is None else f._replace(lifted=True)

    def solve(self, right, gap, which=None):
        r, g, free = right.cpu().numpy()[self.free], gap.cpu().numpy(), self.free
        ends, h, x = self.ends, np.zeros(free.shape), np.zeros(len(r))
        of_type = {"d": r, "f": r.astype(np.float32)}
        wanted = range(len(free)) if which is None else which.nonzero()[:, 0].tolist()
        mu = np.zeros((len(free), self.tight.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):  # contradictory off rows send a guess to infinity
            for k in wanted:
                f, start, stop = self.factors[k], ends[k], ends[k + 1]
                if f is None or start == stop:
                    if f is not None and len(f.I):
                        mu[k][f.I] = -g[k].take(f.I) / f.S
                    continue
                kind = f.L.dtype.char
                potrs = _LAPACK[kind][1]
                asked = of_type[kind][start:stop]
                u = potrs(f.L, asked + f.B.T @ g[k].take(f.I) if f.lifted else asked)[0]
                if len(f.I):
                    q = potrs(f.S, f.B @ u - g[k].take(f.I))[0]
                    u -= f.HB @ q
                    mu[k][f.I] = q
                x[start:stop] = u
        h[free] = x
        return torch.from_numpy(h).to(right), torch.from_numpy(mu).to(right)


_LAPACK = {
    "d": (scipy.linalg.lapack.dpotrf, scipy.linalg.lapack.dpotrs),
    "f": (scipy.linalg.lapack.spotrf, scipy.linalg.lapack.spotrs),
}


def _packed(mask: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Where the true entries of each row begin in the list of all, and their positions in their rows."""
    ends = np.zeros(len(mask) + 1, dtype=np.int64)
    np.cumsum(np.count_nonzero(mask, axis=1), out=ends[1:])
    return ends.tolist(), mask.nonzero()[1] if ends[-1] else _NONE


def support_factor(gram: np.ndarray, A: np.ndarray, ridge: float) -> np.ndarray | None:
    """Upper Cholesky factor of gram_AA + ridge, or None where it is not definite beyond rounding."""
    block = gram.copy() if len(A) == len(gram) else gram.take(A, 0).take(A, 1)
    if not len(A):
        return block
    if ridge:
        block.ravel()[:: len(A) + 1] += ridge
    kind = block.dtype.char
    L, info = _LAPACK[kind][0](block.T, clean=0, overwrite_a=1)
    pivots = L.ravel("K")[:: len(A) + 1]
    return L if info == 0 and _MIN(pivots) > SINGULAR[kind] * _MAX(pivots) else None


class _Padded(AbstractEquations):
    """One batch, padded to the largest A and I with rows of the identity."""

    def __init__(self, grams, M, left, free, tight, ridge, slack):
        n, self.shape = M.shape[1], tight.shape
        counts, limited = free.sum(1), tight.sum(1)
        sizes = torch.stack([counts.amax(), counts.amin(), limited.amax()]).tolist() if len(left) else (0, 0, 0)
        most, least, self.held = (int(k) for k in sizes)
        most = max(most, 1)
        H = grams.expand(len(left), n, n) if len(grams) == 1 else grams[left]
        self.A, self.on_A = _first(free, most)
        if most < n:
            H = H.gather(1, self.A[:, :, None].expand(-1, -1, n)).gather(2, self.A[:, None, :].expand(-1, most, -1))
        H = H.clone() if least == n else H * (self.on_A[:, :, None] * self.on_A[:, None, :])
        torch.diagonal(H, dim1=-2, dim2=-1).add_(torch.where(self.on_A > 0, ridge[:, None], 1.0))
        self.L, info = torch.linalg.cholesky_ex(H)
        pivots = torch.diagonal(self.L, dim1=-2, dim2=-1)
        largest = (pivots * self.on_A).amax(1)
        smallest = torch.where(self.on_A > 0, pivots, torch.inf).amin(1)
        self.sound = (info == 0) & (smallest > SINGULAR["d"] * largest)
        if self.held:
            self._join(M, tight, slack)

    def _join(self, M: Tensor, tight: Tensor, slack: Tensor) -> None:
        self.I, self.on_I = _first(tight, self.held)
        self.B = M[self.I[:, :, None], self.A[:, None, :]] * (self.on_I[:, :, None] * self.on_A[:, None, :])
        self.HB = torch.cholesky_solve(self.B.mT, self.L)
        S = self.B @ self.HB
        nudge = slack + _NUDGE * torch.diagonal(S, dim1=-2, dim2=-1).amax(1).clamp(min=1e-300)
        self.S, info = torch.linalg.cholesky_ex(S + torch.diag_embed(nudge[:, None] * self.on_I + (1 - self.on_I)))
        self.sound &= (info == 0) & ((tight.sum(1) <= self.on_A.sum(1)) | (slack > 0))

    def solve(self, right, gap, which=None):
        wanted = self.sound if which is None else self.sound & which
        x = torch.cholesky_solve((right.gather(1, self.A) * self.on_A)[..., None], self.L)
        mu = torch.zeros(self.shape, dtype=right.dtype, device=right.device)
        if self.held:
            short = self.B @ x - (gap.gather(1, self.I) * self.on_I)[..., None]
            q = torch.cholesky_solve(short, self.S)
            x = x - self.HB @ q
            mu.scatter_(1, self.I, torch.where(wanted[:, None], q[..., 0] * self.on_I, 0.0))
        h = torch.zeros_like(right).scatter_(1, self.A, torch.where(wanted[:, None], x[..., 0] * self.on_A, 0.0))
        return h, mu


def _first(mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Positions `(N, count)` of the true entries of each row, filled up with others, and 1.0 where they are true."""
    if count == mask.shape[1]:
        return torch.arange(count, device=mask.device).expand(len(mask), -1), mask.to(torch.float64)
    where = torch.argsort(mask.to(torch.int8), dim=1, descending=True, stable=True)[:, :count]
    return where, mask.gather(1, where).to(torch.float64)
