"""Bounds of Lei, Jalal, Dhillon and Dimakis on inversion by one linear program for each layer.

*Errors* (`layered_programs_errors`). Layer i turns h into x = ReLU(W h + b), and x is known to e in the norm of the
programs, linf or l1. The program asks for |W h + b - x|_k <= delta on the rows I that are above e and (W h + b)_k <= x_k +
delta elsewhere, at the least delta (in l1 of rows of their own, added up). The truth meets it with delta = e. So on I both
are within e of x,

    |W_I (h found - h)| <= 2 e,   |h found - h| <= 2 e / c,   c |v| <= |W_I v| for every v,

and I holds every row with x_k > 2 e. From the image to the latent: |z found - z| <= (2/c_1) ... (2/c_d) e, which is (2/c)^d
e with the least c of all. c = 0 where W_I has no full column rank; else any left inverse M of W_I gives c >= 1 / |M|, here M
= W_I^+.

The source asks for one c for every set of at least m_i rows, m_i > n_{i-1}, and for m_i entries above 2 (2/c)^(d-i) e: as
the sets are many and its c is that of random weights, the signal's own rows stand here in their place.

*Expansion* (`layered_programs_expansion`). Gaussian weights with n_i >= c_0 n_{i-1} in every layer: equations of the layers
alone recover z, with probability 1 - exp(-Omega(k)). c_0 >= 2.1 as recalled.

Source: Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019).
"""

from math import inf

import torch
from torch import Tensor

from ..inputs import plain_number, read_size
from ..solvers.solve import check_choice
from .condition import RECALLED, Clause, Condition
from .local import read_chain
from .supported import Supported

NORMS = ("linf", "l1")
_SOURCE = 'Lei, Jalal, Dhillon, Dimakis, "Inverting Deep Generative Models, One Layer at a Time" (2019)'
_RANK = 1e-10  # singular values below this share of the largest are 0


def layered_programs_errors(generator: object, z: object, eps: float | Tensor, *, norm: str = NORMS[0]) -> Condition:
    """How far one linear program per layer may be off at latents `(N, n0)`, with noise of at most `eps` in `norm`.

    eps: signal units, one number or `(N,)`. norm: "linf" or "l1", of the noise, of the programs, and of the errors. bounds:
    "x_i" for each hidden layer, "z". numbers: "c_i" of each layer, a lower bound, and the "rows above 2 e". Raises TypeError
    for what is no chain, ValueError for other numbers.
    """
    check_choice(norm, NORMS, "norm")
    at = Supported.of(generator, z)
    error, numbers, bounds = read_size(eps, "eps", at.N), dict[str, object](), dict[str, Tensor]()
    plain = at.output.linear or at.output.cuts
    clauses = [at.layers_are_sparse(), Clause.fact("the output is ReLU or the identity", plain, at.N)]
    for i in range(at.L, -1, -1):
        x = at.signal if i == at.L else at.x[i + 1]
        rows = x > 2 * error[:, None] if i < at.L or at.output.cuts else torch.ones_like(x, dtype=torch.bool)
        found = [_least_stretch(at.W[i][row], norm) for row in rows]
        rank = torch.tensor([rank for rank, _ in found])
        c = torch.tensor([c for _, c in found], dtype=torch.float64)
        numbers[f"rows of W_{i} above 2 e"], numbers[f"c_{i}"] = rows.sum(1), c
        clauses.append(
            Clause.compare(f"n_{i} <= rank of W_{i} on rows above 2 e", float(at.W[i].shape[1]), rank, at.N, False)
        )
        error = torch.where(error > 0, torch.where(c > 0, 2 * error / c, inf), error)
        bounds["z" if i == 0 else f"x_{i}"] = error
    return Condition(
        f"one layer at a time by {norm} programs, in noise", tuple(clauses),
        f"|z found - z| <= (2/c_1) ... (2/c_d) eps in the {norm} norm, and so for each layer",
        "the program of each layer with the error of the one above as its threshold; c of the signal's own rows", _SOURCE,
        f"derived here; the source's own form, one c for all sets of rows, {RECALLED}", numbers, bounds,
    )  # fmt: skip


def layered_programs_expansion(generator: object, *, expansion: float = 2.1) -> Condition:
    """Whether every layer has `expansion` times as many outputs as inputs, which is enough for random weights.

    Raises TypeError for what is no chain, ValueError for an expansion of at most 1.
    """
    chain, factor = read_chain(generator), plain_number(expansion)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 1:
        raise ValueError(f"expected expansion as a number above 1, got {expansion!r}; the source's is 2.1 as recalled")
    clauses = [Clause.fact("no layer has a bias", not any(bool(layer.b.any()) for layer in chain.layers), 1)]
    for i, layer in enumerate(chain.layers):
        clauses.append(
            Clause.compare(f"{factor:g} n_{i} <= n_{i + 1}", factor * layer.W.n, float(layer.W.m), 1, strict=False)
        )
    return Condition(
        "one layer at a time, expansion of random layers", tuple(clauses),
        "the layers' linear equations recover z, with probability 1 - exp(-Omega(n_0))",
        "independent Gaussian weights, ReLU or leaky ReLU behind every layer; not any one generator", _SOURCE,
        f"a constant factor is read there; its value {factor:g} {RECALLED}", whole=True,
    )  # fmt: skip


def _least_stretch(part: Tensor, norm: str) -> tuple[int, float]:
    """Column rank of W_I `(k, n)`, and c with c |v| <= |W_I v|; 0 where the rank is less than n."""
    n = part.shape[1]
    if not len(part):
        return 0, 0.0
    sigma = torch.linalg.svdvals(part)
    rank = int((sigma > _RANK * sigma[0]).sum())
    if rank < n:
        return rank, 0.0
    M = torch.linalg.pinv(part)
    over = 1 if norm == "linf" else 0
    # M W_I is the identity only to rounding: |v| <= |M| |W_I v| + |I - M W_I| |v|
    apart = float((torch.eye(n, dtype=part.dtype) - M @ part).abs().sum(over).max())
    return rank, max(0.0, 1 - apart) / float(M.abs().sum(over).max())
