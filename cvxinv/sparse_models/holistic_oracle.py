"""The holistic oracle: least squares where the support and the cosupport are known, and its mean squared error.

With K an orthonormal basis of U(S, Z) (`holistic_model`) and y = E h + e, e ~ N(0, sigma^2 I), rows of E that were not seen
taken out,

    h_hat = K (E K)^+ y,     E |h_hat - h|^2 = sigma^2 tr((K'E'E K)^-1),

    sigma^2 d / s_max^2 <= E |h_hat - h|^2 <= sigma^2 d / s_min^2,     d = dim U(S, Z) = s - sum l_i in general position,

s_min and s_max the extreme singular values of E K. An oracle that knows S alone has Z empty, and d = s: knowing Z takes the
share sum l_i / s off the error, up to conditioning. Derivation: h = K a, h_hat - h = K (E K)^+ e, whose covariance has the
trace sigma^2 |(E K)^+|_F^2 as K has orthonormal columns.

Source: the oracle of Aberdam, Sulam, Elad (2018), as in `sparse` note 3.2; the formula is derived there.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal
from ..inputs import describe, read_mask, read_numbers, read_seen, read_size
from ..surroundings import undisturbed
from .holistic_model import NULL, MultiLayerModel

DETERMINED, UNDETERMINED = "determined", "undetermined"


@dataclass(frozen=True, eq=False)
class HolisticOracle(Batch):
    """What the oracle finds, and what it is worth. representations: g_1, ..., g_L, NaN where `status` is "undetermined".

    status: "determined" where one h of U(S, Z) fits best, else "undetermined", numpy `(N,)`. dimension: d, `(N,)`.
    mean_square: E |h_hat - h|^2 `(N,)`, units of h squared, with `lower` and `upper` of the module around it; infinite where
    undetermined, NaN where sigma was not given. amplification: mean_square / sigma^2.
    """

    representations: tuple[Tensor, ...] = each_per_signal()
    status: np.ndarray = per_signal()
    dimension: Tensor = per_signal()
    amplification: Tensor = per_signal()
    mean_square: Tensor = per_signal()
    lower: Tensor = per_signal()
    upper: Tensor = per_signal()

    @property
    def h(self) -> Tensor:
        """The deepest representation, g_L."""
        return self.representations[-1]

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        known = int((self.status == DETERMINED).sum())
        return f"HolisticOracle of {len(self)} signals: {known} determined, {len(self) - known} undetermined"


@undisturbed
def holistic_oracle(
    model: MultiLayerModel,
    y: Tensor | np.ndarray,
    support: Tensor | np.ndarray,
    cosupport: Tensor | np.ndarray,
    *,
    sigma: float | Tensor | None = None,
    seen: Tensor | np.ndarray | None = None,
) -> HolisticOracle:
    """The oracle of signals y `(N, m_0)` with supports, bool `(N, n)`, and cosupports, bool `(N, M)`.

    sigma: standard deviation of an entry of the noise, >= 0, signal units, one number or `(N,)`; None: not known. seen:
    bool, of y's shape; False where an entry was not seen. A cosupport without entries asks for the oracle of the support
    alone.

    Raises TypeError or ValueError for what does not fit, and for a support and a cosupport that only 0 has.
    """
    y, on = read_signals(model, y, seen)
    S = read_mask(support, "support", (len(y), model.n), model.device, "pass h != 0")
    Z = read_mask(cosupport, "cosupport", (len(y), len(model.V)), model.device, "pass g == 0")
    level = torch.full_like(y[:, 0], torch.nan) if sigma is None else read_size(sigma, "sigma", len(y), y.device).square()
    empty = (~S.any(1)).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(f"expected at least one entry in each support, got none of signal {empty[0]}; leave it out")
    space = model.subspaces(S, Z)
    space.check()
    h, amplification, most, least, known = _least_squares(model.E, space.K, space.dimension, y, on)
    h = torch.where(S | ~known[:, None], h, torch.zeros_like(h))
    d = space.dimension.double()
    return HolisticOracle(
        model.representations(h, Z & known[:, None]),
        np.where(known.cpu().numpy(), DETERMINED, UNDETERMINED),
        space.dimension.cpu(), amplification.cpu(), _times(level, amplification), _times(level, d / most.square()),
        _times(level, torch.where(known, d / least.square(), torch.inf)),
    )  # fmt: skip


def _least_squares(E: Tensor, K: Tensor, d: Tensor, y: Tensor, on: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """h, tr((K'E'E K)^-1), extreme singular values of E K and whether they are all above 0, signal by signal."""
    A = torch.einsum("mn,Nnk->Nmk", E, K) * on[:, :, None]
    U, sigma, directions = torch.linalg.svd(A, full_matrices=False)
    there = sigma > NULL * sigma[:, :1]
    known = there.sum(1) == d  # fewer columns than the widest of the batch has are zeros
    inverse = torch.where(there, 1 / torch.where(there, sigma, 1.0), 0.0)
    a = torch.einsum("Nkr,Nr,Nmr,Nm->Nk", directions.mT, inverse, U, torch.where(on, y, 0.0))
    h = torch.where(known[:, None], torch.einsum("Nnk,Nk->Nn", K, a), torch.nan)
    amplification = torch.where(known, inverse.square().sum(1), torch.inf)
    return h, amplification, sigma[:, 0], torch.where(there, sigma, torch.inf).amin(1), known


def _times(level: Tensor, amount: Tensor) -> Tensor:
    """Their product on the CPU; infinite where the amount is, also without noise: nothing is known of h there."""
    return torch.where(torch.isinf(amount), amount, level * amount).cpu()


def read_signals(model: object, y: object, seen: object) -> tuple[Tensor, Tensor]:
    """y `(N, m_0)` in float64, and its mask. Raises TypeError or ValueError."""
    if not isinstance(model, MultiLayerModel):
        raise TypeError(f"expected a cvxinv.MultiLayerModel, got {describe(model)}; use MultiLayerModel((D_1, D_2))")
    signals = read_numbers(y, "y", model.device, "f")
    if signals.ndim != 2 or signals.shape[1] != model.m or len(signals) == 0:
        raise ValueError(f"expected y of shape (N, {model.m}), got {tuple(signals.shape)}; pass one row per signal")
    on = read_seen(seen, signals)
    bad = (on & ~torch.isfinite(signals)).any(1).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(
            f"expected finite y where it was seen, got NaN or inf in signal {bad[0]}; take the entry out of seen"
        )
    return torch.where(on, signals, torch.zeros_like(signals)).double(), on
