"""Whole inversions: what the methods find, what the judge says of it, and that neither depends on the way it is asked."""

import re
import sys
import warnings
from dataclasses import replace
from itertools import pairwise
from math import log, sqrt
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator.activations import AbstractActivation
from cvxinv.generator.chain import Generator, Layer
from cvxinv.inversion.steps import newton
from cvxinv.inversion.steps.evidence import weigh_evidence
from cvxinv.inversion.steps.gradient import gradient
from cvxinv.inversion.steps.starts import Starts
from cvxinv.inversion.task import make_task

METHODS = ("hybrid", "latent_pursuit", "levenberg_marquardt", "gradient_descent")
LAYERED = METHODS[:2]
SEEING = ("everything", "mask", "masks", "matrix")
SHAPES = ((5, 20, 40), (8, 30, 60, 100))
# small dense generators that ten signals of each method pass in seconds
REAL = (
    "ashish_gan_leaky_64_256_784",
    "csinva_vae_20_400_784",
    "jezza_fashion_vae_20_400_784",
    "laug_vae_5_128_256_784",
    "lei_vae_leaky_20_200_500_784_nobias",
    "lei_vae_relu_20_60_784_nobias",
    "zeesky_vae_10_400_784",
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def net(
    sizes: tuple[int, ...],
    output: str | AbstractActivation = "identity",
    hidden: AbstractActivation | None = None,
    seed: int = 0,
    bias: float = 0.3,
) -> Generator:
    """A dense generator with weights N(0, 1/n) and biases N(0, bias^2), ReLU behind the hidden layers."""
    draw, layers = seeded(seed), []
    for n, m in pairwise(sizes):
        W = torch.randn(m, n, generator=draw, dtype=torch.float64) / n**0.5
        b = bias * torch.randn(m, generator=draw, dtype=torch.float64)
        layers.append(Layer(ci.Dense(W), b, hidden or ci.ReLU()))
    return Generator(tuple(layers), (sizes[-1],), {}).with_output(output)


def conv_net(output: nn.Module | None = None) -> Generator:
    """z (6) -> dense to 4 x 4 x 4 -> transposed convolution to 2 x 8 x 8."""
    parts = [nn.Linear(6, 64), nn.ReLU(), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 2, 4, 2, 1)]
    module = nn.Sequential(*parts, *([] if output is None else [output])).double()
    draw = seeded(0)
    for parameter in module.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return ci.load_generator(module)


def signals(G: Generator, N: int = 8, seed: int = 3) -> tuple[Tensor, Tensor]:
    z = G.sample_latent(N, seeded(seed))
    return z, G(z)


def seeing(kind: str, G: Generator, y: Tensor) -> tuple[Tensor | None, Tensor]:
    """A measurement of its kind and what it sees of the signals `y`: three quarters of a signal's entries, in number."""
    d, k = G.signal_dim, 3 * G.signal_dim // 4
    if kind == "everything":
        return None, y
    if kind == "matrix":
        A = normal(k, d, seed=5) / k**0.5
        return A, y @ A.T
    shape = (d,) if kind == "mask" else tuple(y.shape)
    mask = torch.rand(shape, generator=seeded(5)) < 0.75
    return mask, y.where(mask, 99.0)


def error(found: Tensor, z: Tensor) -> float:
    return float(((found - z).norm(dim=1) / z.norm(dim=1)).max())


def noisy(x: Tensor, relative: float = 0.02, seed: int = 6) -> tuple[Tensor, Tensor]:
    """Signals with noise of `relative` their length, and the noise."""
    e = torch.randn(x.shape, generator=seeded(seed), dtype=torch.float64)
    e = relative * e * (x.norm(dim=1) / e.norm(dim=1))[:, None]
    return x + e, e


def with_weights(G: Generator, index: int, weight: Tensor, b: Tensor | None = None) -> Generator:
    """The generator with other weights in one layer."""
    layers = list(G.layers)
    layers[index] = replace(layers[index], W=ci.Dense(weight), b=layers[index].b if b is None else b)
    return Generator(tuple(layers), G.signal_shape, {})


# --- what the methods find ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_latent_pursuit_recovers_random_networks_with_every_layer_optimal(seed: int):
    G = net((100, 220, 625), seed=seed, bias=0.0)
    z, y = signals(G)
    R = ci.invert(G, y, "latent_pursuit", debias=None, on_fail="ignore")
    assert (R.layer_status == "optimal").all()
    assert error(R.layers[0].solution.h, G.hidden(z)[0]) < 1e-6
    sure = ci.verify(G, y, z).determined  # fewer than 100 of the 220 units on leave z open
    assert int(sure.sum()) >= 5
    assert R.verdict.explained[sure].all() and R.determined[sure].all()
    assert error(R.z[sure], z[sure]) < 1e-6
    assert ci.invert(G, y, "latent_pursuit").verdict.explained.all(), "debiasing explains the others too"


@pytest.mark.parametrize("kind", SEEING)
@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("method", LAYERED)
@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_layered_methods_recover_what_was_measured(
    method: str, sizes: tuple[int, ...], kind: str, hidden: AbstractActivation
):
    G = net(sizes, hidden=hidden)
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    R = ci.invert(G, seen, method, measurement=A)
    assert R.verdict.explained.all() and R.determined.all()
    assert (R.layer_status == "optimal").all() and R.layer_status.shape == (8, len(sizes) - 1)
    assert error(R.z, z) < 1e-6
    assert error(R.signal, y) < 1e-6, "what was not seen must be filled in"
    assert set(R.used) == {"layered"} and not R.starts.any()


@pytest.mark.parametrize("kind", ["everything", "mask", "masks"])
@pytest.mark.parametrize("output", ["relu", "leaky_relu:0.2"])
@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_layered_methods_read_through_piecewise_linear_outputs(output: str, kind: str, hidden: AbstractActivation):
    G = net((5, 20, 60), output, hidden, seed=1)
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    for method in LAYERED:
        R = ci.invert(G, seen, method, measurement=A)
        assert R.verdict.explained.all() and R.determined.all(), method
        assert (R.layer_status == "optimal").all(), method
        assert error(R.z, z) < 1e-6, method


@pytest.mark.parametrize("output", ["identity", "relu", "leaky_relu:0.2"])
def test_layers_alone_are_exact_behind_every_output(output: str):
    G = net((5, 20, 60), output, ci.LeakyReLU(0.3), seed=1)
    z, y = signals(G)
    R = ci.invert(G, y, "latent_pursuit", debias=None)
    assert error(R.z, z) < 1e-12


@pytest.mark.parametrize("kind", ["everything", "mask", "masks"])
@pytest.mark.parametrize("output", ["tanh", "sigmoid", "plu"])
def test_hybrid_reads_through_saturating_outputs(output: str, kind: str):
    G = net((8, 30, 60, 100), output)
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    R = ci.invert(G, seen, measurement=A)
    assert R.verdict.explained.all() and R.determined.all()
    assert error(R.z, z) < 1e-6
    assert any(type(G.layers[-1].activation).__name__ in note for note in R.notes)


@pytest.mark.parametrize("output", ["relu", "tanh", "sigmoid", "plu"])
def test_hybrid_takes_random_starts_where_no_layer_can_be_read(output: str):
    G = net((5, 20, 40), output, seed=1)
    _, y = signals(G)
    A, seen = seeing("matrix", G, y)
    R = ci.invert(G, seen, measurement=A, restarts=20)
    assert R.verdict.explained.all()
    assert R.starts.min() >= 1 and all(used.startswith("random start") for used in R.used)
    assert any(note.startswith("no layered start: a measurement matrix") for note in R.notes)


@pytest.mark.parametrize("kind", SEEING)
@pytest.mark.parametrize("output", ["identity", "tanh", "sigmoid", "plu"])
def test_levenberg_marquardt_finds_the_latent_of_a_leaky_network(output: str, kind: str):
    G = net((5, 20, 60), output, ci.LeakyReLU(0.5))
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    R = ci.invert(G, seen, "levenberg_marquardt", measurement=A, restarts=5)
    assert R.verdict.explained.all() and R.determined.all()
    assert error(R.z, z) < 1e-6


@pytest.mark.parametrize("kind", SEEING)
def test_gradient_descent_inverts_an_easy_network_given_steps(kind: str):
    G = net((5, 20, 60), hidden=ci.LeakyReLU(0.5))
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    R = ci.invert(G, seen, "gradient_descent", measurement=A)
    assert R.verdict.explained.all()
    assert error(R.z, z) < 1e-6


@pytest.mark.parametrize("output", ["identity", "relu", "sigmoid"])
def test_gradient_descent_lowers_the_misfit_step_by_step(output: str):
    G = net((8, 30, 60, 100), output)
    _, y = signals(G)
    start = Starts(G).latents(0)
    before = (G(start) - y).norm(dim=1)
    misfits = [ci.invert(G, y, "gradient_descent", max_iter=k, on_fail="ignore").verdict.misfit for k in (5, 40, 320)]
    assert (misfits[0] < before).all()
    assert (misfits[2] < 0.9 * misfits[0]).all()


@pytest.mark.parametrize("method", METHODS)
def test_convolutional_generators_are_inverted_in_their_picture_shape(method: str):
    G = conv_net()
    z, y = signals(G)
    assert G.signal_shape == (2, 8, 8)
    R = ci.invert(G, y.reshape(8, 2, 8, 8), method, restarts=5) if method != "latent_pursuit" else ci.invert(G, y, method)
    assert R.verdict.explained.all()
    assert error(R.z, z) < 1e-6
    mask = torch.rand(2, 8, 8, generator=seeded(1)) < 0.75
    if method in LAYERED:
        R = ci.invert(G, y.reshape(8, 2, 8, 8), method, measurement=mask)
        assert error(R.z, z) < 1e-6
        assert (R.layer_status == "optimal").all()


def test_hybrid_reads_a_convolutional_tanh_generator():
    G = conv_net(nn.Tanh())
    z, y = signals(G)
    R = ci.invert(G, y)
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6


def test_hybrid_explains_at_least_what_its_parts_explain():
    G = net((8, 12, 24), seed=2)
    _, y = signals(G, 20)
    found = {m: ci.invert(G, y, m, on_fail="ignore").verdict.explained for m in METHODS[:3]}
    assert bool((found["hybrid"] | ~found["latent_pursuit"]).all())
    assert bool((found["hybrid"] | ~found["levenberg_marquardt"]).all())


# --- trained generators ---------------------------------------------------------------------------


@pytest.mark.generators
@pytest.mark.parametrize("name", REAL)
def test_hybrid_recovers_the_latents_of_trained_generators(name: str, real_generator):
    G = real_generator(name)
    z, y = signals(G, 10)
    R = ci.invert(G, y)
    assert R.verdict.explained.all()
    assert R.determined.any()
    assert error(R.z[R.determined], z[R.determined]) < 1e-6


@pytest.mark.generators
@pytest.mark.parametrize("kind", SEEING)
@pytest.mark.parametrize("name", REAL)
def test_layers_of_trained_generators_are_solved_and_recovered(name: str, kind: str, real_generator):
    G = real_generator(name, output="identity")
    z, y = signals(G, 10)
    A, seen = seeing(kind, G, y)
    R = ci.invert(G, seen, "latent_pursuit", measurement=A)
    assert R.verdict.explained.all()
    assert (R.layer_status == "optimal").all()
    sure = R.determined
    assert sure.any() and error(R.z[sure], z[sure]) < 1e-6


@pytest.mark.generators
@pytest.mark.parametrize("kind", SEEING)
@pytest.mark.parametrize("method", METHODS[2:])
def test_descents_explain_signals_of_a_trained_generator(method: str, kind: str, real_generator):
    G = real_generator("laug_vae_5_128_256_784")
    _, y = signals(G, 10)
    A, seen = seeing(kind, G, y)
    options = {"restarts": 10} if method == "levenberg_marquardt" else {"max_iter": 300}
    R = ci.invert(G, seen, method, measurement=A, on_fail="ignore", **options)
    if method == "levenberg_marquardt":
        assert R.verdict.explained.all()
    else:
        start = G.sample_latent(1, seeded(0)).expand(10, -1)
        assert (R.verdict.misfit < ci.verify(G, seen, start, measurement=A).misfit).all()


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("method", ["hybrid", "latent_pursuit", "gradient_descent"])
def test_under_noise_the_misfit_is_at_most_that_of_the_truth(method: str, sizes: tuple[int, ...]):
    G = net(sizes)
    z, x = signals(G, 20)
    y, e = noisy(x)
    bound = e.norm(dim=1)
    R = ci.invert(G, y, method, noise=("l2", bound), on_fail="ignore")
    assert int((R.verdict.misfit <= bound).sum()) >= 18
    # a least-squares fit of n0 numbers to d moves by at most |noise| / sigma_min
    good = R.verdict.explained & R.determined
    assert ((R.z - z).norm(dim=1) <= 3 * bound / R.verdict.sigma_min)[good].all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SEEING)
def test_explained_means_misfit_within_the_stated_noise(method: str, kind: str):
    G = net((8, 30, 60, 100))
    _, x = signals(G, 12)
    y, e = noisy(x)
    A, seen = seeing(kind, G, y)
    factors = torch.linspace(0.7, 1.2, 12).double()
    bound = factors * e.norm(dim=1)
    R = ci.invert(G, seen, method, measurement=A, noise=("l2", bound), on_fail="ignore", max_iter=400)
    assert torch.equal(R.verdict.explained_below, bound)
    assert torch.equal(R.verdict.explained, R.verdict.misfit <= bound)
    assert 0 < int(R.verdict.explained.sum())
    residual = observed(A, R.signal) - torch.where(torch.as_tensor(True) if A is None or kind == "matrix" else A, seen, 0.0)
    assert torch.allclose(R.verdict.misfit, residual.norm(dim=1), rtol=1e-12, atol=0)


def observed(A: Tensor | None, x: Tensor) -> Tensor:
    if A is None:
        return x
    return x.where(A, 0.0) if A.dtype == torch.bool else x @ A.T


def test_noise_is_stated_per_signal():
    G = net((5, 20, 40))
    _, x = signals(G)
    y, e = noisy(x)
    bound = e.norm(dim=1)
    bound[[1, 4]] /= 100
    R = ci.invert(G, y, noise=("l2", bound), on_fail="ignore")
    assert [i for i, s in enumerate(R.status) if s != "explained"] == [1, 4]
    one = ci.invert(G, y[2], noise=("l2", float(bound[2])))
    assert torch.allclose(one.z, R.z[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_noise_in_the_maximum_norm_bounds_every_entry(method: str):
    G = net((5, 20, 40))
    _, x = signals(G, 12)
    y, e = noisy(x)
    bound = e.abs().amax(1) * 1.2
    R = ci.invert(G, y, method, noise=("linf", bound), on_fail="ignore")
    assert torch.equal(R.verdict.explained, (R.signal - y).abs().amax(1) <= bound)
    assert R.verdict.explained.any()
    assert torch.equal(R.verdict.explained_below, bound)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_true_latent_is_explained_by_its_own_noise(norm: str):
    G = net((5, 20, 40))
    z, x = signals(G)
    y, e = noisy(x)
    bound = e.norm(dim=1) if norm == "l2" else e.abs().amax(1)
    assert ci.verify(G, y, z, noise=(norm, bound)).explained.all()
    assert not ci.verify(G, y, z, noise=(norm, 0.99 * bound)).explained.any()


def test_penalties_under_noise_are_the_documented_ones():
    G = net((8, 30, 60, 100))
    _, x = signals(G)
    y, e = noisy(x)
    R = ci.invert(G, y, "latent_pursuit", noise=("l2", e.norm(dim=1)), on_fail="ignore")
    sigma = e.norm(dim=1) / 10  # of one of 100 entries
    for report in R.layers:
        rows = report.problem.rows
        widest = (rows.fit @ rows.W.matrix().square()).amax(1).sqrt()
        expected = sigma**2 if report.index == 0 else sigma * sqrt(2 * log(rows.n)) * widest / 8
        assert torch.allclose(report.penalty, expected, rtol=1e-12)
        if report.index == 0:
            break
        least = 1e-6 * report.solution.h.amax(1) / 8
        # the rows below have the geometric mean of the standard errors at weight 1, and weights by their inverse squares
        found = weigh_evidence(rows, report.solution.h, report.penalty, sigma, least, image=report is R.layers[0])
        below = R.layers[R.layers.index(report) + 1].problem.rows
        sigma = torch.stack([s[on].log().mean().exp() for s, on in zip(found.s, report.on, strict=True)])
        weight = (sigma[:, None] / found.s).clamp(1 / 30, 30) ** 2
        assert torch.allclose(below.weight[below.on], weight[below.on], rtol=1e-4)
        assert torch.allclose(below.y[below.on], found.v[below.on], rtol=1e-9)


def test_supports_handed_down_are_what_exceeds_the_threshold():
    G = net((8, 30, 60, 100))
    _, x = signals(G)
    y, e = noisy(x)
    for bound in (None, ("l2", e.norm(dim=1))):
        R = ci.invert(G, x if bound is None else y, "latent_pursuit", noise=bound, on_fail="ignore")
        for above, below in pairwise(R.layers):
            on, rows = above.solution.h > above.threshold.reshape(len(y), -1), below.problem.rows
            assert torch.equal(rows.on, on) and torch.equal(above.on, on) and not (rows.off & on).any()
            assert torch.equal(rows.off, ~on) == (bound is None), "noise must leave some units open, or the claim is empty"


@pytest.mark.parametrize("method", ["hybrid", "latent_pursuit"])
def test_noise_per_signal_survives_chunks(method: str):
    G = net((5, 20, 40))
    y, e = noisy(signals(G)[1])
    bound = e.norm(dim=1) * torch.tensor([1.0, 1.0, 1.0, 1e-4, 1.0, 1e-4, 1.0, 1e-4]).double()
    R = ci.invert(G, y, method, noise=("l2", bound), chunk=3, on_fail="ignore")
    assert torch.equal(R.verdict.explained_below, bound)
    S = ci.invert(G, y, method, noise=("l2", bound), on_fail="ignore")
    assert torch.equal(R.starts, S.starts)
    for a, b in zip(R.layers, S.layers, strict=True):
        assert torch.allclose(a.penalty, b.penalty, rtol=1e-6) and torch.allclose(a.threshold, b.threshold, rtol=1e-6)


def test_rows_of_the_image_layer_are_those_of_its_activation():
    mask = torch.rand(40, generator=seeded(5)) < 0.75
    G = net((5, 20, 40), "relu")
    _, y = signals(G)
    rows = ci.invert(G, y, measurement=mask).layers[0].problem.rows
    assert torch.equal(rows.on, mask & (y > 0)) and torch.equal(rows.off, mask & (y <= 0))
    G = net((5, 20, 40), "leaky_relu:0.25")
    _, y = signals(G)
    rows = ci.invert(G, y, measurement=mask, on_fail="ignore").layers[0].problem.rows
    assert torch.equal(rows.on, mask.expand(8, 40)) and not rows.off.any()
    assert torch.equal(rows.weight[rows.on], torch.where(y < 0, 0.25**2, torch.ones_like(y))[rows.on])
    assert torch.equal(rows.y[rows.on], torch.where(y < 0, 4 * y, y)[rows.on])


def test_without_noise_there_is_no_penalty():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    assert all(bool((report.penalty == 0).all()) for report in ci.invert(G, y).layers)


# --- debiasing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("debias", ["gradient", "piece"])
@pytest.mark.parametrize("output", ["identity", "relu", "leaky_relu:0.2"])
@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_debiasing_never_raises_the_misfit_and_helps_where_penalties_bias(
    debias: str, output: str, hidden: AbstractActivation
):
    G = net((8, 30, 60, 100), output, hidden)
    _, x = signals(G, 12)
    y, e = noisy(x)
    options = {"noise": ("l2", e.norm(dim=1)), "gamma": 1.0, "on_fail": "ignore"}
    before = ci.invert(G, y, "latent_pursuit", debias=None, **options).verdict.misfit
    after = ci.invert(G, y, "latent_pursuit", debias=debias, **options).verdict.misfit
    assert (after <= before * (1 + 1e-12)).all()
    assert (after < 0.9 * before).any()


@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.3)], ids=["relu", "leaky"])
@pytest.mark.parametrize("debias", ["gradient", "piece"])
def test_debiasing_is_exact_on_the_right_piece(debias: str, hidden: AbstractActivation):
    G = net((5, 20, 60), hidden=hidden)
    z, y = signals(G)
    biased = ci.invert(G, y, "latent_pursuit", debias=None, gamma=0.01, on_fail="ignore")
    assert error(biased.z, z) > 1e-3
    same = torch.stack([((a > 0) == (b > 0)).all(1) for a, b in zip(biased.hidden, G.hidden(z), strict=True)]).all(0)
    assert int(same.sum()) >= 4
    R = ci.invert(G, y, "latent_pursuit", debias=debias, gamma=0.01, on_fail="ignore")
    assert error(R.z[same], z[same]) < 1e-11


# --- singular and infeasible layers ---------------------------------------------------------------


def rank_deficient() -> Generator:
    """A generator whose last two latent coordinates do the same."""
    G = net((5, 20, 60), bias=0.0)
    W = G.layers[0].W.matrix().clone()
    W[:, 4] = W[:, 3]
    return with_weights(G, 0, W)


def test_a_rank_deficient_generator_is_explained_but_not_determined():
    G = rank_deficient()
    z, y = signals(G)
    for method in METHODS[:3]:
        R = ci.invert(G, y, method, on_fail="ignore")
        assert R.verdict.explained.any(), method
        assert not R.determined.any(), method
        assert (R.verdict.sigma_min <= 1e-10 * R.verdict.sigma_max).all()
    V = ci.verify(G, y, z)
    assert V.explained.all() and not V.determined.any()
    assert "z not determined for 8" in repr(V)


def test_a_singular_latent_layer_gets_a_small_prior_and_says_so():
    G = rank_deficient()
    _, y = signals(G)
    R = ci.invert(G, y, "latent_pursuit", on_fail="ignore")
    assert R.layers[-1].remark == "gamma = 1e-6 |W_on|^2 for 8 signals whose W_on'W_on is singular"
    W = G.layers[0].W.matrix()
    for i in range(8):
        on = R.layers[-1].problem.rows.on[i]
        expected = 1e-6 * float(torch.linalg.matrix_norm(W[on], ord=2)) ** 2
        assert float(R.layers[-1].penalty[i]) == pytest.approx(expected, rel=1e-9)
    # the prior picks the shortest of the latents that explain the signal
    assert torch.allclose(R.z[:, 3], R.z[:, 4], rtol=1e-6, atol=1e-9)
    assert "gamma = 1e-6" in R.summary()


def test_too_few_seen_entries_leave_z_undetermined():
    G = net((5, 20, 40))
    z, y = signals(G)
    mask = torch.arange(40) < 4
    V = ci.verify(G, y, z, measurement=mask)
    assert V.explained.all() and not V.determined.any() and (V.sigma_min < 1e-10 * V.sigma_max).all()
    assert ci.verify(G, y, z, measurement=torch.arange(40) < 12).determined.all()


def test_an_infeasible_layer_hands_on_its_best_point_and_is_reported():
    # h = relu(z + 1), relu(1 - z), relu(2 z): the first two cannot both be off, and y = (0, 0, 0.5) says they are
    first = Layer(ci.Dense(torch.tensor([[1.0], [-1.0], [2.0]]).double()), torch.tensor([1.0, 1.0, 0.0]).double(), ci.ReLU())
    G = Generator((first, Layer(ci.Dense(torch.eye(3).double()), torch.zeros(3).double(), ci.Identity())), (3,), {})
    z = torch.tensor([[0.25], [0.7]]).double()
    y = torch.cat([G(z), torch.tensor([[0.0, 0.0, 0.5]]).double()])
    with pytest.warns(ci.ConvergenceWarning, match="1 of 3 signals are not explained: 2 .*1 of them have a layer"):
        R = ci.invert(G, y, "latent_pursuit", debias=None)
    assert R.layer_status[:, 0].tolist() == ["optimal"] * 3
    assert R.layer_status[:, 1].tolist() == ["optimal", "optimal", "infeasible"]
    assert R.layers[1].solution.certificate.violation[2] > 0.1
    assert R.z[2].isfinite().all() and R.status[2] in ("stationary", "user_limit")
    assert error(R.z[:2], z) < 1e-12
    assert "1 infeasible" in R.summary()


# --- the judge ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SEEING)
@pytest.mark.parametrize("output", ["identity", "relu", "tanh"])
def test_the_truth_is_explained_and_a_perturbed_latent_is_not(output: str, kind: str):
    G = net((8, 30, 60, 100), output)
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    V = ci.verify(G, seen, z, measurement=A)
    assert V.explained.all() and V.determined.all() and (V.relative_misfit < 1e-14).all()
    V = ci.verify(G, seen, z + 1e-6 * normal(8, 8, seed=1), measurement=A)
    assert not V.explained.any()
    assert (V.status == "user_limit").all(), "one step from here explains the signal"


@pytest.mark.parametrize("kind", SEEING)
def test_the_judge_computes_misfit_size_and_singular_values(kind: str):
    G = net((5, 20, 40), "sigmoid")
    z, y = signals(G)
    A, seen = seeing(kind, G, y)
    other = z + normal(8, 5, seed=2)
    V = ci.verify(G, seen, other, measurement=A)
    target = observed(A, y)
    assert torch.allclose(V.misfit, (observed(A, G(other)) - target).norm(dim=1), rtol=1e-12)
    assert torch.allclose(V.size, target.norm(dim=1), rtol=1e-12)
    assert torch.allclose(V.relative_misfit, V.misfit / V.size)
    assert torch.allclose(V.explained_below, 1e-8 * V.size)
    for i in range(8):
        mask = A if A is None or A.ndim == 1 or kind == "matrix" else A[i]
        J = torch.autograd.functional.jacobian(lambda u, mask=mask: observed(mask, G(u[None]))[0], other[i])
        values = torch.linalg.svdvals(J)
        assert float(V.sigma_max[i]) == pytest.approx(float(values[0]), rel=1e-10)
        assert float(V.sigma_min[i]) == pytest.approx(float(values[-1]), rel=1e-8)


def test_a_truncated_run_is_user_limit_and_a_local_optimum_stationary():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    early = ci.invert(G, y, "gradient_descent", max_iter=3, on_fail="ignore")
    assert set(early.status) == {"user_limit"}
    far = normal(8, 100, seed=4)
    settled = ci.invert(G, far, "levenberg_marquardt", max_iter=500, on_fail="ignore")
    assert set(settled.status) == {"stationary"}
    assert ci.verify(G, far, settled.z + 0.1).counts() == {"user_limit": 8}


def test_the_judge_does_not_trust_the_method(monkeypatch: pytest.MonkeyPatch):
    G = net((5, 20, 40))
    _, y = signals(G)

    def boast(task, start, max_iter=100, mu=1e-3, target=1e-14):
        none = torch.zeros(len(start)).double()
        return newton.Descent(start, none, none, torch.zeros(len(start)).long())

    with monkeypatch.context() as patch:
        patch.setattr("cvxinv.inversion.methods.levenberg_marquardt.descend_through", boast)
        R = ci.invert(G, y, "levenberg_marquardt", max_iter=100, on_fail="ignore")
    assert not R.verdict.explained.any()
    assert torch.allclose(R.verdict.misfit, (G(R.z) - y).norm(dim=1))


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6])
@pytest.mark.parametrize("method", METHODS[:3])
def test_the_unit_of_the_signals_does_not_matter(method: str, scale: float):
    G = net((5, 20, 40), seed=4)
    _, y = signals(G)
    last = G.layers[-1]
    scaled = with_weights(G, 1, scale * last.W.matrix(), scale * last.b)
    R = ci.invert(scaled, scale * y, method, on_fail="ignore")
    same = ci.invert(G, y, method, on_fail="ignore")
    assert R.status.tolist() == same.status.tolist()
    good = same.verdict.explained
    assert good.sum() >= 4
    assert torch.allclose(R.z[good], same.z[good], rtol=1e-9, atol=1e-9)
    assert torch.allclose(R.verdict.sigma_min, scale * same.verdict.sigma_min, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
@pytest.mark.parametrize("method", METHODS[:3])
def test_the_unit_of_the_latents_does_not_matter(method: str, scale: float):
    G = net((5, 20, 40), seed=4)
    z, y = signals(G)
    scaled = with_weights(G, 0, G.layers[0].W.matrix() / scale)
    V = ci.verify(scaled, y, scale * z)
    assert V.explained.all() and V.determined.all()
    if method in LAYERED:
        R = ci.invert(scaled, y, method)
        assert error(R.z, scale * z) < 1e-9


def test_methods_that_run_out_of_steps_are_not_called_explained():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    R = ci.invert(G, y, "levenberg_marquardt", max_iter=1, on_fail="ignore")
    assert not R.verdict.explained.any() and (R.status == "user_limit").any()


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["identity", "relu", "tanh"])
def test_float32_signals_are_inverted_by_a_float64_generator(output: str):
    G = net((5, 20, 60), output)
    z, y = signals(G)
    R = ci.invert(G, y.float(), on_fail="ignore")
    assert R.z.dtype == torch.float64
    assert R.verdict.explained.all()
    assert torch.allclose(R.verdict.explained_below, 1e-6 * y.float().double().norm(dim=1))
    # what rounding of y to 24 bits can do to z, with an active piece that may be off by one kink
    assert ((R.z - z).norm(dim=1) <= 10 * 2**-24 * y.norm(dim=1) / R.verdict.sigma_min).all()


@pytest.mark.parametrize("method", LAYERED)
@pytest.mark.parametrize("kind", SEEING)
def test_a_float32_generator_gives_float32_latents_that_explain(method: str, kind: str):
    G = net((5, 20, 40)).to(torch.float32)
    z, y = signals(G)
    A, seen = seeing(kind, G, y.double())
    A = A.float() if kind == "matrix" else A
    R = ci.invert(G, seen.float(), method, measurement=A, on_fail="ignore")
    assert R.z.dtype == torch.float32 and R.signal.dtype == torch.float32 and R.verdict.misfit.dtype == torch.float64
    assert R.verdict.explained.all()
    assert error(R.z, z) < 1e-4


def test_the_default_dtype_of_the_process_changes_nothing():
    G = net((8, 30, 60, 100), "leaky_relu:0.2", ci.LeakyReLU(0.3))
    _, y = signals(G)
    expected = [ci.invert(G, y, m, on_fail="ignore", max_iter=20).z for m in METHODS]
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        found = [ci.invert(G, y, m, on_fail="ignore", max_iter=20).z for m in METHODS]
    finally:
        torch.set_default_dtype(before)
    for method, a, b in zip(METHODS, found, expected, strict=True):
        assert torch.equal(a, b), method


# --- the way it is asked --------------------------------------------------------------------------


def assert_same_signals(got: ci.Inversion, expected: ci.Inversion) -> None:
    """The same layers, and the same verdicts, ways and latents (to 1e-9) where the signals are explained."""
    exact = expected.verdict.explained
    assert torch.equal(got.verdict.explained, exact)
    assert got.layer_status.tolist() == expected.layer_status.tolist()
    assert torch.equal(got.starts, expected.starts)
    for i in exact.nonzero()[:, 0].tolist():
        assert got.used[i] == expected.used[i]
        assert torch.allclose(got.z[i], expected.z[i], rtol=1e-9, atol=1e-9)
        assert torch.allclose(got.signal[i], expected.signal[i], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SEEING)
def test_batch_order_and_chunks_do_not_matter(method: str, kind: str):
    G = net((5, 20, 40))
    y = torch.cat([signals(G, 6)[1], normal(1, 40, seed=8)])  # the last is of no latent
    A, seen = seeing(kind, G, y)
    options = {"on_fail": "ignore", "max_iter": 600 if method == "gradient_descent" else 60}
    R = ci.invert(G, seen, method, measurement=A, **options)
    assert int(R.verdict.explained.sum()) >= 3 and not R.verdict.explained[6]
    chunk = (1, 4)[(list(METHODS).index(method) + list(SEEING).index(kind)) % 2]  # each method and each kind in both
    assert_same_signals(ci.invert(G, seen, method, measurement=A, chunk=chunk, **options), R)
    order = torch.randperm(7, generator=seeded(2))
    turned = A[order] if kind == "masks" else A
    assert_same_signals(ci.invert(G, seen[order], method, measurement=turned, **options), R[order])


@pytest.mark.parametrize("method", METHODS)
def test_one_signal_gives_what_the_batch_gives(method: str):
    G = net((8, 30, 60, 100), seed=2)
    z, y = signals(G, 4)
    R = ci.invert(G, y, method, on_fail="ignore", truth=z)
    for i in range(4):
        one = ci.invert(G, y[i], method, on_fail="ignore", truth=z[i])
        assert one.z.shape == (8,) and one.signal.shape == (100,) and [h.shape for h in one.hidden] == [(30,), (60,)]
        assert len(one) == 1 and one.status.tolist() == [R.status[i]]
        if R.verdict.explained[i]:
            assert torch.allclose(one.z, R.z[i], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["lam", "gamma"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_penalties_are_taken_per_signal(name: str, chunk: int | None):
    G = net((8, 30, 60, 100))
    _, y = signals(G, 5)
    values = torch.tensor([0.0, 0.1, 1.0, 0.01, 0.3], dtype=torch.float64)
    options = {"debias": None, "on_fail": "ignore"}
    R = ci.invert(G, y, "latent_pursuit", chunk=chunk, **{name: values}, **options)
    for i, value in enumerate(values.tolist()):
        one = ci.invert(G, y[i], "latent_pursuit", **{name: value}, **options)
        assert torch.allclose(one.z, R.z[i], rtol=1e-6, atol=1e-8)
    report = R.layers[-1 if name == "gamma" else 0]
    assert torch.equal(report.penalty, values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("output", ["identity", "tanh"])
def test_a_second_run_gives_the_same_bits(method: str, output: str):
    if method == "latent_pursuit" and output == "tanh":
        output = "relu"
    G = net((5, 20, 40), output)
    y = torch.cat([signals(G)[1], G(normal(3, 5, seed=9)) * 0.9])
    torch.manual_seed(1)
    a = ci.invert(G, y, method, on_fail="ignore", max_iter=60)
    torch.manual_seed(2)
    b = ci.invert(G, y, method, on_fail="ignore", max_iter=60)
    assert torch.equal(a.z, b.z) and torch.equal(a.verdict.misfit, b.verdict.misfit)
    assert all(torch.equal(p.solution.p, q.solution.p) for p, q in zip(a.layers, b.layers, strict=True))


def test_the_seed_chooses_the_random_starts():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    found = [ci.invert(G, y, "levenberg_marquardt", seed=s, max_iter=1, on_fail="ignore").z for s in (0, 0, 1)]
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2])


def test_more_random_starts_begin_with_the_same_ones():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    one = ci.invert(G, y, "levenberg_marquardt", on_fail="ignore")
    many = ci.invert(G, y, "levenberg_marquardt", restarts=8, on_fail="ignore")
    assert many.verdict.explained.sum() > one.verdict.explained.sum()
    first = one.verdict.explained
    assert (many.starts[first] == 1).all() and (many.starts[~first] > 1).all()
    assert torch.allclose(many.z[first], one.z[first], rtol=1e-9, atol=1e-9)


def test_random_starts_stop_when_a_signal_is_explained():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    R = ci.invert(G, y, "levenberg_marquardt", restarts=30, on_fail="ignore")
    assert R.verdict.explained.all() and len(set(R.starts.tolist())) > 1
    assert R.used == tuple(f"random start {k}" for k in R.starts.tolist())


@pytest.mark.parametrize("solver", ["graph_admm", "interior_point", "CLARABEL"])
def test_every_solver_gives_the_layers_of_auto(solver: str):
    G = net((5, 20, 40))
    z, y = signals(G, 3)
    R = ci.invert(G, y, "latent_pursuit", solver=solver)
    assert (R.layer_status == "optimal").all() and error(R.z, z) < 1e-6
    assert {name for report in R.layers for name in report.solution.solver} == {solver}


def test_hidden_layers_and_signal_are_those_of_the_latent():
    G = net((8, 30, 60, 100), "relu")
    _, y = signals(G)
    R = ci.invert(G, y, on_fail="ignore")
    assert torch.equal(R.signal, G(R.z))
    assert all(torch.equal(a, b) for a, b in zip(R.hidden, G.hidden(R.z), strict=True))


# --- the result -----------------------------------------------------------------------------------


def test_truth_gives_signal_to_noise_ratios_by_the_formula():
    G = net((8, 30, 60, 100))
    z, x = signals(G)
    y, e = noisy(x)
    R = ci.invert(G, y, noise=("l2", e.norm(dim=1)), truth=z, on_fail="ignore")
    assert list(R.snr) == ["z", "hidden 1", "hidden 2", "signal"]
    pairs = zip([z, *G.hidden(z), x], [R.z, *R.hidden, R.signal], strict=True)
    for (name, value), (true, found) in zip(R.snr.items(), pairs, strict=True):
        t, f = true.numpy(), found.numpy()
        expected = [20 * np.log10(sqrt((a @ a) / ((a - b) @ (a - b)))) for a, b in zip(t, f, strict=True)]
        assert np.allclose(value.numpy(), expected, rtol=1e-9), name
    # worked by hand: an error of a tenth of the length is 20 dB
    assert float(ci.inversion.result.snr(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.5, 4.0]]))) == pytest.approx(20.0)
    assert ci.invert(G, x).snr == {}


def test_an_exact_latent_has_a_finite_signal_to_noise_ratio():
    z = normal(2, 5, seed=0)
    assert ci.inversion.result.snr(z, z).tolist() == [400.0, 400.0]


@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt"])
def test_slices_hold_the_same_signals_everywhere(method: str):
    G = net((5, 20, 40))
    z, y = signals(G, 6)
    R = ci.invert(G, y, method, truth=z, on_fail="ignore")
    picks = {
        "slice": (slice(1, 4), [1, 2, 3]),
        "steps": (slice(None, None, 2), [0, 2, 4]),
        "positions": (torch.tensor([4, 0]), [4, 0]),
        "mask": (torch.tensor([False, True, True, False, False, True]), [1, 2, 5]),
        "numpy mask": (np.array([True, False, False, False, False, True]), [0, 5]),
        "number": (3, [3]),
        "last": (-1, [5]),
    }
    for name, (index, expected) in picks.items():
        part = R[index]
        assert len(part) == len(expected), name
        assert torch.equal(part.z, R.z[expected]) and torch.equal(part.signal, R.signal[expected]), name
        assert torch.equal(part.verdict.misfit, R.verdict.misfit[expected]), name
        assert part.status.tolist() == R.status[expected].tolist(), name
        assert part.layer_status.tolist() == R.layer_status[expected].tolist(), name
        assert part.used == tuple(R.used[i] for i in expected) and torch.equal(part.starts, R.starts[expected]), name
        assert torch.equal(part.snr["z"], R.snr["z"][expected]), name
        for a, b in zip(part.layers, R.layers, strict=True):
            assert torch.equal(a.solution.h, b.solution.h[expected]), name
            assert torch.equal(a.problem.rows.y, b.problem.rows.y[expected]), name
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"6.*{index}|{index}"):
            R[index]
    with pytest.raises(IndexError, match="single signal"):
        ci.invert(G, y[0], method, on_fail="ignore")[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("single", [False, True])
def test_a_result_comes_back_from_its_folder(method: str, single: bool, tmp_path):
    G = net((5, 20, 40))
    z, y = signals(G)
    R = ci.invert(G, y[0] if single else y, method, truth=z[0] if single else z, on_fail="ignore", max_iter=30)
    folder = R.save(tmp_path / "run")
    back = ci.Inversion.load(folder)
    assert torch.equal(back.z, R.z) and torch.equal(back.signal, R.signal) and back.z.shape == R.z.shape
    assert all(torch.equal(a, b) for a, b in zip(back.hidden, R.hidden, strict=True))
    assert back.status.tolist() == R.status.tolist() and torch.equal(back.determined, R.determined)
    assert back.layer_status.tolist() == R.layer_status.tolist()
    assert back.used == R.used and torch.equal(back.starts, R.starts) and back.notes == R.notes
    assert all(torch.equal(back.snr[k], v) for k, v in R.snr.items()) and back.snr.keys() == R.snr.keys()
    assert back.settings == R.settings and back.versions == R.versions
    assert back.summary() == R.summary()
    for a, b in zip(back.layers, R.layers, strict=True):
        assert torch.equal(a.solution.h, b.solution.h) and torch.equal(a.solution.p, b.solution.p)
        assert torch.equal(a.threshold, b.threshold) and torch.equal(a.penalty, b.penalty) and a.kind == b.kind


def test_the_summary_counts_what_came_out():
    G = net((5, 20, 40))
    z, y = signals(G, 6)
    y = torch.cat([y, torch.full((1, 40), torch.nan).double(), normal(1, 40, seed=5)])
    truth = torch.cat([z, torch.zeros(2, 5).double()])
    R = ci.invert(G, y, truth=truth, on_fail="ignore")
    text = R.summary()
    counts = {word: int((R.status == word).sum()) for word in set(R.status)}
    assert counts["explained"] == 6 and counts["numerical_error"] == 1
    assert text.startswith("hybrid: 8 signals in ")
    for word, count in counts.items():
        assert f"{count} {word}" in text
    assert "layer 1 (NonnegativeLasso): " in text and "layer 0 (GaussianLatent): " in text
    assert "SNR z: median" in text and "answers by: layered" in text
    assert repr(R) == text


def test_settings_and_versions_say_what_ran():
    G = net((5, 20, 40))
    _, y = signals(G, 6)
    R = ci.invert(G, y.float(), "latent_pursuit", lam=0.5, debias="gradient", seed=3, chunk=4, on_fail="ignore")
    assert R.method == "latent_pursuit"
    task = {"noise": None, "measurement": "Everything", "generator": "a module"}
    mark = G(torch.arange(5.0).double().cos()).norm()  # by which generators of one name are told apart
    assert R.settings.pop("mark") == pytest.approx(float(mark), rel=1e-12)
    assert R.settings == {"lam": 0.5, "debias": "gradient", "seed": 3, "chunk": 4} | task
    assert R.versions["torch"] == torch.__version__ and R.versions["cvxinv"] == ci.__version__
    assert R.versions["dtype"] == "torch.float64" and R.versions["signals in"] == "torch.float32"
    assert R.seconds["total"] >= R.seconds["solve"] > 0


# --- Levenberg-Marquardt and the gradient ---------------------------------------------------------

OUTPUTS = st.sampled_from(["identity", "relu", "leaky_relu:0.3", "tanh", "sigmoid", "plu"])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 20)),
    output=OUTPUTS,
    kind=st.sampled_from(SEEING),
    mu=st.sampled_from([1e-13, 1e-3, 1.0]),
)
def test_levenberg_marquardt_never_raises_the_misfit(
    seed: int, sizes: tuple[int, int, int], output: str, kind: str, mu: float
):
    G = net(sizes, output, seed=seed)
    y = 2 * normal(3, sizes[-1], seed=seed + 1)
    A, seen = seeing(kind, G, y)
    assume(A is None or bool(A.any()))  # nothing was seen
    task = make_task(G, seen, A)
    start = normal(3, sizes[0], seed=seed + 2)
    last = task.misfit(start)
    for steps in (1, 2, 3, 5, 8, 40):
        found = newton.descend(task, start, steps, mu)
        assert (found.misfit <= last).all(), f"{steps} steps: {found.misfit} after {last}"
        assert torch.allclose(found.misfit, task.misfit(found.z), rtol=1e-9, atol=1e-12)
        assert (found.steps <= steps).all()
        last = found.misfit


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(2, 20)),
    output=OUTPUTS,
    hidden=st.sampled_from([ci.ReLU(), ci.LeakyReLU(0.2)]),
    kind=st.sampled_from(SEEING),
)
def test_the_gradient_is_that_of_autograd(
    seed: int, sizes: tuple[int, int, int], output: str, hidden: AbstractActivation, kind: str
):
    G = net(sizes, output, hidden, seed=seed)
    y = normal(4, sizes[-1], seed=seed + 1)
    A, seen = seeing(kind, G, y)
    assume(A is None or bool(A.any()))
    task = make_task(G, seen, A)
    z = normal(4, sizes[0], seed=seed + 2).requires_grad_()
    usable = task.usable
    misfit, g = gradient(task, z.detach())
    r = observed(A, G(z)) - observed(A, y)
    (expected,) = torch.autograd.grad(r.square().sum() / 2, z)
    assert torch.allclose(g[usable], expected[usable], rtol=1e-10, atol=1e-12)
    assert torch.allclose(misfit[usable], r.detach().norm(dim=1)[usable], rtol=1e-12)


def test_levenberg_marquardt_does_not_depend_on_the_neighbours():
    G = net((8, 30, 60, 100))
    _, y = signals(G)
    start = normal(8, 8, seed=1)
    together = newton.descend(make_task(G, y), start)
    for i in range(8):
        alone = newton.descend(make_task(G, y[i]), start[i : i + 1])
        if float(alone.misfit) < 1e-10:
            assert torch.allclose(alone.z[0], together.z[i], rtol=1e-9, atol=1e-9)
        assert torch.allclose(alone.misfit[0], together.misfit[i], rtol=1e-9, atol=1e-12)


def test_a_progress_bar_is_shown_only_when_asked(capfd: pytest.CaptureFixture[str]):
    G = net((5, 20, 40))
    _, y = signals(G)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ci.invert(G, y, progress=False)
        assert capfd.readouterr() == ("", "")
        ci.invert(G, y, progress=True)
    assert "hybrid: 100%" in capfd.readouterr().err


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("method", METHODS)
def test_a_progress_bar_that_was_asked_for_moves(method: str, count: int, capfd: pytest.CaptureFixture[str]):
    """Also where one chunk holds everything: by layers, starts and iterations, in shares of the signals."""
    G = net((5, 20, 40, 60), hidden=ci.LeakyReLU(0.5) if method == "gradient_descent" else ci.ReLU())
    y = signals(G, 8)[1][:count] + (1.0 if method == "levenberg_marquardt" else 0.0)  # out of range: every start is tried
    options = {"restarts": 6} if method == "levenberg_marquardt" else {}
    ci.invert(G, y, method, progress=True, on_fail="ignore", **options)
    shown = [int(word) for word in re.findall(r"(\d+)%", capfd.readouterr().err)]
    assert shown == sorted(shown) and shown[-1] == 100
    assert len({word for word in shown if 0 < word < 100}) >= 3, shown


def test_random_starts_do_not_depend_on_how_many_are_asked_for():
    """They are those that one call a latent draws, whichever method asks for them, and drawn when they are asked for."""
    G = net((20, 60, 100))
    source = torch.Generator().manual_seed(7 ^ 0x5DEECE66D1234567)
    expected = torch.cat([G.sample_latent(1, source) for _ in range(30)])
    one_by_one, at_once = Starts(G, 7), Starts(G, 7)
    assert torch.equal(torch.cat([one_by_one.latents(k) for k in range(30)]), expected)
    assert torch.equal(at_once.latents(20, 10), expected[20:]) and torch.equal(at_once.latents(0, 30), expected)


def test_an_inversion_of_one_signal_makes_few_calls():
    """Of functions of the package, for the default method on an easy signal; no random latent is drawn in vain."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 80), nn.ReLU(), nn.Linear(80, 200))
    G = ci.load_generator(module)
    y = G(G.sample_latent(1, seeded(1)))[0]
    assert ci.invert(G, y).verdict.explained.all()  # and once more, with what is made once
    package, calls = str(Path(ci.__file__).parent), 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(package)

    sys.setprofile(count)
    try:
        ci.invert(G, y)
    finally:
        sys.setprofile(None)
    assert calls < 1300, f"{calls} calls"


def test_random_starts_are_never_the_latents_that_a_user_drew_with_the_same_seed():
    G = net((20, 60, 100))
    drawn = G.sample_latent(100, seeded(0))
    starts = Starts(G, seed=0).latents(0, 1000)
    assert starts.shape == (1000, 20)
    assert torch.cdist(starts, drawn).min() > 0.1
