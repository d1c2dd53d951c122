"""`hybrid`: starts of several kinds, each followed by Levenberg-Marquardt, until the signal is explained.

    z0              what the user gives, if anything
    layered         convex, one layer after the other: needs no luck, where the layers allow one and it is not dear; where
                    it costs more than the first random (or learnt) start, after that one
    learnt          ridge regression from the generator's own signals (`steps/learnt.py`), a few steps
    smoothed        smoothed Gauss-Newton from there (`steps/smoothed.py`)
    nearest         all that follows at once, for what lies far from all signals of the generator (`steps/far.py`)
    learnt 2        as much ridge as shrinks what is doubtful, large damping, through the output and not before it
    smoothed 2      from the mean latent, from a wider view on, slowly
    squashed        behind a linear output: from the learnt start through a tanh, see `squashed`
    smoothed 3, 4   from the best z so far
    nearby          around the best z, where that is nearly one that explains the signal (`steps/nearby.py`)
    random          from the best of a hundred latents, every other time also smoothed from one
    weaned, slow    before the learnt ones where hardly more was seen than there are latents (`steps/weaned.py`)

A measurement that is not linear, such as magnitudes, has other starts (`steps/hops.py`).

What comes first is a matter of predicted cost (`steps/plan.py`). The best z of all is kept; what none explains goes on to a
local optimum. Of noise that is stated in the l1 norm a few entries may hold all: layers are not read then, and every descent
is led on in that norm (`steps/least_absolute.py`); under a linf bound to where it is kept (`steps/minimax.py`).

Under gaussian noise there is an objective whose optimum is asked for, and noise leaves little of a layered start: a short
smoothed start comes first there, with the second learnt and the second smoothed one beside it for every signal where that
leads astray (`steps/misled.py`), the prior's centre is among the latents of a random one, and lower optima near by are
sought last (`steps/softened.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...batch import per_signal
from ...layers.core.certificate import INFEASIBLE, NUMERICAL_ERROR, USER_LIMIT
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..steps.costs import dear
from ..steps.debias import FINISH_MU
from ..steps.far import COMPUTED, DAMPED, SHRINKING, computed, far_off, search_far, search_far_in_turn
from ..steps.given import as_start, begin, check_start
from ..steps.hops import search_by_hops
from ..steps.idle import refuse_idle, refuse_idle_force
from ..steps.kinked import SETTLED, kinks_matter
from ..steps.learnt import learnt_starts, lesson_for
from ..steps.misled import led_astray
from ..steps.nearby import search_nearby
from ..steps.newton import Descent, descend, descend_from_each, descend_through
from ..steps.normal_equations import notes_of_ways
from ..steps.plan import plan_of
from ..steps.pursuit import LayerOptions, notes_of, pursue
from ..steps.reading import before_output, one_sided, refuse_unlayered
from ..steps.smoothed import BRIEF, NEAR, WIDE, descend_smoothed, each, squashed
from ..steps.softened import APART, lower
from ..steps.starts import Hunt, Search, Starts, leading
from ..steps.weaned import search_few
from ..task import Task

_CANDIDATES = 100  # latents that a random start is the best of
_SOME = 10  # the same before the layers: of one signal a hundred take as long as some steps
_MOST_ITERATIONS = 100
_FEW = 20  # steps that show whether a learnt start, or one before the layers, leads anywhere
_SHORT = 40  # steps of a start after the first ones; what gets furthest is led to its end when all have been tried
_HOPS = 2
_NEARBY = (0.1, 0.3)  # standard deviations of a latent: how far nearby starts are from the best z
_IN_NOISE = (*COMPUTED, "learnt start")  # their order under gaussian noise
_FAILED = (INFEASIBLE, USER_LIMIT, NUMERICAL_ERROR)  # statuses of layers that led nowhere
_DESCENT = "layers and a descent"


@dataclass(frozen=True, eq=False, kw_only=True)
class Hybrid(AbstractMethod):
    """Starts of several kinds, each followed by Levenberg-Marquardt, until the signal is explained; see the module.

    layers: what the layers are told; told anything, they come first whatever they cost. max_iter: steps per start; left out
    100, and signals that are not explained go on to a local optimum. restarts: random starts at most. z0: latents to begin
    with, `(N, n0)`, `(n0,)` or several per signal `(N, K, n0)`, torch or numpy; an `Inversion` of the same signals, where it
    knows a latent; or an encoder, a callable or module of y, flat `(N, k)` with hidden entries 0, that gives them.
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
        given = self.layers.given()
        if given:
            refuse_unlayered(f"hybrid with {given[0]}=, an option of its layered start,", task)
        self.layers.check(task)
        if given and task.stated:
            raise ValueError(
                f"expected no options of layers under gaussian noise, got {', '.join(given)}: hybrid takes no layered start "
                "there, and they would have no effect; state what is known of z as prior=, or use method='latent_pursuit'"
            )
        if self.layers.force:
            refuse_idle_force(self.layers.force, self.layers.solver, task)
        if given:
            refuse_idle(self.layers, task, only_a_start=True)
        if self.z0 is not None:
            check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        plan = plan_of(task, self.layers)
        if self.z0 is None and plan.layers == "first":
            hunt = self._layered(task)
        else:
            hunt = self._without_layers(task, plan.layers == "first")
        second = plan.layers == "second" and len(hunt.open) > 0
        brief = second and not dear(task.generator)
        if second:
            self._one_start(hunt, starts)
            self._another(hunt)
            if brief:
                self._first(hunt, starts)
            hunt.offer("layered", self._layers_of)
        if len(hunt.open):
            self._search(hunt, starts, drawn=second, begun=brief)
        if plan.layers == "last":
            hunt.offer("layered", self._layers_of)
        # whoever sets a limit means it
        if self.max_iter is None and len(hunt.open):
            hunt.settle()
        if self.max_iter is None and task.stated:
            hunt.z = lower(task, hunt.z, hunt.H)
        return hunt.answer((*((plan.note,) if plan.note else ()), *notes_of_ways(task)))

    def refine(self, task: Task, z: Tensor) -> Tensor:
        z = descend(task, z, _limit(self.max_iter)).z
        return lower(task, z) if self.max_iter is None else z

    def _without_layers(self, task: Task, layered: bool) -> Hunt:
        """The hunt from the user's start, and from layers where that leaves a signal open; layers are not reported then."""
        search = lambda part, z: descend_through(part, z, _limit(self.max_iter))  # noqa: E731
        hunt = begin(task, self.z0, search, leading(task))
        if layered:
            hunt.offer("layered", self._layers_of)
        return hunt

    def _one_start(self, hunt: Hunt, starts: Starts) -> None:
        """The first start of `_search`, in few steps: what it leaves open goes on to the layers, whose turn it took."""
        if dear(hunt.task.generator):
            return self._learnt(hunt)
        count = min(self.restarts, _drawn_first(hunt.task))
        hunt.draw(starts, self._briefly(), count=count, candidates=_SOME)

    def _another(self, hunt: Hunt) -> None:
        """A second cheap start where the first left what rounding to float32 leaves: that both end alike tells enough."""
        rounded = hunt.rounded()
        if len(rounded) and not dear(hunt.task.generator):
            self._learnt(hunt, rounded)

    def _learnt(self, hunt: Hunt, index: Tensor | None = None) -> None:
        """The learnt start, in few steps, of what is open or of the signals at `index`."""
        hunt.offer("learnt start", _from_learnt(self._briefly()), index)

    def _briefly(self) -> Search:
        """A descent of few steps."""
        few = min(_FEW, _limit(self.max_iter))
        return lambda part, z: descend_through(part, z, few)

    def _first(self, hunt: Hunt, starts: Starts) -> None:
        """The learnt and the first smoothed start; what they leave far from the range has its nearest signal after that."""
        first, cheap = self._first_searches(hunt.task), not dear(hunt.task.generator)
        for k, name in enumerate(("learnt start", "smoothed start")):
            hunt.offer(name, _from_learnt(first[k]))
            if self.max_iter is None and cheap and len(hunt.open):
                search_far(hunt, far_off(hunt, first[: k + 1]), starts, max(self.restarts - 1, 0), _CANDIDATES)

    def _first_searches(self, task: Task) -> list[Search]:
        """The descents of `_first`."""
        limit = _limit(self.max_iter)
        return [self._briefly(), _near(task, min(_SHORT, limit) if dear(task.generator) else limit, SETTLED)]

    def _search(self, hunt: Hunt, starts: Starts, drawn: bool, begun: bool) -> None:
        """Learnt, smoothed and random starts for what is open; drawn, begun: whether `_one_start`, `_first` were tried."""
        limit, task = _limit(self.max_iter), hunt.task
        if not task.measurement.linear:
            return search_by_hops(hunt, starts, max(self.restarts, int(task.stated)), limit)

        settled = APART if self.max_iter is None and kinks_matter(task) else SETTLED  # `lower` leads on to the end

        def plain(part: Task, z: Tensor) -> Descent:
            return descend_through(part, z, limit, settled=settled)

        def shorter(part: Task, z: Tensor) -> Descent:
            return descend_through(part, z, limit if task.stated else min(_SHORT, limit), settled=settled)

        def wide_from(z: Tensor) -> Callable[[Task, Tensor], Descent]:
            search = _smoothly(task, each(WIDE, 4), min(_SHORT, limit), settled)
            return lambda part, index: search(part, z.to(part.y).repeat(part.N, 1))

        restarts = max(self.restarts, int(task.stated))
        if not task.stated and task.prior is None:
            search_few(hunt, starts, restarts, limit)
        early = min(restarts, _drawn_first(task))
        if not drawn:
            hunt.draw(starts, plain, count=early, candidates=_CANDIDATES)
        if not (task.stated or begun):
            self._first(hunt, starts)
        if len(hunt.open):
            _compute(hunt, limit, settled)
        if restarts > early:
            search_nearby(hunt, starts, _NEARBY[:1], min(_SHORT, limit))
        if self.max_iter is None and not task.stated and dear(task.generator) and len(hunt.open):
            far = far_off(hunt, self._first_searches(task))
            search_far_in_turn(hunt, far, starts, shorter, range(early, restarts), _CANDIDATES)
        for k in range(early, restarts):
            hunt.draw(starts, shorter, count=1, candidates=_CANDIDATES, first=k)
            # the wide view leads on from any latent; pictures that are far from all signals are better met without it
            if k % 2 and len(hunt.open) and not task.stated:
                hunt.offer(f"random start {k + 1}", wide_from(starts.latents(k * _CANDIDATES)))
        if restarts > early:
            search_nearby(hunt, starts, _NEARBY, min(_SHORT, limit), first=1)

    def _layered(self, task: Task) -> Hunt:
        """The hunt from the layered latents, with their reports."""
        start, reports = pursue(task, self.layers)
        # small damping first keeps what the layers found; a full run follows where that does not explain the signal
        found, lead_on = descend(task, start, 30, FINISH_MU), leading(task)
        found = found if lead_on is None else lead_on(task, found)
        # where a layer failed, or what the layers found was given up, the descent has found z and not they
        failed = [np.isin(column, _FAILED).any() for column in np.stack([r.solution.status for r in reports]).T]
        by = [_DESCENT if f and u else "layered" for f, u in zip(failed, task.usable.tolist(), strict=True)]
        used, spent = tuple(by), torch.zeros(task.N, dtype=torch.long)
        hunt = Hunt(task, Latents(found.z, used, spent, tuple(reports), notes_of(task, self.layers)), found.merit, lead_on)
        if len(hunt.open):
            hunt.offer(_DESCENT, lambda part, index: descend_through(part, start[index], _limit(self.max_iter)))
        return hunt

    def _layers_of(self, task: Task, index: Tensor) -> Descent:
        """The better end of the layered latents of the signals at `index`, kept near at first or not."""
        return self.take(index)._best_layered(task)

    def _best_layered(self, task: Task) -> Descent:
        (start, reports), limit = pursue(task, self.layers), _limit(self.max_iter)
        for report in reports:  # which are not kept
            task.step(report.solution.iterations)
        kept, again = descend(task, start, 30, FINISH_MU), descend_through(task, start, limit)
        better = (again.merit < kept.merit).nonzero()[:, 0]
        kept.put(better, again.take(better))
        return kept


def _limit(max_iter: int | None) -> int:
    return _MOST_ITERATIONS if max_iter is None else max_iter


def _drawn_first(task: Task) -> int:
    """How many random starts come before those that are learnt."""
    # a small generator has its answer sooner by luck; not so in noise, which a learnt start averages: it is nearer to the
    # optimum, and to a lower one
    return int(not task.stated and not dear(task.generator))


def _compute(hunt: Hunt, limit: int, settled: float) -> None:
    """Starts that are computed from y, in turn: later ones take longer, and fewer signals need them.

    Without stated noise those after `Hybrid._first`.
    """
    lesson, z = lesson_for(hunt.task), torch.zeros_like(hunt.z)
    z[hunt.open] = learnt_starts(hunt.task.take(hunt.open))
    m, stated = lesson.m.to(z), hunt.task.stated
    short = limit if stated else min(_SHORT, limit)
    near = _near(hunt.task, limit, settled)
    wide, slow = (_smoothly(hunt.task, each(scales, 1 if stated else 4), short, settled) for scales in (WIDE, NEAR))

    def shrunk(part: Task, index: Tensor) -> Descent:
        return descend(part, learnt_starts(part, SHRINKING), short, DAMPED, settled=settled)

    def through_tanh(part: Task, index: Tensor) -> Descent:
        other = squashed(part, lesson.size)
        assert other is not None
        return descend(part, descend(other, z[index], short).z, short, settled=settled)

    def learnt(part: Task, index: Tensor) -> Descent:
        return descend_through(part, z[index], limit, settled=settled)

    def smoothed(part: Task, index: Tensor) -> Descent:
        return near(part, z[index])

    def at_once(part: Task, index: Tensor) -> list[Descent]:
        return descend_from_each(part, computed(part, z[index], limit), limit, settled)

    def widened(part: Task, index: Tensor) -> Descent:
        return wide(part, m.expand_as(z[index]))

    kinds: dict[str, Search] = {"learnt start 2": shrunk, "smoothed start 2": widened}
    if stated:
        kinds |= {"smoothed start": smoothed, "learnt start": learnt}
    astray = led_astray(hunt.task, hunt.open) if stated else hunt.open[:0]
    if len(astray) and kinks_matter(hunt.task) and one_sided(hunt.task) is None:
        # when the first is offered, not before: where the time is over in them they are kept as far as they are
        ends = cache(lambda: at_once(hunt.task.take(astray), astray))
        for k, name in enumerate(COMPUTED):
            kinds[name] = _of_known(astray, lambda k=k: ends()[k], kinds[name])  # type: ignore[misc]
    for k, name in enumerate(_IN_NOISE if stated and not dear(hunt.task.generator) else kinds):
        further = astray if 0 < k < len(_IN_NOISE) - 1 else astray[:0]
        hunt.offer(name, kinds[name], torch.cat([hunt.open, further]).unique() if len(further) else None)
    if squashed(hunt.task, lesson.size) is not None:
        hunt.offer("squashed start", through_tanh)
    z = torch.full_like(z, torch.nan)
    for k in range(_HOPS):
        moved = hunt.open[(hunt.z[hunt.open] != z[hunt.open]).any(1)]  # from where it began before it would end as before
        z = hunt.z.clone()
        if len(moved):
            hunt.offer(f"smoothed start {k + 3}", lambda part, index: slow(part, hunt.z[index]), moved)


def _of_known(index: Tensor, ends: Callable[[], Descent], search: Search) -> Search:
    """`search`, whose ends for the signals at `index`, which are in order, others find."""

    def looked_up(part: Task, which: Tensor) -> Descent:
        known = torch.isin(which, index)
        found, others = ends().take(torch.searchsorted(index, which[known])), (~known).nonzero()[:, 0]
        if len(others) == 0:
            return found
        order = torch.cat([known.nonzero()[:, 0], others]).argsort()
        return Descent.joined([found, search(part.take(others), which[others])]).take(order)

    return looked_up


def _from_learnt(search: Search) -> Search:
    """`search` from the latents that are learnt."""
    return lambda part, _: search(part, learnt_starts(part))


def _near(task: Task, limit: int, settled: float) -> Search:
    """The first smoothed start, from what is learnt."""
    return _smoothly(task, BRIEF if task.stated else each(NEAR, 2), limit, settled)


def _smoothly(task: Task, scales: tuple[float, ...], limit: int, settled: float) -> Search:
    """A descent that begins with smoothed steps; as many as a start may take."""
    spread = lesson_for(task).spread

    def search(part: Task, z: Tensor) -> Descent:
        inner = (None if part.stated else before_output(part)) or one_sided(part) or part
        z = descend_smoothed(inner, z, scales[:limit], spread)
        return descend_through(part, z, limit, settled=settled)

    return search
