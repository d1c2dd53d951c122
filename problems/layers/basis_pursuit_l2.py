"""Basis pursuit with an l2 noise bound, an unknown of any sign, and off rows.

In the letters of van den Berg and Friedlander, problem (BP_sigma):

    minimise    || x ||_1
    subject to  || A x - b ||_2 <= sigma

Algorithm 2 of Aberdam, Simon and Elad solves the same in its Lagrangian form, 1/2 || A x - b ||^2 + lambda || x ||_1
(`lasso.py`); this form takes the noise bound itself. The off rows are those of the Latent-Pursuit, equation (9) there:
where the ReLU behind the layer gave zero, W_i^{S^c} x <= 0.

In our letters, with both together and with what they leave out:

    minimise    |h|_1                                                                         (P)
    subject to  sqrt( sum_{i in on} weight_i (W h + b - y)_i^2 ) <= eps,   (W h + b)_i <= 0  for i in off

    x -> h,  A -> W_on,  b -> y_on,  sigma -> eps,  S^c -> off

Additions: a bias, A x becomes W x + b; a weight for each on row; a row in neither on nor off was not seen and stands
nowhere; eps = 0 is allowed and means W_on h + b_on = y_on.

Optimality, used in the working below: h is optimal if it is feasible and there is p, zero on unseen rows, with

    p_on = s weight (W_on h + b_on - y_on), s >= 0, s = 0 where the bound is slack (any p_on where eps = 0),
    p_off >= 0, zero on slack rows,
    (W'p)_j = -sign(h_j) wherever h_j is not 0,   |W'p|_j <= 1 everywhere

and then   |h|_1 = p_on'(b - y)_on + p_off'b_off - eps |p_on / sqrt(weight_on)|.
Infeasible means a ray: p with W'p = 0, p_off >= 0, p = 0 on unseen rows and the right-hand side above positive: for a
feasible h, p'(W h + b) = p'b would be at most p_on'y_on + eps |p_on / sqrt(weight_on)|.

Source: van den Berg, Friedlander, Probing the Pareto Frontier for Basis Pursuit Solutions, 2008, (BP_sigma); off rows:
Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted?, 2020, eq. (9).

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, instance, off_below_zero, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve (BP_sigma) with off rows as it stands in the papers; gives (infinity, None) where nothing is feasible."""
    S, Sc = instance.on, instance.off
    root_omega_S, sigma = np.sqrt(instance.weight[S]), instance.penalty
    A, b = instance.W[S], instance.y[S] - instance.b[S]
    W_Sc, b_Sc = instance.W[Sc], instance.b[Sc]

    x = cp.Variable(instance.W.shape[1])
    misfit = cp.multiply(root_omega_S, A @ x - b)
    # A ball of radius zero has no interior, which an interior point method needs.
    bound = cp.norm2(misfit) <= sigma if sigma > 0 else A @ x == b
    problem = cp.Problem(cp.Minimize(cp.norm1(x)), [bound, W_Sc @ x + b_Sc <= 0])
    problem.solve(**TIGHT)
    return float(problem.value), x.value


# ---- instances: the ball alone -----------------------------------------------------------------------------


def three_four_five() -> Instance:
    """The bound is spent where a unit of misfit saves most l1 norm: on the row with the longer way to y, 4 to 3.

    Rows 3 h1 and 4 h2 against y = (10, 11), eps = 5. Both positive: p = (-1/3, -1/4), along (-4, -3), so the misfit is
    (-4, -3) and W h = (6, 8): h = (2, 2). value = 4.
    Dual: 10/3 + 11/4 - 5 (5/12) = 73/12 - 25/12 = 4.
    """
    return instance(
        "three_four_five",
        "on on",
        W=[[3, 0], [0, 4]],
        b=[0, 0],
        y=[10, 11],
        eps=5,
        answer=[2, 2],
        value=4,
    )


def both_signs() -> Instance:
    """With equal columns every entry moves equally far towards zero, from either side; an unseen row does not matter.

    W_on = I, y = (5, -3), eps = sqrt(2): p = (-1, 1), so the misfit is (-1, 1) and h = (4, -2). value = 6.
    Dual: 5 + 3 - sqrt(2) sqrt(2) = 6. The unseen row h1 + h2 - 7 with y = 9 would be missed by 14.
    """
    return instance(
        "both_signs",
        "on unseen on",
        W=[[1, 0], [1, 1], [0, 1]],
        b=[0, -7, 0],
        y=[5, 9, -3],
        eps=np.sqrt(2),
        answer=[4, -2],
        value=6,
    )


def small_entry_is_given_up() -> Instance:
    """An entry that is not worth its price is zero, and its whole y is paid from the bound.

    W = I, y = (6, 3), eps = 5: misfit (-4, -3), h = (2, 0). p = (-1, -3/4), |W'p|_2 = 3/4 <= 1. value = 2.
    Dual: 6 + 9/4 - 5 (5/4) = 2.
    """
    return instance(
        "small_entry_is_given_up",
        "on on",
        W=[[1, 0], [0, 1]],
        b=[0, 0],
        y=[6, 3],
        eps=5,
        answer=[2, 0],
        value=2,
    )


def tie_of_a_third_column() -> Instance:
    """A column with |W'p| = 1 that is not used: the dual sees a tie, the ball has none, because it is round.

    As small_entry_is_given_up with a third column (1/4, 1): with p = (-1, -3/4), (W'p)_3 = -1/4 - 3/4 = -1. Any optimum
    has the misfit along p, so W h = (2, 0) and h1 + |h2| + |h3| = 2. h3 = -h2 in the second row, h1 = 2 + h2/4 in the
    first, so 2 + h2/4 + 2 |h2| = 2 and h2 = 0: h = (2, 0, 0). value = 2.
    """
    return instance(
        "tie_of_a_third_column",
        "on on",
        W=[[1, 0, 1 / 4], [0, 1, 1]],
        b=[0, 0],
        y=[6, 3],
        eps=5,
        answer=[2, 0, 0],
        value=2,
    )


def large_eps() -> Instance:
    """Where the bias alone is within eps of y, nothing need be explained and h = 0.

    b - y = (-3, -4) has norm 5 < 11/2. value = 0. Without the bias |y| = 4 sqrt(2) > 11/2 and h = 0 is infeasible.
    """
    return instance("large_eps", "on on", W=[[1, 2], [2, 1]], b=[1, 0], y=[4, 4], eps=11 / 2, answer=[0, 0], value=0)


def bias_and_weight() -> Instance:
    """A row of weight 4 is bound by eps/2, around y minus its bias.

    One row 2h + 1 against y = -6, weight 4, eps = 2: |2h + 7| <= 1, so h = -3, p = 1/2. value = 3.
    Dual: 1/2 (1 + 6) - 2 (1/4) = 3. Weight 1 would give 5/2, no bias another 5/2.
    """
    return instance("bias_and_weight", "on", W=[[2]], b=[1], y=[-6], weight=[4], eps=2, answer=[-3], value=3)


def weights() -> Instance:
    """The dual vector is along weight times misfit, the norm it is bounded in has 1/weight.

    W = I, weight (9, 16), eps = 6, y = (18/5, 29/10). Both positive: p = (-1, -1), so the misfit is along (16, 9):
    (-8/5, -9/10), and 9 (64/25) + 16 (81/100) = 36. h = (2, 2). value = 4.
    Dual: 18/5 + 29/10 - 6 |(1/3, 1/4)| = 13/2 - 6 (5/12) = 4.
    """
    return instance(
        "weights",
        "on on",
        W=[[1, 0], [0, 1]],
        b=[0, 0],
        y=[18 / 5, 29 / 10],
        weight=[9, 16],
        eps=6,
        answer=[2, 2],
        value=4,
    )


# ---- instances: fewer rows than unknowns -------------------------------------------------------------------


def column_that_serves_two_rows() -> Instance:
    """Fewer rows than unknowns: one column serves both rows, and overshoots the one for the sake of the other.

    Rows h1 + 2 h3 and h2 + 3 h3 against y = (1, 10), eps = 5. h3 = 2 misses by (3, -4). p = (1/2, -2/3):
    W'p = (1/2, -2/3, -1), so h = (0, 0, 2). value = 2. Dual: -1/2 + 20/3 - 5 (5/6) = 37/6 - 25/6 = 2.
    """
    return instance(
        "column_that_serves_two_rows",
        "on on",
        W=[[1, 0, 2], [0, 1, 3]],
        b=[0, 0],
        y=[1, 10],
        eps=5,
        answer=[0, 0, 2],
        value=2,
    )


def equal_columns() -> Instance:
    """With equal columns the value is settled and h is not.

    One row h1 + h2 against y = -3, eps = 1: h1 + h2 = -2, p = 1. value = 2, reached by every h <= 0 on that line; noted
    is its middle. Dual: 3 - 1 = 2.
    """
    return instance("equal_columns", "on", W=[[1, 1]], b=[0], y=[-3], eps=1, answer=[-1, -1], value=2, unique=False)


def eps0_longest_column() -> Instance:
    """Basis pursuit itself: with eps = 0 and one row the longest column is bought, here with a negative sign.

    h1 + 2 h2 - 4 h3 = 8: p = -1/4, W'p = (-1/4, -1/2, 1), so h = (0, 0, -2). value = 2. Dual: 8/4 = 2.
    With h >= 0 it would be (0, 4, 0).
    """
    return instance("eps0_longest_column", "on", W=[[1, 2, -4]], b=[0], y=[8], eps=0, answer=[0, 0, -2], value=2)


# ---- instances: off rows -----------------------------------------------------------------------------------


def eps0_off_row_binds() -> Instance:
    """Equality on the on row, and an off row that caps the cheaper column.

    2 h1 + h2 = 6, off row h1 - 2 <= 0. Without it h = (3, 0). With it h = (2, 2): p = (-1, 1), W'p = (-1, -1).
    value = 4. Dual: 6 - 2 = 4.
    """
    return instance(
        "eps0_off_row_binds",
        "on off",
        W=[[2, 1], [1, 0]],
        b=[0, -2],
        y=[6, 0],
        eps=0,
        answer=[2, 2],
        value=4,
    )


def off_row_binds() -> Instance:
    """An off row turns the misfit: h1 <= h2 where the ball alone would give h1 = h2 + 1.

    W_on = I, y = (6, 5), eps = 5, off row h1 - h2 <= 0. p = (-1 - q, q - 1, q) along a misfit (-4, -3):
    3 (1 + q) = 4 (1 - q), q = 1/7, p = (-8/7, -6/7, 1/7). h = (2, 2). value = 4.
    Dual: 48/7 + 30/7 - 5 (10/7) = 28/7 = 4.
    """
    return instance(
        "off_row_binds",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        y=[6, 5, 0],
        eps=5,
        answer=[2, 2],
        value=4,
    )


def two_off_rows_bind() -> Instance:
    """Two off rows cap the cheap columns, with different multipliers; the dearest column pays the rest.

    4 h1 + 2 h2 + h3 against y = 18, eps = 1, off rows h1 - 3 <= 0 and h2 - 2 <= 0: h = (3, 2, 1).
    p = (-1, 3, 1): W'p = (-4 + 3, -2 + 1, -1). value = 6. Dual: 18 - 9 - 2 - 1 = 6.
    """
    return instance(
        "two_off_rows_bind",
        "on off off",
        W=[[4, 2, 1], [1, 0, 0], [0, 1, 0]],
        b=[0, -3, -2],
        y=[18, 0, 0],
        eps=1,
        answer=[3, 2, 1],
        value=6,
    )


def off_row_with_positive_bias() -> Instance:
    """A positive bias on an off row makes h = 0 infeasible: both entries are pushed below zero.

    On row h2 against 0, eps = 1, off row h1 + 2 h2 + 3 <= 0. h2 is cheaper and stops at -1; h1 = -1.
    p = (-1, 1): W'p = (1, -1 + 2). value = 2. Dual: 3 - 1 = 2. No h >= 0 is feasible.
    """
    return instance(
        "off_row_with_positive_bias",
        "on off",
        W=[[0, 1], [1, 2]],
        b=[0, 3],
        y=[0, 0],
        eps=1,
        answer=[-1, -1],
        value=2,
    )


def no_on_rows() -> Instance:
    """Without on rows there is no bound: a linear program over the off rows.

    Off row 1 - h1 - 2 h2 <= 0: a unit of it costs 1 through h1 and 1/2 through h2, so h = (0, 1/2), p = 1/2.
    value = 1/2 whatever eps is. Dual: 1/2.
    """
    return instance("no_on_rows", "off", W=[[-1, -2]], b=[1], y=[0], eps=1, answer=[0, 1 / 2], value=1 / 2)


def everything_at_once() -> Instance:
    """On rows of different weight and bias, an off row that binds and an unseen row, in mixed order.

    Row 1 (off) 2 h1 - h2 - 2 <= 0; row 2 (on, weight 4) h1/2 + 1 against 4; row 3 (unseen); row 4 (on, weight 1)
    -h2 - 1 against -6. eps = 5. At h = (2, 2): row 1 at 0, misfits -2 and 3 with 4 (4) + 9 = 25.
    p = (q, -8 s, 0, 3 s): -4 s + 2 q = -1 and -3 s - q = -1 give s = 3/10, q = 1/10. value = 4.
    Dual: (-12/5)(-3) + (9/10)(5) - 2/10 - 5 |(6/5, 9/10)| = 36/5 + 9/2 - 1/5 - 15/2 = 4.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[2, -1], [1 / 2, 0], [3, -7], [0, -1]],
        b=[-2, 1, 5, -1],
        y=[0, 4, 1, -6],
        weight=[1, 4, 1, 1],
        eps=5,
        answer=[2, 2],
        value=4,
    )


# ---- instances: nothing feasible ---------------------------------------------------------------------------


def infeasible_distance() -> Instance:
    """The signal is farther from everything the layer makes than eps.

    Column (3, 4), y = (7, 1) = (3, 4) + (4, -3): distance 5 > eps = 4. p = (-4, 3): W'p = 0 and
    p'(b - y) - eps |p| = 28 - 3 - 4 (5) = 5 > 0.
    """
    return instance(
        "infeasible_distance",
        "on on",
        W=[[3], [4]],
        b=[0, 0],
        y=[7, 1],
        eps=4,
        answer=None,
        value=np.inf,
        ray=[-4, 3],
    )


def infeasible_weighted_distance() -> Instance:
    """A weight can put y out of reach: with weight 1 this signal is within eps of what the layer makes.

    Rows h against 0 (weight 1) and h against 3 (weight 4), eps = 5/2: h^2 + 4 (h - 3)^2 >= 36/5 > 25/4. With weight 1,
    h = 3/2 would do, 9/4 + 9/4 < 25/4. p = (1, -1): W'p = 0 and p'(b - y) - eps |(1, 1/2)| = 3 - 5 sqrt(5)/4 > 0.
    """
    return instance(
        "infeasible_weighted_distance",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 3],
        weight=[1, 4],
        eps=5 / 2,
        answer=None,
        value=np.inf,
        ray=[1, -1],
    )


def infeasible_on_against_off() -> Instance:
    """The ball keeps h at or above 4, an off row at or below 3; an unseen row has no part in the proof.

    On row h against 5, eps = 1; off row h - 3 <= 0. p = (-1, 0, 1): W'p = 0 and 5 - 3 - 1 = 1 > 0.
    """
    return instance(
        "infeasible_on_against_off",
        "on unseen off",
        W=[[1], [2], [1]],
        b=[0, 0, -3],
        y=[5, 1, 0],
        eps=1,
        answer=None,
        value=np.inf,
        ray=[-1, 0, 1],
    )


def infeasible_rows() -> Instance:
    """Off rows that contradict each other, whatever eps is: h1 + h2 <= 1 and h1 + h2 >= 2.

    p = (0, 1, 1): W'p = (1, 1) + (-1, -1) = 0 and p_off'b_off = -1 + 2 = 1 > 0.
    """
    return instance(
        "infeasible_rows",
        "on off off",
        W=[[1, 0], [1, 1], [-1, -1]],
        b=[0, -1, 2],
        y=[1, 0, 0],
        eps=10,
        answer=None,
        value=np.inf,
        ray=[0, 1, 1],
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    three_four_five,
    both_signs,
    small_entry_is_given_up,
    tie_of_a_third_column,
    large_eps,
    bias_and_weight,
    weights,
    column_that_serves_two_rows,
    equal_columns,
    eps0_longest_column,
    eps0_off_row_binds,
    off_row_binds,
    two_off_rows_bind,
    off_row_with_positive_bias,
    no_on_rows,
    everything_at_once,
    infeasible_distance,
    infeasible_weighted_distance,
    infeasible_on_against_off,
    infeasible_rows,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    squares = [f"({affine([*W[i], b[i], -y[i]], h)})^2" for i in range(len(y))]
    weighed = [f"{w:g} {square}" if w != 1 else square for w, square in zip(instance.weight, squares, strict=True)]
    ball = " + ".join(weighed[i] for i in np.flatnonzero(instance.on))
    conditions = [f"{ball} <= {instance.penalty**2:g}"] if ball else []
    conditions += [f"{affine([*W[i], b[i]], h)} <= 0" for i in np.flatnonzero(instance.off)]
    return f"minimise    {' + '.join(f'|{h_j}|' for h_j in h)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: cp.norm1(x), nonnegative=False, ends=off_below_zero, ball=True)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="BasisPursuitL2")
