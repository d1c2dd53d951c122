"""`Proof`: what `prove` gives back, and what an inversion keeps of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal, shared
from ..surroundings import undisturbed
from .explain import one_position
from .moments import PROOF_STATUSES, PROVED, History, gap_of
from .proof_files import load_proof_fields, save_proof
from .proof_words import explain_proof, summary_of_proof
from .uncertainty import Uncertainty
from .verify import Verdict


@dataclass(frozen=True, eq=False)
class Proof(Batch):
    """What is proved of S signals: no latent of the box has a misfit below `bound`.

    z, hidden, signal, low and high are on the generator's device, all the rest on the CPU, all in float64.

    z: `(S, n0)`, the best latents of the box that are known, the given ones or better ones (`improved`); NaN of a signal
    that is no number.
    hidden, signal: the generator's layers at z. misfit: `(S,)`, signal units, in the norm of the question; with a Gaussian
    prior (|A G(z) - y|^2 + 2 sigma^2 R(z))^(1/2). bound: `(S,)`, signal units. gap: 1 - bound^2 / misfit^2, `(S,)`, of
    squared misfits; 0 where the misfit is rounding, 1e-11 |y| or less. status: `proved_optimal` (gap <= the one asked for),
    `bounded` (there was no time for more, or a node could not be decided), `numerical_error` (a signal, or a given latent,
    that is no number, or a signal shorter than 1e-120). unique: all latents of the box that are as good as z, the best of
    all among them, lie on one affine piece, on which they are determined; z is within the gap of the best. out_of_range: no
    latent of the box meets the stated noise
    bound. low, high: `(S, n0)`, latent units: between them lies every latent of the box that is as good; inf and -inf where
    there is none. radius: half the longest side of that. undecided: `(S, layers)`, units whose phase is not proved. nodes,
    rounds: `(S,)`, that were looked at. size: |y|, or |y - A b| with the output's bias b where that is more, signal
    units. verdict: `verify`'s of z. uncertainty: of z under gaussian noise, else None. history: how bound and misfit
    moved. box: the latents spoken of, lowest and highest, `(n0,)` each. seconds: of all calls. settings, versions: what
    was asked for, and what ran. stopped: what ended it before it was done, or "".
    """

    z: Tensor = per_signal()
    hidden: tuple[Tensor, ...] = each_per_signal()
    signal: Tensor = per_signal()
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
    verdict: Verdict = per_signal()
    history: History = per_signal()
    box: tuple[Tensor, Tensor] = shared()
    seconds: float = shared()
    settings: dict[str, Any] = shared()
    versions: dict[str, str] = shared()
    stopped: str = shared(default="")
    uncertainty: Uncertainty | None = per_signal(default=None)

    def __len__(self) -> int:
        return len(self.status)

    @property
    def gap(self) -> Tensor:
        """1 - bound^2 / misfit^2, `(S,)`, no unit: 0 where the misfit is 1e-11 |y| or less."""
        return gap_of(self.bound, self.misfit, self.size)

    @property
    def proved(self) -> Tensor:
        """Whether the gap asked for was reached, bool `(S,)`."""
        return torch.from_numpy(self.status == PROVED)

    @property
    def radius(self) -> Tensor:
        """Half the longest side of the box of latents that are as good, `(S,)`, latent units; 0 where there are none."""
        return ((self.high - self.low) / 2).amax(1).clamp(min=0).cpu()

    def save(self, folder: str | Path) -> Path:
        """Write `proof.safetensors` and `proof.json` into `folder`, each whole or not at all; returns the folder.

        Raises OSError.
        """
        return save_proof(self, folder)

    @staticmethod
    def load(folder: str | Path) -> "Proof":
        """Read what `save` wrote, on the CPU. Raises FileNotFoundError, ValueError."""
        return Proof(**load_proof_fields(folder))

    @undisturbed
    def summary(self) -> str:
        """What was proved, in words and numbers: a few lines for a person."""
        return summary_of_proof(self)

    @undisturbed
    def explain(self, i: int = 0) -> str:
        """Signal i in words: what was proved of which latents, what that means, and what to do where it is not enough.

        i counts from the end where negative. Raises IndexError, TypeError for what is no single position.
        """
        return explain_proof(self, one_position(i, len(self)))

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        return {s: int((self.status == s).sum()) for s in PROOF_STATUSES if (self.status == s).any()}

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return (
            f"Proof on {len(self)} signals: {words}; {int(self.unique.sum())} unique, {int(self.improved.sum())} improved; "
            f"median gap {float(self.gap.nanmedian()):.1e}, {self.seconds:.2f} s"
        )
