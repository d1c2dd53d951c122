"""Uncertainties in files: their tensors, and their output activation in words."""

from math import inf
from typing import Any

from torch import Tensor

from ..batch import tensor_names
from ..entries import Arrays, Entries
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


def uncertainty_of(words: Entries, arrays: Arrays, z: Tensor, N: int) -> Uncertainty:
    """What was written of N signals. z: the latents it is of, `(N, n0)`, or `(n0,)` of a single signal.

    Raises ValueError that names the file and the entry where one is missing, of another kind or of another length.
    """
    parts, n0, head = arrays.under("uncertainty."), z.shape[-1], z.shape[:-1]
    each = {name: parts.like(name, N) for name in ("sigma", "sigma_error", "dof", "seen", "open")}
    signals = {name: parts.floats(name, *head, None) for name in ("signal_std", "before", "before_std")}
    spread = {"z_std": parts.floats("z_std", *head, n0), "z_cov": parts.floats("z_cov", *head, n0, n0)}
    cut = parts.floats("marginals", *head, 4, n0) if parts.has("marginals") else None
    output = _output(words) if words.plain("output") is not None else None
    return Uncertainty(z=z.double(), output=output, marginals=cut, **each, **signals, **spread)


def _output_words(phi: AbstractActivation | None) -> dict[str, Any] | None:
    """Name and numbers of an activation; None for a class of the user's own, which a file cannot name."""
    if phi is None or not in_files(phi):
        return None
    inner, *rescaling = phi.parts
    numbers = [None if number in (inf, -inf) else number for number in inner.parameters.values()]
    return {"name": inner.name, "numbers": numbers} | ({"rescaling": rescaling} if inner is not phi else {})


def _output(words: Entries) -> AbstractActivation | None:
    kinds, inner = {kind.name: kind for kind in KINDS}, words.inner("output")
    name = inner.text("name", tuple(kinds))
    inner.each_number("numbers")
    if "rescaling" in inner.entries:
        inner.each_number("rescaling", 2)
    try:
        activation = kinds[name].of(*inner.plain("numbers"))
        return rescaled(activation, *inner.plain("rescaling")) if "rescaling" in inner.entries else activation
    except (TypeError, ValueError) as error:
        raise ValueError(f'expected "{words.under}.output" in {words.place} as an activation, got {error}') from error
