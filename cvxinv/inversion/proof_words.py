"""A proof in words: what was proved of which latents, what that means for z, and what to do where it is not enough."""

from typing import TYPE_CHECKING

import torch

from .moments import BOUNDED, NOTHING, PROVED, TINY

if TYPE_CHECKING:
    from .proof import Proof

_LENGTHS = {"linf": "largest misfit of an entry", "l1": "sum of absolute misfits"}
_NEAR = 1e-3  # gaps up to this keep every latent that is as good, so that a box of them is known


def summary_of_proof(proof: "Proof") -> str:
    """What was proved of all signals: a few lines."""
    counts = ", ".join(f"{count} {status}" for status, count in proof.counts().items())
    count = len(proof)
    lines = [
        f"prove: {count} signal{'' if count == 1 else 's'} in {proof.seconds:.2f} s; of latents with {box_words(proof)}"
    ]
    asked = proof.settings.get("gap")
    known = proof.gap[proof.gap.isfinite()]
    if len(known):
        worst = f"gap of the squared misfit: median {float(known.median()):.1e}, largest {float(known.max()):.1e}"
        counts += f"; {worst}, {asked:.1e} was asked for"
    lines.append(f"  {counts}")
    for name, words in (
        ("unique", f"all latents of the box that are as good lie on one affine piece, which determines them{_up_to(proof)}"),
        ("improved", "a better latent was found than the one it began with"),
        ("out_of_range", "proved: no latent of the box meets the stated noise"),
    ):
        if number := int(getattr(proof, name).sum()):
            lines.append(f"  {number} {name.replace('_', ' ')}: {words}")
    if proof.stopped:
        lines.append(f"  stopped by {proof.stopped}: what was not decided by then has the bound that it had")
    return "\n".join(lines)


def explain_proof(proof: "Proof", i: int) -> str:
    """Signal i in words. Raises IndexError."""
    if not 0 <= i < len(proof):
        raise IndexError(f"expected a signal from 0 to {len(proof) - 1}, got {i}")
    lines = [f"signal {i}: {verdict_of_proof(proof, i)}", *(f"  {reason}" for reason in reasons_of_proof(proof, i))]
    return "\n".join([*lines, *(f"  to do: {advice}" for advice in advice_of_proof(proof, i))])


def _up_to(proof: "Proof") -> str:
    """In what sense a latent is as good."""
    return f"; others may be better by {_percent(proof)} at most" if "gap" in proof.settings else ""


def box_words(proof: "Proof") -> str:
    """The box that was searched, latent units."""
    low, high = (side.cpu() for side in proof.box)
    if bool((low != low[0]).any()) or bool((high != high[0]).any()):
        return f"each of {len(low)} coordinates between sides of its own"
    if float(low[0]) == -float(high[0]):
        return f"|z_j| <= {float(high[0]):.4g}"
    return f"{float(low[0]):.4g} <= z_j <= {float(high[0]):.4g}"


def verdict_of_proof(proof: "Proof", i: int) -> str:
    """One sentence: what was proved."""
    status = str(proof.status[i])
    if status == NOTHING:
        return (
            "nothing was proved: the signal, or the latent that was given for it, is no number, or the signal is so small "
            "that its squares are 0"
        )
    misfit, bound = float(proof.misfit[i]), float(proof.bound[i])
    alone = ", and latents that are as good lie on one affine piece, which determines them" if bool(proof.unique[i]) else ""
    if status == BOUNDED and bound <= 0:
        return "not decided: nothing is known yet of how near another latent may come"
    if status == BOUNDED:
        return (
            f"not decided: no latent of the box has less than {100 * (bound / misfit) ** 2:.3g} % of its squared misfit; "
            "whether one has less than all of it is open"
        )
    if misfit <= TINY * float(proof.size[i]):
        return f"proved optimal: z meets what was seen to rounding{alone}"
    return (
        f"proved optimal: no latent of the box is better by more than {_percent(proof)} of the squared "
        f"{'objective' if _weighed(proof) else 'misfit'}{alone}"
    )


def reasons_of_proof(proof: "Proof", i: int) -> list[str]:
    """Facts, with numbers and units."""
    if proof.status[i] == NOTHING:
        return []
    words = [_numbers(proof, i), f"latents spoken of: {box_words(proof)}; of others nothing is said"]
    if _in_a_ball(proof):
        words.append("the ball of the prior is not cut out of that box: what is proved holds in all of the box")
    if bool(proof.improved[i]):
        before = float(proof.history.misfit[i, 0]) if proof.history.misfit.shape[1] else float("nan")
        words.append(f"z is better than what it began with, whose misfit was {before:.6g}: that was not the best latent")
    if bool(proof.out_of_range[i]):
        allowed = float(proof.verdict.explained_below[i])
        words.append(f"out of range: the stated noise allows {allowed:.4g}, and no latent of the box comes that near")
    words += _where(proof, i)
    open_units, hidden = proof.undecided[i].tolist(), len(proof.hidden)
    if any(open_units) and (proof.status[i] == BOUNDED or _keeps_as_good(proof)):
        names = [f"hidden layer {k}" if k <= hidden else "the signal's rows" for k in range(1, len(open_units) + 1)]
        units = ", ".join(f"{count} of {name}" for count, name in zip(open_units, names, strict=True) if count)
        words.append(f"units of which it is open whether they are on at a latent as good: {units}")
    elif bool(proof.unique[i]):
        words.append("every unit is on, or off, at all latents that are as good: one of that piece is the best of the box")
    return [*words, f"searched: {_counted(proof.nodes[i], 'node')}, {_counted(proof.rounds[i], 'round')}"]


def advice_of_proof(proof: "Proof", i: int) -> list[str]:
    """What to do where it is not enough."""
    if proof.status[i] != BOUNDED:
        return []
    gap, advice = float(proof.gap[i]), []
    if proof.stopped:
        advice.append("more time: a larger time_limit; with checkpoint=folder a proof goes on by resume=True")
        if _in_a_ball(proof):
            advice.append("no time closes the gap where the best latent of the box lies outside of the ball: a box inside")
    else:
        advice.append("a larger gap: some part of the box can be neither excluded nor split in float64")
    if gap < 1:
        advice.append(f"if {100 * gap:.2g} % of the squared misfit is near enough: that gap is proved already")
    share = float(proof.misfit[i]) / max(float(proof.size[i]), 1e-300)
    if share > 0.05:
        advice.append(
            f"the signal is {100 * share:.0f} % of |y| from G(z), where proofs take longest: a larger gap or a smaller box"
        )
    return advice


def _numbers(proof: "Proof", i: int) -> str:
    misfit, bound, size = float(proof.misfit[i]), float(proof.bound[i]), float(proof.size[i])
    norm = _norm(proof)
    what = "objective (|A G(z) - y|^2 + 2 sigma^2 R(z))^(1/2)" if _weighed(proof) else _LENGTHS.get(norm, "misfit")
    share = f" = {misfit / size:.1e} |y|" if size > 0 and norm not in _LENGTHS else ""
    asked = float(proof.settings.get("gap", 0.0))
    return (
        f"{what} {misfit:.6g}{share}; proved: none in the box is below {bound:.6g}, signal units; "
        f"gap {float(proof.gap[i]):.1e} of the square, {asked:.1e} was asked for"
    )


def _where(proof: "Proof", i: int) -> list[str]:
    """How far apart latents that are as good may be."""
    if not _keeps_as_good(proof):
        return []
    sides = (proof.high[i] - proof.low[i]).cpu()
    if not bool(torch.isfinite(sides).all()):
        return ["no latent of the box is as good as z"] if proof.status[i] == PROVED else []
    whole = (proof.box[1] - proof.box[0]).cpu()
    if bool((sides >= whole).all()):
        return ["where in the box latents as good may lie is open"]
    radius = float(proof.radius[i])
    return [
        f"every latent of the box that is as good lies within {radius:.2g} of one point in each coordinate, latent units"
    ]


def _norm(proof: "Proof") -> str:
    return str(proof.settings.get("noise") or "").partition(":")[0].partition(",")[0]


def _keeps_as_good(proof: "Proof") -> bool:
    """Whether the search keeps all latents that are as good, and not only those that are better by more than the gap."""
    return float(proof.settings.get("gap", 1.0)) <= _NEAR and _norm(proof) != "linf"


def _in_a_ball(proof: "Proof") -> bool:
    return str(proof.settings.get("prior") or "").startswith("Ball")


def _weighed(proof: "Proof") -> bool:
    return str(proof.settings.get("prior") or "").startswith("Gaussian")


def _percent(proof: "Proof") -> str:
    return f"{100 * float(proof.settings['gap']):.2g} %"


def _counted(count: torch.Tensor, name: str) -> str:
    return f"{int(count)} {name}{'' if int(count) == 1 else 's'}"
