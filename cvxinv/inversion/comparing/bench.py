"""The bench: each method gets the same task, the same starts and the same limits, and leaves a row.

A method is one run of `invert`, with a folder of its own where the comparison has one. Whoever comes first must not pay for
all: imports and first calls are made on one signal before the clock runs, and what a method works out from the generator it
works out itself, within its time.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from ...generator.abstract import AbstractGenerator
from ..invert import invert, taken
from ..method import AbstractMethod, in_words
from ..progress import Progress
from ..result import Inversion
from ..runs.digest import in_a_word
from ..runs.meant import option_words, words_of
from ..runs.work import Chunk, answer
from ..steps.starts import Starts
from ..task import Task
from .contestants import Contestant
from .folder import ComparisonFolder
from .observed import Observed
from .row import FAILED, REFUSED, ComparisonRow

# what the arithmetic of one method may raise, and costs that method; a full disk or an interrupt ends the comparison
_FAULTS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
_WARM = 0.05  # seconds of a first run that is not counted


@dataclass(frozen=True, eq=False)
class Taking:
    """A method as it takes part: told: after it was told the truth. One that does not says why."""

    name: str
    method: AbstractMethod
    told: AbstractMethod


@dataclass(frozen=True, eq=False)
class Bench:
    """What all methods run on. task: in float64. limits: keywords of `invert` that are the same for all."""

    generator: AbstractGenerator
    task: Task
    seen: Observed
    noise: object
    prior: object
    limits: dict[str, Any]

    def admit(self, one: Contestant) -> Taking | ComparisonRow:
        """The contestant as the task takes it, or the row of one that it refuses."""
        if one.method is None:
            return ComparisonRow(one.name, one.name, REFUSED, one.reason)
        try:
            return Taking(one.name, one.method, taken(one.method, self.task, self.seen.truth))
        except (TypeError, ValueError, ImportError) as error:
            return ComparisonRow(one.name, one.method.name, REFUSED, _words(error))

    def meant(
        self, taking: Sequence[Taking | ComparisonRow], ran: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """All that decides the numbers of all methods, and of each by its name; ran: the versions."""
        limits = {name: in_a_word(value) for name, value in self.limits.items() if name != "seed"}
        words = words_of(self.task, None, self.seen.truth, self.limits["seed"], ran)
        words |= limits | {"whole signals": in_a_word(self.seen.whole)}
        return words, {one.name: option_words(one.told) for one in taking if isinstance(one, Taking)}

    def rows(
        self, taking: Sequence[Taking | ComparisonRow], folder: ComparisonFolder | None, progress: bool | None
    ) -> list[ComparisonRow]:
        """What each method gives, in their order; those that do not take part are rows already."""
        if folder is not None:
            folder.begin()
        rows, disable = [], None if progress is None else not progress
        with tqdm(total=len(taking), desc="compare", unit="method", disable=disable) as shown:
            for one in taking:
                shown.set_postfix_str(one.name)
                rows.append(self._row(one, folder) if isinstance(one, Taking) else one)
                shown.update()
        return rows

    def _row(self, one: Taking, folder: ComparisonFolder | None) -> ComparisonRow:
        more: dict[str, Any] = {"knows": one.told is not one.method, "options": in_words(one.method, {})}
        try:
            found = self._invert(one, folder)
        except _FAULTS as error:
            return ComparisonRow(one.name, one.method.name, FAILED, f"{type(error).__name__}: {_words(error)}", **more)
        return ComparisonRow.of(one.name, found, self.seen, self.task.measurement, **more)

    def _invert(self, one: Taking, folder: ComparisonFolder | None) -> Inversion:
        if folder is not None and folder.done(one.name):
            return Inversion.load(folder.of(one.name))
        self._warm_up(one)
        kept: dict[str, Any] = {} if folder is None else {"checkpoint": folder.of(one.name), "resume": True}
        return invert(
            _fresh(self.generator), self.seen.y, one.method, measurement=self.seen.measurement, noise=self.noise,
            prior=self.prior, truth=self.seen.truth, progress=False, on_fail="ignore", **self.limits, **kept,
        )  # fmt: skip

    def _warm_up(self, one: Taking) -> None:
        first, G = self.task.usable.nonzero()[:1, 0], _fresh(self.task.generator)
        part = Chunk(replace(self.task.take(first), generator=G), one.told.take(first))
        answer(part, Starts(G), Progress(deadline=time.time() + _WARM))


def _fresh(generator: AbstractGenerator) -> AbstractGenerator:
    """The same generator, of which nothing was worked out yet."""
    twin = copy.copy(generator)
    vars(twin).pop("kept", None)
    return twin


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
