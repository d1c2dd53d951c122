"""The pictures in docs: each is drawn by one command, and none is older than what draws it."""

import json
from pathlib import Path

import gallery
import pytest

ROOT = Path(__file__).resolve().parents[1]
PICTURES = gallery.load(ROOT / "docs" / "pictures.py")
NOTES = json.loads(PICTURES.NOTES.read_text())


def test_every_picture_in_docs_is_one_that_the_command_draws():
    files = [
        path for path in (ROOT / "docs").rglob("*") if "_build" not in path.parts
    ]  # what the site draws itself lies there
    there = {path.name for path in files if path.suffix in (".png", ".svg", ".jpg", ".gif")}
    assert there == set(PICTURES.DRAWN_BY) == set(NOTES)


@pytest.mark.parametrize("name", PICTURES.DRAWN_BY)
def test_no_picture_is_older_than_what_draws_it(name: str):
    today = PICTURES.fingerprint(PICTURES.DRAWN_BY[name])
    cure = "draw it again with `make pictures` and look at it (docs/pictures.py says how those are drawn that take long)"
    assert NOTES[name]["drawn_by"] == today, f"docs/{name} was drawn by other source or numbers than today's: {cure}"


def test_a_change_of_what_is_drawn_is_seen_and_one_of_comments_is_not(tmp_path: Path):
    source = tmp_path / "drawing.py"

    def used(text: str) -> list[str]:
        source.write_text(text)
        return PICTURES.used(source, "draw")

    before = used("WIDE = 2\nIDLE = 3\ndef line(): return WIDE\ndef draw():\n    'A line.'\n    return line()\n")
    assert before == used("# thicker\nWIDE = 2\nIDLE = 4\ndef line():\n    return WIDE\ndef draw(): return line()\n")
    assert before != used("WIDE = 3\nIDLE = 3\ndef line(): return WIDE\ndef draw():\n    'A line.'\n    return line()\n")


def test_methods_can_be_told_apart_in_the_picture_of_the_experiment():
    experiment = gallery.load(ROOT / PICTURES.EXPERIMENT)
    results = json.loads((ROOT / PICTURES.RESULTS).read_text())
    assert len(set(experiment.LOOKS)) == len({c for c, _ in experiment.LOOKS}) == len({m for _, m in experiment.LOOKS})
    for setting in PICTURES.STEMS:
        figure = experiment.snr_picture(results, setting)
        for panel in figure.axes:
            heights = [line.get_ydata()[0] for line in panel.lines if line.get_marker() != "None"]
            assert heights == list(range(len(experiment.METHODS))), "a row for each method, none on another"
        labels = [label.get_text().splitlines()[0] for label in figure.axes[0].get_yticklabels()]
        assert labels == list(experiment.METHODS)
