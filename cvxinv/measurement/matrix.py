"""A matrix A that turns a signal x into k numbers: y = A x, `(N, k)`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..generator.maps import AbstractMap, Dense
from ..inputs import describe as _kind
from ..inputs import read_numbers
from .abstract import AbstractMeasurement


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

    @property
    def width(self) -> int:
        return self.A.shape[1]

    def observe(self, x: Tensor) -> Tensor:
        return x @ self.A.T

    def adjoint(self, r: Tensor) -> Tensor:
        return r @ self.A

    def push(self, J: Tensor) -> Tensor:
        return self.A @ J

    def seen(self, N: int) -> Tensor:
        return torch.ones(N, self.length, dtype=torch.bool, device=self.A.device)

    def through(self, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor]:
        return Dense(self.A @ W.matrix()), self.A @ b

    def matrix(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        return self.A.to(device, dtype)

    def take(self, index: Tensor | slice) -> "Matrix":
        return self
