"""The log of a proof: its tree, and the multipliers of every round, as `check_proof.py` reads them (docs/checking.md).

Limits are not in it: the checker computes its own from the multipliers, any of which prove something.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..layers.core.export import packed, write_claims
from .bounding import Excess
from .network import Network
from .relaxation import Relaxation

if TYPE_CHECKING:
    from .nodes import Nodes


@dataclass
class Recorder:
    """What a search tells while it runs: rounds by number of node, and how nodes were split.

    A node's numbers are those of `Nodes`. Costs a few kilobytes a round of a small network.
    """

    rounds: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    splits: dict[int, dict[str, Any]] = field(default_factory=dict)

    def round(self, rel: Relaxation, found: Excess, thetas: tuple[float, ...]) -> None:
        """The contractions of a batch of nodes: v, lam and the weights theta of the ellipsoid's constraints."""
        v, lam = found.v.cpu(), torch.split(found.lam.cpu(), rel.sizes(), 1)
        for i, number in enumerate(rel.nodes.number.tolist()):
            marks, parts, kinds = list[str](), [v[i, : rel.n0]], [list[Tensor]() for _ in range(5)]
            for k, x in enumerate(rel.levels):
                there, held = x.there[i].cpu(), x.held[i].cpu()
                marks.append(_marks(x.P.shape[1], x.at[i].cpu()[there], x.fixed[i].cpu()[held]))
                parts.append(v[i, x.start : x.start + len(there)][there])
                for kind in range(5):
                    kinds[kind].append(lam[2 + 5 * k + kind][i][there if kind < 3 else held])
            told = torch.cat([lam[0][i], lam[1][i], *(x for kind in kinds for x in kind)])
            entry = {"units": "".join(marks), "v": packed(torch.cat(parts)), "lam": packed(told)}
            entry |= {"theta": packed(torch.tensor(thetas, dtype=torch.float64))}
            self.rounds.setdefault(number, []).append(entry)

    def unit(self, nodes: "Nodes", at: Tensor, children: "list[Nodes]", middle: Tensor, wide: Tensor, unit: Tensor) -> None:
        """The split of a batch of nodes: unit `at` (counted through the layers) on and off where `unit`, else coordinate
        `wide` above and below `middle`."""
        widths = [x.shape[1] for x in nodes.lo]
        for i, number in enumerate(nodes.number.tolist()):
            split: dict[str, Any] = {"children": [int(child.number[i]) for child in children]}
            if bool(unit[i]):
                layer, j = 0, int(at[i])
                while j >= widths[layer]:
                    j, layer = j - widths[layer], layer + 1
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


@dataclass(frozen=True)
class Question:
    """What was asked, as a file says it: the network, A `(k, d)` or None, seen `(S, k)`, y `(S, k)`, box `(n0,)` each, and
    the rows `(S, r, n0)` and values `(S, r)` of a prior."""

    network: Network
    A: Tensor | None
    seen: Tensor
    y: Tensor
    box: tuple[Tensor, Tensor]
    rows: Tensor
    values: Tensor


def write_log(path: Path, question: Question, claims: dict[str, Any], V: Tensor, trees: list[list[dict[str, Any]]]) -> None:
    """Write a proof file, whole or not at all. claims: what is said of each signal, see docs/checking.md."""
    network, (S, k) = question.network, question.y.shape
    layers = [_layer(W, b, s) for W, b, s in zip(network.W, network.b, network.s, strict=True)]
    layers.append(_layer(network.last, network.offset, None))
    extra = [None] * S if not question.rows.shape[1] else [
        {"shape": [rows.shape[0]], "rows": packed(rows), "values": packed(values)}
        for rows, values in zip(question.rows, question.values, strict=True)
    ]  # fmt: skip
    content = {
        "kind": "Proof",
        "shape": [S, network.latent_dim, network.last.shape[0], k],
        "layers": layers,
        "A": None if question.A is None else packed(question.A),
        "seen": ["".join("+" if x else "." for x in row) for row in question.seen.tolist()],
        "y": packed(question.y),
        "box": packed(torch.stack(question.box)),
        "V": packed(V),
        "extra": extra,
        "trees": trees,
    }
    write_claims(path, content | {key: packed(x) if isinstance(x, Tensor) else x for key, x in claims.items()})


def _layer(W: Tensor, b: Tensor, s: Tensor | None) -> dict[str, Any]:
    return {"shape": list(W.shape), "slope": None if s is None else packed(s), "W": packed(W), "b": packed(b)}
