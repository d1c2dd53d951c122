"""Proofs on trained decoders: how many signals are proved, in what time, how good the incumbents were.

    python benchmarks/proofs.py --out benchmarks/results        # half an hour on an idle core
    python benchmarks/proofs.py --quick                         # a minute, on the shipped generators
    python benchmarks/proofs.py --only csinva --signals 10
    python benchmarks/proofs.py --convolutional --jobs 2 --out benchmarks/results

Planted signals y = G(z) + noise, z normal, noise of 0 to 10 % of |G(z)| on what is seen, all pixels or 55 % of them at
random (the same for every signal of a cell); the outputs read before their sigmoid. Incumbents: `hybrid` from nothing.
Each signal by itself: process seconds of `prove` from that incumbent, gap 1e-6, box |z_j| <= 3 n0^(1/2), at most
`--limit` wall seconds. Improved: signals for which a better latent than hybrid's was met. Beside it real digits of
MNIST's test set, far outside the range, to 5 % and 1 %, with the history of the gap; a hundred signals in one call over
one signal alone; and convolutional generators, in boxes around the latent, also of planes of few latents through one.
"""

import argparse
import os
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import circumstances
from runs import begin, load_after, write
from tables import Table, short
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci
from cvxinv.inversion.moments import Moment
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.task import make_task

ROOT = Path(__file__).resolve().parent.parent
DENSE = (
    "lei_vae_relu_20_60_784_nobias", "csinva_vae_20_400_784", "zeesky_vae_10_400_784", "jezza_fashion_vae_20_400_784",
    "laug_vae_5_128_256_784",
)  # fmt: skip
SHIPPED = ROOT / "cvxinv" / "shipped" / "mnist_gan"
CONVOLUTIONAL = ("aman_fashion_dcgan_28x28", "amshoka_dcgan_64x64")
NOISES = (0.0, 0.001, 0.01, 0.03, 0.1)
HIDDEN = 0.45
HEADER = (
    "generator",
    "noise",
    "seen",
    "proved",
    "unique",
    "improved",
    "seconds, median",
    "worst",
    "nodes, median",
    "gap, worst",
)


def generator_of(name: str) -> ci.Generator:
    folder = os.environ.get("CVXINV_DATA", "")
    path = SHIPPED if name == "shipped" else Path(folder) / "generators" / name
    return ci.load_generator(path, output="identity").to(torch.float64)


def planted(G: ci.Generator, noise: float, hidden: float, N: int) -> tuple[Tensor, Tensor | None]:
    """Signals `(N, d)` and the mask, None where all is seen."""
    random = torch.Generator().manual_seed(7)
    x = G(torch.randn(N, G.latent_dim, generator=random, dtype=torch.float64))
    mask = torch.rand(x.shape[1], generator=random) >= hidden
    n = torch.randn(*x.shape, generator=random, dtype=torch.float64) * mask
    length = (x * mask).norm(dim=1, keepdim=True) / n.norm(dim=1, keepdim=True)
    return (x + noise * length * n) * mask, mask if hidden else None


def cell(G: ci.Generator, noise: float, hidden: float, N: int, limit: float) -> dict[str, Any]:
    """Every signal by itself."""
    y, mask = planted(G, noise, hidden, N)
    found = ci.invert(G, y, measurement=mask, on_fail="ignore", progress=False)
    seconds, nodes, gaps, unique, improved, proved = [], [], [], 0, 0, 0
    for k in range(N):
        began = time.process_time()
        proof = ci.prove(G, y[k : k + 1], found.z[k : k + 1], measurement=mask, gap=1e-6, time_limit=limit, progress=False)
        seconds.append(time.process_time() - began)
        nodes.append(int(proof.nodes[0]))
        gaps.append(float(proof.gap[0]))
        unique, improved, proved = unique + int(proof.unique), improved + int(proof.improved), proved + int(proof.proved)
    return {
        "seconds": seconds,
        "nodes": nodes,
        "gaps": gaps,
        "unique": unique,
        "improved": improved,
        "proved": proved,
        "of": N,
    }


def cells(name: str, noise: float, hidden: float, r: dict[str, Any]) -> tuple[str, ...]:
    share = f"{r['proved']} of {r['of']}"
    times = short(statistics.median(r["seconds"])), short(max(r["seconds"]))
    seen = f"{1 - hidden:.0%}"
    return (name, f"{noise:.1%}", seen, share, str(r["unique"]), str(r["improved"]), *times,
            f"{statistics.median(r['nodes']):.0f}", f"{max(r['gaps']):.1e}")  # fmt: skip


def digits(count: int) -> Tensor:
    """Test digits `(count, 784)` before a sigmoid, clipped at 0.02."""
    images = np.load(Path(os.environ["CVXINV_DATA"]) / "datasets" / "mnist_test.npz")["images"][:count]
    return torch.logit(torch.from_numpy(images.reshape(count, 784) / 255.0).clamp(0.02, 0.98))


def real(G: ci.Generator, N: int, limit: float) -> list[dict[str, Any]]:
    """Real digits: the gap against time."""
    y, rows = digits(N), []
    found = ci.invert(G, y, restarts=20, on_fail="ignore", progress=False)
    for k in range(N):
        proof = ci.prove(G, y[k : k + 1], found.z[k : k + 1], gap=1e-2, time_limit=limit, progress=False)
        h = proof.history
        gap = (1 - (h.bound[0] / h.misfit[0]) ** 2).tolist()
        found_ = {"misfit": float(proof.misfit[0] / y[k].norm()), "improved": bool(proof.improved[0])}
        rows.append({"seconds": h.seconds.tolist(), "gap": gap, "nodes": int(proof.nodes[0]), **found_})
    return rows


def reached(row: dict[str, Any], gap: float) -> float | None:
    """Wall seconds until a gap was reached."""
    return next((t for t, g in zip(row["seconds"], row["gap"], strict=True) if g <= gap * (1 + 1e-6)), None)


def together(G: ci.Generator, N: int) -> dict[str, float]:
    """N signals in one call over one alone (1 % noise)."""
    y, _ = planted(G, 0.01, 0.0, N)
    z = ci.invert(G, y, on_fail="ignore", progress=False).z
    alone = []
    for k in range(5):
        began = time.process_time()
        ci.prove(G, y[k : k + 1], z[k : k + 1], gap=1e-6, progress=False)
        alone.append(time.process_time() - began)
    began = time.process_time()
    proof = ci.prove(G, y, z, gap=1e-6, time_limit=300, progress=False)
    every = time.process_time() - began
    return {"alone": statistics.median(alone), "together": every, "N": N, "proved": int(proof.proved.sum())}


Case = tuple[str, int | None, float, float | None]


def cases_around() -> list[Case]:
    """Generator, latents (None: its own; else a plane through a latent), noise, half a side of the box (None: the usual)."""
    sides = [1e-5, 1e-4, 1e-3, 3e-3, 1e-2, None]
    own: list[Case] = [(name, None, noise, half) for name in CONVOLUTIONAL for noise in (0.0, 0.01) for half in sides]
    return own + [(CONVOLUTIONAL[1], n0, noise, 1.0) for n0 in (2, 3) for noise in (0.0, 0.01)]


def in_a_plane(G: ci.Generator, n0: int) -> ci.Generator:
    """The generator of G's latents p + B c, B orthonormal at random."""
    random = torch.Generator().manual_seed(3)
    B = torch.linalg.qr(torch.randn(G.latent_dim, n0, generator=random, dtype=torch.float64))[0]
    p = torch.randn(1, G.latent_dim, generator=random, dtype=torch.float64)
    first = G.layers[0]
    layer = ci.Layer(ci.Dense(first.W(B.T).T.contiguous()), first.W(p)[0] + first.b, first.activation)
    return ci.Generator((layer, *G.layers[1:]), G.layers[-1].W.shapes[1], {})


def around(case: Case, limit: float) -> dict[str, Any]:
    """One signal of a convolutional generator, in a box around its latent; limit: process seconds."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    name, n0, noise, half = case
    G = generator_of(name)
    G = G if n0 is None else in_a_plane(G, n0)
    y, _ = planted(G, noise, 0.0, 1)
    random = torch.Generator().manual_seed(7)
    z = descend(make_task(G, y), torch.randn(1, G.latent_dim, generator=random, dtype=torch.float64)).z
    box = None if half is None else (z[0] - half, z[0] + half)
    began = time.process_time()

    def over(moment: Moment) -> bool:
        return time.process_time() - began > limit

    proof = ci.prove(G, y, z, box=box, gap=1e-3, time_limit=None, progress=False, callback=over)
    seconds, h = time.process_time() - began, proof.history
    return {"generator": name, "latents": G.latent_dim, "noise": noise, "half": float((proof.box[1] - proof.box[0])[0] / 2),
            "gap": float(proof.gap[0]), "proved": bool(proof.proved[0]), "unique": bool(proof.unique[0]),
            "first": int(h.undecided[0, 0]), "left": int(proof.undecided[0].sum()), "nodes": int(proof.nodes[0]),
            "seconds": seconds, "stopped": bool(proof.stopped)}  # fmt: skip


def convolutional(jobs: int, limit: float) -> tuple[list[dict[str, Any]], Table]:
    """All cases of `around`, `jobs` at once."""
    cases = cases_around()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        rows = list(tqdm(pool.map(around, cases, [limit] * len(cases)), total=len(cases)))
    header = (
        "generator",
        "latents",
        "noise",
        "half a side",
        "gap",
        "unique",
        "undecided, first",
        "left",
        "nodes",
        "seconds",
    )
    table = Table(f"Convolutional generators in boxes around the latent, at most {limit:g} process seconds each", header, [])
    for r in rows:
        own = short(r["seconds"]) + (", stopped" if r["stopped"] else "")
        counts = str(r["first"]), str(r["left"]), str(r["nodes"])
        table.rows.append((r["generator"], str(r["latents"]), f"{r['noise']:.0%}", f"{r['half']:g}", f"{r['gap']:.2g}",
                           "yes" if r["unique"] else "no", *counts, own))  # fmt: skip
        print(" | ".join(table.rows[-1]), flush=True)
    return rows, table


def picture(path: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(rows), figsize=(5 * len(rows), 3.6), sharey=True, squeeze=False)
    for axis, (name, of) in zip(axes[0], rows.items(), strict=True):
        for k, row in enumerate(of):
            axis.plot(row["seconds"], [max(g, 1e-3) for g in row["gap"]], drawstyle="steps-post", label=f"digit {k}")
        for gap in (0.05, 0.01):
            axis.axhline(gap, color="grey", linewidth=0.6, linestyle=":")
        axis.set(title=name, xlabel="wall seconds", yscale="log", xscale="log")
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel("gap of the squared misfit")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--signals", type=int, default=10)
    parser.add_argument("--limit", type=float, default=60.0, help="wall seconds a signal")
    parser.add_argument("--only", default="", help="generators whose name contains this")
    parser.add_argument("--noises", default=",".join(map(str, NOISES)))
    parser.add_argument("--digits", type=int, default=6)
    parser.add_argument("--name", default="", help="of the results, beside others")
    parser.add_argument("--planted", action="store_true", help="nothing but planted signals")
    parser.add_argument("--convolutional", action="store_true", help="nothing but convolutional generators")
    parser.add_argument("--jobs", type=int, default=1, help="convolutional cases at once, each on one thread")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    a = parser.parse_args()
    if not begin("cpu"):
        return
    warnings.simplefilter("ignore")
    there = os.environ.get("CVXINV_DATA") is not None and not a.quick
    if not there:
        print(
            "the shipped generator alone:", "--quick" if a.quick else "set CVXINV_DATA to a folder with generators/ for all"
        )
    if a.convolutional:
        a.planted, a.name = True, a.name or "convolutional"
    names = [name for name in ((*DENSE, "shipped") if there else ("shipped",)) if a.only in name and not a.convolutional]
    noises = [0.0, 0.001] if a.quick else [float(x) for x in a.noises.split(",")]
    count, limit = (2, 5.0) if a.quick else (a.signals, a.limit)
    record: dict[str, Any] = {
        "circumstances": circumstances("cpu"),
        "signals": count,
        "limit": limit,
        "rows": [],
        "real": {},
    }
    table = Table("Planted signals, gap 1e-6", HEADER, [])
    bar = tqdm([(n, s, h) for n in names for s in noises for h in (0.0, HIDDEN)])
    for name, noise, hidden in bar:
        bar.set_description(f"{name} {noise:.1%}")
        found = cell(generator_of(name), noise, hidden, count, limit)
        record["rows"].append({"generator": name, "noise": noise, "hidden": hidden, **found})
        table.rows.append(cells(name, noise, hidden, found))
        print(" | ".join(table.rows[-1]), flush=True)
    texts = [table.markdown()] if names else []
    for name in [n for n in (DENSE[0], DENSE[2]) if n in names and not a.planted]:
        record["real"][name] = rows = real(generator_of(name), a.digits, limit)
        table = Table(
            f"Real digits, {name}: wall seconds to a gap",
            ("digit", "misfit / |y|", "5 %", "1 %", "gap at the end", "nodes"),
            [],
        )
        for k, row in enumerate(rows):
            times = [reached(row, gap) for gap in (0.05, 0.01)]
            words = ["not reached" if t is None else short(t) for t in times]
            table.rows.append((str(k), f"{row['misfit']:.3f}", *words, f"{row['gap'][-1]:.2g}", str(row["nodes"])))
            print(" | ".join(table.rows[-1]), flush=True)
        texts.append(table.markdown())
    if there and not (a.only or a.planted):
        table = Table(
            "A hundred signals in one call, 1 % noise", ("generator", "one alone, median", "all", "ratio", "proved"), []
        )
        for name in (DENSE[0], DENSE[1]):
            r = together(generator_of(name), 100)
            record.setdefault("together", {})[name] = r
            table.rows.append(
                (name, short(r["alone"]), short(r["together"]), f"{r['together'] / r['alone']:.0f}", str(r["proved"]))
            )
            print(" | ".join(table.rows[-1]), flush=True)
        texts.append(table.markdown())
    if there and (a.convolutional or not (a.only or a.planted)):
        record["around"], table = convolutional(a.jobs, limit)
        texts.append(table.markdown())
    record |= load_after(record)
    if a.out is not None:
        head = (__doc__ or "").split("\n\n")[2].strip()
        its = record["circumstances"]
        load = (
            f"Commit {its['commit']}, {its['processor']}, one thread, float64, torch {its['versions']['torch']}; "
            f"load average {its['load'][0]:.1f} before, {record['load_after'][0]:.1f} after."
        )
        of = "convolutional generators" if a.convolutional else "trained decoders"
        title = f"# Proofs on {of}"
        stem = "_".join(["proofs", *filter(None, (a.only, a.name)), "cpu"])
        write(a.out, stem, record, "\n\n".join([title, head, load, *texts]))
        if record["real"]:
            picture(a.out / f"{stem}.png", record["real"])


if __name__ == "__main__":
    main()
