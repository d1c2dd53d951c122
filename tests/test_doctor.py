"""The check-up: what it says of an installation, that its answers are right, and that a broken solver is found."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.command import cli, doctor
from cvxinv.command.doctor import CERTIFIED, FAILED, NOT_INSTALLED, Checkup, run_doctor


@pytest.fixture(scope="module")
def checkup() -> Checkup:
    return run_doctor(progress=False)


def test_every_solver_is_tried_and_gives_a_certified_answer(checkup: Checkup):
    assert [trial.solver for trial in checkup.trials if trial.device == "cpu"] == list(ci.SOLVERS)
    bad = [trial for trial in checkup.trials if trial.status not in (CERTIFIED, NOT_INSTALLED)]
    assert not bad and checkup.passed
    assert sum(trial.seconds or 0 for trial in checkup.trials) < 60


@pytest.mark.parametrize("known", doctor._known("cpu"), ids=lambda known: known.name)
def test_the_known_answers_are_optimal(known):
    # worked out by hand in the module's docstring; the judge and the objective there agree with it
    certificate = ci.certify(known.problem, np.array([known.h]))
    assert certificate.holds.all()
    objective = {"cap": 1.42, "open": 1.295, "fit": 0.0, "chain": 1.295, "ball": 5.0}[known.name]
    assert float(certificate.objective) == pytest.approx(objective, abs=1e-12)


def test_versions_are_the_installed_ones(checkup: Checkup):
    assert checkup.versions["torch"].startswith(torch.__version__.partition("+")[0])
    assert checkup.versions["cvxinv"] == ci.__version__
    assert checkup.versions["python"] == sys.version.split()[0]
    assert "GPL-3.0" in checkup.solvers["ECOS"] and set(checkup.solvers) <= set(ci.SOLVERS)


def test_a_missing_backend_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    from cvxinv.solvers import reference

    real = reference.importlib.util.find_spec
    monkeypatch.setattr(reference.importlib.util, "find_spec", lambda name, *a: None if name == "ecos" else real(name, *a))
    monkeypatch.setattr(doctor, "SOLVERS", ("auto", "ECOS"))
    found = run_doctor(progress=False)
    assert [trial.status for trial in found.trials if trial.device == "cpu"] == [CERTIFIED, NOT_INSTALLED] and found.passed
    assert found.solvers["ECOS"].startswith("not installed: pip install") and "pip install" in found.trials[1].words


def spoiled(change):
    """`solve` whose answers `change` spoils."""

    def solve(problem, solver, **options):
        return change(ci.solve(problem, solver, **options), problem)

    return solve


def test_a_wrong_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch):
    def shift(solution, problem):
        h = solution.h + 0.01
        return replace(solution, h=h, certificate=ci.certify(problem, ci.Point(h, solution.p)))

    monkeypatch.setattr(doctor, "solve", spoiled(shift))
    trial = doctor._try("interior_point", "cpu")
    assert trial.status == FAILED and "judged user_limit" in trial.words and "h is off by 1.0e-02" in trial.words


def test_a_certificate_alone_is_not_enough(monkeypatch: pytest.MonkeyPatch):
    # another problem's optimum would be certified for that problem; the known answer tells it
    monkeypatch.setattr(doctor, "solve", spoiled(lambda solution, problem: replace(solution, h=solution.h * 2)))
    trial = doctor._try("auto", "cpu")
    assert trial.status == FAILED and "h is off by" in trial.words and "judged" not in trial.words


@pytest.mark.parametrize("error", [ImportError("libx.so is missing"), RuntimeError("broken"), ZeroDivisionError()])
def test_whatever_breaks_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def solve(problem, solver, **options):
        if solver == "OSQP":
            raise error
        return ci.solve(problem, solver, **options)

    monkeypatch.setattr(doctor, "solve", solve)
    monkeypatch.setattr(doctor, "SOLVERS", ("auto", "OSQP", "interior_point"))
    found = run_doctor(progress=False)
    assert [trial.status for trial in found.trials[:3]] == [CERTIFIED, FAILED, CERTIFIED] and not found.passed
    assert type(error).__name__ in found.trials[1].words


def test_a_solver_that_refuses_everything_has_failed(monkeypatch: pytest.MonkeyPatch):
    def solve(problem, solver, **options):
        raise ValueError("it serves nothing")

    monkeypatch.setattr(doctor, "solve", solve)
    trial = doctor._try("auto", "cpu")
    assert trial.status == FAILED and "refuses every problem of the self-test: it serves nothing" in trial.words


def test_tf32_is_warned_of_and_nothing_is_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert doctor._warnings({"torch.backends.cuda.matmul.allow_tf32": "False", "torch.x.fp32_precision": "ieee"}) == []
    (warning,) = doctor._warnings({"torch.backends.cudnn.allow_tf32": "True", "torch.x.fp32_precision": "tf32"})
    assert "torch.backends.cudnn.allow_tf32, torch.x.fp32_precision" in warning


def test_without_a_card_tf32_is_shown_and_not_warned_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor._warnings({"torch.backends.cudnn.allow_tf32": "True", "torch.x.fp32_precision": "tf32"}) == []
    assert "torch.backends.cudnn.allow_tf32" in doctor._precision()


def test_flags_that_this_torch_does_not_have_are_left_out():
    assert doctor._flag("backends.cudnn.no_such_flag") is None
    assert doctor._flag("backends.cudnn.benchmark") == str(torch.backends.cudnn.benchmark)


# --- command --------------------------------------------------------------------------------------


def test_the_command_prints_json_and_nothing_else(monkeypatch: pytest.MonkeyPatch, checkup: Checkup):
    monkeypatch.setattr(cli, "run_doctor", lambda: checkup)
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["passed"] is True
    assert [trial["solver"] for trial in found["trials"]] == [trial.solver for trial in checkup.trials]
    assert set(found) == {"versions", "solvers", "devices", "precision", "warnings", "trials", "passed"}


def test_the_command_names_what_failed_and_exits_with_1(monkeypatch: pytest.MonkeyPatch, checkup: Checkup):
    broken = replace(checkup.trials[0], status=FAILED, words="judged user_limit [gap]")
    monkeypatch.setattr(cli, "run_doctor", lambda: replace(checkup, trials=(broken, *checkup.trials[1:])))
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 1 and f"failed: {broken.solver}" in result.stdout
    assert "judged user_limit [gap]" in " ".join(result.stdout.split())


def test_the_tables_show_versions_solvers_and_install_commands(monkeypatch: pytest.MonkeyPatch, checkup: Checkup):
    missing = replace(checkup, versions=checkup.versions | {"matplotlib": "not installed: pip install matplotlib"})
    monkeypatch.setattr(cli, "run_doctor", lambda: missing)
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    for words in ("pip install matplotlib", *ci.SOLVERS, "allow_tf32", "every installed solver gives certified answers"):
        assert words in result.stdout, words


@pytest.mark.gpu
def test_a_card_is_named_and_tried():
    found = run_doctor(progress=False)
    assert torch.cuda.get_device_name(0) in found.devices["cuda:0"]
    assert [t.status for t in found.trials if t.device == "cuda:0"] == [CERTIFIED]
