"""Loading a generator: which reader takes what a caller gives."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch
from torch import nn

from ...files import near
from ...inputs import read_device, read_dtype
from ...shipped import shipped_file, shipped_generators
from ...surroundings import undisturbed
from ..abstract import AbstractGenerator
from ..activations import AbstractActivation
from ..chain import Generator
from ..opaque import OpaqueGenerator
from .module import read_module
from .onnx_file import read_onnx
from .opaque_module import read_opaque
from .pair import pair_of, read_pair
from .weights import SUFFIXES, keras_file, no_weights, with_weights

_Source = nn.Module | Callable[..., Any] | Mapping[str, Any] | str | Path


@overload
def load_generator(
    source: _Source,
    output: str | AbstractActivation | None = None,
    *,
    dtype: torch.dtype = ...,
    device: torch.device | str = ...,
    latent_dim: int | tuple[int, ...] | None = ...,
    label: int | None = ...,
    inputs: Mapping[str, Any] | None = ...,
    method: str | None = ...,
    module: nn.Module | type[nn.Module] | None = ...,
    opaque: Literal[False] = ...,
) -> Generator: ...
@overload
def load_generator(
    source: _Source,
    output: str | AbstractActivation | None = None,
    *,
    opaque: Literal[True],
    dtype: torch.dtype = ...,
    device: torch.device | str = ...,
    latent_dim: int | tuple[int, ...] | None = ...,
    label: int | None = ...,
    inputs: Mapping[str, Any] | None = ...,
    method: str | None = ...,
    module: nn.Module | type[nn.Module] | None = ...,
) -> OpaqueGenerator: ...
@undisturbed
def load_generator(
    source: _Source,
    output: str | AbstractActivation | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    latent_dim: int | tuple[int, ...] | None = None,
    label: int | None = None,
    inputs: Mapping[str, Any] | None = None,
    method: str | None = None,
    module: nn.Module | type[nn.Module] | None = None,
    opaque: bool = False,
) -> AbstractGenerator:
    """The generator that a torch module computes, that a file pair NAME.safetensors + NAME.json holds, or NAME.onnx.

    "digits_8x8" and "mnist_gan" ship with the package; a file pair of that name in the current folder comes first.

    Batch norms are folded in float64; the result is cast to `dtype` last. `output` replaces the last
    activation ("identity", "relu", "leaky_relu", "leaky_relu:0.2", ... or an activation object). `latent_dim`
    says how many latent coordinates a module takes, where its layers do not. `label` chooses the class of a conditional
    generator and is folded in. The module is not changed.

    A module may be wrapped (DataParallel, torch.compile) or scripted. `method` names one of its methods to take in place of
    its forward pass, as does a bound method (`vae.decode`) or a function over modules (`lambda z: net(z)[0]`). Other inputs
    than the latent are fixed by `inputs={"c": tensor}`: tensors of one signal, (k,) or (1, k, ...), or plain numbers.
    `module` is what a state dict, or a file of one (.pt, .pth, ...), belongs to: `load_generator("net.pt", module=Net())`.

    What is no chain of layers (skip connections, attention, modulation) is read with `opaque=True`: any differentiable
    module or function is a generator by its values and derivatives alone, on which all methods work that need no layers.
    `latent_dim` is then the number of latent coordinates or the shape of one latent. It is tried on random latents: it must
    give the same again, whatever its neighbours in a batch are, and derivatives that difference quotients show.

    A module is compared with what was read from it on random latents, in float64. An ONNX file (extra `[onnx]`) is
    compared with onnxruntime where that is installed; the description says what it was compared with.

    Raises: UnsupportedLayerError (a TypeError), with the module path, the layer or the node of the file, for what
    cannot be read; FileNotFoundError for a missing file; ValueError for a damaged one, for a module that
    is not ready, and for a missing or wrong label; BackendNotInstalledError for an ONNX file without the extra.
    """
    dtype, device = read_dtype(dtype), read_device(device)
    if module is not None:
        source = _weighed(source, module)
    if opaque:
        return _with_precision(_opaque(source, output, latent_dim, label, inputs, method), source).to(dtype, device)
    if isinstance(source, nn.Module) or callable(source):
        generator = _with_precision(read_module(source, latent_dim, label, inputs, method), source)
    elif isinstance(source, str | Path):
        latent_dim = prod(latent_dim) if isinstance(latent_dim, tuple) else latent_dim
        generator = _read_files(source, latent_dim, label, inputs)
    else:
        raise TypeError(
            f"expected an nn.Module, a function or a path, got {type(source).__name__}; pass the module itself (not its "
            "state_dict alone: load_generator(state, module=Net().eval())), or the path of NAME.safetensors with NAME.json, "
            "or of NAME.onnx"
        )
    generator = generator.to(dtype, device)
    return generator if output is None else generator.with_output(output)


_Read = TypeVar("_Read", Generator, OpaqueGenerator)


def _with_precision(generator: _Read, source: object) -> _Read:
    """With a word of the half precision that a module computes in: what is computed here differs by its rounding."""
    module = source if isinstance(source, nn.Module) else getattr(source, "__self__", None)
    kinds = {p.dtype for p in module.parameters()} if isinstance(module, nn.Module) else set()
    half = next((kind for kind in (torch.float16, torch.bfloat16) if kind in kinds), None)
    if half is None:
        return generator
    return replace(generator, description={**generator.description, "precision": str(half).removeprefix("torch.")})


def _opaque(source: Any, output: str | AbstractActivation | None, *asked: Any) -> OpaqueGenerator:
    if isinstance(source, str | Path) or not callable(source):
        raise TypeError(
            f"expected an nn.Module or a function with opaque=True, got {type(source).__name__}; a file is read as it is: "
            "leave opaque out, or load the torch module that it was made from"
        )
    generator = read_opaque(source, *asked)
    if output is not None:
        generator.with_output(output)  # refuses it
    return generator


def _read_files(
    source: str | Path, latent_dim: int | None, label: int | None, inputs: Mapping[str, Any] | None
) -> Generator:
    path = Path(source)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise FileNotFoundError(f"expected an ONNX file, got no {path}; give the path of NAME.onnx{_near_onnx(path)}")
        return read_onnx(path, latent_dim, label, inputs)
    if path.suffix in SUFFIXES:
        raise no_weights(path)
    if path.suffix in (".h5", ".keras", ".hdf5"):
        raise keras_file(path)
    pair = pair_of(path)
    if str(source) in shipped_generators() and not any(part.is_file() for part in pair):
        with shipped_file(str(source)) as inside:
            return read_pair(pair_of(inside), latent_dim, label)
    for needed in pair[::-1]:
        if not needed.is_file():
            raise FileNotFoundError(
                f"expected the two files {pair[0].name} and {pair[1].name}, got no {needed}; "
                f"keep both in one folder and pass the path of either, or without suffix{_near_onnx(pair[0])}"
            )
    return read_pair(pair, latent_dim, label)


def _weighed(source: Any, module: nn.Module | type[nn.Module]) -> nn.Module:
    if not isinstance(source, Mapping) and not (isinstance(source, str | Path) and Path(source).suffix in SUFFIXES):
        raise TypeError(
            f"expected a state dict or the path of one ({', '.join(SUFFIXES)}) beside module=..., got {source!r:.60}; "
            "leave module out, or pass module alone as the first argument"
        )
    return with_weights(module, source)


def _near_onnx(path: Path) -> str:
    """The ONNX files beside a path that is not there, closest names first, for its error message."""
    words = near(path.with_suffix(".onnx"), (".onnx",))
    return f"; ONNX files {words}" if words.startswith("near it") else ""
