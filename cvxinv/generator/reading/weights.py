"""Weights that come without their module: a state dict, or a file of one, put into a copy of their module."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .twin import copied, unwrapped

SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".bin")


def with_weights(module: nn.Module | type[nn.Module], source: Mapping[str, Any] | str | Path) -> nn.Module:
    """A float64 copy of `module`, an instance or a class that needs no arguments, with the weights of `source`.

    In a checkpoint the dict whose names are the module's is found, also behind one prefix such as "module." or "generator.".

    Raises: TypeError for what is no module, FileNotFoundError, ValueError for a file that holds more than weights, and for
    weights of another module.
    """
    own = unwrapped(_instance(module))
    holder = source if isinstance(source, Mapping) else _unpickled(Path(source))
    names = own.state_dict().keys()
    state = next((state for part in _dicts(holder) if (state := _named(part, names)) is not None), None)
    if state is None:
        found = max(_dicts(holder), key=len, default={})
        missing = [name for name in names if name not in found]
        foreign = [name for name in found if name not in names]
        raise ValueError(
            f"expected weights of {type(own).__name__}, got none of that names: missing are {_few(missing)}, foreign are "
            f"{_few(foreign)}; build the module as it was when they were saved"
        )
    twin = copied(own, {})
    try:
        twin.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"expected weights of {type(own).__name__}, got {str(error).splitlines()[-1].strip()}; "
            "build the module with the sizes that it had when they were saved"
        ) from error
    return twin


def _instance(module: Any) -> nn.Module:
    if isinstance(module, type) and issubclass(module, nn.Module):
        try:
            module = module().eval()
        except TypeError as error:
            raise TypeError(
                f"expected module as an instance, got the class {module.__name__}, which asks for arguments ({error}); "
                f"pass module={module.__name__}(...).eval()"
            ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected module as an nn.Module, got {type(module).__name__}; pass module=Net().eval()")
    return module


def _unpickled(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of weights, got no {path}; give its path")
    try:
        holder = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"expected a file of weights alone, got {path}, which holds more (a whole module) or is damaged; where you "
            f"trust it, load the module yourself, net = torch.load({str(path)!r}, weights_only=False) (torch.jit.load for "
            "a scripted one), and pass net.eval()"
        ) from error
    if not isinstance(holder, Mapping):
        raise ValueError(f"expected a state dict in {path}, got {type(holder).__name__}; save net.state_dict()")
    return holder


def _dicts(holder: Mapping[str, Any]) -> Iterator[Mapping[str, Tensor]]:
    """The dicts of tensors in a checkpoint, itself among them."""
    if any(isinstance(value, Tensor) for value in holder.values()):
        yield {name: value for name, value in holder.items() if isinstance(value, Tensor)}
    for value in holder.values():
        if isinstance(value, Mapping):
            yield from _dicts(value)


def _named(state: Mapping[str, Tensor], names: Any) -> dict[str, Tensor] | None:
    """The tensors of these names, behind a prefix that all of them share; None where some are missing."""
    first = next(iter(names), "")
    prefixes = [name.removesuffix(first) for name in state if name.endswith(first)]
    exact = next((prefix for prefix in prefixes if all(prefix + name in state for name in names)), None)
    return None if exact is None else {name: state[exact + name] for name in names}


def _few(names: list[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])]) or "none"


def no_weights(path: Path) -> ValueError:
    """The error for a file of weights that comes without its module."""
    return ValueError(
        f"expected the module that {path.name}, a pickle of weights, belongs to, got the file alone; pass the module too: "
        f"load_generator({str(path)!r}, module=Net().eval())"
    )


def keras_file(path: Path) -> ValueError:
    """The error for a file of Keras."""
    onnx = path.with_suffix(".onnx").name
    return ValueError(
        f"expected an ONNX file, a file pair or a module, got the Keras file {path.name}; export it with Keras 3, "
        f"keras.models.load_model({path.name!r}).export({onnx!r}, format='onnx'), or with python -m tf2onnx.convert "
        f"--keras {path.name} --output {onnx}, and pass {onnx!r}"
    )
