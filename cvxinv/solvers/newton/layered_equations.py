"""The equations of an activity of a problem whose rows are partly priced by their lengths, at the size of the activity.

With A the unknowns that are not 0, s their signs, Z the priced rows that are 0, which have room in |p_i| <= c_i, and t the
signs of the others, an optimum of that activity is h_A and q with

    G_AA h_A + W_ZA'q = (W'w(y - b))_A - lam s_A - (W'(c t))_A,      W_ZA h_A = -b_Z,      p_Z = q, p_i = c_i t_i elsewhere,

G = W_on'w W_on. They are singular where more rows are 0 than unknowns are free, and often are; the method of multipliers

    h_A <- (G_AA + r W_ZA'W_ZA)^-1 (the first right side - W_ZA'(q + r b_Z)),      q <- q + r (W h + b)_Z

has one definite matrix of A's size, and its error falls by 1 + r sigma^2 each time. G is one matrix where signals share
it, of which each takes its A; so a round costs a few products with W for the whole batch, and little matrices for each
signal.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.rows import weighted_gram
from ...layers.core.squares_and_lengths import SquaresAndLengths

NUMBERS = 30_000_000  # in the matrices of one block, 240 MB
_TOGETHER = 2_000_000  # numbers in matrices up to which signals of all sizes are filled up to the largest
_HELD = 1e-9  # of its limit: a p_i this far inside has room
_RIDGE, _PENALTY, _REFINED = 1e-12, 1e6, 4  # of normalised units: what keeps G_AA definite, r, and how often q moves
_NOTHING = 1e-13  # of normalised units: what rounding leaves of 0
_ROUNDING = 1e-9  # of a limit: less than that does not count as missing it


@dataclass(frozen=True, eq=False)
class Activity(Batch):
    """A with its signs, bool and `(N, n)`; Z, and the signs of the other priced rows, bool and `(N, m)`.

    q: where the multipliers of Z begin, `(N, m)`: rows of Z that are 0 whatever h_A is leave theirs open, and there they
    stay.
    """

    held: Tensor = per_signal()
    signs: Tensor = per_signal()
    zero: Tensor = per_signal()
    sides: Tensor = per_signal()
    q: Tensor = per_signal()


@dataclass(frozen=True, eq=False)
class Equations(Batch):
    """What the equations are made of.

    W: `(m, n)`. G: `(n, n)` where signals share it, else `(N, n, n)`. drawn: W'w(y - b), `(N, n)`.
    """

    W: Tensor
    priced_rows: Tensor
    nonnegative: bool
    G: Tensor = per_signal(ndim=3)
    fit: Tensor = per_signal()
    target: Tensor = per_signal()
    b: Tensor = per_signal()
    price: Tensor = per_signal()
    linear: Tensor = per_signal()
    drawn: Tensor = per_signal()

    @classmethod
    def of(cls, problem: AbstractLayerProblem) -> "Equations":
        """Those of a problem of the form "layered"."""
        rows, misfit, W = problem.rows, problem.misfit, problem.rows.W.matrix()
        assert isinstance(misfit, SquaresAndLengths)
        G = rows.shared_gram if rows.alike else weighted_gram(rows.W, rows.fit)
        b, linear = rows.b.expand_as(rows.y), problem.linear.expand(problem.N, problem.n)
        drawn = (rows.fit * rows.target) @ W
        return cls(W, misfit.priced_rows, misfit.nonnegative, G, rows.fit, rows.target, b, misfit.price, linear, drawn)

    @property
    def N(self) -> int:
        """How many signals there are."""
        return len(self.fit)

    def clipped(self, p: Tensor) -> Tensor:
        """What the prices allow of a p of the priced rows, `(N, m)`."""
        return p.minimum(self.price) if self.nonnegative else p.minimum(self.price).maximum(-self.price)

    def rows_of(self, h: Tensor) -> Tensor:
        """W h + b, `(N, m)`."""
        return torch.addmm(self.b, h, self.W.T)

    def activity(self, h: Tensor, p: Tensor) -> Activity:
        """That which a point stands for; p within its prices."""
        zero = self.priced_rows & ((p if self.nonnegative else p.abs()) < (1 - _HELD) * self.price)
        return Activity(h != 0, h.sign(), zero, torch.ones_like(p) if self.nonnegative else p.sign(), p)


def moved(problem: Equations, guess: Activity, point: Point) -> tuple[Activity, Tensor]:
    """The activity after what does not fit has changed sides, and how much that was, `(N,)`; inf of what is no number."""
    h, p = point
    v, slope, price, lam = problem.rows_of(h), -p @ problem.W, problem.price, problem.linear
    turned = guess.held & (h * guess.signs < -_NOTHING)
    entering = ~guess.held & ((slope if problem.nonnegative else slope.abs()) > lam * (1 + _ROUNDING))
    others = problem.priced_rows & ~guess.zero
    over = guess.zero & ((p if problem.nonnegative else p.abs()) > price * (1 + _ROUNDING))
    crossed = others & (v * guess.sides < -_NOTHING)
    parts = (
        torch.where(turned, h.abs(), 0.0), torch.where(entering, slope.abs() - lam, 0.0),
        torch.where(over, p.abs() - price, 0.0), torch.where(crossed, v.abs(), 0.0),
    )  # fmt: skip
    missed = torch.stack([part.sum(1) for part in parts]).sum(0)
    missed = torch.where((h.sum(1) + p.sum(1)).isfinite(), missed, torch.inf)
    held, zero = (guess.held & ~turned) | entering, (guess.zero & ~over) | crossed
    signs = torch.where(entering, slope.sign(), guess.signs)
    sides = guess.sides if problem.nonnegative else torch.where(over, p.sign(), guess.sides)
    return Activity(held, signs, zero, sides, problem.clipped(p)), missed


def solved(problem: Equations, guess: Activity) -> Point:
    """The point of an activity, NaN where its equations have no answer."""
    fixed = torch.where(problem.priced_rows & ~guess.zero, problem.price * guess.sides, 0.0)
    slope = problem.drawn - fixed @ problem.W - problem.linear * guess.signs
    h, q = torch.zeros_like(slope), torch.zeros_like(fixed)
    for group in _groups(guess):
        _solve_in(problem, guess, group, (slope, h, q))
    p = problem.fit * (problem.rows_of(h) - problem.b - problem.target) + fixed + q
    return Point(h, p)


def _groups(guess: Activity) -> list[Tensor]:
    """Signals whose sets are of like sizes, so that little is filled up; all together where that is little anyway."""
    k, l = guess.held.sum(1), guess.zero.sum(1)
    everyone = torch.arange(len(k), device=k.device)
    a, z = int(k.amax()) + 1, int(l.amax()) + 1
    if a * (a + z) * len(k) <= _TOGETHER:
        return [everyone]
    kinds, groups = torch.maximum(k, l).clamp(min=16).to(torch.float64).log2().ceil(), list[Tensor]()
    for kind in kinds.unique().tolist():
        some = everyone[kinds == kind]
        a, z = int(k[some].amax()) + 1, int(l[some].amax()) + 1
        groups += some.split(max(1, NUMBERS // (a * (a + z))))
    return groups


def _solve_in(problem: Equations, guess: Activity, some: Tensor, whole: tuple[Tensor, Tensor, Tensor]) -> None:
    """The equations of the signals `some`; whole: the right sides of all, and their h and q, which are put there."""
    slope, h, q = whole
    (A, held), (Z, zero) = _places(guess.held[some]), _places(guess.zero[some])
    n = problem.W.shape[1]
    base = some * n**2 if problem.G.ndim == 3 else torch.zeros_like(some)
    W = torch.take(problem.W, n * Z[:, :, None] + A[:, None, :]) * (zero[:, :, None] & held[:, None, :])  # (N, |Z|, |A|)
    G = torch.take(problem.G, base[:, None, None] + n * A[:, :, None] + A[:, None, :])
    G = G * (held[:, :, None] & held[:, None, :])
    H = torch.baddbmm(G, W.mT, W, alpha=_PENALTY)
    H.diagonal(dim1=1, dim2=2).add_(torch.where(held, _RIDGE, 1.0))
    L, info = torch.linalg.cholesky_ex(H)
    right = torch.where(held, slope[some[:, None], A], 0.0)[:, :, None]
    b = torch.where(zero, problem.b[some[:, None], Z], 0.0)[:, :, None]
    x, u = torch.zeros_like(right), torch.where(zero, guess.q[some[:, None], Z], 0.0)[:, :, None]
    for _ in range(_REFINED):
        # what is left of the first equation: its residual is exact to rounding whatever the factor is
        x = x + torch.cholesky_solve(right - G @ x - W.mT @ (u + _PENALTY * (W @ x + b)), L)
        u = u + _PENALTY * (W @ x + b)
    x = torch.where((info == 0)[:, None], x[:, :, 0], torch.nan)
    h[some[:, None].expand_as(A)[held], A[held]] = x[held]
    q[some[:, None].expand_as(Z)[zero], Z[zero]] = u[:, :, 0][zero]


def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of what a mask `(N, k)` holds, `(N, most)`, filled up with 0, and which of them are meant."""
    counts, (row, column) = mask.sum(1), mask.nonzero(as_tuple=True)
    most = max(1, int(counts.amax()))
    places = torch.zeros(len(mask), most, dtype=torch.long, device=mask.device)
    places[row, torch.arange(len(row), device=mask.device) - (counts.cumsum(0) - counts)[row]] = column
    return places, torch.arange(most, device=mask.device) < counts[:, None]
