"""Pages from templates: everything that a user or a file may have named is escaped."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..files import file_at, write_whole


def render(template: str, **values: Any) -> str:
    """The page that a file of `templates` makes of these values; a name without a value raises."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def read(name: str) -> str:
        return (files("cvxinv.pages") / "templates" / name).read_text()

    loader = FunctionLoader(read)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    return environment.get_template(template).render(**values)


def write_page(path: str | Path, page: Callable[[], str]) -> Path:
    """Write what `page` makes as a file, whole or not at all; returns the path. No page is made where none can be written.

    Links are followed, and devices written to. Raises OSError where the file cannot be written.
    """
    path = Path(path)
    file_at(path, "the page", "page.html")
    write_whole(path, page().encode())
    return path
