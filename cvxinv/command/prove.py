"""`cvxinv prove`: are these the best latents there are in a box, and the only ones?"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text

from ..exact.asking import read_asked, read_budget
from ..exact.keeping import check_proof_folder
from ..exact.prove import prove
from ..generator.chain import Generator
from ..inversion.invert import invert
from ..inversion.moments import INTERRUPTED as BY_AN_INTERRUPT
from ..inversion.moments import PROVED
from ..inversion.proof import Proof
from ..inversion.proof_applied import refuse_other_question, refuse_other_signals
from ..inversion.proof_words import box_words
from ..inversion.result import Inversion, task_words
from ..inversion.storage import read_latents
from ..inversion.task import Task
from ..measurement.given import check_given
from ..pages.report import write_report
from .arguments import GeneratorName, HideClipped, Json, Label, MaskFile, MatrixFile, NoiseBound, Output, Prior
from .outcome import Outcome, say
from .reading import (
    GivenSignals,
    check_report,
    measurement_of,
    noise_of,
    prior_of,
    read_generator,
    signals_for,
    without_clipped,
)
from .speaking import spoken
from .stopping import INTERRUPTED, go_on_command
from .terminal import console_of, counted, pairs, print_json, signal_count, table_of

_TOLD = 5  # signals that are told of one by one


def prove_command(
    generator: GeneratorName,
    signals: Annotated[
        Path, typer.Argument(metavar="SIGNALS", help=".npy, .npz or .safetensors, one signal per row; a .png or a folder.")
    ],
    result: Annotated[
        Path | None,
        typer.Argument(metavar="[RESULT]", help="A result folder, or latents; without it the signals are inverted first."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the proof, and what is open as it goes on.")
    ] = None,
    output: Output = None,
    label: Label = None,
    mask: MaskFile = None,
    matrix: MatrixFile = None,
    hide_clipped: HideClipped = False,
    noise: NoiseBound = None,
    prior: Prior = None,
    gap: Annotated[float, typer.Option(help="Of the squared misfit: what no latent may be better by.")] = 1e-4,
    box: Annotated[
        str | None, typer.Option(metavar="SIDE", help="Latents spoken of: R for |z_j| <= R, or LOW:HIGH; 3 n0^(1/2).")
    ] = None,
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", help="Stop the search after that.")] = 60.0,
    batch: Annotated[int, typer.Option(help="Nodes at once.")] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the proof that OUT holds, if it is the same.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the proof that OUT holds.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write everything on one page.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress bar.")] = False,
) -> None:
    """Prove that no latent of a box explains the signals better, or find one that does."""
    with Outcome() as outcome:
        check_report(report)
        _check_out(out, resume, overwrite)
        G = read_generator(generator, output, label, torch.float64, torch.device("cpu"))
        signal = signals_for(G, signals)
        seen = measurement_of(G, mask, matrix)
        seen = without_clipped(G, signal, seen, matrix is not None) if hide_clipped else seen
        asked: dict[str, Any] = {"measurement": seen, "noise": noise_of(noise), "prior": prior_of(prior)}
        # before an inversion that may take long
        read_budget(time_limit, batch, None)
        task = read_asked(G, signal.y, None, **asked, gap=gap, box=box_of(box)).task
        start, found = _start(G, signal, result, asked, task, report is not None)
        outcome.may_write = out
        proof = prove(
            G, signal.y, start, **asked, gap=gap, box=box_of(box), time_limit=time_limit, batch=batch,
            progress=False if quiet else None, checkpoint=out, resume=resume, overwrite=overwrite,
        )  # fmt: skip
        outcome.written = out
        files = {} if out is None else {"out": out}
        told, why = _told(found, proof)
        notes = [*signal.notes, *([f"the result does not take the proof: {why}; a larger --box holds it"] if why else [])]
        if told is not None and out is not None:
            told.save(out)
        if report is not None and told is not None:
            files["report"] = write_report(told, report, y=signal.y, generator=G, measurement=seen)
        if as_json:
            print_json(proof_dict(proof, files, notes))
        elif not quiet:
            print_proof(proof, files, notes)
        if report is not None and told is None:
            raise ValueError(f"no report was written, as {notes[-1]}")
        _end(proof, out)


def _check_out(out: Path | None, resume: bool, overwrite: bool) -> None:
    if out is not None:
        check_proof_folder(out, resume=resume, overwrite=overwrite)
    elif resume or overwrite:
        raise ValueError(f"expected --out beside --{'resume' if resume else 'overwrite'}, got none; name the proof's folder")


def _start(
    G: Generator, signal: GivenSignals, result: Path | None, asked: dict[str, Any], task: Task, reported: bool
) -> tuple[Any, Inversion | None]:
    """What `prove` starts from, and the inversion that takes the proof; of a proof that goes on the latents are known."""
    if result is None:
        found = invert(G, signal.y, **asked, on_fail="ignore", progress=False)
        return found, found
    if result.is_dir():
        found = replace(Inversion.load(result), proof=None)
        check_given(found.settings.get("measurement"), asked["measurement"])
        _check_same(found, task, result)
        return found, found
    if reported:
        raise ValueError(
            f"expected a result folder as RESULT with --report, got the latents {result}; pass the folder of cvxinv invert, "
            "or none"
        )
    return read_latents(result), None


def _check_same(found: Inversion, task: Task, result: Path) -> None:
    """Raises ValueError where a result is of another number of signals or of another question, which no proof fits."""
    if len(found) != task.N:
        raise ValueError(
            f"expected a RESULT of {task.N} signals, got {result} of {len(found)}; pass the SIGNALS of the result"
        )
    try:
        refuse_other_question(found, task_words(task))
        refuse_other_signals(found, task.size.cpu())
    except ValueError as error:
        head = str(error).partition("; ")[0].replace("the inversion", "RESULT")
        raise ValueError(f"{head}; say the same as then, or pass the latents alone, in a file") from error


def _told(found: Inversion | None, proof: Proof) -> tuple[Inversion | None, str]:
    """The inversion that takes the proof, and why it does not where it cannot: the proof counts all the same."""
    try:
        return (None if found is None else found.with_proof(proof)), ""
    except ValueError as error:
        return None, str(error).partition("; ")[0]


def box_of(text: str | None) -> float | tuple[float, float] | None:
    """What --box means. Raises ValueError."""
    if text is None:
        return None
    try:
        sides = [float(word) for word in text.split(":")]
    except ValueError as error:
        raise ValueError(f"expected numbers in --box, got {text!r}; pass e.g. --box 5 or --box -3:3") from error
    if len(sides) > 2:
        raise ValueError(f"expected --box as R or LOW:HIGH, got {text!r}; pass e.g. --box 5 or --box -3:3")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _end(proof: Proof, out: Path | None) -> None:
    """Exit code 0 where all signals are proved, 130 after an interrupt, else 1."""
    if proof.stopped == BY_AN_INTERRUPT:
        say(f"interrupted; {'nothing was written' if out is None else f'go on with: {go_on_command()}'}")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if bool(proof.proved.all()) else 1)


def proof_dict(proof: Proof, files: dict[str, Path], notes: list[str]) -> dict[str, Any]:
    """A proof for JSON."""
    names = (
        "status",
        "misfit",
        "bound",
        "gap",
        "unique",
        "out_of_range",
        "improved",
        "radius",
        "undecided",
        "nodes",
        "rounds",
    )
    return {
        "signals": len(proof),
        "statuses": proof.counts(),
        **files,
        **{name: getattr(proof, name) for name in names},
        "z": proof.z,
        "box": {"low": proof.box[0], "high": proof.box[1]},
        "stopped": proof.stopped,
        "seconds": proof.seconds,
        "settings": proof.settings,
        "versions": proof.versions,
        "notes": notes,
    }


def print_proof(proof: Proof, files: dict[str, Path], notes: list[str]) -> None:
    """A proof as tables, and the first signals in words."""
    console, gap = console_of(), proof.gap[proof.gap.isfinite()]
    table = pairs(f"prove: {signal_count(len(proof))}")
    table.add_row("statuses", counted(proof.counts()))
    table.add_row("latents spoken of", box_words(proof))
    if len(gap):
        table.add_row("gap", f"median {float(gap.median()):.1e}, largest {float(gap.max()):.1e} of the squared misfit")
    table.add_row("one piece as good", f"{int(proof.unique.sum())} of {len(proof)}")
    table.add_row("a better z was found", f"{int(proof.improved.sum())} of {len(proof)}")
    if proof.out_of_range.any():
        table.add_row("out of range", f"{int(proof.out_of_range.sum())}: no latent of the box meets the stated noise")
    table.add_row("seconds", f"{proof.seconds:.2f}{f', stopped by {proof.stopped}' if proof.stopped else ''}")
    for note in notes:
        table.add_row("note", Text(note))
    if files:
        table.add_row("written to", Text(", ".join(str(path) for path in files.values())))
    console.print(table)
    rows = table_of("signals", "signal", "status", "misfit", "none below", "gap", "unique", "radius of z", "nodes")
    for i in range(min(len(proof), 4 * _TOLD)):
        numbers = (f"{float(v[i]):.4g}" for v in (proof.misfit, proof.bound))
        unique = "yes" if proof.unique[i] else "-"
        cells = (*numbers, f"{float(proof.gap[i]):.1e}", unique, f"{float(proof.radius[i]):.2g}", str(int(proof.nodes[i])))
        rows.add_row(str(i), str(proof.status[i]), *cells)
    console.print(rows)
    if len(proof) > 4 * _TOLD:
        console.print(f"{len(proof) - 4 * _TOLD} more signals are not shown; --json and --out have all")
    first = [i for i in range(len(proof)) if proof.status[i] != PROVED or proof.improved[i]][:_TOLD]
    for i in first or [0]:
        console.print(spoken(proof.explain(i)), markup=False, soft_wrap=True)
