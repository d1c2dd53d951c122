"""`auto` asks on while a signal has no answer, and the judge of the problem itself says what an answer is."""

import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.solvers.infeasible import vertex

F64 = torch.float64


def rows(W, b, y, on, dtype=F64):
    W, b, y = (torch.as_tensor(np.asarray(a, dtype=float)).to(dtype) for a in (W, b, y))
    return ci.Rows(ci.Dense(W), b, torch.atleast_2d(y), torch.atleast_2d(torch.as_tensor(on)))


# three or four equations in two or three unknowns, small integers; least misfit > 0 by numpy's lstsq
CONTRADICTIONS = (
    ([[2, 2], [2, 1], [3, 2]], [0, -1, -1], [2, -1, -1]),
    ([[0, -2, 2], [0, -4, 4], [0, 4, -4]], [1, 1, 0], [3, -1, 1]),
    ([[-1, -1, -2], [3, -3, -2], [2, 2, -1], [-2, -3, -2]], [-1, 1, 1, 1], [0, 1, -2, -2]),
)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", [ci.BasisPursuitLinf, ci.BasisPursuitL2])
@pytest.mark.parametrize("case", range(3))
def test_contradictory_equations_are_infeasible_and_the_steps_say_so(case, kind, scale):
    W, b, y = (np.array(a, dtype=float) for a in CONTRADICTIONS[case])
    problem = kind(rows(W, scale * b, scale * y, np.ones(len(y), dtype=bool)), 0.0)
    solution = ci.solve(problem, on_fail="ignore")
    assert solution.status[0] == "infeasible"
    assert sum(step.solved for step in solution.steps) == 1
    own = "interior_point" if kind is ci.BasisPursuitLinf else "root_finding"
    assert ci.solve(problem, own, on_fail="ignore").status[0] == "infeasible"


@pytest.mark.parametrize("seed", range(8))
def test_random_contradictions_of_any_sign_are_infeasible(seed):
    rng = np.random.default_rng(seed)
    W = rng.integers(-4, 5, (4, 2)).astype(float)
    away = np.linalg.svd(W)[0][:, -1]  # W'away = 0: the misfit along it stays
    problem = ci.BasisPursuitLinf(rows(W, np.zeros(4), W @ [1.0, -2.0] + away, np.ones(4, dtype=bool)), 0.0)
    assert ci.solve(problem, on_fail="ignore").status[0] == "infeasible"


def test_the_interior_point_leaves_its_circles():
    # the corrector used to go round in circles of four steps here, 6e-4 above the optimum
    g = torch.Generator().manual_seed(0)
    W = torch.randn(12, 6, generator=g, dtype=F64)
    for N in (1, 1000, 50_000):
        h = torch.randn(N, 6, generator=g, dtype=F64).clamp(min=0)
        y = (h @ W.T + 0.1 * torch.randn(N, 12, generator=g, dtype=F64)).clamp(min=0)
    y = y[30193:30194]
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.zeros(12, dtype=F64), y, y > 0), 0.05)
    for solver in ("interior_point", "auto"):
        solution = ci.solve(problem, solver)
        assert float(solution.certificate.objective) == pytest.approx(0.032644223951, rel=1e-9)
        assert int(solution.iterations) <= 20


def test_a_method_that_ends_inaccurate_is_not_the_last_that_is_asked(monkeypatch):
    from cvxinv.solvers.active_set.pivoting import BlockPivoting
    from cvxinv.solvers.newton.interior_point import InteriorPoint

    g = torch.Generator().manual_seed(0)
    W = torch.randn(12, 6, generator=g, dtype=F64)
    y = (torch.rand(4, 6, generator=g, dtype=F64) @ W.T + 0.1 * torch.randn(4, 12, generator=g, dtype=F64)).clamp(min=0)
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.zeros(12, dtype=F64), y, y > 0), 0.05)
    monkeypatch.setattr(BlockPivoting, "refuses", classmethod(lambda cls, problem: "not today"))
    monkeypatch.setattr(BlockPivoting, "advance", lambda self, steps: None)  # openings and polish find nothing
    monkeypatch.setattr(InteriorPoint, "max_iter", 7)
    solution = ci.solve(problem, on_fail="ignore")
    assert "graph_admm" in {step.method for step in solution.steps} or solution.certificate.holds.all()
    assert solution.certificate.holds.all()


@pytest.mark.parametrize("kind", [ci.GaussianLatent, ci.NonnegativeLasso])
@pytest.mark.parametrize("solver", ["auto", "interior_point"])
def test_off_rows_that_leave_little_or_nothing_are_solved(solver, kind):
    for seed in (3, 6, 11, 12, 18):
        rng = np.random.default_rng(seed)
        W, on = rng.standard_normal((60, 20)), np.arange(60) < 24
        y = np.where(on, np.abs(rng.standard_normal(60)), 0.0)
        solution = ci.solve(kind(rows(W, np.zeros(60), y, on), 0.0), solver, on_fail="ignore")
        assert solution.certificate.holds.all(), (seed, solution)
        # exact, but for seed 12, whose last point is the interior point's own
        assert float(solution.certificate.violation / solution.certificate.scale) <= 1e-11


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_a_feasible_set_of_lower_dimension_is_solved(gamma, scale):
    # w'z <= c and -w'z <= -c: the plane w'z = c. The optimum is that of equality-constrained least squares: a linear system
    rng = np.random.default_rng(2)
    n, m = 5, 8
    A, w, y, c = rng.standard_normal((m, n)), rng.standard_normal(n), scale * rng.standard_normal(m), 0.7 * scale
    W = np.vstack([A, w, -w, w])  # one of them twice
    K = np.block([[A.T @ A + gamma * np.eye(n), w[:, None]], [w[None], np.zeros((1, 1))]])
    z = np.linalg.solve(K, np.append(A.T @ y, c))[:n]
    problem = ci.GaussianLatent(
        rows(W, np.r_[np.zeros(m), -c, c, -c], np.r_[y, np.zeros(3)], np.arange(m + 3) < m), gamma
    )  # fmt: skip
    solution = ci.solve(problem, on_fail="ignore")
    assert solution.certificate.holds.all(), solution
    assert solution.h[0].numpy() == pytest.approx(z, rel=1e-6, abs=1e-8 * scale)


def test_one_point_that_is_not_the_origin_is_found():
    # W_off (z - a) <= 0 only at z = a: the rows +-e_j, through a
    a = np.array([0.3, -1.0, 2.0])
    W = np.vstack([np.ones((1, 3)), np.eye(3), -np.eye(3), [[1.0, 1.0, 1.0]]])
    b = np.r_[0.0, -a, a, -a.sum()]
    problem = ci.GaussianLatent(rows(W, b, np.r_[5.0, np.zeros(7)], np.arange(8) < 1), 0.0)
    for solver in ("auto", "interior_point"):
        solution = ci.solve(problem, solver, on_fail="ignore")
        assert solution.certificate.holds.all() and solution.h[0].numpy() == pytest.approx(a, abs=1e-8)


@pytest.mark.parametrize("solver", ["pdhg", "graph_admm"])
@pytest.mark.parametrize("kind", [ci.NonnegativeBasisPursuitLinf, ci.BasisPursuitLinf, ci.BasisPursuitL2])
def test_first_order_methods_prove_that_there_is_no_answer(kind, solver):
    # h = 1 and h = 2 (twice the same row), and two more unknowns: p = (1, -1, 0) is a ray
    problem = kind(rows([[1, 2, 0], [1, 2, 0], [0, 1, 1]], np.zeros(3), [1, 2, 1], np.ones(3, dtype=bool)), 0.1)
    solution = ci.solve(problem, solver, on_fail="ignore")
    assert solution.status[0] == "infeasible" and int(solution.iterations) <= 6000


def test_a_vertex_of_the_simplex_method_is_exact():
    # min h1 + h2 with h1 + 2 h2 = 4 and h1 <= 1 (lower end 0): h2 is cheapest: (0, 2), p = -1/2 on the equation
    problem = ci.IntervalBasisPursuit(
        rows([[1.0, 2.0], [1.0, 0.0]], [0.0, 0.0], [[0.0, 0.0]], [True, True]),
        torch.tensor([[4.0, 0.0]], dtype=F64), torch.tensor([[4.0, 1.0]], dtype=F64),
    )  # fmt: skip
    point = vertex(problem)
    assert point.h[0].tolist() == pytest.approx([0.0, 2.0]) and point.p[0].tolist() == pytest.approx([-0.5, 0.0])
    assert ci.certify(problem, point).holds.all()


@pytest.mark.parametrize("solver", ["pdhg", "graph_admm", "fista", "linearized_admm", "interior_point", "auto"])
@pytest.mark.parametrize("size", [1e-35, 1e-12, 1e12, 1e30])
def test_finite_data_give_finite_points(solver, size):
    rng = np.random.default_rng(7)
    W, y = rng.standard_normal((5, 3)), np.abs(rng.standard_normal((2, 5)))
    for dtype in (torch.float32, F64):
        r = rows(W * size, np.zeros(5), y / size, np.ones((2, 5), dtype=bool), dtype)
        for problem in (ci.NonnegativeLasso(r, 0.1), ci.Lasso(r, 0.0)):
            solution = ci.solve(problem, solver, on_fail="ignore", max_iter=60)
            assert torch.isfinite(solution.h).all() and torch.isfinite(solution.p).all()
            assert "numerical_error" not in solution.status
