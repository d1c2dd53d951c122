"""Activations: the fixed nonlinearities between the linear maps of a generator.

Each is a function of one number, applied to a tensor of any shape, with its derivative and, where there is
one, its inverse. A ReLU has none: what it cut is not known, and that is what the layer problems are for.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf, isfinite, pi, prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inputs import describe

_LINEAR_FROM = 50.0  # of a softplus: above, log(1 + e^u) is u in float64
_GELU_CUBE = 0.044715  # Hendrycks and Gimpel, 2016, section 2
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


class AbstractActivation(ABC):
    """A function of one number, nondecreasing unless it says otherwise, and what is known of it.

    A class of your own needs `name`, `__call__` and `derivative`; `range` where its values have ends; `inverse` where it has
    one; `monotone = False` where it falls somewhere. That is all it takes: the other facts have defaults that claim nothing.
    Layered methods take it at the output, and behind a hidden layer with `slopes` only; the methods that search for z do so
    everywhere. Make it a frozen dataclass whose fields are its numbers.

    name: a word of its own, for messages and files. range: lowest and highest value; the ends may be out of reach. slopes:
    `(a, 1.0)` for u where u > 0 and a u elsewhere, 0 <= a <= 1; None for anything else. torch_modules, onnx_ops: by which
    names the readers know it. parameter_names: what files and torch modules call the numbers, in the order of the fields.
    elementwise: each value depends on its own number alone.
    """

    name: ClassVar[str]
    range: ClassVar[tuple[float, float]] = (-inf, inf)
    monotone: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    torch_modules: ClassVar[tuple[str, ...]] = ()
    onnx_ops: ClassVar[tuple[str, ...]] = ()
    parameter_names: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """The activation of `u`, elementwise."""

    @abstractmethod
    def derivative(self, u: Tensor) -> Tensor:
        """Derivative at `u`, elementwise; at a kink the one of the piece that the class documents."""

    def with_derivative(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The activation of `u` and the derivative there; what both take is worked out once where a class says how."""
        return self(u), self.derivative(u)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Second derivative at `u`, elementwise, 0 at kinks; by automatic differentiation where no class writes it."""
        with torch.enable_grad():
            at = u.detach().clone().requires_grad_()
            slope = self.derivative(at)
            found = torch.autograd.grad(slope.sum(), at, allow_unused=True)[0] if slope.requires_grad else None
        return torch.zeros_like(u) if found is None else found

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
    def pieces(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Where it has kinks, ascending, and the slopes before, between and behind them; None: it is no chain of lines."""
        return None if self.slopes is None or self.linear else ((0.0,), self.slopes)

    @property
    def mirrored(self) -> "AbstractActivation | None":
        """The activation that is -phi(-u) at u, so that -phi(u) is it at -u; None: there is none by a name."""
        return None

    @property
    def parts(self) -> tuple["AbstractActivation", float, float]:
        """phi, s and t of s phi(u) + t, which it is; where it rescales none, itself, 1 and 0."""
        return self, 1.0, 0.0

    @property
    def groups(self) -> tuple[tuple[int, ...], int]:
        """Where it is not elementwise: shape of a signal, and the axis along which entries depend on each other."""
        raise ValueError(f"expected an activation of groups, got {self!r}, which is elementwise; ask for nothing")

    @property
    def unit(self) -> float:
        """Of what size its values and slopes are, 1 unless it rescales another."""
        return 1.0

    def rounding(self, y: Tensor) -> Tensor:
        """How far a value y may be from the exact one beyond its own last digit: where larger numbers were summed to it."""
        return torch.zeros_like(y)

    def keeps(self, ends: tuple[float, float]) -> bool:
        """Whether it changes no number between these two ends."""
        return self.kinked and ends[0] >= 0

    def jacobian(self, u: Tensor) -> "Tensor | Coupled":
        """Its Jacobian at `u` `(N, m)`: the derivative where it is elementwise."""
        return self.derivative(u)

    def moved(self, index: Tensor, shape: tuple[int, ...]) -> "AbstractActivation | None":
        """What makes entries `index` (m,) of its values, seen in `shape`, of those of u; None where nothing does."""
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The numbers that it takes to make it again, by their names, in the order of docs/checking.md."""
        return {name: vars(self)[f.name] for name, f in zip(self.parameter_names, fields(self), strict=False)}  # type: ignore

    @classmethod
    def of(cls, *numbers: Any) -> "AbstractActivation":
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
    def of(cls, *numbers: Any) -> AbstractActivation:
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
        return self.with_derivative(u)[1]

    def with_derivative(self, u: Tensor) -> tuple[Tensor, Tensor]:
        y = u.tanh()
        return y, 1 - y.square()

    def second_derivative(self, u: Tensor) -> Tensor:
        y, slope = self.with_derivative(u)
        return -2 * y * slope

    def inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    @property
    def mirrored(self) -> AbstractActivation:
        return self

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
        return self.with_derivative(u)[1]

    def with_derivative(self, u: Tensor) -> tuple[Tensor, Tensor]:
        y = u.sigmoid()
        return y, y * (-u).sigmoid()

    def second_derivative(self, u: Tensor) -> Tensor:
        y, slope = self.with_derivative(u)
        return slope * (1 - 2 * y)

    def inverse(self, y: Tensor) -> Tensor:
        return y.logit()

    def rounding(self, y: Tensor) -> Tensor:
        return torch.finfo(y.dtype).eps * y.abs()  # of a quotient or product after the exponential

    @property
    def mirrored(self) -> AbstractActivation:
        return Rescaled(self, 1.0, -1.0)

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

    @property
    def pieces(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (-self.c, self.c), (self.a, 1.0, self.a)

    @property
    def mirrored(self) -> AbstractActivation:
        return self

    def curvature(self, y: Tensor) -> Tensor:
        return torch.ones_like(y)


@dataclass(frozen=True)
class Softsign(AbstractActivation):
    """u / (1 + |u|), with values in (-1, 1)."""

    name: ClassVar[str] = "softsign"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    torch_modules: ClassVar[tuple[str, ...]] = ("Softsign",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Softsign",)

    def __call__(self, u: Tensor) -> Tensor:
        return u / (1 + u.abs())

    def derivative(self, u: Tensor) -> Tensor:
        return (1 + u.abs()).square().reciprocal()

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y.abs() <= 1, y / (1 - y.abs()), torch.nan)

    @property
    def mirrored(self) -> AbstractActivation:
        return self


@dataclass(frozen=True)
class Softplus(AbstractActivation):
    """log(1 + exp(`beta` u)) / `beta`, with values above 0; beta > 0."""

    beta: float = 1.0

    name: ClassVar[str] = "softplus"
    range: ClassVar[tuple[float, float]] = (0.0, inf)
    torch_modules: ClassVar[tuple[str, ...]] = ("Softplus",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Softplus",)
    parameter_names: ClassVar[tuple[str, ...]] = ("beta",)

    def __post_init__(self) -> None:
        _positive(self.beta, "a Softplus beta")

    def __call__(self, u: Tensor) -> Tensor:
        return F.softplus(u, self.beta, _LINEAR_FROM)

    def derivative(self, u: Tensor) -> Tensor:
        return (self.beta * u).sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        return y + torch.log(-torch.expm1(-self.beta * y)) / self.beta


@dataclass(frozen=True)
class ELU(AbstractActivation):
    """u where u > 0, `alpha` (e^u - 1) elsewhere, alpha > 0; the derivative at 0 is `alpha`."""

    alpha: float = 1.0

    name: ClassVar[str] = "elu"
    torch_modules: ClassVar[tuple[str, ...]] = ("ELU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Elu",)
    parameter_names: ClassVar[tuple[str, ...]] = ("alpha",)

    def __post_init__(self) -> None:
        _positive(self.alpha, "an ELU alpha")

    @property
    def range(self) -> tuple[float, float]:  # type: ignore[override]
        return -self.alpha, inf

    def __call__(self, u: Tensor) -> Tensor:
        return _exponential(u, self.alpha, 1.0)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.where(u > 0, torch.ones_like(u), self.alpha * u.clamp(max=0).exp())

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, torch.log1p(y.clamp(max=0) / self.alpha))


@dataclass(frozen=True)
class CELU(AbstractActivation):
    """u where u > 0, `alpha` (e^(u / alpha) - 1) elsewhere, alpha > 0."""

    alpha: float = 1.0

    name: ClassVar[str] = "celu"
    torch_modules: ClassVar[tuple[str, ...]] = ("CELU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Celu",)
    parameter_names: ClassVar[tuple[str, ...]] = ("alpha",)

    def __post_init__(self) -> None:
        _positive(self.alpha, "a CELU alpha")

    @property
    def range(self) -> tuple[float, float]:  # type: ignore[override]
        return -self.alpha, inf

    def __call__(self, u: Tensor) -> Tensor:
        return _exponential(u, self.alpha, 1 / self.alpha)

    def derivative(self, u: Tensor) -> Tensor:
        return (u.clamp(max=0) / self.alpha).exp()

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, self.alpha * torch.log1p(y.clamp(max=0) / self.alpha))


@dataclass(frozen=True)
class SELU(AbstractActivation):
    """s u where u > 0, s a (e^u - 1) elsewhere, with the two numbers s, a of Klambauer et al., 2017; derivative s a at 0."""

    name: ClassVar[str] = "selu"
    range: ClassVar[tuple[float, float]] = (-_SELU_SCALE * _SELU_ALPHA, inf)
    torch_modules: ClassVar[tuple[str, ...]] = ("SELU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Selu",)

    def __call__(self, u: Tensor) -> Tensor:
        return _SELU_SCALE * _exponential(u, _SELU_ALPHA, 1.0)

    def derivative(self, u: Tensor) -> Tensor:
        return _SELU_SCALE * torch.where(u > 0, torch.ones_like(u), _SELU_ALPHA * u.clamp(max=0).exp())

    def inverse(self, y: Tensor) -> Tensor:
        y = y / _SELU_SCALE
        return torch.where(y > 0, y, torch.log1p(y.clamp(max=0) / _SELU_ALPHA))

    def rounding(self, y: Tensor) -> Tensor:
        return torch.finfo(y.dtype).eps * y.abs()  # of a quotient or product after the exponential


@dataclass(frozen=True)
class GELU(AbstractActivation):
    """u Phi(u), Phi the normal distribution; with `approximate` "tanh" that of Hendrycks and Gimpel, 2016. Not monotone."""

    approximate: str = "none"

    name: ClassVar[str] = "gelu"
    range: ClassVar[tuple[float, float]] = (-0.17005, inf)  # its least values: -0.169971 and, approximated, -0.170041
    monotone: ClassVar[bool] = False
    torch_modules: ClassVar[tuple[str, ...]] = ("GELU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Gelu",)
    parameter_names: ClassVar[tuple[str, ...]] = ("approximate",)

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ValueError(
                f"expected a GELU approximate of 'none' or 'tanh', got {self.approximate!r}; pass one of the two"
            )

    def __call__(self, u: Tensor) -> Tensor:
        return F.gelu(u, approximate=self.approximate)

    def derivative(self, u: Tensor) -> Tensor:
        if self.approximate == "none":
            return torch.special.ndtr(u) + u * torch.exp(-u.square() / 2) / (2 * pi) ** 0.5
        t = torch.tanh((2 / pi) ** 0.5 * (u + _GELU_CUBE * u**3))
        return (1 + t) / 2 + u * (1 - t.square()) / 2 * (2 / pi) ** 0.5 * (1 + 3 * _GELU_CUBE * u.square())


@dataclass(frozen=True)
class SiLU(AbstractActivation):
    """u / (1 + e^-u), also called swish. Not monotone."""

    name: ClassVar[str] = "silu"
    range: ClassVar[tuple[float, float]] = (-0.27847, inf)  # its least value is -0.278465
    monotone: ClassVar[bool] = False
    torch_modules: ClassVar[tuple[str, ...]] = ("SiLU",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Swish",)

    def __call__(self, u: Tensor) -> Tensor:
        return F.silu(u)

    def derivative(self, u: Tensor) -> Tensor:
        return u.sigmoid() * (1 + u * (-u).sigmoid())


@dataclass(frozen=True)
class Mish(AbstractActivation):
    """u tanh(log(1 + e^u)). Not monotone."""

    name: ClassVar[str] = "mish"
    range: ClassVar[tuple[float, float]] = (-0.30885, inf)  # its least value is -0.308843
    monotone: ClassVar[bool] = False
    torch_modules: ClassVar[tuple[str, ...]] = ("Mish",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Mish",)

    def __call__(self, u: Tensor) -> Tensor:
        return u * F.softplus(u, 1.0, _LINEAR_FROM).tanh()

    def derivative(self, u: Tensor) -> Tensor:
        t = F.softplus(u, 1.0, _LINEAR_FROM).tanh()
        return t + u * (1 - t.square()) * u.sigmoid()


@dataclass(frozen=True)
class Hardswish(AbstractActivation):
    """u min(max(u + 3, 0), 6) / 6; its derivative is 0 at -3 and 1 at 3. Not monotone."""

    name: ClassVar[str] = "hardswish"
    range: ClassVar[tuple[float, float]] = (-0.375, inf)
    monotone: ClassVar[bool] = False
    torch_modules: ClassVar[tuple[str, ...]] = ("Hardswish",)
    onnx_ops: ClassVar[tuple[str, ...]] = ("HardSwish",)

    def __call__(self, u: Tensor) -> Tensor:
        return u * (u + 3).clamp(0, 6) / 6

    def derivative(self, u: Tensor) -> Tensor:
        between = (2 * u + 3) / 6
        return torch.where(u <= -3, torch.zeros_like(u), torch.where(u >= 3, torch.ones_like(u), between))


@dataclass(frozen=True)
class Clamp(AbstractActivation):
    """min(max(u, `low`), `high`): Hardtanh, ReLU6, clip; one end may be infinite. The derivative at both ends is 0.

    A value at an end says that u lies at or beyond it and no more: its inverse there is infinite.
    """

    low: float = -1.0
    high: float = 1.0

    name: ClassVar[str] = "clamp"
    torch_modules: ClassVar[tuple[str, ...]] = ("Hardtanh", "ReLU6")
    parameter_names: ClassVar[tuple[str, ...]] = ("min_val", "max_val")

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"expected a Clamp with low < high, got {self.low} and {self.high}; pass both ends in order")
        if self.high == inf and self.low in (0, -inf):
            raise ValueError(f"expected a Clamp that is no ReLU and no identity, got {self}; use Clamp.of(...)")

    @classmethod
    def of(cls, *numbers: Any) -> AbstractActivation:
        """None stands for an end that is not there; from 0 without an upper end it is the ReLU."""
        low, high = (side if end is None else end for end, side in zip(numbers, (-inf, inf), strict=True))
        if high == inf and low in (0, -inf):
            return ReLU() if low == 0 else Identity()
        return cls(float(low), float(high))

    @property
    def range(self) -> tuple[float, float]:  # type: ignore[override]
        return self.low, self.high

    @property
    def pieces(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        ends = ((self.low, 0.0), (self.high, 0.0))
        there = [isfinite(end) for end, _ in ends]
        kinks = tuple(end for end, _ in ends if isfinite(end))
        return kinks, (*([0.0] if there[0] else []), 1.0, *([0.0] if there[1] else []))

    @property
    def mirrored(self) -> AbstractActivation:
        return Clamp.of(-self.high, -self.low)

    def keeps(self, ends: tuple[float, float]) -> bool:
        return self.low <= ends[0] and ends[1] <= self.high

    def __call__(self, u: Tensor) -> Tensor:
        return u.clamp(self.low, self.high)

    def derivative(self, u: Tensor) -> Tensor:
        return ((u > self.low) & (u < self.high)).to(u.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        u = torch.where(y == self.low, -inf, torch.where(y == self.high, inf, y))
        return torch.where((y < self.low) | (y > self.high), torch.nan, u)


@dataclass(frozen=True)
class Hardsigmoid(AbstractActivation):
    """min(max(`alpha` u + `beta`, 0), 1), alpha > 0; the derivative at both ends is 0, its inverse there infinite."""

    alpha: float = 1 / 6
    beta: float = 0.5

    name: ClassVar[str] = "hardsigmoid"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    onnx_ops: ClassVar[tuple[str, ...]] = ("HardSigmoid",)
    parameter_names: ClassVar[tuple[str, ...]] = ("alpha", "beta")

    def __post_init__(self) -> None:
        _positive(self.alpha, "a Hardsigmoid alpha")

    @property
    def pieces(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (-self.beta / self.alpha, (1 - self.beta) / self.alpha), (0.0, self.alpha, 0.0)

    def __call__(self, u: Tensor) -> Tensor:
        return (self.alpha * u + self.beta).clamp(0, 1)

    def derivative(self, u: Tensor) -> Tensor:
        v = self.alpha * u + self.beta
        return self.alpha * ((v > 0) & (v < 1)).to(u.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        return (Clamp(0.0, 1.0).inverse(y) - self.beta) / self.alpha

    def rounding(self, y: Tensor) -> Tensor:
        kind = torch.finfo(y.dtype)
        return 2 * kind.eps * (y.abs() + abs(self.beta)) + kind.tiny


@dataclass(frozen=True)
class Exp(AbstractActivation):
    """e^u, with values above 0."""

    name: ClassVar[str] = "exp"
    range: ClassVar[tuple[float, float]] = (0.0, inf)
    onnx_ops: ClassVar[tuple[str, ...]] = ("Exp",)

    def __call__(self, u: Tensor) -> Tensor:
        return u.exp()

    def derivative(self, u: Tensor) -> Tensor:
        return u.exp()

    def inverse(self, y: Tensor) -> Tensor:
        return y.log()


@dataclass(frozen=True)
class Rescaled(AbstractActivation):
    """`scale` phi(u) + `shift` for another activation phi, scale > 0: (tanh u + 1) / 2, 255 sigmoid u.

    Where scale is negative, `Rescaled.of` turns phi and says how the layer before it turns.
    """

    activation: AbstractActivation
    scale: float
    shift: float

    name: ClassVar[str] = "rescaled"

    def __post_init__(self) -> None:
        if not isinstance(self.activation, AbstractActivation) or type(self.activation) is Rescaled:
            raise TypeError(f"expected an activation to rescale, got {self.activation!r}; pass e.g. cvxinv.Tanh()")
        _positive(self.scale, "a scale")
        if not isfinite(self.shift):
            raise ValueError(f"expected a finite shift, got {self.shift}; pass one number")

    @property
    def range(self) -> tuple[float, float]:  # type: ignore[override]
        low, high = self.activation.range
        return self.scale * low + self.shift, self.scale * high + self.shift

    @property
    def monotone(self) -> bool:  # type: ignore[override]
        return self.activation.monotone

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return self.activation.elementwise

    @property
    def parts(self) -> tuple[AbstractActivation, float, float]:
        return self.activation, self.scale, self.shift

    @property
    def unit(self) -> float:
        return self.scale * self.activation.unit

    @property
    def saturates(self) -> bool:
        return self.activation.saturates

    @property
    def pieces(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self.activation.pieces is None:
            return None
        kinks, slopes = self.activation.pieces
        return kinks, tuple(self.scale * slope for slope in slopes)

    @cached_property
    def invertible(self) -> bool:
        return self.activation.invertible

    def __call__(self, u: Tensor) -> Tensor:
        return self.scale * self.activation(u) + self.shift

    def derivative(self, u: Tensor) -> Tensor:
        return self.scale * self.activation.derivative(u)

    def second_derivative(self, u: Tensor) -> Tensor:
        return self.scale * self.activation.second_derivative(u)

    def inverse(self, y: Tensor) -> Tensor:
        return self.activation.inverse((y - self.shift) / self.scale)

    def rounding(self, y: Tensor) -> Tensor:
        inner, kind = self.activation.rounding((y - self.shift) / self.scale), torch.finfo(y.dtype)
        # tiny: the last digit of 0 is lost again where it is divided by the scale
        return self.scale * (inner + kind.tiny) + 2 * kind.eps * (y.abs() + abs(self.shift))

    def curvature(self, y: Tensor) -> Tensor | None:
        inner = self.activation.curvature((y + abs(self.shift)) / self.scale)
        return None if inner is None else self.scale**2 * inner


@dataclass(frozen=True)
class Softmax(AbstractActivation):
    """exp(u) divided by its sum along `axis` of a signal of `shape`: not elementwise, and at the output only.

    Its Jacobian diag(p) - p p' in each group is given by `jacobian`; `derivative` is the diagonal of it.
    """

    shape: tuple[int, ...]
    axis: int = 0

    name: ClassVar[str] = "softmax"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if not 0 <= self.axis < len(self.shape):
            raise ValueError(f"expected a softmax along an axis of {self.shape}, got {self.axis}; count from 0")

    def __call__(self, u: Tensor) -> Tensor:
        return self._grouped(u).softmax(-2).reshape(u.shape)

    def derivative(self, u: Tensor) -> Tensor:
        p = self(u)
        return p * (1 - p)

    @property
    def groups(self) -> tuple[tuple[int, ...], int]:
        return self.shape, self.axis

    def moved(self, index: Tensor, shape: tuple[int, ...]) -> "Softmax | None":
        """The softmax that makes entries `index` of its values, in `shape`, of those of u; None where none does."""
        before, size, after = self._sizes
        lines = torch.arange(before * after, device=index.device).reshape(before, 1, after).expand(-1, size, -1).reshape(-1)
        if index.sort().values.tolist() != list(range(lines.numel())):
            return None
        there = lines[index].reshape(shape)
        axes = (k for k, n in enumerate(shape) if n == size and bool((there == there.narrow(k, 0, 1)).all()))
        axis = next(axes, None)
        return None if axis is None else Softmax(shape, axis)

    def jacobian(self, u: Tensor) -> "Coupled":
        return Coupled(self._grouped(self(u)))

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return prod(self.shape[: self.axis]), self.shape[self.axis], prod(self.shape[self.axis + 1 :])

    def _grouped(self, u: Tensor) -> Tensor:
        """`(..., before, axis, after)`."""
        return u.reshape(*u.shape[:-1], *self._sizes)


@dataclass(frozen=True, eq=False)
class Coupled:
    """The Jacobian of a softmax, diag(p) - p p' in each group: `p` is `(N, before, group, after)`. It is symmetric."""

    p: Tensor

    def times(self, v: Tensor) -> Tensor:
        """It times `(N, k, d)`, k vectors for each of N latents."""
        p, grouped = self.p[:, None], v.reshape(*v.shape[:2], *self.p.shape[1:])  # (N or 1, k, before, group, after)
        return (p * (grouped - (p * grouped).sum(-2, keepdim=True))).flatten(2)

    def float(self) -> "Coupled":
        """In float32."""
        return Coupled(self.p.float())


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


KINDS: tuple[type[AbstractActivation], ...] = (
    Identity, ReLU, LeakyReLU, Tanh, Sigmoid, PLU, Clamp, Hardsigmoid, Softsign, Softplus, ELU, CELU, SELU, Exp,
    GELU, SiLU, Mish, Hardswish,
)  # fmt: skip


def rescaled(activation: AbstractActivation, scale: float, shift: float) -> AbstractActivation | None:
    """`scale` psi(u) + `shift` as one activation, psi the `activation`; for scale < 0 that of -u. None: there is none."""
    if scale == 0:
        return None
    turned = activation if scale > 0 else activation.mirrored
    if turned is None:
        return None
    inner, s, t = turned.parts
    s, t = abs(scale) * s, abs(scale) * t + shift
    return inner if (s, t) == (1.0, 0.0) else Rescaled(inner, s, t)


def _positive(value: float, what: str) -> None:
    if not (isinstance(value, int | float) and 0 < value < inf):
        raise ValueError(f"expected {what} > 0, got {value}; pass a finite one")


def _exponential(u: Tensor, alpha: float, rate: float) -> Tensor:
    """u where u > 0, `alpha` (e^(`rate` u) - 1) elsewhere."""
    return torch.where(u > 0, u, alpha * torch.expm1(rate * u.clamp(max=0)))


def in_files(activation: AbstractActivation) -> bool:
    """Whether files can name it, rescaled or not: one of `KINDS`, and no class of the same name, or a softmax."""
    return type(activation.parts[0]) in (*KINDS, Softmax)


def all_kinds(base: type[AbstractActivation] = AbstractActivation) -> Iterator[type[AbstractActivation]]:
    """Every elementwise class of activation that there is, the package's own first."""
    for kind in base.__subclasses__():
        if kind is not Softmax:
            yield kind
            yield from all_kinds(kind)


def check_facts(activation: AbstractActivation, where: str) -> None:
    """Raises TypeError or ValueError for facts that no activation can have; where: how the message calls it."""
    activation, *_ = activation.parts
    kind = type(activation)
    if kind in (*KINDS, Softmax):
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
    falls = (y.diff() < 0).any() | (slope < 0).any()
    wrong = {
        "nondecreasing, with a derivative >= 0, or monotone = False": falls if activation.monotone else falls & False,
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
        raise ValueError(f"expected leaky_relu:SLOPE with SLOPE in (0, 1), got {output!r}; pass leaky_relu:0.1") from error
