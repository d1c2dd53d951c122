"""What a user calls as one module of one input, the latents: other inputs fixed, and copies that move."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .roles import Roles


class Opened(nn.Module):
    """A module's forward pass, or one of its methods, or a function over modules, as a module of latents alone.

    call: what is called; parts: the modules that it uses. roles: which of its inputs are the latents, which are fixed and to
    what; label: the class, where one is asked for; spread: whether fixed inputs are given to each latent.
    """

    def __init__(self, call: Callable[..., Any], parts: Iterable[nn.Module], roles: Roles, label: int | None, spread: bool):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.call, self.roles, self.label, self.spread = call, roles, label, spread

    def forward(self, z: Tensor) -> Any:
        """What `call` gives for latents z."""
        labels = None if self.label is None else torch.full((len(z),), self.label, dtype=torch.int64, device=z.device)
        fixed = {name: _beside(value, z) for name, value in self.roles.fixed.items()}
        args, kwargs = replace(self.roles, fixed=fixed).arguments(z, labels, self.spread)
        return self.call(*args, **kwargs)


class Borrowed(nn.Module):
    """A function over modules whose copies hold tensors of their own, and lend them to the function's modules for a call.

    Python copies no function, so that copies share its modules.
    """

    def __init__(self, home: Opened):
        super().__init__()
        self.parts, self._home = copy.deepcopy(home.parts), (home,)

    def forward(self, z: Tensor) -> Any:
        """What the function gives for latents z."""
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        return torch.func.functional_call(self._home[0], own, (z,))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Borrowed":
        twin = Borrowed(self._home[0])
        twin.parts = copy.deepcopy(self.parts, memo)
        return twin


def _beside(value: Any, z: Tensor) -> Any:
    """A fixed input on the device of z, floats in its type."""
    if not isinstance(value, Tensor):
        return value
    return value.to(device=z.device, dtype=z.dtype if value.is_floating_point() else value.dtype)
