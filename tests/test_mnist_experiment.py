"""The MNIST experiment in its quick form: it runs, goes on where it stopped, and finds what the source says."""

import json

import gallery
import pytest
import torch

MNIST = gallery.load(gallery.LAYERS.parent / "inversions" / "mnist.py")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("mnist")
    return out, MNIST.main(["--quick", "--out", str(out)])


def test_layered_methods_are_on_par_with_the_oracle_and_above_gradient_descent(quick):
    _, results = quick
    for setting in MNIST.SETTINGS:
        median = {name: entry["snr_db"]["z"][2] for name, entry in results["settings"][setting].items()}
        assert median["latent_pursuit"] >= median["oracle"] - MNIST.ON_PAR
        assert min(median["latent_pursuit"], median["layered_basis_pursuit"], median["hybrid"]) >= 200
        assert median["latent_pursuit"] > median["gradient_descent"] + 100
        assert results["settings"][setting]["oracle"]["explained"] == results["signals"] == 8


def test_claims_are_read_off_the_table(quick):
    _, results = quick
    table = json.loads(json.dumps(results["settings"]))
    table["45 % hidden"]["latent_pursuit"]["snr_db"]["z"][2] = 1.0
    turned = {(c["setting"], c["claim"]): c["held"] for c in MNIST.claims(table)}
    before = {(c["setting"], c["claim"]): c["held"] for c in results["claims"]}
    assert {key for key in before if before[key] != turned[key]} >= {
        ("45 % hidden", "latent pursuit within 3 dB of the oracle")
    }


def test_pictures_and_results_are_written(quick):
    out, results = quick
    assert json.loads((out / "results.json").read_text())["claims"] == results["claims"]
    assert len(list(out.glob("snr-*.png"))) == len(list(out.glob("images-*.png"))) == 3
    assert not list(out.rglob("*.part"))


def test_a_stopped_run_goes_on_where_it_stopped(quick, monkeypatch):
    out, results = quick
    gone = out / "upper-rows-hidden" / "hybrid" / "chunk-000.safetensors"
    gone.unlink()
    calls, invert = [], MNIST.ci.invert
    monkeypatch.setattr(MNIST.ci, "invert", lambda *a, **k: calls.append(a[2]) or invert(*a, **k))
    again = MNIST.main(["--quick", "--out", str(out)])
    assert calls == ["hybrid"] and gone.exists()
    assert (
        again["settings"]["upper rows hidden"]["hybrid"]["snr_db"]
        == results["settings"]["upper rows hidden"]["hybrid"]["snr_db"]
    )


def test_a_folder_of_another_plan_is_refused(quick):
    out, _ = quick
    with pytest.raises(SystemExit, match="use --out"):
        MNIST.main(["--signals", "9", "--out", str(out)])


def test_masks_hide_what_they_say():
    upper = MNIST.visible("upper rows hidden", 2, 784, 0).reshape(2, 28, 28)
    assert not upper[:, :13].any() and upper[:, 13:].all()
    share = MNIST.visible("45 % hidden", 50, 784, 0).double().mean()
    assert abs(float(share) - 0.55) < 0.01 and MNIST.visible("everything seen", 2, 784, 0).all()
    assert torch.equal(MNIST.visible("45 % hidden", 5, 784, 3), MNIST.visible("45 % hidden", 5, 784, 3))
