"""Another latent that gives the same: along the piece where J has a null space, or on another piece, from far away.

On the piece of z everything z' = z + N t, N an orthonormal null space of A J, gives the same as long as no unit changes its
phase: {t : s_i (u_i + g_i'N t) >= 0 for all units i}, a polyhedron with t = 0 in it. A unit that is 0 at z counts as off, as
in J; what lies on its other side is another piece.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared
from ..exact.asking import box_sides
from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from ..inversion.steps.newton import descend
from ..inversion.steps.starts import Starts
from ..inversion.task import Task
from ..lengths import lengths
from ..surroundings import undisturbed
from .local import RANK, read_chain, read_latents, task_of, walk
from .programs import linear_program

SAME = 1e-10  # of |y|: how far the signal of another preimage may be
APART = 1e-6  # of 1 + |z|: how far another latent is at least
_FAR = 1e-3  # of 1 + |z|: of latents found from elsewhere, at least
_FAIR = 1e-2  # of the distance times the smallest singular value: what the signals of two latents may differ by at most
_TRIED = 64  # directions in a null space, before a linear program says which
_STEPS = 60
_TOUCHES = 1e-12  # of 1 + |z|: a unit this near to its kink is at it


@dataclass(frozen=True, eq=False)
class Room:
    """The piece of one latent, cut with a box, along the null space of A J: {t : rows t <= room}.

    null: `(n0, k)`, orthonormal. rows: `(c, k)`, room: `(c,)`, >= 0 but for rounding.
    """

    z: Tensor
    null: Tensor
    rows: Tensor
    room: Tensor

    def farthest(self, source: torch.Generator) -> Tensor | None:
        """Half way along a long stretch of the piece, `(n0,)`; None where z is its only point, as far as is found."""
        k = self.null.shape[1]
        t = torch.randn(_TRIED, k, generator=source, dtype=torch.float64).to(self.z)
        t = torch.cat([t, torch.eye(k).to(t)])
        t = torch.cat([t, -t])
        t = t / t.norm(dim=1, keepdim=True)
        least = APART * (1 + float(self.z.norm()))
        speed = t @ self.rows.T  # (tried, c)
        size = self.rows.norm(dim=1)
        moves = speed > 1e-12 * size
        steps = torch.where(moves, self.room.clamp(min=0) / torch.where(moves, speed, 1.0), torch.inf).amin(1)
        best = int(steps.argmax())
        if float(steps[best]) > 4 * least:
            length = float(steps[best]) / 2
            length = min(length, 1 + float(self.z.norm()))
            return self.z + self.null @ t[best] * length
        far = self._by_program()
        if far is None or float(far.norm()) < 4 * least:
            return None
        return self.z + self.null @ far / 2

    def dimension(self) -> int:
        """Of the polyhedron: that of t, less the rows that are 0 at t = 0 and at all of its points."""
        k = self.null.shape[1]
        size = self.rows.norm(dim=1)
        rows = self.rows[self.room <= _TOUCHES * size * (1 + self.z.norm())]
        if not k or not len(rows):
            return k
        rows = rows / rows.norm(dim=1, keepdim=True)
        # in the cone of these rows one point is below 0 in all of them that can be: maximise sum s, rows t + s <= 0, s <= 1
        n = len(rows)
        A = np.hstack([rows.cpu().numpy(), np.eye(n)])
        limits = [(None, None)] * k + [(0.0, 1.0)] * n
        found = linear_program(np.append(np.zeros(k), -np.ones(n)), A_ub=A, b_ub=np.zeros(n), bounds=limits).x
        if found is None:
            return k
        still = rows[torch.from_numpy(found[k:] < 0.5).to(rows.device)]
        return k - (int(torch.linalg.matrix_rank(still)) if len(still) else 0)

    def ends(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of each coordinate of z + N t, `(n0,)` each."""
        low, high = self.z.clone(), self.z.clone()
        if self.null.shape[1]:
            programs = Programs(self.rows, self.room)
            for j in (self.null.norm(dim=1) > 1e-12).nonzero()[:, 0].tolist():
                cost = self.null[j]
                low[j] += programs.least(cost)
                high[j] -= programs.least(-cost)
        return low, high

    def _by_program(self) -> Tensor | None:
        """The vertex farthest from 0 among those that maximise +-t_j within a unit cube, `(k,)`."""
        best, programs = None, Programs(self.rows, self.room)
        for j in range(self.null.shape[1]):
            for sign in (1.0, -1.0):
                cost = np.zeros(self.null.shape[1])
                cost[j] = -sign
                t = programs.minimiser(cost, 1.0)
                if t is not None and (best is None or np.linalg.norm(t) > float(best.norm())):
                    best = torch.from_numpy(t).to(self.rows)
                if best is not None and float(best.norm()) > 0.1:
                    return best
        return best


class Programs:
    """Linear programs over one polyhedron {t : rows t <= room}."""

    def __init__(self, rows: Tensor, room: Tensor):
        size = rows.norm(dim=1).clamp(min=1e-300)
        self._A, self._b = (rows / size[:, None]).cpu().numpy(), (room.clamp(min=0) / size).cpu().numpy()

    def minimiser(self, cost: np.ndarray, cube: float | None = None) -> np.ndarray | None:
        """t that minimises cost't, with |t_j| <= cube; None where none is found."""
        limits = [(None if cube is None else -cube, cube)] * len(cost)
        found: np.ndarray | None = linear_program(cost, A_ub=self._A, b_ub=self._b, bounds=limits).x
        return found

    def least(self, cost: Tensor) -> float:
        """The least cost't, `(k,)`; -inf where there is none, also where none was found."""
        c = cost.cpu().numpy()
        found = self.minimiser(c)
        return -np.inf if found is None else float(c @ found)


def room_of(task: Task, z: Tensor, sides: tuple[Tensor, Tensor] | None) -> list[Room]:
    """The piece of each latent `(N, n0)` along its null space, within a box; float64."""
    assert isinstance(task.generator, Generator)
    rows, slack = list[Tensor](), list[Tensor]()
    steps = list(walk(task.generator, z))
    for layer, (u, g, _) in zip(task.generator.layers, steps, strict=True):
        for kink in (layer.activation.pieces or ((), ()))[0]:
            above = u > kink
            rows.append(torch.where(above[..., None], -g, g))
            slack.append((u - kink).abs())
    J = task.measurement.push(steps[-1][2])
    out = []
    for k in range(len(z)):
        null = null_space(J[k])
        every = torch.cat([part[k] for part in rows]) if rows else z.new_zeros(0, z.shape[1])
        room = torch.cat([part[k] for part in slack]) if slack else z.new_zeros(0)
        if sides is not None:
            eye = torch.eye(z.shape[1]).to(z)
            every, room = torch.cat([every, eye, -eye]), torch.cat([room, sides[1] - z[k], z[k] - sides[0]])
        along = every @ null
        moves = along.norm(dim=1) > 1e-12 * every.norm(dim=1).clamp(min=1e-300)
        out.append(Room(z[k], null, along[moves], room[moves]))
    return out


def null_space(J: Tensor) -> Tensor:
    """Orthonormal columns that span what J `(k, n0)` maps to 0 but for rounding, `(n0, n0 - rank)`."""
    _, values, Vh = torch.linalg.svd(J, full_matrices=True)
    rank = int((values > RANK * values[:1]).sum()) if len(values) else 0
    return Vh[rank:].mT


def same_signal(task: Task, z: Tensor, other: Tensor) -> Tensor:
    """Misfit between what is seen of two latents, as a share of |y|, `(N,)`; the larger of |y| and what is seen of z."""
    seen, its = task.measurement.observe(task.generator(z)), task.measurement.observe(task.generator(other))
    return lengths(its - seen) / torch.maximum(task.size, lengths(seen)).clamp(min=1e-300)


def along_the_piece(task: Task, z: Tensor, sides: tuple[Tensor, Tensor], seed: int = 0) -> Tensor:
    """A second preimage of each latent on its own piece, `(N, n0)`; NaN where none was found and verified."""
    source = torch.Generator().manual_seed(seed)
    out = torch.full_like(z, torch.nan)
    for k, room in enumerate(room_of(task, z, sides)):
        if room.null.shape[1]:
            found = room.farthest(source)
            if found is not None:
                out[k] = found
    return _verified(task, z, out, APART)


def from_elsewhere(
    task: Task, z: Tensor, smallest: Tensor, sides: tuple[Tensor, Tensor], starts: int, seed: int = 0
) -> Tensor:
    """A second preimage by Levenberg-Marquardt from random latents of the box, `(N, n0)`; NaN where none was found.

    smallest: singular value of A J at z, `(N,)`: what lies along a nearly flat direction of the same piece is none.
    """
    out = torch.full_like(z, torch.nan)
    if not starts:
        return out
    goal = replace(task, y=task.measurement.observe(task.generator(z)), prior=None, noise=None)
    drawn = Starts(task.generator, seed)
    for k in range(starts):
        left = out.isnan().any(1).nonzero()[:, 0]
        if not len(left):
            break
        start = drawn.latents(k).to(z).clamp(*sides).expand(len(left), -1)
        end = descend(goal.take(left), start, max_iter=_STEPS).z
        inside = ((end >= sides[0]) & (end <= sides[1])).all(1)
        its = task.take(left)
        end = torch.where(inside[:, None], end, torch.nan)
        end = _verified(its, z[left], end, _FAR)
        apart = lengths(end - z[left]) * smallest[left]
        seen = lengths(its.measurement.observe(task.generator(end) - task.generator(z[left])))
        out[left] = torch.where((seen < _FAIR * apart)[:, None], end, torch.nan)
    return out


def _verified(task: Task, z: Tensor, other: Tensor, apart: float) -> Tensor:
    """Latents that are others and give the same to 1e-10 of |y|; NaN for the rest."""
    good = same_signal(task, z, torch.nan_to_num(other)) <= SAME
    good = good & (lengths(other - z) >= apart * (1 + lengths(z)))
    return torch.where(good[:, None], other, torch.nan)


# --- the set of preimages around a latent ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PreimageSet(Batch):
    """The latents on the piece of each z, in a box, that give what z gives: a polytope, of N latents.

    z: `(N, n0)`. dimension: of the polytope, `(N,)`: that of the null space of A J, less what units at 0 take away; 0 is
    z alone, on its piece. low, high: `(N, n0)`, latent units: every preimage of the piece lies between them, and each
    end is reached. rank: of A J, `(N,)`. null: of each latent orthonormal columns `(n0, n0 - rank)`, along which the
    preimages lie. box: what was cut with, lowest and highest, `(n0,)` each.
    """

    z: Tensor = per_signal()
    dimension: Tensor = per_signal()
    low: Tensor = per_signal()
    high: Tensor = per_signal()
    rank: Tensor = per_signal()
    null: tuple[Tensor, ...] = per_signal()
    box: tuple[Tensor, Tensor] = shared()

    def __len__(self) -> int:
        return len(self.z)

    @property
    def width(self) -> Tensor:
        """high - low, `(N, n0)`, latent units: what is not known of each coordinate."""
        return self.high - self.low

    def __repr__(self) -> str:
        return (
            f"PreimageSet of {len(self)} latents: dimension {int(self.dimension.min())} to {int(self.dimension.max())}, "
            f"median of the widest coordinate {float(self.width.amax(1).median()):.2g}"
        )


@undisturbed
def preimage_set(
    generator: AbstractGenerator, z: Tensor | np.ndarray, *, measurement: object = None, box: object = None
) -> PreimageSet:
    """What else gives the signal of each latent, as far as its piece goes: a polytope, its dimension and an outer box.

    generator: a chain of layers. z: `(N, n0)` or `(n0,)`, in the box. measurement: as in `invert`, a linear one. box: as in
    `prove`, None for |z_j| <= 3 n0^(1/2). Two linear programs for each coordinate that is not determined. Computes in
    float64. Raises TypeError or ValueError for what does not fit.
    """
    chain = read_chain(generator)
    z = read_latents(z, chain).double()
    task = before_output_of(task_of(chain, z, measurement))
    sides = box_sides(box, task, chain.latent_dim)
    if bool(((z < sides[0]) | (z > sides[1])).any()):
        raise ValueError(f"expected latents in the box, got one of {float(z.abs().max()):.3g}; pass a box that holds it")
    rooms = [room for block in task.blocks() for room in room_of(task.take(block), z[block], sides)]
    ends = [room.ends() for room in rooms]
    dimension = torch.tensor([room.dimension() for room in rooms])
    rank = torch.tensor([chain.latent_dim - room.null.shape[1] for room in rooms])
    low, high = (torch.stack(side) for side in zip(*ends, strict=True))
    return PreimageSet(z, dimension, low, high, rank, tuple(room.null for room in rooms), sides)


def before_output_of(task: Task) -> Task:
    """The task read before a curved output that can be undone entry by entry: what it makes different is different there."""
    phi = task.generator.output
    if phi.curved and phi.invertible and phi.monotone and task.measurement.pixelwise:
        return replace(task, generator=task.generator.with_output("identity"))
    return task
