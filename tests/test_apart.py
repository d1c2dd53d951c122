"""HiGHS in a process of its own: the same answers as in this one, and an abort costs the try that met it."""

import warnings

import pytest
import torch
from cases import NAMES, SQUARED, dense_case, dense_specs

import cvxinv as ci
from cvxinv.solvers import apart

pytest.importorskip("highspy", reason="HiGHS is not installed")
QUADRATIC = [dense_case(name, dense_specs(name)[0]) for name in NAMES if name in SQUARED]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> apart.Apart:
    """A process that no other test shares."""
    process = apart.Apart()
    monkeypatch.setattr(apart, "HIGHS_QP", process)
    return process


@pytest.mark.parametrize("case", QUADRATIC, ids=repr)
def test_answers_are_those_of_highs_in_this_process(case, own: apart.Apart):
    problem = case.problem
    statement = problem.statement(problem.rows.sample(0), 0, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statement.problem.solve("HIGHS", time_limit=60.0, parallel="off")
        here, p_here = statement.h.value.copy(), [c.dual_value.copy() for c in statement.problem.constraints]
        apart.solve_apart(statement.problem, {"time_limit": 60.0, "parallel": "off"})
    assert (here == statement.h.value).all()
    assert all((a == c.dual_value).all() for a, c in zip(p_here, statement.problem.constraints, strict=True))
    assert statement.problem.solver_stats.num_iters is not None and own.died == 0


def aborting(monkeypatch: pytest.MonkeyPatch, on: int) -> list[int]:
    """From now on the process aborts while it solves request number `on`; returns the list of requests made."""
    asked: list[int] = []
    send = apart._send

    def sent(pipe, content):
        asked.append(len(asked))
        if asked[-1] == on:
            # what abort() looks like from here: the process is gone while its answer is waited for
            apart.HIGHS_QP._process.kill()
        send(pipe, content)

    monkeypatch.setattr(apart, "_send", sent)
    return asked


def test_abort_costs_one_try_of_one_signal(own: apart.Apart, monkeypatch: pytest.MonkeyPatch):
    problem = QUADRATIC[0].problem
    asked = aborting(monkeypatch, on=1)
    solution = ci.solve(problem, "HIGHS", polish=False, on_fail="ignore", progress=False)
    assert own.died == 1 and len(asked) >= problem.N
    # the second try, without the normal equations, answers; and so do the signals after it
    good = torch.tensor([word.startswith("optimal") for word in solution.solver_status])
    assert good.sum() >= problem.N - 1 and problem.N > 2
    assert "aborted" in " ".join(solution.solver_status) or good.all()


def test_abort_without_a_second_try_is_said(own: apart.Apart, monkeypatch: pytest.MonkeyPatch):
    problem = QUADRATIC[0].problem
    monkeypatch.setattr(apart.Apart, "_running", lambda self: (_ for _ in ()).throw(apart.DiedError("HIGHS aborted")))
    solution = ci.solve(problem, "HIGHS", polish=False, on_fail="ignore", progress=False)
    assert set(solution.status) == {"numerical_error"}
    assert all("HIGHS aborted" in word for word in solution.solver_status)


def test_process_that_hangs_is_stopped(own: apart.Apart, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(apart, "_GRACE", -0.99)
    hanging = ["-c", "import sys, time; sys.stdin.buffer.read(1); time.sleep(60)"]
    monkeypatch.setattr(apart, "_COMMAND", hanging)
    with pytest.raises(apart.DiedError, match="exit status -"):
        own.solve({}, False, {"time_limit": 1.0})
    assert own.died == 1


def test_wrong_option_is_an_error_and_not_an_abort(own: apart.Apart):
    problem = QUADRATIC[0].problem.take(torch.tensor([0]))
    solution = ci.solve(problem, "HIGHS", on_fail="ignore", progress=False, solver_options={"no_such_option": 1})
    assert own.died == 0 and solution.solver_status[0].startswith("error")
