"""ML-ISTA and ML-FISTA: shrinkage through all layers of a multi-layer basis pursuit, and what their fixed points are worth.

One pass from a deepest w: gh_L = w, gh_{i-1} = D_i gh_i down to the signal gh_0, then with g_0 = y, for i = 1, ..., L,

    g_i = soft(gh_i - mu_i D_i'(D_i gh_i - g_{i-1}), s_i lam_i),     s_i = mu_1 mu_2 ... mu_i,

relu(. - s_i lam_i) in place of soft where g_i >= 0. ML-ISTA goes on from w = g_L, ML-FISTA from g_L and its last step,
weighed as FISTA does. A pass is one product with each D_i and one with each D_i'.

What a pass proves. Let v_0 = w_mask (gh_0 - y), v_i = (gh_i - g_i) / s_i, and p_0 = v_0, p_i = v_i - D_i'v_{i-1}. The
optimality of each shrinkage says that p_i is a subgradient of lam_i |.|_1 at g_i, so |p_i| <= lam_i; and W'p = D_L'v_{L-1}
for the W of `multi_layer_pursuit`. At a fixed point g_L = w, so |W'p| <= lam_L: p is feasible in (D), and the judge's gap
at (g_L, p) is

    F(g_L) - F* <= sum_{i<L} (lam_i |gh_i|_1 - lam_i |g_i|_1 - s_i p_i'v_i) <= 2 sum_{i<L} s_i lam_i |v_i|_1,       (bias)

for which `sparse` note 2.3 has the case L = 2. It is 0 where gh_i and g_i have the same signs, and falls with the steps
s_i, i < L; it is no rounding, and no number of iterations makes it smaller: the fixed point is that of g -> g_L, not the
optimum. The two abstracts of the source differ in this. The first version's says that both methods "converge to the global
optimum of our multi-layer formulation at a rate of O(1/k) and O(1/k^2)", which as it stands does not hold.

Steps. The map v_{L-1}(D_L w) is co-coercive with modulus c_{L-1}, be_1 = 1 / |D_1|^2, s_i <= be_i, c_i = s_i (4 be_i - s_i)
/ (4 be_i), be_{i+1} = c_i / |D_{i+1}|^2, so ML-ISTA with s_L <= be_L comes to a fixed point. Here s_i = mu be_i for i < L
and s_L = be_L. For ML-FISTA nothing of the kind is known: the map is no gradient. It came to rest in every run here.

Source: Sulam, Aberdam, Beck, Elad (2018), as in `sparse` notes 2.2 and 2.3; the bound and the steps derived there, for any
depth here. Their mu is mu / |D_1|^2 here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..generator.maps import AbstractMap
from ..inputs import describe, plain_number
from ..layers.core.certificate import Certificate, certify
from ..layers.core.problem import Point
from ..surroundings import undisturbed
from .multi_layer_pursuit import AbstractMultiLayerPursuit

_LOOK = 25  # iterations between looks at who still moves


@dataclass(frozen=True, eq=False)
class FixedPoint(Batch):
    """Where ML-ISTA came to, and what that is worth.

    h: g_L, `(N, n)`; p: `(N, m)`, the dual variable of the last pass. certificate: the judge's, of (h, p):
    `certificate.gap` is a true bound on F(h) - F*, whether or not h is a fixed point, and at one it is `bias`, and with g_i
    >= 0 besides what negative entries of the D_{i+1}...D_L h are worth: ML-ISTA holds the g_i of its pass above 0, and
    those only next to it. moved: |g_L - w| / |w| of the last pass `(N,)`; settled: whether that is within what was asked,
    bool `(N,)`. bias: the sum of the module, units of the objective `(N,)`; no bound where `settled` is False. iterations:
    `(N,)`.
    """

    h: Tensor = per_signal()
    p: Tensor = per_signal()
    certificate: Certificate = per_signal()
    moved: Tensor = per_signal()
    settled: Tensor = per_signal()
    bias: Tensor = per_signal()
    iterations: Tensor = per_signal()

    @property
    def point(self) -> Point:
        """h and p as a `Point`."""
        return Point(self.h, self.p)

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        resting, worst = int(self.settled.sum()), float(self.bias.max()) if len(self) else 0.0
        return f"FixedPoint of {len(self)} signals: {resting} settled; largest bias {worst:.1e}; {self.certificate!r}"


@undisturbed
def ml_ista(
    problem: AbstractMultiLayerPursuit,
    *,
    mu: float = 1.0,
    momentum: bool = False,
    max_iter: int = 20_000,
    still: float = 1e-10,
    tol: float = 1e-6,
) -> FixedPoint:
    """ML-ISTA, or ML-FISTA with `momentum`, to its fixed point, from 0, for a whole batch.

    mu: steps of all layers but the deepest, in units of the largest safe one, 0 < mu <= 1: the smaller, the smaller the
    bias, and the more iterations. still: a signal is done where a pass moves h by less than so many of its length. tol: of
    the certificate. For the optimum itself use `solve`.

    Raises TypeError or ValueError for what is no multi-layer pursuit, for options out of range, and for a dictionary of
    zeros.
    """
    if not isinstance(problem, AbstractMultiLayerPursuit):
        raise TypeError(f"expected a multi-layer pursuit, got {describe(problem)}; use multi_layer_pursuit(...)")
    mu, still = _number(mu, "mu", 1.0), _number(still, "still", 1.0)
    if isinstance(max_iter, bool) or not isinstance(max_iter, int) or max_iter < 1:
        raise ValueError(f"max_iter must be a positive integer, got {max_iter!r}")
    steps = safe_steps(problem.dictionaries, mu)
    wide = problem.to(torch.float64)
    g = wide.rows.y.new_zeros(wide.N, wide.n)
    before, t = g, 1.0
    iterations = torch.full((wide.N,), max_iter)
    done = torch.zeros(wide.N, dtype=torch.bool)
    for k in range(1, max_iter + 1):
        w = g
        if momentum:
            t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            w = g + (last - 1) / t * (g - before)
        before, g = g, one_pass(wide, w, steps).representations[-1]
        if k % _LOOK == 0 and bool((_moved(g, w) <= still).all()):
            rest = (_moved(one_pass(wide, g, steps).representations[-1], g) <= still).cpu()
            iterations[rest & ~done] = k
            done |= rest
            if bool(rest.all()):
                break
    last_pass = one_pass(wide, g, steps)
    moved = _moved(last_pass.representations[-1], g)
    certificate = certify(problem, Point(g, last_pass.p), tol=tol)
    h, p = g.to(problem.rows.y), last_pass.p.to(problem.rows.y)
    return FixedPoint(h, p, certificate, moved.cpu(), (moved <= still).cpu(), last_pass.bias.cpu(), iterations)


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass: g_1, ..., g_L, the p `(N, m)` that it proves something with, and the sum (bias) `(N,)`."""

    representations: tuple[Tensor, ...]
    p: Tensor
    bias: Tensor


def one_pass(problem: AbstractMultiLayerPursuit, w: Tensor, steps: tuple[float, ...]) -> Pass:
    """The pass of the module from w `(N, n)` with the steps s_1, ..., s_L."""
    rows, dictionaries = problem.rows, problem.dictionaries
    signal, *between = rows.W(w).split(problem.widths, 1)
    decoded = (*between, w)
    prices = (*problem.analysis.T, problem.number("lam"))
    on, y = rows.fit[:, : problem.widths[0]], rows.y[:, : problem.widths[0]]
    v = on * (signal - y)
    blocks, found, bias = [v], [], torch.zeros_like(w[:, 0])
    for i, (D, gh, lam, s) in enumerate(zip(dictionaries, decoded, prices, steps, strict=True)):
        back = D.adjoint(v)
        argument, threshold = gh - s * back, s * lam[:, None]
        if problem.nonnegative:
            g = (argument - threshold).clamp(min=0)
        else:
            g = argument.sign() * (argument.abs() - threshold).clamp(min=0)
        v = (gh - g) / s
        found.append(g)
        if i < problem.depth - 1:
            p = v - back
            blocks.append(p)
            bias = bias + (lam[:, None] * (gh.abs() - g.abs()) - s * p * v).sum(1)
    return Pass(tuple(found), torch.cat(blocks, 1), bias)


def safe_steps(dictionaries: tuple[AbstractMap, ...], mu: float = 1.0) -> tuple[float, ...]:
    """s_1, ..., s_L: mu times the largest safe steps, and for the deepest layer that itself.

    Raises ValueError for a dictionary of zeros.
    """
    steps, modulus = list[float](), 1.0
    for i, D in enumerate(dictionaries, 1):
        norm = D.norm()
        if norm == 0:
            raise ValueError(f"expected dictionaries with a column that is not 0, got zeros alone in D_{i}; leave it out")
        # of a large map the norm is known from below, to a few digits
        largest = modulus / (1.001 * norm) ** 2
        s = largest if i == len(dictionaries) else mu * largest
        modulus = s * (4 * largest - s) / (4 * largest)
        steps.append(s)
    return tuple(steps)


def _moved(g: Tensor, w: Tensor) -> Tensor:
    """|g - w| in units of |w|, `(N,)`; 0 where both are 0."""
    length = torch.maximum(g.norm(dim=1), w.norm(dim=1))
    return (g - w).norm(dim=1) / torch.where(length > 0, length, torch.ones_like(length))


def _number(value: object, name: str, most: float) -> float:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ValueError(f"{name} must be > 0 and <= {most:g}, got {value!r}; leave it out for the default")
    return float(value)
