"""The other side of a check: this file is run by itself, in a process that may be killed, and knows nothing of the judge.

    python submission.py FOLDER FILE.py MEMORY COUNT

For k = 0 to COUNT - 1 it asks for the arguments by a file k.wanted, waits for them in k.npz, writes k.out.npz, what `answer`
returned, and then k.json, how that went. Only arrays of numbers leave this process: nothing is pickled; neither a verdict
nor a time is taken from here.
"""

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

FAILURES = ("no answer", "exit", "memory", "output", "crash")  # how a run may end without an answer
LARGEST_OUTPUT = 64 * 2**20  # bytes of any file, what is printed among them
GLANCE = 1e-3  # seconds between two looks for a file
_PARENT = 1.0  # seconds between two looks for the grader
_LONGEST_WAIT = 60.0  # seconds: the other side writes at once, or is not there any more


class NoAnswerError(Exception):
    """A submission that gives nothing to judge; the words are for its author."""


def load(path: Path) -> ModuleType:
    """The submission as a module. Raises what its own code raises, NoAnswerError where it has no `answer`."""
    spec = importlib.util.spec_from_file_location("submission", path)
    if spec is None or spec.loader is None:
        raise NoAnswerError(f"expected a Python file, got {path.name}; name it my_file.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "answer", None)):
        raise NoAnswerError(f"expected a function `answer` in {path.name}, got none; `show` prints its first line")
    return module


def arrays(value: Any) -> dict[str, np.ndarray]:
    """What `answer` returned: arrays by name, or by position "0", "1", ... Raises NoAnswerError for what are no numbers."""
    if value is None:
        raise NoAnswerError(
            "answer returned None: it ends without a return statement, or the solver found nothing and left .value empty"
        )
    named = value if isinstance(value, dict) else dict(enumerate(value if isinstance(value, tuple) else (value,)))
    return {str(name): _array(part, str(name)) for name, part in named.items() if part is not None}


def _array(part: Any, name: str) -> np.ndarray:
    if callable(getattr(part, "detach", None)):
        part = part.detach().cpu().numpy()
    try:
        array = np.asarray(part)
    except Exception as error:
        raise NoAnswerError(f"value {name} of the answer is a {type(part).__name__} that is no array: {error}") from error
    if array.dtype.kind not in "fiub":
        cure = "; return its .value" if hasattr(part, "value") else "; return numbers"
        raise NoAnswerError(f"value {name} of the answer is a {type(part).__name__} of {array.dtype}, not of numbers{cure}")
    return array


def arguments(folder: Path, k: int) -> list[Any]:
    """The arguments of instance k, asked for and waited for, in order; numbers as Python's own."""
    (folder / f"{k}.wanted").touch()
    path, until = folder / f"{k}.npz", time.monotonic() + _LONGEST_WAIT
    while not path.exists():
        if time.monotonic() > until:
            raise NoAnswerError("no arguments came from the grader, which was ended or cannot write to its folder")
        time.sleep(GLANCE)
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name].item() if stored[name].ndim == 0 else stored[name] for name in stored.files]


def told(error: BaseException, path: Path) -> dict[str, Any]:
    """What went wrong, in JSON's types: kind, words, and the line of the submission."""
    if isinstance(error, NoAnswerError):
        return {"kind": "no answer", "words": str(error)}
    frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else frames[-1] if frames else None
    kind = "memory" if isinstance(error, MemoryError) else "exit" if isinstance(error, SystemExit) else "crash"
    if isinstance(error, OSError) and error.errno == 27:
        kind = "output"
    words = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return {"kind": kind, "words": words + (f" (line {line} of {path.name})" if line else "")}


def put(path: Path, found: dict[str, Any]) -> None:
    """Write how it went, whole or not at all, behind what was printed until then."""
    with contextlib.suppress(Exception):  # the submission may have taken stdout away, or printed too much
        sys.stdout.flush()
    path.with_suffix(".partial").write_text(json.dumps(found))
    os.replace(path.with_suffix(".partial"), path)


def limit(memory: int) -> None:
    """No more than so many bytes of memory and of output, where the system can say so."""
    try:
        import resource
    except ImportError:
        return
    # past the limit a write then raises OSError, and kills nobody
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_OUTPUT, LARGEST_OUTPUT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent() -> None:
    """End this process, and all that it started, once the grader is not there any more, as after a kill -9."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT)
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: Path, path: Path, memory: int, count: int) -> None:
    """Load the submission and ask it for an answer to every instance; the first failure ends that."""
    end_with_parent()
    limit(memory)
    sys.path[0] = str(path.parent)
    k = 0
    try:
        answer = load(path).answer
        for k in range(count):
            value = answer(*arguments(folder, k))
            np.savez(folder / f"{k}.out.npz", **arrays(value))  # type: ignore[arg-type]
            put(folder / f"{k}.json", {"kind": "answer"})
    except BaseException as error:  # whatever ends it is the answer
        put(folder / f"{k}.json", told(error, path))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    # threads and exit handlers of the submission shall not hold the process
    os._exit(0)
