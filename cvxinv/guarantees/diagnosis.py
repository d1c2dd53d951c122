"""`diagnose`: when can this generator be inverted, and what is true of these signals; in numbers and in plain words.

What is asked, of random latents and of given signals:

    layers      sizes, ranks, units that are dead or always on, sparsity (`inspection`)
    local       rank and singular values of the Jacobian, the nearest face, the layer that decides (`local`)
    unique      proved, refuted by a second latent, or undecided (`uniqueness`)
    noise       share of units whose phase noise may change, per layer (`phases`)
    conditions  which theorems apply, with the numbers they need

What is proved, shown or only suggested is told apart in the words.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..exact.wide import fits
from ..files import write_whole
from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from ..inputs import describe, read_seconds, read_seed
from ..inversion.invert import invert
from ..inversion.storage import check_writable
from ..inversion.task import make_task
from ..surroundings import undisturbed
from .condition import Condition
from .inspection import Inspection, Samples, inspect_and_sample
from .local import LocalGeometry, local_geometry, read_latents
from .phases import LEVELS, NoisePhases, noise_phases
from .theorems import condition_in_words, conditions_of
from .uniqueness import UNDECIDED, Uniqueness, uniqueness

FILE = "diagnosis.json"
THEOREM = "theorem"  # how the lines of theorems begin
AGAINST_NOISE = "undecided against noise"  # how these lines of the words begin
_FORMAT, _VERSION = "cvxinv diagnosis", 1
_QUICK = 0.5  # seconds of each spark and coherence
_FEW, _ASKED = 4, 2  # latents whose pieces noise is asked of, and of which the proof engine is
_OWN = 8  # own signals of which uniqueness is asked
_SECONDS = 4.0  # of the proof engine, each time that it is asked


@dataclass(frozen=True, eq=False)
class SignalDiagnosis:
    """What is true of N signals at their latents z `(N, n0)`.

    misfit: |A G(z) - y| / |y|, `(N,)`. local: the geometry at z. unique: whether z is the only one; None where nothing can
    be proved of the generator, `why` says why.
    """

    z: Tensor
    misfit: Tensor
    local: LocalGeometry
    unique: Uniqueness | None
    why: str = ""

    def __len__(self) -> int:
        return len(self.z)

    @property
    def status(self) -> np.ndarray:
        """`unique`, `not_unique` or `undecided`, `(N,)`."""
        return np.full(len(self), UNDECIDED, dtype="<U12") if self.unique is None else self.unique.status

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        return {name: int((self.status == name).sum()) for name in dict.fromkeys(self.status.tolist())}

    def explain(self, i: int = 0) -> str:
        """Signal i in words."""
        near = self.local
        rank, n0 = int(near.rank[i]), self.z.shape[1]
        if rank < n0:
            moved = f"The Jacobian has rank {rank} of {n0}: along the rest nothing changes on the piece of z."
        else:
            moved = (
                f"The Jacobian has full rank, smallest singular value {float(near.smallest[i]):.2g}: noise of length 1 "
                f"moves z by up to {float(near.amplification[i]):.2g} latent units."
            )
        face = ""
        if int(near.face_layer[i]) >= 0:
            face = (
                f" The nearest face of its piece is {float(near.distance[i]):.2g} latent units away, where unit "
                f"{int(near.face_unit[i])} of layers[{int(near.face_layer[i])}] switches."
            )
        asked = f"Undecided: {self.why}." if self.unique is None else self.unique.explain(i)
        return f"{asked} {moved}{face}"

    def to_dict(self) -> dict[str, Any]:
        """Numbers per signal in lists; what is not finite is None."""
        near, one = self.local, self.unique
        numbers = {
            "misfit": self.misfit, "rank": near.rank, "smallest_singular_value": near.smallest,
            "largest_singular_value": near.largest, "noise_amplification": near.amplification,
            "distance_to_face": near.distance, "face_layer": near.face_layer, "face_unit": near.face_unit,
            "deciding_layer": near.layer if one is None else one.layer,
        }  # fmt: skip
        more = {} if one is None else {"how": one.how.tolist(), "undecided_units": one.undecided.tolist()}
        if one is not None:
            more["other"] = [row if all(map(np.isfinite, row)) else None for row in one.other.tolist()]
        return {
            "signals": len(self), "statuses": self.counts(), "status": self.status.tolist(), "why_not_asked": self.why,
            **{name: _listed(value) for name, value in numbers.items()}, **more, "z": self.z.tolist(),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found; printed, it is the words.

    inspection: layers, sparsity, ranks. own: the generator's own signals, of random latents; None where it is no chain of
    layers. noise: undecided units against noise, None likewise. conditions: of theorems, at some of the own latents.
    signals: what is true of the given signals, None where none were given. words: findings in plain words, the most
    important first. samples: what pictures are drawn of.
    """

    inspection: Inspection
    own: SignalDiagnosis | None
    noise: NoisePhases | None
    conditions: tuple[Condition, ...]
    signals: SignalDiagnosis | None
    words: tuple[str, ...]
    samples: Samples
    seconds: float

    def __str__(self) -> str:
        name = self.inspection.name or "generator"
        return "\n".join(
            [f"{name}: {self.inspection.latent_dim} latents to {self.inspection.signal_dim} entries", *self.words]
        )

    def __repr__(self) -> str:
        return f"Diagnosis of {self.inspection.name or 'a generator'}: {self.words[0]}; {self.seconds:.1f} s"

    def to_dict(self) -> dict[str, Any]:
        """Everything in dicts, lists, numbers and strings; the fields of the inspection stand on top."""
        noise = None
        if self.noise is not None:
            noise = {
                "levels": list(self.noise.levels), "latents": self.noise.latents,
                "layers": [{"index": k, "units": m} for k, m in self.noise.layers],
                "near": _listed(self.noise.near), "left": _listed(self.noise.left), "asked": self.noise.asked,
            }  # fmt: skip
        return self.inspection.to_dict() | {
            "words": list(self.words), "own": None if self.own is None else self.own.to_dict(), "noise": noise,
            "conditions": [_condition_dict(condition) for condition in self.conditions],
            "signals": None if self.signals is None else self.signals.to_dict(), "seconds": self.seconds,
        }  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write `diagnosis.json` into `folder`, made where it is missing, whole or not at all; returns the folder."""
        folder = check_writable(folder, (FILE,))
        folder.mkdir(parents=True, exist_ok=True)
        spec = {"format": _FORMAT, "version": _VERSION, **self.to_dict()}
        write_whole(folder / FILE, (json.dumps(spec, indent=1, allow_nan=False) + "\n").encode())
        return folder


@undisturbed
def diagnose(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray | None = None,
    z: Tensor | np.ndarray | None = None,
    *,
    measurement: object = None,
    samples: int = 2000,
    latents: int = 12,
    levels: Sequence[float] = LEVELS,
    time_limit: float = _SECONDS,
    seed: int = 0,
    progress: bool | None = None,
) -> Diagnosis:
    """When can this generator be inverted, which layer decides, and what is true of these signals?

    y: None, or signals `(N, k)` or `(k,)`. z: their latents, where they are known; else `invert` is asked. measurement: as
    in `invert`, of y; the generator's own signals are seen whole. samples: random latents for the hidden layers; latents:
    for the Jacobians. levels: lengths of noise as shares of |y|, in [0, 1). time_limit: seconds of the proof engine each
    time that it is asked, for the own signals, the given ones and noise; it ends a step later; 0 leaves it out. seed: of the
    random latents. progress: a bar; None shows it on a terminal.

    Computes in float64. Raises TypeError or ValueError for input that does not fit, before any arithmetic.
    """
    began = time.perf_counter()
    levels, seed = _read_levels(levels), read_seed(seed)
    time_limit = read_seconds(time_limit, "time_limit", "0 leaves the proof engine out")
    if y is None and (z is not None or measurement is not None):
        raise ValueError("expected y beside z or measurement, got none; pass the signals that they belong to")
    known: Tensor | None = None
    if y is not None and isinstance(generator, AbstractGenerator):
        task = make_task(generator, y, measurement)
        known = None if z is None else _fitting(read_latents(z, generator), task.N)
    inspection, held = inspect_and_sample(generator, samples, latents, seed, progress=progress)
    G = held.generator
    source = torch.Generator().manual_seed(seed)
    own, noise, signals, conditions = None, None, None, tuple[Condition, ...]()
    if isinstance(G, Generator):
        at = G.sample_latent(max(samples, latents), source)[:latents]
        own = _own(G, at, time_limit, seed)
        # where a piece does not determine z the engine has none to come to
        sure = bool(own.local.full[:_ASKED].all()) and not nothing_proved(G)
        noise = noise_phases(G, at[:_FEW], levels, _ASKED if sure else 0, time_limit, seed)
        conditions = conditions_of(G, at[:_FEW], _QUICK)
        if y is not None:
            signals = _given(G, y, known, measurement, time_limit, seed)
    elif y is not None:
        raise TypeError(
            f"expected a chain of layers for signals, got {describe(generator)}; leave the signals out, or read the network "
            "with cvxinv.load_generator(net)"
        )
    words = _words(inspection, G, own, noise, conditions, signals)
    return Diagnosis(inspection, own, noise, conditions, signals, words, held, time.perf_counter() - began)


def nothing_proved(generator: AbstractGenerator) -> str:
    """Why uniqueness cannot be asked of a generator, or ""."""
    if not isinstance(generator, Generator):
        return "the generator is no chain of layers"
    for index, layer in enumerate(generator.layers[:-1]):
        kinks, slopes = layer.activation.pieces or ((), ())
        if tuple(kinks) != (0.0,) or slopes[1] != 1.0 or not 0 <= slopes[0] <= 1:
            return f"layers[{index}] has {layer.activation!r}, and proofs are of ReLU and LeakyReLU"
    return "" if fits(generator) else "the generator has too many units for a proof"


def _read_levels(levels: object) -> tuple[float, ...]:
    if isinstance(levels, (str, bytes)) or not isinstance(levels, Sequence) or not len(levels):
        raise TypeError(f"expected levels as a sequence of numbers, got {describe(levels)}; pass e.g. (0, 1e-3, 1e-2)")
    found = []
    for level in levels:
        if isinstance(level, bool) or not isinstance(level, (int, float)):
            raise TypeError(f"expected numbers in levels, got {describe(level)}; pass e.g. (0, 1e-3, 1e-2)")
        if not 0 <= level < 1:
            raise ValueError(f"expected levels in [0, 1), shares of |y|, got {level}; pass e.g. (0, 1e-3, 1e-2)")
        found.append(float(level))
    return tuple(found)


def _fitting(z: Tensor, N: int) -> Tensor:
    if len(z) != N:
        raise ValueError(f"expected one latent for each of {N} signals, got {len(z)}; pass z of shape ({N}, n0)")
    return z


# --- what is asked --------------------------------------------------------------------------------


def _own(G: Generator, z: Tensor, time_limit: float, seed: int) -> SignalDiagnosis:
    z = z[:_OWN]
    return _of_signals(G, G(z), z, None, time_limit, seed)


def _given(
    G: Generator, y: Tensor | np.ndarray, z: Tensor | None, measurement: object, time_limit: float, seed: int
) -> SignalDiagnosis:
    if z is None:
        z = invert(G, y, measurement=measurement, on_fail="ignore", progress=False, seed=seed).z
        z = z[None] if z.ndim == 1 else z
    return _of_signals(G, y, z.double(), measurement, time_limit, seed)


def _of_signals(
    G: Generator, y: Tensor | np.ndarray, z: Tensor, measurement: object, time_limit: float, seed: int
) -> SignalDiagnosis:
    task = make_task(G, y, measurement).to(torch.float64)
    usable = z.isfinite().all(1)
    at = torch.where(usable[:, None], z, 0.0)
    misfit = torch.where(usable, task.misfit(at) / task.size, torch.inf)
    local, why = local_geometry(G, at, measurement=measurement), nothing_proved(G)
    if why:
        return SignalDiagnosis(z, misfit, local, None, why)
    box = max(3 * G.latent_dim**0.5, 1.01 * float(at.abs().max()))
    unique = uniqueness(G, y, at, measurement=measurement, box=box, time_limit=time_limit, seed=seed)
    return SignalDiagnosis(z, misfit, local, unique)


def _condition_dict(condition: Condition) -> dict[str, Any]:
    """A condition for JSON: statuses, clauses with both sides, what follows and where it is from."""
    return {
        "theorem": condition.theorem, "status": condition.status.tolist(), "counts": condition.counts(),
        "clauses": [{"text": c.text, "left": c.sides()[0], "right": c.sides()[1], "status": c.status.tolist()}
                    for c in condition.clauses],
        "conclusion": condition.conclusion, "scope": condition.scope, "source": condition.source,
        "evidence": condition.evidence, "notes": list(condition.notes),
    }  # fmt: skip


def _listed(values: Tensor) -> list[Any]:
    """Numbers in lists, None where they are not finite."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        return value if not isinstance(value, float) or np.isfinite(value) else None

    found: list[Any] = plain(values.tolist())
    return found


# --- words ----------------------------------------------------------------------------------------


def _words(
    inspection: Inspection, G: AbstractGenerator, own: SignalDiagnosis | None, noise: NoisePhases | None,
    conditions: Sequence[Condition], signals: SignalDiagnosis | None,
) -> tuple[str, ...]:  # fmt: skip
    told = [_when(inspection, own)]
    if signals is not None:
        told.append(f"the {_many(len(signals), 'signal')}: {_of_uniqueness(signals)}")
        told += _of_local(signals, G, "the signals")
    if own is not None:
        told.append(f"its own signals, {len(own)} of random latents: {_of_uniqueness(own)}")
        told += _of_local(own, G, "its own signals")
    told += [] if noise is None else _of_noise(noise)
    told += _of_units(inspection)
    told += [f"{THEOREM}, {condition_in_words(condition)}" for condition in conditions]
    return tuple([*told, *inspection.expectations])


def _when(inspection: Inspection, own: SignalDiagnosis | None) -> str:
    """The answer in one line: of whole signals without noise."""
    head = "can it be inverted, from whole signals without noise: "
    full = inspection.rank == inspection.latent_dim
    if own is None or own.unique is None:
        near = "near by z is determined" if full else "not everywhere, z is not determined even near by"
        return f"{head}{near}; whether another latent far away gives the same is not known"
    counts = own.counts()
    of = len(own)
    if counts.get("unique") == of:
        return f"{head}yes, z is proved to be the only latent for all {of} signals that were asked"
    if counts.get("not_unique") == of:
        return f"{head}no, for all {of} signals that were asked another latent gives the same"
    return f"{head}not for all, of {of} signals that were asked {_of_uniqueness(own)}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _of_uniqueness(them: SignalDiagnosis) -> str:
    if them.unique is None:
        return f"whether z is the only latent was not asked, {them.why}"
    names = {"unique": "proved unique", "not_unique": "shown not unique by a second latent", "undecided": "undecided"}
    return ", ".join(f"{count} {names[status]}" for status, count in them.counts().items())


def _of_local(them: SignalDiagnosis, G: AbstractGenerator, whose: str) -> list[str]:
    near, n0 = them.local, G.latent_dim
    short = int((~near.full).sum())
    index, count = torch.mode(near.layer).values.item(), len(near)
    where = _layer_word(int(index), G)
    often = int((near.layer == index).sum())
    if short:
        lost = near.layer[~near.full]
        where = _layer_word(int(torch.mode(lost).values), G)
        ranks = near.rank[~near.full]
        return [
            f"the layer that decides: {where}, where the rank is lost for {short} of {_many(count, 'latent')} of {whose} "
            f"(rank {int(ranks.min())} to {int(ranks.max())} of {n0})"
        ]
    amplified, distance = float(near.amplification.median()), float(near.distance.median())
    face = f", and the nearest face of the piece is {distance:.2g} latent units away" if np.isfinite(distance) else ""
    return [
        f"the layer that decides: {where}, where the condition grows most for {often} of {count} latents of {whose}",
        f"noise: of length 1 it moves z of {whose} by up to {amplified:.2g} latent units (median){face}",
    ]


def _layer_word(index: int, G: AbstractGenerator) -> str:
    return "the measurement" if index >= G.depth else f"layers[{index}]"


def _of_noise(noise: NoisePhases) -> list[str]:
    if not noise.layers:
        return []
    lines = []
    for column, (index, units) in enumerate(noise.layers):
        cells = [
            f"{100 * level:g} % noise {_share(float(noise.near[row, column]))}{_left(float(noise.left[row, column]))}"
            for row, level in enumerate(noise.levels)
        ]
        lines.append(f"{AGAINST_NOISE}, of the {units} units of layers[{index}]: {', '.join(cells)}")
    return lines


def _left(share: float) -> str:
    return "" if np.isnan(share) else f" (engine: {_share(share)})"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def _of_units(inspection: Inspection) -> list[str]:
    lines = []
    for h in inspection.hidden:
        if h.always_active:
            lines.append(f"hidden layer {h.index}: {h.always_active} of {h.size} units were always positive, and are linear")
    return lines
