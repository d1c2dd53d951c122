"""Networks that unfold multi-layer pursuits: T passes of the iteration with learnt dictionaries, and a linear classifier.

Analysis is a convolution with the kernel W_i, synthesis the transposed one with the same kernel: D_i = W_i' of
`multi_layer_pursuit`, with g_i >= 0. b_i is a bias for each channel, c_i > 0 the step mu_i, g_0 = x the picture. All begin
with g_i = relu(c_i W_i g_{i-1} + b_i), which for T = 0 is the whole network, a convolutional one (`PlainNetwork`). Then

    MLISTANetwork    T passes: gh_L = g_L, gh_{i-1} = W_i'gh_i; g_i = relu(gh_i - c_i W_i (W_i'gh_i - g_{i-1}) + b_i)
    MLFISTANetwork   the same from gh_L = g_L + (t_{k-1} - 1) / t_k (g_L - the one before), with FISTA's t_k
    MLLISTANetwork   kernels B_i besides, no c_i: g_i = relu(gh_i - W_i W_i'gh_i + B_i g_{i-1} + b_i), decoded with B_i'
    LayeredNetwork   T steps of ISTA in layer 1 to the end, then in layer 2, ...: layered basis pursuit
    FreeNetwork      T + 1 copies of all kernels and biases, g_i kept instead of decoded:
                     g_i <- relu(g_i - W_i^{k+1} (W_i^k'g_i - g_{i-1}) + b_i^{k+1})

All but `MLLISTANetwork` and `FreeNetwork` have the parameters of `PlainNetwork`. One pass of
`MLISTANetwork` is one of `multi_layer_ista.one_pass` with the thresholds -b_i, whatever the c_i.

Source: Sulam, Aberdam, Beck, Elad (2018) and their published code, as in `sparse` note 2.4. Changed: c_i is learnt as
exp(log c_i), so that it stays above 0; pictures of any size.
"""

from abc import ABC, abstractmethod
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inputs import describe

_START = 0.1  # of 1 / fan_in^(1/2): the spread of the kernels at the start


class AbstractMultiLayerNetwork(nn.Module, ABC):
    """What all six share: shapes, parameters, and the classifier on the deepest representation.

    shape: (channels, height, width) of a picture. channels: of g_1, ..., g_L. kernels, strides, paddings: of each layer,
    whole numbers. classes: of the classifier; unfoldings: T. Raises ValueError for what does not fit.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        channels: tuple[int, ...] = (32, 64, 512),
        kernels: tuple[int, ...] = (6, 6, 4),
        strides: tuple[int, ...] = (2, 2, 1),
        paddings: tuple[int, ...] = (0, 0, 0),
        *,
        classes: int = 10,
        unfoldings: int = 6,
    ):
        super().__init__()
        for name, value in (("kernels", kernels), ("strides", strides), ("paddings", paddings)):
            if len(value) != len(channels):
                raise ValueError(
                    f"expected {name} for {len(channels)} layers as channels has, got {value}; pass one for each"
                )
        if isinstance(unfoldings, bool) or not isinstance(unfoldings, int) or unfoldings < 0:
            raise ValueError(f"unfoldings must be a whole number >= 0, got {unfoldings!r}")
        self.shape, self.channels, self.kernels = tuple(shape), tuple(channels), tuple(kernels)
        self.strides, self.paddings, self.unfoldings = tuple(strides), tuple(paddings), unfoldings
        self.shapes = self._shapes()
        self.W = self._kernels()
        self.b = nn.ParameterList(torch.zeros(1, k, 1, 1) for _ in range(self.copies_made()) for k in channels)
        self.classifier = nn.Linear(prod(self.shapes[-1]), classes)

    def copies_made(self) -> int:
        """How many copies of kernels and biases there are."""
        return 1

    def _shapes(self) -> list[tuple[int, ...]]:
        """Of the picture, g_1, ..., g_L."""
        shapes: list[tuple[int, ...]] = [self.shape]
        for m, k, s, p in zip(self.channels, self.kernels, self.strides, self.paddings, strict=True):
            _, height, width = shapes[-1]
            sizes = [(size + 2 * p - k) // s + 1 for size in (height, width)]
            if min(sizes) < 1:
                raise ValueError(
                    f"expected kernels that fit pictures of {height} x {width} in layer {len(shapes)}, got {k} x {k} with "
                    f"padding {p}; take fewer or smaller layers"
                )
            shapes.append((m, *sizes))
        return shapes

    def _kernels(self) -> nn.ParameterList:
        """Kernels for all copies, Gaussian, of spread 0.1 / fan_in^(1/2)."""
        before = (self.shape[0], *self.channels[:-1])
        sizes = [(m, n, k, k) for n, m, k in zip(before, self.channels, self.kernels, strict=True)]
        return nn.ParameterList(
            _START / prod(size[1:]) ** 0.5 * torch.randn(size) for _ in range(self.copies_made()) for size in sizes
        )

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return len(self.channels)

    def analysed(self, i: int, g: Tensor, W: Tensor) -> Tensor:
        """W g, from layer i - 1 to layer i."""
        return F.conv2d(g, W, None, self.strides[i - 1], self.paddings[i - 1])

    def synthesised(self, i: int, g: Tensor, W: Tensor) -> Tensor:
        """W'g, from layer i to layer i - 1; pixels that no kernel reaches are 0."""
        s, p = self.strides[i - 1], self.paddings[i - 1]
        more = tuple(
            size - ((out - 1) * s - 2 * p + self.kernels[i - 1])
            for size, out in zip(self.shapes[i - 1][1:], self.shapes[i][1:], strict=True)
        )
        return F.conv_transpose2d(g, W, None, s, p, more)

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of the classes' probabilities `(N, classes)` of pictures `(N, *shape)`."""
        return F.log_softmax(self.classifier(self.encode(x)[-1].flatten(1)), 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """g_1, ..., g_L of pictures `(N, *shape)`. Raises ValueError for other shapes."""
        if not isinstance(x, Tensor) or x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"expected pictures of shape (N, {', '.join(map(str, self.shape))}), got {describe(x)}")
        return self.representations(x)

    @abstractmethod
    def representations(self, x: Tensor) -> list[Tensor]:
        """g_1, ..., g_L of pictures of the right shape."""


class _Stepped(AbstractMultiLayerNetwork):
    """Those with a step c_i in each layer."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.log_c = nn.Parameter(torch.zeros(self.depth))

    def start(self, x: Tensor) -> list[Tensor]:
        """The plain network: g_i = relu(c_i W_i g_{i-1} + b_i)."""
        found = [x]
        for i in range(1, self.depth + 1):
            found.append(F.relu(self.log_c[i - 1].exp() * self.analysed(i, found[-1], self.W[i - 1]) + self.b[i - 1]))
        return found[1:]

    def step(self, i: int, gh: Tensor, before: Tensor) -> Tensor:
        """relu(gh - c_i W_i (W_i'gh - before) + b_i)."""
        W = self.W[i - 1]
        return F.relu(
            gh - self.log_c[i - 1].exp() * self.analysed(i, self.synthesised(i, gh, W) - before, W) + self.b[i - 1]
        )

    def one_pass(self, x: Tensor, deepest: Tensor) -> list[Tensor]:
        """The pass of ML-ISTA from a deepest representation."""
        decoded = [deepest]
        for i in range(self.depth, 1, -1):
            decoded.insert(0, self.synthesised(i, decoded[0], self.W[i - 1]))
        found = [x]
        for i, gh in enumerate(decoded, 1):
            found.append(self.step(i, gh, found[-1]))
        return found[1:]


class PlainNetwork(_Stepped):
    """The convolutional network without any unfolding; `unfoldings` is not read."""

    def representations(self, x: Tensor) -> list[Tensor]:
        return self.start(x)


class MLISTANetwork(_Stepped):
    """T passes of ML-ISTA behind the plain network, with its parameters."""

    def representations(self, x: Tensor) -> list[Tensor]:
        g = self.start(x)
        for _ in range(self.unfoldings):
            g = self.one_pass(x, g[-1])
        return g


class MLFISTANetwork(_Stepped):
    """T passes of ML-FISTA behind the plain network, with its parameters."""

    def representations(self, x: Tensor) -> list[Tensor]:
        g = self.start(x)
        before, t = g[-1], 1.0
        for _ in range(self.unfoldings):
            t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            ahead = g[-1] + (last - 1) / t * (g[-1] - before)
            before, g = g[-1], self.one_pass(x, ahead)
        return g


class LayeredNetwork(_Stepped):
    """T steps of ISTA in each layer, one after the other: layered basis pursuit, with the plain network's parameters."""

    def representations(self, x: Tensor) -> list[Tensor]:
        found = [x]
        for i in range(1, self.depth + 1):
            g = F.relu(self.log_c[i - 1].exp() * self.analysed(i, found[-1], self.W[i - 1]) + self.b[i - 1])
            for _ in range(self.unfoldings):
                g = self.step(i, g, found[-1])
            found.append(g)
        return found[1:]


class MLLISTANetwork(AbstractMultiLayerNetwork):
    """T passes of ML-ISTA whose kernels for the residual, W_i, and for everything else, B_i, are learnt apart; no steps."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.B = nn.ParameterList(W.detach().clone() for W in self.W)

    def representations(self, x: Tensor) -> list[Tensor]:
        found = [x]
        for i, (B, b) in enumerate(zip(self.B, self.b, strict=True), 1):
            found.append(F.relu(self.analysed(i, found[-1], B) + b))
        for _ in range(self.unfoldings):
            found = self._pass(x, found[-1])
        return found[1:]

    def _pass(self, x: Tensor, deepest: Tensor) -> list[Tensor]:
        decoded = [deepest]
        for i in range(self.depth, 1, -1):
            decoded.insert(0, self.synthesised(i, decoded[0], self.B[i - 1]))
        found = [x]
        for i, (gh, W, B, b) in enumerate(zip(decoded, self.W, self.B, self.b, strict=True), 1):
            residual = self.analysed(i, self.synthesised(i, gh, W), W)
            found.append(F.relu(gh - residual + self.analysed(i, found[-1], B) + b))
        return found


class FreeNetwork(AbstractMultiLayerNetwork):
    """T + 1 copies of kernels and biases, of which each step uses two: as deep as the unfolded ones, and nothing shared."""

    def copies_made(self) -> int:
        return self.unfoldings + 1

    def _copy(self, k: int) -> tuple[list[Tensor], list[Tensor]]:
        part = slice(k * self.depth, (k + 1) * self.depth)
        return list(self.W)[part], list(self.b)[part]

    def representations(self, x: Tensor) -> list[Tensor]:
        W, b = self._copy(0)
        g = [x]
        for i in range(1, self.depth + 1):
            g.append(F.relu(self.analysed(i, g[-1], W[i - 1]) + b[i - 1]))
        for k, following in pairwise(range(self.unfoldings + 1)):
            (W, _), (ahead, b) = self._copy(k), self._copy(following)
            for i in range(1, self.depth + 1):
                missed = self.synthesised(i, g[i], W[i - 1]) - g[i - 1]
                g[i] = F.relu(g[i] - self.analysed(i, missed, ahead[i - 1]) + b[i - 1])
        return g[1:]


MULTI_LAYER_NETWORKS: dict[str, type[AbstractMultiLayerNetwork]] = {
    "cnn": PlainNetwork,
    "ml-ista": MLISTANetwork,
    "ml-fista": MLFISTANetwork,
    "ml-lista": MLLISTANetwork,
    "lbp": LayeredNetwork,
    "all-free": FreeNetwork,
}
