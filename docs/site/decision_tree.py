"""The directive `{decision-tree}`: questions one below the other, and what to do where the answer is yes, as a drawing.

Each line of its content is a branch: question | what to do | anchor on the page. The first line is the alternative text.
"""

import html
import textwrap
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

WIDE, LETTERS, LINE, GAP = (
    232,
    27,
    17,
    30,
)  # of a box in units of the drawing, of a line in letters, of a line, between boxes

Branch = tuple[str, str, str]


def branches(lines: list[str]) -> list[Branch]:
    """The branches; raises ValueError for a line without its three parts."""
    found = [tuple(part.strip() for part in line.split("|")) for line in lines if line.strip()]
    for parts in found:
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"expected 'question | what to do | anchor', got {' | '.join(parts)!r}")
    return [(question, answer, anchor) for question, answer, anchor in found]


def box(kind: str, x: int, y: int, high: int, lines: list[str]) -> str:
    """A box with its words."""
    words = "".join(f'<tspan x="{x + 9}" dy="{LINE}">{html.escape(line)}</tspan>' for line in lines)
    rect = f'<rect x="{x}" y="{y}" width="{WIDE}" height="{high}" rx="{2 if kind == "question" else 14}"/>'
    return f'<g class="{kind}">{rect}<text y="{y + 6}">{words}</text></g>'


def drawing(words: str, listed: list[Branch]) -> str:
    """The tree as inline SVG; what to do is a link to its place on the page."""
    parts, y = [], 2
    for k, (question, answer, anchor) in enumerate(listed):
        asked, told = textwrap.wrap(question, LETTERS), textwrap.wrap(answer, LETTERS)
        high = LINE * max(len(asked), len(told)) + 16
        parts.append(box("question", 2, y, high, asked))
        parts.append(
            f'<path class="way" d="M{WIDE + 2} {y + high / 2} h38"/><text x="{WIDE + 9}" y="{y + high / 2 - 5}">yes</text>'
        )
        parts.append(f'<a href="#{anchor}">{box("answer", WIDE + 40, y, high, told)}</a>')
        if k + 1 < len(listed):
            parts.append(f'<path class="way" d="M60 {y + high} v{GAP}"/><text x="68" y="{y + high + 20}">no</text>')
        y += high + GAP
    size, said = f"0 0 {2 * WIDE + 42} {y - GAP + 4}", html.escape(words)
    head = f'<svg class="decision-tree" viewBox="{size}" role="img" aria-label="{said}">'
    return "".join([head, f"<title>{said}</title>", *parts, "</svg>"])


class DecisionTree(SphinxDirective):
    """A tree of questions."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The drawing."""
        words, *lines = list(self.content)
        return [nodes.raw("", drawing(words, branches(lines)), format="html")]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("decision-tree", DecisionTree)
    return {"parallel_read_safe": True}
