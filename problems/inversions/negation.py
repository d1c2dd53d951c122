"""Gradient descent with negation on random ReLU networks: denoising, and a compressive demo with and without the sign test.

    python problems/inversions/negation.py [--quick] [--out DIR]

Layers have weights N(0, 2/m) and no biases. Denoising: k-500-1500, latents on the unit sphere, noise N(0, sigma^2 / 1500) in
each entry, step 0.25, 600 steps. Compressive: 2-30-100, latents N(0, I), 25 measurements N(0, 1/25), success is a relative
error below 1e-3. Starts are N(0, I); "plain" is gradient descent without momentum and without the sign test.
"""

from itertools import pairwise
from pathlib import Path

import torch
from experiment import Claim, Experiment, Row
from torch import Tensor

import cvxinv as ci


def network(sizes: tuple[int, ...], seed: int) -> ci.Generator:
    """Layers of these sizes with weights N(0, 2/m), ReLU behind each."""
    draw, layers = torch.Generator().manual_seed(seed), []
    for n, m in pairwise(sizes):
        W = (2 / m) ** 0.5 * torch.randn(m, n, generator=draw, dtype=torch.float64)
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), ci.ReLU()))
    return ci.Generator(tuple(layers), (sizes[-1],), {})


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


METHODS = {
    "plain": ci.GradientDescent(steps=(0.5,), momentum=0.0, max_iter=1000),
    "always": ci.GradientDescentWithNegation(max_iter=1000),
    "settled": ci.GradientDescentWithNegation(max_iter=1000, sign_test="settled"),
    "always, 5 starts": ci.GradientDescentWithNegation(max_iter=1000, restarts=5),
}


def settings(quick: bool) -> list[Row]:
    """Denoising by k and by noise, a step that is too large, and the demo by method."""
    if quick:
        few = [{"part": "denoise", "k": 10, "sigma^2": 0.25, "step": 0.25, "signals": 8, "most": 200}]
        return [*few, *({"part": "demo", "method": name, "nets": 4} for name in ("plain", "always"))]
    by_k = [{"part": "denoise", "k": k, "sigma^2": 0.25, "step": 0.25} for k in (10, 25, 50, 100)]
    by_noise = [{"part": "denoise", "k": 50, "sigma^2": s, "step": 0.25} for s in (0.0, 0.05)]
    large = [{"part": "denoise", "k": 50, "sigma^2": 0.25, "step": 1.0}]
    demo = [{"part": "demo", "method": name, "nets": 12} for name in METHODS]
    return [*(row | {"signals": 8, "most": 600} for row in [*by_k, *by_noise, *large]), *demo]


def measure(setting: Row) -> Row:
    """Of denoising the errors and their ratio to sigma^2 k / n; of the demo the share of successes."""
    return _denoised(setting) if setting["part"] == "denoise" else _recovered(setting)


def _denoised(setting: Row) -> Row:
    k, variance, N = setting["k"], setting["sigma^2"], setting["signals"]
    G = network((k, 500, 1500), seed=k)
    z = torch.nn.functional.normalize(normal(N, k, seed=1))
    y = G(z) + (variance / 1500) ** 0.5 * normal(N, 1500, seed=2)
    method = ci.GradientDescentWithNegation(step=setting["step"], max_iter=setting["most"])
    R = ci.invert(G, y, method, on_fail="ignore", progress=False)
    image, latent = (R.signal - G(z)).square().sum(1).mean(), (R.z - z).square().sum(1).mean()
    ratio = image / (variance * k / 1500) if variance else None
    return {"image error": image, "latent error": latent, "image error / (sigma^2 k / n)": ratio, "negations": R.notes[0]}


def _recovered(setting: Row) -> Row:
    there = []
    for seed in range(setting["nets"]):
        G, z = network((2, 30, 100), seed), normal(10, 2, seed=1000 + seed)
        A = normal(25, 100, seed=2000 + seed) / 5
        R = ci.invert(G, G(z) @ A.T, METHODS[setting["method"]], measurement=A, seed=seed, on_fail="ignore", progress=False)
        there.append((R.z - z).norm(dim=1) < 1e-3 * z.norm(dim=1))
    return {"success": torch.cat(there).double().mean()}


def claims(rows: list[Row]) -> list[Claim]:
    """What an earlier run, the source's theorem and a public demo say, each beside its rows."""
    found, ratio = [], "image error / (sigma^2 k / n)"
    for row in (r for r in rows if r["part"] == "denoise" and r["sigma^2"] and r["step"] < 1 and r["k"] <= 50):
        text = f"k = {row['k']}, sigma^2 = {row['sigma^2']}: image error / (sigma^2 k / n) in [0.8, 1.5]"
        found.append(Claim(text, "O", f"{row[ratio]:.2f}", 0.8 <= row[ratio] <= 1.5))
    for row in (r for r in rows if r["part"] == "denoise" and not r["sigma^2"]):
        found.append(Claim("k = 50 without noise: exact", "T", f"{row['image error']:.1e}", row["image error"] < 1e-20))
    for row in (r for r in rows if r["part"] == "denoise" and r["step"] == 1.0):
        like = {"part": "denoise", "k": row["k"], "sigma^2": row["sigma^2"], "step": 0.25}
        (small,) = [r[ratio] for r in rows if like.items() <= r.items()]
        text = "step 1 is too large at k = 50: it ends further off than step 0.25"
        found.append(Claim(text, "O", f"ratio {row[ratio]:.2f}, not {small:.2f}", row[ratio] > 1.2 * small))
    shares = {row["method"]: row["success"] for row in rows if row["part"] == "demo"}
    plain, always = shares["plain"], shares["always"]
    found.append(
        Claim("2-30-100, 25 measurements: about 75 % without the sign test", "C", f"{plain:.0%}", abs(plain - 0.75) < 0.1)
    )
    found.append(Claim("the sign test lifts it to near 100 %", "D", f"{always:.0%}", always >= 0.95))
    return found


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """Image error against sigma^2 k / n."""
    noisy = [r for r in rows if r["part"] == "denoise" and r["sigma^2"] and r["step"] < 1]
    if len(noisy) < 2:
        return []
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    bound = [row["sigma^2"] * row["k"] / 1500 for row in noisy]
    axes.loglog(bound, [row["image error"] for row in noisy], "o", label="measured")
    axes.loglog(sorted(bound), sorted(bound), "-", label="sigma^2 k / n")
    axes.xaxis.set_minor_formatter("")  # its labels would overlap
    axes.set(xlabel="sigma^2 k / n, signal units squared", ylabel="mean |G(z found) - G(z)|^2, signal units squared")
    axes.legend()
    figure.savefig(folder / "negation.png", dpi=100)
    return [folder / "negation.png"]


EXPERIMENT = Experiment(
    name="negation", title="Gradient descent with negation on random ReLU networks", settings=settings, measure=measure,
    claims=claims, draw=draw,
    captions=("Errors of denoised signals lie on the line sigma^2 k / n, over a decade.",),
    source="Heckel, Huang, Hand, Voroninski (2018), synthetic denoising; a public compressive demo of unknown author",
)  # fmt: skip

if __name__ == "__main__":
    EXPERIMENT.main()
