"""Pages of the reference: everything public, grouped by the room that it lives in, each file with its own introduction."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import cvxinv

# A group of the reference: its file, its title, and the modules whose public names stand there, by prefix.
GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("generators", "Generators", ("generator.abstract", "generator.chain", "generator.opaque", "generator.reading")),
    ("maps", "Maps", ("generator.maps",)),
    ("activations", "Activations", ("generator.activations",)),
    ("measurements", "Measurements", ("measurement",)),
    ("layer_problems", "Layer problems", ("layers.",)),
    ("certificates", "Rows, certificates, pieces of problems", ("layers.core",)),
    ("solvers", "Solvers of layer problems", ("solvers",)),
    ("inversion", "Inversion", ("inversion",)),
    ("methods", "Methods of inversion", ("inversion.methods", "inversion.method")),
    ("priors", "Priors and uncertainty", ("inversion.priors", "inversion.uncertainty")),
    ("proofs", "Proofs of optimality", ("exact", "inversion.proof")),
    ("guarantees", "Guarantees and diagnosis", ("guarantees",)),
    ("sparse_models", "Multi-layer sparse models", ("sparse_models",)),
    ("pages", "Pages", ("pages",)),
    ("programs", "Adapters to other programs", ("programs",)),
    ("errors", "Errors and warnings", ("errors",)),
)


WIDEST_TITLE = 60  # letters
MOST_IN_A_TITLE = 3  # names; of a file with more the first words of its introduction are the title


def homes() -> dict[str, str]:
    """The module, without `cvxinv.`, that each public name comes from, as `cvxinv/__init__.py` imports it."""
    tree = ast.parse(Path(cvxinv.__file__).read_text())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found |= {alias.name: node.module for alias in node.names}
    listed = set(cvxinv.__all__) | set(cvxinv._ADAPTERS)
    return {name: module for name, module in found.items() if name in listed}


def group_of(module: str) -> str:
    """The group whose prefix fits a module best; raises ValueError for a room that no group names."""
    fitting = [(len(prefix), file) for file, _, prefixes in GROUPS for prefix in prefixes if module.startswith(prefix)]
    if not fitting:
        raise ValueError(
            f"cvxinv.{module} is in no group of the reference; add its room to GROUPS in docs/site/reference.py"
        )
    return max(fitting)[1]


def directive(name: str) -> str:
    """How autodoc documents one public name."""
    thing = getattr(cvxinv, name)
    if inspect.isclass(thing):
        return f".. autoclass:: cvxinv.{name}\n"
    if callable(thing):
        return f".. autofunction:: cvxinv.{name}\n"
    listed = ", ".join(f"``{key}``" for key in thing)
    return f".. py:currentmodule:: cvxinv\n\n.. py:data:: {name}\n\n   Known names: {listed}.\n"


def part(module: str, names: list[str]) -> str:
    """The names of one file below its introduction."""
    doc = inspect.getdoc(importlib.import_module(f"cvxinv.{module}")) or ""
    title = ", ".join(f"``{name}``" for name in names)
    if len(names) > MOST_IN_A_TITLE and doc:
        title = re.split(r"[:.]", doc.splitlines()[0])[0].replace("`", "")
        title = textwrap.shorten(title, WIDEST_TITLE, placeholder=" ...")
    lines = [title, "-" * len(title), ""]
    if len(doc.splitlines()) > 1:
        lines += [f".. automodule:: cvxinv.{module}", "   :no-members:", "   :no-index:", ""]
    return "\n".join(lines) + "\n".join(directive(name) for name in names) + "\n"


def reference_pages() -> dict[str, str]:
    """File name and text of each page, the list of groups first."""
    grouped: dict[str, dict[str, list[str]]] = {file: {} for file, _, _ in GROUPS}
    for name, module in sorted(homes().items(), key=lambda item: item[0].lower()):
        if name in cvxinv.__all__ or importable_module(module):
            grouped[group_of(module)].setdefault(module, []).append(name)
    pages = {}
    for file, title, _ in GROUPS:
        if grouped[file]:
            body = "\n".join(part(module, names) for module, names in sorted(grouped[file].items()))
            pages[f"{file}.rst"] = f"{title}\n{'=' * len(title)}\n\n.. py:currentmodule:: cvxinv\n\n{body}"
    return {"index.rst": index(list(pages))} | pages


def importable_module(module: str) -> bool:
    """Whether an adapter's other program is installed."""
    try:
        importlib.import_module(f"cvxinv.{module}")
    except ImportError:
        return False
    return True


def index(files: list[str]) -> str:
    """The list of groups."""
    words = (
        "Everything public, from the docstrings. ``import cvxinv as ci`` gives all of it; nothing else is promised to stay. "
        "A ``sparse`` note named as a source is a working note, not published; what is used of it stands in the docstring."
    )
    entries = "\n".join(f"   {file.removesuffix('.rst')}" for file in files)
    return f"Reference\n=========\n\n{words}\n\n.. toctree::\n   :maxdepth: 2\n\n{entries}\n"
