"""`projected_gradient`: a gradient step on the signal, then the nearest signal of the generator's, in turn.

    w = x + eta A'(y - A x)
    z <- argmin |G(z) - w|^2 + lam |z|^2,    x <- G(z)

from x = 0, or from G(z0). The inner problem is another inversion, with everything seen and w for the signal; it begins at
the z before. `inner` says by what: the source's Adam, which at a step that does not shrink stays some way from the nearest
signal, or Levenberg-Marquardt, with which the projection is as exact as a local search can make it.

With Q an orthonormal basis of the range's tangent at x, an exact projection moves x - x* by about Q (I - eta Q'A'A Q) Q'. It
contracts for eta < 2 / |A Q|^2, linearly, at a rate that the eigenvalues of Q'A'A Q give: for a nearly isometric A, as
entries N(0, 1/m) make for m well above n0, eta near 1 is best. |A|^2 itself is about d / m and more there, and 1 / |A|^2 as
much too short. So eta left out is 1 / |A Q|^2 at the start, for each signal. It is halved where the misfit has grown, and
the signal goes back to its best z.

Source: Shah, Hegde, "Solving linear inverse problems using GAN priors: an algorithm with provable guarantees" (2018), and
its code: eta 0.5, 10 steps, Adam of rate 0.1 with 100 steps, lam 0.001. Derived here: the default eta; added: the halving.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ...measurement.entries import Everything
from ..answer import Latents
from ..method import AbstractMethod
from ..options import choice, number, positive, within
from ..steps.adam import descend_by_adam
from ..steps.given import begin, check_start, tidy_starting
from ..steps.newton import Descent, descend
from ..steps.starts import Starts
from ..steps.walking import Place, walk
from ..steps.weighing import weighed
from ..task import Task

INNER = ("adam", "levenberg_marquardt")
_LEVEL = 1 + 1e-6  # of the misfit before: up to it a step that gained nothing is no loss
Projection = Callable[[Task, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class ProjectedGradient(AbstractMethod):
    """Projected gradient descent from random starts of the inner problem, the best by misfit; before them `z0`, if given.

    eta: length of a step in the signal, 1 / (entry of A)^2; left out it is estimated. max_iter: steps. inner: "adam" or
    "levenberg_marquardt"; inner_iter: steps of each projection. rate: of Adam, latent units. lam: weight of |z|^2 in the
    projection, signal^2 / latent^2. tol: relative change of z at which a signal stops. restarts: random starts at most. z0:
    latents to begin with, or an encoder of y that gives them, as in `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "projected_gradient"
    priors: ClassVar[bool] = True

    eta: float | None = None
    max_iter: int = 30
    inner: str = "adam"
    inner_iter: int = 100
    rate: float = 0.1
    lam: float = 0.0
    tol: float = 1e-10
    restarts: int = 1
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        positive(self.inner_iter, "inner_iter")
        if self.eta is not None:
            number(self.eta, "eta")
        number(self.rate, "rate")
        number(self.lam, "lam", least=0)
        within(self.tol, "tol", 0, 1)
        choice(self.inner, "inner", INNER)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)
        if not task.measurement.linear:
            raise ValueError(
                f"projected_gradient cannot invert this: expected a linear measurement, got {task.measurement.name}; "
                "use method='hybrid' or 'gradient_descent'"
            )
        if task.absolute:
            raise ValueError(
                "projected_gradient cannot heed l1 noise: its step lowers squares, which entries far off pull; use method="
                "'generative_admm', 'csgm' or 'hybrid'"
            )
        if task.prior is not None and (task.prior.weighed or self.lam):
            raise ValueError(
                f"projected_gradient cannot heed the prior {task.prior!r} with lam={self.lam:g}: a projection weighs none "
                "against noise; use Box or Ball with lam=0, or method='csgm'"
            )

    def run(self, task: Task, starts: Starts) -> Latents:
        def from_zero(part: Task, z: Tensor) -> Descent:
            return self._descend(part, z, torch.zeros(part.N, part.generator.signal_dim).to(z))

        def from_given(part: Task, z: Tensor) -> Descent:
            return self._descend(part, z, part.generator(z))

        hunt = begin(task, self.z0, from_given)
        hunt.draw(starts, from_zero, count=self.restarts)
        return hunt.answer()

    def _descend(self, task: Task, z: Tensor, x: Tensor) -> Descent:
        z = z if task.prior is None else task.prior.project(z)
        eta = _estimated(task, z) if self.eta is None else torch.full_like(task.size, self.eta)
        worst = torch.full_like(task.size, torch.inf)

        def rule(part: Task, at: _Between, _: int) -> "tuple[_Between, Tensor]":
            misfit = part.misfit(at.z)
            return at.after(part, misfit, self._project), misfit

        found = walk(task, _Between(z, x, eta, z, worst), rule, max_iter=self.max_iter, tol=self.tol)
        return replace(found, merit=found.misfit)

    def _project(self, task: Task, w: Tensor, z: Tensor) -> Tensor:
        """The latents of the nearest signals to w `(N, d)` that are found from z."""
        inner = replace(task, y=w, measurement=Everything(task.generator.signal_dim), noise=None, cut=None)
        inner = weighed(inner, self.lam) if self.lam else inner
        if self.inner == "adam":
            return descend_by_adam(inner, z, rate=self.rate, max_iter=self.inner_iter, tol=self.tol).z
        return descend(inner, z, self.inner_iter).z


@dataclass(frozen=True, eq=False)
class _Between(Place):
    """z `(N, n0)` with the signal x `(N, d)` that the next step leaves, its eta, and the best z so far with its misfit."""

    x: Tensor = per_signal()
    eta: Tensor = per_signal()
    best: Tensor = per_signal()
    low: Tensor = per_signal()

    def after(self, task: Task, misfit: Tensor, project: Projection) -> "_Between":
        """The next place: a step and a projection; from the best place, with half the eta, where the misfit has grown."""
        away = ~(misfit <= self.low * _LEVEL)
        best, low = torch.where(away[:, None], self.best, self.z), torch.where(away, self.low, misfit)
        eta = torch.where(away, self.eta / 2, self.eta)
        x = torch.where(away[:, None], task.generator(best), self.x)
        z = project(task, x - eta[:, None] * task.pull(x), best)
        return _Between(z, task.generator(z), eta, best, low)


def _estimated(task: Task, z: Tensor) -> Tensor:
    """1 / |A Q|^2, `(N,)`, Q an orthonormal basis that holds the columns of the signal's Jacobian at z; 1 where A Q = 0."""
    tops = []
    for block in task.blocks():
        part = task.take(block)
        x, J = part.generator.linearize(z[block])
        seen = part.measurement.at(x).push(torch.linalg.qr(J).Q)
        tops.append(torch.linalg.matrix_norm(seen, ord=2))
    top = torch.cat(tops)
    return torch.where(top > 0, top, torch.ones_like(top)) ** -2
