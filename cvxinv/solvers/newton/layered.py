"""The polish of problems whose rows are partly priced by their lengths: the equations of an activity, solved exactly.

With A the unknowns that are not 0, s their signs, Z the priced rows that are 0, which have room in |p_i| <= c_i, and t the
signs of the others, an optimum of that activity is h_A and q with

    G_AA h_A + W_ZA'q = (W'w(y - b))_A - lam s_A - (W'(c t))_A,      W_ZA h_A = -b_Z,      p_Z = q, p_i = c_i t_i elsewhere,

G = W_on'w W_on. Then what does not fit its set changes it, all at once (a primal-dual active set): h_j of the wrong sign
leaves A and j with |W'p|_j > lam enters it, rows with |q_i| > c_i leave Z and rows whose v_i has the wrong sign enter it.
The round with the least that did not fit is returned. The equations may be singular, as where more rows are 0 than unknowns
are free; they are solved next to rounding's size of a ridge, and refined. All signals at once, each system filled up with
ones to the size of the largest.
"""

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.squares_and_lengths import SquaresAndLengths

_LARGEST = 1500  # unknowns and priced rows that are 0, together: a factorisation of that size per signal
_NUMBERS = 30_000_000  # in the systems of one block, 240 MB
_HELD = 1e-9  # of its limit: a p_i this far inside has room
_RIDGE, _REFINED = 1e-11, 3  # of normalised units, and how often what it costs is made up for
_ROUNDING = 1e-9  # of a limit: less than that does not count as missing it


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 6) -> Point:
    """The point that the activity of `point` stands for; of signals with too large a system, the point itself."""
    misfit = problem.misfit
    assert isinstance(misfit, SquaresAndLengths)
    p = misfit.clipped(point.p)
    zero = misfit.priced_rows & ((p if misfit.nonnegative else p.abs()) < (1 - _HELD) * misfit.price)
    sign = torch.ones_like(p) if misfit.nonnegative else p.sign()
    guess = _Activity(point.h != 0, point.h.sign(), zero, sign)
    h, p = point.h.clone(), point.p.clone()
    some = (guess.held.sum(1) + zero.sum(1) <= _LARGEST).nonzero()[:, 0]
    while len(some):
        # rounds let sets grow
        widest = 2 * int((guess.held[some].sum(1) + zero[some].sum(1)).amax()) + 1
        step = max(1, _NUMBERS // widest**2)
        block, some = some[:step], some[step:]
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
    N, like = problem.N, problem.rows.y
    best = Point(like.new_full((N, problem.n), torch.nan), torch.full_like(like, torch.nan))
    least = like.new_full((N,), torch.inf)
    for _ in range(rounds):
        point = _solved(problem, guess)
        guess, missed = _moved(problem, guess, point)
        better = (missed < least)[:, None]
        best = Point(torch.where(better, point.h, best.h), torch.where(better, point.p, best.p))
        least = torch.minimum(missed, least)
        left = missed > 0
        if (
            not bool((left & torch.isfinite(missed)).any())
            or int(guess.held.sum(1).amax() + guess.zero.sum(1).amax()) > _LARGEST
        ):
            break
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
    slope = rows.W.adjoint(rows.fit * rows.target - fixed) - problem.linear * guess.signs
    A, has_A = _padded(guess.held)
    Z, has_Z = _padded(guess.zero)
    k, size = A.shape[1], A.shape[1] + Z.shape[1]
    G = rows.gram()
    which = (
        torch.arange(problem.N, device=W.device) if len(G) > 1 else torch.zeros(problem.N, dtype=torch.long, device=W.device)
    )
    K = W.new_zeros(problem.N, size, size)
    gram = G[which[:, None, None], A[:, :, None], A[:, None, :]]
    K[:, :k, :k] = torch.where(has_A[:, :, None] & has_A[:, None, :], gram, 0.0)
    K[:, k:, :k] = torch.where(has_Z[:, :, None] & has_A[:, None, :], W[Z[:, :, None], A[:, None, :]], 0.0)
    K[:, :k, k:] = K[:, k:, :k].mT
    free = torch.cat([has_A, has_Z], 1)
    right = torch.cat([slope.gather(1, A), -rows.b.expand_as(rows.y).gather(1, Z)], 1)
    right = torch.where(free, right, torch.zeros_like(right))[:, :, None]
    ridge = torch.cat([torch.full_like(has_A, _RIDGE, dtype=W.dtype), torch.full_like(has_Z, -_RIDGE, dtype=W.dtype)], 1)
    LU, pivots, _ = torch.linalg.lu_factor_ex(K + torch.diag_embed(torch.where(free, ridge, 1.0)))
    x = torch.zeros_like(right)
    for _ in range(1 + _REFINED):
        x = x + torch.linalg.lu_solve(LU, pivots, right - K @ x)
    found = torch.where(free, x[:, :, 0], 0.0)
    h = torch.zeros_like(guess.signs).scatter(1, A, found[:, :k])
    q = torch.zeros_like(fixed).scatter(1, Z, found[:, k:])
    return Point(h, rows.fit * rows.residual(h) + torch.where(guess.zero, q, fixed))


def _padded(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions where `mask` `(N, k)` holds, first, as many columns as the fullest row has, and which are of them."""
    most = max(1, int(mask.sum(1).amax()))
    order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return order, mask.gather(1, order)
