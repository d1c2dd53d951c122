"""Who takes part: methods by name, objects, or both under names of the user's; and each with the same number of starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ...inputs import describe
from ..method import AbstractMethod, as_method, in_words, options_of
from ..methods import METHODS

ALL = "all"


@dataclass(frozen=True, eq=False)
class Contestant:
    """A method under the name that tables give it; method: None where it cannot be made, for the reason that is said."""

    name: str
    method: AbstractMethod | None
    reason: str = ""


def contestants(methods: object, restarts: int | None) -> tuple[Contestant, ...]:
    """The methods that are meant, each with `restarts` random starts at most where it has that option; None: its own number.

    methods: "all", which is every one of `METHODS`; a name, an object, several of these, or a mapping from names to them.
    Raises TypeError, or ValueError for an unknown name, for none at all, and for two of one name.
    """
    found = [_contestant(name, method, restarts) for name, method in _named(methods)]
    if not found:
        raise ValueError('expected at least one method, got none; pass "all", or some of ' + ", ".join(METHODS))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"expected methods of different names, got {names.count(name)} of the name {name!r}; pass a mapping "
                "from names of your own to methods"
            )
    return tuple(found)


def _named(methods: object) -> list[tuple[str, Any]]:
    """Names and what stands for the methods; two of one class are told apart by their options."""
    if isinstance(methods, str) and methods == ALL:
        return [(name, name) for name in METHODS]
    if isinstance(methods, Mapping):
        return [(str(name), method) for name, method in methods.items()]
    if isinstance(methods, str | AbstractMethod):
        methods = [methods]
    if not isinstance(methods, Sequence):
        raise TypeError(
            f'expected methods as "all", names, objects such as Hybrid(restarts=20), or a mapping from names to these, got '
            f"{describe(methods)}"
        )
    plain = [method.name if isinstance(method, AbstractMethod) else method for method in methods]
    return [
        (_with_options(method) if plain.count(name) > 1 else name, method)
        for name, method in zip(plain, methods, strict=True)
    ]


def _with_options(method: object) -> Any:
    """The method's name and the options that it was told."""
    if not isinstance(method, AbstractMethod):
        return method
    told = ", ".join(f"{name}={value}" for name, value in in_words(method, {}).items())
    return f"{method.name}({told})" if told else method.name


def _contestant(name: str, method: object, restarts: int | None) -> Contestant:
    if isinstance(method, str) and method in METHODS:
        try:
            made: AbstractMethod = METHODS[method]()
        except TypeError as error:  # a field without a default
            return Contestant(name, None, f"it needs options, pass an object: {error}")
    else:
        made = as_method(method, {}, METHODS)
    try:
        return Contestant(name, made if restarts is None else _with_restarts(made, restarts))
    except ValueError as error:
        return Contestant(name, None, str(error))


def _with_restarts(method: AbstractMethod, restarts: int) -> AbstractMethod:
    holder = options_of(type(method)).get("restarts")
    if holder is None:
        return method
    held: Any = restarts if holder == "restarts" else replace(getattr(method, holder), restarts=restarts)
    return replace(cast(Any, method), **{holder: held})  # every method is a dataclass
