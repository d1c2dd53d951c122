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
