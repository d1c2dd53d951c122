"""What a run is: the names and checksums of all that decides its numbers, to be compared when it goes on."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...generator.abstract import AbstractGenerator
from ..method import AbstractMethod, options
from ..result import versions
from ..task import Noise, Task
from .digest import attributes, digest, in_a_word
from .work import Chunk


def run_words(whole: Chunk) -> dict[str, Any]:
    """A run of signals that are in memory."""
    return words_of(whole.task, whole.method, whole.truth, whole.seed, versions(whole.task, whole.dtype))


def words_of(
    task: Task, method: AbstractMethod | None, truth: Tensor | None, seed: int, ran: Mapping[str, str]
) -> dict[str, Any]:
    """Signals that are in memory and how they are inverted; method: None for what several methods share."""
    words = shared_words(task.generator, method, task.prior, seed, ran)
    signals = digest((task.y, task.usable))
    seen = f"{task.measurement.name}, sha256 {digest(task.measurement)}"
    return words | {
        "signals": f"sha256 {signals}",
        "measurement": seen,
        "noise": noise_word(task.noise),
        "truth": in_a_word(truth),
    }


def shared_words(
    generator: AbstractGenerator, method: AbstractMethod | None, prior: object, seed: int, ran: Mapping[str, str]
) -> dict:
    """What all signals of a run share; ran: the versions, types and devices that it ran with."""
    parts = [(name, value) for name, value in attributes(generator) if name != "description"]
    # of what a file says of a generator only the latents' distribution decides anything
    known = digest([*parts, generator.description.get("latent")])
    its = {} if method is None else {"method": method.name, **option_words(method)}
    words = {"generator": f"sha256 {known}", **its}
    return words | {"prior": in_a_word(prior), "seed": seed, **{k: v for k, v in ran.items() if k != "device"}}


def option_words(method: AbstractMethod) -> dict[str, Any]:
    """Every option of a method by its name; those of a group by theirs."""
    kind = f"{type(method).__module__}.{type(method).__qualname__}"
    return {"class": kind} | {name: in_a_word(value) for name, value in options(method).items()}


def noise_word(noise: Noise | None) -> Any:
    """The noise of a batch: None, or its kind and its bounds."""
    return None if noise is None else f"{noise.norm}{', estimated' if noise.estimated else ''}; {in_a_word(noise.bound)}"
