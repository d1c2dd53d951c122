"""Docstrings of this house are prose with indented mathematics; here they become reStructuredText.

Indented blocks are shown as they stand, `names` in backticks become code, and links where they are public, and what reST
would take for markup (`|h|`, `h*`, `x_`) is escaped.
"""

import re
from typing import Any

import cvxinv

CODE = re.compile(r"(``.+?``|`[^`]+`)")
STRONG = re.compile(r"(?<!\S)(\*\*[A-Z][^*`]*\*\*|\*[A-Z][\w -]*\*)(?![\w*])")  # **Enough.** and *Near*, not a * b
MARKUP = re.compile(r"([\\*|_])")
PARAMETERS = re.compile(r"(?:(?<=^)|(?<=[.;] ))((?:[A-Za-z_]\w*)(?:, [A-Za-z_]\w*)*)(?=: )")
PUBLIC = set(cvxinv.__all__)


def inline(text: str) -> str:
    """Prose as reST."""
    parts = CODE.split(text)
    return "".join(code(part) if i % 2 else plain(part) for i, part in enumerate(parts))


def code(part: str) -> str:
    """A name in backticks, as code; a link where it is public."""
    name = part.strip("`")
    if name in PUBLIC:
        return rf"\ :py:obj:`~cvxinv.{name}`\ "
    return rf"\ ``{name}``\ "


def plain(part: str) -> str:
    """Prose between names in backticks: nothing of it is markup or an address, but bold words."""
    parts = STRONG.split(part)
    escaped = (words if i % 2 else MARKUP.sub(r"\\\1", words) for i, words in enumerate(parts))
    return "".join(escaped).replace("://", ":\\//")


def explained(text: str, names: set[str]) -> tuple[str, list[tuple[str, str]]]:
    """A paragraph apart: what stands first, and what is said of each parameter (`lam: weight of the sum. rows: ...`)."""
    starts = [m for m in PARAMETERS.finditer(text) if set(m[1].split(", ")) <= names]
    if not starts:
        return text, []
    ends = [m.start() for m in starts[1:]] + [len(text)]
    told = [(m[1], text[m.end() + 2 : end].rstrip(" ;")) for m, end in zip(starts, ends, strict=True)]
    return text[: starts[0].start()].strip(), told


def paragraph(text: str, names: set[str]) -> list[str]:
    """A paragraph of a docstring: prose, then a list of the parameters that it explains."""
    if text.startswith("- "):
        return [f"* {inline(text[2:])}", ""]
    first, told = explained(text, names)
    lines = [inline(first), ""] if first else []
    for listed, words in told:
        shown = ", ".join(f"**{name}**" for name in listed.replace("_", r"\_").split(", "))
        lines += [f"* {shown}: {inline(words)}", ""]
    return lines


def blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines, parted where a line is empty or where indented text begins or ends."""
    found: list[list[str]] = []
    new = True
    for line in lines:
        if not line.strip():
            new = True
            continue
        turns = found and found[-1][-1].startswith("    ") != line.startswith("    ")
        item = line.lstrip().startswith("- ")
        if new or turns or item:
            found.append([])
        found[-1].append(line.rstrip())
        new = False
    return found


def as_rest(lines: list[str], names: set[str] = frozenset()) -> list[str]:
    """A whole docstring."""
    found: list[str] = []
    for block in blocks(lines):
        if block[0].startswith("    "):
            found += ["..", "", ".. code-block:: text", "", *[f"    {line[4:]}" for line in block], ""]
        else:
            found += paragraph(" ".join(line.strip() for line in block), names)
    return found


def parameters(obj: Any) -> set[str]:
    """Names of parameters, fields and attributes, where they can be known."""
    import inspect

    names = set(getattr(obj, "__annotations__", {})) | set(dir(obj) if isinstance(obj, type) else ())
    for kind in getattr(obj, "__mro__", ()):
        names |= set(getattr(kind, "__annotations__", {}))
    try:
        names |= set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        pass
    return names


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Autodoc's hook."""
    lines[:] = as_rest(list(lines), parameters(obj))


def link_types(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A type in a signature: a link where it is public under another module's name, else as it stands.

    The pages of torch and others are not asked for: the build reads nothing from the network.
    """
    if node.get("refdomain") != "py" or node.get("reftype") == "obj":
        return None
    name = node["reftarget"].rsplit(".", 1)[-1]
    if name in PUBLIC and node["reftarget"] != f"cvxinv.{name}":
        return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", f"cvxinv.{name}", node, content)
    return content


def setup(app: Any) -> dict[str, bool]:
    """Connect."""
    app.connect("autodoc-process-docstring", process)
    app.connect("missing-reference", link_types)
    return {"parallel_read_safe": True}
