"""The checks that every layer problem passes, as functions that raise AssertionError with what they saw.

They take a `Case`, so that the tests run them on instances, random and trained rows, and the mutation tests on classes
with a planted fault.
"""

from collections.abc import Callable, Iterator

import cases
import cvxpy as cp
import numpy as np
import torch
from cases import Case
from cvxpy.constraints.zero import Equality
from torch import Tensor

import cvxinv as ci
from cvxinv.layers.core.problem import AbstractLayerProblem, Point
from cvxinv.layers.core.proofs import Unmet, rounding
from cvxinv.solvers.first_order.fista import FISTA
from cvxinv.solvers.first_order.graph_admm import GraphADMM
from cvxinv.solvers.first_order.linearized_admm import LinearizedADMM
from cvxinv.solvers.first_order.pdhg import PDHG
from cvxinv.solvers.known import TORCH_SOLVERS
from cvxinv.solvers.newton import ball, crossover
from cvxinv.solvers.newton.interior_point import InteriorPoint
from cvxinv.solvers.signed import apart, halves

TOL = 1e-6


def serves(solver: str, problem: AbstractLayerProblem) -> bool:
    """Whether a fast method takes this problem."""
    return TORCH_SOLVERS[solver].refuses(problem) is None


def fast(problem: AbstractLayerProblem) -> tuple[str, ...]:
    """Every fast method that takes this problem."""
    return tuple(solver for solver in TORCH_SOLVERS if serves(solver, problem))


FAST = tuple(TORCH_SOLVERS)


# --- 1: statement and certificate say the same ----------------------------------------------------


def check_statement(case: Case) -> None:
    """Objective and violation at random points are what CVXPY computes from either form of the statement."""
    problem, draw = case.problem, cases.seeded(1)
    natural = natural_size(problem)[:, None]
    if problem.form == "excess":
        h = natural * cases.normal(problem.N, problem.n, draw=draw)
        check_limits(problem, h)
        if case.feasible is not None:
            check_epigraph(problem, case.feasible if problem.misfit.forbids else h)
        return
    for factor in (0.0, 1.0, 30.0):
        h = factor * natural * cases.normal(problem.N, problem.n, draw=draw)
        f, violation = problem.objective(h), problem.violation(h)
        # 1e-12 of the largest intermediate: thousands of roundings, and ten digits above any wrong factor
        length = problem.rows.W.norm() * h.norm(dim=1) + problem.rows.target.norm(dim=1)
        size = (length**2 if problem.form == "quadratic" else 0) + f.abs()
        for i in range(min(problem.N, 3)):
            sample = problem.rows.sample(i)
            for gram in (False, True):
                statement = problem.statement(sample, i, gram)
                statement.h.value = h[i].numpy()
                excess = largest_violation(statement, problem.form, sample.weight_on**0.5)
                assert_close(excess, violation[i], 1e-12 * length[i] + 1e-12 * excess, "violation")
                if problem.form != "quadratic" and problem.nonnegative:
                    # 1'h and |h|_1 are the same length of an h >= 0, and either may be stated
                    statement.h.value = h[i].abs().numpy()
                assert_close(statement.problem.objective.value, f[i], 1e-12 * size[i], f"objective, gram={gram}")


def check_limits(problem: AbstractLayerProblem, h: Tensor) -> None:
    """Where a statement has unknowns besides h, what limits h alone is violated by as much as the problem says."""
    excess = torch.zeros(min(problem.N, 3), dtype=torch.float64)
    for i in range(len(excess)):
        statement = problem.statement(problem.rows.sample(i), i)
        statement.h.value = h[i].numpy()
        alone = [c for c in statement.problem.constraints if {v.id for v in c.variables()} == {statement.h.id}]
        excess[i] = max([0.0, *(float(np.max(c.violation(), initial=0.0)) for c in alone)])
    assert ((excess - problem.violation(h)[: len(excess)]).abs() <= 1e-12 * (1 + excess)).all(), "violation"


def check_epigraph(problem: AbstractLayerProblem, h: Tensor) -> None:
    """Where a statement has unknowns besides h, the least that it gives with h held is the objective; h breaks nothing."""
    h = h.abs() if problem.nonnegative else h
    f = problem.objective(h)
    assert float(problem.violation(h).amax()) <= (1e-12 if problem.misfit.forbids else 0)
    for i in range(min(problem.N, 3)):
        statement = problem.statement(problem.rows.sample(i), i)
        held = cp.Problem(statement.problem.objective, [*statement.problem.constraints, statement.h == h[i].numpy()])
        value = held.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        assert_close(value, f[i], 1e-8 * (1 + f[i]), "objective with h held")
    if problem.nonnegative:
        assert float(problem.violation(h - 2 * h.amax())[0]) > 0 or not bool(h[0].any())
        statement = problem.statement(problem.rows.sample(0), 0)
        below = cp.Problem(statement.problem.objective, [*statement.problem.constraints, statement.h == -np.ones(problem.n)])
        assert np.isinf(below.solve(solver="CLARABEL")), "the statement allows an h below 0"


def largest_violation(statement: ci.Statement, form: str, root: np.ndarray) -> float:
    """The largest excess over any constraint; `root` is weight^(1/2) of the on rows.

    The excess of a norm is computed here: CVXPY's own is the distance from the cone, shorter by 2^(1/2) or more. Where
    the bound on a norm is 0 the statement has equations, and the norm of what they miss is the excess.
    """
    values = [0.0]
    for constraint in statement.problem.constraints:
        if isinstance(constraint, cp.SOC):
            bound, misfit = (np.ravel(part.value) for part in constraint.args)
            values.append(np.linalg.norm(misfit) - bound[0])
        elif form == "ball" and isinstance(constraint, Equality):
            values.append(np.linalg.norm(root * constraint.violation()))
        else:
            values.append(np.max(constraint.violation(), initial=0.0))
    return float(max(values))


def assert_close(got: float, expected: Tensor, allowed: Tensor, what: str) -> None:
    got, expected = float(got), float(expected)
    assert abs(got - expected) <= float(allowed), f"{what}: CVXPY says {got}, the certificate {expected}"


def natural_size(problem: AbstractLayerProblem) -> Tensor:
    """Length of the data over |W|, 1 where that is 0; `(N,)`."""
    size = (problem.rows.target.norm(dim=1) + problem.rows.b.norm(dim=-1)) / (problem.rows.W.norm() or 1.0)
    return torch.where(size > 0, size, torch.ones_like(size)) / max(1, problem.n) ** 0.5


# --- 2: the dual is a lower bound -----------------------------------------------------------------


def check_bound(case: Case) -> None:
    """dual(p) is below the objective, infeasibility(p) below the length, of every feasible point, whatever p is."""
    problem = case.problem
    assert case.feasible is not None, "only problems with a feasible point have anything to bound"
    points = torch.stack(list(feasible_points(case)))  # (K, N, n)
    tops = torch.stack([ceilings(case, h) for h in points])  # (K, N)
    ceiling = tops.amin(0)
    for what, p in adversarial_duals(case):
        bound = problem.dual(p)
        assert bool((bound <= ceiling).all()), f"dual of {what} is {bound - ceiling} above a feasible objective"
        away = problem.infeasibility(p)
        # the l1 norm is the longer of the two that a problem may mean; 1e-9: known points break rows by a rounding
        assert bool((away <= case.feasible.abs().sum(1) * (1 + 1e-9)).all()), f"{what} forbids a feasible point: {away}"
        enough = problem.dual(p, enough=torch.zeros_like(bound))
        assert bool((enough <= ceiling).all()), f"cheap dual of {what} is {enough - ceiling} above"
        unmet = problem.unmet(p)
        if unmet is not None:
            check_unmet(points, tops, what, unmet)
    if problem.form != "layered":  # whose (D) forbids no sign
        check_clipped(problem, torch.nan_to_num(case.reference.p))


def check_unmet(points: Tensor, tops: Tensor, what: str, unmet: Unmet) -> None:
    """value + short'h - doubt'|h| is below the objective of every feasible h, whatever p is.

    points: the feasible h `(K, N, n)`; tops: what no bound may exceed at each `(K, N)`.
    """
    floor = unmet.value + (unmet.short * points).sum(2) - (unmet.doubt * points.abs()).sum(2)
    size = 1e-12 * ((unmet.short * points).abs().sum(2) + unmet.value.abs())
    assert not bool((floor > tops + size).any()), f"{what}: {floor} is above the objective of a feasible point"


def check_clipped(problem: AbstractLayerProblem, p: Tensor) -> None:
    """Entries of a sign that (D) forbids are dropped, and cost the rest of p nothing."""
    (lo, hi), rows = problem.limits(), problem.rows
    fitted = rows.on & torch.tensor(problem.form != "interval")  # where p is free
    hi = torch.where(rows.off, 0.0, hi) if problem.form == "excess" else hi  # no limit, and yet p >= 0
    p = torch.where(p.abs() > 1e-9 * p.abs().amax(1, keepdim=True), p, 0.0)
    size = p.abs().amax(1, keepdim=True) / 2
    wrong = torch.where(torch.isinf(hi), size, torch.where(torch.isinf(lo), -size, 0.0))
    spoiled = torch.where((p == 0) & ~fitted, wrong, p)
    before, after = problem.dual(p), problem.dual(spoiled)
    assert ((after - before).abs() <= 1e-9 * before.abs()).all(), f"wrong signs cost {before - after} of the bound {before}"


def check_slack(case: Case) -> None:
    """infeasibility(p, slack) never forbids an h that breaks no bound by more than slack, feasible problem or not."""
    problem, draw = case.problem, cases.seeded(4)
    natural = natural_size(problem)[:, None]
    points = [factor * natural * cases.normal(problem.N, problem.n, draw=draw) for factor in (0.0, 0.3, 3.0)]
    points = [h.abs() if problem.nonnegative else h for h in points]
    allowed = [(problem.violation(h), h.abs().sum(1)) for h in points]
    for what, p in adversarial_duals(case):
        for slack, length in allowed:
            away = problem.infeasibility(p, slack)
            assert (away <= length * (1 + 1e-9)).all(), f"{what} forbids {length} with slack {slack}: {away}"


def ceilings(case: Case, h: Tensor) -> Tensor:
    """The least that a lower bound must not exceed, seen from `h` `(N, n)`; `(N,)`.

    objective(h) (1 + 1e-12), what rounding may have taken from objective(h), and the multipliers' price of what h breaks:
    a point that breaks rows by a rounding error may lie below the optimum by that much.
    """
    problem, rows = case.problem, case.problem.rows
    f, r = problem.objective(h), rows.residual(h).abs()
    doubt = rounding(rows.n, h.dtype) * (rows.W.magnitude()(h.abs()) + rows.b.abs() + rows.y.abs())
    lost = (problem.fit * (r * doubt + doubt * doubt)).sum(1)
    return f + 1e-12 * f.abs() + lost + price(problem, torch.nan_to_num(case.reference.p), h, doubt)


def price(problem: AbstractLayerProblem, p: Tensor, h: Tensor, doubt: Tensor | float = 0.0) -> Tensor:
    """How far below the optimum an h may lie that breaks bounds, at most, when p is the optimal dual; `(N,)`.

    |p_i| times the excess of row i over its limits, and the ball's multiplier |p_on / w^(1/2)| times the excess of the
    misfit. `doubt` `(N, m)` is added to every excess there is.
    """
    rows, (lo, hi) = problem.rows, problem.limits()
    v = rows.W(h) + rows.b
    excess = torch.maximum(v - hi, lo - v)
    below = (p.abs() * torch.where(excess + doubt > 0, excess + doubt, torch.zeros_like(v))).sum(1)
    if problem.form != "ball":
        return below
    root = rows.fit.sqrt()
    q = torch.where(rows.on, p / root.clamp(min=1e-300), torch.zeros_like(p))
    too_long = ((root * (rows.residual(h).abs() + doubt)).norm(dim=1) - problem.eps).clamp(min=0)
    return below + q.norm(dim=1) * too_long


def feasible_points(case: Case) -> Iterator[Tensor]:
    """The known point, CLARABEL's, points between them, and random ones that happen to be feasible."""
    problem, known, solved = case.problem, case.feasible, case.reference.h
    assert known is not None
    optimal = torch.as_tensor(case.reference.status == "optimal")[:, None]
    solved = torch.where(optimal, solved, known)
    for t in (0.0, 1e-6, 0.01, 0.5, 1.0):
        yield t * known + (1 - t) * solved
    draw = cases.seeded(2)
    for size in (1e-3, 0.1, 1.0, 1.0, 1.0):
        step = size * natural_size(problem)[:, None] * cases.normal(problem.N, problem.n, draw=draw)
        trial = known + step if problem.rows.n and step.numel() else known
        trial = trial.clamp(min=0) if problem.nonnegative else trial
        yield torch.where((problem.violation(trial) <= 0)[:, None], trial, known)


def adversarial_duals(case: Case) -> Iterator[tuple[str, Tensor]]:
    problem, rows, draw = case.problem, case.rows, cases.seeded(3)
    best = torch.nan_to_num(case.reference.p)
    noise = cases.normal(*best.shape, draw=draw)
    unit = best.norm(dim=1, keepdim=True) + rows.scale()[:, None]
    yield from (("zero", 0 * best), ("NaN", best * torch.nan), ("infinity", torch.full_like(best, torch.inf)))
    yield from (
        (f"the best p times {t}", t * best) for t in (1.0, 1 + 1e-9, 1 - 1e-9, 1.5, -1.0, 1e-3, 1e3, 1e150, 1e-150, 1e-300)
    )
    yield from ((f"the best p and noise {t}", best + t * unit * noise) for t in (1e-12, 1e-6, 1e-2))
    yield from ((f"noise {t}", t * unit * noise) for t in (1e-6, 1.0, 1e6, 1e30, 1e160))
    yield "the best p, off rows 0", torch.where(rows.on, best, 0.0)
    yield "the best p, on rows 0", torch.where(rows.off, best, 0.0)
    lo, hi = problem.limits()
    wrong = torch.where(torch.isinf(lo), -unit, torch.where(torch.isinf(hi), unit, best))
    yield from (("wrong signs at open ends", wrong), ("largest numbers", torch.full_like(best, 1e308) * noise.sign()))
    yield from (("only wrong signs", torch.where(torch.isinf(lo) | torch.isinf(hi), wrong, 0.0)), ("ones", 1 + 0 * best))
    yield "the best p, unseen rows filled", torch.where(rows.on | rows.off, best, unit)
    yield "the target", -rows.fit * rows.target
    h = natural_size(problem)[:, None] * cases.normal(problem.N, problem.n, draw=draw)
    residual = rows.fit * rows.residual(h)
    for t in (1e-3, 1.0, 1e3):
        yield f"residual times {t}", t * residual
        yield f"residual and off rows times {t}", t * (residual + torch.where(rows.off, (unit * noise).abs(), 0.0))
        yield f"only off rows {t}", t * torch.where(rows.off, (unit * noise).abs(), 0.0)
        yield f"negative off rows {t}", t * torch.where(rows.off, -(unit * noise).abs(), best)


def ray_reaches(case: Case, i: int, p: Tensor) -> float:
    """What p `(N, m)` proves of signal i, worked out in numpy: no feasible h has |h|_1 below this.

    p'(W h + b) is at most the sum of what the rows allow, and at least p'b less the worst entry of W'p times |h|_1. A worst
    entry of 1e-12 |W| |p| counts as none, and then the answer is infinite. Entries of p with a sign that no multiplier of
    their row can have are left out.
    """
    problem, rows = case.problem, case.problem.rows
    W, b, p = rows.W.matrix().numpy(), rows.b.expand_as(rows.y)[i].numpy(), p[i].numpy()
    (lo, hi), on = (end[i].numpy() for end in problem.limits()), rows.on[i].numpy()
    equal = on & (problem.form == "ball")
    p = np.where((p > 0) & np.isinf(hi) & ~equal, 0.0, p)
    p = np.where((p < 0) & np.isinf(lo) & ~equal, 0.0, p)
    if not np.isfinite(p).all() or not p.any():
        return 0.0
    allowed = 0.0
    if problem.form == "ball":
        root = rows.weight[i].numpy()[on] ** 0.5
        allowed += p[on] @ rows.y[i].numpy()[on] + float(problem.eps[i]) * np.linalg.norm(p[on] / root)
    p_rows = np.where(equal, 0.0, p)
    allowed += p_rows[p_rows > 0] @ hi[p_rows > 0] + p_rows[p_rows < 0] @ lo[p_rows < 0]
    slope = W.T @ p
    worst = max(0.0, float(np.max(-slope if problem.nonnegative else np.abs(slope), initial=0.0)))
    gain = p @ b - allowed
    if gain <= 1e-12 * (np.abs(p) @ np.abs(b) + abs(allowed)):
        return 0.0
    return np.inf if worst <= 1e-12 * np.linalg.norm(W) * np.linalg.norm(p) else gain / worst


# --- 3: the reference certifies -------------------------------------------------------------------


def check_reference(case: Case, solver: str = "CLARABEL") -> None:
    """The exact solver's point is optimal, or proved infeasible where the case says that nothing is feasible."""
    solution = case.reference if solver == "CLARABEL" else ci.solve(case.problem, solver, on_fail="ignore")
    expected = "infeasible" if case.feasible is None else "optimal"
    assert (solution.status == expected).all(), f"{solver} on {case!r}: {solution!r}, {solution.solver_status}"


# --- 4: the reference is a fixed point ------------------------------------------------------------


def check_fixed_points(case: Case) -> None:
    """Started at the reference's point, no fast method leaves it."""
    scaled = case.problem.normalised()
    problem, start = scaled.problem, Point(case.reference.h / scaled.h_unit, case.reference.p / scaled.p_unit)
    # the first-order methods are nonexpansive: 30 steps move an exact fixed point by 30 roundings of numbers of size one,
    # and one that solves its conditions to 1e-10 (polish) by no more than 30 times that
    first_order = [make for make, solver in FIXED if serves(solver, problem)]
    assert first_order, "no first-order method takes this problem"
    for make in first_order:
        stays(make(problem, *start), *start, 30, 1e-8)
    if problem.absolute and problem.form != "layered":  # the others look for h >= 0
        problem, start = halves(problem), apart(start)
    if problem.form in ("quadratic", "interval"):
        check_interior_point_stays(problem, *start)
    if problem.form == "interval":
        repeated(problem, start, crossover.polish)
    elif problem.form == "ball":
        # where the bound on the misfit is slack the answer is that of the off rows, and no lam leads to it
        held = torch.where(problem.rows.on, start.p, 0.0).norm(dim=1) > 1e-6
        if held.any():
            repeated(problem.take(held), Point(start.h[held], start.p[held]), ball.polish)


def repeated(problem: AbstractLayerProblem, start: Point, polish: Callable[[AbstractLayerProblem, Point], Point]) -> None:
    """A closed form on the activity of an optimal point is optimal too."""
    found = polish(problem, start)
    again = ci.certify(problem, found)
    assert again.holds.all(), f"the polish leaves the optimum: {again!r}"
    before = problem.objective(start.h)
    apart_by = float(((problem.objective(found.h) - before).abs() / (1 + before)).amax())
    assert apart_by <= 1e-8, f"the polish moves the objective by {apart_by}"


def stays(method, h: Tensor, p: Tensor, steps: int, allowed: float) -> None:
    method.advance(steps)
    point = method.point()
    moved = float((point.h - h).abs().amax()), float((point.p - p).abs().amax())
    size = 1 + max(float(h.abs().amax()), float(p.abs().amax()))
    assert max(moved) <= allowed * size, f"{method.name} leaves the reference's point: h, p move by {moved}"


def graph_admm_at(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> GraphADMM:
    """prox_F(v - t) = v asks for -rho t = p; prox_g(h - s) = h asks for -rho s in the subdifferential of g, -W'p."""
    method = GraphADMM().start(problem)
    method.h, method.v = h.clone(), problem.rows.W(h) + problem.rows.b
    method.s, method.t = problem.rows.W.adjoint(p) / method.rho, -p / method.rho
    return method


def linearized_admm_at(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> LinearizedADMM:
    """p_off = -rho u, and a is (W h + b)_off."""
    method, rows = LinearizedADMM().start(problem), problem.rows
    method.h = h.clone()
    method.a = torch.where(rows.off, (rows.W(h) + rows.b).clamp(max=0), 0.0)
    method.u = torch.where(rows.off, -p / method.rho, 0.0)
    return method


def pdhg_at(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> PDHG:
    """(h, p) itself is the fixed point, and the anchor of Halpern's iteration."""
    method = PDHG().start(problem)
    method.h, method.p, method.h0, method.p0 = h.clone(), p.clone(), h.clone(), p.clone()
    return method


def fista_at(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> FISTA:
    """A proximal gradient step from h leads to h."""
    method = FISTA().start(problem)
    method.h, method.v = h.clone(), h.clone()
    return method


FIXED = (
    (graph_admm_at, "graph_admm"),
    (linearized_admm_at, "linearized_admm"),
    (pdhg_at, "pdhg"),
    (fista_at, "fista"),
)


def check_interior_point_stays(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> None:
    """The interior point keeps off its bounds: started on the central path beside the point, it stays there."""
    inside, rows, method = 1e-8, problem.rows, InteriorPoint().start(problem)
    v = rows.W(h) + rows.b
    # all rows from the start: which ones may wait was decided at another point
    method.sign, method.offset, method.waiting = method.true_sign, method.true_offset, torch.zeros_like(method.waiting)
    # products t = 1e-16: where bound and multiplier are both 0 the path is sqrt(t) = 1e-8 away from the point
    method.s = torch.where(method.sign != 0, (method.offset - method.sign * v).clamp(min=inside), 1.0)
    method.mu = torch.maximum(method.sign * p, inside**2 / method.s)
    method.h = h.clone()
    if problem.nonnegative:
        cost = rows.W.adjoint(p) + problem.linear + problem.quadratic * h
        method.h = h.clamp(min=inside)
        method.nu = torch.maximum(cost, inside**2 / method.h)
    method.advance(4)
    moved = float(torch.where(problem.fit > 0, rows.W(method.h - h), 0.0).abs().amax())
    worse = float((problem.objective(method.h) - problem.objective(h)).abs().amax())
    # a hundred times that distance, for sums over unknowns and rows; a wrong gradient moves W h by its own size
    assert max(moved, worse) <= 1e-6, f"interior_point leaves the reference's point: {moved}, {worse}"


# --- 5: fast methods end at a certificate, and never at a false one -------------------------------


def check_fast(case: Case, solver: str = "auto", must: bool = True, **options) -> ci.Solution:
    """What a method calls optimal is: the judge repeats it, and the objective is CLARABEL's; `must` it get there?"""
    problem = case.problem
    plain = solver == "auto" and not options
    solution = case.auto if plain else ci.solve(problem, solver, on_fail="ignore", **options)
    again = ci.certify(problem, solution.h, solution.p)
    assert (again.status == solution.status).all(), "the judge says something else the second time"
    expected = "infeasible" if case.feasible is None else "optimal"
    assert not must or (solution.status == expected).all(), f"{solver} on {case!r}: {solution!r}"
    honest = {expected, "optimal_inaccurate", "user_limit"}
    assert set(solution.status) <= honest, f"{solver} on {case!r}: {solution!r}"
    if case.feasible is not None:
        assert_objective_of_reference(case, solution)
    return solution


def assert_objective_of_reference(case: Case, solution: ci.Solution) -> None:
    """|f - f_ref| is within what two optimal certificates allow together, and their violations.

    Both objectives are at most `allowed_gap` above the optimum and at most the `price` of their violations below it.
    """
    both = torch.as_tensor((solution.status == "optimal") & (case.reference.status == "optimal"))
    a, b = solution.certificate, case.reference.certificate
    problem, p = case.problem.to(torch.float64), case.reference.p.double()
    broken = price(problem, p, solution.h.double()) + price(problem, p, case.reference.h.double())
    allowed = a.allowed_gap + b.allowed_gap + (1 + 1e-6) * broken
    apart = (a.objective - b.objective).abs()
    wrong = both & (apart > allowed)
    assert not wrong.any(), f"objectives {a.objective[wrong]} against CLARABEL's {b.objective[wrong]}"


def float32_gap(solution: ci.Solution, problem: AbstractLayerProblem, tol: float = TOL) -> Tensor:
    """The gap that float32 can reach, `(N,)`.

    Rounding h to u = 2^-24 moves W h by d = u |W| |h|, and the objective by |p| d + d^2 max(w) / 2. Rounding p moves
    W'p by u |W| |p|, and shrinking p until W'p + lam >= 0 again costs that times 1'h <= sqrt(n) |h|. The iterates
    of float32 methods carry a few such roundings: 16 of them are allowed. Where the objective is a length p has no unit
    and is brought to the length at which it is feasible.
    """
    rows = problem.rows.to(torch.float64)
    h, p = solution.h.double(), solution.p.double()
    u = 16 * torch.finfo(torch.float32).eps / 2
    # y and b count besides W h: the residual is their difference
    d = u * (rows.W.norm() * h.norm(dim=1) + rows.scale() + torch.where(rows.on, rows.b, 0.0).norm(dim=1))
    f = solution.certificate.objective.abs()
    if problem.form == "excess":  # a sum of excesses moves by the sum of what W h moves by, at most; p is in C
        return tol * f + (rows.m**0.5 + problem.n**0.5 * p.norm(dim=1)) * d
    if problem.form != "quadratic":
        slope = rows.W.adjoint(p)
        p = p / (-slope if problem.nonnegative else slope.abs()).amax(1, keepdim=True).clamp(min=1e-300)
        return tol * f + problem.n**0.5 * p.norm(dim=1) * d
    return tol * f + problem.n**0.5 * p.norm(dim=1) * d + problem.n * d * d


# --- 6: statement, transcription and hand answer agree --------------------------------------------


def check_hand_answer(case: Case, instance, transcription) -> None:
    """Both forms of the statement reach the transcription's value and the hand answer's."""
    value, _ = transcription(instance)
    for gram in (False, True):
        statement = case.problem.statement(case.problem.rows.sample(0), 0, gram)
        statement.problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        for other in (value, instance.value):
            same = statement.problem.value == other or abs(statement.problem.value - other) <= 1e-8 * (1 + abs(other))
            assert same, f"{case!r}, gram={gram}: statement {statement.problem.value}, expected {other}"
        if instance.unique:
            apart = np.abs(statement.h.value - instance.answer).max()
            # along the surface of a round ball an error of 1e-12 in the value is one of 1e-6 and some in h
            allowed = 1e-5 if case.problem.form == "ball" else 1e-6
            assert apart <= allowed, f"{case!r}, gram={gram}: h is {statement.h.value}, by hand {instance.answer}"


# --- the one problem that is not convex has no dual: what is stationary is checked instead ---------


PHIS = (ci.Tanh(), ci.Sigmoid(), ci.PLU(0.2, 1.0), ci.LeakyReLU(0.2), ci.Identity())


def curved_problem(phi, kind=None, noise: float = 0.1, lam: float = 0.02, seed: int = 0):
    """Three signals of 24 rows behind phi, built from an h >= 0; four rows off, four unseen, two weights."""
    draw = cases.seeded(seed)
    W, b = cases.normal(24, 6, draw=draw) / 2, 0.3 * cases.normal(24, draw=draw)
    h = cases.normal(3, 6, draw=draw).clamp(min=0)
    y = phi(h @ W.T + b) + noise * cases.normal(3, 24, draw=draw)
    place = torch.arange(24).expand(3, 24)
    weight = torch.where(place % 2 == 0, 1.0, 0.25).to(torch.float64)
    rows = ci.Rows(ci.Dense(W), b, y, place < 16, (place >= 16) & (place < 20), weight)
    return (kind or ci.ActivatedLasso)(rows, phi, lam), h


def curved_objective(problem, h: Tensor) -> Tensor:
    """The equation, on the on rows alone."""
    r = problem.rows
    u = h @ r.W.matrix().T + r.b
    return (torch.where(r.on, r.weight, 0.0) * (problem.phi(u) - r.y) ** 2).sum(1) / 2 + problem.lam * h.sum(1)


def curved_slope(problem, h: Tensor) -> Tensor:
    """Its gradient, by automatic differentiation."""
    h = h.clone().requires_grad_()
    (slope,) = torch.autograd.grad(curved_objective(problem, h).sum(), h)
    return slope


def curved_step(problem, h: Tensor) -> Tensor:
    """How far a proximal gradient step of length 1 / (max w |W|^2) moves h, in units of s_y / |W|."""
    r = problem.rows
    length = torch.linalg.matrix_norm(r.W.matrix(), 2)
    c = torch.where(r.on, r.weight, 0.0).amax(1, keepdim=True) * length**2
    ahead = (h - curved_slope(problem, h) / c).clamp(min=0)
    return (ahead - h).norm(dim=1) / (torch.where(r.on, r.y - r.b, 0.0).norm(dim=1) / length)


def check_curved(kind) -> None:
    """Objective, gradient, step, prox, units and statuses of an `ActivatedLasso`, behind every phi."""
    for number, phi in enumerate(PHIS):
        problem, known = curved_problem(phi, kind, seed=number)
        check_curved_formulas(problem, cases.seeded(number))
        check_curved_answers(problem, known)


def check_curved_formulas(problem, draw: torch.Generator) -> None:
    assert not problem.rows.off.any(), "off rows do not count"
    h = cases.normal(3, 6, draw=draw)
    off = curved_objective(problem, h)
    assert ((problem.objective(h) - off).abs() <= 1e-12 * (1 + off.abs())).all(), "objective"
    slope = curved_slope(problem, h)
    given = problem.rows.W.adjoint(problem.complete(h)) + problem.linear
    assert float((given - slope).abs().amax()) <= 1e-12, "gradient"
    assert torch.equal(problem.violation(h), (-h).clamp(min=0).amax(1)), "violation"
    for point in (h, h.abs()):
        assert ((problem.movement(point) - curved_step(problem, point)).abs() <= 1e-10).all(), "movement"
    rho = torch.tensor([[0.5], [1.0], [4.0]], dtype=torch.float64)
    expected = (h - problem.lam[:, None] / rho).clamp(min=0)
    assert float((problem.prox_unknown(h, rho) - expected).abs().amax()) <= 1e-14, "prox"
    scaled = problem.normalised()
    same = curved_objective(scaled.problem, h / scaled.h_unit)
    assert ((same - off).abs() <= 1e-12 * (1 + off.abs())).all(), "normalised"
    if isinstance(problem.phi, ci.Tanh | ci.Sigmoid):
        check_curvature(problem)


def check_curvature(problem) -> None:
    """No row's misfit is more curved than `curvature` says, by second differences on u = -6 ... 6."""
    u, step = torch.linspace(-6, 6, 601, dtype=torch.float64), 1e-3
    for i in range(problem.N):
        on = problem.rows.on[i]
        y, w = problem.rows.y[i, on][:, None], problem.rows.weight[i, on][:, None]
        f = [w * (problem.phi(u + shift) - y) ** 2 / 2 for shift in (-step, 0.0, step)]
        curved = (f[0] - 2 * f[1] + f[2]) / step**2
        assert float(curved.abs().amax()) <= float(problem.curvature()[i]) * (1 + 1e-6), "curvature"


def check_curved_answers(problem, known: Tensor) -> None:
    solution = ci.solve(problem, on_fail="ignore")
    assert (solution.status == "stationary").all(), solution
    assert (curved_step(problem, solution.h) <= 1e-6).all() and (solution.h >= 0).all()
    moved = solution.h + 0.1
    assert (ci.certify(problem, moved).status == "user_limit").all()
    assert (ci.certify(problem, solution.h - 0.01).status != "stationary").all()
    for p in (solution.p, 0 * solution.p, 1e6 * solution.p):
        assert (problem.dual(p) <= curved_objective(problem, known)).all() and (problem.infeasibility(p) == 0).all()
        assert (problem.dual(p) == 0).all(), "nothing above 0 is known"
