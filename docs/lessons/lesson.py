"""What the twelve lessons share: their parts, how a picture is laid out, and the problems that they solve.

A lesson is a marimo notebook beside this file. It says once, in `LESSON`, what it teaches, and has one function
`frame(value)` that solves its problem at a value of its slider and gives a picture with the numbers that belong to it. The
notebook shows both with a slider that solves anew; `build.py` writes the same as a page without Python, with one frame for
each of the slider's stops. Neither torch nor cvxinv is imported: the problems are those of `problems/layers`, solved by
CVXPY with Clarabel.
"""

import ast
import importlib
import importlib.util
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROBLEMS = ROOT / "problems" / "layers"

# Okabe and Ito's colours, which can be told apart by colour-blind readers; lines differ in style as well
BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#AA4499",
    "#56B4E9",
    "#000000",
    "#6b6b6b",
)
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
WORDS = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.9,
    "axes.titleweight": "normal",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.framealpha": 0.9,
}


@dataclass(frozen=True)
class Slider:
    """One number to drag: what it is, its unit ("" for a pure number), its stops in order, and the stop it starts at."""

    label: str
    unit: str
    stops: tuple[float, ...]
    start: int

    def said(self, value: float) -> str:
        """A stop in words, "0.1 signal"."""
        return f"{value:.4g} {self.unit}".strip()


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture at one stop of the slider: the figure, what it shows in words, and its numbers with their units."""

    figure: Figure
    alt: str
    numbers: dict[str, str]


@dataclass(frozen=True)
class Lesson:
    """The words of a lesson.

    text: Markdown. equation: LaTeX, with `source` saying whose number it is; an empty line parts two. statement:
    "file:function" or "file:Class.method" of the package, shown as it stands there. exercises: two, in Markdown.
    graded: names of exercises on the same that `cvxinv exercise` grades.
    """

    number: int
    title: str
    text: str
    equation: str
    source: str
    statement: str
    slider: Slider
    exercises: tuple[str, str]
    graded: tuple[str, ...]

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"{self.number}. {self.title}"

    @property
    def maths(self) -> list[str]:
        """The equations as LaTeX, one line each; an empty line parts them."""
        return [" ".join(part.split()) for part in textwrap.dedent(self.equation).strip().split("\n\n")]

    @property
    def code(self) -> str:
        """The statement's own source, taken from its file."""
        path, _, name = self.statement.partition(":")
        return source_of(ROOT / path, name)

    @property
    def task_list(self) -> str:
        """Both exercises, and those that are graded, in Markdown."""
        parts = [" ".join(textwrap.dedent(exercise).split()) for exercise in self.exercises]
        graded = ", ".join(f"`cvxinv exercise show {name}`" for name in self.graded)
        tasks = "\n".join(f"{k}. {part}" for k, part in enumerate(parts, 1))
        return f"{tasks}\n\nOn the same, and graded by the certificate: {graded}."

    def page(self) -> str:
        """All words above the picture, in Markdown as marimo shows it."""
        maths = "\n\n".join(f"$$\n{line}\n$$" for line in self.maths)
        source = self.source.replace("_", r"\_")
        return (
            f"# {self.heading}\n\n{textwrap.dedent(self.text).strip()}\n\n{maths}\n\n*Source: {source}*\n\n"
            f"As it stands in `{self.statement.partition(':')[0]}`:\n\n```python\n{self.code}\n```"
        )


def source_of(path: Path, name: str) -> str:
    """The source of a function, or of a method written `Class.method`, of a file; dedented, without its docstring."""
    text = path.read_text()
    nodes: Sequence[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        found = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
        if not found:
            raise ValueError(f"expected a function {name} in {path.name}, found none; name one that stands there")
        node = found[0]
        nodes = node.body
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    if ast.get_docstring(node) is not None:
        said = node.body[0]
        del lines[said.lineno - node.lineno : (said.end_lineno or said.lineno) - node.lineno + 1]
    return textwrap.dedent("\n".join(lines)).strip()


# --- the problems ---------------------------------------------------------------------------------------------


def problem(name: str) -> ModuleType:
    """A file of `problems/layers`, by its name: a transcription from the papers in plain CVXPY, or what they share."""
    if str(PROBLEMS) not in sys.path:
        sys.path.insert(0, str(PROBLEMS))
    return importlib.import_module(name)


def module_of(path: Path, name: str) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def solved(
    name: str, W: np.ndarray, y: np.ndarray, *, b: np.ndarray | None = None, off: np.ndarray | None = None, number: float
):
    """Value and unknown of a problem of `problems/layers`; off: mask of the rows the ReLU cut, none by default."""
    m = len(W)
    cut = np.zeros(m, dtype=bool) if off is None else np.asarray(off)
    zero = np.zeros(m) if b is None else np.asarray(b, dtype=float)
    given = problem("page").Instance("", W, zero, y, ~cut, cut, np.ones(m), number, None, 0.0, False, None)
    with warnings.catch_warnings():
        # Clarabel says so at a tolerance of 1e-12, and is right to 2e-12 all the same (problems/layers/page.py)
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        return problem(name).transcription(given)


# --- the pictures ---------------------------------------------------------------------------------------------


def canvas(rows: int = 1, columns: int = 1, *, height: float = 4.0, width: float = 5.8) -> tuple[Figure, list[Axes]]:
    """A figure with its panels, row by row; sizes in inches, readable at the width of a phone."""
    with matplotlib.rc_context(WORDS):
        figure = Figure(figsize=(width, height), layout="constrained")
        made = figure.subplots(rows, columns, squeeze=False)
    return figure, list(made.ravel())


def legend(figure: Figure, *panels: Axes, columns: int = 2) -> None:
    """What is drawn in the panels, below them, so that it hides nothing; what two panels share stands once."""
    entries: dict[str, object] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    with matplotlib.rc_context(WORDS):
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def levels(axes: Axes, value: Callable[[np.ndarray, np.ndarray], np.ndarray], count: int = 9) -> None:
    """Thin level lines of a function of two numbers over the panel as it is cut."""
    grid = np.meshgrid(np.linspace(*axes.get_xlim(), 60), np.linspace(*axes.get_ylim(), 50))
    axes.contour(*grid, value(*grid), levels=count, colors=GREY, linewidths=0.5, zorder=1)


def name_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Labels of both axes, with units, and what the panel shows."""
    axes.set_xlabel(x, size=WORDS["font.size"])
    axes.set_ylabel(y, size=WORDS["font.size"])
    axes.tick_params(labelsize=9.5)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":  # "0.01", "1e-06": words for a screen reader too, and no formulas to be set
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")
    if title:
        axes.set_title(title, loc="left", size=WORDS["axes.titlesize"])


def plane(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """A panel of the plane with equal units and thin lines through the origin."""
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_aspect("equal", adjustable="box")
    axes.axhline(0, color=GREY, lw=0.6, zorder=0)
    axes.axvline(0, color=GREY, lw=0.6, zorder=0)


def pair(vector: np.ndarray, digits: int = 3) -> str:
    """A short vector as one reads it, "(1, 0.5)"."""
    return "(" + ", ".join(f"{0.0 if abs(v) < 0.5 * 10**-digits else v:.{digits}g}" for v in vector) + ")"


def stops(first: float, last: float, count: int) -> tuple[float, ...]:
    """Evenly spaced stops of a slider."""
    return tuple(float(round(v, 6)) for v in np.linspace(first, last, count))


def settle(figures: Sequence[Figure]) -> None:
    """One layout for all frames of a slider, from its first, middle and last stop: nothing jumps, and few are laid out."""
    found = []
    for figure in {id(f): f for f in (figures[0], figures[len(figures) // 2], figures[-1])}.values():
        with matplotlib.rc_context(WORDS):
            figure.draw_without_rendering()
            figure.draw_without_rendering()  # the layout of panels with equal units is right only the second time
        found.append(np.array([axes.get_position(original=True).extents for axes in figure.axes]))
    low, high = np.max(found, axis=0)[:, :2], np.min(found, axis=0)[:, 2:]
    for figure in figures:
        figure.set_layout_engine("none")
        for axes, corner, other in zip(figure.axes, low, high, strict=True):
            axes.set_position([*corner, *(other - corner)])


def svg(figure: Figure) -> str:
    """A figure as SVG text, the same each time."""
    import io

    out = io.StringIO()
    with matplotlib.rc_context({**WORDS, "svg.hashsalt": "lesson"}):
        if figure.get_layout_engine() is not None and any(axes.get_aspect() == 1 for axes in figure.axes):
            figure.draw_without_rendering()  # the first of the two that `settle` speaks of
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


# --- in marimo ------------------------------------------------------------------------------------------------


def control(lesson: Lesson):
    """The slider of a lesson in marimo."""
    import marimo as mo

    slider = lesson.slider
    label = f"{slider.label} ({slider.unit})" if slider.unit else slider.label
    return mo.ui.slider(
        steps=list(slider.stops), value=slider.stops[slider.start], label=label, show_value=True, full_width=True
    )


def opened(lesson: Lesson, slider):
    """What a lesson begins with in marimo: its words, and the slider below them."""
    import marimo as mo

    return mo.vstack([mo.md(lesson.page()), slider])


def shown(lesson: Lesson, frame: Frame):
    """What follows the slider in marimo: the picture with its alternative text, its numbers, and the exercises."""
    import marimo as mo

    picture = mo.Html(f'<div role="img" aria-label="{frame.alt}">{svg(frame.figure)}</div>')
    table = " · ".join(f"{name}: **{value}**" for name, value in frame.numbers.items())
    return mo.vstack([picture, mo.md(table), mo.md(f"## Exercises\n\n{lesson.task_list}")])
