"""The small form of `checked.py`: what solvers and inversions claim before the exact checker, and changed certificates."""

import json
import random
import re

import checked
import pytest
from checked import Found
from mutations import KINDS


@pytest.fixture
def found() -> Found:
    return Found()


def test_what_solvers_claim_on_random_problems_is_proved(found, tmp_path):
    """All but rows that are 0 in W and a little over their limit: the judge names them in its remark."""
    checked.random_claims(150, 1, found, tmp_path)
    assert sum(found.random.values()) >= 150
    assert not found.rejected


def test_what_inversions_of_the_shipped_generators_claim_is_proved(found, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CVXINV_DATA", raising=False)
    checked.inversions(12, 0, found, tmp_path)
    assert "CVXINV_DATA is not set" in capsys.readouterr().out
    assert {key[0] for key in found.inversions} == set(checked.SHIPPED)
    assert not found.rejected and sum(n for key, n in found.inversions.items() if key[-1] == "accepted") >= 24


def test_changed_certificates_are_rejected_unless_still_true(found, tmp_path):
    checked.mutations(60, 2, found, tmp_path)
    assert sum(found.mutations.values()) == 60 and {key[0] for key in found.mutations} == set(KINDS)
    assert not found.accepted_false
    words = {key[-1] for key in found.mutations}
    assert {"rejected: no longer proved", checked.ACCEPTED[0]} <= words


def test_a_false_claim_that_is_accepted_would_be_counted(found, tmp_path, monkeypatch):
    """A checker that believes everything."""
    honest = checked.checked
    monkeypatch.setattr(checked, "checked", lambda path: [v._replace(accepted=True) for v in honest(path)])
    for seed in range(4):
        checked._separable(found, "h", seed, tmp_path / "one.json", random.Random(seed))
        checked._drawn(found, "status", seed, tmp_path / "one.json", random.Random(seed))
    assert {one["family"] for one in found.accepted_false} == {"separable", "drawn"} and found.faults


def test_results_are_written_and_shown(found, tmp_path, capsys):
    checked.random_claims(20, 0, found, tmp_path)
    checked.mutations(4, 0, found, tmp_path)
    text = checked.markdown(found, {"commit": "abc", "changed": False, "date": "today"})
    assert "| GaussianLatent, optimal |" in text and checked.summary(found) in text
    assert json.loads(json.dumps(found.record()))["random"]
    checked.show({"seed": 2, "signal": 2})
    # the solver is drawn from those that serve the problem
    assert re.search(r"draw\(2\): GaussianLatent, \w+", capsys.readouterr().out)
