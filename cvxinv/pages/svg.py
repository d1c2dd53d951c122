"""Drawings for a page that is one file: scales, marks and charts as inline SVG, pictures as data: addresses.

Every chart has a title and a description for those who cannot see it, axes labelled with units, and marks that differ in
shape as well as in colour. Sizes are in units of the viewBox; the page scales it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

import numpy as np

from ..bitmaps import data_uri

# colours that stay apart for colour-blind readers (Okabe and Ito)
BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY = "#0072b2", "#d55e00", "#007d5a", "#a64d86", "#1a1a1a", "#6b6b6b"
WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 80, 14, 10, 46
_MOST_TICKS = 7
_LETTER = 7.5  # width of one, about


@dataclass(frozen=True)
class Mark:
    """How one kind of point is drawn: shape "circle", "triangle", "square", "diamond", "cross" or "dash"."""

    shape: str
    colour: str
    label: str = ""


@dataclass(frozen=True)
class Axis:
    """A scale from low to high with a label that names the unit; values outside are drawn at its ends."""

    label: str
    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Position of a value, from 0 to 1."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = log10(max(value, low)), log10(low), log10(high)
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[tuple[float, str]]:
        """Position and label, as SVG text, of each tick."""
        if self.log:
            first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
            step = max(1, ceil((last - first) / (_MOST_TICKS - 1)))
            return [(self.at(10.0**k), _power(k)) for k in range(first, last + 1, step)]
        width = _round_step((self.high - self.low) / (_MOST_TICKS - 1))
        first, last = ceil(self.low / width - 1e-9), floor(self.high / width + 1e-9)
        return [(self.at(k * width), f"{k * width:.10g}") for k in range(first, last + 1)]


def log_axis(label: str, values: Sequence[float], floor_at: float = 1e-17) -> Axis:
    """A log axis in whole decades around the positive finite values, nothing below `floor_at`."""
    good = [max(v, floor_at) for v in values if isfinite(v) and v > 0]
    low, high = (min(good), max(good)) if good else (1e-1, 1e1)
    low = floor_at if any(isfinite(v) and v <= 0 for v in values) else low
    bottom, top = floor(log10(low) - 0.05), ceil(log10(high) + 0.05)
    return Axis(label, 10.0**bottom, 10.0 ** max(top, bottom + 2), log=True)


def linear_axis(label: str, values: Sequence[float], zero: bool = False) -> Axis:
    """A linear axis around the finite values with some room; from 0 on with `zero`."""
    good = [v for v in values if isfinite(v)] or [0.0, 1.0]
    low, high = min(good), max(good)
    low = 0.0 if zero and low >= 0 else low
    room = 0.05 * (high - low) or max(abs(high), 1.0) * 0.5
    return Axis(label, low if zero and low == 0 else low - room, high + room)


def index_axis(label: str, count: int) -> Axis:
    """An axis for positions 0 to count - 1."""
    return Axis(label, -0.5, count - 0.5)


def _round_step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    return step


def _power(k: int) -> str:
    if -1 <= k <= 3:
        return f"{10.0**k:g}"
    return f'10<tspan dy="-5" font-size="10">{"−" if k < 0 else ""}{abs(k)}</tspan>'


# --- marks ----------------------------------------------------------------------------------------


def draw_mark(mark: Mark, x: float, y: float, size: float = 4.0, tip: str = "") -> str:
    """One mark at (x, y); `tip` is shown where a pointer rests on it."""
    s, c = size, mark.colour
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    if mark.shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{0.85 * s:.1f}" fill="{c}" fill-opacity=".75">{inside}</circle>'
    filled, open_ = f'fill="{c}"', f'fill="none" stroke="{c}" stroke-width="1.7"'
    path, paint = {
        "square": (f"m{-0.8 * s:.1f} {-0.8 * s:.1f}h{1.6 * s:.1f}v{1.6 * s:.1f}h{-1.6 * s:.1f}z", filled),
        "triangle": (f"m0 {-s:.1f}l{s:.1f} {1.8 * s:.1f}h{-2 * s:.1f}z", filled),
        "diamond": (f"m0 {-1.2 * s:.1f}l{s:.1f} {1.2 * s:.1f}l{-s:.1f} {1.2 * s:.1f}l{-s:.1f} {-1.2 * s:.1f}z", open_),
        "cross": (f"m{-s:.1f} {-s:.1f}l{2 * s:.1f} {2 * s:.1f}m0 {-2 * s:.1f}l{-2 * s:.1f} {2 * s:.1f}", open_),
        "dash": (f"m{-s:.1f} 0h{2 * s:.1f}", open_),
    }[mark.shape]
    return f'<path d="M{x:.1f} {y:.1f}{path}" {paint}>{inside}</path>'


def legend(marks: Sequence[Mark]) -> str:
    """A list of marks and what they mean."""
    items = (
        f'<li><svg width="18" height="14" viewBox="0 0 18 14" aria-hidden="true">{draw_mark(m, 9, 7, 5)}</svg>'
        f"{escape(m.label)}</li>"
        for m in marks
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


# --- charts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """The drawing area of a chart between two axes, `height` high in all."""

    x: Axis
    y: Axis
    height: int = 300
    left: int = _LEFT

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates of a point."""
        across, up = WIDTH - self.left - _RIGHT, self.height - _TOP - _BOTTOM
        return self.left + across * self.x.at(x), _TOP + up * (1 - self.y.at(y))

    def point(self, mark: Mark, x: float, y: float, tip: str = "", size: float = 4.0) -> str:
        """A mark at a point."""
        return draw_mark(mark, *self.at(x, y), size, tip)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.5, dashes: str = "") -> str:
        """A broken line through points; it is interrupted where one is not finite."""
        path, pen = [], "M"
        for x, y in points:
            if not isfinite(y):
                pen = "M"
                continue
            px, py = self.at(x, y)
            path.append(f"{pen}{px:.1f} {py:.1f}")
            pen = "L"
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: str, opacity: float = 1.0) -> str:
        """A filled rectangle between two points."""
        (left, top), (right, bottom) = self.at(min(x0, x1), max(y0, y1)), self.at(max(x0, x1), min(y0, y1))
        return (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.5):.1f}" height="{max(bottom - top, 0.5):.1f}" '
            f'fill="{colour}" fill-opacity="{opacity}"/>'
        )


def chart(plane: Plane, marks: Sequence[str], title: str, description: str, rows: Sequence[str] = ()) -> str:
    """A chart with its axes. rows: names at y = 0, 1, ... from the top, in place of the ticks of y."""
    grid = "".join(_grid_x(plane)) + "".join(_grid_y(plane, rows))
    label_x, label_y = escape(plane.x.label), escape(plane.y.label)
    middle = (plane.height - _BOTTOM + _TOP) / 2
    labels = f'<text x="{(WIDTH + plane.left - _RIGHT) / 2}" y="{plane.height - 8}" text-anchor="middle">{label_x}</text>'
    labels += f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{label_y}</text>'
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {plane.height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{grid}{''.join(marks)}{labels}</svg>"
    )


def _grid_x(plane: Plane) -> list[str]:
    bottom = plane.height - _BOTTOM
    across = WIDTH - plane.left - _RIGHT
    out = [f'<path class="axis" d="M{plane.left} {_TOP}V{bottom}H{WIDTH - _RIGHT}"/>']
    for share, label in plane.x.ticks():
        x = plane.left + across * share
        out.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        out.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    return out


def _grid_y(plane: Plane, rows: Sequence[str]) -> list[str]:
    up = plane.height - _TOP - _BOTTOM
    if rows:
        heights = [_TOP + up * (1 - plane.y.at(-k)) for k in range(len(rows))]
        named = zip(heights, (escape(name) for name in rows), strict=True)
    else:
        named = zip((_TOP + up * (1 - s) for s, _ in plane.y.ticks()), (label for _, label in plane.y.ticks()), strict=True)
    out = []
    for y, label in named:
        if not label:
            continue
        out.append(f'<path class="grid" d="M{plane.left} {y:.1f}H{WIDTH - _RIGHT}"/>')
        out.append(f'<text x="{plane.left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return out


def rows_plane(axis: Axis, names: Sequence[str]) -> Plane:
    """A plane with one row per name at y = 0, -1, ... from the top, and room for the names on its left."""
    left = max(110, ceil(_LETTER * max(map(len, names), default=0)) + 12)
    return Plane(axis, Axis("", -len(names) + 0.5, 0.5), 34 * len(names) + _TOP + _BOTTOM, min(left, WIDTH // 2))


def spread_chart(rows: Sequence[tuple[str, np.ndarray]], axis: Axis, title: str, description: str) -> str:
    """One row per name: a line from the 10 to the 90 % quantile, a box from 25 to 75 %, a bar at the median."""
    plane = rows_plane(axis, [name for name, _ in rows])
    marks = []
    for k, (name, values) in enumerate(rows):
        low, q25, median, q75, high = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])
        marks.append(plane.line([(low, -k), (high, -k)], GREY, 2))
        marks.append(plane.box(q25, -k - 0.25, q75, -k + 0.25, BLUE, 0.45))
        x, y = plane.at(median, -k)
        marks.append(
            f'<path d="M{x:.1f} {y - 11:.1f}v22" stroke="{BLACK}" stroke-width="2.5"><title>{escape(name)}: median '
            f"{median:.4g}</title></path>"
        )
    return chart(plane, marks, title, description, [name for name, _ in rows])


def raster(cells: np.ndarray, names: Sequence[str], labels: tuple[str, str], title: str, description: str) -> str:
    """A bool matrix as dark and light cells, first row at the top. names: of the rows, "" for none; labels: of x and y."""
    count, width = cells.shape
    height = max(120, min(340, 15 * count + _TOP + _BOTTOM))
    plane = Plane(Axis(labels[0], 0, width), Axis(labels[1], -count + 0.5, 0.5), height)
    left, top = plane.at(0, 0.5)
    right, bottom = plane.at(width, -count + 0.5)
    address = data_uri(np.where(cells, 40, 235).astype(np.uint8))
    picture = (
        f'<image href="{address}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )
    return chart(plane, [picture], title, description, names)
