"""Files: one way to write, whole or not at all, and one strict way to read arrays.

Arrays come from .npy, .npz and .safetensors; nothing is unpickled.
"""

import difflib
import hashlib
import json
import os
import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from .measurement.sparse import read_sparse
from .surroundings import undisturbed

_SUFFIXES = (".npy", ".npz", ".safetensors")

LOSSY = (".jpg", ".jpeg", ".webp", ".gif")

SIGNALS = ("signals", "images", "y")
MASKS = ("mask", "visible")
MATRICES = ("matrix", "A")


def file_at(path: str | Path, what: str = "a file", example: str = "file") -> Path:
    """Where what is written to `path` comes to lie: at the end of all links, which stay; nothing is written.

    A device or a pipe, such as /dev/null, is where it is. what, example: words for messages. Raises OSError for a folder, a
    disk, a socket, links in a circle, and where no file can be made or replaced.
    """
    path = Path(path)
    try:
        mode: int | None = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    except NotADirectoryError as error:
        raise NotADirectoryError(f"expected a folder for {what}, got the file {_stands_at(path)}; pass another") from error
    except OSError as error:
        raise OSError(f"expected a file for {what}, got {path}: {error.strerror}; pass another") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(f"expected a file for {what}, got the folder {path}; pass e.g. {path / example}")
    if mode is not None and (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        return path
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(f"expected a file for {what}, got {path}, which is a disk or a socket; pass another")
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        # of a link that leads nowhere too
        raise FileNotFoundError(f"expected a folder for {what} at {place.parent}, found none; make it first")
    if not os.access(place.parent, os.W_OK) or (mode is not None and not os.access(place, os.W_OK)):
        raise PermissionError(f"cannot write {what} to {place}; pass another place, which can be written")
    return place


def _stands_at(path: Path) -> Path:
    """What is in the way of a path: the first part of it that is no folder."""
    return next(part for part in reversed(path.absolute().parents) if not part.is_dir())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; one that was there stays where this fails.

    Links are followed, and devices written to, as in `file_at`. Raises OSError.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files so that all are there whole; where this fails all are as they were. Every writer of files ends here.

    All are complete on the disk before any gets its name, and they get them in their order. Links are followed, so that they
    stay, and a file that is replaced keeps its permissions; a device or a pipe is written to. Raises OSError.
    """
    places = {file_at(path): content for path, content in contents.items()}
    streams = [place for place in places if place.exists() and not place.is_file()]
    files = [place for place in places if place not in streams]
    mark, begun = uuid.uuid4().hex, False
    new = {place: place.parent / f".{place.name}.{mark}.partial" for place in files}
    old = {place: place.parent / f".old-{place.name}.{mark}.partial" for place in files[:-1]}
    try:
        for place in files:
            _put(new[place], places[place], like=place)
        for place in streams:
            with place.open("wb") as stream:
                stream.write(places[place])
        begun = True
        for place in files[:-1]:
            if place.exists():
                os.replace(place, old[place])
            os.replace(new[place], place)
        for place in files[-1:]:
            os.replace(new[place], place)
    finally:
        # the last has its name, and with it all have theirs, where its partial file is gone
        if begun and files and new[files[-1]].exists():
            for place in reversed(files[:-1]):
                if old[place].exists():
                    os.replace(old[place], place)
                elif not new[place].exists():
                    place.unlink(missing_ok=True)
        for partial in (*new.values(), *old.values()):
            partial.unlink(missing_ok=True)
    for folder in {place.parent for place in files}:
        settle_folder(folder)


def _put(path: Path, content: bytes, like: Path | None = None) -> None:
    """Write a file, with the mode of `like`, and wait until it is on the disk: its name must never come before its bytes."""
    path.write_bytes(content)
    if like is not None and like.exists():
        path.chmod(stat.S_IMODE(like.stat().st_mode))
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def check_own_folder(folder: Path, names: tuple[str, ...], overwrite: bool) -> None:
    """Raises OSError where a folder of files of these names cannot be made, or replaced where `overwrite` says so.

    What holds other files is never replaced.
    """
    there = folder_at(folder)
    folder = Path(os.path.realpath(folder))
    held = sorted(os.listdir(folder)) if folder.is_dir() else []
    # a link to a file elsewhere would go with the folder
    foreign = [name for name in held if name not in names or (folder / name).is_symlink() or not (folder / name).is_file()]
    if foreign:
        raise FileExistsError(f"expected a folder of its own, got {folder}, which holds {foreign[0]}; pass another")
    if held and not overwrite:
        raise FileExistsError(f"expected a new folder, got {folder}, which holds {held[0]}; pass another, or overwrite it")
    place = folder.parent if there == folder else there
    if not os.access(place, os.W_OK):
        raise PermissionError(f"cannot write into {place}; pass a folder that can be written")


def write_own_folder(folder: Path, contents: dict[str, bytes], overwrite: bool = False) -> Path:
    """Write a folder of files so that it is there whole or not at all; one that was there stays where this fails.

    Raises OSError, as `check_own_folder`.
    """
    given, folder = folder.absolute(), Path(os.path.realpath(folder))
    check_own_folder(folder, tuple(contents), overwrite)
    mark = uuid.uuid4().hex
    new, old = (folder.parent / f".{word}{folder.name}.{mark}.partial" for word in ("", "old-"))
    try:
        new.mkdir(parents=True)
        for name, content in contents.items():
            _put(new / name, content)
        settle_folder(new)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for partial in (new, old):
            shutil.rmtree(partial, ignore_errors=True)
    settle_folder(folder.parent)
    return given


def folder_at(folder: str | Path, cure: str = "pass another") -> Path:
    """The folder itself, links followed, or the nearest one above it that is there. Raises NotADirectoryError for a file."""
    given = next(place for place in (Path(folder), *Path(folder).absolute().parents) if os.path.lexists(place))
    if not given.is_dir():
        what = "link, which leads to none," if given.is_symlink() and not given.exists() else "file"
        raise NotADirectoryError(f"expected a folder for the result, got the {what} {given}; {cure}")
    return Path(os.path.realpath(given))


def settle_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a system whose folders cannot be opened
        return
    try:
        os.fsync(handle)
    except OSError:  # or a disk that knows no such thing
        pass
    finally:
        os.close(handle)


def write_pair(weights: Path, tensors: dict[str, Tensor], described: Path, spec: dict[str, Any]) -> None:
    """Write tensors, and the JSON file beside them, which also tells their sha256; where this fails both are as they were.

    Both are complete on the disk before either gets its name, and the JSON file gets it last. Raises OSError.
    """
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    text = json.dumps(spec | {"sha256": hashlib.sha256(content).hexdigest()}, indent=1) + "\n"
    write_together({weights: content, described: text.encode()})


def read_head(path: Path, form: str, version: int, cure: str) -> dict[str, Any]:
    """The object of a JSON file that says what it is. Raises ValueError, with `cure`, for another format or version."""
    spec = parse_json(path.read_bytes(), path)
    told = (spec.get("format"), spec.get("version")) if isinstance(spec, dict) else None
    if told != (form, version) or isinstance(told[1], bool):
        raise ValueError(f'expected "format": "{form}" of version {version} in {path}, got another; {cure}')
    return spec


def read_tensors(path: Path, sha256: str | None, told_by: str, kind: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, if they are those that the file `told_by` names. Raises ValueError otherwise.

    kind: what the two files hold, in a word.
    """
    content = path.read_bytes()
    if sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise ValueError(
            f"expected {path} with the sha256 that {told_by} names, got another ({len(content)} bytes); "
            f"it is damaged, truncated or of another {kind}: fetch or copy both files again"
        )
    return parse_tensors(content, path)


@undisturbed
def read_signals(path: str | Path) -> Tensor:
    """Signals from .npy, .npz or .safetensors, in float32 or float64 as they are; the shape is the file's.

    A file of several arrays must name one `signals`, `images` or `y`. Raises FileNotFoundError; ValueError for a damaged
    file; TypeError for pickles, strings, complex and integer arrays.
    """
    return as_floats(*read_array(path, SIGNALS), "signals")


@undisturbed
def read_matrix(path: str | Path) -> Tensor:
    """A measurement matrix `(k, d)`; in a file of several arrays the one named `matrix` or `A`. As `read_signals`.

    What `scipy.sparse.save_npz` wrote comes as a sparse tensor.
    """
    if (found := _scipy_matrix(Path(path))) is not None:
        return read_sparse(found)
    return as_floats(*read_array(path, MATRICES), "a matrix")


@undisturbed
def read_mask(path: str | Path) -> Tensor:
    """A bool mask, True where seen; in a file of several arrays the one named `mask` or `visible`."""
    array, place = read_array(path, MASKS)
    if array.dtype != torch.bool:
        raise TypeError(f"expected a mask of bool in {place}, got {array.dtype}; store mask.astype(bool), True where seen")
    return array


def png_cure(path: Path) -> str:
    """Why a picture of another kind is not read, and how it becomes one that is."""
    why = f"{path.suffix} rounds pixels by amounts that the file does not say, so that no noise bound holds"
    return f"{why}; convert it: PIL.Image.open({path.name!r}).save({path.with_suffix('.png').name!r})"


def missing(path: Path, suffixes: tuple[str, ...]) -> FileNotFoundError:
    """The error for a file that is not there; it names those of its kind that lie near."""
    return FileNotFoundError(f"expected a file at {path}, found none; {near(path, suffixes)}")


def near(path: Path, suffixes: tuple[str, ...]) -> str:
    """What lies near a path that is not there, in words: files of its kind, those of a like name first."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(p.name for p in folder.iterdir() if p.suffix in suffixes and not p.name.startswith("."))
    short: dict[str, list[str]] = {}
    for name in names:
        short.setdefault(Path(name).stem if path.suffix not in suffixes else name, []).append(name)
    close = [name for match in difflib.get_close_matches(path.name, short, n=5, cutoff=0.5) for name in short[match]]
    shown = (close + [name for name in names if name not in close])[:5]
    if not shown:
        return f"{folder} has none of its kind"
    return f"near it: {', '.join(shown)}{', ...' if len(names) > len(shown) else ''}"


def read_array(path: str | Path, names: tuple[str, ...]) -> tuple[Tensor, str]:
    """The array that is meant, and where it stands in words."""
    path = Path(path)
    if path.suffix.lower() in LOSSY:
        raise ValueError(f"expected arrays or PNG pictures, got {path}; {png_cure(path)}")
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"expected a file {', '.join(_SUFFIXES)}, got {path}; store the array with numpy.save")
    if not path.is_file():
        raise missing(path, _SUFFIXES)
    if path.suffix == ".safetensors":
        tensors = parse_tensors(path.read_bytes(), path)
        name = _choose(list(tensors), names, path)
        return tensors[name], f"{path} ({name})"
    return _read_numpy(path, names)


def _choose(there: list[str], names: tuple[str, ...], path: Path) -> str:
    if len(there) == 1:
        return there[0]
    meant = [name for name in names if name in there]
    if len(meant) != 1:
        shown = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
        raise ValueError(
            f"expected one array, or one named {' or '.join(names)}, in {path}, got {len(there)}: {shown or 'none'}; "
            "store the one that is meant alone, or under that name"
        )
    return meant[0]


def _read_numpy(path: Path, names: tuple[str, ...]) -> tuple[Tensor, str]:
    with _own_words(path):
        opened = np.load(path, allow_pickle=False)
    if isinstance(opened, np.ndarray):
        return _tensor(opened, str(path)), str(path)
    with opened as arrays:
        name = _choose(arrays.files, names, path)
        with _own_words(path):
            array = arrays[name]
    return _tensor(array, f"{path} ({name})"), f"{path} ({name})"


def _scipy_matrix(path: Path) -> object | None:
    """The sparse matrix in a file of scipy's; None where it is another."""
    if path.suffix != ".npz" or not path.is_file():
        return None
    with _own_words(path):
        opened = np.load(path, allow_pickle=False)
    if isinstance(opened, np.ndarray):
        return None
    with opened as arrays:
        if not {"format", "shape", "data"} <= set(arrays.files):
            return None
    from scipy.sparse import load_npz

    with _own_words(path):
        return load_npz(path)


@contextmanager
def _own_words(path: Path) -> Iterator[None]:
    """Numpy's errors about a file, as ours."""
    try:
        yield
    except (EOFError, MemoryError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle=False" in str(error):
            raise TypeError(
                f"expected an array of numbers in {path}, got Python objects, which are never read; "
                "store plain numbers with numpy.save(path, array.astype('float64'))"
            ) from error
        if "allow_pickle=" in str(error):
            # numpy takes whatever it does not know for a pickle
            raise ValueError(f"expected a numpy file, got {path}, which is damaged, of another kind, or a pickle") from error
        raise ValueError(f"expected a whole numpy file, got {error} in {path}; it is truncated or damaged") from error


def _tensor(array: np.ndarray, place: str) -> Tensor:
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"expected real numbers in {place}, got dtype {array.dtype}; store float32 or float64")
    # torch takes the machine's own byte order and strides > 0 only
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(native.reshape(array.shape))


def as_floats(tensor: Tensor, place: str, what: str) -> Tensor:
    """The tensor, if it is of a real floating type. Raises TypeError with a cure; place, what: words for it."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    cure = "store them as float32 or float64"
    if not tensor.dtype.is_floating_point and not tensor.dtype.is_complex and what == "signals":
        cure = "convert to the generator's output range, e.g. images.astype('float64') / 255 for an output in [0, 1]"
    raise TypeError(f"expected {what} in float32 or float64 in {place}, got {tensor.dtype}; {cure}")


def parse_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file's content. Raises ValueError where it is damaged or none."""
    try:
        return load(content)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"expected a safetensors file, got {error} in {path}; it is damaged or of another kind") from error


def parse_json(content: bytes, path: Path) -> Any:
    """What a JSON file's content says. Raises ValueError where it is damaged or none."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got {error}; the file is damaged, fetch or copy it again") from error
