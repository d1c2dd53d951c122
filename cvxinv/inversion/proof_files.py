"""The files of a proof (docs/results.md): a pair in a folder of its own, or its part of those of an inversion."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..batch import tensor_names
from ..entries import Arrays, Entries
from ..files import near, read_head, read_tensors, write_pair
from .moments import PROOF_STATUSES, History
from .uncertainty_files import uncertainty_of, uncertainty_tensors, uncertainty_words
from .verify import INVERSION_STATUSES, Verdict

if TYPE_CHECKING:
    from .proof import Proof

TENSORS, SPEC = "proof.safetensors", "proof.json"
_FORMAT, _VERSION = "cvxinv proof format", 1
_VERDICT, _HISTORY = tensor_names(Verdict), ("seconds", *tensor_names(History))
_NOISE = re.compile("(l2|linf|l1|gaussian)[:,]|auto$")  # how the words of noise begin, see `task_words`
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
    words = Entries(str(folder / SPEC), spec)
    tensors = read_tensors(folder / TENSORS, words.text("sha256"), SPEC, "proof")
    return proof_fields(words, Arrays(str(folder / TENSORS), tensors))


def stored_question(folder: Path) -> dict[str, Any] | None:
    """Of what the proof in a folder is one, None where it does not say."""
    words = Entries(str(folder / SPEC), _read_spec(folder))
    return dict(words.inner("question").entries) if words.has("question") else None


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


def proof_fields(words: Entries, arrays: Arrays, signals: int | None = None) -> dict[str, Any]:
    """The fields of the proof that has these words and tensors; signals: of how many it must be, where that is known.

    Raises ValueError that names the file and the entry where one is missing, of another kind or of another length.
    """
    S = words.count("signals", least=1)
    if signals not in (None, S):
        words.refuse("signals", f"{signals}, as of the result")
    status = np.array(words.texts("status", S, PROOF_STATUSES), dtype="<U16")
    words.same("counts", {word: int((status == word).sum()) for word in PROOF_STATUSES if word in status})
    words.inner("settings").number("gap", least=0)
    z = arrays.floats("z", S, None)
    moments = arrays.floats("history.seconds", None).shape[0]
    history = {name: arrays.like(f"history.{name}", S, moments) for name in _HISTORY if name != "seconds"}
    return dict(
        z=z,
        hidden=tuple([arrays.floats(f"hidden.{k}", S, None) for k in range(1, words.count("hidden") + 1)]),
        signal=arrays.floats("signal", S, None),
        status=status,
        verdict=verdict_of(words.texts("verdict", S, INVERSION_STATUSES), arrays.under("verdict.")),
        history=History(seconds=arrays.floats("history.seconds", moments), **history),
        box=(arrays.floats("box.low", z.shape[1]), arrays.floats("box.high", z.shape[1])),
        seconds=words.number("seconds", least=0),
        settings=read_settings(words),
        versions=words.names("versions"),
        stopped=words.text("stopped"),
        uncertainty=uncertainty_of(words.inner("uncertainty"), arrays, z, S) if words.has("uncertainty") else None,
        low=arrays.floats("low", *z.shape),
        high=arrays.floats("high", *z.shape),
        undecided=arrays.integers("undecided", S, None),
        **{name: arrays.floats(name, S) for name in ("misfit", "bound", "size")},
        **{name: arrays.bools(name, S) for name in ("unique", "out_of_range", "improved")},
        **{name: arrays.integers(name, S) for name in ("nodes", "rounds")},
    )


def verdict_of(status: list[str], arrays: Arrays) -> Verdict:
    """The verdict of these statuses and tensors. Raises ValueError."""
    N = len(status)
    numbers = {name: arrays.floats(name, N) for name in _VERDICT if name != "determined"}
    return Verdict(status=np.array(status, dtype="<U16"), determined=arrays.bools("determined", N), **numbers)


def read_settings(words: Entries) -> dict[str, Any]:
    """What was asked for; what decisions are made by is of its kind. Raises ValueError."""
    settings = words.inner("settings")
    for name in ("noise", "prior", "measurement", "generator"):
        if settings.has(name):
            settings.text(name)
    if settings.has("noise") and not _NOISE.match(settings.text("noise")):
        settings.refuse("noise", 'a text such as "l2:0.1"')
    for name in ("mark", "gap"):
        if settings.has(name):
            settings.number(name, least=0)
    return dict(settings.entries)
