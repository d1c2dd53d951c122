"""The active set from a sparse start: exact answers, honest flags, and the same on either way of solving its blocks."""

import math

import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.solvers.active_set import sparse_active_set
from cvxinv.solvers.active_set.sparse_active_set import SparseActiveSet, solve_one_by_one, solve_padded


def numbers(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def lasso(W, y, lam, b=None, weight=None):
    b = torch.zeros(len(W), dtype=W.dtype) if b is None else b
    return ci.NonnegativeLasso(ci.Rows(ci.Dense(W), b, y, torch.ones_like(y, dtype=torch.bool), weight=weight), lam)


def power_law(m=60, n=40, N=8, share=1e-2, condition=9e4, seed=0):
    """Rows whose W'W has the condition of trained layers, noisy signals, lam a share of the largest useful one."""
    draw = torch.Generator().manual_seed(seed)
    W = torch.randn(m, n, generator=draw, dtype=torch.float64)
    U, _, V = torch.linalg.svd(W, full_matrices=False)
    s = torch.arange(1, min(m, n) + 1, dtype=torch.float64) ** (-0.5 * math.log(condition) / math.log(min(m, n)))
    W = U @ (s[:, None] * V)
    h = torch.randn(N, n, generator=draw, dtype=torch.float64).clamp(min=0)
    y = h @ W.T + 0.01 * torch.randn(N, m, generator=draw, dtype=torch.float64)
    return lasso(W, y, share * (y @ W).amax(1).clamp(min=0))


def settle(problem, rounds=100):
    method = SparseActiveSet().start(problem)
    method.advance(rounds)
    return method


def kkt(problem, h, p):
    """Largest of h < 0, reduced cost < 0, and reduced cost times h, in units of the data."""
    slope = p @ problem.rows.W.matrix() + problem.linear + problem.quadratic * h
    worst = torch.maximum((-h).clamp(min=0), (-slope).clamp(min=0)).amax(1)
    return float(torch.maximum(worst, (slope * h).abs().amax(1)).max())


def test_two_columns_by_hand():
    """W = [[1, 1], [0, 1]], lam = 1: G = [[1, 1], [1, 2]].

    y = (3, 1): c - lam = (2, 3), and G h = (2, 3) at h = (1, 1). y = (1, 1): c - lam = (0, 1) asks for h_1 = -1; without
    it h_2 = 1/2, where the reduced cost of h_1 is 1/2. y = (0.5, 0.2): c = (0.5, 0.7) < lam, h = 0.
    """
    W = numbers([1, 1], [0, 1])
    method = settle(lasso(W, numbers([3, 1], [1, 1], [0.5, 0.2]), 1.0))
    assert method.settled.all()
    torch.testing.assert_close(method.point().h, numbers([1, 1], [0, 0.5], [0, 0]), rtol=0, atol=1e-14)
    torch.testing.assert_close(method.point().p, numbers([-1, 0], [-0.5, -0.5], [-0.5, -0.2]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("share", [0.3, 1e-2, 1e-3])
@pytest.mark.parametrize(("m", "n"), [(60, 40), (30, 60)])
def test_ill_conditioned_signals_are_what_clarabel_says(m, n, share):
    problem = power_law(m, n, share=share)
    method = settle(problem)
    assert method.settled.all() and not method.given_up().any()
    certificate = ci.certify(problem, method.point())
    assert certificate.holds.all() and certificate.worst_relative_gap < 1e-10
    assert kkt(problem, *method.point()) < 1e-12 * float(problem.rows.scale().max())
    reference = ci.solve(problem, "CLARABEL")
    assert torch.allclose(certificate.objective, reference.certificate.objective, rtol=1e-6)


def test_weights_bias_and_each_signals_own_lam_count():
    W, weight = torch.randn(30, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64), torch.ones(5, 30)
    weight[:, ::3] = 0.25
    y = torch.randn(5, 30, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    problem = lasso(W, y, numbers(0.0, 0.01, 0.1, 1.0, 100.0), torch.linspace(-1, 1, 30).double(), weight.double())
    method = settle(problem)
    assert method.settled.all() and (method.point().h[4] == 0).all()
    reference = ci.solve(problem, "CLARABEL")
    torch.testing.assert_close(method.point().h, reference.h, rtol=1e-5, atol=1e-6)


def test_what_is_degenerate_neither_crashes_nor_claims():
    """y = 0, a column of zeros, one column twice, lam = 0, fewer rows than unknowns: settled means optimal, or left."""
    W = torch.randn(9, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    W[:, 3], W[:, 5] = 0.0, W[:, 6]
    y = torch.randn(6, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y[0], y[1] = 0.0, 2 * W[:, 5]
    for lam in (0.0, 0.05, numbers(0.0, 0.0, 0.1, 1e-9, 1.0, 1e9)):
        problem = lasso(W, y, lam)
        method = settle(problem)
        h, p = method.point()
        assert torch.isfinite(h).all() and torch.isfinite(p).all() and (h >= 0).all()
        assert (method.settled | method.given_up() | torch.isin(torch.arange(6), method.left)).all()
        assert ci.certify(problem, method.point()).holds[method.settled].all()
        assert method.settled[0]
    assert (settle(lasso(torch.zeros_like(W), y, 0.1)).point().h == 0).all()


def test_dense_answers_are_left_to_others_early():
    """W = 1 of size 400, y = 1, lam = 0.1: every unknown is 0.9, and beyond three quarters nothing is saved."""
    method = settle(lasso(torch.eye(400, dtype=torch.float64), torch.ones(2, 400, dtype=torch.float64), 0.1))
    assert method.given_up().all() and not method.settled.any() and len(method.left) == 0
    assert int(method.rounds.max()) <= 12 and torch.isfinite(method.point().p).all()


def test_single_exchanges_alone_reach_the_answer(monkeypatch):
    problem = power_law(20, 10)
    expected = settle(problem).point().h
    monkeypatch.setattr(sparse_active_set, "_PATIENCE", -1)
    monkeypatch.setattr(sparse_active_set, "_ROUGH", 0)
    method = settle(problem, 2000)
    assert method.settled.all() and int(method.rounds.max()) > int(settle(problem, 0).rounds.max())
    torch.testing.assert_close(method.point().h, expected, rtol=1e-9, atol=1e-12)


def test_neighbours_order_and_pauses_change_nothing():
    problem = power_law(N=7)
    together = settle(problem)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    assert torch.allclose(settle(problem.take(order)).point().h, together.point().h[order], rtol=1e-10, atol=1e-14)
    method = SparseActiveSet().start(problem)
    method.advance(2)
    method.keep(order[:4])
    for _ in range(20):
        method.advance(1)
    assert method.settled.all()
    assert torch.allclose(method.point().h, together.point().h[order[:4]], rtol=1e-10, atol=1e-14)
    assert torch.allclose(method.point().p, together.point().p[order[:4]], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 300, 10**8])
def test_padded_chunks_solve_what_lapack_solves(monkeypatch, chunk):
    monkeypatch.setattr(sparse_active_set, "_CHUNK", chunk)
    draw = torch.Generator().manual_seed(0)
    F = torch.randn(20, 15, generator=draw, dtype=torch.float64)
    free = torch.rand(9, 15, generator=draw) < torch.linspace(0, 1, 9)[:, None]
    right, ridge = torch.randn(9, 15, generator=draw, dtype=torch.float64), torch.linspace(0, 1, 9).double()
    one, many = (solve(F.T @ F, free, ridge, right) for solve in (solve_one_by_one, solve_padded))
    torch.testing.assert_close(one[0], many[0])
    assert one[1].all() and many[1].all() and (one[0][~free] == 0).all()
    flat = torch.ones(15, 15, dtype=torch.float64) - 1e-3 * torch.eye(15, dtype=torch.float64)
    one, many = (solve(flat, free, torch.zeros(9, dtype=torch.float64), right) for solve in (solve_one_by_one, solve_padded))
    assert torch.equal(one[1], free.sum(1) < 2) and torch.equal(one[1], many[1])
    assert torch.isfinite(one[0]).all() and torch.isfinite(many[0]).all()


def test_it_refuses_what_it_does_not_serve_by_name():
    W, y = torch.eye(3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
    on = torch.tensor([[True, True, False], [True, False, True]])
    none = torch.zeros_like(on)
    for off, words in ((None, "off rows"), (none, "share a Gram matrix")):
        problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.zeros(3).double(), y, on, off), 0.1)
        with pytest.raises(ValueError, match=words):
            ci.solve(problem, "sparse_active_set")
    free = ci.GaussianLatent(ci.Rows(ci.Dense(W), torch.zeros(3).double(), y, ~none), 0.1)
    with pytest.raises(ValueError, match="h >= 0"):
        ci.solve(free, "sparse_active_set")


def test_solve_takes_it_by_name_also_for_signed_unknowns_and_float32():
    problem = power_law()
    exact = ci.solve(problem, "sparse_active_set")
    assert (exact.status == "optimal").all() and exact.polished.all()
    single = ci.solve(problem.to(torch.float32), "sparse_active_set", on_fail="ignore")
    assert single.h.dtype == torch.float32 and np.isin(single.status, ["optimal", "optimal_inaccurate"]).all()
    signed = ci.Lasso(problem.rows, problem.lam)
    found, reference = ci.solve(signed, "sparse_active_set"), ci.solve(signed, "CLARABEL")
    assert (found.status == "optimal").all()
    assert torch.allclose(found.certificate.objective, reference.certificate.objective, rtol=1e-6)


@pytest.mark.generators
@pytest.mark.parametrize("name", ["csinva_vae_20_400_784", "jezza_fashion_vae_20_400_784", "lei_vae_relu_20_60_784_nobias"])
def test_last_layers_of_trained_generators_settle(name, real_generator):
    G = real_generator(name, output="identity").to(torch.float64)
    z = torch.randn(6, G.latent_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = G(z)
    y = y + 0.01 * y.std() * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    last = G.layers[-1]
    W = last.W.matrix()
    problem = lasso(W, y, 1e-2 * ((y - last.b) @ W).amax(1), last.b)
    method = settle(problem.normalised().problem)
    assert method.settled.all() and int(method.rounds.max()) <= 20
    certificate = ci.certify(problem.normalised().problem, method.point())
    assert certificate.holds.all() and certificate.worst_relative_gap < 1e-10


@pytest.mark.parametrize("m", [60, 30])
def test_padded_chunks_serve_the_whole_method(monkeypatch, m):
    problem = power_law(m, 40, share=1e-3)
    expected = settle(problem)
    monkeypatch.setattr(sparse_active_set, "solve_on_supports", solve_padded)
    method = settle(problem)
    assert method.settled.all() and expected.settled.all()
    torch.testing.assert_close(method.point().h, expected.point().h, rtol=1e-8, atol=1e-10)
