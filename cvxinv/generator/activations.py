"""Activations: the fixed nonlinearities between the linear maps of a generator.

Each is a function of one number, applied to a tensor of any shape, with its derivative and, where there is
one, its inverse. A ReLU has none: what it cut is not known, and that is what the layer problems are for.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..inputs import describe


class AbstractActivation(ABC):
    """A nondecreasing function of one number, and what is known of it.

    A class of your own needs `name`, `__call__` and `derivative`; `range` where its values have ends; `inverse` where it has
    one. That is all it takes to stand at the output: the other facts have defaults that claim nothing. With `slopes` it may
    stand behind a hidden layer too. Make it a frozen dataclass whose fields are its numbers.

    name: a word of its own, for messages and files. range: lowest and highest value; the ends may be out of reach. slopes:
    `(a, 1.0)` for u where u > 0 and a u elsewhere, 0 <= a <= 1; None for anything else. torch_modules, onnx_ops: by which
    names the readers know it. parameter_names: what files and torch modules call the numbers, in the order of the fields.
    """

    name: ClassVar[str]
    range: ClassVar[tuple[float, float]] = (-inf, inf)
    torch_modules: ClassVar[tuple[str, ...]] = ()
    onnx_ops: ClassVar[tuple[str, ...]] = ()
    parameter_names: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """The activation of `u`, elementwise."""

    @abstractmethod
    def derivative(self, u: Tensor) -> Tensor:
        """Derivative at `u`, elementwise; at a kink the one of the piece that the class documents."""

    def inverse(self, y: Tensor) -> Tensor:
        """The `u` whose activation is `y`, elementwise; infinite at the end of an open range, NaN beyond it.

        Raises ValueError where a class has none.
        """
        cure = (
            "invert the layer with a layer problem, which takes the rows that it cut as inequalities"
            if self.cuts
            else "write inverse(y) in its class, or use a method that needs none, such as 'levenberg_marquardt'"
        )
        raise ValueError(f"expected an activation that has an inverse, got {self!r}; {cure}")

    def curvature(self, y: Tensor) -> Tensor | None:
        """A bound over all u on the curvature of 1/2 (phi(u) - t)^2, for every |t| <= y, elementwise; None: not known."""
        return None if self.curved or self.cuts else torch.ones_like(y)

    @property
    def slopes(self) -> tuple[float, float] | None:
        """See the class."""
        return None

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers that it takes to make it again, by their names, in the order of docs/checking.md."""
        return {name: vars(self)[f.name] for name, f in zip(self.parameter_names, fields(self), strict=False)}  # type: ignore

    @classmethod
    def of(cls, *numbers: float) -> "AbstractActivation":
        """The activation of these numbers, in the order of `parameter_names`. Raises: ValueError for wrong ones."""
        return cls(*numbers)

    @property
    def saturates(self) -> bool:
        """Whether its slope comes as near to 0 as you like where it is not cut: what lies there is lost to rounding."""
        return self.curved

    # --- what follows ---

    @cached_property
    def linear(self) -> bool:
        """Whether it changes nothing."""
        return self.slopes == (1.0, 1.0)

    @cached_property
    def kinked(self) -> bool:
        """Whether it is u above 0 and less of u below: what may stand behind a hidden layer."""
        return self.slopes is not None and not self.linear

    @cached_property
    def cuts(self) -> bool:
        """Whether all that is below 0 becomes 0, so that there is no way back."""
        return self.slopes is not None and self.slopes[0] == 0

    @cached_property
    def leaks(self) -> bool:
        """Whether it is kinked and can be undone."""
        return self.kinked and not self.cuts

    @cached_property
    def curved(self) -> bool:
        """Whether it is anything but linear with at most one kink at 0: an image layer behind it is not linear."""
        return self.slopes is None

    @cached_property
    def invertible(self) -> bool:
        """Whether the class has an inverse."""
        return type(self).inverse is not AbstractActivation.inverse

    @cached_property
    def middle(self) -> float:
        """A value inside its range, to stand where the inverse is not defined: phi(0)."""
        return float(self(torch.zeros((), dtype=torch.float64, device="cpu")))

    def inside(self, y: Tensor) -> Tensor:
        """Where `y` has a finite inverse, bool, elementwise; nowhere without an inverse."""
        if not self.invertible:
            return torch.zeros_like(y, dtype=torch.bool)
        low, high = self.range
        within = (y >= low) & (y <= high)
        return within & torch.isfinite(self.inverse(torch.where(within, y, self.middle)))


@dataclass(frozen=True)
class Identity(AbstractActivation):
    """No activation."""

    name: ClassVar[str] = "identity"
    torch_modules: ClassVar[tuple[str, ...]] = ("Identity",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Identity",)

    @property
    def slopes(self) -> tuple[float, float]:
        return 1.0, 1.0

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
    range: ClassVar[tuple[float, float]] = (0.0, inf)
    torch_modules: ClassVar[tuple[str, ...]] = ("ReLU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Relu",)

    @property
    def slopes(self) -> tuple[float, float]:
        return 0.0, 1.0

    def __call__(self, u: Tensor) -> Tensor:
        return u.relu()

    def derivative(self, u: Tensor) -> Tensor:
        return (u > 0).to(u.dtype)


@dataclass(frozen=True)
class LeakyReLU(AbstractActivation):
    """u where u > 0, `slope` u elsewhere, 0 < slope < 1; the derivative at 0 is `slope`."""

    slope: float

    name: ClassVar[str] = "leaky_relu"
    torch_modules: ClassVar[tuple[str, ...]] = ("LeakyReLU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("LeakyRelu",)
    parameter_names: ClassVar[tuple[str, ...]] = ("negative_slope",)

    def __post_init__(self) -> None:
        if not 0 < self.slope < 1:
            raise ValueError(f"expected a LeakyReLU slope in (0, 1), got {self.slope}; for 0 use ReLU()")

    @property
    def slopes(self) -> tuple[float, float]:
        return self.slope, 1.0

    @classmethod
    def of(cls, *numbers: float) -> AbstractActivation:
        """With a slope of 0 it is the ReLU."""
        (slope,) = numbers
        if not isinstance(slope, int | float) or not 0 <= slope < 1:
            raise ValueError(f"expected a negative_slope in [0, 1), got {slope}; pass one")
        return ReLU() if slope == 0 else cls(float(slope))

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
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    torch_modules: ClassVar[tuple[str, ...]] = ("Tanh",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Tanh",)

    def __call__(self, u: Tensor) -> Tensor:
        return u.tanh()

    def derivative(self, u: Tensor) -> Tensor:
        return 1 - u.tanh().square()

    def inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    def curvature(self, y: Tensor) -> Tensor:
        # |phi'^2 + phi'' (phi - t)| with |phi''| <= 4 / 3^(3/2)
        return 1 + 0.7699 * (1 + y)


@dataclass(frozen=True)
class Sigmoid(AbstractActivation):
    """1 / (1 + exp(-u)), with values in (0, 1)."""

    name: ClassVar[str] = "sigmoid"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    torch_modules: ClassVar[tuple[str, ...]] = ("Sigmoid",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Sigmoid",)

    def __call__(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def derivative(self, u: Tensor) -> Tensor:
        return u.sigmoid() * (-u).sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        return y.logit()

    def curvature(self, y: Tensor) -> Tensor:
        # as behind tanh, with |phi''| <= 1 / (6 3^(1/2))
        return 1 / 16 + 0.09623 * (1 + y)


@dataclass(frozen=True)
class PLU(AbstractActivation):
    """Piecewise linear unit max(a (u + c) - c, min(a (u - c) + c, u)): u on [-c, c], slope `a` outside."""

    a: float = 0.1
    c: float = 1.0

    name: ClassVar[str] = "plu"
    torch_modules: ClassVar[tuple[str, ...]] = ("PLUModule",)
    parameter_names: ClassVar[tuple[str, ...]] = ("a", "c")

    def __post_init__(self) -> None:
        if not 0 < self.a < 1:
            raise ValueError(f"expected a PLU slope a in (0, 1), got {self.a}; for 1 use Identity()")
        if not 0 < self.c < float("inf"):
            raise ValueError(f"expected a finite PLU corner c > 0, got {self.c}; pass c > 0")

    @property
    def saturates(self) -> bool:
        return False

    def __call__(self, u: Tensor) -> Tensor:
        upper = torch.minimum(self.a * (u - self.c) + self.c, u)
        return torch.maximum(self.a * (u + self.c) - self.c, upper)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.where(u.abs() <= self.c, torch.ones_like(u), self.a)

    def inverse(self, y: Tensor) -> Tensor:
        lower = torch.maximum((y - self.c) / self.a + self.c, y)
        return torch.minimum((y + self.c) / self.a - self.c, lower)

    def curvature(self, y: Tensor) -> Tensor:
        return torch.ones_like(y)


class PLUModule(nn.Module):
    """`PLU(a, c)` as a torch module, for use in an `nn.Sequential`; `load_generator` recognises it."""

    def __init__(self, a: float = 0.1, c: float = 1.0):
        super().__init__()
        self.activation = PLU(a, c)

    @property
    def a(self) -> float:
        """The slope outside of [-c, c]."""
        return self.activation.a

    @property
    def c(self) -> float:
        """Where the corners are."""
        return self.activation.c

    def forward(self, u: Tensor) -> Tensor:
        """PLU of `u`, elementwise."""
        return self.activation(u)

    def extra_repr(self) -> str:
        """The two parameters."""
        return f"a={self.a}, c={self.c}"


KINDS: tuple[type[AbstractActivation], ...] = (Identity, ReLU, LeakyReLU, Tanh, Sigmoid, PLU)


def in_files(activation: AbstractActivation) -> bool:
    """Whether files can name it: one of `KINDS`, and no class of the same name."""
    return type(activation) in KINDS


def all_kinds(base: type[AbstractActivation] = AbstractActivation) -> Iterator[type[AbstractActivation]]:
    """Every class of activation that there is, the package's own first."""
    for kind in base.__subclasses__():
        yield kind
        yield from all_kinds(kind)


def check_facts(activation: AbstractActivation, where: str) -> None:
    """Raises TypeError or ValueError for facts that no activation can have; where: how the message calls it."""
    kind = type(activation)
    if kind in KINDS:
        return
    if not isinstance(getattr(activation, "name", None), str) or not activation.name:
        raise TypeError(f'expected {where} with a name, got {kind.__name__} without; write name = "softplus" in its class')
    ends, slopes = activation.range, activation.slopes
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"expected the range of {where} as (low, high), got {ends!r} of {kind.__name__}; give its ends")
    if slopes is not None and not (len(slopes) == 2 and 0 <= slopes[0] <= 1 and slopes[1] == 1):
        raise ValueError(
            f"expected the slopes of {where} as (a, 1.0) with a from 0 to 1, got {slopes!r} of {kind.__name__}; "
            "put another scale into W and b, or give no slopes"
        )
    _check_values(activation, where)


def _check_values(activation: AbstractActivation, where: str) -> None:
    """Raises ValueError where shapes, types, order, range, slopes or inverse are not as the class says, at a few numbers."""
    kind, u = type(activation).__name__, torch.linspace(-3, 3, 8, dtype=torch.float64, device="cpu")[None]
    for given in (u.float(), u):
        try:
            values = {"__call__": activation(given), "derivative": activation.derivative(given)}
        except RuntimeError as error:  # torch's own, of shapes and types that do not meet
            raise ValueError(
                f"expected {where} that takes a tensor {given.dtype} of any shape, got {kind}, which raised {error}; "
                "compute elementwise, and let its numbers be the same for all entries"
            ) from error
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape != given.shape or value.dtype != given.dtype:
                raise ValueError(
                    f"expected {kind}.{name} to give {describe(given)}, as it was given, got {describe(value)}; "
                    "compute elementwise, and let no number bring a type of its own"
                )
    y, slope = values.values()
    low, high = activation.range
    wrong = {
        "nondecreasing, with a derivative >= 0": (y.diff() < 0).any() | (slope < 0).any(),
        "with the slope of its values as derivative": (slope - _slope(activation, u, slope)).abs().amax() > 1e-3,
        f"with values in its range {activation.range}": (y < low).any() | (y > high).any(),
    }
    if activation.slopes is not None:
        kinked = torch.where(u > 0, u, activation.slopes[0] * u)
        wrong[f"of the slopes {activation.slopes} that it has"] = (y - kinked).abs().amax() > 1e-9
    if activation.invertible:
        wrong["with the way back as inverse"] = (activation.inverse(y) - u).abs().nan_to_num(1.0).amax() > 1e-3
    for words, found in wrong.items():
        if found:
            raise ValueError(f"expected {where} {words}, got {kind} with values {_few(y)} at {_few(u)}; correct its class")


def _slope(activation: AbstractActivation, u: Tensor, stated: Tensor) -> Tensor:
    """The slope at u by differences; at a kink, where the two sides differ, the stated one."""
    here, step = activation(u), 1e-6
    ahead, behind = (activation(u + step) - here) / step, (here - activation(u - step)) / step
    return torch.where((ahead - behind).abs() > 1e-3, stated, (ahead + behind) / 2)


def _few(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.flatten().tolist())


def as_activation(output: "str | AbstractActivation") -> AbstractActivation:
    """The activation of a name ("relu", "leaky_relu", "leaky_relu:0.2", ...), or the activation itself."""
    if isinstance(output, AbstractActivation):
        return output
    if not isinstance(output, str):
        raise TypeError(
            f"expected a name or an activation object, got {type(output).__name__}; "
            "pass for example 'identity', 'relu' or LeakyReLU(0.1)"
        )
    plain = {kind.name: kind for kind in KINDS if kind is not LeakyReLU}  # the one whose number stands behind its name
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
