"""The two problems in the dictionary with columns of length 1: the six checks of every layer problem, and every solver.

Where all columns have one length c they are LASSO and basis pursuit with lam / c and |h|_1 c, whose answers stand worked by
hand in problems/layers; with columns of other lengths some are worked here.
"""

from dataclasses import replace

import cases
import checks
import gallery
import numpy as np
import pytest
import torch

import cvxinv as ci

KINDS = {"lasso": ci.NormalisedLasso, "basis_pursuit_l2": ci.NormalisedBasisPursuit}
SPECS = {"lasso": cases.SIGNED_DENSE, "basis_pursuit_l2": cases.BOUNDED_DENSE}


def without_off(case):
    """Off rows limit nothing here, so that what was feasible stays so, and every h of the LASSO is."""
    return replace(case, kind=KINDS[case.name])


CASES = [without_off(cases.dense_case(name, spec)) for name in KINDS for spec in SPECS[name]]
RANDOM = [pytest.param(case, id=repr(case)) for case in CASES]


def even(instance):
    """Whether all columns have one length on the on rows, and no off row takes part."""
    length = np.linalg.norm(instance.W[instance.on], axis=0)
    return instance.answer is not None and bool(length.min(initial=1) > 0) and np.ptp(length) <= 1e-12 * length.max()


HAND = [pytest.param(case, instance, id=repr(case)) for case, instance in cases.worked() if case.name in KINDS
        and even(instance) and (case.name == "lasso" or not instance.off.any())]  # fmt: skip


@pytest.mark.parametrize("case", RANDOM)
def test_statement_bound_and_reference(case):
    checks.check_statement(case)
    checks.check_reference(case)
    checks.check_bound(case)
    checks.check_slack(case)


@pytest.mark.parametrize("case", RANDOM)
def test_reference_is_a_fixed_point_of_the_methods_of_any_sign(case):
    check_stays(case)


def check_stays(case):
    scaled = case.problem.normalised()
    problem, start = scaled.problem, ci.Point(case.reference.h / scaled.h_unit, case.reference.p / scaled.p_unit)
    assert isinstance(problem, KINDS[case.name]) and problem.rows.W.norm() == pytest.approx(1)
    served = [(make, solver) for make, solver in checks.FIXED if checks.serves(solver, problem)]
    assert len(served) >= 2
    for make, _ in served:
        checks.stays(make(problem, *start), *start, 30, 1e-8)


@pytest.mark.parametrize("case", RANDOM)
def test_auto_reaches_a_certificate(case):
    checks.check_fast(case, "auto")


@pytest.mark.parametrize("solver", [*checks.FAST, "CLARABEL", "SCS"])
@pytest.mark.parametrize("name", KINDS)
def test_every_solver_takes_them_or_says_why_not(name, solver):
    case = without_off(cases.dense_case(name, replace(SPECS[name][0], N=3)))
    if solver in checks.FAST and not checks.serves(solver, case.problem):
        with pytest.raises(ValueError, match=rf"solver '{solver}' cannot serve {KINDS[name].__name__}: it "):
            ci.solve(case.problem, solver)
        return
    solution = checks.check_fast(case, solver, must=True)
    assert solution.problem is case.problem and (solution.take(torch.tensor([1])).status == "optimal").all()


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")
@pytest.mark.parametrize(("case", "instance"), HAND)
def test_even_columns_have_the_hand_answers_of_the_plain_problems(case, instance):
    c = float(np.linalg.norm(instance.W[instance.on], axis=0).max())
    squares = case.name == "lasso"
    problem = KINDS[case.name](case.rows, instance.penalty / c if squares else instance.penalty)
    value = instance.value if squares else c * instance.value
    statement = problem.statement(problem.rows.sample(0), 0)
    statement.problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert statement.problem.value == pytest.approx(value, rel=1e-7, abs=1e-7)
    solution = ci.solve(problem, on_fail="ignore")
    assert float(solution.certificate.objective) == pytest.approx(value, rel=2e-6, abs=1e-12)
    if instance.unique:
        np.testing.assert_allclose(solution.h[0].numpy(), instance.answer, rtol=1e-5, atol=1e-5)
    plain_value, _ = gallery.problem(case.name).transcription(instance)
    assert plain_value == pytest.approx(instance.value, rel=1e-7, abs=1e-7)


def test_uneven_columns_worked_by_hand():
    """W = diag(1, 2), so D = (1, 2); y = (2, 3), lam = 1: h1 - 2 + 1 = 0 and 2 (2 h2 - 3) + 2 = 0, so h = (1, 1).

    value = 1/2 (1 + 1) + 1 + 2 = 4. With an l2 bound of 2^(1/2) the misfit (1, 1) costs least in |h1| + 2 |h2|, as D h and
    the misfit trade one for one in both rows: h = (1, 1), value 3. Without a bound on it, h = (2, 3/2), value 5.
    """
    W, y = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64)), torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), 0 * y[0], y, y > 0)
    for problem, h, value in (
        (ci.NormalisedLasso(rows, 1.0), [1.0, 1.0], 4.0),
        (ci.NormalisedBasisPursuit(rows, 2**0.5), [1.0, 1.0], 3.0),
        (ci.NormalisedBasisPursuit(rows, 0.0), [2.0, 1.5], 5.0),
    ):
        for solver in ("auto", "CLARABEL"):
            solution = ci.solve(problem, solver)
            assert solution.h[0].tolist() == pytest.approx(h, abs=1e-5)
            assert float(solution.certificate.objective) == pytest.approx(value, rel=2e-6)
            assert float(solution.certificate.bound) == pytest.approx(value, rel=2e-6)


def test_signals_that_see_other_rows_have_other_dictionaries():
    """Two signals, W = (1, 1)', the second sees the first row alone: D = 2^(1/2) and 1; y = 2, lam = 1.

    2 (h - 2) + 2^(1/2) = 0 gives h = 2 - 2^(-1/2); h - 2 + 1 = 0 gives h = 1.
    """
    W, y = torch.ones(2, 1, dtype=torch.float64), torch.full((2, 2), 2.0, dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), 0 * y[0], y, torch.tensor([[True, True], [True, False]]))
    solution = ci.solve(ci.NormalisedLasso(rows, 1.0))
    assert (solution.status == "optimal").all()
    assert solution.h[:, 0].tolist() == pytest.approx([2 - 2**-0.5, 1.0], abs=1e-6)
