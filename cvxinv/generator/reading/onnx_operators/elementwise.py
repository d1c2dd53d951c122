"""Nodes that take each number alone: arithmetic with constants, activations; and softmax."""

from collections.abc import Callable
from functools import reduce
from math import inf, prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import ops
from .node import Node, number, operator

_LARGE = 3e38  # some exports write "no upper end" as the largest float32

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Erf": torch.erf, "Exp": torch.exp, "HardSwish": F.hardswish, "Log": torch.log, "Mish": F.mish,
    "Neg": torch.neg, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Sin": torch.sin,
    "Cos": torch.cos, "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tanh": torch.tanh,
}  # fmt: skip


@operator(*_PLAIN)
def plain(node: Node, x: Tensor) -> Tensor:
    """Functions without a number."""
    return _PLAIN[node.kind](x)


_COMPARED: dict[str, Callable[[Any, Any], Tensor]] = {
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
}  # fmt: skip


@operator(*_COMPARED)
def compared(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Which is larger: a part of activations that are written in several nodes."""
    return _COMPARED[node.kind](a, b)


@operator("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The one or the other."""
    return torch.where(condition.bool(), a, b)


@operator("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    """log(1 + exp(u)); above 50 it is u in float64."""
    return F.softplus(x, 1.0, 50.0)


_TWO: dict[str, Callable[[Any, Any], Tensor]] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}


@operator(*_TWO)
def two(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Arithmetic."""
    return _TWO[node.kind](a, b)


@operator("Sum")
def summed(node: Node, *terms: Tensor) -> Tensor:
    """The sum of all inputs."""
    return reduce(torch.add, terms)


@operator("Mean")
def mean(node: Node, *terms: Tensor) -> Tensor:
    """The mean of all inputs."""
    return reduce(torch.add, terms) / len(terms)


@operator("Pow")
def power(node: Node, x: Tensor, exponent: Tensor) -> Tensor:
    """A power, of one exponent."""
    if exponent.numel() == 1:
        return torch.pow(x, float(exponent.reshape(())))
    return torch.pow(x, exponent)


@operator("Max", "Min")
def extreme(node: Node, *terms: Tensor) -> Tensor:
    """The largest or the smallest of all inputs."""
    return reduce(torch.maximum if node.kind == "Max" else torch.minimum, terms)


@operator("Clip")
def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Cut at both ends, or one."""
    ends = number(low, node.get("min", -inf)), number(high, node.get("max", inf))
    first, last = (None if abs(end) >= _LARGE else as_written(end) for end in ends)
    if first is not None and last is not None and first > last:
        raise node.wrong("a lower end below the upper one", f"[{first}, {last}]")
    return x if first is None and last is None else torch.clamp(x, first, last)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    """A slope below 0."""
    return _one_slope(node, x, as_written(node.get("alpha", 0.01)))


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """A slope below 0 for each number, as it broadcasts."""
    if slope.numel() == 1:
        return _one_slope(node, x, as_written(float(slope.reshape(()))))
    if slope.ndim == x.ndim and slope.shape[0] != 1 and not torch.equal(slope, slope[:1].expand_as(slope)):
        raise node.refused("with slopes that are not the same for every signal")
    return _slopes(node, x, slope[0] if slope.ndim == x.ndim else slope)


def _one_slope(node: Node, x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x, slope) if 0 <= slope < 1 else _slopes(node, x, torch.full((1,), slope, dtype=torch.float64))


def _slopes(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return node.runner.whole(x, lambda u: torch.where(u > 0, u, slope * u), lambda shape: _leaks(slope, shape))


def _leaks(slope: Tensor, shape: ops.Shape) -> list[ops.AbstractOp]:
    each = slope.broadcast_to(shape)
    channels = ops.per_channel(each, shape[0])
    return [ops.LeakyUnits(slopes=each.reshape(-1).clone() if channels is None else channels.clone())]


@operator("ThresholdedRelu")
def thresholded(node: Node, x: Tensor) -> Tensor:
    """u where it is above alpha, else 0: a ReLU for alpha = 0."""
    alpha = node.get("alpha", 1.0)
    if alpha != 0:
        raise node.refused(f"with alpha {alpha}, a jump")
    return torch.relu(x)


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    """alpha (exp(u) - 1) below 0."""
    return F.elu(x, as_written(node.get("alpha", 1.0)))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    """alpha (exp(u / alpha) - 1) below 0."""
    return F.celu(x, as_written(node.get("alpha", 1.0)))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    """gamma u, and gamma alpha (exp(u) - 1) below 0; with the usual numbers torch's own."""
    alpha, gamma = node.get("alpha", 1.6732631921768188), node.get("gamma", 1.0507010221481323)
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return F.selu(x)
    return gamma * F.elu(x, as_written(alpha))


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    """u Phi(u), exact or by tanh."""
    return F.gelu(x, approximate=node.word("approximate", "none"))


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    """u sigmoid(alpha u)."""
    alpha = node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1 else F.silu(alpha * x) / alpha


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """alpha u + beta between 0 and 1; torch's own for 1/6 and 1/2."""
    alpha, beta = as_written(node.get("alpha", 0.2)), as_written(node.get("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("Softmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Over one axis; before operator set 13 over all axes from one on."""
    if node.opset >= 13:
        return torch.softmax(x, node.get("axis", -1))
    axis = node.get("axis", 1) % x.ndim
    if prod(x.shape[axis + 1 :]) == 1:
        return torch.softmax(x, axis)
    return torch.softmax(x.reshape(*x.shape[:axis], -1), -1).reshape(x.shape)


def as_written(value: float) -> float:
    """A file holds a float32, which prints as the number that was meant: 0.2, not 0.20000000298."""
    return float(str(np.float32(value))) if float(np.float32(value)) == value else float(value)
