"""Which method to take, and why, in words that follow from the rows of a comparison.

One after the other decide, among those that are equal so far: how many signals are explained; whose z is the true one,
where the truth is known; in gaussian and l2 noise, and where nothing is explained, for how many signals the misfit is the
lowest of all methods to 1 %, unless a prior is weighed against it; the time, equal within 25 %. A method that was told
the truth is no candidate. What decides is said, and whether chance could have decided so: of the signals on which two
methods differ, each is then a fair coin (the sign test).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, isfinite

import numpy as np

from .row import REFUSED, SUCCESS, ComparisonRow

_CHANCE = 0.05  # two-sided
_MISFIT, _TIME = 0.01, 0.25  # relative differences that count as none
_FASTER, _NEARLY = 3.0, 0.9  # a method this many times faster that explains this share as many is worth a word


@dataclass(frozen=True)
class Advice:
    """best: the name of the method to take; None where there is none. words: that, and why."""

    best: str | None
    words: str


@dataclass(frozen=True)
class _Criterion:
    """What can tell methods from each other.

    name: in words. value: smaller is better, NaN worst; slack: relative difference that counts as none. words: for the
    value. counted: which signals it counts, bool `(N,)`, where it counts some.
    """

    name: str
    value: Callable[[ComparisonRow], float]
    slack: float
    words: Callable[[ComparisonRow], str]
    counted: Callable[[ComparisonRow], np.ndarray | None] = lambda row: None

    def left(self, rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
        """Those that are as good as the best."""
        values = [_number(self.value(row)) for row in rows]
        best = min(values)
        most = best + self.slack * abs(best) if isfinite(best) else best
        return [row for row, v in zip(rows, values, strict=True) if v <= most]

    def decided(self, kept: Sequence[ComparisonRow], others: Sequence[ComparisonRow]) -> str:
        """What tells some from the others, by the best of these, and whether that may be chance."""
        first, next_ = (min(rows, key=lambda row: _number(self.value(row))) for rows in (kept, others))
        words = f"{self.name}: {_listed([row.name for row in kept])} {self.words(first)}"
        words += f", then {next_.name} {self.words(next_)}"
        a, b = self.counted(first), self.counted(next_)
        chance = 0.0 if a is None or b is None else by_chance(a, b)
        return f"{words}." if chance < _CHANCE else f"{words}; on so few signals that may be chance (p = {chance:.2g})."

    def equal(self, rows: Sequence[ComparisonRow]) -> str:
        """That it tells nobody from the others."""
        return f"{self.name}: {self.words(rows[0])} by {'both' if len(rows) == 2 else f'all {len(rows)}'}."


def recommend(rows: Sequence[ComparisonRow], noisy: bool) -> Advice:
    """The method to take among rows of the same signals; noisy: whether noise asks for a small misfit."""
    running = _candidates(rows)
    if not running:
        refused = [f"{row.name}: {row.reason}" for row in rows if not row.ran]
        words = f" {'; '.join(refused)}" if refused else ""
        return Advice(None, f"No method that competes has run on this task.{words}")
    any_ = np.any([row.explained for row in running], axis=0)
    left, said = running, list[str]()
    for criterion in _criteria(running, noisy or not any_.any()):
        kept = criterion.left(left)
        others = [row for row in left if row not in kept]
        if len(left) > 1:
            said.append(criterion.decided(kept, others) if others else criterion.equal(left))
        left = kept
    best = min(left, key=lambda row: _number(row.seconds))
    sentences = [_head(best, left, running, any_), *said, *_of_time(best, running), *_cautions(best, any_)]
    return Advice(best.name, " ".join(sentences))


def _criteria(rows: Sequence[ComparisonRow], by_misfit: bool) -> list[_Criterion]:
    """What decides, in its order."""
    found = [
        _Criterion("Signals explained", lambda row: -int(row.explained.sum()), 0.0, _explained_words, lambda r: r.explained)
    ]
    if all(row.succeeded is not None for row in rows):
        found.append(_Criterion(f"True z found to {SUCCESS:g}", _not_found, 0.0, _found_words, lambda row: row.succeeded))
    if by_misfit:
        found.append(_lowest_misfit(rows))
    return [*found, _Criterion("Time per signal", lambda row: row.seconds, _TIME, _time_words)]


def _lowest_misfit(rows: Sequence[ComparisonRow]) -> _Criterion:
    lowest = np.min([_misfits(row) for row in rows], axis=0)

    def near(row: ComparisonRow) -> np.ndarray:
        return _misfits(row) <= (1 + _MISFIT) * np.where(np.isfinite(lowest), lowest, -1)

    def words(row: ComparisonRow) -> str:
        return f"{int(near(row).sum())} of {row.N} (median {median_misfit(row):.3g} |y|)"

    return _Criterion(f"Lowest misfit to {_MISFIT:.0%}", lambda row: -int(near(row).sum()), 0.0, words, near)


def _misfits(row: ComparisonRow) -> np.ndarray:
    """|A G(z) - y|, signal units, `(N,)`, inf where it is not known."""
    assert row.misfit is not None  # it ran
    return np.where(np.isnan(row.misfit.numpy()), np.inf, row.misfit.numpy())


def _candidates(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    return [row for row in rows if row.ran and not row.knows]


def median_misfit(row: ComparisonRow) -> float:
    """The median of |A G(z) - y| / |y| over the signals that have one; NaN where none has."""
    share = row.relative_misfit
    if share is None:
        return float("nan")
    good = share[share.isfinite()]
    return float(np.median(good.numpy())) if len(good) else float("nan")


def _not_found(row: ComparisonRow) -> float:
    return 0.0 if row.succeeded is None else -float(row.succeeded.sum())


def _number(value: float) -> float:
    return value if isfinite(value) else float("inf")


# --- words ----------------------------------------------------------------------------------------


def _head(best: ComparisonRow, left: list[ComparisonRow], running: list[ComparisonRow], any_: np.ndarray) -> str:
    if len(running) == 1:
        return f"Take {best.name}: no other method competes here; it explains {_explained_words(best)} signals."
    if not any_.any():
        return f"No method explains any of the {best.N} signals; {best.name} comes nearest."
    if len(left) > 1:
        others = _listed([row.name for row in left if row is not best])
        return f"Take {best.name}; {others} came out equal, in time to {_TIME:.0%}."
    return f"Take {best.name}."


def by_chance(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the sign test on the signals, bool `(N,)` each, on which two methods differ."""
    one, other = int((a & ~b).sum()), int((~a & b).sum())
    n, k = one + other, min(one, other)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)


def _explained_words(row: ComparisonRow) -> str:
    return f"{int(row.explained.sum())} of {row.N}"


def _found_words(row: ComparisonRow) -> str:
    return f"{-int(_not_found(row))} of {row.N}"


def _time_words(row: ComparisonRow) -> str:
    return time_words(row.seconds_per_signal)


def time_words(seconds: float) -> str:
    """Seconds in three digits with a unit that suits them; "unknown" for NaN."""
    if not isfinite(seconds):
        return "unknown"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _of_time(best: ComparisonRow, running: list[ComparisonRow]) -> list[str]:
    """A much faster method that does nearly as well, where there is one."""
    near = [row for row in running if row.seconds * _FASTER < best.seconds and _nearly(row, best)]
    if not near:
        return []
    fast = min(near, key=lambda row: row.seconds)
    words = f"{_time_words(fast)} in place of {_time_words(best)} per signal, {_explained_words(fast)} explained"
    return [f"Where time counts more: {fast.name}, {words}."]


def _nearly(row: ComparisonRow, best: ComparisonRow) -> bool:
    """Whether it explains nearly as many signals, and finds nearly as many true latents where these are known."""
    many = 0 < _NEARLY * best.explained.sum() <= row.explained.sum()
    return many and _NEARLY * -_not_found(best) <= -_not_found(row)


def _cautions(best: ComparisonRow, any_: np.ndarray) -> list[str]:
    """What none could do, and what an explained signal does not say."""
    words = []
    if any_.any() and not any_.all():
        words.append(f"{int((~any_).sum())} of {best.N} signals explained by none.")
    if (
        best.succeeded is not None
        and best.explained.sum() > (best.explained & best.succeeded).sum()
        and not _noise_like(best)
    ):
        wrong = int((best.explained & ~best.succeeded).sum())
        words.append(
            f"For {wrong} of the signals that it explains its z is not the true one to {SUCCESS:g}: what was seen, at its "
            "precision, leaves z open."
        )
    elif best.determined is not None and not bool(best.determined[best.explained].all()):
        loose = int((~best.determined[best.explained]).sum())
        words.append(f"For {loose} of the signals that it explains what was seen does not determine z, not even near by.")
    return words


def _noise_like(row: ComparisonRow) -> bool:
    """Whether what is explained is so within noise: then no z can be expected to be the true one to many digits."""
    share = row.relative_misfit
    if share is None:
        return False
    kept = share[row.explained]
    return bool(len(kept)) and float(kept.max()) > SUCCESS


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def where_not_best(rows: Sequence[ComparisonRow], name: str, noisy: bool) -> str:
    """Where the method `name` is not the one to take among the rows: what is ahead, and by what; "" where nothing is."""
    mine = next((row for row in rows if row.name == name), None)
    advice = recommend(rows, noisy)
    if mine is None or advice.best in (None, name):
        return ""
    if not mine.ran:
        return f"{name} {'refuses' if mine.outcome == REFUSED else 'fails'}: {mine.reason}"
    first = next(row for row in rows if row.name == advice.best)
    running = _candidates(rows)
    for criterion in _criteria(running, noisy or not any(row.explained.any() for row in running)):
        if criterion.left([first, mine]) == [first]:
            name = f"{criterion.name[0].lower()}{criterion.name[1:]}"
            return f"{first.name} is ahead in {name}: {criterion.words(first)}, {mine.name} {criterion.words(mine)}"
    return f"{first.name} is as good; time per signal {_time_words(first)}, {mine.name} {_time_words(mine)}"
