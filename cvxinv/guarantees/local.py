"""What is true of a generator around one latent: its piece, how well that is determined, and how far the piece goes.

On the piece of z, where every unit keeps its phase, unit i of layer l is affine:

    u_i(z + v) = u_i + g_i'v,    g = W_l D_(l-1) W_(l-1) ... D_1 W_1,    A G(z + v) = A G(z) + A J v

so that the piece is {z + v : s_i (u_i + g_i'v) >= 0 for all i}, s_i the sign of u_i, and the distance from z to its boundary
is min |u_i| / |g_i|: a ball of that radius lies in every half-space, so the foot on the nearest hyperplane is in the piece.

Where units are at a kink, several pieces meet at z. From each a straight line leads to z, along which G is affine, so that
no latent near by gives the same if A J has full column rank on all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator, Layer
from ..generator.maps import AbstractMap, Dense
from ..generator.piece import sloped
from ..inputs import describe, read_numbers
from ..inversion.task import Task, make_task
from ..lengths import lengths
from ..measurement.given import as_measurement
from ..surroundings import undisturbed
from .cells import Cells

RANK = 1e-10  # sigma > this times sigma_max counts, as in `verify`
_MOST_PIECES = 64  # that meet at a latent and are looked at
_ROUNDING = 1e-13  # of what a pre-activation is summed of: one this near to a kink may be on either side
_TOUCHES = 1e-12  # of 1 + |z|: and so may one whose kink is this near
_BENDS = 1e-6  # of a slope: what it changes by at a kink


@dataclass(frozen=True, eq=False)
class LocalGeometry(Batch):
    """What is true around latents, `(N,)` each, float64.

    rank: of A J, the Jacobian of what was seen, on one piece: a ReLU at 0 counts as off. smallest, largest: its extreme
    singular values, signal / latent units. amplification: 1 / smallest, latent / signal units: by how much noise of length 1
    can move a least-squares z of that piece; inf without full column rank. distance: from z to the nearest face of its
    piece, latent units, exact; inf where there is none. face_layer, face_unit: the unit that switches there, -1 where there
    is none. layer: the first layer whose on units do not span the latent space any more, `depth` where only the measurement
    loses it; with full column rank, the one at which the condition number of the Jacobian grows by the largest factor.
    at_kinks: how many units are at a kink, to rounding. around: whether A J has full column rank on every piece that meets
    at z; False also where more than 64 may meet.
    """

    rank: Tensor = per_signal()
    smallest: Tensor = per_signal()
    largest: Tensor = per_signal()
    distance: Tensor = per_signal()
    face_layer: Tensor = per_signal()
    face_unit: Tensor = per_signal()
    layer: Tensor = per_signal()
    at_kinks: Tensor = per_signal()
    around: Tensor = per_signal()

    @property
    def amplification(self) -> Tensor:
        """1 / smallest, `(N,)`, latent / signal units; inf where A J does not have full column rank."""
        return torch.where(self.full, 1 / self.smallest, torch.inf)

    @property
    def full(self) -> Tensor:
        """Whether A J has full column rank on the piece of z, bool `(N,)`."""
        return self.smallest > RANK * self.largest

    @property
    def determined(self) -> Tensor:
        """Whether no other latent near by gives the same, as A J has full column rank on all pieces that meet at z, bool
        `(N,)`. Where it is False with `full`, z sits on a kink, and whether another one does is not known.
        """
        return self.full & self.around

    def __len__(self) -> int:
        return len(self.rank)

    def __repr__(self) -> str:
        return (
            f"LocalGeometry of {len(self)} latents: {int(self.determined.sum())} determined; median smallest singular value "
            f"{float(self.smallest.median()):.1e}, median distance to a face {float(self.distance.median()):.1e}"
        )


@undisturbed
def local_geometry(generator: AbstractGenerator, z: Tensor | np.ndarray, *, measurement: object = None) -> LocalGeometry:
    """Rank, singular values, and the nearest face of the piece, of each latent.

    generator: a chain of layers. z: `(N, n0)` or `(n0,)`. measurement: as in `invert`, a linear one. Computes in float64.
    Raises TypeError or ValueError for input that does not fit.
    """
    chain = read_chain(generator)
    z = read_latents(z, chain).double()
    return geometry(task_of(chain, z, measurement), z)


def read_chain(generator: object) -> Generator:
    """Raises TypeError for what is no chain of layers."""
    if not isinstance(generator, Generator):
        raise TypeError(
            f"expected a Generator, a chain of layers, got {describe(generator)}; read the network as one, "
            "cvxinv.load_generator(net)"
        )
    return generator


def read_latents(z: object, generator: AbstractGenerator) -> Tensor:
    """Finite latents `(N, n0)`. Raises TypeError or ValueError."""
    found = read_numbers(z, "latents z", generator.device, "fi")
    found = found[None] if found.ndim == 1 else found
    if found.ndim != 2 or found.shape[1] != generator.latent_dim or not len(found):
        raise ValueError(
            f"expected z of shape (N, {generator.latent_dim}), got {tuple(found.shape)}; pass one latent per signal"
        )
    if not bool(found.isfinite().all()):
        raise ValueError("expected finite latents z, got NaN or inf; leave those signals out")
    return found


def task_of(generator: Generator, z: Tensor, measurement: object) -> Task:
    """The task of what is seen of latents `(N, n0)`, in float64. Raises TypeError or ValueError for what does not fit."""
    double = generator.to(torch.float64)
    seeing = as_measurement(measurement, double.signal_dim, len(z), double.device).to(torch.float64, double.device)
    if not seeing.linear:
        raise ValueError(f"expected a measurement that is linear, got {seeing.name}; leave it out")
    return make_task(double, seeing.observe(double(z)), seeing)


def geometry(task: Task, z: Tensor) -> LocalGeometry:
    """`local_geometry` of a checked task in float64."""
    return LocalGeometry.joined([_geometry(task.take(block), z[block]) for block in task.blocks()])


def _geometry(task: Task, z: Tensor) -> LocalGeometry:
    assert isinstance(task.generator, Generator)
    N, n0 = len(z), task.generator.latent_dim
    distance = torch.full((N,), torch.inf).to(z)
    face_layer, face_unit = (torch.full((N,), -1, dtype=torch.long, device=z.device) for _ in range(2))
    conditions, before, h_in = list[Tensor](), None, z  # behind each layer, and before it
    sides = list[_Sides | None]()
    for index, (u, g, h) in enumerate(walk(task.generator, z)):
        kinks = (task.generator.layers[index].activation.pieces or ((), ()))[0]
        size = lengths(g)
        for kink in kinks:
            far = torch.where(size > 0, (u - kink).abs() / size, torch.inf)
            near = far.min(1)
            closer = near.values < distance
            distance = torch.where(closer, near.values, distance)
            face_layer = torch.where(closer, index, face_layer)
            face_unit = torch.where(closer, near.indices, face_unit)
        conditions.append(_condition(singular_values(h), n0))
        sides.append(_sides(task.generator.layers[index], h_in, u, _TOUCHES * (1 + lengths(z))[:, None] * size))
        before, h_in = h, task.generator.layers[index].activation(u)
    assert before is not None
    J = task.measurement.push(before)
    values = singular_values(J)
    smallest = values[:, -1] if J.shape[1] >= n0 else torch.zeros_like(values[:, 0])
    conditions.append(_condition(values, n0))
    table = torch.stack(conditions, 1)  # (N, depth + 1)
    growth = table / torch.cat([torch.ones_like(table[:, :1]), table[:, :-1]], 1)
    lost = table.isinf()
    layer = torch.where(lost.any(1), lost.long().argmax(1), growth.argmax(1))
    rank = (values > RANK * values[:, :1]).sum(1)
    count = sum((side.kinks.sum(1) for side in sides if side is not None), torch.zeros_like(rank))
    around = smallest > RANK * values[:, 0]
    for k in (around & (count > 0)).nonzero()[:, 0].tolist():
        around[k] = _full_around(task.take(torch.tensor([k])), [side and side.of(k) for side in sides])
    return LocalGeometry(rank, smallest, values[:, 0], distance, face_layer, face_unit, layer, count, around)


@dataclass(frozen=True, eq=False)
class _Sides:
    """Slopes of a layer's units: at their pre-activations, and a rounding below and above; `(N, m)` each."""

    here: Tensor
    below: Tensor
    above: Tensor

    @property
    def kinks(self) -> Tensor:
        """Units at a kink, bool `(N, m)`."""
        return (self.above - self.below).abs() > _BENDS * torch.maximum(self.above.abs(), self.below.abs())

    def of(self, k: int) -> "_Sides":
        return _Sides(self.here[k : k + 1], self.below[k : k + 1], self.above[k : k + 1])

    def all(self, bent: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes of one latent with units `bent` `(b,)` on all sides of their kinks, `(2^b, m)`; the sides as signs."""
        b = len(bent)
        upper = ((torch.arange(2**b)[:, None] >> torch.arange(b)) % 2 == 1).to(bent.device)
        slopes = self.here.repeat(2**b, 1)
        slopes[:, bent] = torch.where(upper, self.above[:, bent], self.below[:, bent])
        return slopes, torch.where(upper, 1.0, -1.0).to(slopes)


def _sides(layer: Layer, h: Tensor, u: Tensor, touching: Tensor) -> _Sides | None:
    """Slopes on both sides of pre-activations u of inputs h; None of what has no kinks. touching: in units of u."""
    phi = layer.activation
    if phi.linear or not phi.elementwise:
        return None
    rounding = _ROUNDING * (layer.W.magnitude()(h.abs()) + layer.b.abs()) + 1e-300
    reach = torch.maximum(rounding, touching)
    return _Sides(phi.derivative(u), phi.derivative(u - reach), phi.derivative(u + reach))


def _full_around(task: Task, sides: list[_Sides | None]) -> bool:
    """Whether A J of one latent has full column rank on every piece that meets there; False also where that are too many.

    A unit whose gradient is 0 on all of these pieces changes nothing. What lacks the rank counts unless it is no piece: no
    direction leads into it from z.
    """
    assert isinstance(task.generator, Generator)
    n0, v = task.generator.latent_dim, None  # of each piece, (pieces, n0, m)
    cones = task.y.new_zeros(1, 0, n0)  # rows that are > 0 along what leads into each piece
    for layer, its in zip(task.generator.layers, sides, strict=True):
        g = _columns(layer.W, 1) if v is None else _pushed(layer.W, v)
        if its is None and not layer.activation.linear:
            return False
        if its is None:
            v = g
            continue
        bent = (its.kinks[0] & (g != 0).any(0).any(0)).nonzero()[:, 0]
        if len(g) * 2.0 ** len(bent) > _MOST_PIECES:
            return False
        slopes, signs = its.all(bent)
        v = (g[:, None] * slopes[None, :, None]).flatten(0, 1)
        rows = (g.mT[:, None, bent] * signs[None, :, :, None]).flatten(0, 1)
        cones = torch.cat([cones.repeat_interleave(len(signs), 0), rows], 1)
    assert v is not None
    return all(
        _has_full_rank(task.measurement.push(piece[None])) or _leads_nowhere(cone)
        for piece, cone in zip(v.mT, cones, strict=True)
    )


def _has_full_rank(J: Tensor) -> bool:
    values = singular_values(J)[0]
    return J.shape[1] >= J.shape[2] and float(values[-1]) > RANK * float(values[0])


def _leads_nowhere(cone: Tensor) -> bool:
    """Whether it is proved that no direction v has cone v > 0; `(r, n0)`."""
    rows = -cone[(cone != 0).any(1)].cpu().numpy()
    at = Cells(rows, np.zeros(len(rows)), np.inf, False).place(list(range(len(rows))))
    return at.told and at.x is None


def _condition(values: Tensor, n0: int) -> Tensor:
    """Condition numbers of Jacobians from their singular values, `(N,)`; inf without full column rank."""
    low = values[:, -1]
    full = (low > RANK * values[:, 0]) & (values.shape[1] == n0)
    return torch.where(full, values[:, 0] / low, torch.inf)


def walk(generator: Generator, z: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each layer: pre-activations u `(N, m)`, their gradients g and those behind the activation, `(N, m, n0)` each.

    A ReLU at 0 counts as off.
    """
    h, v = z, None
    for layer in generator.layers:
        u = layer.W(h) + layer.b
        g = _columns(layer.W, len(z)) if v is None else _pushed(layer.W, v)
        phi = layer.activation
        slope = None if phi.linear else phi.jacobian(u)
        v = sloped(g, slope)
        yield u, g.mT, v.mT
        h = phi(u)


def _columns(W: AbstractMap, N: int) -> Tensor:
    return W.matrix().T[None].expand(N, -1, -1)


def _pushed(W: AbstractMap, v: Tensor) -> Tensor:
    return W(v) if isinstance(W, Dense) else W(v.flatten(0, 1)).unflatten(0, v.shape[:2])


def singular_values(J: Tensor) -> Tensor:
    """Singular values of `(N, k, n0)` Jacobians, largest first, `(N, min(k, n0))`; of the R of a tall one."""
    return torch.linalg.svdvals(torch.linalg.qr(J, "r").R if J.shape[1] > J.shape[2] else J)
