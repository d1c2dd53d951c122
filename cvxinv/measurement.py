"""Measurements: which part of a signal x = G(z) was seen, and how it is compared with y.

Everything and masks keep y in the signal's own shape, `(N, d)`, with hidden entries left out by a mask; a matrix A turns
x into k numbers, y is `(N, k)`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .inputs import describe as _kind
from .inputs import plain_tensor, read_numbers


class AbstractMeasurement(ABC):
    """What of a signal was seen. `length` is the number of entries of y per signal."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Entries of y per signal."""

    @abstractmethod
    def observe(self, x: Tensor) -> Tensor:
        """What is seen of signals `x` `(N, d)`, as `(N, length)`; hidden entries are 0."""

    @abstractmethod
    def push(self, J: Tensor) -> Tensor:
        """The Jacobian of what is seen from the signal's, `(N, d, n0)` to `(N, length, n0)`."""

    @abstractmethod
    def seen(self, N: int) -> Tensor:
        """Bool `(N, length)`: the entries of y that were seen."""

    @abstractmethod
    def take(self, index: Tensor) -> "AbstractMeasurement":
        """The measurement of the signals at `index`."""

    @abstractmethod
    def to(self, dtype: torch.dtype, device: torch.device | str) -> "AbstractMeasurement":
        """The same measurement in another floating type, on another device."""


@dataclass(frozen=True, eq=False)
class Everything(AbstractMeasurement):
    """All `d` entries of the signal were seen."""

    d: int

    def __post_init__(self) -> None:
        if isinstance(self.d, bool) or not isinstance(self.d, (int, np.integer)) or self.d < 1:
            raise ValueError(f"expected d as an integer >= 1, got {self.d!r}; pass the number of entries of a signal")

    @property
    def length(self) -> int:
        return self.d

    def observe(self, x: Tensor) -> Tensor:
        return x

    def push(self, J: Tensor) -> Tensor:
        return J

    def seen(self, N: int) -> Tensor:
        return torch.ones(N, self.d, dtype=torch.bool, device="cpu")

    def take(self, index: Tensor) -> "Everything":
        return self

    def to(self, dtype: torch.dtype, device: torch.device | str) -> "Everything":
        return self


@dataclass(frozen=True, eq=False)
class Mask(AbstractMeasurement):
    """The entries where `visible` is True were seen; `(d,)` for all signals, or `(N, d)`."""

    visible: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.visible, Tensor) or self.visible.dtype != torch.bool or self.visible.ndim not in (1, 2):
            raise ValueError(
                f"expected a mask as a bool tensor (d,) or (N, d), got {_kind(self.visible)}; "
                "True marks what was seen, e.g. torch.rand(d) > 0.45"
            )
        object.__setattr__(self, "visible", plain_tensor(self.visible, "a mask"))

    @property
    def length(self) -> int:
        return self.visible.shape[-1]

    def observe(self, x: Tensor) -> Tensor:
        return torch.where(self.visible, x, torch.zeros_like(x))

    def push(self, J: Tensor) -> Tensor:
        return J * self.visible[..., None]

    def seen(self, N: int) -> Tensor:
        return self.visible.expand(N, -1)

    def take(self, index: Tensor) -> "Mask":
        return self if self.visible.ndim == 1 else Mask(self.visible[index])

    def to(self, dtype: torch.dtype, device: torch.device | str) -> "Mask":
        return Mask(self.visible.to(device))


@dataclass(frozen=True, eq=False)
class Matrix(AbstractMeasurement):
    """k linear measurements y = A x, `A` of shape `(k, d)`, the same for all signals."""

    A: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.A, Tensor) or not self.A.dtype.is_floating_point or self.A.ndim != 2:
            raise ValueError(f"expected a matrix A as a floating tensor (k, d), got {_kind(self.A)}; use A.double()")
        object.__setattr__(self, "A", read_numbers(self.A, "a matrix A", self.A.device, "f", "use A.double()"))
        if not torch.isfinite(self.A).all():
            raise ValueError("expected a finite matrix A, got NaN or inf in it; clean it first")
        if not self.A.any():
            got = "all zeros" if self.A.numel() else _kind(self.A)
            raise ValueError(f"expected a matrix A that measures something, got {got}; pass one row per measurement")

    @property
    def length(self) -> int:
        return self.A.shape[0]

    def observe(self, x: Tensor) -> Tensor:
        return x @ self.A.T

    def push(self, J: Tensor) -> Tensor:
        return self.A @ J

    def seen(self, N: int) -> Tensor:
        return torch.ones(N, self.length, dtype=torch.bool, device=self.A.device)

    def take(self, index: Tensor) -> "Matrix":
        return self

    def to(self, dtype: torch.dtype, device: torch.device | str) -> "Matrix":
        return Matrix(self.A.to(device, dtype))


def as_measurement(value: object, d: int, N: int, device: torch.device | None = None) -> AbstractMeasurement:
    """The measurement that a user means: None is everything, a bool tensor a mask, a floating tensor (k, d) a matrix.

    Masks may come in the signal's picture shape. Raises TypeError or ValueError where it does not fit `d` and `N`.
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
    inner = value.A if isinstance(value, Matrix) else value.visible if isinstance(value, Mask) else None
    if inner is not None and inner.device != device:
        raise ValueError(f"expected the measurement on {device}, got it on {inner.device}; move it with .to()")
    width = value.A.shape[1] if isinstance(value, Matrix) else value.length
    if width != d:
        raise ValueError(f"expected a measurement of signals of {d} numbers, got one of {width}; check its last axis")
    if isinstance(value, Mask) and value.visible.ndim == 2 and len(value.visible) != N:
        raise ValueError(
            f"expected a mask of shape ({d},) or ({N}, {d}), got {tuple(value.visible.shape)}; pass one per signal"
        )
    return value


def _from_tensor(value: Tensor, d: int, N: int) -> AbstractMeasurement:
    if value.dtype == torch.bool:
        if value.ndim > 1 and value.numel() == d:
            return Mask(value.reshape(d))
        if value.ndim > 1 and value.numel() == N * d and len(value) == N:
            return Mask(value.reshape(N, d))
        return Mask(value)
    return Matrix(value)
