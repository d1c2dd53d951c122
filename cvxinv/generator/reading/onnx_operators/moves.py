"""Nodes that only move numbers: onnx's reference evaluator moves their places, and torch takes the numbers from there."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import UnsupportedLayerError
from .node import Node, evaluate, integers, number, operator


@operator(
    "CenterCropPad", "Compress", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Reshape", "ReverseSequence", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze",
)  # fmt: skip
def move(node: Node, *inputs: Tensor | None, fill: float = 0.0) -> Tensor | tuple[Tensor, ...]:
    """The place 0 holds `fill`, the others number what the float inputs hold."""
    flat, feeds, start = [torch.full((1,), fill, dtype=torch.float64)], {}, 1
    for name, x in zip(node.proto.input, inputs, strict=False):
        if x is None:
            continue
        if x.is_floating_point():
            feeds[name] = np.arange(start, start + x.numel(), dtype=np.float64).reshape(tuple(x.shape))
            flat.append(x.reshape(-1))
            start += x.numel()
        else:
            feeds[name] = x.numpy()
    try:
        outs = evaluate(node, feeds)
    except UnsupportedLayerError as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if x is not None)
        raise node.refused(f"on inputs of shapes {shapes}, which cannot be computed for any number of signals") from error
    places = [torch.from_numpy(np.ascontiguousarray(out)).long() for out in outs]
    moved = tuple(_taken(flat, place) for place in places)
    return moved if len(moved) > 1 else moved[0]


def _taken(flat: list[Tensor], places: Tensor) -> Tensor:
    """The numbers at `places` of the parts side by side, in the shape of `places`."""
    index = places.reshape(-1)
    if len(flat) == 2 and index.numel() and int(index.min()) > 0:  # one input, and no fill
        whole, index = flat[1], index - 1
        if torch.equal(index, torch.arange(whole.numel())):
            return whole.reshape(places.shape)
    else:
        whole = torch.cat(flat)
    return whole.index_select(0, index).reshape(places.shape)


@operator("Pad")
def pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """Pads with a value, edges, reflections, or from the other side; negative pads crop."""
    mode = node.word("mode", "constant")
    given = [axis % x.ndim for axis in integers(axes)] or list(range(x.ndim))
    widths = integers(pads) or list(node.get("pads", node.get("paddings", [])))
    if len(widths) != 2 * len(given):
        raise node.wrong(f"{2 * len(given)} pads", str(len(widths)))
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(given):
        before[axis], after[axis] = widths[place], widths[place + len(given)]
    if mode == "constant":
        pairs = zip(before[::-1], after[::-1], strict=True)
        fill = number(value, node.get("value", 0.0))
        return F.pad(x, [width for pair in pairs for width in pair], value=fill)
    indices = [_padded(*numbers, mode) for numbers in zip(x.shape, before, after, strict=True)]
    for axis, index in enumerate(indices):
        if index is None:
            raise node.refused(f"with mode {mode!r} and pads {widths} of a tensor of shape {tuple(x.shape)}")
        if not torch.equal(index, torch.arange(x.shape[axis])):
            x = x.index_select(axis, index)
    return x


def _padded(size: int, before: int, after: int, mode: str) -> Tensor | None:
    """Which entry of an axis each padded one is; None where the mode cannot."""
    index = torch.arange(-before, size + after)
    if mode == "edge":
        return index.clamp(0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "reflect" and (size > 1 or before <= 0 >= after):
        period = max(2 * (size - 1), 1)
        folded = index % period
        return torch.where(folded < size, folded, period - folded)
    return None


@operator("Identity", "Cast", "CastLike", "Dropout")
def same(node: Node, x: Tensor, *others: Tensor | None) -> Tensor:
    """What changes no number in float64."""
    if node.kind == "Dropout" and len(others) > 1 and others[1] is not None and bool(others[1]):
        raise node.wrong("dropout in inference mode", "training_mode=1", "export the model after .eval()")
    if node.kind == "Cast" and node.get("to", 1) not in (1, 10, 11, 16):  # float32, float16, float64, bfloat16
        raise node.refused("to a type that holds no fractions")
    if node.kind == "CastLike" and others[0] is not None and not others[0].is_floating_point():
        raise node.refused("to a type that holds no fractions")
    return x
