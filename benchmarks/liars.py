"""Points that are not what they pretend to be: for a problem whose pair (h, p) is known, what a judge must not believe."""

from collections.abc import Iterator

import numpy as np
from soundness_cases import Drawn

TRUE = "the optimum"


def points(
    drawn: Drawn, h: np.ndarray, p: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, h `(N, n)` and p `(N, m)`: the pair itself first, then wrong ones, each with the other half honest or not."""
    yield TRUE, h, p
    yield from _wrong_h(drawn, h, p, rng)
    yield from _wrong_p(h, p, rng)
    yield from _of_others(h, p, rng)
    yield from _worth_much(drawn, h, p, rng)


def _at_least_zero(drawn: Drawn, h: np.ndarray) -> np.ndarray:
    return h.clip(min=0) if drawn.problem.nonnegative else h


def _wrong_h(drawn, h, p, rng):
    size = np.abs(h).max(1, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    noise = rng.standard_normal(h.shape)
    for step in (1e-2, 1e-4, 1e-6, 1e-9):
        yield f"h moved by {step:g}", _at_least_zero(drawn, h + step * size * noise), p
    yield "h rounded to float32", h.astype(np.float32).astype(float) if np.abs(h).max() < 1e38 else h, p
    yield "h scaled by 1 + 1e-6", h * (1 + 1e-6), p
    yield "h scaled by 1 + 1e-3", h * (1 + 1e-3), p
    yield "h is 0", 0 * h, p
    yield "h is 1e9", np.full_like(h, 1e9) * size, p
    below = h.copy()
    below[np.arange(len(h)), rng.integers(0, h.shape[1], len(h))] -= 0.9e-6 * size[:, 0]
    yield "h a hair below 0", below, p
    below = h.copy()
    below[np.arange(len(h)), rng.integers(0, h.shape[1], len(h))] -= 1e-3 * size[:, 0]
    yield "h below 0", below, p
    W = drawn.problem.rows.W.matrix().double().numpy()
    length = np.linalg.norm(W, axis=0)
    yield "h above 0 inside of the limits", h + _room(drawn, h, W) / np.where(length > 0, length, 1.0), p
    direction = np.linalg.svd(W / np.where(length > 0, length, 1.0))[2][-1] / np.where(length > 0, length, 1.0)
    direction = direction / (np.abs(direction).max() or 1.0)
    for far in (1.0, 1e3, 1e7):
        yield f"h along the weakest direction by {far:g}", _at_least_zero(drawn, h + far * size * direction), p


def _room(drawn, h, W):
    """How far every entry may rise, in units of its column, so that no row that has room left meets its limit."""
    lo, hi = (end.double().numpy() for end in drawn.problem.limits())
    v = h @ W.T + drawn.problem.rows.b.double().numpy()
    length = np.linalg.norm(W, axis=0)
    reach = (np.abs(W) / np.where(length > 0, length, 1.0)).sum(1)
    room = np.minimum(hi - v, v - lo) / np.where(reach > 0, reach, 1.0)
    room = np.where((room > 0) & np.isfinite(room), room, np.inf).min(1, keepdims=True)
    return np.where(np.isfinite(room), 0.4 * room, 1e-3)


def _wrong_p(h, p, rng):
    size = np.abs(p).max(1, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    one = np.zeros_like(p)
    one[np.arange(len(p)), rng.integers(0, p.shape[1], len(p))] = 1.0
    yield "p is 0", h, 0 * p
    yield "p is negated", h, -p
    yield "p is doubled", h, 2 * p
    yield "p is 1e300 times itself", h, np.clip(p, -1, 1) * 1e300
    yield "p is noise", h, size * rng.standard_normal(p.shape)
    yield "p moved by 1e-6", h, p + 1e-6 * size * rng.standard_normal(p.shape)
    yield "p with a huge entry", h, p + one * size * 1e12
    yield "p is a ray of 1e300", h, one * 1e300
    yield "p is a ray of 1e300, h moved", h * 1.5, one * 1e300
    yield "p is 1 everywhere", h, np.ones_like(p)
    yield "p holds NaN", h, np.where(one > 0, np.nan, p)
    yield "p holds inf", h, np.where(one > 0, np.inf, p)


def _of_others(h, p, rng):
    if len(h) > 1:
        yield "h of another signal", np.roll(h, 1, 0), p
        yield "p of another signal", h, np.roll(p, 1, 0)
        yield "point of another signal", np.roll(h, 1, 0), np.roll(p, 1, 0)
    yield "h permuted", h[:, rng.permutation(h.shape[1])], p


def _worth_much(drawn, h, p, rng):
    """h beyond a limit by what the tolerance lets through, in the rows whose multipliers are largest."""
    rows = drawn.problem.rows
    W, scale = rows.W.matrix().double().numpy(), rows.scale().double().numpy()[:, None]
    lengths = np.linalg.norm(W, axis=1)
    idle = np.zeros_like(p) if drawn.problem.form == "interval" else np.where(rows.on.numpy(), 0.0, 1.0) - 1
    price = np.where(idle < 0, 0.0, np.abs(p)) if drawn.problem.form != "interval" else np.abs(p)
    price = np.where(lengths > 0, price, 0.0)
    for share in (0.9e-6, 1e-8):
        moved = h.copy()
        for i in np.flatnonzero(price.max(1) > 0):
            row = int(price[i].argmax())
            moved[i] += np.sign(p[i, row]) * share * scale[i] * W[row] / lengths[row] ** 2
        yield f"a dear row broken by {share:g} s_y", _at_least_zero(drawn, moved), p
    small = np.where(lengths > 0, lengths, np.inf)
    row = int(small.argmin())
    if np.isfinite(small[row]):
        away = _at_least_zero(drawn, h + 0.9e-6 * scale * W[row] / lengths[row] ** 2)
        yield "the shortest row broken by 0.9e-6 s_y", away, p
        huge = np.zeros_like(p)
        huge[:, row] = 1e6 * (np.abs(p).max() or 1.0)
        yield "the shortest row broken by 0.9e-6 s_y, p huge there", away, p + huge
