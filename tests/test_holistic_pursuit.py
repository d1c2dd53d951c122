"""Zeros between: model, oracle, pursuits and uniqueness against CVXPY, answers by hand, draws and brute force."""

from itertools import combinations, pairwise, product
from pathlib import Path

import cvxpy as cp
import gallery
import numpy as np
import pytest
import sympy
import torch

import cvxinv as ci
from cvxinv.sparse_models import holistic_pursuit as pursuits

F64 = torch.float64
TIGHT = {"solver": "CLARABEL", "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(sizes, seed=0, dtype=F64):
    """As published: entries of variance 1/m_0 in D_1, 1/m_2 in D_2."""
    weights = [drawn(m, n, seed=seed + i) / min(m, n) ** 0.5 for i, (m, n) in enumerate(pairwise(sizes))]
    return ci.MultiLayerModel(tuple(ci.Dense(W.to(dtype)) for W in weights))


def noisy(model, N, sparsity, zeros, *, seed=0, size=30.0, sigma=0.1):
    source = torch.Generator().manual_seed(seed)
    clean = model.draw(N, sparsity, zeros, source=source, size=size)
    return clean, clean.x + sigma * torch.randn(clean.x.shape, generator=source, dtype=F64).to(clean.x.dtype)


def by_hand():
    """E = I in the plane, V h = (h_1 - h_2, h_1 + h_2)."""
    first, second = ([[0.5, 0.5], [-0.5, 0.5]], [[1.0, -1.0], [1.0, 1.0]])
    return ci.MultiLayerModel(tuple(ci.Dense(torch.tensor(W, dtype=F64)) for W in (first, second)))


# --- answers by hand ------------------------------------------------------------------------------


def test_pursuit_finds_the_answer_by_hand():
    """y = (3, 2), eps = 1. Without zeros h = y - (1, 1) / 2^(1/2), so h_1 - h_2 = 1 is nearer to 0 than h_1 + h_2.

    With h_1 = h_2 = a: 2 a least, (3 - a)^2 + (2 - a)^2 <= 1, that is 2 (a - 5/2)^2 <= 1/2: a = 2, g_1 = (0, 4).
    p_0 = (-2, 0) and 1 on the row h_1 - h_2 prove it: -p_0'y - |p_0| = 6 - 2 = 4 = |h|_1.
    """
    codes = ci.holistic_pursuit(by_hand(), torch.tensor([[3.0, 2.0]], dtype=F64), 1, 1.0)
    first = torch.tensor([3.0, 2.0], dtype=F64) - 0.5**0.5
    assert torch.allclose(codes.course[0, 0], first, atol=1e-9)
    assert torch.allclose(codes.h, torch.tensor([[2.0, 2.0]], dtype=F64), atol=1e-12)
    assert codes.representations[0].tolist()[0][0] == 0.0 and codes.picks.tolist() == [[0]]
    assert float(codes.certificate.bound) == pytest.approx(4, abs=1e-10) and list(codes.status) == ["optimal"]


def test_oracle_finds_the_answer_by_hand():
    """On h_1 = h_2 least squares of y = (3, 2) is the mean, 5/2, with variance sigma^2 / 2 in each of two entries."""
    model, both = by_hand(), torch.tensor([[True, True]])
    y = torch.tensor([[3.0, 2.0]], dtype=F64)
    known = ci.holistic_oracle(model, y, both, torch.tensor([[True, False]]), sigma=0.5)
    alone = ci.holistic_oracle(model, y, both, torch.tensor([[False, False]]), sigma=0.5)
    assert torch.allclose(known.h, torch.tensor([[2.5, 2.5]], dtype=F64)) and known.dimension.tolist() == [1]
    assert known.mean_square.tolist() == pytest.approx([0.25]) and alone.mean_square.tolist() == pytest.approx([0.5])
    assert float(known.representations[0][0, 0]) == 0.0


# --- model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "zeros"), [((20, 28, 24), 4), ((20, 28, 24, 18), (2, 3))])
def test_drawn_signals_are_of_the_model(sizes, zeros):
    model = gaussian(sizes)
    signals = model.draw(40, 9, zeros, source=torch.Generator().manual_seed(1), size=5.0)
    counts = (zeros,) if isinstance(zeros, int) else zeros
    assert (signals.support.sum(1) == 9).all() and (signals.h[~signals.support] == 0).all()
    for g, (a, b), count in zip(signals.representations[:-1], model.blocks, counts, strict=True):
        assert (signals.cosupport[:, a:b].sum(1) == count).all() and ((g == 0) == signals.cosupport[:, a:b]).all()
    g = signals.h
    for D, shown in zip(reversed(model.dictionaries), (*reversed(signals.representations[:-1]), signals.x), strict=True):
        g = D(g)
        assert torch.allclose(g, shown, atol=1e-12 * float(signals.h.abs().max()))
    assert torch.allclose(signals.x.norm(dim=1), torch.full((40,), 5.0, dtype=F64))


# --- pursuits against CVXPY -----------------------------------------------------------------------


def transcribed(E, y, eps, rows=None):
    """|h|_1 at the optimum of the equation."""
    h = cp.Variable(E.shape[1])
    constraints = [cp.norm(E @ h - y, 2) <= eps] + ([] if rows is None or not len(rows) else [rows @ h == 0])
    return cp.Problem(cp.Minimize(cp.norm(h, 1)), constraints).solve(**TIGHT)


@pytest.mark.parametrize(
    ("sizes", "zeros", "masked"),
    [((16, 28, 20), 4, False), ((24, 26, 20), 3, True), ((16, 22, 20, 18), (2, 2), False)],
    ids=["wide", "masked", "three"],
)
def test_every_synthesis_step_is_the_optimum_of_the_equation(sizes, zeros, masked):
    model = gaussian(sizes, seed=3)
    _, y = noisy(model, 2, 8, zeros, seed=4)
    seen = drawn(*y.shape, seed=5) > -1 if masked else torch.ones_like(y, dtype=torch.bool)
    codes = ci.holistic_pursuit(model, y, zeros, 0.5, seen=seen)
    V = model.V / model.V.norm(dim=1, keepdim=True)
    assert codes.holds.all() and codes.course.shape[1] == codes.picks.shape[1] + 1
    for i, k in product(range(2), range(codes.course.shape[1])):
        C, on, h = codes.picks[i, :k].tolist(), seen[i].numpy(), codes.course[i, k]
        best = transcribed(model.E.numpy()[on], y[i].numpy()[on], 0.5, V[C].numpy())
        assert float(h.abs().sum()) == pytest.approx(best, rel=1e-7)
        assert float((V[C] @ h).abs().amax()) < 1e-9 * float(h.norm()) if C else k == 0
        if k < codes.picks.shape[1]:  # the next row is the nearest of those that may still be taken
            ends = dict(zip(model.blocks, model.read_zeros(zeros), strict=True))
            open_ = [
                j for (a, b), most in ends.items() if sum(a <= c < b for c in C) < most for j in range(a, b) if j not in C
            ]
            assert int(codes.picks[i, k]) == min(open_, key=lambda j: float((V[j] @ h).abs()))


def test_the_path_itself_reaches_the_optima(monkeypatch):
    """No step but the first asks a solver; without the path CLARABEL finds the same."""
    model, asked, plain = gaussian((20, 30, 20)), [], pursuits.solve
    _, y = noisy(model, 12, 8, 4, seed=2)

    def counting(problem, *args, **kwargs):
        asked.append(problem.N)
        return plain(problem, *args, **kwargs)

    monkeypatch.setattr(pursuits, "solve", counting)
    codes = ci.holistic_pursuit(model, y, 4, 3.0)
    assert sum(asked) <= 12 + 2  # a tie may send a signal to a solver
    lost = pursuits.with_zero
    monkeypatch.setattr(pursuits, "with_zero", lambda at, *rest: _forgotten(lost(at, *rest)))
    again = ci.holistic_pursuit(model, y[:3], 2, 3.0)
    assert torch.allclose(again.course, codes.course[:3, :3], atol=1e-5) and again.holds.all()


def _forgotten(at):
    at.known[:] = False
    return at


def test_parts_of_a_batch_give_what_the_batch_gives(monkeypatch):
    model = gaussian((20, 30, 20))
    _, y = noisy(model, 3, 8, 2)
    codes = ci.holistic_pursuit(model, y, 2, 3.0)
    monkeypatch.setattr(pursuits, "_NUMBERS", 1)
    again = ci.holistic_pursuit(model, y, 2, 3.0)
    assert torch.allclose(again.course, codes.course, atol=1e-9) and torch.equal(again.picks, codes.picks)
    assert again.certificate.holds.all() and len(again) == 3


def test_layered_pursuit_solves_each_layer():
    model, bounds = gaussian((12, 20, 16), seed=7), torch.tensor([4.0, 0.3], dtype=F64)
    _, y = noisy(model, 2, 6, 2, seed=8, size=8.0)
    codes = ci.layered_pursuit(model, y, (0.4, bounds), on_fail="ignore")
    D1, D2 = (D.matrix().numpy() for D in model.dictionaries)
    for i in range(2):
        g = codes.representations[0][i].numpy()
        assert np.abs(g).sum() == pytest.approx(transcribed(D1, y[i].numpy(), 0.4), rel=1e-6)
    # a tall D_2 does not reach every sparse g_1: a status, no number
    assert list(codes.status) == ["optimal", "infeasible"]
    assert float(codes.h[0].abs().sum()) == pytest.approx(
        transcribed(D2, codes.representations[0][0].numpy(), 4.0), rel=1e-6
    )


def test_what_cannot_be_explained_is_a_status():
    model = gaussian((20, 24, 8))  # signals in 8 dimensions of 20
    clean, y = noisy(model, 3, 6, 2, sigma=0.0)
    y = torch.cat([y, drawn(1, 20, seed=9)])
    with pytest.warns(ci.ConvergenceWarning, match="1 of 4"):
        codes = ci.holistic_pursuit(model, y, 2, 0.01)
    assert list(codes.status) == ["optimal"] * 3 + ["infeasible"] and (codes.picks[3] == -1).all()
    assert torch.isnan(codes.course[3]).all() and torch.isfinite(codes.course[:3]).all()
    with pytest.raises(ci.UnsolvedError, match="1 of 4"):
        ci.holistic_pursuit(model, y, 2, 0.01, on_fail="raise")
    assert torch.allclose(ci.holistic_pursuit(model, clean.x, 2, 0.0).h, clean.h, atol=1e-6)


def test_codes_of_float32_are_judged_as_they_were_found():
    model = gaussian((20, 30, 20), dtype=torch.float32)
    _, y = noisy(model, 3, 8, 3)
    codes = ci.holistic_pursuit(model, y, 3, 0.9)
    assert codes.holds.all() and {g.dtype for g in codes.representations} == {torch.float32}
    assert len(codes.take(slice(0, 2))) == 2 and "3 optimal" in repr(codes)


def test_zeros_bring_the_pursuit_nearer_on_the_published_setting():
    """50 - 100 - 50, s = 11, l = 10 at their 25 dB: holistic well below projection, and the oracle below both."""
    model = gaussian((50, 100, 50), seed=20)
    clean, y = noisy(model, 16, 11, 10, seed=21, size=10**2.5 * 50**0.5 * 0.1)

    def error(h):
        return float(((h - clean.h).norm(dim=1) / clean.h.norm(dim=1)).square().mean())

    holistic = ci.holistic_pursuit(model, y, 10, 50**0.5 * 0.1)
    projection = ci.projection_pursuit(model, y, 50**0.5 * 0.1)
    oracle = ci.holistic_oracle(model, y, clean.support, clean.cosupport)
    assert holistic.holds.all() and projection.holds.all()
    assert error(oracle.h) < 0.1 * error(holistic.h) and error(holistic.h) < 0.75 * error(projection.h)


def test_the_experiment_resumes_and_says_what_it_found(tmp_path, monkeypatch):
    script = gallery.load(Path(__file__).resolve().parents[1] / "problems" / "sparse" / "holistic_pursuit.py")
    kept = tmp_path / "kept.json"
    first = script.measure(6, [(25, 3)], [1], kept, 1)
    monkeypatch.setattr(script, "one_point", lambda *_: pytest.fail("a point that is kept was measured again"))
    assert script.measure(6, [(25, 3)], [1], kept, 1) == first
    (point,) = first["points"].values()
    assert point["optimal"]["holistic"] == 6 and point["errors"]["oracle"][0] < point["errors"]["projection"][0]
    assert len(first["courses"]["1"]["errors"]) == 2 and "2.11e-05" in script.table(first)
    script.draw(first | {"points": {"a": point, "b": point | {"snr": 15}}}, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000


# --- oracle ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 1, 5])
def test_the_oracle_errs_as_its_formula_says(zeros):
    """Over 600 draws the mean is within 30 % of the formula's; of d = 1 the relative spread of a square is 2^(1/2)."""
    model = gaussian((20, 40, 20), seed=11)
    clean, y = noisy(model, 600, 6, zeros, seed=12)
    oracle = ci.holistic_oracle(model, y, clean.support, clean.cosupport, sigma=0.1)
    met = (oracle.h - clean.h).square().sum(1)
    # each draw in its own units, as conditioning differs from support to support
    assert float((met / oracle.mean_square).mean()) == pytest.approx(1, abs=0.3)
    assert (oracle.dimension == 6 - zeros).all() and (oracle.status == "determined").all()
    assert (oracle.lower <= oracle.mean_square * (1 + 1e-9)).all() and (
        oracle.mean_square <= oracle.upper * (1 + 1e-9)
    ).all()


def test_the_oracle_says_where_nothing_determines():
    model = gaussian((4, 9, 8))
    clean, y = noisy(model, 2, 7, 1)
    oracle = ci.holistic_oracle(model, y, clean.support, clean.cosupport, sigma=0.1)
    assert (
        list(oracle.status) == ["undetermined"] * 2 and torch.isnan(oracle.h).all() and torch.isinf(oracle.mean_square).all()
    )


def test_masks_may_be_arrays_also_turned_around():
    model, y = gaussian((8, 10, 9)), drawn(1, 8, seed=0)
    S, Z, seen = torch.arange(9)[None] < 3, torch.arange(10)[None] < 2, torch.arange(8)[None] > 1
    support, cosupport, some = (mask.flip(1).numpy()[:, ::-1] for mask in (S, Z, seen))
    found = ci.holistic_oracle(model, y, support, cosupport, seen=some)
    assert torch.equal(found.h, ci.holistic_oracle(model, y, S, Z, seen=seen).h)
    stable = [ci.holistic_stability(model, 2, zeros, 0.1).numbers["sigma"].lower for zeros in (Z[0], cosupport[0])]
    assert stable[0] == stable[1] > 0


# --- uniqueness and stability ---------------------------------------------------------------------


def brute(E, V, s, cosupports):
    """Whether two h of one signal exist, from the null space of every pair of subspaces, by sympy."""
    n = E.shape[1]
    spaces = []
    for S, Z in product(combinations(range(n), s), cosupports):
        rows = [[int(j == k) for k in range(n)] for j in range(n) if j not in S] + [list(V.row(z)) for z in Z]
        basis = sympy.Matrix(rows).nullspace() if rows else [sympy.eye(n).col(k) for k in range(n)]
        if basis:
            spaces.append(sympy.Matrix.hstack(*basis))
    for k, B in enumerate(spaces):
        for C in spaces[k:]:
            both = sympy.Matrix.hstack(B, -C)
            # a difference of two, not 0, without a signal
            if (E * both).rank() < both.rank():
                return False
    return True


def whole(m, n, source):
    """A matrix of small whole numbers without columns or rows of zeros."""
    while True:
        W = torch.randint(-1, 2, (m, n), generator=source).to(F64)
        if bool((W != 0).any(0).all() & (W != 0).any(1).all()):
            return W


def small_instance(seed):
    source = torch.Generator().manual_seed(seed)
    m, m1, n = (int(torch.randint(a, b, (1,), generator=source)) for a, b in ((2, 5), (2, 4), (3, 5)))
    s = int(torch.randint(1, 3, (1,), generator=source))
    zeros = int(torch.randint(0, min(s, m1), (1,), generator=source)) if s > 1 else 0
    zeros = max(zeros, seed % 2) if s > 1 and m1 > 1 else zeros
    return ci.MultiLayerModel((ci.Dense(whole(m, m1, source)), ci.Dense(whole(m1, n, source)))), s, zeros


@pytest.mark.parametrize("part", range(4))
def test_uniqueness_agrees_with_brute_force(part):
    """200 instances of small whole numbers; both answers, with and without known zeros, occur in each part."""
    seen = set()
    for seed in range(50 * part, 50 * part + 50):
        model, s, zeros = small_instance(seed)
        E, V = (sympy.Matrix(M.long().tolist()) for M in (model.E, model.V))
        m1 = model.between[0]
        found = ci.holistic_uniqueness(model, s, zeros)
        assert found.status == ("unique" if brute(E, V, s, list(combinations(range(m1), zeros))) else "not_unique"), seed
        every = [found]
        if seed % 3 == 0:
            at = ci.holistic_uniqueness_at(model, s, torch.arange(m1) < zeros)
            assert at.status == ("unique" if brute(E, V, s, [tuple(range(zeros))]) else "not_unique"), seed
            every.append(at)
        for one in every:
            seen.add((one.status, zeros > 0))
            if one.witness is not None:
                h, other = (sympy.Matrix(w) for w in one.witness)
                assert h != other and E * h == E * other
                assert all(sum(x != 0 for x in g) <= s and sum(x == 0 for x in V * g) >= zeros for g in (h, other))
    assert {status for status, _ in seen} == {"unique", "not_unique"} and {z for _, z in seen} == {True, False}


def test_zeros_that_are_known_admit_more_entries():
    """E h = (h_1 - h_2, h_2 - h_3) is 0 for multiples of (1, 1, 1) alone; V h = (h_1, h_2, h_1 + h_2 + h_3).

    (1, 1, 0) and (0, 0, -1) have one signal, (0, 1): two entries are not unique. With h_1 + h_2 + h_3 = 0 known, the sum of
    a difference is 0 too, which of the multiples of (1, 1, 1) leaves 0: all entries are unique.
    """
    D1, D2 = ([[1.0, -1, 0], [1, 2, -1]], [[1.0, 0, 0], [0, 1, 0], [1, 1, 1]])
    model = ci.MultiLayerModel(tuple(ci.Dense(torch.tensor(D, dtype=F64)) for D in (D1, D2)))
    assert model.E.tolist() == [[1, -1, 0], [0, 1, -1]]
    none = ci.holistic_uniqueness_at(model, 2, torch.tensor([False, False, False]))
    last = ci.holistic_uniqueness_at(model, 2, torch.tensor([False, False, True]))
    assert (none.status, last.status) == ("not_unique", "unique")
    assert len({a - b for a, b in zip(*none.witness, strict=True)}) == 1


def test_what_is_too_much_to_go_through_is_undecided_or_proved_by_spark():
    model = gaussian((50, 100, 50))
    found = ci.holistic_uniqueness(model, 40, 3, time_limit=1.0)
    assert found.status == "unique" and "independent" in found.how  # 50 columns of a square E
    wide = ci.holistic_uniqueness(gaussian((10, 40, 30)), 8, 3, time_limit=0.5)
    assert wide.status == "undecided" and "too many" in wide.how and wide.witness is None


def test_stability_bounds_every_pair_and_is_attained():
    model, eps = gaussian((7, 10, 9), seed=5), 0.3
    mask = torch.arange(10) < 2
    exact = ci.holistic_stability(model, 2, mask, eps)
    sigma = exact.numbers["sigma"]
    assert sigma.exact and exact.status[0] == "holds" and float(exact.bounds["h"]) == pytest.approx(2 * eps / sigma.lower)
    # by definition: every support of four, its null space by numpy
    least = np.inf
    E, V = model.E.numpy(), model.V.numpy()[:2]
    for T in combinations(range(9), 4):
        K = np.linalg.svd(V[:, T])[2][2:].T
        least = min(least, np.linalg.svd(E[:, T] @ K, compute_uv=False)[-1])
    assert sigma.lower == pytest.approx(least, rel=1e-9)
    short = ci.holistic_stability(model, 2, mask, eps, time_limit=0.0).numbers["sigma"]
    assert short.lower <= least * (1 + 1e-9) and least <= short.upper * (1 + 1e-9)
    wide = gaussian((30, 60, 60), seed=6)
    large = ci.holistic_stability(wide, 2, torch.zeros(60, dtype=torch.bool), eps, time_limit=0.2)
    assert not large.numbers["sigma"].exact and large.numbers["sigma"].upper > 0


# --- what does not fit ----------------------------------------------------------------------------


def test_models_that_do_not_fit_are_refused():
    A, B = drawn(4, 6, seed=0), drawn(6, 5, seed=1)
    for maps, words in {
        (ci.Dense(A),): "two maps or more, got 1",
        (ci.Dense(A), ci.Dense(A)): "expected D_2 to give the 6 numbers",
        (ci.Dense(A * (torch.arange(6) != 2)), ci.Dense(B)): "zeros in column 2 of D_1",
        (ci.Dense(A), ci.Dense(B * (torch.arange(6) != 3)[:, None])): "zeros in row 3",
    }.items():
        with pytest.raises(ValueError, match=words):
            ci.MultiLayerModel(maps)
    with pytest.raises(ValueError, match="NaN or inf in D_1"):
        ci.MultiLayerModel((ci.Dense(A / 0), ci.Dense(B)))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"y": drawn(2, 5, seed=0)}, ValueError, r"y of shape \(N, 8\), got \(2, 5\)"),
        ({"y": drawn(2, 8, seed=0) / 0}, ValueError, "finite y"),
        ({"y": [[1.0] * 8]}, TypeError, "expected y as"),
        ({"zeros": (1, 1)}, ValueError, "zeros for each of 1"),
        ({"zeros": 11}, ValueError, "l_1 from 0 to 10, got 11"),
        ({"zeros": 1.5}, TypeError, "whole number"),
        ({"eps": -0.1}, ValueError, "eps as a finite number >= 0 or 2 of them, got -0.1"),
        ({"eps": torch.ones(3)}, ValueError, "eps as a finite number >= 0 or 2 of them, got a tensor"),
        ({"seen": torch.ones(2, 8)}, ValueError, "seen as a bool mask"),
        ({"seen": torch.zeros(2, 8, dtype=torch.bool)}, ValueError, "got none of signal 0"),
        ({"on_fail": "shout"}, ValueError, "unknown on_fail"),
    ],
)
def test_pursuits_refuse_what_does_not_fit(change, kind, words):
    given = {"y": drawn(2, 8, seed=0), "zeros": 1, "eps": 0.1} | change
    with pytest.raises(kind, match=words):
        ci.holistic_pursuit(gaussian((8, 10, 9)), **given)


def test_oracle_draws_and_guarantees_refuse_what_does_not_fit():
    model, y = gaussian((8, 10, 9)), drawn(1, 8, seed=0)
    S, Z = torch.arange(9)[None] < 3, torch.arange(10)[None] < 2
    for call, kind, words in [
        (lambda: ci.holistic_oracle(model, y, S & ~S, Z), ValueError, "none of signal 0"),
        (lambda: ci.holistic_oracle(model, y, S, ~Z), ValueError, "that some h other than 0 has"),
        (lambda: ci.holistic_oracle(model, y, S[:, :4], Z), ValueError, r"support as a bool mask of shape \(1, 9\)"),
        (lambda: ci.holistic_oracle(model, y, S, Z.double()), ValueError, "cosupport as a bool mask"),
        (lambda: ci.holistic_oracle(model, y, S, Z, sigma=-1.0), ValueError, "sigma as a finite number >= 0"),
        (lambda: ci.holistic_oracle("model", y, S, Z), TypeError, "MultiLayerModel"),
        (lambda: model.draw(2, 3, 3, source=torch.Generator()), ValueError, "only 0 has them"),
        (lambda: model.draw(0, 3, 1, source=torch.Generator()), ValueError, "positive number of signals"),
        (lambda: model.draw(1, 3, 1, source=torch.Generator(), size=-1.0), ValueError, "length > 0"),
        (lambda: ci.layered_pursuit(model, y, (0.1,)), ValueError, "eps for each of 2 layers"),
        (lambda: ci.layered_pursuit(model, y, (0.1, -1.0)), ValueError, "eps_2 as a finite number >= 0"),
        (lambda: ci.holistic_uniqueness(model, 0, 1), ValueError, "at least 1"),
        (lambda: ci.holistic_uniqueness(model, 10, 1), ValueError, "sparsity from 0 to 9, got 10"),
        (lambda: ci.holistic_uniqueness_at(model, 2, Z), ValueError, r"bool mask of shape \(10,\)"),
        (lambda: ci.holistic_stability(model, 2, Z[0], -1.0), ValueError, "eps as a finite number >= 0"),
    ]:
        with pytest.raises(kind, match=words):
            call()
