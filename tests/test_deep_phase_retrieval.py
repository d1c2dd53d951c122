"""Deep phase retrieval: descents from magnitudes that test the sign of z, and choose by the misfit alone."""

from itertools import pairwise

import pytest
import torch
from test_inversion import error, seeded, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.inversion.steps.signs import adam_with_signs, better_sign, gradient_with_signs
from cvxinv.inversion.task import make_task


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def expansive(sizes: tuple[int, ...] = (4, 60, 150)) -> ci.Generator:
    """Gaussian ReLU layers without biases, N(0, 2 / n_i), as the theory has them."""
    layers = []
    for k, (n, m) in enumerate(pairwise(sizes)):
        W = normal(m, n, seed=k) * (2 / m) ** 0.5
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m).double(), ci.ReLU()))
    return ci.Generator(tuple(layers), (sizes[-1],), {})


G = expansive()
SEEING = ci.Magnitudes(normal(80, 150, seed=7) / 80**0.5)
Z = normal(8, 4, seed=3)
Y = SEEING.observe(G(Z))


@pytest.mark.parametrize("descent", ["adam", "gradient"])
def test_latents_of_a_gaussian_network_are_found_from_magnitudes(descent: str):
    R = ci.invert(G, Y, "deep_phase_retrieval", measurement=SEEING, descent=descent)
    assert R.verdict.explained.all() and error(R.z, Z) < 1e-9
    rough = ci.invert(
        G, Y, "deep_phase_retrieval", measurement=SEEING, descent=descent, finish=None, max_iter=2000, on_fail="ignore"
    )
    assert error(rough.z, Z) < 0.05 and (rough.verdict.misfit >= R.verdict.misfit).all()


@pytest.mark.parametrize("walk", [adam_with_signs, gradient_with_signs])
def test_the_test_of_signs_leaves_the_false_valley(walk):
    """Without it a descent from a negative multiple stays there: that of `levenberg_marquardt` from the same start does."""
    task = make_task(G, Y, SEEING)
    start = -0.3 * Z
    assert torch.equal(better_sign(task, start), -start) and torch.equal(better_sign(task, -start), -start)
    found = walk(task, start, rate={adam_with_signs: 0.02}.get(walk, 1.0), max_iter=600)
    assert error(found.z, Z) < 0.05


def test_the_sign_is_tested_before_every_step():
    """f(z) = (|w(z)| - 2)^2 / 2 with G(z) = ReLU(z): from z = -1, where f is flat, the test alone leads to z = 1."""
    one = ci.Generator((ci.Layer(ci.Dense(torch.ones(1, 1).double()), torch.zeros(1).double(), ci.ReLU()),), (1,), {})
    task = make_task(one, torch.tensor([[2.0]]).double(), ci.Magnitudes())
    assert better_sign(task, torch.tensor([[-1.0]]).double()).item() == 1.0
    # one step of 1 / sigma_max(J)^2 = 1 along -f' = 2 - 1 ends at the optimum
    assert gradient_with_signs(task, torch.tensor([[-1.0]]).double(), rate=1.0, max_iter=1).z.item() == pytest.approx(2.0)


def test_start_and_sign_are_chosen_by_the_misfit():
    told = ci.invert(G, Y, "deep_phase_retrieval", measurement=SEEING, truth=Z, max_iter=20, finish=None, on_fail="ignore")
    alone = ci.invert(G, Y, "deep_phase_retrieval", measurement=SEEING, max_iter=20, finish=None, on_fail="ignore")
    assert torch.equal(told.z, alone.z)
    task = make_task(G, Y, SEEING)
    assert (task.misfit(alone.z) <= task.misfit(-alone.z)).all()
    one = ci.invert(G, Y, "deep_phase_retrieval", measurement=SEEING, max_iter=20, finish=None, restarts=1, on_fail="ignore")
    assert (alone.verdict.misfit <= one.verdict.misfit).all() and (alone.verdict.misfit < one.verdict.misfit).any()


def test_linear_measurements_are_refused_by_name_with_a_cure():
    for seen in (None, normal(20, 150)):
        y = G(Z) if seen is None else G(Z) @ seen.T
        with pytest.raises(
            ValueError, match=r"expected magnitudes, got the linear measurement .*; pass measurement=Magnitudes"
        ):
            ci.invert(G, y, "deep_phase_retrieval", measurement=seen)


def test_options_that_cannot_be_are_refused_when_they_are_said():
    for options, words in (
        ({"descent": "newton"}, "descent"),
        ({"rate": 0.0}, "rate must be > 0"),
        ({"finish": 1}, "finish must be one of"),
        ({"restarts": 0}, "restarts"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            ci.DeepPhaseRetrieval(**options)


def test_scales_of_the_weights_do_not_matter_to_the_plain_step_and_priors_hold():
    for scale in (1e-3, 1e3):
        W = ci.Dense(scale * normal(60, 3, seed=1))
        H = ci.Generator((ci.Layer(W, scale * normal(60, seed=2), ci.LeakyReLU(0.2)),), (60,), {})
        z, x = signals(H, 4)
        R = ci.invert(H, x.abs(), "deep_phase_retrieval", measurement=ci.Magnitudes(), descent="gradient")
        assert R.verdict.explained.all() and error(R.z, z) < 1e-6
    inside = ci.invert(
        G, Y, "deep_phase_retrieval", measurement=SEEING, prior=ci.Box(-0.2, 0.2), on_fail="ignore", max_iter=50
    )
    assert inside.z.abs().max() <= 0.2 + 1e-12


def test_hybrid_finds_what_it_finds_in_fewer_magnitudes():
    few = ci.Magnitudes(normal(14, 150, seed=9))
    y = few.observe(G(Z))
    mine = ci.invert(G, y, "deep_phase_retrieval", measurement=few, on_fail="ignore", max_iter=300)
    best = ci.invert(G, y, measurement=few, on_fail="ignore")
    assert best.verdict.explained.sum() >= mine.verdict.explained.sum()
