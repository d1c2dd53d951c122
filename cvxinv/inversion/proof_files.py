"""The files of a proof (docs/results.md): a pair in a folder of its own, or its part of those of an inversion."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..batch import tensor_names
from ..files import known_entries, near, read_head, read_tensors, write_pair
from .moments import History
from .uncertainty_files import uncertainty_of, uncertainty_tensors, uncertainty_words
from .verify import Verdict

if TYPE_CHECKING:
    from .proof import Proof

TENSORS, SPEC = "proof.safetensors", "proof.json"
_FORMAT, _VERSION = "cvxinv proof format", 1
_VERDICT, _HISTORY = tensor_names(Verdict), ("seconds", *tensor_names(History))
_CURE = "pass the folder of a proof"


def save_proof(proof: "Proof", folder: str | Path, question: Mapping[str, Any] | None = None) -> Path:
    """Write `proof.safetensors` and `proof.json` into `folder`, made where it is missing; returns the folder.

    Both are complete on the disk before either gets its name, and the JSON file gets it last. question: of what it is the
    proof, where that may be asked for again. Raises OSError.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"format": _FORMAT, "version": _VERSION, **proof_spec(proof)}
    spec |= {} if question is None else {"question": dict(question)}
    write_pair(folder / TENSORS, proof_tensors(proof), folder / SPEC, spec)
    return folder


def load_proof_fields(folder: str | Path) -> dict[str, Any]:
    """The fields of the proof that `save_proof` wrote, on the CPU.

    Raises FileNotFoundError, ValueError where a file is damaged or of another kind.
    """
    folder = Path(folder)
    spec = _read_spec(folder)
    tensors = read_tensors(folder / TENSORS, spec.get("sha256"), SPEC, "proof")
    with known_entries(folder):
        return proof_fields(spec, tensors)


def stored_question(folder: Path) -> dict[str, Any] | None:
    """Of what the proof in a folder is one, None where it does not say."""
    return _read_spec(folder).get("question")


def _read_spec(folder: Path) -> dict[str, Any]:
    for name in (SPEC, TENSORS):
        if not (folder / name).is_file():
            where = near(folder, ("",)) if not folder.is_dir() else "it is another folder, or half a copy"
            raise FileNotFoundError(f"expected {SPEC} and {TENSORS} in {folder}, got no {name}; {where}")
    return read_head(folder / SPEC, _FORMAT, _VERSION, _CURE)


def proof_tensors(proof: "Proof") -> dict[str, Tensor]:
    """All tensors of a proof, by the names that files give them."""
    named = {name: getattr(proof, name) for name in tensor_names(type(proof))}
    named |= {f"hidden.{k}": h for k, h in enumerate(proof.hidden, 1)}
    named |= {f"verdict.{name}": getattr(proof.verdict, name) for name in _VERDICT}
    named |= {f"history.{name}": getattr(proof.history, name) for name in _HISTORY}
    named |= {"box.low": proof.box[0], "box.high": proof.box[1]}
    return named | ({} if proof.uncertainty is None else uncertainty_tensors(proof.uncertainty))


def proof_spec(proof: "Proof") -> dict[str, Any]:
    """All words and plain numbers of a proof, as JSON holds them."""
    return {
        "signals": len(proof),
        "counts": proof.counts(),
        "status": proof.status.tolist(),
        "verdict": proof.verdict.status.tolist(),
        "seconds": proof.seconds,
        "stopped": proof.stopped,
        "settings": proof.settings,
        "versions": proof.versions,
        "hidden": len(proof.hidden),
        "uncertainty": None if proof.uncertainty is None else uncertainty_words(proof.uncertainty),
    }


def proof_fields(spec: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """The fields of the proof that has these words and tensors; prefix: before the names of its tensors."""
    part = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    verdict = Verdict(status=np.array(spec["verdict"], dtype="<U16"), **{name: part[f"verdict.{name}"] for name in _VERDICT})
    spread = spec["uncertainty"]
    return dict(
        hidden=tuple(part[f"hidden.{k}"] for k in range(1, spec["hidden"] + 1)),
        status=np.array(spec["status"], dtype="<U16"),
        verdict=verdict,
        history=History(**{name: part[f"history.{name}"] for name in _HISTORY}),
        box=(part["box.low"], part["box.high"]),
        seconds=spec["seconds"],
        settings=dict(spec["settings"]),
        versions=dict(spec["versions"]),
        stopped=spec["stopped"],
        uncertainty=None if spread is None else uncertainty_of(spread, part, part["z"]),
        **{name: value for name, value in part.items() if "." not in name},
    )
