"""An inversion as other programs take it: arrays of numpy, a frame of pandas, a table in a notebook."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..bitmaps import inline_pictures
from ..errors import BackendNotInstalledError
from ..tables import SHOWN, Markup, html_table, left_out, number

if TYPE_CHECKING:
    from pandas import DataFrame

    from .result import Inversion

SIGNAL, LATENT, SLOPE, NONE = "signal units", "latent units", "signal / latent units", ""


def array(values: Tensor | np.ndarray) -> np.ndarray:
    """A tensor of any device as an array, without its graph."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def columns(inversion: "Inversion") -> dict[str, tuple[np.ndarray, str]]:
    """What is known of each signal, `(N,)` each, and its unit."""
    verdict = inversion.verdict
    found: dict[str, tuple[Any, str]] = {
        "status": (inversion.status, NONE),
        "misfit": (verdict.misfit, SIGNAL),
        "relative misfit": (verdict.relative_misfit, NONE),
        "size": (verdict.size, SIGNAL),
        "explained below": (verdict.explained_below, SIGNAL),
        "determined": (verdict.determined, NONE),
        "sigma_min": (verdict.sigma_min, SLOPE),
        "sigma_max": (verdict.sigma_max, SLOPE),
        "used": (np.array(inversion.used, dtype=object), NONE),
        "starts": (inversion.starts, NONE),
    }
    found |= {} if inversion.iterations is None else {"iterations": (inversion.iterations, NONE)}
    found |= {f"layer {r.index} status": (r.solution.status, NONE) for r in inversion.layers}
    found |= {f"snr {name}": (value, "dB") for name, value in inversion.snr.items()}
    if inversion.uncertainty is not None:
        spread = inversion.uncertainty
        found |= {"sigma": (spread.sigma, SIGNAL), "sigma error": (spread.sigma_error, SIGNAL), "dof": (spread.dof, NONE)}
    if (proof := inversion.proof) is not None:
        found |= {
            "proof": (proof.status, NONE),
            "proved bound": (proof.bound, SIGNAL),
            "proved gap": (proof.gap, NONE),
            "unique": (proof.unique, NONE),
            "out of range": (proof.out_of_range, NONE),
            "improved": (proof.improved, NONE),
            "latent radius": (proof.radius, LATENT),
        }
    return {name: (array(value), unit) for name, (value, unit) in found.items()}


def arrays(inversion: "Inversion") -> dict[str, np.ndarray]:
    """`Inversion.numpy`."""
    found = {"z": inversion.z, "signal": inversion.signal}
    found |= {f"hidden {index}": h for index, h in enumerate(inversion.hidden, 1)}
    if inversion.uncertainty is not None:
        found |= {"z_std": inversion.uncertainty.z_std, "signal_std": inversion.uncertainty.signal_std}
    return {name: array(value) for name, value in found.items()} | {n: v for n, (v, _) in columns(inversion).items()}


def frame(inversion: "Inversion") -> "DataFrame":
    """`Inversion.to_pandas`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise BackendNotInstalledError("to_pandas needs pandas, which is not installed: pip install pandas") from error

    found = columns(inversion)
    index = pd.RangeIndex(len(inversion), name="signal")
    table = pd.DataFrame({name: np.array(value) for name, (value, _) in found.items()}, index=index)
    table.attrs |= {"units": {name: unit for name, (_, unit) in found.items() if unit}, "method": inversion.method}
    return table


def page(inversion: "Inversion") -> str:
    """The first signals as an HTML table, with pictures of G(z) where they are pictures; the summary under it."""
    shown, verdict = min(SHOWN, len(inversion)), inversion.verdict
    signals = array(inversion.signal)
    images, scale = inline_pictures(signals.reshape(len(inversion), -1)[:shown])
    rows = [
        [i, *([Markup(images[i])] if images else []), inversion.status[i], number(verdict.relative_misfit[i]),
         "yes" if verdict.determined[i] else "no", inversion.used[i] if inversion.used else ""]
        for i in range(shown)
    ]  # fmt: skip
    names = ["signal", *(["G(z)"] if images else []), "status", "misfit / |y|", "z determined", "answered by"]
    head, *notes = inversion.summary().splitlines()
    return html_table(head, names, rows, [left_out(len(inversion)), scale, *notes])
