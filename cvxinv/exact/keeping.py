"""The folder of a proof that is not finished: the open nodes and all else that a search holds, written now and then.

    proof.safetensors, proof.json           the proof, as `Proof.save` writes it; of one that was stopped it says so
    proving/0.safetensors, .json, 1.*       where the search stood: two states in turn, each told by its JSON file

A state is written beside the one before it and replaces the one before that: whatever stops a search, and whenever, a whole
one is there. The nodes' coordinates are those of the rotation V that is kept with them.
"""

import shutil
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..entries import Entries
from ..files import parse_json, read_tensors, write_pair
from ..inversion.moments import History, Moment, gap_of
from ..inversion.proof import Proof
from ..inversion.proof_files import SPEC, TENSORS, save_proof, stored_question
from ..inversion.result import versions
from ..inversion.runs.digest import digest
from ..inversion.runs.folder import differences
from ..inversion.runs.meant import words_of
from ..inversion.storage import check_writable
from .asking import Asked
from .log import Recorder
from .nodes import Nodes
from .search import Search
from .watching import Record

PROVING = "proving"
_FORMAT, _VERSION = "cvxinv proof in work format", 1
SHARE = 20  # of the time between two writes, what one may take: one in so many parts
_NOT_STATE = ("network", "targets", "gap", "value", "refine", "limits", "fitted", "deadline", "rounding")


# --- what a search holds --------------------------------------------------------------------------


def state_of(search: Search) -> dict[str, Any]:
    """All that a step changes, so that it can be put back."""
    found = {f.name: getattr(search, f.name) for f in fields(search) if f.name not in _NOT_STATE and hasattr(search, f.name)}
    return {name: _copied(value) for name, value in found.items()}


def put_back(search: Search, state: dict[str, Any]) -> None:
    """Let a search hold what `state_of` told of it."""
    for name, value in state.items():
        setattr(search, name, _copied(value))


def _copied(value: Any) -> Any:
    if isinstance(value, Recorder):
        rounds = {number: list(told) for number, told in value.rounds.items()}
        return replace(value, rounds=rounds, splits=dict(value.splits))
    return value.clone() if isinstance(value, Tensor) else list(value) if isinstance(value, list) else value


def _as_files(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and words of a state: tensors, numbers, nodes, and lists of nodes, which become one."""
    tensors, words = dict[str, Tensor](), dict[str, Any]()
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[name], words[name] = value, "tensor"
        elif isinstance(value, Nodes):
            tensors |= _node_tensors(name, value)
            words[name] = "nodes"
        elif isinstance(value, list):
            parts = [part for part in value if len(part)]
            tensors |= _node_tensors(name, Nodes.joined(parts)) if parts else {}
            words[name] = ["nodes"] if parts else []
        elif value is None or isinstance(value, (int, float)):
            words[name] = {"number": value}
    return tensors, words


def _from_files(tensors: dict[str, Tensor], words: dict[str, Any]) -> dict[str, Any]:
    state = dict[str, Any]()
    for name, word in words.items():
        if word == "tensor":
            state[name] = tensors[name]
        elif isinstance(word, dict):
            state[name] = word["number"]
        else:
            state[name] = [_nodes(name, tensors)] if word == ["nodes"] else [] if word == [] else _nodes(name, tensors)
    return state


def _node_tensors(name: str, nodes: Nodes) -> dict[str, Tensor]:
    found = dict[str, Tensor]()
    for f in fields(nodes):
        value = getattr(nodes, f.name)
        if isinstance(value, tuple):
            found |= {f"{name}.{f.name}.{k}": part for k, part in enumerate(value)}
        else:
            found[f"{name}.{f.name}"] = value
    return found


def _nodes(name: str, tensors: dict[str, Tensor]) -> Nodes:
    found = dict[str, Any]()
    for f in fields(Nodes):
        key = f"{name}.{f.name}"
        layers = [k for k in tensors if k.startswith(f"{key}.")]
        found[f.name] = tensors[key] if key in tensors else tuple(tensors[f"{key}.{k}"] for k in range(len(layers)))
    return Nodes(**found)


# --- the folder -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kept:
    """What a folder kept of a search: its state, the rotation V `(S, n0, n0)` of its nodes, and what was recorded."""

    state: dict[str, Any]
    V: Tensor
    tensors: dict[str, Tensor]
    seconds: float

    def record(self, began: float, device: torch.device | None = None) -> Record:
        """What was recorded, in a call that began at `began`."""
        t = self.tensors
        moments = [
            Moment(float(t["record.seconds"][k]), bound, misfit, gap_of(bound, misfit, t["record.size"]), *(
                t[f"record.{name}"][:, k] for name in ("proved", "undecided", "open")
            ))
            for k in range(len(t["record.seconds"]))
            for bound, misfit in [(t["record.bound"][:, k], t["record.misfit"][:, k])]
        ]  # fmt: skip
        return Record(t["record.good"].to(device), t["record.first"].to(device), began, self.seconds, moments)


@dataclass
class ProofFolder:
    """A folder that was opened for a proof. meant: what is proved, in words and checksums."""

    path: Path
    meant: dict[str, Any]
    turn: int = 0
    steps: int = 0
    _written: float = field(default=-torch.inf)
    _took: float = 0.0

    def keep(self, search: Search, record: Record, *, at_once: bool = False) -> None:
        """Write where the search stands, unless the last time is so near that writing would cost more than searching.

        Raises OSError.
        """
        self.steps += 1
        began = time.perf_counter()
        if not at_once and began - self._written < SHARE * self._took:
            return
        (self.path / PROVING).mkdir(parents=True, exist_ok=True)
        tensors, words = _as_files(state_of(search))
        history = History.of(record.moments)
        told = {name: getattr(history, name) for name in ("seconds", "bound", "misfit", "undecided", "open")}
        told |= {"proved": torch.stack([m.proved for m in record.moments], 1)}
        told |= {"good": record.good, "first": record.first, "size": search.targets.size.cpu()}
        tensors |= {"V": search.targets.V} | {f"record.{name}": value for name, value in told.items()}
        spec = {
            "format": _FORMAT, "version": _VERSION, "question": self.meant, "steps": self.steps,
            "seconds": record.seconds, "state": words,
        }  # fmt: skip
        self.turn = 1 - self.turn
        write_pair(self._file("safetensors"), tensors, self._file("json"), spec)
        self._written = time.perf_counter()
        self._took = self._written - began

    def end(self, proof: Proof) -> None:
        """Write the proof; of one that is done the state goes. Raises OSError."""
        save_proof(proof, self.path, {**self.meant, **({"unfinished": True} if proof.stopped else {})})
        if not proof.stopped:
            shutil.rmtree(self.path / PROVING, ignore_errors=True)

    def _file(self, suffix: str) -> Path:
        return self.path / PROVING / f"{self.turn}.{suffix}"

    def read(self) -> Kept | None:
        """The latest state that is whole, None where there is none. Raises ValueError for one of another question."""
        best = None
        for turn in range(2):
            self.turn = turn
            found = self._read_one()
            if found is not None and (best is None or found[0] > best[0]):
                best = *found, turn
        if best is None:
            return None
        self.steps, kept, self.turn = best
        return kept

    def _read_one(self) -> tuple[int, Kept] | None:
        path = self._file("json")
        try:
            spec = parse_json(path.read_bytes(), path)
            if not isinstance(spec, dict) or spec.get("format") != _FORMAT or spec.get("version") != _VERSION:
                return None
            words = Entries(str(path), spec)
            tensors = read_tensors(self._file("safetensors"), words.text("sha256"), path.name, "state")
            question, steps = dict(words.inner("question").entries), words.count("steps")
            seconds, state = words.number("seconds", least=0), words.inner("state").entries
            kept = Kept(_from_files(tensors, dict(state)), tensors["V"], tensors, seconds)
        except (OSError, ValueError, KeyError, TypeError):  # half a state, or none
            return None
        refuse_other(self.path, question, self.meant)
        return steps, kept


def open_proof_folder(
    folder: str | Path, meant: dict[str, Any], *, resume: bool, overwrite: bool
) -> tuple[ProofFolder, Kept | Proof | None]:
    """The folder of a proof; and what it holds to go on with: a state, the proof itself where that is done, or nothing.

    Raises FileExistsError, ValueError that name what differs, OSError.
    """
    path = check_proof_folder(folder, resume=resume, overwrite=overwrite)
    opened = ProofFolder(path, meant)
    if overwrite or not holds_proof(path):
        shutil.rmtree(path / PROVING, ignore_errors=True)
        return opened, None
    if (path / SPEC).is_file():
        known = stored_question(path)
        if known is None:
            raise ValueError(
                f"expected a proof in {path} to go on with, got one that does not say of what; pass another folder, or "
                "overwrite=True"
            )
        unfinished = known.pop("unfinished", False)
        refuse_other(path, known, meant)
        if not unfinished:
            return opened, Proof.load(path)
    return opened, opened.read()


def check_proof_folder(folder: str | Path, *, resume: bool, overwrite: bool) -> Path:
    """The folder as a path, if a proof may begin or go on in it. Raises FileExistsError, ValueError, OSError."""
    if resume and overwrite:
        raise ValueError("expected resume=True or overwrite=True, got both: going on keeps what is there; pass one of them")
    path = check_writable(folder, (SPEC, TENSORS))
    if not (resume or overwrite) and holds_proof(path):
        what = "a proof" if (path / SPEC).is_file() else "a proof that is not finished"
        raise FileExistsError(
            f"expected a folder without proofs, got {path}, which holds {what}; go on with resume=True, replace "
            "it with overwrite=True, or pass another folder"
        )
    return path


def holds_proof(folder: Path) -> bool:
    """Whether a folder holds a proof, finished or not."""
    return (folder / SPEC).is_file() or any((folder / PROVING / f"{turn}.json").is_file() for turn in range(2))


def words_of_proof(folder: Path) -> str:
    """What a folder keeps of a proof that is not finished, in words; "" where it holds none."""
    if not any((folder / PROVING / f"{turn}.json").is_file() for turn in range(2)):
        return ""
    return f"the bounds and the open nodes of the proof are kept in {folder}"


def refuse_other(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises ValueError where two questions differ."""
    if found := differences(before, now):
        raise ValueError(
            f"expected the proof in {folder} to go on as it began, got another: {'; '.join(found)}; pass the same, or "
            "another folder, or begin anew with overwrite=True"
        )


def proof_words(asked: Asked) -> dict[str, Any]:
    """What is asked, in words and checksums: two proofs with the same ones prove the same."""
    task = asked.task
    words = words_of(task, None, None, 0, versions(task, torch.float64))
    left_out = ("truth", "seed")
    words = {name: value for name, value in words.items() if name not in left_out}
    return words | {"box": f"sha256 {digest(asked.sides)}", "gap": asked.gap}
