"""What errors say, in the words of the command line.

The package names its options as code: `noise=None`, `prior=Ball(radius=5)`, `method='hybrid'`. Here, and nowhere else, each
such piece is read and said as it is typed in the command that runs: `no --noise`, `--prior ball:5`, `--method hybrid`. What
another command has is said to be its, and what no command has to be of Python alone.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import cache
from inspect import signature
from typing import Any

from ..exact.prove import prove
from ..generator.reading.load import load_generator
from ..guarantees.diagnosis import diagnose
from ..inversion.comparing.compare import compare
from ..inversion.invert import invert
from ..inversion.methods import METHODS
from ..inversion.verify import verify

# the code of a value: a text, a call, brackets, a number or a name
_BRACKETS = r"\((?:[^()]|\([^()]*\))*\)"
_VALUE = rf"""'[^']*'|"[^"]*"|[\w.]+{_BRACKETS}|{_BRACKETS}|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\w+|\.\.\."""
_PIECE = re.compile(rf"(?<![\w.\-'\"/])([a-z_]\w*)=(?:({_VALUE})|(?=[\s,;.)]|$))")
_PRIOR = re.compile(r"(?<![\w.=])(Gaussian|Box|Ball)\(([^()]*)\)")
_OPTION = re.compile(r"\b(has no option) '(\w+)'")
# where a bare name can be nothing else than an option
_BEFORE = r"^|\bexpected |\bleave |\bgot no |\bbeside |\bpass "
_BEHIND = r" must | as | of shape| out\b| [<>]| in [\[(]"
_BARE = re.compile(rf"({_BEFORE})(\w+)(?={_BEHIND})")
_METHODS = re.compile(r"(--methods? \w+)( \(of cvxinv invert\))?((?:,? (?:or )?'\w+')+)")
_KIND = re.compile(r"\b(Gaussian|Box|Ball)\b(?!\()")
_KINDS = {"Gaussian": "gaussian:PRECISION", "Box": "box:LOW:HIGH", "Ball": "ball:RADIUS"}
_TWICE = re.compile(r"(--[\w-]+(?: \S+)?) \(\1\)")


@dataclass(frozen=True)
class Typed:
    """How the options of a command are typed. options: by their names in Python; others: those of `cvxinv invert`.

    values: what stands for the value of an option in its help, by the name in Python.
    """

    options: Mapping[str, str]
    others: Mapping[str, str]
    values: Mapping[str, str]


_NOW: ContextVar[Typed | None] = ContextVar("how the options of the command are typed", default=None)


@contextmanager
def as_typed(options: Mapping[str, str], others: Mapping[str, str], values: Mapping[str, str]) -> Iterator[None]:
    """Errors inside are said with these options, as in `Typed`."""
    before = _NOW.set(Typed(_with_aliases(options), _with_aliases(others), _with_aliases(values)))
    try:
        yield
    finally:
        _NOW.reset(before)


_ALIASES = (
    ("method", "methods"), ("checkpoint", "out"), ("y", "signals"), ("z", "latents"), ("z", "result"),
    ("Magnitudes", "magnitudes"),
)  # fmt: skip


def _with_aliases(options: Mapping[str, str]) -> dict[str, str]:
    """Options whose names in Python are others."""
    more = dict(options)
    for python, typed in _ALIASES:
        if typed in options:
            more.setdefault(python, options[typed])
    return more


def spoken(text: str) -> str:
    """The text of an error as the command that runs says it; as it is where none runs."""
    typed = _NOW.get()
    if typed is None:
        return text
    text = _PRIOR.sub(lambda found: _prior(found[0]) or found[0], text)
    text = _PIECE.sub(lambda found: _piece(typed, found[1], found[2] or "", found[0]), text)
    if "prior" in typed.options:
        head, semicolon, cure = text.partition("; ")
        text = head + semicolon + _KIND.sub(lambda found: _KINDS[found[1]], cure)
    text = _METHODS.sub(lambda found: found[1] + found[3].replace("'", "") + (found[2] or ""), text)
    text = _OPTION.sub(lambda found: f"{found[1]} {typed.options.get(found[2], repr(found[2]))}", text)
    text = _BARE.sub(lambda found: found[1] + typed.options.get(found[2], found[2]), text)
    return _TWICE.sub(r"\1", text)


def _piece(typed: Typed, name: str, value: str, code: str) -> str:
    """`name=value`, of the options of the command, of another, or of Python alone."""
    if name == "measurement":
        return _measurement(typed, value, code)
    if name in typed.options:
        return _said(typed.options[name], value, typed.values.get(name, ""))
    if name in typed.others:
        return f"{_said(typed.others[name], value, typed.values.get(name, ''))} (of cvxinv invert)"
    return f"{code} (from Python only)" if name in _of_python() else code


def _said(option: str, value: str, stands: str) -> str:
    """An option and its value as they are typed; stands: what stands for a value that is only named."""
    if value in ("None", "False"):
        return f"no {option}"
    if value in ("", "True", "..."):
        return option
    return f"{option} {stands or value.upper() if value.isidentifier() else _value(value)}"


def _value(code: str) -> str:
    """The code of a value as it is typed: texts bare, ("l2", 0.1) with a colon, names as what stands for them."""
    try:
        tree = ast.parse(code, mode="eval").body
    except SyntaxError:
        return code
    if isinstance(tree, ast.Call):
        return _prior(code) or code
    if isinstance(tree, ast.Tuple):
        return ":".join(_value(ast.unparse(part)) for part in tree.elts)
    if isinstance(tree, ast.Constant):
        return "BOUND" if tree.value is ... else str(tree.value)
    return code.rpartition(".")[2].upper() if isinstance(tree, ast.Name | ast.Attribute) else code


def _prior(code: str) -> str:
    """The code of a prior as --prior takes it; "" where it is none of those."""
    call = ast.parse(code, mode="eval").body
    if not isinstance(call, ast.Call):
        return ""
    kind = ast.unparse(call.func).rpartition(".")[2].lower()
    parts = [*call.args, *(keyword.value for keyword in call.keywords)]
    words = [_value(ast.unparse(part)) for part in parts]
    if kind not in ("gaussian", "box", "ball") or any(not re.fullmatch(r"[-+.\w]+", word) for word in words):
        return ""
    return ":".join([kind, *(words[:1] if kind == "gaussian" and words[1:] == ["0"] else words)])


def _measurement(typed: Typed, value: str, code: str) -> str:
    """What says what was seen: a file of a mask or of a matrix, or that signs were not."""
    kinds = {"Magnitudes": ("magnitudes",), "Mask": ("mask",), "Matrix": ("matrix",), "A": ("matrix",)}
    wanted = kinds.get(value.partition("(")[0].rpartition(".")[2], ("mask", "matrix"))
    there = [typed.options[name] for name in wanted if name in typed.options]
    if value in ("None", '"everything"', "'everything'"):
        return "no " + " and no ".join(there) if there else code
    if there == [typed.options.get("matrix")]:
        return f"{there[0]} FILE"
    return " or ".join(there) or f"{code} (from Python only)"


@cache
def _of_python() -> frozenset[str]:
    """The names of all options that the package has."""
    calls: Iterable[Callable[..., Any]] = (invert, prove, compare, verify, diagnose, load_generator)
    named = {name for call in calls for name in signature(call).parameters}
    kinds: Iterable[Any] = METHODS.values()
    return frozenset(named | {field.name for method in kinds for field in fields(method)})
