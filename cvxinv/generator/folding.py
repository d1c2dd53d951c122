"""Folding: ops become layers with one linear map and one bias each; every reader ends here.

Linear maps and batch norms that no activation separates are multiplied out, in the precision that they come in (the readers
use float64). A batch norm in front of a zero-padded convolution leaves a bias that depends on the position, W(shift), as the
padding is not shifted; hence every bias is one number per output.

What stands behind the last activation goes before it where it can, and else makes a layer of its own (`behind`); activations
of several lines in hidden layers, and the largest of a window, are written with ReLUs (`rewriting`). Both are exact.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedLayerError
from . import ops
from .activations import AbstractActivation, Identity, ReLU, Softmax
from .behind import before_activation
from .chain import Generator, Layer
from .composing import compose, diagonal_map, scale_map
from .maps import AbstractMap, Composition, Sparse
from .rewriting import Lines, largest_rounds, lines_of, of_leaks


@dataclass(frozen=True, eq=False)
class _Affine:
    """W h + b."""

    W: AbstractMap
    b: Tensor

    @property
    def composed(self) -> bool:
        """Whether W keeps its factors apart."""
        return isinstance(self.W, Composition)


def fold(steps: ops.Ops, shape: ops.Shape, description: dict[str, Any] | None = None) -> Generator:
    """The generator that ops make of a latent of `shape`.

    Raises: ValueError, with the op's place, for an op that does not fit the signal; UnsupportedLayerError for a generator
    without maps, for a softmax that is not at the output, and for what would take too many ReLU units.
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
    """Ops folded so far; `shape` is that of one signal behind them. A diagonal that no map has taken yet is pending, too.

    `notes`: what was folded into the layer that is not closed yet, in words.
    """

    shape: ops.Shape
    layers: list[Layer] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    pending: ops.Diagonal | _Affine | None = None
    notes: list[str] = field(default_factory=list)

    def append(self, op: ops.AbstractOp, place: str) -> None:
        """Fold one op in. Raises: MisfitError, UnsupportedLayerError."""
        where = place.split(" of ")[0]
        if isinstance(op, ops.AbstractMapOp):
            before = self.pending
            self._add_map_op(op)
            if isinstance(before, _Affine) and isinstance(self.pending, _Affine) and not self.pending.composed:
                self.notes.append(f"multiplied with {where}")
        elif isinstance(op, ops.AbstractDiagonal):
            self._add_diagonal(*op.numbers(self.shape))
            self.notes.append(f"{'batch norm' if isinstance(op, ops.BatchNorm) else 'scale and shift'} {where}")
        elif isinstance(op, ops.Removed):
            self.notes.append(f"without {op.what} {where}")
        elif isinstance(op, ops.Reshape):
            self.shape = op.shape_after(self.shape)
        elif isinstance(op, ops.Activation):
            self._add_activation(op.activation, place)
        elif isinstance(op, ops.Softmax):
            self._add_softmax(op, place)
        elif isinstance(op, ops.LeakyUnits):
            self._add_leaks(op.numbers(self.shape), place)
        elif isinstance(op, ops.MaxPool):
            self._add_largest(*op.windows(self.shape), place)
        else:
            raise TypeError(f"expected an op that can be folded, got {type(op).__name__} in {place}; choose its label first")

    def finish(self, description: dict[str, Any]) -> Generator:
        """The generator. Raises: UnsupportedLayerError."""
        if self.pending is not None and self.layers:
            self._put_before_activation()
        if self.pending is not None:
            self._close(Identity(), "the output")
        if not self.layers:
            raise UnsupportedLayerError(
                "expected at least one linear map, got none; pass a generator with a Linear or a convolution"
            )
        return Generator(tuple(self._rewritten()), self.shape, description)

    def _add_map_op(self, op: ops.AbstractMapOp) -> None:
        *before, last = op.maps(self.shape)
        for W in before:
            self._add_map(W, torch.zeros(W.m, dtype=W.dtype), op.composed)
        self._add_map(last, op.offset(last.shapes[1]), op.composed)

    def _add_map(self, W: AbstractMap, b: Tensor, as_factor: bool = False) -> None:
        """Append W h + b with `b` of shape `(m,)`; `as_factor` keeps it apart from the map before it."""
        before, self.shape = self.pending, W.shapes[1]
        if isinstance(W, Sparse) and W.trivial and not (as_factor or bool(b.any())):
            return
        if before is None:
            self.pending = _Affine(W, b)
        elif isinstance(before, ops.Diagonal):
            self.pending = _Affine(scale_map(W, before.scale, rows=False), b + W(before.shift[None])[0])
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
            self.pending = _Affine(scale_map(before.W, scale, rows=True), scale * before.b + shift)

    def _add_activation(self, activation: AbstractActivation, place: str) -> None:
        """Append an activation; it closes a layer."""
        if activation.linear or self._within(activation):
            return
        if self.pending is None:
            self._add_diagonal(*(make(self.shape, dtype=torch.float64) for make in (torch.ones, torch.zeros)))
        self._close(activation, place)

    def _within(self, activation: AbstractActivation) -> bool:
        """Whether the signal here lies where the activation changes nothing, as in front of a clamp beyond its ends."""
        if not self.layers:
            return False
        put = self.layers[-1] if self.pending is None else self._before_activation()
        return put is not None and activation.keeps(put.activation.range)

    def _add_softmax(self, op: ops.Softmax, place: str) -> None:
        if not 0 <= op.axis < len(self.shape):
            raise ops.MisfitError(f"an axis of the signal's shape {self.shape}", op.axis)
        self._add_activation(Softmax(self.shape, op.axis), place)

    def _add_leaks(self, slopes: Tensor, place: str) -> None:
        """Append u or slope u; see `rewriting`."""
        one = of_leaks(slopes)
        if one is not None:
            self._add_activation(one, place)
            return
        self._add_lines(Lines.leaking(slopes), place)

    def _add_lines(self, lines: Lines, place: str) -> None:
        """Append a chain of lines in each number, as ReLU units and what sums them."""
        shape = self.shape
        self._add_map(*lines.units(shape))
        self.notes.append(f"{place} as {lines.words}")
        self._add_activation(ReLU(), place)
        self._add_map(*lines.sums(shape))

    def _add_largest(self, index: Tensor, shape: ops.Shape, place: str) -> None:
        """Append the largest of each window, by rounds of pairs."""
        if index.shape[1] == 1:
            self._add_map_op(ops.Select(index=index, shape=shape))
            return
        for units, sums in largest_rounds(index, self.shape, shape, self._nonnegative(), place):
            self._add_map(units, torch.zeros(units.m, dtype=units.dtype))
            self.notes.append(f"a round of pairs of {place}")
            self._add_activation(ReLU(), place)
            self._add_map(sums, torch.zeros(sums.m, dtype=sums.dtype))

    def _nonnegative(self) -> bool:
        """Whether no number of the signal here can be below 0."""
        return self.pending is None and bool(self.layers) and self.layers[-1].activation.range[0] >= 0

    def _close(self, activation: AbstractActivation, place: str) -> None:
        pending, self.pending = self.pending, None
        if isinstance(pending, ops.Diagonal):
            pending = _Affine(diagonal_map(pending.scale, self.shape), pending.shift)
        assert pending is not None
        if self.layers and not self.layers[-1].activation.elementwise:
            raise UnsupportedLayerError(
                f"expected a softmax at the output, got one before {place}; leave out what follows it"
            )
        self.layers.append(Layer(pending.W, pending.b, activation, tuple(self.notes)))
        self.notes = []
        self.places.append(place)

    def _put_before_activation(self) -> None:
        """Put what is pending behind the last activation before it, where that changes no value."""
        if (put := self._before_activation()) is not None:
            behind = tuple(f"from behind the activation: {note}" for note in self.notes or ["entries moved"])
            self.layers[-1], self.pending, self.notes = replace(put, notes=put.notes + behind), None, []

    def _before_activation(self) -> Layer | None:
        """The last layer with what is pending put before its activation, or None where that cannot be."""
        pending = self.pending
        if isinstance(pending, ops.Diagonal):
            pending = _Affine(Sparse.diagonal(pending.scale, self.shape), pending.shift)
        assert pending is not None
        return before_activation(self.layers[-1], pending.W, pending.b)

    def _rewritten(self) -> list[Layer]:
        """The layers, with hidden activations of several lines written with ReLUs."""
        layers, done = list(self.layers), list[Layer]()
        while len(layers) > 1:
            first, second, *rest = layers
            lines = None if first.activation.kinked else lines_of(first.activation, first.W.m)
            if lines is None:
                done.append(first)
                layers = [second, *rest]
                continue
            shape = first.W.shapes[1]
            (R, r), (C, c) = lines.units(shape), lines.sums(shape)
            notes = (*first.notes, f"{first.activation!r} as {lines.words}")
            done.append(Layer(compose(R, first.W), R(first.b[None])[0] + r, ReLU(), notes))
            layers = [replace(second, W=compose(second.W, C), b=second.W(c[None])[0] + second.b), *rest]
        return [*done, *layers]
