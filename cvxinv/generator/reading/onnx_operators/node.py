"""One node of an ONNX graph, and the registry of the functions that compute nodes with torch.

A function is registered by the names of its operators; it takes the node and its inputs, None for one that is left out, and
gives the node's outputs. Attributes, defaults and formulas are those of the operator specification,
https://onnx.ai/onnx/operators, in the operator sets from 9 on; what onnxruntime computes decides where the two differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from ....errors import UnsupportedLayerError
from ... import ops

_EVALUATION_ERRORS = (
    NotImplementedError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError,
)  # fmt: skip

Whole = Callable[[Tensor], Tensor]
Saying = Callable[[ops.Shape], list[ops.AbstractOp]]


class Plain:
    """Computes, and says nothing."""

    def whole(self, x: Tensor, compute: Whole, say: Saying) -> Tensor:
        """`compute` of `x`; a reader takes it for what `say` says of a signal's shape."""
        return compute(x)


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the graph in `place`, of operator set `opset`; `runner` is who runs it."""

    proto: Any
    opset: int
    place: str
    runner: Any

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What the node says of itself."""
        from onnx import helper

        return {a.name: helper.get_attribute_value(a) for a in self.proto.attribute}

    @property
    def kind(self) -> str:
        """Its operator."""
        return self.proto.op_type

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def word(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refused(self, what: str, cure: str = "export the generator without it, or a part of it") -> UnsupportedLayerError:
        """The error for a node that cannot be read; `what` continues the sentence behind its place."""
        return UnsupportedLayerError(f"expected a node that can be read, got {self.place} {what}; {cure}")

    def wrong(self, expected: str, got: str, cure: str = "export the model again") -> ValueError:
        """The error for a node that is not as it must be."""
        return ValueError(f"expected {expected} at {self.place}, got {got}; {cure}")


Compute = Callable[..., Any]
OPERATORS: dict[str, Compute] = {}


def operator(*names: str) -> Callable[[Compute], Compute]:
    """A function that computes the operators of these names."""

    def join(function: Compute) -> Compute:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return join


def evaluate(node: Node, feeds: dict[str, np.ndarray]) -> list[Any]:
    """What the node makes of `feeds`, by onnx's reference evaluator. Raises: UnsupportedLayerError."""
    from onnx.reference import ReferenceEvaluator

    axes = node.get("axes", [])
    if node.kind == "Unsqueeze" and axes:  # onnx 1.23 fails on axes as an attribute, as before operator set 13
        return [np.expand_dims(feeds[node.proto.input[0]], list(axes))]
    try:
        return list(ReferenceEvaluator(node.proto, opsets={"": node.opset}).run(None, feeds))
    except _EVALUATION_ERRORS as error:
        raise UnsupportedLayerError(
            f"expected constants that onnx's reference evaluator computes, got {type(error).__name__}: {error} at "
            f"{node.place}; export with constant folding, or simplify the graph"
        ) from error


def integers(values: Tensor | None) -> list[int]:
    """An input of integers, the empty list for one that is left out."""
    return [] if values is None else [int(number) for number in values.reshape(-1).tolist()]


def number(values: Tensor | None, default: float) -> float:
    """An input of one number."""
    return default if values is None or values.numel() == 0 else float(values.reshape(-1)[0])


def as_array(t: Tensor) -> np.ndarray:
    """The numbers of a tensor that does not depend on the latent."""
    return t.detach().numpy()
