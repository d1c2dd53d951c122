"""Pages from templates: everything that a user or a file may have named is escaped."""

from importlib.resources import files
from typing import Any


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
