"""The affine piece of each latent: the Jacobian of a generator there, and products with it that never form it.

    G(z + v) = G(z) + J v,    J = D_L W_L ... D_1 W_1,    D_i = diag(phi_i'(W_i h_(i-1) + b_i)),    phi'(0) = 0 of a ReLU

to first order behind a curved output. `push` multiplies by J forwards through the layers, `pull` by J' backwards; both take
any number of vectors per latent. The Jacobian itself is J times the unit vectors, by blocks of them, so that beside it only
`BLOCK_BYTES` of pictures are held at a time, a few times over.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .activations import Coupled
from .maps import AbstractMap, Dense

if TYPE_CHECKING:
    from .abstract import AbstractGenerator

# what the widest layer of one block of vectors may take: pictures that stay in a processor's cache, on a device many at once
BLOCK_BYTES = {"cpu": 16_000_000, "cuda": 500_000_000}
_KEPT_NUMBERS = 8_000_000  # of a first layer, whose columns are the same for all latents, kept as a matrix


class AbstractPiece(ABC):
    """What multiplies by the Jacobians J of N latents, `(d, n0)` each.

    N: number of latents. n: n0, the number of latent coordinates. m: d, the number of entries of a signal.
    """

    N: int

    @property
    @abstractmethod
    def n(self) -> int:
        """n0, the number of latent coordinates."""

    @property
    @abstractmethod
    def m(self) -> int:
        """d, the number of entries of a signal."""

    @property
    @abstractmethod
    def single(self) -> "AbstractPiece":
        """The same in float32."""

    @abstractmethod
    def push(self, v: Tensor) -> Tensor:
        """J v for `v` `(N, k, n0)`, k vectors per latent, `(N, k, d)`."""

    @abstractmethod
    def pull(self, r: Tensor) -> Tensor:
        """J' r for `r` `(N, k, d)`, `(N, k, n0)`."""

    @abstractmethod
    def columns(self, start: int, stop: int) -> Tensor:
        """Columns `start` to `stop - 1` of J, as rows, `(N, stop - start, d)`."""

    @abstractmethod
    def blocks(self) -> list[tuple[int, int]]:
        """Ends of the blocks of vectors whose pictures are pushed at a time."""

    def jacobian(self) -> Tensor:
        """J, `(N, d, n0)`; a view of its transpose, which is what is in the memory."""
        first, *others = self.blocks()
        found = self.columns(*first)
        if not others:
            return found.mT
        out = found.new_empty(self.N, self.n, self.m)
        out[:, : first[1]] = found
        for start, stop in others:
            out[:, start:stop] = self.columns(start, stop)
        return out.mT


@dataclass(frozen=True, eq=False)
class Piece(AbstractPiece):
    """The affine pieces of N latents of a chain.

    maps: of the layers, first to last. slopes: of their activations, `(N, m)` each, or None where that is 1 everywhere; of a
    softmax the Jacobian.
    """

    maps: tuple[AbstractMap, ...]
    slopes: tuple[Tensor | Coupled | None, ...]
    N: int

    @property
    def n(self) -> int:
        return self.maps[0].n

    @property
    def m(self) -> int:
        return self.maps[-1].m

    @property
    def single(self) -> "Piece":
        """The same pieces in float32; the maps keep what they were rounded to."""
        slopes = tuple(None if slope is None else slope.float() for slope in self.slopes)
        return replace(self, maps=tuple(W.single for W in self.maps), slopes=slopes)

    def push(self, v: Tensor) -> Tensor:
        for W, slope in zip(self.maps, self.slopes, strict=True):
            v = sloped(_apply(W, v), slope)
        return v

    def pull(self, r: Tensor) -> Tensor:
        for W, slope in zip(reversed(self.maps), reversed(self.slopes), strict=True):
            r = _apply(W, sloped(r, slope), back=True)
        return r

    def columns(self, start: int, stop: int) -> Tensor:
        W = self.maps[0]
        v = W.weight.T[None, start:stop] if isinstance(W, Dense) else _unit_columns(W, start, stop)
        for index, slope in enumerate(self.slopes):
            W = self.maps[index]
            if index:
                v = W(v) if isinstance(W, Dense) else _apply(W, v)
            if slope is not None:
                v = sloped(v, slope)
        return v.expand(self.N, -1, -1)

    def blocks(self) -> list[tuple[int, int]]:
        n, most = self.maps[0].n, _room(self.maps[0]) // (self.N * max(map(attrgetter("widest"), self.maps)))
        return [(0, n)] if most >= n else spans(n, most)


def spans(n: int, most: int) -> list[tuple[int, int]]:
    """Ends of blocks of at most `most` of n vectors, of one size or nearly: a last one of a few costs as much time."""
    size = -(-n // -(-n // max(1, most)))
    return [(start, min(start + size, n)) for start in range(0, n, size)]


@dataclass(frozen=True, eq=False)
class PointPiece(AbstractPiece):
    """The Jacobians of a generator at latents `z` `(N, n0)`, by its own products with one vector per latent.

    forwards: whether it pushes; one that only pulls gives J by its rows, d pulls of each latent.
    """

    of: "AbstractGenerator"
    z: Tensor
    forwards: bool

    @property
    def N(self) -> int:  # type: ignore[override]
        return len(self.z)

    @property
    def n(self) -> int:
        return self.of.latent_dim

    @property
    def m(self) -> int:
        return self.of.signal_dim

    @property
    def single(self) -> "PointPiece":
        return PointPiece(self.of.single, self.z.float(), self.forwards)

    def push(self, v: Tensor) -> Tensor:
        if not self.forwards:
            return v @ self._rows.mT
        k = v.shape[1]
        parts = (
            [self._pushed(v[:, start:stop]) for start, stop in spans(k, self._most)]
            if k
            else [v.new_empty(self.N, 0, self.m)]
        )
        return torch.cat(parts, 1)

    def pull(self, r: Tensor) -> Tensor:
        k = r.shape[1]
        parts = (
            [self._pulled(r[:, start:stop]) for start, stop in spans(k, self._most)]
            if k
            else [r.new_empty(self.N, 0, self.n)]
        )
        return torch.cat(parts, 1)

    def columns(self, start: int, stop: int) -> Tensor:
        if not self.forwards:
            return self._rows.mT[:, start:stop]
        return self._pushed(units(self.z, self.n, start, stop))

    def blocks(self) -> list[tuple[int, int]]:
        return spans(self.n, self._most if self.forwards else self.n)

    @cached_property
    def _most(self) -> int:
        """Vectors per latent that go through at a time."""
        return max(1, room_of(self.z) // (self.N * self.of.widest))

    @cached_property
    def _rows(self) -> Tensor:
        parts = [self._pulled(units(self.z, self.m, start, stop)) for start, stop in spans(self.m, self._most)]
        return torch.cat(parts, 1)

    def _pushed(self, v: Tensor) -> Tensor:
        return self.of.push(self._each(v.shape[1]), v.flatten(0, 1)).unflatten(0, v.shape[:2])

    def _pulled(self, r: Tensor) -> Tensor:
        return self.of.pull(self._each(r.shape[1]), r.flatten(0, 1)).unflatten(0, r.shape[:2])

    def _each(self, k: int) -> Tensor:
        return self.z[:, None].expand(-1, k, -1).flatten(0, 1)


def units(like: Tensor, size: int, start: int, stop: int) -> Tensor:
    """Unit vectors `start` to `stop - 1` of `size` numbers, for each of N latents, `(N, stop - start, size)`."""
    units = torch.zeros(stop - start, size, dtype=like.dtype, device=like.device)
    units.diagonal(start).fill_(1)
    return units.expand(len(like), -1, -1)


def sloped(v: Tensor, slope: Tensor | Coupled | None) -> Tensor:
    """`(N, k, m)` vectors times the Jacobian of an activation, which is symmetric; one set of vectors serves all latents."""
    if slope is None:
        return v
    return v * slope[:, None] if isinstance(slope, Tensor) else slope.times(v)


def _room(W: AbstractMap) -> int:
    """Numbers that the widest layer of one block may take."""
    return 8 * BLOCK_BYTES.get(W.device.type, BLOCK_BYTES["cpu"]) // torch.finfo(W.dtype).bits


def room_of(z: Tensor) -> int:
    """Numbers of the type of `z` that the widest layer of one block may take where `z` is."""
    return BLOCK_BYTES.get(z.device.type, BLOCK_BYTES["cpu"]) // z.element_size()


def _unit_columns(W: AbstractMap, start: int, stop: int) -> Tensor:
    """Columns of W as rows, `(1, k, m)`; no copy where the matrix is kept."""
    if W.m * W.n <= _KEPT_NUMBERS:
        return W.matrix()[:, start:stop].T[None]
    units = torch.zeros(stop - start, W.n, dtype=W.dtype, device=W.device)
    units.diagonal(start).fill_(1)
    return _apply(W, units[None])


def _apply(W: AbstractMap, vectors: Tensor, back: bool = False) -> Tensor:
    """W of each of `(N, k, n)` vectors, `(N, k, m)`, or W' of `(N, k, m)`; pictures in blocks, so that memory is bounded."""
    product = W.adjoint if back else W
    if isinstance(W, Dense):
        return product(vectors)
    rows = vectors.reshape(-1, vectors.shape[2])
    if len(rows) <= (block := max(1, _room(W) // W.widest)):
        return product(rows).reshape(*vectors.shape[:2], -1)
    return torch.cat([product(part) for part in rows.split(block)]).reshape(*vectors.shape[:2], -1)
