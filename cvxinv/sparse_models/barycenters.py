"""Wasserstein barycenters of pictures: entropic ones by scaling, with a certificate, and exact ones by a linear program.

    minimise    sum_k t_k (sum_ij C_ij P^k_ij + eps sum_ij P^k_ij log P^k_ij) + rho/2 |y - q|^2            (P)
    subject to  P^k >= 0,   P^k 1 = x_k,   P^k'1 = y,   1'y = 1,   [y in M]

    maximise    sum_k t_k x_k'(eps log x_k - eps log K exp(g_k / eps))                                      (D)
                + min { (sum_k t_k g_k + m)'y + rho/2 |y - q|^2 : y >= 0, 1'y = 1 }  [- max { m'w : w in M }]

t_k >= 0 are weights of sum 1, K = exp(-C / eps). The dual: with f_k for the rows and g_k for the columns of P^k the best
plan is exp((f + g - C) / eps), up to a constant, and the best f makes its rows sum to x; what remains is linear in y, and
w = y in M is let go for the price m. So any g and any m give a true bound (`certify_barycenter`). rho = 0 is the
barycenter itself, rho > 0 the y-step of the ADMM in `constrained_barycenters`.

Scaling (generalised Sinkhorn), from any g: f_k = eps log x_k - eps log K exp(g_k / eps), log a_k = log K'exp(f_k / eps),
log g = sum_k t_k log a_k, then log y = log g for rho = 0, else y = (eps/rho) W((rho/eps) g exp(rho q/eps)) with Lambert's
W, from the optimality eps (log y - log g) + rho (y - q) = 0; g_k = eps (log y - log a_k). All in logarithms. Columns then
fit y always, and rows fit x at the end only: that is what `settled` looks at. sum y = 1 holds there; y is scaled to it.

The objective of the certificate is that of plans with exact marginals: columns that hold more than y are cut, and what is
missing is added as a product. So objective - bound is a true gap, for any y and g.

Two unit masses at a and b: P^k is y beside one column, no choice is left, and y_j is proportional to exp(-|p_j - m|^2 /
eps) around m = t_1 a + t_2 b: a blur of standard deviation (eps/2)^(1/2) px, which is the price of eps; the exact one is
at m.

Exact (eps = 0): the linear program over all P^k and y, by HiGHS; its dual is the bound of (D) with max over f in place of
the logarithm, f_i = min_j (C_ij - g_j).

Source: the problem and the y-step as in `sparse` notes 4.1 and 4.3, of Simon, Aberdam, "Barycenters of natural images"
(2019); added: bound, exact marginals, certificate.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..inputs import describe
from ..surroundings import undisturbed
from .transport import MOST_ENTRIES, check_grid, log_kernel, pixel_costs

_LOOK = 5  # iterations between looks at the rows
_NEWTON = 8  # steps for Lambert's W: they double the digits, from the right start
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Barycenters(Batch):
    """N barycenters, each of K masses: x `(N, K, n)` >= 0 of sum 1, float64; weights `(N, K)` >= 0 of sum 1.

    shape: the grid (height, width). eps: of the entropy, px^2, > 0; the smaller, the sharper, and the slower.
    """

    x: Tensor = per_signal()
    weights: Tensor = per_signal()
    shape: tuple[int, int] = (0, 0)
    eps: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("weights", self.weights)):
            if not isinstance(value, Tensor) or value.dtype != torch.float64 or not bool(value.isfinite().all()):
                raise ValueError(f"expected {name} as finite float64 numbers, got {describe(value)}; convert with .double()")
            if bool((value < 0).any()):
                raise ValueError(f"expected {name} >= 0, got {float(value.min()):.6g}; see as_masses for pictures")
        if self.x.ndim != 3 or not self.x.numel() or self.weights.shape != self.x.shape[:2]:
            raise ValueError(
                f"expected x (N, K, n) and weights (N, K), none of them 0, got {tuple(self.x.shape)} and "
                f"{tuple(self.weights.shape)}"
            )
        check_grid(self.shape, self.x.shape[2])
        for name, sums in (("x", self.x.sum(-1)), ("weights", self.weights.sum(-1))):
            if float((sums - 1).abs().max()) > 1e-12 * self.x.shape[2]:
                raise ValueError(f"expected {name} of sum 1, got {float(sums.flatten()[0]):.12g}; divide by the sum")
        if isinstance(self.eps, bool) or not isinstance(self.eps, int | float) or not 1e-6 <= self.eps < float("inf"):
            raise ValueError(f"expected eps >= 1e-6 px^2, got {self.eps!r}; pass e.g. eps=1.0")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n(self) -> int:
        """Number of pixels."""
        return self.x.shape[2]

    def rows(self, g: Tensor) -> Tensor:
        """The best f `(N, K, n)` for g: with it the rows of the plans sum to x; -inf where x holds no mass."""
        return self.eps * (self.x.log() - log_kernel(g / self.eps, self.shape, self.eps))

    def columns(self, f: Tensor) -> Tensor:
        """log a_k, the logarithms of K'exp(f_k / eps), `(N, K, n)`."""
        return log_kernel(f / self.eps, self.shape, self.eps)

    def statement(self, i: int, *, rho: float = 0.0, q: np.ndarray | None = None, prior: Any = None) -> tuple:
        """(P) of one barycenter in CVXPY, and its variable y. prior: what states y in M, see `constrained_barycenters`."""
        import cvxpy as cp

        C, y = pixel_costs(self.shape, self.x).cpu().numpy(), cp.Variable(self.n)
        objective, constraints = 0.0, [cp.sum(y) == 1]
        for x, t in zip(self.x[i].cpu().numpy(), self.weights[i].tolist(), strict=True):
            held = x > 0
            P = cp.Variable((int(held.sum()), self.n), nonneg=True)
            objective += t * (cp.sum(cp.multiply(C[held], P)) - self.eps * cp.sum(cp.entr(P)))
            constraints += [cp.sum(P, axis=1) == x[held], cp.sum(P, axis=0) == y]
        if rho:
            objective += rho / 2 * cp.sum_squares(y - q)
        if prior is not None:
            constraints += prior.stated(cp, y)
        return cp.Problem(cp.Minimize(objective), constraints), y


@dataclass(frozen=True, eq=False)
class Scaled(Batch):
    """What scaling came to: y `(N, n)` of sum 1; g `(N, K, n)`; off `(N,)`, what the rows of the plans miss x by, in l1."""

    y: Tensor = per_signal()
    g: Tensor = per_signal()
    off: Tensor = per_signal()
    iterations: int = 0


@dataclass(frozen=True, eq=False)
class BarycenterCertificate(Batch):
    """Objective of y with plans of exact marginals, and a true lower bound on the optimum of (P), px^2, `(N,)` each.

    transport: the part of the objective without entropy, sum_k t_k <C, P^k>. mass: |sum y - 1|.
    """

    objective: Tensor = per_signal()
    bound: Tensor = per_signal()
    transport: Tensor = per_signal()
    mass: Tensor = per_signal()

    @property
    def gap(self) -> Tensor:
        """objective - bound, px^2, `(N,)`; below 0 only where y does not meet a prior that the bound counts on."""
        return self.objective - self.bound


@undisturbed
def entropic_barycenters(
    problem: Barycenters, *, g: Tensor | None = None, tol: float = 1e-9, max_iter: int = 20_000
) -> tuple[Scaled, BarycenterCertificate]:
    """The entropic barycenters, all at once, and what they are certified to. g: where scaling begins, `(N, K, n)`.

    tol: of the rows of the plans, in l1; a row sum of 1 is the whole mass.
    """
    found = scale(problem, g=g, tol=tol, max_iter=max_iter)
    return found, certify_barycenter(problem, found.y, found.g)


def scale(
    problem: Barycenters,
    *,
    pull: tuple[Tensor, Tensor] | None = None,
    fixed: Tensor | None = None,
    g: Tensor | None = None,
    tol: float = 1e-9,
    max_iter: int = 20_000,
) -> Scaled:
    """Scaling until the rows of all plans sum to x within tol, in l1.

    pull: rho `(N,)` > 0 and q `(N, n)`; None: rho = 0. fixed: y `(N, n)` of sum 1, whose plans are sought and nothing else.
    """
    eps, weights = problem.eps, problem.weights[..., None]
    g = torch.zeros_like(problem.x) if g is None else g
    f = problem.rows(g)
    held = problem.x > 0
    off = problem.x.new_full((len(problem),), float("inf"))
    k, log_y = 0, g.new_zeros(len(problem), problem.n)
    for k in range(1, max_iter + 1):
        log_a = problem.columns(f)
        mean = (weights * log_a).sum(1)
        log_y = fixed.log() if fixed is not None else mean if pull is None else _pulled(mean, *pull, eps)
        g = eps * (log_y[:, None] - log_a)
        before, f = f, problem.rows(g)
        if k % _LOOK == 0 or k == max_iter:
            miss = torch.where(held, problem.x * torch.expm1((before - f) / eps), 0.0).abs().sum(-1)
            off = (miss * (problem.weights > 0)).amax(1)
            if float(off.max()) <= tol:
                break
    y = log_y.exp()
    return Scaled(y / y.sum(1, keepdim=True), g, off, k)


def _pulled(mean: Tensor, rho: Tensor, q: Tensor, eps: float) -> Tensor:
    """log y of the y-step: with w = (rho/eps) y, w + log w = log(rho/eps) + log g + rho q/eps, by Newton in l = log w.

    l + exp(l) - c is convex and grows, and both starts are right of its root, so that no step leads past it.
    """
    scale = (rho / eps)[:, None]
    c = scale.log() + mean + scale * q
    w = torch.where(c > 1, c.clamp(min=1).log(), c)
    for _ in range(_NEWTON):
        power = w.exp()
        w = w - (w + power - c) / (1 + power)
    return w - scale.log()


# --- the judge --------------------------------------------------------------------------------------


@undisturbed
def certify_barycenter(
    problem: Barycenters,
    y: Tensor,
    g: Tensor,
    *,
    price: Tensor | None = None,
    worth: Tensor | None = None,
) -> BarycenterCertificate:
    """What y `(N, n)`, of sum 1, and g `(N, K, n)` prove of the barycenters with rho = 0.

    price: m `(N, n)` of (D); worth: max m'w over the prior's set, `(N,)`; both left out bound the problem without a prior,
    which is below that with any.
    """
    bound = lower_bound(problem, g, price=price, worth=worth)
    objective, transport = torch.zeros_like(bound), torch.zeros_like(bound)
    C = pixel_costs(problem.shape, y)
    for i in range(len(problem)):
        for k, t in enumerate(problem.weights[i].tolist()):
            if t:
                moved, entropy = _plan_of(problem, i, k, y[i], g[i, k], C)
                transport[i] += t * moved
                objective[i] += t * (moved + problem.eps * entropy)
    return BarycenterCertificate(objective, bound, transport, (y.sum(1) - 1).abs())


def lower_bound(problem: Barycenters, g: Tensor, *, price: Tensor | None = None, worth: Tensor | None = None) -> Tensor:
    """(D) at g `(N, K, n)`, `(N,)`, with rho = 0; price, worth: as in `certify_barycenter`."""
    f = problem.rows(g)
    dual = torch.where(problem.x > 0, problem.x * f, 0.0).sum(-1)
    slack = (problem.weights[..., None] * g).sum(1) + (0 if price is None else price)
    return (problem.weights * dual).sum(1) + slack.amin(1) - (0 if worth is None else worth)


def _plan_of(problem: Barycenters, i: int, k: int, y: Tensor, g: Tensor, C: Tensor) -> tuple[float, float]:
    """<C, P> and sum P log P of a plan with marginals x_k and y: the one of g, cut to y, with a product for the rest."""
    held = problem.x[i, k] > 0
    x = problem.x[i, k, held]
    inside = (g - C[held]) / problem.eps
    P = x[:, None] * torch.softmax(inside, 1)
    P = P * (y / P.sum(0).clamp(min=_TINY)).clamp(max=1)
    rows, columns = (x - P.sum(1)).clamp(min=0), (y - P.sum(0)).clamp(min=0)
    total = float(rows.sum())
    if total > 0:
        P = P + rows[:, None] * columns / total
    return float((P * C[held]).sum()), float(torch.xlogy(P, P).sum())


# --- exact ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ExactBarycenter:
    """y `(n,)` of sum 1; objective sum_k t_k <C, P^k>, and a true bound on it from the program's dual, px^2."""

    y: Tensor
    objective: float
    bound: float


@undisturbed
def exact_barycenter(x: Tensor, weights: Tensor, shape: tuple[int, int]) -> ExactBarycenter:
    """The barycenter of K masses x `(K, n)` of sum 1 without entropy, on the same grid, as a linear program by HiGHS.

    Meant for small pictures: there is an unknown for each pixel that holds mass and each pixel of the grid. Where several
    are optimal it is one of them. Raises ValueError for pictures too large, RuntimeError where it was not solved.
    """
    from scipy.optimize import linprog
    from scipy.sparse import block_array, eye_array, kron

    n, used = Barycenters(x[None], weights[None], shape).n, weights > 0  # for its checks
    x, weights = x[used], weights[used]
    held = (x > 0).cpu().numpy()
    sizes = held.sum(1).tolist()
    entries = sum(sizes) * n
    if entries > MOST_ENTRIES:
        raise ValueError(f"expected at most {MOST_ENTRIES} unknowns, got {entries}; pass smaller pictures")
    C, one = pixel_costs(shape, x).cpu().numpy(), np.ones((1, n))
    cost, blocks, sums = [], list[list](), list[np.ndarray]()
    for k, m in enumerate(sizes):
        cost.append(float(weights[k]) * C[held[k]].ravel())
        for block, last, right in (
            (kron(eye_array(m), one), None, x[k].cpu().numpy()[held[k]]),
            (kron(np.ones((1, m)), eye_array(n)), -eye_array(n), np.zeros(n)),
        ):
            blocks.append([*(block if j == k else None for j in range(len(sizes))), last])
            sums.append(right)
    cost.append(np.zeros(n))
    found = linprog(np.concatenate(cost), A_eq=block_array(blocks).tocsr(), b_eq=np.concatenate(sums), method="highs")
    if found.x is None:
        raise RuntimeError(f"HiGHS found no barycenter on {shape[0]} x {shape[1]}: {found.message}")
    y = torch.from_numpy(found.x[-n:].clip(min=0)).to(x)
    prices = torch.from_numpy(_columns_of(found.eqlin.marginals, sizes, n)).to(x)
    return ExactBarycenter(y / y.sum(), float(found.fun), _exact_bound(x, weights, prices, torch.from_numpy(C).to(x)))


def _columns_of(marginals: np.ndarray, held: list[int], n: int) -> np.ndarray:
    """t_k g_k `(K, n)` among the multipliers of the program's rows."""
    places = np.cumsum([0, *(m + n for m in held)])
    return np.stack([marginals[p + m : p + m + n] for p, m in zip(places[:-1], held, strict=True)])


def _exact_bound(x: Tensor, weights: Tensor, prices: Tensor, C: Tensor) -> float:
    """sum_k t_k x_k'f_k + min_j (sum_k t_k g_k)_j, with f_i = min_j (C_ij - g_j): below every barycenter's objective."""
    g = prices / weights[:, None]
    f = (C[None] - g[:, None, :]).amin(-1)
    return float((weights[:, None] * x * f).sum() + prices.sum(0).min())
