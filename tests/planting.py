"""Packages of edited source texts, which nobody else can import: where tests plant their faults."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import cvxinv as ci


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
