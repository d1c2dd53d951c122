"""What a method of inversion answers: latents, what gave each, and the layers that it solved on the way."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ..batch import Batch, each_per_signal, per_signal
from ..generator.maps import AbstractMap
from ..layers.core.problem import AbstractLayerProblem
from ..solvers.solve import Solution

GIVEN = "layer problem given"  # remark of a layer whose problem is the user's


@dataclass(frozen=True, eq=False, repr=False)
class LayerReport(Batch):
    """One layer of a layered inversion.

    index: which layer, 0 is the latent's. problem: the layer problem that was solved (None after loading from a file).
    solution: points and certificates. penalty: lam, gamma or eps used, `(N,)`, NaN where it has none. threshold: entries
    of h above it count as on in the layer below, `(N,)`. remark: what was done differently, or "".
    """

    index: int
    kind: str
    problem: AbstractLayerProblem | None = per_signal()
    solution: Solution = per_signal()
    penalty: Tensor = per_signal()
    threshold: Tensor = per_signal()
    remark: str = ""

    @classmethod
    def of(
        cls, index: int, problem: AbstractLayerProblem, solution: Solution, threshold: Tensor, remark: str = ""
    ) -> "LayerReport":
        """A report with the penalty read off the problem: its lam, gamma or eps, NaN where it has none of them."""
        values = [problem.__dict__[name] for name in ("lam", "gamma", "eps") if name in problem.__dict__]
        nothing = torch.full_like(threshold, torch.nan)
        penalty = torch.as_tensor(values[0]).to(threshold).expand_as(threshold) if values else nothing
        return cls(index, type(problem).__name__, problem, solution, penalty, threshold, remark)

    def take(self, index: Tensor | slice) -> Self:
        """The signals at `index`."""
        positions = torch.arange(len(self.penalty), device="cpu")[index if isinstance(index, slice) else index.cpu()]
        there = positions.to(self.solution.h.device)
        return replace(
            self,
            problem=None if self.problem is None else self.problem.take(there),
            solution=self.solution.take(positions),
            penalty=self.penalty[there],
            threshold=self.threshold[there],
        )

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The signals of all chunks; the problem too, where its maps are the same in all of them."""
        if len(parts) == 1:
            return parts[0]
        problem, solution = (
            _one_problem([part.problem for part in parts]),
            Solution.joined([part.solution for part in parts]),
        )
        return replace(
            parts[0],
            problem=problem,
            solution=replace(solution, problem=problem),
            penalty=torch.cat([part.penalty for part in parts]),
            threshold=torch.cat([part.threshold for part in parts]),
            remark="; ".join(dict.fromkeys(part.remark for part in parts if part.remark)),
        )

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


def _one_problem(problems: list) -> Any:
    """One layer problem from those of the chunks: tensors that hold one entry per signal are put together.

    None where that cannot be done: a problem that is no dataclass, or maps that differ.
    """
    first = problems[0]
    if not all(is_dataclass(p) and type(p) is type(first) for p in problems):
        return None
    rows = [p.rows for p in problems]
    if not all(r.W is rows[0].W or _same_weights(r.W, rows[0].W) for r in rows):
        return None
    return replace(first, rows=replace(rows[0], **_joined_tensors(rows)), **_joined_tensors(problems, leave=("rows",)))


def _same_weights(a: AbstractMap, b: AbstractMap) -> bool:
    return (a.m, a.n) == (b.m, b.n) and torch.equal(a.matrix(), b.matrix())


def _joined_tensors(parts: list, leave: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The fields of dataclasses over signals that hold one entry per signal, put together."""
    out = {}
    for name in (f.name for f in fields(parts[0]) if f.init and f.name not in leave):
        values = [getattr(p, name) for p in parts]
        # a bias (m,) is shared, also by m signals
        least = 2 if name == "b" else 1
        if all(isinstance(v, Tensor) and v.ndim >= least and len(v) == p.N for v, p in zip(values, parts, strict=True)):
            out[name] = torch.cat(values)
    return out
