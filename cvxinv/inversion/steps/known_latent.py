"""The latent's layer where something is known of z: the prior as rows beside those of the layer.

    minimise    1/2 |W z + b - h|^2_on + sigma^2/2 |S z - t|^2        R(z) = 1/2 |S z - t|^2, sigma the noise of a row
    subject to  (W z + b)_off <= 0,  A z <= c                         C = {A z <= c}

is a `GaussianLatent` with gamma = 0 over the rows [W; S; A]: those of S are on, with weight sigma^2, those of A are off,
with bias -c. Every solver takes it, and the judge certifies it as it does any other. Without noise in the rows R weighs
nothing.
"""

import torch
from torch import Tensor

from ...generator.maps import Dense
from ...layers.core.rows import Rows
from ...layers.gaussian_latent import GaussianLatent
from ..priors import AbstractPrior, AsRows


def known_latent(rows: Rows, sigma: Tensor, prior: AbstractPrior) -> GaussianLatent | None:
    """The latent's problem; sigma: the noise of a row, `(N,)`. None where the prior cannot be written as rows."""
    known = prior.as_rows(rows.y.new_zeros(1, rows.n))
    return None if known is None else GaussianLatent(_beside(rows, known, sigma), 0.0)


def _beside(rows: Rows, known: AsRows, sigma: Tensor) -> Rows:
    S, t, A, c = known
    N, r, s = rows.N, len(S), len(A)
    zero, no = rows.y.new_zeros(N, s), rows.on.new_zeros(N, s)
    # without noise R weighs nothing, and its rows are as if they were not seen
    there = (sigma**2 > 0)[:, None].expand(N, r)
    weight = torch.where(there, (sigma**2)[:, None], 1.0)
    b = torch.cat([rows.b, torch.zeros_like(t).expand(*rows.b.shape[:-1], r), (-c).expand(*rows.b.shape[:-1], s)], -1)
    return Rows(
        Dense(torch.cat([rows.W.matrix(), S, A])), b, torch.cat([rows.y, t.expand(N, r), zero], 1),
        torch.cat([rows.on, there, no], 1), torch.cat([rows.off, no.new_zeros(N, r), ~no], 1),
        torch.cat([rows.weight, weight, torch.ones_like(zero)], 1),
    )  # fmt: skip
