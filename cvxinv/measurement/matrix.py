"""A matrix A that turns a signal x into k numbers: y = A x, `(N, k)`."""

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import per_signal
from ..generator.maps import AbstractMap
from ..inputs import conversion, read_numbers
from ..inputs import describe as _kind
from .abstract import REAL_ROWS, AbstractMeasurement, rows_seen


@dataclass(frozen=True, eq=False)
class Matrix(AbstractMeasurement):
    """k linear measurements y = A x, `A` of shape `(k, d)`, the same for all signals, or `(N, k, d)` with one for each."""

    A: Tensor = per_signal(ndim=3)

    def __post_init__(self) -> None:
        if isinstance(self.A, np.ndarray):
            words = f"use A{conversion(self.A)}"
            object.__setattr__(self, "A", read_numbers(self.A, "a matrix A", torch.device("cpu"), "f", words))
        if isinstance(self.A, Tensor) and self.A.is_complex():
            raise ValueError(
                f"expected a matrix A of real numbers, got {_kind(self.A)}; {REAL_ROWS.format(cat='torch.cat')}"
            )
        if isinstance(self.A, Tensor) and self.A.dtype.is_floating_point and self.A.ndim == 1:
            raise ValueError(f"expected a matrix A (k, d) or (N, k, d), got {_kind(self.A)}; one row is A[None]")
        if not isinstance(self.A, Tensor) or not self.A.dtype.is_floating_point or self.A.ndim not in (2, 3):
            raise ValueError(
                f"expected a matrix A as a floating tensor (k, d) or (N, k, d), got {_kind(self.A)}; use A.double()"
            )
        object.__setattr__(self, "A", read_numbers(self.A, "a matrix A", self.A.device, "f", "use A.double()"))
        if not torch.isfinite(self.A).all():
            raise ValueError("expected a finite matrix A, got NaN or inf in it; clean it first")
        if not self.A.numel() or not self.A.flatten(-2).any(-1).all():
            got = "all zeros" if self.A.numel() else _kind(self.A)
            raise ValueError(f"expected a matrix A that measures something, got {got}; pass one row per measurement")

    def _with(self, A: Tensor) -> "Matrix":
        """The same class with some of what was checked, which is not checked again."""
        there = copy(self)
        object.__setattr__(there, "A", A)
        return there

    def take(self, index: Tensor | slice) -> "Matrix":
        return self if self.shared else self._with(self.A[index])

    def repeated(self, count: int) -> "Matrix":
        return self if self.shared else self._with(self.A[0])

    @property
    def length(self) -> int:
        return self.A.shape[-2]

    @property
    def width(self) -> int:
        return self.A.shape[-1]

    def observe(self, x: Tensor) -> Tensor:
        return x @ self.A.T if self.A.ndim == 2 else (self.A @ x[..., None])[..., 0]

    def adjoint(self, r: Tensor) -> Tensor:
        return r @ self.A if self.A.ndim == 2 else (r[:, None] @ self.A)[:, 0]

    def push(self, J: Tensor) -> Tensor:
        if self.A.ndim == 3:
            return self.A @ J
        # one product for all signals, and no copy of a Jacobian that lies in the memory column by column
        N, d, n0 = J.shape
        return (J.mT.reshape(N * n0, d) @ self.A.T).reshape(N, n0, self.length).mT

    def seen(self, N: int) -> Tensor:
        return torch.ones(N, self.length, dtype=torch.bool, device=self.A.device)

    def through(self, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor] | None:
        return rows_seen(self, W, b) if self.shared else None

    def matrix(self, dtype: torch.dtype, device: torch.device | str) -> Tensor | None:
        return self.A.to(device, dtype) if self.shared else None
