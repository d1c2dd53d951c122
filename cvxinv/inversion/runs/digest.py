"""What a value is, as a checksum: two runs whose values have the same ones compute the same numbers.

Tensors and arrays count by type, shape and bytes, dataclasses by their fields, modules by class and state, functions by
their code and what they close over; what is worked out from these and kept aside does not count.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, type(Ellipsis), range, slice)
_LENGTH = 16  # bytes of sha256 that are kept


def digest(value: object) -> str:
    """The checksum of a value, in hexadecimal digits."""
    mark = hashlib.sha256()
    _feed(mark, value, frozenset())
    return mark.digest()[:_LENGTH].hex()


def in_a_word(value: object) -> str | int | float | bool | None:
    """A plain value as it is, any other by its checksum, as JSON holds it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return f"sha256 {digest(value)}"


def _feed(mark: Any, value: Any, above: frozenset[int]) -> None:
    """above: what the value stands in, by identity, so that what holds itself has an end."""
    if id(value) in above:
        return mark.update(b"above;")
    if isinstance(value, _PLAIN):
        return mark.update(f"{type(value).__name__}:{value!r};".encode())
    above = above | {id(value)}
    mark.update(f"{type(value).__module__}.{type(value).__qualname__}(".encode())
    if isinstance(value, Tensor) and value.layout != torch.strided:
        whole = value.detach().to_sparse_coo().coalesce()
        value = (tuple(whole.shape), whole.indices(), whole.values())
    if isinstance(value, (Tensor, np.ndarray)):
        _feed_numbers(mark, value)
    else:
        for part in _parts(value):
            _feed(mark, part, above)
    mark.update(b")")


def _feed_numbers(mark: Any, value: Tensor | np.ndarray) -> None:
    if isinstance(value, Tensor):
        mark.update(f"{value.dtype},".encode())
        # the bytes as they are: not every type of torch is one of numpy
        value = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        # one number that stands for many may have the stride 0
        flat = value.reshape(-1) if value.numel() > 1 else value.reshape(-1).clone(memory_format=torch.contiguous_format)
        shape, raw = value.shape, flat.view(torch.uint8).numpy()
    else:
        shape, raw = value.shape, np.ascontiguousarray(value)  # type: ignore[assignment]
        mark.update(f"{value.dtype.str},".encode())
    mark.update(f"{tuple(shape)}:".encode())
    mark.update(raw.reshape(-1).view(np.uint8).data if raw.size else b"")


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of."""
    if isinstance(value, Mapping):
        return sorted(((repr(key), entry) for key, entry in value.items()), key=lambda pair: pair[0])
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, np.generic):
        return (value.item(),)
    if isinstance(value, nn.Module):
        return (repr(value), value.training, dict(value.state_dict()), _own(value))
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return (value.__code__, value.__defaults__, value.__kwdefaults__, cells, _named(value))
    if isinstance(value, CodeType):
        return (value.co_code, value.co_names, value.co_varnames, value.co_consts)
    if isinstance(value, MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, partial):
        return (value.func, value.args, value.keywords)
    if isinstance(value, (type, ModuleType, BuiltinFunctionType)):
        return (getattr(value, "__module__", ""), getattr(value, "__qualname__", getattr(value, "__name__", "")))
    return _of_object(value)


def _named(function: FunctionType) -> list[tuple[str, Any]]:
    """The globals that a function names: numbers, tensors and functions of the same file among them; modules by name."""
    found = [(name, function.__globals__[name]) for name in function.__code__.co_names if name in function.__globals__]
    return [pair for pair in found if not isinstance(pair[1], ModuleType)]


def _own(module: nn.Module) -> dict[str, Any]:
    """Plain attributes of a module, such as the number of a layer that its state does not hold."""
    return {k: v for k, v in vars(module).items() if not k.startswith("_") and isinstance(v, (*_PLAIN, tuple, list))}


def attributes(value: Any) -> list[tuple[str, Any]]:
    """Names and values of an object's attributes, of a dataclass its fields; without what a class works out once."""
    if is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in fields(value)]
    bases = type(value).__mro__
    worked_out = {name for base in bases for name, held in vars(base).items() if isinstance(held, cached_property)}
    return sorted(((k, v) for k, v in vars(value).items() if k not in worked_out), key=lambda pair: pair[0])


def _of_object(value: Any) -> Iterable[Any]:
    """An object by its attributes; one without any by its pickle, or its words."""
    if is_dataclass(value) or getattr(value, "__dict__", None) is not None:
        return attributes(value)
    try:
        return (value.__reduce_ex__(4)[1:3],)
    except TypeError:
        return (repr(value),)
