"""Bounds of Bora, Jalal, Price and Dimakis on the best latent for Gaussian measurements: compressed sensing with generators.

y = A x + e, A with m rows of independent entries N(0, 1/m), and z found within `optimality` of the least |A G(z) - y|. For a
ReLU network of d layers with k latents, at most n units in a layer, and m >= C k d log n,

    |G(z found) - x| <= 6 min_z |G(z) - x| + 3 |e| + 2 optimality   with probability 1 - exp(-Omega(m)).

C is some constant: without one the number of measurements is not decidable.

*For one A* (`recovery_by_eigenvalue`): if |A (G(z) - G(z'))| >= gamma |G(z) - G(z')| - delta for all z, z', which is
S-REC(gamma, delta), then with the closest G(z') at the distance D from x, |A (x - G(z'))| at most a D (a = |A| will do),

    gamma |G(z found) - G(z')| <= |A G(z found) - y| + |y - A G(z')| + delta <= 2 (a D + |e|) + optimality + delta,

so that |G(z found) - x| <= D + (2 a D + 2 |e| + optimality + delta) / gamma. gamma is proved where A has a left inverse: its
smallest singular value; pairs of signals that are met give upper bounds on it, and no proof.

Source: Bora, Jalal, Price, Dimakis, "Compressed Sensing using Generative Models" (2017).
"""

from math import inf, log

import torch

from ..inputs import describe_amount, plain_number
from .condition import READ, RECALLED, Clause, Condition
from .dependence import read_matrix
from .local import read_chain
from .supported import read_one

_SOURCE = 'Bora, Jalal, Price, Dimakis, "Compressed Sensing using Generative Models" (2017)'


def sensing_errors(
    generator: object,
    measurements: int,
    *,
    distance: float = 0.0,
    noise: float = 0.0,
    optimality: float = 0.0,
    C: float | None = None,
) -> Condition:
    """How far the best latent for Gaussian `measurements`, N(0, 1/m) each, may be from the signal.

    distance: of the signal from the range, l2 norm, signal units; noise: |e|; optimality: how far |A G(z) - y| is from its
    least. C: the theorem's constant, which is not given; None for unknown. bounds: "signal", `(1,)`. Raises TypeError for
    what is no chain, ValueError for numbers out of their range.
    """
    chain, m = read_chain(generator), plain_number(measurements)
    if isinstance(m, bool) or not isinstance(m, int) or m < 1:
        raise ValueError(f"expected measurements as a number of at least 1, got {describe_amount(measurements)}; pass m")
    D, e, short = (
        read_one(value, name) for value, name in ((distance, "distance"), (noise, "noise"), (optimality, "optimality"))
    )
    n, d = max(layer.W.m for layer in chain.layers), len(chain.layers)
    need = chain.latent_dim * d * log(n)
    affine = all(layer.activation.slopes is not None for layer in chain.layers)
    clauses = [Clause.fact("ReLU, leaky ReLU or the identity behind every layer", affine, 1)]
    if C is None:
        clauses.append(Clause.fact("C k d log n <= m, C unknown", None, 1))
    else:
        clauses.append(Clause.compare("C k d log n <= m", read_one(C, "C") * need, float(m), 1, strict=False))
    return Condition(
        "compressed sensing with a generator", tuple(clauses), "|G(z found) - x| <= 6 distance + 3 noise + 2 optimality",
        "Gaussian measurements drawn apart from the signal, with probability 1 - exp(-Omega(m)); nothing of how z is found",
        _SOURCE, f"6 and 2: {READ}; 3 noise: {RECALLED}",
        {"k d log n": need, "largest C": m / need if need else inf, "m": m},
        {"signal": torch.tensor([6 * D + 3 * e + 2 * short], dtype=torch.float64)}, whole=True,
    )  # fmt: skip


def recovery_by_eigenvalue(
    A: object,
    *,
    gamma: float | None = None,
    delta: float = 0.0,
    distance: float = 0.0,
    noise: float = 0.0,
    optimality: float = 0.0,
) -> Condition:
    """The same for one matrix A `(m, d)`, for any generator with S-REC(gamma, delta), and without any probability.

    gamma: None for the smallest singular value of A, which is proved; another is taken as given. The rest as in
    `sensing_errors`. Raises TypeError or ValueError for what is no finite matrix, and for numbers out of their range.
    """
    M = read_matrix(A)
    D, e, short, slack = (
        read_one(value, name)
        for value, name in ((distance, "distance"), (noise, "noise"), (optimality, "optimality"), (delta, "delta"))
    )
    sigma = torch.linalg.svdvals(M)
    least = float(sigma[-1]) if len(M) >= M.shape[1] > 0 else 0.0
    proved = least if len(sigma) and least > 1e-10 * float(sigma[0]) else 0.0
    g = proved if gamma is None else read_one(gamma, "gamma")
    norm = float(sigma[0]) if len(sigma) else 0.0
    bound = D + (2 * norm * D + 2 * e + short + slack) / g if g > 0 else inf
    given = Clause.fact("S-REC(gamma, delta), taken as given", True, 1)
    clauses = [Clause.compare("0 < gamma", 0.0, g, 1), *([given] if gamma is not None else [])]
    return Condition(
        "compressed sensing with a generator, one matrix", tuple(clauses),
        "|G(z found) - x| <= distance + (2 |A| distance + 2 noise + optimality + delta) / gamma",
        "this matrix and every generator whose range meets S-REC(gamma, delta); says nothing of how z is found", _SOURCE,
        "derived here from S-REC, which is read there", {"gamma": g, "|A|": norm},
        {"signal": torch.tensor([bound], dtype=torch.float64)}, whole=True,
    )  # fmt: skip
