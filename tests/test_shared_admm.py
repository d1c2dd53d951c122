"""ADMM on a shared Gram matrix: penalties and l2 bounds, its low-precision products, and what it leaves to others."""

import pytest
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.solvers.shared import shared_gram
from cvxinv.solvers.shared.shared_admm import SharedADMM
from cvxinv.solvers.shared.shared_pursuit import SharedPursuit

KINDS = (ci.NonnegativeLasso, ci.Lasso)
PURSUITS = (ci.NonnegativeBasisPursuitL2, ci.BasisPursuitL2)


def numbers(*rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def rows_of(m: int, n: int, N: int = 6, *, seed: int = 0, sparse: float = 0.5, noise: float = 0.01, **options) -> ci.Rows:
    """A Gaussian W and signals of which `sparse` are zero; weights and unseen rows, the same for all, where asked for."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    W, b = normal(m, n) / n**0.5, normal(m)
    h = normal(N, n).abs() * (torch.rand(N, n, generator=source) > sparse)
    y = h @ W.T + b + noise * normal(N, m)
    on = torch.ones(N, m, dtype=torch.bool)
    weight = torch.ones(N, m, dtype=torch.float64)
    if options.get("weighted"):
        on[:, ::7] = False
        weight[:, ::3] = 0.25
    return ci.Rows(ci.Dense(W), b, y, on, torch.zeros_like(on), weight)


def penalised(kind, rows: ci.Rows, share: float = 0.01):
    """lam between `share` and ten times that of the value from which h = 0 on, another for each signal."""
    top = rows.W.adjoint(rows.fit * rows.target).abs().amax(1)
    return kind(rows, top * share * torch.linspace(1, 10, rows.N, dtype=top.dtype))


def finish(method, iterations: int = 2000) -> Tensor:
    """Run until every signal is taken for solved or given up, without leaving any out; which are taken for solved."""
    method.advance(method.first_check)
    for _ in range(iterations // 5):
        done = method.done(1e-6)
        if bool((done | method.given_up()).all()):
            break
        method.advance(5)
    return done


def assert_reference(problem, h: Tensor) -> None:
    """The objective of CLARABEL's certified point, to two gaps of 1e-6 and the price of exceeding a bound by 1e-6 s_y."""
    reference = ci.solve(problem, "CLARABEL")
    assert (reference.status == "optimal").all()
    torch.testing.assert_close(
        problem.objective(h), problem.objective(reference.h), rtol=3e-6 if problem.form == "quadratic" else 1e-5, atol=1e-12
    )


# --- answers --------------------------------------------------------------------------------------


def test_orthogonal_columns_shrink_by_lam():
    """Columns of length 1 and 2: h = (c - lam) / G = ((3 - 1) / 1, (8 - 1) / 4), and 0 where c is below lam, or -lam."""
    W = numbers([1, 0, 0], [0, 2, 0], [0, 0, 1])
    rows = ci.Rows(ci.Dense(W), numbers(0, 0, 0), numbers([3, 4, -2]), torch.ones(1, 3, dtype=torch.bool))
    for kind, expected in ((ci.NonnegativeLasso, [2, 1.75, 0]), (ci.Lasso, [2, 1.75, -1])):
        solution = ci.solve(kind(rows, 1.0), "shared_admm")
        torch.testing.assert_close(solution.h, numbers(expected))
        assert solution.status[0] == "optimal"


def test_the_shortest_point_of_a_ball():
    """|h - (3, 4)| <= 2^(1/2): both entries give way by 1, so h = (2, 3); at (-3, 4) and any sign h = (-2, 3)."""
    eye = ci.Dense(torch.eye(2, dtype=torch.float64))
    for y, kind, expected in (([3, 4], PURSUITS[0], [2, 3]), ([-3, 4], PURSUITS[1], [-2, 3])):
        rows = ci.Rows(eye, numbers(0, 0), numbers(y), torch.ones(1, 2, dtype=torch.bool))
        solution = ci.solve(kind(rows, 2**0.5), "shared_pursuit")
        torch.testing.assert_close(solution.h, numbers(expected), atol=1e-6, rtol=0)
        assert solution.status[0] == "optimal"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(40, 12), (40, 40), (12, 30), (30, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_penalties_agree_with_clarabel(shape, kind, weighted):
    problem = penalised(kind, rows_of(*shape, seed=sum(shape), weighted=weighted))
    solution = ci.solve(problem, "shared_admm", polish=False)
    assert (solution.status == "optimal").all(), solution
    assert_reference(problem, solution.h)


@pytest.mark.parametrize("kind", PURSUITS)
@pytest.mark.parametrize("weighted", [False, True])
def test_l2_bounds_agree_with_clarabel(kind, weighted):
    rows = rows_of(60, 16, seed=3, noise=0.1, weighted=weighted)
    problem = kind(rows, rows.scale() * torch.linspace(0.3, 0.9, rows.N, dtype=torch.float64))
    solution = ci.solve(problem, "shared_pursuit", polish=False)
    assert (solution.status == "optimal").all(), solution
    assert_reference(problem, solution.h)


# --- what it says of itself -----------------------------------------------------------------------


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", [*KINDS, *PURSUITS])
def test_what_it_takes_for_solved_is_certified(kind, dtype, low, monkeypatch):
    """Its own estimate of the gap is the judge's, whatever the precision of the products and of the data."""
    monkeypatch.setattr(shared_gram, "fast_type", lambda like: low)
    rows = rows_of(120, 60, 40, seed=5, noise=0.05).to(dtype)
    if kind in KINDS:
        problem = penalised(kind, rows).normalised().problem
        method = SharedADMM().start(problem)
    else:
        problem = kind(rows, 0.2 * rows.scale()).normalised().problem
        method = SharedPursuit().start(problem)
    done = finish(method)
    assert done.all()
    certificate = ci.certify(problem, method.point())
    # an h in float32 misses an l2 bound of 0.2 s_y by some 2e-7 s_y, which is what is allowed
    most = 3 if kind in PURSUITS and dtype == torch.float32 else 1
    assert (certificate.times <= most).all(), certificate
    if kind in KINDS:
        estimate, true = method.gap.double(), certificate.gap
        # what the judge's shrinking of p adds in float32 is a part of the tolerance, and never negative
        assert (estimate <= true + 0.1e-6 * certificate.objective).all()
        assert (true <= estimate + 0.7e-6 * certificate.objective).all()


def test_bfloat16_costs_few_iterations(monkeypatch):
    problem = penalised(ci.NonnegativeLasso, rows_of(200, 100, 50, seed=1)).normalised().problem
    taken = {}
    for low in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(shared_gram, "fast_type", lambda like, low=low: low)
        taken[low] = int(ci.solve(problem, "shared_admm", polish=False).iterations.max())
    assert taken[torch.bfloat16] <= 1.5 * taken[torch.float32] <= 40


def test_it_goes_on_in_float64_where_float32_ends():
    """Realizable data and a tiny lam: the objective is 1e-8 of |y|^2 / 2, and its gap below what float32 resolves."""
    problem = penalised(ci.NonnegativeLasso, rows_of(80, 30, noise=0.0), share=1e-9).normalised().problem
    method = SharedADMM().start(problem)
    done = finish(method)
    assert done.all() and method.b.dtype == torch.float64
    assert ci.certify(problem, method.point()).holds.all()


def test_left_signals_go_on_where_they_were():
    problem = penalised(ci.NonnegativeLasso, rows_of(80, 40, 12, seed=2)).normalised().problem
    whole, part = SharedADMM().start(problem), SharedADMM().start(problem)
    index = torch.arange(12) % 3 == 0
    whole.advance(7)
    part.advance(7)
    part.keep(index)
    finish(whole)
    finish(part)
    torch.testing.assert_close(part.point().h.double(), whole.point().h[index].double(), atol=1e-4, rtol=0)


# --- signals out of the ordinary ------------------------------------------------------------------


def test_empty_signals_have_the_answer_zero():
    rows = rows_of(20, 8, 3)
    rows = ci.Rows(rows.W, rows.b, torch.stack([rows.y[0], rows.b, rows.y[2]]), rows.on, rows.off)
    for problem, solver in (
        (ci.NonnegativeLasso(rows, 0.1), "shared_admm"),
        (ci.Lasso(rows, 0.1), "shared_admm"),
        (ci.NonnegativeBasisPursuitL2(rows, 0.5), "shared_pursuit"),
        (ci.BasisPursuitL2(rows, 0.5), "shared_pursuit"),
    ):
        solution = ci.solve(problem, solver, on_fail="ignore")
        assert (solution.status == "optimal").all(), solution
        assert torch.equal(solution.h[1], torch.zeros(8, dtype=torch.float64))


@pytest.mark.parametrize("weights", ["nothing seen", "no weight"])
def test_a_layer_that_says_nothing_has_the_answer_zero(weights):
    rows = rows_of(10, 4, 2)
    if weights == "nothing seen":
        rows = ci.Rows(rows.W, rows.b, rows.y, torch.zeros_like(rows.on), torch.zeros_like(rows.on))
    else:
        rows = ci.Rows(ci.Dense(0 * rows.W.matrix()), rows.b, rows.y, rows.on, rows.off)
    solution = ci.solve(ci.NonnegativeLasso(rows, 0.1), "shared_admm", on_fail="ignore")
    assert torch.equal(solution.h, torch.zeros(2, 4, dtype=torch.float64)) and (solution.status == "optimal").all()


def test_a_bound_that_nothing_meets_is_given_up():
    """eps below the least misfit of one signal: that one is given up, the others are solved."""
    rows = rows_of(30, 8, 3, noise=1.0)
    least = (rows.target - rows.target @ torch.linalg.pinv(rows.W.matrix()).T @ rows.W.matrix().T).norm(dim=1)
    problem = ci.BasisPursuitL2(rows, least * numbers(1.2, 0.5, 1.5)).normalised().problem
    method = SharedPursuit().start(problem)
    done = finish(method)
    assert done.tolist() == [True, False, True] and method.given_up().tolist() == [False, True, False]
    point = method.point()
    assert torch.isfinite(point.h).all() and torch.isfinite(point.p).all()


def test_ill_conditioned_layers_are_given_up_or_solved():
    rows = rows_of(60, 40, seed=4)
    U, _, V = torch.linalg.svd(rows.W.matrix(), full_matrices=False)
    W = U @ (10.0 ** -torch.linspace(0, 5, 40, dtype=torch.float64)[:, None] * V)
    problem = penalised(ci.NonnegativeLasso, ci.Rows(ci.Dense(W), rows.b, rows.y, rows.on, rows.off), 1e-4)
    method = SharedADMM().start(problem.normalised().problem)
    done = finish(method)
    assert (done | method.given_up()).all()
    assert ci.certify(method.problem, method.point()).holds[done].all()


def test_other_problems_are_refused_by_name():
    rows = rows_of(20, 8, 3)
    off = ci.Rows(rows.W, rows.b, rows.y, rows.on & (torch.arange(20) > 3))
    other = ci.Rows(rows.W, rows.b, rows.y, torch.rand(3, 20) < 0.7, torch.zeros_like(rows.on))
    for problem, words in (
        (ci.NonnegativeLasso(off, 0.1), "without off rows"),
        (ci.NonnegativeLasso(other, 0.1), "same on rows"),
        (ci.GaussianLatent(rows, 0.1), "without a ridge"),
        (ci.NonnegativeBasisPursuitL2(rows, 0.1), "squared misfits"),
    ):
        assert words in SharedADMM.refuses(problem)
        with pytest.raises(ValueError, match="shared_admm"):
            ci.solve(problem, "shared_admm")
    assert "l2 bounds" in SharedPursuit.refuses(ci.NonnegativeLasso(rows, 0.1))


# --- trained layers -------------------------------------------------------------------------------


@pytest.mark.generators
def test_the_last_layer_of_a_trained_network_is_solved(real_generator):
    G = real_generator("csinva_vae_20_400_784").to(torch.float64)
    source = torch.Generator().manual_seed(0)
    h = (G.layers[0].W(torch.randn(12, 20, generator=source, dtype=torch.float64)) + G.layers[0].b).clamp(min=0)
    last = G.layers[1]
    clean = last.W(h) + last.b
    y = clean + 0.01 * clean.norm(dim=1, keepdim=True) * torch.randn(12, 784, generator=source, dtype=torch.float64) / 28
    on = torch.ones_like(y, dtype=torch.bool)
    problem = penalised(ci.NonnegativeLasso, ci.Rows(last.W, last.b, y, on))
    solution = ci.solve(problem, "shared_admm", polish=False)
    assert (solution.status == "optimal").all(), solution
    assert_reference(problem, solution.h)


@pytest.mark.parametrize("kind", PURSUITS)
@pytest.mark.parametrize("shape", [(60, 24), (40, 60)])
def test_root_finding_begins_where_the_shared_iteration_ends(shape, kind):
    """Exact answers, on wide layers too."""
    rows = rows_of(*shape, 8, seed=9, noise=0.02)
    problem = kind(rows, 0.1 * rows.scale())
    solution = ci.solve(problem, "root_finding", polish=False)
    assert (solution.status == "optimal").all() and (solution.certificate.relative_gap <= 1e-9).all(), solution
    assert_reference(problem, solution.h)


def test_the_dual_point_of_a_pursuit_is_in_its_own_units():
    """The LASSO's p over lam: W'p >= -1, and -1 where h > 0, not p at any length."""
    rows = rows_of(60, 24, 8, seed=4, noise=0.02)
    for problem in (ci.NonnegativeBasisPursuitL2(rows, 0.1 * rows.scale()), ci.BasisPursuitL2(rows, 0.1 * rows.scale())):
        solution = ci.solve(problem, polish=False)
        assert set(solution.solver) == {"shared_pursuit"} and (solution.status == "optimal").all()
        slope = rows.W.adjoint(solution.p)
        least = slope.abs().amax(1) if problem.absolute else -slope.amin(1)
        torch.testing.assert_close(least, torch.ones_like(least), rtol=1e-4, atol=0)


def test_bounds_of_next_to_nothing_are_left_to_others():
    """min |h|_1 with W h = y for one number W = 6.6e-10: h = y / W exactly, p = -1 / W."""
    W, y = torch.tensor([[6.6e-10]], dtype=torch.float64), torch.tensor([[0.04]], dtype=torch.float64)
    problem = ci.BasisPursuitL2(ci.Rows(ci.Dense(W), torch.zeros(1, dtype=torch.float64), y, y > 0), 0.0)
    solution = ci.solve(problem)
    assert solution.solver == ("interior_point",) and solution.status[0] == "optimal" and bool(solution.polished)
    torch.testing.assert_close(solution.h, y / W, rtol=1e-12, atol=0)
    torch.testing.assert_close(solution.p, -1 / W, rtol=1e-9, atol=0)


def test_a_pursuit_takes_up_what_is_left_of_its_bound_in_h():
    draw = torch.Generator().manual_seed(5)
    W = torch.randn(120, 40, generator=draw, dtype=torch.float64)
    y = W[:, :8].sum(1) + torch.randn(6, 120, generator=draw, dtype=torch.float64)
    on = torch.ones_like(y, dtype=torch.bool)
    problem = ci.BasisPursuitL2(ci.Rows(ci.Dense(W), torch.zeros(120, dtype=torch.float64), y, on), 0.9 * 120**0.5)
    solution = ci.solve(problem, "shared_pursuit", polish=False)
    # no h is over its bound by more than rounding, as a share of the tolerance would be
    over = (y - solution.h @ W.T).norm(dim=1) / problem.eps - 1
    assert (over < 1e-12).all() and (solution.certificate.two_sided).all(), over
    assert (solution.status == "optimal").all() and solution.certificate.gap.min() > 0
