"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

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
PhaselessSignals = Annotated[bool, typer.Option("--magnitudes", help="SIGNALS hold |x|, or |A x|: signs were not seen.")]
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
