"""`latent_pursuit`: the layers alone (`steps/pursuit.py`), then least squares on the affine piece that they found."""

from dataclasses import dataclass
from typing import ClassVar

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..steps.debias import DEBIAS, MOST_ITERATIONS, check_debias, debiased
from ..steps.pursuit import LayerOptions, notes_of, obstacle, pursue, supports
from ..steps.starts import Starts
from ..task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentPursuit(AbstractMethod):
    """The layered inversion, with the debiasing that was asked for.

    layers: what the layers are told. debias: "piece", "gradient" or None. max_iter: steps of the gradient form.
    """

    name: ClassVar[str] = "latent_pursuit"

    layers: LayerOptions = per_signal(default_factory=LayerOptions)
    debias: str | None = DEBIAS[0]
    max_iter: int = MOST_ITERATIONS

    def __post_init__(self) -> None:
        tidy(self)
        check_debias(self.debias)
        positive(self.max_iter, "max_iter")

    def check(self, task: Task) -> None:
        self.layers.check(task)
        reason = obstacle(task, self.layers)
        if reason is not None:
            raise ValueError(f"latent_pursuit cannot invert this: {reason}. Use method='hybrid' or 'levenberg_marquardt'")

    def run(self, task: Task, starts: Starts) -> Latents:
        z, reports = pursue(task, self.layers)
        z = debiased(task, z, supports(task, reports), self.debias, self.max_iter)
        return Latents(z, ("layered",) * task.N, layers=tuple(reports), notes=notes_of(task, self.layers))
