"""`out_of_range`: does any latent of a box come within eps of a signal? Proved by the engine of `prove`, or shown."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared
from ..exact.asking import read_asked
from ..exact.prove import proved_within
from ..generator.abstract import AbstractGenerator
from ..inputs import read_seconds
from ..inversion.invert import invert
from ..surroundings import undisturbed

OUT, WITHIN, UNDECIDED = "out_of_range", "within", "undecided"
_BEYOND = 1e-4  # of eps^2: how far beyond it the bound is led
_AGAIN = 4  # questions of a signal whose best latent changed


@dataclass(frozen=True, eq=False)
class OutOfRange(Batch):
    """Whether any latent of a box comes within eps of each of N signals.

    status: `out_of_range` (proved: none has a misfit of eps or less), `within` (z has), `undecided`. z: `(N, n0)`, best
    known latents. misfit: theirs, `(N,)`; bound: no latent of the box has a smaller one, `(N,)`; both in signal units
    and in the norm of the question. eps: `(N,)`. box: the latents spoken of. seconds: of all signals.
    """

    status: np.ndarray = per_signal()
    z: Tensor = per_signal()
    misfit: Tensor = per_signal()
    bound: Tensor = per_signal()
    eps: Tensor = per_signal()
    box: tuple[Tensor, Tensor] = shared()
    seconds: float = shared()

    def __len__(self) -> int:
        return len(self.status)

    @property
    def proved(self) -> Tensor:
        """Whether the signal is proved to be out of range, bool `(N,)`."""
        return torch.from_numpy(self.status == OUT)

    def explain(self, i: int = 0) -> str:
        """Signal i in words."""
        misfit, bound, eps = (float(x[i]) for x in (self.misfit, self.bound, self.eps))
        if self.status[i] == OUT:
            return f"Out of range: no latent of the box comes nearer than {bound:.4g}, and {eps:.4g} was asked for; proved."
        if self.status[i] == WITHIN:
            return f"Within range: the latent that was found is {misfit:.4g} away, {eps:.4g} was asked for."
        return (
            f"Undecided: none found nearer than {misfit:.4g}, none proved to be nearer than {bound:.4g}; more time may tell."
        )

    def __repr__(self) -> str:
        words = ", ".join(
            f"{int((self.status == s).sum())} {s}" for s in (OUT, WITHIN, UNDECIDED) if (self.status == s).any()
        )
        return f"OutOfRange of {len(self)} signals: {words}; {self.seconds:.2f} s"


@undisturbed
def out_of_range(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    eps: float | Tensor | np.ndarray,
    *,
    box: object = None,
    measurement: object = None,
    norm: str = "l2",
    time_limit: float = 60.0,
) -> OutOfRange:
    """Prove that no latent z of a box has |A G(z) - y| <= eps, or show one.

    generator, y, measurement, box: as in `prove`. eps: one number or `(N,)`, signal units, in `norm`, "l2", "linf" or "l1".
    time_limit: seconds of the engine, for each signal. Raises TypeError or ValueError for what does not fit.
    """
    began, time_limit = time.perf_counter(), read_seconds(time_limit, "time_limit", "0 leaves the proof engine out")
    asked = read_asked(generator, y, None, measurement=measurement, noise=(norm, eps), prior=None, gap=1e-4, box=box)
    task, sides = asked.task, asked.sides
    assert task.noise is not None
    limit = task.noise.bound.double().expand(task.N)
    start = invert(
        task.generator, task.y, measurement=task.measurement, noise=(norm, limit), on_fail="ignore", progress=False
    ).z.double()
    start = torch.nan_to_num(start).clamp(*sides)
    z, (misfit, bound) = start.clone(), torch.zeros(2, task.N, dtype=torch.float64)
    status = np.full(task.N, UNDECIDED, dtype="<U12")
    for k in range(task.N):
        its, at, deadline = task.take(torch.tensor([k])), start[k : k + 1], time.perf_counter() + time_limit
        for _ in range(_AGAIN):
            reached = float(its.stated_length(its.residual(its.generator(at)))[0])
            misfit[k], z[k] = reached, at[0]
            if bool(its.explained(at)[0]):
                status[k] = WITHIN
                break
            goal = (float(limit[k]) / reached) ** 2 * (1 + _BEYOND)
            proof = proved_within(
                its.generator, its.y, at, measurement=its.measurement, noise=(norm, float(limit[k])), box=sides,
                gap=min(max(1 - goal, 1e-6), 1 - 1e-9), time_limit=max(0.0, deadline - time.perf_counter()),
            )  # fmt: skip
            bound[k] = max(float(bound[k]), float(proof.bound[0]))
            if bool(proof.out_of_range[0]):
                status[k], at = OUT, proof.z
                misfit[k], z[k] = float(proof.misfit[0]), at[0]
                break
            if not bool(proof.improved[0]) or time.perf_counter() > deadline:
                break
            at = proof.z
    return OutOfRange(status, z, misfit, bound, limit.cpu(), sides, time.perf_counter() - began)
