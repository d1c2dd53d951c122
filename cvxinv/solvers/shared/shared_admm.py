"""ADMM on the Gram matrix that all signals share: one n x n product per iteration, in the least precision that serves.

    minimise 1/2 h'G h - c'h + lam 1'h,  h >= 0      (P)      G = W'w W,   c = W'w (y - b)
    minimise 1/2 h'G h - c'h + lam |h|_1                      for h of any sign

With b = c - lam in the first, b = c in the second, and S the prox of what is left of g / rho (max(s, 0), or shrinkage):

    z = S(s),  v = 2 z - s,  x = (G + rho)^-1 (b + rho v),  s <- a x + (1 - a) z + s - z = (1 - a/2) s + q,

where q = a x - a/2 v moves by M dv when v moves by dv, M = a rho (G + rho)^-1 - a/2. Only differences are multiplied by M,
so a product in bfloat16 (three digits, several times as fast as float32 where the processor has it) costs three digits of a
difference, not of q. Every few iterations the gradient g = G z - b is formed in full, and x = z - (G + rho)^-1 r with
r = g + rho (s - z) sets q right; there, too, what is multiplied is small. So float32 serves for the rest, until the gap
reaches its rounding: then G and c are formed in float64, for the signals that are left.

Repaired dual point: with nu >= 0 the reduced costs that fit the activity of z (0 where z > 0, else max(g, 0)) and
d = nu - g, p = w (W (z + e) + b - y) with G e = d is dual feasible and its gap is z'nu + d'e / 2, of second order in the
error of z; that of w (W z + b - y) is of first order. Where G is singular a ridge r takes its part in G e = d, W'p misses
nu by r e, and the gap is charged with what the judge's shrinking of p will cost.

rho = (mu L)^(1/2), mu and L the ends of G's spectrum and mu >= 1e-3 L; a = 1.8. On a Gaussian layer of condition 30 ten
iterations reach a gap of 1e-6. It is no method for conditions far above 1e4, and gives up where the gap stalls.

Source: Boyd et al. (2011), sec. 6.4; rho: Ghadimi et al. (2015). For a = 2 and h >= 0 it is the modulus iteration
s <- M' |s| + q of Bai (2010). The products of differences and the second-order dual are derived above.
"""

from abc import abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem, Point
from ..solver import AbstractSolver
from .precision import coarse_products
from .shared_gram import RELAX, Gram, why_not_shared

RUN = 5  # products in bfloat16 between two full gradients: a sixth gains nothing on their error
_GRAIN = 0.25  # of float32's spacing and |y|^2 / 2: 1.5 times the gap that rounding leaves in the points
_NOTHING = 1e-20  # of |y - b|^2 / 2: a gap that counts as none, see `Certificate`
SHARE = 0.3  # of the tolerance that the method's own estimate of the gap may use
_PATIENCE = 4  # checks without a quarter off the gap, after which a signal is left to others


class AbstractSharedADMM(AbstractSolver):
    """The iteration of the module, for signals with the same on rows and weights, no off rows and no ridge."""

    max_iter = 2000
    first_check = 2 * RUN
    kept: ClassVar[tuple[str, ...]] = ("half", "lam", "b", "least", "stale", "q", "s", "v")
    repairs = True  # whether dual points are asked for

    def begin(self, problem: AbstractLayerProblem) -> None:
        self._prepare(self._first_work())
        self.q = self.gram.times(self.b, self.gram.K).mul_(RELAX)
        self.s = self.q.clone()
        self.v = torch.zeros_like(self.s)
        self.since = 0  # products since the last full gradient
        self.blurred = False  # whether the gap has reached the rounding of float32,
        self.sharp = False  # and float64 was asked for therefore

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        return cls.otherwise if problem.form not in cls.forms else why_not_shared(problem)

    def _first_work(self) -> torch.dtype:
        """float32 on the CPU; on a GPU float64, whose products are no slower and which TF32 cannot reach."""
        device = self.problem.rows.y.device
        return torch.float32 if device.type == "cpu" and not coarse_products(device) else torch.float64

    def _prepare(self, work: torch.dtype) -> None:
        """Everything that is formed in the precision `work`: the Gram matrix, and what is linear in the data."""
        problem, target = self.problem, self.problem.rows.target
        self.gram = Gram.of(problem.rows, work, self.repairs)
        scaled = target if self.gram.flat else target * problem.rows.fit[:1].sqrt()
        self.half = scaled.norm(dim=1).to(work) ** 2 / 2
        c = self.gram.correlation(target)
        self.lam = self._penalty(c)
        self.b = c if problem.absolute else c.sub_(self.lam)
        self.least = torch.full_like(self.half, torch.inf)
        self.stale = torch.zeros(problem.N, dtype=torch.long, device=c.device)
        self._allocate()

    @abstractmethod
    def _penalty(self, c: Tensor) -> Tensor:
        """lam `(N, 1)` in c's type, to begin with."""

    def _allocate(self) -> None:
        """Work space of the iteration, and nothing known of the point."""
        like = self.b
        self.spare, self.z, self.g, self.e = (torch.empty_like(like) for _ in range(4))
        self.low, self.low_out = (torch.empty_like(like, dtype=self.gram.K.dtype) for _ in range(2))
        self.gap: Tensor | None = None

    def next_check(self, iteration: int) -> int:
        return iteration + RUN

    def keep(self, index: Tensor) -> None:
        super().keep(index)
        self._allocate()

    def advance(self, steps: int) -> None:
        self.gap = None
        if self.blurred:
            self._sharpen()
        for _ in range(steps):
            if self.since < RUN or not self.gram.rough:
                self._step()
                self.since += 1
            else:
                self._full_step()

    def _sharpen(self) -> None:
        """Go on in float64."""
        self._prepare(torch.float64)
        self.q, self.s, self.v = self.q.double(), self.s.double(), self.v.double()
        self.blurred, self.sharp, self.since = False, True, RUN

    def given_up(self) -> Tensor:
        return self.stale >= _PATIENCE

    def _count(self, gap: Tensor, done: Tensor) -> None:
        """Keep account of which signals still get on."""
        fallen = gap < 0.75 * self.least
        self.least = torch.where(fallen, gap, self.least)
        self.stale = torch.where(fallen, torch.zeros_like(self.stale), self.stale + 1)
        reached = self.least <= 1e-9 * self.half  # no digit of float32 left: what is not done is so for its rounding
        self.blurred = gap.dtype != torch.float64 and bool((~done & (~fallen | reached)).any())

    # --- the iteration ---

    def _step(self) -> None:
        """A step that moves q by one fast product."""
        self._mirrored(self.spare)
        torch.sub(self.spare, self.v, out=self.low)
        self.v, self.spare = self.spare, self.v
        torch.mm(self.low, self.gram.M, out=self.low_out)
        self.q += self.low_out
        torch.add(self.q, self.s, alpha=1 - RELAX / 2, out=self.s)

    def _full_step(self) -> None:
        """A step whose x comes from the gradient at z, in full. Leaves z and its gradient g."""
        self._shrunk(self.z)
        torch.addmm(self.b, self.z, self.gram.G, beta=-1, out=self.g)
        torch.sub(self.z, self.s, out=self.spare).mul_(self.gram.rho).sub_(self.g)
        self.low.copy_(self.spare)
        torch.mm(self.low, self.gram.K, out=self.low_out)
        self._mirrored(self.v)
        torch.add(self.z, self.low_out, out=self.q).mul_(RELAX).sub_(self.v, alpha=RELAX / 2)
        torch.add(self.q, self.s, alpha=1 - RELAX / 2, out=self.s)
        self.since = 0

    # --- what is particular to the sign of h ---

    def _mirrored(self, out: Tensor) -> None:
        """v = 2 S(s) - s."""
        if not self.problem.absolute:
            torch.abs(self.s, out=out)
        else:
            k = self.lam / self.gram.rho
            torch.sub(self.s, torch.clamp(self.s, -k, k), alpha=2, out=out)

    def _shrunk(self, out: Tensor) -> None:
        """S(s)."""
        if not self.problem.absolute:
            torch.clamp(self.s, min=0, out=out)
        else:
            k = self.lam / self.gram.rho
            torch.sub(self.s, torch.clamp(self.s, -k, k), out=out)

    def _repair(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """d `(N, n)`, by which the gradient g of z must move, and what z pays for the reduced costs it leaves, `(N,)`.

        An unknown keeps a positive reduced cost where that is cheaper than to move it to 0, by the diagonal of G^-1.
        """
        z, weight = self.z, self.gram.half_diagonal
        if not self.problem.absolute:
            moved = z > weight * g
            d = g.neg().mul_(moved)
            return d, torch.mul(z, g + d, out=self.spare).sum(1)
        near = g.clamp(-self.lam, self.lam)
        kept, d = self.lam * z.abs() + z * near, near - g
        full = -self.lam * z.sign() - g
        moved = (z != 0) & (weight * full * full < kept + weight * d * d)
        return torch.where(moved, full, d), torch.where(moved, 0.0, kept).sum(1)

    def _repaired(self, d: Tensor) -> Tensor:
        """e with G e = d, in three digits where they serve."""
        if not self.gram.mild:
            return self.e.copy_(self.gram.repair(d))
        self.low.copy_(d)
        return self.e.copy_(torch.mm(self.low, self.gram.low_inverse, out=self.low_out))

    def _short_of(self, gradient: Tensor) -> Tensor:
        """By how much W'p = `gradient` misses the reduced costs that fit z, `(N, n)`."""
        return self._repair((gradient if self.problem.absolute else gradient + self.lam).to(self.b.dtype))[0]

    def point(self) -> Point:
        """z and the repaired p. What rounding has taken from W'p is seen in W'p itself and repaired once more."""
        if self.gap is None:
            self._look()
        rows, gram = self.problem.rows, self.gram
        if gram.mild and not self.sharp:
            p = gram.misfit(self.z + self.e, rows.target)
            p += gram.image(gram.repair(self._short_of(gram.adjoint(p))))
        else:
            p = rows.fit * (rows.W(self.z.to(rows.y)) - rows.target)
            d = self._short_of(rows.W.adjoint(p))
            e = gram.repair(d).to(p)
            e += gram.repair(d - rows.W.adjoint(rows.fit * rows.W(e)).to(d))
            p += rows.fit * rows.W(e)
        return Point(self.z.to(rows.y.dtype), p.to(rows.y.dtype))

    def points(self, index: Tensor) -> Point:
        """The points of the signals at `index`, positions: a p costs two products with W, which the others are spared."""
        if len(index) == self.problem.N:
            return self.point()
        if self.gap is None:
            self._look()
        assert self.gap is not None
        part, gap, z, e = copy(self), self.gap[index], self.z[index], self.e[index]
        part.keep(index)
        part.gap, part.z, part.e = gap, z, e
        return part.point()

    @abstractmethod
    def _look(self) -> None:
        """A full step, and the gap of the z that it started from."""


@dataclass(frozen=True)
class SharedADMM(AbstractSharedADMM):
    """One product for the whole batch per iteration; even spectra, a shared Gram matrix, no off rows."""

    name = "shared_admm"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"

    def _penalty(self, c: Tensor) -> Tensor:
        return self.problem.linear.to(c)

    def _look(self) -> None:
        self._full_step()
        d, slack = self._repair(self.g)
        e = self._repaired(d)
        self.gap = slack + torch.mul(d, e, out=self.spare).sum(1) / 2
        if self.gram.ridge:
            self.gap += self.gram.ridge * e.abs().amax(1) * self.z.abs().sum(1)

    def done(self, tol: float) -> Tensor:
        if self.gap is None:
            self._look()
        assert self.gap is not None
        objective = self._objective()
        done = self.gap <= torch.maximum(SHARE * tol * objective, _NOTHING * self.half)
        grain = _GRAIN * torch.finfo(self.gap.dtype).eps * self.half
        done &= (tol * objective >= grain) | (self.gap.dtype == torch.float64)
        self._count(self.gap, done)
        return done

    def _objective(self) -> Tensor:
        """(P) at z, less what cancellation may have added, `(N,)`."""
        length = self.lam[:, 0] * self.z.abs().sum(1)
        rest = self.half + torch.mul(torch.sub(self.g, self.b, out=self.spare), self.z, out=self.spare).sum(1) / 2
        misfit = rest if self.problem.absolute else rest - length
        return length + (misfit - 64 * torch.finfo(misfit.dtype).eps * self.half).clamp(min=0)
