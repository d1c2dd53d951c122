"""Latents with derivatives: z of an inversion as a function of what it was made of, for autograd.

    z minimises  f(z) = 1/2 |A G(z) - y|^2 + sigma^2 R(z)  over z in C

Where z is a regular optimum its gradient F(z) = J'A'(A G(z) - y) + sigma^2 R'(z) is 0 along C, and by the implicit function
theorem

    dz = -P (P (H + B) P)^+ P dF,    H = J'A'A J + sum_k (A'r)_k G_k'' + sigma^2 R'',    r = A G(z) - y

dF the change of F at a fixed z; P projects on the directions that active sides of C leave, B is how its border bends times
the multiplier (`AbstractPrior.tangent`). G_k'' is 0 of piecewise linear generators; of others H is the derivative of F by
autograd. Where autograd does not follow G, that term is left out, and only signals without a misfit have a derivative.

Behind ReLUs an optimum often lies on kinks and stays there: the units K of one layer with u_K(z) = 0, from which f rises on
both sides of each. With U = u_K'(z) of independent rows z then moves along U dz = 0 (`surfaces`), P = I - U^+ U, as if K
were sides of C; what G's weights change there moves the surface itself, and is not followed.

z has none, and counts as a constant, where another kink of G lies next to it (its Jacobian jumps), where P (H + B) P is
singular (z is one of many), where a side of C is touched without pressure, and where z is no optimum of f: whatever meets a
stated bound will do, and where a descent ended early F is not 0.

A method ends some 1e-9 from an optimum, which differences would see: z is brought to rounding by a few Newton steps.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..generator.abstract import AbstractGenerator
from ..inputs import origin, read_amount
from ..lengths import lengths
from ..live import carries_graph, live
from ..measurement.abstract import AbstractMeasurement
from ..measurement.given import as_measurement
from ..solvers.implicit import refuse_second, report_kinks
from .level import estimated
from .priors import AbstractPrior
from .result import Inversion
from .surfaces import kept_kinks
from .task import Task
from .verify import EXPLAINED_WORD, STATIONARY

_ROUNDS = 4  # Newton steps at most
_SETTLED = 1e-9  # the last of them, as a share of 1 + |z|
_NEAR = 1e-3  # all of them together: beyond, z was no optimum
_SINGULAR = 1e-13  # reciprocal condition of H from which on rounding may have made it invertible
_KINK, _JUMP = 1e-8, 1e-6  # how near a kink counts, as a share of 1 + |z|, and by what share a Jacobian jumps there
_PRESSURE = 1e-9  # of a multiplier, as a share of |H|^(1/2) |y|: below, a side is touched and no more
_EXACT = 1e-6  # a misfit of this share of |y| and less bends nothing
_AGREE = 1e-3  # share of |G(z)| by which a module may differ from the generator that was read from it, in float32


class Given(NamedTuple):
    """What the user passed to `invert`; module: whose parameters z is to be a function of, or None."""

    generator: AbstractGenerator
    y: Tensor | np.ndarray
    measurement: object
    noise: object
    prior: object
    module: nn.Module | None


@dataclass(frozen=True, eq=False)
class Live:
    """What F is made of, with its graphs, in float64: `task` has the numbers without. sigma2: `(N, 1)`."""

    task: Task
    generator: AbstractGenerator
    y: Tensor
    measurement: AbstractMeasurement
    prior: AbstractPrior | None
    sigma2: Tensor
    module: nn.Module | None = None

    def values(self, z: Tensor) -> Tensor:
        """Signals `(N, d)` of latents `(N, n0)`, by the module where there is one."""
        if self.module is None:
            return self.generator(z)
        first = next(self.module.parameters(), z)
        shape = vars(self.generator).get("latent_shape", (z.shape[1],))
        x = self.module(z.to(first.dtype).reshape(-1, *shape))
        return x.reshape(len(z), -1).to(torch.float64)

    def gradient(self, z: Tensor) -> Tensor:
        """F at z, `(N, n0)`, with its graph; z is followed too where it requires gradients."""
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            x = self.values(at)
            r = self.measurement.observe(x) - self.y
            if x.requires_grad:
                (F,) = torch.autograd.grad((r * r).sum() / 2, at, create_graph=True)
            else:
                J = self.measurement.at(x).push(self.generator.linearize(z.detach())[1])
                F = (r[:, None] @ J)[:, 0]
            return F if self.prior is None or not self.prior.weighed else F + self.sigma2 * self.prior.gradient(at)

    def curvature(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """H `(N, n0, n0)`, and for which signals nothing was left out of it, `(N,)`."""
        task, every = self.task, torch.ones(len(z), dtype=torch.bool, device=z.device)
        if not (task.generator.piecewise_linear and not task.generator.output.curved):
            with torch.enable_grad():
                at = z.detach().requires_grad_()
                F = replace(self, module=None).gradient(at)
                if F.requires_grad and self.generator(at).requires_grad:
                    ask = [torch.autograd.grad(F[:, k].sum(), at, retain_graph=True)[0] for k in range(z.shape[1])]
                    return torch.stack(ask, 1), every
            every = lengths(task.residual(task.generator(z))) <= _EXACT * task.size
        J = task.linearize(z)[1]
        return J.mT @ J + task.prior_curvature(z), every


class Stationary(torch.autograd.Function):
    """0 forwards; -P (P (H + B) P)^+ P times the gradient backwards: what a change of F moves z by."""

    @staticmethod
    def forward(ctx: Any, F: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return torch.zeros_like(F)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        refuse_second()
        return -(ctx.inverse @ gradients[0][:, :, None])[:, :, 0], None


def check_differentiable(given: Given, task: Task, differentiable: object) -> None:
    """Raise TypeError or ValueError unless there is something to take derivatives with respect to, and it can be done."""
    if not isinstance(differentiable, bool | nn.Module):
        raise TypeError(
            f"expected differentiable as True, False or the torch module that the generator was read from, got "
            f"{type(differentiable).__name__}; pass one of these"
        )
    if task.prior is not None and task.prior.weighed and estimated(task):
        raise ValueError(
            "expected a stated noise level beside a prior that is weighed, got noise='auto', whose level moves with y in "
            "a way that is not followed; state noise=('gaussian', sigma), e.g. the sigma of result.uncertainty"
        )
    parts = (given.generator, given.measurement, given.prior, *(given.noise if isinstance(given.noise, tuple) else ()))
    module = given.module is not None and any(p.requires_grad for p in given.module.parameters())
    of_y = isinstance(given.y, Tensor) and given.y.requires_grad
    if not (module or of_y or any(carries_graph(part) for part in parts)):
        raise ValueError(
            "expected something that requires gradients (y, the measurement's matrix, the noise's sigma, the prior's "
            "numbers, the layers of a Generator made from such tensors), got nothing that does; for the weights of a module "
            "that was read pass differentiable=module, or leave it out"
        )


def with_derivatives(result: Inversion, task: Task, given: Given, on_fail: str) -> Inversion:
    """The result with z and signal that carry a graph, and `differentiable`; other signals count as constants."""
    if estimated(task):
        task = replace(task, noise=None)  # no prior is weighed: the level moves no optimum
    there = _live(task, given)
    z = result.z.reshape(task.N, -1).double()
    finite = torch.isfinite(z).all(1)
    with torch.no_grad():
        z, inverse, regular = _settled(there, torch.where(finite[:, None], z, torch.zeros_like(z)))
    regular = regular & finite & task.usable
    regular &= torch.from_numpy(np.isin(result.status, (EXPLAINED_WORD, STATIONARY))).to(z.device)
    moving = _moving(there, z, torch.where(regular[:, None, None], inverse, 0.0), regular)
    signal = there.values(moving)
    _check_agreement(there)
    out = replace(
        result, z=_with_graph(result.z, moving, regular), signal=_with_graph(result.signal, signal, regular),
        differentiable=regular.cpu(),
    )  # fmt: skip
    report_kinks(regular.cpu(), out, on_fail)
    return out


def _live(task: Task, given: Given) -> Live:
    G, N = given.generator, task.N
    followed = bool(G.layers) or (G.dtype == torch.float64 and carries_graph(G))
    generator = live(G) if followed else G.to(torch.float64)
    y = given.y.to(torch.float64).reshape(task.y.shape) if isinstance(given.y, Tensor) else task.y
    seen = task.measurement.seen(N).to(y.device) & task.usable[:, None]
    y = torch.where(seen, y, torch.zeros_like(y))
    seeing = as_measurement(given.measurement, G.signal_dim, N, G.device, G.dtype)
    measurement = live(seeing) if carries_graph(seeing) else task.measurement
    prior = task.prior
    if prior is not None and carries_graph(given.prior):
        assert isinstance(given.prior, AbstractPrior)
        prior = live(given.prior).fitted(G.latent_dim, torch.float64, G.device)
    sigma = torch.ones_like(y[:, 0])
    if task.noise is not None and isinstance(given.noise, tuple | list):
        sigma = origin(read_amount(given.noise[1], "the noise bound", G.device)).to(torch.float64).expand(N)
    return Live(task, generator, y, measurement, prior, sigma[:, None] ** 2, given.module)


def _settled(there: Live, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The optimum next to z, P (P (H + B) P)^+ P there, and which signals are regular."""
    first, step, free = z, torch.zeros_like(z), _free(there, z)
    for _ in range(_ROUNDS):
        inverse, regular = _inverse(there, z, free)
        step = (inverse @ there.gradient(z).detach()[:, :, None])[:, :, 0]
        size = 1 + lengths(z)
        z = torch.where((lengths(step) <= _NEAR * size)[:, None], z - step, z)
        if there.task.prior is not None:
            z = there.task.prior.project(z)
        if bool((lengths(step) <= _SETTLED * size).all()):
            break
    size = 1 + lengths(first)
    near = (lengths(step) <= _SETTLED * size) & (lengths(z - first) <= _NEAR * size)
    return z, inverse, regular & near & ~_kinked(there, z, free)


def _free(there: Live, z: Tensor) -> Tensor:
    """The directions along which the kinks that z lies on and stays on leave it, as projections `(N, n0, n0)`."""
    prior, followed = there.prior, there.module is not None or carries_graph(there.generator)
    if followed or (prior is not None and prior.bounded):
        return torch.eye(z.shape[1], dtype=z.dtype, device=z.device).expand(len(z), -1, -1)
    return kept_kinks(there.task, z)


def _inverse(there: Live, z: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """P (P (H + B) P)^+ P, `(N, n0, n0)`, and where it is one that nothing can change, `(N,)`; free: P of the kinks."""
    (H, whole), g = there.curvature(z), there.gradient(z).detach()
    H = H.detach()
    size = H.diagonal(dim1=1, dim2=2).abs().amax(1).clamp(min=torch.finfo(z.dtype).tiny)
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    prior, P, B, firm = there.task.prior, free, torch.zeros_like(eye), torch.ones_like(whole)
    if prior is not None and prior.bounded:
        P, B = prior.tangent(z, g)
        push = _PRESSURE * (size.sqrt() * there.task.size)[:, None]
        for side in (torch.ones_like(z), -torch.ones_like(z), z / lengths(z, keepdim=True).clamp(min=1e-300)):
            firm &= (prior.tangent(z, g + push * side)[0] - P).abs().expand_as(H).amax((1, 2)) <= 1e-6
    M = P @ (H + B) @ P + size[:, None, None] * (eye - P)
    d = M.diagonal(dim1=1, dim2=2).abs()
    d = torch.where(d > 0, d, 1.0).rsqrt()
    even = d[:, :, None] * M * d[:, None]
    found, info = torch.linalg.inv_ex(even)
    condition = 1 / (even.abs().sum(1).amax(1) * found.abs().sum(1).amax(1))
    good = (info == 0) & (condition > _SINGULAR)
    found = torch.where(good[:, None, None], d[:, :, None] * found * d[:, None], 0.0)
    return P @ found @ P, good & whole & firm


def _kinked(there: Live, z: Tensor, free: Tensor) -> Tensor:
    """Whether the Jacobian of what was seen jumps next to z along `free`, `(N,)`: at a kink, hidden or of the output."""
    task, draw = there.task, torch.Generator().manual_seed(0)
    found = torch.zeros_like(z[:, 0], dtype=torch.bool)
    step = _KINK * (1 + lengths(z, keepdim=True))
    for _ in range(2):
        along, v = ((free @ torch.randn(z.shape, generator=draw, dtype=z.dtype).to(z)[..., None])[..., 0] for _ in "zv")
        ends = [z + s * step * along for s in (-1, 1)]
        sides = [task.measurement.at(task.generator(end)).observe(task.generator.push(end, v)) for end in ends]
        found |= lengths(sides[1] - sides[0]) > _JUMP * lengths(sides[0])
    return found


def _moving(there: Live, z: Tensor, inverse: Tensor, regular: Tensor) -> Tensor:
    """z as a function of what F and the sides of C are made of."""
    at = z
    if there.prior is not None and there.prior.bounded and there.prior is not there.task.prior:
        # where F presses against a side z is that side
        g = there.gradient(z).detach()
        at = torch.where(regular[:, None], there.prior.project(z - g / g.abs().amax().clamp(min=1e-300)), z)
        at = torch.where(inverse.diagonal(dim1=1, dim2=2) == 0, at, z)
    return at + Stationary.apply(there.gradient(at), inverse)


def _check_agreement(there: Live) -> None:
    """Raise ValueError where the module computes other signals than the generator."""
    if there.module is None:
        return
    G = there.task.generator
    z = torch.zeros(1, G.latent_dim, dtype=torch.float64, device=there.y.device)
    with torch.no_grad():
        x, found = G(z), there.values(z)
    apart = float((found - x).norm()) if found.shape == x.shape else float("inf")
    if not apart <= _AGREE * (float(x.norm()) + 1e-300):
        raise ValueError(
            f"expected differentiable=module to compute the generator's signals, got others (|difference| = {apart:.2g} at "
            "z = 0); pass the module that the generator was read from, in eval mode, with flat latents (N, n0) as input"
        )


def _with_graph(value: Tensor, of: Tensor, regular: Tensor) -> Tensor:
    """`of` in the type and shape of `value` where a signal is regular, `value` elsewhere."""
    return torch.where(regular[:, None], of.to(value.dtype), value.reshape(of.shape)).reshape(value.shape)
