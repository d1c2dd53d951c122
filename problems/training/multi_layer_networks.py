"""Train the networks that unfold multi-layer pursuits on MNIST, beside the plain convolutional one.

The experiment of Sulam, Aberdam, Beck, Elad (2018) with their published network: kernels 6 x 6, 6 x 6, 4 x 4 to 32, 64, 512
channels, strides 2, 2, 1, then a linear classifier; T = 6 unfoldings; SGD with momentum 0.9, learning rate 2e-3 divided by
5 every 30 epochs, weight decay 1e-5, batches of 128, 100 epochs. What their notebooks print, mean test accuracy over the
last epochs: CNN 98.74, ML-ISTA 99.11, ML-FISTA 99.16, ML-LISTA 98.81, LBP 99.19, all-free 98.89 %.

    CVXINV_DATA=DIR python problems/training/multi_layer_networks.py           # 10,000 digits, 20 epochs: hours, two cores
    CVXINV_DATA=DIR python problems/training/multi_layer_networks.py --small   # 10 epochs, T = 2, four networks, 2 seeds
    CVXINV_DATA=DIR python problems/training/multi_layer_networks.py --narrow  # 8, 16, 64 channels, T = 2, all, 3 seeds
    CVXINV_DATA=DIR python problems/training/multi_layer_networks.py --quick   # 512 digits, 2 epochs, T = 2: minutes
    CVXINV_DATA=DIR python problems/training/multi_layer_networks.py --published    # 60,000 digits, 100 epochs, SGD

The smaller budgets take Adam with the rate 1e-3: from kernels a tenth of the usual size SGD begins at the loss of guessing
and leaves it slowly. `--narrow` has few channels, so that seeds can be many, and batches of 32: four times the steps for the
same work. The rate falls by 5 after 3/10, 6/10 and 9/10 of the epochs, as theirs after 30, 60 and 90 of 100.
Every network begins from the same seed, or from each of `--seeds 0,1`. After each epoch its state is written to OUT, and a
run that was broken off, or is asked for more networks or seeds, goes on from there; a state of other settings is refused.
`--nets ml-ista,cnn` trains some of them. Test digits are looked at in the last fifth of the epochs, whose mean is told.
Told beside it: c_i |W_i|^2 of each layer at the end; steps of ISTA descend for sure where it is below 2.
Writes OUT/results.json, .md and .png. Needs DIR/datasets/mnist_train.npz and mnist_test.npz with `images` (N, 28, 28) uint8
and `labels`.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from resume import keep, taken_up
from torch import Tensor
from tqdm import tqdm

from cvxinv.files import write_whole
from cvxinv.sparse_models.multi_layer_networks import MULTI_LAYER_NETWORKS, AbstractMultiLayerNetwork

PUBLISHED = {"cnn": 98.74, "ml-ista": 99.11, "ml-fista": 99.16, "ml-lista": 98.81, "lbp": 99.19, "all-free": 98.89}
_LAST = 0.2  # of the epochs: those whose accuracy is averaged, as the last 20 of 100


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What one training does; digits, test_digits: how many are used, the first ones; seed: of weights and batches."""

    digits: int = 10_000
    test_digits: int = 10_000
    epochs: int = 20
    unfoldings: int = 6
    channels: tuple[int, ...] = (32, 64, 512)
    batch: int = 128
    optimiser: str = "adam"
    rate: float = 1e-3
    decay: float = 1e-5
    seed: int = 0


PUBLISHED_RECIPE = Recipe(digits=60_000, epochs=100, optimiser="sgd", rate=2e-3)
QUICK = Recipe(digits=512, test_digits=512, epochs=2, unfoldings=2)
SMALL = Recipe(epochs=10, unfoldings=2)
NARROW = Recipe(digits=2_000, test_digits=5_000, epochs=5, unfoldings=2, channels=(8, 16, 64), batch=32)
SMALL_NETS = ("cnn", "ml-ista", "ml-fista", "lbp")


def last_epochs(recipe: Recipe) -> int:
    """How many epochs' accuracies are averaged."""
    return max(1, round(_LAST * recipe.epochs))


def load(folder: pathlib.Path, name: str, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` digits, `(count, 1, 28, 28)` in [0, 1], and their labels."""
    with np.load(folder / "datasets" / f"mnist_{name}.npz") as data:
        images, labels = data["images"][:count], data["labels"][:count]
    return torch.as_tensor(images)[:, None].float() / 255, torch.as_tensor(labels).long()


@torch.no_grad()
def accuracy(network: AbstractMultiLayerNetwork, images: Tensor, labels: Tensor) -> float:
    """The share of digits that are classified rightly, per cent."""
    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return 100 * right / len(labels)


@torch.no_grad()
def lengths(network: AbstractMultiLayerNetwork) -> list[float]:
    """c_i |W_i|^2 of each layer, by power iteration; c_i = 1 where there is none, the last copy where there are several."""
    found = []
    for i, W in enumerate(network.W[-network.depth :], 1):
        g = torch.ones(1, *network.shapes[i])
        for _ in range(500):
            g = network.analysed(i, network.synthesised(i, g / g.norm(), W), W)
        found.append(float(g.norm()))
    steps = getattr(network, "log_c", torch.zeros(network.depth)).exp()
    return [float(c) * square for c, square in zip(steps, found, strict=True)]


def train(name: str, recipe: Recipe, folder: pathlib.Path, out: pathlib.Path) -> dict:
    """Train one network, on from where `out` has it; returns its accuracies after each epoch, and its seconds."""
    torch.manual_seed(recipe.seed)
    network = MULTI_LAYER_NETWORKS[name](channels=recipe.channels, unfoldings=recipe.unfoldings)
    optimiser: torch.optim.Optimizer = (
        torch.optim.SGD(network.parameters(), recipe.rate, 0.9, weight_decay=recipe.decay)
        if recipe.optimiser == "sgd"
        else torch.optim.Adam(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    )
    drops = [round(share * recipe.epochs) for share in (0.3, 0.6, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, drops, 0.2)
    kept = out / f"{name}_{recipe.seed}.pt"
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    new = {"recipe": dataclasses.asdict(recipe), "accuracies": [], "losses": [], "seconds": 0.0}
    state = taken_up(kept, new, **parts)
    if len(state["losses"]) == recipe.epochs:
        return _told(state, network)
    images, labels = load(folder, "train", recipe.digits)
    tests = load(folder, "test", recipe.test_digits)
    first = len(state["losses"])
    with tqdm(total=recipe.epochs * len(images), initial=first * len(images), desc=name, unit="digit") as bar:
        for epoch in range(first, recipe.epochs):
            started = time.process_time()
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 * recipe.seed + epoch))
            total = 0.0
            for index in order.split(recipe.batch):
                optimiser.zero_grad()
                loss = F.nll_loss(network(images[index]), labels[index])
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(index)
                bar.update(len(index))
            schedule.step()
            state["losses"].append(total / len(images))
            if epoch >= recipe.epochs - last_epochs(recipe):
                state["accuracies"].append(accuracy(network, *tests))
            state["seconds"] += time.process_time() - started
            bar.set_postfix_str(
                ", ".join([f"loss {total / len(images):.3f}", *(f"test {x:.2f} %" for x in state["accuracies"])])
            )
            keep(kept, state, **parts)
    return _told(state, network)


def _told(state: dict, network: AbstractMultiLayerNetwork) -> dict:
    return state | {"parameters": sum(p.numel() for p in network.parameters()), "lengths": lengths(network)}


def scatter(means: list[float], recipe: Recipe) -> float:
    """The standard error of the mean accuracy, per cent: from the scatter of seeds, of one seed from the number of tests."""
    if len(means) > 1:
        return float(np.std(means, ddof=1)) / len(means) ** 0.5
    return (means[0] * (100 - means[0]) / recipe.test_digits) ** 0.5


def table(results: dict[str, list[dict]], recipe: Recipe) -> str:
    """What was measured, as markdown: means over the last epochs of each seed, and over seeds."""
    last, seeds = last_epochs(recipe), len(next(iter(results.values())))
    lines = [
        "# Networks that unfold multi-layer pursuits",
        "",
        f"{recipe.digits} digits, {recipe.epochs} epochs, T = {recipe.unfoldings}, {', '.join(map(str, recipe.channels))} "
        f"channels, {recipe.optimiser} at {recipe.rate:g}, batches of {recipe.batch}; mean test accuracy "
        f"on {recipe.test_digits} digits over the last {last} epoch{'s' * (last > 1)}, of {seeds} seed{'s' * (seeds > 1)}; "
        "published: 60000 digits, 100 epochs, T = 6, sgd, one seed",
        "",
        "| network | parameters | test, % | standard error | of each seed | loss at the end | c_i \\|W_i\\|^2 at the end "
        "| published, % | CPU minutes of a seed |",
        "|---" * 9 + "|",
    ]
    for name, found in results.items():
        means = [sum(state["accuracies"]) / len(state["accuracies"]) for state in found]
        minutes = sum(state["seconds"] for state in found) / len(found) / 60
        words = (
            name, f"{found[0]['parameters']:,}", f"{np.mean(means):.2f}", f"{scatter(means, recipe):.2f}",
            ", ".join(f"{x:.2f}" for x in means), f"{np.mean([state['losses'][-1] for state in found]):.3f}",
            ", ".join(f"{x:.1f}" for x in np.mean([state["lengths"] for state in found], 0)),
            f"{PUBLISHED[name]}", f"{minutes:.1f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


_STYLES = (("#000000", "-"), ("#b2182b", "--"), ("#2166ac", "-."), ("#1b7837", ":"), ("#8073ac", "-"), ("#e08214", "--"))


def draw(results: dict[str, list[dict]], path: pathlib.Path) -> None:
    """Loss on the training digits by epoch, the mean over seeds, with the test accuracy of the last epochs in the legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, found), (colour, line) in zip(results.items(), _STYLES, strict=False):
        losses = np.mean([state["losses"] for state in found], axis=0)
        tested = np.mean([np.mean(state["accuracies"]) for state in found])
        label = f"{name}: {tested:.2f} % of test digits"
        axes.semilogy(range(1, len(losses) + 1), losses, color=colour, ls=line, marker="o", ms=3, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean negative log likelihood of the label (nats)")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _recipe(asked: argparse.Namespace) -> Recipe:
    named = {"quick": QUICK, "published": PUBLISHED_RECIPE, "small": SMALL, "narrow": NARROW}
    recipe = next((found for name, found in named.items() if getattr(asked, name)), Recipe())
    names = ("digits", "epochs", "unfoldings", "rate")
    return dataclasses.replace(recipe, **{name: getattr(asked, name) for name in names if getattr(asked, name) is not None})


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="512 digits, 2 epochs, T = 2")
    parser.add_argument("--small", action="store_true", help="10 epochs, T = 2; cnn, ml-ista, ml-fista, lbp; seeds 0, 1")
    parser.add_argument("--narrow", action="store_true", help="8, 16, 64 channels, T = 2, batches of 32; seeds 0, 1, 2")
    parser.add_argument("--published", action="store_true", help="60,000 digits, 100 epochs, SGD")
    parser.add_argument("--digits", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--unfoldings", type=int, help="T")
    parser.add_argument("--rate", type=float, help="of learning, at the start")
    parser.add_argument("--seeds", help="of weights and batches, with commas between; left out, 0")
    parser.add_argument("--nets", help="which, with commas between; left out, all")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("multi_layer_networks"))
    asked = parser.parse_args(arguments)
    names = asked.nets.split(",") if asked.nets else list(SMALL_NETS if asked.small else MULTI_LAYER_NETWORKS)
    usual = "0,1" if asked.small else "0,1,2" if asked.narrow else "0"
    seeds = [int(seed) for seed in (asked.seeds or usual).split(",")]
    unknown = [name for name in names if name not in MULTI_LAYER_NETWORKS]
    if unknown:
        parser.error(f"expected --nets of {', '.join(MULTI_LAYER_NETWORKS)}, got {unknown[0]!r}")
    if not os.environ.get("CVXINV_DATA"):
        parser.error("expected CVXINV_DATA to name a folder with datasets/mnist_train.npz, got nothing; set it")
    recipe, folder = _recipe(asked), pathlib.Path(os.environ["CVXINV_DATA"])
    asked.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict]] = {name: [] for name in names}
    for seed in seeds:
        for name in names:
            results[name].append(train(name, dataclasses.replace(recipe, seed=seed), folder, asked.out))
    record = {
        "recipe": dataclasses.asdict(recipe), "seeds": seeds, "torch": torch.__version__, "results": results,
        "published": PUBLISHED,
    }  # fmt: skip
    for name, text in (("results.json", json.dumps(record, indent=1)), ("results.md", table(results, recipe))):
        write_whole(asked.out / name, f"{text}\n".encode())
    draw(results, asked.out / "results.png")
    print(table(results, recipe))


if __name__ == "__main__":
    main()
