"""What every layer problem is: a statement, and F and g, from which all that solvers and judge ask for follows.

A layer problem has the form min_h F(W h + b) + g(h), F a sum over rows (`misfits`) and g over unknowns (`penalties`); its
dual variable is p = grad F(W h + b), one number per row: p_on = weight (W h + b - y), p_off >= 0, 0 on rows that were not
seen. (D) is max_p b'p - F*(p) - g*(-W'p), and `repairs` makes a lower bound of any p.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ...batch import Batch
from ...inputs import describe, origin, read_amount, remember
from .lifts import Lifts
from .misfits import AbstractMisfit, Excess
from .multipliers import balanced_excesses, dual_of_squares, shortest_dual
from .penalties import Penalty
from .proofs import Lower, Unmet, away, rounding
from .repairs import Factor, lower_bound, slope_of, why_weak
from .rows import Rows, Sample
from .units import Units, units_of, without_dead_rows

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


class AbstractLayerProblem(Batch, ABC):
    """One layer inversion for a batch of signals: a frozen dataclass of `rows`, its numbers, and `sizes`.

    A subclass says what is its own: `statement`, `misfit` and `penalty`, and of its fields

    numbers: for each number beside the rows, one for all signals or `(N,)`, the powers (a, b) with which it grows like
    s_y^a |W|^b: (1, 1) for a weight of h beside squared misfits, (0, 2) for one of h^2, (1, 0) for a bound on misfits.
    nonnegative: whether g asks for h >= 0. absolute: whether g weighs |h| instead of h; then h has any sign. form: that of
    the misfit: "quadratic" (half a weighted sum of squares), "ball" (the l2 length of the misfit is bounded), "interval"
    (each row is bounded), "layered" (squares of some rows, and weighted lengths of others), "excess" (the largest excess of
    a row, or the sum of all, costs what it is), or "curved" (a squared misfit behind an activation, not convex).
    counts_off: False where off rows limit nothing: they count as not seen. sizes: a field, None by default; `(n,)` where
    columns were stretched (`normalised`): one of each unknown counts as so many in g.
    """

    rows: Rows
    sizes: Tensor | None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {}
    form: ClassVar[str] = "quadratic"
    nonnegative: ClassVar[bool]
    absolute: ClassVar[bool] = False
    counts_off: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.rows, Rows):
            raise TypeError(f"expected rows as cvxinv.Rows, got {describe(self.rows)}; build Rows(W, b, y, on) first")
        for name in self.numbers:
            object.__setattr__(self, name, per_signal(getattr(self, name), self.rows, name))
        per_unknown(self.sizes, self.rows)
        if not self.counts_off and self.rows.any_off:
            object.__setattr__(self, "rows", self.rows.derived(off=torch.zeros_like(self.rows.on)))
        check_declared(self)

    def number(self, name: str) -> Tensor:
        """One of the `numbers`, `(N,)`, whether it was given for all signals or for each."""
        value = getattr(self, name)
        assert isinstance(value, Tensor)
        return value

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

    # --- what a layer problem says of itself ---

    @abstractmethod
    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        """The CVXPY problem of signal `i`, whose rows are `sample`; `gram` asks for the normal-equation form."""

    @property
    @abstractmethod
    def misfit(self) -> AbstractMisfit:
        """F. A cached_property: solvers ask for it in every iteration."""

    @property
    @abstractmethod
    def penalty(self) -> Penalty:
        """g, from the problem's numbers: `Penalty.of(self, lam=..., gamma=...)`. A cached_property too."""

    # --- certificate ---

    def objective(self, h: Tensor, v: Tensor | None = None) -> Tensor:
        """Objective at `h` `(N, n)`, whether or not it is feasible, `(N,)`; v: W h + b where it is at hand."""
        misfit, cost = self.misfit.value(h, v), self.penalty.value(h)
        return cost if misfit is None else misfit + cost

    def violation(self, h: Tensor) -> Tensor:
        """Largest violation of any constraint at `h`. Shape `(N,)`."""
        beyond = self.misfit.violation(h)
        return torch.maximum(beyond, self.penalty.violation(h)) if self.nonnegative else beyond

    def lower(self, p: Tensor, enough: Tensor | None = None) -> Lower:
        """A lower bound on the optimum from any `p` `(N, m)`, however bad, with the repaired p that proves it.

        Costly repairs are left out for signals whose cheap bound reaches `enough` `(N,)`.
        """
        return lower_bound(self, p, enough)

    def dual(self, p: Tensor, enough: Tensor | None = None) -> Tensor:
        """The bound of `lower`, `(N,)`, units of the objective."""
        return self.lower(p, enough).bound

    def unmet(self, p: Tensor) -> Unmet | None:
        """(D) at a p that misses feasibility, for what holds in a ball; None where every p can be made feasible."""
        if self.misfit.homogeneous:
            return None
        p, u = self.misfit.clipped(p), rounding(self.rows.m, p.dtype)
        earned, W = self.misfit.earned(p), self.rows.W
        value = earned.linear - earned.doubt
        if earned.square is not None:
            value = value - earned.square / 2 - earned.square * u
        return Unmet(value, p, self.penalty.short(W.adjoint(p)), W.magnitude().adjoint(p.abs()) * u)

    def excess(self, h: Tensor, v: Tensor | None = None) -> Excess:
        """How far `h` `(N, n)` is over each limit; v: W h + b where it is at hand."""
        return self.misfit.excess(h, v)._replace(unknowns=-h if self.nonnegative else None)

    def bounds(self) -> tuple[Tensor | None, Tensor | None]:
        """Lowest and highest value of each row by itself, `(N, m)` each; None where no row has any.

        Only the highest, 0 on the off rows, where F is no interval.
        """
        return self.misfit.bounds()

    def complete(self, h: Tensor) -> Tensor:
        """A `p` `(N, m)` for an `h` that came without one: the residual, and multipliers of the rows at their bound."""
        if self.form == "excess":
            return balanced_excesses(self, h)
        return shortest_dual(self, h, self.misfit.direction(h)) if self.misfit.homogeneous else dual_of_squares(self, h)

    def infeasibility(self, p: Tensor, slack: float | Tensor = 0.0) -> Tensor:
        """How far away `p` pushes every h that breaks no bound by more than `slack` `(N,)`, signal units.

        None has a norm below this, `(N,)`; 0 where nothing is shown.
        """
        if not self.misfit.forbids:
            return torch.zeros_like(p[:, 0])
        p, value = self.misfit.ray(p, slack)
        # value is below 0 for no h that is allowed and shorter than what p'W h needs to make up for it
        value = torch.nan_to_num(value, nan=0.0, posinf=0.0)
        return self.misfit.emptied(slack, away(value, slope_of(self, p).clamp(min=0)))

    def opened(self, width: Tensor) -> Self:
        """The same problem with the bounds on the rows that data set wider by up to `width` `(N,)`, and none by more."""
        changes: dict[str, Any] = self.misfit.opened(width)
        return replace(self, **changes) if changes else self  # type: ignore[type-var]

    def bound_remarks(self) -> list[str]:
        """For each signal, why no better lower bound may be known, or an empty string."""
        return self.misfit.remarks() if self.misfit.homogeneous else why_weak(self)

    @cached_property
    def lifts(self) -> Lifts:
        """The lifts of W's columns that were found so far; `take` hands them on."""
        return Lifts.none_yet(self.rows)

    @cached_property
    def factor(self) -> Factor:
        """The factor that bounds by multipliers ask for; `take` hands it on."""
        return Factor.of(self)

    # --- proximal pieces ---

    def prox_rows(self, v: Tensor, rho: Tensor) -> Tensor:
        """argmin_u F(u) + rho/2 |u - v|^2 for `v` `(N, m)` and `rho` `(N, 1)`."""
        return self.misfit.prox(v, rho)

    def prox_unknown(self, h: Tensor, rho: Tensor) -> Tensor:
        """argmin_u g(u) + rho/2 |u - h|^2 for `h` `(N, n)` and `rho` `(N, 1)`."""
        return self.penalty.prox(h, rho)

    @property
    def linear(self) -> Tensor:
        """Weight of 1'h in g, of |h|_1 where `absolute`, `(N, 1)`, or `(N, n)` where unknowns count as `sizes`."""
        return self.penalty.linear

    @property
    def quadratic(self) -> Tensor:
        """Weight of |h|^2 / 2 in g, `(N, 1)` or `(N, n)`."""
        return self.penalty.quadratic

    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that each row W h + b may have, `(N, m)` each; infinite where it is not bounded."""
        return self.misfit.limits

    @property
    def fit(self) -> Tensor:
        """Weight of each row's squared misfit in F, `(N, m)`; 0 on all rows where F only bounds."""
        return self.misfit.fit

    # --- units ---

    @cached_property
    def grows(self) -> tuple[int, int]:
        """The objective grows like s_y^a |W|^b: (a, b)."""
        if self.form == "excess":
            return 1, 0
        return (2, 0) if self.form in ("quadratic", "layered", "curved") else (1, -1)

    @property
    def stretches(self) -> bool:
        """Whether columns may be brought to one length: where the solvers know unknowns of different sizes."""
        if self.form not in ("quadratic", "layered", "interval", "excess"):
            return False
        # a ridge of one size for all unknowns is what pivoting adds
        return self.penalty.gamma is None or not bool((self.penalty.gamma > 0).any())

    def unit(self) -> Tensor:
        """Natural size of the objective, `(N,)`: s_y^2 / 2, or s_y / |W| where the objective is a length of h."""
        scale, (squares, norm) = self.rows.scale(), self.grows
        if squares == 2:
            return scale**2 / 2
        return scale / (self._plain_norm() or 1.0) if norm else scale

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
        if self.form == "excess":
            return _NONE * self.unit()
        return _NONE**2 * self.unit() if self.grows[0] == 2 else tol * _NONE * self.unit()

    # --- the same problem elsewhere ---

    def take(self, index: Tensor | slice) -> Self:
        """The signals at `index` (a bool mask, positions, or a slice)."""
        index = index if isinstance(index, slice) else index.to(self.rows.y.device)
        part = self._changed({"rows": self.rows.take(index)} | {name: self.number(name)[index] for name in self.numbers})
        for name in ("lifts", "factor"):  # what was costly to find
            if name in self.__dict__:
                part.__dict__[name] = self.__dict__[name].take(index)
        return part

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The signals of all parts, in their order; what they share, the map too, is taken from the first."""
        numbers = {name: torch.cat([part.number(name) for part in parts]) for name in cls.numbers}
        return parts[0]._changed({"rows": Rows.joined([part.rows for part in parts])} | numbers)

    def _changed(self, changes: dict[str, Any]) -> Self:
        """The same with these fields changed, and nothing checked: for changes that cannot break what was checked."""
        problem = object.__new__(type(self))
        for field in fields(self):  # type: ignore[arg-type]
            object.__setattr__(problem, field.name, changes.get(field.name, getattr(self, field.name)))
        return problem

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same problem in another floating type or on another device."""
        rows = self.rows.to(dtype, device)
        if rows is self.rows:
            return self
        changes = {name: self.number(name).to(rows.y) for name in self.numbers}
        if self.sizes is not None:
            changes["sizes"] = self.sizes.to(rows.y)
        return replace(self, rows=rows, **changes)  # type: ignore[type-var]

    def normalised(self, tol: float = 1e-6) -> Scaled:
        """The same problem with |W| = 1 and data of length 1 per signal.

        Limited rows and columns of very different lengths (`maps.UNEVEN`) are brought to one, so that every solver sees
        what the judge judges; limited rows that are 0 in W and broken by at most tol s_y bind no h and go.
        """
        problem = without_dead_rows(self, tol)
        units = units_of(problem)
        return Scaled(problem.in_units(units), units.h, units.p(self.grows))

    def in_units(self, units: Units) -> Self:
        """The same problem in other units."""
        changes = {name: units.number(self.number(name), *powers) for name, powers in self.numbers.items()}
        sizes = units.sizes(self.sizes)
        if sizes is not None and any(field.name == "sizes" for field in fields(self)):  # type: ignore[arg-type]
            changes["sizes"] = sizes
        return replace(self, rows=units.rows, **changes)  # type: ignore[type-var]

    def unseen(self, gone: Tensor) -> Self:
        """The same problem without the rows `gone`, bool `(N, m)`."""
        rows = self.rows.derived(on=self.rows.on & ~gone, off=self.rows.off & ~gone)
        return replace(self, rows=rows)  # type: ignore[type-var]

    @cached_property
    def N(self) -> int:
        """Number of signals."""
        return self.rows.N

    @cached_property
    def n(self) -> int:
        """Length of the unknown."""
        return self.rows.n


def check_declared(problem: AbstractLayerProblem) -> None:
    """Raise TypeError unless a class says of itself what its misfit and penalty are: solvers choose by what it says."""
    name, misfit = type(problem).__name__, problem.misfit
    if misfit.form != problem.form:
        raise TypeError(
            f"expected form = {misfit.form!r} in {name}, whose misfit is {type(misfit).__name__}, got {problem.form!r}; "
            f"write form: ClassVar[str] = {misfit.form!r}"
        )
    weighs = not problem.nonnegative and problem.penalty.lam is not None
    if weighs != problem.absolute:
        raise TypeError(
            f"expected absolute = {weighs} in {name}, whose penalty {'weighs |h|' if weighs else 'does not weigh |h|'} of "
            f"any sign, got {problem.absolute}; write absolute: ClassVar[bool] = {weighs}"
        )
    for field in fields(problem):  # type: ignore[arg-type]
        value = getattr(problem, field.name)
        if field.name not in ("rows", "sizes", *problem.numbers) and isinstance(value, Tensor | np.ndarray | int | float):
            raise TypeError(
                f"expected every number of {name} in its `numbers`, with the powers of s_y and |W| that it grows by, got "
                f"{field.name} beside them; e.g. numbers = {{{field.name!r}: (1, 1)}}"
            )


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
    tensor = given = read_amount(value, name, rows.W.device)
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
    return remember(cast, origin(given).expand(rows.N)) if torch.is_grad_enabled() else cast


def length_of(cp: Any, h: "cp.Variable", sizes: Tensor | None, nonnegative: bool) -> "cp.Expression":
    """1'h, or |h|_1 where h has any sign, of unknowns that count as `sizes`, in the words of `cp`, the module cvxpy."""
    if sizes is None:
        return cp.sum(h) if nonnegative else cp.norm(h, 1)
    d = sizes.detach().cpu().double().numpy()
    return d @ h if nonnegative else cp.norm(cp.multiply(d, h), 1)
