"""The optimality conditions of a layer problem, line by line: which one an h and a p break, where, and by how much.

min F(W h + b) + g(h) is solved by h, and (D) by p, where h meets its limits, p those of (D), and

    F(v) + F*(p) - p'v = 0  at v = W h + b,      g(h) + g*(-W'p) + h'W'p = 0

Both sums have one term >= 0 for each row and for each unknown, and together they are objective - bound: the gap, told by
rows and unknowns. Where an answer comes without p it is held against the optimum's.
"""

import torch
from torch import Tensor

from ..layers.core.misfits import LargestExcess, SumOfExcesses, SumOfRooms
from ..layers.core.problem import AbstractLayerProblem
from .exercise import Finding

TOL = 1e-6  # the judge's


def broken_line(problem: AbstractLayerProblem, h: Tensor, p: Tensor | None, optimal: Tensor | None) -> Finding | None:
    """The line that h `(1, n)` and p `(1, m)` break, of a problem of one signal, or None where all hold to TOL.

    p None: that of h itself where the misfits say it, and `optimal`, the dual optimum, elsewhere.
    """
    found = _over_limits(problem, h)
    if found is not None:
        return found
    if problem.form == "curved":
        return _standing(problem, h)
    p = (p if p is not None else _own(problem, h, optimal)).double()
    return dual_line(problem, p) or _largest_part(problem, h, p)


def _own(problem: AbstractLayerProblem, h: Tensor, optimal: Tensor | None) -> Tensor:
    """The dual vector to hold an h against that came without one."""
    assert optimal is not None
    if problem.form not in ("quadratic", "layered"):
        return optimal
    return torch.where(problem.rows.on, problem.rows.fit * problem.rows.residual(h), optimal)


def _worst(over: Tensor, allowed: Tensor) -> tuple[int, float, float] | None:
    """Position of what is furthest over its allowance, and both numbers; None where nothing is."""
    allowed = allowed.expand_as(over)
    share = torch.where(over > allowed, over / allowed.clamp(min=1e-300), torch.zeros_like(over))
    k = int(share.argmax())
    return (k, float(over[k]), float(allowed[k])) if float(share[k]) > 1 else None


def _over_limits(problem: AbstractLayerProblem, h: Tensor) -> Finding | None:
    """The first limit that h breaks, or None: signs, rows, the length of the misfit."""
    excess, scale = problem.excess(h), problem.rows.scale()
    if excess.unknowns is not None:
        found = _worst(excess.unknowns[0].clamp(min=0), TOL * h.abs().amax(1))
        if found is not None:
            return Finding("h >= 0", f"unknown {found[0]}", *found[1:])
    if excess.rows is not None and excess.size is not None:
        found = _worst(excess.rows[0].clamp(min=0), TOL * torch.minimum(excess.size[0], scale))
        if found is not None:
            return Finding(_limit_line(problem, found[0]), f"row {found[0]}", *found[1:])
    if excess.ball is not None:
        allowed = TOL * problem.number("eps") + 1e-10 * scale
        found = _worst(excess.ball.clamp(min=0), allowed)
        if found is not None:
            return Finding("|w^(1/2) (W h + b - y)_on| <= eps", "", *found[1:])
    return None


def _limit_line(problem: AbstractLayerProblem, row: int) -> str:
    if problem.form == "layered":
        return "g_i >= 0"
    if isinstance(problem.misfit, SumOfRooms):
        return "(W h + b)_on <= y" if bool(problem.rows.on[0, row]) else "(W h + b)_off <= 0"
    if problem.form == "interval":
        named = "eps" in problem.numbers
        if bool(problem.rows.off[0, row]):
            return "(W h + b)_off <= eps" if named else "(W h + b)_off <= hi"
        return "w^(1/2) |W h + b - y|_on <= eps" if named else "lo <= (W h + b)_on <= hi"
    return "(W h + b)_off <= 0"


# --- p ----------------------------------------------------------------------------------------------


def dual_line(problem: AbstractLayerProblem, p: Tensor) -> Finding | None:
    """The line of (D) that p `(1, m)` breaks, or None where it is feasible to TOL."""
    rows, size = problem.rows, p.abs().amax(1)
    found = _worst((p - problem.misfit.clipped(p))[0].abs(), TOL * size)
    if found is not None:
        k = found[0]
        unseen = not bool(rows.on[0, k] | rows.off[0, k]) and problem.form != "layered"
        negative = bool(rows.off[0, k]) and float(p[0, k]) < 0
        line = "p = 0 on rows that were not seen" if unseen else "p_off >= 0" if negative else _end_line(problem)
        return Finding(line, f"row {k}", *found[1:])
    if _squared(problem):
        return None
    lack = problem.penalty.short(rows.W.adjoint(p))[0].abs()
    allowed = TOL * torch.maximum(problem.linear[0].expand_as(lack), rows.W.magnitude().adjoint(p.abs())[0])
    found = _worst(lack, allowed)
    return None if found is None else Finding(_slope_line(problem), f"unknown {found[0]}", *found[1:])


def _squared(problem: AbstractLayerProblem) -> bool:
    """Whether h^2 has a weight: then every W'p will do."""
    return bool((problem.quadratic > 0).any())


def _end_line(problem: AbstractLayerProblem) -> str:
    if problem.form == "interval":
        return "p_i <= 0 where hi_i = inf, p_i >= 0 where lo_i = -inf"
    if problem.form == "layered":
        return "|p_i| <= lam_i on the rows of g_i"
    if isinstance(problem.misfit, LargestExcess):
        return "sum_on |p_i| / w_i^(1/2) + sum_off p_i <= 1"
    return "p_i >= -w_i^(1/2)" if isinstance(problem.misfit, SumOfRooms) else "|p_i| <= w_i^(1/2)"


def _weight_name(problem: AbstractLayerProblem) -> str:
    """What stands beside h in g."""
    if bool(problem.penalty.nothing.all()) or problem.form == "excess":
        return "0"
    if "lam" not in problem.numbers:
        return "1"
    return "lam D" if problem.sizes is None and problem.penalty.sizes is not None else "lam"


def _slope_line(problem: AbstractLayerProblem) -> str:
    name = _weight_name(problem)
    if problem.nonnegative:
        return "W'p >= 0" if name == "0" else f"W'p + {name} >= 0"
    return "W'p = 0" if name == "0" else f"|W'p| <= {name}"


# --- the gap ----------------------------------------------------------------------------------------


def _largest_part(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> Finding | None:
    """The row or the unknown that holds most of the gap."""
    objective = problem.objective(h)
    allowed = float(torch.maximum(TOL * objective.abs(), problem.floor(TOL)))
    rows, unknowns = row_parts(problem, h, p), unknown_parts(problem, h, p)
    if float(rows.clamp(min=0).sum() + unknowns.clamp(min=0).sum()) <= allowed:
        return None
    if float(rows.max()) >= float(unknowns.max()):
        k = int(rows.argmax())
        place = "" if k >= problem.rows.m or (problem.form == "ball" and bool(problem.rows.on[0, k])) else f"row {k}"
        return Finding(_row_line(problem, k), place, float(rows[k]), allowed)
    k = int(unknowns.argmax())
    return Finding(_unknown_line(problem), f"unknown {k}", float(unknowns[k]), allowed)


def row_parts(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> Tensor:
    """F(v) + F*(p) - p'v, row by row `(m,)` or `(m + 1,)`, units of the objective."""
    rows, misfit = problem.rows, problem.misfit
    v = rows.W(h) + rows.b
    off = torch.where(rows.off, -p * v, 0.0)
    if problem.form in ("quadratic", "layered"):
        parts = torch.where(rows.on, (p - rows.fit * rows.residual(h)) ** 2 / (2 * rows.weight), off)
        if problem.form == "layered":
            price = misfit.price  # type: ignore[attr-defined]
            parts = torch.where(misfit.priced, price * v.abs() - p * v, parts)
    elif problem.form == "ball":
        length = float(torch.where(rows.on, p * p / rows.weight, 0.0).sum().sqrt())
        # one number for all on rows: it stands at the largest
        r = torch.where(rows.on, p * rows.residual(h), 0.0)
        at = torch.zeros_like(r).scatter_(1, r.abs().argmax(1, keepdim=True), 1.0)
        parts = off + at * (float(problem.number("eps")[0]) * length - r.sum())
    elif problem.form == "interval":
        lo, hi = problem.limits()
        end = torch.where(p > 0, hi, torch.where(p < 0, lo, v))
        parts = p * (end - v)
    else:
        return _excess_parts(problem, v, p)
    return parts[0]


def _excess_parts(problem: AbstractLayerProblem, v: Tensor, p: Tensor) -> Tensor:
    rows, misfit = problem.rows, problem.misfit
    r = v - torch.where(rows.on, rows.y, 0.0)
    if isinstance(misfit, SumOfExcesses):
        return (misfit.excesses(v) - p * r)[0]
    if isinstance(misfit, LargestExcess):
        delta, share = misfit.excesses(v).amax(), misfit.width * p.abs()
        return torch.cat([(share * delta - p * r)[0], (delta * (1 - share.sum(1))).reshape(1)])
    return torch.where(rows.on, -(rows.weight.sqrt() + p) * r, -p * r)[0]


def unknown_parts(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> Tensor:
    """g(h) + g*(-W'p) + h'W'p, unknown by unknown `(n,)`, units of the objective."""
    Wp, g = problem.rows.W.adjoint(p), problem.penalty
    if _squared(problem):
        return ((g.quadratic * h + Wp) ** 2 / (2 * g.quadratic))[0]
    return ((g.linear * (h if problem.nonnegative else h.abs())) + Wp * h)[0]


def _row_line(problem: AbstractLayerProblem, k: int) -> str:
    if k >= problem.rows.m:
        return "sum_on |p_i| / w_i^(1/2) + sum_off p_i = 1"
    if bool(problem.rows.off[0, k]) and problem.form in ("quadratic", "ball"):
        return "p_off (W h + b)_off = 0"
    if problem.form == "layered" and bool(problem.misfit.priced[0, k]):
        return "p_i = lam_i sign(g_i) where g_i != 0"
    if problem.form in ("quadratic", "layered"):
        return "p_on = w (W h + b - y)"
    if problem.form == "ball":
        return "p_on is a multiple of w (W h + b - y), whose length is eps"
    if problem.form == "interval":
        return "p_i > 0 only where W h + b is at its upper end, p_i < 0 only at its lower one"
    if isinstance(problem.misfit, LargestExcess):
        return "p_i != 0 only on rows of the largest misfit, and of its sign"
    if isinstance(problem.misfit, SumOfRooms):
        return "p_i > -w_i^(1/2) only where W h + b is at its end"
    return "p_i = w_i^(1/2) sign(W h + b - y)_i on rows off their data"


def _unknown_line(problem: AbstractLayerProblem) -> str:
    name = _weight_name(problem)
    if _squared(problem):
        return "W'p + gamma h = 0"
    if problem.nonnegative:
        return "h_j (W'p)_j = 0" if name == "0" else f"h_j (W'p + {name})_j = 0"
    return "W'p = 0" if name == "0" else f"(W'p)_j = -{name} sign(h_j) where h_j != 0"


def _standing(problem: AbstractLayerProblem, h: Tensor) -> Finding:
    """Of a problem that is not convex: where a proximal gradient step still moves h."""
    p = problem.complete(h)
    slope = (problem.rows.W.adjoint(p) + problem.linear)[0]
    c = float(problem.misfit.curvature()[0, 0]) * problem.rows.W.norm() ** 2  # type: ignore[attr-defined]
    moved = ((h[0] - slope / c).clamp(min=0) - h[0]).abs() * c
    k = int(moved.argmax())
    line = "(W'p + lam)_j = 0 where h_j > 0" if float(h[0, k]) > 0 else "(W'p + lam)_j >= 0 where h_j = 0"
    return Finding(line, f"unknown {k}", float(moved[k]), TOL * float(problem.linear.max() + p.abs().max()))
