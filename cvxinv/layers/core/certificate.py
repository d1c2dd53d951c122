"""The one judge: what a point proves about a layer problem, in float64, from the problem's data and the point alone."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...batch import Batch, per_signal, shared
from ...inputs import describe, plain_number, read_numbers
from ...lengths import lengths
from ...surroundings import undisturbed
from .bounds import determined, near, serves
from .curved import AbstractCurvedProblem
from .precise import LARGEST, precise_residual
from .problem import AbstractLayerProblem, Point
from .proofs import rounding
from .squares_and_lengths import SquaresAndLengths
from .units import Units, dead_rows, units_of

OPTIMAL = "optimal"
OPTIMAL_INACCURATE = "optimal_inaccurate"
INFEASIBLE = "infeasible"
USER_LIMIT = "user_limit"
NUMERICAL_ERROR = "numerical_error"
STATIONARY = "stationary"
LAYER_STATUSES = (OPTIMAL, STATIONARY, OPTIMAL_INACCURATE, INFEASIBLE, USER_LIMIT, NUMERICAL_ERROR)

_INACCURATE = 1000.0  # `optimal_inaccurate` reaches this many times the tolerance
_AT_ONCE = 20_000_000  # numbers of h and p that are judged at once: about a gigabyte of work space
_FAR = 1e8  # an h this many times its natural size s_y / |W| counts as infinitely far
_MISFIT = 1e-10  # in units of s_y: an excess over an l2 bound that counts as none, for bounds that are 0
_ORDINARY = (1e-70, 1e70)  # sizes of data and weights whose squares and products stay far from overflow


@dataclass(frozen=True, eq=False)
class Certificate(Batch):
    """What a point proves, per signal; float64 tensors `(N,)`, on the CPU wherever the problem is.

    objective, bound, gap = objective - bound: units of the problem's objective (signal^2). bound: a lower bound on the
    optimum of the problem whose limits are wider by what h exceeds them, hence on the optimum itself, and never above the
    objective but for rounding. worth: sum |p_i| v_i, what the excess may be worth in units of the objective. violation:
    largest excess over a limit, signal units; violations: the excess of each row, `(N, m)`, signal units. scale: s_y,
    signal units. allowed_gap, allowed_violation: what `optimal` asks for. status: numpy array of str, one of
    `LAYER_STATUSES`. remark: what narrows a statement, or why a bound may be weak, or "".

    two_sided: whether `optimal` says both objective - allowed_gap <= optimum and, as h meets every limit to the rounding of
    what is added up there, optimum <= objective; else only the former. scope: the |h| up to which the statement holds, inf
    where it holds for every h: an `infeasible` problem may have a feasible point beyond, and where lam = 0 leaves h open a
    bound holds in a ball only. times: the largest of what `optimal` limits, in units of its limit: 1 or less is `optimal`.

    unit: natural size of the objective, s_y^2 / 2 for squared misfits, s_y / |W| for the basis pursuits. floor: the gap
    that counts as none whatever the objective is: 1e-20 s_y^2 / 2, or tol 1e-10 s_y / |W|.

    `optimal` asks, with v_i the excess of row i and t_i = |w_i| |h| + |b_i| + |limit_i|, for v_i <= tol t_i and v_i <= tol
    s_y in every row, h_j >= -tol max|h| where h >= 0, an l2 bound exceeded by at most tol eps + 1e-10 s_y, and for gap <=
    allowed and worth <= allowed, allowed = max(tol |objective|, floor); all less the rounding of float64.
    `optimal_inaccurate`: within 1000 times each of these. `infeasible`: p proves that every h within the scope, at least
    1e8 (s_y + |b|) / |W|, breaks some limit by more than tol s_y. `stationary`: only for the one problem that is not
    convex, where a proximal gradient step no longer moves h. Else `user_limit`, or `numerical_error` where the point is not
    finite. Decision 0013.
    """

    objective: Tensor = per_signal()
    bound: Tensor = per_signal()
    violation: Tensor = per_signal()
    scale: Tensor = per_signal()
    tol: float = shared()
    status: np.ndarray = per_signal()
    remark: tuple[str, ...] = per_signal()
    unit: Tensor = per_signal()
    floor: Tensor = per_signal()
    worth: Tensor = per_signal()
    two_sided: Tensor = per_signal()
    scope: Tensor = per_signal()
    violations: Tensor = per_signal()
    times: Tensor = per_signal()

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
        judged = torch.from_numpy(self.status != INFEASIBLE) & torch.isfinite(self.relative_gap)
        return float(self.relative_gap[judged].max()) if judged.any() else 0.0

    @property
    def holds(self) -> Tensor:
        """Whether the status is `optimal`, bool `(N,)`."""
        return torch.from_numpy(self.status == OPTIMAL)

    def __len__(self) -> int:
        return len(self.status)

    def counts(self) -> dict[str, int]:
        """How many signals have each status; statuses that do not occur are left out."""
        return {s: int((self.status == s).sum()) for s in LAYER_STATUSES if (self.status == s).any()}

    def narrowed(self) -> str:
        """How many `optimal` claims are not two-sided, or hold within a scope only."""
        within, below = int((self.holds & torch.isfinite(self.scope)).sum()), int((self.holds & ~self.two_sided).sum())
        words = [f"{below} of the optimal from below only"] if below > within else []
        words += [f"{within} within a scope only"] if within else []
        return f" ({', '.join(words)})" if words else ""

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items()) + self.narrowed()
        worst_gap, broken = self.worst_relative_gap, self.violation / self.scale.clamp(min=1e-300)
        broken = broken[torch.from_numpy(self.status != INFEASIBLE) & torch.isfinite(broken)]
        worst_violation = float(broken.max()) if len(broken) else 0.0
        return (
            f"Certificate of {len(self)} signals: {words}; worst relative gap {worst_gap:.1e}, "
            f"worst violation {worst_violation:.1e} of s_y; tol {self.tol:.0e}"
        )


@undisturbed
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
    if not isinstance(problem, AbstractLayerProblem):
        raise TypeError(f"expected a layer problem, got {describe(problem)}; e.g. cvxinv.NonnegativeLasso(rows, lam)")
    tol = plain_number(tol)  # type: ignore[assignment]
    if not isinstance(tol, (int, float)) or not 0 < tol < torch.inf:
        raise ValueError(f"tol must be > 0 and finite, got {tol!r}; pass e.g. tol=1e-6")
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
    return Certificate.joined(judged)


def proved_dual(problem: AbstractLayerProblem, point: Point, certificate: Certificate) -> Tensor:
    """The p `(N, m)` whose value the certificate's bound is: that of the point, made feasible; for a float64 problem.

    For `infeasible` signals the point's own p, which is a ray.
    """
    kept = torch.from_numpy(certificate.status == INFEASIBLE).to(point.p.device)
    h, p = (torch.nan_to_num(x.double(), nan=0.0, posinf=0.0, neginf=0.0) for x in (point.h, point.p))
    units = None if _ordinary(problem) else units_of(problem, binary=True)
    small, small_h, dual = _in(units, problem, h, p)
    assert dual is not None
    reading = _Reading(small, small_h, certificate.tol)
    found = _Bounds(reading, reading.without_dead(dual), True).p
    found = found if units is None else found * units.p(problem.grows)
    return torch.where(kept[:, None], p, found)


def _judge(problem: AbstractLayerProblem, h: Tensor, dual: Tensor | None, tol: float, thorough: bool) -> Certificate:
    """The certificate of a float64 problem at h `(N, n)` and p `(N, m)`, see `certify`."""
    if _ordinary(problem):
        return _judged(problem, h, dual, tol, thorough)
    units = units_of(problem, binary=True)
    found = _judged(*_in(units, problem, h, dual), tol, thorough, _Outside(units.h.amin(1), lengths(h)))
    units = units._replace(data=units.data.cpu())
    in_objective = ("objective", "bound", "worth", "unit", "floor")
    changes: dict[str, Any] = {k: units.objective(getattr(found, k), problem.grows) for k in in_objective}
    changes |= {k: getattr(found, k) * units.data for k in ("violation", "scale")}
    changes["violations"] = found.violations * units.data[:, None]
    return replace(found, **changes)


def _in(
    units: Units | None, problem: AbstractLayerProblem, h: Tensor, dual: Tensor | None
) -> tuple[AbstractLayerProblem, Tensor, Tensor | None]:
    """Problem, h and p in other units; None: as they are."""
    if units is None:
        return problem, h, dual
    return problem.in_units(units), h / units.h, None if dual is None else dual / units.p(problem.grows)


def _ordinary(problem: AbstractLayerProblem) -> bool:
    """Whether the problem can be judged as it is: no numbers near overflow, no rows or columns that others drown."""
    if problem.form == "curved":
        return True
    rows, scale, (low, high) = problem.rows, problem.rows.scale(), _ORDINARY
    ends = torch.aminmax(torch.where(scale > 0, scale, torch.ones_like(scale)))
    least, most, bias = torch.stack([*ends, rows.b.abs().amax()]).tolist()
    ordinary = low < least and max(most, bias) < high and (rows.W.norm() == 0 or low < rows.W.norm() < high)
    return ordinary and rows.W.even


class _Reading:
    """What of an h does not depend on p: objective, and how far it is over its limits, with the rounding that may hide.

    over: `(N, m)`, the most by which a row may be over its limit, 0 on rows that no h moves, or None; dead: `(N, m)` bool,
    those rows, or None. times: the largest excess in units of what is allowed `(N,)`; violation: signal units.
    """

    def __init__(self, problem: AbstractLayerProblem, h: Tensor, tol: float):
        self.problem, self.h, self.tol, rows = problem, h, tol, problem.rows
        self.v, self.scale = rows.W(h) + rows.b, rows.scale()
        self.objective = problem.objective(h, self.v)
        self.allowed = torch.maximum(tol * self.objective.abs(), problem.floor(tol))
        # an h so huge that its objective overflows would have an infinite gap, and be allowed one
        self.allowed = torch.where(torch.isfinite(self.objective), self.allowed, -torch.inf)
        self.excess = problem.excess(h, self.v)
        # W h + b is exact where h is 0
        self.u = (h != 0).any(1).to(h.dtype) * rounding(max(problem.n, rows.W.terms) + 2, h.dtype)
        self.times, self.violation = torch.zeros_like(self.scale), torch.zeros_like(self.scale)
        self.over: Tensor | None = None
        self.dead: Tensor | None = None
        self.ball: Tensor | None = None
        self._read_rows()
        self._read_ball()
        self._read_unknowns()
        self.doubt = self._doubt()

    def _read_rows(self) -> None:
        excess, rows = self.excess, self.problem.rows
        if excess.rows is None or excess.size is None:
            return
        over = torch.addcmul(excess.rows, self.u[:, None], excess.size).clamp_(min=0)
        if bool((rows.W.row_lengths() == 0).any()):
            self.dead = dead_rows(self.problem)
            over = torch.where(self.dead, 0.0, over)
        allowed = self.tol * torch.minimum(excess.size, rows.stretched(self.scale[:, None].expand_as(over)))
        self.over, self.times = over, torch.maximum(self.times, _ratio(over, allowed).amax(1))
        self.violation = rows.in_signal_units(excess.rows).amax(1).clamp(min=0)

    def _read_ball(self) -> None:
        excess = self.excess
        if excess.ball is None or excess.ball_size is None:
            return
        ball = (excess.ball + self.u * excess.ball_size).clamp(min=0)
        allowed = self.tol * self.problem.number("eps") + _MISFIT * self.scale
        self.ball, self.times = ball, torch.maximum(self.times, _ratio(ball, allowed))
        self.violation = torch.maximum(self.violation, excess.ball.clamp(min=0))

    def _read_unknowns(self) -> None:
        below = self.excess.unknowns
        self.below = None if below is None or not bool((below > 0).any()) else below.clamp(min=0)
        if self.below is not None:
            allowed = self.tol * self.h.abs().amax(1)
            self.times = torch.maximum(self.times, _ratio(self.below.amax(1), allowed))
            # in signal units, by what it moves at most
            moves = (self.below * self.problem.rows.W.column_lengths()).amax(1)
            self.violation = torch.maximum(self.violation, moves)

    def _doubt(self) -> Tensor:
        """What rounding may have taken from the objective, `(N,)`."""
        problem, rows, h = self.problem, self.problem.rows, self.h
        doubt = rounding(rows.m + rows.n, h.dtype) * self.objective.abs()
        if isinstance(problem.misfit, SquaresAndLengths):
            return doubt + problem.misfit.lost(h, self.v)
        if problem.form != "quadratic":
            return doubt
        # the residual is off by u (|w_i| |h| + |b_i| + |y_i|) in each row, half its square by that times it and itself
        map_size, data_size = rows.sizes
        reach = self.u * (map_size * lengths(h) + data_size)
        lost = doubt + reach * ((2 * self.objective).sqrt() + reach)
        # an optimum next to 0 is one to rounding: whether it is next enough must not be left to an estimate of that
        open_ = ((self.objective <= self.allowed) & (self.objective + lost > self.allowed)).nonzero()[:, 0]
        if len(open_):
            lost[open_] = (self._precise(open_) - self.objective[open_]).clamp(min=0) + doubt[open_]
        return lost

    def _precise(self, index: Tensor) -> Tensor:
        """The most that the objective can be, `(len(index),)`, from products of twice the precision, or row by row.

        A W that is too large for the former is mostly a convolution, whose rows are short.
        """
        part, h = self.problem.take(index), self.h[index]
        rows = part.rows
        if rows.m * part.n <= LARGEST:
            r, reach = precise_residual(rows.W.matrix(), h, rows.b, rows.y)
        else:
            r, size = rows.residual(h, self.v[index]), rows.W.magnitude()(h.abs()) + rows.b.abs() + rows.y.abs()
            reach = rounding(rows.W.terms + 2, h.dtype) * size
        most = (rows.fit * (r.abs() + reach).square()).sum(1) / 2
        return most + (part.linear * h.abs()).sum(1) + (part.quadratic * h.square()).sum(1) / 2

    def worth(self, p: Tensor) -> Tensor:
        """sum |p_i| v_i over all limits, `(N,)`: how far below the optimum an h may lie that exceeds them."""
        problem, worth = self.problem, torch.zeros_like(self.scale)
        if self.over is not None:
            worth = worth + (p.abs() * self.over).sum(1)
        if self.ball is not None:
            worth = worth + self.ball * torch.where(problem.rows.on, p * p / problem.rows.weight, 0.0).sum(1).sqrt()
        if self.below is not None:
            cost = (problem.rows.W.adjoint(p) + problem.linear).abs()
            worth = worth + (cost * self.below).sum(1)
        return torch.nan_to_num(worth, nan=torch.inf)

    def feasible(self) -> Tensor:
        """Whether h meets every limit to the rounding of what is added up there, `(N,)`."""
        excess, met = self.excess, torch.ones_like(self.scale, dtype=torch.bool)
        if excess.rows is not None and excess.size is not None:
            met &= (excess.rows <= self.u[:, None] * excess.size).all(1)
        if excess.ball is not None and excess.ball_size is not None:
            met &= excess.ball <= self.u * excess.ball_size
        return met if self.below is None else met & (self.below <= 0).all(1)

    def without_dead(self, p: Tensor) -> Tensor:
        """p `(N, m)`, 0 on rows that no h moves: they limit none."""
        return p if self.dead is None else torch.where(self.dead, 0.0, p)

    def dead_excess(self) -> Tensor | None:
        """By how much rows that no h moves are over their limits, signal units, -inf elsewhere, `(N, m)`."""
        if self.dead is None or self.excess.rows is None:
            return None
        return torch.where(self.dead, self.problem.rows.in_signal_units(self.excess.rows), -torch.inf)

    def take(self, index: Tensor) -> "_Reading":
        """The signals at `index`, positions."""
        if len(index) == self.problem.N:
            return self
        return _Reading(self.problem.take(index), self.h[index], self.tol)


class _Bounds:
    """What a p proves: bound and worth `(N,)`, the p `(N, m)` that does, the scope `(N,)`, and the rounding in it."""

    def __init__(self, reading: _Reading, dual: Tensor, thorough: bool):
        # repairs that cost a factorisation are worth it only where the cheap bound does not settle the matter
        enough = reading.objective - 0.5 * reading.allowed if thorough else torch.full_like(reading.scale, -torch.inf)
        lower = reading.problem.lower(dual, enough)
        self.p, self.worth, self.doubt = lower.p, reading.worth(lower.p), lower.doubt
        # all terms of the objective are >= 0
        self.bound, self.scope = (lower.bound - self.worth).clamp(min=0), torch.full_like(lower.bound, torch.inf)
        there = self.bound > 0
        self.worth, self.p = torch.where(there, self.worth, 0.0), torch.where(there[:, None], self.p, 0.0)
        if thorough:
            self._near(reading, dual)

    def _near(self, reading: _Reading, dual: Tensor) -> None:
        """Where lam = 0: what p proves of all h that could be better."""
        open_ = (reading.objective + reading.doubt - self.bound > reading.allowed) & (reading.allowed > 0)
        left = (serves(reading.problem) & open_ & (reading.times <= _INACCURATE)).nonzero()[:, 0]
        if len(left) == 0:
            return
        part = reading.take(left)
        found = near(part.problem, part.h, part.objective + part.doubt, dual[left], part.allowed)
        worth = part.worth(found.p)
        better = found.bound - worth > self.bound[left]
        there = left[better]
        self.bound[there], self.worth[there] = (found.bound - worth)[better], worth[better]
        self.p[there], self.scope[there] = found.p[better], found.scope[better]


def _ratio(x: Tensor, allowed: Tensor) -> Tensor:
    """x / allowed, 0 where x is 0, inf where nothing is allowed."""
    return torch.where(x > 0, x / allowed.clamp(min=1e-300), 0.0)


class _Outside(NamedTuple):
    """What is told in the problem's own units: the least length there of an h of length 1 here, and that of h, `(N,)`."""

    unit: Tensor
    length: Tensor


def _judged(
    problem: AbstractLayerProblem,
    h: Tensor,
    dual: Tensor | None,
    tol: float,
    thorough: bool,
    outside: _Outside | None = None,
) -> Certificate:
    finite = torch.isfinite(h).all(1)
    h = torch.where(finite[:, None], h, 0.0)
    dual = problem.complete(h) if dual is None else dual
    reading = _Reading(problem, h, tol)
    dual = reading.without_dead(dual)
    bounds = _Bounds(reading, dual, thorough)
    objective, allowed, rows = reading.objective, reading.allowed, problem.rows
    gap = objective - bounds.bound + reading.doubt
    times = torch.maximum(_ratio(gap, allowed), _ratio(bounds.worth, allowed)).maximum(reading.times)
    times = torch.where((allowed > 0) | (gap <= 0) & torch.isfinite(objective), times, torch.inf)
    # the gap of the opened problem is never below 0: anything else is a fault of the arithmetic
    broken = gap < -(reading.doubt + bounds.doubt + 1e-9 * torch.maximum(objective.abs(), problem.unit()))
    if outside is not None:
        # of unknowns of very different sizes a ball holds less than in these units, and perhaps not even h
        bounds.scope *= outside.unit
        times = torch.where(bounds.scope < outside.length, torch.inf, times)
    near, met, wrong, sound = (x.bool().numpy() for x in _on_cpu(times <= _INACCURATE, times <= 1, broken, finite))
    status = np.full(problem.N, USER_LIMIT, dtype=object)
    status[near] = OPTIMAL_INACCURATE
    status[met] = OPTIMAL
    status[wrong & near] = NUMERICAL_ERROR
    _look_for_rays(reading, dual, status, bounds.scope, 1.0 if outside is None else outside.unit)
    if isinstance(problem, AbstractCurvedProblem):
        still = (reading.times <= 1) & (problem.movement(h) <= tol) & (gap > allowed)
        status[still.cpu().numpy()] = STATIONARY
    status[~sound] = NUMERICAL_ERROR
    nan = torch.where(finite, torch.zeros_like(objective), torch.nan)
    over, two_sided = reading.excess.rows, finite & reading.feasible() & torch.isinf(bounds.scope)
    violations = torch.zeros_like(reading.v) if over is None else rows.in_signal_units(over.clamp(min=0))
    objective, bound, violation, scale, unit, floor, worth, scope, times, two_sided = _on_cpu(
        objective + nan, bounds.bound, reading.violation + nan, reading.scale, problem.unit(), problem.floor(tol),
        bounds.worth, bounds.scope, times, two_sided,
    )  # fmt: skip
    two_sided = two_sided.bool() & torch.from_numpy(status == OPTIMAL)
    remark = _remarks(reading, status, scope, bound) if thorough else ("",) * problem.N
    return Certificate(
        objective, bound, violation, scale, tol, status.astype("<U18"), remark, unit, floor, worth, two_sided, scope,
        violations.cpu(), times,
    )  # fmt: skip


def _on_cpu(*values: Tensor) -> tuple[Tensor, ...]:
    """Numbers and bools per signal, `(N,)` each, on the CPU; from a device in one copy, as float64."""
    if values[0].device.type == "cpu":
        return values
    return torch.stack([value.to(torch.float64) for value in values]).cpu().unbind()


def _look_for_rays(reading: _Reading, dual: Tensor, status: np.ndarray, scope: Tensor, unit: float | Tensor) -> None:
    """Set `infeasible`, and its scope, where p or a row that no h moves proves it; unit: of the scope."""
    problem, rows = reading.problem, reading.problem.rows
    left = torch.from_numpy(np.flatnonzero(status != OPTIMAL))
    if len(left) and (reading.excess.rows is not None or reading.excess.ball is not None):
        left = left.to(scope.device)
        part = problem if len(left) == problem.N else problem.take(left)
        away = part.infeasibility(dual[left], reading.tol * part.rows.scale())
        size = part.rows.scale() + part.rows.in_signal_units(part.rows.b.expand_as(part.rows.y)).norm(dim=-1)
        beyond = away > _FAR * size / (rows.W.norm() or 1.0)
        status[left[beyond].cpu().numpy()] = INFEASIBLE
        scope[left[beyond]] = (away * (unit if isinstance(unit, float) else unit[left]))[beyond]
    dead = reading.dead_excess()
    if dead is not None:
        never = (dead > reading.tol * reading.scale[:, None]).any(1)
        status[never.cpu().numpy()] = INFEASIBLE
        scope[never] = torch.inf


def _remarks(reading: _Reading, status: np.ndarray, scope: Tensor, bound: Tensor) -> tuple[str, ...]:
    remarks = _weak_bounds(reading.problem, status, (bound > 0).cpu().numpy())
    for i in np.flatnonzero(torch.isfinite(scope).cpu().numpy() & (status != INFEASIBLE)):
        remarks[i] = f"the bound holds for |h| <= {float(scope[i]):.2g} only: the rows on do not determine h"
    dead = reading.dead_excess()
    if dead is not None:
        for i in (dead > 0).any(1).nonzero()[:, 0].tolist():
            k, share = int(dead[i].argmax()), float(dead[i].amax() / reading.scale[i].clamp(min=1e-300))
            said = f"row {k} is 0 in W and {share:.1e} s_y over its limit, whatever h is"
            remarks[i] = "; ".join(filter(None, (said, remarks[i])))
    return tuple(remarks)


def _weak_bounds(problem: AbstractLayerProblem, status: np.ndarray, bounded: np.ndarray) -> list[str]:
    """Why no better bound is known, for signals without an answer; bounded: which have one above 0 in spite of that."""
    open_ = (status != OPTIMAL) & (status != STATIONARY)
    if problem.form != "interval":  # only there a remark can say what is infeasible
        open_ &= (status != INFEASIBLE) & ~bounded
    if not open_.any():
        return [""] * len(status)
    remarks = np.full(len(status), "", dtype=object)
    # a remark may cost a factorisation per signal
    part = problem if open_.all() else problem.take(torch.as_tensor(np.flatnonzero(open_), device=problem.rows.y.device))
    # of rows that determine h it is the point that leaves no bound above 0, and nothing in the problem
    known = determined(part).tolist()
    remarks[open_] = ["" if one else said for one, said in zip(known, part.bound_remarks(), strict=True)]
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
