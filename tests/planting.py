"""Packages of edited source texts, which nobody else can import: where tests plant their faults."""

import importlib
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import cvxinv as ci
from cvxinv.layers.core.problem import AbstractLayerProblem


@contextmanager
def planted_copy(folder: Path, name: str, place: str, old: str, new: str, room: Path) -> Iterator[str]:
    """The name of a package that is `folder` with `old` made `new` in the file `place`; its files lie in `room`.

    A text that is not found fails, so that lists of faults cannot rot.
    """
    shutil.copytree(folder, room / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = room / name / f"{place}.py"
    source = path.read_text()
    assert old in source, f"{place}.py no longer holds {old!r}: renew the list of faults"
    path.write_text(source.replace(old, new))
    ci.__path__.append(str(room))
    importlib.invalidate_caches()
    try:
        yield f"cvxinv.{name}"
    finally:
        ci.__path__.remove(str(room))
        for known in [known for known in sys.modules if known.startswith(f"cvxinv.{name}")]:
            del sys.modules[known]
        vars(ci).pop(name, None)


@contextmanager
def planter(
    folder: Path, name: str, made: Callable[[str], SimpleNamespace], room: Path
) -> Iterator[Callable[[str, str, str], SimpleNamespace]]:
    """A function of place, old and new: what `made` makes of the package that `planted_copy` names."""
    with ExitStack() as stack:
        yield lambda place, old, new: made(stack.enter_context(planted_copy(folder, name, place, old, new, room)))


def spoil(monkeypatch: pytest.MonkeyPatch, place: str, old: str, new: str) -> None:
    """A fault in the module `place`: what the edited text defines takes the place of what cvxinv has under these names.

    Layer problems, which others inherit from, keep their classes, which get the edited functions instead. A text that is not
    found fails.
    """
    original = sys.modules[place]
    text = Path(str(original.__file__)).read_text()
    assert old in text, f"{place} no longer holds {old!r}: renew the list of faults"
    room, _, stem = place.rpartition(".")
    module = types.ModuleType(f"{room}.planted_{stem}")
    module.__package__ = room
    sys.modules[module.__name__] = module  # dataclasses look up their module
    try:
        exec(compile(text.replace(old, new), f"planted {stem}.py", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    users = [user for key, user in sys.modules.items() if key.startswith("cvxinv.")]
    for name, theirs in list(vars(original).items()):
        if getattr(theirs, "__module__", None) != place:
            continue
        if isinstance(theirs, type) and issubclass(theirs, AbstractLayerProblem):
            for key, mine in vars(vars(module)[name]).items():
                if key in vars(theirs) and not key.startswith(("__", "_abc")):
                    monkeypatch.setattr(theirs, key, mine)
            vars(module)[name] = theirs
            continue
        for user in users:
            if vars(user).get(name) is theirs:
                monkeypatch.setattr(user, name, vars(module)[name])
