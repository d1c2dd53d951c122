"""`hybrid`: starts of several kinds, each followed by Levenberg-Marquardt, until the signal is explained.

    z0              what the user gives, if anything
    layered         convex, one layer after the other: needs no luck, where the layers allow one and it is not dear
    learnt          ridge regression from the generator's own signals (`steps/learnt.py`), a few steps
    smoothed        smoothed Gauss-Newton from there (`steps/smoothed.py`)
    learnt 2        as much ridge as shrinks what is doubtful, large damping, through the output and not before it
    smoothed 2      from the mean latent, from a wider view on
    squashed        behind a linear output: from the learnt start through a tanh, see `squashed`
    random          each the best of a hundred latents

What comes first is a matter of predicted cost (`steps/plan.py`). The best z of all is kept; what none explains goes on to a
local optimum.

Under gaussian noise there is an objective whose optimum is asked for, and noise leaves little of a layered start: the learnt
start comes first there, the prior's centre is among the latents of a random one, and lower optima near by are sought last
(`steps/softened.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...batch import per_signal
from ...layers.core.certificate import INFEASIBLE, NUMERICAL_ERROR, USER_LIMIT
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..steps.debias import FINISH_MU
from ..steps.given import as_start, check_start, start_of
from ..steps.idle import refuse_idle, refuse_idle_force
from ..steps.learnt import learnt_starts, lesson_for
from ..steps.newton import Descent, descend, descend_through
from ..steps.normal_equations import notes_of_ways
from ..steps.plan import descent_cost, lesson_cost, plan_of
from ..steps.pursuit import LayerOptions, notes_of, pursue
from ..steps.reading import before_output, one_sided
from ..steps.smoothed import SCALES, descend_smoothed, squashed
from ..steps.softened import lower
from ..steps.starts import Hunt, Starts, nothing_yet
from ..task import Task

_CANDIDATES = 100  # latents that a random start is the best of
_MOST_ITERATIONS = 100
_FEW = 20  # steps that show whether a learnt start leads anywhere
_SHRINKING = 1e-2  # ridge of the second learnt start
_WIDE = (1.0, 1.0, 0.7, 0.7)  # scales before those of the smoothed start from nothing
_DAMPED = 1.0
_FAILED = (INFEASIBLE, USER_LIMIT, NUMERICAL_ERROR)  # statuses of layers that led nowhere
_LESSON = 20  # descents that may cost less than a lesson for a random start to come before it


@dataclass(frozen=True, eq=False, kw_only=True)
class Hybrid(AbstractMethod):
    """Starts of several kinds, each followed by Levenberg-Marquardt, until the signal is explained; see the module.

    layers: what the layers are told; told anything, they come first whatever they cost. max_iter: steps per start; left out
    100, and signals that are not explained go on to a local optimum. restarts: random starts at most, each the best of 100
    latents. z0: latents to begin with, `(N, n0)` or `(n0,)`, torch or numpy; or an encoder, a callable or module of y, flat
    `(N, k)` with hidden entries 0, that gives them.
    """

    name: ClassVar[str] = "hybrid"
    priors: ClassVar[bool] = True

    layers: LayerOptions = per_signal(default_factory=LayerOptions)
    max_iter: int | None = None
    restarts: int = 10
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        if self.z0 is not None:
            object.__setattr__(self, "z0", as_start(self.z0))
        tidy(self)
        positive(self.restarts, "restarts", least=0)
        if self.max_iter is not None:
            positive(self.max_iter, "max_iter")

    def check(self, task: Task) -> None:
        self.layers.check(task)
        given = self.layers.given() if task.stated else []
        if given:
            raise ValueError(
                f"expected no options of layers under gaussian noise, got {', '.join(given)}: hybrid takes no layered start "
                "there, and they would have no effect; state what is known of z as prior=, or use method='latent_pursuit'"
            )
        refuse_idle_force(self.layers.force, self.layers.solver, task)
        refuse_idle(self.layers, task, only_a_start=True)
        if self.z0 is not None:
            check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        plan = plan_of(task, self.layers)
        if self.z0 is None and plan.layers == "first":
            hunt = Hunt(task, *self._layered(task))
        else:
            hunt = self._without_layers(task, plan.layers == "first")
        if len(hunt.open):
            self._search(hunt, starts)
        if plan.layers == "last":
            hunt.offer("layered", lambda part, index: self.take(index)._best_layered(part))
        # whoever sets a limit means it
        if self.max_iter is None and len(hunt.open):
            hunt.settle()
        if self.max_iter is None and task.stated:
            hunt.z = lower(task, hunt.z)
        return hunt.answer((*((plan.note,) if plan.note else ()), *notes_of_ways(task)))

    def refine(self, task: Task, z: Tensor) -> Tensor:
        z = descend(task, z, _limit(self.max_iter)).z
        return lower(task, z) if self.max_iter is None else z

    def _without_layers(self, task: Task, layered: bool) -> Hunt:
        """The hunt from the user's start, and from layers where that leaves a signal open; layers are not reported then."""
        hunt = Hunt(task, nothing_yet(task))
        if self.z0 is not None:
            z0 = start_of(self.z0, task)
            hunt.offer("z0", lambda part, index: descend_through(part, z0[index], _limit(self.max_iter)))
        if layered:
            hunt.offer("layered", lambda part, index: self.take(index)._best_layered(part))
        return hunt

    def _search(self, hunt: Hunt, starts: Starts) -> None:
        """Learnt, smoothed and random starts for what is open."""

        def descent(part: Task, z: Tensor) -> Descent:
            return descend_through(part, z, _limit(self.max_iter))

        restarts = max(self.restarts, int(hunt.task.stated))
        early = min(restarts, _drawn_first(hunt.task))
        hunt.draw(starts, descent, count=early, candidates=_CANDIDATES)
        if len(hunt.open):
            for name, search in _computed(hunt, _limit(self.max_iter)):
                hunt.offer(name, search)
        hunt.draw(starts, descent, count=restarts - early, candidates=_CANDIDATES, first=early)

    def _layered(self, task: Task) -> tuple[Latents, Tensor]:
        """The layered latents after Levenberg-Marquardt, and their merit."""
        start, reports = pursue(task, self.layers)
        found, replaced = _kept_descent(task, start, _limit(self.max_iter))
        spent = torch.zeros(task.N, dtype=torch.long)
        # where a layer failed, or what the layers found was given up, the descent has found z and not they
        failed = np.any([np.isin(r.solution.status, _FAILED) for r in reports], axis=0) | replaced.cpu().numpy()
        used = tuple("descent from the layers" if f else "layered" for f in failed)
        return Latents(found.z, used, spent, tuple(reports), notes_of(task, self.layers)), found.merit

    def _best_layered(self, task: Task) -> Descent:
        return _kept_descent(task, pursue(task, self.layers)[0], _limit(self.max_iter))[0]


def _limit(max_iter: int | None) -> int:
    return _MOST_ITERATIONS if max_iter is None else max_iter


def _drawn_first(task: Task) -> int:
    """How many random starts come before those that are learnt."""
    # what is learnt serves all signals to come, but one of a small generator has its answer sooner by luck; not so in
    # noise, which a learnt start averages: it is nearer to the optimum, and to a lower one
    return 0 if task.stated else int(lesson_cost(task) > _LESSON * descent_cost(task))


def _kept_descent(task: Task, start: Tensor, limit: int) -> tuple[Descent, Tensor]:
    """Small damping first keeps what the layers found; a full run follows where that does not explain the signal.

    Also where that run ended lower, bool `(N,)`.
    """
    found = descend(task, start, 30, FINISH_MU)
    replaced = torch.zeros_like(found.merit, dtype=torch.bool)
    open_ = (~task.explained(found.z, found.misfit)).nonzero()[:, 0]
    if len(open_):
        again = descend_through(task.take(open_), start[open_], limit)
        better = again.merit < found.merit[open_]
        found.put(open_[better], again.take(better))
        replaced[open_] = better
    return found, replaced


def _computed(hunt: Hunt, limit: int) -> list[tuple[str, Callable[[Task, Tensor], Descent]]]:
    """Starts that are computed from y, in the order in which they are tried."""
    z = torch.zeros_like(hunt.z)
    z[hunt.open] = learnt_starts(hunt.task.take(hunt.open))
    lesson, few = lesson_for(hunt.task), limit if hunt.task.stated else min(_FEW, limit)
    m = lesson.m.to(z)

    def smoothed(part: Task, start: Tensor, scales: tuple[float, ...]) -> Descent:
        return descend_through(part, descend_smoothed(_inner(part), start, lesson.spread, scales[:limit]), limit)

    def shrunk(part: Task, index: Tensor) -> Descent:
        return descend(part, learnt_starts(part, _SHRINKING), limit, _DAMPED)

    def through_tanh(part: Task, index: Tensor) -> Descent:
        other = squashed(part, lesson.size)
        assert other is not None
        return descend(part, descend(other, z[index], limit).z, limit)

    tried = [
        ("learnt start", lambda part, index: descend_through(part, z[index], few)),
        ("smoothed start", lambda part, index: smoothed(part, z[index], SCALES)),
        ("learnt start 2", shrunk),
        ("smoothed start 2", lambda part, index: smoothed(part, m.expand_as(z[index]), _WIDE + SCALES)),
    ]
    return tried if squashed(hunt.task, lesson.size) is None else [*tried, ("squashed start", through_tanh)]


def _inner(task: Task) -> Task:
    return before_output(task) or one_sided(task) or task
