"""Claims of the judge against optima that are known exactly, and the exactness itself: the small form of `soundness.py`."""

import json
from dataclasses import replace
from fractions import Fraction
from math import inf

import claims
import numpy as np
import pytest
import soundness
import torch
from claims import Claim, claims_of, faults
from exact import ExactProblem, Truth, exact, proved, rational, root, solve_rational
from soundness_cases import KINDS, draw, settled

import cvxinv as ci

HALF = Fraction(1, 2)


def one_row(kind: str, *, y: float = 1.0, number: float = 0.5, weight: float = 1.0, cap: float | None = None):
    """One unknown, one on row h against y, and an off row h <= cap where one is given."""
    t = lambda *rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731
    W, b, data, on = ([1.0],), [0.0], [y], [True]
    if cap is not None:
        W, b, data, on = ([1.0], [1.0]), [0.0, -cap], [y, 0.0], [True, False]
    on = torch.tensor([on])
    rows = ci.Rows(ci.Dense(t(*W)), t(*b), t(data), on, ~on, torch.where(on, weight, 1.0).double())
    if kind == "IntervalBasisPursuit":
        return ci.IntervalBasisPursuit(rows, rows.y - number, torch.where(on, rows.y + number, 0.0))
    return KINDS[kind](rows, number)


# --- exact numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [0.0, 1.0, -0.1, 3e300, -5e-324, 1e-150])
def test_floats_are_read_as_they_are(x):
    assert exact([x, 1.5]).fraction(0) == Fraction(x) and exact([x, 1.5]).fraction(1) == Fraction(3, 2)


def test_sums_and_products_are_those_of_rationals():
    a, b = exact([0.1, -3.0, 1e-20]), rational([Fraction(1, 3), Fraction(2, 7), Fraction(0)])
    pairs = list(zip([Fraction(0.1), Fraction(-3), Fraction(1e-20)], [Fraction(1, 3), Fraction(2, 7), 0], strict=True))
    assert [(a + b).fraction(k) for k in range(3)] == [x + y for x, y in pairs]
    assert [(a - b).fraction(k) for k in range(3)] == [x - y for x, y in pairs]
    assert (a * b).total() == (a @ b).fraction() == sum(x * y for x, y in pairs)


@pytest.mark.parametrize("x", [Fraction(2), Fraction(1, 3), Fraction(10**41), Fraction(3, 10**300)])
def test_a_root_is_enclosed_in_sixty_digits(x):
    low, high = root(x)
    assert low * low < x < high * high and (high - low) / low < Fraction(1, 10**55)


@pytest.mark.parametrize("x", [Fraction(0), Fraction(1, 4), Fraction(9, 2**200), Fraction(25 * 2**900)])
def test_the_root_of_a_square_is_exact(x):
    low, high = root(x)
    assert low == high and low * low == x


def test_equations_are_solved_in_rationals_where_they_have_a_solution():
    """x + 2 y = 3 twice and y + z = 1/3: z is free, y = 1/3, x = 7/3. With 3 and 4 on the right there is none."""
    M = exact([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    third = Fraction(1, 3)
    x = solve_rational(M, rational([Fraction(3), Fraction(3), third]))
    assert [x.fraction(k) for k in range(3)] == [7 * third, third, 0]
    assert solve_rational(M, rational([Fraction(3), Fraction(4), third])) is None


# --- problems worked by hand ----------------------------------------------------------------------

HAND = [
    # 1/2 (h - 1)^2 + h/2: h = 1/2, 1/8 + 1/4
    ("NonnegativeLasso", {}, 0.5, -0.5, Fraction(3, 8)),
    # the same mirrored
    ("Lasso", {"y": -1.0}, -0.5, 0.5, Fraction(3, 8)),
    # 1/2 (h - 1)^2 + h^2 / 4: h = 2/3 is no float; with the weight 1/2 on the misfit h = 1/2, and p = w (h - 1) = -1/4
    ("GaussianLatent", {"weight": 0.5}, 0.5, -0.25, Fraction(1, 8)),
    ("BasisPursuitL2", {"y": -1.0}, -0.5, 1.0, HALF),
    # the weight 4 doubles the misfit: 2 |h - 1| <= 1/2
    ("NonnegativeBasisPursuitL2", {"weight": 4.0}, 0.75, -1.0, Fraction(3, 4)),
    ("BasisPursuitLinf", {"y": -1.0}, -0.5, 1.0, HALF),
    ("NonnegativeBasisPursuitLinf", {"weight": 4.0}, 0.75, -1.0, Fraction(3, 4)),
    ("IntervalBasisPursuit", {}, 0.5, -1.0, HALF),
]


@pytest.mark.parametrize(("kind", "given", "h", "p", "optimum"), HAND)
def test_objective_and_bound_meet_at_the_hand_answer(kind, given, h, p, optimum):
    problem = ExactProblem(one_row(kind, **given))
    assert proved(problem, 0, np.array([h]), np.array([p])) == Truth(optimum, optimum, Fraction(h) ** 2, Fraction(0))
    moved = proved(problem, 0, np.array([h * 1.25]), np.array([p]))
    assert moved.upper == inf or moved.upper > optimum
    assert proved(problem, 0, np.array([h]), np.array([p / 2])).lower < optimum
    assert problem.bound(0, np.array([p * 2])) is None or problem.bound(0, np.array([p * 2])) < optimum


# the optimum within an l2 bound is no rational number in general
@pytest.mark.parametrize(("kind", "given", "h", "p", "optimum"), [hand for hand in HAND if not hand[0].endswith("L2")])
def test_the_activity_of_a_rough_point_leads_to_the_hand_answer(kind, given, h, p, optimum):
    problem = one_row(kind, **given)
    found = settled(ExactProblem(problem), 0, [(np.array([h * 1.01]), np.array([p * 0.9]))])
    assert found.lower == found.upper == optimum


def test_excess_is_read_row_by_row_beside_its_size():
    """h = 1/2 against the cap 1/4: the excess is 1/4, and |w||h| + |b| = 3/4 is added up there."""
    problem = ExactProblem(one_row("NonnegativeLasso", cap=0.25))
    assert problem.weigh(0, np.array([0.5])).excess == {1: (Fraction(1, 4), Fraction(3, 4))}
    assert problem.weigh(0, np.array([-0.5])).below == HALF


def test_a_ray_says_how_far_apart_bounds_are():
    """h <= -1 and h >= 1 as off rows of length 1 and 1/2: some excess is at least 2 / (1 + 2)."""
    W, b = torch.tensor([[1.0], [-0.5]], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)
    none = torch.zeros(1, 2, dtype=torch.bool)
    problem = ExactProblem(ci.GaussianLatent(ci.Rows(ci.Dense(W), b, torch.zeros(1, 2).double(), none), 1.0))
    assert problem.apart(0, np.array([1.0, 2.0])) == Fraction(2, 3)
    assert problem.apart(0, np.array([1.0, 1.0])) == 0


@pytest.mark.parametrize("seed", [seed for seed in range(48) if "real" not in draw(seed).features])
def test_what_was_drawn_is_optimal(seed):
    """`proved` evaluates (P) and (D) from their equations and knows nothing of how the pair was drawn."""
    drawn = draw(seed)
    assert all(t.known or t.lower == inf or "contradiction: bound too short" in drawn.features for t in drawn.truths)


# --- planted faults -------------------------------------------------------------------------------


def judged(problem, h: float, p: float | None = None, **changes) -> list[str]:
    """The faults of the claim `optimal` on h, with its fields changed."""
    objective = float(problem.objective(torch.tensor([[h]], dtype=torch.float64)))
    claim = replace(Claim("optimal", objective, 0.0, True, inf, ""), **changes)
    known = ExactProblem(problem)
    truth = Truth(Fraction(3, 8), Fraction(3, 8), Fraction(1, 4), Fraction(0))
    return faults(known, 0, claim, known.weigh(0, np.array([h])), truth)


LASSO = one_row("NonnegativeLasso")


def test_a_true_claim_has_no_fault():
    """h = 1/2 + d costs d^2 / 2 more than 3/8; 3.75e-7 is allowed: d = 8.6e-4 is right and 8.7e-4 is not."""
    assert judged(LASSO, 0.5) == judged(LASSO, 0.5 + 8.6e-4) == []
    assert judged(LASSO, 0.5 + 8.7e-4) == ["above"]


def test_a_lie_of_each_kind_is_told():
    truth = Fraction(3, 8)
    assert judged(LASSO, 0.6) == ["above"]
    assert judged(LASSO, 0.5, bound=float(truth) * (1 + 1e-15)) == ["bound"]
    assert judged(LASSO, 0.5, bound=float(truth)) == []
    assert judged(LASSO, 0.5, status="infeasible") == ["feasible"]
    assert judged(LASSO, 0.5, status="numerical_error") == ["no number"]
    assert judged(LASSO, 0.5, scope=10.0) == ["silent"]
    assert judged(LASSO, 0.5, scope=10.0, remark="for |h| <= 10 only") == []
    assert judged(LASSO, 0.6, scope=0.4, remark="for |h| <= 0.4 only") == ["scoped"]
    assert judged(LASSO, 0.6, status="user_limit") == []


def test_violations_are_told_from_each_other():
    """y = 4, so that s_y = 4: 1e-6 s_y = 4e-6, and in a row of size 1/2 only 5e-7 is no excess."""
    problem, known = one_row("NonnegativeLasso", y=4.0, cap=0.25), Truth(Fraction(-1), Fraction(100))
    told = lambda h: faults(  # noqa: E731
        ExactProblem(problem), 0, Claim("optimal", 0, 0, True, inf, ""), ExactProblem(problem).weigh(0, np.array([h])), known
    )
    assert told(0.25 + 4.9e-7) == []
    assert told(0.25 + 6e-7) == ["row size"]
    assert told(0.25 + 5e-6) == ["row", "row size"]
    assert told(-1e-3) == ["sign"]
    ball = ExactProblem(one_row("BasisPursuitL2"))
    claim = Claim("optimal", 0.5, 0.0, True, inf, "")
    assert faults(ball, 0, claim, ball.weigh(0, np.array([0.5 - 4e-7])), Truth(Fraction(0), HALF)) == []
    assert faults(ball, 0, claim, ball.weigh(0, np.array([0.5 - 6e-7])), Truth(Fraction(0), HALF)) == ["ball"]


def test_a_misstated_excess_is_told():
    problem = ExactProblem(one_row("NonnegativeLasso", cap=0.25))
    claim, weighed = Claim("user_limit", 0.0, 0.0, True, inf, ""), problem.weigh(0, np.array([0.5]))
    truth = Truth(Fraction(-1), Fraction(100))
    for stated, told in (([0.0, 0.25], []), ([0.0, 0.25 + 1e-15], []), ([0.0, 0.0], ["misstated"])):
        assert faults(problem, 0, replace(claim, violations=np.array(stated)), weighed, truth) == told


def test_a_broken_row_that_no_h_moves_needs_a_remark():
    """s_y = 1 and the dead row asks for 5e-7 <= 0: it is no limit, and the remark has to say so."""
    W, b = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.tensor([0.0, 5e-7], dtype=torch.float64)
    y, on = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[True, False]])
    problem = ExactProblem(ci.NonnegativeLasso(ci.Rows(ci.Dense(W), b, y, on), 0.5))
    truth, weighed = proved(problem, 0, np.array([0.5]), np.array([-0.5, 0.0])), problem.weigh(0, np.array([0.5]))
    assert truth.known and truth.upper == Fraction(3, 8)
    claim = Claim("optimal", 0.375, 0.375, True, inf, "")
    assert faults(problem, 0, claim, weighed, truth) == ["silent"]
    assert faults(problem, 0, replace(claim, remark="row 1 is broken by 5e-07 and no h can move it"), weighed, truth) == []


def test_below_the_optimum_is_false_where_both_sides_are_claimed():
    known, problem = ExactProblem(LASSO), Truth(HALF, HALF, Fraction(0), Fraction(0))
    claim = Claim("optimal", 0.375, 0.375, True, inf, "")
    weighed = known.weigh(0, np.array([0.5]))
    assert faults(known, 0, claim, weighed, problem) == ["below"]
    assert faults(known, 0, replace(claim, two_sided=False), weighed, problem) == ["one-sided"]
    nothing = Truth(inf, inf, Fraction(0), Fraction(0), Fraction(1, 10**7))
    assert faults(known, 0, claim, weighed, nothing) == ["no optimum"]
    assert "hopeless" in faults(known, 0, claim, weighed, replace(nothing, apart=Fraction(1, 10**5)))


def test_a_judge_that_calls_everything_optimal_is_caught(monkeypatch):
    certify = ci.certify

    def lies(*given, **more):
        found = certify(*given, **more)
        return replace(found, status=np.full(len(found), "optimal", dtype="<U18"))

    monkeypatch.setattr(ci, "certify", lies)
    report = soundness.examine(24)
    assert report.wrong and {fault for fault, source, _, _ in report.wrong if source not in soundness.solvers_of(LASSO)} & {
        "above"
    }


def test_a_judge_whose_verdict_depends_on_the_batch_is_caught(monkeypatch):
    certify = ci.certify

    def lies(problem, *given, **more):
        found = certify(problem, *given, **more)
        return replace(found, status=np.full(len(found), "user_limit", dtype="<U18")) if problem.N == 1 else found

    monkeypatch.setattr(ci, "certify", lies)
    reports = soundness.Report()
    for seed in (14, 41):
        reports.add(soundness.examine(seed))
    assert any(key[0] == "certify: status" for key in reports.batch) and reports.faults


def test_an_exception_is_counted_and_the_rest_goes_on(monkeypatch):
    def breaks(problem, h, p=None, **more):
        raise RuntimeError("no")

    monkeypatch.setattr(ci, "certify", breaks)
    report = soundness.examine(24)
    assert any(words == "RuntimeError: no" for words, *_ in report.broken) and report.number > 0


WORKER = """
import json, os, sys, time
seeds, skip = json.loads(sys.argv[2])
for seed in seeds:
    for label in ("auto | solve", "a lie | h"):
        if label not in skip.get(str(seed), ()):
            print(json.dumps({"at": [seed, label]}), flush=True)
            if label == "a lie | h" and seed == 3:
                %s
    print("what a solver says", flush=True)
    print(json.dumps({"seed": seed, "report": %s}), flush=True)
"""


@pytest.mark.parametrize(
    ("end", "word"), [("os.abort()", "abort, signal 6"), ("time.sleep(60)", "hang"), ("sys.exit(5)", "exit code 5")]
)
def test_an_abort_or_a_hang_is_laid_at_the_call_that_made_it(tmp_path, end, word):
    empty = json.dumps(soundness.Report(claims=soundness.Counter({("auto", "solve", "Lasso", "optimal"): 1})).record())
    (tmp_path / "worker.py").write_text(WORKER % (end, empty))
    total = soundness.Report()
    for report in soundness.attended([2, 3, 4], str(tmp_path / "worker.py"), silence=2.0):
        total.add(report)
    assert dict(total.broken) == {(word, "a lie", "h", "BasisPursuitL2"): 1}
    assert total.number == 3 and total.kept[0]["seed"] == 3


def test_certificates_without_sides_and_scopes_speak_of_both_sides_and_everywhere():
    found = claims_of(ci.certify(LASSO, np.array([0.5])))[0]
    assert found.status == "optimal" and found.scope == inf


def test_a_false_claim_is_printed_as_a_script_that_runs(capsys):
    kept = {"seed": 24, "source": "h moved by 0.01", "how": "h", "signal": 0, "fault": "above", "p": None}
    text = soundness.script(kept | {"h": [(0.5).hex()] * draw(24).problem.n})
    exec(compile(text, "script", "exec"), {})
    assert capsys.readouterr().out


# --- the judge ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick() -> soundness.Report:
    return soundness.run(2000, seed=4, processes=1, progress=False)


def test_no_claim_is_false(quick):
    false = {key: n for key, n in quick.wrong.items() if key[0] in claims.FALSE}
    assert quick.number >= 2000 and not false, quick.kept[:3]


def test_no_call_breaks_and_no_verdict_depends_on_the_batch(quick):
    assert not quick.broken and not [key for key in quick.batch if key[0].startswith("certify")]


def test_the_judge_knows_an_optimum_when_it_is_shown_one(quick):
    """Rows and columns of like length: h with its p is optimal. A judge that refuses everything is of no use."""
    shown = {
        key: n for key, n in quick.reached.items() if key[0] == soundness.TRUE and key[1] == "h, p" and key[3] == "none"
    }
    assert sum(n for key, n in shown.items() if key[4] == "optimal") >= 20
    assert not sum(n for key, n in shown.items() if key[4] == "not")
