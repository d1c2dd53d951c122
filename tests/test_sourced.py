"""Numbers of pages: each is what its source gives, and what differs is seen."""

import json
from pathlib import Path

import gallery
import pytest

ROOT = Path(__file__).resolve().parents[1]
sourced = gallery.load(ROOT / "docs" / "sourced.py")
SAYING = [page for page in sourced.pages() if "<!--=" in page.read_text()]

PAGE = """# Speed

A takes 2.50<!--= ms("a"):.2f --> ms,
B 4<!--= ms("b") / ms("a"):.0f --> times that, more than thrice<!--? ms("b") > 3 * ms("a") -->.
Of (1,000<!--= found["signals"]:, -->) signals two<!--= word(found["left"]) --> are left,
with gaps of 2e-9<!--= found["gap"]:.0e -->.

<!--= table("results.md", "| who") -->

| who | ms |
|---|---|
| a | 2.5 |

<!--end-->

The end.

<!--numbers
found = results("results.json")


def ms(name):
    return 1e3 * found[name]
-->
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page whose numbers are those of its source."""
    monkeypatch.setattr(sourced, "ROOT", tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"a": 0.0025, "b": 0.01, "signals": 1000, "left": 2, "gap": 2e-9}))
    (tmp_path / "results.md").write_text("# Results\n\n| who | ms |\n|---|---|\n| a | 2.5 |\n\nMore.\n")
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


@pytest.mark.parametrize("path", SAYING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_number_of_a_page_is_what_its_source_gives(path: Path):
    found = sourced.Page(path)
    assert not found.differences, "\n".join([*found.differences, "python docs/sourced.py writes numbers anew"])
    assert all((ROOT / file).is_file() for file in found.read) and found.renewed == found.text


def test_pages_that_tell_of_measurements_state_sources():
    told = "README ada_lista diagnosis guide holistic mnist morphing multilayer papers".split()
    assert {f"{name}.md" for name in told} <= {path.name for path in SAYING}


def test_a_page_that_shows_what_its_source_gives_has_no_difference(page: Path):
    found = sourced.Page(page)
    assert found.differences == [] and found.renewed == PAGE and found.read == ["results.json", "results.md"]


PLANTED = {
    "a number": ("2.50<!--", "2.51<!--", "page.md:3: shows '2.51', its source gives '2.50'"),
    "a sign": ("B 4<!--", "B -4<!--", "page.md:4: shows '-4', its source gives '4'"),
    "thousands": ("1,000<!--", "1000<!--", "page.md:5: shows '1000', its source gives '1,000'"),
    "a word": ("two<!--", "three<!--", "page.md:5: shows 'three', its source gives 'two'"),
    "an exponent": ("2e-9<!--", "2e-8<!--", "page.md:6: shows '2e-8', its source gives '2e-9'"),
    "a table": ("| a | 2.5 |", "| a | 2.4 |", "page.md:8: shows "),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_differs_is_seen_and_written_anew(page: Path, fault: str):
    right, wrong, said = PLANTED[fault]
    page.write_text(PAGE.replace(right, wrong))
    found = sourced.Page(page)
    assert len(found.differences) == 1 and found.differences[0].startswith(said)
    assert found.renewed == PAGE
    with pytest.raises(ValueError, match=r"(?s)shows .*run python docs/sourced\.py"):
        sourced.told(page)


def test_a_table_that_is_not_there_yet_is_written(page: Path):
    page.write_text(PAGE.replace("\n| who | ms |\n|---|---|\n| a | 2.5 |\n", ""))
    assert sourced.Page(page).renewed == PAGE


def test_a_condition_that_fails_is_named_and_not_rewritten(page: Path):
    page.write_text(PAGE.replace("3 * ms", "5 * ms"))
    found = sourced.Page(page)
    assert found.differences == ['page.md:4: does not hold: ms("b") > 5 * ms("a")'] and "thrice" in found.renewed


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('ms("a"):.2f', 'ms("c"):.2f', r"page\.md:3: .*cannot be computed: KeyError\('c'\)"),
        ("2.50<!--=", "much <!--=", "1 comments with '=' stand behind no number"),
        ('"| who"', '"| whose"', "no table that begins with '| whose'"),
    ],
    ids=["no such result", "no number", "no such table"],
)
def test_a_comment_that_says_nothing_is_refused(page: Path, right: str, wrong: str, said: str):
    page.write_text(PAGE.replace(right, wrong))
    with pytest.raises(ValueError, match=said.replace("| ", r"\| ")):
        sourced.Page(page)


def test_the_site_shows_the_numbers_without_comments_and_names_their_files(page: Path):
    text = sourced.told(page)
    assert "<!--" not in text and "A takes 2.50 ms,\nB 4 times that, more than thrice.\n" in text
    assert "\n| who | ms |\n|---|---|\n| a | 2.5 |\n" in text
    assert text.endswith("computed, when it was built, from [results.json](<results.json>), [results.md](<results.md>).\n")


def test_lines_without_source_are_found(page: Path):
    page.write_text(PAGE.replace("The end.", "It took 5 s.\n\n```python\nx = 3\n```\n\nSee `h2` and [one](page1.md)."))
    assert list(sourced.without_source(page)) == ["It took 5 s."]
