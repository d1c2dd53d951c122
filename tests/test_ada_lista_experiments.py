"""The scripts about Ada-LISTA run, resume, and say what they should."""

import json
import re
from dataclasses import replace
from pathlib import Path

import gallery
import pytest
import torch

import cvxinv as ci

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"signals": 64, "tests": 32, "epochs": 3, "batch": 16, "unfoldings": 1}


@pytest.fixture(scope="module")
def training():
    return gallery.load(ROOT / "problems" / "training" / "ada_lista.py")


@pytest.mark.parametrize("scenario", ["permuted", "noisy", "random", "fixed"])
def test_labels_are_optima_in_the_dictionaries_that_come_with_them(training, scenario: str):
    signals = training.draw(training.Recipe(scenario, **SMALL), True)
    gap = ci.code_gap(signals.y, signals.D, training.LAM, signals.x)[1]
    assert signals.D.shape == ((50, 70) if scenario == "fixed" else (32, 50, 70))
    assert bool((gap <= 1e-5 * signals.y.double().square().sum(1) / 2).all())  # float32 holds them
    assert bool((signals.x != 0).any())
    base = training.draw(training.Recipe("fixed", **SMALL), True).D
    assert signals.step == pytest.approx(float(torch.linalg.matrix_norm(base, 2)) ** -2, rel=1e-5)  # of the rivals
    if scenario in ("permuted", "noisy"):  # neighbours have other dictionaries
        assert not torch.equal(signals.D[0], signals.D[1])


def test_a_training_that_was_broken_off_goes_on_as_one_that_went_through(training, tmp_path: Path, monkeypatch):
    recipe = training.Recipe("noisy", **SMALL)
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, error = training.train(recipe, tmp_path / "whole"), training.error
    calls = []

    def broken(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return error(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "error", broken)
        training.train(recipe, tmp_path / "broken")
    again = training.train(recipe, tmp_path / "broken")
    assert again["errors"] == whole["errors"] and len(whole["errors"]) == 3
    with pytest.raises(SystemExit, match="of the same settings"):
        training.train(replace(recipe, rate=1e-6), tmp_path / "broken")


def test_the_table_has_the_learned_beside_unit_steps(training, tmp_path: Path, capsys):
    words = ["--quick", "--signals", "256", "--epochs", "2", "--unfoldings", "0,2", "--out", str(tmp_path)]
    training.main([*words, "--draws", "3"])
    record = json.loads((tmp_path / "permuted-ada-lista.json").read_text())
    unit, fista = (record["baselines"][name] for name in ("ista, unit steps", "fista"))
    assert all(u < f for u, f in zip(unit, fista, strict=True)) and len(unit) == 3
    learned = {T: found["errors"][-1] for T, found in record["networks"].items()}
    assert learned["2"] < unit[2] and learned["0"] < unit[0]
    assert "| 2 |" in capsys.readouterr().out
    for name, first in (("learned", learned["2"]), ("ista, unit steps", unit[2])):
        drawn = record["draws"][name]["2"]
        assert drawn[0] == pytest.approx(first, rel=1e-4) and len(set(drawn)) == 3
    with pytest.raises(SystemExit):
        training.main(["--unfoldings", "two"])
    script = gallery.load(ROOT / "problems" / "sparse" / "ada_lista.py")
    script.main([str(tmp_path), "--out", str(tmp_path)])
    kept = json.loads((tmp_path / "ada_lista.json").read_text())
    entry = kept["permuted ada-lista, 2 epochs"]
    assert entry["errors"] == learned and (tmp_path / "ada_lista.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert "3 draws of 200 tests" in said and f"{sum(entry['draws']['learned']['0']) / 3:.1e}" in said
    (tmp_path / "ada_lista.json").write_text(json.dumps(kept | {"noisy ada-lista": entry}))
    script.main([str(tmp_path), "--update", "--out", str(tmp_path)])
    assert sorted(json.loads((tmp_path / "ada_lista.json").read_text())) == [
        "noisy ada-lista",
        "permuted ada-lista, 2 epochs",
    ]
    with pytest.raises(SystemExit, match="train first"):
        script.collect([tmp_path / "nothing"])


def test_a_picture_whose_patches_are_coded_exactly_comes_back():
    script = gallery.load(ROOT / "problems" / "sparse" / "inpainting.py")
    picture = script.pictures(16)["shapes"]
    model = script.Model(
        torch.eye(64, dtype=torch.float64), torch.full((64,), 0.4).double(), torch.full((64,), 0.2).double()
    )
    seen = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.allclose(script.filled(picture, seen, model, lambda y, mask: y), picture, atol=1e-12)
    # 0.1 off everywhere is 20 dB
    assert script.psnr(picture + 0.1, picture) == pytest.approx(20)
    # with this dictionary a hidden pixel is the mean of its position, a seen one lam nearer to it
    found = script.filled(picture, seen, model, lambda y, mask: script.certified(y, mask, model.D))
    standard = (picture - 0.4) / 0.2
    shrunk = standard.sign() * (standard.abs() - 0.1).clamp(min=0) * 0.2 + 0.4
    assert torch.allclose(found, torch.where(seen, shrunk, 0.4), atol=1e-6)


def test_inpainting_is_learned_measured_and_drawn(tmp_path: Path, monkeypatch):
    script = gallery.load(ROOT / "problems" / "sparse" / "inpainting.py")
    tiny = script.Recipe(patches=300, passes=1, signals=40, epochs=2, batch=16, picture=10)
    monkeypatch.setattr(script, "QUICK", tiny)
    monkeypatch.setattr(script, "ATOMS", 80)
    words = ["--quick", "--out", str(tmp_path), "--state", str(tmp_path)]
    script.main(words)
    first = (tmp_path / "inpainting.json").read_bytes()
    record = json.loads(first)
    assert len(record["psnr"]) == 4 and len(record["losses"]) == 2
    for found in record["psnr"].values():
        assert min(found.values()) == found["hidden pixels black"]
    assert (tmp_path / "inpainting.png").stat().st_size > 10_000
    script.main(words)  # nothing is left to learn: from the state that lies there
    assert (tmp_path / "inpainting.json").read_bytes() == first


def test_learned_starts_are_measured_to_the_same_certificate(tmp_path: Path, monkeypatch):
    script = gallery.load(ROOT / "problems" / "sparse" / "learned_start.py")
    (tmp_path / "generators").mkdir()
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 40))
    ci.save_generator(ci.load_generator(module), tmp_path / "generators" / "small.safetensors")
    monkeypatch.setenv("CVXINV_DATA", str(tmp_path))
    monkeypatch.setattr(script, "QUICK", script.Recipe(signals=60, tests=6, epochs=10, batch=20))
    with pytest.raises(FileNotFoundError):
        script.main(["--quick", "--generators", "small,missing", "--out", str(tmp_path)])
    measured = []
    monkeypatch.setattr(script, "measure", lambda *given: measured.append(given))
    script.main(["--quick", "--generators", "small", "--out", str(tmp_path)])
    assert not measured  # it was kept
    found = json.loads((tmp_path / "learned_start.json").read_text())["generators"]["small"]
    for row in found["starts"].values():
        assert all(row[key]["certified"] == 6 for key in ("0.01", "0.0001", "1e-06", "polished"))
    errors = {start: row["relative error of the start"] for start, row in found["starts"].items()}
    assert errors["h = 0"] == 1 and errors["learned"] < 1
    assert (tmp_path / "learned_start.png").stat().st_size > 10_000


def test_python_blocks_of_the_page_run_in_order(capsys):
    page = ROOT / "docs" / "ada_lista.md"
    blocks = re.findall(r"^```python\n(.*?)^```\s*$", page.read_text(), re.M | re.S)
    namespace: dict[str, object] = {"__name__": "ada_lista"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)
    said = capsys.readouterr().out
    assert "100 certified" in said and "shrinkage steps at a linear rate: holds" in said and "{'fails': 100}" in said
