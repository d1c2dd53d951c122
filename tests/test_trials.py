"""Cases that fooled the judge or stopped a solver, each with its right value. Every claim `optimal` has to be true.

The right values are worked out on paper, or solved in rationals by `benchmarks/exact.py` where a test says so.
"""

import subprocess
import sys
from fractions import Fraction
from functools import cache
from math import sqrt

import numpy as np
import pytest
import torch
from exact import ExactProblem
from scipy.optimize import linprog, nnls
from soundness_cases import settled

import cvxinv as ci

TOL = 1e-6
QUADRATIC = (
    "auto",
    "interior_point",
    "graph_admm",
    "linearized_admm",
    "pdhg",
    "block_pivoting",
    "CLARABEL",
    "OSQP",
    "SCS",
    "HIGHS",
)
BUDGET = {"HIGHS": {"solver_options": {"time_limit": 5.0}}}


def tensor(values) -> torch.Tensor:
    return torch.as_tensor(np.array(values, dtype=float))


def rows_of(W, y, b=None, on=None, off=None) -> ci.Rows:
    """Rows of one signal; all on where nothing else is said."""
    m = len(y)
    on = torch.ones(1, m, dtype=torch.bool) if on is None else torch.as_tensor(np.array(on))[None]
    off = None if off is None else torch.as_tensor(np.array(off))[None]
    return ci.Rows(ci.Dense(tensor(W)), tensor(np.zeros(m) if b is None else b), tensor(y)[None], on, off)


def solved(problem, solver: str = "auto", **options) -> ci.Solution:
    return ci.solve(problem, solver, on_fail="ignore", progress=False, **(BUDGET.get(solver, {}) | options))


def believed(certificate: ci.Certificate, optimum: float) -> bool:
    """Whether what the certificate says agrees with the optimum: not optimal, a stated scope, or the right value.

    One-sided, the objective may lie below the optimum, never above.
    """
    if certificate.status[0] == "infeasible" or float(certificate.bound[0]) > optimum * (1 + 1e-9) + 1e-300:
        return bool(certificate.remark[0]) and certificate.status[0] != "infeasible"
    if certificate.status[0] != "optimal":
        return True
    two_sided = bool(getattr(certificate, "two_sided", np.ones(1, bool))[0])
    objective, allowed = float(certificate.objective[0]), TOL * optimum
    if np.isfinite(float(getattr(certificate, "scope", np.full(1, np.inf))[0])) and certificate.remark[0]:
        return True
    return objective <= optimum + allowed and (objective >= optimum - allowed or not two_sided)


# --- rows of very different length ----------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven():
    """60 x 30, every third row times the scale, every second row off; its optimum, solved with the off rows at length 1."""

    @cache
    def make(scale: float):
        rng = np.random.default_rng(1)
        W = rng.standard_normal((60, 30))
        W[::3] *= scale
        on = np.arange(60) % 2 == 0
        inside = np.abs(rng.standard_normal(30))
        b = np.where(on, 0.0, -np.abs(W @ inside) * 0.05 - W @ inside)
        y = np.where(on, W @ inside + rng.standard_normal(60), 0.0)
        lam = 0.01 * float(np.abs(W[on].T @ y[on]).max())
        length = np.where(on, 1.0, np.linalg.norm(W, axis=1))
        problem = ci.NonnegativeLasso(rows_of(W, y, b, on), lam)
        even = ci.NonnegativeLasso(rows_of(W / length[:, None], y, b / length, on), lam)
        points = [solved(even, solver) for solver in ("CLARABEL", "auto")]
        pairs = [(s.h[0].numpy(), s.p[0].numpy() / length) for s in points]
        found = settled(ExactProblem(problem), 0, pairs)
        assert found.known
        return problem, float(found.upper)

    return make


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_row_of_another_length_is_a_limit_like_others(uneven, scale):
    problem, optimum = uneven(scale)
    wrong = []
    for solver in QUADRATIC:
        solution = solved(problem, solver, max_iter=2000 if solver in ("graph_admm", "pdhg", "linearized_admm") else None)
        for certificate in (
            solution.certificate,
            ci.certify(problem, solution.h),
            ci.certify(problem, solution.h, solution.p),
        ):
            if not believed(certificate, optimum):
                wrong.append((solver, certificate.status[0], float(certificate.objective[0])))
    assert not wrong, f"the optimum is {optimum}"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_auto_finds_the_optimum_whatever_a_row_is_multiplied_by(uneven, scale):
    problem, optimum = uneven(scale)
    certificate = solved(problem).certificate
    assert certificate.status[0] == "optimal" and float(certificate.objective[0]) == pytest.approx(optimum, rel=2e-6)


# --- dead rows ------------------------------------------------------------------------------------


def dead_row(bias: float) -> ci.NonnegativeLasso:
    """Row 0 has no weights: it holds whatever h is, or never. Without it the optimum is 0.717954545... = 15795/22000."""
    W = [[0, 0, 0], [0, 2, -3], [0, -1, -3], [1, 0, -3], [-1, 3, -3], [2, 3, -3]]
    y = np.array([0, 2, 0, 0, 2, 1])
    return ci.NonnegativeLasso(rows_of(W, y, [bias, 0, 0, 0, 0, 0], y > 0), 0.1)


def test_the_optimum_beside_a_dead_row():
    s = solved(dead_row(-1.0), "CLARABEL")
    found = settled(ExactProblem(dead_row(-1.0)), 0, [(s.h[0].numpy(), s.p[0].numpy())])
    assert float(found.upper) == pytest.approx(0.717954545454545, rel=1e-14) and found.known


@pytest.mark.parametrize("solver", ["auto", "interior_point", "graph_admm", "CLARABEL"])
@pytest.mark.parametrize("polish", [True, False])
def test_a_dead_row_that_is_broken_by_little_does_not_make_everything_optimal(solver, polish):
    """The bias 1.5e-6 is 5e-7 s_y above 0: the row is no limit."""
    certificate = solved(dead_row(1.5e-6), solver, polish=polish).certificate
    assert certificate.status[0] != "optimal" or float(certificate.objective[0]) == pytest.approx(0.717954545, rel=2e-6)


@pytest.mark.parametrize("bias", [1e-4, 1.0])
def test_a_dead_row_that_is_broken_by_more_is_infeasible(bias):
    ray = np.zeros(6)
    ray[0] = 1.0
    assert ci.certify(dead_row(bias), np.zeros(3), ray).status[0] == "infeasible"


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("NonnegativeLasso", 0.0), ("NonnegativeLasso", 1e-3), ("GaussianLatent", 1e-3),
        ("NonnegativeBasisPursuitLinf", 1e-3), ("NonnegativeBasisPursuitL2", 1e-3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("h", [100.0, 1e9])
@pytest.mark.parametrize("p", [1.0, 1e300])
def test_a_ray_along_a_dead_row_proves_no_h(kind, number, h, p):
    """W = (1; 0), y = 1 on the first row, b = 1e-7 on the dead one: the best h is about 1."""
    problem = getattr(ci, kind)(rows_of([[1.0], [0.0]], [1.0, 0.0], [0.0, 1e-7], [True, False]), number)
    assert ci.certify(problem, np.array([[h]]), np.array([[0.0, p]])).status[0] not in ("optimal", "optimal_inaccurate")


@pytest.mark.parametrize("solver", ["auto", "CLARABEL", "SCS"])
def test_what_is_infeasible_by_1e_4_is_said_to_be(solver):
    """h - 1 and h + 1 have a length of at least sqrt 2, and 1e-4 less is allowed."""
    problem = ci.NonnegativeBasisPursuitL2(rows_of([[1.0], [1.0]], [1.0, -1.0]), sqrt(2) * (1 - 1e-4))
    assert solved(problem, solver).status[0] == "infeasible"


# --- bounds with a scope --------------------------------------------------------------------------


def near_columns():
    """Two columns whose angle is 1e-8: least squares reaches 115/44 at |z| = 1.5e7, far outside of 1e6 s_y / |W|."""
    a = np.array([2.0, 1.0, 3.0, 1.0])
    W = np.stack([a * (1 + 1e-8), a], 1)
    W[0, 0] += 1e-7
    return W, np.array([1.0, 2.0, -1.0, 0.5]), 115 / 44


@pytest.mark.parametrize("kind", ["GaussianLatent", "Lasso"])
@pytest.mark.parametrize("solver", ["auto", "CLARABEL"])
def test_no_bound_is_above_what_least_squares_attains(kind, solver):
    W, y, optimum = near_columns()
    problem = getattr(ci, kind)(rows_of(W, y), 0.0)
    assert believed(solved(problem, solver).certificate, optimum)
    for rcond in (1e-15, 1e-5):
        z = np.linalg.lstsq(W, y, rcond=rcond)[0]
        assert believed(ci.certify(problem, z), optimum)
    attained = ci.certify(problem, np.linalg.lstsq(W, y, rcond=1e-15)[0])
    assert float(attained.bound[0]) <= float(attained.objective[0]) * (1 + 1e-9)


@pytest.mark.parametrize("power", range(6, 11))
def test_no_bound_is_above_what_nonnegative_least_squares_attains(power):
    """Two columns opposite up to 10^-power: a long h along both is feasible, and fits better."""
    rng = np.random.default_rng(power)
    W = rng.integers(-3, 4, (5, 3)).astype(float)
    W[:, 1] = -W[:, 0] + 10.0**-power * rng.standard_normal(5)
    y = rng.integers(1, 4, 5).astype(float)
    problem = ci.NonnegativeLasso(rows_of(W, y), 0.0)
    best = nnls(W, y)[0]
    attained = float(problem.objective(tensor(best)[None])[0])
    for solver in ("auto", "CLARABEL"):
        assert believed(solved(problem, solver).certificate, attained)
    certificate = ci.certify(problem, best)
    assert float(certificate.bound[0]) <= attained * (1 + 1e-9)


# --- contradictions -------------------------------------------------------------------------------

NO_SOLUTION = [
    # 2 h1 + 2 h2 = 2, 2 h1 + h2 = 0 give h = (-1, 2), and 3 h1 + 2 h2 is 1, not 0
    ([[2, 2], [2, 1], [3, 2]], [0, -1, -1], [2, -1, -1]),
    # the second row is twice the first one: 2 (3) is not -2
    ([[0, -2, 2], [0, -4, 4], [0, 4, -4]], [1, 1, 0], [3, -1, 1]),
]


@pytest.mark.parametrize(("W", "b", "y"), NO_SOLUTION)
@pytest.mark.parametrize("kind", ["BasisPursuitLinf", "BasisPursuitL2"])
@pytest.mark.parametrize("solver", ["auto", "CLARABEL", "SCS"])
def test_equations_without_a_solution_are_infeasible(W, b, y, kind, solver):
    assert solved(getattr(ci, kind)(rows_of(W, y, b), 0.0), solver).status[0] == "infeasible"


# --- the judge's own arithmetic -------------------------------------------------------------------


def judged_apart(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", ["IntervalBasisPursuit", "NonnegativeBasisPursuitLinf"])
def test_the_process_outlives_an_h_strictly_inside_of_all_limits(kind):
    """No row is at a limit and h > 0: least squares over no column at all. The bound is 0, h = 1 is not optimal."""
    given = "torch.zeros(1, 1).double(), 3 + torch.zeros(1, 1).double()" if kind == "IntervalBasisPursuit" else "2.0"
    done = judged_apart(
        "import torch, cvxinv as ci\n"
        "one = torch.ones(1, 1).double()\n"
        f"problem = ci.{kind}(ci.Rows(ci.Dense(one), one[0] * 0, one, one.bool()), {given})\n"
        "print(ci.certify(problem, one).status[0])"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "user_limit")


def test_a_signal_for_which_no_p_is_found_costs_its_neighbour_nothing():
    """Columns of length 1e-8 to 1e8: the search for a p may give up, its bound is then weak."""
    rng = np.random.default_rng(5)
    m, n = int(rng.integers(20, 300)), int(rng.integers(5, 150))
    W = rng.standard_normal((m, n)) @ np.diag(10.0 ** rng.uniform(-8, 8, n))
    h = np.abs(rng.standard_normal((2, n))) * (rng.random((2, n)) < 0.3)
    y, on = h @ W.T, rng.random((2, m)) < 0.3
    b = np.where(on, 0.0, -y)
    y = np.where(on, y + 0.01 * np.abs(y).max() * rng.standard_normal((2, m)), 0.0)
    problem = ci.BasisPursuitLinf(ci.Rows(ci.Dense(tensor(W)), tensor(b), tensor(y), torch.as_tensor(on)), 0.1)
    both = ci.certify(problem, h).status
    alone = [ci.certify(problem.take(torch.tensor([i])), h[i]).status[0] for i in range(2)]
    assert both.tolist() == alone and not {"numerical_error", "infeasible"} & set(alone)


# --- columns of very different length -------------------------------------------------------------


@pytest.mark.parametrize("reach", [6, 8, 10, 12])
def test_nonnegative_least_squares_over_columns_of_any_length(reach):
    """With columns of length 1 each of these is easy: the units of h decide nothing."""
    missed = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scale = 10.0 ** rng.uniform(-reach / 2, reach / 2, 6)
        W = rng.standard_normal((12, 6)) * scale
        y = W @ (np.abs(rng.standard_normal(6)) / scale * (rng.random(6) < 0.6)) + 0.1 * rng.standard_normal(12)
        solution = solved(ci.NonnegativeLasso(rows_of(W, y), 0.0))
        best = nnls(W / np.linalg.norm(W, axis=0), y)[1] ** 2 / 2
        if solution.status[0] != "optimal" or abs(float(solution.certificate.objective[0]) - best) > 2 * TOL * best:
            missed.append(seed)
    assert not missed


def long_answer():
    """A linear program whose answer is about (0, 0.46, 354167): its third column has a length of 5e-6."""
    W = np.array([[2e6, 0.0, -2e-6], [2e6, -2.0, 2e-6], [1e6, 2.0, 1e-6], [2e6, 2.0, -2e-6]])
    b, lo = np.array([0.0, 0, 0, 1]), np.array([-0.25, 0.75, 1.75, 1.75])
    hi = lo + 0.5
    return ci.IntervalBasisPursuit(rows_of(W, (lo + hi) / 2, b), tensor(lo)[None], tensor(hi)[None]), W, b, lo, hi


def test_a_long_feasible_point_with_its_p_is_no_proof_of_infeasibility():
    problem, W, b, lo, hi = long_answer()
    found = linprog(np.ones(3), np.vstack([W, -W]), np.concatenate([hi - b, b - lo]), method="highs")
    p = found.ineqlin.marginals[4:] - found.ineqlin.marginals[:4]
    known = settled(ExactProblem(problem), 0, [(found.x, p)])
    assert known.known and float(known.upper) == pytest.approx(354167.12500047917, rel=1e-12)
    assert ci.certify(problem, found.x, p).status[0] != "infeasible" and believed(ci.certify(problem, found.x), found.fun)


@pytest.mark.parametrize("solver", ["auto", "HIGHS", "CLARABEL"])
def test_what_a_long_point_meets_is_not_infeasible(solver):
    certificate = solved(long_answer()[0], solver).certificate
    assert certificate.status[0] != "infeasible" and believed(certificate, 354167.12500047917)


# --- optima that were found and not recognised, or not found --------------------------------------


def few_on_rows() -> ci.NonnegativeLasso:
    """lam = 0, off rows, fewer on rows than unknowns."""
    m, n = 20, 12
    draw = torch.Generator().manual_seed(m * n)
    W = torch.randn(m, n, generator=draw, dtype=torch.float64)
    h = torch.randn(5000, n, generator=draw, dtype=torch.float64).clamp(min=0)
    b = 0.3 * torch.randn(m, generator=draw, dtype=torch.float64)
    y = (h @ W.T + b + 0.1 * torch.randn(5000, m, generator=draw, dtype=torch.float64)).clamp(min=0)
    return ci.NonnegativeLasso(ci.Rows(ci.Dense(W), b, y, y > 0), 0.0).take(torch.tensor([197]))


@pytest.mark.parametrize("solver", ["auto", "graph_admm", "CLARABEL", "HIGHS"])
def test_an_exact_optimum_of_few_on_rows_is_recognised(solver):
    """Solved in rationals: 0.044135930379990175."""
    certificate = solved(few_on_rows(), solver).certificate
    assert certificate.status[0] == "optimal"
    assert float(certificate.objective[0]) == pytest.approx(0.044135930379990175, rel=TOL)


def stalled() -> ci.NonnegativeLasso:
    """A well conditioned 12 x 6 layer where the interior point stalled 6e-4 above the optimum."""
    draw = torch.Generator().manual_seed(0)
    W = torch.randn(12, 6, generator=draw, dtype=torch.float64)
    for N in (1, 1000, 50_000):
        h = torch.randn(N, 6, generator=draw, dtype=torch.float64).clamp(min=0)
        y = (h @ W.T + 0.1 * torch.randn(N, 12, generator=draw, dtype=torch.float64)).clamp(min=0)
    y = y[30193:30194]
    return ci.NonnegativeLasso(ci.Rows(ci.Dense(W), torch.zeros(12, dtype=torch.float64), y, y > 0), 0.05)


@pytest.mark.parametrize("solver", ["auto", "interior_point", "graph_admm", "pdhg", "CLARABEL", "HIGHS", "OSQP"])
def test_a_well_conditioned_layer_is_solved(solver):
    """Solved in rationals: 0.03264422395070697."""
    certificate = solved(stalled(), solver).certificate
    assert certificate.status[0] == "optimal"
    assert float(certificate.objective[0]) == pytest.approx(0.03264422395070697, rel=TOL)


@pytest.mark.parametrize("kind", ["GaussianLatent", "NonnegativeLasso"])
@pytest.mark.parametrize("seed", range(6))
def test_off_rows_that_leave_one_point_have_their_optimum_there(kind, seed):
    """No bias, and W_off z <= 0 at z = 0 alone: the optimum is |y|^2 / 2. Where it is not alone, CLARABEL says what is."""
    rng = np.random.default_rng(seed)
    W, on = rng.standard_normal((60, 20)), np.arange(60) < 24
    y = np.where(on, np.abs(rng.standard_normal(60)), 0.0)
    problem = getattr(ci, kind)(rows_of(W, y, None, on), 0.0)
    reference = solved(problem, "CLARABEL")
    optimum = min(float(reference.certificate.objective[0]), float(Fraction(y @ y) / 2))
    certificate = solved(problem).certificate
    assert certificate.status[0] == "optimal"
    assert float(certificate.objective[0]) == pytest.approx(optimum, rel=2 * TOL)
