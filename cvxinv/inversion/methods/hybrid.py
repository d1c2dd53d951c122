"""`hybrid`: layered start where the layers allow one, then Levenberg-Marquardt from it, then random starts.

A layered start is convex and needs no luck; Levenberg-Marquardt repairs what a wrong support left; random starts, each the
best of a hundred latents, are for the signals that neither explains.

Under gaussian noise there is an objective whose optimum is asked for, and noise leaves little of a layered start: random
starts come first, the prior's centre among the latents, and hops to lower optima near by last (`steps/hops.py`).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..steps.debias import FINISH_MU
from ..steps.hops import hop
from ..steps.newton import Descent, descend, descend_through
from ..steps.pursuit import LayerOptions, notes_of, obstacle, pursue
from ..steps.starts import Starts, nothing_yet, try_starts
from ..task import Task

_CANDIDATES = 100  # latents that a random start is the best of
_MOST_ITERATIONS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Hybrid(AbstractMethod):
    """Layers, then Levenberg-Marquardt, then random starts for what is not explained; see the module.

    layers: what the layers are told. max_iter: steps per start; left out 100, and signals that are not explained go on to
    a local optimum. restarts: random starts at most, each the best of 100 latents.
    """

    name: ClassVar[str] = "hybrid"
    priors: ClassVar[bool] = True

    layers: LayerOptions = per_signal(default_factory=LayerOptions)
    max_iter: int | None = None
    restarts: int = 10

    def __post_init__(self) -> None:
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

    def run(self, task: Task, starts: Starts) -> Latents:
        limit = _MOST_ITERATIONS if self.max_iter is None else self.max_iter

        def search(part: Task, z: Tensor) -> Descent:
            return descend_through(part, z, limit)

        if task.stated:
            note = "no layered start: gaussian noise asks for an optimum, which is sought from random starts"
            found, merit = replace(nothing_yet(task), notes=(note,)), None
        else:
            found, merit = self._by_layers(task, limit)
        # whoever sets a limit means it
        found = try_starts(
            task, found, starts, search, count=max(self.restarts, int(task.stated)), candidates=_CANDIDATES, merit=merit,
            settle=self.max_iter is None,
        )  # fmt: skip
        return replace(found, z=hop(task, found.z)) if task.stated and self.max_iter is None else found

    def _by_layers(self, task: Task, limit: int) -> tuple[Latents, Tensor | None]:
        """The layered latents after Levenberg-Marquardt, and their merit; where no layered start is possible, why."""
        reason = obstacle(task, self.layers)
        if reason is not None:
            return replace(nothing_yet(task), notes=(f"no layered start: {reason}",)), None
        start, reports = pursue(task, self.layers)
        # small damping first keeps what the layers found; a full run follows where that does not explain the signal
        found = descend(task, start, 30, FINISH_MU)
        z, merit = found.z, found.merit
        open_ = (~task.explained(z, found.misfit)).nonzero()[:, 0]
        if len(open_):
            again = descend_through(task.take(open_), start[open_], limit)
            better = again.merit < merit[open_]
            z[open_[better]], merit[open_[better]] = again.z[better], again.merit[better]
        spent = torch.zeros(task.N, dtype=torch.long)
        return Latents(z, ("layered",) * task.N, spent, tuple(reports), notes_of(task, self.layers)), merit
