"""Products of maps: which two become one, and what a map takes of a diagonal beside it."""

from dataclasses import replace

import torch
from torch import Tensor

from . import ops
from .maps import AbstractMap, Composition, Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d, Dense, Resampling2d, Sparse

# a product with a dense factor is multiplied out up to this many entries (32 MB in float64)
_DENSE_ENTRIES = 4_000_000
_FEW_TERMS = 8  # of two sparse maps in one


def compose(outer: AbstractMap, inner: AbstractMap) -> AbstractMap:
    """`outer` after `inner`: one map where both resample or pick, or one is dense and the product small; or both."""
    if isinstance(outer, Dense) and isinstance(inner, Dense):
        return Dense(outer.weight @ inner.weight)
    if isinstance(outer, Resampling2d) and isinstance(inner, Resampling2d) and outer.shape_in == inner.shape_out:
        return Resampling2d(outer.rows @ inner.rows, outer.columns @ inner.columns, inner.channels)
    if isinstance(outer, Sparse) and isinstance(inner, Sparse) and outer.terms * inner.terms <= _FEW_TERMS:
        return outer.after(inner)
    picks = isinstance(outer, Sparse) and outer.terms == 1 and outer.m <= inner.m
    picked = isinstance(inner, Sparse) and inner.terms == 1 and inner.n <= outer.n
    if outer.m * inner.n <= _DENSE_ENTRIES or picks or picked:  # a choice of rows or columns makes no matrix larger
        if isinstance(outer, Dense):
            return Dense(inner.adjoint(outer.weight))
        if isinstance(inner, Dense):
            return Dense(outer(inner.weight.T).T.contiguous())
    if isinstance(outer, Sparse) and isinstance(inner, Composition) and isinstance(inner.outer, Sparse | Dense):
        return compose(compose(outer, inner.outer), inner.inner)
    if isinstance(inner, Sparse) and isinstance(outer, Composition) and isinstance(outer.inner, Sparse | Dense):
        return compose(outer.outer, compose(outer.inner, inner))
    return Composition(outer, inner)


def diagonal_map(scale: Tensor, shape: ops.Shape) -> AbstractMap:
    """diag(`scale`) on signals of `shape`."""
    if scale.numel() ** 2 <= _DENSE_ENTRIES:
        return Dense(torch.diag(scale))
    return Sparse.diagonal(scale, shape)


def scale_map(W: AbstractMap, scale: Tensor, rows: bool) -> AbstractMap:
    """diag(`scale`) W, or W diag(`scale`) where not `rows`; what it can take into its weights a map takes."""
    if isinstance(W, Dense):
        return Dense(W.weight * (scale[:, None] if rows else scale))
    if isinstance(W, Sparse):
        return replace(W, weight=W.weight * (scale[:, None] if rows else scale[W.index]))
    if isinstance(W, Composition):
        outer, inner = (scale_map(W.outer, scale, rows), W.inner) if rows else (W.outer, scale_map(W.inner, scale, rows))
        return Composition(outer, inner)
    shape = W.shapes[1 if rows else 0]
    channels = ops.per_channel(scale, shape[0])
    if isinstance(W, Conv2d | ConvTranspose2d | Conv3d | ConvTranspose3d) and channels is not None:
        return replace(W, weight=_scaled_kernel(W, channels, first_axis=isinstance(W, Conv2d | Conv3d) == rows))
    if isinstance(W, Resampling2d) and channels is not None:
        # it commutes with what is done in each channel
        return Composition(W, Conv2d(channels.reshape(-1, 1, 1, 1), W.shape_in, groups=channels.numel()))
    return compose(diagonal_map(scale, shape), W) if rows else compose(W, diagonal_map(scale, shape))


def _scaled_kernel(W: Conv2d | ConvTranspose2d | Conv3d | ConvTranspose3d, channels: Tensor, first_axis: bool) -> Tensor:
    """The kernel with its first axis, or its second one, scaled; the second counts within a group."""
    ones = [1] * (W.weight.ndim - 2)
    if first_axis:
        return W.weight * channels.reshape(-1, 1, *ones)
    grouped = W.weight.reshape(W.groups, -1, *W.weight.shape[1:])
    return (grouped * channels.reshape(W.groups, 1, -1, *ones)).reshape(W.weight.shape)
