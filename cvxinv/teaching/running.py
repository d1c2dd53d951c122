"""Runs a submission in a process of its own, with a limit on time and memory, and takes nothing but arrays from it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import submission
from .exercise import Instance

TIME_LIMIT = 60.0  # seconds for all instances together, imports among them
MEMORY = 4 * 2**30  # bytes
_SHOWN = 2000  # characters of what was printed that are kept


@dataclass(frozen=True)
class Returned:
    """What came back for an instance. kind: "answer", or why there is none; words: that in a sentence."""

    kind: str
    words: str = ""
    arrays: dict[str, np.ndarray] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Ran:
    """What a process gave: one entry for each instance, and the end of what it printed."""

    returned: tuple[Returned, ...]
    printed: str


def run_submission(path: Path, instances: list[Instance], time_limit: float = TIME_LIMIT, memory: int = MEMORY) -> Ran:
    """Ask the submission for an answer to every instance. Raises OSError where the file cannot be read."""
    path = path.resolve()
    with path.open("rb"):
        pass
    # what is printed goes to a file without a name: the submission may do as it likes in its folder
    with tempfile.TemporaryDirectory(prefix="cvxinv-exercise-") as name, tempfile.TemporaryFile() as printed:
        folder = Path(name)
        for k, instance in enumerate(instances):
            np.savez(folder / f"{k}.npz", **instance.arguments)
        ended = _run(folder, path, printed, time_limit, memory)
        found: list[Returned] = []
        for k in range(len(instances)):
            found.append(_returned(folder, k, ended, found[-1] if found else None))
        printed.seek(0)
        return Ran(tuple(found), printed.read().decode(errors="replace")[-_SHOWN:])


def _run(folder: Path, path: Path, printed: IO[bytes], time_limit: float, memory: int) -> Returned:
    """The process from beginning to end; how it ended, for instances that it left open."""
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    words = [sys.executable, submission.__file__, str(folder), str(path), str(memory)]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, cwd=folder,
        env=os.environ | one, start_new_session=True,
    )  # fmt: skip
    try:
        code = process.wait(time_limit)
    except subprocess.TimeoutExpired:
        return Returned("time limit", f"no answer within {time_limit:g} s of the whole run")
    finally:
        _end(process)
    if code < 0:
        return Returned("crash", f"the process was ended by signal {signal.Signals(-code).name}")
    return Returned("exit", f"the process ended with exit code {code} before it gave an answer")


def _end(process: subprocess.Popen) -> None:
    """End the process and all that it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()


def _returned(folder: Path, k: int, ended: Returned, before: Returned | None) -> Returned:
    """What the process left for instance k; before: what it left for the one before."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{k}.json").read_text())
        if found["kind"] != "answer":
            # what is no way to fail was not written by our side of the process
            kind = found["kind"] if found["kind"] in submission.FAILURES else "crash"
            return Returned(kind, str(found["words"])[:600] or "the process left no word of how it ended")
        with np.load(folder / f"{k}.out.npz", allow_pickle=False) as stored:
            return Returned("answer", "", {name: stored[name] for name in stored.files}, float(found["seconds"]))
    except FileNotFoundError:
        if before is not None and before.kind != "answer":
            return Returned("not asked", "the run ended at an instance before this one")
        return ended
    except Exception as error:  # the submission may have written it, and a broken archive fails in many ways
        return Returned("crash", f"what the process left cannot be read: {error}")
