"""The affine piece of each latent: the Jacobian of a generator there, and products with it that never form it.

    G(z + v) = G(z) + J v,    J = D_L W_L ... D_1 W_1,    D_i = diag(phi_i'(W_i h_(i-1) + b_i)),    phi'(0) = 0 of a ReLU

to first order behind a curved output. `push` multiplies by J forwards through the layers, `pull` by J' backwards; both take
any number of vectors per latent. The Jacobian itself is J times the unit vectors, by blocks of them, so that beside it only
`BLOCK_BYTES` of pictures are held at a time, a few times over.
"""

from dataclasses import dataclass, replace
from operator import attrgetter

import torch
from torch import Tensor

from .maps import AbstractMap, Dense

# what the widest layer of one block of vectors may take: pictures that stay in a processor's cache, on a device many at once
BLOCK_BYTES = {"cpu": 16_000_000, "cuda": 500_000_000}
_KEPT_NUMBERS = 8_000_000  # of a first layer, whose columns are the same for all latents, kept as a matrix


@dataclass(frozen=True, eq=False)
class Piece:
    """The affine pieces of N latents.

    maps: of the layers, first to last. slopes: of their activations, `(N, m)` each, or None where that is 1 everywhere.
    """

    maps: tuple[AbstractMap, ...]
    slopes: tuple[Tensor | None, ...]
    N: int

    @property
    def n(self) -> int:
        """n0, the number of latent coordinates."""
        return self.maps[0].n

    @property
    def m(self) -> int:
        """d, the number of entries of a signal."""
        return self.maps[-1].m

    @property
    def single(self) -> "Piece":
        """The same pieces in float32; the maps keep what they were rounded to."""
        slopes = tuple(None if slope is None else slope.float() for slope in self.slopes)
        return replace(self, maps=tuple(W.single for W in self.maps), slopes=slopes)

    def push(self, v: Tensor) -> Tensor:
        """J v for `v` `(N, k, n0)`, k vectors per latent, `(N, k, d)`."""
        for W, slope in zip(self.maps, self.slopes, strict=True):
            v = _apply(W, v) if slope is None else _apply(W, v) * slope[:, None]
        return v

    def pull(self, r: Tensor) -> Tensor:
        """J' r for `r` `(N, k, d)`, `(N, k, n0)`."""
        for W, slope in zip(reversed(self.maps), reversed(self.slopes), strict=True):
            r = _apply(W, r if slope is None else r * slope[:, None], back=True)
        return r

    def jacobian(self) -> Tensor:
        """J, `(N, d, n0)`; a view of its transpose, which is what is in the memory."""
        spans = self.blocks()
        if len(spans) == 1:
            return self.columns(*spans[0]).mT
        out = torch.empty(self.N, self.n, self.m, dtype=self.maps[0].dtype, device=self.maps[0].device)
        for start, stop in spans:
            out[:, start:stop] = self.columns(start, stop)
        return out.mT

    def columns(self, start: int, stop: int) -> Tensor:
        """Columns `start` to `stop - 1` of J, as rows, `(N, stop - start, d)`."""
        W = self.maps[0]
        v = W.weight.T[None, start:stop] if isinstance(W, Dense) else _unit_columns(W, start, stop)
        for index, slope in enumerate(self.slopes):
            W = self.maps[index]
            if index:
                v = W(v) if isinstance(W, Dense) else _apply(W, v)
            if slope is not None:
                v = v * slope[:, None]
        return v.expand(self.N, -1, -1)

    def blocks(self) -> list[tuple[int, int]]:
        """Ends of the blocks of vectors whose pictures are pushed at a time."""
        n, most = self.maps[0].n, _room(self.maps[0]) // (self.N * max(map(attrgetter("widest"), self.maps)))
        if most >= n:
            return [(0, n)]
        # of one size, or nearly: a last one of a few vectors would cost as much time as a large one
        size = -(-n // -(-n // max(1, most)))
        return [(start, min(start + size, n)) for start in range(0, n, size)]


def _room(W: AbstractMap) -> int:
    """Numbers that the widest layer of one block may take."""
    return 8 * BLOCK_BYTES.get(W.device.type, BLOCK_BYTES["cpu"]) // torch.finfo(W.dtype).bits


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
