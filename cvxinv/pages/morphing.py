"""The folder that holds a morphing: arrays, words, and a picture; written whole or not at all (docs/morphing.md)."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ..batch import tensor_names
from ..files import check_own_folder, write_own_folder
from ..generator.abstract import AbstractGenerator
from ..sparse_models.morphing import Morphing
from .plots import morphing_picture, png_bytes, require_matplotlib
from .png import output_range

ARRAYS, WORDS, PICTURE = "morph.safetensors", "morph.json", "morph.png"
_SIGNALS = ("frame", "barycenter", "linear", "wasserstein", "latent")
_DISTANCES = ("distance", "linear_distance", "wasserstein_distance")
_TENSORS = tensor_names(Morphing)


def check_morphing_folder(folder: str | Path, overwrite: bool = False) -> None:
    """Raises OSError where the folder cannot be written, BackendNotInstalledError where no picture can be drawn."""
    require_matplotlib()
    check_own_folder(Path(folder), (ARRAYS, WORDS, PICTURE), overwrite)


def morphing_tensors(morphing: Morphing) -> dict[str, Tensor]:
    """All arrays of a morphing by the names that its file gives them; of the ends: `ends.z`, `ends.misfit`."""
    named = {name: getattr(morphing, name) for name in _TENSORS}
    named |= {f"residuals.{name}": getattr(morphing.residuals, name) for name in ("primal", "dual", "rho")}
    if morphing.ends is not None:
        named |= {"ends.z": morphing.ends.z, "ends.misfit": morphing.ends.verdict.misfit}
    return {name: value.detach().cpu().contiguous().clone() for name, value in named.items()}


def morphing_words(morphing: Morphing) -> dict[str, Any]:
    """All words and numbers of a morphing."""
    return {
        "format": "cvxinv morphing format",
        "version": 1,
        "frames": len(morphing),
        "status": morphing.status.tolist(),
        "explained": morphing.explained.tolist(),
        "shape": list(morphing.shape),
        "floor": morphing.floor,
        "eps": morphing.eps,
        "seconds": morphing.seconds,
        "stopped": morphing.stopped,
        "units": {
            "signal units": [*_SIGNALS, "floor", *_DISTANCES],
            "px^2": ["objective", "bound", "transport", "eps", "residuals.dual", "residuals.rho"],
            "share of the frame's mass": ["mass_error"],
            "mass": ["residuals.primal"],
        },
    }


def write_morphing(
    morphing: Morphing, folder: str | Path, generator: AbstractGenerator, *, title: str = "", overwrite: bool = False
) -> Path:
    """Write `morph.safetensors`, `morph.json` and `morph.png`; returns the folder. Raises OSError where it cannot be."""
    arrays = save(morphing_tensors(morphing))
    words = morphing_words(morphing) | {"sha256": hashlib.sha256(arrays).hexdigest()}
    low, high = output_range(generator) or (morphing.floor, float(morphing.linear.max()))
    picture = png_bytes(morphing_picture(morphing, (low, high), title=title))
    contents = {ARRAYS: arrays, PICTURE: picture, WORDS: (json.dumps(words, indent=1) + "\n").encode()}
    return write_own_folder(Path(folder), contents, overwrite)
