"""When a few learned shrinkage steps are sure to come near a sparse code, whatever the dictionary of the signal.

y = D x + e with at most s non-zeros in x, |x|_inf <= B, and x_{k+1} = soft(x_k + gam_k A'(y - D x_k), th_{k+1}) from x_0
= 0, A = W D: `SingleWeightAdaLISTA`. With E_k = |x_k - x|_inf, r_k = gam_k |A'e|_inf,

    c_k = (s - 1) o_k + max(d_k, o_k),   o_k = gam_k max_{i != j} |a_i'd_j|,   d_k = max_j |1 - gam_k a_j'd_j|

(0 where s = 0), every entry of (gam_k A'D - I) v is at most c_k |v|_inf for v with s non-zeros: on v's own entries one
term is d_k, off them all are o_k. The argument of the shrinkage is x + (I - gam_k A'D)(x_k - x) + gam_k A'e, so where x_k
has no non-zeros but x's own it misses x by at most c_k E_k + r_k. Hence, where

    th_{k+1} >= c_k E_k + r_k,

x_{k+1} has none either, and E_{k+1} <= th_{k+1} + c_k E_k + r_k <= 2 th_{k+1}. E_0 <= B begins it.

With a_j'd_j = 1, gam_k = 1 (`normalised`, which divides each column of A by a_j'd_j) c_k = mu s, mu = max_{i != j}
|a_i'd_j|, and

    2 mu s < 1,   th_1 = mu s B + r,   th_{k+1} = 2 mu s th_k + r

give |x_k - x|_inf <= 2 th_k: a linear rate 2 mu s down to 2 r / (1 - 2 mu s). A permutation of D's columns changes
nothing in it; another D changes mu, and the clauses are asked of each signal's own D.

Source: the statement and its proof are ours, in `sparse` note 1.9, with steps and diagonals of any size here; Aberdam,
Golts, Elad (2020) have theorems of this kind, whose wording was not at hand. For dictionaries of 50 rows and 70 columns
mu is near 1/2, so that it speaks of no published experiment.
"""

from math import inf

import torch
from torch import Tensor

from ..inputs import describe, read_size
from ..sparse_models.ada_lista import SingleWeightAdaLISTA
from ..sparse_models.varying_dictionaries import read_codes
from .condition import Clause, Condition

_SOURCE = 'derived here; of the kind of Aberdam, Golts, Elad, "Ada-LISTA: Learned Solvers Adaptive to Varying Models" (2020)'
_EVIDENCE = "proved above; the source's own theorem was not at hand"
_SCOPE = "exactly sparse codes, single-weight steps from 0; not the minimiser of the Lasso, which is another point"


def adaptive_recovery(network: object, D: Tensor, lam: float | Tensor, x: Tensor, eps: float | Tensor = 0.0) -> Condition:
    """Whether steps of a `SingleWeightAdaLISTA` are sure to keep to the support of codes like `x`, and how near they come.

    D: `(n, m)` or `(N, n, m)`; lam: as the network is given it; x: codes `(N, m)`, of which the numbers of non-zeros and the
    largest entries count; eps: a bound on |e|_2, signal units, one number or `(N,)`, so that |A'e|_inf <= eps max_j |a_j|.
    bounds: "x_k" for each step, |x_k - x|_inf. Raises TypeError or ValueError for what does not fit.
    """
    if not isinstance(network, SingleWeightAdaLISTA):
        raise TypeError(
            f"expected a SingleWeightAdaLISTA, got {describe(network)}; two weights leave no residual of the true dictionary"
        )
    if not isinstance(x, Tensor) or x.ndim != 2:
        raise ValueError(f"expected codes x of shape (N, m), got {describe(x)}; pass one for each signal")
    N, n = len(x), network.length
    if not isinstance(D, Tensor) or D.ndim not in (2, 3) or D.shape[-2] != n:
        raise ValueError(f"expected dictionaries of {n} rows as was trained, got {describe(D)}")
    _, dictionaries, price = read_codes(D.new_zeros(N, n), D, lam)
    s, size = _sparsity(x, N, dictionaries.D.shape[-1])
    noise = read_size(eps, "eps", N)
    W, gam, log_eta = (p.detach().cpu().double() for p in (network.W, network.gam, network.log_eta))
    off, diagonal, longest = _products(W, dictionaries.D.cpu().double(), N)
    thresholds = price.cpu().double()[:, 0] * log_eta.exp()[:, None]
    error, clauses, bounds = size, list[Clause](), dict[str, Tensor]()
    for k in range(network.unfoldings + 1):
        far = (1 - gam[k] * diagonal).abs().amax(1)
        o = gam[k].abs() * off
        c = torch.where(s > 0, (s - 1) * o + torch.maximum(far, o), torch.zeros_like(o))
        needed = c * error + gam[k].abs() * noise * longest
        clauses.append(Clause.compare(f"c_{k} E_{k} + r_{k} <= th_{k + 1}", needed, thresholds[k], N, strict=False))
        error = thresholds[k] + needed
        bounds[f"x_{k + 1}"] = error
    numbers = {"mu": off, "s": s, "B": size, "a_j'd_j": diagonal.amin(1)}
    return Condition(
        "shrinkage steps keep to the support", tuple(clauses),
        "no step has a non-zero that x has not, and |x_k - x|_inf <= th_k + c_(k-1) E_(k-1) + r_(k-1)",
        _SCOPE, _SOURCE, _EVIDENCE, numbers, bounds,
    )  # fmt: skip


def adaptive_rate(W: Tensor, D: Tensor, *, s: int, size: float, noise: float = 0.0, steps: int = 10) -> Condition:
    """Whether columns of A = W D with a_j'd_j = 1 give the linear rate 2 mu s, and thresholds that have it, for any code.

    W: `(n, n)`; D: `(n, m)`, or `(N, n, m)`, of which each is asked; s: non-zeros; size: of the largest, B; noise: a bound
    on |A'e|_inf. numbers: "mu", "rate", "floor" of the error, and "th_k" `(steps, N)`. bounds: "x_k". Raises TypeError or
    ValueError for what does not fit.
    """
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in (s, steps)):
        raise ValueError(f"expected s and steps as whole numbers >= 1, got {s!r} and {steps!r}")
    if not isinstance(D, Tensor) or D.ndim not in (2, 3) or not isinstance(W, Tensor) or W.shape != (D.shape[-2],) * 2:
        raise ValueError(f"expected W (n, n) and D (n, m) or (N, n, m), got {describe(W)} and {describe(D)}")
    N = len(D) if D.ndim == 3 else 1
    B, r = (read_size(value, name, N).double() for value, name in ((size, "size"), (noise, "noise")))
    read_codes(D.new_zeros(N, D.shape[-2]), D, 0.0)
    off, diagonal = normalised(W.detach().cpu().double(), D.cpu().double(), N)
    there = diagonal.abs().amin(1) > 0
    rate = 2 * s * off
    floor = torch.where(rate < 1, 2 * r / (1 - rate), inf)
    thresholds = [s * off * B + r]
    for _ in range(steps - 1):
        thresholds.append(rate * thresholds[-1] + r)
    clauses = (
        Clause.fact("a_j'd_j is 0 for no column", there.numpy(), N),
        Clause.compare("2 mu s < 1", torch.where(there, rate, inf), 1.0, N),
    )
    numbers: dict[str, object] = {"mu": off, "rate": rate, "floor": floor, "th_k": torch.stack(thresholds)}
    bounds = {f"x_{k}": 2 * th for k, th in enumerate(thresholds, 1)}
    return Condition(
        "shrinkage steps at a linear rate", clauses,
        "with these thresholds |x_k - x|_inf <= 2 th_k, and no step has a non-zero that x has not",
        _SCOPE, _SOURCE, _EVIDENCE, numbers, bounds, whole=D.ndim == 2,
    )  # fmt: skip


def normalised(W: Tensor, D: Tensor, N: int) -> tuple[Tensor, Tensor]:
    """max_{i != j} |a_i'd_j| `(N,)` with each a_j divided by a_j'd_j, and these a_j'd_j `(N, m)`."""
    G = (W @ D).mT @ D
    diagonal = G.diagonal(dim1=-2, dim2=-1)
    scaled = torch.where(diagonal == 0, torch.ones_like(diagonal), diagonal)
    return _off(G / scaled[..., :, None]).expand(N), diagonal.expand(N, -1)


def _products(W: Tensor, D: Tensor, N: int) -> tuple[Tensor, Tensor, Tensor]:
    """max_{i != j} |a_i'd_j| `(N,)`, a_j'd_j `(N, m)`, and the length of the longest a_j `(N,)`."""
    A = W @ D
    G = A.mT @ D
    return _off(G).expand(N), G.diagonal(dim1=-2, dim2=-1).expand(N, -1), A.norm(dim=-2).amax(-1).expand(N)


def _off(G: Tensor) -> Tensor:
    return (G - torch.diag_embed(G.diagonal(dim1=-2, dim2=-1))).abs().amax((-2, -1))


def _sparsity(x: object, N: int, m: int) -> tuple[Tensor, Tensor]:
    if not isinstance(x, Tensor) or x.shape != (N, m) or not bool(torch.isfinite(x).all()):
        raise ValueError(f"expected finite codes x of shape ({N}, {m}), got {describe(x)}; pass one for each signal")
    return (x != 0).sum(1).cpu().double(), x.cpu().double().abs().amax(1)
