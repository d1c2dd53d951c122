"""Opaque generators: any differentiable torch module, asked for values and products with its Jacobian, and nothing else.

    J v    forwards: torch.func.jvp under vmap, so that all vectors share what they have in common,       "vmapped"
           or on a batch that holds each latent once per vector, where vmap does not know an operation,    "repeated"
           or by differentiating J'u by u, where forward mode does not know one                              "twice"
    J' r   backwards: autograd, on the graph that the values left where there is one

The way forwards is chosen once, by trying (`reading.opaque_module`). Where none works J is made of its rows.

Source: Pearlmutter, "Fast exact multiplication by the Hessian" (1994), for the product from two passes back.
"""

import copy
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..inputs import read_device, read_dtype
from .abstract import AbstractGenerator
from .piece import AbstractPiece, PointPiece, room_of, spans, units

VMAPPED, REPEATED, TWICE, ROWS = "vmapped", "repeated", "twice", "rows"
WAYS = (VMAPPED, REPEATED, TWICE, ROWS)


@dataclass(frozen=True, eq=False)
class OpaqueGenerator(AbstractGenerator):
    """A torch module as a generator, from latents `(N, n0)` to flat signals `(N, d)`; no layers of it are known.

    module: in eval mode, with one input, latents of shape `(N, *latent_shape)`, and one output `(N, *signal_shape)`; it is
    the generator's own. description: its name, and what else is known. way: how it pushes, one of `WAYS`. widened: whether
    what it does in float32 or less by its own word is done in `dtype`. work, widest, wide: multiplications of one signal,
    and numbers in its widest step and in all of them.
    """

    module: nn.Module
    latent_shape: tuple[int, ...]
    signal_shape: tuple[int, ...]
    description: dict = field()
    way: str
    work: int = field()
    widest: int = field()
    wide: int
    dtype: torch.dtype
    device: torch.device
    widened: bool = False

    @cached_property
    def latent_dim(self) -> int:  # type: ignore[override]
        return prod(self.latent_shape)

    @property
    def kind(self) -> str:
        return f"an opaque generator ({self.description['name']})"

    @property
    def named(self) -> str:
        return f"{self.description['name']} (opaque)"

    def values(self, z: Tensor) -> Tensor:
        parts = z.split(max(1, room_of(z) // self.widest))
        return self._run(z) if len(parts) <= 1 else torch.cat([self._run(part) for part in parts])

    def pull(self, z: Tensor, r: Tensor) -> Tensor:
        parts = [self._pulled(*part) for part in self._apart(z, r)]
        return torch.cat(parts)

    def push(self, z: Tensor, v: Tensor) -> Tensor:
        if self.way == ROWS:
            return super().push(z, v)
        return torch.cat([self._pushed(*part) for part in self._apart(z, v)])

    def piece(self, z: Tensor, before_output: bool = False) -> tuple[Tensor, AbstractPiece]:
        batch = self._batch(z)
        if self.way in (TWICE, ROWS):
            return self.values(batch), PointPiece(self, batch, forwards=self.way != ROWS)
        return self.values(batch), OpaquePiece(self, batch)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "OpaqueGenerator":
        dtype = self.dtype if dtype is None else read_dtype(dtype)
        device = self.device if device is None else read_device(device)
        if (dtype, device) == (self.dtype, self.device):
            return self
        if (dtype, device) not in self._copies:
            there = replace(self, module=moved(self.module, dtype, device), dtype=dtype, device=device)
            there.__dict__["kept"] = self.kept
            self._copies[dtype, device] = there
        return self._copies[dtype, device]

    @cached_property
    def _copies(self) -> dict[tuple[torch.dtype, torch.device], "OpaqueGenerator"]:
        """What was asked for in other types and on other devices: single steps ask again and again."""
        return {}

    def _run(self, z: Tensor) -> Tensor:
        with steady(self.dtype if self.widened else None):
            return self.module(z.reshape(-1, *self.latent_shape)).reshape(len(z), -1)

    def _apart(self, z: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Latents and vectors in parts whose graphs fit the work space."""
        most = max(1, room_of(z) // self.wide)
        return list(zip(z.split(most), v.split(most), strict=True))

    def _pulled(self, z: Tensor, r: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            x = self._run(z)
        return torch.autograd.grad(x, z, r)[0]

    def _pushed(self, z: Tensor, v: Tensor) -> Tensor:
        if self.way != TWICE:
            return torch.func.jvp(self._run, (z.contiguous(),), (v.contiguous(),))[1]
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            x = self._run(z)
            u = torch.zeros_like(x, requires_grad=True)
            back = torch.autograd.grad(x, z, u, create_graph=True)[0]
        return torch.autograd.grad(back, u, v)[0]

    def __repr__(self) -> str:
        place = f"{str(self.dtype).removeprefix('torch.')}, {self.device}"
        head = f"OpaqueGenerator {self.description['name']}: {self.latent_dim} -> {self.signal_dim}, {place}"
        return f"{head}\n  signals {self.signal_shape}; about {self.work:.1e} multiplications a signal; no layers are known"


@dataclass(frozen=True, eq=False)
class OpaquePiece(AbstractPiece):
    """The Jacobians of an opaque generator at latents `z` `(N, n0)`, by forward mode."""

    of: OpaqueGenerator
    z: Tensor

    @property
    def N(self) -> int:  # type: ignore[override]
        return len(self.z)

    @property
    def n(self) -> int:
        return self.of.latent_dim

    @property
    def m(self) -> int:
        return self.of.signal_dim

    @property
    def single(self) -> "OpaquePiece":
        return OpaquePiece(self.of.single, self.z.float())

    def push(self, v: Tensor) -> Tensor:
        return torch.cat([self._pushed(part) for part in v.split(self._most, 1)], 1)

    def pull(self, r: Tensor) -> Tensor:
        if r.shape[1] == 1:
            return self.of.pull(self.z, r[:, 0])[:, None]
        return PointPiece(self.of, self.z, forwards=True).pull(r)

    def columns(self, start: int, stop: int) -> Tensor:
        return self._pushed(units(self.z, self.n, start, stop))

    def blocks(self) -> list[tuple[int, int]]:
        return spans(self.n, self._most)

    @cached_property
    def _most(self) -> int:
        return max(1, room_of(self.z) // (self.N * self.of.widest))

    def _pushed(self, v: Tensor) -> Tensor:
        if self.of.way == REPEATED:
            each = self.z[:, None].expand(-1, v.shape[1], -1).flatten(0, 1)
            return self.of.push(each, v.flatten(0, 1)).unflatten(0, v.shape[:2])
        return torch.func.vmap(lambda one: torch.func.jvp(self.of._run, (self.z,), (one,))[1], 1, 1)(v.contiguous())


def moved(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A copy in another floating type and on another device; tensors that are plain attributes go with it."""
    twin = copy.deepcopy(module).to(device=device, dtype=dtype).requires_grad_(False)
    for part in twin.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                kind = dtype if value.is_floating_point() else value.dtype
                setattr(part, name, value.detach().to(device=device, dtype=kind))
    return twin


class Widened(TorchFunctionMode):
    """Functions of torch that are told to compute in float32 or less, or do so unasked, compute in `dtype`."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _NARROWING:
            return args[0].to(self.dtype)
        told = {name: self._meant(value) for name, value in (kwargs or {}).items()}
        out = func(*map(self._meant, args), **told)
        return out.to(self.dtype) if isinstance(out, Tensor) and out.dtype in _NARROW else out

    def _meant(self, value: Any) -> Any:
        return self.dtype if isinstance(value, torch.dtype) and value in _NARROW else value


_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_NARROWING = (Tensor.float, Tensor.half, Tensor.bfloat16)


def steady(widened: torch.dtype | None = None) -> ExitStack:
    """Attention by products and a softmax: fused kernels know no forward mode, and round otherwise. widened: see there."""
    stack = ExitStack()
    if widened is not None:
        stack.enter_context(Widened(widened))
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    if torch.backends.mha.get_fastpath_enabled():
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, True)
    return stack
