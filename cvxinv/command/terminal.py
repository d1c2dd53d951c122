"""What goes to the terminal: tables in its width, and JSON that is all of stdout."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

_WIDTH = 120  # of tables where there is no terminal


def console_of(stderr: bool = False) -> Console:
    """The terminal, as wide as it is; 120 characters where there is none. Words stay as they are: names hold brackets."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH, highlight=False, markup=False)


def print_json(value: dict[str, Any]) -> None:
    """JSON on stdout; what is not finite becomes null."""
    typer.echo(_in_lines(_plain(value)))


def _in_lines(value: Any, indent: str = "") -> str:
    """JSON of plain values, a line for each entry of a dict and each row of an array: numbers stand beside each other."""
    deeper = f"{indent} "
    if isinstance(value, dict) and value:
        lines = [f"{deeper}{json.dumps(key)}: {_in_lines(entry, deeper)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(f"{deeper}{_in_lines(entry, deeper)}" for entry in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def _plain(value: Any) -> Any:
    """`value` in JSON's types; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def pairs(title: str) -> Table:
    """A table of names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def signal_count(count: int) -> str:
    """A number of signals in words."""
    return f"{count} signal{'' if count == 1 else 's'}"


def counted(counts: dict[str, int]) -> str:
    """Numbers of things by name, in words."""
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def table_of(title: str, *columns: str) -> Table:
    """A table with these columns."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def number(value: float | None, form: str = "{:.3g}") -> str:
    """A number in three digits, or a dash."""
    return "-" if value is None else form.format(value)
