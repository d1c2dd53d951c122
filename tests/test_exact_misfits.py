"""Proofs in l1 and linf, behind ReLU, tanh and sigmoid, against latents of a grid and of finer ones about its best."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.generator.chain import Generator, Layer

BOX = 3.0
OUTPUTS = {"identity": ci.Identity(), "relu": ci.ReLU(), "tanh": ci.Tanh(), "sigmoid": ci.Sigmoid(), "plu": ci.PLU()}
CASES = [
    *((output, norm) for output in ("identity", "relu") for norm in ("l2", "l1", "linf")),
    ("tanh", "l2"), ("sigmoid", "l2"), ("plu", "l2"),
]  # fmt: skip
LENGTHS = {"l2": lambda r: r.norm(dim=1), "l1": lambda r: r.abs().sum(1), "linf": lambda r: r.abs().amax(1)}


def net(seed: int, output: str) -> Generator:
    """2 -> 5 to 6 (-> 4) -> 8, biases, now and then LeakyReLU; float64."""
    random = torch.Generator().manual_seed(seed)
    sizes = [2, 5 + seed % 2, 8] if seed % 3 else [2, 5, 4, 8]
    layers = []
    for k, (n, m) in enumerate(pairwise(sizes)):
        phi = OUTPUTS[output] if k == len(sizes) - 2 else ci.LeakyReLU(0.2) if seed % 2 else ci.ReLU()
        W = torch.randn(m, n, generator=random, dtype=torch.float64) / n**0.5
        layers.append(Layer(ci.Dense(W), 0.3 * torch.randn(m, generator=random, dtype=torch.float64), phi))
    return Generator(tuple(layers), (sizes[-1],), {})


def signal(G: Generator, seed: int, noise: float) -> Tensor:
    random = torch.Generator().manual_seed(100 + seed)
    z = torch.randn(1, 2, generator=random, dtype=torch.float64)
    return G(z) + noise * torch.randn(1, G.signal_dim, generator=random, dtype=torch.float64)


def least(G: Generator, y: Tensor, norm: str) -> float:
    """The least misfit of a grid of the box, refined seven times about its five best points."""
    axis = torch.linspace(-BOX, BOX, 161, dtype=torch.float64)
    z, step = torch.cartesian_prod(axis, axis), float(axis[1] - axis[0])
    near = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for _ in range(8):
        misfit = LENGTHS[norm](G(z) - y)
        best = z[misfit.argsort()[:5]]
        around = torch.cartesian_prod(near, near)
        z = torch.cat([best, *(b + step * around for b in best)]).clamp(-BOX, BOX)
        step /= 4
    return float(LENGTHS[norm](G(z) - y).min())


@pytest.mark.parametrize(("output", "norm"), CASES)
def test_no_latent_is_below_the_bound_and_small_nets_are_decided(output: str, norm: str):
    decided, close = 0, 0
    for seed in range(5):
        G, noise = net(seed, output), (0.0, 0.05, 0.3)[seed % 3]
        y = signal(G, seed, noise)
        far = torch.full((1, 2), 2.0, dtype=torch.float64) if seed == 2 else None
        proof = ci.prove(
            G, y, far, noise=None if norm == "l2" else (norm, 0.1), gap=1e-3, box=BOX, time_limit=20, progress=False
        )
        found = least(G, y, norm)
        assert proof.bound[0] <= found * (1 + 1e-9) + 1e-12
        # what is called its misfit is the misfit of its latent, in that norm, and in the box
        assert torch.isclose(LENGTHS[norm](G(proof.z) - y), proof.misfit.to(y), rtol=1e-9, atol=1e-13).all()
        assert (proof.z.abs() <= BOX).all()
        decided += int(proof.proved)
        close += int(proof.misfit[0] <= found * (1 + 1e-3) + 1e-9)
        assert proof.out_of_range[0] == (norm != "l2" and proof.bound[0] > 0.1 * (1 + 1e-9))
    assert decided >= 4 and close >= 4


def test_what_lies_out_of_a_sigmoids_range_has_its_misfit_bounded():
    G = net(1, "sigmoid")
    y = torch.full((1, 8), 1.2, dtype=torch.float64)  # at least 0.2 off in every entry
    proof = ci.prove(G, y, gap=0.01, box=BOX, time_limit=20, progress=False)
    assert proof.bound[0] > 0.2 * 8**0.5 and proof.bound[0] <= least(G, y, "l2") * (1 + 1e-9)


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_a_bound_that_nothing_meets_is_out_of_range(norm: str):
    G = net(4, "identity")
    y = signal(G, 4, 0.0) + 2.0
    found = least(G, y, norm)
    for share, out in ((0.9, True), (1.1, False)):
        proof = ci.prove(G, y, noise=(norm, share * found), gap=1e-3, box=BOX, time_limit=20, progress=False)
        assert bool(proof.out_of_range[0]) == out


def test_a_mask_hides_what_the_norms_would_see():
    G = net(2, "identity")
    y, seen = signal(G, 2, 0.02), torch.arange(8) < 6
    spoilt = torch.where(seen, y, torch.full_like(y, 50.0))
    for norm in ("l1", "linf"):
        proofs = [
            ci.prove(G, v, measurement=seen, noise=(norm, 0.5), gap=1e-3, box=BOX, progress=False) for v in (y, spoilt)
        ]
        assert torch.isclose(proofs[0].misfit, proofs[1].misfit, rtol=1e-6).all() and proofs[0].proved.all()
