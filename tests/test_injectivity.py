"""Injectivity of ReLU layers against exhaustive search, and of nets; stability of the inverse against pairs of points."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from test_preimages import chain, misfits, random_net

import cvxinv as ci


def layer(W: np.ndarray, b: np.ndarray) -> ci.Generator:
    """max(W z + b, 0)."""
    return chain((torch.from_numpy(W), torch.from_numpy(b), ci.ReLU()))


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, float | None]:
    """A small layer with zero rows, duplicates and opposite rows among random ones; with or without biases and a radius."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    W = rng.standard_normal((int(rng.integers(1, {1: 5, 2: 9, 3: 12, 4: 13}[n])), n))
    if seed % 3 == 0:
        W = np.round(W)  # rows in general position no more
    copies = W[rng.integers(0, len(W), int(rng.integers(0, 5)))] * rng.choice([-2.0, -1.0, 1.0], (1,))
    W = np.vstack([W, copies, np.zeros((int(rng.integers(0, 2)), n)), np.eye(n)[: int(rng.integers(0, n + 1))]])
    b = (0.5 * rng.standard_normal(len(W)) + rng.choice([0.0, 0.7])) * (seed % 2)
    return W, b, None if seed % 4 < 2 else float(rng.uniform(0.3, 3.0))


def strictly_below(W: np.ndarray, b: np.ndarray, radius: float | None) -> bool:
    """Whether some x, of length below the radius, has W x + b < 0; by a linear program, and a descent of the length."""
    if not len(W):
        return True
    n = W.shape[1]
    rows = np.hstack([W, np.ones((len(W), 1))])
    wide = 1e4 if radius is None else radius
    found = linprog(np.append(np.zeros(n), -1.0), A_ub=rows, b_ub=-b, bounds=[(-wide, wide)] * n + [(None, 1.0)])
    if found.status != 0 or found.x[-1] < 1e-7:
        return False
    if radius is None:
        return True
    shortest = minimize(
        lambda x: x @ x, found.x[:n], jac=lambda x: 2 * x, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "ineq", "fun": lambda x: -(W @ x + b) - 1e-8, "jac": lambda x: -W},
    )  # fmt: skip
    return bool(np.linalg.norm(shortest.x) < radius and (W @ shortest.x + b).max() < 1e-9)


def injective_by_exhaustion(W: np.ndarray, b: np.ndarray, radius: float | None) -> bool:
    """Every hyperplane that rows span: can all rows outside of it be below 0 at once?"""
    n, seen = W.shape[1], set()
    if np.linalg.matrix_rank(W) < n:
        return False
    for some in combinations(range(len(W)), n - 1):
        normal = np.linalg.svd(W[list(some)])[2][n - 1] if n > 1 else np.ones(1)
        if n > 1 and np.linalg.matrix_rank(W[list(some)]) < n - 1:
            continue
        outside = np.abs(W @ normal) > 1e-9
        if outside.tobytes() not in seen and strictly_below(W[outside], b[outside], radius):
            return False
        seen.add(outside.tobytes())
    return True


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_verdicts_agree_with_exhaustive_search(first: int):
    verdicts = []
    for seed in range(first, first + 50):
        W, b, radius = drawn(seed)
        found, G = ci.injectivity(layer(W, b), radius), layer(W, b)
        expected = injective_by_exhaustion(W, b, radius)
        assert found.status == ("injective" if expected else "not_injective"), (seed, W, b, radius, found)
        if not expected:
            assert found.points is not None, f"layer {seed}: no second preimage beside 'not injective'"
            z, other = found.points
            apart = float((z - other).norm())
            assert apart > 1e-6 * (1 + z.norm()) and (G(z) - G(other)).norm() <= min(1e-10 * (1 + G(z).norm()), 1e-8 * apart)
            assert radius is None or max(z.norm(), other.norm()) <= radius * (1 + 1e-12)
        verdicts.append(expected)
    assert 5 < sum(verdicts) < 45


def test_by_hand():
    """relu(z) and relu(-z) know z; relu(z) alone does not; on |z| <= 1 relu(z + 1) does, on |z| <= 1.1 it does not. The
    inverse of (relu(z), relu(-z)) stretches 1 and -1, 2 apart with images 2^(1/2) apart, by 2^(1/2), no pair by more."""
    both, one = np.array([[1.0], [-1]]), np.array([[1.0]])
    found = ci.injectivity(layer(both, np.zeros(2)))
    assert found.status == "injective" and abs(found.lower - 0.5**0.5) < 1e-12 and found.layers[0].upper == 1.0
    assert ci.injectivity(layer(one, np.zeros(1))).status == "not_injective"
    assert ci.injectivity(layer(one, np.ones(1)), 1.0).status == "injective"
    assert ci.injectivity(layer(one, np.ones(1)), 1.1).status == "not_injective"


def test_in_four_dimensions_seven_rows_never_do_and_opposite_pairs_do():
    """Injective on R^n takes 2 n rows (Puthawala et al.); rows of a basis and their opposites are enough."""
    for seed in range(5):
        W = np.random.default_rng(seed).standard_normal((7, 4))
        assert ci.injectivity(layer(W, np.zeros(7))).status == "not_injective"
        pairs = np.vstack([W[:4], -3 * W[:4]])
        assert ci.injectivity(layer(pairs, np.zeros(8))).status == "injective"
    wide = np.vstack([np.eye(30), -np.eye(30)])
    found = ci.injectivity(layer(wide, np.zeros(60)), nodes=50)
    assert found.status == "injective" and "of which always one is on" in str(found.layers[0])


def test_the_least_piece_is_found_and_no_pair_is_nearer_than_the_proved_factor_allows():
    for seed in (0, 1, 3, 4):
        rng = np.random.default_rng(seed)
        W, b = rng.standard_normal((12, 2)), 0.3 * rng.standard_normal(12)
        known = ci.injectivity(layer(W, b), 2.0).layers[0]
        x = rng.standard_normal((2, 200_000, 2))
        x *= 2 * np.sqrt(rng.uniform(size=(2, 200_000, 1))) / np.linalg.norm(x, axis=2, keepdims=True)
        pieces = np.unique(np.concatenate(x @ W.T + b > 0) @ (1 << np.arange(12)))
        least = min(np.linalg.svd(W[(piece >> np.arange(12)) % 2 == 1])[1][-1] for piece in pieces)
        assert known.status == "injective" and known.upper == pytest.approx(least, rel=1e-9)
        assert known.lower == pytest.approx(known.upper / 2**0.5)
        x[1, ::2] = x[0, ::2] + 1e-3 * (x[1, ::2] - x[0, ::2])
        F = np.maximum(x @ W.T + b, 0)
        ratio = np.linalg.norm(F[0] - F[1], axis=1) / np.linalg.norm(x[0] - x[1], axis=1)
        assert 0 < known.lower <= ratio.min() * (1 + 1e-9)


def test_nets_are_as_injective_as_their_layers():
    for seed in range(3):
        G = random_net(seed, (2, 20, 24))
        found = ci.injectivity(G, 2.0)
        assert found.status == "injective" and found.layer == -1 and found.lower > 0
        z = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).double().clamp(-1.4, 1.4)
        far = (G(z[:200]) - G(z[200:])).norm(dim=1) / (z[:200] - z[200:]).norm(dim=1)
        assert float(far.min()) >= found.lower
        narrow = random_net(seed, (6, 8, 30))
        found = ci.injectivity(narrow)
        assert found.status == "not_injective" and found.layer == 0 and "layers[0] decides" in found.explain()
        assert float(misfits(narrow, found.points[:1], found.points[1:])) < 1e-10
        waist = random_net(seed, (2, 20, 3, 30))
        found = ci.injectivity(waist, 2.0)
        assert found.status == "not_injective" and found.layer == 1
        assert float(misfits(waist, found.points[:1], found.points[1:])) < 1e-10


def test_bad_numbers_are_refused():
    G = layer(np.eye(2), np.zeros(2))
    with pytest.raises(ValueError, match="radius > 0, got -1"):
        ci.injectivity(G, -1)
    with pytest.raises(TypeError, match="nodes as an integer"):
        ci.injectivity(G, nodes=1.5)
