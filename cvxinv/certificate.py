"""The one judge: what a point proves about a layer problem, in float64, from the problem's data and the point alone."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .bounds import near, serves
from .inputs import read_numbers
from .layer_problem import (
    AbstractCurvedProblem,
    AbstractLayerProblem,
    Excess,
    Point,
    dead_rows,
    is_even,
    rounding,
    units_of,
)
from .lengths import lengths

OPTIMAL = "optimal"
OPTIMAL_INACCURATE = "optimal_inaccurate"
INFEASIBLE = "infeasible"
USER_LIMIT = "user_limit"
NUMERICAL_ERROR = "numerical_error"
STATIONARY = "stationary"
LAYER_STATUSES = (OPTIMAL, STATIONARY, OPTIMAL_INACCURATE, INFEASIBLE, USER_LIMIT, NUMERICAL_ERROR)

_INACCURATE = 1000.0  # `optimal_inaccurate` reaches this many times the tolerance
_TENSORS = ("objective", "bound", "violation", "scale", "unit", "floor", "worth", "two_sided", "scope", "violations", "times")
_AT_ONCE = 20_000_000  # numbers of h and p that are judged at once: about a gigabyte of work space
_FAR = 1e8  # an h this many times its natural size s_y / |W| counts as infinitely far
_MISFIT = 1e-10  # in units of s_y: an excess over an l2 bound that counts as none, for bounds that are 0
_ORDINARY = (1e-70, 1e70)  # sizes of data and weights whose squares and products stay far from overflow


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a point proves, per signal; float64 tensors `(N,)`.

    objective, bound, gap = objective - bound: units of the problem's objective (signal^2). bound: a lower bound on the
    optimum of the problem whose limits are wider by what h exceeds them, hence on the optimum itself, and never above the
    objective but for rounding. worth: sum |p_i| v_i, what the excess may be worth in units of the objective. violation: largest
    excess over a limit, signal units; violations: the excess of each row, `(N, m)`, signal units. scale: s_y, signal units.
    allowed_gap, allowed_violation: what `optimal` asks for. status: numpy array of str, one of `LAYER_STATUSES`.
    remark: what narrows a statement, or why a bound may be weak, or "".

    two_sided: whether `optimal` says both objective - allowed_gap <= optimum and, as h meets every limit to the rounding of
    what is added up there, optimum <= objective; else only the former. scope: the |h| up to which the statement holds, inf where it
    holds for every h: an `infeasible` problem may have a feasible point beyond, and where lam = 0 leaves h open a bound holds in
    a ball only. times: the largest of what `optimal` limits, in units of its limit: 1 or less is `optimal`.

    unit: natural size of the objective, s_y^2 / 2 for squared misfits, s_y / |W| for the basis pursuits. floor: the gap
    that counts as none whatever the objective is: 1e-20 s_y^2 / 2, or tol 1e-10 s_y / |W|.

    `optimal` asks, with v_i the excess of row i and t_i = |w_i| |h| + |b_i| + |limit_i|, for v_i <= tol t_i and v_i <= tol s_y in
    every row, h_j >= -tol max|h| where h >= 0, an l2 bound exceeded by at most tol eps + 1e-10 s_y, and for gap <= allowed
    and worth <= allowed, allowed = max(tol |objective|, floor); all less the rounding of float64. `optimal_inaccurate`: within 1000
    times each of these. `infeasible`: p proves that every h within the scope, at least 1e8 (s_y + |b|) / |W|, breaks some
    limit by more than tol s_y. `stationary`: only for the one problem that is not convex, where a proximal gradient step no
    longer moves h. Else `user_limit`, or `numerical_error` where the point is not finite. Decision 0013.
    """

    objective: Tensor
    bound: Tensor
    violation: Tensor
    scale: Tensor
    tol: float
    status: np.ndarray
    remark: tuple[str, ...]
    unit: Tensor
    floor: Tensor
    worth: Tensor
    two_sided: Tensor
    scope: Tensor
    violations: Tensor
    times: Tensor

    @property
    def gap(self) -> Tensor:
        """objective - bound, `(N,)`."""
        return self.objective - self.bound

    @property
    def allowed_gap(self) -> Tensor:
        """The largest gap that is `optimal`, `(N,)`."""
        return torch.maximum(self.tol * self.objective.abs(), self.floor)

    @property
    def allowed_violation(self) -> Tensor:
        """The largest violation that is `optimal`, `(N,)`."""
        return self.tol * self.scale

    @property
    def relative_gap(self) -> Tensor:
        """Gap over max(|objective|, unit), `(N,)`, no unit: for tables; statuses use `allowed_gap`."""
        return self.gap / torch.maximum(self.objective.abs(), self.unit).clamp(min=1e-300)

    @property
    def worst_relative_gap(self) -> float:
        """The largest relative gap of the signals that have an answer to judge: finite and not infeasible; 0 without any."""
        judged = torch.as_tensor(self.status != INFEASIBLE) & torch.isfinite(self.relative_gap)
        return float(self.relative_gap[judged].max()) if judged.any() else 0.0

    @property
    def holds(self) -> Tensor:
        """Whether the status is `optimal`, bool `(N,)`."""
        return torch.as_tensor(self.status == OPTIMAL)

    def __len__(self) -> int:
        return len(self.status)

    def take(self, index: Tensor | slice) -> "Certificate":
        """The certificates at `index` (a bool mask, positions, or a slice)."""
        positions = np.arange(len(self))[index if isinstance(index, slice) else index.cpu().numpy()]
        tensors = {name: getattr(self, name)[index] for name in _TENSORS}
        return replace(self, status=self.status[positions], remark=tuple(self.remark[k] for k in positions), **tensors)

    def counts(self) -> dict[str, int]:
        """How many signals have each status; statuses that do not occur are left out."""
        return {s: int((self.status == s).sum()) for s in LAYER_STATUSES if (self.status == s).any()}

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        worst_gap, broken = self.worst_relative_gap, self.violation / self.scale.clamp(min=1e-300)
        broken = broken[torch.as_tensor(self.status != INFEASIBLE) & torch.isfinite(broken)]
        worst_violation = float(broken.max()) if len(broken) else 0.0
        return (
            f"Certificate of {len(self)} signals: {words}; worst relative gap {worst_gap:.1e}, "
            f"worst violation {worst_violation:.1e} of s_y; tol {self.tol:.0e}"
        )


def certify(
    problem: AbstractLayerProblem,
    point: Point | Tensor | np.ndarray,
    p: Tensor | np.ndarray | None = None,
    *,
    tol: float = 1e-6,
    thorough: bool = True,
) -> Certificate:
    """Judge a point of anybody's solver: objective, lower bound, gap and violation in float64, and a status.

    point: a `Point`, or h alone, `(N, n)` (or `(n,)` for one signal), torch or numpy. p: dual vector `(N, m)`, with
    p_on = weight (W h + b - y) and p_off >= 0; any p gives a valid bound. Without p one is built from h.
    tol: relative tolerance, see `Certificate`. thorough: False leaves out repairs of p that cost a factorisation; the
    bound is then valid and possibly weak. Raises ValueError for shapes that do not fit, TypeError for other types.
    """
    if not tol > 0:
        raise ValueError(f"tol must be > 0, got {tol}; pass e.g. tol=1e-6")
    if isinstance(point, Point):
        p = point.p if p is None else p
        point = point.h
    problem = problem.to(torch.float64)
    h = _vector(point, problem, problem.n, "h")
    dual = None if p is None else _vector(p, problem, problem.rows.m, "p")
    size = max(1, _AT_ONCE // (problem.n + problem.rows.m))
    parts = [torch.arange(k, min(k + size, problem.N), device=h.device) for k in range(0, problem.N, size)]
    if len(parts) == 1:
        return _judge(problem, h, dual, tol, thorough)
    judged = [_judge(problem.take(k), h[k], None if dual is None else dual[k], tol, thorough) for k in parts]
    return joined(judged)


def joined(certificates: list[Certificate]) -> Certificate:
    """The certificates of the parts of a batch, as one."""
    if len(certificates) == 1:
        return certificates[0]
    tensors: dict[str, Any] = {name: torch.cat([getattr(c, name) for c in certificates]) for name in _TENSORS}
    status = np.concatenate([c.status for c in certificates])
    return replace(certificates[0], status=status, remark=tuple(r for c in certificates for r in c.remark), **tensors)


def _judge(problem: AbstractLayerProblem, h: Tensor, dual: Tensor | None, tol: float, thorough: bool) -> Certificate:
    """The certificate of a float64 problem at h `(N, n)` and p `(N, m)`, see `certify`."""
    if _ordinary(problem):
        return _judged(problem, h, dual, tol, thorough)
    units = units_of(problem, binary=True)
    small = problem.in_units(units)
    found = _judged(small, h / units.h, None if dual is None else dual / units.p(problem.grows), tol, thorough)
    scope = found.scope * units.h.amin(1).cpu()
    units = units._replace(data=units.data.cpu())
    changes = {k: units.objective(getattr(found, k), problem.grows) for k in ("objective", "bound", "worth", "unit", "floor")}
    changes |= {k: getattr(found, k) * units.data for k in ("violation", "scale")}
    changes["violations"] = found.violations * units.data[:, None]
    return replace(found, **changes, scope=scope)


def _ordinary(problem: AbstractLayerProblem) -> bool:
    """Whether the problem can be judged as it is: no numbers near overflow, no rows or columns that others drown."""
    if problem.form == "curved":
        return True
    scale, norm = problem.rows.scale(), problem.rows.W.norm()
    low, high = _ORDINARY
    sizes = torch.cat([scale, problem.rows.b.abs().amax(-1).reshape(-1), scale.new_tensor([norm])])
    if not bool(((sizes == 0) | (sizes > low) & (sizes < high)).all()):
        return False
    return is_even(problem)


class _Reading(NamedTuple):
    """What of a point the limits see: excess with the rounding added that it may hide, in units of what is allowed `(N,)`."""

    excess: Excess
    over: Tensor | None  # (N, m), > 0 where a row may be over its limit
    times: Tensor
    violation: Tensor
    dead: Tensor | None  # (N, m) bool: rows that no h moves


def _read(problem: AbstractLayerProblem, h: Tensor, v: Tensor, scale: Tensor, tol: float) -> _Reading:
    excess, rows = problem.excess(h, v), problem.rows
    u = rounding(problem.n + 2, h.dtype)
    moved = (h != 0).any(1)
    times, violation = torch.zeros_like(scale), torch.zeros_like(scale)
    over, dead = None, None
    if excess.rows is not None:
        assert excess.size is not None
        lost = torch.where(moved, u, 0.0)[:, None] * excess.size
        over = (excess.rows + lost).clamp(min=0)
        if bool((rows.W.row_lengths() == 0).any()):
            dead = dead_rows(problem)
            over = torch.where(dead, torch.zeros_like(over), over)
        allowed = tol * torch.minimum(excess.size, rows.stretched(scale[:, None].expand_as(over)))
        times = torch.maximum(times, _ratio(over, allowed).amax(1))
        violation = rows.in_signal_units(excess.rows).amax(1).clamp(min=0)
    if excess.ball is not None:
        assert excess.ball_size is not None
        ball = (excess.ball + torch.where(moved, u, 0.0) * excess.ball_size).clamp(min=0)
        times = torch.maximum(times, _ratio(ball, tol * problem.__dict__["eps"] + _MISFIT * scale))
        violation = torch.maximum(violation, excess.ball.clamp(min=0))
    if excess.unknowns is not None:
        below = excess.unknowns.amax(1).clamp(min=0)
        times = torch.maximum(times, _ratio(below, tol * h.abs().amax(1)))
        if bool((below > 0).any()):  # in signal units, by what it moves at most
            moves = (excess.unknowns.clamp(min=0) * rows.W.column_lengths()).amax(1)
            violation = torch.maximum(violation, moves)
    return _Reading(excess, over, times, violation, dead)


def _ratio(x: Tensor, allowed: Tensor) -> Tensor:
    """x / allowed, 0 where x is 0, inf where nothing is allowed."""
    return torch.where(x > 0, x / allowed.clamp(min=1e-300), torch.zeros_like(x))


def _worth(problem: AbstractLayerProblem, reading: _Reading, p: Tensor) -> Tensor:
    """sum |p_i| v_i over all limits, `(N,)`: how far below the optimum an h may lie that exceeds them."""
    worth = torch.zeros_like(p[:, 0])
    excess = reading.excess
    if reading.over is not None:
        worth = worth + (p.abs() * reading.over).sum(1)
    if excess.ball is not None:
        assert excess.ball_size is not None
        ball = (excess.ball + rounding(problem.n + 2, p.dtype) * excess.ball_size).clamp(min=0)
        worth = worth + ball * torch.where(problem.rows.on, p * p / problem.rows._weight, 0.0).sum(1).sqrt()
    if excess.unknowns is not None and bool((excess.unknowns > 0).any()):
        cost = (problem.rows.W.adjoint(p) + problem.linear).abs()
        worth = worth + (cost * excess.unknowns.clamp(min=0)).sum(1)
    return torch.nan_to_num(worth, nan=torch.inf)


def _doubt(problem: AbstractLayerProblem, h: Tensor, v: Tensor, objective: Tensor) -> Tensor:
    """What rounding may have taken from the objective, `(N,)`."""
    rows = problem.rows
    doubt = rounding(rows.m + rows.n, h.dtype) * objective.abs()
    if problem.form != "quadratic":
        return doubt
    size, u = rows.W.row_lengths() * lengths(h, keepdim=True), torch.finfo(h.dtype).eps
    moved = (h != 0).any(1, keepdim=True)
    reach = rounding(rows.n, h.dtype) * size + torch.where(moved, u * (rows.b.abs() + rows.y.abs()), 0.0)
    return doubt + (rows.fit * reach * (rows.residual(h, v).abs() + reach)).sum(1)


def _judged(problem: AbstractLayerProblem, h: Tensor, dual: Tensor | None, tol: float, thorough: bool) -> Certificate:
    finite = torch.isfinite(h).all(1)
    h = torch.where(finite[:, None], h, torch.zeros_like(h))
    dual = problem.complete(h) if dual is None else dual
    rows = problem.rows
    v, scale = rows.W(h) + rows.b, rows.scale()
    objective, reading = problem.objective(h, v), _read(problem, h, v, scale, tol)
    doubt = _doubt(problem, h, v, objective)
    allowed = torch.maximum(tol * objective.abs(), problem.floor(tol))
    if reading.dead is not None:
        dual = torch.where(reading.dead, torch.zeros_like(dual), dual)
    # repairs that cost a factorisation are worth it only where the cheap bound does not settle the matter
    enough = objective - 0.5 * allowed
    lower = problem.lower(dual, enough if thorough else torch.full_like(enough, -torch.inf))
    p, worth = lower.p, _worth(problem, reading, lower.p)
    bound, scope = lower.bound - worth, torch.full_like(objective, torch.inf)
    # an h so huge that its objective overflows would have an infinite gap, and be allowed one
    allowed = torch.where(torch.isfinite(objective), allowed, torch.full_like(allowed, -torch.inf))
    if thorough:
        left = serves(problem) & (objective + doubt - bound > allowed) & (reading.times <= _INACCURATE) & (allowed > 0)
        left = left.nonzero()[:, 0]
        if len(left):
            part = problem if len(left) == problem.N else problem.take(left)
            some = _Reading(*(_some(x, left) for x in reading))
            found = near(part, h[left], (objective + doubt)[left], dual[left], allowed[left])
            price = _worth(part, some, found.p)
            better = found.bound - price > bound[left]
            there = left[better]
            bound[there], worth[there] = (found.bound - price)[better], price[better]
            p[there], scope[there] = found.p[better], found.scope[better]
    bound = torch.where(lower.bound == 0, torch.maximum(bound, torch.zeros_like(bound)), bound)  # both terms are >= 0
    gap = objective - bound + doubt
    times = torch.maximum(reading.times, torch.maximum(_ratio(gap, allowed), _ratio(worth, allowed)))
    times = torch.where((allowed > 0) | (gap <= 0) & (worth <= 0), times, torch.full_like(times, torch.inf))
    status = np.full(problem.N, USER_LIMIT, dtype=object)
    status[(times <= _INACCURATE).cpu().numpy()] = OPTIMAL_INACCURATE
    status[(times <= 1).cpu().numpy()] = OPTIMAL
    # the gap of the opened problem is never below 0: anything else is a fault of the arithmetic
    broken = gap < -(doubt + lower.doubt + 1e-9 * torch.maximum(objective.abs(), problem.unit()))
    status[(broken & (times <= _INACCURATE)).cpu().numpy()] = NUMERICAL_ERROR
    doubtful = torch.as_tensor(status != OPTIMAL, device=h.device).nonzero()[:, 0]
    if len(doubtful):
        part = problem if len(doubtful) == problem.N else problem.take(doubtful)
        away = part.infeasibility(dual[doubtful], (tol * scale)[doubtful])
        far = _FAR * (scale + rows.in_signal_units(rows.b.expand_as(rows.y)).norm(dim=-1)) / (rows.W.norm() or 1.0)
        beyond = away > far[doubtful]
        status[doubtful[beyond].cpu().numpy()] = INFEASIBLE
        scope[doubtful[beyond]] = away[beyond]
    if reading.dead is not None:
        assert reading.excess.rows is not None
        broken_dead = torch.where(reading.dead, reading.excess.rows, torch.full_like(v, -torch.inf))
        never = (rows.in_signal_units(broken_dead) > tol * scale[:, None]).any(1)
        status[never.cpu().numpy()] = INFEASIBLE
        scope[never] = torch.inf
    if isinstance(problem, AbstractCurvedProblem):
        still = (reading.times <= 1) & (problem.movement(h) <= tol) & (gap > allowed)
        status[still.cpu().numpy()] = STATIONARY
    status[(~finite).cpu().numpy()] = NUMERICAL_ERROR
    two_sided = torch.as_tensor(status == OPTIMAL, device=h.device) & _feasible(problem, reading, scale)
    remark = _remarks(problem, status, reading, scope) if thorough else ("",) * problem.N
    nan = torch.where(finite, 0.0, torch.nan).to(objective)
    violations = torch.zeros_like(v) if reading.excess.rows is None else rows.in_signal_units(reading.excess.rows.clamp(min=0))
    return Certificate(
        (objective + nan).cpu(), bound.cpu(), (reading.violation + nan).cpu(), scale.cpu(), tol, status.astype("<U18"), remark,
        problem.unit().cpu(), problem.floor(tol).cpu(), worth.cpu(), (two_sided & torch.isinf(scope)).cpu(), scope.cpu(),
        violations.cpu(), times.cpu(),
    )  # fmt: skip


def _some(x: Any, index: Tensor) -> Any:
    """The signals at `index` of a tensor, of the tensors of a tuple, or None."""
    if isinstance(x, Excess):
        return Excess(*(_some(y, index) for y in x))
    return x if x is None else x[index]


def _feasible(problem: AbstractLayerProblem, reading: _Reading, scale: Tensor) -> Tensor:
    """Whether h meets every limit to the rounding of what is added up there, `(N,)`."""
    excess, u = reading.excess, rounding(problem.n + 2, scale.dtype)
    met = torch.ones_like(scale, dtype=torch.bool)
    if excess.rows is not None:
        assert excess.size is not None
        met &= (excess.rows <= u * excess.size).all(1)
    if excess.ball is not None:
        assert excess.ball_size is not None
        met &= excess.ball <= u * excess.ball_size
    if excess.unknowns is not None:
        met &= (excess.unknowns <= 0).all(1)
    return met


def _remarks(problem: AbstractLayerProblem, status: np.ndarray, reading: _Reading, scope: Tensor) -> tuple[str, ...]:
    remarks = _weak_bounds(problem, status)
    narrow = torch.isfinite(scope).cpu().numpy()
    for i in np.flatnonzero(narrow & (status != INFEASIBLE)):
        remarks[i] = f"the bound holds for |h| <= {float(scope[i]):.2g} only: the rows on do not determine h"
    if reading.dead is not None:
        assert reading.excess.rows is not None
        broken = torch.where(reading.dead, problem.rows.in_signal_units(reading.excess.rows), 0.0).cpu()
        for i in (broken > 0).any(1).nonzero()[:, 0].tolist():
            k, share = int(broken[i].argmax()), float(broken[i].max() / problem.rows.scale()[i].clamp(min=1e-300))
            said = f"row {k} is 0 in W and {share:.1e} s_y over its limit, whatever h is"
            remarks[i] = "; ".join(filter(None, (said, remarks[i])))
    return tuple(remarks)


def _weak_bounds(problem: AbstractLayerProblem, status: np.ndarray) -> list[str]:
    """Why no better bound is known, for signals without an answer."""
    open_ = (status != OPTIMAL) & (status != STATIONARY)
    if problem.form != "interval":  # only there a remark can say what is infeasible
        open_ &= status != INFEASIBLE
    if not open_.any():
        return [""] * len(status)
    remarks = np.full(len(status), "", dtype=object)
    # a remark may cost a factorisation per signal
    part = problem if open_.all() else problem.take(torch.as_tensor(np.flatnonzero(open_), device=problem.rows.y.device))
    remarks[open_] = part.bound_remarks()
    return remarks.tolist()


def _vector(value: Tensor | np.ndarray, problem: AbstractLayerProblem, length: int, name: str) -> Tensor:
    tensor = read_numbers(value, name, problem.rows.W.device, "fi").to(torch.float64)
    if tensor.ndim == 1 and problem.N == 1:
        tensor = tensor[None]
    if tensor.shape != (problem.N, length):
        raise ValueError(
            f"expected {name} of shape ({problem.N}, {length}), got {tuple(tensor.shape)}; "
            "pass one row per signal of the problem"
        )
    return tensor
