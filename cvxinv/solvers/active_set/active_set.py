"""Active-set polish: solve the optimality conditions exactly on a guess of what is active, and revise the guess.

With A = the unknowns that are free (the others are 0) and I = the off rows at their bound, the conditions of

    min 1/2 sum_on w (W h + b - y)^2 + lam 1'h + gamma/2 |h|^2,   (W h + b)_off <= 0,   [h >= 0]

are linear: (W'w W + gamma)_AA h_A + W_IA'mu = (W'w (y - b))_A - lam,  W_IA h_A = -b_I. The next guess is
A = {h - nu > 0}, I = {mu + (W h + b) > 0} with nu the reduced cost (a semismooth Newton step; where it repeats, the
point is optimal). `1 (W h + b)_I` is added to the first equation, which changes no solution and keeps the matrix definite
when only the rows of I determine h. Each solve is refined against W itself, so the squared condition of the normal
equations costs no digits.

Works in float64 on a problem with |W| = 1 and s_y = 1. Finds points; `certify` decides whether they are better.
Source: `sparse` note 5.1, 5.4, 5.5 (polish); the revision rule is Hintermueller, Ito, Kunisch (2002).
"""

import numpy as np
import torch
from torch import Tensor

from ...layers.core.factors import spd_factor, spd_solve
from ...layers.core.problem import AbstractLayerProblem, Point
from ...layers.core.rows import weighted_gram
from ..pairs import apart, pairs_of

_REFINEMENTS = 3
_SIGNS = 1e-12  # in units of s_y, 100 times below what a residual may be (1e-10 s_y)
_RANK = 1e-11  # singular values below this share of the largest are 0
_NUDGE = 1e-13  # added to the diagonal where W_A has no full column rank; refinement takes its bias away


def polish(problem: AbstractLayerProblem, point: Point, rounds: int = 6) -> Point:
    """The best point that `rounds` guesses of the active set give, started from the activity of `point`.

    A signal leaves as soon as its signs hold to `_SIGNS`: on realizable data, where unknowns are 0 and free at once,
    further guesses would only follow rounding.
    """
    best = Point(point.h.clone(), torch.nan_to_num(point.p, neginf=0.0))
    best_merit = torch.full((problem.N,), torch.inf, dtype=best.h.dtype, device=best.h.device)
    free, tight = activity(problem, point)
    left, part = torch.arange(problem.N, device=best.h.device), problem
    start = torch.zeros_like(best.h) if _is_least_squares_start(point) else point.h
    for _ in range(rounds):
        trial = solve_on(part, free, tight, start)
        merit = _merit(part, trial, free, tight)
        better = merit < best_merit[left]
        best.h[left[better]], best.p[left[better]] = trial.h[better], trial.p[better]
        best_merit[left] = torch.minimum(merit, best_merit[left])
        new_free, new_tight = activity(part, trial)
        moved = (new_free != free).any(1) | (new_tight != tight).any(1)
        open_ = moved & (merit > _SIGNS)
        if not open_.any():
            break
        if not open_.all():
            left, part, start = left[open_], part.take(open_), start[open_]
        free, tight = new_free[open_], new_tight[open_]
    p = apart(pairs_of(problem.rows), best.p)
    return Point(best.h.clamp(min=0) if problem.nonnegative else best.h, p)


def least_squares_start(problem: AbstractLayerProblem) -> Point:
    """The activity that frees every unknown and leaves every off row alone: the least-squares point, if it is one."""
    h = torch.ones(problem.N, problem.n, dtype=problem.rows.y.dtype, device=problem.rows.y.device)
    return Point(h, torch.full_like(problem.rows.y, -torch.inf))


def crowded(problem: AbstractLayerProblem, point: Point) -> Tensor:
    """Signals that have as many rows at their bound as free unknowns, or more: the rows of a guess depend on each other."""
    rows = problem.rows
    free = point.h > _reduced_cost(problem, point) if problem.nonnegative else torch.ones_like(point.h, dtype=torch.bool)
    tight = rows.off & (point.p + rows.W(point.h) + rows.b > 0)
    return tight.any(1) & (tight.sum(1) >= free.sum(1))


def on_face(problem: AbstractLayerProblem, point: Point) -> Point:
    """The best point with all the rows of the guess at their bound, and multipliers that suit it; signal by signal.

    Where the off rows leave h no room on some side they hold more rows than unknowns at their bound, and no choice of as
    many as there are unknowns need have multipliers >= 0. h is brought onto all of them, by their singular values, and
    moved along what they leave open; then multipliers are looked for among all of them.
    """
    rows, h = problem.rows, point.h.clone()
    W, p = rows.W.matrix().cpu().numpy(), torch.nan_to_num(point.p, posinf=0.0, neginf=0.0)
    free = h > _reduced_cost(problem, Point(h, p)) if problem.nonnegative else torch.ones_like(h, dtype=torch.bool)
    tight = rows.off & (p + rows.W(h) + rows.b > 0)
    b, target, fit = rows.b.expand_as(rows.y).cpu().numpy(), rows.target.cpu().numpy(), rows.fit.cpu().numpy()
    linear, quadratic = problem.linear.cpu().numpy(), problem.quadratic.cpu().numpy()
    for i in range(problem.N):
        A, I = free[i].cpu().numpy(), tight[i].cpu().numpy()
        if not A.any():
            h[i] = 0.0
            continue
        if not I.any():
            continue
        on = fit[i] > 0
        x = _on_rows(
            h[i].cpu().numpy()[A], W[np.ix_(I, A)], -b[i, I], np.sqrt(fit[i, on])[:, None] * W[np.ix_(on, A)],
            np.sqrt(fit[i, on]) * target[i, on], linear[i, 0], quadratic[i, 0],
        )  # fmt: skip
        h[i] = 0.0
        h[i, free[i]] = torch.as_tensor(x).to(h)
    h = torch.nan_to_num(h.clamp(min=0) if problem.nonnegative else h, posinf=0.0, neginf=0.0)
    return Point(h, problem.complete(h))


def _on_rows(
    x: np.ndarray, B: np.ndarray, t: np.ndarray, M: np.ndarray, y: np.ndarray, linear: float, quadratic: float
) -> np.ndarray:
    """argmin 1/2 |M x - y|^2 + linear 1'x + quadratic / 2 |x|^2 over B x = t, near `x` where that leaves it open."""
    try:
        U, S, V = np.linalg.svd(B)
    except np.linalg.LinAlgError:
        return x
    rank = int((S > _RANK * S.max(initial=0.0)).sum())
    null = V[rank:].T
    H = null.T @ (M.T @ (M @ null)) + quadratic * np.eye(null.shape[1])
    for _ in range(_REFINEMENTS):
        x = x + V[:rank].T @ ((U[:, :rank].T @ (t - B @ x)) / S[:rank])
        if null.shape[1]:
            slope = null.T @ (M.T @ (M @ x - y) + linear + quadratic * x)
            x = x - null @ np.linalg.lstsq(H, slope, rcond=_RANK)[0]
    return x


def _is_least_squares_start(point: Point) -> bool:
    return bool(torch.isneginf(point.p).all())


def activity(problem: AbstractLayerProblem, point: Point) -> tuple[Tensor, Tensor]:
    """Which unknowns `(N, n)` the point leaves free, and which off rows `(N, m)` it holds at their bound."""
    rows, pairs = problem.rows, pairs_of(problem.rows)
    if _is_least_squares_start(point):
        return torch.ones_like(point.h, dtype=torch.bool), torch.zeros_like(rows.on) if pairs is None else pairs.equal
    if pairs is None:
        tight = _at_most(rows.off, point.p + rows.W(point.h) + rows.b, problem.n)
    else:
        push = pairs.together(point.p) + rows.W(point.h) + rows.b
        tight = _at_most(pairs.off, push.masked_fill(pairs.equal, torch.inf), problem.n)
    if not problem.nonnegative:
        return torch.ones_like(point.h, dtype=torch.bool), tight
    return point.h > _reduced_cost(problem, point), tight


def _at_most(rows: Tensor, push: Tensor, n: int) -> Tensor:
    """The rows with push > 0, or the n hardest pushed of them: more than n can only be met by chance."""
    tight = rows & (push > 0)
    if int(tight.sum(1).max()) <= n:
        return tight
    ranked = torch.where(tight, push, torch.zeros_like(push))
    least = ranked.topk(n, dim=1).values[:, -1:]
    return tight & (ranked >= least)


def _reduced_cost(problem: AbstractLayerProblem, point: Point) -> Tensor:
    return problem.rows.W.adjoint(point.p) + problem.linear + problem.quadratic * point.h


def _merit(problem: AbstractLayerProblem, point: Point, free: Tensor, tight: Tensor) -> Tensor:
    """Largest sign condition that the point breaks, `(N,)`; infinite where it is not finite."""
    rows, pairs = problem.rows, pairs_of(problem.rows)
    broken = torch.where(rows.off, (rows.W(point.h) + rows.b).clamp(min=0), 0.0).amax(1)
    signed = tight if pairs is None else tight & ~pairs.equal
    broken = torch.maximum(broken, torch.where(signed, (-point.p).clamp(min=0), 0.0).amax(1))
    if problem.nonnegative:
        nu = _reduced_cost(problem, point)
        broken = torch.maximum(broken, torch.where(free, (-point.h).clamp(min=0), (-nu).clamp(min=0)).amax(1))
    return torch.nan_to_num(broken, nan=torch.inf)


class _Conditions:
    """The linear conditions on one guess (A, I), factorised."""

    def __init__(self, problem: AbstractLayerProblem, free: Tensor, tight: Tensor):
        self.problem, self.free, self.tight = problem, free, tight
        rows = problem.rows
        H = weighted_gram(rows.W, rows.fit + tight.to(rows.y.dtype))
        gamma = problem.quadratic
        shared = len(H) == 1 and bool(free.all()) and bool((gamma == gamma[0]).all())
        if shared:
            gamma = gamma[:1]
        else:
            H = H * (free[:, :, None] & free[:, None, :])
        diagonal = torch.diagonal(H, dim1=-2, dim2=-1)
        diagonal += gamma + (0 if shared else (~free).to(H.dtype))
        self.L, definite = spd_factor(H)
        self.weak = (~definite).expand(problem.N)
        if not definite.all():
            weak = ~definite
            eye = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
            self.L[weak] = torch.linalg.cholesky_ex(H[weak] + _NUDGE * H.shape[-1] * eye)[0]
        self._gather()

    def _gather(self) -> None:
        """Rows of I, padded to the largest I of the batch, and the factor of their Schur complement."""
        tight, M = self.tight, self.problem.rows.W.matrix()
        count = tight.sum(1)
        k = int(count.max())
        self.k = k
        if k == 0:
            return
        order = torch.argsort((~tight).to(torch.int8), dim=1, stable=True)[:, :k]
        self.index = order
        self.valid = torch.arange(k, device=tight.device) < count[:, None]
        self.B = M[order] * (self.valid[:, :, None] & self.free[:, None, :])
        self.HB = torch.cholesky_solve(self.B.mT, self.L)
        S = self.B @ self.HB
        scale = torch.diagonal(S, dim1=-2, dim2=-1).amax(-1).clamp(min=1e-300)
        diagonal = torch.diagonal(S, dim1=-2, dim2=-1)
        # rows of I may depend on each other: the nudge picks one of their multipliers, refinement removes the bias
        diagonal += torch.where(self.valid, 1e-13 * scale[:, None], scale[:, None])
        self.S = torch.linalg.cholesky_ex(S)[0]

    def solve(self, r1: Tensor, r2: Tensor) -> tuple[Tensor, Tensor]:
        """dh, dmu with H dh + B'dmu = r1 on A and B dh = r2 on I; `r2`, `dmu` are `(N, k)`."""
        if self.k:
            r1 = r1 + (self.B.mT @ r2[..., None])[..., 0]
        r1 = torch.where(self.free, r1, torch.zeros_like(r1))
        dh = spd_solve(self.L, r1)
        if not self.k:
            return dh, r2
        left = (self.B @ dh[..., None])[..., 0] - r2
        dmu = torch.cholesky_solve(torch.where(self.valid, left, 0.0)[..., None], self.S)[..., 0]
        return dh - (self.HB @ dmu[..., None])[..., 0], dmu

    def scatter(self, mu: Tensor) -> Tensor:
        """Multipliers `(N, k)` as rows `(N, m)`."""
        out = torch.zeros_like(self.problem.rows.y)
        return out.scatter(1, self.index, torch.where(self.valid, mu, 0.0)) if self.k else out

    def gap_on_tight(self, v: Tensor) -> Tensor:
        """-(W h + b) on I, `(N, k)`."""
        if not self.k:
            return torch.zeros(len(v), 0, dtype=v.dtype, device=v.device)
        return torch.where(self.valid, -torch.gather(v, 1, self.index), 0.0)


def solve_on(problem: AbstractLayerProblem, free: Tensor, tight: Tensor, start: Tensor) -> Point:
    """The conditions of (free, tight), solved by correcting `start`: where they leave h open it stays near `start`."""
    rows = problem.rows
    conditions = _Conditions(problem, free, tight)
    h = torch.where(free & conditions.weak[:, None], start, torch.zeros_like(start))
    mu = torch.zeros(problem.N, conditions.k, dtype=h.dtype, device=h.device)
    for _ in range(1 + _REFINEMENTS):
        v = rows.W(h) + rows.b
        p = rows.fit * torch.where(rows.on, v - rows.y, torch.zeros_like(v)) + conditions.scatter(mu)
        r1 = -(rows.W.adjoint(p) + problem.linear + problem.quadratic * h)
        dh, dmu = conditions.solve(r1, conditions.gap_on_tight(v))
        h, mu = h + dh, mu + dmu
    p = rows.fit * rows.residual(h) + conditions.scatter(mu)
    for _ in range(2):
        # p is a difference of numbers of size 1; where it is tiny, h can no longer carry its last digits, p itself can
        left = -(rows.W.adjoint(p) + problem.linear + problem.quadratic * h)
        dh, dmu = conditions.solve(left, torch.zeros_like(mu))
        p = p + rows.fit * rows.W(dh) + conditions.scatter(dmu)
    return Point(h, p)


def direction(problem: AbstractLayerProblem, free: Tensor, tight: Tensor) -> tuple[Tensor, Tensor]:
    """How h `(N, n)` and the multipliers `(N, m)` of the tight rows move on one guess with the weight of 1'h.

    Solves H_AA d_A + W_IA'e = -1, W_IA d_A = 0 for a problem with gamma = 0, refined against W itself.
    """
    rows, conditions = problem.rows, _Conditions(problem, free, tight)
    d = torch.zeros(problem.N, problem.n, dtype=rows.y.dtype, device=rows.y.device)
    e = torch.zeros(problem.N, conditions.k, dtype=d.dtype, device=d.device)
    for _ in range(1 + _REFINEMENTS):
        v = rows.W(d)
        left = -(rows.W.adjoint(rows.fit * v + conditions.scatter(e)) + 1)
        dd, de = conditions.solve(left, conditions.gap_on_tight(v))
        d, e = d + dd, e + de
    return d, conditions.scatter(e)
