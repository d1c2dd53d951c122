"""The house rules that a machine can check: imports, wheel, README, changelog, notes, files."""

import ast
import configparser
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import typer

import cvxinv

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cvxinv"

# Which area stands on which: an area imports itself, its own rank and what is lower, never what is higher.
RANKS = {
    "check": 0,
    "check_fits": 1,
    "check_inversion": 2,
    "check_proof": 3,
    "errors": 0,
    "entries": 0,
    "inputs": 0,
    "live": 0,
    "lengths": 0,
    "memory": 0,
    "batch": 0,
    "files": 1,
    "surroundings": 0,
    "bitmaps": 0,
    "tables": 0,
    "shipped": 0,
    "generator": 1,
    "measurement": 1,
    "layers.core": 2,
    "layers": 3,
    "solvers": 4,
    "inversion": 5,
    "exact": 6,
    "sparse_models": 6,
    "guarantees": 7,
    "pages": 8,
    "teaching": 8,
    "programs": 9,
    "command": 9,
    "__init__": 10,
    "__main__": 10,
}
CVXPY_AREAS = (
    "layers.",
    "sparse_models.multi_layer_pursuit",
    "sparse_models.barycenters",
    "solvers.reference",
    "solvers.apart",
    "exact.",
)
LICENCES = {
    "torch": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "cvxpy": "Apache-2.0",
    "clarabel": "Apache-2.0",
    "highspy": "MIT",
    "osqp": "Apache-2.0",
    "scs": "MIT",
    "safetensors": "Apache-2.0",
    "tqdm": "MPL-2.0 AND MIT",
    "typer": "MIT",
    "rich": "MIT",
    "jinja2": "BSD-3-Clause",
    "matplotlib": "PSF-2.0",
    "onnx": "Apache-2.0",
    "pillow": "MIT-CMU",
    "zarr": "MIT",
    "dask": "BSD-3-Clause",
    "benchopt": "BSD-3-Clause",
    "pot": "MIT",
    "pyscipopt": "MIT",  # with SCIP, Apache-2.0, in its wheels
}
IMPORTED_AS = {
    "PIL": "pillow",
    "distributed": "dask",
    "ot": "pot",
    "sklearn": "scikit-learn",
}  # packages whose import has another name
LARGEST_FILE = 200_000  # bytes
MOST_PRIVATE = 5  # names with an underscore of one file that another uses
ALLOWED_LARGE: set[str] = {"cvxinv/shipped/mnist_gan.safetensors"}


# --- imports --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One import: `target` is dotted and absolute; inside cvxinv it is a module, never a name in one."""

    module: str
    target: str
    line: int
    in_function: bool
    typing_only: bool
    star: bool

    def __str__(self) -> str:
        return f"{self.module} line {self.line} imports {self.target}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(p): p for p in sorted(PACKAGE.rglob("*.py"))}


def area(module: str) -> str:
    """First name below the package: `cvxinv.layers.lasso` belongs to `layers`; `layers.core` is a room of its own."""
    if module.startswith("cvxinv.layers.core"):
        return "layers.core"
    return module.split(".")[1] if "." in module else "__init__"


def walk(node: ast.AST, in_function: bool = False, typing_only: bool = False) -> Iterator[tuple]:
    """Every import statement, with whether it stands in a function or under `if TYPE_CHECKING`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, in_function, typing_only
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        typing_only = True
    for child in ast.iter_child_nodes(node):
        yield from walk(child, in_function, typing_only)


def targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module.split(".") if is_package else module.split(".")[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
    named = [f"{base}.{alias.name}" for alias in node.names]
    return sorted({name if name in modules() else base for name in named})


def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    found = []
    for node, in_function, typing_only in walk(ast.parse(source)):
        star = isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
        for target in targets(node, module, is_package):
            found.append(Import(module, target, node.lineno, in_function, typing_only, star))
    return found


@cache
def all_imports() -> list[Import]:
    return [
        found
        for module, path in modules().items()
        for found in imports_of(path.read_text(), module, path.name == "__init__.py")
    ]


def inner(found: Import) -> bool:
    return found.target.split(".")[0] == "cvxinv"


def direction_fault(found: Import) -> str | None:
    """What is wrong with the direction of one import inside the package, or None."""
    here, there = area(found.module), area(found.target)
    if here == "__init__" or found.module == found.target:
        return None
    if there == "__init__" and here != "command":
        return f"{found}: import the module itself, not the public surface"
    if here == "layers" == there and "cvxinv.layers" not in (found.module, found.target):
        return f"{found}: layers do not import each other"
    if there == "__init__":
        return None
    if RANKS.get(there, 0) > RANKS.get(here, 99):
        return f"{found}: {here} may not import {there}"
    return None


def test_every_module_has_a_rank():
    unknown = {area(m) for m in modules()} - set(RANKS)
    assert not unknown, f"expected a rank in RANKS for {sorted(unknown)}, got none; say where it stands"


def test_imports_go_one_way():
    faults = [fault for found in all_imports() if inner(found) and (fault := direction_fault(found))]
    assert not faults, "\n".join(faults)


def test_modules_do_not_import_in_a_circle():
    graph: dict[str, set[str]] = {m: set() for m in modules() if m != "cvxinv"}
    for found in all_imports():
        if found.module in graph and found.target in graph and not found.typing_only:
            graph[found.module].add(found.target)
    while leaves := {m for m, needs in graph.items() if not needs & (graph.keys() - {m})}:
        graph = {m: needs - leaves for m, needs in graph.items() if m not in leaves}
    assert not graph, f"these import each other in a circle: {sorted(graph)}"


# --- facts instead of classes ---------------------------------------------------------------------


def asked_classes(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Line and class names of every isinstance."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            parts = list(ast.walk(node.args[1]))
            names = {part.id for part in parts if isinstance(part, ast.Name)}
            yield node.lineno, names | {part.attr for part in parts if isinstance(part, ast.Attribute)}


def kinds_of(base: type) -> set[str]:
    """Names of a class and of those built on it in its file, or in its room."""
    home = base.__module__.removesuffix(".abstract")
    return {base.__name__} | {kind.__name__ for kind in base.__subclasses__() if kind.__module__.startswith(home)}


@pytest.mark.parametrize(
    ("base", "own", "most"),
    [
        (cvxinv.AbstractActivation, ("generator/activations.py", "generator/reading/"), 11),
        (cvxinv.AbstractMeasurement, ("measurement/",), 0),
    ],
    ids=["activations", "measurements"],
)
def test_facts_are_asked_for_and_not_classes(base: type, own: tuple[str, ...], most: int):
    kinds, found = kinds_of(base), []
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE).as_posix()
        if not where.startswith(own):
            found += [f"{where}:{line}" for line, names in asked_classes(ast.parse(path.read_text())) if names & kinds]
    assert len(found) <= most, f"ask {base.__name__} for its facts, not for its class: {found}"


def test_the_count_of_classes_asked_for_sees_each_form():
    text = "isinstance(a, Tanh | ci.Sigmoid); isinstance(b, (ReLU, PLU)); isinstance(c, Identity); isinstance(d, nn.Module)"
    kinds = kinds_of(cvxinv.AbstractActivation)
    assert {"Identity", "ReLU", "LeakyReLU", "Tanh", "Sigmoid", "PLU", "Rescaled", "AbstractActivation"} <= kinds
    assert [bool(names & kinds) for _, names in asked_classes(ast.parse(text))] == [True, True, True, False]


def competes(found: Import) -> bool:
    """Whether the steps, or the judge of latents, import a method."""
    below = ("cvxinv.inversion.steps", "cvxinv.inversion.verify", "cvxinv.inversion.task", "cvxinv.inversion.answer")
    return found.module.startswith(below) and found.target.startswith("cvxinv.inversion.methods")


def test_what_judges_imports_nothing_that_competes():
    faults = [str(found) for found in all_imports() if competes(found)]
    assert not faults, "\n".join(faults)
    planted = imports_of("from .methods.hybrid import Hybrid", "cvxinv.inversion.verify")
    planted += imports_of("from ..methods import hybrid", "cvxinv.inversion.steps.newton")
    assert all(map(competes, planted)) and len(planted) == 2


def defined_names(tree: ast.Module) -> set[str]:
    """Names of functions, classes, fields and attributes that a file defines."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def private_accesses(source: str) -> list[str]:
    """`x._name` where x is another's object and the file defines no `_name`; `_replace` and the like are named tuples'."""
    tree = ast.parse(source)
    own = defined_names(tree) | {"_replace", "_asdict", "_fields", "_make"}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not re.match(r"_[^_]", node.attr) or node.attr in own:
            continue
        holder = node.value.func if isinstance(node.value, ast.Call) else node.value
        if not (isinstance(holder, ast.Name) and holder.id in ("self", "cls", "super")):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_files_use_no_private_names_of_each_other():
    found = [f"{name} {access}" for name, path in modules().items() for access in private_accesses(path.read_text())]
    assert len(found) <= MOST_PRIVATE, f"{len(found)} private accesses across files:\n" + "\n".join(found)
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            inside = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cvxinv"))
            private = [alias.name for alias in node.names if re.match(r"_[^_]", alias.name)] if inside else []
            assert not private, f"{name} line {node.lineno} imports {private}; give them public names"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("rows._off.any()", 1),
        ("f(problem)._lam + problem.rows._weight", 2),
        ("self._off, cls._off, super()._off", 0),
        ("class A:\n    def _part(self): ...\ndef f(a): return a._part()", 0),
        ("def f(a): return a._replace(b=1), a.__dict__", 0),
    ],
)
def test_the_count_of_private_accesses_sees_them(source: str, count: int):
    assert len(private_accesses(source)) == count


def test_no_star_imports():
    assert not [str(found) for found in all_imports() if found.star]


def test_cvxpy_is_imported_late_and_only_where_statements_are_solved():
    for found in all_imports():
        if found.target.split(".")[0] != "cvxpy":
            continue
        where = found.module.removeprefix("cvxinv.")
        assert found.in_function or found.typing_only, f"{found} at the top; import it where it is called"
        assert found.typing_only or where.startswith(CVXPY_AREAS), f"{found}: only {CVXPY_AREAS} may"


def test_optional_packages_are_imported_late_and_in_one_place():
    for found in all_imports():
        top = found.target.split(".")[0]
        if top == "matplotlib":
            assert found.module == "cvxinv.pages.plots", f"{found}: only plots.py draws"
        if top == "PIL":
            assert found.module == "cvxinv.pages.png", f"{found}: only png.py reads pictures"
        if top in ("matplotlib", "ecos", "PIL", "jinja2", "pandas"):
            assert found.in_function or found.typing_only, f"{found} at the top; it may be missing"
        if top == "ot":
            assert found.module == "cvxinv.sparse_models.transport" and found.in_function, f"{found}: it may be missing"
        if top in ("zarr", "dask", "distributed"):
            assert found.module.startswith("cvxinv.inversion.runs.") and found.in_function, f"{found}: it may be missing"
        if top in ("onnx", "onnxruntime"):
            own = found.module.startswith("cvxinv.generator.reading.onnx_") or found.module == "cvxinv.exact.vnnlib"
            assert own and found.in_function, f"{found}: it may be missing"
        own = {"sklearn": "cvxinv.programs.scikit_learn", "deepinv": "cvxinv.programs.deepinv_reconstructor"}
        assert found.module == own.get(top, found.module), f"{found}: only its adapter, which is imported late"


def test_every_foreign_import_is_a_declared_requirement():
    options = setup_cfg()
    declared = set(requirements(options["options"]["install_requires"]))
    declared |= set(requirements(options["options.extras_require"]["plot"]))
    declared |= set(requirements(options["options.extras_require"]["ecos"]))
    declared |= set(requirements(options["options.extras_require"]["cluster"]))
    declared |= set(requirements(options["options.extras_require"]["sklearn"]))
    declared |= set(requirements(options["options.extras_require"]["ot"]))
    declared |= {"deepinv"}  # too heavy for an extra: whoever works with it has it
    declared |= {"onnx", "onnxruntime", "pandas"} & set(requirements(options["options.extras_require"]["test"]))
    for found in all_imports():
        top = found.target.split(".")[0]
        checkers = ["check", "check_fits", "check_inversion", "check_proof"]  # alone, with those before beside it
        name = found.module.removeprefix("cvxinv.").removesuffix(".beside")
        beside = checkers[: checkers.index(name)] if name in checkers else []
        known = inner(found) or top in beside or top in sys.stdlib_module_names or IMPORTED_AS.get(top, top) in declared
        assert known, f"{found}, which setup.cfg does not require"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cvxinv.layers.core.certificate", "from ..lasso import Lasso"),
        ("cvxinv.layers.core.certificate", "from ...solvers.choose import choose"),
        ("cvxinv.generator.maps", "def f():\n    from ..layers.core import rows"),
        ("cvxinv.layers.one", "from .two import Two"),
        ("cvxinv.layers.one", "from cvxinv.solvers import reference"),
        ("cvxinv.solvers.one", "from ..inversion.methods import layered"),
        ("cvxinv.layers.core.rows", "from cvxinv import LinearMap"),
        ("cvxinv.inversion.one", "from ..pages.report import table"),
    ],
)
def test_the_import_check_sees_a_planted_fault(module: str, line: str):
    assert any(direction_fault(found) for found in imports_of(line, module))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cvxinv.layers.one", "from .core.problem import Point"),
        ("cvxinv.solvers.newton.one", "from ...layers.core.certificate import certify"),
        ("cvxinv.solvers.one", "from .two import two"),
        ("cvxinv.command.cli", "from .. import invert"),
        ("cvxinv.inversion.one", "from ..generator.chain import Generator"),
    ],
)
def test_the_import_check_lets_the_right_direction_pass(module: str, line: str):
    assert not any(direction_fault(found) for found in imports_of(line, module))


def test_import_is_cheap():
    heavy = "cvxpy jinja2 PIL matplotlib sklearn ecos typer clarabel osqp scs onnx onnxruntime zarr dask distributed".split()
    heavy += ["pandas", "deepinv", "scipy.optimize", "ot"]
    code = f"import sys, cvxinv; print(*[m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not loaded.split(), f"import cvxinv also imports {loaded}"


# --- packaging ------------------------------------------------------------------------------------


@cache
def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def requirements(lines: str) -> list[str]:
    return [re.split(r"[^\w.-]", line.strip())[0] for line in lines.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the tree, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "out")
    shutil.copytree(ROOT, folder / "tree", ignore=left_out)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist")]
    done = subprocess.run([*command, str(folder / "tree")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next((folder / "dist").glob("*.whl")))


def test_the_wheel_claims_one_name(wheel: zipfile.ZipFile):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"cvxinv"}


def test_the_wheel_holds_every_module_and_shipped_file(wheel: zipfile.ZipFile):
    ours = [p for p in PACKAGE.rglob("*.py")] + [PACKAGE / "py.typed"]
    for folder in ("shipped", "pages/templates"):
        ours += [p for p in (PACKAGE / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    missing = {p.relative_to(ROOT).as_posix() for p in ours} - set(wheel.namelist())
    assert not missing, f"setup.cfg leaves out of the wheel: {sorted(missing)}"


def test_the_wheel_does_not_require_ecos(wheel: zipfile.ZipFile):
    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))).decode()
    default = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert any("cvxpy" in line for line in default)
    assert not [line for line in default if "ecos" in line]


def test_requirements_have_licences_without_copyleft():
    options = setup_cfg()
    names = requirements(options["options"]["install_requires"])
    for extra in ("plot", "onnx", "scip", "cluster", "ot"):
        names += requirements(options["options.extras_require"][extra])
    for name in names:
        assert name in LICENCES, f"expected the licence of {name} in LICENCES, got none; look it up"
        assert "GPL" not in LICENCES[name], f"{name} is under {LICENCES[name]}; make it an extra"


def test_ruff_is_the_same_everywhere():
    pinned = re.search(r"^ruff==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.search(r"ruff-pre-commit\s+rev: v(\S+)", hooks)[1] == pinned


def test_the_makefile_comment_names_the_pinned_torch():
    pinned = re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.M)[0]
    assert pinned in (ROOT / "Makefile").read_text()


# --- README ---------------------------------------------------------------------------------------


def readme_blocks(*languages: str) -> list[tuple[int, str]]:
    """Line number and text of each fenced block in one of the languages."""
    readme = ROOT / "README.md"
    assert readme.exists(), "expected README.md beside setup.cfg, found none"
    text = readme.read_text()
    fenced = re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```\s*$", text, re.M | re.S)
    return [(text[: m.start(2)].count("\n"), m[2]) for m in fenced if m[1] in languages]


def readme_commands() -> list[list[str]]:
    """Each command of the shell blocks as words; comments and prompts dropped, continued lines joined."""
    text = "\n".join(block for _, block in readme_blocks("bash", "sh", "console")).replace("\\\n", " ")
    lines = [re.sub(r"(^|\s)#.*", "", line).removeprefix("$ ") for line in text.splitlines()]
    parts = [part for line in lines for part in re.split(r"&&|\|\||[;|]", line)]
    return [words for part in parts if (words := shlex.split(part))]


def test_readme_names_commands_and_options_that_exist():
    from cvxinv.command.cli import app

    commands = typer.main.get_command(app).commands
    named = [words for words in readme_commands() if Path(words[0]).name == "cvxinv"]
    assert named, "expected cvxinv commands in README.md, found none"
    for words in named:
        if words[1:2] in ([], ["--help"], ["--version"]):
            continue
        assert words[1] in commands, f"README.md names 'cvxinv {words[1]}'; there are {sorted(commands)}"
        known = {o for p in commands[words[1]].params for o in [*p.opts, *p.secondary_opts]} | {"--help"}
        options = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-zA-Z]", word)}
        assert options <= known, f"README.md gives 'cvxinv {words[1]}' unknown options {sorted(options - known)}"


def test_readme_names_make_targets_that_exist():
    there = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {w for words in readme_commands() if words[0] == "make" for w in words[1:] if "=" not in w}
    assert {"demo", "test"} <= named, "expected make demo and make test in README.md"
    assert named <= there, f"README.md names make targets that do not exist: {sorted(named - there)}"


# --- what is said of speed ------------------------------------------------------------------------

# a time in milliseconds, "78 of 80", a size with what came of it, a core or machine that was measured
MEASURED = re.compile(
    r"\d ?(ms|us|µs)\b|\b\d+ of (the )?\d+\b(?!/)|\b\d+x\d+ (at|on|for|rows of)\b|\bone core\b"
    r"|\(measured|\d s (on|a signal)\b"
)


def remarks(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a file, line by line, with their numbers."""
    text = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (said := ast.get_docstring(node, clean=False)):
            yield from enumerate(said.splitlines(), node.body[0].lineno)


@pytest.mark.parametrize("module", modules())
def test_what_was_measured_stands_in_results_and_notes(module: str):
    """There with its command, machine and commit, and not in docstrings, where nobody can repeat it."""
    path = modules()[module]
    found = [f"{path.relative_to(ROOT)}:{n}: {line.strip()}" for n, line in remarks(path) if MEASURED.search(line)]
    assert not found, f"put it into benchmarks/results or a decision note and name that here: {found}"


# --- tests ----------------------------------------------------------------------------------------

BRANCHING = ast.With | ast.For | ast.While | ast.Try
TELLS = {"raises", "warns", "skip", "fail"}  # of pytest: each ends at a check, or is counted as skipped


def called(node: ast.AST) -> set[str]:
    """The last names of all that a statement calls: {"check_bound"} of `checks.check_bound(case)`."""
    calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in calls if isinstance(f, ast.Attribute | ast.Name)}


def checks(node: ast.AST, checkers: set[str]) -> bool:
    return any(name in checkers or name.startswith("assert_") for name in called(node))


def outcome(body: list[ast.stmt], checkers: set[str]) -> str:
    """How these statements end: "checked" on every way, "left" by a return before any check, or "open".

    A loop counts as run: what tests run over is given, and pytest skips aloud what has no parameters.
    """
    for node in body:
        if isinstance(node, ast.Assert | ast.Raise):
            return "checked"
        if isinstance(node, ast.Return):
            return "checked" if checks(node, checkers) else "left"
        if isinstance(node, ast.If):
            branches = {outcome(node.body, checkers), outcome(node.orelse, checkers)}
        elif isinstance(node, BRANCHING):
            heads = getattr(node, "items", ())
            branches = {"checked"} if any(checks(head, checkers) for head in heads) else {outcome(node.body, checkers)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        else:
            branches = {"checked" if checks(node, checkers) else "open"}
        if branches in ({"checked"}, {"left"}) or "left" in branches:
            return branches.pop() if len(branches) == 1 else "left"
    return "open"


@cache
def functions_of_tests() -> tuple[dict[str, ast.FunctionDef], dict[str, list[ast.FunctionDef]]]:
    """Every test, under "file::name", and every other function of tests/, under its name, of which there may be several."""
    tests, others = {}, {}
    for path in sorted((ROOT / "tests").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                tests[f"{path.name}::{node.name}"] = node
            elif isinstance(node, ast.FunctionDef):
                others.setdefault(node.name, []).append(node)
    return tests, others


@cache
def checkers() -> set[str]:
    """Functions that check on every way through them: those of pytest and, by and by, those that call such functions."""
    known, more = set(TELLS), {""}
    while more:
        of_name = functions_of_tests()[1].items()
        more = {n for n, all_of in of_name if all(outcome(f.body, known) == "checked" for f in all_of)} - known
        known |= more
    return known


def test_a_test_that_returns_before_it_checks_is_recognised():
    for body, expected in {
        "if a: return\nassert b": "left",
        "if a:\n    assert b": "open",
        "if a:\n    assert b\nelse:\n    check(b)": "checked",
        "for b in a:\n    if b: continue\n    checks.check(b)": "checked",
        "with raises(ValueError): f()": "checked",
        "assert b\nif a: return\nassert c": "checked",
        "if a:\n    check(b)\n    return\nassert c": "checked",
        "f(a)": "open",
    }.items():
        assert outcome(ast.parse(body).body, {"check", "raises"}) == expected, body


def test_every_way_through_a_test_meets_a_check():
    """What does not apply is left out where a test is parametrised: an item that checks nothing counts as passed."""
    tests, _ = functions_of_tests()
    loose = {name: found for name, node in tests.items() if (found := outcome(node.body, checkers())) != "checked"}
    assert not loose, f"these may end without a check: {loose}; filter their parameters, or assert on every way"


# --- changelog, citation, notes -------------------------------------------------------------------


def test_changelog_is_kept():
    text = (ROOT / "CHANGELOG.md").read_text()
    version = setup_cfg()["metadata"]["version"]
    sections = re.findall(r"^## \[([^\]]+)\]", text, re.M)
    assert text.startswith("# Changelog")
    assert {"Unreleased", version} & set(sections), f"expected a section for {version}, got {sections}"
    headings = set(re.findall(r"^### (.+)$", text, re.M))
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Results change"}
    assert headings and headings <= allowed, f"expected headings among {sorted(allowed)}, got {sorted(headings)}"


def test_changelog_names_everything_public():
    text = (ROOT / "CHANGELOG.md").read_text()
    missing = [name for name in cvxinv.__all__ if not re.search(rf"`{re.escape(name)}\b", text)]
    assert not missing, f"CHANGELOG.md does not mention {missing}"


def test_changelog_names_every_layer_file():
    text = (ROOT / "CHANGELOG.md").read_text()
    files = [p.stem for p in (PACKAGE / "layers").glob("*.py") if p.stem != "__init__"]
    missing = [stem for stem in files if f"`layers/{stem}.py`" not in text]
    assert not missing, f"CHANGELOG.md does not mention {missing} (write them as `layers/<name>.py`)"


def test_citation_has_the_version():
    text = (ROOT / "CITATION.cff").read_text()
    versions = re.findall(r"^version: \"?([^\s\"]+)\"?$", text, re.M)
    assert versions == [setup_cfg()["metadata"]["version"]]


def test_decision_notes_are_short_and_numbered():
    notes = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [p.name[:5] for p in notes] == [f"{i:04d}-" for i in range(1, len(notes) + 1)]
    for note in notes:
        text = note.read_text()
        assert len(text.splitlines()) <= 20, f"{note.name} has more than 20 lines"
        for part in ("Context", "Decision", "Rejected", "Reversed by"):
            assert f"**{part}.**" in text, f"{note.name} does not say **{part}.**"


# --- files ----------------------------------------------------------------------------------------


@cache
def repository_files() -> list[Path]:
    """What git tracks; in an unpacked archive, what lies there."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        skipped = re.compile(r"^(\.[a-z_]+|build|dist|out|.*\.egg-info|__pycache__)$")
        found = [
            Path(folder) / name
            for folder, _, names in os.walk(ROOT)
            if not any(skipped.match(part) for part in Path(folder).relative_to(ROOT).parts)
            for name in names
        ]
    return [p for p in found if p.is_file()]


def test_no_file_names_a_path_of_one_machine():
    # A name before the slash makes it a relative path or an address, which may say what it likes.
    machine = re.compile(rb"(?<![\w.)}~-])/(?:home|root|tmp|Users|mnt|opt|srv|work)/")
    for path in repository_files():
        if path.suffix in (".png", ".safetensors", ".npz"):
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            assert not machine.search(line), f"{path.relative_to(ROOT)}:{number} names a path of one machine"


def test_files_are_small():
    large = {p.relative_to(ROOT).as_posix() for p in repository_files() if p.stat().st_size > LARGEST_FILE}
    assert large <= ALLOWED_LARGE, f"larger than {LARGEST_FILE} bytes: {sorted(large - ALLOWED_LARGE)}"
