"""What a user means by `measurement=`, read once and strictly."""

import numpy as np
import torch
from torch import Tensor

from ..inputs import describe as _kind
from ..inputs import read_numbers
from .abstract import AbstractMeasurement
from .entries import Everything, Mask
from .matrix import Matrix
from .trial import check_sizes, try_out


def as_measurement(
    value: object, d: int, N: int, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> AbstractMeasurement:
    """The measurement that a user means: None is everything, a bool tensor a mask, a floating tensor (k, d) a matrix.

    Masks may come in the signal's picture shape. A measurement of the user's own is tried in `dtype` on `device`. Raises
    TypeError or ValueError where it does not fit `d` and `N`, or is not what `AbstractMeasurement` asks for.
    """
    if value is None or (isinstance(value, str) and value == "everything"):
        return Everything(d)
    device = device or torch.device("cpu")
    if isinstance(value, (Tensor, np.ndarray)):
        cure = "use mask.bool() or A.double()"
        value = _from_tensor(read_numbers(value, "a mask or a measurement matrix", device, "bf", cure), d, N)
    if not isinstance(value, AbstractMeasurement):
        raise TypeError(
            f"expected measurement as None, a bool mask, a floating matrix (k, {d}) or a Measurement, "
            f"got {_kind(value)}; use torch.as_tensor for lists"
        )
    own = not value.known
    if own:
        check_sizes(value)
    for inner in [v for v in getattr(value, "__dict__", {}).values() if isinstance(v, Tensor)]:
        if inner.device != device:
            raise ValueError(f"expected the measurement on {device}, got it on {inner.device}; move it with .to()")
    if value.width != d:
        cure = f"give {type(value).__name__} its width" if own and value.width == value.length else "check its last axis"
        raise ValueError(f"expected a measurement of signals of {d} numbers, got one of {value.width}; {cure}")
    if isinstance(value, Mask) and value.visible.ndim == 2 and len(value.visible) != N:
        raise ValueError(
            f"expected a mask of shape ({d},) or ({N}, {d}), got {tuple(value.visible.shape)}; pass one per signal"
        )
    for each in dict.fromkeys((dtype, torch.float64)) if own else ():  # inside all is computed in float64
        try:
            try_out(value.to(each, device), N, each, device)
        except (RuntimeError, IndexError) as error:  # torch's own, of shapes, types and devices that do not meet
            raise ValueError(
                f"expected {type(value).__name__} to take {N} signals of {d} numbers in {each} on {device}, got "
                f"{type(error).__name__}: {error}; correct its class, or pass one that fits"
            ) from error
    return value


def stands_apart(value: object, d: int) -> bool:
    """Whether what a user means gives a y that is no signal of d numbers: a measurement of another length, or a matrix.

    Numbers that are no mask are meant as a matrix; integers and complex ones are refused later.
    """
    if isinstance(value, AbstractMeasurement):
        return not value.pixelwise and value.length != d
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" or (value.ndim == 2 and value.dtype.kind in "iu")
    if not isinstance(value, Tensor) or value.dtype == torch.bool:
        return False
    return value.ndim == 2 or value.dtype.is_floating_point


def check_given(made: object, given: object) -> None:
    """Raises ValueError where a result was made with `made`, neither mask nor matrix, and none is given with it."""
    if given is None and made is not None and made not in {kind.__name__ for kind in (Everything, Mask, Matrix)}:
        raise ValueError(
            f"expected the measurement {made} that the inversion was made with, got none, so that y would count as "
            "the signal; pass it as measurement= in Python"
        )


def _from_tensor(value: Tensor, d: int, N: int) -> AbstractMeasurement:
    if value.dtype == torch.bool:
        if value.ndim > 1 and value.numel() == d:
            return Mask(value.reshape(d))
        if value.ndim > 1 and value.numel() == N * d and len(value) == N:
            return Mask(value.reshape(N, d))
        return Mask(value)
    return Matrix(value)
