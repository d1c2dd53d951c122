"""Options of methods: read as plain numbers when a method is made, checked against the task before it runs."""

from dataclasses import fields
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from ..inputs import plain_number, read_amount
from .task import Task


def tidy(options: object) -> None:
    """Numpy's numbers in the fields of a dataclass as Python's, also inside tuples and lists."""
    for f in fields(options):  # type: ignore[arg-type]
        value = getattr(options, f.name)
        if isinstance(value, (tuple, list)):
            value = type(value)([plain_number(part) for part in value])
        elif isinstance(value, (np.generic, np.ndarray)):
            value = plain_number(value)
        else:
            continue
        object.__setattr__(options, f.name, value)


def positive(value: object, name: str, least: int = 1) -> int:
    """`value` if it is an integer from `least` on. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return int(value)


def within(value: object, name: str, low: float, high: float) -> None:
    """Raises ValueError unless `value` is None or a number in [low, high)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and low <= value < high):  # type: ignore[operator]
        raise ValueError(f"{name} must be a number in [{low}, {high}), got {value!r}")


def positive_steps(steps: object) -> None:
    """Raises ValueError unless `steps` are positive numbers, one or more."""
    many = isinstance(steps, (tuple, list)) and steps
    if not many or not all(isinstance(s, (int, float)) and s > 0 for s in steps):  # type: ignore[attr-defined]
        raise ValueError(f"steps must be positive numbers, in units of 1 / sigma_max(J)^2, got {steps!r}")


def check_step(step: object, rules: tuple[str, ...] = ()) -> None:
    """Raises ValueError unless `step` is None, a finite number above 0, or the name of one of `rules`."""
    number = isinstance(step, (int, float)) and not isinstance(step, bool)
    if step is None or (isinstance(step, str) and step in rules) or (number and 0 < step < float("inf")):  # type: ignore[operator]
        return
    named = "".join(f", {rule!r}" for rule in rules)
    raise ValueError(f"step must be a finite number > 0{named} or None, which estimates it, got {step!r}")


def penalty(given: object, name: str, task: Task) -> float | Tensor | None:
    """A penalty as it was given: None, a number, or one per signal without a graph. Raises TypeError or ValueError."""
    if given is None:
        return None
    value = read_amount(given, name, task.y.device)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != task.N):
        raise ValueError(f"expected {name} as one number or of shape ({task.N},), got {tuple(value.shape)}; one per signal")
    if not torch.isfinite(value).all() or (value < 0).any():
        raise ValueError(f"{name} must be >= 0 and finite, got {float(value.min())}; pass 0 to leave the term out")
    return float(value) if value.ndim == 0 else value


def number(value: object, name: str, above: float = 0.0, least: float | None = None) -> None:
    """Raises ValueError unless `value` is a finite number above `above`, or from `least` on where that is given."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if not real or (value <= above if least is None else value < least):  # type: ignore[operator]
        raise ValueError(
            f"{name} must be a finite number {f'> {above:g}' if least is None else f'>= {least:g}'}, got {value!r}"
        )


FINISH = (None, "levenberg_marquardt")  # what leads the end of a first-order method on


def choice(value: object, name: str, choices: tuple[str | None, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`, each a word or None."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
