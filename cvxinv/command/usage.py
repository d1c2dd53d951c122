"""How a command reads what was typed: numbers within their limits, and one line on stderr for what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isnan
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from .outcome import say
from .speaking import as_typed

_USAGE: Any = typer.BadParameter.__mro__[1]  # what typer raises for words that it cannot read


@dataclass(frozen=True)
class Limits:
    """Of a number that is typed. least <= it <= most, or above < it < below; example: one that will do."""

    example: str
    least: float = -inf
    most: float = inf
    above: float = -inf
    below: float = inf
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number is within them; NaN never is."""
        inside = (self.above < value or self.above == -inf) and (value < self.below or self.below == inf)
        return self.least <= value <= self.most and inside

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        if self.below < inf:
            return f"{kind} in ({self.above:g}, {self.below:g})"
        lower = f" >= {self.least:g}" if self.least > -inf else f" > {self.above:g}" if self.above > -inf else ""
        upper = "" if self.most == inf else f"{' and' if lower else ''} <= {int(self.most) if self.whole else self.most}"
        return kind + lower + upper


_MANY = 2**31 - 1  # more of anything would not fit a memory
_POSITIVE = Limits("60", above=0)
LIMITS: dict[str, Limits] = {
    "tol": Limits("1e-6", above=0, below=1),
    "restarts": Limits("10", least=0, whole=True),
    "chunk": Limits("64", least=1, whole=True),
    "seed": Limits("0", least=0, most=2**63 - 1, whole=True),
    "time_limit": _POSITIVE,
    "signal_time_limit": _POSITIVE,
    "exact_check": Limits("3", least=1, whole=True),
    "samples": Limits("20", least=1, most=_MANY, whole=True),
    "measurements": Limits("16", least=1, most=_MANY, whole=True),
    "gap": Limits("1e-4", above=0, below=1),
    "batch": Limits("64", least=1, most=_MANY, whole=True),
    "frames": Limits("10", least=2, most=_MANY, whole=True),
    "eps": Limits("1", above=0, most=1e300),
    "floor": Limits("0", least=-1e300, most=1e300),
    "max_iter": Limits("10", least=1, most=_MANY, whole=True),
    "memory": Limits("4", least=0.1, most=1e6),
    "label": Limits("0", least=0, most=_MANY, whole=True),
}
_OWN = {  # of a command, where they are others
    ("prove", "time_limit"): Limits("60", least=0),
    ("diagnose", "time_limit"): Limits("4", least=0),
    ("check", "time_limit"): Limits("60", least=0.1),
}


class Command(TyperCommand):
    """A command: what is typed wrong is said on one line, by the option's name, with a cure, before all else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except _USAGE as error:
            _end(self, ctx, typed, error)
        for parameter in self.params:
            limits, value = self.limits(parameter), ctx.params.get(parameter.name)
            if limits is not None and isinstance(value, int | float) and not limits.holds(value):
                _refuse(parameter, limits, _got(parameter, typed, value))
        return rest

    def invoke(self, ctx: Any) -> Any:
        root = ctx.find_root().command
        invert = root.commands.get("invert", self) if isinstance(root, TyperGroup) else self
        values = {parameter.name: (parameter.metavar or "").strip("[]") for c in (invert, self) for parameter in c.params}
        with as_typed(_names(self), _names(invert), values):
            return super().invoke(ctx)

    def limits(self, parameter: Any) -> Limits | None:
        """What an option that is a number may be; None of others."""
        return _OWN.get((self.name or "", parameter.name), LIMITS.get(parameter.name))


class Group(TyperGroup):
    """Commands: a name that is none is said on one line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except _USAGE as error:
            say(f"error: {_words(error)}; see {ctx.command_path} --help")
            raise typer.Exit(2) from None


def _end(command: Command, ctx: Any, typed: list[str], error: Any) -> None:
    parameter = getattr(error, "param", None)
    limits = None if parameter is None else command.limits(parameter)
    if limits is not None and type(error) is typer.BadParameter:
        _refuse(parameter, limits, _got(parameter, typed, "another"))
    say(f"error: {_words(error)}; see {ctx.command_path} --help")
    raise typer.Exit(2) from None


def _words(error: Any) -> str:
    """What typer says, on one line and without its full stop."""
    text = " ".join(str(error.format_message()).split()).rstrip(".?").replace(". Did you mean", ", did you mean")
    return text[:1].lower() + text[1:]


def _refuse(parameter: Any, limits: Limits, got: str) -> NoReturn:
    """Ends a command whose option is a number beyond its limits, or none."""
    name = _name(parameter)
    say(f"error: expected {name} as {limits}, got {got}; pass e.g. {name} {limits.example}")
    raise typer.Exit(2) from None


def _name(parameter: Any) -> str:
    """An option as it is typed, an argument as help shows it."""
    long = [word for word in parameter.opts if word.startswith("--")]
    return (long or [parameter.metavar or parameter.name])[0].strip("[]")


def _names(command: Any) -> Mapping[str, str]:
    return {parameter.name: _name(parameter) for parameter in command.params if parameter.name}


def _got(parameter: Any, typed: list[str], value: object) -> str:
    """What was typed for an option, as it was typed."""
    for k, word in enumerate(typed):
        name, equals, rest = word.partition("=")
        if name in parameter.opts and (equals or k + 1 < len(typed)):
            return repr(rest) if equals else repr(typed[k + 1])
    return "nan" if isinstance(value, float) and isnan(value) else str(value)
