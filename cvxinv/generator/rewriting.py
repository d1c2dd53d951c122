"""Piecewise linear functions written with ReLUs, exactly.

A chain of lines with kinks t_1 < ... < t_K, slopes s_0, ..., s_K and the value v at t_1 is

    f(u) = v - s_0 relu(t_1 - u) + s_1 relu(u - t_1) + sum_{k > 1} (s_k - s_{k-1}) relu(u - t_k)

so that min(max(u, lo), hi) = lo + relu(u - lo) - relu(u - hi), and u or a u (PReLU) = relu(u) - a relu(-u). The largest of a
window comes in rounds of pairs, max(a, b) = relu(a - b) + b, with b = relu(b) where nothing is below 0, else
b = relu(b) - relu(-b).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UnsupportedLayerError
from .activations import AbstractActivation, LeakyReLU
from .maps import Sparse

Shape = tuple[int, ...]

_MOST_UNITS = 300_000  # ReLU units that one layer may become; a layer of 128 channels of 32 x 32 has 131,072


@dataclass(frozen=True, eq=False)
class Lines:
    """Units relu(`sign` (u - `kink`)) of m numbers and what each is worth, `(K, m)`; `value` `(m,)` at the first kink."""

    sign: Tensor
    kink: Tensor
    worth: Tensor
    value: Tensor

    @classmethod
    def leaking(cls, slopes: Tensor) -> "Lines":
        """u, or `slopes` u below 0, `(m,)`."""
        ones = torch.ones_like(slopes)
        return cls(torch.stack([ones, -ones]), torch.stack([0 * ones] * 2), torch.stack([ones, -slopes]), 0 * ones)

    @property
    def words(self) -> str:
        """How many units it takes."""
        K, m = self.sign.shape
        return f"{K} x {m} ReLU units"

    def units(self, shape: Shape) -> tuple[Sparse, Tensor]:
        """Map and bias from m numbers of `shape` to what the ReLUs take, one block of that shape behind the other."""
        K, m = self.sign.shape
        index = torch.arange(m).expand(K, m).reshape(-1, 1)
        W = Sparse(index, self.sign.reshape(-1, 1), shape, (K * shape[0], *shape[1:]))
        return W, (-self.sign * self.kink).reshape(-1)

    def sums(self, shape: Shape) -> tuple[Sparse, Tensor]:
        """Map and bias from the units to the m values of `shape`."""
        K, m = self.sign.shape
        index = torch.arange(m)[:, None] + m * torch.arange(K)
        return Sparse(index, self.worth.T.contiguous(), (K * shape[0], *shape[1:]), shape), self.value


def of_leaks(slopes: Tensor) -> AbstractActivation | None:
    """The one activation with these slopes below 0, or None where there is none."""
    one = float(slopes[0])
    return LeakyReLU.of(one) if 0 <= one < 1 and bool((slopes == one).all()) else None


def lines_of(activation: AbstractActivation, m: int) -> Lines | None:
    """The lines of m equal activations, or None where it has none, or would take very many units."""
    if activation.pieces is None or len(activation.pieces[1]) * m > _MOST_UNITS:
        return None
    (first, *others), slopes = activation.pieces
    terms = [(-1.0, first, -slopes[0]), (1.0, first, slopes[1])]
    terms += [(1.0, t, after - before) for t, before, after in zip(others, slopes[1:], slopes[2:], strict=False)]
    columns = torch.tensor([term for term in terms if term[2] != 0], dtype=torch.float64).T
    sign, kink, worth = (column[:, None].expand(-1, m) for column in columns)
    value = activation(torch.full((m,), first, dtype=torch.float64))
    return Lines(sign, kink, worth, value)


def largest_rounds(
    index: Tensor, before: Shape, after: Shape, nonnegative: bool, place: str
) -> Iterator[tuple[Sparse, Sparse]]:
    """Maps to ReLU units and from them, round by round, to the largest number of each window.

    index: `(out, k)` into a signal of shape `before`, k > 1, with -1 where a window has fewer; none is empty. Raises:
    UnsupportedLayerError where that takes too many units.
    """
    windows, k = index.shape
    most = windows * ((k + 1) // 2) * (2 if nonnegative else 3)
    if most > _MOST_UNITS:
        raise UnsupportedLayerError(
            f"expected windows whose largest numbers take at most {_MOST_UNITS:,} ReLU units, got {most:,} in {place}; pool "
            "less, or later, where pictures are smaller"
        )
    # the largest of some numbers is that of the same with one of them repeated
    index, shape = torch.where(index < 0, index.amax(1, keepdim=True), index), before
    while index.shape[1] > 1:
        units, sums = _pairs(index, shape, nonnegative)
        left = (index.shape[1] + 1) // 2
        shape = after if left == 1 else (windows * left,)
        yield units, replace(sums, shape_out=shape)
        index = torch.arange(windows * left).reshape(windows, left)


def _pairs(index: Tensor, shape: Shape, nonnegative: bool) -> tuple[Sparse, Sparse]:
    """Units of one round and their sums, `(windows, ceil(k / 2))` of them; what meets itself needs no difference."""
    odd = index[:, index.shape[1] // 2 * 2 :]
    a, b = (torch.cat([index[:, start : index.shape[1] // 2 * 2 : 2], odd], 1).reshape(-1) for start in (0, 1))
    differ, n, signs = a != b, len(a), torch.tensor([1.0] if nonnegative else [1.0, -1.0], dtype=torch.float64)
    count = int(differ.sum())
    own = torch.stack([b, b], 1)
    units = Sparse(
        torch.cat([torch.stack([a, b], 1)[differ], own.repeat(len(signs), 1)]),
        torch.cat([_row(1.0, -1.0).expand(count, 2), *(_row(float(sign), 0.0).expand(n, 2) for sign in signs)]),
        shape, (count + len(signs) * n,),
    )  # fmt: skip
    where = torch.arange(n)[:, None] + count + n * torch.arange(len(signs))
    places = torch.cat([(differ.cumsum(0) - 1).clamp(min=0)[:, None], where], 1)
    worth = torch.cat([differ.double()[:, None], signs.expand(n, -1)], 1)
    return units, Sparse(places, worth, units.shape_out, (n,))


def _row(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)
