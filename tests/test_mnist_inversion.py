"""The benchmark of whole inversions: the recipe is what was published, ours is what users call. No test is about speed."""

import json
from pathlib import Path

import mnist_inversion as bench
import pytest
import torch
from measuring import Seconds
from scripts import call_script, run_script

import cvxinv as ci
from cvxinv.generator.activations import AbstractActivation
from cvxinv.inversion.task import make_task

SCRIPT = Path(bench.__file__)


def one_layer(phi: AbstractActivation) -> ci.Generator:
    W = ci.Dense(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64))
    return ci.Generator((ci.Layer(W, torch.zeros(3, dtype=torch.float64), phi),), (3,), {})


def test_algorithm_3_finds_the_nonnegative_solution_through_the_plu():
    """PLU(a = 0.1, c = 1) of W h with h = (2, 0.5) is (1.1, 0.5, 1.15): slope 0.1 beyond 1."""
    y = torch.tensor([[1.1, 0.5, 1.15]], dtype=torch.float64)
    h = bench.image_layer(make_task(one_layer(ci.PLU()), y), 0.0, 4000)
    torch.testing.assert_close(h, torch.tensor([[2.0, 0.5]], dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_algorithm_3_reads_no_hidden_pixel():
    y = torch.tensor([[0.7, 0.5, torch.nan]], dtype=torch.float64)
    seen = torch.tensor([[True, True, False]])
    h = bench.image_layer(make_task(one_layer(ci.Identity()), y, seen), 0.0, 500)
    torch.testing.assert_close(h, torch.tensor([[0.7, 0.5]], dtype=torch.float64))


def test_the_recipe_inverts_a_network_that_is_easy_for_it():
    source = torch.Generator().manual_seed(0)
    layers = []
    for n, m in ((2, 12), (12, 40)):
        W = torch.linalg.qr(torch.randn(m, n, generator=source, dtype=torch.float64)).Q
        layers.append(ci.Layer(ci.Dense(W), torch.zeros(m, dtype=torch.float64), ci.ReLU() if n == 2 else ci.PLU()))
    G = ci.Generator(tuple(layers), (40,), {})
    z = torch.randn(5, 2, generator=source, dtype=torch.float64)
    found, parts = bench.recipe(bench.Signals(G, z, G(z), None, None), 0.0, 3000)
    torch.testing.assert_close(found, z, rtol=1e-6, atol=1e-6)
    assert list(parts) == ["layer 1", "layer 0", "debiasing"]


def test_hidden_pixels_are_nan_and_noise_is_stated():
    data = bench.signals_of("45 % hidden", 0.01, 3, "cpu")
    assert data.seen is not None and data.noise is not None
    assert bool(data.y.isnan().eq(~data.seen).all())
    x = data.G(data.z) * data.seen
    e = torch.where(data.seen, data.y - data.G(data.z), torch.zeros_like(x))
    torch.testing.assert_close(e.norm(dim=1), 0.01 * x.norm(dim=1))
    torch.testing.assert_close(data.noise[1], e.norm(dim=1))


def test_six_cases_with_names_of_their_own():
    labels = [label for label, _, _ in bench.cases()]
    assert len(set(labels)) == 6 and sum("no noise" in label for label in labels) == 3


def test_the_ratio_is_of_seconds_per_signal():
    def result(method: str, signals: int, seconds: float) -> bench.Result:
        three = (1.0, 2.0, 3.0)
        return bench.Result("seen", method, signals, three, three, signals, Seconds(seconds, seconds), {}, "cpu")

    rows = bench.table([result(bench.OURS, 512, 1.024), result("recipe, lam = 0", 64, 64.0)]).rows
    assert rows[0][-2:] == ("2 ms", "") and rows[1][-2:] == ("1 s", "500x")


def test_a_quick_run_writes_tables_and_json_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for case in ("everything seen, no noise", "upper rows hidden, no noise"):
        call_script(bench.main, monkeypatch, "--quick", "--only", case, "--recipe", "2", "--out", str(tmp_path))
    record = json.loads((tmp_path / "mnist_inversion_quick.json").read_text())
    assert [r["method"] for r in record["results"]] == 2 * ["ours", "recipe, lam = 1e-05", "recipe, lam = 0"]
    assert {r["case"] for r in record["results"]} == {"everything seen, no noise", "upper rows hidden, no noise"}
    assert all(r["explained"] == r["signals"] == 8 for r in record["results"] if r["method"] == "ours")
    assert {"processor", "commit", "date", "load"} <= set(record["circumstances"])
    assert "| case | method | signals |" in (tmp_path / "mnist_inversion_quick.md").read_text()


def test_a_quick_growth_writes_a_picture(tmp_path: Path):
    run_script(SCRIPT, "--quick", "--growth", "--out", str(tmp_path))
    record = json.loads((tmp_path / "mnist_growth_quick_cpu.json").read_text())
    assert [s["signals"] for s in record["sizes"]] == [1, 8, 64]
    assert (tmp_path / "mnist_growth_quick_cpu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_said_aloud(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    call_script(bench.main, monkeypatch, "--quick", "--device", "cuda")
    assert "skipped: --device cuda" in capsys.readouterr().out
