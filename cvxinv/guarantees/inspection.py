"""Inspection: what a generator is made of, how sparse it is, and what an inversion of it may hope for."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..generator.abstract import AbstractGenerator
from ..generator.chain import Layer, factors
from ..generator.maps import AbstractMap, Dense, syrk
from ..inputs import describe, plain_number, read_seed
from ..inversion.steps.pursuit import obstacle
from ..inversion.steps.reading import before_output
from ..inversion.task import make_task
from ..surroundings import undisturbed
from .activity import COSTLY, Activity, activity, batches

_LARGEST_SIDE = 2000  # singular values of a larger dense matrix take minutes
_MOST_WORK = 10_000_000_000  # multiplications of a Gram matrix, some seconds
_LARGE = 1_000_000  # numbers in a matrix from which its singular values are first looked for in a Gram matrix
_WELL = 1e-8  # eigenvalues of a Gram matrix above this share of the largest have six digits or more
_AGREES = 1e-5  # of |J|: how far J v of the float32 Jacobian may be from that of float64
_ROUNDED = 1e-4  # singular values of a float32 Jacobian above this share of the largest have three digits or more
_SHOWN = 24  # signals kept for a picture
_ILL = 1e6  # a condition number beyond which float32 signals no longer fix z


@dataclass(frozen=True)
class LayerInspection:
    """One layer: `activation(W h + b)` from n to m numbers.

    sigma_max, sigma_min, condition, rank: of the dense matrix of W; None where its smaller side is above 2000, or where they
    would take minutes.
    """

    index: int
    kind: str
    n: int
    m: int
    activation: str
    sigma_max: float | None
    sigma_min: float | None
    condition: float | None
    rank: int | None


@dataclass(frozen=True)
class HiddenInspection:
    """Positive entries of one hidden layer (1 is the first) over the random latents: mean and 5 / 95 % quantiles.

    never_active, always_active: units that no latent made positive, and that every one did, which are linear. carried:
    share of the output's variation that those never positive carry together, 0 to 1 or more, as they may add up to less than
    one of them; most_carried: of the one that carries most, most: its number (None where they carry nothing). Behind a ReLU
    they are 0 and carry nothing; behind a LeakyReLU they are linear.
    """

    index: int
    size: int
    activation: str
    mean: float
    q05: float
    q95: float
    never_active: int
    always_active: int
    carried: float
    most_carried: float
    most: int | None


@dataclass(frozen=True)
class GrowthCondition:
    """A condition on the numbers of nonzeros s_i under which the layered inversion is known to be unique.

    holds: for the mean; share: of the latents. Both None behind a LeakyReLU, where the condition does not apply.
    """

    name: str
    holds: bool | None
    share: float | None


@dataclass(frozen=True)
class Inspection:
    """What `inspect_generator` found.

    growth_share: share of latents for which all growth conditions hold (None where one does not apply). rank: smallest
    rank of the Jacobian of the output before its activation, over `latents` latents; condition: its median condition
    number, None where a rank is below n0. expectations: what an inversion may hope for, in words.
    """

    name: str
    latent_dim: int
    signal_dim: int
    samples: int
    latents: int
    seed: int
    layers: tuple[LayerInspection, ...]
    hidden: tuple[HiddenInspection, ...]
    growth: tuple[GrowthCondition, ...]
    growth_share: float | None
    rank: int
    condition: float | None
    expectations: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything in dicts, lists, numbers and strings."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Samples:
    """The numbers behind an `Inspection`.

    generator: in float64; signals: the first few `(K, d)`; counts: positive entries per latent of each hidden layer,
    `(samples,)` each; values: singular values of the Jacobians `(latents, n0)`, largest first.
    """

    generator: AbstractGenerator
    signals: Tensor
    counts: tuple[Tensor, ...]
    values: Tensor


def inspect_generator(
    generator: AbstractGenerator, samples: int = 2000, latents: int = 12, seed: int = 0, *, progress: bool | None = None
) -> Inspection:
    """Look at a generator's layers, at its hidden layers for `samples` random latents, and at `latents` Jacobians.

    Runs in float64 on the generator's device. seed: of the random latents. progress: a bar; None shows it on a terminal.
    """
    return inspect_and_sample(generator, samples, latents, seed, progress=progress)[0]


@undisturbed
def inspect_and_sample(
    generator: AbstractGenerator, samples: int = 2000, latents: int = 12, seed: int = 0, *, progress: bool | None = None
) -> tuple[Inspection, Samples]:
    """`inspect_generator`, and the numbers behind it, for a picture."""
    if not isinstance(generator, AbstractGenerator):
        raise TypeError(f"expected a Generator, got {describe(generator)}; read it with cvxinv.load_generator(...) first")
    samples, latents = (plain_number(value) for value in (samples, latents))  # type: ignore[assignment]
    _check_counts(samples, latents)
    seed = read_seed(seed)
    G = generator.to(torch.float64)
    z = G.sample_latent(max(samples, latents), torch.Generator().manual_seed(seed))
    with tqdm(total=G.depth + samples + latents, desc="inspect", disable=None if progress is None else not progress) as bar:
        layers = tuple(_inspect_layer(k, layer, bar) for k, layer in enumerate(G.layers))
        units = activity(G, z[:samples], bar)
        values = _singular_values(G, z[:latents], bar)
    hidden, counts = (
        tuple(_inspect_hidden(k, G.layers[k - 1], unit) for k, unit in enumerate(units, 1)),
        [u.counts for u in units],
    )
    growth, share = _growth(G, counts)
    ranks = _ranks(values, G)
    full = bool((ranks == G.latent_dim).all())
    condition = float((values[:, 0] / values[:, -1]).median()) if full else None
    words = (
        _pursuit_words(G, z[:latents]),
        _growth_words(growth, share, G),
        _rank_words(ranks, condition, G),
        *_unit_words(hidden, G),
    )
    name = str(G.description.get("name", ""))
    inspection = Inspection(
        name, G.latent_dim, G.signal_dim, samples, latents, seed,
        layers, hidden, growth, share, int(ranks.min()), condition, words,
    )  # fmt: skip
    return inspection, Samples(G, G(z[:_SHOWN]), tuple(counts), values)


def _check_counts(samples: int, latents: int) -> None:
    for name, value in (("samples", samples), ("latents", latents)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"expected {name} as an integer >= 1, got {value!r}; pass e.g. samples=2000, latents=12")


def _inspect_layer(index: int, layer: Layer, bar: tqdm) -> LayerInspection:
    W = layer.W
    kind = " then ".join(type(factor).__name__ for factor in factors(W))
    bar.update(1)
    if min(W.n, W.m) > _LARGEST_SIDE:
        return LayerInspection(index, kind, W.n, W.m, repr(layer.activation), None, None, None, None)
    values = _spectrum(W)
    if values is None:
        return LayerInspection(index, kind, W.n, W.m, repr(layer.activation), None, None, None, None)
    high, low = float(values[0]), float(values[-1])
    rank = int((values > values[0] * max(W.n, W.m) * torch.finfo(values.dtype).eps).sum())
    condition = high / low if rank == min(W.n, W.m) else None
    return LayerInspection(index, kind, W.n, W.m, repr(layer.activation), high, low, condition, rank)


def _spectrum(W: AbstractMap) -> Tensor | None:
    """Singular values of W, largest first; None where that takes too long.

    A large W never becomes a matrix: its smaller side's unit vectors go through W and back. Squared, small values lose their
    digits; where they have too few, it is the matrix after all.
    """
    if min(W.n, W.m) > _LARGEST_SIDE:
        return None
    if W.n * W.m > _LARGE:
        if 2 * min(W.n, W.m) * W.work > _MOST_WORK:
            return None
        values = torch.linalg.eigvalsh(_small_gram(W)).flip(0)
        if bool(values[-1] > _WELL * values[0]):
            return values.sqrt()
    M = W.matrix()
    return torch.linalg.svdvals(M if W.m >= W.n else M.T)


def _small_gram(W: AbstractMap) -> Tensor:
    """W'W or WW', whichever is smaller."""
    if isinstance(W, Dense):
        return syrk(W.weight if W.m >= W.n else W.weight.T)
    parts = []
    for units in torch.eye(min(W.n, W.m), dtype=W.dtype, device=W.device).split(64):
        parts.append(W.adjoint(W(units)) if W.m >= W.n else W(W.adjoint(units)))
    gram = torch.cat(parts)
    return (gram + gram.T) / 2


def _inspect_hidden(index: int, layer: Layer, units: Activity) -> HiddenInspection:
    counts = units.counts
    low, high = (float(counts.quantile(q)) for q in (0.05, 0.95))
    return HiddenInspection(
        index, layer.W.m, repr(layer.activation), float(counts.mean()), low, high, int(units.never.sum()),
        int(units.always.sum()), units.share, units.alone, units.most,
    )  # fmt: skip


def _growth(G: AbstractGenerator, counts: list[Tensor]) -> tuple[tuple[GrowthCondition, ...], float | None]:
    """The growth conditions, and the share of latents for which all of them hold."""
    if not counts:
        return (), None
    relu = [layer.activation.cuts for layer in G.layers[:-1]]
    applies = [relu[0], *(a and b for a, b in pairwise(relu)), relu[-1]]
    L = len(counts)
    names = ["s_1 > n0", *(f"s_{i + 1} >= 2 s_{i}" for i in range(1, L)), f"2 s_{L} <= n"]
    of_mean, of_each = _growth_holds(G, [c.mean() for c in counts]), _growth_holds(G, counts)
    growth = tuple(
        GrowthCondition(name, bool(mean), float(each.double().mean())) if ok else GrowthCondition(name, None, None)
        for name, ok, mean, each in zip(names, applies, of_mean, of_each, strict=True)
    )
    return growth, float(torch.stack(of_each).all(0).double().mean()) if all(relu) else None


def _growth_holds(G: AbstractGenerator, s: list[Tensor]) -> list[Tensor]:
    """s_1 > n0, s_(i+1) >= 2 s_i, 2 s_L <= n for numbers of nonzeros `s`, one tensor per hidden layer."""
    return [s[0] > G.latent_dim, *(after >= 2 * before for before, after in pairwise(s)), 2 * s[-1] <= G.signal_dim]


def _singular_values(G: AbstractGenerator, z: Tensor, bar: tqdm) -> Tensor:
    """Singular values of the Jacobian of the output before its activation, `(latents, n0)`, largest first."""
    values = []
    for block in batches(z, G.widest * G.latent_dim):
        found = _jacobian_values(G, block)
        # fewer signal entries than latents: the missing singular values are 0
        values.append(torch.nn.functional.pad(found, (0, G.latent_dim - found.shape[1])))
        bar.update(len(block))
    return torch.cat(values)


def _jacobian_values(G: AbstractGenerator, z: Tensor) -> Tensor:
    """Singular values of the Jacobians at z, `(N, min(d, n0))`; in float32 first where the columns take long."""
    _, piece = G.piece(z, before_output=True)
    if G.work * G.latent_dim * len(z) > COSTLY:
        J, v = piece.single.jacobian().double(), torch.ones(len(z), 1, G.latent_dim, dtype=z.dtype, device=z.device)
        off = (v @ J.mT - piece.push(v)).norm(dim=2)
        if bool((off <= _AGREES * J.norm(dim=(1, 2))[:, None]).all()):  # else weights are out of float32's range
            found = torch.linalg.svdvals(J)
            if bool((found[:, -1] > _ROUNDED * found[:, 0]).all()):
                return found
    return torch.linalg.svdvals(piece.jacobian())


def _ranks(values: Tensor, G: AbstractGenerator) -> Tensor:
    """Numerical ranks as `torch.linalg.matrix_rank` counts them, `(latents,)`."""
    eps = torch.finfo(values.dtype).eps
    return (values > values[:, :1] * max(G.latent_dim, G.signal_dim) * eps).sum(1)


def _pursuit_words(G: AbstractGenerator, z: Tensor) -> str:
    """Whether the layers can be solved for the signals of `z`."""
    task = make_task(G, G(z))
    reason, inner = obstacle(task), before_output(task)
    if reason is None:
        through = "" if inner is None else f", read before its {type(G.output).__name__}"
        return f"latent pursuit: every layer is a convex problem that can be solved, with a certificate{through}"
    return f"latent pursuit: not possible, {reason}; the hybrid method starts from random latents"


def _growth_words(growth: tuple[GrowthCondition, ...], share: float | None, G: AbstractGenerator) -> str:
    if not G.layers:
        return "growth conditions: unknown, as no layers are"
    if not growth:
        return "growth conditions: none, there is no hidden layer"
    if share is None:
        return "growth conditions: do not apply behind other activations than ReLU, which cut nothing off"
    if all(condition.holds for condition in growth):
        return f"growth conditions: hold for the mean, and all together for {share:.0%} of the latents"
    failing = ", ".join(condition.name for condition in growth if not condition.holds)
    return f"growth conditions: {failing} does not hold for the mean; all hold for {share:.0%} of the latents"


def _rank_words(ranks: Tensor, condition: float | None, G: AbstractGenerator) -> str:
    n0, worst, short = G.latent_dim, int(ranks.min()), int((ranks < G.latent_dim).sum())
    if condition is None:
        return (
            f"z is not determined for {short} of {len(ranks)} latents: the Jacobian has rank {worst} of {n0} at the worst; "
            f"{'a whole affine piece' if G.layers else 'a curve'} of latents gives the same signal there, and no method can "
            "tell them apart"
        )
    tail = "; so ill-conditioned that float32 signals do not fix z" if condition > _ILL else ""
    return (
        f"z is determined by the whole signal: the Jacobian has rank {n0} at all {len(ranks)} latents, "
        f"median condition number {condition:.3g}{tail}"
    )


def _unit_words(hidden: tuple[HiddenInspection, ...], G: AbstractGenerator) -> list[str]:
    kinked = (h for h in hidden if G.layers[h.index - 1].activation.kinked)
    return [_words_of(h, G.layers[h.index - 1]) for h in kinked if h.never_active]


def _words_of(h: HiddenInspection, layer: Layer) -> str:
    head = f"hidden layer {h.index}: {h.never_active} of {h.size} units were never"
    if layer.activation.cuts:
        return f"{head} active and carry nothing"
    slope = layer.activation.slopes[0] if layer.activation.slopes else 1.0
    linear = f"{head} positive: always on the slope {slope:g}, they are linear"
    if h.most is None:
        return f"{linear}, and carry nothing: they do not vary, or nothing behind reads them"
    alone = "" if h.never_active == 1 else f", unit {h.most} alone {_percent(h.most_carried)}"
    return f"{linear}, and carry {_percent(h.carried)}{alone}"


def _percent(share: float) -> str:
    """Of the output's variation; more than all of it where units outweigh each other."""
    if share > 1.0005:
        return f"{share:.2g} times as much as varies"
    return "less than 0.1 % of the output's variation" if share < 0.001 else f"{100 * share:.3g} % of the output's variation"
