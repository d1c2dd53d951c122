"""Reading a torch module as an opaque generator: it is tried, measured and checked, and never looked into.

Everything happens on a float64 copy on the CPU. What a generator must be is checked on random latents before one is given
out: two calls give the same, a signal does not depend on its neighbours in the batch, values and derivatives are finite, J'
is the adjoint of J, and J v is what difference quotients show, down to the rounding of float64.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import prod
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ...errors import UnsupportedLayerError
from ..abstract import fault_of
from ..opaque import ROWS, WAYS, OpaqueGenerator, steady
from .labels import fixed_label
from .opened import Borrowed, Opened
from .roles import fixed_inputs, possible, too_many
from .twin import key_of_signal, twin_of, unwrapped

_BATCH = 5
_SAME = 1e-9  # how far the signals of a batch may be from those of its latents alone: roundings differ, neighbours must not
_STEP, _ROUNDED = 1e-8, 1e-10  # a step of a latent, and what of |x| float64 may lose over it; float32 loses 1e-7
_RUN_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError, AttributeError)
_NOT_FOLLOWED = "a step such as argmax, round, detach, .item() or numpy has no derivative"


def read_opaque(
    source: nn.Module | Callable[..., Any],
    latent_dim: int | tuple[int, ...] | None = None,
    label: int | None = None,
    inputs: Mapping[str, Any] | None = None,
    method: str | None = None,
) -> OpaqueGenerator:
    """The generator that a module, its `method` or a function computes: values and derivatives, and nothing else.

    It takes latents, and gives one tensor; in float64 on the CPU. latent_dim: n0, or the shape of one latent; left out, that
    of a first layer which says it. label, inputs: what other inputs are given.

    Raises: ValueError for a module that is not ready, that gives other signals at a second call or in another batch, or
    whose derivatives are none, and where no latent size is known; UnsupportedLayerError for one that does not run on latents
    in float64 or that autograd does not follow.
    """
    name, twins = _name(source, method), list(_opened(source, label, inputs, method))
    described = {"name": name} | ({} if label is None else {"label": label})
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            return _read(twins, latent_dim, described, widened=False)
        except (ValueError, UnsupportedLayerError) as error:
            try:  # what asks for float32 inside fails, or shows by its rounding
                return _read(twins, latent_dim, described, widened=True)
            except (ValueError, UnsupportedLayerError):
                raise error from None


def _read(
    twins: list[tuple[nn.Module, Iterable[nn.Module]]],
    latent_dim: int | tuple[int, ...] | None,
    described: dict[str, Any],
    widened: bool,
) -> OpaqueGenerator:
    name, place = described["name"], (torch.float64, torch.device("cpu"), widened)
    with steady(torch.float64 if widened else None):
        twin, shape, x = _probe(twins, latent_dim, name)
        _check_repeats(twin, shape, name)
        sizes = _measured(twin, shape)
    G = OpaqueGenerator(twin, shape, tuple(x.shape[1:]) or (1,), described, ROWS, *sizes, *place)
    G = replace(G, way=_way(G, name))
    if fault := fault_of(G):
        raise ValueError(f"expected {fault} of {name}; {_NOT_FOLLOWED}: take it out")
    _check_precision(G, name)
    return G


def _name(source: Any, method: str | None) -> str:
    """The class of a module with its method, or the name of a function."""
    owner = getattr(source, "__self__", source)
    if isinstance(owner, nn.Module):
        owner, of = unwrapped(owner), method or (source.__name__ if owner is not source else "")
        kind = str(getattr(owner, "original_name", type(owner).__name__))
        return kind if of in ("", "forward") else f"{kind}.{of}"
    name = getattr(source, "__name__", type(source).__name__)
    return "a function" if name == "<lambda>" else name


def _opened(
    source: Any, label: int | None, inputs: Mapping[str, Any] | None, method: str | None
) -> Iterator[tuple[nn.Module, Iterable[nn.Module]]]:
    """The source as modules of one input, in all ways in which its inputs may be meant; likeliest first."""
    twin = twin_of(source, method)
    fixed, number = fixed_inputs(inputs, twin.parameters), None if label is None else fixed_label(label, None)
    parts = list(twin.modules.values())
    for roles in possible(twin.parameters, label, fixed):
        if (roles.label is None) is not (label is None):
            continue
        for spread in (True, False) if fixed else (True,):
            opened = Opened(twin.call, parts, roles, number, spread)
            yield (Borrowed(opened) if isinstance(twin.call, FunctionType | partial) else opened), parts
    if label is None and sum(p.required for p in twin.parameters if p.name not in fixed) == 2:
        raise too_many([p for p in twin.parameters if p.name not in fixed])


def _probe(
    twins: list[tuple[nn.Module, Iterable[nn.Module]]], latent_dim: int | tuple[int, ...] | None, name: str
) -> tuple[nn.Module, tuple[int, ...], Tensor]:
    """The module and the shape of one latent that run, and signals of `_BATCH` latents."""
    errors = list[str]()
    for twin, parts in twins:
        for shape in _shapes(parts, latent_dim, name):
            try:
                x = twin(_latents(shape))
            except _RUN_ERRORS as error:
                errors.append(f"{(_BATCH, *shape)}: {type(error).__name__}: {error}")
                continue
            _check_signals(x, name)
            return twin, shape, x
    tried = "; ".join(dict.fromkeys(errors))
    raise UnsupportedLayerError(
        f"expected a module that runs on float64 latents of shape (N, n0), got errors from {name}: {tried}; pass latent_dim "
        "as the number of latent coordinates or as the shape of one latent, and make constants of the module buffers, which "
        "follow its type"
    )


def _check_signals(x: object, name: str) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = type(x).__name__ if not isinstance(x, Tensor) else f"a tensor {x.dtype}"
        raise UnsupportedLayerError(
            f"expected {name} to give one tensor of floats, the signals, got {got}; pass a function that picks them, as in "
            f"load_generator(lambda z: net(z)[{key_of_signal(x)}], opaque=True)"
        )
    if x.ndim == 0 or len(x) != _BATCH or x[0].numel() == 0:
        raise ValueError(
            f"expected {name} to give one signal per latent, {_BATCH} here, got a tensor of shape {tuple(x.shape)}; "
            "the first axis of input and output is the batch"
        )
    if not bool(x.isfinite().all()):
        raise ValueError(
            f"expected finite signals at latents of the standard normal distribution, got NaN or inf from {name}; "
            "scale the latents in a module around it"
        )


def _shapes(parts: Iterable[nn.Module], latent_dim: int | tuple[int, ...] | None, name: str) -> Iterator[tuple[int, ...]]:
    if isinstance(latent_dim, int):
        yield from ((latent_dim,), (latent_dim, 1, 1), (latent_dim, 1))
    elif latent_dim is not None:
        yield tuple(latent_dim)
    elif guesses := _guesses(parts):
        yield from guesses
    else:
        raise ValueError(
            f"expected the size of a latent, got latent_dim=None for {name}, whose first layer does not say it; pass "
            "latent_dim= as the number of latent coordinates or as the shape of one latent"
        )


def _guesses(parts: Iterable[nn.Module]) -> list[tuple[int, ...]]:
    """What the first layers take; of convolutions only transposed ones, whose latents are one pixel as a rule."""
    found = list[tuple[int, ...]]()
    for part in [inner for outer in parts for inner in outer.modules()]:
        if isinstance(part, nn.Linear):
            found.append((part.in_features,))
        elif isinstance(part, nn.ConvTranspose2d):
            found.append((part.in_channels, 1, 1))
        elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            break
    return list(dict.fromkeys(found[:3]))


def _latents(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(_BATCH, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu")


def _check_repeats(twin: nn.Module, shape: tuple[int, ...], name: str) -> None:
    z = _latents(shape)
    first, again = twin(z), twin(z)
    apart = torch.cat([twin(one) for one in z.split(1)])
    if not torch.equal(first, again):
        raise ValueError(
            f"expected a module that gives the same signals for the same latents, got others at a second call of {name}; "
            "call .eval(), or pass a function without its noise, as load_generator(lambda z: net(z, noise=0), opaque=True)"
        )
    if apart.shape != first.shape or not float((apart - first).norm()) <= _SAME * float(first.norm()):
        raise ValueError(
            f"expected signals that do not depend on their neighbours in a batch, got others for single latents of {name}; "
            "call .eval(), and give batch norms running statistics"
        )


def _way(G: OpaqueGenerator, name: str) -> str:
    """The first way forwards that runs and agrees with the way back."""
    z, r = _latents((G.latent_dim,), 1)[:2], torch.ones(2, G.signal_dim, dtype=torch.float64, device="cpu")
    try:
        back = G.pull(z, r)
    except _RUN_ERRORS as error:
        raise UnsupportedLayerError(
            f"expected a module that autograd follows from the latents to the signals, got {type(error).__name__}: {error} "
            f"from {name}; {_NOT_FOLLOWED}: take it out"
        ) from error
    v = torch.randn(2, 3, G.latent_dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64, device="cpu")
    expected = (v @ back[..., None])[..., 0]
    for way in WAYS[:-1]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch about itself, at the first use of forward mode
                got = replace(G, way=way).piece(z)[1].push(v).sum(2)
        except _RUN_ERRORS:
            continue
        if float((got - expected).norm()) <= _SAME * float(expected.norm()):
            return way
    return ROWS


def _check_precision(G: OpaqueGenerator, name: str) -> None:
    """Refuse what computes in float32 somewhere inside: an inversion would end at its rounding, and blame the signals."""
    z, v = _latents((G.latent_dim,), 3), _latents((G.latent_dim,), 4)
    x = G.values(z)
    off = (G.values(z + _STEP * v) - x - _STEP * G.push(z, v)).norm(dim=1) / x.norm(dim=1)
    if not bool((off <= _ROUNDED).any()):
        raise ValueError(
            f"expected a module that computes in the type of its weights, got float32 somewhere inside {name}; compute in "
            "z.dtype there"
        )


class _Sizes(TorchDispatchMode):
    """Numbers in each tensor that is made, views and all, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.found.append(out.numel())
        return out


def _measured(twin: nn.Module, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Multiplications of one signal, numbers in its widest step, and in all steps; what all signals share counts little."""
    sizes, flops = [_Sizes(), _Sizes()], FlopCounterMode(display=False)
    for count, mode in enumerate(sizes, 2):
        with mode, flops if count == 3 else nullcontext():
            twin(_latents(shape)[:count])
    two, three = (mode.found for mode in sizes)
    # a library may go another way for another batch: then all that is made counts
    each = [b - a for a, b in zip(two, three, strict=True)] if len(two) == len(three) else [b // 3 for b in three]
    widest, wide = max([*each, prod(shape)]), max(sum(each), prod(shape))
    return max(flops.get_total_flops() // 6, wide), widest, wide
