"""Do a generator and signals belong to a result? Told by what the result holds of them: G(z), |y| and the misfits."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..generator.abstract import AbstractGenerator
from ..lengths import lengths
from ..measurement.abstract import AbstractMeasurement

if TYPE_CHECKING:
    from .result import Inversion

_SAME = 1e-3  # of lengths: what float32 through many layers, another device or another rounding may change


def check_generator(inversion: "Inversion", generator: AbstractGenerator, positions: list[int] | None = None) -> None:
    """Raises ValueError for a generator of other sizes, or one that gives other signals at the result's latents.

    positions: of the signals that are looked at; left out, of all.
    """
    N = len(inversion)
    z, signal = inversion.z.detach().reshape(N, -1), inversion.signal.detach().reshape(N, -1)
    expected, got = (z.shape[1], signal.shape[1]), (generator.latent_dim, generator.signal_dim)
    if expected != got:
        raise ValueError(f"expected the generator that was inverted, (n0, d) = {expected}, got one of {got}; pass that one")
    asked = torch.arange(N) if positions is None else torch.tensor(positions, dtype=torch.long)
    z, signal = z.cpu()[asked].double(), signal.cpu()[asked].double()
    known = z.isfinite().all(1) & signal.isfinite().all(1)
    if not bool(known.any()):
        return
    given = generator.to(torch.float64)(z[known].to(generator.device)).detach().reshape(int(known.sum()), -1).cpu()
    apart = lengths(given - signal[known])
    # NaN of a signal that overflows says nothing
    wrong = (apart > _SAME * torch.maximum(lengths(given), lengths(signal[known]))).nonzero()[:, 0]
    if len(wrong):
        k = int(wrong[0])
        raise ValueError(
            f"expected the generator that was inverted, got one whose signal at the latents of signal "
            f"{int(asked[known][k])} is {float(apart[k]):.3g} away from the result's; pass that one"
        )


def check_signals(inversion: "Inversion", y: Tensor, seeing: AbstractMeasurement) -> None:
    """Raises ValueError where signals y `(N, k)`, float64 on the CPU, have other lengths or misfits than the result's.

    seeing: their measurement, float64 on the CPU; where it is of another kind than the result's nothing can be told.
    """
    made, N = inversion.settings.get("measurement"), len(inversion)
    if made is not None and made != seeing.name:
        return
    on, verdict = seeing.seen(N).cpu(), inversion.verdict
    signal = inversion.signal.detach().cpu().double().reshape(N, -1)
    seen = torch.where(on, y, 0.0)
    off = torch.where(on, seeing.observe(torch.nan_to_num(signal)) - y, 0.0)
    for what, found, known in (("length", lengths(seen), verdict.size), ("misfit", lengths(off), verdict.misfit)):
        apart = (found - known).abs()
        allowed = _SAME * torch.maximum(lengths(seen), verdict.size)
        # comparisons with NaN, of signals that could not be used, are false
        wrong = ((apart > allowed) & verdict.misfit.isfinite()).nonzero()[:, 0]
        if len(wrong):
            k = int(wrong[0])
            raise ValueError(
                f"expected the signals that were inverted, got signal {k} of {what} {float(found[k]):.6g} where that of the "
                f"result has {float(known[k]):.6g}; pass y and measurement= as they were then"
            )
