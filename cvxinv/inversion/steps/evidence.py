"""Which units of a hidden layer are on, which off, and which noise leaves open, from an estimate of its activations h.

The layer's rows are W h + b with noise of standard deviation sigma / w_i^(1/2), w the weights of the on rows. S are the
entries with h > 0, H = W_S' diag(w) W_S. Least squares on S takes the shrinkage by lam back,

    v_S = h_S + lam H^-1 1,        s_j = sigma (H^-1)_jj^(1/2),

and an entry that was left at 0 would alone come in at v_j, q_j the squared length of its column outside the span of W_S and
r the residual of v_S; as far as lam / q_j the penalty alone may have held it back:

    v_j = -w_j' diag(w) r / q_j,   s_j^2 = sigma^2 / q_j + (lam / q_j)^2.

A unit is on or off with even odds beforehand; if on, its size is half-normal of scale tau, the root mean square of h_S, and
v_j is that with noise of deviation s_j; if off that noise alone. a = tau / (s_j^2 + tau^2)^(1/2), x = a v_j / s_j: the
two densities of v_j have the ratio

    odds = 2 (1 - a^2)^(1/2) exp(x^2 / 2) Phi(x).

Odds of 9 and more count as on, of 1/9 and less as off. Between, and wherever s_j is far above tau, the row of the next layer
is neither: a row that must not exceed 0 although it does makes that layer infeasible, and a missing row costs little. The on
rows fit v, weighed by 1 / s_j^2.

Of a layer of over 4,000 unknowns no matrix is made: there (H^-1)_jj and 1 / q_j are m / (|w_j|^2 (m - |S| - 1)), their mean
over columns of independent normal numbers, |w_j|^2 takes the mean weight, and H^-1 1 is the diagonal.

sigma is what was stated, and at the image layer at most what the residual shows, |r| / (m - |S|)^(1/2): the statement is
often only a bound. Further down it is at least that, because there wrong rows add to what noise did.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ...layers.core.rows import Rows
from ...solvers.least_squares import LARGEST_FACTOR

SURE = 9.0  # odds from which a unit counts as on, and below whose inverse as off
_FEWEST = 10  # rows beyond the unknowns from which a residual tells what the noise is
_WIDEST = 30.0  # ratio of a row's deviation to the others' up to which weights follow it: a layer must stay well-conditioned
_RIDGE = 1e-12  # of the mean diagonal: columns that are all but dependent


@dataclass(frozen=True, eq=False)
class Evidence(Batch):
    """What is known of the units of a layer, `(N, n)` each, in the units of h.

    v: least squares without the penalty's shrinkage; s: its standard errors; scale: of the units that are on, `(N,)`.
    """

    h: Tensor = per_signal()
    v: Tensor = per_signal()
    s: Tensor = per_signal()
    scale: Tensor = per_signal()

    @property
    def odds(self) -> Tensor:
        """Logarithm of the odds on : off, `(N, n)`; 0 where nothing is known."""
        a = self._share()
        x = a * self.v / self.s
        return log(2) + 0.5 * torch.log1p(-(a**2)) + x**2 / 2 + torch.special.log_ndtr(x)

    @property
    def threshold(self) -> Tensor:
        """Entries of h above this are on, `(N, n)`: where the odds of v are `SURE`."""
        a = self._share()
        c = log(SURE / 2) - 0.5 * torch.log1p(-(a**2))
        x = (2 * c).sqrt()
        for _ in range(20):  # x^2 / 2 + log Phi(x) = c > log(9 / 2): a contraction by less than 1 / 8
            x = (2 * (c - torch.special.log_ndtr(x))).sqrt()
        least = torch.where(a > 0, x * self.s / a.clamp(min=torch.finfo(x.dtype).tiny), torch.inf)
        return (least - (self.v - self.h)).clamp(min=0)

    @property
    def off(self) -> Tensor:
        """Units that are surely off, bool `(N, n)`."""
        return self.odds <= -log(SURE)

    def _share(self) -> Tensor:
        """a of the module, at most 1 - 1e-15 so that its complement is none of rounding's."""
        tau = self.scale[:, None]
        return torch.where(tau > 0, tau / torch.hypot(self.s, tau).clamp(min=1e-300), 0.0).clamp(max=1 - 1e-15)


def weigh_evidence(rows: Rows, h: Tensor, lam: Tensor, sigma: Tensor, least: Tensor, image: bool) -> Evidence:
    """What rows with noise say of their unknown, of which a solver found h `(N, n)` >= 0 at l1 weights lam `(N,)`.

    sigma: standard deviation of a row of weight 1, `(N,)`; least: what the solver leaves open in h, `(N,)`; image: whether
    the rows are the image layer's.
    """
    if rows.n > LARGEST_FACTOR:
        v, s = _by_products(rows, h, lam, sigma, least, image)
    else:
        M, root = rows.W.matrix(), rows.fit.sqrt()
        v, s = torch.zeros_like(h), torch.zeros_like(h)
        r = rows.residual(h)
        for i in range(rows.N):
            seen = root[i] > 0
            A, on = root[i, seen, None] * M[seen], h[i] > least[i]
            v[i], s[i] = _least_squares(A, root[i, seen] * r[i, seen], h[i], on, lam[i], sigma[i], image)
    held = h * (h > least[:, None])
    scale = (held.square().sum(1) / (held > 0).sum(1).clamp(min=1)).sqrt()
    return Evidence(h, v, torch.hypot(s, least[:, None]).clamp(min=torch.finfo(h.dtype).tiny), scale)


def _least_squares(
    A: Tensor, r: Tensor, h: Tensor, on: Tensor, lam: Tensor, sigma: Tensor, image: bool
) -> tuple[Tensor, Tensor]:
    """v and s of one signal, `(n,)` each; A: the rows times the roots of their weights, r: their residual at h."""
    v, s = torch.zeros_like(h), torch.zeros_like(h)
    within, without = A[:, on], A[:, ~on]
    H = within.T @ within
    ridge = _RIDGE * H.diagonal().mean() if len(H) else 0.0
    L = torch.linalg.cholesky(H + ridge * torch.eye(len(H), dtype=A.dtype, device=A.device))
    inverse = torch.cholesky_inverse(L)
    shrunk = lam * inverse.sum(1)
    r = r + within @ shrunk
    spare = len(A) - len(H)
    if spare >= _FEWEST:
        shown = (r.square().sum() / spare).sqrt()
        sigma = torch.minimum(sigma, shown) if image else torch.maximum(sigma, shown)
    v[on], s[on] = h[on] + shrunk, sigma * inverse.diagonal().sqrt()
    # what of the other columns lies outside the span of those of S
    size = without.square().sum(0)
    inside = torch.linalg.solve_triangular(L, within.T @ without, upper=False).square().sum(0)
    q = torch.maximum(size - inside, 1e-10 * size).clamp(min=torch.finfo(h.dtype).tiny)
    v[~on], s[~on] = -(without.T @ r) / q, torch.hypot(sigma / q.sqrt(), lam / q)
    return v, s


def _by_products(rows: Rows, h: Tensor, lam: Tensor, sigma: Tensor, least: Tensor, image: bool) -> tuple[Tensor, Tensor]:
    """v and s, `(N, n)` each, by products with W alone; see the module."""
    on, m = h > least[:, None], rows.on.sum(1)
    left = (m - on.sum(1) - 1).clamp(min=0).to(h)[:, None]
    r = rows.residual(h)
    lengths = rows.W.column_lengths().square() * rows.fit.mean(1, keepdim=True)
    inverse = m.to(h)[:, None] / (
        lengths.clamp(min=torch.finfo(h.dtype).tiny) * left
    )  # infinite where no row is left over: nothing is known
    shown = ((rows.fit * r**2).sum(1) / left[:, 0].clamp(min=1)).sqrt()
    shown = torch.where(left[:, 0] >= _FEWEST, torch.minimum(sigma, shown) if image else torch.maximum(sigma, shown), sigma)
    s, shrunk = shown[:, None] * inverse.sqrt(), lam[:, None] * inverse.nan_to_num(posinf=0.0)
    away = -rows.W.adjoint(rows.fit * r) * inverse.nan_to_num(posinf=0.0)
    return torch.where(on, h + shrunk, away), torch.where(on, s, torch.hypot(s, shrunk))


def rows_from(evidence: Evidence) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, on, off, weight of the rows of the layer below, `(N, n)` each, and their noise at weight 1, `(N,)`.

    The noise is the geometric mean of the standard errors of the on rows, 0 where there are none.
    """
    on = evidence.h > evidence.threshold
    s, count = torch.where(on, evidence.s, torch.ones_like(evidence.s)), on.sum(1)
    level = (s.log().sum(1) / count.clamp(min=1)).exp()
    weight = (level[:, None] / s).clamp(1 / _WIDEST, _WIDEST) ** 2
    y = torch.where(on, evidence.v, torch.zeros_like(s))
    return y, on, evidence.off & ~on, torch.where(on, weight, torch.ones_like(s)), torch.where(count > 0, level, 0.0)
