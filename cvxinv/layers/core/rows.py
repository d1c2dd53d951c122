"""Rows: what a layer problem knows of one layer, W h + b against an observed y, for a batch of signals.

A row is *on* (the activation let it through: it must fit), *off* (the ReLU cut it: W h + b <= 0 there) or neither
(not seen: it constrains nothing). Everything is masks over a shared W, so that a batch needs no slicing; only
`sample` slices, for the CVXPY statement of one signal.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ...generator.maps import AbstractMap, check_map, syrk
from ...inputs import describe, origin, plain_tensor, remember
from ...lengths import lengths

_GRAM_BLOCK = 16_000_000  # numbers in one intermediate of `weighted_gram`: 128 MB in float64
_SMALLEST_TRIANGLE = 48  # columns from which a call of BLAS per signal costs less than a batched product of both triangles

_MIRRORED = 64  # columns mirrored at a time: what fits the fastest cache


@dataclass(frozen=True)
class Sample:
    """One signal's rows as float64 numpy arrays, sliced: what a statement is written in.

    on, off: the positions of its on and off rows among all rows.
    """

    W_on: np.ndarray
    b_on: np.ndarray
    y_on: np.ndarray
    weight_on: np.ndarray
    W_off: np.ndarray
    b_off: np.ndarray
    on: np.ndarray
    off: np.ndarray

    @cached_property
    def n(self) -> int:
        """Length of the unknown."""
        return self.W_on.shape[1]


@dataclass(frozen=True, eq=False, repr=False)
class Rows(Batch):
    """A map `W` (n to m), its bias, and what was observed behind it.

    b: `(m,)`, or `(N, m)` where it differs per signal. y: `(N, m)`, read on `on` rows only. on, off: disjoint bool
    masks `(N, m)`; `off` left out means every row that is not on. weight: `(N, m)`, > 0 on the on rows (1 unless a
    LeakyReLU stood behind them). Units: y and b in signal units. stretch: `(m,)`, set where rows were multiplied to bring
    them to one length (`normalised`): what a row holds is that many signal units.

    Raises ValueError for shapes, types, devices or non-finite numbers that do not fit.
    """

    W: AbstractMap
    b: Tensor = per_signal(ndim=2)
    y: Tensor = per_signal()
    on: Tensor = per_signal()
    off: Tensor = per_signal(default=None)  # left out it is made here, and so is weight
    weight: Tensor = per_signal(default=None)
    stretch: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.W, AbstractMap):
            raise TypeError(f"expected W as a map, got {describe(self.W)}; wrap a matrix in cvxinv.Dense(...)")
        check_map(self.W, "W")
        self._check_tensors()
        if self.off is None:
            object.__setattr__(self, "off", ~self.on)
        if self.weight is None:
            object.__setattr__(self, "weight", torch.ones_like(self.y))
        self._check_shapes()
        self._check_numbers()
        # whatever a hidden pixel holds (0, NaN, ...) must never reach the arithmetic
        y = torch.where(self.on, self.y, torch.zeros_like(self.y))
        if torch.is_grad_enabled():
            y = remember(y, torch.where(self.on, origin(self.y), torch.zeros_like(y)))
        object.__setattr__(self, "y", y)

    def _check_tensors(self) -> None:
        for name in ("b", "y", "on", "off", "weight"):
            value = getattr(self, name)
            if value is None and name in ("off", "weight"):
                continue
            value = plain_tensor(value, name)
            object.__setattr__(self, name, value)
            if value.device != self.W.device:
                raise ValueError(
                    f"expected {name} on {self.W.device} as W is, got {value.device}; move one with .to(device)"
                )
            if name in ("on", "off"):
                if value.dtype != torch.bool:
                    raise ValueError(f"expected {name} as a bool mask, got {value.dtype}; pass e.g. y > 0")
            elif value.dtype != self.W.dtype:
                raise ValueError(f"expected {name} in {self.W.dtype} as W is, got {value.dtype}; cast one with .to()")

    def _check_shapes(self) -> None:
        m = self.W.m
        if min(m, self.W.n) < 1:
            raise ValueError(
                f"expected W of at least one row and one unknown, got {m} rows and {self.W.n} unknowns; "
                "leave out a layer of which nothing is there"
            )
        if self.y.ndim != 2 or self.y.shape[1] != m:
            raise ValueError(f"y has shape {tuple(self.y.shape)} but W maps to {m} rows; pass y of shape (N, {m})")
        if len(self.y) == 0:
            raise ValueError("expected at least one signal, got an empty batch y; pass y of shape (N, m), N >= 1")
        if self.b.shape not in ((m,), self.y.shape):
            raise ValueError(f"expected b of shape ({m},), got {tuple(self.b.shape)}; pass one bias per row")
        for name in ("on", "off", "weight"):
            if getattr(self, name).shape != self.y.shape:
                raise ValueError(
                    f"expected {name} of shape {tuple(self.y.shape)} as y has, got "
                    f"{tuple(getattr(self, name).shape)}; pass one entry per row and signal"
                )

    def _check_numbers(self) -> None:
        both = self.on & self.off
        if both.any():
            i, row = (int(k) for k in both.nonzero()[0])
            raise ValueError(f"row {row} of signal {i} is both on and off; make the masks disjoint")
        if not self.W.finite:
            raise ValueError("expected finite weights, got NaN or inf in W; clean the weights")
        if not torch.isfinite(self.b).all():
            raise ValueError("expected a finite bias b, got NaN or inf in it; clean the weights")
        bad = self.on & ~torch.isfinite(self.y)
        if bad.any():
            i, row = (int(k) for k in bad.nonzero()[0])
            raise ValueError(
                f"expected finite y on the on rows, got {float(self.y[i, row])} in row {row} of signal {i}; "
                "take the row out of `on` (and `off`) if it was not seen"
            )
        if not (((self.weight > 0) & torch.isfinite(self.weight)) | ~self.on).all():
            raise ValueError("expected weight > 0 and finite on the on rows, got others; drop such rows from `on`")

    def __repr__(self) -> str:
        unseen = int((~self.on & ~self.off).sum())
        return (
            f"Rows of {self.N} signals: {self.m} rows, {self.n} unknowns, {type(self.W).__name__}, {self.y.dtype}; "
            f"{int(self.on.sum())} on, {int(self.off.sum())} off, {unseen} not seen"
        )

    @cached_property
    def cut(self) -> Tensor:
        """0 on the off rows, inf elsewhere, `(N, m)`."""
        return torch.where(self.off, torch.zeros_like(self.y), torch.inf)

    @cached_property
    def sizes(self) -> tuple[Tensor, Tensor]:
        """Lengths of w^(1/2) |W| and of w^(1/2) (|b| + |y|) on the on rows, `(N,)` each: rounding is a share of them."""
        fixed = self.b.abs() + self.y.abs()
        return (self.fit @ self.W.row_lengths().square()).sqrt(), (self.fit * fixed * fixed).sum(1).sqrt()

    @cached_property
    def on_columns(self) -> Tensor:
        """Length of each column of W on the on rows, `(N, n)`; 1 for columns that are 0 there."""
        square = self.in_signal_units(self.in_signal_units(self.on.to(self.y))) @ self.W.matrix().square()
        return torch.where(square > 0, square, torch.ones_like(square)).sqrt()

    @cached_property
    def any_off(self) -> bool:
        """Whether any signal has an off row."""
        return bool(self.off.any())

    @cached_property
    def N(self) -> int:
        """Number of signals."""
        return self.y.shape[0]

    @cached_property
    def n(self) -> int:
        """Length of the unknown h."""
        return self.W.n

    @cached_property
    def m(self) -> int:
        """Number of rows."""
        return self.W.m

    @cached_property
    def fit(self) -> Tensor:
        """Weight of each row's misfit, `(N, m)`: `weight` on the on rows, 0 elsewhere."""
        return torch.where(self.on, self.weight, torch.zeros_like(self.y))

    @cached_property
    def target(self) -> Tensor:
        """y - b on the on rows, 0 elsewhere, `(N, m)`."""
        return torch.where(self.on, self.y - self.b, torch.zeros_like(self.y))

    def residual(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        """W h + b - y on the on rows, 0 elsewhere, `(N, m)`; v: W h + b where it is at hand."""
        v = self.W(h) + self.b if v is None else v
        return torch.where(self.on, v - self.y, torch.zeros_like(self.y))

    def excess(self, h: Tensor) -> Tensor:
        """How far W h + b exceeds 0 on the off rows, 0 elsewhere, `(N, m)`."""
        if not bool(self.off.any()):
            return torch.zeros_like(self.y)
        return torch.where(self.off, (self.W(h) + self.b).clamp(min=0), torch.zeros_like(self.y))

    def scale(self) -> Tensor:
        """s_y = |y_on - b_on|, `(N,)`; where that is 0, the length of the positive b_off; where that is 0 too, 0."""
        return self._kept_scale

    @cached_property
    def _kept_scale(self) -> Tensor:
        on = lengths(self.in_signal_units(self.target))
        if bool((on > 0).all()):
            return on
        off = torch.where(self.off, self.b.clamp(min=0).expand_as(self.y), torch.zeros_like(self.y))
        return torch.where(on > 0, on, lengths(self.in_signal_units(off)))

    def stretched(self, v: Tensor) -> Tensor:
        """Signal units of each row, `(N, m)`, as what the rows hold: the opposite of `in_signal_units`."""
        return v if self.stretch is None else v * self.stretch

    def in_signal_units(self, v: Tensor) -> Tensor:
        """What rows hold, `(N, m)`, before they were stretched."""
        return v if self.stretch is None else v / self.stretch

    def gram(self) -> Tensor:
        """W_on' diag(weight) W_on, `(N, n, n)`, or `(1, n, n)` where all signals share it."""
        return weighted_gram(self.W, self.fit)

    @cached_property
    def alike(self) -> bool:
        """Whether all signals have the same on rows and weights: one Gram matrix serves them all."""
        return self.N == 1 or bool((self.fit == self.fit[:1]).all())

    @cached_property
    def shared_gram(self) -> Tensor:
        """W_on' diag(weight) W_on of the first signal, `(n, n)`: that of all signals where they are `alike`."""
        weight = self.fit[0]
        return self.W.gram() if bool((weight == 1).all()) else syrk(weight.sqrt()[:, None] * self.W.matrix())

    def sample(self, i: int) -> Sample:
        """Signal `i` as sliced float64 numpy arrays; masked rows are gone."""
        on, off = self.on[i], self.off[i]
        W = self.W.matrix()
        b = self.b if self.b.ndim == 1 else self.b[i]
        arrays = (W[on], b[on], self.y[i, on], self.weight[i, on], W[off], b[off])
        positions = (mask.nonzero()[:, 0].cpu().numpy() for mask in (on, off))
        return Sample(*(a.detach().cpu().double().numpy() for a in arrays), *positions)

    def take(self, index: Tensor | slice) -> "Rows":
        """The signals at `index` (a bool mask `(N,)`, positions, or a slice)."""
        b, y = self.b if self.b.ndim == 1 else self.b[index], self.y[index]
        if len(y) == 0:
            raise ValueError("expected at least one signal at `index`, got none")
        return self.derived(b=b, y=y, on=self.on[index], off=self.off[index], weight=self.weight[index])

    def _changed(self, changes: dict[str, Any]) -> "Rows":
        return self.derived(**changes)

    def derived(self, **changes: AbstractMap | Tensor | None) -> "Rows":
        """The same rows with these fields changed, and nothing checked: for changes that cannot break what was checked."""
        rows = object.__new__(Rows)
        for field in fields(self):
            object.__setattr__(rows, field.name, changes.get(field.name, getattr(self, field.name)))
        return rows

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Rows":
        """The same rows in another floating type or on another device."""
        device = device or self.W.device
        if dtype in (None, self.W.dtype) and torch.device(device) == self.W.device:
            return self
        W = self.W.to(dtype, device)
        return self.derived(
            W=W, b=self.b.to(device, W.dtype), y=self.y.to(device, W.dtype), on=self.on.to(device),
            off=self.off.to(device), weight=self.weight.to(device, W.dtype),
            stretch=None if self.stretch is None else self.stretch.to(device, W.dtype),
        )  # fmt: skip


def weighted_gram(W: AbstractMap, weight: Tensor) -> Tensor:
    """W' diag(weight_i) W for each signal i, `(N, n, n)`; `(1, n, n)` where all rows of `weight` `(N, m)` >= 0 agree."""
    M = W.matrix()
    if len(weight) == 1 or bool((weight == weight[:1]).all()):
        weight = weight[:1]
    out = torch.empty(len(weight), W.n, W.n, dtype=M.dtype, device=M.device)
    if M.device.type == "cpu" and W.n >= _SMALLEST_TRIANGLE and M.dtype in (torch.float32, torch.float64):
        _triangles(M.numpy(), weight.numpy(), out.numpy())
        return out
    step = max(1, _GRAM_BLOCK // max(1, W.m * W.n))
    for start in range(0, len(weight), step):
        part = weight[start : start + step]
        torch.matmul(M.T, part[:, :, None] * M, out=out[start : start + step])
    return out


def _triangles(M: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """`weighted_gram` by BLAS: one triangle of each, of the rows that have a weight, then mirrored."""
    from scipy.linalg.blas import dsyrk, ssyrk

    product, n, k = dsyrk if M.dtype == np.float64 else ssyrk, M.shape[1], _MIRRORED
    for H, w in zip(out, weight, strict=True):
        product(1.0, weighted_rows(M, w).T, 0.0, H.T, lower=1, overwrite_c=1)  # by columns: the upper triangle of H
        for j in range(0, n, k):
            H[j : j + k, :j] = H[:j, j : j + k].T
            corner = H[j : j + k, j : j + k]
            corner[:] = np.triu(corner) + np.triu(corner, 1).T


def weighted_rows(M: np.ndarray, weight: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The rows of `M` `(m, n)` that have a weight > 0, times its square root; `out` `(m, n)`: room for them."""
    some = weight.nonzero()[0]
    part = None if out is None else out[: len(some)]
    if len(some) == len(weight):
        return np.multiply(M, np.sqrt(weight)[:, None], out=part)
    part = np.take(M, some, axis=0, out=part, mode="clip")
    part *= np.sqrt(weight[some])[:, None]
    return part
