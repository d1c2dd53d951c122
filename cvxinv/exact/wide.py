"""Affine forms with remainders, pushed through the maps of a generator as they are: what is known where relaxations do not
fit.

    x_l(z) in  G_l c + g_l +- e_l   (entrywise, e_l >= 0)   for every z = V c of the box

A map gives W G, W g + b, |W| e; a unit with limits l < 0 < h, a = (h - s l) / (h - l), gives max(u, s u) in a u + d +- d
with d = (a - s) (-l) / 2, half of what its chord exceeds it by; decided units are as they are. The signal's rows, behind
the measurement and, for an S-shaped output, as lines below the misfit (`opening`), are r(z) in J c - q +- e, so that

    every better latent has |J c - q| <= level^(1/2) + |e|,       every latent of the box a misfit >= (min |J c - q| -
    |e|)_+

The first is an ellipsoid about the least-squares point: with the singular values S_k of J and V its right singular
vectors at the best latent known, |c_k - c*_k| <= rho / S_k, rho^2 = (level^(1/2) + |e|)^2 - min |J c - q|^2. That box
gives smaller remainders, and so on. Costs n0 products with each map a round, memory n0 numbers per unit. Rounding is added
to e and to rho. Limits are those over both boxes that are known, of c and of z.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..generator.chain import Generator
from ..inversion.task import Task
from ..lengths import lengths
from ..measurement.abstract import AbstractMeasurement
from .network import MOST_ENTRIES, cut_slope
from .nodes import Nodes
from .opening import behind_output
from .rounding import ROUNDING, shares

_MOST_UNITS = 4000  # hidden units that matrices are kept of, whatever is asked
_MANY_UNITS = 1500  # above, products with maps cost less: 1 s in place of minutes at 3,315 units, 118 MB

Limits = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Form:
    """G `(m, n0)`, g and e `(m,)`: what is affine in c, its constant, and the remainder."""

    G: Tensor
    g: Tensor
    e: Tensor

    def limits(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest values over a box, `(m,)` each."""
        middle, radius = (low + high) / 2, (high - low) / 2
        value, reach = self.G @ middle + self.g, self.G.abs() @ radius + self.e
        reach = reach + ROUNDING * (self.G.abs() @ middle.abs() + self.g.abs() + reach)
        return value - reach, value + reach


def fits(generator: Generator) -> bool:
    """Whether matrices of the generator's layers fit, so that many nodes are searched at once."""
    sizes = [generator.latent_dim, *(layer.W.m for layer in generator.layers)]
    return max(a * b for a, b in pairwise(sizes)) <= MOST_ENTRIES and sum(sizes[1:-1]) <= _MOST_UNITS


def by_maps(task: Task, log: object) -> bool:
    """Whether a task goes by products with maps: where matrices do not fit, or would cost more than they give."""
    if not fits(task.generator):  # type: ignore[arg-type]
        return True
    norm, units = "l2" if task.noise is None else task.noise.norm, sum(layer.W.m for layer in task.generator.layers[:-1])
    return units > _MANY_UNITS and log is None and not task.weighed and norm in ("l2", "gaussian")


def check_wide(task: Task, log: object) -> None:
    """Raises ValueError for what nothing is proved of without matrices, and for a log, which speaks of them."""
    norm, what = "l2" if task.noise is None else task.noise.norm, f"a generator of more than {_MOST_UNITS} hidden units"
    if task.weighed or norm not in ("l2", "gaussian"):
        prior = " and a prior" if task.weighed else ""
        raise ValueError(f"expected an l2 misfit without a prior for {what}, got {norm}{prior}; of others nothing is proved")
    if log is not None:
        raise ValueError(f"expected log=None for {what}, got {log}; the checker multiplies matrices, which are not kept")


def forms(
    generator: Generator, V: Tensor, low: Tensor, high: Tensor, sides: tuple[Tensor, Tensor] | None = None,
    known: Limits | None = None,
) -> tuple[Form, Limits]:  # fmt: skip
    """The form of the last layer's pre-activations (or of the signal, behind a kinked output), and every kink's limits.

    sides: of z, where the box of c is not all that is known. known: limits of the kinks' units that hold beside the box.
    """
    n0, found = len(low), Limits()
    form = Form(V, torch.zeros_like(low), torch.zeros_like(low))
    most, turned_off = torch.maximum(low.abs(), high.abs()), 4 * ROUNDING * shares(n0)  # of G V', and of c = V'z
    far = most if sides is None else V.mT.abs() @ torch.maximum(*(side.abs() for side in sides))

    def limits() -> tuple[Tensor, Tensor]:
        lo, hi = form.limits(low, high)
        if sides is None:
            return lo, hi
        below, above = replace(form, G=form.G @ V.mT, e=form.e + turned_off * form.G.abs() @ far).limits(*sides)
        return torch.maximum(lo, below), torch.minimum(hi, above)

    last = len(generator.layers) - 1
    for index, layer in enumerate(generator.layers):
        columns = torch.cat([form.G.mT, form.g[None]])
        there = layer.W(columns)
        e, wide = layer.W.magnitude()(torch.stack([form.e, form.G.abs() @ most + form.g.abs() + form.e]))
        form = Form(there[:n0].mT, there[n0] + layer.b, e + 2 * shares(layer.W.n) * ROUNDING * (wide + layer.b.abs()))
        phi = layer.activation
        if phi.linear or (index == last and not phi.kinked):
            continue
        s, (lo, hi) = cut_slope(phi, index), limits()
        if known is not None:
            lo, hi = torch.maximum(lo, known[len(found)][0]), torch.minimum(hi, known[len(found)][1])
        found.append((lo, hi))
        und = (lo < 0) & (hi > 0)
        a = torch.where(und, (hi - s * lo) / (hi - lo).clamp(min=1e-300), torch.where(lo >= 0, torch.ones_like(lo), s))
        half = torch.where(und, (a - s) * -lo / 2, 0.0)
        e = a * form.e + half * (1 + 1e-12) + ROUNDING * (form.G.abs() @ most + form.g.abs())
        form = Form(a[:, None] * form.G, a * form.g + half, e)
    return form, found


def contracted(task: Task, node: Nodes, form: Form, level: float) -> Nodes | None:
    """A node `(1,)` of a task of one signal with the bound and the box that its form proves, None where no latent of it is
    as good; level in squared signal units.
    """
    low, high = node.low[0], node.high[0]
    form = _seen(task, form, low, high, level)
    Q, R = torch.linalg.qr(form.G)
    U, S, Wt = torch.linalg.svd(R)
    keep = S > 1e-10 * S[0]
    t = U.mT @ (Q.mT @ -form.g)
    centre = Wt.mT[:, keep] @ (t[keep] / S[keep])
    rest = float(lengths((form.g + form.G @ centre)[None]))
    size = float(lengths(form.g[None]) + lengths((form.G.abs() @ centre.abs())[None]))
    size *= shares(len(form.g))
    e = float(lengths(form.e[None])) + ROUNDING * size
    rho2 = (level**0.5 + e) ** 2 - max(rest - ROUNDING * size, 0.0) ** 2
    if rho2 < 0:
        return None
    node = replace(node, bound=node.bound.clamp(min=min(max(rest - e, 0.0) ** 2, level)))
    if not bool(keep.all()):
        return node
    # of factors off by a share of |G|, at no latent of the box further away than `away`
    away = float(lengths(torch.maximum(high - centre, centre - low).abs()[None]))
    rho = rho2**0.5 + ROUNDING * size + shares(len(form.g)) * ROUNDING * float(lengths(form.G.flatten()[None])) * away
    reach = rho * lengths(Wt.mT / S) * (1 + 1e-9) + 1e-13 * centre.abs()
    low, high = torch.maximum(low, centre - reach), torch.minimum(high, centre + reach)
    if bool((low > high + 1e-12 * (1 + centre.abs())).any()):
        return None
    return replace(node, low=torch.minimum(low, high)[None], high=torch.maximum(low, high)[None])


def _seen(task: Task, form: Form, low: Tensor, high: Tensor, level: float) -> Form:
    """The form of what the misfit squares, J c - q with its remainders."""
    measurement, phi = task.measurement, task.generator.output
    if phi.linear or phi.kinked:
        G, g, e = measurement.push(form.G[None])[0], measurement.observe(form.g[None])[0], form.e
        most = torch.maximum(low.abs(), high.abs())
        if not measurement.pixelwise:
            e = e + 2 * shares(len(form.g)) * ROUNDING * (form.G.abs() @ most + form.g.abs())
        return Form(G, g - task.y[0], magnitude(measurement, e) + 1e-3 * ROUNDING * (g.abs() + task.y[0].abs()))
    limits, fitted = behind_output(task)
    below, above = form.limits(low, high)
    lower, upper = (side[0] for side in limits(torch.tensor([level]).to(form.g)))
    lower, upper = torch.maximum(lower, below), torch.minimum(upper, above)
    owner = torch.zeros(1, dtype=torch.long, device=form.g.device)
    m, c = (x[0] for x in fitted(owner, torch.minimum(lower, upper)[None], torch.maximum(lower, upper)[None]))
    size = m * (form.G.abs() @ torch.maximum(low.abs(), high.abs()) + form.g.abs()) + c.abs()
    return Form(m[:, None] * form.G, m * form.g - c, m * form.e + ROUNDING * size)


def magnitude(measurement: AbstractMeasurement, e: Tensor) -> Tensor:
    """|A| e, `(k,)`."""
    if measurement.pixelwise:
        return measurement.observe(e[None])[0]
    A = measurement.push(torch.eye(len(e)).to(e)[None])[0]
    return A.abs() @ e
