"""Noise with a bound on its largest entry: own signals explained by hybrid and by Adam.

    python benchmarks/bounded.py --out benchmarks/results           # all of it: ten minutes
    python benchmarks/bounded.py --quick                            # small, on the shipped digits: to see that it runs
    python benchmarks/bounded.py --only csinva --signals 50         # generators whose name holds this

Data: trained dense generators of the folder CVXINV_DATA, as trained, latents drawn from N(0, I), noise uniform in
[-eps, eps] in every entry, eps 1, 5 and 20 % of the root mean square of the signals, in float64.

- *hybrid*: with its defaults, noise=("linf", eps).
- *Adam*: 2,000 steps of torch.optim.Adam on the squared excess sum_i max(|G(z) - y|_i - eps, 0)^2 from one start,
  0.1 N(0, I), all in one batch; the step length is the best of 0.02, 0.05 and 0.1 by the mean excess of the first four.

explained: signals with |G(z) - y|_inf <= eps; of Adam <= 1.001 eps, as a descent on squares comes to the bound from outside.
largest: median of |G(z) - y|_inf / eps. Milliseconds are process time of one thread, per signal, of the whole call of
`invert`, verdicts included. The generator is inverted once before.
"""

import os
from pathlib import Path

import torch
from measuring import clocked
from noise import DENSE, RATES, SHARES, STEPS, TUNED, adam
from runs import begin_with_data, parser_of, record_before, write_page
from tables import Table
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci

ROOT = Path(__file__).resolve().parent.parent
NEARLY = 1.001


def bounded(G: ci.Generator, N: int, share: float) -> tuple[Tensor, float]:
    """Signals with noise, and its bound."""
    source = torch.Generator().manual_seed(0)
    x = G(torch.randn(N, G.latent_dim, generator=source, dtype=torch.float64))
    eps = share * float(x.square().mean().sqrt())
    return x + eps * (2 * torch.rand(x.shape, generator=source, dtype=torch.float64) - 1), eps


def by_adam(G: ci.Generator, y: Tensor, eps: float, rate: float, steps: int) -> Tensor:
    """Where Adam ends on the squared excess."""
    start = 0.1 * torch.randn(len(y), G.latent_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return adam(lambda z: ((G(z) - y).abs() - eps).clamp(min=0).square(), start, rate, steps)


def largest(G: ci.Generator, y: Tensor, z: Tensor, eps: float) -> Tensor:
    """|G(z) - y|_inf / eps, `(N,)`."""
    return (G(z) - y).abs().amax(1) / eps


def measure(G: ci.Generator, y: Tensor, eps: float, steps: int) -> dict:
    """One row."""

    def ours(of: Tensor) -> ci.Inversion:
        return ci.invert(G, of, noise=("linf", eps), on_fail="ignore", progress=False)

    def excess(rate: float) -> float:
        few = y[:TUNED]
        return float((largest(G, few, by_adam(G, few, eps, rate, steps), eps) - 1).clamp(min=0).mean())

    rate = min(RATES, key=excess)
    ours(y[:1])
    (R, by), (z, theirs) = clocked(lambda: ours(y)), clocked(lambda: by_adam(G, y, eps, rate, steps))
    found, other = largest(G, y, R.z, eps), largest(G, y, z, eps)
    return {
        "signals": len(y), "statuses": R.verdict.counts(), "rate": rate,
        "explained": {"hybrid": int(R.verdict.explained.sum()), "Adam": int((other <= NEARLY).sum())},
        "largest": {"hybrid": float(found.median()), "Adam": float(other.median())},
        "milliseconds": {"hybrid": 1e3 * by.process / len(y), "Adam": 1e3 * theirs.process / len(y)},
    }  # fmt: skip


_HEADER = (
    "generator", "eps", "explained by hybrid", "by Adam", "largest by hybrid", "by Adam", "hybrid", "Adam", "ratio",
    "commit",
)  # fmt: skip


def table(results: dict) -> Table:
    found = Table("Own signals under a bound on the largest entry", _HEADER, [])
    for name, rows in results.items():
        for share, row in rows.items():
            ms, N = row["milliseconds"], row["signals"]
            found.rows.append((
                name, f"{float(share):.0%}", f"{row['explained']['hybrid']} of {N}", f"{row['explained']['Adam']} of {N}",
                f"{row['largest']['hybrid']:.3f}", f"{row['largest']['Adam']:.3f}", f"{ms['hybrid']:.0f} ms",
                f"{ms['Adam']:.0f} ms", f"{ms['Adam'] / ms['hybrid']:.2f}", row["commit"],
            ))  # fmt: skip
    return found


def main() -> None:
    arguments = parser_of(__doc__, 20).parse_args()
    if not begin_with_data(arguments.quick):
        return
    record = record_before(arguments.out, "bounded_cpu")
    names = ("digits_8x8",) if arguments.quick else [name for name in DENSE if arguments.only in name]
    folder = ROOT / "cvxinv" / "shipped" if arguments.quick else Path(os.environ["CVXINV_DATA"]) / "generators"
    for name in tqdm(names, "generators"):
        G = ci.load_generator(folder / name, dtype=torch.float64)
        for share in SHARES[:1] if arguments.quick else SHARES:
            y, eps = bounded(G, 4 if arguments.quick else arguments.signals, share)
            row = measure(G, y, eps, 200 if arguments.quick else STEPS)
            record["results"].setdefault(name, {})[str(share)] = row | {"commit": record["circumstances"]["commit"]}
            if arguments.out is not None:
                title, shown = "Noise with a bound on its largest entry", table(record["results"]).markdown()
                write_page(arguments.out, "bounded_cpu", record, title, __doc__, shown)
    print(table(record["results"]).markdown())


if __name__ == "__main__":
    main()
