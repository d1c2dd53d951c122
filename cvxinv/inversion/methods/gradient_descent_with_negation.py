"""`gradient_descent_with_negation`: plain gradient descent that turns to -z wherever that explains more.

    z <- -z  where f(-z) < f(z),    then    z <- z - step J(z)'A'(A G(z) - y),        f(z) = 1/2 |A G(z) - y|^2

Of random ReLU layers without biases that expand enough, f has a direction of descent everywhere but near the true z and near
-rho z, rho in (0, 1), which is a worse basin; at z = 0, a local maximum, no unit is on and nothing moves. The test leads out
of the worse basin at the price of one more pass forward. sign_test "always" is before every step, "settled" only where the
descent has ended; it goes on from -z then. Behind biases, trained weights or a smooth activation nothing is known of a
basin opposite: there -z is one more start, and a note says so.

step left out is 1 / (2 max(|A J(z0)|^2, |A J(-z0)|^2)), estimated for each signal at its start and halved where it leads
away (`steps/guarded.py`). It follows the scale of the weights as the source's K 2^d / d^2 for entries N(0, 1/m), K / d^2 for
N(0, 2/m), do, whose K is not given: for k-500-1500, N(0, 2/m), it is 0.2 to 0.4. A step that was asked for is held. A signal
is done where |z_next - z| <= tol |z|; the best z that was met is kept.

Source: Heckel, Huang, Hand, Voroninski, "Deep denoising: rate-optimal recovery of structured signals with a deep prior"
(2018), Algorithm 1, read in its text; Huang, Heckel, Hand, Voroninski, "A provably convergent scheme for compressive sensing
under random generative priors" (2018) for A; the landscape: Hand, Voroninski (2017). Derived here: the default step.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ...lengths import lengths
from ...solvers.solve import check_choice
from ..answer import Latents
from ..method import AbstractMethod
from ..options import check_step, within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.gradient import gradient
from ..steps.guarded import HALVE, HOLD, Guarded, bearable, stretch
from ..steps.homogeneous import beyond
from ..steps.newton import Descent
from ..steps.signs import tested
from ..steps.starts import Starts
from ..steps.walking import walk
from ..task import Task

SIGN_TESTS = ("always", "settled")
_SHARE = 0.5  # of 1 / |A J|^2: what |A J| may grow by on the way is not known
_TURNS = 5  # descents at most where the sign is tested after each: from the two basins of the theory one more is enough


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientDescentWithNegation(AbstractMethod):
    """Gradient descent with negation from random starts, the best by misfit; before them `z0`, where it is given.

    step: None or a number, latent^2 / signal^2 units, see the module. sign_test: "always" or "settled". max_iter: steps per
    descent. tol: relative change of z at which a signal is done. restarts: random starts at most. z0: latents to begin with,
    or an encoder of y that gives them, as in `Hybrid`; with it restarts may be 0. A z0 of 0 that nothing moves is left for
    the first random latent.
    """

    name: ClassVar[str] = "gradient_descent_with_negation"

    step: float | None = None
    sign_test: str = SIGN_TESTS[0]
    max_iter: int = 2000
    tol: float = 1e-13
    restarts: int = 1
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        within(self.tol, "tol", 0, 1)
        check_step(self.step)
        check_choice(self.sign_test, SIGN_TESTS, "sign_test")

    def check(self, task: Task) -> None:
        check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        turned = list[Tensor]()

        def search(part: Task, z: Tensor) -> Descent:
            found, negations = self._descend(part, _away_from_0(part, z, starts))
            turned.append(negations)
            return found

        hunt = begin(task, self.z0, search)
        hunt.draw(starts, search, count=self.restarts)
        return hunt.answer(_notes(task, torch.cat(turned) if turned else torch.zeros(0)))

    def _descend(self, task: Task, z: Tensor) -> tuple[Descent, Tensor]:
        if self.step is None:
            step = _SHARE * bearable(task, torch.maximum(stretch(task, z), stretch(task, -z)))
        else:
            step = torch.full_like(task.size, self.step)
        held = self.step is not None
        descend = descend_with_negation if self.sign_test == "always" else negate_after_descent
        return descend(task, z, step, max_iter=self.max_iter, tol=self.tol, held=held)


@dataclass(frozen=True, eq=False)
class _Turning(Guarded):
    """A guarded place that knows the signal's number, `(N,)`."""

    which: Tensor = per_signal()


def descend_with_negation(
    task: Task, z: Tensor, step: Tensor, *, max_iter: int, tol: float, held: bool
) -> tuple[Descent, Tensor]:
    """The descent from `z` `(N, n0)` with steps `(N,)`, held or halved where they lead away, and its negations `(N,)`."""
    guard, negations = HOLD if held else HALVE, torch.zeros(task.N, dtype=torch.long, device=z.device)

    def rule(part: Task, at: _Turning, _: int) -> tuple[_Turning, Tensor]:
        test = tested(part, at.z)
        negations[at.which[test.turned]] += 1
        return replace(at, z=test.z).moved(test.there, test.g, guard), test.merit

    start = _Turning(**vars(Guarded.at(z, step)), which=torch.arange(task.N, device=z.device))
    return walk(task, start, rule, max_iter=max_iter, tol=tol), negations


def negate_after_descent(
    task: Task, z: Tensor, step: Tensor, *, max_iter: int, tol: float, held: bool
) -> tuple[Descent, Tensor]:
    """The same with the sign tested where a descent has ended, from -z on where that is lower."""
    guard, negations = HOLD if held else HALVE, torch.zeros(task.N, dtype=torch.long, device=z.device)

    def rule(part: Task, at: Guarded, _: int) -> tuple[Guarded, Tensor]:
        misfit, g = gradient(part, at.z)
        return at.moved(misfit, g, guard), misfit

    best = walk(task, Guarded.at(z, step), rule, max_iter=max_iter, tol=tol)
    for _ in range(_TURNS):
        turned = (task.misfit(-best.z) < best.merit).nonzero()[:, 0]
        if len(turned) == 0 or (task.progress.deadline is not None and task.progress.late()):
            break
        negations[turned] += 1
        start = Guarded.at(-best.z[turned], step[turned])
        again = walk(task.take(turned), start, rule, max_iter=max_iter, tol=tol)
        best.put(turned, replace(again, steps=again.steps + best.steps[turned]))
    return best, negations


def _away_from_0(task: Task, z: Tensor, starts: Starts) -> Tensor:
    """z, with the first random latent where it is 0 and has no slope."""
    if bool(z.any(1).all()):
        return z
    still = ~z.any(1) & (lengths(gradient(task, z)[1]) == 0)
    return torch.where(still[:, None], starts.latents(0).to(z), z)


def _notes(task: Task, negations: Tensor) -> tuple[str, ...]:
    met = int((negations > 0).sum())
    most = f", up to {int(negations.max())} times" if met else ""
    said = f"negation: z was turned to -z in {met} of {len(negations)} descents{most}"
    why = beyond(task.generator)
    beside = f"negation is one more start here: a worse basin at -z is known of ReLU layers without biases, not of {why}"
    return (said, *([beside] if why else ()))
