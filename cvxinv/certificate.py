"""The one judge: what a point proves about a layer problem, in float64, from the problem's data and the point alone."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .inputs import describe, plain_number, read_numbers
from .layer_problem import AbstractCurvedProblem, AbstractLayerProblem, Point
from .surroundings import undisturbed

OPTIMAL = "optimal"
OPTIMAL_INACCURATE = "optimal_inaccurate"
INFEASIBLE = "infeasible"
USER_LIMIT = "user_limit"
NUMERICAL_ERROR = "numerical_error"
STATIONARY = "stationary"
LAYER_STATUSES = (OPTIMAL, STATIONARY, OPTIMAL_INACCURATE, INFEASIBLE, USER_LIMIT, NUMERICAL_ERROR)

_INACCURATE = 1000.0  # `optimal_inaccurate` reaches this many times the tolerance
_TENSORS = ("objective", "bound", "violation", "scale", "unit", "floor")
_AT_ONCE = 20_000_000  # numbers of h and p that are judged at once: about a gigabyte of work space
_FAR = 1e8  # an h this many times its natural size s_y / |W| counts as infinitely far


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a point proves, per signal; float64 tensors `(N,)`.

    objective, bound, gap = objective - bound: units of the problem's objective (signal^2). violation: largest
    constraint violation, signal units. scale: s_y, signal units. allowed_gap, allowed_violation: what `optimal`
    asks for. status: numpy array of str, one of `LAYER_STATUSES`. remark: why a bound may be weak, or "".

    unit: natural size of the objective, s_y^2 / 2 for squared misfits, s_y / |W| for the basis pursuits. floor: the gap
    that counts as none whatever the objective is: 1e-20 s_y^2 / 2, or tol 1e-10 s_y / |W|.

    `optimal`: violation <= tol s_y and gap <= max(tol |objective|, floor). `optimal_inaccurate`: within 1000 times that.
    `infeasible`: p proves that every h shorter than 1e8 s_y / |W| breaks some bound by more than tol s_y. `stationary`:
    only for the one problem that is not convex, where a proximal gradient step no longer moves h. Else `user_limit`, or
    `numerical_error` where the point is not finite. The gap may be negative by at most |p|' violation.
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

    def take(self, index: Tensor | slice) -> "Certificate":
        """The certificates at `index` (a bool mask, positions, or a slice)."""
        positions = np.arange(len(self))[index if isinstance(index, slice) else index.cpu().numpy()]
        return replace(
            self,
            objective=self.objective[index],
            bound=self.bound[index],
            violation=self.violation[index],
            scale=self.scale[index],
            status=self.status[positions],
            remark=tuple(self.remark[k] for k in positions),
            unit=self.unit[index],
            floor=self.floor[index],
        )

    def counts(self) -> dict[str, int]:
        """How many signals have each status; statuses that do not occur are left out."""
        return {s: int((self.status == s).sum()) for s in LAYER_STATUSES if (self.status == s).any()}

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
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
    finite = torch.isfinite(h).all(1)
    h = torch.where(finite[:, None], h, torch.zeros_like(h))
    dual = problem.complete(h) if dual is None else dual

    objective, violation, scale = problem.objective(h), problem.violation(h), problem.rows.scale()
    floor = problem.floor(tol)
    allowed = torch.maximum(tol * objective.abs(), floor)
    # repairs that cost a factorisation are worth it only where the cheap bound does not settle the matter
    enough = objective - 0.5 * allowed
    bound = problem.dual(dual, enough if thorough else torch.full_like(enough, -torch.inf))
    gap = objective - bound
    far = _FAR * (scale + problem.rows.b.norm(dim=-1)) / (problem.rows.W.norm() or 1.0)
    status = np.full(problem.N, USER_LIMIT, dtype=object)
    # an h so huge that its objective overflows would have an infinite gap, and be allowed one
    allowed = torch.where(torch.isfinite(objective), allowed, torch.full_like(allowed, -torch.inf))
    loose = (violation <= _INACCURATE * tol * scale) & (gap <= _INACCURATE * allowed)
    doubtful = (~loose).nonzero()[:, 0]
    if len(doubtful):
        part = problem if len(doubtful) == problem.N else problem.take(doubtful)
        beyond = part.infeasibility(dual[doubtful], (tol * scale)[doubtful]) > far[doubtful]
        status[doubtful[beyond].cpu().numpy()] = INFEASIBLE
    status[loose.cpu().numpy()] = OPTIMAL_INACCURATE
    status[((violation <= tol * scale) & (gap <= allowed)).cpu().numpy()] = OPTIMAL
    if isinstance(problem, AbstractCurvedProblem):
        still = (violation <= tol * scale) & (problem.movement(h) <= tol) & (gap > allowed)
        status[still.cpu().numpy()] = STATIONARY
    status[(~finite).cpu().numpy()] = NUMERICAL_ERROR
    remark = _remarks(problem, status) if thorough else ("",) * problem.N
    nan = torch.where(finite, 0.0, torch.nan).to(objective)
    return Certificate(
        (objective + nan).cpu(), bound.cpu(), (violation + nan).cpu(), scale.cpu(), tol, status.astype("<U18"), remark,
        problem.unit().cpu(), floor.cpu(),
    )  # fmt: skip


def _remarks(problem: AbstractLayerProblem, status: np.ndarray) -> tuple[str, ...]:
    open_ = (status != OPTIMAL) & (status != STATIONARY)
    if problem.form != "interval":  # only there a remark can say what is infeasible
        open_ &= status != INFEASIBLE
    if not open_.any():
        return ("",) * len(status)
    remarks = np.full(len(status), "", dtype=object)
    # a remark may cost a factorisation per signal
    part = problem if open_.all() else problem.take(torch.as_tensor(np.flatnonzero(open_), device=problem.rows.y.device))
    remarks[open_] = part.bound_remarks()
    return tuple(remarks)


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
