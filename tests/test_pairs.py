"""Off rows of one direction: equalities written as two rows, scaled, nearly opposite, doubled and contradictory ones."""

import cases
import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.layers.core.problem import AbstractLayerProblem
from cvxinv.solvers.pairs import pairs_of

N, K, FIT = 4, 5, 30  # signals, equalities, rows that fit

KINDS = {
    "opposite": lambda A, draw: [A, -A],
    "scaled": lambda A, draw: [A, -2 * A],
    "rounded": lambda A, draw: [A, -(3.1 * A).float().double()],
    "nearly opposite": lambda A, draw: [A, -A + 1e-9 * cases.normal(*A.shape, draw=draw)],
    "doubled": lambda A, draw: [A, -A, 2 * A, -A],
}


def layer(kind: str, n: int, seed: int, nonnegative: bool, others: int = 0) -> tuple[ci.Rows, Tensor]:
    """Rows that an h meets: K equalities as rows of a kind, others <= 0 some of which bind. And the length of the noise."""
    draw = cases.seeded(seed)
    E, A, X = (cases.normal(m, n, draw=draw) / n**0.5 for m in (FIT, K, max(others, 1)))
    h = cases.normal(N, n, draw=draw)
    h = (h.abs() if nonnegative else h) * (torch.rand(N, n, generator=draw) < 0.6)
    blocks = KINDS[kind](A, draw)
    room = torch.rand(N, others, generator=draw, dtype=torch.float64) * (torch.rand(N, others, generator=draw) < 0.5)
    W = torch.cat([E, *blocks, X[:others]])
    b = torch.cat([h.new_zeros(N, FIT), *(-h @ B.T for B in blocks), -h @ X[:others].T - room], 1)
    noise = 0.1 * cases.normal(N, FIT, draw=draw)
    on = torch.zeros(N, len(W), dtype=torch.bool)
    on[:, :FIT] = True
    y = torch.zeros_like(b)
    y[:, :FIT] = h @ E.T + noise
    return ci.Rows(ci.Dense(W), b, y, on), noise.norm(dim=1)


def problems(rows: ci.Rows, noise: Tensor, nonnegative: bool) -> list[AbstractLayerProblem]:
    eps = (1.2 * noise).to(rows.y)
    if nonnegative:
        return [ci.NonnegativeLasso(rows, 0.1), ci.NonnegativeLasso(rows, 0.0), ci.NonnegativeBasisPursuitL2(rows, eps)]
    return [ci.GaussianLatent(rows, 0.0), ci.GaussianLatent(rows, 0.1), ci.BasisPursuitL2(rows, eps)]


def cases_of(kinds, n: int, seeds: int):
    return [
        pytest.param(problem, id=f"{type(problem).__name__}-{kind}-{number}")
        for kind in kinds
        for seed in range(seeds)
        for nonnegative in (True, False)
        for number, problem in enumerate(problems(*layer(kind, n, seed, nonnegative, 8 * (seed % 2)), nonnegative))
    ]


@pytest.mark.parametrize("problem", cases_of(KINDS, 16, 2))
def test_auto_solves_what_has_pairs(problem):
    found = ci.solve(problem, on_fail="ignore")
    assert found.certificate.holds.all(), (found, found.explain())


@pytest.mark.parametrize("problem", cases_of(("opposite", "scaled", "doubled"), 16, 1))
def test_auto_agrees_with_clarabel_on_pairs(problem):
    found, reference = ci.solve(problem), ci.solve(problem, "CLARABEL")
    torch.testing.assert_close(found.certificate.objective, reference.certificate.objective, rtol=1e-6, atol=1e-9)
    assert found.certificate.violation.max() < 1e-9  # exact points: both rows of each pair are at their bound


@pytest.mark.parametrize("problem", cases_of(("opposite", "scaled", "rounded"), 16, 1))
def test_auto_solves_pairs_in_float32(problem):
    assert ci.solve(problem.to(torch.float32), on_fail="ignore").certificate.holds.all()


@pytest.mark.parametrize("problem", cases_of(("opposite", "scaled"), 48, 1))
def test_auto_solves_pairs_where_rows_are_few(problem):
    assert ci.solve(problem, on_fail="ignore").certificate.holds.all()


@pytest.mark.parametrize("nonnegative", [True, False])
def test_pairs_of_one_signal_do_not_disturb_the_others(nonnegative: bool):
    """Masks differ: signal 0 has both rows of each pair, 1 the upper, 2 the lower, 3 none. All as if they were alone."""
    rows, noise = layer("opposite", 16, 3, nonnegative, 6)
    off = rows.off.clone()
    off[1, FIT + K : FIT + 2 * K] = off[2, FIT : FIT + K] = off[3, FIT : FIT + 2 * K] = False
    for problem in problems(ci.Rows(rows.W, rows.b, rows.y, rows.on, off), noise, nonnegative):
        found = ci.solve(problem)
        assert found.certificate.holds.all()
        for i in range(N):
            alone = ci.solve(problem.take(torch.tensor([i])))
            torch.testing.assert_close(found.h[[i]], alone.h, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("gap", [1e-3, 0.1])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_pairs_that_contradict_each_other_are_infeasible(nonnegative: bool, gap: float):
    """a'h <= -b and a'h >= -b + gap, in one pair of signals 0 and 2 only."""
    rows, noise = layer("opposite", 16, 4, nonnegative)
    b = rows.b.clone()
    b[[0, 2], FIT + K] += gap * float(rows.scale().max())
    for problem in problems(ci.Rows(rows.W, b, rows.y, rows.on), noise, nonnegative):
        found = ci.solve(problem, on_fail="ignore")
        assert list(found.status) == ["infeasible", "optimal", "infeasible", "optimal"], (found, found.explain())


@pytest.mark.parametrize("gap", [1e-3, 1e-7, 1e-10, 1e-14])
def test_pairs_with_room_between_them_are_solved(gap: float):
    """a'h <= -b and a'h >= -b - gap: two rows of which one binds at most, down to where both do up to rounding."""
    rows, noise = layer("opposite", 16, 5, False)
    b = rows.b.clone()
    b[:, FIT + K : FIT + 2 * K] -= gap
    for problem in problems(ci.Rows(rows.W, b, rows.y, rows.on), noise, False):
        assert ci.solve(problem, on_fail="ignore").certificate.holds.all()


def test_holistic_steps_are_solved_without_their_path():
    """The synthesis step of the published setting with ten zeros, posed as it is there: V_C h <= 0 and -V_C h <= 0."""
    source = cases.seeded(0)
    D1, D2 = (cases.normal(m, n, draw=source) / 50**0.5 for m, n in ((50, 100), (100, 50)))
    model = ci.MultiLayerModel((ci.Dense(D1), ci.Dense(D2)))
    signals = model.draw(12, 11, 10, source=source, size=10**2.5 * 50**0.5 * 0.1)
    y, none = signals.x + 0.1 * cases.normal(12, 50, draw=source), torch.zeros_like(signals.cosupport)
    W = ci.Dense(torch.cat([model.E, model.unit_rows, -model.unit_rows]))
    on = torch.cat([torch.ones_like(y, dtype=torch.bool), none, none], 1)
    off = torch.cat([torch.zeros_like(y, dtype=torch.bool), signals.cosupport, signals.cosupport], 1)
    rows = ci.Rows(W, y.new_zeros(250), torch.cat([y, y.new_zeros(12, 200)], 1), on, off)
    found = ci.solve(ci.BasisPursuitL2(rows, 0.1 * 50**0.5), on_fail="ignore")
    assert found.certificate.holds.all() and set(found.solver) == {"root_finding"}


# --- which rows are found ---


def rows_of(W: list[list[float]], b: list[list[float]], off: list[list[bool]] | None = None) -> ci.Rows:
    W, b = torch.tensor(W, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    on = torch.zeros(b.shape, dtype=torch.bool)
    return ci.Rows(ci.Dense(W), b, torch.zeros_like(b), on, torch.tensor(off) if off else None)


def test_an_equality_is_one_row_with_a_multiplier_of_any_sign():
    """a = (3, 4), rows a and -2a, which is twice as long: q = -1 on a is p = 1/2 on -2a, for (-1) a = (1/2) (-2a)."""
    rows = rows_of([[3, 4], [1, 0], [-6, -8]], [[1.0, 0, -2]])
    pairs = pairs_of(rows)
    assert (
        pairs is not None
        and pairs.equal.tolist() == [[True, False, False]]
        and pairs.gone.tolist() == [[False, False, True]]
    )
    q = torch.tensor([[-1.0, 7.0, 0.0]], dtype=torch.float64)
    p = pairs.apart(q)
    assert p.tolist() == [[0.0, 7.0, 0.5]]
    torch.testing.assert_close(rows.W.adjoint(p), rows.W.adjoint(q))
    torch.testing.assert_close(pairs.together(p), q)
    assert pairs.apart(q.abs()).tolist() == q.abs().tolist()


def test_of_rows_with_one_sense_the_tightest_counts():
    """h_1 <= -1/1, -6/2 and -2/4: the second binds; signal 1 does not have it, and its first does."""
    rows = rows_of([[1, 0], [2, 0], [4, 0]], [[1.0, 6, 2], [1, 6, 2]], [[True, True, True], [True, False, True]])
    pairs = pairs_of(rows)
    assert pairs is not None and not pairs.equal.any()
    assert pairs.off.tolist() == [[False, True, False], [True, False, False]]


def test_rows_that_leave_room_or_contradict_each_other_stay_two():
    for b in ([[0.0, -1.0]], [[0.0, 1.0]], [[1.0, -1.0 - 1e-5]]):
        assert pairs_of(rows_of([[1, 2], [-1, -2]], b)) is None
    assert pairs_of(rows_of([[1, 2], [-1, -2.001]], [[0.0, 0.0]])) is None


def test_rows_of_zeros_are_no_pair():
    assert pairs_of(rows_of([[0, 0], [0, 0], [1, 0]], [[0.0, 0, 0]])) is None
