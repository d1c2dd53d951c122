"""Spark and its kin against all sets, gone through by other arithmetic; what random layers do, against averages of draws."""

from fractions import Fraction
from itertools import combinations, pairwise
from math import inf, pi

import numpy as np
import pytest
import torch

import cvxinv as ci


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(number: int) -> torch.Tensor:
    """Small matrices, of a kind that goes round: Gaussian, of -1, 0, 1, of rank 1, with parallel columns, sparse."""
    source = draws(number)
    m, n = torch.randint(0, 6, (2,), generator=source).tolist()
    W = torch.randn(m, n, generator=source).double()
    kind = number % 5
    if kind == 1:
        W = torch.randint(-1, 2, (m, n), generator=source).double()
    if kind == 2:
        W = torch.randint(-2, 3, (m, 1), generator=source).double() @ torch.randint(-2, 3, (1, n), generator=source).double()
    if kind == 3 and n > 1:
        W[:, -1] = -4 * W[:, 0]
    if kind == 4:
        W = W * (torch.rand(m, n, generator=source) < 0.5)
    return W


def rank(W: torch.Tensor) -> int:
    """Gauss's elimination in fractions."""
    A = [[Fraction(float(a)) for a in row] for row in W]
    found = 0
    for j in range(W.shape[1]):
        row = next((i for i in range(found, len(A)) if A[i][j]), None)
        if row is None:
            continue
        A[found], A[row] = A[row], A[found]
        for i in range(found + 1, len(A)):
            f = A[i][j] / A[found][j]
            A[i] = [a - f * b for a, b in zip(A[i], A[found], strict=True)]
        found += 1
    return found


def spark(W: torch.Tensor) -> float:
    n = W.shape[1]
    sets = (T for k in range(1, n + 1) for T in combinations(range(n), k))
    return next((len(T) for T in sets if rank(W[:, list(T)]) < len(T)), inf)


def mutual(W: torch.Tensor) -> float:
    """The largest |cosine|, of numpy's numbers, one pair at a time; 1 beside a zero column."""
    found = 0.0
    for a, b in combinations(W.numpy().T, 2):
        size = np.linalg.norm(a) * np.linalg.norm(b)
        found = max(found, abs(a @ b) / size if size else 1.0)
    return found


def check_witness(W: torch.Tensor, found: ci.Bounds, s: int) -> None:
    """The null vector of an upper bound: exactly one, on s rows, with no entry 0."""
    witness = found.witness
    if found.upper == inf:
        assert witness is None
        return
    assert len(witness.columns) == found.upper and len(set(witness.rows)) == len(witness.rows) == s
    if witness.coefficients is None:
        assert found.upper == s + 1  # more columns than rows
        return
    assert all(witness.coefficients)
    for row in witness.rows:
        terms = zip(witness.columns, witness.coefficients, strict=True)
        assert sum(Fraction(float(W[row, j])) * x for j, x in terms) == 0


@pytest.mark.parametrize("part", range(4))
def test_exact_quantities_are_those_of_all_sets(part: int):
    for number in range(50 * part, 50 * part + 50):
        W = small(number)
        found = ci.spark(W)
        assert found.exact and found.lower == spark(W), (number, str(found))
        check_witness(W, found, len(W))
        for s in range(len(W) + 1):
            rows = [list(S) for S in combinations(range(len(W)), s)]
            found = ci.sub_spark(W, s)
            assert found.exact and found.lower == min(spark(W[S]) for S in rows), (number, s, str(found))
            check_witness(W, found, s)
            found = ci.sub_rank(W, s)
            assert found.exact and found.lower == min(rank(W[S]) for S in rows), (number, s, str(found))
            if found.witness:
                assert rank(W[list(found.witness.rows)]) == found.upper and len(found.witness.rows) == s
            found, expected = ci.sub_coherence(W, s), max(mutual(W[S]) for S in rows)
            assert found.exact and found.lower == pytest.approx(expected, abs=1e-9), (number, s, str(found))
            assert found.lower <= found.upper + 1e-12
        assert ci.coherence(W).upper == pytest.approx(mutual(W), abs=1e-12)


def test_dependence_up_to_a_tolerance_counts_what_rounding_hides():
    """Rank 3 by a product in float64 is full rank over the rationals; parallel columns beside a third of 1e-9 likewise."""
    source = draws(0)
    W = torch.randn(6, 3, generator=source, dtype=float) @ torch.randn(3, 7, generator=source, dtype=float)
    assert ci.spark(W, tol=1e-10).upper == 4 == ci.spark(W, tol=1e-10).lower < ci.spark(W).lower
    assert ci.sub_rank(W, 4, tol=1e-10).upper == 3 and ci.sub_rank(W, 4).lower == 4
    near = torch.randn(5, 4, generator=source).double()
    near[:, 3] = 100 * near[:, 0] + 1e-7 * near[:, 1]
    found = ci.spark(near, tol=1e-6)
    assert found.exact and found.upper == 2 and found.witness.columns == (0, 3) and found.witness.coefficients is None
    assert ci.spark(near).lower == inf and ci.spark(near, tol=1e-12).witness.columns == (0, 1, 3)


def test_bounds_beyond_enumeration_hold_and_say_how():
    """A dependent set of 5 columns is planted among 60 of 24 rows; no time is given to go through sets."""
    W = torch.randint(-8, 9, (24, 60), generator=draws(0)).double()
    W[:, 41] = W[:, 3] - W[:, 17] + 2 * W[:, 30] + W[:, 55]
    found = ci.spark(W, time_limit=0.0)
    assert 2 <= found.lower <= 5 <= found.upper and not found.exact and "coherence" in found.how[0]
    assert str(found).startswith(f"{int(found.lower)} <= spark <= ") and "(bounds: " in str(found)
    led = ci.spark(W, time_limit=20.0, until=4)  # the linear programs meet it
    assert led.upper == 5 and set(led.witness.columns) == {3, 17, 30, 41, 55}
    check_witness(W, led, 24)


def test_lower_bounds_of_coherence_and_null_space_never_exceed_the_spark():
    """Bases side by side: of the identity and a Hadamard matrix of 16 the spark is 2 * 16^(1/2) = 8, and mu = 1/4."""
    from cvxinv.guarantees.spark import null_space_share

    H = torch.ones(1, 1).double()
    for _ in range(4):
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    W = torch.cat([torch.eye(16).double(), H], 1)
    found = ci.spark(W, time_limit=6.0, until=5)
    assert 5 <= found.lower <= 8 <= found.upper
    shares = [null_space_share(W, j) for j in range(32)]
    for a, x in shares:  # its own null vector shows that the share cannot be less, but for the solver's tolerance
        assert np.abs(W.numpy() @ x).max() < 1e-7 and 1 / np.abs(x).sum() <= a * (1 + 1e-7)
    assert np.cumsum(sorted((a for a, _ in shares), reverse=True))[7] >= 1


def test_a_search_tells_its_steps_and_keeps_what_it_proved(capfd: pytest.CaptureFixture[str]):
    W = torch.randn(8, 14, generator=draws(5)).double()
    found = ci.spark(W, progress=True)
    assert "sets of 8 columns" in capfd.readouterr().err and found.exact and found.lower == 9
    part = ci.spark(W, until=3.0)
    assert (part.lower, part.upper) == (4, 9) and part.how[0].startswith("no 3 columns depend")


@pytest.mark.parametrize("s", [1, 5, 20, 39, 40])
def test_coherence_of_rows_is_no_less_than_any_that_is_met(s: int):
    W = torch.randn(40, 12, generator=draws(s)).double()
    found = ci.sub_coherence(W, s)
    i, j = found.witness.columns
    rows = list(found.witness.rows)
    assert found.exact and len(rows) == s and mutual(W[rows][:, [i, j]]) == pytest.approx(found.lower, abs=1e-12)
    source = draws(0)
    met = max(mutual(W[torch.randperm(40, generator=source)[:s]]) for _ in range(50))
    assert met <= found.upper + 1e-12
    assert ci.sub_coherence(W, s, time_limit=0.0).upper >= found.lower
    if s < 40:  # fewer rows are no less coherent
        assert ci.sub_coherence(W, s + 1).upper <= found.upper + 1e-12


def test_sub_rank_is_proved_by_as_many_rows_as_columns_where_more_are_too_many_sets(capfd: pytest.CaptureFixture[str]):
    """24 choose 12 sets of rows, and 24 choose 4 below whose rank more rows cannot fall."""
    W = torch.randn(24, 4, generator=draws(3)).double()
    found = ci.sub_rank(W, 12, progress=True)
    assert found.exact and found.lower == 4 and "any 4 rows, all seen" in found.how[0]
    assert "sets of 4 rows" in capfd.readouterr().err
    W[4:14] = torch.randn(10, 2, generator=draws(4)).double() @ torch.randn(2, 4, generator=draws(5)).double()
    found = ci.sub_rank(W, 12, time_limit=0.5)
    assert found.lower <= 4 <= found.upper  # with two others they have rank 4
    low = ci.sub_rank(W[4:14], 6)
    assert low.exact and low.upper == 2


@pytest.mark.parametrize("function", [ci.spark, ci.coherence, lambda W: ci.sub_rank(W, 1), ci.weight_distribution])
def test_what_is_no_matrix_is_refused(function):
    with pytest.raises(ValueError, match=r"expected W as a matrix \(m, n\)"):
        function(torch.ones(3))
    with pytest.raises(ValueError, match="got 1 NaN or infinite"):
        function(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(TypeError, match="expected W as a torch tensor or numpy array"):
        function([[1.0]])


def test_what_is_no_number_of_rows_is_refused():
    W = torch.ones(3, 2)
    with pytest.raises(ValueError, match="expected s from 0 to 3, the rows of W, got 4"):
        ci.sub_spark(W, 4)
    with pytest.raises(TypeError, match="whole number of rows"):
        ci.sub_rank(W, 1.5)
    with pytest.raises(ValueError, match=r"expected tol in \[0, 1\)"):
        ci.spark(W, tol=1.0)
    with pytest.raises(ValueError, match="time_limit in seconds"):
        ci.spark(W, time_limit=-1.0)


# --- random layers --------------------------------------------------------------------------------


def test_rho_d_is_that_of_the_table():
    table = {2: 0.3183, 3: 0.4937, 4: 0.6048, 5: 0.6810, 8: 0.8091, 16: 0.9230, 32: 0.9734, 64: 0.9918}
    assert {d: round(ci.rho_d(d), 4) for d in table} == table and ci.rho_d(2) == pytest.approx(1 / pi)


def test_expected_gram_is_the_mean_of_draws():
    """By sampling, of near, right-angled and opposite directions; at x = y it is I/2."""
    x = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 2, 0]]).double()
    y = torch.tensor([[1.0, 0.2, 0], [0, 0, 3], [-1, 0, 0], [0, 1, 0]]).double()
    Q = ci.expected_gram(x, y)
    w = torch.randn(400_000, 3, generator=draws(0)).double()
    for a, b, expected in zip(x, y, Q, strict=True):
        on = ((w @ a > 0) & (w @ b > 0)).double()[:, None]
        assert ((w * on).T @ w / len(w) - expected).abs().max() < 0.006  # 4 deviations of entries at most
    assert torch.allclose(Q[3], torch.eye(3).double() / 2, atol=1e-15) and Q[2].abs().max() < 1e-15


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_expected_gradient_is_the_mean_of_draws_and_0_where_it_should_be(depth: int):
    source = draws(depth)
    x, x0 = torch.randn(2, 4, generator=source).double()
    total = torch.zeros(4).double()
    count = 200
    for _ in range(count):
        widths = [4] + [300] * depth
        layers = [torch.randn(b, a, generator=source).double() / b**0.5 for a, b in pairwise(widths)]
        (A, B) = (jacobian(layers, point) for point in (x, x0))
        total += A.T @ (A @ x - B @ x0)
    h = ci.expected_gradient(x[None], x0[None], depth)[0]
    assert (total / count - h).norm() <= 0.1 * h.norm()
    assert ci.expected_gradient(x0[None], x0[None], depth).abs().max() < 1e-15
    if depth > 1:
        assert ci.expected_gradient(-ci.rho_d(depth) * x0[None], x0[None], depth).abs().max() < 1e-12


def jacobian(layers: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    J = torch.eye(len(x)).double()
    for W in layers:
        u = W @ x
        J, x = (u > 0).double()[:, None] * (W @ J), u.clamp(min=0)
    return J


def test_the_constant_of_the_weight_distribution_falls_with_the_rows():
    """Worked by hand: W = (1; -1)/2^(1/2) has Gram 1/2 on each side, which is Q: the constant is 0."""
    assert ci.weight_distribution(torch.tensor([[1.0], [-1.0]]).double() / 2**0.5).lower < 1e-12
    found = [
        ci.weight_distribution(torch.randn(m, 4, generator=draws(m)).double() / m**0.5, samples=400) for m in (100, 3000)
    ]
    assert found[1].lower < found[0].lower / 2 and all(not one.exact and one.upper >= 0.5 for one in found)
    zero = ci.weight_distribution(torch.zeros(3, 2))
    assert zero.lower == pytest.approx(0.5) == zero.upper and zero.exact


def test_directions_that_are_none_are_refused():
    x = torch.ones(2, 3).double()
    with pytest.raises(ValueError, match="expected directions, got x or y with rows of 0"):
        ci.expected_gram(x, 0 * x)
    with pytest.raises(ValueError, match="expected directions, got x or x0 with rows of 0"):
        ci.expected_gradient(0 * x, x, 2)
    with pytest.raises(ValueError, match="expected depth as a number of layers"):
        ci.rho_d(0)
    with pytest.raises(ValueError, match="expected samples as a whole number"):
        ci.weight_distribution(x, samples=0)
