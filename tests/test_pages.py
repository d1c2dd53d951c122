"""Python blocks of pages run in order, as a reader would run them, and print what stands below them.

Not here are pages that other tests run with claims of their own: checking, guarantees, diagnosis, Ada-LISTA, other programs.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/guide.md", "docs/multilayer.md", "docs/holistic.md")
SLOW = ("docs/morphing.md",)
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```[ \t]*$(?:\n\n```text\n(?P<shown>.*?)^```[ \t]*$)?", re.M | re.S)
SECONDS = re.compile(r"in \d[\d.e+-]* s\b")
ROUNDING = re.compile(r"\d[\d.]*e-(?:0[5-9]|[1-9]\d)")  # what is 0 but for rounding or a tolerance differs between machines


def without_chance(text: str) -> str:
    """What a program prints, but for times and for numbers that are as good as 0."""
    return ROUNDING.sub("~0", SECONDS.sub("in _ s", text)).strip()


def run(page: Path) -> list[tuple[int, str, str]]:
    """Run the blocks of a page in one namespace: line, what was printed, what the page shows, of those with an output."""
    text, namespace, found = page.read_text(), {"__name__": page.stem}, []
    for block in BLOCK.finditer(text):
        line, printed = text[: block.start("code")].count("\n"), io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Newlines in front let a traceback name the line of the page.
            exec(compile("\n" * line + block["code"], str(page), "exec"), namespace)
        if block["shown"] is not None:
            found.append((line, printed.getvalue(), block["shown"]))
    return found


@pytest.mark.parametrize("name", [*PAGES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_python_blocks_of_a_page_run_in_order_and_print_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert "```python" in (ROOT / name).read_text()
    for line, printed, shown in run(ROOT / name):
        assert without_chance(printed) == without_chance(shown), f"{name}:{line + 1}"


def test_the_readme_and_the_guide_show_outputs():
    assert [len([b for b in BLOCK.finditer((ROOT / name).read_text()) if b["shown"]]) for name in PAGES[:2]] == [2, 2]


def test_an_output_that_a_page_does_not_show_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(f'gap {2e-12}, 3 of 8 in {0.5} s')\n```\n\n```text\ngap 1.5e-13, 3 of 8 in 0.1 s\n```\n"
    )
    ((line, printed, shown),) = run(page)
    assert line == 1 and without_chance(printed) == without_chance(shown) == "gap ~0, 3 of 8 in _ s"
    assert without_chance(printed) != without_chance(shown.replace("3 of", "4 of"))
    assert without_chance("gap 2e-3") != without_chance("gap 2e-4")
