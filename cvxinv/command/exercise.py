"""`cvxinv exercise list | show | start | check`: exercises, and the judge's grade of an answer to one.

Exit codes of `check`: 0 passed, 1 not passed, whatever the submission did, 2 usage or a file that is not there.
"""

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..files import write_whole
from ..teaching.exercise import Exercise, shown
from ..teaching.grading import Grade, check_submission
from ..teaching.known import EXERCISES, exercise_named, number_of
from ..teaching.running import MEMORY, TIME_LIMIT
from ..teaching.words import in_full, skeleton, summary
from .arguments import Json
from .outcome import Outcome
from .terminal import console_of, pairs, print_json, table_of
from .usage import Command, Group

exercise_app = typer.Typer(cls=Group, no_args_is_help=True, help="Exercises that the judge grades.")

Which = Annotated[str, typer.Argument(metavar="N", help="Number or name of an exercise.")]
Submission = Annotated[Path, typer.Argument(metavar="FILE.py", help="A file with a function `answer`.")]


@exercise_app.command("list", cls=Command)
def list_command(as_json: Json = False) -> None:
    """Name every exercise."""
    with Outcome():
        if as_json:
            print_json({"exercises": [summary(exercise) for exercise in EXERCISES]})
            return
        table = table_of(f"{len(EXERCISES)} exercises", "N", "name", "level", "what")
        for exercise in EXERCISES:
            table.add_row(str(number_of(exercise)), exercise.name, exercise.level, exercise.title)
        console_of().print(table)


@exercise_app.command("show", cls=Command)
def show_command(which: Which, as_json: Json = False) -> None:
    """Say what an exercise asks for, and the first of its instances."""
    with Outcome():
        exercise = exercise_named(which)
        if as_json:
            instance = shown(exercise)
            print_json(summary(exercise) | {"instance": instance.label, "arguments": instance.arguments})
        else:
            console_of().print(Text(in_full(exercise)), soft_wrap=True)


@exercise_app.command("start", cls=Command)
def start_command(which: Which, file: Submission, as_json: Json = False) -> None:
    """Write the beginning of an answer; a file that is there stays as it is."""
    with Outcome():
        exercise = exercise_named(which)
        if file.exists():
            raise ValueError(f"expected a file that is not there yet, got {file}; name another")
        write_whole(file, skeleton(exercise).encode())
        if as_json:
            print_json({"exercise": exercise.name, "file": file})
        else:
            said = (
                f"{file} begins an answer to exercise {number_of(exercise)}; check it: cvxinv exercise check {which} {file}"
            )
            console_of().print(Text(said), soft_wrap=True)


@exercise_app.command("check", cls=Command)
def check_command(
    which: Which,
    file: Submission,
    seed: Annotated[int | None, typer.Option(min=0, help="Draws the same instances again; another one each time.")] = None,
    time_limit: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="For the whole run of FILE.py, in a process of its own.")
    ] = TIME_LIMIT,
    memory: Annotated[float, typer.Option(min=0.1, metavar="GIB", help="Memory that it may ask for.")] = MEMORY / 2**30,
    as_json: Json = False,
) -> None:
    """Grade an answer: passed, or which line fails, where, by how much, and what that usually means."""
    with Outcome():
        exercise = exercise_named(which)
        if not file.is_file():
            raise (IsADirectoryError if file.is_dir() else FileNotFoundError)(
                f"expected a file with an answer at {file}, found {'a folder' if file.is_dir() else 'none'}; "
                f"begin one: cvxinv exercise start {which} answer.py"
            )
        drawn = secrets.randbelow(2**31) if seed is None else seed
        grade = check_submission(exercise, file, drawn, time_limit=time_limit, memory=int(memory * 2**30))
        if as_json:
            print_json({"number": number_of(exercise)} | grade.to_dict())
        else:
            _print_grade(exercise, grade)
        raise typer.Exit(0 if grade.passed else 1)


def _print_grade(exercise: Exercise, grade: Grade) -> None:
    title = f"exercise {number_of(exercise)}, {exercise.name}: {'passed' if grade.passed else 'not passed'}"
    table = table_of(title, "instance", "grade", "why")
    for result in grade.results:
        table.add_row(Text(result.label), Text(result.kind), Text(result.words))
    console_of().print(table)
    first = grade.first
    if first is not None and (first.finding is not None or grade.printed.strip()):
        console_of().print(_why(grade, first.finding))
    console_of().print(Text(f"seed {grade.seed}, {grade.seconds:.1f} s"))


def _why(grade: Grade, finding: Any) -> Table:
    """What the first failure says, line by line."""
    table = pairs("what to look at")
    if finding is not None:
        table.add_row("line", Text(finding.line))
        if finding.place:
            counted = ", counted from 0" if any(letter.isdigit() for letter in finding.place) else ""
            table.add_row("where", Text(finding.place + counted))
        means = "; or ".join(grade.meanings) or "nothing that the catalogue of faults knows"
        table.add_row("this usually means", Text(means))
    if grade.printed.strip():
        table.add_row("it printed", Text(grade.printed.strip()))
    return table
