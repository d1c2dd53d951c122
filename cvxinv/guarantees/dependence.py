"""Whether columns of a matrix depend on each other on some of its rows: exactly, or up to a tolerance.

tol = 0: the entries are the rational numbers that their floats are, and dependence is that over the rationals. Independence
is proved modulo a prime, dependence by a null vector in whole numbers.

tol > 0: columns are first brought to length 1 on all rows, one of length 0 stays. Columns depend on some rows where an x of
length 1 gives at most tol there: their smallest singular value, of as many as there are columns. As for tol = 0 more columns
or fewer rows never make them independent. Weights that are of low rank but for rounding need it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import torch
from torch import Tensor

from ..generator.maps import AbstractMap
from ..inputs import describe, plain_number, read_numbers
from .bounds import Witness
from .prime_field import ranks, residues
from .rational import null_vector

_CHUNK = 400_000  # numbers of the stacks that are decided at once


def read_matrix(W: object) -> Tensor:
    """`W`, a tensor, array or map, as a plain matrix of float64 on the CPU. Raises TypeError or ValueError."""
    if isinstance(W, AbstractMap):
        W = W.matrix()
    device = W.device if isinstance(W, Tensor) else torch.device("cpu")
    M = read_numbers(W, "W", device, "fi").detach().to("cpu", torch.float64)
    if M.ndim != 2:
        raise ValueError(f"expected W as a matrix (m, n), got {describe(W)}; reshape it")
    if not bool(M.isfinite().all()):
        raise ValueError(f"expected finite weights, got {int((~M.isfinite()).sum())} NaN or infinite entries in W; retrain")
    return M


def read_count(s: object, m: int) -> int:
    """A number of rows of a matrix that has `m`. Raises TypeError or ValueError."""
    s = plain_number(s)
    if isinstance(s, bool) or not isinstance(s, int):
        raise TypeError(f"expected s as a whole number of rows, got {describe(s)}; pass an int")
    if not 0 <= s <= m:
        raise ValueError(f"expected s from 0 to {m}, the rows of W, got {s}; pass one of these")
    return s


def read_tolerance(tol: object) -> float:
    """A tolerance in [0, 1). Raises TypeError or ValueError."""
    tol = plain_number(tol)
    if isinstance(tol, bool) or not isinstance(tol, int | float):
        raise TypeError(f"expected tol as a number, got {describe(tol)}; 0 asks for dependence over the rationals")
    if not 0 <= tol < 1:
        raise ValueError(f"expected tol in [0, 1), got {tol}; columns are brought to length 1 before it is asked for")
    return float(tol)


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of `W` `(m, n)`, to be asked about dependence in the sense of `tol`."""

    W: Tensor
    tol: float
    numbers: Tensor  # what is decided upon: residues, or columns of length 1

    @classmethod
    def of(cls, W: Tensor, tol: float) -> "Columns":
        """Of a matrix of float64 on the CPU."""
        return cls(W, tol, unit_columns(W) if tol else residues(W))

    def dependent(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Which sets of columns `(C, k)` may depend on which sets of rows `(R, s)`: `(R, C)`; where False they do not."""
        stack = self.numbers[rows[:, None, :, None], columns[None, :, None, :]]
        flat = stack.flatten(0, 1)
        R, C, k = len(rows), len(columns), columns.shape[1]
        if k > rows.shape[1]:
            return torch.ones(R, C, dtype=torch.bool)
        if self.tol == 0:
            return (ranks(flat) < k).reshape(R, C)
        return (torch.linalg.svdvals(flat)[:, -1] <= self.tol).reshape(R, C)

    def shown(self, rows: Tensor, columns: Tensor) -> Witness | None:
        """How some columns depend on some rows, positions, with the null vector where tol = 0; None where they do not."""
        places = tuple(rows.tolist()), tuple(columns.tolist())
        if self.tol:
            return Witness(*places) if bool(self.dependent(rows[None], columns[None])) else None
        x = null_vector(self.W[rows][:, columns])
        if x is None:
            return None
        used = [j for j, value in enumerate(x) if value]
        return Witness(places[0], tuple(places[1][j] for j in used), tuple(x[j] for j in used))


def unit_columns(W: Tensor) -> Tensor:
    """The columns of `W` brought to length 1; those of length 0 stay."""
    large = W.abs().amax(0, keepdim=True) if len(W) else W.new_zeros(1, W.shape[1])
    D = W / torch.where(large > 0, large, 1.0)  # no square of it is lost or infinite
    length = D.norm(dim=0, keepdim=True)
    return D / torch.where(length > 0, length, 1.0)


def subsets(count: int, size: int, block: int) -> Iterator[Tensor]:
    """All sets of `size` of `count` positions, `(<= block, size)` at a time, in order."""
    every = combinations(range(count), size)
    while part := list(islice(every, block)):
        yield torch.tensor(part, dtype=torch.long).reshape(len(part), size)


def pairs_of_sets(m: int, s: int, n: int, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of all sets of s of m rows with blocks of all sets of k of n columns, as many at once as are decided fast."""
    block = max(1, _CHUNK // max(1, s * k))
    wide = min(block, comb(m, s))
    for columns in subsets(n, k, max(1, block // wide)):
        for rows in subsets(m, s, wide):
            yield rows, columns
