"""The forms that a measurement may come in: an object, a mask, a matrix, dense or sparse, a LinearOperator."""

import numpy as np
import torch
from torch import Tensor

from ..inputs import conversion, read_numbers
from ..inputs import describe as _kind
from .abstract import REAL_ROWS, AbstractMeasurement
from .entries import Mask
from .functions import ScipyOperator
from .matrix import Matrix
from .sparse import SparseMatrix, is_sparse


def is_operator(value: object) -> bool:
    """Whether it is a `scipy.sparse.linalg.LinearOperator`."""
    if not any(kind.__module__.startswith("scipy.") for kind in type(value).__mro__):
        return False
    from scipy.sparse.linalg import LinearOperator

    return isinstance(value, LinearOperator)


def read_dense(value: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """A mask or a matrix as a tensor."""
    if value.dtype.is_complex if isinstance(value, Tensor) else value.dtype.kind == "c":
        cat = "torch.cat" if isinstance(value, Tensor) else "numpy.concatenate"
        raise TypeError(f"expected a measurement matrix of real numbers, got {_kind(value)}; {REAL_ROWS.format(cat=cat)}")
    cure = f"use mask{conversion(value, 'bool')} for a mask, or A{conversion(value)} for a matrix"
    return read_numbers(value, "a mask or a measurement matrix", device, "bf", cure)


def read_measurement(
    value: object, device: torch.device, name: str = "measurement", d: str | int = "d"
) -> AbstractMeasurement:
    """The measurement that a value stands for by itself; arrays and matrices of scipy are put on `device`.

    d: how the message calls the number of entries of a signal. Raises TypeError for what stands for none.
    """
    if isinstance(value, AbstractMeasurement):
        return value
    if is_sparse(value):
        there = SparseMatrix(value)  # type: ignore[arg-type]
        return there if isinstance(value, Tensor) else there.to(device=device)
    if is_operator(value):
        return ScipyOperator(value)
    if isinstance(value, (Tensor, np.ndarray)):
        read = read_dense(value, device)
        return Mask(read) if read.dtype == torch.bool else Matrix(read)
    raise TypeError(
        f"expected {name} as None, a bool mask, a floating matrix (k, {d}), a sparse one or a Measurement, got "
        f"{_kind(value)}; use {_cure(value)}, Operator(forward, adjoint, length) for functions"
    )


def _cure(value: object) -> str:
    """How a list, a frame, ... becomes a mask or a matrix, as code."""
    mask = conversion(value, "bool")
    return mask if mask == conversion(value) else f"{mask} for a mask, {conversion(value)} for a matrix"
