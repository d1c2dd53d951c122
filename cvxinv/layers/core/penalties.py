"""g: what h costs, and what it may be. One form serves all layer problems.

g(h) = lam sum_j d_j |h_j| + gamma/2 sum_j (d_j h_j)^2  [+ (h >= 0)],      d the sizes of the unknowns, 1 unless said

g*(-W'p) = sum_j (what (W'p)_j lacks)^2 / (2 gamma d_j^2), and inf where it lacks anything and gamma = 0;
lacking is -(W'p)_j - lam d_j above 0 where h >= 0, |W'p|_j - lam d_j above 0 where h has any sign.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .problem import AbstractLayerProblem

_HELD = 1e-6  # an unknown this small, in units of the largest, counts as held at 0


@dataclass(frozen=True, eq=False)
class Penalty:
    """g of a batch. lam, gamma: `(N,)`, >= 0, None where the problem has no such term; one of them is there.

    sizes: d, `(n,)` or `(N, n)`, or None. nonnegative: whether h >= 0 is asked. length: whether |h| is weighed also where
    h >= 0: then an h below 0, which no limit allows, counts as one above.
    """

    lam: Tensor | None
    gamma: Tensor | None
    sizes: Tensor | None
    nonnegative: bool
    length: bool

    @classmethod
    def of(
        cls,
        problem: "AbstractLayerProblem",
        *,
        lam: float | Tensor | None = None,
        gamma: float | Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> "Penalty":
        """The penalty of a layer problem from its numbers, one for all signals or `(N,)`; sizes: its own by default."""
        if lam is None and gamma is None:
            lam = 0.0
        y = problem.rows.y
        lam = y.new_full((len(y),), lam) if isinstance(lam, int | float) else lam
        gamma = y.new_full((len(y),), gamma) if isinstance(gamma, int | float) else gamma
        sizes = problem.sizes if sizes is None else sizes
        # a bound on the misfit makes |h| itself the objective, and no misfit makes up for an h below 0
        return cls(lam, gamma, sizes, problem.nonnegative, not problem.nonnegative or problem.form in ("ball", "interval"))

    @property
    def _given(self) -> Tensor:
        given = self.gamma if self.lam is None else self.lam
        assert given is not None
        return given

    @property
    def names(self) -> str:
        """The numbers that weigh h, in words: "lam", "gamma" or "lam = gamma"."""
        return " = ".join(name for name in ("lam", "gamma") if getattr(self, name) is not None)

    @cached_property
    def linear(self) -> Tensor:
        """Weight of each |h_j|, `(N, 1)` or `(N, n)`."""
        lam = torch.zeros_like(self._given) if self.lam is None else self.lam
        return lam[:, None] if self.sizes is None or self.lam is None else lam[:, None] * self.sizes

    @cached_property
    def quadratic(self) -> Tensor:
        """Weight of each h_j^2 / 2, `(N, 1)` or `(N, n)`."""
        gamma = torch.zeros_like(self._given) if self.gamma is None else self.gamma
        return gamma[:, None] if self.sizes is None or self.gamma is None else gamma[:, None] * self.sizes**2

    @cached_property
    def nothing(self) -> Tensor:
        """Whether h costs a signal nothing, bool `(N,)`: then (D) asks for W'p = 0, or W'p >= 0 where h >= 0."""
        free = self._given == 0
        return free if self.lam is None or self.gamma is None else free & (self.gamma == 0)

    # --- of h ---

    def value(self, h: Tensor) -> Tensor:
        """g(h), whether or not h >= 0 holds, `(N,)`."""
        cost = [(self.linear * (h.abs() if self.length else h)).sum(1)] if self.lam is not None else []
        cost += [(self.quadratic * h * h).sum(1) / 2] if self.gamma is not None else []
        return cost[0] if len(cost) == 1 else cost[0] + cost[1]

    def violation(self, h: Tensor) -> Tensor:
        """How far h is below 0 where it must not be, `(N,)`."""
        return (-h).clamp(min=0).amax(1) if self.nonnegative else torch.zeros_like(h[:, 0])

    def gradient(self, h: Tensor) -> Tensor:
        """The slope of g at h `(N, n)`, where it has one; that of h >= 0 from above."""
        return (self.linear if self.nonnegative else self.linear * h.sign()) + self.quadratic * h

    def free(self, h: Tensor) -> Tensor:
        """Unknowns at which g is smooth, so that W'p + gradient = 0 is asked of them, bool `(N, n)`."""
        if self.nonnegative:
            return h > _HELD * h.amax(1, keepdim=True)
        size = h.abs()
        return (size > _HELD * size.amax(1, keepdim=True)) | (self.linear == 0)

    def prox(self, h: Tensor, rho: Tensor) -> Tensor:
        """argmin_u g(u) + rho/2 |u - h|^2 for `h` `(N, n)` and `rho` `(N, 1)`."""
        if self.nonnegative:
            h = (h if self.lam is None else h - self.linear / rho).clamp(min=0)
        elif self.lam is not None:
            h = h.sign() * (h.abs() - self.linear / rho).clamp(min=0)
        return h if self.gamma is None else rho * h / (rho + self.quadratic)

    # --- of W'p ---

    def slope(self, Wp: Tensor, doubt: Tensor | float = 0.0) -> Tensor:
        """What of W'p `(N, n)` the weights have to bear, at most, where it is known to `doubt` `(N, n)`."""
        return (-Wp if self.nonnegative else Wp.abs()) + doubt

    def short(self, Wp: Tensor) -> Tensor:
        """What W'p lacks of (D), `(N, n)`, with its sign: a step along it makes h worth more than g says."""
        if self.nonnegative:
            return (Wp + self.linear).clamp(max=0)
        return Wp.sign() * (Wp.abs() - self.linear).clamp(min=0)

    def lacking(self, slope: Tensor) -> Tensor:
        """g*(-W'p) for such a slope, where h^2 has a weight, `(N,)`; NaN or inf where it has none."""
        lack = (slope if self.lam is None else slope - self.linear).clamp(min=0)
        return (lack * lack / (2 * self.quadratic)).sum(1)

    def reach(self, slope: Tensor) -> Tensor:
        """The largest s for which s p lacks nothing, `(N,)`, inf where every s does."""
        assert self.lam is not None
        tiny = torch.finfo(slope.dtype).tiny
        worst = (slope if self.sizes is None else slope / self.sizes).amax(1)
        most = torch.where(worst > 0, self.lam / worst.clamp(min=tiny), torch.inf)
        return most * (1 - 4 * torch.finfo(slope.dtype).eps)
