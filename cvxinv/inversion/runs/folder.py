"""The folder of a run that is not finished: what is run, and the chunks that are done.

    run.json                            what is run: checksums of all that decides the numbers, and the size of a chunk
    chunks/00000012.safetensors, .json  chunk 12, counted from 0; the JSON file comes last, and with it the chunk is done

Every file is on the disk before it gets its name. Whatever stops a run, and whenever, a chunk is there whole or not at all.
A finished run is an ordinary result: its `result.json` says of what, under `run`, and run.json and chunks/ are gone.
"""

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...entries import Arrays, Entries
from ...files import parse_json, read_head, read_tensors, settle_folder, write_pair, write_whole
from ..storage import RUN, SPEC, TENSORS, ZARR, check_writable

CHUNKS = "chunks"
_FORMAT = "cvxinv run format"
_VERSION = 1
_SHOWN = 8  # things that differ and are named
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")
Meant = Mapping[str, Any]  # what is run: names, and words or checksums of values
log = logging.getLogger("cvxinv")


@dataclass(frozen=True)
class Layout:
    """How a run is cut: signals, and signals at a time."""

    signals: int
    size: int

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.signals // self.size)

    def span(self, k: int) -> tuple[int, int]:
        """First signal of chunk k, and the one after its last."""
        return k * self.size, min((k + 1) * self.size, self.signals)


@dataclass(frozen=True)
class RunFolder:
    """A folder that was opened for a run; layout: how the run is cut, as it was when it began."""

    path: Path
    meant: dict[str, Any]
    layout: Layout

    def begin(self) -> None:
        """Say what is run. Raises OSError."""
        with self.told_why("what is run"):
            (self.path / CHUNKS).mkdir(parents=True, exist_ok=True)
            spec = {"format": _FORMAT, "version": _VERSION, "run": self.meant}
            write_whole(self.path / RUN, json.dumps(spec, indent=1).encode() + b"\n")
            settle_folder(self.path)

    def said(self, unfinished: bool) -> dict[str, Any]:
        """What is run, as a result says it."""
        return self.meant | ({"unfinished": True} if unfinished else {})

    def done(self, read: Callable[[Entries, Arrays, int], T]) -> Iterator[tuple[int, T]]:
        """The chunks that are done and whole, as `read` makes them of words, tensors and how many signals there are.

        What is damaged counts as not done, and is computed again.
        """
        for k in filter(self.there, range(self.layout.count)):
            try:
                spec, tensors = self.read(k)
                words = Entries.of(spec, str(self._file(k, "json")))
                start, stop = self.layout.span(k)
                found = read(words, Arrays(str(self._file(k, "safetensors")), tensors), stop - start)
            except (ValueError, KeyError, TypeError, OSError) as error:  # whatever half a file or another's may raise
                log.warning("chunk %d in %s is damaged and is computed again: %s", k + 1, self.path, error)
                continue
            if not spec.get("unfinished", False):
                yield k, found

    def there(self, k: int) -> bool:
        """Whether anything is kept of chunk k, finished or not."""
        return self._file(k, "json").is_file()

    def count_done(self) -> int:
        """How many chunks are done, by their names alone."""
        return sum(map(self.there, range(self.layout.count)))

    def write(self, k: int, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> None:
        """Keep chunk k; whole or not at all. Raises OSError that says what is kept and how to go on."""
        with self.told_why(f"chunk {k + 1} of {self.layout.count}"):
            write_pair(self._file(k, "safetensors"), dict(tensors), self._file(k, "json"), dict(spec))

    def read(self, k: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What was kept of chunk k: words and tensors. Raises ValueError where the files are damaged."""
        path = self._file(k, "json")
        spec = parse_json(path.read_bytes(), path)
        return spec, read_tensors(self._file(k, "safetensors"), spec["sha256"], path.name, "chunk")

    def finish(self) -> None:
        """Forget the run, where its result is complete."""
        (self.path / RUN).unlink(missing_ok=True)
        shutil.rmtree(self.path / CHUNKS, ignore_errors=True)

    def told_why(self, what: str) -> "_ToldWhy":
        """Around what writes: an OSError then says what is kept and how to go on."""
        return _ToldWhy(self, what)

    def _file(self, k: int, suffix: str) -> Path:
        return self.path / CHUNKS / f"{k:08d}.{suffix}"

    def words(self) -> str:
        """What is kept, in words."""
        kept, chunks = self.count_done(), self.layout.count
        signals = min(kept * self.layout.size, self.layout.signals)
        return f"{kept} of {chunks} chunks, about {signals} of {self.layout.signals} signals, are kept in {self.path}"


class _ToldWhy:
    """An OSError while something is written, as one that says what is kept and how to go on."""

    def __init__(self, folder: RunFolder, what: str):
        self._folder, self._what = folder, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        cure = "free some space" if error.errno in _FULL else "mend that"
        told = OSError(
            f"cannot write {self._what} into {self._folder.path}: {error.strerror or error}; {self._folder.words()}: {cure} "
            "and go on with resume=True"
        )
        told.errno = error.errno
        raise told from error


def stored_run(folder: Path) -> tuple[dict[str, Any] | None, bool]:
    """What was meant by the run that a folder holds, None where it does not say; and whether its result is complete.

    Raises FileNotFoundError where it holds no run and no result, ValueError where the file that says is damaged.
    """
    if (folder / SPEC).is_file():
        words = Entries.of(parse_json((folder / SPEC).read_bytes(), folder / SPEC), str(folder / SPEC))
        run = _read_run(words) if words.has("run") else None
        if run is None or not run.get("unfinished"):
            return run, True
    if not (folder / RUN).is_file():
        raise FileNotFoundError(f"expected a run in {folder}, found none")
    cure = "pass another folder, or overwrite=True"
    return _read_run(Entries(str(folder / RUN), read_head(folder / RUN, _FORMAT, _VERSION, cure))), False


def _read_run(words: Entries) -> dict[str, Any]:
    """What was meant by a run, how it is cut being numbers. Raises ValueError."""
    run = words.inner("run")
    run.count("count", least=1)
    run.count("chunk", least=1)
    if run.has("threads"):
        run.count("threads", least=1)
    if run.has("unfinished"):
        run.yes("unfinished")
    return dict(run.entries)


def words_of_run(folder: Path) -> str:
    """What a folder keeps of a run that is not finished, in words; "" where it holds none."""
    if not (folder / RUN).is_file():
        return ""
    run, _ = stored_run(folder)
    assert run is not None  # the file says
    return RunFolder(folder, run, Layout(int(run["count"]), int(run["chunk"]))).words()


def holds_something(folder: Path) -> bool:
    """Whether a folder holds a result or a run, finished or not."""
    return any((folder / name).exists() for name in (SPEC, RUN))


def open_folder(
    folder: str | Path, meant: dict[str, Any], layout: Layout, *, resume: bool, overwrite: bool, asked: bool
) -> tuple[RunFolder, bool]:
    """The folder of a run, and whether the run is complete; nothing is written, but for what `overwrite` takes away.

    layout: how the run would be cut; a run that is resumed keeps its own unless `asked` says that the user wants this one.
    Raises FileExistsError, ValueError that name what differs, OSError.
    """
    folder = check_folder(folder, resume=resume, overwrite=overwrite)
    if overwrite:
        clear(folder)
    elif not holds_something(folder):  # chunks of a run that is gone
        shutil.rmtree(folder / CHUNKS, ignore_errors=True)
    if not (resume and holds_something(folder)):
        return RunFolder(folder, {**meant, **_cut(layout), "threads": torch.get_num_threads()}, layout), False
    known, complete = stored_run(folder)
    if known is None:
        raise ValueError(
            f"expected a run in {folder} to go on with, got a result that does not say of what; pass another folder, or "
            "overwrite=True"
        )
    size = layout.size if asked else int(known["chunk"])
    meant = {**meant, **_cut(Layout(layout.signals, size)), "threads": known.get("threads")}
    differing = differences(known, meant)
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise ValueError(
            f"expected the run in {folder} to go on as it began, got another: {'; '.join(differing[:_SHOWN])}{more}; pass "
            "the same, or another folder, or begin anew with overwrite=True"
        )
    return RunFolder(folder, meant, Layout(layout.signals, size)), complete


def _cut(layout: Layout) -> dict[str, int]:
    return {"count": layout.signals, "chunk": layout.size}


def check_folder(folder: str | Path, *, resume: bool, overwrite: bool) -> Path:
    """The folder as a path, if a run may begin or go on in it. Raises FileExistsError, ValueError, OSError."""
    if resume and overwrite:
        raise ValueError("expected resume=True or overwrite=True, got both: going on keeps what is there; pass one of them")
    folder = check_writable(folder)
    if resume or overwrite or not holds_something(folder):
        return folder
    what = "a result" if (folder / SPEC).is_file() else "a run that is not finished"
    raise FileExistsError(
        f"expected a folder without results, got {folder}, which holds {what}; go on with resume=True, replace "
        "it with overwrite=True, or pass another folder"
    )


def clear(folder: Path) -> None:
    """Take away the result and the run that a folder holds."""
    spec = _spec_of(folder)
    for name in (SPEC, TENSORS, RUN, *(f"{name}.npy" for name in spec.get("arrays", ()))):
        (folder / name).unlink(missing_ok=True)
    if "arrays" in spec:
        shutil.rmtree(folder / ZARR, ignore_errors=True)
    shutil.rmtree(folder / CHUNKS, ignore_errors=True)


def _spec_of(folder: Path) -> dict[str, Any]:
    """What a result's file says; nothing where there is none that can be read."""
    try:
        spec = json.loads((folder / SPEC).read_bytes())
    except (OSError, ValueError):
        return {}
    return spec if isinstance(spec, dict) else {}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two runs, by name, with the values that can be said."""
    found = []
    for name in [*now, *(name for name in before if name not in now)]:
        a, b = before.get(name), now.get(name)
        if a != b:
            told = not any("sha256 " in str(value) for value in (a, b))
            found.append(f"{name} ({b!r} in place of {a!r})" if told else f"{name} (other values)")
    return found
