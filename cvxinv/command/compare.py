"""`cvxinv compare`: methods on the same signals, from the same starts, within the same budget."""

from pathlib import Path
from textwrap import fill as wrap
from typing import Annotated, Any

import torch
import typer
from rich.text import Text

from ..generator.chain import Generator
from ..inversion.comparing.compare import compare
from ..inversion.comparing.comparison import Comparison
from ..inversion.comparing.contestants import ALL
from ..inversion.comparing.folder import check_comparison_folder
from ..inversion.methods import METHODS
from ..inversion.storage import read_latents
from ..pages.comparison import write_comparison
from ..solvers.solve import check_choice
from .arguments import (
    GeneratorName,
    HideClipped,
    Json,
    Label,
    MaskFile,
    MatrixFile,
    NoiseBound,
    Output,
    Prior,
    Seed,
)
from .outcome import Outcome
from .reading import (
    DTYPES,
    GivenSignals,
    device_named,
    measurement_of,
    noise_of,
    prior_of,
    read_generator,
    signals_for,
    without_clipped,
)
from .speaking import spoken
from .terminal import console_of, print_json, table_of

REPORT = "report.html"
_SPARED = ("statuses", "SNR signal, dB", "starts", "iterations", "error unseen", "SNR z, dB, 10 to 90 %")


def compare_command(
    generator: GeneratorName,
    signals: Annotated[
        Path | None, typer.Argument(metavar="SIGNALS", help="As for invert; left out, --samples of the generator's own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the page, the numbers, and the runs.")
    ] = None,
    methods: Annotated[str, typer.Option(help=f"all, or some of {', '.join(METHODS)}, with commas between.")] = ALL,
    output: Output = None,
    label: Label = None,
    mask: MaskFile = None,
    matrix: MatrixFile = None,
    measurements: Annotated[
        int | None,
        typer.Option(min=1, metavar="M", help="See whole signals through one Gaussian matrix (M, d) of the seed."),
    ] = None,
    hide_clipped: HideClipped = False,
    noise: NoiseBound = None,
    prior: Prior = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Own signals, 20 unless said; --noise is added to them.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(metavar="LATENTS", help="True latents, for SNRs and errors alone.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="SIGNALS hold hidden entries too: tell the errors there.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32, of the arithmetic.")] = "float64",
    seed: Seed = 0,
    restarts: Annotated[int, typer.Option(min=0, help="Random starts of each method at most; 0: its own number.")] = 10,
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="Of each method, for all signals.")] = None,
    signal_time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="Of each method, for a signal.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Signals at a time.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the comparison that OUT holds; methods may join.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the comparison that OUT holds.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress bar.")] = False,
) -> None:
    """Run methods on the same signals with the same starts, and say which to take here and why."""
    with Outcome() as outcome:
        check_choice(dtype, tuple(DTYPES), "--dtype")
        if out is not None:
            check_comparison_folder(out, resume=resume, overwrite=overwrite)
        G = read_generator(generator, output, label, DTYPES[dtype], device_named(device))
        given = None if signals is None else signals_for(G, signals)
        seen = _seen(G, given, mask, matrix, hide_clipped)
        known = None if truth is None else read_latents(truth).to(G.device)
        outcome.may_write = out
        found = compare(
            G, None if given is None else given.y, _methods(methods), measurement=seen, measurements=measurements,
            noise=noise_of(noise), prior=prior_of(prior), truth=known, signals=_whole(given, whole), samples=samples,
            seed=seed, restarts=restarts or None, time_limit=time_limit, signal_time_limit=signal_time_limit, chunk=chunk,
            progress=False if quiet else None, checkpoint=out, resume=resume, overwrite=overwrite,
        )  # fmt: skip
        outcome.written = out
        files = {} if out is None else {"out": out, "report": write_comparison(found, out / REPORT)}
        notes = [] if given is None else given.notes
        if as_json:
            print_json(files | found.to_dict() | {"notes": notes})
        elif not quiet:
            _print(found, files, notes)
        best = found.advice.best
        raise typer.Exit(0 if best is not None and found[best].explained.all() else 1)


def _methods(text: str) -> object:
    """What --methods means. Raises ValueError."""
    if text == ALL:
        return text
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected --methods as all, or each once with commas between, got {text!r}; pass e.g. hybrid,csgm")
    for name in names:
        check_choice(name, tuple(METHODS), "method in --methods")
    return names


def _seen(
    G: Generator, given: GivenSignals | None, mask: Path | None, matrix: Path | None, hide_clipped: bool
) -> torch.Tensor | None:
    seen = measurement_of(G, mask, matrix)
    if not hide_clipped:
        return seen
    if given is None:
        raise ValueError("expected SIGNALS beside --hide-clipped, got none; leave it out")
    return without_clipped(G, given, seen, matrix is not None)


def _whole(given: GivenSignals | None, wanted: bool) -> torch.Tensor | None:
    if wanted and given is None:
        raise ValueError("expected SIGNALS beside --whole, got none; own samples are known whole, leave it out")
    return given.y if wanted and given is not None else None


def _print(found: Comparison, files: dict[str, Any], notes: list[str]) -> None:
    console = console_of()
    columns, missing = _fitting(found, console.width)
    # heads are broken so that no cell need be
    table = table_of(found.heading, *(wrap(head, _wide(head, cells)) for head, cells in columns.items()))
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == found.advice.best else None)
    console.print(table)
    where = "the report has them" if files else "-o OUT writes a report that has them"
    more = [f"For want of room without {'; '.join(missing)}: {where}, and a wider terminal."] if missing else []
    for line in (found.recommendation, *found.remarks(), *more, *(f"note: {note}" for note in notes)):
        console.print(spoken(line), markup=False, soft_wrap=True)
    if files:
        console.print(f"written to {', '.join(str(path) for path in files.values())}", markup=False, soft_wrap=True)


def _fitting(found: Comparison, width: int) -> tuple[dict[str, list[str]], list[str]]:
    """The table's columns, as many as fit in `width` characters, each cell on one line, and which were left out."""
    columns, missing = {column[0]: list(column[1:]) for column in zip(*found.cells(), strict=True)}, list[str]()
    for name in _SPARED:
        if sum(_wide(*column) + 3 for column in columns.items()) < width:
            break
        if columns.pop(name, None) is not None:
            missing.append(name)
    if "statuses" in missing:  # which say who did not run
        columns["explained"] = [
            cell if row.ran else row.outcome for cell, row in zip(columns["explained"], found.rows, strict=True)
        ]
    return columns, missing


def _wide(head: str, cells: list[str]) -> int:
    """Characters that a column takes: its head may be broken between words."""
    return max(len(word) for word in (*head.split(), *cells))
