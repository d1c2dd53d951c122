"""Pictures of pages that hold none: drawn by the build from the results beside the page, or those that a script has drawn.

A page of results on a code host is its tables; on the site a picture of them stands below its title.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import DOTS, words_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "benchmarks/results"
# Colours of Okabe and Ito, each with a hatch, a marker and a line of its own: none is told by colour alone.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
HATCHES = ("", "//", "..", "xx", "\\\\", "oo")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def line(k: int) -> dict[str, Any]:
    """How the k-th line of a panel looks."""
    return {"color": COLOURS[k], "linestyle": LINES[k], "marker": MARKERS[k], "fillstyle": "none"}


def bar(k: int) -> dict[str, Any]:
    """How the k-th kind of bars looks."""
    return {"color": COLOURS[k], "hatch": HATCHES[k], "edgecolor": "black", "linewidth": 0.5}


# A picture that a script has drawn, of another name than its page.
DRAWN: dict[str, tuple[str, str]] = {
    f"{RESULTS}/layers_cpu.md": (
        f"{RESULTS}/layers_cpu_profiles.png",
        "Share of the cases that a solver certifies within t times the fastest one's time, by solver.",
    ),
    f"{RESULTS}/compared_again_cpu.md": (
        f"{RESULTS}/compared_cpu.png",
        "Share of the signals whose latents each method finds, of the comparison that is measured again here in part.",
    ),
}


# --- kinds of pictures ----------------------------------------------------------------------------


def panels(count: int, high: float) -> tuple[Any, list[Any]]:
    """A figure with panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, high), layout="constrained")
    return figure, list(figure.subplots(1, count, sharey=True, squeeze=False)[0])


def bars(panel: Any, names: list[str], series: dict[str, list[float | None]], unit: str, *, log: bool = False) -> None:
    """Groups of horizontal bars, the first name on top; a value that is None has no bar."""
    thick = 0.8 / len(series)
    for k, (label, values) in enumerate(series.items()):
        at = [i + (k + 0.5) * thick - 0.4 for i in range(len(names))]
        wide = [0 if value is None else value for value in values]
        panel.barh(at, wide, thick, label=label, **bar(k))
    down(panel, names, unit)
    if log:
        panel.set_xscale("log")
    panel.grid(axis="x", alpha=0.3)
    if len(series) > 1:
        above(panel, len(series))


def down(panel: Any, names: list[str], unit: str) -> None:
    """The names of horizontal bars from top to bottom, and what their lengths are."""
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(unit)


def above(panel: Any, columns: int) -> None:
    """The legend above a panel, where it covers nothing."""
    panel.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=min(columns, 3), frameon=False)


def stacked(panel: Any, names: list[str], series: dict[str, list[float]], unit: str) -> None:
    """Horizontal bars whose parts follow each other."""
    left = [0.0] * len(names)
    for k, (label, values) in enumerate(series.items()):
        panel.barh(range(len(names)), values, 0.8, left=left, label=label, **bar(k))
        left = [a + b for a, b in zip(left, values, strict=True)]
    down(panel, names, unit)
    above(panel, len(series))


# --- pages of results -----------------------------------------------------------------------------


def multilayer(record: dict) -> Any:
    """Ours beside CVXPY."""
    figure, (panel,) = panels(1, 4.6)
    rows = record["rows"]
    ours = [1e3 * min(row["exact"]["seconds"], row["plain"]["seconds"]) for row in rows]
    series = {"ours": ours, "CVXPY, compiled once": [1e3 * row["clarabel"]["seconds"] for row in rows]}
    series["CVXPY, stated anew"] = [1e3 * row["clarabel"]["anew"] for row in rows]
    bars(panel, [row["case"] for row in rows], series, "process milliseconds per signal", log=True)
    words = "Milliseconds per signal by problem: ours are least everywhere, CVXPY takes a few to some hundred times as long."
    figure.set_label(words)
    return figure


def streamed(record: dict) -> Any:
    """Memory before and at its peak."""
    figure, (panel,) = panels(1, 2.2)
    runs = record["runs"]
    series = {"before": [run["before"] for run in runs], "at the peak": [run["peak"] for run in runs]}
    bars(panel, [f"{run['signals']:,} signals" for run in runs], series, "memory of the process (MB)")
    figure.set_label("Memory before and at the peak of two streamed runs: twice as many signals need hardly more.")
    return figure


def launches(record: dict) -> Any:
    """Kernels and waits of each call."""
    figure, (panel,) = panels(1, 6.5)
    rows = record["rows"]
    series = {"kernels": [row["kernels"] for row in rows], "waits for the device": [row["waits"] for row in rows]}
    bars(panel, [row["call"] for row in rows], series, "count per call", log=True)
    figure.set_label("Kernels and waits of each call: kernels are tens to thousands of times as many as waits.")
    return figure


def noise(record: dict) -> Any:
    """Time of MAP and of Adam."""
    figure, (panel,) = panels(1, 8.5)
    rows = record["results"]
    series = {who: [row["milliseconds"].get(who) for row in rows.values()] for who in ("MAP", "Adam")}
    bars(panel, list(rows), series, "milliseconds per signal", log=True)
    panel.tick_params(axis="y", labelsize=6)
    figure.set_label(
        "Milliseconds per signal of MAP by hybrid and of 2,000 steps of Adam on the same objective, by generator and noise."
    )
    return figure


def killed(record: dict) -> Any:
    """How far the run had come at each kill."""
    figure, (panel,) = panels(1, 2.6)
    kills = record["kills"]
    done = [record["chunk"] * kill["done"] for kill in kills]
    names = [f"{k + 1}: {kill['signal']}" for k, kill in enumerate(kills)] + ["end"]
    bars(panel, names, {"done": [*done, record["signals"]]}, "signals whose result was on the disk")
    figure.set_label("Signals done at each of the kills of a run and at its end: no kill lost what had been done.")
    return figure


def operators(record: dict) -> Any:
    """An operator beside its matrix."""
    figure, drawn = panels(len(record["results"]), 4.2)
    for panel, (generator, cases) in zip(drawn, record["results"].items(), strict=True):
        series = {"operator": [one["milliseconds"] for one in cases.values()]}
        series["its dense matrix"] = [(one.get("dense") or {}).get("milliseconds") for one in cases.values()]
        bars(panel, list(cases), series, f"milliseconds per signal\n{generator}")
    figure.set_label("Milliseconds per signal of inversions behind each measurement, as an operator and as a dense matrix.")
    return figure


def boxes(record: dict) -> Any:
    """The gap that is left against the size of the box."""
    figure, drawn = panels(2, 3.6)
    for panel, level in zip(drawn, (0.0, 0.01), strict=True):
        rows = [row for row in record["around"] if row["noise"] == level]
        for k, key in enumerate(dict.fromkeys((row["generator"], row["latents"]) for row in rows)):
            own = [row for row in rows if (row["generator"], row["latents"]) == key]
            at, left = [row["half"] for row in own], [max(row["gap"], 1e-7) for row in own]
            panel.loglog(at, left, label=f"{key[0]}, {key[1]} latents", **line(k))
        panel.set_title(f"{level:.0%} noise", fontsize=9)
        panel.set_xlabel("half a side of the box (latent units)")
        panel.grid(alpha=0.3)
    drawn[0].set_ylabel("gap of the squared misfit; 0 is at 1e-7")
    drawn[1].legend(fontsize=7)
    figure.set_label(
        "The gap that a proof leaves against the size of its box: none without noise; with 1 % it grows with the box."
    )
    return figure


def jacobians(record: dict) -> Any:
    """A Gauss-Newton step by each way."""
    figure, (panel,) = panels(1, 4.4)
    rows, ways = record["rows"], ("columns", "single", "blocks", "krylov")
    series = {way: [1e3 * row[way]["seconds"] for row in rows] for way in ways}
    bars(panel, [row["generator"] for row in rows], series, "milliseconds of one step", log=True)
    figure.set_label(
        "Milliseconds of one Gauss-Newton step by four ways, for eight generators: no way is fastest everywhere."
    )
    return figure


def mnist_inversion(record: dict) -> Any:
    """Process seconds of each method by case."""
    figure, (panel,) = panels(1, 4.4)
    rows = [row for row in record["results"] if row["case"] and "each" in row]
    names = [f"{row['case']}: {row['method']}" for row in rows]
    bars(panel, names, {"s": [1e3 * row["each"] for row in rows]}, "process milliseconds per signal", log=True)
    figure.set_label(
        "Process milliseconds per signal, by case and method: ours take two to thirty, the recipe nearly a thousand."
    )
    return figure


def foreign(record: dict) -> Any:
    """Seconds of each judge by net."""
    figure, (panel,) = panels(1, 3.6)
    nets, judges = (list(dict.fromkeys(row[key] for row in record["rows"])) for key in ("net", "judge"))
    for k, judge in enumerate(judges):
        own = [row for row in record["rows"] if row["judge"] == judge and row.get("seconds")]
        at = [nets.index(row["net"]) + 0.12 * (k - (len(judges) - 1) / 2) for row in own]
        panel.semilogy(at, [row["seconds"] for row in own], label=judge, **(line(k) | {"linestyle": ""}))
    panel.set_xticks(range(len(nets)), nets, fontsize=8)
    panel.set_xlabel("net")
    panel.set_ylabel("seconds")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
    figure.set_label("Seconds that each judge took, by net: nets of three layers take all of them longer than nets of two.")
    return figure


def soundness(record: dict) -> Any:
    """What was claimed, by problem."""
    figure, (panel,) = panels(1, 3.8)
    counts: Counter[tuple[str, str]] = Counter()
    for _, _, problem, status, count in record["report"]["claims"]:
        counts[problem, status] += count
    problems, statuses = (sorted({key[i] for key in counts}) for i in (0, 1))
    series = {status: [counts[problem, status] for problem in problems] for status in statuses}
    stacked(panel, problems, series, "signals judged")
    figure.set_label(
        "Signals judged by problem and status: optimal, inaccurate, infeasible, and those of which nothing is claimed."
    )
    return figure


def wide(record: dict) -> Any:
    """Latents found and time."""
    figure, (left, right) = panels(2, 7.5)
    rows = record["rows"]
    names = [f"{row['generator']}, {row['output']}, {row['seen']}" for row in rows]
    bars(left, names, {"found": [row["found"] for row in rows]}, f"latents found, of {record['signals']}")
    bars(right, names, {"s": [row["median"] for row in rows]}, "seconds a signal, median", log=True)
    left.tick_params(axis="y", labelsize=6)
    figure.set_label(
        "Latents found and seconds a signal by generator, output and what was seen: all or nearly all, but of one."
    )
    return figure


def uniqueness(record: dict) -> Any:
    """Unique, not unique, undecided by hidden units."""
    figure, (panel,) = panels(1, 3.4)
    rows = [row for row in record["random"] if row["output"] == "identity"]
    told = {"unique": "proved unique", "not_unique": "another latent shown", "undecided": "undecided"}
    for k, (key, words) in enumerate(told.items()):
        share = [100 * row[key] / row["signals"] for row in rows]
        panel.plot([row["n1"] for row in rows], share, label=words, **line(k))
    panel.set_xlabel("hidden units n1 of random nets 100 - n1 - 625")
    panel.set_ylabel("signals (%)")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
    figure.set_label(
        "Of random nets z is not unique below 200 hidden units, proved unique from 260 to 800, and undecided beyond 850."
    )
    return figure


def checked(record: dict) -> Any:
    """What became of certificates with an entry changed."""
    figure, (panel,) = panels(1, 3.6)
    counts: Counter[tuple[str, str]] = Counter()
    for kind, _, outcome, count in record["found"]["mutations"]:
        counts[kind, outcome] += count
    kinds, outcomes = (list(dict.fromkeys(key[i] for key in counts)) for i in (0, 1))
    stacked(
        panel, kinds, {one: [counts[kind, one] for kind in kinds] for one in outcomes}, "certificates with one entry changed"
    )
    panel.set_ylabel("what was changed")
    figure.set_label("Certificates with one entry changed: about half are rejected, and what is accepted is still true.")
    return figure


def error_bars(record: dict) -> Any:
    """How often intervals of 95 % hold the truth."""
    figure, (panel,) = panels(1, 6.5)
    rows = {key.removeprefix("coverage; "): row for key, row in record["results"].items() if key.startswith("coverage")}
    at = range(len(rows))
    panel.hlines(at, [row["least"] for row in rows.values()], [row["most"] for row in rows.values()], "#999999", linewidth=4)
    nominal = 5  # the place of 95 % among the probabilities
    panel.plot(
        [row["of_z"][nominal] for row in rows.values()], at, "o", color=COLOURS[0], label="of z (bars: its coordinates)"
    )
    panel.plot(
        [row["of_signal"][nominal] for row in rows.values()],
        at,
        "s",
        color=COLOURS[5],
        fillstyle="none",
        label="of the signal",
    )
    panel.axvline(0.95, color="black", linestyle="--", linewidth=1)
    panel.set_yticks(at, list(rows), fontsize=7)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlabel("share of true values inside their intervals of 95 %")
    above(panel, 2)
    figure.set_label(
        "Share of true values inside their intervals of 95 %, by generator, noise, prior and level: near 0.95 everywhere."
    )
    return figure


def proofs(record: dict) -> Any:
    """The gap of real digits as the search goes on."""
    figure, drawn = panels(len(record["real"]), 3.4)
    for panel, (generator, digits) in zip(drawn, record["real"].items(), strict=True):
        for k, digit in enumerate(digits):
            panel.step(
                digit["seconds"], digit["gap"], where="post", color=COLOURS[k], linestyle=LINES[k], label=f"digit {k}"
            )
            panel.plot(digit["seconds"][-1], digit["gap"][-1], MARKERS[k], color=COLOURS[k], fillstyle="none")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(f"wall seconds\n{generator}")
        panel.grid(alpha=0.3)
    drawn[0].set_ylabel("gap of the squared misfit")
    drawn[0].legend(fontsize=8)
    figure.set_label(
        "The gap of proofs for five real digits against seconds, for two decoders: 1 % in seconds, or open after a minute."
    )
    return figure


def nearest(record: dict) -> Any:
    """How near hybrid and Adam come to real pictures."""
    figure, (panel,) = panels(1, 4.5)
    rows = record["results"]
    at = range(len(rows))
    for name, marker, colour in (("hybrid", "o", COLOURS[0]), ("Adam", "s", COLOURS[1])):
        misfits = [100 * row["misfit"][name] for row in rows.values()]
        panel.plot(misfits, at, marker, color=colour, fillstyle="full" if name == "hybrid" else "none", label=name)
    panel.set_yticks(at, list(rows))
    panel.invert_yaxis()
    panel.set_xlabel("median misfit of real pictures (% of |y|)")
    panel.set_xlim(left=0)
    panel.grid(alpha=0.3)
    above(panel, 2)
    figure.set_label("Median misfits of real pictures by hybrid and by Adam, for each generator: hybrid's are no larger.")
    return figure


def guide() -> Any:
    """One noisy signal of the guide: z within a bound, and the most probable z with its intervals."""
    import torch

    import cvxinv as ci
    from cvxinv.command.demo import load_shipped

    generator, _, _ = load_shipped()
    z = generator.sample_latent(12, torch.Generator().manual_seed(0))[:1]
    noisy = generator(z) + 0.2 * torch.randn(1, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    bounded = ci.invert(generator, noisy, noise=("l2", 0.2 * 64**0.5 * 1.2), on_fail="ignore", progress=False)
    likely = ci.invert(generator, noisy, noise=("gaussian", 0.2), prior=ci.Gaussian(1.0), on_fail="ignore", progress=False)
    figure, (panel,) = panels(1, 3.2)
    at, wide = torch.arange(1, 9), 1.96 * likely.uncertainty.z_std[0]
    panel.plot(at, z[0], "x", color=COLOURS[5], markersize=9, label="true")
    panel.plot(at - 0.15, bounded.z[0], "s", color=COLOURS[1], fillstyle="none", label="meets a bound on the misfit")
    panel.errorbar(
        at + 0.15, likely.z[0], wide, fmt="o", color=COLOURS[0], capsize=3, label="most probable, intervals of 95 %"
    )
    panel.set_xlabel("coordinate")
    panel.set_ylabel("z (latent units)")
    panel.grid(alpha=0.3)
    above(panel, 3)
    figure.set_label(
        "Eight coordinates of z from a noisy digit: true, one that meets a bound, and the most probable with intervals."
    )
    return figure


JSON: dict[str, tuple[str, Callable[[dict], Any]]] = {
    **{
        f"{RESULTS}/{draw}_cpu.md": (f"{RESULTS}/{draw}_cpu.json", globals()[draw])
        for draw in ("multilayer", "streamed", "launches", "noise", "killed", "operators", "jacobians", "mnist_inversion",
                     "soundness", "wide", "uniqueness", "checked", "error_bars", "nearest", "proofs")
    },
    f"{RESULTS}/proofs_convolutional_cpu.md": (f"{RESULTS}/proofs_convolutional_cpu.json", boxes),
    f"{RESULTS}/foreign_proofs_cpu.md": (f"{RESULTS}/foreign_proofs_cpu.json", foreign),
    "docs/guarantees.md": (f"{RESULTS}/uniqueness_cpu.json", uniqueness),
    "docs/checking.md": (f"{RESULTS}/checked_cpu.json", checked),
}  # fmt: skip


OWN: dict[str, Callable[[], Any]] = {"docs/guide.md": guide}  # of what the build computes itself


# --- for the build --------------------------------------------------------------------------------


def as_png(figure: Any) -> bytes:
    """A figure on white."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=DOTS, facecolor="white")
    return target.getvalue()


def beside(page: str) -> tuple[str, str] | None:
    """The PNG of a page's name that its script has drawn, with the words of a page that shows it, or of its title."""
    path = ROOT / page.replace(".md", ".png")
    if not path.is_file():
        return None
    shown = re.compile(rf"!\[([^\]]+)\]\([^)]*/{re.escape(path.name)}\)")
    pages = sorted((ROOT / "docs").glob("*.md"))
    told = [words for other in pages for words in shown.findall(other.read_text())]
    title = re.search(r"^# (.+)$", (ROOT / page).read_text(), re.M)
    said = f"What the script of this page has drawn of its results: {title[1] if title else page}"
    return path.relative_to(ROOT).as_posix(), " ".join((told or [said])[0].split())


def has_picture(page: str) -> bool:
    """Whether there is one for a page."""
    return page in DRAWN or page in JSON or page in OWN or beside(page) is not None


def picture(page: str) -> tuple[str, bytes] | None:
    """The words and the PNG of a page's picture, where there is one for it."""
    if page in JSON:
        path, draw = JSON[page]
        figure = draw(json.loads((ROOT / path).read_text()))
        return words_of(figure), as_png(figure)
    if page in OWN:
        figure = OWN[page]()
        return words_of(figure), as_png(figure)
    found = DRAWN.get(page) or beside(page)
    return found and (found[1], (ROOT / found[0]).read_bytes())
