"""Rebuild the figures and tables of the papers: run every experiment of this folder, one after the other.

    python problems/figures.py                  or `make figures`: hours; a stopped run goes on
    python problems/figures.py --quick          small forms into figures-quick/: to see that all of them run
    python problems/figures.py --only mnist     experiments whose name holds this; may be given several times
    python problems/figures.py --list           their names, and what each shows

An experiment is a script of `inversions/` or `sparse/` with a command line of its own; it runs in a process of its own, so
one that fails leaves the others alone. Full results go to `results` beside the script where it keeps some there, else into a
folder of its name under --out; rows that were measured are kept, so that a second call measures what is missing and draws
again. `docs/pictures.py --mnist figures-logs/mnist` takes the pictures of the MNIST experiment into the pages. Where the
variable CVXINV_DATA names no data, experiments that need trained generators or digits are left out and named. The table at
the end counts the claims of the source that hold.
"""

import argparse
import ast
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cvxinv.files import write_whole

HERE = Path(__file__).resolve().parent
FOLDERS = ("inversions", "sparse")
NO_DATA = "CVXINV_DATA is not set"


@dataclass(frozen=True)
class Outcome:
    """What became of one experiment: "done", "failed" or "left out"; why, or how many claims hold; seconds of wall time."""

    name: str
    state: str
    words: str
    seconds: float


def scripts() -> dict[str, Path]:
    """Every experiment by name; a script that others import and that has no command line is none."""
    found = [path for folder in FOLDERS for path in sorted((HERE / folder).glob("*.py"))]
    return {path.stem: path for path in found if '__name__ == "__main__"' in path.read_text()}


def title(script: Path) -> str:
    """The first sentence of a script's docstring."""
    return (ast.get_docstring(ast.parse(script.read_text())) or "").split("\n", 1)[0]


def run(name: str, script: Path, *, quick: bool, out: Path) -> Outcome:
    """Run one experiment to its end. Its output goes to <out>/<name>.log; its errors are told, not raised."""
    log, started = out / f"{name}.log", time.perf_counter()
    results = script.parent / "results"
    folder = results if (results / f"{name}.json").exists() and not quick else out / name
    words = ["--quick"] * quick + ["--out", str(folder)] * (folder != results)
    with log.open("w") as file:
        done = subprocess.run([sys.executable, str(script), *words], stdout=file, stderr=subprocess.STDOUT, check=False)
    seconds = time.perf_counter() - started
    if done.returncode == 0:
        return Outcome(name, "done", claims(folder, name), seconds)
    last = ([line.strip() for line in log.read_text().splitlines() if line.strip()] or ["it said nothing"])[-1]
    if NO_DATA in last:
        return Outcome(name, "left out", "needs the data that CVXINV_DATA names", seconds)
    return Outcome(name, "failed", f"{last} (see {log})", seconds)


def claims(folder: Path, name: str) -> str:
    """How many claims hold, from <name>.json or results.json; where there are none, where the results are."""
    kept = [path for path in (folder / f"{name}.json", folder / "results.json") if path.exists()]
    record = json.loads(kept[0].read_text()) if kept else {}
    if "claims" not in record:
        return f"results in {folder}"
    held = [claim["held"] for claim in record["claims"]]
    words = f"{held.count(True)} of {len(held)} claims hold"
    return words + (f", {held.count(None)} cannot be told" if None in held else "")


def table(outcomes: Sequence[Outcome]) -> str:
    """All outcomes, as Markdown."""
    lines = ["| experiment | | | seconds |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {o.name} | {o.state} | {o.words} | {o.seconds:.0f} |" for o in outcomes])


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns 1 where an experiment failed, else 0."""
    parser = argparse.ArgumentParser(prog="figures.py", description="Run every experiment of the papers.")
    parser.add_argument("--quick", action="store_true", help="small forms, minutes in all")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="those whose name holds this")
    parser.add_argument("--list", action="store_true", help="names, and what each shows")
    parser.add_argument("--out", type=Path, help="folder of logs, and of quick results (figures-quick, figures-logs)")
    asked = parser.parse_args(arguments)
    chosen = {n: p for n, p in scripts().items() if not asked.only or any(part in n for part in asked.only)}
    if not chosen:
        parser.error(f"expected a part of one of {', '.join(scripts())}, got {', '.join(asked.only)}")
    if asked.list:
        print("\n".join(f"{name:24s}{title(path)}" for name, path in chosen.items()))
        return 0
    out = (asked.out or Path("figures-quick" if asked.quick else "figures-logs")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    bar = tqdm(chosen.items(), unit="experiment", disable=None)
    for name, script in bar:
        bar.set_postfix_str(name)
        outcomes.append(run(name, script, quick=asked.quick, out=out))
    found = table(outcomes)
    words = f"# The papers' experiments{', in their small forms' if asked.quick else ''}\n\n{found}\n"
    write_whole(out / "figures.md", words.encode())
    print(found)
    return int(any(outcome.state == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
