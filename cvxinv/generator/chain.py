"""Generators: chains of linear maps, biases and activations, with values, Jacobians and samples.

A `Generator` holds what an inversion needs and nothing else: batch norms are folded, dropout is gone, signals
are flat. `load_generator` (reading.py) makes one from a torch module or a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from math import inf, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inputs import describe, read_device, read_dtype, weights
from .abstract import AbstractGenerator
from .activations import AbstractActivation, Coupled, as_activation, check_facts
from .maps import AbstractMap, Composition, check_map
from .piece import Piece


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer, `activation(W h + b)`; `b` has shape `(m,)`, one number per output, also behind a convolution.

    notes: what was folded into it when it was read, in words.
    """

    W: AbstractMap
    b: Tensor
    activation: AbstractActivation
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.W, AbstractMap):
            raise TypeError(f"expected W as a map, got {describe(self.W)}; wrap a matrix in cvxinv.Dense(...)")
        check_map(self.W, "W")
        object.__setattr__(self, "b", weights(self.b, "b"))
        if not isinstance(self.activation, AbstractActivation):
            raise TypeError(f"expected an activation, got {describe(self.activation)}; pass e.g. cvxinv.ReLU()")
        check_facts(self.activation, "an activation")


@dataclass(frozen=True, eq=False)
class Generator(AbstractGenerator):
    """A chain of layers from latents `(N, n0)` to flat signals `(N, d)`.

    `signal_shape` is the shape of one signal, for pictures; `description` is what the file said about the
    generator (name, latent distribution, output range, source), the label that was folded in, and for an ONNX file what
    the reading was compared with; it is empty for a plain module.
    """

    layers: tuple[Layer, ...] = field()
    signal_shape: tuple[int, ...]
    description: dict = field()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "signal_shape", tuple(self.signal_shape))
        if not self.layers:
            raise ValueError("expected at least one layer, got none; pass layers=(Layer(W, b, activation), ...)")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"expected layers[{index}] as a Layer, got {describe(layer)}; pass Layer(W, b, activation)")
            _check_layer(index, layer, self.dtype, self.device)
        _check_chain(self.layers)
        if prod(self.signal_shape) != self.signal_dim:
            raise ValueError(
                f"expected a signal_shape of {self.signal_dim} numbers, got {self.signal_shape}; "
                f"pass ({self.signal_dim},) or a picture shape of that size"
            )

    @cached_property
    def latent_dim(self) -> int:  # type: ignore[override]
        """n0, the number of latent coordinates."""
        return self.layers[0].W.n

    @cached_property
    def signal_dim(self) -> int:
        """d, the number of entries of a signal."""
        return self.layers[-1].W.m

    @property
    def named(self) -> str:
        return str(self.description.get("name", "a module"))

    @cached_property
    def output(self) -> AbstractActivation:  # type: ignore[override]
        """The last activation."""
        return self.layers[-1].activation

    @cached_property
    def first_curved(self) -> int | None:
        hidden = enumerate(self.layers[:-1])
        return next((index for index, layer in hidden if not layer.activation.kinked), None)

    @cached_property
    def work(self) -> int:
        return sum(layer.W.work for layer in self.layers)

    @cached_property
    def widest(self) -> int:
        return max([layer.W.m for layer in self.layers])

    @cached_property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Floating type of weights, latents and signals."""
        return self.layers[0].W.dtype

    @cached_property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the weights are."""
        return self.layers[0].W.device

    def __call__(self, z: Any) -> Any:
        return self._of_array(z) if isinstance(z, np.ndarray) else self.output(self.preactivations(z)[-1])

    def values(self, z: Tensor) -> Tensor:
        return self(z)

    def hidden(self, z: Tensor) -> list[Tensor]:
        pairs = zip(self.layers[:-1], self.preactivations(z)[:-1], strict=True)
        return [layer.activation(u) for layer, u in pairs]

    def passed(self, z: Tensor) -> list[Tensor]:
        return [layer.activation(u) for layer, u in zip(self.layers, self.preactivations(z), strict=True)]

    def before_output(self, z: Tensor) -> Tensor:
        return self.preactivations(z)[-1]

    def preactivations(self, z: Tensor) -> list[Tensor]:
        """`W h + b` of every layer, the last included, `(N, m)` each."""
        h, values = self._batch(z), []
        for layer in self.layers:
            u = layer.W(h) + layer.b  # (N, m)
            values.append(u if z.ndim == 2 else u[0])
            h = layer.activation(u)
        return values

    def pull(self, z: Tensor, r: Tensor) -> Tensor:
        return self.piece(z)[1].pull(r[:, None])[:, 0]

    def push(self, z: Tensor, v: Tensor) -> Tensor:
        return self.piece(z)[1].push(v[:, None])[:, 0]

    def piece(self, z: Tensor, before_output: bool = False) -> tuple[Tensor, Piece]:
        """Signals `(N, d)`, as `linearize` gives them, and the affine pieces of z, to multiply by their Jacobians."""
        h, slopes, last = self._batch(z), list[Tensor | Coupled | None](), len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            u, phi = layer.W(h) + layer.b, layer.activation  # (N, m)
            as_it_is = phi.linear or (before_output and index == last)
            slopes.append(None if as_it_is else phi.derivative(u) if phi.elementwise else phi.jacobian(u))
            h = u if as_it_is else phi(u)
        return h, Piece(self._maps, tuple(slopes), len(h))

    @cached_property
    def _maps(self) -> tuple[AbstractMap, ...]:
        return tuple(layer.W for layer in self.layers)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Generator":
        """The same generator in another floating type or on another device. Raises as `read_dtype` and `read_device`."""
        dtype = None if dtype is None else read_dtype(dtype)
        device = None if device is None else read_device(device)
        layers = tuple(
            Layer(
                layer.W.to(dtype, device),
                layer.b.to(dtype=dtype or layer.b.dtype, device=device or layer.b.device),
                layer.activation,
                layer.notes,
            )
            for layer in self.layers
        )
        return self._copy(layers)

    @cached_property
    def single(self) -> "Generator":
        """The same generator in float32, made at the first call and kept, of the maps that are kept in float32 anyway."""
        if self.dtype == torch.float32:
            return self
        return self._copy(tuple(replace(layer, W=layer.W.single, b=layer.b.float()) for layer in self.layers))

    def with_output(self, output: str | AbstractActivation) -> "Generator":
        """The same generator with another last activation.

        `output` is "identity", "relu", "leaky_relu" (slope 0.1), "leaky_relu:0.2", ... or an activation
        object.
        """
        last = replace(self.layers[-1], activation=as_activation(output))
        return self._copy((*self.layers[:-1], last))

    def _copy(self, layers: tuple[Layer, ...]) -> "Generator":
        """The same with other layers that compute the same before the output."""
        there = replace(self, layers=layers)
        there.__dict__["kept"] = self.kept
        return there

    def __repr__(self) -> str:
        lines = [f"  {i}: {_words(layer.W)}, {layer.activation!r}" for i, layer in enumerate(self.layers)]
        return "\n".join([self._head(), *lines, *self._check()])

    def __str__(self) -> str:
        """A table to check what was read: maps, units, activations, what was folded in, and the signal that comes out."""
        rows = [("layer", "map", "units", "activation", "folded in")]
        for index, layer in enumerate(self.layers):
            *before, last = factors(layer.W)
            rows += [(str(index) if k == 0 else "", _words(W), "", "", "") for k, W in enumerate(before)]
            number = "" if before else str(index)
            units, notes = _sizes(last.shapes[1]), "; ".join(layer.notes)
            rows.append((number, _words(last), units, repr(layer.activation), notes))
        low, high = self.output.range
        ends = f"values in [{low:g}, {high:g}]" if (low, high) != (-inf, inf) else "values of any size"
        curved = self.first_curved
        kind = "hidden layers are piecewise affine"
        if curved is not None:
            kind = f"layers[{curved}] is smooth, so that layered methods do not apply"
        output = f"signal {_sizes(self.signal_shape)}, {ends}; {kind}"
        return "\n".join([self._head(), *(f"  {line}" for line in [*_columns(rows), output]), *self._check()])

    def _head(self) -> str:
        name, label = self.description.get("name"), self.description.get("label")
        head = f"Generator{f' {name}' if name else ''}{'' if label is None else f', label {label}'}"
        return f"{head}: {self.latent_dim} -> {self.signal_dim}, {str(self.dtype).removeprefix('torch.')}, {self.device}"

    def _check(self) -> list[str]:
        check = self.description.get("conversion_check")
        return [] if check is None else [f"  {check}"]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the last column ends where its words do."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def factors(W: AbstractMap) -> list[AbstractMap]:
    """The maps that a composition applies, first to last; any other map alone."""
    return [*factors(W.inner), *factors(W.outer)] if isinstance(W, Composition) else [W]


def _weights(W: AbstractMap) -> list[Tensor]:
    return [weight for factor in factors(W) for weight in factor.numbers]


def _check_layer(index: int, layer: Layer, dtype: torch.dtype, device: torch.device) -> None:
    if min(layer.W.m, layer.W.n) < 1:
        raise ValueError(
            f"expected layers[{index}].W of at least one output and one input, got {layer.W.m} and {layer.W.n}; "
            "leave out what holds nothing"
        )
    if layer.b.shape != (layer.W.m,):
        raise ValueError(
            f"expected layers[{index}].b of shape ({layer.W.m},), got {tuple(layer.b.shape)}; "
            "pass one number per output of W"
        )
    for name, tensor in [*(("W", weight) for weight in _weights(layer.W)), ("b", layer.b)]:
        if tensor.dtype != dtype or tensor.device != device:
            raise ValueError(
                f"expected layers[{index}].{name} in {dtype} on {device} as layers[0].W is, "
                f"got {tensor.dtype} on {tensor.device}; convert all layers to one dtype and device"
            )
        if not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"expected finite weights, got {bad} NaN or infinite entries in layers[{index}].{name} "
                f"({dtype}); retrain, or use a wider dtype if they overflowed"
            )


def _check_chain(layers: Sequence[Layer]) -> None:
    for index, (layer, after) in enumerate(pairwise(layers)):
        if layer.W.m != after.W.n:
            raise ValueError(
                f"expected layers[{index + 1}].W to take {layer.W.m} numbers, which layers[{index}].W gives, "
                f"got one that takes {after.W.n}; pass maps whose sizes meet"
            )
        if layer.activation.linear or not layer.activation.elementwise:
            raise ValueError(
                f"expected ReLU or LeakyReLU behind the hidden layers[{index}], or another elementwise activation, got "
                f"{layer.activation!r}; multiply two maps without one between them, and put a softmax at the output only"
            )


def _words(W: AbstractMap) -> str:
    if isinstance(W, Composition):
        return " then ".join(_words(factor) for factor in factors(W))
    before, after = W.shapes
    return f"{type(W).__name__} {_sizes(before)} -> {_sizes(after)}{W.details}"
