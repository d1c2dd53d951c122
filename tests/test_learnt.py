"""Starts that are computed: ridge regression from a generator's own signals, and smoothed Gauss-Newton."""

from dataclasses import replace

import pytest
import torch
from test_inversion import net, normal, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.generator.chain import Generator
from cvxinv.inversion.progress import Progress
from cvxinv.inversion.steps import learnt
from cvxinv.inversion.steps.learnt import learnt_starts, lesson_for, samples, straightened
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.steps.smoothed import descend_smoothed, mean_slope, smoothed_jacobian, squashed
from cvxinv.inversion.task import make_task


def textbook_ridge(G: Generator, y: Tensor, seen: Tensor, sigma: float = 0.0, inverse=lambda x: x) -> Tensor:
    """B = (X'X + lam I)^-1 X'Z on centred samples of the seen entries, the primal form, for each y `(k,)`."""
    S = samples(G)
    Z = G.sample_latent(S, seeded(learnt._SEED))
    X = inverse(G(Z))[:, seen]
    e, m = X.mean(0), Z.mean(0)
    X, Z = X - e, Z - m
    lam = 1e-4 * X.square().sum() / S + S * sigma**2
    B = torch.linalg.solve(X.T @ X + lam * torch.eye(X.shape[1], dtype=X.dtype), X.T @ Z)
    return m + (inverse(y)[:, seen] - e) @ B


EVERYTHING = torch.ones(40, dtype=torch.bool)
SOME = torch.arange(40) % 3 > 0


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("seen", [EVERYTHING, SOME], ids=["everything", "mask"])
def test_a_learnt_start_is_ridge_regression_on_the_seen_entries(seen: Tensor, sigma: float):
    G = net((6, 30, 40))
    _, y = signals(G, 5)
    noise = ("gaussian", sigma) if sigma else None
    found = learnt_starts(make_task(G, y, None if seen.all() else seen, noise))
    assert torch.allclose(found, textbook_ridge(G, y, seen, sigma), atol=2e-3)  # float32 samples, small directions left out
    if sigma:
        assert not torch.allclose(found, textbook_ridge(G, y, seen, 0.0), atol=1e-2)


def test_a_learnt_start_behind_a_tanh_reads_what_is_before_it():
    G = net((6, 30, 40), "tanh")
    _, y = signals(G, 5)
    assert torch.allclose(learnt_starts(make_task(G, y)), textbook_ridge(G, y, EVERYTHING, inverse=torch.atanh), atol=2e-3)


def test_entries_at_and_beyond_the_ends_of_an_output_are_cut_off():
    """tanh' = 1 - tanh^2 is 1e-6 at tanh = (1 - 1e-6)^(1/2), u = 7.6."""
    u = straightened(ci.Tanh(), torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64))
    ends = torch.tensor([-7.6, -7.6, 0.0, 0.5493, 7.6, 7.6], dtype=torch.float64)
    assert torch.allclose(u, ends, atol=0.011)


@pytest.mark.parametrize("kind", ["masks", "matrix", "noise"])
def test_a_learnt_start_does_not_depend_on_the_neighbours(kind: str):
    G = net((6, 30, 40))
    _, y = signals(G, 4)
    seen = torch.rand(4, 40, generator=seeded(1)) > 0.4
    seen[2] = seen[0]
    measurement = {"masks": seen, "matrix": normal(20, 40, seed=2), "noise": None}[kind]
    noise = ("l2", torch.tensor([0.0, 0.1, 1.0, 0.1], dtype=torch.float64)) if kind == "noise" else None
    y = y @ measurement.T if kind == "matrix" else y
    task = make_task(G, y, measurement, noise)
    alone = torch.cat([learnt_starts(task.take(torch.tensor([i]))) for i in range(4)])
    assert torch.allclose(learnt_starts(task), alone, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_a_learnt_start_knows_no_units(unit: float):
    G = net((6, 30, 40))
    _, y = signals(G, 3)
    last = G.layers[-1]
    other = Generator((*G.layers[:-1], replace(last, W=last.W.scaled(unit), b=last.b * unit)), (40,), {})
    assert torch.allclose(
        learnt_starts(make_task(other, y * unit)), learnt_starts(make_task(G, y)), atol=1e-2
    )  # float32 samples
    assert torch.isfinite(descend_smoothed(make_task(other, y * unit), torch.zeros(3, 6, dtype=torch.float64))).all()


def test_a_lesson_is_worked_out_once_for_all_copies_of_a_generator():
    G = net((6, 30, 40)).to(torch.float32)
    _, y = signals(G, 2)
    first = lesson_for(make_task(G, y).to(torch.float64))
    assert lesson_for(make_task(G, y).to(torch.float64)) is first
    assert lesson_for(make_task(G, y, EVERYTHING)) is first
    tanh = G.with_output("tanh")
    assert lesson_for(make_task(tanh, torch.tanh(y))) is not first and tanh.kept is G.kept
    assert net((6, 30, 40)).kept == {}


def test_a_time_limit_ends_a_lesson_and_keeps_none_of_it():
    G = net((6, 30, 40))
    _, y = signals(G, 2)
    task = make_task(G, y)
    late = replace(task, progress=Progress(deadline=0.0))
    brief = lesson_for(late)
    assert len(brief.sizes) == learnt._BLOCK < samples(G) and G.kept == {}
    assert torch.isfinite(learnt_starts(late)).all()
    whole = lesson_for(task)
    assert len(whole.sizes) == samples(G) and lesson_for(late) is whole


@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
def test_the_smoothed_jacobian_is_the_regression_slope_over_a_neighbourhood(hidden: ci.ReLU | ci.LeakyReLU):
    """Exact with one hidden layer: E J(z + s u) by 200,000 draws has a standard error of about 1 / 450 of an entry."""
    G, z, s = net((4, 12, 9), hidden=hidden), normal(1, 4, seed=3), 0.5
    u = normal(200_000, 4, seed=4)
    x = G(z + s * u)
    slope = torch.linalg.lstsq(torch.cat([s * u, torch.ones(len(u), 1, dtype=u.dtype)], 1), x).solution[:4].T
    found = smoothed_jacobian(G, z, s)[1][0]
    assert (found - slope).norm() <= 0.01 * slope.norm()
    assert (G.linearize(z)[1][0] - slope).norm() > 0.1 * slope.norm()


@pytest.mark.parametrize("output", ["identity", "tanh", "relu"])
def test_the_smoothed_jacobian_of_no_neighbourhood_is_the_jacobian(output: str):
    G, z = net((4, 12, 15, 9), output), normal(3, 4, seed=3)
    x, J = smoothed_jacobian(G, z, 1e-9)
    expected_x, expected_J = G.linearize(z)
    assert torch.allclose(x, expected_x) and torch.allclose(J, expected_J, atol=1e-9)


def test_mean_slopes_are_those_of_monte_carlo():
    u = torch.tensor([-1.0, 0.0, 0.3], dtype=torch.float64)
    draws = u + 0.7 * normal(400_000, 1, seed=0)
    for phi in (ci.ReLU(), ci.LeakyReLU(0.3)):
        assert torch.allclose(mean_slope(phi, u, torch.full_like(u, 0.7)), phi.derivative(draws).mean(0), atol=4e-3)


def test_smoothed_descents_find_more_than_plain_ones_from_the_same_start():
    """Three hidden layers and few entries: many local optima."""
    G = net((20, 40, 80, 80, 160), bias=0.1)
    _, y = signals(G, 30)
    task = make_task(G, y)
    start = learnt_starts(task)

    def found(start: Tensor, steps: int) -> int:
        return int(task.explained(descend(task, start, steps).z).sum())

    plain, smoothed = found(start, 62), found(descend_smoothed(task, start), 50)
    assert smoothed >= plain + 5, f"{smoothed} of 30, {plain} without smoothing"


def test_a_squashed_task_has_the_same_solutions():
    G = net((6, 30, 40))
    z, y = signals(G, 3)
    for measurement, seen in ((None, EVERYTHING), (SOME, SOME)):
        other = squashed(make_task(G, y, measurement), 2.0)
        assert other is not None and float(other.misfit(z).max()) < 1e-12
        apart = (torch.tanh(G(z + 1)) - torch.tanh(y))[:, seen]
        assert torch.allclose(other.misfit(z + 1), apart.norm(dim=1))
    assert squashed(make_task(G.with_output("tanh"), torch.tanh(y)), 2.0) is None
    assert squashed(make_task(G, y, None, ("l2", 0.1)), 2.0) is None
