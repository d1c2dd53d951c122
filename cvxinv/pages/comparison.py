"""`write_comparison`: methods beside each other on one page that needs nothing else: which to take, pictures, numbers.

One row per method in every picture, in the order of the comparison. The template is `templates/comparison.html`.
"""

from collections.abc import Callable, Sequence
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..inversion.comparing.comparison import QUANTILES, Comparison, quantiles
from ..inversion.comparing.recommending import time_words
from ..inversion.comparing.row import SUCCESS, ComparisonRow
from ..inversion.verify import INVERSION_STATUSES
from ..surroundings import undisturbed
from .rendering import render, write_page
from .svg import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Axis,
    Mark,
    Plane,
    chart,
    legend,
    linear_axis,
    log_axis,
    rows_plane,
    spread_chart,
)

_FLOOR = 1e-17  # what is 0 is drawn here on a log axis
_STATUSES = dict(zip(INVERSION_STATUSES, (BLUE, ORANGE, PURPLE, BLACK), strict=True))
_SHAPES = ("circle", "triangle", "square", "diamond", "cross")
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY)
_SURE = 1.96  # standard deviations of a 95 % interval


@undisturbed
def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison as one self-contained HTML file, whole or not at all; returns the path.

    Raises TypeError for what is no `Comparison`, OSError where the file cannot be written.
    """
    if not isinstance(comparison, Comparison):
        raise TypeError(f"expected a Comparison, got {type(comparison).__name__}; pass what cvxinv.compare gives back")
    return write_page(path, lambda: _page(comparison))


def _page(comparison: Comparison) -> str:
    ran = [row for row in comparison.rows if row.ran]
    head, *cells = comparison.cells()
    return render(
        "comparison.html",
        title=f"Methods compared on {comparison.settings['generator']}",
        heading=comparison.heading,
        recommendation=comparison.recommendation,
        best=comparison.advice.best,
        remarks=[f"{row.name} {row.outcome}: {row.reason}" for row in comparison.rows if not row.ran],
        knowing=[row.name for row in ran if row.knows],
        table={"head": head, "rows": cells},
        budget=comparison.budget,
        limited=bool(comparison.settings.get("time_limit") or comparison.settings.get("signal_time_limit")),
        shares=_shares(ran) if ran else None,
        statuses=_statuses(ran) if ran else None,
        snr=_snr(ran),
        misfit=_spread(ran, "misfit / |y|, no unit", lambda row: row.relative_misfit, "misfit") if ran else "",
        unseen=_spread(ran, "error / size of what was not seen, no unit", lambda row: row.unseen_error, "error unseen"),
        time=_time(ran) if ran else None,
        iterations=_spread(ran, "iterations of a signal", lambda row: row.iterations, "iterations", 1.0),
        threshold=f"{SUCCESS:g}",
        settings=_settings(comparison),
        notes=[(row.name, note) for row in ran for note in row.notes],
    )


# --- pictures -------------------------------------------------------------------------------------


def interval(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of Wilson for a share of which `count` of `of` were seen, in %."""
    share, z = count / of, _SURE
    middle, wide = share + z * z / (2 * of), z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return 100 * (middle - wide) / (1 + z * z / of), 100 * (middle + wide) / (1 + z * z / of)


def _shares(rows: Sequence[ComparisonRow]) -> dict[str, str]:
    """A bar for the signals explained and one for the true latents found, each with its interval."""
    kinds = [("explained", BLUE, lambda row: row.explained), (f"z found to {SUCCESS:g}", ORANGE, lambda row: row.succeeded)]
    names = [row.name for row in rows]
    plane, marks, keys = rows_plane(Axis("share of the signals, %", 0, 100), names), list[str](), list[Mark]()
    for k, (name, colour, which) in enumerate(kinds):
        those = [which(row) for row in rows]
        if all(part is None for part in those):
            continue
        keys.append(Mark("square", colour, name))
        for i, part in enumerate(those):
            if part is not None:
                marks += _bar(plane, -i + 0.2 - 0.4 * k, colour, int(part.sum()), len(part), f"{names[i]}: {name}")
    words = f"share of the signals {' and '.join(key.label for key in keys)}, per method; lines: 95 % intervals"
    return {"chart": chart(plane, marks, "success rates", words, names), "legend": legend(keys)}


def _bar(plane: Plane, y: float, colour: str, count: int, of: int, tip: str) -> list[str]:
    low, high = interval(count, of)
    end = plane.point(Mark("dash", colour), 100 * count / of, y, f"{tip}, {count} of {of}", size=3)
    return [
        plane.box(0, y - 0.16, 100 * count / of, y + 0.16, colour, 0.6),
        plane.line([(low, y), (high, y)], BLACK, 1.2),
        end,
    ]


def _statuses(rows: Sequence[ComparisonRow]) -> dict[str, str]:
    """A bar of all signals per method, cut by status."""
    names = [row.name for row in rows]
    plane, marks, there = rows_plane(Axis("share of the signals, %", 0, 100), names), list[str](), set[str]()
    for i, row in enumerate(rows):
        start = 0.0
        for status, count in row.counts().items():
            end = start + 100 * count / row.N
            marks.append(plane.box(start, -i - 0.3, end, -i + 0.3, _STATUSES[status], 0.7))
            there.add(status)
            start = end
    keys = [Mark("square", colour, status) for status, colour in _STATUSES.items() if status in there]
    words = "share of the signals of each status, per method"
    return {"chart": chart(plane, marks, "statuses", words, names), "legend": legend(keys)}


def _snr(rows: Sequence[ComparisonRow]) -> list[dict[str, Any]]:
    """A chart and a table for z, each hidden layer and the signal; nothing where the truth is not known."""
    names = next((list(row.snr) for row in rows if row.snr), [])
    parts = []
    for name in names:
        spreads = [(row.name, values) for row in rows if len(values := _finite(row.snr.get(name)))]
        if not spreads:
            continue
        axis = linear_axis(f"SNR of {name}, dB", [float(v) for _, s in spreads for v in np.quantile(s, QUANTILES)])
        cells = [(row.name, [f"{q:.1f}" for q in quantiles(row.snr[name]) or []]) for row in rows if name in row.snr]
        words = f"quantiles over the signals of the SNR of {name}, in dB, per method"
        parts.append({"name": name, "chart": spread_chart(spreads, axis, f"SNR of {name}", words), "rows": cells})
    return parts


def _spread(
    rows: Sequence[ComparisonRow],
    label: str,
    values: Callable[[ComparisonRow], Tensor | None],
    title: str,
    floor: float = _FLOOR,
) -> str:
    """Quantiles of a number per signal on a log axis, one row per method; "" where no method has it."""
    spreads = [(row.name, np.maximum(part, floor)) for row in rows if len(part := _finite(values(row)))]
    if not spreads:
        return ""
    axis = log_axis(label, [float(v) for _, s in spreads for v in np.quantile(s, QUANTILES)], floor)
    return spread_chart(spreads, axis, title, f"quantiles over the signals of {label}, log scale, per method")


def _time(rows: Sequence[ComparisonRow]) -> dict[str, str]:
    """Success, or what is explained where the truth is not known, against time; one mark per method."""
    known = all(row.succeeded is not None for row in rows)
    found = [row.explained if row.succeeded is None or not known else row.succeeded for row in rows]
    label = f"z found to {SUCCESS:g}, % of the signals" if known else "explained, % of the signals"
    times = [row.seconds_per_signal for row in rows]
    plane = Plane(log_axis("time per signal, s", times, 1e-6), Axis(label, -4, 104))
    marks, keys = list[str](), list[Mark]()
    for k, (row, part) in enumerate(zip(rows, found, strict=True)):
        mark = Mark(_SHAPES[k % len(_SHAPES)], _COLOURS[k % len(_COLOURS)], row.name)
        keys.append(mark)
        if not isfinite(times[k]):
            continue
        share = 100 * float(part.mean())
        low, high = interval(int(part.sum()), len(part))
        marks.append(plane.line([(times[k], low), (times[k], high)], GREY, 1))
        marks.append(plane.point(mark, times[k], share, f"{row.name}: {share:.0f} %, {time_words(times[k])} per signal", 6))
    words = "success of each method against its time per signal, log scale; up and left is better"
    return {"chart": chart(plane, marks, "success against time", words), "legend": legend(keys)}


def _finite(values: Tensor | None) -> np.ndarray:
    return np.zeros(0) if values is None else values[values.isfinite()].double().numpy()


# --- words ----------------------------------------------------------------------------------------


def _settings(comparison: Comparison) -> list[dict[str, Any]]:
    asked = [
        (name.replace("_", " "), "none" if value is None else str(value)) for name, value in comparison.settings.items()
    ]
    options = [
        (row.name, ", ".join(f"{name}={value}" for name, value in row.options.items()) or "its own")
        for row in comparison.rows
    ]
    return [
        {"title": "what was asked for", "rows": asked},
        {"title": "options of the methods", "rows": options},
        {"title": "what ran", "rows": list(comparison.versions.items())},
    ]
