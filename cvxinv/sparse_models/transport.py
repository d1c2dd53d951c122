"""Transport of mass between pictures: masses, the cost of moving them, exact plans, and displacement along a plan.

A picture's pixels count as mass above a floor, the value that means none (the background): x = (signal - floor) / total,
with total the sum over the pixels, so that x >= 0 sums to 1. Back: signal = floor + total x; between two pictures the
totals go over linearly, (1-t) total_A + t total_B. The cost of moving mass from pixel i to pixel j is C_ij = |p_i -
p_j|^2, px^2.

    minimise  sum_ij C_ij P_ij    over P >= 0, P 1 = x, P'1 = y                                  (exact)
    minimise  sum_ij C_ij P_ij + eps sum_ij P_ij log P_ij    over the same P                      (entropic)

The exact plan is a linear program, by HiGHS over the pixels that hold mass, or by the network simplex of POT where that
is installed and asked for. Displacement sends every entry of a plan the share t of its way and splits it between the four
pixels around: the exact barycenter of two measures, up to the grid. Of the entropic problem the kernel exp(-C/eps) is a
product of one factor for rows and one for columns: applied as logarithms of sums, one axis after the other, nothing
underflows.

Source: the forms as in `sparse` notes 4.1 to 4.3, of Simon, Aberdam, "Barycenters of natural images: constrained
Wasserstein barycenters for image morphing" (2019).
"""

import importlib.util
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..errors import BackendNotInstalledError
from ..inputs import read_numbers

MOST_PIXELS = 4096  # 64 x 64: the judge writes a plan of that many squared down
MOST_ENTRIES = 4_000_000  # of a plan in a linear program
PLANNERS = ("highs", "pot")
_SAFE = 1e-280  # of a sum: terms that underflow, below 1e-308, are no part of its digits
_FORGIVEN = 1e-9  # below the floor, of the largest value above it: rounding, and not negative mass


@dataclass(frozen=True, eq=False)
class Masses(Batch):
    """Pictures as distributions of mass: x `(N, n)` >= 0 of sum 1, float64; total `(N,)`, signal units; floor."""

    x: Tensor = per_signal()
    total: Tensor = per_signal()
    floor: float = 0.0

    def __len__(self) -> int:
        return len(self.x)


def as_masses(signals: Tensor | np.ndarray, floor: float = 0.0, *, clip: bool = False, names: str = "") -> Masses:
    """Signals `(N, n)` as masses above `floor`, signal units. clip: what lies below counts as no mass, else it is refused.

    names: what messages call the pictures, a letter each; left out their numbers.
    Raises TypeError or ValueError for what is no such array, for NaN, for negative mass and for pictures without any.
    """
    y = read_numbers(
        signals, "pictures", signals.device if isinstance(signals, Tensor) else torch.device("cpu"), "f"
    ).double()
    if y.ndim != 2 or not len(y):
        raise ValueError(f"expected pictures of shape (N, pixels), got {tuple(y.shape)}; flatten them, one per row")
    called: str | range = names or range(len(y))
    broken = (~y.isfinite().all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise ValueError(
            f"expected finite pictures, got NaN or inf in picture {called[broken[0]]}; hidden pixels are not filled in "
            "here: invert it with a mask first, and take G(z) in its place"
        )
    mass = y - floor
    below = (mass < -_FORGIVEN * mass.abs().amax(1, keepdim=True)).any(1).nonzero()[:, 0].tolist()
    if below and not clip:
        raise ValueError(
            f"expected no mass below 0, got the value {float(y[below[0]].min()):.6g} below the floor {floor:g} in picture "
            f"{called[below[0]]}; pass a lower floor, or clip=True to count what lies below as no mass"
        )
    mass = mass.clamp(min=0)
    total = mass.sum(1)
    empty = (total <= 0).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(
            f"expected pictures with mass, got none above the floor {floor:g} in picture {called[empty[0]]}; pass a lower "
            "floor, or leave the picture out"
        )
    return Masses(mass / total[:, None], total, float(floor))


def check_grid(shape: tuple[int, int], n: int) -> tuple[int, int]:
    """The grid (height, width) of pictures of n pixels. Raises ValueError where it is none, or too large."""
    if len(shape) != 2 or shape[0] * shape[1] != n:
        raise ValueError(f"expected a grid (height, width) of {n} pixels, got {shape}; pass grey pictures of one size")
    if n > MOST_PIXELS:
        raise ValueError(f"expected at most {MOST_PIXELS} pixels, got {shape[0]} x {shape[1]} = {n}; pass smaller pictures")
    return int(shape[0]), int(shape[1])


def positions(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Row and column of every pixel, `(n, 2)`, px."""
    rows, columns = (torch.arange(side, dtype=like.dtype, device=like.device) for side in shape)
    return torch.cartesian_prod(rows, columns).reshape(-1, 2)


def pixel_costs(shape: tuple[int, int], like: Tensor) -> Tensor:
    """C `(n, n)`, squared distances of pixels, px^2."""
    where = positions(shape, like)
    return ((where[:, None] - where[None]) ** 2).sum(-1)


def log_kernel(v: Tensor, shape: tuple[int, int], eps: float) -> Tensor:
    """log sum_j exp(v_j - C_ij / eps), for `(..., n)`; -inf is no mass."""
    for axis, side in enumerate(shape):
        step = torch.arange(side, dtype=v.dtype, device=v.device)
        pixels = v.reshape(*v.shape[:-1], *shape)
        lines = pixels if axis else pixels.transpose(-1, -2)
        summed = _log_sums(lines, -((step[:, None] - step[None]) ** 2) / eps)
        v = (summed if axis else summed.transpose(-1, -2)).reshape(v.shape)
    return v


def _log_sums(lines: Tensor, factor: Tensor) -> Tensor:
    """log sum_j exp(lines_j + factor_ij): by a product, and term by term on lines where that could lose something."""
    top = lines.amax(-1, keepdim=True)
    top = torch.where(top.isfinite(), top, 0.0)
    sums = (lines - top).exp() @ factor.exp()
    found = sums.log() + top
    lost = ((sums < _SAFE) & lines.isfinite().any(-1, keepdim=True)).any(-1)
    if bool(lost.any()):
        found[lost] = torch.logsumexp(lines[lost][..., None, :] + factor, -1)
    return found


def transport_plan(x: Tensor, y: Tensor, shape: tuple[int, int], planner: str = "highs") -> Tensor:
    """The exact plan `(n, n)` from x to y, `(n,)` each of sum 1: its rows sum to x, its columns to y.

    planner: "highs", or "pot" where POT is installed (extra `[ot]`). Raises ValueError for other names and for plans too
    large, BackendNotInstalledError without POT, RuntimeError where the program was not solved.
    """
    if planner not in PLANNERS:
        raise ValueError(f"expected a planner of {', '.join(PLANNERS)}, got {planner!r}; leave it out for highs")
    check_grid(shape, x.numel())
    here, there = (x > 0).nonzero()[:, 0], (y > 0).nonzero()[:, 0]
    if len(here) * len(there) > MOST_ENTRIES:
        raise ValueError(
            f"expected a plan of at most {MOST_ENTRIES} entries, got {len(here)} x {len(there)}; pass smaller pictures, or "
            "ones with more background"
        )
    C = pixel_costs(shape, x)[here][:, there].cpu().numpy()
    a, b = x[here].cpu().numpy(), y[there].cpu().numpy()
    found = _by_pot(a, b, C) if planner == "pot" else _by_highs(a, b, C)
    plan = x.new_zeros(x.numel(), y.numel())
    plan[here[:, None], there] = torch.from_numpy(found).to(x)
    return plan


def require_pot() -> None:
    """Raises BackendNotInstalledError, with the install command, where POT is missing."""
    if importlib.util.find_spec("ot") is None:
        raise BackendNotInstalledError("planner='pot' needs POT, which is not installed: pip install pot; or leave it out")


def _by_pot(a: np.ndarray, b: np.ndarray, C: np.ndarray) -> np.ndarray:
    require_pot()
    import ot

    return np.asarray(ot.emd(a, b, C, numItermax=10_000_000))


def _by_highs(a: np.ndarray, b: np.ndarray, C: np.ndarray) -> np.ndarray:
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    m, n = C.shape
    rows, columns = kron(eye_array(m), np.ones((1, n))), kron(np.ones((1, m)), eye_array(n))
    # the last row follows from the others; with it rounding could make the program infeasible
    found = linprog(C.ravel(), A_eq=vstack([rows, columns]).tocsr()[:-1], b_eq=np.concatenate([a, b])[:-1], method="highs")
    if found.x is None:
        raise RuntimeError(f"HiGHS found no plan of {m} x {n} entries: {found.message}")
    return found.x.reshape(m, n)


def displaced(plan: Tensor, shape: tuple[int, int], t: Tensor) -> Tensor:
    """Masses `(N, n)` after the share t `(N,)` of their way, split between the four pixels around; sums are kept."""
    start, end = plan.nonzero(as_tuple=True)
    amount, where = plan[start, end], positions(shape, plan)
    frames = plan.new_zeros(len(t), plan.shape[0])
    for frame, share in zip(frames, t.tolist(), strict=True):
        place = (1 - share) * where[start] + share * where[end]
        low = place.floor()
        part = place - low
        for down in (0, 1):
            for right in (0, 1):
                corner = low + torch.tensor([down, right]).to(low)
                weight = amount
                for axis, far in enumerate((down, right)):
                    weight = weight * (part[:, axis] if far else 1 - part[:, axis])
                    corner[:, axis].clamp_(max=shape[axis] - 1)  # there the weight of what lies outside is 0
                frame.index_add_(0, (corner[:, 0] * shape[1] + corner[:, 1]).long(), weight)
    return frames
