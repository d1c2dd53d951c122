"""Bounds of fits that hold for every h, where the on rows alone do not determine it."""

from typing import Any

import cases
import pytest
import torch

import cvxinv as ci
from cvxinv.layers.core.open_rows import distinct, everywhere

KINDS = [ci.LinfFit, ci.NonnegativeLinfFit, ci.L1Fit, ci.NonnegativeL1Fit, ci.RelaxedFit, ci.NonnegativeRelaxedFit]
SIGNED = [kind for kind in KINDS if not kind.nonnegative]
SIZES = {"duplicated": (30, 8), "dead": (30, 8), "few on rows": (30, 8), "both": (24, 5)}


def columns(what: str, W: torch.Tensor) -> torch.Tensor:
    """W with more columns, that make no W h that it does not make."""
    more = {"duplicated": [W[:, 1], -2 * W[:, 2], W[:, 0] / 4], "dead": [0 * W[:, 0]], "few on rows": []}
    more["both"] = [W[:, 3], 0 * W[:, 0]]
    return torch.stack([*W.T, *more[what]], 1)


def drawn(kind: Any, what: str, seed: int = 0) -> tuple[Any, Any]:
    """A fit of which the on rows leave h open, and one of the same values with all of its columns independent."""
    (m, n), draw = SIZES[what], cases.seeded(seed)
    W, b = cases.normal(m, n, draw=draw), -0.3 * cases.normal(m, draw=draw).abs()
    on = torch.rand(3, m, generator=draw) < (0.2 if what == "few on rows" else 0.6)
    on[:, : n if what != "few on rows" else 2] = True
    y = cases.normal(3, n, draw=draw) @ W.T + b + 0.3 * cases.normal(3, m, draw=draw)
    y = y.abs() if kind in (ci.RelaxedFit, ci.NonnegativeRelaxedFit) else y  # so that h = 0 is allowed
    weight = 0.5 + torch.rand(3, m, generator=draw, dtype=torch.float64)
    one, other = (kind(ci.Rows(ci.Dense(M), b, y * on, on, weight=weight)) for M in (columns(what, W), W))
    return one, other


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("kind", SIGNED)
def test_an_optimum_is_two_sided_though_the_on_rows_leave_h_open(kind: Any, what: str):
    problem, plain = drawn(kind, what)
    found, same = ci.solve(problem), ci.solve(plain)
    assert (found.status == "optimal").all() and found.certificate.two_sided.all(), found.certificate.remark
    torch.testing.assert_close(found.certificate.objective, same.certificate.objective, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("far", [1e-14, 1e-10, 1e-6, 1e-3, 0.1, 10.0])
def test_the_bound_is_true_for_every_p(kind: Any, what: str, far: float):
    problem, _ = drawn(kind, what, 1)
    best = ci.solve(problem, on_fail="ignore")
    least, draw, known = best.certificate.objective, cases.seeded(2), 0
    for _ in range(20):
        p = best.p * (1 + far * cases.normal(1, draw=draw)) + far * cases.normal(*best.p.shape, draw=draw)
        unmet = problem.unmet(p)
        bound = everywhere(problem, unmet)
        known += int(torch.isfinite(bound).sum())
        assert (bound <= least * (1 + 1e-12) + 1e-14 * problem.unit()).all()
    # h >= 0 leaves columns at 0, and fewer rows than columns with room
    assert known > 0 or problem.nonnegative or far > 1e-10


def test_columns_that_make_nothing_new_are_found():
    a, c = [1.0, 3.0, 0.0], [2.0, 6.0, 1.0]
    W = torch.tensor([a, [0.0] * 3, [-2 * x for x in a], c, [x / 8 for x in a], [3 * x for x in a]], dtype=torch.float64).T
    assert distinct(W, nonnegative=False).tolist() == [0, 3, 5]  # 3 is no power of two: its products are rounded
    assert distinct(W, nonnegative=True).tolist() == [0, 2, 3, 5]  # h >= 0 cannot turn a column
    tiny = torch.tensor([[1.0, 2.0**-1074], [2.0, 2.0**-1073]], dtype=torch.float64).T
    assert distinct(tiny, nonnegative=False).tolist() in ([0], [0, 1])


def test_a_bound_that_needs_more_room_than_p_has_is_none():
    """Rows h against 0 and 2, p = (0.9, t - 0.9): W'p lacks t, which takes t / 2^(1/2) of both; the first has 0.1 of room.

    D = 2 (0.9 - t), and what the second row's data, 2, may lose is 2 t / 2^(1/2).
    """
    y, on = torch.tensor([[0.0, 2.0]]).double(), torch.ones(1, 2, dtype=torch.bool)
    problem = ci.L1Fit(ci.Rows(ci.Dense(torch.ones(2, 1).double()), torch.zeros(2).double(), y, on))
    for t, value in ((0.0, 1.8), (0.1, 1.6 - 0.2 / 2**0.5), (0.3, -torch.inf)):
        bound = everywhere(problem, problem.unmet(torch.tensor([[0.9, t - 0.9]], dtype=torch.float64)))
        assert float(bound[0]) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("kind", [ci.LinfFit, ci.L1Fit])
def test_a_rank_that_rounding_restores_is_claimed_within_a_scope(kind: Any):
    """A product of thin matrices has small singular values of rounding: h far away may be a little better."""
    draw = cases.seeded(4)
    W = cases.normal(30, 3, draw=draw) @ cases.normal(3, 8, draw=draw)
    y = cases.normal(2, 30, draw=draw)
    found = ci.solve(kind(ci.Rows(ci.Dense(W), torch.zeros(30).double(), y, torch.ones(2, 30, dtype=torch.bool))))
    assert (found.status == "optimal").all() and torch.isfinite(found.certificate.scope).all()
    assert not found.certificate.two_sided.any()


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_column_of_zeros_sets_no_unit(unit: float):
    """Three singular columns and a dead one: the scope counts in lengths of h, whatever the size of W."""
    draw = cases.seeded(5)
    W = torch.cat([cases.normal(20, 2, draw=draw) @ cases.normal(2, 3, draw=draw), torch.zeros(20, 1).double()], 1)
    y = cases.normal(2, 20, draw=draw)
    rows = ci.Rows(ci.Dense(unit * W), torch.zeros(20).double(), y, torch.ones(2, 20, dtype=torch.bool))
    for kind in (ci.LinfFit, ci.L1Fit):
        assert (ci.solve(kind(rows), on_fail="ignore").status == "optimal").all()
