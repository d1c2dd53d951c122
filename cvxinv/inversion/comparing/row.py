"""What one method gave in a comparison: numbers per signal, or the reason why it did not run."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...entries import Arrays, Entries
from ...lengths import lengths
from ..result import Inversion
from ..verify import EXPLAINED_WORD, INVERSION_STATUSES
from .observed import Observed, unseen_error

SUCCESS = 1e-6  # |z found - z| / |z| up to which a latent counts as found
RAN, REFUSED, FAILED = "ran", "refused", "failed"
_ALWAYS = ("misfit", "size", "determined")  # of one that ran
_TENSORS = ("misfit", "size", "determined", "starts", "z_error", "unseen_error", "iterations")


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One method of a comparison. Tensors are `(N,)`, on the CPU; all of them are None where it did not run.

    name: in tables; method: the method's own name. outcome: "ran", "refused" (by its `check`) or "failed" (it raised), for
    the reason. knows: it was told the true latents and competes with nobody. options: those that were said, in words.
    status: words of `verify`. misfit: |A G(z) - y|, size: |y|, signal units. determined: as of `Verdict`. starts: random
    starts spent. iterations: of descents and layer problems together, as of `Inversion`. z_error: |z found - z| / |z|;
    snr: dB of z, hidden layers and signal; where the truth is known. unseen_error: |x - G(z)| / |x| over what was not seen,
    where that is known. seconds: of the method for all signals, without the judge. notes: what the method says of them.
    """

    name: str
    method: str
    outcome: str = RAN
    reason: str = ""
    knows: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    status: np.ndarray | None = None
    misfit: Tensor | None = None
    size: Tensor | None = None
    determined: Tensor | None = None
    starts: Tensor | None = None
    iterations: Tensor | None = None
    z_error: Tensor | None = None
    unseen_error: Tensor | None = None
    snr: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = float("nan")
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, found: Inversion, signals: Observed, seeing: Any, **more: Any) -> Self:
        """The row of an inversion of `signals`; seeing: their measurement. more: knows, options."""
        N = len(found)
        z, x = found.z.reshape(N, -1), found.signal.reshape(N, -1)
        return cls(
            name, found.method, status=found.status, misfit=found.verdict.misfit, size=found.verdict.size,
            determined=found.determined, starts=found.starts, iterations=found.iterations,
            z_error=_z_error(z, signals.truth), unseen_error=unseen_error(x, signals.whole, seeing), snr=dict(found.snr),
            seconds=float(found.seconds.get("solve", float("nan"))), notes=found.notes, **more,
        )  # fmt: skip

    @property
    def ran(self) -> bool:
        """Whether it has numbers."""
        return self.outcome == RAN

    @property
    def N(self) -> int:
        """Number of signals; 0 where it did not run."""
        return 0 if self.status is None else len(self.status)

    @property
    def relative_misfit(self) -> Tensor | None:
        """misfit / |y|, `(N,)`; of a signal that is 0, 0 where it is met and inf elsewhere."""
        if self.misfit is None or self.size is None:
            return None
        return torch.where((self.size == 0) & (self.misfit == 0), 0.0, self.misfit / self.size)

    @property
    def explained(self) -> np.ndarray:
        """Which signals are explained, bool `(N,)`."""
        return np.zeros(0, dtype=bool) if self.status is None else self.status == EXPLAINED_WORD

    @property
    def succeeded(self) -> np.ndarray | None:
        """Whose z is the true one to 1e-6, bool `(N,)`; None where the truth is not known."""
        return None if self.z_error is None else (self.z_error <= SUCCESS).numpy()

    @property
    def seconds_per_signal(self) -> float:
        """Of all signals together, divided by their number."""
        return self.seconds / self.N if self.N else float("nan")

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        there = () if self.status is None else tuple(self.status)
        return {word: there.count(word) for word in INVERSION_STATUSES if word in there}

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, for a file."""
        named = {name: value for name in _TENSORS if (value := getattr(self, name)) is not None}
        return named | {f"snr.{name}": value for name, value in self.snr.items()}

    def spec(self) -> dict[str, Any]:
        """Its words and plain numbers, as JSON holds them."""
        seconds = self.seconds if self.seconds == self.seconds else None
        return {
            "name": self.name, "method": self.method, "outcome": self.outcome, "reason": self.reason, "knows": self.knows,
            "options": self.options, "status": None if self.status is None else self.status.tolist(),
            "seconds": seconds, "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def read(cls, words: Entries, arrays: Arrays, signals: int) -> Self:
        """The row of these words and tensors, of so many signals. Raises ValueError where an entry is not of its kind."""
        outcome = words.text("outcome", (RAN, REFUSED, FAILED))
        N = signals if outcome == RAN else 0
        if outcome != RAN and words.plain("status") is not None:
            words.refuse("status", f"null, as the method {outcome}")
        status = np.array(words.texts("status", N, INVERSION_STATUSES), dtype="<U16") if N else None
        own: dict[str, Any] = {
            name: _read(arrays, name, N) for name in _TENSORS if arrays.has(name) or (N and name in _ALWAYS)
        }
        before = f"{arrays.before}snr."
        snr = [name.removeprefix(before) for name in arrays.tensors if name.startswith(before)]
        seconds = words.number("seconds", least=0) if words.plain("seconds") is not None else float("nan")
        return cls(
            words.text("name"), words.text("method"), outcome, words.text("reason"), words.yes("knows"),
            dict(words.inner("options").entries), status, snr={name: arrays.floats(f"snr.{name}", N) for name in snr},
            seconds=seconds, notes=tuple(words.texts("notes")), **own,
        )  # fmt: skip


def _read(arrays: Arrays, name: str, N: int) -> Tensor:
    """One of the tensors of a row."""
    if name == "determined":
        return arrays.bools(name, N)
    return arrays.integers(name, N) if name in ("starts", "iterations") else arrays.floats(name, N)


def _z_error(z: Tensor, truth: Tensor | None) -> Tensor | None:
    """|z - truth| / |truth|, where that is 0 |z - truth|, `(N,)`."""
    if truth is None:
        return None
    true = truth.to(z.device).double().reshape(z.shape)
    size = lengths(true)
    return (lengths(z.double() - true) / torch.where(size > 0, size, torch.ones_like(size))).cpu()
