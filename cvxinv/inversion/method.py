"""A method of inversion: a frozen dataclass whose fields are its options, from inside or outside the package."""

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from ..batch import Batch
from ..inputs import describe
from ..solvers.solve import check_choice
from .answer import Latents
from .steps.starts import Starts
from .task import Task


class AbstractMethod(Batch, ABC):
    """A way to find z with A G(z) = y. Make yours a frozen dataclass whose fields are its options, and write `run`.

    An option that has an entry per signal is declared with `cvxinv.batch.per_signal`: a chunk of signals gets its part. A
    field whose type is itself a dataclass is a group of options; by name they are given one by one. What cannot be right
    whatever the task is, `__post_init__` refuses. `invert(generator, y, YourMethod(...))` does the rest: it checks signals,
    cuts them to chunks, judges what comes back, and reports; a method's own word about its success is not asked for.

    name: what results call it; the class's name in snake case where left out. priors: whether `run` heeds `task.prior`; one
    that does not is never given one.
    """

    name: ClassVar[str]
    priors: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def told(self, task: Task, truth: Tensor | None) -> Self:
        """The method after it was told the true latents `(N, n0)`, or None: whatever competes forgets them."""
        return self

    def check(self, task: Task) -> None:
        """Refuse what this method cannot do, by name and with a cure. Raises TypeError or ValueError."""

    @abstractmethod
    def run(self, task: Task, starts: Starts) -> Latents:
        """Latents of the task's signals, in float64, as `task.y` is; starts: random latents, the same for every signal.

        `task.residual`, `task.linearize`, `task.merit` and `task.explained` are all it needs to know of generator,
        measurement, noise and prior; `task.progress` moves the bar, `task.step()` counts an iteration. Signals that are not
        `task.usable` hold zeros and may get any z.
        """

    def refine(self, task: Task, z: Tensor) -> Tensor:
        """Latents `(N, n0)` led on from what `run` found, where noise="auto" has estimated the level that `task` now has.

        Left out, they stay as they are.
        """
        return z


def as_method(method: object, options: Mapping[str, Any], known: Mapping[str, type[AbstractMethod]]) -> AbstractMethod:
    """The method that is meant: by the name of one of `known`, with its options, or an object that holds them.

    Raises TypeError for an option that it does not have, ValueError for an unknown name.
    """
    if isinstance(method, AbstractMethod):
        if options:
            raise TypeError(
                f"expected the options of {type(method).__name__} in the object, got {', '.join(options)} beside it; "
                f"pass {type(method).__name__}({', '.join(f'{name}=...' for name in options)})"
            )
        return method
    if isinstance(method, type):
        raise TypeError(f"expected a method as an object, got the class {method.__name__}; pass {method.__name__}(...)")
    if method is not None and not isinstance(method, str):
        raise TypeError(
            f"expected method as one of {', '.join(known)}, or as an object such as Hybrid(restarts=20), got "
            f"{describe(method)}; make a class of your own a cvxinv.AbstractMethod"
        )
    check_choice(method, tuple(known), "method")
    assert method is not None  # refused
    _check_names(method, options, known)
    kind, values, groups = known[method], dict(options), dict[str, dict[str, Any]]()
    for name, holder in options_of(kind).items():
        if name != holder and name in values:
            groups.setdefault(holder, {})[name] = values.pop(name)
    for f in fields(kind) if groups else ():  # type: ignore[arg-type]
        if f.name in groups:
            values[f.name] = replace(values.get(f.name, _default(f)), **groups[f.name])
    return kind(**values)


@cache
def options_of(kind: type[AbstractMethod]) -> dict[str, str]:
    """The options of a method by name, each with the field that holds it: its own, or that of its group."""
    found: dict[str, str] = {}
    for f in fields(kind):  # type: ignore[arg-type]
        found |= {g.name: f.name for g in fields(f.type)} if _is_group(f) else {f.name: f.name}  # type: ignore[arg-type]
    return found


def options(method: AbstractMethod) -> dict[str, Any]:
    """Every option of a method by its name, those of a group too, with its value."""
    found = {}
    for name, holder in options_of(type(method)).items():
        value = getattr(method, holder)
        found[name] = value if name == holder else getattr(value, name)
    return found


def in_words(method: AbstractMethod, said: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were said, or differ from their defaults, as results keep them: numbers and names as they are."""
    usual, found = _usual(type(method)), {}
    for name, value in options(method).items():
        if name in said or not (value is usual[name] or _same(value, usual[name])):
            found[name] = _words(value)
    return found


@cache
def _usual(kind: type[AbstractMethod]) -> dict[str, Any]:
    """The default of each option; where there is none, something that no value is."""
    found: dict[str, Any] = {}
    for f in fields(kind):  # type: ignore[arg-type]
        found |= {g.name: _default(g) for g in fields(f.type)} if _is_group(f) else {f.name: _default(f)}  # type: ignore[arg-type]
    return found


def _check_names(method: str, options: Mapping[str, Any], known: Mapping[str, type[AbstractMethod]]) -> None:
    if not options:
        return
    taken = {name: {**options_of(kind), **dict.fromkeys(options_of(kind).values())} for name, kind in known.items()}
    for name in options:
        if name in taken[method]:
            continue
        owners = [m for m, names in taken.items() if name in names]
        if owners:
            raise TypeError(f"method {method!r} has no option {name!r}; it belongs to {', '.join(owners)}")
        near = difflib.get_close_matches(
            name, [*taken[method], "measurement", "noise", "prior", "truth", "seed", "chunk"], n=1
        )
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TypeError(f"unknown option {name!r}: {hint}{method} takes {', '.join(options_of(known[method]))}")


def _is_group(f: Field) -> bool:
    return isinstance(f.type, type) and is_dataclass(f.type)


def _default(f: Field) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _same(value: Any, usual: Any) -> bool:
    plain = isinstance(value, (int, float, str, tuple)) and type(value) is type(usual)
    return plain and not _holds_arrays(value) and value == usual


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(v, (Tensor, np.ndarray)) for v in value)


def _words(value: Any) -> Any:
    """Callables and masks only as what was given."""
    if isinstance(value, (int, float, str, type(None))):
        return value
    if isinstance(value, Batch):
        return "an earlier result"
    if isinstance(value, Mapping):
        return f"given for {', '.join(str(k) for k in sorted(value))}"
    if callable(value):
        return (
            f"given: {type(value).__name__ if isinstance(value, nn.Module) else getattr(value, '__name__', describe(value))}"
        )
    if isinstance(value, Tensor) and value.ndim == 2:
        return f"{len(value)} given"
    return f"{len(value)} given" if _holds_arrays(value) else repr(value)
