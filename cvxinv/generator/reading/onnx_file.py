"""Reading an ONNX file: its graph, a chain from the latent to the output, is run, said in ops and folded into a generator.

The first axis counts signals: a size that an export froze there is not a size of the generator. What was read is compared
with the graph run in float64, and with onnxruntime where that is installed; the description says so either way.

Needs the extra `[onnx]`. Source of the operators: the ONNX operator specification, https://onnx.ai/onnx/operators.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
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
from .cells import Lay
from .onnx_graph import PART, Fused, Graph, Reading, Run
from .onnx_inputs import Inputs, read_inputs
from .onnx_scalars import fused

_OLDEST = 9  # the operator set since which batch norm and upsampling have their present form
_PROBES = (3, 1, 2, 4, 8, 16, 32, 64)  # signals where the file leaves their number open; some exports freeze one inside
_CHECKS = 16
_EXACT = 1e-10  # float64 roundings of a deep chain stay below 1e-12; a misread node does not
# onnxruntime computes in the types of the file; a misread node is off by far more
_RTOLS: dict[type, float] = {np.float16: 2e-2, np.float32: 1e-5, np.float64: 1e-5}


def read_onnx(
    path: Path, latent_dim: int | None = None, label: int | None = None, inputs: Mapping[str, object] | None = None
) -> Generator:
    """The generator of an ONNX file, in float64 on the CPU; of a conditional one, that of `label`.

    `inputs` fixes inputs by their names: one signal's array, which is the same for all.

    Raises: BackendNotInstalledError without the package onnx; ValueError for a damaged file, for inputs that are not one
    latent (N, ...) and at most one integer label, for a missing or wrong label, and where
    onnxruntime computes something else; UnsupportedLayerError, with node and operator, for what no op can say.
    """
    model = _load(path)
    graph, given = _graph(model, path, latent_dim, label, inputs)
    reading, lay, steps = _read(graph, given)
    try:
        generator = fold([(ops.Place(words, PART), op) for words, op in steps], reading.shape)
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(f"{error}, or {PART} (the file is {path})") from error
    if reading.book.N != _PROBES[0]:
        given = replace(given, batch=reading.book.N)
    z = _latents(given)
    expected = _by_signal(graph, given, z, reading.fused, lay)
    source = f"the nodes of {path} to compute what was read from them"
    check_agreement(expected, generator(z.flatten(1)), _EXACT, source=source, cure="please report it with the file")
    label_said = {} if given.label is None else {"label": given.label}
    check = _compare(generator, given, path, lay)
    return replace(generator, description={"name": path.stem, **label_said, "conversion_check": check})


# --- the file -------------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    try:
        import onnx
        import onnx.inliner
    except ImportError as error:
        raise BackendNotInstalledError(
            f"expected the package onnx for {path}, which is not installed; pip install onnx"
        ) from error
    try:
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path))
    except onnx.checker.ValidationError as error:
        if "Field 'shape'" not in str(error):
            raise _damaged(error, path) from error
        model = onnx.load(str(path))
        _check_but_shapes(onnx, model, path)
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _damaged(error: Exception, path: Path) -> ValueError:
    return ValueError(
        f"expected an ONNX file, got {_first_line(error)} in {path}; the file is truncated, damaged or "
        "of another kind: export or fetch it again, with its external data if it has any"
    )


def _check_but_shapes(onnx: Any, model: Any, path: Path) -> None:
    """The check asks for shapes of inputs and outputs, which nobody needs: here it is given some. Raises: ValueError."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(copy)
    except onnx.checker.ValidationError as error:
        raise _damaged(error, path) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _graph(
    model: Any, path: Path, latent_dim: int | None, label: int | None, inputs: Mapping[str, object] | None
) -> tuple[Graph, Inputs]:
    from onnx import numpy_helper

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST:
        raise ValueError(f"expected operator set {_OLDEST} or newer, got {opset} in {path}; export with opset_version=17")
    nodes = _live(model.graph, path)
    given = read_inputs(model.graph, nodes, path, latent_dim=latent_dim, label=label, inputs=inputs)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return Graph(nodes, constants, given.latent, model.graph.output[0].name, opset, path), given


def _live(graph: Any, path: Path) -> list[Any]:
    """The nodes that the one output depends on, in order."""
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output) or "none"
        raise UnsupportedLayerError(
            f"expected one output, the signal, got {names} in {path}; cut the signal out with "
            "onnx.utils.extract_model(source, target, [latent], [signal])"
        )
    needed, live = {graph.output[0].name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            live.append(node)
    return live[::-1]


# --- reading --------------------------------------------------------------------------------------


def _read(graph: Graph, inputs: Inputs) -> tuple[Reading, Lay, list[tuple[str, ops.AbstractOp]]]:
    """Run the graph plainly, and once more followed."""
    plain, N = _plain(graph, inputs)
    reading = Reading(N, inputs.shape, fused(graph, plain))
    z = reading.latents(torch.randn(N, *inputs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    signal = reading.signal(reading.run(lambda: graph.run(z, inputs.beside(N), reading)))
    return reading, signal.lay, reading.said(signal)


def _plain(graph: Graph, inputs: Inputs) -> tuple[Run, int]:
    """A plain run, and for how many signals: the first number that goes through."""
    failure: Exception | None = None
    for N in (inputs.batch,) if inputs.batch else _PROBES:
        run = Run()
        try:
            with torch.no_grad():
                graph.run(torch.zeros(N, *inputs.shape, dtype=torch.float64), inputs.beside(N), run)
        except (ValueError, UnsupportedLayerError) as error:
            failure = failure or error
            continue
        return run, N
    assert failure is not None
    raise failure


def _latents(inputs: Inputs) -> Tensor:
    N = _CHECKS if inputs.batch is None else inputs.batch * max(1, _CHECKS // inputs.batch)
    z = torch.randn(N, *inputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.from_numpy(z.numpy().astype(inputs.latent_type)).double()


def _by_signal(graph: Graph, inputs: Inputs, z: Tensor, known: Fused, lay: Lay) -> Tensor:
    """The graph's signals `(N, d)` in float64."""
    piece = inputs.batch or len(z)
    with torch.no_grad():
        return torch.cat([_flat(graph.run(part, inputs.beside(piece), Run(known)), lay) for part in z.split(piece)])


def _flat(out: Tensor, lay: Lay) -> Tensor:
    """Signals `(N, d)` of an output in which `lay` counts them."""
    N = out.shape[lay.axis] // lay.inner
    return lay.with_count(N)(out).reshape(N, -1)


# --- the comparison -------------------------------------------------------------------------------


def _compare(generator: Generator, inputs: Inputs, path: Path, lay: Lay) -> str:
    """What the reading was compared with, in words. Raises: ValueError where the two differ."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError:
        return _not_compared(path, "onnxruntime is not installed; pip install onnxruntime")
    refusals = (
        states.Fail, states.InvalidArgument, states.InvalidGraph, states.NotImplemented, states.RuntimeException,
    )  # fmt: skip
    z = _latents(inputs)
    try:
        expected = _run(onnxruntime, path, inputs, z, lay)
    except refusals as error:
        return _not_compared(path, f"onnxruntime cannot run it ({_first_line(error)})")
    source = f"onnxruntime {onnxruntime.__version__} to compute what was read from {path}"
    allowed, cure = _RTOLS[inputs.latent_type], "please report it with the file"
    relative = check_agreement(expected, generator(z.flatten(1)), allowed, source=source, cure=cure)
    return (
        f"compared with onnxruntime {onnxruntime.__version__}: relative difference {relative:.0e} on {len(z)} random latents"
    )


def _run(onnxruntime: Any, path: Path, inputs: Inputs, z: Tensor, lay: Lay) -> Tensor:
    """onnxruntime's signals `(N, d)` of the latents, in pieces of as many as the file fixes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it cannot run is said by the caller
    # the nodes as they are: with quantised weights it would round the signal for speed
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    piece = inputs.batch or len(z)
    parts = (part.numpy().astype(inputs.latent_type) for part in z.split(piece))
    signals = [session.run(None, {inputs.latent: part, **inputs.beside(piece)})[0] for part in parts]
    return torch.cat([_flat(torch.from_numpy(signal).double(), lay) for signal in signals])


def _not_compared(path: Path, why: str) -> str:
    text = f"not compared with onnxruntime: {why}"
    warnings.warn(f"{path} was {text}", CvxinvWarning, stacklevel=5)
    return text
