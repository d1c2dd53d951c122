"""The log of a proof: its tree, and the multipliers of every round, as `check_proof` reads them (docs/checking.md).

Limits are not in it: the checker computes its own from the multipliers, any of which prove something.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..inversion.proof import Proof
from ..inversion.task import Task
from ..layers.core.export import packed, write_claims
from .bounding import Excess
from .relaxation import Relaxation

if TYPE_CHECKING:
    from .nodes import Nodes
    from .search import Search


@dataclass
class Recorder:
    """What a search tells while it runs: rounds by number of node, and how nodes were split.

    A node's numbers are those of `Nodes`. Costs a few kilobytes a round of a small network. shown: `(S, k)`, which rows of
    the signal were seen; seen, y: `(S, k)`; the signal's rows are a layer of their own in l1, where y is None, and in linf:
    residuals, told of those that were seen.
    """

    shown: Tensor
    seen: Tensor | None = None
    y: Tensor | None = None
    rounds: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    splits: dict[int, dict[str, Any]] = field(default_factory=dict)

    def round(self, rel: Relaxation, found: Excess, thetas: tuple[float, ...]) -> None:
        """The contractions of a batch of nodes: v, lam and the weights theta of the ellipsoid's constraints."""
        v, lam = found.v.cpu(), torch.split(found.lam.cpu(), rel.sizes, 1)
        for i, number in enumerate(rel.nodes.number.tolist()):
            marks, parts, kinds = list[str](), [v[i, : rel.n0]], [list[Tensor]() for _ in range(5)]
            ends = [list[Tensor]() for _ in range(4)]
            for k, x in enumerate(rel.levels):
                there, held = x.there[i].cpu(), x.held[i].cpu()
                rows = k + 1 == len(rel.levels) and self.seen is not None
                words = _marks(x.width, x.at[i].cpu()[there], x.fixed[i].cpu()[held])
                marks.append(self._of_seen(words, int(rel.nodes.owner[i])) if rows else words)
                parts.append(v[i, x.start : x.start + len(there)][there])
                _, lowest, highest = rel.held_limits(k)
                if rows and self.y is not None:
                    y = self.y[rel.nodes.owner].gather(1, x.fixed)
                    lowest, highest = lowest - y, highest - y
                for end, x_, mask in zip(ends, (x.below, x.above, lowest, highest), (there, there, held, held), strict=True):
                    end.append(x_[i].cpu()[mask])
                for kind in range(5):
                    kinds[kind].append(lam[2 + 5 * k + kind][i][there if kind < 3 else held])
            told = torch.cat([lam[0][i], lam[1][i], *(x for kind in kinds for x in kind)])
            entry = {"units": "".join(marks), "v": packed(torch.cat(parts)), "lam": packed(told)}
            entry["p"] = packed(self._rows_of(rel, found.r[i], int(rel.nodes.owner[i])))
            limits = [rel.nodes.low[i].cpu(), rel.nodes.high[i].cpu(), *(x for end in ends for x in end)]
            entry |= {"limits": packed(torch.cat(limits)), "theta": packed(torch.tensor(thetas, dtype=torch.float64))}
            self.rounds.setdefault(number, []).append(entry)

    def _rows_of(self, rel: Relaxation, r: Tensor, owner: int) -> Tensor:
        """r, by the signal's rows that were seen, then by those of a prior."""
        Q, left = rel.factors(owner)
        if Q is None or left is None:
            return r.cpu()
        count = Q.shape[1]
        return torch.cat([(Q @ r[:count] - left).cpu()[self.shown[owner]], r[count:].cpu()])

    def _of_seen(self, marks: str, owner: int) -> str:
        """The marks of the rows that were seen."""
        assert self.seen is not None
        return "".join(mark for mark, seen in zip(marks, self.seen[owner].tolist(), strict=True) if seen)

    def split(
        self, nodes: "Nodes", at: Tensor, wide: Tensor, middle: Tensor, unit: Tensor, children: "Sequence[Nodes]"
    ) -> None:
        """The split of a batch of nodes: unit `at` (counted through the layers) on and off where `unit`, else coordinate
        `wide` above and below `middle`."""
        widths = [x.shape[1] for x in nodes.lo]
        for i, number in enumerate(nodes.number.tolist()):
            split: dict[str, Any] = {"children": [int(child.number[i]) for child in children]}
            if bool(unit[i]):
                layer, j = 0, int(at[i])
                while j >= widths[layer]:
                    j, layer = j - widths[layer], layer + 1
                if self.seen is not None and layer + 1 == len(widths) and self.y is None:  # residuals of l1
                    j = int(self.seen[nodes.owner[i], :j].sum())
                split["unit"] = [layer, j]
            else:
                split |= {"half": int(wide[i]), "at": packed(middle[i : i + 1].reshape(1))}
            self.splits[number] = split

    def tree(self, root: int) -> list[dict[str, Any]]:
        """The nodes below a root, parents first, children counted in this list."""
        order = [root]
        for number in order:
            order += self.splits.get(number, {"children": []})["children"]
        place = {number: k for k, number in enumerate(order)}
        tree = []
        for number in order:
            split = self.splits.get(number)
            if split is not None:
                split = split | {"children": [place[k] for k in split["children"]]}
            tree.append({"rounds": self.rounds.get(number, []), "split": split})
        return tree


def _marks(width: int, free: Tensor, held: Tensor) -> str:
    """`?` for undecided units, `=` for decided ones in constraints, `.` for the others."""
    marks = ["."] * width
    for j in free.tolist():
        marks[j] = "?"
    for j in held.tolist():
        marks[j] = "="
    return "".join(marks)


def log_path(path: object, task: Task) -> Path | None:
    """Where a log goes, checked before any arithmetic. Raises TypeError, or ValueError for what files cannot say."""
    if path is None:
        return None
    if not isinstance(path, (str, Path)):
        raise TypeError(f"expected log as a path, got {path!r}; pass log='proof.certificate.json'")
    path = Path(path)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise ValueError(f"expected log as the path of a file in a folder that is there, got {path}; make its folder first")
    phi = task.generator.output
    if not (phi.linear or phi.kinked):
        raise ValueError(
            f"expected an output of lines for a proof file, got {phi!r}; prove it without log, or of "
            "generator.with_output('identity')"
        )
    _matrix(task)
    return path


def recorder(task: Task) -> Recorder:
    """Who writes down the rounds of a search of that task."""
    norm, seen = norm_of(task), task.measurement.seen(task.N)
    return Recorder(seen.cpu(), None if norm == "l2" else seen, task.y if norm == "linf" else None)


def norm_of(task: Task) -> str:
    """Of the misfit that a search of the task bounds: l2, linf or l1."""
    return task.noise.norm if task.noise is not None and task.noise.norm in ("linf", "l1") else "l2"


def write_log(path: Path, search: "Search", task: Task, proof: Proof, sides: tuple[Tensor, Tensor]) -> None:
    """Write a proof file, whole or not at all: what was asked, what is claimed of each signal, and the log of its
    search.
    """
    assert search.log is not None
    network, (S, k), f, gap = search.network, task.y.shape, search.f, search.gap
    layers = [_layer(W, b, s) for W, b, s in zip(network.W, network.b, network.s, strict=True)]
    layers.append(_layer(network.last, network.offset, None))
    # what the checker finds differs in its last digits
    bound = torch.maximum(search.bound - 1e-3 * gap * f, torch.minimum((1 - gap) * search.upper, search.bound * (1 - 5e-10)))
    A = _matrix(task)
    content = {
        "kind": "Proof",
        "norm": norm_of(task),
        "shape": [S, network.latent_dim, network.last.shape[0], k],
        "layers": layers,
        "A": None if A is None else packed(A),
        "seen": ["".join("+" if x else "." for x in row) for row in task.measurement.seen(S).tolist()],
        "weights": None if search.weights is None else packed(_without_least(search.weights)),
        "y": packed(task.y),
        "box": packed(torch.stack(sides)),
        "z": packed(proof.z),
        "gap": packed(gap),
        "f": packed(search.upper * (1 + 1e-9) + search.precision),
        "level": packed(search.level),
        "bound": packed(bound.clamp(min=0)),
        "status": proof.status.tolist(),
        "unique": proof.unique.tolist(),
        "V": packed(search.targets.V),
        "extra": _extra(task),
        "trees": [search.log.tree(s) for s in range(S)],
    }
    write_claims({path: content})


def _without_least(weights: Tensor) -> Tensor:
    """Weights of some size: any prove something, and integers of all sizes are long."""
    return torch.where(weights > 1e-9, weights, 0.0)


def _matrix(task: Task) -> Tensor | None:
    """The measurement's matrix `(k, d)`, None for a mask."""
    seeing = task.measurement
    if seeing.pixelwise:
        return None
    A = seeing.matrix(torch.float64, task.y.device) if seeing.linear else None
    if A is None:
        raise ValueError(
            f"expected a measurement that is a mask or one matrix for all signals, got {seeing.name}; proof files know no "
            "other: prove signal by signal, or without log"
        )
    return A


def _extra(task: Task) -> list[Any]:
    """Rows |E z - m|^2 that a prior adds, per signal."""
    if not task.weighed or task.prior is None or task.noise is None:
        return [None] * task.N
    rows = task.prior.as_rows(task.y.new_zeros(1, task.generator.latent_dim))
    assert rows is not None
    sigma = task.noise.bound
    return [
        {"shape": [rows.S.shape[0]], "rows": packed(s * rows.S), "values": packed(s * rows.t)} if rows.S.shape[0] else None
        for s in sigma
    ]


def _layer(W: Tensor, b: Tensor, s: Tensor | None) -> dict[str, Any]:
    return {"shape": list(W.shape), "slope": None if s is None else packed(s), "W": packed(W), "b": packed(b)}
