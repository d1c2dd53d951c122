"""Plain mistakes about signals, named with the cure before any work: types, orders of axes, values of another range."""

from math import isfinite

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..inputs import conversion, describe

_FAR = 10.0  # widths of the output's range that a value lies outside: noise and overshoots are nearer


def type_cure(y: object, generator: AbstractGenerator) -> str:
    """How signals of another type become floats: bytes are scaled to the output's range."""
    floats = f"y{conversion(y)}"
    whole = (isinstance(y, Tensor) and not y.dtype.is_floating_point) or (isinstance(y, np.ndarray) and y.dtype.kind in "ui")
    if not whole:
        return f"use {floats}"
    low, high = generator.output.range if _known(generator) else (0.0, 1.0)
    return f"convert them by {floats}, bytes by {_scaled(floats, low, high)} for an output in [{low:g}, {high:g}]"


def _known(generator: AbstractGenerator) -> bool:
    """Whether its output activation bounds the signals on both sides."""
    return all(map(isfinite, generator.output.range))


def _scaled(y: str, low: float, high: float) -> str:
    """Bytes in a range, as code."""
    if (low, high) == (0.0, 1.0):
        return f"{y} / 255"
    return f"{y} / 127.5 - 1" if (low, high) == (-1.0, 1.0) else f"{low:g} + {high - low:g} * {y} / 255"


def axes_cure(y: Tensor, shape: tuple[int, ...]) -> str:
    """The permutation that makes signals of `shape` of y, as code; "" where its axes are in no order that is known."""
    k, got = len(shape), tuple(y.shape)
    if got[1:] == () or k == 1:
        return "use y.T, one signal per row" if y.ndim == 2 and got[0] == shape[0] else ""
    last, first = (*shape[1:], shape[0]), (shape[-1], *shape[:-1])
    for seen, order in ((last, (k - 1, *range(k - 1))), (first, (*range(1, k), 0))):
        if got == seen:
            return f"its axes are in another order: use y.permute{order}, of an array y.transpose{order}"
        if got[1:] == seen:
            there = (0, *(1 + axis for axis in order))
            return f"its axes are in another order: use y.permute{there}, of an array y.transpose{there}"
    return ""


def refuse_float_mask(value: object, y: Tensor, d: int) -> None:
    """Raises TypeError for a mask in numbers, 0 and 1, which would be taken for a matrix. y: the signals, as they came."""
    if not isinstance(value, Tensor | np.ndarray) or (isinstance(value, Tensor) and not _plain(value)):
        return
    if value.dtype in (torch.bool, np.dtype(bool)) or value.shape not in ((d,), tuple(y.shape)) or value.shape == (d, d):
        return
    numbers = torch.as_tensor(np.asarray(value.cpu() if isinstance(value, Tensor) else value))
    if not bool(((numbers == 0) | (numbers == 1) | (numbers == 255)).all()):
        return
    raise TypeError(
        f"expected a mask of bools, True where seen, got {describe(value)} of 0 and {float(numbers.max()):g}; "
        f"use mask{conversion(value, 'bool')}"
    )


def _plain(value: Tensor) -> bool:
    return value.layout == torch.strided and not (
        value.is_nested or value.is_meta or value.is_complex() or value.is_quantized
    )


def refuse_far(y: Tensor, seen: Tensor, noise: Tensor | None, generator: AbstractGenerator) -> None:
    """Raises ValueError where most signals hold values far outside the generator's range: they are in another unit.

    y `(N, d)`, hidden entries 0; seen: bool like it; noise: what was stated of an entry, `(N,)`. One signal in another
    unit, or a few broken entries, are none of its business: they cost themselves.
    """
    if not _known(generator):
        return
    low, high = generator.output.range
    reach = _FAR * (high - low) + (0.0 if noise is None else _FAR * noise.nan_to_num(0.0))
    lowest = torch.where(seen, y, torch.inf).amin(1)
    highest = torch.where(seen, y, -torch.inf).amax(1)
    far = (lowest < low - reach) | (highest > high + reach)
    if 2 * int(far.sum()) <= len(y):
        return
    from_, to = float(lowest.min()), float(highest.max())
    bytes_ = from_ >= 0 and to <= 255
    cure = f"values 0..255 become it by {_scaled('y', low, high)}" if bytes_ else "give the signals the generator's unit"
    raise ValueError(
        f"expected signals near the generator's range [{low:g}, {high:g}], got values from {from_:g} to {to:g} in "
        f"{int(far.sum())} of {len(y)} signals; {cure}"
    )


def refuse_beyond(y: Tensor, usable: Tensor, limits: tuple[float, float], name: str) -> None:
    """Raises ValueError for a number that a measurement never gives, where no noise is stated that could have.

    y `(N, k)`, hidden entries 0; usable: `(N,)`; limits: least and greatest number, name: of the measurement.
    """
    beyond = ((y < limits[0]) | (y > limits[1])) & usable[:, None]
    if not bool(beyond.any()):
        return
    i, k = (int(v) for v in beyond.nonzero()[0])
    raise ValueError(
        f"expected y in [{limits[0]:g}, {limits[1]:g}], which {name} gives, got {float(y[i, k]):g} in entry {k} of "
        f"signal {i}; state noise= where noise has done that; where numbers have signs leave Magnitudes out"
    )
