"""Basis pursuit with an l_inf noise bound, an unknown of any sign, and off rows held within the bound.

In the letters of Lei, Jalal, Dhillon and Dimakis, the rows of their l_inf linear program for a ReLU layer with output x
and threshold epsilon, for the first layer, whose z is free:

    minimise    delta
    subject to  | w_i'z - x_i | <= delta  where x_i > epsilon,   w_i'z <= x_i + delta  elsewhere,   delta <= epsilon

Here the radius delta is given and among the z within it the one of least l1 norm is sought, as in basis pursuit:

    minimise    |h|_1                                                                         (P)
    subject to  sqrt(weight_i) |W h + b - y|_i <= eps  for i in on,   (W h + b)_i <= eps  for i in off

    z -> h,  x -> y,  w_i -> row i of W,  delta -> eps,  {x_i > epsilon} -> on,  the others -> off

Differences from the paper: the objective; a bias, w_i'z becomes (W h + b)_i; an off row stands for an output of zero, so
x_i + delta becomes eps; an on row may have a weight, an off row has none; a row in neither on nor off was not seen and
stands nowhere. The layer's l2 counterpart (`basis_pursuit_l2.py`) leaves an off row no slack, this problem leaves it eps:
an output of zero that noise of size eps hides.

Optimality, used in the working below: this is a linear program, and h is optimal if it is feasible and there is p, zero on
unseen rows, with

    p_i > 0 only where row i is at its upper end,   p_i < 0 only where an on row is at its lower end,   p_off >= 0,
    (W'p)_j = -sign(h_j) wherever h_j is not 0,   |W'p|_j <= 1 everywhere

and then   |h|_1 = p_on'(b - y)_on + p_off'b_off - eps ( sum_on |p_i| / sqrt(weight_i) + sum_off p_i ).
Infeasible means a ray: p with W'p = 0, p_off >= 0, p = 0 on unseen rows and the right-hand side above positive: for a
feasible h, p'(W h + b) = p'b would be at most p_on'y_on + eps ( sum_on |p_i| / sqrt(weight_i) + sum_off p_i ).

Source: Lei, Jalal, Dhillon, Dimakis, Inverting Deep Generative Models, One Layer at a Time, 2019, Algorithm 1, for the
rows, set down here from a description of its steps; the l1 objective is added.

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, box, instance, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve the linear program with the paper's rows; gives (infinity, None) where nothing is feasible."""
    on, off, delta = instance.on, instance.off, instance.penalty
    x = instance.y[on]

    z = cp.Variable(instance.W.shape[1])
    wz = instance.W @ z + instance.b
    problem = cp.Problem(
        cp.Minimize(cp.norm1(z)),
        [cp.abs(wz[on] - x) <= delta / np.sqrt(instance.weight[on]), wz[off] <= delta],
    )
    problem.solve(**TIGHT)
    return float(problem.value), z.value


# ---- instances: the box alone ------------------------------------------------------------------------------


def each_entry_by_itself() -> Instance:
    """Each row has the whole eps to itself: every entry moves eps towards zero and stops there.

    W_on = I, y = (3, -2, 1/2), eps = 1: h = (2, -1, 0). p = (-1, 1, 0). value = 3. Dual: 3 + 2 - 2 = 3.
    The unseen row h1 + h2 + h3 with y = 9 would be missed by 8.
    """
    return instance(
        "each_entry_by_itself",
        "on on unseen on",
        W=[[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]],
        b=[0, 0, 0, 0],
        y=[3, -2, 9, 1 / 2],
        eps=1,
        answer=[2, -1, 0],
        value=3,
    )


def worst_row_rules() -> Instance:
    """One row alone decides, the mean does not matter, and the misfit says nothing about p.

    Rows h, h, h against (4, 6, 5), eps = 2: h in [2, 6], [4, 8], [3, 7], so h = 4. p = (0, -1, 0), the misfit is
    (0, -2, -1). value = 4. Dual: 6 - 2 = 4.
    """
    return instance(
        "worst_row_rules",
        "on on on",
        W=[[1], [1], [1]],
        b=[0, 0, 0],
        y=[4, 6, 5],
        eps=2,
        answer=[4],
        value=4,
    )


def corner_of_two_rows() -> Instance:
    """Two rows at their ends, one upper and one lower, fix h at a corner; biases shift both.

    Rows 2 h1 + h2 + 1 and h1 + 3 h2 - 1 against y = (3, -4), eps = 1. Signs (+, -): 2 p1 + p2 = -1, p1 + 3 p2 = 1, so
    p = (-4/5, 3/5): row 1 at its lower end 2, row 2 at its upper end -3: 2 h1 + h2 = 1, h1 + 3 h2 = -2, h = (1, -1).
    value = 2. Dual: (4/5)(2) + (3/5)(3) - 7/5 = 8/5 + 9/5 - 7/5 = 2.
    """
    return instance(
        "corner_of_two_rows",
        "on on",
        W=[[2, 1], [1, 3]],
        b=[1, -1],
        y=[3, -4],
        eps=1,
        answer=[1, -1],
        value=2,
    )


def larger_of_sum_and_difference() -> Instance:
    """Only one row is at its end and h slides along it at no cost.

    Rows s = h1 + h2 in [3, 7] and d = h1 - h2 in [5, 9]; |h1| + |h2| = max(|s|, |d|) = 5 at d = 5 for every s in [3, 5]:
    from (4, -1) to (5, 0), noted is the latter. p = (0, -1). value = 5. Dual: 7 - 2 = 5.
    """
    return instance(
        "larger_of_sum_and_difference",
        "on on",
        W=[[1, 1], [1, -1]],
        b=[0, 0],
        y=[5, 7],
        eps=2,
        answer=[5, 0],
        value=5,
        unique=False,
    )


def large_eps() -> Instance:
    """Where the bias alone is within eps of y in every row, h = 0, the tie included.

    b - y = (-3, -4), eps = 4: row 2 stands at its end. p = 0. value = 0. The l2 bound with the same eps would not hold.
    """
    return instance("large_eps", "on on", W=[[1, 2], [2, 1]], b=[1, 0], y=[4, 4], eps=4, answer=[0, 0], value=0)


def weights() -> Instance:
    """A row of weight 4 is held twice as tightly.

    W = I, y = (3, -3), weight (4, 1), eps = 1: h = (5/2, -2). p = (-1, 1). value = 9/2. Dual: 6 - (1/2 + 1) = 9/2.
    """
    return instance(
        "weights",
        "on on",
        W=[[1, 0], [0, 1]],
        b=[0, 0],
        y=[3, -3],
        weight=[4, 1],
        eps=1,
        answer=[5 / 2, -2],
        value=9 / 2,
    )


# ---- instances: fewer rows than unknowns -------------------------------------------------------------------


def column_that_serves_two_rows() -> Instance:
    """Fewer rows than unknowns: the longest column serves both rows, and only one of them asks for more.

    Rows h1 + 2 h3 in [3, 5] and h2 + 3 h3 in [6, 8]: h = (0, 0, 2) stands at 4 and 6. p = (0, -1/3),
    W'p = (0, -1/3, -1). value = 2. Dual: 7/3 - 1/3 = 2.
    """
    return instance(
        "column_that_serves_two_rows",
        "on on",
        W=[[1, 0, 2], [0, 1, 3]],
        b=[0, 0],
        y=[4, 7],
        eps=1,
        answer=[0, 0, 2],
        value=2,
    )


def eps0_longest_column() -> Instance:
    """Basis pursuit itself: with eps = 0 and one row the longest column is bought, here with a negative sign.

    h1 + 2 h2 - 4 h3 = 8: p = -1/4, W'p = (-1/4, -1/2, 1), so h = (0, 0, -2). value = 2. Dual: 8/4 = 2.
    With h >= 0 it would be (0, 4, 0).
    """
    return instance("eps0_longest_column", "on", W=[[1, 2, -4]], b=[0], y=[8], eps=0, answer=[0, 0, -2], value=2)


# ---- instances: off rows -----------------------------------------------------------------------------------


def off_row_has_eps_too() -> Instance:
    """An off row caps the cheaper column at eps, not at zero.

    2 h1 + h2 against y = 9, eps = 1, off row h1 - 2 <= 1: h1 = 3, h2 = 2. p = (-1, 1): W'p = (-1, -1). value = 5.
    Dual: 9 - 2 - (1 + 1) = 5. Held at zero it would give h = (2, 4) of value 6.
    """
    return instance(
        "off_row_has_eps_too",
        "on off",
        W=[[2, 1], [1, 0]],
        b=[0, -2],
        y=[9, 0],
        eps=1,
        answer=[3, 2],
        value=5,
    )


def off_row_pushes_up() -> Instance:
    """An off row can push an entry away from zero, against the l1 norm.

    W_on = I, y = (6, 4), eps = 1, off row h1 - h2 <= 1. Without it h = (5, 3). With it h2 >= h1 - 1: h = (5, 4).
    p = (-2, 0, 1): W'p = (-1, -1). value = 9. Dual: 12 - (2 + 1) = 9.
    """
    return instance(
        "off_row_pushes_up",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        y=[6, 4, 0],
        eps=1,
        answer=[5, 4],
        value=9,
    )


def one_feasible_point() -> Instance:
    """The box and the off row touch in one point: h is settled, p is not, and nothing lies inside.

    As off_row_pushes_up with y = (6, 3): h1 >= 5, h2 <= 4 and h1 - h2 <= 1 leave h = (5, 4). p = (-1 - q, q - 1, q) for
    every q >= 1. value = 9. Dual: 6 (1 + q) - 3 (q - 1) - ((1 + q) + (q - 1) + q) = 9 + 3 q - 3 q = 9.
    """
    return instance(
        "one_feasible_point",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        y=[6, 3, 0],
        eps=1,
        answer=[5, 4],
        value=9,
    )


def two_off_rows_bind() -> Instance:
    """Two off rows cap the cheap columns, with different multipliers; the dearest column pays the rest.

    4 h1 + 2 h2 + h3 against y = 18, eps = 1, off rows h1 - 2 <= 1 and h2 - 1 <= 1: h = (3, 2, 1).
    p = (-1, 3, 1): W'p = (-4 + 3, -2 + 1, -1). value = 6. Dual: 18 - 6 - 1 - (1 + 3 + 1) = 6.
    """
    return instance(
        "two_off_rows_bind",
        "on off off",
        W=[[4, 2, 1], [1, 0, 0], [0, 1, 0]],
        b=[0, -2, -1],
        y=[18, 0, 0],
        eps=1,
        answer=[3, 2, 1],
        value=6,
    )


def off_row_with_positive_bias() -> Instance:
    """A bias above eps on an off row makes h = 0 infeasible: both entries are pushed below zero.

    On row h2 against 0, eps = 1, off row h1 + 2 h2 + 4 <= 1. h2 is cheaper and stops at -1; h1 = -1.
    p = (-1, 1): W'p = (1, -1 + 2). value = 2. Dual: 4 - (1 + 1) = 2. No h >= 0 is feasible.
    """
    return instance(
        "off_row_with_positive_bias",
        "on off",
        W=[[0, 1], [1, 2]],
        b=[0, 4],
        y=[0, 0],
        eps=1,
        answer=[-1, -1],
        value=2,
    )


def off_rows_that_eps_reconciles() -> Instance:
    """Off rows that contradict each other are reconciled by a large enough eps, and there are no on rows.

    h - 1 <= eps and 4 - h <= eps with eps = 3/2: h = 5/2 and nothing else. p = (0, 1). value = 5/2. Dual: 4 - 3/2 = 5/2.
    """
    return instance(
        "off_rows_that_eps_reconciles",
        "off off",
        W=[[1], [-1]],
        b=[-1, 4],
        y=[0, 0],
        eps=3 / 2,
        answer=[5 / 2],
        value=5 / 2,
    )


def everything_at_once() -> Instance:
    """On rows of different weight and bias, an off row that binds and an unseen row, in mixed order.

    Row 1 (off) 2 h1 - h2 - 4 <= 1; row 2 (on, weight 4) |h1/2 + 1 - 4| <= 1/2, h1 in [5, 7]; row 3 (unseen); row 4 (on)
    |-h2 - 1 + 6| <= 1, h2 in [4, 6]. h1 = 5 and h2 >= 2 h1 - 5: h = (5, 5). p = (1, -6, 0, 0): W'p = (2 - 3, -1).
    value = 10. Dual: -4 + 6 (3) - (1 + 6/2) = 10.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[2, -1], [1 / 2, 0], [3, -7], [0, -1]],
        b=[-4, 1, 5, -1],
        y=[0, 4, 1, -6],
        weight=[1, 4, 1, 1],
        eps=1,
        answer=[5, 5],
        value=10,
    )


# ---- instances: nothing feasible ---------------------------------------------------------------------------


def infeasible_rows() -> Instance:
    """Two on rows that are farther apart than eps allows: h in [-1, 1] and h in [2, 4].

    p = (1, -1): W'p = 0 and p'(b - y) - eps (1 + 1) = 3 - 2 = 1 > 0.
    """
    return instance(
        "infeasible_rows",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 3],
        eps=1,
        answer=None,
        value=np.inf,
        ray=[1, -1],
    )


def infeasible_by_weight() -> Instance:
    """The same rows at eps = 2 would do, but for a weight: h in [-2, 2] and, with weight 16, h in [5/2, 7/2].

    p = (1, -1): W'p = 0 and p'(b - y) - 2 (1 + 1/4) = 3 - 5/2 = 1/2 > 0.
    """
    return instance(
        "infeasible_by_weight",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 3],
        weight=[1, 16],
        eps=2,
        answer=None,
        value=np.inf,
        ray=[1, -1],
    )


def infeasible_off_rows() -> Instance:
    """Off rows that contradict each other by more than 2 eps: h1 + h2 - 1 <= 1 and 4 - h1 - h2 <= 1.

    p = (0, 1, 1): W'p = (1, 1) + (-1, -1) = 0 and -1 + 4 - (1 + 1) = 1 > 0.
    """
    return instance(
        "infeasible_off_rows",
        "on off off",
        W=[[1, 0], [1, 1], [-1, -1]],
        b=[0, -1, 4],
        y=[1, 0, 0],
        eps=1,
        answer=None,
        value=np.inf,
        ray=[0, 1, 1],
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    each_entry_by_itself,
    worst_row_rules,
    corner_of_two_rows,
    larger_of_sum_and_difference,
    large_eps,
    weights,
    column_that_serves_two_rows,
    eps0_longest_column,
    off_row_has_eps_too,
    off_row_pushes_up,
    one_feasible_point,
    two_off_rows_bind,
    off_row_with_positive_bias,
    off_rows_that_eps_reconciles,
    everything_at_once,
    infeasible_rows,
    infeasible_by_weight,
    infeasible_off_rows,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b, y, eps = instance.W, instance.b, instance.y, instance.penalty
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    rows = [f"|{affine([*W[i], b[i], -y[i]], h)}|" for i in range(len(y))]
    conditions = [f"{rows[i]} <= {eps / instance.weight[i] ** 0.5:g}" for i in np.flatnonzero(instance.on)]
    conditions += [f"{affine([*W[i], b[i]], h)} <= {eps:g}" for i in np.flatnonzero(instance.off)]
    return f"minimise    {' + '.join(f'|{h_j}|' for h_j in h)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: cp.norm1(x), nonnegative=False, ends=box)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="BasisPursuitLinf")
