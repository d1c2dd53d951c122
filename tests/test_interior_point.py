"""The interior point from within: its matrices, the rows that it leaves out, and its own word on when it is done."""

import numpy as np
import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.layers.core.rows import weighted_gram
from cvxinv.solvers.newton.crossover import polish
from cvxinv.solvers.newton.interior_point import InteriorPoint
from cvxinv.solvers.newton.systems import NewtonMatrix


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def layer(m: int, n: int, N: int, noise: float = 0.01, seed: int = 0) -> tuple[ci.Rows, Tensor]:
    """Rows behind a ReLU, and the largest entry of the noise on them."""
    W, h = normal(m, n, seed=seed) / m**0.5, normal(N, n, seed=seed + 1).relu()
    v = h @ W.T
    e = noise * normal(N, m, seed=seed + 2) * (v > 0)
    return ci.Rows(ci.Dense(W), torch.zeros(m, dtype=torch.float64), v.relu() + e, v > 0), e.abs().amax(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [7, 48, 130], ids=["small", "one block", "blocks"])
def test_weighted_grams_are_the_products_written_out(n: int, dtype: torch.dtype):
    W, weight = normal(150, n, seed=1).to(dtype), normal(3, 150, seed=2).relu().to(dtype)
    expected = torch.stack([W.T @ (w[:, None] * W) for w in weight])
    close = {"rtol": 1e-12, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-3}
    for weights in (weight, weight + 1, torch.zeros_like(weight)):
        expected = torch.stack([W.T @ (w[:, None] * W) for w in weights])
        found = weighted_gram(ci.Dense(W), weights)
        assert torch.allclose(found.expand(3, -1, -1), expected, **close)
        assert n < 48 or torch.equal(found, found.mT), "one triangle is the mirror of the other"


@pytest.mark.parametrize("n", [9, 60])
@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("by_lapack", [True, False])
def test_newton_solves_the_equations_written_out(by_lapack: bool, fitted: bool, n: int):
    rows, _ = layer(100, n, 4)
    fit = rows.fit if fitted else torch.zeros_like(rows.fit)
    matrix, right = NewtonMatrix(rows, fit), normal(4, n, seed=5)
    matrix.on_cpu = by_lapack  # else the way of other devices
    diagonal = normal(4, n, seed=6).abs() + 0.1
    W = rows.W.matrix()
    for weight in (None, normal(4, 100, seed=7).relu(), torch.zeros(4, 100, dtype=torch.float64)):
        matrix.factor(weight, diagonal)
        total = fit if weight is None else fit + weight
        H = torch.stack([W.T @ (d[:, None] * W) for d in total]) + torch.diag_embed(diagonal)
        expected = torch.linalg.solve(H, right[..., None])[..., 0]
        assert torch.allclose(matrix.solve(right), expected, rtol=1e-10)
        matrix.factor(weight, diagonal, rough=torch.tensor([True, False, True, False]))
        assert torch.allclose(matrix.solve(right), expected, rtol=1e-3, atol=1e-5)
        assert torch.allclose(matrix.solve(right)[1::2], expected[1::2], rtol=1e-10), "rough is said per signal"
    matrix.factor(None, diagonal)
    matrix.keep(torch.tensor([False, True, True, False]))
    matrix.factor(None, diagonal[1:3])
    H = torch.stack([W.T @ (d[:, None] * W) for d in fit[1:3]]) + torch.diag_embed(diagonal[1:3])
    assert torch.allclose(matrix.solve(right[1:3]), torch.linalg.solve(H, right[1:3, :, None])[..., 0], rtol=1e-10)


@pytest.mark.parametrize("by_lapack", [True, False])
def test_newton_lifts_what_is_indefinite_by_rounding_and_says_nan_to_what_is_not_a_number(by_lapack: bool):
    rows, _ = layer(30, 6, 2)
    matrix = NewtonMatrix(rows, torch.zeros_like(rows.fit))
    matrix.on_cpu = by_lapack
    weight = torch.zeros_like(rows.fit)
    weight[:, 0] = 1e12  # rank one: what is left of the others is rounding
    matrix.factor(weight, torch.zeros(2, 6, dtype=torch.float64))
    assert torch.isfinite(matrix.solve(normal(2, 6, seed=1))).all()
    weight[1] = torch.nan
    matrix.factor(weight, torch.ones(2, 6, dtype=torch.float64))
    x = matrix.solve(normal(2, 6, seed=1))
    assert torch.isfinite(x[0]).all() and torch.isnan(x[1]).all()


def test_rows_that_were_left_out_join_when_they_come_near():
    """min h_1 + h_2 over 1/2 <= h_1 <= 3/2, 0 <= h_2 <= 4 and h_1 - 100 h_2 + 49.5 <= 0, whose value is about -50 in the
    middle of both intervals: h_1 = 1/2, and then h_2 = (1/2 + 49.5) / 100 = 1/2 is at the third row's limit."""
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -100.0]], dtype=torch.float64)
    b, none = torch.tensor([0.0, 0.0, 49.5], dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), b, none, torch.tensor([[True, True, False]]))
    problem = ci.IntervalBasisPursuit(rows, none + torch.tensor([0.5, 0.0, 0.0]), none + torch.tensor([1.5, 4.0, 0.0]))
    method = InteriorPoint().start(problem.normalised().problem)
    assert method.waiting[0].any(), "the third row starts far inside"
    method.advance(20)
    assert not method.waiting[0, 0, 2]
    solution = ci.solve(problem, "interior_point", polish=False)
    assert solution.status.tolist() == ["optimal"]
    assert torch.allclose(solution.h, torch.tensor([[0.5, 0.5]], dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("kind", ["linear program", "lasso", "latent"])
def test_what_it_calls_done_the_judge_calls_optimal(kind: str):
    rows, eps = layer(90, 30, 12)
    lam = 1e-2 * rows.W.adjoint(rows.target).amax(1)
    problems = {"lasso": ci.NonnegativeLasso(rows, lam), "latent": ci.GaussianLatent(rows, 1e-3)}
    problem = problems.get(kind, ci.NonnegativeBasisPursuitLinf(rows, eps)).normalised().problem
    method = InteriorPoint().start(problem)
    assert not method.done(1e-6).any()
    for _ in range(25):
        method.advance(1)
        done = method.done(1e-6)
        if done.all():
            break
    assert done.all()
    assert ci.certify(problem, method.point(), tol=3e-6).holds.all()


def test_dropping_signals_changes_nothing_for_the_others():
    rows, eps = layer(80, 30, 6)
    problem = ci.NonnegativeBasisPursuitLinf(rows, eps).normalised().problem
    whole, part, index = InteriorPoint().start(problem), InteriorPoint().start(problem), torch.tensor([1, 4])
    for method in (whole, part):
        method.advance(3)
    part.keep(index)
    whole.advance(2)
    part.advance(2)
    assert torch.allclose(whole.point().h[index], part.point().h, rtol=1e-6)


def test_crossover_is_the_same_by_factors_and_by_least_squares():
    rows, eps = layer(60, 20, 4)
    problem = ci.NonnegativeBasisPursuitLinf(rows, eps)
    exact = ci.solve(problem, "HIGHS", polish=False)
    scaled = problem.normalised()
    method = InteriorPoint().start(scaled.problem)
    method.advance(25)
    vertex = polish(scaled.problem, method.point())
    assert np.allclose(vertex.h * scaled.h_unit, exact.h, atol=1e-7)
    assert ci.certify(scaled.problem, vertex, tol=1e-10).holds.all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("large", [1e200, 1e308, torch.inf, torch.nan])
def test_weights_beyond_all_numbers_leave_no_factor_and_no_warning(large: float):
    """A signal whose multipliers run off, as where limits contradict each other, and its neighbour, in both precisions."""
    rows, _ = layer(6, 3, 2)
    weight, diagonal = torch.ones(2, 6, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
    weight[0, 2], right = large, normal(2, 3, seed=5)
    expected = torch.linalg.solve(rows.W.gram() + torch.eye(3, dtype=torch.float64), right[1])
    for rough, close in ((torch.tensor([False, False]), 1e-12), (torch.tensor([True, True]), 1e-5)):
        matrix = NewtonMatrix(rows, torch.zeros_like(weight))
        matrix.factor(weight, diagonal, rough)
        x = matrix.solve(right)
        assert float((x[1] - expected).abs().max()) < close
        assert large < torch.inf or bool(torch.isnan(x[0]).all())
