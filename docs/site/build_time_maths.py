"""Formulas as MathML, written when the site is built: no script and no font from elsewhere is needed to see them."""

from typing import Any

from latex2mathml.converter import convert


def inline(self: Any, node: Any) -> None:
    """One formula in a line of text."""
    from docutils import nodes

    self.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def display(self: Any, node: Any) -> None:
    """One formula on a line of its own, which may be scrolled where it is wider than the page."""
    from docutils import nodes

    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    words = self.attval(node.astext())
    self.body.append(f'<div class="formula" tabindex="0" role="group" aria-label="{words}">')
    self.body.append(f"{number}{convert(node.astext(), display='block')}</div>")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer and choose it."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(display, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
