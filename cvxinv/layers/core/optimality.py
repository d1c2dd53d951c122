"""The equations of an optimum on its activity, and how it moves with what they are made of: implicit derivatives.

    min_h F(W h + b) + g(h)                                                                                          (P)

At an optimum with dual p let A be the unknowns at which g is smooth (h_j != 0; all where g has no kink), I the rows held at
a limit t (an off row at 0, a row at an end of its interval or at y where eps = 0), r = W h + b - y, and mu the multiplier of
the l2 ball where it is active. Then x = (h_A, p_I, mu) solves

    W_A'p + g'(h)_A = 0,    (W h + b)_I = t_I,    1/2 (sum_on w r^2 - eps^2) = 0                                      (K)

with h = 0 off A, and p = mu w r on the on rows of a ball, p = F'(W h + b) where F is smooth, p = 0 on all other rows. By the
implicit function theorem dx = -K'^-1 dK, dK the change of (K) at a fixed x, with

         [ W_A'C W_A + g''(h)_A    W_IA'    W_A'w r ]      C = diag F''(W h + b): w for squares, mu w for a ball, 0 for
    K' = [ W_IA                    0        0       ]          intervals, w (phi'^2 + phi'' (phi - y)) behind phi
         [ (w r)'W_A               0        0       ]

The optimum is regular, and x a smooth function of W, b, y, w and the numbers, where K' is invertible (the columns in A are
independent along what the rows in I leave open, the rows in I are independent on A: unique h and p) and complementarity is
strict: h_j != 0 on A and |W'p|_j below the weight of |h_j| off it, p_i != 0 on I and room on all other limits, and mu > 0 or
room within the ball. Elsewhere h has a kink, or is one of several optima, and has no derivative.

Interval problems are linear programs: C = 0, and K' is invertible at vertices only, |A| = |I|. At the end of a number's
range (lam, gamma or eps = 0) the derivative with respect to that number is the one from above.

Source: Fiacco, Introduction to Sensitivity and Stability Analysis in Nonlinear Programming (1983), theorem 3.2.2; Amos,
Kolter, OptNet (2017), for QP layers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .problem import AbstractLayerProblem, Point

_ROOM = 100_000_000  # bytes of matrices that are factorised at a time
_STRICT = 1e-9  # in units of |W| = 1 and s_y = 1: below this a multiplier, an unknown or a slack counts as 0
_SINGULAR = 1e-13  # reciprocal condition of the equilibrated K' from which on rounding may have made it invertible
_ROUNDS = 4  # Newton steps at most; a linear K takes one
_SETTLED = 1e-9  # a step this small, of x, ends them
_NEAR = 1e-3  # an activity whose equations move h by more than this share was not that of the point


class Activity(NamedTuple):
    """A `(N, n)`; I `(N, m)`, and which of its rows are at the upper end; where the l2 ball is active, `(N,)`; all bool."""

    free: Tensor
    tight: Tensor
    upper: Tensor
    ball: Tensor


class Unknowns(NamedTuple):
    """h `(N, n)`, p `(N, m)` as it counts on I, mu `(N, 1)`; or the parts of (K) that stand beside them."""

    h: Tensor
    p: Tensor
    mu: Tensor


@dataclass(frozen=True, eq=False)
class System:
    """K'^-1 of some signals: `signals` `(B,)`, the positions of A and I among unknowns and rows, `(B, k)` each, padded."""

    signals: Tensor
    A: Tensor
    I: Tensor
    inverse: Tensor
    condition: Tensor  # reciprocal, `(B,)`

    def solve(self, right: Unknowns) -> Unknowns:
        """K'^-1 `right` of these signals, 0 off A and I; `right` holds 0 there."""
        parts = right.h.gather(1, self.A), right.p.gather(1, self.I), right.mu
        x = (self.inverse @ torch.cat(parts, 1)[:, :, None])[:, :, 0]
        h, p, mu = x.split([self.A.shape[1], self.I.shape[1], 1], 1)
        # padded positions hold 0 and add nothing
        return Unknowns(
            torch.zeros_like(right.h).scatter_add(1, self.A, h), torch.zeros_like(right.p).scatter_add(1, self.I, p), mu
        )


@dataclass(frozen=True, eq=False)
class Optimum:
    """An optimum of a float64 problem: its activity, x to rounding, the systems of all signals, and where it is regular."""

    activity: Activity
    x: Unknowns
    systems: tuple[System, ...]
    regular: Tensor

    def solve(self, right: Unknowns) -> Unknowns:
        """K'^-1 `right`, 0 for signals that are not regular."""
        out = Unknowns(*(torch.zeros_like(part) for part in right))
        for system in self.systems:
            found = system.solve(Unknowns(*(part[system.signals] for part in right)))
            for part, new in zip(out, found, strict=True):
                part[system.signals] = new
        return Unknowns(*(torch.where(self.regular[:, None], part, torch.zeros_like(part)) for part in out))


def optimum(problem: AbstractLayerProblem, point: Point) -> Optimum:
    """The optimum next to `point`, a point of the float64 `problem` whose activity is identified."""
    activity, x = identify(problem, point)
    systems = []
    for block in _blocks(problem, activity):
        part = problem.take(block)
        its = Activity(*(side[block] for side in activity))
        its_x = Unknowns(*(side[block] for side in x))
        for _ in range(_ROUNDS):
            system = _system(part, its, its_x, block)
            step = system.solve(residual(part, its, its_x))
            its_x = Unknowns(*(old - torch.nan_to_num(new) for old, new in zip(its_x, step, strict=True)))
            if bool((step.h.abs().amax(1) <= _SETTLED * its_x.h.abs().amax(1)).all()):
                break
        for side, new in zip(x, its_x, strict=True):
            side[block] = new
        systems.append(system)
    return Optimum(activity, x, tuple(systems), _regular(problem, point, activity, x, systems))


def identify(problem: AbstractLayerProblem, point: Point) -> tuple[Activity, Unknowns]:
    """Which of h and W'p, and of p and the slack of each row, is 0, in units of |W| = 1 and s_y = 1; and x."""
    scaled = problem.normalised()
    small, h, p = scaled.problem, point.h / scaled.h_unit, point.p / scaled.p_unit
    v, (lo, hi) = small.rows.W(h) + small.rows.b, small.limits()
    room = _room(small, p)
    free = torch.isposinf(room) | (h.abs() > room)
    upper, lower = torch.isfinite(hi) & (p > hi - v), torch.isfinite(lo) & (-p > v - lo)
    equal = (lo == hi) & torch.isfinite(hi)
    length, slack = _ball(small, v, p)
    ball = length > slack
    x = Unknowns(torch.where(free, point.h, 0.0), point.p, _multiplier(problem, point, ball))
    return Activity(free, upper | lower | equal, upper | (equal & (p >= 0)), ball), x


def residual(problem: AbstractLayerProblem, activity: Activity, x: Unknowns) -> Unknowns:
    """(K) at x, 0 off A and I; of a live `problem` with its graph."""
    rows, (lo, hi) = problem.rows, problem.limits()
    v = rows.W(x.h) + rows.b
    p = duals(problem, activity, x, v)
    zero, nought = torch.zeros_like(v), torch.zeros_like(x.h)
    slope = torch.where(activity.free, rows.W.adjoint(p) + problem.penalty.gradient(x.h), nought)
    end = torch.where(activity.upper, hi, lo)
    held = torch.where(activity.tight, v - torch.where(activity.tight, end, zero), zero)
    beyond = torch.zeros_like(x.mu)
    if problem.form == "ball":
        eps, r = problem.number("eps")[:, None], rows.residual(x.h, v)
        square = ((rows.fit * r * r).sum(1, keepdim=True) - eps**2) / 2
        beyond = torch.where(activity.ball[:, None], square, beyond)
        # eps = 0: as it grows y moves towards W h + b along what p presses against
        held = held - torch.where(activity.tight & rows.on, eps * _pressed(problem, x.p), zero)
    return Unknowns(slope, held, beyond)


def duals(problem: AbstractLayerProblem, activity: Activity, x: Unknowns, v: Tensor) -> Tensor:
    """p `(N, m)`, from x on the rows in I and from v = W h + b elsewhere."""
    if problem.form == "ball":
        smooth = torch.where(activity.ball[:, None], x.mu * problem.rows.fit * problem.rows.residual(x.h, v), 0.0)
    else:
        smooth = _slope(problem, x.h, v)[0]
    return torch.where(activity.tight, x.p, smooth)


def _slope(problem: AbstractLayerProblem, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """F' with its graph, and F'' at v = W h + b, row by row, `(N, m)` each; 0 where F only bounds."""
    with torch.enable_grad():
        at = v if v.requires_grad else v.detach().requires_grad_()
        value = problem.misfit.value(h, at)
        if value is None:
            return torch.zeros_like(v), torch.zeros_like(v)
        (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), at, retain_graph=True, allow_unused=True)
    return slope, torch.zeros_like(v) if curvature is None else curvature.detach()


def _pressed(problem: AbstractLayerProblem, p: Tensor) -> Tensor:
    """(p / w) / |p_on / w^(1/2)|: how far each on row is from y where the length of the misfit is 1."""
    rows = problem.rows
    share = torch.where(rows.on, p.detach() / rows.weight.detach(), torch.zeros_like(p))
    length = (share * share * rows.fit.detach()).sum(1, keepdim=True).sqrt()
    return share / length.clamp(min=torch.finfo(p.dtype).tiny)


def _room(problem: AbstractLayerProblem, p: Tensor) -> Tensor:
    """By how much each h_j = 0 is worth more than the next one, `(N, n)`; inf where g has no kink at 0."""
    slope, linear = problem.rows.W.adjoint(p), problem.linear
    if problem.nonnegative:
        return slope + linear
    return torch.where(linear > 0, linear - slope.abs(), torch.inf)


def _ball(problem: AbstractLayerProblem, v: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Length of p under an l2 ball, and the room within it, `(N,)` each; -inf and inf without a ball, or one of eps = 0."""
    none = torch.full_like(v[:, 0], torch.inf)
    if problem.form != "ball":
        return -none, none
    rows, eps = problem.rows, problem.number("eps")
    r = rows.residual(v[:, :0], v)
    length = torch.where(rows.on, p * p / rows.weight, torch.zeros_like(p)).sum(1).sqrt()
    slack = eps - (rows.fit * r * r).sum(1).sqrt()
    return torch.where(eps > 0, length, -none), torch.where(eps > 0, slack, none)


def _multiplier(problem: AbstractLayerProblem, point: Point, ball: Tensor) -> Tensor:
    """mu with p = mu w r, from |p w^(-1/2)| = mu eps, `(N, 1)`; 0 where no ball is active."""
    if problem.form != "ball":
        return torch.zeros_like(point.h[:, :1])
    length, _ = _ball(problem, problem.rows.W(point.h) + problem.rows.b, point.p)
    mu = torch.where(ball, length / problem.number("eps"), 0.0)
    return torch.nan_to_num(mu, posinf=0.0, neginf=0.0)[:, None]


def _blocks(problem: AbstractLayerProblem, activity: Activity) -> list[Tensor]:
    """Positions of all signals, those of like activity together, so that padding is little and memory bounded."""
    counts = activity.free.sum(1), activity.tight.sum(1)
    order = torch.argsort(counts[0] + counts[1], stable=True)
    blocks, start, most = [], 0, problem.N
    while start < most:
        a, i = (int(count[order[start:]].max()) for count in counts)
        each = 8 * ((a + problem.rows.m) * (a + 1) + 4 * (a + i + 1) ** 2)
        stop = min(most, start + max(1, _ROOM // each))
        blocks.append(order[start:stop])
        start = stop
    return blocks


def _positions(which: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of what is True in each row, padded to one length, and which of them are real, `(B, k)` each."""
    k = int(which.sum(1).max())
    there = torch.argsort((~which).to(torch.int8), dim=1, stable=True)[:, :k]
    return there, which.gather(1, there)


def _system(problem: AbstractLayerProblem, activity: Activity, x: Unknowns, signals: Tensor) -> System:
    """K'^-1 at x, with ones on the diagonal where positions are padded and where no ball is active."""
    rows = problem.rows
    (A, real), (I, held) = _positions(activity.free), _positions(activity.tight)
    v = rows.W(x.h) + rows.b
    M = rows.W.matrix()
    W_A = torch.where(real[:, :, None], M.T[A], 0.0)  # (B, a, m)
    curvature = rows.fit * x.mu if problem.form == "ball" else _slope(problem, x.h, v)[1]
    curvature = torch.where(activity.tight, 0.0, curvature)
    H = (W_A * curvature[:, None]) @ W_A.mT + torch.diag_embed(problem.quadratic.expand_as(x.h).gather(1, A))
    W_AI = torch.where(held[:, None], W_A.gather(2, I[:, None].expand(-1, A.shape[1], -1)), 0.0)
    r = torch.where(activity.ball[:, None], rows.fit * rows.residual(x.h, v), 0.0)
    edge = W_A @ r[:, :, None]
    top = torch.cat([H, W_AI, edge], 2)
    below = torch.cat([W_AI, edge], 2).mT
    zero = torch.zeros(*below.shape[:2], below.shape[1], dtype=H.dtype, device=H.device)
    K = torch.cat([top, torch.cat([below, zero], 2)], 1)
    taken = torch.cat([real, held, activity.ball[:, None]], 1)
    K = torch.where(taken[:, :, None] & taken[:, None], K, torch.diag_embed((~taken).to(K)))
    return System(signals, torch.where(real, A, 0), torch.where(held, I, 0), *_inverse(K, taken))


def _inverse(K: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """K^-1, 0 where nothing is `taken`, and its reciprocal condition, both sides of K brought to one size."""
    size = K.abs().amax(2)
    d = torch.where(size > 0, size, torch.ones_like(size)).rsqrt()
    even = d[:, :, None] * K * d[:, None]
    inverse, info = torch.linalg.inv_ex(even)
    norms = (side.abs().sum(1).amax(1) for side in (even, inverse))
    condition = torch.where(info == 0, 1 / (next(norms) * next(norms)), 0.0)
    inverse = torch.where((taken[:, :, None] & taken[:, None]) & (condition > 0)[:, None, None], inverse, 0.0)
    return d[:, :, None] * inverse * d[:, None], torch.nan_to_num(condition)


def _regular(problem: AbstractLayerProblem, point: Point, activity: Activity, x: Unknowns, systems: list[System]) -> Tensor:
    """Where K' is invertible, x solves (K) next to the point, and complementarity is strict, bool `(N,)`."""
    condition = torch.zeros_like(x.mu[:, 0])
    for system in systems:
        condition[system.signals] = system.condition
    scaled = problem.normalised()
    unit = scaled.h_unit.expand_as(x.h)
    moved = ((x.h - point.h) / unit).abs().amax(1)
    near = moved <= _NEAR * (1 + (point.h / unit).abs().amax(1))
    v = problem.rows.W(x.h) + problem.rows.b
    p = duals(problem, activity, x, v).detach()
    least = _strictness(scaled.problem, activity, x.h / scaled.h_unit, p / scaled.p_unit)
    doubt = torch.finfo(v.dtype).eps / condition.clamp(min=_SINGULAR)
    return (condition > _SINGULAR) & near & (least > _STRICT + doubt) & ~_kinked(problem, x.h, v)


def _strictness(problem: AbstractLayerProblem, activity: Activity, h: Tensor, p: Tensor) -> Tensor:
    """The least of what must not be 0, `(N,)`, below 0 where a sign is wrong; in units of |W| = 1 and s_y = 1."""
    v, (lo, hi), room = problem.rows.W(h) + problem.rows.b, problem.limits(), _room(problem, p)
    size = h if problem.nonnegative else h.abs()
    least = torch.where(torch.isposinf(room), torch.inf, torch.where(activity.free, size, room)).amin(1)
    pressing = torch.where(activity.upper, p, -p)
    of_row = torch.where(activity.tight, pressing, torch.minimum(hi - v, v - lo))
    least = torch.minimum(least, torch.where(lo == hi, torch.inf, of_row).amin(1))
    length, slack = _ball(problem, v, p)
    return torch.minimum(least, torch.where(activity.ball, length, slack))


def _kinked(problem: AbstractLayerProblem, h: Tensor, v: Tensor) -> Tensor:
    """Where a row's misfit has a kink at v, as a piecewise linear activation brings it along, bool `(N,)`."""
    if problem.form != "curved":
        return torch.zeros_like(v[:, 0], dtype=torch.bool)
    near = _STRICT * (1 + v.abs())
    above, below = (_slope(problem, h, at)[1] for at in (v + near, v - near))
    # a smooth curvature changes by a share of `near`
    return ((above - below).abs() > 1e-3 * problem.rows.fit * (1 + above.abs())).any(1)
