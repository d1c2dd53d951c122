"""`invert_stream`: any number of signals, read and answered a chunk at a time, in the memory of one chunk.

The folder holds the run as `folder` says while it goes on, a chunk's rows of each column in its file. In the end the chunks
become one array per column, `z.npy` and so on, or the arrays of `result.zarr`, and `result.json` (docs/results.md).
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...entries import Arrays, Entries
from ...files import read_head, settle_folder, write_whole
from ...generator.abstract import AbstractGenerator
from ...inputs import plain_number, read_seed
from ...solvers.solve import check_choice
from ...surroundings import undisturbed
from ..level import check_level
from ..method import AbstractMethod, as_method, in_words
from ..methods import METHODS
from ..options import positive
from ..proof_files import read_settings
from ..result import Inversion, task_words, versions
from ..storage import SPEC, ZARR
from ..task import read_task
from ..verify import INVERSION_STATUSES, USER_LIMIT, Verdict
from .digest import in_a_word
from .engine import Work, check_cluster, with_threads
from .folder import Layout, RunFolder, check_folder, open_folder
from .meant import shared_words
from .rows import Rows, is_zarr, open_rows, zarr_module
from .watch import Callback, Watch
from .work import Chunk, told_often

FORMAT = "cvxinv streamed result format"
_VERSION = 1
STORES = ("npy", "zarr")
KEEP = ("signal", "hidden", "z_std")


@dataclass
class Stream:
    """Signals to invert in parts: what every chunk is told, and the rows it reads."""

    generator: AbstractGenerator
    method: AbstractMethod
    rows: Rows
    masks: Rows | None
    measurement: object
    noise: object
    prior: object
    seed: int

    def chunk(self, start: int, stop: int) -> Chunk:
        """The signals from `start` to `stop`, read and checked."""
        seen = self.measurement if self.masks is None else torch.as_tensor(self.masks.part(start, stop))
        y = self.rows.part(start, stop)
        task = read_task(self.generator, y, seen, self._noise(start, stop), self.prior)
        dtype, task = task.y.dtype, task.to(torch.float64)
        return Chunk(task, self.method.take(slice(start, stop)), None, self.seed, dtype)

    def _noise(self, start: int, stop: int) -> object:
        if isinstance(self.noise, tuple) and isinstance(self.noise[1], (Tensor, np.ndarray)) and self.noise[1].ndim == 1:
            return self.noise[0], self.noise[1][start:stop]
        return self.noise

    def words(self, ran: dict[str, str]) -> dict[str, Any]:
        """What the run is, with a checksum of all rows."""
        words = shared_words(self.generator, self.method, self.prior, self.seed, ran)
        return words | {
            "signals": self.rows.checksum(),
            "measurement": in_a_word(self.measurement) if self.masks is None else self.masks.checksum(),
            "noise": in_a_word(self.noise),
        }


@undisturbed
def invert_stream(
    generator: AbstractGenerator,
    source: object,
    folder: str | Path,
    method: str | AbstractMethod = "hybrid",
    *,
    measurement: object = None,
    noise: object = None,
    prior: object = None,
    seed: int = 0,
    chunk: int | None = None,
    keep: tuple[str, ...] = (),
    store: str = "npy",
    progress: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    signal_time_limit: float | None = None,
    callback: Callback | None = None,
    cluster: object = None,
    **options: Any,
) -> "StreamedInversion":
    """Invert any number of signals in the memory of one chunk, and write what comes out as arrays into `folder`.

    source: a path to `.npy`, which is memory-mapped, or to a zarr array, or such an array, `(N, d)` or `(N, *signal_shape)`.
    measurement: as in `invert`, or a mask per signal in the same forms as source, `(N, d)`. store: "npy" or "zarr" (extra
    `[data]`). keep: of "signal", G(z) `(N, d)`, "hidden" and, of gaussian noise, "z_std" `(N, n0)`, what is written too.
    All else as in `invert` with `checkpoint=folder`: chunks are kept as they are done, and resume goes on.

    Returns a `StreamedInversion`, which reads what is asked of it. Raises as `invert`; BackendNotInstalledError.
    """
    check_choice(store, STORES, "store")
    for name in keep:
        check_choice(name, KEEP, "keep")
    folder = check_folder(folder, resume=resume, overwrite=overwrite)
    asked, watch = as_method(method, options, METHODS), Watch(time_limit, signal_time_limit, callback)
    check_cluster(cluster)
    if store == "zarr":
        zarr_module()
    seed, chunk = plain_number(seed), plain_number(chunk)  # type: ignore[assignment]
    rows, masks = open_rows(source, "signals"), _masks(measurement)
    stream = Stream(generator, asked, rows, masks, measurement, noise, prior, read_seed(seed))
    first = _checked(stream)
    layout = Layout(len(rows), told_often(first.task) if chunk is None else positive(chunk, "chunk"))
    ran = versions(first.task, first.dtype)
    meant = {**stream.words(ran), "keep": ", ".join(sorted(keep)), "store": store}
    place, complete = open_folder(folder, meant, layout, resume=resume, overwrite=overwrite, asked=chunk is not None)
    if complete:
        return StreamedInversion.load(folder)
    settings = in_words(asked, options) | {"seed": seed, "chunk": place.layout.size}
    settings |= task_words(first.task) | ({} if noise is None else {"noise": _noise_words(noise)})
    _run(stream, place, keep, watch, progress, cluster)
    said = {"method": asked.name, "settings": settings, "versions": ran, "notes": list(watch.notes), "store": store}
    _collect(place, said | {"seconds": {"total": time.time() - watch.started}}, unfinished=bool(watch.stopped))
    return StreamedInversion.load(folder)


def _noise_words(noise: Any) -> str:
    """The noise of all signals in words, as results have them."""
    if isinstance(noise, str):
        return "gaussian, estimated"
    bound = torch.as_tensor(noise[1], dtype=torch.float64)
    low, high = float(bound.min()), float(bound.max())
    return f"{noise[0]}:{low:g}" if low == high else f"{noise[0]}, {low:g} to {high:g} per signal"


def _masks(measurement: object) -> Rows | None:
    """Masks that are read in parts; None where the measurement is one for all signals, or an object of its own."""
    if isinstance(measurement, (str, Path)) or is_zarr(measurement):
        return open_rows(measurement, "masks")
    plain = isinstance(measurement, (Tensor, np.ndarray)) and measurement.dtype in (torch.bool, np.dtype(bool))
    return open_rows(measurement, "masks") if plain and measurement.ndim > 1 else None  # type: ignore[attr-defined]


def _checked(stream: Stream) -> Chunk:
    """The first signal, after all that can be refused was."""
    rows, masks = stream.rows, stream.masks
    if len(rows) == 0:
        raise ValueError(f"expected at least one signal, got {rows.source} of shape {rows.shape}")
    if masks is not None and (len(masks) != len(rows) or masks.dtype not in (torch.bool, np.dtype(bool))):
        raise ValueError(
            f"expected masks of bool, one per signal ({len(rows)}), got {masks.dtype} of shape {masks.shape}; store "
            "mask.astype(bool), True where seen"
        )
    chunk = stream.chunk(0, 1)
    check_level(chunk.task)
    chunk.method.check(chunk.task)
    return chunk


def _run(
    stream: Stream, place: RunFolder, keep: tuple[str, ...], watch: Watch, progress: bool | None, cluster: object
) -> None:
    """Answer the chunks that are not done, each kept as it is."""
    place.begin()
    layout, done = place.layout, set[int]()
    for k, counts in place.done(_read_counts):
        done.add(k)
        watch.known(counts)
    todo = [k for k in range(layout.count) if k not in done]
    with with_threads(place.meant["threads"]):
        work = Work(stream.generator.to(torch.float64), stream.seed, layout, stream.chunk, cluster)
        work.go(todo, watch, stream.method.name, progress, lambda k, part, cut: place.write(k, *_columns(part, keep, cut)))


def _read_counts(words: Entries, columns: Arrays, N: int) -> dict[str, int]:
    """Signals of each status in a chunk that was kept. Raises ValueError where an entry is missing or of another kind."""
    names, codes = words.texts("used"), columns.integers("status", N)
    words.texts("notes")
    columns.floats("z", N, None)
    columns.integers("starts", N)
    if int(codes.max()) >= len(INVERSION_STATUSES) or int(columns.integers("used", N).max()) >= len(names):
        words.refuse("used", "names for all codes of the chunk")
    for name in ("relative_misfit", *_NUMBERS):
        columns.like(name, N)
    return _counts(codes.numpy())


def _columns(part: Inversion, keep: tuple[str, ...], unfinished: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is written of a chunk: its columns, and the words that its codes stand for."""
    verdict, names = part.verdict, list(dict.fromkeys(part.used))
    found = {
        "z": part.z,
        "status": torch.tensor([INVERSION_STATUSES.index(word) for word in verdict.status], dtype=torch.uint8),
        "relative_misfit": verdict.relative_misfit,
        **{name: getattr(verdict, name) for name in _NUMBERS},
        "starts": part.starts,
        "used": torch.tensor([names.index(name) for name in part.used], dtype=torch.int32),
    }
    if part.uncertainty is not None:
        found["sigma"] = part.uncertainty.sigma
        found |= {"z_std": part.uncertainty.z_std} if "z_std" in keep else {}
    if "signal" in keep:
        found["signal"] = part.signal
    if "hidden" in keep:
        found |= {f"hidden.{k}": h for k, h in enumerate(part.hidden, 1)}
    return found, {"used": names, "notes": list(part.notes), **({"unfinished": True} if unfinished else {})}


_NUMBERS = ("misfit", "size", "explained_below", "determined", "sigma_min", "sigma_max")


def _counts(codes: np.ndarray) -> dict[str, int]:
    """Signals of each status, of a column of codes."""
    counted = np.bincount(codes, minlength=len(INVERSION_STATUSES)).tolist()
    return {word: count for word, count in zip(INVERSION_STATUSES, counted, strict=True) if count}


def _collect(place: RunFolder, said: dict[str, Any], *, unfinished: bool) -> None:
    """One array per column from the chunks, and the file that says what they are; the run's own files go."""
    used: dict[str, int] = {"": 0}
    notes, counts = dict.fromkeys(said["notes"]), dict[str, int]()
    with place.told_why("the result"):
        with _Writer(place, said["store"]) as writer:
            for words, columns in _chunks(place):
                codes = torch.tensor([used.setdefault(name, len(used)) for name in words["used"]], dtype=torch.int32)
                columns["used"] = codes[columns["used"].long()]
                notes = dict.fromkeys(words["notes"]) | notes
                for status, count in _counts(columns["status"].numpy()).items():
                    counts[status] = counts.get(status, 0) + count
                writer.append(columns)
        spec = {"format": FORMAT, "version": _VERSION, "signals": place.layout.signals, "counts": counts, **said}
        spec |= {"statuses": list(INVERSION_STATUSES), "used": list(used), "notes": list(notes), "arrays": writer.shapes}
        write_whole(place.path / SPEC, json.dumps(spec | {"run": place.said(unfinished)}, indent=1).encode() + b"\n")
    if not unfinished:
        place.finish()


def _chunks(place: RunFolder) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Every chunk's words and columns in their order; of chunks that were not begun nothing is known."""
    like: dict[str, Tensor] | None = None
    for k in range(place.layout.count):
        if place.there(k):
            words, columns = place.read(k)
            like = columns
            yield words, dict(columns)
        else:
            if like is None:
                like = next(place.read(other)[1] for other in range(place.layout.count) if place.there(other))
            start, stop = place.layout.span(k)
            yield {"used": [""], "notes": []}, {name: _unknown(name, value, stop - start) for name, value in like.items()}


def _unknown(name: str, like: Tensor, count: int) -> Tensor:
    fill: float = torch.nan if like.is_floating_point() else INVERSION_STATUSES.index(USER_LIMIT) if name == "status" else 0
    return torch.full((count, *like.shape[1:]), fill, dtype=like.dtype)


class _Writer:
    """Columns that are written a chunk at a time, under names that they get when all of it is on the disk."""

    def __init__(self, place: RunFolder, store: str):
        self._place, self._store, self._row = place, store, 0
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "_Writer":
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self

    def append(self, columns: dict[str, Tensor]) -> None:
        """The rows of one more chunk."""
        for name, column in columns.items():
            rows = column.cpu().contiguous().numpy()
            if name not in self._files:
                self._files[name] = self._open(name, rows)
            if self._store == "zarr":
                self._files[name][self._row : self._row + len(rows)] = rows
            else:
                self._files[name].write(rows.tobytes())
        self._row += len(column)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for file in self._files.values() if self._store == "npy" else ():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if error is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        folder = self._place.path
        if self._store == "zarr":
            shutil.rmtree(folder / ZARR, ignore_errors=True)
            self._partial.rename(folder / ZARR)
        else:
            for name in self._files:
                os.replace(self._partial / f"{name}.npy", folder / f"{name}.npy")
            self._partial.rmdir()
        settle_folder(folder)

    @property
    def _partial(self) -> Path:
        return self._place.path / ".result.partial"

    def _open(self, name: str, rows: np.ndarray) -> Any:
        shape = (self._place.layout.signals, *rows.shape[1:])
        self.shapes[name] = {"shape": list(shape), "dtype": rows.dtype.name}
        if self._store == "zarr":
            group = zarr_module().open_group(str(self._partial), mode="a")
            chunks = (self._place.layout.size, *rows.shape[1:])
            return group.create_array(name, shape=shape, chunks=chunks, dtype=rows.dtype)
        file = (self._partial / f"{name}.npy").open("wb")
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
        )
        return file


class Words:
    """Words per signal that are kept as codes, read as they are asked for: `words[3]`, `words[:100]`."""

    def __init__(self, codes: Any, names: list[str], place: str = "the result"):
        self._codes, self._names, self._place = codes, np.array(names), place

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, index: Any) -> Any:
        codes = np.asarray(_rows(self._codes, index) if isinstance(index, np.ndarray) else self._codes[index])
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < len(self._names):
            raise ValueError(
                f"expected codes of {len(self._names)} words in {self._place}, got {int(codes.max())}; it was changed by "
                "hand, or damaged: copy the folder again, or make it anew"
            )
        return self._names[codes]


@dataclass(frozen=True)
class StreamedInversion:
    """What `invert_stream` wrote: arrays on the disk, of which what is asked for is read.

    folder: where they lie. arrays: by name, of numpy, memory-mapped, or of zarr. z: `(N, n0)`, of which `z[3:7]` reads four
    rows; status, used: words per signal; misfit, relative_misfit, starts, determined, `(N,)`; others in `arrays`.
    """

    folder: Path
    arrays: dict[str, Any] = field(repr=False)
    spec: dict[str, Any] = field(repr=False)

    @staticmethod
    def load(folder: str | Path) -> "StreamedInversion":
        """Open what `invert_stream` wrote. Raises FileNotFoundError, ValueError."""
        folder = Path(folder)
        if not (folder / SPEC).is_file():
            raise FileNotFoundError(f"expected {SPEC} of a streamed result in {folder}, found none; pass its folder")
        cure = "a result saved at once is read by cvxinv.Inversion.load"
        spec = read_head(folder / SPEC, FORMAT, _VERSION, cure)
        return StreamedInversion(folder, _arrays(folder, Entries(str(folder / SPEC), spec)), spec)

    def __len__(self) -> int:
        return int(self.spec["signals"])

    @property
    def z(self) -> Any:
        """Latents `(N, n0)`; NaN for signals that could not be used or were not begun."""
        return self.arrays["z"]

    @property
    def status(self) -> Words:
        """Status per signal, as in `Inversion`."""
        return Words(self.arrays["status"], self.spec["statuses"], str(self.folder / SPEC))

    @property
    def used(self) -> Words:
        """What gave each z."""
        return Words(self.arrays["used"], self.spec["used"], str(self.folder / SPEC))

    @property
    def misfit(self) -> Any:
        """|A G(z) - y|, `(N,)`, signal units."""
        return self.arrays["misfit"]

    @property
    def relative_misfit(self) -> Any:
        """misfit / |y|, `(N,)`."""
        return self.arrays["relative_misfit"]

    @property
    def determined(self) -> Any:
        """Whether z is determined by what was seen, `(N,)`."""
        return self.arrays["determined"]

    @property
    def starts(self) -> Any:
        """Random starts spent, `(N,)`."""
        return self.arrays["starts"]

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        return dict(self.spec["counts"])

    @undisturbed
    def take(self, index: int | slice | Any, generator: AbstractGenerator) -> Inversion:
        """The signals at `index`, a position, a slice or positions, as an `Inversion`; generator: what was inverted.

        Hidden layers and signals are those of G at z; layers and covariances are not kept, so that it has none.
        """
        rows = np.arange(len(self))[index]
        rows = rows.reshape(-1)
        read = {name: torch.from_numpy(np.array(_rows(array, rows))) for name, array in self.arrays.items()}
        z = read["z"].to(generator.device)
        blank, exact = ~torch.isfinite(z).all(1)[:, None], generator.to(torch.float64)
        *hidden, signal = [torch.where(blank, torch.nan, h).to(z) for h in exact.passed(torch.nan_to_num(z).double())]
        status = self.status[rows].astype("<U16")
        verdict = Verdict(status=status, **{name: read[name] for name in _NUMBERS})
        used = tuple(self.used[rows].tolist())
        settings, notes = dict(self.spec["settings"]), tuple(self.spec["notes"])
        return Inversion(
            z, tuple(hidden), signal, self.spec["method"], verdict, (), used, read["starts"], {}, dict(self.spec["seconds"]),
            settings, dict(self.spec["versions"]), notes,
        )  # fmt: skip

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        notes = "".join(f"\n  note: {note}" for note in self.spec["notes"])
        return f"{self.spec['method']}: {len(self)} signals in {self.folder}: {words}{notes}"


def _arrays(folder: Path, words: Entries) -> dict[str, Any]:
    """The arrays that the words of a result name, opened. Raises ValueError, FileNotFoundError where any is not as told."""
    N, store, told = words.count("signals", least=1), words.text("store", STORES), words.inner("arrays")
    words.texts("statuses", len(INVERSION_STATUSES), INVERSION_STATUSES)
    for name in ("used", "notes"):
        words.texts(name)
    words.text("method")
    words.names("versions")
    words.numbers("seconds", least=0)
    counts = words.inner("counts")
    if sum(counts.count(status) for status in counts.entries) != N or not set(counts.entries) <= set(INVERSION_STATUSES):
        words.refuse("counts", f"how many of the {N} signals have each status")
    read_settings(words)
    found = dict[str, Any]()
    for name in dict.fromkeys(("z", "status", "used", "starts", "relative_misfit", *_NUMBERS, *told.entries)):
        entry = told.inner(name)
        found[name] = _opened(folder, store, name)
        if list(found[name].shape) != entry.plain("shape") or found[name].shape[0] != N:
            entry.refuse("shape", f"{list(found[name].shape)}, the array's, of {N} signals")
        if str(found[name].dtype) != entry.text("dtype"):
            entry.refuse("dtype", f"{found[name].dtype}, the array's")
    return found


def _opened(folder: Path, store: str, name: str) -> Any:
    if store == "zarr":
        return zarr_module().open_array(str(folder / ZARR / name), mode="r")
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def _rows(array: Any, rows: np.ndarray) -> Any:
    if len(rows) and (np.diff(rows) == 1).all():
        return array[int(rows[0]) : int(rows[-1]) + 1]
    return array[rows] if isinstance(array, np.ndarray) else array.oindex[rows]
