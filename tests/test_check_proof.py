"""Proof files: the checker accepts what `prove` writes, in exact arithmetic, and refuses what is no longer proved."""

import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from proof_cases import SMALL, logged, logged_cancelling, network, numbers, originals, text
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv import check, check_fits, check_inversion, check_proof
from cvxinv.check import RefusedError, Verdict
from cvxinv.check_proof import check_file, limits
from cvxinv.check_proof.integers import Packed
from cvxinv.command import cli
from cvxinv.exact.prove import prove

CASES = [  # hidden layers, slope where cut, noise, share of the signal that is hidden
    (1, 0.0, 0.0, 0.0), (1, 0.2, 0.01, 0.0), (1, 0.0, 0.1, 0.3), (1, 0.2, 0.3, 0.0), (2, 0.0, 0.01, 0.0), (2, 0.2, 0.1, 0.3),
    (2, 0.0, 0.3, 0.0), (2, 0.2, 0.0, 0.0),
]  # fmt: skip


def claims(verdicts: list[Verdict]) -> list[str]:
    return [verdict.claim for verdict in verdicts]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_proved_is_accepted_in_exact_arithmetic(tmp_path, case):
    path = tmp_path / "one.json"
    proof = logged(path, case, 0)
    verdicts = check_file(path)
    assert claims(verdicts) == list(proof.status) + ["unique"] * bool(proof.unique[0])
    assert all(verdict.accepted for verdict in verdicts), verdicts
    assert "in exact arithmetic" in verdicts[0].words


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("case", [(1, 0.2, 0.3, 0.0), (1, 0.0, 0.1, 0.3), (2, 0.0, 0.3, 0.0)], ids=str)
def test_what_is_proved_in_other_norms_is_accepted(tmp_path, case, norm):
    """Also where rows are not seen; what is claimed is the misfit in that norm."""
    path = tmp_path / "one.json"
    proof = logged(path, case, 1, width=4, noise=(norm, 0.1), gap=1e-2)
    verdicts, content = check_file(path), json.loads(path.read_text())
    assert proof.proved.all() and content["norm"] == norm and verdicts[0].claim == "proved_optimal"
    assert all(verdict.accepted for verdict in verdicts), verdicts
    bound, f = (numbers(content[key])[0] for key in ("bound", "f"))
    assert math.isclose(f, float(proof.misfit[0]) ** 2, rel_tol=1e-8) and bound > 0.98 * f
    assert not verdict_of(path, content | {"bound": text([f * 1.01])})
    assert not verdict_of(path, content | {"norm": "l2", "weights": None})


@pytest.mark.parametrize(("kind", "seed", "C", "noise"), [
    ("l2", 0, 1e4, 0.5), ("l2", 5, 1e6, 0.5), ("l1", 2, 1e4, 0.5), ("l1", 3, 1e4, 0.5), ("linf", 5, 1e6, 0.5),
    ("a prior", 3, 1e6, 0.0), ("a prior", 5, 1e6, 0.5), ("a ball", 5, 1e4, 0.5), ("a mask", 3, 1e4, 0.5),
])  # fmt: skip
def test_what_is_proved_is_accepted_where_weights_cancel(tmp_path, kind, seed, C, noise):
    logged_cancelling(tmp_path / "one.json", kind, seed, C, noise)
    verdicts = check_file(tmp_path / "one.json")
    assert all(verdict.accepted for verdict in verdicts), verdicts


def test_a_tree_is_walked_again_with_care_where_vectors_of_floats_prove_too_little(tmp_path, monkeypatch):
    path, inverse = tmp_path / "one.json", limits.inverse
    path.write_text(originals()[0])
    monkeypatch.setattr(limits, "inverse", lambda H, least: [] if type(H[0][0]) is float else inverse(H, least))
    assert all(verdict.accepted for verdict in check_file(path))
    monkeypatch.setattr(limits, "inverse", lambda H, least: [])
    assert not all(verdict.accepted for verdict in check_file(path)), "this file shows nothing"


def test_a_file_of_an_earlier_version_says_nothing_of_p(tmp_path):
    content = json.loads(originals()[0])
    for node in content["trees"][0]:
        for told in node["rounds"]:
            del told["p"]
    assert verdict_of(tmp_path / "one.json", content)


def test_a_signal_a_mask_and_a_prior_of_their_own_are_in_the_file(tmp_path):
    """Three signals at once, by a matrix of measurements, with a Gaussian prior."""
    path, G = tmp_path / "one.json", network(3, 1, 0.0)
    draw = torch.Generator().manual_seed(4)
    z, A = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((3, 2), (6, 8)))
    y = G(z) @ A.T + 0.1 * torch.randn(3, 6, generator=draw, dtype=torch.float64)
    options = {"measurement": A, "noise": ("gaussian", 0.1), "prior": ci.Gaussian(1.0)}
    proof = prove(G, y, z, **options, log=path, time_limit=None)
    verdicts = check_file(path)
    assert [v.signal for v in verdicts if v.claim == "proved_optimal"] == [0, 1, 2]
    assert proof.proved.all() and all(v.accepted for v in verdicts), verdicts
    content = json.loads(path.read_text())
    f = torch.tensor(numbers(content["f"]), dtype=torch.float64)
    assert torch.allclose(f, proof.misfit**2, rtol=1e-8) and content["extra"][0]["shape"] == [2] and content["A"]


def test_a_file_saved_again_and_loaded_is_accepted_again(tmp_path):
    path, again = tmp_path / "one.json", tmp_path / "two.json"
    logged(path, CASES[5], 0)
    again.write_text(json.dumps(json.loads(path.read_text()), indent=None, sort_keys=True))
    assert check_file(path) == check_file(again) and all(v.accepted for v in check_file(again))


def test_two_searches_write_the_same_file(tmp_path):
    first, second = tmp_path / "one.json", tmp_path / "two.json"
    for path in (first, second):
        logged(path, CASES[4], 0)
    assert first.read_bytes() == second.read_bytes()


def test_a_search_that_was_stopped_claims_what_it_has(tmp_path):
    path = tmp_path / "one.json"
    proof = logged(path, CASES[6], 0, callback=lambda moment: True)
    verdicts = check_file(path)
    assert proof.status[0] == "bounded" and claims(verdicts) == ["bounded"] and verdicts[0].accepted


def test_a_log_that_cannot_be_written_is_refused_before_any_arithmetic(tmp_path):
    with pytest.raises(ValueError, match="make its folder first"):
        logged(tmp_path / "none" / "one.json", CASES[0], 0)
    with pytest.raises(TypeError, match="expected log as a path, got 3"):
        logged(3, CASES[0], 0)
    tanh = network(0, 1, 0.0).with_output("tanh")
    with pytest.raises(ValueError, match="expected an output of lines for a proof file, got Tanh"):
        prove(tanh, torch.zeros(1, 8).double(), log=tmp_path / "one.json")


def test_the_command_and_the_files_alone_say_the_same(tmp_path):
    logged(tmp_path / "one.json", CASES[1], 0)
    content = json.loads((tmp_path / "one.json").read_text())
    (tmp_path / "two.json").write_text(json.dumps(content | {"f": text([0.0])}))
    (tmp_path / "bad.json").write_text(json.dumps(content | {"trees": [[]]}))
    for module in (check, check_fits, check_inversion):
        shutil.copy(module.__file__, tmp_path)
    shutil.copytree(Path(check_proof.__file__).parent, tmp_path / "check_proof")
    for name, code, words in (("one", 0, " accepted"), ("two", 1, "z has a squared misfit"), ("bad", 2, "refused: ")):
        alone = [sys.executable, "-E", "-s", "-S", "-m", "check_proof", f"{name}.json"]
        done = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True)
        told = CliRunner().invoke(cli.app, ["check", str(tmp_path / f"{name}.json")])
        assert (done.returncode, done.stderr, told.exit_code) == (code, "", code) and words in done.stdout, done.stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree[0]["rounds"][0].update(units="?" * 8),
        lambda tree: tree[0]["rounds"][0].update(theta="x"),
        lambda tree: tree[0]["rounds"][0].update(v=text([math.nan])),
        lambda tree: tree[0]["rounds"][0].update(lam=text([1e300] * 30)),
        lambda tree: tree[0].update(split={"unit": [9, 0], "children": [1, 2]}),
        lambda tree: tree[0].update(split={"half": 0, "at": text([0.0]), "children": [1, 1]}),
        lambda tree: tree[0].update(split={"half": 0, "at": text([0.0]), "children": [0, 1]}),
        lambda tree: tree.append({"rounds": [], "split": None}),
        lambda tree: tree[0].update(more=1),
        lambda tree: tree.insert(0, 3),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, change):
    path, content = tmp_path / "one.json", json.loads(originals()[0])
    change(content["trees"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(RefusedError) as found:
        check_file(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("bits", [1, 20, 90])
def test_sums_of_packed_vectors_are_those_of_integers(bits):
    draw = random.Random(bits)
    size = lambda: draw.choice([-1, 1]) * draw.choice([0, (1 << bits) - 1, draw.getrandbits(bits)])  # noqa: E731
    vectors, k = [[size() for _ in range(7)] for _ in range(5)], [size() for _ in range(5)]
    found = Packed(vectors, bits).combined(k)
    assert found == [sum(a * x for a, x in zip(k, column, strict=True)) for column in zip(*vectors, strict=True)]
    most = [(1 << bits) - 1] * 5
    assert Packed([[most[0]]] * 5, bits).combined(most) == [5 * most[0] ** 2]
    with pytest.raises(RefusedError):
        Packed(vectors, bits).combined([1 << bits, 0, 0, 0, 0])


# --- files that were changed ----------------------------------------------------------------------


def nudged(entry: dict[str, Any] | list[Any], key: Any, draw: random.Random) -> None:
    """One number of an array changed: by a little, by much, its sign, 0."""
    values = numbers(entry[key])
    k = draw.randrange(len(values)) if values else None
    if k is not None:
        scale = max(map(abs, values)) or 1.0
        x = values[k]
        values[k] = draw.choice([x * 1.01, x * 0.5, x * 3, -x, 0.0, x + scale, x - 0.1 * scale, x * (1 + 1e-7)])
    entry[key] = text(values)


def mutate(content: dict[str, Any], kind: str, draw: random.Random) -> None:
    tree = content["trees"][0]
    rounds = [told for node in tree for told in node["rounds"]]
    splits = [node["split"] for node in tree if node["split"] is not None]
    if kind in ("v", "lam", "limits", "theta"):
        nudged(draw.choice(rounds), kind, draw)
    elif kind == "all":  # multipliers scaled, and a bound above what is true
        told = draw.choice(rounds)
        told["lam"] = text([x * draw.choice([0.0, 0.5, 2.0, 10.0]) for x in numbers(told["lam"])])
        content["bound"] = text([min(numbers(content["level"])[0], numbers(content["bound"])[0] * 1.001)])
    elif kind == "marks":
        told = draw.choice(rounds)
        marks = list(told["units"])
        draw.shuffle(marks)
        told["units"] = "".join(marks)
    elif kind == "tree" and splits:
        split = draw.choice(splits)
        change = draw.choice(["children", "other", "none"])
        if change == "children":
            split["children"] = split["children"][:1] * 2
        elif change == "other" and "unit" in split:
            split["unit"][1] = (split["unit"][1] + 1) % 4
        else:
            draw.choice([node for node in tree if node["split"] is not None])["split"] = None
    elif kind == "rounds":
        del draw.choice([node for node in tree if node["rounds"]])["rounds"][0]
    elif kind in ("W", "b"):
        nudged(draw.choice(content["layers"]), kind, draw)
    elif kind == "claims":
        key, factor = draw.choice(
            [("bound", 1.01), ("f", 0.99), ("gap", 1e-3), ("level", 0.9), ("level", 1.1), ("bound", 0.99)]
        )
        content[key] = text([x * factor for x in numbers(content[key])])
    elif kind == "words":
        key, value = draw.choice([("unique", True), ("status", "proved_optimal"), ("seen", "+" * 7 + ".")])
        content[key] = [value]
    else:
        nudged(content, draw.choice(["y", "z", "box", "V"]), draw)


MUTATIONS = ("v", "lam", "limits", "theta", "all", "marks", "tree", "rounds", "W", "b", "claims", "words", "data")


class Truth:
    """The network of a file, in floating point, and many latents of its box, the best ones led downhill."""

    def __init__(self, content: dict[str, Any], count: int = 4000) -> None:
        tensor = lambda key: torch.tensor(numbers(content[key]), dtype=torch.float64)  # noqa: E731
        self.n0, k = content["shape"][1], content["shape"][3]
        self.layers = []
        for layer in content["layers"]:
            W = torch.tensor(numbers(layer["W"]), dtype=torch.float64).reshape(layer["shape"])
            s = None if layer["slope"] is None else torch.tensor(numbers(layer["slope"]), dtype=torch.float64)
            self.layers.append((W, torch.tensor(numbers(layer["b"]), dtype=torch.float64), s))
        self.seen = torch.tensor([mark == "+" for mark in content["seen"][0]])
        self.y, self.z, self.V = tensor("y").reshape(-1, k)[0], tensor("z")[: self.n0], tensor("V").reshape(self.n0, self.n0)
        self.low, self.high = tensor("box").reshape(2, self.n0)
        self.f, self.gap, self.bound = (float(tensor(key)[0]) for key in ("f", "gap", "bound"))
        draw = torch.Generator().manual_seed(0)
        share = torch.rand(count, self.n0, generator=draw, dtype=torch.float64)
        points = torch.cat([self.low + share * (self.high - self.low), self.z + 0.03 * (share - 0.5), self.z[None]])
        self.points = points.clamp(self.low, self.high)

    def units(self, z: torch.Tensor) -> list[torch.Tensor]:
        """Pre-activations of all layers, then the signal."""
        found = []
        for W, b, s in self.layers:
            found.append(z @ W.T + b)
            z = found[-1] if s is None else torch.maximum(found[-1], s * found[-1])
        return found

    def misfits(self, z: torch.Tensor) -> torch.Tensor:
        return ((self.units(z)[-1] - self.y)[:, self.seen] ** 2).sum(1)

    def least(self) -> float:
        """The smallest squared misfit found in the box."""
        z = self.points[self.misfits(self.points).argsort()[:20]]
        step = (self.high - self.low).max() / 30
        draw = torch.Generator().manual_seed(1)
        for _ in range(60):
            tried = z[:, None] + step * torch.randn(len(z), 30, self.n0, generator=draw, dtype=torch.float64)
            tried = torch.cat([z[:, None], tried], 1).clamp(self.low, self.high)
            values = self.misfits(tried.reshape(-1, self.n0)).reshape(len(z), -1)
            z, step = tried[torch.arange(len(z)), values.argmin(1)], step * 0.85
        return float(self.misfits(z).min())

    def holds(self, status: str) -> bool:
        """Whether the claims stand up to all this."""
        own = float(self.misfits(self.z[None])[0])
        tiny = 1e-22 * float((self.y[self.seen] ** 2).sum())
        near = status != "proved_optimal" or self.bound >= (1 - self.gap) * (1 - 2e-9) * own - tiny
        return own <= self.f * (1 + 1e-9) + tiny and self.least() >= self.bound * (1 - 1e-9) - tiny and near


def verdict_of(path: Path, content: dict[str, Any]) -> bool:
    """Whether all claims of a changed file are accepted."""
    path.write_text(json.dumps(content))
    try:
        return all(verdict.accepted for verdict in check_file(path))
    except RefusedError:
        return False


def test_two_hundred_changed_files_are_refused_unless_still_true(tmp_path):
    draw, refused = random.Random(0), dict.fromkeys(MUTATIONS, 0)
    for k in range(208):
        kind, content = MUTATIONS[k % len(MUTATIONS)], json.loads(originals()[k // len(MUTATIONS) % len(SMALL)])
        mutate(content, kind, draw)
        accepted = verdict_of(tmp_path / "one.json", content)
        refused[kind] += not accepted
        assert not accepted or Truth(content).holds(content["status"][0]), f"{k}, {kind}: accepted, and false"
    # multipliers that still prove it are none the worse; of these kinds most change what is claimed
    assert sum(refused.values()) >= 100 and all(refused[kind] >= 8 for kind in ("W", "b", "all", "tree", "data")), refused


@pytest.mark.parametrize("number", range(len(SMALL)))
def test_a_looser_claim_is_accepted_and_a_tighter_one_refused(tmp_path, number):
    path, content = tmp_path / "one.json", json.loads(originals()[number])
    bound, f = numbers(content["bound"])[0], numbers(content["f"])[0]
    assert verdict_of(path, content)
    assert verdict_of(path, content | {"f": text([f * 1.5])})
    assert verdict_of(path, content | {"bound": text([bound / 2]), "status": ["bounded"], "unique": [False]})
    assert verdict_of(path, content | {"gap": text([0.01])})
    assert not verdict_of(path, content | {"bound": text([bound / 2])}), "the gap is wider than stated"
    assert not verdict_of(path, content | {"bound": text([f * 1.01])})
    assert not verdict_of(path, content | {"f": text([f * 0.99])})
