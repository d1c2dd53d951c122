"""The rate of PLUGIn on random layers: Joshi, Li, Plan and Yilmaz.

y = G(z) + e, G(z) = ReLU(W_d ... ReLU(W_1 z)) without biases, W_i with independent entries N(0, 1/n_i), e independent of
them, step theta 2^d with 0 < theta < 4/3, alpha = |1 - theta| + theta/2 < 1, |z^0 - z| <= R. If

    n_i >= C_0 5^i n_0 log(prod_{j < i} e n_j / n_0)   for i = 1 to d,

then after k steps, with probability at least 1 - 2 (k + 3) exp(-10 n_0),

    |z^k - z|       <= alpha^k R + 15 theta / (1 - alpha) 2^d (n_0 / n_d)^(1/2) |e|,
    |G(z^k) - G(z)| <= 3 alpha^k R + 45 theta / (1 - alpha) 2^d (n_0 / n_d)^(1/2) |e|.

C_0 is some constant: without one the sizes are not decidable; the largest C_0 that they allow is among the numbers.

Source: Joshi, Li, Plan, Yilmaz, "PLUGIn: a simple algorithm for inverting generative models with recovery guarantees"
(2021).
"""

from math import exp, log

import torch
from torch import Tensor

from ..inputs import plain_number
from .condition import READ, Clause, Condition
from .local import read_chain
from .supported import read_one

_SOURCE = 'Joshi, Li, Plan, Yilmaz, "PLUGIn: a simple algorithm for inverting generative models" (2021)'


def plugin_rate(
    generator: object,
    *,
    radius: float,
    noise: float = 0.0,
    theta: float = 1.0,
    iterations: int = 100,
    C_0: float | None = None,
) -> Condition:
    """What PLUGIn is bound to after `iterations` steps of size theta 2^d, from within `radius` of the truth.

    radius: |z^0 - z| at most, latent units. noise: |e| in the l2 norm, signal units. C_0: the theorem's constant, which the
    source does not give; None for unknown. bounds: "z" and "signal", `(1,)`. numbers: alpha, step, probability, "largest
    C_0". Raises TypeError for what is no chain, ValueError for numbers out of their range.
    """
    chain = read_chain(generator)
    theta, k = _between(theta, "theta", 4 / 3), _whole(iterations)
    R, length = (read_one(value, name) for value, name in ((radius, "radius"), (noise, "noise")))
    widths = [float(chain.latent_dim)] + [float(layer.W.m) for layer in chain.layers]
    d, n0, alpha = len(chain.layers), widths[0], abs(1 - theta) + theta / 2
    needs = [5**i * n0 * log_of_widths(widths, i) for i in range(1, d + 1)]
    largest = min(n / need for n, need in zip(widths[1:], needs, strict=True))
    clauses = [
        Clause.fact("a ReLU behind every layer", all(layer.activation.cuts for layer in chain.layers), 1),
        Clause.fact("no layer has a bias", not any(bool(layer.b.any()) for layer in chain.layers), 1),
    ]
    for i, need in enumerate(needs, 1):
        text = f"C_0 5^{i} n_0 log(prod of e n_j / n_0) <= n_{i}"
        if C_0 is None:
            clauses.append(Clause.fact(f"{text}, C_0 unknown", None, 1))
        else:
            size = read_one(C_0, "C_0") * need
            clauses.append(Clause.compare(text, size, widths[i], 1, strict=False))
    gain = 2**d * (n0 / widths[-1]) ** 0.5 * theta / (1 - alpha) * length
    bounds = {"z": _one(alpha**k * R + 15 * gain), "signal": _one(3 * alpha**k * R + 45 * gain)}
    numbers = {
        "alpha": alpha,
        "step": theta * 2**d,
        "largest C_0": largest,
        "probability": max(0.0, 1 - 2 * (k + 3) * exp(-10 * n0)),
        "noise floor of z": 15 * gain,
    }
    return Condition(
        f"PLUGIn, rate after {k} steps", tuple(clauses), "the errors of z and of the signal are below the bounds",
        "independent Gaussian weights N(0, 1/n_i), drawn apart from the noise, and with the probability among the numbers; "
        "not any one generator",
        _SOURCE, READ, numbers, bounds, whole=True,
    )  # fmt: skip


def log_of_widths(widths: list[float], i: int) -> float:
    """log(prod_{j < i} e n_j / n_0)."""
    return sum(1 + log(widths[j] / widths[0]) for j in range(i))


def _one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def _between(value: object, name: str, end: float) -> float:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < end:
        raise ValueError(f"expected {name} between 0 and {end:.4g}, got {value!r}; 1 is the usual one")
    return float(value)


def _whole(value: object) -> int:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected iterations as a whole number of at least 0, got {value!r}; pass e.g. 100")
    return value
