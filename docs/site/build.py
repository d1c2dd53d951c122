"""Build the site: stage the pages as they lie in the repository, write the reference, execute the examples, run Sphinx.

    python docs/site/build.py             or `make docs`: the whole site, warnings are errors
    python docs/site/build.py --quick     the same without executing the examples of docs/examples

The pages are copied to docs/_build/source, which git does not see, with every file of the repository that they link to; the
site is docs/_build/html/index.html and needs no server and no network.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
sys.path.append(str(DOCS))

import sourced  # noqa: E402

ROOT = DOCS.parent
BUILD = DOCS / "_build"
LESSONS = DOCS / "lessons" / "build.py"  # writes the pages of the lessons
SOURCE, HTML = BUILD / "source", BUILD / "html"
MADE = ("docs/gallery", "docs/lessons", "drawn", "sg_execution_times.rst")  # what extensions write into the staged tree

LINK = re.compile(r"\]\(<?(?!https?:|mailto:|#)([^)\s>#]+)")
HAS_PICTURE = re.compile(r"!\[|^```\{(?:run|decision-tree)\}", re.M)
FIRST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff")
README_TITLE = b"# Install, and five minutes\n"  # the first page has the name
INDEX = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>cvxinv</title>
<meta http-equiv="refresh" content="0; url=docs/index.html"></head>
<body><p><a href="docs/index.html">cvxinv: the first page</a></p></body></html>
"""


# --- staging --------------------------------------------------------------------------------------


def pages_of_docs() -> list[str]:
    """Every page and picture of docs, by its path in the repository."""
    kept = [*DOCS.glob("*.md"), *DOCS.glob("*.png"), *(DOCS / "decisions").glob("*.md")]
    kept += [*(DOCS / "examples").rglob("*.py"), *(DOCS / "examples").rglob("*.rst")]
    return sorted(path.relative_to(ROOT).as_posix() for path in kept)


def text_of(page: str) -> str:
    """A page as the site shows it; raises ValueError where its numbers are not those of their sources."""
    return sourced.told(ROOT / page) if ROOT / page in sourced.pages() else (ROOT / page).read_text()


def linked(page: str) -> list[str]:
    """Files of the repository that a page links to; raises ValueError for a link to nothing."""
    found = []
    for target in LINK.findall(text_of(page)):
        there = Path(os.path.normpath(ROOT / Path(page).parent / target))
        if is_made(there):
            continue
        if not there.is_file():
            raise ValueError(f"{page} links to {target!r}, which is no file of the repository; mend the link")
        found.append(there.relative_to(ROOT).as_posix())
    return found


def is_made(path: Path) -> bool:
    """Whether the build makes this page: the reference, the gallery, lists."""
    parts = path.relative_to(ROOT).parts
    return parts[:2] in (("docs", "reference"), ("docs", "gallery"), ("docs", "lessons")) or parts in (
        ("docs", "decisions", "index.md"),
    )


def everything() -> list[str]:
    """The pages, and by and by all that they link to."""
    found, waiting = set(), [*FIRST, *pages_of_docs()]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += linked(page) if page.endswith(".md") else []
    return sorted(found)


def titles(page: str) -> str:
    """The first heading of a page."""
    heading = re.search(r"^# (.+)$", (ROOT / page).read_text(), re.M)
    if heading is None:
        raise ValueError(f"{page} has no heading; begin it with '# Title'")
    return heading[1].replace("`", "")  # a list of pages knows no code


def toctree(entries: list[str], *, caption: str = "", depth: int = 1, hidden: bool = False) -> str:
    """A toctree of MyST."""
    options = [f":maxdepth: {depth}", *([f":caption: {caption}"] if caption else []), *([":hidden:"] if hidden else [])]
    return "\n".join(["```{toctree}", *options, "", *entries, "```", ""])


def decisions() -> str:
    """The list of decision notes."""
    notes = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    words = "Choices that a reader would question, each on one page: context, decision, what was rejected, what reverses it."
    return f"# Decision notes\n\n{words}\n\n" + toctree([note.stem for note in notes])


def measured(staged: list[str]) -> str:
    """The list of pages from outside docs that others link to."""
    outside = [page for page in staged if page.endswith(".md") and not page.startswith("docs/") and page not in FIRST]
    words = "Results and notes that the pages cite, as they lie in the repository beside the scripts that write them."
    return f"# Measured\n\n{words}\n\n" + toctree([f"{titles(page)} </{page[:-3]}>" for page in outside])


def front(staged: list[str]) -> str:
    """The first page: entries of its lists that do not exist are left out, pages that it does not list are added."""
    there = {page.removeprefix("docs/").rsplit(".", 1)[0] for page in staged if page.startswith("docs/")}
    there |= {"decisions/index", "measured", "reference/index", "gallery/index", "lessons/index"}
    there |= {"/README", "/CHANGELOG", "/CONTRIBUTING"}
    kept, inside, named = [], False, {"index"}
    for line in (DOCS / "index.md").read_text().splitlines():
        inside = line.startswith("```{toctree}") or (inside and line != "```")
        entry = re.sub(r"^.*<(.+)>$", r"\1", line.strip())
        if inside and line and not line.startswith((":", "```")):
            named.add(entry)
            if entry not in there:
                continue
        kept.append(line)
    further = sorted(name for name in there if "/" not in name and (DOCS / f"{name}.md").exists() and name not in named)
    return "\n".join([*kept, "", toctree(further, caption="Further", hidden=True) if further else ""])


def with_picture(page: str, text: str) -> str:
    """A page with the picture that the build has for it below its title; a page that shows one already stays as it is."""
    from page_pictures import picture

    found = None if HAS_PICTURE.search(text) else picture(page)
    if found is None:
        return text
    words, content = found
    name = page.replace("/", "-").removesuffix(".md") + ".png"
    put(SOURCE / "drawn" / name, content)
    return re.sub(r"^(# .+\n)", lambda title: f"{title[1]}\n![{words}](/drawn/{name})\n", text, count=1, flags=re.M)


def put(path: Path, content: bytes) -> None:
    """Write a file where it differs, so that Sphinx reads again only what has changed."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def stage() -> None:
    """Bring the staged tree in step with the repository."""
    from reference import reference_pages

    staged = everything()
    pages = {page: with_picture(page, text_of(page)) for page in staged if page.endswith(".md")}
    files = {page: (ROOT / page).read_bytes() for page in staged if page not in pages}
    made = {"docs/decisions/index.md": decisions(), "docs/measured.md": measured(staged), "docs/index.md": front(staged)}
    made |= {f"docs/reference/{name}": text for name, text in reference_pages().items()}
    files |= {page: text.encode() for page, text in (pages | made).items()}
    files["README.md"] = files["README.md"].replace(b"# cvxinv\n", README_TITLE, 1)
    for page, content in files.items():
        put(SOURCE / page, content)
    for path in SOURCE.rglob("*"):
        name = path.relative_to(SOURCE).as_posix()
        if path.is_file() and name not in files and not name.startswith(MADE):
            path.unlink()
    examples = tuple(path.stem for path in (DOCS / "examples").glob("plot_*.py"))
    for path in (SOURCE / "docs" / "gallery").glob("plot_*"):
        if not path.name.startswith(examples):
            path.unlink()
    subprocess.run([sys.executable, str(LESSONS), str(SOURCE / "docs" / "lessons"), "--markdown"], check=True)


# --- building -------------------------------------------------------------------------------------


def contents() -> str:
    """Every staged page with its first two lines, its title among them: what stands in the lists beside each page."""
    pages = sorted(path for path in SOURCE.rglob("*") if path.suffix in (".md", ".rst", ".py") and path.is_file())
    pages = [path for path in pages if not path.is_relative_to(SOURCE / "docs" / "gallery")]  # made of docs/examples
    return "\n".join(f"{path.relative_to(SOURCE)}: {path.read_text().splitlines()[:2]}" for path in pages)


def sphinx(quick: bool) -> int:
    """Run Sphinx on the staged tree; its exit code.

    Sphinx writes a page again where its own text changed. Where pages came, went or changed their titles, all are written
    again, or the lists beside the others would be those of the last build, and pages that are gone would stay.
    """
    from sphinx.cmd.build import build_main

    now, kept = contents(), BUILD / "contents.txt"
    if not kept.exists() or kept.read_text() != now:
        shutil.rmtree(HTML, ignore_errors=True)  # Sphinx writes what is missing
        kept.unlink(missing_ok=True)
    command = ["-b", "html", "-c", str(HERE), "-d", str(BUILD / "doctrees"), "-W", "--keep-going", "-n"]
    quickly = ["-D", "plot_gallery=0"] if quick else []
    code = build_main([*command, *quickly, str(SOURCE), str(HTML)])
    if code == 0:
        put(kept, now.encode())
    return code


def add_maps() -> None:
    """Put the map of the package on the index and the page of the search, which no hook of a page reaches."""
    from house_map import drawing

    picture = drawing([])
    for name, before in {"genindex.html": "</h1>", "search.html": '<div id="search-results"></div>'}.items():
        text = (HTML / name).read_text()
        if "house-map" not in text:
            put(HTML / name, text.replace(before, f"{before}{picture}", 1).encode())


def build(*, quick: bool = False) -> int:
    """Stage, build, check; an exit code."""
    from built import faults

    began = time.perf_counter()
    os.environ.setdefault("MPLBACKEND", "Agg")
    stage()
    code = sphinx(quick)
    if code == 0:
        put(HTML / "index.html", INDEX.encode())
        add_maps()
        found = faults(HTML)
        print("\n".join(found) or "links and pictures of every page: checked, no fault")
        code = 1 if found else 0
    print(f"== {HTML.relative_to(ROOT)}/index.html: {time.perf_counter() - began:.0f} s, {'ok' if code == 0 else 'FAILED'}")
    return code


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build the site of cvxinv.")
    parser.add_argument("--quick", action="store_true", help="do not execute the examples of docs/examples")
    parser.add_argument("--clean", action="store_true", help="build everything again")
    given = parser.parse_args()
    if given.clean:
        shutil.rmtree(BUILD, ignore_errors=True)
    sys.path.insert(0, str(HERE))
    sys.exit(build(quick=given.quick))


if __name__ == "__main__":
    main()
