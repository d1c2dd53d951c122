"""Signals that no latent explains: hidden layers let go of the range, beside the best latent and CSGM.

    python problems/inversions/intermediate_layers.py            ten MNIST test digits, a 20-400-784 decoder (`CVXINV_DATA`)
    python problems/inversions/intermediate_layers.py --quick    two digits of the shipped generator, moved aside: seconds

y shows a random share of the pixels of a digit, without noise; the decoder has no z for any of them. Three answers, and
their root mean square error on the pixels that were not seen: G(z) of hybrid, the nearest latent found; csgm without a
weight on z (Adam, 300 steps, 2 starts); and the freed signal of `IntermediateLayers` from hybrid's z, whose hidden layer may
move within an l1 ball of `radius` times its own length. What was hidden reaches no method.

The source shows faces by a StyleGAN2; on digits and a decoder of one hidden layer nothing of it is published, so that its
claim is tried here for what it says: that to let go of the range helps signals outside it.

Source: Daras, Dean, Jalal, Dimakis (2021), abstract and code.
"""

from functools import cache
from pathlib import Path

import torch
from experiment import Claim, Experiment, Row, digits, look, shipped_samples, trained_generator
from torch import Tensor

import cvxinv as ci

GENERATOR = "csinva_vae_20_400_784"
RADII = (0.03, 0.1, 0.3)


def settings(quick: bool) -> list[Row]:
    """A row per share of pixels seen and radius."""
    if quick:
        return [{"seen": 0.5, "radius": 0.1, "signals": 2, "generator": "mnist_gan"}]
    return [
        {"seen": seen, "radius": radius, "signals": 10, "generator": GENERATOR}
        for seen in (0.8, 0.5, 0.25, 0.1) for radius in RADII
    ]  # fmt: skip


def measure(setting: Row) -> Row:
    """Root mean square errors on hidden pixels, and misfits on seen ones, over the ten signals."""
    G, x = _signals(setting["generator"], setting["signals"])
    seen, best, csgm = _by_latents(setting["generator"], setting["signals"], setting["seen"])
    y = torch.where(seen, x, torch.nan)
    freed = ci.IntermediateLayers(radius=setting["radius"]).freed_signals(G, y, best.z, measurement=seen)
    answers = {"hybrid": best.signal, "csgm": csgm.signal, "freed": freed}
    errors = {f"hidden {name}": _rms(found - x, ~seen) for name, found in answers.items()}
    return errors | {f"seen {name}": _rms(found - x, seen) for name, found in answers.items()}


@cache
def _by_latents(generator: str, signals: int, share: float) -> tuple[Tensor, ci.Inversion, ci.Inversion]:
    """What is seen, and the answers of the methods that give a latent: the same for every radius."""
    G, x = _signals(generator, signals)
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < share
    task = {"measurement": seen, "on_fail": "ignore", "progress": False}
    y = torch.where(seen, x, torch.nan)
    csgm = ci.invert(G, y, "csgm", lam=0.0, max_iter=300, rate=0.05, restarts=2, **task)
    return seen, ci.invert(G, y, **task), csgm


def _rms(e: Tensor, where: Tensor) -> float:
    return float((e[where]).square().mean().sqrt())


def _signals(generator: str, signals: int) -> tuple[ci.Generator, Tensor]:
    if generator != GENERATOR:
        G, x = shipped_samples(signals)
        return G, x.roll(2, dims=1)  # moved by two pixels, out of the range
    return trained_generator(GENERATOR), digits(slice(signals))


def claims(rows: list[Row]) -> list[Claim]:
    """Whether letting go of the range helps, and what it costs where little was seen."""
    much = [row for row in rows if row["seen"] >= 0.5]
    gains = [row["hidden freed"] / row["hidden hybrid"] for row in much]
    text = "half of the pixels or more seen: the freed signal is nearer to the hidden ones than the nearest latent's"
    found = [Claim(text, "T", f"error over hybrid's {min(gains):.2f} to {max(gains):.2f}", max(gains) < 1)]
    nearer = all(row["seen freed"] < row["seen hybrid"] for row in rows)
    found.append(Claim("the freed signal is nearer to what was seen", "D", str(nearer), nearer))
    little = [row["hidden freed"] / row["hidden hybrid"] for row in rows if row["seen"] <= 0.1]
    if little:
        words = f"error over hybrid's {min(little):.2f} to {max(little):.2f}"
        found.append(Claim("a tenth seen: a large ball fits what was seen and spoils the rest", "D", words, max(little) > 1))
    return found


def draw(rows: list[Row], out: Path) -> list[Path]:
    """Error on hidden pixels against the share seen, a line per answer."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7, 4.2), layout="constrained")
    ax = fig.subplots()
    first = [row for row in rows if row["radius"] == rows[0]["radius"]]
    for index, name in enumerate(("hybrid", "csgm")):
        ax.plot([100 * r["seen"] for r in first], [r[f"hidden {name}"] for r in first], label=f"G(z), {name}", **look(index))
    for index, radius in enumerate(dict.fromkeys(row["radius"] for row in rows)):
        its = [row for row in rows if row["radius"] == radius]
        label = f"freed, l1 radius {radius} of the layer"
        ax.plot([100 * r["seen"] for r in its], [r["hidden freed"] for r in its], label=label, **look(index + 2))
    ax.set(xlabel="pixels seen, %", ylabel="root mean square error of hidden pixels", ylim=(0, None))
    ax.set_title(f"digits out of the range of {rows[0]['generator']}", fontsize=10)
    ax.grid(alpha=0.3)
    ax.legend()
    path = out / "intermediate_layers.png"
    fig.savefig(path, dpi=130)
    return [path]


EXPERIMENT = Experiment(
    name="intermediate_layers", title="Signals out of range: hidden layers let go",
    source="Daras, Dean, Jalal, Dimakis (2021), abstract and code.", settings=settings, measure=measure, claims=claims,
    draw=draw,
    captions=(
        "Error on hidden pixels against the share seen: freed signals are nearer than the nearest latent's where half "
        "or more is seen, the more so the larger the ball; where little is seen CSGM, which keeps to a small latent, "
        "is nearest.",
    ),
)  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    EXPERIMENT.main()
