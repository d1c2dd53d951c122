"""Signals far from all that a generator makes: the nearest one, and which those are."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator import activations
from cvxinv.inversion.steps import costs
from cvxinv.inversion.steps.far import far_off, search_far_in_turn
from cvxinv.inversion.steps.learnt import learnt_starts
from cvxinv.inversion.steps.newton import Descent, descend, descend_through
from cvxinv.inversion.steps.normal_equations import rough_curvature
from cvxinv.inversion.steps.starts import Hunt, Search, Starts, nothing_yet
from cvxinv.inversion.task import Task, make_task

OUTPUTS = ("identity", "sigmoid", "tanh")
FIRST = [lambda part, z: descend_through(part, z, 20)]


def pictures(G: ci.Generator, N: int, seed: int = 3) -> Tensor:
    """Signals that no latent gives: smooth ones of random frequencies, in the generator's units."""
    t = torch.linspace(0, 1, G.signal_dim, dtype=torch.float64)
    f = 1 + 9 * torch.rand(N, 3, generator=seeded(seed), dtype=torch.float64)
    y = torch.sin(6.2832 * f[..., None] * t).mean(1)
    return (y + 1) / 2 if G.output.range[0] == 0 else y


def adam(G: ci.Generator, y: Tensor, steps: int = 600) -> Tensor:
    """Misfits where Adam ends from one start, `(N,)`."""
    z = (0.1 * normal(len(y), G.latent_dim, seed=9)).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        (G(z) - y).square().sum().backward()
        optimiser.step()
    return (G(z) - y).norm(dim=1).detach()


def hunted(G: ci.Generator, y: Tensor, **told: Any) -> Hunt:
    """What the learnt start leaves."""
    task = make_task(G, y, **told)
    hunt = Hunt(task, nothing_yet(task))
    hunt.offer("learnt start", lambda part, _: FIRST[0](part, learnt_starts(part)))
    return hunt


# --- which signals those are ----------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_own_signals_are_not_far_and_others_are(output: str):
    G = net((6, 40, 80), output, seed=2)
    own, others = signals(G, 20)[1], pictures(G, 5)
    assert len(far_off(hunted(G, own), FIRST)) == 0
    hunt = hunted(G, torch.cat([own, others]))
    assert set(far_off(hunt, FIRST).tolist()) == {20, 21, 22, 23, 24}
    noise = ("l2", 0.1 * others.norm(dim=1))
    assert len(far_off(hunted(G, others, noise=noise), FIRST)) == 5


def test_what_has_a_prior_or_other_noise_is_searched_as_before():
    G = net((6, 40, 80), seed=2)
    y = pictures(G, 3)
    assert len(far_off(hunted(G, y, prior=ci.Box(-3.0, 3.0)), FIRST)) == 0
    assert len(far_off(hunted(G, y, noise=("linf", 1e-3)), FIRST)) == 0
    shallow = ci.load_generator(nn.Sequential(nn.Linear(6, 80), nn.Tanh()).double())
    assert len(far_off(hunted(shallow, pictures(shallow, 3)), FIRST)) == 0


# --- what is found --------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("seen", ["all", "mask", "matrix"])
def test_the_nearest_signal_is_a_local_optimum_and_no_further_than_where_adam_ends(output: str, seen: str):
    G = net((6, 40, 80), output, seed=2)
    y, measurement = pictures(G, 4), None
    if seen == "mask":
        measurement = torch.rand(4, 80, generator=seeded(5)) > 0.3
    if seen == "matrix":
        measurement = normal(40, 80, seed=5) / 9
    observed = y if seen != "matrix" else y @ measurement.T
    R = ci.invert(G, observed, measurement=measurement, on_fail="ignore")
    assert (R.status == "stationary").all() and (R.starts == 10).all()
    if seen == "all":
        assert (R.verdict.misfit <= adam(G, y) * (1 + 1e-9)).all()
    for i in range(4):
        own = measurement[i] if seen == "mask" else measurement
        one = ci.invert(G, observed[i], measurement=own, on_fail="ignore")
        assert float(one.verdict.misfit[0]) == pytest.approx(float(R.verdict.misfit[i]), rel=1e-9)


def test_a_far_signal_among_others_changes_none_of_them():
    G = net((6, 40, 80), "sigmoid", seed=2)
    z, y = signals(G, 6)
    R = ci.invert(G, torch.cat([y, pictures(G, 2)]), on_fail="ignore")
    assert R.verdict.explained[:6].all() and error(R.z[:6], z) < 1e-6 and (R.status[6:] == "stationary").all()


def test_a_time_limit_keeps_what_was_found_so_far():
    G = net((6, 40, 80), "sigmoid", seed=2)
    y = pictures(G, 3)
    R = ci.invert(G, y, time_limit=0.05, on_fail="ignore")
    assert set(R.status) <= {"user_limit", "stationary"} and (R.verdict.misfit <= 1.5 * y.norm(dim=1)).all()


# --- where a Jacobian is dear ---------------------------------------------------------------------


@pytest.fixture()
def all_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators of these tests count as dear, as convolutional ones do."""
    monkeypatch.setattr(costs, "_DEAR", 0)


@pytest.mark.usefixtures("all_dear")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("seen", ["all", "mask"])
def test_of_dear_generators_random_starts_end_when_some_were_in_vain(output: str, seen: str):
    G = net((6, 40, 80), output, seed=2)
    y, told = pictures(G, 4), dict[str, Any]()
    if seen == "mask":
        told["measurement"] = torch.rand(4, 80, generator=seeded(5)) > 0.3
    R = ci.invert(G, y, on_fail="ignore", **told)
    assert (R.status == "stationary").all() and (R.starts >= 3).all() and (R.starts <= 10).all() and (R.starts < 10).any()
    plain = ci.invert(G, y, on_fail="ignore", method="levenberg_marquardt", restarts=3, **told)
    assert (R.verdict.misfit < 1.01 * plain.verdict.misfit).all() and R.verdict.misfit.sum() < plain.verdict.misfit.sum()


@pytest.mark.usefixtures("all_dear")
def test_of_dear_generators_own_signals_beside_far_ones_are_explained():
    G = net((6, 40, 80), "sigmoid", seed=2)
    z, y = signals(G, 6)
    R = ci.invert(G, torch.cat([y, pictures(G, 2)]), on_fail="ignore")
    assert R.verdict.explained[:6].all() and error(R.z[:6], z) < 1e-6 and (R.status[6:] == "stationary").all()
    alone = ci.invert(G, pictures(G, 2)[1], on_fail="ignore")
    assert float(alone.verdict.misfit[0]) == pytest.approx(float(R.verdict.misfit[7]), rel=1e-9)
    assert int(alone.starts[0]) == int(R.starts[7])


def test_what_a_random_start_brings_near_is_searched_on():
    G = net((6, 40, 80), seed=2)
    z, own = signals(G, 1)
    task = make_task(G, torch.cat([own, pictures(G, 1)]))
    hunt = Hunt(task, nothing_yet(task))
    begin = torch.cat([z + 1e-4, torch.zeros_like(z)])
    rows = {float(y[0]): k for k, y in enumerate(task.y)}

    def nowhere(part: Task, _: Tensor) -> Descent:
        return descend(part, begin[[rows[float(y[0])] for y in part.y]], 0)

    search_far_in_turn(hunt, hunt.open, Starts(G), nowhere, range(10), 1)
    assert hunt.open.tolist() == [0] and hunt.answer().starts is not None
    assert hunt.answer().starts.tolist() == [1, 4]  # the first lowers what was nothing


@pytest.mark.usefixtures("all_dear")
def test_a_smoothed_start_is_not_made_twice_from_one_latent(monkeypatch: pytest.MonkeyPatch):
    G, begun = net((6, 40, 80), "sigmoid", seed=2), dict[str, tuple[Tensor, Tensor]]()
    offer = Hunt.offer

    def noted(hunt: Hunt, name: str, search: Search, index: Tensor | None = None) -> None:
        begun[name] = hunt.z.clone(), hunt.open if index is None else index
        offer(hunt, name, search, index)

    monkeypatch.setattr(Hunt, "offer", noted)
    ci.invert(G, pictures(G, 12), on_fail="ignore")
    (before, first), (after, second) = begun["smoothed start 3"], begun["smoothed start 4"]
    moved = (before != after).any(1)
    assert len(first) == 12 and set(second.tolist()) == set(moved.nonzero()[:, 0].tolist()) and 0 < len(second) < 12


# --- the curvature of the output ------------------------------------------------------------------


@pytest.mark.parametrize(
    "phi",
    [
        activations.Identity(), activations.ReLU(), activations.LeakyReLU(0.2), activations.Tanh(), activations.Sigmoid(),
        activations.Softsign(), activations.Softplus(2.0), activations.ELU(0.7), activations.CELU(0.7), activations.SELU(),
        activations.GELU(), activations.PLU(), activations.Rescaled(activations.Tanh(), 0.5, 0.5),
    ],
    ids=lambda phi: type(phi).__name__,
)  # fmt: skip
def test_second_derivatives_are_those_of_differences(phi: activations.AbstractActivation):
    u, h = torch.linspace(-3.05, 3.05, 60, dtype=torch.float64), 1e-5
    expected = (phi.derivative(u + h) - phi.derivative(u - h)) / (2 * h)
    torch.testing.assert_close(phi.second_derivative(u), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seen", ["all", "matrix"])
@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_the_curvature_is_the_hessian_of_the_piece_where_that_is_convex(output: str, seen: str):
    G = net((4, 30, 60), output, seed=3)
    z, y = signals(G, 12)
    y = y + 0.02 * normal(12, 60, seed=4)
    A = normal(30, 60, seed=6) / 8 if seen == "matrix" else None
    task = make_task(G, y if A is None else y @ A.T, measurement=A, noise=("gaussian", 0.02), prior=ci.Gaussian(1.0))
    noisy, task = task, replace(task, far=True)

    def objective(at: Tensor, i: int) -> Tensor:
        x = G(at[None])[0]
        r = x - y[i] if A is None else A @ (x - y[i])
        return r.square().sum() / 2 + 0.02**2 * at.square().sum() / 2

    H, convex = rough_curvature(task, z), 0
    for i in range(12):
        exact = torch.func.hessian(lambda at, i=i: objective(at, i))(z[i])
        if torch.linalg.eigvalsh(exact)[0] > 0.01 * exact.diagonal().mean():
            convex += 1
            torch.testing.assert_close(H[i], exact, rtol=1e-5, atol=1e-5 * float(exact.norm()))
    assert convex > 6
    _, J = task.linearize(z)
    torch.testing.assert_close(rough_curvature(noisy, z), J.mT @ J + 0.02**2 * torch.eye(4).double(), rtol=1e-5, atol=1e-6)


def test_where_the_hessian_is_not_convex_the_curvature_is():
    G = net((4, 30, 60), "sigmoid", seed=3)
    z = 3 * normal(30, 4, seed=7)
    task = make_task(G, 1 - G(z), noise=("gaussian", 0.1))
    _, J = task.linearize(z)
    H = rough_curvature(task, z)
    assert (torch.linalg.eigvalsh(H)[:, 0] > 0).all()
    bent = (H - J.mT @ J).flatten(1).norm(dim=1) > 1e-3 * H.flatten(1).norm(dim=1)
    assert bent.any()
