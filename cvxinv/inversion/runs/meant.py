"""What a run is: the names and checksums of all that decides its numbers, to be compared when it goes on."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ...generator.abstract import AbstractGenerator
from ..method import AbstractMethod
from ..result import versions
from ..task import Noise
from .digest import attributes, digest, in_a_word
from .work import Chunk


def run_words(whole: Chunk) -> dict[str, Any]:
    """A run of signals that are in memory."""
    task = whole.task
    words = shared_words(task.generator, whole.method, task.prior, whole.seed, versions(task, whole.dtype))
    signals = digest((task.y, task.usable))
    seen = f"{task.measurement.name}, sha256 {digest(task.measurement)}"
    return words | {
        "signals": f"sha256 {signals}",
        "measurement": seen,
        "noise": noise_word(task.noise),
        "truth": in_a_word(whole.truth),
    }


def shared_words(
    generator: AbstractGenerator, method: AbstractMethod, prior: object, seed: int, ran: Mapping[str, str]
) -> dict:
    """What all signals of a run share; ran: the versions, types and devices that it ran with."""
    parts = [(name, value) for name, value in attributes(generator) if name != "description"]
    # of what a file says of a generator only the latents' distribution decides anything
    known = digest([*parts, generator.description.get("latent")])
    words = {"generator": f"sha256 {known}", "method": method.name, **option_words(method)}
    return words | {"prior": in_a_word(prior), "seed": seed, **{k: v for k, v in ran.items() if k != "device"}}


def option_words(method: AbstractMethod) -> dict[str, Any]:
    """Every option of a method by its name; those of a group by theirs."""
    found: dict[str, Any] = {"class": f"{type(method).__module__}.{type(method).__qualname__}"}
    for f in fields(method):  # type: ignore[arg-type]
        value = getattr(method, f.name)
        if is_dataclass(value) and isinstance(f.type, type) and is_dataclass(f.type):
            found |= {g.name: in_a_word(getattr(value, g.name)) for g in fields(value)}
        else:
            found[f.name] = in_a_word(value)
    return found


def noise_word(noise: Noise | None) -> Any:
    """The noise of a batch: None, or its kind and its bounds."""
    return None if noise is None else f"{noise.norm}{', estimated' if noise.estimated else ''}; {in_a_word(noise.bound)}"
