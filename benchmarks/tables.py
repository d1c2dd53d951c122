"""From rows to tables: one per case, and the last one, ours against the best certified peer beside the target."""

from dataclasses import dataclass

from contest import Row
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text; prints on a terminal and as markdown."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def rich(self) -> RichTable:
        table = RichTable(*self.header, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*(cell.strip("*") for cell in row), style="bold" if row[0].startswith("**") else None)
        return table

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", *("| " + " | ".join(r) + " |" for r in (self.header, ("---",) * len(self.header)))]
        return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in self.rows), ""])


def short(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def floor_share(row: Row, rates: dict[str, float]) -> float | None:
    """Share of the GEMM roofline that the row reaches: the time of its products alone over its time."""
    if row.flops is None or row.seconds is None:
        return None
    return row.flops / rates[row.dtype] / _clock(row)


def _clock(row: Row) -> float:
    """The seconds that count: process seconds, and wall seconds on a GPU."""
    assert row.seconds is not None
    return row.seconds.process if row.device == "cpu" else row.seconds.wall


_HEADER = (
    "solver", "type", "polish", "not optimal", "process", "wall", "signals/s", "iterations", "gap", "violation", "KKT",
    "GEMM floor", "peer's tol", "note",
)  # fmt: skip


def case_table(case: str, rows: list[Row], rates: dict[str, float]) -> Table:
    """Failures first, then the fastest first."""

    def order(row: Row):
        if row.verdict is None or row.seconds is None:
            return 2, 0.0
        return int(row.verdict.failures > 0), row.seconds.process

    return Table(case, _HEADER, [_cells(row, rates) for row in sorted(rows, key=order)])


def _cells(row: Row, rates: dict[str, float]) -> tuple[str, ...]:
    if row.verdict is None or row.seconds is None:
        return (row.solver, "", "", *("-",) * (len(_HEADER) - 4), row.note)
    v, share = row.verdict, floor_share(row, rates)
    factor = f" x{row.extrapolated:.3g}" if row.extrapolated > 1 else ""
    ours = row.kind == "ours"
    kind = row.dtype if row.device == "cpu" else f"{row.dtype}, {row.device}"
    return (
        f"**{row.solver}**" if ours else row.solver, kind,
        "" if not ours else "yes" if row.polish else "no",
        f"{v.failures} of {v.signals}", short(row.seconds.process) + factor, short(row.seconds.wall) + factor,
        f"{row.signals / _clock(row):.3g}", "-" if row.iterations is None else str(row.iterations),
        f"{v.gap:.0e}", f"{v.violation:.0e}", f"{v.kkt:.0e}", "-" if share is None else f"{100 * share:.0f} %",
        "" if ours else f"{row.tol:.0e}", row.note,
    )  # fmt: skip


# --- targets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """At least `least` times faster than the fastest of `against` (empty: than any peer) on `case`.

    needed: the peer without which nothing is decided; it is the fastest one known.
    """

    case: str
    least: float
    against: tuple[str, ...] = ()
    dtype: str = "float64"
    kind: str = "peer"
    needed: str = ""


def targets(labels: list[str], promised: bool = True) -> list[Target]:
    """What was promised for each case; without `promised` the comparisons alone."""
    starts = (
        Target("LASSO 784x392, gaussian, B=1024", 7.0),
        Target("LASSO 784x392, gaussian, B=1024", 14.0, dtype="float32"),
        Target("LASSO 784x392, power law, B=64", 1.0, needed="SPAMS LARS"),
        Target("LASSO 784x400, trained 20-400-784, B=64", 1.0, needed="SPAMS LARS"),
        Target("ReLU rows 392x128, gaussian, B=1024", 2.0, ("DAQP",)),
        Target("ReLU rows 392x128, gaussian, B=1024", 3.0, ("DAQP",), "float32"),
        Target("ReLU rows 392x128, power law, B=64", 1.0, ("DAQP",)),
        Target("ReLU rows 256x128, trained 5-128-256-784, B=64", 1.0, ("DAQP",)),
        Target("latent 128x20, gaussian, B=1024", 1.0, ("DAQP",)),
        Target("pursuit l2 784x392, gaussian, B=64", 8.0, ("SPAMS LARS",)),
        Target("pursuit l2 625x1000, gaussian, B=16", 3.0, ("SPAMS LARS",)),
        Target("pursuit linf 784x392, gaussian, B=8", 10.0, ("HiGHS",)),
        Target("pursuit linf, ReLU rows 392x128, gaussian, B=64", 4.0, ("PIQP", "HiGHS")),
    )
    found = [t for t in starts if t.case in labels]
    for label in labels:
        cold, least = ("HIGHS", 9.0) if "linf" in label else ("CLARABEL", 50.0)
        found.append(Target(label, least if promised else 0.0, (f"CVXPY with {cold}",), kind="whole"))
    return found


_LAST = ("case", "type", "ours (auto)", "our fastest", "against", "its time", "ratio", "at least", "verdict")


def ratio_table(rows: list[Row], device: str, rates: dict[str, float], promised: bool = True) -> Table:
    """Ours against the best certified peer, beside what was promised."""
    labels = list(dict.fromkeys(row.case for row in rows))
    wanted = targets(labels, promised)
    named = {t.case for t in wanted if t.kind == "peer"}
    wanted += [Target(label, 0.0) for label in labels if label not in named]
    lines = [_ratio_line(t, [r for r in rows if r.case == t.case], device) for t in wanted]
    floors = [r for r in rows if r.case == "LASSO 784x392, gaussian, B=1024" and r.solver == "auto" and not r.polish]
    lines += [_floor_line(r, rates) for r in floors]
    return Table("Ours against the best certified peer (peer's time / ours)", _LAST, lines)


def _fastest(rows: list[Row]) -> Row | None:
    return min(rows, key=_clock, default=None)


def _rival(target: Target, certified: list[Row]) -> tuple[Row | None, str, bool]:
    """Against whom the target is measured, what to add to its name, and whether that decides the target."""
    peers = [r for r in certified if r.kind == "peer"]
    named = [r for r in certified if r.kind == target.kind and (not target.against or r.solver in target.against)]
    if target.kind == "whole":
        return _fastest(named), "", True
    if not named or target.needed not in {"", *(r.solver for r in named)}:
        lacking = " or ".join(target.against) or target.needed or "none"
        return _fastest(peers), f" ({lacking} not certified or not run)", False
    best, first = _fastest(named), _fastest(peers)
    assert best is not None and first is not None
    return best, "" if best is first else f" (the fastest is {first.solver}, {short(_clock(first))})", True


def _almost(rows: list[Row], best: Row) -> list[Row]:
    """Peers that are faster than the best and fail on a few signals only: they win nothing, and are not hidden."""
    failed = [r for r in rows if r.kind == "peer" and r.verdict is not None and r.seconds is not None and not r.certified]
    few = [r for r in failed if r.verdict is not None and r.verdict.failures <= 0.02 * r.verdict.signals]
    return [r for r in few if _clock(r) < _clock(best)]


def _ratio_line(target: Target, rows: list[Row], device: str) -> tuple[str, ...]:
    certified = [r for r in rows if r.certified]
    ours = [r for r in certified if r.kind == "ours" and r.dtype == target.dtype and r.device == device]
    auto, fastest = _fastest([r for r in ours if r.solver == "auto"]), _fastest(ours)
    best, remark, decides = _rival(target, certified)
    promise = f"{target.least:g}x" if target.least else "-"
    mine = short(_clock(auto)) if auto else "not certified"
    exact = _fastest([r for r in ours if r.solver == "auto" and r.polish])
    if auto and exact and auto is not exact:
        mine += f" (polished {short(_clock(exact))})"
    quickest = f"{fastest.solver} {short(_clock(fastest))}" if fastest else "none certified"
    if best is None:
        none = f"{' or '.join(target.against) or 'no peer'} not certified or not run"
        return (target.case, target.dtype, mine, quickest, none, "-", "-", promise, "open")
    almost = _almost(rows, best) if target.kind == "peer" else []
    for row in almost:
        assert row.verdict is not None
        remark += f" ({row.solver}: {short(_clock(row))}, {row.verdict.failures} of {row.verdict.signals} fail)"
    time = short(_clock(best)) + (f" x{best.extrapolated:.3g}" if best.extrapolated > 1 else "")
    start = (target.case, target.dtype, mine, quickest, best.solver + remark, time)
    if auto is None:
        return (*start, "-", promise, "missed")
    ratio = _clock(best) / _clock(auto)
    # with its last signals solved such a peer would decide
    named = [row for row in almost if not target.against or row.solver in target.against]
    decides = decides and all(_clock(row) / _clock(auto) >= target.least for row in named)
    verdict = "no target" if not target.least else "open" if not decides else "met" if ratio >= target.least else "missed"
    return (*start, f"{ratio:.2f}x", promise, verdict)


def _floor_line(row: Row, rates: dict[str, float]) -> tuple[str, ...]:
    share = floor_share(row, rates)
    if share is None or row.seconds is None:
        return (row.case, row.dtype, "-", "-", "its GEMM floor", "-", "-", "at most 1.5x", "open")
    over, floor, own = 1 / share, _clock(row) * share, short(_clock(row))
    verdict = "met" if over <= 1.5 else "missed"
    return (row.case, row.dtype, own, "-", "its GEMM floor", short(floor), f"{over:.1f}x over", "at most 1.5x", verdict)
