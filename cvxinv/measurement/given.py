"""What a user means by `measurement=`, read once and strictly."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..batch import counts
from .abstract import AbstractMeasurement
from .entries import Everything, Mask
from .forms import is_operator, read_dense, read_measurement
from .magnitudes import Magnitudes
from .matrix import Matrix
from .sparse import SparseMatrix, is_sparse
from .trial import check_sizes, try_out

_PHASELESS = f"{Magnitudes.__name__}("  # in the names of measurements that have magnitudes in them


def as_measurement(
    value: object, d: int, N: int, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> AbstractMeasurement:
    """The measurement that a user means: None is everything, a bool tensor a mask, a floating tensor (k, d) a matrix.

    Matrices may be sparse, of scipy or torch, a LinearOperator of scipy, or one per signal (N, k, d); masks may come in the
    signal's picture shape. What is not the package's own is tried in `dtype` on `device`. Raises TypeError or ValueError
    where it does not fit `d` and `N`, or is not what `AbstractMeasurement` asks for.
    """
    if value is None or (isinstance(value, str) and value == "everything"):
        return Everything(d)
    device = device or torch.device("cpu")
    if isinstance(value, (Tensor, np.ndarray)) and not is_sparse(value):
        value = _from_tensor(read_dense(value, device), d, N)
    seeing = read_measurement(value, device, d=d).fitted(d)
    if not seeing.known:
        check_sizes(seeing)
    for inner in _given_tensors(seeing):
        if inner.device != device:
            raise ValueError(f"expected the measurement on {device}, got it on {inner.device}; move it with .to()")
    if seeing.width != d:
        raise ValueError(
            f"expected a measurement of signals of {d} numbers, got one of {seeing.width}; {_cure_of_width(seeing)}"
        )
    if seeing.known:
        _check_count(seeing, N)
        return seeing
    for each in dict.fromkeys((dtype, torch.float64)):  # inside all is computed in float64
        try:
            try_out(seeing.to(each, device), N, each, device)
        except (RuntimeError, IndexError) as error:  # torch's own, of shapes, types and devices that do not meet
            raise ValueError(
                f"expected {type(seeing).__name__} to take {N} signals of {d} numbers in {each} on {device}, got "
                f"{type(error).__name__}: {error}; correct its class, or pass one that fits; constants of functions follow "
                "by .to(x)"
            ) from error
    return seeing


def stands_apart(value: object, d: int) -> bool:
    """Whether what a user means gives a y that is no signal of d numbers: a measurement of another length, or a matrix.

    Numbers that are no mask are meant as a matrix; integers and complex ones are refused later.
    """
    if isinstance(value, AbstractMeasurement):
        return not value.pixelwise and value.fitted(d).length != d
    if is_sparse(value) or is_operator(value):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" or (value.ndim == 2 and value.dtype.kind in "iu")
    if not isinstance(value, Tensor) or value.dtype == torch.bool:
        return False
    return value.ndim == 2 or value.dtype.is_floating_point


def form_of(value: object, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one y of what a user means, of signals of `shape`; () where it is flat, of a length still to be read.

    Raises TypeError for what means no measurement.
    """
    if isinstance(value, AbstractMeasurement):
        return value.fitted(prod(shape)).form if stands_apart(value, prod(shape)) else shape
    if value is None or isinstance(value, (str, Tensor, np.ndarray)) or is_sparse(value) or is_operator(value):
        return () if stands_apart(value, prod(shape)) else shape
    return read_measurement(value, torch.device("cpu"), d=prod(shape)).form  # raises


def check_given(made: object, given: object) -> None:
    """Raises ValueError where a result was made with `made`, and another kind of measurement is given with it.

    Where none is given `made` must be of everything, a mask or a matrix; magnitudes are none of what is linear, and what is
    linear has none. Of a class of the user's own only its name is known, and it may be either.
    """
    if made is None:
        return
    phaseless = _PHASELESS in str(made)
    if given is None and made not in {kind.__name__ for kind in (Everything, Mask, Matrix)}:
        raise ValueError(
            f"expected the measurement {made} that the inversion was made with, got none, so that y would count as "
            f"the signal; pass measurement={f'{Magnitudes.__name__}(...)' if phaseless else 'A'}, as it was then"
        )
    if phaseless and not (isinstance(given, AbstractMeasurement) and not given.linear):
        raise ValueError(
            f"expected magnitudes, as the inversion was made with {made}, got a linear measurement, by which y would have "
            "signs; pass measurement=Magnitudes(...)"
        )
    if isinstance(given, Magnitudes) and not phaseless and "." not in str(made):
        raise ValueError(
            f"expected a linear measurement, as the inversion was made with {made}, got Magnitudes; leave "
            "Magnitudes out, and pass what is inside"
        )


def _from_tensor(value: Tensor, d: int, N: int) -> AbstractMeasurement:
    """A mask, flat, or a matrix; the one matrix of one signal is one for all."""
    if value.dtype == torch.bool:
        if value.ndim > 1 and value.numel() == d:
            return Mask(value.reshape(d))
        if value.ndim > 1 and value.numel() == N * d and len(value) == N:
            return Mask(value.reshape(N, d))
        return Mask(value)
    return Matrix(value[0] if value.ndim == 3 and N == len(value) == 1 else value)


def _given_tensors(seeing: AbstractMeasurement) -> Iterator[Tensor]:
    """The tensors that a user put into it: those have a device, what was made of numbers goes where it is needed."""
    made: set[str] = {f.name for f in fields(seeing) if not f.init} if is_dataclass(seeing) else set()
    for name, value in vars(seeing).items():
        if isinstance(value, AbstractMeasurement):
            yield from _given_tensors(value)
        elif isinstance(value, Tensor) and name not in made:
            yield value


def _cure_of_width(seeing: AbstractMeasurement) -> str:
    if isinstance(seeing, (Everything, Mask, Matrix, SparseMatrix)):
        return "check its last axis"
    if seeing.known or seeing.width != seeing.length:
        return "check its shape beside the generator's signal_shape"
    return f"give {type(seeing).__name__} its width"


def _check_count(seeing: AbstractMeasurement, N: int) -> None:
    """Raises ValueError where it holds other signals' measurements than N."""
    wrong = sorted(counts(seeing) - {N})
    if wrong and isinstance(seeing, (Mask, Matrix)):
        what, value = ("a mask", seeing.visible) if isinstance(seeing, Mask) else ("a matrix", seeing.A)
        one = tuple(value.shape[1:])
        raise ValueError(
            f"expected {what} of shape {one} or {(N, *one)}, got {tuple(value.shape)}; pass one for all, or one per signal"
        )
    if wrong:
        raise ValueError(
            f"expected {seeing.name} for {N} signals, got one for {wrong[0]}; pass one for all, or one per signal"
        )
