"""The label of a conditional generator, as a caller gives it."""

from operator import index
from typing import SupportsIndex


def fixed_label(label: object, classes: int | None) -> int:
    """`label` as an integer in 0, ..., `classes` - 1; None is not known how many.

    Raises: ValueError for a missing label and one out of range, TypeError for what is no integer.
    """
    known = "label=0" if classes is None else f"label=0 ... label={classes - 1}"
    if label is None:
        raise ValueError(f"expected a label, because this generator is conditional, got none; pass {known}")
    if isinstance(label, bool) or not isinstance(label, SupportsIndex):
        raise TypeError(f"expected a label as one integer, got {label!r}; pass {known}")
    number = index(label)
    if number < 0 or (classes is not None and number >= classes):
        raise ValueError(f"expected a label of this generator's {classes or ''} classes, got {number}; pass {known}")
    return number


def no_label(label: object) -> None:
    """Raises: ValueError if there is a label, for a generator that takes none."""
    if label is not None:
        raise ValueError(f"expected no label, because this generator is not conditional, got label={label!r}; leave it out")
