"""200,000 signals of a small generator in bounded memory: `invert_stream`, and the most memory that the process ever took.

    python benchmarks/streamed.py --out benchmarks/results           # some minutes
    python benchmarks/streamed.py --signals 2000                     # small: to see that it runs

Data: a random ReLU generator 8 -> 32 -> 64 in float64, signals G(z) of latents drawn from N(0, I), written to y.npy a part
at a time, and a mask per signal that hides 20 % of its entries. Levenberg-Marquardt from at most ten random starts.

Peaks are of resident memory, in MB: of the process before it inverts (Python, torch and the package), of half the signals,
and of all of them. What grows with the signals would show between the last two. Each is a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import circumstances
from runs import begin, load_after, write
from tables import Table
from torch import nn

import cvxinv as ci

ABOUT = "".join(__doc__.partition("Data:")[1:]).strip()
D, N0, PART = 64, 8, 10_000


def generator() -> ci.Generator:
    torch.manual_seed(0)
    return ci.load_generator(nn.Sequential(nn.Linear(N0, 32), nn.ReLU(), nn.Linear(32, D)), dtype=torch.float64)


def write_signals(folder: Path, signals: int) -> None:
    G, source = generator(), torch.Generator().manual_seed(1)
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", "float64", (signals, D))
    seen = np.lib.format.open_memmap(folder / "mask.npy", "w+", "bool", (signals, D))
    for start in range(0, signals, PART):
        stop = min(start + PART, signals)
        y[start:stop] = G(G.sample_latent(stop - start, source)).numpy()
        seen[start:stop] = (torch.rand(stop - start, D, generator=source) > 0.2).numpy()


def child(folder: str) -> None:
    """One process: what it took before and in the end."""
    G, before = generator(), peak()
    began = time.perf_counter()
    found = ci.invert_stream(
        G, f"{folder}/y.npy", f"{folder}/out", "levenberg_marquardt", measurement=f"{folder}/mask.npy", restarts=10,
        progress=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    told = {"signals": len(found), "before": before, "peak": peak(), "seconds": seconds}
    print(json.dumps(told | {"chunk": found.spec["settings"]["chunk"], "counts": found.counts()}))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--signals", type=int, default=200_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    begin("cpu")
    if args.child:
        child(args.child)
        return
    record = {"circumstances": circumstances("cpu"), "runs": []}
    for signals in (args.signals // 2, args.signals):
        with tempfile.TemporaryDirectory() as folder:
            write_signals(Path(folder), signals)
            done = subprocess.run([sys.executable, __file__, "--child", folder], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            record["runs"].append(json.loads(done.stdout.splitlines()[-1]))
        print(record["runs"][-1])
    record |= load_after(record)
    names = ("signals", "chunk", "before", "peak", "seconds", "counts")
    rows = [tuple(f"{r[name]:,.0f}" if name != "counts" else str(r[name]) for name in names) for r in record["runs"]]
    header = ("signals", "chunk", "MB before", "MB at most", "seconds", "statuses")
    table = Table("signals that are streamed: memory", header, rows)
    if args.out is not None:
        write(args.out, "streamed_cpu", record, f"# Streamed signals\n\n{ABOUT}\n\n{table.markdown()}")


if __name__ == "__main__":
    main()
