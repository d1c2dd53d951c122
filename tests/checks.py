"""The checks that every layer problem passes, as functions that raise AssertionError with what they saw.

They take a `Case`, so that the tests run them on instances, random and trained rows, and the mutation tests on classes
with a planted fault.
"""

from collections.abc import Iterator

import cases
import numpy as np
import torch
from cases import Case
from torch import Tensor

import cvxinv as ci
from cvxinv.layer_problem import AbstractLayerProblem, rounding
from cvxinv.solvers.graph_admm import GraphADMM
from cvxinv.solvers.interior_point import InteriorPoint
from cvxinv.solvers.linearized_admm import LinearizedADMM

TOL = 1e-6
FAST = ("graph_admm", "interior_point", "linearized_admm")


# --- 1: statement and certificate say the same ----------------------------------------------------


def check_statement(case: Case) -> None:
    """Objective and violation at random points are what CVXPY computes from either form of the statement."""
    problem, draw = case.problem, cases.seeded(1)
    natural = natural_size(problem)[:, None]
    for factor in (0.0, 1.0, 30.0):
        h = factor * natural * cases.normal(problem.N, problem.n, draw=draw)
        f, violation = problem.objective(h), problem.violation(h)
        # 1e-12 of the largest intermediate: thousands of roundings, and ten digits above any wrong factor
        size = (case.rows.W.norm() * h.norm(dim=1) + case.rows.target.norm(dim=1)) ** 2 + f.abs()
        for i in range(min(problem.N, 3)):
            sample = problem.rows.sample(i)
            for gram in (False, True):
                statement = problem.statement(sample, i, gram)
                statement.h.value = h[i].numpy()
                excess = largest_violation(statement)
                assert_close(statement.problem.objective.value, f[i], 1e-12 * size[i], f"objective, gram={gram}")
                assert_close(excess, violation[i], 1e-12 * size[i] ** 0.5 + 1e-12 * excess, "violation")


def largest_violation(statement: ci.Statement) -> float:
    values = [np.max(constraint.violation()) for constraint in statement.problem.constraints]
    return float(max(values, default=0.0))


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
    ceiling = torch.stack([ceilings(case, h) for h in feasible_points(case)]).amin(0)
    for what, p in adversarial_duals(case):
        bound = problem.dual(p)
        assert bool((bound <= ceiling).all()), f"dual of {what} is {bound - ceiling} above a feasible objective"
        away = problem.infeasibility(p)
        # the l1 norm is the longer of the two that a problem may mean; 1e-9: known points break rows by a rounding
        assert bool((away <= case.feasible.abs().sum(1) * (1 + 1e-9)).all()), f"{what} forbids a feasible point: {away}"
        enough = problem.dual(p, enough=torch.zeros_like(bound))
        assert bool((enough <= ceiling).all()), f"cheap dual of {what} is {enough - ceiling} above"


def ceilings(case: Case, h: Tensor) -> Tensor:
    """The least that a lower bound must not exceed, seen from `h` `(N, n)`; `(N,)`.

    objective(h) (1 + 1e-12), what rounding may have taken from objective(h), and p_off'excess(h): a point that breaks
    off rows by a rounding error may lie below the optimum by that much.
    """
    problem, rows = case.problem, case.rows
    f, r = problem.objective(h), rows.residual(h).abs()
    doubt = rounding(rows.n, h.dtype) * (rows.W.magnitude()(h.abs()) + rows.b.abs() + rows.y.abs())
    lost = (rows.fit * (r * doubt + doubt * doubt)).sum(1)
    excess = torch.where(rows.excess(h) > 0, rows.excess(h) + doubt, torch.zeros_like(r))
    multipliers = torch.where(rows.off, torch.nan_to_num(case.reference.p).clamp(min=0), torch.zeros_like(r))
    return f + 1e-12 * f.abs() + lost + (multipliers * excess).sum(1)


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
        trial = trial.clamp(min=0) if case.name not in cases.SIGNED else trial
        yield torch.where((problem.violation(trial) <= 0)[:, None], trial, known)


def adversarial_duals(case: Case) -> Iterator[tuple[str, Tensor]]:
    problem, rows, draw = case.problem, case.rows, cases.seeded(3)
    best = torch.nan_to_num(case.reference.p)
    noise = cases.normal(*best.shape, draw=draw)
    unit = best.norm(dim=1, keepdim=True) + rows.scale()[:, None]
    yield from (("zero", 0 * best), ("NaN", best * torch.nan), ("infinity", torch.full_like(best, torch.inf)))
    yield from ((f"the best p times {t}", t * best) for t in (1.0, 1 + 1e-9, 1 - 1e-9, 1.5, -1.0, 1e-3, 1e3, 1e150))
    yield from ((f"the best p and noise {t}", best + t * unit * noise) for t in (1e-12, 1e-6, 1e-2))
    yield from ((f"noise {t}", t * unit * noise) for t in (1e-6, 1.0, 1e6, 1e30, 1e160))
    yield "the best p, off rows 0", torch.where(rows.on, best, 0.0)
    yield "the best p, on rows 0", torch.where(rows.off, best, 0.0)
    yield "the best p, unseen rows filled", torch.where(rows.on | rows.off, best, unit)
    yield "the target", -rows.fit * rows.target
    h = natural_size(problem)[:, None] * cases.normal(problem.N, problem.n, draw=draw)
    residual = rows.fit * rows.residual(h)
    for t in (1e-3, 1.0, 1e3):
        yield f"residual times {t}", t * residual
        yield f"residual and off rows times {t}", t * (residual + torch.where(rows.off, (unit * noise).abs(), 0.0))
        yield f"only off rows {t}", t * torch.where(rows.off, (unit * noise).abs(), 0.0)
        yield f"negative off rows {t}", t * torch.where(rows.off, -(unit * noise).abs(), best)


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
    h, p = case.reference.h / scaled.h_unit, case.reference.p / scaled.p_unit
    # both ADMMs are nonexpansive: 30 steps move an exact fixed point by 30 roundings of numbers of size one, and one
    # that solves its conditions to 1e-10 (polish) by no more than 30 times that
    stays(graph_admm_at(scaled.problem, h, p), h, p, 30, 1e-8)
    stays(linearized_admm_at(scaled.problem, h, p), h, p, 30, 1e-8)
    check_interior_point_stays(scaled.problem, h, p)


def stays(method, h: Tensor, p: Tensor, steps: int, allowed: float) -> None:
    method.advance(steps)
    point = method.point()
    moved = float((point.h - h).abs().amax()), float((point.p - p).abs().amax())
    size = 1 + max(float(h.abs().amax()), float(p.abs().amax()))
    assert max(moved) <= allowed * size, f"{method.name} leaves the reference's point: h, p move by {moved}"


def graph_admm_at(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> GraphADMM:
    """prox_F(v - t) = v asks for -rho t = p; prox_g(h - s) = h asks for -rho s in the subdifferential of g, -W'p."""
    method = GraphADMM(problem)
    method.h, method.v = h.clone(), problem.rows.W(h) + problem.rows.b
    method.s, method.t = problem.rows.W.adjoint(p) / method.rho, -p / method.rho
    return method


def linearized_admm_at(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> LinearizedADMM:
    """p_off = -rho u, and a is (W h + b)_off."""
    method, rows = LinearizedADMM(problem), problem.rows
    method.h = h.clone()
    method.a = torch.where(rows.off, (rows.W(h) + rows.b).clamp(max=0), 0.0)
    method.u = torch.where(rows.off, -p / method.rho, 0.0)
    return method


def check_interior_point_stays(problem: AbstractLayerProblem, h: Tensor, p: Tensor) -> None:
    """The interior point keeps off its bounds: started on the central path beside the point, it stays there."""
    inside, rows, method = 1e-8, problem.rows, InteriorPoint(problem)
    v = rows.W(h) + rows.b
    # products t = 1e-16: where bound and multiplier are both 0 the path is sqrt(t) = 1e-8 away from the point
    method.s = torch.where(rows.off, (-v).clamp(min=inside), torch.ones_like(v))
    method.mu = torch.where(rows.off, torch.maximum(p, inside**2 / method.s), 0.0)
    method.h = h.clone()
    if problem.nonnegative:
        cost = rows.W.adjoint(p) + problem.linear + problem.quadratic * h
        method.h = h.clamp(min=inside)
        method.nu = torch.maximum(cost, inside**2 / method.h)
    method.advance(4)
    moved = float(torch.where(rows.on, rows.W(method.h - h), 0.0).abs().amax())
    worse = float((problem.objective(method.h) - problem.objective(h)).abs().amax())
    # a hundred times that distance, for sums over unknowns and rows; a wrong gradient moves W h by its own size
    assert max(moved, worse) <= 1e-6, f"interior_point leaves the reference's point: {moved}, {worse}"


# --- 5: fast methods end at a certificate, and never at a false one -------------------------------


def check_fast(case: Case, solver: str = "auto", must: bool = True, **options) -> ci.Solution:
    """What a method calls optimal is: the judge repeats it, and the objective is CLARABEL's; `must` it get there?"""
    problem = case.problem
    solution = ci.solve(problem, solver, on_fail="ignore", **options)
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

    Both objectives are at most `allowed_gap` above the optimum and at most p_off'excess below it.
    """
    both = torch.as_tensor((solution.status == "optimal") & (case.reference.status == "optimal"))
    a, b = solution.certificate, case.reference.certificate
    rows = case.rows.to(torch.float64)
    mu = torch.where(rows.off, case.reference.p.double().clamp(min=0), 0.0)
    excess = rows.excess(solution.h.double()) + rows.excess(case.reference.h.double())
    allowed = a.allowed_gap + b.allowed_gap + (1 + 1e-6) * (mu * excess).sum(1)
    apart = (a.objective - b.objective).abs()
    wrong = both & (apart > allowed)
    assert not wrong.any(), f"objectives {a.objective[wrong]} against CLARABEL's {b.objective[wrong]}"


def float32_gap(solution: ci.Solution, problem: AbstractLayerProblem, tol: float = TOL) -> Tensor:
    """The gap that float32 can reach, `(N,)`.

    Rounding h to u = 2^-24 moves W h by d = u |W| |h|, and the objective by |p| d + d^2 max(w) / 2. Rounding p moves
    W'p by u |W| |p|, and shrinking p until W'p + lam >= 0 again costs that times 1'h <= sqrt(n) |h|. The iterates
    of float32 methods carry a few such roundings: 16 of them are allowed.
    """
    rows = problem.rows.to(torch.float64)
    h, p = solution.h.double(), solution.p.double()
    u = 16 * torch.finfo(torch.float32).eps / 2
    # y and b count besides W h: the residual is their difference
    d = u * (rows.W.norm() * h.norm(dim=1) + rows.scale() + torch.where(rows.on, rows.b, 0.0).norm(dim=1))
    f = solution.certificate.objective.abs()
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
            assert apart <= 1e-6, f"{case!r}, gram={gram}: h is {statement.h.value}, by hand {instance.answer}"
