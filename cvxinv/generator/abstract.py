"""What a generator is to all that inverts one: values, products with its Jacobian, and what is known of its inside.

    x = G(z),    J = dG/dz,    J v forwards,    J' r backwards,    z (N, n0), x (N, d)

A chain of layers (`chain`) knows all its layers, an opaque generator (`opaque`) none of them, and a class of the user's own
as many. What needs layers asks for `layers`; what only computes asks for values and `piece`.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import torch
from torch import Tensor

from ..inputs import conversion, describe, describe_amount, is_finite, plain_number, plain_tensor, read_numbers
from ..tables import html_table
from .activations import AbstractActivation, Identity
from .piece import AbstractPiece, PointPiece

if TYPE_CHECKING:
    from .chain import Layer


def check_distribution(latent: object, where: str) -> None:
    """Raises ValueError where what a description says of the latents is no object, or names a range that is none.

    latent: the object "latent" of a description; where: how messages call it. Ends belong to the uniform distribution, one
    number each for all coordinates, low < high.
    """
    if not isinstance(latent, Mapping):
        raise ValueError(f"expected {where} as an object, got {describe_amount(latent)}; correct it")
    kind, low, high = latent.get("distribution", "normal"), latent.get("low", 0.0), latent.get("high", 1.0)
    if not isinstance(kind, str):
        raise ValueError(
            f"expected the distribution of {where} as a text, got {describe_amount(kind)}; say normal or uniform"
        )
    if not in_order(low, high):
        raise ValueError(
            f"expected low < high of {where} as finite numbers, one each for all coordinates, got {low!r} and {high!r}; "
            "correct them"
        )


def in_order(low: object, high: object) -> bool:
    """Whether both are finite numbers, the first below the second."""
    return is_finite(low) and is_finite(high) and low < high


class AbstractGenerator(ABC):
    """A differentiable map from latents `(N, n0)` to flat signals `(N, d)`.

    A class of your own has `latent_dim`, `signal_shape`, `dtype` and `device` as attributes or properties, and writes
    `values`, `pull` and `to`; all else follows. `push` saves much time, d products back for each Jacobian. It is tried at
    random latents before it is used. Make it a frozen dataclass (`eq=False`).

    latent_dim: n0. signal_shape: of one signal, a picture's where it is one. dtype, device: of weights, latents and signals.
    description: what is known of it in words, as files have it; its "name" and "latent" (the distribution) are used. layers:
    those of a chain; empty where none are known. output: the last activation, as far as it is known.
    """

    latent_dim: int
    signal_shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    description: Mapping[str, Any] = MappingProxyType({})
    layers: "tuple[Layer, ...]" = ()
    output: AbstractActivation = Identity()

    @abstractmethod
    def values(self, z: Tensor) -> Tensor:
        """Signals `(N, d)` of latents `(N, n0)`; signal i depends on latent i alone."""

    @abstractmethod
    def pull(self, z: Tensor, r: Tensor) -> Tensor:
        """J(z)' r, `(N, n0)`, of one vector r per latent, `(N, d)`."""

    def push(self, z: Tensor, v: Tensor) -> Tensor:
        """J(z) v, `(N, d)`, of one vector v per latent, `(N, n0)`; by the rows of J where a class does not write it."""
        return self.piece(z)[1].push(v[:, None])[:, 0]

    @abstractmethod
    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same generator in another floating type or on another device."""

    @cached_property
    def single(self) -> Self:
        """The same generator in float32, made at the first call and kept."""
        return self.to(torch.float32)

    @cached_property
    def signal_dim(self) -> int:
        """d, the number of entries of a signal."""
        return prod(self.signal_shape)

    @cached_property
    def kept(self) -> dict[Hashable, Any]:
        """What others worked out from this generator once, under keys of theirs; its copies in other types, on other devices
        and behind other outputs share it."""
        return {}

    @property
    def depth(self) -> int:
        """Number of layers, as far as they are known."""
        return len(self.layers)

    @cached_property
    def work(self) -> int:
        """Multiplications that one signal takes, or one column of a Jacobian; about."""
        return self.latent_dim * self.signal_dim

    @cached_property
    def widest(self) -> int:
        """Numbers in the widest layer of one signal; about."""
        return max(self.latent_dim, self.signal_dim)

    @property
    def first_curved(self) -> int | None:
        """The first hidden layer whose activation is neither ReLU nor LeakyReLU (nor another with `slopes`); None: none is
        known.
        """
        return None

    @property
    def piecewise_linear(self) -> bool:
        """Whether it is a piecewise affine map before its output whose layers could be taken apart, as far as is known."""
        return bool(self.layers) and self.first_curved is None

    @property
    def kind(self) -> str:
        """What it is, in a few words for messages."""
        return f"a generator of the class {type(self).__name__}, of which no layers are known"

    @property
    def named(self) -> str:
        """What results call it."""
        return str(self.description.get("name", type(self).__name__))

    @overload
    def __call__(self, z: Tensor) -> Tensor: ...
    @overload
    def __call__(self, z: np.ndarray) -> np.ndarray: ...
    def __call__(self, z: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Signals of latents: `(N, n0)` to `(N, d)`, or `(n0,)` to `(d,)`; an array of an array, of the generator's type.

        Raises TypeError for what is neither tensor nor array, ValueError for another shape, type or device.
        """
        if isinstance(z, np.ndarray):
            return self._of_array(z)
        x = self.values(self._batch(z))
        return x if z.ndim == 2 else x[0]

    def _of_array(self, z: np.ndarray) -> np.ndarray:
        """An array in, an array out; the numbers are where the generator is in between."""
        name = str(self.dtype).removeprefix("torch.")
        there = read_numbers(z, "z", self.device, cure=f"use z{conversion(z, name)}")
        if there.dtype != self.dtype:
            raise ValueError(f"expected z in {self.dtype} on {self.device}, got {describe(z)}; use z{conversion(z, name)}")
        with torch.no_grad():
            return self(there).cpu().numpy()

    def hidden(self, z: Tensor) -> list[Tensor]:
        """Hidden layers after their activation, first to last, `(N, m)` each; the output is not among them."""
        return []

    def passed(self, z: Tensor) -> list[Tensor]:
        """Hidden layers and, last, the signals of latents `(N, n0)`."""
        return [self(z)]

    def before_output(self, z: Tensor) -> Tensor:
        """Signals before the last activation, as far as it is known, `(N, d)`."""
        return self(z)

    def linearize(self, z: Tensor, before_output: bool = False) -> tuple[Tensor, Tensor]:
        """Signals `(N, d)` and their Jacobian `(N, d, n0)` at each latent, of a ReLU on its affine piece (ReLU'(0) = 0).

        With `before_output` both are those of the last layer before its activation, where that is known.
        """
        x, piece = self.piece(z, before_output)
        J = piece.jacobian()
        return (x, J) if z.ndim == 2 else (x[0], J[0])

    def piece(self, z: Tensor, before_output: bool = False) -> tuple[Tensor, AbstractPiece]:
        """Signals `(N, d)`, as `linearize` gives them, and what multiplies by the Jacobians at z."""
        batch = self._batch(z)
        return self.values(batch), PointPiece(self, batch, forwards=type(self).push is not AbstractGenerator.push)

    def with_output(self, output: str | AbstractActivation) -> "AbstractGenerator":
        """The same generator with another last activation. Raises ValueError where the last one is not known."""
        raise ValueError(
            f"expected a chain of layers, whose last activation can be another, got {self.kind}; leave output out, and make "
            "the activation a part of what computes the signals"
        )

    def sample_latent(
        self, N: int, generator: torch.Generator | None = None, *, device: torch.device | str | None = None
    ) -> Tensor:
        """Latents `(N, n0)` of the described distribution, standard normal where nothing is said.

        They are drawn on the CPU in the generator's dtype, so that a seed means the same on every device, and put on
        `device`; left out, the generator's.

        Raises: ValueError for a distribution other than normal and uniform, one whose ends are no finite numbers in order,
        and for a source of another device.
        """
        if generator is not None and generator.device.type != "cpu":
            raise ValueError(
                f"expected a torch.Generator on the CPU, where latents are drawn on every device, got one on "
                f"{generator.device}; use torch.Generator().manual_seed(...)"
            )
        N = plain_number(N)  # type: ignore[assignment]
        if isinstance(N, bool) or not isinstance(N, int) or N < 0:
            raise ValueError(f"expected N as an integer >= 0, got {N!r}; pass how many latents to draw")
        latent, place = self.description.get("latent", {}), self.device if device is None else device
        check_distribution(latent, "the description's latent")
        kind = latent.get("distribution", "normal")
        if kind == "normal":
            return torch.randn(N, self.latent_dim, generator=generator, dtype=self.dtype, device="cpu").to(place)
        if kind != "uniform":
            raise ValueError(f"expected a normal or uniform latent, got {kind!r}; draw the latents yourself")
        low, high = latent.get("low", 0.0), latent.get("high", 1.0)
        unit = torch.rand(N, self.latent_dim, generator=generator, dtype=self.dtype, device="cpu")
        return (low + (high - low) * unit).to(place)

    def _repr_html_(self) -> str:
        head, *lines = repr(self).splitlines()
        parts = [line.strip().partition(": ") for line in lines]
        rows = [(number, what) for number, _, what in parts if what and number.isdigit()]
        notes = [
            line.strip() for line, (number, _, what) in zip(lines, parts, strict=True) if not (what and number.isdigit())
        ]
        return html_table(head, ("layer", "map, activation"), rows, notes)

    def __sklearn_clone__(self) -> Self:
        """Itself: scikit-learn copies what its estimators hold, and a generator never changes."""
        return self

    def _batch(self, z: Tensor) -> Tensor:
        n0 = self.latent_dim
        if not isinstance(z, Tensor):
            plain_tensor(z, "z")  # refuses it
        if z.layout != torch.strided or z.is_nested or z.is_complex():
            plain_tensor(z, "z")  # refuses it; gradients of z go through a generator
        if z.ndim not in (1, 2) or z.shape[-1] != n0:
            raise ValueError(f"expected z of shape (N, {n0}) or ({n0},), got {tuple(z.shape)}; pass flat latents")
        if z.dtype != self.dtype or z.device != self.device:
            raise ValueError(
                f"expected z in {self.dtype} on {self.device}, got {z.dtype} on {z.device}; "
                f"use {_moved(z, self.dtype, self.device)}, or the generator's own .to(dtype, device)"
            )
        return z.reshape(-1, n0).resolve_neg()


def _moved(z: Tensor, dtype: torch.dtype, device: torch.device) -> str:
    """The words that put z where a generator is, as code."""
    words = [] if z.dtype == dtype else [str(dtype)]
    words += [] if z.device == device else [f"device={str(device)!r}"]
    return f"z.to({', '.join(words)})"


_TRIED, _FINE = 3, 1e-6  # latents that a generator is tried at; how far a difference quotient may be from a product with J


def check_generator(generator: AbstractGenerator) -> None:
    """Raises TypeError or ValueError where a generator without layers is none: other shapes, another's derivative, ...

    It is tried once, at random latents of the standard normal distribution, in float64.
    """
    if "fault" not in generator.kept:
        _check_sizes(generator)
        generator.kept["fault"] = fault_of(generator.to(torch.float64))
    if generator.kept["fault"]:
        raise ValueError(f"expected {generator.kept['fault']} in {type(generator).__name__}; correct its class")


def _check_sizes(generator: AbstractGenerator) -> None:
    name, n0, shape = type(generator).__name__, generator.latent_dim, generator.signal_shape
    if not isinstance(n0, int) or n0 < 1:
        raise TypeError(f"expected {name}.latent_dim as an integer >= 1, got {n0!r}")
    if not isinstance(shape, tuple) or not shape or not all(isinstance(k, int) and k > 0 for k in shape):
        raise TypeError(f"expected {name}.signal_shape as a tuple of integers >= 1, got {shape!r}")
    if generator.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected {name}.dtype as torch.float32 or torch.float64, got {generator.dtype!r}")


def fault_of(generator: AbstractGenerator) -> str:
    """What a generator in float64 should do and does not, in words; "" where nothing is found."""
    n0, d, source = generator.latent_dim, generator.signal_dim, torch.Generator().manual_seed(0)
    z, v = (torch.randn(_TRIED, n0, generator=source, dtype=torch.float64, device="cpu").to(generator.device) for _ in "zv")
    r = torch.randn(_TRIED, d, generator=source, dtype=torch.float64, device="cpu").to(generator.device)
    x = generator.values(z)
    if x.shape != (_TRIED, d) or (x.dtype, x.device) != (generator.dtype, generator.device):
        return f"values of shape (N, {d}) in {generator.dtype} on {generator.device}, got {describe(x)},"
    if not bool(x.isfinite().all()):
        return "finite values at latents of the standard normal distribution, got NaN or inf"
    size = float(x.norm()) + torch.finfo(x.dtype).tiny
    if not float((x - torch.cat([generator.values(one) for one in z.split(1)])).norm()) <= _FINE * size:
        return "signals that do not depend on their neighbours in a batch, got others for single latents,"
    back = generator.pull(z, r)
    if back.shape != z.shape:
        return f"pull(z, r) of shape (N, {n0}), got {describe(back)},"
    Jv = generator.push(z, v)
    if Jv.shape != x.shape:
        return f"push(z, v) of shape (N, {d}), got {describe(Jv)},"
    if not bool(back.isfinite().all() and Jv.isfinite().all()):
        return "finite derivatives at latents of the standard normal distribution, got NaN or inf"
    if not bool(Jv.any()):
        return "signals that change with the latent, got derivatives 0 at all random latents"
    if not float(((Jv * r).sum(1) - (v * back).sum(1)).norm()) <= _FINE * float(Jv.norm() * r.norm()):
        return "pull(z, r) as the adjoint of push(z, v), got r'(J v) other than (J'r)'v"
    return _quotient_fault(generator, z, v, Jv)


def _quotient_fault(generator: AbstractGenerator, z: Tensor, v: Tensor, Jv: Tensor) -> str:
    """Whether J v is no slope of the values along v: at kinks quotients differ, so that of some latents one must agree."""
    offs = []
    for t in (1e-4, 1e-5, 1e-6, 1e-7):
        quotient = (generator.values(z + t * v) - generator.values(z - t * v)) / (2 * t)
        offs.append((quotient - Jv).norm(dim=1))
    off, size = torch.stack(offs).amin(0), Jv.norm(dim=1)
    if not bool((off <= 1e-3 * size + torch.finfo(z.dtype).tiny).any()):
        return "pull(z, r) as J'r of the Jacobian J of values, got another than difference quotients show"
    return ""
