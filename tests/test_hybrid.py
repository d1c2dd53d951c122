"""The plan of `hybrid`: which starts it tries in which order, what the user gives, and convolutional generators."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator.chain import Generator
from cvxinv.inversion.progress import Progress
from cvxinv.inversion.steps.learnt import learnt_starts
from cvxinv.inversion.steps.misled import led_astray, misleads, share_of
from cvxinv.inversion.steps.nearby import search_nearby
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.steps.plan import descent_cost, layered_cost, plan_of, start_cost
from cvxinv.inversion.steps.pursuit import LayerOptions
from cvxinv.inversion.steps.starts import Hunt, Starts, most_promising, nothing_yet
from cvxinv.inversion.task import Task, make_task


def transposed(n0: int, channels: int, side: int, seed: int = 0, output: nn.Module | None = None) -> Generator:
    """n0 -> channels x side x side -> 1 x 2 side x 2 side, random weights."""
    torch.manual_seed(seed)
    layers = [
        nn.Linear(n0, 32), nn.ReLU(), nn.Linear(32, channels * side**2), nn.ReLU(), nn.Unflatten(1, (channels, side, side)),
        nn.ConvTranspose2d(channels, 1, 4, 2, 1),
    ]  # fmt: skip
    return ci.load_generator(nn.Sequential(*layers, *([output] if output else [])).double())


# --- the plan -------------------------------------------------------------------------------------


def test_a_dear_layered_start_is_left_out_and_the_answer_is_the_same_as_with_an_entry_hidden():
    G = transposed(2, 8, 14)
    z, y = signals(G, 3)
    for measurement in (None, torch.arange(784) > 0):
        R = ci.invert(G, y, measurement=measurement)
        assert error(R.z, z) < 1e-10 and R.layers == ()
        assert any(note.startswith("no layered start") for note in R.notes)
    assert any("times a descent" in note and "latent_pursuit" in note for note in ci.invert(G, y).notes)


def test_layers_come_first_where_they_are_cheap_or_asked_for():
    G, small = transposed(2, 8, 14), net((8, 40, 100))
    dear, cheap = make_task(G, G(normal(2, 2, seed=1))), make_task(small, small(normal(2, 8, seed=1)))
    assert plan_of(cheap, LayerOptions()).layers == "first" and plan_of(dear, LayerOptions()).layers == "never"
    assert plan_of(dear, LayerOptions(lam=0.1)).layers == "first"
    assert plan_of(dear, LayerOptions(tol=1e-4)).layers == "never"
    assert set(ci.invert(small, cheap.y).used) == {"layered"}


def test_predicted_costs_grow_with_what_they_count():
    """784 rows for 1568 nonnegative unknowns: beyond 1500 unknowns 20,000 m n = 2.5e10 multiplications, and little else."""
    G = transposed(2, 8, 14)
    task = make_task(G, G(normal(1, 2, seed=0)))
    assert layered_cost(task, LayerOptions()) == pytest.approx(20_000 * 784 * 1568, rel=0.05)
    assert descent_cost(task) == 60 * 2 * (G.work + 784 * 2)


def test_of_layers_and_one_start_the_cheaper_comes_first():
    """Bounds behind a sigmoid take 30 (60 40^2 + 40^3 / 3) multiplications, the latent's problem 5^3 / 3 + 40 5^2.

    A start takes 20 5 (5 40 + 40 60 + 60 5): ten times less.
    """
    G = net((5, 40, 60), "sigmoid", seed=1)
    _, y = signals(G, 4)
    exact, noisy = make_task(G, y), make_task(G, y, None, ("l2", 1e-3))
    assert layered_cost(exact, LayerOptions()) == 30 * (60 * 40**2 + 40**3 / 3) + 5**3 / 3 + 40 * 5**2
    assert start_cost(exact) == pytest.approx(20 * 5 * (5 * 40 + 40 * 60 + 60 * 5))
    assert plan_of(exact, LayerOptions()).layers == "second"
    assert plan_of(exact, LayerOptions(lam=0.1)).layers == "first", "who tells the layers something means them"
    assert plan_of(noisy, LayerOptions()).layers == "first", "in noise what a start explains need not be the best"
    linear = make_task(G.with_output("identity"), y.logit())
    assert plan_of(linear, LayerOptions()).layers == "first", "as ten factorisations of 20 units cost less than a start"


def test_what_one_start_leaves_open_goes_on_to_the_layers(monkeypatch: pytest.MonkeyPatch):
    G = net((5, 40, 60), "sigmoid", seed=1)
    z, y = signals(G, 20)
    R, learnt = ci.invert(G, y, on_fail="ignore"), ci.invert(G, y, restarts=0, on_fail="ignore")
    monkeypatch.setattr(ci.Hybrid, "_first", lambda *_: None)
    none = ci.invert(G, y, restarts=0, on_fail="ignore")
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6 and R.layers == ()
    by_luck = np.array([used == "random start 1" for used in R.used])
    assert by_luck.sum() > 10 and (R.starts[by_luck] == 1).all()
    assert any(note.startswith("no layered start before another") and "Sigmoid" in note for note in R.notes)
    assert set(learnt.used) == {"learnt start"} and error(learnt.z, z) < 1e-6
    assert set(none.used) == {"layered"} and not none.starts.any() and error(none.z, z) < 1e-6


def test_the_start_before_the_layers_depends_on_no_neighbour():
    G = net((5, 40, 60), "sigmoid", seed=1)
    _, y = signals(G, 12)
    masks = torch.rand(12, 60, generator=seeded(2)) > 0.2
    for measurement in (None, masks):
        whole = ci.invert(G, y, measurement=measurement, on_fail="ignore")
        for i in range(12):
            alone = ci.invert(G, y[i], measurement=None if measurement is None else masks[i], on_fail="ignore")
            assert torch.allclose(whole.z[i], alone.z, atol=1e-8), i
            assert whole.used[i] == alone.used[0], i


def test_a_learnt_start_comes_before_the_layers_where_jacobians_are_dear(monkeypatch: pytest.MonkeyPatch):
    for where in ("steps.plan", "methods.hybrid"):
        monkeypatch.setattr(f"cvxinv.inversion.{where}.dear", lambda G: True)
    G, small = net((8, 200, 400), "sigmoid"), net((8, 40, 100), "sigmoid")
    z, y = signals(G, 3)
    assert plan_of(make_task(G, y), LayerOptions()).layers == "second"
    assert plan_of(make_task(small, signals(small, 3)[1]), LayerOptions()).layers == "first", "a lesson takes longer"
    R = ci.invert(G, y)
    assert set(R.used) == {"learnt start"} and error(R.z, z) < 1e-6


@pytest.mark.parametrize("hidden", [0.0, 0.4])
def test_the_most_promising_latent_is_the_same_for_few_and_many_signals(hidden: float):
    G = net((4, 20, 30))
    _, y = signals(G, 9)
    task = make_task(G, y, torch.rand(9, 30, generator=seeded(3)) >= hidden)
    drawn = normal(6, 4, seed=5)
    many = most_promising(task, drawn, centre=False)
    assert len(many.unique(dim=0)) > 2
    misfits = torch.stack([task.misfit(one.expand(9, -1)) for one in drawn])
    assert torch.equal(many, drawn[misfits.argmin(0)])
    few = task.take(torch.tensor([7, 2, 4]))
    assert torch.equal(most_promising(few, drawn, centre=False), many[[7, 2, 4]])


@pytest.mark.parametrize("chunk", [1, 3])
def test_answers_do_not_depend_on_chunks(chunk: int):
    G = transposed(6, 6, 6, output=nn.Tanh())
    _, y = signals(G, 5)
    masks = torch.rand(5, 144, generator=seeded(2)) > 0.45
    for measurement in (None, masks):
        whole = ci.invert(G, y, measurement=measurement, on_fail="ignore")
        parts = ci.invert(G, y, measurement=measurement, chunk=chunk, on_fail="ignore")
        assert torch.allclose(whole.z, parts.z, atol=1e-6) and whole.used == parts.used


@pytest.mark.parametrize("output", [None, nn.Tanh(), nn.Sigmoid()], ids=["linear", "tanh", "sigmoid"])
@pytest.mark.parametrize("hidden", [0.0, 0.45])
def test_convolutional_generators_are_inverted_without_layers(output: nn.Module | None, hidden: float):
    G = transposed(12, 12, 6, seed=1, output=output)
    z, y = signals(G, 10)
    measurement = torch.rand(144, generator=seeded(2)) >= hidden
    R = ci.invert(G, y, measurement=measurement, on_fail="ignore")
    assert int(((R.z - z).norm(dim=1) <= 1e-6 * z.norm(dim=1)).sum()) >= 9
    assert {name.rstrip(" 0123456789") for name in R.used} <= {
        "learnt start",
        "smoothed start",
        "squashed start",
        "random start",
    }


def test_a_picture_that_no_latent_explains_ends_in_a_local_optimum():
    G = transposed(4, 6, 6, output=nn.Sigmoid())
    y = torch.rand(2, 144, generator=seeded(0), dtype=torch.float64)
    R = ci.invert(G, y, restarts=2, on_fail="ignore")
    assert (R.status == "stationary").all() and (R.starts == 2).all()


def test_a_prior_keeps_learnt_starts_inside():
    G = transposed(4, 6, 6)
    _, y = signals(G, 3)
    R = ci.invert(G, y, prior=ci.Box(-0.5, 0.5), noise=("gaussian", 0.1), on_fail="ignore", max_iter=30)
    assert float(R.z.abs().max()) <= 0.5
    assert float(learnt_starts(make_task(G, y, None, ("gaussian", 0.1), ci.Box(-0.5, 0.5))).abs().max()) <= 0.5


# --- z0 -------------------------------------------------------------------------------------------

METHODS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "levenberg_marquardt": {"restarts": 0},
    "gradient_descent": {"restarts": 0},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["tensor", "numpy", "one", "callable", "module"])
def test_a_start_that_is_given_is_credited(method: str, kind: str):
    G = net((3, 30, 40))
    z, y = signals(G, 1 if kind == "one" else 4)
    near = z + 1e-3
    encoder = nn.Linear(40, 3)  # float32
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.bias.copy_(near[0])
    z0 = {"tensor": near, "numpy": near.numpy(), "one": near[0], "callable": lambda y: near[: len(y)], "module": encoder}[
        kind
    ]
    R = ci.invert(G, y, method, z0=z0, on_fail="ignore", **METHODS[method])
    assert R.used[0] == "z0" and int(R.starts.sum()) == 0
    assert (R.z - z)[0].norm() < 1e-2 * z[0].norm()
    if method == "hybrid":
        assert R.verdict.explained.all()


def test_what_a_given_start_leaves_open_goes_on_to_the_others():
    G = net((8, 40, 100))
    z, y = signals(G, 3)
    start = z.clone()
    start[1] = 1e3
    R = ci.invert(G, y, z0=start, chunk=2)
    assert R.verdict.explained.all() and R.used[0] == R.used[2] == "z0" and R.layers == ()


def test_an_encoder_sees_the_signals_flat_with_hidden_entries_0():
    G, seen, asked = transposed(4, 6, 6), torch.arange(144) > 70, list[Tensor]()
    _, y = signals(G, 3)

    def encoder(y: Tensor) -> np.ndarray:
        asked.append(y)
        return np.zeros((len(y), 4))

    ci.invert(G, y.reshape(3, 1, 12, 12), measurement=seen, z0=encoder, max_iter=1, restarts=0, on_fail="ignore")
    assert torch.equal(asked[0], torch.where(seen, y, 0.0)) and asked[0].dtype == y.dtype


@pytest.mark.parametrize(
    ("z0", "words"),
    [
        (torch.zeros(2, 8), r"z0 of shape \(3, 8\) or \(8,\), got \(2, 8\)"),
        (torch.zeros(7), r"got \(7,\)"),
        (torch.full((8,), torch.nan), "finite latents, got NaN or inf in z0 for signal 0"),
        (torch.zeros(1, 3, 8), "start 1 of z0 .*; pass one latent per signal"),
        ("mean", "expected z0 as latents"),
        ([[0.0] * 8] * 3, "torch.as_tensor"),
        (lambda y: (y[:, :8], y[:, :8]), r"encoder\(y\)\[0\]"),
        (lambda y: y[:, :7], r"the latents that z0 makes of y of shape \(3, 8\)"),
        (lambda y: y[:, :8] * torch.nan, "NaN or inf in the latents that z0 makes of y"),
        (nn.Linear(5, 8), r"expected z0 to take y of shape \(3, 100\), torch.float32"),
    ],
)  # fmt: skip
def test_starts_that_do_not_fit_are_refused(z0: Any, words: str):
    G = net((8, 40, 100))
    _, y = signals(G, 3)
    for method in METHODS:
        with pytest.raises((TypeError, ValueError), match=words):
            ci.invert(G, y, method, z0=z0)


def test_no_start_at_all_is_refused():
    with pytest.raises(ValueError, match="restarts"):
        ci.LevenbergMarquardt(restarts=0)
    assert ci.LevenbergMarquardt(restarts=0, z0=torch.zeros(3)).restarts == 0


# --- learnt starts that lead astray -------------------------------------------------------------


def bias_free(seed: int) -> Generator:
    """A net without biases, whose rays from 0 have basins of their own."""
    first, last = normal(12, 4, seed=seed), normal(40, 12, seed=seed + 100)
    layers = tuple(
        ci.Layer(ci.Dense(W), torch.zeros(len(W)).double(), phi) for W, phi in ((first, ci.ReLU()), (last, ci.Identity()))
    )
    return ci.Generator(layers, (40,), {})


def test_whether_learnt_starts_lead_astray_is_tried_once():
    G = ci.Generator((ci.Layer(ci.Dense(normal(30, 4, seed=1)), normal(30, seed=2), ci.Identity()),), (30,), {})
    assert not misleads(G), "an affine generator has one optimum"
    astray = next(G for G in map(bias_free, range(20)) if misleads(G))
    (key,) = [key for key in astray.kept if key[0] == "misled"]
    astray.kept[key] = False
    assert not misleads(astray) and not misleads(astray.to(torch.float32)), "kept, and shared with copies"
    wide = transposed(64, 256, 14)
    assert not misleads(wide) and wide.kept[next(key for key in wide.kept if key[0] == "misled")] is False


def test_no_trial_is_made_of_what_has_no_layers_and_none_that_was_cut_short_is_kept():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 40))
    G = ci.load_generator(net, opaque=True, latent_dim=6)
    assert not misleads(G) and not any(key[0] == "learnt" for key in G.kept), "not even a start is learnt for it"
    other = bias_free(0)
    late = Progress(deadline=time.time() - 1)
    assert not misleads(other, 0.1, late) and not any(key[0] == "misled" for key in other.kept)


def test_the_noise_at_which_it_is_tried_is_the_nearest_to_what_was_stated():
    G = bias_free(0)
    for noise, share in ((0.0, 0.01), (0.02, 0.01), (0.05, 0.1), (0.15, 0.1), (0.3, 0.4), (5.0, 0.4)):
        misleads(G, noise)
        assert ("misled", ci.Identity, "Identity()", share) in G.kept, noise
    assert len([key for key in G.kept if key[0] == "misled"]) == 3
    y = G(normal(5, 4, seed=3))
    task = make_task(G, y, noise=("gaussian", 0.1 * y.norm(dim=1) / 40**0.5))
    assert float((share_of(task) - 0.1).abs().max()) < 1e-12


def test_who_gets_more_starts_depends_on_no_neighbour():
    G = bias_free(0)
    for share in (0.01, 0.1, 0.4):
        misleads(G, share)
    kept = {key[-1]: key for key in G.kept if key[0] == "misled"}
    G.kept[kept[0.01]], G.kept[kept[0.1]], G.kept[kept[0.4]] = False, True, False
    y = G(normal(6, 4, seed=3))
    shares = torch.tensor([0.001, 0.1, 0.3, 0.02, 0.05, 2.0], dtype=torch.float64)
    noise = ("gaussian", shares * y.norm(dim=1) / 40**0.5)
    task = make_task(G, y, noise=noise, prior=ci.Gaussian(1.0))
    assert led_astray(task, torch.arange(6)).tolist() == [1, 4]
    together = ci.invert(G, y, noise=noise, prior=ci.Gaussian(1.0), on_fail="ignore")
    for i in range(6):
        alone = ci.invert(G, y[i], noise=("gaussian", noise[1][i]), prior=ci.Gaussian(1.0), on_fail="ignore")
        assert torch.allclose(alone.z, together.z[i], rtol=0, atol=1e-6), i


def test_where_learnt_starts_lead_astray_more_starts_end_lower():
    gained = 0
    for G in map(bias_free, range(12)):
        y = G(normal(40, 4, seed=3)) + 0.1 * normal(40, 40, seed=4)
        task = make_task(G, y, noise=("gaussian", 0.1), prior=ci.Gaussian(1.0))
        if not len(led_astray(task, torch.arange(40))):
            continue
        keys = [key for key in G.kept if key[0] == "misled"]
        merits = []
        for more in (True, False):
            G.kept.update(dict.fromkeys(keys, more))
            merits.append(task.merit(ci.invert(G, y, noise=("gaussian", 0.1), prior=ci.Gaussian(1.0), on_fail="ignore").z))
        assert bool((merits[0] <= merits[1] * (1 + 1e-9)).all())
        gained += int((merits[0] < merits[1] * (1 - 1e-4)).sum())
    assert gained >= 2


# --- nearby starts ---------------------------------------------------------------------------------


def nearly_found(N: int, off: float, noise: object = None) -> tuple[Hunt, Starts, Tensor]:
    """A hunt whose best latents are `off` from the true ones, with the starts of seed 0."""
    G = net((8, 60, 100), seed=2)
    z, x = signals(G, N)
    task = make_task(G, x, noise=noise)
    at = z + off * normal(N, 8, seed=4)
    return hunted(task, at), Starts(G, 0), z


def hunted(task: Task, z: Tensor) -> Hunt:
    return Hunt(task, replace(nothing_yet(task), z=z), task.merit(z))


def test_nearby_starts_lead_from_what_is_nearly_explained_to_what_explains():
    hunt, starts, z = nearly_found(6, 1e-5)
    assert len(hunt.open) == 6
    search_nearby(hunt, starts, (0.1,), 60)
    assert len(hunt.open) == 0 and set(hunt.answer().used) == {"nearby start"}
    assert ((hunt.z - z).norm(dim=1) <= 1e-6 * z.norm(dim=1)).all()
    one, starts, _ = nearly_found(6, 1e-5)
    alone = hunted(one.task.take(torch.tensor([4])), one.z[4:5])
    search_nearby(alone, starts, (0.1,), 60)
    assert torch.allclose(alone.z[0], hunt.z[4], atol=1e-9)


@pytest.mark.parametrize(("off", "noise"), [(0.5, None), (1e-7, None), (1e-5, ("l2", 1e-12))])
def test_nearby_starts_are_for_what_is_nearly_explained_without_noise(off: float, noise: object):
    hunt, starts, _ = nearly_found(3, off, noise)
    before = hunt.z.clone()
    search_nearby(hunt, starts, (0.1, 0.3), 60)
    assert torch.equal(hunt.z, before) and len(hunt.open) == 3


def test_what_rounding_to_float32_leaves_is_told_by_two_starts(monkeypatch: pytest.MonkeyPatch):
    """No start explains it to float64's precision; two that end alike say so, at the optimum that all others lead to."""
    G = transposed(4, 8, 14, output=nn.Tanh())
    z, x = signals(G, 6)
    y = x.float().double()
    R = ci.invert(G, y, on_fail="ignore", progress=False)
    assert set(R.verdict.counts()) == {"stationary"} and float(R.verdict.relative_misfit.max()) < 1e-6
    assert error(R.z, z) < 1e-5 and int(R.starts.max()) <= 1 and R.layers == ()
    monkeypatch.setattr("cvxinv.inversion.steps.starts._TWICE", 99)
    every = ci.invert(G, y, on_fail="ignore", progress=False)
    assert int(every.starts.min()) == 10 and int(R.iterations.max()) * 5 < int(every.iterations.min())
    assert torch.allclose(every.z, R.z, atol=1e-7)
    assert torch.allclose(every.verdict.misfit, R.verdict.misfit, rtol=1e-5)


def test_a_start_that_ends_where_it_ended_before_is_no_other_one():
    hunt, _, _ = nearly_found(3, 1e-7)
    end = descend(hunt.task, hunt.z, 0)
    for name, left in (("one", 3), ("one", 3), ("other", 0)):
        hunt.offer(name, lambda part, index: end.take(index))
        assert len(hunt.open) == left, name


def test_directions_are_other_ones_for_every_number_and_seed():
    G = net((8, 60, 100), seed=2)
    first, again, second, other = (Starts(G, seed).directions(k, 3) for k, seed in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert torch.equal(first, again) and first.shape == (3, 8)
    assert not torch.equal(first, second) and not torch.equal(first, other)


def test_a_matrix_of_each_signal_gives_what_the_matrix_alone_gives():
    """A random start is the best of many latents: by the matrix of the signal, and by no copy of it for each of them."""
    G = net((8, 60, 100), seed=2)
    _, x = signals(G, 5)
    A = normal(5, 40, 100, seed=9)
    y = (A @ x[..., None])[..., 0]
    found = ci.invert(G, y, measurement=A, progress=False)
    assert found.verdict.explained.all()
    for i in range(5):
        alone = ci.invert(G, y[i : i + 1], measurement=A[i], progress=False)
        assert alone.used[0] == found.used[i] and torch.allclose(alone.z[0], found.z[i], atol=1e-9)
    task = make_task(G, y, A)
    candidates = normal(30, 8, seed=11)
    merits = torch.stack([(G(candidates) @ A[i].T - y[i]).norm(dim=1) for i in range(5)])
    assert torch.equal(most_promising(task, candidates, centre=False), candidates[merits.argmin(1)])
    assert task.measurement.take(torch.tensor([2])).repeated(7).A.ndim == 2
