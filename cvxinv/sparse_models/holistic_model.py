"""The multi-layer model with zeros in the middle: g_L is sparse, and what lies between it and the signal has some zeros.

    x = D_1 g_1,   g_{i-1} = D_i g_i,   |g_L|_0 <= s,   g_i has at least l_i zeros for 0 < i < L

E = D_1...D_L, and V has the rows of D_2...D_L, ..., D_L one below the other, so that V g_L = (g_1, ..., g_{L-1}). With the
support S of g_L and the cosupport Z, the rows of V where V g_L is 0, the representations are a subspace,

    U(S, Z) = {h : h = 0 outside of S, V_Z h = 0},     dim U = s - sum l_i in general position,

a synthesis model in S and an analysis model in Z. The g_i between may be dense: their zeros count, not their sparsity.

Source: Aberdam, Sulam, Elad, "Multi-layer sparse coding: the holistic way" (2018), as in `sparse` note 3.1. The full text
was not at hand; the dimension is derived in the note. Paper's letters: gamma_i -> g_i, gamma_L -> h.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal
from ..generator.maps import AbstractMap
from ..inputs import describe, plain_number
from ..lengths import lengths
from ..surroundings import undisturbed
from .cascade import Cascade

NULL = 1e-10  # of the largest singular value: what is smaller counts as 0
_AT_ONCE = 20_000_000  # numbers of the stacks of matrices that are decomposed at once


@dataclass(frozen=True, eq=False)
class MultiLayerSignals(Batch):
    """Signals of a `MultiLayerModel`. x: `(N, m_0)`; representations: g_1, ..., g_L, `(N, m_i)` each.

    support: where g_L may differ from 0, bool `(N, m_L)`. cosupport: where (g_1, ..., g_{L-1}) is 0, bool `(N, M)`, M the
    sum of their lengths.
    """

    x: Tensor = per_signal()
    representations: tuple[Tensor, ...] = each_per_signal()
    support: Tensor = per_signal()
    cosupport: Tensor = per_signal()

    @property
    def h(self) -> Tensor:
        """The deepest representation, g_L."""
        return self.representations[-1]

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class MultiLayerModel:
    """dictionaries: maps D_1, ..., D_L, L >= 2, where D_i takes what D_{i+1} gives; their matrices are formed.

    Raises TypeError or ValueError for what is no chain of finite maps, for a column of zeros in one, and for an entry of a
    representation between that is 0 whatever g_L is.
    """

    dictionaries: tuple[AbstractMap, ...]

    def __post_init__(self) -> None:
        given = self.dictionaries
        if not isinstance(given, tuple | list) or len(given) < 2:
            said = f"{len(given)} of them" if isinstance(given, tuple | list) else describe(given)
            raise ValueError(f"expected dictionaries as a tuple of two maps or more, got {said}; pass (D_1, D_2)")
        object.__setattr__(self, "dictionaries", tuple(given))
        for i, D in enumerate(self.cascade.maps, 1):
            if not D.finite:
                raise ValueError(f"expected finite weights, got NaN or inf in D_{i}; clean the weights")
            none = (D.column_lengths() == 0).nonzero()[:, 0].tolist()
            if none:
                raise ValueError(f"expected columns that are not 0, got zeros in column {none[0]} of D_{i}; leave it out")
        none = (self.V.abs().amax(1) == 0).nonzero()[:, 0].tolist()
        if none:
            raise ValueError(
                f"expected entries between that g_L can move, got zeros in row {none[0]} of V = (D_2...D_L, ..., D_L); "
                "leave the entry out"
            )

    @cached_property
    def cascade(self) -> Cascade:
        """All representations as one map of the deepest."""
        return Cascade(self.dictionaries)

    @cached_property
    def _matrix(self) -> Tensor:
        return self.cascade.matrix().detach().double()

    @property
    def E(self) -> Tensor:
        """D_1...D_L, float64 `(m_0, m_L)`."""
        return self._matrix[: self.m]

    @property
    def V(self) -> Tensor:
        """D_2...D_L, ..., D_L, float64 `(M, m_L)`."""
        return self._matrix[self.m :]

    @cached_property
    def unit_rows(self) -> Tensor:
        """The rows of V, each divided by its length."""
        return self.V / lengths(self.V, keepdim=True)

    @property
    def m(self) -> int:
        """Length of a signal, m_0."""
        return self.cascade.widths[0]

    @property
    def n(self) -> int:
        """Length of the deepest representation, m_L."""
        return self.cascade.n

    @property
    def between(self) -> tuple[int, ...]:
        """Lengths of g_1, ..., g_{L-1}."""
        return self.cascade.widths[1:]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the dictionaries."""
        return self.cascade.dtype

    @property
    def device(self) -> torch.device:
        """Where the dictionaries are."""
        return self.cascade.device

    def representations(self, h: Tensor, cosupport: Tensor) -> tuple[Tensor, ...]:
        """g_1, ..., g_L of the deepest one h `(N, n)`, in the dictionaries' type; exactly 0 on `cosupport` `(N, M)`."""
        between = (h.double() @ self.V.T).masked_fill(cosupport, 0.0).split(self.between, 1)
        return tuple(g.to(self.dtype) for g in (*between, h))

    def read_zeros(self, zeros: object) -> tuple[int, ...]:
        """Zeros of each g_i between, a number where there is one, else a tuple. Raises TypeError or ValueError."""
        given = tuple(zeros) if isinstance(zeros, tuple | list) else (zeros,)
        if len(given) != len(self.between):
            raise ValueError(
                f"expected zeros for each of {len(self.between)} representations between, got {len(given)}; pass (l_1, ...)"
            )
        return tuple(_count(z, f"l_{i}", m) for i, (z, m) in enumerate(zip(given, self.between, strict=True), 1))

    def read_sparsity(self, sparsity: object) -> int:
        """Entries of a support of g_L. Raises TypeError or ValueError."""
        return _count(sparsity, "sparsity", self.n)

    @undisturbed
    def draw(
        self, N: int, sparsity: int, zeros: int | tuple[int, ...], *, source: torch.Generator, size: float = 1.0
    ) -> MultiLayerSignals:
        """N signals of length |x| = `size` with supports of `sparsity` and cosupports of `zeros`, uniform, as published.

        h is Gaussian in U(S, Z). source: the randomness, on the CPU. Raises TypeError or ValueError, also where U(S, Z) of
        a drawn S and Z is {0}.
        """
        counts, s = self.read_zeros(zeros), self.read_sparsity(sparsity)
        if isinstance(N, bool) or not isinstance(N, int) or N < 1:
            raise ValueError(f"expected N as a positive number of signals, got {N!r}; pass e.g. 100")
        length = plain_number(size)
        if isinstance(length, bool) or not isinstance(length, int | float) or not 0 < length < torch.inf:
            raise ValueError(f"expected size as a length > 0, got {size!r}; pass e.g. 1.0")
        if sum(counts) >= s:
            raise ValueError(
                f"expected fewer zeros than the {s} entries of the support, got {sum(counts)}: only 0 has them; "
                "pass a larger sparsity or fewer zeros"
            )
        support = _drawn(N, self.n, s, source).to(self.device)
        cosupport = torch.cat([_drawn(N, m, l, source) for m, l in zip(self.between, counts, strict=True)], 1).to(
            self.device
        )
        space = self.subspaces(support, cosupport)
        space.check()
        amounts = torch.randn(N, space.K.shape[2], generator=source, dtype=torch.float64).to(self.device)
        h = torch.einsum("nij,nj->ni", space.K, amounts)
        h = torch.where(support, h, torch.zeros_like(h))  # what is 0 is 0, not its rounding
        x = h @ self.E.T
        longest = lengths(x, keepdim=True)
        if not bool((longest > 0).all()):
            raise ValueError("expected dictionaries that show every representation, got a drawn one with the signal 0")
        scale = length / longest
        return MultiLayerSignals((x * scale).to(self.dtype), self.representations(h * scale, cosupport), support, cosupport)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """First and last row of V of each representation between."""
        ends = np.cumsum((0, *self.between)).tolist()
        return list(pairwise(ends))

    def subspaces(self, support: Tensor, cosupport: Tensor) -> "Subspaces":
        """Orthonormal bases of U(S, Z) of masks `(N, n)` and `(N, M)`."""
        sizes, group = torch.stack([support.sum(1), cosupport.sum(1)], 1).unique(dim=0, return_inverse=True)
        dimension = torch.zeros_like(group)
        parts = []
        for k, (s, l) in enumerate(sizes.tolist()):
            for index in (group == k).nonzero()[:, 0].split(max(1, _AT_ONCE // (s * (s + l) + self.n * s + 1))):
                K, free = self._bases(_places(support[index], s), _places(cosupport[index], l))
                dimension[index] = free
                parts.append((index, K))
        widest = int(dimension.max())
        bases = torch.zeros(len(group), self.n, widest, dtype=torch.float64, device=group.device)
        for index, K in parts:
            bases[index, :, : min(widest, K.shape[2])] = K[:, :, :widest]
        return Subspaces(bases, dimension)

    def _bases(self, S: Tensor, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Bases `(B, n, s)` of supports `(B, s)` and cosupports `(B, l)` as positions, zeros last, and their dimensions."""
        K, free = null_spaces(self.unit_rows[Z[:, :, None], S[:, None, :]])
        whole = K.new_zeros(len(S), self.n, K.shape[2])
        return whole.scatter_(1, S[:, :, None].expand_as(K), K), free


@dataclass(frozen=True, eq=False)
class Subspaces:
    """K: `(N, n, d)`, orthonormal columns that span a signal's subspace, then columns of zeros; dimension: `(N,)`."""

    K: Tensor
    dimension: Tensor

    def check(self) -> None:
        """Raise ValueError unless every subspace holds more than 0."""
        none = (self.dimension == 0).nonzero()[:, 0].tolist()
        if none:
            raise ValueError(
                f"expected supports and cosupports that some h other than 0 has, got those of signal {none[0]}, which none "
                "has; pass a larger support or a smaller cosupport"
            )


def null_spaces(V: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal bases `(B, s, s)`, zeros last, of {d : V d = 0}, and dimensions; V: `(B, l, s)`, rows of length 1."""
    _, sigma, directions = torch.linalg.svd(V, full_matrices=True)
    padded = V.new_zeros(len(V), V.shape[2])
    padded[:, : sigma.shape[1]] = sigma
    free = padded <= NULL
    return (directions * free[:, :, None]).flip(1).mT, free.sum(1)  # the smallest are the last


def _count(value: object, name: str, most: int) -> int:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as a whole number, got {describe(value)}; pass an int")
    if not 0 <= value <= most:
        raise ValueError(f"expected {name} from 0 to {most}, got {value}; pass one of these")
    return value


def _drawn(N: int, width: int, count: int, source: torch.Generator) -> Tensor:
    """N uniform sets of `count` of `width` as masks."""
    order = torch.rand(N, width, generator=source, dtype=torch.float64).argsort(1)
    return torch.zeros(N, width, dtype=torch.bool).scatter_(1, order[:, :count], True)


def _places(mask: Tensor, count: int) -> Tensor:
    """Positions of the `count` entries of each mask `(B, m)`: `(B, count)`."""
    return mask.nonzero()[:, 1].reshape(len(mask), count)
