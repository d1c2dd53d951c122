"""What a learned warm start saves on masked layer problems: iterations and seconds to the same certificate.

    CVXINV_DATA=DIR python problems/sparse/learned_start.py           # minutes; problems/sparse/results/learned_start.*
    CVXINV_DATA=DIR python problems/sparse/learned_start.py --quick   # networks that have hardly begun

A run that was broken off goes on with the next layer.

The image layer of a trained generator, h >= 0, behind its output's pre-activation: y = W h + b + noise of 5 % of its spread,
h from Gaussian latents, 40 % of the rows seen, other ones for every signal; min 1/2 |W h + b - y|^2 on what is seen + lam
1'h with lam = sigma (2 log n)^(1/2) max |w_j| / 8, the pursuit's own. A `NonnegativeReverseAdaLFISTA` of T = 7 (8 steps)
learns from optima that `solve` certified, by the Adam method, on problems in normalised units. Then FISTA with restart goes
on to relative gaps of 1e-2, 1e-4 and 1e-6, from h = 0, from the mean of the labels (a start that costs nothing), and from
the network, whose 8 steps count as 8 iterations. A look every 5 iterations tells the number; with polishing, of what the
active set makes of the points, and without. Seconds are process time of `solve` with its own looks, for all tests together,
and of "auto". Generators: DIR/generators/*.safetensors.
"""

import argparse
import dataclasses
import json
import os
import time
from math import log
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci
from cvxinv.files import write_whole

HERE = Path(__file__).resolve().parent
GENERATORS = ("lei_vae_relu_20_60_784_nobias", "laug_vae_5_128_256_784")
UNFOLDINGS, SEEN, NOISE = 7, 0.4, 0.05
TOLERANCES = (1e-2, 1e-4, 1e-6)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """signals: for training; tests: others, with other masks."""

    signals: int = 1000
    tests: int = 16
    epochs: int = 20
    batch: int = 100
    rate: float = 3e-3
    seed: int = 0


QUICK = Recipe(signals=100, tests=8, epochs=2)


class Watched(ci.FISTA):
    """FISTA that is looked at every five iterations."""

    name = "fista, watched"
    first_check = 5

    def next_check(self, iteration: int) -> int:
        return iteration + 5


def problem_of(generator: ci.Generator, N: int, draw: torch.Generator) -> ci.NonnegativeLasso:
    """The image layer's problems of N signals."""
    W, b = generator.layers[-1].W, generator.layers[-1].b
    y = generator.before_output(generator.sample_latent(N, draw))
    sigma = NOISE * float(y.std())
    y = y + sigma * torch.randn(y.shape, generator=draw, dtype=torch.float64)
    seen = torch.rand(y.shape, generator=draw) < SEEN
    lam = sigma * (2 * log(W.n)) ** 0.5 * float(W.column_lengths().max()) / 8
    return ci.NonnegativeLasso(ci.Rows(W, b, y, seen, torch.zeros_like(seen)), lam)


def labels(problem: ci.NonnegativeLasso) -> Tensor:
    """Certified optima in the units of the normalised problem."""
    parts = [
        ci.solve(problem.take(i), on_fail="raise", progress=False).h
        for i in tqdm(torch.arange(problem.N).split(100), "optima", unit="block", leave=False)
    ]
    return torch.cat(parts) / problem.normalised().h_unit


def trained(problem: ci.NonnegativeLasso, h: Tensor, recipe: Recipe) -> ci.NonnegativeReverseAdaLFISTA:
    """The network, for problems in normalised units whose optima are `h`."""
    small = problem.normalised().problem
    y, seen, lam, h = (x.float() for x in (small.rows.target, small.rows.on, small.number("lam")[:, None], h))
    network = ci.NonnegativeReverseAdaLFISTA(small.rows.W.matrix().float(), UNFOLDINGS)
    slow, fast = [network.W1, network.W2], [network.gam, network.log_eta]
    size = float(network.W1.detach().std())  # entries of W move in units of their own
    groups = [{"params": slow, "lr": recipe.rate * size}, {"params": fast, "lr": recipe.rate}]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs)
    for epoch in tqdm(range(recipe.epochs), "training", unit="epoch", leave=False):
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1000 * recipe.seed + epoch))
        for i in order.split(recipe.batch):
            optimiser.zero_grad()
            missed = (network.codes(y[i], seen[i], lam[i]) - h[i]).square().sum(1) / h[i].square().sum(1)
            missed.mean().backward()
            optimiser.step()
        schedule.step()
    return network


def missed(first, small: ci.NonnegativeLasso, h: Tensor) -> float:
    """Mean of |first - optimum|^2 / |optimum|^2."""
    guess = torch.zeros_like(h) if first is None else first(small)
    return float(((guess - h).square().sum(1) / h.square().sum(1)).mean())


def measure(name: str, folder: Path, recipe: Recipe) -> dict:
    """One generator: what each start costs to the same certificate."""
    generator = ci.load_generator(folder / "generators" / f"{name}.safetensors")
    draw = torch.Generator().manual_seed(recipe.seed)
    problem, tests = problem_of(generator, recipe.signals, draw), problem_of(generator, recipe.tests, draw)
    h = labels(problem)
    started = time.process_time()
    network = trained(problem, h, recipe)
    spent = time.process_time() - started
    small, best = tests.normalised().problem, labels(tests)
    mean = h.mean(0)
    starts = {
        "h = 0": (None, 0),
        "mean of the labels": (lambda part: mean.expand(part.N, -1), 0),
        "learned": (ci.LearnedStart(network), UNFOLDINGS + 1),
    }
    rows = {}
    for start, (first, steps) in starts.items():
        row = {"relative error of the start": missed(first, small, best)}
        for words, tol, polish in (*((f"{tol:g}", tol, False) for tol in TOLERANCES), ("polished", TOLERANCES[-1], True)):
            found = ci.solve(tests, Watched(first=first), tol=tol, polish=polish, progress=False)
            row[words] = {
                "iterations": float((found.iterations + steps).double().median()),
                "most": int(found.iterations.max()) + steps,
                "certified": int(found.certificate.holds.sum()),
                "seconds": _seconds(tests, ci.FISTA(first=first), tol, polish),
            }
        rows[start] = row
    auto = _seconds(tests, "auto", TOLERANCES[-1], True)
    sizes = {"n": tests.n, "rows": tests.rows.m, "lam": float(tests.number("lam")[0])}
    sizes |= {"non-zeros": float((best > 0).sum(1).double().mean())}
    return {"sizes": sizes, "training seconds": spent, "seconds of auto": auto, "starts": rows}


def _seconds(problem: ci.NonnegativeLasso, solver, tol: float, polish: bool) -> float:
    """Process time of a call, the least of three."""
    took = []
    for _ in range(3):
        again = problem.take(slice(None))
        started = time.process_time()
        ci.solve(again, solver, tol=tol, polish=polish, progress=False)
        took.append(time.process_time() - started)
    return min(took)


def table(record: dict) -> str:
    """As markdown, a line for each start: iterations (median) and seconds for each tolerance."""
    keys = (*(f"{tol:g}" for tol in TOLERANCES), "polished")
    heads = ("layer", "FISTA begins at", "relative error there", *(f"{key}: iterations / s" for key in keys), "s of auto")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, found in record["generators"].items():
        size = found["sizes"]
        layer = f"{name}: {size['n']} unknowns, {size['non-zeros']:.0f} not 0"
        for start, row in found["starts"].items():
            costs = [f"{row[key]['iterations']:.0f} / {row[key]['seconds']:.2f}" for key in keys]
            words = (layer, start, f"{row['relative error of the start']:.1e}", *costs, f"{found['seconds of auto']:.2f}")
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def drawn(record: dict, path: Path) -> None:
    """Iterations without polishing against the tolerance, a panel for each layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    looks = {"h = 0": ("#0072B2", "-", "o"), "mean of the labels": ("#E69F00", "--", "s"), "learned": ("#009E73", ":", "^")}
    panels = figure.subplots(1, len(record["generators"]), sharey=True, squeeze=False)[0]
    for axes, (name, found) in zip(panels, record["generators"].items(), strict=True):
        for start, (colour, dashes, mark) in looks.items():
            heights = [found["starts"][start][f"{tol:g}"]["iterations"] for tol in TOLERANCES]
            axes.semilogx(TOLERANCES, heights, color=colour, ls=dashes, marker=mark, label=start)
        axes.invert_xaxis()
        axes.set_title(f"{name.split('_')[0]}: {found['sizes']['n']} unknowns", fontsize=9)
        axes.set_xlabel("relative gap asked for")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("iterations, median\n(the network's 8 counted)", fontsize=9)
    panels[0].legend(fontsize=8, title="FISTA begins at", title_fontsize=8)
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="networks that have hardly begun")
    parser.add_argument("--generators", default=",".join(GENERATORS), help="which, with commas between")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args(arguments)
    if not os.environ.get("CVXINV_DATA"):
        parser.error("CVXINV_DATA is not set; expected it to name a folder with generators/")
    recipe, folder = QUICK if asked.quick else Recipe(), Path(os.environ["CVXINV_DATA"])
    record = {"recipe": dataclasses.asdict(recipe), "torch": torch.__version__, "generators": {}}
    asked.out.mkdir(parents=True, exist_ok=True)
    kept = asked.out / "learned_start.partial.json"  # of a run that was broken off
    if kept.exists() and (found := json.loads(kept.read_text()))["recipe"] == record["recipe"]:
        record = found
    names = asked.generators.split(",")
    for name in tqdm([name for name in names if name not in record["generators"]], "layers", unit="layer"):
        record["generators"][name] = measure(name, folder, recipe)
        write_whole(kept, json.dumps(record).encode())
    record["generators"] = {name: record["generators"][name] for name in names}
    write_whole(asked.out / "learned_start.json", (json.dumps(record, indent=1) + "\n").encode())
    write_whole(asked.out / "learned_start.md", f"# Learned starts of masked layers\n\n{table(record)}\n".encode())
    drawn(record, asked.out / "learned_start.png")
    kept.unlink()
    print(table(record))


if __name__ == "__main__":
    main()
