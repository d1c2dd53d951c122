"""How the cost of `solve` grows with the batch: seconds per signal and peak memory, up to 100,000 signals.

    python benchmarks/growth.py [--sizes 1,10,100,1000,10000,100000] [--only NAME] [--device cuda] [--out benchmarks/results]

Every size runs in a process of its own, so that its peak memory is its own. About ten minutes.
"""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from layer_cases import Case, lasso, latent, random_layer
from measuring import circumstances, clocked, median, plain
from rich.console import Console
from rich.table import Table
from runs import begin, write
from tqdm import tqdm

import cvxinv as ci

_MIB = 2**20
_ONCE = 5.0  # seconds above which a size is run once


def case_of(name: str, N: int) -> Case:
    """A case of N signals: 1000 drawn ones, repeated with their own scale each."""
    drawn = min(N, 1000)
    if name == "LASSO 784x392":
        rows, kind = random_layer(784, 392, drawn, before=128, relu=False), lasso
    elif name == "ReLU rows 392x128":
        rows, kind = random_layer(392, 128, drawn, before=20, relu=True), lasso
    else:
        rows, kind = random_layer(128, 20, drawn, before=0, relu=True), latent
    which = torch.arange(N) % drawn
    scale = (1 + torch.arange(N, dtype=torch.float64) / N)[:, None]
    many = replace(rows, y=rows.y[which] * scale, on=rows.on[which], noise=rows.noise[which] * scale)
    return Case(name, "gaussian", many, kind, ("float64",))


NAMES = ("LASSO 784x392", "ReLU rows 392x128", "latent 128x20")


def measure(name: str, N: int, device: str) -> dict:
    """Seconds of `solve` with its judgement, and the peak memory of this process beyond what it had before."""
    case = case_of(name, N)
    ci.solve(case.make(torch.arange(min(N, 4)), device=device), on_fail="ignore")  # what is loaded at the first call
    runs = []
    while len(runs) < 3 and sum(r.wall for r in runs) < _ONCE:
        problem = case.make(device=device)
        if not runs:
            given = _peak(device)
        solution, seconds = clocked(lambda p=problem: ci.solve(p, on_fail="ignore"), device)
        runs.append(seconds)
    spent = median(runs)
    return {
        "case": name, "N": N, "seconds": spent.process, "wall": spent.wall, "runs": len(runs),
        "peak_mib": (_peak(device) - given) / _MIB, "statuses": solution.certificate.counts(),
        "answer_mib": sum(t.nbytes for t in (solution.h, solution.p)) / _MIB, "steps": [str(s) for s in solution.steps],
    }  # fmt: skip


def _peak(device: str) -> int:
    """Bytes at the highest point so far: of the process, or of the device."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_a_process(name: str, N: int, device: str) -> dict:
    call = [sys.executable, __file__, "--one", name, "--sizes", str(N), "--device", device]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} with {N} signals ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def draw(rows: list[dict], path: Path, device: str) -> None:
    """Seconds per signal and memory per signal against the batch, with axes and a legend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    looks = (("#0072b2", "o-"), ("#d55e00", "s--"), ("#009e73", "^-."), ("#000000", "d:"))
    for k, name in enumerate(dict.fromkeys(r["case"] for r in rows)):
        colour, line = looks[k % len(looks)]
        mine = [r for r in rows if r["case"] == name]
        sizes = [r["N"] for r in mine]
        left.loglog(
            sizes, [1e3 * r["wall" if device != "cpu" else "seconds"] / r["N"] for r in mine], line, color=colour, label=name
        )
        right.loglog(sizes, [max(r["peak_mib"], 1.0) for r in mine], line, color=colour, label=name)
    left.set(xlabel="signals in the batch", ylabel="time per signal (ms)", title="solve with its certificate")
    right.set(xlabel="signals in the batch", ylabel="peak memory beyond the problem (MiB)", title="answers included")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def table(rows: list[dict]) -> list[list[str]]:
    return [
        [r["case"], f"{r['N']:,}", f"{r['seconds']:.3g}", f"{1e3 * r['seconds'] / r['N']:.3g}", f"{r['peak_mib']:.0f}",
         f"{r['answer_mib']:.0f}", ", ".join(f"{n} {s}" for s, n in r["statuses"].items())]
        for r in rows
    ]  # fmt: skip


_HEAD = ["case", "signals", "process s", "ms a signal", "peak MiB", "answers MiB", "statuses"]


def write_all(folder: Path, record: dict, device: str) -> list[Path]:
    """JSON, markdown and the picture, each whole or not at all."""
    at, stem = record["circumstances"], f"growth_{device}"
    lines = [
        "# How the cost grows with the batch", "",
        f"{at['processor']}, {at['device']}, {at['threads']} thread; commit {at['commit']}; {at['date']}; "
        f"load {at['load'][0]:.1f}. `solve`, auto, float64, certificate included. "
        "Peak: memory beyond the problem's own, answers included.", "",
        "| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD),
        *("| " + " | ".join(row) + " |" for row in table(record["rows"])), "", f"![growth]({stem}.png)",
    ]  # fmt: skip
    paths = write(folder, stem, record, "\n".join(lines))
    try:
        draw(record["rows"], folder / f"{stem}.png", device)
    except ModuleNotFoundError as absent:
        print(f"no picture: {absent.name} is not installed")
        return paths
    return [*paths, folder / f"{stem}.png"]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1,10,100,1000,10000,100000", help="batches, comma-separated")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=None, help="folder for JSON, markdown and the picture")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    arguments, console = parser.parse_args(), Console(width=160)
    if not begin(arguments.device):
        return
    sizes = [int(size) for size in arguments.sizes.split(",")]
    if arguments.one is not None:
        print(json.dumps(plain(measure(arguments.one, sizes[0], arguments.device))))
        return
    record = {"circumstances": circumstances(arguments.device), "rows": []}
    with tqdm([(name, N) for name in NAMES if arguments.only in name for N in sizes], disable=None) as bar:
        for name, N in bar:
            bar.set_postfix_str(f"{name}, {N} signals")
            record["rows"].append(in_a_process(name, N, arguments.device))
    shown = Table(*_HEAD)
    for row in table(record["rows"]):
        shown.add_row(*row)
    console.print(shown)
    for path in write_all(arguments.out, record, arguments.device) if arguments.out is not None else []:
        console.print(f"written: {path}")


if __name__ == "__main__":
    main()
