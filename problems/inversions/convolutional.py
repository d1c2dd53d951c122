"""Convolutional generators from a part of their pixels: one descent, and the pair from z1 and -z1.

    python problems/inversions/convolutional.py [--quick] [--out DIR]

The source's toy: latent 2 x 1 x 1, transposed convolutions with kernel 3, stride 2 and channels 2, 4, 8, 16, 1, kernels
N(0, 1 / (9 channels out)), no biases, seen on the first 10 % of the pixels; latents and starts N(0, I). Success is a
relative error of z below 1e-3. Descents are Levenberg-Marquardt, 100 steps at most, where the source takes fminunc.
"""

from itertools import pairwise
from pathlib import Path

import torch
from experiment import Claim, Experiment, Row
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.inversion.methods.mirrored_descent import descend_twice
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.steps.starts import Starts
from cvxinv.inversion.task import make_task

_CHANNELS, _LATENTS = (2, 4, 8, 16, 1), 4
_ACTIVATIONS = {"relu": nn.ReLU(), "leaky 0.2": nn.LeakyReLU(0.2), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}


def network(seed: int, activation: str) -> ci.Generator:
    """The toy, with this activation behind every layer."""
    draw, parts = torch.Generator().manual_seed(seed), list[nn.Module]([nn.Unflatten(1, (2, 1, 1))])
    for n, m in pairwise(_CHANNELS):
        layer = nn.ConvTranspose2d(n, m, 3, stride=2, bias=False)
        layer.weight.data = torch.randn(layer.weight.shape, generator=draw) / (9 * m) ** 0.5
        parts += [layer, _ACTIVATIONS[activation]]
    return ci.load_generator(nn.Sequential(*parts).double())


def seen(G: ci.Generator, kind: str, seed: int) -> Tensor:
    """The first tenth of the pixels as a mask, or as many Gaussian measurements as a matrix."""
    m = G.signal_dim // 10
    if kind == "first 10 %":
        return torch.arange(G.signal_dim) < m
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(m, G.signal_dim, generator=draw, dtype=torch.float64) / m**0.5


def settings(quick: bool) -> list[Row]:
    """Ten networks a row, by activation and measurement."""
    if quick:
        return [{"activation": "relu", "seen": "first 10 %", "first": 0, "nets": 5}]
    relu = [{"activation": "relu", "seen": "first 10 %", "first": k, "nets": 10} for k in (0, 10, 20, 30)]
    others = [("relu", "gaussian"), ("leaky 0.2", "first 10 %"), ("tanh", "first 10 %"), ("sigmoid", "first 10 %")]
    return [*relu, *({"activation": a, "seen": s, "first": 0, "nets": 10} for a, s in others)]


def measure(setting: Row) -> Row:
    """The share of successes of the first descent alone and of the pair."""
    alone, pair, second = [], [], 0
    for seed in range(setting["first"], setting["first"] + setting["nets"]):
        G = network(seed, setting["activation"])
        draw = torch.Generator().manual_seed(500 + seed)
        z = torch.randn(_LATENTS, 2, generator=draw, dtype=torch.float64)
        A = seen(G, setting["seen"], seed)
        x = G(z)
        task = make_task(G, x @ A.T if A.ndim == 2 else x, A)
        z0 = Starts(G, seed).latents(0).expand(_LATENTS, -1)
        found, mirrored = descend_twice(task, z0, 100)
        alone.append(_met(descend(task, z0, 100).z, z))
        pair.append(_met(found.z, z))
        second += int(mirrored.sum())
    return {"one descent": torch.cat(alone).double().mean(), "pair": torch.cat(pair).double().mean(), "from -z1": second}


def _met(found: Tensor, z: Tensor) -> Tensor:
    return (found - z).norm(dim=1) < 1e-3 * z.norm(dim=1)


def claims(rows: list[Row]) -> list[Claim]:
    """The target that was derived from the source's settings, and that the pair is no worse than its first descent."""
    toy = [row for row in rows if row["activation"] == "relu" and row["seen"] == "first 10 %"]
    nets = sum(row["nets"] for row in toy)
    alone, pair = (sum(row[name] * row["nets"] for row in toy) / nets for name in ("one descent", "pair"))
    words = f"{pair:.1%} of {nets * _LATENTS}, of one descent {alone:.1%}"
    enough = nets * _LATENTS >= 100
    return [
        Claim("ReLU, first 10 %: the pair is within 1e-3 on over 90 %", "D", words, pair > 0.9 if enough else None),
        Claim("the pair finds what one descent finds", "D", words, all(r["pair"] >= r["one descent"] for r in rows)),
        *map(_surface_claim, _SEEN),
    ]


_SEEN, _POINTS, _TRUE = ("all pixels", "first 10 %"), 65, (3.0, -2.0)


def surface(what: str) -> tuple[Tensor, Tensor]:
    """f over [-8, 8]^2 of the first network and the latent (3, -2), `(65, 65)`, and its axis."""
    G, z = network(0, "relu"), torch.tensor([_TRUE]).double()
    task = make_task(G, G(z), seen(G, what, 0) if what != "all pixels" else None)
    axis = torch.linspace(-8, 8, _POINTS, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    f = task.take(torch.zeros(len(grid), dtype=torch.long)).misfit(grid).square() / 2
    return f.reshape(_POINTS, _POINTS), axis


def _surface_claim(what: str) -> Claim:
    f, axis = surface(what)
    n = _POINTS - 2
    around = torch.stack([f[i : i + n, j : j + n] for i in range(3) for j in range(3) if (i, j) != (1, 1)])
    minima = [(float(axis[i + 1]), float(axis[j + 1])) for i, j in (f[1:-1, 1:-1] < around.amin(0)).nonzero().tolist()]
    lowest = tuple(float(axis[k]) for k in torch.unravel_index(f.argmin(), f.shape))
    opposite = [z for z in minima if z[0] * _TRUE[0] + z[1] * _TRUE[1] < 0]
    text = f"{what}: the cost over +-8 is least at the truth (3, -2), with a worse basin on the opposite side"
    return Claim(text, "D", f"minima of the grid at {minima}", lowest == _TRUE and len(opposite) > 0)


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """The cost surfaces over [-8, 8]^2."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), _SEEN, strict=True):
        f, axis = surface(what)
        picture = axes.contourf(axis, axis, f.T.sqrt(), levels=30)
        axes.plot(*_TRUE, "r*", label="true latent")
        axes.plot(-_TRUE[0], -_TRUE[1], "wx", label="its mirror image")
        axes.set(xlabel="z_1", ylabel="z_2", aspect="equal", title=what)
        axes.legend()
        figure.colorbar(picture, label="root of f")
    figure.savefig(folder / "convolutional.png", dpi=100)
    return [folder / "convolutional.png"]


EXPERIMENT = Experiment(
    name="convolutional", title="Convolutional generators from the first tenth of their pixels", settings=settings,
    measure=measure, claims=claims, draw=draw,
    captions=(
        "Two heat maps of the cost over both latents, all pixels seen and the first 10 %: least at the true latent (3,"
        " -2), with a shallower basin on the opposite side.",
    ),
    source="Ma, Ayaz, Karaman (2018), the toy of their code; the target was derived, their figures give no numbers",
)  # fmt: skip

if __name__ == "__main__":
    EXPERIMENT.main()
