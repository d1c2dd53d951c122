"""Gap-safe screening never takes an unknown that some exact answer needs."""

import pytest
import torch
from test_sparse_active_set import lasso, numbers, power_law, settle

import cvxinv as ci
from cvxinv.layers.core.problem import Point
from cvxinv.solvers.first_order.fista import FISTA
from cvxinv.solvers.screening import provably_zero


def test_one_row_by_hand():
    """W = (2, 1), y = 2, lam = 1: h = (3/4, 0), r = -1/2, p* = -1/2, W'p* + lam = (0, 1/2).

    At h = 0, p = -2 s with 2 * 2 s <= 1: s = 1/4, p = -1/2, D = 1 - 1/8 = 7/8, P = 2, R = (9/4)^(1/2) = 3/2: the second's
    reduced cost 1/2 < 1 * 3/2 proves nothing. At the optimum P = 1/8 + 3/4 = 7/8 = D, R = 0, and 1/2 > 0 does.
    """
    problem = lasso(numbers([2, 1]), numbers([2]), 1.0)
    zero, best = numbers([0, 0]), numbers([0.75, 0])
    assert provably_zero(problem, Point(zero, numbers([-2]))).tolist() == [[False, False]]
    assert provably_zero(problem, Point(best, numbers([-0.5]))).tolist() == [[False, True]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("m", "n"), [(60, 40), (30, 60)])
def test_no_screened_unknown_is_free_in_the_exact_answer(m, n, seed):
    for share in (0.3, 1e-2):
        problem = power_law(m, n, share=share, seed=seed)
        method = settle(problem)
        assert method.settled.all()
        method, exact, counts = FISTA().start(problem), method.point(), []
        for _ in range(30):
            counts.append(int((screened := provably_zero(problem, method.point())).sum()))
            assert not (screened & (exact.h > 0)).any()
            method.advance(20)
        screened = provably_zero(problem, exact)
        assert not (screened & (exact.h > 0)).any()
        # at the optimum the gap is rounding, and all but the nearly free unknowns go
        assert int(screened.sum()) > 0.9 * int((exact.h == 0).sum()) and counts[-1] > counts[0]


def test_any_point_is_safe():
    """Random h and p, scaled, with signs that are wrong, in float32: what is screened stays right."""
    problem = power_law(40, 30, N=6)
    exact, draw = settle(problem).point(), torch.Generator().manual_seed(5)
    for size in (0.0, 1e-6, 1e-3, 1.0, 1e6):
        for kind in (torch.float64, torch.float32):
            h = exact.h + size * torch.randn(exact.h.shape, generator=draw, dtype=torch.float64)
            p = exact.p + size * torch.randn(exact.p.shape, generator=draw, dtype=torch.float64)
            for point in (Point(h, exact.p), Point(exact.h, p), Point(h, -p), Point(h, 1e3 * p)):
                screened = provably_zero(problem, Point(point.h.to(kind), point.p.to(kind)))
                assert not (screened & (exact.h > 0)).any()


def test_off_rows_and_lam_zero_keep_every_unknown():
    """W = (1, 1; -1, 0), y = 1 on the first row, the second off: its multiplier moves with p, and nothing is screened."""
    W, y = numbers([1, 1], [-1, 0]), numbers([1, 0])
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.zeros(2).double(), y, y > 0), 0.1)
    best = ci.solve(problem)
    assert not provably_zero(problem, best.point).any()
    bare = lasso(numbers([2, 1]), numbers([2]), 0.0)
    assert not provably_zero(bare, Point(numbers([1, 0]), numbers([0]))).any()


def test_weights_and_bias_count():
    W = torch.randn(20, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = torch.randn(4, 20, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weight = torch.linspace(0.1, 2, 20).double().expand(4, 20)
    problem = lasso(W, y, 2.0, torch.linspace(-1, 1, 20).double(), weight)
    exact = ci.solve(problem, "sparse_active_set")
    screened = provably_zero(problem, exact.point)
    assert screened.any() and torch.equal(screened, exact.h == 0)


def test_screening_is_public_and_wants_its_problem():
    one = torch.ones(1, 2, dtype=torch.float64)
    rows = ci.Rows(ci.Dense(torch.eye(2, dtype=torch.float64)), 0 * one[0], one, one.bool())
    with pytest.raises(TypeError, match="expected a NonnegativeLasso, got GaussianLatent"):
        ci.provably_zero(ci.GaussianLatent(rows, 1.0), ci.Point(torch.zeros(1, 2), torch.zeros(1, 2)))
