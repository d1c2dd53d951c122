"""One measurement after another."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import per_signal
from ..generator.maps import AbstractMap
from .abstract import AbstractMeasurement, rows_seen
from .forms import read_measurement


@dataclass(frozen=True, eq=False)
class Composed(AbstractMeasurement):
    """What `outer` sees of what `inner` sees of a signal; each a measurement, or a mask or a matrix as `invert` takes them.

    A mask outside hides entries of what was measured: `Composed(seen, Convolution(kernel, shape))`. A mask inside puts
    pixels to 0 before they are measured.
    """

    outer: AbstractMeasurement = per_signal()
    inner: AbstractMeasurement = per_signal()

    def __post_init__(self) -> None:
        for name in ("outer", "inner"):
            object.__setattr__(self, name, read_measurement(getattr(self, name), torch.device("cpu"), f"{name} of Composed"))
        object.__setattr__(self, "outer", self.outer.fitted(self.inner.length))
        if self.outer.width != self.inner.length:
            raise ValueError(
                f"expected an outer measurement of {self.inner.length} numbers, which the inner one gives, got one of "
                f"{self.outer.width}; pass measurements whose sizes meet"
            )
        if self.outer.pixelwise and self.inner.pixelwise:
            raise ValueError("expected one mask, got one after another; pass one & other")

    @property
    def length(self) -> int:
        return self.outer.length

    @property
    def width(self) -> int:
        return self.inner.width

    @property
    def form(self) -> tuple[int, ...]:
        return self.inner.form if self.outer.pixelwise else self.outer.form

    @property
    def shared(self) -> bool:
        return self.outer.shared and self.inner.shared

    @property
    def known(self) -> bool:
        return type(self) is Composed and self.outer.known and self.inner.known

    @property
    def name(self) -> str:
        return f"{type(self).__name__}({self.outer.name}, {self.inner.name})"

    @property
    def linear(self) -> bool:  # type: ignore[override]
        return self.outer.linear and self.inner.linear

    @property
    def range(self) -> tuple[float, float]:  # type: ignore[override]
        if not self.outer.pixelwise:
            return self.outer.range
        low, high = self.inner.range
        return min(low, 0.0), max(high, 0.0)  # hidden entries are 0

    def at(self, x: Tensor) -> "Composed":
        return self if self.linear else Composed(self.outer.at(self.inner.observe(x)), self.inner.at(x))

    def fitted(self, d: int) -> "Composed":
        inner = self.inner.fitted(d)
        return self if inner is self.inner else replace(self, inner=inner)

    def repeated(self, count: int) -> "Composed":
        return self if self.shared else replace(self, outer=self.outer.repeated(count), inner=self.inner.repeated(count))

    def observe(self, x: Tensor) -> Tensor:
        return self.outer.observe(self.inner.observe(x))

    def adjoint(self, r: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(r))

    def push(self, J: Tensor) -> Tensor:
        return self.outer.push(self.inner.push(J))

    def slope_around(self, x: Tensor, J: Tensor, s: float) -> Tensor:
        return self.outer.slope_around(self.inner.observe(x), self.inner.slope_around(x, J, s), s)

    def observe_each(self, X: Tensor) -> Tensor:
        return self.outer.observe_each(self.inner.observe_each(X))

    def seen(self, N: int) -> Tensor:
        outer = self.outer.seen(N)
        return outer & self.inner.seen(N).to(outer.device) if self.outer.pixelwise else outer

    def through(self, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor] | None:
        # a mask inside puts rows to 0 that the outer one mixes; outside it only leaves them unseen
        if self.inner.pixelwise:
            return rows_seen(self, W, b) if self.shared else None
        inner = self.inner.through(W, b)
        return None if inner is None else self.outer.through(*inner)
