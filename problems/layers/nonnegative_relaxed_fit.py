"""What a ReLU layer's rows leave of their ends, least in sum, with an unknown >= 0.

In the letters of Lei, Jalal, Dhillon and Dimakis, the relaxed linear program for a hidden layer with output x and threshold
epsilon:

    maximise    c'z,   c = sum over x_i >= 2 epsilon of x_i w_i
    subject to  w_i'z <= max(0, x_i + epsilon)  for every row i,   z >= 0

c'z is the sum of x_i (w_i'z), so that it is largest where the sum of what those rows leave of their ends is least:

    minimise    sum over x_i >= 2 epsilon of x_i (x_i + epsilon - w_i'z)  under the same

In the letters of this tool, with s_i = sqrt(weight_i):

    minimise    sum_on s_i (y - W h - b)_i                                                    (P)
    subject to  (W h + b)_i <= y_i  for i in on,   (W h + b)_i <= 0  for i in off,   h >= 0

    z -> h,  x_i + epsilon -> y_i and x_i^2 -> weight_i on on,  w_i -> row i of W,  {x_i >= 2 epsilon} -> on,
    the others -> off, whose max(0, x_i + epsilon) is taken off their bias

Differences from the paper: a bias; a row in neither on nor off was not seen and stands nowhere.

Optimality, used in the working below: this is a linear program, and a feasible h is optimal if there is p, zero on unseen
rows, with

    W'p >= 0, and (W'p)_j = 0 where h_j > 0,   p_i >= -s_i on on rows,   p_i >= 0 on off rows,
    p_i = -s_i where an on row is below y, 0 where an off row is below 0

and then   the value is p_on'(b - y)_on + p_off'b_off.
Infeasible means a ray: p >= 0 with W'p >= 0 and this sum above 0.

Source: Lei, Jalal, Dhillon, Dimakis, Inverting Deep Generative Models, One Layer at a Time, 2019, the relaxed program of the
code that goes with it.

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable
from math import inf

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, instance, misfit, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve the maximisation as the paper has it; gives what it leaves of the ends, infinity where nothing is feasible."""
    on, off = instance.on, instance.off
    x = np.sqrt(instance.weight[on])
    c, most = x @ instance.W[on], x @ (instance.y[on] - instance.b[on])

    z = cp.Variable(instance.W.shape[1], nonneg=True)
    wz = instance.W @ z + instance.b
    problem = cp.Problem(cp.Maximize(c @ z), [wz[on] <= instance.y[on], wz[off] <= 0])
    problem.solve(**TIGHT)
    return float(most - problem.value), z.value


def met_exactly() -> Instance:
    """The realizable case: a layer that explains its data has the value 0, and p = 0 proves it.

    Rows h1, h2, h1 + h2 against (1, 2, 3): h = (1, 2). p = 0. value = 0.
    """
    return instance(
        "met_exactly",
        "on on on",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, 0],
        y=[1, 2, 3],
        answer=[1, 2],
        value=0,
    )


def lowest_row() -> Instance:
    """Rows that disagree: the lowest decides, as no row may be passed.

    Rows h, h against (2, 5): h = 2. p = (1, -1). value = -2 + 5 = 3.
    """
    return instance(
        "lowest_row",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[2, 5],
        answer=[2],
        value=3,
    )


def outlier_above() -> Instance:
    """One row that is far above moves nothing.

    Rows h against (2, 2, 2, 100): h = 2. p = (1/3, 1/3, 1/3, -1). value = -2 + 100 = 98.
    """
    return instance(
        "outlier_above",
        "on on on on",
        W=[[1], [1], [1], [1]],
        b=[0, 0, 0, 0],
        y=[2, 2, 2, 100],
        answer=[2],
        value=98,
    )


def outlier_below() -> Instance:
    """One row that is below the others moves h, however many they are: here it is not the l_1 fit.

    Rows h against (2, 2, 2, 1): h = 1, where the l_1 fit has 2. p = (-1, -1, -1, 3). value = 6 - 3 = 3.
    """
    return instance(
        "outlier_below",
        "on on on on",
        W=[[1], [1], [1], [1]],
        b=[0, 0, 0, 0],
        y=[2, 2, 2, 1],
        answer=[1],
        value=3,
    )


def weights() -> Instance:
    """A row of weight 4 counts twice, and so is brought to its end.

    1 <= h <= 3, 2 (3 - h) + (h - 1): h = 3. p = (-1, -1), -1 >= -2. value = 3 - 1 = 2. With equal weights all these h are
    optimal.
    """
    return instance(
        "weights",
        "on on",
        W=[[1], [-1]],
        b=[0, 0],
        y=[3, -1],
        weight=[4, 1],
        answer=[3],
        value=2,
    )


def off_row_caps() -> Instance:
    """An off row is passed by no h, whatever an on row would like.

    h against 4, off row h - 1: h = 1. p = (-1, 1). value = 4 - 1 = 3.
    """
    return instance(
        "off_row_caps",
        "on off",
        W=[[1], [1]],
        b=[0, -1],
        y=[4, 0],
        answer=[1],
        value=3,
    )


def off_row_idle() -> Instance:
    """An off row below 0 costs nothing.

    h against 1, off row h - 3: h = 1. p = 0. value = 0.
    """
    return instance(
        "off_row_idle",
        "on off",
        W=[[1], [1]],
        b=[0, -3],
        y=[1, 0],
        answer=[1],
        value=0,
    )


def two_off_rows() -> Instance:
    """Each unknown is held by an off row of its own.

    h1 + h2 against 6, off rows h1 - 1, h2 - 2: h = (1, 2). p = (-1, 1, 1). value = 6 - 1 - 2 = 3.
    """
    return instance(
        "two_off_rows",
        "on off off",
        W=[[1, 1], [1, 0], [0, 1]],
        b=[0, -1, -2],
        y=[6, 0, 0],
        answer=[1, 2],
        value=3,
    )


def shared_at_will() -> Instance:
    """Two unknowns may share what one row asks for.

    h1 + h2 against 3, off rows h1 - 2, h2 - 2: noted is (3/2, 3/2). p = 0. value = 0.
    """
    return instance(
        "shared_at_will",
        "on off off",
        W=[[1, 1], [1, 0], [0, 1]],
        b=[0, -2, -2],
        y=[3, 0, 0],
        answer=[1.5, 1.5],
        value=0,
        unique=False,
    )


def biases() -> Instance:
    """Biases and rows of different lengths.

    h + 1 against 4, 2 h - 1 against 9: h = 3. p = (2, -1). value = -6 + 10 = 4.
    """
    return instance(
        "biases",
        "on on",
        W=[[1], [2]],
        b=[1, -1],
        y=[4, 9],
        answer=[3],
        value=4,
    )


def row_that_nothing_moves() -> Instance:
    """What an on row of zeros is below its end is part of the value.

    1 against 3, h against 2: h = 2. p = (-1, 0). value = 2.
    """
    return instance(
        "row_that_nothing_moves",
        "on on",
        W=[[0], [1]],
        b=[1, 0],
        y=[3, 2],
        answer=[2],
        value=2,
    )


def as_published() -> Instance:
    """The published program: x = (2, 19/10, 0), epsilon = 1/10, rows of weight x^2 against x + epsilon.

    h <= 21/10, h <= 2, -h <= 1/10: h = 2. p = (-2, 2, 0) with -2 and 2 >= -19/10. value = 42/10 - 4 = 1/5.
    """
    return instance(
        "as_published",
        "on on off",
        W=[[1], [1], [-1]],
        b=[0, 0, -0.1],
        y=[2.1, 2, 0],
        weight=[4, 3.61, 1],
        answer=[2],
        value=0.2,
    )


def everything_at_once() -> Instance:
    """Rows of different weight and bias, an off row and an unseen one, in mixed order.

    Row 1 (off) h1 + h2 - 3; row 2 (weight 4) 2 (3 - h1); row 3 (unseen); row 4 (weight 9) 3 (4 - h2 - 1): the cheaper
    h1 gives way, h = (0, 3). p = (2, -2, 0, -2), -2 >= -3. value = -6 + 6 + 6 = 6.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[1, 1], [1, 0], [3, -7], [0, 1]],
        b=[-3, 0, 5, 1],
        y=[0, 3, 1, 4],
        weight=[1, 4, 1, 9],
        answer=[0, 3],
        value=6,
    )


def zero_is_best() -> Instance:
    """h >= 0 keeps a row of negative numbers from its end.

    -h against 3: h = 0. p = -1, W'p = 1 >= 0. value = 3.
    """
    return instance(
        "zero_is_best",
        "on",
        W=[[-1]],
        b=[0],
        y=[3],
        answer=[0],
        value=3,
    )


def column_held_at_zero() -> Instance:
    """An unknown that only adds to what is left stays 0.

    h1 against 2 (weight 4), -h1 - h2 against -1: 2 (2 - h1) + (h1 + h2 - 1), h = (2, 0). p = (-1, -1), W'p = (0, 1).
    value = 2 - 1 = 1.
    """
    return instance(
        "column_held_at_zero",
        "on on",
        W=[[1, 0], [-1, -1]],
        b=[0, 0],
        y=[2, -1],
        weight=[4, 1],
        answer=[2, 0],
        value=1,
    )


def off_row_pushes_up() -> Instance:
    """An off row can ask for more h than the data do.

    -h against 0, off row 2 - h: h = 2. p = (-1, 1). value = 2.
    """
    return instance(
        "off_row_pushes_up",
        "on off",
        W=[[-1], [-1]],
        b=[0, 2],
        y=[0, 0],
        answer=[2],
        value=2,
    )


def infeasible_off_rows() -> Instance:
    """Two off rows that contradict each other: h <= -1 and h >= 1.

    p = (0, 1, 1): W'p = 0 and p'b = 2 > 0.
    """
    return instance(
        "infeasible_off_rows",
        "on off off",
        W=[[1], [1], [-1]],
        b=[0, 1, 1],
        y=[5, 0, 0],
        answer=None,
        value=inf,
        ray=[0, 1, 1],
    )


def infeasible_bias() -> Instance:
    """A bias above the end of a row of zeros.

    p = (1, 0): W'p = 0 and b_1 - y_1 = 1 > 0.
    """
    return instance(
        "infeasible_bias",
        "on on",
        W=[[0], [1]],
        b=[3, 0],
        y=[2, 2],
        answer=None,
        value=inf,
        ray=[1, 0],
    )


def infeasible_by_sign() -> Instance:
    """No h >= 0 brings a row of positive numbers below 0, though a free h would.

    h against -2. p = 1: W'p = 1 >= 0 and -y = 2 > 0.
    """
    return instance(
        "infeasible_by_sign",
        "on",
        W=[[1]],
        b=[0],
        y=[-2],
        answer=None,
        value=inf,
        ray=[1],
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    met_exactly,
    lowest_row,
    outlier_above,
    outlier_below,
    weights,
    off_row_caps,
    off_row_idle,
    two_off_rows,
    shared_at_will,
    biases,
    row_that_nothing_moves,
    as_published,
    everything_at_once,
    zero_is_best,
    column_held_at_zero,
    off_row_pushes_up,
    infeasible_off_rows,
    infeasible_bias,
    infeasible_by_sign,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    rooms = [
        affine([instance.weight[i] ** 0.5], [f"({affine([*-W[i], y[i] - b[i]], h)})"]) for i in np.flatnonzero(instance.on)
    ]
    conditions = [f"{affine([*W[i], b[i]], h)} <= {y[i]:g}" for i in np.flatnonzero(instance.on)]
    conditions += [f"{affine([*W[i], b[i]], h)} <= 0" for i in np.flatnonzero(instance.off)]
    conditions += ["h >= 0"]
    return f"minimise    {' + '.join(rooms)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: cp.sum(-misfit(i, x)), nonnegative=True, ends=lambda i: (-inf, i.y[i.on], 0.0))


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="NonnegativeRelaxedFit")
