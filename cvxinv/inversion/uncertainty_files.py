"""Uncertainties in files: their tensors, and their output activation in words."""

from collections.abc import Mapping
from math import inf
from typing import Any

from torch import Tensor

from ..batch import tensor_names
from ..generator.activations import KINDS, AbstractActivation, in_files, rescaled
from .uncertainty import Uncertainty

_NAMES = tuple(name for name in tensor_names(Uncertainty) if name != "z")  # z is the result's own


def uncertainty_tensors(uncertainty: Uncertainty) -> dict[str, Tensor]:
    """Its tensors by the names that files give them."""
    named = {f"uncertainty.{name}": getattr(uncertainty, name) for name in _NAMES}
    cut = uncertainty.marginals
    return named if cut is None else named | {"uncertainty.marginals": cut}


def uncertainty_words(uncertainty: Uncertainty) -> dict[str, Any]:
    """What else there is of it, as JSON holds it."""
    return {"output": _output_words(uncertainty.output)}


def uncertainty_of(words: Mapping[str, Any], tensors: Mapping[str, Tensor], z: Tensor, prefix: str = "") -> Uncertainty:
    """What was written; prefix: before the names of its tensors. z: the latents it is of."""
    parts = {name: tensors[f"{prefix}uncertainty.{name}"] for name in _NAMES}
    cut = tensors.get(f"{prefix}uncertainty.marginals")
    return Uncertainty(z=z.double(), output=_output(words["output"]), marginals=cut, **parts)


def _output_words(phi: AbstractActivation | None) -> dict[str, Any] | None:
    """Name and numbers of an activation; None for a class of the user's own, which a file cannot name."""
    if phi is None or not in_files(phi):
        return None
    inner, *rescaling = phi.parts
    numbers = [None if number in (inf, -inf) else number for number in inner.parameters.values()]
    return {"name": inner.name, "numbers": numbers} | ({"rescaling": rescaling} if inner is not phi else {})


def _output(words: dict[str, Any] | None) -> AbstractActivation | None:
    if words is None:
        return None
    inner = {kind.name: kind for kind in KINDS}[words["name"]].of(*words["numbers"])
    return rescaled(inner, *words["rescaling"]) if "rescaling" in words else inner
