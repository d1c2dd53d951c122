"""Multi-layer basis pursuit: its statement, bound and solvers against CVXPY, answers by hand, and what ML-ISTA is worth."""

from itertools import pairwise

import cvxpy as cp
import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.sparse_models.multi_layer_ista import one_pass, safe_steps

F64 = torch.float64
KINDS = ("two", "three", "convolutional", "masked", "nonnegative", "nonnegative-three", "nonnegative-convolutional")


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def unit_columns(m, n, seed, positive=False):
    D = drawn(m, n, seed=seed)
    D = D + 0.7 if positive else D
    return ci.Dense(D / D.norm(dim=0))


def dense(sizes, seed, positive=False):
    return tuple(unit_columns(m, n, seed + i, positive) for i, (m, n) in enumerate(pairwise(sizes)))


def convolutional(seed, positive=False):
    """Pictures of 10 x 10 from 6 x (5 x 5) from 8 x (2 x 2); 32 unknowns."""
    first, second = drawn(6, 1, 2, 2, seed=seed), drawn(8, 6, 3, 3, seed=seed + 1)
    first, second = (x.abs() if positive else x for x in (first, second))
    D2 = ci.ConvTranspose2d(second / 5, (8, 2, 2), (2, 2))
    return (ci.ConvTranspose2d(first / 2, (6, 5, 5), (2, 2)), D2)


def made(kind, N=3, seed=0):
    """Signals of sparse deepest representations, with noise."""
    positive = kind.startswith("nonnegative")
    if kind.endswith("convolutional"):
        D, lam = convolutional(seed, positive), (0.02, 0.05)
    elif kind.endswith("three"):
        D, lam = dense((20, 28, 24, 18), seed, positive), (0.02, 0.03, 0.05)
    else:
        D, lam = dense((20, 28, 24), seed, positive), (0.05, torch.linspace(0.05, 0.2, N, dtype=F64))
    h = drawn(N, D[-1].n, seed=seed + 10) * (drawn(N, D[-1].n, seed=seed + 11) > 1)
    x = h.abs() if positive else h
    for W in reversed(D):
        x = W(x)
    y = x + 0.05 * drawn(*x.shape, seed=seed + 12)
    seen = drawn(*y.shape, seed=seed + 13) > -0.8 if kind == "masked" else None
    return ci.multi_layer_pursuit(D, y, lam, seen=seen, nonnegative=positive)


def tall(kind):
    """Signals with more entries than unknowns, on which ML-ISTA comes to rest in some hundred passes."""
    D = dense((30, 20, 12, 8) if kind == "three" else (30, 20, 12), 0, kind == "nonnegative")
    y = drawn(2, 30, seed=1) + (1 if kind == "nonnegative" else 0)
    return ci.multi_layer_pursuit(D, y, (0.3, 0.2, 0.2)[: len(D)], nonnegative=kind == "nonnegative")


def transcribed(problem, i):
    """The optimum of signal i, from the equation of the note, with every g_i an unknown of its own."""
    D = [W.matrix().numpy() for W in problem.dictionaries]
    lam = [*problem.analysis[i].tolist(), float(problem.number("lam")[i])]
    g = [cp.Variable(M.shape[1], nonneg=problem.nonnegative) for M in D]
    seen = problem.rows.on[i, : problem.widths[0]].numpy()
    y = problem.rows.y[i, : problem.widths[0]].numpy()
    misfit = cp.sum_squares(D[0][seen] @ g[0] - y[seen]) / 2
    chain = [g[k] == D[k + 1] @ g[k + 1] for k in range(len(D) - 1)]
    objective = misfit + sum(weight * cp.norm(x, 1) for weight, x in zip(lam, g, strict=True))
    return cp.Problem(cp.Minimize(objective), chain).solve(
        solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10
    )


@pytest.mark.parametrize("kind", KINDS)
def test_reference_and_fast_solvers_reach_the_optimum_of_the_equation(kind):
    problem = made(kind)
    optimum = torch.tensor([transcribed(problem, i) for i in range(problem.N)], dtype=F64)
    for solver in ("CLARABEL", "auto", "graph_admm", "pdhg"):
        found = ci.solve(problem, solver, on_fail="raise")
        # Clarabel's own tolerance of the transcription
        assert ((found.certificate.objective - optimum).abs() <= 1e-7 * optimum).all(), solver
        assert (found.certificate.bound <= optimum * (1 + 1e-8)).all(), solver
    for solver in ("graph_admm", "pdhg") if not problem.nonnegative else ():
        plain = ci.solve(problem, solver, polish=False, on_fail="raise")
        assert not plain.polished.any() and ((plain.certificate.objective - optimum).abs() <= 2e-6 * optimum).all()


@pytest.mark.parametrize("kind", KINDS)
def test_polished_points_are_exact(kind):
    found = ci.solve(made(kind, N=6, seed=40))
    assert found.certificate.holds.all() and int(found.polished.sum()) >= 4
    assert found.certificate.take(found.polished).worst_relative_gap <= 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_any_p_bounds_the_optimum_and_that_of_the_optimum_meets_it(kind):
    problem = made(kind, seed=20)
    found = ci.solve(problem)
    optimum, p = found.certificate.objective, found.p
    data = torch.arange(problem.rows.m) < problem.widths[0]
    for seed in range(8):
        noise = drawn(*p.shape, seed=seed)
        for size in (1e-6, 1e-3, 0.1, 10.0, 1e8):
            for bad in (noise, torch.where(data, noise, 0.0), torch.where(data, 0.0, noise), -noise * p.abs(), noise.sign()):
                bound = problem.dual(p + size * bad)
                assert (bound <= optimum * (1 + 1e-9)).all() and torch.isfinite(bound).all()
                assert (problem.dual(size * bad) <= optimum * (1 + 1e-9)).all()
    assert (problem.dual(p) >= optimum * (1 - 1e-8)).all()
    assert (problem.dual(torch.full_like(p, torch.nan)) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_h_alone_is_certified(kind):
    problem = made(kind)
    h = ci.solve(problem).h
    assert ci.certify(problem, h).holds.all()
    worse = ci.certify(problem, h + 0.1 * h.abs().amax())
    assert not worse.holds.any() and (worse.bound <= ci.solve(problem).certificate.objective * (1 + 1e-9)).all()


def test_statement_says_the_objective_at_any_point():
    for kind in ("three", "nonnegative"):
        problem = made(kind)
        h = drawn(problem.N, problem.n, seed=5).abs()
        for i in range(problem.N):
            stated = problem.statement(problem.rows.sample(i), i)
            stated.h.value = h[i].numpy()
            for variable in stated.problem.variables():
                if variable is not stated.h and variable.id != stated.h.id:
                    variable.value = problem.rows.W(h[i : i + 1])[0, problem.widths[0] :].numpy()
            assert float(stated.problem.objective.value) == pytest.approx(float(problem.objective(h)[i]), rel=1e-12)


def test_hand_worked_answers():
    """D_1 = I, D_2 = (1, -1)', y = (3, -1), lam = (1/2, 1): 1/2 (h - 3)^2 + 1/2 (1 - h)^2 + 2 |h| is least at 2 h = 4 - 2.

    So h = 1, F = 1/2 4 + 2 = 4, p_0 = (1, -1) - y = (-2, 0), p_1 = (1/2, -1/2), W'p = -2 + 1/2 + 1/2 = -1 = -lam_2.
    With g_1 = (h, -h) >= 0 only h = 0 is left, F = |y|^2 / 2 = 5.
    """
    D = (ci.Dense(torch.eye(2, dtype=F64)), ci.Dense(torch.tensor([[1.0], [-1.0]], dtype=F64)))
    y = torch.tensor([[3.0, -1.0]], dtype=F64)
    both = ci.multi_layer_pursuit(D, y, (0.5, 1.0))
    point = ci.Point(torch.ones(1, 1, dtype=F64), torch.tensor([[-2.0, 0.0, 0.5, -0.5]], dtype=F64))
    assert float(both.objective(point.h)) == 4 and float(both.dual(point.p)) == pytest.approx(4, rel=1e-12)
    assert ci.certify(both, point).holds.all()
    for solver in ("auto", "CLARABEL"):
        assert float(ci.solve(both, solver).h) == pytest.approx(1, abs=1e-6)
        held = ci.solve(ci.multi_layer_pursuit(D, y, (0.5, 1.0), nonnegative=True), solver)
        assert float(held.h) == pytest.approx(0, abs=1e-6) and float(held.certificate.objective) == pytest.approx(
            5, rel=1e-6
        )
    broken = ci.certify(ci.multi_layer_pursuit(D, y, (0.5, 1.0), nonnegative=True), point)
    assert float(broken.violation) == pytest.approx(1) and not broken.holds.any()


@pytest.mark.parametrize("nonnegative", [False, True])
def test_one_layer_is_the_lasso(nonnegative):
    D, y = unit_columns(20, 30, 3), drawn(4, 20, seed=4)
    mine = ci.multi_layer_pursuit((D,), y, (0.3,), nonnegative=nonnegative)
    rows = ci.Rows(D, torch.zeros(20, dtype=F64), y, torch.ones_like(y, dtype=torch.bool))
    theirs = ci.solve((ci.NonnegativeLasso if nonnegative else ci.Lasso)(rows, 0.3))
    assert torch.allclose(ci.solve(mine).h, theirs.h, atol=1e-8)
    run = ci.ml_ista(mine, momentum=True)
    assert run.settled.all() and run.certificate.holds.all() and (run.bias == 0).all()
    assert torch.allclose(run.h, theirs.h, atol=1e-5)


@pytest.mark.parametrize("kind", ["two", "nonnegative"])
def test_units_types_and_parts_change_no_answer(kind):
    problem = made(kind, N=4)
    found = ci.solve(problem)
    one = ci.solve(problem.take(torch.tensor([2])))
    assert torch.allclose(one.h, found.h[2:3], atol=1e-8)
    again = ci.solve(type(problem).joined([problem.take(slice(0, 1)), problem.take(slice(1, 4))]))
    assert torch.allclose(again.h, found.h, atol=1e-8)
    rounded = ci.solve(problem.to(torch.float32), on_fail="ignore")
    assert rounded.h.dtype == torch.float32 and torch.allclose(rounded.h.double(), found.h, atol=1e-4)
    c = 1e-9
    lam = (c * 0.05, c * torch.linspace(0.05, 0.2, 4, dtype=F64))
    small = ci.multi_layer_pursuit(problem.dictionaries, c * problem.rows.y[:, :20], lam, nonnegative=problem.nonnegative)
    assert torch.allclose(ci.solve(small, on_fail="raise").h / c, found.h, atol=1e-6)


def test_rows_and_columns_of_very_different_lengths():
    D = dense((20, 28, 24), 7)
    rows, columns = torch.ones(28, dtype=F64), 10.0 ** torch.linspace(-4, 0, 24, dtype=F64)
    rows[::9] = 1e-4
    uneven = (D[0], ci.Dense(rows[:, None] * D[1].weight * columns))
    for nonnegative in (False, True):
        problem = ci.multi_layer_pursuit(uneven, drawn(2, 20, seed=8), (1e-3, 1e-3), nonnegative=nonnegative)
        optimum = [transcribed(problem, i) for i in range(2)]
        found = ci.solve(problem, on_fail="raise")
        assert np.allclose(found.certificate.objective, optimum, rtol=1e-5)


def test_without_a_price_on_the_deepest_layer():
    full = ci.multi_layer_pursuit(dense((40, 28, 24), 1), drawn(3, 40, seed=2), (0.1, 0.0))
    found = ci.solve(full, on_fail="raise")
    assert np.allclose(found.certificate.objective, [transcribed(full, i) for i in range(3)], rtol=1e-6)
    wide = ci.multi_layer_pursuit(dense((20, 28, 24), 1), drawn(3, 20, seed=2), (0.1, 0.0))
    open_ = ci.certify(wide, torch.zeros(3, 24, dtype=F64))
    assert not open_.holds.any() and all("lam_L = 0" in words for words in open_.remark)


def test_a_column_of_zeros_stays_at_zero():
    D1, D2 = dense((20, 28, 24), 1)
    D2 = ci.Dense(D2.weight * (torch.arange(24) != 3))
    found = ci.solve(ci.multi_layer_pursuit((D1, D2), drawn(2, 20, seed=2), (0.05, 0.05)), on_fail="raise")
    assert (found.h[:, 3] == 0).all() and (found.h != 0).any()


# --- ML-ISTA --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "steps"), [("two", (1.0, 0.1, 0.01)), ("three", (1.0, 0.5, 0.25))])
def test_fixed_points_of_ml_ista_are_off_by_no_more_than_their_certificate(kind, steps):
    """And not at the optimum, as the first abstract of the source says: at mu = 1 by thousands of tolerances."""
    problem = tall(kind)
    best = ci.solve(problem, on_fail="raise").certificate
    off = []
    for mu in steps:
        run = ci.ml_ista(problem, mu=mu, momentum=True, still=1e-8)
        excess = run.certificate.objective - best.objective
        assert run.settled.all() and (excess <= run.certificate.gap + 1e-12).all()
        assert torch.allclose(run.certificate.gap, run.bias, rtol=1e-2, atol=1e-5)
        off.append(float(excess.max()))
    assert off[0] > 1e-3 * float(best.objective.max()) and off[-1] > 0, off
    for k in (0, 1):  # at least half as much as the step
        assert off[k] > steps[k] / steps[k + 1] / 2 * off[k + 1], off


def test_ml_ista_and_ml_fista_have_the_same_fixed_points():
    for kind in ("two", "nonnegative"):
        problem = tall(kind)
        slow, fast = (ci.ml_ista(problem, momentum=momentum, still=1e-9) for momentum in (False, True))
        assert slow.settled.all() and fast.settled.all(), kind
        assert torch.allclose(slow.h, fast.h, atol=1e-5), kind


def test_a_run_that_was_stopped_says_so_and_its_gap_is_true():
    problem = made("two")
    run = ci.ml_ista(problem, max_iter=10)
    best = ci.solve(problem).certificate.objective
    assert not run.settled.any() and not run.certificate.holds.any() and (run.iterations == 10).all()
    assert (run.certificate.bound <= best * (1 + 1e-9)).all() and (run.certificate.objective >= best).all()


def test_the_published_recursion_of_two_layers():
    """h = D2 w, p = soft(h - mu D1'(D1 h - y), mu lam1), v = (h - p) / mu, g2 = soft(w - t D2'v, t lam2), once."""

    problem = made("two")
    (D1, D2), y = (W.weight for W in problem.dictionaries), problem.rows.y[:, :20]
    mu, t = safe_steps(problem.dictionaries, 0.5)
    lam1, lam2 = problem.analysis, problem.number("lam")[:, None]
    w = torch.full((problem.N, problem.n), 0.3, dtype=F64)
    soft = torch.nn.functional.softshrink
    h = w @ D2.T
    a = h - mu * (h @ D1.T - y) @ D1
    p = torch.stack([soft(row, mu * float(lam)) for row, lam in zip(a, lam1, strict=True)])
    b = w - t * (h - p) / mu @ D2
    g = torch.stack([soft(row, t * float(lam)) for row, lam in zip(b, lam2, strict=True)])
    found = one_pass(problem, w, (mu, t))
    assert torch.allclose(found.representations[0], p, atol=1e-12) and torch.allclose(
        found.representations[1], g, atol=1e-12
    )


# --- what does not fit ----------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_any_arithmetic():
    D, y = dense((20, 28, 24), 0), drawn(3, 20, seed=1)
    good = ci.multi_layer_pursuit(D, y, (0.1, 0.1))
    hidden = torch.ones_like(y, dtype=torch.bool)
    hidden[1] = False
    cases = [
        (lambda: ci.multi_layer_pursuit(D[::-1], y, (0.1, 0.1)), ValueError, "D_2 to give the 24 numbers"),
        (lambda: ci.multi_layer_pursuit(D, y[:, :19], (0.1, 0.1)), ValueError, r"shape \(N, 20\), got \(3, 19\)"),
        (lambda: ci.multi_layer_pursuit(D, y, (0.1,)), ValueError, "a lam for each of 2 dictionaries, got 1"),
        (lambda: ci.multi_layer_pursuit(D, y, (-0.1, 0.1)), ValueError, "lam_1 must be >= 0 and finite, got -0.1"),
        (lambda: ci.multi_layer_pursuit(D, y, (0.1, float("nan"))), ValueError, "lam_2 must be >= 0 and finite"),
        (lambda: ci.multi_layer_pursuit(D, y.float(), (0.1, 0.1)), ValueError, "y in torch.float64"),
        (lambda: ci.multi_layer_pursuit(D, y / 0, (0.1, 0.1)), ValueError, "finite y"),
        (lambda: ci.multi_layer_pursuit(D, y, (0.1, 0.1), seen=hidden), ValueError, "got none of signal 1"),
        (lambda: ci.multi_layer_pursuit(D, y, (0.1, 0.1), seen=hidden[:, :5]), ValueError, "seen as a bool mask"),
        (lambda: ci.multi_layer_pursuit(D[0], y, (0.1,)), TypeError, "dictionaries as a tuple of maps"),
        (lambda: ci.multi_layer_pursuit((D[0], D[1].weight), y, (0.1, 0.1)), TypeError, "D_2 as a map"),
        (lambda: ci.ml_ista(good, mu=1.5), ValueError, "mu must be > 0 and <= 1, got 1.5"),
        (lambda: ci.ml_ista(good, max_iter=0), ValueError, "max_iter must be a positive integer, got 0"),
        (lambda: ci.ml_ista(ci.Lasso(good.rows, 0.1)), TypeError, "expected a multi-layer pursuit, got Lasso"),
        (lambda: ci.solve(good, "fista"), ValueError, "cannot serve MultiLayerPursuit"),
        (lambda: ci.solve(good).export("claims.json"), ValueError, "check.py knows"),
        (lambda: ci.solve(good, differentiable=True), ValueError, "has derivatives here"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words):
            call()
    zero = ci.multi_layer_pursuit((D[0], ci.Dense(torch.zeros(28, 24, dtype=F64))), y, (0.1, 0.1))
    with pytest.raises(ValueError, match="zeros alone in D_2"):
        ci.ml_ista(zero)
    assert (ci.solve(zero, on_fail="raise").h == 0).all()
