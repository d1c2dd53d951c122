"""A CUDA device for machines that have none: what a GPU would refuse is refused, what it would do is counted.

Inside `with PretendDevice() as device:` everything that is put on "cuda" becomes a `Far` tensor, which says that it is on
cuda:0 and keeps its numbers in `near`, on the CPU. Every operation goes through `PretendDevice.perform`, which

- refuses what CUDA refuses, in CUDA's words: operands on two devices (0-dim CPU tensors may join elementwise operations),
  indices on the device for a tensor on the CPU, `.numpy()`, products of integers, a generator of another device;
- counts kernels: one for each operation that computes; views and empty tensors are none;
- counts waits, the places where the host must know a number that the device still computes: `item`, `bool`, copies to and
  from the host, masks as indices, `nonzero`, SVDs and eigenvalues, error checks of `torch.linalg`.

    with PretendDevice() as device, device.counting() as tally:
        ci.solve(problem.to(device="cuda"))
    tally.kernels, tally.waits, tally.seconds, tally.where()

`Tally.seconds` is a model, and a bound from below: a kernel takes `LAUNCH`, or as long as its products and its memory
traffic take at the rates below, and a wait takes `WAIT`; Python, cuSOLVER's own kernels and imprecise rates are left out.
CUDA's rounding, order of sums, memory and races are not imitated. A captured graph (`torch.cuda.graph`) is: what happens in
it is recorded and refused a wait, and each replay runs the record again on the same tensors, in one launch and its kernels.
"""

import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

THERE, HERE = torch.device("cuda", 0), torch.device("cpu")
LAUNCH, WAIT = 5e-6, 20e-6  # seconds
GRAPHED = 1e-6  # of a kernel inside a graph: it needs no launch of its own
TRAFFIC, PRODUCTS, LOW_PRODUCTS = 4e12, 30e12, 300e12  # bytes / s; flops / s in float32 or float64, and in 16 bits
MEMORY = (100 << 30, 128 << 30)  # bytes free and in all

_APART = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (aten::{})"
_ELSEWHERE = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
_NO_ARRAY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
_WAITING = {
    "_local_scalar_dense": "item", "equal": "equal", "nonzero": "nonzero", "masked_select": "mask", "bincount": "bincount",
    "_unique2": "unique", "unique_dim": "unique", "unique_consecutive": "unique", "repeat_interleave": "repeat",
    "_linalg_check_errors": "linalg check", "_linalg_svd": "svd", "_linalg_eigh": "eigh", "linalg_lstsq": "lstsq",
}  # fmt: skip
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
_COPIES = ("_to_copy", "copy_")
_LEFT = {
    "mm": 0,
    "bmm": 0,
    "mv": 0,
    "dot": 0,
    "addmm": 1,
    "baddbmm": 1,
    "addmv": 1,
    "cholesky_solve": 1,
}  # a product's factor
_CUBES = {"linalg_cholesky_ex": 1 / 3, "cholesky_inverse": 1.0, "linalg_qr": 2.0, "_linalg_svd": 4.0, "_linalg_eigh": 4.0}
_FILLS = ("fill_", "masked_fill", "masked_fill_", "index_fill", "index_fill_")  # elementwise, though not marked as such


class Far(Tensor):
    """A tensor that says it is on cuda:0; its numbers are those of `near`."""

    near: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: Tensor):
        dense = near.layout == torch.strided  # a sparse one has none of these, and shows as if it were dense
        shape = {"strides": near.stride(), "storage_offset": near.storage_offset()} if dense else {}
        far = torch.Tensor._make_wrapper_subclass(cls, near.shape, dtype=near.dtype, device=THERE, **shape)
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _Operation(func, args, kwargs or {}).run()  # outside of the context: nobody counts

    def numpy(self, *, force: bool = False):
        if force:
            return self.cpu().numpy()
        raise TypeError(_NO_ARRAY)

    def tolist(self):
        return self.cpu().tolist()

    def __format__(self, spec: str) -> str:
        return repr(self) if self.ndim else format(self.item(), spec)

    def __repr__(self, *, tensor_contents=None) -> str:
        return repr(self.cpu())[:-1] + ", device='cuda:0')"


@dataclass
class Tally:
    """Kernels and waits by (what, line), and the least time that they take, seconds."""

    launched: Counter = field(default_factory=Counter)
    waited: Counter = field(default_factory=Counter)
    busy: float = 0.0  # seconds of kernels, launches included

    @property
    def kernels(self) -> int:
        return self.launched.total()

    @property
    def waits(self) -> int:
        return self.waited.total()

    @property
    def seconds(self) -> float:
        return self.busy + WAIT * self.waits

    def where(self, most: int = 10) -> str:
        """The lines that wait most and launch most."""
        parts = (("waits", self.waited), ("kernels", self.launched))
        return "\n".join(f"{n:6d} {name}: {what}, {line}" for name, c in parts for (what, line), n in c.most_common(most))


class PretendDevice(TorchDispatchMode):
    """The context in which "cuda" is the pretend device. watch: the package whose lines the tally names."""

    def __init__(self, watch: str = "cvxinv", memory: tuple[int, int] = MEMORY):
        super().__init__()
        self.watch, self.memory, self.tally = watch, memory, Tally()
        self.graph: Any = None  # that records now
        self._undo = ExitStack()

    def __enter__(self):
        _let_torch_know_cuda()
        enter = self._undo.enter_context
        lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # numbers become tensors here, and are sent
        self._undo.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        enter(mock.patch.multiple(torch.cuda, **self._card()))
        enter(mock.patch.object(torch, "Generator", _FarGenerator))
        enter(mock.patch.object(torch.__future__, "_swap_module_params_on_conversion", True))  # a parameter changes class
        enter(_Spelling())
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._undo.close()

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """A tally of what happens inside alone."""
        with mock.patch.object(self, "tally", Tally()) as tally:
            yield tally

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation = _Operation(func, args, kwargs or {})
        if self.graph is not None and operation.waits():
            raise RuntimeError(f"operation not permitted when stream is capturing (aten::{operation.name})")
        if self.graph is not None:
            self.graph.remember(operation)
        result = operation.run()
        if operation.counts:
            self.note(operation)
            if self.graph is not None:
                self.graph.record.append(operation)
        return result

    def note(self, operation: "_Operation") -> None:
        line = self.line()
        self.tally.waited.update((kind, line) for kind in operation.waits())
        if operation.computes:
            self.tally.launched[operation.name, line] += 1
            self.tally.busy += operation.seconds(LAUNCH)

    def line(self) -> str:
        """The innermost running line of the package that is watched, else of whoever is not torch."""
        frame, other = sys._getframe(1), "?"
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            top = module.partition(".")[0]
            if top == self.watch:
                return f"{module}:{frame.f_lineno} {frame.f_code.co_name}"
            if other == "?" and top not in (__name__, "torch", "contextlib"):
                other = f"{module}:{frame.f_lineno} {frame.f_code.co_name}"
            frame = frame.f_back
        return other

    def _card(self) -> dict[str, Any]:
        """What `torch.cuda` says, as far as anyone here asks."""
        about = SimpleNamespace(name="pretend device", total_memory=self.memory[1], major=8, minor=0)
        says = {
            "is_available": True, "device_count": 1, "current_device": 0, "get_device_name": about.name, "_lazy_init": None,
            "get_device_properties": about, "get_device_capability": (8, 0), "mem_get_info": self.memory,
            "is_bf16_supported": True, "empty_cache": None, "max_memory_allocated": 0, "memory_reserved": 0,
            "memory_allocated": 0, "reset_peak_memory_stats": None,
        }  # fmt: skip
        calls: dict[str, Any] = {name: (lambda *_, _said=said, **__: _said) for name, said in says.items()}
        calls["synchronize"] = lambda *_: self.tally.waited.update([("synchronize", self.line())])
        calls["device"] = lambda *_: nullcontext()
        calls["CUDAGraph"] = lambda: _Graph(self)
        calls["graph"] = _capturing
        return calls


class _Operation:
    """One aten operation: where its operands are, what CUDA would say of it, and its result."""

    def __init__(self, func: Any, args: tuple, kwargs: dict[str, Any]):
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = func._schema.name.partition("::")[2]
        self.operands = _tensors((args, kwargs))
        self.far = [t for t in self.operands if isinstance(t, Far)]
        self.near = [t for t in self.operands if not isinstance(t, Far)]
        device = kwargs.get("device")
        if self.name == "copy_":
            self.lands = isinstance(args[0], Far)
        else:
            self.lands = bool(self.far) if device is None else torch.device(device).type == "cuda"
        self.made: list[Tensor] = []

    @property
    def counts(self) -> bool:
        """Whether the device has to do with it."""
        return bool(self.far) or self.lands

    @property
    def computes(self) -> bool:
        """Whether it takes a kernel."""
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in self.func._schema.returns)
        return not view and bool(self.made) and not self.name.startswith(("empty", "new_empty"))

    def run(self) -> Any:
        """The result, on the device where it belongs there."""
        self.refuse()
        result = self.func(*self._plain(self.args), **self._options())
        if self.far and torch.Tag.inplace_view in self.func.tags:  # t_, squeeze_: the shape that `Far` shows changes too
            with no_dispatch():
                self.func(*self.args, **self.kwargs)
        self.made = _tensors(result)
        if not self.lands:
            return result
        known = {id(t.near): t for t in self.far}
        self.result = _mapped(Tensor, lambda t: known.get(id(t)) if id(t) in known else Far(t), result)
        return self.result

    def _plain(self, x: Any) -> Any:
        return _mapped(Far, lambda t: t.near, x) if self.far else x

    def _options(self) -> dict[str, Any]:
        options = dict(self._plain(self.kwargs))
        if self.lands and options.get("device") is not None:
            options["device"] = HERE
            options.pop("pin_memory", None)
        return options

    def refuse(self) -> None:
        """Raise what CUDA raises."""
        if self.name in _INDEXING:
            return self._refuse_indices()
        if not self.far or self.name in _COPIES:
            return None
        elementwise = torch.Tag.pointwise in self.func.tags or self.name in _FILLS
        into_near = self.name.endswith("_") and not isinstance(self.args[0], Far)
        if self.near and (into_near or not elementwise or any(t.ndim for t in self.near)):
            raise RuntimeError(_APART.format(self.name))
        if self.name in _LEFT and not (dtype := self.args[_LEFT[self.name]].dtype).is_floating_point:
            raise RuntimeError(f"\"addmm_impl_cuda\" not implemented for '{str(dtype).removeprefix('torch.').title()}'")
        return None

    def _refuse_indices(self) -> None:
        if any(isinstance(i, Far) for i in self._indices()) and not isinstance(self.args[0], Far):
            raise IndexError(_ELSEWHERE)
        if self._foreign_value() and self.args[2].ndim and not self._fills_a_mask():
            raise RuntimeError(_APART.format(self.name))

    def _indices(self) -> list[Tensor]:
        return [i for i in self.args[1] if i is not None]

    def _masks(self) -> list[Tensor]:
        return [i for i in self._indices() if isinstance(i, Far) and i.dtype in (torch.bool, torch.uint8)]

    def _foreign_value(self) -> bool:
        """Whether what is written comes from the other side."""
        return self.name != "index" and isinstance(self.args[2], Far) is not isinstance(self.args[0], Far)

    def _fills_a_mask(self) -> bool:
        """x[mask] = number, which becomes a fill."""
        one = self._foreign_value() and self.args[2].numel() == 1 and len(self._masks()) == len(self._indices()) == 1
        return one and not any(x is True for x in self.args[3:])

    def waits(self) -> list[str]:
        """Why the host waits."""
        if self.name in _COPIES:
            stays = isinstance(self.args[self.name == "copy_"], Far) is self.lands
            return [] if stays else ["from host" if self.lands else "to host"]
        if not self.far:
            return []
        if self.name not in _INDEXING:
            return [_WAITING[self.name]] if self.name in _WAITING else []
        if self._fills_a_mask():
            return []
        into = isinstance(self.args[0], Far)
        sent = sum(not isinstance(i, Far) for i in self._indices()) if into else 0
        return ["mask"] * len(self._masks()) + ["from host" if into else "to host"] * (sent + self._foreign_value())

    def seconds(self, least: float) -> float:
        """The time of its kernel: `least`, or what products and memory traffic take."""
        rate = PRODUCTS if self.made[0].itemsize > 2 else LOW_PRODUCTS
        traffic = sum(t.nbytes for t in (*self.operands, *self.made))
        return max(least, self._flops() / rate, traffic / TRAFFIC)

    def _flops(self) -> float:
        made = self.made[0]
        if self.name in _LEFT:
            return 2.0 * made.numel() * self.args[_LEFT[self.name]].shape[-1]
        if self.name in _CUBES:
            return _CUBES[self.name] * self.args[0].numel() * self.args[0].shape[-1]
        if self.name == "convolution":
            kernel, transposed = self.args[1], self.args[6]
            return 2.0 * (self.args[0] if transposed else made).numel() * kernel.numel() / max(1, kernel.shape[0])
        return 0.0


class _Graph:
    """A captured graph: replaying it runs the operations that were recorded again, on the tensors they had."""

    def __init__(self, device: PretendDevice):
        self.device, self.record, self.before = device, [], []

    def remember(self, operation: "_Operation") -> None:
        """Keep what an operation writes over: recording it is not running it."""
        written = (a.alias_info is not None and a.alias_info.is_write for a in operation.func._schema.arguments)
        for x, over in zip(operation.args, written, strict=False):
            if over and isinstance(x, Far):
                with no_dispatch():
                    self.before.append((x.near, x.near.clone()))

    def restore(self) -> None:
        with no_dispatch():
            for near, numbers in reversed(self.before):
                near.copy_(numbers)

    def replay(self) -> None:
        tally, line = self.device.tally, self.device.line()
        tally.launched["graph", line] += 1
        tally.busy += LAUNCH
        with no_dispatch():
            for operation in self.record:
                made = _tensors(operation.func(*operation._plain(operation.args), **operation._options()))
                for old, new in zip(operation.made, made, strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)
                if operation.computes:
                    tally.busy += operation.seconds(GRAPHED)

    def reset(self) -> None:
        self.record = []


@contextmanager
def _capturing(graph: _Graph, **_: Any) -> Iterator[None]:
    graph.device.graph = graph
    try:
        yield
    finally:
        graph.device.graph = None
        graph.restore()


class _FarGenerator(torch.Generator):
    """A generator on the CPU that says where it was asked to be."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls, device="cpu")
        self.said = THERE if torch.device(device).type == "cuda" else HERE
        return self

    device = property(lambda self: self.said)


class _Spelling(TorchFunctionMode):
    """What no operation sees: "cuda" without a number, and generators of another device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (Tensor.to, Tensor.cuda):
            args, kwargs = _mapped((str, torch.device), lambda d: THERE if str(d) == "cuda" else d, (args, kwargs))
        if kwargs.get("generator") is not None:
            first = args[0].device if args and isinstance(args[0], Tensor) else HERE
            wanted, got = torch.device(kwargs.get("device") or first).type, kwargs["generator"].device.type
            if wanted != got:
                raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{got}'")
        return func(*args, **kwargs)


def _tensors(x: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(x, Tensor):
        return [x]
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, (tuple, list)) else ()
    return [t for part in parts for t in _tensors(part)]


def _mapped(kind: Any, change: Callable[[Any], Any], x: Any) -> Any:
    """A tree with `change` of everything in it that is of a kind."""
    if isinstance(x, kind):
        return change(x)
    if isinstance(x, dict):
        return {name: _mapped(kind, change, part) for name, part in x.items()}
    return type(x)([_mapped(kind, change, part) for part in x]) if isinstance(x, (tuple, list)) else x


def _let_torch_know_cuda() -> None:
    """Make torch's dispatcher accept tensors of a device that this build has no code for.

    It looks the device up in a table of guards, where a build for the CPU has none for CUDA: an entry that answers 0 to
    everything is put there, and then torch's own that does nothing, which FakeTensor uses as well.
    """
    library = next(path for path in Path(torch.__file__).parent.glob("lib/libc10.*") if path.suffix in (".so", ".dylib"))
    table = (ctypes.c_void_p * 2).in_dll(ctypes.CDLL(str(library)), "_ZN3c104impl26device_guard_impl_registryE")
    if table[1] is None:
        nothing = ctypes.CFUNCTYPE(ctypes.c_int8, ctypes.c_void_p)(lambda _: 0)
        entries = (ctypes.c_void_p * 64)(*[ctypes.cast(nothing, ctypes.c_void_p).value] * 64)
        guard = ctypes.c_void_p(ctypes.addressof(entries))
        _KEPT.extend((nothing, entries, guard))
        table[1] = ctypes.addressof(guard)
    torch._C._ensureCUDADeviceGuardSet()


_KEPT: list[Any] = []  # what the table points to must outlive the call
