"""The ops of docs/format.md: the one language in which files, torch modules and ONNX graphs say what a generator computes.

An op is one entry of `layers`; its fields are that entry's fields and tensors. The readers emit ops, `folding.fold` makes a
generator of them, and saving says a generator in ops again. A new map is read and saved by one op here: `maps` says which
linear maps it is on a signal, `saves` which map is written as it; its fields bear the names of that map's fields.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .activations import AbstractActivation
from .maps import AbstractMap, Conv2d, ConvTranspose2d, Dense, Resampling2d

Shape = tuple[int, ...]
Pair = tuple[int, int]  # height and width


class Misfit(Exception):
    """An op that does not fit the signal it meets; who knows where the op was read turns it into an error of that place."""

    def __init__(self, expected: str, got: str):
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, got


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


def tensor(axes: int | None, **default: None) -> Any:
    """A field that is a tensor of so many axes, of any number for None; it may be missing where a default is given."""
    return field(metadata={"axes": axes}, **default)


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractOp(ABC):
    """One entry of `layers`. `names` are those under which files know it; it is written under the first."""

    names: ClassVar[tuple[str, ...]] = ()


Ops = Iterable[tuple[Place, AbstractOp]]


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractMapOp(AbstractOp):
    """Linear maps and a bias. `composed` keeps them apart from the map before them, where no activation stands between.

    `bias` is one number per channel of what comes out or one per output, None for zeros. `saves` is the map that is
    written as this op, None where none is.
    """

    saves: ClassVar[type[AbstractMap] | None] = None

    bias: Tensor | None = tensor(None, default=None)
    composed: bool = False

    @abstractmethod
    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        """What it does to a signal of `shape`, first to last. Raises: Misfit."""

    def offset(self, shape: Shape) -> Tensor:
        """The bias, one number per output `(prod(shape),)` of a signal of `shape` behind the op. Raises: Misfit."""
        if self.bias is None:
            return torch.zeros(prod(shape), dtype=torch.float64)
        expected = shape if self.bias.ndim == len(shape) else shape[:1]
        if tuple(self.bias.shape) != expected:
            raise Misfit(f"a bias of shape {expected}", f"{tuple(self.bias.shape)}")
        return per_output(self.bias, shape)

    @classmethod
    def of(cls, W: AbstractMap, **others: Any) -> Self:
        """The op that `W` is written as; others: the fields that are not the map's."""
        own = {f.name for f in fields(cls)} & {f.name for f in fields(W)}  # type: ignore[arg-type]
        return cls(**{name: getattr(W, name) for name in own}, **others)


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(AbstractMapOp):
    """A matrix `weight` (out, in) on the flat signal."""

    names = ("linear",)
    saves = Dense

    weight: Tensor = tensor(2)

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        n = prod(shape)
        if self.weight.shape[1] != n:
            raise Misfit(f"a weight of shape (out, {n})", f"{tuple(self.weight.shape)}")
        return (Dense(self.weight),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(AbstractMapOp):
    """A convolution; with `padding_mode` "replicate" it pads with the edges."""

    names = ("conv2d",)
    saves: ClassVar[type[Conv2d | ConvTranspose2d]] = Conv2d

    weight: Tensor = tensor(4)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    output_padding: Pair = (0, 0)
    groups: int = 1
    padding_mode: str = field(default="zeros", metadata={"one_of": ("zeros", "replicate")})

    def channels(self) -> int:
        """How many channels it takes."""
        return self.weight.shape[1] * self.groups

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        before, (down, across) = picture(shape), self.padding
        if self.channels() != before[0] or self.groups < 1 or self.weight.shape[0] % self.groups:
            raise Misfit(f"a weight for {before[0]} channels", f"{tuple(self.weight.shape)} with groups={self.groups}")
        if self.padding_mode == "zeros":
            return (self._map(before, self.padding),)
        pads = Resampling2d.padding(before, (across, across, down, down), self.padding_mode)
        return pads, self._map(pads.shape_out, (0, 0))

    def _map(self, shape: tuple[int, int, int], padding: Pair) -> AbstractMap:
        place = (self.stride, padding, self.dilation, self.groups, self.output_padding)
        try:
            return self.saves(self.weight, shape, *place)
        except RuntimeError as error:
            raise Misfit("stride, padding, ... that fit the weight", str(error).splitlines()[0]) from error


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposedConvolution(Convolution):
    """A transposed convolution; it pads with zeros only."""

    names = ("conv_transpose2d",)
    saves = ConvTranspose2d

    padding_mode: str = field(default="zeros", metadata={"one_of": ("zeros",)})

    def channels(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Resampling(AbstractMapOp):
    """`rows` @ picture @ `columns`' in every channel."""

    names = ("resample2d",)
    saves = Resampling2d

    rows: Tensor = tensor(2)
    columns: Tensor = tensor(2)

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        channels, *sizes = picture(shape)
        if [self.rows.shape[1], self.columns.shape[1]] != sizes:
            got = f"{tuple(self.rows.shape)} and {tuple(self.columns.shape)}"
            raise Misfit(f"rows and columns for pictures of {sizes}", got)
        return (Resampling2d(self.rows, self.columns, channels),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Upsampling(AbstractMapOp):
    """Every pixel `scale` = (down, across) times."""

    names = ("upsample_nearest",)

    scale: Pair = field(default=(0, 0), metadata={"least": 1})

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        return (Resampling2d.nearest(picture(shape), self.scale),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Channels(AbstractMapOp):
    """Fixed channels `before` and `after` those of the signal, (k, ...) with ... as in the signal's shape."""

    names = ("concat_channels",)

    before: Tensor = tensor(None)
    after: Tensor = tensor(None)

    def maps(self, shape: Shape) -> tuple[AbstractMap, ...]:
        rest = shape[1:]
        for side in (self.before, self.after):
            if tuple(side.shape[1:]) != rest:
                raise Misfit(f"channels for signals of shape {shape}, flat ones for a flat signal", f"{tuple(side.shape)}")
        sides = (0, 0, self.before.shape[0], self.after.shape[0])
        weight = F.pad(torch.eye(shape[0], dtype=self.before.dtype), sides)
        if len(rest) == 2:
            return (Conv2d(weight[:, :, None, None], picture(shape)),)
        return (Dense(torch.kron(weight, torch.eye(prod(rest), dtype=weight.dtype))),)

    def offset(self, shape: Shape) -> Tensor:
        between = self.before.new_zeros(prod(shape) - self.before.numel() - self.after.numel())
        return super().offset(shape) + torch.cat([self.before.reshape(-1), between, self.after.reshape(-1)])


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedding(AbstractOp):
    """A row of `embedding` (classes, k) behind the flat signal: which one is open until a label is given."""

    names = ("concat_label_embedding",)

    embedding: Tensor = tensor(2)

    def row(self, label: int) -> Channels:
        """The op that it is for one label."""
        chosen = self.embedding[label]
        return Channels(before=chosen[:0], after=chosen)


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractDiagonal(AbstractOp):
    """A scale and a shift of each number."""

    @abstractmethod
    def numbers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Scale and shift of a signal of `shape`, one per channel or one per number. Raises: Misfit."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchNorm(AbstractDiagonal):
    """A batch norm in eval mode, four tensors (channels,); without `weight` and `bias` they are ones and zeros."""

    names = ("batch_norm1d", "batch_norm2d")

    running_mean: Tensor = tensor(1)
    running_var: Tensor = tensor(1)
    weight: Tensor | None = tensor(1, default=None)
    bias: Tensor | None = tensor(1, default=None)
    eps: float

    def numbers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        for name in ("running_mean", "running_var", "weight", "bias"):
            values = getattr(self, name)
            if values is not None and values.shape != shape[:1]:
                raise Misfit(f"a batch norm of {shape[0]} channels", f"{name} of shape {tuple(values.shape)}")
        if bool((self.running_var < 0).any()):
            raise Misfit("a running_var >= 0", f"{float(self.running_var.min())}")
        scale = (self.running_var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else shift + self.bias


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagonal(AbstractDiagonal):
    """`scale` h + `shift`, one number per channel or one per number of the signal each."""

    names = ("diagonal",)

    scale: Tensor = tensor(None)
    shift: Tensor = tensor(None)

    def numbers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        for values in (self.scale, self.shift):
            if values.numel() not in (shape[0], prod(shape)):
                raise Misfit(f"{shape[0]} or {prod(shape)} numbers", f"{values.numel()}")
        return self.scale, self.shift


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(AbstractOp):
    """The same numbers in another shape."""

    names = ("reshape",)

    shape: Shape

    def fits(self, before: Shape) -> Shape:
        """The new shape. Raises: Misfit where a signal of shape `before` has another number of numbers."""
        if prod(self.shape) != prod(before):
            raise Misfit(f"a shape of {prod(before)} numbers", f"{list(self.shape)}")
        return self.shape


@dataclass(frozen=True, eq=False)
class Activation(AbstractOp):
    """A nonlinearity; files know it by its own name."""

    activation: AbstractActivation


OPS: dict[str, type[AbstractOp]] = {
    name: kind
    for kind in (
        Linear, TransposedConvolution, Convolution, Resampling, Upsampling, Channels, Embedding, BatchNorm, Diagonal, Reshape,
    )
    for name in kind.names
}  # fmt: skip


def picture(shape: Shape) -> tuple[int, int, int]:
    """`shape` as (channels, height, width). Raises: Misfit."""
    if len(shape) != 3:
        raise Misfit("an input (channels, height, width)", f"{shape} (put a reshape before it)")
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
