"""All representations of a multi-layer model as one map of the deepest: D_1...D_L h, D_2...D_L h, ..., D_L h in one."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from ..generator.maps import AbstractMap
from ..inputs import describe


@dataclass(frozen=True, eq=False)
class Cascade(AbstractMap):
    """maps: D_1, ..., D_L, where D_i takes what D_{i+1} gives. One product with each of them, whatever is asked for."""

    maps: tuple[AbstractMap, ...]

    def __post_init__(self) -> None:
        maps = self.maps
        if not isinstance(maps, tuple) or not maps:
            raise TypeError(f"expected maps as a tuple of at least one map, got {describe(maps)}; pass (D_1, ..., D_L)")
        for i, D in enumerate(maps, 1):
            if not isinstance(D, AbstractMap):
                raise TypeError(f"expected D_{i} as a map, got {describe(D)}; wrap a matrix in cvxinv.Dense(...)")
        for i, (outer, inner) in enumerate(pairwise(maps), 1):
            if outer.n != inner.m:
                raise ValueError(
                    f"expected D_{i + 1} to give the {outer.n} numbers that D_{i} takes, got one that gives {inner.m}; "
                    "pass D_1, the dictionary of the signals, first"
                )
            if (outer.dtype, outer.device) != (inner.dtype, inner.device):
                raise ValueError(
                    f"expected D_{i + 1} in {outer.dtype} on {outer.device} as D_{i} is, got {inner.dtype} on "
                    f"{inner.device}; move one with .to()"
                )

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Numbers of rows of the blocks: of the signal, of g_1, ..., of g_{L-1}."""
        return tuple(D.m for D in self.maps)

    @cached_property
    def n(self) -> int:
        return self.maps[-1].n

    @cached_property
    def m(self) -> int:
        return sum(self.widths)

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.maps[0].dtype

    @cached_property
    def device(self) -> torch.device:
        return self.maps[0].device

    @cached_property
    def work(self) -> int:
        return sum(D.work for D in self.maps)

    @cached_property
    def widest(self) -> int:
        return max(D.widest for D in self.maps)

    @cached_property
    def terms(self) -> int:
        return sum(D.terms for D in self.maps)

    def __call__(self, h: Tensor) -> Tensor:
        blocks = []
        for D in reversed(self.maps):
            h = D(h)
            blocks.append(h)
        return torch.cat(blocks[::-1], 1)

    def adjoint(self, p: Tensor) -> Tensor:
        first, *others = p.split(self.widths, 1)
        back = self.maps[0].adjoint(first)
        for D, block in zip(self.maps[1:], others, strict=True):
            back = D.adjoint(back + block)
        return back

    def magnitude(self) -> "Cascade":
        return self._kept_magnitude

    @cached_property
    def _kept_magnitude(self) -> "Cascade":
        return Cascade(tuple(D.magnitude() for D in self.maps))

    def scaled(self, factor: float) -> "Cascade":
        """The deepest map takes the factor: every block has it as its last."""
        return Cascade((*self.maps[:-1], self.maps[-1].scaled(factor)))._with_lengths_of(self, factor)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Cascade":
        maps = tuple(D.to(dtype, device) for D in self.maps)
        return self if all(a is b for a, b in zip(maps, self.maps, strict=True)) else Cascade(maps)._with_norm_of(self)

    def make_matrix(self) -> Tensor:
        columns = torch.eye(self.n, dtype=self.dtype, device=self.device)
        return self(columns).T.contiguous()
