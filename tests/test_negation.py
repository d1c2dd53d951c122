"""Gradient descent with negation: the sign test leads out of the worse basin, and says how often it did."""

import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from test_plugin import random_net

import cvxinv as ci
from cvxinv.inversion.methods.gradient_descent_with_negation import negate_after_descent
from cvxinv.inversion.steps.gradient import gradient
from cvxinv.inversion.steps.guarded import HOLD, Guarded, stretch
from cvxinv.inversion.steps.starts import Starts
from cvxinv.inversion.steps.walking import walk
from cvxinv.inversion.task import Task, make_task

NAME = "gradient_descent_with_negation"
TESTS = ("always", "settled")


def line() -> ci.Generator:
    """z -> (relu(z), relu(-z) / 2): a basin at z = 1 for y = (1, 0), and one that ends at 0 for z < 0."""
    W = torch.tensor([[1.0], [-0.5]]).double()
    return ci.Generator((ci.Layer(ci.Dense(W), torch.zeros(2).double(), ci.ReLU()),), (2,), {})


LINE, ONE = line(), torch.tensor([[1.0, 0.0]]).double()


def test_one_step_by_hand():
    """f(-1/2) = (1 + 1/16) / 2 > f(1/2) = 1/8: z turns to 1/2, where the slope is 1/2 - 1; half of it leads to 3/4."""
    z0 = torch.tensor([[-0.5]])
    R = ci.invert(LINE, ONE, NAME, step=0.5, max_iter=1, z0=z0, restarts=0, on_fail="ignore")
    assert float(R.z) == 0.75 and R.notes == ("negation: z was turned to -z in 1 of 1 descents, up to 1 times",)


@pytest.mark.parametrize("sign_test", TESTS)
def test_it_leaves_the_basin_in_which_a_descent_ends_at_0(sign_test: str):
    z0, most = torch.tensor([[-1.0]]), {"restarts": 0, "on_fail": "ignore"}
    R = ci.invert(LINE, ONE, NAME, sign_test=sign_test, z0=z0, **most)
    assert R.verdict.explained.all() and float(R.z) == pytest.approx(1.0, rel=1e-8)
    plain = ci.invert(LINE, ONE, "gradient_descent", steps=(0.5,), momentum=0.0, z0=z0, **most)
    assert -1e-3 < float(plain.z) <= 0


def test_a_start_at_0_that_nothing_moves_is_left_and_another_is_kept():
    zero = torch.zeros(1, 1)
    R = ci.invert(LINE, ONE, NAME, z0=zero, restarts=0)
    assert R.used == ("z0",) and float(R.z) == pytest.approx(1.0, rel=1e-8)
    G = net((3, 20, 40))  # biases: 0 is a latent like others
    y = G(torch.full((1, 3), 0.01).double())
    R = ci.invert(G, y, NAME, z0=torch.zeros(1, 3), restarts=0, step=1e-9, max_iter=1, on_fail="ignore")
    assert float(R.z.abs().max()) < 1e-6


def test_the_estimated_step_is_half_of_what_the_larger_slope_bears():
    G = random_net((4, 60, 80))
    z, y = normal(3, 4, seed=1), G(normal(3, 4, seed=2))
    task = make_task(G, y)
    top = torch.maximum(stretch(task, z), stretch(task, -z))
    exact = torch.stack([torch.linalg.matrix_norm(G.linearize(v)[1], 2) ** 2 for v in (z, -z)]).amax(0)
    assert (top <= exact * (1 + 1e-12)).all() and (top >= 0.95 * exact).all()
    x, J = G.linearize(z)
    g = (J.mT @ (x - y)[..., None])[..., 0]
    turned = task.misfit(-z) < task.misfit(z)
    R = ci.invert(G, y, NAME, z0=z, restarts=0, max_iter=1, on_fail="ignore")
    assert not turned.all()
    assert torch.allclose(R.z[~turned], (z - g / (2 * top)[:, None])[~turned], rtol=1e-10, atol=1e-12)


def compressive(nets: int) -> list[tuple[ci.Generator, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Networks 2-30-100 with N(0, 2/m), ten latents each, and 25 Gaussian measurements of their signals."""
    found = []
    for s in range(nets):
        draw, layers = seeded(s), []
        for n, m in ((2, 30), (30, 100)):
            W = (2 / m) ** 0.5 * torch.randn(m, n, generator=draw, dtype=torch.float64)
            layers.append(ci.Layer(ci.Dense(W), torch.zeros(m).double(), ci.ReLU()))
        G, z, A = ci.Generator(tuple(layers), (100,), {}), normal(10, 2, seed=1000 + s), normal(25, 100, seed=2000 + s) / 5
        found.append((G, z, A, G(z) @ A.T))
    return found


def plain_step(task: Task, at: Guarded, _: int) -> tuple[Guarded, torch.Tensor]:
    misfit, g = gradient(task, at.z)
    return at.moved(misfit, g, HOLD), misfit


def test_the_compressive_demo_is_lifted_by_the_sign_test():
    lifted = plain = 0
    for s, (G, z, A, y) in enumerate(compressive(5)):
        R = ci.invert(G, y, NAME, measurement=A, seed=s, on_fail="ignore")
        lifted += int(((R.z - z).norm(dim=1) < 1e-3 * z.norm(dim=1)).sum())
        task = make_task(G, y, A)
        z0 = Starts(G, s).latents(0).expand(10, -1)

        end = walk(task, Guarded.at(z0, torch.full((10,), 0.3).double()), plain_step, max_iter=500, tol=1e-13)
        plain += int(((end.z - z).norm(dim=1) < 1e-3 * z.norm(dim=1)).sum())
    assert lifted >= 47 and plain <= 42


def test_noise_costs_what_a_linear_map_of_as_many_unknowns_would():
    k, d, sigma = 10, 1500, (0.25 / 1500) ** 0.5
    layers, draw = [], seeded(0)
    for n, m in ((k, 500), (500, d)):
        W = (2 / m) ** 0.5 * torch.randn(m, n, generator=draw, dtype=torch.float64)
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m).double(), ci.ReLU()))
    G = ci.Generator(tuple(layers), (d,), {})
    x = G(torch.nn.functional.normalize(normal(6, k, seed=1)))
    R = ci.invert(G, x + sigma * normal(6, d, seed=2), NAME, max_iter=300, on_fail="ignore", noise=("gaussian", sigma))
    assert 0.8 <= float((R.signal - x).square().sum(1).mean()) / (sigma**2 * k) <= 1.5


def test_negations_are_counted_per_signal_and_descents_after_the_test_go_on_from_there():
    task = make_task(LINE, ONE.expand(2, -1))
    z = torch.tensor([[-1.0], [0.5]]).double()
    found, negations = negate_after_descent(task, z, torch.ones(2).double(), max_iter=50, tol=1e-12, held=True)
    assert negations.tolist() == [1, 0] and torch.allclose(found.z, torch.ones(2, 1).double(), atol=1e-8)


@pytest.mark.parametrize("sign_test", TESTS)
def test_biases_and_smooth_layers_are_descended_and_said_to_be_beyond_the_theory(sign_test: str):
    for G, why in ((net((4, 60, 80)), "biases"), (net((4, 60, 80), "sigmoid", hidden=ci.Tanh()), "biases and Tanh")):
        z, y = signals(G, 4)
        R = ci.invert(G, y, NAME, sign_test=sign_test, on_fail="ignore", restarts=3)
        start = ci.invert(G, y, NAME, step=1e-12, max_iter=1, on_fail="ignore")
        assert (R.verdict.misfit < 0.1 * start.verdict.misfit).all() and R.notes[1].endswith(f"not of {why}")
        assert not (ci.invert(random_net((4, 60, 80)), y.abs(), NAME, max_iter=1, on_fail="ignore")).notes[1:]
        assert error(ci.invert(G, y, NAME, z0=z, restarts=0, sign_test=sign_test, on_fail="ignore").z, z) < 1e-6


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_estimated_step_follows_the_scale_of_the_weights(scale: float):
    G = random_net((4, 80, 80), scale=scale)
    z, y = signals(G, 4)
    R = ci.invert(G, y, NAME, restarts=3)
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6


def test_a_measurement_of_magnitudes_and_a_generator_without_layers_are_descended():
    G = random_net((3, 60, 80))
    z, x = signals(G, 3)
    A = normal(60, 80, seed=3) / 60**0.5
    R = ci.invert(G, (x @ A.T).abs(), NAME, measurement=ci.Magnitudes(A), restarts=3, max_iter=500, on_fail="ignore")
    assert int(R.verdict.explained.sum()) >= 2
    module = torch.nn.Sequential(torch.nn.Linear(3, 40), torch.nn.Tanh(), torch.nn.Linear(40, 60)).double()
    opaque = ci.load_generator(module, latent_dim=3, opaque=True)
    z = 0.5 * normal(3, 3, seed=4)
    start, R = (ci.invert(opaque, opaque(z), NAME, max_iter=k, on_fail="ignore") for k in (1, 300))
    assert (R.verdict.misfit < 0.1 * start.verdict.misfit).all() and "not of" in R.notes[1]


def test_options_are_refused_by_name():
    for step in (0, -1.0, float("inf"), "theory", True):
        with pytest.raises(ValueError, match=r"step must be a finite number > 0 or None"):
            ci.GradientDescentWithNegation(step=step)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sign_test"):
        ci.GradientDescentWithNegation(sign_test="never")
    with pytest.raises(ValueError, match="prior"):
        ci.invert(LINE, ONE, NAME, prior=ci.Gaussian(1.0), noise=("gaussian", 0.1))
