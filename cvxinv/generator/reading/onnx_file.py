"""Reading an ONNX file: its graph, a chain from the latent to the output, is said in ops and folded into a generator.

What does not depend on the latent (weights, shapes, what is made of a label) is computed by onnx's own reference
evaluator; `onnx_nodes.py` says each node of the chain. The first axis counts signals: a size that an export froze
there is not a size of the generator. What was read is compared with onnxruntime where that is installed, and the
description says so either way.

Needs the extra `[onnx]`. Source of the operators: the ONNX operator specification, https://onnx.ai/onnx/operators.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import BackendNotInstalledError, CvxinvWarning, UnsupportedLayerError
from .. import ops
from ..chain import Generator
from ..folding import fold
from .agreement import check_agreement
from .labels import fixed_label, no_label
from .onnx_nodes import Signal, Step, evaluate

_OLDEST = 9  # the operator set since which batch norm and upsampling have their present form
_BATCH = 7  # signals where the file leaves their number open; no likely size of an axis
_CHECKS = 16
_RTOL = 1e-5  # onnxruntime computes in float32; a misread node is off by far more
_FLOATS = {1: np.float32, 11: np.float64}  # element types of the specification
_INTEGERS = {6: np.int32, 7: np.int64}


def read_onnx(path: Path, latent_dim: int | None = None, label: int | None = None) -> Generator:
    """The generator of an ONNX file, in float64 on the CPU; of a conditional one, that of `label`.

    Raises: BackendNotInstalledError without the package onnx; ValueError for a damaged file, for inputs that are not one
    latent (N, n0) or (N, channels, height, width) and at most one integer label, for a missing or wrong label, and where
    onnxruntime computes something else; UnsupportedLayerError, with node and operator, for what no op can say.
    """
    model = _load(path)
    nodes = _live(model.graph, path)
    inputs = _read_inputs(model.graph, nodes, path, latent_dim, label)
    generator = fold(_ops(model, nodes, inputs, path), inputs.shape)
    label_said = {} if inputs.label is None else {"label": inputs.label}
    check = _compare(generator, inputs, path)
    return replace(generator, description={"name": path.stem, **label_said, "conversion_check": check})


def _load(path: Path) -> Any:
    try:
        import onnx
        import onnx.inliner
    except ImportError as error:
        raise BackendNotInstalledError(
            f'expected the package onnx for {path}, which is not installed; pip install "cvxinv[onnx]"'
        ) from error
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise ValueError(
            f"expected an ONNX file, got {str(error).strip().splitlines()[0]} in {path}; the file is truncated, damaged or "
            "of another kind: export or fetch it again, with its external data if it has any"
        ) from error
    model = onnx.load(str(path))
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _live(graph: Any, path: Path) -> list[Any]:
    """The nodes that the one output depends on, in order."""
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output) or "none"
        raise UnsupportedLayerError(f"expected one output, the signal, got {names} in {path}; export the signal alone")
    needed, live = {graph.output[0].name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            live.append(node)
    return live[::-1]


@dataclass(frozen=True)
class _Inputs:
    """What the graph is called with: `shape` of one latent, and a label with the shape that the file gives it.

    `batch` is the number of signals that the file fixes, None where it is open.
    """

    latent: str
    latent_type: type
    shape: tuple[int, ...]
    batch: int | None
    label: int | None = None
    label_name: str = ""
    label_type: type = np.int64
    label_axes: int = 1

    def labels(self, N: int) -> np.ndarray:
        """The label for N signals."""
        shape = (N, *(1,) * (self.label_axes - 1)) if self.label_axes else ()
        return np.full(shape, self.label, self.label_type)


def _read_inputs(graph: Any, nodes: list[Any], path: Path, latent_dim: int | None, label: int | None) -> _Inputs:
    given = {tensor.name for tensor in graph.initializer}
    taken = {name for node in nodes for name in node.input}
    values = [value for value in graph.input if value.name not in given and value.name in taken]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    latents = [value for value in values if kinds[value.name] in _FLOATS]
    labels = [value for value in values if kinds[value.name] in _INTEGERS]
    if len(latents) != 1 or len(labels) > 1 or len(values) != 1 + len(labels):
        names = ", ".join(f"{name} (element type {kind})" for name, kind in kinds.items()) or "none"
        raise ValueError(
            f"expected one latent in float32 or float64 and at most one integer label as inputs of {path}, got {names}; "
            "export the generator so"
        )
    batch, shape = _latent_shape(latents[0], path, latent_dim)
    common = (latents[0].name, _FLOATS[kinds[latents[0].name]], shape, batch)
    if not labels:
        no_label(label)
        return _Inputs(*common)
    name = labels[0].name
    number = fixed_label(label, _classes(graph, nodes, name))
    axes = len(labels[0].type.tensor_type.shape.dim)
    return _Inputs(*common, number, name, _INTEGERS[kinds[name]], axes)


def _latent_shape(value: Any, path: Path, latent_dim: int | None) -> tuple[int | None, tuple[int, ...]]:
    """The number of signals, None where it is open, and the shape of one latent."""
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
    words = f"({', '.join('?' if size is None else str(size) for size in sizes)})"
    if len(sizes) not in (2, 4):
        raise ValueError(
            f"expected a latent of shape (N, n0) or (N, channels, height, width), got the input {value.name} of shape "
            f"{words} in {path}; export the generator so"
        )
    batch, *rest = sizes
    if None in rest and latent_dim is not None:
        rest = [latent_dim, *(1 for _ in rest[1:])]
    shape = tuple(size for size in rest if size is not None)
    if len(shape) < len(rest) or min(shape) < 1:
        raise ValueError(
            f"expected the size of the latent in {path}, got the input {value.name} of shape {words}; "
            "pass latent_dim=..., or export only the first axis as dynamic"
        )
    if latent_dim not in (None, int(np.prod(shape))):
        raise ValueError(f"expected latent_dim={np.prod(shape)} as {path} says, got {latent_dim}; leave latent_dim out")
    return (batch or None), shape


def _classes(graph: Any, nodes: list[Any], label: str) -> int | None:
    """How many rows the table has that the label chooses from, None where that does not stand in the file."""
    sizes = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    same = {node.output[0]: node.input[0] for node in nodes if node.op_type in ("Identity", "Cast")}
    labelled = {label, *(name for name, source in same.items() if source == label)}
    for node in nodes:
        if node.op_type == "Gather" and node.input[1] in labelled:
            return sizes.get(same.get(node.input[0], node.input[0]))
    return None


def _ops(model: Any, nodes: list[Any], inputs: _Inputs, path: Path) -> ops.Ops:
    from onnx import numpy_helper

    opset = _opset(model, path)
    batch = inputs.batch or _BATCH
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    if inputs.label is not None:
        constants[inputs.label_name] = inputs.labels(batch)
    said: list[tuple[ops.Place, ops.AbstractOp]] = []
    current = inputs.latent
    shapes = {current: inputs.shape}  # of everything that depends on the latent
    for number, node in enumerate(nodes):
        place = f"node {node.name or number} ({node.op_type}) of {path}"
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedLayerError(
                f"expected operators of the ONNX standard, got {place} of the domain {node.domain}; export without it"
            )
        signals = [name for name in node.input if name in shapes]
        if node.op_type == "Shape" and signals:
            constants[node.output[0]] = _shape(node, (batch, *shapes[signals[0]]))
        elif not signals:
            constants.update(zip(node.output, evaluate(node, constants, opset, place), strict=False))
        elif signals != [current]:
            raise UnsupportedLayerError(
                "expected a chain in which every node takes the node before, got a branch or skip connection at "
                f"{place}; invert a feed-forward part of the model"
            )
        else:
            step = Step(node, constants, Signal(current, shapes[current], batch, opset), place)
            step.read()
            said += ((ops.Place(place, "export the model again"), op) for op in step.ops)
            current = node.output[0]
            shapes[current] = step.shape
    if current != model.graph.output[0].name:
        raise UnsupportedLayerError(f"expected an output that depends on the latent, got a constant in {path}; export again")
    return said


def _opset(model: Any, path: Path) -> int:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST:
        raise ValueError(f"expected operator set {_OLDEST} or newer, got {opset} in {path}; export with opset_version=17")
    return opset


def _shape(node: Any, shape: tuple[int, ...]) -> np.ndarray:
    places = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[places.get("start", 0) : places.get("end", len(shape))], dtype=np.int64)


def _compare(generator: Generator, inputs: _Inputs, path: Path) -> str:
    """What the reading was compared with, in words. Raises: ValueError where the two differ."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError:
        return _not_compared(path, "onnxruntime is not installed; pip install onnxruntime")
    refusals = (
        states.Fail, states.InvalidArgument, states.InvalidGraph, states.NotImplemented, states.RuntimeException,
    )  # fmt: skip
    N = _CHECKS if inputs.batch is None else inputs.batch * max(1, _CHECKS // inputs.batch)
    z = torch.randn(N, *inputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    feeds: np.ndarray = z.numpy().astype(inputs.latent_type)
    try:
        expected = _run(onnxruntime, path, inputs, feeds)
    except refusals as error:
        return _not_compared(path, f"onnxruntime cannot run it ({str(error).splitlines()[0]})")
    got = generator(torch.from_numpy(feeds).double().flatten(1))
    source = f"onnxruntime {onnxruntime.__version__} to compute what was read from {path}"
    relative = check_agreement(expected, got, _RTOL, source=source, cure="please report it with the file")
    return f"compared with onnxruntime {onnxruntime.__version__}: relative difference {relative:.0e} on {N} random latents"


def _run(onnxruntime: Any, path: Path, inputs: _Inputs, feeds: np.ndarray) -> Tensor:
    """onnxruntime's signals `(N, d)` of the latents, in pieces of as many as the file fixes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it cannot run is said by the caller
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    piece = inputs.batch or len(feeds)
    named = {} if inputs.label is None else {inputs.label_name: inputs.labels(piece)}
    signals = [session.run(None, {inputs.latent: part, **named})[0] for part in np.split(feeds, len(feeds) // piece)]
    return torch.from_numpy(np.concatenate(signals)).double().reshape(len(feeds), -1)


def _not_compared(path: Path, why: str) -> str:
    text = f"not compared with onnxruntime: {why}"
    warnings.warn(f"{path} was {text}", CvxinvWarning, stacklevel=5)
    return text
