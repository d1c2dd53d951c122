"""What a theorem says of given signals: holds, fails or not decidable, with the numbers that decided it.

A clause `left < right` holds where all that left may be is below all that right may be, and fails where none is. Where
bounds overlap, or a constant of the theorem is unknown, it is not decidable. A theorem whose clauses fail says nothing: it
does not say that an inversion fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import torch
from torch import Tensor

from ..tables import html_table
from .bounds import Bounds

HOLDS, FAILS, NOT_DECIDABLE = "holds", "fails", "not decidable"
CONDITION_STATUSES = (HOLDS, FAILS, NOT_DECIDABLE)

READ = "read in the source's text"
DERIVED = "derived here from the proof in the source's text"
RECALLED = "as recalled; not seen in print, so verify before quoting"

Amount = float | Tensor | Bounds | Sequence[Bounds]


@dataclass(frozen=True, eq=False)
class Clause:
    """One condition, of N signals. low, high: `(2, N)` each, between which left and right lie; NaN where nothing is
    compared."""

    text: str
    status: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def compare(cls, text: str, left: Amount, right: Amount, N: int, strict: bool = True) -> "Clause":
        """left < right, or left <= right where not strict; amounts are numbers, `(N,)`, bounds, or bounds of each signal."""
        (left_low, left_high), (right_low, right_high) = _ends(left, N), _ends(right, N)
        holds = left_high < right_low if strict else left_high <= right_low
        fails = left_low >= right_high if strict else left_low > right_high
        status = np.where(holds, HOLDS, np.where(fails, FAILS, NOT_DECIDABLE))
        return cls(text, status, np.stack([left_low, right_low]), np.stack([left_high, right_high]))

    @classmethod
    def fact(cls, text: str, true: bool | np.ndarray | None, N: int) -> "Clause":
        """What is so, is not, or (None) cannot be known."""
        words = NOT_DECIDABLE if true is None else np.where(np.broadcast_to(true, N), HOLDS, FAILS)
        nothing = np.full((2, N), np.nan)
        return cls(text, np.broadcast_to(np.asarray(words), N).copy(), nothing, nothing)

    def sides(self) -> tuple[str, str]:
        """Left and right in words: one number, or the range over signals and bounds."""
        if np.isnan(self.low).all():
            return "", ""
        return _span(self.low[0], self.high[0]), _span(self.low[1], self.high[1])


@dataclass(frozen=True, eq=False, repr=False)
class Condition:
    """What a theorem says of N signals, or of a generator as a whole (N = 1, `whole`).

    theorem: its name. clauses: its conditions. conclusion: what follows where all hold. scope: what that is about, and what
    not. source, evidence: where it comes from and how well it is known here. numbers: what it used, by name. bounds: errors
    that are not exceeded where it holds, by name, `(N,)` each; inf elsewhere. notes: what is to be said besides.
    """

    theorem: str
    clauses: tuple[Clause, ...]
    conclusion: str
    scope: str
    source: str
    evidence: str
    numbers: Mapping[str, object] = field(default_factory=dict)
    bounds: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        kept = torch.from_numpy(self.holds)
        held = {name: torch.where(kept, value, torch.full_like(value, inf)) for name, value in self.bounds.items()}
        object.__setattr__(self, "bounds", held)

    def __len__(self) -> int:
        return len(self.clauses[0].status)

    @property
    def status(self) -> np.ndarray:
        """ "holds", "fails" or "not decidable" for each signal, `(N,)`: a clause that fails decides."""
        all_of = np.stack([clause.status for clause in self.clauses])
        some = np.where((all_of == NOT_DECIDABLE).any(0), NOT_DECIDABLE, HOLDS)
        return np.where((all_of == FAILS).any(0), FAILS, some)

    @property
    def holds(self) -> np.ndarray:
        """Whether every clause holds, `(N,)`."""
        return self.status == HOLDS

    def counts(self) -> dict[str, int]:
        """How many signals have each status that occurs."""
        status = self.status
        return {name: int((status == name).sum()) for name in CONDITION_STATUSES if (status == name).any()}

    def _rows(self) -> list[tuple[str, ...]]:
        rows = list[tuple[str, ...]]()
        for clause in self.clauses:
            counted = ", ".join(f"{name} {n}" for name in CONDITION_STATUSES if (n := int((clause.status == name).sum())))
            said = clause.status[0] if self.whole or len(self) == 1 else counted
            rows.append((clause.text, *clause.sides(), str(said)))
        rows += [(f"error of {name}", "", f"<= {_span(value, value)}", "") for name, value in self.bounds.items()]
        return rows

    def _head(self) -> str:
        counted = ", ".join(f"{name} for {n}" for name, n in self.counts().items())
        return f"{self.theorem}: {self.status[0] if self.whole else f'{counted} of {len(self)} signals'}"

    def _tail(self) -> list[str]:
        said = [f"then: {self.conclusion}", f"scope: {self.scope}", f"source: {self.source}; {self.evidence}"]
        return said + [f"note: {note}" for note in self.notes]

    def __str__(self) -> str:
        rows = [("condition", "left", "right", ""), *self._rows()]
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        table = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._head(), *(f"  {line}" for line in table), *(f"  {line}" for line in self._tail())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._head(), ("condition", "left", "right", ""), self._rows(), self._tail())


def _ends(amount: Amount, N: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(amount, Bounds):
        amount = [amount] * N
    if isinstance(amount, Sequence):
        return np.array([one.lower for one in amount], dtype=float), np.array([one.upper for one in amount], dtype=float)
    value = amount.detach().cpu().double().numpy() if isinstance(amount, Tensor) else np.asarray(float(amount))
    value = np.broadcast_to(value, N)
    return value, value


def _span(low: object, high: object) -> str:
    """One number, or "a to b"."""
    a, b = (np.asarray(ends, dtype=float) for ends in (low, high))
    if not len(a):
        return ""
    least, most = f"{np.nanmin(a):.4g}", f"{np.nanmax(b):.4g}"
    return least if least == most else f"{least} to {most}"
