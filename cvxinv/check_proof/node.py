"""A node of the tree."""

from fractions import Fraction

from .integers import Ints


class Node:
    """Limits of c and of every layer's u, integers over 2^Ec and 2^Eu, that all better latents of the node keep; bound: no
    squared misfit in it is below, or below the level."""

    def __init__(self, c: tuple[Ints, Ints], u: list[tuple[Ints, Ints]], bound: Fraction) -> None:
        self.c, self.u, self.bound = c, u, bound

    def copy(self) -> "Node":
        """The same, to be changed."""
        return Node((self.c[0][:], self.c[1][:]), [(lo[:], hi[:]) for lo, hi in self.u], self.bound)

    def close(self) -> None:
        """Say that no better latent is in it."""
        self.c[0][0], self.c[1][0] = 1, 0

    @property
    def empty(self) -> bool:
        """Whether its limits contradict each other."""
        return any(l > h for lo, hi in (self.c, *self.u) for l, h in zip(lo, hi, strict=True))

    @property
    def undecided(self) -> int:
        """How many units may be on or off."""
        return sum(l < 0 < h for lo, hi in self.u for l, h in zip(lo, hi, strict=True))


def fold(limits: tuple[Ints, Ints], j: int, low: Fraction | None, high: Fraction, E: int) -> None:
    """Better limits, rounded outward to integers over 2^E."""
    if low is not None:
        limits[0][j] = max(limits[0][j], (low.numerator << E) // low.denominator)
    limits[1][j] = min(limits[1][j], -((-high.numerator << E) // high.denominator))
