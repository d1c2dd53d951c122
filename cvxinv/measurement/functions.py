"""Measurements that are functions: of torch, forward and adjoint, or a LinearOperator of scipy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from ..inputs import describe as _kind
from .abstract import AbstractMeasurement
from .pictures import is_count
from .trial import try_pair

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


@dataclass(frozen=True, eq=False)
class Operator(AbstractMeasurement):
    """A linear map that is given as two functions of batches, `forward` `(N, d)` to `(N, length)`, and `adjoint` back.

    They take float64 tensors of torch and give float64 on the same device, treat every signal alike and leave their input as
    it is; where they take float32 too, as those do whose constants follow by `.to(x)`, searches in float32 are faster. Both
    are tried on random vectors when the operator is made: a pair that is not linear, or whose dot products <A x, r> and
    <x, A' r> differ, is refused. d is read from what `adjoint` gives.
    device: where they are tried.
    """

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor] = field()  # type: ignore[assignment]
    length: int = 0
    device: str | torch.device = "cpu"
    d: int = field(init=False)

    def __post_init__(self) -> None:
        for name in ("forward", "adjoint"):
            if not callable(getattr(self, name)):
                raise TypeError(
                    f"expected {name} as a function of batches, got {_kind(getattr(self, name))}; "
                    "a matrix is a measurement by itself"
                )
            object.__setattr__(self, name, _followed(getattr(self, name)))
        if not is_count(self.length):
            raise ValueError(
                f"expected length as an integer >= 1, got {self.length!r}; say how many entries y has per signal"
            )
        object.__setattr__(self, "length", int(self.length))
        device = torch.device(self.device)
        object.__setattr__(self, "d", try_pair(self.forward, self.adjoint, self.length, device))
        for name, size in (("forward", self.d), ("adjoint", self.length)):
            function = getattr(self, name)
            if not _takes_single(function, size, device):
                object.__setattr__(self, name, _by_double(function))

    @property
    def known(self) -> bool:
        return False  # its functions are the user's

    @property
    def width(self) -> int:
        return self.d

    def observe(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return self


def _followed(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function, followed by autograd where its input is: weights of a module make no graph of every product."""

    def called(x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return function(x)

    return called


def _takes_single(function: Callable[[Tensor], Tensor], size: int, device: torch.device) -> bool:
    """Whether a function of batches `(N, size)` gives float32 of float32."""
    try:
        return function(torch.ones(1, size, dtype=torch.float32, device=device)).dtype == torch.float32
    except Exception:  # whatever it raises: of float64 it raises nothing
        return False


def _by_double(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function of a batch of any floating type, worked out in float64."""
    return lambda x: function(x.double()).to(x.dtype)


class _Product(torch.autograd.Function):
    """A product in numpy, columns by columns, whose derivative is the product with the transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Callable, transposed: Callable) -> Tensor:
        ctx.product, ctx.transposed = product, transposed
        y = product(x.detach().numpy().T)
        return torch.from_numpy(np.ascontiguousarray(y.T)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        return _Product.apply(grads[0], ctx.transposed, ctx.product), None, None


@dataclass(frozen=True, eq=False)
class ScipyOperator(AbstractMeasurement):
    """A `scipy.sparse.linalg.LinearOperator` `A` `(k, d)` with its transpose (rmatvec or rmatmat), which are tried.

    It computes in numpy, so on the CPU alone; autograd follows it through the transpose.
    """

    A: "LinearOperator"

    def __post_init__(self) -> None:
        from scipy.sparse.linalg import LinearOperator

        if not isinstance(self.A, LinearOperator):
            raise TypeError(f"expected a LinearOperator, got {_kind(self.A)}; use scipy.sparse.linalg.aslinearoperator(A)")
        if np.issubdtype(self.A.dtype, np.complexfloating):
            raise TypeError(
                f"expected a LinearOperator of real numbers, got {self.A.dtype}; give real and imaginary part as rows of "
                "their own, and dtype=float"
            )
        if min(self.A.shape) < 1:
            raise ValueError(f"expected a LinearOperator (k, d) that measures something, got {self.A.shape}; correct it")
        _check_transpose(self.A)
        try_pair(self.observe, self.adjoint, self.length, torch.device("cpu"), self.width)

    @property
    def known(self) -> bool:
        return False  # its functions are the user's

    @property
    def length(self) -> int:
        return int(self.A.shape[0])

    @property
    def width(self) -> int:
        return int(self.A.shape[1])

    def observe(self, x: Tensor) -> Tensor:
        _check_here(x)
        return _Product.apply(x, self.A.matmat, self.A.rmatmat)

    def adjoint(self, r: Tensor) -> Tensor:
        _check_here(r)
        return _Product.apply(r, self.A.rmatmat, self.A.matmat)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return self


def _check_transpose(A: "LinearOperator") -> None:
    try:
        A.rmatvec(np.zeros(A.shape[0]))
    except (NotImplementedError, TypeError) as error:
        # scipy calls a function that was not given; what a given one raises is told by the trial that follows
        if not (isinstance(error, NotImplementedError) or "NoneType" in str(error)):
            return
        raise ValueError(
            "expected a LinearOperator with its transpose, got one without; pass rmatvec= beside matvec= when you make it"
        ) from error


def _check_here(x: Tensor) -> None:
    if x.device.type != "cpu":
        raise ValueError(
            f"expected signals on the CPU for a LinearOperator, which computes in numpy, got them on {x.device}; "
            "move the generator with .to(device='cpu'), or pass Operator(forward, adjoint, length) of torch functions"
        )
