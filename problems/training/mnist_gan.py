"""Train the MNIST generator that ships with cvxinv: 28x28 digits from 20 latents, 20-128-392-784.

The network of section 6.2 of the paper: batch norm and ReLU behind the first two layers, a piecewise linear unit (PLU)
behind the last, a fully connected discriminator with spectral normalisation, trained as a GAN. The text that we could
read names the unit but neither its formula nor any training setting: a = 0.1, c = 1 and all of `VARIANTS` are ours.

    CVXINV_DATA=DIR python problems/training/mnist_gan.py        # the network that ships; minutes on one core
    CVXINV_DATA=DIR python problems/training/mnist_gan.py --variant a --out OTHER --picture samples.png

Needs DIR/datasets/mnist_train.npz with `images` (60000, 28, 28) uint8 and `labels`. The same seed, machine and versions
give the same weights. `problems/training/README.md` compares the five variants.
Sources: Aberdam, Simon, Elad, When and how can deep generative models be inverted?, 2020, section 6.2 (architecture);
Goodfellow et al., Generative adversarial networks, 2014 (non-saturating loss); Miyato et al., Spectral normalization for
generative adversarial networks, 2018 (discriminator, hinge loss); Karras et al., Progressive growing of GANs, 2018
(averaged weights).
"""

import argparse
import copy
import dataclasses
import datetime
import hashlib
import itertools
import json
import os
import pathlib
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import tqdm

import cvxinv as ci

NAME = "mnist_gan"
SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "cvxinv" / "shipped"
SIZES = (20, 128, 392, 784)
PIXELS, HIDDEN_SHARE = 784, 0.45
LATENTS, INVERTED, RECALIBRATION = 2000, 50, 20000
MEASURE_SEED, JUDGE_SEED = 123, 7
RANK_TOL = 1e-10  # sigma_min > RANK_TOL sigma_max counts as full rank, in float64
RECOVERED = 100.0  # dB


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What one training does; a weight of 0 leaves its term out."""

    says: str
    seed: int = 0
    steps: int = 15000
    batch: int = 64
    loss: str = "nonsaturating"
    rates: tuple[float, float] = (2e-4, 2e-4)  # generator, discriminator
    betas: tuple[float, float] = (0.5, 0.999)
    decay: bool = False  # both rates go to zero linearly over the second half
    average: float = 0.0  # decay of the running mean of the generator's weights
    clip: bool = False  # the discriminator sees images clamped to [-1, 1], as pictures are shown
    gain: float = 1.0  # of the discriminator's score: a bound of its slope
    outside: float = 0.0  # weight of the squared excess of pixels over [-1.2, 1.2], summed over an image
    even: float = 0.0  # weight of the spread of the singular values of the first matrix
    share: float = 0.0  # of the first layer's units that is positive, held by its batch norm; 0 leaves it to the training


_A = Recipe("the plain recipe: non-saturating loss, Adam")
_B = dataclasses.replace(_A, says="hinge loss, steeper score, averaged weights", loss="hinge", betas=(0.0, 0.9))
_B = dataclasses.replace(_B, average=0.999, decay=True, gain=4.0, rates=(5e-4, 5e-4))
_C = dataclasses.replace(_B, says="b, clipped images for the discriminator", clip=True)
_D = dataclasses.replace(_C, says="c, pixels near [-1, 1], even first matrix", outside=0.3, even=0.02)
_E = dataclasses.replace(_D, says="d, less even, s1 held", even=0.01, share=0.42)
VARIANTS = {"a": _A, "b": _B, "c": _C, "d": _D, "e": _E}
CHOSEN = "e"


def generator() -> nn.Sequential:
    """20-128-392-784: batch norm and ReLU twice, PLU last."""
    n0, n1, n2, d = SIZES
    return nn.Sequential(
        nn.Linear(n0, n1), nn.BatchNorm1d(n1), nn.ReLU(),
        nn.Linear(n1, n2), nn.BatchNorm1d(n2), nn.ReLU(),
        nn.Linear(n2, d), ci.PLUModule(0.1, 1.0),
    )  # fmt: skip


class Discriminator(nn.Module):
    """Fully connected, 784-512-256-1, every matrix divided by its spectral norm; `gain` bounds the score's slope."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        layers = [spectral_norm(nn.Linear(n, m)) for n, m in itertools.pairwise((PIXELS, 512, 256, 1))]
        self.first, self.second, self.last = layers
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N,) of images (N, 784)."""
        h = F.leaky_relu(self.second(F.leaky_relu(self.first(x), 0.2)), 0.2)  # (N, 256)
        return self.gain * self.last(h)[:, 0]


def load_images() -> tuple[Tensor, Tensor]:
    """The 60000 training images (60000, 784) uint8 and their labels."""
    folder = os.environ.get("CVXINV_DATA")
    if not folder:
        raise SystemExit("expected CVXINV_DATA to name a folder with datasets/mnist_train.npz, got nothing; set it")
    with np.load(pathlib.Path(folder) / "datasets" / "mnist_train.npz") as file:
        return torch.from_numpy(file["images"]).view(-1, PIXELS), torch.from_numpy(file["labels"]).long()


def scaled(images: Tensor) -> Tensor:
    """Grey values 0..255 as -1..1."""
    return images.float() / 127.5 - 1


def hold_share(norm: nn.BatchNorm1d, share: float) -> None:
    """Fix scale and bias so that each unit is positive for this share of the latents; the next layer absorbs the scale."""
    with torch.no_grad():
        norm.weight.fill_(1.0)
        norm.bias.fill_(torch.special.ndtri(torch.tensor(share)))
    norm.requires_grad_(False)


class Trainer:
    """One training run: networks, optimisers, and what one batch does to them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.net, self.critic = generator(), Discriminator(recipe.gain)
        if recipe.share:
            hold_share(self.net[1], recipe.share)
        self.mean_net = copy.deepcopy(self.net)
        pairs = zip((self.net, self.critic), recipe.rates, strict=True)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=rate, betas=recipe.betas) for net, rate in pairs]
        last = 0.0 if recipe.decay else 1.0
        half = max(1, recipe.steps // 2)

        def factor(step: int) -> float:
            return 1.0 + (last - 1.0) * max(0, step - half) / half

        self.schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in self.optimizers]

    def shown(self, x: Tensor) -> Tensor:
        """What the discriminator sees of images."""
        return x.clamp(-1, 1) if self.recipe.clip else x

    def step(self, real: Tensor) -> tuple[float, float]:
        """Take one batch of images; return the losses of generator and discriminator."""
        made = self.net(torch.randn(len(real), SIZES[0]))
        critic_loss = self.train_critic(real, made.detach())
        score = self.critic(self.shown(made))
        loss = -score.mean() if self.recipe.loss == "hinge" else F.softplus(-score).mean()
        self.take(0, loss + self.shape_penalty(made))
        with torch.no_grad():
            for mean, now in zip(self.mean_net.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - self.recipe.average)
        return loss.item(), critic_loss

    def shape_penalty(self, made: Tensor) -> Tensor:
        """Pixels near [-1, 1]; a first matrix that uses all latents alike."""
        recipe, penalty = self.recipe, torch.zeros(())
        if recipe.outside:
            penalty = penalty + recipe.outside * (F.relu(made.abs() - 1.2) ** 2).sum(1).mean()
        if recipe.even:
            # what the batch norm leaves of the first matrix: latents are standard normal
            W = F.normalize(self.net[0].weight) * self.net[1].weight[:, None]
            gram = W.T @ W
            penalty = penalty - recipe.even * torch.linalg.slogdet(gram / gram.diagonal().mean())[1]
        return penalty

    def train_critic(self, real: Tensor, made: Tensor) -> float:
        """One step of the discriminator."""
        on_real, on_made = self.critic(self.shown(torch.cat([real, made]))).chunk(2)
        if self.recipe.loss == "hinge":
            loss = F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean()
        else:
            loss = F.softplus(-on_real).mean() + F.softplus(on_made).mean()
        self.take(1, loss)
        return loss.item()

    def take(self, which: int, loss: Tensor) -> None:
        """One step of optimiser 0 (generator) or 1 (discriminator)."""
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()
        self.schedules[which].step()


def endless(images: Tensor, size: int) -> Iterator[Tensor]:
    """Batches of `images`, in a new order each time through."""
    while True:
        for rows in torch.randperm(len(images)).split(size):
            yield images[rows]


def train(images: Tensor, recipe: Recipe) -> nn.Sequential:
    """The generator, its batch norms frozen, after `recipe.steps` batches of `images`."""
    torch.manual_seed(recipe.seed)
    trainer = Trainer(recipe)
    batches = itertools.islice(endless(images, recipe.batch), recipe.steps)
    bar = tqdm(batches, desc="training", unit="step", total=recipe.steps, mininterval=5)
    for step, batch in enumerate(bar):
        losses = trainer.step(scaled(batch))
        if step % 100 == 0:
            bar.set_postfix(G=f"{losses[0]:.3f}", D=f"{losses[1]:.3f}")
    return recalibrated(trainer.mean_net)


def recalibrated(net: nn.Sequential) -> nn.Sequential:
    """Replace the running statistics by those of 20000 latents under the final weights, and freeze."""
    z = torch.randn(RECALIBRATION, SIZES[0])
    for norm in (net[1], net[4]):
        norm.reset_running_stats()
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(z)
    return net.eval().requires_grad_(False)


class Judge:
    """A classifier 784-256-10 of real digits, which says what it sees in made ones."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        torch.manual_seed(JUDGE_SEED)
        self.first, self.last = nn.Linear(PIXELS, 256), nn.Linear(256, 10)
        self.held, labels_held = scaled(images[-5000:]), labels[-5000:]
        images, labels = images[:-5000], labels[:-5000]
        optimizer = torch.optim.Adam([*self.first.parameters(), *self.last.parameters()], lr=1e-3)
        for _ in range(4):
            for rows in torch.randperm(len(images)).split(128):
                loss = F.cross_entropy(self.last(self.features(scaled(images[rows]))), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.accuracy = (self.classes(self.held)[0] == labels_held).double().mean().item()

    def features(self, x: Tensor) -> Tensor:
        """Hidden layer (N, 256) of images (N, 784)."""
        return self.first(x).relu()

    @torch.no_grad()
    def classes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest digit of each image, and its probability."""
        best = self.last(self.features(x)).softmax(1).max(1)
        return best.indices, best.values

    @torch.no_grad()
    def figures(self, x: Tensor) -> dict:
        """Recognisability and diversity of images (N, 784); the same of held-out real ones for comparison."""
        return {
            "classifier_accuracy_on_held_out": round(self.accuracy, 4),
            "samples": self.seen(x),
            "held_out_digits": self.seen(self.held),
            "frechet_distance_of_features": round(frechet(self.features(x), self.features(self.held)), 2),
        }

    def seen(self, x: Tensor) -> dict:
        """Digits found, how evenly, how surely; and the variance of the pixels within a digit."""
        digit, probability = self.classes(x)
        count = torch.bincount(digit, minlength=10)
        share = count[count > 0].double() / len(x)
        within = sum(x[digit == k].var(0).sum() for k in range(10) if count[k] > 1)
        return {
            "images": len(x),
            "counts": count.tolist(),
            "entropy_over_log_10": round((-(share * share.log()).sum() / np.log(10)).item(), 4),
            "mean_max_probability": round(probability.double().mean().item(), 4),
            "frac_max_probability_above_0_9": round((probability > 0.9).double().mean().item(), 4),
            "variance_within_a_digit": round(float(within) / 10, 2),
        }


def frechet(p: Tensor, q: Tensor) -> float:
    """Squared Frechet distance |mean difference|^2 + tr(P + Q - 2 (PQ)^(1/2)) of two sets of features."""
    p, q = p.double(), q.double()
    P, Q = p.T.cov(), q.T.cov()
    root = torch.linalg.eigvals(P @ Q).real.clamp(min=0).sqrt().sum()
    return ((p.mean(0) - q.mean(0)) ** 2).sum().item() + (P.trace() + Q.trace() - 2 * root).item()


def spectrum(J: Tensor) -> dict:
    """Smallest rank, and quantiles of the condition number, of matrices (N, m, n)."""
    sigma = torch.linalg.svdvals(J)
    cond = sigma[:, 0] / sigma[:, -1]
    return {
        "latents": len(J),
        "rank_min": int((sigma > RANK_TOL * sigma[:, :1]).sum(1).min()),
        "median_condition_number": round(cond.median().item(), 2),
        "q95_condition_number": round(cond.quantile(0.95).item(), 2),
        "max_condition_number": round(cond.max().item(), 2),
    }


def layer_figures(a: Tensor) -> dict:
    """Statistics of the number of positive units of one hidden layer."""
    s = (a > 0).sum(1).double()
    return {
        "size": a.shape[1],
        "mean_positive": round(s.mean().item(), 2),
        "std": round(s.std().item(), 2),
        "min": int(s.min()),
        "q05": int(s.quantile(0.05)),
        "q95": int(s.quantile(0.95)),
        "max": int(s.max()),
        "never_positive_units": int((a <= 0).all(0).sum()),
        "always_positive_units": int((a > 0).all(0).sum()),
    }


def shares(a1: Tensor, a2: Tensor, u: Tensor) -> dict:
    """Share of latents for which each condition on the sizes holds, and of pixels outside the middle of the PLU."""
    n0, s1, s2 = SIZES[0], (a1 > 0).sum(1), (a2 > 0).sum(1)
    conditions = {
        "frac_s1_ge_2_n0": s1 >= 2 * n0,
        "frac_s2_ge_2_s1": s2 >= 2 * s1,
        "frac_2_s2_le_784": 2 * s2 <= PIXELS,
        "frac_all": (s1 >= 2 * n0) & (s2 >= 2 * s1) & (2 * s2 <= PIXELS),
        "frac_pixels_outside_plu_middle": u.abs() > 1,
        "frac_pixels_outside_by_more_than_0_05": u.abs() > 1.05,
    }
    return {name: round(holds.double().mean().item(), 4) for name, holds in conditions.items()}


def conditioning(G: ci.Generator, z: Tensor, seen: Tensor) -> dict:
    """Jacobians before the PLU, and the matrices that the layer-wise methods meet, at latents (N, n0)."""
    J = G.linearize(z, before_output=True)[1]
    W1, W2, W3 = (layer.W.matrix() for layer in G.layers)
    h1, h2 = G.hidden(z)
    few = 100
    return {
        "jacobian": spectrum(J),
        "jacobian_of_seen_pixels": spectrum(J * seen[:, :, None]),
        "first_matrix_on_support": spectrum(W1 * (h1[:few] > 0)[:, :, None]),
        "second_matrix_on_support": spectrum(W2 * (h2[:few] > 0)[:, :, None]),
        "last_matrix": spectrum(W3[None]),
        "last_matrix_of_seen_pixels": spectrum(W3 * seen[:20, :, None]),
    }


def inversions(G: ci.Generator, z: Tensor, seen: Tensor) -> dict:
    """How many of 50 latents the package recovers to 100 dB, and how many it explains."""
    z, seen, linear = z[:INVERTED], seen[:INVERTED], G.with_output("identity")
    found: dict = {"samples": INVERTED}
    cases = {
        "latent_pursuit": (linear, "latent_pursuit", None),
        "latent_pursuit_hidden_45": (linear, "latent_pursuit", seen),
        "hybrid": (linear, "hybrid", None),
        "hybrid_hidden_45": (linear, "hybrid", seen),
        "hybrid_plu": (G, "hybrid", None),
        "hybrid_plu_hidden_45": (G, "hybrid", seen),
        "gradient_descent": (linear, "gradient_descent", None),
    }
    for name, (g, method, measurement) in tqdm(cases.items(), desc="inverting", unit="case"):
        result = ci.invert(g, g(z), method, measurement=measurement, truth=z, on_fail="ignore")
        found[name] = int((result.snr["z"] >= RECOVERED).sum())
    return found


def measure(net: nn.Sequential, judge: Judge) -> dict:
    """Figures at 2000 random latents, in float64."""
    G = ci.load_generator(net)
    draws = torch.Generator().manual_seed(MEASURE_SEED)
    z = torch.randn(LATENTS, SIZES[0], generator=draws, dtype=torch.float64)
    few = 500
    seen = torch.rand(few, PIXELS, generator=draws) >= HIDDEN_SHARE
    a1, a2, u = G.preactivations(z)
    return {
        "latents": LATENTS,
        "hidden": [layer_figures(a1), layer_figures(a2)],
        "condition": shares(a1, a2, u),
        "conditioning": conditioning(G, z[:few], seen),
        "seen_by_classifier": judge.figures(G(z).float().clamp(-1, 1)),
        "recovered_to_100_dB": inversions(G, z, seen),
    }


def rows_of(figures: dict, seconds: float) -> list[tuple[str, str]]:
    """What one network measured, as names and values of a table."""
    rows = []
    for i, layer in enumerate(figures["hidden"], 1):
        spread = f"{layer['mean_positive']} ({layer['q05']} to {layer['q95']}) of {layer['size']}"
        rows.append((f"s{i}: mean positive units (5 and 95 % quantile)", spread))
        rows.append((f"units of layer {i} never / always positive", _pair(layer, "never", "always")))
    words = ("s1 >= 2 n0", "s2 >= 2 s1", "2 s2 <= 784", "all three")
    for word, share in zip(words, figures["condition"].values(), strict=False):
        rows.append((f"share of latents with {word}", f"{share:.4f}"))
    outside = figures["condition"]["frac_pixels_outside_plu_middle"]
    rows.append(("pixels outside the middle of the PLU", f"{outside:.4f}"))
    names = {
        "jacobian": "Jacobian before the PLU",
        "jacobian_of_seen_pixels": "Jacobian, 45 % of the pixels hidden",
        "first_matrix_on_support": "first matrix, rows where h1 > 0",
        "second_matrix_on_support": "second matrix, rows where h2 > 0",
        "last_matrix": "last matrix",
        "last_matrix_of_seen_pixels": "last matrix, 45 % of the pixels hidden",
    }
    for key, name in names.items():
        J = figures["conditioning"][key]
        cond = " / ".join(f"{J[f'{q}_condition_number']:.3g}" for q in ("median", "max"))
        rows.append((f"{name}: smallest rank; condition, median / max", f"{J['rank_min']}; {cond}"))
    made, real = (figures["seen_by_classifier"][which] for which in ("samples", "held_out_digits"))
    for key, name in {
        "entropy_over_log_10": "entropy of the digits seen / log 10",
        "mean_max_probability": "classifier's mean largest probability",
        "variance_within_a_digit": "variance within a digit, all pixels",
    }.items():
        rows.append((f"{name} (held-out real digits)", f"{made[key]} ({real[key]})"))
    frechet_distance = figures["seen_by_classifier"]["frechet_distance_of_features"]
    rows.append(("Frechet distance of the classifier's features", str(frechet_distance)))
    found = figures["recovered_to_100_dB"]
    rows += [(f"{name}: recovered of {found['samples']}", str(n)) for name, n in found.items() if name != "samples"]
    return [*rows, ("training time, minutes", f"{seconds / 60:.1f}")]


def _pair(layer: dict, *which: str) -> str:
    return " / ".join(str(layer[f"{word}_positive_units"]) for word in which)


def describe(tensors: dict[str, Tensor], figures: dict, variant: str, recipe: Recipe, seconds: float) -> dict:
    """The JSON that stands beside the weights."""
    layers: list[dict] = []
    for n, m in itertools.pairwise(SIZES):
        layers.append({"op": "linear", "weight_shape": [m, n], "bias": True, "in_features": n, "out_features": m})
        layers += [{"op": "batch_norm1d", "eps": 1e-5, "num_features": m}, {"op": "relu"}]
    layers[-2:] = [{"op": "plu", "a": 0.1, "c": 1.0}]
    return {
        "format": "cvxinv generator format",
        "version": 1,
        "name": NAME,
        "kind": "GAN generator, fully connected",
        "trained_on": "MNIST, 60000 training images, grey values scaled to [-1, 1]",
        "latent": {"dim": SIZES[0], "distribution": "normal", "note": "z ~ N(0, I)"},
        "output": {
            "image_shape": [1, 28, 28],
            "range": [-1, 1],
            "note": "PLU output: values leave [-1, 1] with slope 0.1",
        },
        "layers": layers,
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "source": {
            "trained_by": f"cvxinv, problems/training/mnist_gan.py --variant {variant}",
            "recipe": dataclasses.asdict(recipe),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "date": datetime.date.today().isoformat(),
            "train_seconds": round(seconds),
            "licence": "BSD-3-Clause, as cvxinv; trained on MNIST under CC BY-SA 3.0, see SOURCES.md",
        },
        "measured": figures,
    }


def replace(path: pathlib.Path, content: bytes) -> None:
    """Write to a neighbour and rename it, so that nobody ever reads half a file."""
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    neighbour.write_bytes(content)
    os.replace(neighbour, path)


def write(net: nn.Sequential, figures: dict, variant: str, recipe: Recipe, seconds: float, folder: pathlib.Path) -> None:
    """Weights and JSON into `folder`; batch norms stay as they were trained, the reader folds them."""
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    tensors = {f"layers.{name}": tensor.contiguous() for name, tensor in state.items()}
    weights = save(tensors)
    spec = describe(tensors, figures, variant, recipe, seconds) | {"sha256": hashlib.sha256(weights).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / f"{NAME}.safetensors", weights)
    replace(folder / f"{NAME}.json", (json.dumps(spec, indent=1) + "\n").encode())


def samples(source: nn.Module | pathlib.Path, rows: int = 2, columns: int = 18) -> Tensor:
    """The first samples of seed 0, unchosen, as one picture (28 rows, 28 columns) with values in [-1, 1]."""
    G = ci.load_generator(source)
    made = G(G.sample_latent(rows * columns, torch.Generator().manual_seed(0))).clamp(-1, 1)
    return made.view(rows, columns, 28, 28).transpose(1, 2).reshape(rows * 28, columns * 28)


def draw(pictures: dict[str, Tensor], path: pathlib.Path) -> None:
    """One block of samples under the other, each with its name."""
    from matplotlib.figure import Figure  # only pictures need it

    height, width = next(iter(pictures.values())).shape
    figure = Figure(figsize=(width / 80, len(pictures) * (height + 18) / 80), dpi=100, layout="constrained")
    axes = figure.subplots(len(pictures), squeeze=False)[:, 0]
    for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
        ax.imshow(picture.numpy(), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(name, fontsize=8, loc="left")
        ax.set_axis_off()
    figure.savefig(path, pil_kwargs={"optimize": True})


def compare(folder: pathlib.Path, picture: pathlib.Path | None) -> None:
    """Print the figures of the networks in FOLDER/a, FOLDER/b, ... side by side, and draw their samples."""
    found = {name: folder / name / f"{NAME}.json" for name in VARIANTS if (folder / name / f"{NAME}.json").is_file()}
    specs = {name: json.loads(path.read_text()) for name, path in found.items()}
    columns = {name: dict(rows_of(spec["measured"], spec["source"]["train_seconds"])) for name, spec in specs.items()}
    print("| figure | " + " | ".join(columns) + " |\n" + "| --- " * (len(columns) + 1) + "|")
    for figure in next(iter(columns.values())):
        print(f"| {figure} | " + " | ".join(str(column[figure]) for column in columns.values()) + " |")
    if picture:
        draw({f"{name}: {VARIANTS[name].says}": samples(path) for name, path in found.items()}, picture)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Train and write the shipped MNIST generator.")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default=CHOSEN, help=f"recipe; {CHOSEN} ships")
    parser.add_argument("--out", type=pathlib.Path, default=SHIPPED, help="folder to write into")
    parser.add_argument("--steps", type=int, help="fewer batches, to try the script; does not overwrite what ships")
    parser.add_argument("--picture", type=pathlib.Path, help="PNG of samples to write (needs matplotlib)")
    parser.add_argument("--compare", type=pathlib.Path, help="train nothing, compare the networks in this folder")
    chosen = parser.parse_args()
    if chosen.out == SHIPPED and (chosen.variant != CHOSEN or chosen.steps) and not chosen.compare:
        parser.error(f"expected --out with another variant than {CHOSEN} or with --steps, got none; pass --out DIR")
    return chosen


def main() -> None:
    """Train, measure, print, write."""
    chosen = arguments()
    torch.set_num_threads(1)  # sums in another order give other weights
    if chosen.compare:
        compare(chosen.compare, chosen.picture)
        return
    recipe = VARIANTS[chosen.variant]
    recipe = dataclasses.replace(recipe, steps=chosen.steps or recipe.steps)
    images, labels = load_images()
    start = time.perf_counter()
    net = train(images, recipe)
    seconds = time.perf_counter() - start
    figures = measure(net, Judge(images, labels))
    write(net, figures, chosen.variant, recipe, seconds, chosen.out)
    if chosen.picture:
        draw({f"{chosen.variant}: {recipe.says}": samples(net)}, chosen.picture)
    print("| figure | value |\n| --- | --- |")
    print("\n".join(f"| {name} | {value} |" for name, value in rows_of(figures, seconds)))


if __name__ == "__main__":
    main()
