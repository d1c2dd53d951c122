"""The command line: `cvxinv demo`, `invert`, `verify`, `check`, `inspect`, `doctor`.

Exit codes: 0 all signals explained (check: all claims accepted, doctor: all solvers work), 1 some are not, 2 usage or bad
input (check: a file that is none), 3 a fault of the program, 130 interrupted, 143 terminated.
Bad input is one line on stderr; with --json stdout carries JSON and nothing else.
"""

import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from .. import __version__
from ..check import RefusedError, told
from ..check_inversion import check_file
from ..errors import BackendNotInstalledError, CvxinvWarning
from ..files import LOSSY, missing, png_cure, read_mask, read_matrix, read_signals, write_whole
from ..generator.chain import Generator
from ..generator.reading.load import load_generator
from ..inputs import read_device
from ..inversion.explain import explain
from ..inversion.export import certificate_files
from ..inversion.invert import METHODS, invert
from ..inversion.priors import AbstractPrior, Ball, Box, Gaussian, prior_in_words
from ..inversion.result import Inversion
from ..inversion.runs.folder import check_folder, holds_something, words_of_run
from ..inversion.storage import check_writable, read_latents
from ..inversion.task import AUTO, NORMS
from ..inversion.verify import Verdict, verify
from ..measurement.given import check_given
from ..pages.inspection import Inspection, inspect_and_sample
from ..pages.png import (
    RECOVERED,
    at_the_ends,
    is_pictures,
    picture_shape,
    read_mask_pictures,
    read_pictures,
    write_pictures,
)
from ..pages.report import write_report
from ..shipped import shipped_file, shipped_generators
from ..solvers.solve import check_choice
from .doctor import CERTIFIED, FAILED, Checkup, run_doctor
from .exact_check import check_against_cvxpy
from .stopping import INTERRUPTED, TERMINATED, Stoppable, Terminated, go_on_command

_DTYPES = {"float64": torch.float64, "float32": torch.float32}
_BAD_INPUT = (ValueError, TypeError, OSError, MemoryError, BackendNotInstalledError, torch.OutOfMemoryError)
_TOLD = 5  # signals that are not explained, of which the terminal tells why
_WIDTH = 120  # of tables where there is no terminal

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Invert trained ReLU generators layer by layer, with certificates.",
)

GeneratorName = Annotated[
    str,
    typer.Argument(metavar="GENERATOR", help="NAME.safetensors beside NAME.json, NET.onnx, or digits_8x8 or mnist_gan."),
]
Signals = Annotated[
    Path, typer.Argument(metavar="SIGNALS", help=".npy, .npz or .safetensors, one signal per row; a .png or a folder.")
]
Latents = Annotated[Path, typer.Argument(metavar="LATENTS", help=".npy, .npz, .safetensors, or a result folder.")]
Label = Annotated[int | None, typer.Option(help="Class of a conditional generator.")]
Output = Annotated[str | None, typer.Option(help="Last activation in place of the file's: identity, relu, leaky_relu:0.1.")]
MaskFile = Annotated[
    Path | None, typer.Option("--mask", metavar="FILE", help="Bool array, True where seen; or .png, white.")
]
MatrixFile = Annotated[
    Path | None,
    typer.Option("--matrix", metavar="FILE", help="A (k, d), dense or of scipy.sparse.save_npz; SIGNALS then hold y = A x."),
]
HideClipped = Annotated[bool, typer.Option("--hide-clipped", help="PNG: pixels at 0 or 255 count as not seen.")]
NoiseBound = Annotated[
    str | None,
    typer.Option(
        "--noise", metavar="NORM:BOUND", help="l2:0.1, linf:0.01, l1:2 or gaussian:0.05 (per entry), signal units; or auto."
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(metavar="KIND:NUMBER", help="Of z: gaussian:PRECISION[:MEAN], box:LOW:HIGH or ball:RADIUS, latent units."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


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


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for picture and report.")] = Path("cvxinv-demo"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Invert images of the shipped generator, compare with CVXPY, and show what came out."""
    with _Outcome() as outcome:
        check_writable(out)
        from .demo import run_demo

        outcome.may_write = out
        found = run_demo(out, seed, _console(stderr=as_json))
        if as_json:
            _print_json(found)
        if not found["passed"]:
            raise typer.Exit(1)


@app.command("invert")
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
    with _Outcome() as outcome:
        check_choice(method, tuple(METHODS), "method")
        check_choice(dtype, tuple(_DTYPES), "dtype")
        check_folder(out, resume=resume, overwrite=overwrite)
        _check_report(report)
        _refuse_problems_of_files(out, resume, cluster is not None, certificates is not None, bool(exact_check))
        if certificates is not None:
            check_writable(certificates)
        G = _generator(generator, output, label, _DTYPES[dtype], _device(device))
        signal = _signals_for(G, signals)
        seen = _measurement(G, mask, matrix)
        seen = _without_clipped(G, signal, seen, matrix is not None) if hide_clipped else seen
        names = _picture_names(G, signal, png)
        known = None if truth is None else read_latents(truth).to(G.device)
        first = None if z0 is None else Inversion.load(z0) if z0.is_dir() else read_latents(z0).to(G.device)
        given = (("tol", tol), ("restarts", restarts), ("z0", first))
        options: dict[str, Any] = {name: value for name, value in given if value is not None}
        outcome.may_write = out
        inversion = invert(
            G, signal.y, method, measurement=seen, noise=_noise(noise), prior=_prior(prior), truth=known, seed=seed,
            chunk=chunk, progress=False if quiet else None, on_fail="ignore", checkpoint=out, resume=resume,
            overwrite=overwrite, time_limit=time_limit, cluster=_cluster(cluster), **options,
        )  # fmt: skip
        outcome.written = out
        files = {"out": out}
        if names:
            files["pictures"] = write_pictures(inversion.signal, G, out / RECOVERED, names)
        if report is not None:
            files["report"] = write_report(inversion, report, y=signal.y, generator=G, measurement=seen, truth=known)
        if certificates is not None:
            files["certificates"] = inversion.export(certificates, G, signal.y, seen)
        rows = check_against_cvxpy(inversion, exact_check) if exact_check else None
        if as_json:
            _print_json(_inversion_dict(inversion, files, rows, signal.notes))
        elif not quiet:
            _print_inversion(inversion, files, rows, signal.notes)
            _print_not_explained(inversion, G, report is not None)
        _finish(inversion.verdict)


@app.command("verify")
def verify_command(
    generator: GeneratorName,
    signals: Signals,
    latents: Latents,
    output: Output = None,
    label: Label = None,
    mask: MaskFile = None,
    matrix: MatrixFile = None,
    hide_clipped: HideClipped = False,
    noise: NoiseBound = None,
    prior: Prior = None,
    as_json: Json = False,
) -> None:
    """Judge anybody's latents in float64: do they explain the signals, and are they determined?"""
    with _Outcome():
        G = _generator(generator, output, label, torch.float64, torch.device("cpu"))
        signal, z = _signals_for(G, signals), read_latents(latents)
        seen = _measurement(G, mask, matrix)
        seen = _without_clipped(G, signal, seen, matrix is not None) if hide_clipped else seen
        stated, known, notes = _as_it_was_made(latents, _noise(noise), _prior(prior), seen is not None)
        verdict = verify(G, signal.y, z, measurement=seen, noise=stated, prior=known)
        notes = [*signal.notes, *notes]
        if as_json:
            _print_json(_verdict_dict(verdict) | {"notes": notes})
        else:
            table = _pairs(f"verify: {_signal_count(len(verdict))}")
            _add_verdict(table, verdict)
            for note in notes:
                table.add_row("note", Text(note))
            _console().print(table)
        _finish(verdict)


@app.command("check")
def check_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="Certificate files, or folders of them.")],
    as_json: Json = False,
) -> None:
    """Check certificate files in exact arithmetic, trusting neither solver nor judge."""
    with _Outcome():
        found = [_checked(file) for path in files for file in certificate_files(path)]
        if as_json:
            _print_json({"files": found})
        else:
            for entry in found:
                _print_check(entry)
        refused = any(entry["refused"] for entry in found)
        raise typer.Exit(2 if refused else 1 if any(entry["rejected"] for entry in found) else 0)


@app.command("inspect")
def inspect_command(
    generator: GeneratorName,
    output: Output = None,
    label: Label = None,
    samples: Annotated[int, typer.Option(min=1, help="Random latents for the hidden layers.")] = 2000,
    seed: Seed = 0,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw samples, supports, singular values.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at a generator: its layers, how sparse it is, and what an inversion may hope for."""
    with _Outcome():
        if picture is not None:
            _check_picture(picture)
        G = _generator(generator, output, label, torch.float64, torch.device("cpu"))
        inspection, sample = inspect_and_sample(G, samples, seed=seed)
        if picture is not None:
            from ..pages.plots import inspection_picture, png_bytes

            write_whole(picture, png_bytes(inspection_picture(inspection, sample)))
        if as_json:
            _print_json(inspection.to_dict() | _reading(G) | ({} if picture is None else {"picture": picture}))
        else:
            _print_inspection(inspection)
            for name, words in _reading(G).items():
                _console().print(f"{name.replace('_', ' ')}: {words}", markup=False, soft_wrap=True)
            if picture is not None:
                _console().print(f"wrote {picture}", markup=False, soft_wrap=True)


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Check the installation: versions, solvers, devices, precision, and a self-test of every solver."""
    with _Outcome():
        checkup = run_doctor()
        if as_json:
            _print_json(checkup.to_dict())
        else:
            _print_checkup(checkup)
        raise typer.Exit(0 if checkup.passed else 1)


# --- what goes wrong ------------------------------------------------------------------------------


class _Outcome:
    """Turns what a command raises into a line on stderr and an exit code.

    may_write: where the command has begun to write; written: where a complete result lies.
    """

    def __init__(self) -> None:
        self.may_write: Path | None = None
        self.written: Path | None = None
        self._signals = Stoppable()

    def __enter__(self) -> "_Outcome":
        self._signals.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._signals.end()
        if error is None or isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError, SystemExit)):
            return
        if os.environ.get("CVXINV_DEBUG") == "1":
            traceback.print_exception(error)
        if isinstance(error, KeyboardInterrupt):
            ended = isinstance(error, Terminated)
            _say(f"{'terminated' if ended else 'interrupted'}, {self._left_behind()}")
            raise typer.Exit(TERMINATED if ended else INTERRUPTED) from None
        if isinstance(error, _BAD_INPUT):
            _say(f"error: {_message(error)}")
            raise typer.Exit(2) from None
        _say(f"internal error: {type(error).__name__}: {_message(error)}")
        _say("this is a fault of cvxinv: please report it with the command, `cvxinv --version` and the output of")
        _say("the same command under CVXINV_DEBUG=1")
        raise typer.Exit(3) from None

    def _left_behind(self) -> str:
        if self.written is not None:
            return f"the result in {self.written} is complete"
        if self.may_write is not None and (kept := words_of_run(self.may_write)):
            return f"{kept}; go on with: {go_on_command()}"
        if self.may_write is not None and self.may_write.exists():
            return f"{self.may_write} holds no unfinished result"
        return "nothing was written"


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


def _message(error: BaseException) -> str:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory; pass a smaller --chunk, or fewer signals"
    return " ".join(str(error).split()) or type(error).__name__


def _say(text: str) -> None:
    _console(stderr=True).print(Text(text, style="red"), soft_wrap=True)


def _finish(verdict: Verdict) -> None:
    raise typer.Exit(0 if bool(verdict.explained.all()) else 1)


# --- what is read ---------------------------------------------------------------------------------


def _generator(name: str, output: str | None, label: int | None, dtype: torch.dtype, device: torch.device) -> Generator:
    with _generator_file(name) as path, _warnings_as_notes():
        return load_generator(path, output, dtype=dtype, device=device, label=label)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """The package's own warnings as lines on stderr, each once; Python shows others as ever."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CvxinvWarning)
        yield
    own = [one for one in caught if issubclass(one.category, CvxinvWarning)]
    for text in dict.fromkeys(str(one.message) for one in own):
        _console(stderr=True).print(Text(f"note: {text}"), soft_wrap=True)
    for one in caught:
        if one not in own:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)


@contextmanager
def _generator_file(name: str) -> Iterator[Path]:
    path, shipped = Path(name), shipped_generators()
    if name in shipped:
        with shipped_file(name) as inside:
            yield inside
        return
    if path.is_dir():
        raise IsADirectoryError(f"expected a generator NAME.safetensors with its NAME.json, got the folder {path}")
    if not any(Path(f"{path}{suffix}").is_file() for suffix in ("", ".safetensors", ".json")):
        words = f"; shipped ones: {', '.join(shipped)}" if shipped else ""
        raise FileNotFoundError(f"{missing(path, ('.safetensors', '.onnx'))}{words}")
    yield path


def _device(name: str) -> torch.device:
    return read_device(name, "pass --device cpu")


@dataclass(frozen=True, eq=False)
class _Signals:
    """Signals as they are inverted, and what was done to them.

    names, ends: of pictures, None for arrays: their file names, and bool `(N, d)` where a pixel is 0 or 255.
    """

    y: Tensor
    names: list[str] | None
    notes: list[str]
    ends: Tensor | None


def _signals_for(G: Generator, path: Path) -> _Signals:
    """Signals on the generator's device, in float32 for a float32 generator."""
    names: list[str] | None = None
    notes: list[str] = []
    ends: Tensor | None = None
    if is_pictures(path):
        y, names, notes = read_pictures(path, G)
        ends = torch.logical_or(*at_the_ends(y, G))
    elif path.is_dir():
        others = sorted(file for file in path.iterdir() if file.suffix.lower() in LOSSY)
        words = f"found none, but {len(others)} such as {others[0].name}; {png_cure(others[0])}" if others else "found none"
        raise FileNotFoundError(f"expected PNG files in the folder {path}, {words}")
    else:
        y = read_signals(path)
    if y.dtype == torch.float64 and G.dtype == torch.float32:
        notes = [*notes, "float64 signals were rounded to float32, as --dtype float32 asks"]
        y = y.float()
    return _Signals(y.to(G.device), names, notes, ends)


def _measurement(G: Generator, mask: Path | None, matrix: Path | None) -> Tensor | None:
    if mask is not None and matrix is not None:
        raise ValueError("expected --mask or --matrix, got both; leave out the entries in the rows of the matrix")
    if mask is not None:
        return (read_mask_pictures(mask, G) if is_pictures(mask) else read_mask(mask)).to(G.device)
    return None if matrix is None else read_matrix(matrix).to(G.device)


def _without_clipped(G: Generator, signal: _Signals, mask: Tensor | None, matrix: bool) -> Tensor:
    """The mask `(N, d)` that also hides the pixels at 0 or 255; says on `signal` what share that is."""
    if signal.ends is None or matrix:
        raise ValueError(
            "expected PNG signals and no --matrix with --hide-clipped, got others; pass a --mask of what was seen"
        )
    ends = signal.ends.to(G.device)
    signal.notes[:] = [note for note in signal.notes if "--hide-clipped" not in note]  # its advice is taken
    signal.notes.append(f"--hide-clipped: {float(ends.double().mean()):.1%} of the pixels are at 0 or 255, and not seen")
    if mask is None:
        return ~ends
    if mask.numel() not in (G.signal_dim, ends.numel()):
        raise ValueError(f"expected a mask of {G.signal_dim} entries, or {ends.numel()}, got {mask.numel()}; correct it")
    return mask.reshape(-1, G.signal_dim) & ~ends


def _picture_names(G: Generator, signals: _Signals, wanted: bool) -> list[str] | None:
    """Names of the pictures to be written, or None; raises where there can be none."""
    if signals.names is not None:
        return signals.names
    if not wanted:
        return None
    if picture_shape(G.signal_shape) is None:
        raise ValueError(f"expected a generator of pictures for --png, got signals of shape {G.signal_shape}; leave it out")
    count = signals.y.shape[0] if signals.y.ndim > 1 else 1
    return [f"{k:0{max(3, len(str(count - 1)))}d}.png" for k in range(count)]


def _check_report(path: Path | None) -> None:
    if path is not None:
        check_writable(path.absolute().parent)
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"expected a folder for the report at {path.absolute().parent}, found none; make it first"
            )
        if path.is_dir():
            raise IsADirectoryError(
                f"expected a file for the report, got the folder {path}; pass e.g. {path / 'report.html'}"
            )


def _check_picture(path: Path) -> None:
    from ..pages.plots import require_matplotlib

    require_matplotlib()
    if path.suffix.lower() != ".png":
        raise ValueError(f"expected a picture FILE.png, got {path}")
    _check_report(path)


def _noise(text: str | None) -> tuple[str, float] | str | None:
    if text is None or text == AUTO:
        return text
    norm, _, bound = text.partition(":")
    check_choice(norm, (*NORMS, AUTO), "norm of --noise")
    try:
        return norm, float(bound)
    except ValueError as error:
        raise ValueError(f"expected --noise as NORM:BOUND, got {text!r}; pass e.g. --noise l2:0.1") from error


_PRIORS: dict[str, tuple[type[AbstractPrior], str, tuple[int, ...]]] = {
    "gaussian": (Gaussian, "gaussian:1", (1, 2)),
    "box": (Box, "box:-3:3", (2,)),
    "ball": (Ball, "ball:5", (1,)),
}


def _prior(text: str | None) -> AbstractPrior | None:
    if text is None:
        return None
    kind, *words = text.split(":")
    check_choice(kind, tuple(_PRIORS), "kind of --prior")
    make, example, counts = _PRIORS[kind]
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"expected numbers in --prior, got {text!r}; pass e.g. --prior {example}") from error
    if len(numbers) not in counts:
        some = " or ".join(map(str, counts))
        raise ValueError(f"expected {some} numbers after {kind} in --prior, got {len(numbers)}; pass e.g. --prior {example}")
    return make(*numbers)


def _as_it_was_made(
    latents: Path, noise: tuple[str, float] | str | None, prior: AbstractPrior | None, seen: bool
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
    check_given(made.settings.get("measurement"), seen or None)
    if not seen and measured in ("Mask", "Matrix"):
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


# --- what is shown --------------------------------------------------------------------------------


def _console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH, highlight=False)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(_in_lines(_plain(value)))


def _in_lines(value: Any, indent: str = "") -> str:
    """JSON of plain values, a line for each entry of a dict and each row of an array: numbers stand beside each other."""
    deeper = f"{indent} "
    if isinstance(value, dict) and value:
        lines = [f"{deeper}{json.dumps(key)}: {_in_lines(entry, deeper)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(f"{deeper}{_in_lines(entry, deeper)}" for entry in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def _plain(value: Any) -> Any:
    """`value` in JSON's types; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _print_check(entry: dict[str, Any]) -> None:
    lines = [f"  signal {v['signal']}, {v['claim']}: {v['words']}" for v in entry["rejected"]]
    for line in (f"{entry['file']}: {entry['words']}", *lines):
        _console().print(line, markup=False, soft_wrap=True)


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "signals": len(verdict),
        "statuses": verdict.counts(),
        "relative_misfit": {"median": _median(verdict), "worst": float(verdict.relative_misfit.max())},
        "status": verdict.status,
        "not_explained": (~verdict.explained).nonzero()[:, 0],
        "misfit": verdict.misfit,
        "explained_below": verdict.explained_below,
        "determined": verdict.determined,
        "sigma_min": verdict.sigma_min,
        "sigma_max": verdict.sigma_max,
    }


def _inversion_dict(
    inversion: Inversion, files: dict[str, Path], rows: list[dict] | None, notes: list[str]
) -> dict[str, Any]:
    layers = [
        {
            "index": report.index,
            "kind": report.kind,
            "statuses": report.solution.certificate.counts(),
            "worst_relative_gap": report.solution.certificate.worst_relative_gap,
            "two_sided": int(report.solution.certificate.two_sided.sum()),
            "within_a_scope_only": int(torch.isfinite(report.solution.certificate.scope).sum()),
            "remark": report.remark,
        }
        for report in inversion.layers
    ]
    return {
        "method": inversion.method,
        **files,
        **_verdict_dict(inversion.verdict),
        "used": inversion.used,
        "starts": inversion.starts,
        "layers": layers,
        "uncertainty": _uncertainty_dict(inversion),
        "snr": {name: value for name, value in inversion.snr.items()},
        "exact_check": rows,
        "seconds": inversion.seconds,
        "settings": inversion.settings,
        "versions": inversion.versions,
        "notes": [*notes, *inversion.notes],
    }


def _uncertainty_dict(inversion: Inversion) -> dict[str, Any] | None:
    known = inversion.uncertainty
    if known is None:
        return None
    names = ("sigma", "sigma_error", "dof", "z_std")
    return {"estimated": known.estimated} | {name: getattr(known, name) for name in names}


def _median(verdict: Verdict) -> float:
    return float(verdict.relative_misfit.nanmedian())


def _pairs(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _signal_count(count: int) -> str:
    return f"{count} signal{'' if count == 1 else 's'}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _add_verdict(table: Table, verdict: Verdict) -> None:
    table.add_row("statuses", _counts(verdict.counts()))
    table.add_row("misfit", f"median {_median(verdict):.1e} |y|, worst {float(verdict.relative_misfit.max()):.1e} |y|")
    table.add_row("z determined", f"{int(verdict.determined.sum())} of {len(verdict)}")


def _print_inversion(inversion: Inversion, files: dict[str, Path], rows: list[dict] | None, notes: list[str]) -> None:
    console = _console()
    table = _pairs(f"{inversion.method}: {_signal_count(len(inversion))}")
    _add_verdict(table, inversion.verdict)
    _add_answers(table, inversion)
    if inversion.uncertainty is not None:
        table.add_row("uncertainty", inversion.uncertainty.summary())
    table.add_row("SNR", _snr_words(inversion))
    table.add_row("seconds", ", ".join(f"{name} {value:.2f}" for name, value in inversion.seconds.items()))
    for note in (*notes, *inversion.notes):
        table.add_row("note", Text(note))
    table.add_row("written to", Text(", ".join(str(path) for path in files.values())))
    console.print(table)
    if inversion.layers:
        console.print(_layer_table(inversion))
    if rows is not None:
        console.print(_exact_table(rows) if rows else "exact check: this inversion solved no layer problems to compare")


def _add_answers(table: Table, inversion: Inversion) -> None:
    names = sorted({name for name in inversion.used if name}, key=lambda name: (name[:6], len(name), name))
    table.add_row("answers by", ", ".join(f"{name}: {inversion.used.count(name)}" for name in names) or "none")


def _print_not_explained(inversion: Inversion, G: Generator, reported: bool) -> None:
    """A line for each of the first signals that are not explained, and where to read of the others."""
    missed = (~inversion.verdict.explained).nonzero()[:, 0].tolist()
    if not missed:
        return
    for word in explain(inversion, missed[:_TOLD], G):
        line = f"signal {word.index}, {inversion.status[word.index]}: {word.verdict}"
        _console().print(line, markup=False, soft_wrap=True)
    left = len(missed) - _TOLD
    more = f"{left} more {'is' if left == 1 else 'are'} not explained; " if left > 0 else ""
    where = "the report" if reported else "cvxinv invert ... --report out.html"
    if more or not reported:
        _console().print(f"{more}{where} tells for each signal why", markup=False, soft_wrap=True)


def _snr_words(inversion: Inversion) -> str:
    if not inversion.snr:
        return "none, the true latents are not known here"
    return ", ".join(f"{name} median {float(value.nanmedian()):.0f} dB" for name, value in inversion.snr.items())


def _layer_table(inversion: Inversion) -> Table:
    table = _table("layer problems, image layer first", "layer", "kind", "certificates", "worst relative gap", "remark")
    for report in inversion.layers:
        certificate = report.solution.certificate
        gap = f"{certificate.worst_relative_gap:.1e}"
        counts = _counts(certificate.counts()) + certificate.narrowed()
        table.add_row(str(report.index), report.kind, counts, gap, report.remark)
    return table


def _exact_table(rows: list[dict[str, Any]]) -> Table:
    names = ("signal", "layer", "fast", "exact", "difference", "allowed", "agree", "seconds", "note")
    table = _table("fast against CVXPY with CLARABEL, objectives", *names)
    for row in rows:
        words: dict[bool | None, str | Text] = {True: "yes", False: Text("NO", style="red"), None: "-"}
        numbers = (_number(row[name], "{:.10g}") for name in ("fast", "exact"))
        small = (_number(row[name], "{:.1e}") for name in ("difference", "allowed"))
        seconds = _number(row["seconds"], "{:.2f}")
        table.add_row(str(row["signal"]), str(row["layer"]), *numbers, *small, words[row["agree"]], seconds, row["note"])
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(value: float | None, form: str = "{:.3g}") -> str:
    return "-" if value is None else form.format(value)


def _reading(G: Generator) -> dict[str, Any]:
    """What is to be known of how a generator was read: its label, and what the reading was compared with."""
    return {key: G.description[key] for key in ("label", "conversion_check") if key in G.description}


def _print_inspection(inspection: Inspection) -> None:
    console = _console()
    console.print(f"{inspection.name or 'generator'}: {inspection.latent_dim} latents -> {inspection.signal_dim} entries")
    layers = _table("layers", "layer", "map", "size", "activation", "sigma max", "sigma min", "condition", "rank")
    for layer in inspection.layers:
        numbers = (_number(value) for value in (layer.sigma_max, layer.sigma_min, layer.condition))
        size = f"{layer.n} -> {layer.m}"
        layers.add_row(str(layer.index), layer.kind, size, layer.activation, *numbers, _number(layer.rank, "{}"))
    console.print(layers)
    if any(layer.sigma_max is None for layer in inspection.layers):
        console.print("-: larger than 2000 on both sides, not decomposed")
    hidden = _table(f"positive entries, {inspection.samples} latents", "hidden", "mean", "5 %", "95 %", "never positive")
    for h in inspection.hidden:
        mean = f"{h.mean:.1f} of {h.size}"
        hidden.add_row(str(h.index), mean, f"{h.q05:.0f}", f"{h.q95:.0f}", str(h.never_active))
    if inspection.hidden:
        console.print(hidden)
    _print_hopes(console, inspection)


def _print_hopes(console: Console, inspection: Inspection) -> None:
    table = _pairs("what an inversion may hope for")
    words = {True: "yes", False: "no", None: "n/a (LeakyReLU)"}
    for condition in inspection.growth:
        share = "" if condition.share is None else f" ({condition.share:.2f} of the latents)"
        table.add_row(condition.name, words[condition.holds] + share)
    table.add_row("Jacobian", f"smallest rank {inspection.rank}, median condition {_number(inspection.condition)}")
    for expectation in inspection.expectations:
        name, _, text = ("z", "", expectation) if expectation.startswith("z is") else expectation.partition(": ")
        table.add_row(name, text)
    console.print(table)
    if inspection.growth:
        console.print(
            f"s_i: nonzeros of hidden layer i; n0 = {inspection.latent_dim} latents; n = {inspection.signal_dim} entries"
        )


def _print_checkup(checkup: Checkup) -> None:
    console = _console()
    tables = (("versions", checkup.versions), ("CVXPY's solvers", checkup.solvers), ("devices", checkup.devices))
    for title, rows in (*tables, ("precision, as it is set", checkup.precision)):
        table = _pairs(title)
        for name, words in rows.items():
            table.add_row(name, Text(words))  # no markup: a cure may hold brackets
        console.print(table)
    for warning in checkup.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    console.print(_trial_table(checkup))
    failed = [trial.solver for trial in checkup.trials if trial.status == FAILED]
    console.print(f"failed: {', '.join(failed)}" if failed else "every installed solver gives certified answers")


def _trial_table(checkup: Checkup) -> Table:
    names = ("solver", "device", "answer", "problem", "off by", "iterations", "seconds", "")
    table = _table("self-test, judged by certify", *names)
    styles = {CERTIFIED: "green", FAILED: "red"}
    for trial in checkup.trials:
        numbers = (_number(trial.error, "{:.0e}"), _number(trial.iterations, "{}"), _number(trial.seconds, "{:.2f}"))
        status = Text(trial.status, style=styles.get(trial.status, ""))
        table.add_row(trial.solver, trial.device, status, trial.problem, *numbers, Text(trial.words))
    return table
