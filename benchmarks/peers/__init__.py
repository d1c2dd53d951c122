"""Other people's solvers behind one face: `PEERS` lists them, `missing` says why one cannot run here."""

import importlib.util

from .base import AbstractPeer, Answer
from .conic import SCS, Clarabel, Ecos
from .coordinate import Celer, CoordinateDescent, Skglm, SpamsLars
from .linear import PDLP, HiGHS
from .quadratic import DAQP, OSQP, PIQP, ProxQP
from .whole import CvxpyClarabel, CvxpyHighs

PEERS: tuple[type[AbstractPeer], ...] = (
    CoordinateDescent, Celer, Skglm, SpamsLars, DAQP, PIQP, ProxQP, OSQP, SCS, Ecos, Clarabel, HiGHS, PDLP,
    CvxpyClarabel, CvxpyHighs,
)  # fmt: skip
LEFT_OUT = {
    "MPAX": "compiles for seconds per shape, and its tolerance of 1e-8 leaves an error above 1e-6",
    "HiGHS on quadratic programs": "no answer to a dense one with 128 unknowns in 45 s",
}


def missing(peer: type[AbstractPeer], gpl: bool) -> str | None:
    """Why `peer` cannot run here, or None."""
    if peer.licence.startswith("GPL") and not gpl:
        return f"{peer.licence}: runs with --gpl only"
    return None if importlib.util.find_spec(peer.package) else "not installed"


__all__ = ["LEFT_OUT", "PEERS", "AbstractPeer", "Answer", "missing"]
