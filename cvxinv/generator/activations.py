"""Activations: the fixed nonlinearities between the linear maps of a generator.

Each is a function of one number, applied to a tensor of any shape, with its derivative and, where there is
one, its inverse. A ReLU has none: what it cut is not known, and that is what the layer problems are for.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


class AbstractActivation(ABC):
    """A nondecreasing function of one number."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """The activation of `u`, elementwise."""

    @abstractmethod
    def derivative(self, u: Tensor) -> Tensor:
        """Derivative at `u`, elementwise; at a kink the one of the piece that the class documents."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """The `u` whose activation is `y`, elementwise; infinite at the end of an open range, NaN beyond
        it."""


@dataclass(frozen=True)
class Identity(AbstractActivation):
    """No activation."""

    name: ClassVar[str] = "identity"

    def __call__(self, u: Tensor) -> Tensor:
        return u

    def derivative(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    def inverse(self, y: Tensor) -> Tensor:
        return y


@dataclass(frozen=True)
class ReLU(AbstractActivation):
    """max(u, 0); the derivative at 0 is 0."""

    name: ClassVar[str] = "relu"

    def __call__(self, u: Tensor) -> Tensor:
        return u.relu()

    def derivative(self, u: Tensor) -> Tensor:
        return (u > 0).to(u.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        """None exists: raises ValueError."""
        raise ValueError(
            "expected an activation that has an inverse, got ReLU(); "
            "invert the layer with a layer problem, which takes the rows that the ReLU cut as inequalities"
        )


@dataclass(frozen=True)
class LeakyReLU(AbstractActivation):
    """u where u > 0, `slope` u elsewhere, 0 < slope < 1; the derivative at 0 is `slope`."""

    slope: float

    name: ClassVar[str] = "leaky_relu"

    def __post_init__(self) -> None:
        if not 0 < self.slope < 1:
            raise ValueError(f"expected a LeakyReLU slope in (0, 1), got {self.slope}; for 0 use ReLU()")

    def __call__(self, u: Tensor) -> Tensor:
        return torch.where(u > 0, u, u * self.slope)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.where(u > 0, torch.ones_like(u), self.slope)

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, y / self.slope)


@dataclass(frozen=True)
class Tanh(AbstractActivation):
    """tanh u, with values in (-1, 1)."""

    name: ClassVar[str] = "tanh"

    def __call__(self, u: Tensor) -> Tensor:
        return u.tanh()

    def derivative(self, u: Tensor) -> Tensor:
        return 1 - u.tanh().square()

    def inverse(self, y: Tensor) -> Tensor:
        return y.atanh()


@dataclass(frozen=True)
class Sigmoid(AbstractActivation):
    """1 / (1 + exp(-u)), with values in (0, 1)."""

    name: ClassVar[str] = "sigmoid"

    def __call__(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def derivative(self, u: Tensor) -> Tensor:
        return u.sigmoid() * (-u).sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        return y.logit()


@dataclass(frozen=True)
class PLU(AbstractActivation):
    """Piecewise linear unit max(a (u + c) - c, min(a (u - c) + c, u)): u on [-c, c], slope `a` outside."""

    a: float = 0.1
    c: float = 1.0

    name: ClassVar[str] = "plu"

    def __post_init__(self) -> None:
        if not 0 < self.a < 1:
            raise ValueError(f"expected a PLU slope a in (0, 1), got {self.a}; for 1 use Identity()")
        if not 0 < self.c < float("inf"):
            raise ValueError(f"expected a finite PLU corner c > 0, got {self.c}; pass c > 0")

    def __call__(self, u: Tensor) -> Tensor:
        upper = torch.minimum(self.a * (u - self.c) + self.c, u)
        return torch.maximum(self.a * (u + self.c) - self.c, upper)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.where(u.abs() <= self.c, torch.ones_like(u), self.a)

    def inverse(self, y: Tensor) -> Tensor:
        lower = torch.maximum((y - self.c) / self.a + self.c, y)
        return torch.minimum((y + self.c) / self.a - self.c, lower)


class PLUModule(nn.Module):
    """`PLU(a, c)` as a torch module, for use in an `nn.Sequential`; `load_generator` recognises it."""

    def __init__(self, a: float = 0.1, c: float = 1.0):
        super().__init__()
        self.activation = PLU(a, c)

    def forward(self, u: Tensor) -> Tensor:
        """PLU of `u`, elementwise."""
        return self.activation(u)

    def extra_repr(self) -> str:
        """The two parameters."""
        return f"a={self.activation.a}, c={self.activation.c}"


def as_activation(output: "str | AbstractActivation") -> AbstractActivation:
    """The activation of a name ("relu", "leaky_relu", "leaky_relu:0.2", ...), or the activation itself."""
    if isinstance(output, AbstractActivation):
        return output
    if not isinstance(output, str):
        raise TypeError(
            f"expected a name or an activation object, got {type(output).__name__}; "
            "pass for example 'identity', 'relu' or LeakyReLU(0.1)"
        )
    plain = {kind.name: kind for kind in (Identity, ReLU, Tanh, Sigmoid, PLU)}
    if output in plain:
        return plain[output]()
    name, _, slope = output.partition(":")
    if name != LeakyReLU.name:
        known = ", ".join(sorted([*plain, "leaky_relu", "leaky_relu:SLOPE"]))
        raise ValueError(f"expected one of {known}, got {output!r}; pass one of these or an activation object")
    try:
        return LeakyReLU(float(slope or 0.1))
    except ValueError as error:
        raise ValueError(f"expected leaky_relu:SLOPE with SLOPE in (0, 1), got {output!r}; pass 0.1") from error
