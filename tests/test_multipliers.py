"""Multipliers built from h alone: they never raise, cost no neighbour its verdict, and are exact where an exact p exists."""

import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.layers.core import multipliers
from cvxinv.layers.core.certificate import LAYER_STATUSES
from cvxinv.layers.core.multipliers import lifted, nonnegative_fit

F64 = torch.float64
SCALES = (1e-12, 1e-6, 1.0, 1e6, 1e12)


def rows(W, b, y, on):
    W, b, y = (torch.as_tensor(np.asarray(a, dtype=float)) for a in (W, b, y))
    return ci.Rows(ci.Dense(W), b, torch.atleast_2d(y), torch.atleast_2d(torch.as_tensor(on)))


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0), (3, 2)])
def test_a_fit_without_columns_rows_or_numbers_is_zero(shape):
    assert (nonnegative_fit(np.zeros(shape), np.ones(shape[0])) == 0).all()
    assert (nonnegative_fit(np.full(shape, np.nan), np.ones(shape[0])) == 0).all()
    assert (nonnegative_fit(np.ones(shape), np.full(shape[0], np.inf)) == 0).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e12, 1e200])
def test_a_fit_does_not_depend_on_the_lengths_of_the_columns(scale):
    # (1, 0) and (1, 1) give (1, 2) best as 0 and 3/2; a third column of length 0 gets nothing
    x = nonnegative_fit(np.array([[scale, 1.0, 0.0], [0.0, 1.0, 0.0]]), np.array([1.0, 2.0]))
    assert x == pytest.approx([0.0, 1.5, 0.0], rel=1e-12)


def test_where_scipy_gives_up_the_fit_is_as_good():
    rng = np.random.default_rng(0)
    for k in range(60):
        A = rng.standard_normal(rng.integers(1, 30, 2))
        A = A[:, rng.integers(0, A.shape[1], A.shape[1])] if k % 3 == 0 else A  # duplicates
        b, unit = rng.standard_normal(len(A)), A / np.linalg.norm(A, axis=0)
        mine = np.linalg.norm(unit @ multipliers._one_by_one(unit, b) - b)
        assert mine <= (1 + 1e-3) * np.linalg.norm(A @ nonnegative_fit(A, b) - b) + 1e-9


def test_a_solver_that_gives_up_leaves_every_signal_its_verdict(monkeypatch):
    def gives_up(*arguments, **options):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr("scipy.optimize.nnls", gives_up)
    # W = 1, |h - 1| <= 1/2: h = 1/2 with p = -1; the second h breaks its bounds
    problem = ci.NonnegativeBasisPursuitLinf(rows([[1.0]], [0.0], [[1.0], [1.0]], [[True], [True]]), 0.5)
    assert ci.certify(problem, np.array([[0.5], [9.0]])).status.tolist() == ["optimal", "user_limit"]


@pytest.mark.parametrize("column", SCALES)
def test_columns_of_any_length_get_a_status(column):
    rng = np.random.default_rng(5)
    W = rng.standard_normal((20, 8)) * np.geomspace(1 / column, column, 8)
    h = np.abs(rng.standard_normal((2, 8)))
    y = h @ W.T
    problem = ci.BasisPursuitLinf(rows(W, np.zeros(20), y, y > 0), 0.1)
    assert len(ci.certify(problem, h).status) == 2


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["interval", "linf", "linf of any sign", "l2"])
def test_h_strictly_inside_all_limits_has_the_bound_of_p_0(kind, scale):
    # no row at a limit: no column to fit with; |h - scale| <= 2 scale holds with room for h = scale and for 0
    r = rows([[1.0], [1.0]], [0.0, 0.0], [scale, scale], [True, True])
    problem = {
        "interval": lambda: ci.IntervalBasisPursuit(r, r.y - 2 * scale, r.y + 2 * scale),
        "linf": lambda: ci.NonnegativeBasisPursuitLinf(r, 2 * scale),
        "linf of any sign": lambda: ci.BasisPursuitLinf(r, 2 * scale),
        "l2": lambda: ci.NonnegativeBasisPursuitL2(r, 2 * scale),
    }[kind]()
    assert ci.certify(problem, np.array([scale])).status[0] == "user_limit"
    assert ci.certify(problem, np.array([0.0])).status[0] == "optimal"


@pytest.mark.parametrize("scale", SCALES)
def test_multipliers_suit_the_unknowns_that_are_held_at_zero(scale):
    # min (h1 - 3)^2 / 2 with h1 - h2 <= 0 and 2 (h1 + h2) <= 4 (in units of scale): h = (1, 1), both rows tight.
    # W'p = (-2 + mu1 + 2 mu2, -mu1 + 2 mu2) = 0: mu = (1, 1/2)
    r = rows([[1.0, 0.0], [1.0, -1.0], [2.0, 2.0]], [0.0, 0.0, -4 * scale], [3 * scale, 0.0, 0.0], [True, False, False])
    problem = ci.NonnegativeLasso(r, 0.0)
    h = torch.full((1, 2), scale, dtype=F64)
    assert problem.complete(h)[0].tolist() == pytest.approx([-2 * scale, scale, scale / 2], rel=1e-9)
    assert ci.certify(problem, h).holds.all()


def test_of_many_multipliers_those_are_taken_that_suit_a_held_unknown():
    # min (h1 - 2)^2 / 2 with h1 - 1 <= 0 twice, h2 in the second only: h = (1, 0). mu1 + mu2 = 1 balances h1, and the
    # reduced cost of h2 is mu1 - mu2 >= 0 only for mu1 >= 1/2
    r = rows([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]], [0.0, -1.0, -1.0], [2.0, 0.0, 0.0], [True, False, False])
    problem, h = ci.NonnegativeLasso(r, 0.0), torch.tensor([[1.0, 0.0]], dtype=F64)
    p = problem.complete(h)
    assert float(p[0, 1:].sum()) == pytest.approx(1.0) and float(r.W.adjoint(p)[0, 1]) >= -1e-12
    assert ci.certify(problem, h).holds.all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("lam", [0.0, 1e-9])
def test_fewer_on_rows_than_unknowns_are_certified_without_p(scale, lam):
    # draw W, h and p first: columns of the held unknowns are turned so that W'p > 0 there, and h leaves p as its misfit
    g = torch.Generator().manual_seed(3)
    m, n, k = 5, 8, 3  # k free unknowns
    W = torch.randn(m, n, generator=g, dtype=F64)
    p = torch.randn(m, generator=g, dtype=F64)
    W[:, :k] -= torch.outer(p, p @ W[:, :k]) / (p @ p)  # W'p = 0 there
    W[:, k:] *= (p @ W[:, k:]).sign()
    h = torch.zeros(1, n, dtype=F64)
    h[0, :k] = torch.rand(k, generator=g, dtype=F64) + 0.5
    y = h @ W.T - 0.1 * p
    r = rows(W * 1.0, torch.zeros(m), y * scale, torch.ones(1, m, dtype=torch.bool))
    got = ci.certify(ci.NonnegativeLasso(r, lam * scale), h * scale)
    assert got.objective[0] == pytest.approx(float(0.005 * (p @ p)) * scale**2 + lam * scale**2 * float(h.sum()), rel=1e-6)
    assert got.holds.all(), got


def test_a_lifted_p_is_beyond_rounding_feasible_and_hardly_moved():
    g = torch.Generator().manual_seed(1)
    W = torch.randn(6, 9, generator=g, dtype=F64).abs()
    r = rows(W, torch.zeros(6), torch.ones(2, 6), torch.ones(2, 6, dtype=torch.bool))
    p = torch.zeros(2, 6, dtype=F64)
    p[0] = torch.linalg.svd(W[:, :5].T)[2][-1] * 3  # W'p = 0 on five columns, up to rounding
    q = lifted(r, p, torch.zeros(2, 1, dtype=F64))
    if float((W.T @ p[0])[5:].min()) > 0:
        assert float((W.T @ q[0]).min()) > 0
    assert float((q - p).norm()) <= 1e-9 and (q[1] == 0).all()


@pytest.mark.parametrize("name", ["NonnegativeLasso", "GaussianLatent", "BasisPursuitLinf", "NonnegativeBasisPursuitL2"])
@pytest.mark.parametrize("W", [[[0.0]], [[1.0]], [[1.0], [1.0], [0.0]]])
def test_one_unknown_dead_rows_and_duplicates_get_a_status(name, W):
    on = [[True] + [False] * (len(W) - 1)]
    problem = getattr(ci, name)(rows(W, np.zeros(len(W)), np.ones((1, len(W))), on), 0.0)
    for h in (0.0, 1.0, 1e300):
        assert ci.certify(problem, np.array([h])).status[0] in LAYER_STATUSES
