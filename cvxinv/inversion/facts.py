"""What is known of a signal and its latent before a word is said: numbers of the verdict, the certificates, the Jacobian."""

import re
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..layers.core.certificate import certify
from ..layers.gaussian_latent import GaussianLatent
from ..layers.nonnegative_lasso import NonnegativeLasso
from . import verify
from .answer import GIVEN
from .belonging import check_generator

if TYPE_CHECKING:
    from .answer import LayerReport
    from .result import Inversion

_FLAT = 1e-6  # an output activation this flat carries nothing in float64 signals of usual size
_RANK = 1e-10  # as in `verify`
_TOUCHES = 1e-6  # as in `priors`
_NUMBER = r"(-?(?:[\d.]+(?:e[+-]?\d+)?|inf))"


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of one signal.

    active: entries of each hidden layer that are not 0; leaky: some hidden entry is negative. reach: an l2 misfit that no
    latent goes below, signal units, 0 where nothing is proved. seen: entries that were seen, None where that is not known.
    rank: of the whole signal's Jacobian; flat: share of the output's entries where an activation such as tanh is flat; both
    None without a generator.
    """

    index: int
    inversion: "Inversion"
    active: list[int]
    leaky: bool
    n0: int
    size_of_z: float
    reach: float
    seen: int | None
    rank: int | None
    flat: float | None

    def number(self, name: str) -> float:
        """A number of the verdict: misfit, size, sigma_min, sigma_max, explained_below."""
        return float(getattr(self.inversion.verdict, name)[self.index])

    @property
    def size(self) -> float:
        return self.number("size")

    @property
    def status(self) -> str:
        return str(self.inversion.status[self.index])

    @property
    def determined(self) -> bool:
        return bool(self.inversion.determined[self.index])

    @property
    def share(self) -> float:
        """misfit / |y|; inf of a signal that is 0."""
        return self.number("misfit") / self.size if self.size > 0 else inf

    @property
    def gaussian(self) -> bool:
        """Whether gaussian noise was stated, or its level estimated: z is the optimum of an objective."""
        return self.inversion.uncertainty is not None

    @property
    def prior(self) -> str:
        """The stated prior in words, "" where there is none."""
        return str(self.setting("prior") or "")

    @property
    def held(self) -> str:
        """Where z lies on the border of the prior's set, in words; "" where it does not, or the set is no few numbers."""
        z = self.inversion.z.detach().reshape(len(self.inversion), -1)[self.index].double().cpu()
        if sides := re.fullmatch(rf"Box\(lo={_NUMBER}, hi={_NUMBER}\)", self.prior):
            lo, hi = map(float, sides.groups())
            count = int(((z <= lo + _TOUCHES * (1 + z.abs())) | (z >= hi - _TOUCHES * (1 + z.abs()))).sum())
            return f"{count} of {self.n0} coordinates of z lie on the border of the box" if count else ""
        if ball := re.fullmatch(rf"Ball\(radius={_NUMBER}\)", self.prior):
            return "z lies on the border of the ball" if self.size_of_z >= float(ball[1]) * (1 - _TOUCHES) else ""
        return ""

    @property
    def largest(self) -> bool:
        """Whether the stated noise bounds the largest entry."""
        return str(self.setting("noise")).startswith("linf")

    @property
    def summed(self) -> bool:
        """Whether the stated noise bounds the sum of the absolute entries."""
        return str(self.setting("noise")).startswith("l1")

    @property
    def allowed(self) -> float:
        """The largest l2 misfit that counts as explained, signal units; inf where that is not known, or says little."""
        if self.summed:
            return inf  # one entry may hold all of it: what explains the other entries is no smaller for that
        bound = self.number("explained_below")
        if not self.largest:
            return bound
        return inf if self.seen is None else bound * self.seen**0.5

    def setting(self, name: str) -> Any:
        return self.inversion.settings.get(name)

    def layers(self, *statuses: str) -> list["LayerReport"]:
        """The layers whose certificate of this signal has one of `statuses`."""
        return [r for r in self.inversion.layers if r.solution.status[self.index] in statuses]


def gather(inversion: "Inversion", positions: list[int], generator: AbstractGenerator | None) -> list[Facts]:
    """The facts of the signals at `positions`. Raises ValueError for another generator."""
    N = len(inversion)
    z = inversion.z.reshape(N, -1).double()
    hidden = [h.reshape(N, -1) for h in inversion.hidden]
    if generator is not None:
        check_generator(inversion, generator, positions)
    reach, seen = _reach(inversion, positions, generator), _seen(inversion, positions, generator)
    # a Jacobian per latent is the dear part; where all is well its rank is known
    asked = [i for i in positions if not (inversion.determined[i] and inversion.status[i] == verify.EXPLAINED_WORD)]
    more = dict(zip(asked, _at_the_latents(generator, z[asked]), strict=True))
    return [
        Facts(
            i, inversion, [int((h[i] != 0).sum()) for h in hidden], any(bool((h[i] < 0).any()) for h in hidden),
            z.shape[1], float(z[i].norm()), reach[k], seen[k], *more.get(i, (None, None)),
        )
        for k, i in enumerate(positions)
    ]  # fmt: skip


def _reach(inversion: "Inversion", positions: list[int], generator: AbstractGenerator | None) -> list[float]:
    """A certified lower bound on every latent's misfit, signal units; 0 where there is none."""
    nothing = [0.0] * len(positions)
    if generator is None or not inversion.layers or not generator.output.linear:
        return nothing
    problem, solution = inversion.layers[0].problem, inversion.layers[0].solution
    if not isinstance(problem, NonnegativeLasso | GaussianLatent) or inversion.layers[0].remark.startswith(GIVEN):
        return nothing  # a problem of the user's own may hold other rows than the signal's
    index = torch.as_tensor(positions, device=solution.h.device)
    free = _without_penalty(problem.take(index))
    judged = certify(free, solution.h[index])
    sure = torch.isinf(judged.scope)  # elsewhere the bound is one on short h only
    return (2 * judged.bound.nan_to_num(0.0).clamp(min=0) * sure).sqrt().tolist()


def _seen(inversion: "Inversion", positions: list[int], generator: AbstractGenerator | None) -> list[int | None]:
    """How many entries were seen, as far as the inversion still knows."""
    if inversion.settings.get("measurement") in (None, "Everything"):
        return [inversion.signal.shape[-1]] * len(positions)
    if isinstance(inversion.settings.get("seen"), int):
        return [inversion.settings["seen"]] * len(positions)
    image = inversion.layers[0] if inversion.layers else None
    plain = generator is not None and generator.output.linear
    if image is None or image.problem is None or image.remark.startswith(GIVEN) or not plain:
        return [None] * len(positions)  # rows behind an activation may be fewer than the entries seen
    return [int(image.problem.rows.on[i].sum()) for i in positions]


def _without_penalty(problem: NonnegativeLasso | GaussianLatent) -> NonnegativeLasso | GaussianLatent:
    return replace(problem, lam=0.0) if isinstance(problem, NonnegativeLasso) else replace(problem, gamma=0.0)


def _at_the_latents(generator: AbstractGenerator | None, z: Tensor) -> list[tuple[int | None, float | None]]:
    """Rank of the Jacobian of the whole signal, and share of saturated outputs, per latent."""
    if generator is None:
        return [(None, None)] * len(z)
    G = generator.to(torch.float64)
    phi = G.output
    found: list[tuple[int | None, float | None]] = []
    for one in z.nan_to_num(0.0).to(G.device)[:, None]:
        values = torch.linalg.svdvals(G.linearize(one)[1][0])
        flat = float((phi.derivative(G.before_output(one)) < _FLAT * phi.unit).double().mean()) if phi.saturates else 0.0
        found.append((int((values > _RANK * values[0]).sum()), flat))
    return found
