"""Faults planted in the checker of proof files, one at a time, each of which must be seen: a pattern that is not found
fails the test, so that the list cannot rot.

Four kinds of looks see them. Real files, also with multipliers, limits and levels changed at random, are followed (see
`proof_reference`), some with few digits, so that rounding the wrong way shows. Files by hand claim what is false, by a
little or by a trick. Small functions are asked at the edge. And what is true is accepted.
"""

import importlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from planting import planter
from proof_cases import by_hand, layer, numbers, originals, others, text, told
from proof_reference import Followed, followed

from cvxinv import check_proof
from cvxinv.check import RefusedError

FOLDER = Path(check_proof.__file__).parent
MODULES = ("integers", "network", "question", "node", "boxes", "told", "floating", "relaxed", "limits", "tree", "reading")
# digits of limits, of v and multipliers, of Y and Z, of D; with care of v and multipliers, of Y and Z
COARSE = {64: 9, 80: 24, 90: 12, 120: 15, 250: 24, 260: 12}


def checker(package: str = "cvxinv.check_proof") -> SimpleNamespace:
    return SimpleNamespace(**{name: importlib.import_module(f"{package}.{name}") for name in MODULES})


@contextmanager
def few_digits(C: SimpleNamespace) -> Iterator[None]:
    """All that is rounded, rounded much, and J'J of small networks too."""
    fine, where = C.integers.fine, [C.boxes, C.relaxed, C.limits]
    kept = C.question.LARGE, C.question.SLOPES, C.limits.DIGITS
    for module in where:
        module.fine = lambda x, bits=64: fine(x, COARSE[bits])
    C.question.LARGE, C.question.SLOPES, C.limits.DIGITS = 0, 6, 12
    try:
        yield
    finally:
        C.question.LARGE, C.question.SLOPES, C.limits.DIGITS = kept
        for module in where:
            module.fine = fine


CAREFUL = [(0, False), (1, True), (5, False), (6, True)]  # files that are changed, with few digits or not


# --- files that are followed ----------------------------------------------------------------------


def changed(source: str, seed: int) -> dict[str, Any]:
    """A file with a level of four times f, whose rounds follow each other in one node, which is then split; v,
    multipliers of both signs and limits are changed at random."""
    content, draw = json.loads(source), random.Random(seed)
    f = numbers(content["f"])[0]
    content |= {"level": text([4 * f]), "bound": text([0.0]), "status": ["bounded"], "unique": [False]}
    rounds = [entry for node in content["trees"][0] for entry in node["rounds"]]
    for k, entry in enumerate(rounds):
        entry["p"] = text([x * draw.choice([1, 1, 1, 1.1]) for x in numbers(entry["p"])])
        entry["v"] = text([x * draw.choice([1, 1, 1, 1.3]) for x in numbers(entry["v"])])
        lam = numbers(entry["lam"])
        size = max(map(abs, lam)) or f**0.5
        wild = [x + draw.choice([0, 0, 0.3, 1, -0.3]) * size for x in lam]
        entry["lam"] = text([x * draw.choice([0, 0.5, 1, 1, 2]) for x in (wild if k % 2 else lam)])
        entry["limits"] = text([x * draw.choice([1, 0.5, 0.9, 1.5, 2]) for x in numbers(entry["limits"])])
    split = (
        {"unit": [0, draw.randrange(3)], "children": [1, 2]}
        if seed % 2
        else {"half": 0, "at": text([0.1]), "children": [1, 2]}
    )
    ends = [{"rounds": [rounds[-1], rounds[0]], "split": None} for _ in range(2)]
    return content | {"trees": [[{"rounds": rounds[:3], "split": split}, *ends]]}


def turned(content: dict[str, Any], angle: float) -> dict[str, Any]:
    """The same, z = V c with another V, not quite orthogonal."""
    n0 = content["shape"][1]
    V = [[1.0 if i == j else angle * (j - i) for j in range(n0)] for i in range(n0)]
    return content | {"V": text([x for row in V for x in row])}


def of_integers(split: dict[str, Any] | None) -> dict[str, Any]:
    """x_1 = max(z + (5, 0, 1/2), 0), x_2 = max(M x_1 + (60, 1, 0), 0), with V = 1: the ends of the box are those of c."""
    layers = [layer([[1.0], [1.0], [-3.0]], [5.0, 0.0, 0.5], [0.0] * 3)]
    layers += [layer([[-3.0, 1.0, 0.0], [1.0, 0.0, 3.0], [0.0, -1.0, 1.0]], [60.0, 1.0, 0.0], [0.0] * 3)]
    layers += [layer([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [0.0, 1.0], None)]
    box, none = [-2.3125, 1.7], [-90.0, 90.0]
    units = "...?.." if split else "......"
    v, lam, limits = ([0.3, 40.0], [0.0] * 5, [*box, *none]) if split else ([0.3], [0.0] * 2, box)
    rounds = [told(units, v, lam, limits)] * 2
    nodes = [(rounds[:1], split)] + [(rounds, None)] * (2 if split else 0)
    y, f = [48.0, 8.5], 1000.0
    return by_hand(
        layers=layers, box=text(box), y=text(y), z=text([0.25]), f=text([f]), level=text([f]), bound=text([0.0]),
        status=["bounded"], **tree(*nodes),
    )  # fmt: skip


@cache
def scenes() -> list[tuple[bool, bool, str]]:
    """Whether files are followed with few digits and with care, and the files as text."""
    sources = [*originals(), *others()]
    found = [(few, json.dumps(changed(x, k))) for few in (False, True) for k, x in enumerate(sources)]
    found += [(few, json.dumps(turned(changed(x, 9), 0.05))) for few, x in zip((False, True), sources[:2], strict=True)]
    hands = [of_integers(None), of_integers({"unit": [0, 1], "children": [1, 2]})]
    found += [(few, json.dumps(x)) for few in (False, True) for x in hands]
    found += [(False, x) for x in sources]
    careful = [(False, True, x) for x in sources]
    careful += [(few, True, json.dumps(changed(sources[k], 7 + k))) for k, few in CAREFUL]
    return [(few, False, x) for few, x in found] + careful


def looks_at_rounds(C: SimpleNamespace) -> Iterator[str]:
    """What is wrong in each scene."""
    for k, (few, careful, source) in enumerate(scenes()):
        found = Followed()
        try:
            with few_digits(C) if few else nothing():
                verdicts = followed(C, json.loads(source), found, careful)
            yield from (f"scene {k}: {kind}" for kind in found.wrong)
            yield from (f"scene {k}: {v.words}" for v in verdicts if not v.accepted)
        except Exception as error:  # faults may end anywhere
            yield f"scene {k}: {type(error).__name__}: {error}"


@contextmanager
def nothing() -> Iterator[None]:
    yield


# --- files by hand --------------------------------------------------------------------------------

ROUND = told("?", [1.0, 1.0], [0.0] * 5, [-2.0, 1.0, -2.0, 1.0])
FALSE = {"level": text([1.5]), "bound": text([1.4])}  # z = 1 has 1


def tree(*nodes: tuple[list[Any], Any]) -> dict[str, Any]:
    return {"trees": [[{"rounds": list(rounds), "split": split} for rounds, split in nodes]]}


def round_of(**changes: Any) -> dict[str, Any]:
    return tree(([ROUND | changes], None))


LAST = layer([[1.0], [0.0]], [0.0, 1.0], None)
ON, HALF = {"unit": [0, 0], "children": [1, 2]}, {"half": 0, "at": text([0.5]), "children": [1, 2]}
LEAF: tuple[list[Any], Any] = ([ROUND], None)
TRUE: dict[str, dict[str, Any]] = {
    "a prior": {"extra": [{"shape": [1], "rows": text([1.0]), "values": text([1.0])}]},
    "as it is": {},
    "by two phases": tree(([], ON), LEAF, LEAF),
    "by two halves": tree(([], HALF), LEAF, LEAF),
    "a smaller bound, no optimum": {"bound": text([0.5]), "status": ["bounded"]},
    "a wider gap": {"bound": text([0.6]), "gap": text([0.5])},
    "nothing": {"status": ["numerical_error"], "bound": text([9.0])},
    "f as it is": {"f": text([1.0])},
    "no rounds, no bound": {"bound": text([0.0]), "status": ["bounded"]} | tree(([], None)),
    "the one latent": {"unique": [True], "level": text([1.0])},
    "weights of sum 1": {
        "norm": "linf", "weights": text([1.0, 0.0]),
        **round_of(units="?..", theta=text([])),
    },
    "a sum of two": {
        "norm": "l1",
        **tree(([told("?==", [1.0, 1.0], [0.0] * 9, [-2.0, 1.0, -2.0, 1.0, -2.0, 0.0, -1.0, 0.0], [])], None)),
    },
    "multipliers beyond floating point": tree(([ROUND | {"lam": text([1e290] * 5)}, ROUND], None)),
    "numbers beyond 2^64": {
        "layers": [layer([[2.0**90]], [0.0], [0.0]), layer([[2.0**-90], [0.0]], [0.0, 1.0], None)],
        **tree(([told("?", [1.0, 2.0**90], [0.0] * 5, [-2.0, 1.0, -(2.0**91), 2.0**90])] * 2, None)),
    },
    "a misfit of rounding": {"z": text([1.0]), "y": text([1.0, 1.0]), "f": text([0.0]), "bound": text([0.0])},
}  # fmt: skip
UNTRUE: dict[str, dict[str, Any]] = {
    "a bound above it": {"bound": text([1.0 + 2.0**-52])},
    "a bound above the level": {"level": text([1.0]), "bound": text([2.0])} | tree(([], None)),
    "an f below it": {"f": text([1.0 - 2.0**-53])},
    "another latent": {"z": text([0.5])},
    "a latent out of the box": {"z": text([2.0]), "f": text([0.0]), "bound": text([0.0])},
    "a wide gap": {"bound": text([0.9])},
    "a gap of 1": {"bound": text([0.0]), "gap": text([1.0])},
    "a gap below 0": {"gap": text([-1.0])},
    "no number": {"bound": text([float("nan")])},
    "an f that is inf": {"f": text([float("inf")])},
    "nothing seen": {"seen": [".."]},
    "a z that is no number": {"z": text([float("nan")])},
    "no rounds": tree(([], None)),
    "unknown words": {"status": ["certainly_optimal"]},
    "unique with no status": {"status": ["numerical_error"], "unique": [True]},
    "one child twice": FALSE | tree(([], {"unit": [0, 0], "children": [1, 1]}), ([ROUND], None)),
    "one child": FALSE | tree(([], {"unit": [0, 0], "children": [1]}), ([ROUND], None)),
    "a child that is not there": FALSE | tree(([], {"unit": [0, 0], "children": [1, 7]}), ([ROUND], None)),
    "a child of its own": FALSE | tree(([], {"unit": [0, 0], "children": [0, 1]}), ([ROUND], None)),
    "a node of nobody": tree(LEAF, LEAF),
    "no root": {"trees": [[]]},
    "a bad phase": FALSE | tree(([], ON), LEAF, LEAF),
    "a half": FALSE | tree(([], HALF), LEAF, LEAF),
    "a coordinate that is not there": tree(([], HALF | {"half": 1}), LEAF, LEAF),
    "a coordinate that is a word": tree(([], HALF | {"half": False}), LEAF, LEAF),
    "a unit that is not there": tree(([], ON | {"unit": [0, -1]}), LEAF, LEAF),
    "a split of two kinds": tree(([], ON | HALF), LEAF, LEAF),
    "a node with more": {"trees": [[{"rounds": [ROUND], "split": None, "closed": True}]]},
    "multipliers below 0": FALSE | round_of(lam=text([0.0, 0.0, -1.0, 0.0, 0.0])),
    "multipliers that are none": FALSE | round_of(lam=text([float("nan")] * 5)),
    "multipliers too many": round_of(lam=text([0.0] * 6)),
    "multipliers without end": FALSE | round_of(lam=text([float("inf")] * 5)),
    "a v that is none": FALSE | round_of(v=text([float("nan"), 1.0])),
    "a v too long": round_of(v=text([1.0] * 3)),
    "limits too few": round_of(limits=text([-2.0, 1.0])),
    "limits told too near": FALSE | round_of(limits=text([0.0, 0.5, 0.0, 0.5])),
    "limits that are none": FALSE | round_of(limits=text([float("nan")] * 4)),
    "marks too many": round_of(units="?=", lam=text([0.0] * 7), limits=text([-2.0, 1.0, -2.0, 1.0, 0.0, 0.0])),
    "marks unknown": {"bound": text([0.0]), "status": ["bounded"]}
    | round_of(units="!", v=text([1.0]), lam=text([0.0] * 2), limits=text([-2.0, 1.0])),
    "a round with more": round_of(proved=True),
    "a theta of 0": round_of(theta=text([0.0])),
    "a theta below 0": FALSE | {"unique": [True]} | round_of(theta=text([-1.0])),
    "a slope above 1": {"layers": [layer([[1.0]], [0.0], [1.5]), LAST]},
    "a slope below 0": {"layers": [layer([[1.0]], [0.0], [-0.5]), LAST]},
    "a slope that is none": {"layers": [layer([[1.0]], [0.0], [float("nan")]), LAST]},
    "a last layer with slopes": {"layers": [layer([[1.0]], [0.0], [0.0]), layer([[1.0], [0.0]], [0.0, 1.0], [0.0, 0.0])]},
    "a layer without slopes": {"layers": [layer([[1.0]], [0.0], None), LAST]},
    "layers that do not fit": {"layers": [layer([[1.0]], [0.0], [0.0]), layer([[1.0, 0.0], [0.0, 0.0]], [0.0, 1.0], None)]},
    "one layer": {"layers": [LAST]},
    "weights that are no number": {"layers": [layer([[float("inf")]], [0.0], [0.0]), LAST]},
    "another generator": {"layers": [layer([[2.0]], [0.0], [0.0]), LAST]},
    "another y": {"y": text([1.5, 1.0])},
    "float32": {"y": "AAAAQAAAgD8="},
    "a V of 0": FALSE | {"V": text([0.0])},
    "a V far from orthogonal": FALSE | {"V": text([1.5])},
    "a box of one end": {"box": text([1.0])},
    "a box turned over": {"box": text([1.0, -2.0])} | tree(([], None)),
    "an unknown norm": {"norm": "l0"},
    "weights in l2": {"weights": text([1.0, 0.0])},
    "no weights in linf": {"norm": "linf"},
    "weights of more than 1": {
        "norm": "linf", "weights": text([2.0, 0.0]), "level": text([1.5]), "bound": text([1.4]),
        **round_of(units="?..", theta=text([])),
    },
    "a prior in linf": {
        "norm": "linf", "weights": text([1.0, 0.0]), "extra": [{"shape": [1], "rows": text([0.0]), "values": text([0.0])}],
        **round_of(units="?..", theta=text([])),
    },
    "the largest taken for all": {"norm": "linf", "weights": text([1.0, 0.0]), "bound": text([1.01]), "level": text([1.2]),
                                  **round_of(units="?..")},
    "unique in linf": {"norm": "linf", "weights": text([1.0, 0.0]), "unique": [True], **round_of(units="?..")},
    "unique beyond the level": {
        "unique": [True], "f": text([1.5]), "level": text([0.5]), "bound": text([0.5]), "status": ["bounded"],
    },
    "unique of a flat net": {  # both of its outputs are constants
        "unique": [True], "layers": [layer([[1.0]], [0.0], [0.0]), layer([[0.0], [0.0]], [1.0, 1.0], None)],
        "y": text([2.0, 1.0]), "level": text([1.0]), **round_of(theta=text([])),
    },
    "unique of two": {  # |z| = 1
        "layers": [layer([[1.0], [-1.0]], [0.0, 0.0], [0.0, 0.0]), layer([[1.0, 1.0]] * 2, [0.0, 0.0], None)],
        "unique": [True],
        "y": text([1.0, 1.0]), "f": text([0.0]), "bound": text([0.0]), "level": text([1e-9]),
        **tree(([], None)),
    },
    "a latent below the box": {"z": text([-3.0]), "f": text([4.0]), "bound": text([0.0]), "status": ["bounded"]},
    "a bound above a level that excludes all": {"level": text([0.5]), "bound": text([0.9]), "gap": text([0.5])},
    "unique where all is constant": {
        "layers": [layer([[1.0]], [0.0], [0.0]), layer([[0.0], [0.0]], [1.0, 1.0], None)], "box": text([0.5, 1.0]),
        "unique": [True], **round_of(units=".", v=text([1.0]), lam=text([0.0] * 2), limits=text([0.5, 1.0])),
    },
    "unique with two nodes": {
        "box": text([0.5, 1.0]), "unique": [True], "bound": text([0.0]), "status": ["bounded"],
        **tree(([], HALF | {"at": text([0.75])}), ([], None), ([], None)),
    },
    "unique above the level": {
        "box": text([0.5, 1.0]), "unique": [True], "bound": text([0.0]), "status": ["bounded"], "level": text([0.5]),
        **tree(([], None)),
    },
    "the wrong shape": {"shape": [1, 1, 2, 3]},
    "a mask that is longer": {"seen": ["+++"]},
    "marks of a mask": {"seen": ["+?"]},
}  # fmt: skip


def judged(C: SimpleNamespace, content: dict[str, Any]) -> bool | None:
    """Whether all claims are accepted, None where the file is refused."""
    try:
        return all(v.accepted for v in C.reading.claims(content))
    except RefusedError:
        return None
    except Exception:  # `check.read` refuses what ends so
        return None


def looks_at_hands(C: SimpleNamespace) -> Iterator[str]:
    yield from (f"{name}: accepted" for name, change in UNTRUE.items() if judged(C, by_hand(**change)))
    yield from (f"{name}: not accepted" for name, change in TRUE.items() if not judged(C, by_hand(**change)))


# --- small functions ------------------------------------------------------------------------------


def looks_at_functions(C: SimpleNamespace) -> Iterator[str]:
    """At the edge."""
    whole = C.integers
    for x in (7, -7, 8, -8):
        if not whole.down(x, 3, 1) * 4 <= x or not whole.up(x, 3, 1) * 4 >= x or whole.down(x, 1, 3) != 4 * x:
            yield "rounding"
    node = C.node.Node(([1], [1]), [([0], [0])], Fraction(0))
    if node.empty or node.undecided or not C.node.Node(([1], [1]), [([1], [0])], Fraction(0)).empty:
        yield "an empty node"
    if C.node.Node(([1], [1]), [([-1], [1])], Fraction(0)).undecided != 1 or node.copy().c is node.c:
        yield "an undecided unit"
    limits = ([0, 5], [9, 6])
    C.node.fold(limits, 0, Fraction(7, 3), Fraction(8, 3), 1)
    C.node.fold(limits, 1, Fraction(-7, 3), Fraction(29, 3), 0)
    if limits != ([4, 5], [6, 6]):
        yield "folding"
    C.node.fold(limits, 0, None, Fraction(99), 1)
    if limits != ([4, 5], [6, 6]):
        yield "folding"
    if C.told.weaker(([1, 1], [3, 3]), [0, 1], {1: (0.25, 2.75)}, 1) != ([1, 0], [3, 6]):
        yield "the weaker of two"
    # 3 + 2 c with c in [-4, 5] is in [-5, 13], of which [-9, 20] adds nothing and [-1, 6] leaves less
    for own, ends in (((-9, 20), (-5, 13)), ((-1, 6), (-1, 6))):
        part = object.__new__(C.relaxed.Relaxed)
        part.Ev, part.low, part.high = 0, [-4], [5]
        level = C.relaxed.Level([[3, 2]], 0, 0, 2, [], [0])
        part._hold(level, ([own[0]], [own[1]]), SimpleNamespace(held_limits={}))
        if level.ends != [ends]:
            yield "what the variables before allow"
    for rows, k in (([[1, -2], [3, 4]], [5, -6]), ([[0, 0]], [1 << 70])):
        if whole.Packed(rows, 80).combined(k) != [
            sum(a * x for a, x in zip(k, c, strict=True)) for c in zip(*rows, strict=True)
        ]:
            yield "products"
    for bits in (1, 9, 90):
        most = [(1 << bits) - 1] * 5
        if whole.Packed([[most[0], -most[0]]] * 5, bits).combined(most) != [5 * most[0] ** 2, -5 * most[0] ** 2]:
            yield "sums of long products"
    for asked in (lambda: whole.Packed([[1]], 1).combined([4]), lambda: whole.Work().spend(1 << 40)):
        try:
            asked()
            yield "no limit"
        except RefusedError:
            pass


LOOKS: tuple[Callable[[SimpleNamespace], Iterator[str]], ...] = (looks_at_functions, looks_at_hands, looks_at_rounds)


def first_sight(C: SimpleNamespace) -> str | None:
    """What is seen first of a fault, None of none."""
    for look in LOOKS:
        try:
            for found in look(C):
                return found
        except Exception as error:  # faults may end anywhere
            return f"{type(error).__name__}: {error}"
    return None


FAULTS = [
    ("integers", "down is up", "return x >> (E - to) if", "return -(-x >> (E - to)) if"),
    ("integers", "up is down", "return -down(-x, E, to)", "return down(x, E, to)"),
    ("integers", "long products overlap", "len(rows).bit_length() + 9", "1"),
    ("integers", "multipliers of any length", "longest([k]) <= self.bits and", ""),
    ("integers", "work without end", 'need(self.left >= 0, "what', 'need(True, "what'),
    ("network", "slopes of any size", "lambda x: 0 <= x <= 1", "lambda x: x == x"),
    ("network", "the signal added", "(b << to - self.E) - (x << to - E)", "(b << to - self.E) + (x << to - E)"),
    ("network", "biases not measured", "[dot(row, self.b) for row in rows]", "[0 for row in rows]"),
    ("network", "weights of any sum", "dot(m, m) <= 1 << 2 * E", "dot(m, m) >= 0"),
    ("network", "weights on half of a row", "[-x * r for x, r in zip(m, residual.b",
     "[-r << E for x, r in zip(m, residual.b"),
    ("network", "signs of residuals", "[-x for x in residual.b]", "[x for x in residual.b]"),
    ("network", "a sum without signs", "[-1.0] * len(self.b)", "[0.0] * len(self.b)"),
    ("question", "eps from below", "up=True)", "up=False)"),
    ("question", "negative outputs cut", "x if x >= 0 else x * s", "x if x >= 0 else ZERO"),
    ("question", "a prior forgotten in z", "rest += (", "rest = 0 * ("),
    ("question", "the least for the largest", "max(x * x for x in r)", "min(x * x for x in r)"),
    ("question", "a sum not squared", "sum(map(abs, r), ZERO) ** 2", "sum(map(abs, r), ZERO)"),
    ("question", "a turned bias", "[[b << self.EV, *", "[[0, *"),
    ("question", "a prior's mean forgotten", "self.m = [x << self.EV for x in", "self.m = [0 for x in"),
    ("question", "|y| and not its square", "return Fraction(dot(y, y), 1 << 2 * E)",
     "return Fraction(sum(map(abs, y)), 1 << E)"),
    ("node", "touching limits exclude", "any(l > h for", "any(l >= h for"),
    ("node", "empty nodes kept", "any(l > h for", "any(l > h + 99 for"),
    ("node", "low limits rounded in", "(low.numerator << E) // low.denominator",
     "-(-(low.numerator << E) // low.denominator)"),
    ("node", "high limits rounded in", "-((-high.numerator << E) // high.denominator)",
     "(high.numerator << E) // high.denominator"),
    ("node", "decided if nearly", "sum(l < 0 < h for", "sum(l + 1 < 0 < h for"),
    ("node", "children that share", "Node((self.c[0][:], self.c[1][:])", "Node(self.c"),
    ("boxes", "any V", "need(2 * max(off) < one,", "need(max(off) >= 0,"),
    ("boxes", "V taken to be orthogonal", "slack = [-(-2 * x * most // one) for x in off]", "slack = [0 for x in off]"),
    ("boxes", "half the box", "[dot(map(abs, x), rad) for x in columns]", "[dot(map(abs, x), rad) // 2 for x in columns]"),
    ("boxes", "the box not turned", "[dot(map(abs, x), rad) for x in columns]", "[dot(x, rad) for x in columns]"),
    ("boxes", "the box's low ends rounded in", "low = [down(m", "low = [up(m"),
    ("boxes", "the box's high ends rounded in", "high = [up(m", "high = [down(m"),
    ("boxes", "units' low limits rounded in", "return [down(x, E, to) for x in low], [up",
     "return [up(x, E, to) for x in low], [up"),
    ("boxes", "first units' low limits", "down(m - r, part.E", "down(m - r // 2, part.E"),
    ("boxes", "first units' high limits", "up(m + r, part.E", "up(m + r // 2, part.E"),
    ("boxes", "first units' biases", "dot(w, mid) + (b << E + 1)", "dot(w, mid) + (b << E)"),
    ("boxes", "eps rounded in", "most = -((-self.eps.numerator << E) // self.eps.denominator)",
     "most = (self.eps.numerator << E) // self.eps.denominator"),
    ("boxes", "half of eps", "[max(x, -most) for x in lo]", "[max(x, -most // 2) for x in lo]"),
    ("boxes", "half of eps above", "[min(x, most) for x in hi]", "[min(x, most // 2) for x in hi]"),
    ("boxes", "eps for hidden units", "if layer == len(self.hidden):", "if layer >= 0:"),
    ("boxes", "propagated low limits rounded in", "[max(x, down(y, E, to))", "[max(x, up(y, E, to))"),
    ("boxes", "chords rounded down", "return -(-(h * self.unit - s * l) // (h - l))",
     "return (h * self.unit - s * l) // (h - l)"),
    ("boxes", "chords without the slope", "(h * self.unit - s * l) //", "(h * self.unit) //"),
    ("boxes", "half the height", "height.append((s - a) * l if", "height.append((s - a) * l // 2 if"),
    ("boxes", "heights of the wrong side", "if x < 0)", "if x > 0)"),
    ("boxes", "lines exchanged", "(d if x > 0 else a)", "(a if x > 0 else d)"),
    ("boxes", "biases on the way forgotten", "+ dot(k, part.b)", ""),
    ("boxes", "half a box", "return (row[0] << self.Ec + 1) + middle - reach",
     "return (row[0] << self.Ec + 1) + middle - reach // 2"),
    ("boxes", "the sign of a bias", "sign * part.b[j]", "part.b[j]"),
    ("told", "the nearer limits", "low[i], high[i] = min(low[i], floor(l)), max(high[i], ceil(h))",
     "low[i], high[i] = max(low[i], floor(l)), min(high[i], ceil(h))"),
    ("told", "low limits told", "min(low[i], floor(l))", "floor(l)"),
    ("told", "high limits told", "max(high[i], ceil(h))", "ceil(h)"),
    ("told", "weights of any sign", "lambda x: 0 < x < inf", "lambda x: x == x"),
    ("told", "any keys", 'need(set(told) | {"p"} == {"units", "limits", "v", "lam", "theta", "p"}', "need(bool(told)"),
    ("relaxed", "ranges cut below", "down(min(s[j] * l, 0)", "down(0 * l"),
    ("relaxed", "ranges cut above", "up(max(h << proof.ES, s[j] * l)", "up(max(h << proof.ES - 1, s[j] * l)"),
    ("relaxed", "ranges of absolute values", "up(max(h << proof.ES, s[j] * l)", "up((h << proof.ES)"),
    ("relaxed", "undecided units held", "j in told.free or lo[j] < 0 < hi[j]", "j in told.free"),
    ("relaxed", "biases forgotten", "row[0] += b << self.EX", "row[0] += 0"),
    ("relaxed", "rows apart taken for none", "any(l > h for l, h in zip(*own", "any(l > h - 99 for l, h in zip(*own"),
    ("relaxed", "rows' reach halved below", "sum(map(min, ends))", "sum(map(min, ends)) // 2"),
    ("relaxed", "rows' reach halved above", "sum(map(max, ends))", "sum(map(max, ends)) // 2"),
    ("relaxed", "held limits forgotten", "max(own[0][j], down(const", "max(-(1 << 99), down(const"),
    ("relaxed", "rows' low limits that are told", "low[j] = max(own[0][j], ", "low[j] = max(0 * own[0][j], "),
    ("relaxed", "multipliers below 0", "max(0, int(ldexp(x, self.Elam)))", "int(ldexp(x, self.Elam))"),
    ("relaxed", "the prior's misfit forgotten", "[x << to - proof.EE - self.Ev for x in own]", "[0 for x in own]"),
    ("relaxed", "the prior's misfit twice", "[x << to - proof.EE - self.Ev for x in own]",
     "[x << to + 1 - proof.EE - self.Ev for x in own]"),
    ("relaxed", "the prior's pull forgotten", "g[k] += x * y", "g[k] += 0 * y"),
    ("relaxed", "multipliers pull the other way", "(x << top - Eg) - (y << top - Ep)", "(x << top - Eg) + (y << top - Ep)"),
    ("relaxed", "the wrong ends", "(lo if x > 0 else hi) - y", "(hi if x > 0 else lo) - y"),
    ("relaxed", "D without its last term", "+ 2 * work + 2 * Fraction(moved, 1 << top + Ev)", "+ 2 * work"),
    ("relaxed", "half of D's last term", "+ 2 * Fraction(moved,", "+ Fraction(moved,"),
    ("relaxed", "the work halved", "+ 2 * work", "+ work"),
    ("relaxed", "the misfit twice", "return Fraction(dot(p, p),", "return 2 * Fraction(dot(p, p),"),
    ("relaxed", "p taken for r(v)", "off = o + 2 * root(o, up=True) * proof.eps", "off = 0"),
    ("relaxed", "half of p's rounding", "2 * root(o, up=True)", "root(o, up=True)"),
    ("relaxed", "J'p of r(v)", "self._back(p[: len(", "self._back(r[: len("),
    ("relaxed", "reach of one side", "max(hi - y, y - lo) for", "hi - y for"),
    ("relaxed", "t of the box", "[x - (y << to) for x, y in zip(c, lo", "[x - (y << to) - (1 << to) for x, y in zip(c, lo"),
    ("relaxed", "t of x - s u", "[y - s * z for y, s, z", "[y + s * z for y, s, z"),
    ("relaxed", "t of x - u", "t.append([y - (z << ES)", "t.append([y + (z << ES)"),
    ("relaxed", "t of chords", "(s * l << to) - y", "- y"),
    ("relaxed", "t of held units", "z - (l << to + ES)", "z - (h << to + ES)"),
    ("relaxed", "half the most of x - s u", "Fraction((one - s) * h, E)", "Fraction((one - s) * h, 2 * E)"),
    ("relaxed", "half the most of x - u", "Fraction((s - one) * l, E)", "Fraction((s - one) * l, 2 * E)"),
    ("relaxed", "half the most of chords", "Fraction((s - a) * l, E)", "Fraction((s - a) * l, 2 * E)"),
    ("relaxed", "half the most of held units", "Fraction(max(h - l, 0), 1 << x.Eu)", "Fraction(max(h - l, 0), 2 << x.Eu)"),
    ("relaxed", "half the most of the box", "Fraction(b - a, 1 << proof.Ec)", "Fraction(b - a, 2 << proof.Ec)"),
    ("relaxed", "A' of chords", "[a * r - s * p - unit * q for", "[-a * r - s * p - unit * q for"),
    ("relaxed", "A' of x - s u", "[a * r - s * p - unit * q for", "[a * r + s * p - unit * q for"),
    ("relaxed", "A' of x", "(p + q - r) << self.Emax", "(p + q + r) << self.Emax"),
    ("relaxed", "A' of the box", "[(x - y) << self.Emax + ES for", "[(x + y) << self.Emax + ES for"),
    ("relaxed", "A' of held units", "(p - q) << ES for", "(p + q) << ES for"),
    ("limits", "J'J of free units halved", "[target.G[j][k] << 2 * self.EX for k in self.free]",
     "[target.G[j][k] << self.EX for k in self.free]"),
    ("limits", "J'J without the prior", "JJ[c][d] += dot(x, y)", "JJ[c][d] += 0 * dot(x, y)"),
    ("limits", "rounding of J'J is none", "for row in JJ], 1, EJ", "for row in JJ], 0, EJ"),
    ("limits", "D rounded down", "over(-(-(D.numerator << to) // D", "over(((D.numerator << to) // D"),
    ("limits", "rooms rounded down", "[-(-(x.numerator << self.Er) // x.denominator) for",
     "[((x.numerator << self.Er) // x.denominator) for"),
    ("limits", "rooms by D halved", "min(x, twice / y)", "min(x, twice / (2 * y))"),
    ("limits", "rests without F", "rests[k][k] += 1 << self.Erest", "rests[k][k] += 0"),
    ("limits", "rests without A'Z", "- (b << self.Erest - E2)", "+ (b << self.Erest - E2)"),
    ("limits", "x below 0 bounds u", "low if low > 0 and", "low if"),
    ("limits", "x above -s u", "high * proof.unit / level.s[i] if level.s[i] < 0", "0 * high if level.s[i] < 0"),
    ("limits", "|J Y|^2 halved", "over(max(0, dot(Y, JY))", "over(max(0, dot(Y, JY)) // 2"),
    ("limits", "rounding of J'J in |J Y|^2", "+ self.err * length**2", ""),
    ("limits", "rests forgotten", "loss = over(dot(map(abs, rest), self.reach)",
     "loss = over(0 * dot(map(abs, rest), self.reach)"),
    ("limits", "rounding of J'J in rests", "loss += over(self.err", "loss += over(0 * self.err"),
    ("limits", "the offset's sign", "middle = value - over", "middle = value + over"),
    ("limits", "sides exchanged", "for sign in (-1, 1))", "for sign in (1, -1))"),
    ("limits", "rows left out", "few = 2 * least * (1 - 1e-9)", "few = 4 * least"),
    ("limits", "4 k lam for 2 k lam", "(down(2 * m * self.lams[i]", "(down(4 * m * self.lams[i]"),
    ("limits", "multipliers' work rounded in", "(down(2 * m * self.lams[i]", "(-down(-2 * m * self.lams[i]"),
    ("limits", "8 k for 4 k", "square / (4 * k)", "square / (8 * k)"),
    ("limits", "k D halved", "return k * self.D +", "return k * self.D / 2 +"),
    ("limits", "rooms halved", "+ over(total, self.EZ", "+ over(total // 2, self.EZ"),
    ("tree", "z anywhere", "if not all(box[j] <= z[j]", "if not all(-9 <= z[j]"),
    ("tree", "f of any size", "elif found > f:", "elif found > 9 * f:"),
    ("tree", "gaps of any size", "elif not 0 < gap < 1:", "elif gap == 0:"),
    ("tree", "levels of any size", "proved = min([self.level, *(", "proved = min([Fraction(9), *("),
    ("tree", "the best node for the worst", "(node.bound for node, _ in ends)])",
     "max((node.bound for node, _ in ends), default=self.level)])"),
    ("tree", "bounds of any size", "verdict = proved >= bound and", "verdict = "),
    ("tree", "gaps not asked for", 'proved >= bound and (close or status != "proved_optimal")', "proved >= bound"),
    ("tree", "misfits of rounding are large", "_ROUNDING = Fraction(1, 10**22)", "_ROUNDING = Fraction(1)"),
    ("tree", "linf taken for l2", 'if self.norm == "linf":', 'if self.norm == "l0":'),
    ("tree", "the level not asked for", "if found > self.level:", "if found > 9 * self.level:"),
    ("tree", "many nodes left", "if len(left) != 1 or left[0].undecided:", "if left[0].undecided:"),
    ("tree", "any rank", "return rank == self.n0,", "return rank <= self.n0,"),
    ("tree", "nodes with more", 'set(x) == {"rounds", "split"}', "len(x) >= 2"),
    ("tree", "nodes of nobody", 'need(number in waiting, "a tree, parents first")',
     "waiting.setdefault(number, self.root(box))"),
    ("tree", "one child for two", "and child not in waiting, ", ", "),
    ("tree", "nodes closed early", "if last.D < 0 or", "if last.D < self.level / 2 or"),
    ("tree", "bounds of rounds added", "max(node.bound, self.level - rel.D)", "node.bound + self.level - rel.D"),
    ("tree", "a bound beyond D", "max(node.bound, self.level - rel.D)", "max(node.bound, self.level - rel.D / 2)"),
    ("tree", "leaves forgotten", "            if not node.empty:\n                left.append((node, last))",
     "            if node.undecided:\n                left.append((node, last))"),
    ("tree", "units on from above 0", "max(over[j], 0), min", "max(over[j], 1 << self.Eu[layer]), min"),
    ("tree", "units off at both ends", "min(under[j], 0)", "min(under[j], -(1 << self.Eu[layer]))"),
    ("tree", "negative places", "type(x) is int and x >= 0)", "type(x) is int)"),
    ("tree", "halves that do not meet", "min(below.c[1][k], at)", "min(below.c[1][k], at - (1 << self.Ec - 2))"),
    ("tree", "coordinates that are words", "need(type(k) is int and 0 <= k < self.n0", "need(0 <= k < self.n0"),
    ("tree", "splits of two kinds", 'set(split) in ({"unit", "children"}, {"half", "at", "children"})', "bool(split)"),
    ("reading", "weights for nothing", '(data["weights"] is not None) == (norm == "linf")', "True"),
    ("reading", "slopes behind the last", "and parts[-1].slopes is None", ""),
    ("reading", "layers that do not fit", "all(part.n == n for part, n in zip(parts, sizes, strict=False))", "True"),
    ("reading", "masks of any length", "len(x) == k and not", "not"),
    ("reading", "masks of any marks", 'and not x.strip("+.")', ""),
    ("reading", "priors in any norm", 'and norm == "l2")', ")"),
    ("reading", "any status", 'if unique or status != "numerical_error":', "if unique:"),
    ("reading", "unique beside nothing", 'if unique or status != "numerical_error":', 'if status != "numerical_error":'),
]  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path):
    """Makes a checker of edited source texts, a package that nobody else can import."""
    with planter(FOLDER, "planted_checker", checker, tmp_path) as plant:
        yield plant


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.__name__)
def test_nothing_is_seen_where_no_fault_was_planted(look: Callable[[SimpleNamespace], Iterator[str]]):
    assert list(look(checker())) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}: {fault[1]}")
def test_a_planted_fault_is_seen(fault: tuple[str, str, str, str], planted):
    place, _, old, new = fault
    assert first_sight(planted(place, old, new)) is not None
