"""Whether float32 products are what they say: TF32 and bf16 carry three digits, which no layer problem survives."""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ...layers.core.problem import AbstractLayerProblem

_COARSE = {"tf32", "bf16"}


def coarse_products(device: torch.device) -> bool:
    """Whether this process lets float32 matrix products on `device` be rounded to TF32 or bf16.

    The flags belong to the user and are read only; where they allow it, float32 problems are worked in float64.
    """
    backends: Any = torch.backends  # its stubs lack these
    backend = backends.cuda if device.type == "cuda" else backends.mkldnn
    own = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    if own is None:  # before torch 2.9
        return device.type == "cuda" and bool(backends.cuda.matmul.allow_tf32)
    return (own if own != "none" else backends.fp32_precision) in _COARSE


def fits(problem: AbstractLayerProblem, dtype: torch.dtype) -> bool:
    """Whether the numbers of a float64 problem stay finite in `dtype`."""
    rows = problem.rows
    own = [getattr(problem, f.name) for f in fields(problem) if f.name != "rows"]  # type: ignore[arg-type]
    numbers = [x for x in (rows.W.matrix(), rows.b, rows.y, rows.fit, *own) if isinstance(x, Tensor)]
    return all(bool((torch.isfinite(x.to(dtype)) == torch.isfinite(x)).all()) for x in numbers)
