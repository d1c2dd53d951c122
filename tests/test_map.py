"""Maximum a posteriori: the objective that noise and prior state, its optima on the affine pieces and among their kinks."""

from dataclasses import replace
from typing import Any

import cvxpy as cp
import pytest
import torch
from test_inversion import net, normal, seeded, signals
from test_priors import PRIORS, convex, exact, numbers, spd
from torch import Tensor

import cvxinv as ci
from cvxinv.generator.chain import Generator
from cvxinv.inversion.progress import Progress
from cvxinv.inversion.steps.chords import lead_by_chords
from cvxinv.inversion.steps.gradient import gradient
from cvxinv.inversion.steps.kinked import Place
from cvxinv.inversion.steps.learnt import lesson_for
from cvxinv.inversion.steps.newton import descend, descend_from_each
from cvxinv.inversion.steps.normal_equations import rough_curvature
from cvxinv.inversion.steps.smoothed import descend_smoothed
from cvxinv.inversion.steps.softened import _crosses_down as crosses_down
from cvxinv.inversion.steps.softened import lower
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


def test_a_step_far_from_the_end_keeps_no_kinks_where_it_crosses_many():
    z, task = noisy_task(net((3, 60, 40), seed=2), ci.Gaussian(), N=8, sigma=0.5)
    at = z + 3 * normal(*z.shape, seed=9)
    view = View.at(task, at)
    slope, H = Slope.at(task, view), rough_curvature(task, at)
    plain = -torch.linalg.solve(H, slope.g)
    tied, free = (tied_step(task, H, view, slope, far).d for far in (torch.inf, 0.0))
    left_out = ((free - plain).abs() <= 1e-9 * plain.abs().amax(1, keepdim=True)).all(1)
    heeded = ((tied - plain).abs() > 1e-6 * plain.abs().amax(1, keepdim=True)).any(1)
    assert int((left_out & heeded).sum()) >= 2, "kinks that count near the end are left out far from it"


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


# --- optima ----------------------------------------------------------------------------------------


def piece_value(task: Task, z: Tensor, i: int) -> float:
    """The least value of f on the affine piece of latent i, its kinks aside, by CVXPY."""
    assert task.noise is not None
    r, J = (part[i].numpy() for part in task.linearize(z))
    x, at = cp.Variable(z.shape[1]), z[i].numpy()
    cost, inside = (0, []) if task.prior is None else convex(task.prior, x)
    variance = float(task.noise.bound[i]) ** 2
    problem = cp.Problem(cp.Minimize(cp.sum_squares(r + J @ (x - at)) / 2 + variance * cost), inside)
    exact(problem)
    return float(problem.value) / variance


def small_noise(G: Generator, prior: Any, N: int = 5) -> tuple[Tensor, Task]:
    """Signals of latents near the prior's set with so little noise that no kink is near their optima."""
    z = G.sample_latent(N, seeded(3)) * 0.3
    if prior is not None:
        z = 0.8 * z + 0.2 * prior.fitted(G.latent_dim, z.dtype, z.device).project(z)
        z = z.abs() - 0.01 if isinstance(prior, ci.Box) and prior.hi.isinf().any() else z
    y = G(z) + 1e-3 * normal(N, G.signal_dim, seed=6)
    return y, make_task(G, y, noise=("gaussian", 1e-3), prior=prior)


# latent_pursuit refuses a ball; of the matrix's directions one is 1,000 times as slow for gradients as another
PAIRS = [
    (method, name)
    for method in ("hybrid", "levenberg_marquardt", "latent_pursuit", "gradient_descent")
    for name in (*PRIORS, "none")
    if (method, name) not in (("latent_pursuit", "ball"), ("gradient_descent", "gaussian matrix"))
]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_an_answer_solves_the_convex_problem_of_its_piece(method: str, name: str):
    G, prior = net((6, 40, 80), seed=3), None if name == "none" else PRIORS[name](6)
    y, task = small_noise(G, prior)
    options = {"restarts": 3} if method == "levenberg_marquardt" else {}
    R = ci.invert(G, y, method, noise=("gaussian", 1e-3), prior=prior, on_fail="ignore", **options)
    rtol = 1e-6 if method == "gradient_descent" else 1e-8
    for i in range(5):
        assert R.status[i] in ("explained", "stationary")
        value, best = float(objective(task, R.z)[i]), piece_value(task, R.z, i)
        assert value - best <= rtol * best, (value, best)
        assert task.prior is None or torch.equal(task.prior.project(R.z), R.z)


@pytest.mark.generators
@pytest.mark.parametrize("prior", [ci.Gaussian(2.0, 0.1), ci.Box(-1.0, 0.8), ci.Ball(2.0)], ids=["gaussian", "box", "ball"])
@pytest.mark.parametrize("name", ["csinva_vae_20_400_784", "laug_vae_5_128_256_784", "lei_vae_leaky_20_200_500_784_nobias"])
def test_answers_of_trained_generators_solve_the_convex_problem_of_their_piece(name: str, prior: Any, real_generator):
    """Latents at the sets' sides, so that they hold, and so little noise that no kink is near most optima."""
    G = real_generator(name, output="identity", dtype=torch.float64)
    z = prior.fitted(G.latent_dim, torch.float64, torch.device("cpu")).project(G.sample_latent(4, seeded(3)))
    sigma = 1e-4 * float(G(z).norm(dim=1).mean()) / 28
    y = G(z) + sigma * normal(4, 784, seed=6)
    task = make_task(G, y, noise=("gaussian", sigma), prior=prior)
    R = ci.invert(G, y, noise=("gaussian", sigma), prior=prior)
    assert R.verdict.explained.all()
    gap = [float(objective(task, R.z)[i]) / piece_value(task, R.z, i) - 1 for i in range(4)]
    assert sum(g <= 1e-8 for g in gap) >= 3 and max(gap) < 1e-4, gap


@pytest.mark.parametrize("prior", ["none", "gaussian matrix", "box", "ball"])
def test_answers_do_not_depend_on_chunks_neighbours_or_types(prior: str):
    G, known = net((5, 30, 60), seed=1), None if prior == "none" else PRIORS[prior](5)
    _, x = signals(G, 3)
    y = x + 0.3 * normal(3, 60, seed=4)
    ask = {"noise": ("gaussian", 0.3), "prior": known, "on_fail": "ignore"}
    R = ci.invert(G, y, **ask)
    for again in (ci.invert(G, y, chunk=2, **ask).z, torch.stack([ci.invert(G, one, **ask).z for one in y])):
        assert torch.allclose(again, R.z, atol=1e-9)
    small = ci.invert(G.to(torch.float32), y.float(), **ask)
    assert small.z.dtype == torch.float32 and (small.status == R.status).all()
    assert torch.allclose(small.z.double(), R.z, atol=1e-4)
    mask = torch.rand(3, 60, generator=seeded(0)) < 0.6
    seen = ci.invert(G, y.where(mask, torch.nan), measurement=mask, **ask)
    assert set(seen.status) <= {"explained", "stationary"}


def test_a_prior_is_worth_more_than_least_squares_in_noise():
    """Many latents for the noise: least squares fits it, the prior does not."""
    G = net((20, 60, 80), seed=2)
    z, x = signals(G, 30)
    y = x + 0.5 * normal(30, 80, seed=4)
    free = ci.invert(G, y, noise=("gaussian", 0.5), on_fail="ignore")
    known = ci.invert(G, y, noise=("gaussian", 0.5), prior=ci.Gaussian(), on_fail="ignore")
    away = [float((R.z - z).norm(dim=1).median()) for R in (free, known)]
    assert away[1] < 0.8 * away[0]
    assert float((free.verdict.misfit - known.verdict.misfit).median()) < 0, "least squares fits the noise too"
    assert "Gaussian(precision=1, mean=0)" in str(known.settings["prior"]) and "prior" not in free.settings


def test_statuses_are_those_of_the_stated_objective():
    G = net((5, 30, 60), seed=1)
    z, x = signals(G, 6)
    y = x + 0.2 * normal(6, 60, seed=4)
    ask: dict[str, Any] = {"noise": ("gaussian", 0.2), "prior": ci.Gaussian(2.0)}
    R = ci.invert(G, y, **ask)
    assert (R.status == "explained").all()
    assert (ci.verify(G, y, z, **ask).status == "user_limit").all(), "the truth is no optimum"
    assert (ci.verify(G, y, R.z, noise=("gaussian", 0.2)).status == "user_limit").all(), "nor is this one without the prior"
    assert (ci.verify(G, y, R.z, noise=("l2", 0.2 * 60**0.5 * 1.5)).status == "explained").all(), (
        "a bound asks for no optimum"
    )
    few = ci.invert(G, y, noise=("gaussian", 0.02), prior=ci.Gaussian(2.0), on_fail="ignore")
    assert (few.status == "stationary").all(), "less noise than there is does not explain it"
    tight = ci.Ball(0.9 * float(R.z.norm(dim=1).min()))
    assert (ci.verify(G, y, R.z, noise=("l2", 1e3), prior=tight).status == "user_limit").all(), "outside the set"
    inside = ci.invert(G, y, noise=("l2", 1e3), prior=tight)
    assert (inside.status == "explained").all() and (inside.z.norm(dim=1) <= tight.radius * (1 + 1e-15)).all()


def test_the_limit_of_gaussian_noise_is_its_length_in_999_of_1000_draws():
    G = net((5, 30, 60), seed=1)
    mask = torch.arange(60) < torch.tensor([[60], [7], [1]])
    task = make_task(G, torch.zeros(3, 60).double(), mask, ("gaussian", torch.tensor([1.0, 2.0, 0.5]).double()))
    draws = torch.randn(20000, 60, generator=seeded(0), dtype=torch.float64)
    for i, sigma in enumerate((1.0, 2.0, 0.5)):
        share = float(((sigma * draws * mask[i]).norm(dim=1) <= task.limit[i]).double().mean())
        assert 0.998 < share < 0.9997


def test_softened_kinks_lead_no_higher_and_often_lower():
    G = net((8, 60, 100), seed=2)
    _, task = noisy_task(G, ci.Gaussian(), N=20, sigma=0.8)
    ends = descend(task, torch.zeros(20, 8).double())
    better = lower(task, ends.z)
    assert (objective(task, better) <= objective(task, ends.z)).all()
    assert int((objective(task, better) < objective(task, ends.z) * (1 - 1e-7)).sum()) >= 2
    again = torch.cat([lower(task.take(torch.tensor([i])), ends.z[i : i + 1]) for i in (0, 7, 19)])
    assert torch.allclose(again, better[[0, 7, 19]], atol=1e-9)


def test_softened_kinks_that_move_nothing_are_not_followed(monkeypatch: pytest.MonkeyPatch):
    """Where the first softened step is short the optimum comes back as it was; followed all the same it comes back too."""
    _, task = noisy_task(net((8, 60, 100), seed=2), ci.Gaussian(), N=40, sigma=0.02)
    ends = descend(task, torch.zeros(40, 8).double()).z
    heeded = lower(task, ends)
    monkeypatch.setattr("cvxinv.inversion.steps.softened._MOVES", 0.0)
    monkeypatch.setattr("cvxinv.inversion.steps.kinked._NEAR", 0.0)
    followed = lower(task, ends)
    gain = objective(task, heeded) - objective(task, followed)
    assert float(gain.abs().max()) < 4e-4 and int((gain.abs() < 1e-9 * objective(task, followed)).sum()) >= 38
    monkeypatch.setattr("cvxinv.inversion.steps.softened._MOVES", 1e9)
    assert (objective(task, lower(task, ends)) <= objective(task, ends)).all()


def test_softened_kinks_that_cross_none_that_bends_down_are_not_followed(monkeypatch: pytest.MonkeyPatch):
    """Where only kinks that bend up lie between, or none, a descent from there would come back; so it is left out."""
    _, task = noisy_task(net((8, 60, 100), seed=2), ci.Gaussian(), N=40, sigma=0.8)
    ends, said = descend(task, torch.zeros(40, 8).double()).z, list[Tensor]()

    def heard(*args: Any) -> Tensor:
        said.append(crosses_down(*args))
        return said[-1]

    monkeypatch.setattr("cvxinv.inversion.steps.softened._crosses_down", heard)
    heeded = lower(task, ends)
    crossing = torch.cat(said)
    assert crossing.any() and int((~crossing).sum()) >= 10
    monkeypatch.setattr("cvxinv.inversion.steps.softened._crosses_down", lambda *args: torch.ones_like(crosses_down(*args)))
    assert torch.allclose(objective(task, heeded), objective(task, lower(task, ends)), rtol=1e-9)


def test_what_bends_down_on_the_way_is_what_the_output_wants_more_of():
    """G(z) = max(z, 0) by hand, at z = -1: the kink bends down where y > 0 is not reached yet, and up where y < 0."""
    G = Generator((ci.Layer(ci.Dense(numbers([1.0])), numbers(0.0), ci.ReLU()),
                   ci.Layer(ci.Dense(numbers([1.0])), numbers(0.0), ci.Identity())), (1,), {})  # fmt: skip
    task = make_task(G, torch.tensor([[2.0], [-2.0], [2.0]]).double(), noise=("gaussian", 1.0), prior=ci.Gaussian())
    home = Place.at(task, torch.full((3, 1), -1.0).double(), 1e-9)
    there = torch.tensor([[0.5], [0.5], [-0.5]]).double()
    assert crosses_down(G, home, there).tolist() == [True, False, False]


def test_a_lower_optimum_is_softened_again():
    _, task = noisy_task(net((8, 60, 100), seed=2), ci.Gaussian(), N=20, sigma=0.8)
    better = lower(task, descend(task, torch.zeros(20, 8).double()).z)
    assert torch.allclose(objective(task, lower(task, better)), objective(task, better), rtol=1e-7)


# --- several starts --------------------------------------------------------------------------------


def counted(task: Task) -> Task:
    """The same with its iterations counted, in `task.progress.iterations`."""
    progress = Progress()
    return replace(task, progress=progress, place=progress.counts(task.N, task.y.device))


def test_starts_that_descend_at_once_end_where_each_ends_alone():
    _, task = noisy_task(net((8, 60, 100), seed=2), ci.Gaussian(), N=7, sigma=0.3)
    starts = [(normal(7, 8, seed=k), mu) for k, mu in ((1, 1e-3), (2, 1.0), (3, 1e-9))]
    task = counted(task)
    ends = descend_from_each(task, starts, 60)
    together = task.progress.iterations
    alone, spent = [], torch.zeros(7, dtype=torch.long)
    for z, mu in starts:
        one = counted(task)
        alone.append(descend(one, z, 60, mu))
        spent += one.progress.iterations
    for end, other in zip(ends, alone, strict=True):
        assert torch.allclose(end.z, other.z, atol=1e-9) and torch.allclose(end.merit, other.merit, rtol=1e-12)
        assert torch.equal(end.steps, other.steps)
    assert torch.equal(together, spent) and (spent > 3).all()  # a signal counts once from each start
    assert not all(torch.allclose(end.z, ends[0].z, atol=1e-6) for end in ends)


def test_hybrid_takes_the_best_of_starts_that_descend_at_once(monkeypatch: pytest.MonkeyPatch):
    G = net((8, 60, 100), seed=2)
    _, task = noisy_task(G, ci.Gaussian(), N=12, sigma=0.8)

    def answer(astray: list[int]) -> ci.Inversion:
        monkeypatch.setattr("cvxinv.inversion.methods.hybrid.led_astray", lambda *_: torch.tensor(astray, dtype=torch.long))
        return ci.invert(G, task.y, noise=("gaussian", 0.8), prior=ci.Gaussian(), progress=False, on_fail="ignore")

    one, every, some = answer([]), answer(list(range(12))), answer([1, 4, 5])
    below = objective(task, every.z) <= objective(task, one.z) * (1 + 1e-9)
    assert below.all() and len(set(every.used)) > 1
    kept = torch.tensor([i in (1, 4, 5) for i in range(12)])
    assert torch.allclose(some.z[kept], every.z[kept], atol=1e-8) and torch.allclose(some.z[~kept], one.z[~kept], atol=1e-8)


def test_starts_that_the_time_ends_are_kept_as_far_as_they_are(monkeypatch: pytest.MonkeyPatch):
    G = net((8, 60, 100), seed=2)
    _, task = noisy_task(G, ci.Gaussian(), N=5, sigma=0.1)
    monkeypatch.setattr("cvxinv.inversion.methods.hybrid.led_astray", lambda *_: torch.arange(5))
    lesson_for(task)  # or its samples would ask too
    asked = []

    def late(progress: Progress) -> bool:
        asked.append(progress)
        progress.cut = len(asked) > 3
        return progress.cut

    monkeypatch.setattr(Progress, "late", late)
    options: dict[str, Any] = {"noise": ("gaussian", 0.1), "prior": ci.Gaussian(), "progress": False, "on_fail": "ignore"}
    R = ci.invert(G, task.y, time_limit=1e6, **options)
    assert len(asked) > 3 and set(R.used) == {"smoothed start"}
    assert (objective(task, R.z) < objective(task, torch.zeros(5, 8).double())).all()


# --- chords ----------------------------------------------------------------------------------------


def test_a_chord_step_solves_a_sigmoid_on_one_piece_from_where_its_tangents_are_flat():
    """Hidden units that all stay on: u is affine, y has no noise to speak of, and the first step ends at |z| = 1 from 40."""
    W, b = normal(12, 3, seed=1), torch.full((12,), 500.0, dtype=torch.float64)
    V = normal(30, 12, seed=2)
    hidden, last = ci.Layer(ci.Dense(W), b, ci.ReLU()), ci.Layer(ci.Dense(V / 12), -V @ b / 12, ci.Sigmoid())
    G = Generator((hidden, last), (30,), {})
    z = torch.nn.functional.normalize(normal(4, 3, seed=3))
    task = make_task(G, G(z), noise=("gaussian", 1e-9))
    far = 40 * z.roll(1, 0)
    assert (G.linearize(far)[1].abs().amax((1, 2)) > 0).all() and ((G(far) - 0.5).abs().amax(1) > 0.49).all()
    # the damping of 1e-3 leaves about as much of the way, at every step
    assert float((lead_by_chords(task, far) - z).abs().max()) < 1e-6
    tangents = descend(task, far, max_iter=3).z
    assert float((tangents - z).abs().max()) > 1


def test_smoothed_steps_in_noise_take_chords_behind_a_sigmoid():
    """Units that stay on for all latents near by: smoothed or not u is affine, and chords solve it from |z| = 40."""
    W, b, V = normal(12, 3, seed=1), torch.full((12,), 200.0, dtype=torch.float64), normal(30, 12, seed=2)
    hidden, last = ci.Layer(ci.Dense(W), b, ci.ReLU()), ci.Layer(ci.Dense(V / 12), -V @ b / 12, ci.Sigmoid())
    G = Generator((hidden, last), (30,), {})
    z = torch.nn.functional.normalize(normal(4, 3, seed=3))
    far, scales = 40 * z.roll(1, 0), (0.5, 0.25, 0.1)
    found = descend_smoothed(make_task(G, G(z), noise=("gaussian", 1e-6)), far, scales)
    assert float((found - z).abs().max()) < 1e-2, "in float32, where biases of 200 leave five digits"
    without = descend_smoothed(make_task(G, G(z)), far, scales)
    assert float((without - z).abs().max()) > 1, "tangents, where no noise is stated"


def test_smoothed_steps_in_noise_weigh_the_prior():
    """One linear piece: steps end at (J'J + sigma^2 P)^-1 J'y, whatever the scale, up to the damping."""
    G = Generator((ci.Layer(ci.Dense(normal(40, 4, seed=1)), torch.zeros(40).double(), ci.Identity()),), (40,), {})
    J, y, sigma = G.layers[0].W.weight, normal(2, 40, seed=2), 5.0
    found = descend_smoothed(make_task(G, y, noise=("gaussian", sigma), prior=ci.Gaussian(2.0)), 9 * normal(2, 4, seed=3))
    expected = torch.linalg.solve(J.T @ J + 2 * sigma**2 * torch.eye(4), J.T @ y.T).T
    assert torch.allclose(found, expected, atol=1e-5)
    plain = torch.linalg.lstsq(J, y.T).solution.T
    assert float((plain - expected).abs().max()) > 0.1


def test_chords_lead_no_higher_from_anywhere_hidden_entries_or_not():
    G = net((6, 60, 100), "sigmoid", seed=3)
    z, x = signals(G, 12)
    y, mask = x + 0.02 * normal(12, 100, seed=7), torch.rand(12, 100, generator=seeded(8)) > 0.4
    for seen in (None, mask):
        task = make_task(G, y if seen is None else torch.where(mask, y, torch.nan), seen, ("gaussian", 0.02), ci.Gaussian())
        for start in (z, torch.zeros_like(z), 5 * normal(12, 6, seed=9)):
            led = lead_by_chords(task, start)
            assert (task.merit(led) <= task.merit(start)).all()
            again = lead_by_chords(task.take(torch.tensor([7])), start[7:8])
            assert torch.allclose(again[0], led[7], atol=1e-8), "as if alone"
        assert int(task.explained(led).sum()) >= 6, "from far away"


def test_outputs_without_chords_are_left_alone():
    z = normal(2, 4, seed=1)
    for output in ("identity", "relu"):
        G = net((4, 20, 30), output)
        task = make_task(G, signals(G, 2)[1], noise=("gaussian", 0.1))
        assert lead_by_chords(task, z) is z
    G = net((4, 20, 30), "sigmoid")
    matrix = make_task(G, signals(G, 2)[1] @ normal(9, 30, seed=2).T, normal(9, 30, seed=2), ("gaussian", 0.1))
    assert lead_by_chords(matrix, z) is z, "it mixes entries"


def test_a_signal_that_chi_square_leaves_out_is_answered_when_four_starts_agree():
    """An affine generator has one optimum: of noise 10 % beyond its limit no other start makes anything else."""
    G = Generator((ci.Layer(ci.Dense(normal(12, 4, seed=1)), normal(12, seed=2), ci.LeakyReLU(0.999999)),
                   ci.Layer(ci.Dense(normal(40, 12, seed=3)), normal(40, seed=4), ci.Identity())), (40,), {})  # fmt: skip
    z, noise = normal(2, 4, seed=5), normal(2, 40, seed=6)
    task = make_task(G, G(z), noise=("gaussian", 0.1))
    y = G(z) + torch.tensor([[0.5], [1.3]]).double() * task.limit[:, None] * noise / noise.norm(dim=1, keepdim=True)
    R = ci.invert(G, y, noise=("gaussian", 0.1), prior=ci.Gaussian(), on_fail="ignore")
    assert R.status.tolist() == ["explained", "stationary"]
    assert R.starts.tolist() == [0, 0], "no random start is drawn"


def test_hybrid_refuses_options_of_layers_that_it_does_not_solve():
    G = net((5, 20, 40))
    _, y = signals(G)
    for options in ({"gamma": 0.1}, {"lam": 0.1}, {"solver": "CLARABEL"}):
        with pytest.raises(ValueError, match=rf"got {next(iter(options))}: hybrid takes no layered start there"):
            ci.invert(G, y, noise=("gaussian", 0.1), **options)


def test_the_gradient_is_the_objectives():
    G = net((5, 20, 40), "sigmoid")
    z, task = noisy_task(G, ci.Gaussian(spd(5), normal(5, seed=1)), sigma=0.3)
    at = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad((0.09 * objective(task, at)).sum(), at)
    view = View.at(task, z)
    assert torch.allclose(gradient(task, z)[1], expected, rtol=1e-12)
    assert torch.allclose(Slope.at(task, view).g, expected, rtol=1e-12)
    assert torch.allclose(task.merit(z).square(), 0.18 * objective(task, z), rtol=1e-12)


# --- the latent's layer ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*WEIGHED, "box", "one-sided box"])
def test_the_latents_layer_solves_its_problem_with_the_prior_exactly(name: str):
    """The rows are the layer's own; the optimum with R and C is CVXPY's, and the judge certifies it."""
    G, prior = net((5, 30, 60), seed=4), PRIORS[name](5)
    _, x = signals(G, 4)
    noise = ("gaussian", SIGMA)
    R = ci.invert(G, x + SIGMA * normal(*x.shape, seed=2), "latent_pursuit", noise=noise, prior=prior, debias=None,
                  on_fail="ignore")  # fmt: skip
    report = R.layers[-1]
    assert report.index == 0 and "as rows" in report.remark
    assert (report.solution.status == "optimal").all()
    rows, seen = report.problem.rows, G.layers[0].W.m
    for i in range(4):
        on, off = (mask[i, :seen].numpy() for mask in (rows.on, rows.off))
        W, b, h = G.layers[0].W.matrix().numpy(), G.layers[0].b.numpy(), rows.y[i, :seen].numpy()
        z = cp.Variable(5)
        R_of, inside = convex(prior.fitted(5, torch.float64, torch.device("cpu")), z)
        level = float(rows.weight[i, -1]) if name in WEIGHED else 0.0
        root = rows.weight[i, :seen].sqrt().numpy()[on]
        cost = cp.sum_squares(cp.multiply(root, W[on] @ z + b[on] - h[on])) / 2 + level * R_of
        problem = cp.Problem(cp.Minimize(cost), [*inside, W[off] @ z + b[off] <= 0])
        exact(problem)
        value = float(report.solution.certificate.objective[i])
        assert abs(value - float(problem.value)) <= 1e-8 * (abs(value) + 1e-8 * float((h[on] ** 2).sum()))


def test_latent_pursuit_refuses_what_its_layers_cannot_hold():
    G = net((5, 20, 40))
    _, y = signals(G)
    sigma, gaussian = ("gaussian", SIGMA), ci.Gaussian()
    for words, options in (
        (r"the prior Ball\(radius=2\).*use method='hybrid'", {"prior": ci.Ball(2.0)}),
        ("debias='piece' or None", {"prior": gaussian, "debias": "gradient"}),
        ("and gamma; leave one", {"prior": gaussian, "gamma": 0.1}),
        (
            "a layer problem for layer 0",
            {"prior": gaussian, "layer_problems": {0: lambda rows: ci.GaussianLatent(rows, 1.0)}},
        ),
    ):
        with pytest.raises(ValueError, match=words):
            ci.invert(G, y, "latent_pursuit", noise=sigma, **options)
