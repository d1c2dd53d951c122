"""What a file tells of a round: marks of units, multipliers, and the limits that these were found for."""

from math import ceil, floor, inf, ldexp
from typing import Any

from .beside import floats, need
from .integers import Ints

_MOST = 1e30  # of limits told: longer ones are none


class Told:
    """A round as told, in the file's order; widths: of the layers that are marked.

    marks: per layer. v: of c, then of `?`. lam: of the box, then three kinds for all `?`, two for all `=`. limits: of c,
    then of all `?`, then of all `=`. p: of the rows of r, None where nothing is told of it.
    """

    def __init__(
        self, marks: list[str], v: list[float], lam: list[float], limits: list[float], theta: list[float], n0: int,
        p: list[float] | None = None,
    ) -> None:  # fmt: skip
        self.marks, self.v, self.lam, self.theta, self.n0, self.p = marks, v, lam, theta, n0, p
        self.free, self.held = (sum(part.count(x) for part in marks) for x in "?=")
        self.parts, at = list[list[float]](), 0
        for count in (n0, n0, self.free, self.free, self.held, self.held):
            self.parts.append(limits[at : at + count])
            at += count

    @classmethod
    def read(cls, told: dict[str, Any], n0: int, widths: list[int], rows: int) -> "Told":
        """One with that many rows of r. Raises RefusedError for what is no round."""
        need(set(told) | {"p"} == {"units", "limits", "v", "lam", "theta", "p"}, "a round with five keys, or with p")
        units, at, marks = told["units"], 0, list[str]()
        need(type(units) is str and len(units) == sum(widths) and not units.strip("?=."), "a mark for each unit")
        for width in widths:
            marks.append(units[at : at + width])
            at += width
        free, held = units.count("?"), units.count("=")
        v, lam = floats(told, "v", n0 + free), floats(told, "lam", 2 * n0 + 3 * free + 2 * held)
        limits = floats(told, "limits", 2 * (n0 + free + held))
        theta = floats(told, "theta", len(told["theta"]) * 3 // 32, lambda x: 0 < x < inf)
        p = list(floats(told, "p", rows)) if "p" in told else None
        return cls(marks, list(v), list(lam), list(limits), list(theta), n0, p)

    @classmethod
    def nothing(cls, n0: int, widths: list[int]) -> "Told":
        """A round of which nothing is told."""
        return cls(["." * width for width in widths], [0.0] * n0, [0.0] * 2 * n0, [], [], n0)

    def of_box(self) -> tuple[list[float], list[float], dict[int, tuple[float, float]]]:
        """Multipliers of c - low and high - c, and limits."""
        n0 = self.n0
        return self.lam[:n0], self.lam[n0 : 2 * n0], dict(enumerate(zip(*self.parts[:2], strict=True)))

    def of_layers(self) -> list["LayerTold"]:
        """Layer by layer."""
        out, free, held = list[LayerTold](), 0, 0
        kinds, rest = 2 * self.n0, 2 * self.n0 + 3 * self.free
        for marks in self.marks:
            asked, kept = ([j for j, mark in enumerate(marks) if mark == x] for x in "?=")
            one = [self.lam[kinds + k * self.free + free :][: len(asked)] for k in range(3)]
            two = [self.lam[rest + k * self.held + held :][: len(kept)] for k in range(2)]
            ends = [part[free : free + len(asked)] for part in self.parts[2:4]]
            last = [part[held : held + len(kept)] for part in self.parts[4:]]
            out.append(LayerTold(asked, kept, one, two, _by_unit(asked, ends), _by_unit(kept, last)))
            free, held = free + len(asked), held + len(kept)
        return out


class LayerTold:
    """Of a layer: the units that are called undecided and those held, multipliers of three and of two kinds, limits."""

    def __init__(
        self, free: Ints, held: Ints, kinds: list[list[float]], ends: list[list[float]],
        limits: dict[int, tuple[float, float]], held_limits: dict[int, tuple[float, float]],
    ) -> None:  # fmt: skip
        self.free, self.held, self.limits, self.held_limits = set(free), held, limits, held_limits
        self._free, self._held = (
            [dict(zip(units, part, strict=True)) for part in parts] for units, parts in ((free, kinds), (held, ends))
        )

    def multipliers(self, free: Ints, held: Ints) -> list[list[float]]:
        """The five kinds, of units that are free and held; 0 for those of which the file says nothing."""
        parts = [[part.get(j, 0.0) for j in free] for part in self._free]
        return parts + [[part.get(j, 0.0) for j in held] for part in self._held]


def _by_unit(units: Ints, ends: list[list[float]]) -> dict[int, tuple[float, float]]:
    return dict(zip(units, zip(*ends, strict=True), strict=True))


def weaker(own: tuple[Any, Any], units: Ints, told: dict[int, tuple[float, float]], E: int) -> tuple[Ints, Ints]:
    """The weaker ones of what is proved and what is told: both hold, and multipliers suit the latter; over
    2^E; own: by unit."""
    low, high = ([side[j] for j in units] for side in own)
    for i, j in enumerate(units):
        if j in told:
            l, h = (ldexp(max(-_MOST, min(_MOST, x)), E) for x in told[j])
            low[i], high[i] = min(low[i], floor(l)), max(high[i], ceil(h))
    return low, high
