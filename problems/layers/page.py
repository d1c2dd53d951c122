"""What the files beside this one share: the form of an instance, and the page that each of them prints as a script.

No problem stands here. A file beside it holds one: its equation, its instances with their working, and how it is printed.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import cvxpy as cp
import numpy as np

# On a round ball CLARABEL may stop a little short of this and warn; the hand answers judge what it reached.
TIGHT = {"solver": "CLARABEL", "tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}


@dataclass(frozen=True, eq=False)
class Instance:
    """A layer problem of one signal with the answer worked out on paper.

    W (m, n), b, y, weight (m,), on and off (m,) bool; penalty: lam, gamma or eps, whatever the problem calls it, None for a
    problem without a number; answer (n,)
    with its value, or None and infinity where nothing is feasible, and then a ray (m,) proves it. unique: no other h has
    that value. lo and hi (m,), -inf and inf allowed: the ends of intervals, None elsewhere; a problem with intervals reads
    neither y (0 here) nor weight (1) nor penalty.
    """

    name: str
    W: np.ndarray
    b: np.ndarray
    y: np.ndarray
    on: np.ndarray
    off: np.ndarray
    weight: np.ndarray
    penalty: float | None
    answer: np.ndarray | None
    value: float
    unique: bool
    ray: np.ndarray | None
    lo: np.ndarray | None = None
    hi: np.ndarray | None = None

    @property
    def numbers(self) -> tuple[np.ndarray | float, ...]:
        """What the problem's class takes after the rows: both ends, or the penalty, or nothing."""
        if self.lo is not None and self.hi is not None:
            return self.lo, self.hi
        return () if self.penalty is None else (self.penalty,)


def instance(
    name: str,
    rows: str,
    W: list[list[float]],
    b: list[float],
    y: list[float] | None = None,
    *,
    answer: list[float] | None,
    value: float,
    weight: list[float] | None = None,
    unique: bool = True,
    ray: list[float] | None = None,
    lo: list[float] | None = None,
    hi: list[float] | None = None,
    **penalty: float,
) -> Instance:
    """Write an instance as one reads it; rows says "on", "off" or "unseen" of each row, penalty is `lam=1`, `eps=0`, ..."""
    kinds = np.array(rows.split())
    (number,) = penalty.values() or (None,)
    return Instance(
        name=name,
        W=np.array(W, dtype=float),
        b=np.array(b, dtype=float),
        y=np.zeros(len(kinds)) if y is None else np.array(y, dtype=float),
        on=kinds == "on",
        off=kinds == "off",
        weight=np.ones(len(kinds)) if weight is None else np.array(weight, dtype=float),
        penalty=None if number is None else float(number),
        answer=None if answer is None else np.array(answer, dtype=float),
        value=float(value),
        unique=unique and answer is not None,
        ray=None if ray is None else np.array(ray, dtype=float),
        lo=None if lo is None else np.array(lo, dtype=float),
        hi=None if hi is None else np.array(hi, dtype=float),
    )


# --- the problem once more, in a form that all of them share ------------------------------------------------


@dataclass(frozen=True)
class Form:
    """What hand answers are held against: what is minimised, whether h >= 0, and what is asked of the rows.

    objective(instance, x): a CVXPY expression. ends(instance): the lower and the upper end of the on rows, and the upper end
    of the off rows, infinite where nothing is asked. ball: the misfit is at most the penalty besides.
    """

    objective: Callable[[Instance, cp.Expression], cp.Expression]
    nonnegative: bool
    ends: Callable[[Instance], tuple]
    ball: bool = False


def misfit(instance: Instance, x: cp.Expression) -> cp.Expression:
    """sqrt(weight) (W x + b - y) on the on rows."""
    on = instance.on
    return cp.multiply(np.sqrt(instance.weight[on]), instance.W[on] @ x + instance.b[on] - instance.y[on])


def half_squares(instance: Instance, x: cp.Expression) -> cp.Expression:
    """1/2 sum weight (W x + b - y)^2 over the on rows."""
    return cp.sum(cp.square(misfit(instance, x))) / 2


def free(instance: Instance) -> tuple[float, float, float]:
    """Nothing is asked of any row."""
    return -np.inf, np.inf, np.inf


def off_below_zero(instance: Instance) -> tuple[float, float, float]:
    """Off rows are at most 0."""
    return -np.inf, np.inf, 0.0


def box(instance: Instance) -> tuple[np.ndarray, np.ndarray, float]:
    """The ends of the l_inf rows: y -+ eps/sqrt(weight) on the on rows, eps on the off rows."""
    y, radius = instance.y[instance.on], instance.penalty / np.sqrt(instance.weight[instance.on])
    return y - radius, y + radius, instance.penalty


# --- the page -----------------------------------------------------------------------------------------------


def affine(numbers: Sequence[float], letters: list[str]) -> str:
    """A weighted sum as one writes it, "h1 - 2 h2 + 1"; numbers beyond the letters are constants."""
    parts: list[str] = []
    for number, letter in zip_longest(numbers, letters, fillvalue=""):
        size = f"{abs(number):g} {letter}".strip() if abs(number) != 1 or not letter else letter
        parts += [f"{'-' if number < 0 else '+'} {size}"] if number else []
    return " ".join(parts).removeprefix("+ ")


def line(source: str, h: np.ndarray | None, *numbers: float, status: str = "") -> str:
    """One line of the table: who says it, h, then objective, bound, gap, violation as far as known."""
    shown = "none" if h is None else "(" + ", ".join(f"{h_j:.6f}" for h_j in h) + ")"
    columns = "".join(f"{number:>13.6g}" for number in numbers)
    return f"{source:<22}{shown:<32}{columns:<52}  {status}".rstrip()


def solved_lines(instance: Instance, kind: str) -> list[str]:
    """The exact and the fast solution of one instance, each with the certificate cvxinv gives it."""
    # Here and not above: the equation and the hand answers must be readable, and testable, without cvxinv.
    import torch

    import cvxinv as ci

    W, b, y, on, off, weight = (
        torch.as_tensor(part) for part in (instance.W, instance.b, instance.y, instance.on, instance.off, instance.weight)
    )
    rows = ci.Rows(ci.Dense(W), b, y[None], on[None], off[None], weight[None])
    numbers = (torch.as_tensor(part)[None] if isinstance(part, np.ndarray) else part for part in instance.numbers)
    problem = getattr(ci, kind)(rows, *numbers)
    lines = []
    for source, solver in (("exact (CLARABEL)", "CLARABEL"), ("fast (auto)", "auto")):
        solution = ci.solve(problem, solver=solver, on_fail="ignore")
        judged = solution.certificate
        said = (float(part[0]) for part in (judged.objective, judged.bound, judged.gap, judged.violation))
        lines.append(line(source, solution.h[0].numpy(), *said, status=str(judged.status[0])))
    return lines


def show(
    docstring: str | None,
    worked: Sequence[Callable[[], Instance]],
    equation: Callable[[Instance], str],
    transcription: Callable[[Instance], tuple[float, np.ndarray | None]],
    *,
    kind: str,
    letter: str = "h",
) -> None:
    """Print every instance: lesson, equation, hand answer, transcription, exact and fast solution.

    kind: the class in cvxinv. letter: of the unknown.
    """
    # CLARABEL says so at a tolerance of 1e-12, and is right to 2e-12 all the same: see the table's numbers
    warnings.filterwarnings("ignore", message="Solution may be inaccurate")
    print((docstring or "").strip())
    header = "".join(f"{word:>13}" for word in ("objective", "bound", "gap", "violation"))
    for work in worked:
        instance, lesson = work(), (work.__doc__ or "").splitlines()[0]
        print(f"\n{instance.name}: {lesson}\n\n{equation(instance)}\n")
        print(f"{'':<22}{letter:<32}{header}  status")
        known = "infeasible" if instance.answer is None else "" if instance.unique else "not unique"
        print(line("by hand", instance.answer, instance.value, status=known))
        value, x = transcription(instance)
        print(line("transcription", x, value))
        print("\n".join(solved_lines(instance, kind)))
