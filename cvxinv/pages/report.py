"""`write_report`: one inversion on one page that needs nothing else: pictures, numbers, and in words what can be trusted.

The page is a single HTML file without script, fonts or addresses of other files; drawings are inline SVG, pictures PNG
data. Everything that a user or a file may have named is escaped. The template is `templates/report.html`.
"""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..bitmaps import data_uri, picture_shape
from ..generator.abstract import AbstractGenerator
from ..inputs import read_numbers
from ..inversion.answer import LayerReport
from ..inversion.belonging import check_generator, check_signals
from ..inversion.explain import NEAREST, NO, SIGNAL_ONLY, YES, Explanation, explain
from ..inversion.result import Inversion, snr
from ..inversion.verify import INVERSION_STATUSES
from ..layers.core.certificate import INFEASIBLE, LAYER_STATUSES
from ..measurement.abstract import AbstractMeasurement
from ..measurement.entries import Mask
from ..measurement.given import as_measurement, check_given
from ..surroundings import undisturbed
from .png import output_range
from .proofs import proof_part
from .rendering import render, write_page
from .spreads import spread_part
from .svg import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Axis,
    Mark,
    Plane,
    chart,
    index_axis,
    legend,
    linear_axis,
    log_axis,
    raster,
    spread_chart,
)

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_MOST_POINTS = 1000  # signals in a chart
_MOST_ROWS = 32  # signals in a raster of supports
_SIDE = 112  # pixels that a small picture is enlarged to
_FINEST = 0.01  # the colours of a difference never resolve less than this share of the range of values
_FLOOR = 1e-17  # what is 0 is drawn here on a log axis
_HATCH = (np.array([244, 162, 89]), np.array([176, 96, 20]))  # stripes of hidden pixels
_FAINT = (np.array([238, 238, 238]), np.array([214, 214, 214]))  # the same beside colours that must be told apart

_TRUST = {
    YES: "z and G(z) can be trusted",
    SIGNAL_ONLY: "only G(z) can be trusted",
    NEAREST: "not explained: the nearest signal found",
    NO: "cannot be trusted",
}
_SIGNAL_MARKS = {
    "explained": Mark("circle", BLUE, "explained"),
    "stationary": Mark("triangle", ORANGE, "stationary"),
    "user_limit": Mark("square", PURPLE, "user_limit"),
    "numerical_error": Mark("cross", BLACK, "numerical_error"),
}
_LAYER_MARKS = {
    "optimal": Mark("circle", BLUE),
    "optimal_inaccurate": Mark("diamond", GREEN),
    "stationary": Mark("diamond", PURPLE),
    "infeasible": Mark("triangle", ORANGE),
    "user_limit": Mark("square", PURPLE),
    "numerical_error": Mark("cross", BLACK),
}


@dataclass(frozen=True, eq=False)
class _Page:
    """What a page is made of, on the CPU with a batch axis. shown: positions of the signals that are drawn; truth: true
    signals, true_z: their latents."""

    inversion: Inversion
    signal: Tensor
    hidden: list[Tensor]
    y: Tensor | None
    generator: AbstractGenerator | None
    measurement: AbstractMeasurement
    truth: Tensor | None
    true_z: Tensor | None
    snr: dict[str, Tensor]
    words: list[Explanation]
    shown: list[int]

    @property
    def charted(self) -> range:
        """The signals that stand in charts."""
        return range(min(len(self.inversion), _MOST_POINTS))


@undisturbed
def write_report(
    inversion: Inversion,
    path: str | Path,
    *,
    y: Tensor | np.ndarray | None = None,
    generator: AbstractGenerator | None = None,
    measurement: object = None,
    truth: Tensor | np.ndarray | None = None,
    most: int = 64,
) -> Path:
    """Write an inversion as one self-contained HTML file, whole or not at all; returns the path.

    y, measurement: what was inverted, as in `invert`; without y no observed signals are drawn. generator: the one that was
    inverted; without it the shape of pictures is guessed and less can be explained. truth: true latents `(N, n0)`, for true
    signals and, where the inversion does not know them, SNRs; needs the generator. most: signals drawn and explained one by
    one; where there are more, those that are not trusted come first. Raises ValueError or TypeError for what does not fit
    the inversion, as signals or a generator that are not its own; OSError where the file cannot be written.
    """
    if not isinstance(inversion, Inversion):
        raise TypeError(f"expected an Inversion, got {type(inversion).__name__}; pass what cvxinv.invert gives back")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"most must be an integer >= 1, got {most!r}")
    return write_page(path, lambda: _render(_page(inversion, y, generator, measurement, truth, most)))


def _page(
    inversion: Inversion, y: object, generator: AbstractGenerator | None, measurement: object, truth: object, most: int
) -> _Page:
    N, d = len(inversion), inversion.signal.shape[-1]
    seeing = as_measurement(measurement, d, N, inversion.z.device).to(torch.float64, "cpu")
    if y is not None:
        check_given(inversion.settings.get("measurement"), measurement)
    observed = None if y is None else _observed(y, seeing, N)
    if observed is not None and seeing.pixelwise and bool(observed.isnan().any()):
        seeing = Mask(seeing.seen(N) & ~observed.isnan())  # what is no number was not seen
    if observed is not None:
        check_signals(inversion, observed, seeing)
    if generator is not None:
        check_generator(inversion, generator)
    z, x, values = _truth(inversion, generator, truth)
    words = explain(inversion, list(range(N)), generator)
    signal = inversion.signal.detach().cpu().double().reshape(N, d)
    hidden = [h.detach().cpu().double().reshape(N, -1) for h in inversion.hidden]
    return _Page(inversion, signal, hidden, observed, generator, seeing, x, z, values, words, _shown(words, most))


def _observed(y: object, seeing: AbstractMeasurement, N: int) -> Tensor:
    device = y.device if isinstance(y, Tensor) else torch.device("cpu")
    value = read_numbers(y, "signals", device, "f").cpu().double()
    if value.numel() != N * seeing.length:
        raise ValueError(
            f"expected y of {N} signals with {seeing.length} entries, got shape {tuple(value.shape)}; pass what was inverted"
        )
    return value.reshape(N, seeing.length)


def _truth(
    inversion: Inversion, generator: AbstractGenerator | None, truth: object
) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
    """The true latents and signals, and SNRs: the inversion's own where it has them."""
    if truth is None:
        return None, None, inversion.snr
    if generator is None:
        raise ValueError("expected generator= with truth=, got none; true signals are the generator's at the true latents")
    N, G = len(inversion), generator.to(torch.float64, "cpu")
    device = truth.device if isinstance(truth, Tensor) else torch.device("cpu")
    z = read_numbers(truth, "the true latents", device, "f").cpu().double()
    if z.numel() != N * G.latent_dim:
        raise ValueError(
            f"expected the true latents of shape ({N}, {G.latent_dim}), got {tuple(z.shape)}; pass truth=z of them"
        )
    z = z.reshape(N, -1)
    if inversion.snr:
        return z, G(z), inversion.snr
    found = [inversion.z, *inversion.hidden, inversion.signal]
    names = ["z", *(f"hidden {k}" for k in range(1, G.depth)), "signal"]
    true = [z, *G.hidden(z), G(z)]
    values = {n: snr(t, f.detach().cpu().double().reshape(N, -1)) for n, t, f in zip(names, true, found, strict=True)}
    return z, true[-1], values


def _shown(words: list[Explanation], most: int) -> list[int]:
    """At most `most` positions, in order: first what is not trusted, up to half where there is more of both."""
    if len(words) <= most:
        return list(range(len(words)))
    bad = [w.index for w in words if w.trust != YES]
    good = [w.index for w in words if w.trust == YES]
    kept = bad[: max(most - len(good), most // 2)]
    return sorted(kept + good[: most - len(kept)])


def _render(page: _Page) -> str:
    return render(
        "report.html",
        title=_title(page),
        head=_headline(page),
        settings=_settings(page.inversion),
        cards=_cards(page),
        left_out=len(page.inversion) - len(page.shown),
        snr=_snr_part(page),
        misfit=_misfit_part(page),
        spread=spread_part(page.inversion, page.shown, page.charted, page.true_z),
        proof=proof_part(page.inversion, page.shown, page.charted),
        layers=_layer_part(page),
        supports=_support_part(page),
        singular=_singular_part(page),
        signals=[_signal_row(page, i) for i in page.shown],
        has_snr="z" in page.snr,
        charted=len(page.charted),
        count=len(page.inversion),
    )


# --- words ----------------------------------------------------------------------------------------


def _title(page: _Page) -> str:
    name = page.inversion.settings.get("generator") or (page.generator.named if page.generator else None)
    return f"Inversion of {name or 'a generator'}"


def _headline(page: _Page) -> dict[str, Any]:
    """How many can be trusted, and for each reason how many, which, and what to do."""
    tiles = [
        {"trust": key.replace(" ", "-"), "count": sum(w.trust == key for w in page.words), "text": text}
        for key, text in _TRUST.items()
    ]
    groups: dict[tuple[str, str], list[Explanation]] = {}
    for word in page.words:
        groups.setdefault((word.trust, word.verdict), []).append(word)
    order = sorted(groups.items(), key=lambda item: (list(_TRUST).index(item[0][0]), -len(item[1])))
    return {
        "tiles": tiles,
        "groups": [
            {"trust": trust.replace(" ", "-"), "verdict": verdict, "count": len(members), **_links(page, members)}
            for (trust, verdict), members in order
        ],
        "proved": _proved_words(page),
    }


def _links(page: _Page, members: list[Explanation]) -> dict[str, Any]:
    first = [{"index": m.index, "here": m.index in page.shown} for m in members[:12]]
    return {"first": first, "more": len(members) - len(first)}


def _proved_words(page: _Page) -> str:
    layers = page.inversion.layers
    if not layers:
        return (
            "No layer problems were solved on the way, so there are no certificates; what is said rests on the misfit and "
            "on the singular values at z."
        )
    optimal = int((page.inversion.layer_status == "optimal").all(1).sum())
    return (
        f"The layered start solved {len(layers)} convex problems per signal; for {optimal} of {len(page.inversion)} signals "
        "all of them are certified optimal. The verdict on a signal does not rest on that, but on the misfit of G(z) and on "
        "the Jacobian at z."
    )


def _settings(inversion: Inversion) -> list[dict[str, Any]]:
    asked = {"method": inversion.method, "signals": len(inversion)} | inversion.settings
    asked |= {f"note {k}": note for k, note in enumerate(inversion.notes, 1)}
    ran = inversion.versions | {f"seconds, {name}": f"{value:.2f}" for name, value in inversion.seconds.items()}
    return [
        {"title": "what was asked for", "rows": [(k, "none" if v is None else str(v)) for k, v in asked.items()]},
        {"title": "what ran", "rows": list(ran.items())},
    ]


def _signal_row(page: _Page, i: int) -> dict[str, Any]:
    inversion, word = page.inversion, page.words[i]
    return {
        "index": i,
        "trust": word.trust.replace(" ", "-"),
        "trust_words": _TRUST[word.trust],
        "cause": word.cause,
        "status": str(inversion.status[i]),
        "misfit": _misfit_words(page, i),
        "snr": _snr_words(float(page.snr["z"][i])) if "z" in page.snr else "",
        "words": str(word),
    }


def _relative_misfit(page: _Page) -> Tensor:
    """misfit / |y|, NaN where nothing was seen or all of it is 0, `(N,)`."""
    verdict = page.inversion.verdict
    return torch.where(verdict.size > 0, verdict.relative_misfit, torch.nan)


def _misfit_words(page: _Page, i: int) -> str:
    share, misfit = float(_relative_misfit(page)[i]), float(page.inversion.verdict.misfit[i])
    if isfinite(share):
        return f"{share:.1e} |y|"
    return f"{misfit:.1e}, y is 0" if isfinite(misfit) else "unknown"


def _snr_words(value: float) -> str:
    return f"{value:.1f} dB" if isfinite(value) else "unknown"


def _short(value: float) -> str:
    return f"{value:.1e}" if isfinite(value) else "none"


# --- pictures -------------------------------------------------------------------------------------


def _cards(page: _Page) -> dict[str, Any]:
    """One card of pictures per shown signal, and the words that say how to read them."""
    shape = picture_shape(page.generator.signal_shape if page.generator else (page.signal.shape[1],))
    draw = _Drawing.of(page, shape)
    cards = [{**_signal_row(page, i), "pictures": draw.pictures(page, i), "curve": draw.curve(page, i)} for i in page.shown]
    return {"cards": cards, "caption": draw.caption(page)}


@dataclass(frozen=True)
class _Drawing:
    """How signals are drawn. shape: (channels, height, width), None for curves. low, high: values that are white and black
    (black and white of colour pictures); span: difference of full colour; deviation: the standard deviation that is black, 0
    where none is known; signal units."""

    shape: tuple[int, int, int] | None
    low: float
    high: float
    span: float
    deviation: float = 0.0

    @staticmethod
    def of(page: _Page, shape: tuple[int, int, int] | None) -> "_Drawing":
        shown = [page.signal[page.shown]] + ([page.truth[page.shown]] if page.truth is not None else [])
        low, high = _limits(
            torch.cat(shown).nan_to_num(0.0), None if page.generator is None else output_range(page.generator)
        )
        found = [difference for i in page.shown if (difference := _difference(page, i))]
        span = max([float(one[0].abs().nan_to_num(0.0).max()) for one in found] + [_FINEST * (high - low)])
        known = _Drawing._std(page)[page.shown]
        good = known[torch.isfinite(known)]
        return _Drawing(shape, low, high, span, float(good.max()) if len(good) else 0.0)

    @staticmethod
    def _std(page: _Page) -> Tensor:
        """Standard deviations of the signals, `(N, d)`; NaN where nothing is known."""
        known = page.inversion.uncertainty
        return torch.full_like(page.signal, torch.nan) if known is None else known.signal_std.reshape(page.signal.shape)

    def caption(self, page: _Page) -> str:
        against = "recovered minus true" if page.truth is not None else "recovered minus observed, where that was seen"
        if self.shape is None:
            return "Curves: the value of each entry, in signal units, against its number. Shaded entries were not seen."
        grey = self.shape[0] == 1
        ends = ("white", "black") if grey else ("black", "full colour")
        words = "Drawn dark on light, which inverts what a PNG file holds. " if grey else ""
        words += f"Values from {self.low:.3g} ({ends[0]}) to {self.high:.3g} ({ends[1]}), clipped outside. "
        if page.y is not None and page.measurement.pixelwise:
            words += "Striped pixels were not seen. "
        if self.deviation > 0:
            words += f"Standard deviation of the signal: from 0 (white) to {self.deviation:.2g} (black), signal units. "
        if page.y is None and page.truth is None:
            return words
        return (
            words
            + f"Difference: {against}, from {-self.span:.2g} (blue) over 0 (white) to {self.span:.2g} (red), signal units."
        )

    def pictures(self, page: _Page, i: int) -> list[dict[str, Any]]:
        """The pictures of signal i, each with an address, a name and an alternative text."""
        if self.shape is None:
            return []
        everything = torch.ones_like(page.signal[i], dtype=torch.bool)
        seen = self._seen(page, i)
        out = []
        if page.y is not None and seen is not None:
            part = f"{int(seen.sum())} of {len(seen)} entries seen"
            out.append(self._picture("observed", f"observed signal {i}, {part}", self._values(page.y[i]), seen))
        out.append(self._picture("recovered", f"recovered signal {i}", self._values(page.signal[i]), everything))
        if page.truth is not None:
            out.append(self._picture("true", f"true signal {i}", self._values(page.truth[i]), everything))
        if self.deviation > 0 and bool(torch.isfinite(self._std(page)[i]).all()):
            std = self._std(page)[i] / self.deviation
            text = f"standard deviation of signal {i}, at most {float(std.max()) * self.deviation:.2g} signal units"
            rgb = (255 * (1 - std.clamp(0, 1).reshape(self.shape).mean(0)[..., None].expand(-1, -1, 3)).numpy()).round()
            out.append(self._picture("deviation", text, rgb, everything))
        if found := _difference(page, i):
            text = f"difference of signal {i}, at most {float(found[0].abs().nan_to_num(0.0).max()):.2g} signal units"
            out.append(self._picture("difference", text, self._colours(found[0]), found[1], _FAINT))
        return out

    @staticmethod
    def _seen(page: _Page, i: int) -> Tensor | None:
        return page.measurement.seen(len(page.inversion))[i] if page.measurement.pixelwise else None

    def _values(self, signal: Tensor) -> np.ndarray:
        """RGB `(height, width, 3)`; grey pictures are dark on white."""
        assert self.shape is not None
        value = ((signal - self.low) / (self.high - self.low)).nan_to_num(0.5).clamp(0, 1).reshape(self.shape)
        rgb = value.movedim(0, -1) if self.shape[0] == 3 else 1 - value.movedim(0, -1).expand(*self.shape[1:], 3)
        return (255 * rgb.numpy()).round()

    def _colours(self, difference: Tensor) -> np.ndarray:
        """Blue below 0, white at 0, red above, of the mean over the channels."""
        assert self.shape is not None
        value = (difference / self.span).nan_to_num(0.0).reshape(self.shape).mean(0).clamp(-1, 1)[..., None].numpy()
        end = np.where(value > 0, np.array([178.0, 24, 43]), np.array([33.0, 102, 172]))
        return (255 + (end - 255) * np.abs(value)).round()

    def _picture(
        self, name: str, text: str, rgb: np.ndarray, there: Tensor, stripes: tuple[np.ndarray, np.ndarray] = _HATCH
    ) -> dict[str, Any]:
        assert self.shape is not None
        factor = max(1, _SIDE // max(self.shape[1:]))
        seen = there.reshape(self.shape).all(0).numpy()
        big, shows = (a.repeat(factor, 0).repeat(factor, 1) for a in (rgb, seen))
        row, column = np.indices(shows.shape)
        period = 6 if factor > 1 else 3
        dark = (np.asarray(row + column) % period < period // 3)[..., None]
        pixels = np.where(shows[..., None], big, np.where(dark, stripes[1], stripes[0])).astype(np.uint8)
        grey = bool((pixels == pixels[..., :1]).all())
        return {"name": name, "alt": text, "src": data_uri(pixels[..., 0] if grey else pixels)}

    def curve(self, page: _Page, i: int) -> str:
        """Signal i as curves where it is no picture; what was measured and is no part of it is always one."""
        mixed = page.y is not None and not page.measurement.pixelwise
        if self.shape is not None and not mixed:
            return ""
        parts = [] if self.shape is not None else [_signal_curve(page, i)]
        return "".join([*parts, *([_measured_curve(page, i)] if mixed else [])])


def _limits(values: Tensor, said: tuple[float, float] | None) -> tuple[float, float]:
    """Values that are drawn white and black: the range that is said, unless nearly nothing of it would be seen."""
    low, high = float(values.min()), float(values.max())
    if said is not None and said[0] < np.quantile(values.numpy(), 0.98) and np.quantile(values.numpy(), 0.02) < said[1]:
        return said
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _difference(page: _Page, i: int) -> tuple[Tensor, Tensor] | None:
    """Recovered minus true, or minus observed, `(d,)`, and where that is known; None where there is nothing to compare."""
    if page.truth is not None:
        return page.signal[i] - page.truth[i], torch.ones_like(page.signal[i], dtype=torch.bool)
    if page.y is None or not page.measurement.pixelwise:
        return None
    seen = page.measurement.seen(len(page.inversion))[i]
    return torch.where(seen, page.signal[i] - page.y[i], 0.0), seen


def _signal_curve(page: _Page, i: int) -> str:
    seen = page.measurement.seen(len(page.inversion))[i] if page.y is not None and page.measurement.pixelwise else None
    recovered, d = page.signal[i].tolist(), page.signal.shape[1]
    true = [] if page.truth is None else page.truth[i].tolist()
    observed = (
        []
        if seen is None or page.y is None
        else [v if s else float("nan") for v, s in zip(page.y[i].tolist(), seen, strict=True)]
    )
    plane = Plane(index_axis("entry", d), linear_axis("signal units", [*recovered, *true, *observed]), 190)
    marks, keys = [], [Mark("dash", ORANGE, "recovered")]
    hidden = [] if seen is None else (~seen).nonzero()[:, 0].tolist()
    marks += [plane.box(k - 0.5, plane.y.low, k + 0.5, plane.y.high, GREY, 0.25) for k in hidden]
    if page.inversion.uncertainty is not None:
        std = page.inversion.uncertainty.signal_std.reshape(page.signal.shape)[i].tolist()
        marks += [
            plane.box(k - 0.5, v - 2 * s, k + 0.5, v + 2 * s, ORANGE, 0.3)
            for k, (v, s) in enumerate(zip(recovered, std, strict=True))
            if isfinite(s)
        ]
        keys.append(Mark("square", ORANGE, "recovered +- 2 standard deviations"))
    if true:
        marks.append(plane.line(list(enumerate(true)), GREY, 4))
        keys.append(Mark("dash", GREY, "true"))
    marks.append(plane.line(list(enumerate(recovered)), ORANGE, 1.6))
    if observed:
        marks += [plane.point(Mark("circle", BLUE), k, v, size=3) for k, v in enumerate(observed) if isfinite(v)]
        keys.append(Mark("circle", BLUE, "observed"))
    return chart(plane, marks, f"signal {i}", "recovered, true and observed entries") + legend(keys)


def _measured_curve(page: _Page, i: int) -> str:
    assert page.y is not None
    y, found = page.y[i].tolist(), page.measurement.observe(page.signal[i][None])[0].tolist()
    plane = Plane(index_axis("measurement", len(y)), linear_axis("signal units", [*y, *found]), 190)
    marks = [plane.line(list(enumerate(found)), ORANGE, 1.6)]
    marks += [plane.point(Mark("circle", BLUE), k, v, size=4) for k, v in enumerate(y) if isfinite(v)]
    keys = [Mark("circle", BLUE, "y"), Mark("dash", ORANGE, "A G(z)")]
    return chart(plane, marks, f"measurements of signal {i}", "what was measured, and the same of G(z)") + legend(keys)


# --- numbers --------------------------------------------------------------------------------------


def _snr_part(page: _Page) -> dict[str, Any] | None:
    if not page.snr:
        return None
    rows, spreads = [], []
    for name, value in page.snr.items():
        good = value.double()[torch.isfinite(value)].cpu().numpy()
        missing = len(value) - len(good)
        cells = [f"{q:.1f}" for q in np.quantile(good, QUANTILES)] if len(good) else ["none"] * len(QUANTILES)
        rows.append({"name": name, "cells": cells, "missing": missing})
        spreads += [(name, good)] if len(good) else []
    axis = linear_axis("SNR, dB", [float(v) for _, s in spreads for v in np.quantile(s, QUANTILES)])
    drawing = spread_chart(spreads, axis, "SNR per layer", "quantiles over the signals, in dB") if spreads else ""
    return {"rows": rows, "chart": drawing}


def _misfit_part(page: _Page) -> dict[str, Any]:
    verdict = page.inversion.verdict
    size = verdict.size.clamp(min=1e-300)
    # a bound in the largest entry, or on their sum, is no length; it is not comparable with |y|
    other = next((norm for norm in ("linf", "l1") if str(page.inversion.settings.get("noise")).startswith(norm)), "")
    relative = _relative_misfit(page)
    misfit, allowed = relative.tolist(), (verdict.explained_below / size).tolist()
    charted = [i for i in page.charted if isfinite(misfit[i])]
    drawn = [misfit[i] for i in charted] + ([] if other else [allowed[i] for i in charted])
    plane = Plane(index_axis("signal", len(page.charted)), log_axis("misfit / |y|, no unit", drawn, _FLOOR))
    marks = [] if other else [plane.point(Mark("dash", BLACK), i, allowed[i], f"signal {i}: allowed") for i in charted]
    marks += [
        plane.point(_SIGNAL_MARKS[str(verdict.status[i])], i, misfit[i], f"signal {i}: {verdict.status[i]}, {misfit[i]:.1e}")
        for i in charted
    ]
    drawn_statuses = {str(verdict.status[i]) for i in charted}
    there = [_SIGNAL_MARKS[s] for s in INVERSION_STATUSES if s in drawn_statuses]
    keys = there + ([] if other else [Mark("dash", BLACK, "largest misfit that counts as explained")])
    return {
        "chart": chart(
            plane, marks, "misfit of each signal", "misfit over |y|, log scale, against the number of the signal"
        ),
        "legend": legend(keys),
        "counts": verdict.counts(),
        "median": _short(float(relative.nanmedian())),
        "worst": _short(_largest(relative)),
        "other_norm": other,
    }


def _layer_part(page: _Page) -> dict[str, Any] | None:
    layers = page.inversion.layers
    if not layers:
        return None
    return {"rows": [_layer_row(page, r) for r in layers], "effort": [_effort(r) for r in layers], **_gap_chart(page)}


def _effort(report: LayerReport) -> str:
    solvers = report.solution.solver
    words = ", ".join(f"{solvers.count(name)} by {name}" for name in dict.fromkeys(solvers))
    remark = f"; {report.remark}" if report.remark else ""
    return f"layer {report.index}: {report.solution.seconds:.2f} s, {words}{remark}"


def _layer_row(page: _Page, report: LayerReport) -> dict[str, Any]:
    solution, c = report.solution, report.solution.certificate
    first = page.inversion.layers[0].index
    role = "latent" if report.index == 0 else "image" if report.index == first else "hidden"
    iterations = solution.iterations.double()
    gap = torch.where(torch.as_tensor(c.status == INFEASIBLE), torch.nan, c.gap)  # a bound above every objective is no gap
    return {
        "index": report.index,
        "role": role,
        "kind": report.kind,
        "size": solution.h.shape[1],
        "counts": ", ".join(f"{count} {status}" for status, count in c.counts().items()) + c.narrowed(),
        "gap": f"{_short(float(gap.nanmedian()))} / {_short(_largest(gap))}",
        "allowed": _short(float(c.allowed_gap.nanmedian())),
        "violation": f"{_short(_largest(c.violation))} of {_short(float(c.allowed_violation.nanmedian()))}",
        "iterations": f"{iterations.median():.0f} / {iterations.max():.0f}",
    }


def _largest(values: Tensor) -> float:
    good = values[torch.isfinite(values)]
    return float(good.max()) if len(good) else float("nan")


def _gap_chart(page: _Page) -> dict[str, Any]:
    """gap / allowed gap against iterations; one chart per layer, on the same axes."""
    charted, layers = list(page.charted), page.inversion.layers
    ratio = {r.index: (r.solution.certificate.gap / r.solution.certificate.allowed_gap.clamp(min=1e-300)) for r in layers}
    floor_at = 1e-12  # a gap this far below what is allowed is rounding and may be negative
    y_axis = log_axis(
        "gap / allowed gap, no unit", [1.0, 10.0, *(float(v[i]) for v in ratio.values() for i in charted)], floor_at
    )
    most = max(int(r.solution.iterations.max()) for r in layers)
    x_axis = Axis("iterations, points spread by up to 12 %; 0 is drawn at 1", 0.7, 10.0 ** max(1, len(str(most))), log=True)
    charts, statuses = [], set()
    for report in layers:
        plane = Plane(x_axis, y_axis, 250)
        marks = [plane.line([(x_axis.low, 1.0), (x_axis.high, 1.0)], BLACK, 1, "4 3")]
        for i in charted:
            value, status = float(ratio[report.index][i]), str(report.solution.status[i])
            if isfinite(value) and status != INFEASIBLE:
                statuses.add(status)
                tip = f"signal {i}: {status}, gap {float(report.solution.certificate.gap[i]):.1e}"
                # points of equal counts side by side, the same way every time
                beside = 1 + 0.25 * ((0.618 * i) % 1 - 0.5)
                marks.append(
                    plane.point(_LAYER_MARKS[status], max(int(report.solution.iterations[i]), 1) * beside, value, tip)
                )
        title = f"layer {report.index}, {report.kind}: gap against iterations"
        words = "gap over the largest gap that is optimal, against iterations; points below the dashed line are optimal"
        charts.append({"title": f"layer {report.index} ({report.kind})", "svg": chart(plane, marks, title, words)})
    order = [s for s in LAYER_STATUSES if s in statuses]
    keys = [Mark(_LAYER_MARKS[s].shape, _LAYER_MARKS[s].colour, s) for s in order]
    return {"charts": charts, "legend": legend(keys)}


def _support_part(page: _Page) -> dict[str, Any] | None:
    """Which units of the hidden layers are positive at z: how many, and which of the first shown signals."""
    if not page.hidden:
        return None
    usable = torch.isfinite(page.signal).all(1)
    shown = [i for i in page.shown if bool(usable[i])][:_MOST_ROWS]
    rows, spreads, rasters = [], [], []
    for k, h in enumerate(page.hidden, 1):
        count = (h[usable] > 0).sum(1).double().numpy()
        if not len(count):
            continue
        width = h.shape[1]
        cells = [f"{v:.0f}" for v in np.quantile(count, QUANTILES)]
        rows.append({"name": f"hidden {k}", "width": width, "cells": cells})
        spreads.append((f"hidden {k}", 100 * count / width))
        every = max(1, -(-len(shown) // 16))
        names = [str(i) if j % every == 0 else "" for j, i in enumerate(shown)]
        title = f"hidden {k}: positive units of {len(shown)} signals"
        labels = (f"unit of hidden layer {k}", "signal")
        rasters.append(raster((h[shown] > 0).numpy(), names, labels, title, "dark cells are positive units"))
    if not rows:
        return None
    axis = Axis("positive units, % of the layer", 0, 100)
    return {
        "rows": rows,
        "chart": spread_chart(spreads, axis, "sizes of the supports", "quantiles over the signals, in % of the layer"),
        "rasters": rasters,
        "same": [words for k in range(1, len(page.hidden) + 1) if (words := _agreement(page, k))],
        "n0": page.inversion.z.shape[-1],
    }


def _agreement(page: _Page, k: int) -> str:
    """For how many signals the layered start found the support of hidden layer k that z has."""
    reports = [r for r in page.inversion.layers if r.index == k]
    if not reports:
        return ""
    found = reports[0].on.cpu()
    same = (found == (page.hidden[k - 1] > 0)).all(1)
    return f"hidden {k} for {int(same.sum())} of {len(same)} signals"


def _singular_part(page: _Page) -> dict[str, Any]:
    verdict, charted = page.inversion.verdict, page.charted
    low, high, yes = verdict.sigma_min.tolist(), verdict.sigma_max.tolist(), verdict.determined.tolist()
    values = [v for i in charted for v in (low[i], high[i])]
    plane = Plane(index_axis("signal", len(charted)), log_axis("singular value, signal / latent unit", values, 1e-16))
    marks, fixed, loose = (
        [],
        Mark("circle", BLUE, "smallest, z determined"),
        Mark("triangle", ORANGE, "smallest, z not determined"),
    )
    top = Mark("dash", BLACK, "largest")
    for i in charted:
        marks.append(plane.line([(i, low[i]), (i, high[i])], GREY, 1))
        marks.append(plane.point(top, i, high[i], f"signal {i}: largest {high[i]:.2g}"))
        marks.append(plane.point(fixed if yes[i] else loose, i, low[i], f"signal {i}: smallest {low[i]:.2g}"))
    condition = (verdict.sigma_max / verdict.sigma_min)[verdict.determined].double().numpy()
    return {
        "chart": chart(plane, marks, "singular values of the Jacobian", "smallest and largest, per signal, log scale"),
        "legend": legend([m for m in (fixed, loose) if (m is fixed and any(yes)) or (m is loose and not all(yes))] + [top]),
        "determined": sum(yes),
        "condition": [f"{v:.3g}" for v in np.quantile(condition, [0.1, 0.5, 0.9])] if len(condition) else None,
    }
