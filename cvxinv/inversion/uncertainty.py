"""How far an answer may be from the truth: covariances of z and of the signal, and the level of gaussian noise.

For y = A G(z*) + e, e independent and N(0, sigma^2) in the k entries seen, at an optimum z of

    minimise over z in C   |A G(z) - y|^2 / (2 sigma^2) + R(z)

with the Jacobian J (k, n0) of A G at z and P the curvature of R, both on the affine piece of z, or between the pieces that
meet in it (`outlook`),

    cov z = sigma^2 (J'J + sigma^2 P)^-1        cov x = Jx cov z Jx'        dof = tr J (J'J + sigma^2 P)^-1 J'

Jx (d, n0) is the whole signal's Jacobian: what is hidden counts too. Without a prior that is the covariance of least
squares, with one that of the posterior: both are exact for an affine G, and first order in sigma elsewhere. Where z touches
the border of C they are those of the directions in which z may still move (`AbstractPrior.tangent`), and 0 along the others.
In a Box the posterior of a coordinate is a normal distribution cut off at its sides, `marginals`: of mean z and cov z's
deviation where it may move; where a side holds it against the gradient g of the objective, with the curvature h that is left
of the coordinate when the free ones follow, of mean z - g / h and variance 1 / h, far outside where g is large, so that what
remains inside falls away from the side. Other held coordinates count as known. In a Ball coordinates end at its radius.
A direction that neither J nor P knows is open: what depends on it has an infinite standard deviation and NaN covariances,
and a pseudo-inverse would call it certain.

*Level.* With H = J (J'J + sigma^2 P)^-1 J' the residual of an affine G is (I - H)(y - A G(mean)), and y - A G(mean) is
N(0, sigma^2 I + J P^-1 J') over noise and latents drawn from the prior, which is sigma^2 (I - H)^-1. So

    E |r|^2 = sigma^2 tr(I - H) = sigma^2 (k - dof)         sigma_hat = (|r|^2 / (k - dof))^(1/2)

is unbiased in its square, of relative standard error (2 (k - dof))^(-1/2) to first order in 1 / (k - dof): exact chi-squared
without a prior; with one at most that, at the level that the prior was weighed by. It holds where G(z*) is in reach and the
search found its piece or one as good; model error counts as noise. With a prior it is a fixed point, as H depends on sigma.

*Arithmetic.* J Pi = Q S V' (Pi projects on the free directions) and K = S^2 / sigma^2 + V'Pi P Pi V, whose diagonal E may
be graded from 1e32 to 1: scaled to E^-1/2 K E^-1/2 it is not, so that its eigenvectors are good to rounding whatever sigma
is.

Source: MacKay, "Bayesian interpolation", Neural Computation 4 (1992), whose well-determined parameters are dof, and whose
re-estimation of the noise is the fixed point.
"""

from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared, tensor_names
from ..generator.activations import AbstractActivation
from ..lengths import lengths
from .outlook import Outlook, triangle, turned
from .task import Task

_RANK = 1e-10  # as in `verify`: singular values below this share of the largest are 0
_KNOWN = 1e-12  # eigenvalues of the scaled curvature below this are 0
SMALLEST = 1e-100  # a level above 0 that can be squared and divided by
_ROUNDS = 30  # of the fixed point for sigma at a given z, each of which changes it by its share of dof / k at most
_FIXED = 1e-7
_FLAT = 1e-12  # of a squared gradient, or of 1 / width^2: a curvature that changes nothing
_TOUCHED = 1e-6  # a coordinate whose share of the open directions is longer than this is open itself


@dataclass(frozen=True, eq=False, repr=False)
class Uncertainty(Batch):
    """Standard deviations and covariances at an answer, float64, on the CPU; see the module. `intervals` makes use of them.

    sigma: noise per entry, `(N,)`, signal units, stated or estimated; NaN where too few entries were seen to estimate it.
    sigma_error: standard error of the estimate, 0 wherever sigma was stated. dof: degrees of freedom that the fit used up.
    seen: entries seen. open: directions of z that nothing is known of. z_std `(N, n0)`, z_cov `(N, n0, n0)`: inf and NaN
    where they are touched. signal_std `(N, d)`: of G(z), to first order. For one signal these three, z, before, before_std
    and marginals have no batch axis.

    marginals: None without a set, or `(N, 4, n0)`: mean and standard deviation of a normal distribution for each coordinate,
    and where it is cut off, below and above; see the module.

    z: the answer. before, before_std: the signal before its output activation `output`, and its standard deviation; output
    is None after loading where it is a class of the user's own.
    """

    sigma: Tensor = per_signal()
    sigma_error: Tensor = per_signal()
    dof: Tensor = per_signal()
    seen: Tensor = per_signal()
    open: Tensor = per_signal()
    z: Tensor = per_signal()
    z_std: Tensor = per_signal()
    z_cov: Tensor = per_signal()
    signal_std: Tensor = per_signal()
    before: Tensor = per_signal()
    before_std: Tensor = per_signal()
    output: AbstractActivation | None = shared()
    marginals: Tensor | None = per_signal(default=None)

    def __len__(self) -> int:
        return len(self.sigma)

    @property
    def estimated(self) -> bool:
        """Whether sigma was estimated from the residual, and not stated."""
        return bool((self.sigma_error != 0).any())

    def intervals(self, level: float = 0.95) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Intervals that hold each coordinate of z, and each entry of the signal, with probability `level`.

        Returns (low, high) of z, `(N, n0)` each, and of the signal, `(N, d)` each. They are z +- q std, and phi(u +- q std)
        with the signal u = `before` and what its output activation phi makes of it: an entry that phi saturates is not as
        certain as its slope there says. q is the quantile of the normal distribution where sigma was stated, and of
        Student's t with k - dof degrees of freedom where it was estimated. In a set the interval of a coordinate is that of
        its `marginals`, which ends with the set: of equal tails, or, of what a side holds, from that side on. The signal's
        are those of the directions that the set leaves free.

        Raises ValueError for a level that is not in (0, 1), and where `output` is not known.
        """
        from scipy.stats import norm, t

        if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
            raise ValueError(f"expected level as a number in (0, 1), got {level!r}; pass e.g. 0.95")
        left, upper = (self.seen - self.dof).numpy(), (1 + level) / 2
        quantiles = torch.as_tensor(t.ppf(upper, left) if self.estimated else norm.ppf(upper).repeat(len(self)))
        q = quantiles[:, None] if self.z_std.ndim == 2 else quantiles
        if self.marginals is None:
            return (self.z - q * self.z_std, self.z + q * self.z_std), self._of_signal(q)
        ratio = quantiles / norm.ppf(upper)  # of Student's t, which has no simple one that is cut off
        return _of_marginals(self.marginals, ratio[:, None] if q.ndim == 2 else ratio, level), self._of_signal(q)

    def _of_signal(self, q: Tensor) -> tuple[Tensor, Tensor]:
        if self.output is None:
            raise ValueError(
                "expected the output activation, got None, as files cannot name a class of your own; set it, "
                "dataclasses.replace(uncertainty, output=YourActivation())"
            )
        return self.output(self.before - q * self.before_std), self.output(self.before + q * self.before_std)

    def one(self) -> "Uncertainty":
        """The same without the batch axis on what stands beside z and the signal, for a single signal."""
        names = ["z", "z_std", "z_cov", "signal_std", "before", "before_std"]
        names += [] if self.marginals is None else ["marginals"]
        return replace(self, **{name: getattr(self, name)[0] for name in names})

    def summary(self) -> str:
        """Level and spread in one line, medians over the signals."""
        sigma, z_std = (float(v.nanmedian()) for v in (self.sigma, self.z_std))
        error = f" +- {float(self.sigma_error.nanmedian()):.2g}, estimated" if self.estimated else ", stated"
        level = f"median {sigma:.4g}{error}" if isfinite(sigma) else "not known"
        spread = f"{z_std:.2g}" if isfinite(z_std) else "not known" if isnan(z_std) else "without limit"
        unknown, open_ = int(self.sigma.isnan().sum()), int((self.open > 0).sum())
        why = "no level for {}, where too few entries were seen" if self.estimated else "nothing known of {}, left out"
        tail = f"; {why.format(unknown)}" if unknown else ""
        tail += f"; open directions of z for {open_}" if open_ else ""
        return f"noise per entry: {level}; standard deviation of z: median {spread}{tail}"

    def __repr__(self) -> str:
        return f"Uncertainty of {len(self)} signals: {self.summary()}"


def _of_marginals(marginals: Tensor, ratio: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Where normal distributions that are cut off have their mass `level`; ratio: of deviations to those of `marginals`."""
    from scipy.stats import truncnorm

    mean, std, low, high = marginals.unbind(-2)
    std = std * ratio
    below, above = low >= mean, high <= mean  # a side holds what is expected beyond it
    first = torch.full_like(std, (1 - level) / 2).masked_fill(above, 1 - level).masked_fill(below, 0.0)
    last = torch.full_like(std, (1 + level) / 2).masked_fill(above, 1.0).masked_fill(below, level)
    wide, fixed = torch.isinf(std), low == high
    unit = torch.where(wide | fixed, torch.ones_like(std), std).clamp(min=torch.finfo(std.dtype).tiny)
    ends = [v.numpy() for v in ((low - mean) / unit, torch.where(fixed, low + 1 - mean, high - mean) / unit)]
    sides = []
    for share, end in ((first, low), (last, high)):
        found = torch.as_tensor(truncnorm.ppf(share.numpy(), *ends, loc=mean.numpy(), scale=unit.numpy()))
        sides.append(torch.where(wide | fixed, end, found).maximum(low).minimum(high))
    return sides[0], sides[1]


class Spread(NamedTuple):
    """What is known around z: cov z = F F' of `factor` F `(N, n0, n0)`, dof `(N,)`, open directions as columns `(N, n0,
    n0)`."""

    factor: Tensor
    open: Tensor
    dof: Tensor


def spread(task: Task, z: Tensor, sigma: Tensor, r: Tensor, J: Tensor, svd: tuple[Tensor, Tensor]) -> Spread:
    """The spread of z for noise of standard deviation sigma `(N,)`, from residual and Jacobian at z; see the module.

    svd: `turned(triangle(J))`.
    """
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    P, free, held = _known(task, z, sigma, r, J, eye)
    s, Vt = svd if bool((free == eye).all()) else turned(triangle(J @ free))
    s = torch.where(s > _RANK * s[:, :1], s, torch.zeros_like(s))
    seen = (s / sigma[:, None]).square()
    K = torch.diag_embed(seen) + _turned(P + held, Vt, eye)
    E = torch.diagonal(K, dim1=1, dim2=2)
    unit = torch.where(E > 0, E, torch.ones_like(E)).rsqrt()
    w, U = _eigen(unit[:, :, None] * K * unit[:, None], eye)
    known = w > _KNOWN
    X = unit[:, :, None] * U
    half = X * torch.where(known, w, torch.ones_like(w)).rsqrt()[:, None] * known[:, None]
    dof = (seen * half.square().sum(2)).sum(1)
    lost = free @ (Vt.mT @ (X * ~known[:, None]))
    return Spread(free @ (Vt.mT @ half), lost / lengths(lost, 1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny), dof)


def _turned(P: Tensor, Vt: Tensor, eye: Tensor) -> Tensor:
    """V'P V; a multiple of the identity is the same from every side."""
    return P if bool((P == P[..., :1, :1] * eye).all()) else Vt @ P @ Vt.mT


def _eigen(K: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of K; a diagonal one shows them."""
    return (torch.diagonal(K, dim1=1, dim2=2), eye) if bool((K == K * eye).all()) else torch.linalg.eigh(K)


def _known(task: Task, z: Tensor, sigma: Tensor, r: Tensor, J: Tensor, eye: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Curvature of the prior within the free directions, their projector, and what keeps the others from looking open."""
    if task.prior is None:
        return torch.zeros_like(eye), eye, torch.zeros_like(eye)
    g = (J.mT @ r[..., None])[..., 0] / sigma[:, None].square()
    free, bent = task.prior.tangent(z, g + task.prior.gradient(z))
    P = free @ (task.prior.curvature(z) + bent) @ free
    scale = torch.diagonal(P, dim1=-2, dim2=-1).mean(-1)
    return P, free, (eye - free) * torch.where(scale > 0, scale, torch.ones_like(scale))[..., None, None]


def estimate(task: Task, z: Tensor) -> Tensor:
    """The noise's level per entry from the residual at z, `(N,)`; see the module. NaN where k - dof < 1."""
    return torch.cat([_level(task.take(block), z[block]) for block in task.blocks()])


def _level(task: Task, z: Tensor) -> Tensor:
    seen = Outlook.at(task, z)
    misfit, k = lengths(seen.r), task.seen.to(seen.r)
    sigma = misfit / k.sqrt()
    for _ in range(_ROUNDS if task.weighed else 1):
        # where nothing is left any level will do: the prior counts for nothing, or nothing else does
        dof = spread(task, z, sigma.clamp(min=SMALLEST), seen.r, seen.J, seen.svd).dof
        before, sigma = sigma, misfit / torch.where(k - dof >= 1, k - dof, torch.nan).sqrt()
        sigma = torch.where(sigma.isnan(), before, sigma)
        if ((sigma - before).abs() <= _FIXED * sigma).all():
            break
    return torch.where(k - dof >= 1, sigma, torch.nan)


def measure_uncertainty(task: Task, z: Tensor) -> Uncertainty | None:
    """Of answers z `(N, n0)` of a task with gaussian noise; None for any other. NaN where z is not finite."""
    if task.noise is None or task.noise.norm != "gaussian":
        return None
    fine = torch.isfinite(z).all(1) & task.usable
    z, parts = torch.where(fine[:, None], z, torch.zeros_like(z)), list[Uncertainty]()
    for block in task.blocks():
        part = task.take(block)
        parts.append(uncertainty_at(part, z[block], fine[block], Outlook.at(part, z[block])))
    return Uncertainty.joined(parts)


def uncertainty_at(task: Task, z: Tensor, fine: Tensor, outlook: Outlook) -> Uncertainty:
    """`measure_uncertainty` of a block, from what is seen from z; NaN where it is not `fine`, bool `(N,)`."""
    assert task.noise is not None
    sigma, phi, u = task.noise.bound, outlook.output, outlook.u
    found = spread(task, z, sigma, outlook.r, outlook.J, outlook.svd)
    z_cov, z_std = _covariance(found)
    left = torch.where(task.seen - found.dof >= 1, task.seen - found.dof, torch.nan)
    error = sigma / (2 * left).sqrt() if task.noise.estimated else torch.zeros_like(sigma)
    level = torch.where(left.isnan(), torch.nan, sigma) if task.noise.estimated else sigma
    unknown = torch.where(fine & level.isfinite(), 0.0, torch.nan)
    error = error + unknown if task.noise.estimated else error  # 0 says that it was stated
    columns = (level + unknown, error, found.dof + unknown, task.seen, (found.open != 0).any(1).sum(1))
    deviations = _deviations(outlook.Ju, found)
    behind = deviations if phi.linear else _deviations_behind(outlook, deviations, found)
    wide = (z, z_std, z_cov, behind, u, deviations)
    whole = [v + unknown.reshape(-1, *(1,) * (v.ndim - 1)) for v in wide]
    parts = dict(zip(tensor_names(Uncertainty), [v.cpu() for v in (*columns, *whole)], strict=True))
    marginals = _marginals(task, z, z_std, sigma, found, outlook)
    return Uncertainty(
        output=phi, marginals=None if marginals is None else (marginals + unknown[:, None, None]).cpu(), **parts
    )


def _marginals(task: Task, z: Tensor, z_std: Tensor, sigma: Tensor, found: Spread, outlook: Outlook) -> Tensor | None:
    """`Uncertainty.marginals`; None where no set says where coordinates end."""
    reach = None if task.prior is None else task.prior.reach(z)
    if reach is None:
        return None
    assert task.prior is not None
    low, high = (side.expand_as(z) for side in reach)
    J = outlook.J / sigma[:, None, None]
    g = (J.mT @ (outlook.r / sigma[:, None])[..., None])[..., 0] + task.prior.gradient(z)
    K, free = J.mT @ J + task.prior.curvature(z), task.prior.tangent(z, g)[0]
    held = (torch.diagonal(free, dim1=-2, dim2=-1) == 0).expand_as(z)
    follows = (K @ found.factor).square().sum(2)  # the diagonal of K cov K
    h = (torch.diagonal(K, dim1=1, dim2=2) - follows).clamp(min=0)
    # what falls off by the gradient alone, or not at all within the set, needs no curvature, but a finite one
    h = h.maximum(_FLAT * g.square()).maximum(_FLAT / (high - low).clamp(min=SMALLEST).square()).clamp(min=SMALLEST)
    mean, std = torch.where(held, z - g / h, z), torch.where(held, h.rsqrt(), z_std)
    return torch.stack([mean, std, low, high], 1)


def _covariance(found: Spread) -> tuple[Tensor, Tensor]:
    """Covariance and standard deviations of z; NaN and inf in coordinates that an open direction touches."""
    touched = lengths(found.open, 2) > _TOUCHED
    cov = found.factor @ found.factor.mT
    std = torch.where(touched, torch.inf, torch.diagonal(cov, dim1=1, dim2=2).sqrt())
    cov = torch.where(touched[:, :, None] | touched[:, None], torch.nan, cov)
    return torch.where(torch.diag_embed(touched), torch.inf, cov), std


def _deviations_behind(outlook: Outlook, before: Tensor, found: Spread) -> Tensor:
    """`_deviations` of the signal itself: its slopes times those before its output, where no direction is open."""
    if (found.open != 0).any():
        return _deviations(outlook.Jx, found)
    return outlook.output.derivative(outlook.u).abs() * before


def _deviations(J: Tensor, found: Spread) -> Tensor:
    """Standard deviations of what has the Jacobian J `(N, d, n0)`, `(N, d)`; inf where an open direction changes it."""
    std = lengths(J @ found.factor, 2)
    if not (found.open != 0).any():
        return std
    moved = lengths(J @ found.open, 2) > 1e-8 * lengths(J, 2).amax(1, keepdim=True)
    return torch.where(moved, torch.inf, std)
