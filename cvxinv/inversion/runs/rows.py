"""Signals and masks of any number: rows that are read a chunk at a time, from .npy and zarr, never all at once."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import BackendNotInstalledError
from ...inputs import describe

_BYTES = 64_000_000  # read at once for a checksum


class Rows:
    """An array of which rows are read: memory-mapped, of zarr, or in memory. source: its words for errors."""

    def __init__(self, array: Any, source: str):
        self._array, self.source = array, source
        self.shape, self.dtype = tuple(array.shape), array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def part(self, start: int, stop: int) -> Tensor | np.ndarray:
        """The rows from `start` to `stop`, in memory."""
        rows = self._array[start:stop]
        return rows if isinstance(rows, Tensor) else np.array(rows)

    def checksum(self) -> str:
        """Of shape, type and all numbers."""
        mark = hashlib.sha256(f"{self.shape}{self.dtype}".encode())
        each = max(1, int(np.prod(self.shape[1:])) * 8)
        for start in range(0, len(self), max(1, _BYTES // each)):
            rows = self.part(start, min(start + max(1, _BYTES // each), len(self)))
            mark.update(np.ascontiguousarray(rows.cpu().numpy() if isinstance(rows, Tensor) else rows).tobytes())
        return f"sha256 {mark.hexdigest()[:32]}"


def open_rows(value: object, what: str) -> Rows:
    """Rows of a path to .npy or zarr, an array of numpy or zarr, or a tensor; what: words for errors.

    Raises TypeError, ValueError, FileNotFoundError; BackendNotInstalledError where zarr is asked for and not installed.
    """
    if isinstance(value, (str, Path)):
        return _from_path(Path(value), what)
    if isinstance(value, (Tensor, np.ndarray)) or is_zarr(value):
        rows = Rows(value, what)
        if len(rows.shape) < 2:
            raise ValueError(f"expected {what} (N, ...) along the first axis, got shape {rows.shape}; pass a batch")
        return rows
    raise TypeError(
        f"expected {what} as a path to .npy or .zarr, or as an array of numpy, zarr or torch, got {describe(value)}; "
        "store it with numpy.save"
    )


def _from_path(path: Path, what: str) -> Rows:
    if path.suffix == ".npy" and path.is_file():
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"expected a whole .npy file of numbers, got {error} in {path}; store it again") from error
        return open_rows(array, f"{what} in {path}")
    if path.is_dir():
        return open_rows(_zarr_array(path), f"{what} in {path}")
    if not path.exists():
        raise FileNotFoundError(f"expected {what} at {path}, found nothing; pass a .npy file or the folder of a zarr array")
    raise ValueError(
        f"expected {what} as .npy or a folder of zarr, which can be read in parts, got {path}; store it with numpy.save"
    )


def is_zarr(value: object) -> bool:
    """Whether it is zarr's, which is not imported for that."""
    return type(value).__module__.split(".")[0] == "zarr"


def zarr_module() -> Any:
    """zarr, where it is installed. Raises BackendNotInstalledError."""
    try:
        import zarr
    except ImportError as error:
        raise BackendNotInstalledError(
            "expected zarr for arrays of zarr, got none; install it with pip install zarr"
        ) from error
    return zarr


def _zarr_array(path: Path) -> Any:
    zarr = zarr_module()
    try:
        return zarr.open_array(str(path), mode="r")
    except Exception as error:  # zarr has many, and changes them
        raise ValueError(f"expected an array of zarr in the folder {path}, got {type(error).__name__}: {error}") from error
