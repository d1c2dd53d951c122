"""Levenberg-Marquardt with tied steps (`ties`), for an objective whose optimum is asked for.

Each step takes a pass forward, a pass back for the exact gradient, and those of its kinks. The curvature H = J'J + sigma^2
R'' is kept while it serves: the next step needs another where the last one gained less than `_POOR`, or more than 1 /
`_POOR`, of what its model promised, and where it gained nothing although H was another point's. Where H is the point's own
and the step gains nothing the damping is raised, as in `newton`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...batch import Batch, per_signal
from ..task import Task
from .normal_equations import rough_curvature
from .ties import Slope, View, tied_step

SETTLED = 1e-13  # of the merit's square: a step that lowers its model by less has nothing to gain
_NEAR = 0.01  # standard deviations of the posterior, in which the objective changes by 5e-5 nats beside what kinks add
_LOSS = 1e-9  # of the merit's square: what rounding takes off a model's gain, and more
_POOR = 0.7
_FAR = 0.1  # of the merit's square: a plain step that promises more goes where other kinks are
_LEAST_MU, _STALLED_MU = 1e-15, 1e10
_MORE, _TRIED_MU = 10.0, 1e-5  # a refused step raises the damping by that, at least to that: less changes few steps
_STEEPEST = 1e3  # the same from 1 on, where steps go down the gradient and what gains at none of these lengths gains nowhere


@dataclass(frozen=True, eq=False)
class Place(Batch):
    """Where signals are on their way: the curvature in use, whether it is this very point's, damping, steps taken `(N,)`.

    home: None, or optima that are known, `(N, n0)`: a descent that comes back to them ends.
    """

    view: View = per_signal()
    slope: Slope = per_signal()
    H: Tensor = per_signal()
    own: Tensor = per_signal()
    mu: Tensor = per_signal()
    steps: Tensor = per_signal()
    home: Tensor | None = per_signal(default=None)

    def anew(self, mu: float) -> "Place":
        """The same place at the start of another descent, with that damping."""
        return replace(self, mu=torch.full_like(self.mu, mu), steps=torch.zeros_like(self.steps))

    def near(self, task: Task, z: Tensor) -> Tensor:
        """Whether a place is `_NEAR` z `(N, n0)`, bool `(N,)`: an optimum between them would be hardly lower."""
        assert task.noise is not None  # kinks matter under stated noise only
        d = self.view.z - z
        return (d * (self.H @ d[..., None])[..., 0]).sum(1) <= (_NEAR * task.noise.bound).square()

    @classmethod
    def at(cls, task: Task, z: Tensor, mu: float | Tensor, H: Tensor | None = None, own: bool = False) -> "Place":
        """The start `z`, with one damping or one for each; H: a curvature from near by, where there is one, or z's `own`."""
        view = View.at(task, z)
        its = torch.full_like(view.merit, own or H is None, dtype=torch.bool)
        steps = torch.zeros_like(its, dtype=torch.long)
        H = rough_curvature(task, z) if H is None else H
        return cls(view, Slope.at(task, view), H, its, torch.zeros_like(view.merit) + mu, steps)


def descend_kinked(task: Task, at: Place, max_iter: int, target: float | Tensor = 0.0, settled: float = SETTLED) -> Place:
    """Steps until each signal has nothing to gain, no damping up to 1e10 helps, its merit is <= target |y|, or `max_iter`.

    settled: share of the merit's square that counts as nothing. Every signal runs as if alone.
    """
    left, parts, where = torch.arange(task.N, device=at.mu.device), list[Place](), list[Tensor]()
    for k in range(max_iter):
        task.step()
        at, done = _stepped(task, at, settled)
        late = task.progress.deadline is not None and task.progress.late()
        done = done | (at.view.merit <= target * task.size) | (late or k == max_iter - 1)
        done = done if at.home is None else done | at.near(task, at.home)
        if not done.any():
            continue
        parts.append(at.take(done))
        where.append(left[done])
        if done.all():
            break
        task, at, left = task.take(~done), at.take(~done), left[~done]
    return Place.joined(parts).take(torch.cat(where).argsort())


def _stepped(task: Task, at: Place, nothing: float) -> tuple[Place, Tensor]:
    """After one step, and which signals are done."""
    s = torch.diagonal(at.H, dim1=-2, dim2=-1).mean(1, keepdim=True).clamp(min=torch.finfo(at.H.dtype).tiny)
    damping = (at.mu[:, None] + 4 * torch.finfo(at.H.dtype).eps) * s
    H, bounded = at.H + torch.diag_embed(damping.expand_as(at.view.z)), task.prior is not None and task.prior.bounded
    if bounded:
        H = H + task.prior.tangent(at.view.z, at.slope.g)[1]  # type: ignore[union-attr]
    d, gain = tied_step(task, H, at.view, at.slope, _FAR)
    z = at.view.z + d
    view, before = View.at(task, task.prior.project(z) if bounded else z), at.view.merit  # type: ignore[union-attr]
    better = view.merit < before
    # a model that promises a loss is one of a curvature too near singular for its damping
    settled, gained = (gain < nothing * before**2) & (gain > -_LOSS * before**2), (before**2 - view.merit**2) / (2 * gain)
    if not better.all():
        view.put(~better, at.view.take(~better))
    served = torch.where(better, (gained > _POOR) & (gained < 1 / _POOR), at.own)
    more = (at.mu * torch.where(at.mu < 1, _MORE, _STEEPEST)).clamp(min=_TRIED_MU)
    mu = torch.where(better, (at.mu / 5).clamp(min=_LEAST_MU), torch.where(at.own, more, at.mu))
    done = settled | (mu > _STALLED_MU)
    slope = Slope.at(task, view) if better.any() else at.slope
    H, own = at.H, at.own & ~better
    due = (~served & ~done).nonzero()[:, 0]
    if len(due):
        H, own = H.clone(), own.index_fill(0, due, True)
        H[due] = rough_curvature(task.take(due), view.z[due])
    return Place(view, slope, H, own, mu, at.steps + 1), done


def kinks_matter(task: Task) -> bool:
    """Whether steps heed kinks: an optimum is asked for, and a set that bounds z has `sides` that steps heed too."""
    G = task.generator
    bends = G.piecewise_linear and G.depth > 1 and G.output.elementwise
    if not (task.stated and bends and task.cut is None):
        return False
    prior = task.prior
    return prior is None or not prior.bounded or prior.sides(task.y.new_zeros(1, G.latent_dim)) is not None
