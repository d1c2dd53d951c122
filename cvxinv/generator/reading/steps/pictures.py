"""Steps on pictures that act on rows and columns apart: resizing, average pooling; and maximum pooling."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor

from ... import ops
from ..cells import MixedError, Signal, picks
from .call import Call, RefusedError, saying
from .maps import found
from .moves import move

_BLOCK = 16  # unit rows in one run


@saying(*(
    f"{start}{mode}{axes}d{end}"
    for axes in (1, 2, 3)
    for mode in ("nearest", "nearest_exact", "linear", "bilinear", "bicubic", "trilinear")
    for start, end in (("upsample_", ""), ("_upsample_", ""), ("_upsample_", "_aa"))
))  # fmt: skip
def resize(call: Call) -> None:
    """Resizing, by the matrices that it is on each axis."""
    separable(call)


@saying("avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_avg_pool1d")
def average(call: Call) -> None:
    """Means over windows, by the matrices that they are on each axis."""
    separable(call)


def separable(call: Call) -> None:
    """A map that is the same in every channel and a matrix on each other axis."""
    t = call.signal_in()
    signal = call.read(t, plain=True)
    axes = 1 if call.name.endswith("1d") else 3 if "3d" in call.name else 2
    if len(signal.shape) != axes + 1:
        raise MixedError(f"on a signal of shape {signal.shape}")
    matrices = [
        _matrix(lambda x: call.func(x, *call.args[1:], **call.kwargs), signal.shape[1:], axis) for axis in range(axes)
    ]
    call.finish(signal, resampled(signal.shape, tuple(call.out.shape[1:]), matrices))


def resampled(before: ops.Shape, after: ops.Shape, matrices: list[Tensor]) -> Iterator[ops.AbstractOp]:
    """Matrices on the axes behind the channels, in ops on pictures."""
    channels = before[0]
    if len(matrices) == 1:
        yield ops.Reshape(shape=(channels, 1, before[1]))
        yield ops.Resampling(rows=torch.ones(1, 1, dtype=torch.float64), columns=matrices[0])
    elif len(matrices) == 2:
        yield ops.Resampling(rows=matrices[0], columns=matrices[1])
    else:
        yield ops.Reshape(shape=(channels * before[1], *before[2:]))
        yield ops.Resampling(rows=matrices[1], columns=matrices[2])
        plane = prod(after[2:])
        yield ops.Reshape(shape=(channels, before[1], plane))
        yield ops.Resampling(rows=matrices[0], columns=torch.eye(plane, dtype=torch.float64))
    if len(matrices) != 2:
        yield ops.Reshape(shape=after)


def _matrix(step: Callable[[Tensor], Tensor], sizes: tuple[int, ...], axis: int) -> Tensor:
    """What `step` does along one axis: it shows on units there, in relation to ones, where that is largest."""
    ones = step(torch.ones(1, 1, *sizes, dtype=torch.float64))[0, 0].movedim(axis, 0)
    ones = ones.reshape(len(ones), -1)
    row, place = divmod(int(ones.abs().argmax()), ones.shape[1])
    columns = []
    for start in range(0, sizes[axis], _BLOCK):
        units = torch.eye(sizes[axis], dtype=torch.float64)[start : start + _BLOCK]
        given = units.reshape(len(units), 1, *(size if i == axis else 1 for i, size in enumerate(sizes)))
        out = step(given.expand(-1, 1, *sizes).contiguous())[:, 0].movedim(1 + axis, 1)
        columns.append(out.reshape(len(units), len(ones), -1)[:, :, place])
    matrix = torch.cat(columns).t().contiguous()
    # what the other axes make of ones is counted once, with the first of them
    return matrix if axis == 0 else matrix / ones[row, place]


@saying("constant_pad_nd", "replication_pad2d", "reflection_pad2d")
def pad(call: Call) -> None:
    """Padding of pictures: rows and columns that are picked; other padding moves numbers."""
    t = call.signal_in()
    signal = call.read(t)
    if (call.name == "constant_pad_nd" and call.get(2, "value", 0) != 0) or not signal.lay.plain or len(signal.shape) != 3:
        move(call)
        return
    numbers = torch.arange(1, 1 + prod(signal.shape), dtype=torch.float64).reshape(1, *signal.shape)
    index = call.func(numbers, *call.args[1:], **call.kwargs)[0].long() - 1
    if (op := picks(signal.shape, index)) is None:
        move(call)
    else:
        call.finish(signal, [op])


@saying("mean", "sum")
def mean(call: Call) -> None:
    """Means over rows and columns of a picture; others as a matrix."""
    t = call.signal_in()
    dims, keep = call.get(1, "dim"), call.get(2, "keepdim", False)
    if dims is None:
        raise RefusedError("over all signals")
    signal = call.read(t)
    axes = {signal.lay.axis_of(dim, t.ndim) for dim in dims}
    if -1 in axes:
        raise RefusedError("over the axis that counts the latents")
    if not signal.lay.plain or len(signal.shape) != 3 or not axes <= {1, 2}:
        found(call)
        return
    matrices = [_whole(call.name, signal.shape[axis], axis in axes) for axis in (1, 2)]
    after = tuple(1 if i in axes else size for i, size in enumerate(signal.shape))
    steps = list(resampled(signal.shape, after, matrices))
    call.finish(signal, steps if keep else [*steps, ops.Reshape(shape=tuple(call.out.shape[1:]))])


def _whole(name: str, size: int, over: bool) -> Tensor:
    if not over:
        return torch.eye(size, dtype=torch.float64)
    return torch.full((1, size), 1 / size if name == "mean" else 1.0, dtype=torch.float64)


@saying("max_pool2d_with_indices", "max_pool2d")
def max_pool(call: Call) -> None:
    """Maxima over windows."""
    t = call.signal_in()
    call.out = call.out[0] if isinstance(call.out, tuple) else call.out
    signal = _picture(call, t)
    kernel = _pair(call.get(1, "kernel_size"))
    said = {
        "stride": _pair(call.get(2, "stride") or kernel),
        "padding": _pair(call.get(3, "padding", 0)),
        "dilation": _pair(call.get(4, "dilation", 1)),
    }
    call.finish(signal, [ops.MaxPool(kernel=kernel, ceil_mode=bool(call.get(5, "ceil_mode", False)), **said)])


def _picture(call: Call, t: Tensor) -> Signal:
    signal = call.read(t, plain=True)
    if len(signal.shape) != 3:
        raise MixedError(f"on a signal of shape {signal.shape}")
    return signal


def _pair(value: Any) -> tuple[int, int]:
    values = [value, value] if isinstance(value, int) else [*value] * (2 // len(value))
    return values[0], values[1]
