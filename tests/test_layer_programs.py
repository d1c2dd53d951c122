"""Layered linear programs: exact where the layers are, linear in the noise, deaf to a few entries that are far off."""

import math
from itertools import pairwise

import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.inversion.methods.layered_linear_programs import _next_eps, _Output, _rows
from cvxinv.inversion.steps.relaxed import relaxed_rows

NORMS = ("linf", "l1")


def bias_free(*dims: int, hidden: ci.AbstractActivation, seed: int = 0) -> ci.Generator:
    """W_i ~ N(0, 1 / n_i), the activation behind every layer, the output too."""
    draw = seeded(seed)
    layers = [
        ci.Layer(ci.Dense(torch.randn(m, n, generator=draw, dtype=torch.float64) / m**0.5), torch.zeros(m).double(), hidden)
        for n, m in pairwise(dims)
    ]
    return ci.Generator(tuple(layers), (dims[-1],), {})


def uniform(like: Tensor, a: float) -> Tensor:
    return a * (2 * torch.rand(like.shape, generator=seeded(9), dtype=torch.float64) - 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.1)], ids=["relu", "leaky"])
@pytest.mark.parametrize("output", ["identity", "relu", "leaky_relu:0.2", "tanh", "sigmoid"])
def test_clean_signals_are_inverted_exactly_and_every_layer_is_certified(norm: str, hidden: ci.ReLU, output: str):
    G = net((5, 20, 120), output, hidden, seed=1)
    z, y = signals(G)
    for measurement in (None, torch.rand(120, generator=seeded(5)) < 0.75):
        R = ci.invert(G, y, "layered_linear_programs", norm=norm, debias=None, measurement=measurement)
        assert R.verdict.explained.all() and error(R.z, z) < 1e-9
        assert len(R.layers) == 2 and all((layer.solution.status == "optimal").all() for layer in R.layers)


def test_a_net_worked_by_hand_takes_its_noise_in_the_largest_misfit():
    """W = (1; 1; -1) behind a ReLU, y = (2.1, 1.9, 0): z = 2, delta = 0.1. With y_3 = 0.4 and eps = 0.5 row 3 is off."""
    W = torch.tensor([[1.0], [1.0], [-1.0]], dtype=torch.float64)
    G = ci.Generator((ci.Layer(ci.Dense(W), torch.zeros(3).double(), ci.ReLU()),), (3,), {})
    y = torch.tensor([[2.1, 1.9, 0.0], [2.1, 1.9, 0.4]], dtype=torch.float64)
    R = ci.invert(G, y, "layered_linear_programs", eps=0.5, debias=None, on_fail="ignore")
    assert R.z[:, 0].tolist() == pytest.approx([2.0, 2.0], abs=1e-9)
    assert R.layers[0].solution.certificate.objective.tolist() == pytest.approx([0.1, 0.1], abs=1e-9)


def test_eps_grows_in_steps_of_growth_until_the_optimum_is_within_it():
    G = bias_free(4, 40, hidden=ci.ReLU())
    x = signals(G)[1]
    y = x + uniform(x, 1e-3)
    grown = ci.invert(G, y, "layered_linear_programs", eps=1e-5, debias=None, on_fail="ignore").layers[0]
    k = torch.log(grown.threshold / 1e-5) / math.log(1.2)
    assert ((k - k.round()).abs() < 1e-6).all() and (k > 10).all() and "eps grew in 8 signals" in grown.remark
    optimum = grown.solution.certificate.objective
    assert (optimum <= grown.threshold * (1 + 1e-5)).all()
    # step by step, as the source does: no earlier eps is within reach
    given = _Output(G.layers[0].W, G.layers[0].b, G.output, y, torch.ones_like(y, dtype=torch.bool))
    for steps in range(int(k.min())):
        eps = torch.full((8,), 1e-5 * 1.2**steps, dtype=torch.float64)
        best = ci.solve(ci.LinfFit(_rows(given, eps))).certificate.objective
        assert (best > eps)[k.round() > steps].all(), steps
    assert (_next_eps(given, grown.threshold, optimum, 1.2) > grown.threshold).all()
    stopped = ci.invert(G, y, "layered_linear_programs", eps=1e-5, rounds=0, debias=None, on_fail="ignore").layers[0]
    assert "eps is below the optimum in 8 signals" in stopped.remark


def test_the_error_grows_like_the_noise():
    G = bias_free(10, 50, 250, hidden=ci.ReLU())
    z = normal(6, 10, seed=3)
    errors = []
    for a in (1e-5, 1e-3):
        R = ci.invert(
            G, G(z) + uniform(G(z), a), "layered_linear_programs", noise=("linf", a), debias=None, on_fail="ignore"
        )
        errors.append(float(((R.z - z).norm(dim=1) / z.norm(dim=1)).median()))
    assert 30 < errors[1] / errors[0] < 300 and errors[0] < 1e-4


def test_a_few_entries_that_are_far_off_move_the_sum_by_nothing_and_the_largest_by_much():
    G = net((5, 20, 120), hidden=ci.LeakyReLU(0.1), seed=1)
    z, x = signals(G)
    y = x.clone()
    y[:, ::20] += 3.0
    bound = float((y - x).abs().sum(1).max())
    summed = ci.invert(G, y, "layered_linear_programs", noise=("l1", bound), debias=None)
    largest = ci.invert(G, y, "layered_linear_programs", norm="linf", noise=("l1", bound), debias=None, on_fail="ignore")
    assert error(summed.z, z) < 1e-9 and error(largest.z, z) > 1e-2
    assert {layer.kind for layer in summed.layers} == {"L1Fit"}


def test_sums_read_as_0_what_noise_in_every_entry_makes_of_a_hidden_0():
    G = bias_free(10, 40, 80, 300, hidden=ci.ReLU())
    z, x = signals(G, 8)
    R = ci.invert(G, x + uniform(x, 1e-6), "layered_linear_programs", norm="l1", eps=1e-6, debias=None, on_fail="ignore")
    assert float(((R.z - z).norm(dim=1) / z.norm(dim=1)).median()) < 1e-4


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_of_weights_and_signals_do_not_matter(scale: float):
    G = bias_free(5, 30, 120, hidden=ci.ReLU())
    z = normal(4, 5, seed=3)
    for which in (0, 1):
        scaled = [
            ci.Layer(ci.Dense(layer.W.matrix() * (scale if k == which else 1.0)), layer.b, layer.activation)
            for k, layer in enumerate(G.layers)
        ]
        H = ci.Generator(tuple(scaled), (120,), {})
        assert error(ci.invert(H, H(z), "layered_linear_programs", debias=None).z, z) < 1e-9


# --- the relaxed program --------------------------------------------------------------------------


HIDDEN = pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.1)], ids=["relu", "leaky"])


def test_relaxed_eps_grows_while_the_misfit_falls_and_the_last_that_improved_is_kept():
    """W = (1, 1, 1, -1), z = the lowest end. y = (2.1, 1.9, 1.9, 0): z = 1.9 + eps, misfit 0.2 + eps, which never falls.

    y = (2.1, 2.1, 1.9, 0): misfit 0.4 - eps up to eps = 0.2, beyond it 3 eps - 0.4: eps = 0.1, 0.12, 0.144, 0.1728, 0.20736
    give 0.3, 0.28, 0.256, 0.2272, 0.22208, and 0.248832 gives 0.346.
    """
    W = torch.tensor([[1.0], [1.0], [1.0], [-1.0]], dtype=torch.float64)
    G = ci.Generator((ci.Layer(ci.Dense(W), torch.zeros(4).double(), ci.ReLU()),), (4,), {})
    y = torch.tensor([[2.1, 1.9, 1.9, 0.0], [2.1, 2.1, 1.9, 0.0]], dtype=torch.float64)
    R = ci.invert(G, y, "layered_linear_programs", norm="relaxed", eps=0.1, debias=None, on_fail="ignore")
    assert R.z[:, 0].tolist() == pytest.approx([2.0, 2.10736], abs=1e-6)
    assert R.layers[0].threshold.tolist() == pytest.approx([0.1, 0.20736])
    assert R.layers[0].kind == "RelaxedFit" and "eps grew in 1 signals" in R.layers[0].remark
    stopped = ci.invert(G, y, "layered_linear_programs", norm="relaxed", eps=0.1, rounds=2, debias=None, on_fail="ignore")
    assert stopped.layers[0].threshold.tolist() == pytest.approx([0.1, 0.144])


@pytest.mark.parametrize("output", [ci.ReLU(), ci.LeakyReLU(0.2), ci.Identity()], ids=["relu", "leaky", "identity"])
def test_relaxed_rows_hold_the_truth_whatever_noise_within_eps_makes_of_it(output: ci.AbstractActivation):
    W, b, eps = ci.Dense(normal(40, 6, seed=1)), normal(40, seed=2), torch.tensor([1e-3, 0.1, 1.0], dtype=torch.float64)
    h, seen = normal(3, 6, seed=3), torch.rand(3, 40, generator=seeded(4)) < 0.8
    x = output(W(h) + b)
    x = x + eps[:, None] * uniform(x, 1.0)
    rows = relaxed_rows(W, b, output, x, seen, eps)
    problem = ci.RelaxedFit(rows)
    assert float(problem.violation(h).max()) < 1e-12
    known = rows.on | rows.off
    assert torch.equal(known if output.cuts else known[:, :40] & known[:, 40:], seen)
    # what is paid for is x'v: the objective differs from - x'v by what h does not change
    v, other = W(h) + b, W(2 * h) + b
    paid = torch.where(seen & (x >= 2 * eps[:, None]) if output.cuts else seen, x / x.abs().amax(1, keepdim=True), 0.0)
    moved = problem.misfit.value(h) - (paid * (other - v)).sum(1)
    room = rows.fit.sqrt() * (rows.y - rows.W(2 * h) - rows.b)
    torch.testing.assert_close(room.sum(1), moved)


@HIDDEN
def test_relaxed_programs_without_bias_are_feasible_whatever_the_signal_is(hidden: ci.ReLU):
    G = bias_free(5, 30, 120, hidden=hidden)
    y = torch.cat([normal(3, 120, seed=5), 10 * G(normal(2, 5, seed=6)) + normal(2, 120, seed=7)])
    for eps in (1e-2, 10.0):
        R = ci.invert(G, y, "layered_linear_programs", norm="relaxed", eps=eps, debias=None, on_fail="ignore")
        assert all((layer.solution.status == "optimal").all() for layer in R.layers), (eps, R.layers)


def test_a_bias_that_leaves_no_h_makes_eps_grow_until_there_is_one():
    """Rows z + 3 and 3 - z read 0: z <= eps - 3 and z >= 3 - eps, so eps >= 3; 0.1 1.2^(8 k) first is above it at k = 3."""
    W, b = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64), torch.tensor([3.0, 3.0, 0.0], dtype=torch.float64)
    G = ci.Generator((ci.Layer(ci.Dense(W), b, ci.ReLU()),), (3,), {})
    y = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    words = {"norm": "relaxed", "eps": 0.1, "debias": None, "on_fail": "ignore"}
    layer = ci.invert(G, y, "layered_linear_programs", **words).layers[0]
    assert (layer.solution.status == "optimal").all() and float(layer.threshold) == pytest.approx(0.1 * 1.2**24)
    none = ci.invert(G, y, "layered_linear_programs", rounds=1, **words).layers[0]
    assert (none.solution.status == "infeasible").all() and "biases leave no h in 1 signals" in none.remark


@HIDDEN
@pytest.mark.parametrize("output", ["identity", "relu", "leaky_relu:0.2"])
def test_relaxed_programs_invert_clean_signals_to_their_eps_and_certify_every_layer(hidden: ci.ReLU, output: str):
    G = net((5, 20, 120), output, hidden, seed=1)
    z, y = signals(G)
    for measurement in (None, torch.rand(120, generator=seeded(5)) < 0.75):
        words = {"norm": "relaxed", "debias": None, "measurement": measurement}
        R = ci.invert(G, y, "layered_linear_programs", **words)
        assert error(R.z, z) < 1e-6 and all((layer.solution.status == "optimal").all() for layer in R.layers)


def test_one_signal_of_relaxed_programs_is_no_matter_of_its_neighbours():
    G = bias_free(5, 30, 120, hidden=ci.ReLU())
    y = G(normal(4, 5, seed=3)) + 0.01 * normal(4, 120, seed=4)
    y[2] = torch.nan
    words = {"norm": "relaxed", "noise": ("gaussian", 0.01), "debias": None, "on_fail": "ignore"}
    together = ci.invert(G, y, "layered_linear_programs", **words)
    alone = ci.invert(G, y[3:], "layered_linear_programs", **words)
    torch.testing.assert_close(together.z[3:], alone.z, rtol=1e-6, atol=1e-9)


def test_what_it_cannot_do_is_refused_by_name():
    G = net((5, 20, 40))
    y = signals(G)[1]
    with pytest.raises(ValueError, match="unknown norm 'l2'"):
        ci.LayeredLinearPrograms(norm="l2")
    with pytest.raises(ValueError, match="expected pixels behind an identity, ReLU or LeakyReLU for norm='relaxed'"):
        ci.invert(G.with_output("tanh"), y.tanh(), "layered_linear_programs", norm="relaxed")
    with pytest.raises(ValueError, match="expected pixels behind an identity, ReLU or LeakyReLU for norm='relaxed'"):
        ci.invert(
            G, y @ normal(30, 40, seed=1).T, "layered_linear_programs", norm="relaxed", measurement=normal(30, 40, seed=1)
        )
    with pytest.raises(ValueError, match="growth must be a number"):
        ci.LayeredLinearPrograms(growth=1.0)
    with pytest.raises(ValueError, match="eps must be >= 0"):
        ci.invert(G, y, "layered_linear_programs", eps=-1.0)
    with pytest.raises(ValueError, match="layered_linear_programs cannot invert this: layer 1 has 4 seen rows"):
        ci.invert(G, y, "layered_linear_programs", measurement=torch.arange(40) < 4)
    with pytest.raises(ValueError, match="matrix acts on the signal behind its Tanh"):
        A = normal(50, 40, seed=1)
        ci.invert(G.with_output("tanh"), y.tanh() @ A.T, "layered_linear_programs", measurement=A)


@pytest.mark.generators
@pytest.mark.parametrize("norm", NORMS)
def test_trained_decoders_are_inverted_where_enough_rows_are_positive(norm: str, real_generator):
    for name, output in (("lei_vae_relu_20_60_784_nobias", "relu"), ("lei_vae_leaky_20_200_500_784_nobias", "leaky_relu")):
        G = real_generator(name).to(torch.float64).with_output(output)
        z = G.sample_latent(6, seeded(0))
        R = ci.invert(G, G(z), "layered_linear_programs", norm=norm, debias=None, on_fail="ignore")
        enough = (G(z) > 0).sum(1) >= G.layers[-1].W.n if output == "relu" else torch.ones(6, dtype=torch.bool)
        assert int(enough.sum()) >= 4
        found = (R.z - z).norm(dim=1) / z.norm(dim=1)
        assert float(found[enough].max()) < 1e-9
        assert all((layer.solution.status == "optimal").all() for layer in R.layers)


@pytest.mark.generators
def test_a_trained_decoder_is_inverted_by_relaxed_programs_and_their_objectives_are_those_of_highs(real_generator):
    G = real_generator("lei_vae_relu_20_60_784_nobias").to(torch.float64).with_output("relu")
    z = G.sample_latent(4, seeded(0))
    R = ci.invert(G, G(z), "layered_linear_programs", norm="relaxed", eps=1e-4, debias=None, on_fail="ignore")
    for layer in R.layers:
        other = ci.solve(layer.problem, "HIGHS", on_fail="ignore").certificate
        assert (layer.solution.status == "optimal").all()
        torch.testing.assert_close(layer.solution.certificate.objective, other.objective, rtol=1e-6, atol=1e-9)
    assert ((R.z - z).norm(dim=1) / z.norm(dim=1)).max() < 1e-2


def test_debiasing_under_l1_noise_keeps_what_the_programs_found():
    G = bias_free(6, 24, 120, hidden=ci.ReLU(), seed=2)
    z, y = signals(G, 4)
    off = torch.zeros_like(y)
    off[:, 3::40] = 0.5
    R = ci.invert(G, y + off, "layered_linear_programs", noise=("l1", float(off.sum(1).max())))
    assert R.verdict.explained.all() and error(R.z, z) < 1e-8


@pytest.mark.parametrize("kind", ["LinfFit", "L1Fit", "RelaxedFit", "NonnegativeLinfFit", "NonnegativeL1Fit"])
def test_columns_of_different_length_make_a_fit_no_harder(kind: str):
    draw = torch.Generator().manual_seed(0)
    W = torch.randn(12, 9, generator=draw, dtype=torch.float64) * 10 ** torch.linspace(-4, 4, 9, dtype=torch.float64)
    noise = torch.randn(1, 12, generator=draw, dtype=torch.float64)
    y = torch.randn(1, 9, generator=draw, dtype=torch.float64).abs() @ W.T + 0.1 * W.abs().max() * noise
    rows = ci.Rows(ci.Dense(W), torch.zeros(12, dtype=torch.float64), y, on=torch.ones(1, 12, dtype=torch.bool))
    found, exact = (ci.solve(getattr(ci, kind)(rows), *solver, on_fail="ignore") for solver in ((), ("HIGHS",)))
    assert found.status[0] == exact.status[0] == "optimal"
    a, b = float(found.certificate.objective[0]), float(exact.certificate.objective[0])
    assert abs(a - b) <= float(exact.certificate.allowed_gap[0])
