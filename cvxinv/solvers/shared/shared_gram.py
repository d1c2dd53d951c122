"""The Gram matrix that signals with the same on rows share, with what the ADMM of `shared_admm` multiplies by."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...layers.core.factors import spd_factor
from ...layers.core.problem import AbstractLayerProblem
from ...layers.core.rows import Rows

RELAX = 1.8
_FLAT = 1e-3  # mu counts as this times L at least: a smaller rho leaves the unknowns of large curvature behind
_LARGEST = 3000  # unknowns beyond which factors and inverses cost more than they save
_MILD = 1e-2  # mu / L above which three digits of G^-1 d serve
_WIDE = 1e-4  # in units of L: the ridge for m < n; 100 times below the spectrum of a Gaussian W W'
_RIDGE = 1e-9  # the same where G is singular to float64 for other reasons
_ROWS = 28  # whose products are summed at a time
_BF16 = (8, 0)  # compute capability from which a card multiplies in bfloat16 itself
_POWERS = 10  # products that find an end of the spectrum well enough for rho


class Gram(NamedTuple):
    """What all signals share, in the precision `work` where nothing else is said.

    W: `(m, n)`, weight: row weights `(1, m)`, G = W'w W, half_diagonal: of the inverse, over 2, `(n,)`. inverse: of
    G + ridge, in float32 where that serves. K = (G + rho)^-1, M = a rho K - a / 2 and low_inverse: in the type of the fast
    products.
    rough: whether that type is lower than `work`; flat: whether all weights are 1; mild: whether low_inverse serves.
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
    mild: bool

    @classmethod
    def of(cls, rows: Rows, work: torch.dtype, repairs: bool = True) -> "Gram":
        """From the rows of a normalised problem, whose on rows and weights are those of its first signal.

        repairs: whether the inverse is wanted; without it a G that is singular by its shape needs none.
        """
        W, weight = rows.W.matrix().to(work), rows.fit[:1].to(work)
        flat = bool((weight == 1).all())
        G = rows.shared_gram.to(work)
        top = largest(G) or 1.0  # of a layer that says nothing any rho will do
        wide = rows.m < rows.n
        inverse, ridge = _inverse(G, top, singular=wide) if repairs or not wide else (torch.zeros_like(G), _WIDE * top)
        flatness = 0.0 if ridge else 1 / max(largest(inverse) * top, 1e-300)
        rho = top * max(_FLAT, flatness) ** 0.5
        eye = torch.eye(len(G), dtype=torch.float32, device=G.device)
        K = torch.cholesky_inverse(torch.linalg.cholesky(G.float() + rho * eye))
        M = RELAX * rho * K - RELAX / 2 * eye
        low, half = fast_type(G), (torch.diagonal(inverse) / 2).to(work)
        fast, rough, mild = (K.to(low), M.to(low), inverse.to(low)), low != work, flatness > _MILD
        return cls(W, weight, G, inverse, half, ridge, rho, *fast, rough, flat, mild)

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
        """W'p in float64, of sums over a few rows each: over all of them float32 would lose a digit."""
        if p.dtype == torch.float64:
            return p @ self.W
        g = torch.zeros(len(p), self.W.shape[1], dtype=torch.float64, device=p.device)
        part = torch.empty_like(g, dtype=p.dtype)
        for k in range(0, len(self.W), _ROWS):
            g += torch.mm(p[:, k : k + _ROWS], self.W[k : k + _ROWS], out=part)
        return g

    def times(self, v: Tensor, matrix: Tensor) -> Tensor:
        """v times a matrix in the type of the fast products, in v's type."""
        return (v.to(self.K.dtype) @ matrix.to(self.K.dtype)).to(v.dtype)

    def repair(self, d: Tensor) -> Tensor:
        """e with G e = d, to the digits of `inverse`, in d's type."""
        return (d.to(self.inverse.dtype) @ self.inverse).to(d.dtype)


def why_not_shared(problem: AbstractLayerProblem) -> str | None:
    """Why the signals do not have one Gram matrix and a prox by entry, or None."""
    rows = problem.rows
    if bool(rows.off.any()):
        return "it serves problems without off rows"
    if not rows.alike:
        return "it serves signals with the same on rows and weights"
    if problem.sizes is not None:
        return "it serves layers whose columns are of like length"
    if bool((problem.quadratic != 0).any()) or not (problem.nonnegative or problem.absolute):
        return "it serves h >= 0 or a weight on |h|, without a ridge"
    return f"its n x n matrices serve up to {_LARGEST} unknowns" if problem.n > _LARGEST else None


def _inverse(G: Tensor, top: float, singular: bool) -> tuple[Tensor, float]:
    """(G + ridge)^-1 and the ridge: 0 where G is definite."""
    if singular:
        ridge = _WIDE * top
        L, failed = torch.linalg.cholesky_ex(G.float() + ridge * torch.eye(len(G), dtype=torch.float32, device=G.device))
        if not bool(failed):
            return torch.cholesky_inverse(L), ridge
    for H in (G.float(), G.double()):
        L, definite = spd_factor(H[None])
        if bool(definite):
            return torch.cholesky_inverse(L[0]), 0.0
    ridge = max(_RIDGE * top, torch.finfo(torch.float32).tiny)
    L = torch.linalg.cholesky_ex(G.double() + ridge * torch.eye(len(G), dtype=torch.float64, device=G.device))[0]
    return torch.cholesky_inverse(L), ridge


def largest(H: Tensor) -> float:
    """The largest eigenvalue of a positive semidefinite H, from below, by the power iteration."""
    v = H.sum(1) + 1e-3 * H.norm() * torch.linspace(1, 2, len(H), dtype=H.dtype, device=H.device)
    for _ in range(_POWERS):
        v = H @ (v / v.norm().clamp(min=torch.finfo(H.dtype).tiny))
    return float(v.norm())


def fast_type(like: Tensor) -> torch.dtype:
    """bfloat16 where the processor multiplies in it, else float32."""
    if like.device.type == "cuda":
        # not `is_bf16_supported`, which counts emulation, slower than float32, and asks the current device
        return torch.bfloat16 if torch.cuda.get_device_capability(like.device) >= _BF16 else torch.float32
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32
