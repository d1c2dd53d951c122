"""Numbers of pages, computed from the results that they were measured in.

    python docs/sourced.py            write every sourced number and table of the pages anew
    python docs/sourced.py --check    change nothing, say which differ from their source; exit code 1 where any does
    python docs/sourced.py --open     list the lines with numbers of which no source is stated

A page says where a number comes from in a comment behind it, which no reader of the page sees:

    CLARABEL takes 138<!--= ratio(1):.0f --> times ours, more than a hundred<!--? ratio(1) > 100 --> times.

Behind `=` stands an expression of Python with its format, as in an f-string: it must give what stands before the
comment. Behind `?` stands a condition that must hold, for what is said in words. A table is made between `<!--=
table(path, header) -->` and `<!--end-->`, each on a line of its own. The names come from one comment `<!--numbers`
... `-->` of the page, Python that is run first and in which `results(path)` reads a JSON file of the repository.
Whoever measures again runs this file: numbers and tables are rewritten, and a condition that fails names the sentence
to be written anew.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/*.md", "benchmarks/*.md", "problems/**/README.md")
NUMBER = r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|[A-Za-z]+"
MARK = re.compile(rf"(?P<shown>{NUMBER})<!--=(?P<said>.+?)-->")
CLAIM = re.compile(r"<!--\?(?P<said>.+?)-->")
BLOCK = re.compile(r"^<!--=(?P<said>[^\n]+?)-->\n\n(?:(?P<shown>(?:(?!^<!--end-->).)*?)\n\n)?^<!--end-->$", re.M | re.S)
NAMES = re.compile(r"^<!--numbers\n(.*?)^-->\n?", re.M | re.S)
COMMENT = re.compile(r"<!--[=?].*?-->|<!--end-->")
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
WORDS = "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()


def pages() -> list[Path]:
    """The pages whose numbers may have sources: those of docs, and what READMEs say."""
    return [ROOT / "README.md", *(path for where in PAGES for path in sorted(ROOT.glob(where)))]


@dataclass
class Source:
    """What the expressions of a page can name.

    read: files that were read, by their paths in the repository.
    """

    read: list[str] = field(default_factory=list)

    def text(self, path: str) -> str:
        """A file of the repository."""
        self.read += [path] if path not in self.read else []
        return (ROOT / path).read_text()

    def results(self, path: str) -> Any:
        """What a JSON file of the repository holds."""
        return json.loads(self.text(path))

    def table(self, path: str, header: str) -> str:
        """The table of a page of results that a script has written, from the line that begins with `header` to its end."""
        found = re.search(rf"^{re.escape(header)}[^\n]*\n(?:\|[^\n]*\n?)+", self.text(path), re.M)
        if found is None:
            raise ValueError(f"{path} has no table that begins with {header!r}; name the beginning of its first line")
        return found[0].rstrip("\n")

    def script(self, path: str) -> ModuleType:
        """A script of the repository as a module, for tables that it makes of its results itself."""
        spec = importlib.util.spec_from_file_location(f"sourced_{Path(path).stem}", ROOT / path)
        if spec is None or spec.loader is None:
            raise ValueError(f"expected the path of a script of the repository, got {path!r}")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str((ROOT / path).parent))  # where a script finds what stands beside it
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.pop(0)
        return module

    def names(self, page: str) -> dict[str, Any]:
        """The names of one page: these functions, and what its comment `<!--numbers` makes."""
        found: dict[str, Any] = {"results": self.results, "table": self.table, "script": self.script}
        found |= {"word": lambda k: WORDS[k], "median": statistics.median, "mean": statistics.mean}
        for block in NAMES.finditer(page):
            exec(block[1], found)
        return found


def shown(said: str, names: dict[str, Any]) -> str:
    """An expression with its format, as a page writes numbers: 2e-9 and not 2e-09."""
    return re.sub(r"e([+-])0(?=\d)", r"e\1", eval(f"f'''{{{said}}}'''", names)).replace("e+", "e")


class Page:
    """A page beside its sources.

    renewed: the page with every number and table as its source has it. differences: what the page as it is shows otherwise,
    and conditions that do not hold, a line each. read: the files that were read, by their paths in the repository. Raises
    ValueError for an expression that cannot be computed, and for a comment that stands behind no number.
    """

    def __init__(self, path: Path) -> None:
        source = Source()
        self.path, self.text, self.read = path, path.read_text(), source.read
        self.differences: list[str] = []
        self.names = source.names(self.text)
        lost = self.text.count("<!--=") - len(MARK.findall(self.text)) - len(BLOCK.findall(self.text))
        if lost:
            raise ValueError(f"{self.place(0)}: {lost} comments with '=' stand behind no number and before no table")
        for claim in CLAIM.finditer(self.text):
            if not self.value(claim, eval):
                self.differences.append(f"{self.place(claim.start())}: does not hold: {claim['said'].strip()}")
        self.renewed = BLOCK.sub(self.block, MARK.sub(self.mark, self.text))

    def place(self, start: int) -> str:
        """Where in the repository."""
        return f"{self.path.relative_to(ROOT)}:{self.text[:start].count(chr(10)) + 1}"

    def value(self, match: re.Match, compute: Callable[[str, dict[str, Any]], Any]) -> Any:
        """What the expression of a comment gives."""
        try:
            return compute(match["said"].strip(), self.names)
        except Exception as error:
            raise ValueError(
                f"{self.place(match.start())}: {match['said'].strip()!r} cannot be computed: {error!r}"
            ) from error

    def compared(self, match: re.Match, compute: Callable[[str, dict[str, Any]], Any]) -> str:
        """What the source gives, noted where the page shows something else."""
        meant = str(self.value(match, compute))
        if meant != match["shown"]:
            lines = zip_longest((match["shown"] or "").splitlines(), meant.splitlines(), fillvalue="")
            was, now = next((one, two) for one, two in lines if one != two)
            self.differences.append(f"{self.place(match.start())}: shows {was!r}, its source gives {now!r}")
        return meant

    def mark(self, match: re.Match) -> str:
        """A number and its comment."""
        return f"{self.compared(match, shown)}<!--={match['said']}-->"

    def block(self, match: re.Match) -> str:
        """A table between its comments."""
        return f"<!--={match['said']}-->\n\n{self.compared(match, eval)}\n\n<!--end-->"


def plain(text: str) -> str:
    """A page without these comments."""
    return COMMENT.sub("", NAMES.sub("", text))


def told(page: Path) -> str:
    """A page as the site shows it: without these comments, and with the files that its numbers are from named at its end.

    Raises ValueError where it shows other numbers than its sources give.
    """
    found = Page(page)
    if found.differences:
        raise ValueError("\n".join([*found.differences, "run python docs/sourced.py"]))
    if not found.read:
        return plain(found.text)
    links = ", ".join(f"[{file}](<{os.path.relpath(ROOT / file, page.parent)}>)" for file in found.read)
    words = f"Measured numbers of this page were computed, when it was built, from {links}."
    return f"{plain(found.text).rstrip()}\n\n---\n\n{words}\n"


def without_source(page: Path) -> Iterator[str]:
    """Lines with a number of which no source is stated, outside of code."""
    text = BLOCK.sub("", NAMES.sub("", page.read_text()))
    for line in FENCED.sub("", text).splitlines():
        if re.search(r"\d", re.sub(r"`[^`]*`|\]\([^)]*\)", "", COMMENT.sub("", MARK.sub("", line)))):
            yield line


def main() -> None:
    """Read the command line, and check or rewrite."""
    parser = argparse.ArgumentParser(description="Compute the numbers of pages from the results that they were measured in.")
    parser.add_argument("--check", action="store_true", help="change nothing, say what differs")
    parser.add_argument("--open", action="store_true", help="list lines with numbers of which no source is stated")
    given = parser.parse_args()
    failed = False
    for page in pages():
        found = Page(page)
        print(*found.differences, sep="\n", end="\n" if found.differences else "")
        failed |= any(given.check or ": does not hold: " in words for words in found.differences)
        if given.open:
            print(*(f"{page.relative_to(ROOT)}: {line}" for line in without_source(page)), sep="\n")
        elif not given.check and found.renewed != found.text:
            page.write_text(found.renewed)
            print(f"{page.relative_to(ROOT)}: written anew")
    sys.exit(failed)


if __name__ == "__main__":
    main()
