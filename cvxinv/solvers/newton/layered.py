"""The polish of problems whose rows are partly priced by their lengths: the exact point of the right activity.

First the equations of the point's activity are solved (`layered_equations`), and what does not fit its set changes it,
all at once (a primal-dual active set): h_j of the wrong sign leaves A and j with |W'p|_j > lam enters it, rows with |q_i| >
c_i leave Z and rows whose v_i has the wrong sign enter it. From near the optimum that settles in a few rounds, from farther
it wanders. Who has not settled is brought nearer by the method of multipliers on u = h and v = W h + b, whose h is found by
Newton steps:

    phi(h) = 1/2 |W_on h + b - y|_w^2 + sum_i e(v_i + q_i / r; c_i) + sum_j e(h_j + s_j / r; lam),
    e(a; c) = min_x c |x| + r/2 (x - a)^2,     q'_i = q_i + r v_i within +- c_i,     s'_j = s_j + r h_j within +- lam,

    grad phi = W'(w (v - y) + q') + s',        Hessian G + r W_Z'W_Z + r I_N,

Z and N being the rows and unknowns that are not at their limit: phi is convex, once differentiable and quadratic in pieces,
so that Newton steps with a line search go down to its minimiser from anywhere. Where grad phi is small, q', s' become q, s,
r grows, and the activity of u = h + (s - s') / r, q' is tried. With g_i >= 0 limits are upper ones alone. A step costs a
factorisation per signal, so it is taken where many are left of a large problem, or who is left is near already.

Source: the method of multipliers with semismooth Newton steps as in Li, Sun, Toh, "A highly efficient semismooth Newton
augmented Lagrangian method for solving Lasso problems" (2018); here with two families of lengths.
"""

import numpy as np
import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.rows import weighted_rows
from .layered_equations import NUMBERS, Equations, moved, solved

_LARGEST = 1024  # unknowns: a factorisation of up to that size per signal
_WORTH = 2_000_000  # products in one with W for those left, from which Newton steps cost less than going on without
_STEPS = 20  # Newton steps of one call
_FIRST, _GROWS, _MOST = 10.0, 2.0, 1e5  # r in normalised units: at first, by how much it grows, and its end
_SMALL = 1e-2  # of |W'w(y - b)|: a gradient from which the activity is worth a try
_NEAR = 0.3  # of that: a gradient from which a few steps do
_RIDGE = 1e-6  # of normalised units, to unknowns without any curvature
_DUST = 1e-14  # of normalised units: what the rounding of u leaves in the place of 0
_HALVINGS, _SLOPE = 12, 1e-4  # of the line search


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 6) -> Point:
    """The point that the activity of `point` stands for; of problems with too many unknowns, the point itself."""
    if problem.n > _LARGEST:
        return point
    h, p = point.h.clone(), point.p.clone()
    for block in torch.arange(problem.N, device=h.device).split(max(1, NUMBERS // problem.n**2)):
        part = Equations.of(problem if len(block) == problem.N else problem.take(block))
        found = _polished(part, Point(h[block], problem.misfit.clipped(p)[block]), rounds)
        sound = torch.isfinite(found.h).all(1) & torch.isfinite(found.p).all(1)
        h[block[sound]], p[block[sound]] = found.h[sound], found.p[sound]
    return Point(h, p)


def _polished(problem: Equations, point: Point, rounds: int) -> Point:
    """The points of activities that fit; of who finds none, where the Newton steps came to, if they are worth it."""
    found, left = _settled(problem, point, rounds)
    if len(left):
        descent = _Descent(problem.take(left), Point(point.h[left], point.p[left]))
        if len(left) * problem.W.numel() < _WORTH:
            near = (descent.slope()[2].norm(dim=1) <= _NEAR * descent.aim).nonzero()[:, 0]
            descent.keep(near)
            left = left[near]
    if len(left):
        nearer = descent.run(_STEPS)
        found.h[left], found.p[left] = nearer.h, nearer.p
    return found


def _settled(problem: Equations, point: Point, rounds: int) -> tuple[Point, Tensor]:
    """The points of activities that fit, the given ones where rounds end before, and the positions of these signals."""
    best, left, part = Point(point.h.clone(), point.p.clone()), torch.arange(problem.N, device=point.h.device), problem
    guess = problem.activity(*point)
    for _ in range(rounds):
        new = solved(part, guess)
        guess, missed = moved(part, guess, new)
        fits = missed == 0
        best.h[left[fits]], best.p[left[fits]] = new.h[fits], new.p[fits]
        going = (~fits & torch.isfinite(missed)).nonzero()[:, 0]
        lost = left[~torch.isfinite(missed)]
        if len(going) == 0:
            return best, lost
        if len(going) < len(left):
            left, part, guess = left[going], part.take(going), guess.take(going)
    return best, left


class _Descent:
    """The method of multipliers of the module on a batch, each signal with its own q, s and r."""

    kept = ("h", "v", "q", "s", "r")

    def __init__(self, problem: Equations, point: Point):
        self.problem, h = problem, torch.nan_to_num(point.h)
        p = torch.nan_to_num(point.p)
        self.h, self.v = h, problem.rows_of(h)
        self.q = torch.where(problem.priced_rows, problem.clipped(p), 0.0)
        self.s = self._within(-p @ problem.W)
        self.r = torch.full_like(h[:, :1], _FIRST)
        self.aim = _SMALL * problem.drawn.norm(dim=1)

    def run(self, steps: int) -> Point:
        """The exact points where an activity fits, else the last ones."""
        left = torch.arange(self.problem.N, device=self.h.device)
        found = Point(torch.empty_like(self.h), torch.empty_like(self.v))
        for k in range(steps + 1):
            q, s, slope = self.slope()
            h, p = self._point(q, s)
            found.h[left], found.p[left] = h, p
            near = (slope.norm(dim=1) <= self.aim).nonzero()[:, 0]
            if len(near):
                part = self.problem if len(near) == self.problem.N else self.problem.take(near)
                exact, open_ = _settled(part, Point(h[near], q[near]), 2)
                settled = torch.ones(len(near), dtype=torch.bool, device=h.device)
                settled[open_] = False
                there = left[near[settled]]
                found.h[there], found.p[there] = exact.h[settled], exact.p[settled]
                self._multiply(near, q, s)
                going = torch.ones(len(left), dtype=torch.bool, device=h.device)
                going[near[settled]] = False
                if not bool(going.any()):
                    break
                if len(near[settled]):
                    self.keep(going.nonzero()[:, 0])
                    left = left[going]
                q, s, slope = self.slope()
            if k < steps:
                self._step(q, s, slope)
        return found

    def _within(self, s: Tensor) -> Tensor:
        lam = self.problem.linear
        return s.minimum(lam) if self.problem.nonnegative else s.minimum(lam).maximum(-lam)

    def slope(self) -> tuple[Tensor, Tensor, Tensor]:
        """q', s' and grad phi."""
        problem = self.problem
        q = torch.where(problem.priced_rows, problem.clipped(self.q + self.r * self.v), 0.0)
        s = self._within(self.s + self.r * self.h)
        return q, s, (problem.fit * (self.v - problem.b - problem.target) + q) @ problem.W + s

    def _point(self, q: Tensor, s: Tensor) -> Point:
        """u and p."""
        problem, u = self.problem, self.h + (self.s - s) / self.r
        u = torch.where(u.abs() <= _DUST, 0.0, u)
        return Point(u, problem.fit * (problem.rows_of(u) - problem.b - problem.target) + q)

    def _multiply(self, near: Tensor, q: Tensor, s: Tensor) -> None:
        self.q[near], self.s[near] = q[near], s[near]
        self.r[near] = (_GROWS * self.r[near]).clamp(max=_MOST)

    def keep(self, index: Tensor) -> None:
        """Go on with the signals at `index` only, positions."""
        self.problem, self.aim = self.problem.take(index), self.aim[index]
        for name in self.kept:
            setattr(self, name, getattr(self, name)[index])

    def _value(self, h: Tensor, v: Tensor) -> Tensor:
        """phi, `(N,)`."""
        problem, r = self.problem, self.r
        q = torch.where(problem.priced_rows, problem.clipped(self.q + r * v), 0.0)
        s = self._within(self.s + r * h)
        squares = (problem.fit * (v - problem.b - problem.target).square()).sum(1) / 2
        rows = torch.where(problem.priced_rows, problem.price * (v + (self.q - q) / r).abs() + q * q / (2 * r), 0.0).sum(1)
        return squares + rows + (problem.linear * (h + (self.s - s) / r).abs() + s * s / (2 * r)).sum(1)

    def _step(self, q: Tensor, s: Tensor, slope: Tensor) -> None:
        """One Newton step with a line search."""
        problem = self.problem
        rows = problem.priced_rows & (q == self.q + self.r * self.v)
        unknowns = s == self.s + self.r * self.h
        H = curvature(problem, self.r * rows, torch.where(unknowns, self.r, _RIDGE))
        d = -torch.cholesky_solve(slope[:, :, None], torch.linalg.cholesky_ex(H, upper=True).L, upper=True)[:, :, 0]
        d = torch.where(torch.isfinite(d).all(1, keepdim=True), d, -slope)
        dv, t = d @ problem.W.T, torch.ones_like(self.r)
        before, falls = self._value(self.h, self.v), (slope * d).sum(1)
        for _ in range(_HALVINGS):
            most = before + _SLOPE * t[:, 0] * falls + 1e-14 * before.abs()
            short = self._value(self.h + t * d, self.v + t * dv) > most
            if not bool(short.any()):
                break
            t = torch.where(short[:, None], t / 2, t)
        self.h, self.v = self.h + t * d, self.v + t * dv


def curvature(problem: Equations, weight: Tensor, diagonal: Tensor) -> Tensor:
    """G + W' diag(weight) W + diag(diagonal), `(N, n, n)`, of which the upper triangles count."""
    from scipy.linalg.blas import dsyrk

    n, W = problem.W.shape[1], problem.W
    H = problem.G.expand(problem.N, n, n).clone()
    H.diagonal(dim1=1, dim2=2).add_(diagonal)
    if W.device.type != "cpu" or W.dtype != torch.float64:
        return H + torch.stack([(w[:, None] * W).T @ W for w in weight])
    M = W.numpy()
    for one, w in zip(H.numpy(), weight.numpy(), strict=True):
        if np.any(w):
            dsyrk(1.0, weighted_rows(M, w).T, 1.0, one.T, lower=1, overwrite_c=1)  # by columns: the upper triangle
    return H
