"""Proofs for generators whose relaxations do not fit: affine forms with remainders, pushed through the maps as they are.

    x_l(z) in  G_l c + g_l +- e_l   (entrywise, e_l >= 0)   for every z = V c of the box

A map gives W G, W g + b, |W| e; a unit with limits l < 0 < h of its form, a = (h - s l) / (h - l), gives max(u, s u) in a
u + d +- d with d = (a - s) (-l) / 2, half of what its chord exceeds it by; decided units are as they are. The signal's
rows, behind the measurement and, for an S-shaped output, as lines below the misfit (`opening`), are r(z) in J c - q +- e,
so that

    every better latent has |J c - q| <= level^(1/2) + |e|,       every latent of the box a misfit >= (min |J c - q| -
    |e|)_+

The first is an ellipsoid about the least-squares point: with the singular values S_k of J and V its right singular
vectors at the best latent known, |c_k - c*_k| <= rho / S_k, rho^2 = (level^(1/2) + |e|)^2 - min |J c - q|^2. That box
gives smaller remainders, and so on. Where the box is small enough to begin with all units are decided in the end, and the
best latent is the only one. Costs n0 products with each map a round, memory n0 numbers per unit. Rounding is added to e
and to rho.
"""

import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..generator.chain import Generator
from ..inversion.task import Task
from ..lengths import lengths
from ..measurement.abstract import AbstractMeasurement
from .network import MOST_ENTRIES, axes_of, cut_slope
from .nodes import over_box
from .opening import behind_output
from .search import strict_level

_ROUNDING = 1e-13
ROUNDS = 100
_MOST_UNITS = 4000  # hidden units that a relaxation takes
_STALLS = 0.999  # of its size: what a round must bring the box to, for another one


@dataclass(frozen=True)
class Form:
    """G `(m, n0)`, g and e `(m,)`: what is affine in c, its constant, and the remainder."""

    G: Tensor
    g: Tensor
    e: Tensor

    def limits(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest values over a box, `(m,)` each."""
        middle, radius = (low + high) / 2, (high - low) / 2
        value, reach = self.G @ middle + self.g, self.G.abs() @ radius + self.e
        reach = reach + _ROUNDING * (self.G.abs() @ middle.abs() + self.g.abs() + reach)
        return value - reach, value + reach


@dataclass
class Whole:
    """What rounds found of one signal: bound (squared), box, undecided units per layer, whether J has full rank."""

    bound: float
    low: Tensor
    high: Tensor
    undecided: list[int]
    determined: bool
    rounds: int


def bounded(task: Task, V: Tensor, low: Tensor, high: Tensor, level: float, enough: float, deadline: float) -> Whole:
    """Rounds for a task of one signal; V `(n0, n0)`, the box of c `(n0,)`, level and enough in squared signal units."""
    generator = task.generator
    assert isinstance(generator, Generator)
    found = Whole(0.0, low, high, [], False, 0)
    for _ in range(ROUNDS):
        form, undecided = forms(generator, V, found.low, found.high)
        form = _seen(task, form, found.low, found.high, level)
        Q, R = torch.linalg.qr(form.G)
        U, S, Wt = torch.linalg.svd(R)
        keep = S > 1e-10 * S[0]
        t = U.mT @ (Q.mT @ -form.g)
        centre = Wt.mT[:, keep] @ (t[keep] / S[keep])
        rest = float(lengths((form.g + form.G @ centre)[None]))
        size = float(lengths(form.g[None]) + lengths((form.G.abs() @ centre.abs())[None]))
        e = float(lengths(form.e[None])) + _ROUNDING * size
        inside = max(rest - e, 0.0) ** 2
        found.rounds += 1
        found.undecided, found.determined = undecided, bool(keep.all()) and form.G.shape[0] >= form.G.shape[1]
        found.bound = max(found.bound, min(inside, level))
        rho2 = (level**0.5 + e) ** 2 - max(rest - _ROUNDING * size, 0.0) ** 2
        if rho2 < 0:
            found.bound = level
            break
        if not bool(keep.all()):
            break
        reach = rho2**0.5 * lengths(Wt.mT / S) * (1 + 1e-9) + 1e-13 * centre.abs()
        before = (found.high - found.low).clamp(min=1e-300)
        lower, upper = torch.maximum(found.low, centre - reach), torch.minimum(found.high, centre + reach)
        if bool((lower > upper + 1e-12 * (1 + centre.abs())).any()):
            found.bound = level  # no better latent is in the box
            break
        found.low, found.high = torch.minimum(lower, upper), torch.maximum(lower, upper)
        shrunk = float(((found.high - found.low) / before).min())
        done = found.bound >= enough and not sum(undecided)
        if shrunk > (0.5 if done else _STALLS) or time.perf_counter() > deadline:
            break
    return found


def fits(generator: Generator) -> bool:
    """Whether relaxations of the generator fit, so that the search can prove more than these rounds."""
    sizes = [generator.latent_dim, *(layer.W.m for layer in generator.layers)]
    return max(a * b for a, b in pairwise(sizes)) <= MOST_ENTRIES and sum(sizes[1:-1]) <= _MOST_UNITS


def check_wide(task: Task, **keeping: object) -> None:
    """Raises ValueError for what these rounds prove nothing of, or keep nothing of."""
    norm, what = "l2" if task.noise is None else task.noise.norm, f"a generator of more than {_MOST_UNITS} hidden units"
    if task.weighed or norm not in ("l2", "gaussian"):
        prior = " and a prior" if task.weighed else ""
        raise ValueError(f"expected an l2 misfit without a prior for {what}, got {norm}{prior}; of others nothing is proved")
    for name, given in keeping.items():
        if given is not None:
            raise ValueError(f"expected {name}=None for {what}, got {given}; their proofs have no tree, and take seconds")


def rounds_of(task: Task, z: Tensor, f: float, sides: tuple[Tensor, Tensor], gap: float, deadline: float) -> Whole:
    """What rounds prove of one signal; z `(1, n0)`, inside the box, f its squared misfit. Limits are of z, not of c."""
    V = axes_of(task.linearize(z)[1][0])
    low, high = _turned(V.mT, *sides)
    level = float(strict_level(torch.tensor(f).to(task.size), task.size))
    found = bounded(task, V, low, high, level, (1 - gap) * f, deadline)
    low, high = _turned(V, found.low, found.high)
    found.low, found.high = torch.maximum(sides[0], low), torch.minimum(sides[1], high)
    found.bound = min(found.bound, f)
    return found


def _turned(V: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of V c `(n0,)` over a box of c."""
    least, most = over_box(V[None], torch.zeros_like(low)[None], low[None], high[None])
    return least[0], most[0]


def forms(generator: Generator, V: Tensor, low: Tensor, high: Tensor) -> tuple[Form, list[int]]:
    """The form of the last layer's pre-activations (or of the signal, behind a kinked output), and undecided units."""
    n0 = len(low)
    form, counts = Form(V, torch.zeros_like(low), torch.zeros_like(low)), list[int]()
    last = len(generator.layers) - 1
    for index, layer in enumerate(generator.layers):
        size = torch.maximum(*(x.abs() for x in form.limits(low, high)))
        columns = torch.cat([form.G.mT, form.g[None]])
        there = layer.W(columns)
        magnitude = layer.W.magnitude()
        e, wide = magnitude(torch.stack([form.e, size]))
        form = Form(there[:n0].mT, there[n0] + layer.b, e + _ROUNDING * (wide + layer.b.abs()))
        phi = layer.activation
        if phi.linear or (index == last and not phi.kinked):
            continue
        s, (lo, hi) = cut_slope(phi, index), form.limits(low, high)
        und = (lo < 0) & (hi > 0)
        counts.append(int(und.sum()))
        a = torch.where(und, (hi - s * lo) / (hi - lo).clamp(min=1e-300), torch.where(lo >= 0, torch.ones_like(lo), s))
        half = torch.where(und, (a - s) * -lo / 2, 0.0)
        form = Form(a[:, None] * form.G, a * form.g + half, a * form.e + half * (1 + 1e-12))
    return form, counts


def _seen(task: Task, form: Form, low: Tensor, high: Tensor, level: float) -> Form:
    """The form of what the misfit squares, J c - q with its remainders."""
    measurement, phi = task.measurement, task.generator.output
    if phi.linear or phi.kinked:
        G, g = measurement.push(form.G[None])[0], measurement.observe(form.g[None])[0]
        return Form(G, g - task.y[0], _magnitude(measurement, form.e))
    limits, fitted = behind_output(task)
    below, above = form.limits(low, high)
    lower, upper = (side[0] for side in limits(torch.tensor([level]).to(form.g)))
    lower, upper = torch.maximum(lower, below), torch.minimum(upper, above)
    owner = torch.zeros(1, dtype=torch.long, device=form.g.device)
    m, c = (x[0] for x in fitted(owner, torch.minimum(lower, upper)[None], torch.maximum(lower, upper)[None]))
    return Form(m[:, None] * form.G, m * form.g - c, m * form.e)


def _magnitude(measurement: AbstractMeasurement, e: Tensor) -> Tensor:
    """|A| e, `(k,)`."""
    if measurement.pixelwise:
        return measurement.observe(e[None])[0]
    A = measurement.push(torch.eye(len(e)).to(e)[None])[0]
    return A.abs() @ e
