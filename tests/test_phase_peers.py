"""Phase retrieval of sparse signals without a generator: what the experiment compares with does what its authors say."""

import math

import pytest
import torch
from phase_peers import _largest, copram, sparta, thresholded_wirtinger_flow
from torch import Tensor


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sparse(n: int, s: int, seed: int) -> Tensor:
    x = torch.zeros(n, dtype=torch.float64)
    x[torch.randperm(n, generator=seeded(seed))[:s]] = torch.randn(s, generator=seeded(seed + 1), dtype=torch.float64)
    return x


def off(found: Tensor, x: Tensor) -> float:
    return float(torch.minimum((found - x).norm(), (found + x).norm()) / x.norm())


PEERS = {
    "sparta": lambda A, y, s: sparta(A, y, s),
    "copram": lambda A, y, s: copram(A, y, s),
    "thresholded Wirtinger flow": lambda A, y, s: thresholded_wirtinger_flow(A, y),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_sparse_signal_is_recovered_up_to_its_sign_from_many_magnitudes(peer: str):
    found = []
    for seed in range(10):
        x = sparse(200, 5, seed)
        A = torch.randn(600, 200, generator=seeded(100 + seed), dtype=torch.float64)
        found.append(off(PEERS[peer](A, (A @ x).abs(), 5), x))
    assert sum(e < 1e-5 for e in found) >= 9, found


@pytest.mark.parametrize("peer", PEERS)
def test_units_of_the_signal_do_not_matter(peer: str):
    x, A = sparse(100, 3, 1), torch.randn(400, 100, generator=seeded(2), dtype=torch.float64)
    one, other = (PEERS[peer](A, scale * (A @ x).abs(), 3) for scale in (1.0, 1e3))
    assert off(one, x) < 1e-5 and off(other / 1e3, one) < 1e-5


def test_the_s_largest_entries_stay():
    assert _largest(torch.tensor([3.0, -5.0, 1.0, 4.0]), 2).tolist() == [0, -5, 0, 4]


@pytest.mark.parametrize("peer", PEERS)
def test_a_single_entry_is_found_in_one_step_of_the_start(peer: str):
    """x = 2 e_1: on the support {1} the eigenvector is e_1, and phi = (mean y^2)^(1/2) = 2 (mean a_i1^2)^(1/2)."""
    A = torch.randn(300, 20, generator=seeded(5), dtype=torch.float64)
    x = torch.zeros(20, dtype=torch.float64)
    x[1] = 2.0
    found = PEERS[peer](A, (A @ x).abs(), 1)
    assert math.isclose(abs(float(found[1])), 2.0, rel_tol=1e-6) and off(found, x) < 1e-5
