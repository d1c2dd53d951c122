"""Check certificate files of fits in exact arithmetic: what costs is how far rows are from their data, and nothing else.

Beside check.py, whose inequalities hold here too; check_inversion.py reads these files. A fit asks for the least F(W h + b),
some with h >= 0. With e_i = w_i^(1/2) |v - y|_i on the on rows and e_i = max(v_i, 0) on the off rows, F is

largest   max_i e_i      F*(p) = p'y where sum_on |p_i| / w_i^(1/2) + sum_off p_i <= 1
sum       sum_i e_i      F*(p) = p'y where |p_i| <= w_i^(1/2) on the on rows, p_i <= 1 on the off rows
rooms     sum_on e_i     F*(p) = p'y where p_i >= -w_i^(1/2) on the on rows; v <= y there, v <= 0 on the off rows

and p_i >= 0 on the off rows, y_i = 0. p is clipped to that, of `largest` scaled. As h costs nothing it proves f(z) >= p'(b -
y) + (W'p)'z: a bound for |z| <= scope, and for every z where W'p = 0, or W'p >= 0 and h >= 0. (b) allows max(tol f, 1e-10
s_y). Only rooms limit rows, and can be `infeasible`, by a p >= 0.
"""

from fractions import Fraction
from typing import Any

try:
    from .check import BEYOND, BITS, ONE, ZERO, Matrix, Signal, Verdict, layer, need, root
except ImportError:  # alone
    from check import BEYOND, BITS, ONE, ZERO, Matrix, Signal, Verdict, layer, need, root  # type: ignore[no-redef]

FITS = {  # F, whether h >= 0, and no number
    "LinfFit": ("largest", False, ""), "NonnegativeLinfFit": ("largest", True, ""),
    "L1Fit": ("sum", False, ""), "NonnegativeL1Fit": ("sum", True, ""),
    "RelaxedFit": ("rooms", False, ""), "NonnegativeRelaxedFit": ("rooms", True, ""),
}  # fmt: skip


def claims(data: dict[str, Any]) -> list[Verdict]:
    """The verdicts on the claims of a fit."""
    return layer(data, FITS, Fit)


class Fit(Signal):
    """One signal's fit: p where F* is finite, and F."""

    def __init__(self, W: Matrix, kind: tuple[str, bool, str], marks: str, one: dict[str, Any], ray: bool) -> None:
        super().__init__(W, kind, marks, one | {"p": _clipped(kind[0], marks, one, ray)}, ray)
        top = {"+": "y" if kind[0] == "rooms" else "open", "-": "0", ".": "open"}
        for row in self.rows:
            end = {"y": row.y, "open": BEYOND, "0": ZERO}[top[row.mark]]
            need(row.hi == end and row.lo == -BEYOND, "limits of a fit as documented")
        # from above, as what is rounded is against the claim
        e = [root(row.weight, True) * abs(row.v - row.y) if row.weight else row.excess for row in self.rows]
        if kind[0] == "rooms":
            self.cost = sum((e[r] for r, row in enumerate(self.rows) if row.weight), ZERO)
        else:
            self.cost = max(e) if kind[0] == "largest" else sum(e, ZERO)
            for row in self.rows:
                row.excess = ZERO  # it is paid for
        self.lam = self.length = ZERO
        self.unit, self.price = ONE, sum((abs(row.p) for row in self.rows), ZERO)


def _clipped(form: str, marks: str, one: dict[str, Any], ray: bool) -> list[Fraction]:
    """p where F* is finite; ray: where it is 0 along all multiples of p."""
    p, weight = ([Fraction(x) for x in one[key]] for key in ("p", "weight"))
    most = [{"+": root(w), "-": ONE, ".": ZERO}[mark] for w, mark in zip(weight, marks, strict=True)]
    p = [{"+": x, "-": max(x, ZERO), ".": ZERO}[mark] for x, mark in zip(p, marks, strict=True)]
    if ray:
        return [max(x, ZERO) if form == "rooms" else ZERO for x in p]
    if form == "rooms":
        return [max(x, -end) for x, end in zip(p, most, strict=True)]
    if form == "sum":
        return [max(-end, min(x, end)) for x, end in zip(p, most, strict=True)]
    length = sum((_quotient(abs(x), end, up=True) for x, end in zip(p, most, strict=True) if x), ZERO)
    s = _quotient(ONE, length) if length > 1 else ONE
    return [s * x for x in p]


def _quotient(x: Fraction, y: Fraction, up: bool = False) -> Fraction:
    """x / y of x >= 0 and y > 0, at 2^-256 from below or above."""
    q = x / y
    return Fraction((q.numerator << BITS) // q.denominator + up, 1 << BITS)
