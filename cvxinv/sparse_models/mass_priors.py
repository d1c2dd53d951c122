"""What barycenters may be asked to be: sparse in a dictionary, or in the range of a generator.

Sparse: M = {D a : |a|_1 <= r}, convex. The projection of v is min 1/2 |D a - v|^2 over the ball, by FISTA with projections
onto it (sorted, all at once), restarts where it turns, and trials of its support, solved exactly; with s = D'(D a - v)
its excess over the optimum is at most a's + r |s|_inf (Frank and Wolfe's gap), so that D a is within (2 gap)^(1/2) of the
projection. max {m'w : w in M} = r |D'm|_inf. With a >= 0: a's + r max(-s)_+ and r max(D'm)_+.

Range: M = {(G(z) - floor) / total}, not convex. The projection is `invert` of the signal floor + total v, which answers
with a local optimum, its certificates and its verdict; later ones begin at the latents before, and cost a descent each.

Source: the priors as in `sparse` note 4.4, of Simon, Aberdam, "Barycenters of natural images" (2019); changed: one
dictionary for whole pictures in place of patches, the ball in place of a count of atoms, `invert` in place of an encoder.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..generator.abstract import AbstractGenerator
from ..inputs import describe, plain_number
from ..inversion.invert import invert
from ..inversion.verify import Verdict

_LOOK = 25  # iterations of FISTA between looks at the gap, and trials of its support
_MOST = 20_000  # of them
_EXACT = 1e-12  # gap of a projection, of |v|^2: within 1e-6 of |v|, where the last steps of the ADMM are no smaller


@dataclass(frozen=True, eq=False)
class Projected(Batch):
    """w `(N, n)` in M, next to what was asked for; known: what a further projection begins with, of the prior's own kind."""

    w: Tensor = per_signal()
    known: Any = per_signal(default=None)


class AbstractMassPrior(ABC):
    """A set M that barycenters are to lie in, in units of mass of sum 1.

    convex: whether a bound may count on it; then `worth` and `stated` are written too.
    """

    convex: ClassVar[bool] = False

    @abstractmethod
    def project(self, v: Tensor, known: Any = None) -> Projected:
        """The points of M next to v `(N, n)`; known: of the projection before."""

    def worth(self, price: Tensor) -> Tensor | None:
        """max {m'w : w in M} for m `(N, n)`, `(N,)`; None where it is not known."""
        return None

    def stated(self, cp: Any, y: Any) -> list:
        """y in M, as constraints of CVXPY, whose module is `cp`."""
        raise ValueError(f"expected a convex prior for a statement, got {describe(self)}; leave it out")

    @abstractmethod
    def check(self, n: int) -> None:
        """Raises ValueError where M holds no pictures of n pixels."""


@dataclass(frozen=True, eq=False)
class SparsePrior(AbstractMassPrior):
    """M = {D a : |a|_1 <= r}: D `(n, k)`, atoms as columns, float64; radius r > 0; nonnegative: a >= 0.

    y has sum 1: with atoms of sum 1 and a >= 0 at r = 1 it is a mean of atoms.
    """

    D: Tensor
    radius: float
    nonnegative: bool = False
    convex: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.D, Tensor) or self.D.ndim != 2 or self.D.dtype != torch.float64 or not self.D.numel():
            raise ValueError(f"expected a dictionary (n, k) in float64, got {describe(self.D)}; atoms are columns")
        if not bool(self.D.isfinite().all()) or not bool((self.D != 0).any()):
            raise ValueError("expected finite atoms that are not all 0, got others; leave those out")
        radius = plain_number(self.radius)
        if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius < float("inf"):
            raise ValueError(f"radius must be > 0 and finite, got {self.radius!r}; pass e.g. radius=1.0")
        object.__setattr__(self, "radius", float(radius))

    def check(self, n: int) -> None:
        if len(self.D) != n:
            raise ValueError(f"expected atoms of {n} pixels, got {len(self.D)}; pass D of shape ({n}, k)")

    def project(self, v: Tensor, known: Tensor | None = None) -> Projected:
        gram, to = self.D.T @ self.D, v @ self.D
        step = 1 / float(torch.linalg.matrix_norm(gram, 2))
        a = torch.zeros_like(to) if known is None else known
        ahead, t = a, torch.ones_like(a[:, :1])
        enough = _EXACT * (v * v).sum(1)
        for k in range(_MOST):
            if k % _LOOK == 0:
                exact, excess = self._on_support(a, gram, to)
                if bool((excess <= enough).all()):
                    a = exact
                    break
            new = self.nearest_in_ball(ahead - step * (ahead @ gram - to))
            grows = ((ahead - new) * (new - a)).sum(1, keepdim=True) > 0
            t = torch.where(grows, 1.0, t)
            later = (1 + (1 + 4 * t * t).sqrt()) / 2
            ahead = torch.where(grows, new, new + (t - 1) / later * (new - a))
            a, t = new, later
        return Projected(a @ self.D.T, a)

    def _on_support(self, a: Tensor, gram: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        """a, or the exact optimum of its support and signs where that is better, `(N, k)`, and what its gap is, `(N,)`."""
        best, least = a, self._excess(a, a @ gram - to)
        held, sign = (a != 0).to(a), a.sign()
        core = held[:, :, None] * gram * held[:, None] + torch.diag_embed(1 - held)
        for touches in (True, False):  # the ball or not
            rim = sign if touches else torch.zeros_like(sign)
            last = torch.full_like(a[:, :1, None], 0.0 if touches else 1.0)
            system = torch.cat([torch.cat([core, rim[:, :, None]], 2), torch.cat([rim[:, None], last], 2)], 1)
            right = torch.cat([held * to, torch.full_like(a[:, :1], self.radius if touches else 0.0)], 1)
            found, wrong = torch.linalg.solve_ex(system, right)
            exact = self.nearest_in_ball(torch.where(wrong[:, None] == 0, found[:, :-1], a).nan_to_num())
            excess = self._excess(exact, exact @ gram - to)
            better = excess < least
            best, least = torch.where(better[:, None], exact, best), torch.where(better, excess, least)
        return best, least

    def _excess(self, a: Tensor, slope: Tensor) -> Tensor:
        return (a * slope).sum(1) + self.radius * self._largest(-slope)

    def _largest(self, c: Tensor) -> Tensor:
        return c.amax(1).clamp(min=0) if self.nonnegative else c.abs().amax(1)

    def nearest_in_ball(self, a: Tensor) -> Tensor:
        """The nearest of the coefficients allowed, `(N, k)`: a shrunk by what makes its l1 norm at most r."""
        size = a.clamp(min=0) if self.nonnegative else a.abs()
        ordered = size.sort(1, descending=True).values
        count = torch.arange(1, a.shape[1] + 1, dtype=a.dtype, device=a.device)
        shrinks = (ordered.cumsum(1) - self.radius) / count
        held = (ordered > shrinks).sum(1, keepdim=True).clamp(min=1)
        by = shrinks.gather(1, held - 1).clamp(min=0)
        return torch.where(a >= 0, 1.0, -1.0) * (size - by).clamp(min=0)

    def worth(self, price: Tensor) -> Tensor:
        return self.radius * self._largest(price @ self.D)

    def stated(self, cp: Any, y: Any) -> list:
        a = cp.Variable(self.D.shape[1], nonneg=self.nonnegative)
        return [y == self.D.cpu().numpy() @ a, cp.norm1(a) <= self.radius]


@dataclass(frozen=True, eq=False)
class InRange(Batch):
    """Latents z `(N, n0)` of points of a range, and `verify`'s word on each as the nearest to what was asked for."""

    z: Tensor = per_signal()
    verdict: Verdict = per_signal()


@dataclass(frozen=True, eq=False)
class GeneratorRange(AbstractMassPrior):
    """M = {(G(z) - floor) / total}: total `(N,)`, of the pictures that are asked for; signal units, as floor.

    restarts: random starts of the first projection, as in `invert`; seed: of them.
    """

    generator: AbstractGenerator
    total: Tensor
    floor: float = 0.0
    restarts: int = 5
    seed: int = 0

    def check(self, n: int) -> None:
        if self.generator.signal_dim != n:
            raise ValueError(f"expected a generator of {n} pixels, got {self.generator.signal_dim}; scale the pictures")

    def project(self, v: Tensor, known: "InRange | None" = None) -> Projected:
        signals = (self.floor + self.total[:, None] * v).to(self.generator.dtype)
        quiet: dict[str, Any] = {"on_fail": "ignore", "progress": False, "seed": self.seed}
        if known is None:
            found = invert(self.generator, signals, "hybrid", restarts=self.restarts, **quiet)
        else:
            found = invert(self.generator, signals, "levenberg_marquardt", z0=known.z, restarts=0, **quiet)
        return Projected((found.signal.to(v) - self.floor) / self.total[:, None], InRange(found.z, found.verdict))


def floor_of(generator: AbstractGenerator, floor: float | None) -> float:
    """The value of no mass: what was stated, else the lower end of the generator's output.

    Raises TypeError for what is no number; ValueError for an output without a lower end, where no floor is stated.
    """
    low = float(generator.output.range[0])
    if floor is None:
        if low == -float("inf"):
            raise ValueError(
                f"expected a generator whose output has a lower end, got {generator.output.name!r}, which may be negative; "
                "state the value of an empty pixel, e.g. floor=0: what lies below it counts as no mass"
            )
        return low
    floor = plain_number(floor)  # type: ignore[assignment]
    if isinstance(floor, bool) or not isinstance(floor, int | float):
        raise TypeError(f"expected floor as a number, signal units, got {describe(floor)}; pass e.g. floor=0.0")
    if not abs(floor) < float("inf"):
        raise ValueError(f"expected a finite floor, got {floor}; pass e.g. floor=0.0")
    return float(floor)
