"""What the fixed points of ML-ISTA and ML-FISTA are worth: excess over the certified optimum, by step size.

    python problems/sparse/multi_layer_pursuit.py           # minutes; writes problems/sparse/results/multi_layer_pursuit.*
    python problems/sparse/multi_layer_pursuit.py --quick   # some seconds, 300 iterations

min 1/2 |y - D_1 D_2 g|^2 + 0.05 |D_2 g|_1 + 0.1 |g|_1 with Gaussian D_1, 50 x 70, and D_2, 70 x 60, of unit columns: sizes
and weights of the instance in `sparse` note 2.3, other numbers. The optimum is that of `solve`, with its certificate. Both
methods run with mu = 1, 0.1 and 0.01, the step of the first layer in units of 1 / |D_1|^2, from 0; `certificate` is the
judge's gap at the last pass. Source of the methods and of the claim: Sulam, Aberdam, Beck, Elad, "On multi-layer basis
pursuit, efficient algorithms and convolutional neural networks" (2018).
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

import cvxinv as ci
from cvxinv.sparse_models.multi_layer_ista import one_pass, safe_steps

HERE = Path(__file__).resolve().parent
MUS = (1.0, 0.1, 0.01)
SIZES, LAM = (50, 70, 60), (0.05, 0.1)
_POINTS = 120  # of each curve, evenly in the logarithm of the iteration


def instance(seed: int = 0) -> ci.MultiLayerPursuit:
    """One signal of six deepest coefficients, with noise."""
    source = torch.Generator().manual_seed(seed)
    weights = [torch.randn(m, n, generator=source, dtype=torch.float64) for m, n in pairwise(SIZES)]
    D = tuple(ci.Dense(weight / weight.norm(dim=0)) for weight in weights)
    h = torch.zeros(1, SIZES[-1], dtype=torch.float64)
    h[0, torch.randperm(SIZES[-1], generator=source)[:6]] = torch.randn(6, generator=source, dtype=torch.float64)
    y = D[0](D[1](h)) + 0.05 * torch.randn(1, SIZES[0], generator=source, dtype=torch.float64)
    problem = ci.multi_layer_pursuit(D, y, LAM)
    assert isinstance(problem, ci.MultiLayerPursuit)
    return problem


def curve(problem: ci.MultiLayerPursuit, best: float, mu: float, momentum: bool, iterations: int) -> dict:
    """Objective less the optimum after some iterations, and what is certified of the last."""
    steps, g = safe_steps(problem.dictionaries, mu), torch.zeros(1, problem.n, dtype=torch.float64)
    before, t = g, 1.0
    kept = sorted({round(iterations ** (k / (_POINTS - 1))) for k in range(_POINTS)})
    found: list[float] = []
    for k in tqdm(range(1, iterations + 1), desc=f"{_name(momentum)}, mu = {mu:g}", leave=False):
        w = g
        if momentum:
            t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            w = g + (last - 1) / t * (g - before)
        before, g = g, one_pass(problem, w, steps).representations[-1]
        if k in kept:
            found.append(float(problem.objective(g)) - best)
    last_pass = one_pass(problem, g, steps)
    moved = float((last_pass.representations[-1] - g).norm() / g.norm())
    certificate = float(ci.certify(problem, ci.Point(g, last_pass.p)).gap)
    return {
        "method": _name(momentum), "mu": mu, "iterations": kept, "excess": found, "moved": moved,
        "certificate": certificate, "bias": float(last_pass.bias),
    }  # fmt: skip


def _name(momentum: bool) -> str:
    return "ML-FISTA" if momentum else "ML-ISTA"


def measure(iterations: int) -> dict:
    """All curves of one instance, and its optimum."""
    problem = instance()
    solution = ci.solve(problem, on_fail="raise")
    best = float(solution.certificate.objective)
    curves = [curve(problem, best, mu, momentum, iterations) for mu in MUS for momentum in (False, True)]
    return {"optimum": best, "gap": float(solution.certificate.gap), "iterations": iterations, "curves": curves}


def draw(record: dict, path: Path) -> None:
    """Excess against iterations, with what the last pass certifies as a dotted line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    looks = dict(zip(MUS, (("#d55e00", "-"), ("#0072b2", "--"), ("#009e73", "-.")), strict=True))
    for found in record["curves"]:
        (colour, line), fast = looks[found["mu"]], found["method"] == "ML-FISTA"
        label = f"{found['method']}, mu = {found['mu']:g}"
        axes.loglog(
            found["iterations"],
            found["excess"],
            line,
            color=colour,
            lw=1 if fast else 2.6,
            alpha=1 if fast else 0.5,
            label=label,
        )
        if fast:
            height, told = found["certificate"], f"certificate there, mu = {found['mu']:g}"
            axes.axhline(height, color=colour, ls=":", lw=1.2, label=told)
            axes.annotate(f"mu = {found['mu']:g}", (1, height), fontsize=7, color=colour, va="bottom")
    axes.set_xlabel("iteration")
    axes.set_ylabel("objective - optimum (signal units squared)")
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(path, dpi=110)


def table(record: dict) -> str:
    """The last iterations, as markdown."""
    lines = [
        f"Optimum {record['optimum']:.6f}, certified to {record['gap']:.0e}; after {record['iterations']} iterations:", "",
        "| method | mu | objective - optimum | certificate | bias formula | last step, of the length of g |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for found in record["curves"]:
        numbers = [f"{found['excess'][-1]:.2e}", *(f"{found[k]:.2e}" for k in ("certificate", "bias", "moved"))]
        lines.append("| " + " | ".join([found["method"], f"{found['mu']:g}", *numbers]) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300 iterations")
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args(arguments)
    record = measure(300 if asked.quick else asked.iterations)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "multi_layer_pursuit.json").write_text(json.dumps(record) + "\n")
    (asked.out / "multi_layer_pursuit.md").write_text("# ML-ISTA against the optimum\n\n" + table(record) + "\n")
    draw(record, asked.out / "multi_layer_pursuit.png")
    print(table(record))


if __name__ == "__main__":
    main()
