"""Wide and convolutional generators beside the dense ones: how many z `hybrid` finds, in what time, and by which start.

    python benchmarks/wide.py [--signals 20] [--only NAME] [--out benchmarks/results]

Data: the trained generators of the folder CVXINV_DATA, as trained and read before their output. Signals: their own, of the
first latents of torch.Generator().manual_seed(0), clean and with 45 % of the entries hidden at random, a mask for each.
Found: |z - z_true| <= 1e-6 |z_true|; of a generator whose z is not determined, explained is what counts. Convolutional ones
one signal at a time, dense ones in one call. Seconds: process time on one thread; `first` includes what is learnt of a
generator once.
"""

import argparse
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import torch
from measuring import circumstances
from rich.console import Console
from rich.table import Table
from runs import begin, load_after, write
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci

HIDDEN = 0.45
COLUMNS = ("generator", "output", "seen", "found", "explained", "determined", "median s", "first s", "worst s", "by")


def is_wide(G: ci.Generator) -> bool:
    return not all(isinstance(layer.W, ci.Dense) for layer in G.layers)


def measure(G: ci.Generator, N: int, hidden: float) -> dict:
    """One row: N signals of a generator, of which a share is hidden."""
    z = torch.randn(N, G.latent_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = G(z)
    masks = torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) > hidden if hidden else None
    size = 1 if is_wide(G) else N
    seconds, parts = [], []
    for start in tqdm(range(0, N, size), leave=False, disable=size == N):
        part = slice(start, start + size)
        began = time.process_time()
        seen = None if masks is None else masks[part]
        parts.append(ci.invert(G, y[part], measurement=seen, on_fail="ignore", progress=False))
        seconds.append((time.process_time() - began) / size)
    return row(z, torch.cat([R.z for R in parts]), parts, seconds, ci.verify(G, y, z, measurement=masks))


def row(z: Tensor, found: Tensor, parts: list[ci.Inversion], seconds: list[float], truth: ci.Verdict) -> dict:
    near = (found - z).norm(dim=1) <= 1e-6 * z.norm(dim=1)
    return {
        "found": int(near.sum()), "of": len(z), "explained": sum(int(R.verdict.explained.sum()) for R in parts),
        "determined": int(truth.determined.sum()), "median": statistics.median(seconds), "first": seconds[0],
        "worst": max(seconds), "used": dict(Counter(name for R in parts for name in R.used)),
        "notes": sorted({note for R in parts for note in R.notes}),
    }  # fmt: skip


def cells(r: dict) -> tuple[str, ...]:
    by = ", ".join(f"{count} {name}" for name, count in sorted(r["used"].items(), key=lambda item: -item[1]))
    seconds = (f"{r[name]:.3g}" for name in ("median", "first", "worst"))
    return (r["generator"], r["output"], r["seen"], f"{r['found']} of {r['of']}", str(r["explained"]), str(r["determined"]),
            *seconds, by)  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--only", default="", help="generators whose name contains this")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    folder = os.environ.get("CVXINV_DATA")
    if not begin("cpu") or folder is None:
        print("skipped: set CVXINV_DATA to a folder with generators/")
        return
    record: dict = {"circumstances": circumstances("cpu"), "signals": arguments.signals, "rows": []}
    names = [path.stem for path in sorted((Path(folder) / "generators").glob("*.json")) if arguments.only in path.stem]
    for name in tqdm(names):
        for output in (None, "identity"):
            for hidden in (0.0, HIDDEN):
                # read anew: what is learnt of a generator is part of the first signal's time
                G = ci.load_generator(Path(folder) / "generators" / name, output=output).to(torch.float64)
                seen = {"generator": name, "output": output or "as trained", "seen": f"{1 - hidden:.0%}"}
                record["rows"].append(seen | measure(G, arguments.signals, hidden))
    record |= load_after(record)
    table = Table(*COLUMNS, title="hybrid on signals of the generators' own")
    for r in record["rows"]:
        table.add_row(*cells(r))
    Console(width=160).print(table)
    if arguments.out is not None:
        lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS), *(" | ".join(cells(r)) for r in record["rows"])]
        head = (__doc__ or "").split("\n\n")[2].strip()
        table_text = "\n".join(f"| {line} |" for line in lines)
        write(arguments.out, "wide_cpu", record, f"# Wide and convolutional generators\n\n{head}\n\n{table_text}\n")


if __name__ == "__main__":
    main()
