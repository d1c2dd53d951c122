"""The frame of an experiment: rows that are kept as they are measured, claims of the source beside what came out, tables.

No experiment stands here. A file beside it holds one: `EXPERIMENT`, and as a script

    python problems/inversions/<name>.py              measures every row that is not yet in --out, and writes the results
    python problems/inversions/<name>.py --quick      few and small rows, seconds: to see that it runs; the tests do
    python problems/inversions/<name>.py --out DIR    where rows and results go; a stopped run goes on there
    python problems/inversions/<name>.py --added      takes the rows that <name>.json of --out has, measures what was added
    python problems/inversions/<name>.py --redraw     page and pictures anew from <name>.json of --out; nothing is measured

A row is what one setting gave: `measure(setting)` returns numbers by name. Rows are appended to DIR/<name>.rows.jsonl as
they are done, so a stopped run loses one at most; a row is measured again where its setting changed. At the end stand
<name>.json (rows, claims, versions, the command), <name>.md (the same to read) and what `draw` makes of the rows.

A claim has a tag for where it comes from: T read in the source's text, C in its code, F off a figure by eye, D derived here,
O an own earlier run, M as recalled, and not read anywhere. One that does not hold is shown as not holding.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import cvxinv as ci
from cvxinv.files import write_whole

RESULTS = Path(__file__).parent / "results"
TAGS = {
    "T": "text of the source", "C": "code of the source", "F": "figure, by eye", "D": "derived",
    "O": "own earlier run", "M": "as recalled",
}  # fmt: skip
Row = dict[str, Any]

# of lines in a picture: colours that stay apart for colour-blind readers (Okabe and Ito), and dashes where lines overlap
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#111111", "#cc79a7", "#e69f00")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 2)))
_MARKERS = "osv^DP"


def look(index: int) -> Row:
    """Colour, dashes and marker of the line with an index, from 0, as keywords of matplotlib's `plot`."""
    place, turn = index % len(_COLOURS), index // len(_COLOURS)  # a second turn has other dashes and hollow markers
    line = {"color": _COLOURS[place], "linestyle": _DASHES[(place + 2 * turn) % len(_DASHES)], "marker": _MARKERS[place]}
    return line | {"markersize": 5, "markerfacecolor": "none" if turn else _COLOURS[place]}


@dataclass(frozen=True)
class Claim:
    """What must come out, where that is from (`TAGS`), what came out in words, and whether it held; None: cannot be told."""

    text: str
    tag: str
    measured: str
    held: bool | None

    def __post_init__(self) -> None:
        if self.tag not in TAGS:
            raise ValueError(f"expected a tag of {', '.join(TAGS)}, got {self.tag!r}")


@dataclass(frozen=True)
class Experiment:
    """A published experiment as a named instance.

    name: that of its file. title: one line. source: authors, year, section. settings: of `quick`, the setting of each row,
    numbers and words only. measure: of a setting, what came out by name; it says nothing of other rows. claims: of all rows
    (each a setting and what it gave), what the source says of them. draw: of all rows and a folder, pictures; or None.
    columns: of a row that are shown in the table, all where left out. differences: from what the source describes, each
    explained; shown behind the claims. captions: of each picture that `draw` makes, in order, what there is to see, for
    those who do not see it.
    """

    name: str
    title: str
    source: str
    settings: Callable[[bool], Sequence[Row]]
    measure: Callable[[Row], Row]
    claims: Callable[[list[Row]], list[Claim]]
    draw: Callable[[list[Row], Path], list[Path]] | None = None
    columns: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()

    def main(self, arguments: list[str] | None = None) -> dict[str, Any]:
        """Run it, or go on; print table and claims; write the results. Returns the record that <name>.json holds."""
        words = sys.argv[1:] if arguments is None else arguments
        parser = argparse.ArgumentParser(prog=f"{self.name}.py", description=self.title)
        parser.add_argument("--quick", action="store_true", help="few and small rows: seconds")
        parser.add_argument("--out", type=Path, help="folder of rows and results")
        parser.add_argument("--redraw", action="store_true", help="page and pictures anew from the results that are there")
        parser.add_argument(
            "--added", action="store_true", help="take rows from the results that are there, measure the rest"
        )
        asked = parser.parse_args(words)
        out = asked.out or (Path(f"{self.name}-quick") if asked.quick else RESULTS)
        out.mkdir(parents=True, exist_ok=True)
        kept = out / f"{self.name}.json"
        if asked.redraw:
            record = json.loads(kept.read_text())
        else:
            settings = list(self.settings(asked.quick))
            before = json.loads(kept.read_text()) if asked.added else {"rows": []}
            taken = _taken(settings, before["rows"])
            rows = self._rows(settings, out / f"{self.name}.rows.jsonl", taken)
            record = self._record(rows, words)
            if taken:
                record["commit"] += f", {len(taken)} of {len(rows)} rows of {before['commit']}"
        pictures = self.draw(record["rows"], out) if self.draw is not None else []
        text = self.page(record, [path.name for path in pictures])
        print(text)
        write_whole(kept, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
        write_whole(out / f"{self.name}.md", text.encode())
        return record

    def page(self, record: Row, pictures: Sequence[str]) -> str:
        """What came out, to read: circumstances, claims, differences, pictures (their paths), and the rows."""
        words = [*self.captions, *([self.title] * len(pictures))]
        shown = "".join(f"![{caption}]({path})\n\n" for path, caption in zip(pictures, words, strict=False))
        return self._about(record) + shown + self._table(record) + "\n"

    def _rows(self, settings: list[Row], kept: Path, taken: dict[str, Row]) -> list[Row]:
        known = taken | {_key(row["setting"]): row for row in _lines(kept)}
        rows = []
        for setting in tqdm(settings, desc=self.name, unit="row", disable=None):
            row = known.get(_key(setting))
            if row is None:
                started = time.perf_counter()
                found = _plain(self.measure(setting))
                row = {"setting": setting, "found": found, "seconds": round(time.perf_counter() - started, 3)}
                _append(kept, json.dumps(row, allow_nan=False))
            rows.append(row["setting"] | row["found"] | {"seconds": row["seconds"]})
        return rows

    def _record(self, rows: list[Row], words: Sequence[str]) -> dict[str, Any]:
        return {
            "experiment": self.name, "title": self.title, "source": self.source,
            "command": " ".join(["python", f"problems/inversions/{self.name}.py", *words]),
            "claims": [asdict(claim) for claim in self.claims(rows)], "rows": rows,
            "versions": {"cvxinv": ci.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "commit": _commit(), "threads": torch.get_num_threads(), "device": "cpu",
        }  # fmt: skip

    def _about(self, record: Row) -> str:
        verdict = {True: "holds", False: "does not hold", None: "cannot be told"}
        claims = [(c["text"], TAGS[c["tag"]], c["measured"], verdict[c["held"]]) for c in record["claims"]]
        table = _table(("what must come out", "evidence", "what came out", "verdict"), claims)
        if self.differences:
            table += "\n\nDifferences from the source's description, and why:\n\n"
            table += "\n".join(f"- {line}" for line in self.differences)
        return f"# {self.title}\n\n{record['source']}\n\n`{record['command']}`, {_circumstances(record)}\n\n{table}\n\n"

    def _table(self, record: Row) -> str:
        columns = self.columns or tuple(dict.fromkeys(name for row in record["rows"] for name in row))
        return _table(columns, [[_shown(row.get(name, "")) for name in columns] for row in record["rows"]])


# --- data that is not shipped ----------------------------------------------------------------------


def trained_generator(name: str) -> ci.Generator:
    """A trained generator of the folder that CVXINV_DATA names, in float64."""
    G = ci.load_generator(_data() / "generators" / f"{name}.safetensors").to(torch.float64)
    assert isinstance(G, ci.Generator)
    return G


def digits(index: slice | Sequence[int]) -> torch.Tensor:
    """The MNIST test digits at an index, `(N, 784)`, in [0, 1]."""
    with np.load(_data() / "datasets" / "mnist_test.npz") as held:
        images = held["images"][index]
    return torch.from_numpy(images.reshape(len(images), -1) / 255.0)


def digit_labels() -> np.ndarray:
    """What digit each of them shows, `(10000,)`."""
    with np.load(_data() / "datasets" / "mnist_test.npz") as held:
        labels: np.ndarray = held["labels"]
    return labels


def shipped_samples(signals: int) -> tuple[ci.Generator, torch.Tensor]:
    """The shipped generator of digits, and its own samples `(signals, 784)`."""
    G = ci.load_generator("mnist_gan").to(torch.float64)
    return G, G(G.sample_latent(signals, torch.Generator().manual_seed(0)))


def _data() -> Path:
    if not os.environ.get("CVXINV_DATA"):
        raise FileNotFoundError("CVXINV_DATA is not set: it names the folder with generators/ and datasets/")
    return Path(os.environ["CVXINV_DATA"])


def quantiles(values: torch.Tensor | Sequence[float]) -> Row:
    """Median and the 10, 25, 75 and 90 % quantiles, by name."""
    data = np.asarray([float(v) for v in values])
    return {f"q{round(100 * q)}": float(np.quantile(data, q)) for q in (0.1, 0.25, 0.5, 0.75, 0.9)}


def _circumstances(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{versions}, commit {record['commit']}, {record['threads']} thread(s), {record['device']}, float64"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _key(setting: Row) -> str:
    return json.dumps(setting, sort_keys=True)


def _taken(settings: Sequence[Row], rows: Sequence[Row]) -> dict[str, Row]:
    """Of settings by `_key`, the rows of a record that have them, as they stand in a file of rows."""
    found = {}
    for setting in json.loads(json.dumps(settings)):
        for row in rows:
            if setting.items() <= row.items():
                rest = {name: value for name, value in row.items() if name not in setting and name != "seconds"}
                found[_key(setting)] = {"setting": setting, "found": rest, "seconds": row["seconds"]}
    return found


def _lines(path: Path) -> list[Row]:
    """The rows of a file; a line that was cut off is none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _append(path: Path, line: str) -> None:
    """One line more; after a line that was cut off it begins anew."""
    cut = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write(("\n" if cut else "") + line + "\n")


def _plain(found: Row) -> Row:
    """Numbers as Python's, and infinite ones as words: JSON has none."""
    plain = {}
    for name, value in found.items():
        number = value.item() if isinstance(value, (torch.Tensor, np.generic)) else value
        finite = not isinstance(number, float) or np.isfinite(number)
        plain[name] = number if finite else str(number)
    return plain


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
