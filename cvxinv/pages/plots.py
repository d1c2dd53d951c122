"""Pictures of inversions: what was true, what was seen and what each method found, and how far off the latents are.

Every function takes `Inversion`s by name and gives back a matplotlib `Figure`, which `figure.savefig("name.png")` writes.
None touches matplotlib's global state. matplotlib is imported when a picture is asked for: `pip install matplotlib`.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..bitmaps import picture_shape
from ..errors import BackendNotInstalledError
from ..guarantees.inspection import Inspection, Samples
from ..inversion.result import Inversion
from ..inversion.verify import EXPLAINED_WORD
from ..sparse_models.morphing import Morphing
from .png import output_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

HIDDEN_COLOUR = "#f4a259"
_MISSED_COLOUR = "#b3261e"
_QUIET_COLOUR = "#555555"
# colours that stay apart for colour-blind readers (Okabe and Ito), and dashes so that equal curves both show
_LINES = (("#0072b2", "-", 4.0), ("#111111", (0, (4, 2)), 1.6), ("#d55e00", "-", 1.6), ("#009e73", (0, (1, 1)), 1.8))
_FLOOR = 1e-17  # relative errors below this are drawn here: 0 has no place on a log axis


@dataclass(frozen=True, eq=False)
class Grid:
    """What one grid of images shows: a column per signal, rows for the truth, what was seen, and each inversion.

    inversions: by the name that is to stand beside the row. truth: signals `(N, d)`. visible: bool `(d,)` or `(N, d)`,
    True where seen; None leaves out the row. shape: of one picture, `(height, width)`, `(1, height, width)` or
    `(3, height, width)`; None takes a square. limits: values drawn white and black (the smallest and the largest).
    """

    inversions: Mapping[str, Inversion]
    truth: Tensor
    visible: Tensor | None = None
    shape: tuple[int, ...] | None = None
    title: str = ""
    limits: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.truth.ndim != 2 or len(self.truth) == 0:
            raise ValueError(f"expected true signals (N, d), got {tuple(self.truth.shape)}; flatten the pictures")
        if not self.inversions:
            raise ValueError("expected at least one inversion by name, got none; pass e.g. {'hybrid': inversion}")
        for name, inversion in self.inversions.items():
            if len(inversion) != len(self.truth):
                raise ValueError(
                    f"expected inversions of {len(self.truth)} signals as truth has, got {len(inversion)} in {name!r}; "
                    "slice them, e.g. inversion[:8]"
                )
        self.picture_shape  # noqa: B018  a wrong shape is named here, before anything is drawn

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Shape of one picture, channels first where there are any."""
        d = self.truth.shape[1]
        shape = self.shape or (isqrt(d), isqrt(d))
        if int(np.prod(shape)) != d or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
            raise ValueError(
                f"expected the shape of a picture of {d} numbers, got {shape}; pass e.g. generator.signal_shape"
            )
        return shape


def image_grid(
    inversions: Mapping[str, Inversion],
    truth: Tensor,
    *,
    visible: Tensor | None = None,
    shape: tuple[int, ...] | None = None,
    title: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
) -> "Figure":
    """True images, what was seen of them, and what each method found, one column per signal.

    Arguments: those of `Grid`. Under each image stands the SNR of z in dB where the inversion knows the truth, else the
    misfit in % of |y|; in red where a signal whose truth is known is not explained. Raises ValueError for shapes that do not
    fit, BackendNotInstalledError without matplotlib.
    """
    grid = Grid(inversions, truth, visible, shape, title, limits)
    figure = _figure(1.5 + 0.72 * len(truth), 0.9 + 0.88 * _rows(grid))
    _draw_grid(figure, grid, labels=True)
    if visible is not None:
        _hidden_legend(figure)
    return figure


def error_curves(inversions: Mapping[str, Inversion], quantity: str = "z", *, title: str = "") -> "Figure":
    """Relative error of `quantity` per signal, sorted, one curve per inversion, on a log scale.

    quantity: a key of `Inversion.snr` ("z", "hidden 1", ..., "signal"); invert with truth=... to have them. Raises
    ValueError where an inversion does not know the truth, BackendNotInstalledError without matplotlib.
    """
    figure = _figure(6.4, 3.4)
    _draw_curves(figure, inversions, quantity, title)
    return figure


def overview(grids: Sequence[Grid], curves: Mapping[str, Inversion], *, title: str = "", curves_title: str = "") -> "Figure":
    """Several grids side by side, with the same names in the same order, above the error curves of z."""
    columns = [len(grid.truth) for grid in grids]
    rows = _rows(grids[0])
    figure = _figure(1.3 + 0.66 * sum(columns), 3.3 + 0.8 * rows)
    above, below = figure.subfigures(2, 1, height_ratios=[0.8 + 0.8 * rows, 2.5], squeeze=False)[:, 0]
    label = 1.1 / 0.66  # room for the names of the rows, in columns
    parts = above.subfigures(1, len(grids), width_ratios=[columns[0] + label, *columns[1:]], squeeze=False)[0]
    for k, (part, grid) in enumerate(zip(parts, grids, strict=True)):
        _draw_grid(part, grid, labels=k == 0)
    _draw_curves(below, curves, "z", curves_title)
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold")
    if any(grid.visible is not None for grid in grids):
        _hidden_legend(above)
    return figure


def inspection_picture(inspection: Inspection, samples: Samples) -> "Figure":
    """What `inspect_and_sample` found: samples of the generator, active units per layer, singular values of the Jacobian.

    Raises BackendNotInstalledError without matplotlib.
    """
    figure = _figure(9.6, 5.6)
    above, below = figure.subfigures(2, 1, height_ratios=[0.8, 1.3], squeeze=False)[:, 0]
    _draw_samples(above, samples)
    left, right = below.subplots(1, 2)
    _draw_counts(left, inspection, samples)
    _draw_singular_values(right, samples)
    name = inspection.name or "generator"
    title = f"{name}: {inspection.latent_dim} latents to {inspection.signal_dim} entries"
    figure.suptitle("\n".join(wrap(title, 90)), fontsize=12)
    return figure


def morphing_picture(morphing: Morphing, limits: tuple[float, float], *, title: str = "") -> "Figure":
    """Every way from A to B as a row of frames, above how far they are from the range, and how the ADMM's residuals fell.

    limits: values drawn white and black, signal units. Raises BackendNotInstalledError without matplotlib.
    """
    rows = {
        "linear\n(pixels)": morphing.linear,
        "Wasserstein\n(exact plan)": morphing.wasserstein,
        "latent\n(straight line)": morphing.latent,
        "barycenter y\n(next to the range)": morphing.barycenter,
        "ours\n(in the range)": morphing.frame,
    }
    figure = _figure(2.0 + 0.72 * max(len(morphing), 6), 0.5 + 0.8 * len(rows) + 2.7)
    above, below = figure.subfigures(2, 1, height_ratios=[0.2 + 0.8 * len(rows), 2.5], squeeze=False)[:, 0]
    axes = above.subplots(len(rows), len(morphing), squeeze=False)
    for line, (name, frames) in zip(axes, rows.items(), strict=True):
        for ax, frame in zip(line, frames, strict=True):
            _draw_grey(ax, frame.reshape(morphing.shape), limits)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6)
    for ax, t in zip(axes[-1], morphing.t.tolist(), strict=True):
        ax.set_xlabel(f"t = {t:.2f}", fontsize=8, color=_QUIET_COLOUR, labelpad=2)
    left, right = below.subplots(1, 2)
    _draw_distances(left, morphing)
    _draw_residuals(right, morphing)
    words = f"drawn dark on light, values from {limits[0]:g} (white) to {limits[1]:g} (black), signal units"
    above.suptitle(f"{title}\n{words}" if title else words, fontsize=9.5)
    return figure


def _draw_grey(ax: "Axes", frame: Tensor, limits: tuple[float, float]) -> None:
    low, high = limits
    value = 1 - ((frame.detach().cpu().double() - low) / (high - low)).clamp(0, 1).nan_to_num(0.5)
    ax.imshow(value[..., None].expand(*frame.shape, 3).numpy(), interpolation="nearest")
    _thin_frame(ax)


def _draw_distances(ax: "Axes", morphing: Morphing) -> None:
    t = morphing.t.cpu().numpy()
    rows = {
        "linear": morphing.linear_distance,
        "Wasserstein": morphing.wasserstein_distance,
        "barycenter y of ours": morphing.distance,
        "latent and ours: in the range": torch.zeros_like(morphing.t),
    }
    _draw_marked(ax, t, {name: far.cpu().numpy() for name, far in rows.items()})
    _plain_axes(
        ax, "t (share of the way from A to B)", "distance to the range\n(l2, signal units)", "how far from the range"
    )
    ax.set_ylim(bottom=-0.03 * max(float(far.max()) for far in rows.values()))
    ax.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)


def _draw_residuals(ax: "Axes", morphing: Morphing) -> None:
    left = {"primal |y - w| (mass)": morphing.residuals.primal, "dual rho |w - w_before| (px²)": morphing.residuals.dual}
    middle = {name: values.median(1).values.clamp(min=_FLOOR).numpy() for name, values in left.items() if values.numel()}
    _draw_marked(ax, np.arange(1, len(morphing.residuals.primal) + 1), middle)
    ax.set_yscale("log")
    _plain_axes(ax, "iteration of the ADMM", "residual (median of the frames)", "residuals of the ADMM")
    if middle:
        ax.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _draw_marked(ax: "Axes", x: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
    """Curves that differ in colour, dashes and marks."""
    styles = (("#0072b2", "-", "o"), ("#111111", "--", "s"), ("#d55e00", "-.", "D"), ("#009e73", ":", ""))
    for (name, y), (colour, dashes, mark) in zip(rows.items(), styles, strict=False):
        ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.5, marker=mark, markersize=4, label=name)


def png_bytes(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG file."""
    from io import BytesIO

    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def require_matplotlib() -> None:
    """Raise BackendNotInstalledError, with the install command, where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BackendNotInstalledError("pictures need matplotlib, which is not installed: pip install matplotlib")


def _figure(width: float, height: float) -> "Figure":
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def _rows(grid: Grid) -> int:
    return 1 + (grid.visible is not None) + len(grid.inversions)


def _draw_grid(figure: "FigureBase", grid: Grid, labels: bool) -> None:
    axes = figure.subplots(_rows(grid), len(grid.truth), squeeze=False)
    blank = torch.ones_like(grid.truth, dtype=torch.bool)
    _draw_row(axes[0], "true image" if labels else "", grid, grid.truth, blank, None)
    if grid.visible is not None:
        seen = grid.visible.cpu().expand_as(grid.truth)
        _draw_row(axes[1], "what was seen" if labels else "", grid, grid.truth, seen, None)
    for row, (name, inversion) in zip(axes[-len(grid.inversions) :], grid.inversions.items(), strict=True):
        signal = inversion.signal.detach().cpu().reshape(grid.truth.shape)
        _draw_row(row, name.replace("_", " ") if labels else "", grid, signal, blank, inversion)
    if grid.title:
        figure.suptitle(grid.title, fontsize=9.5)


def _draw_row(
    axes: "np.ndarray", label: str, grid: Grid, signals: Tensor, seen: Tensor, inversion: Inversion | None
) -> None:
    for k, ax in enumerate(axes):
        ax.imshow(_picture(grid, signals[k], seen[k]), interpolation="nearest")
        _thin_frame(ax)
        if inversion is not None:
            text, colour = _caption(inversion, k)
            ax.set_xlabel(text, fontsize=8, color=colour, labelpad=2)
    if label:
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)


def _picture(grid: Grid, signal: Tensor, seen: Tensor) -> np.ndarray:
    """One image as RGB `(height, width, 3)`, hidden pixels in their colour; grey images are dark on white."""
    from matplotlib.colors import to_rgb

    shape, (low, high) = grid.picture_shape, grid.limits
    value = ((signal.detach().cpu().double() - low) / (high - low)).clamp(0, 1).nan_to_num(0.5).reshape(shape)
    colour = len(shape) == 3 and shape[0] == 3
    rgb = value.movedim(0, -1) if colour else 1 - value.reshape(*shape[-2:], 1).expand(*shape[-2:], 3)
    there = seen.reshape(shape).all(0) if len(shape) == 3 else seen.reshape(shape)
    return np.where(there.numpy()[..., None], rgb.numpy(), np.array(to_rgb(HIDDEN_COLOUR)))


def _caption(inversion: Inversion, k: int) -> tuple[str, str]:
    """The number under an image, and its colour."""
    if "z" in inversion.snr:
        colour = _QUIET_COLOUR if inversion.status[k] == EXPLAINED_WORD else _MISSED_COLOUR
        return f"{float(inversion.snr['z'][k]):.0f} dB", colour
    return f"{100 * float(inversion.verdict.relative_misfit[k]):.2g} %", _QUIET_COLOUR


def _hidden_legend(figure: "FigureBase") -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[Patch(facecolor=HIDDEN_COLOUR, edgecolor="#bbbbbb", label="hidden pixel, not given to any method")],
        loc="outside lower center", fontsize=8.5, frameon=False,
    )  # fmt: skip


def _draw_samples(figure: "FigureBase", samples: Samples) -> None:
    """Pictures where the signals are some, else a few curves."""
    shape = picture_shape(samples.generator.signal_shape)
    if shape is None:
        ax = figure.subplots()
        for k, signal in enumerate(samples.signals[: len(_LINES)].cpu()):
            colour, dashes, _ = _LINES[k]
            ax.plot(signal.numpy(), color=colour, linestyle=dashes, linewidth=1, label=f"sample {k}")
        _plain_axes(ax, "entry of the signal", "value (signal units)", "samples")
        ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return
    low, high = output_range(samples.generator) or (float(samples.signals.min()), float(samples.signals.max()))
    axes = figure.subplots(2, 12, squeeze=False)
    for ax, signal in zip(axes.flat, samples.signals.cpu(), strict=False):
        value = ((signal - low) / (high - low)).clamp(0, 1).reshape(shape).movedim(0, -1)
        picture = value if shape[0] == 3 else 1 - value.expand(*shape[1:], 3)
        ax.imshow(picture.numpy(), interpolation="nearest")
    for ax in axes.flat:
        _thin_frame(ax)
    ends = ("black", "full colour") if shape[0] == 3 else ("white", "black")
    words = "" if shape[0] == 3 else "drawn dark on light (inverted), "
    title = f"samples, {words}values from {low:.3g} ({ends[0]}) to {high:.3g} ({ends[1]}), signal units"
    figure.suptitle(title, fontsize=9.5)


def _draw_counts(ax: "Axes", inspection: Inspection, samples: Samples) -> None:
    """Histograms of the share of active units, one per hidden layer."""
    for k, (hidden, counts) in enumerate(zip(inspection.hidden, samples.counts, strict=True)):
        colour, _, _ = _LINES[k % len(_LINES)]
        label = f"hidden {hidden.index}, {hidden.size} units, {hidden.activation}"
        # whole numbers of units per bar, or bars and gaps would tell of nothing but rounding
        edges = np.arange(-0.5, hidden.size + 1, max(1, round(hidden.size / 50)))
        share = 100 * counts.cpu().numpy() / hidden.size
        bins = (100 * edges / hidden.size).tolist()
        ax.hist(share, bins=bins, histtype="step", color=colour, linewidth=1.6, label=label)
    _plain_axes(ax, "active units (% of the layer)", f"latents, of {inspection.samples}", "active units per hidden layer")
    ax.set_xlim(0, 100)
    if inspection.hidden:
        ax.legend(fontsize=8, frameon=False, loc="best")


def _draw_singular_values(ax: "Axes", samples: Samples) -> None:
    """Median and extremes over the latents of every singular value of the Jacobian before the output activation."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    values = samples.values.cpu().clamp(min=_FLOOR).numpy()
    number = np.arange(1, values.shape[1] + 1)
    low, mid, high = values.min(0), np.median(values, 0), values.max(0)
    colour, _, _ = _LINES[0]
    ax.fill_between(number, low, high, color=colour, alpha=0.25, linewidth=0, label="smallest to largest")
    ax.plot(number, mid, color=colour, marker="o", markersize=3, linewidth=1.4, label="median")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if float(high.max() / low.min()) < 1e3 else (1.0,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"singular values of the Jacobian\nbefore the output activation, {len(values)} latents"
    _plain_axes(ax, "number of the singular value", "singular value (signal / latent unit)", title)
    ax.legend(fontsize=8, frameon=False)


def _thin_frame(ax: "Axes") -> None:
    """No ticks and a thin grey frame, for axes that hold a picture."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.6)


def _plain_axes(ax: "Axes", x: str, y: str, title: str) -> None:
    ax.set_xlabel(x, fontsize=9)
    ax.set_ylabel(y, fontsize=9)
    ax.set_title(title, fontsize=9.5)
    ax.tick_params(labelsize=8)
    ax.grid(True, which="major", color="#eeeeee", linewidth=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _draw_curves(figure: "FigureBase", inversions: Mapping[str, Inversion], quantity: str, title: str) -> None:
    ax = figure.subplots()
    for k, (name, inversion) in enumerate(inversions.items()):
        error = relative_error(inversion, quantity, name).sort().values.clamp(min=_FLOOR)
        error = torch.cat([error[:1], error])  # a step reaches back to the share before it
        share = 100 * torch.arange(len(error)) / (len(error) - 1)
        colour, dashes, width = _LINES[k % len(_LINES)]
        ax.step(share, error, where="pre", color=colour, linestyle=dashes, linewidth=width, label=name.replace("_", " "))
    _label_curves(ax, quantity, title)


def _label_curves(ax: "Axes", quantity: str, title: str) -> None:
    ax.axhline(1e-6, color="#999999", linewidth=0.8, linestyle=":")
    ax.text(0.6, 1.6e-6, "recovered: below 1e-6", fontsize=7.5, color="#777777", va="bottom")
    ax.set_yscale("log")
    ax.set_ylim(_FLOOR, 10)
    ax.set_xlim(0, 100)
    ax.set_xlabel("signals, best first (%)", fontsize=9)
    ax.set_ylabel(f"relative error of {quantity}\n(|{quantity} - truth| / |truth|, no unit)", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(True, which="major", color="#eeeeee", linewidth=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if title:
        ax.set_title(title, fontsize=9.5)


def relative_error(inversion: Inversion, quantity: str = "z", name: str = "inversion") -> Tensor:
    """|quantity - truth| / |truth| per signal, `(N,)`, no unit, from the inversion's SNRs (never below 1e-20)."""
    if quantity not in inversion.snr:
        known = ", ".join(inversion.snr) or "none"
        raise ValueError(
            f"expected the SNR of {quantity!r} in {name!r}, got {known}; invert with truth=... to compare with a truth"
        )
    return 10 ** (-inversion.snr[quantity].double() / 20)
