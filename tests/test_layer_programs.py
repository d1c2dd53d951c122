"""Layered linear programs: exact where the layers are, linear in the noise, deaf to a few entries that are far off."""

import math
from itertools import pairwise

import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.inversion.methods.layered_linear_programs import _next_eps, _Output, _rows

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


def test_what_it_cannot_do_is_refused_by_name():
    G = net((5, 20, 40))
    y = signals(G)[1]
    with pytest.raises(ValueError, match="unknown norm 'l2'"):
        ci.LayeredLinearPrograms(norm="l2")
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
