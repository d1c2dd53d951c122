"""Descents from z1 and from -z1: the lower end wins, and convolutions are inverted from a part of their pixels."""

import pytest
import torch
from test_inversion import error, net, normal, seeded, signals
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.inversion.methods.mirrored_descent import descend_twice
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.task import make_task

NAME = "mirrored_descent"


def convolutional(seed: int) -> ci.Generator:
    """The source's toy: latent 2 x 1 x 1, channels 2, 4, 8, 16, 1, kernels 3, stride 2, N(0, 1 / (9 channels out))."""
    draw, parts = seeded(seed), list[nn.Module]([nn.Unflatten(1, (2, 1, 1))])
    for n, m in ((2, 4), (4, 8), (8, 16), (16, 1)):
        layer = nn.ConvTranspose2d(n, m, 3, stride=2, bias=False)
        layer.weight.data = torch.randn(layer.weight.shape, generator=draw) / (9 * m) ** 0.5
        parts += [layer, nn.ReLU()]
    return ci.load_generator(nn.Sequential(*parts).double())


def first_tenth(G: ci.Generator) -> Tensor:
    return torch.arange(G.signal_dim) < G.signal_dim // 10


def test_the_lower_end_of_the_two_descents_is_taken():
    lower = higher = 0
    for seed in range(4):
        G = convolutional(seed)
        task = make_task(G, G(normal(4, 2, seed=seed)), first_tenth(G))
        z0 = normal(1, 2, seed=100 + seed).expand(4, -1)
        z1 = descend(task, z0, 100)
        z2 = descend(task, -z1.z, 100)
        found, mirrored = descend_twice(task, z0, 100)
        tried = ~task.explained(z1.z)
        assert torch.equal(mirrored, tried & (z2.merit < z1.merit))
        assert torch.allclose(found.merit, torch.where(mirrored, z2.merit, z1.merit), rtol=1e-6, atol=1e-12)
        assert torch.allclose(found.misfit, task.misfit(found.z), rtol=1e-6, atol=1e-12)
        assert (found.steps >= z1.steps).all() and (found.steps[mirrored] > z1.steps[mirrored]).all()
        lower, higher = lower + int(mirrored.sum()), higher + int((tried & ~mirrored).sum())
    assert lower and higher


def test_the_sources_toy_is_inverted_from_its_first_pixels():
    there = alone = 0
    for seed in range(6):
        G = convolutional(seed)
        z = normal(4, 2, seed=500 + seed)
        R = ci.invert(G, G(z), NAME, measurement=first_tenth(G), seed=seed, on_fail="ignore")
        there += int(((R.z - z).norm(dim=1) < 1e-3 * z.norm(dim=1)).sum())
        met = int(R.notes[0].split("lower in ")[1].split()[0])
        alone += int(R.verdict.explained.sum()) - met
    assert there > 0.85 * 24 and alone < there


def test_gaussian_measurements_of_a_convolution_are_inverted():
    G = convolutional(5)
    z, x = signals(G, 4)
    A = normal(12, G.signal_dim, seed=1) / 12**0.5
    R = ci.invert(G, x @ A.T, NAME, measurement=A, restarts=2)
    assert R.verdict.explained.all() and error(R.z, z) < 1e-6


def test_a_prior_and_noise_are_heeded():
    G = net((3, 40, 60))
    z, y = signals(G, 3)
    R = ci.invert(G, y + 0.01, NAME, prior=ci.Gaussian(1.0), noise=("gaussian", 0.01), on_fail="ignore")
    best = ci.invert(G, y + 0.01, "levenberg_marquardt", z0=z, prior=ci.Gaussian(1.0), noise=("gaussian", 0.01))
    assert torch.allclose(R.z, best.z, atol=1e-6)
    box = ci.invert(G, y, NAME, prior=ci.Box(0.0, 1.0), on_fail="ignore")
    assert (box.z >= 0).all() and (box.z <= 1).all()


def test_restarts_are_pairs_and_options_are_refused_by_name():
    G = net((3, 20, 12), bias=0.0)
    z, y = signals(G, 6)
    one, many = (ci.invert(G, y, NAME, restarts=k, on_fail="ignore") for k in (1, 5))
    assert (many.verdict.misfit <= one.verdict.misfit).all() and int(many.starts.max()) <= 5
    given = ci.invert(G, y, NAME, z0=z + 1e-3, restarts=0)
    assert given.used == ("z0",) * 6 and given.notes == ("mirror: the descent from -z1 ended lower in 0 of 6 pairs",)
    for options in ({"max_iter": 0}, {"restarts": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ci.MirroredDescent(**options)
