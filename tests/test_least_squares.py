"""Least squares first: exact where a layer explains its data, and silent everywhere else."""

import pytest
import torch

import cvxinv as ci
from cvxinv.solvers.least_squares import LeastSquares

W = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
NONE = torch.zeros(4, dtype=torch.float64)


def rows_of(y: list[list[float]], on: list[list[bool]], weight: torch.Tensor | None = None) -> ci.Rows:
    return ci.Rows(ci.Dense(W), NONE, torch.tensor(y, dtype=torch.float64), torch.tensor(on), weight=weight)


def asked(problem: ci.AbstractLayerProblem) -> LeastSquares:
    method = LeastSquares().start(problem.normalised().problem)
    method.advance(1)
    return method


def generated(N: int, seed: int = 0, n: int = 12, m: int = 40) -> tuple[ci.Rows, torch.Tensor]:
    """Rows behind a ReLU, W h >= 0 on and W h < 0 off, of h >= 0 half of which are 0."""
    source = torch.Generator().manual_seed(seed)
    W = torch.randn(m, n, generator=source, dtype=torch.float64)
    h = torch.randn(N, n, generator=source, dtype=torch.float64).clamp(min=0)
    v = h @ W.T
    return ci.Rows(ci.Dense(W), torch.zeros(m, dtype=torch.float64), v.clamp(min=0), v > 0), h


def test_what_the_rows_say_exactly_is_found_whatever_their_weights():
    """h = (3, 0): rows (3, 0, 3, 3), of which the second is off. Rows 1, 3, 4 on: h_1 = 3, h_1 - h_2 = 3, h_1 + h_2 = 3."""
    weight = torch.tensor([[1.0, 1.0, 0.01, 0.25]], dtype=torch.float64)
    problem = ci.NonnegativeLasso(rows_of([[3.0, 0.0, 3.0, 3.0]], [[True, False, True, True]], weight), 0.0)
    method, scaled = asked(problem), problem.normalised()
    assert bool(method.done(1e-6).all())
    torch.testing.assert_close(method.point().h * scaled.h_unit, torch.tensor([[3.0, 0.0]], dtype=torch.float64))
    solution = ci.solve(problem)
    assert solution.solver == ("least_squares",) and bool(solution.polished.all()) and bool(solution.certificate.holds.all())


@pytest.mark.parametrize(
    ("y", "on", "why"),
    [
        ([3.0, 0.0, 3.0, 4.0], [True, False, True, True], "the on rows contradict each other"),
        ([3.0, 0.0, 5.0, 1.0], [True, False, True, True], "h = (3, -2) is not nonnegative"),
        ([3.0, 4.0, 0.0, 5.0], [True, False, False, True], "h = (3, 2) lifts the second row, which is off, to 4"),
        ([3.0, 0.0, 0.0, 0.0], [True, False, False, False], "one row for two unknowns"),
    ],
)
def test_it_leaves_what_the_layer_does_not_explain(y: list[float], on: list[bool], why: str):
    problem = ci.NonnegativeLasso(rows_of([y], [on]), 0.0)
    method = asked(problem)
    assert not bool(method.done(1e-6).any()) and bool(method.given_up().all()), why
    assert "least_squares" not in ci.solve(problem, on_fail="ignore").solver


def test_it_leaves_rows_without_full_column_rank():
    """Both columns are equal: h_1 + h_2 = 2 has many solutions, and which is wanted is not for least squares to say."""
    W = ci.Dense(torch.ones(3, 2, dtype=torch.float64))
    y, on = torch.full((1, 3), 2.0, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    assert not bool(asked(ci.NonnegativeLasso(ci.Rows(W, NONE[:3], y, on), 0.0)).done(1e-6).any())


@pytest.mark.parametrize("lam", [0.0, 1e-3])
def test_auto_asks_it_only_where_the_optimum_can_be_zero(lam: float):
    rows, _ = generated(3)
    names = [step.method for step in ci.solve(ci.NonnegativeLasso(rows, lam)).steps]
    assert ("least_squares" in names) == (lam == 0)


def test_a_batch_gives_what_each_signal_gives_alone():
    rows, h = generated(9)
    y = rows.y.clone()
    y[4] += 0.1 * rows.on[4]  # one signal that no h explains
    problem = ci.NonnegativeLasso(ci.Rows(rows.W, rows.b, y, rows.on), 0.0)
    together = asked(problem)
    assert together.done(1e-6).tolist() == [i != 4 for i in range(9)]
    for i in range(9):
        alone = asked(problem.take(torch.tensor([i])))
        assert bool(alone.done(1e-6)[0]) == bool(together.done(1e-6)[i])
        torch.testing.assert_close(alone.point().h[0], together.point().h[i], rtol=1e-13, atol=1e-13)
    there = torch.tensor([i for i in range(9) if i != 4])
    found = together.point().h * problem.normalised().h_unit
    torch.testing.assert_close(found[there], h[there], rtol=1e-12, atol=1e-12)


def test_blocks_give_what_the_whole_batch_gives(monkeypatch: pytest.MonkeyPatch):
    problem = ci.NonnegativeLasso(generated(9)[0], 0.0)
    whole = asked(problem).point()
    monkeypatch.setattr("cvxinv.solvers.least_squares._BYTES", 2 * 8 * 12**2)
    torch.testing.assert_close(asked(problem).point().h, whole.h, rtol=1e-13, atol=1e-13)


def test_refinement_keeps_the_digits_that_the_normal_equations_square_away():
    """Singular values from 1 to 1e-5: the factor of W'W carries six digits, the answer must have eleven."""
    source = torch.Generator().manual_seed(3)
    U = torch.linalg.qr(torch.randn(60, 20, generator=source, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(20, 20, generator=source, dtype=torch.float64)).Q
    W = U @ torch.diag(torch.logspace(0, -5, 20, dtype=torch.float64)) @ V.T
    h = torch.rand(4, 20, generator=source, dtype=torch.float64) + 0.5
    on = torch.ones(4, 60, dtype=torch.bool)
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.zeros(60, dtype=torch.float64), h @ W.T, on), 0.0)
    method = asked(problem)
    assert bool(method.done(1e-6).all())
    assert float((method.point().h * problem.normalised().h_unit - h).abs().max()) < 1e-10
    assert bool(ci.solve(problem).certificate.holds.all())


def test_the_latent_of_a_shipped_network_is_found_by_it():
    G = ci.load_generator("mnist_gan").to(torch.float64)
    z = G.sample_latent(4, torch.Generator().manual_seed(0))
    result = ci.invert(G, G(z), "latent_pursuit", progress=False)
    assert all(set(report.solution.solver) <= {"least_squares", "active_set"} for report in result.layers)
    assert (result.layer_status == "optimal").all() and bool(result.verdict.explained.all())
    assert float((result.z - z).norm(dim=1).max()) < 1e-12
