"""The ops of docs/format.md: the one language in which files, torch modules and ONNX graphs say what a generator computes.

An op is one entry of `layers`; its fields are that entry's fields and tensors. The readers emit ops, `folding.fold` makes a
generator of them, and saving says a generator in ops again. A new map is read and saved by one op here: `maps` says which
linear maps it is on a signal, `saves` which map is written as it; its fields bear the names of that map's, and torch's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import AbstractActivation
from .maps import AbstractMap, Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d, Dense, Resampling2d, Sparse

_DENSE_ENTRIES = 4_000_000  # a matrix with zeros in it is written out up to this many entries (32 MB in float64)

Shape = tuple[int, ...]
Pair = tuple[int, int]  # height and width
Triple = tuple[int, int, int]  # depth, height and width
# tensors in files, with their number of axes
Numbers = Annotated[Tensor, None]
Vector = Annotated[Tensor, 1]
Matrix = Annotated[Tensor, 2]
Indices = Annotated[Tensor, "integers"]


class MisfitError(Exception):
    """An op does not fit the signal it meets; who knows where the op was read turns it into an error of that place."""

    def __init__(self, expected: str, got: object):
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, str(got)


@dataclass(frozen=True)
class Place:
    """Where an op was read, in the user's words, and what to do where it does not fit."""

    words: str
    cure: str

    def wrong(self, expected: str, got: str) -> ValueError:
        """The error for an op that is not as expected."""
        return ValueError(f"expected {expected} in {self.words}, got {got}; {self.cure}")

    def refused(self, error: ValueError, got: str) -> ValueError:
        """The error for numbers that a class refuses, in the form that all its errors have."""
        return self.wrong(str(error).removeprefix("expected ").split(", got ")[0], got)


OPS: dict[str, type["AbstractOp"]] = {}  # by the names in files; a class joins when it is defined


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractOp:
    """One entry of `layers`. `names` are those in files, written is the first; `saves` is the map that is written as it."""

    names: ClassVar[tuple[str, ...]] = ()
    saves: ClassVar[type[AbstractMap] | None] = None

    def __init_subclass__(cls, names: tuple[str, ...] = (), saves: type[AbstractMap] | None = None):
        super().__init_subclass__()
        cls.names, cls.saves = names, saves
        OPS.update(dict.fromkeys(names, cls))

    @classmethod
    def of(cls, source: AbstractMap | nn.Module, **others: Any) -> Self:
        """The op of a map or a module whose attributes bear the names of its fields; others: fields that are not theirs."""
        own = {f.name: getattr(source, f.name, MISSING) for f in fields(cls)}
        return cls(**{name: value for name, value in own.items() if value is not MISSING} | others)

    def shape_after(self, shape: Shape) -> Shape:
        """The shape of a signal behind the op, of one of `shape` before it. Raises: MisfitError."""
        return shape


Ops = Iterable[tuple[Place, AbstractOp]]


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractMapOp(AbstractOp, ABC):
    """Linear maps and a bias. `composed` keeps them apart from the map before them, where no activation stands between.

    `bias` is one number per channel of what comes out or one per output, None for zeros.
    """

    bias: Annotated[Tensor | None, None] = None
    composed: bool = False

    @abstractmethod
    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        """What it does to a signal of `shape`, first to last. Raises: MisfitError."""

    def shape_after(self, shape: Shape) -> Shape:
        return self.maps(shape)[-1].shapes[1]

    def offset(self, shape: Shape) -> Tensor:
        """The bias, one number per output `(prod(shape),)` of a signal of `shape` behind the op. Raises: MisfitError."""
        if self.bias is None:
            return torch.zeros(prod(shape), dtype=torch.float64)
        expected = shape if self.bias.ndim == len(shape) else shape[:1]
        if self.bias.shape != expected:
            raise MisfitError(f"a bias of shape {expected}", tuple(self.bias.shape))
        return per_output(self.bias, shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(AbstractMapOp, names=("linear",), saves=Dense):
    """A matrix `weight` (out, in) on the flat signal."""

    weight: Matrix

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        n = prod(shape)
        if self.weight.shape[1] != n:
            raise MisfitError(f"a weight (out, {n}), a matrix for {n} numbers", tuple(self.weight.shape))
        return (Dense(self.weight),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(AbstractMapOp, names=("conv2d",), saves=Conv2d):
    """A convolution; with `padding_mode` "replicate" it pads with the edges."""

    weight: Annotated[Tensor, 4]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    output_padding: Pair = (0, 0)
    groups: int = 1
    padding_mode: Literal["zeros", "replicate"] = "zeros"

    def channels(self) -> int:
        """How many channels it takes."""
        return self.weight.shape[1] * self.groups

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        before, (down, across) = picture(shape), self.padding
        if self.channels() != before[0] or self.groups < 1 or self.weight.shape[0] % self.groups:
            raise MisfitError(f"a weight for {before[0]} channels", f"{tuple(self.weight.shape)} with groups={self.groups}")
        if self.padding_mode == "zeros":
            return (_convolution(self, before, self.padding),)
        pads = Resampling2d.padding(before, (across, across, down, down), self.padding_mode)
        return pads, _convolution(self, pads.shape_out, (0, 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposedConvolution(Convolution, names=("conv_transpose2d",), saves=ConvTranspose2d):
    """A transposed convolution; it pads with zeros only."""

    padding_mode: Literal["zeros"] = "zeros"

    def channels(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution3d(AbstractMapOp, names=("conv3d",), saves=Conv3d):
    """A convolution of volumes (channels, depth, height, width) with zero padding."""

    weight: Annotated[Tensor, 5]
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    output_padding: Triple = (0, 0, 0)
    groups: int = 1

    def channels(self) -> int:
        """How many channels it takes."""
        return self.weight.shape[1] * self.groups

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        if len(shape) != 4:
            raise MisfitError("an input (channels, depth, height, width)", f"{shape} (put a reshape before it)")
        if self.channels() != shape[0] or self.groups < 1 or self.weight.shape[0] % self.groups:
            raise MisfitError(f"a weight for {shape[0]} channels", f"{tuple(self.weight.shape)} with groups={self.groups}")
        return (_convolution(self, shape, self.padding),)


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposedConvolution3d(Convolution3d, names=("conv_transpose3d",), saves=ConvTranspose3d):
    """A transposed convolution of volumes."""

    def channels(self) -> int:
        return self.weight.shape[0]


def _convolution(op: "Convolution | Convolution3d", shape: Shape, padding: Shape) -> AbstractMap:
    """The map that a convolution's op `saves`. Raises: MisfitError where its numbers do not fit each other."""
    kind: Any = op.saves
    try:
        return kind(op.weight, shape, op.stride, padding, op.dilation, op.groups, op.output_padding)
    except RuntimeError as error:
        raise MisfitError("stride, padding, ... that fit the weight", str(error).splitlines()[0]) from error


@dataclass(frozen=True, eq=False, kw_only=True)
class RowwiseLinear(AbstractMapOp):
    """A matrix `weight` (out, in) on the last axis of a signal (..., in), with a bias (out,): what nn.Linear does."""

    weight: Matrix

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        (out, n), (*before, last) = self.weight.shape, shape
        if last != n:
            raise MisfitError(f"a weight (out, {last}), a matrix for the last axis", tuple(self.weight.shape))
        rows = prod(before)
        if rows == 1:
            return (*_seen_as((n,), shape), Dense(self.weight), *_seen_as((*before, out), (out,)))
        if rows * out * rows * n <= _DENSE_ENTRIES:
            one = torch.kron(torch.eye(rows, dtype=self.weight.dtype), self.weight)
            return (*_seen_as((rows * n,), shape), Dense(one), *_seen_as((*before, out), (rows * out,)))
        there = torch.arange(rows * n).reshape(rows, n).T
        back = torch.arange(rows * out).reshape(out, rows).T
        return (
            Sparse.selection(there, shape, (n, rows, 1)), Conv2d(self.weight[:, :, None, None], (n, rows, 1)),
            Sparse.selection(back, (out, rows, 1), (*before, out)),
        )  # fmt: skip

    def offset(self, shape: Shape) -> Tensor:
        if self.bias is None or self.bias.numel() == prod(shape):
            return super().offset(shape)
        if self.bias.shape != shape[-1:]:
            raise MisfitError(f"a bias of shape {shape[-1:]}", tuple(self.bias.shape))
        return self.bias.expand(shape).reshape(-1)


def _seen_as(shape: Shape, before: Shape) -> tuple[AbstractMap, ...]:
    """The same numbers in another shape, as a map; none where they are in it."""
    return () if shape == before else (Sparse.selection(torch.arange(prod(shape)), before, shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(AbstractMapOp):
    """Output j of the flat signal is input `index`[j], or 0 where that is -1: whatever only moves numbers.

    `index` is (prod(shape),) int64 and points into the flat signal before, `shape` is that of the signal behind.
    """

    index: Indices
    shape: Shape

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        index, n = self.index.reshape(-1), prod(shape)
        if index.numel() != prod(self.shape) or index.numel() == 0:
            raise MisfitError(f"an index of {prod(self.shape)} numbers", index.numel())
        if int(index.min()) < -1 or int(index.max()) >= n:
            raise MisfitError(f"an index from -1 to {n - 1}", f"{int(index.min())} to {int(index.max())}")
        return (Sparse.selection(index, shape, self.shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sums(AbstractMapOp, names=("sparse",), saves=Sparse):
    """Each output of `shape_out` a sum of a few inputs, `weight` (out, k) times those that `index` (out, k) names."""

    index: Indices
    weight: Matrix
    shape_out: Shape

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        try:
            return (Sparse(self.index, self.weight, shape, self.shape_out),)
        except ValueError as error:
            expected, got = str(error).removeprefix("expected ").split("; ")[0].split(", got ")
            raise MisfitError(expected, got) from error


@dataclass(frozen=True, eq=False, kw_only=True)
class Resampling(AbstractMapOp, names=("resample2d",), saves=Resampling2d):
    """`rows` @ picture @ `columns`' in every channel."""

    rows: Matrix
    columns: Matrix

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        channels, *sizes = picture(shape)
        if [self.rows.shape[1], self.columns.shape[1]] != sizes:
            got = f"{tuple(self.rows.shape)} and {tuple(self.columns.shape)}"
            raise MisfitError(f"rows and columns for pictures of {sizes}", got)
        return (Resampling2d(self.rows, self.columns, channels),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Upsampling(AbstractMapOp, names=("upsample_nearest",)):
    """Every pixel `scale` = (down, across) times, both >= 1."""

    scale: Annotated[Pair, 1]

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        return (Resampling2d.nearest(picture(shape), self.scale),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Channels(AbstractMapOp, names=("concat_channels",)):
    """Fixed channels `before` and `after` those of the signal, (k, ...) with ... as in the signal's shape."""

    before: Numbers
    after: Numbers

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        rest = shape[1:]
        for side in (self.before, self.after):
            if side.ndim == 0 or side.shape[1:] != rest:
                raise MisfitError(f"channels beside signals of shape {shape}, flat ones beside flat ones", tuple(side.shape))
        one = torch.eye(shape[0], dtype=self.before.dtype)
        weight = F.pad(one, (0, 0, self.before.shape[0], self.after.shape[0]))
        if len(rest) == 2:
            return (Conv2d(weight[:, :, None, None], picture(shape)),)
        return (Dense(torch.kron(weight, torch.eye(prod(rest), dtype=weight.dtype))),)

    def offset(self, shape: Shape) -> Tensor:
        between = self.before.new_zeros(prod(shape) - self.before.numel() - self.after.numel())
        return super().offset(shape) + torch.cat([self.before.reshape(-1), between, self.after.reshape(-1)])


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedding(AbstractOp, names=("concat_label_embedding",)):
    """A row of `embedding` (classes, k) behind the flat signal: which one is open until a label is given."""

    embedding: Matrix

    def row(self, label: int) -> Channels:
        """The op that it is for one label."""
        return Channels(before=self.embedding[label][:0], after=self.embedding[label])


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractDiagonal(AbstractOp, ABC):
    """A scale and a shift of each number."""

    @abstractmethod
    def numbers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Scale and shift of a signal of `shape`, one per channel or one per number. Raises: MisfitError."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchNorm(AbstractDiagonal, names=("batch_norm1d", "batch_norm2d", "batch_norm3d")):
    """A batch norm in eval mode, tensors (channels,); without `weight` and `bias` they are ones and zeros."""

    running_mean: Vector
    running_var: Vector
    weight: Annotated[Tensor | None, 1] = None
    bias: Annotated[Tensor | None, 1] = None
    eps: float

    def numbers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        for values in (self.running_mean, self.running_var, self.weight, self.bias):
            if values is not None and values.shape != shape[:1]:
                raise MisfitError(f"a batch norm of {shape[0]} channels", f"numbers of shape {tuple(values.shape)}")
        if bool((self.running_var < 0).any()):
            raise MisfitError("a running_var >= 0", float(self.running_var.min()))
        scale = (self.running_var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else shift + self.bias


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagonal(AbstractDiagonal, names=("diagonal",)):
    """`scale` h + `shift`, each one number per channel or one per number of the signal."""

    scale: Numbers
    shift: Numbers

    def numbers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        for values in (self.scale, self.shift):
            if values.numel() not in (shape[0], prod(shape)):
                raise MisfitError(f"{shape[0]} or {prod(shape)} numbers", values.numel())
        return self.scale, self.shift


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(AbstractOp, names=("reshape",)):
    """The same numbers in another shape."""

    shape: Shape

    def shape_after(self, shape: Shape) -> Shape:
        if prod(self.shape) != prod(shape):
            raise MisfitError(f"a shape of {prod(shape)} numbers", list(self.shape))
        return self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Removed(AbstractOp):
    """Nothing: what a network holds and an inversion does without, as dropout. `what` is said in the generator's table."""

    what: str


@dataclass(frozen=True, eq=False)
class Activation(AbstractOp):
    """A nonlinearity; files know it by its own name."""

    activation: AbstractActivation


@dataclass(frozen=True, eq=False, kw_only=True)
class LeakyUnits(AbstractOp):
    """u where u > 0, slope times u elsewhere, with any real slope of each channel or of each number: what PReLU does."""

    slopes: Numbers

    def numbers(self, shape: Shape) -> Tensor:
        """One slope per number of a signal of `shape`. Raises: MisfitError."""
        if self.slopes.numel() == 1:
            return self.slopes.reshape(1).expand(prod(shape))
        if self.slopes.numel() not in (shape[0], prod(shape)):
            raise MisfitError(f"1, {shape[0]} or {prod(shape)} slopes", self.slopes.numel())
        return per_output(self.slopes, shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(AbstractOp):
    """The largest number of each window of pictures (channels, height, width), as nn.MaxPool2d takes it."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    def windows(self, shape: Shape) -> tuple[Tensor, Shape]:
        """Index `(out, k)` of each window's numbers in the flat signal, -1 beyond the edge, and the shape behind.

        Raises: MisfitError.
        """
        channels, height, width = picture(shape)
        try:
            probe = F.max_pool2d(torch.zeros(1, 1, height, width), *self._place(), self.ceil_mode)
        except RuntimeError as error:
            raise MisfitError("kernel, stride, padding, ... that fit the picture", str(error).splitlines()[0]) from error
        rows, columns = (
            torch.arange(out)[:, None] * stride - padding + torch.arange(kernel) * dilation
            for out, kernel, stride, padding, dilation in zip(
                probe.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        rows, columns = rows[:, None, :, None], columns[None, :, None, :]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        one = torch.where(inside, rows * width + columns, -1).flatten(2)  # (height out, width out, k)
        first = torch.arange(channels)[:, None, None, None] * height * width
        index = torch.where(one < 0, -1, first + one)
        return index.flatten(0, 2), (channels, *probe.shape[2:])

    def _place(self) -> tuple[Pair, Pair, Pair, Pair]:
        return self.kernel, self.stride, self.padding, self.dilation

    def shape_after(self, shape: Shape) -> Shape:
        return self.windows(shape)[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(AbstractOp, names=("softmax",)):
    """A softmax along `axis` of the signal's shape, 0 being the channels; at the output only."""

    axis: int = 0


def picture(shape: Shape) -> tuple[int, int, int]:
    """`shape` as (channels, height, width). Raises: MisfitError."""
    if len(shape) != 3:
        raise MisfitError("an input (channels, height, width)", f"{shape} (put a reshape before it)")
    return shape


def per_output(values: Tensor, shape: Shape) -> Tensor:
    """One number per output, `(prod(shape),)`, from one per channel or one per output."""
    if values.numel() == prod(shape):
        return values.reshape(-1)
    return values.reshape(-1).repeat_interleave(prod(shape[1:]))


def per_channel(values: Tensor, channels: int) -> Tensor | None:
    """One number per channel, `(channels,)`, or None where a channel holds different numbers."""
    table = values.reshape(channels, -1)
    return table[:, 0] if bool((table == table[:, :1]).all()) else None
