"""The best latent of a box as a mixed-integer program: an independent statement of what `prove` decides, for small nets.

    minimise    |A (W x_H + b) - y|                                                                (P)
    subject to  low <= z <= high,   x_0 = z,   for every hidden layer  u = W x_{l-1} + b  with limits  l <= u <= h:
                units with l >= 0:  x = u,      units with h <= 0:  x = s u,      others, with b in {0, 1}:
                x >= s u,   x >= u,   x <= u - (1 - s) l (1 - b),   x <= s u + (1 - s) h b

b = 1 leaves x = u >= 0, b = 0 leaves x = s u <= 0. The limits hold for every latent of the box (`question.ask`), so they
cut nothing off. In l1 and linf a linear objective, which HiGHS solves; in l2 a cone, which SCIP solves (the extra
`[scip]`). Masks and matrices leave the rows that were seen; a ReLU at the output is one more layer.

It is a cross-check and not an engine: every undecided unit doubles the worst case. What a solver says of bounds and of
infeasibility holds up to its own tolerances, here 1e-9 and absolute: signals should be of the order of 1. Misfits are not
the solver's word: the network computes them again at the latent that it gives.

Source: Tjeng, Xiao, Tedrake, "Evaluating Robustness of Neural Networks with Mixed Integer Programming" (2019), section 4.1
(the formulation of ReLU by one binary unknown); changed: slopes s, and the misfit of an inversion as objective.
"""

import time
import warnings
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..inputs import plain_number
from ..solvers.reference import require
from ..solvers.silence import silent_stdout
from .question import Question, ask, check_norm, read_eps

if TYPE_CHECKING:
    import cvxpy as cp

SOLVER = {"l1": "HIGHS", "linf": "HIGHS", "l2": "SCIP"}
OPTIMAL, LIMIT, FAILED = "optimal", "user_limit", "numerical_error"
_TOL = 1e-9  # of the solvers: near the finest that both take
_EDGE = 1e-6  # of eps
_CLOSED = 1e-6  # of the misfit: what is left between bound and misfit where the solver has finished


@dataclass(frozen=True, eq=False)
class Best:
    """The best latent of a box by a mixed-integer program.

    z: `(n0,)`, NaN where the solver gave none. misfit: |A G(z) - y|, computed by the network; bound: no latent has a lower
    one, on the solver's word; signal units. status: `optimal` (misfit - bound <= 1e-6 misfit + 1e-7 of the largest |y|),
    `user_limit`, `numerical_error` (no latent). binaries: undecided units. seconds: of the solver.
    """

    z: Tensor
    misfit: float
    bound: float
    status: str
    binaries: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Within:
    """Whether any latent of a box is within eps of a signal.

    found: True (`z` is one, the network's own misfit says so), False (none is, on the solver's word), None (undecided: out
    of time, or only within the solver's tolerance). z: `(n0,)`, NaN where there is none. misfit: its own, inf
    without one.
    """

    found: bool | None
    z: Tensor
    misfit: float
    binaries: int
    seconds: float


def statement(question: Question, norm: str, eps: float | None = None) -> tuple["cp.Problem", "cp.Variable"]:
    """(P) of one signal and its z; with `eps` the same without an objective and with |A (W x_H + b) - y| <= eps."""
    import cvxpy as cp

    net, q = question.network, question
    z = cp.Variable(net.latent_dim, name="z")
    x, constraints = z, [q.low.numpy() <= z, z <= q.high.numpy()]
    for layer in range(len(net.W)):
        x, kinks = _layer(x, *(part[layer].numpy() for part in (net.W, net.b, net.s, q.lo, q.hi)))
        constraints += kinks
    r = net.last.numpy() @ x + (net.offset - q.y).numpy()
    misfit = {"l1": cp.norm1, "l2": cp.norm2, "linf": cp.norm_inf}[check_norm(norm)](r)
    if eps is None:
        return cp.Problem(cp.Minimize(misfit), constraints), z
    return cp.Problem(cp.Minimize(0), [*constraints, misfit <= eps]), z


def _layer(
    below: "cp.Expression", W: np.ndarray, b: np.ndarray, s: np.ndarray, l: np.ndarray, h: np.ndarray
) -> tuple["cp.Variable", list["cp.Constraint"]]:
    """x of one hidden layer and what ties it to the layer below."""
    import cvxpy as cp

    x, u = cp.Variable(len(b)), W @ below + b
    on, off, open_ = np.flatnonzero(l >= 0), np.flatnonzero((h <= 0) & (l < 0)), np.flatnonzero((l < 0) & (h > 0))
    tied = [x[on] == u[on]] if len(on) else []
    tied += [x[off] == cp.multiply(s[off], u[off])] if len(off) else []
    if len(open_):
        x_, u_, s, l, h = x[open_], u[open_], s[open_], l[open_], h[open_]
        phase = cp.Variable(len(open_), boolean=True)
        cut = cp.multiply(s, u_)
        tied += [x_ >= cut, x_ >= u_]
        tied += [x_ <= u_ - cp.multiply((1 - s) * l, 1 - phase), x_ <= cut + cp.multiply((1 - s) * h, phase)]
    return x, tied


def best_of_box(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    *,
    norm: str = "l1",
    measurement: object = None,
    box: object = None,
    time_limit: float = 60.0,
) -> Best:
    """The latent of a box with the smallest misfit |A G(z) - y| in `norm`: l1 or linf by HiGHS, l2 by SCIP.

    y: `(k,)` or `(1, k)`; measurement, box: as in `prove`. time_limit: seconds.
    Raises BackendNotInstalledError without the solver's package; TypeError and ValueError as `ask`.
    """
    require(SOLVER[check_norm(norm)])
    question = ask(generator, y, measurement=measurement, box=box)
    problem, z = statement(question, norm)
    word, seconds = _solve(problem, SOLVER[norm], _limit(time_limit))
    latent = _latent(z, question)
    misfit = question.misfit(latent, norm)
    if isnan(misfit):
        return Best(latent, nan, 0.0, LIMIT if word == LIMIT else FAILED, question.undecided, seconds)
    bound = min(_bound(problem, SOLVER[norm], question.undecided > 0), misfit)
    closed = misfit - bound <= _CLOSED * misfit + 1e-7 * float(question.y.abs().amax())
    return Best(latent, misfit, bound, OPTIMAL if closed else LIMIT, question.undecided, seconds)


def any_within(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    eps: float,
    *,
    norm: str = "linf",
    measurement: object = None,
    box: object = None,
    time_limit: float = 60.0,
) -> Within:
    """Whether any latent of a box has |A G(z) - y| <= eps in `norm`; eps in signal units, all else as `best_of_box`.

    A latent counts up to 1e-12 of the largest |y| beyond eps, its misfit's own rounding.

    Raises BackendNotInstalledError without the solver's package; TypeError and ValueError as `ask`, and for eps < 0.
    """
    require(SOLVER[check_norm(norm)])
    eps = read_eps(eps)
    question = ask(generator, y, measurement=measurement, box=box)
    rounding = 1e-12 * float(question.y.abs().amax())
    found, latent, misfit, seconds = None, torch.full_like(question.low, nan), inf, 0.0
    for aim in (eps, eps * (1 - _EDGE)):  # a latent at the very edge is beyond it by the solver's tolerance
        problem, z = statement(question, norm, aim)
        word, spent = _solve(problem, SOLVER[norm], _limit(time_limit))
        latent, seconds = _latent(z, question), seconds + spent
        misfit = question.misfit(latent, norm) if z.value is not None else inf
        found = True if misfit <= eps + rounding else False if word == "infeasible" and aim == eps else None
        if found is not None or word != OPTIMAL:
            break
    return Within(found, latent, misfit, question.undecided, seconds)


def _limit(seconds: object) -> float:
    seconds = plain_number(seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < inf:
        raise ValueError(f"expected time_limit as a number of seconds > 0, got {seconds!r}")
    return float(seconds)


def _solve(problem: "cp.Problem", solver: str, time_limit: float) -> tuple[str, float]:
    """CVXPY's word for how it ended, and seconds."""
    import cvxpy as cp

    options: dict[str, dict[str, Any]] = {
        "HIGHS": {
            "time_limit": time_limit, "mip_rel_gap": _TOL, "mip_abs_gap": _TOL, "mip_feasibility_tolerance": _TOL,
            "primal_feasibility_tolerance": _TOL, "dual_feasibility_tolerance": _TOL, "parallel": "off",
        },
        "SCIP": {"scip_params": {"limits/time": time_limit, "limits/gap": _TOL, "numerics/feastol": _TOL}},
    }  # fmt: skip
    began = time.perf_counter()
    with warnings.catch_warnings(), silent_stdout():
        warnings.simplefilter("ignore")  # of inaccurate solutions: the network says how far off they are
        try:
            problem.solve(solver=solver, **options[solver])
        except cp.SolverError:  # CVXPY's word for "no values"; a SCIP that ran out of time before any latent says so too
            return LIMIT if time.perf_counter() - began >= time_limit else FAILED, time.perf_counter() - began
    return str(problem.status), time.perf_counter() - began


def _latent(z: "cp.Variable", question: Question) -> Tensor:
    """The solver's z, put into the box that it may have left by its tolerance; NaN without one."""
    if z.value is None:
        return torch.full_like(question.low, nan)
    return torch.as_tensor(z.value, dtype=torch.float64).clamp(question.low, question.high)


def _bound(problem: "cp.Problem", solver: str, mixed: bool) -> float:
    """The solver's lower bound of the objective, at least 0."""
    stats: Any = problem.solver_stats.extra_stats
    if solver == "SCIP":
        return max(float(stats["model"].getDualbound()), 0.0)
    return max(float(stats.mip_dual_bound if mixed else problem.value), 0.0)
