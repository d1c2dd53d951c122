"""The shortest x with G x >= h over the rationals, or the rows that prove that there is none.

    minimise |x|^2    subject to  G x >= h

By nonnegative least squares (Lawson and Hanson 1974, chapter 23): with E = [G'; h'] and f the last unit vector, u >= 0 is
sought that minimises |E u - f|^2. Where its minimum is 0, G'u = 0 and h'u = 1, which no x with G x >= h allows; else
x = G'u / (1 - h'u). All of it in whole numbers and fractions, so that nothing is rounded: what floats leave open is decided.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from .rational import solve

_STEPS = 50  # and four for each row; few are taken, as floats say where to begin


@dataclass(frozen=True, eq=False)
class Shortest:
    """x: n fractions, None where no x has G x >= h. rows: whose multipliers are > 0; those of x, or of the proof."""

    x: list[Fraction] | None
    rows: list[int]


def shortest(G: list[list[int]], h: list[int], guess: list[int]) -> Shortest | None:
    """The shortest x, G `(k, n)` and h `(k,)` in whole numbers; None where it took too many steps.

    guess: rows that may hold it; they change how long it takes, and nothing else.
    """
    E = [[*row, value] for row, value in zip(G, h, strict=True)]
    u = _begin(E, h, guess)
    for _ in range(_STEPS + 4 * len(E)):
        row = _steepest(E, h, u)
        if row is None:
            return _answer(G, h, u)
        better = _larger(E, h, u, row)
        if better is None:
            return None
        u = better
    return None


def _dot(v: list[int], w: list[int]) -> int:
    return sum(a * b for a, b in zip(v, w, strict=True))


def _fitted(E: list[list[int]], h: list[int], rows: list[int]) -> dict[int, Fraction] | None:
    """The least-squares u on some rows; None where these depend on each other."""
    u = solve([[_dot(E[i], E[j]) for j in rows] for i in rows], [h[i] for i in rows])
    return None if u is None else dict(zip(rows, u, strict=True))


def _begin(E: list[list[int]], h: list[int], guess: list[int]) -> dict[int, Fraction]:
    """The least-squares u on those of the guessed rows for which it is > 0."""
    while guess:
        u = _fitted(E, h, guess)
        if u is None:
            break
        if all(value > 0 for value in u.values()):
            return u
        guess = [i for i, value in u.items() if value > 0]
    return {}


def _steepest(E: list[list[int]], h: list[int], u: dict[int, Fraction]) -> int | None:
    """The row along which |E u - f|^2 falls most, about; None at the optimum."""
    below = lcm(*(value.denominator for value in u.values()))
    Eu = [0] * len(E[0])
    for i, value in u.items():
        share = value.numerator * (below // value.denominator)
        Eu = [a + share * b for a, b in zip(Eu, E[i], strict=True)]
    best, most = None, 0
    for j in range(len(E)):
        falls = h[j] * below - _dot(E[j], Eu)
        if j not in u and falls > 0:
            # a comparison of powers of 2: which row is taken decides nothing
            size = 2 * falls.bit_length() - _dot(E[j], E[j]).bit_length()
            if best is None or size > most:
                best, most = j, size
    return best


def _larger(E: list[list[int]], h: list[int], u: dict[int, Fraction], row: int) -> dict[int, Fraction] | None:
    """The next u: of one more row, and without those that would fall below 0."""
    u = {**u, row: Fraction(0)}
    while True:
        goal = _fitted(E, h, list(u))
        if goal is None:
            return None
        falling = [i for i, value in goal.items() if value <= 0]
        if not falling:
            return goal
        step = min(u[i] / (u[i] - goal[i]) if u[i] else Fraction(0) for i in falling)
        u = {i: value + step * (goal[i] - value) for i, value in u.items()}
        u = {i: value for i, value in u.items() if value > 0}


def _answer(G: list[list[int]], h: list[int], u: dict[int, Fraction]) -> Shortest:
    rest = 1 - sum(h[i] * value for i, value in u.items())
    if rest == 0:
        return Shortest(None, list(u))
    x = [sum((G[i][k] * value for i, value in u.items()), Fraction(0)) / rest for k in range(len(G[0]))]
    return Shortest(x, list(u))
