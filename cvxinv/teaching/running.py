"""Runs a submission in a process of its own, with a limit on time and memory, and takes nothing but arrays from it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
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
    """What came back for an instance. kind: "answer", or why there is none; words: that in a sentence.

    seconds: on our clock, from handing the arguments over to having the answer.
    """

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
    """Ask the submission for an answer to every instance, one after the other. Raises OSError where it cannot be read.

    An instance is handed over when the answer to the one before was taken, and the clock is this side's: what a submission
    could do ahead of its time, or say of it, counts for nothing.
    """
    path = path.resolve()
    with path.open("rb"):
        pass
    # what is printed goes to a file without a name: the submission may do as it likes in its folder
    with tempfile.TemporaryDirectory(prefix="cvxinv-exercise-") as name, tempfile.TemporaryFile() as printed:
        folder, found = Path(name), list[Returned]()
        process = _started(folder, path, printed, memory, len(instances))
        until = time.monotonic() + time_limit
        try:
            for k, instance in enumerate(instances):
                found.append(_asked(process, folder, k, instance, until))
                if found[-1].kind == "time limit":
                    found[-1] = replace(found[-1], words=f"no answer within {time_limit:g} s of the whole run")
                if found[-1].kind != "answer":
                    break
        finally:
            _end(process)
        found += [Returned("not asked", "the run ended at an instance before this one")] * (len(instances) - len(found))
        printed.seek(0)
        return Ran(tuple(found), printed.read().decode(errors="replace")[-_SHOWN:])


def _started(folder: Path, path: Path, printed: IO[bytes], memory: int, count: int) -> subprocess.Popen[bytes]:
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    words = [sys.executable, submission.__file__, str(folder), str(path), str(memory), str(count)]
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, cwd=folder,
        env=os.environ | one, start_new_session=True,
    )  # fmt: skip


def _asked(process: subprocess.Popen[bytes], folder: Path, k: int, instance: Instance, until: float) -> Returned:
    """Hand instance k over when the process wants it, and take what it answers."""
    said = folder / f"{k}.json"
    ended = _waited(process, (folder / f"{k}.wanted", said), until)
    if ended is not None:
        return ended
    began = time.perf_counter()
    try:
        with (folder / "given.partial").open("wb") as file:
            np.savez(file, **instance.arguments)
        began = time.perf_counter()
        os.replace(folder / "given.partial", folder / f"{k}.npz")
    except OSError as error:
        return Returned("crash", f"the folder of the run cannot be written to any more: {error}")
    ended = _waited(process, (said,), until)
    return _returned(folder, k, time.perf_counter() - began) if ended is None else ended


def _waited(process: subprocess.Popen[bytes], files: tuple[Path, ...], until: float) -> Returned | None:
    """None as soon as one of the files is there; how the run ended, where none comes."""
    while True:
        code = process.poll()  # first: what it wrote before it ended is there by now
        if any(file.exists() for file in files):
            return None
        if code is not None and code < 0:
            return Returned("crash", f"the process was ended by signal {signal.Signals(-code).name}")
        if code is not None:
            return Returned("exit", f"the process ended with exit code {code} before it gave an answer")
        if time.monotonic() > until:
            return Returned("time limit")
        time.sleep(submission.GLANCE)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()


def _returned(folder: Path, k: int, seconds: float) -> Returned:
    """What the process left for instance k."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{k}.json").read_text())
        if found["kind"] != "answer":
            # what is no way to fail was not written by our side of the process
            kind = found["kind"] if found["kind"] in submission.FAILURES else "crash"
            return Returned(kind, str(found["words"])[:600] or "the process left no word of how it ended")
        with np.load(folder / f"{k}.out.npz", allow_pickle=False) as stored:
            return Returned("answer", "", {name: stored[name] for name in stored.files}, seconds)
    except Exception as error:  # the submission may have written it, and a broken archive fails in many ways
        return Returned("crash", f"what the process left cannot be read: {error}")
