"""`Proof`: what `prove` gives back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared

PROVED, BOUNDED, NOTHING = "proved_optimal", "bounded", "numerical_error"
PROOF_STATUSES = (PROVED, BOUNDED, NOTHING)


@dataclass(frozen=True)
class Moment:
    """Where a proof stood: seconds since it began, and per signal bound, misfit (signal units) and undecided units,
    lists."""

    seconds: float
    bound: tuple[float, ...]
    misfit: tuple[float, ...]
    undecided: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Proof(Batch):
    """What is proved of S signals: no latent of the box has a misfit below `bound`.

    z: `(S, n0)`, the best latents known, the given ones or better ones (`improved`). misfit: theirs, `(S,)`, signal
    units, in the norm of the question; with a Gaussian prior (|A G(z) - y|^2 + 2 sigma^2 R(z))^(1/2). bound: `(S,)`,
    signal units. gap: 1 - bound^2 / misfit^2, `(S,)`, of squared misfits; 0 where the misfit is rounding, 1e-11 |y| or
    less. status: `proved_optimal` (gap <= the one asked for), `bounded` (there was no time for more, or a node could not
    be decided), `numerical_error` (a signal that is no number). unique: all latents of the box that are as good lie on
    one affine piece, on which they are determined. out_of_range: no latent of the box meets the stated noise bound.
    radius: `(S,)`, latent units: every latent that is as good lies within it of the middle of `low` and `high` `(S, n0)`,
    in each coordinate. undecided: `(S, layers)`, units whose phase is not proved. nodes, rounds: `(S,)`. history: how
    bound and misfit moved. box: the latents spoken of, lowest and highest, `(n0,)` each. seconds: of the whole call.
    settings: what was asked for.
    """

    z: Tensor = per_signal()
    misfit: Tensor = per_signal()
    bound: Tensor = per_signal()
    status: np.ndarray = per_signal()
    unique: Tensor = per_signal()
    out_of_range: Tensor = per_signal()
    improved: Tensor = per_signal()
    low: Tensor = per_signal()
    high: Tensor = per_signal()
    undecided: Tensor = per_signal()
    nodes: Tensor = per_signal()
    rounds: Tensor = per_signal()
    size: Tensor = per_signal()
    box: tuple[Tensor, Tensor] = shared(default=())
    seconds: float = shared(default=0.0)
    history: tuple[Moment, ...] = shared(default=())
    settings: dict[str, Any] = shared(default_factory=dict)

    def __len__(self) -> int:
        return len(self.status)

    @property
    def gap(self) -> Tensor:
        """1 - bound^2 / misfit^2, `(S,)`, no unit: 0 where the misfit is 1e-11 |y| or less."""
        tiny = self.misfit <= 1e-11 * self.size
        share = 1 - (self.bound / self.misfit.clamp(min=1e-300)) ** 2
        return torch.where(tiny, torch.zeros_like(share), share.clamp(min=0))

    @property
    def proved(self) -> Tensor:
        """Whether the gap asked for was reached, bool `(S,)`."""
        return torch.from_numpy(self.status == PROVED)

    @property
    def radius(self) -> Tensor:
        """Half the longest side of the box of latents that are as good, `(S,)`, latent units."""
        return ((self.high - self.low) / 2).amax(1)

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        return {s: int((self.status == s).sum()) for s in PROOF_STATUSES if (self.status == s).any()}

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return (
            f"Proof on {len(self)} signals: {words}; {int(self.unique.sum())} unique, {int(self.improved.sum())} improved; "
            f"median gap {float(self.gap.nanmedian()):.1e}, {self.seconds:.2f} s"
        )
