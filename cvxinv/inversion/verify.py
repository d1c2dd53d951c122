"""`verify`: the one judge of whole inversions. It takes any z, runs in float64, and believes nobody."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..generator.abstract import AbstractGenerator
from ..inputs import read_numbers
from ..lengths import lengths
from ..surroundings import undisturbed
from .level import at_level, check_level, doubts, estimated
from .outlook import Outlook
from .steps.kinked import Place, descend_kinked, kinks_matter
from .steps.least_absolute import descend_absolute
from .steps.minimax import lowered_near
from .steps.newton import descend, extreme_singular_values
from .task import EXPLAINED, Task, make_task
from .uncertainty import Uncertainty, uncertainty_at

EXPLAINED_WORD = "explained"
STATIONARY = "stationary"
USER_LIMIT = "user_limit"
NUMERICAL_ERROR = "numerical_error"
INVERSION_STATUSES = (EXPLAINED_WORD, STATIONARY, USER_LIMIT, NUMERICAL_ERROR)

_FEW, _MU, _MET = 12, 1e-3, 1e-14  # steps that may show that z is no optimum, their damping, a merit that none can lower
_GAIN = 1e-6  # of the merit: what a step must lower it by to be one
# to a local optimum in the norm that noise is stated in, where that is not l2
STATED_LEAST: dict[str, Callable[[Task, Tensor], Tensor]] = {
    "linf": lowered_near,
    "l1": lambda task, z: descend_absolute(task, z).z,
}
_LEAST_PRODUCT = 1e-304  # of a Jacobian's entry and a misfit, or another entry
_RANK = 1e-10  # sigma_min > this times sigma_max counts as full column rank


@dataclass(frozen=True, eq=False)
class Verdict(Batch):
    """What a latent says about its signal, `(N,)` each, float64, on the CPU wherever the generator is.

    misfit: |A G(z) - y|, l2, signal units. size: |y| of what was seen. status: `explained` (misfit within the stated noise,
    or within 1e-8 |y| without one; 1e-6 |y| for signals that came in float32), `stationary` (a local optimum that does not
    explain it: no damped Gauss-Newton step from z lowers `Task.merit`, which is the misfit where no prior is weighed, by
    1e-6 of itself; where noise is stated in linf or l1, no steps on what exceeds less, or reweighted ones, lower the misfit
    in that norm by as much), `user_limit` (such a step does: somebody stopped too early), `numerical_error` (z or the signal
    is no number, or both misfit and slopes are so small that their products are 0). Under gaussian noise, where an optimum
    of the stated objective is asked for, `explained` is one whose misfit is below sigma times the square root of the 99.9 %
    quantile of chi-squared with as many degrees of freedom as entries were seen; what is none is `user_limit`, and so is a
    z outside the prior's set, whatever the noise. determined: the Jacobian of what was seen has full column rank at z, the
    prior aside. sigma_min, sigma_max: its extreme singular values, signal / latent units. explained_below: the misfit up to
    which the signal is explained, in the norm of the noise.
    """

    misfit: Tensor = per_signal()
    size: Tensor = per_signal()
    status: np.ndarray = per_signal()
    determined: Tensor = per_signal()
    sigma_min: Tensor = per_signal()
    sigma_max: Tensor = per_signal()
    explained_below: Tensor = per_signal()

    @property
    def relative_misfit(self) -> Tensor:
        """misfit / |y|, `(N,)`, no unit; of a signal that is 0, 0 where it is met and inf elsewhere."""
        exact = (self.size == 0) & (self.misfit == 0)
        return torch.where(exact, torch.zeros_like(self.misfit), self.misfit / self.size)

    @property
    def explained(self) -> Tensor:
        """Whether the status is `explained`, bool `(N,)`."""
        return torch.from_numpy(self.status == EXPLAINED_WORD)

    def __len__(self) -> int:
        return len(self.status)

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        return {s: int((self.status == s).sum()) for s in INVERSION_STATUSES if (self.status == s).any()}

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        undetermined = int((~self.determined).sum())
        tail = f"; z not determined for {undetermined}" if undetermined else ""
        return (
            f"Verdict on {len(self)} signals: {words}; median misfit {float(self.relative_misfit.nanmedian()):.1e} |y|{tail}"
        )


@undisturbed
def verify(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    z: Tensor | np.ndarray,
    *,
    measurement: object = None,
    noise: object = None,
    prior: object = None,
) -> Verdict:
    """Judge anybody's latents: does G(z) explain what was seen, is z a local optimum, is it determined?

    y: `(N, k)` or one signal; z: `(N, n0)` or `(n0,)`; measurement, noise, prior: as in `invert`. noise="auto" judges by the
    level that z itself leaves over, and by what else `level` asks for; to judge by the level of another answer, state it:
    noise=("gaussian", result.uncertainty.sigma). Runs in float64 on the generator's device. Raises TypeError or ValueError
    for input that does not fit.
    """
    task = make_task(generator, y, measurement, noise, prior)
    z = read_numbers(z, "latents z", generator.device, "fi")
    z = z[None] if z.ndim == 1 else z
    if z.shape != (task.N, generator.latent_dim):
        raise ValueError(
            f"expected z of shape ({task.N}, {generator.latent_dim}), got {tuple(z.shape)}; pass one latent per signal"
        )
    check_level(task)
    return judge(at_level(task, z), z)


def judge(task: Task, z: Tensor) -> Verdict:
    """`verify` for a checked task whose level is known."""
    return judge_and_measure(task, z, False)[0]


def judge_and_measure(task: Task, z: Tensor, measured: bool = True) -> tuple[Verdict, Uncertainty | None]:
    """`judge`, and beside it how far z may be off where the noise is gaussian; from the same Jacobians.

    measured: whether that is asked for.
    """
    task, z = task.to(torch.float64), z.double()
    finite, measured = torch.isfinite(z).all(1) & task.usable, measured and task.stated
    z = torch.where(finite[:, None], z, torch.zeros_like(z))
    parts, off = [], list[Uncertainty]()
    for block in task.blocks():
        part, its = task.take(block), z[block]
        if measured:
            outlook = Outlook.at(part, its)
            off.append(uncertainty_at(part, its, finite[block], outlook))
            parts.append(_judge_block(part, its, outlook.r, outlook.R, _extremes(outlook)))
        else:
            r, J = part.linearize(its)
            parts.append(_judge_block(part, its, r, J, extreme_singular_values(J)))
    return _verdict(task, z, finite, parts), Uncertainty.joined(off) if measured else None


def _verdict(task: Task, z: Tensor, finite: Tensor, parts: list[tuple[Tensor, ...]]) -> Verdict:
    misfit, explained, stationary, low, high, blind = map(torch.cat, zip(*parts, strict=True))
    limit = task.limit
    if estimated(task):
        precision, doubted = EXPLAINED[task.born] * task.size, doubts(task, z)
        precise = finite & (misfit <= precision) & _inside(task, z)
        stationary, explained = stationary | (explained & doubted), (explained & ~doubted) | precise
        # of a doubted signal no noise is known that could explain it
        limit = torch.maximum(precision, torch.where(doubted, torch.zeros_like(limit), limit))
    status = np.full(task.N, USER_LIMIT, dtype=object)
    status[stationary.cpu().numpy()] = STATIONARY
    status[explained.cpu().numpy()] = EXPLAINED_WORD
    status[(~finite | (blind & ~explained)).cpu().numpy()] = NUMERICAL_ERROR
    nan = torch.where(finite, 0.0, torch.nan)
    return Verdict(
        (misfit + nan).cpu(), task.size.cpu(), status.astype("<U16"), ((low > _RANK * high) & finite).cpu(),
        low.cpu(), high.cpu(), limit.cpu(),
    )  # fmt: skip


def _extremes(outlook: Outlook) -> tuple[Tensor, Tensor]:
    """`extreme_singular_values` of the Jacobian of what was seen, where all of them are known."""
    s, _ = outlook.svd
    return s[:, -1], s[:, 0]


def _judge_block(task: Task, z: Tensor, r: Tensor, J: Tensor, extremes: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Misfit, explained, stationary, extreme singular values, and of which no step can be told, `(N,)` each.

    r: the residual at z. J: the Jacobian, or an R with R'R = J'J. extremes: its extreme singular values.
    """
    low, high = extremes
    misfit, explained = lengths(r), task.met(r)
    optimal, inside = torch.zeros_like(explained), _inside(task, z)
    # gaussian noise asks for an optimum; where a bound is stated, whatever meets it will do
    open_ = (inside & (~explained | task.stated)).nonzero()[:, 0]
    if len(open_) and task.noise is not None and task.noise.norm in STATED_LEAST:
        part, found = task.take(open_), task.stated_length(r)[open_]
        end = STATED_LEAST[task.noise.norm](part, z[open_])
        optimal[open_] = part.stated_length(part.residual(part.generator(end))) >= (1 - _GAIN) * found
    elif len(open_):
        merit, part = task.merit(z, misfit)[open_], task.take(open_)
        # beside the noise of one entry a gain is none, either
        unit = torch.maximum(merit, part.noise.bound) if part.noise is not None and part.stated else merit
        optimal[open_] = _reached(part, z[open_], J[open_]) >= merit - _GAIN * unit
    # products of numbers so small are 0: no gradient is left that would show a step
    slope = J.abs().amax((1, 2)) if J.numel() else torch.zeros_like(misfit)
    blind = (task.size > 0) & (misfit > 0) & (slope > 0) & (torch.minimum(misfit, slope) * slope < _LEAST_PRODUCT)
    return misfit, explained & inside & (optimal | (not task.stated)), optimal & ~explained, low, high, blind


def _reached(task: Task, z: Tensor, J: Tensor) -> Tensor:
    """The merit that a few steps from z reach, `(N,)`; J: the Jacobian there, or an R with R'R = J'J."""
    if not kinks_matter(task):
        return descend(task, z, max_iter=_FEW, exact=True).merit
    return descend_kinked(task, Place.at(task, z, _MU, J.mT @ J + task.prior_curvature(z), own=True), _FEW, _MET).view.merit


def _inside(task: Task, z: Tensor) -> Tensor:
    """Whether z lies in the prior's set to its own rounding, `(N,)`."""
    if task.prior is None:
        return torch.ones(task.N, dtype=torch.bool, device=z.device)
    rounding = torch.finfo(torch.float32 if task.born == torch.float32 else torch.float64).eps
    return (task.prior.project(z) - z).abs().amax(1) <= 4 * rounding * (1 + z.abs().amax(1))
