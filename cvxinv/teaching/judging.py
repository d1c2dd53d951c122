"""Judges of answers: a point of a layer problem, a dual vector alone, and vectors whose values are known."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..layers.core.certificate import certify
from ..layers.core.problem import AbstractLayerProblem
from .conditions import broken_line
from .drawing import LayerKnown
from .exercise import Answer, Finding, Instance, Passed
from .mistakes import answered, meanings

_ALIKE = 1e-6  # relative: what a vector may differ by from a known wrong one to be called that


# --- points of layer problems -----------------------------------------------------------------------


def judge_point(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    """Judge h, and p where it was returned, by the certificate."""
    known: LayerKnown = instance.known
    h = torch.from_numpy(answer["h"])[None]
    p = torch.from_numpy(answer["p"])[None] if "p" in answer else None
    return judged_point(known, h, p)


def judged_point(known: LayerKnown, h: Tensor, p: Tensor | None) -> Finding | Passed:
    """The same of tensors `(1, n)` and `(1, m)`."""
    if not bool(torch.isfinite(h).all()):
        return Finding("h is finite", words="h has an infinite entry: the solver found no optimum, or diverged")
    problem = known.problem
    found = certify(problem, h, known.p if p is None else p)  # an h that came alone is held against the best bound there is
    if answered(found):
        words = f"{found.status[0]}: objective {float(found.objective[0]):.6g}"
        if problem.form != "curved":
            words += f", gap {max(float(found.gap[0]), 0.0):.1e} of {float(found.allowed_gap[0]):.1e} allowed"
        return Passed(f"{words}, violation {max(float(found.violation[0]), 0.0):.1e}")
    alone = p is not None and answered(certify(problem, h, known.p))
    broken = broken_line(problem, h, p, known.p)
    if broken is None:
        gap, allowed = float(found.gap[0]), float(found.allowed_gap[0])
        broken = Finding("objective - bound <= what is allowed", "", gap, allowed)
    means = dual_meanings(problem, h, p, known.p) if alone and p is not None else meanings(problem, h, known.p, known.raw)
    return replace(broken, meanings=means)


def judge_dual(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    """Judge a p beside the optimal h, which the submission was given."""
    known: LayerKnown = instance.known
    p = torch.from_numpy(answer["p"])[None]
    found = broken_line(known.problem, known.h, p, known.p)  # the judge would scale it, and here it is asked for as it is
    if found is None:
        return judged_point(known, known.h, p)
    return replace(found, meanings=dual_meanings(known.problem, known.h, p, known.p))


def dual_meanings(problem: AbstractLayerProblem, h: Tensor, p: Tensor, best: Tensor) -> tuple[str, ...]:
    """What was done to the dual vector of an h that is an optimum."""
    rows = problem.rows
    hidden = ~rows.on & ~rows.off
    tried = (
        ("a sign: p is W h + b - y, not y - W h - b", -p),
        ("a factor 2: p is twice the dual vector", p / 2),
        ("a factor 2: p is half of the dual vector", 2 * p),
        ("the weights of the rows are missing in p", torch.where(rows.on, rows.weight * p, p)),
        ("the bias is missing in p", torch.where(rows.on, p + rows.fit * rows.b, p)),
        ("p is not 0 on hidden rows", torch.where(hidden, torch.zeros_like(p), p)),
        ("the multipliers of the off rows are missing or wrong", torch.where(rows.off, best, p)),
        ("a sign: the multipliers of the off rows are negative", torch.where(rows.off, -p, p)),
    )
    return tuple(words for words, q in tried if broken_line(problem, h, q, best) is None)


# --- values -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """What an answer has to be, by name, and what it usually is where it is wrong.

    lines: by name, the line that a wrong entry breaks, as it is written. mistakes: words, and the answer they lead to.
    places: by name, what an entry is called: "row", "unknown", ... tol: relative to the largest entry.
    """

    expected: Answer
    lines: dict[str, str]
    mistakes: dict[str, Answer]
    places: dict[str, str] = field(default_factory=dict)
    tol: float = 1e-7


def by_name(wrong: dict[str, Any], *names: str) -> dict[str, Answer]:
    """Mistakes of a single value by its name, of several by theirs."""
    found = {}
    for words, value in wrong.items():
        values = value if len(names) > 1 else (value,)
        found[words] = {name: np.asarray(v, dtype=float) for name, v in zip(names, values, strict=True)}
    return found


def judge_values(instance: Instance, answer: Answer, seconds: float) -> Finding | Passed:
    """Judge an answer whose values are known."""
    known: Values = instance.known
    for name, expected in known.expected.items():
        found = entry_finding(known.lines[name], answer[name], expected, known.tol, _place(known, name, expected))
        if found is not None:
            return replace(found, meanings=alike(answer, known.mistakes))
    off = max(_distance(answer[name], expected) for name, expected in known.expected.items())
    return Passed(f"every entry as it should be, to {off:.1e} of the largest")


def alike(answer: Answer, mistakes: dict[str, Answer]) -> tuple[str, ...]:
    """The known wrong answers that an answer equals."""
    return tuple(
        words
        for words, wrong in mistakes.items()
        if all(_distance(answer[name], np.asarray(value)) <= _ALIKE for name, value in wrong.items() if name in answer)
    )


def _place(known: Values, name: str, expected: np.ndarray) -> Callable[[int], str]:
    word = known.places.get(name, "entry")
    several, kinds = len(known.expected) > 1, np.ndim(expected)
    if kinds == 0:
        return lambda k: name
    return lambda k: f"{word} {k}" + (f" of {name}" if several else "")


def entry_finding(
    line: str, found: np.ndarray, expected: np.ndarray, tol: float, place: Callable[[int], str]
) -> Finding | None:
    """The entry of a vector that differs most from what it has to be, by more than tol of the largest; or None."""
    off, size = _differences(found, expected)
    k = int(off.argmax())
    if off.flat[k] <= tol * size:
        return None
    words = f"{line} fails at {place(k)}: it is {found.flat[k]:.6g}, and should be {expected.flat[k]:.6g}"
    return Finding(line, place(k), float(off.flat[k]), tol * size, words=words)


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest finite entry expected."""
    off, size = _differences(found, expected)
    return float(off.max()) / size


def _differences(found: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each entry is off, inf where an infinite one does not agree, and the largest finite entry expected, or 1."""
    with np.errstate(invalid="ignore"):
        off = np.where(found == expected, 0.0, np.abs(found - expected))
    size = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return np.where(np.isnan(off), np.inf, off), float(size) or 1.0
