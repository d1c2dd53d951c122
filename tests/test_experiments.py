"""Every published experiment in its quick form: it runs, it goes on where it stopped, and what it claims came out."""

import json
import re
from pathlib import Path

import experiment
import gallery
import pytest

FOLDER = gallery.LAYERS.parent / "inversions"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("experiment", "mnist"))


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_form_runs_and_its_claims_came_out(name: str, tmp_path: Path):
    its = gallery.load(FOLDER / f"{name}.py").EXPERIMENT
    assert its.name == name
    record = its.main(["--quick", "--out", str(tmp_path)])
    failed = [claim for claim in record["claims"] if claim["held"] is False]
    expected = set(getattr(gallery.load(FOLDER / f"{name}.py"), "FAILS", ()))  # claims of a source that do not hold
    assert {claim["text"] for claim in failed} == expected
    assert any(claim["held"] for claim in record["claims"])
    assert its.draw is not None and its.captions and all(caption.endswith(".") for caption in its.captions)


@pytest.mark.parametrize("name", NAMES)
def test_committed_pages_show_their_pictures_in_words(name: str):
    its = gallery.load(FOLDER / f"{name}.py").EXPERIMENT
    page, record = ((experiment.RESULTS / f"{name}.{kind}").read_text() for kind in ("md", "json"))
    pictures = sorted(path.name for path in experiment.RESULTS.glob(f"{name}*.png"))
    shown = re.findall(r"!\[(.+)\]\((.+)\)", page)
    assert sorted(path for _, path in shown) == pictures
    assert tuple(words for words, _ in shown) == its.captions[: len(shown)]
    assert page == its.page(json.loads(record), [path for _, path in shown])


@pytest.mark.parametrize("name", NAMES)
def test_committed_results_are_those_of_the_experiment_as_it_stands(name: str):
    its = gallery.load(FOLDER / f"{name}.py").EXPERIMENT
    record = json.loads((experiment.RESULTS / f"{name}.json").read_text())
    settings = [json.loads(json.dumps(setting)) for setting in its.settings(False)]
    assert len(record["rows"]) == len(settings)
    for row, setting in zip(record["rows"], settings, strict=True):
        assert setting.items() <= row.items()
    assert [claim["text"] for claim in record["claims"]] == [claim.text for claim in its.claims(record["rows"])]
    assert [claim["held"] for claim in record["claims"]] == [claim.held for claim in its.claims(record["rows"])]


def made(calls: list[int]) -> experiment.Experiment:
    def measure(setting: experiment.Row) -> experiment.Row:
        calls.append(setting["k"])
        return {"square": setting["k"] ** 2, "ratio": float("inf")}

    return experiment.Experiment(
        name="made", title="Squares", source="nobody, 2026", measure=measure,
        settings=lambda quick: [{"k": k} for k in range(2 if quick else 4)],
        claims=lambda rows: [experiment.Claim("squares grow", "D", str(rows[-1]["square"]), rows[-1]["square"] > 0)],
    )  # fmt: skip


def test_rows_that_are_there_are_not_measured_again_and_a_line_cut_off_is(tmp_path: Path):
    calls: list[int] = []
    made(calls).main(["--quick", "--out", str(tmp_path)])
    with (tmp_path / "made.rows.jsonl").open("a") as file:
        file.write('{"setting": {"k": 2}, "fou')
    record = made(calls).main(["--out", str(tmp_path)])
    assert calls == [0, 1, 2, 3] and [row["square"] for row in record["rows"]] == [0, 1, 4, 9]
    assert made(calls).main(["--out", str(tmp_path)])["rows"] == record["rows"] and len(calls) == 4
    page = (tmp_path / "made.md").read_text()
    assert "| squares grow | derived | 9 | holds |" in page and "| 3 | 9 | inf |" in page
    assert json.loads((tmp_path / "made.json").read_text())["command"].endswith(f"made.py --out {tmp_path}")


def test_rows_of_committed_results_are_taken_and_only_what_was_added_is_measured(tmp_path: Path):
    calls: list[int] = []
    made(calls).main(["--quick", "--out", str(tmp_path)])
    (tmp_path / "made.rows.jsonl").unlink()
    record = made(calls).main(["--added", "--out", str(tmp_path)])
    assert calls == [0, 1, 2, 3] and [row["square"] for row in record["rows"]] == [0, 1, 4, 9]
    assert ", 2 of 4 rows of " in record["commit"]


def test_a_claim_without_known_evidence_is_refused():
    with pytest.raises(ValueError, match="tag"):
        experiment.Claim("all is well", "X", "", True)
