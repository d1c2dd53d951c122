"""What a run of `soundness.py` counts, and its tables."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from claims import APART, FALSE
from liars import TRUE
from tables import Table

from cvxinv.solvers import reference
from cvxinv.solvers.known import TORCH_SOLVERS

_KEPT, _ALIKE = 60, 3  # false claims that are kept with their points, and of one kind and problem


@dataclass
class Report:
    """What came of some problems; counts are over tuples of words."""

    claims: Counter = field(default_factory=Counter)  # (whose, how, kind, status)
    wrong: Counter = field(default_factory=Counter)  # (fault, source, how, kind)
    batch: Counter = field(default_factory=Counter)  # (what differs, source, kind)
    broken: Counter = field(default_factory=Counter)  # (exception, source, how, kind)
    died: Counter = field(default_factory=Counter)  # (solver that runs in a process of its own, kind): aborts there
    reached: Counter = field(default_factory=Counter)  # (source, how, kind, scales, "optimal" or "not")
    truths: Counter = field(default_factory=Counter)  # (kind, scales, "known" or ...)
    kept: list[dict] = field(default_factory=list)
    seconds: Counter = field(default_factory=Counter)  # (source, how)

    def add(self, other: "Report") -> None:
        for name in ("claims", "wrong", "batch", "broken", "died", "reached", "truths", "seconds"):
            getattr(self, name).update(getattr(other, name))
        for one in other.kept:
            alike = sum((k["fault"], k.get("kind")) == (one["fault"], one.get("kind")) for k in self.kept)
            if alike < _ALIKE and len(self.kept) < _KEPT:
                self.kept.append(one)

    @property
    def number(self) -> int:
        return sum(self.claims.values())

    @property
    def faults(self) -> int:
        """False claims, broken calls, and verdicts of `certify` that depend on the batch."""
        wrong = sum(n for key, n in self.wrong.items() if key[0] in FALSE)
        return wrong + sum(self.broken.values()) + sum(n for key, n in self.batch.items() if key[0].startswith("certify"))

    def record(self) -> dict:
        counts = {
            name: [[*key, n] for key, n in sorted(getattr(self, name).items())]
            for name in ("claims", "wrong", "batch", "broken", "died", "reached", "truths", "seconds")
        }
        return counts | {"kept": self.kept}

    @staticmethod
    def of(record: dict) -> "Report":
        parts = {name: Counter({tuple(r[:-1]): r[-1] for r in rows}) for name, rows in record.items() if name != "kept"}
        return Report(**parts, kept=record["kept"])


# --- tables ---------------------------------------------------------------------------------------


def crossed(title: str, counts: Counter, row: Callable, column: Callable, value: Callable = lambda key: 1) -> Table:
    """A table of sums, rows by columns, with totals in the last column."""
    rows = list(dict.fromkeys(row(k) for k in sorted(counts)))
    columns = list(dict.fromkeys(column(k) for k in sorted(counts)))
    found: Counter = Counter()
    for key, n in counts.items():
        found[row(key), column(key)] += n * value(key)
    lines = [
        (r, *(f"{found[r, c]:,}" if found[r, c] else "" for c in columns), f"{sum(found[r, c] for c in columns):,}")
        for r in rows
    ]
    return Table(title, ("", *columns, "all"), lines)


def missed_table(title: str, counts: Counter, column: Callable, yes: str, no: str) -> Table:
    """How many of how many are not brought to the status `yes`, per source."""
    rows, columns = (
        [*dict.fromkeys(pick(k) for k in sorted(counts) if k[4] in (yes, no))] for pick in (lambda k: _who(k), column)
    )
    lines = []
    for r in rows:
        cells = []
        for c in [*columns, None]:
            n = {
                w: sum(v for k, v in counts.items() if _who(k) == r and c in (None, column(k)) and k[4] == w)
                for w in (yes, no)
            }
            cells.append(f"{n[no]} of {n[yes] + n[no]}" if n[yes] + n[no] else "")
        lines.append((r, *cells))
    return Table(title, ("", *columns, "all"), lines)


def _who(key: tuple) -> str:
    return key[0] if key[1] == "solve" else f"{key[0]}, certify({key[1]})"


def group(source: str) -> str:
    solvers = {"auto", *TORCH_SOLVERS, *reference.CVXPY_SOLVERS}
    return source if source in solvers else TRUE if source == TRUE else "liars"


def tables(report: Report) -> list[Table]:
    """Claims and statuses, what is false by kind, by source and by problem, the batch, and what is not reached."""
    false = Counter({k: n for k, n in report.wrong.items() if k[0] in FALSE})
    apart = Counter({k: n for k, n in report.wrong.items() if k[0] in APART})
    found = [
        crossed("Claims", report.claims, lambda k: k[0], lambda k: k[3]),
        crossed("Claims by problem", report.claims, lambda k: k[2], lambda k: k[3]),
        crossed("What is known of the signals", report.truths, lambda k: f"{k[0]}, scales {k[1]}", lambda k: k[2]),
    ]
    if false:
        found.append(crossed("False claims by whose points and kind", false, lambda k: group(k[1]), lambda k: k[0]))
        found.append(crossed("False claims by problem and kind", false, lambda k: k[3], lambda k: k[0]))
        found.append(crossed("False claims by liar", false, lambda k: k[1], lambda k: k[2]))
    if apart:
        found.append(crossed("Counted apart, not false", apart, lambda k: group(k[1]), lambda k: k[0]))
    if report.broken:
        found.append(crossed("Calls that broke", report.broken, lambda k: f"{k[0]} ({group(k[1])}, {k[2]})", lambda k: k[3]))
    if report.died:
        found.append(crossed("Aborts of a solver in the process of its own", report.died, lambda k: k[0], lambda k: k[1]))
    if report.batch:
        found.append(
            crossed(
                "Verdicts that depend on the batch",
                report.batch,
                lambda k: f"{group(k[2])}: {k[0]}, {k[1]}",
                lambda k: k[3],
            )
        )
    known = "Signals of known optimum not brought to optimal"
    found.append(missed_table(f"{known}, by problem", report.reached, lambda k: k[2], "optimal", "not"))
    found.append(missed_table(f"{known}, by scales of rows and columns", report.reached, lambda k: k[3], "optimal", "not"))
    hopeless = "Signals infeasible by more than 1e-5 s_y that are not called so"
    found.append(missed_table(hopeless, report.reached, lambda k: k[2], "infeasible", "not infeasible"))
    seconds = Counter({k: round(s) for k, s in report.seconds.items()})
    found.append(crossed("Seconds", seconds, lambda k: k[0], lambda k: k[1]))
    return [table for table in found if table.rows]


def summary(report: Report) -> str:
    false = sum(n for k, n in report.wrong.items() if k[0] in FALSE)
    solver = sum(n for k, n in report.claims.items() if k[0] not in ("liars", TRUE))
    optimal = sum(n for k, n in report.claims.items() if k[3] == "optimal")
    batch = sum(n for k, n in report.batch.items() if k[0].startswith("certify"))
    return (
        f"{report.number:,} claims, {solver:,} on points of solvers; {optimal:,} optimal. {false:,} faults of claims, "
        f"{sum(report.broken.values()):,} calls that broke, {batch:,} verdicts of the judge that depend on the batch. "
        f"{sum(report.died.values()):,} aborts of HiGHS in its own process, one try at one signal each."
    )


def markdown(report: Report, at: dict) -> str:
    head = [
        "# Is `optimal` true?", "",
        f"`python benchmarks/soundness.py`; commit {at['commit']}{', changed' if at['changed'] else ''}; {at['date']}.", "",
        summary(report), "", "What the words mean stands in `benchmarks/claims.py`.", "",
    ]  # fmt: skip
    return "\n".join([*head, *(table.markdown() for table in tables(report))])
