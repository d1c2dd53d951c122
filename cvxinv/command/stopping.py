"""What SIGINT and SIGTERM do to the command line: one line on stderr and an exit code, whenever they come.

While the package is loaded, which takes a second or more, a SIGINT ends the process at once and prints no traceback: nothing
was begun. While a command works both raise, so that what is being written is finished or taken back first.
"""

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

NAME = "cvxinv"
INTERRUPTED, TERMINATED = 130, 143  # exit codes, 128 and the signal's number


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def stop_quietly_while_loading() -> None:
    """Where this process is the command line: until a command works, a SIGINT prints no traceback."""
    if _is_the_command() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def _is_the_command() -> bool:
    words = sys.orig_argv
    module = next((words[k + 1 :][:1] for k, word in enumerate(words) if word == "-m"), [])
    return module == [NAME] or (bool(sys.argv) and Path(sys.argv[0]).stem == NAME)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted, nothing was written\n")
    os._exit(INTERRUPTED)


class Stoppable:
    """While it lasts, SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`; in the main thread, which has signals."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def begin(self) -> None:
        """Take both signals."""
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _terminate)

    def end(self) -> None:
        """Give both back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def go_on_command() -> str:
    """The command that was given, as one that goes on."""
    words = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
    return shlex.join([NAME, *words, "--resume"])


stop_quietly_while_loading()
