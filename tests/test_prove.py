"""`prove` as it is used: what it takes and refuses, what it says, what it keeps."""

import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.check_proof import check_file
from cvxinv.exact import refining, tightening
from cvxinv.exact.asking import read_asked
from cvxinv.exact.network import as_network
from cvxinv.exact.opening import opened
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


def cancelling(C: float) -> tuple[ci.Generator, Tensor, Tensor]:
    """Pairs of units that differ by a / C, read with weights -C and C; y is G at (1/2, -1/4), in rationals, to 5e-17."""
    rng = np.random.default_rng(0)
    a, w = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    W = np.vstack([w, w + a / C, rng.normal(size=(1, 2))])
    M = rng.normal(size=(6, 3))
    last = np.hstack([-C * M, C * M, rng.normal(size=(6, 1))])
    b, none = np.array([10.0] * 6 + [0.3]), np.zeros(6)
    hidden, end = (ci.Dense(torch.from_numpy(x)) for x in (W, last))
    layers = ci.Layer(hidden, torch.from_numpy(b), ci.ReLU()), ci.Layer(end, torch.from_numpy(none), ci.Identity())
    z = torch.tensor([[0.5, -0.25]], dtype=torch.float64)
    y = torch.tensor([[float(x) for x in exactly(W, b, last, z[0].tolist())]], dtype=torch.float64)
    return ci.Generator(layers, (6,), {}), y, z


def exactly(W: np.ndarray, b: np.ndarray, last: np.ndarray, z: list[float]) -> list[Fraction]:
    """The signal of a latent in rationals."""
    rows = zip(W.tolist(), b.tolist(), strict=True)
    h = [max(sum((Fraction(x) * Fraction(c) for x, c in zip(w, z, strict=True)), Fraction(k)), Fraction(0)) for w, k in rows]
    return [sum((Fraction(x) * c for x, c in zip(w, h, strict=True)), Fraction(0)) for w in last.tolist()]


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


# --- rounding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1.0, 1e4, 1e8, 1e12])
def test_no_bound_is_above_the_truth_where_weights_cancel(C: float, tmp_path: Path):
    """The best misfit is below 1e-16, whatever is lost in products of weights; the checker says so, too."""
    G, y, z = cancelling(C)
    path = tmp_path / "proof.certificate.json"
    proof = ci.prove(G, y, z, box=2.0, time_limit=2.0, progress=False, log=path)
    assert float(proof.bound) < 1e-16
    assert all(verdict.accepted for verdict in check_file(path))
    eps = 1e-15 * C
    assert ci.out_of_range(G, y, eps, box=2.0, time_limit=1.0).status[0] != "out_of_range"
    if C == 1.0:
        assert proof.proved.all() and proof.unique.all(), "nothing is lost where nothing cancels"


def test_rows_of_l1_are_limited_by_the_level_that_counts_the_latents_own_rounding():
    """Else nodes are closed in which latents are that the level speaks of, the best one among them."""
    G, y, z = cancelling(1e8)
    asked = read_asked(G, y, z, measurement=None, noise=("l1", 0.1), prior=None, gap=1e-2, box=2.0)
    search = opened(as_network(asked.task.generator).beside(asked.sides[0]), asked.task, z, asked.sides, 1e-2)
    assert search.level < 1e-6 and (search.open.hi[-1] >= search.level.sqrt()).all() and search.slip > search.f.sqrt()


def test_a_wide_search_takes_several_signals_and_is_true_where_weights_cancel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cvxinv.exact.prove.by_maps", lambda task, log: True)
    for C in (1e4, 1e8):
        G, y, z = cancelling(C)
        proof = ci.prove(G, y.expand(3, -1), z.expand(3, -1), box=2.0, time_limit=1.0, progress=False)
        assert (proof.bound < 1e-16).all()


def test_the_latent_is_the_best_of_its_piece_in_the_box():
    """Descents end within the gap of it: a prior makes one direction 1e-4 as steep as another."""
    s, P = 0.01691040849683089, 0.041592055560322486
    W1, W2 = [[6.18753437, 0.07652366]], [[-0.17105017], [0.7790277], [3.17264983]]
    hidden, last = (ci.Dense(torch.tensor(W, dtype=torch.float64)) for W in (W1, W2))
    b, none = torch.tensor([1.05824695], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    G = ci.Generator((ci.Layer(hidden, b, ci.ReLU()), ci.Layer(last, none, ci.Identity())), (3,), {})
    y = torch.tensor([[-0.969498670587453, 3.859413576595951, 14.908882670261349]], dtype=torch.float64)
    z = torch.tensor([[0.596, -0.364]], dtype=torch.float64)
    proof = ci.prove(G, y, z, box=10.0, noise=("gaussian", s), prior=ci.Gaussian(P), progress=False)
    best = torch.tensor([[0.5911061070558521, 0.007310440646974651]], dtype=torch.float64)
    assert torch.allclose(proof.z, best, atol=1e-9) and "no other latent" not in proof.explain(0) + proof.summary()


def test_what_is_too_small_to_be_squared_is_not_judged():
    W = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    for unit, status in ((1e-100, PROVED), (1e-150, NOTHING), (1e-165, NOTHING), (1e-300, NOTHING)):
        last, none = unit * torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        G = ci.Generator((ci.Layer(ci.Dense(W), none, ci.ReLU()), ci.Layer(ci.Dense(last), none, ci.Identity())), (2,), {})
        y = torch.tensor([[2 * unit, 0.0]], dtype=torch.float64)
        proof = ci.prove(G, y, torch.tensor([[-1.0]]), box=5.0, progress=False)
        assert proof.status[0] == status and (status == NOTHING or float(proof.z) == pytest.approx(2.0))
        assert ci.verify(G, y, torch.tensor([[-1.0]])).status[0] in ("user_limit", "numerical_error")
        assert ci.verify(G, y, torch.tensor([[2.0]])).status[0] == "explained"


def test_bounds_out_of_range_are_float64():
    G, y, _ = cancelling(1.0)
    found = ci.out_of_range(G, y + 1.0, 0.1, box=2.0, time_limit=5.0)
    assert found.misfit.dtype == found.bound.dtype == torch.float64


def test_past_the_deadline_nothing_more_is_tightened_and_what_is_proved_holds(monkeypatch: pytest.MonkeyPatch):
    """A node whose tightening takes long ends with the limit of time; the bound stays below every misfit in the ball."""
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 60), nn.ReLU(), nn.Linear(60, 100)))
    prior, draw = ci.Ball(3.0), torch.Generator().manual_seed(1)
    y = G(G.sample_latent(2, draw)) + 0.3 * torch.randn(2, 100, generator=draw, dtype=torch.float64)
    start = ci.invert(G, y, prior=prior, on_fail="ignore", progress=False)
    slow = tightening._true_bound

    def late(*given: object) -> torch.Tensor:
        time.sleep(0.3)
        return slow(*given)

    monkeypatch.setattr(tightening, "_true_bound", late)
    began = time.perf_counter()
    proof = ci.prove(G, y, start, prior=prior, time_limit=2.0, progress=False)
    assert proof.stopped == "the time limit" and time.perf_counter() - began < 3.0
    z = prior.project(start.z + 0.1 * torch.randn(2000, 2, 6, generator=draw, dtype=torch.float64))
    assert ((G(z.reshape(-1, 6)).reshape(2000, 2, 100) - y).norm(dim=2) >= proof.bound).all()


def test_without_time_the_last_steps_end_too(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 20)))
    y, asked = G(G.sample_latent(40, torch.Generator().manual_seed(1))) + 0.1, list[int]()
    bounded = refining._bounded

    def late(*given: object) -> torch.Tensor:
        asked.append(len(asked))
        time.sleep(0.2)
        return bounded(*given)

    monkeypatch.setattr(refining, "_bounded", late)
    proof = ci.prove(G, y, G.sample_latent(40, torch.Generator().manual_seed(2)), time_limit=0, progress=False)
    assert len(proof) == 40 and 1 <= len(asked) <= 4
