"""Signals that are sparse in a basis, from few measurements, without a generator: the Lasso.

    minimise    1/2 |A B h + c - y|^2 + lam |h|_1         x = B h

over h alone, with c = 0, or over h and a constant c in every measurement (`intercept`), which scikit-learn's `Lasso` adds
where it is not told otherwise, and with it the baselines that are published beside generative priors. The best c leaves y
and the columns of A B their deviations from their means. A constant in y is no constant in the signal: x = B h is without
it, as theirs is.

scikit-learn's objective is |y - A x|^2 / (2 m) + alpha |x|_1, so that lam = m alpha for the same A, and lam = alpha where A
and y are divided by m^(1/2): entries N(0, 1/m) instead of N(0, 1).

Source: Tibshirani, "Regression shrinkage and selection via the lasso" (1996); as the baseline of Bora, Jalal, Price, Dimakis
(2017), with pixels and the cosine transform for B and alpha = 0.1.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..generator.maps import Dense
from ..inputs import read_numbers
from ..layers.core.rows import Rows
from ..layers.lasso import Lasso
from ..measurement.given import as_measurement
from ..measurement.transforms import CosineRows
from ..solvers.solve import Solution, check_choice, solve

BASES = ("pixel", "dct")
_TOL = 1e-8  # of the gap, so that signals are right to about its root


@dataclass(frozen=True, eq=False)
class SparseRecovery:
    """Signals `(N, d)` with their coefficients h `(N, d)`, and what solver and judge say of them, one per signal."""

    signal: Tensor
    h: Tensor
    solution: Solution


def sparse_recovery(
    y: Tensor | np.ndarray,
    measurement: object,
    shape: tuple[int, ...],
    *,
    lam: float | Tensor,
    basis: str = "dct",
    intercept: bool = False,
) -> SparseRecovery:
    """The signals whose coefficients in a basis are sparsest for how well they meet y `(N, k)`, each with a certificate.

    measurement: one for all signals, as in `invert`. shape: of a signal, (height, width) or (channels, height, width). lam:
    weight of |h|_1 >= 0, signal units, one number or `(N,)`. basis: "pixel", or "dct", the orthonormal cosine transform of
    each channel. intercept: see the module.

    Raises TypeError or ValueError for what does not fit, and for masks and measurements that differ per signal with
    `intercept`.
    """
    check_choice(basis, BASES, "basis")
    y = read_numbers(y, "signals", torch.device("cpu") if isinstance(y, np.ndarray) else y.device, "f")
    seeing = as_measurement(measurement, prod(shape), len(y), y.device, y.dtype).to(y.dtype, y.device)
    if y.ndim != 2 or y.shape[1] != seeing.length:
        raise ValueError(f"expected y of shape (N, {seeing.length}), got {tuple(y.shape)}; pass what the measurement gives")
    seen = seeing.seen(len(y)).to(y.device)
    if intercept and not bool(seen.all()):
        raise ValueError("expected intercept=False with hidden entries, got True; pass the rows that were seen as a matrix")
    A = seeing.matrix(y.dtype, y.device) if not seeing.pixelwise else torch.eye(seeing.width, dtype=y.dtype, device=y.device)
    if A is None:
        raise ValueError("expected one linear measurement for all signals, got another for each; call it once for each")
    B = _synthesis(basis, shape, y)
    AB = A @ B
    offset, mean = (
        (AB.mean(0), y.mean(1, keepdim=True)) if intercept else (torch.zeros_like(AB[0]), torch.zeros_like(y[:, :1]))
    )
    rows = Rows(Dense(AB - offset), torch.zeros_like(y[0]), y - mean, seen, torch.zeros_like(seen))
    # with fewer rows than unknowns to go on to the exact point takes fifty times as long as the certificate
    solution = solve(Lasso(rows, lam), tol=_TOL, polish=False)
    return SparseRecovery(solution.h @ B.T, solution.h, solution)


def _synthesis(basis: str, shape: tuple[int, ...], y: Tensor) -> Tensor:
    """B `(d, d)`, the signals of single coefficients as columns."""
    eye = torch.eye(prod(shape), dtype=y.dtype, device=y.device)
    if basis == "pixel":
        return eye
    grid = torch.ones(shape[-2:], dtype=torch.bool, device=y.device)
    return CosineRows(grid, shape).to(y.dtype, y.device).adjoint(eye).T
