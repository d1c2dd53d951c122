"""`prove` as it is used: what it takes and refuses, what it says, what it keeps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.inversion.moments import BOUNDED, NOTHING, PROVED


def small(seed: int = 0, sizes: tuple[int, ...] = (3, 12, 20), kind: type[nn.Module] = nn.ReLU) -> ci.Generator:
    """A random net, identity output."""
    torch.manual_seed(seed)
    layers = list[nn.Module]()
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), kind()]
    return ci.load_generator(nn.Sequential(*layers[:-1]).eval())


def signals(G: ci.Generator, count: int, noise: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Latents, and their signals with noise of that share of their size."""
    draw = torch.Generator().manual_seed(seed)
    z = G.sample_latent(count, draw)
    x = G(z)
    e = torch.randn(x.shape, generator=draw, dtype=x.dtype)
    return z, x + noise * e * x.norm(dim=1, keepdim=True) / e.norm(dim=1, keepdim=True)


def best_of_starts(G: ci.Generator, y: Tensor, count: int = 30) -> Tensor:
    """Least misfits that Levenberg-Marquardt finds, `(N,)`: no true bound is above them."""
    return ci.invert(G, y, "levenberg_marquardt", restarts=count, on_fail="ignore").verdict.misfit


# --- what is proved -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.ReLU, nn.LeakyReLU])
def test_noiseless_signals_have_one_latent_and_it_is_proved(kind: type[nn.Module]):
    G = small(kind=kind)
    z, y = signals(G, 4, 0.0)
    proof = ci.prove(G, y, z)
    assert proof.status.tolist() == [PROVED] * 4 and int(proof.unique.sum()) >= 2 and not proof.improved.any()
    assert (proof.gap == 0).all() and torch.allclose(proof.z, z, atol=1e-9)
    assert (proof.low <= z + 1e-9).all() and (z - 1e-9 <= proof.high).all() and (proof.radius[proof.unique] < 1e-3).all()


def test_a_wrong_latent_is_never_called_optimal():
    G = small(2)
    z, y = signals(G, 6, 0.05)
    wrong = z + torch.randn(z.shape, generator=torch.Generator().manual_seed(7), dtype=z.dtype)
    proof, least = ci.prove(G, y, wrong, gap=1e-3), best_of_starts(G, y)
    handed = (G(wrong) - y).norm(dim=1)
    good = proof.proved
    assert good.any() and (proof.misfit[good] <= least[good] * (1 + 1e-3)).all(), "proved, and yet a start came nearer"
    assert (proof.bound <= least * (1 + 1e-9)).all()
    assert (proof.improved | (handed <= least * (1 + 1e-6))).all() and (proof.misfit <= handed).all()
    assert torch.allclose((G(proof.z) - y).norm(dim=1), proof.misfit), "the misfit is that of the latent that is given back"
    i = int(proof.improved.nonzero()[0, 0])
    assert f"whose misfit was {float(handed[i]):.6g}: that was not the best" in proof.explain(i)


def test_without_time_the_answer_is_true_and_says_little():
    G = small()
    z, y = signals(G, 3, 0.1)
    proof = ci.prove(G, y, z + 1, time_limit=0)
    assert proof.status.tolist() == [BOUNDED] * 3 and (proof.bound == 0).all() and (proof.gap == 1).all()
    assert proof.stopped == "the time limit" and "more time" in proof.explain(0)


def test_a_batch_gives_what_its_signals_give_alone():
    G = small(3)
    _, y = signals(G, 20, 0.03)
    z = ci.invert(G, y, on_fail="ignore").z
    together = ci.prove(G, y, z)
    for i in range(0, 20, 5):
        alone = ci.prove(G, y[i], z[i])
        assert len(alone) == 1 and alone.status[0] == together.status[i] == PROVED
        assert alone.unique[0] == together.unique[i] and alone.z.shape == (1, 3)
        assert torch.allclose(alone.misfit[0], together.misfit[i], rtol=1e-6)
        assert alone.bound[0] >= together.misfit[i] * (1 - 1e-4)


def test_masks_and_matrices_of_each_signal():
    G = small(4, (3, 14, 30))
    z, x = signals(G, 4, 0.0)
    seen = torch.rand(4, 30, generator=torch.Generator().manual_seed(3)) < 0.6
    masked = ci.prove(G, torch.where(seen, x, torch.nan), z, measurement=seen)
    A = torch.randn(4, 12, 30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    mapped = ci.prove(G, (A @ x[..., None])[..., 0], z, measurement=A)
    for proof in (masked, mapped):
        assert proof.proved.all() and int(proof.unique.sum()) >= 3 and torch.allclose(proof.z, z, atol=1e-8)
    other = ci.prove(G, (A @ x[..., None])[..., 0], z.roll(1, 0), measurement=A)
    assert (other.improved | ~other.proved).all(), "another signal's latent was called optimal"


def test_a_box_without_the_solution_is_spoken_of_and_nothing_more():
    G = small(5)
    z, _ = signals(G, 2, 0.0)
    z = z.clamp(min=0.5)
    found = ci.prove(G, G(z), z, box=0.25)
    assert (found.z.abs() <= 0.25).all() and not torch.equal(found.z, z), "the best latent of the box is sought in it"
    assert "|z_j| <= 0.25" in found.explain(0)
    grid = torch.cartesian_prod(*[torch.linspace(-0.25, 0.25, 9, dtype=torch.float64)] * 3)
    least = torch.stack([(G(grid) - t).norm(dim=1).amin() for t in G(z)])
    assert (found.bound <= least + 1e-12).all() and (found.bound > 0).all()
    assert (found.misfit[found.proved] <= least[found.proved] * (1 + 1e-3)).all()


def test_out_of_range_is_proved_where_no_latent_meets_the_noise():
    G = small(6)
    _, y = signals(G, 3, 0.2)
    proof = ci.prove(G, y, noise=("l2", torch.tensor([1e-3, 1e-3, 100.0], dtype=torch.float64)), gap=0.01)
    assert proof.out_of_range.tolist() == [True, True, False]
    assert "out of range" in proof.explain(0) and "out of range" not in proof.explain(2)


def test_map_objectives_of_a_gaussian_prior():
    G = small(7)
    _, y = signals(G, 3, 0.05)
    sigma = 0.1
    proof = ci.prove(G, y, noise=("gaussian", sigma), prior=ci.Gaussian(1.0))
    objective = ((G(proof.z) - y).square().sum(1) + sigma**2 * proof.z.square().sum(1)).sqrt()
    assert proof.proved.all() and torch.allclose(objective, proof.misfit)
    starts = 3 * torch.randn(3, 200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    others = ((G(starts.reshape(-1, 3)).reshape(3, 200, -1) - y[:, None]).square().sum(2)) + sigma**2 * starts.square().sum(
        2
    )
    assert (proof.bound <= others.sqrt().amin(1)).all()
    assert "objective" in proof.explain(0) and proof.uncertainty is not None
    plain = ci.prove(G, y, noise=("gaussian", sigma))
    assert (plain.misfit <= (G(proof.z) - y).norm(dim=1) + 1e-12).all() and plain.proved.all()


@pytest.mark.parametrize(
    ("norm", "words"), [("linf", "largest misfit of an entry"), ("l1", "sum of absolute misfits"), ("l2", "misfit")]
)
def test_bounds_are_in_the_norm_of_the_noise(norm: str, words: str):
    G = small(1)
    _, y = signals(G, 2, 0.1)
    found = ci.invert(G, y, noise=(norm, 0.5), on_fail="ignore")
    proof = ci.prove(G, y, found, noise=(norm, 0.5), gap=0.01)
    r = (G(proof.z) - y).abs()
    lengths = {"linf": r.amax(1), "l1": r.sum(1), "l2": r.norm(dim=1)}
    assert torch.allclose(proof.misfit, lengths[norm]) and proof.proved.all()
    assert f"  {words} {float(proof.misfit[0]):.6g}" in proof.explain(0) and "hidden layer 2" not in proof.explain(0)
    assert found.with_proof(proof).proof is proof


def test_a_box_prior_is_the_box():
    G = small(8)
    _, y = signals(G, 2, 0.0)
    proof = ci.prove(G, y, prior=ci.Box(-0.1, 0.1), time_limit=20)
    assert (proof.box[0] == -0.1).all() and (proof.box[1] == 0.1).all() and (proof.z.abs() <= 0.1).all()
    ball = ci.prove(G, y, prior=ci.Ball(0.1), box=(-1.0, 0.05), time_limit=5)
    assert (ball.box[0] == -0.1).all() and (ball.box[1] == 0.05).all() and (ball.z.norm(dim=1) <= 0.1 + 1e-12).all()
    some = torch.cartesian_prod(*[torch.linspace(-0.1, 0.05, 9, dtype=torch.float64)] * 3)
    least = torch.stack([(G(some[some.norm(dim=1) <= 0.1]) - t).norm(dim=1).amin() for t in y])
    assert (ball.bound <= least + 1e-12).all()
    assert "ball of the prior" in ball.explain(0)


def test_dead_generators():
    W, b = torch.randn(6, 2, dtype=torch.float64), torch.full((6,), -1e3, dtype=torch.float64)
    out = torch.randn(9, 6, dtype=torch.float64)
    layers = (
        ci.Layer(ci.Dense(W), b, ci.ReLU()),
        ci.Layer(ci.Dense(out), torch.ones(9, dtype=torch.float64), ci.Identity()),
    )
    G = replace(small(0, (2, 6, 9)), layers=layers)
    y = torch.zeros(1, 9, dtype=torch.float64)
    proof = ci.prove(G, y, torch.zeros(1, 2))
    assert proof.proved.all() and not proof.unique.any(), "every latent gives the same signal"
    assert float(proof.bound[0]) == pytest.approx(3.0, rel=1e-4)


def test_a_bad_signal_costs_itself_alone():
    G = small()
    z, y = signals(G, 3, 0.02)
    y[1, 4] = torch.nan
    for start in (None, z):
        proof = ci.prove(G, y, start)
        assert proof.status.tolist() == [PROVED, NOTHING, PROVED]
        assert proof.z[1].isnan().all() and proof.misfit.isnan().tolist() == [False, True, False]
        assert "no number" in proof.explain(1) and "1 numerical_error" in proof.summary()
    z[0] = torch.inf
    proof = ci.prove(G, y, z)
    assert proof.status.tolist() == [NOTHING, NOTHING, PROVED]


def test_float32_generators_and_arrays():
    G = small()
    z, y = signals(G, 2, 0.01)
    single = ci.prove(G.to(torch.float32), y.float(), z.float())
    arrays = ci.prove(G, y.numpy(), z.numpy())
    assert single.z.dtype == arrays.z.dtype == torch.float64 and single.proved.all() and arrays.proved.all()


# --- what is refused ------------------------------------------------------------------------------

G0 = small()
Y0 = signals(G0, 2, 0.1)[1]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"gap": True}, TypeError, "gap"),
        ({"gap": float("nan")}, ValueError, "gap"),
        ({"gap": 0.0}, ValueError, "gap"),
        ({"gap": "small"}, TypeError, "gap"),
        ({"time_limit": float("nan")}, ValueError, "time_limit"),
        ({"time_limit": -1}, ValueError, "time_limit"),
        ({"time_limit": True}, TypeError, "time_limit"),
        ({"batch": 0}, ValueError, "batch"),
        ({"batch": 2.0}, TypeError, "batch"),
        ({"callback": 3}, TypeError, "callback"),
        ({"box": 0}, ValueError, "box"),
        ({"box": True}, TypeError, "box"),
        ({"box": float("inf")}, ValueError, "box"),
        ({"box": (1.0, -1.0)}, ValueError, "swap"),
        ({"box": (-1.0, torch.ones(5))}, ValueError, "one per latent"),
        ({"box": (-np.inf, 1.0)}, ValueError, "finite"),
        ({"z": torch.zeros(2, 4)}, ValueError, "one latent per signal"),
        ({"z": torch.zeros(3)}, ValueError, "one latent per signal"),
        ({"noise": "auto"}, ValueError, "state the level"),
        ({"noise": ("l2", -1.0)}, ValueError, "bound"),
        ({"measurement": ci.Magnitudes()}, ValueError, "linear"),
        ({"prior": ci.Box(0.0, float("inf"))}, ValueError, "open"),
        ({"resume": True}, ValueError, "checkpoint"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_any_work(options: dict, kind: type[Exception], words: str):
    y = Y0.abs() if "measurement" in options else Y0
    with pytest.raises(kind, match=words):
        ci.prove(G0, y, **options)


def test_generators_of_which_nothing_is_proved():
    curved = ci.load_generator(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 20)).eval())
    opaque = ci.load_generator(nn.Sequential(nn.Linear(3, 20)).eval(), latent_dim=3, opaque=True)
    for G, words in ((curved, "kink"), (opaque, "chain")):
        with pytest.raises(TypeError, match=words):
            ci.prove(G, Y0)
    with pytest.raises(TypeError, match="load_generator"):
        ci.prove(nn.Linear(3, 20), Y0)
