"""What a method of inversion answers: latents, what gave each, and the layers that it solved on the way."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal
from ..generator.maps import AbstractMap
from ..layers.core.problem import AbstractLayerProblem
from ..solvers.solve import Solution

GIVEN = "layer problem given"  # remark of a layer whose problem is the user's
STEPS = "Gauss-Newton steps: "  # how a note begins that says how they were computed


@dataclass(frozen=True, eq=False, repr=False)
class LayerReport(Batch):
    """One layer of a layered inversion.

    index: which layer, 0 is the latent's. problem: the layer problem that was solved (None after loading from a file).
    solution: points and certificates. penalty: lam, gamma or eps used, `(N,)`, NaN where it has none. threshold: entries
    of h above it count as on in the layer below, `(N,)`, or `(N, n)` where noise was stated. remark: what was done
    differently, or "".
    """

    index: int
    kind: str
    problem: AbstractLayerProblem | None = per_signal()
    solution: Solution = per_signal()
    penalty: Tensor = per_signal()
    threshold: Tensor = per_signal()
    remark: str = ""

    @property
    def on(self) -> Tensor:
        """The units that count as on in the layer below, bool `(N, n)`."""
        h = self.solution.h
        return h > self.threshold.to(h).reshape(len(h), -1)

    @classmethod
    def of(
        cls, index: int, problem: AbstractLayerProblem, solution: Solution, threshold: Tensor, remark: str = ""
    ) -> "LayerReport":
        """A report with the penalty read off the problem: its lam, gamma or eps, NaN where it has none of them."""
        values = [problem.__dict__[name] for name in ("lam", "gamma", "eps") if name in problem.__dict__]
        nothing = torch.full_like(solution.h[:, 0], torch.nan)
        penalty = torch.as_tensor(values[0]).to(nothing).expand_as(nothing) if values else nothing
        return cls(index, type(problem).__name__, problem, solution, penalty, threshold, remark)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The signals of all chunks; the problem too, where its maps are the same in all of them."""
        if len(parts) == 1:
            return parts[0]
        bare, problem = [replace(part, problem=None) for part in parts], _one_problem([part.problem for part in parts])
        whole, remarks = super().joined(bare), dict.fromkeys(part.remark for part in parts if part.remark)
        solution = replace(whole.solution, problem=problem)
        return replace(whole, problem=problem, solution=solution, remark="; ".join(remarks))

    def __repr__(self) -> str:
        remark = f"; {self.remark}" if self.remark else ""
        return f"layer {self.index} ({self.kind}): {self.solution!r}{remark}"


@dataclass(frozen=True, eq=False)
class Latents(Batch):
    """What a method found for N signals.

    z: `(N, n0)`. used: what gave each, such as "random start 2"; left out, the method's name. starts: random starts spent
    on each, `(N,)`; left out, none. layers: of the layered methods, image layer first. notes: what is to be said of all.
    """

    z: Tensor = per_signal()
    used: tuple[str, ...] | None = per_signal(default=None)
    starts: Tensor | None = per_signal(default=None)
    layers: tuple[LayerReport, ...] = each_per_signal(default=())
    notes: tuple[str, ...] = ()

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The signals of all chunks; what was said of one of them stays said."""
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        return replace(super().joined(parts), notes=notes)


def _one_problem(parts: list[AbstractLayerProblem | None]) -> AbstractLayerProblem | None:
    """One layer problem from those of the chunks; None where they are not known, of several kinds, or over several maps."""
    known = [part for part in parts if part is not None]
    first = known[0] if known else None
    if first is None or len(known) < len(parts) or any(type(part) is not type(first) for part in known):
        return None
    if not all(part.rows.W is first.rows.W or _same_weights(part.rows.W, first.rows.W) for part in known):
        return None
    return type(first).joined(known)


def _same_weights(a: AbstractMap, b: AbstractMap) -> bool:
    return (a.m, a.n) == (b.m, b.n) and torch.equal(a.matrix(), b.matrix())
