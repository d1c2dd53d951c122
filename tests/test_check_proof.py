"""Proof files: the checker accepts what `prove` writes, in exact arithmetic, and refuses what is no longer proved."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import cvxinv as ci
from cvxinv.check import Verdict
from cvxinv.check_proof import check_file
from cvxinv.exact.prove import prove
from cvxinv.inversion.proof import Proof

CASES = [  # hidden layers, slope where cut, noise, share of the signal that is hidden
    (1, 0.0, 0.0, 0.0), (1, 0.2, 0.01, 0.0), (1, 0.0, 0.1, 0.3), (1, 0.2, 0.3, 0.0), (2, 0.0, 0.01, 0.0), (2, 0.2, 0.1, 0.3),
    (2, 0.0, 0.3, 0.0), (2, 0.2, 0.0, 0.0),
]  # fmt: skip


def network(seed: int, depth: int, slope: float, width: int = 6, d: int = 8) -> ci.Generator:
    """Random dense layers with biases, unit columns in the mean."""
    draw = torch.Generator().manual_seed(seed)
    layers, sizes = list[nn.Module](), [1 + depth, *[width] * depth, d]
    for a, b in pairwise(sizes):
        layer = nn.Linear(a, b).double()
        with torch.no_grad():
            layer.weight.copy_(torch.randn(b, a, generator=draw, dtype=torch.float64) / math.sqrt(a))
            layer.bias.copy_(0.3 * torch.randn(b, generator=draw, dtype=torch.float64))
        layers += [layer, nn.LeakyReLU(slope) if slope else nn.ReLU()]
    return ci.load_generator(nn.Sequential(*layers[:-1]))


def logged(path: Path, case: tuple[int, float, float, float], seed: int, **options: object) -> Proof:
    """A proof of a random case, its log at the path."""
    depth, slope, noise, hidden = case
    G, draw = network(seed, depth, slope), torch.Generator().manual_seed(seed + 1)
    z = torch.randn(1, G.latent_dim, generator=draw, dtype=torch.float64)
    y = G(z) * (1 + noise * torch.randn(1, 8, generator=draw, dtype=torch.float64))
    mask = torch.rand(8, generator=draw) >= hidden if hidden else None
    return prove(G, y, z, measurement=mask, log=path, time_limit=None, **options)


def claims(verdicts: list[Verdict]) -> list[str]:
    return [verdict.claim for verdict in verdicts]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_proved_is_accepted_in_exact_arithmetic(tmp_path, case):
    path = tmp_path / "one.json"
    proof = logged(path, case, 0)
    verdicts = check_file(path)
    assert claims(verdicts) == list(proof.status) + ["unique"] * bool(proof.unique[0])
    assert all(verdict.accepted for verdict in verdicts), verdicts
    assert "in exact arithmetic" in verdicts[0].words
