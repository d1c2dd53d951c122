"""What commands are given, read: generators, signals, measurements, noise and priors, in files and words."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch
from rich.text import Text
from torch import Tensor

from ..errors import CvxinvWarning
from ..files import LOSSY, file_at, missing, png_cure, read_mask, read_matrix, read_signals
from ..generator.activations import as_activation
from ..generator.chain import Generator
from ..generator.reading.load import load_generator
from ..inputs import read_device
from ..inversion.priors import AbstractPrior, Ball, Box, Gaussian
from ..inversion.storage import check_writable
from ..inversion.task import AUTO, NORMS
from ..pages.png import (
    at_the_ends,
    is_pictures,
    picture_shape,
    read_mask_pictures,
    read_pictures,
)
from ..shipped import shipped_file, shipped_generators
from ..solvers.solve import check_choice
from .terminal import console_of

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def read_generator(name: str, output: str | None, label: int | None, dtype: torch.dtype, device: torch.device) -> Generator:
    """A generator from a file or a shipped one by name; warnings become notes on stderr."""
    if output is not None:
        try:
            as_activation(output)
        except ValueError as error:
            raise ValueError(f"--output: {str(error).removesuffix(' or an activation object')}") from error
    with _generator_file(name) as path, warnings_as_notes():
        return load_generator(path, output, dtype=dtype, device=device, label=label)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """The package's own warnings as lines on stderr, each once; Python shows others as ever."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CvxinvWarning)
        yield
    own = [one for one in caught if issubclass(one.category, CvxinvWarning)]
    for text in dict.fromkeys(str(one.message) for one in own):
        console_of(stderr=True).print(Text(f"note: {text}"), soft_wrap=True)
    for one in caught:
        if one not in own:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)


@contextmanager
def _generator_file(name: str) -> Iterator[Path]:
    path, shipped = Path(name), shipped_generators()
    if name in shipped:
        with shipped_file(name) as inside:
            yield inside
        return
    if path.is_dir():
        raise IsADirectoryError(f"expected a generator NAME.safetensors with its NAME.json, got the folder {path}")
    if not any(Path(f"{path}{suffix}").is_file() for suffix in ("", ".safetensors", ".json")):
        words = f"; shipped ones: {', '.join(shipped)}" if shipped else ""
        raise FileNotFoundError(f"{missing(path, ('.safetensors', '.onnx'))}{words}")
    yield path


def device_named(name: str) -> torch.device:
    """The device of --device. Raises ValueError where it is not here."""
    return read_device(name, "pass --device cpu")


@dataclass(frozen=True, eq=False)
class GivenSignals:
    """Signals as they are inverted, and what was done to them.

    names, ends: of pictures, None for arrays: their file names, and bool `(N, d)` where a pixel is 0 or 255.
    """

    y: Tensor
    names: list[str] | None
    notes: list[str]
    ends: Tensor | None


def signals_for(G: Generator, path: Path) -> GivenSignals:
    """Signals on the generator's device, in float32 for a float32 generator."""
    names: list[str] | None = None
    notes: list[str] = []
    ends: Tensor | None = None
    if is_pictures(path):
        y, names, notes = read_pictures(path, G)
        ends = torch.logical_or(*at_the_ends(y, G))
    elif path.is_dir():
        others = sorted(file for file in path.iterdir() if file.suffix.lower() in LOSSY)
        words = f"found none, but {len(others)} such as {others[0].name}; {png_cure(others[0])}" if others else "found none"
        raise FileNotFoundError(f"expected PNG files in the folder {path}, {words}")
    else:
        y = read_signals(path)
    if y.dtype == torch.float64 and G.dtype == torch.float32:
        notes = [*notes, "float64 signals were rounded to float32, as --dtype float32 asks"]
        y = y.float()
    return GivenSignals(y.to(G.device), names, notes, ends)


def measurement_of(G: Generator, mask: Path | None, matrix: Path | None) -> Tensor | None:
    """The mask or the matrix of a file, on the generator's device; None where everything was seen."""
    if mask is not None and matrix is not None:
        raise ValueError("expected --mask or --matrix, got both; leave out the entries in the rows of the matrix")
    if mask is not None:
        return (read_mask_pictures(mask, G) if is_pictures(mask) else read_mask(mask)).to(G.device)
    return None if matrix is None else read_matrix(matrix).to(G.device)


def without_clipped(G: Generator, signal: GivenSignals, mask: Tensor | None, matrix: bool) -> Tensor:
    """The mask `(N, d)` that also hides the pixels at 0 or 255; says on `signal` what share that is."""
    if signal.ends is None or matrix:
        raise ValueError(
            "expected PNG signals and no --matrix with --hide-clipped, got others; pass a --mask of what was seen"
        )
    ends = signal.ends.to(G.device)
    signal.notes[:] = [note for note in signal.notes if "--hide-clipped" not in note]  # its advice is taken
    signal.notes.append(f"--hide-clipped: {float(ends.double().mean()):.1%} of the pixels are at 0 or 255, and not seen")
    if mask is None:
        return ~ends
    if mask.numel() not in (G.signal_dim, ends.numel()):
        raise ValueError(f"expected a mask of {G.signal_dim} entries, or {ends.numel()}, got {mask.numel()}; correct it")
    return mask.reshape(-1, G.signal_dim) & ~ends


def picture_names(G: Generator, signals: GivenSignals, wanted: bool) -> list[str] | None:
    """Names of the pictures to be written, or None; raises where there can be none."""
    if signals.names is not None:
        return signals.names
    if not wanted:
        return None
    if picture_shape(G.signal_shape) is None:
        raise ValueError(f"expected a generator of pictures for --png, got signals of shape {G.signal_shape}; leave it out")
    count = signals.y.shape[0] if signals.y.ndim > 1 else 1
    return [f"{k:0{max(3, len(str(count - 1)))}d}.png" for k in range(count)]


def check_report(path: Path | None) -> None:
    """Raises ValueError or OSError where a page cannot be written."""
    if path is not None:
        place = file_at(path, "the report", "report.html")
        # another file of the user's may be meant for something else, a device takes anything
        if place.suffix.lower() not in (".html", ".htm") and (place.is_file() or not place.exists()):
            raise ValueError(f"expected a page FILE.html for --report, got {path}; pass e.g. {path.with_suffix('.html')}")


def check_picture(path: Path, *read: Path | None) -> None:
    """Raises ValueError or OSError where a picture cannot be drawn or written, or would replace one that is read."""
    from ..pages.plots import require_matplotlib

    require_matplotlib()
    place = file_at(path, "the picture", "picture.png")
    if place.suffix.lower() != ".png" and (place.is_file() or not place.exists()):
        raise ValueError(f"expected a picture FILE.png for --picture, got {path}; pass e.g. {path.with_suffix('.png')}")
    for given in read:
        if given is not None and place.exists() and _is_read(place, given):
            raise ValueError(f"expected a file of its own for --picture, got {path}, which is read; pass another name")


def check_pictures(folder: Path, names: list[str], *read: Path | None) -> None:
    """Raises ValueError or OSError where pictures cannot be written, or would replace those that are read."""
    check_writable(folder, tuple(names))
    for name, given in ((name, given) for name in names for given in read):
        if given is not None and (folder / name).exists() and _is_read(folder / name, given):
            raise ValueError(f"expected another folder for pictures than {folder}, which is read; pass another --out")


def _is_read(place: Path, given: Path) -> bool:
    """Whether a file that is there is what is read, or one of the folder that is."""
    return given.exists() and (place.parent if given.is_dir() else place).samefile(given)


def noise_of(text: str | None) -> tuple[str, float] | str | None:
    """What --noise means. Raises ValueError."""
    if text is None or text == AUTO:
        return text
    norm, _, bound = text.partition(":")
    check_choice(norm, (*NORMS, *(() if bound else (AUTO,))), "norm of --noise")
    try:
        size = float(bound)
    except ValueError as error:
        raise ValueError(f"expected --noise as NORM:BOUND, got {text!r}; pass e.g. --noise l2:0.1") from error
    spread = norm == "gaussian"
    if not (0 < size < inf if spread else 0 <= size < inf):
        wanted = "a standard deviation > 0" if spread else "a bound >= 0"
        raise ValueError(
            f"expected {wanted} in --noise, got {text!r}; pass e.g. --noise {norm}:0.1, or leave it out where there is none"
        )
    return norm, size


_PRIORS: dict[str, tuple[type[AbstractPrior], str, tuple[int, ...], str]] = {
    "gaussian": (Gaussian, "gaussian:1", (1, 2), "gaussian:PRECISION with PRECISION > 0, or gaussian:PRECISION:MEAN"),
    "box": (Box, "box:-3:3", (2,), "box:LOW:HIGH with LOW <= HIGH"),
    "ball": (Ball, "ball:5", (1,), "ball:RADIUS with RADIUS > 0"),
}


def prior_of(text: str | None) -> AbstractPrior | None:
    """What --prior means. Raises ValueError."""
    if text is None:
        return None
    kind, *words = text.split(":")
    check_choice(kind, tuple(_PRIORS), "kind of --prior")
    make, example, counts, words_of_kind = _PRIORS[kind]
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"expected numbers in --prior, got {text!r}; pass e.g. --prior {example}") from error
    if len(numbers) not in counts:
        some = " or ".join(map(str, counts))
        raise ValueError(f"expected {some} numbers after {kind} in --prior, got {len(numbers)}; pass e.g. --prior {example}")
    try:
        return make(*numbers)
    except ValueError as error:
        # its cure is of Python, and another example of the kind may not cure it
        why = str(error).partition("; ")[0]
        raise ValueError(f"expected --prior as {words_of_kind}, got {text!r}: {why}; pass e.g. --prior {example}") from error
