"""The equations of an activity of a problem whose rows are partly priced by their lengths, at the size of the activity.

x = (V h + b, h) holds the priced rows and the unknowns, c their limits: prices, and lam. An entry of x is free, its
multiplier y_k then +-c_k with the sign of x_k, or it is 0 and |y_k| <= c_k has room (y_k <= c_k alone where x >= 0). With A
the free unknowns and Z the priced rows at 0 an optimum of that activity is h_A and q = y_Z with

    G_AA h_A + V_ZA'q = (W'w(y - b))_A - y_A - (V'y)_A over the free rows,      V_ZA h_A = -b_Z,      G = W_on'w W_on.

They are singular where more rows are 0 than unknowns are free, and often are; the method of multipliers

    h_A <- (G_AA + r V_ZA'V_ZA)^-1 (the first right side - V_ZA'(q + r b_Z)),      q <- q + r (V h + b)_Z

has one definite matrix of A's size, and its error falls by 1 + r sigma^2 each time. With a large r that is the point of the
activity. With a small one q moves no farther than r |V h + b|, also where the activity contradicts itself.

Rows that are >= 0 for every h >= 0, which b and their entries are, are no priced rows here: where x >= 0 they are worth
c_i v_i, and their multiplier is c_i. G is one matrix where signals share it, of which each takes its A; so a round costs a
few products with V for the whole batch, and little matrices for each signal.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.rows import weighted_gram
from ...layers.core.squares_and_lengths import SquaresAndLengths

NUMBERS = 30_000_000  # in the matrices of one block, 240 MB
_FULL = 0.7  # share of entries of V that are not 0 from which it does not pay to look for rows that nothing moves
_TOGETHER = 2_000_000  # numbers in matrices up to which signals of all sizes are filled up to the largest
_HELD = 1e-9  # of its limit: a multiplier this far inside has room
_RIDGE = 1e-12  # of normalised units: what keeps G_AA definite
EXACT, _REFINED = 1e5, 4  # r of the point of an activity, and how often q moves then
_NOTHING = 1e-13  # of normalised units: what rounding leaves of 0
_ROUNDING = 1e-9  # of a limit: less than that does not count as missing it


@dataclass(frozen=True, eq=False)
class Activity(Batch):
    """free: which entries of x are not 0, bool `(N, l + n)`; y: their multipliers, and where those of the others begin."""

    free: Tensor = per_signal()
    y: Tensor = per_signal()


@dataclass(frozen=True, eq=False)
class Equations(Batch):
    """What the equations are made of, of N signals with n unknowns and l priced rows.

    V: the priced rows `(l, n)`; places: theirs among all m, `(l,)`. G: `(n, n)` where signals share it, else `(N, n, n)`.
    b: `(N, l)`; drawn: W'w(y - b) less what rows that are >= 0 anyway are worth, `(N, n)`; limits: c `(N, l + n)`.
    """

    V: Tensor
    places: Tensor
    nonnegative: bool
    G: Tensor = per_signal(ndim=3)
    b: Tensor = per_signal()
    drawn: Tensor = per_signal()
    limits: Tensor = per_signal()

    @classmethod
    def of(cls, problem: AbstractLayerProblem) -> "Equations":
        """Those of a problem of the form "layered"."""
        rows, misfit, W = problem.rows, problem.misfit, problem.rows.W.matrix()
        assert isinstance(misfit, SquaresAndLengths)
        G = rows.shared_gram if rows.alike else weighted_gram(rows.W, rows.fit)
        priced, b = misfit.priced_rows, rows.b.expand_as(rows.y)
        drawn = (rows.fit * rows.target) @ W
        if misfit.nonnegative:
            anyway = priced & (W >= 0).all(1) & (b >= 0).all(0)
            priced, drawn = priced & ~anyway, drawn - (misfit.price * anyway) @ W
        places = priced.nonzero()[:, 0]
        limits = torch.cat([misfit.price[:, places], problem.linear.expand(problem.N, problem.n)], 1)
        return cls(W[places].contiguous(), places, misfit.nonnegative, G, b[:, places], drawn, limits)

    @cached_property
    def V_filled(self) -> Tensor:
        """V with a row and a column of zeros more, `(l + 1, n + 1)`."""
        return torch.nn.functional.pad(self.V, (0, 1, 0, 1))

    @cached_property
    def G_filled(self) -> Tensor:
        """G with a row and a column of zeros more."""
        return torch.nn.functional.pad(self.G, (0, 1, 0, 1))

    @cached_property
    def b_filled(self) -> Tensor:
        """b with a 0 more, `(N, l + 1)`."""
        return torch.nn.functional.pad(self.b, (0, 1))

    @cached_property
    def pattern(self) -> Tensor | None:
        """Where V is not 0, as float32; None where that is almost everywhere."""
        there = (self.V != 0).float()
        return None if self.l == 0 or float(there.mean()) > _FULL else there

    @property
    def n(self) -> int:
        """How many unknowns there are."""
        return self.drawn.shape[1]

    @property
    def N(self) -> int:
        """How many signals there are."""
        return len(self.drawn)

    @property
    def l(self) -> int:  # noqa: E743
        """How many priced rows there are."""
        return len(self.V)

    def take(self, index: Tensor | slice) -> Self:
        part = super().take(index)
        for name in ("V_filled", "pattern", *(("G_filled",) if self.G.ndim == 2 else ())):
            if name in self.__dict__:
                part.__dict__[name] = self.__dict__[name]
        return part

    def clipped(self, y: Tensor) -> Tensor:
        """What the limits allow of multipliers `(N, l + n)`."""
        return y.minimum(self.limits) if self.nonnegative else y.clamp(-self.limits, self.limits)

    def drawn_by(self, h: Tensor, q: Tensor) -> Tensor:
        """-W'p of h `(N, n)` and multipliers q `(N, l)` of the priced rows, `(N, n)`."""
        less = h @ self.G if self.G.ndim == 2 else (h[:, None] @ self.G)[:, 0]
        return torch.addmm(self.drawn, q, self.V, alpha=-1) - less

    def activity(self, point: Point) -> Activity:
        """That which a point stands for."""
        h, q = point.h, point.p[:, self.places]
        y = self.clipped(torch.cat([q, self.drawn_by(h, q)], 1))
        rows = (y if self.nonnegative else y.abs())[:, : self.l] >= (1 - _HELD) * self.limits[:, : self.l]
        free, side = torch.cat([rows, h != 0], 1), torch.cat([y[:, : self.l], h], 1)
        return Activity(free, torch.where(free, self.limits.copysign(side), y))

    def point(self, problem: AbstractLayerProblem, h: Tensor, y: Tensor) -> Point:
        """h with p of all rows of the problem: what fits h, and multipliers."""
        rows, misfit = problem.rows, problem.misfit
        assert isinstance(misfit, SquaresAndLengths)
        p = torch.where(misfit.priced_rows, misfit.price, rows.fit * (h @ rows.W.matrix().T - rows.target))
        p[:, self.places] = y[:, : self.l]
        return Point(h, p)


def solved(problem: Equations, guess: Activity, r: float) -> tuple[Tensor, Tensor, Tensor]:
    """h `(N, n)` of an activity, x and the multipliers of all its entries, `(N, l + n)`; NaN where there is no answer.

    r: EXACT for the point of the activity, less for a step towards it.
    """
    l, n, V = problem.l, problem.n, problem.V
    slope = torch.addmm(problem.drawn, guess.y[:, :l], V, alpha=-1) - guess.y[:, l:]
    # a column more, where what is filled up comes from and goes to
    h, q = slope.new_zeros(len(slope), n + 1), torch.nn.functional.pad(guess.y[:, :l], (0, 1))
    slope = torch.nn.functional.pad(slope, (0, 1))
    A, Z = guess.free[:, l:], ~guess.free[:, :l]
    if problem.pattern is not None:
        # rows that no free unknown moves keep their multipliers
        Z = Z & ((A.to(problem.pattern.dtype) @ problem.pattern.T > 0) | (problem.b != 0))
    for group in _groups(A.sum(1), Z.sum(1)):
        _solve_in(problem, A[group], Z[group], group, r, (slope, h, q))
    h, q = h[:, :n], q[:, :l]
    return h, torch.cat([torch.addmm(problem.b, h, V.T), h], 1), torch.cat([q, problem.drawn_by(h, q)], 1)


def moved(problem: Equations, guess: Activity, x: Tensor, y: Tensor) -> tuple[Activity, Tensor]:
    """The activity after what does not fit has changed sides, and whether anything had to, bool `(N,)`."""
    free, c = guess.free, problem.limits
    if problem.nonnegative:
        crossed, over = x < -_NOTHING, y > c * (1 + _ROUNDING)
    else:
        crossed, over = x * guess.y < -_NOTHING * c, y.abs() > c * (1 + _ROUNDING)
    wrong = torch.where(free, crossed, over)
    kept = torch.where(free, guess.y, problem.clipped(y))
    return Activity(free ^ wrong, kept), wrong.any(1)


def _groups(k: Tensor, z: Tensor) -> list[Tensor]:
    """Signals whose sets are of like sizes, so that little is filled up; all together where that is little anyway."""
    everyone, sizes = torch.arange(len(k), device=k.device), torch.stack([k, z])
    a, most = (sizes.amax(1) + 1).tolist()
    if a * (a + most) * len(k) <= _TOGETHER:
        return [everyone]
    kinds, groups = torch.maximum(k, z).clamp(min=16).to(torch.float64).log2().ceil(), list[Tensor]()
    for kind in kinds.unique().tolist():
        some = everyone[kinds == kind]
        a, most = (sizes[:, some].amax(1) + 1).tolist()
        groups += some.split(max(1, NUMBERS // (a * (a + most))))
    return groups


def _solve_in(problem: Equations, A: Tensor, Z: Tensor, some: Tensor, r: float, whole: tuple[Tensor, ...]) -> None:
    """The equations of the signals `some`, free unknowns A and rows Z at 0, bool `(|some|, n)` and `(|some|, l)`.

    whole: the right sides of all signals, and their h and y, which are put there.
    """
    slope, h, y = whole
    n, one = problem.n, some[:, None]
    A, Z, base = _places(A), _places(Z), (some * (n + 1) ** 2 if problem.G.ndim == 3 else 0 * some)[:, None, None]
    V = torch.take(problem.V_filled, (n + 1) * Z[:, :, None] + A[:, None, :])  # (N, |Z|, |A|)
    G = torch.take(problem.G_filled, base + (n + 1) * A[:, :, None] + A[:, None, :])
    H = torch.baddbmm(G, V.mT, V, alpha=r)
    H.diagonal(dim1=1, dim2=2).add_(torch.where(A < n, _RIDGE, 1.0))
    L, info = torch.linalg.cholesky_ex(H)
    right, b, start = (x[one, at][:, :, None] for x, at in ((slope, A), (problem.b_filled, Z), (y, Z)))
    x, u = torch.cholesky_solve(right - V.mT @ (r * b), L), start
    u = u + r * (V @ x + b)
    for _ in range(_REFINED - 1 if r >= EXACT else 0):
        # what is left of the first equation: its residual is exact to rounding whatever the factor is
        x = x + torch.cholesky_solve(right - G @ x - V.mT @ (u - start + r * (V @ x + b)), L)
        u = u + r * (V @ x + b)
    x = torch.where((info == 0)[:, None], x[:, :, 0], torch.nan)
    h[one, A], y[one, Z] = x, u[:, :, 0]


def _places(mask: Tensor) -> Tensor:
    """Positions of what a mask `(N, k)` holds, `(N, most)`, filled up with k."""
    counts, (row, column) = mask.sum(1), mask.nonzero(as_tuple=True)
    most = max(1, int(counts.amax()))
    places = torch.full((len(mask), most), mask.shape[1], device=mask.device)
    places[row, torch.arange(len(row), device=mask.device) - (counts.cumsum(0) - counts)[row]] = column
    return places
