"""The demonstration: the shipped generator, inverted by every method on signals in its range and on real digits.

Everything it needs ships with the package: no network, no GPU, well under a minute on two cores.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from safetensors.torch import load_file
from torch import Tensor

from ..errors import BackendNotInstalledError
from ..files import write_together
from ..generator.chain import Generator
from ..generator.reading.load import load_generator
from ..inversion.invert import invert
from ..inversion.result import Inversion
from ..inversion.storage import check_writable
from ..pages.plots import Grid, overview, relative_error
from ..surroundings import undisturbed
from .exact_check import check_against_cvxpy

METHODS = ("latent_pursuit", "gradient_descent", "levenberg_marquardt", "hybrid")
PICTURE, REPORT = "demo.png", "demo.json"
_SIGNALS = 32
_HIDDEN = 0.45  # of the pixels
_NOISE = 0.3  # of |y|: about what the generator leaves of most real digits
_RECOVERED = 1e-6  # relative error of z
_DRAWN = ("latent_pursuit", "gradient_descent", "hybrid")
_SHOWN_SAMPLES, _SHOWN_DIGITS, _CHECKED = 8, 6, 4


@dataclass(frozen=True, eq=False)
class Run:
    """One inversion of one data set: data "samples" or "digits", the mask (None: all pixels), the stated noise."""

    data: str
    visible: Tensor | None
    method: str
    noise: bool
    inversion: Inversion

    @property
    def seen(self) -> str:
        """What was seen, in words."""
        d = self.inversion.signal.shape[-1]
        return f"all {d} pixels" if self.visible is None else f"{int(self.visible[0].sum())} of {d} pixels"


@undisturbed
def load_shipped() -> tuple[Generator, Tensor, Tensor]:
    """The shipped generator (8-24-40-64, identity output), 64 real digits `(64, 64)` in [0, 1], and their labels `(64,)`."""
    with as_file(files("cvxinv") / "shipped") as folder:
        digits = load_file(folder / "digits_sample.safetensors")
        generator = load_generator(folder / "digits_8x8.safetensors")
    images = digits["images"].double().reshape(-1, generator.signal_dim)
    return generator, images, digits["labels"]


@undisturbed
def run_demo(out: str | Path = "cvxinv-demo", seed: int = 0, console: Console | None = None) -> dict[str, Any]:
    """Invert 32 generator samples and 32 real digits by every method, whole and with 45 % of the pixels hidden.

    out: folder for `demo.png` and `demo.json`, made where it is missing; each is written whole or not at all. seed: of
    latents, hidden pixels and random starts. console: prints progress, the table and the paths there; None is silent.

    Returns what `demo.json` holds: seed, generator, rows (one per run of the table), cvxpy (rows and count of agreement),
    files, notes, seconds, versions, and three verdicts: all_explained_in_range (hybrid explains all 64 signals that are in
    the generator's range), all_agree_with_cvxpy, and passed, both of them; a command should exit 0 only if passed.
    Raises OSError where `out` cannot be written, before any work.
    """
    started = time.perf_counter()
    folder = check_writable(out, (PICTURE, REPORT))
    say = Console(quiet=True) if console is None else console
    generator, images, labels = load_shipped()
    data = _Data.draw(generator, images[:_SIGNALS], seed)
    say.print(_introduction(generator, labels))
    with _one_thread(), _progress(say, 4 * len(METHODS) + 2 + 2 * _CHECKED) as tick:
        runs = _invert_all(generator, data, seed, tick)
        checks = _check(runs, tick)
    report = _report(runs, checks, seed, generator)
    say.print(_table(runs))
    say.print(_reading(report))
    picture, note = _picture(runs, data, generator)
    report["notes"] = [note] if note else []
    report["files"] = [str(folder / name) for name in ((PICTURE, REPORT) if picture else (REPORT,))]
    report["seconds"] = round(time.perf_counter() - started, 2)
    _write(folder, picture, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    for line in (*report["notes"], *(f"wrote {path}" for path in report["files"])):
        say.print(line, markup=False, soft_wrap=True)
    return report


# --- signals --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Data:
    """Latents and signals of the samples, the digits, and the pixels that are seen of both, `(N, d)`."""

    latents: Tensor
    samples: Tensor
    digits: Tensor
    visible: Tensor

    @staticmethod
    def draw(generator: Generator, digits: Tensor, seed: int) -> "_Data":
        source = torch.Generator().manual_seed(seed)
        latents = generator.sample_latent(len(digits), source)
        hidden = round(_HIDDEN * generator.signal_dim)
        order = torch.rand(len(digits), generator.signal_dim, generator=source).argsort(1)
        return _Data(latents, generator(latents), digits, order >= hidden)


def _invert_all(generator: Generator, data: _Data, seed: int, tick: "Tick") -> list[Run]:
    """Every method on both data sets, whole and masked; on the digits hybrid once more with noise stated."""
    runs = []
    for name, y, truth in (("samples", data.samples, data.latents), ("digits", data.digits, None)):
        for visible in (None, data.visible):
            common: dict[str, Any] = {"measurement": visible, "truth": truth, "seed": seed}
            common |= {"progress": False, "on_fail": "ignore"}
            for method in METHODS:
                tick(f"{name}: {method}")
                runs.append(Run(name, visible, method, False, invert(generator, y, method, **common)))
            if truth is None:
                tick(f"{name}: hybrid, noise stated")
                size = (y if visible is None else y * visible).norm(dim=1)
                stated = invert(generator, y, "hybrid", noise=("l2", _NOISE * size), **common)
                runs.append(Run(name, visible, "hybrid", True, stated))
    return runs


def _pick(runs: list[Run], data: str, masked: bool) -> dict[str, Inversion]:
    return {r.method: r.inversion for r in runs if r.data == data and (r.visible is not None) == masked and not r.noise}


def _check(runs: list[Run], tick: "Tick") -> list[dict[str, Any]]:
    """The layer problems of eight digits again, by CLARABEL: four whole, four with hidden pixels.

    Digits, because their optima are above 0. A sample's optimum is 0, and what an interior point leaves of it is rounding.
    """
    rows = []
    for masked in (False, True):
        inversion = _pick(runs, "digits", masked)["hybrid"]
        for i in range(_CHECKED):
            tick(f"CVXPY: digit {i}{', hidden pixels' if masked else ''}")
            rows += [row | {"signal": i, "masked": masked} for row in check_against_cvxpy(inversion[i : i + 1], 1)]
    return rows


# --- words and numbers ----------------------------------------------------------------------------


def _report(runs: list[Run], checks: list[dict[str, Any]], seed: int, generator: Generator) -> dict[str, Any]:
    in_range = [r.inversion for r in runs if r.data == "samples" and r.method == "hybrid"]
    explained = all(bool(inversion.verdict.explained.all()) for inversion in in_range)
    agree = sum(bool(row["agree"]) for row in checks)
    differences = [abs(row["difference"]) for row in checks if row["difference"] is not None]
    largest = max(checks, key=lambda row: _share(row)) if differences else None
    return {
        "demo": "cvxinv demo",
        "seed": seed,
        "generator": {
            "name": generator.description.get("name", ""),
            "widths": [generator.latent_dim, *(layer.W.m for layer in generator.layers)],
        },
        "hidden": f"{_percent(_HIDDEN)} of the pixels",
        "stated_noise": f"{_percent(_NOISE)} of |y|, l2",
        "rows": [_row(run) for run in runs],
        "cvxpy": {
            "solver": "CLARABEL",
            "agree": agree,
            "of": len(checks),
            "largest_difference": max(differences, default=None),
            "largest_share_of_allowed": None if largest is None else _share(largest),
            "rows": checks,
        },
        "all_explained_in_range": explained,
        "all_agree_with_cvxpy": bool(checks) and agree == len(checks),
        "passed": explained and bool(checks) and agree == len(checks),
        "versions": in_range[0].versions,
    }


def _share(row: dict[str, Any]) -> float:
    """Difference of the objectives over what is allowed, no unit."""
    return abs(row["difference"]) / row["allowed"] if row["difference"] is not None else 0.0


def _row(run: Run) -> dict[str, Any]:
    inversion, status = run.inversion, run.inversion.layer_status
    known = "z" in inversion.snr
    right = (relative_error(inversion) < _RECOVERED) & inversion.determined if known else None
    return {
        "data": run.data,
        "seen": run.seen,
        "method": run.method,
        "noise_stated": run.noise,
        "signals": len(inversion),
        "statuses": inversion.verdict.counts(),
        "z_recovered": None if right is None else int(right.sum()),
        "z_determined": int(inversion.determined.sum()),
        "z_snr_db_median": float(inversion.snr["z"].median()) if known else None,
        "misfit_percent_of_y_median": 100 * float(inversion.verdict.relative_misfit.median()),
        "layers_optimal": int((status == "optimal").sum()),
        "layers": int(status.size),
        "seconds": round(inversion.seconds["total"], 3),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _introduction(generator: Generator, labels: Tensor) -> str:
    widths = "-".join(str(n) for n in (generator.latent_dim, *(layer.W.m for layer in generator.layers)))
    return (
        f"Generator {generator.description.get('name', '')}, layers {widths}, ReLU between them. "
        f"Given: {_SIGNALS} of its own samples, so a latent z with G(z) = y exists, and the first {_SIGNALS} of the "
        f"{len(labels)} real digits that ship. Each is given whole, and with {_percent(_HIDDEN)} of its pixels hidden.\n"
    )


def _table(runs: list[Run]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0), pad_edge=False, collapse_padding=True)
    table.add_column("given, and method", min_width=24, no_wrap=True)
    for name in ("explained", "stationary", "z within\n1e-6", "SNR\n(dB)", "misfit\n(%)", "layers\noptimal", "time\n(s)"):
        table.add_column(name, justify="right")
    before = ""
    for run in runs:
        group = f"{run.data}, {run.seen}"
        if group != before:
            table.add_section()
            table.add_row(Text(group, style="bold"))
        before = group
        table.add_row(*_cells(_row(run)))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    statuses, dash = row["statuses"], "-"
    misfit = row["misfit_percent_of_y_median"]
    return [
        f"  {row['method']}{', noise stated' if row['noise_stated'] else ''}",
        f"{statuses.get('explained', 0)}/{row['signals']}",
        f"{statuses.get('stationary', 0)}/{row['signals']}",
        dash if row["z_recovered"] is None else f"{row['z_recovered']}/{row['z_determined']}",
        dash if row["z_snr_db_median"] is None else f"{row['z_snr_db_median']:.0f}",
        f"{misfit:.1f}" if misfit >= 0.05 else f"{misfit:.0e}",
        f"{row['layers_optimal']}/{row['layers']}" if row["layers"] else dash,
        f"{row['seconds']:.2f}",
    ]


def _reading(report: dict[str, Any]) -> str:
    """How to read the table, and what CVXPY said."""
    check = report["cvxpy"]
    noise = [row for row in report["rows"] if row["noise_stated"]]
    counts = " and ".join(f"{row['statuses'].get('explained', 0)} of {row['signals']}" for row in noise)
    return (
        "\n"
        "explained: |G(z) - y| on the seen pixels is at most 1e-8 |y|. stationary: a local optimum that does not explain y. "
        "z within 1e-6: relative error, of those whose z the seen pixels determine. SNR: of z, median. misfit: |G(z) - y| "
        "in % of |y| on the seen pixels, median. layers optimal: convex layer problems whose duality gap is certified. "
        "Gradient descent and Levenberg-Marquardt have one random start, hybrid a layered one and at most ten random "
        "ones.\n\n"
        "Real digits are not in the generator's range, so nothing explains them: the answer is the nearest G(z) found, and "
        f"nothing proves that there is no nearer one. noise stated: an l2 error of up to {_percent(_NOISE)} of |y| is "
        f"allowed, and a z within it explains the digit; hybrid finds one for {counts}. Its layers then cut more entries, "
        "and a layer that no z fits is reported as not optimal.\n\n"
        f"CVXPY: {check['agree']} of {check['of']} layer problems of {2 * _CHECKED} digits agree with {check['solver']}; "
        f"largest difference of the objectives {check['largest_difference']:.0e} (grey values squared), at most "
        f"{check['largest_share_of_allowed']:.0e} of what is allowed.\n"
    )


# --- picture and files ----------------------------------------------------------------------------


def _picture(runs: list[Run], data: _Data, generator: Generator) -> tuple[bytes | None, str]:
    """The picture as PNG, or None and why there is none."""
    samples, digits = _pick(runs, "samples", True), _pick(runs, "digits", True)
    # the samples that a method misses come first, or the picture would show only successes
    worst = torch.stack([relative_error(samples[name]) for name in _DRAWN]).amax(0)
    shown = worst.argsort(descending=True)[:_SHOWN_SAMPLES].sort().values
    first = torch.arange(_SHOWN_DIGITS)
    seen = f"{int(data.visible[0].sum())} of {generator.signal_dim} pixels seen"
    above = f"the {_SHOWN_SAMPLES} of {_SIGNALS} generator samples with the largest error of z"

    def grid(inversions: dict[str, Inversion], truth: Tensor, index: Tensor, title: str) -> Grid:
        taken = {name: inversions[name][index] for name in _DRAWN}
        return Grid(taken, truth[index], data.visible[index], generator.signal_shape, title)

    try:
        figure = overview(
            [
                grid(samples, data.samples, shown, f"{above}, {seen}\nbelow: SNR of z in dB, red where not explained"),
                grid(digits, data.digits, first, f"real digits, {seen}\nbelow: misfit in % of |y|"),
            ],
            samples,
            curves_title=f"all {_SIGNALS} samples, {seen}",
        )
    except BackendNotInstalledError as error:
        return None, f"no {PICTURE}: {error}"
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue(), ""


def _write(out: Path, picture: bytes | None, report: bytes) -> None:
    """Both files are complete on the disk before either gets its name; a picture of an earlier run does not stay alone."""
    out.mkdir(parents=True, exist_ok=True)
    content = {REPORT: report} if picture is None else {PICTURE: picture, REPORT: report}
    write_together({out / name: written for name, written in content.items()})
    if picture is None:
        (out / PICTURE).unlink(missing_ok=True)


class Tick:
    """Says what comes next, and counts it."""

    def __init__(self, progress: Progress, total: int):
        self.progress = progress
        self.task = progress.add_task("", total=total)
        self.begun = False

    def __call__(self, what: str) -> None:
        self.progress.update(self.task, advance=int(self.begun), description=what)
        self.begun = True


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread, as before afterwards: 40 x 64 matrices gain nothing from more, and on a busy machine threads that
    wait for each other took ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Tick]:
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    if not console.is_terminal:
        console.print(f"{total} inversions and checks ...\n")
    with Progress(*columns, console=console, transient=True) as progress:
        yield Tick(progress, total)
