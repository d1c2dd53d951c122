"""PLUGIn: what it rests on, its steps, and where it settles; what it cannot do is refused or said."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator.activations import AbstractActivation
from cvxinv.generator.maps import Composition
from cvxinv.inversion.methods.plugin import norms_step, product_of, theory_step
from cvxinv.inversion.steps.guarded import stretch
from cvxinv.inversion.task import make_task


def random_net(sizes: tuple[int, ...], *, phi: AbstractActivation | None = None, scale: float = 1.0) -> ci.Generator:
    """Weights `scale` N(0, 1/m) and no biases, the same activation behind every layer."""
    draw, layers = seeded(0), []
    for n, m in pairwise(sizes):
        W = scale * torch.randn(m, n, generator=draw, dtype=torch.float64) / m**0.5
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), phi or ci.ReLU()))
    return ci.Generator(tuple(layers), (sizes[-1],), {})


def hand_net() -> ci.Generator:
    """z -> h = relu(2 z) -> x = (3 h, h): P = (6, 2)'."""
    maps = (torch.tensor([[2.0]]).double(), torch.tensor([[3.0], [1.0]]).double())
    layers = (
        ci.Layer(ci.Dense(maps[0]), torch.zeros(1).double(), ci.ReLU()),
        ci.Layer(ci.Dense(maps[1]), torch.zeros(2).double(), ci.Identity()),
    )
    return ci.Generator(layers, (2,), {})


HAND, HAND_Y = hand_net(), torch.tensor([[3.0, 1.0]]).double()  # of z = 1/2


def test_one_step_by_hand():
    """At z = 1, G = (6, 2), G - y = (3, 1), P'(G - y) = 18 + 2 = 20; with step 1/100 it goes to 0.8."""
    R = ci.invert(HAND, HAND_Y, "plugin", step=0.01, max_iter=1, z0=torch.ones(1), restarts=0, on_fail="ignore")
    assert float(R.z) == pytest.approx(0.8, rel=1e-14)


def test_it_goes_on_from_where_no_unit_is_on_and_a_gradient_is_0():
    """At z = -1, G = 0 and P'(G - y) = -20: five steps of 0.2 to z = 0, then each leaves 0.6 of what is left to 1/2."""
    z0, most = torch.tensor([[-1.0]]), {"restarts": 0, "on_fail": "ignore"}
    six = ci.invert(HAND, HAND_Y, "plugin", step=0.01, max_iter=6, z0=z0, **most)
    assert float(six.z) == pytest.approx(0.2, rel=1e-12)
    assert float(ci.invert(HAND, HAND_Y, "plugin", z0=z0, **most).z) == pytest.approx(0.5, rel=1e-12)
    assert float(ci.invert(HAND, HAND_Y, "gradient_descent", z0=z0, **most).z) == -1


@pytest.mark.parametrize("bias", [0.0, 0.05, -0.1])
@pytest.mark.parametrize("phi", [ci.ReLU(), ci.LeakyReLU(0.2), ci.Sigmoid()], ids=repr)
def test_what_weights_carry_back_is_a_multiple_of_the_input(phi: AbstractActivation, bias: float):
    """E W's(Wh + b) = c h: c = (1 + a)/2 without bias; Phi(b m^(1/2) / |h|) + a Phi(-...) of a leaky ReLU with it."""
    m, draws = 100, 4000
    h = torch.tensor([0.3, -0.5, 0.2]).double()
    W = normal(draws, m, 3, seed=1) / m**0.5
    each = torch.einsum("kmn,km->kn", W, phi(W @ h + bias))
    mean, spread = each.mean(0), each.std(0) / draws**0.5
    c = (mean @ h) / (h @ h)
    assert ((mean - c * h).abs() <= 4 * spread).all() and c > 0
    if phi.slopes is not None:
        on, a = 0.5 * (1 + math.erf(bias * m**0.5 / float(h.norm()) / 2**0.5)), phi.slopes[0]
        assert float(c) == pytest.approx(on + a * (1 - on), abs=4 * float(spread.norm() / h.norm()))


@pytest.mark.parametrize(("phi", "share"), [(ci.ReLU(), 0.5), (ci.LeakyReLU(0.2), 0.6)])
def test_the_steps_of_the_source_follow_activation_and_scale_of_the_weights(phi: AbstractActivation, share: float):
    G, H = (random_net((10, 300, 400), phi=phi, scale=s) for s in (1.0, 3.0))
    assert theory_step(G) == pytest.approx(share**-2, rel=0.05)
    assert theory_step(H) == pytest.approx(theory_step(G) / 3**4, rel=1e-12)
    norms = [torch.linalg.matrix_norm(layer.W.matrix(), 2) for layer in G.layers]
    assert norms_step(G) == pytest.approx(float(1 / (norms[0] * norms[1])), rel=1e-9)


def test_the_estimated_step_is_that_of_the_matrix_between_latents():
    G = net((5, 40, 60))
    z, y = signals(G, 4)
    A = normal(30, 60, seed=5)
    task, P = make_task(G, y @ A.T, A), product_of(G)
    _, J = G.linearize(z)
    for found, left in ((stretch(task, z, P), P.matrix().expand(4, -1, -1)), (stretch(task, z), J)):
        exact = torch.linalg.matrix_norm((A @ left).mT @ (A @ J), 2)
        assert (found <= exact * (1 + 1e-12)).all() and (found >= 0.95 * exact).all()


def test_the_product_is_a_matrix_only_where_that_is_less_work():
    G, narrow = net((5, 20, 60)), net((30, 2, 40))
    assert isinstance(product_of(G), ci.Dense) and isinstance(product_of(narrow), Composition)
    for H in (G, narrow):
        v = normal(3, H.latent_dim, seed=1)
        assert torch.allclose(product_of(H)(v), H.layers[1].W(H.layers[0].W(v)), rtol=1e-12, atol=1e-12)


DEEP = random_net((20, 600, 500, 500))
TRUE = torch.nn.functional.normalize(normal(4, 20, seed=2))


@pytest.mark.parametrize("step", [None, 3.0])
def test_the_sources_network_is_inverted_in_about_250_steps(step: float | None):
    R = ci.invert(DEEP, DEEP(TRUE), "plugin", step=step, max_iter=400, truth=TRUE)
    assert R.verdict.explained.all() and error(R.z, TRUE) < 1e-11 and R.notes == ()


def test_a_step_of_the_theory_is_held_and_said_not_to_settle_at_these_widths():
    R = ci.invert(DEEP, DEEP(TRUE), "plugin", step=8.0, max_iter=400, on_fail="ignore")
    assert not R.verdict.explained.any() and len(R.notes) == 1
    assert "not every signal settled with step=8.0; a smaller one, or none" in R.notes[0]


def test_a_step_that_runs_away_ends_where_it_was_best():
    R = ci.invert(DEEP, DEEP(TRUE), "plugin", step=1e3, on_fail="ignore")
    assert R.z.isfinite().all() and "settled with step=1000.0" in R.notes[0]
    start = ci.invert(DEEP, DEEP(TRUE), "plugin", step=1e-9, max_iter=1, on_fail="ignore")
    assert (R.verdict.misfit <= start.verdict.misfit * 1.001).all()


def test_measurements_of_the_source_are_inverted():
    A = normal(500, 500, seed=7) / 500**0.5
    R = ci.invert(DEEP, DEEP(TRUE) @ A.T, "plugin", measurement=A)
    assert R.verdict.explained.all() and error(R.z, TRUE) < 1e-9


def test_with_noise_the_answer_is_a_fixed_point_and_no_least_squares_optimum():
    noise = 0.3 * torch.nn.functional.normalize(normal(4, 500, seed=8))
    y = DEEP(TRUE) + noise
    R = ci.invert(DEEP, y, "plugin", on_fail="ignore", noise=("l2", 0.01))
    best = ci.invert(DEEP, y, "levenberg_marquardt", z0=TRUE, restarts=0, on_fail="ignore", noise=("l2", 0.01))
    P, r = product_of(DEEP), DEEP(R.z) - y
    assert (P.adjoint(r).norm(dim=1) < 1e-9 * P.adjoint(y).norm(dim=1)).all()
    assert (R.verdict.misfit > 1.01 * best.verdict.misfit).all()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_estimated_step_follows_the_scale_of_the_weights(scale: float):
    G = random_net((5, 100, 100), scale=scale)
    z, y = signals(G, 4)
    R = ci.invert(G, y, "plugin", restarts=3)
    assert R.verdict.explained.all() and error(R.z, z) < 1e-9


def test_signals_do_not_depend_on_their_neighbours():
    G = net((4, 60, 80))
    z, y = signals(G, 6)
    mask = torch.rand(6, 80, generator=seeded(4)) < 0.8
    broken = y.clone()
    broken[2] = torch.nan
    whole = ci.invert(G, broken, "plugin", measurement=mask, on_fail="ignore")
    parts = ci.invert(G, broken, "plugin", measurement=mask, on_fail="ignore", chunk=2)
    alone = ci.invert(G, y[4], "plugin", measurement=mask[4], on_fail="ignore")
    kept = torch.arange(6) != 2
    assert whole.verdict.explained[kept].all() and error(whole.z[kept], z[kept]) < 1e-7
    assert error(parts.z[kept], whole.z[kept]) < 1e-9 and error(alone.z[None], whole.z[4:5]) < 1e-9


def test_float32_signals_are_inverted():
    G = net((4, 60, 80)).to(torch.float32)
    z, y = signals(G, 3)
    R = ci.invert(G, y, "plugin")
    assert R.verdict.explained.all() and R.z.dtype == torch.float32 and error(R.z, z) < 1e-4


def test_what_is_beyond_its_theory_is_said_and_the_theorys_step_refused():
    for G, why in (
        (net((4, 60, 80)), "biases"),
        (net((4, 60, 80), "sigmoid", bias=0.0), "Sigmoid"),
        (net((4, 60, 80), hidden=ci.Tanh()), "biases and Tanh"),
    ):
        y = G(G.sample_latent(3, seeded(3)))
        R = ci.invert(G, y, "plugin", on_fail="ignore")
        assert R.notes[0].startswith("plugin is heuristic here") and R.notes[0].endswith(f"not of {why}")
        with pytest.raises(ValueError, match=f"got 'theory'.*this generator has {why}; leave step out"):
            ci.invert(G, y, "plugin", step="theory")


class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8).double()

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z)
        return h * h.sigmoid() * h.sum(1, keepdim=True)


def softmax_net() -> ci.Generator:
    return ci.load_generator(nn.Sequential(nn.Linear(3, 8), nn.Softmax(1)).double())


REFUSED: dict[str, tuple[Callable[[], ci.Generator], str]] = {
    "an activation that falls": (lambda: net((3, 8, 8), hidden=ci.GELU()), r"GELU behind layers\[0\]"),
    "one of groups": (softmax_net, r"Softmax behind layers\[0\]"),
    "no layers": (lambda: ci.load_generator(TwoBranches(), latent_dim=3, opaque=True), "no weights are known"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_generator_that_it_cannot_serve_is_refused_by_name(what: str):
    make, words = REFUSED[what]
    G = make()
    z = G.sample_latent(2, seeded(1))
    with pytest.raises(ValueError, match=rf"plugin cannot invert this: expected layers.*{words}.*method='hybrid'"):
        ci.invert(G, G(z), "plugin")


def test_other_tasks_and_options_are_refused_by_name():
    y = DEEP(TRUE)
    with pytest.raises(ValueError, match=r"plugin cannot invert this: expected a linear measurement, got Magnitudes"):
        ci.invert(DEEP, y.abs(), "plugin", measurement=ci.Magnitudes())
    with pytest.raises(ValueError, match="prior"):
        ci.invert(DEEP, y, "plugin", prior=ci.Gaussian(1.0), noise=("gaussian", 0.1))
    for step in (0, -1.0, float("inf"), float("nan"), "thoery", True):
        with pytest.raises(ValueError, match=r"step must be a finite number > 0, 'theory', 'norms' or None"):
            ci.Plugin(step=step)
    for options in ({"tol": -1e-3}, {"max_iter": 0}, {"restarts": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ci.Plugin(**options)


def test_a_time_limit_brings_back_what_was_reached():
    R = ci.invert(DEEP, DEEP(TRUE), "plugin", time_limit=1e-6, on_fail="ignore")
    assert R.z.isfinite().all() and (R.status == "user_limit").all()


def test_a_start_that_is_given_is_begun_with():
    G = net((4, 60, 80))
    z, y = signals(G, 3)
    R = ci.invert(G, y, ci.Plugin(z0=z + 1e-3, restarts=0))
    assert R.used == ("z0",) * 3 and R.verdict.explained.all() and int(R.starts.sum()) == 0
    again = ci.invert(G, y, ci.Plugin(z0=replace(R, z=R.z), restarts=0))
    assert error(again.z, z) < 1e-9


@pytest.mark.generators
@pytest.mark.parametrize("name", ["laug_vae_5_128_256_784", "zeesky_vae_10_400_784"])
def test_it_inverts_trained_decoders_behind_a_sigmoid(real_generator, name: str):
    G = real_generator(name).to(torch.float64)
    z = G.sample_latent(6, seeded(1))
    R = ci.invert(G, G(z), "plugin", restarts=3, truth=z, on_fail="ignore")
    assert int(R.verdict.explained.sum()) >= 5
    there = R.verdict.explained
    assert error(R.z[there], z[there]) < 1e-6
