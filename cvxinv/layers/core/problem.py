"""What every layer problem is: a statement, a certificate's ingredients, and proximal pieces.

A layer problem has the form min_h F(W h + b) + g(h), F a sum over rows and g over unknowns; its dual variable is
p = grad F(W h + b), one number per row: p_on = weight (W h + b - y), p_off >= 0, 0 on rows that were not seen.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from math import frexp
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ...generator.maps import UNEVEN, evenly
from ...inputs import describe, read_amount
from ...lengths import lengths, power_of_two
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
    """A problem in normalised units, and how to come back: h = `h_unit` h', p = `p_unit` p'.

    `(N, 1)` each, or `(N, n)` and `(N, m)` where columns or rows were stretched too.
    """

    problem: "AbstractLayerProblem"
    h_unit: Tensor
    p_unit: Tensor


class Lower(NamedTuple):
    """A lower bound on the optimum, the dual-feasible p whose value it is, and what rounding may have taken from it.

    bound: `(N,)`, units of the objective; p: `(N, m)`, 0 where the bound is the 0 that needs no proof; doubt: `(N,)`, the
    part of the value that was given away as a margin for rounding.
    """

    bound: Tensor
    p: Tensor
    doubt: Tensor


class Unmet(NamedTuple):
    """(D) at a p that is not feasible: value `(N,)` less its rounding, p `(N, m)` clipped, and what W'p lacks.

    For every feasible h the objective is at least value + short'h - doubt'|h|; short `(N, n)` is <= 0 where h >= 0.
    """

    value: Tensor
    p: Tensor
    short: Tensor
    doubt: Tensor


class Excess(NamedTuple):
    """How far an h is over each limit; what is below 0 is room.

    rows: `(N, m)` in the units of their row, -inf on rows without a limit; None where no row has one. size: `(N, m)`,
    |w_i| |h| + |b_i| + |limit_i|, what is added up in each row, of which the rounding is a share. ball, ball_size: `(N,)`,
    the same for the length of the misfit, signal units. unknowns: `(N, n)`, how far h is below 0 where it must not be, or
    None.
    """

    rows: Tensor | None
    size: Tensor | None
    ball: Tensor | None
    ball_size: Tensor | None
    unknowns: Tensor | None


class AbstractLayerProblem(ABC):
    """One layer inversion for a batch of signals.

    form: what F is on the on rows: "quadratic" (half a weighted sum of squares), "ball" (the l2 length of the misfit is
    bounded), "interval" (each row is bounded), or "curved" (a squared misfit behind an activation, not convex).
    nonnegative: whether g asks for h >= 0. absolute: whether g weighs |h| instead of h; then h has any sign.
    sizes: `(n,)`, set where columns were stretched (`normalised`): one of each unknown counts as so many in g; None: as one.
    """

    rows: Rows
    sizes: Tensor | None
    form: ClassVar[str] = "quadratic"
    nonnegative: ClassVar[bool]
    absolute: ClassVar[bool] = False

    def __repr__(self) -> str:
        """The class, what it was given beside the rows, and the rows, in one line."""
        given = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name in ("rows", "sizes"):
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
    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        """Objective at `h` `(N, n)`, whether or not it is feasible, `(N,)`; v: W h + b where it is at hand."""

    @abstractmethod
    def violation(self, h: Tensor) -> Tensor:
        """Largest violation of any constraint at `h`. Shape `(N,)`."""

    @abstractmethod
    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        """A lower bound on the optimum from any `p` `(N, m)`, however bad, with the repaired p that proves it.

        Costly repairs are left out for signals whose cheap bound reaches `enough` `(N,)`.
        """

    def dual(self, p: Tensor, enough: Tensor | None = None) -> Tensor:
        """The bound of `lower`, `(N,)`, units of the objective."""
        return self.lower(p, enough).bound

    def unmet(self, p: Tensor) -> Unmet | None:
        """(D) at a p that misses feasibility, for what holds in a ball; None where every p can be made feasible."""
        return None

    def excess(self, h: Tensor, v: Tensor | None = None) -> Excess:
        """How far `h` `(N, n)` is over each limit; v: W h + b where it is at hand."""
        below = -h if self.nonnegative else None
        lo, hi = self.bounds()
        if lo is None and hi is None:
            return Excess(None, None, None, None, below)
        rows = self.rows
        v = rows.W(h) + rows.b if v is None else v
        size = torch.addcmul(rows.b.abs(), rows.W.row_lengths(), lengths(h, keepdim=True))
        if lo is None or hi is None:  # then the limit is 0
            assert hi is not None
            return Excess(v - hi, size, None, None, below)
        above, under = v - hi, lo - v
        return Excess(torch.maximum(above, under), size + _finite(torch.where(above >= under, hi, lo)), None, None, below)

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        """Lowest and highest value of each row by itself, `(N, m)` each; None where no row has any.

        Only the highest, 0 on the off rows, where F is no interval.
        """
        if self.form == "interval":
            return self.limits()
        if self.form == "curved" or not self.rows.any_off:
            return None, None
        return None, self.rows.cut

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

    def counted(self, weight: Tensor) -> Tensor:
        """A weight `(N, 1)` of every unknown in g, in the unknowns' own sizes: `(N, 1)` or `(N, n)`."""
        return weight if self.sizes is None else weight * self.sizes

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
        return scale / (self._plain_norm() or 1.0)

    def _plain_norm(self) -> float:
        """|W| before rows and columns were stretched."""
        stretch, sizes = self.rows.stretch, self.sizes
        if stretch is None and sizes is None:
            return self.rows.W.norm()
        kept = self.rows.W.__dict__.get("_kept_plain_norm")
        if kept is None:
            sides = (None if side is None else 1 / side for side in (stretch, sizes))
            kept = self.rows.W.__dict__["_kept_plain_norm"] = self.rows.W.stretched(*sides).norm()
        return kept

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

    def normalised(self, tol: float = 1e-6) -> Scaled:
        """The same problem with |W| = 1 and data of length 1 per signal.

        Limited rows and columns of very different lengths (`maps.UNEVEN`) are brought to one, so that every solver sees
        what the judge judges; limited rows that are 0 in W and broken by at most tol s_y bind no h and go.
        """
        problem = without_dead_rows(self, tol)
        units = units_of(problem)
        return Scaled(problem.in_units(units), units.h, units.p(self.grows))

    @property
    def grows(self) -> tuple[int, int]:
        """The objective grows like s_y^a |W|^b: (a, b)."""
        return (2, 0) if self.form in ("quadratic", "curved") else (1, -1)

    @property
    def stretches(self) -> bool:
        """Whether columns may be brought to one length: where the solvers know unknowns of different sizes."""
        return self.form in ("quadratic", "interval")

    @abstractmethod
    def in_units(self, units: "Units") -> Self:
        """The same problem in other units."""

    def unseen(self, gone: Tensor) -> Self:
        """The same problem without the rows `gone`, bool `(N, m)`."""
        rows = self.rows.derived(on=self.rows.on & ~gone, off=self.rows._off & ~gone)
        return replace(self, rows=rows)  # type: ignore[type-var]

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


def per_unknown(sizes: Tensor | None, rows: Rows) -> None:
    """Raise ValueError unless `sizes` is None or fits the unknowns: it comes from `normalised` only."""
    if sizes is not None and sizes.shape != (rows.n,):
        raise ValueError(f"expected sizes of shape ({rows.n},), got {tuple(sizes.shape)}; leave them out")


def per_signal(value: float | Tensor | np.ndarray, rows: Rows, name: str) -> Tensor:
    """`value` as a tensor `(N,)` in the rows' type: a float for all signals, or one number per signal.

    Numbers too small for all their digits (below 1e-308, or 1e-38 in float32) count as 0.

    Raises ValueError for a wrong shape, a negative or a non-finite value, TypeError for what is no real number.
    """
    if not isinstance(rows, Rows):
        raise TypeError(f"expected rows as cvxinv.Rows, got {describe(rows)}; build Rows(W, b, y, on) first")
    tensor = read_amount(value, name, rows.W.device)
    if tensor.ndim == 0:
        tensor = tensor.expand(rows.N)
    if tensor.shape != (rows.N,):
        raise ValueError(
            f"expected {name} as a float or of shape ({rows.N},), got {tuple(tensor.shape)}; pass one per signal"
        )
    if not torch.isfinite(tensor).all() or (tensor < 0).any():
        bad = float(tensor[~(torch.isfinite(tensor) & (tensor >= 0))][0])
        raise ValueError(f"{name} must be >= 0 and finite, got {bad}; pass 0 to leave the term out")
    cast = tensor.to(rows.W.dtype)
    # below the normal numbers products lose their digits: a penalty that small is none
    cast = torch.where(cast < torch.finfo(cast.dtype).tiny, 0.0, cast)
    if torch.isinf(cast).any():
        raise ValueError(f"{name} must fit {rows.W.dtype}, got {float(tensor.max())}; use rows.to(torch.float64)")
    return cast


# Rows that hold next to nothing of the signal, as pixels at the border of a picture, are equations whose rounding counts
# as much as that of others once they are stretched: solvers get them as they are
_FAINT = 2.0**15


class Units(NamedTuple):
    """What a problem is measured in: its `rows` in the new units, the size of the data `(N,)`, and |W|.

    stretch `(m,)`, columns `(n,)`: by what rows and columns were multiplied beside 1 / s_y and 1 / |W|, or None.
    """

    rows: Rows
    data: Tensor
    norm: float
    stretch: Tensor | None
    columns: Tensor | None

    @property
    def h(self) -> Tensor:
        """h = this times the new h, `(N, 1)` or `(N, n)`."""
        unit = (self.data / self.norm)[:, None]
        return unit if self.columns is None else unit * self.columns

    def p(self, grows: tuple[int, int]) -> Tensor:
        """p = this times the new p, `(N, 1)` or `(N, m)`, for an objective that grows like data^a norm^b."""
        unit = (self.data ** (grows[0] - 1) * self.norm ** grows[1])[:, None]
        return unit if self.stretch is None else unit * self.stretch

    def objective(self, x: Tensor, grows: tuple[int, int]) -> Tensor:
        """x in the new units of such an objective, `(N,)`, in the old ones; the largest number where that overflows."""
        for _ in range(grows[0]):
            x = x * self.data
        return x.mul(self.norm ** grows[1]).clamp(-torch.finfo(x.dtype).max, torch.finfo(x.dtype).max)

    def stretched(self, v: Tensor) -> Tensor:
        """What rows held, `(N, m)`, after these units stretched them."""
        return v if self.stretch is None else v * self.stretch

    def sizes(self, before: Tensor | None) -> Tensor | None:
        """The sizes of the unknowns in the new units."""
        if self.columns is None:
            return before
        return self.columns if before is None else before * self.columns


def units_of(problem: AbstractLayerProblem, binary: bool = False) -> Units:
    """Units in which |W| = 1 and s_y = 1 and rows and columns are even; zero scales count as 1.

    binary: only next to 1, by powers of two, which round nothing.
    """
    rows, W = problem.rows, problem.rows.W
    stretch, columns = None, None
    if not W.even:
        # the judge's units must not depend on which rows a neighbour in the batch limits
        rows_of = None if binary else limited_rows(problem)
        stretch = evening(W.row_lengths(), rows_of, UNEVEN if binary else _FAINT)
        W = W.stretched(stretch, None)
        columns = evening(W.column_lengths(), None) if binary or problem.stretches else None
        W = W.stretched(None, columns)
    data, k = rows.scale(), W.norm() or 1.0
    data = torch.where(data > 0, data, torch.ones_like(data))
    if binary:
        data, k = power_of_two(data), 2.0 ** (frexp(k)[1] - 1)
    s = data[:, None]
    changes: dict[str, Any] = {"W": W.scaled(1 / k), "b": (rows.b / s).expand_as(rows.y), "y": rows.y / s}
    if stretch is not None:
        changes = changes | {
            "b": changes["b"] * stretch, "y": changes["y"] * stretch, "weight": rows._weight / stretch**2,
            "stretch": stretch if rows.stretch is None else rows.stretch * stretch,
        }  # fmt: skip
    return Units(rows.derived(**changes), data, k, stretch, columns)


def evening(length: Tensor, which: Tensor | None, most: float = UNEVEN) -> Tensor | None:
    """Powers of two that bring lengths to the median one if any is more than `most` times from it; None: all are even.

    which: bool, the only ones that may be stretched; None: all. Lengths of 0 are left alone.
    """
    there = length > 0 if which is None else which & (length > 0)
    if bool(evenly(length, there, most).all()):
        return None
    ratio = torch.where(there, length / length[length > 0].median(), torch.ones_like(length))
    # what lies further apart would leave no room for squares
    most = 2.0**400 if length.dtype == torch.float64 else 2.0**40
    return (1 / power_of_two(ratio)).clamp(1 / most, most)


def limited_rows(problem: AbstractLayerProblem) -> Tensor:
    """Rows that have a limit of their own for some signal, bool `(m,)`."""
    return _limited(problem).any(0)


def _limited(problem: AbstractLayerProblem) -> Tensor:
    """The same for each signal, bool `(N, m)`."""
    there = torch.zeros_like(problem.rows.on)
    for end in problem.bounds():
        there = there if end is None else there | torch.isfinite(end)
    return there


def dead_rows(problem: AbstractLayerProblem) -> Tensor:
    """Limited rows that no h moves, bool `(N, m)`: W is 0 there."""
    dead = problem.rows.W.row_lengths() == 0
    if not bool(dead.any()):
        return torch.zeros_like(problem.rows.on)
    return _limited(problem) & dead


def without_dead_rows(problem: AbstractLayerProblem, tol: float) -> AbstractLayerProblem:
    """The problem without the limits on rows that no h moves, where they are broken by at most tol s_y."""
    dead = dead_rows(problem)
    if not bool(dead.any()):
        return problem
    rows = problem.rows
    zero = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
    over = problem.excess(zero).rows
    assert over is not None
    broken = rows.in_signal_units(over)
    gone = dead & (broken <= tol * rows.scale()[:, None])
    return problem.unseen(gone) if bool(gone.any()) else problem


def rounding(length: int, dtype: torch.dtype) -> float:
    """Relative error bound of a sum of `length` products in `dtype`: (length + 4) u."""
    return (length + 4) * torch.finfo(dtype).eps / 2


def _finite(end: Tensor) -> Tensor:
    """|end| where it is finite, else 0."""
    return torch.where(torch.isfinite(end), end.abs(), torch.zeros_like(end))


def proved(value: Tensor, doubt: Tensor, p: Tensor) -> Lower:
    """The lower bound value - doubt at p; the 0 that needs no p where that is below 0, or no number: a huge p overflows."""
    bound = value - doubt
    there = (bound > 0) & torch.isfinite(bound)
    return Lower(torch.where(there, bound, 0.0), torch.where(there[:, None], p, 0.0), torch.where(there, doubt, 0.0))


def away(value: Tensor, slope: Tensor) -> Tensor:
    """The |h| below which slope'|h| < value, `(N,)`: how far p pushes every h away; 0 where value is not above 0."""
    length = lengths(slope)
    far = value / torch.where(length > 0, length, torch.ones_like(length))
    far = torch.where(length > 0, far, torch.full_like(far, torch.inf))
    return torch.where(value > 0, far * (1 - 1e-12), torch.zeros_like(far))


def length_of(cp: Any, h: "cp.Variable", sizes: Tensor | None, nonnegative: bool) -> "cp.Expression":
    """1'h, or |h|_1 where h has any sign, of unknowns that count as `sizes`, in the words of `cp`, the module cvxpy."""
    if sizes is None:
        return cp.sum(h) if nonnegative else cp.norm(h, 1)
    d = sizes.detach().cpu().double().numpy()
    return d @ h if nonnegative else cp.norm(cp.multiply(d, h), 1)


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
