"""Multipliers for a point that came without them: a p from h alone, signal by signal.

At an optimum p is the gradient of the misfit plus multipliers of the rows at a limit, and W'p + (slope of g) is 0 on the
unknowns that are free and >= 0 on those that h >= 0 holds at 0. Of an h at hand that is a nonnegative least-squares problem,
with a slack for every unknown that is held. Any p is valid, and the judge asks for one in passing: nothing here raises,
whatever the data are, and one signal's trouble is not its neighbours'.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .factors import spd_factor, spd_solve
from .proofs import rounding
from .rows import Rows

if TYPE_CHECKING:
    from .problem import AbstractLayerProblem

_NEAR = 1e-5  # a row this close to its limit, in units of s_y, may have a multiplier
_HELD = 1e-6  # an unknown this small, in units of the largest, counts as held at 0
_BALANCED = 1e-9  # of the gradient: what the multipliers may leave of the conditions
_LITTLE = 1e-9  # of p: what it may lack of W'p + lam >= 0 to be lifted
_LARGEST = 2048  # unknowns beyond which nothing is factorised
_LARGEST_LIFT = 512  # unknowns up to which a p without a strict sign is moved inside, a least-squares problem per signal
_STEPS, _FLAT = 3, 1e-13  # steps for each unknown at most; a slope, or a share, that is rounding
_RIDGE = 1e-14  # on unit columns


def dual_of_squares(problem: "AbstractLayerProblem", h: Tensor) -> Tensor:
    """A p for an `h` of a squared misfit that came without one: the weighted residual, and multipliers of the off rows.

    Corrected until W'p + (slope of g) vanishes where g is smooth, and lifted where h >= 0 costs nothing and fewer rows than
    unknowns fit y: there W'p >= 0 is all that (D) asks for, and rounding misses it. Any p is valid. `(N, m)`.
    """
    rows, g = problem.rows, problem.penalty
    p, free = rows.fit * rows.residual(h), g.free(h)
    if rows.any_off:
        p = p + multipliers_of_tight_rows(rows, h, rows.W.adjoint(p) + g.gradient(h), free)
    p = balanced(rows, p, rows.W.adjoint(p) + g.gradient(h), free, g.quadratic)
    if problem.nonnegative and problem.n <= _LARGEST_LIFT:
        few = (g.nothing & (rows.on.sum(1) < problem.n)).nonzero()[:, 0]
        if len(few):
            p[few] = lifted(rows.take(few), p[few], g.linear[few])
    return p


def balanced(rows: Rows, p: Tensor, gradient: Tensor, free: Tensor, ridge: Tensor) -> Tensor:
    """`p` corrected on the on rows so that `gradient` = W'p + ... vanishes on the `free` unknowns to p's own precision.

    Where the misfit is tiny, p is a small difference of large numbers, and the digits that rounding took from it decide
    the bound. ridge: the problem's quadratic weight `(N, 1)`. Returns p as it is for signals whose W_on has no full
    column rank on the free unknowns, and beyond 2048 unknowns.
    """
    if rows.n > _LARGEST:
        return p
    H = rows.gram() * (free[:, :, None] & free[:, None, :])
    L, definite = spd_factor(H + torch.diag_embed(torch.where(free, ridge, torch.ones_like(gradient))))
    moved = p
    for _ in range(2):
        dh = spd_solve(L, torch.where(free, -gradient, torch.zeros_like(gradient)))
        step = rows.fit * rows.W(dh)
        moved, gradient = moved + step, gradient + rows.W.adjoint(step)
    sound = definite & torch.isfinite(moved).all(1)
    return torch.where(sound[:, None], moved, p)


def multipliers_of_tight_rows(rows: Rows, h: Tensor, gradient: Tensor, free: Tensor) -> Tensor:
    """Multipliers mu >= 0 of the off rows at their bound that best balance `gradient`, signal by signal.

    Solves min_{mu >= 0} |gradient_A + W_IA'mu|, A the `free` unknowns, I the off rows within 1e-5 s_y of 0. Where that
    leaves some other unknown j with gradient_j + W_Ij'mu < 0, it is solved again with a slack >= 0 for each of those: of
    all the multipliers that balance A, which are many where W_IA has more rows than rank, those that suit the rest.
    h, gradient: `(N, n)`; free: bool `(N, n)`. Returns `(N, m)`. Source: `sparse` note 5.4 (ii), with the slacks added.
    """
    mu = torch.zeros_like(rows.y)
    near = rows.stretched(_NEAR * rows.scale()[:, None].expand_as(rows.y))
    tight = rows.off & (rows.W(h) + rows.b >= -near)
    M, slope, far = rows.W.matrix().cpu().numpy(), gradient.cpu().numpy(), free.cpu().numpy()
    for i in tight.any(1).nonzero()[:, 0].tolist():
        I = tight[i].cpu().numpy()
        mu[i, tight[i]] = torch.from_numpy(_tight(M[I], slope[i], far[i])).to(mu)
    return mu


def _tight(block: np.ndarray, slope: np.ndarray, free: np.ndarray) -> np.ndarray:
    """mu `(k,)` for the rows `block` `(k, n)`, see `multipliers_of_tight_rows`."""
    plain = nonnegative_fit(block[:, free].T, -slope[free])
    with np.errstate(over="ignore", invalid="ignore"):
        left = slope + plain @ block
    if free.all() or not left[~free].min() < -_BALANCED * np.abs(slope).max():
        return plain
    slack = np.eye(len(slope))[:, ~free]
    both = nonnegative_fit(np.concatenate([block.T, -slack], axis=1), -slope)[: len(block)]
    return min((plain, both), key=lambda mu: _broken(slope + mu @ block, free))


def _broken(slope: np.ndarray, free: np.ndarray) -> float:
    """How far a gradient is from 0 on the free unknowns and from >= 0 on the others."""
    return float(np.linalg.norm(np.where(free, slope, np.minimum(slope, 0.0))))


def lifted(rows: Rows, p: Tensor, linear: Tensor) -> Tensor:
    """`p` moved a little, so that W'p + `linear` is beyond rounding >= 0 on every unknown, as the dual of an h >= 0 asks.

    Where no row is weighed by 1'h that is W'p >= 0, met at an optimum by p with equality, and by what rounding makes of p
    hardly ever. A multiple of a u with u_off >= 0 and W'u >= the lengths of the columns mends it; a p that lacks more than
    rounding stays, and so does one without such a u. linear: `(N, 1)`. Returns `(N, m)`.
    """
    length = ((rows.on | rows.off).to(p) @ rows.W.matrix().square()).sqrt().clamp(min=torch.finfo(p.dtype).tiny)
    size = p.norm(dim=1) * rows.m
    out = p.clone()
    for i in (_lacking(rows, p, linear, length) > 0).nonzero()[:, 0].tolist():
        at = slice(i, i + 1)
        one, q = rows.take(torch.tensor([i], device=p.device)), p[at]
        if float(_lacking(one, q, linear[at], length[at])) > _LITTLE * float(size[i]):
            continue
        u = _lift(one, length[at])
        if u is None:
            continue
        for _ in range(3):  # each pass absorbs the rounding of the one before
            q = q + 2 * _lacking(one, q, linear[at], length[at])[:, None] * u
        if bool(torch.isfinite(q).all()) and float(_lacking(one, q, linear[at], length[at])) == 0:
            out[at] = q
    return out


def _lacking(rows: Rows, p: Tensor, linear: Tensor, length: Tensor) -> Tensor:
    """By how much W'p + linear, twice its rounding taken off, falls below 0 somewhere, in lengths of columns, `(N,)`."""
    doubt = 2 * rounding(rows.m, p.dtype) * rows.W.magnitude().adjoint(p.abs())
    return ((doubt - rows.W.adjoint(p) - linear) / length).amax(1).clamp(min=0)


def _lift(rows: Rows, length: Tensor) -> Tensor | None:
    """u `(1, m)` with u_off >= 0 and W'u >= `length`, for one signal; None where none is found.

    On columns of length 1, min_{h >= 0} |W_on h|^2 + |(W_off h)_+|^2 + (1 - 1'h)^2 has W'u >= 1 - 1'h at its optimum for
    u = (W_on h, (W_off h)_+), and 1'h = 1 only if some h >= 0 besides 0 has W_on h = 0 and W_off h <= 0.
    """
    on, off = rows.on[0].cpu().numpy(), rows.off[0].cpu().numpy()
    seen = (length[0] > torch.finfo(length.dtype).tiny).cpu().numpy()
    unit = (rows.W.matrix().cpu().numpy() / length[0].cpu().numpy())[:, seen]
    k, n = int(off.sum()), int(seen.sum())
    A = np.block([[unit[on], np.zeros((on.sum(), k))], [unit[off], np.eye(k)], [np.ones((1, n)), np.zeros((1, k))]])
    x = nonnegative_fit(A, np.append(np.zeros(len(A) - 1), 1.0))
    u = np.zeros(rows.m)
    u[on], u[off] = unit[on] @ x[:n], np.maximum(unit[off] @ x[:n], 0.0)
    least = float((u @ unit).min(initial=np.inf))
    return torch.from_numpy(u / least).to(rows.y)[None] if 1e-12 < least < np.inf else None


def shortest_dual(problem: "AbstractLayerProblem", h: Tensor, ball: Tensor | None = None) -> Tensor:
    """A p for an `h` of a basis pursuit that came without one: the multipliers that best meet its optimality conditions.

    Those are W'p + 1 - s = 0 with s >= 0, and s_j = 0 where h_j > 0; where h has any sign they are asked of (W, -W) and the
    two halves of h. p is >= 0 on rows within 1e-5 s_y of their upper limit, <= 0 at their lower one, of any sign where
    the two limits meet, and t times `ball` `(N, m)`, t >= 0, where the length of the misfit is bounded. Least squares over
    all these signs, signal by signal. Any p is valid; this one is exact at an exact optimum.
    Source: `sparse` note 5.2 (i) and 5.3 (ii), with the slacks s added.
    """
    rows = problem.rows
    p, M = torch.zeros_like(rows.y), rows.W.matrix()
    (lo, hi), v = problem.limits(), rows.W(h) + rows.b
    near = rows.stretched(_NEAR * rows.scale()[:, None].expand_as(v))
    upper, lower = v >= hi - near, v <= lo + near
    halves = torch.cat([M, -M], 1) if problem.absolute else M
    linear = problem.linear.expand(rows.N, problem.n)
    weight = (torch.cat([linear, linear], 1) if problem.absolute else linear).cpu().numpy()
    parts = torch.cat([h.clamp(min=0), (-h).clamp(min=0)], 1) if problem.absolute else h
    idle = parts <= _HELD * parts.amax(1, keepdim=True)
    for i in range(rows.N):
        columns = [halves[upper[i]].T, -halves[lower[i]].T]
        columns += [] if ball is None else [(ball[i] @ halves)[:, None]]
        if sum(c.shape[1] for c in columns) == 0:
            continue  # h is strictly inside: p = 0
        slack = torch.eye(halves.shape[1], dtype=M.dtype, device=M.device)[:, idle[i]]
        block = torch.cat([*columns, -slack], 1).cpu().numpy()
        q = torch.from_numpy(nonnegative_fit(block, -weight[i])).to(p)
        ups, downs = int(upper[i].sum()), int(lower[i].sum())
        p[i, upper[i]] += q[:ups]
        p[i, lower[i]] -= q[ups : ups + downs]
        if ball is not None:
            p[i] += q[ups + downs] * ball[i]
    return torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)


def nonnegative_fit(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """An x >= 0 `(k,)` that brings A x, `A` `(n, k)`, as near to `b` `(n,)` as it gets; 0 where the data are not finite.

    Lawson-Hanson's method on columns of length 1; where SciPy's goes round in circles, as on columns that all but depend on
    each other it does, in a form that cannot. Columns of length 0, or with NaN or inf in them, get 0.
    """
    from scipy.optimize import nnls

    x = np.zeros(A.shape[1])
    with np.errstate(all="ignore"):
        largest = np.abs(A).max(axis=0, initial=0.0)
        largest = np.where(np.isfinite(largest) & (largest > 0), largest, np.inf)
        length = largest * np.linalg.norm(A / largest, axis=0)  # entries of 1e200 have squares that overflow
        used = np.isfinite(length) & (length > 0)
        # scipy 1.17.1 frees memory twice where there are no columns
        if not used.any() or not np.isfinite(b).all() or not b.any():
            return x
        size = np.abs(b).max()
        unit, right = A[:, used] / length[used], b / size
        try:
            y = nnls(unit, right, maxiter=5 * unit.shape[1] + 100)[0]
        except RuntimeError:
            y = _one_by_one(unit, right)
        x[used] = y * (size / length[used])
    return np.where(np.isfinite(x) & (x > 0), x, 0.0)


def _one_by_one(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same on columns of length 1 by Lawson and Hanson's steps, each kept only if it helps: so they end.

    The steepest unknown joins the support; the least-squares point of the support is approached until an unknown is 0, which
    leaves it. One that does not lower the misfit is not asked again until another has.
    """
    G, c, k = A.T @ A, A.T @ b, A.shape[1]
    x, support, barred = np.zeros(k), np.zeros(k, dtype=bool), np.zeros(k, dtype=bool)
    value = 0.0  # half the square of the misfit, less |b|^2 / 2
    for _ in range(_STEPS * k):
        slope = np.where(support | barred, 0.0, c - G @ x)
        j = int(slope.argmax())
        if not slope[j] > _FLAT:
            break
        support[j] = True
        new, kept = _towards(G, c, x, support.copy())
        reached = float(new @ (G @ new) / 2 - c @ new)
        if reached < value - _FLAT * abs(value):
            x, support, value, barred = new, kept, reached, np.zeros(k, dtype=bool)
        else:
            support[j], barred[j] = False, True
    return _refined(A, b, x)


def _towards(G: np.ndarray, c: np.ndarray, x: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From `x` to the least-squares point of `support` or of as much of it as stays >= 0, and that part."""
    while support.any():
        new = np.zeros(len(x))
        try:
            new[support] = np.linalg.solve(G[np.ix_(support, support)] + _RIDGE * np.eye(support.sum()), c[support])
        except np.linalg.LinAlgError:
            return x, support
        low = support & ~(new > 0)
        if not low.any():
            return new, support
        gone = x[low] - new[low]
        length = np.min(x[low] / np.where(gone > 0, gone, np.inf), initial=1.0, where=gone > 0)
        x = np.where(support, x + length * (new - x), 0.0)
        support = support & ~(low & (x <= _FLAT * max(x.max(), 0.0)))
        if length == 0 or not (low & ~support).any():
            support = support & ~low
        x = np.where(support, x, 0.0)
    return x, support


def _refined(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`x` moved towards the least-squares point of its support, as far as it stays >= 0."""
    support = x > 0
    if not support.any():
        return x
    try:
        step = np.linalg.lstsq(A[:, support], b - A @ x, rcond=None)[0]
    except np.linalg.LinAlgError:
        return x
    down = step < 0
    longest = np.min(-x[support][down] / step[down], initial=1.0)
    moved = x.copy()
    moved[support] = np.maximum(x[support] + longest * step, 0.0)
    return moved if np.linalg.norm(A @ moved - b) < np.linalg.norm(A @ x - b) else x


def balanced_excesses(problem: "AbstractLayerProblem", h: Tensor) -> Tensor:
    """A p for an `h` of a problem of excesses that came without one, signal by signal.

    Of the p in C that cost what F does at h, the one for which W'p is nearest to 0 on the unknowns that are free, and to >=
    0 on those that are held: bounded least squares over the rows whose p is open, those at the largest excess, or those
    without any where all of them are added up. Any p is valid; this one is exact at an exact optimum.
    """
    rows, M = problem.rows, problem.rows.W.matrix()
    choice = problem.misfit.slopes(rows.W(h) + rows.b, _NEAR * rows.scale())  # type: ignore[attr-defined]
    idle = ~problem.penalty.free(h) if problem.nonnegative else torch.zeros_like(h, dtype=torch.bool)
    p = choice.fixed.clone()
    for i in choice.open.any(1).nonzero()[:, 0].tolist():
        I = choice.open[i]
        A = (M[I] * choice.unit[i, I, None]).T.cpu().numpy()
        slack, gradient = np.eye(problem.n)[:, idle[i].cpu().numpy()], (choice.fixed[i] @ M).cpu().numpy()
        q = _within(A, slack, -gradient, None if choice.total else choice.ends)
        p[i, I] = choice.unit[i, I] * torch.from_numpy(q).to(p)
    return torch.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0)


def _within(A: np.ndarray, slack: np.ndarray, b: np.ndarray, ends: tuple[float, float] | None) -> np.ndarray:
    """q `(k,)` with |A q - slack s - b| least for some s >= 0: between the `ends` each, or >= 0 with the sum 1."""
    k = A.shape[1]
    if ends is None:
        size = max(float(np.abs(A).max(initial=0.0)), float(np.finfo(float).tiny)) * 1e3  # the sum is met before the rest
        block = np.block([[A, -slack], [np.full((1, k), size), np.zeros((1, slack.shape[1]))]])
        q = nonnegative_fit(block, np.append(b, size))[:k]
        return q / max(float(q.sum()), float(np.finfo(float).tiny))
    from scipy.optimize import lsq_linear

    none = np.zeros(slack.shape[1])
    low, high = np.append(np.full(k, ends[0]), none), np.append(np.full(k, ends[1]), none + np.inf)
    with np.errstate(all="ignore"):
        found = lsq_linear(np.hstack([A, -slack]), b, (low, high), method="bvls", max_iter=3 * (k + slack.shape[1]) + 100).x[
            :k
        ]
    return np.where(np.isfinite(found), found, 0.0)
