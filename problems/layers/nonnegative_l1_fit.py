"""The smallest sum of the misfits of a ReLU layer, whose unknown is >= 0.

In the letters of Lei, Jalal, Dhillon and Dimakis, the l_1 linear program of Algorithm 2 for a hidden layer with output x and
threshold epsilon:

    minimise    sum_i e_i
    subject to  | w_i'z - x_i | <= e_i  where x_i > epsilon,   w_i'z <= x_i + e_i  elsewhere,   e >= 0,   z >= 0

In the letters of this tool, with s_i = sqrt(weight_i):

    minimise    sum_on s_i |W h + b - y|_i + sum_off max((W h + b)_i, 0)                      (P)
    subject to  h >= 0

    z -> h,  x -> y,  w_i -> row i of W,  {x_i > epsilon} -> on,  the others -> off

Differences from the paper: a bias; an off row stands for an output of zero; an on row may have a weight, slope^2 where a
LeakyReLU of that slope scaled it down; a row in neither on nor off was not seen and stands nowhere.

Optimality, used in the working below: this is a linear program, and h is optimal if there is p, zero on unseen rows, with

    W'p >= 0, and (W'p)_j = 0 where h_j > 0,   |p_i| <= s_i on on rows,   0 <= p_i <= 1 on off rows,
    p_i = s_i where an on row is above y, -s_i where it is below;   p_i = 1 where an off row is above 0, 0 where it is below

and then   the value is p_on'(b - y)_on + p_off'b_off.

Source: Lei, Jalal, Dhillon, Dimakis, Inverting Deep Generative Models, One Layer at a Time, 2019, Algorithm 2, as recalled:
its display could not be read.

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, free, instance, misfit, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve the linear program with the paper's rows."""
    on, off = instance.on, instance.off
    x, slope = instance.y[on], np.sqrt(instance.weight[on])

    z = cp.Variable(instance.W.shape[1], nonneg=True)
    wz = instance.W @ z + instance.b
    e = cp.Variable(len(instance.y), nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum(e)), [cp.abs(wz[on] - x) <= e[on] / slope, wz[off] <= e[off]])
    problem.solve(**TIGHT)
    return float(problem.value), z.value


def median() -> Instance:
    """The middle row decides, and how far the others are off does not matter.

    Rows h, h, h against (0, 1, 6): h = 1. p = (1, 0, -1). value = 1 + 5 = 6.
    """
    return instance(
        "median",
        "on on on",
        W=[[1], [1], [1]],
        b=[0, 0, 0],
        y=[0, 1, 6],
        answer=[1],
        value=6,
    )


def outlier() -> Instance:
    """One row that is far off moves nothing: the l_inf fit would give h = 51.

    Rows h against (2, 2, 2, 100): h = 2. p = (1/3, 1/3, 1/3, -1). value = -2 + 100 = 98.
    """
    return instance(
        "outlier",
        "on on on on",
        W=[[1], [1], [1], [1]],
        b=[0, 0, 0, 0],
        y=[2, 2, 2, 100],
        answer=[2],
        value=98,
    )


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


def shared_at_will() -> Instance:
    """Two unknowns may share what one row misses, at no cost.

    h1 against 1, h2 against 2, h1 + h2 against 6: 3 are missing whoever gives them, noted is (1, 2). p = (1, 1, -1).
    value = 6 - 3 = 3.
    """
    return instance(
        "shared_at_will",
        "on on on",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, 0],
        y=[1, 2, 6],
        answer=[1, 2],
        value=3,
        unique=False,
    )


def two_against_one() -> Instance:
    """With a second row for each unknown the third is the outlier.

    As shared_at_will, h1 and h2 asked twice: h = (1, 2). p = (1/2, 1/2, 1/2, 1/2, -1). value = -1 - 2 + 6 = 3.
    """
    return instance(
        "two_against_one",
        "on on on on on",
        W=[[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]],
        b=[0, 0, 0, 0, 0],
        y=[1, 1, 2, 2, 6],
        answer=[1, 2],
        value=3,
    )


def weights() -> Instance:
    """A row of weight 4 counts twice, and so wins.

    2 |h| + |h - 3|: h = 0. p = (1, -1), |p_1| <= 2. value = 3.
    """
    return instance(
        "weights",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 3],
        weight=[4, 1],
        answer=[0],
        value=3,
    )


def behind_a_leaky_relu() -> Instance:
    """An output of -5/2 behind a LeakyReLU(1/2) reads -5 and counts half.

    |h - 3| + |h + 5| / 2: h = 3. p = (-1/2, 1/2). value = 3/2 + 5/2 = 4.
    """
    return instance(
        "behind_a_leaky_relu",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[3, -5],
        weight=[1, 1 / 4],
        answer=[3],
        value=4,
    )


def off_row_outvoted() -> Instance:
    """One off row against two on rows gives way.

    2 |h - 4| + max(h - 1, 0): h = 4. p = (-1/2, -1/2, 1). value = 2 + 2 - 1 = 3.
    """
    return instance(
        "off_row_outvoted",
        "on on off",
        W=[[1], [1], [1]],
        b=[0, 0, -1],
        y=[4, 4, 0],
        answer=[4],
        value=3,
    )


def off_rows_win() -> Instance:
    """Two off rows against one on row hold.

    |h - 4| + 2 max(h - 1, 0): h = 1. p = (-1, 1/2, 1/2). value = 4 - 1 = 3.
    """
    return instance(
        "off_rows_win",
        "on off off",
        W=[[1], [1], [1]],
        b=[0, -1, -1],
        y=[4, 0, 0],
        answer=[1],
        value=3,
    )


def off_rows_alone() -> Instance:
    """Off rows that contradict each other, without any on row: the two win.

    2 max(h - 1, 0) + max(3 - h, 0): h = 1. p = (1/2, 1/2, 1). value = -1 + 3 = 2.
    """
    return instance(
        "off_rows_alone",
        "off off off",
        W=[[1], [1], [-1]],
        b=[-1, -1, 3],
        y=[0, 0, 0],
        answer=[1],
        value=2,
    )


def even_count() -> Instance:
    """Between two rows the value is the same everywhere.

    |h| + |h - 4|: noted is the middle. p = (1, -1). value = 4.
    """
    return instance(
        "even_count",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 4],
        answer=[2],
        value=4,
        unique=False,
    )


def everything_at_once() -> Instance:
    """Rows of different weight and bias, an off row and an unseen one, in mixed order.

    Row 1 (off) h1 + h2 - 3; row 2 (weight 4) 2 |h1 - 3|; row 3 (unseen); row 4 (weight 9) 3 |h2 + 1 - 4|: h = (3, 3). p
    = (1, -1, 0, -1): W'p = 0, 1 <= 2, 1 <= 3. value = -3 + 3 + 3 = 3.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[1, 1], [1, 0], [3, -7], [0, 1]],
        b=[-3, 0, 5, 1],
        y=[0, 3, 1, 4],
        weight=[1, 4, 1, 9],
        answer=[3, 3],
        value=3,
    )


def sign_holds() -> Instance:
    """h >= 0 keeps h from what it would fit.

    h against -2: h = 0. p = 1, W'p = 1 >= 0. value = 2.
    """
    return instance(
        "sign_holds",
        "on",
        W=[[1]],
        b=[0],
        y=[-2],
        answer=[0],
        value=2,
    )


def column_that_would_be_negative() -> Instance:
    """Where one unknown is held at 0 the majority of the others' rows decides.

    h1 against 2 twice, h1 + h2 against 1; any sign would allow (2, -1). h2 = 0, h1 = 2. p = (-1/2, -1/2, 1), W'p = (0,
    1). value = 1 + 1 - 1 = 1.
    """
    return instance(
        "column_that_would_be_negative",
        "on on on",
        W=[[1, 0], [1, 0], [1, 1]],
        b=[0, 0, 0],
        y=[2, 2, 1],
        answer=[2, 0],
        value=1,
    )


def off_row_that_nothing_lowers() -> Instance:
    """A positive bias on an off row that no h >= 0 lowers is the value.

    h against 0, off row h + 2: h = 0. p = (0, 1), W'p = 1 >= 0. value = 2.
    """
    return instance(
        "off_row_that_nothing_lowers",
        "on off",
        W=[[1], [1]],
        b=[0, 2],
        y=[0, 0],
        answer=[0],
        value=2,
    )


def off_rows_that_push_up() -> Instance:
    """Off rows can ask for more h than the data do.

    |h| + 2 max(2 - h, 0): h = 2. p = (1, 1/2, 1/2), W'p = 0. value = 1 + 1 = 2.
    """
    return instance(
        "off_rows_that_push_up",
        "on off off",
        W=[[1], [-1], [-1]],
        b=[0, 2, 2],
        y=[0, 0, 0],
        answer=[2],
        value=2,
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    median,
    outlier,
    met_exactly,
    shared_at_will,
    two_against_one,
    weights,
    behind_a_leaky_relu,
    off_row_outvoted,
    off_rows_win,
    off_rows_alone,
    even_count,
    everything_at_once,
    sign_holds,
    column_that_would_be_negative,
    off_row_that_nothing_lowers,
    off_rows_that_push_up,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    rows = [affine([instance.weight[i] ** 0.5], [f"|{affine([*W[i], b[i], -y[i]], h)}|"])
            for i in np.flatnonzero(instance.on)]  # fmt: skip
    rows += [f"max({affine([*W[i], b[i]], h)}, 0)" for i in np.flatnonzero(instance.off)]
    return f"minimise    {' + '.join(rows)}\nsubject to  h >= 0"


def total(instance: Instance, x: cp.Expression) -> cp.Expression:
    """The sum of the misfits of the on rows and of the off rows above 0."""
    off = instance.W[instance.off] @ x + instance.b[instance.off]
    return cp.sum(cp.abs(misfit(instance, x))) + cp.sum(cp.pos(off))


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(total, nonnegative=True, ends=free)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="NonnegativeL1Fit")
