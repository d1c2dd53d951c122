"""Every picture leads to itself in its own size: on a telephone, and where its letters are small, one click shows them."""

import re
from typing import Any

PICTURE = re.compile(r'(<a\b[^>]*>\s*)?(<img\b[^>]*\bsrc="([^"]+)"[^>]*>)')


def linked(body: str) -> str:
    """The pictures of a page as links; thumbnails, and what is a link already, stay as they are."""

    def put(found: re.Match[str]) -> str:
        if found[1] or "_thumb." in found[3]:
            return found[0]
        return f'<a class="whole-picture" href="{found[3]}">{found[2]}</a>'

    return PICTURE.sub(put, body)


def link_pictures(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Sphinx's hook, called before a page is written."""
    if "body" in context:
        context["body"] = linked(context["body"])


def setup(app: Any) -> dict[str, bool]:
    """Connect."""
    app.connect("html-page-context", link_pictures)
    return {"parallel_read_safe": True}
