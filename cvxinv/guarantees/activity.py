"""What the hidden units of a generator do at random latents: how many are positive, which never are, what those carry.

A unit that is never positive is constant behind a ReLU. Behind a LeakyReLU it is a u there, which is linear and varies. What
it carries is measured: with h_j replaced by its mean over the latents G becomes G_j, and its share is the sum of |G - G_j|^2
over that of |G - mean G|^2. It is 0 where h_j does not vary or nothing behind reads it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..generator.abstract import AbstractGenerator
from ..generator.chain import Layer

BATCH_NUMBERS = 20_000_000  # numbers in the hidden layers of one batch of latents, or in its Jacobians
COSTLY = 2_000_000_000  # multiplications beyond which float32, several times as fast, is asked first: about a second
_FROZEN = 100  # latents that shares are measured over
_TRIED = 16  # latents that float32 is tried at
_SAME = 1e-5  # share of the entries that it may count otherwise there
_PROBES = 32  # random vectors that tell how much reads a unit


@dataclass(frozen=True, eq=False)
class Activity:
    """One hidden layer at random latents.

    counts: positive entries per latent `(samples,)`. never, always: units that no latent made positive, and that every one
    did, bool `(m,)`. share: of the output's variation that those never positive carry together; alone: that of the one of
    them that carries most; most: its number.
    """

    counts: Tensor
    never: Tensor
    always: Tensor
    share: float
    alone: float
    most: int | None


def activity(G: AbstractGenerator, z: Tensor, bar: tqdm) -> list[Activity]:
    """The activity of every hidden layer of a float64 generator at latents `z` `(samples, n0)`, first to last.

    Units are counted in float32 where that saves much time; an entry is counted otherwise only within its rounding of 0.
    """
    counts, positive, always = _counted(G, z, bar)
    never = [~p for p in positive]
    leaky = [k for k, layer in enumerate(G.layers[:-1]) if layer.activation.leaks and bool(never[k].any())]
    few = z[:_FROZEN]
    x, hidden = (G(few), G.hidden(few)) if leaky else (None, [])
    shares = [_carried(G, k, never[k], hidden[k], x) if k in leaky else (0.0, 0.0, None) for k in range(len(never))]
    whole = zip(counts, never, always, shares, strict=True)
    return [Activity(count, off, on, *share) for count, off, on, share in whole]


def batches(z: Tensor, each: int) -> Iterator[Tensor]:
    """`z` in parts of so many that `each` numbers per latent fit a batch."""
    yield from z.split(max(1, BATCH_NUMBERS // max(1, each)))


def _counted(G: AbstractGenerator, z: Tensor, bar: tqdm) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Positive entries of every hidden layer per latent, `(samples,)` each; which units were ever, and always, positive."""
    counts: list[list[Tensor]] = [[] for _ in G.layers[:-1]]
    active = [torch.zeros(layer.W.m, dtype=torch.bool, device=z.device) for layer in G.layers[:-1]]
    steady = [~units for units in active]
    quick = G.work * len(z) > COSTLY and _same_in_float32(G, z[:_TRIED])
    for block in batches(z, sum(layer.W.m for layer in G.layers)):
        for k, h in enumerate(_in_float32(G, block) if quick else G.hidden(block)):
            counts[k].append((h > 0).sum(1, dtype=torch.int32))
            active[k] |= h.amax(0) > 0
            steady[k] &= h.amin(0) > 0
        bar.update(len(block))
    return [torch.cat(c).double() for c in counts], active, steady


def _in_float32(G: AbstractGenerator, z: Tensor) -> Iterator[Tensor]:
    """The hidden layers, one after the other."""
    h = z.float()
    for layer in G.layers[:-1]:
        h = layer.activation(layer.W.single(h) + layer.b.float())
        yield h


def _same_in_float32(G: AbstractGenerator, z: Tensor) -> bool:
    """Whether the same units are positive in float32, as they are unless weights are out of its range."""
    pairs = zip(G.hidden(z), _in_float32(G, z), strict=True)
    return all(float(((a > 0) != (b > 0)).double().mean()) <= _SAME and bool(b.isfinite().all()) for a, b in pairs)


def _carried(
    G: AbstractGenerator, index: int, never: Tensor, h: Tensor, x: Tensor | None
) -> tuple[float, float, int | None]:
    """Shares of the output's variation: of the units of a hidden layer in `never`, of the one that carries most, and which.

    h: the hidden layer, x: the signals, of the same latents.
    """
    assert x is not None
    after, mean = G.layers[index + 1].W, h.mean(0)
    probes = torch.randn(_PROBES, after.m, generator=torch.Generator().manual_seed(0), dtype=h.dtype, device="cpu")
    read = after.adjoint(probes.to(h.device)).square().mean(0)  # about the square of each column's length; 0 where it is 0
    varies, spread = (x - x.mean(0)).square().sum(), torch.where(never, h.var(0, unbiased=False) * read, 0.0)
    if not bool((spread > 0).any()) or not bool(varies > 0):
        return 0.0, 0.0, None
    most = int(spread.argmax())
    alone = torch.arange(len(never), device=never.device) == most
    moved = [_onwards(G.layers[index + 1 :], torch.where(frozen, mean, h)) for frozen in (never, alone)]
    together, one = (float((x - other).square().sum() / varies) for other in moved)
    return together, one, most


def _onwards(layers: tuple[Layer, ...], h: Tensor) -> Tensor:
    for layer in layers:
        h = layer.activation(layer.W(h) + layer.b)
    return h
