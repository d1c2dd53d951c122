"""An image layer behind an increasing output activation: every row of the layer lies in an interval, h >= 0.

In the papers' letters the image is y = phi(W_L x) + e, and of the noise a bound per pixel is known, |e_i| <= epsilon:

    minimise    1'x
    subject to  | phi(W_L x) - y |_i <= epsilon  for every pixel i,   x >= 0

As it stands this is not convex. phi is increasing, so each pixel's condition is an interval of W_L x:

    phi^-1(y_i - epsilon)  <=  (W_L x)_i  <=  phi^-1(y_i + epsilon)

with -infinity or infinity where y_i - epsilon or y_i + epsilon is outside the range of phi: a pixel of 1 behind a tanh
says that its row is large, and not how large. In our letters, with what this leaves out:

    minimise    1'h                                                                           (P)
    subject to  lo_i <= (W h + b)_i <= hi_i  for i in on,   (W h + b)_i <= hi_i  for i in off,   h >= 0

    x -> h,  W_L -> W,  phi^-1(y - epsilon) -> lo,  phi^-1(y + epsilon) -> hi

Additions: a bias; off rows, of which only the upper end is read; a row in neither on nor off was not seen and stands
nowhere. y, weight and penalty are not read. The phi used below: tanh on (-1, 1), phi^-1(v) = 1/2 log((1 + v)/(1 - v));
sigmoid on (0, 1), phi^-1(v) = log(v/(1 - v)); LeakyReLU of slope a, phi^-1(v) = v for v >= 0 and v/a below.

Optimality, used in the working below: this is a linear program, and h is optimal if it is feasible and there is p, zero on
unseen rows, with

    p_i > 0 only where row i is at hi_i,   p_i < 0 only where an on row is at lo_i,   p_off >= 0,
    (W'p)_j = -1 wherever h_j > 0,   (W'p)_j >= -1 everywhere

and then   1'h = p'b - sum_i ( hi_i p_i where p_i > 0, lo_i p_i where p_i < 0 ).
Infeasible means a ray: p with W'p >= 0, p_off >= 0, p = 0 on unseen rows, p_i <= 0 where hi_i is infinite, p_i >= 0 where
lo_i is, and the right-hand side above positive: for a feasible h, p'(W h + b) >= p'b would be at most the sum.

Source: the image layer of Aberdam, Simon, Elad, When and How Can Deep Generative Models be Inverted?, 2020, where
Algorithm 2 inverts phi on y itself; the interval is derived here, the sum 1'x is the l1 term of eq. (8).

Run as a script, this page shows equation, hand answer, transcription, exact and fast solution side by side.
"""

from collections.abc import Callable
from math import inf, log

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, instance, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """Solve the linear program of the intervals; gives (infinity, None) where nothing is feasible."""
    low = instance.on & np.isfinite(instance.lo)
    high = (instance.on | instance.off) & np.isfinite(instance.hi)

    x = cp.Variable(instance.W.shape[1])
    Wx = instance.W @ x + instance.b
    problem = cp.Problem(
        cp.Minimize(cp.sum(x)),
        [x >= 0, Wx[low] >= instance.lo[low], Wx[high] <= instance.hi[high]],
    )
    problem.solve(**TIGHT)
    return float(problem.value), x.value


# ---- instances: the ends -----------------------------------------------------------------------------------


def lower_end() -> Instance:
    """The sum is least at the lower end, moved by the bias.

    2h + 1 in [5, 9]: h = 2, p = -1/2. value = 2. Dual: -1/2 + 5/2 = 2.
    """
    return instance("lower_end", "on", W=[[2]], b=[1], lo=[5], hi=[9], answer=[2], value=2)


def upper_end() -> Instance:
    """An upper end of an on row caps the cheaper column.

    2 h1 + h2 in [8, 10], h1 in [0, 3]: h = (3, 2). p = (-1, 1): W'p = (-1, -1). value = 5. Dual: 8 - 3 = 5.
    """
    return instance("upper_end", "on on", W=[[2, 1], [1, 0]], b=[0, 0], lo=[8, 0], hi=[10, 3], answer=[3, 2], value=5)


def equal_ends() -> Instance:
    """Equal ends are an equation, and with fewer rows than unknowns the longest column of the right sign is bought.

    h1 + 2 h2 - 4 h3 = 8: p = -1/2, W'p = (-1/2, -1, 2), so h = (0, 4, 0). value = 4. Dual: 8/2 = 4.
    """
    return instance("equal_ends", "on", W=[[1, 2, -4]], b=[0], lo=[8], hi=[8], answer=[0, 4, 0], value=4)


def infinite_ends() -> Instance:
    """A row without ends says nothing, one without an upper end only that it is large.

    Rows h1 + h2 in (-inf, inf), h1 in [3, inf), h2 - 2 in (-inf, 1]: h = (3, 0). p = (0, -1, 0). value = 3.
    """
    return instance(
        "infinite_ends",
        "on on on",
        W=[[1, 1], [1, 0], [0, 1]],
        b=[0, 0, -2],
        lo=[-inf, 3, -inf],
        hi=[inf, inf, 1],
        answer=[3, 0],
        value=3,
    )


def bias_alone() -> Instance:
    """Where the bias lies in every interval, ends included, h = 0.

    b = (1, -2) in [0, 3] and [-2, 5]: row 2 stands at its lower end. value = 0.
    """
    return instance("bias_alone", "on on", W=[[1, 1], [1, -1]], b=[1, -2], lo=[0, -2], hi=[3, 5], answer=[0, 0], value=0)


def equal_columns() -> Instance:
    """With equal columns the value is settled and h is not.

    h1 + h2 in [2, 3]: p = -1. value = 2, reached by every h >= 0 with that sum; noted is (1, 1). Dual: 2.
    """
    return instance("equal_columns", "on", W=[[1, 1]], b=[0], lo=[2], hi=[3], answer=[1, 1], value=2, unique=False)


def column_that_serves_two_rows() -> Instance:
    """Fewer rows than unknowns: the longest column serves both rows, and only one of them asks for more.

    Rows h1 + 2 h3 in [3, 5] and h2 + 3 h3 in [6, 8]: h = (0, 0, 2) stands at 4 and 6. p = (0, -1/3),
    W'p = (0, -1/3, -1). value = 2. Dual: 6/3 = 2.
    """
    return instance(
        "column_that_serves_two_rows",
        "on on",
        W=[[1, 0, 2], [0, 1, 3]],
        b=[0, 0],
        lo=[3, 6],
        hi=[5, 8],
        answer=[0, 0, 2],
        value=2,
    )


# ---- instances: image layers -------------------------------------------------------------------------------


def tanh_with_saturated_pixels() -> Instance:
    """Behind a tanh a pixel of 1 leaves its row open upwards and one of -1 leaves it open downwards.

    epsilon = 1/10. Pixel 1: y = 1, tanh(h1) >= 9/10, lo = 1/2 log(19/1), hi = inf. Pixel 2: y = 6/10, tanh(h2) in
    [1/2, 7/10], lo = 1/2 log 3, hi = 1/2 log(17/3). Pixel 3: y = -1, tanh(h2 - h3) <= -9/10, lo = -inf,
    hi = -1/2 log 19. h1 = 1/2 log 19, h2 = 1/2 log 3, h3 = h2 + 1/2 log 19 = 1/2 log 57.
    p = (-1, -2, 1): W'p = (-1, -2 + 1, -1). value = 1/2 (log 19 + log 3 + log 57) = log 57.
    Dual: 1/2 log 19 + log 3 + 1/2 log 19 = log 57.
    """
    return instance(
        "tanh_with_saturated_pixels",
        "on on on",
        W=[[1, 0, 0], [0, 1, 0], [0, 1, -1]],
        b=[0, 0, 0],
        lo=[log(19) / 2, log(3) / 2, -inf],
        hi=[inf, log(17 / 3) / 2, -log(19) / 2],
        answer=[log(19) / 2, log(3) / 2, log(57) / 2],
        value=log(57),
    )


def sigmoid_with_black_and_white() -> Instance:
    """Behind a sigmoid black (0) leaves a row open downwards and white (1) leaves it open upwards.

    epsilon = 1/20. Pixel 1: y = 4/5, sigmoid in [3/4, 17/20], lo = log 3, hi = log(17/3). Pixel 2, white: at least 19/20,
    lo = log 19, hi = inf. Pixel 3, black: at most 1/20, lo = -inf, hi = -log 19. Rows h1, h2, h1 - h2: h1 = log 3, h2 =
    h1 + log 19 = log 57 > log 19. p = (-2, 0, 1): W'p = (-1, -1). value = log 171. Dual: 2 log 3 + log 19 = log 171.
    """
    return instance(
        "sigmoid_with_black_and_white",
        "on on on",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        lo=[log(3), log(19), -inf],
        hi=[log(17 / 3), inf, -log(19)],
        answer=[log(3), log(57)],
        value=log(171),
    )


def leaky_relu_ends() -> Instance:
    """Behind a LeakyReLU of slope 1/2 an interval around zero is lopsided: below zero it is twice as long.

    epsilon = 1/2. Pixel 1: y = 0, output in [-1/2, 1/2], row h - 5/2 in [-1, 1/2]. Pixel 2: y = -1, output in
    [-3/2, -1/2], row -h in [-3, -1]. h in [3/2, 3] and [1, 3]: h = 3/2, p = (-1, 0). value = 3/2. Dual: 5/2 - 1 = 3/2.
    An even interval [-1/2, 1/2] would give 2.
    """
    return instance(
        "leaky_relu_ends",
        "on on",
        W=[[1], [-1]],
        b=[-5 / 2, 0],
        lo=[-1, -3],
        hi=[1 / 2, -1],
        answer=[3 / 2],
        value=3 / 2,
    )


# ---- instances: off rows, unseen rows ----------------------------------------------------------------------


def off_row_has_no_lower_end() -> Instance:
    """Of an off row only the upper end is read: at [1, 3] it stands at 0.

    2 h1 + h2 in [5, 9], off row h2 in [1, 3]: h = (5/2, 0). p = (-1/2, 0), (W'p)_2 = -1/2. value = 5/2. As an on row it
    would need h2 = 1, h1 = 2, of value 3.
    """
    return instance(
        "off_row_has_no_lower_end",
        "on off",
        W=[[2, 1], [0, 1]],
        b=[0, 0],
        lo=[5, 1],
        hi=[9, 3],
        answer=[5 / 2, 0],
        value=5 / 2,
    )


def two_off_rows_bind() -> Instance:
    """Two off rows, each at its own upper end, cap the cheap columns; an unseen row that contradicts them does not count.

    4 h1 + 2 h2 + h3 in [17, inf), off rows h1 - 2 <= 1 and h2 - 1 <= 1/2: h = (3, 3/2, 2). Unseen: h1 in [9, 10].
    p = (-1, 3, 1, 0): W'p = (-4 + 3, -2 + 1, -1). value = 13/2. Dual: -6 - 1 + 17 - 3 - 1/2 = 13/2.
    """
    return instance(
        "two_off_rows_bind",
        "on off off unseen",
        W=[[4, 2, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]],
        b=[0, -2, -1, 0],
        lo=[17, -inf, -inf, 9],
        hi=[inf, 1, 1 / 2, 10],
        answer=[3, 3 / 2, 2],
        value=13 / 2,
    )


def off_row_with_positive_bias() -> Instance:
    """A bias above the upper end of an off row must be pushed down: the on row limits the cheaper way.

    On row h2 in [-1, 1], off row 4 - h1 - 2 h2 <= 1: h2 = 1, h1 = 1. p = (1, 1): W'p = (-1, 1 - 2). value = 2.
    Dual: 4 - 1 - 1 = 2.
    """
    return instance(
        "off_row_with_positive_bias",
        "on off",
        W=[[0, 1], [-1, -2]],
        b=[0, 4],
        lo=[-1, -inf],
        hi=[1, 1],
        answer=[1, 1],
        value=2,
    )


def one_feasible_point() -> Instance:
    """The intervals touch in one point: h is settled, p is not, and nothing lies inside.

    h1 in [5, 7], h2 in [2, 4], off row h1 - h2 <= 1 leave h = (5, 4). p = (-1 - q, q - 1, q) for every q >= 1.
    value = 9. Dual: 5 (1 + q) - 4 (q - 1) - q = 9.
    """
    return instance(
        "one_feasible_point",
        "on on off",
        W=[[1, 0], [0, 1], [1, -1]],
        b=[0, 0, 0],
        lo=[5, 2, -inf],
        hi=[7, 4, 1],
        answer=[5, 4],
        value=9,
    )


def everything_at_once() -> Instance:
    """Finite and infinite ends, biases, an off row that binds and an unseen row, in mixed order.

    Row 1 (off) 2 h1 - h2 - 4 <= 1; row 2 (on) h1/2 + 1 in [7/2, 9/2], h1 in [5, 7]; row 3 (unseen); row 4 (on)
    -h2 - 1 in (-inf, -5], h2 >= 4. h1 = 5 and h2 >= 2 h1 - 5: h = (5, 5). p = (1, -6, 0, 0): W'p = (2 - 3, -1).
    value = 10. Dual: -4 - 6 - 1 + 21 = 10.
    """
    return instance(
        "everything_at_once",
        "off on unseen on",
        W=[[2, -1], [1 / 2, 0], [3, -7], [0, -1]],
        b=[-4, 1, 5, -1],
        lo=[-inf, 7 / 2, 0, -inf],
        hi=[1, 9 / 2, 1, -5],
        answer=[5, 5],
        value=10,
    )


# ---- instances: nothing feasible ---------------------------------------------------------------------------


def infeasible_rows() -> Instance:
    """Two intervals of one row that do not meet: h in [0, 1] and h in [2, 3].

    p = (1, -1): W'p = 0 and p'b - (1 - 2) = 1 > 0.
    """
    return instance(
        "infeasible_rows",
        "on on",
        W=[[1], [1]],
        b=[0, 0],
        lo=[0, 2],
        hi=[1, 3],
        answer=None,
        value=inf,
        ray=[1, -1],
    )


def infeasible_by_sign() -> Instance:
    """A row that no h >= 0 can make negative enough, though a free h could: h1 + 2 h2 <= -1.

    p = 1: W'p = (1, 2) >= 0 and -(-1) = 1 > 0.
    """
    return instance("infeasible_by_sign", "on", W=[[1, 2]], b=[0], lo=[-inf], hi=[-1], answer=None, value=inf, ray=[1])


def infeasible_white_against_off() -> Instance:
    """A saturated pixel needs a row that an off row forbids: h >= 1/2 log 19 > 1.47 behind a tanh, h - 1 <= 0.

    p = (-1, 1): W'p = 0, allowed since lo_1 and hi_2 are finite; p'b - (-1/2 log 19 + 0) = 1/2 log 19 - 1 > 0.
    """
    return instance(
        "infeasible_white_against_off",
        "on off",
        W=[[1], [1]],
        b=[0, -1],
        lo=[log(19) / 2, -inf],
        hi=[inf, 0],
        answer=None,
        value=inf,
        ray=[-1, 1],
    )


WORKED: tuple[Callable[[], Instance], ...] = (
    lower_end,
    upper_end,
    equal_ends,
    infinite_ends,
    bias_alone,
    equal_columns,
    column_that_serves_two_rows,
    tanh_with_saturated_pixels,
    sigmoid_with_black_and_white,
    leaky_relu_ends,
    off_row_has_no_lower_end,
    two_off_rows_bind,
    off_row_with_positive_bias,
    one_feasible_point,
    everything_at_once,
    infeasible_rows,
    infeasible_by_sign,
    infeasible_white_against_off,
)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


# ---- the page ----------------------------------------------------------------------------------------------


def equation(instance: Instance) -> str:
    """Give the problem (P) with the numbers of one instance."""
    W, b = instance.W, instance.b
    h = [f"h{j + 1}" for j in range(W.shape[1])]
    rows = [affine([*W[i], b[i]], h) for i in range(len(b))]
    conditions = ["h >= 0"]
    conditions += [f"{instance.lo[i]:.4g} <= {rows[i]} <= {instance.hi[i]:.4g}" for i in np.flatnonzero(instance.on)]
    conditions += [f"{rows[i]} <= {instance.hi[i]:.4g}" for i in np.flatnonzero(instance.off)]
    return f"minimise    {' + '.join(h)}\nsubject to  {',  '.join(conditions)}"


# The problem once more, in the form that all of them share: what the tests hold hand answers against.
FORM = Form(lambda i, x: cp.sum(x), nonnegative=True, ends=lambda i: (i.lo[i.on], i.hi[i.on], i.hi[i.off]))


if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="IntervalBasisPursuit")
