"""One signal in words: can its answer be trusted, and if not, is it the signal, the generator or the solver?

Nothing is solved again. The verdict, the certificates and the singular values say what is known. With the generator at
hand two more facts follow: how many directions of z change nothing in G(z), and, for an identity output, a proof that a
signal is out of reach: every G(z) is W h + b for some h of the image layer, so sqrt(2 bound) of that layer's certificate
with lam = 0 (or gamma = 0) is a misfit that no latent can go below. Files do not keep the layer problem that this takes.
Noise of at most b per entry allows an l2 misfit of at most b sqrt(k) over the k entries seen; that proof serves it too.
"""

import operator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..generator.chain import Generator
from ..inputs import describe
from ..layers.core.certificate import (
    INFEASIBLE,
    LAYER_STATUSES,
    NUMERICAL_ERROR,
    OPTIMAL,
    STATIONARY,
    USER_LIMIT,
    Certificate,
    certify,
)
from ..layers.gaussian_latent import GaussianLatent
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..surroundings import undisturbed
from . import verify
from .answer import GIVEN

if TYPE_CHECKING:
    from .answer import LayerReport
    from .result import Inversion

YES, SIGNAL_ONLY, NO = "yes", "signal only", "no"
TRUSTS = (YES, SIGNAL_ONLY, NO)

_ROUGH = 0.1  # a z that may be off by more of its length than this is not called trusted
_FLOAT32 = 1e-5  # misfits up to this share of |y| may come from a signal that was once rounded to float32
_FLAT = 1e-6  # an output activation this flat carries nothing in float64 signals of usual size
_RANK = 1e-10  # as in `verify`
_AS_FAR = "not proved: that no other latent, far from this one, gives the same signal"


@dataclass(frozen=True)
class Explanation:
    """What can be said of signal `index`.

    trust: "yes" (z and G(z)), "signal only" (G(z), but not z) or "no". cause: "signal", "generator" or "solver", and ""
    where trust is "yes". verdict: one sentence; reasons: facts with numbers and units; advice: what to do, if anything.
    """

    index: int
    trust: str
    cause: str
    verdict: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"signal {self.index}: {self.verdict}", *(f"  {reason}" for reason in self.reasons)]
        return "\n".join([*lines, *(f"  to do: {advice}" for advice in self.advice)])


@undisturbed
def explain(inversion: "Inversion", positions: list[int], generator: Generator | None = None) -> list[Explanation]:
    """Explain the signals at `positions`; `Inversion.explain` is the short way for one.

    generator: the one that was inverted, for the facts that need it. Raises IndexError for positions that are not there,
    ValueError for a generator of other sizes.
    """
    for i in positions:
        if not 0 <= i < len(inversion):
            raise IndexError(f"expected a signal from 0 to {len(inversion) - 1}, got {i}")
    facts = _gather(inversion, positions, generator)
    return [_explain_one(fact) for fact in facts]


def one_position(i: object, N: int) -> int:
    """A position from 0 on; negative ones count from the end. Raises TypeError for what is no single integer."""
    try:
        position = operator.index(i)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(
            f"expected one position, an integer, got {describe(i)}; call explain once for each signal"
        ) from error
    return position + N if position < 0 else position


# --- facts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Facts:
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
    def largest(self) -> bool:
        """Whether the stated noise bounds the largest entry."""
        return str(self.setting("noise")).startswith("linf")

    @property
    def allowed(self) -> float:
        """The largest l2 misfit that counts as explained, signal units; inf where that is not known."""
        bound = self.number("explained_below")
        if not self.largest:
            return bound
        return inf if self.seen is None else bound * self.seen**0.5

    def setting(self, name: str) -> Any:
        return self.inversion.settings.get(name)

    def layers(self, *statuses: str) -> list["LayerReport"]:
        """The layers whose certificate of this signal has one of `statuses`."""
        return [r for r in self.inversion.layers if r.solution.status[self.index] in statuses]


def _gather(inversion: "Inversion", positions: list[int], generator: Generator | None) -> list[_Facts]:
    N = len(inversion)
    z = inversion.z.reshape(N, -1).double()
    hidden = [h.reshape(N, -1) for h in inversion.hidden]
    _check_sizes(generator, z, inversion)
    reach, seen = _reach(inversion, positions, generator), _seen(inversion, positions, generator)
    # a Jacobian per latent is the dear part; where all is well its rank is known
    asked = [i for i in positions if not (inversion.determined[i] and inversion.status[i] == verify.EXPLAINED_WORD)]
    more = dict(zip(asked, _at_the_latents(generator, z[asked]), strict=True))
    return [
        _Facts(
            i, inversion, [int((h[i] != 0).sum()) for h in hidden], any(bool((h[i] < 0).any()) for h in hidden),
            z.shape[1], float(z[i].norm()), reach[k], seen[k], *more.get(i, (None, None)),
        )
        for k, i in enumerate(positions)
    ]  # fmt: skip


def _check_sizes(generator: Generator | None, z: Tensor, inversion: "Inversion") -> None:
    if generator is None:
        return
    expected, got = (z.shape[1], inversion.signal.shape[-1]), (generator.latent_dim, generator.signal_dim)
    if expected != got:
        raise ValueError(f"expected the generator that was inverted, (n0, d) = {expected}, got one of {got}; pass that one")


def _reach(inversion: "Inversion", positions: list[int], generator: Generator | None) -> list[float]:
    """A certified lower bound on every latent's misfit, signal units; 0 where there is none."""
    nothing = [0.0] * len(positions)
    if generator is None or not inversion.layers or not generator.layers[-1].activation.linear:
        return nothing
    problem, solution = inversion.layers[0].problem, inversion.layers[0].solution
    if not isinstance(problem, NonnegativeLasso | GaussianLatent) or inversion.layers[0].remark.startswith(GIVEN):
        return nothing  # a problem of the user's own may hold other rows than the signal's
    index = torch.as_tensor(positions, device=solution.h.device)
    free = _without_penalty(problem.take(index))
    judged = certify(free, solution.h[index])
    sure = torch.isinf(judged.scope)  # elsewhere the bound is one on short h only
    return (2 * judged.bound.nan_to_num(0.0).clamp(min=0) * sure).sqrt().tolist()


def _seen(inversion: "Inversion", positions: list[int], generator: Generator | None) -> list[int | None]:
    """How many entries were seen, as far as the inversion still knows."""
    if inversion.settings.get("measurement") in (None, "Everything"):
        return [inversion.signal.shape[-1]] * len(positions)
    image = inversion.layers[0] if inversion.layers else None
    plain = generator is not None and generator.layers[-1].activation.linear
    if image is None or image.problem is None or image.remark.startswith(GIVEN) or not plain:
        return [None] * len(positions)  # rows behind an activation may be fewer than the entries seen
    return [int(image.problem.rows.on[i].sum()) for i in positions]


def _without_penalty(problem: NonnegativeLasso | GaussianLatent) -> NonnegativeLasso | GaussianLatent:
    return replace(problem, lam=0.0) if isinstance(problem, NonnegativeLasso) else replace(problem, gamma=0.0)


def _at_the_latents(generator: Generator | None, z: Tensor) -> list[tuple[int | None, float | None]]:
    """Rank of the Jacobian of the whole signal, and share of saturated outputs, per latent."""
    if generator is None:
        return [(None, None)] * len(z)
    G = generator.to(torch.float64)
    phi = G.layers[-1].activation
    found: list[tuple[int | None, float | None]] = []
    for one in z.nan_to_num(0.0).to(G.device)[:, None]:
        values = torch.linalg.svdvals(G.linearize(one)[1][0])
        slope = phi.derivative(G.preactivations(one)[-1])
        flat = float((slope < _FLAT).double().mean()) if phi.saturates else 0.0
        found.append((int((values > _RANK * values[0]).sum()), flat))
    return found


# --- words ----------------------------------------------------------------------------------------


def _explain_one(f: _Facts) -> Explanation:
    if f.status == verify.NUMERICAL_ERROR:
        return _no_number(f)
    if f.status == verify.EXPLAINED_WORD:
        return _explained(f)
    return _not_explained(f)


def _explained(f: _Facts) -> Explanation:
    reasons = [_misfit_words(f), _singular_words(f), _way_words(f)]
    if f.setting("noise") is not None and f.size <= f.allowed < inf:
        reasons.append(f"the stated noise allows an l2 misfit of {f.allowed:.3g}, and |y| is {f.size:.3g}")
        little = "little: the stated noise, over all entries," if f.largest else "nothing: the stated noise"
        verdict = f"explained, and that says {little} is as large as the signal"
        return _put(f, NO, "signal", verdict, reasons, ["a smaller noise bound, in the units of the signal"])
    if not f.determined:
        cause, why, advice = _undetermined(f)
        verdict = f"G(z) can be trusted, z cannot: {why}"
        return _put(f, SIGNAL_ONLY, cause, verdict, [*reasons, *_layer_words(f)], advice)
    error = _first_order_error(f)
    if error > _ROUGH * f.size_of_z:
        noisy = f.setting("noise") is not None
        what = "the stated noise leaves z open" if noisy else "the generator is too ill-conditioned for this precision"
        advice = ["a smaller noise bound, if it is justified" if noisy else "signals in float64; more seen entries"]
        verdict = f"G(z) can be trusted, z only roughly: {what}"
        return _put(f, SIGNAL_ONLY, "signal" if noisy else "generator", verdict, [*reasons, *_layer_words(f)], advice)
    verdict = "can be trusted: G(z) is what was seen, and z is determined"
    return _put(f, YES, "", verdict, [*reasons, *_layer_words(f), _AS_FAR], [])


def _undetermined(f: _Facts) -> tuple[str, str, list[str]]:
    """Cause, words and advice where the Jacobian of what was seen lacks full column rank."""
    partly = f.setting("measurement") not in (None, "Everything")
    fewest = min([f.n0, *f.active])
    rank = f.rank if f.rank is not None else (fewest if fewest < f.n0 else None)
    if f.rank == f.n0:
        return "signal", "too little of the signal was seen to fix z; the whole signal would", ["let more entries be seen"]
    if rank is None and partly:
        words = "the generator has directions of z that change nothing that was seen, or too little was seen"
        return "generator", words, ["pass generator= to explain, which tells the two apart"]
    how_many = "some" if rank is None else f"{'' if f.rank is not None else 'at least '}{f.n0 - rank} of {f.n0}"
    words = f"the generator has {how_many} directions of z that change nothing in G(z) here"
    units = "unit of a hidden layer is active" if fewest == 1 else "units of a hidden layer are active"
    few = f": only {fewest} {units}" if fewest < f.n0 else ""
    return "generator", words + few, ["use G(z), not z; no method can tell these latents apart (cvxinv inspect)"]


def _not_explained(f: _Facts) -> Explanation:
    reasons = [_misfit_words(f), *_reach_words(f), _singular_words(f), _way_words(f), *_layer_words(f), *_sparsity_words(f)]
    small = f.number("misfit") <= _FLOAT32 * f.size
    if f.status == verify.STATIONARY and f.setting("noise") is None and small:
        verdict = "it is the signal's precision: z explains it up to what rounding to float32 leaves"
        return _put(
            f, NO, "signal", verdict, reasons, ["pass the signal in float32 if it came so, or state noise=('l2', ...)"]
        )
    if f.reach > f.allowed:
        verdict = "it is the signal: proved, no latent at all explains it"
        return _put(f, NO, "signal", verdict, reasons, _accept(f))
    if f.status == verify.USER_LIMIT:
        verdict = "it is the solver: the search for z stopped while it still made progress"
        return _put(f, NO, "solver", verdict, reasons, _more_iterations(f))
    stuck = f.layers(USER_LIMIT, NUMERICAL_ERROR)
    if stuck:
        verdict = f"it is the solver: layer {stuck[0].index} was left unfinished, so the layered start is worth little"
        return _put(f, NO, "solver", verdict, reasons, _other_solver(f))
    if f.number("sigma_max") == 0:
        verdict = "it is the generator: it is constant around z, no step changes the signal"
        return _put(f, NO, "generator", verdict, reasons, ["restarts=20 for other starting points; cvxinv inspect"])
    if f.flat:
        reasons.append(f"{f.flat:.0%} of the output's entries are saturated at z and carry nothing there")
    verdict = "it is the signal, as far as the search can tell: z is a local optimum that does not explain it"
    return _put(f, NO, "signal", verdict, reasons, [*_accept(f), *_try_on(f)])


def _no_number(f: _Facts) -> Explanation:
    if f.size == 0:
        verdict = "it is the signal: it holds NaN or inf where it was seen, or nothing of it was seen"
        return _put(f, NO, "signal", verdict, ["left out; the others of the batch are not touched"], ["hide such entries"])
    verdict = "it is the solver: the latent that came out is not finite"
    return _put(f, NO, "solver", verdict, _layer_words(f), ["method='hybrid', or signals of a usual size, about 1"])


def _put(f: _Facts, trust: str, cause: str, verdict: str, reasons: list[str], advice: list[str]) -> Explanation:
    return Explanation(f.index, trust, cause, verdict, tuple(r for r in reasons if r), tuple(advice))


def _misfit_words(f: _Facts) -> str:
    misfit, size, noise = f.number("misfit"), f.size, f.setting("noise")
    share = f" = {misfit / size:.1e} |y|" if size > 0 else ", y is 0"
    source = f"the stated noise, {noise}" if noise else "no noise was stated: the signal's own precision"
    norm = " in the largest entry" if f.largest else ""
    return f"misfit {misfit:.2e}{share}; up to {f.number('explained_below'):.2e}{norm} counts as explained ({source})"


def _reach_words(f: _Facts) -> list[str]:
    if f.reach <= 1e-6 * f.size:
        return []
    words = f"the image layer's certificate proves that no latent has a misfit below {f.reach:.3g}; this one has "
    words += f"{f.number('misfit') / f.reach:.2f} times that"
    if f.largest and f.seen is not None:
        words += f", and the stated bound allows at most {f.allowed:.3g} over the {f.seen} entries seen"
    return [words]


def _singular_words(f: _Facts) -> str:
    low, high = f.number("sigma_min"), f.number("sigma_max")
    head = f"singular values of the Jacobian of what was seen: {low:.3g} to {high:.3g} signal per latent unit"
    if not f.determined:
        return f"{head}; z is not determined"
    error = _first_order_error(f)
    tail = ""
    if f.status == verify.EXPLAINED_WORD:
        of_z = f" = {error / f.size_of_z:.1e} |z|" if f.size_of_z > 0 else ""
        tail = f"; to first order z is right to {error:.1e}{of_z}"
    return f"{head}, condition number {high / low:.3g}{tail}"


def _first_order_error(f: _Facts) -> float:
    """How far z may be from the true latent, to first order: (misfit + noise) / sigma_min, latent units."""
    noise = str(f.setting("noise") or "")
    bound = f.number("explained_below") if noise else 0.0
    entries = f.inversion.signal.shape[-1] if noise.startswith("linf") else 1
    return (f.number("misfit") + bound * entries**0.5) / max(f.number("sigma_min"), 1e-300)


def _way_words(f: _Facts) -> str:
    used, spent = f.inversion.used[f.index], int(f.inversion.starts[f.index])
    tried = f"; {spent} random start{' was' if spent == 1 else 's were'} tried" if spent else ""
    return f"z came from: {used or 'nothing'}{tried}"


def _layer_words(f: _Facts) -> list[str]:
    layers = f.inversion.layers
    if not layers:
        return []
    good = len(f.layers(OPTIMAL))
    words = [f"layers: {good} of {len(layers)} certified optimal"]
    for report in f.layers(*(status for status in LAYER_STATUSES if status != OPTIMAL)):
        words.append(_one_layer(report, f.index, image=report is layers[0]))
    for report in f.layers(OPTIMAL):
        if remark := report.solution.certificate.remark[f.index]:
            words.append(f"layer {report.index} ({report.kind}) is {OPTIMAL}, but: {remark}")
    return words


def _one_layer(report: "LayerReport", i: int, image: bool) -> str:
    solution, c = report.solution, report.solution.certificate
    head = f"layer {report.index} ({report.kind}) is {c.status[i]}"
    if c.status[i] == INFEASIBLE and image:
        return f"{head}: proved, no input of this layer{_up_to(c, i)} gives what was asked of it"
    if c.status[i] == INFEASIBLE:
        return f"{head}: proved, the support handed down from above fits no input{_up_to(c, i)}; a consequence, not a fault"
    if c.status[i] == STATIONARY:
        return f"{head}: a local optimum, all that a non-convex layer gives"
    numbers = (
        f"gap {float(c.gap[i]):.1e} and excess worth {float(c.worth[i]):.1e} where {float(c.allowed_gap[i]):.1e} is allowed "
        f"(objective), violation {float(c.violation[i]):.1e} where at most {float(c.allowed_violation[i]):.1e} is allowed "
        f"(signal): {float(c.times[i]):.1e} times what optimal allows"
    )
    remark = f"; {c.remark[i]}" if c.remark[i] else ""
    return f"{head}: {numbers}, after {int(solution.iterations[i])} iterations of {solution.solver[i]}{remark}"


def _up_to(c: Certificate, i: int) -> str:
    """Of what length the inputs are that an infeasible certificate speaks of."""
    return f" with |h| <= {float(c.scope[i]):.1e}" if torch.isfinite(c.scope[i]) else ""


def _sparsity_words(f: _Facts) -> list[str]:
    """The growth conditions of ReLU layers that the support at z breaks."""
    if f.leaky or not f.active or not f.inversion.layers:
        return []
    s, d = f.active, f.inversion.signal.shape[-1]
    broken = [f"s_1 = {s[0]} is not above n0 = {f.n0}"] if s[0] <= f.n0 else []
    broken += [f"s_{k + 1} = {b} is below 2 s_{k} = {2 * a}" for k, (a, b) in enumerate(pairwise(s), 1) if b < 2 * a]
    broken += [f"2 s_{len(s)} = {2 * s[-1]} is above d = {d}"] if 2 * s[-1] > d else []
    return (
        [f"the generator's layers are too dense here for the layered start to be sure: {', '.join(broken)}"]
        if broken
        else []
    )


# --- advice ---------------------------------------------------------------------------------------


def _accept(f: _Facts) -> list[str]:
    if f.number("misfit") > f.size / 2:
        share = f"the misfit is {f.number('misfit') / f.size:.0%} of |y|" if f.size > 0 else "y is 0"
        return [f"z explains nothing of it, {share}: look at its units, offset and order of entries beside samples of G"]
    return [f"if a misfit of this size is acceptable, state it: noise=('l2', {1.05 * f.number('misfit'):.2g})"]


def _try_on(f: _Facts) -> list[str]:
    if f.inversion.method != "hybrid":
        return ["if the signal is in the generator's range: method='hybrid', which repairs and restarts"]
    return [f"if the signal is in the generator's range: restarts={max(20, 2 * int(f.inversion.starts[f.index]))}"]


def _more_iterations(f: _Facts) -> list[str]:
    limit = f.setting("max_iter")
    words = f"max_iter above {limit}" if limit is not None else "a larger max_iter"
    return [words if f.inversion.method == "hybrid" else f"{words}, or method='hybrid'"]


def _other_solver(f: _Facts) -> list[str]:
    solver = f.setting("solver") or "auto"
    other = "solver='auto'" if solver != "auto" else "solver='CLARABEL'"
    return [f"{other} instead of {solver!r} for the layers, or method='hybrid' with restarts=20"]
