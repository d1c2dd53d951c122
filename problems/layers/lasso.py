"""The layers of the Layered Basis Pursuit: a LASSO with an unknown of any sign, read from the paper.

In the paper's letters, Algorithm 2 solves for the image layer (identity output) and for the layer behind it

    minimise    1/2 || y - W_L x ||_2^2  +  lambda_L || x ||_1
    minimise    1/2 || x_{i+1}^S - W_i^S x ||_2^2  +  lambda_i || x ||_1

S is the support of the answer of the layer above. This is the Latent-Pursuit's layer with two things left
out: the rows that the ReLU cut (S^c) stand nowhere, and x may have any sign although it came out of a ReLU.

In our letters, with what the paper leaves out:

    minimise    1/2 sum_{i in on} weight_i (W h + b - y)_i^2  +  lam |h|_1                    (P)

    x -> h,  y and x_{i+1} -> y,  W_L and W_i -> W,  S -> on,  lambda_L and lambda_i -> lam

Three additions: the paper's layers have no bias, here W x becomes W x + b; a row that was not seen (a masked
pixel) stands nowhere, as do the off rows; a row may have a weight, which behind a LeakyReLU of slope a is a^2
where the output is negative.

Optimality, used in the working below: h is optimal if with p_on = weight (W_on h + b_on - y_on), p = 0 elsewhere,

    (W'p)_j = -lam sign(h_j) wherever h_j is not 0   and   |W'p|_j <= lam everywhere

and it is the only optimum where W_on has independent columns; elsewhere the working says what settles it. Every
h is feasible, so there is no ray.

Source: Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted?, 2020, Algorithm 2, set down
here from the words that describe its steps.

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, free, half_squares, instance, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve a step of Algorithm 2 as it stands in the paper."""
    S = instance.on
    W_S, b_S, omega_S = instance.W[S], instance.b[S], instance.weight[S]
    x_next_S, lambda_i = instance.y[S], instance.penalty

    x = cp.Variable(instance.W.shape[1])
    misfit = 1 / 2 * (omega_S @ cp.square(x_next_S - (W_S @ x + b_S)))
    problem = cp.Problem(cp.Minimize(misfit + lambda_i * cp.norm1(x)))
    problem.solve(**TIGHT)
    return float(problem.value), x.value


# ---- instances: what the misfit and the l1 term do ---------------------------------------------------------


def soft_threshold() -> Instance:
    """The l1 term moves every entry lam towards zero and stops there, from either side.

    W = I, y = (2, -3, 1/2), lam = 1, so h = (1, -2, 0).
    p = h - y = (-1, 1, -1/2): W'p = -lam sign(h) on the first two, 1/2 <= 1 on the third.
    value = 1/2 (1 + 1 + 1/4) + 3 = 33/8.
    """
    return instance(
        "soft_threshold",
        "on on on",
        W=[[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        b=[0, 0, 0],
        y=[2, -3, 0.5],
        lam=1,
        answer=[1, -2, 0],
        value=33 / 8,
    )


def sign_is_free() -> Instance:
    """An entry below zero is used where it pays; with h >= 0 this layer would have another answer.

    Rows h1 + h2 and h2 against y = (1, 3), lam = 1/2. With h1 < 0 < h2: p1 = 1/2 and p1 + p2 = -1/2, so p = (1/2, -1).
    h1 + h2 = 3/2 and h2 = 2: h = (-1/2, 2).
    value = 1/2 (1/4 + 1) + 5/4 = 15/8 = 30/16.
    With h >= 0: h = (0, 7/4) of value 1/2 (9/16 + 25/16) + 7/8 = 31/16.
    """
    return instance(
        "sign_is_free",
        "on on",
        W=[[1, 1], [0, 1]],
        b=[0, 0],
        y=[1, 3],
        lam=1 / 2,
        answer=[-1 / 2, 2],
        value=15 / 8,
    )


def bias_in_on_rows() -> Instance:
    """The bias of an on row is subtracted from y; without it h would be -7/4.

    One row 2h + 1 against y = -4, lam = 1, h < 0: 2 (2h + 1 + 4) = 1, so h = -9/4.
    value = 1/2 (-7/2 + 4)^2 + 9/4 = 1/8 + 18/8 = 19/8.
    """
    return instance("bias_in_on_rows", "on", W=[[2]], b=[1], y=[-4], lam=1, answer=[-9 / 4], value=19 / 8)


def image_layer() -> Instance:
    """The image layer with an identity output: every row on, more rows than unknowns, a bias everywhere.

    Columns (1, 1, 0) and (1, -1, 1) are orthogonal, so W'W = diag(2, 3). y - b = (1, 3, -3), W'(y - b) = (4, -5).
    lam = 2: h = ((4 - 2)/2, (-5 + 2)/3) = (1, -1).
    p = W h - (y - b) = (0, 2, -1) - (1, 3, -3) = (-1, -1, 2).
    value = 1/2 (1 + 1 + 4) + 2 (2) = 7.
    """
    return instance(
        "image_layer",
        "on on on",
        W=[[1, 1], [1, -1], [0, 1]],
        b=[1, 1, 1],
        y=[2, 4, -2],
        lam=2,
        answer=[1, -1],
        value=7,
    )


def weights() -> Instance:
    """A row of weight 4 draws four times as hard.

    Rows h against -4 with weight 4 and h against 1 with weight 1, lam = 1, h < 0: 4 (h + 4) + (h - 1) = 1, h = -14/5.
    value = 1/2 (4 (6/5)^2 + (19/5)^2) + 14/5 = (144 + 361)/50 + 140/50 = 129/10.
    """
    return instance(
        "weights",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        y=[-4, 1],
        weight=[4, 1],
        lam=1,
        answer=[-14 / 5],
        value=129 / 10,
    )


def lam_at_the_threshold() -> Instance:
    """From lam = |W_on'(y - b)|_inf on h = 0, the tie included.

    y - b = (1, -1), W'(y - b) = (3, 1) and lam = 3: at h = 0 (W'p)_1 = -3 = -lam, where h1 could start and does not.
    The columns (1, -2) and (2, 1) are independent. value = 1/2 (1 + 1) = 1.
    """
    return instance(
        "lam_at_the_threshold",
        "on on",
        W=[[1, 2], [-2, 1]],
        b=[1, 0],
        y=[2, -1],
        lam=3,
        answer=[0, 0],
        value=1,
    )


# ---- instances: dependent columns --------------------------------------------------------------------------


def fewer_rows_than_unknowns() -> Instance:
    """With equal columns the value is settled and h is not.

    One row h1 + h2 against y = -2, lam = 1/2: with s = h1 + h2 and both at or below zero, (s + 2) = 1/2, s = -3/2.
    value = 1/2 (1/4) + 3/4 = 7/8, reached by every h <= 0 on that line; noted is its middle (-3/4, -3/4).
    """
    return instance(
        "fewer_rows_than_unknowns",
        "on",
        W=[[1, 1]],
        b=[0],
        y=[-2],
        lam=1 / 2,
        answer=[-3 / 4, -3 / 4],
        value=7 / 8,
        unique=False,
    )


def opposite_columns() -> Instance:
    """Columns that cancel: with any sign one stands for the other and h is not settled; with h >= 0 it would be.

    One row h1 - h2 against y = 2, lam = 1/2: with s = h1 - h2, (s - 2) + 1/2 = 0, s = 3/2.
    value = 1/2 (1/4) + 3/4 = 7/8, reached by (3/2 - t, -t) for 0 <= t <= 3/2; noted is t = 3/4. Only t = 0 is
    nonnegative.
    """
    return instance(
        "opposite_columns",
        "on",
        W=[[1, -1]],
        b=[0],
        y=[2],
        lam=1 / 2,
        answer=[3 / 4, -3 / 4],
        value=7 / 8,
        unique=False,
    )


def l1_picks_the_longer_column() -> Instance:
    """With dependent columns of different length the l1 term does settle h: it buys the cheaper one, with its sign.

    One row h1 - 2 h2 against y = 2, lam = 1/2. A unit of the row costs lam through h1 and lam/2 through h2,
    so h1 = 0, h2 < 0 and -2 p = 1/2: p = -1/4 = -2 h2 - 2, h2 = -7/8. |W'p|_1 = 1/4 < 1/2.
    value = 1/2 (1/4)^2 + 7/16 = 1/32 + 14/32 = 15/32.
    """
    return instance(
        "l1_picks_the_longer_column",
        "on",
        W=[[1, -2]],
        b=[0],
        y=[2],
        lam=1 / 2,
        answer=[0, -7 / 8],
        value=15 / 32,
    )


# ---- instances: lam = 0 ------------------------------------------------------------------------------------


def lam0_least_squares() -> Instance:
    """Without the l1 term this is least squares.

    Columns (1, 1, 0) and (1, -1, 1), W'W = diag(2, 3). y = (1, -3, 1), W'y = (-2, 5): h = (-1, 5/3).
    p = (2/3, -8/3, 5/3) - (1, -3, 1) = (-1/3, 1/3, 2/3), W'p = 0.
    value = 1/2 (1/9 + 1/9 + 4/9) = 1/3.
    """
    return instance(
        "lam0_least_squares",
        "on on on",
        W=[[1, 1], [1, -1], [0, 1]],
        b=[0, 0, 0],
        y=[1, -3, 1],
        lam=0,
        answer=[-1, 5 / 3],
        value=1 / 3,
    )


def lam0_realizable() -> Instance:
    """A signal the layer made itself is recovered exactly: optimum 0, so no gap can be judged relative to it.

    h = (1, -1): rows 1 - 2 + 1/2 = -1/2 and 3 - 1 - 1 = 1, independent. value = 0.
    """
    return instance(
        "lam0_realizable",
        "on on",
        W=[[1, 2], [3, 1]],
        b=[1 / 2, -1],
        y=[-1 / 2, 1],
        lam=0,
        answer=[1, -1],
        value=0,
    )


def lam0_fewer_rows_than_unknowns() -> Instance:
    """Without the l1 term and with fewer rows than unknowns a realizable signal does not determine h.

    Rows h1 + h2 = 2 and h2 + h3 = 2 leave the whole line (1 + t, 1 - t, 1 + t). value = 0; noted is t = 0.
    """
    return instance(
        "lam0_fewer_rows_than_unknowns",
        "on on",
        W=[[1, 1, 0], [0, 1, 1]],
        b=[0, 0],
        y=[2, 2],
        lam=0,
        answer=[1, 1, 1],
        value=0,
        unique=False,
    )


# ---- instances: rows that do not count ---------------------------------------------------------------------


def off_row_does_not_count() -> Instance:
    """An off row that the Latent-Pursuit would hold at zero stands at 2, and nothing happens.

    W_on = I, y = (2, -3/2), lam = 1/4: h = (7/4, -5/4). Off row h1 - h2 - 1 = 7/4 + 5/4 - 1 = 2.
    value = 1/2 (1/16 + 1/16) + 3/4 = 13/16.
    """
    return instance(
        "off_row_does_not_count",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, -1],
        y=[2, -3 / 2, 0],
        lam=1 / 4,
        answer=[7 / 4, -5 / 4],
        value=13 / 16,
    )


def contradicting_off_rows() -> Instance:
    """Off rows that no h satisfies make nothing infeasible here: h <= -1 and h >= 2.

    One on row h against 3, lam = 1: h = 2. value = 1/2 + 2 = 5/2.
    """
    return instance(
        "contradicting_off_rows",
        "on off off",
        W=[[1], [1], [-1]],
        b=[0, 1, 2],
        y=[3, 0, 0],
        lam=1,
        answer=[2],
        value=5 / 2,
    )


def unseen_row() -> Instance:
    """A row that was not seen stands nowhere; as an on row its y = 9 would pull.

    W_on = I, y = (1, -1), lam = 1/2: h = (1/2, -1/2). value = 1/2 (1/4 + 1/4) + 1/2 = 3/4.
    """
    return instance(
        "unseen_row",
        "on unseen on",
        W=[[1, 0], [1, 1], [0, 1]],
        b=[0, -1, 0],
        y=[1, 9, -1],
        lam=1 / 2,
        answer=[1 / 2, -1 / 2],
        value=3 / 4,
    )


def no_on_rows() -> Instance:
    """Where no row counts only the l1 term is left, whatever the off rows say: h = 0.

    Off row 1 - h1 - 2 h2 stands at 1 > 0. lam = 1/2 > 0. value = 0.
    """
    return instance("no_on_rows", "off", W=[[-1, -2]], b=[1], y=[0], lam=1 / 2, answer=[0, 0], value=0)


def everything_at_once() -> Instance:
    """On rows of different weight and bias, an off and an unseen row, in mixed order.

    Row 1 (off) h1 + h2 + 5; row 2 (on, weight 1) h1 + 1 against 3; row 3 (unseen); row 4 (on, weight 4) h2 - 1
    against -4. lam = 1: (h1 - 2) = -1, h1 = 1; 4 (h2 + 3) = 1, h2 = -11/4. The off row stands at 13/4.
    value = 1/2 + 2 (1/4)^2 + 15/4 = 4/8 + 1/8 + 30/8 = 35/8.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[1, 1], [1, 0], [3, -7], [0, 1]],
        b=[5, 1, 5, -1],
        y=[0, 3, 1, -4],
        weight=[1, 1, 1, 4],
        lam=1,
        answer=[1, -11 / 4],
        value=35 / 8,
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    soft_threshold,
    sign_is_free,
    bias_in_on_rows,
    image_layer,
    weights,
    lam_at_the_threshold,
    fewer_rows_than_unknowns,
    opposite_columns,
    l1_picks_the_longer_column,
    lam0_least_squares,
    lam0_realizable,
    lam0_fewer_rows_than_unknowns,
    off_row_does_not_count,
    contradicting_off_rows,
    unseen_row,
    no_on_rows,
    everything_at_once,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    terms = [f"{instance.weight[i] / 2:g} ({affine([*W[i], b[i], -y[i]], h)})^2" for i in np.flatnonzero(instance.on)]
    if instance.penalty:
        terms.append(f"{instance.penalty:g} ({' + '.join(f'|{h_j}|' for h_j in h)})")
    return f"minimise    {' + '.join(terms) or '0'}\nsubject to  nothing: h is free"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: half_squares(i, x) + i.penalty * cp.norm1(x), nonnegative=False, ends=free)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="Lasso")
