"""Projections of small pictures: line integrals, as a tomograph measures them."""

from dataclasses import dataclass, field
from math import ceil, hypot

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..inputs import describe as _kind
from ..inputs import read_numbers
from .pictures import read_shape
from .sparse import AbstractSparse


@dataclass(frozen=True, eq=False)
class Radon(AbstractSparse):
    """Line integrals of a picture of square pixels of width 1, angle by angle, channel by channel.

    At angle a the lines are x cos a + y sin a = t, with (x, y) from the picture's centre to the right and upwards, and t in
    steps of 1 about 0, from one end of the picture's diagonal to the other: at 0 they run down the columns. y: `(C, angles,
    detectors)`, flat. An entry of the matrix is the length of a line in a pixel: at distance s from its centre, with
    c = |cos a| and n = |sin a|,

        min(1 / max(c, n), max(0, ((c + n) / 2 - |s|) / (c n))).

    angles: degrees, those that are equal modulo 180 see the same lines. shape: (H, W) or (C, H, W).
    """

    angles: Tensor
    shape: tuple[int, ...]
    A: Tensor = field(init=False, repr=False)
    back: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape, angles = read_shape(self.shape), _read_angles(self.angles)
        for name, value in (("angles", angles), ("shape", shape)):
            object.__setattr__(self, name, value)
        self._keep(sparse.vstack([_projection(np.deg2rad(a), *shape[1:]) for a in angles.tolist()]), angles.device)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def form(self) -> tuple[int, ...]:
        return self.shape[0], len(self.angles), self.detectors

    @property
    def detectors(self) -> int:
        """Lines at each angle."""
        return _detectors(*self.shape[1:])


def _read_angles(angles: object) -> Tensor:
    if isinstance(angles, (list, tuple, range)):
        angles = np.array(angles)
    if not isinstance(angles, (Tensor, np.ndarray)):
        raise TypeError(f"expected angles in degrees as numbers, got {_kind(angles)}; e.g. range(0, 180, 6)")
    device = angles.device if isinstance(angles, Tensor) else torch.device("cpu")
    degrees = read_numbers(angles, "angles in degrees", device, "fi", "pass numbers, e.g. range(0, 180, 6)").double()
    if degrees.ndim != 1 or len(degrees) == 0 or not torch.isfinite(degrees).all():
        raise ValueError(f"expected at least one finite angle along one axis, got {_kind(degrees)}; e.g. range(0, 180, 6)")
    ordered = (degrees % 180).sort().values
    ordered = torch.cat([ordered, ordered[:1] + 180])
    close = ordered.diff() < 1e-9
    if len(degrees) > 1 and bool(close.any()):
        twice = float(ordered[:-1][close][0])
        raise ValueError(
            f"expected angles that differ modulo 180, got {twice:g} more than once; a and a + 180 see the same lines"
        )
    return degrees


def _detectors(height: int, width: int) -> int:
    """Enough lines at distance 1 for the diagonal; at angle 0 they pass through the middle of the columns."""
    count = ceil(hypot(height, width))
    return count + (count - width) % 2


def _projection(angle: float, height: int, width: int) -> sparse.csr_array:
    """The rows of one angle: lengths of its lines in the pixels."""
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    if min(cosine, sine) < 1e-9:  # along the axes a line on the border of two pixels has half of its length in each
        cosine, sine = float(cosine > sine), float(sine > cosine)
    right, up = np.arange(width) - (width - 1) / 2, (height - 1) / 2 - np.arange(height)
    place = (right * np.cos(angle) + up[:, None] * np.sin(angle)).ravel()
    count = _detectors(height, width)
    nearest = np.round(place + (count - 1) / 2).astype(int)
    pixels, rows, lengths = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for line in (nearest - 1, nearest, nearest + 1):  # a pixel is at most sqrt(2) wide
        length = _length(np.abs(line - (count - 1) / 2 - place), cosine, sine)
        hit = (length > 0) & (line >= 0) & (line < count)
        for found, part in ((pixels, hit.nonzero()[0]), (rows, line[hit]), (lengths, length[hit])):
            found.append(part)
    places = np.concatenate(rows), np.concatenate(pixels)
    return sparse.coo_array((np.concatenate(lengths), places), (count, height * width)).tocsr()


def _length(s: np.ndarray, cosine: float, sine: float) -> np.ndarray:
    """Length in a pixel of lines at distance s from its centre."""
    if min(cosine, sine) == 0.0:
        return np.where(np.isclose(s, 0.5, rtol=0, atol=1e-9), 0.5, (s < 0.5).astype(float))
    slope = ((cosine + sine) / 2 - s) / (cosine * sine)
    return np.minimum(1 / max(cosine, sine), np.maximum(0.0, slope))
