"""Affine forms with remainders: what they enclose is enclosed, what they prove holds, and small boxes end in one latent."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.exact import wide, wide_relaxation, wide_search
from cvxinv.exact.bounding import corrected, solve_relaxed
from cvxinv.exact.contraction import contract
from cvxinv.exact.prove import prove
from cvxinv.exact.relaxation import Level
from cvxinv.exact.wide_search import opened_wide
from cvxinv.generator.chain import Generator, Layer
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.task import make_task


def convolutional(seed: int, output: ci.AbstractActivation, slope: float) -> Generator:
    """3 -> 4x3x3 -> 2x6x6, float64."""
    random = torch.Generator().manual_seed(seed)
    hidden = ci.LeakyReLU(slope) if slope else ci.ReLU()
    first = 0.6 * torch.randn(36, 3, generator=random, dtype=torch.float64)
    kernel = 0.4 * torch.randn(4, 2, 4, 4, generator=random, dtype=torch.float64)
    picture = ci.ConvTranspose2d(kernel, (4, 3, 3), stride=2, padding=1)
    b = 0.3 * torch.randn(36, generator=random, dtype=torch.float64)
    layers = (Layer(ci.Dense(first), b, hidden), Layer(picture, torch.zeros(72, dtype=torch.float64), output))
    return Generator(layers, (2, 6, 6), {})


def drawn(low: Tensor, high: Tensor, count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, len(low), generator=random, dtype=torch.float64)


@pytest.fixture
def everything_wide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wide, "_MOST_UNITS", 0)


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("radius", [0.01, 0.3, 3.0])
def test_forms_enclose_the_generator(radius: float, slope: float):
    G = convolutional(1, ci.Identity(), slope)
    V = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    low, high = torch.tensor([-0.1, 0.2, 0.0], dtype=torch.float64) - radius, torch.full((3,), 0.3 + radius).double()
    form, limits = wide.forms(G, V, low, high)
    c = drawn(low, high, 2000, 3)
    away = (G(c @ V.T) - c @ form.G.T - form.g).abs()
    assert (away <= form.e + 1e-15).all() and len(limits) == 1
    undecided = [int(((lo < 0) & (hi > 0)).sum()) for lo, hi in limits]
    assert radius > 0.01 or away.max() > 0.2 * form.e.max() or not undecided[0]  # no more than is needed


@pytest.mark.parametrize("output", [ci.Identity(), ci.Tanh(), ci.ReLU()], ids=repr)
@pytest.mark.parametrize("radius", [0.001, 0.05, 1.0])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_no_latent_of_the_box_is_below_the_bound(everything_wide, output, radius: float, slope: float):
    for seed in range(3):
        G = convolutional(seed, output, slope)
        random = torch.Generator().manual_seed(seed)
        z = torch.randn(1, 3, generator=random, dtype=torch.float64)
        y = G(z) + 0.05 * (seed > 0) * torch.randn(1, 72, generator=random, dtype=torch.float64)
        best = descend(make_task(G, y), z).z
        proof = prove(G, y, best, box=(best[0] - radius, best[0] + radius), gap=1e-3)
        trials = drawn(best[0] - radius, best[0] + radius, 4000, seed)
        misfit = (G(trials) - y).norm(dim=1)
        assert proof.bound[0] <= misfit.min() * (1 + 1e-12) + 1e-13
        as_good = trials[misfit <= proof.misfit[0] * (1 + 1e-12)]
        assert ((as_good >= proof.low - 1e-9) & (as_good <= proof.high + 1e-9)).all()
        assert proof.proved[0] and not proof.stopped  # three latents: the tree ends in every box


def test_a_signal_without_noise_has_one_latent_in_a_small_box(everything_wide):
    found = []
    for seed in range(6):
        G = convolutional(seed, ci.Identity(), 0.2)
        z = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        proof = prove(G, G(z), z, box=(z[0] - 0.003, z[0] + 0.003))
        assert proof.status[0] == "proved_optimal"
        found.append(bool(proof.unique[0]))
        assert not found[-1] or proof.radius[0] < 1e-9
    assert sum(found) >= 4


def test_boxes_of_few_latents_are_halved_until_relaxations_fit(everything_wide, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wide_search, "MOST_VARIABLES", 12)
    monkeypatch.setattr(wide_relaxation, "MOST_VARIABLES", 12)
    G, y, z = noisy(3)
    proof = prove(G, y, z, box=(z[0] - 0.5, z[0] + 0.5), gap=1e-3)
    assert proof.proved[0] and proof.nodes[0] > 2
    alone = prove(G, G(z), z, box=(z[0] - 0.5, z[0] + 0.5), gap=1e-3)
    assert alone.unique[0] and alone.radius[0] < 1e-9
    monkeypatch.setattr(wide_search, "FEW_LATENTS", 2)
    ended = prove(G, y, z, box=(z[0] - 0.5, z[0] + 0.5), gap=1e-3)
    assert not ended.proved[0] and ended.nodes[0] == 1 and ended.bound[0] <= proof.bound[0]


def noisy(seed: int) -> tuple[Generator, Tensor, Tensor]:
    """A generator, a signal with noise, and a latent that is not the best."""
    G, random = convolutional(seed, ci.Identity(), 0.1), torch.Generator().manual_seed(seed)
    z = torch.randn(1, 3, generator=random, dtype=torch.float64)
    return G, G(z) + 0.1 * torch.randn(1, 72, generator=random, dtype=torch.float64), z


@pytest.mark.parametrize("seed", [0, 1])
def test_products_and_matrices_prove_the_same(monkeypatch: pytest.MonkeyPatch, seed: int):
    G, y, z = noisy(seed)
    one = prove(G, y, z, gap=1e-4)
    monkeypatch.setattr(wide, "_MOST_UNITS", 0)
    other = prove(G, y, -z, gap=1e-4)
    assert one.proved[0] and other.proved[0] and one.unique[0] == other.unique[0]
    assert torch.allclose(one.misfit, other.misfit, rtol=1e-9) and torch.allclose(one.z, other.z, atol=1e-6)


def test_a_wide_proof_goes_on_where_it_stopped(everything_wide, tmp_path: Path):
    G, y, z = noisy(1)
    y = y + 1.5 * torch.randn(1, 72, generator=torch.Generator().manual_seed(51), dtype=torch.float64)
    asked = {"gap": 1e-2, "batch": 1}
    whole = prove(G, y, z, **asked)
    assert whole.nodes[0] > 3
    stopped = prove(G, y, z, **asked, checkpoint=tmp_path / "proof", callback=lambda moment: True)
    assert stopped.stopped and stopped.nodes[0] == 1 and not stopped.proved[0]
    ended = prove(G, y, checkpoint=tmp_path / "proof", resume=True, **asked)
    assert ended.proved[0] and torch.equal(ended.bound, whole.bound) and torch.equal(ended.nodes, whole.nodes)


def test_maps_are_taken_where_matrices_cost_more(monkeypatch: pytest.MonkeyPatch):
    G, y, _ = noisy(0)
    task, stated = make_task(G, y), make_task(G, y, noise=("linf", 0.1))
    assert not wide.by_maps(task, None)
    monkeypatch.setattr(wide, "_MANY_UNITS", 35)
    assert wide.by_maps(task, None) and not wide.by_maps(task, "a.json") and not wide.by_maps(stated, None)
    monkeypatch.setattr(wide, "_MOST_UNITS", 35)
    assert wide.by_maps(task, "a.json") and wide.by_maps(stated, None)


def test_what_is_not_known_of_wide_generators_is_refused(everything_wide, tmp_path: Path):
    G = convolutional(0, ci.Identity(), 0.0)
    y = G(torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="l2 misfit"):
        prove(G, y, noise=("linf", 0.1))
    with pytest.raises(ValueError, match="log=None"):
        prove(G, y, log=tmp_path / "proof.log")


def deep(seed: int, slope: float) -> Generator:
    """4 -> 3x2x2 -> 2x4x4 -> 3x4x4 -> the largest of each pair of rows -> 1x2x4, through a Conv and a ConvTranspose."""
    torch.manual_seed(seed)
    hidden = nn.LeakyReLU(slope) if slope else nn.ReLU()
    net = nn.Sequential(
        nn.Linear(4, 12), hidden, nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), hidden,
        nn.Conv2d(2, 3, 3, padding=1), hidden, nn.MaxPool2d((2, 1)), nn.Conv2d(3, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip
    G = ci.load_generator(net.double(), latent_dim=4)
    assert isinstance(G, Generator)
    return G


def broken_by(G: Generator, radius: float, seed: int) -> int:
    """Limits, constraints and functionals of a node's relaxation that latents of the node, or better ones, break."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(1, G.latent_dim, generator=random, dtype=torch.float64)
    x = G(z)
    y = x + 0.05 * x.norm() / x.shape[1] ** 0.5 * torch.randn(x.shape, generator=random, dtype=torch.float64)
    task, sides = make_task(G, y), (z[0] - radius, z[0] + radius)
    search = opened_wide(task, z + 0.3 * radius, sides, 1e-3)
    rel, V = search.relaxed(search.open), search.targets.V[0]
    trials = drawn(*sides, 1000, seed)
    low, high = rel.nodes.low[0], rel.nodes.high[0]
    c = trials @ V
    assert ((c >= low) & (c <= high)).all()
    kinked = [u for u, layer in zip(G.preactivations(trials), G.layers, strict=True) if layer.activation.kinked]
    found = 0
    for u, lo, hi in zip(kinked, rel.nodes.lo, rel.nodes.hi, strict=True):
        found += int(((u < lo[0, : u.shape[1]]) | (u > hi[0, : u.shape[1]])).sum())
    w = rel.lifted(c)
    found += int((rel.rows(w.T[None])[0] + rel.const[0, :, None] < -1e-11).sum())
    r = (rel.J[0] @ w.T).T - rel.q
    misfit = (G(trials) - y).square().sum(1)
    found += int(((r.square().sum(1) - misfit).abs() > 1e-9 * (1 + misfit)).sum())
    level = search.level
    best = solve_relaxed(rel, level, 1e-6 * level)
    good = misfit <= level
    if best.D[0] < 0:
        return found + int(good.sum())
    found += int((misfit < level - best.D).sum())
    shrunk = contract(rel, corrected(rel, level, best))
    found += int(((c[good] < shrunk.low) | (c[good] > shrunk.high)).sum())
    return found


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("radius", [0.01, 0.1, 1.0])
def test_no_latent_breaks_a_relaxation_of_maps(radius: float, slope: float):
    assert sum(broken_by(deep(seed, slope), radius, seed) for seed in range(2)) == 0


def misplaced(name: str):
    """`wide_relaxation.put_in` with a fault."""
    put_in = wide_relaxation.put_in

    def faulty(K: Tensor, c: Tensor, rounding: Tensor, x: Level) -> tuple[Tensor, Tensor, Tensor]:
        own = K[:, x.start : x.start + x.at.shape[1]]
        if name == "no offset of the chord":
            return put_in(K, c - own.clamp(max=0) @ ((x.s[0] - x.a[0]) * x.below[0]), rounding, x)
        if name == "a chord too flat":
            return put_in(K, c, rounding, replace(x, a=0.9 * x.a))
        return put_in(K, c, rounding, replace(x, below=0.5 * x.below))

    return faulty


@pytest.mark.parametrize("fault", ["no offset of the chord", "a chord too flat", "half a limit"])
def test_a_planted_fault_of_backward_bounds_is_found(monkeypatch: pytest.MonkeyPatch, fault: str):
    monkeypatch.setattr(wide_relaxation, "put_in", misplaced(fault))
    assert sum(broken_by(deep(seed, 0.1), 1.0, seed) for seed in range(2)) > 0


@pytest.mark.parametrize("fault", ["constant", "offset", "sides"])
def test_a_planted_fault_of_products_is_found(monkeypatch: pytest.MonkeyPatch, fault: str):
    through, at_latent = wide_relaxation.Chain.through, wide_relaxation.WideRelaxation.at_latent
    if fault == "constant":

        def biased(self, layer: int, x: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
            there, own = through(self, layer, x, constant)
            return there, own + 1e-3 * (layer == 1)

        monkeypatch.setattr(wide_relaxation.Chain, "through", biased)
    elif fault == "offset":

        def scaled(self, layer: int, x: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
            there, own = through(self, layer, x, constant)
            return (0.99 if layer == 2 else 1.0) * there, own

        monkeypatch.setattr(wide_relaxation.Chain, "through", scaled)
    else:

        def halved(self, K: Tensor, c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            low, high = at_latent(self, K, c, scale)
            return low + 0.1 * (high - low), high

        monkeypatch.setattr(wide_relaxation.WideRelaxation, "at_latent", halved)
    assert sum(broken_by(deep(seed, 0.1), 1.0, seed) for seed in range(2)) > 0
