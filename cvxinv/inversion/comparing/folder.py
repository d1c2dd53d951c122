"""The folder of a comparison that is not finished: what is compared, and a folder of its own for each method.

    comparing.json     what is compared: checksums of all that decides the numbers, and of each method's options
    <method>/          the run of one method (`runs.folder`); its turn is over where it holds a result

A comparison that goes on reads what is done, goes on with what is begun, and takes methods that were not asked for before.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...entries import Entries
from ...files import read_head, write_whole
from ..runs.folder import differences
from ..storage import SPEC, check_writable

_HEAD = "comparing.json"
FILES = ("comparison.json", "comparison.safetensors", "report.html", _HEAD)
_FORMAT, _VERSION = "cvxinv comparison run format", 1
_CURE = "pass another folder, or overwrite=True"


@dataclass(frozen=True)
class ComparisonFolder:
    """A folder that was opened for a comparison; methods: checksums of the options of each method by its name."""

    path: Path
    shared: dict[str, Any]
    methods: dict[str, dict[str, Any]]

    def of(self, name: str) -> Path:
        """The folder of a method's run."""
        return self.path / folder_name(name)

    def done(self, name: str) -> bool:
        """Whether a method's turn is over."""
        return (self.of(name) / SPEC).is_file()

    def begin(self) -> None:
        """Say what is compared. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        spec = {"format": _FORMAT, "version": _VERSION, "shared": self.shared, "methods": self.methods}
        write_whole(self.path / _HEAD, json.dumps(spec, indent=1).encode() + b"\n")


def folder_name(name: str) -> str:
    """A name for a folder: the method's, where that is one, else what of it can stand in one and a few digits."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def words_of_comparison(folder: Path) -> str:
    """What a folder keeps of a comparison, in words; "" where it holds none."""
    if not (folder / _HEAD).is_file():
        return ""
    known = _read(folder)
    done = sum((folder / folder_name(name) / SPEC).is_file() for name in known["methods"])
    return f"{done} of {len(known['methods'])} methods are kept in {folder}"


def open_comparison(
    folder: str | Path, shared: dict[str, Any], methods: dict[str, dict[str, Any]], *, resume: bool, overwrite: bool
) -> ComparisonFolder:
    """The folder, where a comparison may begin or go on in it; nothing is written, but for what `overwrite` takes away.

    Raises FileExistsError, ValueError that name what differs, OSError.
    """
    folder = check_comparison_folder(folder, resume=resume, overwrite=overwrite)
    if not (folder / _HEAD).is_file():
        return ComparisonFolder(folder, shared, methods)
    known = _read(folder)
    if overwrite:
        for name in known["methods"]:
            shutil.rmtree(folder / folder_name(name), ignore_errors=True)
        for name in (_HEAD, "comparison.json", "comparison.safetensors"):
            (folder / name).unlink(missing_ok=True)
        return ComparisonFolder(folder, shared, methods)
    same = {name: words for name, words in known["methods"].items() if name in methods}
    differing = differences(known["shared"], shared)
    differing += [f"{name}: {word}" for name, words in same.items() for word in differences(words, methods[name])]
    if differing:
        raise ValueError(
            f"expected the comparison in {folder} to go on as it began, got another: {'; '.join(differing[:8])}; pass the "
            f"same, or {_CURE.removeprefix('pass ')}"
        )
    return ComparisonFolder(folder, shared, {**known["methods"], **methods})


def check_comparison_folder(folder: str | Path, *, resume: bool, overwrite: bool) -> Path:
    """The folder as a path, if a comparison may begin or go on in it. Raises FileExistsError, ValueError, OSError."""
    if resume and overwrite:
        raise ValueError("expected resume=True or overwrite=True, got both: going on keeps what is there; pass one of them")
    folder = check_writable(folder, FILES)
    if (folder / _HEAD).is_file() and not (resume or overwrite):
        raise FileExistsError(
            f"expected a folder without a comparison, got {folder}, which holds one; go on with resume=True, "
            "replace it with overwrite=True, or pass another folder"
        )
    return folder


def _read(folder: Path) -> dict[str, Any]:
    words = Entries(str(folder / _HEAD), read_head(folder / _HEAD, _FORMAT, _VERSION, _CURE))
    methods = words.inner("methods")
    return {
        "shared": dict(words.inner("shared").entries),
        "methods": {name: dict(methods.inner(name).entries) for name in methods.entries},
    }
