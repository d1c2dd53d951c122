"""Exercises: reference solutions pass, planted faults are refused by their line, and no submission breaks the check."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import exercising
import numpy as np
import pytest
import torch
from exercise_faults import FAULTS
from exercising import SOLUTIONS, instances, source
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.command.cli import app
from cvxinv.teaching import network_exercises, running
from cvxinv.teaching.exercise import Finding, instances_of
from cvxinv.teaching.grading import Grade, Result, check_submission, judged
from cvxinv.teaching.known import EXERCISES, exercise_named
from cvxinv.teaching.running import Returned, run_submission
from cvxinv.teaching.words import page_table, skeleton

ROOT = Path(__file__).resolve().parents[1]
NAMES = [exercise.name for exercise in EXERCISES]
POINTS = {x.name for x in EXERCISES if x.judge.__name__ == "judge_point"}
QUICK = {"nonnegative_lasso", "lasso", "normalised_lasso"}  # of the layer problems, whose instances are costly to draw
MASKS = exercise_named("masks")


def slow_but(name):
    return (pytest.mark.slow,) if name in POINTS - QUICK else ()


PLANTED = [
    pytest.param(name, fault, id=f"{name}-{k}", marks=slow_but(name))
    for name in FAULTS
    for k, fault in enumerate(FAULTS[name])
]


# --- what there is ------------------------------------------------------------------------------------


def test_there_are_exercises_solutions_and_faults_for_all():
    assert len(NAMES) == len(set(NAMES)) >= 30
    assert {path.stem for path in SOLUTIONS.glob("*.py")} == set(NAMES) == set(FAULTS)
    assert all(len(faults) >= 3 for faults in FAULTS.values())
    assert len(PLANTED) >= 90
    for name, faults in FAULTS.items():
        assert all(fault.old in source(name) for fault in faults), name


def test_no_solution_is_in_the_package():
    assert not [path for path in (ROOT / "cvxinv").rglob("*.py") if "exercise_solutions" in path.read_text()]


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow_but(name)) for name in NAMES])
def test_the_reference_solution_passes(name):
    grade = exercising.grade(name, source(name))
    assert grade.passed, grade.first


@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_a_planted_fault_is_refused_by_its_line(name, fault):
    grade = exercising.grade(name, source(name).replace(fault.old, fault.new), 2)
    refused = [result for result in grade.results if result.kind == "refused"]
    assert refused and not grade.passed
    for result in refused:
        assert result.finding.line.startswith(fault.lines), result
        assert not result.finding.amount <= result.finding.allowed, result  # NaN: a line without a number
    assert fault.meaning in " | ".join(grade.meanings), grade.meanings


def test_instances_are_those_of_the_seed_and_the_first_is_the_one_shown():
    one, again, other = (instances_of(MASKS, seed) for seed in (1, 1, 2))
    same = [np.array_equal(a.arguments["y"], b.arguments["y"], equal_nan=True) for a, b in zip(one, other, strict=True)]
    assert same == [True, False, False]
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a.arguments["y"], b.arguments["y"])


def test_no_instance_is_left_out_where_no_draw_serves(monkeypatch):
    monkeypatch.setattr(network_exercises, "solved", lambda problem: None)
    with pytest.raises(AssertionError, match="no draw of 200 served"):
        list(exercise_named("lagrangian").draw(np.random.default_rng(1)))


@pytest.mark.parametrize("name", ["masks", "prox_unknown", "spark"])
def test_an_answer_learnt_by_heart_fails(name):
    """The shown instance's answer, whatever is asked."""
    shown = instances(name)[0]
    fixed = {key: value.tolist() for key, value in shown.known.expected.items()}
    grade = exercising.grade(name, f"def answer(*_):\n    return {fixed!r}\n")
    assert grade.results[0].kind == "passed" and not grade.passed


# --- the judge ----------------------------------------------------------------------------------------


def test_the_line_that_is_named_fails_where_it_says_by_hand():
    """Half of lam on the shown instance: W'p + lam, computed here, is below 0 or beside an h above 0 at the unknown."""
    instance = instances("nonnegative_lasso")[0]
    grade = exercising.grade("nonnegative_lasso", source("nonnegative_lasso").replace(") / 2\n", ")\n"), 1)
    finding = grade.results[0].finding
    k = int(finding.place.removeprefix("unknown "))
    given = instance.arguments
    half = instance.known.problem
    h = ci.solve(ci.NonnegativeLasso(half.rows, half.lam / 2)).h[0].numpy()
    p_on = (given["W"] @ h + given["b"] - given["y"])[given["on"]]
    p_off = instance.known.p[0].numpy()[given["off"]]
    slope = given["W"][given["on"]].T @ p_on + given["W"][given["off"]].T @ p_off + given["lam"]
    amount = -slope[k] if finding.line == "W'p + lam >= 0" else h[k] * slope[k]
    assert finding.amount == pytest.approx(amount, rel=1e-3)


def test_meanings_are_those_that_all_refused_instances_share():
    def refused(*meanings):
        finding = Finding("a line", meanings=meanings)
        return Result("x", "refused", "", finding)

    assert Grade("x", (refused("a", "b"), refused("b", "c"), refused()), 0).meanings == ("b",)
    assert Grade("x", (refused("a"), refused("b")), 0).meanings == ("a",)
    assert Grade("x", (refused(), refused()), 0).meanings == ()


def test_the_least_misfit_of_one_latent_is_that_of_a_proof():
    instance = instances("global_bound")[0]
    net, least = instance.known
    R = instance.arguments["R"]
    proof = ci.prove(net.generator(), torch.from_numpy(instance.arguments["y"])[None], box=R, gap=1e-6, progress=False)
    assert proof.status[0] == "proved_optimal"
    assert float(proof.bound[0]) <= least * (1 + 1e-9)
    assert float(proof.misfit[0]) == pytest.approx(least, rel=1e-6)


def test_faster_and_right_is_asked_of_the_batched_solver(monkeypatch):
    instance = instances("beat_fista")[0]
    H = ci.solve(instance.known).h.numpy()
    monkeypatch.setattr(network_exercises, "_fista_seconds", lambda problem, enough: (1.0, True))
    kinds = [judged(exercise_named("beat_fista"), instance, Returned("answer", "", {"0": H}, s)).kind for s in (0.5, 2.0)]
    assert kinds == ["passed", "refused"]


FORGED = """import json, os, sys, time
time.process_time = time.perf_counter = time.monotonic = lambda: 0.0
k = -1
def answer(y):
    global k
    k += 1
    seen = sorted(name for name in os.listdir(sys.argv[1]) if name.endswith(".npz") and "out" not in name)
    assert seen == [f"{j}.npz" for j in range(k + 1)], seen  # none lies there before its time
    if k == 2:
        open(f"{sys.argv[1]}/2.json", "w").write(json.dumps({"kind": "answer", "seconds": 0.0}))
    os.system("sleep 0.3")
    return y > 0, y == 0
"""


def test_the_time_of_an_answer_is_taken_outside_and_none_can_be_had_ahead(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FORGED)
    ran = run_submission(file, instances_of(MASKS, 1), 30.0)
    assert [found.kind for found in ran.returned[:2]] == ["answer"] * 2 and all(f.seconds >= 0.3 for f in ran.returned[:2])
    assert ran.returned[2].kind == "crash"  # a word of an answer before the answer is there


# --- processes ----------------------------------------------------------------------------------------

STRANGE = {
    "exit": ("import sys\ndef answer(y):\n    sys.exit(0)", "exit"),
    "hard exit": ("import os\nos._exit(7)", "exit"),
    "import": ("import nothing_of_this_name", "crash"),
    "syntax": ("def answer(y:", "crash"),
    "no function": ("h = 1", "no answer"),
    "killed": ("import os\ndef answer(y):\n    os.kill(os.getpid(), 11)", "crash"),
    "memory": ("import numpy as np\ndef answer(y):\n    return np.ones(10**11)", "memory"),
    "hang": ("def answer(y):\n    while True: pass", "time limit"),
    "printing": ("def answer(y):\n    while True: print('x' * 10**7)", "output"),
    "None": ("def answer(y):\n    pass", "no answer"),
    "words": ("def answer(y):\n    return 'on', 'off'", "no answer"),
    "objects": ("def answer(y):\n    return object()", "no answer"),
    "ragged": ("def answer(y):\n    return [[1], [1, 2]], 0", "no answer"),
    "shape": ("def answer(y):\n    return y[:2] * 0, y * 0", "shape"),
    "too many": ("def answer(y):\n    return y > 0, y == 0, y", "shape"),
    "too few": ("def answer(y):\n    return (y > 0,)", "shape"),
    "NaN": ("def answer(y):\n    return y, y", "shape"),
    "recursion": ("def answer(y):\n    return answer(y)", "crash"),
    "children": ("import subprocess\ndef answer(y):\n    subprocess.Popen(['sleep', '77'])\n    return 1 / 0", "crash"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_whatever_a_submission_does_is_an_answer(what, tmp_path):
    text, kind = STRANGE[what]
    file = tmp_path / "mine.py"
    file.write_text(text)
    grade = check_submission(MASKS, file, 1, time_limit=2.0 if what == "hang" else 30.0)
    assert grade.first is not None and grade.first.kind == kind, grade.results
    assert grade.first.words and "Traceback" not in grade.first.words
    assert len(grade.printed) <= 2000


@pytest.mark.skipif(os.name != "posix", reason="a kill that nothing can catch is one of POSIX")
def test_a_submission_ends_with_a_grader_that_is_killed(tmp_path):
    file, sign = tmp_path / "mine.py", tmp_path / "sign"
    file.write_text(
        f"from pathlib import Path\n\ndef answer(y):\n    while True:\n        Path({str(sign)!r}).write_text('x')\n"
    )
    grader = subprocess.Popen([sys.executable, "-m", "cvxinv", "exercise", "check", "masks", str(file)])
    try:
        until = time.monotonic() + 60
        while not sign.exists():
            assert time.monotonic() < until and grader.poll() is None
            time.sleep(0.05)
    finally:
        grader.kill()
        grader.wait()
    until = time.monotonic() + 30
    while sign.exists():  # whoever is alive writes it again
        assert time.monotonic() < until, "the submission is alive"
        sign.unlink(missing_ok=True)
        time.sleep(1.5)


def test_the_run_ends_at_the_first_failure_and_says_so(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def answer(y):\n    print(len(y))\n    assert len(y) < 10, 'too long for me'\n    return y > 0, y == 0\n"
    )
    ran = run_submission(file, instances_of(MASKS, 1), 30.0)
    assert [found.kind for found in ran.returned] == ["answer", "crash", "not asked"]
    assert ran.returned[1].words == "AssertionError: too long for me (line 3 of mine.py)"
    assert ran.printed.split() == ["7", "12"]


def test_a_submission_cannot_write_its_own_verdict(tmp_path):
    """All that is taken from its process are arrays, which are judged here."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import glob, json, sys\ndef answer(y):\n    for k in range(3):\n"
        "        open(f'{sys.argv[1]}/{k}.json', 'w').write(json.dumps({'kind': 'passed', 'words': '', 'passed': True}))\n"
        "    import os; os._exit(0)\n"
    )
    assert not check_submission(MASKS, file, 1, time_limit=30.0).passed


SPOILT = {
    "verdict": "open(f'{sys.argv[1]}/0.json', 'w').write('no JSON')",
    "answer": "open(f'{sys.argv[1]}/0.json', 'w').write(json.dumps({'kind': 'answer', 'seconds': 0.0}));"
    " open(f'{sys.argv[1]}/0.out.npz', 'wb').write(b'PK' + bytes([3, 4]) + bytes(40))",
    "folder": "shutil.rmtree(sys.argv[1])",
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_submission_that_spoils_its_folder_is_told_so(what, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"import json, os, shutil, sys\ndef answer(y):\n    {SPOILT[what]}; os._exit(0)\n")
    grade = check_submission(MASKS, file, 1, time_limit=30.0)
    assert [result.kind for result in grade.results] == ["exit" if what == "folder" else "crash", "not asked", "not asked"]


def test_files_beside_a_submission_are_found_and_the_package_is_not_in_its_way(tmp_path):
    (tmp_path / "exercise.py").write_text("def masks(y):\n    return y > 0, y == 0\n")
    file = tmp_path / "mine.py"
    file.write_text("from exercise import masks as answer\n")
    assert check_submission(MASKS, file, 1, time_limit=30.0).passed


# --- the command --------------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(app, ["exercise", *map(str, words)])


def test_the_command_lists_shows_starts_and_checks(tmp_path):
    listed = json.loads(command("list", "--json").stdout)["exercises"]
    assert [entry["name"] for entry in listed] == NAMES
    number = NAMES.index("masks") + 1
    shown = command("show", number).stdout
    assert "def answer(y):" in shown and "nan" in shown
    assert json.loads(command("show", "masks", "--json").stdout)["number"] == number
    file = tmp_path / "mine.py"
    assert command("start", number, file).exit_code == 0
    assert file.read_text() == skeleton(MASKS)
    again = command("start", number, file)
    assert again.exit_code == 2 and file.read_text() == skeleton(MASKS)
    begun = command("check", number, file)
    assert begun.exit_code == 1 and "not passed" in begun.stdout
    file.write_text(source("masks"))
    done = command("check", number, file, "--seed", 5, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["passed"] and found["seed"] == 5
    assert [entry["kind"] for entry in found["instances"]] == ["passed"] * 3


def test_a_fault_is_told_with_its_line_and_meaning(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(source("gap").replace("objective - bound", "bound - objective"))
    grade = check_submission(exercise_named("gap"), file, 3)
    assert grade.meanings == ("a sign: the gap is objective - bound",)
    assert grade.first.finding.line == "gap = objective - bound"


@pytest.mark.parametrize(
    "words", [("show", "nothing"), ("show", "0"), ("check", "masks", "not-there.py"), ("check", "nothing", "x")]
)
def test_bad_input_is_one_line_and_exit_code_2(words):
    found = command(*words)
    assert found.exit_code == 2 and "error:" in found.stderr and not found.stdout


def test_the_child_needs_numpy_alone():
    """It starts in no time, and a submission finds no module of ours loaded."""
    home = str(Path(running.__file__).parent)
    code = f"import sys; sys.path.insert(0, {home!r}); import submission; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy" in done.stdout and "torch" not in done.stdout and "cvxinv." not in done.stdout


@pytest.mark.parametrize("name", ["gap", "beat_fista"])
def test_grading_takes_less_than_ten_seconds(name, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(source(name))
    began = time.process_time()
    assert check_submission(exercise_named(name), file, 4).passed
    assert time.process_time() - began < 10


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_holds_the_table_of_today():
    page = (ROOT / "docs" / "exercises.md").read_text()
    assert page_table() in page, (
        "write it again: python -c 'from cvxinv.teaching.words import page_table; print(page_table())'"
    )


def test_the_session_of_the_page_prints_what_it_shows(tmp_path):
    page = (ROOT / "docs" / "exercises.md").read_text()
    (answer,), (shown,) = (re.findall(rf"^```{kind}\n(.*?)^```$", page, re.M | re.S) for kind in ("python", "text"))
    file = tmp_path / "mine.py"
    file.write_text(answer)
    found = command("check", 1, file)
    said = " ".join(re.sub("[│┃]", " ", found.stdout).split())  # without the frames of its tables
    assert found.exit_code == 1
    for line in filter(None, shown.splitlines()):
        assert " ".join(line.split()) in said, f"{line!r} is not what is printed now: {found.stdout}"
    passing = re.search(r"it passes: `(optimal: objective [\d.]+), gap", page)
    file.write_text(answer.replace("y[on])\n", "y[on]) / 2\n"))
    found = command("check", 1, file)
    assert found.exit_code == 0 and passing and passing[1] in " ".join(re.sub("[│┃]", " ", found.stdout).split())
