"""`cvxinv morph`: from one picture to another within a generator's range, beside three ways that know less."""

import re
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text
from torch import Tensor

from ..generator.chain import Generator
from ..pages.morphing import check_morphing_folder, write_morphing
from ..solvers.solve import check_choice
from ..sparse_models.morphing import Morphing, morph
from ..sparse_models.transport import PLANNERS
from .arguments import GeneratorName, Json, Label, Output, Seed
from .outcome import Outcome
from .reading import read_generator, signals_for
from .terminal import console_of, pairs, print_json, table_of

_PICTURE = "a .png, or .npy, .npz or .safetensors; FILE:K for row K of several, from 0."


def morph_command(
    generator: GeneratorName,
    a: Annotated[str, typer.Argument(metavar="A", help=f"The first picture: {_PICTURE}")],
    b: Annotated[str, typer.Argument(metavar="B", help="The last one, as A.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for picture and numbers.")],
    frames: Annotated[int, typer.Option(help="Frames, with both ends.")] = 10,
    eps: Annotated[
        float | None, typer.Option(metavar="PX2", help="Of the entropy; half the side over 28, squared; at least 0.2.")
    ] = None,
    floor: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Of an empty pixel; else the lower end of the generator's output.")
    ] = None,
    clip: Annotated[bool, typer.Option("--clip", help="What lies below the floor in A and B counts as no mass.")] = False,
    planner: Annotated[str, typer.Option(help=f"Of the exact plan: {' or '.join(PLANNERS)} (extra [ot]).")] = PLANNERS[0],
    output: Output = None,
    label: Label = None,
    seed: Seed = 0,
    restarts: Annotated[int, typer.Option(min=0, help="Random starts of inversions at most.")] = 1,
    max_iter: Annotated[int, typer.Option(min=1, help="Iterations of the ADMM.")] = 10,
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="Stop after that; user_limit.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the morphing that OUT holds.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress bar.")] = False,
) -> None:
    """Morph picture A into picture B: barycenters in the generator's range, linear, latent and Wasserstein frames."""
    with Outcome() as outcome:
        check_choice(planner, PLANNERS, "--planner")
        check_morphing_folder(out, overwrite)
        G = read_generator(generator, output, label, torch.float64, torch.device("cpu"))
        (first, notes), (last, _) = _picture(G, a), _picture(G, b)
        outcome.may_write, title = out, f"{Path(a).name} to {Path(b).name} in {Path(generator).name}"
        found = morph(
            G, first, last, frames=frames, eps=eps, floor=floor, clip=clip, planner=planner, restarts=restarts,
            max_iter=max_iter, seed=seed, time_limit=time_limit, progress=False if quiet else None,
        )  # fmt: skip
        write_morphing(found, out, G, title=title, overwrite=overwrite)
        outcome.written = out
        if as_json:
            print_json(_in_json(found) | {"out": out, "notes": notes})
        elif not quiet:
            _print(found, out, notes)
        raise typer.Exit(1 if found.stopped else 0)


def _picture(G: Generator, text: str) -> tuple[Tensor, list[str]]:
    """One picture `(d,)` from FILE or FILE:K, and what is to be known of it."""
    named = None if Path(text).exists() else re.fullmatch(r"(.+):(\d+)", text)
    path, row = (Path(text), None) if named is None else (Path(named[1]), int(named[2]))
    given = signals_for(G, path)
    # rows that are no pictures are those of one
    one = given.y.ndim == 1 or given.y.numel() == G.signal_dim
    pictures = given.y.reshape(1, -1) if one else given.y.flatten(1)
    if row is None and len(pictures) != 1:
        raise ValueError(f"expected one picture in {path}, got {len(pictures)}; name one of them, e.g. {path}:0")
    if row is not None and row >= len(pictures):
        raise ValueError(f"expected a row below {len(pictures)} in {path}, got {row}; they are counted from 0")
    return pictures[row or 0], given.notes


def _in_json(found: Morphing) -> dict[str, Any]:
    names = ("t", "distance", "linear_distance", "wasserstein_distance", "objective", "bound", "transport")
    return {
        "frames": len(found),
        **{name: getattr(found, name) for name in (*names, "mass_error", "kept", "status", "explained", "z")},
        **{name: getattr(found, name) for name in ("floor", "eps", "seconds", "stopped")},
    }


def _print(found: Morphing, out: Path, notes: list[str]) -> None:
    console, table = console_of(), pairs(f"morph: {len(found)} frames")
    table.add_row("mass", f"above {found.floor:g} (signal units), kept to {float(found.mass_error.max()):.0e} of it")
    table.add_row("eps", f"{found.eps:g} px^2")
    table.add_row("seconds", f"{found.seconds:.1f}{f', stopped by {found.stopped}' if found.stopped else ''}")
    for note in notes:
        table.add_row("note", Text(note))
    table.add_row("written to", Text(str(out)))
    console.print(table)
    head = ("t", "status", "y to range", "linear to range", "Wasserstein to range", "objective", "none below", "iteration")
    rows = table_of("frames (distances l2, signal units; objectives px^2)", *head)
    for i in range(len(found)):
        far = (found.distance, found.linear_distance, found.wasserstein_distance, found.objective, found.bound)
        cells = (f"{float(value[i]):.4g}" for value in far)
        rows.add_row(f"{float(found.t[i]):.3f}", str(found.status[i]), *cells, str(int(found.kept[i])))
    console.print(rows)
