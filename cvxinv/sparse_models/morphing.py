"""Morphing between two pictures within a generator's range, beside three ways that know less.

    ours         w_t, the barycenter of A and B at t in the range of G (`constrained_barycenters`): transport and prior
    linear       (1-t) A + t B, pixel by pixel: two pictures laid over each other
    latent       G((1-t) z_A + t z_B), z_A and z_B found by `invert`: the prior alone
    Wasserstein  masses displaced along the exact plan from A to B: transport alone

The pictures count as masses above a floor (`transport`): the frame at t has the mass (1-t) total_A + t total_B. At t = 0
and 1 ours are the projections of A and B, not entropic barycenters of one picture, which are blurred. For every frame it
is told how far it is from the range: |x - G(z)| at the z that `invert` finds, signal units, an upper bound on the
distance. Of ours it is that of y, the barycenter next to the frame; the frame itself is in the range.

Source: the rows that are compared are those of `sparse` notes 4.2 and 4.5, of Simon, Aberdam, "Barycenters of natural
images: constrained Wasserstein barycenters for image morphing" (2019), with `invert` in place of an encoder and a network
behind it.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal, tensor_names
from ..bitmaps import picture_shape
from ..generator.abstract import AbstractGenerator
from ..inputs import plain_number, read_numbers, read_seconds, read_seed
from ..inversion.invert import invert
from ..inversion.progress import bar
from ..inversion.result import Inversion
from ..layers.core.certificate import STATIONARY, USER_LIMIT
from ..surroundings import undisturbed
from .barycenters import Barycenters
from .constrained_barycenters import Residuals, certify_members, constrained_barycenters, without_prior
from .mass_priors import GeneratorRange, floor_of
from .morphing_files import load_morphing_fields
from .transport import MOST_PIXELS, Masses, as_masses, check_grid, displaced, require_pot, transport_plan

_MOST_FRAMES = 1000
_SOME_TIME = 0.1  # seconds that are left to what has to be done in any case


@dataclass(frozen=True, eq=False)
class Morphing(Batch):
    """Frames from A to B, `(F, d)` in signal units each, and how far each is from the range of the generator.

    t `(F,)` from 0 to 1. frame: G(z) of z `(F, n0)`. barycenter: y next to it, of the mass (1-t) total_A + t total_B above
    the floor; mass_error: what its mass is off by, of that. distance: |barycenter - frame|; linear_distance,
    wasserstein_distance: of those rows, each `(F,)` in signal units. objective, bound: of the frame's own mass, and below
    every barycenter's, px^2; transport: the objective without entropy. status: of the frame, see `constrained_barycenters`;
    explained: `verify`'s word on z. kept: the iteration that the frame is of.

    ends: the inversion of A and B. residuals: of the ADMM, of the frames between. floor, signal units; eps, px^2.
    stopped: "time_limit", or "".
    """

    t: Tensor = per_signal()
    frame: Tensor = per_signal()
    z: Tensor = per_signal()
    barycenter: Tensor = per_signal()
    distance: Tensor = per_signal()
    mass_error: Tensor = per_signal()
    objective: Tensor = per_signal()
    bound: Tensor = per_signal()
    transport: Tensor = per_signal()
    kept: Tensor = per_signal()
    status: np.ndarray = per_signal()
    explained: np.ndarray = per_signal()
    linear: Tensor = per_signal()
    wasserstein: Tensor = per_signal()
    latent: Tensor = per_signal()
    linear_distance: Tensor = per_signal()
    wasserstein_distance: Tensor = per_signal()
    ends: Inversion | None = None
    residuals: Residuals = field(default_factory=Residuals)
    shape: tuple[int, int] = (0, 0)
    floor: float = 0.0
    eps: float = 1.0
    seconds: float = 0.0
    stopped: str = ""

    def __len__(self) -> int:
        return len(self.t)

    @staticmethod
    def load(folder: str | Path) -> "Morphing":
        """Read what `write_morphing` or `cvxinv morph` wrote. Layer problems of the ends are not kept.

        Raises FileNotFoundError where a file is missing, ValueError where one is damaged or of another kind.
        """
        return Morphing(**load_morphing_fields(folder, tensor_names(Morphing)))

    def __repr__(self) -> str:
        far = ", ".join(
            f"{name} {float(value.median()):.3g}"
            for name, value in (
                ("ours", self.distance),
                ("linear", self.linear_distance),
                ("Wasserstein", self.wasserstein_distance),
            )
        )
        return f"Morphing of {len(self)} frames in {self.seconds:.1f} s; median distance to the range: {far} (signal units)"


@dataclass(frozen=True, eq=False)
class _Asked:
    generator: AbstractGenerator
    given: Masses
    signals: Tensor
    shape: tuple[int, int]
    t: Tensor
    eps: float
    restarts: int
    seed: int
    deadline: float | None

    def left(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - time.time(), _SOME_TIME)

    @property
    def total(self) -> Tensor:
        return (1 - self.t) * self.given.total[0] + self.t * self.given.total[1]

    def signal(self, x: Tensor, total: Tensor) -> Tensor:
        return self.given.floor + total[:, None] * x

    def inverted(self, signals: Tensor) -> Inversion:
        return invert(
            self.generator, signals.to(self.generator.dtype), restarts=self.restarts, seed=self.seed, on_fail="ignore",
            progress=False, time_limit=self.left(),
        )  # fmt: skip


@undisturbed
def morph(
    generator: AbstractGenerator,
    a: Tensor | np.ndarray,
    b: Tensor | np.ndarray,
    *,
    frames: int = 10,
    eps: float | None = None,
    floor: float | None = None,
    clip: bool = False,
    planner: str = "highs",
    restarts: int = 1,
    max_iter: int = 10,
    seed: int = 0,
    time_limit: float | None = None,
    progress: bool | None = None,
) -> Morphing:
    """Frames from picture `a` to picture `b` within the generator's range, beside linear, latent and Wasserstein ones.

    a, b: grey pictures of the generator's size, signal units. frames: with both ends, >= 2. eps: of the entropy, px^2; left
    out (side / 28)^2 / 2, at least 0.2. floor: the value of an empty pixel, signal units; left out the lower end of the
    generator's output, which must have one. clip: what lies below the floor in a and b counts as no mass, in place of an
    error. planner: of the exact plan, as in `transport_plan`. restarts, seed: of the inversions. max_iter: of the ADMM.
    time_limit: seconds; what is not done by then is `user_limit`. progress: a bar; None shows it on a terminal.

    Raises TypeError or ValueError for what does not fit: negative or no mass, pictures of other sizes, colours, outputs
    that may be negative; BackendNotInstalledError where POT is asked for and missing.
    """
    for name, value, least, cure in (
        ("frames", frames, 2, "both ends are frames"),
        ("restarts", restarts, 0, "0 is none"),
        ("max_iter", max_iter, 1, "10 where it is left out"),
    ):
        number = plain_number(value)
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= _MOST_FRAMES:
            raise ValueError(f"{name} must be an integer from {least} to {_MOST_FRAMES}, got {value!r}; {cure}")
    seed = read_seed(seed)
    if planner == "pot":
        require_pot()
    limit = None if time_limit is None else time.time() + read_seconds(time_limit, "time_limit", "leave it out", "> 0")
    started, given, signals, shape = time.perf_counter(), *_read(generator, a, b, floor, clip)
    usual = max(0.2, 0.5 * (max(shape) / 28) ** 2)
    t = torch.linspace(0, 1, frames, dtype=torch.float64, device=given.x.device)
    asked = _Asked(generator, given, signals, shape, t, usual if eps is None else eps, restarts, seed, limit)
    problem = _problem(asked)  # its checks, before any arithmetic
    with bar(max_iter + 3, "morph", progress) as shown:
        found = _morph(asked, problem, transport_plan(given.x[0], given.x[1], shape, planner), max_iter, shown)
    return replace(found, seconds=time.perf_counter() - started)


def _read(
    generator: AbstractGenerator, a: Any, b: Any, floor: float | None, clip: bool
) -> tuple[Masses, Tensor, tuple[int, int]]:
    low = floor_of(generator, floor)
    a, b = (read_numbers(value, name, generator.device, "f") for name, value in (("picture A", a), ("picture B", b)))
    if a.shape != b.shape:
        raise ValueError(
            f"expected two pictures of one size, got {tuple(a.shape)} and {tuple(b.shape)}; scale one to the other's size"
        )
    grid = picture_shape(generator.signal_shape)
    if grid is None or grid[0] != 1:
        raise ValueError(
            f"expected a generator of grey pictures, got signals of shape {tuple(generator.signal_shape)}; colours are not "
            "morphed: pass one whose signals have the shape (height, width) or (1, height, width)"
        )
    if grid[1] * grid[2] > MOST_PIXELS:
        raise ValueError(
            f"expected a generator of pictures of at most {MOST_PIXELS} pixels, got {grid[1]} x {grid[2]}; pass one that "
            "draws smaller pictures"
        )
    if a.numel() != generator.signal_dim:
        raise ValueError(f"expected pictures of {generator.signal_dim} pixels as the generator's, got {tuple(a.shape)}")
    signals = torch.stack([a.reshape(-1), b.reshape(-1)]).double()
    shape = check_grid((grid[1], grid[2]), generator.signal_dim)
    return as_masses(signals, low, clip=clip, names="AB"), signals, shape


def _problem(asked: _Asked) -> Barycenters:
    x = asked.given.x[None].expand(len(asked.t), -1, -1).clone()
    return Barycenters(x, torch.stack([1 - asked.t, asked.t], 1), asked.shape, asked.eps)


def _morph(asked: _Asked, problem: Barycenters, plan: Tensor, max_iter: int, shown: Any) -> Morphing:
    t, total, given = asked.t, asked.total, asked.given
    ends = asked.inverted(asked.signals)
    shown.update()
    z_a, z_b = ends.z.double()
    latent = asked.generator(torch.lerp(z_a, z_b, t[:, None]).to(ends.z)).double().reshape(len(t), -1)
    linear = torch.lerp(asked.signals[0], asked.signals[1], t[:, None])
    wasserstein = asked.signal(displaced(plan, asked.shape, t), total)
    others = asked.inverted(torch.cat([linear, wasserstein]))
    shown.update()
    away = (torch.cat([linear, wasserstein]) - others.signal.double()).norm(dim=1)
    # A and B themselves stand at the ends: there inverted once
    w_ends = (ends.signal.double() - given.floor) / given.total[:, None]
    found = _Frames(
        given.x, w_ends, ends.z, ends.verdict.status, np.array([STATIONARY] * 2, dtype=object), torch.zeros(2).long()
    )
    residuals, stopped = Residuals(), ""
    plain = without_prior(problem)
    if len(t) > 2:
        prior = GeneratorRange(asked.generator, total[1:-1], given.floor, asked.restarts, asked.seed)
        inner = constrained_barycenters(
            problem.take(slice(1, -1)),
            prior,
            plain=plain.take(slice(1, -1)),
            max_iter=max_iter,
            time_limit=asked.left(),
            told=lambda k: shown.update(),
        )
        residuals, stopped = inner.residuals, inner.stopped
        between = _Frames(inner.y, inner.w, inner.known.z, inner.known.verdict.status, inner.status, inner.kept)
        found = _Frames.joined([found.take(slice(0, 1)), between, found.take(slice(1, 2))])
    certificate = certify_members(problem, found.w, plain)
    shown.update()
    late = asked.deadline is not None and time.time() > asked.deadline
    frame, barycenter = asked.signal(found.w, total), asked.signal(found.y, total)
    status = np.full(len(t), USER_LIMIT, dtype=object) if late else found.status
    return Morphing(
        t=t, frame=frame, z=found.z, barycenter=barycenter, distance=(barycenter - frame).norm(dim=1),
        mass_error=((barycenter - given.floor).sum(1) - total).abs() / total, objective=certificate.objective,
        bound=certificate.bound, transport=certificate.transport, kept=found.kept, status=status,
        explained=found.explained, linear=linear, wasserstein=wasserstein, latent=latent, linear_distance=away[: len(t)],
        wasserstein_distance=away[len(t) :], ends=ends, residuals=residuals, shape=asked.shape, floor=given.floor,
        eps=float(asked.eps), stopped="time_limit" if late else stopped,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Frames(Batch):
    y: Tensor = per_signal()
    w: Tensor = per_signal()
    z: Tensor = per_signal()
    explained: np.ndarray = per_signal()
    status: np.ndarray = per_signal()
    kept: Tensor = per_signal()
