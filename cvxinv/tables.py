"""Small HTML tables for notebooks: no scripts, no styles of a page, and all words escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import SupportsFloat

SHOWN = 10  # rows of a table in a notebook


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already, and made by the package."""

    text: str


def number(value: SupportsFloat) -> str:
    """A number in three digits."""
    return f"{float(value):.3g}"


def html_table(head: str, names: Sequence[str], rows: Iterable[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """A heading, a table of rows under the names of its columns, and lines of notes."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    tail = "".join(f"<div>{escape(note)}</div>" for note in notes if note)
    return f"<div><b>{escape(head)}</b><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{tail}</div>"


def left_out(total: int) -> str:
    """How many rows of a table are not shown, in words; "" where all are."""
    return f"the first {SHOWN} of {total}" if total > SHOWN else ""


def _cell(value: object) -> str:
    return value.text if isinstance(value, Markup) else escape(str(value))
