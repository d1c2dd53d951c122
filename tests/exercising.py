"""Reference solutions and planted faults of the exercises, run in this process and judged as in any other."""

import types
from functools import cache
from pathlib import Path

import numpy as np

from cvxinv.teaching import submission
from cvxinv.teaching.exercise import Instance, instances_of
from cvxinv.teaching.grading import Grade, judged
from cvxinv.teaching.known import exercise_named
from cvxinv.teaching.running import Returned

SOLUTIONS = Path(__file__).parent / "exercise_solutions"
SEED = 20


@cache
def instances(name: str) -> tuple[Instance, ...]:
    return tuple(instances_of(exercise_named(name), SEED))


def source(name: str) -> str:
    return (SOLUTIONS / f"{name}.py").read_text()


def grade(name: str, text: str, count: int | None = None) -> Grade:
    """The grade of a submission with this text, asked in this process; count: of how many instances, all by default."""
    exercise, module = exercise_named(name), types.ModuleType("submission")
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    results = []
    for instance in instances(name)[:count]:
        with np.errstate(all="ignore"):
            try:
                value = module.answer(*(x.copy() if isinstance(x, np.ndarray) else x for x in instance.arguments.values()))
                found = Returned("answer", "", submission.arrays(value), 1e-3)
            except (submission.NoAnswerError, ArithmeticError, np.linalg.LinAlgError, IndexError) as error:
                found = Returned("crash", str(error))
        results.append(judged(exercise, instance, found))
    return Grade(name, tuple(results), SEED)
