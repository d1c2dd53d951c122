"""How a command ends: what it raises becomes a line on stderr and an exit code."""

import os
import traceback
from pathlib import Path
from types import TracebackType

import torch
import typer
from rich.text import Text

from ..errors import BackendNotInstalledError
from ..exact.keeping import words_of_proof
from ..inversion.comparing.folder import words_of_comparison
from ..inversion.runs.folder import words_of_run
from ..inversion.verify import Verdict
from .speaking import spoken
from .stopping import INTERRUPTED, TERMINATED, Stoppable, Terminated, go_on_command
from .terminal import console_of

_BAD_INPUT = (ValueError, TypeError, OSError, MemoryError, BackendNotInstalledError, torch.OutOfMemoryError)


class Outcome:
    """Turns what a command raises into a line on stderr and an exit code.

    may_write: where the command has begun to write; written: where a complete result lies.
    """

    def __init__(self) -> None:
        self.may_write: Path | None = None
        self.written: Path | None = None
        self._signals = Stoppable()

    def __enter__(self) -> "Outcome":
        self._signals.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._signals.end()
        if error is None or isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError, SystemExit)):
            return
        if os.environ.get("CVXINV_DEBUG") == "1":
            traceback.print_exception(error)
        if isinstance(error, KeyboardInterrupt):
            ended = isinstance(error, Terminated)
            say(f"{'terminated' if ended else 'interrupted'}, {self._left_behind()}")
            raise typer.Exit(TERMINATED if ended else INTERRUPTED) from None
        if isinstance(error, _BAD_INPUT):
            say(f"error: {message(error)}")
            raise typer.Exit(2) from None
        say(f"internal error: {type(error).__name__}: {message(error)}")
        say("this is a fault of cvxinv: please report it with the command, `cvxinv --version` and the output of")
        say("the same command under CVXINV_DEBUG=1")
        raise typer.Exit(3) from None

    def _left_behind(self) -> str:
        if self.written is not None:
            return f"the result in {self.written} is complete"
        for words in (words_of_run, words_of_comparison, words_of_proof):
            if self.may_write is not None and (kept := words(self.may_write)):
                return f"{kept}; go on with: {go_on_command()}"
        if self.may_write is not None and self.may_write.exists():
            return f"{self.may_write} holds no unfinished result"
        return "nothing was written"


def message(error: BaseException) -> str:
    """What an error says, on one line, in the words of the command line."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory; pass a smaller --chunk, or fewer signals"
    return spoken(" ".join(str(error).split())) or type(error).__name__


def say(text: str) -> None:
    """A line on stderr."""
    console_of(stderr=True).print(Text(text, style="red"), soft_wrap=True)


def finish(verdict: Verdict) -> None:
    """End the command: exit code 0 where all signals are explained, else 1."""
    raise typer.Exit(0 if bool(verdict.explained.all()) else 1)
