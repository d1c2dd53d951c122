"""A round of a node: the relaxation solved, then limits of everything that is undecided, all at once, from one v and
lam."""

from dataclasses import replace

import torch
from torch import Tensor

from .bounding import ROUNDING, Excess, bound_functionals
from .nodes import Nodes
from .relaxation import Relaxation

THETAS = (4.0, 64.0)


def functionals(rel: Relaxation) -> Tensor:
    """F `(N, V, M)`: the latent's coordinates, then of each level the undecided units' pre-activations and outputs."""
    N, V = rel.vl.shape
    eye = torch.eye(V, dtype=rel.q.dtype, device=rel.q.device).expand(N, V, V)
    parts = [eye[:, :, : rel.n0]]
    for x in rel.levels:
        U = x.at.shape[1]
        parts += [torch.nn.functional.pad(x.Pu.mT, (0, 0, 0, V - x.start)), eye[:, :, x.start : x.start + U]]
    return torch.cat(parts, 2)


def contract(rel: Relaxation, found: Excess, thetas: tuple[float, ...] = THETAS) -> Nodes:
    """The nodes with every limit that D, lam and v prove; those with D < 0 as they are."""
    F = functionals(rel)
    sides = [bound_functionals(rel, found, F, theta) for theta in thetas]
    below = torch.stack([low for low, _ in sides]).amax(0)
    above = torch.stack([high for _, high in sides]).amin(0)
    # what is no number proves nothing
    below, above = torch.nan_to_num(below, nan=-torch.inf), torch.nan_to_num(above, nan=torch.inf)
    keep = (found.D >= 0)[:, None]
    below, above = torch.where(keep, below, -torch.inf), torch.where(keep, above, torch.inf)
    return fold(rel, below, above)


def fold(rel: Relaxation, below: Tensor, above: Tensor) -> Nodes:
    """The nodes with limits `(N, M)` of `functionals` intersected."""
    nodes, at = rel.nodes, rel.n0
    low = torch.maximum(nodes.low, below[:, :at])
    high = torch.minimum(nodes.high, above[:, :at])
    los, his = list(nodes.lo), list(nodes.hi)
    for layer, x in enumerate(rel.levels[: rel.layers]):
        U = x.at.shape[1]
        lo, hi = below[:, at : at + U] + x.base, above[:, at : at + U] + x.base
        slip = ROUNDING * (x.base.abs() + x.scale)
        lo, hi = lo - slip, hi + slip
        out_low, out_high = below[:, at + U : at + 2 * U], above[:, at + U : at + 2 * U]
        lo = torch.where((out_low > 0) & (x.s >= 0), torch.maximum(lo, out_low), lo)  # x > 0 only where x = u
        hi = torch.where(out_high > 0, torch.minimum(hi, out_high), hi)  # u <= x
        lo = torch.where((out_high > 0) & (x.s < 0), torch.maximum(lo, out_high / x.s.clamp(max=-1e-300)), lo)  # s u <= x
        lo = torch.where(x.there, lo, -torch.inf)
        hi = torch.where(x.there, hi, torch.inf)
        los[layer] = los[layer].scatter_reduce(1, x.at, lo, "amax")
        his[layer] = his[layer].scatter_reduce(1, x.at, hi, "amin")
        at += 2 * U
    return replace(nodes, low=low, high=high, lo=tuple(los), hi=tuple(his))
