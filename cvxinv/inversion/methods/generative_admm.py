"""`generative_admm`: a loss and a generative prior split apart, w = A G(z), by ADMM with a linearised step in z.

    minimise over z in C, w    L(w) + H(z)    subject to w = A G(z)
    L_rho = L(w) + H(z) + rho/2 |w - A G(z) + u|^2 - rho/2 |u|^2            u = multiplier / rho

    w <- argmin L(w) + rho/2 |w - v|^2,    v = A G(z) - u
    u <- u + q_t (w - A G(z))
    z <- P_C(z + s (J'A'(w - A G(z) + u) - H'(z) / rho))

with J the Jacobian at z, C the set of a stated prior and H = sigma^2 R its weight under gaussian noise. The loss is of the
noise that is stated, or `loss`; its w is a proximal step, exact for every A:

    "l2"      1/2 |w - y|^2         w = (y + rho v) / (1 + rho)
    "l1"      |w - y|_1             w - y is v - y, each entry shrunk by 1/rho
    "linf"    max |w - y|           w - y is v - y less its projection on the l1 ball of radius 1/rho (Moreau)

`multiplier` says how q_t goes: "constant" is q_t = q; "decreasing" is the rule of the source's first code, from t = 3 on
q_t = q min(1, 1 / (|w - A G(z)| t log^2(t + 1))); in "adaptive", as in its exact variant, rho stays while |w - A G(z)| is
within its first value over t^(1/2), and else grows by (t / (t - 1))^(1/2). Lengths there count in units of |y|, so that no
rule knows the unit of the signal.

`split`: "measured" as above, where A goes with the generator; or "signal" as in the source, w = G(z) and L(A w) + H(z), so
that z is led by the whole signal and A stands in the loss alone. Its w is, with v = G(z) - u and the singular vectors and
values A = U S V', factorised once,

    l2                w = v + A'(AA' + rho I)^-1 (y - A v),    (AA' + rho I)^-1 = U (S^2 + rho I)^-1 U'
    entries alone     A w = y + prox(A v - y, 1 / rho),    w = v where nothing is seen          every loss, as AA' = I

so that other losses take entries that are seen as they are, and squares one matrix for all signals. s left
out is 1 / |A J|^2, estimated at the start (`steps/guarded.py`); rho counts in units in which the seen entries have mean
square 1.

`inner`: "gradient", one step as above, or "levenberg_marquardt", damped Gauss-Newton steps on |w + u - A G(z)|^2, which do
not mind a badly conditioned J.

The answer is the best z on the way by the loss itself, prior included. A few entries that are far off cost the l1 loss what
their distance is, wherever z is, so that the others decide.

Source: Latorre, Eftekhari, Cevher, "Fast and provable ADMM for learning with generative priors" (2019), and its code.
Changed: the place of A where it is "measured"; scales.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ...lengths import lengths
from ...measurement.entries import Everything
from ..answer import Latents
from ..method import AbstractMethod
from ..options import FINISH, choice, number, within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.guarded import bearable, stretch
from ..steps.least_absolute import led_on
from ..steps.newton import Descent, descend
from ..steps.proximal import share, shrink, shrink_largest
from ..steps.starts import Starts
from ..steps.walking import Place, walk
from ..task import Task

MULTIPLIERS = ("constant", "decreasing", "adaptive")
SPLITS = ("measured", "signal")
_MOST_ROWS = 2000  # of a matrix whose Gram matrix is factorised: seconds
_FULL = 2  # steps with all of q
_INNER_STEPS = 3  # of Levenberg-Marquardt in z: its target moves at the next step


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerativeAdmm(AbstractMethod):
    """ADMM on a loss and a generator from random starts, the best by the loss; before them `z0`, if given.

    loss: None, which is that of the noise that is stated, "l2", "l1" or "linf". rho: weight of the constraint, in the unit
    of the module; left out 1 for squares, 10 for the others. sigma: q, > 0, no unit. multiplier: "constant", "decreasing"
    or "adaptive". split: "measured" or "signal", w = A G(z) or w = G(z). step: s, 1 / (entry of A J)^2, left out estimated.
    inner: "gradient" or "levenberg_marquardt". finish: None, or "levenberg_marquardt", which leads the best z on to an
    optimum of the loss. max_iter: steps. tol: relative change of z at which a signal stops. restarts: random starts at
    most. z0: latents to begin with, or an encoder of y that gives them, as in `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "generative_admm"
    priors: ClassVar[bool] = True

    loss: str | None = None
    rho: float | None = None
    sigma: float = 1.0
    multiplier: str = "constant"
    split: str = "measured"
    step: float | None = None
    inner: str = "gradient"
    finish: str | None = None
    max_iter: int = 1000
    tol: float = 1e-12
    restarts: int = 3
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        number(self.sigma, "sigma")
        for name in ("rho", "step"):
            if getattr(self, name) is not None:
                number(getattr(self, name), name)
        within(self.tol, "tol", 0, 1)
        choice(self.loss, "loss", (None, *LOSSES))
        choice(self.multiplier, "multiplier", MULTIPLIERS)
        choice(self.split, "split", SPLITS)
        choice(self.inner, "inner", ("gradient", "levenberg_marquardt"))
        choice(self.finish, "finish", FINISH)

    def check(self, task: Task) -> None:
        check_start(self.z0, task)
        if self.step is not None and self.inner != "gradient":
            raise ValueError(f"expected no step with inner='levenberg_marquardt', got step={self.step:g}; leave it out")
        loss, weighed = self._loss(task), task.prior is not None and task.prior.weighed
        if weighed and loss != "l2":
            raise ValueError(
                f"generative_admm cannot weigh the prior {task.prior!r} against loss={loss!r}; leave loss out, or use Box"
            )
        if self.split == "signal":
            _refuse_measurement(task, loss)
        if self.finish is not None and loss == "linf":
            raise ValueError("expected no finish with loss='linf', got 'levenberg_marquardt'; use 'hybrid' from z0=result")

    def run(self, task: Task, starts: Starts) -> Latents:
        nearest = self._nearest(task)

        def search(part: Task, z: Tensor) -> Descent:
            found = self._descend(part, z, nearest)
            if self.finish is None:
                return found
            return led_on(part, found) if self._loss(part) == "l1" else descend(part, found.z)

        hunt = begin(task, self.z0, search)
        hunt.draw(starts, search, count=self.restarts)
        return hunt.answer()

    def _loss(self, task: Task) -> str:
        stated = task.noise.norm if task.noise is not None and task.noise.norm in LOSSES else "l2"
        return stated if self.loss is None else self.loss

    def _nearest(self, task: Task) -> "Nearest":
        """The step in w."""
        loss = LOSSES[self._loss(task)]
        if self.split == "measured":
            return lambda part, v, rho: part.y + loss.prox(v - part.y, 1 / rho)
        return entries_alone(loss) if task.measurement.pixelwise else ridge(task)

    def _split(self, task: Task) -> Task:
        """The task whose generator's signals, as they are measured, are w."""
        return replace(task, measurement=Everything(task.generator.signal_dim)) if self.split == "signal" else task

    def _descend(self, task: Task, z: Tensor, nearest: "Nearest") -> Descent:
        loss, apart = LOSSES[self._loss(task)], self._split(task)
        z = z if task.prior is None else task.prior.project(z)
        step = bearable(apart, stretch(apart, z)) if self.step is None else torch.full_like(task.size, self.step)
        unit = task.size / task.seen.to(task.size).sqrt()  # root mean square of the seen entries
        rho = (self.rho or loss.rho) * torch.where(unit > 0, unit, torch.ones_like(unit)) ** loss.power
        u = torch.zeros_like(z[:, :1]).expand(-1, apart.measurement.length)
        first = torch.full_like(task.size, torch.nan)

        def rule(part: Task, at: _Split, k: int) -> "tuple[_Split, Tensor]":
            x = part.generator(at.z)
            r = part.residual(x)
            # the loss of z itself, which is what is asked for, not of w
            seen = x if self.split == "signal" else r + part.y
            return self._next(part, at, seen, nearest, k + 1), loss.length(part, at.z, r)

        return walk(task, _Split(z, u, step, rho, first), rule, max_iter=self.max_iter, tol=self.tol)

    def _next(self, task: Task, at: "_Split", seen: Tensor, nearest: "Nearest", t: int) -> "_Split":
        w = nearest(task, seen - at.u, at.rho)
        apart = w - seen  # a hidden entry is 0 on both sides, or as G(z) has it
        length = lengths(apart) / task.size.clamp(min=torch.finfo(w.dtype).tiny)
        first = torch.where(at.first.isnan(), length, at.first)
        u = at.u + self._share(length, t)[:, None] * apart
        z = self._moved(self._split(task), at, seen, w + u)
        grows = (length > first / t**0.5) & (self.multiplier == "adaptive") & (t > 1)
        factor = torch.where(grows, (t / max(t - 1, 1)) ** 0.5, 1.0).to(z)
        # the multiplier stays where rho grows, and u is the multiplier over rho
        return _Split(z, u / factor[:, None], at.step, at.rho * factor, first)

    def _share(self, length: Tensor, t: int) -> Tensor:
        """q_t, `(N,)`; length: |w - A G(z)| over |y|."""
        if self.multiplier != "decreasing" or t <= _FULL:
            return torch.full_like(length, self.sigma)
        return self.sigma * (1 / (length * t * log(t + 1) ** 2)).clamp(max=1.0)

    def _moved(self, task: Task, at: "_Split", seen: Tensor, goal: Tensor) -> Tensor:
        """z led towards goal, as a task measures it."""
        if self.inner == "levenberg_marquardt":
            # rho/2 |goal - A G(z)|^2 + sigma^2 R is rho/2 times a merit of noise sigma / rho^(1/2)
            noise = replace(task.noise, bound=task.noise.bound / at.rho.sqrt()) if task.weighed and task.noise else None
            near = replace(task, y=goal, noise=noise, cut=None)
            return descend(near, at.z, _INNER_STEPS).z
        x, piece = task.generator.piece(at.z)
        slope = piece.pull(task.measurement.at(x).adjoint(goal - seen)[:, None])[:, 0]
        z = at.z + at.step[:, None] * (slope - task.prior_gradient(at.z) / at.rho[:, None])
        return z if task.prior is None else task.prior.project(z)


@dataclass(frozen=True, eq=False)
class _Split(Place):
    """z `(N, n0)` with u `(N, k)`, and `(N,)` each the step in z, rho, and |w - A G(z)| / |y| as it was first."""

    u: Tensor = per_signal()
    step: Tensor = per_signal()
    rho: Tensor = per_signal()
    first: Tensor = per_signal()


@dataclass(frozen=True)
class Loss:
    """A loss of residuals r `(N, k)`: its proximal step with weights t `(N,)`; a length of r that grows with it and is no
    smaller than that in l2; and the power of the signal's unit in rho."""

    prox: Callable[[Tensor, Tensor], Tensor]
    length: Callable[[Task, Tensor, Tensor], Tensor]
    power: int
    rho: float  # where none is said


LOSSES = {
    "l2": Loss(share, lambda task, z, r: task.merit(z, lengths(r)), 0, 1.0),
    "l1": Loss(shrink, lambda task, z, r: r.abs().sum(1), -1, 10.0),
    # of k entries of one size the l2 length
    "linf": Loss(shrink_largest, lambda task, z, r: r.abs().amax(1) * r.shape[1] ** 0.5, -1, 10.0),
}


# --- the step in w ---------------------------------------------------------------------------------

Nearest = Callable[[Task, Tensor, Tensor], Tensor]  # of a task, v and rho `(N,)`: argmin L + rho/2 |w - v|^2


def entries_alone(loss: Loss) -> Nearest:
    """For a signal w `(N, d)` whose entries are seen as they are, or not."""

    def step(task: Task, v: Tensor, rho: Tensor) -> Tensor:
        r = task.residual(v)
        return v + task.measurement.adjoint(loss.prox(r, 1 / rho) - r)

    return step


def ridge(task: Task) -> Nearest:
    """For a signal w `(N, d)` and squares, A one matrix: by the eigenvectors of AA', as rho changes."""
    A = task.measurement.matrix(task.y.dtype, task.y.device)
    assert A is not None  # others are refused
    values, U = torch.linalg.eigh(A @ A.T)
    values = values.clamp(min=0)

    def step(part: Task, v: Tensor, rho: Tensor) -> Tensor:
        return v - ((part.residual(v) @ U) / (values + rho[:, None]) @ U.T) @ A

    return step


def _refuse_measurement(task: Task, loss: str) -> None:
    """Raises ValueError where a signal has no step in w that is worked out at once."""
    seeing = task.measurement
    if seeing.pixelwise:
        if bool(seeing.seen(task.N).all()):
            raise ValueError("split='signal' would change nothing where everything is seen; leave it out")
        return
    got = ""
    if not (seeing.linear and seeing.shared):
        got = f"{seeing.name}, " + ("which differs from signal to signal" if seeing.linear else "which is not linear")
    elif loss != "l2":
        got = f"loss={loss!r} behind {seeing.name}"
    elif seeing.length > _MOST_ROWS:
        got = f"{seeing.length} rows of {seeing.name}"
    if got:
        raise ValueError(
            "generative_admm cannot split at the signal here: expected entries that are seen as they are, or squares and "
            f"one matrix of at most {_MOST_ROWS} rows for all signals, got {got}; leave split out"
        )
