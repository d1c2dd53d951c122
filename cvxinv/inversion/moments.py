"""How a proof goes: where it stands at a moment, and at all that were recorded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared

PROVED, BOUNDED, NOTHING = "proved_optimal", "bounded", "numerical_error"
PROOF_STATUSES = (PROVED, BOUNDED, NOTHING)
AT_THE_LIMIT, AT_A_CALL, INTERRUPTED = "the time limit", "the callback", "an interrupt"
TINY = 1e-11  # misfits up to this share of |y| are rounding


def gap_of(bound: Tensor, misfit: Tensor, size: Tensor) -> Tensor:
    """1 - bound^2 / misfit^2, no unit: 0 where the misfit is rounding; size: |y|; all in signal units."""
    share = 1 - (bound / misfit.clamp(min=1e-300)) ** 2
    return torch.where(misfit <= TINY * size, torch.zeros_like(share), share.clamp(min=0))


@dataclass(frozen=True, eq=False)
class Moment:
    """Where a proof stands, on the CPU.

    seconds: since it began. Per signal, `(S,)`: bound and misfit, signal units; gap, no unit; proved, bool; undecided,
    units of the node that has most; open, nodes that are neither excluded nor kept.
    """

    seconds: float
    bound: Tensor
    misfit: Tensor
    gap: Tensor
    proved: Tensor
    undecided: Tensor
    open: Tensor

    def __str__(self) -> str:
        return (
            f"{int(self.proved.sum())} of {len(self.proved)} signals proved, median gap {float(self.gap.nanmedian()):.1e}, "
            f"{int(self.open.sum())} open nodes, {self.seconds:.1f} s"
        )


@dataclass(frozen=True, eq=False)
class History(Batch):
    """How a proof went, at T moments: seconds `(T,)` since it began; per signal, `(S, T)`, what a `Moment` holds."""

    seconds: Tensor = shared()
    bound: Tensor = per_signal()
    misfit: Tensor = per_signal()
    undecided: Tensor = per_signal()
    open: Tensor = per_signal()

    @classmethod
    def of(cls, moments: list[Moment]) -> "History":
        """Moments one after the other."""
        columns = [torch.stack([getattr(m, name) for m in moments], 1) for name in ("bound", "misfit", "undecided", "open")]
        return cls(torch.tensor([m.seconds for m in moments], dtype=torch.float64), *columns)
