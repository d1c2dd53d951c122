"""ADMM on the Gram matrix that all signals share: one n x n product per iteration, in the least precision that serves.

    minimise 1/2 h'G h - c'h + lam 1'h,  h >= 0      (P)      G = W'w W,   c = W'w (y - b)
    minimise 1/2 h'G h - c'h + lam |h|_1                      for h of any sign

With b = c - lam in the first, b = c in the second, and S the prox of what is left of g / rho (max(s, 0), or shrinkage):

    z = S(s),  v = 2 z - s,  x = (G + rho)^-1 (b + rho v),  s <- a x + (1 - a) z + s - z = (1 - a/2) s + q,

where q = a x - a/2 v moves by M dv when v moves by dv, M = a rho (G + rho)^-1 - a/2. Only differences are multiplied by M,
so a product in bfloat16 (three digits, several times as fast as float32 where the processor has it) costs three digits of a
difference, not of q. Every few iterations the gradient g = G z - b is formed in full, and x = z - (G + rho)^-1 (g + rho (s - z))
sets q right; there, too, what is multiplied is small. So float32 serves for the rest, until the gap reaches its rounding:
then G and c are formed in float64, for the signals that are left.

Repaired dual point: with nu >= 0 the reduced costs that fit the activity of z (0 where z > 0, else max(g, 0)) and
d = nu - g, p = w (W (z + e) + b - y) with G e = d is dual feasible and its gap is z'nu + d'e / 2, of second order in the
error of z; that of w (W z + b - y) is of first order. Where G is singular a ridge r takes its part in G e = d, W'p misses
nu by r e, and the gap is charged with what the judge's shrinking of p will cost.

rho = (mu L)^(1/2), mu and L the ends of G's spectrum and mu >= 1e-3 L; a = 1.8. On a Gaussian layer of condition 30 ten
iterations reach a gap of 1e-6. It is no method for conditions far above 1e4, and gives up where the gap stalls.

Source: Boyd et al. (2011), sec. 6.4; rho: Ghadimi et al. (2015). For a = 2 and h >= 0 it is the modulus iteration
s <- M' |s| + q of Bai (2010). The products of differences and the second-order dual are derived above.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..layer_problem import AbstractLayerProblem, Point, spd_factor
from ..rows import Rows
from .loop import AbstractMethod

_RELAX = 1.8
_FLAT = 1e-3  # mu counts as this times L at least: a smaller rho leaves the unknowns of large curvature behind
_RUN = 5  # products in bfloat16 between two full gradients: a sixth gains nothing on their error
_LARGEST = 3000  # unknowns beyond which factors and inverses cost more than they save
_RIDGE = 1e-9  # in units of L, in float64: what a singular G is repaired with
_NOTHING = 1e-20  # of |y - b|^2 / 2: a gap that counts as none, see `Certificate`
_SHARE = 0.3  # of the tolerance that the method's own estimate of the gap may use
_PATIENCE = 4  # checks without a quarter off the gap, after which a signal is left to others
_ROWS = 49  # whose products are summed at a time
_POWERS = 20  # products that find an end of the spectrum well enough for rho


class SharedADMM(AbstractMethod):
    """See the module. For signals with the same on rows and weights, no off rows and no ridge."""

    name = "shared_admm"
    forms = ("quadratic",)
    otherwise = "it serves squared misfits"
    max_iter = 2000
    first_check = 2 * _RUN

    def __init__(self, problem: AbstractLayerProblem):
        self.problem = problem
        self.N = problem.N
        self._prepare(_first_work(problem.rows.y))
        self.q = self.gram.times(self.b, self.gram.K).mul_(_RELAX)
        self.s = self.q.clone()
        self.v = torch.zeros_like(self.s)
        self.since = 0  # products since the last full gradient

    @classmethod
    def refuses(cls, problem: AbstractLayerProblem) -> str | None:
        return super().refuses(problem) or why_not_shared(problem)

    def _prepare(self, work: torch.dtype) -> None:
        """Everything that is formed in the precision `work`: the Gram matrix, and what is linear in the data."""
        problem, target = self.problem, self.problem.rows.target
        self.gram = Gram.of(problem.rows, work)
        scaled = target if self.gram.flat else target * problem.rows.fit[:1].sqrt()
        self.half = scaled.norm(dim=1) ** 2 / 2
        self.lam = problem.linear.to(self.gram.G.dtype)
        c = self.gram.correlation(target)
        self.b = c if problem.absolute else c.sub_(self.lam)
        self.least = torch.full_like(self.half, torch.inf)
        self.stale = torch.zeros(problem.N, dtype=torch.long, device=c.device)
        self._allocate()

    def _allocate(self) -> None:
        """Work space of the iteration, and nothing known of the point."""
        like = self.b
        self.spare, self.z, self.g, self.d = (torch.empty_like(like) for _ in range(4))
        self.low, self.low_out = (torch.empty_like(like, dtype=self.gram.K.dtype) for _ in range(2))
        self.gap: Tensor | None = None

    def next_check(self, iteration: int) -> int:
        return iteration + _RUN

    def keep(self, index: Tensor) -> None:
        self.problem = self.problem.take(index)
        for name in ("half", "lam", "b", "least", "stale", "q", "s", "v"):
            setattr(self, name, getattr(self, name)[index])
        self._allocate()

    def advance(self, steps: int) -> None:
        self.gap = None
        for _ in range(steps):
            if self.since < _RUN or not self.gram.rough:
                self._step()
                self.since += 1
            else:
                self._full_step()

    def done(self, tol: float) -> Tensor:
        if self.gap is None:
            self._look()
        gap, size = self.gap, self._objective()
        assert gap is not None
        allowed = torch.maximum(_SHARE * tol * size, _NOTHING * self.half)
        done = gap <= allowed
        fallen = gap < 0.75 * self.least
        self.least = torch.where(fallen, gap, self.least)
        self.stale = torch.where(fallen, torch.zeros_like(self.stale), self.stale + 1)
        if self.b.dtype != torch.float64 and bool((~done & (self.stale > 0)).any()):
            self._sharpen()
            return torch.zeros_like(done)
        return done

    def given_up(self) -> Tensor:
        return self.stale >= _PATIENCE

    def point(self) -> Point:
        """z and the repaired p. What float32 has taken from W'p is seen in W'p itself and repaired once more."""
        if self.gap is None:
            self._look()
        rows, gram, work = self.problem.rows, self.gram, self.b.dtype
        e = self.d @ gram.inverse if work == torch.float64 else self.low_out
        p = gram.misfit(self.z + e, rows.target)
        if work != torch.float64:
            g = gram.adjoint(p)
            d, _ = self._repair(g if self.problem.absolute else g.add_(self.lam))
            p += gram.image(gram.times(d, gram.low_inverse))
        return Point(self.z.to(rows.y.dtype), p.to(rows.y.dtype))

    # --- the iteration ---

    def _step(self) -> None:
        self._mirrored(self.spare)
        torch.sub(self.spare, self.v, out=self.low)
        self.v, self.spare = self.spare, self.v
        torch.mm(self.low, self.gram.M, out=self.low_out)
        self.q += self.low_out
        torch.add(self.q, self.s, alpha=1 - _RELAX / 2, out=self.s)

    def _full_step(self) -> None:
        """A step whose x comes from the gradient at z, in full. Leaves z and its gradient g."""
        self._shrunk(self.z)
        torch.addmm(self.b, self.z, self.gram.G, beta=-1, out=self.g)
        torch.sub(self.z, self.s, out=self.spare).mul_(self.gram.rho).sub_(self.g)
        self.low.copy_(self.spare)
        torch.mm(self.low, self.gram.K, out=self.low_out)
        self._mirrored(self.v)
        torch.add(self.z, self.low_out, out=self.q).mul_(_RELAX).sub_(self.v, alpha=_RELAX / 2)
        torch.add(self.q, self.s, alpha=1 - _RELAX / 2, out=self.s)
        self.since = 0

    def _look(self) -> None:
        """A full step, and the gap of the z that it started from."""
        self._full_step()
        d, slack = self._repair(self.g)
        self.d = d
        self.low.copy_(d)
        torch.mm(self.low, self.gram.low_inverse, out=self.low_out)
        self.gap = slack + torch.mul(d, self.low_out, out=self.spare).sum(1) / 2
        if self.gram.ridge:
            missed = self.gram.ridge * self.low_out.abs().amax(1).to(self.gap)
            self.gap += missed * self.z.abs().sum(1)

    def _objective(self) -> Tensor:
        """(P) at z, less what cancellation may have added, `(N,)`."""
        length = self.lam[:, 0] * self.z.abs().sum(1)
        rest = self.half + torch.mul(torch.sub(self.g, self.b, out=self.spare), self.z, out=self.spare).sum(1) / 2
        misfit = rest if self.problem.absolute else rest - length
        return length + (misfit - 64 * torch.finfo(misfit.dtype).eps * self.half).clamp(min=0)

    def _sharpen(self) -> None:
        """Go on in float64: the gap has reached the rounding of float32."""
        self._prepare(torch.float64)
        self.q, self.s, self.v = self.q.double(), self.s.double(), self.v.double()
        self._full_step()

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


class Gram(NamedTuple):
    """What all signals share, in the precision `work` where nothing else is said.

    W: `(m, n)`, weight: row weights `(1, m)`, G = W'w W, inverse: of G + ridge, half_diagonal: of the inverse, over 2, `(n,)`.
    K, M: of the module, and low_inverse, in the type of the fast products; rough: whether that type is lower than `work`.
    """

    W: Tensor
    weight: Tensor
    G: Tensor
    inverse: Tensor
    half_diagonal: Tensor
    ridge: float
    rho: float
    K: Tensor
    M: Tensor
    low_inverse: Tensor
    rough: bool
    flat: bool

    @classmethod
    def of(cls, rows: Rows, work: torch.dtype) -> "Gram":
        """Raises no error for a singular G: it gets a ridge, in float64."""
        work = torch.float64 if rows.m < rows.n else work  # float32 cannot tell a singular G
        W, weight = rows.W.matrix().to(work), rows.fit[:1].to(work)
        flat = bool((weight == 1).all())
        root = W if flat else weight.sqrt().T * W
        G = gram_of(root)
        eye = torch.eye(len(G), dtype=work, device=G.device)
        top = largest(G)
        L, definite = spd_factor(G[None])
        ridge = 0.0
        if not bool(definite):
            if work != torch.float64:
                return cls.of(rows, torch.float64)
            ridge = _RIDGE * top
            L = torch.linalg.cholesky_ex(G + ridge * eye)[0][None]
        inverse = torch.cholesky_inverse(L[0])
        rho = top * max(_FLAT, 1 / max(largest(inverse) * top, 1e-300)) ** 0.5
        low = fast_type(G)
        single = torch.float32 if low != torch.float64 else work
        K = torch.cholesky_inverse(torch.linalg.cholesky((G + rho * eye).to(single)))
        M = _RELAX * rho * K - _RELAX / 2 * eye.to(single)
        half = torch.diagonal(inverse) / 2
        return cls(
            W, weight, G, inverse, half.contiguous(), ridge, rho, K.to(low), M.to(low), inverse.to(low), low != work, flat
        )

    def correlation(self, target: Tensor) -> Tensor:
        """W'w target, `(N, n)`."""
        target = target.to(self.W.dtype)
        return (target if self.flat else target * self.weight) @ self.W

    def misfit(self, h: Tensor, target: Tensor) -> Tensor:
        """w (W h - target), `(N, m)`."""
        p = torch.addmm(target.to(self.W.dtype), h, self.W.T, beta=-1)
        return p if self.flat else p.mul_(self.weight)

    def image(self, h: Tensor) -> Tensor:
        """w W h for a small h `(N, n)`, by a fast product: three digits of it."""
        v = self.times(h, self.W.T)
        return v if self.flat else v.mul_(self.weight)

    def adjoint(self, p: Tensor) -> Tensor:
        """W'p with sums of a few rows at a time: a float32 sum over all of them would lose a digit."""
        g = torch.zeros(len(p), self.W.shape[1], dtype=p.dtype, device=p.device)
        for k in range(0, len(self.W), _ROWS):
            g.addmm_(p[:, k : k + _ROWS], self.W[k : k + _ROWS])
        return g

    def times(self, v: Tensor, matrix: Tensor) -> Tensor:
        """v times a matrix in the type of the fast products, in v's type."""
        return (v.to(self.K.dtype) @ matrix.to(self.K.dtype)).to(v.dtype)


def why_not_shared(problem: AbstractLayerProblem) -> str | None:
    """Why the signals do not have one Gram matrix and a prox by entry, or None."""
    rows = problem.rows
    if bool(rows._off.any()):
        return "it serves problems without off rows"
    if not bool((rows.fit == rows.fit[:1]).all()):
        return "it serves signals with the same on rows and weights"
    if bool((problem.quadratic != 0).any()) or not (problem.nonnegative or problem.absolute):
        return "it serves h >= 0 or a weight on |h|, without a ridge"
    return f"its n x n matrices serve up to {_LARGEST} unknowns" if problem.n > _LARGEST else None


def gram_of(W: Tensor) -> Tensor:
    """W'W. On the CPU numpy does half the work: it knows that the result is symmetric."""
    if W.device.type == "cpu":
        M = W.detach().numpy()
        return torch.from_numpy(M.T @ M)
    return W.T @ W


def largest(H: Tensor) -> float:
    """The largest eigenvalue of a positive semidefinite H, from below, by the power iteration."""
    v = H.sum(1) + 1e-3 * H.norm() * torch.linspace(1, 2, len(H), dtype=H.dtype, device=H.device)
    for _ in range(_POWERS):
        v = H @ (v / v.norm().clamp(min=torch.finfo(H.dtype).tiny))
    return float(v.norm())


def fast_type(like: Tensor) -> torch.dtype:
    """bfloat16 where the processor multiplies in it, else float32."""
    if like.device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def _first_work(like: Tensor) -> torch.dtype:
    """float32 on the CPU; on a GPU float64, whose products are no slower and which TF32 cannot reach."""
    return torch.float32 if like.device.type == "cpu" else torch.float64
