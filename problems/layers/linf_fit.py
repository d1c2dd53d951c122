"""The smallest largest misfit of a ReLU layer, whose unknown has any sign.

In the letters of Lei, Jalal, Dhillon and Dimakis, the l_inf linear program of Algorithm 1 for a first layer with output x
and threshold epsilon:

    minimise    delta
    subject to  | w_i'z - x_i | <= delta  where x_i > epsilon,   w_i'z <= x_i + delta  elsewhere

In the letters of this tool, with s_i = sqrt(weight_i):

    minimise    delta                                                                         (P)
    subject to  s_i |W h + b - y|_i <= delta  for i in on,   (W h + b)_i <= delta  for i in off,   delta >= 0

    z -> h,  x -> y,  w_i -> row i of W,  {x_i > epsilon} -> on,  the others -> off

Differences from the paper: it bounds delta by epsilon, and calls the layer infeasible where that fails; here the optimum
tells. A bias; an off row stands for an output of zero; an on row may have a weight, slope^2 where a LeakyReLU of that slope
scaled it down; a row in neither on nor off was not seen and stands nowhere.

Optimality, used in the working below: this is a linear program, and h is optimal if there is p, zero on unseen rows, with

    W'p = 0,   p_off >= 0,   sum_on |p_i| / s_i + sum_off p_i = 1  (where delta > 0; p = 0 where delta = 0),
    p_i > 0 only where row i is delta / s_i above y,   p_i < 0 only where it is as far below

and then   delta = p_on'(b - y)_on + p_off'b_off.

Source: Lei, Jalal, Dhillon, Dimakis, Inverting Deep Generative Models, One Layer at a Time, 2019, Algorithm 1, set down here
from a description of its steps.

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

    z = cp.Variable(instance.W.shape[1])
    wz = instance.W @ z + instance.b
    delta = cp.Variable(nonneg=True)
    problem = cp.Problem(cp.Minimize(delta), [cp.abs(wz[on] - x) <= delta / slope, wz[off] <= delta])
    problem.solve(**TIGHT)
    return float(problem.value), z.value


def midpoint() -> Instance:
    """Two rows that disagree share what they disagree by.

    Rows h, h against (0, 4): h = 2, two from both. p = (1/2, -1/2). value = (1/2) 4 = 2.
    """
    return instance(
        "midpoint",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 4],
        answer=[2],
        value=2,
    )


def worst_rows_rule() -> Instance:
    """Rows between the extremes do not matter.

    Rows h, h, h against (0, 1, 6): h = 3. p = (1/2, 0, -1/2). value = 6/2 = 3. Least squares would give 7/3.
    """
    return instance(
        "worst_rows_rule",
        "on on on",
        W=[[1], [1], [1]],
        b=[0, 0, 0],
        y=[0, 1, 6],
        answer=[3],
        value=3,
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


def three_rows_of_a_plane() -> Instance:
    """One row more than unknowns: all of them are equally far off.

    h1 = 1 + delta, h2 = 2 + delta, h1 + h2 = 6 - delta: delta = 1, h = (2, 3). p = (1, 1, -1)/3, W'p = 0. value = (-1 -
    2 + 6)/3 = 1.
    """
    return instance(
        "three_rows_of_a_plane",
        "on on on",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, 0],
        y=[1, 2, 6],
        answer=[2, 3],
        value=1,
    )


def weights() -> Instance:
    """A row of weight 4 is held twice as tightly.

    2 |h| and |h - 3|: h = 1, value 2. p = (2/3, -2/3): (2/3)/2 + 2/3 = 1. value = (2/3) 3 = 2.
    """
    return instance(
        "weights",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 3],
        weight=[4, 1],
        answer=[1],
        value=2,
    )


def heavy_rows() -> Instance:
    """Behind rows of large weight p is large, and yet of length 1.

    4 |h| and 4 |h - 2|: h = 1, value 4. p = (2, -2): 2/4 + 2/4 = 1. value = 2 2 = 4.
    """
    return instance(
        "heavy_rows",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[0, 2],
        weight=[16, 16],
        answer=[1],
        value=4,
    )


def behind_a_leaky_relu() -> Instance:
    """An output of -5/2 behind a LeakyReLU(1/2) reads -5 with weight 1/4.

    |h - 3| and |h + 5| / 2: 3 - h = (h + 5)/2, h = 1/3, value 8/3. p = (-1/3, 1/3): 1/3 + 2/3 = 1. value = 3/3 + 5/3 =
    8/3.
    """
    return instance(
        "behind_a_leaky_relu",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[3, -5],
        weight=[1, 1 / 4],
        answer=[1 / 3],
        value=8 / 3,
    )


def biases() -> Instance:
    """Biases shift the rows, and a column may enter with either sign.

    |h + 1| and |2 - h|: h = 1/2. p = (1/2, 1/2): 1/2 - 1/2 = 0. value = 1/2 + 2/2 = 3/2.
    """
    return instance(
        "biases",
        "on on",
        W=[[1], [-1]],
        b=[1, 2],
        y=[0, 0],
        answer=[1 / 2],
        value=3 / 2,
    )


def off_row_caps() -> Instance:
    """An off row pulls h down, and gives way by as much as the on row.

    4 - h = h - 1: h = 5/2. p = (-1/2, 1/2). value = 4/2 - 1/2 = 3/2.
    """
    return instance(
        "off_row_caps",
        "on off",
        W=[[1], [1]],
        b=[0, -1],
        y=[4, 0],
        answer=[5 / 2],
        value=3 / 2,
    )


def off_row_with_room() -> Instance:
    """An off row below zero costs nothing, however far it is below.

    h against 1, off row h - 5: h = 1. p = 0. value = 0.
    """
    return instance(
        "off_row_with_room",
        "on off",
        W=[[1], [1]],
        b=[0, -5],
        y=[1, 0],
        answer=[1],
        value=0,
    )


def off_rows_alone() -> Instance:
    """Off rows that contradict each other share it, without any on row.

    h - 1 and 3 - h: h = 2. p = (1/2, 1/2). value = -1/2 + 3/2 = 1.
    """
    return instance(
        "off_rows_alone",
        "off off",
        W=[[1], [-1]],
        b=[-1, 3],
        y=[0, 0],
        answer=[2],
        value=1,
    )


def fewer_rows_than_unknowns() -> Instance:
    """One row for two unknowns is met by many h.

    h1 + h2 against 3: noted is (3, 0). p = 0. value = 0.
    """
    return instance(
        "fewer_rows_than_unknowns",
        "on",
        W=[[1, 1]],
        b=[0],
        y=[3],
        answer=[3, 0],
        value=0,
        unique=False,
    )


def everything_at_once() -> Instance:
    """Rows of different weight and bias, an off row and an unseen one, in mixed order.

    Row 1 (off) h1 + h2 - 3; row 2 (weight 4) 2 |h1 - 3|; row 3 (unseen); row 4 |h2 + 1 - 4|. h1 = 3 - delta/2, h2 = 3 -
    delta, h1 + h2 - 3 = delta: delta = 6/5, h = (12/5, 9/5). p = (2, -2, 0, -2)/5: 2/5 + (2/5)/2 + 2/5 = 1. value = (-6
    + 6 + 6)/5 = 6/5.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[1, 1], [1, 0], [3, -7], [0, 1]],
        b=[-3, 0, 5, 1],
        y=[0, 3, 1, 4],
        weight=[1, 4, 1, 1],
        answer=[12 / 5, 9 / 5],
        value=6 / 5,
    )


def of_any_sign() -> Instance:
    """The unknown may be negative.

    h against -2; the unseen row against 9 would be missed by 11: h = -2. p = 0. value = 0.
    """
    return instance(
        "of_any_sign",
        "on unseen",
        W=[[1], [1]],
        b=[0, 0],
        y=[-2, 9],
        answer=[-2],
        value=0,
    )


def rows_of_one_direction() -> Instance:
    """The value is settled where h is not.

    h1 + h2 against 0 and 4: h1 + h2 = 2, noted is (2, 0). p = (1/2, -1/2). value = 2.
    """
    return instance(
        "rows_of_one_direction",
        "on on",
        W=[[1, 1], [1, 1]],
        b=[0, 0],
        y=[0, 4],
        answer=[2, 0],
        value=2,
        unique=False,
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    midpoint,
    worst_rows_rule,
    met_exactly,
    three_rows_of_a_plane,
    weights,
    heavy_rows,
    behind_a_leaky_relu,
    biases,
    off_row_caps,
    off_row_with_room,
    off_rows_alone,
    fewer_rows_than_unknowns,
    everything_at_once,
    of_any_sign,
    rows_of_one_direction,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    rows = [f"|{affine([*W[i], b[i], -y[i]], h)}| <= {affine([instance.weight[i] ** -0.5], ['delta'])}"
            for i in np.flatnonzero(instance.on)]  # fmt: skip
    rows += [f"{affine([*W[i], b[i]], h)} <= delta" for i in np.flatnonzero(instance.off)]
    return f"minimise    delta\nsubject to  {',  '.join(rows)}"


def largest(instance: Instance, x: cp.Expression) -> cp.Expression:
    """The largest misfit of an on row and value of an off row, at least 0."""
    on = [cp.abs(misfit(instance, x))] if instance.on.any() else []
    off = [instance.W[instance.off] @ x + instance.b[instance.off]] if instance.off.any() else []
    return cp.maximum(cp.max(cp.hstack(on + off)), 0)


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(largest, nonnegative=False, ends=free)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="LinfFit")
