"""CSGM: what it lowers, which start wins, and what a few entries that are far off do to it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_inversion import error, net, signals

import cvxinv as ci
from cvxinv.inversion.steps.slopes import absolute_slope
from cvxinv.inversion.task import make_task

G = net((4, 40, 80))
Z, Y = signals(G, 5)
QUICK = {"on_fail": "ignore", "progress": False}


def line() -> ci.Generator:
    """G(z) = (2 z, 0) for z > 0 and 0 elsewhere: of y = (2, 1) the objective is (2 z - 2)^2 + 1 + lam z^2."""
    first = ci.Layer(ci.Dense(torch.tensor([[2.0], [-1.0]]).double()), torch.zeros(2).double(), ci.ReLU())
    last = ci.Layer(ci.Dense(torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()), torch.zeros(2).double(), ci.Identity())
    return ci.Generator((first, last), (2,), {})


def test_the_weight_is_that_of_the_squared_length_beside_the_squared_misfit():
    # the derivative 4 (2 z - 2) + 2 lam z is 0 at z = 4 / (4 + lam): 2/3 for lam = 2
    y = torch.tensor([[2.0, 1.0]]).double()
    for finish, near in ((None, 0.02), ("levenberg_marquardt", 1e-7)):
        R = ci.invert(line(), y, "csgm", lam=2.0, finish=finish, restarts=3, **QUICK)
        assert abs(float(R.z) - 2 / 3) < near


def test_the_weight_is_that_of_a_stated_prior_under_stated_noise():
    y = Y + 0.05 * torch.randn(Y.shape, generator=torch.Generator().manual_seed(3)).double()
    words = {"restarts": 2, "max_iter": 300, **QUICK}
    weighed = ci.invert(G, y, "csgm", lam=0.05**2 * 3.0, **words)
    stated = ci.invert(G, y, "csgm", prior=ci.Gaussian(3.0), noise=("gaussian", 0.05), **words)
    assert error(weighed.z, stated.z) < 1e-9


def test_the_start_with_the_lowest_objective_wins_prior_included():
    y = Y + 0.3
    words = {"lam": 5.0, "max_iter": 40, **QUICK}
    single = [ci.invert(G, y, "csgm", z0=start, restarts=0, **words) for start in _starts(6)]
    value = torch.stack([R.verdict.misfit**2 + 5.0 * R.z.square().sum(1) for R in single])
    R = ci.invert(G, y, "csgm", restarts=6, **words)
    lowest = value.argmin(0)
    assert (R.starts == 6).all() and [*R.used] == [f"random start {k + 1}" for k in lowest.tolist()]
    assert len(set(lowest.tolist())) > 1, "one start is best for all: the test does not tell"
    assert error(R.z, torch.stack([single[k].z[i] for i, k in enumerate(lowest.tolist())])) < 1e-12


def _starts(count: int) -> list[torch.Tensor]:
    starts = ci.Starts(G, 0)
    return [starts.latents(k)[0] for k in range(count)]


def test_restarts_go_on_past_a_start_that_explains_where_a_prior_is_weighed():
    R = ci.invert(G, Y, "csgm", restarts=3, max_iter=20, z0=Z, prior=ci.Gaussian(1.0), noise=("gaussian", 0.1), **QUICK)
    assert (R.starts == 3).all()
    R = ci.invert(G, Y, "csgm", restarts=3, max_iter=20, z0=Z, **QUICK)
    assert (R.starts == 0).all() and R.verdict.explained.all()


def test_the_subgradient_of_absolute_misfits_is_that_of_autograd():
    A = torch.randn(30, 80, generator=torch.Generator().manual_seed(1)).double()
    task = make_task(G, (Y + 0.1) @ A.T, A, ("l1", 1.0))
    z = (Z + 0.3).requires_grad_()
    value = (task.generator(z) @ A.T - task.y).abs().sum(1)
    found, slope = absolute_slope(task, z.detach())
    assert torch.allclose(found, value.detach()) and error(slope, torch.autograd.grad(value.sum(), z)[0]) < 1e-12


def test_a_few_entries_that_are_far_off_do_not_pull_where_noise_is_stated_in_l1():
    y, off = Y.clone(), torch.randperm(80, generator=torch.Generator().manual_seed(2))[:8]
    y[:, off] += 10.0
    bound = ("l1", 81.0)
    squares = ci.invert(G, y, "csgm", restarts=3, finish="levenberg_marquardt", **QUICK)
    R = ci.invert(G, y, "csgm", noise=bound, restarts=3, **QUICK)
    ended = ci.invert(G, y, "csgm", noise=bound, restarts=3, finish="levenberg_marquardt", **QUICK)
    assert error(squares.z, Z) > 0.1 and error(R.z, Z) < 0.05 and error(ended.z, Z) < 1e-7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"lam": 0.1, "prior": ci.Gaussian(1.0), "noise": ("gaussian", 0.1)}, "expected lam or a prior, got lam=0.1 and"),
        ({"lam": 0.1, "prior": ci.Ball(3.0)}, "expected lam or a prior"),
        ({"lam": 0.1, "noise": ("gaussian", 0.1)}, "expected no lam under gaussian noise, got lam=0.1"),
        ({"lam": 0.1, "noise": ("l1", 0.1)}, "expected no lam under l1 noise"),
        ({"lam": float("inf")}, "lam must be a finite number >= 0, got inf"),
        ({"rate": 0.0}, "rate must be a finite number > 0, got 0.0"),
        ({"finish": "newton"}, "finish must be one of None, 'levenberg_marquardt', got 'newton'"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: dict, said: str):
    with pytest.raises(ValueError, match=said):
        ci.invert(G, Y, "csgm", **words)


@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_masks_per_signal_matrices_and_biases_are_heeded(hidden: ci.AbstractActivation):
    H = net((4, 40, 80), hidden=hidden, bias=0.3)
    z, y = signals(H, 4)
    source = torch.Generator().manual_seed(5)
    A = torch.randn(20, 80, generator=source).double() / 20**0.5
    mask = torch.rand(4, 80, generator=source) > 0.4
    for measurement, seen in ((mask, torch.where(mask, y, torch.nan)), (A, y @ A.T)):
        R = ci.invert(H, seen, "csgm", measurement=measurement, finish="levenberg_marquardt", restarts=5, **QUICK)
        assert R.verdict.explained.all() and error(R.z, z) < 1e-6


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_it_takes_signals_of_any_unit(scale: float):
    H = net((4, 40, 80))
    last = H.layers[-1]
    scaled = ci.Generator((*H.layers[:-1], ci.Layer(last.W.scaled(scale), last.b * scale, last.activation)), (80,), {})
    z, y = signals(scaled, 4)
    R = ci.invert(scaled, y, "csgm", restarts=2, lam=1e-14 * scale**2, finish="levenberg_marquardt", **QUICK)
    assert error(R.z, z) < 1e-6


@pytest.mark.generators
def test_digits_from_few_measurements_are_as_good_as_published(real_generator: Callable[..., ci.Generator], data_dir: Path):
    G = real_generator("csinva_vae_20_400_784").to(torch.float64)
    x = torch.from_numpy(np.load(data_dir / "datasets" / "mnist_test.npz")["images"][:5].reshape(5, -1) / 255.0)
    source = torch.Generator().manual_seed(0)
    A = torch.randn(100, 784, generator=source).double() / 10
    y = x @ A.T + 0.1 / 10 * torch.randn(5, 100, generator=source).double()
    R = ci.invert(G, y, "csgm", measurement=A, lam=0.1, rate=0.05, max_iter=300, restarts=3, **QUICK)
    # ten other digits, a third party's decoder: 0.0083 per pixel at m = 100; a blank picture has 0.12
    assert ((R.signal - x) ** 2).mean() < 0.015
