"""How far an answer may be from the truth, drawn: z with its intervals, the noise's level of each signal."""

from dataclasses import replace
from math import isfinite
from typing import Any

from torch import Tensor

from ..generator.activations import Identity
from ..inversion.result import Inversion
from .svg import BLACK, BLUE, GREY, ORANGE, Mark, Plane, chart, index_axis, legend, linear_axis, log_axis

LEVEL = 0.95
_MOST = 16  # signals whose z is drawn
_WIDE = 200  # coordinates of z that are drawn


def spread_part(inversion: Inversion, shown: list[int], charted: range, truth: Tensor | None) -> dict[str, Any] | None:
    """Words and drawings, or None where nothing is known. shown: signals whose z is drawn; truth: true latents `(N, n0)`."""
    known = inversion.uncertainty
    if known is None:
        return None
    drawn = [i for i in shown if bool(known.sigma[i].isfinite())][:_MOST]
    return {
        "words": known.summary(),
        "estimated": known.estimated,
        "prior": str(inversion.settings.get("prior") or ""),
        "levels": _levels(inversion, charted),
        "z": [_z_chart(inversion, i, truth) for i in drawn],
        "legend": _z_legend(truth) if drawn else "",
        "left_out": len(shown) - len(drawn),
    }


def z_intervals(inversion: Inversion) -> tuple[Tensor, Tensor]:
    """Ends of the intervals of z, `(N, n0)` each."""
    known, N = inversion.uncertainty, len(inversion)
    assert known is not None
    # what stands before an output that no file can name is not asked for
    low, high = replace(known, output=Identity()).intervals(LEVEL)[0]
    return low.reshape(N, -1), high.reshape(N, -1)


def _levels(inversion: Inversion, charted: range) -> str:
    known = inversion.uncertainty
    assert known is not None
    sigma, error = known.sigma.tolist(), known.sigma_error.tolist()
    there = [i for i in charted if isfinite(sigma[i])]
    values = [v for i in there for v in (sigma[i], sigma[i] + error[i], max(sigma[i] - error[i], sigma[i] / 10))]
    plane = Plane(index_axis("signal", len(charted)), log_axis("noise per entry, signal units", values), 220)
    marks = []
    for i in there:
        ends = max(sigma[i] - error[i], sigma[i] / 10), sigma[i] + error[i]
        marks.append(plane.line([(i, ends[0]), (i, ends[1])], GREY, 1.5))
        how = f"{sigma[i]:.3g} +- {error[i]:.2g}, estimated" if error[i] else f"{sigma[i]:.3g}, stated"
        marks.append(plane.point(Mark("circle", BLUE), i, sigma[i], f"signal {i}: {how}"))
    return chart(plane, marks, "noise per entry of each signal", "standard deviation of the noise and its standard error")


def _z_chart(inversion: Inversion, i: int, truth: Tensor | None) -> dict[str, Any]:
    low, high = (side[i][:_WIDE].tolist() for side in z_intervals(inversion))
    z = inversion.z.detach().cpu().double().reshape(len(inversion), -1)[i][:_WIDE].tolist()
    true = [] if truth is None else truth[i][:_WIDE].tolist()
    plane = Plane(index_axis("coordinate of z", len(z)), linear_axis("latent units", [*z, *true, *low, *high]), 230)
    marks = []
    for k, value in enumerate(z):
        bottom, top = (plane.y.low if not isfinite(low[k]) else low[k]), (plane.y.high if not isfinite(high[k]) else high[k])
        marks.append(plane.line([(k, bottom), (k, top)], GREY, 2))
        ends = f"{low[k]:.3g} to {high[k]:.3g}" if isfinite(low[k]) and isfinite(high[k]) else "open: nothing limits it"
        marks.append(plane.point(Mark("circle", ORANGE), k, value, f"coordinate {k}: {value:.3g}, {ends}"))
    marks += [plane.point(Mark("dash", BLACK), k, value, f"true {value:.3g}", 6) for k, value in enumerate(true)]
    title = f"z of signal {i} with {LEVEL:.0%} intervals"
    words = "each coordinate of z, the interval that holds the true one with that probability, and the true one where known"
    return {"title": title, "svg": chart(plane, marks, title, words)}


def _z_legend(truth: Tensor | None) -> str:
    marks = [Mark("circle", ORANGE, "z found"), Mark("dash", GREY, f"line: {LEVEL:.0%} interval")]
    return legend(marks if truth is None else [*marks, Mark("dash", BLACK, "true z")])
