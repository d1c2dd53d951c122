"""A Gauss-Newton step that keeps the kinks it would cross, where crossing them costs something.

Behind a ReLU the objective f bends at u_j(z) = 0, u_j the value of hidden unit j before its activation: to first order its
slope jumps by kappa_j a_j there, a_j the gradient of u_j, kappa_j = (1 - leak) df/dh_j and h_j the unit's output. With
kappa_j > 0 the bend is upwards, whichever side z is on: a step that ends beyond it lands where the next one leads back, and
a descent that knows no piece but its own creeps along the kink. Kinks with kappa_j > 0 that the plain step crosses, where
they are no more than one step keeps, enter the model, which stays convex:

    minimise over d   1/2 d'H d + g'd + sum_j kappa_j max(v_j + b_j'd, 0),      v_j = -|u_j|,  b_j = a_j or -a_j

The sum is the maximum of t'(v + B d) over 0 <= t <= kappa. So d = -H^-1 (g + B't), t the minimiser in that box of the dual

    1/2 t'(B H^-1 B') t + (B H^-1 g - v)'t,

and where 0 < t_j < kappa_j the step ends on the kink. Kinks that this step crosses join in, once. Where none costs anything
it is the plain step. A minimum among kinks, which noise makes the rule, is so met exactly, and in few steps.

The border of a prior's set (`Sides`) is a kink whose price is infinite: what would cross it enters in the same way.

Source: Fletcher, "A model algorithm for composite nondifferentiable optimization problems" (1982), for minimising the convex
model of a composite function; the bends of a ReLU network as what is composed are this project's.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from ...batch import Batch, each_per_signal, per_signal
from ...lengths import lengths
from ..minimisers import box_minimiser
from ..task import Task
from .plain import Step

_KEPT = (32, 64)  # kinks that one step keeps, least and most; in between as many as latents: pictures lie near more
_FEW = 4  # kinks that a step far from the end keeps at most
_TIMES, _TIMES_BOUNDED = 2, 6  # how often what is crossed joins in; at the border of a set others follow from it
_AHEAD = 1.2  # of a step: kinks a little beyond its end are kept too, for what the others do to it
_RIDGE = 1e-10  # of the dual's diagonal: kinks with parallel a_j leave t open, not d


@dataclass(frozen=True, eq=False)
class View(Batch):
    """What one pass forward from z `(N, n0)` sees: u and slopes of every layer `(N, m)`, residual `(N, k)`, misfit,
    merit."""

    z: Tensor = per_signal()
    u: tuple[Tensor, ...] = each_per_signal()
    slopes: tuple[Tensor, ...] = each_per_signal()
    residual: Tensor = per_signal()
    misfit: Tensor = per_signal()
    merit: Tensor = per_signal()

    @classmethod
    def at(cls, task: Task, z: Tensor) -> "View":
        values, slopes, h = [], [], z
        for layer in task.generator.layers:
            values.append(layer.W(h) + layer.b)
            h, slope = layer.activation.with_derivative(values[-1])
            slopes.append(slope)
        residual = task.residual(h)
        misfit = lengths(residual)
        return cls(z, tuple(values), tuple(slopes), residual, misfit, task.merit(z, misfit))


@dataclass(frozen=True, eq=False)
class Slope(Batch):
    """What one pass back sees: the gradient g of the objective `(N, n0)`, and kappa of all hidden units `(N, M)`."""

    g: Tensor = per_signal()
    kappa: Tensor = per_signal()

    @classmethod
    def at(cls, task: Task, view: View) -> "Slope":
        layers, kappa = task.generator.layers, list[Tensor]()
        seeing = task.measurement
        seeing = seeing if seeing.linear else seeing.at(task.generator.output(view.u[-1]))
        back = seeing.adjoint(view.residual)
        for k in range(len(layers) - 1, 0, -1):
            back = layers[k].W.adjoint(back * view.slopes[k])
            phi = layers[k - 1].activation
            assert phi.slopes is not None  # hidden layers are kinked
            kappa.insert(0, (phi.slopes[1] - phi.slopes[0]) * back)
        g = layers[0].W.adjoint(back * view.slopes[0]) + task.prior_gradient(view.z)
        return cls(g, torch.cat(kappa, 1))


def tied_step(task: Task, H: Tensor, view: View, slope: Slope, far: float = inf) -> Step:
    """The minimiser of the model with its kinks; H `(N, n0, n0)`, the damping included.

    far: share of the merit's square; where the plain step promises to lower it by more it is the step, unless it crosses no
    more than `_FEW` kinks.
    """
    L, info = torch.linalg.cholesky_ex(H)
    g, u, d, border = slope.g, torch.cat(view.u[:-1], 1), -_solve(L, slope.g), Border.of(task, view)
    units, price = u.shape[1], slope.kappa
    if border is not None:
        u, price = torch.cat([u, border.u], 1), torch.cat([price, torch.full_like(border.u, torch.inf)], 1)
    kept, bent = torch.zeros_like(u, dtype=torch.bool), torch.zeros_like(d[:, 0])
    most = min(max(_KEPT[0], d.shape[1]), _KEPT[1], units)
    rows: Tensor | slice = slice(None)
    for _ in range(_TIMES if border is None else _TIMES_BOUNDED):
        near = -(g[rows] * d[rows]).sum(1) <= far * view.merit[rows].square()
        rate = _rates(task, view, rows, d[rows])
        its = u[rows]
        crossed = price[rows, :units] > 0
        if border is not None:
            rate, crossed = torch.cat([rate, border.rates(rows, d[rows])], 1), price[rows] > 0
        crossed = crossed & ~kept[rows] & (torch.where(its > 0, -rate, rate) * _AHEAD >= its.abs()) & (rate != 0)
        few = crossed[:, :units].sum(1, keepdim=True) <= torch.where(near, most, _FEW)[:, None]
        crossed[:, :units] &= few
        found = crossed.any(1).nonzero()[:, 0]
        if len(found) == 0:
            break
        rows = found if isinstance(rows, slice) else rows[found]  # what crosses nothing more keeps its step
        order = torch.where(kept[rows], -1.0, torch.where(crossed, (its / rate).abs(), torch.inf)[found])
        order[:, units:] = torch.where(torch.isfinite(order[:, units:]), -1.0, torch.inf)  # the border is always kept
        keep = int(torch.isfinite(order).sum(1).amax().clamp(max=most + u.shape[1] - units))
        first, index = order.topk(keep, dim=1, largest=False)
        there = torch.isfinite(first)
        kept[rows] = kept[rows].scatter(1, index, there)
        its = u[rows].gather(1, index)
        kappa = torch.where(there, price[rows].gather(1, index), 0.0)
        side = torch.where(its > 0, -1.0, 1.0) * there
        B = _unit_gradients(task, view, rows, index, there)
        if border is not None:
            border.put(B, rows, index - units, there)
        d[rows], bent[rows] = _tied(L[rows], g[rows], side * its, side[..., None] * B, kappa)
    gain = -((g * d).sum(1) + (d * (H @ d[..., None])[..., 0]).sum(1) / 2 + bent)
    lost = info != 0
    return Step(torch.where(lost[:, None], torch.zeros_like(d), d), torch.where(lost, torch.inf, gain))


@dataclass(frozen=True, eq=False)
class Border:
    """`Sides` of the set that bounds z, as one more kind of kinks."""

    u: Tensor
    A: Tensor

    @classmethod
    def of(cls, task: Task, view: View) -> "Border | None":
        sides = None if task.prior is None else task.prior.sides(view.z)
        return None if sides is None else cls(sides.u.clamp(max=0.0), sides.A)

    def rates(self, rows: Tensor | slice, d: Tensor) -> Tensor:
        """How fast u changes along d `(n, n0)`, `(n, s)`, of the signals at `rows`."""
        return d @ self.A.mT if self.A.ndim == 2 else (self.A[rows] @ d[..., None])[..., 0]

    def put(self, B: Tensor, rows: Tensor, index: Tensor, there: Tensor) -> None:
        """Write rows of A into B `(n, K, n0)` where the `index` `(n, K)` is one of a side."""
        signal, place = (there & (index >= 0)).nonzero(as_tuple=True)
        which = index[signal, place]
        B[signal, place] = self.A[which] if self.A.ndim == 2 else self.A[rows[signal], which]


def _tied(L: Tensor, g: Tensor, v: Tensor, B: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """The step with kinks v + B d `(N, K)` of price kappa in its model, and what it pays for them."""
    half = torch.linalg.solve_triangular(L, B.mT, upper=False)  # L^-1 B'
    dual = half.mT @ half
    size = torch.diagonal(dual, dim1=-2, dim2=-1)
    dual = dual + torch.diag_embed(torch.where(size > 0, _RIDGE * size, 1.0))
    none = torch.zeros_like(v)
    t, _ = box_minimiser(dual, (B @ _solve(L, g)[..., None])[..., 0] - v, none, none, kappa)
    d = -_solve(L, g + (B.mT @ t[..., None])[..., 0])
    paid = torch.where(torch.isinf(kappa), 0.0, kappa)
    return d, (paid * (v + (B @ d[..., None])[..., 0]).clamp(min=0)).sum(1)


def _solve(L: Tensor, g: Tensor) -> Tensor:
    return torch.cholesky_solve(g[..., None], L)[..., 0]


def _rates(task: Task, view: View, rows: Tensor | slice, d: Tensor) -> Tensor:
    """How fast each hidden unit's u changes along d `(n, n0)`, on the piece, `(n, M)`, of the signals at `rows`."""
    rates = []
    for layer, slope in zip(task.generator.layers[:-1], view.slopes, strict=False):
        rates.append(layer.W(d))
        d = rates[-1] * slope[rows]
    return torch.cat(rates, 1)


def _unit_gradients(task: Task, view: View, some: Tensor, index: Tensor, there: Tensor) -> Tensor:
    """a_j of the units at `index` `(n, K)` of the signals at `some` `(n,)`, `(n, K, n0)`; 0 where not `there`."""
    found = torch.zeros(*index.shape, view.z.shape[1], dtype=view.z.dtype, device=view.z.device)
    start = 0
    for k, slope in enumerate(view.slopes[:-1]):
        signal, place = (there & (index >= start) & (index < start + slope.shape[1])).nonzero(as_tuple=True)
        if len(signal):
            back = torch.zeros(len(signal), slope.shape[1], dtype=found.dtype, device=found.device)
            back.scatter_(1, (index[signal, place] - start)[:, None], 1.0)
            for below in range(k, -1, -1):
                back = task.generator.layers[below].W.adjoint(back)
                back = back * view.slopes[below - 1][some[signal]] if below else back
            found[signal, place] = back
        start += slope.shape[1]
    return found
