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
from .maps import AbstractMap, Conv2d, ConvTranspose2d, Dense, Resampling2d

Shape = tuple[int, ...]
Pair = tuple[int, int]  # height and width
# tensors in files, with their number of axes
Numbers = Annotated[Tensor, None]
Vector = Annotated[Tensor, 1]
Matrix = Annotated[Tensor, 2]


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
            return (self._map(before, self.padding),)
        pads = Resampling2d.padding(before, (across, across, down, down), self.padding_mode)
        return pads, self._map(pads.shape_out, (0, 0))

    def _map(self, shape: tuple[int, int, int], padding: Pair) -> AbstractMap:
        kind: Any = self.saves
        try:
            return kind(self.weight, shape, self.stride, padding, self.dilation, self.groups, self.output_padding)
        except RuntimeError as error:
            raise MisfitError("stride, padding, ... that fit the weight", str(error).splitlines()[0]) from error


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposedConvolution(Convolution, names=("conv_transpose2d",), saves=ConvTranspose2d):
    """A transposed convolution; it pads with zeros only."""

    padding_mode: Literal["zeros"] = "zeros"

    def channels(self) -> int:
        return self.weight.shape[0]


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
class BatchNorm(AbstractDiagonal, names=("batch_norm1d", "batch_norm2d")):
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


@dataclass(frozen=True, eq=False)
class Activation(AbstractOp):
    """A nonlinearity; files know it by its own name."""

    activation: AbstractActivation


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
