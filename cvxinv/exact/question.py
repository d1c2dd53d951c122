"""Which latent of a box explains one signal best: the question that `prove` answers, as plain matrices for other judges.

    minimise |A (W x_H + b) - y|   over   low <= z <= high,   x_0 = z,   u_l = W_l x_{l-1} + b_l,   x_l = max(u_l, s_l u_l)

with the rows that were seen and nothing else, and with limits lo_l <= u_l <= hi_l that every latent of the box keeps.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from ..inputs import plain_number
from ..inversion.task import make_task
from .asking import box_sides
from .network import Network, as_network
from .nodes import Nodes, Targets, through_box

NORMS = ("l2", "linf", "l1")


@dataclass(frozen=True, eq=False)
class Question:
    """One signal's question, float64 on the CPU.

    network: gives A G(z) on the k seen rows, without last units that no seen row reads. y: `(k,)`, signal units. low,
    high: `(n0,)`. lo, hi: limits of the hidden layers' u over the box, `(n_l,)` each.
    """

    network: Network
    y: Tensor
    low: Tensor
    high: Tensor
    lo: tuple[Tensor, ...]
    hi: tuple[Tensor, ...]

    def misfit(self, z: Tensor | np.ndarray, norm: str) -> float:
        """|A G(z) - y| of a latent `(n0,)`, signal units."""
        r = self.network(torch.as_tensor(z, dtype=torch.float64)[None])[0] - self.y
        return float({"l2": r.norm(), "linf": r.abs().amax(), "l1": r.abs().sum()}[check_norm(norm)])

    @property
    def undecided(self) -> int:
        """How many units may be on or off in the box: the binary unknowns of a mixed-integer program."""
        return sum(int(((lo < 0) & (hi > 0)).sum()) for lo, hi in zip(self.lo, self.hi, strict=True))


def check_norm(norm: str) -> str:
    """The norm, if it is known. Raises ValueError."""
    if norm not in NORMS:
        raise ValueError(f"expected norm as one of {', '.join(NORMS)}, got {norm!r}")
    return norm


def read_eps(eps: object) -> float:
    """A noise bound, signal units. Raises ValueError."""
    eps = plain_number(eps)
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 <= eps < inf:
        raise ValueError(f"expected eps as a number >= 0 in the signal's units, got {eps!r}")
    return float(eps)


def ask(generator: AbstractGenerator, y: Tensor | np.ndarray, *, measurement: object = None, box: object = None) -> Question:
    """The question of one signal; y, measurement and box as in `prove`, y `(k,)` or `(1, k)`.

    Raises TypeError for a generator that is no chain of lines with one kink at 0 or a measurement that is not linear,
    ValueError for what does not fit.
    """
    if not isinstance(generator, Generator):
        raise TypeError(
            f"expected a Generator, a chain of layers, got {type(generator).__name__}; others read no weights of it"
        )
    last = generator.layers[-1].activation
    if not (last.linear or last.kinked):
        raise TypeError(
            f"expected an output of ReLU, LeakyReLU or no activation, got {last!r}, which is no line between kinks; "
            "ask about the output before it, with y before it"
        )
    task = make_task(generator, y, measurement).to(torch.float64)
    if task.N != 1 or not bool(task.usable[0]):
        raise ValueError(f"expected one signal of finite numbers, got {task.N}; pass y of shape ({task.y.shape[1]},), y[i]")
    if not task.measurement.linear:
        raise TypeError(f"expected a linear measurement, got {task.measurement.name}, whose rows depend on the signal")
    low, high = (side.cpu() for side in box_sides(box, task, generator.latent_dim))
    full, seen = as_network(task.generator), task.measurement.seen(1)[0].cpu()  # type: ignore[arg-type]
    rows, offset = task.measurement.push(full.last[None])[0].cpu(), task.measurement.observe(full.offset[None])[0].cpu()
    W, b, s = (tuple(part.cpu() for part in parts) for parts in (full.W, full.b, full.s))
    network = _read_only(Network(W, b, s, rows[seen], offset[seen]))
    return Question(network, task.y[0].cpu()[seen], low, high, *_limits(network, low, high))


def _read_only(network: Network) -> Network:
    """The same without units of the last hidden layer that nothing reads: pixels of a kinked output that were not seen."""
    if not network.W:
        return network
    read = (network.last != 0).any(0)
    read[0] |= not bool(read.any())  # a layer of no units is none
    W, b, s = ((*parts[:-1], parts[-1][read]) for parts in (network.W, network.b, network.s))
    return Network(W, b, s, network.last[:, read], network.offset)


def _limits(network: Network, low: Tensor, high: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """lo, hi of every hidden layer over the box, widened for rounding (`through_box`)."""
    n0, none, zero = network.latent_dim, torch.zeros(1, 0), torch.zeros(1, dtype=torch.float64)
    eye = torch.eye(n0, dtype=torch.float64)
    first = network.W[0] if network.W else eye
    targets = Targets(none[:, None], none, zero, none[:, None], none, first[None], eye[None], zero, none)
    free = tuple(torch.full((1, width), torch.inf, dtype=torch.float64) for width in network.widths)
    index = torch.zeros(1, dtype=torch.long)
    node = Nodes(index, tuple(-x for x in free), free, low[None], high[None], zero, index)
    node = through_box(network, targets, node)
    return tuple(lo[0] for lo in node.lo), tuple(hi[0] for hi in node.hi)
