"""Iterations of first order: the best is kept, signals walk alone, and Adam is torch's."""

import pytest
import torch
from test_inversion import net, signals

from cvxinv.inversion.steps.adam import descend_by_adam
from cvxinv.inversion.steps.starts import Starts
from cvxinv.inversion.steps.walking import Place, walk
from cvxinv.inversion.task import Task, make_task

G = net((4, 20, 50))
Z, Y = signals(G, 5)


def task() -> Task:
    return make_task(G, Y)


def start(N: int = 5) -> torch.Tensor:
    return Starts(G, 3).latents(0).to(Y).expand(N, -1).clone()


def test_adam_is_that_of_torch():
    z = start().requires_grad_()
    theirs = torch.optim.Adam([z], lr=0.05)
    for _ in range(25):
        theirs.zero_grad()
        (0.5 * (G(z) - Y).square().sum()).backward()
        theirs.step()
    # from this start the misfit falls at every step, so that the best z is the last one
    found = descend_by_adam(task(), start(), rate=0.05, max_iter=25)
    last = task().misfit(z.detach())
    lower = found.merit < last * (1 - 1e-9)
    assert torch.allclose(found.z[~lower], z.detach()[~lower], rtol=0, atol=1e-12) and not bool(lower.all())
    assert bool((found.merit <= last * (1 + 1e-12)).all()) and found.steps.tolist() == [25] * 5


def test_a_rate_may_depend_on_the_step():
    still = descend_by_adam(task(), start(), rate=lambda k: 0.0 if k else 0.1, max_iter=5)
    once = descend_by_adam(task(), start(), rate=0.1, max_iter=1)
    assert torch.allclose(still.z, once.z)


def test_every_signal_walks_alone():
    whole = descend_by_adam(task(), start(), rate=0.1, max_iter=200, tol=1e-4)
    for i in range(5):
        alone = descend_by_adam(task().take(torch.tensor([i])), start(1), rate=0.1, max_iter=200, tol=1e-4)
        assert torch.allclose(alone.z, whole.z[i : i + 1], rtol=0, atol=1e-9) and alone.steps[0] == whole.steps[i]


def halving(task: Task, place: Place, k: int) -> tuple[Place, torch.Tensor]:
    """Each coordinate is halved; from step 3 on nothing is a number."""
    return Place(place.z / 2 if k < 3 else place.z * torch.nan), task.misfit(place.z)


def test_a_step_that_is_no_number_ends_the_walk_and_loses_nothing():
    found = walk(task(), Place(start()), halving, max_iter=50, tol=0.0)
    assert torch.isfinite(found.z).all() and found.steps.tolist() == [4] * 5
    tried = torch.stack([task().misfit(start() / 2**k) for k in range(4)])
    assert torch.allclose(found.merit, tried.amin(0)) and torch.equal(found.merit, found.misfit)


@pytest.mark.parametrize("tol, steps", [(0.4, 3), (0.6, 1)])
def test_it_ends_where_steps_are_short(tol: float, steps: int):
    assert walk(task(), Place(start()), halving, max_iter=3, tol=tol).steps.tolist() == [steps] * 5
