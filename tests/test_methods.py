"""The oracle, layered basis pursuit, latent pursuit behind saturating outputs, and layer problems of the user's own."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from test_inversion import error, net, noisy, normal, seeded, signals, with_weights
from torch import Tensor

import cvxinv as ci
from cvxinv import NormalisedBasisPursuit, NormalisedLasso
from cvxinv.batch import per_signal as one_each
from cvxinv.command.exact_check import check_against_cvxpy
from cvxinv.generator.chain import Generator, Layer
from cvxinv.inversion.methods.layered_basis_pursuit import _steepness, pursue_by_basis_pursuit, solve_normalised
from cvxinv.inversion.methods.oracle import least_squares_by_layers, least_squares_jointly, supports_of
from cvxinv.inversion.steps.gradient import gradient
from cvxinv.inversion.task import make_task

C = 3 + 1.5**0.5  # of Theorem 2, written out here: the code's own would agree with any


def numbers(*rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def generator_of(*layers: tuple[Tensor, Tensor], output: str = "identity") -> Generator:
    chain = tuple(Layer(ci.Dense(W), b, ci.ReLU()) for W, b in layers)
    return Generator(chain, (len(layers[-1][1]),), {}).with_output(output)


def hand_net() -> Generator:
    """2-3-4: z = (2, -1) gives h = (2, 0, 1) and y = (2, 0, 1, 4)."""
    first = numbers([1, 0], [0, 1], [1, 1])
    second = numbers([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1])
    return generator_of((first, numbers(0, 0, 0)), (second, numbers(0, 0, 0, 1)))


def decibels(found: Tensor, z: Tensor) -> Tensor:
    return 20 * torch.log10(z.norm(dim=1) / (found - z).norm(dim=1).clamp(min=1e-300))


# --- oracle ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["joint", "layered"])
def test_the_oracle_solves_the_net_worked_by_hand(form: str):
    """Columns 1 and 3 of W_1 are (1, 0, 0, 1) and (0, 0, 1, 1); with y_1 raised by 3 the normal equations
    [[2, 1], [1, 2]] h = (8, 4) give h = (4, 0), and then z_1 = 4, z_1 + z_2 = 0. Noise in entry 2 touches neither."""
    G, z, masks = hand_net(), numbers([2, -1]), [torch.tensor([[True, False, True]])]
    assert torch.equal(G(z), numbers([2, 0, 1, 4]))
    for e, expected in (((0, 0, 0, 0), (2, -1)), ((3, 0, 0, 0), (4, -4)), ((0, 5, 0, 0), (2, -1))):
        R = ci.invert(G, G(z) + numbers(e), "oracle", supports=masks, form=form, on_fail="ignore")
        assert torch.allclose(R.z, numbers(expected), atol=1e-12)


@pytest.mark.parametrize("form", ["joint", "layered"])
@pytest.mark.parametrize("output", ["identity", "relu", "leaky_relu:0.2", "tanh", "sigmoid", "plu"])
@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_the_oracle_is_exact_behind_every_output(hidden: ci.ReLU | ci.LeakyReLU, output: str, form: str):
    G = net((5, 20, 120), output, hidden, seed=1)
    z, y = signals(G)
    for measurement in (None, torch.rand(120, generator=seeded(5)) < 0.75):
        R = ci.invert(G, y, "oracle", truth=z, form=form, measurement=measurement)
        assert R.verdict.explained.all() and R.layers == () and set(R.used) == {"oracle"}
        assert float(decibels(R.z, z).min()) > 250


@pytest.mark.parametrize("form", ["joint", "layered"])
def test_the_oracle_recovers_a_random_network_to_250_decibels(form: str):
    G = net((100, 220, 625), bias=0.0)
    z, y = signals(G, 6)
    sure = (G.hidden(z)[0] > 0).sum(1) >= 110  # fewer than 100 leave z open, and near 100 it is ill-conditioned
    assert int(sure.sum()) >= 2
    assert float(decibels(ci.invert(G, y, "oracle", truth=z, form=form, on_fail="ignore").z, z)[sure].min()) >= 250


def test_the_oracle_takes_matrices_and_says_where_z_is_open():
    G = net((5, 20, 40))
    z, y = signals(G)
    A = normal(30, 40, seed=5)
    for form in ("joint", "layered"):
        assert error(ci.invert(G, y @ A.T, "oracle", truth=z, form=form, measurement=A).z, z) < 1e-10
    R = ci.invert(G, y, "oracle", truth=z, measurement=torch.arange(40) < 3, on_fail="ignore")
    assert any("8 signals leave z open" in note for note in R.notes) and not R.determined.any()
    task = make_task(G, y, torch.arange(40) < 3)
    shortest, _ = least_squares_jointly(task, list(supports_of(task, z)))
    r, J = task.linearize(z)
    assert ((J @ (shortest - z)[..., None])[..., 0] + r).abs().max() < 1e-12, "three equations for five unknowns are met"
    assert (shortest.norm(dim=1) < z.norm(dim=1)).all()


def test_the_oracle_cuts_supports_to_chunks_and_wants_one_source_of_them():
    G = net((5, 20, 40, 60))
    z, y = signals(G)
    masks = [h > 0 for h in G.hidden(z)]
    whole = ci.invert(G, y, "oracle", supports=masks)
    parts = ci.invert(G, y, "oracle", supports=[m.numpy() for m in masks], chunk=3)
    assert error(parts.z, whole.z) < 1e-12 and error(whole.z, z) < 1e-12
    one = ci.invert(G, y[0], "oracle", supports=[m[0] for m in masks])
    assert one.z.shape == (5,) and torch.allclose(one.z, z[0])
    for supports, words in (
        (None, "neither supports= nor truth="),
        (masks[:1], "as 2 bool masks"),
        ([masks[0], masks[1][:4]], r"hidden layer 2 of shape \(8, 40\)"),
        ([masks[0], masks[1][0]], r"hidden layer 2 of shape \(8, 40\)"),
    ):
        with pytest.raises(ValueError, match=words):
            ci.invert(G, y, "oracle", supports=supports)
    with pytest.raises(TypeError, match="bool mask"):
        ci.invert(G, y, "oracle", supports=[m.double() for m in masks])
    with pytest.raises(ValueError, match="unknown form"):
        ci.invert(G, y, "oracle", truth=z, form="jointly")
    with pytest.raises(ValueError, match="matrix acts on the signal behind its Tanh"):
        ci.invert(
            G.with_output("tanh"), y.tanh() @ normal(50, 60, seed=1).T, "oracle", truth=z, measurement=normal(50, 60, seed=1)
        )


def test_theorem_3_brackets_the_mean_squared_error_of_the_oracle():
    G, sigma, N = net((3, 12, 20), bias=0.0, seed=4), 1e-3, 2000
    z = signals(G, 1)[0].expand(N, -1)
    y = G(z) + sigma * normal(N, 20, seed=8)
    task = make_task(G, y)
    masks = list(supports_of(task, z))
    found, hidden, _ = least_squares_by_layers(task, masks)
    S = masks[0][0]
    last, first = G.layers[1].W.matrix()[:, S], G.layers[0].W.matrix()[S]
    (low_1, high_1), (low_0, high_0) = (extremes(M) for M in (last, first))
    s, n0 = int(S.sum()), 3
    bounds = {"h": (s / high_1, s / low_1), "z": (n0 / (high_1 * high_0), n0 / (low_1 * low_0))}
    cases = {"h": (hidden[0], G.hidden(z)[0], pinv(last)), "z": (found, z, pinv(first) @ pinv(last))}
    for name, (estimate, true, P) in cases.items():
        square = (estimate - true).square().sum(1) / sigma**2
        low, high = bounds[name]
        assert low < float(square.mean()) < high, name
        doubt = 5 * float(square.std()) / N**0.5
        assert abs(float(square.mean()) - float(P.square().sum())) < doubt, "the mean is tr(P P')"
    joint, _ = least_squares_jointly(task, masks)
    square = (joint - z).square().sum(1) / sigma**2
    assert bounds["z"][0] < float(square.mean()) < bounds["z"][1]
    assert float(square.mean()) <= float((found - z).square().sum(1).mean()) / sigma**2, "joint weighs all rows best"


def extremes(M: Tensor) -> tuple[float, float]:
    values = torch.linalg.eigvalsh(M.T @ M)
    return float(values[0]), float(values[-1])


def pinv(M: Tensor) -> Tensor:
    return torch.linalg.pinv(M)


# --- layered basis pursuit ------------------------------------------------------------------------


def rows_of(W: Tensor, y: Tensor) -> ci.Rows:
    return ci.Rows(ci.Dense(W), torch.zeros(len(W), dtype=torch.float64), y, torch.ones_like(y, dtype=torch.bool))


def test_the_normalised_problems_have_the_answers_worked_by_hand():
    """Columns of length 2 and 1 that are orthogonal: D h is (4, 3) shrunk by lam = 1, so h = (3 / 2, 2). And (1, 1) is
    reached by h = (1, 1, 0) of length 2 or by h = (0, 0, 1) of length 2^(1/2), which wins."""
    lasso = NormalisedLasso(rows_of(numbers([2, 0], [0, 1], [0, 0]), numbers([4, 3, 7])), 1.0)
    solution = solve_normalised(lasso, ci.LayerOptions())
    assert torch.allclose(solution.h, numbers([1.5, 2.0])) and solution.status.tolist() == ["optimal"]
    assert torch.allclose(solution.certificate.objective, numbers(0.5 + 0.5 + 24.5 + 3 + 2))
    pursuit = NormalisedBasisPursuit(rows_of(numbers([1, 0, 1], [0, 1, 1]), numbers([1, 1])), 0.0)
    solution = solve_normalised(pursuit, ci.LayerOptions())
    assert torch.allclose(solution.h, numbers([0, 0, 1]), atol=1e-7) and solution.status.tolist() == ["optimal"]
    assert float(solution.certificate.objective) == pytest.approx(2**0.5)


@pytest.mark.parametrize("solver", ["auto", "CLARABEL"])
@pytest.mark.parametrize("shape", [(30, 12), (10, 18)], ids=["tall", "wide"])
@pytest.mark.parametrize("kind", [NormalisedLasso, NormalisedBasisPursuit])
def test_normalised_problems_are_certified_and_cvxpy_agrees(kind: Any, shape: tuple[int, int], solver: str):
    m, n = shape
    W = normal(m, n, seed=1) * (0.2 + torch.arange(n))
    y = normal(4, n, seed=2).relu() @ W.T
    rows = ci.Rows(ci.Dense(W), normal(m, seed=3), y + normal(m, seed=3), torch.rand(4, m, generator=seeded(4)) < 0.8)
    problem = kind(rows, 0.3) if kind is NormalisedLasso else kind(rows, 0.0)
    solution = solve_normalised(problem, ci.LayerOptions(solver=solver))
    assert set(solution.status) <= {"optimal", "optimal_inaccurate"}
    assert set(solution.status) == {"optimal"} or solver == "CLARABEL"
    exact = ci.solve(problem, "CLARABEL", polish=False, on_fail="ignore").certificate
    assert torch.allclose(exact.objective, solution.certificate.objective, rtol=1e-5)
    natural = solution.certificate.objective.clamp(min=1e-6)
    for seed in range(5):
        p = normal(4, m, seed=10 + seed) * 10.0 ** (seed - 2)
        assert (problem.dual(p) <= natural * (1 + 1e-9)).all(), "a bound from any p stays below the optimum"
    if m > n or kind is NormalisedLasso:  # else the p of a vertex is not the shortest that balances its nonzeros
        assert torch.allclose(problem.dual(problem.complete(solution.h)), solution.certificate.objective, rtol=1e-5)
    part = problem.take(torch.tensor([2])).normalised()
    h = solution.h[2:3]
    unit = problem.take(torch.tensor([2])).objective(h) / part.problem.objective(h / part.h_unit)
    assert float(unit) == pytest.approx(float((part.h_unit * part.p_unit * rows.W.norm()).squeeze()), rel=1e-9)


def incoherent_net() -> Generator:
    """2-8-48-160: columns of the second layer live on rows of their own, those of the third are nearly orthogonal."""
    first = normal(8, 2, seed=1)
    second = torch.zeros(48, 8, dtype=torch.float64)
    for j in range(8):
        second[6 * j : 6 * j + 6, j] = normal(6, seed=20 + j).abs() * numbers(1, 1, 1, -1, -1, 1) + 0.3
    third = torch.linalg.qr(normal(160, 48, seed=2))[0] + 2e-5 * normal(160, 48, seed=3)
    third = third * (0.5 + torch.rand(48, generator=seeded(4), dtype=torch.float64))
    zeros = [torch.zeros(n, dtype=torch.float64) for n in (8, 48, 160)]
    return generator_of((first, zeros[0]), (second, zeros[1]), (third, zeros[2]))


def coherence(M: Tensor) -> float:
    M = M[:, M.norm(dim=0) > 0]
    cosines = (M / M.norm(dim=0)).T @ (M / M.norm(dim=0))
    return float((cosines - torch.eye(len(cosines))).abs().max())


def test_theorem_2_holds_on_an_incoherent_network():
    G, size = incoherent_net(), 1e-4
    z, x = signals(G, 12, seed=7)
    h1, h2 = G.hidden(z)
    keep = ((h1 > 0).sum(1) >= 2).nonzero()[:, 0]
    z, x, h1, h2 = z[keep], x[keep], h1[keep], h2[keep]
    W0, W1, W2 = (layer.W.matrix() for layer in G.layers)
    for i in range(len(z)):
        assert (h2[i] > 0).sum() < 1 / (3 * coherence(W2))
        assert (h1[i] > 0).sum() < 1 / (3 * max(coherence(W1[h2[i] > 0]), 1e-9))
    e = normal(*x.shape, seed=9)
    y = x + size * e / e.norm(dim=1, keepdim=True)
    counts = [(h > 0).sum(1) for h in (h1, h2)]
    R = ci.invert(G, y, "layered_basis_pursuit", noise=("l2", size), cardinalities=counts, debias=None, on_fail="ignore")
    assert (R.layer_status == "optimal").all()
    task = make_task(G, y, noise=("l2", size))
    found, reports, bounds, _ = pursue_by_basis_pursuit(task, ci.LayerOptions(), counts)
    for report, true in zip(reports[:2], (h2, h1), strict=True):
        h = report.solution.h
        on = h.abs() > report.threshold[:, None]
        assert not (on & (true == 0)).any(), "the support found lies inside the true one"
        assert ((h - true).norm(dim=1) < bounds[report.index]).all()
        assert on.sum(1).min() >= 2, "or nothing was tested"
    shortest = reports[0].problem.rows.on_columns.amin(1)
    assert torch.allclose(reports[0].penalty, torch.full_like(shortest, 2 * size))
    assert torch.allclose(bounds[2], C * counts[1].double().sqrt() * size / shortest)
    assert torch.allclose(reports[1].penalty, 2 * bounds[2])
    for i in range(len(z)):
        on = reports[1].solution.h[i].abs() > reports[1].threshold[i]
        weakest = float(torch.linalg.svdvals(W0[on])[-1])
        assert float((found[i] - z[i]).norm()) <= float(bounds[1][i]) / weakest  # eq. (7)


def test_corollary_2_without_noise_it_is_exact():
    G = incoherent_net()
    z, x = signals(G, 12, seed=7)
    sure = ci.verify(G, x, z).determined
    R = ci.invert(G, x, "layered_basis_pursuit", debias=None, on_fail="ignore")
    assert int(sure.sum()) >= 6 and error(R.z[sure], z[sure]) < 1e-10
    assert (R.layer_status == "optimal").all() and all(r.kind == "NormalisedBasisPursuit" for r in R.layers[:2])


@pytest.mark.parametrize("output", ["identity", "relu", "leaky_relu:0.2", "tanh", "sigmoid", "plu"])
def test_layered_basis_pursuit_is_exact_behind_every_output(output: str):
    G = net((5, 20, 80, 300), output, seed=1)
    z, y = signals(G)
    assert ((G.hidden(z)[1] > 0).sum(1) >= 20).all(), "with fewer rows than unknowns another h may be shorter"
    R = ci.invert(G, y, "layered_basis_pursuit", debias=None)
    assert (R.layer_status == "optimal").all() and R.verdict.explained.all()
    assert error(R.z, z) < 1e-8


def test_layered_basis_pursuit_says_what_it_did_with_the_noise():
    G = net((5, 20, 40, 120), "tanh")
    _, x = signals(G)
    bound = 0.01
    y = (x + bound * (2 * torch.rand(x.shape, generator=seeded(1), dtype=torch.float64) - 1)).clamp(-1, 1)
    R = ci.invert(G, y, "layered_basis_pursuit", noise=("linf", bound), on_fail="ignore")
    assert any("m^(1/2)" in note for note in R.notes) and any("inverse of Tanh" in note for note in R.notes)
    assert any("infinite ell" in note for note in R.notes) and any("Theorem 2" in note for note in R.notes)
    rows, eps = R.layers[0].problem.rows, bound * 120**0.5
    assert not (rows.on & (y.abs() + eps >= 1)).any(), "an infinite ell is left out"
    steep = _steepness(G.layers[-1].activation, y, torch.full((8,), eps, dtype=torch.float64))
    ell = torch.where(rows.on, steep, torch.zeros_like(steep)).amax(1)
    largest = R.layers[0].penalty
    assert (largest <= 2 * ell * eps * (1 + 1e-9)).all(), "lam = 2 ell eps, or the least that leaves nothing"
    for lam in (1e-5, 7e-6, 3e-6, 1e-6, 0.0):
        S = ci.invert(G, x, "layered_basis_pursuit", lam=lam, on_fail="ignore")
        assert all((r.penalty == lam).all() for r in S.layers[:2])


def test_an_empty_support_bounds_nothing_below():
    G = net((5, 20, 40, 60))
    _, x = signals(G)
    task = make_task(G, x, noise=("l2", 1e3))
    z, reports, bounds, _ = pursue_by_basis_pursuit(task, ci.LayerOptions())
    assert not reports[0].solution.h.any() and not z.any(), "a noise of a thousand leaves nothing"
    shortest = reports[0].problem.rows.on_columns.amin(1)
    assert torch.allclose(bounds[2], C * 40**0.5 * 1e3 / shortest) and (bounds[1] > bounds[2]).all()
    found = ci.invert(G, x, "layered_basis_pursuit", noise=("l2", 1e3))
    assert "lam leaves nothing of 8 signals" in found.layers[0].remark and found.verdict.explained.all()


def test_the_slope_of_the_inverse_is_that_of_the_worst_end():
    """tanh: 1 / (1 - 0.8^2) = 25 / 9; sigmoid: 1 / (0.8 0.2) = 25 / 4; PLU: 1 / a beyond its corner; out of range: inf."""
    eps = numbers(0.2)
    assert torch.allclose(_steepness(ci.Tanh(), numbers([0.6, -0.6]), eps), numbers([25 / 9, 25 / 9]))
    assert torch.isinf(_steepness(ci.Tanh(), numbers([0.9, -1.0]), eps)).all()
    assert torch.allclose(_steepness(ci.Sigmoid(), numbers([0.6, 0.4]), eps), numbers([25 / 4, 25 / 4]))
    assert torch.isinf(_steepness(ci.Sigmoid(), numbers([0.85, 0.1]), eps)).all()
    assert torch.allclose(_steepness(ci.PLU(0.1, 1.0), numbers([0.5, 0.9, -3.0]), eps), numbers([1.0, 10.0, 10.0]))
    assert torch.allclose(_steepness(ci.LeakyReLU(0.5), numbers([0.5, 0.1, -1.0]), eps), numbers([1.0, 2.0, 2.0]))


def test_layered_basis_pursuit_is_the_same_in_chunks_and_against_cvxpy():
    G = net((5, 20, 40, 60))
    y, e = noisy(signals(G)[1], 1e-4)
    options: dict[str, Any] = {"noise": ("l2", e.norm(dim=1)), "on_fail": "ignore"}
    whole = ci.invert(G, y, "layered_basis_pursuit", **options)
    parts = ci.invert(G, y, "layered_basis_pursuit", chunk=3, **options)
    for a, b in zip(whole.layers, parts.layers, strict=True):
        assert torch.allclose(a.solution.h, b.solution.h, atol=1e-9) and torch.allclose(a.penalty, b.penalty)
        assert torch.equal(a.problem.rows.on, b.problem.rows.on) and a.problem.N == b.problem.N == 8
    assert all(row["agree"] for row in check_against_cvxpy(whole, 2))
    mixed = e.norm(dim=1) * torch.tensor([0.0, 1, 1, 1, 1, 1, 1, 1])
    y = torch.where(torch.arange(8)[:, None] == 0, y - e, y)
    R = ci.invert(G, y, "layered_basis_pursuit", noise=("l2", mixed), debias=None, on_fail="ignore")
    assert error(R.z[:1], signals(G)[0][:1]) < 1e-4, "a signal without noise beside others with it"


def test_layered_basis_pursuit_refuses_what_it_cannot_do():
    G = net((5, 20, 40), hidden=ci.LeakyReLU(0.1))
    with pytest.raises(ValueError, match="LeakyReLU leaves its hidden layer without zeros"):
        ci.invert(G, signals(G)[1], "layered_basis_pursuit")
    G = net((5, 20, 40))
    y = signals(G)[1]
    for counts in ((), (3, 3), (0,), (2.5,), 3, (torch.ones(3),)):
        with pytest.raises(ValueError, match="cardinalit"):
            ci.invert(G, y, "layered_basis_pursuit", cardinalities=counts)
    with pytest.raises(TypeError, match="no option 'gamma'"):
        ci.invert(G, y, "layered_basis_pursuit", gamma=1.0)


# --- latent pursuit behind saturating outputs -----------------------------------------------------


def test_latent_pursuit_recovers_the_random_tanh_network():
    G = net((100, 220, 625), "tanh", bias=0.0)
    G = with_weights(G, 1, normal(625, 220, seed=11) / 25).with_output("tanh")
    z, y = signals(G, 4)
    R = ci.invert(G, y, "latent_pursuit", debias=None, on_fail="ignore")
    assert (R.layer_status == "optimal").all() and R.layers[0].kind == "IntervalBasisPursuit"
    assert error(R.layers[0].solution.h, G.hidden(z)[0]) < 1e-6
    sure = (G.hidden(z)[0] > 0).sum(1) >= 105
    assert sure.any() and float(decibels(R.z, z)[sure].min()) > 120


@pytest.mark.parametrize("form", [None, "preactivation", "interval"])
@pytest.mark.parametrize("output", ["tanh", "sigmoid", "plu"])
def test_layers_alone_are_exact_behind_saturating_outputs(output: str, form: str | None):
    G = net((5, 20, 60), output, seed=1)
    z, y = signals(G)
    for measurement in (None, torch.rand(8, 60, generator=seeded(5)) < 0.75):
        R = ci.invert(G, y, "latent_pursuit", measurement=measurement, debias=None, image_layer=form)
        assert (R.layer_status == "optimal").all() and R.verdict.explained.all()
        assert error(R.z, z) < 1e-8
        assert len(R.notes) == 1 and type(G.layers[-1].activation).__name__ in R.layers[0].remark


def test_saturated_pixels_are_bounds_and_not_lost():
    """Of 30 pixels 20 are exactly 1 and 10 are read: too few equations for 12 unknowns, enough with the bounds."""
    W = torch.cat([normal(10, 12, seed=1).abs(), 60 + normal(20, 12, seed=2).abs()])
    G = generator_of((normal(12, 2, seed=3), W[0] * 0), (W, W[:, 0] * 0), output="tanh")
    z = signals(G, 6)[0]
    z = z[G.hidden(z)[0].amax(1) > 0.5] * 0.2
    y = G(z)
    assert bool((y == 1).any())
    R = ci.invert(G, y, "latent_pursuit", debias=None, on_fail="ignore")
    assert (R.layer_status[:, 0] == "optimal").all()
    lo, hi = R.layers[0].problem.lo, R.layers[0].problem.hi
    assert torch.isinf(hi[y == 1]).all() and (lo[y == 1] > 15).all()
    assert torch.isnan(R.layers[0].penalty).all()


def test_weights_behind_an_output_are_its_slopes_squared():
    G = net((5, 20, 60), "plu", seed=1)
    z, x = signals(G)
    rows = ci.invert(G, x, "latent_pursuit").layers[0].problem.rows
    outside = x.abs() > 1
    assert outside.any() and torch.allclose(rows.weight, torch.where(outside, 0.01, 1.0).double())
    assert torch.allclose(rows.y[outside], (x + 9 * x.sign() * (x.abs() - 1))[outside])
    G = G.with_output("tanh")
    y, e = noisy(G(z), 1e-3)
    R = ci.invert(G, y, "latent_pursuit", noise=("l2", e.norm(dim=1)), on_fail="ignore")
    rows = R.layers[0].problem.rows
    assert torch.allclose(rows.weight[rows.on], (1 - y.square()).square()[rows.on])
    assert ((1 - y.square())[rows.on] > 1e-2).all() and (rows.on.sum(1) < 60).any()


def test_noise_decides_how_the_image_layer_is_read():
    G = net((5, 20, 60), "sigmoid", seed=1)
    _, x = signals(G)
    kinds = {}
    for noise in (None, ("l2", 1e-3), ("linf", 1e-3)):
        R = ci.invert(G, x, "latent_pursuit", noise=noise, on_fail="ignore")
        kinds[noise and noise[0]] = R.layers[0].kind
    assert kinds == {None: "IntervalBasisPursuit", "l2": "NonnegativeLasso", "linf": "NonnegativeLasso"}
    R = ci.invert(G, x, "latent_pursuit", noise=("linf", 1e-3), image_layer="interval", debias=None, on_fail="ignore")
    width = G(R.z * 0)[:, :1] * 0 + 1e-3
    h = R.layers[0].solution.h
    fitted = (h @ G.layers[1].W.matrix().T + G.layers[1].b).sigmoid()
    assert ((fitted - x).abs() <= width * (1 + 1e-6)).all(), "every pixel is within the bound"
    active = ci.invert(G, x, "latent_pursuit", image_layer="activated", on_fail="ignore")
    assert active.layers[0].kind == "ActivatedLasso" and set(active.layers[0].solution.status) <= {"stationary", "optimal"}


@pytest.mark.parametrize("solver", ["linearized_admm", "block_pivoting", "interior_point", "CLARABEL"])
def test_a_solver_gets_an_image_layer_that_it_serves(solver: str):
    G = net((5, 20, 60), "sigmoid", seed=1)
    z, y = signals(G, 3)
    R = ci.invert(G, y, "hybrid", solver=solver, on_fail="ignore")
    assert R.layers[0].kind == (
        "NonnegativeLasso" if solver in ("linearized_admm", "block_pivoting") else "IntervalBasisPursuit"
    )
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6


def test_float32_signals_widen_the_bounds_by_their_rounding():
    G = net((5, 20, 60), "sigmoid", seed=1)
    z, y = signals(G)
    R = ci.invert(G, y.float(), "latent_pursuit")
    assert R.verdict.explained.all() and error(R.z.double(), z) < 1e-4


def test_an_image_layer_that_does_not_apply_is_refused():
    G = net((5, 20, 60), "tanh", ci.LeakyReLU(0.1))
    _, y = signals(G)
    assert ci.invert(G, y, "latent_pursuit").layers[0].kind == "GaussianLatent", "h of any sign is read before the tanh"
    for method in ("latent_pursuit", "hybrid"):
        with pytest.raises(ValueError, match="the unknown of the image layer has any sign"):
            ci.invert(G, y, method, image_layer="interval")
        with pytest.raises(ValueError, match="image_layer=None behind Identity"):
            ci.invert(G.with_output("identity"), y, method, image_layer="interval")
        with pytest.raises(ValueError, match="unknown image_layer"):
            ci.invert(G, y, method, image_layer="intervals")


# --- debiasing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("debias", ["piece", "gradient"])
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
@pytest.mark.parametrize("method", ["oracle", "layered_basis_pursuit", "latent_pursuit"])
def test_debiasing_never_raises_the_misfit(method: str, output: str, debias: str):
    G = net((5, 20, 40, 120), output, seed=1)
    z, x = signals(G)
    y, e = noisy(x, 1e-3)
    options: dict[str, Any] = {"noise": ("l2", e.norm(dim=1)), "truth": z, "on_fail": "ignore"}
    before = ci.invert(G, y, method, debias=None, **options).verdict.misfit
    after = ci.invert(G, y, method, debias=debias, max_iter=200, **options).verdict.misfit
    assert (after <= before * (1 + 1e-12)).all()
    if method == "layered_basis_pursuit":
        assert (after < 0.9 * before).any(), "lam biases it"


# --- layer problems of the user's own -------------------------------------------------------------


@pytest.mark.parametrize("method", ["latent_pursuit", "hybrid"])
def test_a_given_layer_problem_takes_its_layer(method: str):
    G = net((5, 20, 40, 60))
    z, y = signals(G)
    plain = ci.invert(G, y, method)
    chosen = {
        2: lambda rows: ci.NonnegativeBasisPursuitL2(rows, 0.0),
        1: lambda rows: ci.Lasso(rows, 1e-9),
        0: lambda rows: ci.GaussianLatent(rows, 1e-9),
    }
    R = ci.invert(G, y, method, layer_problems=chosen, chunk=3)
    assert [r.kind for r in R.layers] == ["NonnegativeBasisPursuitL2", "Lasso", "GaussianLatent"]
    assert [float(r.penalty.max()) for r in R.layers] == [0.0, 1e-9, 1e-9]
    assert all(r.remark == "layer problem given" and r.problem.N == 8 for r in R.layers)
    assert R.layers[0].problem.eps.shape == (8,) and R.layers[1].problem.lam.shape == (8,)
    assert R.settings["layer_problems"] == "given for 0, 1, 2"
    assert error(R.z, z) < 1e-6 and error(plain.z, z) < 1e-6
    same = ci.invert(G, y, method, layer_problems={2: lambda rows: ci.NonnegativeLasso(rows, 0.0)})
    assert torch.equal(same.layers[0].solution.h, plain.layers[0].solution.h)


def test_a_given_layer_problem_proves_nothing_about_the_signal():
    """Its rows need not be the signal's: here they are 3 higher, which no h meets."""
    G = net((5, 20, 60))
    _, y = signals(G)
    far = y + torch.randn(y.shape, generator=seeded(3), dtype=torch.float64)
    own = ci.invert(G, far, "latent_pursuit", on_fail="ignore")
    assert any("proved, no latent at all" in own.explain(i, generator=G) for i in range(8))
    chosen = {1: lambda rows: ci.NonnegativeLasso(ci.Rows(rows.W, rows.b, rows.y + 3.0, rows.on, rows.off), 0.0)}
    given = ci.invert(G, far, "latent_pursuit", layer_problems=chosen, on_fail="ignore")
    assert not any("proved, no latent at all" in given.explain(i, generator=G) for i in range(8))


def test_a_given_image_layer_sees_the_output_units():
    G = net((5, 20, 60), "tanh", seed=1)
    z, y = signals(G)
    mask = torch.rand(8, 60, generator=seeded(5)) < 0.9
    seen: list[ci.Rows] = []

    def make(rows: ci.Rows) -> ci.ActivatedLasso:
        seen.append(rows)
        return ci.ActivatedLasso(rows, ci.Tanh(), 0.0)

    R = ci.invert(G, y, "latent_pursuit", measurement=mask, layer_problems={1: make}, on_fail="ignore")
    assert torch.equal(seen[0].on, mask) and torch.equal(seen[0].y[mask], y[mask]) and not seen[0].off.any()
    assert R.layers[0].kind == "ActivatedLasso" and set(R.layers[0].solution.status) <= {"stationary", "optimal"}
    interval = ci.invert(
        G, y, "latent_pursuit", chunk=3,
        layer_problems={1: lambda r: ci.IntervalBasisPursuit.behind(ci.Tanh(), r.W, r.b, r.y, 1e-9, r.on)},
    )  # fmt: skip
    assert torch.isnan(interval.layers[0].penalty).all() and interval.layers[0].problem.lo.shape == (8, 60)
    assert error(interval.z, z) < 1e-4


def test_layer_problems_that_do_not_fit_are_refused():
    G = net((5, 20, 40))
    _, y = signals(G)

    def lasso(rows: ci.Rows) -> ci.NonnegativeLasso:
        return ci.NonnegativeLasso(rows, 0.0)

    cases: list[tuple[Any, type[Exception], str]] = [
        ([lasso], TypeError, "expected layer_problems as a mapping"),
        ({2: lasso}, ValueError, r"from 0 \(the latent's\) to 1 \(the image's\) in layer_problems, got 2"),
        ({-1: lasso}, ValueError, "got -1"),
        ({True: lasso}, ValueError, "got True"),
        ({"1": lasso}, ValueError, "got '1'"),
        ({1: 0.1}, TypeError, r"layer_problems\[1\] as a callable"),
        ({1: lambda rows: None}, TypeError, r"a layer problem from layer_problems\[1\]"),
        ({1: lambda rows: lasso(rows.take(torch.arange(3)))}, ValueError, "8 signals and 20 unknowns, got 3 and 20"),
    ]
    for chosen, kind, words in cases:
        for method in ("latent_pursuit", "hybrid"):
            with pytest.raises(kind, match=words):
                ci.invert(G, y, method, layer_problems=chosen)
    with pytest.raises(TypeError, match="no option 'layer_problems'"):
        ci.invert(G, y, "oracle", layer_problems={})


@pytest.mark.parametrize("chunk", [20, 40])
def test_what_all_signals_share_is_shared_by_joined_chunks_of_any_size(chunk: int):
    """Also where a chunk has as many signals as the layer has unknowns (20) or rows (40)."""
    G = net((5, 20, 40))
    _, y = signals(G, 2 * chunk)
    sizes, bias = torch.linspace(1, 2, 20).double(), G.layers[1].b

    def make(rows: ci.Rows) -> ci.NonnegativeLasso:
        return ci.NonnegativeLasso(rows.derived(stretch=torch.ones(40).double()), 1e-9, sizes=sizes)

    R = ci.invert(G, y, "latent_pursuit", layer_problems={1: make}, chunk=chunk, on_fail="ignore")
    problem = R.layers[0].problem
    assert torch.equal(problem.sizes, sizes) and torch.equal(problem.rows.stretch, torch.ones(40).double())
    assert torch.equal(problem.rows.b, bias) and torch.equal(R.layers[1].problem.rows.b, G.layers[0].b)
    assert problem.rows.y.shape == (2 * chunk, 40) and problem.lam.shape == (2 * chunk,)
    assert ci.certify(problem, R.layers[0].solution.h).status.tolist() == R.layers[0].solution.status.tolist()
    assert R[chunk : chunk + 1].layers[0].problem.sizes.shape == (20,)


def test_problems_over_other_maps_in_each_chunk_are_not_joined():
    G = net((5, 20, 40))
    _, y = signals(G)

    def scaled(rows: ci.Rows) -> ci.NonnegativeLasso:
        factor = float(len(rows.y))
        W = rows.W.scaled(factor)
        return ci.NonnegativeLasso(replace(rows, W=W, b=factor * rows.b, y=factor * rows.y), 0.0)

    R = ci.invert(G, y, "latent_pursuit", layer_problems={1: scaled}, chunk=3)
    assert R.layers[0].problem is None and R.layers[0].solution.h.shape == (8, 20)
    assert ci.invert(G, y, "latent_pursuit", layer_problems={1: scaled}).layers[0].problem is not None


# --- trained generators ---------------------------------------------------------------------------


@pytest.mark.generators
def test_the_methods_recover_latents_behind_a_trained_sigmoid(real_generator):
    G = real_generator("csinva_vae_20_400_784", dtype=torch.float64)
    z, y = signals(G, 4)
    for method, options in (
        ("oracle", {}),
        ("oracle", {"form": "layered"}),
        ("latent_pursuit", {"debias": None}),
        ("layered_basis_pursuit", {"debias": None}),
    ):
        R = ci.invert(G, y, method, truth=z, **options)
        assert R.verdict.explained.all(), method
        assert float(np.median(R.snr["z"])) >= 250, method


# --- outputs and measurements of the user's own ---------------------------------------------------


class Softplus(ci.AbstractActivation):
    """log(1 + exp(u))."""

    name = "softplus"
    range = (0.0, float("inf"))

    def __call__(self, u: Tensor) -> Tensor:
        return torch.nn.functional.softplus(u, threshold=1e9)

    def derivative(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        return y + torch.log(-torch.expm1(-y))


class NoInverse(ci.AbstractActivation):
    """u + sin(u) / 2, which has an inverse that nobody wrote."""

    name = "wavy"

    def __call__(self, u: Tensor) -> Tensor:
        return u + u.sin() / 2

    def derivative(self, u: Tensor) -> Tensor:
        return 1 + u.cos() / 2


@dataclass(frozen=True, eq=False)
class Blur(ci.AbstractMeasurement):
    """A circular blur with a kernel of three."""

    d: int
    kernel: tuple[float, ...] = (0.25, 0.5, 0.25)

    @property
    def length(self) -> int:
        return self.d

    def observe(self, x: Tensor) -> Tensor:
        return sum(weight * x.roll(k - 1, -1) for k, weight in enumerate(self.kernel))


@dataclass(frozen=True, eq=False)
class Gain(ci.AbstractMeasurement):
    """Each signal times a gain of its own, so that no one map of the image layer serves all."""

    gain: Tensor = one_each()
    d: int = 60

    @property
    def length(self) -> int:
        return self.d

    def observe(self, x: Tensor) -> Tensor:
        return self.gain[:, None].to(x) * x


@pytest.mark.parametrize("form", [None, "preactivation", "interval"])
def test_an_output_of_the_users_own_is_inverted(form: str | None):
    G = net((5, 20, 60), seed=1).with_output(Softplus())
    z, y = signals(G)
    for method in ("latent_pursuit", "hybrid"):
        R = ci.invert(G, y, method, image_layer=form)
        assert R.verdict.explained.all() and error(R.z, z) < 1e-6
        assert (R.layer_status == "optimal").all() and "Softplus" in R.notes[0]


@pytest.mark.parametrize("method", ["levenberg_marquardt", "gradient_descent", "oracle", "layered_basis_pursuit"])
def test_the_other_methods_take_an_output_of_the_users_own(method: str):
    G = net((3, 40, 80), hidden=ci.LeakyReLU(0.5) if method != "layered_basis_pursuit" else ci.ReLU(), seed=1)
    G = G.with_output(Softplus())
    z, y = signals(G, 3)
    R = ci.invert(G, y, method, truth=z, on_fail="ignore")
    assert R.verdict.explained.all() or method == "gradient_descent"
    assert (R.verdict.relative_misfit < 1e-3).all()


def test_an_output_without_an_inverse_is_refused_by_the_layers_and_said_by_hybrid():
    G = net((3, 40, 80), hidden=ci.LeakyReLU(0.5), seed=1).with_output(NoInverse())
    z, y = signals(G, 3)
    for method in ("latent_pursuit", "layered_basis_pursuit", "oracle"):
        with pytest.raises(ValueError, match=r"cannot invert this: its output NoInverse has no inverse.*'hybrid'"):
            ci.invert(G, y, method, truth=z)
    R = ci.invert(G, y)
    assert R.verdict.explained.all() and "no layered start: its output NoInverse has no inverse" in R.notes[0]


@pytest.mark.parametrize("method", ["hybrid", "latent_pursuit", "layered_basis_pursuit", "oracle", "levenberg_marquardt"])
def test_a_measurement_of_the_users_own_is_inverted_as_what_it_is(method: str):
    G = net((5, 20, 60))
    z, x = signals(G)
    blur = Blur(60)
    y = blur.observe(x)
    options: dict[str, Any] = {"restarts": 20} if method == "levenberg_marquardt" else {}
    R = ci.invert(G, y, method, measurement=blur, truth=z, **options)
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6
    assert R.settings["measurement"].endswith("test_methods.Blur")
    if R.layers:
        assert torch.allclose(R.layers[0].problem.rows.W.matrix(), blur.observe(G.layers[-1].W.matrix().T).T)
        assert error(R.layers[0].solution.h, G.hidden(z)[0]) < 1e-6


def test_gradient_descent_follows_the_gradient_of_autograd_behind_a_blur():
    G, blur = net((5, 20, 60), "sigmoid"), Blur(60, (0.1, 0.7, 0.2))
    z, x = signals(G)
    y = blur.observe(x)
    at = (z + 0.3).requires_grad_()
    _, g = gradient(make_task(G, y, blur), at.detach())
    (expected,) = torch.autograd.grad((blur.observe(G(at)) - y).square().sum() / 2, at)
    assert torch.allclose(g, expected, rtol=1e-10, atol=1e-12)
    R = ci.invert(G, y, "gradient_descent", measurement=blur, on_fail="ignore")
    start = ci.invert(G, y, "gradient_descent", measurement=blur, on_fail="ignore", max_iter=2)
    assert (R.verdict.misfit < 0.1 * start.verdict.misfit).all()


def test_a_measurement_that_no_layer_can_be_read_through_is_refused_by_name():
    gain = Gain(torch.linspace(1, 2, 8).double())
    G = net((5, 20, 60))
    z, x = signals(G)
    y = gain.observe(x)
    for method in ("latent_pursuit", "layered_basis_pursuit", "oracle"):
        with pytest.raises(ValueError, match=r"Gain makes no one map of the image layer.*Use method='hybrid'"):
            ci.invert(G, y, method, measurement=gain, truth=z)
    R = ci.invert(G, y, measurement=gain, chunk=3)
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6 and "Gain makes no one map" in R.notes[0]
    for method in ("latent_pursuit", "layered_basis_pursuit", "oracle"):
        with pytest.raises(ValueError, match=r"the measurement .*Blur acts on the signal behind its Tanh"):
            ci.invert(G.with_output("tanh"), x.tanh(), method, measurement=Blur(60), truth=z)
