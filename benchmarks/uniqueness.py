"""Is z the only latent: proved, refuted by a second one, or undecided, on trained decoders and on random nets.

    python benchmarks/uniqueness.py --out benchmarks/results           # all of it: some minutes
    python benchmarks/uniqueness.py --quick                            # two signals each: to see that it runs

Data: the shipped generators and the trained dense ones of the folder CVXINV_DATA, signals of latents drawn from their
distribution, in float64 and without noise; everything seen, and 45 % of the entries hidden at random, other ones of each
signal; read before the output's activation ("identity") and behind it. Random nets phi(W1 max(W0 z, 0)), n0 = 100, n = 625,
as the published experiment has them, Gaussian weights of variance 1 / inputs, a net for each four signals.

`uniqueness` with its defaults, but without the engine of `prove` (`time_limit=0`): what is proved holds among all latents.
*not unique*: another latent gives the same signal; its misfit is computed again by a plain forward pass, relative to the
signal, and so is how far it is away, relative to z. *rank < n0*: signals whose Jacobian says that z is not determined.
*layer*: of the undecided, how often each layer says too little. Milliseconds are process time of one thread, per signal.
"""

import argparse
import os
from collections import Counter
from pathlib import Path

import torch
from error_bars import DENSE
from measuring import circumstances, clocked
from runs import begin, load_after, write
from tables import Table
from torch import Tensor, nn
from tqdm import tqdm

import cvxinv as ci

HIDDEN, N0, N = 0.45, 100, 625
WIDTHS = (*range(100, 200, 10), 210, 220, 260, 300, 400, 500, 600, 700, 800, 850, 900, 1000)
NUMBERS = ("signals", "unique", "not_unique", "undecided", "rank < n0")


def plain(G: ci.Generator, z: Tensor) -> Tensor:
    """Signals by matrices alone."""
    for layer in G.layers:
        z = layer.activation(z @ layer.W.matrix().T + layer.b)
    return z


def measured(G: ci.Generator, z: Tensor, seen: Tensor | None) -> dict:
    """One row."""
    y = G(z) if seen is None else G(z) * seen
    found, seconds = clocked(lambda: ci.uniqueness(G, y, z, measurement=seen, time_limit=0.0))
    other = found.status == "not_unique"
    row = {"signals": len(z), **{s: int((found.status == s).sum()) for s in ("unique", "not_unique", "undecided")}}
    row["rank < n0"] = int((found.rank < G.latent_dim).sum())
    row["ms"] = 1e3 * seconds.process / len(z)
    row["layer"] = dict(Counter(found.layer[torch.from_numpy(found.status == "undecided")].tolist()))
    if other.any():
        x, its = plain(G, z[other]), plain(G, found.other[other])
        off = (its - x) if seen is None else (its - x) * seen[other]
        row["misfit"] = float((off.norm(dim=1) / y[other].norm(dim=1)).max())
        row["apart"] = float(((found.other - z)[other].norm(dim=1) / z[other].norm(dim=1)).min())
    radius = found.radius[torch.from_numpy(found.status == "unique")]
    row["radius"] = float(radius.max()) if len(radius) else None
    return row


def trained(count: int) -> list[dict]:
    """The shipped generators and those of the folder, clean and hidden, before and behind the output."""
    generators = {name: ci.load_generator(name).to(torch.float64) for name in ("digits_8x8", "mnist_gan")}
    folder = os.environ.get("CVXINV_DATA")
    if folder:
        generators |= {
            name: ci.load_generator(Path(folder, "generators", f"{name}.json")).to(torch.float64) for name in DENSE
        }
    rows = []
    for name, G in tqdm(generators.items(), desc="trained"):
        for output in ("identity", "its own"):
            its = G.with_output("identity") if output == "identity" else G
            z = its.sample_latent(count, torch.Generator().manual_seed(0))
            mask = torch.rand(count, G.signal_dim, generator=torch.Generator().manual_seed(1)) >= HIDDEN
            for seen in (None, mask):
                what = {"generator": name, "output": output, "seen": "all" if seen is None else "55 %"}
                rows.append(what | measured(its, z, seen))
    return rows


def random_net(n1: int, phi: nn.Module, seed: int) -> ci.Generator:
    """phi(W1 max(W0 z, 0))."""
    source = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(N0, n1, bias=False), nn.ReLU(), nn.Linear(n1, N, bias=False), phi).double()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            size = layer.weight.shape
            layer.weight.copy_(torch.randn(size, generator=source, dtype=torch.float64) / size[1] ** 0.5)
    return ci.load_generator(net.eval()).to(torch.float64)


def drawn(count: int, widths: tuple[int, ...]) -> list[dict]:
    """Random nets, by their width."""
    rows = []
    for phi in (nn.Identity(), nn.Tanh()):
        for n1 in tqdm(widths, desc=f"random, {type(phi).__name__.lower()}"):
            parts = []
            for seed in range(max(1, count // 4)):
                G = random_net(n1, phi, seed)
                z = G.sample_latent(min(4, count), torch.Generator().manual_seed(1000 + seed))
                parts.append(measured(G, z, None))
            row = {"output": type(phi).__name__.lower(), "n1": n1}
            row |= {key: sum(part[key] for part in parts) for key in NUMBERS}
            row |= {"ms": sum(part["ms"] for part in parts) / len(parts)}
            row |= {"misfit": max((part["misfit"] for part in parts if "misfit" in part), default=None)}
            row |= {"apart": min((part["apart"] for part in parts if "apart" in part), default=None)}
            row |= {"radius": max((part["radius"] for part in parts if part["radius"] is not None), default=None)}
            row |= {"layer": dict(sum((Counter(part["layer"]) for part in parts), Counter()))}
            rows.append(row)
    return rows


def table(title: str, keys: tuple[str, ...], rows: list[dict]) -> Table:
    """Rows as text."""
    header = (*keys, *NUMBERS, "layer", "second preimage misses by", "at least so far away", "radius", "ms a signal")
    lines = []
    for row in rows:
        layers = ", ".join(f"layers[{k}]: {count}" for k, count in sorted(row["layer"].items()))
        numbers = (row.get(key) for key in ("misfit", "apart", "radius"))
        ends = ("" if value is None else f"{value:.1e}" for value in numbers)
        lines.append((*(str(row[key]) for key in (*keys, *NUMBERS)), layers, *ends, f"{row['ms']:.1f}"))
    return Table(title, header, lines)


def page(record: dict) -> str:
    """The record as markdown."""
    its = record["circumstances"]
    about = "".join(__doc__.partition("Data:")[1:]).strip()
    where = f"`{its['command']}`, commit {its['commit']}, {its['processor']}, one thread."
    tables = [table("Trained generators", ("generator", "output", "seen"), record["trained"])]
    tables += [table("Random nets, n0 = 100, n = 625", ("output", "n1"), record["random"])]
    return "\n".join(["# Is z the only latent", "", about, "", where, "", *(t.markdown() for t in tables)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=100, help="signals of a trained generator, and a third of a random one")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    begin("cpu")
    count = 2 if args.quick else args.count
    widths = (150, 300) if args.quick else WIDTHS
    its = circumstances("cpu") | {"command": f"python benchmarks/uniqueness.py --count {count}"}
    record = {"circumstances": its, "trained": trained(count), "random": drawn(max(2, count // 3), widths)}
    if args.out is not None:
        write(args.out, "uniqueness_quick" if args.quick else "uniqueness_cpu", record | load_after(record), page(record))
    print(page(record))


if __name__ == "__main__":
    main()
