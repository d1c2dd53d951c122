"""Certificate files: what a solution or an inversion claims, with all that it takes to check it (docs/checking.md).

They are read by `check.py`, which takes nothing from here. Numbers are the float64 that the judge sees; each file is
there whole or not at all.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..check_inversion import ACTIVATIONS
from ..generator.abstract import AbstractGenerator
from ..generator.activations import in_files
from ..generator.chain import Layer
from ..layers.core.export import check_size, layer_claims, marks, packed, write_claims
from ..measurement.abstract import AbstractMeasurement
from ..measurement.given import check_given
from .belonging import check_generator, check_signals
from .storage import check_writable
from .task import Task, make_task

if TYPE_CHECKING:
    from .result import Inversion

SUFFIX = ".certificate.json"


def export_inversion(
    inversion: "Inversion",
    folder: str | Path,
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    measurement: object = None,
) -> Path:
    """Write the claims on an inversion into a folder: one file for `verify`'s, one for each layer problem.

    generator, y, measurement: what was inverted, as `invert` took them; the noise is the inversion's own. Files of an
    earlier export into the folder go. Returns the folder. Raises ValueError as `layer_claims`; OSError where
    nothing can be written.
    """
    if not generator.layers:
        raise ValueError(
            f"expected a generator whose layers are known, got {generator.kind}: `cvxinv check` computes the signals again "
            "by itself, from layers; judge it with cvxinv.verify(generator, y, inversion.z)"
        )
    check_given(inversion.settings.get("measurement"), measurement)
    words = str(inversion.settings.get("noise") or "")  # "l2:0.1", or "l2, 0.1 to 0.2 per signal"
    # of gaussian noise the claim is that the misfit is within what it explains, in l2; an optimum is not claimed there
    claimed = {"l2": "l2", "linf": "linf", "l1": "l1", "gaussian": "l2"}
    norm = next((claim for name, claim in claimed.items() if words.startswith(name)), "")
    task = make_task(generator, y, measurement, (norm, inversion.verdict.explained_below) if norm else None)
    if task.N != len(inversion):
        raise ValueError(f"expected the {len(inversion)} signals of the inversion, got {task.N}; pass the same y")
    check_signals(inversion, task.y.cpu().double(), task.measurement.to(torch.float64, "cpu"))
    check_generator(inversion, generator)
    contents = {"inversion": _claims(task.to(torch.float64), inversion, norm)}
    for report in inversion.layers:
        contents[f"layer-{report.index}"] = layer_claims(report.problem, report.solution.point, report.solution.certificate)
    folder = check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}{SUFFIX}": content for name, content in contents.items()}
    write_claims(files)
    for old in folder.glob(f"layer-*{SUFFIX}"):
        if old not in files:
            old.unlink(missing_ok=True)
    return folder


def certificate_files(path: str | Path) -> list[Path]:
    """The file itself, or the certificate files of a folder. Raises FileNotFoundError where there are none."""
    path = Path(path)
    found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not found or not all(file.is_file() for file in found):
        raise FileNotFoundError(f"expected a certificate file, or a folder with files *{SUFFIX}, at {path}, found none")
    return found


def _claims(task: Task, inversion: "Inversion", norm: str) -> dict[str, Any]:
    """What `verify` says of the latents; task: in float64."""
    G, seeing = task.generator, task.measurement
    seen = seeing.seen(task.N)
    A = None if seeing.pixelwise else _matrix(seeing, task)
    return {
        "kind": "Inversion",
        "shape": [task.N, G.latent_dim, G.signal_dim, seeing.length],
        "layers": [_step(layer) for layer in G.layers],
        "A": None if A is None else packed(A),
        "seen": marks(seen, torch.zeros_like(seen)),
        "y": packed(task.y),
        "z": packed(inversion.z),
        "noise": norm,
        "bound": packed(inversion.verdict.explained_below),
        "born": str(task.born).removeprefix("torch."),
        "status": inversion.status.tolist(),
        "determined": inversion.verdict.determined.tolist(),
    }


def _matrix(seeing: AbstractMeasurement, task: Task) -> Tensor:
    if not seeing.linear:
        raise ValueError(
            f"expected a linear measurement, got {seeing.name}: certificates state claims on A G(z) and know no other; "
            "verify(...) judges them"
        )
    check_size(seeing.length, seeing.width)
    A = seeing.matrix(task.y.dtype, task.y.device)
    if A is None:
        raise ValueError(
            f"expected a measurement that is a mask or one matrix for all signals, got {seeing.name}, which differs from "
            "signal to signal; certificates cannot state claims on it; export the signals one by one"
        )
    return A


def _step(layer: Layer) -> dict[str, Any]:
    phi, W = layer.activation, layer.W
    if not in_files(phi) or phi.name not in ACTIVATIONS:
        raise ValueError(
            f"expected an activation that certificates know ({', '.join(ACTIVATIONS)}), got {phi!r}; "
            "they cannot state claims behind it; verify(...) judges them"
        )
    check_size(W.m, W.n)
    return {
        "shape": [W.m, W.n],
        "activation": phi.name,
        "numbers": packed(torch.tensor(list(phi.parameters.values()), dtype=torch.float64, device="cpu")),
        "W": packed(W.matrix()),
        "b": packed(layer.b),
    }
