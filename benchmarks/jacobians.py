"""Seconds and memory of one Gauss-Newton step's normal equations, by way and generator, each in a process of its own.

    python benchmarks/jacobians.py             # a table; about a minute
    python benchmarks/jacobians.py --quick     # two small ones in this process: to see that it runs

A row per generator, a column per way: J in float64, J in float32 with the gradient in float64, J'(J E) by blocks of unit
vectors, and a Krylov space, for one signal at a random latent and damping 1e-3. Seconds are of one thread, the median of
three; megabytes are what the process held at most beyond what reading the generator had taken. Generators of random weights
have the layers of DCGANs, upsampling or dense nets; with `CVXINV_DATA` the trained ones are measured too. "chosen" is what
a descent takes far from its end.
"""

import argparse
import os
import resource
import statistics
import time
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import torch
from measuring import circumstances
from runs import begin, load_after, write
from torch import nn

import cvxinv as ci
from cvxinv.inversion.steps.normal_equations import by_blocks, by_columns, by_krylov, in_single, ways_of
from cvxinv.inversion.task import make_task

WAYS = {"columns": by_columns, "single": in_single, "blocks": by_blocks, "krylov": by_krylov}
REPEATS = 3


def dcgan(n0: int, widths: tuple[int, ...], channels: int) -> ci.Generator:
    """n0 -> widths[0] x 4 x 4 -> ... -> channels pictures, each step twice as large, ReLU between, tanh behind."""
    layers: list[nn.Module] = [nn.Unflatten(1, (n0, 1, 1)), nn.ConvTranspose2d(n0, widths[0], 4), nn.ReLU()]
    for a, b in pairwise((*widths, channels)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
    return settled(nn.Sequential(*layers[:-1], nn.Tanh()), n0)


def upsampling(n0: int, channels: int) -> ci.Generator:
    """n0 -> channels x 8 x 8, then nearest upsampling and convolutions to 3 x 64 x 64."""
    layers: list[nn.Module] = [nn.Linear(n0, channels * 64), nn.ReLU(), nn.Unflatten(1, (channels, 8, 8))]
    for a, b in pairwise((channels, channels, channels // 2, 3)):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
    return settled(nn.Sequential(*layers[:-1], nn.Sigmoid()), n0)


def dense(*sizes: int) -> ci.Generator:
    """Dense layers with ReLU between."""
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return settled(nn.Sequential(*layers[:-1]), sizes[0])


def settled(module: nn.Sequential, n0: int) -> ci.Generator:
    """The generator of a module with weights that keep the size of what goes through."""
    source = torch.Generator().manual_seed(0)
    for layer in module:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            taps = layer.weight[0].numel() if not isinstance(layer, nn.ConvTranspose2d) else layer.weight[:, 0].numel()
            taps = taps // 4 if isinstance(layer, nn.ConvTranspose2d) and layer.stride == (2, 2) else taps
            nn.init.normal_(layer.weight, 0, (2 / taps) ** 0.5, generator=source)
    return ci.load_generator(module, latent_dim=n0)


RANDOM = {
    "dcgan 128 -> 512x4x4 -> 3x64x64": lambda: dcgan(128, (512, 256, 128, 64), 3),
    "dcgan 100 -> 128x4x4 -> 1x32x32": lambda: dcgan(100, (128, 64, 32), 1),
    "upsampling 64 -> 64x8x8 -> 3x64x64": lambda: upsampling(64, 64),
    "dense 20-400-784": lambda: dense(20, 400, 784),
    "dense 1024-2048-4096": lambda: dense(1024, 2048, 4096),
}

QUICK = ("dcgan 100 -> 128x4x4 -> 1x32x32", "dense 20-400-784")


def measure(name: str, way: str) -> dict[str, float | str]:
    """One way on one generator, in this process."""
    torch.set_grad_enabled(False)
    G = RANDOM[name]() if name in RANDOM else ci.load_generator(name)
    source = torch.Generator().manual_seed(1)
    task, z = make_task(G, G(G.sample_latent(1, source))), G.sample_latent(1, source)
    mu = torch.full((1,), 1e-3, dtype=torch.float64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    WAYS[way](task, z, mu)  # with what is made once: float32 weights, kernels
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        WAYS[way](task, z, mu)
        seconds.append(time.process_time() - started)
    held = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return {"seconds": statistics.median(seconds), "megabytes": held, "chosen": ways_of(task).far}


def elsewhere(name: str, way: str) -> dict[str, float | str]:
    """`measure` in a process of its own, so that no way pays for, or lives on, what another held."""
    with get_context("fork").Pool(1) as pool:  # a fork, so that torch is not loaded again
        return pool.apply(measure, (name, way))


def table(rows: list[dict]) -> str:
    """Milliseconds and megabytes, a row per generator."""
    lines = [f"| generator | {' | '.join(WAYS)} | chosen |", "|---|" + "---:|" * len(WAYS) + "---|"]
    for row in rows:
        cells = [f"{1e3 * row[way]['seconds']:.3g} ms, {row[way]['megabytes']:.0f} MB" for way in WAYS]
        lines.append(f"| {row['generator']} | {' | '.join(cells)} | {row['columns']['chosen']} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every generator by every way; write table and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small generators")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    options = parser.parse_args()
    begin("cpu")
    folder = os.environ.get("CVXINV_DATA")
    trained = [] if folder is None else sorted(map(str, (Path(folder) / "generators").glob("*.json")))
    names, one = (QUICK, measure) if options.quick else ((*RANDOM, *trained), elsewhere)
    record: dict = {"circumstances": circumstances("cpu"), "rows": []}
    for name in names:
        record["rows"].append({"generator": Path(name).stem, **{way: one(name, way) for way in WAYS}})
        print(table(record["rows"][-1:]).splitlines()[-1], flush=True)
    record |= load_after(record)
    head = "# Normal equations of a Gauss-Newton step, one signal, one thread\n\nBy `benchmarks/jacobians.py`.\n\n"
    load = f"\n\nLoad average before {record['circumstances']['load'][0]:.1f}, after {record['load_after'][0]:.1f}."
    write(options.out, "jacobians_quick" if options.quick else "jacobians_cpu", record, head + table(record["rows"]) + load)


if __name__ == "__main__":
    main()
