"""When a representation with zeros between is the only one of its signal, and how far noise can lead from it.

h and h' explain the same x with E h = E h' = x, V_Z h = 0, V_Z' h' = 0, and supports S and S' of s entries each
(`sparse_models/holistic_model`).

**Enough.** d = h - h' has at most 2 s entries, E d = 0, and V_I d = 0 for the zeros I that both have. If any 2 s columns
of [E; V_I] are independent, 2 s < spark([E; V_I]), then d = 0. In general position that spark is m + |I| + 1: zeros
between admit more entries. Where cosupports are not known I has at least max(0, 2 l_i - m_i) rows of each g_i, perhaps none.

**Exactly.** That is enough and not necessary: such a d need not be a difference of two h that both have their zeros. All
h of the model are unique if and only if for every pair (S, Z), (S', Z') each (h, h') with

    V_Z h_S = 0,   V_Z' h'_S' = 0,   E h_S - E h'_S' = 0

has h = h'. Pairs are gone through: most are decided by a rank modulo a prime, which is a lower bound on the rank; where that
is s + s' - max(0, |S and S'| - |Z or Z'|) or more nothing is left but what both have in common, h = h'. The others are
eliminated in whole numbers, and where they hold an h != h' it is the witness.

**Stability.** Where |E h - y| <= eps and |E h' - y| <= eps with the same zeros Z, |h - h'| <= 2 eps / sigma, sigma the least
|E d| over d of length 1 with at most 2 s entries and V_Z d = 0.

E and V are what float64 holds of the products of the dictionaries; entries that are whole numbers are exact.

Source: the setting of Aberdam, Sulam, Elad (2018); the statements as in `sparse` note 3.2, where they are derived, and the
exact one here. The source's own theorems were not at hand.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice, product
from math import comb, inf, prod

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..inputs import describe, read_mask, read_seconds
from ..sparse_models.holistic_model import MultiLayerModel, null_spaces
from .bounds import Bounds, Witness
from .coherence import coherence
from .condition import Clause, Condition
from .dependence import subsets
from .prime_field import ranks, residues
from .rational import null_basis
from .spark import spark
from .supported import read_one
from .uniqueness import NOT_UNIQUE, UNDECIDED, UNIQUE

_MOST_PAIRS = 5_000_000  # pairs of subspaces that are gone through at most
_MOST_SETS = 100_000  # supports that are decomposed at most
_MOST_SPARKS = 50  # common cosupports whose sparks are asked for
_BLOCK = 2000
_SEED = 0

_Pair = tuple[tuple[int, ...], tuple[int, ...]]  # a support and a cosupport


@dataclass(frozen=True, eq=False)
class HolisticUniqueness:
    """status: "unique", "not_unique" or "undecided"; how: the reason in words; seconds: what it took.

    witness: two different h `(n,)` with one signal, exact fractions, where not unique. spark: what is known of the spark
    that is enough, of [E; V_I] or E. pairs: how many pairs of subspaces were gone through.
    """

    status: str
    how: str
    spark: Bounds
    witness: tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None
    pairs: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.status}: {self.how} ({self.pairs} pairs of subspaces seen; {self.spark})"

    __repr__ = __str__


def holistic_uniqueness(
    model: MultiLayerModel,
    sparsity: int,
    zeros: int | tuple[int, ...],
    *,
    time_limit: float = 10.0,
    progress: bool | None = None,
) -> HolisticUniqueness:
    """Whether no two h of `sparsity` entries and `zeros` zeros between, at any places, have one signal.

    time_limit: seconds, after which it is undecided. progress: a bar of pairs; None shows it on a terminal. Raises TypeError
    or ValueError for what does not fit.
    """
    s, limit = _read(model, sparsity, time_limit)
    counts = model.read_zeros(zeros)
    common = tuple(max(0, 2 * l - m) for l, m in zip(counts, model.between, strict=True))
    shared = _Cosupports(model, common)
    few: list[tuple[int, ...]] = [()]  # what any two have in common is no less than nothing
    few = list(shared.all()) if shared.count <= _MOST_SPARKS else few
    return _decided(model, s, few, _Cosupports(model, counts), limit, progress)


def holistic_uniqueness_at(
    model: MultiLayerModel,
    sparsity: int,
    cosupport: Tensor | np.ndarray,
    *,
    time_limit: float = 10.0,
    progress: bool | None = None,
) -> HolisticUniqueness:
    """Whether no two h of `sparsity` entries with the zeros `cosupport`, bool `(M,)`, have one signal; see above."""
    s, limit = _read(model, sparsity, time_limit)
    mask = _read_cosupport(model, cosupport)
    rows = tuple(mask.nonzero()[:, 0].tolist())
    return _decided(model, s, [rows], _Cosupports(model, (), rows), limit, progress)


def holistic_stability(
    model: MultiLayerModel, sparsity: int, cosupport: Tensor | np.ndarray, eps: float, *, time_limit: float = 10.0
) -> Condition:
    """How far two h of `sparsity` entries with the zeros `cosupport`, bool `(M,)`, can be apart, both within `eps` of y.

    bounds["h"]: 2 eps / sigma, units of h. numbers["sigma"]: `Bounds`, exact where all supports were gone through in
    `time_limit` seconds, else from below by all columns at once and by their coherence, from above by supports that were
    seen. Raises TypeError or ValueError.
    """
    s, limit = _read(model, sparsity, time_limit)
    mask = _read_cosupport(model, cosupport)
    bound = read_one(eps, "eps")
    sigma = _least_sigma(model.E.cpu(), model.unit_rows[mask].cpu(), min(2 * s, model.n), limit)
    worst = torch.tensor([inf if sigma.lower == 0 else 2 * bound / sigma.lower], dtype=torch.float64)
    return Condition(
        "Stability where the zeros between are known", (Clause.compare("0 < sigma", 0.0, sigma, 1),),
        "any two h with these zeros, at most s entries and |E h - y| <= eps are no further apart than 2 eps / sigma",
        "the zeros are known, the support is not; sigma in float64, to rounding", "setting of Aberdam, Sulam, Elad (2018)",
        "derived in the module; the source's own theorem was not at hand", {"sigma": sigma}, {"h": worst}, whole=True,
    )  # fmt: skip


def _read(model: object, sparsity: object, time_limit: object) -> tuple[int, float]:
    if not isinstance(model, MultiLayerModel):
        raise TypeError(f"expected a cvxinv.MultiLayerModel, got {describe(model)}; use MultiLayerModel((D_1, D_2))")
    s = model.read_sparsity(sparsity)
    if s == 0:
        raise ValueError("expected a sparsity of at least 1, got 0: only 0 has no entries; pass the size of supports")
    return s, read_seconds(time_limit, "time_limit", "pass e.g. 10.0")


def _read_cosupport(model: MultiLayerModel, cosupport: object) -> Tensor:
    return read_mask(cosupport, "cosupport", (len(model.V),), model.device, "pass g == 0")


# --- uniqueness -----------------------------------------------------------------------------------


def _decided(
    model: MultiLayerModel,
    s: int,
    shared: list[tuple[int, ...]],
    cosupports: "_Cosupports",
    limit: float,
    progress: bool | None,
) -> HolisticUniqueness:
    began, E, V = time.perf_counter(), model.E.cpu(), model.V.cpu()
    known = [spark(torch.cat([E, V[list(I)]]), time_limit=limit / 2 / len(shared), until=2 * s) for I in shared]
    least = min(known, key=lambda b: (b.lower, b.upper))
    count = comb(model.n, s) * cosupports.count
    total, seen = count * (count + 1) // 2, 0

    def said(status: str, how: str, witness: tuple | None = None) -> HolisticUniqueness:
        return HolisticUniqueness(status, how, least, witness, seen, time.perf_counter() - began)

    if least.lower > 2 * s:
        return said(UNIQUE, f"any {2 * s} columns of E, with the zeros that two have in common, are independent")
    if total > _MOST_PAIRS:
        return said(UNDECIDED, f"the spark is not known to be above {2 * s}, and {total} pairs are too many to go through")
    spaces = [(S, Z) for S in combinations(range(model.n), s) for Z in cosupports.all()]
    check = _Pairs(E, V, residues(E), residues(V))
    disable = None if progress is None else not progress
    with tqdm(total=total, desc="pairs of subspaces", unit="pair", disable=disable, leave=False) as bar:
        for block in _blocks(spaces):
            seen += len(block)
            for first, second in check.open(block):
                witness = check.two(first, second)
                if witness is not None:
                    return said(NOT_UNIQUE, "two of one signal, in exact arithmetic", witness)
            bar.update(len(block))
            if seen < total and time.perf_counter() - began > limit:
                return said(UNDECIDED, f"time ran out after {seen} of {total} pairs, none of which has two of one signal")
    return said(UNIQUE, "no pair of subspaces has two of one signal, all seen, in exact arithmetic")


@dataclass(frozen=True, eq=False)
class _Cosupports:
    """All sets of so many rows of each representation between; or, without counts, the one that is given."""

    model: MultiLayerModel
    counts: tuple[int, ...]
    known: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return prod(comb(m, l) for m, l in zip(self.model.between, self.counts, strict=False))

    def all(self) -> Iterator[tuple[int, ...]]:
        if not self.counts:
            return iter([self.known])
        kinds = [combinations(range(a, b), l) for (a, b), l in zip(self.model.blocks, self.counts, strict=True)]
        return (sum(rows, ()) for rows in product(*kinds))


def _blocks(spaces: list[_Pair]) -> Iterator[list[tuple[_Pair, _Pair]]]:
    pairs = ((a, b) for i, a in enumerate(spaces) for b in spaces[i:])
    while block := list(islice(pairs, _BLOCK)):
        yield block


@dataclass(frozen=True, eq=False)
class _Pairs:
    """E and V, and their residues modulo a prime."""

    E: Tensor
    V: Tensor
    E_residues: Tensor
    V_residues: Tensor

    def open(self, block: list[tuple[_Pair, _Pair]]) -> list[tuple[_Pair, _Pair]]:
        """The pairs that the prime does not decide."""
        stack = torch.stack([_system(self.E_residues, self.V_residues, a, b) for a, b in block])
        found = ranks(stack).tolist()
        return [pair for pair, rank in zip(block, found, strict=True) if rank < _enough(*pair)]

    def two(self, first: _Pair, second: _Pair) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None:
        """h and h' of the two subspaces with one signal and h != h', or None where there are none."""
        n, s = self.E.shape[1], len(first[0])
        for x in null_basis(_system(self.E, self.V, first, second)):
            h, other = _placed(x[:s], first[0], n), _placed(x[s:], second[0], n)
            if h != other:
                return h, other
        return None


def _system(E: Tensor, V: Tensor, first: _Pair, second: _Pair) -> Tensor:
    """The equations of the module, of (h_S, h'_S'); a sign is none of a residue's rank, so that -E may be E."""
    (S, Z), (S2, Z2) = first, second
    one, two = V[list(Z)][:, list(S)], V[list(Z2)][:, list(S2)]
    zeros = one.new_zeros
    top = torch.cat([one, zeros(len(Z), len(S2))], 1)
    middle = torch.cat([zeros(len(Z2), len(S)), two], 1)
    return torch.cat([top, middle, torch.cat([E[:, list(S)], -E[:, list(S2)]], 1)])


def _enough(first: _Pair, second: _Pair) -> int:
    (S, Z), (S2, Z2) = first, second
    return len(S) + len(S2) - max(0, len({*S} & {*S2}) - len({*Z} | {*Z2}))


def _placed(values: tuple[Fraction, ...], where: tuple[int, ...], n: int) -> tuple[Fraction, ...]:
    there = dict(zip(where, values, strict=True))
    return tuple(there.get(j, Fraction(0)) for j in range(n))


# --- stability ------------------------------------------------------------------------------------


def _least_sigma(E: Tensor, rows: Tensor, t: int, limit: float) -> Bounds:
    """The least |E d| / |d| over d of t entries with rows d = 0; rows: of length 1."""
    began, n = time.perf_counter(), E.shape[1]
    lower, below = float(_sigmas(E, rows, torch.arange(n)[None])), "all columns at once"
    mu = coherence(E).upper
    short = float(E.square().sum(0).min()) * (1 - (t - 1) * mu)
    if short > 0 and short**0.5 > lower:
        lower, below = short**0.5, "by coherence"
    best, where = inf, torch.arange(t)
    done, few = False, comb(n, t) <= _MOST_SETS
    for sets in subsets(n, t, _BLOCK) if few else _random_sets(n, t):
        found = _sigmas(E, rows, sets)
        if float(found.min()) < best:
            best, where = float(found.min()), sets[found.argmin()]
        if time.perf_counter() - began > limit:
            break
    else:
        done = few
    if done:
        return Bounds("sigma", best, best, (f"all supports of {t} seen",), _shown(rows, where), time.perf_counter() - began)
    how = (below, "the worst of the supports seen")
    return Bounds("sigma", min(lower, best), best, how, _shown(rows, where), time.perf_counter() - began)


def _shown(rows: Tensor, where: Tensor) -> Witness:
    return Witness(tuple(range(len(rows))), tuple(where.tolist()))


def _random_sets(n: int, t: int) -> Iterator[Tensor]:
    source = torch.Generator().manual_seed(_SEED)
    for _ in range(10):
        yield torch.rand(200, n, generator=source, dtype=torch.float64).argsort(1)[:, :t]


def _sigmas(E: Tensor, rows: Tensor, sets: Tensor) -> Tensor:
    """The least singular value of E on {d : d = 0 outside of T, rows d = 0} of sets T `(B, t)`; inf where that is {0}.

    rows: of length 1.
    """
    K, d = null_spaces(rows.T[sets].mT)
    found = E.new_zeros(len(sets), max(sets.shape[1], len(E)))
    values = torch.linalg.svdvals(E.T[sets].mT @ K)
    found[:, : values.shape[1]] = values
    return torch.where(d > 0, found.gather(1, (d - 1).clamp(min=0)[:, None])[:, 0], inf)
