"""What every layer problem is: a statement, a certificate's ingredients, and proximal pieces.

A layer problem has the form min_h F(W h + b) + g(h), F a sum over rows and g over unknowns; its dual variable is
p = grad F(W h + b), one number per row: p_on = weight (W h + b - y), p_off >= 0, 0 on rows that were not seen.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from .inputs import describe
from .rows import Rows, Sample

if TYPE_CHECKING:
    import cvxpy as cp

_NONE = 1e-10  # a residual this small relative to s_y counts as none


class Point(NamedTuple):
    """A primal and a dual vector: `h` `(N, n)` and `p` `(N, m)`. Nothing is claimed about them."""

    h: Tensor
    p: Tensor


class Bound(NamedTuple):
    """A constraint of a statement on W h + b: which rows `(k,)` it bounds, and the sign its multiplier has in p.

    sign 1: an upper bound, or an equality; -1: a lower bound.
    """

    constraint: "cp.Constraint"
    rows: np.ndarray
    sign: int


@dataclass(frozen=True)
class Statement:
    """The CVXPY problem of one signal, its variable, and the constraints on its rows.

    bounds: constraints row by row, see `Bound`. ball: the constraint on the length of the misfit, or None.
    """

    problem: "cp.Problem"
    h: "cp.Variable"
    bounds: tuple[Bound, ...] = ()
    ball: "cp.Constraint | None" = None


class Scaled(NamedTuple):
    """A problem in normalised units, and how to come back: h = `h_unit` h', p = `p_unit` p', both `(N, 1)`."""

    problem: "AbstractLayerProblem"
    h_unit: Tensor
    p_unit: Tensor


class AbstractLayerProblem(ABC):
    """One layer inversion for a batch of signals.

    form: what F is on the on rows: "quadratic" (half a weighted sum of squares), "ball" (the l2 length of the misfit is
    bounded), "interval" (each row is bounded), or "curved" (a squared misfit behind an activation, not convex).
    nonnegative: whether g asks for h >= 0. absolute: whether g weighs |h| instead of h; then h has any sign.
    """

    rows: Rows
    form: ClassVar[str] = "quadratic"
    nonnegative: ClassVar[bool]
    absolute: ClassVar[bool] = False

    def __repr__(self) -> str:
        """The class, what it was given beside the rows, and the rows, in one line."""
        given = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name == "rows":
                continue
            if isinstance(value, Tensor) and value.ndim == 1:
                low, high = float(value.min()), float(value.max())
                given.append(f"{field.name} = {low:g}" + (f" to {high:g}" if high > low else ""))
            else:
                shown = tuple(value.shape) if isinstance(value, Tensor) else value
                given.append(f"{field.name} = {shown}")
        return f"{type(self).__name__}({', '.join(given)}; {self.rows!r})"

    # --- statement ---

    @abstractmethod
    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        """The CVXPY problem of signal `i`, whose rows are `sample`; `gram` asks for the normal-equation form."""

    # --- certificate ---

    @abstractmethod
    def objective(self, h: Tensor) -> Tensor:
        """Objective at `h` `(N, n)`, whether or not it is feasible. Shape `(N,)`."""

    @abstractmethod
    def violation(self, h: Tensor) -> Tensor:
        """Largest violation of any constraint at `h`. Shape `(N,)`."""

    @abstractmethod
    def dual(self, p: Tensor, enough: Tensor | None = None) -> Tensor:
        """A lower bound on the optimum from any `p` `(N, m)`, however bad. Shape `(N,)`, units of the objective.

        Costly repairs are left out for signals whose cheap bound reaches `enough` `(N,)`.
        """

    @abstractmethod
    def complete(self, h: Tensor) -> Tensor:
        """A `p` `(N, m)` for an `h` that came without one: the residual, and multipliers of the rows at their bound."""

    @abstractmethod
    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        """How far away `p` pushes every h that breaks no bound by more than `slack` `(N,)`, signal units.

        None has a norm below this, `(N,)`; 0 where nothing is shown.
        """

    def opened(self, width: Tensor) -> Self:
        """The same problem with the bounds on the rows that data set wider by up to `width` `(N,)`, and none by more."""
        return self

    @abstractmethod
    def bound_remarks(self) -> list[str]:
        """For each signal, why no better lower bound may be known, or an empty string."""

    # --- proximal pieces ---

    @abstractmethod
    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        """argmin_u F(u) + rho/2 |u - v|^2 for `v` `(N, m)` and `rho` `(N, 1)`."""

    @abstractmethod
    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        """argmin_u g(u) + rho/2 |u - h|^2 for `h` `(N, n)` and `rho` `(N, 1)`."""

    @property
    @abstractmethod
    def linear(self) -> Tensor:
        """Weight of 1'h in g, of |h|_1 where `absolute`, `(N, 1)`."""

    @property
    @abstractmethod
    def quadratic(self) -> Tensor:
        """Weight of |h|^2 / 2 in g, `(N, 1)`."""

    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that each row W h + b may have, `(N, m)` each; infinite where it is not bounded."""
        none = torch.full_like(self.rows.y, torch.inf)
        return -none, torch.where(self.rows._off, torch.zeros_like(none), none)

    @property
    def fit(self) -> Tensor:
        """Weight of each row's squared misfit in F, `(N, m)`; 0 on all rows where F only bounds."""
        return self.rows.fit if self.form == "quadratic" else torch.zeros_like(self.rows.y)

    # --- units ---

    def unit(self) -> Tensor:
        """Natural size of the objective, `(N,)`: s_y^2 / 2, or s_y / |W| where the objective is a length of h."""
        scale = self.rows.scale()
        if self.form in ("quadratic", "curved"):
            return scale**2 / 2
        return scale / (self.rows.W.norm() or 1.0)

    def floor(self, tol: float) -> Tensor:
        """The gap that counts as none whatever the objective is, `(N,)`: see `Certificate`."""
        if self.form in ("quadratic", "curved"):
            return _NONE**2 * self.unit()
        return tol * _NONE * self.unit()

    # --- the same problem elsewhere ---

    @abstractmethod
    def take(self, index: Tensor) -> Self:
        """The signals at `index` (a bool mask or positions)."""

    @abstractmethod
    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same problem in another floating type or on another device."""

    @abstractmethod
    def normalised(self) -> Scaled:
        """The same problem with |W| = 1 and data of length 1 per signal."""

    @property
    def N(self) -> int:
        """Number of signals."""
        return self.rows.N

    @property
    def n(self) -> int:
        """Length of the unknown."""
        return self.rows.n


class AbstractCurvedProblem(AbstractLayerProblem):
    """A layer problem that is not convex: no statement, no bound but 0, and `stationary` as its word for an answer."""

    form: ClassVar[str] = "curved"

    @abstractmethod
    def movement(self, h: Tensor) -> Tensor:
        """How far one proximal gradient step from `h` `(N, n)` moves it, relative to its natural size s_y / |W|, `(N,)`."""


def per_signal(value: float | Tensor, rows: Rows, name: str) -> Tensor:
    """`value` as a tensor `(N,)` in the rows' type: a float for all signals, or one number per signal.

    Raises ValueError for a wrong shape, a negative or a non-finite value.
    """
    if not isinstance(rows, Rows):
        raise TypeError(f"expected rows as cvxinv.Rows, got {describe(rows)}; build Rows(W, b, y, on) first")
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"expected {name} as a float or a tensor (N,), got {type(value).__name__}; pass a number")
    if isinstance(value, Tensor) and value.device != rows.W.device:
        raise ValueError(f"expected {name} on {rows.W.device}, got {value.device}; move it with .to(device)")
    tensor = torch.as_tensor(value, dtype=rows.W.dtype, device=rows.W.device)
    if tensor.ndim == 0:
        tensor = tensor.expand(rows.N)
    if tensor.shape != (rows.N,):
        raise ValueError(
            f"expected {name} as a float or of shape ({rows.N},), got {tuple(tensor.shape)}; pass one per signal"
        )
    if not torch.isfinite(tensor).all() or (tensor < 0).any():
        bad = float(tensor[~(torch.isfinite(tensor) & (tensor >= 0))][0])
        raise ValueError(f"{name} must be >= 0 and finite, got {bad}; pass 0 to leave the term out")
    return tensor


def normalised_rows(rows: Rows) -> tuple[Rows, Tensor, float]:
    """Rows with |W| = 1 and s_y = 1 per signal, the data scale `(N,)` and |W|; zero scales count as 1."""
    data, k = rows.scale(), rows.W.norm() or 1.0
    data = torch.where(data > 0, data, torch.ones_like(data))
    s = data[:, None]
    return (
        rows.derived(W=rows.W.scaled(1 / k), b=(rows.b / s).expand_as(rows.y), y=rows.y / s),
        data,
        k,
    )


def rounding(length: int, dtype: torch.dtype) -> float:
    """Relative error bound of a sum of `length` products in `dtype`: (length + 4) u."""
    return (length + 4) * torch.finfo(dtype).eps / 2


def spd_factor(H: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of `H` `(B, n, n)` and, per matrix, whether it is positive definite beyond rounding `(B,)`."""
    L, info = torch.linalg.cholesky_ex(H)
    pivots = torch.diagonal(L, dim1=-2, dim2=-1)
    if H.shape[-1] == 0:
        return L, torch.ones(len(H), dtype=torch.bool, device=H.device)
    # pivots shrink with sigma_min: below this the factor carries no digit of the weakest direction
    floor = 16 * H.shape[-1] * torch.finfo(H.dtype).eps
    definite = (info == 0) & (pivots.amin(-1) ** 2 > floor * pivots.amax(-1) ** 2)
    return L, definite


def spd_solve(L: Tensor, v: Tensor) -> Tensor:
    """Solve H x = v for `v` `(N, n)` with factors `L` `(N, n, n)`, or `(1, n, n)` shared by all signals."""
    if len(L) == 1:
        return torch.cholesky_solve(v.T, L[0]).T
    return torch.cholesky_solve(v[..., None], L)[..., 0]
