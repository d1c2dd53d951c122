"""Affine forms with remainders: what they enclose is enclosed, what they prove holds, and small boxes end in one latent."""

import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.exact import wide
from cvxinv.exact.prove import prove
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
    form, undecided = wide.forms(G, V, low, high)
    c = drawn(low, high, 2000, 3)
    away = (G(c @ V.T) - c @ form.G.T - form.g).abs()
    assert (away <= form.e + 1e-15).all() and undecided[0] <= 36
    assert radius > 0.01 or away.max() > 0.2 * form.e.max() or not undecided[0]  # no more than is needed


@pytest.mark.parametrize("output", [ci.Identity(), ci.Tanh(), ci.ReLU()], ids=repr)
@pytest.mark.parametrize("radius", [0.001, 0.05, 1.0])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_no_latent_of_the_box_is_below_the_bound(everything_wide, output, radius: float, slope: float):
    met = 0
    for seed in range(4):
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
        met += int(proof.bound[0] > 0.5 * proof.misfit[0]) if seed else 0
    assert met >= (2 if radius < 0.01 else 0)


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


def test_what_is_not_known_of_wide_generators_is_refused(everything_wide):
    G = convolutional(0, ci.Identity(), 0.0)
    y = G(torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="l2 misfit"):
        prove(G, y, noise=("linf", 0.1))
