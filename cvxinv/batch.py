"""What belongs to a batch of signals: which fields are per signal, said once, where a field is declared.

`take`, `joined` and `to` follow from it, and so do the tables of files. A field that says nothing is shared by all signals.
"""

from collections.abc import Callable
from dataclasses import Field, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

_KEY = "per signal"


def per_signal(*, ndim: int | None = None, **options: Any) -> Any:
    """A dataclass field with one entry per signal along its first axis.

    Its value is a tensor, a numpy array, a `Batch`, or a tuple or list with one entry per signal; None stays None. ndim: a
    tensor of fewer axes is shared, as a bias `(m,)` beside one `(N, m)`. options: as for `dataclasses.field`.
    """
    return field(metadata={_KEY: 0 if ndim is None else ndim}, **options)


def each_per_signal(**options: Any) -> Any:
    """A dataclass field that is a tuple or a dict of values each of which has one entry per signal."""
    return field(metadata={_KEY: "each"}, **options)


def shared(**options: Any) -> Any:
    """A dataclass field that all signals share, as one without a word; for those that stand behind fields per signal."""
    return field(**options)


class Batch:
    """A dataclass of N signals; fields declared with `per_signal` or `each_per_signal` have an entry for each of them."""

    def take(self, index: Tensor | slice) -> Self:
        """The signals at `index`: a bool mask `(N,)`, positions, or a slice; on any device."""
        if isinstance(index, Tensor) and index.dtype == torch.bool:
            index = index.nonzero()[:, 0]  # once: each field that a mask is used on would wait for its device
        held = [(f, getattr(self, f.name)) for f in _per_signal_fields(type(self))]
        return self._changed({f.name: _taken(value, index, f) for f, value in held if value is not None})

    @classmethod
    def joined(cls, parts: "list[Self]") -> Self:
        """The signals of all parts, in their order; what is shared is taken from the first."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        return first._changed(
            {f.name: _joined([getattr(p, f.name) for p in parts], f) for f in _per_signal_fields(type(first))}
        )

    def put(self, index: Tensor | slice, part: Self) -> None:
        """Write the signals of `part` over those at `index`, in place, in this batch's own types; shared fields stay.

        For whoever made the batch and has not given it away: tensors and arrays are written to, also of a frozen class.
        """
        for f in _per_signal_fields(type(self)):
            value, new = getattr(self, f.name), getattr(part, f.name)
            if f.metadata[_KEY] == "each":
                names = value if isinstance(value, dict) else range(len(value))
                for name in names:
                    _written(value[name], index, new[name])
            elif not _shared(value, f):
                object.__setattr__(self, f.name, _written(value, index, new))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same with floating tensors in another type, and all tensors on another device; shared ones too.

        What is no dataclass holds none that are known of: it stays as it is.
        """
        if not is_dataclass(self):
            return self
        names = [f.name for f in fields(self)]
        return self._changed({name: _cast(getattr(self, name), dtype, device) for name in names})

    def _changed(self, changes: dict[str, Any]) -> Self:
        """The same with other values; classes that check what they are given may leave that out here."""
        return replace(self, **changes)  # type: ignore[type-var]


def differs(value: object) -> bool:
    """Whether a dataclass has a field with one entry per signal, and a value in it that is not shared."""
    if not is_dataclass(value):
        return False
    return any(not _shared(getattr(value, f.name), f) for f in fields(value) if _KEY in f.metadata)


def counts(batch: Batch) -> set[int]:
    """The numbers of entries that its fields per signal hold; none where all that it holds is shared."""
    found = set[int]()
    declared: list[Field] = _per_signal_fields(type(batch)) if is_dataclass(batch) else []
    for f in declared:
        value = getattr(batch, f.name)
        if isinstance(value, Batch):
            found |= counts(value)
        elif not _shared(value, f):
            found.add(len(value))
    return found


def tensor_names(kind: type[Batch]) -> tuple[str, ...]:
    """Names of the fields of a class of batches that are declared as per-signal tensors: a row of a file's table."""
    return tuple(f.name for f in fields(kind) if _KEY in f.metadata and f.type in (Tensor, "Tensor"))  # type: ignore[arg-type]


def _of_class(kind: Any) -> list[Field]:
    return [f for f in fields(kind) if _KEY in f.metadata]


_per_signal_fields: Callable[[Any], list[Field]] = cache(_of_class)  # asked for at every step of every descent


def _shared(value: Any, declared: Field) -> bool:
    least = declared.metadata[_KEY]
    # a callable makes what signals need of signals
    plain = value is None or isinstance(value, (int, float)) or callable(value)
    return plain or (isinstance(value, Tensor) and isinstance(least, int) and value.ndim < least)


def _taken(value: Any, index: Tensor | slice, declared: Field) -> Any:
    if declared.metadata[_KEY] == "each" and value is not None:
        if isinstance(value, dict):
            return {name: _entries(part, index) for name, part in value.items()}
        return type(value)(_entries(part, index) for part in value)
    return value if _shared(value, declared) else _entries(value, index)


def _entries(value: Any, index: Tensor | slice) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, Batch):
        return value.take(index)
    if isinstance(index, slice):
        return value[index]
    if isinstance(value, Tensor):
        return value[index.to(value.device)]
    here = index.cpu().numpy()
    if isinstance(value, np.ndarray):
        return value[here]
    positions = here.nonzero()[0] if here.dtype == bool else here
    return type(value)(value[k] for k in positions.tolist())


def _written(value: Any, index: Tensor | slice, new: Any) -> Any:
    """`value` with the entries `new` at `index`: itself, written to, or another tuple."""
    if isinstance(value, Batch):
        value.put(index, new)
    elif isinstance(value, Tensor):
        value[index if isinstance(index, slice) else index.to(value.device)] = new.to(value)
    elif isinstance(value, np.ndarray):
        value[index if isinstance(index, slice) else index.cpu().numpy()] = new
    elif value is not None:
        entries = list(value)
        positions = np.arange(len(entries))[index if isinstance(index, slice) else index.cpu().numpy()]
        for k, entry in zip(positions.tolist(), new, strict=True):
            entries[k] = entry
        return type(value)(entries)
    return value


def _joined(values: list[Any], declared: Field) -> Any:
    first = values[0]
    if declared.metadata[_KEY] == "each":
        if isinstance(first, dict):
            return {name: _in_line([value[name] for value in values]) for name in first}
        return type(first)(_in_line(list(parts)) for parts in zip(*values, strict=True))
    return first if _shared(first, declared) else _in_line(values)


def _in_line(values: list[Any]) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, Batch):
        return type(first).joined(values)
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    return type(first)(entry for value in values for entry in value)


def _cast(value: Any, dtype: torch.dtype | None, device: torch.device | str | None) -> Any:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if isinstance(value, Batch):
        return value.to(dtype, device)
    if isinstance(value, dict):
        return {name: _cast(part, dtype, device) for name, part in value.items()}
    # words and numbers are no tensors; a NamedTuple could not be made anew like this
    if type(value) in (tuple, list):
        return type(value)(_cast(part, dtype, device) for part in value)
    return value
