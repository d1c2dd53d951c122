"""Every measurement before whole inversions: z found again, certificates beside those of the dense matrix, seconds.

    python benchmarks/operators.py                          # a table; some minutes
    python benchmarks/operators.py --quick                  # small, on the shipped digits: to see that it runs
    python benchmarks/operators.py --only "blur" --signals 100

Data: a trained generator of pictures of the folder CVXINV_DATA (`--generator`), with its own output and read before it
("identity"). Signals: those of its own latents. Measurements see at least 3 n0 numbers. Recovered: |z found - z| <=
1e-6 |z|, by hybrid. Beside it hybrid with the dense matrix of the same measurement, which shows what can be told at all.
Where latent pursuit takes the measurement (identity output, rows enough): whether statuses of every layer are alike, and
how far objective and bound, over |y|^2, and z are from those with the dense matrix. A layer whose h is not unique, as with
fewer rows than unknowns, hands on another h where rounding differs: layers after it are other problems, and not compared.
Products: process seconds of `push` of a Jacobian over those of the dense matrix, in the same process.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from measuring import circumstances
from runs import begin, load_after, write
from scipy.sparse.linalg import LinearOperator
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci

ROOT = Path(__file__).resolve().parent.parent


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bell(size: int, width: float) -> Tensor:
    """A Gaussian kernel of sum 1."""
    t = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = torch.exp(-((t / width) ** 2) / 2)
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def by_fft(shape: tuple[int, int]) -> ci.Operator:
    """The circular blur of grey pictures as two functions."""
    kernel = torch.zeros(shape, dtype=torch.float64)
    kernel[:5, :5] = bell(5, 1.5)
    spectrum = torch.fft.rfft2(kernel)

    def product(x: Tensor, F: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x.reshape(-1, *shape)) * F.to(x.device), s=shape).flatten(1).to(x.dtype)

    return ci.Operator(lambda x: product(x, spectrum), lambda r: product(r, spectrum.conj()), shape[0] * shape[1])


def measurements(shape: tuple[int, int], n0: int, N: int) -> dict[str, Callable[[], ci.AbstractMeasurement]]:
    """What can be measured of pictures of a shape, by name."""
    height, width = shape
    d, few = height * width, max(4 * n0, 60)
    source = torch.Generator().manual_seed(3)
    half, motion = torch.rand(N, d, generator=source) > 0.5, torch.eye(9, dtype=torch.float64) / 9
    low = [p * width + q for p in range(12) for q in range(12) if p < height and q < width]
    some = torch.rand(height, width, generator=source) < 0.25
    A = normal(few, d).numpy()
    dots = scipy.sparse.random_array((few, d), density=0.05, rng=0)
    return {
        "blur 5x5": lambda: ci.Convolution(bell(5, 1.5), shape),
        "blur 9x9, circular": lambda: ci.Convolution(bell(9, 2.0), shape, "circular"),
        "motion blur, reflect": lambda: ci.Convolution(motion, shape, "reflect"),
        "blur, every 2nd pixel": lambda: ci.Convolution(bell(4, 1.0), shape, "reflect", 2),
        "means of 2x2": lambda: ci.Downsampling(2, shape),
        "every 3rd pixel": lambda: ci.Downsampling(3, shape, "pick"),
        "144 lowest cosines": lambda: ci.CosineRows(low, shape),
        "quarter of Fourier": lambda: ci.FourierRows(some, shape),
        "projections, 12 angles": lambda: ci.Radon(range(0, 180, 15), shape),
        "sparse, 4 n0 rows": lambda: ci.SparseMatrix(dots),
        "functions (FFT)": lambda: by_fft(shape),
        "LinearOperator, 4 n0 rows": lambda: ci.ScipyOperator(
            LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda r: A.T @ r, matmat=lambda X: A @ X, dtype=float)
        ),
        "blur, half hidden": lambda: ci.Composed(half, ci.Convolution(bell(5, 1.5), shape)),
        "means of the blurred": lambda: ci.Composed(ci.Downsampling(2, shape), ci.Convolution(bell(5, 1.0), shape)),
        "a matrix per signal": lambda: ci.Matrix(normal(N, few, d)),
    }


def measure(G: ci.Generator, seeing: ci.AbstractMeasurement, z: Tensor) -> dict:
    """One row: hybrid with the measurement and with its matrix, latent pursuit where it applies, products."""
    y, A = seeing.observe(G(z)), seeing.matrix(torch.float64, "cpu")
    row: dict = {"rows": seeing.length, **recovered(G, y, seeing, z)}
    other: object = A
    if isinstance(seeing, ci.Composed) and A is None:  # a mask of one signal each on what all share
        A = seeing.inner.matrix(torch.float64, "cpu")
        other = ci.Composed(seeing.outer, A)
    if other is not None:
        row["dense"] = recovered(G, y, other, z)
        row["layers"] = layers(G, y, seeing, other)
    if A is not None:
        J, dense = G.linearize(z)[1], ci.Matrix(A)
        row["push"] = seconds(lambda: seeing.push(J)) / seconds(lambda: dense.push(J))
    return row


def recovered(G: ci.Generator, y: Tensor, seeing: object, z: Tensor) -> dict:
    started = time.process_time()
    R = ci.invert(G, y, measurement=seeing, on_fail="ignore", progress=False)
    spent = time.process_time() - started
    error = (R.z - z).norm(dim=1) / z.norm(dim=1)
    used: dict[str, int] = {}
    for word in R.used:
        used[word] = used.get(word, 0) + 1
    return {
        "recovered": int((error <= 1e-6).sum()), "explained": int(R.verdict.explained.sum()),
        "determined": int(ci.verify(G, y, z, measurement=seeing).determined.sum()), "used": used,
        "milliseconds": 1e3 * spent / len(z),
    }  # fmt: skip


def layers(G: ci.Generator, y: Tensor, seeing: ci.AbstractMeasurement, A: object) -> dict:
    """Latent pursuit with the measurement beside that with its matrix: what differs; or why it does not apply."""
    try:
        mine = ci.invert(G, y, "latent_pursuit", measurement=seeing, on_fail="ignore", progress=False)
    except ValueError as reason:
        return {"cannot": str(reason).split(": ", 1)[-1]}
    other = ci.invert(G, y, "latent_pursuit", measurement=A, on_fail="ignore", progress=False)
    same = bool((mine.layer_status == other.layer_status).all())
    far, size = [0.0], y.square().sum(1)
    for a, b in zip(mine.layers, other.layers, strict=True):
        claims = a.solution.certificate, b.solution.certificate
        for p, q in (tuple(c.objective for c in claims), tuple(c.bound for c in claims)):
            far.append(float(((p - q).abs() / size).max()))
        if not torch.allclose(a.solution.h, b.solution.h, rtol=1e-6, atol=1e-6 * float(a.solution.h.abs().max())):
            break
    return {
        "alike": same and bool((mine.status == other.status).all()), "certificates off": max(far),
        "z off": float(((mine.z - other.z).norm(dim=1) / other.z.norm(dim=1)).max()),
        "statuses": mine.verdict.counts(),
    }  # fmt: skip


def seconds(call: Callable[[], object], times: int = 5) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return max(best, 1e-9)


HEADER = (
    "| measurement | rows | z to 1e-6 | with the dense matrix | explained | determined | ms a signal | found by "
    "| layers alike | certificates off | z off | push over dense |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(name: str, row: dict) -> str:
    dense, pursuit = row.get("dense") or {}, row.get("layers") or {}
    used = ", ".join(f"{word} {n}" for word, n in sorted(row["used"].items(), key=lambda pair: -pair[1])[:2])
    cells = [
        name, row["rows"], row["recovered"], dense.get("recovered", "-"), row["explained"], row["determined"],
        f"{row['milliseconds']:.1f}", used,
    ]  # fmt: skip
    if "alike" in pursuit:
        cells += ["yes" if pursuit["alike"] else "NO", f"{pursuit['certificates off']:.0e}", f"{pursuit['z off']:.0e}"]
    else:
        cells += [pursuit.get("cannot", "one map for all signals is not there")[:60], "-", "-"]
    return "| " + " | ".join(str(cell) for cell in [*cells, f"{row['push']:.2f}" if "push" in row else "-"]) + " |"


def generators(arguments: argparse.Namespace) -> list[tuple[str, ci.Generator]]:
    """The generator with its own output and before it."""
    if arguments.quick:
        folder = ROOT / "cvxinv" / "shipped" / "digits_8x8.safetensors"
        return [("digits_8x8", ci.load_generator(folder, dtype=torch.float64))]
    path = Path(os.environ["CVXINV_DATA"]) / "generators" / arguments.generator
    G = ci.load_generator(path, dtype=torch.float64)
    return [(f"{arguments.generator}, as trained", G), (f"{arguments.generator}, identity", G.with_output("identity"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="csinva_vae_20_400_784", help="of the folder CVXINV_DATA")
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="measurements whose name holds this")
    parser.add_argument("--out", type=Path, default=None, help="folder for operators_cpu.json and .md")
    arguments = parser.parse_args()
    begin("cpu")
    if not arguments.quick and "CVXINV_DATA" not in os.environ:
        print("skipped: CVXINV_DATA is not set, and the generator is in that folder")
        return
    record: dict = {"circumstances": circumstances("cpu"), "signals": arguments.signals, "results": {}}
    lines = ["# Measurements before whole inversions", "", (__doc__ or "").split("\n\n", 2)[2]]
    for title, G in generators(arguments):
        N, shape = (3 if arguments.quick else arguments.signals), tuple(G.signal_shape)[-2:]
        shape = shape if len(shape) == 2 else (int(np.sqrt(G.signal_dim)),) * 2
        z = G.sample_latent(N, torch.Generator().manual_seed(arguments.seed))
        rows = {}
        for name, make in tqdm(measurements(shape, G.latent_dim, N).items(), desc=title, leave=False):
            if arguments.only.lower() in name.lower():
                rows[name] = measure(G, make(), z)
        lines += [f"## {title}, {N} signals", "", HEADER, *(line(name, row) for name, row in rows.items()), ""]
        print("\n".join(lines[-len(rows) - 4 :]), flush=True)
        record["results"][title] = rows
    record["circumstances"] |= load_after(record)
    if arguments.out is not None:
        stem = "operators_quick" if arguments.quick else "operators_cpu"
        lines += [f"Commit {record['circumstances']['commit']}."]
        print(*write(arguments.out, stem, record, "\n".join(lines)), sep="\n")


if __name__ == "__main__":
    main()
