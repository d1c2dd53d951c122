"""What comes from outside, read once and strictly: torch or numpy, real numbers, on the device they belong to."""

from math import isfinite
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_WORDS = {"f": "floats", "i": "integers", "b": "bools"}
_CPU = torch.device("cpu")
_ORIGINS = WeakTensorKeyDictionary()  # of a plain tensor that still lives: the same numbers with the graph they came with


def describe(value: object) -> str:
    """A value in a few words, for error messages."""
    if isinstance(value, Tensor):
        storage = "" if value.layout == torch.strided else f" ({str(value.layout).removeprefix('torch.')})"
        # a nested tensor has no shape to tell
        shape = "" if value.is_nested else f" of shape {tuple(value.shape)}"
        return f"a tensor {value.dtype}{storage}{shape} on {value.device}"
    if isinstance(value, np.ndarray):
        masked = "masked " if isinstance(value, np.ma.MaskedArray) else ""
        return f"{'a' if masked else 'an'} {masked}array {value.dtype} of shape {value.shape}"
    return type(value).__name__


def describe_amount(value: object) -> str:
    """A number as it is, anything else in a few words."""
    value = plain_number(value)
    return repr(value) if isinstance(value, int | float) else describe(value)


def conversion(value: object, dtype: str = "float64") -> str:
    """The words that make tensors or arrays of `dtype` of an object of this kind, as code: a cure that works for it."""
    if isinstance(value, Tensor):
        return {"float64": ".double()", "float32": ".float()", "bool": ".bool()"}[dtype]
    if isinstance(value, np.ndarray):
        return f".astype({dtype!r})"
    if isinstance(value, list | tuple):
        return f"torch.as_tensor(..., dtype=torch.{dtype})"
    if callable(getattr(value, "to_numpy", None)):  # frames and series of pandas, polars and the like
        return f".to_numpy(dtype={dtype!r})" if "pandas" in type(value).__module__ else ".to_numpy()"
    if callable(getattr(value, "__array__", None)):
        return f"numpy.asarray(..., dtype={dtype!r})"
    return "torch.as_tensor(...)"


def read_device(value: object, cure: str = "pass device='cpu', or leave it out") -> torch.device:
    """A device that floats of 64 bits can be put on here, a CUDA one with its index; cure: what to do where it cannot be.

    Raises TypeError for what names no device; ValueError for one that is not here, that knows no float64, or that holds no
    numbers.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | torch.device):
        raise TypeError(f"expected a device as 'cpu', 'cuda' or 'cuda:1', got {describe(value)}; pass its name")
    try:
        device = torch.device(value)
    except RuntimeError as error:
        raise ValueError(f"expected a device as 'cpu', 'cuda' or 'cuda:1', got {value!r}; {cure}") from error
    if device.type == "meta":
        raise ValueError(f"expected a device that holds numbers, got {value!r}; {cure}")
    if device.type == "cuda" and not torch.cuda.is_available():
        why = "is built without CUDA" if torch.version.cuda is None and torch.version.hip is None else "finds no GPU"
        raise ValueError(f"expected a device that is here, got {value!r}, and torch {torch.__version__} {why}; {cure}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"expected one of the {torch.cuda.device_count()} CUDA devices here, got {value!r}; {cure}")
    try:
        return torch.zeros(1, dtype=torch.float64, device=device).device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        first = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"expected a device for float64 numbers, got {value!r}: {first}; {cure}") from error


def read_dtype(value: object) -> torch.dtype:
    """float32 or float64 of torch, the types that generators compute in. Raises TypeError or ValueError for all else."""
    if isinstance(value, torch.dtype) and value in (torch.float32, torch.float64):
        return value
    kind = ValueError if isinstance(value, torch.dtype) else TypeError
    place = "pass one of the two" if isinstance(value, torch.dtype) else "pass one of the two, and a device as device="
    raise kind(f"expected dtype as torch's float32 or float64, got {value!r}; {place}")


def plain_tensor(value: object, name: str) -> Tensor:
    """`value` as a plain dense tensor without a graph, its numbers where they were; what is none is refused with its cure.

    Raises TypeError for what is no tensor, and for nested, sparse, quantised and complex ones.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} as a torch tensor, got {describe(value)}; use {_as_tensor(value)}")
    cure = None
    if value.is_nested:
        cure = "use one tensor, e.g. torch.nested.to_padded_tensor(...) and a mask"
    elif value.layout != torch.strided:
        cure = "use .to_dense()"
    elif value.is_quantized:
        cure = "use .dequantize()"
    elif value.is_complex():
        cure = "use .real where the imaginary part is 0, or real and imaginary parts as numbers of their own"
    if cure:
        raise TypeError(f"expected {name} as a dense tensor of real numbers, got {describe(value)}; {cure}")
    plain = value.detach()
    # a subclass such as nn.Parameter would pass itself on to every result; a negative view cannot become an array
    plain = (plain if type(plain) is Tensor else plain.as_subclass(Tensor)).resolve_neg()
    return remember(plain, origin(value)) if torch.is_grad_enabled() else plain


def origin(plain: Tensor) -> Tensor:
    """The same numbers with the graph that `plain_tensor` took off them, where there was one; else `plain` itself."""
    return _ORIGINS.get(plain, plain) if len(_ORIGINS) else plain


def remember(plain: Tensor, given: Tensor) -> Tensor:
    """`plain`, which from now on has `given`, the same numbers, as its origin where that carries a graph."""
    if given.requires_grad and torch.is_grad_enabled():
        _ORIGINS[plain] = given
    return plain


def weights(value: object, name: str) -> Tensor:
    """`plain_tensor` of the floating types that layers are computed in, float32 and float64.

    Raises TypeError for other types, ValueError for a tensor on meta.
    """
    tensor = plain_tensor(value, name)
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected {name} of floats, float32 or float64, got {describe(tensor)}; use .double()")
    if tensor.is_meta:
        raise ValueError(f"expected {name} with numbers in it, got {describe(tensor)}; load the weights first")
    return tensor


def _as_tensor(value: object) -> str:
    """`conversion`, to a tensor."""
    words = "..." if isinstance(value, np.ndarray) else conversion(value)
    return words if words.startswith("torch") else f"torch.as_tensor({words})"


def plain_number(value: object) -> object:
    """A numpy number or an array without axes as the Python number that it holds; anything else as it is."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiub" and type(value) is np.ndarray:
        value = value[()]
    # a long double stays what it is for Python too, which knows no other
    return float(value) if isinstance(value, np.floating) else value.item() if isinstance(value, np.generic) else value


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether it is a number, finite as a float, and no bool."""
    value = plain_number(value)
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def read_seconds(value: object, name: str, cure: str, least: str = ">= 0") -> float:
    """A limit in seconds; least: ">= 0" or "> 0". Raises TypeError or ValueError, which ends with the cure."""
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} as a number of seconds, got {describe(value)}; pass e.g. {name}=60")
    if not (value >= 0 if least == ">= 0" else value > 0):
        raise ValueError(f"expected {name} {least} seconds, got {value!r}; {cure}")
    return float(value)


def read_seed(value: object) -> int:
    """A seed of random numbers. Raises ValueError for what is no integer from 0 to 2^63 - 1."""
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"seed must be an integer >= 0 and < 2**63, got {describe_amount(value)}; pass e.g. seed=0")
    return value


def read_amount(value: object, name: str, device: torch.device) -> Tensor:
    """One number or one per signal, such as a penalty or a bound, in float64 on `device`; numbers of numpy are numbers.

    Raises TypeError for bools, complex numbers, lists, strings and None, ValueError for another device.
    """
    value = plain_number(value)
    if isinstance(value, (Tensor, np.ndarray)):
        found = read_numbers(value, name, device, "fi", "pass a number, or one per signal")
        wide = found.to(torch.float64)
        return remember(wide, origin(found)) if torch.is_grad_enabled() else wide
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        several = isinstance(value, list | tuple) or hasattr(value, "to_numpy")
        cure = f"use {conversion(value)}" if several else "pass a number"
        raise TypeError(f"expected {name} as a float or a tensor (N,), got {describe(value)}; {cure}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond all floats
        number = float("inf") if value > 0 else -float("inf")
    return torch.tensor(number, dtype=torch.float64, device=device)


def read_size(value: object, name: str, N: int, device: torch.device = _CPU) -> Tensor:
    """A finite number >= 0, or one for each of N signals, as `(N,)` in float64. Raises TypeError or ValueError."""
    found = read_amount(value, name, device)
    if found.shape not in ((), (N,)) or not bool((found >= 0).all() & found.isfinite().all()):
        got = describe_amount(value)
        raise ValueError(f"expected {name} as a finite number >= 0 or {N} of them, got {got}; pass its size")
    return found.expand(N)


def read_mask(value: object, name: str, shape: tuple[int, ...], device: torch.device, cure: str) -> Tensor:
    """A bool mask of one shape; an array is put on `device`. Raises ValueError, which ends with the cure, for all else."""
    given = isinstance(value, np.ndarray) and value.dtype == bool
    mask = _from_array(value, name, "b", cure).to(device) if given else value  # type: ignore[arg-type]
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape or mask.device != device:
        raise ValueError(f"expected {name} as a bool mask of shape {shape}, got {describe(value)}; {cure}")
    return mask


def read_seen(seen: object, y: Tensor) -> Tensor:
    """Which entries of signals y `(N, k)` were seen, bool; None: all. Raises ValueError, also where none was of a signal."""
    if seen is None:
        return torch.ones_like(y, dtype=torch.bool)
    on = read_mask(seen, "seen", tuple(y.shape), y.device, "pass e.g. y > 0")
    hidden = (~on.any(1)).nonzero()[:, 0].tolist()
    if hidden:
        raise ValueError(f"expected at least one entry of each signal, got none of signal {hidden[0]}; leave it out")
    return on


def read_numbers(
    value: object, name: str, device: torch.device, kinds: str = "f", cure: str = "convert it to numbers first"
) -> Tensor:
    """`value` as a dense tensor without a graph on `device`, in its own type; never a silent move from another device.

    kinds: what may come, of "f" (floats), "i" (integers), "b" (bools). Arrays have no device and are put on `device`.
    Raises TypeError for anything else (lists, strings, objects, complex numbers, masked arrays, sparse tensors), ValueError
    for another device.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value, name, kinds, cure).to(device)
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} as a torch tensor or numpy array, got {describe(value)}; use {conversion(value)}")
    kind = "b" if value.dtype == torch.bool else "f" if value.dtype.is_floating_point else "c" if value.is_complex() else "i"
    # types of fewer than 16 bits are for storage; torch cannot ask whether they are finite
    if kind not in kinds or (kind == "f" and value.dtype.itemsize < 2):
        raise TypeError(f"expected {name} as {_in_words(kinds)}, got {describe(value)}; {cure}")
    value = plain_tensor(value, name)
    if value.is_meta and device.type != "meta":
        raise ValueError(
            f"expected {name} on {device}, got {describe(value)}, which holds no numbers; make it anew on {str(device)!r}, "
            f".to({str(device)!r}) cannot"
        )
    if value.device != device:
        raise ValueError(f"expected {name} on {device}, got {describe(value)}; move it with .to({str(device)!r})")
    return value


def _in_words(kinds: str) -> str:
    return " or ".join(_WORDS[k] for k in kinds)


def _from_array(value: np.ndarray, name: str, kinds: str, cure: str) -> Tensor:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"expected {name} as a plain array, got {describe(value)}; pass its .data and its .mask apart")
    kind = {"u": "i"}.get(value.dtype.kind, value.dtype.kind)
    # torch has no long doubles
    if kind not in kinds or value.dtype.itemsize > 8:
        raise TypeError(f"expected {name} as an array of {_in_words(kinds)}, up to float64, got {describe(value)}; {cure}")
    # torch knows neither foreign byte orders nor negative strides, and warns of what may not be written to
    native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
    return torch.from_numpy(native if native.flags.writeable else native.copy()).reshape(value.shape)
