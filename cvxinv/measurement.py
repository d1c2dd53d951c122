"""Measurements: which part of a signal x = G(z) was seen, and how it is compared with y.

Everything and masks keep y in the signal's own shape, `(N, d)`, with hidden entries left out by a mask; a matrix A turns
x into k numbers, y is `(N, k)`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, is_dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, differs, per_signal
from .generator.maps import AbstractMap, Dense
from .inputs import describe as _kind
from .inputs import plain_tensor, read_numbers


class AbstractMeasurement(Batch, ABC):
    """What of a signal was seen: a linear map of it, in words of what it sees and what it makes of other things.

    A class of your own needs `length` and `observe`, and `width` where that is not `length`; all else follows from these.
    Make it a frozen dataclass (`eq=False`). Tensors among its fields follow the generator's type and device; what belongs to
    single signals is declared with `cvxinv.batch.per_signal`. It is tried on random signals before it is used, and what
    does not fit is refused.

    pixelwise: the signal's entries are seen as they are, or not at all: what `observe` gives has the signal's own entries.
    """

    pixelwise: ClassVar[bool] = False

    @property
    @abstractmethod
    def length(self) -> int:
        """Entries of y per signal."""

    @property
    def width(self) -> int:
        """d, entries of a signal."""
        return self.length

    @abstractmethod
    def observe(self, x: Tensor) -> Tensor:
        """What is seen of signals `x` `(N, d)`, as `(N, length)`; hidden entries are 0. Linear in x."""

    def adjoint(self, r: Tensor) -> Tensor:
        """The transpose of `observe`, `(N, length)` to `(N, d)`; by autograd where a class does not write it."""
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
        N, d, n0 = J.shape
        one_each = torch.arange(N, device=J.device)[:, None].expand(N, n0).reshape(-1)
        return self.take(one_each).observe(J.mT.reshape(N * n0, d)).reshape(N, n0, self.length).mT

    def seen(self, N: int) -> Tensor:
        """Bool `(N, length)`: the entries of y that were seen."""
        return torch.ones(N, self.length, dtype=torch.bool, device="cpu")

    @property
    def shared(self) -> bool:
        """Whether all signals are seen alike."""
        return not differs(self)

    def through(self, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor] | None:
        """Map and bias of the rows that it makes of an image layer `W h + b` without an activation.

        None where that is no one map for all signals: methods that go layer by layer then refuse it.
        """
        if self.pixelwise:
            return W, b
        if not self.shared:
            return None
        return Dense(self.push(W.matrix()[None])[0]), self.observe(b[None])[0]

    def matrix(self, dtype: torch.dtype, device: torch.device | str) -> Tensor | None:
        """The matrix A `(length, d)` of what is seen, A x; None where signals differ."""
        if not self.shared:
            return None
        return self.to(dtype, device).observe(torch.eye(self.width, dtype=dtype, device=device)).T

    @property
    def name(self) -> str:
        """How results call it: classes of your own with their module, so that none is taken for one of the package."""
        if type(self) in _KINDS:
            return type(self).__name__
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def take(self, index: Tensor | slice) -> Self:
        """The measurement of the signals at `index`."""
        return self if self.shared else super().take(index)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """One measurement of the signals of all parts, in their order."""
        return parts[0] if parts[0].shared else super().joined(parts)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same measurement in another floating type, on another device."""
        return super().to(dtype, device) if is_dataclass(self) else self


@dataclass(frozen=True, eq=False)
class Everything(AbstractMeasurement):
    """All `d` entries of the signal were seen."""

    d: int

    pixelwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.d, bool) or not isinstance(self.d, (int, np.integer)) or self.d < 1:
            raise ValueError(f"expected d as an integer >= 1, got {self.d!r}; pass the number of entries of a signal")

    @property
    def length(self) -> int:
        return self.d

    def observe(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, r: Tensor) -> Tensor:
        return r

    def push(self, J: Tensor) -> Tensor:
        return J

    def take(self, index: Tensor | slice) -> "Everything":
        return self

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Everything":
        return self


@dataclass(frozen=True, eq=False)
class Mask(AbstractMeasurement):
    """The entries where `visible` is True were seen; `(d,)` for all signals, or `(N, d)`."""

    visible: Tensor = per_signal(ndim=2)

    pixelwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.visible, Tensor) or self.visible.dtype != torch.bool or self.visible.ndim not in (1, 2):
            raise ValueError(
                f"expected a mask as a bool tensor (d,) or (N, d), got {_kind(self.visible)}; "
                "True marks what was seen, e.g. torch.rand(d) > 0.45"
            )
        object.__setattr__(self, "visible", plain_tensor(self.visible, "a mask"))

    @property
    def length(self) -> int:
        return self.visible.shape[-1]

    def observe(self, x: Tensor) -> Tensor:
        return torch.where(self.visible, x, torch.zeros_like(x))

    def adjoint(self, r: Tensor) -> Tensor:
        return self.observe(r)

    def push(self, J: Tensor) -> Tensor:
        return J * self.visible[..., None]

    def seen(self, N: int) -> Tensor:
        return self.visible.expand(N, -1)


@dataclass(frozen=True, eq=False)
class Matrix(AbstractMeasurement):
    """k linear measurements y = A x, `A` of shape `(k, d)`, the same for all signals."""

    A: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.A, Tensor) or not self.A.dtype.is_floating_point or self.A.ndim != 2:
            raise ValueError(f"expected a matrix A as a floating tensor (k, d), got {_kind(self.A)}; use A.double()")
        object.__setattr__(self, "A", read_numbers(self.A, "a matrix A", self.A.device, "f", "use A.double()"))
        if not torch.isfinite(self.A).all():
            raise ValueError("expected a finite matrix A, got NaN or inf in it; clean it first")
        if not self.A.any():
            got = "all zeros" if self.A.numel() else _kind(self.A)
            raise ValueError(f"expected a matrix A that measures something, got {got}; pass one row per measurement")

    @property
    def length(self) -> int:
        return self.A.shape[0]

    @property
    def width(self) -> int:
        return self.A.shape[1]

    def observe(self, x: Tensor) -> Tensor:
        return x @ self.A.T

    def adjoint(self, r: Tensor) -> Tensor:
        return r @ self.A

    def push(self, J: Tensor) -> Tensor:
        return self.A @ J

    def seen(self, N: int) -> Tensor:
        return torch.ones(N, self.length, dtype=torch.bool, device=self.A.device)

    def through(self, W: AbstractMap, b: Tensor) -> tuple[AbstractMap, Tensor]:
        return Dense(self.A @ W.matrix()), self.A @ b

    def matrix(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        return self.A.to(device, dtype)

    def take(self, index: Tensor | slice) -> "Matrix":
        return self


_KINDS = (Everything, Mask, Matrix)


def as_measurement(
    value: object, d: int, N: int, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> AbstractMeasurement:
    """The measurement that a user means: None is everything, a bool tensor a mask, a floating tensor (k, d) a matrix.

    Masks may come in the signal's picture shape. A measurement of the user's own is tried in `dtype` on `device`. Raises
    TypeError or ValueError where it does not fit `d` and `N`, or is not what `AbstractMeasurement` asks for.
    """
    if value is None or (isinstance(value, str) and value == "everything"):
        return Everything(d)
    device = device or torch.device("cpu")
    if isinstance(value, (Tensor, np.ndarray)):
        cure = "use mask.bool() or A.double()"
        value = _from_tensor(read_numbers(value, "a mask or a measurement matrix", device, "bf", cure), d, N)
    if not isinstance(value, AbstractMeasurement):
        raise TypeError(
            f"expected measurement as None, a bool mask, a floating matrix (k, {d}) or a Measurement, "
            f"got {_kind(value)}; use torch.as_tensor for lists"
        )
    own = type(value) not in _KINDS
    if own:
        _check_sizes(value)
    for inner in [v for v in getattr(value, "__dict__", {}).values() if isinstance(v, Tensor)]:
        if inner.device != device:
            raise ValueError(f"expected the measurement on {device}, got it on {inner.device}; move it with .to()")
    if value.width != d:
        cure = f"give {type(value).__name__} its width" if own and value.width == value.length else "check its last axis"
        raise ValueError(f"expected a measurement of signals of {d} numbers, got one of {value.width}; {cure}")
    if isinstance(value, Mask) and value.visible.ndim == 2 and len(value.visible) != N:
        raise ValueError(
            f"expected a mask of shape ({d},) or ({N}, {d}), got {tuple(value.visible.shape)}; pass one per signal"
        )
    for each in dict.fromkeys((dtype, torch.float64)) if own else ():  # inside all is computed in float64
        try:
            _try_out(value.to(each, device), N, each, device)
        except (RuntimeError, IndexError) as error:  # torch's own, of shapes, types and devices that do not meet
            raise ValueError(
                f"expected {type(value).__name__} to take {N} signals of {d} numbers in {each} on {device}, got "
                f"{type(error).__name__}: {error}; correct its class, or pass one that fits"
            ) from error
    return value


def stands_apart(value: object, d: int) -> bool:
    """Whether what a user means gives a y that is no signal of d numbers: a measurement of another length, or a matrix.

    Numbers that are no mask are meant as a matrix; integers and complex ones are refused later.
    """
    if isinstance(value, AbstractMeasurement):
        return not value.pixelwise and value.length != d
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" or (value.ndim == 2 and value.dtype.kind in "iu")
    if not isinstance(value, Tensor) or value.dtype == torch.bool:
        return False
    return value.ndim == 2 or value.dtype.is_floating_point


def check_given(made: object, given: object) -> None:
    """Raises ValueError where a result was made with a measurement of the user's own, `made`, and none is given with it."""
    if given is None and made is not None and made not in {kind.__name__ for kind in _KINDS}:
        raise ValueError(
            f"expected the measurement {made} that the inversion was made with, got none, so that y would count as "
            "the signal; pass it as measurement= in Python"
        )


def _check_sizes(seeing: AbstractMeasurement) -> None:
    for word, size in (("length", seeing.length), ("width", seeing.width)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"expected {word} of {type(seeing).__name__} as an integer >= 1, got {size!r}; "
                "say how many entries y has per signal (length), and a signal (width)"
            )


def _try_out(seeing: AbstractMeasurement, N: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ValueError where a measurement of the user's own is not what its class promises, on random signals."""
    draw, d, k = torch.Generator().manual_seed(0), seeing.width, seeing.length
    some, other = (torch.randn(min(N, 8), d, generator=draw, dtype=dtype, device="cpu").to(device) for _ in range(2))
    index = torch.arange(N, device=device)
    x, index = some[index % 8], index.flip(0)[:3]
    y, seen = seeing.observe(x), seeing.seen(N)
    _expect(seeing, f"observe of signals ({N}, {d})", y, (N, k), dtype, device)
    _expect(seeing, f"seen({N})", seen, (N, k), torch.bool, seen.device if isinstance(seen, Tensor) else device)
    seen = seen.to(device)
    _agree(seeing, "observe to give 0 where seen says False", y, torch.where(seen, y, 0.0), "keep the two together")
    if seeing.pixelwise:
        _expect(seeing, "observe, pixelwise,", y, (N, d), dtype, device)
        cure = "leave pixelwise at False where it changes or mixes entries"
        _agree(seeing, "observe to leave the entries as they are, as pixelwise says", y, torch.where(seen, x, 0.0), cure)
    few, another, part = x[index], other[: len(index)], seeing.take(index)
    what, cure = "take to keep each signal's own measurement", "declare what differs with per_signal, or write take(index)"
    seen_few = part.observe(few)
    _expect(seeing, f"observe of signals ({len(few)}, {d})", seen_few, (len(few), k), dtype, device)
    _agree(seeing, what, seen_few, y[index], cure)
    if not torch.equal(part.seen(len(few)).to(device), seen[index]):
        raise ValueError(f"expected {what} in {type(seeing).__name__}, got other entries seen; {cure}")
    cure = "only linear measurements can be inverted; move an offset or a clipping into y"
    mixed = 2 * seen_few - 3 * part.observe(another)
    _agree(seeing, "observe to be linear", part.observe(2 * few - 3 * another), mixed, cure)
    pushed = part.push(torch.stack([few, another], 2))
    _expect(seeing, "push", pushed, (len(few), k, 2), dtype, device)
    _agree(seeing, "push to observe each column", pushed[..., 0], y[index], "write push as observe, or leave it out")
    r = part.adjoint(seen_few)
    _expect(seeing, "adjoint", r, (len(few), d), dtype, device)
    products = (r * few).sum(1, keepdim=True), seen_few.square().sum(1, keepdim=True)
    _agree(seeing, "adjoint to be the transpose of observe", *products, "write adjoint as that, or leave it out")
    _try_rows(seeing, few[:1], seen_few[:1], seen[index[:1]])


def _try_rows(seeing: AbstractMeasurement, x: Tensor, y: Tensor, seen: Tensor) -> None:
    """Raises ValueError where `through` or `matrix` is not what observe says of one signal x, y of what is `seen`."""
    found, cure = seeing.through(Dense(x.T), x[0] / 2), "correct it, or leave it out"
    if found is not None:
        rows = found[0](x.new_ones(1, 1) / 2) + found[1]
        _expect(seeing, "through", rows, tuple(y.shape), x.dtype, x.device)
        _agree(seeing, "through to give the rows of what is seen", torch.where(seen, rows, 0.0), y, cure)
    if type(seeing).matrix is not AbstractMeasurement.matrix:
        A = seeing.matrix(x.dtype, x.device)
        if A is not None:
            _expect(seeing, "matrix", A, (seeing.length, seeing.width), x.dtype, x.device)
            _agree(seeing, "matrix to be that of observe", x @ A.T, y, cure)


def _expect(
    seeing: AbstractMeasurement, what: str, got: object, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    if not isinstance(got, Tensor) or got.shape != shape or got.dtype != dtype or got.device != device:
        raise ValueError(
            f"expected {what} in {type(seeing).__name__} to give {dtype} of shape {shape} on {device}, got {_kind(got)}; "
            "correct its class; its tensors follow type and device as fields of a dataclass, or by to(dtype, device)"
        )


def _agree(seeing: AbstractMeasurement, what: str, got: Tensor, expected: Tensor, cure: str) -> None:
    off, size = (got - expected).norm(dim=1), torch.maximum(got.norm(dim=1), expected.norm(dim=1))
    if bool((off <= torch.finfo(got.dtype).eps ** 0.5 * size).all()):  # False for NaN
        return
    worst = int(off.nan_to_num(torch.inf).argmax())
    raise ValueError(
        f"expected {what} in {type(seeing).__name__}, got numbers that are off by {float(off[worst]):.3g} of "
        f"{float(size[worst]):.3g} (signal {worst}); {cure}"
    )


def _from_tensor(value: Tensor, d: int, N: int) -> AbstractMeasurement:
    if value.dtype == torch.bool:
        if value.ndim > 1 and value.numel() == d:
            return Mask(value.reshape(d))
        if value.ndim > 1 and value.numel() == N * d and len(value) == N:
            return Mask(value.reshape(N, d))
        return Mask(value)
    return Matrix(value)
