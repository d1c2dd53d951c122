"""Whole inversions side by side: layered only, one-start Levenberg-Marquardt, gradient descent, hybrid.

    python benchmarks/inversion.py [--signals 100] [--quick] [--out benchmarks/results/inversion.json]

Data: the trained generators of the folder CVXINV_DATA (output read before its last activation, and as trained),
random Gaussian nets, and the shipped digits generator. Signals: the first latents of torch.Generator().manual_seed(0).
Seen: everything, 45 % of the pixels hidden at random, the upper 13 of 28 rows hidden, m = 4 n0 Gaussian measurements, 1 %
noise. `recovered`: relative error of z <= 1e-6, of the signals whose z is determined at the true latent. `misfit`: signals
whose misfit is at most that of the true z (noise) or <= 1e-8 |y|. Wall seconds of one call with `--threads` threads: for
orientation, not a claim of speed.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

import cvxinv as ci

METHODS = {
    "layered only": ("latent_pursuit", {}),
    "LM, one start": ("levenberg_marquardt", {"restarts": 1}),
    "gradient descent": ("gradient_descent", {"max_iter": 2000}),
    "hybrid": ("hybrid", {}),
    "hybrid, 5 starts": ("hybrid", {"restarts": 5}),
}
DENSE = (
    ("lei_vae_relu_20_60_784_nobias", "identity"),
    ("csinva_vae_20_400_784", "identity"),
    ("zeesky_vae_10_400_784", "identity"),
    ("jezza_fashion_vae_20_400_784", "identity"),
    ("laug_vae_5_128_256_784", "identity"),
    ("lei_vae_leaky_20_200_500_784_nobias", "identity"),
    ("ashish_gan_leaky_64_256_784", "identity"),
    ("lei_vae_relu_20_60_784_nobias", "relu"),
    ("lei_vae_relu_20_60_784_nobias", None),
    ("csinva_vae_20_400_784", None),
    ("jay_gan_bn_128_256_512_784", "identity"),
)
CASES = ("clean", "45 % hidden", "upper hidden", "4 n0 measurements", "1 % noise")


def random_net(dims: tuple[int, ...], seed: int = 0) -> ci.Generator:
    """Gaussian weights of variance 1 / n_in, ReLU, linear output."""
    source, layers = torch.Generator().manual_seed(seed), []
    for k, (n, m) in enumerate(pairwise(dims)):
        W = torch.randn(m, n, generator=source, dtype=torch.float64) / n**0.5
        layers.append(
            ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), ci.ReLU() if k < len(dims) - 2 else ci.Identity())
        )
    return ci.Generator(tuple(layers), (dims[-1],), {"name": "random " + "-".join(map(str, dims))})


def generators(quick: bool):
    """(name, output, generator) of everything that can be measured here."""
    shipped = Path(ci.__file__).parent / "shipped" / "digits_8x8"
    yield "shipped digits_8x8", "identity", ci.load_generator(shipped)
    yield "random 100-220-625", "identity", random_net((100, 220, 625))
    folder = os.environ.get("CVXINV_DATA")
    if folder is None:
        print("CVXINV_DATA is not set: the trained generators are left out")
        return
    for name, output in DENSE[:2] if quick else DENSE:
        yield name, output or "as trained", ci.load_generator(Path(folder) / "generators" / name, output=output)


def observe(G: ci.Generator, x: torch.Tensor, case: str):
    """y, the measurement, the stated noise and the misfit of the true z."""
    source = torch.Generator().manual_seed(1)
    d = G.signal_dim
    if case == "45 % hidden":
        return x, torch.rand(x.shape, generator=source) > 0.45, None, None
    if case == "upper hidden":
        seen = torch.ones(d, dtype=torch.bool)
        seen[: d * 13 // 28] = False
        return x, seen, None, None
    if case == "4 n0 measurements":
        A = torch.randn(4 * G.latent_dim, d, generator=source, dtype=x.dtype)
        return x @ A.T, A, None, None
    if case == "1 % noise":
        e = torch.randn(x.shape, generator=source, dtype=x.dtype)
        e = 0.01 * e * (x.norm(dim=1) / e.norm(dim=1))[:, None]
        return x + e, None, ("l2", e.norm(dim=1)), e.norm(dim=1)
    return x, None, None, None


def measure(G: ci.Generator, N: int, case: str, method: str) -> dict:
    """One row: a method on one case."""
    z = torch.randn(N, G.latent_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, seen, noise, floor = observe(G, G(z), case)
    name, options = METHODS[method]
    truth = ci.verify(G, y, z, measurement=seen, noise=noise)
    started = time.perf_counter()
    try:
        R = ci.invert(G, y, name, measurement=seen, noise=noise, truth=z, on_fail="ignore", progress=False, **options)
    except ValueError as reason:
        return {"case": case, "method": method, "cannot": str(reason)}
    seconds = time.perf_counter() - started
    error = (R.z - z).norm(dim=1) / z.norm(dim=1)
    fine = R.verdict.relative_misfit <= 1e-8 if floor is None else R.verdict.misfit <= floor * (1 + 1e-9)
    return {
        "case": case,
        "method": method,
        "determined": int(truth.determined.sum()),
        "recovered": int(((error <= 1e-6) & truth.determined).sum()),
        "misfit_fine": int(fine.sum()),
        "statuses": R.verdict.counts(),
        "layers_not_optimal": int((R.layer_status != "optimal").any(1).sum()) if R.layers else None,
        "random_starts": float(R.starts.double().mean()),
        "seconds": seconds,
    }


def show(console: Console, title: str, rows: list[dict], N: int) -> None:
    table = Table(
        "seen", "method", "z recovered", f"misfit fine of {N}", "layers not optimal", "starts", "seconds", title=title
    )
    for row in rows:
        if "cannot" in row:
            table.add_row(row["case"], row["method"], "cannot: " + row["cannot"].split(": ", 1)[-1][:60], "", "", "", "")
            continue
        recovered = f"{row['recovered']} of {row['determined']}" if row["case"] != "1 % noise" else "-"
        layers = "-" if row["layers_not_optimal"] is None else str(row["layers_not_optimal"])
        table.add_row(
            row["case"],
            row["method"],
            recovered,
            str(row["misfit_fine"]),
            layers,
            f"{row['random_starts']:.1f}",
            f"{row['seconds']:.2f}",
        )
    console.print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="four generators instead of all")
    parser.add_argument("--only", default="", help="generators whose name contains this")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console, results = Console(width=130), {}
    for name, output, G in generators(arguments.quick):
        if arguments.only not in name:
            continue
        rows = []
        for case in tqdm(CASES, desc=name, leave=False):
            # the claim about five starts is about the ReLU output, where starts matter most
            names = [m for m in METHODS if m != "hybrid, 5 starts" or output == "relu"]
            rows.extend(measure(G, arguments.signals, case, method) for method in names)
        show(console, f"{name}, output {output}", rows, arguments.signals)
        results[f"{name}, output {output}"] = rows
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "signals": arguments.signals, "threads": arguments.threads, "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__, "cvxinv": ci.__version__, "commit": commit, "dtype": "float64", "results": results,
    }  # fmt: skip
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        partial = arguments.out.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1))
        partial.replace(arguments.out)
        console.print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
