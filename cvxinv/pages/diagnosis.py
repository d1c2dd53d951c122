"""`write_diagnosis`: when a generator can be inverted, on one page that needs nothing else.

Findings in plain words, layers and their conditions, undecided units against noise, and the signals that were asked. The
template is `templates/diagnosis.html`.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ..guarantees.condition import HOLDS, Condition
from ..guarantees.diagnosis import Diagnosis, SignalDiagnosis
from ..guarantees.phases import NoisePhases
from ..guarantees.uniqueness import UNIQUENESS_STATUSES
from ..surroundings import undisturbed
from .rendering import render, write_page
from .svg import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Axis,
    Mark,
    Plane,
    chart,
    index_axis,
    legend,
    linear_axis,
    log_axis,
    rows_plane,
)

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
_SHAPES = ("circle", "triangle", "square", "diamond")
_STATUS = dict(zip(UNIQUENESS_STATUSES, (("circle", BLUE), ("triangle", ORANGE), ("square", GREY)), strict=True))
_STATUS_WORDS = dict(zip(UNIQUENESS_STATUSES, ("proved unique", "another latent shown", "undecided"), strict=True))
_MOST_POINTS, _MOST_ROWS, _TOLD = 1000, 50, 20
_LEAST = 1e-17  # what is 0 is drawn here on a log axis


@undisturbed
def write_diagnosis(diagnosis: Diagnosis, path: str | Path) -> Path:
    """Write a diagnosis as one self-contained HTML file, whole or not at all; returns the path.

    Raises TypeError for what is no `Diagnosis`, OSError where the file cannot be written.
    """
    if not isinstance(diagnosis, Diagnosis):
        raise TypeError(f"expected a Diagnosis, got {type(diagnosis).__name__}; pass what cvxinv.diagnose gives back")
    return write_page(path, lambda: _page(diagnosis))


def _page(found: Diagnosis) -> str:
    inspection = found.inspection
    name = inspection.name or "generator"
    return render(
        "diagnosis.html",
        title=f"When can {name} be inverted",
        heading=f"{inspection.latent_dim} latents to {inspection.signal_dim} entries; {inspection.samples} random latents "
        f"for its hidden layers, {inspection.latents} for its Jacobians, seed {inspection.seed}; {found.seconds:.1f} s",
        answer=found.words[0],
        findings=found.words[1:],
        layers=_layers(found),
        units=_units(found) if inspection.hidden else None,
        growth=[
            (c.name, {True: "holds", False: "does not hold", None: "does not apply"}[c.holds], _percent(c.share))
            for c in inspection.growth
        ],
        theorems=[_theorem(condition) for condition in found.conditions],
        noise=_noise(found.noise) if found.noise is not None and found.noise.layers else None,
        parts=[
            _signals(title, them)
            for title, them in (("The signals", found.signals), ("Its own signals, of random latents", found.own))
            if them is not None
        ],
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, form: str = ".3g") -> str:
    return "-" if value is None or not isfinite(value) else f"{value:{form}}"


# --- layers ---------------------------------------------------------------------------------------


def _layers(found: Diagnosis) -> dict[str, Any]:
    head = (
        "layer",
        "map",
        "from",
        "to",
        "to / from",
        "activation",
        "rank",
        "condition",
        "on, mean",
        "never on",
        "always on",
    )
    rows = []
    for layer in found.inspection.layers:
        hidden = next((h for h in found.inspection.hidden if h.index == layer.index + 1), None)
        on = ("-", "-", "-") if hidden is None else (
            f"{hidden.mean:.0f} of {hidden.size}", str(hidden.never_active), str(hidden.always_active)
        )  # fmt: skip
        size = (str(layer.n), str(layer.m), f"{layer.m / layer.n:.2f}")
        rank = "-" if layer.rank is None else f"{layer.rank} of {min(layer.n, layer.m)}"
        rows.append((f"layers[{layer.index}]", layer.kind, *size, layer.activation, rank, _number(layer.condition), *on))
    return {"head": head, "rows": rows}


def _units(found: Diagnosis) -> dict[str, str]:
    """A bar per hidden layer, cut into units never on, always on, and both."""
    hidden = found.inspection.hidden
    names = [f"layers[{h.index - 1}]" for h in hidden]
    plane = rows_plane(Axis("share of the layer's units, %", 0, 100), names)
    kinds = (("never on", ORANGE), ("on for some latents", BLUE), ("always on", GREEN))
    marks = []
    for k, h in enumerate(hidden):
        counts = (h.never_active, h.size - h.never_active - h.always_active, h.always_active)
        start = 0.0
        for (_, colour), count in zip(kinds, counts, strict=True):
            end = start + 100 * count / h.size
            if count:
                marks.append(plane.box(start, -k - 0.3, end, -k + 0.3, colour, 0.7))
            start = end
        low, high = 100 * h.q05 / h.size, 100 * h.q95 / h.size
        marks.append(plane.line([(low, -k), (high, -k)], "#1a1a1a", 2))
        marks.append(plane.point(Mark("diamond", "#1a1a1a"), 100 * h.mean / h.size, -k, f"{names[k]}: {h.mean:.0f} on", 5))
    words = "units of each hidden layer that no random latent turned on, that every one did, and the others"
    keys = [Mark("square", colour, name) for name, colour in kinds]
    keys.append(Mark("diamond", "#1a1a1a", "on at a latent: mean, and 5 to 95 %"))
    return {"chart": chart(plane, marks, "units of the hidden layers", words, names), "legend": legend(keys)}


def _theorem(condition: Condition) -> dict[str, Any]:
    """A theorem as a table of its clauses, each with how many latents meet it."""
    rows = []
    for clause in condition.clauses:
        met = int((clause.status == HOLDS).sum())
        said = str(clause.status[0]) if condition.whole else f"{met} of {len(condition)}"
        rows.append((clause.text, *clause.sides(), said))
    status = condition.status[0] if condition.whole else ", ".join(f"{k} for {n}" for k, n in condition.counts().items())
    return {
        "name": condition.theorem, "status": str(status), "rows": rows, "then": condition.conclusion,
        "scope": condition.scope, "source": condition.source, "evidence": condition.evidence,
    }  # fmt: skip


# --- noise ----------------------------------------------------------------------------------------


def _noise(noise: NoisePhases) -> dict[str, Any]:
    """Share of undecided units against the noise, a line per layer; dashed what the engine leaves."""
    positive = [level for level in noise.levels if level > 0]
    low = min(positive, default=1e-4) / 10  # 0 is drawn here
    at = [level if level > 0 else low for level in noise.levels]
    plane = Plane(Axis("noise as a share of |y|, no unit; 0 at the left end", low, max([*at, 10 * low]), log=True),
                  Axis("undecided units, % of the layer", -2, 102))  # fmt: skip
    marks, keys = list[str](), list[Mark]()
    order = sorted(range(len(at)), key=at.__getitem__)
    for column, (index, units) in enumerate(noise.layers):
        colour, shape = _COLOURS[column % len(_COLOURS)], _SHAPES[column % len(_SHAPES)]
        for values, dashes, what in ((noise.near, "", "around z"), (noise.left, "5 4", "engine")):
            points = [(at[row], 100 * float(values[row, column])) for row in order]
            seen = [(x, v) for x, v in points if isfinite(v)]
            if not seen:
                continue
            marks.append(plane.line(seen, colour, 1.6, dashes))
            tips = (f"layers[{index}], {what}: {v:.1f} % at {'no noise' if x == low else f'{100 * x:g} %'}" for x, v in seen)
            mark = Mark(shape if not dashes else "cross", colour, f"layers[{index}], {units} units, {what}")
            marks += [plane.point(mark, x, v, tip) for (x, v), tip in zip(seen, tips, strict=True)]
            keys.append(mark)
    title, words = (
        "undecided units against noise",
        "share of the units of each layer whose phase noise may change, log scale",
    )
    head = ["layer", "units", "", *(f"{100 * level:g} %" for level in noise.levels)]
    rows = []
    for column, (index, units) in enumerate(noise.layers):
        for what, values in (("around z", noise.near), ("engine", noise.left)):
            cells = [_number(100 * float(v), ".1f") for v in values[:, column]]
            rows.append((f"layers[{index}]", str(units), what, *cells))
    return {
        "chart": chart(plane, marks, title, words), "legend": legend(keys), "head": head, "rows": rows,
        "latents": noise.latents, "asked": noise.asked,
    }  # fmt: skip


# --- signals --------------------------------------------------------------------------------------


def _signals(title: str, them: SignalDiagnosis) -> dict[str, Any]:
    shown = range(min(len(them), _MOST_POINTS))
    near, layer = them.local, them.local.layer if them.unique is None else them.unique.layer
    head = ("signal", "z is", "layer that decides", "rank", "smallest singular value", "noise amplified", "nearest face",
            "switches", "misfit / |y|")  # fmt: skip
    rows = []
    for i in range(min(len(them), _MOST_ROWS)):
        switch = "-" if near.face_layer[i] < 0 else f"unit {int(near.face_unit[i])} of layers[{int(near.face_layer[i])}]"
        decides = "-" if layer[i] < 0 else f"layers[{int(layer[i])}]"
        numbers = (_number(float(v[i])) for v in (near.smallest, near.amplification, near.distance))
        rows.append((str(i), _STATUS_WORDS[str(them.status[i])], decides, str(int(near.rank[i])), *numbers, switch,
                     _number(float(them.misfit[i]), ".1e")))  # fmt: skip
    return {
        "title": title, "count": len(them), "counts": them.counts(), "words": _STATUS_WORDS, "why": them.why,
        "smallest": _scatter(them, near.smallest.tolist(), "smallest singular value", "signal / latent units", shown),
        "distance": _scatter(them, near.distance.tolist(), "distance to the nearest face", "latent units", shown),
        "head": head, "rows": rows, "left": len(them) - len(rows),
        "told": [(i, them.explain(i)) for i in range(min(len(them), _TOLD))],
    }  # fmt: skip


def _scatter(them: SignalDiagnosis, values: Sequence[float], what: str, unit: str, shown: range) -> dict[str, str]:
    there = [i for i in shown if isfinite(values[i])]
    kept = [values[i] for i in there]
    axis = log_axis(f"{what}, {unit}", kept, _LEAST) if kept else linear_axis(f"{what}, {unit}", kept)
    plane = Plane(index_axis("signal", len(shown)), axis, 240)
    marks = []
    for i in there:
        shape, colour = _STATUS[str(them.status[i])]
        marks.append(plane.point(Mark(shape, colour), i, max(values[i], _LEAST), f"signal {i}: {values[i]:.3g}"))
    present = {str(them.status[i]) for i in there}
    keys = [Mark(shape, colour, _STATUS_WORDS[name]) for name, (shape, colour) in _STATUS.items() if name in present]
    return {"chart": chart(plane, marks, what, f"{what} of each signal, {unit}, log scale"), "legend": legend(keys)}
