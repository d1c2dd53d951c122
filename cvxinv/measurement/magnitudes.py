"""Magnitudes: what a linear measurement gives, without its signs (phase retrieval of real signals)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import per_signal
from .abstract import AbstractMeasurement
from .entries import Everything
from .forms import read_measurement


@dataclass(frozen=True, eq=False)
class Magnitudes(AbstractMeasurement):
    """y = |A x| with any linear `measurement` A, an object, a mask or a matrix as `invert` takes them; None for x itself.

    x and -x give the same y. With x = G(z) only latents that G maps to the same signal or to its opposite are confused for
    that reason: where outputs are of one sign, as behind a sigmoid, nothing is. Near a signal with no entry of A x at 0
    the signs stay as they are and y is linear, with the signs as factors (`at`). A kink, A x = 0, is no local optimum of
    |y - |A x||^2 where y > 0: there it falls to both sides.
    """

    measurement: Any = per_signal(default=None)  # an AbstractMeasurement once it is made

    def __post_init__(self) -> None:
        if self.measurement is None:
            return
        given = self.measurement
        device = given.device if isinstance(given, Tensor) else torch.device("cpu")
        inner = read_measurement(given, device, "the measurement of Magnitudes")
        if not inner.linear:
            raise ValueError(
                f"expected a linear measurement to take magnitudes of, got {inner.name}; leave one of the two out"
            )
        object.__setattr__(self, "measurement", inner)

    @property
    def inner(self) -> AbstractMeasurement:
        """The linear measurement whose magnitudes these are. Raises ValueError where it is still to be fitted."""
        if self.measurement is None:
            raise ValueError(
                "expected Magnitudes of a measurement that knows its size, got none; pass Magnitudes(cvxinv.Everything(d)); "
                "magnitudes of magnitudes are the same"
            )
        inner: AbstractMeasurement = self.measurement
        return inner

    @property
    def linear(self) -> bool:  # type: ignore[override]
        return False

    @property
    def range(self) -> tuple[float, float]:  # type: ignore[override]
        return 0.0, torch.inf

    @property
    def length(self) -> int:
        return self.inner.length

    @property
    def width(self) -> int:
        return self.inner.width

    @property
    def form(self) -> tuple[int, ...]:
        return self.inner.form

    @property
    def shared(self) -> bool:
        return self.inner.shared

    @property
    def known(self) -> bool:
        return type(self) is Magnitudes and self.inner.known

    @property
    def name(self) -> str:
        return f"{type(self).__name__}({self.inner.name})"

    def fitted(self, d: int) -> "Magnitudes":
        return replace(self, measurement=Everything(d)) if self.measurement is None else self

    def at(self, x: Tensor) -> "Signed":
        seen = self.inner.observe(x)
        return Signed(self.inner, torch.where(seen < 0, -1.0, 1.0).to(seen))

    def observe(self, x: Tensor) -> Tensor:
        return (x if self.measurement is None else self.measurement.observe(x)).abs()

    def slope_around(self, x: Tensor, J: Tensor, s: float) -> Tensor:
        # a sign that signals near by do not share counts as little as it is sure: E sign(u + v n) = erf(u / (v 2^(1/2)))
        u, J = self.inner.observe(x), self.inner.push(J)
        v = (s * J.norm(dim=2)).clamp(min=torch.finfo(u.dtype).tiny)
        return torch.erf(u / (2**0.5 * v))[..., None] * J

    def observe_each(self, X: Tensor) -> Tensor:
        return self.inner.push(X).abs()

    def seen(self, N: int) -> Tensor:
        return self.inner.seen(N)


@dataclass(frozen=True, eq=False)
class Signed(AbstractMeasurement):
    """What a linear measurement gives, times signs `(N, length)`: the derivative of its magnitudes."""

    inner: AbstractMeasurement = per_signal()
    signs: Tensor = per_signal()

    @property
    def length(self) -> int:
        return self.inner.length

    @property
    def width(self) -> int:
        return self.inner.width

    def observe(self, x: Tensor) -> Tensor:
        return self.signs * self.inner.observe(x)

    def adjoint(self, r: Tensor) -> Tensor:
        return self.inner.adjoint(self.signs * r)

    def push(self, J: Tensor) -> Tensor:
        return self.signs[..., None] * self.inner.push(J)

    def seen(self, N: int) -> Tensor:
        return self.inner.seen(N)
