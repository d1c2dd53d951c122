"""Certificate files with one number changed, and whether what they claim is still true: nothing of `check.py` decides it.

Two families. *Separable* ones (`separable`): two signals of three unknowns, each unknown a problem of its own, whose optimum
is written down. *Drawn* ones (`soundness_cases`): their optimum is known; where the data changed, the new problem is solved
and its optimum settled in rationals (`exact`).
"""

import base64
import json
import random
import struct
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import torch
from exact import ExactProblem, Truth
from soundness_cases import Drawn, settled

import cvxinv as ci

KINDS = ("h", "p", "y", "W", "b", "mask", "status", "tol", "scope", "penalty")
DATA = ("y", "W", "b", "mask", "penalty")  # changes of these are changes of the problem
CLAIMS_NOTHING = ("user_limit", "numerical_error")
_TINY = Fraction(1, 10**10)  # of s_y


def numbers(text: str) -> list[Any]:
    """The numbers of an array of a file, exactly."""
    raw = base64.b64decode(text)
    return [Fraction(x) if abs(x) < inf else x for x in struct.unpack(f"<{len(raw) // 8}d", raw)]


def text(values: list[Any]) -> str:
    """Numbers as a file has them."""
    return base64.b64encode(struct.pack(f"<{len(values)}d", *map(float, values))).decode()


def times_of(status: str) -> int:
    """How many times its tolerance a status asks for."""
    return 1000 if status == "optimal_inaccurate" else 1


# --- changes --------------------------------------------------------------------------------------


def other(value: Fraction, draw: random.Random) -> Fraction:
    return value * Fraction(draw.choice([0.9, 1.0 + 1e-4, 1.3, -1.0])) + Fraction(draw.choice([0.0, 0.01]))


def penalty_of(content: dict[str, Any]) -> str:
    """The key of the number that weighs or bounds, "hi" where rows have ends instead."""
    return next((key for key in ("lam", "gamma", "eps") if key in content), "hi")


def mutate(content: dict[str, Any], what: str, draw: random.Random) -> dict[str, Any]:
    """A copy of the content of a file with one entry changed; what else must change with a mask bit does."""
    content = json.loads(json.dumps(content))
    N = content["shape"][0]
    if what == "penalty":
        what = penalty_of(content)
    if what in ("h", "p", "y", "W", "b", "weight", "lam", "gamma", "eps", "hi"):
        values = numbers(content[what])
        spots = [k for k, x in enumerate(values) if x] if what in ("W", "weight") else []
        k = draw.choice(spots or range(len(values)))
        old = values[k]
        values[k] = other(old, draw) if abs(old) < inf else draw.choice([0.3, 5.0])
        values[k] = abs(values[k]) if what in ("weight", "lam", "gamma", "eps") or (what == "W" and old > 0) else values[k]
        return content | {what: text(values)}
    if what == "mask":
        return _unseen(content, draw)
    if what == "status":
        return content | {"status": [_status(content["status"][0], draw), *content["status"][1:]]}
    if what == "tol":
        return content | {"tol": text([draw.choice([1e-3, 1e-9, 1e-13, 1e-30])] * N)}
    return content | {"scope": text([draw.choice([0.0, 1e-3, 1e3]), *numbers(content["scope"])[1:]])}


def _status(old: str, draw: random.Random) -> str:
    return draw.choice([s for s in ("optimal", "infeasible", "optimal_inaccurate", "stationary") if s != old])


def _unseen(content: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """One row of one signal is no longer seen."""
    N, m, _ = content["shape"]
    marks, k = content["rows"], draw.randrange(N * m)
    row = marks[k // m]
    marks[k // m] = row[: k % m] + "." + row[k % m + 1 :]
    for key, value in (("weight", 0), ("lo", -inf), ("hi", inf)):
        values = numbers(content[key])
        values[k] = value
        content[key] = text(values)
    return content


# --- separable ones -------------------------------------------------------------------------------


def separable(seed: int) -> ci.Solution:
    """Two signals of three unknowns, one on row and one off row each: every unknown is a problem of its own."""
    source = torch.Generator().manual_seed(seed)
    a = 0.5 + torch.rand(3, generator=source, dtype=torch.float64)
    W = torch.cat([torch.diag(a), torch.eye(3, dtype=torch.float64)])
    y = 2 * torch.randn(2, 6, generator=source, dtype=torch.float64)
    b = torch.cat([torch.zeros(3), -torch.rand(3, generator=source)]).double()
    on = torch.tensor([[True] * 3 + [False] * 3] * 2)
    rows = ci.Rows(ci.Dense(W), b, y, on, weight=0.5 + torch.rand(2, 6, generator=source, dtype=torch.float64))
    return ci.solve(ci.NonnegativeLasso(rows, 0.1))


def is_true(content: dict[str, Any], i: int) -> bool:
    """Whether signal i's claim on a separable problem holds, from the optimum of each unknown by itself."""
    status = content["status"][i]
    if status in CLAIMS_NOTHING:
        return True
    if status not in ("optimal", "optimal_inaccurate"):
        return False  # h = 0 is feasible where nothing was changed much: nothing is infeasible
    W, (b, y, w, lo, hi, h) = numbers(content["W"]), of_signal(content, i, "b y weight lo hi h")
    lam, tol, f, best = numbers(content["lam"])[i], numbers(content["tol"])[i] * times_of(status), Fraction(0), Fraction(0)
    square = sum((y[r] - b[r]) ** 2 for r, mark in enumerate(content["rows"][i]) if mark == "+")
    near, most = tol * Fraction(float(square) ** 0.5 * (1 + 1e-12)), tol * max(map(abs, h))
    for j in range(3):
        rows = [(j, W[4 * j]), (3 + j, W[9 + 4 * j])]
        low = max([Fraction(0), *((lo[r] - b[r]) / a for r, a in rows if lo[r] > -inf and a)])
        cap = min([Fraction(10**9), *((hi[r] - b[r]) / a for r, a in rows if hi[r] < inf and a)])
        steep, linear = sum(w[r] * a * a for r, a in rows), sum(w[r] * a * (y[r] - b[r]) for r, a in rows) - lam
        top = max(low, min(cap, linear / steep if steep else Fraction(0)))
        best += sum(w[r] * (a * top + b[r] - y[r]) ** 2 for r, a in rows) / 2 + lam * top
        f += sum(w[r] * (a * h[j] + b[r] - y[r]) ** 2 for r, a in rows) / 2 + lam * h[j]
        v = [(r, a * h[j] + b[r]) for r, a in rows]
        if h[j] < -most or any(x > hi[r] + near or x < lo[r] - near for r, x in v):
            return False
    return f - best <= max(tol * f, times_of(status) * _TINY**2 * square / 2)


def of_signal(content: dict[str, Any], i: int, keys: str) -> list[list[Any]]:
    """The numbers of signal i, key by key."""
    N, found = content["shape"][0], []
    for key in keys.split():
        values = numbers(content[key])
        found.append(values[len(values) // N * i : len(values) // N * (i + 1)])
    return found


# --- drawn ones -----------------------------------------------------------------------------------


def rebuilt(problem: ci.AbstractLayerProblem, content: dict[str, Any], what: str) -> ci.AbstractLayerProblem:
    """The problem that the changed file states. Raises ValueError where no layer problem is like that."""
    N, m, n = content["shape"]

    def tensor(key: str, *size: int) -> torch.Tensor:
        return torch.tensor([float(x) for x in numbers(content[key])], dtype=torch.float64).reshape(size)

    problem, marks = problem.to(torch.float64), np.array([list(row) for row in content["rows"]])
    old, on, off = problem.rows, torch.from_numpy(marks == "+"), torch.from_numpy(marks == "-")
    y = tensor("y", N, m) if problem.form != "interval" else old.y
    weight = torch.where(on, old.weight, 1.0)
    rows = ci.Rows(ci.Dense(tensor("W", m, n)), tensor("b", N, m), y, on, off, weight)
    name = penalty_of(content)
    if name != "hi":
        return type(problem)(rows, tensor(name, N))
    if isinstance(problem, ci.IntervalBasisPursuit):
        return ci.IntervalBasisPursuit(rows, tensor("lo", N, m), tensor("hi", N, m))
    if what == "penalty":
        raise ValueError(f"expected one bound for all rows of {type(problem).__name__}, got another end of one row")
    return type(problem)(rows, problem.eps)


def truth_of(drawn: Drawn, problem: ci.AbstractLayerProblem, exact: ExactProblem, i: int, changed: bool) -> Truth:
    """What is known of signal i: what was drawn, or what is settled from the points of two solvers."""
    if not changed and "real" not in drawn.features:
        return drawn.truths[i]
    part = problem.take(torch.tensor([i]))
    points = []
    for solver in ("auto", "CLARABEL"):
        solution = ci.solve(part, solver, on_fail="ignore", progress=False)
        points.append((solution.h[0].double().numpy(), solution.p[0].double().numpy()))
    return settled(exact, i, points)


def is_false(exact: ExactProblem, i: int, content: dict[str, Any], truth: Truth) -> bool | None:
    """Whether signal i's claim is false; None where neither that nor the opposite is known."""
    status, scope = content["status"][i], float(numbers(content["scope"])[i])
    if status in CLAIMS_NOTHING:
        return False
    tol, s_y = numbers(content["tol"])[i], exact.scales[i][1]
    h, p = (np.array([float(x) for x in values]) for values in of_signal(content, i, "h p"))
    weighed = exact.weigh(i, h)
    inside = truth.upper < inf and (scope == inf or truth.length2 <= Fraction(scope) ** 2)
    if status == "infeasible":
        if inside or (weighed.worst_but(set()) <= tol * s_y and weighed.length2 <= _square(scope)):
            return True
        return False if max(truth.apart, exact.apart(i, p)) > tol * s_y else None
    if status not in ("optimal", "optimal_inaccurate"):
        return True
    times, f = times_of(status), weighed.objective
    excesses = [v for v, _ in weighed.excess.values()]
    if any(v > times * tol * s_y for v in excesses) or weighed.below > times * tol * weighed.top:
        return True
    if exact.form == "ball" and weighed.ball > times * (tol * exact.eps.fraction(i) + _TINY * s_y):
        return True
    if weighed.length2 > _square(scope):
        return True
    floor = (_TINY * s_y) ** 2 / 2 if exact.form == "quadratic" else tol * _TINY * s_y / _widest(exact)
    if truth.upper < f - times * max(tol * f, floor):
        return True if inside else None
    bound = exact.bound(i, p)
    lower = max(truth.lower, -inf if bound is None else bound)
    return False if lower >= f - times * max(tol * f, floor) else None


def _square(scope: float) -> Fraction | float:
    return inf if scope == inf else Fraction(scope) ** 2


def _widest(exact: ExactProblem) -> Fraction:
    """The longest row of W, a little short."""
    longest = max(int(x) for x in exact.row_lengths2) * exact.row_unit
    return Fraction(float(longest) ** 0.5 * (1 - 1e-12)) if longest else Fraction(1)
