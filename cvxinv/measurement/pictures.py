"""What measurements of pictures are told: shapes, places in a picture, numbers of a kernel."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..inputs import describe as _kind
from ..inputs import read_numbers


def read_shape(shape: object) -> tuple[int, int, int]:
    """(channels, height, width) from that or from (height, width), as a generator's `signal_shape` says it."""
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    if len(sizes) not in (2, 3) or not all(is_count(size) for size in sizes):
        raise ValueError(
            f"expected shape as (height, width) or (channels, height, width), integers >= 1, got {shape!r}; "
            "pass the picture's, e.g. (28, 28)"
        )
    channels, height, width = (1, *sizes)[-3:]
    return int(channels), int(height), int(width)


def is_count(value: object) -> bool:
    """Whether it is an integer >= 1."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def read_places(rows: object, shape: tuple[int, int, int], what: str) -> Tensor:
    """Places in a grid of height x width, row by row: integers from 0, or a bool grid that is True where they are.

    Raises TypeError for other kinds, ValueError for none, for places outside of the grid, and for one that comes twice.
    """
    size, (_, height, width) = prod(shape[1:]), shape
    if isinstance(rows, Sequence) and not isinstance(rows, str) and all(is_count(row) or row == 0 for row in rows):
        rows = np.array(rows, dtype=np.int64)
    if not isinstance(rows, (Tensor, np.ndarray)):
        raise TypeError(f"expected {what} as integers, or a bool grid ({height}, {width}), got {_kind(rows)}; use a tensor")
    device = rows.device if isinstance(rows, Tensor) else torch.device("cpu")
    places = read_numbers(rows, what, device, "ib", "use rows.long(), or a bool grid")
    if places.dtype == torch.bool:
        if places.numel() != size:
            raise ValueError(f"expected {what} as a bool grid ({height}, {width}), got {_kind(rows)}; correct its shape")
        places = places.reshape(-1).nonzero()[:, 0]
    places = places.reshape(-1).long()
    if len(places) == 0:
        raise ValueError(f"expected at least one of {what}, got none; say which entries of the grid are measured")
    if int(places.min()) < 0 or int(places.max()) >= size:
        worst = int(places.min()) if int(places.min()) < 0 else int(places.max())
        raise ValueError(
            f"expected {what} from 0 to {size - 1} for pictures ({height}, {width}), got {worst}; "
            "entry (i, j) of the grid is i * width + j"
        )
    values, counts = places.unique(return_counts=True)
    if int(counts.max()) > 1:
        twice = int(values[counts.argmax()])
        raise ValueError(f"expected {what} once each, got {twice} {int(counts.max())} times; leave the others out")
    return places


def read_kernel(kernel: object, channels: int) -> Tensor:
    """Numbers of a kernel, `(height, width)`, or `(channels, height, width)` with one for each channel; not all zeros."""
    device = kernel.device if isinstance(kernel, Tensor) else torch.device("cpu")
    numbers = read_numbers(kernel, "a kernel", device, "f", "use kernel.double()")
    if numbers.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected a kernel in float32 or float64, got {_kind(numbers)}; use kernel.double()")
    fits = numbers.ndim == 2 or (numbers.ndim == 3 and len(numbers) == channels)
    if not fits or numbers.numel() == 0:
        raise ValueError(
            f"expected a kernel (height, width), or one for each of {channels} channels, got {_kind(numbers)}; "
            "reshape a kernel of one axis to (1, width)"
        )
    if not torch.isfinite(numbers).all():
        raise ValueError("expected a finite kernel, got NaN or inf in it; clean it first")
    if not numbers.any():
        raise ValueError("expected a kernel that measures something, got all zeros; pass its weights")
    return numbers
