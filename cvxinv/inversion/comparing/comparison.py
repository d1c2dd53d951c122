"""`Comparison`: what `compare` gives back, and its folder.

comparison.safetensors    numbers per signal, `<row>.<name>`, rows counted from 0
comparison.json           names, options, statuses and reasons of the rows, the settings, the tensors' sha256
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ...entries import Arrays, Entries
from ...errors import BackendNotInstalledError
from ...files import near, read_head, read_tensors, write_pair
from ...surroundings import undisturbed
from ...tables import html_table
from ..proof_files import read_settings
from ..storage import check_writable
from .folder import FILES
from .recommending import Advice, median_misfit, recommend, time_words
from .row import SUCCESS, ComparisonRow

if TYPE_CHECKING:
    from pandas import DataFrame

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LATE = 1.25  # times the allowed seconds, from which on it is said
_TENSORS, _SPEC = "comparison.safetensors", "comparison.json"
_FORMAT, _VERSION = "cvxinv comparison format", 1
_UNITS = {"seconds per signal": "s", "misfit": "signal units", "size": "signal units"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods of inversion on the same signals, from the same starts, within the same budget.

    rows: one per method, in the order asked for; one that did not run says why. settings: what was compared on, and the
    budget; versions: what ran. What "the same budget" means, and what it does not, is told in `compare`.
    """

    rows: tuple[ComparisonRow, ...]
    settings: dict[str, Any]
    versions: dict[str, str]

    @cached_property
    def advice(self) -> Advice:
        """Which method to take and why; its `best` is the name, None where there is none."""
        # bounds in other norms ask for no small l2 misfit, and a prior is weighed against it
        by_misfit = str(self.settings.get("noise")).startswith(("gaussian", "l2", "auto")) and "prior" not in self.settings
        return recommend(self.rows, by_misfit)

    @property
    def recommendation(self) -> str:
        """Which method to take here and why, in words; one that was told the truth is never it.

        By signals explained, then true latents found (where the truth is known), then in noise the lowest misfit, then time;
        ties are said, and differences that may be chance.
        """
        return self.advice.words

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> ComparisonRow:
        """The row of the method of that name in the table. Raises KeyError that lists the names."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"expected one of {', '.join(row.name for row in self.rows)}, got {name!r}")

    @undisturbed
    def table(self) -> str:
        """One line per method: how many are explained and found, medians, time, statuses; aligned, and valid Markdown."""
        head, *body = self.cells()
        widths = [max(len(row[k]) for row in (head, *body)) for k in range(len(head))]
        lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *body)]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def cells(self) -> list[list[str]]:
        """The words of the table, its head first; columns that no row has anything in are left out."""
        table = [[column.head, *(column.words(row) for row in self.rows)] for column in _COLUMNS]
        return [list(line) for line in zip(*(column for column in table if any(column[1:])), strict=True)]

    @undisturbed
    def summary(self) -> str:
        """The setting, the table and the recommendation: some lines for a person."""
        return "\n".join([self.heading, self.table(), self.recommendation, *self.remarks()])

    @property
    def heading(self) -> str:
        """What was compared on, in one line."""
        s = self.settings
        words = [
            f"{_counted(s['signals'], 'signal')} of {s['generator']} ({s['latents']} latents, {s['entries']} entries)",
            s["seen"],
        ]
        words += [f"noise {s['noise']}"] if s.get("noise") else []
        return f"{_counted(len(self.rows), 'method')} on {', '.join(words)}; {self.budget}"

    @property
    def budget(self) -> str:
        """What each method was allowed, in words."""
        s = self.settings
        words = ["their own numbers of random starts" if s["restarts"] is None else f"at most {s['restarts']} random starts"]
        words += [f"{s['time_limit']:g} s for each method"] if s.get("time_limit") else []
        words += [f"{s['signal_time_limit']:g} s for each signal"] if s.get("signal_time_limit") else []
        return ", ".join(words)

    @property
    def allowed(self) -> float:
        """Seconds that each method was allowed in all; inf without a limit."""
        all_, each = self.settings.get("time_limit"), self.settings.get("signal_time_limit")
        return min(all_ or inf, each * self.settings["signals"] if each else inf)

    def _late(self) -> list[ComparisonRow]:
        """Methods that look at the clock too seldom for the limit that was set."""
        return [row for row in self.rows if row.seconds > _LATE * self.allowed]

    def remarks(self) -> list[str]:
        """What is to be known of the table."""
        knowing = [row.name for row in self.rows if row.knows]
        words = [f"{', '.join(knowing)}: told the true latents, and no candidate."] if knowing else []
        found = any(row.succeeded is not None for row in self.rows)
        words += [f"{row.name} took {time_words(row.seconds)} of {time_words(self.allowed)}" for row in self._late()]
        words += [f"z found: |z - true z| <= {SUCCESS:g} |true z|."] if found else []
        if found and self.versions.get("signals in") == "torch.float32":
            words.append(f"The signals came in float32, which may not tell z to {SUCCESS:g}.")
        if self.settings.get("noise") == "auto":
            words.append("Each method was judged by the noise level of its own fit: of a bad fit it is larger.")
        return words + [f"{row.name} {row.outcome}: {row.reason}" for row in self.rows if not row.ran]

    @undisturbed
    def _repr_html_(self) -> str:
        head, *body = self.cells()
        return html_table(self.heading, head, body, [self.recommendation, *self.remarks()])

    def __repr__(self) -> str:
        return self.summary()

    @undisturbed
    def to_pandas(self) -> "DataFrame":
        """A row for each method that ran and each signal, under the index (method, signal).

        Raises BackendNotInstalledError without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise BackendNotInstalledError("to_pandas needs pandas, which is not installed: pip install pandas") from error

        parts = {row.name: pd.DataFrame(_columns(row)) for row in self.rows if row.ran}
        if not parts:
            return pd.DataFrame()
        table = pd.concat(parts, names=["method", "signal"])
        table.attrs |= {"units": _UNITS | {name: "dB" for name in table.columns if name.startswith("snr ")}}
        return table

    def to_dict(self) -> dict[str, Any]:
        """Settings, the numbers of each method over all signals, and the recommendation, for JSON."""
        return {
            "settings": self.settings, "versions": self.versions, "best": self.advice.best,
            "recommendation": self.recommendation, "success_threshold": SUCCESS,
            "methods": [_totals(row) for row in self.rows],
        }  # fmt: skip

    @undisturbed
    def save(self, folder: str | Path) -> Path:
        """Write it into `folder`, made where it is missing, each of two files whole or not at all; returns the folder."""
        folder = check_writable(folder, FILES)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"{k}.{name}": value for k, row in enumerate(self.rows) for name, value in row.tensors().items()}
        spec = {
            "format": _FORMAT, "version": _VERSION, "settings": self.settings, "versions": self.versions,
            "rows": [row.spec() for row in self.rows],
        }  # fmt: skip
        write_pair(folder / _TENSORS, tensors, folder / _SPEC, spec)
        return folder

    @staticmethod
    def load(folder: str | Path) -> "Comparison":
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError where a file is damaged or of another kind."""
        folder = Path(folder)
        for name in (_SPEC, _TENSORS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"expected {name} in {folder}, found none; {near(folder / name, ('.json',))}")
        spec = read_head(folder / _SPEC, _FORMAT, _VERSION, "pass the folder of a comparison")
        words = Entries(str(folder / _SPEC), spec)
        tensors = read_tensors(folder / _TENSORS, words.text("sha256"), _SPEC, "comparison")
        arrays, settings = Arrays(str(folder / _TENSORS), tensors), _read_settings(words)
        rows = [
            ComparisonRow.read(entry, arrays.under(f"{k}."), settings["signals"])
            for k, entry in enumerate(words.inners("rows"))
        ]
        if not rows:
            words.refuse("rows", "a list of at least one object")
        return Comparison(tuple(rows), settings, words.names("versions"))


def _read_settings(words: Entries) -> dict[str, Any]:
    """What was compared on; what is told of it is of its kind. Raises ValueError."""
    settings = words.inner("settings")
    for name in ("signals", "latents", "entries"):
        settings.count(name, least=1)
    settings.text("seen")
    if settings.plain("restarts") is not None:
        settings.count("restarts")
    for name in ("time_limit", "signal_time_limit"):
        if settings.has(name):
            settings.number(name, least=0)
    settings.text("generator")
    return read_settings(words)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


# --- numbers and words ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    head: str
    words: Any  # of a row; "" where it has nothing to say


def quantiles(values: Tensor | None) -> list[float] | None:
    """The 10, 25, 50, 75 and 90 % quantiles over the signals that have a finite value; None where none has."""
    good = None if values is None else values[values.isfinite()].double().numpy()
    return None if good is None or len(good) == 0 else [float(q) for q in np.quantile(good, QUANTILES)]


def _middle(values: Tensor | None, form: str) -> str:
    found = quantiles(values)
    return "" if found is None else form.format(found[2])


def _spread(values: Tensor | None) -> str:
    found = quantiles(values)
    return "" if found is None else f"{found[2]:.0f} ({found[0]:.0f} to {found[4]:.0f})"


def _statuses(row: ComparisonRow) -> str:
    return ", ".join(f"{count} {word}" for word, count in row.counts().items()) if row.ran else row.outcome


def _share(those: np.ndarray | None) -> str:
    return "" if those is None or len(those) == 0 else f"{int(those.sum())} of {len(those)}"


_COLUMNS: Sequence[_Column] = (
    _Column("method", lambda row: row.name + (" (knows)" if row.knows else "")),
    _Column("explained", lambda row: _share(row.explained)),
    _Column("z found", lambda row: _share(row.succeeded)),
    _Column("SNR z, dB, 10 to 90 %", lambda row: _spread(row.snr.get("z"))),
    _Column("SNR signal, dB", lambda row: _spread(row.snr.get("signal"))),
    _Column("misfit, of y", lambda row: "" if not row.ran else f"{median_misfit(row):.1e}"),
    _Column("error unseen", lambda row: _middle(row.unseen_error, "{:.1e}")),
    _Column("time a signal", lambda row: "" if not row.ran else time_words(row.seconds_per_signal)),
    _Column("starts", lambda row: "" if row.starts is None else f"{float(row.starts.double().mean()):.3g}"),
    _Column("iterations", lambda row: _middle(row.iterations, "{:.0f}")),
    _Column("statuses", lambda row: _statuses(row)),
)


def _columns(row: ComparisonRow) -> dict[str, Any]:
    """What is known of each signal, `(N,)` each."""
    found: dict[str, Any] = {"status": row.status, "explained": row.explained}
    found |= {} if row.succeeded is None else {"z found": row.succeeded}
    found |= {} if row.relative_misfit is None else {"relative misfit": row.relative_misfit.numpy()}
    found |= {name.replace("_", " "): value.numpy() for name, value in row.tensors().items() if "." not in name}
    found |= {f"snr {name}": value.numpy() for name, value in row.snr.items()}
    return found | {"seconds per signal": np.full(row.N, row.seconds_per_signal)}


def _totals(row: ComparisonRow) -> dict[str, Any]:
    """The numbers of a method over all signals; None where there are none."""
    return {
        "name": row.name, "method": row.method, "options": row.options, "outcome": row.outcome, "reason": row.reason,
        "knows_the_truth": row.knows, "signals": row.N, "statuses": row.counts(),
        "explained": int(row.explained.sum()) if row.ran else None,
        "found": None if row.succeeded is None else int(row.succeeded.sum()),
        "snr_quantiles": {name: quantiles(value) for name, value in row.snr.items()},
        "relative_misfit_quantiles": quantiles(row.relative_misfit), "unseen_error_quantiles": quantiles(row.unseen_error),
        "determined": None if row.determined is None else int(row.determined.sum()),
        "starts": None if row.starts is None else float(row.starts.double().mean()),
        "iterations_quantiles": quantiles(row.iterations),
        "seconds_per_signal": row.seconds_per_signal if row.ran else None, "notes": list(row.notes),
    }  # fmt: skip
