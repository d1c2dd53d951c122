"""`cvxinv diagnose`: when can this generator be inverted, which layer decides, and what is true of these signals."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.text import Text

from ..files import write_whole
from ..generator.chain import Generator
from ..guarantees.diagnosis import AGAINST_NOISE, FILE, Diagnosis, SignalDiagnosis, diagnose
from ..guarantees.phases import LEVELS, NoisePhases
from ..inversion.result import Inversion
from ..inversion.storage import check_writable, read_latents
from ..pages.diagnosis import write_diagnosis
from .arguments import GeneratorName, Json, Label, MaskFile, MatrixFile, Output, Seed
from .outcome import Outcome
from .reading import check_picture, check_report, measurement_of, read_generator, signals_for
from .showing import print_inspection, reading_of
from .terminal import console_of, counted, number, pairs, print_json, signal_count, table_of

_TOLD = 5  # signals that are told of one by one
_SHOWN = 20  # signals in the table
LEVELS_IN_WORDS = ",".join(map("{:g}".format, LEVELS))
Samples = Annotated[int, typer.Option(min=1, help="Random latents for the hidden layers.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw samples, supports, singular values.")]


def diagnose_command(
    generator: GeneratorName,
    signals: Annotated[
        Path | None,
        typer.Argument(metavar="[SIGNALS]", help=".npy, .npz or .safetensors, one signal per row; a .png or a folder."),
    ] = None,
    latents: Annotated[
        Path | None, typer.Option("--latents", metavar="LATENTS", help="Of the signals: a result folder, or a file of them.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for diagnosis.json.")] = None,
    output: Output = None,
    label: Label = None,
    mask: MaskFile = None,
    matrix: MatrixFile = None,
    samples: Samples = 2000,
    noise_levels: Annotated[
        str, typer.Option("--noise-levels", metavar="A,B,..", help="Lengths of noise as shares of the signal's.")
    ] = LEVELS_IN_WORDS,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="Of the proof engine, each time that it is asked; 0 leaves it out.")
    ] = 4.0,
    seed: Seed = 0,
    picture: Picture = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write everything on one page.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress bar.")] = False,
) -> None:
    """When can this generator be inverted, which layer decides, and is z of these signals the only one?"""
    with Outcome():
        check_report(report)
        if picture is not None:
            check_picture(picture, signals, mask)
        if out is not None:
            check_writable(out, (FILE,))
        levels = levels_of(noise_levels)
        for name, given in (("--latents", latents), ("--mask", mask), ("--matrix", matrix)):
            if signals is None and given is not None:
                raise ValueError(f"expected SIGNALS beside {name}, got none; name the file that holds them")
        G = read_generator(generator, output, label, torch.float64, torch.device("cpu"))
        given_signals = None if signals is None else signals_for(G, signals)
        found = diagnose(
            G, None if given_signals is None else given_signals.y, None if latents is None else _latents(latents),
            measurement=measurement_of(G, mask, matrix), samples=samples, levels=levels, time_limit=time_limit, seed=seed,
            progress=False if quiet else None,
        )  # fmt: skip
        files = _written(found, out, picture, report)
        notes = [] if given_signals is None else given_signals.notes
        if as_json:
            print_json(found.to_dict() | reading_of(G) | files | ({"notes": notes} if notes else {}))
        elif not quiet:
            print_diagnosis(found, G, files, notes)


def inspect_command(
    generator: GeneratorName,
    output: Output = None,
    label: Label = None,
    samples: Samples = 2000,
    seed: Seed = 0,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """The same as `diagnose` of a generator alone, under its former name."""
    diagnose_command(generator, output=output, label=label, samples=samples, seed=seed, picture=picture, as_json=as_json)
    console_of(stderr=True).print("note: inspect is part of cvxinv diagnose now, which has more options", soft_wrap=True)


def levels_of(text: str) -> tuple[float, ...]:
    """What --noise-levels means. Raises ValueError."""
    cure = "pass e.g. --noise-levels 0,0.001,0.01"
    try:
        levels = tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ValueError(f"expected numbers with commas in --noise-levels, got {text!r}; {cure}") from error
    if not all(0 <= level < 1 for level in levels):
        raise ValueError(f"expected shares of the signal's length in [0, 1) in --noise-levels, got {text!r}; {cure}")
    return levels


def _latents(path: Path) -> torch.Tensor:
    return Inversion.load(path).z if path.is_dir() else read_latents(path)


def _written(found: Diagnosis, out: Path | None, picture: Path | None, report: Path | None) -> dict[str, Path]:
    files = {}
    if out is not None:
        files["out"] = found.save(out)
    if picture is not None:
        from ..pages.plots import inspection_picture, png_bytes

        write_whole(picture, png_bytes(inspection_picture(found.inspection, found.samples)))
        files["picture"] = picture
    if report is not None:
        files["report"] = write_diagnosis(found, report)
    return files


# --- what is shown --------------------------------------------------------------------------------


def print_diagnosis(found: Diagnosis, G: Generator, files: dict[str, Path], notes: list[str]) -> None:
    """A diagnosis as tables, and its findings in words."""
    console = console_of()
    print_inspection(found.inspection)
    if found.noise is not None and found.noise.layers:
        console.print(_noise_table(found.noise))
        console.print("around z: suggested by its piece; engine: not proved to be one phase in all latents that fit best")
    for title, them in (("its own signals", found.own), ("the signals", found.signals)):
        if them is not None:
            _print_signals(title, them, whole=them is found.signals)
    words = pairs("when can it be inverted")
    for line in found.words[: len(found.words) - len(found.inspection.expectations)]:
        if line.startswith(AGAINST_NOISE):  # the table has it
            continue
        name, _, text = line.partition(": ")
        words.add_row(name, text)
    console.print(words)
    for name, told in reading_of(G).items():
        console.print(f"{name.replace('_', ' ')}: {told}", markup=False, soft_wrap=True)
    for note in notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for path in files.values():
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


def _noise_table(noise: NoisePhases) -> "object":
    heads = [f"{100 * level:g} % noise" for level in noise.levels]
    table = table_of(f"undecided units against noise, % of the layer; {noise.latents} latents", "layer", "units", "", *heads)
    for column, (index, units) in enumerate(noise.layers):
        for name, counts in (("around z", noise.near), ("engine", noise.left)):
            values = [float(v) for v in counts[:, column]]
            if any(v == v for v in values):
                table.add_row(f"layers[{index}]", str(units), name, *("-" if v != v else f"{100 * v:.1f}" for v in values))
    return table


def _print_signals(title: str, them: SignalDiagnosis, whole: bool) -> None:
    console = console_of()
    console.print(f"{title}: {signal_count(len(them))}, {counted(them.counts())}{f' ({them.why})' if them.why else ''}")
    if not whole:
        return
    heads = ("signal", "z is", "layer", "rank", "smallest singular value", "noise amplified", "nearest face", "misfit")
    table = table_of("signals; amplified: latent units per unit of noise; face: latent units away", *heads)
    near, layer = them.local, them.local.layer if them.unique is None else them.unique.layer
    for i in range(min(len(them), _SHOWN)):
        numbers = (float(v[i]) for v in (near.smallest, near.amplification, near.distance))
        shown = (number(v if v < float("inf") else None) for v in numbers)
        decides = "-" if int(layer[i]) < 0 else str(int(layer[i]))
        table.add_row(str(i), str(them.status[i]), decides, str(int(near.rank[i])), *shown, f"{float(them.misfit[i]):.1e}")
    console.print(table)
    if len(them) > _SHOWN:
        console.print(f"{len(them) - _SHOWN} more signals are not shown; --json and --out have all")
    for i in range(min(len(them), _TOLD)):
        console.print(f"signal {i}: {them.explain(i)}", markup=False, soft_wrap=True)
