"""Folding: ops become layers with one linear map and one bias each; every reader ends here.

Linear maps and batch norms that no activation separates are multiplied out, in the precision that they come in (the readers
use float64). A batch norm in front of a zero-padded convolution leaves a bias that depends on the position, W(shift), as the
padding is not shifted; hence every bias is one number per output.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedLayerError
from . import ops
from .activations import AbstractActivation, Identity
from .chain import Generator, Layer
from .maps import AbstractMap, Composition, Conv2d, ConvTranspose2d, Dense, Resampling2d

# a product with a dense factor is multiplied out up to this many entries (32 MB in float64)
_DENSE_ENTRIES = 4_000_000


@dataclass(frozen=True, eq=False)
class _Affine:
    """W h + b."""

    W: AbstractMap
    b: Tensor


def fold(steps: ops.Ops, shape: ops.Shape, description: dict[str, Any] | None = None) -> Generator:
    """The generator that ops make of a latent of `shape`.

    Raises: ValueError, with the op's place, for an op that does not fit the signal; UnsupportedLayerError for an activation
    without a map before it, and for a hidden one that is neither ReLU nor LeakyReLU.
    """
    chain = _Chain(tuple(shape))
    for place, op in steps:
        try:
            chain.append(op, place.words)
        except ops.MisfitError as misfit:
            raise place.wrong(misfit.expected, misfit.got) from misfit
    return chain.finish(description or {})


@dataclass
class _Chain:
    """Ops folded so far; `shape` is that of one signal behind them. A diagonal that no map has taken yet is pending, too."""

    shape: ops.Shape
    layers: list[Layer] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    pending: ops.Diagonal | _Affine | None = None

    def append(self, op: ops.AbstractOp, place: str) -> None:
        """Fold one op in. Raises: MisfitError, UnsupportedLayerError."""
        if isinstance(op, ops.AbstractMapOp):
            *before, last = op.maps(self.shape)
            for W in before:
                self._add_map(W, torch.zeros(W.m, dtype=W.dtype), op.composed)
            self._add_map(last, op.offset(last.shapes[1]), op.composed)
        elif isinstance(op, ops.AbstractDiagonal):
            self._add_diagonal(*op.numbers(self.shape))
        elif isinstance(op, ops.Reshape):
            self.shape = op.shape_after(self.shape)
        elif isinstance(op, ops.Activation):
            self._add_activation(op.activation, place)
        else:
            raise TypeError(f"expected an op that can be folded, got {type(op).__name__} in {place}; choose its label first")

    def finish(self, description: dict[str, Any]) -> Generator:
        """The generator. Raises: UnsupportedLayerError for a hidden activation other than ReLU, LeakyReLU."""
        if self.pending is not None:
            self._close(Identity(), "the output")
        if not self.layers:
            raise UnsupportedLayerError(
                "expected at least one linear map, got none; pass a generator with a Linear or a convolution"
            )
        for layer, place in zip(self.layers[:-1], self.places[:-1], strict=True):
            if not layer.activation.kinked:
                raise UnsupportedLayerError(
                    f"expected ReLU or LeakyReLU between two maps, got {place}; {layer.activation!r} can "
                    "stand at the output only: retrain with ReLU, or pass the network from there on"
                )
        return Generator(tuple(self.layers), self.shape, description)

    def _add_map(self, W: AbstractMap, b: Tensor, as_factor: bool) -> None:
        """Append W h + b with `b` of shape `(m,)`; `as_factor` keeps it apart from the map before it."""
        before, self.shape = self.pending, W.shapes[1]
        if before is None:
            self.pending = _Affine(W, b)
        elif isinstance(before, ops.Diagonal):
            self.pending = _Affine(_scale(W, before.scale, rows=False), b + W(before.shift[None])[0])
        else:
            product = Composition(W, before.W) if as_factor else compose(W, before.W)
            self.pending = _Affine(product, b + W(before.b[None])[0])

    def _add_diagonal(self, scale: Tensor, shift: Tensor) -> None:
        """Append scale * h + shift, one number per channel (the first axis of `shape`) or per output."""
        scale, shift = ops.per_output(scale, self.shape), ops.per_output(shift, self.shape)
        before = self.pending
        if before is None:
            self.pending = ops.Diagonal(scale=scale, shift=shift)
        elif isinstance(before, ops.Diagonal):
            self.pending = ops.Diagonal(scale=scale * before.scale, shift=scale * before.shift + shift)
        else:
            self.pending = _Affine(_scale(before.W, scale, rows=True), scale * before.b + shift)

    def _add_activation(self, activation: AbstractActivation, place: str) -> None:
        """Append an activation; it closes a layer."""
        if activation.linear:
            return
        if self.pending is None:
            where = "another activation" if self.layers else "the latent itself"
            raise UnsupportedLayerError(
                f"expected a linear map before {place}, got {where}; remove the activation or put a map before it"
            )
        self._close(activation, place)

    def _close(self, activation: AbstractActivation, place: str) -> None:
        pending, self.pending = self.pending, None
        if isinstance(pending, ops.Diagonal):
            pending = _Affine(_diagonal_map(pending.scale), pending.shift)
        assert pending is not None
        self.layers.append(Layer(pending.W, pending.b, activation))
        self.places.append(place)


def compose(outer: AbstractMap, inner: AbstractMap) -> AbstractMap:
    """`outer` after `inner`: one map where both resample, or one is dense and the product small; else a Composition."""
    if isinstance(outer, Dense) and isinstance(inner, Dense):
        return Dense(outer.weight @ inner.weight)
    if isinstance(outer, Resampling2d) and isinstance(inner, Resampling2d) and outer.shape_in == inner.shape_out:
        return Resampling2d(outer.rows @ inner.rows, outer.columns @ inner.columns, inner.channels)
    if outer.m * inner.n <= _DENSE_ENTRIES:
        if isinstance(outer, Dense):
            return Dense(inner.adjoint(outer.weight))
        if isinstance(inner, Dense):
            return Dense(outer(inner.weight.T).T.contiguous())
    return Composition(outer, inner)


def _diagonal_map(scale: Tensor) -> AbstractMap:
    if scale.numel() ** 2 <= _DENSE_ENTRIES:
        return Dense(torch.diag(scale))
    # one 1 x 1 convolution per number: a diagonal without its zeros
    return Conv2d(scale.reshape(-1, 1, 1, 1), (scale.numel(), 1, 1), groups=scale.numel())


def _scale(W: AbstractMap, scale: Tensor, rows: bool) -> AbstractMap:
    """diag(`scale`) W, or W diag(`scale`) where not `rows`; what it can take into its weights a map takes."""
    if isinstance(W, Dense):
        return Dense(W.weight * (scale[:, None] if rows else scale))
    if isinstance(W, Composition):
        outer, inner = (_scale(W.outer, scale, rows), W.inner) if rows else (W.outer, _scale(W.inner, scale, rows))
        return Composition(outer, inner)
    shape = W.shapes[1 if rows else 0]
    channels = ops.per_channel(scale, shape[0])
    if isinstance(W, Conv2d | ConvTranspose2d) and channels is not None:
        return replace(W, weight=_scaled_kernel(W, channels, first_axis=isinstance(W, Conv2d) == rows))
    if isinstance(W, Resampling2d) and channels is not None:
        # it commutes with what is done in each channel
        return Composition(W, Conv2d(channels.reshape(-1, 1, 1, 1), W.shape_in, groups=channels.numel()))
    return compose(_diagonal_map(scale), W) if rows else compose(W, _diagonal_map(scale))


def _scaled_kernel(W: Conv2d | ConvTranspose2d, channels: Tensor, first_axis: bool) -> Tensor:
    """The kernel with its first axis, or its second one, scaled; the second counts within a group."""
    if first_axis:
        return W.weight * channels.reshape(-1, 1, 1, 1)
    grouped = W.weight.reshape(W.groups, -1, *W.weight.shape[1:])
    return (grouped * channels.reshape(W.groups, 1, -1, 1, 1)).reshape(W.weight.shape)
