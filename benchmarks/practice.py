"""What practitioners met, tried as a new user would: what it was, and what comes out now.

    python benchmarks/practice.py                     # all rows, some minutes; those without data are skipped aloud
    python benchmarks/practice.py --only DCGAN        # rows whose name holds this
    python benchmarks/practice.py --out benchmarks/results/practice.md

Data: the shipped digits, small nets made here from seed 0, and trained generators of the folder CVXINV_DATA. Seconds are
wall time with one thread, per signal, first call included, for orientation: they are no claim of speed.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import circumstances
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

import cvxinv as ci
from cvxinv.command.demo import load_shipped
from cvxinv.guarantees.inspection import inspect_generator
from cvxinv.inversion.explain import explain

ROWS: list[tuple[str, str, Callable[[], str]]] = []


class MissingDataError(Exception):
    """What a row needs and is not there."""


def row(name: str, before: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Declare a row: its name, and what was met before."""

    def declare(run: Callable[[], str]) -> Callable[[], str]:
        ROWS.append((name, before, run))
        return run

    return declare


def seeded(seed: int) -> torch.Generator:
    """A source of random numbers."""
    return torch.Generator().manual_seed(seed)


def trained(name: str, **options: object) -> ci.Generator:
    """A generator of the folder CVXINV_DATA."""
    folder = os.environ.get("CVXINV_DATA")
    if folder is None:
        raise MissingDataError(f"needs {name}: CVXINV_DATA is not set")
    path = Path(folder) / "generators" / f"{name}.safetensors"
    if not path.exists():
        raise MissingDataError(f"needs {name}: not in CVXINV_DATA")
    return ci.load_generator(path, **options)  # type: ignore[arg-type]


def readme_net() -> ci.Generator:
    """The net of the README."""
    torch.manual_seed(0)
    parts = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 80), nn.ReLU(), nn.Linear(80, 200)]
    return ci.load_generator(nn.Sequential(*parts).eval())


def wide_net() -> ci.Generator:
    """2 - 128 - 8 x 14 x 14 -> transposed convolution to 28 x 28."""
    torch.manual_seed(0)
    head = [nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 1568), nn.ReLU(), nn.Unflatten(1, (8, 14, 14))]
    return ci.load_generator(nn.Sequential(*head, nn.ConvTranspose2d(8, 1, 4, 2, 1)).eval())


def sampled(G: ci.Generator, N: int, sigma: float = 0.0) -> tuple[Tensor, Tensor]:
    """Latents, and their signals with gaussian noise."""
    z = G.sample_latent(N, seeded(1))
    return z, G(z) + sigma * torch.randn(N, G.signal_dim, generator=seeded(2), dtype=torch.float64)


def recovered(found: ci.Inversion, z: Tensor) -> int:
    """How many z are right to 1e-6."""
    return int(((found.z - z).norm(dim=1) <= 1e-6 * z.norm(dim=1)).sum())


def timed(G: ci.Generator, N: int, **options: object) -> str:
    """z found of own samples, and seconds a signal."""
    z, x = sampled(G, N)
    started = time.perf_counter()
    found = ci.invert(G, x, on_fail="ignore", **options)
    spent = (time.perf_counter() - started) / N
    return f"z of {recovered(found, z)} of {N}, {spent:.2g} s a signal, by {', '.join(sorted(set(found.used)))}"


# --- noise, priors, words -------------------------------------------------------------------------


@row("a bound, or a prior", 'a VAE of 64 entries, noise=("l2", b): z error 2.0 at |z| 2.7; gamma= did nothing')
def map_or_bound() -> str:
    G, _, _ = load_shipped()
    z, y = sampled(G, 40, 0.3)
    said = []
    for name, how in (
        ("bound", {"noise": ("l2", 0.3 * 64**0.5 * 1.1)}),
        ("prior", {"noise": ("gaussian", 0.3), "prior": ci.Gaussian(1.0)}),
    ):
        found = ci.invert(G, y, on_fail="ignore", **how)
        said.append(f"{name}: median z error {float((found.z - z).norm(dim=1).median()):.2f}")
    return "; ".join(said)


@row("gamma= of hybrid", "accepted, without effect")
def idle_gamma() -> str:
    G, _, _ = load_shipped()
    try:
        ci.invert(G, sampled(G, 1)[1], gamma=1.0)
    except ValueError as error:
        return f"refused: {error}"
    return "accepted"


@row("level of the noise", "to be guessed, no error bars")
def level() -> str:
    G, _, _ = load_shipped()
    z, y = sampled(G, 100, 0.05)
    found = ci.invert(G, y, noise="auto", on_fail="ignore")
    assert found.uncertainty is not None
    low, high = found.uncertainty.intervals()[0]
    inside = float(((low <= z) & (z <= high)).double().mean())
    return f"{found.uncertainty.summary()} (true 0.05); {inside:.0%} of the coordinates in their 95 % intervals"


@row("exact signals, --noise l2:0.1", "18 of 20 layers infeasible")
def exact_with_a_bound() -> str:
    G = readme_net()
    found = ci.invert(G, sampled(G, 20)[1], noise=("l2", 0.1), on_fail="ignore")
    return (
        f"{int((found.layer_status == 'infeasible').any(1).sum())} of 20 with an infeasible layer; {found.verdict.counts()}"
    )


@row("a real picture", '"cannot be trusted", "it is the signal"')
def real_picture() -> str:
    G, digits, _ = load_shipped()
    found = ci.invert(G, digits[:1], on_fail="ignore")
    (word,) = explain(found, [0], G)
    return f"{word.trust}: {word.verdict}"


@row("layers that failed", '"layered" credited, infeasible layers unexplained')
def failed_layers() -> str:
    G = readme_net()
    found = ci.invert(G, sampled(G, 8)[1], support_threshold=0.5, on_fail="ignore")
    words = str(explain(found, [0], G)[0])
    return f"by {', '.join(sorted(set(found.used)))}; said harmless: {'harmless' in words}"


# --- operators ------------------------------------------------------------------------------------


@row("operators", "a class of one's own, or refused")
def operators() -> str:
    G, _, _ = load_shipped()
    z, x = sampled(G, 12)
    shape, kernel = G.signal_shape, torch.full((3, 3), 1 / 9, dtype=torch.float64)
    blur = ci.Convolution(kernel, shape, boundary="reflect")
    cases = {
        "blur": blur,
        "downsampling": ci.Downsampling(2, shape),
        "DCT rows": ci.CosineRows(torch.arange(40), shape),
        "FFT rows": ci.FourierRows(torch.rand(8, 8, generator=seeded(3)) < 0.7, shape),
        "Radon": ci.Radon(range(0, 180, 20), shape),
        "masked blur": ci.Composed(torch.rand(64, generator=seeded(4)) > 0.4, blur),
    }
    said = []
    for name, how in cases.items():
        found = ci.invert(G, how.observe(x), measurement=how, on_fail="ignore")
        said.append(f"{name} {recovered(found, z)}")
    return "z of 12: " + ", ".join(said)


# --- wide and convolutional generators ------------------------------------------------------------


@row("64 x 64 DCGAN through its tanh", "0 of 5, 3.5 s each")
def dcgan() -> str:
    return timed(trained("amshoka_dcgan_64x64"), 5)


@row("64 x 64 DCGAN before its tanh", "0 of 3, 57 s each")
def dcgan_before() -> str:
    return timed(trained("amshoka_dcgan_64x64", output="identity"), 3)


@row("28 x 28 DCGAN", "1.2 to 4 s a signal")
def small_dcgan() -> str:
    return timed(trained("aman_fashion_dcgan_28x28"), 5)


@row("an encoder of the user's", "no way in")
def encoder() -> str:
    G, _, _ = load_shipped()
    known = G.sample_latent(500, seeded(8))
    best = torch.linalg.lstsq(G(known), known).solution
    return timed(G, 12, z0=lambda y: y @ best)


# --- faults met on public generators --------------------------------------------------------------


@row("everything seen", "18.9 s a signal")
def everything_seen() -> str:
    return timed(wide_net(), 3)


@row("all but one pixel seen", "0.13 s a signal")
def one_pixel_hidden() -> str:
    return timed(wide_net(), 3, measurement=torch.arange(784) > 0)


@row("inspect of a small convolutional net", "17 to 134 s")
def inspected() -> str:
    started = time.perf_counter()
    inspect_generator(wide_net(), 500)
    return f"{time.perf_counter() - started:.2g} s"


@row("inspect of LeakyReLU units", '"never active and carry nothing", one of which carried 13 %')
def leaky_units() -> str:
    said = inspect_generator(trained("ashish_gan_leaky_64_256_784"), 500).expectations
    return "; ".join(word for word in said if "carr" in word) or "no unit is said to carry nothing"


@row("a rank-deficient GAN", '40 to 50 % explained, the others told "it is the signal"')
def rank_deficient() -> str:
    G = trained("jay_gan_bn_128_256_512_784")
    _, x = sampled(G, 10)
    found = ci.invert(G, x, on_fail="ignore")
    missed = (~found.verdict.explained).nonzero()[:, 0].tolist()
    blamed = sum(word.cause == "signal" for word in explain(found, missed, G))
    return f"{10 - len(missed)} of 10 explained; {blamed} of {len(missed)} others blamed on the signal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--out", type=Path, help="file for the table, markdown")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ci.ConvergenceWarning)
    table = Table("what", "before", "now", show_lines=True)
    lines = ["| what | before | now |", "|---|---|---|"]
    for name, before, run in tqdm([entry for entry in ROWS if args.only in entry[0]]):
        try:
            now = run()
        except MissingDataError as error:
            now = f"skipped: {error}"
        table.add_row(name, before, now)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in (name, before, now))} |")
    Console(width=150).print(table)
    if args.out is not None:
        seen = circumstances("cpu")
        where = (
            f"`python benchmarks/practice.py`, commit {seen['commit']}, {seen['date']}, one thread of {seen['processor']}."
        )
        args.out.write_text("\n".join(["# What practitioners met", "", where, "", *lines, ""]))


if __name__ == "__main__":
    main()
