"""The folder that holds an inversion (docs/results.md): written whole or not at all, read only if it is what was written."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..batch import tensor_names
from ..entries import Arrays, Entries
from ..files import as_floats, folder_at, near, parse_json, read_array, read_tensors, write_pair
from ..layers.core.certificate import LAYER_STATUSES, Certificate
from ..solvers.solve import Solution
from ..surroundings import undisturbed
from .answer import LayerReport
from .moments import PROVED
from .proof import Proof
from .proof_files import proof_fields, proof_spec, proof_tensors, read_settings, verdict_of
from .uncertainty_files import uncertainty_of, uncertainty_tensors, uncertainty_words
from .verify import INVERSION_STATUSES, Verdict

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
    words, arrays = _read_result(folder)
    return inversion_fields(words, arrays)


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
        **({} if inversion.proof is None else _proved_spec(inversion, inversion.proof)),
    }


def _proved_spec(inversion: "Inversion", proof: Proof) -> dict[str, Any]:
    """The words of a proof, and those of the verdict, as `status` then says what is proved."""
    return {"verdict": inversion.verdict.status.tolist(), "proof": proof_spec(proof)}


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


def inversion_fields(words: Entries, arrays: Arrays, signals: int | None = None) -> dict[str, Any]:
    """The fields of the inversion that has these words and tensors; its layer problems are None.

    signals: of how many it must be, where that is known.
    Raises ValueError that names the file and the entry where one is missing, of another kind or of another length.
    """
    N = words.count("signals", least=1)
    if signals not in (None, N):
        words.refuse("signals", str(signals))
    proof = Proof(**proof_fields(words.inner("proof"), arrays.under(_PROOF), N)) if words.has("proof") else None
    verdict = verdict_of(_judged(words, N, proof), arrays)
    words.same("counts", verdict.counts())
    head = () if N == 1 and _is_flat(arrays, "z") else (N,)
    z = arrays.floats("z", *head, None)
    hidden = [arrays.floats(f"hidden.{k}", *head, None) for k in range(1, words.count("hidden") + 1)]
    return dict(
        z=z,
        hidden=tuple(hidden),
        signal=arrays.floats("signal", *head, None),
        method=words.text("method"),
        verdict=verdict,
        layers=tuple(_report(entry, arrays, N) for entry in words.inners("layers")),
        used=tuple(words.texts("used", N)),
        starts=arrays.integers("starts", N),
        iterations=arrays.integers("iterations", N) if arrays.has("iterations") else None,
        snr={name: arrays.floats(f"snr.{name}", N) for name in words.texts("snr")},
        seconds=words.numbers("seconds", least=0),
        settings=read_settings(words),
        versions=words.names("versions"),
        notes=tuple(words.texts("notes")),
        # earlier versions wrote none
        uncertainty=uncertainty_of(words.inner("uncertainty"), arrays, z, N) if words.has("uncertainty") else None,
        proof=proof,
    )


def _judged(words: Entries, N: int, proof: Proof | None) -> list[str]:
    """The statuses of the verdict: those of the result, but where it says what a proof does."""
    if proof is None:
        return words.texts("status", N, INVERSION_STATUSES)
    said = words.texts("status", N, (*INVERSION_STATUSES, PROVED))
    if words.has("verdict"):
        return words.texts("verdict", N, INVERSION_STATUSES)
    # earlier versions wrote no others
    return [str(proof.verdict.status[k]) if word == PROVED else word for k, word in enumerate(said)]


def _is_flat(arrays: Arrays, name: str) -> bool:
    """Whether a tensor is there and has one axis: that of a single signal."""
    return arrays.has(name) and arrays.tensors[arrays.before + name].ndim == 1


def _report(words: Entries, arrays: Arrays, N: int) -> LayerReport:
    arrays = _as_today(arrays.under(f"layer.{words.count('index')}."), N)
    h, p = arrays.floats("h", N, None), arrays.floats("p", N, None)
    certificate = Certificate(
        tol=words.number("tol", above=0),
        status=np.array(words.texts("status", N, LAYER_STATUSES), dtype="<U18"),
        remark=tuple(words.texts("bound_remark", N)),
        two_sided=arrays.bools("two_sided", N),
        violations=arrays.floats("violations", N, None),
        **{name: arrays.floats(name, N) for name in _CERTIFICATE if name not in ("two_sided", "violations")},
    )
    solution = Solution(
        certificate=certificate,
        h=h,
        p=p,
        iterations=arrays.integers("iterations", N),
        polished=arrays.bools("polished", N),
        solver=tuple(words.texts("solver", N)),
        solver_status=tuple(words.texts("solver_status", N)),
        seconds=words.number("seconds", least=0),
    )
    each = arrays.tensors[arrays.before + "threshold"].ndim == 2 if arrays.has("threshold") else False
    return LayerReport(
        index=words.count("index"),
        kind=words.text("kind"),
        problem=None,
        solution=solution,
        penalty=arrays.floats("penalty", N),
        threshold=arrays.floats("threshold", N, h.shape[1]) if each else arrays.floats("threshold", N),
        remark=words.text("remark"),
    )


def _as_today(arrays: Arrays, N: int) -> Arrays:
    """The tensors of a layer, with what earlier versions did not write."""
    scale, more = arrays.floats("scale", N), dict[str, Tensor]()
    if not arrays.has("floor"):  # written when all layer problems had a squared misfit
        more |= {"unit": scale**2 / 2, "floor": (1e-10 * scale) ** 2 / 2}
    if not arrays.has("times"):  # judged by the first edition's rule, which said none of these
        unknown = torch.full_like(scale, torch.nan)
        more |= {name: unknown for name in ("worth", "scope", "times")}
        more |= {"two_sided": unknown > 0, "violations": unknown[:, None]}
    return Arrays(arrays.place, {**arrays.tensors, **{arrays.before + name: x for name, x in more.items()}}, arrays.before)


def _read_result(folder: Path) -> tuple[Entries, Arrays]:
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
    tensors = read_tensors(folder / TENSORS, spec["sha256"], SPEC, "result")
    return Entries(str(folder / SPEC), spec), Arrays(str(folder / TENSORS), tensors)


def _read_spec(path: Path) -> dict[str, Any]:
    spec = parse_json(path.read_bytes(), path)
    if not isinstance(spec, dict) or spec.get("format") != _FORMAT:
        streamed = isinstance(spec, dict) and "arrays" in spec
        cure = "read it with cvxinv.StreamedInversion.load" if streamed else "pass the folder of a result"
        raise ValueError(f'expected "format": "{_FORMAT}" in {path}, got another file; {cure}')
    if spec.get("version") != _VERSION or isinstance(spec["version"], bool):
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
