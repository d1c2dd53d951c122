"""Lessons: each executes, says what it has to, has the numbers that were worked out by hand, and its page shows the same."""

import ast
import html
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("marimo", reason="lessons are marimo notebooks: install the extra [lessons]")
pytest.importorskip("latex2mathml", reason="pages of lessons need it for formulas: install the extra [lessons]")

ROOT = Path(__file__).resolve().parents[1]
LESSONS = ROOT / "docs" / "lessons"
PATHS = sorted(LESSONS.glob("[0-9][0-9]_*.py"))
sys.path.insert(0, str(LESSONS))


@cache
def build() -> ModuleType:
    import lesson

    return lesson.module_of(LESSONS / "build.py", "build_of_lessons")


def notebook(number: int) -> ModuleType:
    return build().notebook(PATHS[number - 1])


def numbers(number: int, stop: float) -> dict[str, str]:
    return notebook(number).frame(stop).numbers


# --- what every lesson has ----------------------------------------------------------------------------------------


def test_there_are_twelve_in_order():
    assert [int(path.stem[:2]) for path in PATHS] == list(range(1, 13))
    assert [notebook(n).LESSON.number for n in range(1, 13)] == list(range(1, 13))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_lesson_executes_and_its_page_shows_its_numbers(path: Path):
    """The cells run as marimo runs them; the page, here with one stop, holds words, formulas, picture, exercises."""
    module = build().notebook(path)
    lesson = module.LESSON
    outputs, _ = module.app.run()
    shown = "".join(getattr(part, "text", "") for part in outputs if part is not None)
    frame = module.frame(lesson.slider.stops[lesson.slider.start])
    slider = replace(lesson.slider, stops=lesson.slider.stops[lesson.slider.start :][:1], start=0)
    block = build().interactive(replace(lesson, slider=slider), [frame])
    for name, value in frame.numbers.items():
        assert f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" in block
        assert value in html.unescape(shown), f"the notebook does not show {name}: {value}"
    words = build().to_html(lesson.page())
    assert words.count("<math") >= 1 + len(lesson.maths) and "$" not in re.sub(
        r"<pre.*?</pre>|<math.*?</math>", "", words, flags=re.S
    )
    assert len(lesson.exercises) == 2 and all(len(exercise.split()) > 10 for exercise in lesson.exercises)
    assert 90 < len(re.sub(r"\$.*?\$", "x", lesson.text, flags=re.S).split()) < 260, "one screen of text"
    assert re.search(r"\(\d{4}\)|derived here", lesson.source)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_picture_can_be_read_by_everybody(path: Path):
    """Names of axes, words for who cannot see it, lines that differ in style as well as in colour, a name for each line."""
    lesson = build().notebook(path).LESSON
    frame = build().notebook(path).frame(lesson.slider.stops[lesson.slider.start])
    assert len(frame.alt.split()) > 12 and '"' not in frame.alt
    for axes in frame.figure.axes:
        assert axes.get_xlabel() and axes.get_ylabel()
        lines = [line for line in axes.lines if not line.get_label().startswith("_") and line.get_linestyle() != "None"]
        looks = [(line.get_linestyle(), line.get_marker()) for line in lines if len(line.get_xdata()) > 1]
        assert len(set(looks)) == len(looks), f"two lines of the same style in {axes.get_title(loc='left')!r}"
    assert frame.figure.legends, "a legend"
    assert 8 <= len(lesson.slider.stops) <= 30


def test_words_on_a_picture_are_not_shortened():
    """Coordinates are, to two digits; "0.001" on an axis stays what it is."""
    lesson = build().notebook(PATHS[10])
    drawn = build().picture(lesson.frame(lesson.LESSON.slider.stops[0]), "x")
    words = re.findall(r">([^<>\n]+)</text>", drawn)
    assert "0.0001" in words and not {"0.00", "0.0"} & set(words)
    assert not re.search(r'\bd="[^"]*\.\d{3}', drawn)


def test_statements_are_those_of_the_package():
    for path in PATHS:
        lesson = build().notebook(path).LESSON
        where, _, name = lesson.statement.partition(":")
        source = (ROOT / where).read_text()
        assert f"def {name.split('.')[-1]}(" in lesson.code
        lines = {line.strip() for line in source.splitlines()}
        assert all(line.strip() in lines for line in lesson.code.splitlines() if line.strip())
        assert "cp." in lesson.code, "a statement in CVXPY"


def test_graded_exercises_exist():
    from cvxinv.teaching.known import EXERCISES

    named = {name for path in PATHS for name in build().notebook(path).LESSON.graded}
    assert all(build().notebook(path).LESSON.graded for path in PATHS)
    assert named <= {exercise.name for exercise in EXERCISES}


def test_lessons_load_no_torch():
    """What a browser could not load must not creep in."""
    for path in [*PATHS, LESSONS / "lesson.py"]:
        imported = {node.names[0].name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)}
        imported |= {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in imported} & {"torch", "cvxinv", "scipy"}, path.name


def test_pages_stand_alone(tmp_path: Path):
    """One page in both forms: no address is loaded from, every frame is there, one is shown, the others wait."""
    (page,) = build().build(tmp_path, only=[12])
    text = page.read_text()
    assert not re.search(r'(src|href)="(https?:)?//', text.replace('xlink"', "")) and "@import" not in text
    frames = re.findall(r'<div class="lesson-frame"[^>]*>', text)
    assert len(frames) == 15 and sum("hidden" not in frame for frame in frames) == 1
    assert text.count('role="img" aria-label="The misfit') == 15
    marks = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(marks)) == len(marks), "a name twice on one page"
    asked = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    assert asked <= set(marks)
    (note,) = build().build(tmp_path, only=[12], markdown=True)
    inside = note.read_text().split("`````{raw} html\n")[1].split("`````")[0]
    assert note.read_text().startswith("# 12. ") and "\n\n" not in inside
    with pytest.raises(ValueError, match=r"lessons from 1 to 12, got \[13\]"):
        build().build(tmp_path, only=[13])


def test_make_lesson_names_a_lesson_or_refuses():
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    said = subprocess.run(["make", "-n", "lesson", "N=4"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "marimo run" in said and "docs/lessons/04_off_rows.py" in said
    said = subprocess.run(["make", "-n", "lesson", "N=4", "EDIT=1"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "marimo edit" in said
    said = subprocess.run(["make", "-n", "lesson", "N=13"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "expected a lesson N from 1 to 12, got '13'" in said and 'test -f ""' in said


def test_marimo_runs_a_lesson_from_any_folder(tmp_path: Path):
    """`make lesson` is started elsewhere than beside the lessons; what they share is found all the same."""
    lesson, page = shutil.copy(PATHS[3], tmp_path), tmp_path / "4.html"  # marimo writes a folder of its own beside it
    (tmp_path / "lesson.py").symlink_to(LESSONS / "lesson.py")
    command = [sys.executable, "-m", "marimo", "export", "html", "--no-include-code", str(lesson), "-o", str(page)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = page.read_text()
    assert "marimo-slider" in text and "what the off rows add" in text and "Exercises" in text, said.stderr
    for value in notebook(4).frame(notebook(4).LESSON.slider.stops[notebook(4).LESSON.slider.start]).numbers.values():
        assert value in text


# --- numbers, worked out by hand ----------------------------------------------------------------------------------


def test_1_few_units_are_found_and_many_are_not():
    few, many = notebook(1).code(-1.25), notebook(1).code(1.0)
    assert (few[0] > 0).sum() < 10 and few[2] < 1e-6
    assert many[2] > 0.1 and abs(many[1].sum()) <= many[0].sum() + 1e-6  # as feasible as x, and no larger a sum


def test_2_value_and_dual_vector_meet_at_every_direction():
    """At 45 degrees y = 0.6 sqrt(2) (1, 1); on the face of w1 = (1, 0) and w2 = (0.3, 1), theta = (1, 0.7): 1.7 x 0.8485."""
    for angle in (0.0, 45.0, 150.0, 285.0):
        y, h, theta = notebook(2).pursuit(angle)
        assert abs(np.abs(h).sum() - y @ theta) < 1e-7 and np.abs(notebook(2).W.T @ theta).max() < 1 + 1e-9
    assert numbers(2, 45.0)["value |h|₁"] == f"{1.7 * 1.2 * np.sqrt(0.5):.4f}"
    assert numbers(2, 45.0)["columns used"] == "w1 and w2"
    ends = notebook(2).dual_corners()
    assert np.allclose(np.abs(ends @ notebook(2).W).max(axis=1), 1)  # each lies on the edge of its polygon


def test_3_bounds_by_hand_and_in_order():
    two, most = notebook(3).answers(5.0)
    assert np.allclose(two, [2, 2], atol=1e-6) and np.allclose(most, [5 / 3, 3 / 2], atol=1e-6)
    value = {eps: [np.abs(h).sum() for h in notebook(3).answers(eps)] for eps in (2.0, 2.0 * np.sqrt(2))}
    assert value[2.0 * np.sqrt(2)][0] <= value[2.0][1] + 1e-6 <= value[2.0][0] + 2e-6


@pytest.mark.parametrize("lam", [0.4, 1.2, 1.8])
def test_4_off_row_by_hand(lam: float):
    without, within = notebook(4).answers(lam)
    assert np.allclose(without, [max(2 - lam, 0), max(1 - lam, 0)], atol=1e-6)
    assert np.allclose(within, max(1.5 - lam, 0), atol=1e-6)


def test_5_gap_proves_at_every_step():
    """P* = 11/40, theta* = (0.2, 0.1); P - D as the formula of the lesson has it."""
    lesson = notebook(5)
    for h, theta, P, D in lesson.steps():
        assert D <= 0.275 + 1e-12 and P >= 0.275 - 1e-12 and (lesson.W.T @ theta <= 0.2 + 1e-12).all()
        r = lesson.Y - lesson.W @ h - theta
        assert np.isclose(P - D, 0.5 * r @ r + h @ (0.2 - lesson.W.T @ theta))
        assert np.linalg.norm(theta - [0.2, 0.1]) <= np.sqrt(2 * (P - D)) + 1e-9
    assert numbers(5, 30.0)["optimum by Clarabel"] == "0.275000 signal²"


@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_6_prior_by_hand(gamma: float):
    z = notebook(6).answer(gamma)
    expected = [4 / (4 + gamma), 2 / (1 + gamma)] if gamma < 2 else [6 / (5 + 2 * gamma)] * 2
    assert np.allclose(z, expected, atol=1e-6)


def test_7_rates_hold_and_gaps_are_true():
    lesson = notebook(7)
    W, y, lam = lesson.data(100.0)
    best, found = lesson.solved("nonnegative_lasso", W, y, number=lam)
    L = np.linalg.norm(W, 2) ** 2
    made = lesson.methods(W, y, lam, 300)
    P = {name: np.array([0.5 * np.sum((W @ h - y) ** 2) + lam * h.sum() for h in every]) for name, every in made.items()}
    k, far = np.arange(1, 301), L * found @ found / 2
    assert (P["ISTA"][1:] - best <= far / k + 1e-9).all() and (P["FISTA"][1:] - best <= 4 * far / (k + 1) ** 2 + 1e-9).all()
    for name, every in made.items():
        assert P[name][-1] - best < 1e-5, f"{name} does not come near the optimum"
        assert all(
            lesson.gap(W, y, lam, h) >= 0.5 * np.sum((W @ h - y) ** 2) + lam * h.sum() - best - 1e-9 for h in every[::50]
        )


def test_8_no_noise_no_error_and_false_off_rows_leave_nothing():
    clean, noisy = notebook(8).inverted(0.0), notebook(8).inverted(0.1)
    for key in ("layered", "oracle", "refined"):
        assert notebook(8).error(clean[key], clean["true z"]) < 1e-4
    assert notebook(8).error(noisy["layered"], noisy["true z"]) > 5 * notebook(8).error(noisy["oracle"], noisy["true z"])
    assert notebook(8).error(noisy["refined"], noisy["true z"]) < 0.1


def test_9_both_preimages_are_ends_of_paths():
    lesson = notebook(9)
    assert np.allclose(lesson.output(np.array([[1, 0.5], [-1, 0.65]])), lesson.Y)
    ends = {tuple(np.round(lesson.path(np.array(start))[-1], 6)) for start in ([2.0, 1.0], [-2.0, 1.0], [0.5, -1.0])}
    assert ends == {(1.0, 0.5), (-1.0, 0.65)}
    z, step = np.array([0.7, 2.4]), 1e-6
    slopes = [(lesson.output(z + step * e) - lesson.output(z - step * e)) / (2 * step) for e in np.eye(2)]
    assert np.allclose(np.array(slopes).T, lesson.jacobian(z))


def test_10_theorem_by_hand():
    """W_1 = (e1, e2, e1 + e2): z = 1 and z = -1 both give (1, 1)."""
    assert np.allclose(notebook(10).failing(np.array([1.0, -1.0])), 1)
    assert np.isclose(notebook(10).coherence(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])), np.sqrt(0.5))
    assert notebook(10).spark(5) == 6
    found = notebook(10).recovered(8)
    assert found[0] == 30  # one entry: below (1 + 1/mu)/2
    assert found[7] < 10


def test_11_lies_are_refused_and_truth_is_not():
    lesson = notebook(11)
    _, D = lesson.proof()
    true, lied = lesson.claims(1.0), lesson.claims(1e-6)
    assert all(word == "optimal" and max(broken, gap) < 1e-6 for word, _, broken, gap in true.values())
    for solver in ("OSQP", "SCS"):
        word, reached, broken, gap = lied[solver]
        assert word == "optimal" and reached < D - 0.01 and max(broken, gap) > 1e-3
    assert max(lied["CLARABEL"][2:]) < 1e-6
    assert lesson.loose()[0] == "optimal" and lesson.loose()[1] > 1e-4
    words, miss = lesson.rounded()
    assert words == {"CLARABEL": "infeasible", "HIGHS": "infeasible"} and miss < 1e-6
    draw = np.random.default_rng(0)
    for _ in range(50):  # a bound for every h >= 0, as the formula of the lesson has it
        h = np.maximum(draw.standard_normal(12), 0)
        assert lesson.judged(h)[1] >= -1e-12


def test_12_proof_agrees_with_every_latent():
    """A grid of the box, and every kink of f on it: none is below the bound that closes the search."""
    lesson = notebook(12)
    log = lesson.search()
    z = np.concatenate([np.linspace(-3, 3, 60001), -lesson.B0 / lesson.W0])
    least = float(lesson.misfit(z[np.abs(z) <= 3]).min())
    assert log[-1]["bound"] >= (1 - lesson.GAP) * log[-1]["f"] and log[-1]["f"] <= least * (1 + lesson.GAP)
    for step in log:
        for low, high, value in step["parts"]:
            inside = z[(z >= low) & (z <= high)]
            assert value <= lesson.misfit(inside).min() + 1e-7
