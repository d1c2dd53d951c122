"""Hardly more numbers than latents: starts that stay near the latents that make signals."""

import pytest
import torch
from test_inversion import error, net, signals

import cvxinv as ci
from cvxinv.inversion.steps.starts import Starts
from cvxinv.inversion.steps.weaned import descend_slowly, descend_weaned
from cvxinv.inversion.task import make_task

G = net((8, 60, 90), output="sigmoid", hidden=ci.LeakyReLU(0.2))
Z, X = signals(G, 12)
A = torch.randn(10, 90, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 10**0.5


def test_a_weight_that_falls_leads_to_the_latent_more_often_than_undamped_steps():
    task = make_task(G, X @ A.T, A)
    start = Starts(G).latents(0).to(X).expand(12, -1)
    found = {way: int(((way(task, start, 100).z - Z).norm(dim=1) < 1e-6).sum()) for way in (descend_weaned, descend_slowly)}
    assert max(found.values()) >= 6  # half of the signals from one start
    assert torch.isfinite(descend_weaned(task, torch.zeros_like(start), 100).misfit).all()


def test_two_numbers_more_than_latents_give_z_and_the_answer_says_how():
    R = ci.invert(G, X @ A.T, measurement=A, on_fail="ignore")
    right = (R.z - Z).norm(dim=1) < 1e-6
    assert right.sum() >= 11 and torch.equal(right, R.verdict.explained)
    assert any("weaned" in used or "slow" in used for used in R.used)
    assert (R.starts > 0).any() or all(used == "weaned start" for used in R.used)


def test_only_signals_of_which_little_was_seen_take_these_starts():
    seen = torch.ones(12, 90, dtype=torch.bool)
    seen[::2, 12:] = False
    R = ci.invert(G, torch.where(seen, X, torch.nan), measurement=seen, on_fail="ignore")
    assert not any("weaned" in used or "slow" in used for used in R.used[1::2])
    assert error(R.z[1::2], Z[1::2]) < 1e-6


def test_as_many_numbers_as_latents_may_be_explained_by_another_latent_and_the_judge_says_what_it_knows():
    R = ci.invert(G, X @ A[:8].T, measurement=A[:8], on_fail="ignore")
    assert set(R.status) <= {"explained", "stationary"}
    fewer = ci.invert(G, X @ A[:5].T, measurement=A[:5], on_fail="ignore")
    assert not fewer.determined.any()


@pytest.mark.slow
@pytest.mark.generators
@pytest.mark.parametrize("extra, least", [(5, 0.95), (2, 0.85)])
def test_a_trained_decoder_is_inverted_at_the_limit_of_what_was_seen(extra: int, least: float, real_generator):
    G = real_generator("csinva_vae_20_400_784", dtype=torch.float64)
    z, x = signals(G, 20, seed=8)
    A = torch.randn(20 + extra, 784, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    R = ci.invert(G, x @ A.T, measurement=A, on_fail="ignore")
    assert ((R.z - z).norm(dim=1) <= 1e-6 * z.norm(dim=1)).double().mean() >= least


def test_an_explanation_says_where_another_latent_may_do_as_well(tmp_path):
    R = ci.invert(G, X @ A[:8].T, measurement=A[:8], on_fail="ignore")
    told = R[R.status == "explained"]
    assert R.settings["seen"] == 8 and len(told) > 0
    assert all("one of several" in told.explain(i) for i in range(len(told)))
    assert "one of several" in ci.Inversion.load(R.save(tmp_path / "result"))[R.status == "explained"].explain(0)
    enough = ci.invert(G, X @ A.T, measurement=A, on_fail="ignore")
    assert not any("one of several" in enough.explain(i) for i in range(len(enough)))
    seen = torch.rand(12, 90, generator=torch.Generator().manual_seed(1)) < 0.8
    masked = ci.invert(G, torch.where(seen, X, torch.nan), measurement=seen, on_fail="ignore")
    assert masked.settings["seen"] == f"{int(seen.sum(1).min())} to {int(seen.sum(1).max())} per signal"
