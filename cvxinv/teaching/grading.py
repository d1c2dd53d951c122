"""From what a submission returned to a grade: shapes first, then the judge on every instance."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..surroundings import undisturbed
from .exercise import Answer, Exercise, Finding, Instance, Passed, instances_of
from .running import MEMORY, TIME_LIMIT, Returned, run_submission


@dataclass(frozen=True)
class Result:
    """One instance: kind is "passed", "refused", or why there was nothing to judge; words say it in full."""

    label: str
    kind: str
    words: str
    finding: Finding | None = None


@dataclass(frozen=True)
class Grade:
    """What came of a check. seed: draws the same instances again. printed: the end of what the submission printed."""

    exercise: str
    results: tuple[Result, ...]
    seed: int
    seconds: float = 0.0
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether every instance passed."""
        return all(result.kind == "passed" for result in self.results)

    @property
    def first(self) -> Result | None:
        """The first instance that did not pass."""
        return next((result for result in self.results if result.kind != "passed"), None)

    @property
    def meanings(self) -> tuple[str, ...]:
        """What the answers equal in the catalogue: what all that were refused have in common, or what the first says."""
        said = [r.finding.meanings for r in self.results if r.finding is not None and r.finding.meanings]
        if not said:
            return ()
        common = tuple(words for words in said[0] if all(words in other for other in said))
        return common or said[0]

    def to_dict(self) -> dict[str, Any]:
        """Everything in dicts, lists, numbers and strings."""
        rows = []
        for result in self.results:
            row: dict[str, Any] = {"instance": result.label, "kind": result.kind, "words": result.words}
            if (found := result.finding) is not None:
                row |= {"line": found.line, "place": found.place, "amount": found.amount, "allowed": found.allowed}
                row |= {"meanings": list(found.meanings)}
            rows.append(row)
        whole: dict[str, Any] = {
            "exercise": self.exercise,
            "passed": self.passed,
            "meanings": list(self.meanings),
            "instances": rows,
        }
        return whole | {"seed": self.seed, "seconds": self.seconds, "printed": self.printed}


def check_submission(
    exercise: Exercise, path: str | Path, seed: int, *, time_limit: float = TIME_LIMIT, memory: int = MEMORY
) -> Grade:
    """Run a submission on the instances of a seed, and judge it. time_limit: seconds; memory: bytes.

    Whatever the submission does is told in the grade. Raises OSError where the file cannot be read.
    """
    began = time.perf_counter()
    instances = instances_of(exercise, seed)
    ran = run_submission(Path(path), instances, time_limit, memory)
    results = tuple(judged(exercise, instance, found) for instance, found in zip(instances, ran.returned, strict=True))
    return Grade(exercise.name, results, seed, time.perf_counter() - began, ran.printed)


@undisturbed
def judged(exercise: Exercise, instance: Instance, returned: Returned) -> Result:
    """The result of one instance."""
    if returned.kind != "answer":
        return Result(instance.label, returned.kind, returned.words)
    answer = shaped(exercise, instance, returned.arrays or {})
    if isinstance(answer, str):
        return Result(instance.label, "shape", answer)
    found = exercise.judge(instance, answer, returned.seconds)
    if isinstance(found, Passed):
        return Result(instance.label, "passed", found.words)
    return Result(instance.label, "refused", found.words or in_words(found), found)


def in_words(found: Finding) -> str:
    """The line that fails, where, and by how much."""
    where = f" at {found.place}" if found.place else ""
    much = "" if np.isnan(found.amount) else f": off by {found.amount:.3g}, allowed is {found.allowed:.1e}"
    return f"{found.line} fails{where}{much}"


def shaped(exercise: Exercise, instance: Instance, arrays: dict[str, np.ndarray]) -> Answer | str:
    """The answer by name, in float64 and of the shapes that are asked for; or what is wrong with it, in words."""
    names = list(instance.shapes)
    answer: Answer = {}
    for key, array in arrays.items():
        name = names[int(key)] if key.isdigit() and int(key) < len(names) else key
        if name not in instance.shapes:
            return f"expected {', '.join(names)}, got a value more ({key}); return no others"
        answer[name] = array
    for name, shape in instance.shapes.items():
        if name not in answer:
            if name in exercise.optional:
                continue
            return f"expected {', '.join(names)} in this order, got no {name}; return it"
        found = answer[name]
        if found.shape != shape and found.size != int(np.prod(shape)):
            return f"expected {name} of shape {shape}, got {found.shape}; return {exercise.gives[name]}"
        if found.shape != shape and np.squeeze(found).shape != shape:
            return f"expected {name} of shape {shape}, got {found.shape}; reshape it"
        value = found.astype(np.float64).reshape(shape)
        if np.isnan(value).any():
            first = int(np.isnan(value).reshape(-1).argmax())
            return (
                f"expected numbers in {name}, got NaN in entry {first}; a division by 0, or a hidden entry of y, brings it"
            )
        answer[name] = value
    return answer
