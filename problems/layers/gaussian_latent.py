"""The latent of the Latent-Pursuit: a Gaussian prior and a ReLU layer, read from the paper.

In the paper's letters, for the first layer, whose ReLU gave x_1 with support S and complement S^c:

    minimise    1/2 || x_1^S - W_0^S z ||_2^2  +  gamma/2 || z ||_2^2                         (16)
    subject to  W_0^{S^c} z <= 0

z is drawn from a normal distribution, so this is its maximum a posteriori estimate with gamma > 0 as the
ratio of noise to prior variance. z came out of no ReLU and is free. Besides the prior
nothing sets (16) apart from (9).

In our letters, with what the paper leaves out:

    minimise    1/2 sum_{i in on} weight_i (W z + b - y)_i^2  +  gamma/2 |z|^2
    subject to  (W z + b)_i <= 0  for i in off

    z -> z,  x_1 -> y,  W_0 -> W,  S -> on,  S^c -> off,  gamma -> gamma

Four additions: gamma = 0 is allowed; the paper's layers have no bias, here W z becomes W z + b in both
places; a row in neither on nor off was not seen (a masked pixel) and stands nowhere; behind a LeakyReLU of
slope a every seen row is on, and a negative output y_i = a (W z + b)_i enters as y_i / a with weight a^2, its
misfit measured at the output.

Optimality, used in the working below: z is optimal if there is mu >= 0 on the off rows, zero on slack
ones, with

    g = W_on' weight (W_on z + b_on - y_on) + gamma z + W_off' mu = 0

and it is the only optimum where gamma > 0 or W_on has independent columns.
Infeasible means a ray: mu >= 0 on the off rows with W_off' mu = 0 and b_off' mu > 0, because every feasible
z would give 0 >= mu'(W_off z + b_off) = b_off' mu > 0.

Source: Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted?, 2020, eq. (16), set
down here from the words of section 5 that describe it.

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, half_squares, instance, off_below_zero, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve equation (16) as it stands in the paper; gives (infinity, None) where nothing is feasible."""
    S, Sc = instance.on, instance.off
    W_S, W_Sc = instance.W[S], instance.W[Sc]
    b_S, b_Sc = instance.b[S], instance.b[Sc]
    x_1_S, gamma = instance.y[S], instance.penalty
    omega_S = instance.weight[S]

    z = cp.Variable(instance.W.shape[1])
    misfit = 1 / 2 * (omega_S @ cp.square(x_1_S - (W_S @ z + b_S)))
    problem = cp.Problem(
        cp.Minimize(misfit + gamma / 2 * cp.sum_squares(z)),
        [W_Sc @ z + b_Sc <= 0],
    )
    problem.solve(**TIGHT)
    return float(problem.value), z.value


# ---- instances: what the misfit and the prior do -----------------------------------------------------------


def shrinkage() -> Instance:
    """The prior divides by 1 + gamma and never reaches zero, where the l1 term would subtract and stop.

    W = diag(1, -1), y = (3, 1), gamma = 1/2: 3/2 z = (3, -1), so z = (2, -2/3).
    z is free: the second entry is negative.
    value = 1/2 (1 + 1/9) + 1/4 (4 + 4/9) = 5/9 + 10/9 = 5/3.
    """
    return instance(
        "shrinkage",
        "on on",
        W=[[1, 0], [0, -1]],
        b=[0, 0],
        y=[3, 1],
        gamma=1 / 2,
        answer=[2, -2 / 3],
        value=5 / 3,
    )


def bias_in_on_rows() -> Instance:
    """The bias of an on row is subtracted from y; without it z would be 4/3.

    One row 2z + 1 against y = 4, gamma = 2: 2 (2z + 1 - 4) + 2z = 0, so z = 1.
    value = 1/2 (3 - 4)^2 + 1 = 3/2.
    """
    return instance(
        "bias_in_on_rows",
        "on",
        W=[[2]],
        b=[1],
        y=[4],
        gamma=2,
        answer=[1],
        value=3 / 2,
    )


def leaky_rows() -> Instance:
    """Behind a LeakyReLU of slope a = 1/2 a negative output enters as y/a with weight a^2 = 1/4.

    The layer maps z to (z, -z); the outputs seen were 3 and -1/2. The second was scaled by 1/2 on its way, so
    it stands for -1, and its misfit at the output, (a(-z) - (-1/2))^2, is 1/4 (-z + 1)^2. gamma = 3/8:
    (z - 3) + 1/4 (z - 1) + 3/8 z = 0, so 13/8 z = 13/4, z = 2.
    value = 1/2 + 1/8 + 3/16 (4) = 11/8. Weight 1 would give 32/19, weight a would give 28/15.
    """
    return instance(
        "leaky_rows",
        "on on",
        W=[[1], [-1]],
        b=[0, 0],
        y=[3, -1],
        weight=[1, 1 / 4],
        gamma=3 / 8,
        answer=[2],
        value=11 / 8,
    )


def fewer_rows_than_unknowns() -> Instance:
    """With gamma > 0 dependent columns do no harm: the prior takes the shortest z on the line.

    One row z1 + 2 z2 against y = 6, gamma = 1. (5 s - 6) W' + z = 0 puts z on the line s (1, 2):
    5 s - 6 + s = 0, s = 1.
    value = 1/2 (5 - 6)^2 + 1/2 (1 + 4) = 3.
    """
    return instance(
        "fewer_rows_than_unknowns",
        "on",
        W=[[1, 2]],
        b=[0],
        y=[6],
        gamma=1,
        answer=[1, 2],
        value=3,
    )


# ---- instances: gamma = 0 ----------------------------------------------------------------------------------


def gamma0_least_squares() -> Instance:
    """Without prior and off rows this is least squares.

    Columns (1, 1, 0) and (1, -1, 1) are orthogonal, so W'W = diag(2, 3). y - b = (4, 1, 0),
    W'(y - b) = (5, 3), z = (5/2, 1). W z - (y - b) = (7/2, 3/2, 1) - (4, 1, 0) = (-1/2, 1/2, 1).
    value = 1/2 (1/4 + 1/4 + 1) = 3/4.
    """
    return instance(
        "gamma0_least_squares",
        "on on on",
        W=[[1, 1], [1, -1], [0, 1]],
        b=[1, 1, 1],
        y=[5, 2, 1],
        gamma=0,
        answer=[5 / 2, 1],
        value=3 / 4,
    )


def gamma0_z_is_free() -> Instance:
    """The data on which nonnegative least squares leaves misfit 1/4 are matched exactly by a free z.

    Rows z1 + z2 = 1 and z2 = 2: z = (-1, 2). value = 0.
    """
    return instance(
        "gamma0_z_is_free",
        "on on",
        W=[[1, 1], [0, 1]],
        b=[0, 0],
        y=[1, 2],
        gamma=0,
        answer=[-1, 2],
        value=0,
    )


def gamma0_realizable() -> Instance:
    """A signal the layer made itself is recovered exactly: optimum 0, so no gap can be judged relative to it.

    z = (1, -1): rows 1 - 2 + 2 = 1 and 2 - 1 + 1 = 2 pass the ReLU, row -1 - 1 + 1/2 = -3/2 is cut.
    The two on rows are independent, so no other z matches them. value = 0.
    """
    return instance(
        "gamma0_realizable",
        "on on off",
        W=[[1, 2], [2, 1], [-1, 1]],
        b=[2, 1, 1 / 2],
        y=[1, 2, 0],
        gamma=0,
        answer=[1, -1],
        value=0,
    )


def gamma0_off_row_binds() -> Instance:
    """An off row alone keeps least squares from its exact match, at equal cost to both entries.

    W_on = I, y = (2, 1), off row z1 + z2 - 2 <= 0. z = (2 - mu, 1 - mu), 3 - 2 mu = 2, mu = 1/2: z = (3/2,
    1/2).
    value = 1/2 (1/4 + 1/4) = 1/4.
    """
    return instance(
        "gamma0_off_row_binds",
        "on on off",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -2],
        y=[2, 1, 0],
        gamma=0,
        answer=[3 / 2, 1 / 2],
        value=1 / 4,
    )


def gamma0_singular() -> Instance:
    """Without prior and with fewer on rows than unknowns a realizable signal does not determine z.

    One row z1 + z2 = 2; value 0 on the whole line, noted is its shortest point (1, 1).
    """
    return instance(
        "gamma0_singular",
        "on",
        W=[[1, 1]],
        b=[0],
        y=[2],
        gamma=0,
        answer=[1, 1],
        value=0,
        unique=False,
    )


def gamma0_singular_misfit() -> Instance:
    """Singular W_on'W_on and an optimum above 0: the value is settled, z is not.

    Rows z1 + z2 against 1 and once more against 3: z1 + z2 = 2. value = 1/2 (1 + 1) = 1; noted is (1, 1).
    The misfit (1, -1) is orthogonal to both columns, which alone proves that nothing is below 1.
    """
    return instance(
        "gamma0_singular_misfit",
        "on on",
        W=[[1, 1], [1, 1]],
        b=[0, 0],
        y=[1, 3],
        gamma=0,
        answer=[1, 1],
        value=1,
        unique=False,
    )


# ---- instances: off rows -----------------------------------------------------------------------------------


def off_row_binds() -> Instance:
    """An off row with a bias caps the sum at 1 where the prior alone would leave 3/2.

    W_on = I, y = (2, 1), gamma = 1, off row z1 + z2 - 1 <= 0. Without it z = (1, 1/2). With it
    z = ((2 - mu)/2, (1 - mu)/2), (3 - 2 mu)/2 = 1, mu = 1/2: z = (3/4, 1/4).
    value = 1/2 (25/16 + 9/16) + 1/2 (9/16 + 1/16) = 17/16 + 5/16 = 11/8.
    """
    return instance(
        "off_row_binds",
        "on on off",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -1],
        y=[2, 1, 0],
        gamma=1,
        answer=[3 / 4, 1 / 4],
        value=11 / 8,
    )


def unseen_row() -> Instance:
    """A row that was not seen constrains nothing: off_row_binds with its off row masked.

    z = y/2 = (1, 1/2), and the unseen row is free to stand at 1/2 > 0.
    value = 1/2 (1 + 1/4) + 1/2 (1 + 1/4) = 5/4.
    As an off row it would bind; as an on row its y = 9 would pull.
    """
    return instance(
        "unseen_row",
        "on on unseen",
        W=[[1, 0], [0, 1], [1, 1]],
        b=[0, 0, -1],
        y=[2, 1, 9],
        gamma=1,
        answer=[1, 1 / 2],
        value=5 / 4,
    )


def off_row_without_bias() -> Instance:
    """The paper's own case, W^{S^c} z <= 0: an off row ties two entries, and one of them goes up.

    W_on = I, y = (3, 1), gamma = 1, off row z1 - z2 <= 0. Without it z = (3/2, 1/2). With it
    z = ((3 - mu)/2, (1 + mu)/2), equal at mu = 1: z = (1, 1).
    value = 1/2 (4 + 0) + 1/2 (1 + 1) = 3.
    """
    return instance(
        "off_row_without_bias",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        y=[3, 1, 0],
        gamma=1,
        answer=[1, 1],
        value=3,
    )


def off_row_with_positive_bias() -> Instance:
    """A positive bias on an off row makes z = 0 infeasible, and an entry no on row sees is set by it alone.

    On row z1 against 1, gamma = 1, off row 1 - z1 - z2 <= 0. Without it z = (1/2, 0), which is not allowed.
    2 z1 - 1 - mu = 0 and z2 - mu = 0: (1 + mu)/2 + mu = 1, mu = 1/3: z = (2/3, 1/3).
    value = 1/2 (1/9) + 1/2 (4/9 + 1/9) = 1/18 + 5/18 = 1/3.
    """
    return instance(
        "off_row_with_positive_bias",
        "on off",
        W=[[1, 0], [-1, -1]],
        b=[0, 1],
        y=[1, 0],
        gamma=1,
        answer=[2 / 3, 1 / 3],
        value=1 / 3,
    )


def off_row_forces_a_negative_entry() -> Instance:
    """An off row can push an entry below zero, which h >= 0 would have forbidden.

    One on row z1 + 1 against 3, gamma = 1, off row z1 + z2 <= 0: 2 z1 - 2 + mu = 0 and z2 + mu = 0, so
    z2 = -mu, z1 = 1 - mu/2 = mu, mu = 2/3: z = (2/3, -2/3).
    value = 1/2 (4/3)^2 + 1/2 (4/9 + 4/9) = 8/9 + 4/9 = 4/3.
    """
    return instance(
        "off_row_forces_a_negative_entry",
        "on off",
        W=[[1, 0], [1, 1]],
        b=[1, 0],
        y=[3, 0],
        gamma=1,
        answer=[2 / 3, -2 / 3],
        value=4 / 3,
    )


def two_off_rows_bind() -> Instance:
    """Two off rows at once, with different multipliers, fix z completely.

    W_on = I, y = (3, 4), gamma = 1/2, off rows z1 + 2 z2 - 3 <= 0 and 2 z1 + z2 - 3 <= 0 meet at z = (1, 1).
    g_1 = 1 - 3 + 1/2 + mu1 + 2 mu2 = 0 and g_2 = 1 - 4 + 1/2 + 2 mu1 + mu2 = 0 give
    mu = (7/6, 1/6), both positive.
    value = 1/2 (4 + 9) + 1/4 (2) = 7.
    """
    return instance(
        "two_off_rows_bind",
        "on on off off",
        W=[[1, 0], [0, 1], [1, 2], [2, 1]],
        b=[0, 0, -3, -3],
        y=[3, 4, 0, 0],
        gamma=1 / 2,
        answer=[1, 1],
        value=7,
    )


def everything_at_once() -> Instance:
    """On rows of different weight and bias, an off row that binds and an unseen row, in mixed order.

    Row 1 (off) z1 + z2 - 11/10 <= 0; row 2 (on, weight 1) z1 + 1 against 3; row 3 (unseen); row 4
    (on, weight 4) z2 - 1 against 0. gamma = 1: (z1 - 2) + z1 + mu = 0 and 4 (z2 - 1) + z2 + mu = 0, so
    z1 = 1 - mu/2 and z2 = 4/5 - mu/5. Their sum 9/5 - 7/10 mu = 11/10 at mu = 1: z = (1/2, 3/5).
    value = 1/2 (3/2)^2 + 2 (2/5)^2 + 1/2 (1/4 + 9/25) = 9/8 + 8/25 + 61/200 = 7/4.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[1, 1], [1, 0], [3, -7], [0, 1]],
        b=[-11 / 10, 1, 5, -1],
        y=[0, 3, 1, 0],
        weight=[1, 1, 1, 4],
        gamma=1,
        answer=[1 / 2, 3 / 5],
        value=7 / 4,
    )


# ---- instances: no on rows, nothing feasible ---------------------------------------------------------------


def no_on_rows() -> Instance:
    """A layer whose ReLU cut every row says only where z is not; the prior then prefers z = 0.

    Off rows z1 - z2 - 1 <= 0 and z2 - 2 <= 0 hold at 0, and gamma = 1/2 > 0. value = 0.
    """
    return instance(
        "no_on_rows",
        "off off",
        W=[[1, -1], [0, 1]],
        b=[-1, -2],
        y=[0, 0],
        gamma=1 / 2,
        answer=[0, 0],
        value=0,
    )


def no_on_rows_projection() -> Instance:
    """Without on rows the answer is the feasible point nearest to 0, whatever gamma > 0 is.

    Off row 5 - z1 - 2 z2 <= 0, gamma = 2: the nearest point of z1 + 2 z2 = 5 is along (1, 2), so z = (1, 2),
    mu = 2.
    value = 1 + 4 = 5.
    """
    return instance(
        "no_on_rows_projection",
        "off",
        W=[[-1, -2]],
        b=[5],
        y=[0],
        gamma=2,
        answer=[1, 2],
        value=5,
    )


def infeasible_rows() -> Instance:
    """Off rows that contradict each other: z1 + z2 <= 1 and z1 + z2 >= 2.

    mu = (1, 1) on the off rows: W_off' mu = (1, 1) + (-1, -1) = 0 and b_off' mu = -1 + 2 = 1 > 0.
    """
    return instance(
        "infeasible_rows",
        "on off off",
        W=[[1, 0], [1, 1], [-1, -1]],
        b=[0, -1, 2],
        y=[1, 0, 0],
        gamma=1 / 2,
        answer=None,
        value=np.inf,
        ray=[0, 1, 1],
    )


def infeasible_cycle() -> Instance:
    """Three off rows of which any two agree: z1 <= -1, z2 <= z1 and z2 >= 0.

    Rows z1 + 1 <= 0, 2 z2 - 2 z1 <= 0 and -z2 <= 0 with mu = (2, 1, 2):
    W_off' mu = 2 (1, 0) + (-2, 2) + 2 (0, -1) = 0 and b_off' mu = 2 > 0.
    """
    return instance(
        "infeasible_cycle",
        "off on off off",
        W=[[1, 0], [1, 1], [-2, 2], [0, -1]],
        b=[1, 0, 0, 0],
        y=[0, 1, 0, 0],
        gamma=0,
        answer=None,
        value=np.inf,
        ray=[2, 0, 1, 2],
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    shrinkage,
    bias_in_on_rows,
    leaky_rows,
    fewer_rows_than_unknowns,
    gamma0_least_squares,
    gamma0_z_is_free,
    gamma0_realizable,
    gamma0_off_row_binds,
    gamma0_singular,
    gamma0_singular_misfit,
    off_row_binds,
    unseen_row,
    off_row_without_bias,
    off_row_with_positive_bias,
    off_row_forces_a_negative_entry,
    two_off_rows_bind,
    everything_at_once,
    no_on_rows,
    no_on_rows_projection,
    infeasible_rows,
    infeasible_cycle,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Equation (16) with the numbers of one instance."""
    W, b, y = instance.W, instance.b, instance.y
    z = [f"z{j + 1}" for j in range(W.shape[1])]
    terms = [f"{instance.weight[i] / 2:g} ({affine([*W[i], b[i], -y[i]], z)})^2" for i in np.flatnonzero(instance.on)]
    if instance.penalty:
        terms.append(f"{instance.penalty / 2:g} ({' + '.join(f'{z_j}^2' for z_j in z)})")
    conditions = [f"{affine([*W[i], b[i]], z)} <= 0" for i in np.flatnonzero(instance.off)]
    conditions = conditions or ["nothing: z is free"]
    return f"minimise    {' + '.join(terms)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(
    lambda i, x: half_squares(i, x) + i.penalty / 2 * cp.sum_squares(x),
    nonnegative=False,
    ends=off_below_zero,
)


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="GaussianLatent", letter="z")
