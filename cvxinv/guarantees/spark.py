"""Spark, sub-spark and sub-rank: exact where all sets can be gone through, two-sided bounds elsewhere.

    spark(W)        the smallest number of columns of W that depend on each other; infinite where all are independent
    sub_spark(W,s)  the smallest spark of s rows of W
    sub_rank(W,s)   the smallest rank of s rows of W

What "depend" means is `tol`'s to say (`dependence.py`): 0 over the rationals, else up to a tolerance. A zero column depends
by itself; the spark of no rows is 1.

All three are NP-hard. Sets are gone through by their size, smallest first, so that time that runs out leaves a proof: no k
columns depend, the spark is at least k + 1. Lower bounds before that, with which the search begins:

    coherence   1 + (1 - tol^2) / mu, by Gershgorin's discs, with mu_s on s rows
    null space  |x_j| <= a_j |x|_1 for every x with W x = 0, a_j = |e_j + W'l|_inf for any l: a null vector has as many
                entries as it takes the largest a_j to add up to 1. The best l solves a linear program, min |x|_1 with
                W x = 0, x_j = 1, whose x is also a null vector of few entries

and upper ones: s + 1 columns on s rows, the null vectors of the linear programs, dependent sets met in random orders.

Source: Donoho, Elad, "Optimally sparse representation in general dictionaries" (2003): spark, 1 + 1/mu; Aberdam, Simon,
Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Definitions 1 and 2; derived here: the
null-space bound.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, comb, inf

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .bounds import Bounds, Witness
from .coherence import coherence, sub_coherence
from .dependence import Columns, pairs_of_sets, read_count, read_matrix, read_tolerance, subsets
from .prime_field import ranks, residues
from .programs import linear_program
from .rational import rank as exact_rank

_FEW = 20_000  # sets that are gone through before any linear program is worth it
_EXACT_SIDE = 64  # rows or columns up to which ranks are decided in whole numbers
_MOST_PROGRAMS = 400  # columns up to which a linear program is solved for each
_ROUNDING = 2.0**-50
_DRAWS = 30


def spark(
    W: object, *, tol: float = 0.0, time_limit: float = 10.0, until: float | None = None, progress: bool | None = None
) -> Bounds:
    """The smallest number of columns of `W` `(m, n)`, a tensor, array or map, that depend on each other.

    tol: see the module. time_limit: seconds for going through sets. until: stop once the spark is known to be above it, or
    at most it. progress: a bar; None shows it on a terminal. The witness holds the columns and, for tol = 0, their null
    vector. Raises TypeError or ValueError for what is no finite matrix.
    """
    M = read_matrix(W)
    return _least_dependent("spark", M, len(M), read_tolerance(tol), _Limits(time_limit, until, progress))


def sub_spark(
    W: object,
    s: int,
    *,
    tol: float = 0.0,
    time_limit: float = 10.0,
    until: float | None = None,
    progress: bool | None = None,
) -> Bounds:
    """The smallest spark of `s` rows of `W` `(m, n)`; the witness also holds the rows. Everything else as in `spark`."""
    M = read_matrix(W)
    s = read_count(s, len(M))
    return _least_dependent(f"sub-spark of {s} rows", M, s, read_tolerance(tol), _Limits(time_limit, until, progress))


def sub_rank(W: object, s: int, *, tol: float = 0.0, time_limit: float = 10.0, progress: bool | None = None) -> Bounds:
    """The smallest rank of `s` rows of `W` `(m, n)`; the witness holds such rows and all columns.

    tol: above 0 the rank is the number of singular values above tol times the largest of W. The rest as in `spark`.
    """
    M, tol = read_matrix(W), read_tolerance(tol)
    return _least_rank(M, read_count(s, len(M)), tol, _Limits(time_limit, None, progress))


@dataclass
class _Limits:
    """Until when sets are gone through, and how that is shown."""

    seconds: float
    until: float | None
    progress: bool | None

    def __post_init__(self) -> None:
        if not isinstance(self.seconds, int | float) or not self.seconds >= 0:
            raise ValueError(f"expected time_limit in seconds >= 0, got {self.seconds!r}; pass e.g. 10.0")
        self.began = time.perf_counter()

    def late(self, share: float = 1.0) -> bool:
        return time.perf_counter() - self.began > share * self.seconds

    def bar(self, total: int, name: str) -> tqdm:
        disable = None if self.progress is None else not self.progress
        return tqdm(total=total, desc=name, unit="set", disable=disable, leave=False)

    def done(self, found: Bounds) -> Bounds:
        return replace(found, seconds=time.perf_counter() - self.began)

    def settled(self, lower: float, upper: float) -> bool:
        return lower >= upper or (self.until is not None and (lower > self.until or upper <= self.until))


# --- spark and sub-spark --------------------------------------------------------------------------


@dataclass
class _Known:
    """What is known so far, and why."""

    lower: float
    upper: float
    below: str = "any column may be 0"
    above: str = "nothing was found that depends"
    witness: Witness | None = None

    def raise_to(self, lower: float, why: str) -> None:
        if lower > self.lower:
            self.lower, self.below = lower, why

    def lower_to(self, upper: float, why: str, witness: Witness | None) -> None:
        if upper < self.upper:
            self.upper, self.above, self.witness = upper, why, witness

    def bounds(self, name: str) -> Bounds:
        return Bounds(
            name, self.lower, self.upper, (self.below,) if self.lower == inf else (self.below, self.above), self.witness
        )


def _least_dependent(name: str, W: Tensor, s: int, tol: float, limits: _Limits) -> Bounds:
    n, known, columns = W.shape[1], _Known(1, inf), Columns.of(W, tol)
    if n == 0:
        return limits.done(Bounds(name, inf, inf, ("there is no column",)))
    if n > s:
        some = Witness(tuple(range(s)), tuple(range(s + 1)))
        known.lower_to(s + 1, f"{s + 1} columns on {s} row{'s' * (s != 1)} depend", some)
    _single_columns(known, columns, s)
    if n <= s:
        _all_columns(known, columns, s)
    if not limits.settled(known.lower, known.upper):
        _cheap_bounds(known, columns, s, limits)
    while not limits.settled(known.lower, known.upper) and not limits.late():
        if not _go_through(known, columns, s, int(known.lower), limits):
            break
    if not limits.settled(known.lower, known.upper):
        _draw(known, columns, s, limits)
    return limits.done(known.bounds(name))


def _single_columns(known: _Known, columns: Columns, s: int) -> None:
    """Sets of one column: the s smallest entries of each."""
    small, order = columns.numbers.abs().sort(0)
    length = small[:s].norm(dim=0)
    for j in (length <= columns.tol).nonzero()[:1, 0]:
        # residues are 0 too where an entry is a multiple of the prime
        if witness := columns.shown(order[:s, j].sort().values, j[None]):
            known.lower_to(1, f"column {int(j)} is 0 on {s} rows", witness)
            return
    if bool((length > columns.tol).all()):
        known.raise_to(2, "no column is 0 there")


def _all_columns(known: _Known, columns: Columns, s: int) -> None:
    """Whether all columns are independent on all sets of s rows, where these are few: then none depend at all."""
    m, n = columns.W.shape
    if comb(m, s) > _FEW:
        return
    every = torch.arange(n)[None]
    if not any(bool(columns.dependent(rows, every).any()) for rows in subsets(m, s, 1000)):
        known.raise_to(inf, f"all {n} columns are independent on any {s} rows, {_by(columns)}")


def _by(columns: Columns) -> str:
    return "by singular values" if columns.tol else "by ranks modulo a prime"


def _cheap_bounds(known: _Known, columns: Columns, s: int, limits: _Limits) -> None:
    """Lower bounds of coherence and null space, where there are many sets, and dependent sets of the second."""
    m, n = columns.W.shape
    most = n if known.upper == inf else known.upper - 1
    if sum(comb(n, k) for k in range(2, int(most) + 1)) * comb(m, s) <= _FEW or n < 2:
        return
    if s == m:
        mu = coherence(columns.W).upper
    else:  # lengths on fewer rows are no longer 1, where a tolerance counts by those of all
        mu = (
            1.0
            if columns.tol
            else sub_coherence(columns.W, s, time_limit=limits.seconds / 2, progress=limits.progress).upper
        )
    room = (1 - columns.tol**2) / min(1.0, mu * (1 + 1e-9) + m * _ROUNDING)
    known.raise_to(ceil((1 + room) * (1 - 1e-12)), f"1 + 1/mu by coherence, mu = {mu:.4g}")
    if s == m and columns.tol == 0 and n <= _MOST_PROGRAMS and not limits.settled(known.lower, known.upper):
        _null_space(known, columns, limits)


def _null_space(known: _Known, columns: Columns, limits: _Limits) -> None:
    W = columns.W
    share = []
    for j in range(W.shape[1]):
        if limits.late():
            share.append(1.0)
            continue
        a, x = null_space_share(W, j)
        share.append(a)
        support = np.flatnonzero(np.abs(x) > 1e-9 * np.abs(x).max()) if x is not None else np.empty(0)
        if 0 < len(support) < known.upper and len(support) <= _EXACT_SIDE:
            witness = columns.shown(torch.arange(len(W)), torch.as_tensor(support))
            if witness:
                known.lower_to(len(witness.columns), "a null vector of a linear program", witness)
    total = np.cumsum(sorted(share, reverse=True))
    enough = np.flatnonzero(total >= 1 - 1e-12)
    known.raise_to(float(enough[0] + 1) if len(enough) else inf, "a linear program bounds the entries of null vectors")


def null_space_share(W: Tensor, j: int) -> tuple[float, np.ndarray | None]:
    """a with |x_j| <= a |x|_1 for every x with W x = 0, true whatever the solver did; and such an x, nearly, with x_j = 1.

    W: `(m, n)` float64 on the CPU.
    """
    m, n = W.shape
    M = W.numpy()
    # powers of 2 leave null vectors as exact as they are
    M = np.ldexp(M, -np.frexp(np.abs(M).max(1, initial=0))[1][:, None])
    unit = np.zeros(n)
    unit[j] = 1
    A = np.vstack([np.hstack([M, -M]), np.hstack([unit, -unit])[None]])
    found = linear_program(np.ones(2 * n), A_eq=A, b_eq=np.r_[np.zeros(m), 1.0], bounds=(0, None))
    if found.status == 0 and abs(found.eqlin.marginals[-1]) > 1e-12:
        l, x = found.eqlin.marginals[:m] / found.eqlin.marginals[-1], found.x[:n] - found.x[n:]
    else:
        l, x = -np.linalg.lstsq(M.T, unit, rcond=None)[0], None
    rounding = (m + 2) * _ROUNDING * (unit + np.abs(M.T) @ np.abs(l))
    return min(1.0, float((np.abs(unit + M.T @ l) + rounding).max())), x


def _go_through(known: _Known, columns: Columns, s: int, k: int, limits: _Limits) -> bool:
    """All sets of k columns on all sets of s rows; False where time ran out before all were seen."""
    m, n = columns.W.shape
    with limits.bar(comb(n, k) * comb(m, s), f"sets of {k} columns") as shown:
        for rows, some in pairs_of_sets(m, s, n, k):
            for r, c in columns.dependent(rows, some).nonzero().tolist():
                if witness := columns.shown(rows[r], some[c]):
                    known.lower_to(len(witness.columns), "these columns depend", witness)
                    known.raise_to(k, f"no {k - 1} columns depend, all sets seen, {_by(columns)}")
                    return True
            shown.update(len(rows) * len(some))
            if limits.late():
                return False
    known.raise_to(k + 1 if k < n else inf, f"no {k} columns depend, all sets seen, {_by(columns)}")
    return True


def _draw(known: _Known, columns: Columns, s: int, limits: _Limits) -> None:
    """Dependent sets of few columns, met in random orders of rows and columns."""
    m, n = columns.W.shape
    source = torch.Generator().manual_seed(0)
    for _ in range(_DRAWS):
        if limits.late(1.5):
            return
        rows = torch.randperm(m, generator=source)[:s].sort().values
        order = torch.randperm(n, generator=source)[: s + 1]
        if columns.tol == 0:
            if max(s, len(order)) > _EXACT_SIDE:
                return
            witness = columns.shown(rows, order)
        else:
            witness = _thinned(columns, rows, order)
        if witness:
            known.lower_to(len(witness.columns), "columns that depend, met in a random order", witness)


def _thinned(columns: Columns, rows: Tensor, order: Tensor) -> Witness | None:
    """The first columns of an order that depend on these rows, without those that are not needed."""
    sizes = range(1, len(order) + 1)
    k = next((k for k in sizes if bool(columns.dependent(rows[None], order[None, :k]))), None)
    if k is None:
        return None
    left = order[:k]
    for j in order[: k - 1]:
        fewer = left[left != j]
        if len(fewer) and bool(columns.dependent(rows[None], fewer[None])):
            left = fewer
    return columns.shown(rows, left.sort().values)


# --- sub-rank -------------------------------------------------------------------------------------


def _least_rank(W: Tensor, s: int, tol: float, limits: _Limits) -> Bounds:
    (m, n), name = W.shape, f"sub-rank of {s} rows"
    if min(s, n) == 0:
        return limits.done(Bounds(name, 0, 0, ("there is nothing that could be independent",)))
    measure = _Ranks.of(W, tol)
    every = torch.arange(m)
    whole = int(measure.at_least(every[None])[0])
    least = max(0, whole - (m - s))
    why = f"the rank of W is at least {whole}, and each row left out takes at most 1"
    if least < n < s and comb(m, n) < comb(m, s) and (fewest := _fewest(measure, m, n, limits)) > least:
        least, why = fewest, f"any {n} rows, all seen, have a rank of at least {fewest}"
    upper, witness, shown_by, seen_all, lowest = min(s, n) + 1, None, "", True, min(s, n)
    with limits.bar(comb(m, s), f"sets of {s} rows") as shown:
        for rows in _sets_of_rows(W, s):
            found = measure.at_least(rows)
            lowest = min(lowest, int(found.min()))
            for r in (found < upper).nonzero()[:, 0].tolist() if lowest < upper else []:
                if int(found[r]) < upper and (sure := measure.exactly(rows[r])) < upper:
                    upper, shown_by = sure, "these rows have that rank"
                    witness = Witness(tuple(rows[r].tolist()), tuple(range(n)))
            shown.update(len(rows))
            if upper <= least:
                break
            if limits.late():
                seen_all = False
                break
    if seen_all and upper > least:
        least, why = lowest, f"all sets of {s} rows seen, {'by singular values' if tol else 'by ranks modulo a prime'}"
    if upper > min(s, n):
        upper, shown_by = min(s, n), f"{s} rows and {n} columns have no higher rank"
    return limits.done(Bounds(name, min(least, upper), upper, (why, shown_by), witness))


def _fewest(measure: "_Ranks", m: int, n: int, limits: _Limits) -> int:
    """The least rank of n rows, which more rows have too; 0 where time ran out."""
    lowest = n
    with limits.bar(comb(m, n), f"sets of {n} rows") as shown:
        for rows in subsets(m, n, max(1, 400_000 // n**2)):
            lowest = min(lowest, int(measure.at_least(rows).min()))
            shown.update(len(rows))
            if lowest == 0 or limits.late(0.5):
                return 0
    return lowest


def _sets_of_rows(W: Tensor, s: int) -> Iterator[Tensor]:
    """Some sets that are likely to have a low rank, then all: of each column the rows where it is smallest."""
    block = max(1, 400_000 // (s * W.shape[1]))
    yield from W.abs().argsort(0)[:s].T.sort(1).values.split(block)
    yield from subsets(len(W), s, block)


@dataclass(frozen=True, eq=False)
class _Ranks:
    """Ranks of sets of rows in the sense of `tol`."""

    W: Tensor
    level: float
    numbers: Tensor

    @classmethod
    def of(cls, W: Tensor, tol: float) -> "_Ranks":
        level = tol * float(torch.linalg.matrix_norm(W, 2)) if tol else 0.0
        return cls(W, level, W if tol else residues(W))

    def at_least(self, rows: Tensor) -> Tensor:
        """Lower bounds on the ranks of rows `(R, s)`: `(R,)`; with a tolerance the ranks themselves."""
        if self.level:
            return (torch.linalg.svdvals(self.numbers[rows]) > self.level).sum(1)
        return ranks(self.numbers[rows])

    def exactly(self, rows: Tensor) -> int:
        """The rank of some rows, or an upper bound on it where they are too many for whole numbers."""
        part = self.W[rows]
        if self.level:
            return int(self.at_least(rows[None])[0])
        return exact_rank(part) if min(part.shape) <= _EXACT_SIDE else min(part.shape)
