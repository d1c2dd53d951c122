"""Which signals are pictures, and pixels as the bytes of a PNG, without any package."""

import base64
import struct
import zlib
from math import isqrt

import numpy as np

_CHANNELS = {0: 1, 2: 3}  # PNG's colour types: grey, RGB
_SMALLEST_SQUARE = 16  # a flat signal of fewer numbers is drawn as a curve though it could be a square


def picture_shape(signal_shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(channels, height, width) of a signal, channels 1 or 3, or None where it is no picture.

    A flat signal counts as a picture where its size is a square from 16 on.
    """
    if len(signal_shape) == 1:
        side = isqrt(signal_shape[0])
        square = side * side == signal_shape[0] and signal_shape[0] >= _SMALLEST_SQUARE
        return (1, side, side) if square else None
    if len(signal_shape) == 2:
        return (1, *signal_shape)
    if len(signal_shape) == 3 and signal_shape[0] in (1, 3):
        return (signal_shape[0], signal_shape[1], signal_shape[2])
    return None


def encode(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels `(height, width)` or `(height, width, 3)`. Raises ValueError for anything else."""
    kind = {2: 0, 3: 2}.get(pixels.ndim)
    if kind is None or pixels.dtype != np.uint8 or (pixels.ndim == 3 and pixels.shape[2] != 3) or pixels.size == 0:
        raise ValueError(f"expected uint8 pixels (h, w) or (h, w, 3), got {pixels.dtype} {pixels.shape}; scale to 0..255")
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, width * _CHANNELS[kind])
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # filter type 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def data_uri(pixels: np.ndarray) -> str:
    """The PNG of `pixels` as a data: address, for a page that is one file."""
    return "data:image/png;base64," + base64.b64encode(encode(pixels)).decode()


def inline_pictures(signals: np.ndarray, width: int = 56) -> tuple[list[str], str]:
    """Flat signals `(N, d)` as HTML images of one scale, and that scale in words; ([], "") where they are no pictures.

    Black and white are 0 and 1, or -1 and 1, where all values lie between, else the lowest and the highest value.
    """
    shape = picture_shape(signals.shape[1:])
    finite = signals[np.isfinite(signals)]
    if shape is None or not finite.size:
        return [], ""
    ends = (float(finite.min()), float(finite.max()))
    low, high = next(((a, b) for a, b in ((0.0, 1.0), (-1.0, 1.0)) if a <= ends[0] and ends[1] <= b), ends)
    values = np.nan_to_num((signals.astype(np.float64) - low) / (high - low or 1.0)).clip(0, 1)
    pixels = np.rint(255 * values).astype(np.uint8).reshape(-1, *shape)
    images = [data_uri(np.ascontiguousarray(p[0] if shape[0] == 1 else p.transpose(1, 2, 0))) for p in pixels]
    style = f"width:{width}px;image-rendering:pixelated"
    return [f'<img src="{image}" alt="signal" style="{style}">' for image in images], f"black {low:g}, white {high:g}"
