"""What noise leaves open: the hidden units whose phase is in doubt, layer by layer, at several levels of noise.

Two counts. *Near*: noise e moves the least-squares latent on the piece of z by J^+ e, and pre-activation u_i by g_i'J^+ e,
g_i its gradient. Unit i is in doubt where some noise of length eps |y| switches it, to first order and by itself,

    |u_i - kink| <= |g_i'J^+| eps |y|,      or g_i'N != 0 for a null space N of J: nothing in the signal says what u_i is

That is suggested by the piece. *Left*: noise of length eps |y| in a random direction is added to G(z), and the proof engine
is asked for the latents that fit best: units whose phase is not proved to be the same in all of them. Behind a curved output
that noise is added before it, as the engine hardly decides a phase behind one.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ..exact.prove import proved_within
from ..generator.chain import Generator
from ..lengths import lengths
from .local import RANK, walk

LEVELS = (0.0, 1e-4, 1e-3, 1e-2)
_ROUNDING = 1e-13  # of |u| and |g_i'J^+| |y|


@dataclass(frozen=True, eq=False)
class NoisePhases:
    """Mean shares of units in doubt over some latents, `(levels, kinked layers)` each, 0 to 1.

    levels: lengths of the noise over |y|. layers: index and units of each layer with kinks, the output's too. near:
    suggested by the piece of each of `latents`. left: by the engine for `asked` of them; NaN where it was not asked, or time
    was up.
    """

    levels: tuple[float, ...]
    layers: tuple[tuple[int, int], ...]
    near: Tensor
    left: Tensor
    latents: int
    asked: int


def noise_phases(
    generator: Generator, z: Tensor, levels: tuple[float, ...], asked: int, time_limit: float, seed: int
) -> NoisePhases:
    """Both counts for latents `(N, n0)` in float64; asked: of how many of them the engine is, 0 for none.

    time_limit: seconds of the engine, which goes from the lowest level up and leaves the others out when they are over.
    """
    layers, near = kinked_layers(generator), near_phases(generator, z, levels)
    left = torch.full_like(near, torch.nan)
    if layers and asked and time_limit > 0:
        _ask(generator, z[:asked], sorted(range(len(levels)), key=levels.__getitem__), levels, left, time_limit, seed)
    return NoisePhases(levels, layers, near, left, len(z), asked)


def _ask(
    generator: Generator, z: Tensor, order: list[int], levels: tuple[float, ...], left: Tensor, time_limit: float, seed: int
) -> None:
    """Write what the engine leaves open into `left`, level by level."""
    phi = generator.output
    G = generator if phi.linear or phi.kinked else generator.with_output("identity")
    units = torch.tensor([m for _, m in kinked_layers(G)], dtype=torch.float64)
    y = G(z)
    e = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y)
    e = e * (lengths(y) / lengths(e))[:, None]
    began, box = time.perf_counter(), max(3 * G.latent_dim**0.5, 1.01 * float(z.abs().max()))
    for row in order:
        rest = time_limit - (time.perf_counter() - began)
        if rest <= 0:
            break
        proof = proved_within(G, y + levels[row] * e, z, box=box, time_limit=rest)
        if units.numel():
            left[row, : len(units)] = (proof.undecided.double() / units).mean(0).to(left)


def kinked_layers(generator: Generator) -> tuple[tuple[int, int], ...]:
    """Index and units of each layer with kinks."""
    return tuple((k, layer.W.m) for k, layer in enumerate(generator.layers) if layer.activation.kinked)


def near_phases(generator: Generator, z: Tensor, levels: tuple[float, ...]) -> Tensor:
    """`near` of `NoisePhases` for latents `(N, n0)`, float64; one latent at a time, as gradients of all units are held."""
    found = [_near(generator, one[None], levels) for one in z]
    return torch.stack(found).mean(0)


def _near(generator: Generator, z: Tensor, levels: tuple[float, ...]) -> Tensor:
    """`(levels, kinked layers)` of one latent."""
    kept, J, y = list[tuple[Tensor, Tensor, tuple[float, ...]]](), None, None
    for layer, (u, g, after) in zip(generator.layers, walk(generator, z), strict=True):
        phi = layer.activation
        if phi.kinked:
            kept.append((u[0], g[0], (phi.pieces or ((), ()))[0]))
        J, y = after[0], phi(u)
    if not kept:
        return torch.zeros(len(levels), 0)
    assert J is not None and y is not None
    size = float(lengths(y))
    reach = _pseudo_inverse_rows(J)
    out = torch.zeros(len(levels), len(kept))
    for k, (u, g, kinks) in enumerate(kept):
        moved = lengths(g @ reach[0]) * size
        loose = lengths(g @ reach[1]) > RANK * lengths(g)  # what moves along the null space
        for row, level in enumerate(levels):
            doubt = loose.clone()
            for kink in kinks:
                doubt |= (u - kink).abs() <= level * moved + _ROUNDING * ((u - kink).abs().mean() + 1e-300)
            out[row, k] = float(doubt.double().mean())
    return out


def _pseudo_inverse_rows(J: Tensor) -> tuple[Tensor, Tensor]:
    """V S^-1 `(n0, r)` and an orthonormal null space `(n0, n0 - r)` of J `(d, n0)`: |g'J^+| = |g'V S^-1|."""
    n0 = J.shape[1]
    square = torch.linalg.qr(J, "r").R if len(J) > n0 else torch.nn.functional.pad(J, (0, 0, 0, n0 - len(J)))
    _, S, Vt = torch.linalg.svd(square)
    keep = S > RANK * S[0]
    return Vt[keep].mT / S[keep], Vt[~keep].mT
