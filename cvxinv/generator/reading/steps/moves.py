"""Steps that only move numbers: each is run on the numbers of the cells in place of what they hold."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .call import CHAIN, Call, RefusedError, saying

# what they put beside the numbers they move stands in these arguments; in cells of numbers a constant is 0
_FILLS = {"constant_pad_nd": (2, "value"), "masked_fill": (2, "value"), "index_fill": (3, "value"), "scatter": (3, "value")}
# fmt: off
_MOVES = (
    "clone", "_to_copy", "to", "cat", "stack", "index",
    "index_select", "gather", "take", "flip", "roll", "rot90",
    "repeat", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "where",
    "masked_fill", "reflection_pad1d", "reflection_pad3d", "replication_pad1d", "replication_pad3d", "im2col",
    "copy", "index_put", "index_copy", "index_fill", "scatter", "select_scatter",
    "slice_scatter", "lift_fresh", "contiguous", "unfold_copy", "tile", "fill",
    "zero", "_unsafe_view", "_reshape_alias", "native_channel_shuffle", "_unsafe_index",
)
# fmt: on


@saying(*_MOVES)
def move(call: Call) -> None:
    """Which number went where shows on their numbers."""
    if not call.out.is_floating_point():
        raise RefusedError(f"to {call.out.dtype}")
    points = {id(found[0]): found[0] for t in call.followed if (found := call.book.look(t))}
    if len(points) != 1:
        raise RefusedError("", expected=CHAIN)
    (point,) = points.values()
    call.moved(point, _numbers(call))


def _numbers(call: Call) -> Tensor:
    if call.name in ("fill", "zero"):
        return torch.zeros(call.out.shape, dtype=torch.float64)
    args, kwargs = tree_map(lambda value: _in_numbers(call, value), (call.args, call.kwargs))
    args = list(args)
    if call.name in _FILLS:
        index, name = _FILLS[call.name]
        if name in kwargs:
            kwargs[name] = 0.0
        elif len(args) > index and isinstance(args[index], int | float):
            args[index] = 0.0
    kwargs.pop("dtype", None)
    return call.func(*args, **kwargs).double()


def _in_numbers(call: Call, value: Any) -> Any:
    """A tensor's numbers; zeros for a constant; an index as it is."""
    if not isinstance(value, Tensor):
        return value
    found = call.book.look(value)
    if found is not None:
        return found[1].clone()
    return torch.zeros_like(value, dtype=torch.float64) if value.is_floating_point() else value
