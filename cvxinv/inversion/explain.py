"""One signal in words: can its answer be trusted, and if not, is it the signal, the generator or the solver?

Nothing is solved again. The verdict, the certificates and the singular values say what is known. With the generator at
hand two more facts follow: how many directions of z change nothing in G(z), and, for an identity output, a proof that a
signal is out of reach: every G(z) is W h + b for some h of the image layer, so sqrt(2 bound) of that layer's certificate
with lam = 0 (or gamma = 0) is a misfit that no latent can go below. Files do not keep the layer problem that this takes.
Noise of at most b per entry allows an l2 misfit of at most b sqrt(k) over the k entries seen; that proof serves it too.
"""

import operator
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import torch

from ..generator.abstract import AbstractGenerator
from ..inputs import describe
from ..layers.core.certificate import (
    INFEASIBLE,
    LAYER_STATUSES,
    NUMERICAL_ERROR,
    OPTIMAL,
    STATIONARY,
    USER_LIMIT,
    Certificate,
)
from ..surroundings import undisturbed
from . import proof_words, verify
from .advice import accept, finite, keep_near, less_noise, more_iterations, more_starts, other_solver, percent, try_on
from .answer import STEPS
from .facts import Facts, gather
from .moments import PROVED
from .task import EXPLAINED

if TYPE_CHECKING:
    from .answer import LayerReport
    from .result import Inversion

YES, SIGNAL_ONLY, NEAREST, NO = "yes", "signal only", "nearest", "no"
TRUSTS = (YES, SIGNAL_ONLY, NEAREST, NO)

_ROUGH = 0.1  # a z that may be off by more of its length than this is not called trusted
_MOST = 0.5  # of |y|: what leaves more of it is near nothing
_FLOAT32 = EXPLAINED[torch.float32]  # of |y|: a misfit up to that is explained, where the signal is passed in float32
_AS_FAR = "not proved: that no other latent, far from this one or across a kink that z sits on, gives the same signal"
_HARMLESS = "harmless here: G(z) and y alone were judged, the layers only led to z"


@dataclass(frozen=True)
class Explanation:
    """What can be said of signal `index`.

    trust: "yes" (z and G(z)), "signal only" (G(z), but not z), "nearest" (a local optimum: G(z) is the nearest signal found,
    to the misfit that is said) or "no". cause: "signal", "generator", "solver", "signal or search" where it may be either,
    and "" where trust is "yes". verdict: one sentence; reasons: facts with numbers and units; advice: what to do, if
    anything.
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
def explain(inversion: "Inversion", positions: list[int], generator: AbstractGenerator | None = None) -> list[Explanation]:
    """Explain the signals at `positions`; `Inversion.explain` is the short way for one.

    generator: the one that was inverted, for the facts that need it. Raises IndexError for positions that are not there,
    ValueError for a generator of other sizes.
    """
    for i in positions:
        if not 0 <= i < len(inversion):
            raise IndexError(f"expected a signal from 0 to {len(inversion) - 1}, got {i}")
    facts = gather(inversion, positions, generator)
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


# --- words ----------------------------------------------------------------------------------------


def _explain_one(f: Facts) -> Explanation:
    if f.status == verify.NUMERICAL_ERROR:
        return _no_number(f)
    if f.status == verify.EXPLAINED_WORD:
        return _explained(f)
    return _not_explained(f)


def _explained(f: Facts) -> Explanation:
    reasons = [_misfit_words(f), *_objective_words(f), _singular_words(f), _way_words(f), *_step_words(f), *_proof_words(f)]
    if f.setting("noise") is not None and f.size <= f.allowed < inf:
        reasons.append(f"the stated noise allows an l2 misfit of {f.allowed:.3g}, and |y| is {f.size:.3g}")
        little = "little: the stated noise, over all entries," if f.largest else "nothing: the stated noise"
        verdict = f"explained, and that says {little} is as large as the signal"
        return _put(f, NO, "signal", verdict, reasons, ["a smaller noise bound, in the units of the signal"])
    reasons += _layer_words(f)
    if not f.determined and f.prior.startswith("Gaussian"):
        verdict = "G(z) can be trusted, z as far as its prior can: in some directions nothing else was known of it"
        return _put(f, SIGNAL_ONLY, "generator", verdict, reasons, [])
    if not f.determined:
        cause, why, advice = _undetermined(f)
        return _put(f, SIGNAL_ONLY, cause, f"G(z) can be trusted, z cannot: {why}", reasons, [*advice, *keep_near(f)])
    if f.seen is not None and f.seen <= f.n0 and not f.prior:
        verdict = (
            f"what was seen is explained, z is one of several that may do so: {f.seen} numbers were seen, and z has {f.n0}; "
            "it is determined to first order, on its own piece, no further"
        )
        return _put(f, SIGNAL_ONLY, "signal", verdict, reasons, ["let more entries be seen, or state a prior of z"])
    if _error(f) > _ROUGH * f.size_of_z:
        noisy = f.setting("noise") is not None
        what = "the stated noise leaves z open" if noisy else "the generator is too ill-conditioned for this precision"
        advice = [less_noise(f), *keep_near(f)] if noisy else ["signals in float64; more seen entries"]
        verdict = f"G(z) can be trusted, z only roughly: {what}"
        return _put(f, SIGNAL_ONLY, "signal" if noisy else "generator", verdict, reasons, advice)
    what = "what was seen, up to what counts as its noise" if _estimated(f) else "what was seen"
    proof = f.inversion.proof
    alone = proof is not None and bool(proof.unique[f.index])
    last = [] if alone else [_AS_FAR]
    return _put(f, YES, "", f"can be trusted: G(z) is {what}, and z is determined", [*reasons, *last], [])


def _undetermined(f: Facts) -> tuple[str, str, list[str]]:
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
    return "generator", words + few, [f"use G(z), not z; no method can tell these latents apart{_inspected(f)}"]


def _inspected(f: Facts) -> str:
    """What shows more of a generator, for one that files hold."""
    return "" if str(f.setting("generator")).endswith("(opaque)") else " (cvxinv diagnose)"


def _not_explained(f: Facts) -> Explanation:
    reasons = [_misfit_words(f), *_objective_words(f), *_reach_words(f), _singular_words(f), _way_words(f), *_step_words(f)]
    reasons += [*_proof_words(f), *_layer_words(f), *_sparsity_words(f)]
    near = f.share <= _MOST
    found = f"G(z) is the nearest signal found, misfit {percent(f.share)} of |y|"
    if f.status == verify.STATIONARY and f.setting("noise") is None and f.share <= _FLOAT32:
        verdict = "it is the signal's precision: z explains it up to what rounding to float32 leaves"
        advice = ["pass the signal in float32 if it came so, or state noise=('l2', ...)"]
        return _put(f, NEAREST, "signal", verdict, reasons, advice)
    if f.reach > f.allowed and not _estimated(f):
        verdict = "it is the signal: proved, no latent at all explains it"
        verdict, trust = (
            (f"{verdict}; {found}", NEAREST) if near and f.status in (verify.STATIONARY, PROVED) else (verdict, NO)
        )
        return _put(f, trust, "signal", verdict, reasons, [*accept(f), *(keep_near(f) if near else [])])
    if f.status == PROVED:
        return _proved(f, found, reasons, near)
    if f.status == verify.USER_LIMIT:
        verdict = "it is the solver: the search for z stopped while it still made progress"
        return _put(f, NO, "solver", verdict, reasons, more_iterations(f))
    stuck = f.layers(USER_LIMIT, NUMERICAL_ERROR)
    if stuck:
        verdict = f"it is the solver: layer {stuck[0].index} was left unfinished, so the layered start is worth little"
        return _put(f, NO, "solver", verdict, reasons, other_solver(f))
    if f.number("sigma_max") == 0:
        verdict = "it is the generator: it is constant around z, no step changes the signal"
        return _put(f, NO, "generator", verdict, reasons, [f"{more_starts(f)}, for other starting points{_inspected(f)}"])
    if f.flat:
        reasons.append(f"{f.flat:.0%} of the output's entries are saturated at z and carry nothing there")
    either = "the signal is out of the generator's range, or the search missed it"
    if near:
        reasons.append("z is a local optimum: nothing near it fits better, and nothing says that it is what made y")
        verdict = f"not explained: {found}{_against_noise(f)}; {either}"
        return _put(f, NEAREST, "signal or search", verdict, reasons, [*accept(f), *keep_near(f), *try_on(f)])
    verdict = f"not explained, and a misfit of {percent(f.share)} of |y| says little of z: {either}"
    return _put(f, NO, "signal or search", verdict, reasons, [*accept(f), *try_on(f)])


def _proved(f: Facts, found: str, reasons: list[str], near: bool) -> Explanation:
    """Of what is not explained, where no latent of the box is better: no search can help."""
    proof = f.inversion.proof
    assert proof is not None
    verdict = f"it is the signal; {proof_words.verdict_of_proof(proof, f.index)}; {found}"
    none = bool(proof.out_of_range[f.index])
    verdict = f"{verdict}; no latent of the box explains it within the stated noise" if none else verdict
    return _put(f, NEAREST if near else NO, "signal", verdict, reasons, [*accept(f), *(keep_near(f) if near else [])])


def _proof_words(f: Facts) -> list[str]:
    proof = f.inversion.proof
    if proof is None:
        return []
    head = proof_words.verdict_of_proof(proof, f.index)
    return [f"proof: {words}" for words in (head, *proof_words.reasons_of_proof(proof, f.index))]


def _against_noise(f: Facts) -> str:
    """How much more the misfit is than the stated noise explains, or ""."""
    if f.setting("noise") is None or _estimated(f) or not 0 < f.allowed < inf:
        return ""
    return f", {f.number('misfit') / f.allowed:.2g} times what the stated noise explains"


def _no_number(f: Facts) -> Explanation:
    if f.size == 0:
        verdict = "it is the signal: it holds NaN or inf where it was seen, or nothing of it was seen"
        return _put(f, NO, "signal", verdict, ["left out; the others of the batch are not touched"], ["hide such entries"])
    verdict = "it is the solver: the latent that came out is not finite"
    return _put(f, NO, "solver", verdict, _layer_words(f), finite(f))


def _put(f: Facts, trust: str, cause: str, verdict: str, reasons: list[str], advice: list[str]) -> Explanation:
    return Explanation(f.index, trust, cause, verdict, tuple(r for r in reasons if r), tuple(advice))


def _misfit_words(f: Facts) -> str:
    misfit, noise = f.number("misfit"), f.setting("noise")
    share = f" = {f.share:.1e} |y|" if f.size > 0 else ", y is 0"
    source = f"the stated noise, {noise}" if noise else "no noise was stated: the signal's own precision"
    if _estimated(f):
        good = f.status == verify.EXPLAINED_WORD
        source = f"the noise as it was estimated, {noise}" if good else "what is left over is not taken for noise alone"
    norm = " in the largest entry" if f.largest else " as the sum of absolute entries" if f.summed else ""
    return f"misfit {misfit:.2e}{share}; up to {f.number('explained_below'):.2e}{norm} counts as explained ({source})"


def _estimated(f: Facts) -> bool:
    return f.inversion.uncertainty is not None and f.inversion.uncertainty.estimated


def _objective_words(f: Facts) -> list[str]:
    """What z is an optimum of, where an objective was stated, and what is known of the noise's level."""
    words = []
    if f.prior:
        of = "of misfit^2 / (2 sigma^2) + R(z)" if f.gaussian else "of the misfit"
        words.append(f"z is sought as an optimum {of} under the prior {f.prior}")
    if f.held:
        words.append(f"{f.held}: without it y would lead further out")
        if f.gaussian:
            words.append(
                "standard deviations are those of the directions that the set leaves free, 0 along others; "
                "intervals of what a side of a box holds begin at that side"
            )
    known = f.inversion.uncertainty
    if known is not None and _estimated(f) and not known.sigma[f.index].isnan():
        sigma, error, dof = (float(value[f.index]) for value in (known.sigma, known.sigma_error, known.dof))
        spent = f"{dof:.3g} of {int(known.seen[f.index])} degrees of freedom went into z"
        level = f"noise per entry: {sigma:.3g} +- {error:.2g}, estimated from what the fit leaves over"
        words.append(f"{level} ({spent}); an error of the model counts as noise")
    return words


def _reach_words(f: Facts) -> list[str]:
    if f.reach <= 1e-6 * f.size:
        return []
    words = f"the image layer's certificate proves that no latent has a misfit below {f.reach:.3g}; this one has "
    words += f"{f.number('misfit') / f.reach:.2f} times that"
    if f.largest and f.seen is not None:
        words += f", and the stated bound allows at most {f.allowed:.3g} over the {f.seen} entries seen"
    return [words]


def _singular_words(f: Facts) -> str:
    low, high = f.number("sigma_min"), f.number("sigma_max")
    head = f"singular values of the Jacobian of what was seen: {low:.3g} to {high:.3g} signal per latent unit"
    if not f.determined:
        return f"{head}; z is not determined"
    tail, error = "", _error(f)
    if f.status == verify.EXPLAINED_WORD and error < inf:
        of_z = f" = {error / f.size_of_z:.1e} |z|" if f.size_of_z > 0 else ""
        what = "the standard deviation of z is" if f.gaussian else "to first order z is right to"
        tail = f"; {what} {error:.1e}{of_z}"
    return f"{head}, condition number {high / low:.3g}{tail}"


def _error(f: Facts) -> float:
    """How far z may be from the true latent, latent units: its standard deviation under gaussian noise, else to first order
    (misfit + noise) / sigma_min; inf of noise in few entries, of which that says nothing."""
    if f.summed:
        return inf
    known = f.inversion.uncertainty
    if known is not None:
        return float(known.z_std.reshape(len(known), -1)[f.index].norm())
    noise = str(f.setting("noise") or "")
    bound = f.number("explained_below") if noise else 0.0
    entries = f.inversion.signal.shape[-1] if noise.startswith("linf") else 1
    return (f.number("misfit") + bound * entries**0.5) / max(f.number("sigma_min"), 1e-300)


def _way_words(f: Facts) -> str:
    used, spent = f.inversion.used[f.index], int(f.inversion.starts[f.index])
    tried = f"; {spent} random start{' was' if spent == 1 else 's were'} tried" if spent else ""
    return f"z came from: {used or 'nothing'}{tried}"


def _step_words(f: Facts) -> list[str]:
    return [note for note in f.inversion.notes if note.startswith(STEPS)]


def _layer_words(f: Facts) -> list[str]:
    layers = f.inversion.layers
    if not layers:
        return []
    good = len(f.layers(OPTIMAL))
    words = [f"layers: {good} of {len(layers)} certified optimal"]
    if f.status == verify.EXPLAINED_WORD and f.layers(INFEASIBLE, USER_LIMIT, NUMERICAL_ERROR):
        words[0] += f"; {_HARMLESS}"
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


def _sparsity_words(f: Facts) -> list[str]:
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
