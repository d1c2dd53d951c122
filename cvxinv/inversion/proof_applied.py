"""A proof told to the inversion that it is of: better latents replace the found ones everywhere."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .verify import Verdict

if TYPE_CHECKING:
    from .proof import Proof
    from .result import Inversion

_SAME = 1e-6  # of the misfit: what an inversion's latents may be better by than those of the proof
_ROUNDED = 1e-6  # of |y|: how far lengths of the same signals may be apart, which may have come in float32
_MARKED = 1e-4  # the same for marks of generators, which may be in float32
_CURE = (
    "prove these: prove(generator, y, inversion, ...) with the same measurement, noise and prior, in a box that holds them"
)


def with_proof(inversion: "Inversion", proof: "Proof") -> "Inversion":
    """`Inversion.with_proof`."""
    _refuse_others(inversion, proof)
    single = inversion.z.ndim == 1
    z = _batched(inversion.z, single)
    new = proof.z.to(z)
    changed = (torch.isfinite(new).all(1) & (new != z).any(1)).nonzero()[:, 0]
    better = proof.improved.nonzero()[:, 0].tolist()

    def put(old: Tensor, new: Tensor) -> Tensor:
        whole = _batched(old, single).clone()
        whole[changed] = new.to(whole)[changed]
        return whole[0] if single else whole

    used = list(inversion.used)
    for k in better:
        used[k] = "proof"
    changes: dict[str, Any] = {
        "z": put(inversion.z, new),
        "hidden": tuple(put(h, x) for h, x in zip(inversion.hidden, proof.hidden, strict=True)),
        "signal": put(inversion.signal, proof.signal),
        "verdict": _verdict(inversion.verdict, proof.verdict, changed),
        "used": tuple(used),
        "snr": {name: _forgotten(value, better) for name, value in inversion.snr.items()},
        "seconds": inversion.seconds | {"prove": proof.seconds},
        "proof": proof,
    }
    if inversion.differentiable is not None:
        changes["differentiable"] = inversion.differentiable & ~_at(changed, len(proof))
    if inversion.uncertainty is not None and proof.uncertainty is not None:
        changes["uncertainty"] = proof.uncertainty.one() if single else proof.uncertainty
    return replace(inversion, **changes)


def _verdict(old: Verdict, new: Verdict, changed: Tensor) -> Verdict:
    whole = old.take(torch.arange(len(old)))
    whole.put(changed.cpu(), new.take(changed.cpu()))
    return whole


def _forgotten(values: Tensor, better: list[int]) -> Tensor:
    whole = values.clone()
    whole[better] = torch.nan
    return whole


def _at(index: Tensor, count: int) -> Tensor:
    mask = torch.zeros(count, dtype=torch.bool)
    mask[index.cpu()] = True
    return mask


def _batched(value: Tensor, single: bool) -> Tensor:
    return value[None] if single else value


def _refuse_others(inversion: "Inversion", proof: "Proof") -> None:
    """Raises ValueError for a proof of something else."""
    if len(inversion) != len(proof) or inversion.z.shape[-1] != proof.z.shape[-1]:
        raise ValueError(
            f"expected a proof of {len(inversion)} signals with {inversion.z.shape[-1]} latents, got one of {len(proof)} "
            f"with {proof.z.shape[-1]}; {_CURE}"
        )
    refuse_other_question(inversion, proof.settings)
    refuse_other_signals(inversion, proof.verdict.size)
    if proof.settings.get("prior") is None and str(inversion.settings.get("noise")).partition(":")[0] not in ("linf", "l1"):
        lower = inversion.verdict.misfit < (1 - _SAME) * proof.verdict.misfit - 1e-12 * proof.size
        if bool(lower.any()):
            first = int(lower.nonzero()[0, 0])
            raise ValueError(
                f"expected a proof that knows the inversion's latents, got one whose misfit of signal {first} is "
                f"{float(proof.verdict.misfit[first]):.3g} where the inversion has "
                f"{float(inversion.verdict.misfit[first]):.3g}; {_CURE}"
            )


def refuse_other_question(inversion: "Inversion", asked: Mapping[str, Any]) -> None:
    """Raises ValueError where a proof speaks of another measurement, noise, prior or generator; asked: its settings."""
    free = ("noise",) if inversion.uncertainty is not None and inversion.uncertainty.estimated else ()
    marked = "mark" in inversion.settings and "mark" in asked
    # a generator's name is that of its file, or none: what it gives says more
    for name in ("measurement", "noise", "prior", *(() if marked else ("generator",))):
        ours, its = inversion.settings.get(name), asked.get(name)
        if name not in free and name in {*inversion.settings, *asked} and ours != its:
            raise ValueError(f"expected a proof with {name} {ours!r}, as the inversion has, got {its!r}; {_CURE}")
    ours, its = inversion.settings.get("mark"), asked.get("mark")
    if ours is not None and its is not None and abs(ours - its) > _MARKED * abs(ours):
        raise ValueError(
            f"expected a proof of the inversion's generator, got one of another, of which |G(z)| is {its:.6g} where the "
            f"inversion's has {ours:.6g}, z_j = cos(j); {_CURE}"
        )


def refuse_other_signals(inversion: "Inversion", known: Tensor) -> None:
    """Raises ValueError where the signals of a proof have other lengths; known: theirs, |y| of what was seen, `(N,)`."""
    size = inversion.verdict.size
    apart = (size - known).abs() > _ROUNDED * torch.maximum(size, known)
    if bool(apart.any()):
        k = int(apart.nonzero()[0, 0])
        raise ValueError(
            f"expected a proof of the inversion's signals, got one whose signal {k} has length {float(known[k]):.9g} "
            f"where the inversion's has {float(size[k]):.9g}; {_CURE}"
        )
