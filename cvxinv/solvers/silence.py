"""Silence for solvers that print although they were told not to.

OSQP says "Polishing not needed ..." whatever `verbose` is, and has no option against it but to leave polishing out. It
writes through Python's `sys.stdout`; CLARABEL, SCS, HIGHS and ECOS write nothing, and no file descriptor has to be turned.
`sys.stdout` belongs to all threads: what others print meanwhile is passed on, and the last one to leave puts it back.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.Lock()
_SILENT: dict[int, int] = {}  # threads inside, and how deep


class _Filter:
    """A stand-in for `sys.stdout` that drops what silent threads write; all else goes to the real one."""

    def __init__(self, real: Any):
        self.real = real

    def write(self, text: str) -> int:
        if threading.get_ident() in _SILENT or self.real is None:
            return len(text)
        return self.real.write(text)

    def flush(self) -> None:
        # Python sets None where there is no console, and a closed stream is nobody's loss here
        if self.real is not None and not self.real.closed:
            self.real.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@contextmanager
def silent_stdout() -> Iterator[None]:
    """Drop what this thread writes to `sys.stdout` in the meantime."""
    me = threading.get_ident()
    with _LOCK:
        if not _SILENT:
            sys.stdout = _Filter(sys.stdout)
        _SILENT[me] = _SILENT.get(me, 0) + 1
    try:
        yield
    finally:
        with _LOCK:
            _SILENT[me] -= 1
            if _SILENT[me] == 0:
                del _SILENT[me]
            # whoever replaced it in the meantime keeps what they put there
            if not _SILENT and isinstance(sys.stdout, _Filter):
                sys.stdout = sys.stdout.real
