"""Running a module in float64 while what depends on its latents, on its label and on chance is followed.

Nothing is traced symbolically: the module runs on numbers, so that shapes, loops and checks in its code do what they do, and
each operation that torch is asked for is seen as it is done. What depends on the latents stays in float64 on the CPU,
whatever the code says of types and devices.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

LATENT, LABEL, CHANCE = "latent", "label", "chance"
_CPU = torch.device("cpu")
_VALUES = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "allclose", "masked_select", "unique", "_unique2")
_SHAPED = ("new_empty", "new_zeros", "new_ones", "new_full", "empty_like", "zeros_like", "ones_like", "full_like")
_TAKEN = ("numpy", "tolist", "__array__", "item", "__bool__", "__float__", "__int__", "__index__", "__complex__")
_SKIPPED = ("__get__", "__set__")


class ValueDependentError(Exception):
    """The forward pass asks for the value of what depends on the latent; `name` is how."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def name_of(func: Any) -> str:
    """The plain name of an operation: "add" of aten.add_.Tensor, "getitem" of Tensor.__getitem__."""
    name = str(func).split(".")[1] if str(func).startswith("aten.") else getattr(func, "__name__", str(func))
    if name.startswith("__") and name.endswith("__"):
        return name.strip("_")
    return name[:-1] if name.endswith("_") else name


def in_place(func: Any) -> bool:
    """Whether an operation of torch's dispatcher writes into its first argument."""
    name = str(func).split(".")[1]
    return name.endswith("_") and not name.endswith("__")


class Marks:
    """What each storage depends on."""

    def __init__(self) -> None:
        self.held: dict[StorageWeakRef, frozenset[str]] = {}

    def of(self, *tensors: Tensor) -> frozenset[str]:
        """What any of the tensors depends on."""
        if not self.held:
            return frozenset()
        return frozenset().union(*(self.held.get(StorageWeakRef(t.untyped_storage()), ()) for t in tensors))

    def put(self, t: Tensor, marks: frozenset[str]) -> None:
        """`t` depends on these, too."""
        ref = StorageWeakRef(t.untyped_storage())
        if ref in self.held:
            marks = marks | self.held[ref]
        self.held = {ref: held for ref, held in self.held.items() if not ref.expired()} | {ref: marks}


def tensors_in(*values: Any) -> list[Tensor]:
    """All tensors in nested arguments."""
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]


class _Operations(TorchDispatchMode):
    """Sees every operation; `run` of the follower does it."""

    def __init__(self, follower: "Follower"):
        super().__init__()
        self.follower = follower

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return self.follower.operation(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Sees what the code of the module calls, for the names in messages and for moves to other devices."""

    def __init__(self, follower: "Follower"):
        super().__init__()
        self.follower = follower

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return self.follower.function(func, args, kwargs or {})


class Follower:
    """Runs code on marked tensors. `read` is called with every operation on what depends on the latents."""

    def __init__(self, modules: dict[str, nn.Module], method: str = "forward"):
        self.marks, self.method, self.modules = Marks(), method, modules
        self.path: list[tuple[str, nn.Module]] = []
        self.functions: list[str] = []
        self.failed: list[tuple[str, tuple, list[tuple[str, nn.Module]]]] = []
        self.failure: Exception | None = None
        self.failed_at = ""
        self.classes: list[int] = []

    def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns, followed. Raises: what it raises."""
        with torch.no_grad(), ExitStack() as stack:
            stack.enter_context(self._paths())
            stack.enter_context(_Functions(self))
            stack.enter_context(_Operations(self))
            try:
                return call()
            except Exception as error:
                if self.failure is None:
                    raise
                raise self.failure from error  # torch.jit makes RuntimeErrors of what went through it

    @contextmanager
    def _paths(self) -> Iterator[None]:
        """Each module says when it is entered and left."""
        handles = []
        for prefix, module in self.modules.items():
            for path, part in module.named_modules(prefix=prefix):
                if isinstance(part, torch.jit.ScriptModule):
                    continue
                handles.append(part.register_forward_pre_hook(self._enter(path), prepend=True, with_kwargs=True))
                handles.append(part.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: tuple, kwargs: dict) -> None:
            self.path.append((path, part))
            self.entered(part, args, kwargs)

        return hook

    def _leave(self, part: nn.Module, args: tuple, out: Any) -> None:
        self.left(part, args, out)
        if self.path:
            self.path.pop()

    # --- what a reader does besides ---

    def entered(self, part: nn.Module, args: tuple, kwargs: dict) -> None:
        """A module is called."""

    def left(self, part: nn.Module, args: tuple, out: Any) -> None:
        """A module has returned."""

    def read(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Do an operation on what depends on the latents."""
        return func(*args, **kwargs)

    # --- one operation ---

    def operation(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Do one operation of the dispatcher, in float64 where it meets what depends on the latents."""
        tensors = tensors_in(args, kwargs)
        marks = frozenset() if name_of(func) in _SHAPED else self.marks.of(*tensors)
        kwargs = _at_home(kwargs)
        if LATENT in marks or any(t.dtype == torch.float64 and t.ndim for t in tensors):
            args, kwargs = _in_double(args, kwargs, in_place(func))
        if LATENT in marks and name_of(func) in _VALUES:
            raise self._asked_for_values(name_of(func))
        try:
            out = self.read(func, args, kwargs) if LATENT in marks else func(*args, **kwargs)
        except Exception:
            if not self.failed:
                self.failed = [(name_of(func), args, list(self.path))]
            raise
        if torch.Tag.nondeterministic_seeded in func.tags:
            marks = marks | {CHANCE}
        if marks:
            for t in tensors_in(out):
                self.marks.put(t, marks)
        return out

    def function(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Do what the code calls."""
        name = getattr(func, "__name__", "")
        if name in _SKIPPED:
            return func(*args, **kwargs)
        if name == "cuda" and args and isinstance(args[0], Tensor):
            return args[0]
        if name in _TAKEN and LATENT in self.marks.of(*tensors_in(args)):
            raise self._asked_for_values(name_of(func))
        if name in ("to", "type"):
            args = tuple(_CPU if _is_elsewhere(value) else value for value in args)
        self._look_up(name, args, kwargs)
        self.functions.append(name_of(func))
        try:
            return self.called(func, name, args, _at_home(kwargs))
        except Exception:
            if not self.failed:
                self.failed = [(name_of(func), args, list(self.path))]
            raise
        finally:
            self.functions.pop()

    def called(self, func: Any, name: str, args: tuple, kwargs: dict) -> Any:
        """Do it; a reader may look at what is no operation of the dispatcher."""
        return func(*args, **kwargs)

    def _asked_for_values(self, name: str) -> Exception:
        self.failure = self.failure or ValueDependentError(self.functions[-1] if self.functions else name)
        self.failed_at = self.failed_at or self.place()
        return self.failure

    def _look_up(self, name: str, args: tuple, kwargs: dict) -> None:
        """How many classes there are, where a label is looked up."""
        if name not in ("embedding", "one_hot") or LABEL not in self.marks.of(*tensors_in(args, kwargs)):
            return
        if name == "embedding":
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            self.classes += [weight.shape[0]] if isinstance(weight, Tensor) else []
        else:
            size = kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
            self.classes += [size] if isinstance(size, int) and size > 0 else []

    def place_of_failure(self) -> str:
        """Where the code was when it failed."""
        return self.failed_at or self.place()

    def place(self) -> str:
        """Where the code is, in the user's words: `net.2 (Softmax)`, or `net.forward (softmax)`."""
        path, part = self.path[-1] if self.path else ("", None)
        if part is not None and is_torchs(part):
            return f"{path or 'module'} ({type(part).__name__})"
        method = self.method if len(self.path) < 2 else "forward"
        name = self.functions[0] if self.functions else "code"
        return f"{path + '.' if path else ''}{method} ({name})"


def is_torchs(part: nn.Module) -> bool:
    """Whether its forward pass is torch's own, and no chain of others."""
    return type(part).forward.__module__.startswith("torch.nn.") and not isinstance(part, nn.Sequential)


def _is_elsewhere(value: Any) -> bool:
    if isinstance(value, str):
        return value.split(":")[0] in ("cuda", "mps", "xpu")
    return isinstance(value, torch.device) and value.type not in ("cpu", "meta")


def _at_home(kwargs: dict) -> dict:
    """On the CPU, where the copy of the module is."""
    if _is_elsewhere(kwargs.get("device")):
        return {**kwargs, "device": _CPU}
    return kwargs


def _in_double(args: tuple, kwargs: dict, in_place: bool) -> tuple[tuple, dict]:
    """All floats in float64, and a type that is asked for, too; what is written into stays what it is."""
    first, rest = (args[:1], args[1:]) if in_place else ((), args)
    rest, kwargs = tree_map(_double, (rest, kwargs))
    dtype = kwargs.get("dtype")
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        kwargs = {**kwargs, "dtype": torch.float64}
    return (*first, *rest), kwargs


def _double(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        return value.double()
    return value
