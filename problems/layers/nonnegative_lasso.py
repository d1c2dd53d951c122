"""The middle layers of the Latent-Pursuit: a nonnegative LASSO behind a ReLU, read from the paper.

In the paper's letters, for the layer whose ReLU gave x_{i+1} with support S and complement S^c:

    minimise    1/2 || x_{i+1}^S - W_i^S x ||_2^2  +  lambda_i 1'x                            (9)
    subject to  x >= 0,   W_i^{S^c} x <= 0

S is where the next layer is positive: there the ReLU let the row through and it can be matched. Elsewhere it
cut the row, which leaves an inequality. x >= 0 because x came out of a ReLU itself, and under x >= 0 the l1
norm is the sum 1'x. With the identity as output activation every row can be matched, S^c is empty and this is
the image layer, equation (8).

In our letters, with what the paper leaves out:

    minimise    1/2 sum_{i in on} weight_i (W h + b - y)_i^2  +  lam 1'h
    subject to  h >= 0,   (W h + b)_i <= 0  for i in off

    x -> h,  x_{i+1} -> y,  W_i -> W,  S -> on,  S^c -> off,  lambda_i -> lam

Three additions: the paper's layers have no bias, here W x becomes W x + b in both places; a row in neither on
nor off was not seen (a masked pixel) and stands nowhere; behind a LeakyReLU of slope a every seen row is on,
and a negative output y_i = a (W h + b)_i enters as y_i / a with weight a^2, so that its misfit is measured at
the output.

Optimality, used in the working below: h is optimal if there is mu >= 0 on the off rows, zero on slack
ones, with

    g = W_on' weight (W_on h + b_on - y_on) + lam 1 + W_off' mu >= 0   and   g_j = 0 wherever h_j > 0

and it is the only optimum where W_on has independent columns; elsewhere the working says what settles it.
Infeasible means a ray: mu >= 0 on the off rows with W_off' mu >= 0 and b_off' mu > 0, because every feasible
h would give 0 >= mu'(W_off h + b_off) >= b_off' mu > 0.

Source: Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted?, 2020, eq. (8), (9), set
down here from the words of section 5 that describe them.

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, half_squares, instance, off_below_zero, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve equation (9) as it stands in the paper; gives (infinity, None) where nothing is feasible."""
    S, Sc = instance.on, instance.off
    W_S, W_Sc = instance.W[S], instance.W[Sc]
    b_S, b_Sc = instance.b[S], instance.b[Sc]
    x_next_S, lambda_i = instance.y[S], instance.penalty
    omega_S = instance.weight[S]

    x = cp.Variable(instance.W.shape[1])
    misfit = 1 / 2 * (omega_S @ cp.square(x_next_S - (W_S @ x + b_S)))
    problem = cp.Problem(
        cp.Minimize(misfit + lambda_i * cp.sum(x)),
        [x >= 0, W_Sc @ x + b_Sc <= 0],
    )
    problem.solve(**TIGHT)
    return float(problem.value), x.value


# ---- instances: what the misfit and the l1 term do ---------------------------------------------------------


def soft_threshold() -> Instance:
    """The l1 term subtracts lam and stops at zero: with W = I the answer is max(y - lam, 0).

    W = I, y = (2, 1/2), lam = 1, so h = (1, 0).
    g_1 = (1 - 2) + 1 = 0, g_2 = (0 - 1/2) + 1 = 1/2 >= 0.
    value = 1/2 (1 + 1/4) + 1 = 13/8.
    """
    return instance(
        "soft_threshold",
        "on on",
        W=[[1, 0], [0, 1]],
        b=[0, 0],
        y=[2, 0.5],
        lam=1,
        answer=[1, 0],
        value=13 / 8,
    )


def bias_in_on_rows() -> Instance:
    """The bias of an on row is subtracted from y; without it h would be 7/4.

    One row 2h + 1 against y = 4, lam = 1: 2 (2h + 1 - 4) + 1 = 0, so h = 5/4.
    value = 1/2 (7/2 - 4)^2 + 5/4 = 1/8 + 5/4 = 11/8.
    """
    return instance("bias_in_on_rows", "on", W=[[2]], b=[1], y=[4], lam=1, answer=[5 / 4], value=11 / 8)


def image_layer() -> Instance:
    """Equation (8) with an identity output: no off rows, more rows than unknowns, a bias everywhere.

    Columns (1, 1, 0) and (1, -1, 1) are orthogonal, so W'W = diag(2, 3). y - b = (4, 1, 2),
    W'(y - b) = (5, 5). lam = 2: h = ((5 - 2)/2, (5 - 2)/3) = (3/2, 1).
    W h - (y - b) = (5/2, 1/2, 1) - (4, 1, 2) = (-3/2, -1/2, -1).
    value = 1/2 (9/4 + 1/4 + 1) + 2 (5/2) = 7/4 + 5 = 27/4.
    """
    return instance(
        "image_layer",
        "on on on",
        W=[[1, 1], [1, -1], [0, 1]],
        b=[1, 1, 1],
        y=[5, 2, 3],
        lam=2,
        answer=[3 / 2, 1],
        value=27 / 4,
    )


def large_lam() -> Instance:
    """From lam = max(W_on'(y - b)) on, nothing is worth its price and h = 0.

    W'y = (1 + 2, 2 + 1) = (3, 3) and lam = 4, so at h = 0: g = -(3, 3) + 4 = (1, 1) > 0.
    value = 1/2 (1 + 1) = 1.
    """
    return instance("large_lam", "on on", W=[[1, 2], [2, 1]], b=[0, 0], y=[1, 1], lam=4, answer=[0, 0], value=1)


def leaky_rows() -> Instance:
    """Behind a LeakyReLU of slope a = 1/2 a negative output enters as y/a with weight a^2 = 1/4.

    The layer maps h to (h, -h); the outputs seen were 3 and -1. The second was scaled by 1/2 on its way, so
    it stands for -2, and its misfit at the output, (a(-h) - (-1))^2, is 1/4 (-h + 2)^2. lam = 1/2:
    (h - 3) + 1/4 (h - 2) + 1/2 = 0, so 5/4 h = 3, h = 12/5.
    value = 1/2 (3/5)^2 + 1/8 (2/5)^2 + 1/2 (12/5) = 9/50 + 1/50 + 60/50 = 7/5.
    Weight 1 would give 9/4, weight a would give 7/3.
    """
    return instance(
        "leaky_rows",
        "on on",
        W=[[1], [-1]],
        b=[0, 0],
        y=[3, -2],
        weight=[1, 1 / 4],
        lam=1 / 2,
        answer=[12 / 5],
        value=7 / 5,
    )


def rank_deficient() -> Instance:
    """With dependent columns the value is settled and h is not.

    One row h1 + h2 against y = 2, lam = 1/2. Both objective terms see only s = h1 + h2:
    (s - 2) + 1/2 = 0, s = 3/2.
    value = 1/2 (1/4) + 3/4 = 7/8, reached by every h >= 0 on that line; noted is its middle (3/4, 3/4).
    """
    return instance(
        "rank_deficient",
        "on",
        W=[[1, 1]],
        b=[0],
        y=[2],
        lam=1 / 2,
        answer=[3 / 4, 3 / 4],
        value=7 / 8,
        unique=False,
    )


def l1_picks_the_longer_column() -> Instance:
    """With dependent columns of different length the l1 term does settle h: it buys the cheaper one.

    One row h1 + 2 h2 against y = 2, lam = 1/2. A unit of the row costs lam through h1 and lam/2 through h2,
    so h1 = 0 and 2 (2 h2 - 2) + 1/2 = 0, h2 = 7/8. g_1 = (7/4 - 2) + 1/2 = 1/4 > 0.
    value = 1/2 (1/4)^2 + 7/16 = 1/32 + 14/32 = 15/32.
    """
    return instance(
        "l1_picks_the_longer_column",
        "on",
        W=[[1, 2]],
        b=[0],
        y=[2],
        lam=1 / 2,
        answer=[0, 7 / 8],
        value=15 / 32,
    )


# ---- instances: lam = 0 ------------------------------------------------------------------------------------


def lam0_nonnegativity() -> Instance:
    """Nonnegative least squares is not least squares clipped at zero.

    Rows h1 + h2 and h2 against y = (1, 2). Least squares is exact at (-1, 2); clipped, (0, 2) costs 1/2.
    With h1 = 0: (h2 - 1) + (h2 - 2) = 0, h2 = 3/2. g_1 = 3/2 - 1 = 1/2 >= 0.
    value = 1/2 (1/4 + 1/4) = 1/4.
    """
    return instance(
        "lam0_nonnegativity",
        "on on",
        W=[[1, 1], [0, 1]],
        b=[0, 0],
        y=[1, 2],
        lam=0,
        answer=[0, 3 / 2],
        value=1 / 4,
    )


def lam0_realizable() -> Instance:
    """A signal the layer made itself is recovered exactly: optimum 0, so no gap can be judged relative to it.

    h = (1, 1): rows 1 + 2 + 1/2 = 7/2 and 3 + 1 - 1 = 3 pass the ReLU, row 1 - 2 + 1/2 = -1/2 is cut.
    The two on rows are independent, so no other h matches them. value = 0.
    """
    return instance(
        "lam0_realizable",
        "on on off",
        W=[[1, 2], [3, 1], [1, -2]],
        b=[1 / 2, -1, 1 / 2],
        y=[7 / 2, 3, 0],
        lam=0,
        answer=[1, 1],
        value=0,
    )


def lam0_realizable_on_the_boundary() -> Instance:
    """A realizable signal whose off row stands at exactly zero, where an entry of h is zero too.

    h = (2, 0): rows 2 and 2 pass, row h1 - h2 - 2 = 0 is cut at the edge. The on rows (1, 1) and (1, -1) are
    independent, so h is the only exact match; all multipliers may be zero. value = 0.
    """
    return instance(
        "lam0_realizable_on_the_boundary",
        "on on off",
        W=[[1, 1], [1, -1], [1, -1]],
        b=[0, 0, -2],
        y=[2, 2, 0],
        lam=0,
        answer=[2, 0],
        value=0,
    )


def lam0_fewer_rows_than_unknowns() -> Instance:
    """Without the l1 term and with fewer on rows than unknowns a realizable signal does not determine h.

    Rows h1 + h2 = 2 and h2 + h3 = 2 leave the line (1 + t, 1 - t, 1 + t), on which h >= 0
    allows -1 <= t <= 1. value = 0; noted is t = 0.
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


def lam0_off_row_binds() -> Instance:
    """An off row alone keeps least squares from its exact match, at equal cost to both entries.

    W_on = I, y = (2, 1), off row h1 + h2 - 2 <= 0. h = (2 - mu, 1 - mu), 3 - 2 mu = 2, mu = 1/2:
    h = (3/2, 1/2).
    value = 1/2 (1/4 + 1/4) = 1/4.
    """
    return instance(
        "lam0_off_row_binds",
        "on on off",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -2],
        y=[2, 1, 0],
        lam=0,
        answer=[3 / 2, 1 / 2],
        value=1 / 4,
    )


def lam0_dependent_columns_off_row() -> Instance:
    """No l1 term, dependent columns and an optimum above 0: an off row settles the value, nothing settles h.

    One on row h1 + h2 against y = 3, off row h1 + h2 - 1 <= 0, so s = h1 + h2 = 1 and mu = 3 - 1 = 2.
    value = 1/2 (2)^2 = 2, reached by every h >= 0 with that sum; noted is (1/2, 1/2).
    """
    return instance(
        "lam0_dependent_columns_off_row",
        "on off",
        W=[[1, 1], [1, 1]],
        b=[0, -1],
        y=[3, 0],
        lam=0,
        answer=[1 / 2, 1 / 2],
        value=2,
        unique=False,
    )


def lam0_opposite_columns() -> Instance:
    """No l1 term and columns that cancel: h runs off to infinity at no cost, and no translation can repair a dual point.

    Columns (1, 0) and (-1, 0), y = (1, 1): row one is met by every h1 - h2 = 1, row two by none.
    value = 1/2 1^2 = 1/2, reached by (1 + t, t) for every t >= 0; noted is (1, 0). The dual point is p = (0, -1).
    """
    return instance(
        "lam0_opposite_columns",
        "on on",
        W=[[1, -1], [0, 0]],
        b=[0, 0],
        y=[1, 1],
        lam=0,
        answer=[1, 0],
        value=1 / 2,
        unique=False,
    )


# ---- instances: off rows -----------------------------------------------------------------------------------


def off_row_binds() -> Instance:
    """An off row caps the sum at 1 where soft thresholding would give 3.

    W_on = I, y = (2, 3/2), lam = 1/4, off row h1 + h2 - 1 <= 0. Without it h = (7/4, 5/4). With it
    h = (7/4 - mu, 5/4 - mu), 3 - 2 mu = 1, mu = 1: h = (3/4, 1/4).
    value = 1/2 (25/16 + 25/16) + 1/4 = 25/16 + 4/16 = 29/16.
    """
    return instance(
        "off_row_binds",
        "on on off",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -1],
        y=[2, 3 / 2, 0],
        lam=1 / 4,
        answer=[3 / 4, 1 / 4],
        value=29 / 16,
    )


def unseen_row() -> Instance:
    """A row that was not seen constrains nothing: off_row_binds with its off row masked.

    Soft thresholding of y = (2, 3/2) by lam = 1/4: h = (7/4, 5/4), and the unseen row is free
    to stand at 2 > 0.
    value = 1/2 (1/16 + 1/16) + 3/4 = 1/16 + 12/16 = 13/16.
    As an off row it would bind; as an on row its y = 9 would pull.
    """
    return instance(
        "unseen_row",
        "on on unseen",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -1],
        y=[2, 3 / 2, 9],
        lam=1 / 4,
        answer=[7 / 4, 5 / 4],
        value=13 / 16,
    )


def off_row_without_bias() -> Instance:
    """The paper's own case, W^{S^c} x <= 0: an off row can push an entry up, against the l1 term.

    W_on = I, y = (3, 1), lam = 1/2, off row h1 - h2 <= 0. Without it h = (5/2, 1/2). With it
    h = (5/2 - mu, 1/2 + mu), equal at mu = 1: h = (3/2, 3/2).
    value = 1/2 (9/4 + 1/4) + 3/2 = 5/4 + 6/4 = 11/4.
    """
    return instance(
        "off_row_without_bias",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        y=[3, 1, 0],
        lam=1 / 2,
        answer=[3 / 2, 3 / 2],
        value=11 / 4,
    )


def off_row_empties_an_entry() -> Instance:
    """An off row and h >= 0 active at once: the entry soft thresholding keeps is given up for the cap.

    W_on = I, y = (2, 1/2), lam = 1/4, off row h1 + h2 - 1 <= 0. Without it h = (7/4, 1/4). Both positive
    would need mu = 1/2 and h2 = -1/4, so h2 = 0, h1 = 1, mu = 7/4 - 1 = 3/4.
    g_2 = -1/2 + 1/4 + 3/4 = 1/2 >= 0.
    value = 1/2 (1 + 1/4) + 1/4 = 7/8.
    """
    return instance(
        "off_row_empties_an_entry",
        "on on off",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -1],
        y=[2, 1 / 2, 0],
        lam=1 / 4,
        answer=[1, 0],
        value=7 / 8,
    )


def off_row_with_positive_bias() -> Instance:
    """A positive bias on an off row makes h = 0 infeasible: something must push that row down.

    W_on = I, y = (1/2, 0), lam = 1, off row 1 - h1 - h2 <= 0. Soft thresholding gives (0, 0), which is not
    allowed. h = (mu - 1/2, mu - 1), 2 mu - 3/2 = 1, mu = 5/4: h = (3/4, 1/4).
    value = 1/2 (1/16 + 1/16) + 1 = 17/16.
    """
    return instance(
        "off_row_with_positive_bias",
        "on on off",
        W=[[1, 0], [0, 1], [-1, -1]],
        b=[0, 0, 1],
        y=[1 / 2, 0, 0],
        lam=1,
        answer=[3 / 4, 1 / 4],
        value=17 / 16,
    )


def two_off_rows_bind() -> Instance:
    """Two off rows at once, with different multipliers, fix h completely.

    W_on = I, y = (3, 4), lam = 1/2, off rows h1 + 2 h2 - 3 <= 0 and 2 h1 + h2 - 3 <= 0 meet at h = (1, 1).
    g_1 = 1 - 3 + 1/2 + mu1 + 2 mu2 = 0 and g_2 = 1 - 4 + 1/2 + 2 mu1 + mu2 = 0 give
    mu = (7/6, 1/6), both positive.
    value = 1/2 (4 + 9) + 1 = 15/2.
    """
    return instance(
        "two_off_rows_bind",
        "on on off off",
        W=[[1, 0], [0, 1], [1, 2], [2, 1]],
        b=[0, 0, -3, -3],
        y=[3, 4, 0, 0],
        lam=1 / 2,
        answer=[1, 1],
        value=15 / 2,
    )


def everything_at_once() -> Instance:
    """On rows of different weight and bias, an off row that binds and an unseen row, in mixed order.

    Row 1 (off) h1 + h2 - 2 <= 0; row 2 (on, weight 1) h1 + 1 against 3; row 3 (unseen); row 4 (on, weight 4)
    h2 - 1 against 0. lam = 1/2: (h1 - 2) + 1/2 + mu = 0 and 4 (h2 - 1) + 1/2 + mu = 0, so h1 = 3/2 - mu and
    h2 = 7/8 - mu/4. Their sum 19/8 - 5/4 mu = 2 at mu = 3/10: h = (6/5, 4/5).
    value = 1/2 (4/5)^2 + 2 (1/5)^2 + 1/2 (2) = 8/25 + 2/25 + 1 = 7/5.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[1, 1], [1, 0], [3, -7], [0, 1]],
        b=[-2, 1, 5, -1],
        y=[0, 3, 1, 0],
        weight=[1, 1, 1, 4],
        lam=1 / 2,
        answer=[6 / 5, 4 / 5],
        value=7 / 5,
    )


# ---- instances: no on rows, nothing feasible ---------------------------------------------------------------


def no_on_rows() -> Instance:
    """A layer whose ReLU cut every row says only where h is not; the l1 term then prefers h = 0.

    Off rows h1 - h2 - 1 <= 0 and h2 - 2 <= 0 hold at 0, and lam = 1/2 > 0. value = 0.
    """
    return instance(
        "no_on_rows",
        "off off",
        W=[[1, -1], [0, 1]],
        b=[-1, -2],
        y=[0, 0],
        lam=1 / 2,
        answer=[0, 0],
        value=0,
    )


def no_on_rows_linear_program() -> Instance:
    """Without on rows and with a positive bias on an off row the problem is a linear program.

    Off row 1 - h1 - 2 h2 <= 0, lam = 1/2: minimise (h1 + h2)/2 where h1 + 2 h2 >= 1. A unit of the row costs
    1/2 through h1 and 1/4 through h2, so h = (0, 1/2), mu = 1/4, g_1 = 1/2 - 1/4 > 0.
    value = 1/4.
    """
    return instance(
        "no_on_rows_linear_program",
        "off",
        W=[[-1, -2]],
        b=[1],
        y=[0],
        lam=1 / 2,
        answer=[0, 1 / 2],
        value=1 / 4,
    )


def infeasible_rows() -> Instance:
    """Off rows that contradict each other: h1 + h2 <= 1 and h1 + h2 >= 2.

    mu = (1, 1) on the off rows: W_off' mu = (1, 1) + (-1, -1) = 0 and b_off' mu = -1 + 2 = 1 > 0.
    """
    return instance(
        "infeasible_rows",
        "on off off",
        W=[[1, 0], [1, 1], [-1, -1]],
        b=[0, -1, 2],
        y=[1, 0, 0],
        lam=1 / 2,
        answer=None,
        value=np.inf,
        ray=[0, 1, 1],
    )


def infeasible_by_sign() -> Instance:
    """An off row no h >= 0 can satisfy, though a free h could: h1 + 2 h2 + 1 <= 0.

    mu = 1: W_off' mu = (1, 2) >= 0, not 0, and b_off' mu = 1 > 0.
    """
    return instance(
        "infeasible_by_sign",
        "off on",
        W=[[1, 2], [1, -1]],
        b=[1, 0],
        y=[0, 1],
        lam=0,
        answer=None,
        value=np.inf,
        ray=[1, 0],
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    soft_threshold,
    bias_in_on_rows,
    image_layer,
    large_lam,
    leaky_rows,
    rank_deficient,
    l1_picks_the_longer_column,
    lam0_nonnegativity,
    lam0_realizable,
    lam0_realizable_on_the_boundary,
    lam0_fewer_rows_than_unknowns,
    lam0_off_row_binds,
    lam0_dependent_columns_off_row,
    lam0_opposite_columns,
    off_row_binds,
    unseen_row,
    off_row_without_bias,
    off_row_empties_an_entry,
    off_row_with_positive_bias,
    two_off_rows_bind,
    everything_at_once,
    no_on_rows,
    no_on_rows_linear_program,
    infeasible_rows,
    infeasible_by_sign,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Equation (9) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    terms = [f"{instance.weight[i] / 2:g} ({affine([*W[i], b[i], -y[i]], h)})^2" for i in np.flatnonzero(instance.on)]
    if instance.penalty:
        terms.append(f"{instance.penalty:g} ({' + '.join(h)})")
    conditions = ["h >= 0", *(f"{affine([*W[i], b[i]], h)} <= 0" for i in np.flatnonzero(instance.off))]
    return f"minimise    {' + '.join(terms)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: half_squares(i, x) + i.penalty * cp.sum(x), nonnegative=True, ends=off_below_zero)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="NonnegativeLasso")
