"""The files of a morphing (docs/morphing.md): its arrays by name, its words, and the way back from both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..batch import tensor_names
from ..entries import Arrays, Entries
from ..files import near, read_head, read_tensors
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
    words = Entries(str(folder / WORDS), read_head(folder / WORDS, _FORMAT, _VERSION, _CURE))
    tensors = read_tensors(folder / ARRAYS, words.text("sha256"), WORDS, "morphing")
    return _fields(words, Arrays(str(folder / ARRAYS), tensors), arrays)


def _fields(words: Entries, arrays: Arrays, names: tuple[str, ...]) -> dict[str, Any]:
    T = words.count("frames", least=1)
    own = {name: arrays.rows(name, T) for name in names}
    shape = words.plain("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(n, int) and n >= 1 for n in shape):
        words.refuse("shape", "two integers >= 1")
    told = {}
    for name in ("status", "explained"):
        told[name] = words.plain(name)
        if not isinstance(told[name], list) or len(told[name]) != T:
            words.refuse(name, f"a list of {T}")
    # earlier versions wrote no more than two arrays of them
    ends = inversion_fields(words.inner("ends"), arrays.under(_ENDS)) if words.has("ends") else None
    return own | {
        **{name: np.array(value, dtype=object) for name, value in told.items()},
        "residuals": Residuals(*(arrays.like(f"residuals.{name}", None, None) for name in _RESIDUALS)),
        "shape": (int(shape[0]), int(shape[1])),
        **{name: words.number(name) for name in _NUMBERS},
        "stopped": words.text("stopped"),
        "ends": None if ends is None else Inversion(**ends),
    }
