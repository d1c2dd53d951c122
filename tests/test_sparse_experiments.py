"""The scripts of the multi-layer siblings run, resume, and say what they should."""

import json
from pathlib import Path

import gallery
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def test_the_excess_of_ml_ista_is_measured_and_drawn(tmp_path: Path):
    script = gallery.load(ROOT / "problems" / "sparse" / "multi_layer_pursuit.py")
    script.main(["--iterations", "60", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "multi_layer_pursuit.json").read_text())
    assert len(record["curves"]) == 6 and (tmp_path / "multi_layer_pursuit.png").stat().st_size > 10_000
    for found in record["curves"]:
        assert min(found["excess"]) > -1e-9 and found["excess"][-1] <= found["certificate"] + 1e-9
        assert found["excess"][-1] < found["excess"][0]


def test_the_morphing_experiment_is_drawn_and_agrees_with_cvxpy(tmp_path: Path, capsys):
    script = gallery.load(ROOT / "problems" / "sparse" / "morphing.py")
    script.main(["--quick", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "morphing.json").read_text())
    for name in ("morphing.png", "morphing_admm.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    sparse, wide = record["sparse"], record["range"]
    assert sparse["bound"] <= sparse["optimum"] + 1e-7 and sparse["without_prior"] < sparse["optimum"]
    assert abs(sparse["objective"] - sparse["optimum"]) < 1e-2, "40 iterations"
    assert sparse["primal"][-1] < 0.1 * sparse["primal"][0] and max(wide["mass_error"]) < 1e-9
    assert len(wide["t"]) == 4 and "| 0.33 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script.main(["--data", "3", "7"])


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty squares, large and small, in place of digits."""
    (tmp_path / "datasets").mkdir()
    labels = np.arange(60) % 2
    images = np.zeros((60, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 : 14 + 10 * label, 4 : 14 + 10 * label] = 255
    for name in ("train", "test"):
        np.savez(tmp_path / "datasets" / f"mnist_{name}.npz", images=images, labels=labels)
    monkeypatch.setenv("CVXINV_DATA", str(tmp_path))
    return tmp_path


def test_networks_are_trained_and_a_broken_run_goes_on_as_one_that_went_through(digits: Path, capsys):
    script = gallery.load(ROOT / "problems" / "training" / "multi_layer_networks.py")
    recipe = script.Recipe(digits=60, test_digits=60, epochs=2, unfoldings=1, batch=20)
    whole, broken = digits / "whole", digits / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    through = script.train("ml-ista", recipe, digits, whole)
    kept = script.keep

    def stopped(*arguments, **parts):
        kept(*arguments, **parts)
        raise KeyboardInterrupt

    script.keep = stopped
    with pytest.raises(KeyboardInterrupt):
        script.train("ml-ista", recipe, digits, broken)
    script.keep = kept
    resumed = script.train("ml-ista", recipe, digits, broken)
    assert resumed["losses"] == through["losses"] and (len(through["losses"]), len(through["accuracies"])) == (2, 1)
    a, b = (torch.load(folder / "ml-ista_0.pt", weights_only=True)["network"] for folder in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(SystemExit, match="of the same settings"):
        script.train("ml-ista", script.Recipe(epochs=3), digits, whole)
    script.main(["--quick", "--epochs", "1", "--digits", "60", "--nets", "cnn", "--out", str(digits / "out")])
    assert "| cnn | 604,909 |" in capsys.readouterr().out
    script.main(["--small", "--epochs", "1", "--digits", "60", "--nets", "cnn", "--out", str(digits / "seeds")])
    assert "of 2 seeds" in capsys.readouterr().out
    assert sorted(path.name for path in (digits / "seeds").glob("*.pt")) == ["cnn_0.pt", "cnn_1.pt"]
    assert script.scatter([97.0, 98.0, 99.0], recipe) == pytest.approx(3**-0.5)  # seeds
    assert script.scatter([50.0], script.Recipe(test_digits=100)) == pytest.approx(5.0)  # tests
    with pytest.raises(SystemExit):
        script.main(["--nets", "resnet"])


def test_lengths_of_steps_are_those_of_the_matrices():
    script = gallery.load(ROOT / "problems" / "training" / "multi_layer_networks.py")
    torch.manual_seed(0)
    network = script.MULTI_LAYER_NETWORKS["lbp"]((1, 9, 9), (3, 4), (3, 4), (2, 1), (0, 1), classes=3, unfoldings=1)
    with torch.no_grad():
        network.log_c.copy_(torch.tensor([0.5, 2.0]).log())
        for i, (c, W, found) in enumerate(zip((0.5, 2.0), network.W, script.lengths(network), strict=True), 1):
            unit = torch.eye(int(np.prod(network.shapes[i - 1]))).unflatten(1, network.shapes[i - 1])
            matrix = network.analysed(i, unit, W).flatten(1)
            assert found == pytest.approx(c * float(torch.linalg.matrix_norm(matrix, 2)) ** 2, rel=1e-2)
