"""Pictures as PNG: arrays to PNG files without any package (`bitmaps`); PNG files as signals and masks, which needs pillow.

A picture's values 0 (black) to 1 (white) stand for the generator's output range: what its description says, else (-1, 1)
behind a tanh and (0, 1) behind a sigmoid, else (0, 1).
"""

import importlib.util
from decimal import ROUND_CEILING, Context
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..bitmaps import encode, picture_shape
from ..errors import BackendNotInstalledError
from ..files import write_whole
from ..generator.abstract import AbstractGenerator

if TYPE_CHECKING:
    from PIL.Image import Image

RECOVERED = "recovered"


# --- what a signal looks like ---------------------------------------------------------------------


def output_range(generator: AbstractGenerator) -> tuple[float, float] | None:
    """Lowest and highest value of a signal, signal units: of the generator's description or its output activation."""
    said = generator.description.get("output", {})
    said = said.get("range") if isinstance(said, dict) else None
    if (
        isinstance(said, list | tuple)
        and len(said) == 2
        and all(isinstance(v, int | float) for v in said)
        and said[0] < said[1]
    ):
        return float(said[0]), float(said[1])
    ends = generator.output.range
    return ends if all(map(isfinite, ends)) else None


# --- reading --------------------------------------------------------------------------------------


def is_pictures(path: str | Path) -> bool:
    """Whether `path` names PNG pictures: a .png file, or a folder that holds some."""
    path = Path(path)
    return path.suffix.lower() == ".png" or (path.is_dir() and bool(_names(path)))


def read_pictures(path: str | Path, generator: AbstractGenerator) -> tuple[Tensor, list[str], list[str]]:
    """Signals `(N, d)` in float64 from a PNG file or a folder of them, sorted by name; their file names; and notes.

    Grey pictures serve a generator of grey pictures, colour ones a generator of colour pictures (channels first). Values
    0..255 become the generator's output range. Raises BackendNotInstalledError without pillow, ValueError for a picture
    of another size or kind, which it names, FileNotFoundError where there is none.
    """
    files = _files(Path(path))
    shape = picture_shape(generator.signal_shape)
    if shape is None:
        raise ValueError(
            f"expected a generator of pictures to read {path}, got signals of shape {generator.signal_shape}; "
            "pass the signals as an array file"
        )
    known = output_range(generator)
    low, high = known or (0.0, 1.0)
    values = np.stack([_read_picture(file, shape) for file in files]).reshape(len(files), -1)
    notes = [f"pictures read as values from {low:g} (black) to {high:g} (white)"]
    notes[0] += "" if known else "; the generator does not say its output range, [0, 1] is assumed"
    bound = _rounded_up((high - low) / 510)
    notes.append(f"8-bit pictures are rounded by up to {bound}; --noise linf:{bound} says so")
    y = torch.from_numpy(low + (high - low) * values)
    return y, [file.name for file in files], [*notes, *_clipping_note(y, generator)]


def at_the_ends(y: Tensor, generator: AbstractGenerator) -> tuple[Tensor, Tensor]:
    """Where signals `(N, d)` read from pictures are black, and where they are full white: bool `(N, d)` each."""
    low, high = output_range(generator) or (0.0, 1.0)
    rounding = 1e-9 * (high - low)  # a step of 16-bit pictures is 1e-5 of it
    return y <= low + rounding, y >= high - rounding


def _clipping_note(y: Tensor, generator: AbstractGenerator) -> list[str]:
    """A picture holds nothing outside the output range; what a generator has there came back as 0 or 255."""
    low, high = output_range(generator) or (0.0, 1.0)
    bottom, top = generator.output.range
    black, white = at_the_ends(y, generator)
    ends = [(bottom < low, black, "0"), (top > high, white, "255")]
    open_ends = [(at, word) for beyond, at, word in ends if beyond]
    share = sum(float(at.double().mean()) for at, _ in open_ends)
    if share == 0:
        return []
    words = " or ".join(word for _, word in open_ends)
    return [
        f"{share:.1%} of the pixels are at {words} and may be clipped, for the generator's values may leave [{low:g}, "
        f"{high:g}]: then they are off by more than rounding; --hide-clipped counts pixels at 0 or 255 as not seen"
    ]


def _rounded_up(value: float) -> str:
    """`value` > 0 in two digits that are never below it."""
    return f"{float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(value)):.2g}"


def read_mask_pictures(path: str | Path, generator: AbstractGenerator) -> Tensor:
    """A bool mask, True where a picture is white: `(d,)` from one PNG file, `(N, d)` from a folder of them.

    A mask is grey and of the generator's height and width, and hides all channels of a pixel. Raises as `read_pictures`,
    and ValueError for pixels that are neither black nor white.
    """
    path = Path(path)
    shape = picture_shape(generator.signal_shape)
    if shape is None:
        raise ValueError(f"expected a generator of pictures for the mask {path}, got signals of {generator.signal_shape}")
    masks = [_read_mask(file, shape) for file in _files(path)]
    return masks[0] if path.suffix.lower() == ".png" else torch.stack(masks)


def _read_mask(file: Path, shape: tuple[int, int, int]) -> Tensor:
    values = _read_picture(file, (1, *shape[1:]))
    if not np.isin(values, (0.0, 1.0)).all():
        raise ValueError(f"expected a mask of black and white pixels in {file}, got greys; white is seen, black is hidden")
    return torch.from_numpy(values == 1.0).expand(shape).reshape(-1)


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() == ".png" and not p.name.startswith("."))


def _files(path: Path) -> list[Path]:
    if importlib.util.find_spec("PIL") is None:
        raise BackendNotInstalledError("reading PNG files needs pillow, which is not installed: pip install pillow")
    if path.is_dir():
        files = [path / name for name in _names(path)]
        if not files:
            raise FileNotFoundError(f"expected PNG files in the folder {path}, found none")
        return files
    if not path.is_file():
        raise FileNotFoundError(f"expected a PNG file or a folder of them at {path}, found none")
    return [path]


def _read_picture(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Values in [0, 1], `shape`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=("PNG",)) as picture:
            _check_picture(picture, file, shape)
            pixels = _pixels(picture, shape[0])
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"expected a PNG picture, got {error} in {file}; it is damaged or of another kind") from error
    return (pixels.reshape(*shape[1:], shape[0])).transpose(2, 0, 1)


def _check_picture(picture: "Image", file: Path, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    if picture.size != (width, height):
        raise ValueError(
            f"expected pictures of {width} x {height} pixels (width x height), got {picture.size[0]} x {picture.size[1]} in "
            f"{file}; resize it"
        )
    see_through = "A" in picture.getbands() or "transparency" in picture.info
    if see_through and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise ValueError(f"expected an opaque picture, got transparent pixels in {file}; flatten it")
    colour = picture.mode in ("RGB", "RGBA", "P")
    if colour and channels == 1 and not _is_grey(picture):
        raise ValueError(f"expected a grey picture as the generator's, got colours in {file}; convert it")


def _is_grey(picture: "Image") -> bool:
    pixels = np.asarray(picture.convert("RGB"))
    return bool((pixels == pixels[..., :1]).all())


def _pixels(picture: "Image", channels: int) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16 bits
        grey = np.asarray(picture, dtype=np.float64)[..., None] / 65535
        return np.repeat(grey, channels, axis=2)
    return np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.float64).reshape(-1, channels) / 255


# --- writing --------------------------------------------------------------------------------------


def write_pictures(signals: Tensor, generator: AbstractGenerator, folder: str | Path, names: list[str]) -> Path:
    """Write signals `(N, d)` as 8-bit PNG files of these names into `folder`, each whole or not at all; returns the folder.

    The generator's output range becomes 0..255, what is outside is clipped, NaN is black. Files of other names stay.
    Raises ValueError where the signals are no pictures, OSError where the folder cannot be written.
    """
    shape, (low, high) = picture_shape(generator.signal_shape), output_range(generator) or (0.0, 1.0)
    if shape is None:
        raise ValueError(f"expected a generator of pictures, got signals of shape {generator.signal_shape}; leave out --png")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = ((signals.detach().cpu().double() - low) / (high - low)).nan_to_num(0.0).clamp(0, 1)
    for value, name in zip(values.reshape(-1, *shape), names, strict=True):
        pixels = (255 * value).round().to(torch.uint8).numpy()
        write_whole(folder / name, encode(pixels[0] if shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))))
    return folder
