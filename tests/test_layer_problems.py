"""The six checks that every layer problem passes: on worked instances, random rows, and rows of trained generators.

What is checked stands in checks.py, what it is checked on in cases.py; a new layer problem with instances in
problems/layers joins by itself.
"""

import importlib.util
import math
from dataclasses import replace

import cases
import checks
import gallery
import pytest
import torch

import cvxinv as ci

WORKED = [pytest.param(case, id=repr(case)) for case, _ in cases.worked()]
RANDOM = [pytest.param(case, id=repr(case)) for case in cases.random_cases()]
CONES = ("SCS", *(["ECOS"] if importlib.util.find_spec("ecos") else []))
HOPELESS = [pytest.param(case, id=repr(case)) for name in cases.NAMES for case in cases.hopeless_cases(name)]
NEWTON = ("interior_point", "root_finding")
FEW = 12  # rounds of root finding where it cannot end: at a bound of 0, to which no lam leads
SOME = [param for param in RANDOM[::4] if param.values[0].name in cases.PURSUED or param.values[0].label != "leaky"]
CASES = [*WORKED, *RANDOM, *HOPELESS]
FEASIBLE = [param for param in CASES if param.values[0].feasible is not None]


def few(params, most):
    """A few of the instances, of the random rows and of the hopeless ones: of every layer problem and solver."""
    return [param for part in (WORKED, RANDOM, HOPELESS) for param in cases.spread(among(params, part), most, group)]


def among(params, part):
    some = {id(param.values[0]) for param in part}
    return [param for param in params if id(param.values[0]) in some]


def group(param):
    return (param.values[0].name, *param.values[1:])


# the statement, the reference and `auto` meet every case; what takes many products or every solver meets a part of them
BY_EVERY_METHOD = [
    pytest.param(param.values[0], solver, id=f"{param.id}-{solver}")
    for param in CASES
    for solver in checks.fast(param.values[0].problem)
]
BY_METHOD = few(BY_EVERY_METHOD, 4)
HAND = [pytest.param(case, instance, id=repr(case)) for case, instance in cases.worked()]
SPARSE_SAMPLE = [param for param in FEASIBLE if param in RANDOM][::3]
SAMPLED = [param.values[0] for param in SPARSE_SAMPLE]
SINGLE = ("graph_admm", "pdhg", "fista")  # solvers asked for by name in float32


def highs_serves(case):
    """Worked instances without a ball, and every linear program."""
    if case.problem.form == "ball":
        return False
    return case.problem.form == "interval" or (case.rows.N == 1 and case.feasible is not None)


# --- the cases themselves: checks are blind without these -----------------------------------------


@pytest.mark.parametrize("name", cases.NAMES)
def test_random_rows_have_binding_off_rows_positive_biases_and_unseen_rows(name):
    mine = [case for case in cases.random_cases() if case.name == name]
    binding = [case for case in mine if (torch.where(case.rows.off, case.reference.p, 0.0) > 1e-3).any()]
    pushed = [case for case in mine if (case.rows.off & (case.rows.b > 1e-3)).any()]
    unseen = [case for case in mine if (~case.rows.on & ~case.rows.off).any()]
    enough = 8 if name in cases.PURSUED else 4
    assert len(pushed) >= enough and len(unseen) >= 2, (len(pushed), len(unseen))
    counts = cases.kind_of(name).counts_off
    assert len(binding) >= enough if counts else not binding, "rows that are off do not count in Lasso"


@pytest.mark.parametrize("name", cases.named("interval"))
def test_random_rows_have_rows_at_both_ends_and_ends_that_are_open_or_equal(name):
    mine = [case for case in cases.random_cases() if case.name == name]
    kinds = {"equal": 0, "below": 0, "above": 0, "open": 0}
    for case in mine:
        (lo, hi), on, p = case.problem.limits(), case.rows.on, case.reference.p
        kinds["equal"] += int((on & (lo == hi)).any())
        kinds["below"] += int((on & (lo < hi) & (p < -1e-3)).any())
        kinds["above"] += int((on & (lo < hi) & (p > 1e-3)).any())
        kinds["open"] += int((on & (torch.isinf(lo) ^ torch.isinf(hi))).any())
    assert min(kinds["equal"], kinds["below"], kinds["above"]) >= 3, kinds
    assert kinds["open"] >= 3 or name != cases.INTERVAL


@pytest.mark.parametrize("case", FEASIBLE)
def test_known_feasible_points_are_feasible(case):
    assert (case.problem.violation(case.feasible) <= 1e-12 * case.rows.scale().clamp(min=1e-300)).all()


# --- the six checks -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_statement_and_certificate_agree_at_random_points(case):
    checks.check_statement(case)


@pytest.mark.parametrize("case", few(FEASIBLE, 7))
def test_dual_bounds_every_feasible_point(case):
    checks.check_bound(case)


@pytest.mark.parametrize("case", few(CASES, 7))
def test_no_ray_forbids_what_the_slack_allows(case):
    checks.check_slack(case)


@pytest.mark.parametrize("case", CASES)
def test_reference_certifies(case):
    checks.check_reference(case)


@pytest.mark.parametrize("case", [param for param in CASES if highs_serves(param.values[0])])
def test_highs_certifies(case):
    checks.check_reference(case, "HIGHS")


@pytest.mark.parametrize("solver", CONES)
@pytest.mark.parametrize("case", [param for param in CASES if param.values[0].name in cases.named("ball")])
def test_other_cone_solvers_certify_balls(case, solver):
    checks.check_reference(case, solver)


@pytest.mark.parametrize("case", few(FEASIBLE, 7))
def test_reference_is_a_fixed_point_of_the_fast_methods(case):
    checks.check_fixed_points(case)


@pytest.mark.parametrize("case", CASES)
def test_auto_reaches_a_certificate(case):
    checks.check_fast(case, "auto")


@pytest.mark.parametrize(("case", "solver"), BY_METHOD)
def test_no_fast_method_claims_what_is_not_so(case, solver):
    endless = solver == "root_finding" and float(torch.as_tensor(case.penalty).amin()) == 0
    checks.check_fast(case, solver, must=False, max_iter=FEW if endless else None if solver in NEWTON else 1000)


@pytest.mark.parametrize(("case", "solver"), cases.spread(among(BY_EVERY_METHOD, SOME), 2, group))
def test_no_fast_method_claims_what_is_not_so_without_polish(case, solver):
    checks.check_fast(case, solver, must=False, max_iter=FEW if solver in NEWTON else 400, polish=False)


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("solver", checks.FAST)
def test_every_fast_method_reaches_optimal_on_well_conditioned_rows(name, solver):
    """Or refuses by name; some look only at rows without off rows."""
    spec = replace(cases.dense_specs(name)[0], N=3, slope=1.0 if solver in ("fista", "sparse_active_set") else None)
    case = cases.dense_case(name, spec)
    if checks.serves(solver, case.problem):
        checks.check_fast(case, solver, must=True)
    else:
        with pytest.raises(ValueError, match=rf"solver '{solver}' cannot serve {type(case.problem).__name__}: it "):
            ci.solve(case.problem, solver)


@pytest.mark.parametrize(
    ("case", "solver"),
    [
        *(pytest.param(param.values[0], "auto", id=f"{param.id}-auto") for param in SPARSE_SAMPLE),
        *cases.spread([p for p in BY_EVERY_METHOD if p.values[0] in SAMPLED and p.values[1] in SINGLE], 2, group),
    ],
)
def test_float32_reaches_what_float32_can_give(case, solver):
    single = case.to(torch.float32)
    slow = solver != "auto" and (case.name not in cases.PURSUED or solver != "graph_admm")
    solution = checks.check_fast(single, solver, must=False, max_iter=1000 if slow else None)
    assert solution.h.dtype == solution.p.dtype == torch.float32
    # without full column rank no bound is known of fits, or, where rounding restored the rank, the optimum is at |h| = 1e7
    fewer = case.label.startswith("rank-deficient") or bool((case.rows.on.sum(1) < case.rows.n).any())
    open_ = case.name in cases.FITS and fewer
    # first-order methods may not be through, and said nothing false
    if (not slow and not open_) or (case.name == "lasso" and case.label.startswith("tall")):
        check_reach_of_float32(solution, single, solver)


def check_reach_of_float32(solution, single, solver):
    judged = solution.certificate
    # without a penalty and without full column rank no bound is known, and the remark says so
    plain = torch.as_tensor([solver == "auto" or remark == "" for remark in judged.remark])
    assert (judged.gap <= checks.float32_gap(solution, single.problem))[plain].all(), judged.gap
    # each off row is W h + b rounded at numbers of this size; polish meets it to that
    size = single.rows.W.norm() * solution.h.norm(dim=1) + single.rows.b.norm()
    assert (judged.violation <= 16 * torch.finfo(torch.float32).eps / 2 * size.double() + 1e-6 * judged.scale).all()


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")  # the hand answer judges what it reached
@pytest.mark.parametrize(("case", "instance"), HAND)
def test_statement_reaches_transcription_and_hand_answer(case, instance):
    checks.check_hand_answer(case, instance, gallery.problem(case.name).transcription)


@pytest.mark.parametrize(("case", "instance"), HAND)
def test_auto_reaches_the_hand_answer(case, instance):
    solution = case.auto
    assert (solution.status[0] == "infeasible") == (instance.answer is None)
    if instance.answer is not None:
        check_near(solution, instance)


def check_near(solution, instance):
    # optimal to 1e-6 of the value or (1e-10 s_y)^2 / 2, or 1e-16 s_y / |W|
    assert float(solution.certificate.objective[0]) == pytest.approx(instance.value, rel=2e-6, abs=1e-12)
    if instance.unique:
        torch.testing.assert_close(solution.h[0], torch.as_tensor(instance.answer), rtol=1e-6, atol=1e-6)


# --- proximal pieces ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RANDOM[::3])
def test_prox_operators_minimise_their_definition(case):
    """No point near prox(v) has a lower F(u) + rho/2 |u - v|^2, and masked rows are left where they were."""
    problem, rows, draw = case.problem, case.problem.rows, cases.seeded(5)
    v, h = 2 * cases.normal(*rows.y.shape, draw=draw), 2 * cases.normal(problem.N, problem.n, draw=draw)
    rho = torch.logspace(-1, 1, problem.N, dtype=torch.float64)[:, None]
    u, x = problem.prox_rows(v, rho), problem.prox_unknown(h, rho)
    unseen = ~rows.on & ~rows.off
    assert (u[unseen] == v[unseen]).all() and (row_excess(problem, u) <= 1e-12).all()
    for size in (1e-6, 1e-3, 0.1, 1.0):
        near = allowed_rows(problem, u + size * cases.normal(*u.shape, draw=draw))
        assert (row_value(problem, u, v, rho) <= row_value(problem, near, v, rho) + 1e-12).all()
        near = x + size * cases.normal(*x.shape, draw=draw)
        near = near.clamp(min=0) if problem.nonnegative else near
        assert (unknown_value(problem, x, h, rho) <= unknown_value(problem, near, h, rho) + 1e-12).all()


@pytest.mark.parametrize("case", [param for param in RANDOM[::3] if param.values[0].problem.form in ("ball", "interval")])
def test_prox_of_the_rows_leaves_what_is_allowed(case):
    """W h + b of a feasible h is where every bound holds: a prox without a misfit to fit stays there."""
    problem = case.problem
    v = problem.rows.W(case.feasible) + problem.rows.b
    moved = problem.prox_rows(v, torch.ones(problem.N, 1, dtype=torch.float64)) - v
    assert float(moved.abs().max()) <= 1e-12 * float(1 + v.abs().max())


def row_value(problem, u, v, rho):
    if problem.form == "excess":
        return problem.misfit.value(u, u) + (rho * (u - v) ** 2).sum(1) / 2
    return (problem.fit * (u - problem.rows.y) ** 2).sum(1) / 2 + (rho * (u - v) ** 2).sum(1) / 2


def misfit(problem, u):
    return (problem.rows.fit.sqrt() * (u - problem.rows.y)).norm(dim=1)


def row_excess(problem, u):
    """How far the rows u break what F allows, `(N,)`."""
    lo, hi = problem.limits()
    excess = torch.maximum(u - hi, lo - u).amax(1)
    return torch.maximum(excess, misfit(problem, u) - problem.eps) if problem.form == "ball" else excess


def allowed_rows(problem, u):
    """Rows near u that F allows: within their limits, and in the ball drawn towards y."""
    lo, hi = problem.limits()
    u = torch.minimum(torch.maximum(u, lo), hi)
    if problem.form != "ball":
        return u
    share = (problem.eps / misfit(problem, u).clamp(min=1e-300)).clamp(max=1)[:, None]
    return torch.where(problem.rows.on, problem.rows.y + share * (u - problem.rows.y), u)


def unknown_value(problem, x, h, rho):
    size = x.abs() if problem.absolute else x
    g = (problem.linear * size).sum(1) + (problem.quadratic * x * x).sum(1) / 2
    return g + (rho * (x - h) ** 2).sum(1) / 2


@pytest.mark.parametrize("case", RANDOM[::3])
def test_normalised_problem_is_the_same_problem(case):
    """|W| = 1, data of length 1; objectives differ by one factor per signal, violations by another."""
    scaled, problem = case.problem.normalised(), case.problem
    h = cases.normal(problem.N, problem.n, draw=cases.seeded(6))
    assert scaled.problem.rows.W.norm() == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(scaled.problem.rows.scale(), torch.ones(problem.N, dtype=torch.float64))
    data = scaled.problem.rows.W.norm() and problem.rows.scale()
    factor = (scaled.h_unit * scaled.p_unit * problem.rows.W.norm())[:, 0]
    torch.testing.assert_close(
        scaled.problem.objective(h / scaled.h_unit) * factor, problem.objective(h), rtol=1e-10, atol=0
    )
    h = h.abs() if problem.nonnegative else h  # h has another unit than the rows
    torch.testing.assert_close(
        scaled.problem.violation(h / scaled.h_unit) * data, problem.violation(h), rtol=1e-10, atol=1e-12
    )
    p = case.reference.p
    torch.testing.assert_close(scaled.problem.dual(p / scaled.p_unit) * factor, problem.dual(p), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", RANDOM[::3])
def test_opened_bounds_are_wider_by_what_was_asked(case):
    """No violation falls by more than the width, and it falls by the width where all rows open alike."""
    problem, width = case.problem, torch.linspace(0.1, 0.3, case.rows.N, dtype=torch.float64)
    h = 3 * cases.normal(problem.N, problem.n, draw=cases.seeded(7))
    h = h.abs() if problem.nonnegative else h
    before, after = problem.violation(h), problem.opened(width).violation(h)
    assert (after <= before).all() and (after >= before - width * (1 + 1e-9)).all()
    if problem.form == "interval" and bool((problem.rows.weight == 1).all()):
        torch.testing.assert_close(after, (before - width).clamp(min=0))


# --- trained generators ---------------------------------------------------------------------------


def read(real_generator, name):
    """The two decoders without bias are inverted with their own (Leaky)ReLU at the output, as their authors did."""
    G = real_generator(name).to(torch.float64)
    if not name.startswith("lei"):
        return G
    return G.with_output("leaky_relu" if "leaky" in name else "relu")


def two_of(views, index):
    """Of the four views of every other layer all-clean and masked-noise, of the rest all-noise and masked-clean."""
    return [case for number, case in enumerate(views) if (number in (0, 3)) == (index % 2 == 0)]


@pytest.mark.generators
@pytest.mark.parametrize("name", cases.DENSE_GENERATORS)
def test_rows_of_dense_generators_pass_the_checks(name, real_generator):
    G = read(real_generator, name)
    for index in range(G.depth):
        for case in two_of(cases.generator_cases(G, index), index):
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
    # every layer in two of the four views
    for index in range(cases.VIEWS.index(view) in (1, 2), G.depth, 2):
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


REAL = [
    *(("laug_vae_5_128_256_784", 1, name) for name in cases.NAMES if name not in cases.PURSUED),
    *(("csinva_vae_20_400_784", 1, name) for name in cases.BOUNDED if name not in cases.SIGNED),
    *(("csinva_vae_20_400_784", 0, name) for name in ("basis_pursuit_l2", "basis_pursuit_linf", "lasso")),
]


@pytest.mark.generators
@pytest.mark.parametrize(("generator", "index", "name"), REAL)
def test_every_problem_is_solved_on_trained_rows(generator, index, name, real_generator):
    """A middle, an image and a latent layer, with 1 % noise, in turn of all rows or 55 % of them: auto against CLARABEL."""
    G = real_generator(generator).to(torch.float64)
    layer = G.layers[index]
    for number, view in list(enumerate(cases.VIEWS[1::2]))[REAL.index((generator, index, name)) % 2 :: 2]:
        draw = cases.seeded(10 * index + number)
        h = cases.layer_input(G, index, 1, draw)
        spec = replace(view, slope=cases.slope_of(layer), penalty=1e-3)
        case = cases.layer_case(name, spec, layer.W, layer.b, h, draw)
        checks.check_statement(case)
        checks.check_bound(case)
        checks.check_fast(case, "auto")


@pytest.mark.generators
def test_a_trained_tanh_layer_with_saturated_pixels_is_a_linear_program(real_generator):
    """One pixel in ten is exactly 1 in float64, because its bias was raised by 25; the rest is as trained.

    Where such a pixel only says that its row is large, the interval is half a line, and h, which is feasible, is the
    ceiling. A pixel 2 eps outside tanh's range makes its signal infeasible, and the remark names its row.
    """
    G = real_generator("jay_gan_bn_128_256_512_784").to(torch.float64)
    layer, eps = G.layers[-1], 1e-3
    h = G.hidden(cases.normal(2, G.latent_dim, draw=cases.seeded(0)))[-1]
    raised = layer.b + 25.0 * (torch.arange(len(layer.b)) % 10 == 3)
    y = layer.activation(layer.W(h) + raised)
    assert 0.05 < float((y == 1).double().mean()) < 0.15
    for width in (0.0, 1e-8, eps):
        problem = ci.IntervalBasisPursuit.behind(layer.activation, layer.W, raised, y, width)
        assert torch.isinf(problem.hi[y + width >= 1]).all()
        solution = ci.solve(problem, on_fail="ignore")
        assert (solution.status == "optimal").all(), solution
        ceiling = h.sum(1) + (solution.p.abs().sum(1) * solution.certificate.violation)
        assert (solution.certificate.objective <= ceiling * (1 + 2e-6)).all()
    one = problem.take(torch.tensor([0]))
    exact = ci.solve(one, "HIGHS", on_fail="ignore")
    assert exact.status[0] == "optimal"
    assert float(exact.certificate.objective) == pytest.approx(float(solution.certificate.objective[0]), rel=4e-6)
    y[1, 7] = 1 + 2 * eps
    outside = ci.solve(ci.IntervalBasisPursuit.behind(layer.activation, layer.W, raised, y, eps), on_fail="ignore")
    assert outside.status.tolist() == ["optimal", "infeasible"] and "row 7 asks for" in outside.certificate.remark[1]


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
