"""`problems/inversions/random_weights.py`: edges against draws and linear programs, and claims that see what is wrong."""

import json
from copy import deepcopy

import experiment
import gallery
import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import cvxinv as ci

its = gallery.load(gallery.LAYERS.parent / "inversions" / "random_weights.py")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_the_dimension_is_the_mean_distance_to_the_cone_of_subgradients(signed: bool, rho: float):
    m = 40_000
    g = np.random.default_rng(0).standard_normal(m)
    on = np.arange(m) < rho * m

    def distance(t: float) -> float:  # to t times the subgradients of |x|_1, or of 1'x on x >= 0, at x with support `on`
        off = np.maximum(np.abs(g) if signed else g, t) - t
        return float(((g - t)[on] ** 2).sum() + (off[~on] ** 2).sum()) / m

    assert its.dimension(rho, signed) == pytest.approx(min(map(distance, np.linspace(0, 3, 301))), rel=0.02)
    assert its.dimension(rho, signed, t=0.7) == pytest.approx(distance(0.7), rel=0.02)


def test_the_dimension_at_its_ends():
    assert its.dimension(1 - 1e-9, signed=True) == pytest.approx(1, abs=1e-6)
    assert its.dimension(1e-9, signed=False) == pytest.approx(0, abs=1e-6)
    assert its.dimension(0.5, signed=False, t=0.0) == pytest.approx(0.75)
    assert its.edges(600, 50)["only x >= 0"] == pytest.approx(800) and its.edges(600, 50)["n1 = 2 n0"] == 100


@pytest.mark.parametrize("signed", [True, False])
def test_linear_programs_end_at_the_predicted_edge(signed: bool):
    draw, m = np.random.default_rng(1), 100
    edge = its.dimension(0.5, signed) * m

    def found(n: int) -> bool:
        x = np.where(np.arange(m) < m // 2, np.abs(draw.standard_normal(m)), 0.0)
        A = draw.standard_normal((n, m))
        both = np.hstack([A, -A]) if signed else A
        h = linprog(np.ones(both.shape[1]), A_eq=both, b_eq=A @ x, method="highs").x
        h = h[:m] - h[m:] if signed else h
        return bool(np.abs(h - x).max() < 1e-6)

    counts = [sum(found(round(share * edge)) for _ in range(8)) for share in (0.85, 1.13)]
    assert counts[0] <= 1 and counts[1] >= 7


def test_snr_by_hand():
    x = torch.tensor([[3.0, 4.0]] * 3).double()
    off = torch.tensor([[0.3, 0.4], [0.0, 0.0], [torch.nan, 0.0]]).double()
    assert its.snr(x, x + off).tolist() == pytest.approx([20, 350, 0])


def test_both_outputs_have_the_same_weights_of_the_stated_size():
    tanh, identity = its.network(400, 50, 300, "tanh"), its.network(400, 50, 300, "identity")
    for one, other, variance in zip(tanh.layers, identity.layers, (1 / 50, 1 / 400), strict=True):
        assert torch.equal(one.W.matrix(), other.W.matrix()) and one.b.abs().max() == 0
        assert float(one.W.matrix().var()) == pytest.approx(variance, rel=0.05)
    assert tanh.output == ci.Tanh() and identity.output.linear


def test_every_point_is_asked_of_every_method_that_takes_it():
    rows = its.settings(False)
    assert len({json.dumps(row, sort_keys=True) for row in rows}) == len(rows)
    beyond = {row["method"] for row in rows if row["n1"] > 2 * row["n"]}
    assert beyond == {*its.METHODS, its.UNIQUENESS} - set(its.LAYERED)
    for n0 in (100, 200):
        asked = {row["n1"] for row in rows if row["n0"] == n0 and row["method"] == its.UNIQUENESS}
        assert asked >= {row["n1"] for row in rows if row["n0"] == n0}


def changed(what: dict, **of: object) -> list[dict]:
    """The committed rows, those of which `of` is true with other numbers."""
    rows = deepcopy(json.loads((experiment.RESULTS / "random_weights.json").read_text())["rows"])
    for row in rows:
        if all(row[name] == value for name, value in of.items()):
            row.update(what)
    return rows


@pytest.mark.parametrize(
    ("what", "of", "words"),
    [
        ({"z q50": 80.0}, {"method": "hybrid", "n0": 100, "n1": 150}, ["(a) n1 < 2 n0: z is out of reach"]),
        ({"x1 q50": 30.0}, {"method": "latent_pursuit", "n0": 200, "n1": 100}, ["layered methods still find x_1"]),
        ({"image q50": 90.0}, {"method": "gradient_descent", "n0": 100, "n1": 150}, ["(a) gradient descent"]),
        ({"z q50": 20.0}, {"method": "levenberg_marquardt", "n1": 500}, ["(b) between"]),
        ({"x1 q50": 20.0}, {"method": "latent_pursuit", "n1": 700}, ["(b) latent pursuit goes on", "x_1 by latent_pursuit"]),
        ({"x1 q50": 90.0}, {"method": "layered_basis_pursuit", "n1": 1000}, ["(c) n1 far above n", "x_1 by layered_basis"]),
        ({"z q50": 20.0}, {"method": "gradient_descent", "n1": 1000}, ["(c) gradient descent does"]),
        ({"not unique": 0.5}, {"method": "uniqueness", "n0": 200, "n1": 300}, ["a second z is shown"]),
        ({"unique": 0.9}, {"method": "uniqueness", "n0": 100, "n1": 400}, ["from 2.5 n0 to n"]),
        ({"undecided": 0.1}, {"method": "uniqueness", "n0": 100, "n1": 100}, ["from 2.5 n0 to n"]),
        ({"unique": 0.5}, {"method": "uniqueness", "n0": 100, "n1": 900}, ["z is proved unique up to n1"]),
    ],
)
def test_claims_see_what_did_not_come_out(what: dict, of: dict, words: list[str]):
    before = {claim.text: claim.held for claim in its.claims(changed({}, method="none"))}
    after = {claim.text: claim.held for claim in its.claims(changed(what, **of))}
    for word in words:
        (text,) = [text for text in before if word in text]
        assert before[text] is True and after[text] is False
