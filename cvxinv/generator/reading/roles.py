"""Which input of a forward pass is the latent, which one a class label, and which ones are fixed."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedLayerError


@dataclass(frozen=True)
class Parameter:
    """An input: its name, its default (`inspect.Parameter.empty`: none), and whether it is passed by its name alone."""

    name: str
    default: Any = inspect.Parameter.empty
    by_name: bool = False

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Roles:
    """What each input is; `fixed` are the numbers of `inputs`, `spread` those of them that are one signal's."""

    parameters: tuple[Parameter, ...]
    latent: Parameter
    label: Parameter | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, z: Tensor, labels: Tensor | None, spread: bool = True) -> tuple[list[Any], dict[str, Any]]:
        """What the forward pass is called with; inputs that it does not need keep their default."""
        given = {name: _for_all(value, len(z)) if spread else value for name, value in self.fixed.items()}
        given[self.latent.name] = z
        if self.label is not None:
            given[self.label.name] = labels
        places = [p for p in self.parameters if not p.by_name]
        last = max((i for i, p in enumerate(places) if p.name in given), default=-1)
        args = [given.get(p.name, p.default) for p in places[: last + 1]]
        return args, {p.name: given[p.name] for p in self.parameters if p.by_name and p.name in given}


def _for_all(value: Any, N: int) -> Any:
    """A tensor of one signal (k,) or (1, k, ...) for N of them; what is no such tensor as it is."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.ndim < 2 and not value.is_floating_point():
        return value.reshape(()).expand(N)  # a class of each signal
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.expand(N, -1)
    if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == 1:
        return value.expand(N, *value.shape[1:])
    return value


def fixed_inputs(inputs: Mapping[str, Any] | None, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """`inputs` checked: names of the forward pass, tensors on the CPU, floats in float64. Raises: ValueError, TypeError."""
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise TypeError(f'expected inputs as a dict, got {type(inputs).__name__}; pass for example inputs={{"c": tensor}}')
    names = [p.name for p in parameters]
    fixed = {}
    for name, value in inputs.items():
        if name not in names:
            raise ValueError(
                f"expected inputs named as those of the forward pass, {', '.join(names)}, got {name!r}; rename it"
            )
        if hasattr(value, "__array__") and not isinstance(value, Tensor):
            value = torch.as_tensor(value)
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            value = value.double() if value.is_floating_point() else value
        fixed[name] = value
    if len(fixed) == len(names):
        raise ValueError(f"expected one input left for the latent, got inputs for all of {', '.join(names)}; leave one out")
    return fixed


def possible(parameters: tuple[Parameter, ...], label: object, fixed: Mapping[str, Any]) -> Iterator[Roles]:
    """Roles of the inputs, likeliest first. Raises: UnsupportedLayerError where more than two inputs are open."""
    left = [p for p in parameters if p.name not in fixed]
    required = [p for p in left if p.required]
    if len(required) > 2 or not left:
        raise too_many(left)
    if len(required) == 2:
        for latent, other in (required, required[::-1]):
            yield Roles(parameters, latent, other, fixed)
        return
    latent = (required or left)[0]
    others = [p for p in left if p is not latent]
    alone = Roles(parameters, latent, None, fixed)
    with_label = [Roles(parameters, latent, other, fixed) for other in others]
    yield from ([alone, *with_label] if label is None else [*with_label, alone])


def too_many(parameters: list[Parameter]) -> UnsupportedLayerError:
    """The error for inputs of which nobody knows what they are."""
    names = ", ".join(p.name for p in parameters) or "none"
    example = parameters[1].name if len(parameters) > 1 else "c"
    return UnsupportedLayerError(
        f"expected a forward pass of one input, the latent, or of a latent and a class label, got the inputs {names}; "
        f'fix the others with inputs={{"{example}": ...}}, or pass label=... if one is an integer class'
    )
