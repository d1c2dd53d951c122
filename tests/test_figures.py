"""`make figures`: every experiment is found and runs on its own; what fails or lacks data is told, the others run."""

import json
from pathlib import Path

import gallery
import pytest

FIGURES = gallery.load(gallery.LAYERS.parent / "figures.py")
EXPERIMENTS = [path for folder in FIGURES.FOLDERS for path in (FIGURES.HERE / folder).glob("*.py")]


def test_all_scripts_with_a_command_line_are_experiments_and_say_what_they_show():
    found = FIGURES.scripts()
    assert set(found.values()) == {path for path in EXPERIMENTS if path.stem != "experiment"}
    assert all(FIGURES.title(path).endswith(".") for path in found.values())


def test_one_runs_in_its_small_form_and_its_claims_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert FIGURES.main(["--quick", "--only", "negation", "--out", str(tmp_path)]) == 0
    claims = json.loads((tmp_path / "negation" / "negation.json").read_text())["claims"]
    held = sum(claim["held"] is True for claim in claims)
    line = f"| negation | done | {held} of {len(claims)} claims hold"
    assert line in (tmp_path / "figures.md").read_text() and line in capsys.readouterr().out


def test_what_fails_or_lacks_its_data_is_told_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bodies = {
        "bad": "raise SystemExit('the weights are gone')",
        "data": "raise FileNotFoundError('CVXINV_DATA is not set: it names a folder')",
        "good": "print('done')",
    }
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.setattr(FIGURES, "scripts", lambda: {name: tmp_path / f"{name}.py" for name in bodies})
    assert FIGURES.main(["--quick", "--out", str(tmp_path / "out")]) == 1
    page = (tmp_path / "out" / "figures.md").read_text()
    assert "| bad | failed | the weights are gone (see " in page and "| good | done | results in " in page
    assert "| data | left out | needs the data that CVXINV_DATA names |" in page
    assert (tmp_path / "out" / "bad.log").read_text().strip() == "the weights are gone"


def test_a_name_that_no_experiment_has_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        FIGURES.main(["--only", "mnits"])
    assert "expected a part of one of" in capsys.readouterr().err
