"""The same object with the graphs that its tensors came with: what derivatives with respect to them are taken through.

Rows, maps, layer problems, priors and measurements hold plain tensors; `inputs.origin` knows what they were made from. A
live twin is the same dataclass over the origins, in float64, unchecked, with nothing computed yet: what its methods compute
carries the graph. Only what was made from tensors that require gradients has one: `take`, `to` and `joined` leave it behind.
"""

from dataclasses import fields, is_dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .inputs import origin

T = TypeVar("T")


def live(value: T) -> T:
    """`value` with every tensor in it, in dataclasses, tuples, lists and dicts, as it was given, floats in float64."""
    if isinstance(value, Tensor):
        given = origin(value)
        return given.to(torch.float64) if given.is_floating_point() else given  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        twin = object.__new__(type(value))
        for field in fields(value):
            object.__setattr__(twin, field.name, live(getattr(value, field.name)))
        return twin
    if isinstance(value, dict):
        return {name: live(part) for name, part in value.items()}  # type: ignore[return-value]
    if type(value) in (tuple, list):
        return type(value)(live(part) for part in value)  # type: ignore
    return value


def carries_graph(value: object) -> bool:
    """Whether any tensor in `value` was made from one that requires gradients."""
    if isinstance(value, Tensor):
        return origin(value).requires_grad
    if is_dataclass(value) and not isinstance(value, type):
        return any(carries_graph(getattr(value, field.name)) for field in fields(value))
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return any(carries_graph(part) for part in parts)
