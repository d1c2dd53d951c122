"""Sparse matrices: y = A x by the entries of A that are not 0, in every product, Jacobian and transpose.

They are kept in compressed rows (CSR), A and A' each, which torch multiplies on every device. On the CPU a product of a blur
with float64 pictures costs a small part of what torch's own convolution takes.
"""

import warnings
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..inputs import describe as _kind
from .abstract import REAL_ROWS, AbstractMeasurement

M = TypeVar("M", bound=AbstractMeasurement)


class AbstractSparse(AbstractMeasurement):
    """One sparse matrix `A` for each of `channels` pictures that a signal holds one after the other: y_c = A x_c.

    `A`: torch CSR `(length / channels, width / channels)`; `back`: its transpose, CSR too. Both follow the type of what they
    are multiplied with.
    """

    A: Tensor
    back: Tensor

    @property
    def channels(self) -> int:
        """Pictures of a signal."""
        return 1

    @property
    def length(self) -> int:
        return self.channels * self.A.shape[0]

    @property
    def width(self) -> int:
        return self.channels * self.A.shape[1]

    def _keep(self, A: object, device: torch.device | None = None) -> None:
        """Set `A` and `back`, once."""
        rows = read_sparse(A)
        back = rows.to_sparse_coo().t().coalesce().to_sparse_csr()
        for name, value in (("A", rows), ("back", back)):
            object.__setattr__(self, name, value.to(device=device))

    def observe(self, x: Tensor) -> Tensor:
        return self._each(self.A, x)

    def adjoint(self, r: Tensor) -> Tensor:
        return self._each(self.back, r)

    def _each(self, A: Tensor, x: Tensor) -> Tensor:
        parts = x.reshape(-1, A.shape[1])  # (N channels, ...)
        return (A.to(x.dtype) @ parts.T).T.reshape(len(x), -1)

    def push(self, J: Tensor) -> Tensor:
        N, _, n0 = J.shape
        k, d = self.A.shape
        columns = J.reshape(N, self.channels, d, n0).permute(2, 0, 1, 3).reshape(d, -1)
        pushed = (self.A.to(J.dtype) @ columns).reshape(k, N, self.channels, n0)
        return pushed.permute(1, 2, 0, 3).reshape(N, self.length, n0)

    def matrix(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        A = self.A.to_dense().to(device, dtype)
        return A if self.channels == 1 else torch.kron(torch.eye(self.channels, dtype=dtype, device=device), A)

    def take(self, index: Tensor | slice) -> Self:
        return self

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return recast(self, dtype, device)


@dataclass(frozen=True, eq=False)
class SparseMatrix(AbstractSparse):
    """k linear measurements y = A x, `A` `(k, d)` sparse: of scipy in any format, or of torch; the same for all signals."""

    A: Tensor
    back: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._keep(self.A)


def recast(seeing: M, dtype: torch.dtype | None, device: torch.device | str | None) -> M:
    """The same measurement with its tensors in another floating type, on another device; nothing is made anew."""
    there = object.__new__(type(seeing))
    for f in fields(seeing):  # type: ignore[arg-type]
        value = getattr(seeing, f.name)
        if isinstance(value, Tensor):
            value = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        object.__setattr__(there, f.name, value)
    return there


def is_sparse(value: object) -> bool:
    """Whether it is a sparse matrix, of scipy or of torch."""
    if isinstance(value, Tensor):
        return not value.is_nested and value.layout not in (torch.strided, torch.jagged)
    if not type(value).__module__.startswith("scipy."):
        return False
    from scipy.sparse import issparse

    return bool(issparse(value))


def read_sparse(value: object) -> Tensor:
    """A sparse matrix of scipy or torch, or a dense one, as a CSR tensor in its own type, entries of one place added.

    Raises TypeError for other types than float32 and float64, ValueError for other shapes, NaN, inf, and nothing but zeros.
    """
    if not isinstance(value, Tensor) and not is_sparse(value):
        raise TypeError(f"expected a sparse matrix of scipy or torch, got {_kind(value)}; use scipy.sparse.csr_array(A)")
    A: Any = value.detach() if isinstance(value, Tensor) else value
    kind = str(A.dtype).removeprefix("torch.")
    if kind.startswith("complex"):
        cure = REAL_ROWS.format(cat="torch.cat" if isinstance(value, Tensor) else "scipy.sparse.vstack")
        raise TypeError(f"expected a sparse matrix of real numbers, got {kind}; {cure}")
    if kind not in ("float32", "float64"):
        raise TypeError(f"expected a sparse matrix of floats, float32 or float64, got {kind}; use A.astype(float)")
    if A.ndim != 2:
        raise ValueError(f"expected a sparse matrix (k, d), got one of shape {tuple(A.shape)}; one for all signals")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)")  # torch calls its CSR a beta, and says so once
        A = A.to_sparse_coo().coalesce().to_sparse_csr() if isinstance(A, Tensor) else _from_scipy(A)
    if not torch.isfinite(A.values()).all():
        raise ValueError("expected a finite sparse matrix, got NaN or inf in it; clean it first")
    if not A.values().any():
        raise ValueError(
            f"expected a sparse matrix that measures something, got all zeros in shape {tuple(A.shape)}; "
            "pass one row per measurement"
        )
    return A


def _from_scipy(A: Any) -> Tensor:
    rows = A.tocsr(copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    starts, columns = (torch.from_numpy(part.astype(np.int64)) for part in (rows.indptr, rows.indices))
    values = torch.from_numpy(np.ascontiguousarray(rows.data))
    return torch.sparse_csr_tensor(starts, columns, values, rows.shape, check_invariants=True)
