"""An ONNX graph run with torch, in float64: once plainly, and once followed and said in ops.

What does not depend on the latent (weights, shapes, what is made of a label) is computed by onnx's own reference evaluator,
in the types of the file; `onnx_operators` computes every other node with torch. Run under the recorder of `recorder.py` the
graph is read as a torch module is. Elementwise nodes that together are one activation are found by their values
(`onnx_scalars.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UnsupportedLayerError
from .. import ops
from ..activations import AbstractActivation
from .cells import MixedError, Signal
from .onnx_operators import OPERATORS
from .onnx_operators.node import Node, Plain, Saying, Whole, evaluate
from .recorder import Recorder
from .steps.call import CHAIN, OPAQUE, Call, Refusal, RefusedError

_SHAPES = ("Shape", "Size")
_RUN_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError)
PART = "export the part of the model without it, or load the torch module with opaque=True"
_STATISTICS = "which takes statistics of each signal, so that it is no fixed map"
_WHY = {
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization"), _STATISTICS),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization"), _STATISTICS),
    **dict.fromkeys(
        ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger"),
        "which rounds the signal to integers: the file is quantised",
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Loop", "Scan", "If"), "which is no chain of maps and activations"),
}
_CURES = {"which rounds the signal to integers: the file is quantised": "export the model before it is quantised"}


@dataclass(frozen=True, eq=False)
class Graph:
    """The nodes that the output depends on, in order, and the constants of the file."""

    nodes: list[Any]
    constants: Mapping[str, np.ndarray]
    latent: str
    output: str
    opset: int
    path: Path

    def place(self, number: int) -> str:
        """Where a node stands, in the user's words."""
        node = self.nodes[number]
        return f"node {node.name or number} ({node.op_type}) of {self.path}"

    def run(self, z: Tensor, given: Mapping[str, np.ndarray], runner: "Run") -> Tensor:
        """The output for latents `z`; `given` are the other inputs. Raises: UnsupportedLayerError, ValueError."""
        constants, signals = {**self.constants, **given}, {self.latent: z}
        for number, proto in enumerate(self.nodes):
            if any(name in runner.fused.hidden for name in proto.output):
                continue
            node = Node(proto, self.opset, self.place(number), runner)
            runner.enter(node)
            if (known := runner.fused.ends.get(proto.output[0])) is not None:
                signals[proto.output[0]] = runner.activated(signals[known[0]], known[1])
            elif not any(name in signals for name in proto.input):
                constants.update(
                    zip(proto.output, evaluate(node, {n: constants[n] for n in proto.input if n}), strict=False)
                )
            elif proto.op_type in _SHAPES:
                constants[proto.output[0]] = _sizes(node, tuple(signals[proto.input[0]].shape))
            else:
                signals.update(zip(proto.output, _computed(node, constants, signals), strict=False))
        runner.finish(constants, signals)
        if self.output not in signals:
            raise UnsupportedLayerError(
                f"expected an output that depends on the latent, got a constant in {self.path}; export the model again"
            )
        return signals[self.output]


def _sizes(node: Node, shape: tuple[int, ...]) -> np.ndarray:
    if node.kind == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    return np.array(shape[node.get("start", 0) : node.get("end", len(shape))], dtype=np.int64)


def _computed(node: Node, constants: Mapping[str, np.ndarray], signals: Mapping[str, Tensor]) -> Iterable[Tensor]:
    compute = OPERATORS.get(node.kind)
    if compute is None or node.proto.domain not in ("", "ai.onnx"):
        raise _unknown(node)
    inputs = [_input(node, place, name, constants, signals) for place, name in enumerate(node.proto.input)]
    try:
        out = compute(node, *inputs)
    except UnsupportedLayerError:
        raise
    except _RUN_ERRORS as error:
        if str(error).startswith("expected "):
            raise
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if x is not None)
        raise node.wrong("inputs that fit each other", f"shapes {shapes} ({str(error).strip().splitlines()[0]})") from error
    return out if isinstance(out, tuple) else (out,)


def _input(
    node: Node, place: int, name: str, constants: Mapping[str, np.ndarray], signals: Mapping[str, Tensor]
) -> Tensor | None:
    """A signal, or a constant: floats in float64, finite ones unless they are ends of a clip."""
    if name == "" or name in signals:
        return signals.get(name)
    array = np.asarray(constants[name])
    if array.dtype.kind in "iub":
        return torch.from_numpy(np.array(array))
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise node.wrong(f"input {place} of numbers", str(array.dtype), "export the model after .float()")
    array = np.array(array, dtype=np.float64, order="C")
    if np.isnan(array).any() or (node.kind not in ("Clip", "Max", "Min") and not np.isfinite(array).all()):
        raise node.wrong(f"finite numbers in input {place}", "NaN or infinite ones", "train and export the model again")
    return torch.from_numpy(array)


def _unknown(node: Node) -> UnsupportedLayerError:
    if node.proto.domain not in ("", "ai.onnx"):
        return UnsupportedLayerError(
            f"expected operators of the ONNX standard, got {node.place} of the domain {node.proto.domain}; "
            "export without it (such domains come from optimisers: read the file from before)"
        )
    why = _WHY.get(node.kind, f"which no map or activation can say; supported are {', '.join(sorted(OPERATORS))}")
    return node.refused(why, _CURES.get(why, PART))


# --- who runs it ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fused:
    """Elementwise nodes that are one activation: what it ends in, of which value; `hidden` are the values between."""

    ends: Mapping[str, tuple[str, AbstractActivation]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()


class Run(Plain):
    """Runs nodes plainly, and keeps what they gave."""

    def __init__(self, fused: Fused = Fused()) -> None:
        self.fused = fused
        self.constants: Mapping[str, np.ndarray] = {}
        self.signals: Mapping[str, Tensor] = {}

    def enter(self, node: Node) -> None:
        """A node is about to run."""

    def activated(self, x: Tensor, activation: AbstractActivation) -> Tensor:
        """An activation that nodes make together."""
        return activation(x)

    def finish(self, constants: Mapping[str, np.ndarray], signals: Mapping[str, Tensor]) -> None:
        """All nodes have run."""
        self.constants, self.signals = constants, signals


class Reading(Recorder, Run):
    """Runs nodes on `N` latents of `shape` and says them."""

    def __init__(self, N: int, shape: ops.Shape, fused: Fused):
        Recorder.__init__(self, {}, "forward", N, shape)
        self.node, self.fused, self.aside = "", fused, False

    def enter(self, node: Node) -> None:
        self.node = node.place

    def place(self) -> str:
        """The node, whatever torch computes for it."""
        return self.node

    def activated(self, x: Tensor, activation: AbstractActivation) -> Tensor:
        return self._whole(x, activation, lambda call: call.everywhere(x, ops.Activation(activation)))

    def whole(self, x: Tensor, compute: Whole, say: Saying) -> Tensor:
        def saying(call: Call) -> None:
            signal = call.read(x, plain=True)
            call.finish(signal, say(signal.shape))

        return self._whole(x, compute, saying)

    def _whole(self, x: Tensor, compute: Whole, saying: Any) -> Tensor:
        """`compute` of x, said by `saying` and not by its parts."""
        self.muted += 1
        try:
            out = compute(x)
        finally:
            self.muted -= 1
        call = Call(self.book, "", compute, (x,), {}, self.node, [x], out)
        self.aside = True
        try:
            if self.book.look(x) is None:
                raise RefusedError("with weights that depend on the latent")
            saying(call)
        except MixedError as error:
            call.refuse(Refusal(f"{self.node} {error}"))
        except RefusedError as error:
            call.refuse(Refusal(f"{self.node} {error}".strip(), **error.others))
        finally:
            self.aside = False
        return out

    def operation(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """What is computed to say a step is no step."""
        return func(*args, **kwargs) if self.aside else super().operation(func, args, kwargs)

    def signal(self, out: Tensor) -> Signal:
        """The output as one signal per latent. Raises: UnsupportedLayerError for what is no chain."""
        found = self.book.look(out)
        assert found is not None
        refused = next((point.refused for point in found[0].chain() if point.refused is not None), None)
        if refused is not None:
            raise _in_words(refused).error()
        try:
            return self.book.signal(out)
        except MixedError as error:
            raise UnsupportedLayerError(
                f"expected an output whose first axis counts the latents, got an output {error}; export the signal alone"
            ) from error

    def said(self, signal: Signal) -> list[tuple[str, ops.AbstractOp]]:
        """The steps from the latent to a signal, each with its place."""
        steps = [step for point in signal.point.chain() for step in point.steps]
        return [*steps, *(("the output", step) for step in signal.steps())]


def _in_words(refused: Any) -> Any:
    """A refusal of a step of torch as one of a node, with cures for files."""
    cure = refused.cure.replace(OPAQUE, PART)
    expected = "a chain in which every node takes the node before" if refused.expected == CHAIN else refused.expected
    return replace(refused, cure=cure, expected=expected.replace("a step that", "a node that"))
