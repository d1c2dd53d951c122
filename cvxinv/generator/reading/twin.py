"""A float64 copy, on the CPU, of what a user calls: a module, one of its methods, a function over modules.

Everything is read and run on the copy, so that the user's modules, their mode and their hooks stay as they are. Wrappers are
left away; what a function finds in its closure, its globals, its defaults or a partial is copied with it.
"""

import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .ready import check_ready
from .roles import Parameter


@dataclass(frozen=True, eq=False)
class Twin:
    """What to run: `call`, its inputs, the modules in it by their names, and the name of the method or function."""

    call: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    modules: dict[str, nn.Module]
    method: str


def twin_of(source: Any, method: str | None = None) -> Twin:
    """A copy of a module's forward pass, of its `method`, or of a function.

    Raises: ValueError for a module that is not ready, TypeError for a method or a callable that cannot be called.
    """
    if isinstance(source, nn.Module):
        return _of_method(source, method or "forward")
    if method is not None:
        raise TypeError(f"expected a module beside method={method!r}, got {type(source).__name__}; pass the module itself")
    owner = getattr(source, "__self__", None)
    if isinstance(owner, nn.Module) and isinstance(source, types.MethodType):
        return _of_method(owner, source.__func__)
    return _of_function(source)


def _of_method(module: nn.Module, method: str | Callable[..., Any]) -> Twin:
    module = unwrapped(module)
    name = method if isinstance(method, str) else method.__name__
    if isinstance(method, str) and not callable(getattr(module, method, None)):
        known = ", ".join(n for n in dir(type(module)) if not n.startswith("_") and n not in dir(nn.Module)) or "none"
        raise ValueError(f"expected a method of {type(module).__name__}, got {method!r}; its own are {known}")
    check_ready(module)
    twin = copied(module, {})
    own = getattr(twin, method) if isinstance(method, str) else types.MethodType(method, twin)
    return Twin(twin if name == "forward" else own, _parameters(own), {"": twin}, name)


def _of_function(function: Callable[..., Any]) -> Twin:
    if isinstance(function, type):
        name = function.__name__
        raise TypeError(f"expected a module or a function, got the class {name}; pass an instance, {name}(...).eval()")
    copier = _Copier()
    inner = function.func if isinstance(function, functools.partial) else function
    known = types.FunctionType | types.MethodType | functools.partial | torch.jit.ScriptFunction
    is_object = not isinstance(function, known) and isinstance(getattr(function, "__call__", None), types.MethodType)  # noqa: B004
    twin = copier.take(function.__call__ if is_object else function)  # type: ignore[operator]
    return Twin(twin, _parameters(function), copier.modules, getattr(inner, "__name__", type(inner).__name__))


def _parameters(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    schema = getattr(function, "schema", None)
    if isinstance(schema, torch.FunctionSchema):
        named = [argument for argument in schema.arguments if argument.name != "self"]
        empty = inspect.Parameter.empty
        return tuple(Parameter(a.name, a.default_value if a.has_default_value() else empty) for a in named)
    kinds = inspect.Parameter
    found = list[Parameter]()
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(f"expected a function that says its inputs, got {error}; pass lambda z: ... of it") from error
    for p in signature.parameters.values():
        if p.kind is kinds.VAR_KEYWORD or (p.kind is kinds.VAR_POSITIONAL and found):
            continue
        found.append(Parameter(p.name, p.default, p.kind is kinds.KEYWORD_ONLY))
    return tuple(found)


# --- copies ---------------------------------------------------------------------------------------


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of wrappers that compute the same: DataParallel, torch.compile."""
    while (inner := _inside(module)) is not None:
        module = inner
    return module


def _inside(module: nn.Module) -> nn.Module | None:
    dynamo = sys.modules.get("torch._dynamo")  # importing it takes seconds, and without it nothing is compiled
    if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
        return module.get_submodule("_orig_mod")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return None


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A float64 copy on the CPU without its wrappers. Raises: ValueError where copy.deepcopy cannot copy it."""
    parts = list(module.modules())
    for part in parts:
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # what old-style weight norms compute before each call
                memo[id(value)] = value.detach().clone()
    try:
        for part in parts[::-1]:
            if (inner := _inside(part)) is not None:
                memo[id(part)] = copy.deepcopy(inner, memo)
        twin = copy.deepcopy(module, memo)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected a module that copy.deepcopy can copy, got {error}; "
            "pass a module built anew with the same weights: build the class, then load_state_dict(net.state_dict())"
        ) from error
    twin = twin.to(device="cpu", dtype=torch.float64)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    for part in twin.modules():
        if not isinstance(part, torch.jit.ScriptModule):
            _settle(part)
    return twin


def _settle(part: nn.Module) -> None:
    """Tensors that are no parameters and no buffers go where these are; what was compiled in place runs as it is written."""
    for name, value in list(vars(part).items()):
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            object.__setattr__(part, name, _at_home(value))
    if vars(part).get("_compiled_call_impl") is not None:
        vars(part)["_compiled_call_impl"] = None


def _at_home(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.double() if value.is_floating_point() else value


class _Copier:
    """Copies of functions with the modules that they use, each once."""

    def __init__(self) -> None:
        self.memo: dict[int, Any] = {}
        self.modules: dict[str, nn.Module] = {}
        self.made: dict[int, Any] = {}

    def take(self, value: Any, name: str = "") -> Any:
        """A copy of a module, a function, a method or a partial; lists, tuples and dicts of them; anything else itself."""
        if id(value) in self.made:
            return self.made[id(value)]
        made = self._copy(value, name)
        self.made[id(value)] = made
        return made

    def _copy(self, value: Any, name: str) -> Any:
        if isinstance(value, nn.Module):
            check_ready(value)
            twin = copied(unwrapped(value), self.memo)
            self.modules[name] = twin
            return twin
        if isinstance(value, Tensor):
            return _at_home(value)
        if isinstance(value, functools.partial):
            args = [self.take(arg, name) for arg in value.args]
            return functools.partial(self.take(value.func, name), *args, **self._dict(value.keywords))
        if isinstance(value, types.MethodType):
            owner = self._object(value.__self__) if _is_plain(value.__self__) else self.take(value.__self__, name)
            return types.MethodType(value.__func__, owner) if owner is not value.__self__ else value
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if type(value) in (list, tuple):
            return type(value)(self.take(part, f"{name}.{i}") for i, part in enumerate(value))
        return self._dict(value) if type(value) is dict else value

    def _object(self, value: Any) -> Any:
        """An object of the user's own, with copies of what it holds."""
        made = copy.copy(value)
        for name, part in vars(value).items():
            object.__setattr__(made, name, self.take(part, name))
        return made

    def _dict(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self.take(value, str(key)) for key, value in values.items()}

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        code = function.__code__
        if (function.__module__ or "").split(".")[0] in ("torch", "cvxinv"):
            return function
        self.made[id(function)] = function  # a function that calls itself
        cells = tuple(
            self._cell(cell, name) for cell, name in zip(function.__closure__ or (), code.co_freevars, strict=True)
        )
        used = {name: function.__globals__[name] for name in _names(code) if name in function.__globals__}
        changed = {name: made for name, value in used.items() if (made := self.take(value, name)) is not value}
        scope = {**function.__globals__, **changed} if changed else function.__globals__
        twin = types.FunctionType(code, scope, function.__name__, self.take(function.__defaults__), cells)
        twin.__kwdefaults__ = self._dict(function.__kwdefaults__) if function.__kwdefaults__ else None
        return twin

    def _cell(self, cell: types.CellType, name: str) -> types.CellType:
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        made = self.take(value, name)
        return cell if made is value else types.CellType(made)


def _is_plain(value: Any) -> bool:
    """Whether it is an object that holds its parts in its own dict, and no module and no class."""
    return hasattr(value, "__dict__") and not isinstance(value, nn.Module | type | types.ModuleType)


def _names(code: types.CodeType) -> set[str]:
    """All global names that a function may use, those of the functions in it too."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*(_names(part) for part in inner))


def key_of_signal(out: object) -> str:
    """How a signal is picked from an output of several, as a cure says it: a number, or the first tensor's key."""
    if not isinstance(out, Mapping):
        return "0"
    return next((repr(key) for key, value in out.items() if isinstance(value, Tensor)), "0")
