"""Small generators with everything that can go wrong in one, some signals of each, and latents that are seldom the best.

One to three latents, one to three hidden layers of one to eight units: ReLU or LeakyReLU, wide and narrow ones, of full rank
or not, with dead units (a row of zeros, with a bias below, at or above 0), units that stand there twice, and units that lead
nowhere; outputs with or without ReLU. Signals are seen whole, behind a mask or through a matrix, also of fewer rows than
anything needs; noise from none to half of the signal; some are no signals of the generator at all, some are all zeros.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import cvxinv as ci

SIGNALS = 2


@dataclass(frozen=True, eq=False)
class Case:
    """A generator, y `(S, k)`, latents to start from `(S, n0)`, and what else `prove` is told; the box is |z_j| <= box."""

    generator: ci.Generator
    y: Tensor
    z: Tensor
    box: float
    features: tuple[str, ...]
    told: dict[str, Any] = field(default_factory=dict)


class Dice:
    """Random draws of one seed."""

    def __init__(self, seed: int):
        self.source = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.source, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.source, dtype=torch.float64)

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high."""
        return int(torch.randint(low, high + 1, (), generator=self.source))

    def chance(self, share: float) -> bool:
        return float(self.uniform(1)) < share

    def one_of(self, *choices):
        return choices[self.integer(0, len(choices) - 1)]


def draw(seed: int) -> Case:
    """The case of a seed."""
    dice, features = Dice(seed), list[str]()
    generator = _generator(dice, features)
    n0, d = generator.latent_dim, generator.signal_dim
    told = _measurement(dice, d, features)
    truth = dice.normal(SIGNALS, n0)
    x = generator(truth)
    if dice.chance(0.1):
        x = dice.normal(SIGNALS, d)
        features.append("no signals of it")
    noise = dice.one_of(0.0, 0.01, 0.1, 0.3, 0.5)
    features.append(f"noise {noise:g}")
    x = x + noise * x.norm(dim=1, keepdim=True) * dice.normal(SIGNALS, d) / d**0.5
    if dice.chance(0.03):
        x = 0 * x
        features.append("y = 0")
    measurement = told.get("measurement")
    y = x if measurement is None or measurement.dtype == torch.bool else x @ measurement.T
    if dice.chance(0.15):
        sigma = 0.05 + float(dice.uniform(1))
        precision = dice.uniform(n0)
        precision[0] += 0.1
        told |= {"noise": ("gaussian", sigma), "prior": ci.Gaussian(precision, 0.3 * dice.normal(n0))}
        features.append("prior")
    z = dice.one_of(dice.normal(SIGNALS, n0), truth + 0.1 * dice.normal(SIGNALS, n0), truth)
    return Case(generator, y, z, dice.one_of(0.8, 2.0, 4.0), tuple(features), told)


def _generator(dice: Dice, features: list[str]) -> ci.Generator:
    n0, depth = dice.integer(1, 3), dice.integer(1, 3)
    sizes = [n0, *(dice.integer(1, 8) for _ in range(depth)), dice.integer(2, 10)]
    slope = dice.one_of(0.0, 0.0, 0.0, 0.01, 0.2, 0.7)
    features += [f"{depth} hidden", "leaky" if slope else "relu"]
    layers = []
    for k in range(depth + 1):
        W, b = _layer(dice, sizes[k + 1], sizes[k], features), 0.4 * dice.normal(sizes[k + 1])
        b = 0 * b if dice.chance(0.2) else b
        last = k == depth
        phi = ci.ReLU() if not slope else ci.LeakyReLU(slope)
        if last:
            phi = ci.ReLU() if dice.chance(0.15) else ci.Identity()
            features += [] if phi.linear else ["relu behind"]
        layers.append(ci.Layer(ci.Dense(W), b, phi))
    return ci.Generator(layers, (sizes[-1],), {})


def _layer(dice: Dice, m: int, n: int, features: list[str]) -> Tensor:
    W = dice.normal(m, n) / n**0.5
    if min(m, n) > 1 and dice.chance(0.15):
        rank = dice.integer(1, min(m, n) - 1)
        W = dice.normal(m, rank) @ dice.normal(rank, n) / n**0.5
        features.append("rank")
    if m > 1 and dice.chance(0.15):
        W[dice.integer(0, m - 1)] = 0.0
        features.append("dead unit")
    if m > 1 and dice.chance(0.15):
        W[0] = dice.one_of(1.0, 2.0, -1.0) * W[m - 1]
        features.append("double unit")
    if n > 1 and dice.chance(0.1):
        W[:, dice.integer(0, n - 1)] = 0.0
        features.append("leads nowhere")
    return W if float(W.norm()) > 0 else torch.ones_like(W)


def _measurement(dice: Dice, d: int, features: list[str]) -> dict[str, Any]:
    kind = dice.one_of("whole", "whole", "mask", "matrix")
    features.append(kind)
    if kind == "mask":
        seen = dice.uniform(d) > 0.4
        seen[dice.integer(0, d - 1)] = True
        return {"measurement": seen}
    if kind == "matrix":
        return {"measurement": dice.normal(dice.integer(1, d), d) / d**0.5}
    return {}
