"""Files of kind Proof: their claims, signal by signal."""

from math import isfinite
from typing import Any

from .beside import Verdict, entries, floats, need, shape
from .integers import Work
from .network import NORMS, Layer, Quadratic, quadratic
from .tree import Tree

_KEYS = "format version kind shape norm layers A seen weights y z box gap f level bound status unique V extra trees"


def claims(data: dict[str, Any]) -> list[Verdict]:
    """The verdicts on the claims of a file of kind Proof."""
    data = {"norm": "l2", "weights": None} | data
    N, n0, d, k = shape(data, _KEYS)
    norm, work = data["norm"], Work()
    need(norm in NORMS and (data["weights"] is not None) == (norm == "linf"), "a norm, and weights for linf")
    layers = entries(data, "layers", len(data["layers"]), lambda x: type(x) is dict)
    parts = [Layer.read(entry, work) for entry in layers]
    sizes = [n0, *(len(part.b) for part in parts)]
    need(len(parts) > 1 and sizes[-1] == d and all(part.n == n for part, n in zip(parts, sizes, strict=False)), "layers")
    need(
        all(part.slopes is not None for part in parts[:-1]) and parts[-1].slopes is None, "slopes of all but the last layer"
    )
    A = None if data["A"] is None else floats(data, "A", k * d)
    need(A is not None or k == d, f"{d} numbers, all of them measured")
    seen = entries(data, "seen", N, lambda x: type(x) is str and len(x) == k and not x.strip("+."))
    table = {"y": k, "z": n0, "gap": 1, "f": 1, "level": 1, "bound": 1, "V": n0 * n0} | (
        {"weights": k} if norm == "linf" else {}
    )
    numbers = {key: (size, floats(data, key, N * size, lambda x: True)) for key, size in table.items()}
    box = floats(data, "box", 2 * n0)
    told = entries(data, "status", N, lambda x: type(x) is str), entries(data, "unique", N, lambda x: type(x) is bool)
    extra = entries(data, "extra", N, lambda x: x is None or (type(x) is dict and norm == "l2"))
    trees = entries(data, "trees", N, lambda x: type(x) is list)
    rows_of, shared = dict[str, Layer](), dict[str, Quadratic]()
    last, verdicts = parts[-1] if A is None else parts[-1].measured(A, k), []
    for i, (status, unique) in enumerate(zip(*told, strict=True)):
        if status not in ("proved_optimal", "bounded"):
            verdicts.append(Verdict(i, status[:40], *_other(status, unique)))
            continue
        one: dict[str, Any] = {key: x[i * size : (i + 1) * size] for key, (size, x) in numbers.items()}
        which = [r for r in range(k) if seen[i][r] == "+"]
        one |= {key: [one[key][r] for r in which] for key in ("y", "weights") if key in one}
        if not which or not all(isfinite(x) for part in one.values() for x in part):
            verdicts.append(Verdict(i, status, False, "nothing was seen, or a number is none"))
            continue
        if seen[i] not in rows_of:
            rows_of[seen[i]] = last.rows(which)
        target = quadratic(norm, rows_of[seen[i]], one["y"], one.get("weights"), shared.get(seen[i]))
        if norm == "l2":
            shared[seen[i]] = target
        tree = Tree(norm, parts[:-1], rows_of[seen[i]], target, one, extra[i], work)
        verdicts += tree.verdicts(i, status, unique, box, trees[i])
    return verdicts


def _other(status: str, unique: bool) -> tuple[bool, str]:
    """What is found of a status that says nothing of an optimum."""
    if unique or status != "numerical_error":
        return False, f"{status[:40]!a}{' and unique' * unique} is a claim that is not decided here"
    return True, "claims nothing"
