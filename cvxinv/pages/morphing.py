"""The folder that holds a morphing: arrays, words, and a picture; written whole or not at all (docs/morphing.md)."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import save

from ..files import check_own_folder, write_own_folder
from ..generator.abstract import AbstractGenerator
from ..sparse_models.morphing import Morphing
from ..sparse_models.morphing_files import ARRAYS, WORDS, morphing_tensors, morphing_words
from .plots import morphing_picture, png_bytes, require_matplotlib
from .png import output_range

PICTURE = "morph.png"


def check_morphing_folder(folder: str | Path, overwrite: bool = False) -> None:
    """Raises OSError where the folder cannot be written, BackendNotInstalledError where no picture can be drawn."""
    require_matplotlib()
    check_own_folder(Path(folder), (ARRAYS, WORDS, PICTURE), overwrite)


def write_morphing(
    morphing: Morphing, folder: str | Path, generator: AbstractGenerator, *, title: str = "", overwrite: bool = False
) -> Path:
    """Write `morph.safetensors`, `morph.json` and `morph.png`; returns the folder, which `Morphing.load` reads.

    Raises OSError where it cannot be written.
    """
    arrays = save(morphing_tensors(morphing))
    words = morphing_words(morphing) | {"sha256": hashlib.sha256(arrays).hexdigest()}
    low, high = output_range(generator) or (morphing.floor, float(morphing.linear.max()))
    picture = png_bytes(morphing_picture(morphing, (low, high), title=title))
    contents = {ARRAYS: arrays, PICTURE: picture, WORDS: (json.dumps(words, indent=1) + "\n").encode()}
    return write_own_folder(Path(folder), contents, overwrite)
