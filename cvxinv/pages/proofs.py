"""A proof, drawn: how the gap closed, what is proved of each signal, how many units were open, where latents as good lie."""

from math import isfinite
from typing import Any

import torch
from torch import Tensor

from ..inversion.moments import BOUNDED, PROVED, gap_of
from ..inversion.proof import Proof
from ..inversion.result import Inversion
from .svg import BLACK, BLUE, GREEN, GREY, ORANGE, Mark, Plane, chart, index_axis, legend, linear_axis, log_axis

_LINES = 12  # signals with a line each; of more, quantiles
_MOST = 16  # signals whose latents are drawn
_WIDE = 200  # coordinates of z that are drawn
_FLOOR = 1e-12  # gaps of 0 are drawn here
_SMALL = 1e-16  # and radii
_COLOURS = {PROVED: BLUE, BOUNDED: ORANGE}
_QUANTILES = ((0.9, ORANGE, "90 %"), (0.5, BLUE, "median"), (0.1, GREEN, "10 %"))


def proof_part(inversion: Inversion, shown: list[int], charted: range) -> dict[str, Any] | None:
    """Words and drawings, or None where nothing was asked to be proved. shown: signals whose latents are drawn."""
    proof = inversion.proof
    if proof is None:
        return None
    head, *rest = proof.summary().splitlines()
    drawn = [i for i in shown if bool(torch.isfinite(proof.high[i] - proof.low[i]).all())][:_MOST]
    return {
        "head": head,
        "words": [line.strip() for line in rest],
        "gaps": _gaps(proof),
        "units": _units(proof),
        "signals": _signals(proof, charted),
        "radii": [_radii(proof, i) for i in drawn],
        "left_out": len(shown) - len(drawn),
    }


def _gaps(proof: Proof) -> dict[str, str]:
    h = proof.history
    gap = gap_of(h.bound, h.misfit, proof.size[:, None].expand_as(h.bound))
    known = gap[gap.isfinite().all(1)]
    asked, seconds = float(proof.settings.get("gap", 0.0)), h.seconds.tolist()
    plane = Plane(
        linear_axis("seconds since the proof began", seconds, zero=True),
        log_axis("gap of the squared misfit, no unit", [1.0, asked, *known.flatten().tolist()], _FLOOR),
    )
    marks = [plane.line([(plane.x.low, asked), (plane.x.high, asked)], BLACK, 1, "4 3")] if asked > 0 else []
    keys = [Mark("dash", BLACK, f"the gap that was asked for, {asked:.1e}")]
    if len(known) <= _LINES:
        there = [i for i in range(len(proof)) if str(proof.status[i]) in _COLOURS]
        for i in there:
            last = float(gap[i, -1])
            marks.append(plane.line(list(zip(seconds, gap[i].tolist(), strict=True)), _COLOURS[str(proof.status[i])], 1.4))
            marks.append(plane.point(_mark(proof, i), seconds[-1], last, f"signal {i}: {float(gap[i, -1]):.1e}"))
        keys += _status_keys(proof, there)
    else:
        for share, colour, name in _QUANTILES:
            line = torch.quantile(known.double(), share, dim=0).tolist()
            marks.append(plane.line(list(zip(seconds, line, strict=True)), colour, 1.6))
            keys.append(Mark("dash", colour, f"{name} of the signals"))
    title = "gap against time"
    words = "how much less than the best squared misfit known another latent may have, log scale, against seconds"
    return {"title": title, "svg": chart(plane, marks, title, words), "legend": legend(keys)}


def _units(proof: Proof) -> dict[str, str]:
    h = proof.history
    count, seconds = h.undecided.double(), h.seconds.tolist()
    nodes = h.open.double().sum(0)
    rows = ((count.amax(0), ORANGE, "most of any signal"), (count.median(0).values, BLUE, "median of the signals"))
    plane = Plane(
        linear_axis("seconds since the proof began", seconds, zero=True),
        linear_axis("undecided units", [0.0, *count.amax(0).tolist()], zero=True),
        230,
    )
    marks = [plane.line(list(zip(seconds, line.tolist(), strict=True)), colour, 1.6) for line, colour, _ in rows]
    title = "undecided units"
    words = (
        "hidden units of which it is open whether they are on, in the part of the box where most are, against seconds; "
        f"at most {int(nodes.max())} parts were open at once"
    )
    keys = legend([Mark("dash", colour, name) for _, colour, name in rows])
    return {"title": title, "svg": chart(plane, marks, title, words), "legend": keys}


def _signals(proof: Proof, charted: range) -> dict[str, str]:
    size = proof.size.clamp(min=1e-300)
    misfit, bound = (proof.misfit / size).tolist(), (proof.bound / size).tolist()
    there = [i for i in charted if isfinite(misfit[i])]
    values = [v for i in there for v in (misfit[i], bound[i])]
    plane = Plane(index_axis("signal", len(charted)), log_axis("over |y|, no unit", values, _SMALL))
    marks, low = [], Mark("dash", BLACK, "no latent of the box is below")
    for i in there:
        marks.append(plane.line([(i, bound[i]), (i, misfit[i])], GREY, 1))
        marks.append(plane.point(low, i, bound[i], f"signal {i}: none below {bound[i]:.3g} |y|"))
        words = f"signal {i}: {proof.status[i]}, misfit {misfit[i]:.3g} |y|{', unique' if proof.unique[i] else ''}"
        marks.append(plane.point(_mark(proof, i), i, misfit[i], words))
    title = "misfit of each signal, and what none is below"
    words = "misfit of the best latent known, and the proved lower bound on that of every latent of the box, log scale"
    return {"title": title, "svg": chart(plane, marks, title, words), "legend": legend([*_status_keys(proof, there), low])}


def _radii(proof: Proof, i: int) -> dict[str, str]:
    """How far apart latents that are as good may be, coordinate by coordinate."""
    half = _half(proof.high[i] - proof.low[i])
    whole = _half(proof.box[1] - proof.box[0])
    plane = Plane(
        index_axis("coordinate of z", len(half)), log_axis("half side, latent units", [*half, *whole], _SMALL), 200
    )
    marks = [plane.point(Mark("dash", GREY), k, value, f"the box: {value:.3g}", 5) for k, value in enumerate(whole)]
    marks += [
        plane.point(Mark("circle", BLUE), k, value, f"coordinate {k}: within {value:.2g}") for k, value in enumerate(half)
    ]
    title = f"signal {i}: where latents as good may lie"
    words = "half the side of a box that holds every latent as good as z, and of the box that was searched, log scale"
    keys = legend([Mark("circle", BLUE, "every latent as good"), Mark("dash", GREY, "the box that was searched")])
    return {"title": title, "svg": chart(plane, marks, title, words), "legend": keys}


def _half(sides: Tensor) -> list[float]:
    return (sides.detach().cpu().double()[:_WIDE] / 2).clamp(min=0).tolist()


def _mark(proof: Proof, i: int) -> Mark:
    return Mark("circle", BLUE) if proof.status[i] == PROVED else Mark("triangle", ORANGE)


def _status_keys(proof: Proof, there: list[int]) -> list[Mark]:
    statuses = {str(proof.status[i]) for i in there}
    keys = (Mark("circle", BLUE, PROVED), Mark("triangle", ORANGE, BOUNDED))
    return [key for key in keys if key.label in statuses]
