"""The command line: `cvxinv demo`, `invert`, `compare`, `prove`, `morph`, `verify`, `check`,
`diagnose`, `doctor`, `exercise`; `inspect` is `diagnose` of a generator alone.

Exit codes: 0 all signals explained (prove: proved, morph: in time, check: all claims accepted, doctor: all solvers work), 1
some are not, 2 usage or bad input (check: a file that is none), 3 a fault of the program, 130 interrupted, 143 terminated.
Bad input is one line on stderr; with --json stdout carries JSON and nothing else.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text

from .. import __version__
from ..check import RefusedError, told
from ..check_proof import check_file
from ..inversion.export import certificate_files
from ..inversion.invert import METHODS, invert
from ..inversion.priors import AbstractPrior, prior_in_words
from ..inversion.result import Inversion
from ..inversion.runs.folder import check_folder, holds_something
from ..inversion.storage import check_writable, read_latents
from ..inversion.task import AUTO
from ..inversion.verify import verify
from ..measurement.given import check_given
from ..measurement.magnitudes import Magnitudes
from ..pages.png import RECOVERED, write_pictures
from ..pages.report import write_report
from ..solvers.solve import check_choice
from .arguments import (
    GeneratorName,
    HideClipped,
    Json,
    Label,
    Latents,
    MaskFile,
    MatrixFile,
    NoiseBound,
    Output,
    PhaselessSignals,
    Prior,
    Seed,
    Signals,
)
from .compare import compare_command
from .diagnose import diagnose_command, inspect_command
from .doctor import run_doctor
from .exact_check import check_against_cvxpy
from .exercise import exercise_app
from .morph import morph_command
from .outcome import Outcome, finish
from .prove import prove_command
from .reading import (
    DTYPES,
    check_pictures,
    check_report,
    device_named,
    measurement_of,
    noise_of,
    picture_names,
    prior_of,
    read_generator,
    signals_for,
    without_clipped,
)
from .showing import (
    add_verdict,
    inversion_dict,
    print_check,
    print_checkup,
    print_inversion,
    print_not_explained,
    verdict_dict,
)
from .terminal import console_of, pairs, print_json, signal_count
from .usage import Command, Group

app = typer.Typer(
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Invert trained ReLU generators layer by layer, with certificates.",
)


def main() -> None:
    """The entry point."""
    # batches of small matrices: on a machine that is not idle, threads on every core wait for each other far longer
    # than they work
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    app(prog_name="cvxinv")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cvxinv {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the versions and stop.")
    ] = False,
) -> None:
    """Invert trained ReLU generators layer by layer, with certificates."""


# --- commands -------------------------------------------------------------------------------------


@app.command("demo", cls=Command)
def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for picture and report.")] = Path("cvxinv-demo"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Invert images of the shipped generator, compare with CVXPY, and show what came out."""
    with Outcome() as outcome:
        check_writable(out)
        from .demo import run_demo

        outcome.may_write = out
        found = run_demo(out, seed, console_of(stderr=as_json))
        if as_json:
            print_json(found)
        if not found["passed"]:
            raise typer.Exit(1)


@app.command("invert", cls=Command)
def invert_command(
    generator: GeneratorName,
    signals: Signals,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", help="Folder for the result, and chunks as they are done."),
    ],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "hybrid",
    output: Output = None,
    label: Label = None,
    mask: MaskFile = None,
    matrix: MatrixFile = None,
    magnitudes: PhaselessSignals = False,
    hide_clipped: HideClipped = False,
    noise: NoiseBound = None,
    prior: Prior = None,
    z0: Annotated[Path | None, typer.Option("--z0", metavar="LATENTS", help="Latents to begin with, latent units.")] = None,
    tol: Annotated[float | None, typer.Option(help="Relative tolerance of the layers' certificates.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32, of the arithmetic.")] = "float64",
    seed: Seed = 0,
    restarts: Annotated[int | None, typer.Option(help="Random starts at most.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Signals at a time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that OUT holds, if it is the same.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the result or the run that OUT holds.")] = False,
    time_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after that; what is not finished is user_limit.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="WORKERS", help="Dask: local, a number of processes, or tcp://host:8786.")
    ] = None,
    exact_check: Annotated[int | None, typer.Option(min=1, metavar="N", help="Compare N signals with CVXPY.")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="LATENTS", help="True latents, for SNRs alone.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write everything on one page.")] = None,
    certificates: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write certificate files, for `cvxinv check`.")
    ] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Write G(z) as pictures, into OUT/recovered; as of PNG signals.")
    ] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress bar.")] = False,
) -> None:
    """Find the latents of signals, and write them with everything that is needed to trust them."""
    with Outcome() as outcome:
        check_choice(method, tuple(METHODS), "--method")
        check_choice(dtype, tuple(DTYPES), "--dtype")
        check_folder(out, resume=resume, overwrite=overwrite)
        check_report(report)
        _refuse_problems_of_files(out, resume, cluster is not None, certificates is not None, bool(exact_check))
        if certificates is not None:
            check_writable(certificates)
        G = read_generator(generator, output, label, DTYPES[dtype], device_named(device))
        signal = signals_for(G, signals)
        seen = measurement_of(G, mask, matrix)
        seen = without_clipped(G, signal, seen, matrix is not None) if hide_clipped else seen
        watched: object = Magnitudes(seen) if magnitudes else seen
        names = picture_names(G, signal, png)
        if names:
            check_pictures(out / RECOVERED, names, signals, mask)
        known = None if truth is None else read_latents(truth).to(G.device)
        first = None if z0 is None else Inversion.load(z0) if z0.is_dir() else read_latents(z0).to(G.device)
        given = (("tol", tol), ("restarts", restarts), ("z0", first))
        options: dict[str, Any] = {name: value for name, value in given if value is not None}
        outcome.may_write = out
        inversion = invert(
            G, signal.y, method, measurement=watched, noise=noise_of(noise), prior=prior_of(prior), truth=known, seed=seed,
            chunk=chunk, progress=False if quiet else None, on_fail="ignore", checkpoint=out, resume=resume,
            overwrite=overwrite, time_limit=time_limit, cluster=_cluster(cluster), **options,
        )  # fmt: skip
        outcome.written = out
        files = {"out": out}
        if names:
            files["pictures"] = write_pictures(inversion.signal, G, out / RECOVERED, names)
        if report is not None:
            files["report"] = write_report(inversion, report, y=signal.y, generator=G, measurement=watched, truth=known)
        if certificates is not None:
            files["certificates"] = inversion.export(certificates, G, signal.y, watched)
        rows = check_against_cvxpy(inversion, exact_check) if exact_check else None
        if as_json:
            print_json(inversion_dict(inversion, files, rows, signal.notes))
        elif not quiet:
            print_inversion(inversion, files, rows, signal.notes)
            print_not_explained(inversion, G, report is not None)
        finish(inversion.verdict)


app.command("compare", cls=Command)(compare_command)
app.command("prove", cls=Command)(prove_command)
app.command("morph", cls=Command)(morph_command)


@app.command("verify", cls=Command)
def verify_command(
    generator: GeneratorName,
    signals: Signals,
    latents: Latents,
    output: Output = None,
    label: Label = None,
    mask: MaskFile = None,
    matrix: MatrixFile = None,
    magnitudes: PhaselessSignals = False,
    hide_clipped: HideClipped = False,
    noise: NoiseBound = None,
    prior: Prior = None,
    as_json: Json = False,
) -> None:
    """Judge anybody's latents in float64: do they explain the signals, and are they determined?"""
    with Outcome():
        G = read_generator(generator, output, label, torch.float64, torch.device("cpu"))
        signal, z = signals_for(G, signals), read_latents(latents)
        seen = measurement_of(G, mask, matrix)
        seen = without_clipped(G, signal, seen, matrix is not None) if hide_clipped else seen
        watched: object = Magnitudes(seen) if magnitudes else seen
        stated, known, notes = _as_it_was_made(latents, noise_of(noise), prior_of(prior), watched)
        verdict = verify(G, signal.y, z, measurement=watched, noise=stated, prior=known)
        notes = [*signal.notes, *notes]
        if as_json:
            print_json(verdict_dict(verdict) | {"notes": notes})
        else:
            table = pairs(f"verify: {signal_count(len(verdict))}")
            add_verdict(table, verdict)
            for note in notes:
                table.add_row("note", Text(note))
            console_of().print(table)
        finish(verdict)


@app.command("check", cls=Command)
def check_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="Certificate files, or folders of them.")],
    as_json: Json = False,
) -> None:
    """Check certificate files in exact arithmetic, trusting neither solver nor judge."""
    with Outcome():
        found = [_checked(file) for path in files for file in certificate_files(path)]
        if as_json:
            print_json({"files": found})
        else:
            for entry in found:
                print_check(entry)
        refused = any(entry["refused"] for entry in found)
        raise typer.Exit(2 if refused else 1 if any(entry["rejected"] for entry in found) else 0)


app.add_typer(exercise_app, name="exercise")
app.command("diagnose", cls=Command)(diagnose_command)
app.command("inspect", cls=Command)(inspect_command)


@app.command("doctor", cls=Command)
def doctor_command(as_json: Json = False) -> None:
    """Check the installation: versions, solvers, devices, precision, and a self-test of every solver."""
    with Outcome():
        checkup = run_doctor()
        if as_json:
            print_json(checkup.to_dict())
        else:
            print_checkup(checkup)
        raise typer.Exit(0 if checkup.passed else 1)


# --- what they ask for and say ----------------------------------------------------------------------


def _cluster(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdigit() else text


def _refuse_problems_of_files(out: Path, resume: bool, cluster: bool, certificates: bool, exact_check: bool) -> None:
    """Raises ValueError where layer problems are asked for of chunks that come from files or workers, which keep none."""
    option = "--certificates" if certificates else "--exact-check"
    if cluster and (certificates or exact_check):
        raise ValueError(f"expected {option} without --cluster, as workers give back no layer problems; leave one out")
    if resume and holds_something(out) and (certificates or exact_check):
        raise ValueError(
            f"expected {option} without --resume where {out} holds chunks, as files keep no layer problems; leave it out, "
            "or begin anew with --overwrite"
        )


def _as_it_was_made(
    latents: Path, noise: tuple[str, float] | str | None, prior: AbstractPrior | None, seen: object
) -> tuple[Any, AbstractPrior | None, list[str]]:
    """The noise and the prior to judge by, a result folder's own where none is stated; and what is to be known of it."""
    if not latents.is_dir():
        return noise, prior, []
    made, notes = Inversion.load(latents), list[str]()
    stored, measured = str(made.settings.get("noise") or ""), str(made.settings.get("measurement"))
    own = _stored_noise(made)
    if noise is None and own is not None:
        noise = own
        notes.append(f"judged by the noise that {latents} was made with, {stored}; --noise states another")
    elif noise is None and stored:
        notes.append(f"{latents} was made with noise ({stored}), which is not used here; state one with --noise")
    if prior is None and (known := made.settings.get("prior")):
        own_prior = prior_in_words(known)
        usable = own_prior is not None and not (own_prior.weighed and isinstance(noise, tuple) and noise[0] != "gaussian")
        prior = own_prior if usable else None
        how = "judged by" if usable else "not used here is"
        notes.append(f"{how} the prior that {latents} was made with, {known}; --prior states another")
    check_given(made.settings.get("measurement"), seen)
    if seen is None and measured in ("Mask", "Matrix"):
        option = "--mask or --hide-clipped" if measured == "Mask" else "--matrix"
        notes.append(f"{latents} was made with {option}, and none is passed here: every entry counts as seen")
    return noise, prior, notes


def _stored_noise(made: Inversion) -> tuple[str, float] | str | None:
    """The noise of a result, where it is one number for all signals or was estimated for each."""
    if made.uncertainty is not None and made.uncertainty.estimated:
        return AUTO
    norm, _, bound = str(made.settings.get("noise") or "").partition(":")
    if not bound:
        return None
    # the words are rounded
    exact = made.verdict.explained_below if made.uncertainty is None else made.uncertainty.sigma
    return norm, float(exact[0])


def _checked(file: Path) -> dict[str, Any]:
    """What the checker says of a file; `refused` is why it was not checked, or ""."""
    try:
        verdicts = check_file(file)
    except RefusedError as error:
        return {
            "file": file,
            "refused": str(error),
            "claims": 0,
            "accepted": 0,
            "rejected": [],
            "words": f"refused: {error}",
        }
    failed = [verdict._asdict() for verdict in verdicts if not verdict.accepted]
    counts = {"claims": len(verdicts), "accepted": len(verdicts) - len(failed)}
    return {"file": file, "refused": "", **counts, "rejected": failed, "words": told(verdicts)}
