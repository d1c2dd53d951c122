"""Basis pursuit with an l2 noise bound behind a ReLU: h >= 0, and off rows.

In the letters of van den Berg and Friedlander, problem (BP_sigma), for x >= 0:

    minimise    1'x
    subject to  || A x - b ||_2 <= sigma,   x >= 0

Equation (9) of Aberdam, Simon and Elad has the same misfit, l1 term and x >= 0 in Lagrangian form
(`nonnegative_lasso.py`); this form takes the noise bound itself. The off rows are those of (9): where the ReLU behind the
layer gave zero, W_i^{S^c} x <= 0. Under x >= 0 the l1 norm is the sum 1'x.

In our letters, with both together and with what they leave out:

    minimise    1'h                                                                           (P)
    subject to  sqrt( sum_{i in on} weight_i (W h + b - y)_i^2 ) <= eps,   (W h + b)_i <= 0  for i in off,   h >= 0

    x -> h,  A -> W_on,  b -> y_on,  sigma -> eps,  S^c -> off

Additions: a bias, A x becomes W x + b; a weight for each on row; a row in neither on nor off was not seen and stands
nowhere; eps = 0 is allowed and means W_on h + b_on = y_on.

Optimality, used in the working below: h is optimal if it is feasible and there is p, zero on unseen rows, with

    p_on = s weight (W_on h + b_on - y_on), s >= 0, s = 0 where the bound is slack (any p_on where eps = 0),
    p_off >= 0, zero on slack rows,
    (W'p)_j = -1 wherever h_j > 0,   (W'p)_j >= -1 everywhere

and then   1'h = p_on'(b - y)_on + p_off'b_off - eps |p_on / sqrt(weight_on)|.
Infeasible means a ray: p with W'p >= 0, p_off >= 0, p = 0 on unseen rows and the right-hand side above positive: for a
feasible h, p'(W h + b) >= p'b would be at most p_on'y_on + eps |p_on / sqrt(weight_on)|.

Source: van den Berg, Friedlander, Probing the Pareto Frontier for Basis Pursuit Solutions, 2008, (BP_sigma); x >= 0 and
off rows: Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted?, 2020, eq. (9).

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, instance, off_below_zero, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve (BP_sigma) for x >= 0 with off rows, as in the papers; gives (infinity, None) where nothing is feasible."""
    S, Sc = instance.on, instance.off
    root_omega_S, sigma = np.sqrt(instance.weight[S]), instance.penalty
    A, b = instance.W[S], instance.y[S] - instance.b[S]
    W_Sc, b_Sc = instance.W[Sc], instance.b[Sc]

    x = cp.Variable(instance.W.shape[1])
    misfit = cp.multiply(root_omega_S, A @ x - b)
    # A ball of radius zero has no interior, which an interior point method needs.
    bound = cp.norm2(misfit) <= sigma if sigma > 0 else A @ x == b
    problem = cp.Problem(cp.Minimize(cp.sum(x)), [x >= 0, bound, W_Sc @ x + b_Sc <= 0])
    problem.solve(**TIGHT)
    return float(problem.value), x.value


# ---- instances: the ball and the sign ----------------------------------------------------------------------


def three_four_five() -> Instance:
    """The bound is spent where a unit of misfit saves most: on the row with the longer way to y, 4 to 3.

    Rows 3 h1 + 1 and 4 h2 - 1 against y = (11, 10), eps = 5. p = (-1/3, -1/4), along (-4, -3), so the misfit is (-4, -3)
    and (3 h1, 4 h2) = (6, 8): h = (2, 2). value = 4. Dual: 10/3 + 11/4 - 5 (5/12) = 73/12 - 25/12 = 4.
    """
    return instance(
        "three_four_five",
        "on on",
        W=[[3, 0], [0, 4]],
        b=[1, -1],
        y=[11, 10],
        eps=5,
        answer=[2, 2],
        value=4,
    )


def sign_takes_its_share() -> Instance:
    """What h >= 0 cannot reach is paid from the bound, and less is left for the rest; a free h would do with less.

    W = I, y = (6, -4), eps = 5: h2 = 0 misses by 4, so h1 may miss by 3: h = (3, 0). p = (-1, 4/3), (W'p)_2 = 4/3 >= -1.
    value = 3. Dual: 6 + 16/3 - 5 (5/3) = 18/3 - 9/3 = 3.
    A free h would miss by 5/sqrt(2) twice, of value 10 - 5 sqrt(2) < 2.93.
    """
    return instance(
        "sign_takes_its_share",
        "on on",
        W=[[1, 0], [0, 1]],
        b=[0, 0],
        y=[6, -4],
        eps=5,
        answer=[3, 0],
        value=3,
    )


def small_entry_is_given_up() -> Instance:
    """An entry that is not worth its price is zero; an unseen row has no say in it.

    W_on = I, y = (6, 3), eps = 5: misfit (-4, -3), h = (2, 0). p = (-1, 0, -3/4), (W'p)_2 = -3/4 >= -1. value = 2.
    Dual: 6 + 9/4 - 5 (5/4) = 2.
    """
    return instance(
        "small_entry_is_given_up",
        "on unseen on",
        W=[[1, 0], [1, 1], [0, 1]],
        b=[0, -1, 0],
        y=[6, 9, 3],
        eps=5,
        answer=[2, 0],
        value=2,
    )


def tie_of_a_third_column() -> Instance:
    """A column with (W'p)_j = -1 that is not used, and an off row at zero that does not push.

    As small_entry_is_given_up with a third column (1/4, 1) and the off row h1 - 2 <= 0. p = (-1, -3/4, 0):
    (W'p)_3 = -1/4 - 3/4 = -1. The misfit is along p, so W_on h = (2, 0), and h >= 0 with h2 + h3 = 0 leaves (2, 0, 0).
    value = 2.
    """
    return instance(
        "tie_of_a_third_column",
        "on on off",
        W=[[1, 0, 1 / 4], [0, 1, 1], [1, 0, 0]],
        b=[0, 0, -2],
        y=[6, 3, 0],
        eps=5,
        answer=[2, 0, 0],
        value=2,
    )


def large_eps() -> Instance:
    """Where the bias alone is within eps of y, nothing need be explained and h = 0.

    b - y = (-3, -4) has norm 5 < 11/2. value = 0. Without the bias |y| = 4 sqrt(2) > 11/2 and h = 0 is infeasible.
    """
    return instance("large_eps", "on on", W=[[1, 2], [2, 1]], b=[1, 0], y=[4, 4], eps=11 / 2, answer=[0, 0], value=0)


def weights() -> Instance:
    """The dual vector is along weight times misfit, the norm it is bounded in has 1/weight.

    W = I, weight (9, 16), eps = 6, y = (18/5, 29/10). p = (-1, -1), so the misfit is along (16, 9): (-8/5, -9/10), and
    9 (64/25) + 16 (81/100) = 36. h = (2, 2). value = 4. Dual: 18/5 + 29/10 - 6 |(1/3, 1/4)| = 13/2 - 6 (5/12) = 4.
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


# ---- instances: fewer rows than unknowns, eps = 0 ----------------------------------------------------------


def column_of_the_wrong_sign() -> Instance:
    """Fewer rows than unknowns: the longest column points away from y and cannot be turned round, so the next is bought.

    h1 + 2 h2 - 4 h3 against y = 9, eps = 1. p = -1/2: W'p = (-1/2, -1, 2), so h = (0, 4, 0). value = 4.
    Dual: 9/2 - 1/2 = 4. A free h would be (0, 0, -2).
    """
    return instance("column_of_the_wrong_sign", "on", W=[[1, 2, -4]], b=[0], y=[9], eps=1, answer=[0, 4, 0], value=4)


def column_that_serves_two_rows() -> Instance:
    """Two rows, three unknowns: one column serves both rows, and overshoots the one for the sake of the other.

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

    One row h1 + h2 against y = 3, eps = 1: h1 + h2 = 2, p = -1. value = 2, reached by every h >= 0 on that line; noted
    is its middle. Dual: 3 - 1 = 2.
    """
    return instance("equal_columns", "on", W=[[1, 1]], b=[0], y=[3], eps=1, answer=[1, 1], value=2, unique=False)


def eps0_realizable() -> Instance:
    """A signal the layer made itself, with its off row standing at exactly zero.

    h = (2, 0): rows 2 and 2 + 1/2 pass, row h1 - h2 - 2 = 0 is cut at the edge. The on rows (1, 1) and (1, -1) are
    independent, so only h matches. p = (-1, 0, 0): W'p = (-1, -1). value = 2. Dual: 2.
    """
    return instance(
        "eps0_realizable",
        "on on off",
        W=[[1, 1], [1, -1], [1, -1]],
        b=[0, 1 / 2, -2],
        y=[2, 5 / 2, 0],
        eps=0,
        answer=[2, 0],
        value=2,
    )


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
    """A positive bias on an off row makes h = 0 infeasible: the on row limits the cheaper way to push it down.

    On row h2 against 0, eps = 1, off row 3 - h1 - 2 h2 <= 0. h2 is cheaper and stops at 1; h1 = 1.
    p = (1, 1): W'p = (-1, 1 - 2). value = 2. Dual: 3 - 1 = 2.
    """
    return instance(
        "off_row_with_positive_bias",
        "on off",
        W=[[0, 1], [-1, -2]],
        b=[0, 3],
        y=[0, 0],
        eps=1,
        answer=[1, 1],
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
    """The signal is farther from everything the layer makes than eps, whatever the sign of h.

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


def infeasible_by_sign() -> Instance:
    """The signal is on the line the layer makes, but behind its end: a free h would match it exactly.

    Column (3, 4), y = (-3, -4), eps = 4: the nearest point is 0 at distance 5. p = (3, 4): W'p = 25 >= 0 and
    p'(b - y) - eps |p| = 25 - 4 (5) = 5 > 0.
    """
    return instance(
        "infeasible_by_sign",
        "on on",
        W=[[3], [4]],
        b=[0, 0],
        y=[-3, -4],
        eps=4,
        answer=None,
        value=np.inf,
        ray=[3, 4],
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
    sign_takes_its_share,
    small_entry_is_given_up,
    tie_of_a_third_column,
    large_eps,
    weights,
    column_of_the_wrong_sign,
    column_that_serves_two_rows,
    equal_columns,
    eps0_realizable,
    eps0_off_row_binds,
    off_row_binds,
    two_off_rows_bind,
    off_row_with_positive_bias,
    no_on_rows,
    everything_at_once,
    infeasible_distance,
    infeasible_by_sign,
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
    conditions = ["h >= 0", *([f"{ball} <= {instance.penalty**2:g}"] if ball else [])]
    conditions += [f"{affine([*W[i], b[i]], h)} <= 0" for i in np.flatnonzero(instance.off)]
    return f"minimise    {' + '.join(h)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: cp.sum(x), nonnegative=True, ends=off_below_zero, ball=True)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="NonnegativeBasisPursuitL2")
