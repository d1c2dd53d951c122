"""Elementwise nodes of an ONNX graph that together are one activation, such as x * sigmoid(x), or GELU through Erf.

Exporters write an activation that the operator set lacks as several nodes on one signal. A group of nodes that takes one
value and scalar constants, and gives one value, is a function of one number: it is computed on a grid and compared with the
activations that there are. Where none agrees to the roundings of float32 constants, the nodes stay what they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..activations import GELU, AbstractActivation, Hardswish, LeakyReLU, Mish, ReLU, SiLU, Softplus, Softsign
from .onnx_graph import Fused, Graph, Run

_ELEMENTWISE = {
    "Abs", "Add", "Cast", "CastLike", "Clip", "Div", "Erf", "Exp", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Pow", "PRelu", "Reciprocal", "Relu",
    "Sigmoid", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where",
}  # fmt: skip
_KNOWN: tuple[AbstractActivation, ...] = (GELU(), GELU("tanh"), SiLU(), Mish(), Hardswish(), Softplus(), Softsign(), ReLU())
_GRID = torch.cat([torch.linspace(-8, 8, 161, dtype=torch.float64), torch.tensor([-30.0, 30.0, 0.0]).double()])
_RTOL = 1e-6  # constants of a file are float32; two activations differ by far more on the grid


def fused(graph: Graph, run: Run) -> Fused:
    """The groups of nodes of `graph` that are one activation; `run` is a plain run of it."""
    ends: dict[str, tuple[str, AbstractActivation]] = {}
    hidden: set[str] = set()
    users: dict[str, list[Any]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.input):
            users.setdefault(name, []).append(node)
    for start in run.signals:
        if start in hidden or (len(users.get(start, [])) < 2 and not _open(users.get(start, []))):
            continue
        for end, group in _groups(graph, run, users, start):
            if (activation := _activation(graph, run, start, end, group)) is not None:
                ends[end] = (start, activation)
                hidden |= {name for node in group for name in node.output} - {end}
                break
    return Fused(ends, frozenset(hidden))


def _open(users: list[Any]) -> bool:
    """Whether what comes next is no activation by itself."""
    return any(node.op_type in ("Exp", "Abs", "Erf", "Log", "Sqrt", "Neg") for node in users)


def _groups(graph: Graph, run: Run, users: Mapping[str, list[Any]], start: str) -> Iterator[tuple[str, list[Any]]]:
    """Ends and nodes of what is made of `start` alone, number by number, the furthest first."""
    inside, nodes = {start}, []
    for node in graph.nodes:
        signals = [name for name in node.input if name in run.signals]
        others = [name for name in node.input if name and name not in run.signals]
        scalar = all(np.size(run.constants[name]) == 1 for name in others)
        if node.op_type in _ELEMENTWISE and scalar and signals and inside.issuperset(signals):
            nodes.append(node)
            inside.update(node.output)
    for last in range(len(nodes), 1, -1):
        end, needed, group = nodes[last - 1].output[0], {nodes[last - 1].output[0]}, []
        for node in nodes[:last][::-1]:
            if needed.intersection(node.output):
                needed.update(node.input)
                group.append(node)
        between = {name for node in group for name in node.output} - {end}
        takers = {id(node) for node in group}
        closed = all(id(user) in takers for name in between for user in users.get(name, []))
        if len(group) > 1 and start in needed and closed and graph.output not in between:
            yield end, group[::-1]


def _activation(graph: Graph, run: Run, start: str, end: str, group: list[Any]) -> AbstractActivation | None:
    part = replace(graph, nodes=group, constants=run.constants, latent=start, output=end)
    values = part.run(_GRID, {}, Run())
    scale = 1 + values.abs()
    for known in (*_KNOWN, *_fitted(values)):
        if bool(((known(_GRID) - values).abs() <= _RTOL * scale).all()):
            return known
    return None


def _fitted(values: Tensor) -> Iterator[AbstractActivation]:
    """The LeakyReLU of the slope that the values have below 0, and the Softplus of their value at 0, log(2) / beta."""
    slope, middle = float(values[0] / _GRID[0]), float(values[-1])
    if 0 < slope < 1:
        yield LeakyReLU.of(float(str(np.float32(slope))))
    if 0 < middle < 100:  # 1 over a root is infinite there
        yield Softplus(float(str(np.float32(log(2) / middle))))
