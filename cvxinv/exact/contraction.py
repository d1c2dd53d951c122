"""A round of a node: the relaxation solved, then limits of everything that is undecided, all at once, from one v and
lam."""

from dataclasses import replace

import torch
from torch import Tensor

from .bounding import Excess, bound_functionals, weighed
from .nodes import Nodes
from .relaxation import Relaxation
from .rounding import ROUNDING

THETAS, THETA = (4.0, 64.0), (32.0,)  # of small relaxations, where they cost little; of others one
BARE: tuple[float, ...] = (1.0,)  # where there are no multipliers to weigh
_WORTH = 0.5  # of what a limit of an output is expected to be away from v's: it is asked for where that would help


def thetas_of(rel: Relaxation) -> tuple[float, ...]:
    """The weights of constraints that a round tries."""
    return THETAS if rel.small else THETA


def contract(rel: Relaxation, found: Excess, thetas: tuple[float, ...] = THETAS) -> Nodes:
    """The nodes with every limit that D, lam and v prove; those with D < 0 as they are.

    Functionals are coordinates of w: all before the last undecided layer's outputs, and of those the ones that seem worth
    it; pre-activations are combinations of them.
    """
    weights = weighed(rel, found, thetas[0])
    at, there = _worth(rel, found, weights[1])
    F = torch.zeros(*rel.vl.shape, at.shape[1], dtype=rel.q.dtype, device=rel.q.device)
    F.scatter_(1, at[:, None], there.to(F)[:, None])
    combined = [x.Pu for x in rel.levels if x.at.shape[1]]
    sides = [bound_functionals(rel, found, F, weights, combined)]
    sides += [bound_functionals(rel, found, F, weighed(rel, found, theta), combined) for theta in thetas[1:]]
    below = torch.stack([low for low, _ in sides]).amax(0)
    above = torch.stack([high for _, high in sides]).amin(0)
    # what is no number proves nothing
    below, above = torch.nan_to_num(below, nan=-torch.inf), torch.nan_to_num(above, nan=torch.inf)
    keep = (found.D >= 0)[:, None]
    below, above = torch.where(keep, below, -torch.inf), torch.where(keep, above, torch.inf)
    return fold(rel, _placed(rel, below, at, there, -torch.inf), _placed(rel, above, at, there, torch.inf))


def _worth(rel: Relaxation, found: Excess, L: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of w that limits are asked of, `(N, B)`, and which are no padding."""
    N = len(rel.vl)
    last = next((x for x in reversed(rel.levels) if x.at.shape[1]), None)
    if last is None:
        at = torch.arange(rel.n0, device=L.device).expand(N, -1)
        return at, torch.ones_like(at, dtype=torch.bool)
    c, U = last.start, last.at.shape[1]
    own = slice(c, c + U)
    eye = torch.eye(U, dtype=L.dtype, device=L.device).expand(N, U, U)
    # (D F'H^-1 F)^(1/2), as the trailing block of H^-1 comes from that of its factor
    inverse = torch.linalg.solve_triangular(L[:, own, own], eye, upper=False)
    spread = _WORTH * (found.D.clamp(min=0)[:, None] * (inverse**2).sum(1)).sqrt()
    v = found.v[:, own]
    good = last.there & ((v + spread < last.above) | (v - spread > 0) | (last.s < 0))
    base = torch.arange(c, device=L.device).expand(N, -1)
    order = torch.sort((~good).to(torch.int8), dim=1, stable=True).indices[:, : int(good.sum(1).max())]
    return torch.cat([base, order + c], 1), torch.cat([torch.ones_like(base, dtype=torch.bool), good.gather(1, order)], 1)


def _placed(rel: Relaxation, side: Tensor, at: Tensor, there: Tensor, end: float) -> Tensor:
    """Limits of `contract`'s functionals in the order of `fold`'s, `end` where none is known."""
    k = at.shape[1]
    own, found = torch.full_like(rel.vl, end), torch.where(there, side[:, :k], end)
    own = own.scatter_reduce(1, at, found, "amax" if end < 0 else "amin")
    parts = [own[:, : rel.n0]]
    for x in rel.levels:
        U = x.at.shape[1]
        parts += [side[:, k : k + U], own[:, x.start : x.start + U]]
        k += U
    return torch.cat(parts, 1)


def fold(rel: Relaxation, below: Tensor, above: Tensor) -> Nodes:
    """The nodes with limits `(N, M)` intersected: of the latent, then of each level's pre-activations and outputs."""
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
