"""Intermediate layer optimisation: signals out of range, balls around it, and the way back."""

import pytest
import torch
from test_inversion import error, net, signals

import cvxinv as ci
from cvxinv.inversion.steps.freeing import Freeing, freed, ramp
from cvxinv.inversion.task import make_task

G = net((4, 40, 80))
Z, Y = signals(G, 5)
QUICK = {"on_fail": "ignore", "progress": False}


def out_of_range(size: float = 0.3) -> torch.Tensor:
    """Signals whose hidden activations are none of the first layer's."""
    h = G.layers[0].activation(G.layers[0].W(Z) + G.layers[0].b)
    h = h + size * h.abs().mean() * torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).double()
    return G.layers[1].W(h) + G.layers[1].b


def test_the_ramp_is_the_published_one():
    # up over 5 %, flat until 25 %, a half cosine down over the rest: at 62.5 % it is at its middle
    assert ramp(0.025) == 0.5 and ramp(0.2) == 1.0 and ramp(0.625) == pytest.approx(0.5) and ramp(1.0) == 0.0


def test_activations_stay_in_their_ball_and_radius_0_is_the_generator():
    y, inside = out_of_range(), G.layers[0].activation(G.layers[0].W(Z) + G.layers[0].b)
    task = make_task(G, y)
    assert torch.equal(freed(task, Z, Freeing((0.0,), 20, 0.1)), G(Z))
    x = freed(task, Z, Freeing((0.05,), 100, 0.1))
    # 80 entries of 40 activations: h is read off x
    h = torch.linalg.lstsq(G.layers[1].W.matrix(), (x - G.layers[1].b).T).solution.T
    assert ((h - inside).abs().sum(1) <= 0.05 * inside.abs().sum(1) * (1 + 1e-9)).all()
    assert ((x - y).norm(dim=1) < (G(Z) - y).norm(dim=1)).all()


def test_a_layer_of_radius_0_stays_and_the_others_have_balls_of_their_own():
    """20 activations before 40: with (0, r) the second layer's ball is around layer_2(layer_1(z)); with (r, 0) nothing but
    what layer 2 makes of the first layer's ball comes out, whose own length bounds it."""
    H = net((4, 20, 40, 80))
    z = signals(H, 5)[0]
    h1 = H.layers[0].activation(H.layers[0].W(z) + H.layers[0].b)
    h2 = H.layers[1].activation(H.layers[1].W(h1) + H.layers[1].b)
    task = make_task(H, H(z) + 0.3 * torch.randn(5, 80, generator=torch.Generator().manual_seed(1)).double())

    def read(x: torch.Tensor) -> torch.Tensor:
        # 80 entries of 40 activations: h2 is read off x
        return torch.linalg.lstsq(H.layers[2].W.matrix(), (x - H.layers[2].b).T).solution.T

    second, first = (read(freed(task, z, Freeing(radii, 100, 0.1))) for radii in ((0.0, 0.05), (0.05, 0.0)))
    away = (second - h2).abs().sum(1) / h2.abs().sum(1)
    assert (away <= 0.05 * (1 + 1e-9)).all() and away.max() > 0.04
    # layer 2 is Lipschitz: an l1 ball of h1 becomes no more than its columns' l1 lengths allow
    reach = H.layers[1].W.matrix().abs().sum(0).max() * 0.05 * h1.abs().sum(1)
    moved = (first - h2).abs().sum(1)
    assert (moved <= reach * (1 + 1e-9)).all() and (moved > 1e-3 * reach).all()


# Adam scales every coordinate, so that on a sphere it rests a little aside of the optimum; along a box's sides it does not
@pytest.mark.parametrize(("prior", "over"), [(ci.Box(-0.5, 0.5), 1.02), (ci.Ball(1.0), 1.1)], ids=str)
def test_the_answer_lies_in_the_set_of_a_prior_and_is_as_good_there_as_anybodys(prior: ci.AbstractPrior, over: float):
    assert (prior.project(Z) != Z).any()  # the set binds
    words = {"prior": prior, "restarts": 2, **QUICK}
    R, best = (ci.invert(G, Y, name, **words) for name in ("intermediate_layers", "levenberg_marquardt"))
    assert torch.allclose(prior.project(R.z), R.z, rtol=0, atol=1e-12)
    assert (R.verdict.misfit <= over * best.verdict.misfit + 1e-6).all()


def test_a_gaussian_prior_is_weighed_in_z_and_on_the_way_back():
    y = Y + 0.1 * torch.randn(Y.shape, generator=torch.Generator().manual_seed(4)).double()
    words = {"prior": ci.Gaussian(20.0), "noise": ("gaussian", 0.1), "z0": Z, "restarts": 0, **QUICK}
    best, plain = ci.invert(G, y, "levenberg_marquardt", **words), ci.invert(G, y, z0=Z, **QUICK)
    R = ci.invert(G, y, "intermediate_layers", **words)
    assert error(R.z, best.z) < 1e-2 * error(plain.z, best.z)


def test_hidden_entries_of_a_signal_out_of_range_are_nearer_than_those_of_the_best_latent():
    x = out_of_range()
    mask = torch.rand(80, generator=torch.Generator().manual_seed(2)) > 0.25
    y = torch.where(mask, x, torch.nan)
    R = ci.invert(G, y, "levenberg_marquardt", measurement=mask, restarts=5, **QUICK)
    found = ci.IntermediateLayers(radius=0.5, max_iter=500).freed_signals(G, y, R.z, measurement=mask)
    off = ~mask
    assert (found - x)[:, off].norm() < 0.7 * (R.signal - x)[:, off].norm()


def test_signals_in_range_are_found_and_the_way_back_is_exact():
    R = ci.invert(G, Y, "intermediate_layers", restarts=3, **QUICK)
    assert R.verdict.explained.all() and error(R.z, Z) < 1e-6


def test_a_few_entries_that_are_far_off_do_not_pull_where_noise_is_stated_in_l1():
    y = Y.clone()
    y[:, torch.randperm(80, generator=torch.Generator().manual_seed(2))[:8]] += 10.0
    words = {"restarts": 3, "radius": 0.02, **QUICK}
    R = ci.invert(G, y, "intermediate_layers", noise=("l1", 80.0), **words)
    squares = ci.invert(G, y, "intermediate_layers", **words)
    assert error(R.z, Z) < 0.1 < error(squares.z, Z)


@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_masks_matrices_biases_and_outputs_are_heeded(hidden: ci.AbstractActivation):
    H = net((4, 30, 40, 80), "sigmoid", hidden=hidden)
    y = signals(H, 3)[1]
    A = torch.randn(40, 80, generator=torch.Generator().manual_seed(3)).double() / 40**0.5
    mask = torch.rand(3, 80, generator=torch.Generator().manual_seed(4)) > 0.3
    for measurement, seen in ((mask, torch.where(mask, y, torch.nan)), (A, y @ A.T)):
        R = ci.invert(H, seen, "intermediate_layers", measurement=measurement, restarts=4, **QUICK)
        assert R.verdict.relative_misfit.max() < 1e-2


def test_what_it_cannot_do_is_refused():
    one = ci.Generator(G.layers[-1:], (80,), {})
    with pytest.raises(ValueError, match="expected a chain of layers with a hidden one, got one without a hidden layer"):
        ci.invert(one, Y, "intermediate_layers")
    with pytest.raises(ValueError, match=r"expected z of shape \(5, 4\), got \(2, 4\)"):
        ci.IntermediateLayers().freed_signals(G, Y, Z[:2])
    with pytest.raises(ValueError, match="radius must be a finite number >= 0, got -1"):
        ci.IntermediateLayers(radius=-1)
    with pytest.raises(ValueError, match="radius must be a finite number >= 0, got 'wide'"):
        ci.IntermediateLayers(radius=(0.1, "wide"))  # type: ignore[arg-type]
    method = ci.IntermediateLayers(radius=(0.1, 0.2))
    for ask in (lambda: ci.invert(G, Y, method), lambda: method.freed_signals(G, Y, Z)):
        with pytest.raises(ValueError, match=r"one per hidden layer \(1\), got 2; pass e.g. radius=\(0.1,\)"):
            ask()
