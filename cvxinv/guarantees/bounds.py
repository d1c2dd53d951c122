"""What is known of a quantity that may be too costly to compute: a lower and an upper bound, each with its reason."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, isinf

_SAME = 1e-9  # bounds whose relative distance is below it count as one number; numbers below 1e-3 as that


@dataclass(frozen=True)
class Witness:
    """Rows and columns, positions, that show an upper bound on a spark or rank, or a lower one on a coherence.

    coefficients: one for each column, none of them 0; the columns, on these rows, times them add up to 0 exactly. None
    where dependence is that of a tolerance, follows from counting, or is not what is shown.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    coefficients: tuple[Fraction, ...] | None = None


@dataclass(frozen=True)
class Bounds:
    """lower <= the quantity `name` <= upper, and why; `exact` where both are one number (coherences: to 1e-9 of it).

    how: the reasons, that of the lower bound first. witness: what shows the bound that an example can show, or None.
    seconds: what it took.
    """

    name: str
    lower: float
    upper: float
    how: tuple[str, ...] = ()
    witness: Witness | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.lower <= self.upper:
            raise ValueError(f"expected lower <= upper for {self.name}, got {self.lower} and {self.upper}; exchange them")

    @property
    def exact(self) -> bool:
        """Whether both bounds are one number."""
        near = not isinf(self.upper) and self.upper - self.lower <= _SAME * max(abs(self.upper), 1e-3)
        return near or self.lower == self.upper

    def __str__(self) -> str:
        known = f"{self.name} = {_words(self.upper)}" if self.exact else _range(self.name, self.lower, self.upper)
        return f"{known} ({'exact' if self.exact else 'bounds'}: {'; '.join(self.how)})"


def _range(name: str, lower: float, upper: float) -> str:
    above = f" <= {_words(upper)}" if upper < inf else ""
    return f"{_words(lower)} <= {name}{above}"


def _words(value: float) -> str:
    if isinf(value):
        return "infinite"
    return str(int(value)) if value == int(value) else f"{value:.6g}"
