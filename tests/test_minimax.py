"""Noise stated in the maximum norm: latents that keep its bound, and the smallest largest misfit where none does."""

from dataclasses import replace
from itertools import pairwise

import cvxpy as cp
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.inversion.steps.minimax import descend_largest, descend_within, lowered_near
from cvxinv.inversion.task import Task, make_task


def net(*sizes: int, seed: int = 0) -> ci.Generator:
    torch.manual_seed(seed)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return ci.load_generator(nn.Sequential(*layers[:-1]))


def uniform(x: Tensor, share: float, seed: int = 5) -> tuple[Tensor, float]:
    """Signals with every entry off by up to a share of their root mean square, and that bound."""
    eps = share * float(x.square().mean().sqrt())
    return x + eps * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype) - 1), eps


def largest(task: Task, z: Tensor) -> Tensor:
    return task.residual(task.generator(z)).abs().amax(1)


def test_what_is_within_the_slack_has_no_part_worked_by_hand():
    G = ci.load_generator(nn.Sequential(nn.Linear(1, 3)))
    y = torch.zeros(1, 3, dtype=torch.float64)
    task = make_task(G, y, torch.tensor([True, True, False]), ("linf", 1.0))
    part = replace(task, slack=torch.tensor([0.5], dtype=torch.float64))
    x = torch.tensor([[2.0, -0.25, 9.0]], dtype=torch.float64)
    assert part.residual(x).tolist() == [[1.5, 0.0, 0.0]]
    still = part.still(x)
    assert still is not None and still.tolist() == [[False, True, True]]
    assert part.residual(-x).tolist() == [[-1.5, 0.0, 0.0]]


def test_the_gradient_of_the_excess_is_that_of_differences():
    G = net(3, 12, 20)
    y, eps = uniform(G(G.sample_latent(4, torch.Generator().manual_seed(1))), 0.3)
    task = replace(make_task(G, y, None, ("linf", eps)), noise=None, slack=torch.full((4,), eps, dtype=torch.float64))
    z = G.sample_latent(4, torch.Generator().manual_seed(2))
    r, J = task.linearize(z)
    g, h = (J.mT @ r[..., None])[..., 0], 1e-6
    for j in range(3):
        e = h * torch.eye(3, dtype=torch.float64)[j]
        slope = (task.misfit(z + e).square() - task.misfit(z - e).square()) / (4 * h)
        assert torch.allclose(slope, g[:, j], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("share", [0.01, 0.2])
@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt", "latent_pursuit"])
def test_own_signals_are_explained_within_the_bound(method: str, share: float):
    G = net(6, 24, 48, 100)
    y, eps = uniform(G(G.sample_latent(40, torch.Generator().manual_seed(3))), share)
    R = ci.invert(G, y, method, noise=("linf", eps), on_fail="ignore")
    within = (R.signal - y).abs().amax(1) <= eps * (1 + 1e-9)
    assert within.tolist() == R.verdict.explained.tolist()
    # some of single random starts lead nowhere, whatever follows
    assert int(within.sum()) >= {"hybrid": 40, "latent_pursuit": 36, "levenberg_marquardt": 25}[method]


def test_a_signal_is_led_into_the_bound_as_if_alone():
    G = net(6, 24, 48, 100)
    y, eps = uniform(G(G.sample_latent(5, torch.Generator().manual_seed(3))), 0.1)
    task, z = make_task(G, y, None, ("linf", eps)), G.sample_latent(5, torch.Generator().manual_seed(4))
    end = descend_within(task, z)
    assert torch.allclose(end.merit, largest(task, end.z)) and (end.merit <= largest(task, z)).all()
    for k in range(5):
        one = descend_within(task.take(slice(k, k + 1)), z[k : k + 1])
        assert torch.allclose(one.z[0], end.z[k], rtol=1e-6, atol=1e-9)


def test_on_one_piece_the_largest_misfit_is_the_least_there_is():
    torch.manual_seed(1)
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 12)))
    y = torch.randn(4, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    task = make_task(G, y, None, ("linf", 1e-3))
    found = largest(task, descend_largest(task, torch.zeros(4, 3, dtype=torch.float64)))
    W, b = G.layers[0].W.matrix().numpy(), G.layers[0].b.numpy()
    for k in range(4):
        z, t = cp.Variable(3), cp.Variable()
        least = cp.Problem(cp.Minimize(t), [cp.abs(W @ z + b - y[k].numpy()) <= t]).solve("CLARABEL")
        assert float(found[k]) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("prior", [None, ci.Box(-1.0, 1.0), ci.Ball(1.5)], ids=repr)
def test_where_the_bound_cannot_be_kept_no_step_near_by_lowers_the_largest_misfit(prior: ci.AbstractPrior | None):
    G = net(4, 16, 40)
    y = G(G.sample_latent(6, torch.Generator().manual_seed(1)))
    y = y + 0.3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    R = ci.invert(G, y, noise=("linf", 1e-3), prior=prior, on_fail="ignore")
    task = make_task(G, y, None, ("linf", 1e-3), prior)
    found = largest(task, R.z)
    assert set(R.status) <= {"stationary"}
    assert (largest(task, lowered_near(task, R.z)) >= (1 - 1e-6) * found).all()
    moves = 1e-3 * torch.randn(500, 1, 4, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    near = R.z + moves if prior is None else torch.stack([task.prior.project(z) for z in R.z + moves])  # type: ignore[union-attr]
    assert (torch.stack([largest(task, z) for z in near]).amin(0) >= (1 - 1e-3) * found).all()


def test_a_bound_of_nothing_asks_for_the_signal_itself():
    G = net(4, 16, 40)
    z = G.sample_latent(3, torch.Generator().manual_seed(1))
    R = ci.invert(G, G(z), noise=("linf", 0.0), truth=z, on_fail="ignore")
    assert torch.allclose(R.z, z, atol=1e-8)
