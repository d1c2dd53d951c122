"""The files of a morphing (docs/morphing.md): its arrays by name, its words, and the way back from both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..batch import tensor_names
from ..files import known_entries, near, read_head, read_tensors
from ..inversion.result import Inversion
from ..inversion.storage import inversion_fields, inversion_spec, inversion_tensors
from .constrained_barycenters import Residuals

if TYPE_CHECKING:
    from .morphing import Morphing

ARRAYS, WORDS = "morph.safetensors", "morph.json"
_FORMAT, _VERSION = "cvxinv morphing format", 1
_CURE = "pass the folder that write_morphing or `cvxinv morph` wrote"
_RESIDUALS = ("primal", "dual", "rho")
_ENDS = "ends."  # before the names of the inversion of A and B
_NUMBERS = ("floor", "eps", "seconds")
_UNITS = {
    "signal units": [
        "frame", "barycenter", "linear", "wasserstein", "latent", "floor", "distance", "linear_distance",
        "wasserstein_distance",
    ],
    "px^2": ["objective", "bound", "transport", "eps", "residuals.dual", "residuals.rho"],
    "share of the frame's mass": ["mass_error"],
    "mass": ["residuals.primal"],
}  # fmt: skip


def morphing_tensors(morphing: "Morphing") -> dict[str, Tensor]:
    """All arrays of a morphing by the names that its file gives them; `ends.` stands before those of the ends."""
    named = {name: getattr(morphing, name) for name in tensor_names(type(morphing))}
    named |= {f"residuals.{name}": getattr(morphing.residuals, name) for name in _RESIDUALS}
    if morphing.ends is not None:
        named |= {_ENDS + name: x for name, x in inversion_tensors(morphing.ends).items() if x is not None}
    return {name: value.detach().cpu().contiguous().clone() for name, value in named.items()}


def morphing_words(morphing: "Morphing") -> dict[str, Any]:
    """All words and numbers of a morphing."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "frames": len(morphing),
        "status": morphing.status.tolist(),
        "explained": morphing.explained.tolist(),
        "shape": list(morphing.shape),
        **{name: getattr(morphing, name) for name in _NUMBERS},
        "stopped": morphing.stopped,
        "ends": None if morphing.ends is None else inversion_spec(morphing.ends),
        "units": _UNITS,
    }


def load_morphing_fields(folder: str | Path, arrays: tuple[str, ...]) -> dict[str, Any]:
    """The fields of the morphing whose words and arrays are in `folder`, on the CPU; arrays: names of its tensors.

    Raises FileNotFoundError where a file is missing, ValueError where one is damaged or of another kind.
    """
    folder = Path(folder)
    for name in (WORDS, ARRAYS):
        if not (folder / name).is_file():
            where = near(folder, ("",)) if not folder.is_dir() else f"it is another folder, or half a copy; {_CURE}"
            raise FileNotFoundError(f"expected {WORDS} and {ARRAYS} in {folder}, got no {name}; {where}")
    words = read_head(folder / WORDS, _FORMAT, _VERSION, _CURE)
    tensors = read_tensors(folder / ARRAYS, words.get("sha256"), WORDS, "morphing")
    with known_entries(folder, "docs/morphing.md"):
        fields = _fields(words, {name: tensors[name] for name in arrays}, tensors)
        lengths = {words["frames"], *(len(fields[name]) for name in (*arrays, "status", "explained"))}
    if len(lengths) > 1:
        raise ValueError(f"expected as many frames in all of {folder}, got {sorted(lengths)}; copy the folder again")
    return fields


def _fields(words: dict[str, Any], own: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Any]:
    ends = words.get("ends")  # earlier versions wrote no more than two arrays of them
    of_ends = {name.removeprefix(_ENDS): x for name, x in tensors.items() if name.startswith(_ENDS)}
    return own | {
        "status": np.array(words["status"], dtype=object),
        "explained": np.array(words["explained"], dtype=object),
        "residuals": Residuals(*(tensors[f"residuals.{name}"] for name in _RESIDUALS)),
        "shape": (int(words["shape"][0]), int(words["shape"][1])),
        **{name: float(words[name]) for name in _NUMBERS},
        "stopped": str(words["stopped"]),
        "ends": None if ends is None else Inversion(**inversion_fields(ends, of_ends)),
    }
