"""The six checks that every layer problem passes: on worked instances, random rows, and rows of trained generators.

What is checked stands in checks.py, what it is checked on in cases.py; a new layer problem with instances in
problems/layers joins by itself.
"""

import math

import cases
import checks
import gallery
import pytest
import torch

import cvxinv as ci

WORKED = [pytest.param(case, id=repr(case)) for case, _ in cases.worked()]
RANDOM = [pytest.param(case, id=repr(case)) for case in cases.random_cases()]
CASES = [*WORKED, *RANDOM, *(pytest.param(cases.contradiction(name), id=f"{name}-contradiction") for name in cases.NAMES)]
FEASIBLE = [param for param in CASES if param.values[0].feasible is not None]
HAND = [pytest.param(case, instance, id=repr(case)) for case, instance in cases.worked()]


# --- the cases themselves: checks are blind without these -----------------------------------------


@pytest.mark.parametrize("name", cases.NAMES)
def test_random_rows_have_binding_off_rows_positive_biases_and_unseen_rows(name):
    mine = [case for case in cases.random_cases() if case.name == name]
    binding = [case for case in mine if (torch.where(case.rows.off, case.reference.p, 0.0) > 1e-3).any()]
    pushed = [case for case in mine if (case.rows.off & (case.rows.b > 1e-3)).any()]
    unseen = [case for case in mine if (~case.rows.on & ~case.rows.off).any()]
    assert len(binding) >= 8 and len(pushed) >= 8 and len(unseen) >= 4


@pytest.mark.parametrize("case", FEASIBLE)
def test_known_feasible_points_are_feasible(case):
    assert (case.problem.violation(case.feasible) <= 1e-12 * case.rows.scale().clamp(min=1e-300)).all()


# --- the six checks -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_statement_and_certificate_agree_at_random_points(case):
    checks.check_statement(case)


@pytest.mark.parametrize("case", FEASIBLE)
def test_dual_bounds_every_feasible_point(case):
    checks.check_bound(case)


@pytest.mark.parametrize("case", CASES)
def test_reference_certifies(case):
    checks.check_reference(case)


@pytest.mark.parametrize("case", [param for param in WORKED if param.values[0].feasible is not None])
def test_highs_certifies_on_small_problems(case):
    checks.check_reference(case, "HIGHS")


@pytest.mark.parametrize("case", FEASIBLE)
def test_reference_is_a_fixed_point_of_the_fast_methods(case):
    checks.check_fixed_points(case)


@pytest.mark.parametrize("case", CASES)
def test_auto_reaches_a_certificate(case):
    checks.check_fast(case, "auto")


@pytest.mark.parametrize("solver", checks.FAST)
@pytest.mark.parametrize("case", CASES)
def test_no_fast_method_claims_what_is_not_so(case, solver):
    checks.check_fast(case, solver, must=False, max_iter=3000)


@pytest.mark.parametrize("solver", checks.FAST)
@pytest.mark.parametrize("case", RANDOM[::3])
def test_no_fast_method_claims_what_is_not_so_without_polish(case, solver):
    checks.check_fast(case, solver, must=False, max_iter=400, polish=False)


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("solver", checks.FAST)
def test_every_fast_method_reaches_optimal_on_well_conditioned_rows(name, solver):
    case = cases.dense_case(name, cases.DENSE[0])
    checks.check_fast(case, solver, must=True)


@pytest.mark.parametrize("solver", ["auto", "graph_admm"])
@pytest.mark.parametrize("case", [param for param in FEASIBLE if param in RANDOM][::2])
def test_float32_reaches_what_float32_can_give(case, solver):
    single = case.to(torch.float32)
    solution = checks.check_fast(single, solver, must=False)
    assert solution.h.dtype == solution.p.dtype == torch.float32
    judged = solution.certificate
    assert (judged.gap <= checks.float32_gap(solution, single.problem)).all(), judged.gap
    # each off row is W h + b rounded at numbers of this size; polish meets it to that
    size = single.rows.W.norm() * solution.h.norm(dim=1) + single.rows.b.norm()
    assert (judged.violation <= 16 * torch.finfo(torch.float32).eps / 2 * size.double() + 1e-6 * judged.scale).all()


@pytest.mark.parametrize(("case", "instance"), HAND)
def test_statement_reaches_transcription_and_hand_answer(case, instance):
    checks.check_hand_answer(case, instance, gallery.problem(case.name).transcription)


@pytest.mark.parametrize(("case", "instance"), HAND)
def test_auto_reaches_the_hand_answer(case, instance):
    solution = ci.solve(case.problem, on_fail="ignore")
    if instance.answer is None:
        assert solution.status[0] == "infeasible"
        return
    # optimal to 1e-6 of the value or (1e-10 s_y)^2 / 2
    assert float(solution.certificate.objective[0]) == pytest.approx(instance.value, rel=2e-6, abs=1e-12)
    if instance.unique:
        torch.testing.assert_close(solution.h[0], torch.as_tensor(instance.answer), rtol=1e-6, atol=1e-6)


# --- proximal pieces ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RANDOM[::4])
def test_prox_operators_minimise_their_definition(case):
    """No point near prox(v) has a lower F(u) + rho/2 |u - v|^2, and masked rows are left where they were."""
    problem, rows, draw = case.problem, case.rows, cases.seeded(5)
    v, h = 2 * cases.normal(*rows.y.shape, draw=draw), 2 * cases.normal(problem.N, problem.n, draw=draw)
    rho = torch.logspace(-1, 1, problem.N, dtype=torch.float64)[:, None]
    u, x = problem.prox_rows(v, rho), problem.prox_unknown(h, rho)
    unseen = ~rows.on & ~rows.off
    assert (u[unseen] == v[unseen]).all() and (u[rows.off] <= 0).all()
    for size in (1e-3, 0.1, 1.0):
        near = torch.where(rows.off, (u + size * cases.normal(*u.shape, draw=draw)).clamp(max=0), u + size)
        assert (row_value(problem, u, v, rho) <= row_value(problem, near, v, rho) + 1e-12).all()
        near = x + size * cases.normal(*x.shape, draw=draw)
        near = near.clamp(min=0) if problem.nonnegative else near
        assert (unknown_value(problem, x, h, rho) <= unknown_value(problem, near, h, rho) + 1e-12).all()


def row_value(problem, u, v, rho):
    rows = problem.rows
    return (rows.fit * (u - rows.y) ** 2).sum(1) / 2 + (rho * (u - v) ** 2).sum(1) / 2


def unknown_value(problem, x, h, rho):
    g = (problem.linear * x).sum(1) + (problem.quadratic * x * x).sum(1) / 2
    return g + (rho * (x - h) ** 2).sum(1) / 2


@pytest.mark.parametrize("case", RANDOM[::4])
def test_normalised_problem_is_the_same_problem(case):
    """|W| = 1, data of length 1, and objectives that differ by one factor per signal."""
    scaled, problem = case.problem.normalised(), case.problem
    h = cases.normal(problem.N, problem.n, draw=cases.seeded(6))
    assert scaled.problem.rows.W.norm() == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(scaled.problem.rows.scale(), torch.ones(problem.N, dtype=torch.float64))
    factor = (scaled.h_unit * scaled.p_unit * problem.rows.W.norm())[:, 0]
    torch.testing.assert_close(
        scaled.problem.objective(h / scaled.h_unit) * factor, problem.objective(h), rtol=1e-10, atol=0
    )
    data = scaled.p_unit[:, 0]
    torch.testing.assert_close(
        torch.where(case.rows.off, scaled.problem.rows.excess(h / scaled.h_unit), 0.0).amax(1) * data,
        case.rows.excess(h).amax(1),
        rtol=1e-10,
        atol=1e-12,
    )


# --- trained generators ---------------------------------------------------------------------------


def read(real_generator, name):
    """The two decoders without bias are inverted with their own (Leaky)ReLU at the output, as their authors did."""
    G = real_generator(name).to(torch.float64)
    if not name.startswith("lei"):
        return G
    return G.with_output("leaky_relu" if "leaky" in name else "relu")


@pytest.mark.generators
@pytest.mark.parametrize("name", cases.DENSE_GENERATORS)
def test_rows_of_dense_generators_pass_the_checks(name, real_generator):
    G = read(real_generator, name)
    for index in range(G.depth):
        for case in cases.generator_cases(G, index):
            checks.check_statement(case)
            checks.check_reference(case)
            checks.check_bound(case)
            checks.check_fixed_points(case)
            checks.check_fast(case, "auto")


@pytest.mark.generators
@pytest.mark.parametrize("view", cases.VIEWS, ids=lambda view: view.label)
@pytest.mark.parametrize("name", cases.CONVOLUTIONAL_GENERATORS)
def test_patches_of_convolutional_generators_pass_the_checks(name, view, real_generator):
    G = real_generator(name).to(torch.float64)
    for index in range(G.depth):
        case = cases.patch_case(G, index, view)
        checks.check_statement(case)
        checks.check_bound(case)
        checks.check_fast(case, "auto")
        if clarabel_stops_short(case):
            continue
        checks.check_reference(case)
        checks.check_fixed_points(case)


def clarabel_stops_short(case):
    """Whether CLARABEL itself says that it is inaccurate, as on a clean layer with more unknowns than rows and no penalty.

    There the optimum is 0, its regularisation leaves a misfit of 1e-6 s_y, and the judge does not call that optimal.
    """
    solution = case.reference
    if not solution.solver_status[0].startswith("optimal_inaccurate") or solution.status[0] == "optimal":
        return False
    assert case.rows.n > int(case.rows.on.sum()) and case.penalty == 0
    assert solution.status[0] == "user_limit" and float(solution.certificate.relative_gap) < 1e-10
    return True


@pytest.mark.generators
@pytest.mark.parametrize("name", cases.CONVOLUTIONAL_GENERATORS)
def test_full_convolutional_layers_are_refused_by_cvxpy_with_the_predicted_time(name, real_generator):
    G = real_generator(name)
    layer = G.layers[-1]
    y = G.preactivations(G.sample_latent(1, cases.seeded(0)))[-1]  # (1, m); tanh may saturate behind it
    problem = ci.NonnegativeLasso(ci.Rows(layer.W, layer.b, y, torch.ones_like(y, dtype=torch.bool)), 0.1)
    with pytest.raises(ci.ProblemTooLargeError, match=r"would take about \d+ s; pass force=True") as caught:
        ci.solve(problem, "CLARABEL")
    seconds = int(str(caught.value).split("about ")[1].split(" s")[0])
    assert seconds > 600 and math.isfinite(seconds)
