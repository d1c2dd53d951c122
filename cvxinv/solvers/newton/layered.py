"""The polish of problems whose rows are partly priced by their lengths: the equations of an activity, solved exactly.

With A the unknowns that are not 0, s their signs, Z the priced rows that are 0, which have room in |p_i| <= c_i, and t the
signs of the others, an optimum of that activity is h_A and q with

    G_AA h_A + W_ZA'q = (W'w(y - b))_A - lam s_A - (W'(c t))_A,      W_ZA h_A = -b_Z,      p_Z = q, p_i = c_i t_i elsewhere,

G = W_on'w W_on. They are singular where more rows are 0 than unknowns are free, and often are; the method of multipliers

    h_A <- (G_AA + r W_ZA'W_ZA)^-1 (the first right side - W_ZA'(q + r b_Z)),      q <- q + r (W h + b)_Z

has one definite matrix of A's size, and its error falls by 1 + r sigma^2 each time. Then what does not fit its set changes
it, all at once (a primal-dual active set): h_j of the wrong sign leaves A and j with |W'p|_j > lam enters it, rows with
|q_i| > c_i leave Z and rows whose v_i has the wrong sign enter it. The round with the least that did not fit is returned.
"""

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.rows import weighted_gram
from ...layers.core.squares_and_lengths import SquaresAndLengths

_LARGEST = 1024  # unknowns: a factorisation of that size per signal
_NUMBERS = 30_000_000  # in the matrices of one block, 240 MB
_HELD = 1e-9  # of its limit: a p_i this far inside has room
_RIDGE, _PENALTY, _REFINED = 1e-12, 1e5, 6  # of normalised units: what keeps G_AA definite, r, and how often q moves
_ROUNDING = 1e-9  # of a limit: less than that does not count as missing it


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 6) -> Point:
    """The point that the activity of `point` stands for; of problems with too many unknowns, the point itself."""
    misfit = problem.misfit
    assert isinstance(misfit, SquaresAndLengths)
    if problem.n > _LARGEST:
        return point
    p = misfit.clipped(point.p)
    zero = misfit.priced_rows & ((p if misfit.nonnegative else p.abs()) < (1 - _HELD) * misfit.price)
    sign = torch.ones_like(p) if misfit.nonnegative else p.sign()
    guess = _Activity(point.h != 0, point.h.sign(), zero, sign)
    h, p = point.h.clone(), point.p.clone()
    for block in torch.arange(problem.N, device=h.device).split(max(1, _NUMBERS // problem.n**2)):
        best = _polished(problem.take(block), guess.take(block), rounds)
        found = torch.isfinite(best.h).all(1) & torch.isfinite(best.p).all(1)
        h[block[found]], p[block[found]] = best.h[found], best.p[found]
    return Point(h, p)


class _Activity:
    """A with its signs, bool and `(N, n)`; Z, and the signs of the other priced rows, bool and `(N, m)`."""

    def __init__(self, held: Tensor, signs: Tensor, zero: Tensor, sides: Tensor):
        self.held, self.signs, self.zero, self.sides = held, signs, zero, sides

    def take(self, index: Tensor) -> "_Activity":
        """That of the signals at `index`, positions."""
        return _Activity(self.held[index], self.signs[index], self.zero[index], self.sides[index])


def _polished(problem: AbstractLayerProblem, guess: _Activity, rounds: int) -> Point:
    """The best point of all rounds; signals whose activity has settled, or led nowhere, are left out of what follows."""
    like = problem.rows.y
    best = Point(like.new_full((problem.N, problem.n), torch.nan), torch.full_like(like, torch.nan))
    least = like.new_full((problem.N,), torch.inf)
    left, part = torch.arange(problem.N, device=like.device), problem
    for _ in range(rounds):
        point = _solved(part, guess)
        guess, missed = _moved(part, guess, point)
        better = missed < least[left]
        to = left[better]
        best.h[to], best.p[to], least[to] = point.h[better], point.p[better], missed[better]
        going = ((missed > 0) & torch.isfinite(missed)).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(left):
            left, part, guess = left[going], part.take(going), guess.take(going)
    return best


def _moved(problem: AbstractLayerProblem, guess: _Activity, point: Point) -> tuple[_Activity, Tensor]:
    """The activity after what does not fit has changed sides, and how much that was, `(N,)`; inf of what is no number."""
    misfit, (h, p) = problem.misfit, point
    assert isinstance(misfit, SquaresAndLengths)
    v, slope, price = problem.rows.W(h) + problem.rows.b, -problem.rows.W.adjoint(p), misfit.price
    lam = problem.linear.expand_as(h)
    turned = guess.held & (h * guess.signs < 0)
    entering = ~guess.held & ((slope if problem.nonnegative else slope.abs()) > lam * (1 + _ROUNDING))
    others = misfit.priced_rows & ~guess.zero
    over = guess.zero & ((p if misfit.nonnegative else p.abs()) > price * (1 + _ROUNDING))
    crossed = others & (v * guess.sides < 0)
    parts = (
        torch.where(turned, h.abs(), 0.0), torch.where(entering, slope.abs() - lam, 0.0),
        torch.where(over, p.abs() - price, 0.0), torch.where(crossed, v.abs(), 0.0),
    )  # fmt: skip
    missed = torch.stack([part.sum(1) for part in parts]).sum(0)
    held, zero = (guess.held & ~turned) | entering, (guess.zero & ~over) | crossed
    signs = torch.where(entering, slope.sign(), guess.signs)
    sides = guess.sides if misfit.nonnegative else torch.where(over, p.sign(), guess.sides)
    return _Activity(held, signs, zero, sides), torch.nan_to_num(missed, nan=torch.inf)


def _solved(problem: AbstractLayerProblem, guess: _Activity) -> Point:
    """The point of an activity, NaN where its equations have no answer."""
    rows, W, misfit = problem.rows, problem.rows.W.matrix(), problem.misfit
    assert isinstance(misfit, SquaresAndLengths)
    fixed = torch.where(misfit.priced_rows & ~guess.zero, misfit.price * guess.sides, 0.0)
    slope = (rows.fit * rows.target - fixed) @ W - problem.linear * guess.signs
    held, zero = guess.held.to(W), guess.zero.to(W)
    H = weighted_gram(rows.W, rows.fit + _PENALTY * zero)
    H = H * held[:, :, None] * held[:, None, :]
    H.diagonal(dim1=1, dim2=2).add_(torch.where(guess.held, _RIDGE, 1.0))
    L, info = torch.linalg.cholesky_ex(H)
    h, q, b = torch.zeros_like(slope), torch.zeros_like(fixed), rows.b.expand_as(fixed)
    for _ in range(_REFINED):
        # what is left of the first equation: its residual is exact to rounding whatever the factor is
        v = h @ W.T + b
        left = slope - (rows.fit * (v - b) + zero * (q + _PENALTY * v)) @ W
        h = h + torch.cholesky_solve((held * left)[:, :, None], L)[:, :, 0]
        q = q + _PENALTY * zero * (h @ W.T + b)
    sound = (info == 0)[:, None]
    p = rows.fit * rows.residual(h) + fixed + q
    return Point(torch.where(sound, h, torch.nan), torch.where(sound, p, torch.nan))
