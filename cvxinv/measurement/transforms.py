"""Rows of orthonormal transforms of pictures: cosines, and the 2-D Fourier transform in real numbers."""

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from ..inputs import describe as _kind
from .abstract import AbstractMeasurement
from .pictures import read_places, read_shape
from .sparse import recast


@dataclass(frozen=True, eq=False)
class CosineRows(AbstractMeasurement):
    """Entries of the orthonormal 2-D cosine transform (DCT-II) of a picture, channel by channel.

    As `scipy.fft.dctn(x, norm="ortho")`: entry (p, q) belongs to cos(pi p (2 i + 1) / 2 H) cos(pi q (2 j + 1) / 2 W).
    rows: which entries, integers p W + q, each once, in any order, or a bool grid (H, W). shape: (H, W) or (C, H, W).
    """

    rows: Tensor
    shape: tuple[int, ...]
    down: Tensor = field(init=False, repr=False)  # (H, H), the transform of a column
    across: Tensor = field(init=False, repr=False)  # (W, W), that of a row

    def __post_init__(self) -> None:
        shape = read_shape(self.shape)
        rows = read_places(self.rows, shape, "rows of the cosine transform")
        down, across = (_cosines(size, rows.device) for size in shape[1:])
        for name, value in (("rows", rows), ("shape", shape), ("down", down), ("across", across)):
            object.__setattr__(self, name, value)

    @property
    def length(self) -> int:
        return self.shape[0] * len(self.rows)

    @property
    def width(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def observe(self, x: Tensor) -> Tensor:
        entries = self.down.to(x.dtype) @ (x.reshape(-1, *self.shape[1:]) @ self.across.T.to(x.dtype))
        return entries.flatten(1)[:, self.rows].reshape(len(x), -1)

    def adjoint(self, r: Tensor) -> Tensor:
        parts = r.reshape(-1, len(self.rows))
        entries = parts.new_zeros(len(parts), self.shape[1] * self.shape[2])
        entries[:, self.rows] = parts
        down, across = self.down.to(r.dtype), self.across.to(r.dtype)
        return (down.T @ (entries.reshape(-1, *self.shape[1:]) @ across)).reshape(len(r), -1)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return recast(self, dtype, device)


def _cosines(size: int, device: torch.device) -> Tensor:
    """The orthonormal DCT-II of `size` numbers as a matrix."""
    p = torch.arange(size, dtype=torch.float64, device=device)
    rows = torch.cos(torch.pi * p[:, None] * (2 * p + 1) / (2 * size)) * (2 / size) ** 0.5
    rows[0] /= 2**0.5
    return rows


@dataclass(frozen=True, eq=False)
class FourierRows(AbstractMeasurement):
    """Entries of the 2-D Fourier transform of a picture in real numbers with orthonormal rows, channel by channel.

    With F = `torch.fft.fft2(x, norm="ortho")`, frequency (p, q) gives sqrt(2) Re F[p, q] and sqrt(2) Im F[p, q]. Of a real
    picture F[-p, -q] is its conjugate: of two such frequencies the first is kept, and one that is its own mirror image, such
    as (0, 0), has Re F[p, q] alone. y: first all real parts, then the imaginary ones of those that have one, per channel;
    `real_form` makes it of a spectrum. rows: which frequencies, integers p W + q, each once, or a bool grid (H, W), as
    fft2 has them. shape: (H, W) or (C, H, W).
    """

    rows: Tensor
    shape: tuple[int, ...]
    alone: Tensor = field(init=False, repr=False)  # bool, rows that are their own mirror image

    def __post_init__(self) -> None:
        shape = read_shape(self.shape)
        given = read_places(self.rows, shape, "rows of the Fourier transform")
        mirror = _mirror(given, *shape[1:])
        place = torch.full((shape[1] * shape[2],), len(given), device=given.device)
        place[given] = torch.arange(len(given), device=given.device)
        rows = given[place[given] <= place[mirror]]
        for name, value in (("rows", rows), ("shape", shape), ("alone", rows == _mirror(rows, *shape[1:]))):
            object.__setattr__(self, name, value)

    @property
    def length(self) -> int:
        return self.shape[0] * (2 * len(self.rows) - int(self.alone.sum()))

    @property
    def width(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def observe(self, x: Tensor) -> Tensor:
        return self._real(torch.fft.fft2(x.reshape(-1, *self.shape[1:]), norm="ortho")).reshape(len(x), -1)

    def real_form(self, spectrum: Tensor) -> Tensor:
        """y `(N, length)` of spectra `(N, ..., H, W)`, complex, in the scale of `norm="ortho"`; of `rows` alone.

        Raises TypeError and ValueError for other kinds and shapes.
        """
        grid, channels = tuple(self.shape[1:]), self.shape[0]
        if not isinstance(spectrum, Tensor) or not spectrum.is_complex():
            raise TypeError(f"expected a spectrum as a complex tensor, got {_kind(spectrum)}; use torch.complex(real, imag)")
        if tuple(spectrum.shape[-2:]) != grid or spectrum.numel() % (channels * grid[0] * grid[1]):
            raise ValueError(f"expected spectra (N, {channels}, {grid[0]}, {grid[1]}), got {_kind(spectrum)}; as fft2 gives")
        return self._real(spectrum.reshape(-1, *grid)).reshape(-1, self.length)

    def _real(self, F: Tensor) -> Tensor:
        chosen = F.flatten(1)[:, self.rows]
        real = torch.where(self.alone, chosen.real, 2**0.5 * chosen.real)
        return torch.cat([real, 2**0.5 * chosen.imag[:, ~self.alone]], 1)

    def adjoint(self, r: Tensor) -> Tensor:
        # <r, Re F x> = <Re F* r, x> and <r, Im F x> = <Re F* (i r), x>, with F* the inverse of the unitary F
        parts, m = r.reshape(len(r) * self.shape[0], -1), len(self.rows)
        real = torch.where(self.alone, parts[:, :m], 2**0.5 * parts[:, :m])
        imaginary = torch.zeros_like(real)
        imaginary[:, ~self.alone] = 2**0.5 * parts[:, m:]
        F = torch.zeros(len(parts), self.shape[1] * self.shape[2], dtype=real.dtype.to_complex(), device=r.device)
        F[:, self.rows] = torch.complex(real, imaginary)
        return torch.fft.ifft2(F.reshape(-1, *self.shape[1:]), norm="ortho").real.reshape(len(r), -1)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return recast(self, dtype, device)


def _mirror(rows: Tensor, height: int, width: int) -> Tensor:
    """The frequencies (-p, -q)."""
    return (-(rows // width)) % height * width + (-(rows % width)) % width
