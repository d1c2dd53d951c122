"""`latent_pursuit`: the layers alone (`steps/pursuit.py`), then least squares on the affine piece that they found."""

from dataclasses import dataclass
from typing import ClassVar

from ...batch import per_signal
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..priors import AbstractPrior
from ..steps.debias import DEBIAS, MOST_ITERATIONS, check_debias, debiased
from ..steps.idle import refuse_idle, refuse_idle_force, refuse_idle_steps
from ..steps.pursuit import LayerOptions, notes_of, obstacle, pursue, supports
from ..steps.reading import refuse_unlayered
from ..steps.starts import Starts
from ..task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentPursuit(AbstractMethod):
    """The layered inversion, with the debiasing that was asked for.

    layers: what the layers are told. debias: "piece", "gradient" or None. max_iter: steps of it at most.
    """

    name: ClassVar[str] = "latent_pursuit"
    priors: ClassVar[bool] = True

    layers: LayerOptions = per_signal(default_factory=LayerOptions)
    debias: str | None = DEBIAS[0]
    max_iter: int = MOST_ITERATIONS

    def __post_init__(self) -> None:
        tidy(self)
        check_debias(self.debias)
        positive(self.max_iter, "max_iter")
        refuse_idle_steps(self.max_iter, self.debias)

    def check(self, task: Task) -> None:
        refuse_unlayered(self.name, task)
        self.layers.check(task)
        refuse_idle_force(self.layers.force, self.layers.solver, task)
        refuse_idle(self.layers, task, only_a_start=False)
        reason = obstacle(task, self.layers)
        if reason is not None:
            raise ValueError(f"latent_pursuit cannot invert this: {reason}. Use method='hybrid' or 'levenberg_marquardt'")
        if task.prior is not None:
            self._check_prior(task, task.prior)

    def _check_prior(self, task: Task, prior: AbstractPrior) -> None:
        """Refuse a prior that the latent's layer or the debiasing knows nothing of, and options that it would overrule."""
        if prior.as_rows(task.y.new_zeros(1, task.generator.latent_dim)) is None:
            raise ValueError(
                f"latent_pursuit cannot take the prior {prior!r}, which is no rows of a layer problem; use method='hybrid'"
            )
        if self.debias == "gradient":
            raise ValueError(
                f"expected debias='piece' or None with the prior {prior!r}, got 'gradient', which descends on the misfit "
                "alone; leave debias out"
            )
        if self.layers.gamma is not None or 0 in (self.layers.layer_problems or {}):
            named = "gamma" if self.layers.gamma is not None else "a layer problem for layer 0"
            raise ValueError(f"expected one prior of z, got {prior!r} and {named}; leave one of them out")

    def run(self, task: Task, starts: Starts) -> Latents:
        z, reports = pursue(task, self.layers)
        z = debiased(task, z, supports(task, reports), self.debias, self.max_iter)
        return Latents(z, ("layered",) * task.N, layers=tuple(reports), notes=notes_of(task, self.layers))
