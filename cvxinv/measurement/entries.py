"""Entries of the signal as they are: all of them, or those that a mask shows. y keeps the signal's own shape `(N, d)`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..batch import per_signal
from ..inputs import conversion, plain_tensor, read_numbers
from ..inputs import describe as _kind
from .abstract import AbstractMeasurement


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
        if isinstance(self.visible, np.ndarray):
            words = f"use mask{conversion(self.visible, 'bool')}"
            object.__setattr__(self, "visible", read_numbers(self.visible, "a mask", torch.device("cpu"), "b", words))
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
