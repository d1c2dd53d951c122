"""Which units noise leaves on, off or open: the rule against integration and least squares, and what it does to layers."""

from math import log

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from test_inversion import REAL, net, noisy, seeded, signals
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.command.demo import load_shipped
from cvxinv.inversion.steps.evidence import SURE, Evidence, rows_from, weigh_evidence


def evidence(v: list[float], s: float, scale: float) -> Evidence:
    h = torch.tensor([v], dtype=torch.float64)
    return Evidence(h.clamp(min=0), h, torch.full_like(h, s), torch.tensor([scale], dtype=torch.float64))


@pytest.mark.parametrize("s", [0.01, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_odds_are_the_ratio_of_the_two_densities(s: float, scale: float):
    values = [-2.0 * s, -0.5 * s, 0.0, 0.7 * s, 3.0 * s]
    for v, found in zip(values, evidence(values, s, scale).odds[0].exp().tolist(), strict=True):
        top = max(v, 0.0)
        on = sum(
            quad(lambda u: 2 * norm.pdf(u, scale=scale) * norm.pdf(v, loc=u, scale=s), *ends, limit=200)[0]  # noqa: B023
            for ends in ((0, top + 12 * s), (top + 12 * s, top + 24 * s + 12 * scale))
        )
        assert found == pytest.approx(on / norm.pdf(v, scale=s), rel=1e-6)


def test_threshold_is_where_the_odds_are_sure():
    for s in (1e-6, 0.01, 0.3, 1.0, 20.0):
        least = evidence([0.0, 0.0], s, 1.0).threshold[0]
        odds = evidence([float(least[0]) * 1.000001, float(least[0]) * 0.999999], s, 1.0).odds[0]
        assert float(odds[0]) > log(SURE) > float(odds[1])


def test_nothing_is_known_of_units_far_below_their_error():
    found = evidence([0.0, 1.0], 1e3, 1.0)
    assert not found.off.any() and not (found.h > found.threshold).any()
    nothing = Evidence(
        *(torch.zeros(1, 2, dtype=torch.float64) for _ in range(2)), torch.ones(1, 2).double(), torch.zeros(1)
    )
    assert torch.isfinite(nothing.odds).all() and not nothing.off.any()
    y, on, off, weight, level = rows_from(nothing)
    assert not on.any() and not off.any() and level.tolist() == [0.0] and torch.isfinite(y).all() and (weight == 1).all()


def test_one_entry_each_by_hand():
    """W = diag(2, 1), y = (4, -1/2), sigma = 1, lam = 1: h = ((8 - 1) / 4, 0).

    v_1 = 7/4 + 1/4 = 2 with s_1 = 1/2; entry 2 alone would come in at v_2 = -1/2, with s_2^2 = 1 + 1^2: of the noise
    and of the penalty.
    """
    W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    y = torch.tensor([[4.0, -0.5]], dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), torch.zeros(2, dtype=torch.float64), y, torch.ones(1, 2, dtype=torch.bool))
    h = ci.solve(ci.NonnegativeLasso(rows, 1.0)).h
    one = torch.ones(1, dtype=torch.float64)
    found = weigh_evidence(rows, h, one, one, 0 * one, image=True)
    assert torch.allclose(found.v, torch.tensor([[2.0, -0.5]]).double()) and found.scale.tolist() == pytest.approx([7 / 4])
    assert torch.allclose(found.s, torch.tensor([[0.5, 2**0.5]]).double())


@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_least_squares_with_its_standard_errors(seed: int):
    """numpy's lstsq on S, and on S with one more column, gives v and s; weights and masked rows count."""
    W, y = torch.randn(30, 8, generator=seeded(seed)).double(), torch.randn(1, 30, generator=seeded(seed + 9)).double()
    on, weight = torch.rand(1, 30, generator=seeded(7)) < 0.8, torch.rand(1, 30, generator=seeded(8)).double() + 0.5
    rows = ci.Rows(ci.Dense(W), torch.zeros(30, dtype=torch.float64), y, on, torch.zeros_like(on), weight)
    lam, sigma = torch.tensor([[0.5], [1e-3]], dtype=torch.float64)
    h = ci.solve(ci.NonnegativeLasso(rows, 0.5)).h
    found = weigh_evidence(rows, h, lam, sigma, torch.zeros(1).double(), image=True)
    root = weight[0, on[0]].sqrt().numpy()
    A, t, S = W[on[0]].numpy() * root[:, None], y[0, on[0]].numpy() * root, (h[0] > 0).numpy()
    for j in range(8):
        columns = np.flatnonzero(S) if S[j] else [*np.flatnonzero(S), j]
        k = list(columns).index(j)
        expected, inverse = np.linalg.lstsq(A[:, columns], t, rcond=None)[0], np.linalg.inv(A[:, columns].T @ A[:, columns])
        assert float(found.v[0, j]) == pytest.approx(expected[k], rel=1e-9)
        held = 0.0 if S[j] else 0.5 * inverse[k, k]
        assert float(found.s[0, j]) == pytest.approx(np.hypot(1e-3 * inverse[k, k] ** 0.5, held), rel=1e-9)


def test_a_statement_far_above_the_noise_is_not_believed_of_the_image_and_one_below_it_not_further_down():
    W = torch.randn(40, 5, generator=seeded(0)).double()
    h = torch.rand(1, 5, generator=seeded(1)).double() + 0.5
    y = h @ W.T + 0.01 * torch.randn(1, 40, generator=seeded(2)).double()
    rows = ci.Rows(ci.Dense(W), torch.zeros(40, dtype=torch.float64), y, torch.ones(1, 40, dtype=torch.bool))
    found = ci.solve(ci.NonnegativeLasso(rows, 0.0)).h
    none = torch.zeros(1, dtype=torch.float64)
    shown = (rows.residual(found).square().sum() / 35).sqrt()
    for stated, image, expected in ((1.0, True, shown), (1e-4, True, 1e-4), (1e-4, False, shown), (1.0, False, 1.0)):
        s = weigh_evidence(rows, found, none, none + stated, none, image=image).s
        assert torch.allclose(s[0], expected * torch.linalg.inv(W.T @ W).diagonal().sqrt(), rtol=1e-9)


def test_without_a_matrix_the_errors_are_those_of_normal_columns(monkeypatch: pytest.MonkeyPatch):
    """400 rows, 200 columns of normal numbers: off by no more than their spread, and the same units are on."""
    W = torch.randn(400, 200, generator=seeded(0)).double()
    true = (torch.randn(2, 200, generator=seeded(1)).double()).clamp(min=0)
    y = true @ W.T + 0.3 * torch.randn(2, 400, generator=seeded(2)).double()
    rows = ci.Rows(ci.Dense(W), torch.zeros(400, dtype=torch.float64), y, torch.ones(2, 400, dtype=torch.bool))
    lam, sigma, least = torch.full((3, 2), 0.3, dtype=torch.float64) * torch.tensor([[1.0], [1.0], [1e-9]]).double()
    h = ci.solve(ci.NonnegativeLasso(rows, 0.3)).h
    exact = weigh_evidence(rows, h, lam, sigma, least, image=True)
    monkeypatch.setattr("cvxinv.inversion.steps.evidence.LARGEST_FACTOR", 10)
    monkeypatch.setattr("cvxinv.inversion.steps.evidence._least_squares", lambda *a: pytest.fail("a matrix was factored"))
    bare = weigh_evidence(rows, h, lam, sigma, least, image=True)
    assert 0.7 < float((bare.s / exact.s).min()) and float((bare.s / exact.s).max()) < 1.4
    assert float((bare.v - exact.v).abs().max()) < float(exact.s.max())
    same = (bare.h > bare.threshold) == (exact.h > exact.threshold)
    assert float(same.double().mean()) > 0.97
    few = ci.Rows(
        ci.Dense(torch.eye(200).double()[:90]), torch.zeros(90).double(), y[:, :90], torch.ones(2, 90, dtype=torch.bool)
    )
    blind = weigh_evidence(few, h, lam, sigma, least, image=True)
    assert not (blind.h > blind.threshold).any() and not blind.off.any(), "as many unknowns as rows leave nothing sure"
    assert all(torch.isfinite(part).all() for part in rows_from(blind))


# --- what it does to the layers -------------------------------------------------------------------


def readme() -> ci.Generator:
    torch.manual_seed(0)
    parts = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 80), nn.ReLU(), nn.Linear(80, 200)]
    return ci.load_generator(nn.Sequential(*parts).eval())


GENERATORS = {
    "readme": readme,
    "two layers": lambda: net((5, 20, 40)),
    "three layers": lambda: net((8, 30, 60, 100)),
    "digits": lambda: load_shipped()[0],
}


def layered(G: ci.Generator, level: float, exact: bool, norm: str = "l2", N: int = 20) -> tuple[ci.Inversion, Tensor]:
    z = G.sample_latent(N, seeded(1))
    x = G(z)
    y, e = noisy(x, level, seed=2)
    bound = e.norm(dim=1) * 1.001 if norm == "l2" else e.abs().amax(1)
    return ci.invert(G, x if exact else y, "latent_pursuit", noise=(norm, bound), on_fail="ignore", truth=z), z


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("level", "exact"), [(0.05, True), (0.2, True), (0.01, False), (0.05, False), (0.2, False)])
def test_layers_in_noise_are_feasible_and_lead_to_the_signal(name: str, level: float, exact: bool):
    """The rule before this one, a share of max h, left 14 to 20 of 20 with infeasible layers from 5 % on."""
    R, z = layered(GENERATORS[name](), level, exact)
    assert int((R.layer_status == "infeasible").any(1).sum()) <= 1
    assert int(R.verdict.explained.sum()) >= 18
    if exact:
        assert float(((R.z - z).norm(dim=1) / z.norm(dim=1)).median()) < 1e-10, "a bound above the noise costs nothing"


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_units_that_count_as_on_or_off_mostly_are(level: float):
    G = GENERATORS["three layers"]()
    R, z = layered(G, level, exact=False, N=60)
    wrong = sure = 0
    for above, below in zip(R.layers, R.layers[1:], strict=False):
        true, rows = G.hidden(z)[above.index - 1] > 0, below.problem.rows
        assert torch.equal(above.on, rows.on) and not (rows.on & rows.off).any()
        wrong += int((rows.on & ~true).sum() + (rows.off & true).sum())
        sure += int((rows.on | rows.off).sum())
    assert wrong < 0.05 * sure and sure > 0.5 * 60 * 90  # odds of 9 are the least that counts


def test_a_signal_does_not_depend_on_its_neighbours_or_on_the_unit():
    G = GENERATORS["three layers"]()
    _, x = signals(G, 6)
    y, e = noisy(x, 0.05)
    bound = e.norm(dim=1)
    bound[2] = 0.0  # exact by its statement, beside noisy ones
    whole = ci.invert(G, y, "latent_pursuit", noise=("l2", bound), on_fail="ignore")
    for part in (
        ci.invert(G, y[k : k + 1], "latent_pursuit", noise=("l2", bound[k : k + 1]), on_fail="ignore") for k in (2, 3)
    ):
        k = 2 if float(part.verdict.explained_below) == 0 else 3
        for a, b in zip(part.layers, whole.layers, strict=True):
            assert torch.equal(a.on[0], b.on[k]) and torch.allclose(a.threshold.expand(1, -1)[0], b.threshold[k], rtol=1e-6)
    last = G.layers[-1]
    for unit in (1e-7, 1e7):
        scaled = ci.Layer(ci.Dense(unit * last.W.matrix()), unit * last.b, last.activation)
        S = ci.Generator((*G.layers[:-1], scaled), G.signal_shape, {})
        R = ci.invert(S, unit * y, "latent_pursuit", noise=("l2", unit * bound), on_fail="ignore")
        assert all(torch.equal(a.on, b.on) for a, b in zip(R.layers, whole.layers, strict=True))


@pytest.mark.parametrize("level", [3.0, 1e6])
def test_noise_above_the_signal_leaves_nothing_sure_and_breaks_nothing(level: float):
    G = GENERATORS["two layers"]()
    _, x = signals(G)
    for y in (x, noisy(x, level)[0], torch.zeros_like(x) + G.layers[-1].b):
        R = ci.invert(G, y, "latent_pursuit", noise=("l2", level * x.norm(dim=1)), on_fail="ignore")
        assert torch.isfinite(R.z).all() and not (R.layer_status == "numerical_error").any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_behind_a_sigmoid_noise_makes_no_layer_infeasible(norm: str):
    for level in (0.01, 0.05):
        R, _ = layered(net((6, 30, 120), "sigmoid"), level, exact=False, norm=norm)
        assert int((R.layer_status == "infeasible").any(1).sum()) <= 1
        assert R.layers[0].kind == "NonnegativeLasso"


@pytest.mark.generators
@pytest.mark.parametrize("name", [n for n in REAL if "leaky" not in n])
@pytest.mark.parametrize("output", ["identity", None])
def test_layers_of_real_decoders_are_feasible_in_noise(real_generator, name: str, output: str | None):
    for level, exact in ((0.05, True), (0.01, False), (0.05, False)):
        R, _ = layered(real_generator(name, output=output), level, exact, N=8)
        assert int((R.layer_status == "infeasible").any(1).sum()) <= 2
        assert int(R.verdict.explained.sum()) >= 5
