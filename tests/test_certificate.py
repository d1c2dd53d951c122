"""What `certify` says of points whose gap, violation and feasibility are known."""

from dataclasses import replace
from itertools import pairwise

import cases
import checks
import numpy as np
import pytest
import torch

import cvxinv as ci

CASES = [pytest.param(case, id=repr(case)) for case in cases.random_cases()]
SOME = cases.spread(CASES, 6, lambda param: param.values[0].name)  # of every layer problem
LASSO = "nonnegative_lasso"


def one_row(*, y=1.0, b=0.0, lam=0.5, cap=None):
    """min_{h >= 0} 1/2 (h + b - y)^2 + lam h, with h <= cap where one is given: at h = 1/2 + d the gap is d^2 / 2."""
    rows = [[1.0]] if cap is None else [[1.0], [1.0]]
    bias = [b] if cap is None else [b, -cap]
    W, on = torch.tensor(rows, dtype=torch.float64), torch.tensor([[True, False][: len(rows)]])
    data = torch.tensor([[y, 0.0][: len(rows)]], dtype=torch.float64)
    return ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.tensor(bias, dtype=torch.float64), data, on), lam)


def vector(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


# --- statuses at their thresholds -----------------------------------------------------------------


@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(
    ("part", "status"),
    [(0.99, "optimal"), (1.01, "optimal_inaccurate"), (990.0, "optimal_inaccurate"), (1010.0, "user_limit")],
)
def test_gap_decides_the_status(part, status, tol):
    """f* = 3/8; h = 1/2 + d with the best p has gap d^2 / 2 against tol (3/8 + d^2 / 2)."""
    allowed = part * tol * 3 / 8 / (1 - part * tol)
    h = 0.5 + (2 * allowed) ** 0.5
    judged = ci.certify(one_row(), vector(h), vector(-0.5), tol=tol)
    assert judged.status[0] == status
    assert float(judged.gap) == pytest.approx(allowed, rel=1e-3 if tol < 1e-6 else 1e-6)
    assert float(judged.allowed_gap) == tol * float(judged.objective)


@pytest.mark.parametrize(
    ("part", "status"),
    [(0.98, "optimal"), (1.02, "optimal_inaccurate"), (990.0, "optimal_inaccurate"), (1010.0, "user_limit")],
)
@pytest.mark.parametrize("y", [1e-8, 1.0, 3e5])
def test_the_worth_of_a_violation_decides_the_status(part, status, y):
    """Cap y/4 below the free optimum y: h = y/4 + e exceeds it by e, p = 3/4 y there, f = (3/4 y - e)^2 / 2.

    The excess is worth 3/4 y e, of which 1e-6 f is allowed: e = 3/8e-6 y, less than the 1/2e-6 y of the row's own size.
    The gap of the opened problem is e^2 / 2.
    """
    problem, e = one_row(y=y, lam=0.0, cap=y / 4), part * 0.375e-6 * y
    judged = ci.certify(problem, vector(y / 4 + e), vector(-0.75 * y, 0.75 * y))
    assert judged.status[0] == status
    assert float(judged.violation) == pytest.approx(e, rel=1e-6)
    assert float(judged.violations[0, 1]) == float(judged.violation) and float(judged.violations[0, 0]) == 0
    assert float(judged.worth) == pytest.approx(0.75 * y * e, rel=1e-6)
    assert 0 <= float(judged.gap) <= e * e + 1e-12 * y * y and not judged.two_sided[0]


@pytest.mark.parametrize(("part", "status"), [(0.99, "optimal"), (1.01, "optimal_inaccurate"), (1010.0, "user_limit")])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1.0, 100.0])
def test_a_row_is_judged_by_its_own_size(part, status, scale):
    """h = 1 + e fits y = 1 + e, and exceeds scale (h - 1) <= 0 by scale e. Its size is 2 scale + scale e, s_y is 1 + e.

    p = 0 is right: the excess is worth nothing, and however small the row is against the other, it counts by its own size.
    """
    e = part * 1e-6 * min(2 * scale, 1.0) / scale
    W, on = torch.tensor([[1.0], [scale]], dtype=torch.float64), torch.tensor([[True, False]])
    rows = ci.Rows(ci.Dense(W), vector(0.0, -scale)[0], vector(1.0 + e, 0.0), on)
    judged = ci.certify(ci.NonnegativeLasso(rows, 0.0), vector(1.0 + e), vector(0.0, 0.0))
    assert judged.status[0] == status and float(judged.gap) == 0 and float(judged.worth) == 0
    assert float(judged.times) == pytest.approx(part, rel=3e-3)


@pytest.mark.parametrize(("part", "status"), [(0.3, "optimal"), (0.6, "optimal_inaccurate"), (1010.0, "user_limit")])
def test_negative_h_is_a_violation(part, status):
    """y = (-1, 1), W = I, lam = 1/2: the optimum is (0, 1/2), f = 7/8; h_1 = -e is worth (1 + lam) e, of 7/8e-6 allowed.

    e = 7/12e-6 is that; the sign asks for e <= 1/2e-6, 1e-6 of the largest entry.
    """
    W, on = torch.eye(2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool)
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), vector(0.0, 0.0)[0], vector(-1.0, 1.0), on), 0.5)
    judged = ci.certify(problem, vector(-part * 1e-6, 0.5), vector(1.0, -0.5))
    assert judged.status[0] == status and float(judged.gap) >= 0


def test_a_bound_holds_everywhere_or_says_where():
    """lam = 0, any sign. Full column rank: everywhere. Twin columns: W'p is 0 to rounding only, and the remark says so."""
    y = vector(1.0, 2.0, 4.0)
    for columns, everywhere in (([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], True), ([[0.1, 0.1], [0.7, 0.7], [0.3, 0.3]], False)):
        rows = ci.Rows(ci.Dense(torch.tensor(columns, dtype=torch.float64)), vector(0.0, 0.0, 0.0)[0], y, y > 0)
        h = torch.linalg.lstsq(rows.W.matrix(), y[0], driver="gelsd").solution[None]
        judged = ci.certify(ci.Lasso(rows, 0.0), h)
        assert judged.status[0] == "optimal" and bool(torch.isinf(judged.scope[0])) == everywhere
        assert ("|h| <=" in judged.remark[0]) != everywhere and bool(judged.two_sided[0]) == everywhere
        assert everywhere or float(judged.scope) > 1e6 * float(h.norm())
        assert float(judged.bound) <= float(judged.objective) * (1 + 1e-12)


@pytest.mark.parametrize("small", [1e-9, 1e-12, 1e-14])
def test_a_bound_that_holds_in_a_ball_without_h_says_nothing_of_h(small):
    """The twins of above beside a column of length `small`, whose h is as long as that is short: the ball is no longer."""
    twin, other = vector(0.1, 0.7, 0.3)[0], vector(1.0, 0.0, 0.0)[0]
    y = vector(1.0, 2.0, 4.0)
    rows = ci.Rows(ci.Dense(torch.stack([twin, twin, small * other], 1)), vector(0.0, 0.0, 0.0)[0], y, y > 0)
    a, c = torch.linalg.lstsq(torch.stack([twin, other], 1), y[0]).solution.tolist()
    h = vector(a / 2, a / 2, c / small)
    for problem in (ci.Lasso(rows, 0.0), ci.GaussianLatent(rows, 0.0)):
        judged = ci.certify(problem, h)
        inside = float(h.norm()) <= float(judged.scope)
        assert inside == (small == 1e-9) and judged.status[0] == ("optimal" if inside else "user_limit")
        assert f"|h| <= {float(judged.scope):.2g} only" in judged.remark[0]


def test_a_limited_row_that_no_h_moves_is_named_or_forbids_all():
    """W = (1; 0), the second row off with a bias of 1e-7 or 1e-5: met by no h, whatever p is."""
    for bias, status in ((-1.0, "optimal"), (1e-7, "optimal"), (1e-5, "infeasible")):
        rows = ci.Rows(ci.Dense(vector(1.0, 0.0).T), vector(0.0, bias)[0], vector(1.0, 0.0), torch.tensor([[True, False]]))
        for p in (vector(0.0, 0.0), vector(0.0, 1e300), None):
            judged = ci.certify(ci.NonnegativeLasso(rows, 0.0), vector(1.0), p)
            assert judged.status[0] == status and float(judged.bound) <= 0
            assert ("row 1 is 0 in W" in judged.remark[0]) == (bias > 0)
            wrong = ci.certify(ci.NonnegativeLasso(rows, 0.0), vector(100.0), p)
            assert wrong.status[0] == ("infeasible" if bias == 1e-5 else "user_limit")


UNITS = [(name, unit) for name in cases.NAMES for unit in (1e-200, 1e-150, 1e-30, 1e100, 1e160)]


@pytest.mark.parametrize(("name", "unit"), cases.spread(UNITS, 2, lambda pair: pair[0]))
def test_a_verdict_does_not_depend_on_the_unit_of_the_data(name, unit):
    """Squares of 1e-200 vanish and of 1e160 overflow; the statuses are those of data of size 1."""
    case = cases.dense_case(name, cases.DENSE[0])
    plain, factor = case.reference, float(2 ** round(np.log2(unit)))
    scaled = case.in_units(factor).problem
    p = plain.p * (factor if name in cases.SQUARED else 1.0)
    judged, wrong = ci.certify(scaled, factor * plain.h, p), ci.certify(scaled, 1.01 * factor * plain.h, p)
    assert judged.status.tolist() == ci.certify(case.problem, plain.h, plain.p).status.tolist()
    assert wrong.status.tolist() == ci.certify(case.problem, 1.01 * plain.h, plain.p).status.tolist()
    assert (ci.solve(scaled, on_fail="ignore").status == ci.solve(case.problem, on_fail="ignore").status).all()


@pytest.mark.parametrize(("part", "status"), [(0.99, "optimal"), (1.01, "optimal_inaccurate"), (35.0, "user_limit")])
@pytest.mark.parametrize("y", [1e-9, 1.0, 1e7])
def test_a_misfit_of_1e_10_counts_as_none_when_the_optimum_is_zero(part, status, y):
    """lam = 0: h = y + d has objective d^2 / 2, and no bound above 0 exists: (1e-10 s_y)^2 / 2 is allowed.

    y + d is stored with an error of u y, 1e-6 of d; 35^2 > 1000.
    """
    judged = ci.certify(one_row(y=y, lam=0.0), vector(y * (1 + part * 1e-10)), vector(0.0))
    assert judged.status[0] == status


def test_zero_signals_are_solved_and_judged():
    """y_on = b_on: s_y = 0, the optimum 0 is reached at h = 0 only when nothing is allowed, and it is optimal."""
    problem = one_row(y=2.0, b=2.0)
    solution = ci.solve(problem)
    assert solution.status[0] == "optimal" and float(solution.h) == 0.0
    judged = ci.certify(problem, vector(0.0), vector(0.0))
    assert judged.status[0] == "optimal" and float(judged.scale) == float(judged.allowed_gap) == 0.0
    assert ci.certify(problem, vector(1e-3), vector(0.0)).status[0] == "user_limit"


def test_a_point_that_is_not_finite_is_a_numerical_error_and_costs_its_neighbour_nothing():
    case = cases.dense_case(LASSO, cases.DENSE[0])
    h = case.reference.h.clone()
    h[1, 3] = torch.nan
    judged = ci.certify(case.problem, h, case.reference.p)
    assert judged.status.tolist() == ["optimal", "numerical_error", "optimal", "optimal", "optimal"]
    assert torch.isnan(judged.objective[1]) and torch.isfinite(judged.objective[[0, 2, 3, 4]]).all()


@pytest.mark.parametrize("huge", [1e160, 1e200, 1e300])
@pytest.mark.parametrize("name", cases.NAMES)
def test_a_point_whose_objective_overflows_is_not_optimal(name, huge):
    """An infinite objective has an infinite gap, and tol times an infinite objective must not allow it."""
    case = cases.dense_case(name, replace(cases.DENSE[0], N=2, slope=1.0))  # no off rows, whose violation would tell
    judged = ci.certify(case.problem, torch.full((2, case.problem.n), huge, dtype=torch.float64), case.reference.p)
    assert (judged.status == "user_limit").all(), judged


# --- wrong points are not optimal -----------------------------------------------------------------


@pytest.mark.parametrize("case", SOME)
def test_gap_grows_with_the_distance_from_the_optimum(case):
    direction = cases.normal(*case.reference.h.shape, draw=cases.seeded(11))
    direction = direction / direction.norm(dim=1, keepdim=True) * (1 + case.reference.h.norm(dim=1, keepdim=True))
    gaps = []
    for step in (0.0, 1e-2, 1e-1, 1.0):
        h = case.reference.h + step * direction
        h = h.clamp(min=0) if case.problem.nonnegative else h
        judged = ci.certify(case.problem, h, case.reference.p)
        # the violation's share of the objective is what a point outside may lie below the optimum
        gaps.append(judged.gap + checks.price(case.problem, case.reference.p, h))
        determined = (case.rows.gram().expand(case.problem.N, -1, -1).logdet() > -50).isfinite()
        determined &= torch.tensor(case.name in cases.SQUARED)  # a linear objective may be flat along the way
        assert step == 0.0 or (judged.status != "optimal")[determined.numpy() & (step >= 0.1)].all()
    slack = 1e-9 * (1 + gaps[-1].abs())
    assert all((near <= far + slack).all() for near, far in pairwise(gaps))


@pytest.mark.parametrize("case", SOME)
def test_a_wrong_p_is_no_certificate(case):
    """Zero, NaN and the negative prove nothing, but where the multipliers of the off rows alone prove it: these are 0."""
    right, scale = case.reference, case.rows.scale()
    hard = right.certificate.objective > 1e-6 * case.problem.unit()
    if "gamma" in case.problem.numbers:
        hard &= torch.where(case.rows.off, right.p, 0.0).amax(1) > 1e-3 * scale
    for p in (0 * right.p, -right.p, torch.full_like(right.p, torch.nan)):
        judged = ci.certify(case.problem, right.h, p)
        assert (judged.status[hard.numpy()] != "optimal").all()
        assert (judged.bound <= right.certificate.objective * (1 + 1e-12)).all()


def test_p_of_another_problem_is_rejected():
    """W = I: the best p is -lam in every row where h > 0; a p with one entry halved is worse by 3/8 lam^2 or so."""
    W, ones = torch.eye(2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), 0 * ones[0], ones, ones.bool()), 0.1)
    assert ci.certify(problem, 0.9 * ones, -0.1 * ones).status[0] == "optimal"
    assert ci.certify(problem, 0.9 * ones, vector(-0.1, -0.05)).status[0] == "user_limit"


# --- h alone, numpy, one signal -------------------------------------------------------------------


@pytest.mark.parametrize("case", [param for param in CASES if param.values[0].name in cases.BOUNDED])
def test_h_without_p_gets_a_true_bound_where_the_misfit_is_bounded(case):
    judged = ci.certify(case.problem, case.reference.h)
    assert (judged.bound <= checks.ceilings(case, case.reference.h)).all() and "infeasible" not in judged.status
    assert (judged.status == "optimal")[case.reference.polished.numpy()].all(), judged


@pytest.mark.parametrize("case", [param for param in CASES if param.values[0].name in cases.SQUARED])
def test_h_without_p_is_certified_at_the_points_of_clarabel(case):
    polished = case.reference.polished.numpy()
    judged = ci.certify(case.problem, case.reference.h)
    # gamma = 0 with dependent columns: a bound within a scope costs some digits, and says so
    weak = np.array([remark != "" for remark in judged.remark]) & (judged.status == "optimal_inaccurate")
    assert (judged.status == "optimal")[polished & ~weak].all(), judged
    assert "gamma" in case.problem.numbers or not weak.any()


def test_numpy_and_single_signals_are_accepted():
    case = cases.dense_case(LASSO, cases.DENSE[0])
    h, p = case.reference.h, case.reference.p
    judged = ci.certify(case.problem, h.numpy(), p.numpy())
    assert torch.equal(judged.bound, ci.certify(case.problem, ci.Point(h, p)).bound)
    one = case.problem.take(torch.tensor([2]))
    for given in (h[2].numpy(), h[2], h[2:3], h[2].tolist()):
        if isinstance(given, list):
            with pytest.raises(TypeError, match="expected h as a torch tensor or numpy array, got list"):
                ci.certify(one, given)
        else:
            assert ci.certify(one, given, p[2]).status[0] == "optimal"


def test_judge_works_in_float64_whatever_the_problem_is_in():
    case = cases.dense_case(LASSO, cases.DENSE[0]).to(torch.float32)
    judged = ci.certify(case.problem, case.feasible)
    assert judged.objective.dtype == judged.bound.dtype == torch.float64


@pytest.mark.parametrize(
    ("h", "p", "error", "message"),
    [
        (torch.zeros(5, 3), None, ValueError, r"expected h of shape \(5, 12\), got \(5, 3\); pass one row per signal"),
        (torch.zeros(12), None, ValueError, r"expected h of shape \(5, 12\), got \(12,\)"),
        (torch.zeros(5, 12), torch.zeros(5, 12), ValueError, r"expected p of shape \(5, 36\), got \(5, 12\)"),
        (np.array([["a"] * 12] * 5), None, TypeError, "expected h as an array of floats or integers, up to float64, got"),
        (None, None, TypeError, "expected h as a torch tensor or numpy array, got NoneType"),
    ],
)
def test_wrong_input_is_refused_with_the_numbers(h, p, error, message):
    with pytest.raises(error, match=message):
        ci.certify(cases.dense_case(LASSO, cases.DENSE[0]).problem, h, p)


@pytest.mark.parametrize("tol", [0.0, -1e-6, float("nan")])
def test_a_tolerance_must_be_positive(tol):
    with pytest.raises(ValueError, match="tol must be > 0"):
        ci.certify(one_row(), vector(0.5), tol=tol)


# --- infeasibility --------------------------------------------------------------------------------

RAYS = [pytest.param(case, instance, id=repr(case)) for case, instance in cases.worked() if instance.ray is not None]


@pytest.mark.parametrize(("case", "instance"), RAYS)
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_a_ray_proves_infeasibility(case, instance, factor):
    ray = factor * torch.as_tensor(instance.ray)[None]
    assert checks.ray_reaches(case, 0, ray) == np.inf
    assert ci.certify(case.problem, torch.zeros(1, case.problem.n), ray).status[0] == "infeasible"


@pytest.mark.parametrize(("case", "instance"), RAYS)
def test_a_fake_ray_proves_nothing(case, instance):
    ray, zero = torch.as_tensor(instance.ray)[None], torch.zeros(1, case.problem.n)
    scrambled = ray + 0.01 * torch.where(case.rows.off, 1 + torch.arange(ray.shape[1]), 0)
    fakes = [-ray, 0 * ray, torch.where(case.rows.on, 1.0, 0.0), ray * torch.nan]
    if (ray != 0).sum() > 1:
        fakes += [ray.where(torch.arange(ray.shape[1]) != int(ray.abs().argmax()), 0 * ray), scrambled]
    for fake in fakes:
        if checks.ray_reaches(case, 0, fake) == np.inf:
            continue  # a ray too: the sum of rows that contradict each other
        assert ci.certify(case.problem, zero, fake).status[0] != "infeasible", fake


@pytest.mark.parametrize("case", SOME)
def test_no_p_calls_a_feasible_problem_infeasible(case):
    draw = cases.seeded(12)
    h = torch.zeros(case.problem.N, case.problem.n)
    for size in (1e-6, 1.0, 1e6, 1e150):
        p = size * cases.normal(*case.rows.y.shape, draw=draw).abs()
        for dual in (p, p * case.rows.off, size * case.reference.p):
            assert (ci.certify(case.problem, h, dual).status != "infeasible").all()


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("factor", [1e-305, 1e-300, 1e-150, 1e150, 1e300])
def test_the_length_of_p_proves_nothing(name, factor):
    """Squares of 1e-300 underflow and of 1e300 overflow: what a multiple of p shows stays what p shows."""
    case = cases.dense_case(name, cases.DENSE[0])
    p = case.reference.p.clamp(min=0)
    shown, away = case.problem.dual(factor * p), case.problem.infeasibility(factor * p)
    assert torch.isfinite(shown).all() and (shown <= case.reference.certificate.objective * (1 + 1e-6)).all()
    assert (away <= case.problem.infeasibility(p) * (1 + 1e-3) + 1e-12).all()


# --- the object -----------------------------------------------------------------------------------


def test_counts_take_and_text_of_a_certificate():
    case = cases.dense_case(LASSO, cases.DENSE[0])
    h = case.reference.h.clone()
    h[3] = 0
    judged = ci.certify(case.problem, h, case.reference.p)
    assert judged.counts() == {"optimal": 4, "user_limit": 1} and len(judged) == 5
    assert judged.holds.tolist() == [True, True, True, False, True]
    part = judged.take(torch.tensor([3, 0]))
    assert part.status.tolist() == ["user_limit", "optimal"] and float(part.gap[1]) == float(judged.gap[0])
    assert "4 optimal, 1 user_limit" in repr(judged)


def test_remark_says_why_no_bound_is_known():
    """lam = 0 and h1 - h2 alone on the on rows: h1 = h2 moves nothing, no u has W'u >= 1."""
    W = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), torch.zeros(1, dtype=torch.float64), vector(1.0), torch.tensor([[True]]))
    judged = ci.certify(ci.NonnegativeLasso(rows, 0.0), vector(3.0, 0.0))
    assert judged.status[0] == "user_limit" and "no rows lift every column" in judged.remark[0]
    assert ci.certify(ci.NonnegativeLasso(rows, 0.0), vector(1.0, 0.0)).remark[0] == ""


def test_remark_of_a_fit_names_no_number_that_it_does_not_have():
    """Twin columns: no bound above 0. Columns that differ by 1e-7 are of full rank, though their Gram matrix is none."""
    y = vector(1.0, 2.0, 4.0)
    for apart, words in ((0.0, "W_on lacks full column rank to rounding: no bound above 0 holds for every h"), (1e-7, "")):
        W = torch.tensor([[0.1, 0.1], [0.7, 0.7 + apart], [0.3, 0.3]], dtype=torch.float64)
        rows = ci.Rows(ci.Dense(W), vector(0.0, 0.0, 0.0)[0], y, y > 0)
        for problem in (ci.L1Fit(rows), ci.LinfFit(rows), ci.RelaxedFit(rows), ci.GaussianLatent(rows, 0.0)):
            judged = ci.certify(problem, vector(0.0, 0.0), vector(0.0, 0.0, 0.0))
            given = "gamma = 0 and " if "gamma" in problem.numbers else ""
            assert judged.status[0] == "user_limit" and judged.remark[0] == (given + words if words else "")
