"""Mutual coherence, and its form over sets of rows, which is no combinatorial quantity.

    coherence(W)        mu   = max over columns i != j of |w_i'w_j| / (|w_i| |w_j|)
    sub_coherence(W,s)  mu_s = max over sets S of s rows of mu(W^S)

A column that is 0 on some S is parallel to every other: mu_s = 1 then, so that no guarantee is drawn from it.

For two columns a, b and s rows, as |a| |b| is the least of (r |a|^2 + |b|^2 / r) / 2 over r > 0, at r = |b| / |a|,

    cos_S >= t   iff   max over r of the sum over S of q_k(r),  q_k = a_k b_k - t (r a_k^2 + b_k^2 / r) / 2,  is >= 0,

and for a given r the best S are the s largest q_k. So one number r is searched, not sets: where log r is within d of
log(|b_S| / |a_S|) the mean of squares is at most cosh(d) |a_S| |b_S|, and where the s largest q_k add up to less than 0 at
t = best / cosh(d), no such S has a larger cosine than the best that is known. Intervals of log r are halved until all are
decided. mu_t >= mu_s for t <= s: the mean over t of the s rows of a_k b_k and of (a_k^2 + b_k^2) / 2 falls alike.

Source: Donoho, Elad (2003); Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), eq. 2 and
Definition 3; the search over r is derived here.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .bounds import Bounds, Witness
from .dependence import read_count, read_matrix, unit_columns

_GAP = 1e-10  # relative, at which an interval is decided
_CHUNK = 4_000_000  # numbers held at once
_RAISED = 64  # intervals of a block from which the best is raised
_FIRST = 0.25  # half the length of the first intervals of log r


def coherence(W: object) -> Bounds:
    """The largest |cosine| between two columns of `W` `(m, n)`, a tensor, array or map; 0 where there are fewer than two.

    The witness holds the two columns. Raises TypeError or ValueError for what is no finite matrix.
    """
    began, M = time.perf_counter(), read_matrix(W)
    if M.shape[1] < 2:
        return Bounds("coherence", 0.0, 0.0, ("there are no two columns",))
    D = unit_columns(M)
    cosine = (D.T @ D).abs()
    none = (D == 0).all(0)
    cosine[none], cosine[:, none] = 1.0, 1.0
    cosine.fill_diagonal_(-1.0)
    i, j = divmod(int(cosine.argmax()), M.shape[1])
    mu = min(1.0, float(cosine[i, j]))
    why = "a column of zeros counts as parallel to all" if bool(none.any()) else "all pairs seen, to rounding"
    witness = Witness(tuple(range(len(M))), tuple(sorted((i, j))))
    return Bounds("coherence", mu, mu, (why,), witness, time.perf_counter() - began)


def sub_coherence(W: object, s: int, *, time_limit: float = 10.0, progress: bool | None = None) -> Bounds:
    """The largest coherence of `s` rows of `W` `(m, n)`; the witness holds rows and columns.

    time_limit: seconds, after which the upper bound is that of the intervals that are left. progress: a bar of the pairs of
    columns; None shows it on a terminal. The rest as in `coherence`.
    """
    began, M = time.perf_counter(), read_matrix(W)
    m, n, s, name = *M.shape, read_count(s, len(M)), f"coherence of {s} rows"
    if n < 2:
        return Bounds(name, 0.0, 0.0, ("there are no two columns",))
    zeros = (M == 0).sum(0) >= s
    if bool(zeros.any()):
        j = int(zeros.to(torch.uint8).argmax())
        rows = (M[:, j] == 0).nonzero()[:s, 0].tolist()
        witness = Witness(tuple(rows), tuple(sorted((j, 1 if j == 0 else 0))))
        return Bounds(name, 1.0, 1.0, ("a column that is 0 on s rows counts as parallel to all",), witness)
    search = _Search(M, s)
    open_at = search.run(began + time_limit, progress)
    best = min(1.0, search.best)
    upper = max(best, min(1.0, open_at * (1 + 1e-12) + 1e-14 * m))
    how = ("these rows and columns", "all pairs of columns decided" if open_at <= best * (1 + 1e-9) else "time ran out")
    return Bounds(name, best, upper, how, search.witness, time.perf_counter() - began)


@dataclass(eq=False)
class _Search:
    """Intervals of log r of pairs of columns, decided until none is left. best: the largest cosine met, with its witness."""

    W: Tensor
    s: int
    best: float = 0.0
    witness: Witness | None = None

    def __post_init__(self) -> None:
        self.D = unit_columns(self.W)
        squares = self.D.square().sort(0).values
        self.least, self.most = squares[: self.s].sum(0), squares[-self.s :].sum(0)

    def run(self, deadline: float, progress: bool | None) -> float:
        """An upper bound on every cosine, the best met where all intervals were decided before `deadline`."""
        n = self.W.shape[1]
        pairs = torch.triu_indices(n, n, 1).split(max(1, _CHUNK // (40 * len(self.W))), dim=1)
        soon = time.perf_counter() + (deadline - time.perf_counter()) / 4
        for i, j in pairs:
            if time.perf_counter() < soon:
                self._meet(i, j)
        bound = 0.0
        disable = None if progress is None else not progress
        for i, j in tqdm(pairs, "pairs of columns", unit="block", disable=disable, leave=False):
            if bound < 1:
                bound = max(bound, self._pairs(i, j, deadline) if time.perf_counter() < deadline else 1.0)
        return bound

    def _meet(self, i: Tensor, j: Tensor) -> None:
        """Raise the best to the cosines of the rows with the largest and smallest products."""
        one = torch.ones(len(i), dtype=self.D.dtype)
        for sign in (one, -one):
            self._raise(i, j, sign, one)

    def _pairs(self, i: Tensor, j: Tensor, deadline: float) -> float:
        low = 0.5 * (self.least[j].clamp(min=1e-300) / self.most[i]).log()
        high = 0.5 * (self.most[j] / self.least[i].clamp(min=1e-300)).log()
        count = ((high - low) / (2 * _FIRST)).ceil().clamp(min=1).long()
        which = torch.repeat_interleave(torch.arange(len(i)), count)
        place = torch.arange(len(which)) - (count.cumsum(0) - count)[which]
        half = ((high - low) / (2 * count))[which]
        centre = low[which] + (2 * place + 1) * half
        i, j = i[which].repeat(2), j[which].repeat(2)
        centre, half = centre.repeat(2), half.repeat(2)
        sign = torch.ones(len(i), dtype=self.D.dtype)
        sign[len(i) // 2 :] = -1
        while len(i):
            open_ = torch.cat([self._open(*part) for part in self._parts(i, j, sign, centre, half)])
            i, j, sign, centre, half = i[open_], j[open_], sign[open_], centre[open_], half[open_] / 2
            if time.perf_counter() > deadline:
                return max(self.best, self._left(i, j, sign, centre, 2 * half))
            i, j, sign = i.repeat(2), j.repeat(2), sign.repeat(2)
            centre, half = torch.cat([centre - half, centre + half]), half.repeat(2)
        return self.best * (1 + _GAP)

    def _parts(self, *fields: Tensor) -> Iterator[tuple[Tensor, ...]]:
        block = max(1, _CHUNK // len(self.W))
        return zip(*(f.split(block) for f in fields), strict=True)

    def _shares(self, i: Tensor, j: Tensor, sign: Tensor, r: Tensor, t: Tensor) -> Tensor:
        """q_k of each row, `(K, m)`."""
        a, b = self.D.T[i], self.D.T[j]
        return sign[:, None] * a * b - (t * r / 2)[:, None] * a.square() - (t / r / 2)[:, None] * b.square()

    def _totals(self, *fields: Tensor) -> Tensor:
        """The s largest q_k, added up, `(K,)`."""
        q, left = self._shares(*fields).numpy(), len(self.W) - self.s
        return torch.from_numpy((np.partition(q, left, axis=1) if left else q)[:, left:].sum(1))

    def _open(self, i: Tensor, j: Tensor, sign: Tensor, centre: Tensor, half: Tensor) -> Tensor:
        """Whether an interval may hold a cosine above the best, which is raised to some of those met on the way."""
        r = centre.exp()
        total = self._totals(i, j, sign, r, self.best * (1 + _GAP) / half.cosh())
        open_ = total >= -1e-14 * len(self.W) * (1 + r + 1 / r)
        if bool(open_.any()):
            some = total.topk(min(_RAISED, len(total))).indices
            self._raise(i[some], j[some], sign[some], r[some])
        return open_ & (half.cosh() > 1 + _GAP)

    def _raise(self, i: Tensor, j: Tensor, sign: Tensor, r: Tensor) -> None:
        rows = self._shares(i, j, sign, r, torch.full_like(r, self.best)).topk(self.s, dim=1).indices
        a, b = self.D[rows, i[:, None]], self.D[rows, j[:, None]]
        cosine = (a * b).sum(1).abs() / (a.norm(dim=1) * b.norm(dim=1))
        k = int(cosine.argmax())
        if float(cosine[k]) > self.best:
            self.best = float(cosine[k])
            places = tuple(sorted(rows[k].tolist())), tuple(sorted((int(i[k]), int(j[k]))))
            self.witness = Witness(*places)

    def _left(self, i: Tensor, j: Tensor, sign: Tensor, centre: Tensor, half: Tensor) -> float:
        """An upper bound on the cosines of intervals that are still open: they are bisected in t, all at once."""
        if not len(i):
            return self.best * (1 + _GAP)
        low, high = self.best, 1.0
        for _ in range(5):
            t = (low + high) / 2
            level = torch.full_like(centre, t)
            totals = [self._totals(*part) for part in self._parts(i, j, sign, centre.exp(), level)]
            low, high = (t, high) if float(torch.cat(totals).max()) >= -1e-12 else (low, t)
        return min(1.0, high * float(half.cosh().max()))
