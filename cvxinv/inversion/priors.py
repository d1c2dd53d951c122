"""What is known of z before a signal is seen: a prior, or a set that z lies in.

    minimise over z in C   f(z) = |A G(z) - y|^2 / (2 sigma^2) + R(z)

    Gaussian    R(z) = 1/2 (z - mean)'P (z - mean)      C everything        minus the logarithm of the density N(mean, P^-1)
    Box         R(z) = 0                                C = {lo <= z <= hi}
    Ball        R(z) = 0                                C = {|z| <= radius}

With noise of standard deviation sigma in every entry the minimiser is the latent of highest posterior density (MAP); without
a prior it is that of maximum likelihood. On the affine piece of z this is a convex QP, and a damped Gauss-Newton step is the
exact minimiser of the piece's model within C (`step`): with H = J'J + sigma^2 P + damping and g the gradient of sigma^2 f,

    minimise over x in C   1/2 (x - z)'H (x - z) + g'(x - z)

Everything: a Cholesky factor. Box: active sets (`box_minimiser`). Ball: the secular equation (`ball_minimiser`).

Source: Bertsekas, "Projected Newton methods for optimization problems with simple constraints" (1982); More and Sorensen,
"Computing a trust region step" (1983), whose hard case a damped H does not have.
"""

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..inputs import describe, origin, plain_number, read_numbers, remember
from ..lengths import lengths
from .minimisers import ball_minimiser, box_minimiser, free_minimiser, onto_ball

_TOUCHES = 1e-6  # a point this near to the border, as a share of its size, lies on it: float32 rounds there
_SYMMETRIC = 1e-6  # how far from symmetric, or below 0, the rounding of a float32 matrix may leave it, of its largest entry


class AsRows(NamedTuple):
    """R(z) = 1/2 |S z - t|^2 with S `(r, n0)`, t `(r,)`, and C = {A z <= c} with A `(s, n0)`, c `(s,)`."""

    S: Tensor
    t: Tensor
    A: Tensor
    c: Tensor


class Sides(NamedTuple):
    """C near z to first order: u + A d <= 0; u `(N, s)`, not above 0 in C, A `(s, n0)` or `(N, s, n0)`."""

    u: Tensor
    A: Tensor


class AbstractPrior(Batch, ABC):
    """What is known of z. Make yours a frozen dataclass of numbers and tensors that all signals share.

    weighed: whether R is weighed against the misfit, which takes the noise's standard deviation; a set alone does not.
    `fitted` is asked once, then the rest, with latents z `(N, n0)` in the type and on the device that it was fitted to. R(z)
    >= 0 everywhere, and convex; C is convex.
    """

    weighed: ClassVar[bool] = True
    bounded: ClassVar[bool] = False

    @abstractmethod
    def fitted(self, n0: int, dtype: torch.dtype, device: torch.device) -> Self:
        """The same for latents of n0 numbers. Raises ValueError where it does not fit them."""

    def value(self, z: Tensor) -> Tensor:
        """R(z), `(N,)`, no unit."""
        return torch.zeros_like(z[:, 0])

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of R, `(N, n0)`."""
        return torch.zeros_like(z)

    def curvature(self, z: Tensor) -> Tensor:
        """Hessian of R, `(n0, n0)` or `(N, n0, n0)`."""
        return torch.zeros(z.shape[1], z.shape[1], dtype=z.dtype, device=z.device)

    def project(self, z: Tensor) -> Tensor:
        """The nearest point of C, `(N, n0)`; z itself where C is everything."""
        return z

    def centre(self, z: Tensor) -> Tensor:
        """The latent that is expected before anything was seen, `(n0,)`; z `(N, n0)` says type and device only."""
        return self.project(torch.zeros_like(z[:1]))[0]

    def tangent(self, z: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Projector on the directions in which an optimum z in C may move, and how the border of C bends there, `(n0, n0)`
        or `(N, n0, n0)` each.

        g: the gradient of f at z, which -g pushes against the border. The bend is the curvature of the active constraint
        times its multiplier, in the units of f. Left out, C counts as everything.
        """
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return eye, torch.zeros_like(eye)

    def reach(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """The least and the largest value of each coordinate in C, `(n0,)` or one number each, latent units; -inf and inf
        where there is none. None where C is everything, or where it is left out.

        z `(N, n0)` says type and device only.
        """
        return None

    def sides(self, z: Tensor) -> "Sides | None":
        """The border of C as it is seen from z `(N, n0)` in C; None where C is everything, or where it is left out."""
        return None

    def as_rows(self, z: Tensor) -> "AsRows | None":
        """R and C as rows of a layer problem, None where they are none; z `(N, n0)` says sizes, type and device only."""
        return None

    def step(self, H: Tensor, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The minimiser x of the model in C, `(N, n0)`, and where there is one, `(N,)`; H `(N, n0, n0)` definite, z in C."""
        return free_minimiser(H, g, z)

    def _changed(self, changes: dict[str, Any]) -> Self:
        new = copy(self)  # what was checked stays so in another type and on another device
        for name, value in changes.items():
            object.__setattr__(new, name, value)
        return new


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian(AbstractPrior):
    """z is N(mean, precision^-1): R(z) = 1/2 (z - mean)'P (z - mean).

    precision: P, one number >= 0 for all coordinates, `(n0,)`, or a symmetric `(n0, n0)` without negative eigenvalues; units
    of 1 / latent^2. It may be 0 in some directions, not in all. mean: one number or `(n0,)`, latent units.

    Raises TypeError or ValueError for other numbers and shapes.
    """

    precision: float | Tensor | np.ndarray = 1.0
    mean: float | Tensor | np.ndarray = 0.0

    def __post_init__(self) -> None:
        P = _numbers(self.precision, "the precision of a Gaussian prior", 2)
        mean = _numbers(self.mean, "the mean of a Gaussian prior", 1)
        _refuse(P, "the precision of a Gaussian prior", torch.isfinite(P), "finite numbers")
        _refuse(mean, "the mean of a Gaussian prior", torch.isfinite(mean), "finite numbers")
        _check_precision(P)
        if P.ndim and mean.ndim and len(P) != len(mean):
            raise ValueError(
                f"expected a mean of {len(P)} numbers as the precision has, got {len(mean)}; pass one per latent"
            )
        object.__setattr__(self, "precision", P)
        object.__setattr__(self, "mean", mean)

    def fitted(self, n0: int, dtype: torch.dtype, device: torch.device) -> "Gaussian":
        P = _sized(self.precision, "the precision of a Gaussian prior", n0, dtype, device)
        mean = _sized(self.mean, "the mean of a Gaussian prior", n0, dtype, device)
        return self._changed({"precision": P.expand(n0) if P.ndim == 0 else P, "mean": mean.expand(n0)})

    def value(self, z: Tensor) -> Tensor:
        return ((z - _tensor(self.mean)) * self.gradient(z)).sum(1).clamp(min=0) / 2

    def gradient(self, z: Tensor) -> Tensor:
        P, away = _tensor(self.precision), z - _tensor(self.mean)
        return away @ P if P.ndim == 2 else away * P  # P is symmetric

    def curvature(self, z: Tensor) -> Tensor:
        P = _tensor(self.precision)
        return P if P.ndim == 2 else torch.diag(P)

    def centre(self, z: Tensor) -> Tensor:
        return _tensor(self.mean)

    def as_rows(self, z: Tensor) -> AsRows:
        P = _tensor(self.precision)
        if P.ndim == 2:
            w, V = torch.linalg.eigh(P)
            S = w.clamp(min=0).sqrt()[:, None] * V.mT  # S'S = P
        else:
            S = torch.diag(P.sqrt())
        return AsRows(S, S @ _tensor(self.mean), z.new_zeros(0, z.shape[1]), z.new_zeros(0))

    def __repr__(self) -> str:
        return f"Gaussian(precision={_words(self.precision)}, mean={_words(self.mean)})"


@dataclass(frozen=True, eq=False, repr=False)
class Box(AbstractPrior):
    """lo <= z <= hi, one number each or `(n0,)`, latent units; -inf and inf leave a side open, and lo = hi fixes a
    coordinate.

    Raises TypeError or ValueError for other numbers and shapes, lo > hi, and a box without any side.
    """

    lo: float | Tensor | np.ndarray
    hi: float | Tensor | np.ndarray
    weighed: ClassVar[bool] = False
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        lo, hi = _numbers(self.lo, "lo of a Box", 1), _numbers(self.hi, "hi of a Box", 1)
        _refuse(lo, "lo of a Box", lo < inf, "numbers below inf")
        _refuse(hi, "hi of a Box", hi > -inf, "numbers above -inf")
        if lo.ndim and hi.ndim and len(lo) != len(hi):
            raise ValueError(f"expected lo and hi of one length, got {len(lo)} and {len(hi)}; pass one per latent")
        ends = torch.broadcast_tensors(lo, hi.to(lo.device) if hi.ndim == 0 else hi)
        lo, hi = (remember(end, origin(given).expand_as(end)) for end, given in zip(ends, (lo, hi), strict=True))
        if (lo > hi).any():
            k = int((lo > hi).reshape(-1).nonzero()[0, 0])
            low, high = (float(side.reshape(-1)[k]) for side in (lo, hi))
            raise ValueError(f"expected lo <= hi, got {low:g} > {high:g} in coordinate {k}; swap them")
        if not (torch.isfinite(lo) | torch.isfinite(hi)).any():
            raise ValueError("expected a box with a finite side, got -inf to inf throughout; leave the prior out")
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    def fitted(self, n0: int, dtype: torch.dtype, device: torch.device) -> "Box":
        lo, hi = (_sized(side, "the sides of a Box", n0, dtype, device).expand(n0) for side in (self.lo, self.hi))
        return self._changed({"lo": lo, "hi": hi})

    def project(self, z: Tensor) -> Tensor:
        return z.clamp(_tensor(self.lo), _tensor(self.hi))

    def tangent(self, z: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        lo, hi = _tensor(self.lo), _tensor(self.hi)
        near = _TOUCHES * (1 + z.abs())
        held = ((z <= lo + near) & (g > 0)) | ((z >= hi - near) & (g < 0)) | (lo == hi)
        free = torch.diag_embed((~held).to(z))
        return free, torch.zeros_like(free)

    def reach(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return _tensor(self.lo), _tensor(self.hi)

    def sides(self, z: Tensor) -> Sides:
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return Sides(torch.cat([z - _tensor(self.hi), _tensor(self.lo) - z], 1), torch.cat([eye, -eye]))

    def as_rows(self, z: Tensor) -> AsRows:
        lo, hi = _tensor(self.lo), _tensor(self.hi)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        below, above = torch.isfinite(lo), torch.isfinite(hi)
        sides, ends = torch.cat([eye[above], -eye[below]]), torch.cat([hi[above], -lo[below]])
        return AsRows(eye[:0], ends[:0], sides, ends)

    def step(self, H: Tensor, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return box_minimiser(H, g, z, _tensor(self.lo), _tensor(self.hi))

    def __repr__(self) -> str:
        return f"Box(lo={_words(self.lo)}, hi={_words(self.hi)})"


@dataclass(frozen=True, eq=False)
class Ball(AbstractPrior):
    """|z| <= radius, a number > 0, latent units. Raises TypeError or ValueError for another."""

    radius: float
    weighed: ClassVar[bool] = False
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        radius = plain_number(self.radius)
        if isinstance(radius, bool) or not isinstance(radius, (int, float)):
            raise TypeError(f"expected the radius of a Ball as one number, got {describe(radius)}; pass e.g. Ball(5.0)")
        if not (radius > 0 and isfinite(radius)):
            raise ValueError(f"the radius of a Ball must be > 0 and finite, got {radius}; leave the prior out for no limit")
        object.__setattr__(self, "radius", float(radius))

    def fitted(self, n0: int, dtype: torch.dtype, device: torch.device) -> "Ball":
        return self

    def project(self, z: Tensor) -> Tensor:
        return onto_ball(z, self.radius)

    def tangent(self, z: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        length = lengths(z, keepdim=True)
        u = z / length.clamp(min=torch.finfo(z.dtype).tiny)
        push = (-(u * g).sum(1)).clamp(min=0)  # f + push (|z| - radius) is stationary at z
        held = (length[:, 0] >= self.radius * (1 - _TOUCHES)) & (push > 0)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        free = eye - torch.where(held[:, None, None], u[:, :, None] * u[:, None], torch.zeros_like(eye))
        return free, torch.where(held, push / self.radius, 0.0)[:, None, None] * free

    def reach(self, z: Tensor) -> tuple[Tensor, Tensor]:
        radius = torch.full_like(z[0], self.radius)
        return -radius, radius

    def sides(self, z: Tensor) -> Sides:
        u = (lengths(z, keepdim=True) / self.radius) ** 2 / 2 - 0.5
        return Sides(self.radius * u, (z / self.radius)[:, None])

    def step(self, H: Tensor, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return ball_minimiser(H, g, z, self.radius)

    def __repr__(self) -> str:
        return f"Ball(radius={_number(self.radius)})"


def prior_in_words(words: str) -> AbstractPrior | None:
    """The prior whose `repr` this is, where it holds numbers alone; None for others, and for those of the user's own."""
    kind, _, rest = words.partition("(")
    known: dict[str, type[AbstractPrior]] = {each.__name__: each for each in (Gaussian, Box, Ball)}
    try:
        numbers = {name: float(value) for name, _, value in (part.partition("=") for part in rest[:-1].split(", "))}
        return known[kind](**numbers)
    except (KeyError, TypeError, ValueError):  # tensors are not kept
        return None


def as_prior(prior: object, n0: int, dtype: torch.dtype, device: torch.device) -> AbstractPrior | None:
    """The prior for latents of n0 numbers, or None. Raises TypeError or ValueError for what is none, or does not fit."""
    if prior is None:
        return None
    if not isinstance(prior, AbstractPrior):
        raise TypeError(
            f"expected prior as None or an object such as Gaussian(1.0), Box(-3.0, 3.0) or Ball(5.0), "
            f"got {describe(prior)}; make a class of your own a cvxinv.AbstractPrior"
        )
    return prior.fitted(n0, dtype, device)


def _numbers(value: object, name: str, ndim: int) -> Tensor:
    """One number, or an array of one axis, or up to `ndim` of them, in float64 where it was."""
    value = plain_number(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, (int, float)) for v in value):
        value = torch.tensor(value, dtype=torch.float64, device="cpu")
    if isinstance(value, (Tensor, np.ndarray)):
        place = value.device if isinstance(value, Tensor) else torch.device("cpu")
        read = read_numbers(value, name, place, "fi", "pass numbers")
        found = remember(read.to(torch.float64), origin(read))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = torch.tensor(float(value), dtype=torch.float64)
    else:
        raise TypeError(
            f"expected {name} as a number or a tensor, got {describe(value)}; pass one number, or one per latent"
        )
    shapes = "a number, (n0,) or (n0, n0)" if ndim == 2 else "a number or (n0,)"
    if found.ndim > ndim or (found.ndim == 2 and found.shape[0] != found.shape[1]) or found.numel() == 0:
        raise ValueError(f"expected {name} as {shapes}, got shape {tuple(found.shape)}; all signals share it")
    return found


def _refuse(value: Tensor, name: str, good: Tensor, wanted: str) -> None:
    if not good.all():
        bad = float(value.reshape(-1)[~good.reshape(-1)][0])
        raise ValueError(f"expected {name} of {wanted}, got {bad}; check the numbers")


def _check_precision(P: Tensor) -> None:
    """A symmetric matrix without negative eigenvalues, not 0."""
    name = "the precision of a Gaussian prior"
    if P.ndim == 2:
        gap, top = float((P - P.T).abs().max()), float(P.abs().max())
        if gap > _SYMMETRIC * top:
            raise ValueError(f"expected {name} symmetric, got entries that differ by {gap:.3g}; pass (P + P.T) / 2")
        low = float(torch.linalg.eigvalsh((P + P.T) / 2)[0])
        if low < -_SYMMETRIC * top:
            raise ValueError(
                f"expected {name} without negative eigenvalues, got {low:.3g}; pass the inverse of a covariance matrix"
            )
    elif (P < 0).any():
        raise ValueError(f"{name} must be >= 0, got {float(P.min()):g}; it is one over a variance")
    if not P.any():
        raise ValueError(f"expected {name} above 0 somewhere, got 0 throughout; leave the prior out")


def _sized(value: object, name: str, n0: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers for n0 latents in their type; an array must be where they are."""
    value = _tensor(value)
    if value.ndim and len(value) != n0:
        raise ValueError(
            f"expected {name} for {n0} latents, got shape {tuple(value.shape)}; pass a number, or one per latent"
        )
    if value.ndim and value.device != device:
        raise ValueError(f"expected {name} on {device}, got it on {value.device}; move it with .to({str(device)!r})")
    return value.to(dtype=dtype, device=device)


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)  # `__post_init__` made it one
    return value


def _words(value: object) -> str:
    value = _tensor(value)
    first = value.reshape(-1)[0]
    same = value.ndim < 2 and bool((value == first).all())
    return _number(float(first)) if same else f"{tuple(value.shape)} given"


def _number(value: float) -> str:
    """Short where that says all of it."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
