"""The nearest signal to real pictures, which no latent explains: hybrid and Adam.

    python benchmarks/nearest.py --out benchmarks/results           # all of it: twenty minutes
    python benchmarks/nearest.py --quick                            # small, on the shipped digits: to see that it runs
    python benchmarks/nearest.py --only csinva --signals 20         # generators whose name holds this

Data: trained generators of the folder CVXINV_DATA, and its pictures, handwritten digits or, for generators of fashion,
clothes, resized where theirs are larger, in the generator's units, in float64; half as many for convolutional ones. No noise
is stated.

- *hybrid*: with its defaults, which is ten random starts beside others.
- *Adam*: 2,000 steps of torch.optim.Adam on |G(z) - y|^2 from one start, 0.1 N(0, I), all in one batch; the step length
  is the best of 0.02, 0.05 and 0.1 by the mean misfit of the first four signals.

misfit: median of |G(z) - y| / |y|. worse, better: signals whose misfit by hybrid is above, or below, Adam by over 1e-6 of
it, and the largest excess. Milliseconds are process time of one thread, per signal, of the whole call of `invert`, verdicts
included; alone: one signal a call, the mean of the first three, Adam for the first. The generator is inverted once before.
"""

import math
import os
from pathlib import Path

import numpy as np
import torch
from measuring import clocked
from noise import DENSE, RATES, STEPS, TUNED, WORSE, adam
from runs import begin_with_data, parser_of, record_before, write_page
from tables import Table
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci

ROOT = Path(__file__).resolve().parent.parent
ALONE = 3
CONVOLUTIONAL = ("aman_fashion_dcgan_28x28", "amshoka_dcgan_64x64")


def pictures(name: str, G: ci.Generator, N: int) -> Tensor:
    """The first N pictures of the kind that the generator was trained on, in its units, `(N, d)`."""
    file = "fashion_mnist_900.npz" if "fashion" in name else "mnist_test.npz"
    images = np.load(Path(os.environ["CVXINV_DATA"]) / "datasets" / file)["images"][:N]
    x = torch.from_numpy(images.reshape(len(images), 1, 28, 28) / 255.0)
    side = math.isqrt(G.signal_dim)
    if side != 28:
        x = torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear")
    x = x.flatten(1)
    low, high = G.output.range
    return low + (high - low) * x if np.isfinite(high - low) else x


def by_adam(G: ci.Generator, y: Tensor, rate: float, steps: int) -> Tensor:
    """Where Adam ends on the squared misfit."""
    start = 0.1 * torch.randn(len(y), G.latent_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return adam(lambda z: (G(z) - y).square(), start, rate, steps)


def share(G: ci.Generator, y: Tensor, z: Tensor) -> Tensor:
    """|G(z) - y| / |y|, `(N,)`."""
    return (G(z) - y).norm(dim=1) / y.norm(dim=1)


def measure(G: ci.Generator, y: Tensor, steps: int) -> dict:
    """One row."""

    def ours(of: Tensor) -> ci.Inversion:
        return ci.invert(G, of, on_fail="ignore", progress=False)

    few = y[:TUNED]
    rate = min(RATES, key=lambda r: float(share(G, few, by_adam(G, few, r, steps)).mean()))
    ours(y[:1])
    (R, by), (z, theirs) = clocked(lambda: ours(y)), clocked(lambda: by_adam(G, y, rate, steps))
    alone = [clocked(lambda i=i: ours(y[i : i + 1]))[1].process for i in range(min(ALONE, len(y)))]
    one = clocked(lambda: by_adam(G, y[:1], rate, steps))[1].process
    found, other = share(G, y, R.z), share(G, y, z)
    excess = (found - other) / other
    return {
        "signals": len(y), "statuses": R.verdict.counts(), "rate": rate,
        "misfit": {"hybrid": float(found.median()), "Adam": float(other.median())},
        "worse": int((excess > WORSE).sum()), "better": int((excess < -WORSE).sum()), "excess": float(excess.max()),
        "milliseconds": {"hybrid": 1e3 * by.process / len(y), "Adam": 1e3 * theirs.process / len(y)},
        "alone": {"hybrid": 1e3 * sum(alone) / len(alone), "Adam": 1e3 * one},
    }  # fmt: skip


_HEADER = (
    "generator", "misfit by hybrid", "by Adam", "worse than Adam", "better", "largest excess", "hybrid", "Adam", "ratio",
    "alone", "commit",
)  # fmt: skip


def table(results: dict) -> Table:
    found = Table("The nearest signals to real pictures", _HEADER, [])
    for name, row in results.items():
        ms, alone = row["milliseconds"], row["alone"]
        found.rows.append((
            name, f"{row['misfit']['hybrid']:.4f}", f"{row['misfit']['Adam']:.4f}", f"{row['worse']} of {row['signals']}",
            str(row["better"]), f"{max(row['excess'], 0.0):.0e}", f"{ms['hybrid']:.0f} ms", f"{ms['Adam']:.0f} ms",
            f"{ms['Adam'] / ms['hybrid']:.2f}",
            f"{alone['hybrid']:.0f} ms, {alone['Adam']:.0f} ms: {alone['Adam'] / alone['hybrid']:.2f} times", row["commit"],
        ))  # fmt: skip
    return found


def main() -> None:
    arguments = parser_of(__doc__, 20).parse_args()
    if not begin_with_data(arguments.quick):
        return
    record = record_before(arguments.out, "nearest_cpu")
    names = ("digits_8x8",) if arguments.quick else [name for name in (*DENSE, *CONVOLUTIONAL) if arguments.only in name]
    for name in tqdm(names, "generators"):
        if arguments.quick:
            G = ci.load_generator(ROOT / "cvxinv" / "shipped" / name, dtype=torch.float64)
            y = torch.rand(4, G.signal_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        else:
            G = ci.load_generator(Path(os.environ["CVXINV_DATA"]) / "generators" / name, dtype=torch.float64)
            y = pictures(name, G, arguments.signals // (2 if name in CONVOLUTIONAL else 1))
        row = measure(G, y, 200 if arguments.quick else STEPS)
        record["results"][name] = row | {"commit": record["circumstances"]["commit"]}
        if arguments.out is not None:
            shown = table(record["results"]).markdown()
            write_page(arguments.out, "nearest_cpu", record, "Real pictures", __doc__, shown)
    print(table(record["results"]).markdown())


if __name__ == "__main__":
    main()
