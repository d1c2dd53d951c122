"""A generator at given latents, as the theorems of sparse layers see it: weights, hidden layers and their supports."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..generator.activations import AbstractActivation
from ..inputs import read_size
from .condition import Clause
from .local import read_chain, read_latents


@dataclass(frozen=True, eq=False)
class Supported:
    """Weights W_0 to W_L, float64 on the CPU; x: hidden layers x_1 to x_L at the latents, `(N, n_i)` each, x[0] the latents.

    above: whether x_i > 0, its support S_i; above[0] is all true. output: phi. activations: of the hidden layers.
    """

    W: tuple[Tensor, ...]
    x: tuple[Tensor, ...]
    signal: Tensor
    output: AbstractActivation
    activations: tuple[AbstractActivation, ...]

    @classmethod
    def of(cls, generator: object, z: object) -> "Supported":
        """Of a chain at latents `(N, n0)`. Raises TypeError or ValueError for what is none."""
        chain = read_chain(generator)
        latents = read_latents(z, chain).cpu().double()
        double = chain.to(torch.float64, "cpu")
        W = tuple(layer.W.matrix() for layer in double.layers)
        hidden = tuple(double.hidden(latents))
        activations = tuple(layer.activation for layer in chain.layers[:-1])
        return cls(W, (latents, *hidden), double(latents), chain.output, activations)

    @property
    def N(self) -> int:
        """Signals."""
        return len(self.x[0])

    @property
    def L(self) -> int:
        """Hidden layers; W_L makes the signal."""
        return len(self.W) - 1

    @cached_property
    def above(self) -> tuple[Tensor, ...]:
        """Supports of x_0 to x_L, bool `(N, n_i)`; the latent's is everything."""
        return (torch.ones_like(self.x[0], dtype=torch.bool), *(x > 0 for x in self.x[1:]))

    @cached_property
    def s(self) -> tuple[Tensor, ...]:
        """Their sizes, `(N,)` each."""
        return tuple(mask.sum(1) for mask in self.above)

    def layers_are_sparse(self) -> Clause:
        """That all hidden layers are behind a ReLU."""
        return Clause.fact("hidden layers are behind a ReLU", all(phi.cuts for phi in self.activations), self.N)

    def output_is_one_to_one(self) -> Clause:
        """That phi can be undone."""
        return Clause.fact("the output activation is one to one", self.output.invertible, self.N)

    def rows_read(self, i: int) -> Tensor:
        """Which rows of W_i are known exactly, bool `(N, n_{i+1})`: the support above, all of the last layer."""
        return self.above[i + 1] if i < self.L else torch.ones_like(self.signal, dtype=torch.bool)

    def part(self, i: int, signal: int) -> Tensor:
        """W_i on the rows that are known and the columns that are on, for one signal."""
        return self.W[i][self.rows_read(i)[signal]][:, self.above[i][signal]]


def read_one(value: object, name: str) -> float:
    """One number >= 0. Raises TypeError or ValueError."""
    return float(read_size(value, name, 1))
