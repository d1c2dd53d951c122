"""Train the generator that ships with cvxinv: 8x8 handwritten digits from 8 latents, 8-24-40-64.

A variational autoencoder's decoder with identity output, trained with squared error, and beside that

- an adversarial term, because eight Gaussian latents alone give blurred digits between the classes;
- order-statistic penalties that keep the numbers s1, s2 of positive hidden units within bounds, so that the
  growth conditions s1 > n0, s2 >= 2 s1 and 2 s2 <= 64 hold for nearly every latent and no unit dies;
- log-determinants of the Jacobian, whole and with 29 of the 64 pixels hidden, and of the last matrix, for
  conditioning.

    python problems/training/digits_8x8.py       # one to two minutes on one core; writes into cvxinv/shipped
    python problems/training/digits_8x8.py --out DIR

Needs scikit-learn for the digits (extra [dev]). The same seed and versions give the same weights.
Sources: Larsen et al., Autoencoding beyond pixels using a learned similarity metric, 2016 (autoencoder and
critic); Mescheder et al., Which training methods for GANs do actually converge?, 2018 (gradient penalty).
"""

import argparse
import dataclasses
import datetime
import hashlib
import itertools
import json
import os
import pathlib
import time

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from safetensors.torch import save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from tqdm import tqdm

NAME = "digits_8x8"
SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "cvxinv" / "shipped"
SIZES = (8, 24, 40, 64)
PIXELS, SEEN = 64, 35  # 45 % of the pixels hidden
HELD_OUT, SHOWN, LATENTS = 300, 64, 2000
SPLIT_SEED, MEASURE_SEED = 0, 123
RANK_TOL = 1e-10  # sigma_min > RANK_TOL sigma_max counts as full rank, in float64


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the training does; the bounds are on the number of positive units."""

    seed: int = 0
    epochs: int = 500
    batch: int = 128
    variance: float = 0.02  # of a pixel around the decoder's mean
    s1: tuple[int, int] = (10, 11)
    s2: tuple[int, int] = (24, 26)
    margin: float = 0.04  # in standard deviations of a layer's pre-activations
    growth: float = 300.0
    alive: float = 1.0
    adversarial: float = 100.0
    jacobian: float = 0.3
    gram: float = 0.3


class Decoder(nn.Module):
    """The generator, with the pre-activations of both hidden layers beside its output."""

    def __init__(self) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(n, m) for n, m in itertools.pairwise(SIZES))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output (N, 64) and pre-activations (N, n1), (N, n2) of latents (N, n0)."""
        first, second, last = self.linears
        a1 = first(z)
        a2 = second(a1.relu())
        return last(a2.relu()), a1, a2

    def jacobian(self, a1: Tensor, a2: Tensor) -> Tensor:
        """Jacobians (N, 64, n0) of the affine pieces that the signs of `a1`, `a2` select."""
        W1, W2, W3 = (linear.weight for linear in self.linears)
        inner = W2 @ (W1 * (a1 > 0)[:, :, None])
        return W3 @ (inner * (a2 > 0)[:, :, None])


def mlp(n: int, hidden: int, m: int, activation: nn.Module) -> nn.Sequential:
    """Two hidden layers of the same width; used only while training."""
    return nn.Sequential(nn.Linear(n, hidden), activation, nn.Linear(hidden, hidden), activation, nn.Linear(hidden, m))


def load_split() -> tuple[Tensor, Tensor, Tensor]:
    """Training images, held-out images, both in [0, 1], and held-out labels; stratified, always the same."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    train, held, _, labels = train_test_split(
        images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=SPLIT_SEED
    )
    return torch.tensor(train), torch.tensor(held), torch.tensor(labels, dtype=torch.int64)


def growth_penalty(a1: Tensor, a2: Tensor, recipe: Recipe) -> Tensor:
    """Push exactly those units across zero that keep s1, s2 from their bounds and s2 from 2 s1 + 1.

    Works on sorted pre-activations: the k-th largest must be above the margin to have k positive ones.
    """
    v1 = a1.sort(1, descending=True).values / a1.detach().std()
    v2 = a2.sort(1, descending=True).values / a2.detach().std()
    low1, high1 = recipe.s1
    low2, high2 = recipe.s2
    # one more than twice s1: a unit that flips must not break the condition
    wanted = (2 * (a1 > 0).sum(1) + 1).clamp(low2, high2)
    short2 = F.relu(recipe.margin - v2) * (torch.arange(v2.shape[1]) < wanted[:, None])
    short1 = F.relu(recipe.margin - v1[:, :low1])
    excess = F.relu(v1[:, high1:] + recipe.margin).sum(1) + F.relu(v2[:, high2:] + recipe.margin).sum(1)
    return (short1.sum(1) + short2.sum(1) + excess).mean()


def alive_penalty(a: Tensor, margin: float) -> Tensor:
    """Every unit is positive for an eighth of the batch at least and negative for another eighth."""
    scaled, k = a / a.detach().std(), len(a) // 8
    top, bottom = scaled.topk(k, dim=0).values, scaled.topk(k, dim=0, largest=False).values
    return (F.relu(margin - top) + F.relu(bottom + margin)).sum()


def spread_penalty(J: Tensor) -> Tensor:
    """-log det of J'J scaled to mean diagonal 1: zero for orthogonal columns of equal length."""
    gram = J.mT @ J
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-9
    # the ridge keeps a rank-deficient piece finite, so that its gradient can lead out
    return -torch.linalg.slogdet(gram / scale + 1e-5 * torch.eye(J.shape[2]))[1].mean()


def gram_penalty(W: Tensor) -> Tensor:
    """-log det of the columns' correlations, and the spread of the columns' lengths."""
    length = W.norm(dim=0)
    unit = W / length
    eye = 1e-6 * torch.eye(W.shape[1])
    return ((length / length.mean() - 1) ** 2).sum() - torch.linalg.slogdet(unit.T @ unit + eye)[1]


class Trainer:
    """One training run: networks, optimisers, and what one batch does to them."""

    def __init__(self, recipe: Recipe, steps: int) -> None:
        self.recipe = recipe
        self.encoder = mlp(PIXELS, 256, 2 * SIZES[0], nn.ReLU())
        self.decoder = Decoder()
        self.critic = mlp(PIXELS, 256, 1, nn.LeakyReLU(0.2))
        self.weights = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-3, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 3e-3, total_steps=steps, pct_start=0.1)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.0, 0.99))

    def step(self, x: Tensor) -> float:
        """Take one batch of images; return the reconstruction error per pixel."""
        mean, log_std = self.encoder(x).chunk(2, 1)
        log_std = log_std.clamp(-6, 3)
        z = mean + log_std.exp() * torch.randn_like(mean)
        # encoded and random latents together: the bounds must hold where users sample, not only near data
        out, a1, a2 = self.decoder(torch.cat([z, torch.randn_like(z)]))
        n = len(x)
        misfit = ((out[:n] - x) ** 2).sum(1).mean()
        divergence = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1).mean()
        loss = misfit / (2 * self.recipe.variance) + divergence + self.shape_penalty(out[n:], a1, a2)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 50.0)
        self.optimizer.step()
        self.schedule.step()
        self.train_critic(x, out[n:].detach())
        return misfit.item() / PIXELS

    def shape_penalty(self, samples: Tensor, a1: Tensor, a2: Tensor) -> Tensor:
        """Everything the loss holds beside the autoencoder's own two terms."""
        recipe, n = self.recipe, len(samples)
        outside = ((samples - samples.clamp(0, 1)) ** 2).sum(1).mean()
        J = self.decoder.jacobian(a1[n:], a2[n:])
        seen = torch.rand(n, PIXELS).argsort(1) < SEEN
        alive = alive_penalty(a1, recipe.margin) + alive_penalty(a2, recipe.margin)
        return (
            outside / (2 * recipe.variance)
            + recipe.growth * growth_penalty(a1, a2, recipe)
            + recipe.alive * alive
            + recipe.jacobian * (spread_penalty(J) + spread_penalty(J * seen[:, :, None]))
            + recipe.gram * gram_penalty(self.decoder.linears[2].weight)
            - recipe.adversarial * self.critic(samples).mean()
        )

    def train_critic(self, real: Tensor, made: Tensor) -> None:
        """One step of the critic, with a penalty on its gradient at the real digits."""
        real = real.clone().requires_grad_(True)
        score = self.critic(real)
        (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        loss = F.softplus(-score).mean() + F.softplus(self.critic(made)).mean()
        self.critic_optimizer.zero_grad()
        (loss + 0.5 * (slope**2).sum(1).mean()).backward()
        self.critic_optimizer.step()


def train(images: Tensor, recipe: Recipe) -> tuple[nn.Module, Decoder]:
    """Encoder and decoder after `recipe.epochs` passes over `images`."""
    torch.manual_seed(recipe.seed)
    batches = len(images) // recipe.batch
    trainer = Trainer(recipe, recipe.epochs * batches)
    bar = tqdm(range(recipe.epochs), desc="training", unit="epoch")
    for _ in bar:
        order = torch.randperm(len(images))[: batches * recipe.batch].view(batches, recipe.batch)
        error = sum(trainer.step(images[rows]) for rows in order) / batches
        bar.set_postfix(mse=f"{error:.4f}")
    return trainer.encoder.requires_grad_(False), trainer.decoder.requires_grad_(False)


def fitted_error(decoder: Decoder, start: Tensor, images: Tensor, steps: int = 500) -> float:
    """Mean squared error per pixel after gradient descent on the latents from the encoder's."""
    z = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=0.02)
    best = torch.full((len(images),), float("inf"), dtype=z.dtype)
    for _ in range(steps):
        errors = ((decoder(z)[0] - images) ** 2).mean(1)
        best = torch.minimum(best, errors.detach())
        optimizer.zero_grad()
        errors.sum().backward()
        optimizer.step()
    return best.mean().item()


def spectrum(J: Tensor) -> dict:
    """Smallest rank, and median and largest condition number, of Jacobians (N, m, n0)."""
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
        "activation": "relu",
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


def growth_shares(a1: Tensor, a2: Tensor) -> dict:
    """Share of latents for which each growth condition holds, and all of them together."""
    n0, s1, s2 = SIZES[0], (a1 > 0).sum(1), (a2 > 0).sum(1)
    conditions = {
        "frac_s1_gt_n0": s1 > n0,
        "frac_s1_ge_n0_plus_2": s1 >= n0 + 2,
        "frac_growth": s2 >= 2 * s1,
        "frac_output": 2 * s2 <= PIXELS,
        "frac_s2_le_30": s2 <= 30,
    }
    both = conditions["frac_s1_gt_n0"] & conditions["frac_growth"] & conditions["frac_output"]
    shares = {name: holds.double().mean().item() for name, holds in conditions.items()}
    return shares | {"frac_all_with_output": both.double().mean().item()}


def measure(encoder: nn.Module, decoder: Decoder, held: Tensor) -> dict:
    """Figures at 2000 random latents and on the held-out digits, in float64."""
    encoder, decoder, held = encoder.double(), decoder.double(), held.double()
    generator = torch.Generator().manual_seed(MEASURE_SEED)
    z = torch.randn(LATENTS, SIZES[0], generator=generator, dtype=torch.float64)
    out, a1, a2 = decoder(z)
    J = decoder.jacobian(a1, a2)
    seen = torch.rand(LATENTS, PIXELS, generator=generator).argsort(1) < SEEN
    code = encoder(held).chunk(2, 1)[0]
    return {
        "samples": LATENTS,
        "latent_dim": SIZES[0],
        "output_dim": PIXELS,
        "hidden": [layer_figures(a1), layer_figures(a2)],
        "condition": growth_shares(a1, a2),
        "condition_at_encoded_held_out": growth_shares(*decoder(code)[1:]),
        "jacobian_of_pre_output": spectrum(J),
        "jacobian_of_35_seen_pixels": spectrum(J * seen[:, :, None]),
        "last_matrix_condition_number": round(torch.linalg.cond(decoder.linears[2].weight).item(), 2),
        "pixels_outside_0_1_by_more_than_0_05": ((out < -0.05) | (out > 1.05)).double().mean().item(),
        "held_out_mse_encoder": round(((decoder(code)[0] - held) ** 2).mean().item(), 5),
        "held_out_mse_fitted": round(fitted_error(decoder, code, held), 5),
        "held_out_pixel_variance": round(held.var(0).mean().item(), 5),
    }


def table(figures: dict, seconds: float) -> str:
    """The measured figures as a Markdown table."""
    rows = [("figure", "value"), ("---", "---")]
    for i, layer in enumerate(figures["hidden"], 1):
        spread = f"{layer['mean_positive']} ({layer['q05']} to {layer['q95']}) of {layer['size']}"
        rows.append((f"s{i}: mean positive units (5 and 95 % quantile)", spread))
        rows.append((f"units of layer {i} never positive", layer["never_positive_units"]))
    names = [
        "s1 > n0",
        "s1 >= n0 + 2",
        "s2 >= 2 s1",
        "2 s2 <= 64",
        "s2 <= 30",
        "s1 > n0, s2 >= 2 s1, 2 s2 <= 64",
    ]
    for name, share in zip(names, figures["condition"].values(), strict=True):
        rows.append((f"share of latents with {name}", f"{share:.4f}"))
    on_digits = figures["condition_at_encoded_held_out"]["frac_all_with_output"]
    rows.append(("the same three at the latents of held-out digits", f"{on_digits:.4f}"))
    keys = {"all 64 pixels": "jacobian_of_pre_output", "35 random pixels": "jacobian_of_35_seen_pixels"}
    for what, key in keys.items():
        J = figures[key]
        cond = [J[f"{q}_condition_number"] for q in ("median", "q95", "max")]
        rows.append((f"Jacobian, {what}: smallest rank", J["rank_min"]))
        rows.append((f"Jacobian, {what}: condition, median / 95 % / max", " / ".join(map(str, cond))))
    rows += [
        ("condition of the last matrix", figures["last_matrix_condition_number"]),
        ("pixels below -0.05 or above 1.05", f"{figures['pixels_outside_0_1_by_more_than_0_05']:.4f}"),
        ("mean squared error, held-out digits, encoder's latents", figures["held_out_mse_encoder"]),
        ("mean squared error, held-out digits, fitted latents", figures["held_out_mse_fitted"]),
        ("for comparison: variance of a held-out pixel", figures["held_out_pixel_variance"]),
        ("training time, seconds", f"{seconds:.0f}"),
    ]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def describe(tensors: dict[str, Tensor], figures: dict, recipe: Recipe, seconds: float) -> dict:
    """The JSON that stands beside the weights."""
    layers: list[dict] = []
    for n, m in itertools.pairwise(SIZES):
        linear = {"op": "linear", "weight_shape": [m, n], "bias": True, "in_features": n, "out_features": m}
        layers += [linear, {"op": "relu"}]
    layers.pop()  # identity output
    versions = {"torch": torch.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    return {
        "name": NAME,
        "kind": "VAE decoder with an adversarial term",
        "trained_on": f"load_digits of scikit-learn, {1797 - HELD_OUT} of 1797 images",
        "latent": {"dim": SIZES[0], "distribution": "normal", "note": "z ~ N(0, I)"},
        "output": {
            "image_shape": [1, 8, 8],
            "range": [0, 1],
            "note": "identity output: a few values leave [0, 1]",
        },
        "layers": layers,
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "source": {
            "trained_by": "cvxinv, problems/training/digits_8x8.py",
            "recipe": dataclasses.asdict(recipe),
            "versions": versions,
            "date": datetime.date.today().isoformat(),
            "train_seconds": round(seconds),
            "licence": "BSD-3-Clause, as cvxinv; trained on digits under CC BY 4.0, see SOURCES.md",
        },
        "sparsity": figures,
    }


def pick(labels: Tensor) -> Tensor:
    """Indices of the held-out digits that ship: every class six times at least, classes interleaved."""
    by_class = [torch.nonzero(labels == k)[:, 0].tolist() for k in range(10)]
    return torch.tensor([by_class[i % 10][i // 10] for i in range(SHOWN)])


def replace(path: pathlib.Path, content: bytes) -> None:
    """Write to a neighbour and rename it, so that nobody ever reads half a file."""
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    neighbour.write_bytes(content)
    os.replace(neighbour, path)


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description="Train and write the shipped 8x8 digits generator.")
    parser.add_argument("--out", type=pathlib.Path, default=SHIPPED, help="folder to write into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # sums in another order give other weights
    recipe = Recipe()
    images, held, labels = load_split()
    start = time.perf_counter()
    encoder, decoder = train(images, recipe)
    seconds = time.perf_counter() - start
    tensors = {
        f"layers.{2 * i}.{kind}": getattr(linear, kind).detach().clone().contiguous()
        for i, linear in enumerate(decoder.linears)
        for kind in ("weight", "bias")
    }
    figures = measure(encoder, decoder, held)
    spec = describe(tensors, figures, recipe, seconds)
    weights = save(tensors)
    spec["sha256"] = hashlib.sha256(weights).hexdigest()
    replace(out / f"{NAME}.safetensors", weights)
    replace(out / f"{NAME}.json", (json.dumps(spec, indent=1) + "\n").encode())
    shown = pick(labels)
    sample = {"images": held[shown].contiguous(), "labels": labels[shown].contiguous()}
    replace(out / "digits_sample.safetensors", save(sample))
    print(table(figures, seconds))


if __name__ == "__main__":
    main()
