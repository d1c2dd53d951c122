"""Lower bounds from any p, however bad: what is done to p until (D) surely holds, in rounded arithmetic.

`scaled`: s p with the best s in [0, the largest that lacks nothing], as (D) is star-shaped about 0 wherever lam > 0; of a
misfit that only bounds it is homogeneous, and the best s is the largest. `as_given`: where gamma > 0 every p is feasible, at
the price of g*(-W'p). `translated`: where h >= 0 costs nothing, p + a u with a lift u (`lifts`) and the a that repairs the
worst entry. `by_multipliers`: for g = gamma/2 |h|^2 of any sign, (D) maximised over p_on is the least Lagrangian for the
multipliers mu = p_off >= 0 alone,

    D(mu) = min_h 1/2 sum_on w (W h + b - y)^2 + gamma/2 |h|^2 + mu'(W h + b)_off,   h(mu) = H^-1 g(mu),
    H = W_on' w W_on + gamma I,   g(mu) = W_on' w (y - b) - W_off'mu,

which needs H > 0, holds for gamma = 0 too, and is never below (D) at (p_on, mu). It is read off at the computed h(mu), less
r'H^-1 r for the gradient r that rounding left.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .factors import spd_solve
from .lifts import column_lengths
from .misfits import Earned
from .proofs import Lower, at_length_one, proved, rounding

if TYPE_CHECKING:
    from .problem import AbstractLayerProblem

LARGEST = 2048  # unknowns beyond which nothing is factorised
_FAR = 1e-3  # of |p| |W|: a p that lacks more costs more to repair than that saves


def lower_bound(problem: "AbstractLayerProblem", p: Tensor, enough: Tensor | None) -> Lower:
    """The best of them; costly ones only for signals whose cheap bound does not reach `enough` `(N,)`."""
    p, g = problem.misfit.clipped(p), problem.penalty
    best = scaled(problem, p) if g.lam is not None else as_given(problem, p)
    if g.lam is not None and g.gamma is not None:
        best.improve(torch.arange(problem.N, device=p.device), as_given(problem, p))
    if problem.form not in ("quadratic", "excess") or problem.n > LARGEST:
        return best
    if problem.nonnegative:
        short = _worth_lifting(problem, p, best, enough)
        if len(short):
            best.improve(short, translated(problem, short, p[short]))
    elif g.lam is None and problem.form == "quadratic":
        left = torch.ones_like(best.bound, dtype=torch.bool) if enough is None else best.bound < enough
        if bool(left.any()):
            part = problem if bool(left.all()) else problem.take(left)
            best.improve(left.nonzero()[:, 0], by_multipliers(part, p[left]))
    return best


def _rounded(problem: "AbstractLayerProblem", p: Tensor) -> tuple[Tensor, Tensor]:
    """W'p and what rounding may have done to it, `(N, n)` each."""
    W = problem.rows.W
    return W.adjoint(p), W.magnitude().adjoint(p.abs()) * rounding(problem.rows.m, p.dtype)


def slope_of(problem: "AbstractLayerProblem", p: Tensor) -> Tensor:
    """What of W'p the weights have to bear, with its rounding added, `(N, n)`."""
    return problem.penalty.slope(*_rounded(problem, p))


def scaled(problem: "AbstractLayerProblem", p: Tensor) -> Lower:
    """(D) at s p; 0 for signals with lam = 0 that lack anything."""
    if problem.misfit.homogeneous and problem.penalty.gamma is None:
        p = at_length_one(p)
    earned = problem.misfit.earned(p)
    top = torch.minimum(problem.penalty.reach(slope_of(problem, p)), problem.misfit.reach(p))
    return _along(p, _best_scale(earned, top), earned)


def _along(p: Tensor, s: Tensor, earned: Earned) -> Lower:
    """b'p - F*(p) at s p, less what rounding may have added; 0 where that is better or it overflows."""
    if earned.square is None:
        return proved(s * earned.linear, s * earned.doubt, s[:, None] * p)
    square = s * s * earned.square
    doubt = s * earned.doubt + square * rounding(p.shape[1], p.dtype)
    return proved(s * earned.linear - square / 2, doubt, s[:, None] * p)


def _best_scale(earned: Earned, top: Tensor) -> Tensor:
    """The s in [0, top] with the largest s linear - s^2 square / 2."""
    linear, square = earned.linear, earned.square
    # without curvature the best s is an end of the interval; an infinite end proves infeasibility, not a bound
    end = torch.where((linear > 0) & torch.isfinite(top), top, 0.0)
    if square is None:
        return end
    best = linear / square.clamp(min=torch.finfo(square.dtype).tiny)
    return torch.minimum(torch.where(square > 0, best, end).clamp(min=0), top)


def as_given(problem: "AbstractLayerProblem", p: Tensor) -> Lower:
    """(D) at p as it is, less what rounding may have added; 0 where gamma = 0."""
    g, earned = problem.penalty, problem.misfit.earned(p)
    assert g.gamma is not None
    Wp, more = _rounded(problem, p)
    prior, most = g.lacking(g.slope(Wp)), g.lacking(g.slope(Wp, more))
    square = torch.zeros_like(prior) if earned.square is None else earned.square / 2
    u = rounding(max(problem.rows.m, problem.n), p.dtype)
    doubt = (most - prior) + u * (square + most) + earned.doubt
    value = earned.linear - square - prior
    return proved(torch.where(g.gamma > 0, value, torch.zeros_like(value)), torch.nan_to_num(doubt), p)


def _worth_lifting(problem: "AbstractLayerProblem", p: Tensor, best: Lower, enough: Tensor | None) -> Tensor:
    """Signals to which h costs nothing and whose p is near enough to feasible, positions."""
    short = problem.penalty.nothing
    if enough is not None and bool(short.any()):
        # far from feasible a translation costs more than it saves, and finding one is not cheap
        W = problem.rows.W
        short = short & (best.bound < enough) & ((-W.adjoint(p)).amax(1) <= _FAR * p.norm(dim=1) * W.norm())
    return short.nonzero()[:, 0]


def translated(problem: "AbstractLayerProblem", index: Tensor, p: Tensor) -> Lower:
    """(D) at p + a u for the signals at `index`, positions; 0 where there is no such u."""
    u, usable = problem.lifts.at(index, problem.rows)
    part = problem.take(index)
    length = column_lengths(part.rows).clamp(min=torch.finfo(p.dtype).tiny)
    linear, a = part.linear, torch.zeros_like(p[:, 0])
    moved = p
    for _ in range(3):  # the second and third pass absorb the rounding of the first
        short = ((slope_of(part, moved) - linear) / length).amax(1).clamp(min=0)
        a = a + 2 * short
        moved = p + a[:, None] * u
    feasible = usable & ((linear - slope_of(part, moved)).amin(1) >= 0)
    moved = torch.where(feasible[:, None], moved, torch.zeros_like(moved))
    earned = part.misfit.earned(moved)
    # shrinking keeps (D) feasible
    return _along(moved, _best_scale(earned, part.misfit.reach(moved).clamp(max=1)), earned)


@dataclass(frozen=True, eq=False)
class Factor:
    """Cholesky factors `(N, n, n)`, or `(1, n, n)` for all, of H less what rounding may have added to it, and where that
    proves H positive definite, bool `(N,)`."""

    L: Tensor
    definite: Tensor

    @classmethod
    def of(cls, problem: "AbstractLayerProblem") -> "Factor":
        """The Gram matrix and its factor are off by (m + 2 n + 3) u trace(H) at most: where H less four times that has a
        factor, H is at least as large as what was factorised, and H^-1 no larger than its inverse."""
        H, n, m, gamma = problem.rows.gram(), problem.n, problem.rows.m, problem.quadratic
        gamma = gamma if len(H) > 1 or bool((gamma != gamma[0]).any()) else gamma[:1]
        H = H + torch.diag_embed(gamma.expand(max(len(H), len(gamma)), n))
        lost = 4 * rounding(m + 2 * n, H.dtype) * torch.diagonal(H, dim1=-2, dim2=-1).sum(-1)
        L, info = torch.linalg.cholesky_ex(H - lost[:, None, None] * torch.eye(n, dtype=H.dtype, device=H.device))
        return cls(L, (info == 0).expand(problem.N))

    def take(self, index: Tensor) -> "Factor":
        """Those of the signals at `index`."""
        return Factor(self.L if len(self.L) == 1 else self.L[index], self.definite[index])


def by_multipliers(problem: "AbstractLayerProblem", p: Tensor) -> Lower:
    """D(mu) at mu = p_off, less what rounding may have added; 0 where H is singular to rounding."""
    rows, factor = problem.rows, problem.factor
    mu = torch.where(rows.off, p, torch.zeros_like(p))
    h = spd_solve(factor.L, rows.W.adjoint(rows.fit * rows.target - mu))
    for _ in range(2):
        h = h - spd_solve(factor.L, _lagrangian_slope(problem, h, mu))
    left = _lagrangian_slope(problem, h, mu)
    value, doubt = _lagrangian_floor(problem, h, mu)
    doubt = doubt + 2 * (left * spd_solve(factor.L, left)).sum(1).abs()
    value = torch.where(factor.definite & torch.isfinite(doubt), value, torch.zeros_like(value))
    return proved(value, torch.nan_to_num(doubt), rows.fit * rows.residual(h) + mu)


def _lagrangian_floor(problem: "AbstractLayerProblem", h: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """The Lagrangian at (h, mu), and its rounding error."""
    rows = problem.rows
    v = rows.W(h) + rows.b
    pushed = torch.where(rows.off, mu * v, torch.zeros_like(v))
    objective = problem.objective(h, v)
    doubt = rounding(rows.m + rows.n, mu.dtype) * (objective + pushed.abs().sum(1))
    # v and the residual carry an error of u |W||h|, which their multipliers pass on
    reach = rounding(rows.n, mu.dtype) * (rows.W.magnitude()(h.abs()) + rows.b.abs() + rows.target.abs())
    doubt = doubt + (reach * (mu + rows.fit * (rows.residual(h, v).abs() + reach))).sum(1)
    return objective + pushed.sum(1), doubt


def _lagrangian_slope(problem: "AbstractLayerProblem", h: Tensor, mu: Tensor) -> Tensor:
    """Gradient of the Lagrangian in h."""
    rows = problem.rows
    return rows.W.adjoint(rows.fit * rows.residual(h) + mu) + problem.quadratic * h


def why_weak(problem: "AbstractLayerProblem") -> list[str]:
    """For each signal, why no better bound than 0 may be known where h costs nothing, or an empty string.

    The weight that is 0 is named where the problem has one: a fit has none that could be raised.
    """
    g, nothing = problem.penalty, problem.penalty.nothing
    given = f"{g.names} = 0 and " if problem.numbers else ""
    if problem.n > LARGEST:
        text, weak = f"W_on was not factorised (over {LARGEST} columns): no bound above 0", nothing
    elif problem.nonnegative:
        asked, weak = nothing.nonzero()[:, 0], torch.zeros_like(nothing)
        if len(asked):
            weak[asked] = ~problem.lifts.at(asked, problem.rows)[1]
        text = "no rows lift every column: no bound above 0 holds for every h"
    elif g.lam is None:
        text = "W_on lacks full column rank to rounding: no bound above 0 holds for every h"
        weak = nothing & ~problem.factor.definite
    else:
        text, weak = "no bound above 0 holds for every h unless W_on has full column rank", nothing
    return [given + text if is_weak else "" for is_weak in weak.tolist()]
