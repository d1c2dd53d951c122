"""Multi-layer basis pursuits worked out on paper: the equation with every representation an unknown, and its answers.

    minimise    1/2 | y - D_1 g_1 |^2 + sum_{i=1..L} lam_i | g_i |_1                         (P)
    subject to  g_i = D_{i+1} g_{i+1}  for i < L,   [g_i >= 0]

In the letters of this tool g_L -> h, of which all others are products. Entries of y that were not seen stand nowhere in the
square, and their representations cost what all others do.

Optimality, used in the working below: with v_i = D_{i+1} ... D_L h, h is optimal if there are q_i in lam_i sign(v_i), any
number of [-lam_i, lam_i] where an entry is 0 (with g_i >= 0 any number <= lam_i), i = 1, ..., L, v_L = h, with

    sum_{i<L} (D_{i+1} ... D_L)'q_i + q_L = (D_1 ... D_L)'(y - D_1 ... D_L h)  on the seen entries.

Source: Sulam, Aberdam, Beck, Elad, "On multi-layer basis pursuit, efficient algorithms and convolutional neural networks"
(2018), the problem of its abstract. Run as a script, this page shows equation, hand answer, exact and fast solution.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

TIGHT = {"solver": "CLARABEL", "tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}


@dataclass(frozen=True, eq=False)
class Instance:
    """One signal with its answer: D_1, ..., D_L; y; lam_1, ..., lam_L; which entries were seen; h and the optimum by hand.

    unique: no other h has that value.
    """

    name: str
    D: tuple[np.ndarray, ...]
    y: np.ndarray
    lam: tuple[float, ...]
    seen: np.ndarray
    nonnegative: bool
    answer: np.ndarray
    value: float
    unique: bool


def instance(
    D: list[list[list[float]]],
    y: list[float],
    lam: tuple[float, ...],
    answer: list[float],
    value: float,
    *,
    seen: list[bool] | None = None,
    nonnegative: bool = False,
    unique: bool = True,
) -> Instance:
    """Write an instance as one reads it; its name is that of the function that holds the working."""
    name = inspect.stack()[1].function
    matrices = tuple(np.array(M, dtype=float) for M in D)
    mask = np.array(seen if seen is not None else [True] * len(y))
    return Instance(
        name, matrices, np.array(y, dtype=float), lam, mask, nonnegative, np.array(answer, dtype=float), value, unique
    )


def transcription(one: Instance) -> tuple[float, np.ndarray]:
    """Solve (P) as it stands: the optimum and g_L."""
    g = [cp.Variable(M.shape[1], nonneg=one.nonnegative) for M in one.D]
    misfit = cp.sum_squares((one.D[0] @ g[0] - one.y)[one.seen]) / 2
    lengths = sum(lam * cp.norm(x, 1) for lam, x in zip(one.lam, g, strict=True))
    chain = [g[i] == one.D[i + 1] @ g[i + 1] for i in range(len(g) - 1)]
    problem = cp.Problem(cp.Minimize(misfit + lengths), chain)
    problem.solve(**TIGHT)
    return float(problem.value), g[-1].value


def one_layer() -> Instance:
    """A single layer is the LASSO: soft thresholding by 1. (3, -1) -> (2, 0); 1/2 (1 + 1) + 2 = 3."""
    return instance([[[1, 0], [0, 1]]], [3, -1], (1.0,), [2, 0], 3.0)


def prices_add() -> Instance:
    """A representation and its product both cost: g_1 = 2h pays 2h / 2 more, and 1/2 (2h - 3)^2 + 2 |h| is least at h = 1.

    Slope 2 (2h - 3) + 2 = 0. value = 1/2 + 2.
    """
    return instance([[[1]], [[2]]], [3], (0.5, 1.0), [1], 2.5)


def opposite_entries() -> Instance:
    """D_2 = (1, -1)': 1/2 (h - 3)^2 + 1/2 (1 - h)^2 + 2 |h|, slope 2h - 4 + 2 = 0, h = 1, value 2 + 0 + 2 = 4."""
    return instance([[[1, 0], [0, 1]], [[1], [-1]]], [3, -1], (0.5, 1.0), [1], 4.0)


def shut_by_a_sign() -> Instance:
    """The same with g_1 = (h, -h) >= 0: only h = 0 is left, value (9 + 1) / 2."""
    return instance([[[1, 0], [0, 1]], [[1], [-1]]], [3, -1], (0.5, 1.0), [0], 5.0, nonnegative=True)


def analysis_alone() -> Instance:
    """lam_2 = 0 and D_2 invertible: g_1 = soft((3, 2), 1) = (2, 1) is free to choose, h = D_2^-1 g_1 = (2, 1 - 2).

    value = 1/2 + 1/2 + 3.
    """
    return instance([[[1, 0], [0, 1]], [[1, 0], [1, 1]]], [3, 2], (1.0, 0.0), [2, -1], 4.0)


def three_layers() -> Instance:
    """g_2 = h / 2, g_1 = 2 g_2 = h: 1/2 (h - 4)^2 + (1 + 1/4 + 1) |h|, h = 4 - 9/4 = 7/4, value 81/32 + 63/16 = 207/32."""
    return instance([[[1]], [[2]], [[0.5]]], [4], (1.0, 0.5, 1.0), [1.75], 207 / 32)


def dear() -> Instance:
    """Each entry pays 1 twice, and no |y_j| exceeds 2: h = 0, value (1 + 4) / 2. The second is at the edge."""
    return instance([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [1, -2], (1.0, 1.0), [0, 0], 2.5)


def hidden_entry() -> Instance:
    """The second entry was not seen; its representation costs all the same: 1/2 (h - 4)^2 + (1/2 + 1/2 + 1) |h|, h = 2.

    value = 2 + 4; its y, 100, is in no square.
    """
    return instance([[[1, 0], [0, 1]], [[1], [1]]], [4, 100], (0.5, 1.0), [2], 6.0, seen=[True, False])


def row_at_its_kink() -> Instance:
    """g_1 = (h_1, h_1 - h_2) whose second entry stays 0 while both unknowns are not.

    In g: 1/2 |g - (3, 1/4)|^2 + |g_1| + |g_2| + (|g_1| + |g_1 - g_2|) / 2. At g_2 = 0 the slopes in g_2 are -1/4 + 1 - 1/2
    = 1/4 > 0 above and -1/4 - 1 - 1/2 < 0 below; g_1 - 3 + 1 + 1/2 + 1/2 = 0. So g = (1, 0), h = (1, 1),
    value = (4 + 1/16) / 2 + 1 + 1 = 129/32.
    """
    return instance([[[1, 0], [0, 1]], [[1, 0], [1, -1]]], [3, 0.25], (1.0, 0.5), [1, 1], 129 / 32)


def row_at_its_limit() -> Instance:
    """g_1 = (h_1 - h_2, h_2) >= 0, and the first entry would be negative.

    In g: 1/2 ((g_1 + 1)^2 + (g_2 - 4)^2) + (g_1 + g_2) / 2 + (g_1 + 2 g_2) / 2. Slope 1 + 1/2 + 1/2 > 0 in g_1 at 0; g_2 =
    4 - 1/2 - 1 = 5/2. h = (5/2, 5/2), value (1 + 9/4) / 2 + 5/4 + 5/2 = 43/8.
    """
    return instance([[[1, 0], [0, 1]], [[1, -1], [0, 1]]], [-1, 4], (0.5, 0.5), [2.5, 2.5], 43 / 8, nonnegative=True)


def equal_columns() -> Instance:
    """Two unknowns do the same: g = h_1 + h_2, 1/2 (g - 2)^2 + g / 2 + g / 2, g = 1, in any shares. value 1/2 + 1."""
    return instance([[[1]], [[1, 1]]], [2], (0.5, 0.5), [0.5, 0.5], 1.5, unique=False)


def sum_of_signals() -> Instance:
    """D_1 = (1, 1) adds two entries of g_1 = (h, 2h): 1/2 (3h - 6)^2 + (1 + 2) |h| + 3 |h|, 3 (3h - 6) + 6 = 0, h = 4/3.

    value = 1/2 4 + 6 4/3 = 10.
    """
    return instance([[[1, 1]], [[1], [2]]], [6], (1.0, 3.0), [4 / 3], 10.0)


WORKED: tuple[Callable[[], Instance], ...] = (
    one_layer, prices_add, opposite_entries, shut_by_a_sign, analysis_alone, three_layers, dear, hidden_entry,
    row_at_its_kink, row_at_its_limit, equal_columns, sum_of_signals,
)  # fmt: skip
INSTANCES = tuple(worked() for worked in WORKED)


def main() -> None:
    """Print equation, hand answer, exact and fast solution side by side."""
    import torch

    import cvxinv as ci

    print(f"{'instance':18} {'by hand':>10} {'equation':>12} {'CLARABEL':>12} {'auto':>12}")
    for one in INSTANCES:
        D = tuple(ci.Dense(torch.as_tensor(M)) for M in one.D)
        y, seen = torch.as_tensor(one.y)[None], torch.as_tensor(one.seen)[None]
        problem = ci.multi_layer_pursuit(D, y, one.lam, seen=seen, nonnegative=one.nonnegative)
        exact, fast = (float(ci.solve(problem, solver).certificate.objective) for solver in ("CLARABEL", "auto"))
        print(f"{one.name:18} {one.value:10.6f} {transcription(one)[0]:12.8f} {exact:12.8f} {fast:12.8f}")


if __name__ == "__main__":
    main()
