"""Generators: chains of linear maps, biases and activations, with values, Jacobians and samples.

A `Generator` holds what an inversion needs and nothing else: batch norms are folded, dropout is gone, signals
are flat. `load_generator` (reading.py) makes one from a torch module or a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from ..inputs import describe, weights
from .abstract import AbstractGenerator
from .activations import AbstractActivation, Coupled, as_activation, check_facts
from .maps import AbstractMap, Composition, Conv2d, ConvTranspose2d, Resampling2d, check_map
from .piece import Piece


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer, `activation(W h + b)`; `b` has shape `(m,)`, one number per output, also behind a
    convolution."""

    W: AbstractMap
    b: Tensor
    activation: AbstractActivation

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

    def __call__(self, z: Tensor) -> Tensor:
        return self.output(self.preactivations(z)[-1])

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
            u = layer.W(h) + layer.b  # (N, m)
            as_it_is = layer.activation.linear or (before_output and index == last)
            slopes.append(None if as_it_is else layer.activation.jacobian(u))
            h = u if as_it_is else layer.activation(u)
        return h, Piece(self._maps, tuple(slopes), len(h))

    @cached_property
    def _maps(self) -> tuple[AbstractMap, ...]:
        return tuple(layer.W for layer in self.layers)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Generator":
        """The same generator in another floating type or on another device."""
        layers = tuple(
            Layer(
                layer.W.to(dtype, device),
                layer.b.to(dtype=dtype or layer.b.dtype, device=device or layer.b.device),
                layer.activation,
            )
            for layer in self.layers
        )
        return self._copy(layers)

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
        name, label, check = (self.description.get(key) for key in ("name", "label", "conversion_check"))
        head = f"Generator{f' {name}' if name else ''}{'' if label is None else f', label {label}'}"
        head = f"{head}: {self.latent_dim} -> {self.signal_dim}"
        lines = [f"  {i}: {_words(layer.W)}, {layer.activation!r}" for i, layer in enumerate(self.layers)]
        lines += [] if check is None else [f"  {check}"]
        return "\n".join([f"{head}, {str(self.dtype).removeprefix('torch.')}, {self.device}", *lines])


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
    if isinstance(W, Conv2d | ConvTranspose2d | Resampling2d):
        before, after = ("x".join(map(str, shape)) for shape in (W.shape_in, W.shape_out))
        return f"{type(W).__name__} {before} -> {after}{'' if isinstance(W, Resampling2d) else _kernel_words(W)}"
    return f"{type(W).__name__} {W.n} -> {W.m}"


def _kernel_words(W: Conv2d | ConvTranspose2d) -> str:
    kernel = "x".join(map(str, W.weight.shape[2:]))
    unusual = "".join(
        f", {name} {value}"
        for name, value, usual in (
            ("dilation", W.dilation, (1, 1)),
            ("groups", W.groups, 1),
            ("output padding", W.output_padding, (0, 0)),
        )
        if value != usual
    )
    return f", kernel {kernel}, stride {W.stride}, padding {W.padding}{unusual}"
