"""Active set from a sparse start: for few free unknowns and an ill-conditioned Gram matrix that all signals share.

    minimise  1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'h + gamma/2 |h|^2   subject to  h >= 0            (P)

With G = W'w W, formed once, and A = the free unknowns (the others are 0), each round solves (G_AA + gamma) h_A = c_A - lam,
c = W'w (y - b), lets go of those with h_j <= 0 and adds those with a reduced cost nu = G h - c + lam + gamma h < 0: the
worst, at most half as many as h has positive entries now. A round so costs the size of the support, not the layer's: block
pivoting, which frees all that profit at once, begins with half of all unknowns or more. The first support is where the ridge
solution (G + mean(diag G))^-1 (c - lam), which sees past the few directions that dominate c when G is ill-conditioned, is
above the mean of its positive entries.

A guess that breaks no sign is the optimum. A signal whose number of broken signs has not fallen for
`_PATIENCE` rounds exchanges only its last one until the number falls (Murty's rule, finite for a definite G_AA; given up
after `_LONG` more). A G_AA that is not definite is nudged: its guess is rough, and lets go of many. A signal is left to
other methods, and `given_up` says so, where neither brings progress, or where more than `_DENSE` of all unknowns are free:
there block pivoting costs no more. Where rounding in G may show in the reduced costs, what settles is refined against W
itself, so that the squared condition of G costs no digits.

LAPACK takes one signal at a time on the CPU; elsewhere the supports are sorted by size and padded chunk by chunk.

Source: Kim and Park (2011) for the exchange and its backup rule; Massias, Gramfort, Salmon (2018), section 3, for sets that
grow by their own size; the start is ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.proofs import rounding
from ..solver import AbstractSolver

_PATIENCE = 4  # rounds without fewer broken signs than ever before
_LONG = 30  # such single exchanges without progress, after which others are faster
_DENSE = 0.75  # share of free unknowns from which the size of the support saves nothing
_SMALL = 64  # free unknowns that cost next to nothing, whatever their share
_GROWTH = 2  # a round adds at most 1 / _GROWTH of the positive entries
_LEAST = 8  # unknowns that a round may add to any support
_NEAR = 1e-14  # a reduced cost this far below 0, in units of max |c|, is rounding
_SLACK = 1e-8  # of lam: a reduced cost this far from its sign costs the certificate nothing
_LOST = 1e-12  # the same in units of max |c|, for lam near 0
_ROUGH = 3  # rounds in float32: many signs are broken then, and which of them hardly depends on digits
_NUDGE = 1e4  # roundings of the largest diagonal entry that make a singular block definite
_CHUNK = 64_000_000  # numbers in the padded blocks of one chunk, 512 MB


@dataclass(frozen=True)
class SparseActiveSet(AbstractSolver):
    """Active-set rounds grown from few unknowns; ill-conditioned layers whose signals share a Gram matrix.

    One round is one product with G and one Cholesky factorisation of the support's size per signal.
    """

    name = "sparse_active_set"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    max_iter = 200
    first_check = 50
    needs_float64 = True
    exact = True
    on_halves = True

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        rows, reason = problem.rows, super().refuses(problem)
        if reason is None and not (problem.nonnegative or problem.absolute):
            reason = "it serves h >= 0 and |h|"
        if reason is None and bool(rows.off.any()):
            reason = "it serves problems without off rows"
        if reason is None and not rows.alike:
            reason = "it serves signals that share a Gram matrix: the same on rows with the same weights"
        return reason

    def begin(self, problem: AbstractLayerProblem) -> None:
        rows = problem.rows
        self.M, self.fit = rows.W.matrix(), rows.fit[:1]
        self.gram = rows.shared_gram
        c = (self.fit * rows.target) @ self.M
        self.size = c.abs().amax(1)
        self.right = c - problem.linear
        self.ridge = problem.quadratic.expand(problem.N, 1)
        self.rough, self.taken = (self.gram.float(), self.right.float()), 0
        self.free = self._first_support()
        self.h, self.p = torch.zeros_like(c), -rows.fit * rows.target
        self.left = torch.arange(problem.N, device=c.device)
        self.settled = torch.zeros(problem.N, dtype=torch.bool, device=c.device)
        self.doubtful, self.rounds = self.settled.clone(), torch.zeros_like(self.left)
        self.fewest, self.stale = torch.full_like(self.left, problem.n + 1), torch.zeros_like(self.left)

    def _first_support(self) -> Tensor:
        """Where the ridge solution is above the mean of its positive entries, bool `(N, n)`; a guess, in float32."""
        gram, right = self.rough[0].clone(), self.rough[1]
        gram.diagonal().add_(gram.diagonal().mean())
        L, info = torch.linalg.cholesky_ex(gram)
        guess = torch.cholesky_solve(right.T, L).T if int(info) == 0 else right
        profit = guess.clamp(min=0)
        return profit * (profit > 0).sum(1, keepdim=True) > profit.sum(1, keepdim=True)

    def next_check(self, iteration: int) -> int:
        return iteration + 50

    def done(self, tol: float) -> Tensor | None:
        """The signals whose guess broke no sign."""
        return self.settled

    def given_up(self) -> Tensor | None:
        """The signals that this method leaves to others."""
        going = torch.zeros_like(self.settled)
        going[self.left] = True
        return ~self.settled & ~going

    def keep(self, index: Tensor) -> None:
        place = torch.full_like(self.rounds, -1)
        kept = torch.arange(self.problem.N, device=place.device)[index]
        place[kept] = torch.arange(len(kept), device=place.device)
        self.problem, self.left = self.problem.take(index), place[self.left]
        self.left = self.left[self.left >= 0].sort().values
        for name in ("right", "ridge", "size", "free", "h", "p", "settled", "doubtful", "rounds", "fewest", "stale"):
            setattr(self, name, getattr(self, name)[index])
        self.rough = (self.rough[0], self.rough[1][index])

    def point(self) -> Point:
        return Point(self.h.clamp(min=0), self.p)

    def advance(self, steps: int) -> None:
        started, guessed = self.left, torch.zeros_like(self.settled)
        for _ in range(steps):
            if len(self.left) == 0:
                break
            guessed[self._round(*(self.rough if self.taken < _ROUGH else (self.gram, self.right)))] = True
            self.taken += 1
        if len(started):
            self._measure(started, guessed)

    def _round(self, gram: Tensor, right: Tensor) -> Tensor:
        """One guess for the signals left: solve and revise it; gives those whose guess broke no sign."""
        left = self.left
        whole = len(left) == self.problem.N
        free, right, ridge, size = (x if whole else x[left] for x in (self.free, right, self.ridge, self.size))
        h, sound = solve_on_supports(gram, free, ridge[:, 0], right)
        slope = torch.addmm(right, h, gram, beta=-1).masked_fill_(free, 0.0)
        leaving, entering = free & (h <= 0), slope < -_NEAR * size[:, None]
        wrong, more = leaving.sum(1), entering.sum(1)
        positive, broken = free.sum(1) - wrong, wrong + more
        fewer = broken < self.fewest[left]
        stale = torch.where(fewer, 0, self.stale[left] + 1)
        self.fewest[left], self.stale[left] = torch.minimum(broken, self.fewest[left]), stale
        revised = (free ^ leaving) | worst(slope, entering, (positive // _GROWTH).clamp(min=_LEAST))
        single = stale > _PATIENCE
        if single.any():
            revised = torch.where(single[:, None], free ^ last(leaving | entering), revised)
        self.h[left], self.free[left] = h.to(self.h), revised
        self.rounds[left] += 1
        through = (broken == 0) & (gram is self.gram)
        self.doubtful[left] = ~sound
        hopeless = (positive > max(_SMALL, _DENSE * self.problem.n)) | (single & ~sound) | (stale > _PATIENCE + _LONG)
        self.left = left[~through & ~hopeless]
        return left[through]

    def _measure(self, index: Tensor, guessed: Tensor) -> None:
        """p of the signals at `index`; those `guessed` are settled, after a look at W where G may have lost digits."""
        h, lam, guess = self.h[index].clamp_(min=0), self.problem.linear[index, 0], guessed[index]
        self.h[index], self.p[index] = h, self._residual(h, index)
        self.settled[index] = guess
        # nu by G differs from nu by W by no more than this
        lost = rounding(sum(self.M.shape), h.dtype) * (h.sum(1) * self.gram.diagonal().amax() + self.size[index])
        doubtful = index[guess & ((lost > _SLACK * lam) | self.doubtful[index])]
        if len(doubtful):
            self._refine(doubtful)

    def _refine(self, index: Tensor) -> None:
        """Correct h on its support by the reduced cost measured against W; what that leaves broken is not settled."""
        free, h, ridge, lam = self.free[index], self.h[index], self.ridge[index], self.problem.linear[index]
        slope = self.p[index] @ self.M + lam + ridge * h
        dh, _ = solve_on_supports(self.gram, free, ridge[:, 0], slope)
        h = (h - dh).clamp_(min=0)
        p = self._residual(h, index)
        slope = p @ self.M + lam + ridge * h
        broken = torch.where(free, slope.abs(), -slope).amax(1)
        self.h[index], self.p[index] = h, p
        self.settled[index] = broken <= torch.maximum(_SLACK * lam[:, 0], _LOST * self.size[index])

    def _residual(self, h: Tensor, index: Tensor) -> Tensor:
        return self.fit * (h @ self.M.T - self.problem.rows.target[index])


def worst(slope: Tensor, entering: Tensor, most: Tensor) -> Tensor:
    """Of the unknowns `entering` `(N, n)`, the `most` `(N,)` with the lowest slope."""
    many = (entering.sum(1) > most).nonzero()[:, 0]
    if len(many) == 0:
        return entering
    height, most = -slope[many], most[many]
    least = height.topk(int(most.max()), 1).values.gather(1, most[:, None] - 1)
    chosen = entering.clone()
    chosen[many] &= height >= least
    return chosen


def last(mask: Tensor) -> Tensor:
    """The last True of each row of `mask` `(N, n)`, alone."""
    return mask & (mask.flip(1).cumsum(1).flip(1) == 1)


def solve_on_supports(gram: Tensor, free: Tensor, ridge: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """h `(N, n)` with (G_AA + gamma) h_A = right_A and 0 elsewhere, and whether the block was definite `(N,)` or was nudged.

    gram: `(n, n)`; free: bool `(N, n)`; ridge: gamma `(N,)`; right: `(N, n)`.
    """
    return (solve_one_by_one if right.device.type == "cpu" else solve_padded)(gram, free, ridge, right)


def solve_one_by_one(gram: Tensor, free: Tensor, ridge: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """`solve_on_supports` by LAPACK, signal by signal at its own size."""
    from scipy.linalg.lapack import dposv, sposv

    posv = dposv if right.dtype == torch.float64 else sposv
    G, masks, r, gamma = gram.numpy(), free.numpy(), right.numpy(), ridge.tolist()
    h, sound, nudge = np.zeros_like(r), np.ones(len(r), dtype=bool), _NUDGE * np.finfo(r.dtype).eps * G.diagonal().max()
    for i, mask in enumerate(masks):
        A = mask.nonzero()[0]
        if not len(A):
            continue
        for extra in (gamma[i], gamma[i] + nudge):
            block = G.take(A, 0).take(A, 1)
            if extra:
                block.flat[:: len(A) + 1] += extra
            _, x, info = posv(block.T, r[i].take(A), overwrite_a=1, overwrite_b=1)  # .T: symmetric, and so not copied
            if info == 0:
                h[i, A] = x
                break
            sound[i] = False
    return torch.from_numpy(h), torch.from_numpy(sound)


def solve_padded(gram: Tensor, free: Tensor, ridge: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """`solve_on_supports` in batched factorisations of chunks of signals, each padded to its largest support."""
    N, n = free.shape
    count = free.sum(1)
    order = count.argsort(descending=True, stable=True)
    sizes = count[order].tolist()
    row, column = free[order].nonzero(as_tuple=True)
    first = count[order].cumsum(0) - count[order]
    slot = torch.arange(len(row), device=row.device) - first[row]
    # a row and a column of 0 for the padding to point at
    G, r = torch.nn.functional.pad(gram, (0, 1, 0, 1)).flatten(), torch.nn.functional.pad(right, (0, 1))
    h, sound = torch.zeros_like(r), torch.ones(N, dtype=torch.bool, device=free.device)
    lost, nudge = ~sound, _NUDGE * torch.finfo(r.dtype).eps * gram.diagonal().amax()
    start = seen = 0
    while start < N and sizes[start]:
        k = sizes[start]
        stop = min(N, start + max(1, _CHUNK // k**2))
        end, here = seen + sum(sizes[start:stop]), order[start:stop]
        index = torch.full((stop - start, k), n, device=free.device)
        index[row[seen:end] - start, slot[seen:end]] = column[seen:end]
        block = G.index_select(0, (index[:, :, None] * (n + 1) + index[:, None, :]).flatten()).view(-1, k, k)
        block.diagonal(dim1=1, dim2=2).add_(torch.where(index < n, ridge[here, None], 1.0))
        L, info = torch.linalg.cholesky_ex(block)
        singular = (info != 0).nonzero()[:, 0]
        if len(singular):
            block.diagonal(dim1=1, dim2=2).add_(nudge)
            L[singular], again = torch.linalg.cholesky_ex(block[singular])
            lost[here[singular]] = again != 0
        x = torch.cholesky_solve(r[here].gather(1, index)[:, :, None], L)[:, :, 0]
        sound[here] = info == 0
        h[here] = torch.zeros_like(r[here]).scatter_(1, index, x)
        start, seen = stop, end
    return torch.where(lost[:, None], 0.0, h[:, :-1]), sound
