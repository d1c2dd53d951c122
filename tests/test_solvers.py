"""What `solve` promises whatever the solver: honest statuses, independence of units, order and neighbours."""

import importlib.util
import io
import re
import sys
from dataclasses import replace
from functools import cache

import cases
import checks
import cvxpy as cp
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.solvers.loop import run
from cvxinv.solvers.reference import CVXPY_SOLVERS
from cvxinv.solvers.reference import refuses as refuses_cvxpy

NAMES = cases.NAMES
FAST = ["auto", *checks.FAST]
INSTALLED = tuple(s for s in ci.SOLVERS if s != "ECOS" or importlib.util.find_spec("ecos") is not None)
BATCH = cases.Spec("batch", 30, 10, N=7, masked=0.2, penalty="mixed")
EVENLY = cases.DENSE[1]  # rows on which graph_admm ends


def refused(problem, solver):
    """Whether the solver does not take this problem; that it says so by name is tested on its own."""
    if solver in checks.FAST:
        return not checks.serves(solver, problem)
    return solver in CVXPY_SOLVERS and refuses_cvxpy(problem, solver) is not None


def batch(name):
    return cases.dense_case(name, BATCH, 42)


def served(solvers, names=NAMES, case=batch):
    """Every (solver, name) of which the solver takes the problem; that it refuses the others is tested on its own."""
    return [(s, name) for s in solvers for name in names if s == "auto" or not refused(case(name).problem, s)]


def in_turn(pairs, *rounds):
    """Each pair with the options of one round, which pairs take in turn, each solver from another on: a Latin square."""
    chosen, places = [], {}
    for pair in pairs:
        mine = places.setdefault(pair[0], [len(places)])
        chosen += [(*pair, *options) for options in rounds[mine[0] % len(rounds)]]
        mine[0] += 1
    return chosen


# --- against CLARABEL -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seed"), in_turn([(name,) for name in NAMES], [(0,), (1,), (2,)], [(3,), (4,), (5,)]))
def test_auto_agrees_with_clarabel_on_random_rows(name, seed):
    size = seed if name in cases.PURSUED else seed / 2
    spec = cases.Spec(
        "random", int(20 + 5 * size), int(6 + 3 * size), N=4, masked=0.1 * seed,
        penalty=[0.0, 0.05][seed % 2], noise=[0.3, 0.01, 0.0][seed % 3] if name in cases.BOUNDED else 0.3,
    )  # fmt: skip
    checks.check_fast(cases.dense_case(name, spec, 60 + seed), "auto")


# --- units, order, neighbours ---------------------------------------------------------------------


@cache
def in_its_own_units(solver, name):
    case = cases.dense_case(name, EVENLY if solver == "graph_admm" and name in cases.PURSUED else BATCH, 1)
    return case, ci.solve(case.problem, solver, on_fail="ignore")


SCALED = served(["auto", "graph_admm", "interior_point", "root_finding", "CLARABEL"])


@pytest.mark.parametrize(("solver", "name", "factor"), in_turn(SCALED, [(1e-12,), (1e6,)], [(1e-6,), (1e12,)]))
def test_scaled_data_scales_the_answer(name, factor, solver):
    """y and b in other units: h in those units; lam has units signal^2 / h, eps of the signal, gamma none here."""
    case, one = in_its_own_units(solver, name)
    other = ci.solve(case.in_units(factor).problem, solver, on_fail="ignore")
    done = one.status == "optimal"
    # root finding leaves signals whose misfit is not what decides to others
    assert (one.status == other.status).all() and (done.any() if solver == "root_finding" else done.all())
    atol = 1e-8 * float(one.h.abs().max())
    torch.testing.assert_close(other.h[done] / factor, one.h[done], rtol=1e-8, atol=atol)


@pytest.mark.parametrize(("solver", "name"), served(FAST))
def test_batch_is_loop_and_order_does_not_matter(name, solver):
    problem = batch(name).problem
    if name == "lasso" and solver != "auto":
        # some of these signals have fewer on rows than unknowns: at lam = 0 their h is not unique, and rounding chooses
        problem = ci.Lasso(problem.rows, 0.05)
    # by then a signal whose h is not unique has an answer whatever rounding made of its first guesses
    limit = {"graph_admm": 2000, "pdhg": 1000, "linearized_admm": 1000}.get(solver)
    together = ci.solve(problem, solver, on_fail="ignore", max_iter=limit)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    permuted = ci.solve(problem.take(order), solver, on_fail="ignore", max_iter=limit)
    assert (permuted.status == together.status[order.numpy()]).all()
    known = alike(name, problem)
    assert_same(permuted.h[known[order]], together.h[order][known[order]])
    torch.testing.assert_close(permuted.certificate.objective, together.certificate.objective[order])
    # every third signal, the first one another for each pair
    for i in known.nonzero()[:, 0].tolist()[(NAMES.index(name) + FAST.index(solver)) % 3 :: 3]:
        alone = ci.solve(problem.take(torch.tensor([i])), solver, on_fail="ignore", max_iter=limit)
        assert alone.status[0] == together.status[i]
        # statuses never depend on neighbours; points do by rounding where an unpolished iteration is cut short
        if alone.status[0] == "optimal" and together.polished[i]:
            assert_same(alone.h, together.h[i : i + 1])


def alike(name, problem):
    """Signals whose h is one: of a linear program with fewer on rows than unknowns rounding chooses among many, `(N,)`."""
    fewer = problem.rows.on.sum(1) < problem.n
    return ~fewer if name in cases.named("excess") else torch.ones_like(fewer)


def assert_same(h, expected):
    size = expected.norm(dim=1).clamp(min=1e-300)
    assert float(((h - expected).norm(dim=1) / size).max()) <= 1e-12


@pytest.mark.parametrize(("solver", "name"), served(INSTALLED))
def test_two_runs_are_equal_bit_by_bit(name, solver):
    problem = batch(name).problem.take(torch.arange(3))
    one, two = (ci.solve(problem, solver, on_fail="ignore", max_iter=200) for _ in range(2))
    assert torch.equal(one.h, two.h) and torch.equal(one.p, two.p) and (one.status == two.status).all()


SPOILED = {
    # where not every h is feasible: off rows count, and are no misfit themselves
    "contradiction": [name for name in NAMES if cases.kind_of(name).counts_off and name not in cases.named("excess")],
    "too_tight": cases.BOUNDED,
}


def spoiled(way, name):
    return getattr(cases, way)(name, (False, True, False, False))


@pytest.mark.parametrize(
    ("way", "solver", "name"),
    [
        (way, *pair)
        for way in SPOILED
        for pair in served(
            ["auto", "interior_point", "root_finding", "CLARABEL"], SPOILED[way], lambda name, way=way: spoiled(way, name)
        )
    ],
)
def test_an_infeasible_signal_costs_that_signal_only(way, name, solver):
    case = spoiled(way, name)
    solution = ci.solve(case.problem, solver, on_fail="ignore")
    assert solution.status.tolist()[1] != "optimal" and (solution.status[[0, 2, 3]] == "optimal").all()
    assert solver in checks.FAST or solution.status[1] == "infeasible"
    healthy = torch.tensor([0, 2, 3])
    assert_same(solution.h[healthy], ci.solve(case.problem.take(healthy), solver).h)


@pytest.mark.parametrize(("solver", "name"), served([*FAST, "CLARABEL"]))
def test_solve_leaves_its_inputs_untouched(name, solver):
    case = batch(name)
    rows = case.rows
    given = [part for part in (case.penalty, *(case.ends or ())) if isinstance(part, torch.Tensor)]
    parts = [rows.W.matrix(), rows.b, rows.y, rows.on, rows.off, rows.weight, *given, *case.problem.limits()]
    before = [part.clone() for part in parts]
    ci.solve(case.problem, solver, on_fail="ignore", max_iter=50)
    after = [*parts[:-2], *case.problem.limits()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# --- statuses are the judge's ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "name", "max_iter", "polish"),
    in_turn(served(INSTALLED), [(1, True), (2, False)], [(1, False), (2, True)]),
)
def test_truncated_solves_claim_nothing_that_does_not_hold(name, solver, max_iter, polish):
    case = cases.dense_case(name, replace(BATCH, N=4), 42)
    checks.assert_objective_of_reference(case, truncated(case, solver, max_iter, polish))


def truncated(case, solver, max_iter, polish):
    solution = ci.solve(case.problem, solver, max_iter=max_iter, polish=polish, on_fail="ignore")
    assert set(solution.status) <= {"optimal", "optimal_inaccurate", "user_limit", "numerical_error"}
    assert (ci.certify(case.problem, solution.point).status == solution.status).all()
    if solver in ("graph_admm", "linearized_admm", "pdhg", "fista", "SCS") and not polish:
        assert (solution.status != "optimal").any(), "one iteration cannot have solved all of these"
    return solution


# --- CVXPY solvers on data as users have it ---------------------------------------------------------

USERS = ("noisy", "exact", "wide")
SHAPES = {"noisy": cases.Spec("noisy", 24, 8, N=2), "exact": cases.Spec("exact", 24, 8, N=2, noise=0.0, penalty=0.01),
          "wide": cases.Spec("wide", 8, 12, N=2, noise=0.01)}  # fmt: skip


UNITS = (1e-6, 1.0, 1e6, "float32")
TURNS = [[(unit, USERS[(k + turn) % 3]) for k, unit in enumerate(UNITS)] for turn in range(3)]


@pytest.mark.parametrize(("solver", "name", "unit", "kind"), in_turn(served(["auto", *CVXPY_SOLVERS]), *TURNS))
def test_no_solver_is_called_optimal_or_infeasible_where_it_is_not(solver, unit, kind, name):
    """Against CLARABEL with polish on float64 data of size one, at 1e-6 and 1e6 of it, and on data born in float32.

    Born in float32, W h + b = y has no solution in float64 by a rounding of y, and must not be called infeasible.
    """
    if solver not in INSTALLED:
        pytest.skip(f"{solver} is not installed: pip install ecos runs these too")
    case = cases.dense_case(name, SHAPES[kind], 77)
    born = case.to(torch.float32).to(torch.float64) if unit == "float32" else case.in_units(unit)
    solution = ci.solve(born.problem, solver, on_fail="ignore")
    assert "infeasible" not in solution.status, solution.solver_status
    # of a relaxed program every row is a limit: data born in float32 may leave no h within them all
    left_open = unit == "float32" and kind == "exact" and "relaxed" in name
    if solver in ("auto", "CLARABEL") and not left_open:
        # an l2 bound may be exceeded by 1e-6 of itself and 1e-10 s_y, and data born in float32 miss W h + b = y by 1e-8 s_y
        missed = unit == "float32" and kind == "exact" and case.problem.form == "ball"
        assert set(solution.status) == {"optimal_inaccurate" if missed else "optimal"}, (solution, solution.solver_status)
    done = torch.as_tensor(solution.status == "optimal")
    off = solution.certificate.objective / born.problem.unit() - case.reference.certificate.objective / case.problem.unit()
    assert (off.abs() <= honest_difference(case, solution, unit))[done].all(), off


def honest_difference(case, solution, unit):
    """What two optimal certificates, their violations and a rounding of the data to float32 leave open, in natural units."""
    rows, p, natural = case.rows, case.reference.p, case.problem.unit()
    f = case.reference.certificate.objective / natural
    size = rows.W.norm() * case.reference.h.norm(dim=1) + rows.b.norm() + rows.scale()
    moved = 4 * torch.finfo(torch.float32).eps * size if unit == "float32" else torch.zeros_like(size)
    broken = solution.certificate.violation / solution.certificate.scale * rows.scale() + moved
    price = (p.abs().sum(1) + (p.norm(dim=1) / rows.fit.clamp(min=1e-2).sqrt().amin(1))) * broken
    # where the optimum is 0 the reference's p may be 0 as well, and a sum of misfits grows with |y| in l1 all the same
    first = rows.m**0.5 * moved if case.problem.form == "excess" else torch.zeros_like(moved)
    return 4e-6 * f + 1e-8 + (price + p.norm(dim=1) * moved + first) / natural


@pytest.mark.parametrize(("solver", "name"), served(["auto", *CVXPY_SOLVERS], cases.BOUNDED))
def test_a_bound_that_is_too_small_is_infeasible_with_a_proof(name, solver):
    if solver not in INSTALLED:
        pytest.skip(f"{solver} is not installed: pip install ecos runs these too")
    case = cases.too_tight(name, (True, True))
    solution = ci.solve(case.problem, solver, on_fail="ignore")
    assert (solution.status == "infeasible").all(), solution.solver_status
    assert (ci.certify(case.problem, torch.ones_like(solution.h), solution.p).status == "infeasible").all()
    natural = case.rows.scale() / case.rows.W.norm()
    assert all(checks.ray_reaches(case, i, solution.p) > 1e6 * natural[i] for i in range(case.rows.N))


@pytest.mark.parametrize("kind", ["NonnegativeBasisPursuitL2", "BasisPursuitL2"])
@pytest.mark.parametrize(
    ("W", "h", "r"),
    [
        ([[1.0], [2.0], [2.0]], [2.0], [2.0, 1.0, -2.0]),
        ([[1.0], [2.0], [2.0]], [1.0], [2.0, -2.0, 1.0]),
        ([[2.0, 1.0], [1.0, 3.0], [1.0, 1.0], [1.0, 0.0]], [1.0, 2.0], [1.0, 1.0, -4.0, 1.0]),
    ],
)
def test_a_bound_that_is_the_smallest_misfit_has_an_answer(W, h, r, kind):
    """W'r = 0 and y = W h + r / 4: h has the smallest misfit, |r| / 4. A bound of that has the answer h, and no finite p.

    A bound shorter by 1e-9 of it or 3e-8, which is less than the judge minds, is met by h to that: `optimal_inaccurate`.
    """
    W, h, r = (torch.tensor(x, dtype=torch.float64) for x in (W, h, r))
    assert (W.T @ r == 0).all()
    y, none = (W @ h + r / 4)[None], torch.zeros(len(W), dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), none, y, torch.ones_like(y, dtype=torch.bool))
    for less, status in ((0.0, "optimal"), (1e-9, "optimal_inaccurate"), (3e-8, "optimal_inaccurate")):
        solution = ci.solve(getattr(ci, kind)(rows, float(r.norm()) / 4 * (1 - less)), on_fail="ignore")
        assert solution.status[0] == status
        assert float((solution.h - h).abs().max()) < (1e-5 if less == 0 else 1e-3)


TIGHT = ["NonnegativeBasisPursuitLinf", "BasisPursuitLinf", "IntervalBasisPursuit", "RelaxedFit", "NonnegativeRelaxedFit"]


@pytest.mark.parametrize("kind", TIGHT)
def test_the_contradiction_that_counts_is_found_beside_one_that_is_wider_in_rows_of_one_length(kind):
    """One unknown: rows of length 1 ask for h = 1 and h = 1 + 6.3e-6, two of 1e-6 for 0.95 and 1.05.

    Every h breaks a limit of the former by 3.15e-6 = 1.82e-6 s_y, one of the latter by 5e-8 only, in signal units; after all
    rows are brought to one length that is 5e-2.
    """
    W = torch.tensor([[1.0], [1.0], [1.0], [1e-6], [1e-6]], dtype=torch.float64)
    y = torch.tensor([1.0, 1.0, 1 + 6.3e-6, 0.95e-6, 1.05e-6], dtype=torch.float64)
    if "Relaxed" in kind:  # limits from above only
        sign = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
        W, y = W * sign[:, None], y * sign
    rows = ci.Rows(ci.Dense(W), torch.zeros(5, dtype=torch.float64), y[None], torch.ones(1, 5, dtype=torch.bool))
    numbers = {"IntervalBasisPursuit": (y[None], y[None]), "RelaxedFit": (), "NonnegativeRelaxedFit": ()}.get(kind, (0.0,))
    problem = getattr(ci, kind)(rows, *numbers)
    solution = ci.solve(problem, on_fail="ignore")
    assert solution.status[0] == "infeasible"
    # s_y p'(limits) with W'p = 0: no h has all limits within 1.8e-6 s_y
    away = problem.infeasibility(solution.p, 1.8e-6 * rows.scale())
    assert float(away) > 0 and float(problem.infeasibility(solution.p, 1.9e-6 * rows.scale())) == 0


@pytest.mark.parametrize("name", cases.named("ball"))
@pytest.mark.parametrize("solver", ["OSQP", "HIGHS"])
def test_solvers_without_cones_refuse_balls_by_name(name, solver):
    case = cases.dense_case(name, cases.BOUNDED_DENSE[0])
    with pytest.raises(ValueError, match=rf"{solver} takes no l2 bound \({type(case.problem).__name__}\); use CLARABEL"):
        ci.solve(case.problem, solver)


def answers(value, status):
    def solve(self, *args, **kwargs):
        for variable in self.variables():
            variable.value = np.full(variable.shape, value)
        for constraint in self.constraints:
            for dual in constraint.dual_variables:
                dual.save_value(np.full(dual.shape, value))
        self._status = status
        return 0.0

    return solve


def refuses(self, *args, **kwargs):
    raise cp.SolverError("the solver gave up")


LIES = {
    "zeros, optimal": answers(0.0, "optimal"),
    "ones, optimal": answers(1.0, "optimal"),
    "huge, optimal": answers(1e200, "optimal"),
    "NaN, optimal": answers(np.nan, "optimal"),
    "zeros, infeasible": answers(0.0, "infeasible"),
    "an exception": refuses,
}


def never_zero(name):
    """A batch in which no signal has the answer h = 0, so that zeros are a lie."""
    case = cases.dense_case(name, replace(BATCH, penalty=0.05, noise=0.1), 42)
    assert (case.reference.h.abs().amax(1) > 0.01).all()
    return case


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lie", LIES)
def test_a_solver_that_lies_is_not_believed(name, lie, monkeypatch):
    case = never_zero(name)
    monkeypatch.setattr(cp.Problem, "solve", LIES[lie])
    solution = ci.solve(case.problem, "CLARABEL", polish=False, on_fail="ignore")
    assert set(solution.status) <= {"user_limit", "numerical_error"}
    assert (solution.status == "numerical_error").all() or lie not in ("NaN, optimal", "an exception")


@pytest.mark.parametrize("name", NAMES)
def test_a_false_claim_of_infeasibility_is_not_believed(name, monkeypatch):
    def solve(self, *args, **kwargs):
        self._status = "infeasible"

    case = never_zero(name)
    monkeypatch.setattr(cp.Problem, "solve", solve)
    solution = ci.solve(case.problem, "CLARABEL", polish=False, on_fail="ignore")
    assert "infeasible" not in solution.status and "optimal" not in solution.status


def test_failures_warn_raise_or_pass():
    case = cases.contradiction("nonnegative_lasso", (False, True))
    with pytest.warns(ci.ConvergenceWarning, match=r"1 of 2 signals are not optimal: 1 \(infeasible\)"):
        ci.solve(case.problem)
    with pytest.raises(ci.UnsolvedError, match="1 of 2 signals") as caught:
        ci.solve(case.problem, on_fail="raise")
    assert isinstance(caught.value.result, ci.Solution)
    assert caught.value.result.status.tolist() == ["optimal", "infeasible"]
    assert ci.solve(case.problem, on_fail="ignore").status[1] == "infeasible"


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "clarabel"}, r"unknown solver 'clarabel': did you mean 'CLARABEL'\?"),
        ({"solver": "graph-admm"}, r"unknown solver 'graph-admm': did you mean 'graph_admm'\?"),
        ({"solver": "MOSEK"}, "unknown solver 'MOSEK': .*expected one of 'auto'"),
        ({"solver": None}, "unknown solver None"),
        ({"on_fail": "rise"}, r"unknown on_fail 'rise': did you mean 'raise'\?"),
        ({"tol": 0.0}, "tol must be between 0 and 1, got 0.0"),
        ({"tol": float("nan")}, "tol must be between 0 and 1, got nan"),
        ({"max_iter": 0}, "max_iter must be a positive integer or None, got 0"),
        ({"solver_options": {"verbose": True}}, "solver_options are for CVXPY solvers"),
    ],
)
def test_wrong_arguments_are_refused_with_the_closest_name(options, message):
    with pytest.raises(ValueError, match=message):
        ci.solve(batch("nonnegative_lasso").problem, **options)


@pytest.mark.parametrize("solver", ["ECOS", "HIGHS"])
def test_a_missing_backend_says_how_to_install_it(solver, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(ci.BackendNotInstalledError, match=r"not installed: .*pip install"):
        ci.solve(batch("nonnegative_lasso").problem, solver)


def test_solver_options_reach_the_solver():
    solution = ci.solve(
        batch("nonnegative_lasso").problem, "CLARABEL", solver_options={"max_iter": 2}, polish=False, on_fail="ignore"
    )
    assert (solution.status != "optimal").all() and int(solution.iterations.max()) <= 2


def test_tolerance_is_met():
    for tol in (1e-3, 1e-9):
        judged = ci.solve(batch("nonnegative_lasso").problem, tol=tol).certificate
        assert judged.tol == tol and (judged.gap <= judged.allowed_gap).all()


# --- properties -----------------------------------------------------------------------------------


@st.composite
def drawn_cases(draw):
    m, n = draw(st.integers(1, 12)), draw(st.integers(1, 10))
    rank = draw(st.one_of(st.none(), st.integers(1, min(m, n))))
    spec = cases.Spec(
        "drawn", m, n, N=draw(st.integers(1, 3)),
        rank=rank if n >= 3 else None,
        masked=draw(st.sampled_from([0.0, 0.5])),
        bias=draw(st.sampled_from([0.0, 0.5])),
        noise=draw(st.sampled_from([0.01, 0.5])),
        slope=draw(st.sampled_from([None, 0.1])),
        penalty=draw(st.sampled_from([0.01, 1.0])),
    )  # fmt: skip
    case = cases.dense_case(draw(st.sampled_from(NAMES)), spec, draw(st.integers(0, 10_000)))
    return with_spoiled_rows(case, draw(st.sampled_from([1e-9, 1.0, 1e9])), draw(st.booleans()), draw(st.booleans()))


def with_spoiled_rows(case, scale, zero_row, copied_row):
    """The same case at another scale of W, with a row of zeros in W and a row that stands twice."""
    rows = case.rows
    W, b, y, on, off = rows.W.matrix().clone(), rows.b, rows.y.clone(), rows.on, rows.off
    ends = None if case.ends is None else (case.ends[0].clone(), case.ends[1].clone())
    if zero_row:
        W[0], b = 0.0, torch.where(torch.arange(len(b)) == 0, 0.0, b)
        if case.name in (*cases.BOUNDED, *cases.RELAXED):  # that row is 0 now, which must stay within its bounds
            y[:, 0] = 0.0
        if ends is not None:
            ends[0][:, 0].clamp_(max=0)
            ends[1][:, 0].clamp_(min=0)
    if copied_row and ends is not None:
        ends = (torch.cat([ends[0], ends[0][:, -1:]], 1), torch.cat([ends[1], ends[1][:, -1:]], 1))
    if copied_row:
        W, b = torch.cat([W, W[-1:]]), torch.cat([b, b[-1:]])
        y, on, off = (torch.cat([part, part[:, -1:]], 1) for part in (y, on, off))
    weight = torch.cat([rows.weight, rows.weight[:, -1:]], 1) if copied_row else rows.weight
    power = cases.growth(case.name)[1]
    spoiled = ci.Rows(ci.Dense(scale * W), b, y, on, off, weight)
    penalty = (
        None
        if case.penalty is None
        else case.penalty * scale**power * (1.5 if copied_row and case.name in cases.named("ball") else 1)
    )
    return cases.Case(case.name, case.label, spoiled, penalty, case.feasible / scale, ends=ends)


@hypothesis.given(drawn_cases())
def test_auto_certifies_whatever_the_rows(case):
    solution = ci.solve(case.problem, on_fail="ignore")
    judged = solution.certificate
    assert (solution.status == "optimal").all(), judged
    slack = 1e-12 * judged.objective.abs() + 1e-14 * judged.unit + checks.price(case.problem, solution.p, solution.h)
    assert (judged.bound <= judged.objective + slack).all()


# --- what auto says of itself, precision, chunks -------------------------------------------------------


def test_auto_says_what_it_asked_why_and_what_came_of_it():
    case = batch("nonnegative_lasso")
    solution = ci.solve(case.problem)
    assert [step.given for step in solution.steps[:1]] == [case.problem.N]
    assert sum(step.solved for step in solution.steps) == case.problem.N
    assert {step.method for step in solution.steps} >= set(solution.solver)
    first = solution.explain().splitlines()[0]
    assert first.startswith(f"1. {solution.steps[0].method} (") and f"of {case.problem.N} in" in first
    asked = ci.solve(case.problem, "CLARABEL").steps
    assert len(asked) == 1 and asked[0].method == "CLARABEL" and asked[0].why == "asked for"


def test_iterations_of_a_cvxpy_solver_are_its_own_whatever_the_polish_does():
    problem = batch("nonnegative_lasso").problem
    polished, plain = (ci.solve(problem, "CLARABEL", polish=polish) for polish in (True, False))
    assert polished.polished.any() and (plain.iterations > 0).all()
    assert torch.equal(polished.iterations, plain.iterations)


def shown(err: str, N: int) -> list[int]:
    """What a bar of N signals has shown, one number after the other."""
    return [int(done) for done in re.findall(rf"(\d+)/{N} \[", err)]


def uneven_signals() -> ci.NonnegativeLasso:
    """Five signals of an ill-conditioned layer, of which first-order methods solve one after the other."""
    draw = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(30, 30, generator=draw, dtype=torch.float64))[0] for _ in range(2))
    W = U[:, :12] * torch.logspace(0, -2, 12, dtype=torch.float64) @ V[:12, :12]
    y = torch.randn(5, 30, generator=draw, dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), torch.zeros(30, dtype=torch.float64), y, torch.ones_like(y, dtype=torch.bool))
    return ci.NonnegativeLasso(rows, torch.tensor([0.5, 0.1, 1e-2, 1e-3, 1e-4], dtype=torch.float64))


@pytest.mark.parametrize("solver", ["CLARABEL", "fista", "auto"])
def test_a_bar_that_is_asked_for_moves_from_none_to_all(solver: str, capsys: pytest.CaptureFixture, monkeypatch):
    monkeypatch.setattr("cvxinv.solvers.choose.chunk_size", lambda *_: 2 if solver == "auto" else 5)
    problem = uneven_signals()
    ci.solve(problem, solver, polish=False, progress=True)
    numbers = shown(capsys.readouterr().err, problem.N)
    assert numbers[0] == 0 and numbers[-1] == problem.N and numbers == sorted(numbers)
    assert len(set(numbers)) > 2, f"it jumps: {numbers}"
    assert solver != "CLARABEL" or set(numbers) == set(range(problem.N + 1))
    ci.solve(problem, solver, polish=False, progress=False)
    ci.solve(problem, solver, polish=False)
    assert not capsys.readouterr().err, "a bar where no terminal is"


def test_a_bar_that_nobody_asked_for_waits_until_a_call_takes_long(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for delay, shows in ((1e9, False), (0.0, True)):
        monkeypatch.setattr("cvxinv.solvers.solve._DELAY", delay)
        monkeypatch.setattr("sys.stderr", Terminal())
        ci.solve(batch("nonnegative_lasso").problem)
        assert bool(sys.stderr.getvalue()) == shows


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_rounded_to_three_digits_are_not_used(precision, monkeypatch):
    seen = []
    problem = batch("nonnegative_lasso").problem.to(torch.float32)

    def watched(method, scaled, **options):
        seen.append(scaled.rows.W.dtype)
        return run(method, scaled, **options)

    monkeypatch.setattr("cvxinv.solvers.solve.run", watched)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        solution = ci.solve(problem, "graph_admm", on_fail="ignore")
        assert torch.get_float32_matmul_precision() == precision, "a flag of the user was changed"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [torch.float32 if precision == "highest" else torch.float64]
    assert solution.h.dtype == torch.float32 and set(solution.status) <= {"optimal", "optimal_inaccurate"}


@pytest.mark.parametrize("name", NAMES)
def test_chunks_change_no_answer(name, monkeypatch):
    problem = batch(name).problem
    whole = ci.solve(problem, on_fail="ignore")
    monkeypatch.setattr("cvxinv.solvers.choose.chunk_size", lambda *_: 2)
    monkeypatch.setattr("cvxinv.layers.core.certificate._AT_ONCE", 3 * (problem.n + problem.rows.m))
    parts = ci.solve(problem, on_fail="ignore")
    assert (parts.status == whole.status).all() and len(parts.solver) == problem.N
    known = alike(name, problem)
    assert_same(parts.h[known], whole.h[known])
    torch.testing.assert_close(parts.certificate.objective, whole.certificate.objective)


def test_a_batch_without_signals_cannot_be_taken():
    with pytest.raises(ValueError, match="at least one signal"):
        batch("nonnegative_lasso").problem.rows.take(torch.zeros(0, dtype=torch.long))
