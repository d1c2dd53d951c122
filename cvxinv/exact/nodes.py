"""A node of a proof: a box of the latent and limits of every unit that hold for every better latent in it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal, shared
from .network import Network

_SHARE = 1e-12  # of what is added up: the rounding of bounds that go through several layers


@dataclass(frozen=True, eq=False)
class Targets(Batch):
    """What the signals ask, one entry per signal.

    R: `(S, k, n_H)`, t: `(S, k)`, e: `(S,)` with |A (W x + b) - y|^2 = |R x - t|^2 + e for every x. Z: `(S, r, n0)`, m:
    `(S, r)`: rows |Z c - m|^2 that a prior adds. first: W_1 V `(S, n_1, n0)`. V: `(S, n0, n0)`, z = V c.
    size: `(S,)`, |y|, signal units. reaching: `(S, sum n_l)`, how far a unit's output moves the misfit (mean over phases).
    A: `(S, k, n_H)`, a: `(S, k)`, where the signal's rows u = A x + a are spoken of themselves: each as one more layer
    |u| (`folded`), whose sum R then takes, or between limits that follow from the level.
    Q: `(S, k, r)`, left: `(S, k)`: Q (R x - t) - left is the residual of the signal's rows, |left|^2 about e; None where
    R's are rows of the signal or their sum.
    columns: `(S, n_H)`, rest: `(S,)`: R x - t, and what it stands for, are off by `ROUNDING` of columns'|x| + rest at most,
    in length. A_size: `(S, k, n_H)`, a_size: `(S, k)`: the same of the signal's rows, each of A_size |x| + a_size.
    """

    R: Tensor = per_signal()
    t: Tensor = per_signal()
    e: Tensor = per_signal()
    Z: Tensor = per_signal()
    m: Tensor = per_signal()
    first: Tensor = per_signal()
    V: Tensor = per_signal()
    size: Tensor = per_signal()
    reaching: Tensor = per_signal()
    A: Tensor | None = per_signal(default=None)
    a: Tensor | None = per_signal(default=None)
    folded: bool = shared(default=False)
    columns: Tensor | None = per_signal(default=None)
    rest: Tensor | None = per_signal(default=None)
    Q: Tensor | None = per_signal(default=None)
    left: Tensor | None = per_signal(default=None)
    A_size: Tensor | None = per_signal(default=None)
    a_size: Tensor | None = per_signal(default=None)

    def layers(self, network: Network) -> int:
        """Layers with limits of their own: the hidden ones, and the signal's rows where they are folded."""
        return len(network.W) + self.folded

    def layer(self, network: Network, index: int, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weight `(n, m)` or `(N, n, m)`, bias and slope where cut, of a layer behind the first."""
        if index < len(network.W):
            return network.W[index], network.b[index], network.s[index]
        assert self.A is not None and self.a is not None
        return self.A[owner], self.a[owner], -torch.ones_like(self.a[0])

    def sizes(self, network: Network, index: int, owner: Tensor) -> tuple[Tensor, Tensor]:
        """M and c of a layer, of the signal's rows behind the last: `ROUNDING` of M |x| + c is how far it may be off."""
        if index < len(network.W):
            return network.sizes[index]
        assert self.A_size is not None and self.a_size is not None
        return self.A_size[owner], self.a_size[owner]


@dataclass(frozen=True, eq=False)
class Nodes(Batch):
    """N nodes: lo <= u_l <= hi `(N, n_l)` for every hidden layer and low <= c <= high `(N, n0)`, for every better latent.

    owner: whose signal, `(N,)`. bound: no latent in it has a squared misfit below, `(N,)`. number: its own, `(N,)`.
    """

    owner: Tensor = per_signal()
    lo: tuple[Tensor, ...] = each_per_signal()
    hi: tuple[Tensor, ...] = each_per_signal()
    low: Tensor = per_signal()
    high: Tensor = per_signal()
    bound: Tensor = per_signal()
    number: Tensor = per_signal()

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def undecided(self) -> Tensor:
        """How many units are undecided, `(N,)`."""
        count = torch.zeros(len(self), dtype=torch.long, device=self.low.device)
        for lo, hi in zip(self.lo, self.hi, strict=True):
            count += ((lo < 0) & (hi > 0)).sum(1)
        return count

    @property
    def room(self) -> Tensor:
        """Sum of -l h / (h - l) over undecided units, `(N,)`: what a relaxation errs by."""
        total = torch.zeros_like(self.bound)
        for lo, hi in zip(self.lo, self.hi, strict=True):
            l, h = lo.clamp(max=0), hi.clamp(min=0)
            total += torch.where((lo < 0) & (hi > 0), -l * h / (h - l), torch.zeros_like(l)).sum(1)
        return total

    @property
    def empty(self) -> Tensor:
        """Whether limits contradict each other by more than rounding, so that no better latent is in it, `(N,)`."""
        gaps = [(self.low - self.high) - 1e-9 * (1 + self.low.abs() + self.high.abs())]
        gaps += [(lo - hi) - 1e-9 * (1 + lo.abs() + hi.abs()) for lo, hi in zip(self.lo, self.hi, strict=True)]
        return torch.stack([(gap > 0).any(1) for gap in gaps]).any(0)


def through_box(network: Network, targets: Targets, nodes: Nodes) -> Nodes:
    """Limits of all units over the box, by backward linear bounds, intersected with what the node has.

    For a functional k'x of layer l's outputs: where k_j >= 0 (from below) x_j >= d_j u_j with d_j = 1 where h > -l, else
    s_j (any d in [s, 1] is valid), where k_j < 0 x_j <= a_j (u_j - l_j) + s_j l_j; decided units as they are; so down to
    the box. Any such bound holds for every latent of the node. Widened by 1e-12 of the absolute values added up, in the
    layers themselves too.
    """
    first = targets.first[nodes.owner]  # (N, n_1, n0)
    sizes = [first_size(network, targets, nodes)]
    for layer in range(targets.layers(network)):
        N, owner = len(nodes), nodes.owner
        if layer == 0:
            low, high = over_box(first, network.b[0].expand(N, -1), nodes.low, nodes.high)
            low, high = low - _SHARE * sizes[0], high + _SHARE * sizes[0]
        else:
            W, b, _ = targets.layer(network, layer, owner)
            W, b = W.expand(N, -1, -1), b.expand(N, -1)
            sizes.append(layer_size(network, targets, nodes, layer))
            below = _backward(network, first, nodes, sizes, W, b)
            above = _backward(network, first, nodes, sizes, -W, -b)
            low, high = below, -above
        lo = tuple(torch.maximum(x, low) if k == layer else x for k, x in enumerate(nodes.lo))
        hi = tuple(torch.minimum(x, high) if k == layer else x for k, x in enumerate(nodes.hi))
        nodes = replace(nodes, lo=lo, hi=hi)
    return nodes


def rows_through_box(network: Network, targets: Targets, nodes: Nodes) -> tuple[Tensor, Tensor]:
    """Limits of the signal's rows u = A x + a over the box, `(N, k)` each."""
    assert targets.A is not None and targets.a is not None
    A, a, first = targets.A[nodes.owner], targets.a[nodes.owner], targets.first[nodes.owner]
    sizes = [first_size(network, targets, nodes)]
    sizes += [layer_size(network, targets, nodes, layer) for layer in range(1, len(network.W) + 1)]
    return _backward(network, first, nodes, sizes, A, a), -_backward(network, first, nodes, sizes, -A, -a)


def first_size(network: Network, targets: Targets, nodes: Nodes) -> Tensor:
    """What is added up in the first layer's units, `(N, n_1)`."""
    M, c = network.sizes[0]
    most = torch.maximum(nodes.low.abs(), nodes.high.abs())
    return (targets.V[nodes.owner].abs() @ most[..., None])[..., 0] @ M.T + c


def layer_size(network: Network, targets: Targets, nodes: Nodes, layer: int) -> Tensor:
    """What is added up in the units of a layer behind the first, `(N, n)`, of outputs before it as large as they may be."""
    M, c = targets.sizes(network, layer, nodes.owner)
    return (M @ torch.maximum(nodes.lo[layer - 1].abs(), nodes.hi[layer - 1].abs())[..., None])[..., 0] + c


def over_box(F: Tensor, c: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of F z + c `(N, K)` over boxes, a hair wider; F `(N, K, n0)`, c `(N, K)`, low and high `(N, n0)`."""
    middle, radius = (low + high) / 2, (high - low) / 2
    size = F.abs()
    value, reach = (F @ middle[..., None])[..., 0] + c, (size @ radius[..., None])[..., 0]
    slack = _SHARE * (c.abs() + (size @ (middle.abs() + radius)[..., None])[..., 0])
    return value - reach - slack, value + reach + slack


def _backward(network: Network, first: Tensor, nodes: Nodes, sizes: list[Tensor], k: Tensor, c: Tensor) -> Tensor:
    """Lower limits of k'x + c `(N, K)`, rows of a layer; sizes: what is added up in the units of the layers before it, of
    the last ones x is the output, and in those rows themselves; k `(N, K, n)`."""
    *before, own = sizes
    rounding = own + c.abs()
    for level in range(len(before) - 1, -1, -1):
        lo, hi, s = nodes.lo[level], nodes.hi[level], network.s[level]
        l, h = lo.clamp(max=0), hi.clamp(min=0)
        und = (lo < 0) & (hi > 0)
        a = torch.where(und, (h - s * l) / (h - l).clamp(min=1e-300), torch.where(lo >= 0, 1.0, s))
        d = torch.where(und, torch.where(h > -l, 1.0, s), a)
        up = torch.where(und, (s - a) * l, torch.zeros_like(l))  # x <= a u + up
        size = sizes[level] + torch.maximum(lo.abs(), hi.abs())
        rounding = rounding + (k.abs() @ size[..., None])[..., 0]
        c = c + (k.clamp(max=0) @ up[..., None])[..., 0]
        k = k.clamp(min=0) * d[:, None] + k.clamp(max=0) * a[:, None]
        c = c + k @ network.b[level]
        rounding = rounding + k.abs() @ network.b[level].abs()
        k = k @ (first if level == 0 else network.W[level])
    low, _ = over_box(k, c, nodes.low, nodes.high)
    return low - _SHARE * rounding
