"""The inputs of an ONNX graph: which one is the latent, which one a class label, and which ones are fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .labels import fixed_label, no_label

_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}  # element types of the specification
_INTEGERS = {6: np.int32, 7: np.int64}


@dataclass(frozen=True)
class Inputs:
    """What the graph is called with: `shape` of one latent, a label with the shape that the file gives it, fixed arrays.

    `batch` is the number of signals that the file fixes, None where it is open. A fixed input comes with whether it is one
    signal's, to be repeated.
    """

    latent: str
    latent_type: type
    shape: tuple[int, ...]
    batch: int | None
    label: int | None = None
    label_name: str = ""
    label_type: type = np.int64
    label_axes: int = 1
    fixed: Mapping[str, tuple[np.ndarray, bool]] = field(default_factory=dict)

    def beside(self, N: int) -> dict[str, np.ndarray]:
        """All inputs but the latent, for N signals."""
        given = {name: np.repeat(array, N, axis=0) if each else array for name, (array, each) in self.fixed.items()}
        if self.label is not None:
            shape = (N, *(1,) * (self.label_axes - 1)) if self.label_axes else ()
            given[self.label_name] = np.full(shape, self.label, self.label_type)
        return given


def read_inputs(
    graph: Any,
    nodes: list[Any],
    path: Path,
    *,
    latent_dim: int | None,
    label: int | None,
    inputs: Mapping[str, object] | None,
) -> Inputs:
    """Who is who among the inputs that `nodes` need. Raises: ValueError, TypeError."""
    given = {tensor.name for tensor in graph.initializer}
    taken = {name for node in nodes for name in node.input}
    values = {value.name: value for value in graph.input if value.name in taken}
    fixed = _fixed(values, path, inputs)
    open_ones = [value for name, value in values.items() if name not in given and name not in fixed]
    kinds = {value.name: value.type.tensor_type.elem_type for value in open_ones}
    latents = [value for value in open_ones if kinds[value.name] in _FLOATS]
    labels = [value for value in open_ones if kinds[value.name] in _INTEGERS]
    if len(latents) != 1 or len(labels) > 1 or len(open_ones) != 1 + len(labels):
        names = ", ".join(f"{name} (element type {kind})" for name, kind in kinds.items()) or "none"
        example = [*(v.name for v in latents[1:]), *(v.name for v in labels), *kinds, "c"][0]
        cure = f'fix the others with inputs={{"{example}": array}}' if len(open_ones) > 1 else "export the generator so"
        raise ValueError(
            f"expected one latent in float16, float32 or float64 and at most one integer label as inputs of {path}, "
            f"got {names}; {cure}"
        )
    batch, shape = _latent_shape(latents[0], path, latent_dim)
    common = {"latent": latents[0].name, "latent_type": _FLOATS[kinds[latents[0].name]], "shape": shape, "batch": batch}
    if not labels:
        no_label(label)
        return Inputs(**common, fixed=fixed)
    name = labels[0].name
    number = fixed_label(label, _classes(graph, nodes, name))
    axes = len(_sizes(labels[0])) if labels[0].type.tensor_type.HasField("shape") else 1
    return Inputs(**common, label=number, label_name=name, label_type=_INTEGERS[kinds[name]], label_axes=axes, fixed=fixed)


def _sizes(value: Any) -> list[int | None]:
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]


def _fixed(values: Mapping[str, Any], path: Path, inputs: Mapping[str, object] | None) -> dict[str, tuple[np.ndarray, bool]]:
    """`inputs` in the types and shapes that the file gives them. Raises: ValueError, TypeError."""
    from onnx import helper

    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise TypeError(f'expected inputs as a dict, got {type(inputs).__name__}; pass for example inputs={{"c": array}}')
    fixed = {}
    for name, value in inputs.items():
        if name not in values:
            raise ValueError(
                f"expected inputs named as those of {path}, {', '.join(values) or 'none'}, got {name!r}; rename it"
            )
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.asarray(value)
        if array.dtype.kind not in "iufb":
            raise TypeError(f"expected numbers as inputs[{name!r}], got {array.dtype}; pass an array")
        wanted = values[name].type.tensor_type
        array = array.astype(helper.tensor_dtype_to_np_dtype(wanted.elem_type))
        fixed[name] = _laid(array, _sizes(values[name]), wanted.HasField("shape"), f"inputs[{name!r}] of {path}")
    if len(fixed) == len(values):
        raise ValueError(f"expected one input left for the latent, got inputs for all of {', '.join(values)}; leave one out")
    return fixed


def _laid(array: np.ndarray, sizes: list[int | None], stated: bool, words: str) -> tuple[np.ndarray, bool]:
    """An array as the file wants it, and whether it is one signal's, to be repeated."""
    if not stated:
        return array, array.ndim > 1 and array.shape[0] == 1
    each = array.ndim == len(sizes) - 1
    whole = array[None] if each else array
    fits = whole.ndim == len(sizes) and all(
        want in (None, 0, got) for got, want in zip(whole.shape[1:], sizes[1:], strict=True)
    )
    if not fits or (sizes and sizes[0] not in (None, 0, 1, *whole.shape[:1]) and len(whole) != 1):
        wanted = ", ".join("?" if size is None else str(size) for size in sizes)
        raise ValueError(
            f"expected {words} of shape ({wanted}), or without its first axis, got {array.shape}; pass one signal's numbers"
        )
    if sizes and sizes[0] != len(whole) and (whole == whole[:1]).all() and (whole.ndim > 1 or whole.dtype.kind != "f"):
        return whole[:1], True
    return whole, each


def _latent_shape(value: Any, path: Path, latent_dim: int | None) -> tuple[int | None, tuple[int, ...]]:
    """The number of signals, None where it is open, and the shape of one latent."""
    stated = value.type.tensor_type.HasField("shape")
    sizes: list[int | None] = _sizes(value) if stated else [None, None]
    words = f"({', '.join('?' if size is None else str(size) for size in sizes)})" if stated else "that is not stated"
    if len(sizes) < 2:
        raise ValueError(
            f"expected a latent with a first axis that counts signals, (N, n0) or (N, ...), got the input {value.name} "
            f"of shape {words} in {path}; export the generator so"
        )
    batch, rest = sizes[0], sizes[1:]
    if None in rest and latent_dim is not None:
        known = prod(size for size in rest if size is not None)
        filled = iter([latent_dim // known if latent_dim % known == 0 else latent_dim])
        rest = [*(next(filled, 1) if size is None else size for size in rest)]
    shape = tuple(size for size in rest if size is not None)
    if len(shape) < len(rest) or min(shape) < 1:
        raise ValueError(
            f"expected the size of the latent in {path}, got the input {value.name} of shape {words}; "
            "pass latent_dim=..., or export only the first axis as dynamic"
        )
    if latent_dim not in (None, prod(shape)):
        raise ValueError(f"expected latent_dim={prod(shape)} as {path} says, got {latent_dim}; leave latent_dim out")
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
