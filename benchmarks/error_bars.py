"""Whether what is said of noisy signals is true: intervals that hold the truth, and levels estimated by noise="auto".

    python benchmarks/error_bars.py --out benchmarks/results           # all of it: half an hour
    python benchmarks/error_bars.py --quick                            # small, on the shipped digits: to see that it runs
    python benchmarks/error_bars.py --part levels --only csinva        # one part, generators whose name holds this
    python benchmarks/error_bars.py --part levels --only dcgan --few 50 --seen everything --noise 0.05

Data: trained generators of the folder CVXINV_DATA as they were trained, dense but for one DCGAN, latents drawn from N(0, I),
gaussian noise of 1, 5 and 20 % of each signal's root mean square in every entry. Everything by hybrid with its defaults.

- *coverage*: share of the coordinates of z, and of the signal's entries, that lie in their intervals, over all signals,
  explained or not; level stated and estimated, prior Gaussian(1) and none. The least and the largest coordinate of z stand
  beside it.
- *levels*: estimated over true level, median and the 10 and 90 % quantiles over the signals, where everything was seen, 45 %
  of the entries were hidden, and 5 n0 entries of each signal were left; z is ill determined in many of the last.

A run adds its rows to those of the folder `--out`; each carries the commit that measured it. Milliseconds are process time
of one thread, per signal, for orientation.
"""

import argparse
import json
import os
import time
from math import sqrt
from pathlib import Path

import torch
from measuring import circumstances
from runs import begin_with_data, load_after, write
from tables import Table
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci

ROOT = Path(__file__).resolve().parent.parent
COVERED = ("csinva_vae_20_400_784", "laug_vae_5_128_256_784")
DENSE = (
    *COVERED,
    "lei_vae_relu_20_60_784_nobias",
    "zeesky_vae_10_400_784",
    "jezza_fashion_vae_20_400_784",
    "lei_vae_leaky_20_200_500_784_nobias",
    "ashish_gan_leaky_64_256_784",
    "jay_gan_bn_128_256_512_784",
)
WIDE = ("aman_fashion_dcgan_28x28",)  # levels only
SHARES = (0.01, 0.05, 0.2)
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SEEN = ("everything", "45 % hidden", "5 n0 entries")


def noisy(G: ci.Generator, N: int, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, signals, signals with noise, and its level `(N,)`."""
    source = torch.Generator().manual_seed(0)
    z = torch.randn(N, G.latent_dim, generator=source, dtype=torch.float64)
    x = G(z)
    sigma = share * x.norm(dim=1) / sqrt(G.signal_dim)
    return z, x, x + sigma[:, None] * torch.randn(x.shape, generator=source, dtype=torch.float64), sigma


def mask(seen: str, N: int, G: ci.Generator) -> Tensor | None:
    """Which entries were seen, bool `(N, d)`; None for all."""
    if seen == "everything":
        return None
    draw = torch.rand(N, G.signal_dim, generator=torch.Generator().manual_seed(2))
    return draw > 0.45 if seen == "45 % hidden" else draw.argsort(1).argsort(1) < 5 * G.latent_dim


def coverage(G: ci.Generator, N: int, share: float, prior: bool, auto: bool) -> dict:
    """How often intervals of each level hold the truth."""
    z, x, y, sigma = noisy(G, N, share)
    known = ci.Gaussian(1.0) if prior else None
    R, spent = _invert(G, y, None, "auto" if auto else ("gaussian", sigma), known)
    assert R.uncertainty is not None
    rounding, row = 1e-12 * x.abs().max(), {"of_z": [], "of_signal": [], "milliseconds": 1e3 * spent / N}
    for level in LEVELS:
        (low, high), (below, above) = R.uncertainty.intervals(level)
        held = ((low <= z) & (z <= high)).double()
        row["of_z"].append(float(held.mean()))
        row["of_signal"].append(float(((below - rounding <= x) & (x <= above + rounding)).double().mean()))
        if level == 0.95:
            row |= {"least": float(held.mean(0).min()), "most": float(held.mean(0).max())}
    error = (R.z - z).norm(dim=1)
    return row | {"explained": int(R.verdict.explained.sum()), "signals": N, "error": float(error.median())}


def level(G: ci.Generator, N: int, share: float, seen: str) -> dict:
    """Estimated over true level."""
    _, _, y, sigma = noisy(G, N, share)
    R, spent = _invert(G, y, mask(seen, N, G), "auto", None)
    assert R.uncertainty is not None
    U = R.uncertainty
    ratio = U.sigma / sigma
    low, median, high = (float(ratio.nanquantile(q)) for q in (0.1, 0.5, 0.9))
    return {
        "low": low, "median": median, "high": high, "stated_error": float((U.sigma_error / U.sigma).nanmedian()),
        "explained": int(R.verdict.explained.sum()), "signals": N, "milliseconds": 1e3 * spent / N,
        "wrong": int((R.verdict.explained & (ratio - 1 > 5 * U.sigma_error / U.sigma)).sum()),
    }  # fmt: skip


def _invert(
    G: ci.Generator, y: Tensor, seen: Tensor | None, noise: object, prior: ci.AbstractPrior | None
) -> tuple[ci.Inversion, float]:
    started = time.process_time()
    R = ci.invert(G, y, measurement=seen, noise=noise, prior=prior, on_fail="ignore", progress=False)
    return R, time.process_time() - started


# --- tables and pictures --------------------------------------------------------------------------


_COVERED = (
    "generator", "noise", "prior", "level", "of z", "coordinates, least to most", "of the signal", "median error of z",
    "explained", "ms",
)  # fmt: skip
_LEVELS = ("generator", "noise", "seen", "median", "10 % to 90 %", "stated error", "explained", "of them far off", "ms")


def tables(results: dict) -> list[Table]:
    covered = Table("Share of the truth in 95 % intervals", _COVERED, [])
    levels = Table("Estimated over true level", _LEVELS, [])
    for key, row in sorted(results.items()):
        part, *words = key.split("; ")
        explained, ms = f"{row['explained']} of {row['signals']}", f"{row['milliseconds']:.0f}"
        if part == "coverage":
            of_z, of_signal = (row[name][LEVELS.index(0.95)] for name in ("of_z", "of_signal"))
            span = f"{row['least']:.3f} to {row['most']:.3f}"
            cells = (*words, f"{of_z:.4f}", span, f"{of_signal:.4f}", f"{row['error']:.2g}", explained, ms)
            covered.rows.append(cells)
        else:
            cells = (f"{row['median']:.3f}", f"{row['low']:.2f} to {row['high']:.2f}", f"{row['stated_error']:.3f}")
            levels.rows.append((*words, *cells, explained, str(row["wrong"]), ms))
    return [table for table in (covered, levels) if table.rows]


def draw(results: dict, path: Path) -> Path | None:
    """Observed against nominal coverage, a panel per generator."""
    rows = {tuple(key.split("; ")[1:]): row for key, row in sorted(results.items()) if key.startswith("coverage")}
    if not rows:
        return None
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(key[0] for key in rows))
    figure, panels = plt.subplots(1, len(names), figsize=(6 * len(names), 5), layout="constrained", squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        axes.plot((0.5, 1), (0.5, 1), color="0.5", linewidth=0.8, label="as stated")
        axes.fill_between((0.93, 0.97), 0.93, 0.97, color="0.85", label="93 to 97 %")
        for k, (key, row) in enumerate((key, row) for key, row in rows.items() if key[0] == name):
            colour = matplotlib.colormaps["tab20"](k % 20)
            axes.plot(LEVELS, row["of_z"], "o-", markersize=3, color=colour, label=f"z: {', '.join(key[1:])}")
            axes.plot(LEVELS, row["of_signal"], "x--", markersize=4, color=colour)
        axes.set(xlabel="nominal probability of an interval", ylabel="share that holds the truth", title=name)
        axes.legend(fontsize=6, title="noise, prior, level; signal dashed", title_fontsize=6)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


# --- the run --------------------------------------------------------------------------------------


def generators(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, ci.Generator]:
    if arguments.quick:
        return {"digits_8x8": ci.load_generator(ROOT / "cvxinv" / "shipped" / "digits_8x8", dtype=torch.float64)}
    folder = Path(os.environ["CVXINV_DATA"]) / "generators"
    chosen = [name for name in names if arguments.only in name]
    return {name: ci.load_generator(folder / name, dtype=torch.float64) for name in chosen}


def cells(arguments: argparse.Namespace) -> dict[str, object]:
    """What is to be measured: a key, and how."""
    found: dict[str, object] = {}
    shares = [share for share in SHARES if arguments.noise is None or share == arguments.noise]
    few, many = (20, min(60, arguments.signals)) if arguments.quick else (arguments.few, arguments.signals)
    for name, G in generators(arguments, DENSE if arguments.all else COVERED).items() if arguments.part != "levels" else ():
        for share in shares:
            for prior in (False, True):
                for auto in (False, True):
                    words = (f"{share:.0%}", "Gaussian(1)" if prior else "none", "estimated" if auto else "stated")
                    found["; ".join(("coverage", name, *words))] = lambda a=(G, many, share, prior, auto): coverage(*a)
    for name, G in generators(arguments, (*DENSE, *WIDE)).items() if arguments.part != "coverage" else ():
        for share in shares:
            for seen in SEEN if arguments.seen is None else (arguments.seen,):
                if seen != "5 n0 entries" or 5 * G.latent_dim < G.signal_dim:
                    found["; ".join(("levels", name, f"{share:.0%}", seen))] = lambda a=(G, few, share, seen): level(*a)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("coverage", "levels"), default=None)
    parser.add_argument("--only", default="", help="generators whose name holds this")
    parser.add_argument("--noise", type=float, default=None, choices=SHARES, help="only this share")
    parser.add_argument("--all", action="store_true", help="coverage of all dense generators, not of two")
    parser.add_argument("--signals", type=int, default=1000, help="per row of coverage")
    parser.add_argument("--few", type=int, default=200, help="signals per row of levels")
    parser.add_argument("--seen", choices=SEEN, default=None, help="levels where only this was seen")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="folder for error_bars_cpu.json, .md and .png")
    arguments = parser.parse_args()
    if not begin_with_data(arguments.quick):
        return
    record: dict = {"circumstances": circumstances("cpu"), "results": _before(arguments.out)}
    for key, measure in tqdm(cells(arguments).items()):
        record["results"][key] = measure() | {"commit": record["circumstances"]["commit"]}
    record |= load_after(record)
    found = tables(record["results"])
    for table in found:
        print(table.markdown())
    if arguments.out is not None:
        said = "\n\n".join((__doc__ or "").split("\n\n")[2:])
        text = "\n".join(["# What is said of noisy signals", "", said, *(table.markdown() for table in found)])
        write(arguments.out, "error_bars_cpu", record, text)
        draw(record["results"], arguments.out / "error_bars_cpu.png")


def _before(folder: Path | None) -> dict:
    path = None if folder is None else folder / "error_bars_cpu.json"
    return json.loads(path.read_text())["results"] if path is not None and path.exists() else {}


if __name__ == "__main__":
    main()
