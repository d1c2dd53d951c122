"""Maximum a posteriori: the objective that noise and prior state, its optima on the affine pieces and among their kinks."""

from typing import Any

import cvxpy as cp
import pytest
import torch
from test_inversion import net, normal, seeded, signals
from test_priors import PRIORS, exact, numbers
from torch import Tensor

import cvxinv as ci
from cvxinv.generator.chain import Generator
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.steps.ties import Slope, View, tied_step
from cvxinv.inversion.task import Task, make_task

SIGMA = 0.1
WEIGHED = [name for name in PRIORS if name.startswith("gaussian")]


def noisy_task(G: Generator, prior: Any = None, N: int = 6, sigma: float = SIGMA, seed: int = 6) -> tuple[Tensor, Task]:
    z, x = signals(G, N)
    return z, make_task(G, x + sigma * normal(*x.shape, seed=seed), noise=("gaussian", sigma), prior=prior)


def objective(task: Task, z: Tensor) -> Tensor:
    """f(z), written out."""
    assert task.noise is not None
    misfit = (task.generator(z) - task.y).square().sum(1) / (2 * task.noise.bound**2)
    return misfit + (0 if task.prior is None else task.prior.value(z))


# --- kinks -----------------------------------------------------------------------------------------


def kinked_model(task: Task, z: Tensor, H: Tensor, g: Tensor) -> float:
    """The least value of one signal's model with every kink of a 3-layer ReLU net that costs something, by CVXPY."""
    layers, a, h, slopes = task.generator.layers, torch.eye(len(z), dtype=z.dtype), z, []
    values, gradients = [], []
    for layer in layers[:-1]:
        M = layer.W.matrix()
        u, a = M @ h + layer.b, M @ a
        values.append(u)
        gradients.append(a)
        slopes.append((u > 0).to(u))
        h, a = u * slopes[-1], a * slopes[-1][:, None]
    back, kappa = layers[-1].W.matrix().T @ (layers[-1].W.matrix() @ h + layers[-1].b - task.y[0]), list[Tensor]()
    for layer, slope in zip(reversed(layers[:-1]), reversed(slopes), strict=True):
        kappa.insert(0, back)
        back = layer.W.matrix().T @ (back * slope)
    d = cp.Variable(len(z))
    cost = cp.sum_squares(torch.linalg.cholesky(H).T.numpy() @ d) / 2 + g.numpy() @ d
    for u, k, rows in zip(torch.cat(values), torch.cat(kappa), torch.cat(gradients), strict=True):
        if k > 0:
            side = -1.0 if u > 0 else 1.0
            cost += float(k) * cp.pos(side * (float(u) + rows.numpy() @ d))
    problem = cp.Problem(cp.Minimize(cost))
    exact(problem)
    return float(problem.value)


def test_a_tied_step_is_the_minimiser_of_the_model_with_its_kinks():
    G = net((3, 5, 6, 40), seed=2)
    z, task = noisy_task(G, ci.Gaussian(), N=12, sigma=0.5)
    at = z + 0.3 * normal(*z.shape, seed=9)
    r, J = task.linearize(at)
    H, g = J.mT @ J + 0.25 * torch.eye(3, dtype=z.dtype), (J.mT @ r[..., None])[..., 0] + 0.25 * at
    view = View.at(task, at)
    d, gain = tied_step(task, H, view, Slope.at(task, view))
    assert torch.allclose(Slope.at(task, view).g, g, atol=1e-12)
    plain = -torch.linalg.solve(H, g)
    tied = 0
    for i in range(12):
        best = kinked_model(task.take(torch.tensor([i])), at[i], H[i], g[i])
        assert abs(-float(gain[i]) - best) < 1e-8 * abs(best)
        tied += not torch.allclose(d[i], plain[i])
    assert tied >= 4, "kinks must matter"


def test_the_kink_worked_by_hand():
    """G(z) = 2 max(z, 0), y = -1 seen, sigma = 1, R = (z - 1)^2 / 2: f = 1/2 (2 z + 1)^2 + (z - 1)^2 / 2 for z > 0 has slope
    2 + 4 z + z - 1 > 0, f = 1/2 + (z - 1)^2 / 2 for z < 0 has slope z - 1 < 0: the minimum is the kink at 0."""
    G = Generator((ci.Layer(ci.Dense(numbers([1.0])), numbers(0.0), ci.ReLU()),
                   ci.Layer(ci.Dense(numbers([2.0])), numbers(0.0), ci.Identity())), (1,), {})  # fmt: skip
    for start in (3.0, 0.2, -0.2, -3.0):
        task = make_task(G, numbers([-1.0]), noise=("gaussian", 1.0), prior=ci.Gaussian(1.0, 1.0))
        found = descend(task, numbers([start]))
        assert abs(float(found.z)) < 1e-9 and int(found.steps[0]) <= 3


@pytest.mark.parametrize("hidden", [ci.ReLU(), ci.LeakyReLU(0.2)], ids=["relu", "leaky"])
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_no_point_near_an_optimum_is_lower(output: str, hidden: ci.ReLU | ci.LeakyReLU):
    """Among kinks a gradient says little: points are tried around it, on all scales."""
    G = net((4, 30, 60), output, hidden, seed=1)
    _, task = noisy_task(G, ci.Gaussian(0.5), N=8, sigma=0.3)
    found = descend(task, torch.zeros(8, 4).double())
    at, draw = objective(task, found.z), seeded(3)
    for scale in (1e-8, 1e-6, 1e-4, 1e-3):
        for _ in range(100):
            near = found.z + scale * torch.randn(8, 4, generator=draw, dtype=torch.float64)
            assert (objective(task, near) >= at * (1 - 1e-12)).all()
