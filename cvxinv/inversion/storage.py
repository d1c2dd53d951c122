"""The folder that holds an inversion (docs/results.md): written whole or not at all, read only if it is what was written."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..batch import tensor_names
from ..files import as_floats, folder_at, known_entries, near, parse_json, read_array, read_tensors, write_pair
from ..layers.core.certificate import Certificate
from ..solvers.solve import Solution
from ..surroundings import undisturbed
from .answer import LayerReport
from .proof import Proof
from .proof_files import proof_fields, proof_spec, proof_tensors
from .uncertainty_files import uncertainty_of, uncertainty_tensors, uncertainty_words
from .verify import Verdict

if TYPE_CHECKING:
    from .result import Inversion

TENSORS, SPEC = "result.safetensors", "result.json"
RUN = "run.json"  # of a run that is not finished, see `runs.folder`
_FORMAT = "cvxinv result format"
_VERSION = 1
_VERDICT, _REPORT = tensor_names(Verdict), tensor_names(LayerReport)
_CERTIFICATE, _SOLUTION = tensor_names(Certificate), tensor_names(Solution)
_PROOF = "proof."  # before the names of its tensors
ZARR = "result.zarr"  # the arrays of a streamed result, where they are of zarr
LATENTS = ("z", "latents")


@undisturbed
def save_inversion(inversion: "Inversion", folder: str | Path, run: Mapping[str, Any] | None = None) -> Path:
    """Write `result.safetensors` and `result.json` into `folder` (made where it is missing); returns the folder.

    Both are complete on the disk before either gets its name, and the JSON file gets it last; a result that was there
    stays where this fails. run: what it is the result of, where that may be asked for again (`runs.folder`). Raises OSError
    for a folder that cannot be written.
    """
    folder = check_writable(folder)
    tensors, spec = inversion_tensors(inversion), inversion_spec(inversion) | ({} if run is None else {"run": run})
    folder.mkdir(parents=True, exist_ok=True)
    write_pair(folder / TENSORS, tensors, folder / SPEC, spec)
    return folder


@undisturbed
def load_fields(folder: str | Path) -> dict[str, Any]:
    """The fields of the inversion that `save_inversion` wrote, on the CPU; its layer problems are None, all else is equal.

    Raises FileNotFoundError where a file is missing, ValueError where one is damaged or of another kind.
    """
    folder = Path(folder)
    spec, tensors = _read_result(folder)
    with known_entries(folder):
        return inversion_fields(spec, tensors)


def check_writable(folder: str | Path, names: tuple[str, ...] = (TENSORS, SPEC)) -> Path:
    """`folder` as a path, after a trial that files of these names can be made in it; leaves nothing behind.

    Raises OSError.
    """
    folder, cure = Path(folder), "pass a folder that can be written"
    there = folder_at(folder, cure)
    for name in names:
        if (folder / name).is_dir():
            raise IsADirectoryError(f"expected a file or nothing at {folder / name}, got a folder; {cure}")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise PermissionError(f"cannot write into {there}: {error.strerror}; {cure}") from error
    return folder


def inversion_tensors(inversion: "Inversion") -> dict[str, Tensor]:
    """All tensors of an inversion, by the names that files give them."""
    named = {"z": inversion.z, "signal": inversion.signal, "starts": inversion.starts}
    named |= {} if inversion.iterations is None else {"iterations": inversion.iterations}
    named |= {f"hidden.{k}": h for k, h in enumerate(inversion.hidden, 1)}
    named |= {name: getattr(inversion.verdict, name) for name in _VERDICT}
    named |= {f"snr.{name}": value for name, value in inversion.snr.items()}
    if inversion.uncertainty is not None:
        named |= uncertainty_tensors(inversion.uncertainty)
    if inversion.proof is not None:
        named |= {f"{_PROOF}{name}": value for name, value in proof_tensors(inversion.proof).items()}
    for report in inversion.layers:
        parts = ((report.solution, _SOLUTION), (report.solution.certificate, _CERTIFICATE), (report, _REPORT))
        for holder, names in parts:
            named |= {f"layer.{report.index}.{name}": getattr(holder, name) for name in names}
    return named


def inversion_spec(inversion: "Inversion") -> dict[str, Any]:
    """All words and plain numbers of an inversion, as JSON holds them."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "method": inversion.method,
        "signals": len(inversion),
        "counts": inversion.verdict.counts(),
        "settings": inversion.settings,
        "versions": inversion.versions,
        "seconds": inversion.seconds,
        "notes": list(inversion.notes),
        "hidden": len(inversion.hidden),
        "snr": list(inversion.snr),
        "status": inversion.status.tolist(),
        "used": list(inversion.used),
        "layers": [_layer_spec(report) for report in inversion.layers],
        # nothing where there is none, as in files of earlier versions
        **({} if inversion.uncertainty is None else {"uncertainty": uncertainty_words(inversion.uncertainty)}),
        **({} if inversion.proof is None else {"proof": proof_spec(inversion.proof)}),
    }


def _layer_spec(report: LayerReport) -> dict[str, Any]:
    solution, certificate = report.solution, report.solution.certificate
    return {
        "index": report.index,
        "kind": report.kind,
        "remark": report.remark,
        "tol": certificate.tol,
        "seconds": solution.seconds,
        "counts": certificate.counts(),
        "status": certificate.status.tolist(),
        "bound_remark": list(certificate.remark),
        "solver": list(solution.solver),
        "solver_status": list(solution.solver_status),
    }


def inversion_fields(spec: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The fields of the inversion that has these words and tensors; its layer problems are None."""
    verdict = Verdict(status=np.array(spec["status"], dtype="<U16"), **{name: tensors[name] for name in _VERDICT})
    return dict(
        z=tensors["z"],
        hidden=tuple(tensors[f"hidden.{k}"] for k in range(1, spec["hidden"] + 1)),
        signal=tensors["signal"],
        method=spec["method"],
        verdict=verdict,
        layers=tuple(_report(entry, tensors) for entry in spec["layers"]),
        used=tuple(spec["used"]),
        starts=tensors["starts"],
        iterations=tensors.get("iterations"),
        snr={name: tensors[f"snr.{name}"] for name in spec["snr"]},
        seconds=dict(spec["seconds"]),
        settings=dict(spec["settings"]),
        versions=dict(spec["versions"]),
        notes=tuple(spec["notes"]),
        # earlier versions wrote none
        uncertainty=None if spec.get("uncertainty") is None else uncertainty_of(spec["uncertainty"], tensors, tensors["z"]),
        proof=None if spec.get("proof") is None else Proof(**proof_fields(spec["proof"], tensors, _PROOF)),
    )


def _report(entry: dict[str, Any], tensors: dict[str, Tensor]) -> LayerReport:
    prefix = f"layer.{entry['index']}."
    if f"{prefix}floor" not in tensors:  # written when all layer problems had a squared misfit
        scale = tensors[f"{prefix}scale"]
        tensors = tensors | {f"{prefix}unit": scale**2 / 2, f"{prefix}floor": (1e-10 * scale) ** 2 / 2}

    if f"{prefix}times" not in tensors:  # judged by the first edition's rule, which said none of these
        unknown = torch.full_like(tensors[f"{prefix}scale"], torch.nan)
        tensors = tensors | {f"{prefix}{name}": unknown for name in ("worth", "scope", "times")}
        tensors |= {f"{prefix}two_sided": unknown > 0, f"{prefix}violations": unknown[:, None]}

    def named(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: tensors[prefix + name] for name in names}

    certificate = Certificate(
        tol=entry["tol"],
        status=np.array(entry["status"], dtype="<U18"),
        remark=tuple(entry["bound_remark"]),
        **named(_CERTIFICATE),
    )
    solution = Solution(
        certificate=certificate,
        solver=tuple(entry["solver"]),
        solver_status=tuple(entry["solver_status"]),
        seconds=entry["seconds"],
        **named(_SOLUTION),
    )
    return LayerReport(
        index=entry["index"],
        kind=entry["kind"],
        problem=None,
        solution=solution,
        remark=entry["remark"],
        **named(_REPORT),
    )


def _read_result(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"expected the folder of a result, got {folder}, which is none; {near(folder, ('',))}")
    for name in (SPEC, TENSORS):
        if not (folder / name).is_file():
            if (folder / RUN).is_file():
                raise FileNotFoundError(
                    f"expected a finished result in {folder}, got a run that is not finished: go on with resume=True"
                )
            if name == TENSORS and b'"arrays"' in (folder / SPEC).read_bytes():
                _read_spec(folder / SPEC)  # which says that it is of another kind
            raise FileNotFoundError(
                f"expected {SPEC} and {TENSORS} in {folder}, got no {name}; it is another folder, or half a copy"
            )
    spec = _read_spec(folder / SPEC)
    return spec, read_tensors(folder / TENSORS, spec["sha256"], SPEC, "result")


def _read_spec(path: Path) -> dict[str, Any]:
    spec = parse_json(path.read_bytes(), path)
    if not isinstance(spec, dict) or spec.get("format") != _FORMAT:
        streamed = isinstance(spec, dict) and "arrays" in spec
        cure = "read it with cvxinv.StreamedInversion.load" if streamed else "pass the folder of a result"
        raise ValueError(f'expected "format": "{_FORMAT}" in {path}, got another file; {cure}')
    if spec.get("version") != _VERSION:
        raise ValueError(f"expected version {_VERSION} in {path}, got {spec.get('version')}; update cvxinv to read it")
    if not isinstance(spec.get("sha256"), str):
        raise ValueError(f'expected a "sha256" in {path}, got none; the file was changed, copy it again')
    return spec


@undisturbed
def read_latents(path: str | Path) -> Tensor:
    """Latents `(N, n0)`; in a file of several arrays the one named `z` or `latents`. Also takes a result's folder."""
    if Path(path).is_dir():
        return load_fields(path)["z"]
    return as_floats(*read_array(path, LATENTS), "latents")
