"""Root finding for l2 bounds: factors kept from guess to guess, and where its rounds begin."""

import cases
import pytest
import torch
from layer_cases import Case, pursuit_l2, random_layer

import cvxinv as ci
from cvxinv.layers.core.problem import AbstractLayerProblem
from cvxinv.solvers.loop import run
from cvxinv.solvers.newton import bordered, root_finding
from cvxinv.solvers.newton.bordered import Borders
from cvxinv.solvers.newton.root_finding import RootFinding

WIDE = Case("", "", random_layer(90, 140, 8, before=20, relu=False), pursuit_l2, ())
TALL = Case("", "", random_layer(140, 70, 8, before=20, relu=False), pursuit_l2, ())


def small(case: Case) -> AbstractLayerProblem:
    return case.make().normalised().problem


def grams_of(n: int, count: int) -> torch.Tensor:
    M = cases.normal(count, n + 20, n, draw=cases.seeded(1))
    return M.mT @ M / n


@pytest.mark.parametrize("share", [1, 1000], ids=["any change is bordered", "any change is factorised anew"])
@pytest.mark.parametrize("shared", [True, False])
def test_bordered_guesses_solve_their_equations(share: int, shared: bool, monkeypatch):
    """H_AA h = right on A and 0 elsewhere, from round to round: unknowns join, leave, come back, and all of them leave."""
    monkeypatch.setattr(bordered, "_SHARE", share)
    n, N, draw = 60, 5, cases.seeded(2)
    grams = grams_of(n, 1 if shared else N)
    borders, left = Borders(grams, 80), torch.arange(N)
    first = torch.rand(N, n, generator=draw) < 0.5
    first[0], first[1] = True, False
    free, rounds = first.clone(), []
    for _ in range(4):
        rounds.append(free.clone())
        free = free ^ (torch.rand(N, n, generator=draw) < 0.1)
    rounds += [first, torch.zeros_like(first), ~first]
    for guess in rounds:
        system = borders.equations(left, guess)
        right = cases.normal(len(left), n, draw=draw), cases.normal(len(left), n, draw=draw)
        assert system.sound.all()
        both, _ = system.solve_two(right, (right[0][:, :1], right[0][:, :1]))
        for r, h in zip(right, both, strict=True):
            assert (h[~guess] == 0).all()
            H = grams.expand(N, n, n)[left]
            assert float((((H @ h[..., None])[..., 0] - r) * guess).abs().max()) < 1e-9
        which = left % 2 == 0
        some, mu = system.solve(right[0], right[0][:, :1], which)
        assert torch.equal(some, torch.where(which[:, None], both[0], 0.0)) and mu.shape == (N, 80) and (mu == 0).all()


def test_an_unknown_that_makes_h_singular_is_unsound_when_it_joins_and_sound_when_it_leaves_again():
    M = cases.normal(30, 24, draw=cases.seeded(3))
    M[:, 23] = M[:, 22]  # one column twice
    borders, left = Borders((M.T @ M)[None], 30), torch.arange(1)
    free = torch.ones(1, 24, dtype=torch.bool)
    free[0, 23] = False
    both = torch.ones_like(free)
    assert [bool(borders.equations(left, guess).sound) for guess in (free, both, free)] == [True, False, True]


def test_signals_that_left_are_forgotten():
    borders, free = Borders(grams_of(20, 1), 40), torch.ones(3, 20, dtype=torch.bool)
    borders.equations(torch.arange(3), free)
    borders.equations(torch.tensor([0, 2]), free[:2])
    assert sorted(borders.factors) == [0, 2]


@pytest.mark.parametrize("case", [WIDE, TALL], ids=["wide", "tall"])
def test_the_same_answers_with_and_without_kept_factors(case: Case, monkeypatch):
    problem = small(case)
    kept = RootFinding().start(problem)
    kept.advance(1)
    monkeypatch.setattr(RootFinding, "_borders", lambda self: None)
    anew = RootFinding().start(problem)
    anew.advance(1)
    done = kept.settled
    assert int(done.sum()) >= problem.N / 2 and torch.equal(done, anew.settled)
    assert float((kept.point().h - anew.point().h)[done].abs().max()) < 1e-10
    assert ci.certify(problem, kept.point()).holds[done].all()


def test_blocks_of_signals_that_fit_the_memory_settle_alike(monkeypatch):
    problem = small(WIDE)
    whole = RootFinding().start(problem)
    whole.advance(1)
    monkeypatch.setattr(root_finding, "_MEMORY", 3 * 8 * problem.n**2)
    blocks = RootFinding().start(problem)
    blocks.advance(1)
    assert torch.equal(whole.settled, blocks.settled)
    assert float((whole.point().h - blocks.point().h)[whole.settled].abs().max()) < 1e-12


def test_auto_opens_wide_pursuits_with_root_finding():
    """Exact answers, those of the reference, and bad signals beside them: none observed, and a bound that h = 0 meets."""
    problem = WIDE.make()
    solution = ci.solve(problem)
    assert (solution.status == "optimal").all() and set(solution.solver) == {"root_finding"}
    assert (solution.certificate.relative_gap <= 1e-9).all()
    reference = ci.solve(problem.take(torch.arange(2)), "CLARABEL")
    assert float((solution.h[:2] - reference.h).abs().max()) < 1e-5 * float(reference.h.abs().max())
    rows, eps = problem.rows, problem.eps.clone()
    y = rows.y.clone()
    y[0], eps[1] = 0.0, 2 * rows.y[1].norm()
    bad = ci.NonnegativeBasisPursuitL2(rows.derived(y=y), eps)
    solution = ci.solve(bad)
    assert (solution.status == "optimal").all() and (solution.h[:2] == 0).all()


@pytest.mark.parametrize("eps", [2e-6, 1.5e-6, 1e-6])
def test_a_bound_that_no_lam_meets_ends_after_a_few_rounds(eps: float):
    """h = 1 and h = 1 + 3e-6: the least misfit is 2.12e-6, longer than eps by less than 1e-6 s_y, which proves nothing."""
    W, y = torch.ones(2, 1, dtype=torch.float64), torch.tensor([[1.0, 1.0 + 3e-6]], dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), torch.zeros(2, dtype=torch.float64), y, y > 0)
    found = run(RootFinding(), ci.NonnegativeBasisPursuitL2(rows, eps).normalised().problem, tol=1e-6)
    assert int(found.iterations) <= 5, found.iterations
    assert found.status[0] == "user_limit"


def test_a_bound_that_every_lam_meets_ends_after_a_few_rounds():
    """h >= 5 by the off row and h next to 1 within 10: the misfit is 4 whatever lam is, and the off row alone decides."""
    W, y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    rows = ci.Rows(ci.Dense(W), torch.tensor([0.0, 5.0], dtype=torch.float64), y, y > 0)
    problem = ci.NonnegativeBasisPursuitL2(rows, 10.0)
    assert int(run(RootFinding(), problem.normalised().problem, tol=1e-6).iterations) <= 5
    solution = ci.solve(problem)
    assert solution.status[0] == "optimal" and abs(float(solution.h) - 5) < 1e-9
