"""Theorems of Aberdam, Simon and Elad on generators x_{i+1} = ReLU(W_i x_i), y = phi(W_L x_L), with S_i the support of x_i.

*Theorem 1* (`uniqueness_by_sparsity`). s_i = |S_i|. If s_L < spark(W_L)/2, s_i < sub-spark(W_i, s_{i+1})/2 for 0 < i < L and
n_0 = sub-rank(W_0, s_1) <= s_1, then z is the only latent of such sparsity that gives y. The proof asks less: the spark of
W_i on the rows S_{i+1} themselves, and the rank of W_0 on S_1 (`own=True`).

*Corollary 1* (`uniqueness_by_counting`). For almost all weights: 2020: s_L <= n/2, s_i <= s_{i+1}/2, s_1 >= n_0, as a spark
is then one more than its rows. 2021, of random weights drawn apart from the signal: any factor above 1 will do. As W_S x is
then a fixed vector, which lies in the span of fewer other columns than there are rows with probability 0:
s_L < n, s_i < s_{i+1}, s_1 >= n_0.

*Theorem 2* (`layered_pursuit_errors`). |phi^-1(y) - W_L x_L| <= ell eps. If s_L < 1/(3 mu(W_L)) and
s_i < 1/(3 mu_{s_{i+1}}(W_i)), layered basis pursuit finds supports inside the true ones, |x_i found - x_i| < eps_i and
|z found - z| <= eps_1 / lmin^(1/2),

    eps_L = C s_L^(1/2) ell eps / min_j |w_j|,   eps_i = C s_i^(1/2) eps_{i+1} / min_j |w_j on S_{i+1}|,

C = 3 + (3/2)^(1/2), lmin the least eigenvalue of W_0'W_0 on the rows S_1 (eq. 7). C from the lemma, in the dictionary of
unit columns: with s mu < 1/3 off columns correlate with the support's by less than 1/2 of what on ones do, so lam = 2 noise
keeps them at 0; each entry is then off by at most 2 noise |G^-1|_inf + noise / sigma_min < (3 + (3/2)^(1/2)) noise, G the
Gram matrix of the support. The layer below reads the rows that were found. Where these are fewer than S_{i+1}, their
coherence may be larger (`coherence.py`), which the proof passes over. So a clause more is asked here: that every entry of
x_i exceeds its error, so that all are found.

*Corollary 2* (`layered_pursuit_exactness`). The same without noise, lam -> 0: z exactly.

*Theorem 3* (`oracle_errors`). phi the identity, noise N(0, sigma^2 I), the supports known: the layered least squares
x_i = Wt_i^+ ... Wt_L^+ y, Wt_j the rows S_{j+1} and columns S_j of W_j, with noise sigma e in y has the error
Wt_i^+ ... Wt_L^+ sigma e, so E |error|^2 = sigma^2 |Wt_i^+ ... Wt_L^+|_F^2, between

    sigma^2 s_i / prod_{j >= i} lmax(Wt_j'Wt_j)   and   sigma^2 s_i / prod_{j >= i} lmin(Wt_j'Wt_j),

for z with n_0 in place of s_i. Each Wt_j must have full column rank. The joint least squares on the supports lies between
them, too.

Biases are subtracted from what is known, and change nothing.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020) and "On the inversion of deep
generative models" (2021). Statements and proofs as read in a text without its displays, which are derived from the proofs.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inputs import read_size
from ..solvers.solve import check_choice
from .bounds import Bounds
from .coherence import coherence, sub_coherence
from .condition import DERIVED, HOLDS, Clause, Condition
from .dependence import read_tolerance
from .prime_field import ranks, residues
from .spark import spark, sub_rank, sub_spark
from .supported import Supported

FORMS = ("2020", "2021")
C = 3 + 1.5**0.5
_SOURCE_2020 = 'Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020)'
_SOURCE_2021 = 'Aberdam, Simon, Elad, "On the inversion of deep generative models" (2021)'
_RANK = 1e-10  # singular values below this share of the largest are 0
_ROUNDING = 1e-12


# --- Theorem 1 and Corollary 1 --------------------------------------------------------------------


def uniqueness_by_sparsity(
    generator: object,
    z: object,
    *,
    own: bool = False,
    tol: float = 0.0,
    time_limit: float = 5.0,
    progress: bool | None = None,
) -> Condition:
    """Theorem 1 at latents `(N, n0)`: is z the only one whose layers are as sparse as these?

    own: the spark and rank on the signal's own supports, which is all that the proof needs, in place of the worst rows of
    their number. numbers: "unique among all latents", where every spark is infinite: then nothing is asked of sparsity. tol,
    time_limit (seconds of each quantity), progress: as in `spark`. Raises TypeError for what is no chain.
    """
    at, tol = Supported.of(generator, z), read_tolerance(tol)
    options: dict[str, Any] = {"tol": tol, "time_limit": time_limit, "progress": progress}
    clauses, numbers = [at.layers_are_sparse(), at.output_is_one_to_one()], _cardinalities(at)
    finite = np.zeros(at.N, dtype=bool)
    for i in range(at.L, 0, -1):
        found = _sparks(at, i, own, options)
        name = _spark_name(i, at.L, own)
        numbers[name] = found
        finite |= np.array([b.lower < inf for b in found])
        half = [Bounds(b.name, b.lower / 2, b.upper / 2) for b in found]
        clauses.append(Clause.compare(f"s_{i} < {name} / 2", at.s[i], half, at.N))
    clauses += _latent_clauses(at, own, options, numbers)
    everywhere = np.all([clause.status == HOLDS for clause in clauses], axis=0) & ~finite
    numbers["unique among all latents"] = torch.from_numpy(everywhere)
    return Condition(
        "Theorem 1, uniqueness by sparsity", tuple(clauses), "z is the only solution that meets these sparsity conditions",
        "unique among latents whose layers meet the same sparsity conditions, not among all", _SOURCE_2020,
        f"{DERIVED} (statement and proof read, displays not)", numbers,
        notes=_notes(own, tol, int(everywhere.sum())),
    )  # fmt: skip


def uniqueness_by_counting(generator: object, z: object, *, form: str = FORMS[1]) -> Condition:
    """Corollary 1 at latents `(N, n0)`, the sparsity of random weights; form: "2020" or "2021".

    Raises TypeError for what is no chain, ValueError for another form.
    """
    check_choice(form, FORMS, "form")
    at = Supported.of(generator, z)
    factor, sign = (2.0, "<=") if form == "2020" else (1.0, "<")
    clauses = [at.layers_are_sparse(), at.output_is_one_to_one()]
    for i in range(at.L, 0, -1):
        above = at.s[i + 1].double() if i < at.L else torch.full((at.N,), float(len(at.W[-1])), dtype=torch.float64)
        name = f"s_{i + 1}" if i < at.L else "n"
        text = f"s_{i} {sign} {name}{' / 2' if factor == 2 else ''}"
        clauses.append(Clause.compare(text, at.s[i], above / factor, at.N, strict=form == "2021"))
    clauses.append(_enough_on(at))
    who = "all solutions that meet these conditions" if form == "2020" else "all, for a signal drawn apart from the weights"
    return Condition(
        f"Corollary 1 ({form}), counting nonzeros", tuple(clauses), "z is the only such solution, with probability 1",
        f"{who}; of weights drawn at random from a density, not of any one generator",
        _SOURCE_2020 if form == "2020" else _SOURCE_2021,
        f"{DERIVED} (layout read, constants derived)" if form == "2020" else f"{DERIVED} (only the factor is stated there)",
        _cardinalities(at),
    )  # fmt: skip


def _cardinalities(at: Supported) -> dict[str, object]:
    return {f"s_{i}": at.s[i] for i in range(1, at.L + 1)}


def _spark_name(i: int, L: int, own: bool) -> str:
    if i == L:
        return f"spark(W_{i})"
    return f"spark(W_{i} on S_{i + 1})" if own else f"sub-spark(W_{i}, s_{i + 1})"


def _sparks(at: Supported, i: int, own: bool, options: Mapping[str, Any]) -> list[Bounds]:
    """The spark of W_i that is asked for, of each signal; one search for signals that ask the same."""

    def ask(k: int, s: int) -> Bounds:
        until = 2.0 * s
        if i == at.L:
            return spark(at.W[i], until=until, **options)
        if own:
            return spark(at.W[i][at.above[i + 1][k]], until=until, **options)
        return sub_spark(at.W[i], int(at.s[i + 1][k]), until=until, **options)

    def key(k: int) -> object:
        return at.above[i + 1][k].numpy().tobytes() if own and i < at.L else int(at.s[i + 1][k]) if i < at.L else None

    return _for_each(at.N, lambda k: (key(k), int(at.s[i][k])), lambda k: ask(k, int(at.s[i][k])))


def _for_each(N: int, key: Callable[[int], object], ask: Callable[[int], Bounds]) -> list[Bounds]:
    known: dict[object, Bounds] = {}
    for k in range(N):
        if key(k) not in known:
            known[key(k)] = ask(k)
    return [known[key(k)] for k in range(N)]


def _enough_on(at: Supported) -> Clause:
    known = at.s[1] if at.L else torch.full((at.N,), len(at.W[0]))
    return Clause.compare("n_0 <= s_1" if at.L else "n_0 <= n", float(at.W[0].shape[1]), known, at.N, strict=False)


def _latent_clauses(at: Supported, own: bool, options: Mapping[str, Any], numbers: dict[str, object]) -> list[Clause]:
    n0, tol = at.W[0].shape[1], options["tol"]
    limits = {"time_limit": options["time_limit"], "progress": options["progress"]}

    def ask(k: int) -> Bounds:
        part = at.W[0][at.rows_read(0)[k]]
        if len(part) < n0:
            return Bounds("rank", 0, len(part), ("counting rows",))
        if own or not at.L:
            return _rank(part, tol)
        return sub_rank(at.W[0], len(part), tol=tol, **limits)

    name = "rank(W_0 on S_1)" if own or not at.L else "sub-rank(W_0, s_1)"
    found = _for_each(at.N, lambda k: at.rows_read(0)[k].numpy().tobytes() if own else int(at.rows_read(0)[k].sum()), ask)
    numbers[name] = found
    return [_enough_on(at), Clause.compare(f"n_0 <= {name}", float(n0), found, at.N, strict=False)]


def _rank(part: Tensor, tol: float) -> Bounds:
    """Full column rank is proved modulo a prime; less is not, as a rank modulo a prime is only a lower bound."""
    if tol:
        sigma = torch.linalg.svdvals(part)
        found = int((sigma > tol * sigma[0]).sum()) if len(sigma) else 0
        return Bounds("rank", found, found, ("by singular values",))
    found = int(ranks(residues(part)[None])[0])
    if found < part.shape[1]:
        return sub_rank(part, len(part), time_limit=0.0)
    return Bounds("rank", found, found, ("by the rank modulo a prime",))


def _notes(own: bool, tol: float, everywhere: int) -> tuple[str, ...]:
    of = f"up to {tol:g} of columns of length 1" if tol else "over the rationals, of the floats as they are"
    mine = ("the signal's own supports, which is what the proof uses, in place of the worst rows of their number",)
    only = (f"{everywhere} have infinite sparks throughout: theirs are unique among all latents",) if everywhere else ()
    return (f"dependence of columns is that {of}", *(mine if own else ()), *only)


# --- Theorem 2 and Corollary 2 --------------------------------------------------------------------


def layered_pursuit_errors(
    generator: object,
    z: object,
    eps: float | Tensor,
    *,
    ell: float | Tensor | None = None,
    own: bool = False,
    time_limit: float = 5.0,
    progress: bool | None = None,
) -> Condition:
    """Theorem 2 at latents `(N, n0)`: how far `layered_basis_pursuit` may be off, with noise of length at most `eps`.

    eps: l2 norm, signal units, one number or `(N,)`. ell: the largest slope of phi^-1 where y may be; may be left out where
    phi is the identity or a LeakyReLU. own: the coherence on the signal's own rows in place of the worst of their number.
    time_limit: seconds for each coherence. progress: bars of them. bounds: "x_i" for each hidden layer, "z". Raises
    TypeError or ValueError.
    """
    at = Supported.of(generator, z)
    noise = read_size(eps, "eps", at.N) * _slope(at, ell)
    clauses, numbers, errors = _pursuit(at, noise, own, time_limit, progress)
    return Condition(
        "Theorem 2, layered basis pursuit in noise", tuple(clauses),
        "the supports found are the true ones, the minimisers unique, the errors below the bounds (eq. 7)",
        "columns brought to length 1 (NormalisedLasso), lam = twice the error of the layer above; before any debiasing",
        _SOURCE_2020, f"{DERIVED} (statement and proof read; the constants derived from the lemma)", numbers, errors,
        notes=("that all entries of a layer are found is asked besides: fewer rows may be more coherent", *_mine(own)),
    )  # fmt: skip


def layered_pursuit_exactness(
    generator: object, z: object, *, own: bool = False, time_limit: float = 5.0, progress: bool | None = None
) -> Condition:
    """Corollary 2 at latents `(N, n0)`: does `layered_basis_pursuit` find z without noise? Options as in Theorem 2."""
    at = Supported.of(generator, z)
    clauses, numbers, errors = _pursuit(at, torch.zeros(at.N, dtype=torch.float64), own, time_limit, progress)
    return Condition(
        "Corollary 2, layered basis pursuit without noise", tuple(clauses), "z is found exactly",
        "columns brought to length 1 (NormalisedBasisPursuit), the limit lam -> 0", _SOURCE_2020,
        f"{DERIVED} (statement and proof read)", numbers, errors, notes=_mine(own),
    )  # fmt: skip


def _mine(own: bool) -> tuple[str, ...]:
    return ("coherences are those of the signal's own rows, which is what the proof uses",) if own else ()


def _slope(at: Supported, ell: float | Tensor | None) -> Tensor:
    if ell is not None:
        return read_size(ell, "ell", at.N)
    if at.output.slopes is None or at.output.cuts:
        raise ValueError(
            f"expected ell, the largest slope of the inverse of {at.output!r} near the signals, got none; pass one, "
            "or another output (cuts have no inverse)"
        )
    return torch.full((at.N,), 1 / min(at.output.slopes), dtype=torch.float64)


def _pursuit(
    at: Supported, noise: Tensor, own: bool, time_limit: float, progress: bool | None
) -> tuple[list[Clause], dict[str, object], dict[str, Tensor]]:
    """Clauses, numbers and error bounds, from the image to the latent. noise: `(N,)`, of phi^-1(y) in the l2 norm."""
    clauses, numbers = [at.layers_are_sparse(), at.output_is_one_to_one()], _cardinalities(at)
    errors = dict[str, Tensor]()
    for i in range(at.L, 0, -1):
        lengths = torch.stack([at.W[i][rows].norm(dim=0) for rows in at.rows_read(i)])  # (N, n_i)
        mu = _coherences(at, i, own, time_limit, progress)
        name = f"mu(W_{i}{f' on S_{i + 1}' if own and i < at.L else ''})" if own or i == at.L else f"mu_s_{i + 1}(W_{i})"
        numbers[name] = mu
        limit = [Bounds(b.name, _third(b.upper * (1 + _ROUNDING)), _third(b.lower)) for b in mu]
        clauses.append(Clause.compare(f"s_{i} < 1 / (3 {name})", at.s[i], limit, at.N))
        if bool((noise > 0).any()):
            smallest = torch.where(at.above[i], at.x[i] * lengths, inf).amin(1)
            numbers[f"smallest of x_{i} times its column"] = smallest
            clauses.append(Clause.compare(f"error of x_{i} < its smallest entry", C * noise, smallest, at.N))
        shortest = lengths.amin(1)
        noise = torch.where(noise > 0, C * at.s[i].double().sqrt() * noise / shortest, noise)
        errors[f"x_{i}"] = noise
    sigma = torch.tensor([_least_sigma(at.W[0][rows]) for rows in at.rows_read(0)], dtype=torch.float64)
    numbers["lmin of W_0'W_0 on S_1"] = sigma.square()
    clauses.append(Clause.compare("0 < lmin(W_0'W_0 on S_1)", 0.0, sigma, at.N))
    errors["z"] = torch.where(noise > 0, noise / sigma, noise)
    return clauses, numbers, errors


def _third(mu: float) -> float:
    return 1 / (3 * mu) if mu > 0 else inf


def _least_sigma(part: Tensor) -> float:
    """The smallest singular value, 0 where rounding may have made it."""
    if len(part) < part.shape[1]:
        return 0.0
    sigma = torch.linalg.svdvals(part)
    return float(sigma[-1]) if float(sigma[-1]) > _RANK * float(sigma[0]) else 0.0


def _coherences(at: Supported, i: int, own: bool, time_limit: float, progress: bool | None) -> list[Bounds]:
    if i == at.L:
        return [coherence(at.W[i])] * at.N
    mine = [coherence(at.W[i][rows]) for rows in at.above[i + 1]]
    if own:
        return mine
    known: dict[int, Bounds] = {}
    found = []
    for k in range(at.N):
        s, rows = int(at.s[i][k]), int(at.s[i + 1][k])
        if s >= _third(mine[k].lower):  # the worst rows are no better than these
            how = ("the signal's own rows", "none is larger")
            found.append(Bounds(f"coherence of {rows} rows", mine[k].lower, 1.0, how))
            continue
        if rows not in known:
            known[rows] = sub_coherence(at.W[i], rows, time_limit=time_limit, progress=progress)
        found.append(known[rows])
    return found


# --- Theorem 3 ------------------------------------------------------------------------------------


def oracle_errors(generator: object, z: object, sigma: float | Tensor) -> Condition:
    """Theorem 3 at latents `(N, n0)`: the mean squared errors of least squares on the true supports, in Gaussian noise.

    sigma: standard deviation of an entry, signal units, one number or `(N,)`. numbers: "x_i lower", "x_i mean", "x_i upper"
    for each hidden layer, and of "z", squares, `(N,)`; the mean is what the bounds enclose, exactly, of the layered form.
    Raises TypeError or ValueError.
    """
    at = Supported.of(generator, z)
    level, numbers = read_size(sigma, "sigma", at.N).square(), dict[str, object]()
    clauses = [at.layers_are_sparse(), Clause.fact("the output is the identity", at.output.linear, at.N)]
    pieces = [[at.part(j, k) for k in range(at.N)] for j in range(at.L + 1)]
    known = [torch.eye(len(at.W[-1]), dtype=torch.float64)] * at.N
    low, high = torch.ones(at.N, dtype=torch.float64), torch.ones(at.N, dtype=torch.float64)
    bounds = dict[str, Tensor]()
    for j in range(at.L, -1, -1):
        name, size = ("z", at.s[0]) if j == 0 else (f"x_{j}", at.s[j])
        ends = torch.tensor([_ends(part) for part in pieces[j]], dtype=torch.float64)  # (N, 2)
        clauses.append(Clause.compare(f"0 < lmin of W_{j} on its supports", 0.0, ends[:, 0], at.N))
        known = [_inverse(part) @ before for part, before in zip(pieces[j], known, strict=True)]
        low, high = low * ends[:, 1], high * ends[:, 0]
        numbers[f"{name} lower"] = level * size / low
        numbers[f"{name} mean"] = level * torch.stack([P.square().sum() for P in known])
        numbers[f"{name} upper"] = level * size / high
        bounds[f"|{name} - true|^2, mean"] = level * size / high
    return Condition(
        "Theorem 3, the oracle in Gaussian noise", tuple(clauses),
        "the mean squared errors of x_i and z lie between sigma^2 s_i / prod lmax and sigma^2 s_i / prod lmin",
        "least squares on the true supports, mean over draws of the noise; no bound on a single draw", _SOURCE_2020,
        f"{DERIVED} (proof read)", numbers, bounds,
    )  # fmt: skip


def _ends(part: Tensor) -> tuple[float, float]:
    """Smallest and largest eigenvalue of part'part; infinite where there is no column, as then nothing is in error."""
    if part.shape[1] == 0:
        return inf, inf
    sigma = torch.linalg.svdvals(part)
    return _least_sigma(part) ** 2, float(sigma[0]) ** 2 if len(sigma) else 0.0


def _inverse(part: Tensor) -> Tensor:
    return torch.linalg.pinv(part) if 0 not in part.shape else part.T.clone()
