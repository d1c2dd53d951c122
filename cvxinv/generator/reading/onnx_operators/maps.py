"""Nodes that are linear maps with weights: products with matrices, convolutions, batch norms, means and sums."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .node import Node, integers, operator

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@operator("Gemm")
def gemm(node: Node, A: Tensor, B: Tensor, C: Tensor | None = None) -> Tensor:
    """alpha A B + beta C, each of A and B transposed where the node says so."""
    A = A.t() if node.get("transA", 0) else A
    B = B.t() if node.get("transB", 0) else B
    out = torch.matmul(A, B)
    if (alpha := node.get("alpha", 1.0)) != 1:
        out = out * alpha
    return out if C is None else out + node.get("beta", 1.0) * C


@operator("MatMul")
def matmul(node: Node, A: Tensor, B: Tensor) -> Tensor:
    """A B, over the last two axes."""
    return torch.matmul(A, B)


@operator("Conv")
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution over one to three axes."""
    axes = _axes(node, weight)
    strides, dilations = _each(node, "strides", axes), _each(node, "dilations", axes)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    # "same": as many outputs as strides fit into the input
    places = zip(x.shape[2:], strides, reach, strict=True)
    needed = [max(0, (-(-size // s) - 1) * s + k - size) for size, s, k in places]
    before, after = pads_of(node, needed, axes)
    if before != after:
        x, before = padded(x, before, after), [0] * axes
    return _CONVOLUTIONS[axes - 1](x, weight, bias, strides, before, dilations, node.get("group", 1))


@operator("ConvTranspose")
def transposed(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A transposed convolution over one to three axes; pads crop what it gives, negative ones put zeros beside it."""
    axes = _axes(node, weight)
    strides, dilations, extra = (_each(node, name, axes) for name in ("strides", "dilations", "output_padding"))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    full = [(n - 1) * s + k + e for n, s, k, e in zip(x.shape[2:], strides, reach, extra, strict=True)]
    asked = list(node.get("output_shape", []))[-axes:]
    same = asked or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    before, after = pads_of(node, [f - o for f, o in zip(full, same, strict=True)], axes, asked=asked != [])
    direct = (
        before == after
        and min(before) >= 0
        and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    )
    crop, more = (before, extra) if direct else ([0] * axes, [0] * axes)
    out = _TRANSPOSED[axes - 1](x, weight, None, strides, crop, more, node.get("group", 1), dilations)
    if not direct:
        out = padded(out, [-n for n in before], [e - n for e, n in zip(extra, after, strict=True)])
    # behind the crop: where nothing reaches, the bias alone stands
    return out if bias is None else out + bias.reshape(-1, *(1 for _ in range(axes)))


def _axes(node: Node, weight: Tensor) -> int:
    axes = weight.ndim - 2
    if axes not in (1, 2, 3):
        raise node.refused(f"with a weight of shape {tuple(weight.shape)}, only one to three axes can be read")
    return axes


def _each(node: Node, name: str, axes: int) -> list[int]:
    """An attribute that holds one integer per axis."""
    values = list(node.get(name, [0 if name == "output_padding" else 1] * axes))
    if len(values) != axes:
        raise node.wrong(f"{name} for {axes} axes", str(values))
    return values


def pads_of(node: Node, needed: list[int], axes: int, asked: bool = False) -> tuple[list[int], list[int]]:
    """Pads before and after each axis, given or chosen automatically so that they sum to `needed`."""
    automatic = node.word("auto_pad", "NOTSET")
    if automatic == "VALID" and not asked:
        return [0] * axes, [0] * axes
    if automatic in ("", "NOTSET") and not asked:
        pads = list(node.get("pads", [0] * 2 * axes))
        if len(pads) != 2 * axes:
            raise node.wrong(f"pads for {axes} axes", str(pads))
        return pads[:axes], pads[axes:]
    smaller, larger = [n // 2 for n in needed], [n - n // 2 for n in needed]
    return (smaller, larger) if automatic == "SAME_UPPER" else (larger, smaller)


def padded(x: Tensor, before: list[int], after: list[int]) -> Tensor:
    """Zeros beside the axes behind the channels; negative numbers crop."""
    pairs = zip(before[::-1], after[::-1], strict=True)
    return F.pad(x, [width for pair in pairs for width in pair])


@operator("BatchNormalization")
def batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Running statistics, and a scale and a shift, of each channel."""
    if node.get("training_mode", 0):
        raise node.wrong("a batch norm in inference mode", "training_mode=1", "export the model after .eval()")
    if x.ndim == 1:
        raise node.refused("on a signal without channels")
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=node.get("epsilon", 1e-5))


@operator("ReduceMean", "ReduceSum")
def reduced(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Means or sums over axes."""
    over = integers(axes) or list(node.get("axes", []))
    if not over and node.get("noop_with_empty_axes", 0):
        return x
    function = torch.mean if node.kind == "ReduceMean" else torch.sum
    return function(x, over or list(range(x.ndim)), keepdim=bool(node.get("keepdims", 1)))


@operator("CumSum")
def cumulated(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """Sums of all entries before, and of this one."""
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise node.refused("that is exclusive or reversed")
    return torch.cumsum(x, int(axis))


@operator("Einsum")
def einsum(node: Node, *operands: Tensor) -> Tensor:
    """Sums of products."""
    return torch.einsum(node.word("equation", ""), *operands)
