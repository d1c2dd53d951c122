"""What each tensor of a running module holds, in terms of the signals of a chain.

A `Point` is a place on the way from the latent to the output. While a module runs on N latents, every storage that depends
on them holds numbers 1 + n size + k where the k-th number of signal n of one point lies, and 0 for a constant. Views need no
reading that way: a tensor is its strides on its storage. What only moves numbers is run on these numbers instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .. import ops
from ..maps import Resampling2d


@dataclass(frozen=True, eq=False)
class Point:
    """A signal of `shape` that `steps` make of the one `before`; without one it is the latent.

    `alike`: it has the latent's shape, number for number. `refused`: why it cannot be read, if so.
    """

    shape: ops.Shape
    before: "Point | None" = None
    steps: tuple[tuple[str, ops.AbstractOp], ...] = ()
    refused: Any = None
    alike: bool = False

    @cached_property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    def chain(self) -> "list[Point]":
        """The points from the latent to here."""
        points, at = [self], self.before
        while at is not None:
            points.append(at)
            at = at.before
        return points[::-1]


@dataclass(frozen=True)
class Lay:
    """Which axis of a tensor counts the signals, alone (`inner` 1) or with others: outside of them, or inside (`tiled`)."""

    N: int
    axis: int
    inner: int = 1
    tiled: bool = False

    def __call__(self, t: Tensor) -> Tensor:
        """A view of `t` (N, ...) in which the first axis counts the signals."""
        if self.inner == 1:
            return t.movedim(self.axis, 0)
        sizes = (self.inner, self.N) if self.tiled else (self.N, self.inner)
        return t.unflatten(self.axis, sizes).movedim(self.axis + self.tiled, 0)

    def axis_of(self, axis: int, ndim: int) -> int:
        """Where an axis of the tensor stands in the shape of one signal; -1 for the one that counts the signals alone."""
        axis %= ndim
        if self.inner > 1:
            return axis
        return -1 if axis == self.axis else axis - (axis > self.axis)

    def with_count(self, N: int) -> "Lay":
        """The same for another number of signals."""
        return Lay(N, self.axis, self.inner, self.tiled)

    @property
    def plain(self) -> bool:
        """Whether the first axis counts the signals."""
        return self.axis == 0 and self.inner == 1


class MixedError(Exception):
    """A tensor does not hold one signal per latent; `words` say how."""


@dataclass(frozen=True, eq=False)
class Signal:
    """A tensor read as one signal of `shape` per latent: numbers of `point` at `index`, -1 for a constant of `constants`."""

    point: Point
    lay: Lay
    index: Tensor
    constants: Tensor

    @property
    def shape(self) -> ops.Shape:
        """The shape of one signal."""
        return tuple(self.index.shape)

    def steps(self) -> Iterator[ops.AbstractOp]:
        """What arranges the numbers of `point` so."""
        index, shape = self.index.reshape(-1), self.shape or (1,)
        fixed = index < 0
        if torch.equal(index, torch.arange(self.point.size)):
            if shape != self.point.shape:
                yield ops.Reshape(shape=shape)
        elif beside := self._beside():
            yield ops.Reshape(shape=(self.point.size // prod(shape[1:]), *shape[1:]))
            yield beside
        else:
            yield ops.Select(index=index, shape=shape)
            if bool(self.constants.reshape(-1)[fixed].any()):
                shift = torch.where(fixed, self.constants.reshape(-1), 0.0)
                yield ops.Diagonal(scale=torch.ones_like(shift), shift=shift)

    def _beside(self) -> ops.Channels | None:
        """Constant channels before and after all the numbers of the point, in order, if that is what it is."""
        rest = prod(self.shape[1:])
        rows = (self.index.reshape(-1, rest) >= 0).all(1).nonzero().reshape(-1)
        if not rest or not len(rows) or len(rows) * rest != self.point.size or len(rows) == self.shape[0]:
            return None
        first, last = int(rows[0]), int(rows[-1]) + 1
        if not torch.equal(self.index[first:last].reshape(-1), torch.arange(self.point.size)):
            return None
        return ops.Channels(before=self.constants[:first].clone(), after=self.constants[last:].clone())


@dataclass(eq=False)
class Book:
    """Which storage holds what, for `N` signals."""

    N: int
    held: dict[StorageWeakRef, tuple[Point, Tensor]] = field(default_factory=dict)

    def look(self, t: Tensor) -> tuple[Point, Tensor] | None:
        """The point that `t` has numbers of, and which ones, in the shape of `t`; None for a constant."""
        found = self.held.get(StorageWeakRef(t.untyped_storage()))
        return found and (found[0], _as(found[1], t))

    def write(self, t: Tensor, point: Point, numbers: Tensor) -> bool:
        """Say that `t` now holds `numbers` (as `look` gives them) of `point`; False where its storage holds others."""
        ref = StorageWeakRef(t.untyped_storage())
        if ref not in self.held:
            self._forget()
        before = self.held.get(ref)
        cells = torch.zeros(t.untyped_storage().nbytes() // t.element_size(), dtype=torch.float64)
        whole = before is None or before[0] is point
        if before is not None:
            cells = before[1].clone()
        _as(cells, t).copy_(torch.zeros(()))
        whole = whole or not bool(cells.any())
        _as(cells, t).copy_(numbers)
        self.held[ref] = (point, cells)
        return whole

    def start(self, t: Tensor, point: Point, lay: Lay) -> bool:
        """Say that `t` holds all of a new point's signals, in order, as `lay` counts them."""
        numbers = torch.empty_strided(t.shape, t.stride(), dtype=torch.float64)
        seen = lay(numbers)
        seen.copy_(torch.arange(1, 1 + seen.numel(), dtype=torch.float64).reshape(seen.shape))
        return self.write(t, point, numbers)

    def signal(self, t: Tensor, shape: tuple[int, ...] | None = None) -> Signal:
        """`t` read as one signal per latent, expanded to `shape` first. Raises: MixedError."""
        found = self.look(t)
        assert found is not None
        point, numbers = found
        if shape is not None:
            numbers, t = numbers.expand(shape), t.expand(shape)
        return read_signal(point, numbers, t, self.N)

    def _forget(self) -> None:
        """Drop what storages held that are gone."""
        for ref in [ref for ref in self.held if ref.expired()]:
            del self.held[ref]


def _as(cells: Tensor, t: Tensor) -> Tensor:
    return cells.as_strided(t.shape, t.stride(), t.storage_offset())


def read_signal(point: Point, numbers: Tensor, t: Tensor, N: int) -> Signal:
    """Which numbers of `point` each signal of `t` holds. Raises: MixedError."""
    owners = torch.where(numbers > 0, (numbers - 1).div(point.size, rounding_mode="floor"), -1)
    lay = next((lay for lay in _lays(t.shape, N) if _owned(lay(owners))), None)
    if lay is None:
        raise MixedError(f"in a tensor of shape {tuple(t.shape)} for {N} latents, of which no axis counts the latents")
    laid, values = lay(numbers), lay(t)
    first = laid[0]
    steps = torch.arange(N, dtype=torch.float64).reshape(-1, *[1] * first.ndim) * point.size
    if not torch.equal(laid, torch.where(first > 0, first + steps, 0.0)):
        raise MixedError("on what is arranged differently in each signal")
    if not torch.equal(torch.where(first > 0, 0, values), torch.where(first > 0, 0, values[:1]).expand_as(values)):
        raise MixedError("on what is not the same for every signal")
    return Signal(point, lay, first.long() - 1, torch.where(first > 0, 0, values[0]).double())


def _lays(shape: tuple[int, ...], N: int) -> Iterator[Lay]:
    for axis, size in enumerate(shape):
        if size == N:
            yield Lay(N, axis)
    for axis, size in enumerate(shape):
        if size > N and size % N == 0:
            yield Lay(N, axis, size // N)
            yield Lay(N, axis, size // N, tiled=True)


def _owned(owners: Tensor) -> bool:
    """Whether row n is of signal n alone, and constants."""
    flat = owners.reshape(len(owners), -1)
    return bool(((flat == torch.arange(len(flat), dtype=flat.dtype)[:, None]) | (flat < 0)).all())


def constant(values: Tensor, lay: Lay) -> Tensor:
    """One signal's part of numbers that do not depend on the latent, laid out as what is beside. Raises: MixedError."""
    laid = lay(values)
    if not torch.equal(laid, laid[:1].expand_as(laid)):
        raise MixedError("on what is not the same for every signal")
    return laid[0].double()


def picks(before: tuple[int, int, int], index: Tensor) -> ops.AbstractOp | None:
    """`index` (C, H, W) into a picture as rows and columns picked alike in every channel; None if it is none such."""
    if index.ndim != 3 or index.shape[0] != before[0]:
        return None
    C, h, w = before
    rows = torch.where(index[0] >= 0, index[0] // w, -1).amax(1)
    columns = torch.where(index[0] >= 0, index[0] % w, -1).amax(0)
    both = (rows[:, None] >= 0) & (columns >= 0)
    plane = torch.where(both, rows[:, None] * w + columns, -1)
    picked = torch.where(both, plane + h * w * torch.arange(C).reshape(-1, 1, 1), -1)
    return ops.Resampling.of(Resampling2d.picking(before, rows, columns)) if torch.equal(picked, index) else None
