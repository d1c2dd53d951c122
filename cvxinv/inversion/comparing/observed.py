"""What methods are compared on: a user's signals or a generator's own, and how they were seen.

Own signals are x = G(z) with z of the latents' distribution, so that z is known. Behind `measurements=m` stands one matrix
A `(m, d)` with entries N(0, 1/m), drawn from the seed, and y = A x. Noise is added to own signals only: gaussian of that
sigma, an l2 bound as a vector of that length in a random direction, a linf bound as entries uniform in it, an l1 bound as
gaussian errors of that length in about 5 % of the entries, at least one.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ...lengths import lengths
from ...measurement.abstract import AbstractMeasurement
from ...measurement.given import as_measurement
from ..options import positive
from ..task import Noise, as_noise, make_task, read_task

SAMPLES = 20  # own signals where nobody says how many
_FEW = 0.05  # share of the entries that l1 noise changes
_MATRIX, _NOISE = 0x2545F4914F6CDD1D, 0x3C6EF372FE94F82B  # streams of their own beside the seed's latents and starts


@dataclass(frozen=True, eq=False)
class Observed:
    """Signals as methods get them. y: `(N, k)` or in the signal's shape. truth: true latents `(N, n0)`; whole: whole signals
    `(N, d)`; None where they are not known. words: where they come from, for the settings of the comparison.
    """

    y: Any
    measurement: object = None
    truth: Any = None
    whole: Tensor | None = None
    words: dict[str, Any] | None = None

    @property
    def told(self) -> dict[str, Any]:
        """`words`, of signals that a user gave where nothing else is said."""
        return {"signals from": "given"} if self.words is None else self.words


def own_signals(generator: AbstractGenerator, count: int, seed: int) -> Observed:
    """Signals of the generator with their latents, seen whole and without noise."""
    z = generator.sample_latent(positive(count, "samples"), torch.Generator().manual_seed(seed))
    x = generator(z)
    return Observed(x, None, z, x, {"signals from": "the generator's own"})


def compressed(signals: Observed, generator: AbstractGenerator, m: int, seed: int) -> Observed:
    """Whole signals seen as y = A x by a matrix A `(m, d)` that is drawn. Raises ValueError for m < 1."""
    task = make_task(generator, signals.y)
    x = torch.where(task.usable[:, None], task.y, torch.nan)
    source = torch.Generator().manual_seed(seed ^ _MATRIX)
    A = torch.randn(positive(m, "measurements"), x.shape[1], generator=source, dtype=torch.float64) / m**0.5
    A = A.to(x)
    words = signals.told | {"matrix": f"gaussian, {m} measurements"}
    return Observed((x @ A.T).to(task.born), A, signals.truth, x, words)


def as_seen(signals: Observed, generator: AbstractGenerator, measurement: object, noise: object, seed: int) -> Observed:
    """Own signals, or what a matrix made of them, as they are seen: measured, hidden entries NaN, noise added."""
    if measurement is None:
        y, seen = signals.y, torch.ones_like(signals.y, dtype=torch.bool)
    else:
        N = len(signals.y)
        seeing = as_measurement(measurement, generator.signal_dim, N, generator.device, generator.dtype)
        seeing = seeing.to(generator.dtype, generator.device)
        seen = seeing.seen(N).to(signals.y.device)
        y = torch.where(seen, seeing.observe(signals.y), torch.nan)
        signals = replace(signals, measurement=measurement)
    stated = as_noise(noise, y)
    if stated is None or stated.estimated:
        return replace(signals, y=y)
    words = signals.told | {"noise added": stated.norm}
    return replace(signals, y=y + _drawn(stated, seen, y, seed), words=words)


def _drawn(noise: Noise, seen: Tensor, y: Tensor, seed: int) -> Tensor:
    """Noise as it is stated, `(N, k)`, 0 where nothing was seen."""
    source = torch.Generator().manual_seed(seed ^ _NOISE)
    draw = torch.rand(y.shape, generator=source, dtype=torch.float64)
    if noise.norm == "linf":
        return noise.bound[:, None] * torch.where(seen, (2 * draw - 1).to(y), 0)
    e = torch.where(seen, torch.randn(y.shape, generator=source, dtype=torch.float64).to(y), 0)
    if noise.norm == "l2":
        e = e / lengths(e, keepdim=True)
    if noise.norm == "l1":
        draw = torch.where(seen, draw.to(y), 2)
        most = torch.where(seen, draw <= draw.amin(1, keepdim=True).clamp(min=_FEW), False)
        e = torch.where(most, e, 0)
        e = e / e.abs().sum(1, keepdim=True)
    return noise.bound[:, None] * e


def with_whole(signals: Observed, generator: AbstractGenerator, whole: object) -> Observed:
    """The same, with whole signals `(N, d)` in float64: those that are given, or those of the true latents.

    Raises TypeError or ValueError for signals that are none of the generator's shape.
    """
    exact = generator.to(torch.float64)
    if whole is not None:
        task = read_task(generator, whole)  # type: ignore[arg-type]
        return replace(signals, whole=torch.where(task.usable[:, None], task.y, torch.nan).double())
    if signals.whole is None and signals.truth is not None:
        return replace(signals, whole=exact(signals.truth.double()))
    return signals if signals.whole is None else replace(signals, whole=signals.whole.double())


def unseen_error(found: Tensor, whole: Tensor | None, seeing: AbstractMeasurement) -> Tensor | None:
    """|x - x'| / |x| over the entries that were not seen, `(N,)`: those that a mask hides, behind a matrix all of them.

    found: x' `(N, d)`. None where all was seen, or the whole signals are not known; NaN for a signal of which all was seen.
    """
    if whole is None:
        return None
    hidden = torch.ones_like(whole, dtype=torch.bool)
    if seeing.pixelwise:
        hidden = ~seeing.seen(len(whole)).to(whole.device)
        if not bool(hidden.any()):
            return None
    part, off = torch.where(hidden, whole, 0), torch.where(hidden, found.to(whole) - whole, 0)
    size = lengths(part)
    return torch.where(size > 0, lengths(off) / size, torch.nan).cpu()
