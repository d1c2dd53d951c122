"""The directive `{run}`: Python that the build executes, shown with what it printed and drew.

All blocks of a page share one namespace, as in a session. A block that raises stops the build. With `:markdown:` what it
prints is part of the page, such as a table of results that are read when the site is built.
"""

import contextlib
import io
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from figures import open_figures, save, words_of
from sphinx.util.docutils import SphinxDirective

Pages = dict[str, dict[str, Any]]
_pages: Pages = {}


def execute(code: str, namespace: dict[str, Any], file: str, line: int) -> str:
    """Run one block; what it printed. Newlines in front let a traceback name the line of the page."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * line + code, file, "exec"), namespace)
    return printed.getvalue()


class Run(SphinxDirective):
    """A block of Python, executed."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "hide": directives.flag,  # the code, not what it prints and draws
        "markdown": directives.flag,  # what it prints is no text but Markdown
    }

    def run(self) -> list[nodes.Node]:
        """The code, its output, its figures."""
        import matplotlib

        matplotlib.use("Agg")
        page = self.env.docname
        namespace = _pages.setdefault(page, {"__name__": "page", "figures": 0})
        code = "\n".join(self.content)
        source, line = self.get_source_info()
        printed = execute(code, namespace, source, line)
        shown = nodes.literal_block(code, code, language="python")
        found: list[nodes.Node] = [] if "hide" in self.options else [shown]
        if printed.strip() and "markdown" in self.options:
            found += self.parse_text_to_nodes(printed)
        elif printed.strip():
            found.append(nodes.literal_block(printed, printed, language="text", classes=["printed"]))
        return found + self.pictures(page, namespace)

    def pictures(self, page: str, namespace: dict[str, Any]) -> list[nodes.Node]:
        """An image for each figure that the block left open."""
        import matplotlib.pyplot as plt

        found: list[nodes.Node] = []
        for figure in open_figures():
            namespace["figures"] += 1
            name = f"drawn/{page.replace('/', '-')}-{namespace['figures']}.png"
            save(figure, Path(self.env.srcdir) / name)
            found.append(nodes.image(uri=f"/{name}", alt=words_of(figure)))
        plt.close("all")
        return found


def forget(app: Any, env: Any, page: str) -> None:
    """A page that is read again starts with an empty namespace."""
    _pages.pop(page, None)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("run", Run)
    app.connect("env-purge-doc", forget)
    return {"parallel_read_safe": False}
