"""Active set from a sparse start: for few free unknowns and an ill-conditioned Gram matrix that all signals share.

    minimise  1/2 sum_on w_i (W h + b - y)_i^2 + lam 1'h + gamma/2 |h|^2   subject to  h >= 0            (P)

With G = W'w W, formed once, and A = the free unknowns (the others are 0), each round solves (G_AA + gamma) h_A = c_A - lam,
c = W'w (y - b), lets go of those with h_j <= 0 and adds those with a reduced cost nu = G h - c + lam + gamma h < 0: the worst
of them, at most as many as h has positive entries now. So a support grows at most twofold per round, and a round costs
its size, not the layer's: block pivoting, which frees all that profit at once, begins with half of all unknowns. The first
support is the largest entries of the ridge solution (G + mean(diag G))^-1 (c - lam), which sees past the few directions that
dominate c when G is ill-conditioned.

A guess that breaks no sign is the optimum. To end for certain, a signal whose number of broken signs has not fallen for
`_PATIENCE` rounds exchanges only its last one until the number falls (Murty's rule, finite for a definite G_AA). A signal is
left to other methods, and `settled` says so, where G_AA is not definite beyond rounding, or where more than `_DENSE` of all
unknowns are free: there block pivoting costs no more. What settles is refined against W itself, so that the squared
condition of G costs no digits.

The batch is sorted by the size of the supports and padded chunk by chunk; all is batched torch on any device.

Source: Kim and Park (2011) for the exchange and its backup rule; Massias, Gramfort, Salmon (2018), section 3, for doubling
the set; the start is ours. Measured: 5 rounds at condition 9e4 with 36 of 392 unknowns free, where block pivoting takes 8.
"""

import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point
from .loop import AbstractMethod

_PATIENCE = 4  # rounds without fewer broken signs than ever before
_DENSE = 0.5  # share of free unknowns from which the size of the support saves nothing
_FIRST = 8  # the first support is at most 1 / _FIRST of all unknowns
_LEAST = 8  # unknowns that a round may add to any support
_PIVOT = 1e-7  # of the largest pivot: below, G_AA is not definite beyond rounding
_NEAR = 1e-14  # a reduced cost this far below 0, in units of |c|, is rounding
_SLACK = 1e-11  # of lam: a reduced cost this far from 0 on A, measured against W itself, needs no refinement
_CHUNK = {"cpu": 120_000, "cuda": 64_000_000}  # numbers in the blocks of one chunk: the CPU's second cache, the GPU's memory


class SparseActiveSet(AbstractMethod):
    """See the module. One round is one product with G and one Cholesky factorisation of the support's size per signal."""

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
        rows = problem.rows
        reason = super().refuses(problem)
        if reason is None and not (problem.nonnegative or problem.absolute):
            reason = "it serves h >= 0 and |h|"
        if reason is None and bool(rows._off.any()):
            reason = "it serves problems without off rows"
        if reason is None and not bool((rows.fit == rows.fit[:1]).all()):
            reason = "it serves signals that share their Gram matrix: the same on rows with the same weights"
        return reason

    def __init__(self, problem: AbstractLayerProblem):
        self.problem, rows = problem, problem.rows
        self.M, self.fit = rows.W.matrix(), rows.fit[:1]
        self.gram = shared_gram(self.M, self.fit[0])
        self.right = (self.fit * rows.target) @ self.M - problem.linear
        self.ridge = problem.quadratic.expand(problem.N, 1)
        self.near = _NEAR * (self.right + problem.linear).abs().amax(1, keepdim=True)
        self.free = self._first_support()
        self.h, self.p = torch.zeros_like(self.right), -rows.fit * rows.target
        self.left = torch.arange(problem.N, device=self.h.device)
        self.settled = torch.zeros(problem.N, dtype=torch.bool, device=self.h.device)
        self.rounds = torch.zeros_like(self.left)
        self.fewest, self.stale = torch.full_like(self.left, problem.n + 1), torch.zeros_like(self.left)

    def _first_support(self) -> Tensor:
        """The largest entries of the ridge solution, bool `(N, n)`."""
        n = self.problem.n
        ridged = self.gram + self.gram.diagonal().mean() * torch.eye(n, dtype=self.gram.dtype, device=self.gram.device)
        L, info = torch.linalg.cholesky_ex(ridged)
        guess = torch.cholesky_solve(self.right.T, L).T
        guess = torch.where((info == 0) & (self.right > 0).any(1, keepdim=True), guess, self.right)
        k = min(n, max(_LEAST, n // _FIRST))
        return (guess > 0) & (guess >= guess.topk(k, 1).values[:, -1:])

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
        positions = torch.arange(self.problem.N, device=self.h.device)[index]
        place = torch.full((self.problem.N,), -1, device=self.h.device)
        place[positions] = torch.arange(len(positions), device=self.h.device)
        self.problem = self.problem.take(index)
        self.left = place[self.left]
        self.left = self.left[self.left >= 0]
        for name in ("right", "ridge", "near", "free", "h", "p", "settled", "rounds", "fewest", "stale"):
            setattr(self, name, getattr(self, name)[index])

    def point(self) -> Point:
        return Point(self.h.clamp(min=0), self.p)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            if len(self.left) == 0:
                return
            self._round()
        if len(self.left):
            self.p[self.left] = self._residual(self.h[self.left].clamp(min=0), self.left)

    def _round(self) -> None:
        """One guess for the signals left: solve it, refine and close those that break no sign, revise the others."""
        left = self.left
        free, right, ridge = self.free[left], self.right[left], self.ridge[left]
        supports = Supports(self.gram, free, ridge[:, 0])
        h = supports.solve(right)
        slope = torch.where(free, 0.0, h @ self.gram - right)
        leaving, entering = free & (h <= 0), slope < -self.near[left]
        positive = free.sum(1) - leaving.sum(1)
        broken = leaving.sum(1) + entering.sum(1)
        self.rounds[left] += 1
        self.h[left] = h
        settled = supports.sound & (broken == 0)
        if settled.any():
            self._close(left, settled, supports, h)
        fewer = broken < self.fewest[left]
        stale = torch.where(fewer, 0, self.stale[left] + 1)
        self.fewest[left], self.stale[left] = torch.minimum(broken, self.fewest[left]), stale
        revised = (free & ~leaving) | worst(slope, entering, positive.clamp(min=_LEAST))
        single = stale > _PATIENCE
        if single.any():
            revised = torch.where(single[:, None], free ^ last(leaving | entering), revised)
        self.free[left] = revised
        going = supports.sound & ~settled & (positive <= _DENSE * self.problem.n)
        self.left = left[going]

    def _residual(self, h: Tensor, index: Tensor) -> Tensor:
        return self.fit * (h @ self.M.T - self.problem.rows.target[index])

    def _close(self, left: Tensor, settled: Tensor, supports: "Supports", h: Tensor) -> None:
        """Measure the settled guesses against W itself, correct those that rounding moved, and keep their h and p."""
        index, ridge, lam = left[settled], self.ridge[left][settled], self.problem.linear[left][settled]
        free, h = self.free[index], h[settled]
        p = self._residual(h, index)
        slope = torch.where(free, p @ self.M + lam + ridge * h, 0.0)
        if bool((slope.abs() > _SLACK * lam).any()):
            full = torch.zeros_like(self.right[left])
            full[settled] = -slope
            dh = supports.solve(full, settled)[settled]
            h, p = h + dh, p + self.fit * (dh @ self.M.T)
        self.h[index], self.p[index], self.settled[index] = h, p, True


class Supports:
    """G_AA + gamma of a batch of supports, factorised; sorted by size and padded chunk by chunk.

    gram: `(n, n)`; free: bool `(N, n)`; ridge: gamma `(N,)`. sound: which blocks are definite beyond rounding, `(N,)`.
    """

    def __init__(self, gram: Tensor, free: Tensor, ridge: Tensor):
        N, n = free.shape
        count = free.sum(1)
        order = count.argsort(descending=True, stable=True)
        sizes = count[order].tolist()
        row, column = free[order].nonzero(as_tuple=True)
        first = count[order].cumsum(0) - count[order]
        slot = torch.arange(len(row), device=row.device) - first[row]
        # a row and a column of 0 for the padding to point at
        padded = torch.nn.functional.pad(gram, (0, 1, 0, 1)).flatten()
        self.sound = torch.ones(N, dtype=torch.bool, device=free.device)
        self.chunks: list[tuple[Tensor, Tensor, Tensor]] = []
        budget, start, seen = _CHUNK.get(free.device.type, _CHUNK["cuda"]), 0, 0
        while start < N and sizes[start]:
            k = sizes[start]
            stop = min(N, start + max(1, budget // k**2))
            end = seen + sum(sizes[start:stop])
            index = torch.full((stop - start, k), n, device=free.device)
            index[row[seen:end] - start, slot[seen:end]] = column[seen:end]
            here = order[start:stop]
            block = padded.index_select(0, (index[:, :, None] * (n + 1) + index[:, None, :]).flatten()).view(-1, k, k)
            diagonal = block.diagonal(dim1=1, dim2=2)
            diagonal += torch.where(index < n, ridge[here, None], diagonal[:, :1])  # the padding's pivots are not the extreme
            L, info = torch.linalg.cholesky_ex(block)
            pivots = L.diagonal(dim1=1, dim2=2)
            self.sound[here] = (info == 0) & (pivots.amin(1) > _PIVOT * pivots.amax(1))
            self.chunks.append((here, index, L))
            start, seen = stop, end

    def solve(self, right: Tensor, which: Tensor | None = None) -> Tensor:
        """h `(N, n)` with (G_AA + gamma) h_A = right_A and 0 elsewhere; only of the signals in `which` `(N,)`."""
        padded = torch.nn.functional.pad(right, (0, 1))
        h = torch.zeros_like(padded)
        for here, index, L in self.chunks:
            if which is not None and not which[here].any():
                continue
            x = torch.cholesky_solve(padded[here].gather(1, index)[:, :, None], L)[:, :, 0]
            h[here] = torch.zeros_like(padded[here]).scatter_(1, index, x)
        return torch.where(self.sound[:, None], h[:, :-1], 0.0)


def shared_gram(M: Tensor, weight: Tensor) -> Tensor:
    """M' diag(weight) M for M `(m, n)` and weight `(m,)`, `(n, n)`."""
    M = M if bool((weight == 1).all()) else weight.sqrt()[:, None] * M
    # numpy notices that the two factors are one, and forms half of the product
    return torch.from_numpy(M.numpy().T @ M.numpy()) if M.device.type == "cpu" else M.T @ M


def worst(slope: Tensor, entering: Tensor, most: Tensor) -> Tensor:
    """Of the unknowns `entering` `(N, n)`, the `most` `(N,)` with the lowest slope."""
    if bool((entering.sum(1) <= most).all()):
        return entering
    most = most.clamp(max=slope.shape[1])
    least = (-slope).topk(int(most.max()), 1).values.gather(1, most[:, None] - 1)
    return entering & (-slope >= least)


def last(mask: Tensor) -> Tensor:
    """The last True of each row of `mask` `(N, n)`, alone."""
    return mask & (mask.flip(1).cumsum(1).flip(1) == 1)
