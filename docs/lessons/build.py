"""Write the lessons as pages that need no Python: a slider's frames are computed here, a few lines of script switch them.

    python docs/lessons/build.py OUT               HTML pages that stand alone: OUT/index.html and one for each lesson
    python docs/lessons/build.py OUT --markdown    the same as Markdown with pictures inside, for Sphinx with MyST
    python docs/lessons/build.py OUT --only 4      one lesson

Every number and picture on them is made by the functions of the notebooks; the statements are taken from the files.
Nothing is loaded from elsewhere when a page is viewed: formulas are MathML, pictures SVG, and the script stands in the page.
Notebooks exported as WebAssembly would not be so: npm has the core of pyodide, but neither npm nor PyPI has numpy, scipy and
Clarabel for it, which such a page takes from pyodide's own server whenever it is opened.
"""

import argparse
import html
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from lesson import PROBLEMS, ROOT, Frame, Lesson, module_of, settle, svg  # noqa: E402

HOW = """
The slider switches between {count} pictures that were computed when this page was built; no Python runs here. With a
checkout, `make lesson N={number}` opens the same lesson as a notebook in the browser that solves anew, and
`make lesson N={number} EDIT=1` lets you change it.
"""

ABOUT = """# Lessons

Twelve lessons on what is solved when a generator is inverted. Each has an equation with its source, the statement as it
stands in the package, one picture to drag, and two exercises; its slider takes the arrow keys. The pages hold pictures that
were computed when they were built, and need no Python; `make lesson N=1` opens a lesson as a notebook that solves anew.
"""

# Hidden frames stay in the page; the first shown is in the markup, so that without a script there is still a picture.
SCRIPT = """
(function () {
  var box = document.getElementById("lesson-NUMBER");
  var slider = box.querySelector("input"), said = box.querySelector("output");
  var frames = box.querySelectorAll(".lesson-frame");
  function show() {
    frames.forEach(function (frame, k) { frame.hidden = k !== Number(slider.value); });
    var words = frames[slider.value].dataset.at;
    said.textContent = words;
    slider.setAttribute("aria-valuetext", words);
  }
  slider.addEventListener("input", show);
  box.querySelectorAll("button").forEach(function (button) {
    button.addEventListener("click", function () {
      slider.value = Number(slider.value) + Number(button.dataset.step);
      show();
    });
  });
  show();
})();
"""

STYLE = """
.lesson-picture { margin: 1rem 0; max-width: 640px; }
.lesson-picture svg { display: block; width: 100%; height: auto; background: #fff; }
.lesson-control { display: flex; align-items: center; gap: 0.5rem; margin: 0.6rem 0 0.2rem; }
.lesson-control input { flex: 1; min-width: 0; height: 2rem; accent-color: #0072B2; }
.lesson-control button { min-width: 2.4rem; min-height: 2.2rem; font-size: 1rem; }
.lesson-picture dl { display: grid; grid-template-columns: fit-content(40%) 1fr; gap: 0.15rem 0.8rem; }
.lesson-picture dl, .lesson-sheet { margin: 0.8rem 0; padding: 0; }
.lesson-picture dt { margin: 0; font-weight: normal; opacity: 0.85; }
.lesson-picture dd { margin: 0; font-weight: bold; overflow-wrap: anywhere; }
.lesson-at { font-weight: bold; }
.lesson-picture [hidden] { display: none; }
.lesson-sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1rem; }
.lesson-sheet > li { list-style: none; margin: 0; }
.lesson-sheet svg { display: block; width: 100%; height: 170px; background: #fff; border: 1px solid #bbb; }
"""

ALONE = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; }
body { max-width: 76rem; margin: 0 auto; padding: 0.6rem 1rem; }
h1 { font-size: 1.55rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin: 0.8rem 0 0.3rem; }
pre { overflow-x: auto; background: #f4f4f4; padding: 0.6rem; font-size: 0.8rem; line-height: 1.35; }
a { color: #0050a0; } math[display=block] { overflow-x: auto; max-width: 100%; padding: 0.3rem 0; }
math { font-family: "Cambria Math", "STIX Two Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
code { overflow-wrap: anywhere; } .lesson-picture { margin-top: 0; }
.sides > * { min-width: 0; }
@media (min-width: 1000px) { .sides { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; } }
"""


# --- the parts of a page ------------------------------------------------------------------------------------------


def notebooks() -> list[Path]:
    """The lessons' files, in their order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


@cache
def notebook(path: Path) -> ModuleType:
    """A lesson as a module; its cells do not run."""
    return module_of(path, f"lesson_{path.stem}")


@cache
def frames(path: Path) -> list[Frame]:
    """The frame of each stop of a lesson's slider, laid out alike."""
    module = notebook(path)
    made = [module.frame(stop) for stop in module.LESSON.slider.stops]
    settle([frame.figure for frame in made])
    return made


@cache
def picture(frame: Frame, mark: str) -> str:
    """A frame's SVG, made to share a page: names of its own, as wide as its place, short numbers, its words on it."""
    text = re.sub(r"<metadata>.*?</metadata>", "", svg(frame.figure), flags=re.S)
    text = re.sub(r'\b(id=")([^"]+)', rf"\1{mark}-\2", text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{mark}-", text)
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)  # of the lines, not of the words
    head = re.search(r"<svg[^>]*>", text)
    assert head is not None
    box = re.search(r'viewBox="([^"]+)"', head[0])
    assert box is not None
    begin = f'<svg role="img" aria-label="{html.escape(frame.alt)}" viewBox="{box[1]}" xmlns="http://www.w3.org/2000/svg"'
    text = f'{begin} xmlns:xlink="http://www.w3.org/1999/xlink">' + text[head.end() :]
    return "\n".join(line for line in text.splitlines() if line.strip())


def numbers(frame: Frame) -> str:
    """The numbers of a frame as a list of terms."""
    return "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in frame.numbers.items())


def interactive(lesson: Lesson, made: Sequence[Frame]) -> str:
    """The picture with its slider, its numbers and its script; one block of HTML without empty lines."""
    slider, parts = lesson.slider, []
    for k, (stop, frame) in enumerate(zip(slider.stops, made, strict=True)):
        hidden = "" if k == slider.start else " hidden"
        words = html.escape(slider.said(stop))
        inside = f"{picture(frame, f'n{lesson.number}k{k}')}<dl>{numbers(frame)}</dl>"
        parts.append(f'<div class="lesson-frame" data-at="{words}"{hidden}>{inside}</div>')
    label = html.escape(slider.label)
    control = (
        f'<label for="slider-{lesson.number}">Drag the {label}</label>: '
        f'<output class="lesson-at" for="slider-{lesson.number}" aria-live="polite">'
        f'{html.escape(slider.said(slider.stops[slider.start]))}</output>\n<div class="lesson-control">'
        '<button type="button" data-step="-1" aria-label="one stop back">&#9664;</button>'
        f'<input type="range" id="slider-{lesson.number}" min="0" max="{len(made) - 1}" step="1" value="{slider.start}">'
        '<button type="button" data-step="1" aria-label="one stop on">&#9654;</button></div>'
    )
    script = f"<script>{SCRIPT.replace('NUMBER', str(lesson.number))}</script>"
    return "\n".join(
        [
            f"<style>{STYLE}</style>",
            f'<div class="lesson-picture" id="lesson-{lesson.number}">',
            control,
            *parts,
            "</div>",
            script,
        ]
    )


def how(lesson: Lesson, count: int) -> str:
    """What is interactive on the page, and in which form."""
    return " ".join(HOW.format(count=count, number=lesson.number).split())


def sheet(paths: Sequence[Path]) -> str:
    """All lessons as pictures that lead to them."""
    entries = []
    for path in paths:
        lesson = notebook(path).LESSON
        frame = frames(path)[lesson.slider.start]
        entries.append(
            f'<li><a href="{path.stem}.html">{picture(frame, f"s{lesson.number}")}{html.escape(lesson.heading)}</a></li>'
        )
    return f'<style>{STYLE}</style>\n<ul class="lesson-sheet">\n' + "\n".join(entries) + "\n</ul>"


# --- as Markdown --------------------------------------------------------------------------------------------------


def raw(block: str) -> str:
    """A block of HTML in MyST."""
    return f"`````{{raw}} html\n{block}\n`````\n"


def markdown_page(path: Path) -> str:
    """A lesson in Markdown as MyST reads it."""
    lesson, made = notebook(path).LESSON, frames(path)
    return (
        f"{lesson.page()}\n\n## The picture\n\n{raw(interactive(lesson, made))}\n{how(lesson, len(made))}\n\n"
        f"## Exercises\n\n{lesson.task_list} How that goes: [Exercises](../exercises.md).\n"
    )


def markdown_index(paths: Sequence[Path]) -> str:
    """The list of lessons in Markdown as MyST reads it."""
    tree = "\n".join(path.stem for path in paths)
    return f"{ABOUT}\n{raw(sheet(paths))}\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"


# --- as HTML ------------------------------------------------------------------------------------------------------


def to_html(text: str) -> str:
    """Markdown with formulas as HTML with MathML."""
    import markdown
    from latex2mathml.converter import convert

    kept: list[str] = []

    def keep(display: str) -> Callable[[re.Match[str]], str]:
        def put(found: re.Match[str]) -> str:
            kept.append(convert(found[1].strip(), display=display))
            return f"\ue000{len(kept) - 1}\ue001"

        return put

    text = re.sub(r"\$\$(.+?)\$\$", keep("block"), text, flags=re.S)
    text = re.sub(r"\$([^$\n][^$]*?)\$", keep("inline"), text)
    made = markdown.markdown(text, extensions=["fenced_code"]).replace("<pre>", '<pre tabindex="0">')
    return re.sub("\ue000(\\d+)\ue001", lambda found: kept[int(found[1])], made)


def whole(title: str, body: str) -> str:
    """A page that stands alone."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(title)}</title>"
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{ALONE}</style></head>\n<body>\n{body}\n</body></html>\n'


def html_page(path: Path, paths: Sequence[Path]) -> str:
    """A lesson as a page that stands alone, with links to the one before and the one after."""
    lesson, made = notebook(path).LESSON, frames(path)
    place = list(paths).index(path)
    around = [("Lessons", "index.html")]
    around += [("Back", f"{paths[place - 1].stem}.html")] if place > 0 else []
    around += [("Next", f"{paths[place + 1].stem}.html")] if place + 1 < len(paths) else []
    links = " · ".join(f'<a href="{there}">{name}</a>' for name, there in around)
    title, _, rest = lesson.page().partition("\n")
    left = to_html(rest)
    right = interactive(lesson, made) + to_html(f"{how(lesson, len(made))}\n\n## Exercises\n\n{lesson.task_list}")
    sides = f'<main class="sides"><div>{left}</div><div>{right}</div></main>'
    return whole(lesson.heading, f'<nav aria-label="lessons">{links}</nav>\n{to_html(title)}\n{sides}')


def html_index(paths: Sequence[Path]) -> str:
    """The list of lessons as a page that stands alone."""
    return whole("Lessons", f"<main>{to_html(ABOUT)}\n{sheet(paths)}</main>")


# --- writing ------------------------------------------------------------------------------------------------------


def put(path: Path, text: str) -> None:
    """Write a page whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def is_fresh(page: Path, path: Path) -> bool:
    """Whether a page is younger than all that it is made of."""
    statement = ROOT / notebook(path).LESSON.statement.partition(":")[0]
    made_of = [path, HERE / "lesson.py", HERE / "build.py", statement, *PROBLEMS.glob("*.py")]
    return page.exists() and page.stat().st_mtime > max(part.stat().st_mtime for part in made_of)


def build(out: Path, *, markdown: bool = False, only: Sequence[int] = ()) -> list[Path]:
    """Write the pages of all lessons, or of some and then no list, where they are not up to date; their files in order."""
    from tqdm import tqdm

    paths = notebooks()
    wanted = [path for path in paths if not only or int(path.stem[:2]) in only]
    if not wanted:
        raise ValueError(f"expected lessons from 1 to {len(paths)}, got {list(only)}; leave --only away for all")
    out.mkdir(parents=True, exist_ok=True)
    ending, written = ".md" if markdown else ".html", []
    for path in tqdm(wanted, desc="lessons", unit="lesson", disable=not sys.stderr.isatty()):
        written.append(out / f"{path.stem}{ending}")
        if is_fresh(written[-1], path):
            continue
        put(written[-1], markdown_page(path) if markdown else html_page(path, paths))
    if not only:
        written.append(out / f"index{ending}")
        if all(is_fresh(written[-1], path) for path in paths):
            return written
        put(written[-1], markdown_index(paths) if markdown else html_index(paths))
    return written


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--markdown", action="store_true", help="Markdown for Sphinx and MyST in place of HTML")
    parser.add_argument("--only", type=int, action="append", default=[], metavar="N", help="one lesson; may be given again")
    given = parser.parse_args()
    try:
        written = build(given.out, markdown=given.markdown, only=given.only)
    except ValueError as fault:
        sys.exit(str(fault))
    print(f"{len(written)} pages in {given.out}, begin with {written[-1].name}")


if __name__ == "__main__":
    main()
