"""Wasserstein barycenters: hand answers, CVXPY on 8x8 digits, bounds that hold for anything, priors, and bad input."""

import math
import sys

import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.files import read_array
from cvxinv.shipped import shipped_file
from cvxinv.sparse_models.barycenters import (
    Barycenters,
    certify_barycenter,
    entropic_barycenters,
    exact_barycenter,
    scale,
)
from cvxinv.sparse_models.constrained_barycenters import constrained_barycenters
from cvxinv.sparse_models.mass_priors import GeneratorRange, SparsePrior, floor_of
from cvxinv.sparse_models.transport import as_masses, displaced, log_kernel, pixel_costs, transport_plan

GRID = (8, 8)


def unit(place, n=9):
    x = torch.zeros(n, dtype=torch.float64)
    x[place] = 1
    return x


def on_a_line(t, eps):
    """Unit masses at 2 and 6 of nine pixels in a row, with weights (1 - t, t)."""
    return Barycenters(torch.stack([unit(2), unit(6)])[None], torch.tensor([[1 - t, t]], dtype=torch.float64), (1, 9), eps)


def sample():
    with shipped_file("digits_sample") as path:
        return read_array(path, ("images",))[0].double().reshape(-1, 64)


@pytest.fixture(scope="module")
def digits():
    return as_masses(sample()).x


@pytest.fixture(scope="module")
def between(digits):
    """One barycenter halfway between a 0 and a 1, eps = 0.5 px^2."""
    return Barycenters(digits[None, :2].clone(), torch.full((1, 2), 0.5, dtype=torch.float64), GRID, 0.5)


# --- hand answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.5, 0.25])
def test_the_barycenter_of_two_unit_masses_is_halfway_between_them(t: float):
    """m = 2 (1 - t) + 6 t. Exact: all mass at m = 4 costs 1/2 4 + 1/2 4 = 4, at m = 3 3/4 1 + 1/4 9 = 3. Entropic: plans
    are y itself, so y_j goes with exp(-(1 - t)(j - 2)^2 / eps - t (j - 6)^2 / eps), that is with exp(-(j - m)^2 / eps)."""
    m = 2 * (1 - t) + 6 * t
    exact = exact_barycenter(torch.stack([unit(2), unit(6)]), torch.tensor([1 - t, t], dtype=torch.float64), (1, 9))
    assert torch.allclose(exact.y, unit(round(m)), atol=1e-12)
    assert exact.objective == pytest.approx({0.5: 4.0, 0.25: 3.0}[t], abs=1e-9)
    assert exact.bound == pytest.approx(exact.objective, abs=1e-9)
    eps = 0.7
    found, certificate = entropic_barycenters(on_a_line(t, eps))
    hand = torch.exp(-((torch.arange(9, dtype=torch.float64) - m) ** 2) / eps)
    assert torch.allclose(found.y[0], hand / hand.sum(), atol=1e-12)
    assert abs(float(certificate.gap)) < 1e-9 and float(certificate.mass) < 1e-12


def test_atoms_at_3_and_5_share_what_is_halfway_between_2_and_6():
    """y = s at 3 and 1 - s at 5 costs 1/2 (s + 9 (1 - s)) + 1/2 (9 s + 1 - s) = 5 whatever s is, and the entropy of the two
    plans, y itself, makes s = 1/2 the best: 5 - eps log 2."""
    atoms = torch.stack([unit(3), unit(5)], 1)
    for prior in (SparsePrior(atoms, 1.0, True), SparsePrior(atoms, 1.0)):
        found = constrained_barycenters(on_a_line(0.5, 0.5), prior, tol=1e-4, max_iter=200)
        assert found.status.tolist() == ["optimal"], found
        assert torch.allclose(found.w[0], 0.5 * (unit(3) + unit(5)), atol=1e-4)
        best = 5 - 0.5 * math.log(2)
        assert float(found.certificate.objective) == pytest.approx(best, abs=5e-4)
        assert best - 1e-3 < float(found.certificate.bound) < best + 1e-9


def test_a_prior_that_holds_no_mass_of_sum_1_is_proved_infeasible():
    found = constrained_barycenters(on_a_line(0.5, 0.5), SparsePrior(torch.stack([unit(3), unit(5)], 1), 0.5), max_iter=60)
    assert found.status.tolist() == ["infeasible"]
    assert float(found.certificate.bound) > 64, "the largest cost of the grid is 8^2"


def test_a_moved_picture_costs_its_way_squared_and_is_halfway_in_between():
    picture = torch.zeros(6, 7, dtype=torch.float64)
    picture[1:3, 1:4] = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    moved = picture.roll((2, 2), (0, 1))
    x, y = as_masses(torch.stack([picture.flatten(), moved.flatten()])).x
    plans = [transport_plan(x, y, (6, 7), planner) for planner in ("highs", "pot")]
    for plan in plans:
        assert float((plan * pixel_costs((6, 7), x)).sum()) == pytest.approx(8, abs=1e-9)
        assert torch.allclose(plan.sum(1), x, atol=1e-12) and torch.allclose(plan.sum(0), y, atol=1e-12)
        start, half, end, part = displaced(plan, (6, 7), torch.tensor([0.0, 0.5, 1.0, 0.25]))
        assert torch.allclose(start, x) and torch.allclose(end, y)
        assert torch.allclose(half.reshape(6, 7), x.reshape(6, 7).roll((1, 1), (0, 1)), atol=1e-12)
        # a quarter of two pixels is half a pixel each way: a quarter of every mass on each of four pixels
        assert float(part.reshape(6, 7)[1, 1]) == pytest.approx(float(x.reshape(6, 7)[1, 1]) / 4)
        assert part.sum() == pytest.approx(1, abs=1e-12)


def test_the_kernel_is_applied_without_losing_what_underflows():
    draw = torch.Generator().manual_seed(0)
    v = torch.randn(3, 2, 42, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 300, 3000])[:, None, None]
    v[:, :, ::3] = -float("inf")
    v[0, 0, :39] = -float("inf")
    for eps in (0.02, 1.0, 30.0):
        dense = torch.logsumexp(v[..., None, :] - pixel_costs((6, 7), v) / eps, -1)
        assert torch.allclose(log_kernel(v, (6, 7), eps), dense, rtol=1e-12)


# --- against CVXPY ------------------------------------------------------------------------------------


def test_entropic_and_pulled_barycenters_are_those_of_cvxpy(between: Barycenters, digits: torch.Tensor):
    found, certificate = entropic_barycenters(between)
    statement, y = between.statement(0)
    best = statement.solve("CLARABEL")
    assert float(certificate.objective) == pytest.approx(best, abs=1e-6)
    assert abs(float(certificate.gap)) < 1e-7
    assert np.abs(y.value - found.y[0].numpy()).max() < 1e-5
    # the y-step of the ADMM, with Lambert's W
    rho, q = 300.0, 0.7 * digits[2] + 0.001
    pulled = scale(between, pull=(torch.tensor([rho], dtype=torch.float64), q[None]))
    own = certify_barycenter(between, pulled.y, pulled.g)
    statement, y = between.statement(0, rho=rho, q=q.numpy())
    best = statement.solve("CLARABEL")
    assert float(own.objective) + rho / 2 * float(((pulled.y - q) ** 2).sum()) == pytest.approx(best, abs=1e-6)
    assert float(pulled.y.sum()) == pytest.approx(1, abs=1e-12)


def test_the_exact_barycenter_is_that_of_cvxpy_and_below_every_other(digits: torch.Tensor):
    import cvxpy as cp

    x = digits[:2].reshape(2, 4, 2, 4, 2).sum((2, 4)).reshape(2, 16)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    found = exact_barycenter(x, weights, (4, 4))
    C, plans, y = pixel_costs((4, 4), x).numpy(), [cp.Variable((16, 16), nonneg=True) for _ in x], cp.Variable(16)
    cost = sum(float(t) * cp.sum(cp.multiply(C, P)) for t, P in zip(weights, plans, strict=True))
    marginals = [cp.sum(P, axis=1) == row.numpy() for P, row in zip(plans, x, strict=True)]
    best = cp.Problem(cp.Minimize(cost), marginals + [cp.sum(P, axis=0) == y for P in plans]).solve("CLARABEL")
    assert found.objective == pytest.approx(best, abs=1e-7)
    assert found.bound == pytest.approx(found.objective, abs=1e-9)
    # a smaller eps comes closer to it from above, in transport alone
    far, near = (
        float(entropic_barycenters(Barycenters(x[None], weights[None], (4, 4), eps))[1].transport) for eps in (1.0, 0.1)
    )
    assert found.objective - 1e-9 <= near < far


@pytest.mark.parametrize("nonnegative", [True, False])
def test_the_sparse_prior_is_met_as_cvxpy_meets_it(between: Barycenters, digits: torch.Tensor, nonnegative: bool):
    prior = SparsePrior(digits[2:26].T.clone(), 1.2, nonnegative)
    found = constrained_barycenters(between, prior, tol=1e-4, max_iter=300)
    best = between.statement(0, prior=prior)[0].solve("CLARABEL")
    assert found.status.tolist() == ["optimal"], found
    assert float(found.certificate.objective) == pytest.approx(best, abs=1e-4)
    assert best - 1e-4 < float(found.certificate.bound) <= best + 1e-7
    assert float(found.known.abs().sum()) <= 1.2 + 1e-9
    assert float(found.certificate.mass) < 1e-9
    # the residuals fall: by a factor of a thousand from the first to the last
    primal, dual = found.residuals.primal[:, 0], found.residuals.dual[:, 0]
    assert float(primal[-1]) < 1e-3 * float(primal[0]) and float(dual[-1]) < 1e-3 * float(dual[0])
    assert float(entropic_barycenters(between)[1].objective) < best, "the prior costs something"


def test_the_projection_on_sparse_codes_is_that_of_cvxpy(digits: torch.Tensor):
    import cvxpy as cp

    D, v = digits[10:40].T.clone(), digits[:3] - 0.5 * digits[3:6]
    for nonnegative in (True, False):
        prior = SparsePrior(D, 0.6, nonnegative)
        w = prior.project(v).w
        for row, point in zip(v, w, strict=True):
            near = cp.Variable(64)
            cp.Problem(cp.Minimize(cp.sum_squares(near - row.numpy())), prior.stated(cp, near)).solve("CLARABEL")
            assert np.abs(near.value - point.numpy()).max() < 1e-5


# --- bounds -------------------------------------------------------------------------------------------


def test_the_bound_holds_for_any_multipliers_and_the_objective_for_any_y(between: Barycenters, digits: torch.Tensor):
    draw = torch.Generator().manual_seed(1)
    best, prior = entropic_barycenters(between)[1], SparsePrior(digits[2:26].T.clone(), 1.2, True)
    least = float(constrained_barycenters(between, prior, max_iter=60).certificate.bound)
    for size in (0.1, 1.0, 10.0):
        g = size * torch.randn(1, 2, 64, generator=draw, dtype=torch.float64)
        price = size * torch.randn(1, 64, generator=draw, dtype=torch.float64)
        y = torch.rand(1, 64, generator=draw, dtype=torch.float64) ** 4
        certificate = certify_barycenter(between, y / y.sum(), g)
        assert float(certificate.bound) <= float(best.objective) + 1e-9
        assert float(certificate.objective) >= float(best.bound) - 1e-9
        priced = certify_barycenter(between, y / y.sum(), g, price=price, worth=prior.worth(price))
        member = digits[2:26].mean(0)[None]  # a mean of atoms is in the prior's set
        itself = scale(between, fixed=member)
        assert float(priced.bound) <= float(certify_barycenter(between, member, itself.g).objective) + 1e-9
    assert least >= float(best.bound) - 1e-6, "a prior costs something"


# --- a generator's range ------------------------------------------------------------------------------


def test_frames_in_the_range_of_a_generator_are_there_and_cost_no_less_than_the_bound(digits: torch.Tensor):
    with shipped_file("digits_8x8") as path:
        G = ci.load_generator(path, dtype=torch.float64)
    given = as_masses(sample()[:2])
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    total = (1 - t) * given.total[0] + t * given.total[1]
    problem = Barycenters(given.x[None].expand(2, 2, 64).clone(), torch.stack([1 - t, t], 1), GRID, 0.5)
    found = constrained_barycenters(problem, GeneratorRange(G, total, restarts=1), max_iter=4)
    assert torch.allclose(total[:, None] * found.w, G(found.known.z), atol=1e-12)
    assert set(found.known.verdict.status.tolist()) <= {"stationary", "explained"}
    assert torch.allclose(found.distance, (found.y - found.w).norm(dim=1))
    assert bool((found.certificate.gap > 0).all()) and float((found.y.sum(1) - 1).abs().max()) < 1e-9
    one = constrained_barycenters(problem, GeneratorRange(G, total, restarts=1), max_iter=1)
    assert bool((found.certificate.objective <= one.certificate.objective + 1e-3).all()), "the best iterate is kept"
    with pytest.raises(ValueError, match="which may be negative"):
        floor_of(G, None)
    assert floor_of(G.with_output("tanh"), None) == -1 and floor_of(G, 0) == 0


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: as_masses(-p), "no mass below 0"),
        (lambda p: as_masses(0 * p), "pictures with mass"),
        (lambda p: as_masses(p / 0), "NaN or inf"),
        (lambda p: as_masses(p[0]), r"shape \(N, pixels\)"),
        (lambda p: Barycenters(p[None, :2], torch.tensor([[0.5, 0.6]]).double(), GRID), "weights of sum 1"),
        (lambda p: Barycenters(p[None, :2], torch.tensor([[0.5, 0.5]]).double(), (4, 4)), "grid"),
        (lambda p: Barycenters(p[None, :2], torch.tensor([[0.5, 0.5]]).double(), GRID, -1.0), "eps"),
        (lambda p: Barycenters(p[None, :0], torch.ones(1, 0).double(), GRID), "none of them 0"),
        (lambda p: Barycenters(p[None, :2][:0], torch.ones(0, 2).double(), GRID), "none of them 0"),
        (lambda p: Barycenters(p[None, :2].float(), torch.tensor([[0.5, 0.5]]).double(), GRID), "float64"),
        (lambda p: SparsePrior(p.T, 0.0), "radius must be > 0"),
        (lambda p: SparsePrior(0 * p.T, 1.0), "not all 0"),
        (lambda p: SparsePrior(p.T, 1.0).check(16), "atoms of 16 pixels"),
        (lambda p: transport_plan(p[0], p[1], GRID, "simplex"), "planner"),
        (lambda p: transport_plan(torch.ones(90 * 90), torch.ones(90 * 90), (90, 90)), "at most 4096 pixels"),
    ],
)
def test_bad_input_is_refused_with_its_cure(digits: torch.Tensor, change, words: str):
    with pytest.raises(ValueError, match=words):
        change(digits)


def test_without_pot_the_error_says_what_to_install(digits: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ci.BackendNotInstalledError, match="pip install pot"):
        transport_plan(digits[0], digits[1], GRID, "pot")
    assert float(transport_plan(digits[0], digits[1], GRID).sum()) == pytest.approx(1)
