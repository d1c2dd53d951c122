"""A generator as the proof engine sees it: matrices, biases, kinks at 0; and what its signals ask of its last hidden layer.

    u_1 = W_1 z + b_1,   x_l = max(u_l, s_l u_l),   u_{l+1} = W_{l+1} x_l + b_{l+1},   misfit |A (W x_H + b) - y|^2

Everything in float64. The latent is turned, z = V c with V orthogonal, so that the box of c lies along the axes along which
better latents lie.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..generator.activations import AbstractActivation
from ..generator.chain import Generator
from ..generator.maps import Composition, Stretched
from .rounding import shares

MOST_ENTRIES = 60_000_000  # of one layer's matrix


@dataclass(frozen=True, eq=False)
class Network:
    """Hidden layers `W[l]` `(n_l, n_{l-1})`, `b[l]` `(n_l,)`, slopes `s[l]` `(n_l,)` in [0, 1] where cut; `last`,
    `offset`: the map behind them, `(d, n_H)` and `(d,)`.

    multiplied: |W| and |b| of each layer and of the last map, where they are products of several: those of the factors'
    absolute values, which were added up in them; None where nothing was multiplied.
    """

    W: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    s: tuple[Tensor, ...]
    last: Tensor
    offset: Tensor
    multiplied: tuple[tuple[Tensor, Tensor], ...] | None = None

    @cached_property
    def sizes(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Of each layer and of the last map M `(n, m)` and c `(n,)`: in a unit M |x| + c is added up, of which its rounding
        is `ROUNDING`, also behind a turned latent."""
        parts = zip((*self.W, self.last), (*self.b, self.offset), strict=True)
        known = self.multiplied or tuple((W.abs(), b.abs()) for W, b in parts)
        return tuple((shares(M.shape[1]) * M, shares(M.shape[1]) * c) for M, c in known)

    @property
    def latent_dim(self) -> int:
        """n0."""
        return (self.W[0] if self.W else self.last).shape[1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        return tuple(len(b) for b in self.b)

    def __call__(self, z: Tensor) -> Tensor:
        """Signals `(N, d)` of latents `(N, n0)`, before the output's activation."""
        x = z
        for W, b, s in zip(self.W, self.b, self.s, strict=True):
            u = x @ W.T + b
            x = torch.maximum(u, s * u)
        return x @ self.last.T + self.offset

    def beside(self, low: Tensor) -> "Network":
        """The same with z - low `(n0,)` among the first layer's units, which lead nowhere: limits of theirs are a box's.

        Where there is no hidden layer they are one, and all that follows sees of z.
        """
        eye, none = torch.eye(self.latent_dim).to(low), torch.zeros_like(low)
        known = self.multiplied
        if not self.W:
            M, c = known[0] if known else (self.last.abs(), self.offset.abs())
            known = (eye, low.abs()), (M, c + M @ low.abs())
            return Network((eye,), (-low,), (none,), self.last, self.offset + self.last @ low, known)
        W, b, s = [torch.cat([self.W[0], eye]), *self.W[1:]], [torch.cat([self.b[0], -low]), *self.b[1:]], self.s[0]
        last = self.last
        if len(W) > 1:
            W[1] = torch.nn.functional.pad(W[1], (0, len(low)))
        else:
            last = torch.nn.functional.pad(last, (0, len(low)))
        if known:
            (M, c), (N, d), *others = known
            known = (torch.cat([M, eye]), torch.cat([c, low.abs()])), (torch.nn.functional.pad(N, (0, len(low))), d), *others
        return Network(tuple(W), tuple(b), (torch.cat([s, none]), *self.s[1:]), last, self.offset, known)


def cut_slope(phi: AbstractActivation, index: int) -> float:
    """The slope s in [0, 1] below 0 of max(u, s u), the activation of layers[index]. Raises TypeError for another one."""
    kinks, slopes = phi.pieces or ((), ())
    if not phi.elementwise or tuple(kinks) != (0.0,) or slopes[1] != 1.0 or not 0 <= slopes[0] <= 1:
        raise TypeError(
            f"expected layers with ReLU, LeakyReLU or no activation, got {phi!r} in layers[{index}]; "
            "proofs are of chains of lines with one kink at 0"
        )
    return float(slopes[0])


def axes_of(J: Tensor) -> Tensor:
    """V `(..., n0, n0)`, orthogonal: its columns are J's right singular vectors, J `(..., k, n0)`, also where k < n0."""
    few = J.shape[-2] < J.shape[-1]
    return torch.linalg.svd(J.mT @ J if few else J, full_matrices=False).Vh.mT


def as_network(generator: Generator) -> Network:
    """The chain of a generator, its linear layers multiplied out; a kinked output becomes one more hidden layer.

    Raises TypeError for what is no chain of lines with one kink at 0, ValueError for matrices that do not fit.
    """
    W, b, s = list[Tensor](), list[Tensor](), list[Tensor]()
    map_, offset, fresh, size, many = torch.eye(0), torch.zeros(0), True, (torch.eye(0), torch.zeros(0)), False
    sizes = list[tuple[Tensor, Tensor]]()
    for index, layer in enumerate(generator.layers):
        if layer.W.m * layer.W.n > MOST_ENTRIES:
            raise ValueError(
                f"expected layers of at most {MOST_ENTRIES:,} matrix entries, got layers[{index}] of "
                f"{layer.W.m} x {layer.W.n}; prove a smaller generator"
            )
        matrix, bias = layer.W.matrix().double(), layer.b.double()
        composed = isinstance(layer.W, (Composition, Stretched))  # whose matrix is a product already
        many = many or not fresh or composed
        absolute = layer.W.magnitude().matrix().double() if composed else matrix.abs()
        size = _grown(None if fresh else size, absolute, bias.abs())
        map_, offset = (matrix, bias) if fresh else (matrix @ map_, matrix @ offset + bias)
        phi, fresh = layer.activation, False
        last = index == len(generator.layers) - 1
        if phi.linear or (last and not phi.kinked):
            continue
        W.append(map_)
        b.append(offset)
        sizes.append(size)
        s.append(torch.full_like(offset, cut_slope(phi, index)))
        fresh = True
        if last:
            map_, offset = torch.eye(len(offset)).to(offset), torch.zeros_like(offset)
            size = map_, offset
    return Network(tuple(W), tuple(b), tuple(s), map_, offset, (*sizes, size) if many else None)


def _grown(size: tuple[Tensor, Tensor] | None, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """|W| and |b|, behind maps of `size` multiplied with it: each product rounds once more what it adds up."""
    if size is None:
        return W, b
    more = 1 + shares(W.shape[1])
    return more * (W @ size[0]), more * (W @ size[1] + b)
