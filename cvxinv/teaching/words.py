"""Exercises in words: for a terminal, for a page, and as the beginning of an answer."""

from typing import Any

import numpy as np

from .exercise import Exercise, Instance, shown
from .known import EXERCISES, number_of

_MOST = 80  # numbers of an array that are printed


def summary(exercise: Exercise) -> dict[str, Any]:
    """An exercise in dicts, lists and strings."""
    return {
        "number": number_of(exercise),
        "name": exercise.name,
        "title": exercise.title,
        "level": exercise.level,
        "task": exercise.task,
        "signature": exercise.signature,
        "takes": exercise.takes,
        "returns": exercise.gives,
        "may be left out": list(exercise.optional),
        "source": exercise.source,
    }


def in_full(exercise: Exercise) -> str:
    """What an exercise asks for, and its first instance."""
    lines = [f"Exercise {number_of(exercise)}, {exercise.name}: {exercise.title}", "", exercise.task, ""]
    lines += [exercise.signature, *_named(exercise.takes), f"returns {', '.join(exercise.gives)}, in this order"]
    lines += _named({k: v + (" (may be left out)" if k in exercise.optional else "") for k, v in exercise.gives.items()})
    lines += ["", f"Source: {exercise.source}"] if exercise.source else []
    number = number_of(exercise)
    go_on = f"Begin: cvxinv exercise start {number} my_file.py   Then: cvxinv exercise check {number} my_file.py"
    return "\n".join([*lines, "", *_instance(shown(exercise)), "", go_on])


def _named(words: dict[str, str]) -> list[str]:
    width = max(map(len, words), default=0)
    return [f"    {name:<{width}}  {said}" for name, said in words.items()]


def _instance(instance: Instance) -> list[str]:
    lines = ["The first instance; others are drawn anew for every check:"]
    for name, value in instance.arguments.items():
        array = np.asarray(value)
        if array.size > _MOST:
            lines.append(f"{name} = {array.shape[0]} x {array.shape[-1]} numbers; show --json prints them")
        else:
            words = np.array2string(array, separator=", ", max_line_width=110)
            lines.append(f"{name} = " + words.replace("\n", "\n" + " " * (len(name) + 3)))
    return lines


def skeleton(exercise: Exercise) -> str:
    """The beginning of an answer."""
    said = "\n".join(_named(exercise.takes | {f"returns {k}": v for k, v in exercise.gives.items()}))
    quoted = f'"""Exercise {number_of(exercise)}, {exercise.name}: {exercise.title}.\n\n{exercise.task}\n\n{said}\n"""'
    needed = [name for name in exercise.gives if name not in exercise.optional]
    body = f"    {' = '.join(needed)} = None\n    return {', '.join(needed)}\n"
    return f"{quoted}\n\nimport numpy as np\n\n\n{exercise.signature}\n{body}"


def page_table() -> str:
    """All exercises as a table in Markdown."""
    rows = [f"| {number_of(x)} | `{x.name}` | {x.level} | {x.title} |" for x in EXERCISES]
    return "\n".join(["| N | name | level | what |", "|---|---|---|---|", *rows])
