"""Inpainting with learned shrinkage steps: half of the pixels of each 8 x 8 patch are seen, other ones in every patch.

    python problems/sparse/inpainting.py              # minutes; writes problems/sparse/results/inpainting.*
    python problems/sparse/inpainting.py --quick      # sooner, with a network that has hardly begun
    python problems/sparse/inpainting.py --state DIR  # what was learned so far lies there, and is taken up again from there

The experiment of Aberdam, Golts, Elad, "Ada-LISTA: Learned Solvers Adaptive to Varying Models" (2020), in small, as their
published code has it: there are 100,000 patches of BSDS500, 50,000 of them for the network, 100 epochs of SGD, and eleven
classical pictures. Here the patches are of the left part of scikit-learn's two sample photographs (china by danielbuechele,
flower by vultilion, CC BY 2.0), and the pictures are two crops of the right part of china and two that are made here. As
there: pixels standardised by position, a dictionary of 256 atoms by MiniBatchDictionaryLearning with alpha = 0.1, lam = 0.1,
`ReverseAdaLFISTA` of T = 20, that is 21 steps, all patches at stride 1, averaged, known pixels not put back; PSNR with peak
1. Other than there: the Adam method with the rate 1e-3 falling to 0, and labels that are certified optima, by `solve`.
"""

import argparse
import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci
from cvxinv.files import write_whole

HERE = Path(__file__).resolve().parent
SIDE, ATOMS, LAM, UNFOLDINGS, SEEN = 8, 256, 0.1, 20, 0.5
# PSNR in dB of ISTA, FISTA and Ada-LFISTA in the authors' pictures, means of eleven
PUBLISHED = {"ista": 24.73, "fista": 27.66, "learned": 29.49}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """patches: for the dictionary; signals: for the network; picture: side of the test pictures, pixels."""

    patches: int = 12_000
    passes: int = 2
    signals: int = 15_000
    epochs: int = 40
    batch: int = 256
    rate: float = 1e-3
    picture: int = 72
    seed: int = 0


QUICK = Recipe(patches=1000, passes=1, signals=256, epochs=2, picture=24)


def photographs() -> dict[str, np.ndarray]:
    """Both in grey, [0, 1]."""
    from sklearn.datasets import load_sample_images

    return dict(zip(("china", "flower"), (i.mean(2) / 255 for i in load_sample_images().images), strict=True))


def pictures(side: int) -> dict[str, Tensor]:
    """The four test pictures, `(side, side)` in [0, 1]."""
    china = photographs()["china"]
    at = torch.arange(side, dtype=torch.float64) / side
    down, across = torch.meshgrid(at, at, indexing="ij")
    shapes = 0.25 + 0.3 * across
    shapes = torch.where((down - 0.35) ** 2 + (across - 0.35) ** 2 < 0.05, 0.85, shapes)
    shapes = torch.where((down + across > 1.25) & (across < 0.85), 0.1, shapes)
    shapes = torch.where((down - 0.8).abs() + (across - 0.25).abs() < 0.13, 0.95, shapes)
    waves = 0.5 + 0.2 * torch.sin(40 * across + 12 * down) + 0.2 * torch.sin(8 * (down**2 + across**2) + 3 * across)
    return {
        "trees": torch.from_numpy(china[265 : 265 + side, 430 : 430 + side].copy()),
        "tree": torch.from_numpy(china[150 : 150 + side, 552 : 552 + side].copy()),
        "shapes": shapes,
        "waves": waves,
    }


def patches_of(picture: Tensor) -> Tensor:
    """All patches at stride 1, `(N, 64)`."""
    return picture.unfold(0, SIDE, 1).unfold(1, SIDE, 1).reshape(-1, SIDE * SIDE)


def training_patches(count: int, draw: torch.Generator) -> Tensor:
    """`(count, 64)`, from the 400 columns on the left of the photographs."""
    found = []
    for photo in photographs().values():
        patches = patches_of(torch.from_numpy(photo[:, :400].copy()))
        found.append(patches[torch.randint(len(patches), (count // 2,), generator=draw)])
    return torch.cat(found)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """D `(64, 256)` for patches that are standardised by `mean` and `spread` `(64,)`."""

    D: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def learned(cls, recipe: Recipe, draw: torch.Generator) -> "Model":
        """By scikit-learn."""
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning

        patches = training_patches(recipe.patches, draw)
        mean, spread = patches.mean(0), patches.std(0)
        learner = MiniBatchDictionaryLearning(
            ATOMS, alpha=LAM, max_iter=recipe.passes, batch_size=256, random_state=recipe.seed, fit_algorithm="cd"
        )
        with warnings.catch_warnings():
            # codes on the way to a dictionary need not be exact
            warnings.simplefilter("ignore", ConvergenceWarning)
            learner.fit(((patches - mean) / spread).numpy())
        return cls(torch.from_numpy(learner.components_.T.copy()), mean, spread)


def certified(y: Tensor, seen: Tensor, D: Tensor) -> Tensor:
    """Codes of the Lasso of every patch, by `solve`; each is certified, or the run ends."""
    parts = []
    for a, b in tqdm(list(zip(y.split(250), seen.split(250), strict=True)), "optima", unit="block", leave=False):
        rows = ci.Rows(ci.Dense(D), torch.zeros_like(D[:, 0]), a, b, torch.zeros_like(b))
        parts.append(ci.solve(ci.Lasso(rows, LAM), on_fail="raise", progress=False).h)
    return torch.cat(parts)


def signals(model: Model, recipe: Recipe, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Standardised patches `(N, 64)` and what is seen of them."""
    y = (training_patches(recipe.signals, draw) - model.mean) / model.spread
    y = y[torch.randperm(len(y), generator=draw)]
    seen = torch.rand(y.shape, generator=draw) < SEEN
    seen[:, 0] |= ~seen.any(1)
    return y, seen


def learned(recipe: Recipe, path: Path) -> tuple[Model, ci.ReverseAdaLFISTA, list[float]]:
    """Dictionary, network, and its mean squared errors after each epoch on signals that it is not trained on; from `path`
    on, where the state of a run of the same recipe lies."""
    draw, state = torch.Generator().manual_seed(recipe.seed), {"recipe": dataclasses.asdict(recipe)}
    if path.exists():
        found = torch.load(path, weights_only=True)
        if found["recipe"] != state["recipe"]:
            raise SystemExit(f"expected {path} of the same settings, got {found['recipe']}; pass another --state")
        state = found
    if "model" not in state:
        model = Model.learned(recipe, draw)
        y, seen = signals(model, recipe, draw)
        state |= {"model": [model.D, model.mean, model.spread], "y": y, "seen": seen, "x": certified(y, seen, model.D)}
        keep(path, state)
    model = Model(*state["model"])
    network = ci.ReverseAdaLFISTA(model.D.float(), UNFOLDINGS)
    optimiser = torch.optim.Adam(network.parameters(), recipe.rate)
    if "network" in state:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
    losses = list(state.get("losses", ()))
    for _ in tqdm(range(len(losses), recipe.epochs), "training", unit="epoch"):
        losses.append(epoch(network, optimiser, recipe, len(losses), state))
        keep(path, state | {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses})
    return model, network, losses


def epoch(network: ci.ReverseAdaLFISTA, optimiser: torch.optim.Optimizer, recipe: Recipe, done: int, state: dict) -> float:
    """One epoch more; returns the error on the last signals, of which there are 500 or a quarter."""
    mask, x, lam = state["seen"].float(), state["x"].float(), torch.full((1, 1), LAM)
    y = mask * state["y"].float()
    count = len(y) - min(500, len(y) // 4)
    draw = torch.Generator().manual_seed(1000 * recipe.seed + done)
    batches = torch.randperm(count, generator=draw).split(recipe.batch)
    for k, i in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * (1 - (done + k / len(batches)) / recipe.epochs)
        optimiser.zero_grad()
        (network.codes(y[i], mask[i], lam) - x[i]).square().sum(1).mean().backward()
        optimiser.step()
    with torch.no_grad():
        return float((network.codes(y[count:], mask[count:], lam) - x[count:]).square().sum(1).mean())


def keep(path: Path, state: dict) -> None:
    """Write what was learned, whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def filled(picture: Tensor, seen: Tensor, model: Model, coder) -> Tensor:
    """The picture from its seen pixels: codes of all patches by `coder(y, seen)`, averaged where they overlap."""
    y, mask = (patches_of(picture) - model.mean) / model.spread, patches_of(seen)
    mask = mask | (~mask.any(1))[:, None]  # a patch of which nothing is seen; with half of the pixels none is
    parts = [coder(a, b) for a, b in zip(y.split(1000), mask.split(1000), strict=True)]
    guess = torch.cat(parts).double() @ model.D.T * model.spread + model.mean
    blocks = guess.T[None]
    total = torch.nn.functional.fold(blocks, picture.shape, SIDE)[0, 0]
    return total / torch.nn.functional.fold(torch.ones_like(blocks), picture.shape, SIDE)[0, 0]


def psnr(found: Tensor, true: Tensor) -> float:
    """dB, peak 1."""
    return float(-10 * (found - true).square().mean().log10())


def coders(model: Model, network: ci.ReverseAdaLFISTA) -> dict:
    """What is compared: all with 21 steps but the last."""
    K, D = UNFOLDINGS + 1, model.D

    def steps(**rule):
        return lambda y, seen: ci.ProximalGradient(**rule).iterates(y, D, LAM, K, seen)[-1]

    def network_codes(y: Tensor, seen: Tensor) -> Tensor:
        with torch.no_grad():
            return network(torch.where(seen, y, 0.0).float(), seen, LAM)

    return {
        "ista": steps(),
        "fista": steps(momentum=True),
        "fista, restarted": steps(momentum=True, restart=True),
        "fista, backtracking, restarted": steps(momentum=True, restart=True, backtracking=True),
        "learned": network_codes,
        "optimum": lambda y, seen: certified(y, seen, D),
    }


def measure(recipe: Recipe, path: Path) -> tuple[dict, dict[str, list[Tensor]]]:
    """PSNR of every picture by every coder, and what is drawn of it."""
    model, network, losses = learned(recipe, path)
    draw, record, shown = torch.Generator().manual_seed(recipe.seed + 77), {}, {}
    for name, picture in tqdm(pictures(recipe.picture).items(), "pictures", unit="picture"):
        seen = torch.rand(picture.shape, generator=draw) < SEEN
        found = {by: filled(picture, seen, model, coder) for by, coder in coders(model, network).items()}
        record[name] = {"hidden pixels black": psnr(picture * seen, picture)} | {
            by: psnr(guess, picture) for by, guess in found.items()
        }
        shown[name] = [picture, picture * seen, found["fista"], found["learned"], found["optimum"]]
    return {"recipe": dataclasses.asdict(recipe), "losses": losses, "psnr": record, "published": PUBLISHED}, shown


def table(record: dict) -> str:
    """PSNR, dB, as markdown."""
    names = list(next(iter(record["psnr"].values())))
    lines = ["| picture | " + " | ".join(names) + " | learned - fista |", "|---" * (len(names) + 2) + "|"]
    for picture, found in record["psnr"].items():
        gain = found["learned"] - found["fista"]
        lines.append(f"| {picture} | " + " | ".join(f"{found[name]:.2f}" for name in names) + f" | {gain:+.2f} |")
    return "\n".join(lines)


def drawn(record: dict, shown: dict[str, list[Tensor]], path: Path) -> None:
    """Each picture in a row: true, seen, FISTA, learned, optimum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.95 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 5, squeeze=False)
    titles = ("picture", "seen: half of the pixels", "FISTA, 21 steps", "learned, 21 steps", "optimum of the Lasso")
    keys = (None, "hidden pixels black", "fista", "learned", "optimum")
    for row, (name, parts) in zip(axes, shown.items(), strict=True):
        for place, part, key in zip(row, parts, keys, strict=True):
            place.imshow(part.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
            place.set_xticks([])
            place.set_yticks([])
            place.set_xlabel(name if key is None else f"{record['psnr'][name][key]:.2f} dB", fontsize=9)
    for place, title in zip(axes[0], titles, strict=True):
        place.set_title(title, fontsize=9)
    figure.savefig(path, dpi=90)
    in_grey(path)


def in_grey(path: Path) -> None:
    """The same picture in 32 greys: a third of the bytes."""
    from PIL import Image

    Image.open(path).convert("L").quantize(32).save(path, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a network that has hardly begun")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--state", type=Path, default=Path("inpainting_state"))
    asked = parser.parse_args(arguments)
    for folder in (asked.out, asked.state):
        folder.mkdir(parents=True, exist_ok=True)
    recipe, kept = (QUICK, "inpainting-quick.pt") if asked.quick else (Recipe(), "inpainting.pt")
    record, shown = measure(recipe, asked.state / kept)
    write_whole(asked.out / "inpainting.json", (json.dumps(record, indent=1) + "\n").encode())
    write_whole(asked.out / "inpainting.md", f"# Inpainting, PSNR in dB\n\n{table(record)}\n".encode())
    drawn(record, shown, asked.out / "inpainting.png")
    print(table(record))


if __name__ == "__main__":
    main()
