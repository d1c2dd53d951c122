"""What is wrong with a claim: the verdict on one signal's point against what exact arithmetic knows of it.

A claim is false if (kinds as counted in the tables)

    above       optimal, and the objective exceeds the optimum by more than is allowed
    below       optimal and two-sided, and the objective lies below the optimum by more than is allowed
    no optimum  optimal and two-sided, and no h is feasible, though some h breaks no bound by more than tol s_y
    row         optimal, and a row's excess is more than tol s_y
    row size    optimal, and a row's excess is more than tol times what is added up in that row
    ball        optimal, and the l2 bound is exceeded by more than tol eps + 1e-10 s_y
    sign        optimal, and an entry of h is below -tol max|h| where h >= 0 is asked
    hopeless    optimal, and every h breaks some bound by more than tol s_y
    bound       any status, without a scope: the stated lower bound is above the optimum
    feasible    infeasible, and an h within the stated scope breaks no bound by more than tol s_y
    silent      optimal with a finite scope, or with a broken row that no h can move, and no remark that says so
    misstated   any status, the excess that is stated of a row is not the exact one, beyond rounding
    no number   numerical_error of a finite point

`allowed` is computed here, from the exact objective; what float64 may lose of the objective or of an excess is not held
against a claim, and counted apart ("rounding"). So are claims with a finite scope whose optimum lies outside of it
("scoped"), and one-sided ones whose objective lies below the optimum by more than is allowed ("one-sided").
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite

import numpy as np
from exact import TOL, ExactProblem, Truth, Weighed

import cvxinv as ci

FALSE = (
    "above",
    "below",
    "no optimum",
    "row",
    "row size",
    "ball",
    "sign",
    "hopeless",
    "bound",
    "feasible",
    "silent",
    "no number",
)
APART = ("rounding", "scoped", "one-sided")
_MORE = 1 + Fraction(1, 10**6)  # a threshold is met to six digits
_FAR = 1e8  # the default scope of `infeasible`: so many times (s_y + |b|) / |W|


@dataclass(frozen=True)
class Claim:
    """A certificate's word on one signal."""

    status: str
    objective: float
    bound: float
    two_sided: bool
    scope: float
    remark: str
    violations: np.ndarray | None = None


def claims_of(certificate: ci.Certificate) -> list[Claim]:
    """The claims of a certificate. One that does not speak of sides or scopes says it of both sides and everywhere."""
    N = len(certificate)
    sides = np.asarray(getattr(certificate, "two_sided", np.ones(N, bool)))
    scopes = np.asarray(getattr(certificate, "scope", np.full(N, np.nan)), dtype=float)
    broken, found = getattr(certificate, "violations", None), []
    for i in range(N):
        remark = certificate.remark[i]
        # before scopes were stated, the remark alone said that a bound has one
        scope = scopes[i] if not np.isnan(scopes[i]) else np.nan if "holds for" in remark else inf
        values = float(certificate.objective[i]), float(certificate.bound[i])
        found.append(
            Claim(
                str(certificate.status[i]),
                *values,
                bool(sides[i]),
                float(scope),
                remark,
                None if broken is None else np.asarray(broken[i]),
            )
        )
    return found


def allowed_gap(problem: ExactProblem, i: int, objective: Fraction) -> Fraction:
    """max(tol |objective|, floor): (1e-10 s_y)^2 / 2 for squared misfits, tol 1e-10 s_y / |W| for basis pursuits."""
    near = Fraction(1e-10) * problem.scales[i][1]
    floor = near * near / 2 if problem.form == "quadratic" else TOL * near / Fraction(problem.norm)
    return max(TOL * abs(objective), floor) * _MORE


def faults(problem: ExactProblem, i: int, claim: Claim, weighed: Weighed | None, truth: Truth) -> list[str]:
    """The kinds of what is wrong with a claim, and what is counted apart; `weighed` is None for an h that is not finite."""
    found = []
    if claim.status == "numerical_error":
        return ["no number"] if weighed is not None else []
    if claim.scope == inf and claim.status != "infeasible" and isfinite(claim.bound) and claim.bound > truth.upper:
        found.append("bound")
    if claim.bound == inf and truth.upper < inf:
        found.append("bound")
    if claim.status == "infeasible":
        return [*found, *_of_infeasible(problem, i, claim, truth)]
    if claim.status == "optimal" and weighed is not None:
        found += _of_violations(problem, i, weighed)
        found += _of_objective(problem, i, claim, weighed, truth)
        found += ["hopeless"] if truth.apart > TOL * problem.scales[i][1] * _MORE else []
        silent = claim.scope != inf or bool(weighed.excess.keys() & problem.dropped(i))
        found += ["silent"] if silent and not claim.remark else []
    if weighed is not None and claim.violations is not None:
        found += ["misstated"] if _misstated(problem, i, claim.violations, weighed) else []
    return found


def _misstated(problem: ExactProblem, i: int, stated: np.ndarray, weighed: Weighed) -> bool:
    """Whether a row's stated excess is wrong. A row that no h can move may be left out; in a ball the on rows have none."""
    u = Fraction(2) ** -52 * (len(problem.W.k[0]) + 8)
    for row in np.flatnonzero(~problem.dead & (problem.off[i] | (problem.on[i] & (problem.form == "interval")))):
        excess, size = weighed.excess.get(int(row), (Fraction(0), None))
        value = float(stated[row])
        if not isfinite(value):
            return True
        if value == 0 and size is None:
            continue
        size = problem.size(i, int(row), weighed) if size is None else size
        if abs(Fraction(value) - excess) > u * size:
            return True
    return False


def _of_infeasible(problem: ExactProblem, i: int, claim: Claim, truth: Truth) -> list[str]:
    if truth.worst > TOL * problem.scales[i][0]:
        return []
    reach = claim.scope
    if not hasattr(ci.Certificate, "scope") and "scope" not in ci.Certificate.__dataclass_fields__:
        b = float(np.linalg.norm(problem.b[i].floats()))
        reach = _FAR * (float(problem.scales[i][0]) + b) / problem.norm
    inside = reach == inf or (isfinite(reach) and truth.length2 < Fraction(reach) ** 2)
    return ["feasible"] if inside else ["scoped"]


def _over(value: Fraction, most: Fraction, doubt: Fraction, kind: str) -> list[str]:
    """`kind` if value exceeds most by more than rounding, "rounding" if by no more than that."""
    if value <= most * _MORE:
        return []
    return ["rounding"] if value <= most * _MORE + doubt else [kind]


def _of_violations(problem: ExactProblem, i: int, weighed: Weighed) -> list[str]:
    scale, u = problem.scales[i][1], Fraction(2) ** -52 * (len(problem.W.k[0]) + 8)
    dropped = problem.dropped(i) if weighed.excess else set()
    found = []
    for row, (excess, size) in weighed.excess.items():
        if row in dropped:
            continue
        found += _over(excess, TOL * scale, u * size, "row")
        found += _over(excess, TOL * size, u * size, "row size")
    if problem.form == "ball":
        most = TOL * problem.eps.fraction(i) + Fraction(1e-10) * scale
        found += _over(weighed.ball, most, weighed.ball_doubt, "ball")
    if problem.nonnegative:
        found += _over(weighed.below, TOL * weighed.top, Fraction(0), "sign")
    return list(dict.fromkeys(found))


def _of_objective(problem: ExactProblem, i: int, claim: Claim, weighed: Weighed, truth: Truth) -> list[str]:
    f, allowed = weighed.objective, allowed_gap(problem, i, weighed.objective)
    if truth.upper < f - allowed:
        if claim.scope != inf and not (isfinite(claim.scope) and truth.length2 <= Fraction(claim.scope) ** 2):
            return ["scoped"]
        return ["rounding"] if truth.upper >= f - allowed - weighed.doubt else ["above"]
    if truth.lower > f + allowed:
        if not claim.two_sided:
            return ["one-sided"]
        if truth.lower == inf:
            return ["no optimum"]
        return ["rounding"] if truth.lower <= f + allowed + weighed.doubt else ["below"]
    return []
