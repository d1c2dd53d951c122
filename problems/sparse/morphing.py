"""Morphing within a generator's range, and the ADMM with a sparse prior against CVXPY.

    python problems/sparse/morphing.py            # minutes; writes problems/sparse/results/morphing*
    python problems/sparse/morphing.py --quick    # 8 x 8 digits alone, few iterations
    python problems/sparse/morphing.py --data 3 7 --out DIR    # MNIST digits of two classes, from CVXINV_DATA

Sparse: the barycenter halfway between two of the 8 x 8 digits that ship, eps = 0.5 px^2, in {D a : |a|_1 <= 1.2, a >= 0}
with 24 others as atoms; the optimum is CLARABEL's on the statement of `Barycenters`. Range: samples of the shipped MNIST
generator of two latents, floor -1; with `--data` the first test images of two classes. What `--data` draws shows images
of a data set, and is written nowhere but to DIR. Source of the problem: Simon, Aberdam, "Barycenters of natural images:
constrained Wasserstein barycenters for image morphing" (2019).
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import cvxinv as ci
from cvxinv.command.demo import load_shipped
from cvxinv.files import write_whole
from cvxinv.pages.plots import morphing_picture

HERE = Path(__file__).resolve().parent
SEEDS = (13, 22)  # of the two latents
GRID, EPS, RADIUS = (8, 8), 0.5, 1.2


def sparse(iterations: int) -> dict:
    """The ADMM with a sparse prior beside the optimum of CVXPY."""
    x = ci.as_masses(load_shipped()[1]).x
    problem = ci.Barycenters(x[None, :2].clone(), torch.full((1, 2), 0.5, dtype=torch.float64), GRID, EPS)
    prior = ci.SparsePrior(x[2:26].T.clone(), RADIUS, nonnegative=True)
    best = float(problem.statement(0, prior=prior)[0].solve("CLARABEL"))
    found = ci.constrained_barycenters(problem, prior, max_iter=iterations)
    plain = ci.entropic_barycenters(problem)[1]
    kept = found.residuals
    return {
        "optimum": best, "objective": float(found.certificate.objective), "bound": float(found.certificate.bound),
        "status": str(found.status[0]), "distance": float(found.distance), "without_prior": float(plain.objective),
        "atoms": int((found.known > 1e-6).sum()), "primal": kept.primal[:, 0].tolist(), "dual": kept.dual[:, 0].tolist(),
        "rho": kept.rho[:, 0].tolist(),
    }  # fmt: skip


def pictures(generator: ci.Generator, classes: list[int] | None) -> Tensor:
    """A and B, `(2, d)`, signal units: of two classes of MNIST's test images, or of the generator itself."""
    if classes is not None:
        folder = os.environ.get("CVXINV_DATA")
        if not folder:
            raise SystemExit("expected CVXINV_DATA beside --data, a folder with datasets/; set it, or leave --data out")
        held = np.load(Path(folder) / "datasets" / "mnist_test.npz")
        chosen = [int(np.flatnonzero(held["labels"] == one)[0]) for one in classes]
        return torch.from_numpy(held["images"][chosen].reshape(2, -1) / 127.5 - 1.0)
    return generator(torch.cat([generator.sample_latent(1, torch.Generator().manual_seed(seed)) for seed in SEEDS]))


def within_range(name: str, floor: float, classes: list[int] | None, frames: int, iterations: int) -> tuple:
    """The morphing, and the numbers of its frames."""
    generator = ci.load_generator(name)
    a, b = pictures(generator, classes)
    found = ci.morph(generator, a, b, frames=frames, floor=floor, clip=True, max_iter=iterations)
    names = ("t", "distance", "linear_distance", "wasserstein_distance", "objective", "bound", "transport", "mass_error")
    record = {word: getattr(found, word).tolist() for word in names}
    kept = found.residuals
    record |= {"generator": name, "eps": found.eps, "status": found.status.tolist(), "seconds": found.seconds}
    return found, record | {word: getattr(kept, word).median(1).values.tolist() for word in ("primal", "dual")}


def draw_sparse(record: dict, path: Path) -> None:
    """Residuals of the ADMM with the sparse prior, and its penalty."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    number = range(1, len(record["primal"]) + 1)
    axes.loglog(number, record["primal"], color="#0072b2", ls="-", label="primal |y - w| (mass)")
    axes.loglog(number, record["dual"], color="#d55e00", ls="--", label="dual rho |w - w_before| (px²)")
    axes.loglog(number, [1e-4 * rho for rho in record["rho"]], color="#009e73", ls=":", label="1e-4 rho (px²)")
    axes.set_xlabel("iteration of the ADMM")
    axes.set_ylabel("residual")
    axes.set_title("sparse prior, 8 x 8 digits, 24 atoms, eps = 0.5 px²", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def table(record: dict) -> str:
    """Both records, as markdown."""
    few, wide = record["sparse"], record["range"]
    lines = [
        f"Sparse prior: objective {few['objective']:.6f} px^2, bound {few['bound']:.6f}, CVXPY {few['optimum']:.6f} "
        f"(without the prior {few['without_prior']:.6f}); |y - w| = {few['distance']:.1e}, {few['atoms']} atoms, "
        f"{len(few['primal'])} iterations, {few['status']}.", "",
        f"Range of {wide['generator']}, "
        f"eps = {wide['eps']:g} px^2, mass kept to {max(wide['mass_error']):.0e} "
        "of it; distances to the range in l2, signal units; objective and bound in px^2:", "",
        "| t | y, next to ours | linear | Wasserstein | objective of ours | none below | status |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    names = ("distance", "linear_distance", "wasserstein_distance", "objective", "bound")
    for i, t in enumerate(wide["t"]):
        lines.append(" | ".join([f"| {t:.2f}", *(f"{wide[n][i]:.3g}" for n in names), f"{wide['status'][i]} |"]))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 x 8 digits, few iterations")
    parser.add_argument("--data", type=int, nargs=2, metavar="CLASS", help="two classes of MNIST, 0 to 9; needs --out")
    parser.add_argument("--out", type=Path, help="folder; left out problems/sparse/results")
    asked = parser.parse_args(arguments)
    if asked.data is not None and asked.out is None:
        parser.error("expected --out beside --data: pictures of a data set stay out of the repository")
    out = asked.out or HERE / "results"
    name, floor = ("digits_8x8", 0.0) if asked.quick else ("mnist_gan", -1.0)
    found, wide = within_range(name, floor, asked.data, *((4, 2) if asked.quick else (10, 10)))
    record = {"sparse": sparse(40 if asked.quick else 1000), "range": wide}
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "morphing.json", (json.dumps(record) + "\n").encode())
    write_whole(out / "morphing.md", f"# Morphing within a range\n\n{table(record)}\n".encode())
    low, high = (0.0, 1.0) if asked.quick else (-1.0, 1.0)
    what = f"MNIST {asked.data[0]} to {asked.data[1]}" if asked.data else "two samples of the generator"
    morphing_picture(found, (low, high), title=f"{what}, {name}").savefig(out / "morphing.png", dpi=80)
    draw_sparse(record["sparse"], out / "morphing_admm.png")
    print(table(record))


if __name__ == "__main__":
    main()
