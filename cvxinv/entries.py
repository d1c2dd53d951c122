"""Entries of files, checked as they are read: each has its type, its length, its shape and its words, or is named.

The words of a JSON file and the tensors of the safetensors file beside it may have been changed by hand, cut short or
written by something else. What is read through `Entries` and `Arrays` is of the kind that was asked for; everything else
raises a ValueError that names the file, the entry, what was expected and what is there.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from .inputs import is_finite

_CURE = "it was changed by hand, damaged, or written by another version: copy the folder again, or make it anew"
_KINDS = {"floats": "f", "integers": "iu", "bools": "b"}
_LONGEST = 60  # characters of what is there that are told


@dataclass(frozen=True)
class Entries:
    """The entries of an object in a JSON file. place: the file, in words; under: the object's own name in it, or ""."""

    place: str
    entries: Mapping[str, Any]
    under: str = ""

    @staticmethod
    def of(value: Any, place: str, under: str = "") -> "Entries":
        """The entries of what should be an object. Raises ValueError where it is none."""
        if not isinstance(value, dict):
            refuse(place, under, "an object", value)
        return Entries(place, value, under)

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Raises ValueError: the entry is not what was expected, in words."""
        refuse(self.place, self._named(name), expected, self.entries.get(name, _Missing))

    def plain(self, name: str) -> Any:
        """The entry, whatever it is."""
        return self.entries[name] if name in self.entries else self.refuse(name, "an entry")

    def has(self, name: str) -> bool:
        """Whether it is there, and not null."""
        return self.entries.get(name) is not None

    def text(self, name: str, among: Collection[str] = ()) -> str:
        """A text; among: those that are known, where not all are."""
        value = self.entries.get(name)
        if not isinstance(value, str) or (among and value not in among):
            self.refuse(name, _one_of(among))
        return value

    def texts(self, name: str, count: int | None = None, among: Collection[str] = ()) -> list[str]:
        """A list of texts; count: of how many."""
        value, what = self.entries.get(name), _one_of(among)
        many = "a list" if count is None else f"a list of {count}"
        if not isinstance(value, list) or len(value) != (len(value) if count is None else count):
            self.refuse(name, f"{many}, each {what}")
        for k, one in enumerate(value):
            if not isinstance(one, str) or (among and one not in among):
                refuse(self.place, f"{self._named(name)}[{k}]", what, one)
        return value

    def yes(self, name: str) -> bool:
        """A truth value."""
        value = self.entries.get(name)
        return value if isinstance(value, bool) else self.refuse(name, "true or false")

    def number(self, name: str, least: float = float("-inf"), above: float = float("-inf")) -> float:
        """A finite number >= least and > above."""
        value = self.entries.get(name)
        if not (is_finite(value) and value >= least and value > above):
            bounds = f" >= {least:g}" if least > float("-inf") else f" > {above:g}" if above > float("-inf") else ""
            self.refuse(name, f"a finite number{bounds}")
        return float(value)

    def count(self, name: str, least: int = 0) -> int:
        """An integer >= least."""
        value = self.entries.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.refuse(name, f"an integer >= {least}")
        return value

    def inner(self, name: str) -> "Entries":
        """An object."""
        value = self.entries.get(name, _Missing)
        return Entries.of(value, self.place, self._named(name))

    def inners(self, name: str) -> "list[Entries]":
        """A list of objects."""
        value = self.entries.get(name)
        if not isinstance(value, list):
            self.refuse(name, "a list of objects")
        return [Entries.of(one, self.place, f"{self._named(name)}[{k}]") for k, one in enumerate(value)]

    def numbers(self, name: str, least: float = float("-inf")) -> dict[str, float]:
        """An object of finite numbers >= least, by name."""
        inner = self.inner(name)
        return {key: inner.number(key, least) for key in inner.entries}

    def each_number(self, name: str, count: int | None = None) -> list[float | None]:
        """A list of numbers, null for what is not finite; count: of how many."""
        value = self.entries.get(name)
        there: list[Any] = value if isinstance(value, list) and count in (None, len(value)) else [""]
        if not all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in there):
            self.refuse(name, "a list of numbers" if count is None else f"a list of {count} numbers")
        return there

    def same(self, name: str, value: Any) -> None:
        """Nothing: an entry that follows from others, and must be what they say."""
        if self.plain(name) != value:
            self.refuse(name, f"{json.dumps(value)}, as other entries say")

    def names(self, name: str) -> dict[str, str]:
        """An object of texts, by name."""
        inner = self.inner(name)
        return {key: inner.text(key) for key in inner.entries}

    def _named(self, name: str) -> str:
        return f"{self.under}.{name}" if self.under else name


@dataclass(frozen=True)
class Arrays:
    """The tensors of a file. place: the file, in words; before: what stands before each name in it."""

    place: str
    tensors: Mapping[str, Tensor]
    before: str = ""

    def under(self, before: str) -> "Arrays":
        """Those whose names begin so, under what is left of them."""
        return Arrays(self.place, self.tensors, self.before + before)

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return self.before + name in self.tensors

    def floats(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of floats; shape: None where any length will do."""
        return self._read(name, shape, "floats")

    def integers(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of integers."""
        return self._read(name, shape, "integers")

    def bools(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of bools."""
        return self._read(name, shape, "bools")

    def like(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of any of these types."""
        return self._read(name, shape, "numbers")

    def rows(self, name: str, count: int) -> Tensor:
        """A tensor of any of these types, of so many rows, each of any shape."""
        there = self.tensors.get(self.before + name)
        return self._read(name, (count, *(None,) * (max(there.ndim, 1) - 1 if there is not None else 0)), "numbers")

    def _read(self, name: str, shape: Sequence[int | None], kind: str) -> Tensor:
        tensor = self.tensors.get(self.before + name)
        wanted = f"{kind} of shape ({', '.join('any' if n is None else str(n) for n in shape)})"
        if tensor is None:
            refuse(self.place, self.before + name, wanted, _Missing)
        fits = tensor.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, tensor.shape, strict=True))
        letter = "f" if tensor.is_floating_point() else "b" if tensor.dtype == torch.bool else "iu"
        known = not tensor.is_complex() and (kind == "numbers" or _KINDS[kind] == letter)
        if not fits or not known:
            got = f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
            where = f'"{self.before + name}" in {self.place}'
            raise ValueError(f"expected {where} as {wanted}, got {got}; {_CURE}")
        return tensor


class _Missing:
    """Of an entry that is not there."""


def refuse(place: str, name: str, expected: str, got: Any) -> NoReturn:
    """Raises the ValueError for an entry that is not what was expected."""
    where = f'"{name}" in {place}' if name else place
    told = "none" if got is _Missing else json.dumps(got, default=str)
    told = told if len(told) <= _LONGEST else f"{told[: _LONGEST - 4]} ..."
    raise ValueError(f"expected {where} as {expected}, got {told}; {_CURE}")


def _one_of(among: Collection[str]) -> str:
    return f"one of {', '.join(among)}" if among else "a text"
