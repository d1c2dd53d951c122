"""What a measurement is: a map of a signal, mostly linear, in words of what it sees and what it makes of other things."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..batch import Batch, differs
from ..generator.maps import AbstractMap, AroundMap, Dense

_MOST_UNKNOWNS, _MOST_ENTRIES = 4096, 50_000_000  # of the matrix of an image layer that is made where it is seen


ANY = (-torch.inf, torch.inf)
REAL_ROWS = "real and imaginary part are rows of their own: {cat}([A.real, A.imag]), and y alike"


class AbstractMeasurement(Batch, ABC):
    """What of a signal was seen: a map of it, in words of what it sees and what it makes of other things.

    A class of your own needs `length` and `observe`, and `width` where that is not `length`; all else follows from these.
    Make it a frozen dataclass (`eq=False`). Tensors among its fields follow the generator's type and device; what belongs to
    single signals is declared with `cvxinv.batch.per_signal`. It is tried on random signals before it is used, and what
    does not fit is refused.

    pixelwise: the signal's entries are seen as they are, or not at all: what `observe` gives has the signal's own entries.

    range: least and greatest number that it gives, whatever the signal.

    One that is not linear says so (`linear`) and gives the linear measurement `at` a signal that is its derivative there;
    `push` and `adjoint` are that one's, and `through` and `matrix` give None.
    """

    pixelwise: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = ANY

    @property
    @abstractmethod
    def length(self) -> int:
        """Entries of y per signal."""

    @property
    def width(self) -> int:
        """d, entries of a signal."""
        return self.length

    @property
    def form(self) -> tuple[int, ...]:
        """Shape of what is seen of one signal, a picture's where it is one: y may come in it, or flat."""
        return (self.length,)

    def at(self, x: Tensor) -> "AbstractMeasurement":
        """The linear measurement that is its derivative at signals `x` `(N, d)`: itself, where it is linear."""
        return self

    def fitted(self, d: int) -> "AbstractMeasurement":
        """The same of signals of `d` entries, for one that was made without a word about them."""
        return self

    @abstractmethod
    def observe(self, x: Tensor) -> Tensor:
        """What is seen of signals `x` `(N, d)`, as `(N, length)`; hidden entries are 0. Linear in x where it is `linear`."""

    def adjoint(self, r: Tensor) -> Tensor:
        """The transpose of `observe`, `(N, length)` to `(N, d)`; by autograd where a class does not write it."""
        self._refuse_bent("adjoint(r)")
        with torch.enable_grad():
            x = torch.zeros(len(r), self.width, dtype=r.dtype, device=r.device, requires_grad=True)
            seen = self.observe(x)
            if not seen.requires_grad:
                raise TypeError(
                    f"expected an observe of {type(self).__name__} that autograd follows, got one that it does not; "
                    "compute in torch, without detach and numpy, or write adjoint(r) in its class"
                )
            return torch.autograd.grad(seen, x, r)[0]

    def push(self, J: Tensor) -> Tensor:
        """The Jacobian of what is seen from the signal's, `(N, d, n0)` to `(N, length, n0)`."""
        self._refuse_bent("push(J)")
        return self._columns(J)

    def slope_around(self, x: Tensor, J: Tensor, s: float) -> Tensor:
        """The mean Jacobian of what is seen around signals `x` `(N, d)`, normal with covariance s^2 J J', `(N, length, n0)`.

        J: `(N, d, n0)`, the signal's own. Where a class does not write it, that at x itself.
        """
        return self.at(x).push(J)

    def observe_each(self, X: Tensor) -> Tensor:
        """What is seen of several signals in the place of each, `(N, d, k)` to `(N, length, k)`."""
        return self.push(X) if self.linear else self._columns(X)

    def _columns(self, J: Tensor) -> Tensor:
        N, d, n0 = J.shape
        one_each = torch.arange(N, device=J.device)[:, None].expand(N, n0).reshape(-1)
        return self.take(one_each).observe(J.mT.reshape(N * n0, d)).reshape(N, n0, self.length).mT

    def _refuse_bent(self, asked: str) -> None:
        """Raises TypeError where there is no such thing as one linear map."""
        if not self.linear:
            raise TypeError(
                f"expected a linear measurement to {asked}, got {self.name}, whose derivative depends on the signal x; "
                f"use measurement.at(x).{asked}"
            )

    def seen(self, N: int) -> Tensor:
        """Bool `(N, length)`: the entries of y that were seen."""
        return torch.ones(N, self.length, dtype=torch.bool, device="cpu")

    @property
    def shared(self) -> bool:
        """Whether all signals are seen alike."""
        return not differs(self)

    def through(self, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor] | None:
        """Map and bias of the rows that it makes of an image layer `W h + b` without an activation.

        None where that is no one linear map for all signals: methods that go layer by layer then refuse it.
        """
        if self.pixelwise:
            return W, b
        return rows_seen(self, W, b) if self.shared and self.linear else None

    def matrix(self, dtype: torch.dtype, device: torch.device | str) -> Tensor | None:
        """The matrix A `(length, d)` of what is seen, A x; None where signals differ, or it is not linear."""
        if not self.shared or not self.linear:
            return None
        return self.to(dtype, device).observe(torch.eye(self.width, dtype=dtype, device=device)).T

    @property
    def known(self) -> bool:
        """Whether all of it is the package's own, which is tested; others are tried before they are used."""
        return _ours(type(self))

    @property
    def name(self) -> str:
        """How results call it: classes of your own with their module, so that none is taken for one of the package."""
        if _ours(type(self)):
            return type(self).__name__
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def take(self, index: Tensor | slice) -> Self:
        """The measurement of the signals at `index`."""
        return self if self.shared else super().take(index)

    def repeated(self, count: int) -> Self:
        """Of one signal: the same measurement for `count` signals, sharing what it is made of where a class knows how."""
        return self.take(torch.zeros(count, dtype=torch.long))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """One measurement of the signals of all parts, in their order."""
        return parts[0] if parts[0].shared else super().joined(parts)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same measurement in another floating type, on another device."""
        return super().to(dtype, device) if is_dataclass(self) else self


def _ours(kind: type) -> bool:
    return kind.__module__.startswith(f"{__package__}.")


def rows_seen(seeing: AbstractMeasurement, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor]:
    """Map and bias of what a measurement that all signals share sees of `W h + b`; no product is made yet."""
    return SeenMap(seeing, W), seeing.observe(b[None])[0]


def settled(W: AbstractMap) -> AbstractMap:
    """What is seen of a map as a matrix, if that is not too large; other maps as they are."""
    return Dense(W.matrix()) if isinstance(W, SeenMap) and W.small else W


@dataclass(frozen=True, eq=False)
class SeenMap(AroundMap):
    """What a measurement `seeing` that all signals share sees of what a map `inner` gives, without a matrix of either."""

    seeing: AbstractMeasurement
    inner: AbstractMap

    @cached_property
    def m(self) -> int:
        return self.seeing.length

    @property
    def small(self) -> bool:
        """Whether layers see it as a matrix."""
        return self.n <= _MOST_UNKNOWNS and self.n * max(self.inner.m, self.m) <= _MOST_ENTRIES

    def __call__(self, h: Tensor) -> Tensor:
        return self.seeing.observe(self.inner(h))

    def adjoint(self, p: Tensor) -> Tensor:
        return self.inner.adjoint(self.seeing.adjoint(p))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "SeenMap":
        return SeenMap(self.seeing.to(dtype, device), self.inner.to(dtype, device))

    def make_matrix(self) -> Tensor:
        return self.seeing.push(self.inner.matrix()[None])[0].contiguous() if self.small else super().make_matrix()
