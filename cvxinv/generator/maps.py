"""Linear maps: what stands between two activations of a generator.

A map W takes `(N, n)` to `(N, m)` and its adjoint takes `(N, m)` back; signals are flat, and a convolution knows its own
picture shapes. `matrix()` is W as a dense `(m, n)` tensor, made once and kept. Biases live outside (`Layer.b`, `Rows.b`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv3d_input

from ..inputs import describe, weights
from ..lengths import lengths
from ..surroundings import exact_products

_SMALL = 64  # rows or columns below which an SVD costs less than its alternatives
_FEW_CHANNELS = 4  # made by a transposed convolution: below, float32 kernels of the CPU's library cost more than a product
_MANY_CHANNELS, _FEW_PIXELS = 16, 256  # from where, and up to where, float64 pictures on the CPU go with their channels last
_SOME_PICTURES = 8  # from which a float64 convolution on the CPU costs less as the transposed one that it also is
_PADDING_MODES = {"zeros": "constant", "replicate": "replicate", "reflect": "reflect", "circular": "circular"}


_LARGE_TABLE = 1_000_000  # entries of a sparse map's transposed table that are always afforded

UNEVEN = 512.0  # a row or column whose length differs from the median one by more is brought to it


def evenly(length: Tensor, which: Tensor, most: float = UNEVEN) -> Tensor:
    """Whether each length is within `most` times the median of those that are not 0; others than `which` count as that."""
    there = length[length > 0]
    if len(there) == 0:
        return torch.ones_like(which)
    ratio = length / there.median()
    return ~which | (ratio <= most) & (ratio >= 1 / most)


def _ieee_convolution():
    """Convolutions in full float32 for the time of a call: cuDNN may use TF32 (three digits) by default."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )


class AbstractMap(ABC):
    """A linear map from `n` to `m` numbers, applied to batches.

    A class of your own needs `n`, `m`, `dtype`, `device`, `__call__`, `adjoint` and `to`. That is all it takes to stand in a
    layer problem and in a generator; matrix, |W|, norms and multiples follow. `make_matrix`, `magnitude`, `scaled`, `shapes`
    may be written where a class knows better, the first two where W is too large for a matrix. It is tried at random vectors
    when a layer or rows take it. Make it a frozen dataclass with `eq=False` whose tensors are fields; batches may be empty,
    and no call may change what it is given.
    """

    @property
    @abstractmethod
    def n(self) -> int:
        """Length of the input."""

    @property
    @abstractmethod
    def m(self) -> int:
        """Length of the output."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of what it takes and of what it gives: (channels, height, width) of pictures, flat ones otherwise."""
        return (self.n,), (self.m,)

    @abstractmethod
    def __call__(self, h: Tensor) -> Tensor:
        """W h for each row of `h`, `(N, n)` to `(N, m)`."""

    @abstractmethod
    def adjoint(self, p: Tensor) -> Tensor:
        """W' p for each row of `p`, `(N, m)` to `(N, n)`."""

    def magnitude(self) -> "AbstractMap":
        """The map with |W| in place of W, or one of larger numbers, for rounding bounds."""
        return Dense(self.matrix().abs())

    def scaled(self, factor: float) -> "AbstractMap":
        """The map `factor` W."""
        return Stretched(self, torch.full((self.m,), factor, dtype=self.dtype, device=self.device), None)

    @abstractmethod
    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "AbstractMap":
        """The same map in another floating type or on another device."""

    def make_matrix(self) -> Tensor:
        """W as a dense `(m, n)` tensor, made anew: by default from W's products with unit vectors."""
        return _by_products(self)

    @cached_property
    def _kept_matrix(self) -> Tensor:
        return self.make_matrix()

    def matrix(self) -> Tensor:
        """W as a dense `(m, n)` tensor, made at the first call and kept."""
        return self._kept_matrix

    @property
    def details(self) -> str:
        """What more than its shapes a line about it says, begun with a comma; "" where nothing."""
        return ""

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """The floating tensors that it is made of: the matrix, where a class does not say."""
        return (self.matrix(),)

    @cached_property
    def work(self) -> int:
        """Multiplications of one product, each with its addition; a class that takes fewer than a matrix says so."""
        return self.m * self.n

    @cached_property
    def widest(self) -> int:
        """Numbers that go into and come out of a product, of its widest part."""
        return self.m + self.n

    @cached_property
    def terms(self) -> int:
        """Roundings that one entry of W h may gather: products other than 0 in its sum, in all sums that follow."""
        return self.n

    @cached_property
    def single(self) -> "AbstractMap":
        """The same map in float32, made at the first call and kept."""
        return self.to(torch.float32)

    @cached_property
    def _fault(self) -> str:
        """What a class of the user's own says wrong of itself, at three random vectors; empty where nothing is."""
        source = torch.Generator().manual_seed(0)
        h, p = (torch.randn(3, size, generator=source, dtype=torch.float64, device="cpu") for size in (self.n, self.m))
        h, p = h.to(self.device, self.dtype), p.to(self.device, self.dtype)
        v, back = self(h), self.adjoint(p)
        for name, got, size in (("W(h)", v, self.m), ("W.adjoint(p)", back, self.n), ("W(h)", self(h[:0]), self.m)):
            if got.shape[1:] != (size,) or (got.dtype, got.device) != (self.dtype, self.device):
                return f"{name} of shape (N, {size}) in {self.dtype} on {self.device}"
        if not bool(v.isfinite().all()):
            return ""  # said where weights are looked at
        rtol = 1e-4 if self.dtype == torch.float32 else 1e-9
        most = float(self.magnitude()(h.abs()).norm()) + torch.finfo(self.dtype).tiny
        wide = self.to(torch.float64)
        shown = type(self).make_matrix is not AbstractMap.make_matrix  # else it follows from the products
        wrong = {
            "W(h + 2 k) = W(h) + 2 W(k)": self(h[:1] + 2 * h[1:2]) - v[:1] - 2 * v[1:2],
            "W'p as adjoint": ((v * p).sum(1) - (h * back).sum(1)) / float(p.norm()),
            "W h as products with its matrix": v - h @ self.matrix().T if shown else 0 * v,
            "a magnitude() of at least |W|": (v.abs() - self.magnitude()(h.abs())).clamp(min=0),
            "scaled(factor) as a multiple": self.scaled(-0.5)(h) + 0.5 * v,
            "to(torch.float64) as the same map": wide(h.double()) - v.double(),
        }
        return next((words for words, off in wrong.items() if not float(off.norm()) <= rtol * most), "")

    @cached_property
    def finite(self) -> bool:
        """Whether no weight is NaN or infinite: one would spread to what W makes of ones."""
        return bool(torch.isfinite(self(torch.ones(1, self.n, dtype=self.dtype, device=self.device))).all())

    @cached_property
    def _kept_norm(self) -> float:
        if min(self.m, self.n) == 0:
            return 0.0
        if self.m * self.n <= 4_000_000:
            return self._exact_norm()
        # power iteration, fixed start: 100 steps bound the norm from below to a few digits, enough for scaling
        h = torch.ones(1, self.n, dtype=self.dtype, device=self.device)
        h = h + torch.linspace(0, 1, self.n, dtype=self.dtype, device=self.device)
        value = 0.0
        for _ in range(100):
            h = h / h.norm()
            p = self(h)
            value = float(p.norm())
            if value == 0.0:
                return 0.0
            h = self.adjoint(p)
        return value

    def _exact_norm(self) -> float:
        """By Lanczos on the smaller Gram matrix, which takes a third of an SVD's time, or by the SVD."""
        M = self.matrix().double().cpu()  # an SVD on a device takes far longer than the copy and Lanczos here
        top = float(M.abs().max())
        # outside of these limits squares overflow or vanish
        if min(M.shape) < _SMALL or not 1e-100 < top < 1e100:
            return float(torch.linalg.matrix_norm(M, ord=2))
        from scipy.sparse.linalg import ArpackError, eigsh

        tall = self.dtype == torch.float64 and self.m >= self.n and self.device.type == "cpu"
        gram = (self.gram() if tall else syrk(M if self.m >= self.n else M.T)).numpy()
        start = 1 + np.arange(len(gram)) / len(gram)  # a fixed one: two runs agree bit by bit
        try:
            return float(eigsh(gram, k=1, v0=start, tol=0, return_eigenvectors=False)[0]) ** 0.5
        except ArpackError:
            return float(torch.linalg.matrix_norm(M, ord=2))

    @cached_property
    def _kept_gram(self) -> Tensor:
        return syrk(self.matrix())

    def gram(self) -> Tensor:
        """W'W, `(n, n)`, made at the first call and kept."""
        return self._kept_gram

    def norm(self) -> float:
        """Largest singular value of W, computed at the first call and kept, also by `to` where that rounds no weight."""
        return self._kept_norm

    def _with_lengths_of(self, source: "AbstractMap", factor: float) -> Self:
        """The same, knowing the lengths of rows and columns if `source`, of which it is `factor` times, knows them."""
        if "_kept_lengths" in source.__dict__ and 1e-30 < abs(factor) < 1e30:
            self.__dict__["_kept_lengths"] = tuple(x * abs(factor) for x in source._kept_lengths)
        return self

    def _with_norm_of(self, source: "AbstractMap") -> Self:
        """The same, knowing what `source` knows of |W|, if it holds the same numbers: elsewhere, or in a wider type."""
        if "_kept_norm" in source.__dict__ and torch.finfo(self.dtype).bits >= torch.finfo(source.dtype).bits:
            self.__dict__["_kept_norm"] = source.norm()
        return self

    @cached_property
    def _kept_lengths(self) -> tuple[Tensor, Tensor]:
        if "_kept_matrix" in self.__dict__ or isinstance(self, Dense):
            M = self.matrix()
            return lengths(M, 1), lengths(M, 0)
        return self._lengths_by_units()

    def _lengths_by_units(self) -> tuple[Tensor, Tensor]:
        # what a vector of the smaller side makes is a row or a column; of the others' squares only sums are kept
        few, many = (self.m, self.n) if self.m < self.n else (self.n, self.m)
        there, across = [torch.zeros(0, dtype=self.dtype, device=self.device)], torch.zeros(many, dtype=self.dtype)
        across = across.to(self.device)
        for units in _units(self, few):
            block = self.adjoint(units) if self.m < self.n else self(units)
            there.append(lengths(block, 1))
            across = lengths(torch.stack([across, lengths(block, 0)]), 0)
        return (torch.cat(there), across) if self.m < self.n else (across, torch.cat(there))

    def row_lengths(self) -> Tensor:
        """Length of each row of W, `(m,)`, computed at the first call and kept."""
        return self._kept_lengths[0]

    def column_lengths(self) -> Tensor:
        """Length of each column of W, `(n,)`, computed at the first call and kept."""
        return self._kept_lengths[1]

    @cached_property
    def even(self) -> bool:
        """Whether no row and no column that is not 0 is more than `UNEVEN` times as long or short as the median one."""
        return all(bool(evenly(x, x > 0).all()) for x in self._kept_lengths)

    def stretched(self, rows: Tensor | None, columns: Tensor | None) -> "AbstractMap":
        """The map diag(`rows`) W diag(`columns`), `(m,)` and `(n,)`; None leaves that side alone."""
        return self if rows is None and columns is None else Stretched(self, rows, columns)


class _Weighted(AbstractMap):
    """What has all its numbers in one tensor, `weight`."""

    weight: Tensor

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    @cached_property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def magnitude(self) -> Self:
        return replace(self, weight=self.weight.abs())  # type: ignore[type-var]

    def scaled(self, factor: float) -> Self:
        return replace(self, weight=self.weight * factor)  # type: ignore[type-var]

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        weight = self.weight.to(dtype=dtype or self.dtype, device=device or self.device)
        return self if weight is self.weight else self._of(weight)._with_norm_of(self)

    def _of(self, weight: Tensor) -> Self:
        """The same map of other numbers."""
        return replace(self, weight=weight)  # type: ignore[type-var]


class _Shaped(AbstractMap):
    """What knows in which shapes its input and its output are seen."""

    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.shape_in, self.shape_out

    @cached_property
    def n(self) -> int:
        return prod(self.shape_in)

    @cached_property
    def m(self) -> int:
        return prod(self.shape_out)


@dataclass(frozen=True, eq=False)
class Dense(_Weighted):
    """A matrix `weight` of shape `(m, n)`."""

    weight: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", weights(self.weight, "a weight"))
        if self.weight.ndim != 2:
            raise ValueError(f"expected a weight of shape (m, n), got {tuple(self.weight.shape)}; pass a matrix")

    @cached_property
    def n(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def m(self) -> int:
        return self.weight.shape[0]

    @exact_products
    def __call__(self, h: Tensor) -> Tensor:
        return h @ self.weight.T

    @exact_products
    def adjoint(self, p: Tensor) -> Tensor:
        return p @ self.weight

    def scaled(self, factor: float) -> "Dense":
        there = Dense(self.weight * factor)
        if known := self.__dict__.get("_kept_norm"):
            there.__dict__["_kept_norm"] = known * abs(factor)
        if "_kept_gram" in self.__dict__:
            there.__dict__["_kept_gram"] = self._kept_gram * factor**2
        if "even" in self.__dict__:
            there.__dict__["_kept_lengths"] = tuple(x * abs(factor) for x in self._kept_lengths)
            there.__dict__["even"] = self.even
        return there

    def stretched(self, rows: Tensor | None, columns: Tensor | None) -> "Dense":
        if rows is None and columns is None:
            return self
        weight = self.weight if rows is None else rows[:, None] * self.weight
        return Dense(weight if columns is None else weight * columns)

    def make_matrix(self) -> Tensor:
        return self.weight


def syrk(M: Tensor) -> Tensor:
    """M'M. On the CPU numpy forms half of it: it notices that both factors are the same."""
    if M.device.type != "cpu":
        return M.T @ M
    A = M.numpy()
    return torch.from_numpy(A.T @ A)


def _squares(weight: Tensor) -> tuple[Tensor | None, Tensor]:
    """Squares of the weights in units of the square of `unit`, float64; None where one that is not 0 would vanish."""
    wide = weight.double()
    unit = wide.abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    square = (wide / unit).square()
    return (None if bool(((square == 0) & (wide != 0)).any()) else square), unit


def _lengths_of(squares: AbstractMap, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths of rows and columns, in units of `unit`, float64, from the map of the squares of the entries."""
    ones = (torch.ones(1, size, dtype=squares.dtype, device=squares.device) for size in (squares.n, squares.m))
    rows, columns = squares(next(ones))[0], squares.adjoint(next(ones))[0]
    return rows.clamp(min=0).sqrt() * unit, columns.clamp(min=0).sqrt() * unit


def _by_products(W: AbstractMap) -> Tensor:
    """W as a matrix, from its products with the unit vectors of its smaller side, in blocks of some pictures."""
    if W.m < W.n:
        return torch.cat([W.adjoint(units) for units in _units(W, W.m)])
    return torch.cat([W(units) for units in _units(W, W.n)]).T.contiguous()


def _units(W: AbstractMap, size: int) -> Iterator[Tensor]:
    """Unit vectors of that size, block by block, `(k, size)`."""
    for start in range(0, size, 1024):
        units = torch.zeros(min(1024, size - start), size, dtype=W.dtype, device=W.device)
        units.diagonal(start).fill_(1)
        yield units


@dataclass(frozen=True, eq=False)
class _Convolution(_Shaped, _Weighted):
    """Common part of the convolutions: picture shapes and the dense matrix.

    `shape_in`, `shape_out` are (channels, height, width), or (channels, depth, height, width).
    """

    weight: Tensor
    shape_in: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    output_padding: tuple[int, ...] = (0, 0)
    shape_out: tuple[int, ...] = field(init=False)

    axes: ClassVar[tuple[str, ...]] = ("height", "width")

    @property
    def details(self) -> str:
        kernel, ones = "x".join(map(str, self.weight.shape[2:])), (1,) * len(self.axes)
        unusual = (
            ("dilation", self.dilation, ones),
            ("groups", self.groups, 1),
            ("output padding", self.output_padding, (0,)),
        )
        more = [f", {name} {value}" for name, value, usual in unusual if value != usual and any(map(bool, _tuple(value)))]
        return f", kernel {kernel}, stride {self.stride}, padding {self.padding}{''.join(more)}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", weights(self.weight, "a weight"))
        n = len(self.axes)
        if self.weight.ndim != n + 2:
            words = {2: "four", 3: "five"}[n]
            raise ValueError(f"expected a weight of {words} axes, got {describe(self.weight)}; pass a kernel of pictures")
        if len(self.shape_in) != n + 1 or min(*self.shape_in, *self.weight.shape) < 1:
            raise ValueError(
                f"expected shape_in as (channels, {', '.join(self.axes)}), and a weight with entries, got "
                f"{tuple(self.shape_in)} and {describe(self.weight)}; leave out what holds nothing"
            )
        probe = self._product(torch.zeros(1, *self.shape_in, dtype=self.dtype, device=self.device))
        object.__setattr__(self, "shape_out", tuple(probe.shape[1:]))

    @abstractmethod
    def _product(self, image: Tensor) -> Tensor:
        """The convolution of pictures or volumes as torch makes it, `(N, *shape_in)` to `(N, *shape_out)`."""

    @cached_property
    def _kept_lengths(self) -> tuple[Tensor, Tensor]:
        # every entry of W is one entry of the kernel or 0, so that the map of their squares is a convolution too
        square, unit = _squares(self.weight)
        if square is None:
            return self._lengths_by_units()
        rows, columns = _lengths_of(replace(self, weight=square), unit)
        return rows.to(self.dtype), columns.to(self.dtype)


@dataclass(frozen=True, eq=False)
class ConvTranspose2d(_Convolution):
    """Transposed convolution with zero padding; `weight` is (channels in, channels out / groups, height, width)."""

    def _arguments(self):
        return (self.weight, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation)

    def _product(self, image: Tensor) -> Tensor:
        with _ieee_convolution():
            return F.conv_transpose2d(image, *self._arguments())

    @cached_property
    def work(self) -> int:
        return self.weight.numel() * prod(self.shape_in[1:])

    @cached_property
    def terms(self) -> int:
        # of a kernel, those taps that are a multiple of the stride apart; with dilation all of them
        (kh, kw), spread = self.weight.shape[2:], self.dilation == (1, 1)
        taps = -(-kh // self.stride[0]) * -(-kw // self.stride[1]) if spread else kh * kw
        return min(self.n, len(self.weight) // self.groups * taps)

    @cached_property
    def _folds(self) -> bool:
        few = self.groups == 1 and self.shape_out[0] <= _FEW_CHANNELS
        return few and self.device.type == "cpu" and self.dtype == torch.float32

    @cached_property
    def _last(self) -> Tensor | None:
        """The weight with its channels last where that saves time: torch's float64 products on the CPU are larger then."""
        cpu = self.device.type == "cpu" and self.dtype == torch.float64
        suits = self.groups == 1 and self.shape_out[0] >= _MANY_CHANNELS and prod(self.shape_in[1:]) <= _FEW_PIXELS
        return self.weight.contiguous(memory_format=torch.channels_last) if cpu and suits else None

    @exact_products
    def __call__(self, h: Tensor) -> Tensor:
        image, last = h.reshape(-1, *self.shape_in), self._last
        if self._folds:
            taps = self.weight.flatten(1).T @ image.flatten(2)  # (N, channels out x kernel, pixels in)
            place = (self.shape_out[1:], self.weight.shape[2:], self.dilation, self.padding, self.stride)
            return F.fold(taps, *place).flatten(1)
        if last is None:
            return self._product(image).flatten(1)
        with _ieee_convolution():
            image = image.contiguous(memory_format=torch.channels_last)
            return F.conv_transpose2d(image, last, *self._arguments()[1:]).flatten(1)

    @exact_products
    def adjoint(self, p: Tensor) -> Tensor:
        with _ieee_convolution():
            image = p.reshape(-1, *self.shape_out)
            h = F.conv2d(image, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        return h.flatten(1)

    def make_matrix(self) -> Tensor:
        if self.shape_in[1:] == (1, 1) and self.shape_out[1:] == tuple(self.weight.shape[2:]) and self.groups == 1:
            return self.weight.flatten(1).T.contiguous()  # one pixel in: the kernel is the picture
        return super().make_matrix()


@dataclass(frozen=True, eq=False)
class Conv2d(_Convolution):
    """Convolution with zero padding; `weight` is (channels out, channels in / groups, height, width)."""

    def _arguments(self):
        return (self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _product(self, image: Tensor) -> Tensor:
        with _ieee_convolution():
            return F.conv2d(image, *self._arguments())

    @cached_property
    def work(self) -> int:
        return self.weight.numel() * prod(self.shape_out[1:])

    @cached_property
    def terms(self) -> int:
        return min(self.n, self.weight[0].numel())

    @cached_property
    def _transposed(self) -> tuple[Tensor, tuple[int, int]] | None:
        """Weight and padding of the transposed convolution that this one is, where it has one and that saves time."""
        cpu = self.device.type == "cpu" and self.dtype == torch.float64
        narrows = self.groups == 1 and self.stride == (1, 1) and self.shape_out[0] <= self.shape_in[0]
        sizes = zip(self.weight.shape[2:], self.dilation, self.padding, strict=True)
        around = tuple((k - 1) * d - p for k, d, p in sizes)
        if not (cpu and narrows and min(around) >= 0):
            return None
        return self.weight.transpose(0, 1).flip(2, 3).contiguous(), (around[0], around[1])

    @exact_products
    def __call__(self, h: Tensor) -> Tensor:
        image = h.reshape(-1, *self.shape_in)
        other = self._transposed if len(image) >= _SOME_PICTURES else None
        if other is None:
            return self._product(image).flatten(1)
        with _ieee_convolution():
            return F.conv_transpose2d(image, other[0], None, 1, other[1], 0, 1, self.dilation).flatten(1)

    @exact_products
    def adjoint(self, p: Tensor) -> Tensor:
        with _ieee_convolution():
            image = p.reshape(-1, *self.shape_out)
            shape, place = (len(image), *self.shape_in), (self.stride, self.padding, self.dilation, self.groups)
            return conv2d_input(shape, self.weight, image, *place).flatten(1)


@dataclass(frozen=True, eq=False)
class _Volumes(_Convolution):
    """Common part of the convolutions of volumes."""

    stride: tuple[int, ...] = (1, 1, 1)
    padding: tuple[int, ...] = (0, 0, 0)
    dilation: tuple[int, ...] = (1, 1, 1)
    output_padding: tuple[int, ...] = (0, 0, 0)

    axes: ClassVar[tuple[str, ...]] = ("depth", "height", "width")

    @exact_products
    def __call__(self, h: Tensor) -> Tensor:
        return self._product(h.reshape(-1, *self.shape_in)).flatten(1)


@dataclass(frozen=True, eq=False)
class Conv3d(_Volumes):
    """Convolution of volumes with zero padding; `weight` is (channels out, channels in / groups, depth, height, width)."""

    def _product(self, volume: Tensor) -> Tensor:
        with _ieee_convolution():
            return F.conv3d(volume, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    @cached_property
    def work(self) -> int:
        return self.weight.numel() * prod(self.shape_out[1:])

    @cached_property
    def terms(self) -> int:
        return min(self.n, self.weight[0].numel())

    @exact_products
    def adjoint(self, p: Tensor) -> Tensor:
        volume = p.reshape(-1, *self.shape_out)
        shape, place = (len(volume), *self.shape_in), (self.stride, self.padding, self.dilation, self.groups)
        with _ieee_convolution():
            return conv3d_input(shape, self.weight, volume, *place).flatten(1)


@dataclass(frozen=True, eq=False)
class ConvTranspose3d(_Volumes):
    """Transposed convolution of volumes; `weight` is (channels in, channels out / groups, depth, height, width)."""

    def _product(self, volume: Tensor) -> Tensor:
        place: Any = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        with _ieee_convolution():
            return F.conv_transpose3d(volume, self.weight, None, *place)

    @cached_property
    def work(self) -> int:
        return self.weight.numel() * prod(self.shape_in[1:])

    @cached_property
    def terms(self) -> int:
        return min(self.n, len(self.weight) // self.groups * prod(self.weight.shape[2:]))

    @exact_products
    def adjoint(self, p: Tensor) -> Tensor:
        volume, place = p.reshape(-1, *self.shape_out), (self.stride, self.padding, self.dilation, self.groups)
        with _ieee_convolution():
            return F.conv3d(volume, self.weight, None, *place).flatten(1)


@dataclass(frozen=True, eq=False)
class Sparse(_Shaped, _Weighted):
    """Each output a weighted sum of a few inputs: y_j = sum_k `weight`[j, k] h[`index`[j, k]].

    `index` (m, k) int64 points into the flat input of `shape_in`; where a weight is 0 it points anywhere. k = 1 makes crops,
    permutations, flips, repetitions, diagonals; with more, differences and sums of a few numbers. The shapes say how
    the signal is seen on both sides, and no more.
    """

    index: Tensor
    weight: Tensor
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", weights(self.weight, "a weight"))
        if self.weight.ndim != 2 or self.index.shape != self.weight.shape or self.index.dtype != torch.int64:
            raise ValueError(
                f"expected a weight (m, k) and an int64 index of its shape, got {describe(self.weight)} and "
                f"{describe(self.index)}; pass one row per output"
            )
        if len(self.weight) != prod(self.shape_out) or min(self.weight.shape[1], *self.shape_in, *self.shape_out) < 1:
            raise ValueError(
                f"expected rows for an output of shape {tuple(self.shape_out)}, got {len(self.weight)} for an input "
                f"{tuple(self.shape_in)}; leave out what holds nothing"
            )
        if int(self.index.min()) < 0 or int(self.index.max()) >= self.n:
            raise ValueError(
                f"expected an index from 0 to {self.n - 1}, got {int(self.index.min())} to {int(self.index.max())}; "
                "give a weight of 0 to what is no input"
            )

    @property
    def details(self) -> str:
        return f", {self.terms} {'term' if self.terms == 1 else 'terms'} each"

    @classmethod
    def selection(
        cls, index: Tensor, shape_in: tuple[int, ...], shape_out: tuple[int, ...], dtype: torch.dtype = torch.float64
    ) -> "Sparse":
        """Output j is input `index`[j], or 0 where that is -1."""
        index = index.reshape(-1, 1)
        return cls(index.clamp(min=0), (index >= 0).to(dtype), tuple(shape_in), tuple(shape_out))

    @classmethod
    def diagonal(cls, scale: Tensor, shape: tuple[int, ...]) -> "Sparse":
        """Every number times its own, `(prod(shape),)`."""
        index = torch.arange(scale.numel(), device=scale.device)
        return cls(index[:, None], scale.reshape(-1, 1), tuple(shape), tuple(shape))

    @cached_property
    def work(self) -> int:
        return self.weight.numel()

    @cached_property
    def widest(self) -> int:
        return self.n + self.m + self.weight.numel()

    @cached_property
    def terms(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def _back(self) -> tuple[Tensor, Tensor] | None:
        """Index and weight of the transposed map, `(n, k')`: no sum whose order could change from run to run.

        None where a few inputs go to so many outputs that the table would be far larger than the map.
        """
        used = self.weight.reshape(-1) != 0
        source, weight = self.index.reshape(-1)[used], self.weight.reshape(-1)[used]
        row = torch.arange(self.m, device=self.device).repeat_interleave(self.index.shape[1])[used]
        order = source.argsort(stable=True)
        source, weight, row = source[order], weight[order], row[order]
        count = torch.bincount(source, minlength=self.n)
        place = torch.arange(len(source), device=self.device) - (count.cumsum(0) - count)[source]
        most = max(1, int(count.max()))
        if self.n * most > _LARGE_TABLE + 4 * self.weight.numel():
            return None
        index = torch.zeros(self.n, most, dtype=torch.int64, device=self.device)
        table = torch.zeros(index.shape, dtype=self.dtype, device=self.device)
        index[source, place], table[source, place] = row, weight
        return index, table

    def __call__(self, h: Tensor) -> Tensor:
        return _gathered(h, self.index, self.weight)

    def adjoint(self, p: Tensor) -> Tensor:
        if self._back is not None:
            return _gathered(p, *self._back)
        spread = (p[:, :, None] * self.weight).flatten(1)
        return torch.zeros(len(p), self.n, dtype=p.dtype, device=p.device).index_add_(1, self.index.reshape(-1), spread)

    def _of(self, weight: Tensor) -> "Sparse":
        return replace(self, index=self.index.to(weight.device), weight=weight)

    def make_matrix(self) -> Tensor:
        table = torch.zeros(self.m, self.n, dtype=self.dtype, device=self.device)
        return table.scatter_add_(1, self.index, self.weight)

    @cached_property
    def trivial(self) -> bool:
        """Whether it gives every number back, at most in another shape."""
        one = self.m == self.n and self.terms == 1 and bool((self.weight == 1).all())
        return one and bool((self.index[:, 0] == torch.arange(self.m, device=self.device)).all())

    def after(self, inner: "Sparse") -> "Sparse":
        """This map behind `inner`, as one."""
        index = inner.index[self.index].flatten(1)
        weight = (self.weight[:, :, None] * inner.weight[self.index]).flatten(1)
        return Sparse(index, weight, inner.shape_in, self.shape_out)


def _gathered(h: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """sum_k weight[j, k] h[index[j, k]] for each row of `h`, term by term, so that no more than one is held."""
    total = h[:, index[:, 0]] * weight[:, 0]
    for k in range(1, index.shape[1]):
        total = total + h[:, index[:, k]] * weight[:, k]
    return total


@dataclass(frozen=True, eq=False)
class Resampling2d(_Shaped):
    """Y = `rows` X `columns`' in each of `channels` pictures X: padding, cropping, upsampling.

    `rows` is (height out, height in), `columns` (width out, width in). Where they only pick pixels, as `picking`,
    `padding` and `nearest` make them, pixels are copied without rounding and the adjoint sums what was copied.
    """

    rows: Tensor
    columns: Tensor
    channels: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            matrix = weights(getattr(self, name), f"{name}, a float matrix (size out, size in),")
            object.__setattr__(self, name, matrix)
            if matrix.ndim != 2:
                raise TypeError(
                    f"expected {name} as a float matrix (size out, size in), got {describe(matrix)}; use .double()"
                )
        if (self.rows.dtype, self.rows.device) != (self.columns.dtype, self.columns.device):
            raise ValueError(
                f"expected rows and columns of one dtype and device, got {describe(self.rows)} and "
                f"{describe(self.columns)}; convert one of them"
            )
        if self.channels < 1:
            raise ValueError(f"expected channels >= 1, got {self.channels}; pass the number of pictures of a signal")

    @classmethod
    def picking(
        cls, shape_in: tuple[int, int, int], rows: Tensor, columns: Tensor, dtype: torch.dtype = torch.float64
    ) -> "Resampling2d":
        """Output pixel (i, j) is input pixel (rows[i], columns[j]), or 0 where either is -1; both are integers."""
        channels, height, width = shape_in
        return cls(_picks(rows, height, dtype), _picks(columns, width, dtype), channels)

    @classmethod
    def padding(
        cls, shape_in: tuple[int, int, int], pads: tuple[int, int, int, int], mode: str = "zeros",
        dtype: torch.dtype = torch.float64,
    ) -> "Resampling2d":  # fmt: skip
        """`pads` pixels more at (left, right, top, bottom), negative ones less; `mode` is a padding_mode of nn.Conv2d.

        Raises: ValueError for an unknown mode, and for pads that the mode cannot make of the picture.
        """
        if mode not in _PADDING_MODES:
            raise ValueError(f"expected a padding mode of {', '.join(_PADDING_MODES)}, got {mode!r}; pass one of these")
        left, right, top, bottom = pads
        rows, columns = _padded(shape_in[1], top, bottom, mode), _padded(shape_in[2], left, right, mode)
        return cls.picking(shape_in, rows, columns, dtype)

    @classmethod
    def nearest(
        cls, shape_in: tuple[int, int, int], scale: tuple[int, int], dtype: torch.dtype = torch.float64
    ) -> "Resampling2d":
        """Every pixel `scale` = (down, across) times: nearest-neighbour upsampling."""
        rows, columns = (
            torch.arange(size, device="cpu").repeat_interleave(k) for size, k in zip(shape_in[1:], scale, strict=True)
        )
        return cls.picking(shape_in, rows, columns, dtype)

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        return self.rows, self.columns

    @property
    def shape_in(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width) of what it takes."""
        return (self.channels, self.rows.shape[1], self.columns.shape[1])

    @property
    def shape_out(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width) of what it gives."""
        return (self.channels, self.rows.shape[0], self.columns.shape[0])

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.rows.dtype

    @cached_property
    def device(self) -> torch.device:
        return self.rows.device

    @cached_property
    def work(self) -> int:
        return self.channels * (self.columns.numel() * self.rows.shape[1] + self.rows.numel() * len(self.columns))

    @cached_property
    def terms(self) -> int:
        return self.rows.shape[1] + self.columns.shape[1]

    @exact_products
    def __call__(self, h: Tensor) -> Tensor:
        return (self.rows @ (h.reshape(-1, *self.shape_in) @ self.columns.T)).flatten(1)

    @exact_products
    def adjoint(self, p: Tensor) -> Tensor:
        return (self.rows.T @ (p.reshape(-1, *self.shape_out) @ self.columns)).flatten(1)

    @cached_property
    def _kept_lengths(self) -> tuple[Tensor, Tensor]:
        # every entry of W is a product of one entry of each side, or 0
        (rows, one), (columns, other) = _squares(self.rows), _squares(self.columns)
        if rows is None or columns is None:
            return self._lengths_by_units()
        found = _lengths_of(replace(self, rows=rows, columns=columns), one * other)
        return found[0].to(self.dtype), found[1].to(self.dtype)

    def magnitude(self) -> "Resampling2d":
        return replace(self, rows=self.rows.abs(), columns=self.columns.abs())

    def scaled(self, factor: float) -> "Resampling2d":
        return replace(self, rows=self.rows * factor)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Resampling2d":
        rows = self.rows.to(dtype=dtype or self.dtype, device=device or self.device)
        return self if rows is self.rows else replace(self, rows=rows, columns=self.columns.to(rows))

    def make_matrix(self) -> Tensor:
        one = torch.kron(self.rows.contiguous(), self.columns.contiguous())
        return torch.kron(torch.eye(self.channels, dtype=self.dtype, device=self.device), one)


def _tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _picks(index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """One row per entry of `index`, with a 1 where it points, all 0 for -1."""
    return (index[:, None] == torch.arange(size, device=index.device)).to(dtype)


def _padded(size: int, before: int, after: int, mode: str) -> Tensor:
    numbers = torch.arange(size, dtype=torch.float64, device="cpu")[None, None]
    fill = -1.0 if mode == "zeros" else None
    try:
        return F.pad(numbers, (before, after), _PADDING_MODES[mode], fill)[0, 0].long()
    except RuntimeError as error:
        raise ValueError(
            f"expected {mode} padding that fits {size} pixels, got {before} before and {after} after; pad less"
        ) from error


class AroundMap(AbstractMap):
    """What stands around a map `inner`, takes what that takes, and lives where that lives."""

    inner: AbstractMap

    @cached_property
    def n(self) -> int:
        return self.inner.n

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @cached_property
    def device(self) -> torch.device:
        return self.inner.device


@dataclass(frozen=True, eq=False)
class Composition(AroundMap):
    """`outer` after `inner`, where no activation stands between them and neither is dense."""

    outer: AbstractMap
    inner: AbstractMap

    def __post_init__(self) -> None:
        for name in ("outer", "inner"):
            if not isinstance(getattr(self, name), AbstractMap):
                raise TypeError(
                    f"expected {name} as a map, got {describe(getattr(self, name))}; wrap a matrix in cvxinv.Dense(...)"
                )
        if self.outer.n != self.inner.m:
            raise ValueError(
                f"expected an outer map of {self.inner.m} numbers, got one of {self.outer.n}; pass maps whose sizes meet"
            )

    @cached_property
    def m(self) -> int:
        return self.outer.m

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.inner.shapes[0], self.outer.shapes[1]

    @cached_property
    def work(self) -> int:
        return self.outer.work + self.inner.work

    @cached_property
    def widest(self) -> int:
        return max(self.outer.widest, self.inner.widest)

    @cached_property
    def terms(self) -> int:
        return self.outer.terms + self.inner.terms

    def __call__(self, h: Tensor) -> Tensor:
        return self.outer(self.inner(h))

    def adjoint(self, p: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(p))

    def magnitude(self) -> "AbstractMap":
        return Composition(self.outer.magnitude(), self.inner.magnitude())

    def scaled(self, factor: float) -> "Composition":
        return Composition(self.outer, self.inner.scaled(factor))._with_lengths_of(self, factor)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Composition":
        return Composition(self.outer.to(dtype, device), self.inner.to(dtype, device))._with_norm_of(self)

    def make_matrix(self) -> Tensor:
        # a dense inner map has its columns at hand; a matrix of pictures that were only enlarged can be very large
        if isinstance(self.inner, Dense):
            return self.outer(self.inner.weight.T).T.contiguous()
        return _by_products(self)


@dataclass(frozen=True, eq=False)
class Stretched(AroundMap):
    """diag(`rows`) W diag(`columns`) for a map W that is not kept as a matrix; None stands for ones."""

    inner: AbstractMap
    rows: Tensor | None
    columns: Tensor | None

    @cached_property
    def m(self) -> int:
        return self.inner.m

    @cached_property
    def work(self) -> int:
        return self.inner.work

    @cached_property
    def widest(self) -> int:
        return self.inner.widest

    @cached_property
    def terms(self) -> int:
        return self.inner.terms + 2

    def __call__(self, h: Tensor) -> Tensor:
        v = self.inner(h if self.columns is None else h * self.columns)
        return v if self.rows is None else v * self.rows

    def adjoint(self, p: Tensor) -> Tensor:
        h = self.inner.adjoint(p if self.rows is None else p * self.rows)
        return h if self.columns is None else h * self.columns

    def magnitude(self) -> "Stretched":
        sides = (None if side is None else side.abs() for side in (self.rows, self.columns))
        return Stretched(self.inner.magnitude(), *sides)

    def scaled(self, factor: float) -> "Stretched":
        return replace(self, inner=self.inner.scaled(factor))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Stretched":
        inner = self.inner.to(dtype, device)
        sides = (None if side is None else side.to(inner.device, inner.dtype) for side in (self.rows, self.columns))
        return Stretched(inner, *sides)._with_norm_of(self)


_KINDS = (Dense, ConvTranspose2d, Conv2d, Conv3d, ConvTranspose3d, Sparse, Resampling2d)


def check_map(W: AbstractMap, where: str) -> None:
    """Raises ValueError where a map of the user's own is none: not linear, or with another map's adjoint, matrix, |W|, ...

    where: how the message calls it. It is tried once; a wrong adjoint would make bounds of it that do not hold.
    """
    if type(W) in (Composition, Stretched):
        for part in (W.inner, *((W.outer,) if isinstance(W, Composition) else ())):  # type: ignore[attr-defined]
            check_map(part, where)
    elif type(W) not in _KINDS and W._fault:
        raise ValueError(
            f"expected {where} as a linear map with {W._fault}, got another in {type(W).__name__}; correct its class"
        )
