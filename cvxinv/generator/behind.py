"""What stands behind the last activation, put before it.

    S D phi(W h + b) + t:    selections commute with phi, S phi(u) = phi(S u);    positive factors and a shift rescale it,
    s phi(u) + t = Rescaled(phi, s, t)(u), and with ReLU and LeakyReLU s phi(u) = phi(s u); a softmax commutes with what
    moves its groups as they are

All is exact up to one rounding. What does not commute (sums of entries, another factor for each entry behind tanh, ...) is
left as a layer of its own, with no activation behind it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from .activations import rescaled
from .chain import Layer
from .composing import compose
from .maps import AbstractMap, Composition, Resampling2d, Sparse


def before_activation(layer: Layer, W: AbstractMap, b: Tensor) -> Layer | None:
    """The layer that computes W phi(u) + b for phi(u) of `layer`, or None where there is none."""
    picks, phi = picking(W), layer.activation
    if picks is None:
        return None
    if not phi.elementwise:
        return _moved(layer, picks, b)
    factor, shift, index = picks.weight[:, 0], b, picks.index
    empty = factor == 0
    if bool(empty.any()) and not (phi.middle == 0 and bool((shift[empty] == shift[0]).all())):
        return None  # phi gives no such constant
    used = factor[~empty]
    if used.numel() == 0:
        return None
    if phi.kinked and bool((used > 0).all()) and not bool(shift.any()):
        return _picked(layer, index, factor)
    one, t = float(used[0]), float(shift[0])
    if phi.kinked or bool((used != one).any()) or bool((shift != t).any()):
        return None
    found = rescaled(phi, one, t)
    if found is None:
        return None
    return replace(_picked(layer, index, torch.where(empty, 0.0, 1.0 if one > 0 else -1.0).to(factor)), activation=found)


def _moved(layer: Layer, picks: Sparse, b: Tensor) -> Layer | None:
    """The layer with its values in another order, where entries depend on each other."""
    if bool(b.any()) or not bool((picks.weight == 1).all()):
        return None
    phi = layer.activation.moved(picks.index[:, 0], picks.shape_out)
    return None if phi is None else replace(_picked(layer, picks.index, picks.weight[:, 0]), activation=phi)


def _picked(layer: Layer, index: Tensor, factor: Tensor) -> Layer:
    """The layer with entries `index` of its rows, times `factor`."""
    shape = (len(factor),)
    S = Sparse(index, factor[:, None], layer.W.shapes[1], shape)
    if S.trivial:
        return layer
    return replace(layer, W=compose(S, layer.W), b=S(layer.b[None])[0])


def picking(W: AbstractMap) -> Sparse | None:
    """W as a map each of whose outputs is a multiple of one input, or None where it is none."""
    if isinstance(W, Sparse):
        return W if W.terms == 1 else None
    if isinstance(W, Resampling2d):
        rows, columns = (_picks(side) for side in (W.rows, W.columns))
        if rows is None or columns is None:
            return None
        (i, a), (j, c), (channels, height, width) = rows, columns, W.shape_in
        first = torch.arange(channels, device=i.device)[:, None, None] * height * width
        index = first + i[:, None] * width + j
        weight = (a[:, None] * c).expand(channels, -1, -1)
        return Sparse(index.reshape(-1, 1), weight.reshape(-1, 1), W.shape_in, W.shape_out)
    if isinstance(W, Composition):
        outer, inner = picking(W.outer), picking(W.inner)
        return None if outer is None or inner is None else outer.after(inner)
    return None


def _picks(side: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which column each row takes, and its number, or None where a row takes several."""
    used = side != 0
    if bool((used.sum(1) > 1).any()):
        return None
    index = used.to(torch.uint8).argmax(1)
    return index, side.gather(1, index[:, None])[:, 0]
