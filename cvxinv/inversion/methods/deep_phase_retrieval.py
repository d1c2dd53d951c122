"""`deep_phase_retrieval`: z from magnitudes y = |A G(z)|, by a descent that tests the sign of z before every step.

    minimise over z   f(z) = |(|A G(z)| - y)|^2 / 2 + sigma^2 R(z)

from random starts, by Adam or plain gradient steps (`steps/signs.py`), R where a prior is weighed. Levenberg-Marquardt with
the signs of A G(z) frozen at each step, as the pattern of its ReLUs is, ends it (`finish`): a descent leaves few digits.
Which start counts, and which sign, the misfit says: the source's code picks both by the true picture. Its runs from z and
from -z are one here, as the test takes the better of the two at once.

Source: Hand, Leong, Voroninski, "Phase retrieval under a generative prior" (2018): Algorithm 1; from their code Adam with
rate 0.01, 1,000 iterations, 5 restarts for pictures of digits. The finish is this project's.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...batch import per_signal
from ...solvers.solve import check_choice
from ..answer import Latents
from ..method import AbstractMethod
from ..options import FINISH, choice, within
from ..steps.given import begin, check_start, tidy_starting
from ..steps.newton import Descent, descend
from ..steps.signs import adam_with_signs, gradient_with_signs
from ..steps.starts import Starts
from ..task import Task

DESCENTS = ("adam", "gradient")
_RATES = {"adam": 0.01, "gradient": 1.0}
_FINISH = 100  # steps at most


@dataclass(frozen=True, eq=False, kw_only=True)
class DeepPhaseRetrieval(AbstractMethod):
    """Descents with a test of signs from random starts, the best by misfit; before them `z0`, where it is given.

    descent: "adam" or "gradient". rate: length of a step, of Adam in latent units, of "gradient" in units of 1 /
    sigma_max(J)^2 at the start; left out 0.01 and 1. max_iter: steps per start. tol: relative change of z at which a signal
    is done. restarts: random starts at most. finish: "levenberg_marquardt", which ends each, or None. z0: latents to begin
    with, or an encoder of y that gives them, as in `Hybrid`; with it restarts may be 0.
    """

    name: ClassVar[str] = "deep_phase_retrieval"
    priors: ClassVar[bool] = True

    descent: str = "adam"
    rate: float | None = None
    max_iter: int = 1000
    tol: float = 1e-9
    restarts: int = 5
    finish: str | None = FINISH[1]
    z0: object = per_signal(ndim=2, default=None)

    def __post_init__(self) -> None:
        tidy_starting(self)
        check_choice(self.descent, DESCENTS, "descent")
        if self.rate is not None:
            within(self.rate, "rate", 0, float("inf"))
            if self.rate == 0:
                raise ValueError("rate must be > 0, got 0; leave it out for the usual one")
        within(self.tol, "tol", 0, 1)
        choice(self.finish, "finish", FINISH)

    def check(self, task: Task) -> None:
        if task.measurement.linear:
            raise ValueError(
                f"deep_phase_retrieval cannot invert this: expected magnitudes, got the linear measurement "
                f"{task.measurement.name}, whose signs are seen; pass measurement=Magnitudes(...), or use method='hybrid'"
            )
        check_start(self.z0, task)

    def run(self, task: Task, starts: Starts) -> Latents:
        hunt = begin(task, self.z0, self._search)
        hunt.draw(starts, self._search, count=self.restarts)
        return hunt.answer()

    def _search(self, task: Task, z: Tensor) -> Descent:
        walk = adam_with_signs if self.descent == "adam" else gradient_with_signs
        rate = _RATES[self.descent] if self.rate is None else self.rate
        found = walk(task, z, rate=rate, max_iter=self.max_iter, tol=self.tol)
        return descend(task, found.z, _FINISH) if self.finish is not None else found

    def refine(self, task: Task, z: Tensor) -> Tensor:
        return descend(task, z, _FINISH).z if self.finish is not None else z
