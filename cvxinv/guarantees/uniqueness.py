"""`uniqueness`: is z the only latent that gives what was seen? Proved, refuted by another one, or undecided with the layer.

Asked in this order, each only of what the ones before left open:

    null space a second preimage on the piece of z, where A J has a null space (`preimages`)
    layers     phases from outside in (`layered`): all latents that give the signal agree with z layer by layer; no box; or
               one certificate for all layers together (`one_certificate`)
    elsewhere  a second preimage from random latents, by Levenberg-Marquardt
    engine     `prove` in the box: all latents that are as good lie on one affine piece, on which they are determined
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared
from ..exact.asking import Asked, read_asked
from ..exact.network import Network, as_network
from ..exact.opening import check_misfit
from ..exact.prove import proved_within
from ..exact.wide import fits
from ..generator.abstract import AbstractGenerator
from ..generator.activations import AbstractActivation
from ..generator.chain import Generator
from ..inputs import describe, plain_number, read_seconds, read_seed
from ..inversion.explain import one_position
from ..inversion.invert import invert
from ..inversion.task import EXPLAINED, Task
from ..lengths import lengths
from ..surroundings import undisturbed
from .layered import MOST_COLUMNS, MOST_DUAL, Traced, left_inverse, nonnegative_step, trace
from .local import LocalGeometry, geometry
from .one_certificate import one_certificate
from .preimages import along_the_piece, before_output_of, from_elsewhere

UNIQUE, NOT_UNIQUE, UNDECIDED = "unique", "not_unique", "undecided"
UNIQUENESS_STATUSES = (UNIQUE, NOT_UNIQUE, UNDECIDED)
LAYERS, ENGINE, NULL_SPACE, ELSEWHERE, NOTHING = "layers", "engine", "null space", "elsewhere", ""
_ROUNDING = 1e-13  # of |y|
_ULPS = 1e-15  # of an entry behind a curved output, which is rounded by itself
_NEAR = 1e-4  # of 1 + |z|: latents this close are one where some phases stay undecided
_NEAR_BY = "z is the only one near by"
_AT_A_KINK = (
    "units are at a kink at z, and as the Jacobian was not found to have full column rank on all pieces that meet there, "
    "whether z is the only one near by is not known"
)
_TOL = {torch.float64: 1e-10, torch.float32: EXPLAINED[torch.float32]}


@dataclass(frozen=True, eq=False)
class Uniqueness(Batch):
    """Whether z is the only latent of a box that gives a signal, of N signals.

    z: `(N, n0)`, the latent that is known; NaN where none gives the signal to `tol` |y|. status: `unique` (proved; where
    `undecided` is not 0 up to `radius`, no further than 1e-4 (1 + |z|) away), `not_unique` (`other` gives the same to
    1e-10 |y|), `undecided`. how: what decided: "layers" (no box needed: `everywhere`), "engine" (in the box),
    "null space", "elsewhere", "" for nothing. layer: the layer that decides: of a
    latent that is not determined, the first whose on units do not span the latent space (`depth`: the measurement); of
    one that is proved or open, the layer whose rows say least; -1 where no latent is known. other: `(N, n0)`, a second
    preimage, NaN where none. rank, smallest: of A J at z, signal / latent units; behind a curved output of which entries
    are seen, of the layer before it. isolated: whether no other latent near by gives the same, as A J has full column
    rank on all pieces that meet at z; False where that was not found. undecided: `(N, hidden layers)`, units whose phase
    may differ from z's in a latent that gives the signal. radius: of all such latents around z, `(N,)`, latent units;
    inf where that is not known. box: the latents spoken of. seconds: of all signals. tol: the relative misfit up to
    which a latent gives a signal. depth: of the generator.
    """

    z: Tensor = per_signal()
    status: np.ndarray = per_signal()
    how: np.ndarray = per_signal()
    layer: Tensor = per_signal()
    other: Tensor = per_signal()
    rank: Tensor = per_signal()
    smallest: Tensor = per_signal()
    isolated: Tensor = per_signal()
    undecided: Tensor = per_signal()
    radius: Tensor = per_signal()
    box: tuple[Tensor, Tensor] = shared()
    seconds: float = shared()
    tol: float = shared()
    depth: int = shared()

    def __len__(self) -> int:
        return len(self.status)

    @property
    def everywhere(self) -> Tensor:
        """Whether uniqueness is proved among all latents, not only those of the box, bool `(N,)`."""
        return torch.from_numpy(self.how == LAYERS)

    def counts(self) -> dict[str, int]:
        """How many signals have each status."""
        return {s: int((self.status == s).sum()) for s in UNIQUENESS_STATUSES if (self.status == s).any()}

    def explain(self, i: int = 0) -> str:
        """Signal i in words. i counts from the end where negative. Raises IndexError, TypeError."""
        i = one_position(i, len(self))
        status, layer, n0 = self.status[i], int(self.layer[i]), self.z.shape[1]
        where = "the measurement" if layer >= self.depth else f"layers[{layer}]"
        if layer < 0:
            return f"Undecided: no latent is known that gives the signal to {self.tol:g} of its length."
        if status == UNIQUE:
            among = "all latents" if self.how[i] == LAYERS else "the latents of the box"
            within = f"; all that give it lie within {float(self.radius[i]):.1e}" if self.how[i] == LAYERS else ""
            return f"Unique among {among}: proved{within}. The layer that says least is {where}."
        if status == NOT_UNIQUE:
            far = float((self.other[i] - self.z[i]).norm())
            if int(self.rank[i]) < n0:
                return (
                    f"Not unique: the Jacobian has rank {int(self.rank[i])} of {n0}, lost at {where}; another latent, "
                    f"{far:.2g} away, gives the same signal."
                )
            return f"Not unique: another latent, {far:.2g} away on another piece, gives the same signal."
        if int(self.rank[i]) < n0:
            return (
                f"Undecided: the Jacobian has rank {int(self.rank[i])} of {n0}, lost at {where}, but on the piece of z, "
                "which ends there, no second latent was found."
            )
        return (
            f"Undecided: what is known above {where} does not determine what comes to it, and no second latent was found; "
            f"{_NEAR_BY if self.isolated[i] else _AT_A_KINK}."
        )

    def __repr__(self) -> str:
        words = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return f"Uniqueness of {len(self)} latents: {words}; {self.seconds:.2f} s"


@undisturbed
def uniqueness(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    z: Tensor | np.ndarray | None = None,
    *,
    measurement: object = None,
    box: object = None,
    tol: float | None = None,
    starts: int = 4,
    time_limit: float = 10.0,
    seed: int = 0,
) -> Uniqueness:
    """Prove that z is the only latent of a box that gives y, or show another one.

    generator: a chain of ReLU, LeakyReLU and linear layers, any invertible output. y: `(N, k)` or `(k,)`, signals that some
    latent gives. z: `(N, n0)` or `(n0,)`, in the box; None asks `invert`. measurement: as in `invert`, a linear one. box: as
    in `prove`: None for |z_j| <= 3 n0^(1/2), one number, or (lowest, highest); what is proved by layers holds without it,
    second preimages lie in it. tol: of |y|, what a latent may miss y by and still gives it; None takes a z that misses by
    1e-10 (1e-6 for signals in float32), and speaks of all that miss by no more than z does. starts: random latents of `seed`
    from which a second preimage is looked for. time_limit: seconds of the engine, of all signals together; 0 leaves it out,
    and so does a stated tol: it proves nothing of latents that miss y by more than z does.

    Computes in float64. Raises TypeError or ValueError for what does not fit or nothing can be proved of.
    """
    began, seed = time.perf_counter(), read_seed(seed)
    asked = read_asked(generator, y, z, measurement=measurement, noise=None, prior=None, gap=1e-4, box=box)
    stated = None if tol is None else _read_tol(tol)
    most = _TOL[asked.task.born] if stated is None else stated
    starts, time_limit = _read_starts(starts), read_seconds(time_limit, "time_limit", "0 leaves the proof engine out")
    task = asked.task
    assert isinstance(task.generator, Generator)
    network = as_network(task.generator)
    found = _known(asked, most)
    known = found.isfinite().all(1)
    answer = _Answer.empty(task, found)
    part = known.nonzero()[:, 0]
    if len(part):
        its, at = task.take(part), found[part]
        its = before_output_of(its)
        near = geometry(its, at)
        answer.local(part, near)
        _move(answer, its, at, near, part, asked.sides, seed)
        left = answer.open(part)
        answer.layers(part[left], _traced(task.take(part[left]), network, at[left], stated))
        _look_elsewhere(answer, its, at, near, part, asked.sides, starts, seed)
        # the engine speaks of latents that are as good as z, and of none that miss y by more
        if time_limit > 0 and stated is None:
            _ask_engine(answer, task, found, asked, near.full, part, time_limit)
    return answer.done(asked.sides, time.perf_counter() - began, most)


def _read_tol(tol: object) -> float:
    tol = plain_number(tol)
    if isinstance(tol, bool) or not isinstance(tol, (int, float)):
        raise TypeError(f"expected tol as a number in (0, 1), got {describe(tol)}; pass e.g. tol=1e-10")
    if not 0 < tol < 1:
        raise ValueError(f"expected tol as a number in (0, 1), got {tol!r}; it is a share of |y|")
    return float(tol)


def _read_starts(starts: object) -> int:
    starts = plain_number(starts)
    if isinstance(starts, bool) or not isinstance(starts, int):
        raise TypeError(f"expected starts as an integer >= 0, got {describe(starts)}; pass e.g. starts=4")
    if starts < 0:
        raise ValueError(f"expected starts >= 0, got {starts}; 0 leaves that search out")
    return starts


def _known(asked: Asked, tol: float) -> Tensor:
    """Latents that give their signals, in the box; NaN where none does. Raises ValueError for given ones outside the box."""
    task, sides = asked.task, asked.sides
    z = asked.start
    if z is None:
        z = invert(task.generator, task.y, measurement=task.measurement, on_fail="ignore", progress=False).z.double()
    outside = ((z < sides[0]) | (z > sides[1])).any(1)
    if asked.start is not None and bool(outside.any()):
        k = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"expected latents in the box, got one outside for signal {k}: its largest coordinate is "
            f"{float(z[k].abs().max()):.3g}; pass a box that holds it, box={float(z.abs().max()) * 1.01:.3g}"
        )
    good = task.usable & z.isfinite().all(1) & ~outside
    z = torch.where(good[:, None], z, 0.0)
    good = good & (task.misfit(z) <= tol * _size(task))
    return torch.where(good[:, None], z, torch.nan)


def _size(task: Task) -> Tensor:
    """|y|, or |y - A b| with the output's bias where that is more: what is rounded, `(N,)`."""
    assert isinstance(task.generator, Generator)
    offset = task.measurement.observe(task.generator.layers[-1].b.expand(task.N, -1))
    return torch.maximum(task.size, lengths(task.y - offset)) if task.generator.output.linear else task.size


def _traced(task: Task, network: Network, z: Tensor, tol: float | None) -> list[Traced]:
    """What all latents that give each signal have in common: by layers, where these say too little by one certificate."""
    generator, H = task.generator, len(network.W)
    assert isinstance(generator, Generator)
    u = generator.preactivations(z)[:H]
    wide = [len(b) for b in network.b]
    if max([*wide, 0]) > MOST_COLUMNS:
        return [Traced(generator.depth - 1, torch.inf, wide)] * task.N
    seen = _Seen.of(task, network, z, tol)
    out = list[Traced]()
    for k in range(task.N):
        its = [x[k] for x in u]
        found = trace(network, its, seen.through(k))
        if found.layer >= 0 and (rows := seen.rows(k)) is not None:
            found = one_certificate(network, z[k], its, rows, 1.0) or found
        if found.layer >= 0 and (T := seen.nonnegative(k)) is not None:
            again = trace(network, its, T)
            found = again if again.layer < found.layer else found
        out.append(found)
    return out


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is seen of the last hidden layer's outputs x: rows M with |M (x' - x)| <= 1 for all that give the signal.

    weights: `(N, k)`, of the rows, 0 where nothing is seen. inverse: of rows that all signals share, None where there is
    none. one: reach of these, `(N,)`.
    """

    task: Task
    network: Network
    weights: Tensor
    x: Tensor
    inverse: Tensor | None
    known: bool

    @classmethod
    def of(cls, task: Task, network: Network, z: Tensor, tol: float | None) -> "_Seen":
        size, phi, seeing = _size(task), task.generator.output, task.measurement
        seen = seeing.seen(task.N).to(task.y.device)
        # without a word everything that is as good as z
        eps = ((task.misfit(z) if tol is None else tol * size) + 1e-300)[:, None]
        flat = phi.linear or phi.kinked
        known = flat or (phi.monotone and phi.invertible and seeing.pixelwise)
        inverse = None
        if flat:
            weights = seen / (2 * (eps + _ROUNDING * size[:, None]))
            if seeing.shared:
                inverse = left_inverse(seeing.push(network.last[None])[0])
        elif known:
            u = task.generator.before_output(z)
            reach = _reach(phi, u, task.y, eps + _ULPS * task.y.abs())
            use = seen & reach.isfinite()
            weights = torch.where(use, 1 / reach, 0.0) / use.sum(1, keepdim=True).clamp(min=1).sqrt()
        else:
            weights = torch.zeros_like(task.y)
        return cls(task, network, weights, _outputs(network, task, z), inverse, known)

    def rows(self, k: int) -> Tensor | None:
        """M of signal k, `(rows, n_H)`; None where nothing is known of them."""
        if not self.known:
            return None
        use = self.weights[k] > 0
        M = self.task.measurement.take(torch.tensor([k])).push(self.network.last[None])[0]
        return M[use] * self.weights[k, use, None]

    def through(self, k: int) -> Tensor | None:
        """T of x, `(n_H, r)`; None where the rows do not determine it."""
        if self.inverse is not None:
            return self.inverse / self.weights[k].max()
        rows = self.rows(k)
        return None if rows is None else left_inverse(rows)

    def nonnegative(self, k: int) -> Tensor | None:
        """T of an x that is a ReLU's output and not determined by its rows alone."""
        s = self.network.s
        rows = self.rows(k)
        if rows is None or not s or bool((s[-1] != 0).any()) or rows.shape[1] > MOST_DUAL or len(rows) >= rows.shape[1]:
            return None
        return nonnegative_step(rows, torch.eye(len(rows)).to(rows), self.x[k] > 0)


def _reach(phi: AbstractActivation, u: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """How far pre-activations whose values are within eps of y `(k,)` can be from u; inf where there is no end."""
    low, high = phi.range
    ends = []
    for end in (y - eps, y + eps):
        inside = (end > low) & (end < high)
        v = phi.inverse(torch.where(inside, end, torch.full_like(end, phi.middle)))
        ends.append(torch.where(inside, (v - u).abs(), torch.inf))
    return torch.maximum(*ends) + _ROUNDING * (1 + u.abs())


def _outputs(network: Network, task: Task, z: Tensor) -> Tensor:
    assert isinstance(task.generator, Generator)
    if not network.W:
        return z
    u = task.generator.preactivations(z)[len(network.W) - 1]
    return torch.maximum(u, network.s[-1] * u)


def _move(
    answer: "_Answer", task: Task, z: Tensor, near: LocalGeometry, part: Tensor, sides: tuple[Tensor, Tensor], seed: int
) -> None:
    """Second preimages along the null space of A J."""
    loose = ~near.full
    if bool(loose.any()):
        answer.others(part[loose], along_the_piece(task.take(loose), z[loose], sides, seed), NULL_SPACE)


def _look_elsewhere(
    answer: "_Answer", task: Task, z: Tensor, near: LocalGeometry, part: Tensor, sides: tuple[Tensor, Tensor],
    starts: int, seed: int,
) -> None:  # fmt: skip
    """Second preimages of what is not proved, from random latents."""
    left = answer.open(part)
    if bool(left.any()):
        smallest = torch.where(near.full, near.smallest, torch.inf)[left]
        answer.others(part[left], from_elsewhere(task.take(left), z[left], smallest, sides, starts, seed), ELSEWHERE)


def _ask_engine(
    answer: "_Answer", task: Task, z: Tensor, asked: Asked, full: Tensor, part: Tensor, time_limit: float
) -> None:
    """`prove` of what is still open and determined on its piece."""
    assert isinstance(task.generator, Generator)
    open_ = part[answer.open(part) & full]
    if not len(open_) or not fits(task.generator):
        return
    try:
        check_misfit(task)
    except ValueError:
        return
    its = task.take(open_)
    proof = proved_within(
        its.generator, its.y, z[open_], measurement=its.measurement, box=asked.sides, time_limit=time_limit
    )
    one = proof.unique & ((proof.z - z[open_]).norm(dim=1) <= _NEAR * (1 + z[open_].norm(dim=1))).cpu()
    answer.proved(open_, one.to(open_.device))


@dataclass(frozen=True, eq=False)
class _Answer:
    """What is known so far, written to in place; statuses as positions in `UNIQUENESS_STATUSES`."""

    z: Tensor
    status: Tensor
    how: list[str]
    layer: Tensor
    other: Tensor
    rank: Tensor
    smallest: Tensor
    isolated: Tensor
    undecided: Tensor
    radius: Tensor
    depth: int

    @classmethod
    def empty(cls, task: Task, z: Tensor) -> "_Answer":
        N, nan, device = len(z), torch.full_like(z, torch.nan), z.device
        assert isinstance(task.generator, Generator)
        depth, kinked = task.generator.depth, sum(layer.activation.kinked for layer in task.generator.layers)
        count = torch.zeros(N, dtype=torch.long, device=device)
        undecided = torch.zeros(N, kinked, dtype=torch.long, device=device)
        none = nan[:, 0].clone()
        return cls(
            z, count + 2, [NOTHING] * N, count - 1, nan, count.clone(), none, count > 0, undecided, none.clone(), depth
        )

    def open(self, part: Tensor) -> Tensor:
        return self.status[part] == 2

    def local(self, part: Tensor, near: LocalGeometry) -> None:
        self.rank[part], self.smallest[part], self.layer[part] = near.rank, near.smallest, near.layer
        self.isolated[part] = near.determined

    def layers(self, part: Tensor, traced: list[Traced]) -> None:
        n0 = self.z.shape[1]
        for k, it in zip(part.tolist(), traced, strict=True):
            self.undecided[k], self.radius[k] = torch.tensor(it.undecided).to(self.undecided), it.radius
            near = it.radius <= _NEAR * (1 + float(self.z[k].norm()))
            full = int(self.rank[k]) == n0
            if it.layer < 0 and (near or (full and not sum(it.undecided))):
                self.status[k], self.how[k] = 0, LAYERS
            elif full:
                self.layer[k] = min(max(it.layer, 0), self.depth - 1) if it.layer >= 0 else self.layer[k]

    def others(self, part: Tensor, other: Tensor, how: str) -> None:
        for k, it in zip(part.tolist(), other, strict=True):
            if bool(it.isfinite().all()):
                self.status[k], self.how[k], self.other[k] = 1, how, it

    def proved(self, part: Tensor, one: Tensor) -> None:
        for k in part[one].tolist():
            self.status[k], self.how[k] = 0, ENGINE
            self.undecided[k] = 0

    def done(self, sides: tuple[Tensor, Tensor], seconds: float, tol: float) -> Uniqueness:
        status = np.array([UNIQUENESS_STATUSES[k] for k in self.status.tolist()], dtype="<U12")
        return Uniqueness(
            self.z, status, np.array(self.how, dtype="<U12"), self.layer.cpu(), self.other, self.rank.cpu(),
            self.smallest.cpu(), self.isolated.cpu(), self.undecided.cpu(), self.radius.cpu(), sides, seconds, tol,
            self.depth,
        )  # fmt: skip
