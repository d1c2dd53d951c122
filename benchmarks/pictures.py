"""Time-to-accuracy curves, one picture per case, and performance profiles over all cases."""

import math
import re
from pathlib import Path

from contest import Row

_MARKERS = "ovs^Dd*<>pPXh8"
# Okabe and Ito's, which colour-blind readers tell apart; beyond seven curves markers do
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def draw_all(rows: list[Row], folder: Path, stem: str) -> list[Path]:
    """Write the pictures; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    written = [draw_curves(label, rows, folder, stem) for label in dict.fromkeys(r.case for r in rows)]
    return [*(path for path in written if path), draw_profiles(rows, folder / f"{stem}_profiles.png")]


def draw_curves(label: str, rows: list[Row], folder: Path, stem: str) -> Path | None:
    """Worst error of a few signals against process seconds per signal: ours full lines, peers dashed."""
    import matplotlib.pyplot as plt

    curves = [r for r in rows if r.case == label and r.curve]
    if not curves:
        return None
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for k, row in enumerate(curves):
        seconds, errors = zip(*row.curve, strict=True)  # from loose to tight
        shown = [min(max(e, 1e-16), 10.0) for e in errors]
        style = {"linestyle": "-", "linewidth": 2} if row.kind == "ours" else {"linestyle": "--", "linewidth": 1}
        name = f"{row.solver} (ours)" if row.kind == "ours" else row.solver
        axes.loglog(seconds, shown, label=name, **_look(k), **style)
    axes.axhline(1e-6, color="0.5", linewidth=0.8)
    axes.set(xlabel="process seconds per signal", ylabel="worst of relative gap and violation", title=label)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    path = folder / f"{stem}_{slug}.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


def _look(k: int) -> dict[str, str]:
    """Colour and marker of the k-th curve: no two of 98 have both alike."""
    return {"color": _COLOURS[k % len(_COLOURS)], "marker": _MARKERS[(k + k // len(_MARKERS)) % len(_MARKERS)]}


def draw_profiles(rows: list[Row], path: Path) -> Path:
    """Share of the cases that a solver certifies within t times the fastest (Dolan, More, 2002), by kind of problem."""
    import matplotlib.pyplot as plt

    labels = list(dict.fromkeys(r.case for r in rows))
    kinds = {
        "squared misfits": [x for x in labels if not x.startswith("pursuit")],
        "basis pursuits": [x for x in labels if x.startswith("pursuit")],
    }
    kinds = {title: members for title, members in kinds.items() if members}
    figure, panels = plt.subplots(len(kinds), 1, figsize=(8.5, 4.6 * len(kinds)), layout="constrained", squeeze=False)
    for axes, (title, members) in zip(panels[:, 0], kinds.items(), strict=True):
        ratios = profile_ratios(rows, members)
        top = 2 * max((x for r in ratios.values() for x in r if math.isfinite(x)), default=5.0)
        for k, (name, found) in enumerate(ratios.items()):
            reached = sorted(x for x in found if math.isfinite(x))
            steps = [1.0, *reached, top]
            share = [sum(x <= step for x in found) / len(members) for step in steps]
            ours = name.endswith("(ours)")
            line = {"linestyle": "-", "linewidth": 2} if ours else {"linestyle": "--", "linewidth": 1}
            axes.step(steps, share, where="post", label=name, markersize=5, **_look(k), **line)
        axes.set(xscale="log", ylim=(-0.02, 1.02), title=f"{title}, {len(members)} cases")
        axes.set(xlabel="t: process seconds / those of the fastest", ylabel="share of cases certified within t")
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def profile_ratios(rows: list[Row], labels: list[str]) -> dict[str, list[float]]:
    """For each solver its seconds over those of the fastest, case by case; infinite where it was not certified."""
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.case in labels and row.certified and row.dtype == "float64" and row.polish and row.seconds is not None:
            name = f"{row.solver} (ours)" if row.kind == "ours" else row.solver
            times.setdefault(name, {})[row.case] = row.seconds.process
    best = {x: min((t[x] for t in times.values() if x in t), default=math.inf) for x in labels}
    return {name: [t[x] / best[x] if x in t else math.inf for x in labels] for name, t in times.items()}
