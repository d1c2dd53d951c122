"""How tests run the scripts of benchmarks: as a process where that is the claim, and in this one otherwise."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import THREADS


def run_script(path: Path, *words: str) -> str:
    """Run a script as a process and give back what it printed; with one thread from the start, so that it starts once."""
    done = subprocess.run(
        [sys.executable, str(path), *words], capture_output=True, text=True, env=os.environ | dict.fromkeys(THREADS, "1")
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def call_script(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Call a script's `main` as if these words stood behind its name."""
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # of this process, which others share
    monkeypatch.setattr(sys, "argv", [main.__module__, *words])
    main()
