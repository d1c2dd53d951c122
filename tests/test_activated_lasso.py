"""The image layer behind its activation: not convex, so answers are stationary points and nothing more is claimed."""

import math
from itertools import pairwise

import checks
import pytest
import torch

import cvxinv as ci
from cvxinv.solvers.first_order.fista import FISTA

PHIS = [pytest.param(phi, id=type(phi).__name__) for phi in checks.PHIS]


def one_unknown(phi, y, lam=0.0, W=1.0, b=0.0):
    """min over h >= 0 of (phi(W h + b) - y)^2 / 2 + lam h, one row per entry of y."""
    W, b, y = (torch.as_tensor(part, dtype=torch.float64).reshape(1, -1) for part in (W, b, y))
    rows = ci.Rows(ci.Dense(W.T), b[0], y, torch.ones_like(y, dtype=torch.bool))
    return ci.ActivatedLasso(rows, phi, lam)


def f(problem, h):
    return float(problem.objective(torch.tensor([[h]], dtype=torch.float64)))


def test_the_problem_is_not_convex_behind_tanh():
    """W = 1, b = 0, y = -1: f(h) = (tanh h + 1)^2 / 2.

    tanh 2 = 0.96403, tanh 4 = 0.99933: f = 0.5, 1.92870, 1.99866 at 0, 2, 4, and f(2) > (f(0) + f(4)) / 2 = 1.24933.
    The paper has it convex for every increasing smooth phi.
    """
    problem = one_unknown(ci.Tanh(), -1.0)
    assert f(problem, 0.0) == 0.5
    assert f(problem, 2.0) == pytest.approx(1.92870, abs=1e-5) and f(problem, 4.0) == pytest.approx(1.99866, abs=1e-5)
    assert f(problem, 2.0) > (f(problem, 0.0) + f(problem, 4.0)) / 2 + 0.6


def test_there_are_local_minima_and_stationary_says_no_more():
    """W = (1, 1)', b = (0, -8)', y = (-1, 1): from 0 the first row pushes down, yet h = 20 is better by almost 1/2.

    f(0) = 1/2 + (tanh(-8) - 1)^2 / 2 = 2.5 and f(20) = 2 + 0, to 1e-6.
    """
    problem = one_unknown(ci.Tanh(), [-1.0, 1.0], W=[1.0, 1.0], b=[0.0, -8.0])
    solution = ci.solve(problem)
    assert solution.status[0] == "stationary" and float(solution.h) == 0.0
    assert f(problem, 0.0) == pytest.approx(2.5, abs=1e-6) and f(problem, 20.0) == pytest.approx(2.0, abs=1e-6)
    assert float(solution.certificate.bound) == 0.0


def test_a_kink_is_not_stationary_where_one_side_of_it_leads_down():
    """y = 2, lam = 1/2, slope 0.1, b = 0: at h = 0 the slope from the left is 0.1 (0 - 2) + 1/2 > 0, from the right
    (0 - 2) + 1/2 < 0, and h >= 0 leaves the right side only: the minimum is h = 3/2."""
    problem = one_unknown(ci.LeakyReLU(0.1), 2.0, 0.5)
    at = {h: ci.certify(problem, torch.full((1, 1), h, dtype=torch.float64)).status[0] for h in (0.0, 1.5)}
    assert at == {0.0: "user_limit", 1.5: "stationary"}


@pytest.mark.parametrize(
    ("phi", "y", "lam", "h"),
    [
        (ci.Identity(), 2.0, 0.5, 1.5),  # h - y + lam = 0
        (ci.Identity(), -1.0, 0.0, 0.0),
        (ci.LeakyReLU(0.1), 2.0, 0.1, 1.9),  # u = h >= 0 is on the identity's side
        (ci.PLU(0.1, 1.0), 0.8, 0.3, 0.5),  # on [0, 1] the identity
        (ci.PLU(0.1, 1.0), 1.5, 0.0, 6.0),  # 1 + 0.1 (h - 1) = 1.5
        (ci.Tanh(), 5 / 6, 0.25, math.log(3) / 2),  # tanh h = 1/2: (1 - 1/4)(1/2 - 5/6) = -1/4 = -lam
        (ci.Tanh(), 0.5, 1.0, 0.0),  # slope at 0 is -1/2 + 1 > 0
        (ci.Sigmoid(), 0.75, 0.0, math.log(3)),  # 1 / (1 + 1/3) = 3/4
        (ci.Sigmoid(), 5 / 6, 1 / 64, None),  # checked by its slope
    ],
)
def test_hand_worked_minima_of_one_unknown(phi, y, lam, h):
    problem = one_unknown(phi, y, lam)
    solution = ci.solve(problem)
    assert solution.status[0] in ("stationary", "optimal")
    # a gradient of 1e-6 y is allowed: a curvature of a^2 = 0.01, the least of these, turns it into 1e-4 y
    if h is None:
        s = float(phi(solution.h))
        assert s * (1 - s) * (s - y) == pytest.approx(-lam, abs=1e-6) and 0.5 < s < y
    else:
        assert float(solution.h) == pytest.approx(h, abs=2e-4)


def test_every_formula_and_status_behind_every_phi():
    checks.check_curved(ci.ActivatedLasso)


@pytest.mark.parametrize("phi", PHIS)
def test_realizable_data_are_explained(phi):
    """Without noise and penalty the objective can be 0, and where it is reached it is called optimal."""
    problem, known = checks.curved_problem(phi, noise=0.0, lam=0.0)
    assert (ci.certify(problem, known).status == "optimal").all()
    solution = ci.solve(problem, on_fail="ignore")
    assert set(solution.status) <= {"optimal", "stationary"}
    assert (solution.certificate.objective <= 1e-8 * solution.certificate.scale**2).all(), solution.certificate.objective


@pytest.mark.parametrize("phi", PHIS)
def test_off_rows_count_as_not_seen(phi):
    problem, _ = checks.curved_problem(phi)
    assert not problem.rows.off.any()
    rows = problem.rows
    other = torch.where(rows.on, rows.y, 100.0)
    same = ci.ActivatedLasso(ci.Rows(rows.W, rows.b, other, rows.on, ~rows.on, rows.weight), phi, problem.lam)
    assert torch.equal(ci.solve(same, on_fail="ignore").h, ci.solve(problem, on_fail="ignore").h)


@pytest.mark.parametrize("phi", PHIS)
def test_fista_never_raises_the_objective(phi):
    problem = checks.curved_problem(phi)[0].normalised().problem
    method = FISTA().start(problem)
    values = [checks.curved_objective(problem, method.h)]
    for _ in range(200):
        method.advance(1)
        values.append(checks.curved_objective(problem, method.h))
    assert all((after <= before + 1e-14).all() for before, after in pairwise(values))
    assert (values[-1] < 0.9 * values[0]).all()


@pytest.mark.parametrize("phi", PHIS)
def test_a_truncated_run_is_user_limit(phi):
    problem, _ = checks.curved_problem(phi)
    solution = ci.solve(problem, "fista", max_iter=1, on_fail="ignore")
    assert (solution.status == "user_limit").all() and (checks.curved_step(problem, solution.h) > 1e-6).all()


@pytest.mark.parametrize("phi", PHIS)
def test_batch_is_loop(phi):
    problem, _ = checks.curved_problem(phi)
    together = ci.solve(problem, on_fail="ignore")
    for i in range(problem.N):
        alone = ci.solve(problem.take(torch.tensor([i])), on_fail="ignore")
        assert alone.status[0] == together.status[i]
        torch.testing.assert_close(alone.h[0], together.h[i], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", ["CLARABEL", "OSQP", "SCS", "HIGHS", "graph_admm", "pdhg", "interior_point"])
def test_solvers_for_convex_problems_refuse_it_by_name(solver):
    problem, _ = checks.curved_problem(ci.Tanh())
    with pytest.raises(ValueError, match=r"ActivatedLasso.*'?fista'?"):
        ci.solve(problem, solver)
    with pytest.raises(ValueError, match=r"not convex behind Tanh.*IntervalBasisPursuit"):
        problem.statement(problem.rows.sample(0), 0)


@pytest.mark.parametrize(
    ("phi", "lam", "error", "message"),
    [
        (ci.ReLU(), 0.1, TypeError, "expected phi as Tanh, .* a ReLU's rows are on and off rows of NonnegativeLasso"),
        ("tanh", 0.1, TypeError, "expected phi as Tanh"),
        (ci.Tanh(), -0.1, ValueError, "lam must be >= 0 and finite"),
    ],
)
def test_wrong_arguments_are_refused(phi, lam, error, message):
    good, _ = checks.curved_problem(ci.Tanh())
    with pytest.raises(error, match=message):
        ci.ActivatedLasso(good.rows, phi, lam)
