"""`Inversion`: what `invert` gives back."""

import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal, shared
from ..generator.abstract import AbstractGenerator
from ..layers.core.certificate import OPTIMAL, OPTIMAL_INACCURATE, STATIONARY
from ..lengths import lengths
from ..surroundings import settled, undisturbed
from .answer import LayerReport
from .explain import explain, one_position
from .export import export_inversion
from .moments import PROVED
from .proof import Proof
from .proof_applied import with_proof
from .storage import load_fields, save_inversion
from .table import arrays, frame, page
from .task import Task
from .uncertainty import Uncertainty
from .verify import EXPLAINED_WORD, Verdict

if TYPE_CHECKING:
    from pandas import DataFrame


def snr(truth: Tensor, estimate: Tensor) -> Tensor:
    """20 log10(|truth| / |truth - estimate|) per signal, dB, `(N,)`; at most 400."""
    error = lengths(truth - estimate).clamp(min=1e-300)
    return (20 * torch.log10(lengths(truth).clamp(min=1e-300) / error)).clamp(max=400.0)


@dataclass(frozen=True, eq=False)
class Inversion(Batch):
    """Latents of a batch of signals, and what can be said for each.

    z, hidden, signal and the points of the layers are on the generator's device, all the rest on the CPU.

    z: `(N, n0)`; hidden: G's hidden layers at z, `(N, n_i)` each; signal: G(z), `(N, d)` (for a single signal without
    the batch axis). verdict: `verify`'s word per signal: status, misfit, determined. layers: per-layer problems,
    solutions and certificates of the layered start, image layer first; empty where it was not used. used: what gave
    each z, such as "layered", "layers and a descent" where these failed, "learnt start" or "random start k". starts:
    random starts spent per signal. snr: dB per quantity, where the truth was given. seconds: wall time of the parts.
    settings, versions: what was asked for, and what ran. uncertainty: of z and of the signal, and the noise's level; where
    gaussian noise was stated or its level estimated, else None. differentiable: of a differentiable call, which signals have
    a derivative, bool `(N,)`; else None. proof: what `prove` proved of the latents, where `with_proof` was told. iterations:
    spent per signal, of descents from all starts and of layer problems; one of second order counts as one of first.
    """

    z: Tensor = per_signal()
    hidden: tuple[Tensor, ...] = each_per_signal()
    signal: Tensor = per_signal()
    method: str = shared()
    verdict: Verdict = per_signal()
    layers: tuple[LayerReport, ...] = each_per_signal()
    used: tuple[str, ...] = per_signal()
    starts: Tensor = per_signal()
    snr: dict[str, Tensor] = each_per_signal()
    seconds: dict[str, float] = shared()
    settings: dict[str, Any] = shared()
    versions: dict[str, str] = shared()
    notes: tuple[str, ...] = ()
    uncertainty: Uncertainty | None = per_signal(default=None)
    differentiable: Tensor | None = per_signal(default=None)
    proof: Proof | None = per_signal(default=None)
    iterations: Tensor | None = per_signal(default=None)

    @property
    def status(self) -> np.ndarray:
        """Status per signal: explained, stationary, user_limit or numerical_error; of what is not explained, proved_optimal
        where a proof says that no latent of its box is better."""
        if self.proof is None:
            return self.verdict.status
        return np.where((self.proof.proved & ~self.verdict.explained).numpy(), PROVED, self.verdict.status)

    @property
    def determined(self) -> Tensor:
        """Whether the Jacobian of what was seen has full column rank at z, bool `(N,)`."""
        return self.verdict.determined

    @property
    def layer_status(self) -> np.ndarray:
        """Status of every layer of every signal, `(N, layers)`, image layer first; `(N, 0)` without a layered start."""
        if not self.layers:
            return np.empty((len(self), 0), dtype="<U18")
        return np.stack([report.solution.status for report in self.layers], axis=1)

    def __len__(self) -> int:
        return len(self.verdict)

    @settled
    def __getitem__(self, index: int | slice | Tensor | np.ndarray) -> "Inversion":
        """The signals at `index`: a position, a slice, positions, or a bool mask."""
        if self.z.ndim == 1:
            raise IndexError("this inversion is of a single signal; there is nothing to index")
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"expected an index below {len(self)}, got {index}")
            index = slice(int(index), int(index) + 1 or None)
        if isinstance(index, np.ndarray):
            index = torch.as_tensor(index)
        return self.take(index)

    @settled
    def one(self) -> "Inversion":
        """The same without the batch axis on z, hidden, signal and what is uncertain of them, for a single signal."""
        uncertainty = None if self.uncertainty is None else self.uncertainty.one()
        hidden = tuple(h[0] for h in self.hidden)
        return replace(self, z=self.z[0], hidden=hidden, signal=self.signal[0], uncertainty=uncertainty)

    @settled
    def with_proof(self, proof: Proof) -> "Inversion":
        """The same with what `prove` proved of its signals; better latents that it found take the place of these.

        With them come hidden layers, G(z), verdict and, where there is any, uncertainty; `used` says "proof" there, SNRs are
        not known (NaN) and derivatives are none. Raises ValueError for a proof of other signals, sizes, noise or
        measurement.
        """
        return with_proof(self, proof)

    def save(self, folder: str | Path) -> Path:
        """Write `result.safetensors` and `result.json` into `folder`, each whole or not at all; returns the folder."""
        return save_inversion(self, folder)

    @staticmethod
    def load(folder: str | Path) -> "Inversion":
        """Read what `save` wrote. Layer problems themselves are not kept, their points and certificates are."""
        return Inversion(**load_fields(folder))

    @undisturbed
    def export(
        self, folder: str | Path, generator: AbstractGenerator, y: Tensor | np.ndarray, measurement: object = None
    ) -> Path:
        """Write what is claimed, and all that it takes to check it, into a folder for `cvxinv check`; returns the folder.

        One file for the latents, one for each layer problem. generator, y, measurement: as `invert` took them. Raises
        ValueError for other signals and after loading, as layer problems are not kept; OSError.
        """
        return export_inversion(self, folder, generator, y, measurement)

    @undisturbed
    def summary(self) -> str:
        """What came out, in words and numbers: a few lines for a person."""
        lines = [f"{self.method}: {len(self)} signals in {self.seconds.get('total', 0.0):.2f} s"]
        lines.append(f"  {self.verdict!r}")
        for report in self.layers:
            words = ", ".join(f"{count} {status}" for status, count in report.solution.certificate.counts().items())
            gap = report.solution.certificate.worst_relative_gap
            extra = f"; {report.remark}" if report.remark else ""
            lines.append(f"  layer {report.index} ({report.kind}): {words}; worst relative gap {gap:.1e}{extra}")
        harmless = self._harmless()
        if harmless:
            lines.append(
                f"  {harmless} explained signals have a layer that is not optimal; harmless: z is judged by G(z) and y"
            )
        if len(set(self.used)) > 1 or (self.used and self.used[0] != self.method):
            counts = {name: self.used.count(name) for name in sorted(set(self.used), key=lambda n: (n[:6], len(n), n))}
            lines.append("  answers by: " + ", ".join(f"{name or 'nothing yet'}: {count}" for name, count in counts.items()))
        if self.uncertainty is not None:
            lines.append(f"  {self.uncertainty.summary()}")
        if self.proof is not None:
            lines += [f"  {line.strip()}" for line in self.proof.summary().splitlines()]
        for name, value in self.snr.items():
            low, mid, high = (
                float(q) for q in torch.nanquantile(value.double(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
            )
            lines.append(f"  SNR {name}: median {mid:.0f} dB (10 % {low:.0f}, 90 % {high:.0f})")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _harmless(self) -> int:
        """How many explained signals have a layer that ended without an optimum."""
        if not self.layers:
            return 0
        ended = np.isin(self.layer_status, (OPTIMAL, OPTIMAL_INACCURATE, STATIONARY)).all(1)
        return int((~ended & (self.status == EXPLAINED_WORD)).sum())

    def explain(self, i: int = 0, *, generator: AbstractGenerator | None = None) -> str:
        """Signal i in words: can z be trusted, and if not, is it the signal, the generator or the solver; what to do.

        generator: the one that was inverted; with it more can be said, e.g. how many directions of z are open, or a proof
        that the signal is out of its range. i counts from the end where negative. Raises IndexError, TypeError for
        what is no single position, ValueError for another generator.
        """
        return str(explain(self, [one_position(i, len(self))], generator)[0])

    def numpy(self) -> dict[str, np.ndarray]:
        """Its numbers as arrays by name: z, signal, hidden 1, ..., z_std and signal_std where known, and the columns of
        `to_pandas`. Arrays of tensors on the CPU share their memory."""
        return arrays(self)

    @undisturbed
    def to_pandas(self) -> "DataFrame":
        """A row for each signal: status, misfit, what gave its z, ...; `.attrs["units"]` has the units of the columns.

        Raises BackendNotInstalledError without pandas.
        """
        return frame(self)

    @undisturbed
    def _repr_html_(self) -> str:
        return page(self)

    def __repr__(self) -> str:
        return self.summary()


def task_words(task: Task, level: Tensor | None = None) -> dict[str, Any]:
    """The task in words, for the result: a stored latent means little without the noise and the prior it was judged by.

    level: the noise's, `(N,)`, signal units, where it was estimated; NaN where it is not known.
    """
    noise = None
    if task.noise is not None:
        bound = task.noise.bound if level is None else level[level.isfinite()]
        low, high = (float(bound.min()), float(bound.max())) if len(bound) else (torch.nan, torch.nan)
        noise = f"{task.noise.norm}:{low:g}" if low == high else f"{task.noise.norm}, {low:g} to {high:g} per signal"
        if task.noise.estimated:
            ends = dict.fromkeys((f"{low:.4g}", f"{high:.4g}"))
            noise = f"{task.noise.norm}, estimated: {' to '.join(ends)}"
    prior = {} if task.prior is None else {"prior": repr(task.prior)}
    name, seen = task.measurement.name, dict[str, Any]()
    if name != "Everything":
        few, many = int(task.seen.min()), int(task.seen.max())
        seen["seen"] = few if few == many else f"{few} to {many} per signal"
    mark = generator_mark(task.generator)
    made = {"generator": task.generator.named} | ({} if mark is None else {"mark": mark})
    return {"noise": noise, **prior, "measurement": name, **seen, **made}


def generator_mark(generator: AbstractGenerator) -> float | None:
    """|G(z)| at z_j = cos(j), by which results of two generators with the same name are told apart; None where not finite.

    It is worked out once; six digits of it mean something whatever type the generator has.
    """
    key = ("mark", repr(generator.output))
    if key not in generator.kept:
        z = torch.arange(generator.latent_dim, dtype=generator.dtype, device=generator.device).cos()
        generator.kept[key] = float(generator(z).double().norm())
    mark = generator.kept[key]
    return mark if math.isfinite(mark) else None


def snrs(task: Task, truth: Tensor, z: Tensor, hidden: list[Tensor], signal: Tensor) -> dict[str, Tensor]:
    """SNR of z, of the hidden layers and of the signal, dB, `(N,)` each."""
    exact = task.generator.to(torch.float64)
    out = {"z": snr(truth, z.double())}
    for index, (true, found) in enumerate(zip(exact.hidden(truth), hidden, strict=True), 1):
        out[f"hidden {index}"] = snr(true, found.double())
    out["signal"] = snr(exact(truth), signal.double())
    return {name: value.cpu() for name, value in out.items()}


def versions(task: Task, dtype: torch.dtype) -> dict[str, str]:
    """What ran: packages, types and devices."""
    found = {name: _version(name) for name in ("cvxinv", "torch", "numpy", "scipy", "cvxpy")}
    return found | {"dtype": str(dtype), "device": str(task.y.device), "signals in": str(task.born)}


@cache  # reading a package's metadata takes longer than inverting a signal
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
