"""Which shape of latents a module takes: what the first step that does not fit asks for.

The module is run on latents of an unlikely size. The operation that fails says what it would take: a matrix its width, a
convolution its channels, a reshape its sizes; what a label or a constant adds beside the latent is counted off.
"""

from collections.abc import Iterable, Iterator
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn

from .recorder import Recorder

UNLIKELY = 509  # a prime that no layer is likely to have as its size
_MOST = 24  # shapes that are tried

_WIDTHS = {nn.Linear: "in_features", nn.BatchNorm1d: "num_features", nn.RNNBase: "input_size", nn.RNNCellBase: "input_size"}
_CHANNELS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = {nn.BatchNorm1d: 0, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.InstanceNorm2d: 2, nn.InstanceNorm1d: 1}
_NAMES = ("latent_dim", "z_dim", "nz", "latent_size", "n_z", "zdim", "dim_z", "latent_dims", "noise_dim", "z_size", "latent")


class Shapes:
    """Shapes of one latent to try, likeliest first; what fails adds more."""

    def __init__(self, modules: Iterable[nn.Module], latent_dim: int | tuple[int, ...] | None):
        self.latent_dim = prod(latent_dim) if isinstance(latent_dim, tuple) else latent_dim
        self.tried = list[tuple[int, ...]]()
        self.open: list[tuple[int, ...]] = [(UNLIKELY,)] if latent_dim is None else _given(latent_dim)
        self.most = 1 if isinstance(latent_dim, tuple) else _MOST
        parts = [part for module in modules for part in module.modules()]
        self.later = list(dict.fromkeys(shape for part in parts for shape in _of_module(part)))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        while (self.open or self.later) and len(self.tried) < self.most:
            shape = (self.open or self.later).pop(0)
            if (
                min(shape, default=1) > 0
                and shape not in self.tried
                and (self.latent_dim is None or prod(shape) == self.latent_dim)
            ):
                self.tried.append(shape)
                yield shape

    def learn(self, recorder: Recorder) -> None:
        """Add what the operation or module that failed asks for."""
        for name, args, path in recorder.failed:
            if path:
                self._add(_of_module(path[-1][1]), recorder)
            try:
                self._add(_asked(name, args, recorder), recorder)
            except (AttributeError, TypeError, IndexError):  # arguments in a form that says nothing
                continue

    def _add(self, shapes: Iterable[tuple[int, ...]], recorder: Recorder) -> None:
        for shape in shapes:
            pictures = [(shape[0], *[1] * axes) for axes in (2, 1, 3)] if len(shape) == 1 else []
            self.open += [shape, *_filled(shape, self.latent_dim)]
            self.later += pictures

    @property
    def words(self) -> list[tuple[int, ...]]:
        """The shapes that were tried, without the unlikely one."""
        return [shape for shape in self.tried if shape != (UNLIKELY,)]


def _given(latent_dim: int | tuple[int, ...]) -> list[tuple[int, ...]]:
    if isinstance(latent_dim, tuple):
        return [latent_dim]
    return [(latent_dim,), (latent_dim, 1, 1), (latent_dim, 1), (latent_dim, 1, 1, 1)]


def _filled(shape: tuple[int, ...], latent_dim: int | None) -> Iterator[tuple[int, ...]]:
    """Lines, square pictures and cubes of the channels that are asked for, where they have the size that is given."""
    if latent_dim is None or latent_dim % shape[0]:
        return
    pixels, axes = latent_dim // shape[0], len(shape) - 1
    if axes == 1:
        yield (shape[0], pixels)
    elif axes == 2 and isqrt(pixels) ** 2 == pixels:
        yield (shape[0], isqrt(pixels), isqrt(pixels))
    elif axes == 3 and (side := round(pixels ** (1 / 3))) ** 3 == pixels:
        yield (shape[0], side, side, side)


def _of_module(part: nn.Module) -> Iterator[tuple[int, ...]]:
    """What a module takes where it comes first."""
    yield from ((getattr(part, name),) for kind, name in _WIDTHS.items() if isinstance(part, kind))
    if isinstance(part, _CHANNELS):
        yield (part.in_channels, *[1] * (part.weight.ndim - 2))
    yield from ((part.num_features, *[1] * axes) for kind, axes in _NORMS.items() if isinstance(part, kind) and axes)
    if isinstance(part, nn.Unflatten):
        yield (prod(n[1] if isinstance(n, tuple) else n for n in part.unflattened_size),)
    own = vars(part)
    yield from ((own[name],) for name in _NAMES if type(own.get(name)) is int and 0 < own[name] < 100_000)


def _asked(name: str, args: tuple, recorder: Recorder) -> Iterator[tuple[int, ...]]:
    """What an operation takes in place of a tensor that has the latent's numbers, with what stands beside them."""
    name = name.strip("_")
    tensors = [t for t in args if isinstance(t, Tensor)]
    mine = next((t for t in tensors if _is_latent(t, recorder)), None)
    if mine is None:
        return
    other = [t for t in tensors if t is not mine]
    held, beside = _held(mine, recorder, by_pixel=name.startswith(("conv", "_conv", "batch", "native")))
    whole = prod(recorder.shape)
    copies = max(1, held // whole)
    for asked, *pixels in _asked_for(name, args, mine, other, recorder):
        own = asked - beside
        if own > 0 and own % copies == 0:
            yield (own // copies, *pixels)
        if own > 0 and 0 < held < whole and not pixels:  # a share of the latent, or all but some of it
            yield from ((round(own * whole / held),), (own + whole - held,))


def _held(t: Tensor, recorder: Recorder, by_pixel: bool) -> tuple[int, int]:
    """How much of a tensor are the latent's numbers, and how many constants are beside them, per signal.

    by_pixel: of its first pixel.
    """
    found = recorder.book.look(t)
    assert found is not None
    numbers = found[1].flatten(2)[..., 0] if by_pixel and t.ndim > 2 else found[1]
    own = int((numbers > 0).sum()) // recorder.book.N
    return own, numbers.numel() // recorder.book.N - own


def _asked_for(name: str, args: tuple, mine: Tensor, other: list[Tensor], recorder: Recorder) -> Iterator[tuple[int, ...]]:
    """What an operation takes along the axis that it looks at, and pixels where it takes pictures."""
    if name in ("linear", "addmm", "mm", "matmul", "bmm", "mv") and other:
        weight = other[-1] if name != "linear" else other[0].T
        first = name == "linear" or next(arg for arg in args[::-1] if isinstance(arg, Tensor)) is not mine
        yield (weight.shape[0 if weight.ndim == 1 else -2] if first else weight.shape[-1],)
    elif name.startswith(("conv", "_conv")) and other:
        weight, transposed = other[0], "transpose" in name or (len(args) > 6 and args[6] is True)
        groups = next((g for g in (args[8:9] if "convolution" in name else args[6:7]) if type(g) is int), 1)
        channels = weight.shape[0] if transposed else weight.shape[1] * groups
        flat = len(recorder.shape) == 1 and mine.ndim == weight.ndim
        yield (channels,) if flat else (channels, *[1] * (weight.ndim - 2))
    elif name in ("view", "reshape", "unflatten", "_unsafe_view"):
        sizes = _sizes(name, args)
        if sizes and all(type(n) is int and n > 0 for n in sizes):
            yield (prod(sizes),)
    elif name in ("batch_norm", "native_batch_norm") and other:
        yield (other[0].shape[0],)
    elif name in ("mul", "add", "sub", "div", "addcmul", "rsub", "iadd", "imul", "radd", "rmul") and other and other[0].ndim:
        yield (other[0].shape[-1],)


def _sizes(name: str, args: tuple) -> list[Any]:
    """The sizes of one signal in `unflatten(1, sizes)`, `view(N, *sizes)` or `view((N, *sizes))`."""
    rest: list[Any] = list(args[1:])
    if name == "unflatten":
        return list(rest[1]) if len(rest) == 2 and isinstance(rest[1], tuple | list | torch.Size) else []
    return list(rest[0][1:]) if rest and isinstance(rest[0], tuple | list | torch.Size) else rest[1:]


def _is_latent(t: Tensor, recorder: Recorder) -> bool:
    found = recorder.book.look(t)
    return found is not None and found[0].alike
