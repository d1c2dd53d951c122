"""Injectivity of ReLU layers against exhaustive search, and of nets; stability of the inverse against pairs of points."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from test_preimages import chain, misfits, random_net

import cvxinv as ci
from cvxinv.guarantees.rational import rank as exact_rank


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
        pairs = np.vstack([W[:4], -4 * W[:4]])
        assert ci.injectivity(layer(pairs, np.zeros(8))).status == "injective"
    wide = np.vstack([np.eye(30), -np.eye(30)])
    found = ci.injectivity(layer(wide, np.zeros(60)), nodes=50)
    assert found.status == "injective" and "of which always one is on" in str(found.layers[0])


def test_rows_that_are_opposite_but_for_rounding_are_undecided():
    """fl(-3 w) is not on the line of w: both are below 0 on a cone of some 1e-16, where three rows are on in R^4. No two
    floats of it can be told apart from others."""
    W = np.random.default_rng(0).standard_normal((4, 4))
    found = ci.injectivity(layer(np.vstack([W, -3 * W]), np.zeros(8)))
    assert found.status == "undecided" and "too thin to be shown" in str(found.layers[0])
    assert ci.injectivity(layer(np.vstack([W, -3 * W]), np.zeros(8)), nodes=0).status == "undecided"


# --- over the rationals -----------------------------------------------------------------------------


def below_somewhere(rows: list[list[Fraction]]) -> bool:
    """Whether some x has a'x + c < 0 for all rows (a, c): Fourier and Motzkin, one coordinate after the other."""
    for _ in range(len(rows[0]) - 1):
        over, under = [r for r in rows if r[0] > 0], [r for r in rows if r[0] < 0]
        pairs = [[a / r[0] - b / q[0] for a, b in zip(r[1:], q[1:], strict=True)] for r in over for q in under]
        rows = [r[1:] for r in rows if r[0] == 0] + pairs
        if not rows:
            return True
    return all(r[0] < 0 for r in rows)


def solved(K: list[list[Fraction]], right: list[Fraction]) -> list[Fraction] | None:
    A = [[*row, value] for row, value in zip(K, right, strict=True)]
    for j in range(len(A)):
        i = next((i for i in range(j, len(A)) if A[i][j]), None)
        if i is None:
            return None
        A[j], A[i] = A[i], A[j]
        A[j] = [a / A[j][j] for a in A[j]]
        A = [row if i == j else [a - row[j] * b for a, b in zip(row, A[j], strict=True)] for i, row in enumerate(A)]
    return [row[-1] for row in A]


def least_square(rows: list[list[Fraction]]) -> Fraction:
    """The least |x|^2 where a'x + c <= 0 for all rows (a, c): among the points nearest to 0 of all faces."""
    n, found = len(rows[0]) - 1, []
    for some in (some for k in range(n + 1) for some in combinations(rows, k)):
        gram = [[sum(a * b for a, b in zip(r[:n], q[:n], strict=True)) for q in some] for r in some]
        p = solved(gram, [r[n] for r in some])
        if p is not None:
            x = [-sum((value * r[j] for value, r in zip(p, some, strict=True)), Fraction(0)) for j in range(n)]
            if all(sum(a * v for a, v in zip(r, [*x, 1], strict=True)) <= 0 for r in rows):
                found.append(sum(v * v for v in x))
    return min(found)


def injective_over_the_rationals(W: np.ndarray, b: np.ndarray, radius: float | None) -> bool:
    """All sets of rows without which the others do not span: can they be below 0 at once? Nothing is rounded."""
    m, n = W.shape
    rows = [[Fraction(a) for a in (*w, c)] for w, c in zip(W, b, strict=True)]
    for off in (off for k in range(m + 1) for off in combinations(range(m), k)):
        rest = [i for i in range(m) if i not in off]
        if rest and exact_rank(torch.from_numpy(W[rest])) == n:
            continue
        its = [rows[i] for i in off]
        if not its or (below_somewhere(its) and (radius is None or least_square(its) < Fraction(radius) ** 2)):
            return False
    return True


def uneven(seed: int) -> tuple[np.ndarray, np.ndarray, float | None]:
    """A layer with rows that are opposite, or the same, but for 1e-17 to 1, of lengths and biases of 1e-9 to 1e9."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    basis = np.eye(n) if rng.uniform() < 0.6 else rng.standard_normal((n, n))
    turned = 10.0 ** rng.uniform(-17, 0, (n, 1)) * (rng.uniform(size=(n, 1)) < 0.7) * rng.standard_normal((n, n))
    W = np.vstack([basis, turned - basis * 2.0 ** rng.integers(-3, 3, (n, 1)), rng.standard_normal((1, n))])
    if rng.uniform() < 0.3:
        W = np.vstack([W[:-1], W[:1] + 1e-12 * rng.standard_normal(n)])
    W = W * 10.0 ** (rng.uniform(-9, 9, (len(W), 1)) * (rng.uniform() < 0.5))
    sizes = 10.0 ** rng.uniform(-9, 9, len(W)) * (np.linalg.norm(W, axis=1) if rng.uniform() < 0.5 else 1)
    b = rng.choice([-1.0, 0, 1], len(W)) * sizes if rng.uniform() < 0.6 else rng.integers(-1, 3, len(W)).astype(float)
    b = b * (rng.uniform() < 0.7)
    radius = float(10.0 ** rng.uniform(-9, 9)) if rng.uniform() < 0.6 else float(rng.integers(1, 4))
    return W, np.abs(b) if rng.uniform() < 0.3 else b, None if rng.uniform() < 0.5 else radius


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_no_layer_of_uneven_rows_is_said_to_be_what_it_is_not(first: int):
    """Whatever the lengths and angles: what is decided is so over the rationals, and most is."""
    told = {"injective": 0, "not_injective": 0, "undecided": 0}
    for seed in range(first, first + 100):
        W, b, radius = uneven(seed)
        found = ci.injectivity(layer(W, b), radius, samples=0)
        expected = "injective" if injective_over_the_rationals(W, b, radius) else "not_injective"
        assert found.status in (expected, "undecided"), (seed, W.tolist(), b.tolist(), radius, found)
        told[found.status] += 1
    assert min(told["injective"], told["not_injective"]) > 10 and told["undecided"] < 40


def narrow(e: float) -> np.ndarray:
    """(1, 0) and (-1, e) are both below 0 on a cone of angle e about (0, -1), where only (0, -1) is on of the others."""
    return np.array([[1.0, 0.0], [-1.0, e], [0.0, 1.0], [0.0, -1.0]])


@pytest.mark.parametrize("e", (1e-2, 1e-4, 1e-6, 3e-8))
def test_a_narrow_cone_on_which_one_row_is_on_is_found(e: float):
    """Both x and x' = x + (t, 0) lie in the cone, and give (0, 0, 0, -x_2) each. With bias 1 the cone begins at
    (-1, -2 / e), as x_1 < -1 and e x_2 < x_1 - 1: the ball of 1.5 / e does not reach it."""
    x = torch.tensor([[-e / 4, -1.0], [-e / 2, -1.0]], dtype=torch.float64)
    for b, radius in ((0.0, None), (0.0, 5.0), (1.0, None), (1.0, 3 / e)):
        found, G = ci.injectivity(layer(narrow(e), np.full(4, b)), radius), layer(narrow(e), np.full(4, b))
        assert found.status == "not_injective" and found.points is not None and found.layers[0].upper == 0
        assert float((G(found.points[0]) - G(found.points[1])).norm()) <= 1e-10 * float(G(found.points).norm())
        if not b:
            assert torch.equal(G(x[0]), G(x[1]))
    near = ci.injectivity(layer(narrow(e), np.ones(4)), 1.5 / e)
    assert near.status == "injective" and near.lower <= np.linalg.svd(narrow(e)[[0, 3]])[1][-1]


def test_a_layer_is_decided_where_its_biases_or_the_radius_are_large():
    """x_1 - 3 and 2 - x_1 are both below 0 between 2 and 3, as is seen on any ball that reaches there."""
    W = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    for b, radius in (([-3.0, 2, 1e9, 1e9], None), ([-3.0, 2, 1, 1], 1e9), ([-3.0, 2, 1, 1], 2.5)):
        assert ci.injectivity(layer(W, np.array(b)), radius).status == "not_injective"
    assert ci.injectivity(layer(W, np.array([-3.0, 2, 1, 1])), 2.0).status == "injective"  # open at 2


def test_lower_is_no_more_than_what_a_pair_meets():
    """Where only rows of (-1e-6, 1e-6) and (0, 3e-5) are on, outputs of points along e1 are 1e-6 times as far apart."""
    W = np.array([[0.0, 3e-5], [-1e-6, 1e-6], [0.0, -2e4], [300.0, 300.0], [1e4, -1e4], [-0.03, 0.01]])
    G = layer(W, np.array([20.0, 100, 1, -20, 0, 0]))
    x = torch.tensor([[0.00090021, 0.00227991]], dtype=torch.float64)
    moved = float((G(x + torch.tensor([1e-5, 0.0], dtype=torch.float64)) - G(x)).norm()) / 1e-5
    assert not ci.injectivity(G).lower > moved * (1 + 1e-9)


# --- stability, and nets ----------------------------------------------------------------------------


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
