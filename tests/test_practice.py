"""The before-and-after table: it runs, skips aloud what is not there, and says what comes out."""

from pathlib import Path

import practice
import pytest

QUICK = ("gamma= of hybrid", "exact signals", "layers that failed", "an encoder of the user's")


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["practice.py", *words])
    monkeypatch.setattr(practice.torch, "set_num_threads", lambda count: None)
    practice.main()


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.filterwarnings("ignore::cvxinv.ConvergenceWarning")
def test_a_row_says_what_comes_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    call(monkeypatch, "--only", name, "--out", str(tmp_path / "t.md"))
    rows = [line for line in (tmp_path / "t.md").read_text().splitlines() if line.startswith(f"| {name}")]
    now = {
        "gamma= of hybrid": "refused: expected no gamma",
        "exact signals": "0 of 20 with an infeasible layer",
        "layers that failed": "said harmless: True",
        "an encoder of the user's": "z of 12 of 12",
    }
    assert len(rows) == 1 and now[name] in rows[0]


def test_what_is_not_there_is_skipped_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CVXINV_DATA", raising=False)
    call(monkeypatch, "--only", "DCGAN", "--out", str(tmp_path / "t.md"))
    text = (tmp_path / "t.md").read_text()
    assert text.count("skipped: needs ") == 3 and "CVXINV_DATA is not set" in text


def test_names_are_there_once():
    names = [name for name, _, _ in practice.ROWS]
    assert len(set(names)) == len(names) >= 16
