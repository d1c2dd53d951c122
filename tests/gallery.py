"""The worked layer problems of problems/layers, for tests that run over every instance.

problems/ is no package and is imported by nobody: its files are loaded by path. The page that they share they find beside
them as scripts, and here on pytest's path.
"""

import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

LAYERS = Path(__file__).resolve().parent.parent / "problems" / "layers"
PAGE = "page"  # what the problems share, and no problem


@cache
def load(path: Path) -> ModuleType:
    """Load one Python file by its path, under a name nothing else can import."""
    spec = importlib.util.spec_from_file_location(f"problem_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected a Python file, got {path}; pass the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> tuple[str, ...]:
    """Name every worked layer problem: the file names in problems/layers, in order; a new file joins by itself."""
    return tuple(sorted(path.stem for path in LAYERS.glob("*.py") if path.stem != PAGE))


def problem(name: str) -> ModuleType:
    """Load the file of one layer problem, with its `transcription` and `INSTANCES`."""
    return load(LAYERS / f"{name}.py")


def instances(name: str) -> tuple[Any, ...]:
    """Give the instances of one layer problem, say "nonnegative_lasso"."""
    return problem(name).INSTANCES


def gallery() -> Iterator[tuple[str, Any]]:
    """Yield (problem name, instance) over every file in problems/layers."""
    for name in names():
        for instance in instances(name):
            yield name, instance
